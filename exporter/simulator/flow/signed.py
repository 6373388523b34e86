"""The signed generation, version 2021-06-25: every answer in an envelope, every page with the token of the next."""

from collections.abc import Callable, Sequence
from typing import TypeVar

from starlette.requests import Request

from exporter.simulator.flow import errors, signed_records
from exporter.simulator.flow.auth_check import SignatureCheck
from exporter.simulator.flow.credentials import FlowCredentials
from exporter.simulator.flow.errors import ApiErrorResponse, Problem
from exporter.simulator.flow.generation import (
    GET_PIPELINE,
    GET_RUN,
    LIST_PIPELINES,
    LIST_RUNS,
    Generation,
    Operation,
)
from exporter.simulator.flow.organization import Organization
from exporter.simulator.flow.page import Page, by_token
from exporter.simulator.flow.query import Query
from exporter.simulator.flow.serialized import Told
from exporter.simulator.flow.switches import FlowSwitches
from exporter.simulator.http.answers import Good
from exporter.simulator.http.faults import Record
from exporter.simulator.http.recorder import RequestContext
from exporter.simulator.world.runs import Run
from exporter.simulator.world.world import Pipeline

P = TypeVar("P")

ORGANIZATION = "/organization/"


class Signed(Generation):
    """Answers whoever has signed the request with the access key."""

    roots = (f"{ORGANIZATION}{{organization_id}}/pipelines",)
    until = "endTime"

    def __init__(
        self,
        organization: Organization,
        switches: FlowSwitches,
        credentials: Callable[[], FlowCredentials],
        wait: Callable[[RequestContext], float | None],
    ) -> None:
        super().__init__(organization, switches, credentials, wait)
        self._gate = SignatureCheck()

    def operations(self) -> tuple[Operation, ...]:
        """Tell what it publishes; it has no way to ask for the latest run."""
        return (
            Operation("", LIST_PIPELINES, self.list_pipelines),
            Operation("/{pipeline_id}", GET_PIPELINE, self.get_pipeline),
            Operation("/{pipeline_id}/pipelineRuns", LIST_RUNS, self.list_runs),
            Operation("/{pipeline_id}/pipelineRuns/{run_id}", GET_RUN, self.get_run),
        )

    def refused(self, no: ApiErrorResponse, request: Request, context: RequestContext) -> Good:
        """Say no as the gateway does."""
        return Good(
            no.of_gateway(context.request_id, request.headers.get("host", "")),
            self._status(no),
        )

    def _declined(self, problem: Problem, request: Request, context: RequestContext) -> Good:
        no, form = problem.signed, self._switches.error_form
        if form == "gateway":
            return self.refused(no, request, context)
        return Good(self._object(no, context), 200 if form == "envelope" else self._status(no))

    def _object(self, no: ApiErrorResponse, context: RequestContext) -> Record:
        return no.in_envelope(context.request_id)

    def _worded(self, problem: Problem) -> ApiErrorResponse:
        return problem.signed

    def _busy(self) -> ApiErrorResponse:
        return errors.throttled(self._switches.throttle_code)

    def _refusal(self, request: Request, body: bytes, context: RequestContext) -> ApiErrorResponse | None:
        credentials, expires = self._credentials(), self._switches.expires
        no = self._gate.refusal(
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
        if no is None and temporary and expires is not None and context.now >= expires:
            return errors.OLD_SECURITY_TOKEN
        return no

    def _page(self, rows: Sequence[P], query: Query) -> Page[P]:
        return by_token(rows, query, self._switches.page_limit)

    def _listed(self, key: str, records: list[Record], page: Page[P], context: RequestContext) -> Good:
        place: Record = {"totalCount": page.total}
        if page.next_token is not None:
            place["nextToken"] = page.next_token
        elif self._switches.last_page != "absent":
            place["nextToken"] = "" if self._switches.last_page == "empty" else None
        return Good(self._envelope({key: records, **place}, context))

    def _one(self, key: str, record: Record, context: RequestContext) -> Record:
        return self._envelope({key: record}, context)

    def _envelope(self, payload: Record, context: RequestContext) -> Record:
        blank = self._switches.blank
        request_id = {"requestId": context.request_id}
        return {**request_id, "errorMessage": blank, **payload, "success": True, "errorCode": blank}

    def _pipeline_row(self, pipeline: Pipeline) -> Record:
        return signed_records.pipeline_row(self._organization, pipeline)

    def _pipeline_record(self, pipeline: Pipeline) -> Record:
        return signed_records.pipeline_record(self._organization, pipeline)

    def _run_row(self, pipeline: Pipeline, run: Run, ended: Record) -> Record:
        return signed_records.run_row(self._organization, pipeline, run, ended)

    def _run_record(self, pipeline: Pipeline, told: Told, created: int) -> Record:
        return signed_records.run_record(self._organization, pipeline, told, created)
