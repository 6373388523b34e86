"""What the ledger knows of a pipeline's runs, and what it says is to be counted; frozen, and small enough to be stored.

Runs that ended are kept one by one only as far as a retry, a correction or their order can still matter.
"""

from collections.abc import Iterator
from enum import StrEnum

import msgspec

from exporter.model import Run, Status


class Ended(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A run that ended, as it ended last."""

    id: str
    number: int
    status: Status
    end: float | None


class Open(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A run that was seen unfinished and is not known to have ended."""

    id: str
    number: int
    start: float | None
    reopened: bool = False
    """Whether it was accounted before: it had ended, so that its next end is a retry's, or was given up."""
    hidden: float | None = None
    """Since when a newer run hides it, in epoch seconds; None while it is the latest."""
    end: float | None = None
    """The end that was told of it although its state has no translation."""
    end_since: float | None = None
    """Since when that end is told, in epoch seconds."""


class Gap(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Consecutive numbers of which no run is known."""

    first: int
    last: int
    since: float
    """When that was learnt, in epoch seconds."""
    after: float | None = None
    """Start of the run before them: theirs lie hardly earlier."""
    absent: float | None = None
    """When the run list was read completely and had none of them, in epoch seconds."""
    missed: bool = False
    """Whether they were counted as missed, so that they are never counted otherwise."""
    watched: float | None = None
    """When the run before them was last seen to be the latest, in epoch seconds: theirs lie hardly earlier."""

    @property
    def size(self) -> int:
        """How many numbers these are."""
        return self.last - self.first + 1

    def without(self, number: int) -> Iterator["Gap"]:
        """What is left of them after one of them is known."""
        if self.first < number:
            yield msgspec.structs.replace(self, last=number - 1)
        if number < self.last:
            yield msgspec.structs.replace(self, first=number + 1)


class Survey(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """The run list is still to be asked once for what else was open at first sight."""

    number: int
    """The number at first sight: other runs of then have lower ones."""
    since: float
    """When that was, in epoch seconds."""


class Series(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """What ended runs amount to, in order of number: failures since the last success, and that success."""

    failures: int = 0
    broken_since: float | None = None
    last_success: float | None = None

    def after(self, run: Ended) -> "Series":
        """The same with one more run. Canceled and ignored runs neither count nor end a series of failures."""
        if run.status is Status.SUCCESS:
            return Series(0, None, run.end if run.end is not None else self.last_success)
        if run.status is Status.FAILED:
            since = self.broken_since if self.failures else run.end
            return Series(self.failures + 1, since, self.last_success)
        return self


class State(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """What is known of a pipeline's runs. Numbers are those of its present epoch: the time since numbering began."""

    high: int = 0
    """The greatest number seen; where the provider gives none, how many runs were."""
    high_start: float | None = None
    """Start of the run with that number."""
    numbered: bool = True
    """Whether `high` is the provider's number, so that a greater one tells of a gap."""
    began: float = 0.0
    """What started before belongs to an older epoch; 0 in the first."""
    latest: str = ""
    """The id of the run that the last answer showed; empty if it showed none."""
    open: tuple[Open, ...] = ()
    """Runs seen unfinished, in the order in which they were seen."""
    wanted: tuple[Gap, ...] = ()
    """Numbers known to exist whose runs are still to be learnt, rising."""
    void: tuple[Gap, ...] = ()
    """Numbers that no run has, as far as the run list tells, and those that were missed; newest found last."""
    survey: Survey | None = None
    """None once that is known, or will not be."""
    ended: tuple[Ended, ...] = ()
    """The newest ended runs, by falling number."""
    carried: Series = Series()
    """What the ended runs amount to that are no longer kept."""
    carried_to: int = -1
    """The greatest number among those: what is learnt of lower ones has lost its place."""
    series: Series = Series()
    """What all ended runs amount to."""
    recoveries: tuple[int, ...] = ()
    """The numbers of successes that may have ended a series of failures, as soon as the gaps before them are filled."""
    finished: Run | None = None
    """The ended run with the greatest number, as it ended, without its stages."""
    missed: tuple[str, ...] = ()
    """The ids of runs that were given up, newest first: they are never counted later."""
    strange: str = ""
    """The id of the run under a lower number in the last answer, if there was one: twice is believed."""
    leap: Run | None = None
    """The latest run, if its number is too far above `high` to be believed before it is reported again."""

    @property
    def starts(self) -> tuple[float | None, ...]:
        """Starts of the runs in progress."""
        starts = tuple([one.start for one in self.open])
        return starts if self.leap is None or self.leap.status.final else (*starts, self.leap.start)

    @property
    def hidden(self) -> tuple[Open, ...]:
        """Open runs that are not the latest: what becomes of them no answer about the latest will tell."""
        return tuple(one for one in self.open if one.id != self.latest)

    @property
    def unresolved(self) -> int:
        """How many runs are still to be learnt: wanted and hidden."""
        if not self.open and not self.wanted:
            return 0
        return sum(gap.size for gap in self.wanted) + len(self.hidden)


class Count(StrEnum):
    """What an event is counted as."""

    ENDED = "ended"
    RETRIED = "retried"
    MISSED = "missed"
    RECOVERED = "recovered"
    MISNUMBERED = "misnumbered"


class Event(msgspec.Struct, frozen=True, kw_only=True):
    """Something to count."""

    count: Count
    run: Run | None = None
    """The run that ended, or ended again; or as it was reported with a number that is not its own."""
    runs: int = 1
    """How many runs were missed."""
    why: str = ""
    """Why they were, in words."""
    seconds: float = 0.0
    """How long it had been broken before it recovered."""
    number: int | None = None
    """The known number of a misnumbered run; None if that is unknown."""
