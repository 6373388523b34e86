"""A project whose runs a test controls, with everything that real clouds do to runs and run numbers.

A scenario stores the true states of every run and, separately, what each response reported, so a test can compare an
exporter with both. It does not depend on a wire format: any simulated cloud can serve it.
"""

from bisect import insort
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from hashlib import blake2b

from exporter.simulator.scenario.run import Report, SimulatedRun, Transition
from exporter.simulator.world.project import LazyRuns
from exporter.simulator.world.runs import RunSnapshot, SimulatedStatus
from exporter.simulator.world.world import SimulatedPipeline, World


@dataclass(frozen=True, slots=True)
class RunState:
    """State that a cloud reports for a run from `moment` until the next state; `end` is None if it is not reported."""

    moment: float
    status: str
    start: float
    end: float | None


@dataclass(frozen=True, slots=True)
class Truth:
    """The true history of a run, as far as the cloud reports it.

    `epoch` counts how often the pipeline's numbering was reset before the run. `deleted` is when the run was deleted,
    in Unix seconds, or None.
    """

    id: str
    number: int
    epoch: int
    states: tuple[RunState, ...]
    deleted: float | None


@dataclass(eq=False, slots=True)
class _PipelineState:
    """Runs of a pipeline in order of start, including deleted ones, and the state of its numbering.

    `next` is the number of the next run; `reserved` are the numbers of runs that begin later. `cached` is the last
    snapshot of the latest run, if that had ended. `misreport` is a wrong number that the next response gives the latest
    run, or None.
    """

    pipeline: SimulatedPipeline
    runs: list[SimulatedRun] = field(default_factory=list)
    next: int = 1
    reserved: set[int] = field(default_factory=set)
    epoch: int = 0
    cached: tuple[Transition, RunSnapshot] | None = None
    misreport: int | None = None


