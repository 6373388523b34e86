"""Describe a configuration for `check-config`: expected requests and series.

The checks themselves are in `settings/load.py` (faults) and `app/config_warnings.py` (warnings).
"""

from collections.abc import Iterator

from exporter.app.estimate import owned, requests
from exporter.app.expansion import MOST
from exporter.app.exporter import label_names
from exporter.config.duration import format_duration
from exporter.core.model import Job, Pipeline, Run, Stage, Status, Step
from exporter.core.shard import Shard
from exporter.metrics.catalogue import catalogue
from exporter.metrics.family import Family, MetricType, V
from exporter.providers.registry import AnyProject
from exporter.settings.settings import Config
from exporter.tracking.ledger import Streak
from exporter.tracking.run_counters import BucketBounds, DurationHistograms, RunCounters
from exporter.tracking.views import ProjectView, View

STAGES = 5
"""Number of stages to assume for each pipeline."""


def report(config: Config, shard: Shard | None = None) -> str:
    """Return the description of a configuration, or of a shard's part of it, as text."""
    listed = sum(len(project.pipelines) for project in config.projects)
    finds = any(project.discovery for project in config.projects)
    found = (
        f"{_count(listed, 'pipeline')} and those to be discovered" if listed else "pipelines to be discovered"
    )
    watched = found if finds else _count(listed, "pipeline")
    entries = sum(1 for project in config.projects if project.project_search)
    single = len(config.projects) - entries
    projects = [_count(single, "project")] if single else []
    if entries:
        projects.append("projects to be found")
    lines = [f"{' and '.join(projects)}, {watched}"]
    if shard is not None:
        own = sum(len(owned(project, shard)) for project in config.projects)
        part = f"about 1/{shard.total} of those discovered"
        share = (f"{own} of those listed, and {part}" if listed else part) if finds else f"{own} of them"
        lines.append(
            f"shard {shard.index} of {shard.total}, counted from 0, has {share}; the lines below describe its part"
        )
    for project in config.projects:
        lines += _project(config, project, shard)
    lines.append(
        f"state: {config.state.path}"
        if config.state.path
        else "state: none; counters begin at 0 after each start (see state.path)"
    )
    lines.append(f"series: {_expected(config, shard, discovery=finds)}")
    if config.limits.max_series:
        lines.append(
            f"limits.max_series: at most {config.limits.max_series} series of each project are exposed"
        )
    return "\n".join(lines)


def _project(config: Config, project: AnyProject, shard: Shard | None) -> Iterator[str]:
    listed = _count(len(owned(project, shard)), "pipeline")
    if project.discovery:
        listed = f"{listed} and those discovered" if project.pipelines else "every pipeline discovered"
        if shard is not None:
            listed += " that the shard owns"
    search = project.project_search
    if search is not None:
        every = format_duration(search.interval)
        yield f"{project.name}: 1 request for each 100 projects at {search.base_url}, every {every}; each project, at most {MOST}:"
    yield f"{project.name} ({project.provider}, {project.base_url}): {listed}"
    yield from requests(config, project, shard)


def _expected(config: Config, shard: Shard | None, *, discovery: bool) -> str:
    """Return the number of expected series as text."""
    series = expected_series(config, shard)
    parts = [f"about {series}"] if series else []
    if discovery:
        parts.append(f"about {series_each(config)} for each pipeline discovered")
    inside = {"none": "", "jobs": " of one job", "steps": " of one job of two steps"}[config.metrics.details]
    failed = "stage" if config.metrics.details == "none" else "stage and job"
    return (
        f"{', and '.join(parts)} (estimated for {STAGES} stages{inside}, and runs that succeeded and failed; "
        f"a pipeline that is red has 1 more, and 1 for each {failed} that failed)"
    )


def expected_series(config: Config, shard: Shard | None = None) -> int:
    """Return the expected number of series of all listed pipelines and of their projects.

    It assumes that every pipeline has `STAGES` stages, and has both succeeded and failed.
    """
    pipelines = sum(len(owned(project, shard)) for project in config.projects)
    families = catalogue(config.metrics, label_names(config))
    project = ProjectView(provider="", project="", durations=_example_durations(config))
    shared = sum(_series(family, project) for family in families.projects)
    return pipelines * series_each(config) + len(config.projects) * shared


def series_each(config: Config) -> int:
    """Return the expected number of series of one pipeline, with the same assumptions."""
    families = catalogue(config.metrics, label_names(config))
    stages = _example_stages(Status.SUCCESS)
    run = Run(id="1", number=1, status=Status.SUCCESS, start=0.0, end=1.0, stages=stages)
    view = View(
        pipeline=Pipeline(provider="", project="", id="", name=""),
        up=True,
        has_run=True,
        latest=run,
        status_change=1.0,
        finished=run,
        streak=Streak(0, None, 1.0),
        active_starts=(),
        counters=RunCounters(created=0.0),
        durations=_example_durations(config),
    )
    return sum(_series(family, view) for family in families.pipelines)


def _example_stages(status: Status) -> tuple[Stage, ...]:
    """Return `STAGES` stages, each with one job of two steps."""
    steps = tuple(Step(f"step {index}", index, "", status, 1.0) for index in range(2))
    jobs = (Job("job", 0, status, 0.0, 1.0, steps),)
    return tuple(Stage(f"stage {index}", index, status, 0.0, 1.0, jobs) for index in range(STAGES))


def _example_durations(config: Config) -> DurationHistograms:
    """Return histograms in which every stage has succeeded and failed."""
    buckets = BucketBounds.of(config.metrics)
    durations = buckets.empty(0.0)
    for status in (Status.SUCCESS, Status.FAILED):
        run = Run(id="", status=status, stages=_example_stages(status))
        durations = buckets.observe_stages(durations, run, STAGES)
    return durations


def _series(family: Family[V], view: V) -> int:
    samples = sum(1 for _ in family.samples(view))
    # A histogram has a series for each bound, for +Inf, for the sum and for the count.
    return samples * (len(family.bounds) + 3 if family.type is MetricType.HISTOGRAM else 1)


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
