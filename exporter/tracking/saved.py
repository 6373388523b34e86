"""What survives a restart of a pipeline: its accounts, and since when its latest run has its status.

Not saved are what the next answer says anyway, monotonic times, and exemplars.
"""

import msgspec

from exporter.core.model import Status
from exporter.tracking.ledger import LedgerState
from exporter.tracking.run_counters import DurationHistograms, RunCounters


class Accounts(msgspec.Struct, frozen=True, gc=False):
    """What is accounted of a pipeline."""

    state: LedgerState
    counters: RunCounters
    durations: DurationHistograms


class WaitingStage(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A stage that is waiting, paused or suspended."""

    name: str
    sequence: int
    status: Status
    since: float
    """Epoch seconds."""


class StatusSince(msgspec.Struct, frozen=True, gc=False):
    """Since when the latest run, and each stage that waits, has its status."""

    run: str = ""
    """Id of the latest run; empty before the first."""
    status: Status = Status.UNKNOWN
    change: float | None = None
    """Since when the run has that status, in epoch seconds."""
    waiting: tuple[WaitingStage, ...] = ()


class SavedPipeline(msgspec.Struct, frozen=True, gc=False):
    """Counters, ledger and status times of one pipeline, as the state stores them."""

    accounts: Accounts
    status_since: StatusSince = StatusSince()
    name: str = ""
    """Empty while it is unknown."""
    answered: float = 0.0
    """When the last believed answer came, by the provider's clock; epoch seconds."""


class RetiredPipelines:
    """Saved records of the pipelines of one project that are not tracked now."""

    def __init__(self) -> None:
        self.retired: dict[str, tuple[SavedPipeline, float | None]] = {}
        """By pipeline id, with the time of retirement (epoch seconds); None if it was tracked when the process before ended."""

    def restore(self, pipeline: str) -> SavedPipeline | None:
        """Remove and return what is saved of a pipeline that is tracked from now on."""
        saved, _ = self.retired.pop(pipeline, (None, None))
        return saved

    def retire(self, pipeline: str, saved: SavedPipeline | None, now: float) -> None:
        """Keep what is saved of a pipeline that is tracked no longer; `now` is in epoch seconds."""
        if saved is not None:
            self.retired[pipeline] = (saved, now)
