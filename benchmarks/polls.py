"""Measure refreshes: CPU seconds relative to `orjson.loads` on the same responses, with nothing, 1 % or all changed.

    python -m benchmarks.polls --pipelines 1000 10000 20000

The exporter is assembled as in the daemon, and one metrics page is requested (OpenMetrics, gzip). The clock jumps from one
refresh to the next. Responses have the vendor's form. First the exporter gets them without HTTP, then from a server in another
process. Exporter and reference are measured in turns, so ratios hold on a noisy machine. With `--json-exporter`, a binary of
json_exporter queries the same server.
"""

import argparse
import asyncio
import gc
import math
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import patch

import msgspec
import orjson

from benchmarks import json_exporter
from benchmarks.batch_cloud import NOW, Cloud, change_server, chunks, responses_of, serving
from benchmarks.json_exporter import Peer
from benchmarks.machine import forget_peak, in_process, peak, resident, unit, write_json
from exporter.app import runtime
from exporter.app.bootstrap import assemble
from exporter.client.api_client import ApiClient, ApiResponse
from exporter.exposition import Format, Variant
from exporter.providers.protocol import ApiRequest
from exporter.settings.settings import Config

PROJECT = "54f90b75fc1447b1b65e8d3a9f77923d"
INTERVAL = 60.0
SHARES = {"nothing": 0.0, "1 %": 0.01, "all": 1.0}
PAGE = Variant(Format.OPENMETRICS, gzip=True)

TARGETS = {("nothing", False): 1.0, ("nothing", True): 6.0, ("1 %", False): 9.0}
"""Targets for a refresh of 10,000 pipelines, in multiples of `orjson.loads`, by what changed and whether with HTTP."""

MAX_EXPONENT = 1.1
"""Target exponent for the growth of costs with the number of pipelines."""

REST, PEAK = 2.5, 4.0
"""Targets for the memory of an exporter, in multiples of the metrics page without compression."""


class Refresh(msgspec.Struct, frozen=True):
    """Cost of one kind of refresh, as medians in CPU seconds."""

    changed: str
    http: bool
    seconds: float
    """One refresh: requests, accounting, rendering and compression."""
    loads: float
    """`orjson.loads` on the same responses."""
    unit: float
    """A fixed piece of work."""

    @property
    def ratio(self) -> float:
        """Cost in multiples of `orjson.loads`."""
        return self.seconds / self.loads


class MemoryUse(msgspec.Struct, frozen=True):
    """Resident bytes of a whole exporter, above those of the process before it."""

    rest: int
    """After refreshes in which nothing changed."""
    peak: int
    """Including refreshes in which everything changed."""


class Figures(msgspec.Struct, frozen=True, kw_only=True):
    """Measurements with one number of pipelines."""

    pipelines: int
    answers: int
    """Bytes of the responses of one refresh."""
    page: int
    """Bytes of the metrics page without compression."""
    start: float
    """CPU seconds from the start to the first complete page, without HTTP."""
    unit: float
    """CPU seconds of the fixed piece of work just after `start`."""
    first_page: float
    """Wall-clock seconds from the first request to the first complete page, with HTTP."""
    refreshes: tuple[Refresh, ...]
    memory: MemoryUse
    """Without HTTP."""
    peer: Peer | None
    """Measurements of json_exporter; None without a binary."""


class Clock:
    """A clock that jumps instead of waiting."""

    now = NOW

    def time(self) -> float:
        """Return the time in Unix seconds."""
        return self.now

    def monotonic(self) -> float:
        """Return the same value as monotonic seconds."""
        return self.now

    async def sleep(self, seconds: float) -> None:
        """Advance the time at once."""
        self.now += seconds


def settings(cloud: Cloud, url: str) -> Config:
    """Return a default configuration for all pipelines of a cloud, without an effective rate limit."""
    return Config.model_validate(
        {
            "projects": [
                {
                    "name": "bench",
                    "provider": "codearts",
                    "endpoint": url,
                    "project_id": PROJECT,
                    "rate_limit": {"requests_per_second": 100_000, "burst": 100_000},
                    "auth": {"method": "token", "token": "t"},
                    "pipelines": [{"id": one, "name": f"pipeline {one[:8]}"} for one in cloud.ids],
                }
            ],
        }
    )


