"""What a refresh costs: CPU seconds beside those of `orjson.loads` on the same answers, with nothing changed, 1 % and all.

    python -m benchmarks.polls --pipelines 1000 10000 20000

An exporter is put together as the daemon does it, one page of OpenMetrics and gzip being asked for, and ticked on a clock
that leaps. Answers are made up in the vendor's shape. Once they are handed over without HTTP, once a server in a process
of its own gives them. Both sides are measured in turns, so that the ratios hold on a noisy machine. With
`--json-exporter` a binary of json_exporter asks the same server.
"""

import argparse
import asyncio
import gc
import math
import multiprocessing
import os
import platform
import socket
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from random import Random
from typing import Any
from unittest.mock import patch

import httpx
import msgspec
import orjson
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from benchmarks import json_exporter
from benchmarks.json_exporter import Peer
from benchmarks.machine import apart, forget_peak, peak, resident, unit
from exporter.app import runtime
from exporter.app.bootstrap import assemble
from exporter.client.api_client import ApiClient, ApiResponse
from exporter.exposition import Format, Variant
from exporter.providers.protocol import ApiRequest
from exporter.settings.settings import Config
from exporter.simulator import serve

STAGES = ("checkout", "build", "test", "package", "deploy")
PROJECT = "54f90b75fc1447b1b65e8d3a9f77923d"
INTERVAL = 60.0
NOW = 1_700_000_000.0
SHARES = {"nothing": 0.0, "1 %": 0.01, "all": 1.0}
PAGE = Variant(Format.OPENMETRICS, gzip=True)

TARGETS = {("nothing", False): 1.0, ("nothing", True): 6.0, ("1 %", False): 9.0}
"""How many times `orjson.loads` a refresh may cost at 10,000 pipelines, by what changed and whether HTTP is counted."""

STEEPEST = 1.1
"""The greatest exponent by which costs may grow."""

REST, PEAK = 2.5, 4.0
"""How many times the plain page an exporter may have in memory."""


class Refresh(msgspec.Struct, frozen=True):
    """What refreshes of one kind cost, in CPU seconds."""

    changed: str
    http: bool
    seconds: float
    """Of one refresh, the median: asking, accounting, rendering, compressing."""
    loads: float
    """Of `orjson.loads` on the same answers, the median."""
    unit: float
    """Of a fixed work, the median."""

    @property
    def ratio(self) -> float:
        """Times `orjson.loads`."""
        return self.seconds / self.loads


class Snapshot(msgspec.Struct, frozen=True):
    """Bytes that a whole exporter has in memory, beyond what the process had before."""

    rest: int
    """After refreshes in which nothing changed."""
    peak: int
    """The most there ever was, refreshes in which all changed included."""


class Figures(msgspec.Struct, frozen=True, kw_only=True):
    """What was measured with so many pipelines."""

    pipelines: int
    answers: int
    """Bytes of the answers of one refresh."""
    page: int
    """Bytes of the plain page."""
    start: float
    """CPU seconds from nothing to the first complete page, HTTP aside."""
    unit: float
    """CPU seconds of a fixed work just after that."""
    first_page: float
    """Seconds from the first request to the first complete page, by the clock, with HTTP."""
    refreshes: tuple[Refresh, ...]
    memory: Snapshot
    """Without HTTP."""
    peer: Peer | None
    """What json_exporter takes, where it was given."""


class Clock:
    """A clock that leaps."""

    now = NOW

    def time(self) -> float:
        """Epoch seconds."""
        return self.now

    def monotonic(self) -> float:
        """The same."""
        return self.now

    async def sleep(self, seconds: float) -> None:
        """Leap."""
        self.now += seconds


