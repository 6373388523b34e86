"""A scenario for clouds whose run lists lack stages: the list and the details of a run are recorded as one report.

The exporter requests the details of a run that the list reports as finished before it counts the run. In the report,
status and times come from the list, stages from the details. If a request for details fails temporarily, the exporter
discards the whole response of the list. If it is refused permanently, the exporter only knows what the list reports.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace

from exporter.polling.run_history import COMPLETED
from exporter.simulator import Flow, InjectedFault, Scenario, SimulatedStatus, World
from exporter.simulator.world.runs import RunSnapshot
from exporter.simulator.world.world import SimulatedPipeline
from exporter.tracking.ledger.rules import LEAP

LIST_RUNS = "ListPipelineRuns"
GET_RUN = "GetPipelineRun"

TRANSIENT_FAULTS = frozenset(
    {InjectedFault.SERVER_ERROR, InjectedFault.ERROR_OBJECT, InjectedFault.BAD_GATEWAY}
)
"""Faults after which the exporter requests details again; any other fault counts as a refusal."""


@dataclass
class _Received:
    """Rows and details, with their times in Unix seconds, received about a pipeline since the last commit, by run id."""

    rows: dict[str, tuple[float, RunSnapshot]] = field(default_factory=dict)
    details: dict[str, tuple[float, RunSnapshot]] = field(default_factory=dict)
    failed: set[str] = field(default_factory=set)
    """Runs whose details failed and can be requested again."""


class SummaryListScenario(Scenario):
    """A scenario that records list and details as one report."""

    def __init__(self, world: World) -> None:
        super().__init__(world)
        self.cloud: Flow | None = None
        """The cloud that serves the scenario."""
        self._received: dict[str, _Received] = {}
        self._requested: tuple[str, str] | None = None
        """The pipeline and the run of the latest request for details."""

    def numbered(self, pipeline: SimulatedPipeline, number: int, now: float) -> RunSnapshot | None:
        """Return a run whose details are requested; the request has failed unless its response is recorded next."""
        run = super().numbered(pipeline, number, now)
        self._record_failed_details()
        self._requested = None if run is None else (pipeline.id, run.id)
        return run

    def record_answer(self, runs: Iterable[RunSnapshot], operation: str, now: float) -> None:
        """Collect the runs of a response until the next commit."""
        for run in runs:
            received = self._received.setdefault(run.pipeline_id, _Received())
            if operation == LIST_RUNS:
                received.rows[run.id] = now, run
            elif operation == GET_RUN:
                received.details[run.id] = now, run
                received.failed.discard(run.id)
                self._requested = None

    def commit(self) -> None:
        """Record the collected reports; call it when no request is in flight."""
        self._record_failed_details()
        for pipeline, received in self._received.items():
            if not received.failed & received.rows.keys():
                for moment, run in _reports(received, only_details=self._leaps(pipeline, received)):
                    super().record_answer([run], LIST_RUNS, moment)
        self._received.clear()

    def _leaps(self, pipeline: str, received: _Received) -> bool:
        """Return whether the exporter does not use the list yet, because its numbers are too far above the known ones."""
        reported = self.reports(pipeline)
        known = [truth.number for truth in self.truth(pipeline) if truth.id in reported]
        newest = max((run.number for _, run in received.rows.values()), default=0)
        return bool(known) and newest > max(known) + LEAP

    def _record_failed_details(self) -> None:
        cloud = self.cloud
        if self._requested is not None and cloud is not None and cloud.injected_fault in TRANSIENT_FAULTS:
            pipeline, run = self._requested
            self._received.setdefault(pipeline, _Received()).failed.add(run)
        self._requested = None


def _reports(received: _Received, *, only_details: bool) -> Iterator[tuple[float, RunSnapshot]]:
    """Yield the reported runs, each with the time of its report; with `only_details` none that has only a row."""
    full = only_details or len(received.details.keys() & received.rows.keys()) >= COMPLETED
    for run_id, (moment, row) in received.rows.items():
        if run_id in received.details:
            yield moment, _merge(row, received.details[run_id][1])
        elif not full:
            # With enough details the exporter leaves the other runs to its next request.
            yield moment, row
    for run_id, (moment, detail) in received.details.items():
        if run_id not in received.rows:
            yield moment, _with_times_of_stages(detail)


def _merge(row: RunSnapshot, detail: RunSnapshot) -> RunSnapshot:
    if row.custom_status is None:
        return replace(row, stages=detail.stages)
    # If the list has no status, the status comes from the details, and so does the end if the list has none.
    end = _with_times_of_stages(detail).end if row.end is None else row.end
    return replace(detail, start=row.start, end=end)


def _with_times_of_stages(detail: RunSnapshot) -> RunSnapshot:
    """Return details with start and end from their stages, because details have no times of the run."""
    starts = [stage.start for stage in detail.stages if stage.start is not None]
    ends = [stage.end for stage in detail.stages if stage.end is not None]
    in_progress = any(
        stage.start is not None
        and (stage.end is None or not (stage.status.finished or stage.status is SimulatedStatus.SKIPPED))
        for stage in detail.stages
    )
    finished = detail.custom_status is None and detail.status.finished
    return replace(
        detail,
        start=min(starts, default=detail.start),
        end=max(ends, default=None) if finished and not in_progress else None,
    )
