"""An exporter on a fake clock, and what scrapes of it return."""

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Any

import httpx
import pytest

from exporter.app.bootstrap import assemble
from exporter.client.transport import ConnectionPools
from exporter.exposition.publisher import Publisher
from exporter.settings.settings import Config
from tests.drivers.support import FakeClock, shown

Send = Callable[[httpx.Request], Awaitable[Any]]
"""Returns a response in the form of `ConnectionPools.exchange`, or the failure."""


async def _skip(_: Publisher) -> None:
    """Publish nothing."""


async def scrapes(
    configuration: Config, clock: FakeClock, send: Send, polls: Sequence[float], *, every: int = 1
) -> AsyncIterator[tuple[float, str]]:
    """Poll at these times, and yield the time and the metrics page after each poll, or after one of `every`."""
    with pytest.MonkeyPatch.context() as patch:
        # One publication a page is enough.
        publish = Publisher.publish
        patch.setattr(Publisher, "publish", _skip)
        patch.setattr(ConnectionPools, "exchange", lambda _, request, *__: send(request))
        exporter = assemble(configuration, clock, {})
        for number, moment in enumerate(polls):
            # Retries take time.
            clock.now = max(clock.now, moment)
            for poller in exporter.pollers:
                await poller.tick()
            if number % every == 0:
                await publish(exporter.publisher)
                yield clock.now, shown(exporter)
        for poller in exporter.pollers:
            await poller.close()
        exporter.publisher.close()
