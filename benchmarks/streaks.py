"""Measure the time until every failure streak is known after a first start, at the default request budget.

    python -m benchmarks.streaks --cloud flow --pipelines 10000

Exporter, scheduler and simulated cloud share an event loop in virtual time without a network, so an hour takes only as
long as its computations. Each request takes `--latency` seconds of virtual time. The metrics page is not rendered. The
cloud has the runs of the demo, `--slower` times as far apart, because frequent runs would leave no request budget for
streaks.
"""

import argparse
import asyncio
import logging
import selectors
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import Executor
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

import httpx
import msgspec

from exporter.app.bootstrap import assemble
from exporter.app.scheduler import Scheduler
from exporter.client.transport import ConnectionPools
from exporter.exposition.publisher import Publisher
from exporter.polling.poller import Poller
from exporter.polling.run_history import RunHistoryReader
from exporter.settings.settings import Config
from exporter.simulator import CodeArts, Flow, World
from exporter.tracking.project import ProjectTracker

DAY = 86_400.0
SAMPLE = 2.0
"""Virtual seconds between two checks of the streaks."""
MOST = 3 * 3600.0
"""Virtual seconds after which a measurement ends."""


class Figures(msgspec.Struct, frozen=True, kw_only=True):
    """Measurements of one start; times are virtual seconds since the start."""

    cloud: str
    pipelines: int
    first_page: float
    refreshed: float
    """When the first refresh ended."""
    unknown: int
    """Number of streaks that were unknown at the end of the first refresh."""
    known: float
    """When every streak had been known."""
    refreshes: tuple[int, ...]
    """When each refresh up to `known` ended."""
    red: int
    """Number of pipelines that were red at `known`."""
    pages: dict[int, int]
    """Number of red pipelines by the pages of their run list that were read until their streaks were known."""
    other_pages: int
    """Pages of run lists that were read for pipelines that are not red."""
    refresh_requests: int
    """Requests of the first refresh."""
    requests: dict[str, int]
    """All requests until every streak was known, by operation."""
    cpu: float
    """CPU seconds of the measurement, including the simulated cloud."""

    @property
    def rate(self) -> float:
        """Requests a second in the first refresh."""
        return self.refresh_requests / self.refreshed

    @property
    def later_rate(self) -> float:
        """Requests a second after the first refresh."""
        return (sum(self.requests.values()) - self.refresh_requests) / (self.known - self.refreshed)


class _LeapingSelector(selectors.DefaultSelector):
    """A selector that advances the time instead of waiting."""

    now = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        self.now += max(timeout or 0.0, 0.0)
        return super().select(0)


class VirtualLoop(asyncio.SelectorEventLoop):
    """An event loop in virtual time; it runs work for threads itself, because virtual time would pass while it waits."""

    def __init__(self) -> None:
        self._leaping = _LeapingSelector()
        super().__init__(self._leaping)

    def time(self) -> float:
        """Return the virtual seconds since the start."""
        return self._leaping.now

    def run_in_executor(  # type: ignore[override]  # as a finished future
        self, executor: Executor | None, func: Callable[..., Any], *args: Any
    ) -> asyncio.Future[Any]:
        """Call the function at once; return a finished future."""
        del executor
        future = self.create_future()
        future.set_result(func(*args))
        return future


class Clock:
    """Clock of the exporter and the cloud, which starts a month after the start of the world."""

    def __init__(self, start: float) -> None:
        self._start = start + 30 * DAY

    def time(self) -> float:
        """Return the time in Unix seconds."""
        return self._start + self.monotonic()

    def monotonic(self) -> float:
        """Return the virtual seconds since the start."""
        return asyncio.get_running_loop().time()

    async def sleep(self, seconds: float) -> None:
        """Wait on the event loop."""
        await asyncio.sleep(seconds)


class SlowerWorld(World):
    """A world whose runs are `slower` times as far apart."""

    def __init__(self, pipelines: int, slower: float) -> None:
        self._slower = slower
        super().__init__(pipelines=pipelines)

    def _pipeline(self, index: int, name: str) -> Any:
        pipeline = super()._pipeline(index, name)
        if pipeline.first is None:
            return pipeline
        period = round(pipeline.period * self._slower)
        age = round((self.start - pipeline.first) * self._slower)
        return replace(pipeline, period=period, first=int(self.start) - age)


def settings(cloud: CodeArts | Flow) -> Config:
    """Return a default configuration that discovers all pipelines."""
    if isinstance(cloud, CodeArts):
        keys: dict[str, Any] = {
            "provider": "codearts",
            "project_id": cloud.world.project_id,
            "auth": {"method": "token", "token": cloud.credentials.token},
        }
    else:
        keys = {
            "provider": "flow",
            "organization_id": cloud.organization_id,
            "auth": {"method": "yunxiao_token", "token": cloud.credentials.personal_token},
        }
    project = {"name": "bench", "endpoint": "http://127.0.0.1:1", "discover": {}, **keys}
    return Config.model_validate({"projects": [project]})


class Progress:
    """Counts the pipelines of a project whose failure streaks are unknown, and the pages read for them."""

    def __init__(self, tracker: ProjectTracker) -> None:
        self._tracker = tracker
        self._known: set[str] = set()
        """Pipelines whose streak has been known."""
        self.pages: Counter[str] = Counter()
        """Pages of run lists that were read while the streak was unknown, by pipeline."""

    def read(self, pipeline: str) -> None:
        """Count a page of a pipeline's run list, if its streak is unknown."""
        if pipeline not in self._known and self._is_unknown(pipeline):
            self.pages[pipeline] += 1

    def _is_unknown(self, pipeline: str) -> bool:
        view = self._tracker[pipeline].view
        return view is None or (bool(view.has_run) and view.streak is None)

    @property
    def unknown(self) -> int:
        """Number of pipelines whose streak has never been known; one that is hidden for a while counts as known."""
        left = [one for one in self._tracker.ids if one not in self._known]
        self._known.update(one for one in left if not self._is_unknown(one))
        return len(self._tracker.ids) - len(self._known)

    @property
    def red(self) -> frozenset[str]:
        """Pipelines with failures since the last success."""
        return frozenset(
            view.pipeline.id
            for view in self._tracker.views()
            if view.streak is not None and view.streak.failures
        )


