"""The signed generation of the API, version 2021-06-25: responses in an envelope, pagination by token."""

from collections.abc import Callable, Sequence
from typing import TypeVar

from starlette.requests import Request

from exporter.simulator.flow import errors, signed_records
from exporter.simulator.flow.auth_check import FlowCredentials, SignatureCheck
from exporter.simulator.flow.errors import ApiErrorResponse, Problem
from exporter.simulator.flow.generation import (
    GET_PIPELINE,
    GET_RUN,
    LIST_PIPELINES,
    LIST_RUNS,
    ApiGeneration,
    Operation,
)
from exporter.simulator.flow.organization import Organization
from exporter.simulator.flow.query import Page, Query, by_token
from exporter.simulator.flow.serialized import SerializedRun
from exporter.simulator.flow.switches import FlowSwitches
from exporter.simulator.http.answers import Answer, Record
from exporter.simulator.http.recorder import RequestContext
from exporter.simulator.world.runs import RunSnapshot
from exporter.simulator.world.world import SimulatedPipeline

P = TypeVar("P")

ORGANIZATION = "/organization/"


class SignedApi(ApiGeneration):
    """The API for requests that are signed with the access key."""

    roots = (f"{ORGANIZATION}{{organization_id}}/pipelines",)
    until = "endTime"

    def __init__(
        self,
        organization: Organization,
        switches: FlowSwitches,
        credentials: Callable[[], FlowCredentials],
        throttle_wait: Callable[[RequestContext], float | None],
    ) -> None:
        super().__init__(organization, switches, credentials, throttle_wait)
        self._signature_check = SignatureCheck()

    def operations(self) -> tuple[Operation, ...]:
        """Return the published operations; none returns the latest run."""
        return (
            Operation("", LIST_PIPELINES, self.list_pipelines),
            Operation("/{pipeline_id}", GET_PIPELINE, self.get_pipeline),
            Operation("/{pipeline_id}/pipelineRuns", LIST_RUNS, self.list_runs),
            Operation("/{pipeline_id}/pipelineRuns/{run_id}", GET_RUN, self.get_run),
        )

    def gateway_error(self, error: ApiErrorResponse, request: Request, context: RequestContext) -> Answer:
        """Return the gateway's response for an error."""
        return Answer(
            error.gateway_body(context.request_id, request.headers.get("host", "")),
            self._status(error),
        )

    def _service_error(self, problem: Problem, request: Request, context: RequestContext) -> Answer:
        error, form = problem.signed, self._switches.error_form
        if form == "gateway":
            return self.gateway_error(error, request, context)
        return Answer(self._error_body(error, context), 200 if form == "envelope" else self._status(error))

    def _error_body(self, error: ApiErrorResponse, context: RequestContext) -> Record:
        return error.envelope_body(context.request_id)

    def _error_for(self, problem: Problem) -> ApiErrorResponse:
        return problem.signed

    def _throttled_error(self) -> ApiErrorResponse:
        return errors.throttled(self._switches.throttle_code)

    def _refusal(self, request: Request, body: bytes, context: RequestContext) -> ApiErrorResponse | None:
        credentials, expires = self._credentials(), self._switches.expires
        error = self._signature_check.refusal(
            credentials,
            operation=context.operation or "",
            method=request.method,
            raw_path=request.scope["raw_path"],
            raw_query=request.scope["query_string"],
            headers=dict(request.headers.raw),
            body=body,
            now=context.now + self._switches.skew,
        )
        temporary = credentials.security_token is not None
        if error is None and self._switches.credentials_expired and not temporary:
            return errors.INACTIVE_KEY
        expired = self._switches.credentials_expired or (expires is not None and context.now >= expires)
        if error is None and temporary and expired:
            return errors.OLD_SECURITY_TOKEN
        return error

    def _page(self, rows: Sequence[P], query: Query) -> Page[P]:
        return by_token(rows, query, self._switches.page_limit)

    def _listed(self, key: str, records: list[Record], page: Page[P], context: RequestContext) -> Answer:
        paging: Record = {"totalCount": page.total}
        if page.next_token is not None:
            paging["nextToken"] = page.next_token
        elif self._switches.last_page != "absent":
            paging["nextToken"] = "" if self._switches.last_page == "empty" else None
        return Answer(self._envelope({key: records, **paging}, context))

    def _single(self, key: str, record: Record, context: RequestContext) -> Record:
        return self._envelope({key: record}, context)

    def _envelope(self, payload: Record, context: RequestContext) -> Record:
        blank = self._switches.blank
        request_id = {"requestId": context.request_id}
        return {**request_id, "errorMessage": blank, **payload, "success": True, "errorCode": blank}

    def _pipeline_row(self, pipeline: SimulatedPipeline) -> Record:
        return signed_records.pipeline_row(self._organization, pipeline)

    def _pipeline_record(self, pipeline: SimulatedPipeline) -> Record:
        return signed_records.pipeline_record(self._organization, pipeline)

    def _run_row(self, pipeline: SimulatedPipeline, run: RunSnapshot, ended: Record) -> Record:
        return signed_records.run_row(self._organization, pipeline, run, ended)

    def _run_record(self, pipeline: SimulatedPipeline, serialized: SerializedRun, created: int) -> Record:
        return signed_records.run_record(self._organization, pipeline, serialized, created)
