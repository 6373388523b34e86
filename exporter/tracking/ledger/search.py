"""What to read the run list for, and how far back a reading got."""

from collections.abc import Iterable, Sequence
from enum import Enum, auto

import msgspec

from exporter.core.model import Run
from exporter.tracking.ledger.state import Gap, LedgerState

RUNS = 1000
"""Rows of a run list that are read, at most."""

HOUR = 3600.0
DAY = 86_400.0
WEEK = 7 * DAY
YEAR = 365 * DAY


class Reach(Enum):
    """How far back a reading of the run list got."""

    COMPLETE = auto()
    """As far as missing runs can be."""
    LIMIT = auto()
    """As far as is ever read: older runs are given up."""
    PARTIAL = auto()
    """Less far: rows that were not read may have missing runs."""


class Search(msgspec.Struct, frozen=True):
    """What to read the run list for. All times are epoch seconds."""

    gaps: tuple[Gap, ...]
    floor: float | None
    """No missing run started before; None if that is unknown."""
    bound: float
    """Runs that started before are given up."""
    epoch_start: float = 0.0
    """Runs that started before belong to an earlier epoch."""

    @property
    def size(self) -> int:
        """How many numbers are missing."""
        return sum(gap.size for gap in self.gaps)

    def found(self, runs: Iterable[Run]) -> bool:
        """Return whether these rows have all missing numbers."""
        numbers = {
            run.number
            for run in runs
            if run.number is not None and (run.start is None or run.start >= self.epoch_start)
        }
        return sum(gap_with(self.gaps, number) is not None for number in numbers) == self.size

    def reach(self, page: Sequence[Run]) -> Reach | None:
        """Return how far a reading, newest start first, got with this page; None if it has to continue."""
        newest = max((run.start for run in page if run.start is not None), default=None)
        if newest is None:
            return None
        if self.floor is not None and newest < self.floor:
            return Reach.COMPLETE
        return Reach.LIMIT if newest < self.bound else None


def search(state: LedgerState, *, now: float) -> Search:
    """Return what to read the run list for."""
    starts = [gap.after for gap in state.missing_numbers]
    # Run numbers do not rise strictly with start times: an hour is the allowance.
    known = [start - HOUR for start in starts if start is not None]
    floor = min(known) if known and len(known) == len(starts) else None
    if state.epoch_start:
        floor = max(floor or 0.0, state.epoch_start)
    return Search(state.missing_numbers, floor, now - WEEK, state.epoch_start)


def gap_with(gaps: Iterable[Gap], number: int) -> Gap | None:
    """Return the gap that contains a number."""
    return next((gap for gap in gaps if gap.first <= number <= gap.last), None)
