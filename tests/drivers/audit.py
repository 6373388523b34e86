"""What the counters must be, reckoned from what was true and what the simulated cloud told; nothing of the ledger is used.

A run lies inside if its number is above that of the first answer about its pipeline, or if both were under way then and
that was told at once. Each run inside that was ever told to be over counts once, as the first such answer told it. One that was
told, is told no more and never was told to be over is missed.

An answer that had a run with a wrong number may or may not count as such an answer: of a run that is known the rest is
used, of a new one only if the number is put right. Where that makes a difference there are two bounds.
"""

from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from exporter.core.model import Status
from exporter.simulator import Scenario, Telling, Truth
from exporter.tracking.run_counters import BucketBounds, Histogram
from exporter.tracking.views import ProjectView, View

FATES = {
    "COMPLETED": Status.SUCCESS,
    "FAILED": Status.FAILED,
    "CANCELED": Status.CANCELED,
    "IGNORED": Status.IGNORED,
}


@dataclass
class Books:
    """Counts and observations of pipelines."""

    runs: Counter[Status] = field(default_factory=Counter)
    missed: int = 0
    unconfirmed_id: int = 0
    """Those that may be missed by now."""
    retries: int = 0
    """How often runs that were over went on, and were over again."""
    under_way: int = 0
    """Runs that exist and are not over, as far as any cloud could tell."""
    durations: dict[Status, list[float]] = field(default_factory=lambda: defaultdict(list))
    stages: dict[tuple[str, Status], list[float]] = field(default_factory=lambda: defaultdict(list))


@dataclass
class Verdict:
    """What an audit found; runs, all of them."""

    true: int = 0
    """Inside, and over."""
    accounted: int = 0
    missed: int = 0
    unexplained: int = 0
    """Missed, though the cloud would have told them."""
    double: int = 0
    doubtful: int = 0
    """Told to be over only with a wrong number."""
    failures: list[str] = field(default_factory=list)


class Audit:
    """The books of a story's pipelines since a moment, kept by somebody who was told the truth."""

    def __init__(self, story: Scenario, started: float, ids: Mapping[str, str] | None = None) -> None:
        """`started` is the moment of the first answers.

        `ids` are the story's ids of pipelines by those of a cloud that has others. The latest run there is the one with the
        greatest number, since its runs have no other id.
        """
        self._story = story
        self._started = started
        self._ids = ids
        self._first = {}
        self._epoch = {}
        self._under_way = {}
        for pipeline in story.world.pipelines:
            latest = story.latest(pipeline.id, started)
            self._first[pipeline.id] = latest.number if latest else 0
            self._epoch[pipeline.id] = latest.epoch if latest else 0
            run = story.latest_run(pipeline, started)
            if ids is not None:
                run = max(story.history(pipeline, started), key=lambda run: run.number, default=None)
                self._first[pipeline.id] = run.number if run else 0
            self._under_way[pipeline.id] = run is not None and run.said not in FATES

    def certain(self, pipeline: str) -> bool:
        """Whether its numbers rise with its starts since then: else rules of numbering apply that need no twin here."""
        truths = self._story.truth(pipeline)
        epochs = {truth.epoch for truth in truths if truth.deleted is None or truth.deleted > self._started}
        late = any(
            truth.number <= self._first[pipeline] and truth.states[0].start > self._started
            for truth in truths
        )
        return len(epochs) <= 1 and not late and not self._bared(pipeline)

    def _bared(self, pipeline: str) -> bool:
        """Whether the first run was deleted, so that an older one that nobody knew was the latest."""
        truths = self._story.truth(pipeline)
        return any(truth.number <= self._first[pipeline] and truth.deleted for truth in truths)

    def _inside(self, truth: Truth, tellings: Sequence[Telling], pipeline: str, *, bared: bool) -> bool:
        if truth.number > self._first[pipeline]:
            return True
        # Of a later numbering, or one that runs late or comes to light, it may lie outside all the same: then this is too
        # much, never too little.
        late = truth.epoch > self._epoch[pipeline] or truth.states[0].start > self._started
        if late or (bared and not all(conclusive.final for conclusive in tellings)):
            return True
        if not self._under_way[pipeline]:
            return False
        then = [state for state in truth.states if state.moment <= self._started]
        told = tellings[0].moment <= self._started + 1 and not tellings[0].final
        return bool(then) and then[-1].status not in FATES and told

    def books(self, pipeline: str, *, misreported: bool = True) -> Books:
        """What is to be counted of a pipeline, once everything is learnt.

        `misreported`: by all answers, also those that had the run with a wrong number.
        """
        books = Books()
        told = self._story.told(pipeline)
        bared = self._bared(pipeline)
        for truth in self._story.truth(pipeline):
            books.retries += _retries(truth)
            books.under_way += truth.deleted is None and truth.states[-1].status not in FATES
            tellings = [one for one in told.get(truth.id, ()) if misreported or not one.misreported]
            if not tellings or not self._inside(truth, tellings, pipeline, bared=bared):
                continue
            final = next((conclusive for conclusive in tellings if conclusive.final), None)
            if final is None:
                last = truth.states[-1]
                if truth.deleted is not None:
                    books.missed += 1
                elif last.status not in _UNDER_WAY:
                    # Given up once its end has stayed the same for an hour, or a newer run has hidden it for a day. Where
                    # lists are outlines the end of one that is far back need not be told.
                    certainly = last.end is not None and self._ids is None
                    books.missed += certainly
                    books.unconfirmed_id += not certainly
                continue
            status = FATES[final.status]
            books.runs[status] += 1
            if final.end is not None and final.end >= final.start:
                books.durations[status].append(final.end - final.start)
            for name, stage, seconds in final.stages:
                if stage in FATES and seconds is not None:
                    books.stages[name, FATES[stage]].append(float(seconds))
        return books

    def check(self, views: Iterable[View], projects: Iterable[ProjectView], bounds: BucketBounds) -> Verdict:
        """Compare everything with what is shown, where everything is learnt."""
        verdict = Verdict()
        stages: dict[tuple[str, Status], list[float]] = defaultdict(list)
        certain = True
        for view in views:
            pipeline = view.pipeline.id if self._ids is None else self._ids[view.pipeline.id]
            assert view.counters is not None
            assert view.durations is not None
            books, least = self.books(pipeline), self.books(pipeline, misreported=False)
            accounted, expected = sum(view.counters.runs.values()), books.runs.total()
            verdict.true += expected + books.missed
            verdict.accounted += accounted
            verdict.missed += view.counters.missed
            if accounted > expected:
                verdict.double += accounted - expected
                verdict.failures.append(f"pipeline {pipeline}: counted {accounted}, told {expected}")
            if not self.certain(pipeline):
                certain = False
                continue
            verdict.unexplained += max(0, view.counters.missed - books.missed - books.unconfirmed_id)
            if least == books:
                failure = _difference(view, books, bounds)
            else:
                certain = False
                verdict.doubtful += expected - least.runs.total()
                failure = _out_of_bounds(view, least, books)
            if failure:
                verdict.failures.append(f"pipeline {pipeline}: {failure}")
            for key, observed in books.stages.items():
                stages[key] += observed
        for project in projects:
            if not certain:
                break
            shown = dict(project.durations.stages)
            if shown.keys() != stages.keys():
                verdict.failures.append(f"stages {set(shown) ^ set(stages)}")
            verdict.failures += [
                f"stage {key}: {failure}"
                for key in shown.keys() & stages.keys()
                if (failure := _uneven(shown[key], stages[key], bounds.stages))
            ]
        return verdict


