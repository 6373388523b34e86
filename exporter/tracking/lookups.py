"""When to query runs that are not the latest: one by one, or with the run list.

A page of the list has many runs, a response with details only one. So the list is read for gaps, for the initial scan, and
for two or more hidden runs. It is also read for the streak of failures, which is less urgent, since no counter needs it.
What stays unknown is queried again, with growing pauses.
"""

import math

import msgspec

from exporter.tracking.ledger import APART, LedgerState, needs_read_back

LONGEST = 900.0
"""Longest pause between two queries for the same thing, in seconds. Pauses grow from the poll interval."""

LONGEST_READ_BACK = 6 * 3600.0
"""Longest pause, in seconds, between readings that do not show the streak of failures. Each may take many requests."""

# Times of responses have a resolution of one second.
_SECOND_READING = APART + 5


class _Turn(msgspec.Struct, frozen=True):
    """When a query is due, and how long to postpone it after that."""

    due: float
    """When the query is due, in monotonic seconds."""
    pause: float
    """The last pause, in seconds; the next one is twice as long."""
    alone: bool = False
    """Whether the run list lacks the run, so that it must be looked up by its id."""

    def later(self, now: float, longest: float = LONGEST) -> "_Turn":
        pause = min(2 * self.pause, longest)
        return _Turn(now + pause, pause, self.alone)


def _needs_list(state: LedgerState) -> bool:
    return bool(state.missing_numbers or state.initial_scan or state.leap)


class DueLookups(msgspec.Struct, frozen=True):
    """Queries that are due for one pipeline."""

    listing: bool = False
    """Whether to read the run list."""
    runs: tuple[str, ...] = ()
    """The ids of runs to look up one by one."""
    read_back: bool = False
    """Whether to read the run list back for the streak of failures."""


class LookupSchedule:
    """Schedule of look-ups and readings of the run list for one pipeline. All times are monotonic seconds."""

    def __init__(self, interval: float, *, list_first: bool = False) -> None:
        """`interval` is the first pause, in seconds.

        `list_first`: read the list even for a single hidden run, because its details lack some of its values.
        """
        self._list_from = 1 if list_first else 2
        """Number of due hidden runs from which on the list is read instead of each run."""
        self._interval = min(interval, LONGEST)
        self._hidden: dict[str, _Turn] = {}
        self._listing: _Turn | None = None
        self._read_back: _Turn | None = None
        self._failing = False
        """Whether the last reading of the list failed."""
        self._newest = 0
        """The greatest number that has been missing; 0 while no number is missing."""
        self._rolled_back = False
        """Whether a response was applied that could not be saved."""

    def follow(self, state: LedgerState, now: float) -> None:
        """Schedule queries for what is unknown in this state, and drop all others."""
        if state.hidden or self._hidden:
            first = _Turn(now + self._interval, self._interval)
            self._hidden = {one.id: self._hidden.get(one.id, first) for one in state.hidden}
        newest = state.missing_numbers[-1].last if state.missing_numbers else 0
        if not _needs_list(state):
            self._listing, self._failing = None, False
        elif self._listing is None or (newest > self._newest and not self._failing):
            # One reading most likely fills a new gap.
            self._listing = _Turn(now, self._interval)
        self._newest = max(self._newest, newest) if state.missing_numbers else 0
        if not needs_read_back(state):
            self._read_back = None
        elif self._read_back is None:
            self._read_back = _Turn(now, self._interval)

    @property
    def earliest(self) -> float:
        """When the first query is due; infinite if there is nothing to query."""
        if self._listing is None and self._read_back is None and not self._hidden:
            return math.inf  # as for most pipelines, most of the time
        turns = (*self._hidden.values(), self._listing, self._read_back)
        return min((turn.due for turn in turns if turn is not None), default=math.inf)

    def due(self, now: float) -> DueLookups:
        """Return the queries that are due at `now`."""
        hidden = tuple(run for run, turn in self._hidden.items() if turn.due <= now)
        use_list = sum(not self._hidden[run].alone for run in hidden) >= self._list_from
        read_back = self._read_back is not None and self._read_back.due <= now
        if (self._listing is not None and self._listing.due <= now) or (use_list and not self._failing):
            alone = tuple(run for run in hidden if self._hidden[run].alone)
            return DueLookups(listing=True, runs=alone, read_back=read_back)
        return DueLookups(runs=hidden, read_back=read_back)

    def listed(
        self, runs: frozenset[str], state: LedgerState, now: float, *, read_back: bool = False
    ) -> None:
        """Record that the run list was read and has the runs with these ids; `state` is the state after it was applied.

        `read_back`: it was read as far back as the streak needs, or as the list allows.
        """
        self._failing = False
        if self._read_back is not None and read_back:
            # Only the end of a run in progress is missing, if the streak is known.
            longest = LONGEST if state.streak.known else LONGEST_READ_BACK
            self._read_back = self._read_back.later(now, longest)
        for run, turn in self._hidden.items():
            if run in runs:
                self._hidden[run] = turn.later(now)
            elif turn.due <= now:
                self._hidden[run] = _Turn(turn.due, turn.pause, alone=True)
        if state.missing_numbers or state.leap:
            # Numbers that a complete reading lacks need a second reading. After a partial one there is more to read.
            absent = bool(state.missing_numbers) and all(
                gap.absent is not None for gap in state.missing_numbers
            )
            turn = self._listing or _Turn(now, self._interval)
            self._listing = _Turn(now + _SECOND_READING, self._interval) if absent else turn.later(now)
        self.follow(state, now)

    def not_listed(self, state: LedgerState, now: float) -> None:
        """Record that the run list could not be read; `state` is the state after that failure was applied."""
        self._failing = True
        self._listing = (self._listing or _Turn(now, self._interval)).later(now)
        if self._read_back is not None:
            self._read_back = self._read_back.later(now)
        for run, turn in self._hidden.items():
            if turn.due <= now:
                self._hidden[run] = _Turn(turn.due, turn.pause, alone=True)
        self.follow(state, now)

    def rolled_back(self, state: LedgerState, now: float) -> None:
        """Record that a save failed, so that runs that were found are unknown again. Postpone queries for them.

        `state` is the committed state.
        """
        self._rolled_back = True
        if _needs_list(state):
            self._listing = (self._listing or _Turn(now, self._interval)).later(now)
            # None of its gaps is new.
            self._newest = max([self._newest, *(gap.last for gap in state.missing_numbers)])
        if needs_read_back(state):
            self._read_back = (self._read_back or _Turn(now, self._interval)).later(now)
        self.follow(state, now)

    def saves_again(self) -> None:
        """Record that saves work again: queries that were postponed after failed saves are due at once."""
        if not self._rolled_back:
            return
        self._rolled_back = False
        self._hidden = {
            run: _Turn(-math.inf, self._interval, turn.alone) for run, turn in self._hidden.items()
        }
        if self._listing is not None and not self._failing:
            self._listing = _Turn(-math.inf, self._interval)
        if self._read_back is not None and not self._failing:
            self._read_back = _Turn(-math.inf, self._interval)

    def looked_up(self, run: str, state: LedgerState, now: float) -> None:
        """Record that a run was looked up, or could not be; `state` is the state after that was applied."""
        if run in self._hidden:
            self._hidden[run] = self._hidden[run].later(now)
        self.follow(state, now)
