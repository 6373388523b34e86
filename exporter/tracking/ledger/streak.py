"""Ended runs in order of number: streaks of failures, and the recoveries that end them."""

import msgspec

from exporter.core.model import Run, Status, failed_stages
from exporter.tracking.ledger.state import EndedRun, Event, EventKind, Extent, LedgerState, Streak

KEPT = 20
"""Number of ended runs to keep; of older ones only their streak is kept."""

KEPT_WHILE_MISSING = 1000
"""Maximum number of ended runs to keep while a run with a lower number may appear, so that it can be put in order."""


def has_known_order(state: LedgerState, number: int) -> bool:
    """Return whether a run with this number can still be put in order among the ended ones."""
    return number > state.carried_to


def with_ended(state: LedgerState, run: Run, number: int, *, counted: bool) -> LedgerState:
    """Return the state with a run that ended, or ended again. `counted`: whether its first end was counted."""
    ended = EndedRun.of(run, number, counted=counted)
    if not has_known_order(state, number):
        # Only the run list shows where it belongs.
        changes_streak = run.status in {Status.SUCCESS, Status.FAILED}
        return with_streak(state.changed(carried_streak=Streak())) if changes_streak else state
    others = [other for other in state.ended if other.id != run.id]
    newest_first = sorted([*others, ended], key=lambda one: one.number, reverse=True)
    # The latest finished run has the greatest number, whichever ended last.
    finished = (
        msgspec.structs.replace(run, stages=failed_stages(run))
        if newest_first[0] is ended
        else state.finished
    )
    return with_streak(state.changed(ended=tuple(newest_first), finished=finished))


def with_streak(state: LedgerState) -> LedgerState:
    """Return the state with its streak computed from its ended runs."""
    return state.changed(streak=streak_before(state, None))


def streak_before(state: LedgerState, number: int | None) -> Streak:
    """Return the streak of the ended runs with numbers below `number`, or of all ended runs if it is None."""
    streak = state.carried_streak
    for run in reversed(state.ended):
        if run.number >= state.ordered_from and (number is None or run.number < number):
            streak = streak.after(run)
    return streak


def without_old(state: LedgerState) -> LedgerState:
    """Return the state with no more ended runs than needed; the others are added to the carried streak."""
    if len(state.ended) <= KEPT:
        return state
    ended = list(state.ended)
    needed = [*state.recoveries[:1], *(gap.first for gap in state.missing_numbers[:1])]
    lowest = min(needed, default=None)
    carried_streak, carried_to = state.carried_streak, state.carried_to
    while len(ended) > KEPT and (
        lowest is None or ended[-1].number < lowest or len(ended) > KEPT_WHILE_MISSING
    ):
        oldest = ended.pop()
        carried_to = oldest.number
        if oldest.number >= state.ordered_from:
            carried_streak = carried_streak.after(oldest)
    return state.changed(ended=tuple(ended), carried_streak=carried_streak, carried_to=carried_to)


# What is known of the streak


def last_success(state: LedgerState) -> int:
    """Return the greatest number of the successes that are kept; -1 without one."""
    return next(
        (
            run.number
            for run in state.ended
            if run.status is Status.SUCCESS and run.number >= state.ordered_from
        ),
        -1,
    )


def known_streak(state: LedgerState) -> Streak | None:
    """Return the streak; None while unknown runs may change it."""
    if not state.streak.known or (state.leap is not None and state.leap.status.final):
        return None
    if not state.missing_numbers and not state.nonexistent:
        return state.streak
    since = last_success(state)
    gaps = (*state.missing_numbers, *(gap for gap in state.nonexistent if gap.missed))
    return None if any(gap.last > since and gap.absent is None for gap in gaps) else state.streak


def needs_read_back(state: LedgerState) -> bool:
    """Return whether the run list has to be read back to determine the streak, or one that a success has ended since."""
    if not state.numbered or not state.high:
        return False
    if not state.streak.known or waiting_recovery(state) is not None:
        return True
    if not state.nonexistent and not state.unfinished:
        return False
    since = last_success(state)
    return any(number > since for number in state.unfinished) or any(
        gap.missed and gap.absent is None and gap.last > since for gap in state.nonexistent
    )


def may_change_streak(state: LedgerState, number: int) -> bool:
    """Return whether a run that was not known to exist would change the known streak, if it has this number."""
    return (
        state.streak.extent is Extent.WHOLE
        and has_known_order(state, number)
        and last_success(state) < number < state.high
        and number not in state.unfinished
    )


def waiting_recovery(state: LedgerState) -> int | None:
    """Return the number of the first success before which the streak has to be read back, or None."""
    return next((number for number in state.recoveries if not streak_before(state, number).known), None)


# Recoveries


def streak_ended_by(state: LedgerState, number: int) -> Streak:
    """Return the streak that a success with this number ends; an empty one if a later success was counted as ending it."""
    streak = state.carried_streak
    for run in reversed(state.ended):
        if run.number < state.ordered_from:
            continue
        if run.number <= number:
            streak = streak.after(run)
        elif run.status is Status.FAILED or run.number in state.recoveries:
            break
        elif run.status is Status.SUCCESS:
            return Streak(extent=Extent.WHOLE)
    return streak


def recovery(streak: Streak, end: float | None) -> list[Event]:
    """Return the recovery event of a success that ended at `end`, if it ends a streak whose first failure is known."""
    if not streak.failures or streak.extent is Extent.LIMITED:
        return []
    since = streak.broken_since
    seconds = max(0.0, end - since) if end is not None and since is not None else 0.0
    return [Event(kind=EventKind.RECOVERED, seconds=seconds)]


def with_settled_recoveries(state: LedgerState) -> tuple[LedgerState, list[Event]]:
    """Settle the recoveries before which all runs are known by now; return the state without them, and their events."""
    events: list[Event] = []
    for number in state.recoveries:
        before = streak_before(state, number)
        if not before.known or any(gap.first < number for gap in state.missing_numbers):
            continue
        for failed in state.failed_before:
            before = before.after(failed) if failed.number == number else before
        state = state.changed(
            recoveries=tuple(other for other in state.recoveries if other != number),
            failed_before=tuple(failed for failed in state.failed_before if failed.number != number),
        )
        run = next((one for one in state.ended if one.number == number), None)
        if run is not None and run.status is Status.SUCCESS:
            events += recovery(before, run.end)
    return state, events
