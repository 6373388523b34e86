"""What a configuration means: requests and series to expect, and what a user will want to know before they run it."""

import math
from collections.abc import Iterator
from urllib.parse import urlsplit

from exporter.assembly import LOOPBACK, label_names
from exporter.board import ProjectView, View
from exporter.config.duration import format_duration
from exporter.config.fields import Section
from exporter.config.schema import Config
from exporter.config.secret import FileSecret, SecretError
from exporter.ledger import Series
from exporter.metrics import Family, Type, V, catalogue
from exporter.model import Job, Pipeline, Run, Stage, Status, Step
from exporter.providers import AnyProject
from exporter.tally import Bounds, Durations, Tally

MANY_SERIES = 300_000
STAGES = 5
_ID_LENGTH = 32


def report(config: Config) -> str:
    """What a configuration means, as text."""
    listed = sum(len(project.pipelines) for project in config.projects)
    finds = any(project.discovery for project in config.projects)
    found = " and those to be discovered" if finds else ""
    lines = [f"{_count(len(config.projects), 'project')}, {_count(listed, 'pipeline')}{found}"]
    for project in config.projects:
        lines += _project(config, project)
    if listed:
        lines.append(
            f"series: about {expected_series(config)} for the pipelines listed, with {STAGES} stages each, success "
            "and failure seen"
        )
    if finds:
        lines.append(f"series: about {_series_each(config)} for each pipeline discovered")
    lines += [f"warning: {text}" for text in warnings(config)]
    return "\n".join(lines)


def _project(config: Config, project: AnyProject) -> Iterator[str]:
    poll = config.poll
    often = format_duration(min(poll.active_interval, poll.interval))
    listed = _count(len(project.pipelines), "pipeline") + (" listed" if project.discovery else "")
    yield f"{project.name} ({project.provider}, {project.base_url}): {listed}"
    requests = requests_per_refresh(config, project)
    if project.discovery is None:
        yield f"  requests: {requests} a refresh, {requests * 60 / poll.interval:.4g} a minute"
        if any(entry.name is None for entry in project.pipelines):
            yield "  and for names not given, at the start and hourly, 1 for each 100 pipelines of the project, and 1"
    else:
        every, interval = format_duration(poll.interval), format_duration(project.discovery.interval)
        yield f"  requests: every {every}, 1 for each {poll.chunk_size} pipelines"
        yield f"  or instead, every {interval}, 1 for each 100 pipelines of the project, and 1: the list tells both"
    yield f"  and every {often}, 1 for each {poll.chunk_size} pipelines under way"
    if config.metrics.details != "none":
        yield "  and 1 for each run that is new or has changed (metrics.details)"


def requests_per_refresh(config: Config, project: AnyProject) -> int:
    """Requests that one pass over all listed pipelines of a project takes."""
    return math.ceil(len(project.pipelines) / config.poll.chunk_size)


def expected_series(config: Config) -> int:
    """Series of listed pipelines and of projects, if every pipeline has `STAGES` stages, succeeded and failed."""
    pipelines = sum(len(project.pipelines) for project in config.projects)
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
        series=Series(0, None, 1.0),
        active_starts=(),
        tally=Tally(created=0.0),
        durations=_example_durations(config),
    )
    return sum(_series(family, view) for family in families.pipelines)


def _example_stages(status: Status) -> tuple[Stage, ...]:
    """Stages of one job of two steps each; their names are the same in every pipeline."""
    steps = tuple(Step(f"step {place}", place, "", status, 1.0) for place in range(2))
    jobs = (Job("job", 0, status, 0.0, 1.0, steps),)
    return tuple(Stage(f"stage {place}", place, status, 0.0, 1.0, jobs) for place in range(STAGES))


def _example_durations(config: Config) -> Durations:
    """Histograms in which success and failure of every stage were observed."""
    bounds = Bounds(config.metrics.run_duration_buckets, config.metrics.stage_duration_buckets)
    durations = bounds.empty(0.0)
    for status in (Status.SUCCESS, Status.FAILED):
        run = Run(id="", status=status, stages=_example_stages(status))
        durations = bounds.observe_stages(durations, run, STAGES)
    return durations


def _series(family: Family[V], view: V) -> int:
    samples = sum(1 for _ in family.samples(view))
    # A histogram has its buckets, the one without bound, the sum and the count.
    return samples * (len(family.bounds) + 3 if family.type is Type.HISTOGRAM else 1)


def warnings(config: Config) -> Iterator[str]:
    """What is allowed, and probably not meant."""
    series = expected_series(config)
    if series > MANY_SERIES:
        yield (
            f"about {series} series are more than a scrape should carry ({MANY_SERIES}): see "
            "metrics.run_histogram, run_status_series and the buckets"
        )
    if config.poll.max_age < config.poll.interval:
        yield "poll.max_age is below poll.interval: values will come and go between refreshes"
    for project in config.projects:
        needed = (
            requests_per_refresh(config, project) - project.rate_limit.burst
        ) / project.rate_limit.requests_per_second
        if needed > config.poll.interval:
            yield (
                f"{project.name}: a refresh takes {needed:.0f} s under rate_limit, longer than poll.interval "
                f"({format_duration(config.poll.interval)}): raise one of them, or poll.chunk_size"
            )
        url = urlsplit(project.base_url)
        if url.scheme == "http" and url.hostname not in LOOPBACK:
            yield f"{project.name}: {project.base_url} is not encrypted: credentials go over the network in the clear"
        odd = [entry.id for entry in project.pipelines if len(entry.id) != _ID_LENGTH]
        if odd:
            yield f"{project.name}: {odd[0]} is not {_ID_LENGTH} characters long, as pipeline ids are"
        if len(project.project_id) != _ID_LENGTH:
            yield f"{project.name}: project_id {project.project_id} is not {_ID_LENGTH} characters long, as project ids are"
        yield from (f"{project.name}: {text}" for text in _unreadable(project.auth))


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
