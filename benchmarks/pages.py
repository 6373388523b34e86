"""What pages cost: scrapes, publications, memory; each beside something that does the same in the simplest way.

    python -m benchmarks.pages --sizes 1000 10000 20000

Each size is measured in a process of its own. Boards are told answers as polls tell them, and pages are published and
served as the daemon does it; clients are a process of their own (`benchmarks.scraper`). Every time is measured together
with what it is compared to, so that ratios hold where times do not.
"""

import argparse
import asyncio
import contextlib
import gc
import json
import math
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterable, Sequence
from pathlib import Path

import msgspec
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.utils import floatToGoString
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from benchmarks.figures import Busy, Figures, Publication, Scrapes, Snapshot, Spread, report
from benchmarks.machine import apart, peak, resident, unit
from benchmarks.state import Cloud, settings
from exporter.app import runtime
from exporter.app.bootstrap import assemble
from exporter.core.clock import SystemClock
from exporter.core.model import Status
from exporter.exposition import Format, Variant
from exporter.metrics.catalogue import PIPELINE_LABELS, Family, MetricType, catalogue
from exporter.tracking.project import View
from exporter.tracking.run_counters import Histogram
from exporter.web.routes import application
from exporter.web.server import Server, listen

SIZES = (1_000, 10_000, 20_000)
ORACLE = 10_000
"""Pipelines up to which is measured what takes gigabytes of memory: prometheus-client, and many static responses."""
CLIENTS = 20
CHUNK = 50
"""Pipelines in an answer."""
PAUSE = 0.001
"""Seconds between two answers."""

PLAIN, ZIPPED = (Variant(Format.OPENMETRICS, gzip=gzip) for gzip in (False, True))
"""Prometheus asks for the second."""
ASKED = {
    PLAIN: "/metrics\nAccept: application/openmetrics-text",
    ZIPPED: "/metrics\nAccept: application/openmetrics-text\nAccept-Encoding: gzip",
}
STATIC = {PLAIN: "/static/plain", ZIPPED: "/static/gzip"}


class Bench:
    """An exporter with its boards, and the HTTP server on it."""

    def __init__(self, pipelines: int) -> None:
        self.cloud = Cloud(pipelines)
        self.exporter = assemble(settings(self.cloud, Path("unused")), SystemClock())
        (self.tracker,) = self.exporter.trackers
        self.publisher = self.exporter.publisher
        self.tell(self.cloud.ids)
        self.tracker.saved(self.cloud.ids)
        for status in (Status.FAILED, Status.SUCCESS, None):
            self.go_on(self.cloud.ids, status)

    def tell(self, ids: Sequence[str]) -> None:
        """Tell the board the latest runs of some pipelines."""
        self.tracker.answered(ids, self.cloud.latest, asked=self.cloud.now, now=self.cloud.now)

    def go_on(self, ids: Sequence[str], status: Status | None = None) -> None:
        """Some have a new run, of which the board is told, and that it is safe."""
        self.cloud.go_on(ids, status)
        self.tell(ids)
        self.tracker.saved(ids)

    async def refresh(self, share: float) -> None:
        """All are asked about, of which a share has a new run; then a page is published."""
        ids = self.cloud.ids
        changed = self.cloud.some(round(share * len(ids)))
        self.cloud.go_on(changed)
        for start in range(0, len(ids), CHUNK):
            self.tell(ids[start : start + CHUNK])
            await asyncio.sleep(PAUSE)
        self.tracker.saved(changed)
        await self.publisher.publish()

    @contextlib.asynccontextmanager
    async def serving(self) -> AsyncIterator[int]:
        """The port that pages are served on, and copies of the present ones as static responses."""
        bytes_of = {variant: b"".join((await self.publisher.body(variant)).chunks) for variant in ASKED}
        copies = {STATIC[variant]: copy for variant, copy in bytes_of.items()}

        async def static(request: Request) -> Response:
            return Response(copies[request.url.path])

        web = application(
            page=self.publisher.sending,
            problem=lambda: "",
            ready=lambda: True,
            effective_config="",
            telemetry_path="/metrics",
        )
        web.router.routes.append(Route("/static/{name}", static))
        listener = listen("127.0.0.1:0")
        server = Server(web)
        task = asyncio.create_task(server.serve(sockets=[listener]))
        yield listener.getsockname()[1]
        server.should_exit = True
        await task


class Stall:
    """Finds the longest time that the event loop did nothing else."""

    def __init__(self) -> None:
        self.longest = 0.0

    @contextlib.asynccontextmanager
    async def watching(self) -> AsyncIterator["Stall"]:
        """Look all the time."""
        task = asyncio.create_task(self._look())
        await asyncio.sleep(0)
        yield self
        task.cancel()

    async def _look(self) -> None:
        last = time.perf_counter()
        while True:
            await asyncio.sleep(0.0005)
            now = time.perf_counter()
            self.longest, last = max(self.longest, now - last), now


async def scraped(port: int, clients: int, rounds: int, *requests: str) -> list[Spread]:
    """How long answers take, by what is asked for."""
    command = (sys.executable, "-m", "benchmarks.scraper", str(port), str(clients), str(rounds), *requests)
    scraper = await asyncio.create_subprocess_exec(*command, stdout=subprocess.PIPE)
    output, _ = await scraper.communicate()
    found = json.loads(output)
    return [Spread.of(found[request]) for request in requests]


