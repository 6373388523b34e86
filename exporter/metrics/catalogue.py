"""The catalogue: every family of metrics about pipelines, as a table.

A family is a name, a HELP, labels, and a pure function from a view to its samples. `families` gives those that a
configuration asks for. HELP says what the value is, where it comes from, and when it is absent; all of it is cached and
refreshed by polls. The exporter's metrics about itself are in `exporter.telemetry`.
"""

from collections.abc import Callable, Iterable, Iterator
from enum import StrEnum
from typing import Generic, TypeVar

import msgspec

from exporter.core.model import ENDS, LABEL_LENGTH, RUN_STATUSES, Job, Run, Stage, Status, Step
from exporter.providers.registry import fields
from exporter.settings.settings import Metrics, RunInfoLabel
from exporter.tracking.run_counters import DurationHistograms, Histogram
from exporter.tracking.views import ProjectView, View

V = TypeVar("V")

Value = float | Histogram


class Sample(msgspec.Struct, frozen=True, gc=False):
    """One series of a family: the values of its further labels, and its value."""

    labels: tuple[str, ...]
    value: Value
    created: float | None = None
    """When a counter or histogram began, in epoch seconds."""


class MetricType(StrEnum):
    """A family's type."""

    GAUGE = "gauge"
    COUNTER = "counter"
    HISTOGRAM = "histogram"
    INFO = "info"


_DEEPER = ("stage_name", "job_name", "step_name")
DETAIL_LEVELS = 1 + len(_DEEPER)
"""How many depths there are."""


class Family(msgspec.Struct, Generic[V], frozen=True, kw_only=True):
    """A family of metrics of the things that a view shows."""

    name: str
    """As its samples bear it: counters with `_total`, infos with `_info`."""
    type: MetricType
    help: str
    labels: tuple[str, ...] = ()
    """Labels beside the identity of the view."""
    bounds: tuple[float, ...] = ()
    """A histogram's buckets, in seconds, without the last."""
    samples: Callable[[V], Iterable[Sample]]

    @property
    def unit(self) -> str:
        """The unit in the name, if it has one."""
        return "seconds" if self.name.removesuffix("_total").endswith("_seconds") else ""

    @property
    def detail_level(self) -> int:
        """How deep it looks: 0 for runs, 1 for stages, 2 for jobs, 3 for steps."""
        return sum(label in self.labels for label in _DEEPER)


# In alphabetical order, in which prometheus-client writes labels.
PIPELINE_LABELS = ("pipeline", "pipeline_id", "project", "provider")
PROJECT_LABELS = ("project", "provider")

_CACHED = "Cached, refreshed by polls."


def _source(family: str) -> str:
    """Where the providers tell a value, in words for a HELP."""
    told = "; ".join(f"{name}: {field}" for name, field in fields(f"ci_pipeline_{family}").items())
    return f"({told})"


_SEQUENCE = ("stage_name", "stage_sequence")


class Catalogue(msgspec.Struct, frozen=True, kw_only=True):
    """The families that a configuration asks for."""

    pipelines: tuple[Family[View], ...]
    projects: tuple[Family[ProjectView], ...]


def catalogue(metrics: Metrics, user_labels: Iterable[str] = ()) -> Catalogue:
    """The families that a configuration asks for; `user_labels` are the names of pipelines' own labels."""
    return Catalogue(
        pipelines=(
            *_latest_run(metrics),
            *_stages(metrics),
            *(_jobs() if metrics.details in {"jobs", "steps"} else ()),
            *(_steps() if metrics.details == "steps" else ()),
            *_latest_finished_run(metrics),
            *_accounting(),
            *_durations(metrics, "pipeline", lambda view: view.durations),
            *_pipeline(tuple(sorted(set(user_labels)))),
        ),
        projects=_durations(metrics, "project", lambda view: view.durations),
    )


def _one(value: float | None) -> tuple[Sample, ...]:
    return () if value is None else (Sample((), value),)


