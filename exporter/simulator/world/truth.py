"""True state of a pipeline, which an exporter should show: its latest runs and its failure streak."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from exporter.simulator.world.runs import RunSnapshot, SimulatedStatus


@dataclass(frozen=True, slots=True)
class RunTruth:
    """A run as its cloud reports it; times are Unix seconds.

    `since` is when the run entered its status. `end` is None until the cloud reports an end. `failed_stages` are
    (name, sequence) pairs.
    """

    id: str
    number: int
    status: str
    since: float
    start: float
    end: float | None
    failed_stages: tuple[tuple[str, int], ...]


@dataclass(frozen=True, slots=True)
class PipelineTruth:
    """True state of a pipeline; times are Unix seconds, and None means that there is no such run or reported end.

    `latest_run` is the run with the latest start, `finished_run` the latest one that has ended. `red` is True if
    `finished_run` failed. `failures` is the number of failed runs since the last success; `failing_since` is when the
    first of them ended. Canceled and ignored runs neither count nor end a streak. `last_success` is when the last
    successful run ended.
    """

    pipeline_id: str
    pipeline: str
    red: bool
    failures: int
    failing_since: float | None
    last_success: float | None
    latest_run: RunTruth | None
    finished_run: RunTruth | None


def pipeline_truth(
    pipeline_id: str,
    name: str,
    history: Sequence[RunSnapshot],
    now: float,
    *,
    report: Callable[[RunSnapshot], RunSnapshot],
    summarize: Callable[[RunSnapshot], RunSnapshot],
) -> PipelineTruth:
    """Return the true state of a pipeline at `now`.

    `history` has the runs that exist at `now`, oldest start first. `report` returns a run as the cloud reports it.
    `summarize` is faster, but its result may lack stages.
    """
    latest: RunSnapshot | None = None
    finished: RunSnapshot | None = None
    failing_since = last_success = None
    failures = 0
    red = False
    for run in reversed(history):
        latest = latest or run
        if not run.status.finished:
            continue
        seen = summarize(run)
        if finished is None:
            finished, red = run, seen.status is SimulatedStatus.FAILED
        if seen.status is SimulatedStatus.COMPLETED:
            last_success = seen.end
            break
        if seen.status is SimulatedStatus.FAILED:
            failures += 1
            failing_since = seen.end
    return PipelineTruth(
        pipeline_id=pipeline_id,
        pipeline=name,
        red=red,
        failures=failures,
        failing_since=failing_since,
        last_success=last_success,
        latest_run=None if latest is None else _run_truth(report(latest), now),
        finished_run=None if finished is None else _run_truth(report(finished), now),
    )


def _run_truth(run: RunSnapshot, now: float) -> RunTruth:
    return RunTruth(
        id=run.id,
        number=run.number,
        status=run.status_text,
        since=_since(run, now),
        start=run.start,
        end=run.end,
        failed_stages=tuple(
            (stage.name, stage.sequence) for stage in run.stages if stage.status is SimulatedStatus.FAILED
        ),
    )


def _since(run: RunSnapshot, now: float) -> float:
    """Return when a run entered the status that it has at `now`, in Unix seconds."""
    if run.end is not None:
        return run.end
    changes: tuple[float, ...] = (run.start, *(run.plan.pause or ()))
    return max(moment for moment in changes if moment <= now)
