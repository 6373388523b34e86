"""Values of a pipeline that survive a restart: its accounting record, and when its latest run entered its status.

Values that the next response has anyway, monotonic times and exemplars are not saved.
"""

import msgspec

from exporter.core.model import Status
from exporter.tracking.ledger import LedgerState
from exporter.tracking.run_counters import DurationHistograms, RunCounters


class Accounts(msgspec.Struct, frozen=True, gc=False):
    """Accounting record of a pipeline: ledger, counters and histograms."""

    state: LedgerState
    counters: RunCounters
    durations: DurationHistograms


class WaitingStage(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A stage that is waiting, paused or suspended."""

    name: str
    sequence: int
    status: Status
    since: float
    """When it entered that status, in Unix seconds."""


class StatusSince(msgspec.Struct, frozen=True, gc=False):
    """When the latest run, and each of its waiting stages, entered its status."""

    run: str = ""
    """Id of the latest run; empty before the first."""
    status: Status = Status.UNKNOWN
    change: float | None = None
    """When the run entered that status, in Unix seconds."""
    waiting: tuple[WaitingStage, ...] = ()


class SavedPipeline(msgspec.Struct, frozen=True, gc=False):
    """Counters, ledger and status times of one pipeline, as the state stores them."""

    accounts: Accounts
    status_since: StatusSince = StatusSince()
    name: str = ""
    """Empty while it is unknown."""
    answered: float = 0.0
    """Provider's time of the last believed response, in Unix seconds."""


class RetiredPipelines:
    """Saved records of the pipelines of one project that are not tracked now."""

    def __init__(self) -> None:
        self.retired: dict[str, tuple[SavedPipeline, float | None]] = {}
        """By pipeline id, with the time of retirement (Unix seconds); None if tracked when the previous process ended."""

    def restore(self, pipeline: str) -> SavedPipeline | None:
        """Remove and return the saved values of a pipeline that is tracked from now on; None without any."""
        saved, _ = self.retired.pop(pipeline, (None, None))
        return saved

    def retire(self, pipeline: str, saved: SavedPipeline | None, now: float) -> None:
        """Keep the saved values of a pipeline that is no longer tracked; `now` is in Unix seconds."""
        if saved is not None:
            self.retired[pipeline] = (saved, now)
