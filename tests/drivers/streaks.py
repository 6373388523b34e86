"""The streaks of failures that a simulated cloud's runs allow."""

from collections.abc import Iterable

from exporter.simulator import Report, Scenario, Truth
from exporter.tracking.ledger import Extent, Streak

End = tuple[str, float | None]
"""Final status and end of a run."""

MOST = 2000
"""Possible streaks of a pipeline above which nothing is checked."""

UNREPORTED = -1.0
"""End that the list does not report. It may follow from the stages of the run."""

TOLERANCE = 4.0
"""Seconds."""


def possible_streaks(scenario: Scenario, pipeline: str, now: float, *, settled: bool) -> set[Streak] | None:
    """Return the streaks that may be shown of a pipeline; None if there are too many.

    An answer can be older than the cloud's present state, unless it is `settled`: then only runs that changed or
    disappeared after their last report leave a choice.
    """
    truths = [truth for truth in scenario.truth(pipeline) if truth.states[0].moment <= now]
    reports = scenario.reports(pipeline)
    found: set[_Shown] = {(0, None, None)}
    for truth in sorted(truths, key=lambda truth: (truth.epoch, truth.number)):
        ends = _ends(truth, reports.get(truth.id, ()), now, settled=settled)
        found = {_after(streak, end) for streak in found for end in ends}
        if len(found) > MOST:
            return None
    return {Streak(*streak, Extent.WHOLE) for streak in found}


def allows(possible: Iterable[Streak], shown: Streak) -> bool:
    """Return whether a streak that is shown is one of the possible ones, or a lower bound of one."""
    if shown.extent is Extent.LIMITED:
        return shown.last_success is None and any(shown.failures <= one.failures for one in possible)
    return any(
        shown.failures == one.failures
        and _same(shown.broken_since, one.broken_since)
        and _same(shown.last_success, one.last_success)
        for one in possible
    )


def _same(end: float | None, other: float | None) -> bool:
    """Return whether two ends are the same. Some clouds round them, or report the end of the last stage."""
    return (
        end is other
        or other == UNREPORTED
        or (end is not None and other is not None and abs(end - other) <= TOLERANCE)
    )


def _ends(truth: Truth, reports: Iterable[Report], now: float, *, settled: bool) -> set[End | None]:
    states = [state for state in truth.states if state.moment <= now]
    final: list[End] = [
        (state.status, UNREPORTED if state.end is None else state.end)
        for state in states
        if state.status in _FINAL
    ]
    present = states[-1]
    unfinished = present.status not in _FINAL
    last = max(reports, key=lambda report: report.moment, default=None)
    unseen = last is not None and (last.moment < present.moment or truth.deleted is not None)
    if settled and not unseen and truth.deleted is None:
        # While a retry is in progress the old end is shown, if it was seen.
        return {final[-1] if final else None} | ({None} if unfinished else set())
    changed = len(states) > 1 and any(not report.final for report in reports)
    return {*final} | ({None} if unfinished or changed or truth.deleted is not None or not settled else set())


_FINAL = {"COMPLETED", "FAILED", "CANCELED", "IGNORED"}

_Shown = tuple[int, float | None, float | None]


def _after(streak: _Shown, end: End | None) -> _Shown:
    failures, since, success = streak
    if end is None or end[0] in {"CANCELED", "IGNORED"}:
        return streak
    if end[0] == "COMPLETED":
        return 0, None, end[1]
    return failures + 1, since if failures else end[1], success
