"""What both generations of Flow's API do alike: they find the same things, and go wrong in the same ways.

How a request proves who it is from, which paths and parameters it has, and what answers look like is each generation's
own.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

from starlette.requests import Request

from exporter.simulator.flow.credentials import FlowCredentials
from exporter.simulator.flow.errors import ApiErrorResponse, Problem, ProblemError
from exporter.simulator.flow.organization import Organization, PipelinesWanted, RunsWanted, milliseconds
from exporter.simulator.flow.page import Page
from exporter.simulator.flow.query import Query
from exporter.simulator.flow.serialized import Told, brief
from exporter.simulator.flow.switches import FlowSwitches
from exporter.simulator.http.answers import DeclinedError, Good
from exporter.simulator.http.cloud import Tell
from exporter.simulator.http.faults import InjectedFault, Record
from exporter.simulator.http.recorder import RequestContext
from exporter.simulator.world.runs import Run
from exporter.simulator.world.world import Pipeline

GET_RUN = "GetPipelineRun"
LIST_RUNS = "ListPipelineRuns"
GET_PIPELINE = "GetPipeline"
LIST_PIPELINES = "ListPipelines"
GET_LATEST_RUN = "GetLatestPipelineRun"

P = TypeVar("P")

_ENDS = ("absent", "null", "zero")


@dataclass(frozen=True, slots=True)
class Operation:
    """An operation: its path below that of the pipelines, asked for with GET, and what answers it."""

    path: str
    name: str
    tell: Callable[[Request, RequestContext], Good]


class Generation(ABC):
    """One generation: `roots` are the paths of its pipelines, `until` how it spells the end of a window of runs.

    `credentials` gives those of the moment; `wait` counts a request, and says how many seconds it should have waited,
    if any.
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
        self._wait = wait

    # -- the way to an operation

    @abstractmethod
    def operations(self) -> tuple[Operation, ...]:
        """Tell what it publishes, exact paths before those with a run in the same place."""

    def guard(self, request: Request, body: bytes, context: RequestContext) -> Good | None:
        """Say what is answered to whoever may not pass, or asks too often; None to everybody else."""
        no = self._refusal(request, body, context)
        if no is not None:
            return self.refused(no, request, context)
        wait = self._wait(context)
        if wait is None:
            return None
        busy = self.refused(self._busy(), request, context)
        headers = {"x-acs-retry-after": str(math.ceil(wait * 1000))} if self._switches.retry_after else {}
        return Good(busy.value, busy.status, headers)

    def answering(self, operation: Operation) -> Tell:
        """Return what answers an operation, problems included."""

        def answered(request: Request, _: bytes, context: RequestContext) -> Good:
            try:
                return operation.tell(request, context)
            except ProblemError as error:
                declined = self._declined(error.problem, request, context)
                raise DeclinedError(declined.status, declined.value) from None

        return answered

    def spoken(self, injected_fault: InjectedFault, request: Request, context: RequestContext) -> Good | None:
        """Say what a mischief is that consists of words; None of one that does not."""
        broken = self._worded(Problem.BROKEN)
        match injected_fault:
            case InjectedFault.SERVER_ERROR:
                return self.refused(broken, request, context)
            case InjectedFault.THROTTLED:
                return self.refused(self._busy(), request, context)
            case InjectedFault.DENIED:
                return self.refused(self._worded(Problem.FORBIDDEN), request, context)
            case InjectedFault.ERROR_OBJECT:
                return Good(self._object(broken, context))
            case InjectedFault.NESTED_ERROR:
                return Good({"error": {"code": broken.code, "message": broken.text}})
            case _:
                return None

    @abstractmethod
    def refused(self, no: ApiErrorResponse, request: Request, context: RequestContext) -> Good:
        """Say no as the gateway does."""

    @abstractmethod
    def _declined(self, problem: Problem, request: Request, context: RequestContext) -> Good:
        """Say what is wrong with a request as the service does."""

    @abstractmethod
    def _object(self, no: ApiErrorResponse, context: RequestContext) -> Record:
        """Say no in the service's body."""

    @abstractmethod
    def _worded(self, problem: Problem) -> ApiErrorResponse:
        """Find the words for a problem."""

    @abstractmethod
    def _busy(self) -> ApiErrorResponse:
        """Find the words for being asked too often."""

    @abstractmethod
    def _refusal(self, request: Request, body: bytes, context: RequestContext) -> ApiErrorResponse | None:
        """Say why a request proves nothing, or None if it proves who it is from."""

    def _status(self, no: ApiErrorResponse) -> int:
        return self._switches.statuses.get(no.code, no.status)

    # -- the operations

    def list_pipelines(self, request: Request, context: RequestContext) -> Good:
        """Answer ListPipelines."""
        self._admit(request)
        query = Query(request.query_params)
        page = self._page(self._organization.pipelines(PipelinesWanted.of(query), context.now), query)
        if self._switches.empty_list_with_total:
            page = replace(page, rows=())
        return self._listed("pipelines", [self._pipeline_row(row) for row in page.rows], page, context)

    def get_pipeline(self, request: Request, context: RequestContext) -> Good:
        """Answer GetPipeline."""
        return Good(self._one("pipeline", self._pipeline_record(self._asked(request)), context))

    def list_runs(self, request: Request, context: RequestContext) -> Good:
        """Answer ListPipelineRuns."""
        pipeline = self._asked(request)
        query = Query(request.query_params)
        started = query.window("startTime", self.until)
        wanted = RunsWanted(query.text("status"), query.number("triggerMode"), started)
        page = self._page(self._organization.runs(pipeline, wanted, context.now), query)
        runs = [brief(run) for run in page.rows]
        reported = self._organization.reported(runs)
        records = [self._run_row(pipeline, run, self._ended(run)) for run in reported]
        # A run with a wrong number is another run here, of which there is nothing to tell.
        told = [self._outline(run) for run, as_told in zip(runs, reported, strict=True) if run is as_told]
        return replace(self._listed("pipelineRuns", records, page, context), runs=told)

    def get_run(self, request: Request, context: RequestContext) -> Good:
        """Answer GetPipelineRun."""
        pipeline = self._asked(request)
        return self._whole(
            pipeline, self._organization.run(pipeline, request.path_params["run_id"], context.now), context
        )

    def get_latest_run(self, request: Request, context: RequestContext) -> Good:
        """Answer GetLatestPipelineRun."""
        pipeline = self._asked(request)
        told = self._organization.latest(pipeline, context.now)
        if told is not None:
            return self._whole(pipeline, told, context)
        match self._switches.never_run:
            case "404":
                raise ProblemError(Problem.NO_RUN)
            case "null":
                return Good(None)
            case _:
                return Good("", plain=True)

    def _whole(self, pipeline: Pipeline, told: Told, context: RequestContext) -> Good:
        created = milliseconds(told.run.start - self._switches.create_lead)
        record = self._run_record(pipeline, told, created)
        return Good(self._one("pipelineRun", record, context), runs=(told.run,))

    def _outline(self, run: Run) -> Run:
        """Tell as much of a run as its row in a list does."""
        return run

    def _ended(self, run: Run) -> Record:
        """Tell the end of a run in a list, be it one that is none."""
        if run.end is not None:
            return {"endTime": milliseconds(run.end)}
        drawn = _ENDS[int(run.id[:4], 16) % len(_ENDS)]
        form = drawn if self._switches.open_end == "mixed" else self._switches.open_end
        return {} if form == "absent" else {"endTime": None if form == "null" else 0}

    def _admit(self, request: Request) -> None:
        self._organization.admit(request.path_params.get("organization_id"))

    def _asked(self, request: Request) -> Pipeline:
        """Find the pipeline that a request's path names."""
        self._admit(request)
        return self._organization.pipeline(request.path_params["pipeline_id"])

    # -- what answers look like

    @abstractmethod
    def _page(self, rows: Sequence[P], query: Query) -> Page[P]:
        """Cut the page that is asked for."""

    @abstractmethod
    def _listed(self, key: str, records: list[Record], page: Page[P], context: RequestContext) -> Good:
        """Answer with a page."""

    @abstractmethod
    def _one(self, key: str, record: Record, context: RequestContext) -> Record:
        """Answer with one thing."""

    @abstractmethod
    def _pipeline_row(self, pipeline: Pipeline) -> Record:
        """Tell a pipeline as the list does."""

    @abstractmethod
    def _pipeline_record(self, pipeline: Pipeline) -> Record:
        """Tell a pipeline by itself."""

    @abstractmethod
    def _run_row(self, pipeline: Pipeline, run: Run, ended: Record) -> Record:
        """Tell a run as the list does, its end as `ended` has it."""

    @abstractmethod
    def _run_record(self, pipeline: Pipeline, told: Told, created: int) -> Record:
        """Tell a run by itself; `created` is the moment of its record, in milliseconds."""
