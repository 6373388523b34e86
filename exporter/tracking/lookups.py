"""When to ask for the runs of a pipeline that no answer about its latest run will tell: one by one, or by the run list.

One page of the list tells many runs, the details of a run tell one: so the list is read for gaps, for what was open at
first sight, and where more than one run hides. What stays unknown is asked for again, later each time.
"""

import math

import msgspec

from exporter.tracking.ledger import APART, LedgerState

LONGEST = 900.0
"""Seconds between two looks for the same, at most; they grow from the poll's interval to that."""

# The clocks of two answers are read to the second.
_AGAIN = APART + 5


class _Turn(msgspec.Struct, frozen=True):
    """When something is due, in monotonic seconds."""

    due: float
    pause: float
    """What the next pause is doubled from, in seconds."""
    alone: bool = False
    """Whether the run list does not tell it, so that it has to be asked for by itself."""

    def later(self, now: float) -> "_Turn":
        pause = min(2 * self.pause, LONGEST)
        return _Turn(now + pause, pause, self.alone)


def _needs_list(state: LedgerState) -> bool:
    """Whether the run list has to be read for what is unknown in this state."""
    return bool(state.missing_numbers or state.initial_scan or state.leap)


class DueLookups(msgspec.Struct, frozen=True):
    """What to ask for now."""

    listing: bool = False
    """Whether to read the run list."""
    runs: tuple[str, ...] = ()
    """The ids of runs to look up one by one."""


class LookupSchedule:
    """The looks for runs of one pipeline."""

    def __init__(self, interval: float, *, list_first: bool = False) -> None:
        """The first pause is `interval` seconds.

        `list_first`: the list is read for a single hidden run, too, since its details do not tell all of it.
        """
        self._together = 1 if list_first else 2
        self._interval = min(interval, LONGEST)
        self._hidden: dict[str, _Turn] = {}
        self._listing: _Turn | None = None
        self._failing = False
        self._newest = 0
        """The greatest number that was ever wanted."""
        self._lost = False
        """Whether an answer was applied and could not be saved."""

    def follow(self, state: LedgerState, now: float) -> None:
        """Look for what is unknown in this state from now on (monotonic seconds), and for nothing else."""
        if state.hidden or self._hidden:
            first = _Turn(now + self._interval, self._interval)
            self._hidden = {one.id: self._hidden.get(one.id, first) for one in state.hidden}
        newest = state.missing_numbers[-1].last if state.missing_numbers else 0
        if not _needs_list(state):
            self._listing, self._failing = None, False
        elif self._listing is None or (newest > self._newest and not self._failing):
            # A new gap is most likely filled at once.
            self._listing = _Turn(now, self._interval)
        self._newest = max(self._newest, newest) if state.missing_numbers else 0

    @property
    def earliest(self) -> float:
        """When the first of what is looked for is due, in monotonic seconds; never if there is nothing."""
        if self._listing is None and not self._hidden:
            return math.inf  # as for most pipelines, most of the time
        turns = (*self._hidden.values(), *((self._listing,) if self._listing is not None else ()))
        return min((turn.due for turn in turns), default=math.inf)

    def due(self, now: float) -> DueLookups:
        """What to ask for at `now`."""
        hidden = tuple(run for run, turn in self._hidden.items() if turn.due <= now)
        together = sum(not self._hidden[run].alone for run in hidden) >= self._together
        if (self._listing is not None and self._listing.due <= now) or (together and not self._failing):
            return DueLookups(listing=True, runs=tuple(run for run in hidden if self._hidden[run].alone))
        return DueLookups(runs=hidden)

    def listed(self, told: frozenset[str], state: LedgerState, now: float) -> None:
        """The run list was read, and told these runs; `state` is what is known since."""
        self._failing = False
        for run, turn in self._hidden.items():
            if run in told:
                self._hidden[run] = turn.later(now)
            elif turn.due <= now:
                self._hidden[run] = _Turn(turn.due, turn.pause, alone=True)
        if state.missing_numbers or state.leap:
            # What a complete reading lacks is looked for once more; after a shorter one there is more to find.
            lacking = bool(state.missing_numbers) and all(
                gap.absent is not None for gap in state.missing_numbers
            )
            turn = self._listing or _Turn(now, self._interval)
            self._listing = _Turn(now + _AGAIN, self._interval) if lacking else turn.later(now)
        self.follow(state, now)

    def not_listed(self, state: LedgerState, now: float) -> None:
        """The run list could not be read; `state` is what is known since."""
        self._failing = True
        self._listing = (self._listing or _Turn(now, self._interval)).later(now)
        for run, turn in self._hidden.items():
            if turn.due <= now:
                self._hidden[run] = _Turn(turn.due, turn.pause, alone=True)
        self.follow(state, now)

    def not_saved(self, state: LedgerState, now: float) -> None:
        """What was learnt is not safe, and `state` is what is known still: look for it again, but not at once."""
        self._lost = True
        if _needs_list(state):
            self._listing = (self._listing or _Turn(now, self._interval)).later(now)
            # No gap of it is new.
            self._newest = max([self._newest, *(gap.last for gap in state.missing_numbers)])
        self.follow(state, now)

    def saves_again(self) -> None:
        """Saves work again: look at once for what was put off while they did not."""
        if not self._lost:
            return
        self._lost = False
        self._hidden = {
            run: _Turn(-math.inf, self._interval, turn.alone) for run, turn in self._hidden.items()
        }
        if self._listing is not None and not self._failing:
            self._listing = _Turn(-math.inf, self._interval)

    def looked_up(self, run: str, state: LedgerState, now: float) -> None:
        """A run was looked up, or could not be; `state` is what is known since."""
        if run in self._hidden:
            self._hidden[run] = self._hidden[run].later(now)
        self.follow(state, now)
