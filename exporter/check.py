"""What a configuration means: requests and series to expect, and what a user will want to know before they run it."""

import math
from collections.abc import Iterator
from urllib.parse import urlsplit

from exporter.board import ProjectView, View
from exporter.config.duration import format_duration
from exporter.config.fields import Section
from exporter.config.schema import Config
from exporter.config.secret import FileSecret, SecretError
from exporter.ledger import Series
from exporter.metrics import Family, Type, V, catalogue
from exporter.model import Pipeline, Run, Stage, Status
from exporter.providers import AnyProject, connect
from exporter.tally import Bounds, Tally

MANY_SERIES = 300_000
STAGES = 5
_ID_LENGTH = 32


def report(config: Config) -> str:
    """What a configuration means, as text."""
    lines = []
    pipelines = sum(len(project.pipelines) for project in config.projects)
    lines.append(f"{_count(len(config.projects), 'project')}, {_count(pipelines, 'pipeline')}")
    often = format_duration(min(config.poll.active_interval, config.poll.interval))
    for project in config.projects:
        _, _, base_url = connect(project)
        requests = requests_per_refresh(config, project)
        per_minute = requests * 60 / config.poll.interval
        lines += [
            f"{project.name} ({project.provider}, {base_url}): {_count(len(project.pipelines), 'pipeline')}",
            f"  requests: {requests} a refresh, {per_minute:.4g} a minute",
            f"  and every {often}, 1 for each {config.poll.chunk_size} pipelines under way",
        ]
    lines.append(
        f"series: about {expected_series(config)} with {STAGES} stages a pipeline, success and failure seen"
    )
    lines += [f"warning: {text}" for text in warnings(config)]
    return "\n".join(lines)


def requests_per_refresh(config: Config, project: AnyProject) -> int:
    """Requests that one pass over all pipelines of a project takes."""
    return math.ceil(len(project.pipelines) / config.poll.chunk_size)


def expected_series(config: Config) -> int:
    """Series of pipelines and projects, if every pipeline has `STAGES` stages and both succeeded and failed."""
    user_labels = {
        name for project in config.projects for entry in project.pipelines for name in entry.labels
    }
    families = catalogue(config.metrics, user_labels)
    bounds = Bounds(config.metrics.run_duration_buckets, config.metrics.stage_duration_buckets)
    stages = tuple(Stage(f"stage {index}", index, Status.SUCCESS, 0.0, 1.0) for index in range(STAGES))
    durations = bounds.empty(0.0)
    # In this example the stages have one name each, the same in every pipeline; both outcomes are observed.
    for status in (Status.SUCCESS, Status.FAILED):
        ended = tuple(Stage(stage.name, stage.sequence, status, 0.0, 1.0) for stage in stages)
        durations = bounds.observe_stages(durations, Run(id="", status=status, stages=ended), STAGES)
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
        durations=durations,
    )
    project = ProjectView(provider="", project="", durations=durations)
    pipelines = sum(len(project.pipelines) for project in config.projects)
    each = sum(_series(family, view) for family in families.pipelines)
    return pipelines * each + len(config.projects) * sum(
        _series(family, project) for family in families.projects
    )


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
        _, _, base_url = connect(project)
        url = urlsplit(base_url)
        if url.scheme == "http" and url.hostname not in {"127.0.0.1", "::1", "localhost"}:
            yield f"{project.name}: {base_url} is not encrypted: credentials go over the network in the clear"
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
