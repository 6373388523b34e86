"""Determine when the latest run, and each of its waiting stages, entered its status."""

from exporter.core.model import Run, Stage
from exporter.tracking.saved import StatusSince, WaitingStage


def status_since(before: StatusSince, run: Run, *, shown: float, now: float) -> StatusSince:
    """Return when the latest run and its waiting stages entered their statuses, according to a response at `now`.

    `shown` is the time of the previous response, 0 without one. All times are in Unix seconds, by the provider's clock.
    """
    same = before.run == run.id
    # The previous response showed the run in another status, or that it had not started. Otherwise it proves nothing.
    not_before = shown if shown and (same or (run.start is not None and run.start > shown)) else None
    known = {(stage.name, stage.sequence, stage.status): stage for stage in before.waiting} if same else {}
    waiting = tuple(
        _waiting(stage, known.get((stage.name, stage.sequence, stage.status)), not_before, now)
        for stage in run.stages
        if stage.status.held
    )
    return StatusSince(run.id, run.status, _change(before, run, waiting, not_before, now), waiting)


def _waiting(stage: Stage, known: WaitingStage | None, not_before: float | None, now: float) -> WaitingStage:
    """Return a stage with the start of its waiting job or, if unknown, its own; the latter not before `not_before`."""
    jobs = [job.start for job in stage.jobs if job.status.held and job.start is not None]
    if known is not None and not jobs:
        return known
    since = (
        min(jobs)
        if jobs
        else max((time for time in (stage.start, not_before) if time is not None), default=now)
    )
    return WaitingStage(stage.name, stage.sequence, stage.status, since)


def _change(
    before: StatusSince, run: Run, waiting: tuple[WaitingStage, ...], not_before: float | None, now: float
) -> float:
    if run.status.final and run.end is not None:
        return run.end
    if run.status.held and waiting:
        return min(stage.since for stage in waiting)
    if (before.run, before.status) == (run.id, run.status) and before.change is not None:
        return before.change
    if run.status.held and not_before is not None:
        return max(not_before, run.start or not_before)
    return max(now, run.start or now)
