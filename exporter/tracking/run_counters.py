"""Counters and histograms of counted runs, as frozen values.

They are frozen so that /metrics can be rendered from them while the next poll runs. Events are rare and copies small.
"""

from bisect import bisect_left
from collections.abc import Iterable, Mapping

import msgspec

from exporter.core.histograms import HistogramOptions, HistogramScope
from exporter.core.model import ENDS, Run, Status
from exporter.tracking.ledger import Event, EventKind

OTHER_STAGES = "(other)"
STAGE_NAMES_OF_PIPELINE = 100
STAGE_NAMES_OF_PROJECT = 200


class Exemplar(msgspec.Struct, frozen=True, gc=False):
    """One observation of a bucket, with the run that it comes from."""

    run: str
    """The vendor's id of the run."""
    value: float
    """The observed duration, in seconds."""
    at: float | None
    """When that run ended, in Unix seconds."""


class Histogram(msgspec.Struct, frozen=True, gc=False):
    """Observations by bucket, not cumulative; the last bucket has no bound."""

    counts: tuple[int, ...]
    sum: float = 0.0
    exemplars: tuple[Exemplar | None, ...] = ()
    """For each bucket the observation of the run that ended last. Empty before the first, and after a restart."""

    @classmethod
    def empty(cls, bounds: tuple[float, ...]) -> "Histogram":
        """Return a histogram without observations."""
        return cls((0,) * (len(bounds) + 1))

    def observe(self, value: float, bounds: tuple[float, ...], run: Run | None = None) -> "Histogram":
        """Return a copy with one more observation of a run, in seconds."""
        bucket = bisect_left(bounds, value)
        counts = (*self.counts[:bucket], self.counts[bucket] + 1, *self.counts[bucket + 1 :])
        exemplars = self.exemplars
        if run is not None and not run.without_id:
            exemplars = exemplars or (None,) * len(counts)
            newest = _later_one(exemplars[bucket], Exemplar(run.id, value, run.end))
            exemplars = (*exemplars[:bucket], newest, *exemplars[bucket + 1 :])
        return Histogram(counts, self.sum + value, exemplars)


def _later_one(known: Exemplar | None, candidate: Exemplar) -> Exemplar:
    """Return the exemplar whose run ended later; an unknown time is the earliest. Prometheus rejects older exemplars."""
    if known is None or known.at is None or (candidate.at is not None and candidate.at >= known.at):
        return candidate
    return known


RunHistograms = Mapping[Status, Histogram]
StageHistograms = Mapping[tuple[str, Status], Histogram]


class DurationHistograms(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """The histograms of one pipeline, or of one project."""

    runs_created: float
    """When the histograms of runs began, in Unix seconds."""
    stages_created: float
    """When the histograms of stages began, in Unix seconds."""
    runs: RunHistograms
    """By status; success and failed always exist."""
    stages: StageHistograms = {}
    """By stage name and status."""


class RunCounters(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """The counters of one pipeline."""

    created: float
    """When the counters began at zero, in Unix seconds: at first sight of the pipeline."""
    runs: Mapping[Status, int] = msgspec.field(default_factory=lambda: dict.fromkeys(ENDS, 0))
    retries: Mapping[Status, int] = msgspec.field(default_factory=lambda: dict.fromkeys(ENDS, 0))
    missed: int = 0
    recoveries: int = 0
    recovery_seconds: float = 0.0

    def add(self, events: Iterable[Event]) -> "RunCounters":
        """Return a copy that also counts these events."""
        counters = self
        for event in events:
            counters = counters._add(event)
        return counters

    def _add(self, event: Event) -> "RunCounters":
        replace = msgspec.structs.replace
        match event.kind:
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
    """Upper bounds of the histograms' buckets, in seconds."""

    runs: tuple[float, ...]
    stages: tuple[float, ...]

    @classmethod
    def of(cls, options: HistogramOptions) -> "BucketBounds":
        """Return the configured bounds."""
        return cls(options.run_duration_buckets, options.stage_duration_buckets)

    def empty(self, created: float) -> DurationHistograms:
        """Return histograms that begin at `created` (Unix seconds).

        Those of success and failed exist from the beginning, so that PromQL's `increase` includes their first run.
        """
        begin = Histogram.empty(self.runs)
        runs = {Status.SUCCESS: begin, Status.FAILED: begin}
        return DurationHistograms(runs_created=created, stages_created=created, runs=runs)

    def observe_run(self, durations: DurationHistograms, run: Run) -> DurationHistograms:
        """Return the histograms with a counted run observed; a run without start or end is not observed."""
        if run.duration is None:
            return durations
        before = durations.runs.get(run.status) or Histogram.empty(self.runs)
        after = before.observe(run.duration, self.runs, run)
        return msgspec.structs.replace(durations, runs={**durations.runs, run.status: after})

    def observe_stages(self, durations: DurationHistograms, run: Run, names: int) -> DurationHistograms:
        """Return the histograms with a run's stages observed if they are final, not skipped, and have start and end.

        Each of the first `names` stage names has its own histograms; later ones share `OTHER_STAGES`.
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


class DurationObserver(msgspec.Struct, frozen=True):
    """Observes counted runs in the histograms of one scope."""

    bounds: BucketBounds
    runs: bool
    """Whether run durations have this scope."""
    stages: bool
    """Whether stage durations have this scope."""
    stage_names: int

    @classmethod
    def of(cls, options: HistogramOptions, scope: HistogramScope) -> "DurationObserver":
        """Return the observer of a scope."""
        return cls(
            BucketBounds.of(options),
            options.run_histogram == scope,
            options.stage_histogram == scope,
            STAGE_NAMES_OF_PIPELINE if scope == "pipeline" else STAGE_NAMES_OF_PROJECT,
        )

    def observe(self, durations: DurationHistograms, events: Iterable[Event]) -> DurationHistograms:
        """Return a copy that also observes the ended runs among these events."""
        for event in events:
            if event.kind is EventKind.ENDED and event.run is not None:
                if self.runs:
                    durations = self.bounds.observe_run(durations, event.run)
                if self.stages:
                    durations = self.bounds.observe_stages(durations, event.run, self.stage_names)
        return durations
