"""Measure the metrics page: scrapes, publications and memory, compared with simpler references.

    python -m benchmarks.pages --sizes 1000 10000 20000

Each size is measured in a process of its own. Trackers get runs as polls would deliver them. Pages are published and served as
in the daemon, and clients are another process (`benchmarks.scraper`). Values and their references are measured in turns, so
ratios are comparable even where the speed of the machine changes.
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

from benchmarks.figures import BusyScrapes, Figures, MemoryUse, Publication, Scrapes, Spread, report
from benchmarks.machine import in_process, peak, resident, unit, write_json
from benchmarks.state import Cloud, settings
from exporter.app import runtime
from exporter.app.bootstrap import assemble
from exporter.app.status_source import status_source
from exporter.core.clock import SystemClock
from exporter.core.model import Status
from exporter.exposition import Format, Variant
from exporter.metrics.catalogue import catalogue
from exporter.metrics.family import PIPELINE_LABELS, Family, MetricType
from exporter.tracking.run_counters import Histogram
from exporter.tracking.views import View
from exporter.web.routes import application
from exporter.web.server import Server, listen

SIZES = (1_000, 10_000, 20_000)
MAX_REFERENCE = 10_000
"""Largest size with references that take gigabytes of memory: prometheus-client, and many static responses."""
CLIENTS = 20
CHUNK = 50
"""Number of pipelines in a response."""
PAUSE = 0.001
"""Seconds between two responses."""

PLAIN, GZIP = (Variant(Format.OPENMETRICS, gzip=gzip) for gzip in (False, True))
"""Variants of the page; Prometheus requests the second one."""
REQUESTS = {
    PLAIN: "/metrics\nAccept: application/openmetrics-text",
    GZIP: "/metrics\nAccept: application/openmetrics-text\nAccept-Encoding: gzip",
}
STATIC = {PLAIN: "/static/plain", GZIP: "/static/gzip"}


class Bench:
    """An exporter with one project, and the HTTP server for its metrics page."""

    def __init__(self, pipelines: int) -> None:
        self.cloud = Cloud(pipelines)
        self.exporter = assemble(settings(self.cloud, Path("unused")), SystemClock())
        (self.tracker,) = self.exporter.trackers
        self.publisher = self.exporter.publisher
        self.respond(self.cloud.ids)
        self.tracker.commit(self.cloud.ids)
        for status in (Status.FAILED, Status.SUCCESS, None):
            self.advance(self.cloud.ids, status)

    def respond(self, ids: Sequence[str]) -> None:
        """Give the tracker a response with the latest runs of some pipelines."""
        self.tracker.answered(ids, self.cloud.latest, sent_at=self.cloud.now, now=self.cloud.now)

    def advance(self, ids: Sequence[str], status: Status | None = None) -> None:
        """Give some pipelines a new run, and let the tracker receive and commit it."""
        self.cloud.advance(ids, status)
        self.respond(ids)
        self.tracker.commit(ids)

    async def refresh(self, share: float) -> None:
        """Give a fraction `share` of the pipelines a new run, let the tracker receive all runs, and publish a page."""
        ids = self.cloud.ids
        changed = self.cloud.some(round(share * len(ids)))
        self.cloud.advance(changed)
        for start in range(0, len(ids), CHUNK):
            self.respond(ids[start : start + CHUNK])
            await asyncio.sleep(PAUSE)
        self.tracker.commit(changed)
        await self.publisher.publish()

    @contextlib.asynccontextmanager
    async def serving(self) -> AsyncIterator[int]:
        """Serve pages, and copies of the current ones as static responses; yield the port."""
        bytes_of = {variant: b"".join((await self.publisher.body(variant)).chunks) for variant in REQUESTS}
        copies = {STATIC[variant]: copy for variant, copy in bytes_of.items()}

        async def static(request: Request) -> Response:
            return Response(copies[request.url.path])

        source = status_source(self.exporter, SystemClock(), "/metrics")
        web = application(
            page=self.publisher.sending,
            problem=lambda: "",
            ready=lambda: True,
            effective_config=lambda: "",
            status=source,
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
    """Measures the longest time for which the event loop is blocked."""

    def __init__(self) -> None:
        self.longest = 0.0

    @contextlib.asynccontextmanager
    async def measuring(self) -> AsyncIterator["Stall"]:
        """Measure until the end of the block."""
        task = asyncio.create_task(self._measure())
        await asyncio.sleep(0)
        yield self
        task.cancel()

    async def _measure(self) -> None:
        last = time.perf_counter()
        while True:
            await asyncio.sleep(0.0005)
            now = time.perf_counter()
            self.longest, last = max(self.longest, now - last), now


async def scrape(port: int, clients: int, rounds: int, *requests: str) -> list[Spread]:
    """Return the response times of each request, measured by clients in another process."""
    command = (sys.executable, "-m", "benchmarks.scraper", str(port), str(clients), str(rounds), *requests)
    scraper = await asyncio.create_subprocess_exec(*command, stdout=subprocess.PIPE)
    output, _ = await scraper.communicate()
    seconds = json.loads(output)
    return [Spread.of(seconds[request]) for request in requests]


async def measure_publication(bench: Bench, share: float) -> Publication:
    """Measure a publication without the work of the trackers."""
    bench.advance(bench.cloud.some(round(share * len(bench.cloud.ids))))
    before = unit()
    async with Stall().measuring() as stall:
        started, cpu = time.perf_counter(), time.process_time()
        await bench.publisher.publish()
        seconds, cpu = time.perf_counter() - started, time.process_time() - cpu
        await asyncio.sleep(0.002)
    fixed = (before + unit()) / 2
    return Publication(changed=share, cpu=cpu, unit=fixed, seconds=seconds, stall=stall.longest)


async def scrape_while_busy(bench: Bench, port: int, variant: Variant, rounds: int) -> BusyScrapes:
    """Measure scrapes by one client while pages are published, with 1 % of the pipelines changed each time."""
    before = bench.publisher.published

    async def polls() -> None:
        while True:
            await bench.refresh(0.01)

    async with Stall().measuring() as stall:
        polling = asyncio.create_task(polls())
        (page,) = await scrape(port, 1, rounds, REQUESTS[variant])
        polling.cancel()
        await asyncio.wait({polling})
    publications = bench.publisher.published - before
    return BusyScrapes(gzip=variant.gzip, page=page, publications=publications, stall=stall.longest)


async def measure(pipelines: int) -> Figures:
    """Measure one size; call it once in a process."""
    runtime.tune()
    bare = resident()
    bench = Bench(pipelines)
    runtime.collect_garbage()
    trackers = resident() - bare
    await bench.publisher.publish()
    started = time.perf_counter()
    gzip_length = (await bench.publisher.body(GZIP)).length
    first = time.perf_counter() - started
    publications = [await measure_publication(bench, share) for share in (0.0, 0.01, 0.01, 0.01, 1.0, 0.0)]
    plain = await bench.publisher.body(PLAIN)
    series = sum(line.startswith(b"ci_") for chunk in plain.chunks for line in chunk.splitlines())
    length = plain.length
    del plain
    for share in (0.01, 1.0, 0.01):
        await measure_publication(bench, share)
    memory = MemoryUse(trackers=trackers, rest=resident() - bare, peak=peak() - bare)
    scrapes, busy = [], []
    rounds = max(5, min(200, 1_000_000 // pipelines))
    async with bench.serving() as port:
        for clients in (1, CLIENTS):
            for variant in (GZIP, PLAIN):
                if clients > 1 and not variant.gzip and pipelines > MAX_REFERENCE:
                    # Each client of a static response takes a copy of the page in memory.
                    continue
                repeats = rounds if clients == 1 else max(2, rounds // (10 if variant.gzip else 50))
                page, static = await scrape(port, clients, repeats, REQUESTS[variant], STATIC[variant])
                scrapes.append(Scrapes(gzip=variant.gzip, clients=clients, page=page, static=static))
        for variant in (GZIP, PLAIN):
            # Long enough for several publications.
            repeats = 10 * rounds if variant.gzip else rounds
            busy.append(await scrape_while_busy(bench, port, variant, repeats))
    return Figures(
        pipelines=pipelines,
        series=series,
        plain=length,
        gzip=gzip_length,
        first=first,
        publications=publications,
        memory=memory,
        scrapes=scrapes,
        busy=busy,
        generate_latest=reference(bench.tracker.views()) if pipelines <= MAX_REFERENCE else None,
    )


# prometheus-client


class _Collector:
    """Collector of families that already exist, for prometheus-client."""

    def __init__(self, families: Sequence[Metric]) -> None:
        self._families = families

    def collect(self) -> Iterable[Metric]:
        return self._families


def reference(views: Sequence[View]) -> float:
    """Return the seconds that prometheus-client takes to render a page of these views."""
    metrics = settings(Cloud(1), Path("unused")).metrics
    registry = CollectorRegistry()
    registry.register(_Collector([_family(family, views) for family in catalogue(metrics).pipelines]))
    gc.freeze()
    started = time.perf_counter()
    generate_latest(registry)
    return time.perf_counter() - started


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
        pipeline = view.pipeline
        for sample in family.samples(view):
            values = (pipeline.name, pipeline.id, pipeline.project, pipeline.provider, *sample.labels)
            if isinstance(made, HistogramMetricFamily) and isinstance(sample.value, Histogram):
                totals = [sum(sample.value.counts[: index + 1]) for index in range(len(bounds))]
                made.add_metric(values, list(zip(bounds, totals, strict=True)), sample.value.sum)
            elif isinstance(made, GaugeMetricFamily | CounterMetricFamily) and isinstance(
                sample.value, float | int
            ):
                made.add_metric(values, sample.value)
    return made


def main() -> int:
    """Run the benchmark; return the exit code."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sizes", type=int, nargs="+", default=SIZES, help="numbers of pipelines")
    parser.add_argument("--json", type=Path, help="file to write the figures to")
    parser.add_argument("--alone", type=int, help=argparse.SUPPRESS)
    flags = parser.parse_args()
    if flags.alone:
        sys.stdout.buffer.write(msgspec.json.encode(asyncio.run(measure(flags.alone))))
        return 0
    found = [in_process("benchmarks.pages", size, Figures) for size in flags.sizes]
    sys.stdout.write(f"{report(found)}\n")
    write_json(flags.json, found)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
