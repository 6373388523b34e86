"""Expected counters, derived from the true runs of a simulated cloud and from what it reported about them.

The audit uses no code of the exporter's accounting. A run is in scope if its number is above that in the first response
about its pipeline, or if that response reported the run as unfinished. Each run in scope that was ever reported as
finished counts once, with the values of the first such report. A run that was reported but deleted before it was
reported as finished is missed.

A report with a wrong run number may or may not count. The exporter uses the rest of the report for a known run, and for
a new run only if the number is corrected. Where this matters, the audit has a lower and an upper bound.
"""

from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from exporter.core.model import Status
from exporter.simulator import Report, Scenario, Truth
from exporter.tracking.run_counters import BucketBounds, Histogram
from exporter.tracking.views import ProjectView, View

FINAL_STATUSES = {
    "COMPLETED": Status.SUCCESS,
    "FAILED": Status.FAILED,
    "CANCELED": Status.CANCELED,
    "IGNORED": Status.IGNORED,
}


@dataclass
class ExpectedCounts:
    """Expected counts and observed durations (in seconds) of a pipeline."""

    runs: Counter[Status] = field(default_factory=Counter)
    missed: int = 0
    possibly_missed: int = 0
    """Runs that the exporter may or may not have given up by now."""
    retries: int = 0
    """How often finished runs were restarted and finished again."""
    unfinished: int = 0
    """Runs that exist and have not ended, as far as the cloud could report."""
    durations: dict[Status, list[float]] = field(default_factory=lambda: defaultdict(list))
    stages: dict[tuple[str, Status], list[float]] = field(default_factory=lambda: defaultdict(list))


@dataclass
class AuditResult:
    """Result of an audit; all numbers are runs."""

    true: int = 0
    """Runs in scope that must be counted or missed."""
    accounted: int = 0
    missed: int = 0
    unexplained: int = 0
    """Missed runs that the cloud would have reported."""
    double: int = 0
    doubtful: int = 0
    """Runs that only reports with a wrong number showed as finished."""
    failures: list[str] = field(default_factory=list)


class Audit:
    """Expected counts of a scenario's pipelines since the start of an exporter."""

    def __init__(self, scenario: Scenario, started: float, ids: Mapping[str, str] | None = None) -> None:
        """`started` is the time of the first responses, in Unix seconds.

        `ids` maps pipeline ids of the cloud to those of the scenario, if they differ. The latest run of such a cloud is
        the one with the greatest number, because its runs have no other id.
        """
        self._scenario = scenario
        self._started = started
        self._ids = ids
        self._first = {}
        self._epoch = {}
        self._unfinished = {}
        for pipeline in scenario.world.pipelines:
            latest = scenario.latest(pipeline.id, started)
            self._first[pipeline.id] = latest.number if latest else 0
            self._epoch[pipeline.id] = latest.epoch if latest else 0
            run = scenario.latest_run(pipeline, started)
            if ids is not None:
                run = max(scenario.history(pipeline, started), key=lambda run: run.number, default=None)
                self._first[pipeline.id] = run.number if run else 0
            self._unfinished[pipeline.id] = run is not None and run.status_text not in FINAL_STATUSES

    def pipeline(self, view: View) -> str:
        """Return the scenario's id of the pipeline of a view."""
        return view.pipeline.id if self._ids is None else self._ids[view.pipeline.id]

    def numbers_rise(self, pipeline: str) -> bool:
        """Return whether run numbers rise with starts; otherwise other rules apply, which the audit lacks."""
        truths = self._scenario.truth(pipeline)
        epochs = {truth.epoch for truth in truths if truth.deleted is None or truth.deleted > self._started}
        late = any(
            truth.number <= self._first[pipeline] and truth.states[0].start > self._started
            for truth in truths
        )
        return len(epochs) <= 1 and not late and not self._first_run_deleted(pipeline)

    def _first_run_deleted(self, pipeline: str) -> bool:
        """Return whether the first latest run was deleted, so that an older run became the latest."""
        truths = self._scenario.truth(pipeline)
        return any(truth.number <= self._first[pipeline] and truth.deleted for truth in truths)

    def _in_scope(
        self, truth: Truth, reports: Sequence[Report], pipeline: str, *, first_run_deleted: bool
    ) -> bool:
        if truth.number > self._first[pipeline]:
            return True
        # A run of a later numbering, or one that starts or appears late, may still be out of scope. The audit then
        # expects too much, never too little.
        late = truth.epoch > self._epoch[pipeline] or truth.states[0].start > self._started
        if late or (first_run_deleted and not all(report.final for report in reports)):
            return True
        if not self._unfinished[pipeline]:
            return False
        past = [state for state in truth.states if state.moment <= self._started]
        reported = reports[0].moment <= self._started + 1 and not reports[0].final
        return bool(past) and past[-1].status not in FINAL_STATUSES and reported

    def expected(self, pipeline: str, *, misreported: bool = True) -> ExpectedCounts:
        """Return the counts of a pipeline once the exporter has resolved all runs.

        `misreported`: include reports with a wrong run number.
        """
        expected = ExpectedCounts()
        reports_by_run = self._scenario.reports(pipeline)
        first_run_deleted = self._first_run_deleted(pipeline)
        for truth in self._scenario.truth(pipeline):
            expected.retries += _retries(truth)
            expected.unfinished += truth.deleted is None and truth.states[-1].status not in FINAL_STATUSES
            reports = [one for one in reports_by_run.get(truth.id, ()) if misreported or not one.misreported]
            if not reports or not self._in_scope(
                truth, reports, pipeline, first_run_deleted=first_run_deleted
            ):
                continue
            final = next((report for report in reports if report.final), None)
            if final is None:
                last = truth.states[-1]
                if truth.deleted is not None:
                    expected.missed += 1
                elif last.status not in _UNFINISHED:
                    # The exporter gives up a run once its end has stayed the same for an hour, or a newer run has
                    # hidden it for a day. A list of summaries need not report the end of an old run.
                    certain = last.end is not None and self._ids is None
                    expected.missed += certain
                    expected.possibly_missed += not certain
                continue
            status = FINAL_STATUSES[final.status]
            expected.runs[status] += 1
            if final.end is not None and final.end >= final.start:
                expected.durations[status].append(final.end - final.start)
            for name, stage, seconds in final.stages:
                if stage in FINAL_STATUSES and seconds is not None:
                    expected.stages[name, FINAL_STATUSES[stage]].append(float(seconds))
        return expected

    def check(
        self, views: Iterable[View], projects: Iterable[ProjectView], bounds: BucketBounds
    ) -> AuditResult:
        """Compare the views of an exporter that has resolved all runs with the expected counts."""
        result = AuditResult()
        stages: dict[tuple[str, Status], list[float]] = defaultdict(list)
        certain = True
        for view in views:
            pipeline = self.pipeline(view)
            assert view.counters is not None
            assert view.durations is not None
            most, least = self.expected(pipeline), self.expected(pipeline, misreported=False)
            accounted, expected = sum(view.counters.runs.values()), most.runs.total()
            result.true += expected + most.missed
            result.accounted += accounted
            result.missed += view.counters.missed
            if accounted > expected:
                result.double += accounted - expected
                result.failures.append(f"pipeline {pipeline}: counted {accounted}, expected {expected}")
            if not self.numbers_rise(pipeline):
                certain = False
                continue
            result.unexplained += max(0, view.counters.missed - most.missed - most.possibly_missed)
            if least == most:
                failure = _difference(view, most, bounds)
            else:
                certain = False
                result.doubtful += expected - least.runs.total()
                failure = _out_of_bounds(view, least, most)
            if failure:
                result.failures.append(f"pipeline {pipeline}: {failure}")
            for key, observed in most.stages.items():
                stages[key] += observed
        for project in projects:
            if not certain:
                break
            shown = dict(project.durations.stages)
            if shown.keys() != stages.keys():
                result.failures.append(f"stages {set(shown) ^ set(stages)}")
            result.failures += [
                f"stage {key}: {failure}"
                for key in shown.keys() & stages.keys()
                if (failure := _histogram_difference(shown[key], stages[key], bounds.stages))
            ]
        return result


