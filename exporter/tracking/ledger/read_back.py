"""Determine the streak of failures by reading the run list back to the last success.

Runs that are read back are not counted. They only put runs in order, and show that there are no others between them.
"""

from collections.abc import Sequence

import msgspec

from exporter.core.model import Run, Status
from exporter.tracking.ledger.search import HOUR
from exporter.tracking.ledger.state import EndedRun, Extent, Gap, LedgerState, Streak
from exporter.tracking.ledger.streak import last_success, waiting_recovery, with_streak


class Coverage(msgspec.Struct, frozen=True):
    """Which runs are among the rows that were read."""

    complete: bool = False
    """Whether the rows include all runs of the pipeline."""
    since: float | None = None
    """The rows include all runs that started since then (Unix seconds); None if the order of the list proves nothing."""
    limited: bool = False
    """Whether a limit keeps the list from being read any further."""
    unclear: int = -1
    """Greatest number of a run whose status is unknown, -1 without one. Rows with lower numbers prove nothing."""


NOTHING = Coverage()
"""The rows prove nothing."""


class _Row(msgspec.Struct, frozen=True):
    """An ended run, with its place in the order of all runs."""

    numbering: int
    """How many times numbering started again after the run."""
    start: float | None
    run: EndedRun

    @property
    def place(self) -> tuple[int, int]:
        return -self.numbering, self.run.number


def read_back(state: LedgerState, rows: Sequence[Run], coverage: Coverage, now: float) -> LedgerState | None:
    """Return the state with the streak that these rows prove; None if they do not prove it.

    `rows` have the ids and numbers by which runs are known. `now` is in Unix seconds.
    """
    below = waiting_recovery(state)
    numbering = numberings(state, rows)
    ended = _ended(state, rows, numbering, coverage.unclear)
    before = [row for row in ended if row.numbering or below is None or row.run.number < below]
    success = next((row for row in reversed(before) if row.run.status is Status.SUCCESS), None)
    numbers = {run.number for run in rows if run.number is not None and not numbering[run.id]}
    top = state.high if below is None else below - 1
    complete = coverage.complete and coverage.unclear < 0
    if success is None:
        one_numbering = not any(row.numbering for row in before)
        if coverage.unclear < 0 and one_numbering:
            complete = complete or _has_all(state, numbers, 1, top)
        if not complete and not coverage.limited:
            return None
        base = Streak(extent=Extent.WHOLE if complete else Extent.LIMITED)
    elif not complete and not _is_last(state, success, numbers, top, coverage):
        return None
    else:
        base = Streak(extent=Extent.WHOLE if complete else Extent.PARTIAL)
    carried = state.carried_streak
    if complete or success is None or success.numbering or success.run.number <= state.carried_to:
        carried = base
        for row in before:
            if row.numbering or row.run.number <= state.carried_to:
                carried = carried.after(row.run)
    kept = [row.run for row in reversed(ended) if not row.numbering and row.run.number > state.carried_to]
    # Between the runs before the success there may be others.
    proven_from = 0
    if not complete and success is not None and not success.numbering:
        proven_from = min(success.run.number, *state.recoveries, state.high)
    newest = next((run for run in rows if kept and run.id == kept[0].id), None)
    if newest is not None and (state.finished is None or state.finished.id != newest.id):
        state = state.changed(finished=msgspec.structs.replace(newest, stages=()))
    state = with_streak(state.changed(ended=tuple(kept), carried_streak=carried, ordered_from=proven_from))
    since = last_success(state)
    known = {run.number for run in state.open}
    return state.changed(
        unfinished=tuple(
            sorted(
                run.number
                for run in rows
                if run.number is not None
                and not numbering[run.id]
                and not run.status.final
                and run.status is not Status.UNKNOWN
                and run.number not in known
                and since < run.number <= state.high
            )
        ),
        nonexistent=tuple(_checked(gap, now) if gap.missed else gap for gap in state.nonexistent),
    )


def _checked(gap: Gap, now: float) -> Gap:
    """Return `gap` with `now` recorded as the time when the run list lacked its runs, unless it has such a time."""
    return gap if gap.absent is not None else msgspec.structs.replace(gap, absent=now)


def numberings(state: LedgerState, rows: Sequence[Run]) -> dict[str, int]:
    """Return how many times numbering started again after each run, by id.

    Going back in time, an earlier numbering begins where a number occurs for a second time, or is above all known ones.
    """
    top = greatest_number(state, rows)
    found: dict[str, int] = {}
    seen: set[int] = set()
    numbering = 0
    for run in sorted(rows, key=lambda run: float("inf") if run.start is None else run.start, reverse=True):
        number = run.number
        if number is None:
            continue
        older = run.start is not None and run.start < state.epoch_start
        if number in seen or (numbering == 0 and (number > top or older)):
            numbering += 1
            seen = set()
        seen.add(number)
        found[run.id] = numbering
    return found


def greatest_number(state: LedgerState, rows: Sequence[Run]) -> int:
    """Return the greatest number of the present numbering, as far as rows show it.

    It is above that of the latest run if that one was given early: its number fills a hole among runs that began before.
    """
    starts = {run.number: run.start for run in rows}
    before, after = starts.get(state.high - 1), starts.get(state.high + 1)
    if len(starts) < len(rows) or before is None or after is None or before > after:
        return state.high
    top = state.high
    while top + 1 in starts:
        top += 1
    return top


def _ended(state: LedgerState, rows: Sequence[Run], numbering: dict[str, int], unclear: int) -> list[_Row]:
    """Return all ended runs, of the rows and of the state, from the oldest to the newest."""
    starts = {run.id: run.start for run in rows}
    found = {run.id: _Row(0, starts.get(run.id), run) for run in state.ended}
    for run in rows:
        if run.id in found or run.number is None or not run.status.final:
            continue
        if unclear < 0 or (not numbering[run.id] and run.number > unclear):
            ended = EndedRun.of(run, run.number, counted=False)
            found[run.id] = _Row(numbering[run.id], run.start, ended)
    return sorted(found.values(), key=lambda row: row.place)


def _is_last(state: LedgerState, success: _Row, numbers: set[int], top: int, coverage: Coverage) -> bool:
    """Return whether no other success can have a number from that of `success` to `top`."""
    if coverage.unclear >= 0 and (success.numbering or success.run.number < coverage.unclear):
        return False
    if coverage.limited or (not success.numbering and _has_all(state, numbers, success.run.number + 1, top)):
        return True
    # Run numbers do not rise strictly with start times: an hour is the allowance.
    return coverage.since is not None and success.start is not None and coverage.since <= success.start - HOUR


def _has_all(state: LedgerState, numbers: set[int], first: int, last: int) -> bool:
    """Return whether each number from `first` to `last` has a known run, or is known to have no run."""
    known = numbers | {run.number for run in state.ended} | {run.number for run in state.open}
    runs = sum(first <= number <= last for number in known)
    gaps = (*state.missing_numbers, *(gap for gap in state.nonexistent if not gap.missed))
    without = sum(max(0, min(gap.last, last) - max(gap.first, first) + 1) for gap in gaps)
    return runs + without >= last - first + 1
