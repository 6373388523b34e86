"""The scrapes of ten minutes of the demo, as a Prometheus stores them."""

import asyncio
from pathlib import Path
from typing import Any

import httpx

from exporter.app.demo import Clouds, Simulation
from exporter.settings.settings import Config
from exporter.simulator.world.world import DEFAULT_START
from tests.drivers.blocks import Blocks, Range, record
from tests.drivers.past import DAY, MINUTE
from tests.drivers.scrapes import scrapes
from tests.drivers.support import FakeClock

START = DEFAULT_START + 30 * DAY
END = START + 10 * MINUTE
PIPELINES = 40
"""In each cloud. Fewer than by default save most of the time."""
POLL = 10.0
"""Seconds between two active polls of the demo."""


def write_demo(promtool: str, prometheus: str, directory: Path) -> None:
    """Write the scrapes, one a minute, and the results of the recording rules as blocks."""

    async def write() -> None:
        clouds, clock = Clouds(Simulation(seed=1, pipelines=PIPELINES)), FakeClock(START)
        clouds.codearts.clock = clouds.flow.clock = clock.time
        transport = httpx.ASGITransport(clouds.app)

        async def send(request: httpx.Request) -> Any:
            response = await transport.handle_async_request(request)
            return response.status_code, response.headers, await response.aread()

        configuration = Config.model_validate(clouds.configuration("http://127.0.0.1:1"))
        polls = [START + POLL * number for number in range(int((END - START) / POLL) + 1)]
        blocks = Blocks(promtool, directory / "data")
        async for moment, page in scrapes(configuration, clock, send, polls, every=round(MINUTE / POLL)):
            blocks.add(moment, page)
        blocks.flush()

    def times(group: str) -> Range:
        # Scrapes of a demo begin a little later than evaluations.
        return START + 5, END + 5, MINUTE if group == "pipeline-exporter-latest" else 5 * MINUTE

    asyncio.run(write())
    record(promtool, prometheus, directory, times)