class Scenario:
    """The pipelines of `world`, with runs that a test begins, changes and deletes.

    Each action happens at `now`, in Unix seconds rounded to milliseconds; actions on the same run must not go back in
    time. A query for a time ignores later actions. An impossible action, such as to end a deleted run, raises
    `ValueError`; an unknown pipeline raises `KeyError`.

    The scenario and the cloud that serves it may run in different threads, but must not act at the same time.
    """

    def __init__(self, world: World) -> None:
        self.world = world
        self._states = {pipeline.id: _PipelineState(pipeline) for pipeline in world.pipelines}
        self._runs: dict[str, SimulatedRun] = {}
        self._begun = 0

    # -- actions: numbers

    def reserve(self, pipeline_id: str) -> int:
        """Reserve the next number for a run that begins later, and return it."""
        state = self._states[pipeline_id]
        number = state.next
        state.next += 1
        state.reserved.add(number)
        return number

    def reserved(self, pipeline_id: str) -> frozenset[int]:
        """Return the reserved numbers whose runs have not begun."""
        return frozenset(self._states[pipeline_id].reserved)

    def skip(self, pipeline_id: str, count: int = 1) -> None:
        """Skip the next `count` numbers, so that no run gets them."""
        self._states[pipeline_id].next += count

    def misreport(self, pipeline_id: str, number: int) -> None:
        """Make the next response that reports the latest run of a pipeline give it this number."""
        self._states[pipeline_id].misreport = number

    def reset_numbers(self, pipeline_id: str, now: float, *, delete: bool = False) -> None:
        """Restart the numbering at 1, and delete the earlier runs if `delete`; otherwise they stay in the history."""
        state = self._states[pipeline_id]
        state.next, state.epoch = 1, state.epoch + 1
        state.reserved.clear()
        if delete:
            for run in state.runs:
                if run.deleted is None:
                    self.delete(run, now)

    def recreate(self, pipeline_id: str, now: float) -> None:
        """Replace the pipeline and all its runs by a new pipeline with the same id and no runs."""
        self.reset_numbers(pipeline_id, now, delete=True)

    # -- actions: runs

    def begin(
        self,
        pipeline_id: str,
        now: float,
        *,
        status: SimulatedStatus = SimulatedStatus.RUNNING,
        number: int | None = None,
    ) -> SimulatedRun:
        """Begin a run in any unfinished state; other runs may be in progress.

        Its number is the next one, or `number`, which must be reserved or greater than all earlier numbers.
        """
        state, now = self._states[pipeline_id], _round(now)
        if status.finished:
            raise ValueError(f"a run does not begin as {status}")
        if number is None:
            number = state.next
        elif number < state.next and number not in state.reserved:
            raise ValueError(f"number {number} is neither new nor reserved")
        state.reserved.discard(number)
        state.next = max(state.next, number + 1)
        self._begun += 1
        digest = blake2b(f"{self.world.seed} run {self._begun} of a story".encode(), digest_size=16)
        run = SimulatedRun(
            state.pipeline, digest.hexdigest(), number, state.epoch, now, (Transition(now, status),)
        )
        if state.runs and run.start_order < state.runs[-1].start_order:
            insort(state.runs, run, key=lambda run: run.start_order)
        else:
            state.runs.append(run)
        self._runs[run.id] = run
        return run

    def pause(self, run: SimulatedRun, now: float, status: SimulatedStatus = SimulatedStatus.PAUSED) -> None:
        """Pause or suspend an unfinished run."""
        last = self._current(run, now)
        if last.status.finished or not status.paused:
            raise ValueError(f"a run that is {last.status} cannot be paused as {status}")
        self._change(run, now, status)

    def resume(self, run: SimulatedRun, now: float) -> None:
        """Resume a paused run, or start the stages of a run that has waited since it began."""
        last = self._current(run, now)
        if last.status.finished or last.status is SimulatedStatus.RUNNING:
            raise ValueError(f"a run that is {last.status} cannot be resumed")
        self._change(run, now, SimulatedStatus.RUNNING)

    def end(
        self,
        run: SimulatedRun,
        now: float,
        final_status: SimulatedStatus,
        *,
        report_end: bool = True,
        custom_status: str | None = None,
    ) -> None:
        """End an unfinished run as COMPLETED, FAILED, CANCELED or IGNORED.

        `custom_status` replaces the status by a text outside the vendor's list; such a run may be ended again. Without
        `report_end`, responses omit the time of the end.
        """
        last = self._current(run, now)
        if not final_status.finished or (last.status.finished and last.custom_status is None):
            raise ValueError(f"a run that is {last.status} cannot end as {final_status}")
        self._change(
            run,
            now,
            final_status,
            end=_round(now),
            end_reported=report_end,
            custom_status=custom_status,
        )

    def reveal_end(self, run: SimulatedRun, now: float) -> None:
        """Make responses report the end time of a run that they have omitted so far."""
        last = self._current(run, now)
        if last.end_reported:
            raise ValueError("the run has no unreported end")
        self._change(run, now, last.status, end=last.end, custom_status=last.custom_status)

    def retry(self, run: SimulatedRun, now: float) -> None:
        """Restart a finished run."""
        last = self._current(run, now)
        if not last.status.finished:
            raise ValueError(f"a run that is {last.status} cannot be retried")
        self._change(run, now, SimulatedStatus.RUNNING)

    def ignore(self, run: SimulatedRun, now: float) -> None:
        """Change a failed run to IGNORED; its end stays the same."""
        last = self._current(run, now)
        if last.status is not SimulatedStatus.FAILED or last.custom_status is not None:
            raise ValueError(f"a run that is {last.custom_status or last.status} cannot be ignored")
        self._change(run, now, SimulatedStatus.IGNORED, end=last.end, end_reported=last.end_reported)

    def delete(self, run: SimulatedRun, now: float) -> None:
        """Delete a run, finished or not."""
        self._current(run, now)
        run.deleted = _round(now)

    # -- what a cloud reports

    def latest(self, pipeline_id: str, now: float) -> SimulatedRun | None:
        """Return the existing run with the latest start, or None; of equal starts, the greatest number."""
        now = _round(now)
        return next((run for run in reversed(self._states[pipeline_id].runs) if run.exists(now)), None)

    def latest_run(self, pipeline: SimulatedPipeline, now: float) -> RunSnapshot | None:
        """Return the run with the latest start at `now`, or None."""
        run = self.latest(pipeline.id, now)
        if run is None:
            return None
        now = _round(now)
        last = run.transitions_until(now)[-1]
        if last.end is None:
            return run.snapshot(self.world, now)
        # Most runs have ended and are polled repeatedly; the snapshot of a finished run does not depend on the time.
        state = self._states[pipeline.id]
        transition, snapshot = state.cached or (None, None)
        if transition is not last or snapshot is None:
            snapshot = run.snapshot(self.world, now)
            state.cached = last, snapshot
        return snapshot

    def latest_start(self, pipeline: SimulatedPipeline, now: float) -> float | None:
        """Return when the latest run started, in Unix seconds; None if the pipeline has no run."""
        run = self.latest(pipeline.id, now)
        return None if run is None else run.start

    def run(self, pipeline: SimulatedPipeline, run_id: str, now: float) -> RunSnapshot | None:
        """Return a run at `now`; None if it does not exist then."""
        run, now = self._runs.get(run_id), _round(now)
        if run is None or run.pipeline.id != pipeline.id or not run.exists(now):
            return None
        return run.snapshot(self.world, now)

    def numbered(self, pipeline: SimulatedPipeline, number: int, now: float) -> RunSnapshot | None:
        """Return the run with that number, or None; of several such runs, the one with the latest start."""
        now = _round(now)
        runs = reversed(self._states[pipeline.id].runs)
        run = next((run for run in runs if run.number == number and run.exists(now)), None)
        return None if run is None else run.snapshot(self.world, now)

    def history(self, pipeline: SimulatedPipeline, now: float) -> Sequence[RunSnapshot]:
        """Return all runs that exist at `now`, oldest start first."""
        now = _round(now)
        runs = [run for run in self._states[pipeline.id].runs if run.exists(now)]
        return LazyRuns(runs, lambda run: run.snapshot(self.world, now))

    def apply_misreport(self, run: RunSnapshot) -> RunSnapshot:
        """Return `run`, the latest of its pipeline, with the wrong number that `misreport` set; use that number once."""
        state = self._states[run.pipeline_id]
        number, state.misreport = state.misreport, None
        return run if number is None else replace(run, number=number)

    def record_answer(self, runs: Iterable[RunSnapshot], operation: str, now: float) -> None:
        """Record that a response of `operation` reports these runs at `now`; runs of other sources are skipped."""
        for snapshot in runs:
            run = self._runs.get(snapshot.id)
            if run is not None:
                run.record(snapshot, operation, now)

    # -- the record

    def exists(self, run: SimulatedRun) -> bool:
        """Return whether a run is neither deleted nor forgotten."""
        return run.deleted is None and self._runs.get(run.id) is run

    def truth(self, pipeline_id: str) -> tuple[Truth, ...]:
        """Return the history of each run that is not forgotten, oldest start first."""
        return tuple(
            Truth(
                run.id,
                run.number,
                run.epoch,
                tuple(
                    RunState(
                        transition.moment,
                        transition.custom_status or transition.status.value,
                        run.start,
                        transition.end if transition.end_reported else None,
                    )
                    for transition in run.transitions
                ),
                run.deleted,
            )
            for run in self._states[pipeline_id].runs
        )

    def reports(self, pipeline_id: str) -> dict[str, tuple[Report, ...]]:
        """Return the reports on each run, by run id, without those that repeat the report before them."""
        runs = self._states[pipeline_id].runs
        return {run.id: run.reports for run in runs if run.reports}

    def discard_reports(self, since: float) -> None:
        """Discard all reports from `since` (Unix seconds) on, for a client that has lost what it received."""
        for run in self._runs.values():
            if run.reports and run.reports[-1].moment >= since:
                run.reports = tuple(report for report in run.reports if report.moment < since)

    def forget(self, before: float) -> None:
        """Remove the runs that ended or were deleted before `before` (Unix seconds), with their reports.

        The latest run of each pipeline stays.
        """
        for state in self._states.values():
            latest = next((run for run in reversed(state.runs) if run.deleted is None), None)
            remaining = []
            for run in state.runs:
                gone_at = run.deleted if run.deleted is not None else run.transitions[-1].moment
                if run is latest or gone_at >= before or not (run.finished or run.deleted is not None):
                    remaining.append(run)
                else:
                    del self._runs[run.id]
            state.runs = remaining

    def _current(self, run: SimulatedRun, now: float) -> Transition:
        """Return the current state of a run; raise `ValueError` if it does not exist or has changed after `now`."""
        last = run.transitions[-1]
        if not self.exists(run):
            raise ValueError("the run does not exist")
        if _round(now) < last.moment:
            raise ValueError("the run has changed at a later time")
        return last

    @staticmethod
    def _change(
        run: SimulatedRun,
        now: float,
        status: SimulatedStatus,
        *,
        end: float | None = None,
        end_reported: bool = True,
        custom_status: str | None = None,
    ) -> None:
        transition = Transition(_round(now), status, end, end_reported, custom_status)
        run.transitions = (*run.transitions, transition)


def _round(now: float) -> float:
    """Round to milliseconds, the resolution of the clouds."""
    return round(now, 3)
