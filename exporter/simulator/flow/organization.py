"""Look-up of an organization's pipelines and runs, for both generations of the API."""

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass

from exporter.simulator.flow.errors import Problem, ProblemError
from exporter.simulator.flow.layout import PipelineNumbers, account_id
from exporter.simulator.flow.query import Query, Window, parse_number
from exporter.simulator.flow.serialized import SerializedRun, serialize, summarize
from exporter.simulator.flow.switches import FlowSwitches
from exporter.simulator.flow.vocabulary import status_text, trigger
from exporter.simulator.world.project import SimulatedProject
from exporter.simulator.world.runs import RunSnapshot
from exporter.simulator.world.world import SimulatedPipeline

# Number of accounts that create the pipelines of an organization.
_CREATORS = 7


def milliseconds(moment: float) -> int:
    """Convert Unix seconds to milliseconds, the vendor's unit, cut to whole seconds as the vendor does."""
    return int(moment) * 1000


@dataclass(frozen=True, slots=True)
class RunFilter:
    """Filter of a pipeline's runs; an empty status, no trigger and an open window each select all."""

    status: str
    trigger: int | None
    started: Window


@dataclass(frozen=True, slots=True)
class PipelineFilter:
    """Filter of pipelines; empty values and open windows select all.

    `executed`, `statuses` and `executors` apply to the latest run.
    """

    name: str
    creators: frozenset[str]
    created: Window
    executed: Window
    statuses: frozenset[str]
    executors: frozenset[str]

    @classmethod
    def of(cls, query: Query) -> "PipelineFilter":
        """Return the filter of a query; raise `ProblemError` if it is malformed. Both generations use the same parameters."""
        return cls(
            name=query.text("pipelineName").lower(),
            creators=query.values("creatorAccountIds"),
            created=query.window("createStartTime", "createEndTime"),
            executed=query.window("executeStartTime", "executeEndTime"),
            statuses=query.values("statusList"),
            executors=query.values("executeAccountIds"),
        )


class Organization:
    """Look-up of the pipelines and runs of `project` by their ids in Flow.

    Look-ups raise `ProblemError` if the user cannot read what a request names.
    """

    def __init__(self, project: SimulatedProject, switches: FlowSwitches) -> None:
        self.id = project.world.project_id[:24]
        self.numbers = PipelineNumbers(project.world)
        self._project = project
        self._switches = switches

    def require_membership(self, organization_id: str | None) -> None:
        """Raise `ProblemError` unless the user is a member of this organization; a regional endpoint passes None."""
        if self._switches.unregistered:
            raise ProblemError(Problem.NOT_REGISTERED)
        if organization_id not in {None, self.id}:
            raise ProblemError(Problem.NO_ORGANIZATION)
        if self._switches.no_membership:
            raise ProblemError(Problem.NOT_A_MEMBER)

    def creator(self, pipeline: SimulatedPipeline) -> str:
        """Return the account that created a pipeline."""
        return account_id(self.id, "creator", pipeline.index % _CREATORS)

    # -- pipelines

    def pipeline(self, pipeline_id: str) -> SimulatedPipeline:
        """Return the pipeline with that id in Flow."""
        found = self.numbers.find(parse_number(pipeline_id))
        pipeline = found and self._project.pipeline(found.id)
        if pipeline is None:
            raise ProblemError(Problem.NO_PIPELINE)
        if pipeline.id in self._switches.poison:
            raise ProblemError(Problem.BROKEN)
        if pipeline.id in self._switches.forbidden:
            raise ProblemError(Problem.FORBIDDEN)
        return pipeline

    def pipelines(self, run_filter: PipelineFilter, now: float) -> list[SimulatedPipeline]:
        """Return the selected pipelines, newest first."""
        rows = self._project.pipelines()[::-1]
        if run_filter.name:
            rows = [pipeline for pipeline in rows if run_filter.name in pipeline.name.lower()]
        if run_filter.creators:
            rows = [pipeline for pipeline in rows if self.creator(pipeline) in run_filter.creators]
        if run_filter.created:
            rows = [
                pipeline for pipeline in rows if run_filter.created.contains(milliseconds(pipeline.created))
            ]
        now -= self._switches.stale
        if run_filter.executed:
            rows = [pipeline for pipeline in rows if self._started_within(pipeline, run_filter.executed, now)]
        if run_filter.statuses or run_filter.executors:
            rows = [pipeline for pipeline in rows if self._latest_run_matches(pipeline, run_filter, now)]
        return rows

    def _started_within(self, pipeline: SimulatedPipeline, window: Window, now: float) -> bool:
        start = self._project.runs.latest_start(pipeline, now)
        return start is not None and window.contains(milliseconds(start))

    def _latest_run_matches(
        self, pipeline: SimulatedPipeline, run_filter: PipelineFilter, now: float
    ) -> bool:
        run = self._project.runs.latest_run(pipeline, now)
        return (
            run is not None
            and (not run_filter.statuses or status_text(summarize(run)) in run_filter.statuses)
            and (not run_filter.executors or executor(run) in run_filter.executors)
        )

    # -- runs

    def run(self, pipeline: SimulatedPipeline, run_id: str, now: float) -> SerializedRun:
        """Return the run with that number."""
        run = self._project.runs.numbered(pipeline, parse_number(run_id), now)
        if run is None:
            raise ProblemError(Problem.NO_RUN)
        return serialize(pipeline, run, now, self._switches.end_lag)

    def latest(self, pipeline: SimulatedPipeline, now: float) -> SerializedRun | None:
        """Return the latest run; None if the pipeline has not run."""
        now -= self._switches.stale
        run = self._project.runs.latest_run(pipeline, now)
        return None if run is None else serialize(pipeline, run, now, self._switches.end_lag)

    def runs(self, pipeline: SimulatedPipeline, run_filter: RunFilter, now: float) -> Sequence[RunSnapshot]:
        """Return the selected runs as the world has them, latest start first unless the switches say otherwise."""
        rows = self._project.runs.history(pipeline, now - self._switches.stale)
        since, until = run_filter.started.since, run_filter.started.until
        if until is not None:
            rows = rows[: bisect_right(rows, until, key=_started)]
        if since is not None:
            rows = rows[bisect_left(rows, since, key=_started) :]
        if run_filter.status or run_filter.trigger is not None:
            rows = [run for run in rows if _run_matches(run, run_filter)]
        match self._switches.runs_order:
            case "random":
                # An arbitrary order, but the same for every page.
                return sorted(rows, key=lambda run: run.id)
            case "ascending":
                return rows
            case _:
                return rows[::-1]

    def apply_misreport(self, runs: list[RunSnapshot]) -> list[RunSnapshot]:
        """Return the runs of a page; the newest one has a wrong number if the next response misreports it."""
        newest = max(runs, key=lambda run: run.number, default=None)
        return [self._project.runs.apply_misreport(run) if run is newest else run for run in runs]


def executor(run: RunSnapshot) -> str:
    """Return the account that started a run."""
    return account_id(run.origin.executor_id)


def _started(run: RunSnapshot) -> int:
    return milliseconds(run.start)


def _run_matches(run: RunSnapshot, run_filter: RunFilter) -> bool:
    return run_filter.status in {"", status_text(summarize(run))} and run_filter.trigger in {
        None,
        trigger(run),
    }
