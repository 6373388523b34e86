"""The rules of accounting. `docs/accounting.md` explains them with examples.

- **Order.** Polls of a pipeline do not overlap, and the caller drops a response that arrives after a newer one.
- **First sight** (`first_sight`). The first run is counted only if it is still unfinished. The run list is then read once
  for other unfinished runs. If the pipeline has no run, counting begins at number 0.
- **Gap** (`_raise_high`). Numbers that were jumped over are missing.
- **Known id** (`known_as`). A run keeps the number that it had first; another number is ignored and reported.
- **Leap** (`apply_shown`, `apply_row`). A number more than `LEAP` above all others must be confirmed by a row of the run list
  or by the next response. If the next response is back in the old range, the number was wrong (`_apply_believed`).
- **Filling** (`search.py`). The run list is read until all missing numbers are found, or far enough back. Its order proves
  nothing.
- **Absence** (`mark_absent`). A number that two complete readings lack does not exist. If its run appears within a week, it
  counts after all (`_claim`).
- **Missed** (`give_up`, `give_up_missing`). A run that existed, but whose end cannot be found out, is missed for good.
- **Once** (`_apply_end`). A run is counted when it is first seen final.
- **Retry** (`_apply_end`). If a counted run is unfinished again and then ends, or ends at least a second later than known, that is
  a retry. The same end, or an earlier one, comes from an older response.
- **Streak** (`read_back.py`). Until a success is seen, the run list is read back to the last one. Nothing of it is counted.
- **Latest finished** (`streak.py`) is the run with the greatest number, not with the latest end.
- **Lower number** (`apply_lower_number`). Two successive responses must agree. If the run's id is known, newer runs were
  deleted. If it is unknown, numbering started again: an epoch begins. A number that had another id needs no second response.
- **Restart.** A stored state is applied by the same rules.

`now` is the provider's time of the response, in Unix seconds.
"""

import math
from collections.abc import Callable, Iterable, Sequence

import msgspec

from exporter.core.model import Run, Status
from exporter.tracking.ledger.read_back import NOTHING, Coverage, greatest_number, numberings, read_back
from exporter.tracking.ledger.search import DAY, HOUR, WEEK, Reach, gap_with
from exporter.tracking.ledger.state import (
    EndedRun,
    Event,
    EventKind,
    Extent,
    Gap,
    InitialScan,
    LedgerState,
    OpenRun,
    Streak,
)
from exporter.tracking.ledger.streak import (
    KEPT,
    has_known_order,
    may_change_streak,
    needs_read_back,
    recovery,
    streak_ended_by,
    with_ended,
    with_settled_recoveries,
    with_streak,
    without_old,
)

OPEN = 100
"""Maximum number of open runs to look up. If there are more, the oldest ones are given up."""

NONEXISTENT = 50
"""Maximum number of gaps to keep whose numbers have no run, or missed runs."""

LEAP = 100
"""A number further than this above the greatest known one must be confirmed."""

APART = 600.0
"""Minimum seconds between two complete readings of the run list, after which a number that both lack does not exist."""


class LedgerUpdate(msgspec.Struct, frozen=True):
    """The result of applying a response."""

    state: LedgerState
    """The same object if the response changed nothing."""
    events: tuple[Event, ...] = ()
    believed: bool = True
    """False if a second response must confirm this one; until then it does not show which run is the latest."""
    read_back: bool = False
    """Whether rows of the run list proved the streak."""


def apply_latest(state: LedgerState | None, run: Run | None, *, now: float, answered: float) -> LedgerUpdate:
    """Apply a successful response about the latest run; `run` is None if the pipeline has no run.

    `state` is None at first sight. `answered` is the provider's time of the last believed response.
    """
    known = state or LedgerState()
    # Only a believed response with a run shows that no newer run had started by then.
    watched = answered if known.latest and known.leap is None else None
    transition = _Transition(known, now, watched=watched)
    if state is None:
        transition.first_sight(run)
    elif run is None:
        transition.change(unconfirmed_id="")
        transition.turn_to("")
        if not known.high:
            transition.begin_streak()
    else:
        run = transition.known_as(run)
        if not transition.apply_lower_number(run, answered):
            # It may not be the latest run, but its status is true.
            transition.apply_known(run)
            return transition.result(believed=False)
        transition.apply_shown(run)
    return transition.result()


