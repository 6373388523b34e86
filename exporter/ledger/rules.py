"""Every run accounted exactly once: a pure function from what was known and what was seen to what is known and counted.

It covers the runs that are seen as a pipeline's latest. One that a newer run hides before its end was seen is to be
looked up; runs between two that were seen are known only by the gap that they leave. The rules, each at its place below:

- Order: an answer asked for before the one last applied teaches nothing.
- First sight: the run found first lies outside, unless it is seen under way; with it the numbering begins. A pipeline
  that had no run then begins at 0.
- Once: a run is counted when it is first seen final.
- Retry: a counted run that went on and ended again, or ended a second later than known, is counted as a retry only.
- Hidden: a run under way that another one follows stays open until it is looked up; it is missed if the provider no
  longer knows it.
- Gap: numbers that were jumped over are missed.
- Back: a lower number is believed when two answers in a row agree, since an answer can be stale. Under a known id it
  means that newer runs were deleted. Under an unknown one numbering began anew; then a number that bore another id
  needs no second answer.
"""

from enum import StrEnum

import msgspec

from exporter.model import Run, Status

HIDDEN = 20
"""Hidden runs kept to be looked up; beyond them the oldest is missed."""

KEPT = 20
"""Ended runs kept one by one, newest first; older ones live on only in what was carried from them."""


class Ended(msgspec.Struct, frozen=True):
    """A run that ended, as it ended last."""

    id: str
    number: int
    status: Status
    end: float | None


class Active(msgspec.Struct, frozen=True):
    """A run under way."""

    id: str
    number: int
    start: float | None
    reopened: bool
    """Whether it was accounted before: it had ended, so that its next end is a retry's, or was given up."""


class Series(msgspec.Struct, frozen=True):
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