def measure(pipelines: int, turns: int, binary: Path | None) -> Figures:
    """Measure with this number of pipelines; `binary` is the path of json_exporter, or None to leave it out."""
    cloud = Cloud(pipelines)
    refreshes: list[Refresh] = []
    with serving(pipelines) as url:
        for http in (False, True):
            found, start, used = asyncio.run(measure_refreshes(cloud, url, turns, http=http))
            refreshes += found
            if http:
                first_page = start.seconds
            else:
                # Measured first, so its memory has no leftovers of the measurement with HTTP.
                first, memory = start, used
        target = f"{url}/v5/{PROJECT}/api/pipelines/status"
        peer = json_exporter.measure(binary, target, chunks(cloud), turns) if binary else None
    return Figures(
        pipelines=pipelines,
        answers=sum(map(len, responses_of(cloud))),
        page=first.page,
        start=first.cpu,
        unit=first.unit,
        first_page=first_page,
        refreshes=tuple(refreshes),
        memory=memory,
        peer=peer,
    )


class Start(msgspec.Struct, frozen=True):
    """Cost from the first request to the first complete page, in CPU and wall-clock seconds."""

    cpu: float
    seconds: float
    unit: float
    """CPU seconds of the fixed piece of work just afterwards."""
    page: int
    """Bytes of the page."""


async def measure_refreshes(
    cloud: Cloud, url: str, turns: int, *, http: bool
) -> tuple[list[Refresh], Start, MemoryUse]:
    """Measure the start, refreshes of every kind, and memory."""
    responses_of(cloud)
    runtime.collect_garbage()
    forget_peak()
    before = resident()
    clock = Clock()
    exporter = assemble(settings(cloud, url), clock)
    await exporter.publisher.body(PAGE)
    found = []
    patched = patch.object(ApiClient, "send", without_http(cloud, clock))
    if http:
        await change_server(url, 0.0, clock.now)
    else:
        patched.start()
    try:
        started, cpu_before = time.perf_counter(), time.process_time()
        await exporter.pollers[0].tick()
        used, seconds = time.process_time() - cpu_before, time.perf_counter() - started
        page = sum(len(block.data) for block in exporter.publisher.exposition.blocks(PAGE.form))
        start = Start(used, seconds, unit(), page)
        runtime.collect_garbage()
        for name, share in SHARES.items():
            ours, theirs, units = [], [], []
            for _ in range(turns):
                clock.now += INTERVAL
                if share:
                    cloud.change(share, clock.now)
                    if http:
                        await change_server(url, share, clock.now)
                bodies = responses_of(cloud)
                await exporter.publisher.body(PAGE)
                gc.collect()
                theirs.append(cpu(partial(load, bodies)))
                gc.collect()
                cpu_started = time.process_time()
                await exporter.pollers[0].tick()
                ours.append(time.process_time() - cpu_started)
                units.append(unit())
            if not exporter.pollers[0].up:
                raise RuntimeError("a poll failed")
            found.append(Refresh(name, http, *map(statistics.median, (ours, theirs, units))))
            if not share:
                rest = resident() - before
    finally:
        if not http:
            patched.stop()
        await exporter.pollers[0].close()
    return found, start, MemoryUse(rest, peak() - before)


def load(bodies: Sequence[bytes]) -> None:
    """Decode responses, which is the minimum that a refresh must do."""
    for body in bodies:
        orjson.loads(body)


def cpu(work: Callable[[], object]) -> float:
    """Return the CPU seconds that a call takes."""
    cpu_started = time.process_time()
    work()
    return time.process_time() - cpu_started


def without_http(cloud: Cloud, clock: Clock) -> Callable[[ApiClient, ApiRequest], Any]:
    """Return a replacement for `ApiClient.send` that gets the response from `cloud` and checks it as usual."""

    async def send(api: ApiClient, call: ApiRequest) -> ApiResponse:
        body = cloud.respond(call.path, call.body)
        api._provider.failure(call, 200, {}, body)  # noqa: SLF001  # checked as usual
        return ApiResponse(body, clock.now, clock.now, "200")

    return send