def apply_lookup(state: LedgerState, identity: str, run: Run | None, *, now: float) -> LedgerUpdate:
    """Apply the look-up of an open run; `run` is None if the provider no longer has it."""
    transition = _Transition(state, now)
    open_run = transition.find_open(identity)
    if open_run is not None and run is None:
        transition.close(open_run)
        transition.give_up(open_run, "the provider no longer knows it")
    elif open_run is not None and run is not None and run.id == identity:
        transition.apply_run(transition.known_as(run), open_run.number)
    return transition.result()


def apply_history(
    state: LedgerState,
    runs: Iterable[Run],
    reach: Reach,
    *,
    now: float,
    same_answer: bool = False,
    coverage: Coverage = NOTHING,
) -> LedgerUpdate:
    """Apply rows of the run list.

    `same_answer`: the latest run was taken from this list, so that the list does not confirm a leap of it. How far back the
    rows go is given by `reach` for missing runs, and by `coverage` for the streak.
    """
    transition = _Transition(state, now)
    # In order of number, not in that of the list: a success ends the failures before it.
    rows = sorted(runs, key=lambda run: (run.number or 0, run.start or 0.0))
    sought = state.missing_numbers or state.hidden or state.initial_scan or state.leap
    only_streak = not sought and not same_answer
    top = greatest_number(state, rows) if only_streak else math.inf
    for run in rows:
        transition.apply_row(run, same_answer=same_answer, top=top)
    proven = False
    if transition.includes_latest(rows):
        proven = transition.read_back(rows, coverage)
    else:
        # Users without permission to see the runs get an empty list instead of an error.
        reach = Reach.PARTIAL
    if proven:
        transition.change(initial_scan=None)
    else:
        transition.end_initial_scan(rows)
    if reach is Reach.COMPLETE:
        transition.mark_absent()
    elif reach is Reach.LIMIT:
        # Missing runs that could only be among the rows that were read do not exist. The others are out of reach.
        oldest = min((run.start for run in rows if run.start is not None), default=now)
        transition.give_up_missing(
            lambda gap: gap.watched is None or oldest >= gap.watched - HOUR,
            "older than a week or than a thousand runs",
        )
        transition.mark_absent()
    else:
        transition.give_up_unread()
    return transition.result(read_back=proven)


def history_unavailable(state: LedgerState, *, now: float) -> LedgerUpdate:
    """Apply a failure to read the run list: after a day of failures, missing runs are given up."""
    transition = _Transition(state, now)
    if state.initial_scan is not None and now - state.initial_scan.since >= DAY:
        transition.change(initial_scan=None)
    transition.give_up_unread()
    return transition.result()


