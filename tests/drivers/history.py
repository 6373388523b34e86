"""The scrapes of three weeks, as a Prometheus stores them.

An exporter polls the clouds of `Past` on a fake clock. promtool converts its metrics pages, with the labels and times of
scrapes, into blocks.
"""

import asyncio
from pathlib import Path
from typing import Any

import httpx

from exporter.core.failures import FailureKind, RequestFailure
from exporter.settings.settings import Config
from exporter.simulator import combine
from tests.drivers.blocks import Blocks, Range, record
from tests.drivers.past import DAY, DEPLOYING, NOW, OUTAGE, START, STEP, Past, pages
from tests.drivers.scrapes import scrapes
from tests.drivers.support import FakeClock, config

REPLACEMENT = 'job="pipeline-exporter",instance="exporter-new:10047"'
"""Labels of the target that replaces the first one; the last page is stored for both."""
WEEK = 7 * DAY
RECORDED = NOW + 1
"""Time of the last results of recording rules."""
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


def write_history(promtool: str, folder: Path) -> None:
    """Write the scrapes of three weeks as blocks to a folder."""

    async def write() -> None:
        past, clock = Past(), FakeClock(pages()[0])
        connections = _Connections(past, clock)
        blocks = Blocks(promtool, folder)
        async for moment, page in scrapes(configuration(past), clock, connections.send, pages()):
            blocks.add(moment, page)
        blocks.add(moment, page, REPLACEMENT)
        blocks.flush()

    asyncio.run(write())


def record_history(promtool: str, prometheus: str, directory: Path) -> None:
    """Add what the recording rules make of three weeks; windows of days and weeks are those of the last seven days."""

    def times(group: str) -> Range:
        if group in {"pipeline-exporter-latest", "pipeline-exporter-hours"}:
            return START + 7, NOW, STEP
        # No result for an hour is at the edge of a window, where versions of Prometheus differ.
        return RECORDED - WEEK, RECORDED, STEP

    record(promtool, prometheus, directory, times, per_hour=2)
