"""The organization as both generations of the API find things in it; they only differ in how they ask and tell."""

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass

from exporter.simulator.flow.errors import Problem, ProblemError
from exporter.simulator.flow.layout import Numbers, account
from exporter.simulator.flow.query import Query, Window, whole
from exporter.simulator.flow.serialized import Told, brief, in_full
from exporter.simulator.flow.switches import FlowSwitches
from exporter.simulator.flow.vocabulary import said, trigger
from exporter.simulator.world.project import Project
from exporter.simulator.world.runs import Run
from exporter.simulator.world.world import Pipeline

# So many people make the pipelines of an organization.
_CREATORS = 7


def milliseconds(moment: float) -> int:
    """Return Unix seconds in the vendor's unit, of which it uses whole seconds only."""
    return int(moment) * 1000


@dataclass(frozen=True, slots=True)
class RunsWanted:
    """Which runs of a pipeline are asked for; what is empty or open leaves nothing out."""

    status: str
    trigger: int | None
    started: Window


@dataclass(frozen=True, slots=True)
class PipelinesWanted:
    """Which pipelines are asked for, the last three by their latest run."""

    name: str
    creators: frozenset[str]
    created: Window
    executed: Window
    statuses: frozenset[str]
    executors: frozenset[str]

    @classmethod
    def of(cls, query: Query) -> "PipelinesWanted":
        """Read them from a query, in which both generations have them alike; raises `ProblemError`."""
        return cls(
            name=query.text("pipelineName").lower(),
            creators=query.words("creatorAccountIds"),
            created=query.window("createStartTime", "createEndTime"),
            executed=query.window("executeStartTime", "executeEndTime"),
            statuses=query.words("statusList"),
            executors=query.words("executeAccountIds"),
        )


class Organization:
    """The pipelines of `project` under their ids in Flow. Its methods raise `ProblemError`."""

    def __init__(self, project: Project, switches: FlowSwitches) -> None:
        self.id = project.world.project_id[:24]
        self.numbers = Numbers(project.world)
        self._project = project
        self._switches = switches

    def admit(self, organization_id: str | None) -> None:
        """Let only members of this organization pass; None stands for whichever the endpoint is that of."""
        if self._switches.unregistered:
            raise ProblemError(Problem.NOT_REGISTERED)
        if organization_id not in {None, self.id}:
            raise ProblemError(Problem.NO_ORGANIZATION)
        if self._switches.no_membership:
            raise ProblemError(Problem.NOT_A_MEMBER)

    def creator(self, pipeline: Pipeline) -> str:
        """Tell who made a pipeline."""
        return account(self.id, "creator", pipeline.index % _CREATORS)

    # -- pipelines

    def pipeline(self, pipeline_id: str) -> Pipeline:
        """Find the pipeline that a path names."""
        found = self.numbers.find(whole(pipeline_id))
        pipeline = found and self._project.pipeline(found.id)
        if pipeline is None:
            raise ProblemError(Problem.NO_PIPELINE)
        if pipeline.id in self._switches.poison:
            raise ProblemError(Problem.BROKEN)
        if pipeline.id in self._switches.forbidden:
            raise ProblemError(Problem.FORBIDDEN)
        return pipeline

    def pipelines(self, wanted: PipelinesWanted, now: float) -> list[Pipeline]:
        """List pipelines, the youngest first."""
        rows = self._project.pipelines()[::-1]
        if wanted.name:
            rows = [pipeline for pipeline in rows if wanted.name in pipeline.name.lower()]
        if wanted.creators:
            rows = [pipeline for pipeline in rows if self.creator(pipeline) in wanted.creators]
        if wanted.created:
            rows = [pipeline for pipeline in rows if wanted.created.holds(milliseconds(pipeline.created))]
        now -= self._switches.stale
        if wanted.executed:
            rows = [pipeline for pipeline in rows if self._executed(pipeline, wanted.executed, now)]
        if wanted.statuses or wanted.executors:
            rows = [pipeline for pipeline in rows if self._fits(pipeline, wanted, now)]
        return rows

    def _executed(self, pipeline: Pipeline, window: Window, now: float) -> bool:
        start = self._project.runs.latest_start(pipeline, now)
        return start is not None and window.holds(milliseconds(start))

    def _fits(self, pipeline: Pipeline, wanted: PipelinesWanted, now: float) -> bool:
        run = self._project.runs.latest_run(pipeline, now)
        return (
            run is not None
            and (not wanted.statuses or said(brief(run)) in wanted.statuses)
            and (not wanted.executors or executor(run) in wanted.executors)
        )

    # -- runs

    def run(self, pipeline: Pipeline, run_id: str, now: float) -> Told:
        """Find a run by its number."""
        run = self._project.runs.numbered(pipeline, whole(run_id), now)
        if run is None:
            raise ProblemError(Problem.NO_RUN)
        return in_full(pipeline, run, now, self._switches.end_lag)

    def latest(self, pipeline: Pipeline, now: float) -> Told | None:
        """Find the latest run; None if the pipeline has not run."""
        now -= self._switches.stale
        run = self._project.runs.latest_run(pipeline, now)
        return None if run is None else in_full(pipeline, run, now, self._switches.end_lag)

    def runs(self, pipeline: Pipeline, wanted: RunsWanted, now: float) -> Sequence[Run]:
        """List runs, the one that started last first unless the switches say otherwise; they are not yet told."""
        rows = self._project.runs.history(pipeline, now - self._switches.stale)
        since, until = wanted.started.since, wanted.started.until
        if until is not None:
            rows = rows[: bisect_right(rows, until, key=_started)]
        if since is not None:
            rows = rows[bisect_left(rows, since, key=_started) :]
        if wanted.status or wanted.trigger is not None:
            rows = [run for run in rows if _is_wanted(run, wanted)]
        match self._switches.runs_order:
            case "random":
                # Nobody chose this order, but it is the same for every page.
                return sorted(rows, key=lambda run: run.id)
            case "ascending":
                return rows
            case _:
                return rows[::-1]

    def reported(self, runs: list[Run]) -> list[Run]:
        """Return the rows of a page as the next answer reports them, the number of the newest possibly wrong."""
        newest = max(runs, key=lambda run: run.number, default=None)
        return [self._project.runs.reported(run) if run is newest else run for run in runs]


def executor(run: Run) -> str:
    """Tell who started a run."""
    return account(run.origin.executor_id)


def _started(run: Run) -> int:
    return milliseconds(run.start)


def _is_wanted(run: Run, wanted: RunsWanted) -> bool:
    return wanted.status in {"", said(brief(run))} and wanted.trigger in {None, trigger(run)}