class State(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of a pipeline's runs. Numbers are those of its present epoch."""

    asked: float
    """When the last answer applied was asked for, by the monotonic clock."""
    answered: float
    """When the last answer came that fitted what was known, by the answer's own clock."""
    high: int = 0
    """The greatest number seen; where the provider gives none, how many runs were."""
    numbered: bool = True
    """Whether `high` is the provider's number, so that a greater one tells of a gap."""
    active: Active | None = None
    """The run under way, if the latest is."""
    hidden: tuple[Active, ...] = ()
    """Runs under way when last seen that are no longer the latest, oldest first: to be looked up."""
    ended: tuple[Ended, ...] = ()
    """The newest ended runs, by falling number."""
    carried: Series = Series()
    """What the ended runs amount to that are no longer kept."""
    series: Series = Series()
    """What all ended runs amount to."""
    finished: Run | None = None
    """The ended run with the greatest number, as it ended, without its stages."""
    missed: tuple[str, ...] = ()
    """The ids of runs that were given up, newest first: they are never counted later."""
    strange: str = ""
    """The id of the run under a lower number in the last answer, if there was one: twice is believed."""
    doubtful: bool = False
    """Whether the last answer was not believed, and so taught nothing."""


class Count(StrEnum):
    """What an event is counted as."""

    ENDED = "ended"
    RETRIED = "retried"
    MISSED = "missed"
    RECOVERED = "recovered"


class Event(msgspec.Struct, frozen=True, kw_only=True):
    """Something to count."""

    count: Count
    run: Run | None = None
    """The run that ended, or ended again."""
    runs: int = 1
    """How many runs were missed."""
    seconds: float = 0.0
    """How long it had been broken before it recovered."""


def account(
    state: State | None, run: Run | None, *, asked: float, now: float
) -> tuple[State, tuple[Event, ...]]:
    """Apply one successful answer about a pipeline: its latest run, or that it has none.

    `asked` is when the answer's request was sent (monotonic seconds), `now` the answer's own clock (epoch seconds).
    Returns what is known now and what to count.
    """
    if state is None:
        return _first_sight(State(asked=asked, answered=now), run), ()
    if asked < state.asked:
        return state, ()
    if run is None:
        return msgspec.structs.replace(state, asked=asked, answered=now, strange="", doubtful=False), ()
    run = _same_run(state, run)
    number = _number(state, run)
    known = _find(state, run.id)
    familiar = known is not None or run.id in state.missed or _open(state, run.id) is not None
    events: list[Event] = []
    if number < state.high or (number == state.high and not familiar):
        bore = {state.high, *(one.number for one in state.ended), *(one.number for one in _under_way(state))}
        reused = not familiar and number in bore
        if state.strange != run.id and not reused:
            return msgspec.structs.replace(state, asked=asked, strange=run.id, doubtful=True), ()
        if not familiar:
            anew = state.answered
            state = _give_up(_leave(state, run, events), events)
            state = msgspec.structs.replace(
                state,
                asked=asked,
                answered=now,
                high=number - 1,
                ended=(),
                missed=(),
                carried=state.series,
                finished=None,
                strange="",
                doubtful=False,
            )
            if run.start is None or run.start <= anew:
                return _first_sight(state, run), tuple(events)
    # Once believed, a lower number stays so until another run is shown: no end may hide behind a new doubt.
    believed = run.id if number < state.high else ""
    state = msgspec.structs.replace(state, asked=asked, answered=now, strange=believed, doubtful=False)
    state = _leave(state, run, events)
    if number > state.high:
        if state.numbered and number > state.high + 1:
            events.append(Event(count=Count.MISSED, runs=number - state.high - 1))
        state = msgspec.structs.replace(state, high=number, numbered=state.numbered or run.number is not None)
    if run.status.final:
        reopened = state.active is not None and state.active.reopened
        state = _end(msgspec.structs.replace(state, active=None), run, number, events, reopened=reopened)
    else:
        accounted = known is not None or run.id in state.missed
        active = Active(run.id, number, run.start, reopened=accounted)
        state = msgspec.structs.replace(state, active=active)
    return state, tuple(events)


def learn(state: State, identity: str, run: Run | None) -> tuple[State, tuple[Event, ...]]:
    """Apply what was looked up of a hidden run: how it is, or None if the provider no longer knows it."""
    hidden = next((one for one in state.hidden if one.id == identity), None)
    if hidden is None or (run is not None and not (run.status.final and run.id == identity)):
        return state, ()
    events: list[Event] = []
    state = msgspec.structs.replace(state, hidden=tuple(one for one in state.hidden if one is not hidden))
    if run is None:
        return _miss(state, hidden, events), tuple(events)
    return _end(state, run, hidden.number, events, reopened=hidden.reopened), tuple(events)


def _first_sight(state: State, run: Run | None) -> State:
    """The first answer, or the first of a new numbering: its run is counted only if its end is still to come."""
    if run is None:
        return state
    state = msgspec.structs.replace(state, high=run.number or state.high, numbered=run.number is not None)
    if run.status.final:
        return _note(state, run, state.high)
    return msgspec.structs.replace(state, active=Active(run.id, state.high, run.start, reopened=False))


def _leave(state: State, run: Run, events: list[Event]) -> State:
    """Hide the run under way if `run` is another; bring `run` back if it was hidden."""
    back = next((one for one in state.hidden if one.id == run.id), None)
    if back is None and (state.active is None or state.active.id == run.id):
        return state
    hidden = [one for one in (*state.hidden, state.active) if one is not None and one.id != run.id]
    active = back or (state.active if state.active and state.active.id == run.id else None)
    state = msgspec.structs.replace(state, active=active, hidden=tuple(hidden[-HIDDEN:]))
    for one in hidden[:-HIDDEN]:
        state = _miss(state, one, events)
    return state


def _give_up(state: State, events: list[Event]) -> State:
    """Look for no hidden run any more."""
    for one in state.hidden:
        state = _miss(state, one, events)
    return msgspec.structs.replace(state, hidden=())


def _miss(state: State, gone: Active, events: list[Event]) -> State:
    """Miss a run whose end can no longer be learnt; one that was accounted before is not missed."""
    if gone.reopened:
        return state
    events.append(Event(count=Count.MISSED))
    return msgspec.structs.replace(state, missed=(gone.id, *state.missed)[:KEPT])


def _same_run(state: State, run: Run) -> Run:
    """The run under the id by which it is known, where the provider gives its id at one time and not at another."""
    under_way = [(one.id, one.number) for one in (*state.hidden, state.active) if one is not None]
    for identity, number in (*((one.id, one.number) for one in state.ended), *under_way):
        if run.number == number and run.nameless != identity.startswith("#"):
            return msgspec.structs.replace(run, id=identity)
    return run


def _number(state: State, run: Run) -> int:
    """A run's place in the order; one without a number stands behind all that are known, and makes no gap."""
    if run.number is not None:
        return run.number
    known = _find(state, run.id) or _open(state, run.id)
    return known.number if known is not None else state.high + 1


def _find(state: State, identity: str) -> Ended | None:
    return next((ended for ended in state.ended if ended.id == identity), None)


def _under_way(state: State) -> tuple[Active, ...]:
    return (*state.hidden, *((state.active,) if state.active else ()))


def _open(state: State, identity: str) -> Active | None:
    return next((one for one in _under_way(state) if one.id == identity), None)


def _end(state: State, run: Run, number: int, events: list[Event], *, reopened: bool) -> State:
    known = _find(state, run.id)
    counted = True
    if known is None:
        counted = run.id not in state.missed
        if counted:
            events.append(Event(count=Count.RETRIED if reopened else Count.ENDED, run=run))
        if len(state.ended) >= KEPT and number < state.ended[-1].number:
            # Learnt so late that its place among those that are no longer kept is lost.
            return state
    elif reopened or _later(known.end, run.end):
        events.append(Event(count=Count.RETRIED, run=run))
    elif (known.status, known.end) == (run.status, run.end):
        return state
    else:
        counted = False
    broken = _broken(state, number)
    if counted and run.status is Status.SUCCESS and broken.failures:
        since = broken.broken_since
        seconds = max(0.0, run.end - since) if run.end is not None and since is not None else 0.0
        events.append(Event(count=Count.RECOVERED, seconds=seconds))
    return _note(state, run, number)


def _broken(state: State, number: int) -> Series:
    """The failures that a success at a number ends; none if a later success was counted as ending them already."""
    series = state.carried
    for run in reversed(state.ended):
        if run.number <= number:
            series = series.after(run)
        elif run.status is Status.FAILED:
            break
        elif run.status is Status.SUCCESS:
            return Series()
    return series


def _later(known: float | None, now: float | None) -> bool:
    """Whether an end moved: an end that was absent and appears did not."""
    return known is not None and now is not None and now >= known + 1


def _note(state: State, run: Run, number: int) -> State:
    """Keep how a run ended."""
    ended = Ended(run.id, number, run.status, run.end)
    rest = [other for other in state.ended if other.id != run.id]
    newest = sorted([*rest, ended], key=lambda one: one.number, reverse=True)
    carried = state.carried
    for old in reversed(newest[KEPT:]):
        carried = carried.after(old)
    finished = state.finished
    if newest[0] is ended:
        finished = msgspec.structs.replace(run, stages=())
    series = carried
    for kept in reversed(newest[:KEPT]):
        series = series.after(kept)
    return msgspec.structs.replace(
        state, ended=tuple(newest[:KEPT]), carried=carried, series=series, finished=finished
    )
