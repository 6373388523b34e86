"""Ended runs in order of number: streaks of failures, and the recoveries that end them."""

import msgspec

from exporter.core.model import Run, Status, failed_stages
from exporter.tracking.ledger.state import EndedRun, Event, EventKind, LedgerState, Streak

KEPT = 20
"""Ended runs kept one by one; of older ones only their streak is kept."""

KEPT_WHILE_MISSING = 1000
"""Ended runs kept while a lower number is missing, so that its run can still be put in order."""


def has_known_order(state: LedgerState, number: int) -> bool:
    """Return whether a run with this number can still be put in order among the ended ones."""
    return number > state.carried_to


def with_ended(state: LedgerState, run: Run, number: int) -> LedgerState:
    """Return the state with a run that ended, or ended again."""
    if not has_known_order(state, number):
        return state
    ended = EndedRun(run.id, number, run.status, run.end)
    others = [other for other in state.ended if other.id != run.id]
    newest_first = sorted([*others, ended], key=lambda one: one.number, reverse=True)
    streak = state.carried_streak
    for one in reversed(newest_first):
        streak = streak.after(one)
    # The latest finished run has the greatest number, whichever ended last.
    finished = (
        msgspec.structs.replace(run, stages=failed_stages(run))
        if newest_first[0] is ended
        else state.finished
    )
    return state.changed(ended=tuple(newest_first), streak=streak, finished=finished)


def without_old(state: LedgerState) -> LedgerState:
    """Return the state with no more ended runs than needed; the streak of the others is carried."""
    if len(state.ended) <= KEPT:
        return state
    ended = list(state.ended)
    lowest = state.missing_numbers[0].first if state.missing_numbers else None
    carried_streak, carried_to = state.carried_streak, state.carried_to
    while len(ended) > KEPT and (
        lowest is None or ended[-1].number < lowest or len(ended) > KEPT_WHILE_MISSING
    ):
        carried_to = ended[-1].number
        carried_streak = carried_streak.after(ended.pop())
    return state.changed(ended=tuple(ended), carried_streak=carried_streak, carried_to=carried_to)


def streak_ended_by(state: LedgerState, number: int) -> Streak:
    """Return the streak that a success with this number ends; an empty one if a later success was counted as ending it."""
    streak = state.carried_streak
    for run in reversed(state.ended):
        if run.number <= number:
            streak = streak.after(run)
        elif run.status is Status.FAILED or run.number in state.recoveries:
            break
        elif run.status is Status.SUCCESS:
            return Streak()
    return streak


def recovery(streak: Streak, end: float | None) -> list[Event]:
    """Return the recovery by a success that ended at `end`, if it ends a streak of failures."""
    if not streak.failures:
        return []
    since = streak.broken_since
    seconds = max(0.0, end - since) if end is not None and since is not None else 0.0
    return [Event(kind=EventKind.RECOVERED, seconds=seconds)]


def with_settled_recoveries(state: LedgerState) -> tuple[LedgerState, list[Event]]:
    """Count the recoveries that waited for gaps before them to be filled."""
    events: list[Event] = []
    for number in state.recoveries:
        if any(gap.first < number for gap in state.missing_numbers):
            break
        state = state.changed(recoveries=tuple(other for other in state.recoveries if other != number))
        run = next((one for one in state.ended if one.number == number), None)
        before = state.carried_streak
        for one in reversed(state.ended):
            if one.number < number:
                before = before.after(one)
        if run is not None and run.status is Status.SUCCESS:
            events += recovery(before, run.end)
    return state, events
