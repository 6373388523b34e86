"""Base class of both generations of Flow's API: the handlers of operations, and their errors.

Authentication, paths, parameters and the form of responses differ between the generations.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

from starlette.requests import Request

from exporter.simulator.flow.auth_check import FlowCredentials
from exporter.simulator.flow.errors import ApiErrorResponse, Problem, ProblemError
from exporter.simulator.flow.organization import Organization, PipelineFilter, RunFilter, milliseconds
from exporter.simulator.flow.query import Page, Query
from exporter.simulator.flow.serialized import SerializedRun, summarize
from exporter.simulator.flow.switches import FlowSwitches
from exporter.simulator.http.answers import (
    INJECTED_WAIT,
    Answer,
    DeclinedError,
    InjectedFault,
    Record,
)
from exporter.simulator.http.cloud import Handler
from exporter.simulator.http.recorder import RequestContext
from exporter.simulator.world.runs import RunSnapshot
from exporter.simulator.world.world import SimulatedPipeline

GET_RUN = "GetPipelineRun"
LIST_RUNS = "ListPipelineRuns"
GET_PIPELINE = "GetPipeline"
LIST_PIPELINES = "ListPipelines"
GET_LATEST_RUN = "GetLatestPipelineRun"

P = TypeVar("P")

_ENDS = ("absent", "null", "zero")


@dataclass(frozen=True, slots=True)
class Operation:
    """A GET operation; `path` is relative to the path of the pipelines."""

    path: str
    name: str
    handler: Callable[[Request, RequestContext], Answer]


class ApiGeneration(ABC):
    """One generation of the API.

    `roots` are the paths of its pipelines; `until` is its parameter for the end of a time window. `credentials` returns
    the current credentials. `wait` counts a request and returns the seconds that it should wait, or None if it may
    pass.
    """

    roots: tuple[str, ...]
    until: str

    def __init__(
        self,
        organization: Organization,
        switches: FlowSwitches,
        credentials: Callable[[], FlowCredentials],
        wait: Callable[[RequestContext], float | None],
    ) -> None:
        self._organization = organization
        self._switches = switches
        self._credentials = credentials
        self._throttle_wait = wait

    # -- authentication and errors

    @abstractmethod
    def operations(self) -> tuple[Operation, ...]:
        """Return the published operations; fixed paths come before those with a run id in the same place."""

    def authorize(self, request: Request, body: bytes, context: RequestContext) -> Answer | None:
        """Return the error for invalid credentials or too many requests, or None if the request may pass."""
        error = self._refusal(request, body, context)
        if error is not None:
            return self.gateway_error(error, request, context)
        wait = self._throttle_wait(context)
        if wait is None:
            return None
        return self._throttled(wait, request, context)

    def handler_for(self, operation: Operation) -> Handler:
        """Return a handler of the operation that reports problems in the form of this generation."""

        def handle(request: Request, _: bytes, context: RequestContext) -> Answer:
            try:
                return operation.handler(request, context)
            except ProblemError as raised:
                declined = self._service_error(raised.problem, request, context)
                raise DeclinedError(declined.status, declined.value) from None

        return handle

    def fault_answer(
        self, injected_fault: InjectedFault, request: Request, context: RequestContext
    ) -> Answer | None:
        """Return the vendor's own response for a fault; None for a fault that looks the same for all vendors."""
        internal_error = self._error_for(Problem.BROKEN)
        match injected_fault:
            case InjectedFault.SERVER_ERROR:
                return self.gateway_error(internal_error, request, context)
            case InjectedFault.THROTTLED:
                return self._throttled(INJECTED_WAIT, request, context)
            case InjectedFault.DENIED:
                return self.gateway_error(self._error_for(Problem.FORBIDDEN), request, context)
            case InjectedFault.ERROR_OBJECT:
                return Answer(self._error_body(internal_error, context))
            case InjectedFault.NESTED_ERROR:
                return Answer({"error": {"code": internal_error.code, "message": internal_error.text}})
            case _:
                return None

    def _throttled(self, wait: float, request: Request, context: RequestContext) -> Answer:
        """Return the error for too many requests; with the switch `retry_after`, it says how long to wait."""
        refusal = self.gateway_error(self._throttled_error(), request, context)
        headers = {"x-acs-retry-after": str(math.ceil(wait * 1000))} if self._switches.retry_after else {}
        return Answer(refusal.value, refusal.status, headers)

    @abstractmethod
    def gateway_error(self, error: ApiErrorResponse, request: Request, context: RequestContext) -> Answer:
        """Return the gateway's response for an error."""

    @abstractmethod
    def _service_error(self, problem: Problem, request: Request, context: RequestContext) -> Answer:
        """Return the service's response for a problem."""

    @abstractmethod
    def _error_body(self, error: ApiErrorResponse, context: RequestContext) -> Record:
        """Return the body of the service's response for an error."""

    @abstractmethod
    def _error_for(self, problem: Problem) -> ApiErrorResponse:
        """Return this generation's error for a problem."""

    @abstractmethod
    def _throttled_error(self) -> ApiErrorResponse:
        """Return the error for too many requests."""

    @abstractmethod
    def _refusal(self, request: Request, body: bytes, context: RequestContext) -> ApiErrorResponse | None:
        """Return the error for invalid credentials, or None."""

    def _status(self, error: ApiErrorResponse) -> int:
        return self._switches.statuses.get(error.code, error.status)

    # -- the operations

    def list_pipelines(self, request: Request, context: RequestContext) -> Answer:
        """Handle ListPipelines."""
        self._require_membership(request)
        query = Query(request.query_params)
        page = self._page(self._organization.pipelines(PipelineFilter.of(query), context.now), query)
        if self._switches.empty_list_with_total:
            page = replace(page, rows=())
        return self._listed("pipelines", [self._pipeline_row(row) for row in page.rows], page, context)

    def get_pipeline(self, request: Request, context: RequestContext) -> Answer:
        """Handle GetPipeline."""
        return Answer(self._single("pipeline", self._pipeline_record(self._find_pipeline(request)), context))

    def list_runs(self, request: Request, context: RequestContext) -> Answer:
        """Handle ListPipelineRuns."""
        pipeline = self._find_pipeline(request)
        query = Query(request.query_params)
        started = query.window("startTime", self.until)
        run_filter = RunFilter(query.text("status"), query.number("triggerMode"), started)
        page = self._page(self._organization.runs(pipeline, run_filter, context.now), query)
        runs = [summarize(run) for run in page.rows]
        reported = self._organization.apply_misreport(runs)
        records = [self._run_row(pipeline, run, self._end_fields(run)) for run in reported]
        # Flow identifies a run by its number, so a wrong number names a run that the scenario does not have.
        runs_reported = [
            self._reported_part(run)
            for run, as_reported in zip(runs, reported, strict=True)
            if run is as_reported
        ]
        return replace(self._listed("pipelineRuns", records, page, context), runs=runs_reported)

    def get_run(self, request: Request, context: RequestContext) -> Answer:
        """Handle GetPipelineRun."""
        pipeline = self._find_pipeline(request)
        return self._run_answer(
            pipeline, self._organization.run(pipeline, request.path_params["run_id"], context.now), context
        )

    def get_latest_run(self, request: Request, context: RequestContext) -> Answer:
        """Handle GetLatestPipelineRun."""
        pipeline = self._find_pipeline(request)
        serialized = self._organization.latest(pipeline, context.now)
        if serialized is not None:
            return self._run_answer(pipeline, serialized, context)
        match self._switches.never_run:
            case "404":
                raise ProblemError(Problem.NO_RUN)
            case "null":
                return Answer(None)
            case _:
                return Answer("", plain=True)

    def _run_answer(
        self, pipeline: SimulatedPipeline, serialized: SerializedRun, context: RequestContext
    ) -> Answer:
        created = milliseconds(serialized.run.start - self._switches.create_lead)
        record = self._run_record(pipeline, serialized, created)
        return Answer(self._single("pipelineRun", record, context), runs=(serialized.run,))

    def _reported_part(self, run: RunSnapshot) -> RunSnapshot:
        """Return a run as its row in the list reports it."""
        return run

    def _end_fields(self, run: RunSnapshot) -> Record:
        """Return the field for the end of a run in a list; without an end, its form follows the switch `open_end`."""
        if run.end is not None:
            return {"endTime": milliseconds(run.end)}
        form = _ENDS[int(run.id[:4], 16) % len(_ENDS)]
        form = form if self._switches.open_end == "mixed" else self._switches.open_end
        return {} if form == "absent" else {"endTime": None if form == "null" else 0}

    def _require_membership(self, request: Request) -> None:
        self._organization.require_membership(request.path_params.get("organization_id"))

    def _find_pipeline(self, request: Request) -> SimulatedPipeline:
        """Return the pipeline that a request's path names."""
        self._require_membership(request)
        return self._organization.pipeline(request.path_params["pipeline_id"])

    # -- the form of responses

    @abstractmethod
    def _page(self, rows: Sequence[P], query: Query) -> Page[P]:
        """Return the page of `rows` that the query selects."""

    @abstractmethod
    def _listed(self, key: str, records: list[Record], page: Page[P], context: RequestContext) -> Answer:
        """Return the response with the records of a page; an envelope has them under `key`."""

    @abstractmethod
    def _single(self, key: str, record: Record, context: RequestContext) -> Record:
        """Return the body with a single record; an envelope has it under `key`."""

    @abstractmethod
    def _pipeline_row(self, pipeline: SimulatedPipeline) -> Record:
        """Return the row of a pipeline in the list."""

    @abstractmethod
    def _pipeline_record(self, pipeline: SimulatedPipeline) -> Record:
        """Return the record of a pipeline."""

    @abstractmethod
    def _run_row(self, pipeline: SimulatedPipeline, run: RunSnapshot, ended: Record) -> Record:
        """Return the row of a run in the list; `ended` has the field of its end, if any."""

    @abstractmethod
    def _run_record(self, pipeline: SimulatedPipeline, serialized: SerializedRun, created: int) -> Record:
        """Return the record of a run; `created` is its creation time, in milliseconds."""
