"""What the ledger knows of a pipeline's runs, and the events that it reports. Values are frozen, and small enough to be stored.

Ended runs are kept one by one only as long as a retry, a correction or their order can matter.
"""

from collections.abc import Iterator
from enum import IntEnum, StrEnum
from typing import Any

import msgspec

from exporter.core.model import Run, Status, failed_stages

_INTEGERS = 2**32
"""Whole seconds below this are stored in five bytes."""


class EndedRun(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A run that ended, with its last end."""

    id: str
    number: int
    status: Status
    end: float | None
    start: float | None = None
    """In whole seconds, which take half the bytes. None if it is unknown, as in states of earlier releases."""
    counted: bool = True
    """False if it ended before first sight: then it only puts the streak in order, and no counter has it."""

    @classmethod
    def of(cls, run: Run, number: int, *, counted: bool) -> "EndedRun":
        """Return a run that ended."""
        start = run.start
        if start is not None and 0 <= start < _INTEGERS:
            start = int(start)
        return cls(run.id, number, run.status, run.end, start, counted)


class OpenRun(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A run that was seen unfinished, and whose end is unknown."""

    id: str
    number: int
    start: float | None
    reopened: bool = False
    """Whether it was accounted before: it had ended, so that its next end is a retry's, or was given up."""
    hidden: float | None = None
    """Since when a newer run hides it, in epoch seconds; None while it is the latest."""
    end: float | None = None
    """The end that was reported while its status was unknown."""
    end_since: float | None = None
    """Since when that end is reported, in epoch seconds."""


class Gap(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Consecutive numbers whose runs are unknown."""

    first: int
    last: int
    since: float
    """When the gap was found, in epoch seconds."""
    after: float | None = None
    """Start of the run before the gap: its runs hardly started earlier."""
    absent: float | None = None
    """When a complete reading of the run list had none of them, in epoch seconds."""
    missed: bool = False
    """Whether they were counted as missed, so that they are never counted otherwise."""
    watched: float | None = None
    """When the run before the gap was last seen to be the latest, in epoch seconds: its runs hardly started earlier."""

    @property
    def size(self) -> int:
        """The number of runs."""
        return self.last - self.first + 1

    def without(self, number: int) -> Iterator["Gap"]:
        """Yield what is left of the gap without one of its numbers."""
        if self.first < number:
            yield msgspec.structs.replace(self, last=number - 1)
        if number < self.last:
            yield msgspec.structs.replace(self, first=number + 1)


class InitialScan(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """The run list still has to be read once for other runs that were open at first sight."""

    number: int
    """The latest number at first sight: the other runs have lower ones."""
    since: float
    """When first sight was, in epoch seconds."""


class Extent(IntEnum):
    """How much of a streak is known."""

    PARTIAL = 0
    """The runs seen so far, without a success: earlier failures may belong to it."""
    LIMITED = 1
    """As far back as the run list is read, without a success: at least these failures."""
    WHOLE = 2
    """Back to the last success, or to the first run."""


class Streak(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Failures since the last success, in order of run number, and that success."""

    failures: int = 0
    broken_since: float | None = None
    """End of the first failure."""
    last_success: float | None = None
    """End of the last success; None if there was none, or if it has no end."""
    extent: Extent = Extent.PARTIAL

    @property
    def known(self) -> bool:
        """Whether it can be shown. States of earlier releases lack the extent, but a success in them ends any streak."""
        return self.extent is not Extent.PARTIAL or self.last_success is not None

    def after(self, run: EndedRun) -> "Streak":
        """Return the streak after one more run. Canceled and ignored runs neither extend nor end it."""
        if run.status is Status.SUCCESS:
            return Streak(0, None, run.end, Extent.WHOLE)
        if run.status is Status.FAILED:
            since = self.broken_since if self.failures else run.end
            return Streak(self.failures + 1, since, self.last_success, self.extent)
        return self


# Records have these names for ever: a state that an earlier release wrote must stay readable.
_STORED_NAMES = {
    "epoch_start": "began",
    "missing_numbers": "wanted",
    "nonexistent": "void",
    "initial_scan": "survey",
    "carried_streak": "carried",
    "streak": "series",
    "unconfirmed_id": "strange",
}


class LedgerState(
    msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False, rename=_STORED_NAMES
):
    """What is known of a pipeline's runs. All numbers belong to the present epoch: the time since numbering started at 1."""

    high: int = 0
    """The greatest number seen. Where the provider gives no numbers, how many runs were seen."""
    high_start: float | None = None
    """Start of the run with that number."""
    numbered: bool = True
    """Whether `high` is the provider's number, so that a greater number shows a gap."""
    epoch_start: float = 0.0
    """Runs that started before belong to an earlier epoch; 0 in the first."""
    latest: str = ""
    """Id of the run in the last answer; empty if it had none."""
    open: tuple[OpenRun, ...] = ()
    """Runs seen unfinished, in the order in which they were first seen."""
    missing_numbers: tuple[Gap, ...] = ()
    """Numbers known to exist whose runs still have to be found, rising."""
    nonexistent: tuple[Gap, ...] = ()
    """Numbers without a run according to the run list, and missed numbers; the newest come last."""
    initial_scan: InitialScan | None = None
    """None once the scan is done or was given up."""
    ended: tuple[EndedRun, ...] = ()
    """The newest ended runs, by falling number."""
    carried_streak: Streak = Streak()
    """Streak of the ended runs that are no longer kept."""
    carried_to: int = -1
    """The greatest number among those. Lower numbers no longer have a known order."""
    streak: Streak = Streak()
    """Streak of all ended runs."""
    recoveries: tuple[int, ...] = ()
    """Numbers of successes that may have ended a streak. Whether they did is known once all runs before them are."""
    finished: Run | None = None
    """The ended run with the greatest number, as it ended. Of its stages it has only `failed_stages`."""
    missed: tuple[str, ...] = ()
    """Ids of runs that were given up, newest first: they are never counted later."""
    unconfirmed_id: str = ""
    """Id of the run with a lower number in the last answer, if it had one. A second answer confirms it."""
    leap: Run | None = None
    """The latest run, if its number is so far above `high` that another answer must confirm it."""
    ordered_from: int = 0
    """Ended runs with lower numbers are not part of the streak yet: there may be others between them."""
    unfinished: tuple[int, ...] = ()
    """Numbers of unfinished runs from before first sight. They are never counted, but may change the streak."""
    failed_before: tuple[EndedRun, ...] = ()
    """The failures of runs whose retry succeeded, while that recovery waits."""

    def changed(self, **changes: Any) -> "LedgerState":
        """Return the state with some fields set; the same object if nothing differs."""
        different = {name: value for name, value in changes.items() if getattr(self, name) != value}
        return msgspec.structs.replace(self, **different) if different else self

    def with_failed_stages(self, run: Run) -> "LedgerState":
        """Return the state with the failed stages and jobs of the latest finished run, if `run` is it and shows more of them."""
        finished = self.finished
        if finished is None or finished.id != run.id or finished.status is not Status.FAILED:
            return self
        stages = failed_stages(run)
        if not stages or (finished.stages and not any(stage.jobs for stage in stages)):
            return self
        return self.changed(finished=msgspec.structs.replace(finished, stages=stages))

    @property
    def starts(self) -> tuple[float | None, ...]:
        """Starts of the runs in progress."""
        starts = tuple([run.start for run in self.open])
        return starts if self.leap is None or self.leap.status.final else (*starts, self.leap.start)

    @property
    def hidden(self) -> tuple[OpenRun, ...]:
        """Open runs that are not the latest, so that polls do not show their end."""
        return tuple(run for run in self.open if run.id != self.latest)

    @property
    def unresolved(self) -> int:
        """How many runs still have to be found or looked up."""
        if not self.open and not self.missing_numbers:
            return 0
        return sum(gap.size for gap in self.missing_numbers) + len(self.hidden)


class EventKind(StrEnum):
    """What an event is counted as."""

    ENDED = "ended"
    RETRIED = "retried"
    MISSED = "missed"
    RECOVERED = "recovered"
    MISNUMBERED = "misnumbered"


class Event(msgspec.Struct, frozen=True, kw_only=True):
    """Something to count or to report."""

    kind: EventKind
    run: Run | None = None
    """The run that ended, or ended again; a misnumbered run as it was reported."""
    runs: int = 1
    """How many runs were missed."""
    why: str = ""
    """Why they were missed."""
    seconds: float = 0.0
    """Time from the first failure to the recovery."""
    number: int | None = None
    """The known number of a misnumbered run; None if it is unknown."""
