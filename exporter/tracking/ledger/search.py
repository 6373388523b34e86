"""What to search the run list for, and how far back it was read."""

from collections.abc import Iterable, Sequence
from enum import Enum, auto

import msgspec

from exporter.core.model import Run
from exporter.tracking.ledger.state import Gap, LedgerState

RUNS = 1000
"""Maximum number of rows to read from a run list."""

HOUR = 3600.0
DAY = 86_400.0
WEEK = 7 * DAY
YEAR = 365 * DAY


class Reach(Enum):
    """How far back the run list was read."""

    COMPLETE = auto()
    """As far back as missing runs can be."""
    LIMIT = auto()
    """As far back as the list is ever read: older missing runs are given up."""
    PARTIAL = auto()
    """Less far: rows that were not read may have missing runs."""


class Search(msgspec.Struct, frozen=True):
    """Missing numbers to search the run list for. All times are in Unix seconds."""

    gaps: tuple[Gap, ...]
    floor: float | None
    """No missing run started before this time; None if that is unknown."""
    bound: float
    """Missing runs that started before this time are given up."""
    epoch_start: float = 0.0
    """Runs that started before this time belong to an earlier epoch."""

    @property
    def size(self) -> int:
        """Number of missing runs."""
        return sum(gap.size for gap in self.gaps)

    def found(self, runs: Iterable[Run]) -> bool:
        """Return whether all missing numbers are among these rows."""
        numbers = {
            run.number
            for run in runs
            if run.number is not None and (run.start is None or run.start >= self.epoch_start)
        }
        return sum(gap_with(self.gaps, number) is not None for number in numbers) == self.size

    def reach(self, page: Sequence[Run]) -> Reach | None:
        """Return how far back a list, newest start first, was read with this page; None if reading must continue."""
        newest = max((run.start for run in page if run.start is not None), default=None)
        if newest is None:
            return None
        if self.floor is not None and newest < self.floor:
            return Reach.COMPLETE
        return Reach.LIMIT if newest < self.bound else None


def search(state: LedgerState, *, now: float) -> Search:
    """Return what to search the run list for."""
    starts = [gap.after for gap in state.missing_numbers]
    # Run numbers do not rise strictly with start times: an hour is the allowance.
    known = [start - HOUR for start in starts if start is not None]
    floor = min(known) if known and len(known) == len(starts) else None
    if state.epoch_start:
        floor = max(floor or 0.0, state.epoch_start)
    return Search(state.missing_numbers, floor, now - WEEK, state.epoch_start)


def gap_with(gaps: Iterable[Gap], number: int) -> Gap | None:
    """Return the gap that contains a number, or None."""
    return next((gap for gap in gaps if gap.first <= number <= gap.last), None)