_UNFINISHED = {"RUNNING", "PAUSED", "SUSPEND", "INIT"}


def _retries(truth: Truth) -> int:
    finished = [state.status not in _UNFINISHED for state in truth.states]
    return sum(now and not before for before, now in pairwise(finished)) - (True in finished)


def _difference(view: View, expected: ExpectedCounts, bounds: BucketBounds) -> str:
    assert view.counters is not None
    assert view.durations is not None
    shown = {status: count for status, count in view.counters.runs.items() if count}
    if shown != dict(expected.runs):
        return f"counted {shown}, expected {dict(expected.runs)}"
    if not expected.missed <= view.counters.missed <= expected.missed + expected.possibly_missed:
        return f"missed {view.counters.missed}, expected {expected.missed}"
    if sum(view.counters.retries.values()) > expected.retries:
        return f"retries {dict(view.counters.retries)}, expected {expected.retries}"
    if view.active_starts is not None and len(view.active_starts) > expected.unfinished:
        return f"active runs {view.active_starts}, expected {expected.unfinished}"
    for status, histogram in view.durations.runs.items():
        failure = _histogram_difference(histogram, expected.durations[status], bounds.runs)
        if failure:
            return f"durations of {status}: {failure}"
    return ""


def _out_of_bounds(view: View, least: ExpectedCounts, most: ExpectedCounts) -> str:
    assert view.counters is not None
    accounted = sum(view.counters.runs.values())
    if not least.runs.total() <= accounted <= most.runs.total():
        return f"counted {accounted}, expected {least.runs.total()} to {most.runs.total()}"
    if view.counters.missed > most.missed + most.possibly_missed:
        return f"missed {view.counters.missed}, expected {most.missed}"
    return ""


def _histogram_difference(histogram: Histogram, observed: list[float], bounds: tuple[float, ...]) -> str:
    by_bucket = Counter(bisect_left(bounds, value) for value in observed)
    counts = tuple(by_bucket[bucket] for bucket in range(len(bounds) + 1))
    if histogram.counts != counts:
        return f"buckets {histogram.counts}, expected {counts}"
    if abs(histogram.sum - sum(observed)) > 1e-3 * max(1.0, len(observed)):
        return f"sum {histogram.sum}, expected {sum(observed)}"
    return ""
