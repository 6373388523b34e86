"""What a configuration means: requests and series to expect, and what a user will want to know before they run it."""

from collections.abc import Iterator
from urllib.parse import urlsplit

from exporter.app.bootstrap import LOOPBACK, label_names
from exporter.app.estimate import batched, owned, quiet_requests, requests
from exporter.config.duration import format_duration
from exporter.config.secret import FileSecret, SecretError
from exporter.config.section import Section
from exporter.core.model import Job, Pipeline, Run, Stage, Status, Step
from exporter.core.shard import Shard
from exporter.metrics.catalogue import catalogue
from exporter.metrics.family import Family, MetricType, V
from exporter.providers.registry import AnyProject
from exporter.settings.settings import Config
from exporter.tracking.ledger import Streak
from exporter.tracking.run_counters import BucketBounds, DurationHistograms, RunCounters
from exporter.tracking.views import ProjectView, View

MANY_SERIES = 300_000
STAGES = 5


def report(config: Config, shard: Shard | None = None) -> str:
    """What a configuration means, or what a shard's part of it does, as text."""
    listed = sum(len(project.pipelines) for project in config.projects)
    finds = any(project.discovery for project in config.projects)
    found = (
        f"{_count(listed, 'pipeline')} and those to be discovered" if listed else "pipelines to be discovered"
    )
    watched = found if finds else _count(listed, "pipeline")
    lines = [f"{_count(len(config.projects), 'project')}, {watched}"]
    if shard is not None:
        own = sum(len(owned(project, shard)) for project in config.projects)
        part = f"about 1/{shard.total} of those discovered"
        share = (f"{own} of those listed, and {part}" if listed else part) if finds else f"{own} of them"
        lines.append(
            f"shard {shard.index} of {shard.total}, counted from 0, has {share}; what follows is its part"
        )
    for project in config.projects:
        lines += _project(config, project, shard)
    lines.append(
        f"state: {config.state.path}"
        if config.state.path
        else "state: none, so that counters begin at 0 with each start (see state.path)"
    )
    lines.append(f"series: {_expected(config, shard, discovery=finds)}")
    if config.limits.max_series:
        lines.append(f"limits.max_series: of each project at most {config.limits.max_series} are shown")
    lines += [f"warning: {text}" for text in warnings(config, shard)]
    return "\n".join(lines)


def _project(config: Config, project: AnyProject, shard: Shard | None) -> Iterator[str]:
    listed = _count(len(owned(project, shard)), "pipeline")
    if project.discovery:
        listed = f"{listed} and those discovered" if project.pipelines else "every pipeline discovered"
        if shard is not None:
            listed += " that are its own" if project.pipelines else " that is its own"
    yield f"{project.name} ({project.provider}, {project.base_url}): {listed}"
    yield from requests(config, project, shard)


def _expected(config: Config, shard: Shard | None, *, discovery: bool) -> str:
    """Series to expect, in words."""
    series = expected_series(config, shard)
    parts = [f"about {series}"] if series else []
    if discovery:
        parts.append(f"about {_series_each(config)} for each pipeline discovered")
    inside = {"none": "", "jobs": " of one job", "steps": " of one job of two steps"}[config.metrics.details]
    return (
        f"{', and '.join(parts)} (reckoned with {STAGES} stages{inside}, and runs that succeeded and failed)"
    )


def expected_series(config: Config, shard: Shard | None = None) -> int:
    """Series of listed pipelines and of projects, if every pipeline has `STAGES` stages, succeeded and failed."""
    pipelines = sum(len(owned(project, shard)) for project in config.projects)
    families = catalogue(config.metrics, label_names(config))
    project = ProjectView(provider="", project="", durations=_example_durations(config))
    shared = sum(_series(family, project) for family in families.projects)
    return pipelines * _series_each(config) + len(config.projects) * shared


def _series_each(config: Config) -> int:
    """Series of one such pipeline."""
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
    """Stages of one job of two steps each; their names are the same in every pipeline."""
    steps = tuple(Step(f"step {place}", place, "", status, 1.0) for place in range(2))
    jobs = (Job("job", 0, status, 0.0, 1.0, steps),)
    return tuple(Stage(f"stage {place}", place, status, 0.0, 1.0, jobs) for place in range(STAGES))


def _example_durations(config: Config) -> DurationHistograms:
    """Histograms in which success and failure of every stage were observed."""
    buckets = BucketBounds.of(config.metrics)
    durations = buckets.empty(0.0)
    for status in (Status.SUCCESS, Status.FAILED):
        run = Run(id="", status=status, stages=_example_stages(status))
        durations = buckets.observe_stages(durations, run, STAGES)
    return durations


def _series(family: Family[V], view: V) -> int:
    samples = sum(1 for _ in family.samples(view))
    # A histogram has its buckets, the one without bound, the sum and the count.
    return samples * (len(family.bounds) + 3 if family.type is MetricType.HISTOGRAM else 1)


def warnings(config: Config, shard: Shard | None = None) -> Iterator[str]:
    """What is allowed, and probably not meant."""
    series = expected_series(config, shard)
    if series > MANY_SERIES:
        yield (
            f"about {series} series are more than a scrape should carry ({MANY_SERIES}): see metrics.details, "
            "run_histogram, run_status_series and the buckets"
        )
    if config.poll.max_age < config.poll.interval:
        yield "poll.max_age is below poll.interval: values will come and go between refreshes"
    for project in config.projects:
        yield from (f"{project.name}: {text}" for text in _doubts(config, project, shard))


def _doubts(config: Config, project: AnyProject, shard: Shard | None) -> Iterator[str]:
    limit, interval = project.rate_limit, config.poll.interval
    needed = (quiet_requests(config, project, shard) - limit.burst) / limit.requests_per_second
    if needed > interval:
        yield (
            f"a refresh takes {needed:.0f} s under rate_limit, longer than poll.interval "
            f"({format_duration(interval)}): raise one of them{', or poll.chunk_size' if batched(project) else ''}"
        )
    if project.discover and project.discover.interval < interval:
        yield (
            f"discover.interval ({format_duration(project.discover.interval)}) is below poll.interval "
            f"({format_duration(interval)}): the project is listed at each refresh, and no more often"
        )
    if project.url_template and "{pipeline_id}" not in project.url_template:
        yield "url_template has no {pipeline_id}: all pipelines will have the same url"
    if project.tls.insecure_skip_verify:
        yield "tls.insecure_skip_verify: whoever is in between can read the credentials; ca_file is the safe way"
    for url in project.urls:
        parts = urlsplit(url)
        if parts.scheme == "http" and parts.hostname not in LOOPBACK:
            yield f"{url} is not encrypted: credentials go over the network in the clear"
    yield from project.warnings()
    yield from _unreadable(project)
    yield from _unreadable(project.auth)


def _unreadable(section: Section) -> Iterator[str]:
    for name in type(section).model_fields:
        value = getattr(section, name)
        if isinstance(value, FileSecret):
            try:
                value.reveal()
            except SecretError as error:
                yield str(error)


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
