"""The failure streaks that are possible for the runs of a simulated cloud."""

import math
from collections.abc import Collection, Iterable

import msgspec

from exporter.simulator import CodeArts, Flow, Report, Scenario, Truth
from exporter.simulator.flow.vocabulary import UNREPORTED
from exporter.tracking.ledger import Extent, Streak
from exporter.tracking.views import View
from tests.drivers.audit import Audit

End = tuple[str, float | None]
"""Final status and end of a run; the end is in Unix seconds, or None if it is not reported."""

MOST = 2000
"""Number of possible streaks of a pipeline above which its streak is not checked."""


class Reporting(msgspec.Struct, frozen=True):
    """How a cloud reports the statuses and ends of runs."""

    successes: frozenset[str] = frozenset({"COMPLETED"})
    """Final states that are reported as a success."""
    resolution: float = 0.001
    """Ends are rounded down to multiples of this number of seconds."""
    lag: float = 0.0
    """Seconds by which details may report an end too early: they only have the ends of stages."""
    bounded: bool = False
    """Whether a shown streak may be a lower bound, because run lists may lack statuses."""

    def means(self, shown: float | None, true: float | None) -> bool:
        """Return whether the cloud may report the end `true` as `shown`."""
        if shown is None or true is None:
            return shown is true
        # The least that a number of this size can differ by is added, because a division may round down.
        reported = math.floor((true + 1e-6) / self.resolution) * self.resolution
        return reported - self.lag - 1e-6 <= shown <= reported + 1e-6


def reporting(cloud: CodeArts | Flow) -> Reporting:
    """Return how a cloud reports ends and states."""
    if isinstance(cloud, CodeArts):
        return Reporting()
    # A failure that is ignored is a skipped job there, and its run succeeds.
    return Reporting(frozenset({"COMPLETED", "IGNORED"}), 1.0, cloud.end_lag, bounded=True)


def possible_streaks(
    scenario: Scenario, pipeline: str, now: float, *, known_until: float, cloud: Reporting
) -> set[Streak] | None:
    """Return the streaks of a pipeline that may be shown at `now`; None if there are too many.

    A response can be older than the cloud's present state. The exporter knows what happened until `known_until` (Unix
    seconds), except for changes and deletions after a run's last report, for runs that began after others with greater
    numbers, and for these others while no report has a number as great.
    """
    truths = [truth for truth in scenario.truth(pipeline) if truth.states[0].moment <= now]
    reports = scenario.reports(pipeline)
    late = _late(truths)
    greatest: dict[int, int] = {}
    for truth in truths:
        if truth.id in reports:
            greatest[truth.epoch] = max(truth.number, greatest.get(truth.epoch, 0))
    found: set[_Shown] = {(0, None, None)}
    for truth in sorted(truths, key=lambda truth: (truth.epoch, truth.number)):
        reported = reports.get(truth.id, ())
        ends = _ends(truth, reported, now, settled=truth.states[-1].moment <= known_until)
        if truth.id in late and not reported:
            ends.add(None)
        unknown = truth.number > greatest.get(truth.epoch, 0)
        if unknown and _is_overtaken(truth, truths, late):
            # The cloud names the late run as the latest, so nothing shows that there are greater numbers.
            ends.add(None)
        found = {_after(streak, end, cloud) for streak in found for end in ends}
        if len(found) > MOST:
            return None
    return {Streak(*streak, Extent.WHOLE) for streak in found}


def _late(truths: Iterable[Truth]) -> set[str]:
    """Return the ids of the runs that began after others with greater numbers. Polls may never show them."""
    found: set[str] = set()
    greatest: dict[int, int] = {}
    for truth in truths:
        if truth.number < greatest.get(truth.epoch, 0):
            found.add(truth.id)
        greatest[truth.epoch] = max(truth.number, greatest.get(truth.epoch, 0))
    return found


def _is_overtaken(truth: Truth, truths: Iterable[Truth], late: Collection[str]) -> bool:
    """Return whether a late run has a smaller number than a run that began before it."""
    return any(
        one.id in late
        and one.epoch == truth.epoch
        and one.number < truth.number
        and one.states[0].moment > truth.states[0].moment
        for one in truths
    )


def false_streaks(
    views: Iterable[View], audit: Audit, scenario: Scenario, now: float, known_until: float, cloud: Reporting
) -> list[str]:
    """Return a message for each shown streak that is not possible and, once all is known, for each missing one."""
    failures = []
    for view in views:
        pipeline = audit.pipeline(view)
        if not audit.numbers_rise(pipeline):
            continue
        if view.streak is None:
            if known_until >= now and view.finished is not None and view.has_run is not False:
                failures.append(f"pipeline {pipeline}: no streak")
            continue
        possible = possible_streaks(scenario, pipeline, now, known_until=known_until, cloud=cloud)
        if possible is not None and not allows(possible, view.streak, cloud):
            failures.append(f"pipeline {pipeline}: {view.streak}, expected {sorted(possible, key=repr)[:5]}")
    return failures


def allows(possible: Iterable[Streak], shown: Streak, cloud: Reporting) -> bool:
    """Return whether a shown streak is one of the possible ones, or a lower bound of one."""
    if shown.extent is Extent.LIMITED:
        at_most = max(one.failures for one in possible)
        return cloud.bounded and shown.last_success is None and shown.failures <= at_most
    return any(
        shown.failures == one.failures
        and cloud.means(shown.broken_since, one.broken_since)
        and cloud.means(shown.last_success, one.last_success)
        for one in possible
    )


def _ends(truth: Truth, reports: Iterable[Report], now: float, *, settled: bool) -> set[End | None]:
    states = [state for state in truth.states if state.moment <= now]
    final: list[End] = [(state.status, state.end) for state in states if state.status in _FINAL]
    present = states[-1]
    unfinished = present.status not in _FINAL
    # A row of a list without statuses shows no change of a run that has ended.
    shown = (report for report in reports if report.status != UNREPORTED)
    last = max(shown, key=lambda report: report.moment, default=None)
    unseen = last is not None and (last.moment < present.moment or truth.deleted is not None)
    if settled and not unseen and truth.deleted is None:
        # While a retry is in progress, an earlier end is shown: the last one that a response reported, if any did.
        return {*final, None} if unfinished else {final[-1]}
    changed = len(states) > 1 and any(not report.final for report in reports)
    return {*final} | ({None} if unfinished or changed or truth.deleted is not None or not settled else set())


_FINAL = {"COMPLETED", "FAILED", "CANCELED", "IGNORED"}

_Shown = tuple[int, float | None, float | None]


def _after(streak: _Shown, end: End | None, cloud: Reporting) -> _Shown:
    failures, since, success = streak
    if end is None:
        return streak
    status, moment = end
    if status in cloud.successes:
        return 0, None, moment
    if status == "FAILED":
        return failures + 1, since if failures else moment, success
    return streak
