"""Poll every project once for the commands `once` and `status`, without storing anything."""

import asyncio
from collections.abc import Sequence

from exporter.app.bootstrap import assemble
from exporter.app.exporter import Exporter
from exporter.app.project import Project
from exporter.app.scheduler import guarded_tick
from exporter.core.clock import SystemClock
from exporter.core.shard import Shard
from exporter.exposition import Body, Format, Variant
from exporter.polling.progress import Progress
from exporter.settings.settings import Config


async def poll_once(config: Config, shard: Shard | None, progress: Progress) -> tuple[Exporter, Body]:
    """Poll every project once. Return the exporter, and its metrics in the text format."""
    exporter = assemble(config, SystemClock(), shard=shard, progress=progress)
    await find_projects(exporter)
    async with asyncio.TaskGroup() as polls:
        for poller in exporter.pollers:
            polls.create_task(guarded_tick(poller, once=True))
    await exporter.publisher.publish()
    page = await exporter.publisher.body(Variant(Format.TEXT, gzip=False))
    for poller in exporter.pollers:
        await poller.close()
    return exporter, page


async def find_projects(exporter: Exporter) -> None:
    """Read every list of projects once, and put those found in force, before any polls.

    Raises:
        SetupError: a certificate authority cannot be loaded.

    """
    for one in exporter.finders:
        await one.finder.read(once=True)
        await one.finder.close()
    await exporter.apply_found(_retire)


async def _retire(_: Sequence[Project]) -> None:
    """Nothing polls yet."""