async def published(bench: Bench, share: float) -> Publication:
    """What a publication costs; what boards are told is not part of it."""
    bench.go_on(bench.cloud.some(round(share * len(bench.cloud.ids))))
    before = unit()
    async with Stall().watching() as stall:
        epoch_start, cpu = time.perf_counter(), time.process_time()
        await bench.publisher.publish()
        seconds, cpu = time.perf_counter() - epoch_start, time.process_time() - cpu
        await asyncio.sleep(0.002)
    fixed = (before + unit()) / 2
    return Publication(changed=share, cpu=cpu, unit=fixed, seconds=seconds, stall=stall.longest)


async def scraped_while_busy(bench: Bench, port: int, variant: Variant, rounds: int) -> Busy:
    """Scrapes by one client while pages are published, 1 % of them changed each time."""
    before = bench.publisher.published

    async def polls() -> None:
        while True:
            await bench.refresh(0.01)

    async with Stall().watching() as stall:
        polling = asyncio.create_task(polls())
        (page,) = await scraped(port, 1, rounds, ASKED[variant])
        polling.cancel()
        await asyncio.wait({polling})
    publications = bench.publisher.published - before
    return Busy(gzip=variant.gzip, page=page, publications=publications, stall=stall.longest)


async def measure(pipelines: int) -> Figures:
    """Measure one size, in a fresh process."""
    runtime.tune()
    bare = resident()
    bench = Bench(pipelines)
    runtime.collect_garbage()
    trackers = resident() - bare
    await bench.publisher.publish()
    epoch_start = time.perf_counter()
    zipped = (await bench.publisher.body(ZIPPED)).length
    first = time.perf_counter() - epoch_start
    publications = [await published(bench, share) for share in (0.0, 0.01, 0.01, 0.01, 1.0, 0.0)]
    plain = await bench.publisher.body(PLAIN)
    series = sum(line.startswith(b"ci_") for chunk in plain.chunks for line in chunk.splitlines())
    length = plain.length
    del plain
    for share in (0.01, 1.0, 0.01):
        await published(bench, share)
    memory = Snapshot(trackers=trackers, rest=resident() - bare, peak=peak() - bare)
    scrapes, needs_attention = [], []
    rounds = max(5, min(200, 1_000_000 // pipelines))
    async with bench.serving() as port:
        for clients in (1, CLIENTS):
            for variant in (ZIPPED, PLAIN):
                if clients > 1 and not variant.gzip and pipelines > ORACLE:
                    # Static responses take as much memory as there are clients.
                    continue
                some = rounds if clients == 1 else max(2, rounds // (10 if variant.gzip else 50))
                page, static = await scraped(port, clients, some, ASKED[variant], STATIC[variant])
                scrapes.append(Scrapes(gzip=variant.gzip, clients=clients, page=page, static=static))
        for variant in (ZIPPED, PLAIN):
            # Long enough for several publications.
            some = 10 * rounds if variant.gzip else rounds
            needs_attention.append(await scraped_while_busy(bench, port, variant, some))
    return Figures(
        pipelines=pipelines,
        series=series,
        plain=length,
        gzip=zipped,
        first=first,
        publications=publications,
        memory=memory,
        scrapes=scrapes,
        needs_attention=needs_attention,
        generate_latest=oracle(bench.tracker.views()) if pipelines <= ORACLE else None,
    )


# prometheus-client


class _Made:
    """A collector of families that are made already."""

    def __init__(self, families: Sequence[Metric]) -> None:
        self._families = families

    def collect(self) -> Iterable[Metric]:
        return self._families


def oracle(views: Sequence[View]) -> float:
    """Seconds that prometheus-client takes for a page of these views."""
    metrics = settings(Cloud(1), Path("unused")).metrics
    registry = CollectorRegistry()
    registry.register(_Made([_family(family, views) for family in catalogue(metrics).pipelines]))
    gc.freeze()
    epoch_start = time.perf_counter()
    generate_latest(registry)
    return time.perf_counter() - epoch_start


def _family(family: Family[View], views: Sequence[View]) -> Metric:
    names = (*PIPELINE_LABELS, *family.labels)
    made: Metric
    match family.type:
        case MetricType.GAUGE | MetricType.INFO:
            made = GaugeMetricFamily(family.name, family.help, labels=names)
        case MetricType.COUNTER:
            made = CounterMetricFamily(family.name, family.help, labels=names)
        case MetricType.HISTOGRAM:
            made = HistogramMetricFamily(family.name, family.help, labels=names)
    bounds = [floatToGoString(bound) for bound in (*family.bounds, math.inf)]
    for view in views:
        of = view.pipeline
        for sample in family.samples(view):
            values = (of.name, of.id, of.project, of.provider, *sample.labels)
            if isinstance(made, HistogramMetricFamily) and isinstance(sample.value, Histogram):
                totals = [sum(sample.value.counts[: place + 1]) for place in range(len(bounds))]
                made.add_metric(values, list(zip(bounds, totals, strict=True)), sample.value.sum)
            elif isinstance(made, GaugeMetricFamily | CounterMetricFamily) and isinstance(
                sample.value, float | int
            ):
                made.add_metric(values, sample.value)
    return made


def main() -> int:
    """Run the benchmark; returns the exit code."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sizes", type=int, nargs="+", default=SIZES, help="how many pipelines")
    parser.add_argument("--json", type=Path, help="a file for the figures")
    parser.add_argument("--alone", type=int, help=argparse.SUPPRESS)
    flags = parser.parse_args()
    if flags.alone:
        sys.stdout.buffer.write(msgspec.json.encode(asyncio.run(measure(flags.alone))))
        return 0
    found = [apart("benchmarks.pages", size, Figures) for size in flags.sizes]
    sys.stdout.write(f"{report(found)}\n")
    if flags.json:
        flags.json.parent.mkdir(parents=True, exist_ok=True)
        flags.json.write_bytes(msgspec.json.format(msgspec.json.encode(found)) + b"\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
