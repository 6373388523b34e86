"""Details of a pipeline's latest run: when to query them, and what they add to the run."""

import math

import msgspec

from exporter.core.model import Run, Stage
from exporter.tracking.lookups import LONGEST

DETAIL_TRIES = 3
"""Number of failures to get the details of a changed run, after which its older details are no longer shown."""

_MAX_DOUBLINGS = 20
"""Maximum exponent of the back-off."""


class DetailTracker:
    """The details of one pipeline's latest run."""

    def __init__(self, interval: float) -> None:
        """`interval` is the poll interval in seconds, and the first pause after a failure."""
        self.turn = 0
        """Sequence number, within the project, of the last query for details; 0 before the first."""
        self._interval = interval
        self._detail: Run | None = None
        self._queried_for: Run | None = None
        """The run as it was when its details were queried."""
        self._failures = 0
        self._due = -math.inf
        """When the next query is due, in monotonic seconds."""

    def wanted(self, run: Run, now: float) -> bool:
        """Return whether to query the details of the latest run at `now` (monotonic seconds): it is new or has changed."""
        return not run.without_id and run != self._queried_for and self._due <= now

    def run_changed(self) -> None:
        """Make the next query due at once: failures to get details before the run changed no longer count."""
        self._failures = 0
        self._due = -math.inf

    def apply(self, of: Run, detail: Run | None) -> None:
        """Apply the details that were queried for the run `of`; None if they are unavailable.

        Older details are dropped in either case: they show the jobs before the run changed.
        """
        self._queried_for = of
        self._detail = detail if detail is not None and detail.id == of.id else None

    def failed(self, now: float) -> None:
        """Postpone the next query, each time for longer; `now` is in monotonic seconds."""
        self._due = now + min(self._interval * 2**self._failures, LONGEST)
        self._failures = min(self._failures + 1, _MAX_DOUBLINGS)
        if self._failures >= DETAIL_TRIES:
            self._detail = None

    def merged(self, run: Run) -> Run:
        """Return a run with the jobs and exact stage times of its details.

        Statuses are not taken from the details: they are queried when the run changes, so the run is at least as new.
        """
        detail = self._detail
        if detail is None or detail.id != run.id:
            return run
        known = {(stage.name, stage.sequence): stage for stage in detail.stages}
        stages = tuple(_merged(stage, known.get((stage.name, stage.sequence))) for stage in run.stages)
        return msgspec.structs.replace(run, stages=stages or detail.stages)


def _merged(stage: Stage, detail: Stage | None) -> Stage:
    if detail is None:
        return stage
    start = stage.start if detail.start is None else detail.start
    duration = detail.duration if stage.status.final and detail.duration is not None else stage.duration
    return msgspec.structs.replace(stage, start=start, duration=duration, jobs=detail.jobs)
