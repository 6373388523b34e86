"""The rules of accounting, each in one place.

- Order: an answer overtaken by another is not handed in here; polls of a pipeline do not overlap.
- First sight: the run found first lies outside, unless it is seen under way (`first_sight`). Then the run list is asked
  once for others that were under way. A pipeline that had no run begins at 0.
- Gap: numbers that were jumped over are wanted (`_advance`).
- Known id: a run keeps the number by which it is known; another number is ignored and reported (`same_run`).
- Leap: a number more than `LEAP` above all others raises nothing until a row of the run list or the next answer repeats
  it (`show`, `find`). If the next answer is back in the old range, the number was a misreading (`_enter`).
- Filling: the run list is read until it has told all that is wanted, or far enough back (`Search`); nothing is concluded
  from its order.
- Absence: what two complete readings lack is void, and can be claimed for a week (`_absent`, `_claim`); what is known to
  have existed and can no longer be learnt is missed, for good (`_miss`, `unread`).
- Once: a run is counted when it is first seen final (`_end`).
- Retry: a counted run that went on and ended again, or ended a second later than known, is counted as a retry only. The
  same end again, or an earlier one, is an answer from before (`_end`).
- Latest finished is the greatest number that ended (`_note`).
- Back: a lower number is believed when two answers in a row agree. Under a known id it means that newer runs were
  deleted; under an unknown one numbering began anew; then a number that bore another id needs no second answer
  (`back`).
- Restart: what was stored is what was known; the same rules apply.

"Now" is everywhere the answer's own clock, in epoch seconds.
"""

from collections.abc import Callable, Iterable, Sequence
from enum import Enum, auto

import msgspec

from exporter.ledger.state import Count, Ended, Event, Gap, Open, Series, State, Survey
from exporter.model import Run, Status

KEPT = 20
"""Ended runs kept one by one; older ones live on only in what was carried from them."""

KEPT_WHILE_WANTED = 1000
"""Ended runs kept while one with a lower number is wanted, since its place is then still known."""

OPEN = 100
"""Open runs kept to be looked up; beyond them the oldest is missed."""

VOID = 50
"""Gaps kept of numbers that no run has."""

RUNS = 1000
"""Runs of a list that are read, at most."""

LEAP = 100
"""A number that is further above the greatest known one is believed only when it is repeated."""

HOUR = 3600.0
DAY = 86_400.0
WEEK = 7 * DAY

APART = 600.0
"""Seconds between two complete readings of the run list that both must lack a number."""


class Outcome(msgspec.Struct, frozen=True):
    """What an answer taught."""

    state: State
    """The same object if nothing."""
    events: tuple[Event, ...] = ()
    believed: bool = True
    """Whether the answer was believed; one that was not says nothing of which run is the latest."""


class Reach(Enum):
    """How far back a reading of the run list got."""

    COMPLETE = auto()
    """As far as what is wanted can lie."""
    BOUND = auto()
    """As far as is ever read: what lies before is given up."""
    CUT = auto()
    """Less far: what was not told may be there all the same."""


class Search(msgspec.Struct, frozen=True):
    """What the run list is to be read for."""

    gaps: tuple[Gap, ...]
    floor: float | None
    """Nothing that is wanted started before; None if that is not known. Epoch seconds."""
    bound: float
    """What started before is given up. Epoch seconds."""
    began: float = 0.0
    """What started before belongs to an older numbering. Epoch seconds."""

    @property
    def size(self) -> int:
        """How many numbers are wanted."""
        return sum(gap.size for gap in self.gaps)

    def found(self, runs: Iterable[Run]) -> bool:
        """Whether these runs are all that is wanted."""
        numbers = {
            run.number
            for run in runs
            if run.number is not None and (run.start is None or run.start >= self.began)
        }
        return sum(_within(self.gaps, number) is not None for number in numbers) == self.size

    def reach(self, page: Sequence[Run]) -> Reach | None:
        """How far a reading has got with this page, where the newest start comes first; None if it is to go on."""
        newest = max((run.start for run in page if run.start is not None), default=None)
        if newest is None:
            return None
        if self.floor is not None and newest < self.floor:
            return Reach.COMPLETE
        return Reach.BOUND if newest < self.bound else None