class _Transition:
    """Applies one response to a state, and collects the events."""

    def __init__(self, state: LedgerState, now: float, *, watched: float | None = None) -> None:
        """`watched` is when the latest run was last seen to be the latest; newer ones hardly started earlier."""
        self.state = state
        self._now = now
        self._watched = watched
        self._events: list[Event] = []
        self._misnumbered: set[str] = set()

    def result(self, *, believed: bool = True, read_back: bool = False) -> LedgerUpdate:
        """Return the new state and the events."""
        self._bound_open()
        if self.state.recoveries:
            self.state, events = with_settled_recoveries(self.state)
            self._events += events
        self.state = without_old(self.state)
        return LedgerUpdate(self.state, tuple(self._events), believed, read_back)

    def change(self, **changes: object) -> None:
        """Set fields of the state."""
        self.state = self.state.changed(**changes)

    # Identity of a run

    def known_as(self, run: Run) -> Run:
        """Return a run with the id and the number by which it is known.

        The provider may give an id in one response and leave it out in another, and may report a wrong number.
        """
        same = self._find_ended(run.id) or self.find_open(run.id)
        if same is not None:
            # If the provider gives no numbers, those of the ledger only show the order.
            if run.number in {None, same.number} or not self.state.numbered:
                return run
            self._report_misnumbered(run, same.number)
            return msgspec.structs.replace(run, number=same.number)
        known: tuple[EndedRun | OpenRun, ...] = (*self.state.ended, *self.state.open)
        for other in known:
            if run.number == other.number and run.without_id != other.id.startswith("#"):
                return msgspec.structs.replace(run, id=other.id)
        return run

    def _report_misnumbered(self, run: Run, number: int | None) -> None:
        """Report a wrong number once for each response; `number` is the known one, or None."""
        if run.id not in self._misnumbered:
            self._misnumbered.add(run.id)
            self._events.append(Event(kind=EventKind.MISNUMBERED, run=run, number=number))

    def find_open(self, identity: str) -> OpenRun | None:
        """Return the open run with an id, or None."""
        return next((run for run in self.state.open if run.id == identity), None)

    def _find_ended(self, identity: str) -> EndedRun | None:
        return next((run for run in self.state.ended if run.id == identity), None)

    def _is_known(self, identity: str) -> bool:
        return (
            self.find_open(identity) is not None
            or self._find_ended(identity) is not None
            or identity in self.state.missed
        )

    def _number_of(self, run: Run) -> int:
        """Return a run's number. A run without one comes after all known runs, and makes no gap."""
        if run.number is not None:
            return run.number
        known = self._find_ended(run.id) or self.find_open(run.id)
        return known.number if known is not None else self.state.high + 1

    # First sight

    def first_sight(self, run: Run | None) -> None:
        """Apply the first response, or the first of an epoch.

        A run that has ended is not counted: it may have ended years ago. A run in progress is counted when it ends.
        """
        if run is None:
            self.begin_streak()
            return
        self.change(
            high=run.number or self.state.high,
            high_start=run.start,
            numbered=run.number is not None,
            latest=run.id,
        )
        if run.status.final:
            self.state = with_ended(self.state, run, self.state.high, counted=False)
        else:
            self.apply_run(run, self.state.high)
            # Runs may overlap: older ones may be in progress, too.
            self.change(initial_scan=InitialScan(run.number, self._now) if run.number is not None else None)

    def begin_streak(self) -> None:
        """Begin an empty streak, for a pipeline without a run."""
        self.state = with_streak(self.state.changed(carried_streak=Streak(extent=Extent.WHOLE)))

    def end_initial_scan(self, rows: Iterable[Run]) -> None:
        """End the initial scan, and keep the ended runs of the list, between which others may be missing."""
        scan = self.state.initial_scan
        self.change(initial_scan=None)
        if scan is None:
            return
        known = [self.known_as(run) for run in rows]
        numbering = numberings(self.state, known)
        ended = [run for run in known if run.status.final and numbering.get(run.id) == 0]
        before = [run for run in ended if run.number is not None and run.number < scan.number]
        self.change(ordered_from=scan.number)
        for run in before[-KEPT:]:
            self.state = with_ended(self.state, run, run.number or 0, counted=False)

    def read_back(self, rows: Iterable[Run], coverage: Coverage) -> bool:
        """Determine the streak from rows of the run list, if it is unknown; return whether they prove it."""
        if not needs_read_back(self.state):
            return False
        found = read_back(self.state, [self.known_as(run) for run in rows], coverage, self._now)
        if found is not None:
            self.state = found
        return found is not None

    # The latest run

    def apply_lower_number(self, run: Run, answered: float) -> bool:
        """Return whether to believe a response. Its number may be lower than known only if a second response agrees.

        Responses can come from a cache, so a single one proves nothing. If the run is unknown, numbering started again.
        """
        number, state = self._number_of(run), self.state
        known = self._is_known(run.id)
        # A run that started before the epoch comes from an older response.
        older_epoch = not known and run.start is not None and run.start < state.epoch_start
        is_next = number > state.high or (number == state.high and known)
        if not older_epoch and (is_next or (not known and self._is_claimable(number))):
            return True
        used_numbers = {state.high, *(one.number for one in state.ended), *(one.number for one in state.open)}
        reused = not known and not older_epoch and number in used_numbers
        if state.unconfirmed_id != run.id and not reused:
            self.change(unconfirmed_id=run.id)
            return False
        if not known:
            self._begin_epoch(run, number, answered)
        return True

    def _begin_epoch(self, run: Run, number: int, answered: float) -> None:
        """Begin an epoch with its latest run. The numbers of the old epoch have no meaning any more."""
        why = "numbering started again"
        for open_run in self.state.open:
            self.give_up(open_run, why)
        self.give_up_missing(lambda _: True, why)
        started_since = run.start is not None and run.start > answered
        self.change(
            high=number - 1,
            high_start=None,
            # Runs that started before have old numbers, or it is unknown which numbering they have.
            epoch_start=answered,
            latest="",
            open=(),
            nonexistent=(),
            ended=(),
            recoveries=(),
            # Earlier runs of the new numbering may belong to the streak.
            carried_streak=self.state.streak if number == 1 else Streak(),
            carried_to=-1,
            ordered_from=0,
            unfinished=(),
            failed_before=(),
            finished=None,
        )
        self.state = with_streak(self.state)
        if not started_since:
            self.first_sight(run)

    def apply_shown(self, run: Run) -> None:
        """Apply the latest run of a believed response."""
        number = self._number_of(run)
        if self._is_leap(number):
            self.change(unconfirmed_id="", leap=run)
            self.turn_to(run.id)
            return
        # A confirmed lower number needs no confirmation until another run is the latest, so that its end counts at once.
        self.change(unconfirmed_id=run.id if number < self.state.high else "")
        self.turn_to(run.id)
        self._apply_believed(run, number)

    def turn_to(self, identity: str) -> None:
        """Make a run the latest. It hides all other open runs from now on."""
        if identity == self.state.latest:
            return
        self.change(
            latest=identity,
            open=tuple(
                msgspec.structs.replace(run, hidden=None if run.id == identity else run.hidden or self._now)
                for run in self.state.open
            ),
        )
        for run in self.state.hidden:
            # A run without an id cannot be looked up, but the run list may have its number.
            if run.id.startswith("#"):
                self.close(run)
                if not run.reopened:
                    self._add_missing(Gap(run.number, run.number, self._now, run.start))

    def _is_leap(self, number: int) -> bool:
        """Return whether a number is too far above all others, and nothing has confirmed it."""
        state = self.state
        if not state.numbered or number <= state.high + LEAP:
            return False
        # A newer run has a number near that of the leap, and confirms it as well.
        return state.leap is None or abs(number - (state.leap.number or 0)) > LEAP

    def _apply_believed(self, run: Run, number: int) -> None:
        """Apply a run whose number is believed. It confirms or refutes the leap before it, if there was one."""
        leap, far = self.state.leap, number > self.state.high + LEAP
        self.change(leap=None)
        if leap is not None and leap.number is not None:
            same_number = leap.number == number
            if leap.id == run.id or (same_number and leap.without_id != run.without_id):
                if not same_number:
                    self._report_misnumbered(leap, number)
                self._raise_high(run, number)
                # First as it was then: it may have ended then, and been retried since.
                self.apply_run(msgspec.structs.replace(leap, id=run.id, number=number), number)
            elif far and not same_number:
                self._raise_high(leap, leap.number)
                self.apply_run(leap, leap.number)
            else:
                self._report_misnumbered(leap, None)
        self._raise_high(run, number)
        self.apply_run(run, number)

    def _raise_high(self, run: Run, number: int) -> None:
        """Raise the greatest known number. The numbers in between are missing."""
        high = self.state.high
        if number <= high:
            return
        if self.state.numbered and number > high + 1:
            self._add_missing(
                Gap(high + 1, number - 1, self._now, self.state.high_start, watched=self._watched)
            )
        self.change(high=number, high_start=run.start, numbered=self.state.numbered or run.number is not None)

    # One run, from any response

    def apply_row(self, run: Run, *, same_answer: bool = False, top: float = math.inf) -> None:
        """Apply a row of the run list, of a known, missing or new run. `same_answer` as for `apply_history`.

        Greater numbers than `top` may be of an earlier numbering: the list was read further back than counts need.
        """
        if run.start is not None and run.start < self.state.epoch_start:
            return
        run = self.known_as(run)
        if self._has_earlier_numbering(run, top):
            return
        known = self._is_known(run.id)
        if run.number is None and not known:
            return
        number = self._number_of(run)
        leap, scan = self.state.leap, self.state.initial_scan
        far = self.state.numbered and number > self.state.high + LEAP
        if far and (same_answer or leap is None or self._is_leap(number)):
            return
        if known or number > self.state.high or self._is_claimable(number):
            if far or (leap is not None and leap.id == run.id):
                self._apply_believed(run, number)
            else:
                self._raise_high(run, number)
                self.apply_run(run, number)
        elif scan is not None and number < scan.number and not run.status.final:
            self.apply_run(run, number)
        elif may_change_streak(self.state, number):
            # It began late, with a number from before first sight. It is never counted, only read back.
            self.change(unfinished=(*self.state.unfinished, number))

    def _has_earlier_numbering(self, run: Run, top: float) -> bool:
        """Return whether a row is above `top`, though it started more than an hour before the greatest known number."""
        latest = self.state.high_start
        return (
            run.number is not None
            and run.number > top
            and not self._is_known(run.id)
            and run.start is not None
            and latest is not None
            and run.start < latest - HOUR
        )

    def includes_latest(self, runs: Iterable[Run]) -> bool:
        """Return whether the latest run is among these rows, as it must be unless the list hides runs."""
        latest = self.state.latest
        return not latest or any(self.known_as(run).id == latest for run in runs)

    def apply_known(self, run: Run) -> None:
        """Apply a run if its id is known."""
        if self._is_known(run.id):
            self.apply_run(run, self._number_of(run))

    def apply_run(self, run: Run, number: int) -> None:
        """Apply the status of a run that is or becomes part of the accounting."""
        open_run, ended = self.find_open(run.id), self._find_ended(run.id)
        if open_run is None and ended is None:
            self._claim(run, number)
        if run.status.final:
            if open_run is not None:
                self.close(open_run)
            self._apply_end(run, number, reopened=open_run is not None and open_run.reopened)
            return
        missed = run.id in self.state.missed
        unknown = run.status is Status.UNKNOWN
        if missed and unknown:
            return
        now = self._now
        hidden_before = open_run.hidden if open_run is not None else None
        hidden = None if run.id == self.state.latest else hidden_before or now
        end = run.end if unknown else None
        end_since = None
        if end is not None:
            end_since = open_run.end_since if open_run is not None and open_run.end == end else now
        reopened = open_run.reopened if open_run is not None else ended is not None or missed
        seen = OpenRun(run.id, number, run.start, reopened, hidden, end, end_since)
        # A status without translation may be final. It is if an end is reported for an hour, or newer runs hide it for a day.
        long_over = end_since is not None and now - end_since >= HOUR
        if unknown and (long_over or (hidden is not None and now - hidden >= DAY)):
            if open_run is not None:
                self.close(open_run)
            self.give_up(seen, "its status is unknown")
        elif open_run is None:
            self.change(open=(*self.state.open, seen))
        else:
            self.change(open=tuple(seen if other is open_run else other for other in self.state.open))

    def _bound_open(self) -> None:
        """Give up the oldest hidden runs if more than `OPEN` runs are open."""
        if len(self.state.open) <= OPEN:
            return
        for run in self.state.hidden[:-OPEN]:
            self.close(run)
            self.give_up(run, "too many runs are open")

    def close(self, run: OpenRun) -> None:
        """Remove an open run."""
        self.change(open=tuple(other for other in self.state.open if other.id != run.id))

    def _apply_end(self, run: Run, number: int, *, reopened: bool) -> None:
        """Count the end of a run, unless the end is known. `reopened`: the run was accounted, then seen unfinished again."""
        known = self._find_ended(run.id)
        counted = True
        in_counters = run.id not in self.state.missed if known is None else known.counted
        if known is None:
            counted = in_counters
            if counted:
                self._events.append(Event(kind=EventKind.RETRIED if reopened else EventKind.ENDED, run=run))
        elif _is_no_news(known, run, reopened=reopened):
            return
        elif reopened or _is_later(run.end, known.end):
            self._events.append(Event(kind=EventKind.RETRIED, run=run))
        else:
            # A correction, such as a failed run that is marked as ignored.
            counted = False
        if counted and run.status is Status.SUCCESS and has_known_order(self.state, number):
            ended = streak_ended_by(self.state, number)
            if not ended.known or (
                known is None and any(gap.first < number for gap in self.state.missing_numbers)
            ):
                # An earlier run that is unknown may have ended the streak, or begun it.
                self.change(recoveries=tuple(sorted({*self.state.recoveries, number})))
                waiting = {failed.number for failed in self.state.failed_before}
                if known is not None and known.status is Status.FAILED and number not in waiting:
                    self.change(failed_before=(*self.state.failed_before, known))
            else:
                self._events += recovery(ended, run.end)
        self.state = with_ended(self.state, run, number, counted=in_counters)

    # Missing numbers

    def _add_missing(self, gap: Gap) -> None:
        gaps = (*self.state.missing_numbers, gap)
        self.change(missing_numbers=tuple(sorted(gaps, key=lambda one: one.first)))

    def _is_claimable(self, number: int) -> bool:
        """Return whether to account a run that appears with this number: the number is missing, or seemed not to exist."""
        if gap_with(self.state.missing_numbers, number) is not None:
            return True
        gap = gap_with(self.state.nonexistent, number)
        return gap is not None and (gap.missed or self._now - gap.since <= WEEK)

    def _claim(self, run: Run, number: int) -> None:
        """Record that a number has a run. If the number was counted as missed, the run is not counted again."""
        if (gap := gap_with(self.state.missing_numbers, number)) is not None:
            self.change(missing_numbers=_without(self.state.missing_numbers, gap, number))
        if (gap := gap_with(self.state.nonexistent, number)) is not None:
            self.change(nonexistent=_without(self.state.nonexistent, gap, number))
            if gap.missed:
                self.change(missed=(run.id, *self.state.missed)[:KEPT])

    def mark_absent(self) -> None:
        """Record which numbers a complete reading lacks. Those that an earlier reading lacked as well do not exist.

        One reading is not enough: some providers give a number before the run is in the list.
        """
        now, gaps = self._now, self.state.missing_numbers
        absent_twice = [gap for gap in gaps if gap.absent is not None and now - gap.absent >= APART]
        self.change(
            missing_numbers=tuple(
                gap if gap.absent is not None else msgspec.structs.replace(gap, absent=now)
                for gap in gaps
                if gap not in absent_twice
            )
        )
        self._add_nonexistent(msgspec.structs.replace(gap, since=now) for gap in absent_twice)

    def _add_nonexistent(self, gaps: Iterable[Gap]) -> None:
        self.change(nonexistent=(*self.state.nonexistent, *gaps)[-NONEXISTENT:])

    # Missed runs

    def give_up_missing(self, hopeless: Callable[[Gap], bool], why: str) -> None:
        """Give up the gaps for which `hopeless` returns True: their runs are missed."""
        gone = [gap for gap in self.state.missing_numbers if hopeless(gap)]
        if not gone:
            return
        self._events.append(Event(kind=EventKind.MISSED, runs=sum(gap.size for gap in gone), why=why))
        self.change(missing_numbers=tuple(gap for gap in self.state.missing_numbers if gap not in gone))
        # For the streak, the run list is read further back to find them.
        self._add_nonexistent(
            msgspec.structs.replace(gap, since=self._now, absent=None, missed=True) for gap in gone
        )

    def give_up_unread(self) -> None:
        """Give up the gaps for which the run list could not be read completely for a day."""
        self.give_up_missing(
            lambda gap: self._now - max(gap.since, gap.absent or 0.0) >= DAY,
            "the run list could not be read for a day",
        )

    def give_up(self, run: OpenRun, why: str) -> None:
        """Give up an open run. It is missed, unless it was accounted before."""
        if not run.reopened:
            self._events.append(Event(kind=EventKind.MISSED, why=why))
            self.change(missed=(run.id, *self.state.missed)[:KEPT])


def _without(gaps: Sequence[Gap], gap: Gap, number: int) -> tuple[Gap, ...]:
    return tuple(part for one in gaps for part in (one.without(number) if one is gap else (one,)))


def _is_no_news(known: EndedRun, run: Run, *, reopened: bool) -> bool:
    """Return whether a run's end is the known one, or earlier than that, from an older response."""
    if (known.status, known.end) == (run.status, run.end):
        return known.end is not None or not reopened
    return _is_later(known.end, run.end)


def _is_later(end: float | None, other: float | None) -> bool:
    """Return whether an end is at least a second after another one; False if either is unknown."""
    return end is not None and other is not None and end >= other + 1
