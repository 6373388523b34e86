"""Measure the status page: server time, size, and how much its requests slow down scrapes.

    python -m benchmarks.status_page --pipelines 10000

The exporter is that of `benchmarks.pages`. Scrapes (OpenMetrics, gzip) are measured in turns: without requests for the status page,
and with one a second from a third process.
"""

import argparse
import asyncio
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path

import msgspec

from benchmarks.figures import Spread, milliseconds
from benchmarks.machine import write_json
from benchmarks.pages import GZIP, REQUESTS, Bench
from exporter.app import runtime
from exporter.app.status_source import status_source
from exporter.core.clock import SystemClock
from exporter.status_page.query import PipelineQuery

TIMES = 30
"""Number of renderings of each kind."""
TURNS = 6
SECONDS = 8.0
"""Approximate length of a turn, in seconds."""


class StatusFigures(msgspec.Struct, frozen=True, kw_only=True):
    """Measurements with one number of pipelines; times are seconds."""

    pipelines: int
    unchanged: Spread
    """CPU time of a status page while nothing changes."""
    published: Spread
    """The same after a publication in which 1 % of the pipelines have changed."""
    answer: Spread
    """CPU time of the same status as JSON."""
    size: int
    """Bytes of the status page."""
    alone: Spread
    """Response times of scrapes without requests for the status page."""
    with_page: Spread
    """Response times of scrapes with one such request a second."""


def cpu_time(work: Callable[[], object]) -> float:
    """Return the CPU seconds that a call takes in this thread."""
    started = time.thread_time()
    work()
    return time.thread_time() - started


async def measure(pipelines: int, turns: int, seconds: float) -> StatusFigures:
    """Measure with this number of pipelines, and turns of scrapes of about `seconds` each."""
    runtime.tune()
    bench = Bench(pipelines)
    await bench.publisher.body(GZIP)
    await bench.publisher.publish()
    runtime.collect_garbage()
    source = status_source(bench.exporter, SystemClock(), "/metrics")

    def page() -> str:
        return source.page.page(source.views(), source.facts(), PipelineQuery(), time.time())

    size = len(page().encode())
    unchanged = Spread.of([cpu_time(page) for _ in range(TIMES)])
    answer = Spread.of(
        [
            cpu_time(lambda: source.page.answer(source.views(), source.facts(), PipelineQuery(), time.time()))
            for _ in range(TIMES)
        ]
    )
    published = []
    for _ in range(TIMES):
        bench.advance(bench.cloud.some(max(1, pipelines // 100)))
        await bench.publisher.publish()
        published.append(cpu_time(page))
    alone: list[float] = []
    with_page: list[float] = []
    async with bench.serving() as port:
        rounds = await rounds_of(port, seconds)
        for _ in range(turns):
            alone += await scrapes(port, rounds)
            client = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "benchmarks.status_page", "--client", str(port)
            )
            with_page += await scrapes(port, rounds)
            client.terminate()
            await client.wait()
    return StatusFigures(
        pipelines=pipelines,
        unchanged=unchanged,
        published=Spread.of(published),
        answer=answer,
        size=size,
        alone=Spread.of(alone),
        with_page=Spread.of(with_page),
    )


async def scrapes(port: int, rounds: int) -> list[float]:
    """Return the seconds of each of `rounds` scrapes, one after the other."""
    request = REQUESTS[GZIP]
    command = (sys.executable, "-m", "benchmarks.scraper", str(port), "1", str(rounds), request)
    scraper = await asyncio.create_subprocess_exec(*command, stdout=subprocess.PIPE)
    output, _ = await scraper.communicate()
    return msgspec.json.decode(output, type=dict[str, list[float]])[request]


async def rounds_of(port: int, seconds: float) -> int:
    """Return the number of scrapes that take about `seconds`, at least 20."""
    first = await scrapes(port, 20)
    return max(20, round(seconds / (sum(first) / len(first))))


def request_pages(port: int) -> None:
    """Request the status page once a second, until this process is ended."""
    while True:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/") as response:  # loopback
            response.read()
        time.sleep(1)


def report(found: StatusFigures) -> str:
    """Return the figures as a Markdown table."""
    rows = [
        ("page, nothing changed", f"{spread(found.unchanged)} CPU", "target 50 ms"),
        ("page, 1 % changed since the last one", f"{spread(found.published)} CPU", "target 50 ms"),
        ("JSON", f"{spread(found.answer)} CPU", ""),
        ("size of the page", f"{found.size / 1000:.0f} kB", "target 200 kB"),
        ("scrapes alone", spread(found.alone), ""),
        (
            "scrapes with one page a second",
            spread(found.with_page),
            f"p99 is {found.with_page.p99 / found.alone.p99:.2f} times that alone (target 1.2)",
        ),
    ]
    lines = [f"{found.pipelines} pipelines", "", "| measurement | p50, p99 | comparison |", "|---|---|---|"]
    return "\n".join([*lines, *(f"| {' | '.join(row)} |" for row in rows)])


def spread(found: Spread) -> str:
    """Format the median and the 99th percentile of a distribution."""
    return f"{milliseconds(found.p50)}, {milliseconds(found.p99)}"


def main() -> int:
    """Run the benchmark; return the exit code."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--pipelines", type=int, default=10_000, help="number of pipelines")
    parser.add_argument("--turns", type=int, default=TURNS, help="turns of scrapes")
    parser.add_argument("--seconds", type=float, default=SECONDS, help="length of a turn")
    parser.add_argument("--json", type=Path, help="file to write the figures to")
    parser.add_argument("--client", type=int, help=argparse.SUPPRESS)
    flags = parser.parse_args()
    if flags.client:
        request_pages(flags.client)
    found = asyncio.run(measure(flags.pipelines, flags.turns, flags.seconds))
    sys.stdout.write(f"{report(found)}\n")
    write_json(flags.json, found)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
