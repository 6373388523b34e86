"""Estimate the requests that a configuration causes, as figures and as text for `check-config`."""

import math
from collections.abc import Iterator

from exporter.config.duration import format_duration
from exporter.config.project_section import Discover, PipelineEntry
from exporter.core.shard import Shard
from exporter.polling.strategies.activity import (
    DIRECT_INTERVAL,
    LISTS,
    activity_query_pays,
    direct_requests,
)
from exporter.providers.registry import AnyProject, provider_type
from exporter.settings.settings import Config

EXAMPLE = 1000
"""Number of pipelines to assume for a project with discovery."""


def owned(project: AnyProject, shard: Shard | None) -> tuple[PipelineEntry, ...]:
    """Return the listed pipelines of a project; with `shard`, only those that it owns."""
    return tuple(
        entry
        for entry in project.pipelines
        if shard is None or shard.owns(project.provider, project.scope, entry.id)
    )


def batched(project: AnyProject) -> bool:
    """Return whether one request can query many pipelines of a project."""
    return provider_type(project).batched


def requests(config: Config, project: AnyProject, shard: Shard | None) -> Iterator[str]:
    """Yield lines that describe the requests of a project."""
    lines = _batch_lines if batched(project) else _activity_lines
    yield from lines(config, project, shard, provider_type(project).page_size)


def requests_per_refresh(config: Config, project: AnyProject, shard: Shard | None = None) -> int:
    """Return the number of requests of a refresh that queries each listed pipeline of a project."""
    pipelines = len(owned(project, shard))
    return math.ceil(pipelines / config.poll.chunk_size) if batched(project) else pipelines


def quiet_requests(config: Config, project: AnyProject, shard: Shard | None = None) -> float:
    """Return the mean number of requests of a refresh while no pipeline runs."""
    pipelines = len(owned(project, shard))
    if not batched(project) and activity_query_pays(pipelines, config.poll.interval):
        return LISTS + direct_requests(pipelines, config.poll.interval)
    return requests_per_refresh(config, project, shard)


def requests_with_discovery(
    config: Config, discovery: Discover, pipelines: int, page: int, watched: int
) -> float:
    """Return the mean number of requests of a refresh of a batched project that discovers pipelines.

    The project has `pipelines` pipelines, of which `watched` are watched. `page` is the page size of its list.
    """
    batches, listing = math.ceil(watched / config.poll.chunk_size), math.ceil(pipelines / page) + 1
    cycle = _cycle(config, discovery)
    return ((cycle - 1) * batches + listing) / cycle


def _cycle(config: Config, discovery: Discover) -> int:
    """Return the period, in refreshes, at which the project's pipelines are listed."""
    return max(1, math.ceil(discovery.interval / config.poll.interval))


# Providers queried in batches


def _batch_lines(config: Config, project: AnyProject, shard: Shard | None, page: int) -> Iterator[str]:
    poll = config.poll
    listing = f"1 for each {page} pipelines of the project, and 1 for the end of the list"
    many = poll.chunk_size > 1
    batch = f"1 for each {poll.chunk_size} pipelines" if many else "1 for each pipeline"
    running = f"1 for each {poll.chunk_size} of them" if many else "1 for each"
    interval, active_interval = format_duration(poll.interval), _active_interval(config)
    if project.discovery is None:
        yield f"  {_refresh(config, requests_per_refresh(config, project, shard))}, plus:"
    else:
        cycle = _cycle(config, project.discovery)
        watched = _watched(shard)
        mean = requests_with_discovery(config, project.discovery, EXAMPLE, page, watched)
        if cycle > 1:
            yield f"  requests of a refresh, every {interval}: {batch}"
            yield f"  but every {format_duration(cycle * poll.interval)} a refresh lists the project instead: {listing}"
        else:
            yield f"  requests of a refresh, every {interval}, which lists the project: {listing}"
        yield f"  {_with_example(shard)}: about {_per_minute(mean, poll.interval)} a minute, plus:"
    most = _per_minute(1, active_interval)
    yield f"  - running pipelines: every {format_duration(active_interval)}, {running} (up to {most} a minute)"
    yield from _names(project, shard, listing)
    if config.metrics.details != "none":
        yield "  - metrics.details: 1 for each run that is new or has changed since the last poll"
    yield "  - runs that started and ended between two polls, or that a newer run hides: 1 for all of a pipeline"
    yield "  - other runs in progress when a running pipeline is first polled: 1 for each pipeline"


# Providers queried by activity


def _activity_lines(config: Config, project: AnyProject, shard: Shard | None, page: int) -> Iterator[str]:
    poll = config.poll
    listing = f"1 for each {page} pipelines of the project"
    if project.discovery is None:
        pipelines = len(owned(project, shard))
        query = _query(by_activity=activity_query_pays(pipelines, poll.interval))
        yield f"  {_refresh(config, quiet_requests(config, project, shard))} while nothing runs: {query}"
    else:
        watched = _watched(shard)
        cycle = _cycle(config, project.discovery)
        mean = LISTS + direct_requests(watched, poll.interval) + math.ceil(EXAMPLE / page) / cycle
        interval = format_duration(poll.interval)
        yield f"  requests of a refresh, every {interval}, while nothing runs: {_query(by_activity=True)}"
        yield f"  and every {format_duration(cycle * poll.interval)} to list the project: {listing}"
        yield f"  {_with_example(shard)}: about {_per_minute(mean, poll.interval)} a minute, plus:"
    yield "  - at the start: 2 for each pipeline, its run list and its latest run"
    yield (
        "  - for each pipeline that runs, or ran since the last refresh: 2 a refresh, and while it runs 2 every "
        f"{format_duration(_active_interval(config))}"
    )
    yield "  - for each further run that ended since the last refresh: 1"
    yield from _names(project, shard, listing)


def _query(*, by_activity: bool) -> str:
    if not by_activity:
        return "1 for each pipeline, fewer than lists of active pipelines would take"
    return (
        f"{LISTS} lists of active pipelines (more if a list has several pages), and a direct query of each "
        f"pipeline within {format_duration(DIRECT_INTERVAL)}"
    )


# Both


def _refresh(config: Config, number: float) -> str:
    rounded = f"{number:.4g}" if float(number).is_integer() else f"about {number:.3g}"
    return f"{rounded} {'request' if number == 1 else 'requests'} a refresh, {_per_minute(number, config.poll.interval)} a minute"


def _watched(shard: Shard | None) -> int:
    return math.ceil(EXAMPLE / shard.total) if shard else EXAMPLE


def _with_example(shard: Shard | None) -> str:
    watched = f"about {_watched(shard)} of them" if shard else "all of them"
    return f"with {EXAMPLE} pipelines in the project, {watched} watched"


def _active_interval(config: Config) -> float:
    return min(config.poll.active_interval, config.poll.interval)


def _names(project: AnyProject, shard: Shard | None, listing: str) -> Iterator[str]:
    pipelines = owned(project, shard)
    if project.discovery is None and pipelines:
        unnamed = any(entry.name is None for entry in pipelines)
        purpose = "names that are not configured" if unnamed else "check that the ids are listed"
        yield f"  - {purpose}: at the start and every hour, {listing}"


def _per_minute(number: float, seconds: float) -> str:
    return f"{number * 60 / seconds:.4g}"
