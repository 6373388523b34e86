"""What the ledger's events add up to: counters and histograms, as frozen values.

Frozen, so that a page can be rendered from them while the next poll goes on; an event is rare, a copy small.
"""

from bisect import bisect_left
from collections.abc import Iterable, Mapping

import msgspec

from exporter.core.model import ENDS, Run, Status
from exporter.tracking.ledger import Event, EventKind

OTHER_STAGES = "(other)"
STAGE_NAMES_OF_PIPELINE = 100
STAGE_NAMES_OF_PROJECT = 200


class Exemplar(msgspec.Struct, frozen=True, gc=False):
    """One observation of a bucket, to look at for what the others may be like."""

    run: str
    """The vendor's id of the run that it is of."""
    value: float
    """What was observed, in seconds."""
    at: float | None
    """When that run ended, in epoch seconds."""


class Histogram(msgspec.Struct, frozen=True, gc=False):
    """Observations by bucket, not cumulative; the last bucket has no bound."""

    counts: tuple[int, ...]
    sum: float = 0.0
    exemplars: tuple[Exemplar | None, ...] = ()
    """Of each bucket the observation of the run that ended last; empty while there are none, and when they are lost."""

    @classmethod
    def empty(cls, bounds: tuple[float, ...]) -> "Histogram":
        """A histogram without observations."""
        return cls((0,) * (len(bounds) + 1))

    def observe(self, value: float, bounds: tuple[float, ...], run: Run | None = None) -> "Histogram":
        """The same with one more observation, in seconds, that was made of a run."""
        place = bisect_left(bounds, value)
        counts = (*self.counts[:place], self.counts[place] + 1, *self.counts[place + 1 :])
        exemplars = self.exemplars
        if run is not None and not run.without_id:
            exemplars = exemplars or (None,) * len(counts)
            newest = _newer(exemplars[place], Exemplar(run.id, value, run.end))
            exemplars = (*exemplars[:place], newest, *exemplars[place + 1 :])
        return Histogram(counts, self.sum + value, exemplars)


def _newer(known: Exemplar | None, one: Exemplar) -> Exemplar:
    """Of two the one whose run ended later: Prometheus refuses to go back in time. A time not known is the earliest."""
    if known is None or known.at is None or (one.at is not None and one.at >= known.at):
        return one
    return known


RunHistograms = Mapping[Status, Histogram]
StageHistograms = Mapping[tuple[str, Status], Histogram]


class DurationHistograms(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """The histograms of one pipeline, or of one project."""

    runs_created: float
    """When those of runs began at nothing, in epoch seconds."""
    stages_created: float
    """When those of stages did."""
    runs: RunHistograms
    """By status; success and failed are always there."""
    stages: StageHistograms = {}
    """By stage name and status."""


class RunCounters(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """The counters of one pipeline."""

    created: float
    """When they began at zero: the pipeline's first sight, in epoch seconds."""
    runs: Mapping[Status, int] = msgspec.field(default_factory=lambda: dict.fromkeys(ENDS, 0))
    retries: Mapping[Status, int] = msgspec.field(default_factory=lambda: dict.fromkeys(ENDS, 0))
    missed: int = 0
    recoveries: int = 0
    recovery_seconds: float = 0.0

    def add(self, events: Iterable[Event]) -> "RunCounters":
        """The same with some events counted."""
        counters = self
        for event in events:
            counters = counters._add(event)
        return counters

    def _add(self, event: Event) -> "RunCounters":
        replace = msgspec.structs.replace
        match event.count:
            case EventKind.MISSED:
                return replace(self, missed=self.missed + event.runs)
            case EventKind.RECOVERED:
                seconds = self.recovery_seconds + event.seconds
                return replace(self, recoveries=self.recoveries + 1, recovery_seconds=seconds)
            case EventKind.ENDED if event.run is not None:
                return replace(self, runs=_plus_one(self.runs, event.run.status))
            case EventKind.RETRIED if event.run is not None:
                return replace(self, retries=_plus_one(self.retries, event.run.status))
        return self


def _plus_one(counts: Mapping[Status, int], status: Status) -> Mapping[Status, int]:
    return {**counts, status: counts.get(status, 0) + 1}


class BucketBounds(msgspec.Struct, frozen=True):
    """The histograms' buckets, in seconds."""

    runs: tuple[float, ...]
    stages: tuple[float, ...]

    def empty(self, created: float) -> DurationHistograms:
        """Histograms at first sight: those of success and failure exist from then, to be seen at zero."""
        begin = Histogram.empty(self.runs)
        runs = {Status.SUCCESS: begin, Status.FAILED: begin}
        return DurationHistograms(runs_created=created, stages_created=created, runs=runs)

    def observe_run(self, durations: DurationHistograms, run: Run) -> DurationHistograms:
        """Observe a run that was counted; one without both times is not observed."""
        if run.duration is None:
            return durations
        before = durations.runs.get(run.status) or Histogram.empty(self.runs)
        after = before.observe(run.duration, self.runs, run)
        return msgspec.structs.replace(durations, runs={**durations.runs, run.status: after})

    def observe_stages(self, durations: DurationHistograms, run: Run, names: int) -> DurationHistograms:
        """Observe the stages of a run that was counted: final, not skipped, with both times.

        No more than `names` stage names are told apart; later ones share `OTHER_STAGES`.
        """
        stages = dict(durations.stages)
        known = {name for name, _ in stages} - {OTHER_STAGES}
        for stage in run.stages:
            if stage.duration is None or stage.status is Status.SKIPPED:
                continue
            name = stage.name
            if name not in known:
                name = name if len(known) < names else OTHER_STAGES
                known.add(name)
            before = stages.get((name, stage.status)) or Histogram.empty(self.stages)
            stages[name, stage.status] = before.observe(stage.duration, self.stages, run)
        return msgspec.structs.replace(durations, stages=stages)