_UNDER_WAY = {"RUNNING", "PAUSED", "SUSPEND", "INIT"}


def _retries(truth: Truth) -> int:
    over = [state.status not in _UNDER_WAY for state in truth.states]
    return sum(now and not before for before, now in pairwise(over)) - (True in over)


def _difference(view: View, books: Books, bounds: BucketBounds) -> str:
    assert view.counters is not None
    assert view.durations is not None
    shown = {status: count for status, count in view.counters.runs.items() if count}
    if shown != dict(books.runs):
        return f"counted {shown}, told {dict(books.runs)}"
    if not books.missed <= view.counters.missed <= books.missed + books.unconfirmed_id:
        return f"missed {view.counters.missed}, told and gone {books.missed}"
    if sum(view.counters.retries.values()) > books.retries:
        return f"retries {dict(view.counters.retries)}, truly {books.retries}"
    if view.active_starts is not None and len(view.active_starts) > books.under_way:
        return f"under way {view.active_starts}, truly {books.under_way}"
    for status, histogram in view.durations.runs.items():
        failure = _uneven(histogram, books.durations[status], bounds.runs)
        if failure:
            return f"durations of {status}: {failure}"
    return ""


def _out_of_bounds(view: View, least: Books, most: Books) -> str:
    assert view.counters is not None
    accounted = sum(view.counters.runs.values())
    if not least.runs.total() <= accounted <= most.runs.total():
        return f"counted {accounted}, told {least.runs.total()} to {most.runs.total()}"
    if view.counters.missed > most.missed + most.unconfirmed_id:
        return f"missed {view.counters.missed}, told and gone {most.missed}"
    return ""


def _uneven(histogram: Histogram, observed: list[float], bounds: tuple[float, ...]) -> str:
    places = Counter(bisect_left(bounds, value) for value in observed)
    counts = tuple(places[place] for place in range(len(bounds) + 1))
    if histogram.counts != counts:
        return f"buckets {histogram.counts}, told {counts}"
    if abs(histogram.sum - sum(observed)) > 1e-3 * max(1.0, len(observed)):
        return f"sum {histogram.sum}, told {sum(observed)}"
    return ""
