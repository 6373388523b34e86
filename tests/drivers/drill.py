"""Drills in virtual time: the real pollers and scheduler on a simulated cloud in the same event loop, and their log."""

import asyncio
import logging
from collections.abc import Callable
from typing import Any

import httpx

from exporter.app.bootstrap import assemble
from exporter.app.exporter import Exporter
from exporter.app.scheduler import Scheduler
from exporter.core.failures import FailureKind, RequestFailure
from exporter.core.logs import Formatter
from exporter.settings.settings import Config
from exporter.simulator import CodeArts, Flow
from tests.drivers.virtual_time import LoopClock, VirtualTimeLoop

Cloud = CodeArts | Flow
DAY = 86_400.0


class DrillClock(LoopClock):
    """Clock of the exporter and the cloud, which starts a month after the start of the cloud's world."""

    def __init__(self, cloud: Cloud) -> None:
        self._start = cloud.world.start + 30 * DAY

    def time(self) -> float:
        return self._start + self.monotonic() + self.step


class Lines(logging.Handler):
    """Collects log records at info and above with the virtual time, in seconds after the start."""

    def __init__(self) -> None:
        super().__init__(logging.INFO)
        self.records: list[tuple[float, Any]] = []

    def emit(self, record: logging.LogRecord) -> None:
        try:
            now = asyncio.get_running_loop().time()
        except RuntimeError:
            return
        # The record has the time of this machine only.
        self.records.append((now, record))

    def between(self, start: float, end: float = float("inf")) -> list[tuple[float, Any]]:
        """Return the records about projects from `start` until before `end`."""
        return [(now, one) for now, one in self.records if start <= now < end and hasattr(one, "project")]

    def text(self) -> str:
        """Return the lines as the exporter writes them, with the virtual time."""
        formatter = Formatter("logfmt")
        return "\n".join(
            f"t={now:.0f}s {formatter.format(record).partition(' ')[2]}" for now, record in self.records
        )


class Drill:
    """One exporter on one cloud during a drill."""

    def __init__(self, cloud: Cloud, settings: Config, exchange: Any) -> None:
        """`exchange` replaces `ConnectionPools.exchange` by its argument until the end of the test."""
        self.cloud = cloud
        self.unreachable = False
        """True while requests do not reach the cloud."""
        self._settings = settings
        self._exchange = exchange
        self.exporter: Exporter | None = None
        self.lines = Lines()

    async def _send(self, request: httpx.Request) -> Any:
        if self.unreachable:
            return RequestFailure(kind=FailureKind.TRANSIENT, code="connect", message="no response: refused")
        transport = httpx.ASGITransport(self.cloud.app, raise_app_exceptions=False)
        try:
            async with asyncio.timeout(self._settings.poll.timeout):
                response = await transport.handle_async_request(request)
                body = await response.aread()
        except TimeoutError:
            return RequestFailure(kind=FailureKind.TRANSIENT, code="timeout", message="no response in time")
        return response.status_code, response.headers, body

    def play(self, *steps: float | Callable[[], object]) -> Lines:
        """Let seconds pass, or call a function, for each step; return the log."""

        async def whole() -> None:
            clock = DrillClock(self.cloud)
            self.cloud.clock = clock.time
            self._exchange(lambda _, request: self._send(request))
            self.exporter = assemble(self._settings, clock)
            scheduler = Scheduler(self.exporter, clock)
            scheduler.start()
            for step in steps:
                await (_call(step) if callable(step) else asyncio.sleep(step))
            await scheduler.stop()
            for poller in self.exporter.pollers:
                await poller.close()

        logger = logging.getLogger("exporter")
        level = logger.level
        logger.setLevel(logging.INFO)
        logger.addHandler(self.lines)
        try:
            with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
                runner.run(whole())
        finally:
            logger.removeHandler(self.lines)
            logger.setLevel(level)
        return self.lines


async def _call(step: Callable[[], object]) -> None:
    step()
