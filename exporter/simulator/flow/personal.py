"""The personal generation: bare bodies, pages told in headers, and a token of whoever asks.

It comes in two editions, which differ in their paths: the central one names the organization, that of a region is an
organization's own.
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
    Generation,
    Operation,
)
from exporter.simulator.flow.page import Page, by_number
from exporter.simulator.flow.query import Query
from exporter.simulator.flow.serialized import Told
from exporter.simulator.flow.vocabulary import UNTOLD
from exporter.simulator.http.answers import Good
from exporter.simulator.http.faults import Record
from exporter.simulator.http.recorder import RequestContext
from exporter.simulator.world.runs import Run
from exporter.simulator.world.world import Pipeline

ROOT = "/oapi/"

P = TypeVar("P")


class Personal(Generation):
    """Answers whoever has the personal token."""

    roots = (f"{ROOT}v1/flow/organizations/{{organization_id}}/pipelines", f"{ROOT}v1/flow/pipelines")
    # So it is spelt.
    until = "endTme"

    def operations(self) -> tuple[Operation, ...]:
        """Tell what it publishes."""
        return (
            Operation("", LIST_PIPELINES, self.list_pipelines),
            Operation("/{pipeline_id}", GET_PIPELINE, self.get_pipeline),
            Operation("/{pipeline_id}/runs", LIST_RUNS, self.list_runs),
            Operation("/{pipeline_id}/runs/latestPipelineRun", GET_LATEST_RUN, self.get_latest_run),
            Operation("/{pipeline_id}/runs/{run_id}", GET_RUN, self.get_run),
        )

    def refused(self, no: ApiErrorResponse, _: Request, context: RequestContext) -> Good:
        """Say no as the gateway does, and as the service does."""
        return Good(self._object(no, context), self._status(no))

    def _declined(self, problem: Problem, request: Request, context: RequestContext) -> Good:
        return self.refused(problem.personal, request, context)

    def _object(self, no: ApiErrorResponse, context: RequestContext) -> Record:
        return no.of_personal(context.request_id)

    def _worded(self, problem: Problem) -> ApiErrorResponse:
        return problem.personal

    def _busy(self) -> ApiErrorResponse:
        return errors.TOO_MANY

    def _refusal(self, request: Request, _: bytes, context: RequestContext) -> ApiErrorResponse | None:
        no = token_refusal(self._credentials(), request.headers.get("x-yunxiao-token"))
        expires = self._switches.expires
        if no is None and expires is not None and context.now >= expires:
            return errors.OLD_TOKEN
        return no

    def _page(self, rows: Sequence[P], query: Query) -> Page[P]:
        return by_number(rows, query, self._switches.page_limit)

    def _listed(self, _: str, records: list[Record], page: Page[P], __: RequestContext) -> Good:
        return Good(records, headers=page.headers if self._switches.page_headers else {})

    def _one(self, _: str, record: Record, __: RequestContext) -> Record:
        return record

    def _pipeline_row(self, pipeline: Pipeline) -> Record:
        documented = self._switches.spelling == "documented"
        return personal_records.pipeline_row(self._organization, pipeline, documented=documented)

    def _pipeline_record(self, pipeline: Pipeline) -> Record:
        return signed_records.pipeline_record(self._organization, pipeline)

    def _run_row(self, pipeline: Pipeline, run: Run, ended: Record) -> Record:
        status = self._switches.run_status
        return personal_records.run_row(self._organization, pipeline, run, ended, status=status)

    def _outline(self, run: Run) -> Run:
        return run if self._switches.run_status else replace(run, word=UNTOLD)

    def _run_record(self, pipeline: Pipeline, told: Told, created: int) -> Record:
        return personal_records.run_record(self._organization, pipeline, told, created)