async def measure(name: str, pipelines: int, slower: float, latency: float) -> Figures:
    """Start an exporter, and measure until every streak is known."""
    world = SlowerWorld(pipelines, slower)
    clock = Clock(world.start)
    cloud = (CodeArts if name == "codearts" else Flow)(world, clock=clock.time)
    cloud.latency = latency
    transport = httpx.ASGITransport(cloud.app)
    published: list[float] = []

    async def send(_: ConnectionPools, request: httpx.Request, _limit: int = 0) -> Any:
        response = await transport.handle_async_request(request)
        return response.status_code, response.headers, await response.aread()

    async def publish(_: Publisher) -> None:
        if any(tracker.views() for tracker in exporter.trackers):
            published.append(clock.monotonic())

    read_page = RunHistoryReader.read_page

    async def read(reader: RunHistoryReader, limit: int) -> None:
        progress.read(reader._pipeline)  # noqa: SLF001  # counted by pipeline
        await read_page(reader, limit)

    cpu_started = time.process_time()
    with (
        patch.object(ConnectionPools, "exchange", send),
        patch.object(Publisher, "publish", publish),
        patch.object(RunHistoryReader, "read_page", read),
    ):
        exporter = assemble(settings(cloud), clock)
        poller, progress = exporter.pollers[0], Progress(exporter.trackers[0])
        scheduler = Scheduler(exporter, clock)
        scheduler.start()
        await poller.refreshed.wait()
        refreshed, refresh_requests, unknown = clock.monotonic(), poller.api.sent, progress.unknown
        ends = {last_refresh(poller, clock)}
        while progress.unknown and clock.monotonic() < MOST:
            await asyncio.sleep(SAMPLE)
            ends.add(last_refresh(poller, clock))
        known, red = clock.monotonic(), progress.red
        left = progress.unknown
        await scheduler.stop()
        await poller.close()
    if left or not poller.up:
        raise RuntimeError(f"{left} streaks are unknown after {known:.0f} s")
    requests: Counter[str] = Counter()
    for (operation, _), times in cloud.request_counts.items():
        requests[operation or ""] += times
    needed = Counter(progress.pages[one] for one in red)
    return Figures(
        cloud=name,
        pipelines=pipelines,
        first_page=published[0],
        refreshed=refreshed,
        unknown=unknown,
        known=known,
        refreshes=tuple(sorted(ends)),
        red=len(red),
        pages=dict(sorted(needed.items())),
        other_pages=sum(pages for one, pages in progress.pages.items() if one not in red),
        refresh_requests=refresh_requests,
        requests=dict(requests),
        cpu=time.process_time() - cpu_started,
    )


def last_refresh(poller: Poller, clock: Clock) -> int:
    """Return when the last refresh ended, in virtual seconds since the start."""
    ended = poller.last_refresh
    return 0 if ended is None else round(ended - clock.time() + clock.monotonic())


def report(figures: list[Figures]) -> Iterator[str]:
    """Yield the lines of the report."""
    yield "| cloud | pipelines | first page | first refresh | requests a second | unknown then | all known | red | their pages |"
    yield "|---|---|---|---|---|---|---|---|---|"
    for one in figures:
        pages = ", ".join(f"{red} with {pages}" for pages, red in one.pages.items())
        yield (
            f"| {one.cloud} | {one.pipelines:,} | {one.first_page:.0f} s | {one.refreshed:.0f} s | {one.rate:.1f} | "
            f"{one.unknown} | {one.known:.0f} s | {one.red} | {pages} |"
        )
    for one in figures:
        requests = ", ".join(f"{operation} {times}" for operation, times in sorted(one.requests.items()))
        yield f"{one.cloud}, {one.pipelines:,}: {requests}; {one.other_pages} pages of pipelines that are not red"
        ends = ", ".join(f"{end:.0f}" for end in one.refreshes)
        yield f"refreshes ended after {ends} s; {one.later_rate:.1f} requests a second after the first one; {one.cpu:.0f} CPU seconds"


def main() -> int:
    """Run the benchmark; return the exit code."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--cloud", nargs="+", choices=("codearts", "flow"), default=["codearts", "flow"], help="clouds"
    )
    parser.add_argument("--pipelines", type=int, nargs="+", default=[400], help="numbers of pipelines")
    parser.add_argument("--slower", type=float, default=24.0, help="how many times further apart runs are")
    parser.add_argument("--latency", type=float, default=0.2, help="seconds that a request takes")
    parser.add_argument("--json", type=Path, help="file to write the figures to")
    flags = parser.parse_args()
    # The first refresh is still running when the next ones are due.
    logging.disable(logging.WARNING)
    figures = []
    for name in flags.cloud:
        for pipelines in flags.pipelines:
            with asyncio.Runner(loop_factory=VirtualLoop) as runner:
                figures.append(runner.run(measure(name, pipelines, flags.slower, flags.latency)))
    sys.stdout.writelines(f"{line}\n" for line in report(figures))
    if flags.json:
        flags.json.parent.mkdir(parents=True, exist_ok=True)
        flags.json.write_bytes(msgspec.json.format(msgspec.json.encode(figures)) + b"\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
