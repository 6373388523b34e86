"""Metric families about the latest run of a pipeline, about its latest finished run, and about its streak of failures."""

from collections.abc import Callable, Iterable

from exporter.core.model import ENDS, RUN_STATUSES, Run, Status, failed_stages
from exporter.metrics.family import JOB_LABELS, STAGE_LABELS, Family, MetricType, Sample, gauge
from exporter.settings.settings import Metrics, RunInfoLabel
from exporter.tracking.ledger import Streak
from exporter.tracking.views import View

_RUN_INFO: dict[RunInfoLabel, Callable[[Run], str]] = {
    "trigger": lambda run: run.trigger.value,
    "branch": lambda run: run.branch,
    "tag": lambda run: run.tag,
    "run_id": lambda run: run.id,
    "commit": lambda run: run.commit,
    "executor": lambda run: run.executor,
    "event": lambda run: run.event,
    "merge_id": lambda run: run.merge_id,
    "source_branch": lambda run: run.source_branch,
    "url": lambda run: run.url,
}


def latest_run(metrics: Metrics) -> tuple[Family[View], ...]:
    """Return the families about the latest run, finished or not."""

    def status(view: View) -> tuple[Sample, ...]:
        if view.latest is None:
            return ()
        if metrics.run_status_series == "current":
            return (Sample((view.latest.status.value,), 1.0),)
        return _state_set(view.latest.status, RUN_STATUSES)

    def of_latest(value: Callable[[Run], float | None]) -> Callable[[View], float | None]:
        return lambda view: None if view.latest is None else value(view.latest)

    prefix = "ci_pipeline_latest_run"
    return (
        Family(
            name=f"{prefix}_status",
            type=MetricType.GAUGE,
            help="Whether the latest run has this status (1) or not (0).",
            labels=("status",),
            samples=status,
        ),
        gauge(
            f"{prefix}_number",
            "Run number of the latest run.",
            of_latest(lambda run: run.number),
        ),
        gauge(
            f"{prefix}_start_timestamp_seconds",
            "Unix time at which the latest run started.",
            of_latest(lambda run: run.start),
        ),
        gauge(
            f"{prefix}_end_timestamp_seconds",
            "Unix time at which the latest run ended, if it is finished.",
            of_latest(lambda run: run.end if run.status.final else None),
        ),
        gauge(
            f"{prefix}_duration_seconds",
            "Duration of the latest run in seconds, pauses included, if it is finished.",
            of_latest(lambda run: run.duration),
        ),
        gauge(
            f"{prefix}_status_change_timestamp_seconds",
            "Unix time at which the latest run entered its current status.",
            lambda view: view.status_change,
        ),
        _run_info(
            f"{prefix}_info",
            "Attributes of the latest run as labels; always 1.",
            metrics,
            lambda view: view.latest,
        ),
    )


def latest_finished_run(metrics: Metrics) -> tuple[Family[View], ...]:
    """Return the families about the latest finished run, and about what failed in it."""

    def status(view: View) -> tuple[Sample, ...]:
        return () if view.finished is None else _state_set(view.finished.status, ENDS)

    def of_finished(value: Callable[[Run], float | None]) -> Callable[[View], float | None]:
        return lambda view: None if view.finished is None else value(view.finished)

    prefix = "ci_pipeline_latest_finished_run"
    return (
        Family(
            name=f"{prefix}_status",
            type=MetricType.GAUGE,
            help="Whether the latest finished run ended with this status (1) or not (0).",
            labels=("status",),
            samples=status,
        ),
        gauge(
            f"{prefix}_number",
            "Run number of the latest finished run.",
            of_finished(lambda run: run.number),
        ),
        gauge(
            f"{prefix}_end_timestamp_seconds",
            "Unix time at which the latest finished run ended.",
            of_finished(lambda run: run.end),
        ),
        gauge(
            f"{prefix}_duration_seconds",
            "Duration of the latest finished run in seconds, pauses included.",
            of_finished(lambda run: run.duration),
        ),
        _run_info(
            f"{prefix}_info",
            "Attributes of the latest finished run as labels; always 1.",
            metrics,
            lambda view: view.finished,
        ),
        _failed_stage(f"{prefix}_failed_stage"),
        *([_failed_job(f"{prefix}_failed_job")] if metrics.details != "none" else []),
    )


def streak() -> tuple[Family[View], ...]:
    """Return the families about the streak of failures."""

    def of_streak(value: Callable[[Streak], float | None]) -> Callable[[View], float | None]:
        return lambda view: None if view.streak is None else value(view.streak)

    return (
        gauge(
            "ci_pipeline_consecutive_failures",
            "Number of failed runs since the last successful run.",
            of_streak(lambda streak: streak.failures),
        ),
        gauge(
            "ci_pipeline_broken_since_timestamp_seconds",
            "Unix time at which the first failed run since the last success ended.",
            of_streak(lambda streak: streak.broken_since),
        ),
        gauge(
            "ci_pipeline_last_success_timestamp_seconds",
            "Unix time at which the last successful run ended.",
            of_streak(lambda streak: streak.last_success),
        ),
    )


def _failed_stage(name: str) -> Family[View]:
    def samples(view: View) -> Iterable[Sample]:
        for stage in failed_stages(view.finished) if view.finished else ():
            if stage.status is Status.FAILED:
                yield Sample((stage.name, str(stage.sequence)), 1.0)

    return Family(
        name=name,
        type=MetricType.GAUGE,
        help="A stage that failed in the latest finished run, if that run failed; always 1.",
        labels=STAGE_LABELS,
        samples=samples,
    )


def _failed_job(name: str) -> Family[View]:
    def samples(view: View) -> Iterable[Sample]:
        for stage in failed_stages(view.finished) if view.finished else ():
            for job in stage.jobs:
                yield Sample((stage.name, str(stage.sequence), job.name, str(job.sequence)), 1.0)

    return Family(
        name=name,
        type=MetricType.GAUGE,
        help="A job that failed in the latest finished run, if that run failed; always 1.",
        labels=JOB_LABELS,
        samples=samples,
    )


def _state_set(current: Status, statuses: Iterable[Status]) -> tuple[Sample, ...]:
    """Return one sample for each status: 1 for the current one, 0 for the others."""
    return tuple(Sample((status.value,), float(status is current)) for status in statuses)


def _run_info(name: str, text: str, metrics: Metrics, run_of: Callable[[View], Run | None]) -> Family[View]:
    values = [_RUN_INFO[label] for label in metrics.run_info_labels]

    def samples(view: View) -> tuple[Sample, ...]:
        run = run_of(view)
        return () if run is None else (Sample(tuple(value(run) for value in values), 1.0),)

    # A gauge, because its labels change with each run, and those of an OpenMetrics info must not.
    return Family(
        name=name, type=MetricType.GAUGE, help=text, labels=metrics.run_info_labels, samples=samples
    )
