"""The scrapes of three weeks, as a Prometheus stores them.

An exporter polls the clouds of `Past` on a fake clock. promtool converts its metrics pages, with the labels and times of
scrapes, into blocks.
"""

import asyncio
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import lru_cache
from pathlib import Path
from typing import Any

import httpx
import pytest

from exporter.app.bootstrap import assemble
from exporter.app.exporter import Exporter
from exporter.client.transport import ConnectionPools
from exporter.core.failures import FailureKind, RequestFailure
from exporter.exposition.publisher import Publisher
from exporter.settings.settings import Config
from exporter.simulator import combine
from tests.drivers.past import DEPLOYING, OUTAGE, STEP, Past, pages
from tests.drivers.support import FakeClock, config, shown

TARGET = 'job="pipeline-exporter",instance="exporter:10047"'
REPLACEMENT = 'job="pipeline-exporter",instance="exporter-new:10047"'
"""Labels of the target that replaces the first one; the last page is stored for both."""
CHUNK = 500
"""Number of metrics pages that promtool converts at once."""
TEAMS = {"payments": "checkout", "mobile": "apps"}
"""The label `team` of each project."""


def configuration(past: Past) -> Config:
    """Return a configuration that polls the clouds of the past once for each page."""

    def section(project: str, **own: Any) -> dict[str, Any]:
        names = "|".join(past.pipeline(project, role).name for role in DEPLOYING)
        labels = [
            {"match": ".*", "labels": {"team": TEAMS[project]}},
            {"match": f"^({names})$", "labels": {"deploys": "production"}},
        ]
        return {
            "name": project,
            "endpoint": "http://127.0.0.1:1",
            "pipelines": [],
            "discover": {"interval": f"{STEP:g}s", "labels": labels},
            "rate_limit": {"requests_per_second": 1000, "burst": 1000},
            **own,
        }

    interval = f"{STEP:g}s"
    return config(
        section(
            "payments",
            provider="codearts",
            project_id=past.codearts.world.project_id,
            auth={"method": "token", "token": past.codearts.credentials.token},
        ),
        section(
            "mobile",
            provider="flow",
            organization_id=past.flow.organization_id,
            auth={"method": "yunxiao_token", "token": past.flow.credentials.personal_token},
        ),
        poll={"interval": interval, "active_interval": interval},
    )


class _Connections:
    """Sends requests to the clouds of a `Past` in this process."""

    def __init__(self, past: Past, clock: FakeClock) -> None:
        self._past = past
        self._clock = clock
        self._transport = httpx.ASGITransport(combine(past.codearts, past.flow))

    async def send(self, request: httpx.Request) -> Any:
        """Return the response of a cloud, or the failure to reach it."""
        self._past.advance(self._clock.now)
        if self._past.flow.serves(request.url.path) and OUTAGE[0] <= self._clock.now < OUTAGE[1]:
            return RequestFailure(kind=FailureKind.TRANSIENT, code="connect", message="no response: refused")
        response = await self._transport.handle_async_request(request)
        return response.status_code, response.headers, await response.aread()


async def _skip(_: Publisher) -> None:
    """Publish nothing."""


async def _pages(
    exporter: Exporter, clock: FakeClock, publish: Callable[[Publisher], Awaitable[None]]
) -> AsyncIterator[tuple[float, str]]:
    for moment in pages():
        # Retries take time.
        clock.now = max(clock.now, moment)
        for poller in exporter.pollers:
            await poller.tick()
        await publish(exporter.publisher)
        yield clock.now, shown(exporter)


@lru_cache(maxsize=50_000)  # most lines are the same on many pages
def _stored(line: str, target: str) -> str:
    """Return a sample with the labels of the target, as a scrape adds them."""
    series, _, value = line.rpartition(" ")
    name, _, labels = series.partition("{")
    return f"{name}{{{target},{labels} {value}" if labels else f"{name}{{{target}}} {value}"


class _Blocks:
    """Writes metrics pages as blocks; promtool converts `CHUNK` pages at a time."""

    def __init__(self, promtool: str, folder: Path) -> None:
        self._promtool = promtool
        self._folder = folder
        self._file = folder.with_name(f"{folder.name}.txt")
        self._texts: list[str] = []

    def add(self, moment: float, page: str, target: str = TARGET) -> None:
        """Add the page of a scrape at `moment` (Unix seconds)."""
        end = f" {moment:.3f}\n"
        lines = [_stored(line, target) for line in page.splitlines() if line[0] != "#"]
        self._texts.append(end.join([f"up{{{target}}} 1", *lines, ""]))
        if len(self._texts) == CHUNK:
            self.flush()

    def flush(self) -> None:
        """Convert the pages added since the last call."""
        with self._file.open("w", encoding="utf-8") as file:
            file.writelines([*self._texts, "# EOF\n"])
        self._texts.clear()
        subprocess.run(
            [
                self._promtool,
                "tsdb",
                "create-blocks-from",
                "openmetrics",
                "--quiet",
                "--max-block-duration=480h",
                str(self._file),
                str(self._folder),
            ],
            check=True,
            capture_output=True,
        )
        self._file.unlink()


def write_history(promtool: str, folder: Path) -> None:
    """Write the scrapes of three weeks as blocks to a folder."""

    async def write() -> None:
        past, clock = Past(), FakeClock(pages()[0])
        connections = _Connections(past, clock)
        with pytest.MonkeyPatch.context() as patch:
            # One publication a page is enough.
            publish = Publisher.publish
            patch.setattr(Publisher, "publish", _skip)
            patch.setattr(ConnectionPools, "exchange", lambda _, request, *__: connections.send(request))
            exporter = assemble(configuration(past), clock, {})
            blocks = _Blocks(promtool, folder)
            async for moment, page in _pages(exporter, clock, publish):
                blocks.add(moment, page)
            blocks.add(moment, page, REPLACEMENT)
            blocks.flush()
            for poller in exporter.pollers:
                await poller.close()
            exporter.publisher.close()

    asyncio.run(write())