def _statuses(current: Status, statuses: Iterable[Status]) -> tuple[Sample, ...]:
    return tuple(Sample((status.value,), float(status is current)) for status in statuses)


def _gauge(name: str, text: str, value: Callable[[View], float | None]) -> Family[View]:
    return Family(
        name=name, type=MetricType.GAUGE, help=f"{text} {_CACHED}", samples=lambda view: _one(value(view))
    )


_INFO: dict[RunInfoLabel, Callable[[Run], str]] = {
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


def _run_info(name: str, text: str, metrics: Metrics, run: Callable[[View], Run | None]) -> Family[View]:
    values = [_INFO[label] for label in metrics.run_info_labels]

    def samples(view: View) -> tuple[Sample, ...]:
        shown = run(view)
        return () if shown is None else (Sample(tuple(value(shown) for value in values), 1.0),)

    # A gauge, since its labels change from run to run, which an info's may not.
    return Family(
        name=name, type=MetricType.GAUGE, help=text, labels=metrics.run_info_labels, samples=samples
    )


def _latest_run(metrics: Metrics) -> tuple[Family[View], ...]:
    def status(view: View) -> tuple[Sample, ...]:
        if view.latest is None:
            return ()
        if metrics.run_status_series == "current":
            return (Sample((view.latest.status.value,), 1.0),)
        return _statuses(view.latest.status, RUN_STATUSES)

    def of_latest(value: Callable[[Run], float | None]) -> Callable[[View], float | None]:
        return lambda view: None if view.latest is None else value(view.latest)

    prefix = "ci_pipeline_latest_run"
    return (
        Family(
            name=f"{prefix}_status",
            type=MetricType.GAUGE,
            help=f"State of the latest run {_source('latest_run_status')}: 1 for the one that it is in, 0 for the "
            f"others. Absent until a run is known. {_CACHED}",
            labels=("status",),
            samples=status,
        ),
        _gauge(
            f"{prefix}_number",
            f"Number of the latest run {_source('latest_run_number')}. Absent if the provider gives none.",
            of_latest(lambda run: run.number),
        ),
        _gauge(
            f"{prefix}_start_timestamp_seconds",
            f"When the latest run started {_source('latest_run_start_timestamp_seconds')}, in epoch seconds. Absent if "
            "not known.",
            of_latest(lambda run: run.start),
        ),
        _gauge(
            f"{prefix}_end_timestamp_seconds",
            f"When the latest run ended {_source('latest_run_end_timestamp_seconds')}, in epoch seconds. Absent while it "
            "is under way.",
            of_latest(lambda run: run.end if run.status.final else None),
        ),
        _gauge(
            f"{prefix}_duration_seconds",
            "How long the latest run took from start to end, pauses included. Absent while it is under way: use "
            f"time() - {prefix}_start_timestamp_seconds.",
            of_latest(lambda run: run.duration),
        ),
        _gauge(
            f"{prefix}_status_change_timestamp_seconds",
            "Since when the latest run is in its state, in epoch seconds: its end if it is finished, else the later "
            "of its start and the exporter's first sight of that state.",
            lambda view: view.status_change,
        ),
        _run_info(
            f"{prefix}_info",
            f"1, with what describes the latest run as labels; which ones, metrics.run_info_labels says. {_CACHED}",
            metrics,
            lambda view: view.latest,
        ),
    )


def _stages(metrics: Metrics) -> tuple[Family[View], ...]:
    def family(name: str, text: str, value: Callable[[Stage], float | None]) -> Family[View]:
        def samples(view: View) -> Iterable[Sample]:
            for stage in view.latest.stages if view.latest else ():
                shown = value(stage)
                if shown is not None:
                    yield Sample((stage.name, str(stage.sequence)), shown)

        return Family(
            name=name, type=MetricType.GAUGE, help=f"{text} {_CACHED}", labels=_SEQUENCE, samples=samples
        )

    def status(view: View) -> Iterable[Sample]:
        for stage in view.latest.stages if view.latest else ():
            identity = (stage.name, str(stage.sequence))
            if metrics.stage_status_series == "current":
                yield Sample((*identity, stage.status.value), 1.0)
            else:
                for one in Status:
                    yield Sample((*identity, one.value), float(one is stage.status))

    def changes(view: View) -> Iterable[Sample]:
        return (Sample((name, str(sequence)), since) for name, sequence, since in view.stage_changes)

    prefix = "ci_pipeline_latest_run_stage"
    return (
        Family(
            name=f"{prefix}_status",
            type=MetricType.GAUGE,
            help=f"State of a stage of the latest run {_source('latest_run_stage_status')}: 1 for the one that it is "
            f"in; with metrics.stage_status_series: all also 0 for the others. {_CACHED}",
            labels=(*_SEQUENCE, "status"),
            samples=status,
        ),
        family(
            f"{prefix}_start_timestamp_seconds",
            f"When a stage of the latest run started {_source('latest_run_stage_start_timestamp_seconds')}, in epoch "
            "seconds. Absent if it has not, or if that time cannot be right.",
            lambda stage: stage.start,
        ),
        family(
            f"{prefix}_duration_seconds",
            "How long a stage of the latest run took from start to end. Absent until it is finished.",
            lambda stage: stage.duration,
        ),
        Family(
            name=f"{prefix}_status_change_timestamp_seconds",
            type=MetricType.GAUGE,
            help="Since when a stage of the latest run waits, is paused or suspended, in epoch seconds: the later of "
            f"its start and the exporter's first sight of that state. Absent in every other state. {_CACHED}",
            labels=_SEQUENCE,
            samples=changes,
        ),
    )


_JOB = (*_SEQUENCE, "job_name", "job_sequence")
_STEP = (*_JOB, "step_name", "step_sequence", "task")


def _jobs_of(view: View) -> Iterator[tuple[tuple[str, ...], Job]]:
    for stage in view.latest.stages if view.latest else ():
        for job in stage.jobs:
            yield (stage.name, str(stage.sequence), job.name, str(job.sequence)), job


def _steps_of(view: View) -> Iterator[tuple[tuple[str, ...], Step]]:
    for identity, job in _jobs_of(view):
        for step in job.steps:
            yield (*identity, step.name, str(step.sequence), step.task), step


def _values(found: Iterable[tuple[tuple[str, ...], float | None]]) -> Iterator[Sample]:
    return (Sample(identity, value) for identity, value in found if value is not None)


def _jobs() -> tuple[Family[View], ...]:
    prefix = "ci_pipeline_latest_run_job"
    return (
        Family(
            name=f"{prefix}_status",
            type=MetricType.GAUGE,
            help=f"1, with the state of a job of the latest run as label {_source('latest_run_job_status')}. "
            f"Absent until the run's details are known. {_CACHED}",
            labels=(*_JOB, "status"),
            samples=lambda view: (Sample((*at, job.status.value), 1.0) for at, job in _jobs_of(view)),
        ),
        Family(
            name=f"{prefix}_start_timestamp_seconds",
            type=MetricType.GAUGE,
            help=f"When a job of the latest run started {_source('latest_run_job_start_timestamp_seconds')}, in epoch "
            f"seconds. Absent if it has not. {_CACHED}",
            labels=_JOB,
            samples=lambda view: _values((at, job.start) for at, job in _jobs_of(view)),
        ),
        Family(
            name=f"{prefix}_duration_seconds",
            type=MetricType.GAUGE,
            help="How long a job of the latest run took from start to end. Absent until it is finished. "
            f"{_CACHED}",
            labels=_JOB,
            samples=lambda view: _values((at, job.duration) for at, job in _jobs_of(view)),
        ),
    )


def _steps() -> tuple[Family[View], ...]:
    prefix = "ci_pipeline_latest_run_step"
    return (
        Family(
            name=f"{prefix}_status",
            type=MetricType.GAUGE,
            help=f"1, with the state of a step of the latest run as label {_source('latest_run_step_status')}. "
            f"Absent until the run's details are known. {_CACHED}",
            labels=(*_STEP, "status"),
            samples=lambda view: (Sample((*at, step.status.value), 1.0) for at, step in _steps_of(view)),
        ),
        Family(
            name=f"{prefix}_duration_seconds",
            type=MetricType.GAUGE,
            help="How long a step of the latest run took from start to end. Absent until it is finished. "
            f"{_CACHED}",
            labels=_STEP,
            samples=lambda view: _values((at, step.duration) for at, step in _steps_of(view)),
        ),
    )


def _latest_finished_run(metrics: Metrics) -> tuple[Family[View], ...]:
    def status(view: View) -> tuple[Sample, ...]:
        return () if view.finished is None else _statuses(view.finished.status, ENDS)

    def of_finished(value: Callable[[Run], float | None]) -> Callable[[View], float | None]:
        return lambda view: None if view.finished is None else value(view.finished)

    prefix = "ci_pipeline_latest_finished_run"
    return (
        Family(
            name=f"{prefix}_status",
            type=MetricType.GAUGE,
            help="How the finished run with the greatest number ended: 1 for that state, 0 for the others. It stays "
            f"while a newer run is under way. Absent until an end is known. {_CACHED}",
            labels=("status",),
            samples=status,
        ),
        _gauge(
            f"{prefix}_number",
            "Number of the finished run with the greatest number. Absent if the provider gives none.",
            of_finished(lambda run: run.number),
        ),
        _gauge(
            f"{prefix}_end_timestamp_seconds",
            "When the finished run with the greatest number ended, in epoch seconds. Absent if not known.",
            of_finished(lambda run: run.end),
        ),
        _gauge(
            f"{prefix}_duration_seconds",
            "How long the finished run with the greatest number took, pauses included. Absent if not known.",
            of_finished(lambda run: run.duration),
        ),
        _run_info(
            f"{prefix}_info",
            "1, with what describes the finished run with the greatest number as labels; which ones, "
            f"metrics.run_info_labels says. {_CACHED}",
            metrics,
            lambda view: view.finished,
        ),
        _gauge(
            "ci_pipeline_consecutive_failures",
            "Failed runs since the last success, in order of number; 0 when green. Canceled and ignored runs neither "
            "count nor end a series.",
            lambda view: None if view.streak is None else view.streak.failures,
        ),
        _gauge(
            "ci_pipeline_broken_since_timestamp_seconds",
            "When the first failed run since the last success ended, in epoch seconds. Absent when green.",
            lambda view: None if view.streak is None else view.streak.broken_since,
        ),
        _gauge(
            "ci_pipeline_last_success_timestamp_seconds",
            "When the last successful run ended, in epoch seconds. Absent until a success is known.",
            lambda view: None if view.streak is None else view.streak.last_success,
        ),
    )


def _accounting() -> tuple[Family[View], ...]:
    def by_status(
        counts: Callable[[View], Iterable[tuple[Status, int]]],
    ) -> Callable[[View], Iterable[Sample]]:
        def samples(view: View) -> Iterable[Sample]:
            created = view.counters.created if view.counters else None
            return (Sample((status.value,), count, created) for status, count in counts(view))

        return samples

    def counter(name: str, text: str, value: Callable[[View], float | None]) -> Family[View]:
        def samples(view: View) -> tuple[Sample, ...]:
            shown = value(view)
            return (
                () if shown is None or view.counters is None else (Sample((), shown, view.counters.created),)
            )

        return Family(name=name, type=MetricType.COUNTER, help=text, samples=samples)

    def oldest(view: View) -> float | None:
        return min((start for start in view.active_starts or () if start is not None), default=None)

    return (
        Family(
            name="ci_pipeline_runs_total",
            type=MetricType.COUNTER,
            help="Runs seen to end since the exporter's first sight of the pipeline, by how they ended; each once.",
            labels=("status",),
            samples=by_status(lambda view: view.counters.runs.items() if view.counters else ()),
        ),
        Family(
            name="ci_pipeline_run_retries_total",
            type=MetricType.COUNTER,
            help="Runs that had ended, went on and ended again (a retry keeps its run), by how they ended then; they "
            "are not counted a second time in ci_pipeline_runs_total.",
            labels=("status",),
            samples=by_status(lambda view: view.counters.retries.items() if view.counters else ()),
        ),
        counter(
            "ci_pipeline_runs_missed_total",
            "Runs known to have existed whose end could not be learnt, not even from the run list: deleted, too old, or "
            "of a state without translation. Each is logged with its reason.",
            lambda view: view.counters.missed if view.counters else None,
        ),
        counter(
            "ci_pipeline_recoveries_total",
            "Successful runs that ended a series of failures.",
            lambda view: view.counters.recoveries if view.counters else None,
        ),
        counter(
            "ci_pipeline_recovery_seconds_total",
            "Seconds from the end of the first failed run of a series to the end of the success that ended it, summed.",
            lambda view: view.counters.recovery_seconds if view.counters else None,
        ),
        _gauge(
            "ci_pipeline_runs_active",
            "Known runs that are not finished.",
            lambda view: None if view.active_starts is None else len(view.active_starts),
        ),
        _gauge(
            "ci_pipeline_oldest_active_run_start_timestamp_seconds",
            "When the oldest known run that is not finished started, in epoch seconds. Absent if there is none.",
            oldest,
        ),
    )


def _durations(
    metrics: Metrics, scope: str, durations: Callable[[V], DurationHistograms | None]
) -> tuple[Family[V], ...]:
    def runs(view: V) -> Iterable[Sample]:
        kept = durations(view)
        return (
            (Sample((status.value,), one, kept.runs_created) for status, one in kept.runs.items())
            if kept
            else ()
        )

    def stages(view: V) -> Iterable[Sample]:
        kept = durations(view)
        if kept is None:
            return ()
        return (
            Sample((name, status.value), one, kept.stages_created)
            for (name, status), one in kept.stages.items()
        )

    found: list[Family[V]] = []
    if metrics.run_histogram == scope:
        found.append(
            Family(
                name="ci_pipeline_run_duration_seconds",
                type=MetricType.HISTOGRAM,
                help="How long the runs of ci_pipeline_runs_total took from start to end, pauses included, in "
                f"seconds; per {scope} (metrics.run_histogram). A run without both times is not observed.",
                labels=("status",),
                bounds=metrics.run_duration_buckets,
                samples=runs,
            )
        )
    if metrics.stage_histogram == scope:
        found.append(
            Family(
                name="ci_pipeline_stage_duration_seconds",
                type=MetricType.HISTOGRAM,
                help="How long the stages of the runs of ci_pipeline_runs_total took, in seconds; per "
                f"{scope} (metrics.stage_histogram). Stages that were skipped or lack a time are not observed.",
                labels=("stage_name", "status"),
                bounds=metrics.stage_duration_buckets,
                samples=stages,
            )
        )
    return tuple(found)


def _pipeline(user_labels: tuple[str, ...]) -> tuple[Family[View], ...]:
    def info(view: View) -> tuple[Sample, ...]:
        own = dict(view.pipeline.labels)
        values = (view.pipeline.url, *(own.get(name, "")[:LABEL_LENGTH] for name in user_labels))
        return (Sample(values, 1.0),)

    return (
        Family(
            name="ci_pipeline_info",
            type=MetricType.INFO,
            help="1, with the pipeline's page as url (empty if not known) and its labels of the configuration.",
            labels=("url", *(f"label_{name}" for name in user_labels)),
            samples=info,
        ),
        _gauge(
            "ci_pipeline_up",
            "1 if the last poll that covered the pipeline was answered, 0 if it failed. Absent before the first.",
            lambda view: None if view.up is None else float(view.up),
        ),
        _gauge(
            "ci_pipeline_has_run",
            "1 if the provider returned a run of the pipeline, 0 if it answered without one: never executed, deleted "
            "or unknown, which the batch operation does not tell apart. Absent once the last answer is too old.",
            lambda view: None if view.has_run is None else float(view.has_run),
        ),
    )