def account(state: State | None, run: Run | None, *, now: float, answered: float) -> Outcome:
    """Apply one successful answer about a pipeline: its latest run, or that it has none.

    `answered` is when the last answer came that was believed, by its own clock.
    """
    known = state or State()
    # A leap in doubt, or an answer without a run, does not say that no run began before it.
    books = _Books(known, now, watched=answered if known.latest and known.leap is None else None)
    if state is None:
        books.first_sight(run)
    elif run is None:
        books.change(strange="")
        books.turn_to("")
    else:
        run = books.same_run(run)
        if not books.back(run, answered):
            # Whether it is the latest is in doubt, not how it is.
            books.see_known(run)
            return books.outcome(believed=False)
        books.show(run)
    return books.outcome()


def learn(state: State, identity: str, run: Run | None, *, now: float) -> Outcome:
    """Apply what was looked up of an open run: how it is, or None if the provider no longer knows it."""
    books = _Books(state, now)
    one = books.find_open(identity)
    if one is not None and run is None:
        books.close(one)
        books.miss(one, "the provider no longer knows it")
    elif one is not None and run is not None and run.id == identity:
        books.see(books.same_run(run), one.number)
    return books.outcome()


def search(state: State, *, now: float) -> Search:
    """What to read the run list for."""
    starts = [gap.after for gap in state.wanted]
    known = [start - HOUR for start in starts if start is not None]
    floor = min(known) if known and len(known) == len(starts) else None
    if state.began:
        floor = max(floor or 0.0, state.began)
    return Search(state.wanted, floor, now - WEEK, state.began)


def fill(
    state: State, runs: Iterable[Run], reach: Reach, *, now: float, same_answer: bool = False
) -> Outcome:
    """Apply what a reading of the run list told.

    `same_answer`: the answer also told the latest run, so that it confirms no leap.
    """
    books = _Books(state, now)
    # In order of number, whatever the list's: a success ends the failures before it.
    told = sorted(runs, key=lambda run: (run.number or 0, run.start or 0.0))
    for run in told:
        books.find(run, same_answer=same_answer)
    books.change(survey=None)
    if not books.tells_latest(told):
        # Whoever may not see the runs gets an empty list, and no error.
        reach = Reach.CUT
    if reach is Reach.COMPLETE:
        books.absent()
    elif reach is Reach.BOUND:
        # Numbers whose runs could only be among those that were read are not missed: they do not exist.
        oldest = min((run.start for run in told if run.start is not None), default=now)
        books.miss_wanted(
            lambda gap: gap.watched is None or oldest >= gap.watched - HOUR,
            "older than a week or than a thousand runs",
        )
        books.absent()
    else:
        books.miss_unread()
    return books.outcome()


def unread(state: State, *, now: float) -> Outcome:
    """The run list could not be read: what it could not be read for since a day is missed."""
    books = _Books(state, now)
    if state.survey is not None and now - state.survey.since >= DAY:
        books.change(survey=None)
    books.miss_unread()
    return books.outcome()