class Cloud:
    """The latest runs of many pipelines of five stages, each of which has ended."""

    def __init__(self, pipelines: int) -> None:
        self._random = Random(1)
        self.ids = [self._id() for _ in range(pipelines)]
        self._numbers = [self._random.randint(1, 5000) for _ in self.ids]
        self.bodies: dict[bytes, bytes] = {}
        """The answer to each request, by its body."""
        self._records: dict[str, dict[str, Any]] = {}
        for place in range(pipelines):
            self._run(place, NOW)

    def _id(self) -> str:
        return f"{self._random.getrandbits(128):032x}"

    def _run(self, place: int, now: float) -> None:
        """A pipeline has a new run, which has ended."""
        identity = self.ids[place]
        self._numbers[place] += 1
        status = "FAILED" if self._random.random() < 0.2 else "COMPLETED"
        end = int(now) - self._random.randint(1, 50)
        start = end - self._random.randint(60, 3000)
        self._records[identity] = {
            "pipeline_id": identity,
            "pipeline_run_id": self._id(),
            "executor_id": "c5d3f0e9b9f24d37a6a4b3a2a6b5c2d1",
            "executor_name": "somebody",
            "stage_status_list": [
                {
                    "name": name,
                    "sequence": place,
                    "status": status if name == STAGES[-1] else "COMPLETED",
                    "start_time": _local(start + 10 * place),
                    "end_time": _local(start + 10 * place + 9),
                }
                for place, name in enumerate(STAGES)
            ],
            "status": status,
            "run_number": self._numbers[place],
            "trigger_type": "Manual",
            "build_params": {
                "action": "push",
                "build_type": "branch",
                "commit_id": self._id(),
                "event_type": "Manual",
                "merge_id": None,
                "message": "Somebody changed something",
                "source_branch": None,
                "tag": None,
                "target_branch": "main",
                "codehub_id": "2111",
                "source_codehub_id": None,
                "source_codehub_url": None,
                "source_codehub_http_url": None,
            },
            "artifact_params": None,
            "start_time": start * 1000,
            "end_time": end * 1000,
            "modify_url": f"https://devcloud.example.com/cicd/project/p/pipeline/edit/{identity}",
            "detail_url": f"https://devcloud.example.com/cicd/project/p/pipeline/detail/{identity}/r",
        }

    def change(self, share: float, now: float) -> None:
        """So many of the pipelines have a new run, drawn at random."""
        for place in self._random.sample(range(len(self.ids)), round(share * len(self.ids))):
            self._run(place, now)
        self.bodies.clear()

    def answer(self, request: bytes) -> bytes:
        """The answer to a request about some pipelines."""
        if request not in self.bodies:
            self.bodies[request] = orjson.dumps(
                [self._records[identity] for identity in orjson.loads(request)]
            )
        return self.bodies[request]


def _local(moment: int) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(moment + 8 * 3600))


def settings(cloud: Cloud, url: str) -> Config:
    """A configuration of defaults that polls all of a cloud's pipelines as fast as it likes."""
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


def measured(pipelines: int, turns: int, binary: Path | None) -> Figures:
    """Measure with so many pipelines; `binary` is json_exporter's."""
    cloud = Cloud(pipelines)
    refreshes: list[Refresh] = []
    with served(pipelines) as url:
        for http in (False, True):
            found, start, used = asyncio.run(refreshed(cloud, url, turns, http=http))
            refreshes += found
            if http:
                first_page = start.seconds
            else:
                # In this order, so that what is measured is not what the other has left.
                first, memory = start, used
        target = f"{url}/v5/{PROJECT}/api/pipelines/status"
        peer = json_exporter.measured(binary, target, chunks(cloud), turns) if binary else None
    return Figures(
        pipelines=pipelines,
        answers=sum(map(len, answers_of(cloud))),
        page=first.page,
        start=first.cpu,
        unit=first.unit,
        first_page=first_page,
        refreshes=tuple(refreshes),
        memory=memory,
        peer=peer,
    )


class Start(msgspec.Struct, frozen=True):
    """What it takes from the first request to the first complete page."""

    cpu: float
    seconds: float
    unit: float
    """CPU seconds of a fixed work just afterwards."""
    page: int
    """Bytes of the page."""


async def refreshed(
    cloud: Cloud, url: str, turns: int, *, http: bool
) -> tuple[list[Refresh], Start, Snapshot]:
    """Refreshes of every kind, the start, and the memory that is taken."""
    answers_of(cloud)
    runtime.collect_garbage()
    forget_peak()
    before = resident()
    clock = Clock()
    exporter = assemble(settings(cloud, url), clock)
    await exporter.publisher.body(PAGE)
    found = []
    handed = patch.object(ApiClient, "send", without_http(cloud, clock))
    if http:
        await tell(url, 0.0, clock.now)
    else:
        handed.start()
    try:
        epoch_start, cpu_before = time.perf_counter(), time.process_time()
        await exporter.pollers[0].tick()
        used, seconds = time.process_time() - cpu_before, time.perf_counter() - epoch_start
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
                        await tell(url, share, clock.now)
                bodies = answers_of(cloud)
                await exporter.publisher.body(PAGE)
                gc.collect()
                theirs.append(cpu(partial(load, bodies)))
                gc.collect()
                epoch_start = time.process_time()
                await exporter.pollers[0].tick()
                ours.append(time.process_time() - epoch_start)
                units.append(unit())
            if not exporter.pollers[0].up:
                raise RuntimeError("a poll failed")
            found.append(Refresh(name, http, *map(statistics.median, (ours, theirs, units))))
            if not share:
                rest = resident() - before
    finally:
        if not http:
            handed.stop()
        await exporter.pollers[0].close()
    return found, start, Snapshot(rest, peak() - before)


def load(bodies: Sequence[bytes]) -> None:
    """Read answers as they would be read at the least."""
    for body in bodies:
        orjson.loads(body)


def cpu(work: Callable[[], object]) -> float:
    """CPU seconds of some work."""
    epoch_start = time.process_time()
    work()
    return time.process_time() - epoch_start


def chunks(cloud: Cloud) -> list[Sequence[str]]:
    """The ids of each request, as the defaults have it."""
    return [cloud.ids[first : first + 50] for first in range(0, len(cloud.ids), 50)]