# Report


def report(figures: Sequence[Figures]) -> Iterator[str]:
    """Yield the lines of the report, with targets."""
    yield "| pipelines | responses | page | changed | HTTP | CPU seconds | times `orjson.loads` | target |"
    yield "|---|---|---|---|---|---|---|---|"
    for one in figures:
        for refresh in one.refreshes:
            target = TARGETS.get((refresh.changed, refresh.http)) if one.pipelines == 10_000 else None
            yield (
                f"| {one.pipelines:,} | {one.answers / 1e6:.1f} MB | {one.page / 1e6:.1f} MB | {refresh.changed} | "
                f"{'with' if refresh.http else 'without'} | {refresh.seconds:.3f} | {refresh.ratio:.2f} | "
                f"{'' if target is None else f'{target:g}'} |"
            )
    for one in figures:
        yield (
            f"{one.pipelines:,} pipelines: {one.start:.2f} CPU seconds to the first page without HTTP; "
            f"{one.first_page:.2f} s with HTTP"
        )
        yield (
            f"{one.pipelines:,} pipelines: {one.memory.rest / 1e6:.0f} MB of memory at rest, "
            f"{one.memory.rest / one.page:.2f} pages (target {REST:g}); {one.memory.peak / 1e6:.0f} MB at the "
            f"peak, {one.memory.peak / one.page:.2f} pages (target {PEAK:g})"
        )
        if one.peer:
            ours = next(each for each in one.refreshes if each.http)
            yield (
                f"{one.pipelines:,} pipelines: json_exporter takes {one.peer.cpu:.2f} CPU seconds and "
                f"{one.peer.seconds:.2f} s for a scrape of everything, {one.peer.cpu / ours.seconds:.1f} times a refresh "
                f"with nothing changed; {one.peer.series:,} series, {one.peer.resident / 1e6:.0f} MB of memory"
            )
    for what, exponent in exponents(figures):
        yield f"growth of {what}: exponent {exponent:.2f} (target {MAX_EXPONENT:g})"


def exponents(figures: Sequence[Figures]) -> Iterator[tuple[str, float]]:
    """Yield the exponent by which each cost grows from the first to the last size, in units of the fixed work."""
    if len(figures) < 2:
        return
    smallest, largest = figures[0], figures[-1]
    growth = math.log(largest.pipelines / smallest.pipelines)
    for first, last in zip(smallest.refreshes, largest.refreshes, strict=True):
        name = f"a refresh with {first.changed} changed, {'with' if first.http else 'without'} HTTP"
        yield name, math.log(last.seconds / last.unit / (first.seconds / first.unit)) / growth
    yield "the start", math.log(largest.start / largest.unit / (smallest.start / smallest.unit)) / growth


def main() -> int:
    """Run the benchmark; return the exit code."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--pipelines", type=int, nargs="+", default=[1000, 10_000, 20_000])
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--json-exporter", type=Path, metavar="BINARY", help="compare with json_exporter")
    parser.add_argument("--alone", type=int, help=argparse.SUPPRESS)
    flags = parser.parse_args()
    if flags.alone:
        runtime.tune()
        one = measure(flags.alone, flags.turns, flags.json_exporter)
        sys.stdout.buffer.write(msgspec.json.encode(one))
        return 0
    same = ["--turns", str(flags.turns)]
    if flags.json_exporter:
        same += ["--json-exporter", str(flags.json_exporter)]
    figures = [in_process("benchmarks.polls", pipelines, Figures, *same) for pipelines in flags.pipelines]
    sys.stdout.writelines(f"{line}\n" for line in report(figures))
    machine = {"cores": os.cpu_count(), "machine": platform.processor(), "python": platform.python_version()}
    write_json(flags.json, {**machine, "figures": figures})
    return 0


if __name__ == "__main__":
    sys.exit(main())
