"""What a configuration costs in requests: reckoned, and in words for whoever is about to run it."""

import math
from collections.abc import Iterator

from exporter.config.duration import format_duration
from exporter.config.project_section import Discover, PipelineEntry
from exporter.core.shard import Shard
from exporter.polling.strategies.activity import DIRECTLY, LISTS, requests_of_direct_asks, sweeps
from exporter.providers.protocol import SupportsActivityQuery
from exporter.providers.registry import AnyProject, connect
from exporter.settings.settings import Config

EXAMPLE = 1000
"""Pipelines of a project, where their number is not known."""


def owned(project: AnyProject, shard: Shard | None) -> tuple[PipelineEntry, ...]:
    """The listed pipelines of a project, or those that a shard has of them."""
    return tuple(
        entry
        for entry in project.pipelines
        if shard is None or shard.owns(project.provider, project.scope, entry.id)
    )


def batched(project: AnyProject) -> bool:
    """Whether many pipelines of a project are asked about in one request."""
    return not isinstance(connect(project, {})[0], SupportsActivityQuery)


def requests(config: Config, project: AnyProject, shard: Shard | None) -> Iterator[str]:
    """What a project costs in requests, a line each."""
    page = connect(project, {})[0].page_size
    tell = _batched if batched(project) else _swept
    yield from tell(config, project, shard, page)


def requests_per_refresh(config: Config, project: AnyProject, shard: Shard | None = None) -> int:
    """Requests that one pass over all listed pipelines of a project takes, each of them asked about."""
    pipelines = len(owned(project, shard))
    return math.ceil(pipelines / config.poll.chunk_size) if batched(project) else pipelines


def quiet_requests(config: Config, project: AnyProject, shard: Shard | None = None) -> float:
    """Requests that a refresh takes where nothing has happened, on the average."""
    pipelines = len(owned(project, shard))
    if not batched(project) and sweeps(pipelines, config.poll.interval):
        return LISTS + requests_of_direct_asks(pipelines, config.poll.interval)
    return requests_per_refresh(config, project, shard)


def requests_with_discovery(
    config: Config, discovery: Discover, pipelines: int, page: int, watched: int
) -> float:
    """Requests that a refresh takes on the average where a project has so many pipelines, some of them watched."""
    batches, listing = math.ceil(watched / config.poll.chunk_size), math.ceil(pipelines / page) + 1
    turn = _turn(config, discovery)
    return ((turn - 1) * batches + listing) / turn


def _turn(config: Config, discovery: Discover) -> int:
    """Of so many refreshes one lists the project."""
    return max(1, math.ceil(discovery.interval / config.poll.interval))


# A cloud that is asked in batches


def _batched(config: Config, project: AnyProject, shard: Shard | None, page: int) -> Iterator[str]:
    poll = config.poll
    listing = f"1 for each {page} pipelines of the project, and 1 to see the end"
    many = poll.chunk_size > 1
    batch = f"1 for each {poll.chunk_size} pipelines" if many else "1 for each pipeline"
    running = f"1 for each {poll.chunk_size} of them" if many else "1 for each"
    refresh, often = format_duration(poll.interval), _often(config)
    if project.discovery is None:
        yield f"  {_refresh(config, requests_per_refresh(config, project, shard))}; besides"
    else:
        turn = _turn(config, project.discovery)
        watched = _watched(shard)
        mean = requests_with_discovery(config, project.discovery, EXAMPLE, page, watched)
        if turn > 1:
            yield f"  requests of a refresh, every {refresh}: {batch}"
            yield f"  but every {format_duration(turn * poll.interval)} one lists the project instead: {listing}"
        else:
            yield f"  requests of a refresh, every {refresh}, which lists the project: {listing}"
        yield f"  {_with_example(shard)}: about {_per_minute(mean, poll.interval)} a minute; besides"
    most = _per_minute(1, often)
    yield f"  - for running pipelines: every {format_duration(often)}, {running} (up to {most} a minute)"
    yield from _names(project, shard, listing)
    if config.metrics.details != "none":
        yield "  - for metrics.details: 1 for each run that is new, or has changed since the poll before"
    yield "  - for runs that began and ended between two polls, or that a newer one hides: 1 for all of a pipeline's"
    yield "  - for what else is under way at the first sight of a running pipeline: 1 for each"


# A cloud that tells each pipeline alone


def _swept(config: Config, project: AnyProject, shard: Shard | None, page: int) -> Iterator[str]:
    poll = config.poll
    listing = f"1 for each {page} pipelines of the project"
    often = _often(config)
    if project.discovery is None:
        pipelines = len(owned(project, shard))
        swept = sweeps(pipelines, poll.interval)
        yield f"  {_refresh(config, quiet_requests(config, project, shard))} while nothing runs: {_way(swept=swept)}"
    else:
        watched = _watched(shard)
        lists = math.ceil(EXAMPLE / page) / _turn(config, project.discovery)
        mean = LISTS + requests_of_direct_asks(watched, poll.interval) + lists
        yield f"  requests of a refresh, every {format_duration(poll.interval)}, while nothing runs: {_way(swept=True)}"
        yield f"  and every {format_duration(_turn(config, project.discovery) * poll.interval)} to list the project: {listing}"
        yield f"  {_with_example(shard)}: about {_per_minute(mean, poll.interval)} a minute; besides"
    yield "  - at the start: 2 for each pipeline, its run list and its latest run"
    yield (
        f"  - for each pipeline that runs, or ran since the refresh before: 2 a refresh, and while it runs 2 every "
        f"{format_duration(often)}"
    )
    yield "  - for each further run that ended meanwhile: 1"
    yield from _names(project, shard, listing)


def _way(*, swept: bool) -> str:
    if not swept:
        return "1 for each pipeline, fewer than a sweep would take"
    return (
        f"{LISTS} lists that tell which pipelines ran (more if those take more than a page each), and each pipeline "
        f"by itself within {format_duration(DIRECTLY)}"
    )


# Both


def _refresh(config: Config, number: float) -> str:
    told = f"{number:.4g}" if float(number).is_integer() else f"about {number:.3g}"
    return f"{told} {'request' if number == 1 else 'requests'} a refresh, {_per_minute(number, config.poll.interval)} a minute"


def _watched(shard: Shard | None) -> int:
    return math.ceil(EXAMPLE / shard.total) if shard else EXAMPLE


def _with_example(shard: Shard | None) -> str:
    some = f"about {_watched(shard)} of them" if shard else "all of them"
    return f"with {EXAMPLE} pipelines in the project, {some} watched"


def _often(config: Config) -> float:
    return min(config.poll.active_interval, config.poll.interval)


def _names(project: AnyProject, shard: Shard | None, listing: str) -> Iterator[str]:
    if project.discovery is None and any(entry.name is None for entry in owned(project, shard)):
        yield f"  - for names that are not given: at the start and every hour, {listing}"


def _per_minute(number: float, seconds: float) -> str:
    return f"{number * 60 / seconds:.4g}"
