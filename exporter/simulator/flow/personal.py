"""The personal generation of the API: bodies without an envelope, pagination in headers, and a personal token.

Its two editions differ in their paths: those of the central edition name the organization; a regional endpoint
belongs to one organization.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import TypeVar

from starlette.requests import Request

from exporter.simulator.flow import errors, personal_records, signed_records
from exporter.simulator.flow.auth_check import token_refusal
from exporter.simulator.flow.errors import ApiErrorResponse, Problem
from exporter.simulator.flow.generation import (
    GET_LATEST_RUN,
    GET_PIPELINE,
    GET_RUN,
    LIST_PIPELINES,
    LIST_RUNS,
    ApiGeneration,
    Operation,
)
from exporter.simulator.flow.query import Page, Query, by_number
from exporter.simulator.flow.serialized import SerializedRun
from exporter.simulator.flow.vocabulary import UNREPORTED
from exporter.simulator.http.answers import Answer, Record
from exporter.simulator.http.recorder import RequestContext
from exporter.simulator.world.runs import RunSnapshot
from exporter.simulator.world.world import SimulatedPipeline

ROOT = "/oapi/"

P = TypeVar("P")


class PersonalApi(ApiGeneration):
    """The API for requests with the personal token."""

    roots = (f"{ROOT}v1/flow/organizations/{{organization_id}}/pipelines", f"{ROOT}v1/flow/pipelines")
    # The vendor's spelling.
    until = "endTme"

    def operations(self) -> tuple[Operation, ...]:
        """Return the published operations."""
        return (
            Operation("", LIST_PIPELINES, self.list_pipelines),
            Operation("/{pipeline_id}", GET_PIPELINE, self.get_pipeline),
            Operation("/{pipeline_id}/runs", LIST_RUNS, self.list_runs),
            Operation("/{pipeline_id}/runs/latestPipelineRun", GET_LATEST_RUN, self.get_latest_run),
            Operation("/{pipeline_id}/runs/{run_id}", GET_RUN, self.get_run),
        )

    def gateway_error(self, error: ApiErrorResponse, _: Request, context: RequestContext) -> Answer:
        """Return the response for an error, which is the same for gateway and service."""
        return Answer(self._error_body(error, context), self._status(error))

    def _service_error(self, problem: Problem, request: Request, context: RequestContext) -> Answer:
        return self.gateway_error(problem.personal, request, context)

    def _error_body(self, error: ApiErrorResponse, context: RequestContext) -> Record:
        return error.personal_body(context.request_id)

    def _error_for(self, problem: Problem) -> ApiErrorResponse:
        return problem.personal

    def _throttled_error(self) -> ApiErrorResponse:
        return errors.TOO_MANY

    def _refusal(self, request: Request, _: bytes, context: RequestContext) -> ApiErrorResponse | None:
        error = token_refusal(self._credentials(), request.headers.get("x-yunxiao-token"))
        expires = self._switches.expires
        expired = self._switches.credentials_expired or (expires is not None and context.now >= expires)
        if error is None and expired:
            return errors.OLD_TOKEN
        return error

    def _page(self, rows: Sequence[P], query: Query) -> Page[P]:
        return by_number(rows, query, self._switches.page_limit)

    def _listed(self, _: str, records: list[Record], page: Page[P], __: RequestContext) -> Answer:
        return Answer(records, headers=page.headers if self._switches.page_headers else {})

    def _single(self, _: str, record: Record, __: RequestContext) -> Record:
        return record

    def _pipeline_row(self, pipeline: SimulatedPipeline) -> Record:
        documented = self._switches.spelling == "documented"
        return personal_records.pipeline_row(self._organization, pipeline, documented=documented)

    def _pipeline_record(self, pipeline: SimulatedPipeline) -> Record:
        return signed_records.pipeline_record(self._organization, pipeline)

    def _run_row(self, pipeline: SimulatedPipeline, run: RunSnapshot, ended: Record) -> Record:
        status = self._switches.run_status
        return personal_records.run_row(self._organization, pipeline, run, ended, status=status)

    def _reported_part(self, run: RunSnapshot) -> RunSnapshot:
        return run if self._switches.run_status else replace(run, custom_status=UNREPORTED)

    def _run_record(self, pipeline: SimulatedPipeline, serialized: SerializedRun, created: int) -> Record:
        return personal_records.run_record(self._organization, pipeline, serialized, created)
