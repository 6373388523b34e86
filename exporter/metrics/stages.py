"""Metric families about the stages, jobs and steps of the latest run."""

from collections.abc import Callable, Iterable, Iterator

from exporter.core.model import Job, Stage, Status, Step
from exporter.metrics.family import JOB_LABELS, STAGE_LABELS, STEP_LABELS, Family, MetricType, Sample
from exporter.settings.settings import Metrics
from exporter.tracking.views import View


def stages(metrics: Metrics) -> tuple[Family[View], ...]:
    """Return the families about the stages of the latest run."""

    def gauge(name: str, text: str, value: Callable[[Stage], float | None]) -> Family[View]:
        def samples(view: View) -> Iterable[Sample]:
            for stage in view.latest.stages if view.latest else ():
                shown = value(stage)
                if shown is not None:
                    yield Sample((stage.name, str(stage.sequence)), shown)

        return Family(name=name, type=MetricType.GAUGE, help=text, labels=STAGE_LABELS, samples=samples)

    def status(view: View) -> Iterable[Sample]:
        for stage in view.latest.stages if view.latest else ():
            identity = (stage.name, str(stage.sequence))
            if metrics.stage_status_series == "current":
                yield Sample((*identity, stage.status.value), 1.0)
            else:
                for status in Status:
                    yield Sample((*identity, status.value), float(status is stage.status))

    def status_changes(view: View) -> Iterable[Sample]:
        return (Sample((name, str(sequence)), since) for name, sequence, since in view.stage_changes)

    prefix = "ci_pipeline_latest_run_stage"
    return (
        Family(
            name=f"{prefix}_status",
            type=MetricType.GAUGE,
            help="Whether a stage of the latest run has this status (1) or not (0).",
            labels=(*STAGE_LABELS, "status"),
            samples=status,
        ),
        gauge(
            f"{prefix}_start_timestamp_seconds",
            "Unix time at which a stage of the latest run started.",
            lambda stage: stage.start,
        ),
        gauge(
            f"{prefix}_duration_seconds",
            "Duration of a finished stage of the latest run in seconds.",
            lambda stage: stage.duration,
        ),
        Family(
            name=f"{prefix}_status_change_timestamp_seconds",
            type=MetricType.GAUGE,
            help="Unix time since which a stage of the latest run is waiting, paused or suspended.",
            labels=STAGE_LABELS,
            samples=status_changes,
        ),
    )


def jobs() -> tuple[Family[View], ...]:
    """Return the families about the jobs of the latest run."""
    prefix = "ci_pipeline_latest_run_job"
    return (
        Family(
            name=f"{prefix}_status",
            type=MetricType.GAUGE,
            help="Status of a job of the latest run as a label; always 1.",
            labels=(*JOB_LABELS, "status"),
            samples=lambda view: (
                Sample((*identity, job.status.value), 1.0) for identity, job in _jobs_of(view)
            ),
        ),
        Family(
            name=f"{prefix}_start_timestamp_seconds",
            type=MetricType.GAUGE,
            help="Unix time at which a job of the latest run started.",
            labels=JOB_LABELS,
            samples=lambda view: _known((identity, job.start) for identity, job in _jobs_of(view)),
        ),
        Family(
            name=f"{prefix}_duration_seconds",
            type=MetricType.GAUGE,
            help="Duration of a finished job of the latest run in seconds.",
            labels=JOB_LABELS,
            samples=lambda view: _known((identity, job.duration) for identity, job in _jobs_of(view)),
        ),
    )


def steps() -> tuple[Family[View], ...]:
    """Return the families about the steps of the latest run."""
    prefix = "ci_pipeline_latest_run_step"
    return (
        Family(
            name=f"{prefix}_status",
            type=MetricType.GAUGE,
            help="Status of a step of the latest run as a label; always 1.",
            labels=(*STEP_LABELS, "status"),
            samples=lambda view: (
                Sample((*identity, step.status.value), 1.0) for identity, step in _steps_of(view)
            ),
        ),
        Family(
            name=f"{prefix}_duration_seconds",
            type=MetricType.GAUGE,
            help="Duration of a finished step of the latest run in seconds.",
            labels=STEP_LABELS,
            samples=lambda view: _known((identity, step.duration) for identity, step in _steps_of(view)),
        ),
    )


def _jobs_of(view: View) -> Iterator[tuple[tuple[str, ...], Job]]:
    for stage in view.latest.stages if view.latest else ():
        for job in stage.jobs:
            yield (stage.name, str(stage.sequence), job.name, str(job.sequence)), job


def _steps_of(view: View) -> Iterator[tuple[tuple[str, ...], Step]]:
    for identity, job in _jobs_of(view):
        for step in job.steps:
            yield (*identity, step.name, str(step.sequence), step.task), step


def _known(values: Iterable[tuple[tuple[str, ...], float | None]]) -> Iterator[Sample]:
    """Return a sample for each pair of label values and value, unless the value is None."""
    return (Sample(labels, value) for labels, value in values if value is not None)
