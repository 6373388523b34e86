"""Metric families about runs: counters, duration histograms, and gauges of runs in progress."""

from collections.abc import Callable, Iterable

from exporter.core.histograms import HistogramScope
from exporter.core.model import Status
from exporter.metrics.family import Family, MetricType, Sample, V, gauge
from exporter.settings.settings import Metrics
from exporter.tracking.run_counters import DurationHistograms, RunCounters
from exporter.tracking.views import View


def counters() -> tuple[Family[View], ...]:
    """Return the families with a pipeline's run counters, and with the gauges of its runs in progress."""
    return (
        _by_status(
            "ci_pipeline_runs_total",
            "Finished runs by final status, each counted once.",
            lambda counters: counters.runs.items(),
        ),
        _by_status(
            "ci_pipeline_run_retries_total",
            "Counted runs that were retried and ended again, by final status.",
            lambda counters: counters.retries.items(),
        ),
        _counter(
            "ci_pipeline_runs_missed_total",
            "Runs that existed, but whose end could not be found out.",
            lambda counters: counters.missed,
        ),
        _counter(
            "ci_pipeline_recoveries_total",
            "Successful runs that ended a streak of failed runs.",
            lambda counters: counters.recoveries,
        ),
        _counter(
            "ci_pipeline_recovery_seconds_total",
            "Total seconds from the first failure of each streak to the success that ended it.",
            lambda counters: counters.recovery_seconds,
        ),
        gauge(
            "ci_pipeline_runs_active",
            "Number of known runs that are not finished.",
            lambda view: None if view.active_starts is None else len(view.active_starts),
        ),
        gauge(
            "ci_pipeline_oldest_active_run_start_timestamp_seconds",
            "Unix time at which the oldest unfinished run started.",
            lambda view: min(
                (start for start in view.active_starts or () if start is not None), default=None
            ),
        ),
    )


def durations(
    metrics: Metrics, scope: HistogramScope, durations_of: Callable[[V], DurationHistograms | None]
) -> tuple[Family[V], ...]:
    """Return the duration histograms that the configuration enables for this scope.

    `durations_of` returns the histograms of a view, or None if it has no histograms yet.
    """

    def runs(view: V) -> Iterable[Sample]:
        found = durations_of(view)
        if found is None:
            return ()
        return (
            Sample((status.value,), histogram, found.runs_created) for status, histogram in found.runs.items()
        )

    def stages(view: V) -> Iterable[Sample]:
        found = durations_of(view)
        if found is None:
            return ()
        return (
            Sample((name, status.value), histogram, found.stages_created)
            for (name, status), histogram in found.stages.items()
        )

    families: list[Family[V]] = []
    if metrics.run_histogram == scope:
        families.append(
            Family(
                name="ci_pipeline_run_duration_seconds",
                type=MetricType.HISTOGRAM,
                help="Duration of counted runs in seconds, pauses included, by final status.",
                labels=("status",),
                bounds=metrics.run_duration_buckets,
                samples=runs,
            )
        )
    if metrics.stage_histogram == scope:
        families.append(
            Family(
                name="ci_pipeline_stage_duration_seconds",
                type=MetricType.HISTOGRAM,
                help="Duration of the stages of counted runs in seconds, by status.",
                labels=("stage_name", "status"),
                bounds=metrics.stage_duration_buckets,
                samples=stages,
            )
        )
    return tuple(families)


def _by_status(
    name: str, text: str, counts: Callable[[RunCounters], Iterable[tuple[Status, int]]]
) -> Family[View]:
    def samples(view: View) -> Iterable[Sample]:
        counters = view.counters
        if counters is None:
            return ()
        return (Sample((status.value,), count, counters.created) for status, count in counts(counters))

    return Family(name=name, type=MetricType.COUNTER, help=text, labels=("status",), samples=samples)


def _counter(name: str, text: str, value: Callable[[RunCounters], float]) -> Family[View]:
    def samples(view: View) -> tuple[Sample, ...]:
        counters = view.counters
        return () if counters is None else (Sample((), value(counters), counters.created),)

    return Family(name=name, type=MetricType.COUNTER, help=text, samples=samples)