def answers_of(cloud: Cloud) -> list[bytes]:
    """The answers of one refresh."""
    return [cloud.answer(orjson.dumps(ids)) for ids in chunks(cloud)]


def without_http(cloud: Cloud, clock: Clock) -> Callable[[ApiClient, ApiRequest], Any]:
    """What stands for `ApiClient.send`: the answer is there, and judged as one that came."""

    async def send(api: ApiClient, call: ApiRequest) -> ApiResponse:
        body = cloud.answer(call.body)
        api._provider.failure(call, 200, {}, body)  # noqa: SLF001  # judged as it would be
        return ApiResponse(body, clock.now, clock.now, "200")

    return send


# A server in a process of its own


@contextmanager
def served(pipelines: int) -> Iterator[str]:
    """A process that answers with the same cloud; gives its URL."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        process = multiprocessing.get_context("spawn").Process(
            target=answering, args=(pipelines, listener), daemon=True
        )
        process.start()
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            process.terminate()
            process.join()


def answering(pipelines: int, listener: socket.socket) -> None:
    """Answer until terminated."""
    cloud = Cloud(pipelines)

    async def batch(request: Request) -> Response:
        return Response(cloud.answer(await request.body()), media_type="application/json")

    async def change(request: Request) -> Response:
        told = await request.json()
        if told["share"]:
            cloud.change(told["share"], told["now"])
        answers_of(cloud)
        return Response()

    routes = [
        Route("/v5/{project}/api/pipelines/status", batch, methods=["POST"]),
        Route("/change", change, methods=["POST"]),
    ]
    asyncio.run(serve(Starlette(routes=routes), listener))


async def tell(url: str, share: float, now: float) -> None:
    """Have the server's pipelines change as ours did."""
    async with httpx.AsyncClient(trust_env=False, timeout=60) as client:
        (await client.post(f"{url}/change", json={"share": share, "now": now})).raise_for_status()


# What is printed


def report(figures: Sequence[Figures]) -> Iterator[str]:
    """The figures as a table, and how they stand to the targets."""
    yield "| pipelines | answers | page | changed | HTTP | CPU seconds | times `orjson.loads` | target |"
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
            f"{one.pipelines:,} pipelines: {one.start:.2f} CPU seconds to the first page, HTTP aside; "
            f"with it {one.first_page:.2f} s"
        )
        yield (
            f"{one.pipelines:,} pipelines: {one.memory.rest / 1e6:.0f} MB in memory at rest, "
            f"{one.memory.rest / one.page:.2f} times the page (target {REST:g}), {one.memory.peak / 1e6:.0f} MB at the "
            f"peak, {one.memory.peak / one.page:.2f} times (target {PEAK:g})"
        )
        if one.peer:
            ours = next(each for each in one.refreshes if each.http)
            yield (
                f"{one.pipelines:,} pipelines: json_exporter takes {one.peer.cpu:.2f} CPU seconds and "
                f"{one.peer.seconds:.2f} s for each scrape of all, {one.peer.cpu / ours.seconds:.1f} times a refresh "
                f"with nothing changed; {one.peer.series:,} series, {one.peer.resident / 1e6:.0f} MB in memory"
            )
    for what, exponent in exponents(figures):
        yield f"{what} grows by the power of {exponent:.2f} (at most {STEEPEST:g} is asked for)"


def exponents(figures: Sequence[Figures]) -> Iterator[tuple[str, float]]:
    """By which power each cost grows from the least to the greatest number of pipelines, in pieces of a fixed work."""
    if len(figures) < 2:
        return
    least, most = figures[0], figures[-1]
    times = math.log(most.pipelines / least.pipelines)
    for first, last in zip(least.refreshes, most.refreshes, strict=True):
        name = f"a refresh with {first.changed} changed, {'with' if first.http else 'without'} HTTP,"
        yield name, math.log(last.seconds / last.unit / (first.seconds / first.unit)) / times
    yield "the start", math.log(most.start / most.unit / (least.start / least.unit)) / times


def main() -> int:
    """Measure, print, write."""
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
        one = measured(flags.alone, flags.turns, flags.json_exporter)
        sys.stdout.buffer.write(msgspec.json.encode(one))
        return 0
    same = ["--turns", str(flags.turns)]
    if flags.json_exporter:
        same += ["--json-exporter", str(flags.json_exporter)]
    figures = [apart("benchmarks.polls", pipelines, Figures, *same) for pipelines in flags.pipelines]
    sys.stdout.writelines(f"{line}\n" for line in report(figures))
    if flags.json:
        flags.json.parent.mkdir(parents=True, exist_ok=True)
        machine = {
            "cores": os.cpu_count(),
            "machine": platform.processor(),
            "python": platform.python_version(),
        }
        flags.json.write_bytes(msgspec.json.encode({**machine, "figures": figures}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
