"""The ledger's state of a pipeline, and the events that it reports. Values are frozen, and small enough to be stored.

Single ended runs are kept only as long as a retry, a correction or their order can matter.
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
    """Whole Unix seconds, which take half the bytes. None if it is unknown, as in states of earlier releases."""
    counted: bool = True
    """False if it ended before first sight, or was counted as missed: only the streak includes it, not the run counter."""

    @classmethod
    def of(cls, run: Run, number: int, *, counted: bool) -> "EndedRun":
        """Return the record of a run that ended."""
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
    """Whether it was accounted before: it had ended, so that its next end counts as a retry, or it had been given up."""
    hidden: float | None = None
    """When a newer run hid it, in Unix seconds; None while it is the latest."""
    end: float | None = None
    """The end that was reported while its status was unknown, in Unix seconds."""
    end_since: float | None = None
    """When that end was first reported, in Unix seconds."""


class Gap(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Consecutive numbers whose runs are unknown."""

    first: int
    last: int
    since: float
    """When the gap was found, in Unix seconds; if its numbers do not exist or were missed, when that was decided."""
    after: float | None = None
    """Start of the run before the gap, in Unix seconds; the runs in the gap hardly started earlier."""
    absent: float | None = None
    """When the complete run list was first read without any of its runs, in Unix seconds; None before."""
    missed: bool = False
    """Whether its runs were counted as missed, so that they are never counted otherwise."""
    watched: float | None = None
    """When the run before the gap was last seen as the latest, in Unix seconds; those in the gap hardly started earlier."""

    @property
    def size(self) -> int:
        """Number of run numbers in the gap."""
        return self.last - self.first + 1

    def without(self, number: int) -> Iterator["Gap"]:
        """Yield the gaps that remain when one of the numbers is removed."""
        if self.first < number:
            yield msgspec.structs.replace(self, last=number - 1)
        if number < self.last:
            yield msgspec.structs.replace(self, first=number + 1)


class InitialScan(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A pending search of the run list for other runs that were in progress at first sight."""

    number: int
    """The latest number at first sight: the other runs have lower ones."""
    since: float
    """Time of first sight, in Unix seconds."""


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
    """End of the first failure, in Unix seconds."""
    last_success: float | None = None
    """End of the last success, in Unix seconds; None if there was no success, or if it has no end."""
    extent: Extent = Extent.PARTIAL

    @property
    def known(self) -> bool:
        """Whether it can be published. States of earlier releases lack the extent, but a success in them ends any streak."""
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
    """The greatest number seen. If the provider gives no numbers, the number of runs seen."""
    high_start: float | None = None
    """Start of the run with that number, in Unix seconds."""
    numbered: bool = True
    """Whether `high` is the provider's number, so that a greater number shows a gap."""
    epoch_start: float = 0.0
    """Runs that started before this time (Unix seconds) belong to an earlier epoch; 0 in the first."""
    latest: str = ""
    """Id of the latest run in the last believed response; empty if it had no run."""
    open: tuple[OpenRun, ...] = ()
    """Runs seen unfinished, in the order in which they were first seen."""
    missing_numbers: tuple[Gap, ...] = ()
    """Gaps, in rising order, of numbers that exist and whose runs still have to be found."""
    nonexistent: tuple[Gap, ...] = ()
    """Gaps of numbers that have no run according to the run list, or whose runs were missed; the newest come last."""
    initial_scan: InitialScan | None = None
    """None once the scan is done or was given up."""
    ended: tuple[EndedRun, ...] = ()
    """The newest ended runs, by falling number."""
    carried_streak: Streak = Streak()
    """Streak of the ended runs that are no longer kept."""
    carried_to: int = -1
    """Greatest number of those runs. Runs with lower numbers can no longer be put in order."""
    streak: Streak = Streak()
    """Streak of all ended runs."""
    recoveries: tuple[int, ...] = ()
    """Numbers of successes that may have ended a streak. Whether they did is known once all runs before them are."""
    finished: Run | None = None
    """The ended run with the greatest number, as it ended. Of its stages it has only `failed_stages`."""
    missed: tuple[str, ...] = ()
    """Ids of runs that were given up, newest first: they are never counted later."""
    unconfirmed_id: str = ""
    """Id of the run in the last response, if its number was lower than known. A second response confirms it."""
    leap: Run | None = None
    """The latest run, if its number is so far above `high` that another response must confirm it."""
    ordered_from: int = 0
    """Ended runs with lower numbers are not part of the streak yet: there may be others between them."""
    unfinished: tuple[int, ...] = ()
    """Numbers of unfinished runs from before first sight. They are never counted, but may change the streak."""
    failed_before: tuple[EndedRun, ...] = ()
    """Failed ends of runs whose retry succeeded, while that success waits in `recoveries`."""

    def changed(self, **changes: Any) -> "LedgerState":
        """Return the state with some fields set; the same object if nothing differs."""
        different = {name: value for name, value in changes.items() if getattr(self, name) != value}
        return msgspec.structs.replace(self, **different) if different else self

    def with_failed_stages(self, run: Run) -> "LedgerState":
        """Return the state with the failed stages and jobs of `run`, if that is the latest finished run and has more."""
        finished = self.finished
        if finished is None or finished.id != run.id or finished.status is not Status.FAILED:
            return self
        stages = failed_stages(run)
        if not stages or (finished.stages and not any(stage.jobs for stage in stages)):
            return self
        return self.changed(finished=msgspec.structs.replace(finished, stages=stages))

    @property
    def starts(self) -> tuple[float | None, ...]:
        """Start of each run in progress, in Unix seconds; None if unknown."""
        starts = tuple([run.start for run in self.open])
        return starts if self.leap is None or self.leap.status.final else (*starts, self.leap.start)

    @property
    def hidden(self) -> tuple[OpenRun, ...]:
        """Open runs that are not the latest, so that polls do not show their end."""
        return tuple(run for run in self.open if run.id != self.latest)

    @property
    def unresolved(self) -> int:
        """Number of runs that still have to be found or looked up."""
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