class _Books:
    """A pipeline's state while one answer is entered, and what is to be counted for it."""

    def __init__(self, state: State, now: float, *, watched: float | None = None) -> None:
        """`watched` is when the latest run was last seen to be the latest; newer ones began hardly earlier."""
        self.state = state
        self._now = now
        self._watched = watched
        self._events: list[Event] = []
        self._misnumbered: set[str] = set()

    def outcome(self, *, believed: bool = True) -> Outcome:
        """What the answer taught."""
        self._bound_open()
        self._recover()
        self._carry()
        return Outcome(self.state, tuple(self._events), believed)

    def change(self, **changes: object) -> None:
        """Set fields of the state; what is no change leaves the object as it is."""
        changed = {name: value for name, value in changes.items() if getattr(self.state, name) != value}
        if changed:
            self.state = msgspec.structs.replace(self.state, **changed)

    # Whose run it is

    def same_run(self, run: Run) -> Run:
        """The run under the id and the number by which it is known.

        The provider may give its id at one time and not at another; its number may be misreported.
        """
        same = self._find_ended(run.id) or self.find_open(run.id)
        if same is not None:
            # Before the provider's first number, ours is only a place in the order.
            if run.number in {None, same.number} or not self.state.numbered:
                return run
            self._note_misnumbered(run, same.number)
            return msgspec.structs.replace(run, number=same.number)
        known: tuple[Ended | Open, ...] = (*self.state.ended, *self.state.open)
        for one in known:
            if run.number == one.number and run.nameless != one.id.startswith("#"):
                return msgspec.structs.replace(run, id=one.id)
        return run

    def _note_misnumbered(self, run: Run, number: int | None) -> None:
        """Report once for each answer that a run was reported with a number that is not its own."""
        if run.id not in self._misnumbered:
            self._misnumbered.add(run.id)
            self._events.append(Event(count=Count.MISNUMBERED, run=run, number=number))

    def find_open(self, identity: str) -> Open | None:
        """The open run of that id."""
        return next((one for one in self.state.open if one.id == identity), None)

    def _find_ended(self, identity: str) -> Ended | None:
        return next((one for one in self.state.ended if one.id == identity), None)

    def _knows(self, identity: str) -> bool:
        return (
            self.find_open(identity) is not None
            or self._find_ended(identity) is not None
            or identity in self.state.missed
        )

    def _number(self, run: Run) -> int:
        """A run's place in the order; one without a number stands behind all that are known, and makes no gap."""
        if run.number is not None:
            return run.number
        known = self._find_ended(run.id) or self.find_open(run.id)
        return known.number if known is not None else self.state.high + 1

    # First sight

    def first_sight(self, run: Run | None) -> None:
        """The first answer, or the first of a new epoch: its run is counted only if its end is still to come."""
        if run is None:
            return
        self.change(
            high=run.number or self.state.high,
            high_start=run.start,
            numbered=run.number is not None,
            latest=run.id,
        )
        if run.status.final:
            self._note(run, self.state.high)
        else:
            self.see(run, self.state.high)
            self.change(survey=Survey(run.number, self._now) if run.number is not None else None)

    # The latest run

    def back(self, run: Run, answered: float) -> bool:
        """Whether the answer is believed; if it tells that numbering began anew, an epoch begins."""
        number, state = self._number(run), self.state
        known = self._knows(run.id)
        # What began before numbering did is of an older epoch, told by an answer from before.
        elder = not known and run.start is not None and run.start < state.began
        if not elder and (
            number > state.high or (number == state.high and known) or (not known and self._claimable(number))
        ):
            return True
        bore = {state.high, *(one.number for one in state.ended), *(one.number for one in state.open)}
        reused = not known and not elder and number in bore
        if state.strange != run.id and not reused:
            self.change(strange=run.id)
            return False
        if not known:
            self._begin_epoch(run, number, answered)
        return True

    def _begin_epoch(self, run: Run, number: int, answered: float) -> None:
        why = "numbering began anew"
        for one in self.state.open:
            self.miss(one, why)
        self.miss_wanted(lambda _: True, why)
        begins_here = run.start is not None and run.start > answered
        self.change(
            high=number - 1,
            high_start=None,
            # What started before is of the old numbering, or its place in the new one is not known.
            began=answered,
            latest="",
            open=(),
            void=(),
            ended=(),
            recoveries=(),
            carried=self.state.series,
            carried_to=-1,
            finished=None,
        )
        if not begins_here:
            self.first_sight(run)

    def show(self, run: Run) -> None:
        """Apply what the latest run shows."""
        number = self._number(run)
        if self._leaps(number):
            self.change(strange="", leap=run)
            self.turn_to(run.id)
            return
        # Once believed, a lower number stays so until another run is shown: no end may hide behind a new doubt.
        self.change(strange=run.id if number < self.state.high else "")
        self.turn_to(run.id)
        self._enter(run, number)

    def turn_to(self, identity: str) -> None:
        """The latest run is this one: others that are open hide from now on."""
        if identity == self.state.latest:
            return
        self.change(
            latest=identity,
            open=tuple(
                msgspec.structs.replace(one, hidden=None if one.id == identity else one.hidden or self._now)
                for one in self.state.open
            ),
        )
        for one in self.state.hidden:
            # Nobody can be asked about a run without an id, but the list may tell its number.
            if one.id.startswith("#"):
                self.close(one)
                if not one.reopened:
                    self._want(Gap(one.number, one.number, self._now, one.start))

    def _leaps(self, number: int) -> bool:
        """Whether a number is too far above all others to be believed, and was not reported before."""
        state = self.state
        if not state.numbered or number <= state.high + LEAP:
            return False
        # A run that began since has a number near it, and confirms it as well.
        return state.leap is None or abs(number - (state.leap.number or 0)) > LEAP

    def _enter(self, run: Run, number: int) -> None:
        """Account a run of a believed number, after the one whose number was in doubt until now."""
        leap, far = self.state.leap, number > self.state.high + LEAP
        self.change(leap=None)
        if leap is not None and leap.number is not None:
            alike = leap.number == number
            if leap.id == run.id or (alike and leap.nameless != run.nameless):
                if not alike:
                    self._note_misnumbered(leap, number)
                self._advance(run, number)
                # As it was then: it may have ended, and been retried since.
                self.see(msgspec.structs.replace(leap, id=run.id, number=number), number)
            elif far and not alike:
                self._advance(leap, leap.number)
                self.see(leap, leap.number)
            else:
                self._note_misnumbered(leap, None)
        self._advance(run, number)
        self.see(run, number)

    def _advance(self, run: Run, number: int) -> None:
        """Numbers between the greatest known and this one are wanted."""
        high = self.state.high
        if number <= high:
            return
        if self.state.numbered and number > high + 1:
            self._want(Gap(high + 1, number - 1, self._now, self.state.high_start, watched=self._watched))
        self.change(high=number, high_start=run.start, numbered=self.state.numbered or run.number is not None)

    # One run, however it was learnt

    def find(self, run: Run, *, same_answer: bool = False) -> None:
        """A row of the run list: of a run that is open, ended, wanted or new. `same_answer` as for `fill`."""
        if run.start is not None and run.start < self.state.began:
            return
        run = self.same_run(run)
        known = self._knows(run.id)
        if run.number is None and not known:
            return
        number = self._number(run)
        leap = self.state.leap
        far = self.state.numbered and number > self.state.high + LEAP
        if far and (same_answer or leap is None or self._leaps(number)):
            return
        if known or number > self.state.high or self._claimable(number):
            if far or (leap is not None and leap.id == run.id):
                self._enter(run, number)
            else:
                self._advance(run, number)
                self.see(run, number)
        elif self.state.survey is not None and number < self.state.survey.number:
            if run.status.final:
                self._note(run, number)
            else:
                self.see(run, number)

    def tells_latest(self, runs: Iterable[Run]) -> bool:
        """Whether the latest run is among these, as it is in any list that tells runs at all."""
        latest = self.state.latest
        return not latest or any(self.same_run(run).id == latest for run in runs)

    def see_known(self, run: Run) -> None:
        """How a run is, if it is one that is known."""
        if self._knows(run.id):
            self.see(run, self._number(run))

    def see(self, run: Run, number: int) -> None:
        """How a run is that is to be accounted for, or was."""
        one, ended = self.find_open(run.id), self._find_ended(run.id)
        if one is None and ended is None:
            self._claim(run, number)
        if run.status.final:
            if one is not None:
                self.close(one)
            self._end(run, number, reopened=one is not None and one.reopened)
            return
        missed = run.id in self.state.missed
        unknown = run.status is Status.UNKNOWN
        if missed and unknown:
            return
        now = self._now
        hidden = None if run.id == self.state.latest else (one.hidden if one is not None else None) or now
        end = run.end if unknown else None
        end_since = None
        if end is not None:
            end_since = one.end_since if one is not None and one.end == end else now
        reopened = one.reopened if one is not None else ended is not None or missed
        seen = Open(run.id, number, run.start, reopened, hidden, end, end_since)
        long_over = end_since is not None and now - end_since >= HOUR
        if unknown and (long_over or (hidden is not None and now - hidden >= DAY)):
            if one is not None:
                self.close(one)
            self.miss(seen, "its state has no translation")
        elif one is None:
            self.change(open=(*self.state.open, seen))
        else:
            self.change(open=tuple(seen if other is one else other for other in self.state.open))

    def _bound_open(self) -> None:
        """Keep no more open runs than can be looked up: the oldest is missed."""
        for one in self.state.hidden[:-OPEN]:
            self.close(one)
            self.miss(one, "too many runs are open")

    def close(self, one: Open) -> None:
        """A run is open no longer."""
        self.change(open=tuple(other for other in self.state.open if other.id != one.id))

    def _end(self, run: Run, number: int, *, reopened: bool) -> None:
        known = self._find_ended(run.id)
        counted = True
        if known is None:
            counted = run.id not in self.state.missed
            if counted:
                self._events.append(Event(count=Count.RETRIED if reopened else Count.ENDED, run=run))
        elif _told_before(known, run, reopened=reopened):
            return
        elif reopened or _later(known.end, run.end):
            self._events.append(Event(count=Count.RETRIED, run=run))
        else:
            counted = False
        if not self._has_place(number):
            return
        if counted and run.status is Status.SUCCESS:
            if known is None and any(gap.first < number for gap in self.state.wanted):
                self.change(recoveries=tuple(sorted({*self.state.recoveries, number})))
            else:
                self._recovered(self._broken(number), run.end)
        self._note(run, number)

    # Gaps

    def _want(self, gap: Gap) -> None:
        self.change(wanted=tuple(sorted((*self.state.wanted, gap), key=lambda one: one.first)))

    def _claimable(self, number: int) -> bool:
        if _within(self.state.wanted, number) is not None:
            return True
        gap = _within(self.state.void, number)
        return gap is not None and (gap.missed or self._now - gap.since <= WEEK)

    def _claim(self, run: Run, number: int) -> None:
        """A number has a run: it is wanted no longer, and void no longer."""
        if (gap := _within(self.state.wanted, number)) is not None:
            self.change(wanted=_without(self.state.wanted, gap, number))
        if (gap := _within(self.state.void, number)) is not None:
            self.change(void=_without(self.state.void, gap, number))
            if gap.missed:
                self.change(missed=(run.id, *self.state.missed)[:KEPT])

    def absent(self) -> None:
        """The run list was read completely: what it lacks now and lacked before is void."""
        now = self._now
        void = [gap for gap in self.state.wanted if gap.absent is not None and now - gap.absent >= APART]
        self.change(
            wanted=tuple(
                gap if gap.absent is not None else msgspec.structs.replace(gap, absent=now)
                for gap in self.state.wanted
                if gap not in void
            )
        )
        self._void(msgspec.structs.replace(gap, since=now) for gap in void)

    def _void(self, gaps: Iterable[Gap]) -> None:
        self.change(void=(*self.state.void, *gaps)[-VOID:])

    # What cannot be learnt

    def miss_wanted(self, hopeless: Callable[[Gap], bool], why: str) -> None:
        """Give up wanted numbers."""
        gone = [gap for gap in self.state.wanted if hopeless(gap)]
        if not gone:
            return
        self._events.append(Event(count=Count.MISSED, runs=sum(gap.size for gap in gone), why=why))
        self.change(wanted=tuple(gap for gap in self.state.wanted if gap not in gone))
        self._void(msgspec.structs.replace(gap, since=self._now, missed=True) for gap in gone)

    def miss_unread(self) -> None:
        """Give up what the run list was not read completely for since a day."""
        self.miss_wanted(
            lambda gap: self._now - max(gap.since, gap.absent or 0.0) >= DAY,
            "the run list could not be read for a day",
        )

    def miss(self, one: Open, why: str) -> None:
        """Give up an open run; one that was accounted before is not missed."""
        if not one.reopened:
            self._events.append(Event(count=Count.MISSED, why=why))
            self.change(missed=(one.id, *self.state.missed)[:KEPT])

    # What ended runs amount to

    def _has_place(self, number: int) -> bool:
        """Whether a run's place in the order is known: not among those that are no longer kept."""
        return number > self.state.carried_to

    def _note(self, run: Run, number: int) -> None:
        """Keep how a run ended."""
        if not self._has_place(number):
            return
        ended = Ended(run.id, number, run.status, run.end)
        rest = [other for other in self.state.ended if other.id != run.id]
        newest = sorted([*rest, ended], key=lambda one: one.number, reverse=True)
        series = self.state.carried
        for one in reversed(newest):
            series = series.after(one)
        finished = msgspec.structs.replace(run, stages=()) if newest[0] is ended else self.state.finished
        self.change(ended=tuple(newest), series=series, finished=finished)

    def _carry(self) -> None:
        """Keep no more ended runs than are needed."""
        ended = list(self.state.ended)
        lowest = self.state.wanted[0].first if self.state.wanted else None
        carried, carried_to = self.state.carried, self.state.carried_to
        while len(ended) > KEPT and (
            lowest is None or ended[-1].number < lowest or len(ended) > KEPT_WHILE_WANTED
        ):
            carried_to = ended[-1].number
            carried = carried.after(ended.pop())
        self.change(ended=tuple(ended), carried=carried, carried_to=carried_to)

    def _broken(self, number: int) -> Series:
        """The failures that a success at a number ends; none if a later success was counted as ending them already."""
        series = self.state.carried
        for run in reversed(self.state.ended):
            if run.number <= number:
                series = series.after(run)
            elif run.status is Status.FAILED or run.number in self.state.recoveries:
                break
            elif run.status is Status.SUCCESS:
                return Series()
        return series

    def _recovered(self, broken: Series, end: float | None) -> None:
        if not broken.failures:
            return
        since = broken.broken_since
        seconds = max(0.0, end - since) if end is not None and since is not None else 0.0
        self._events.append(Event(count=Count.RECOVERED, seconds=seconds))

    def _recover(self) -> None:
        """Count the recoveries that waited for gaps before them to be filled."""
        for number in self.state.recoveries:
            if any(gap.first < number for gap in self.state.wanted):
                break
            self.change(recoveries=tuple(other for other in self.state.recoveries if other != number))
            run = next((one for one in self.state.ended if one.number == number), None)
            before = self.state.carried
            for one in reversed(self.state.ended):
                if one.number < number:
                    before = before.after(one)
            if run is not None and run.status is Status.SUCCESS:
                self._recovered(before, run.end)


def _without(gaps: Sequence[Gap], gap: Gap, number: int) -> tuple[Gap, ...]:
    return tuple(part for one in gaps for part in (one.without(number) if one is gap else (one,)))


def _within(gaps: Iterable[Gap], number: int) -> Gap | None:
    return next((gap for gap in gaps if gap.first <= number <= gap.last), None)


def _told_before(known: Ended, run: Run, *, reopened: bool) -> bool:
    """Whether an end says nothing new: the same again, or one from before the end that is known."""
    if (known.status, known.end) == (run.status, run.end):
        return known.end is not None or not reopened
    return _later(run.end, known.end)


def _later(known: float | None, now: float | None) -> bool:
    """Whether an end moved: an end that was absent and appears did not."""
    return known is not None and now is not None and now >= known + 1
