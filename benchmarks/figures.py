"""Figures of `benchmarks.pages`, and the tables that compare them with references and targets."""

import math
import os
import platform
import statistics
from collections.abc import Iterable, Iterator, Sequence

import msgspec


class Spread(msgspec.Struct, frozen=True):
    """Distribution of repeated measurements, in seconds."""

    p50: float
    p99: float

    @classmethod
    def of(cls, seconds: Iterable[float]) -> "Spread":
        """Return the distribution of these measurements."""
        ordered = sorted(seconds)
        p50, p99 = (ordered[math.ceil(share * len(ordered)) - 1] for share in (0.5, 0.99))
        return cls(p50, p99)


class Scrapes(msgspec.Struct, frozen=True, kw_only=True):
    """Response times of scrapes of one variant, by concurrent clients."""

    gzip: bool
    clients: int
    page: Spread
    static: Spread
    """Response times for the same bytes as a static response of the same server."""


class BusyScrapes(msgspec.Struct, frozen=True, kw_only=True):
    """Response times of scrapes by one client while pages are published without a pause."""

    gzip: bool
    page: Spread
    publications: int
    stall: float
    """Longest time for which the event loop was blocked, in seconds."""


class Publication(msgspec.Struct, frozen=True, kw_only=True):
    """Cost of one publication, while clients use OpenMetrics with gzip."""

    changed: float
    """Fraction of the pipelines that have changed."""
    cpu: float
    """CPU seconds."""
    unit: float
    """CPU seconds of a fixed piece of work at the same time, as a measure of the machine's speed."""
    seconds: float
    stall: float


class MemoryUse(msgspec.Struct, frozen=True, kw_only=True):
    """Resident bytes above those of the process before the benchmark."""

    trackers: int = msgspec.field(name="boards")
    """Before the first metrics page is rendered."""
    rest: int
    """After all publications, with an OpenMetrics page both plain and with gzip."""
    peak: int


class Figures(msgspec.Struct, frozen=True, kw_only=True):
    """Measurements with one number of pipelines."""

    pipelines: int
    series: int
    plain: int
    """Bytes of a metrics page without compression."""
    gzip: int
    """Bytes of a metrics page with gzip."""
    first: float
    """Seconds from the first request to its complete page."""
    publications: list[Publication]
    memory: MemoryUse
    scrapes: list[Scrapes]
    busy: list[BusyScrapes]
    generate_latest: float | None
    """Seconds that prometheus-client takes for a page of the same samples; None if not measured."""


def exponent(figures: Sequence[Figures], costs: Sequence[float]) -> float:
    """Return the exponent by which a cost grows from the first size to the last; 1 is linear."""
    return math.log(costs[-1] / costs[0]) / math.log(figures[-1].pipelines / figures[0].pipelines)


def relative(publication: Publication) -> float:
    """Return the CPU cost in units of the fixed work, because the speed of a shared machine changes between sizes."""
    return publication.cpu / publication.unit


def milliseconds(seconds: float) -> str:
    """Format a number of seconds in milliseconds or seconds."""
    return f"{1000 * seconds:.3g} ms" if seconds < 1 else f"{seconds:.3g} s"


def rows(figures: Figures) -> Iterator[tuple[str, str, str]]:
    """Yield the rows of the table for one size: name, value, and comparison."""
    memory, page = figures.memory, figures.plain
    yield "series", f"{figures.series}", f"{figures.series / figures.pipelines:.0f} per pipeline"
    yield "page", f"{page / 1e6:.1f} MB", f"{page / figures.pipelines:.0f} B per pipeline"
    yield "page with gzip", f"{figures.gzip / 1e6:.2f} MB", f"{page / figures.gzip:.1f} times smaller"
    for name, size, target in (("at rest", memory.rest, 2.5), ("at its peak", memory.peak, 4.0)):
        yield (
            f"memory {name}",
            f"{size / 1e6:.0f} MB",
            f"{size / page:.2f} pages (target {target}); {size / figures.pipelines / 1000:.1f} kB per pipeline",
        )
    yield (
        "memory of the trackers, before the first page",
        f"{memory.trackers / 1e6:.0f} MB",
        f"{memory.trackers / page:.2f} pages",
    )
    yield "first request, until its page is complete", milliseconds(figures.first), ""
    idle = {}
    for scrapes in figures.scrapes:
        if scrapes.clients == 1:
            idle[scrapes.gzip] = scrapes.page.p50
        yield (
            f"{_kind(scrapes.gzip)} scrape, {scrapes.clients} at once: p50, p99",
            f"{milliseconds(scrapes.page.p50)}, {milliseconds(scrapes.page.p99)}",
            (
                f"{scrapes.page.p50 / scrapes.static.p50:.2f}, {scrapes.page.p99 / scrapes.static.p99:.2f} times "
                "the static response (target 1.5 for p50)"
            ),
        )
        if scrapes.gzip and scrapes.clients == 1 and figures.generate_latest:
            yield (
                "generate_latest of prometheus-client",
                milliseconds(figures.generate_latest),
                f"{figures.generate_latest / scrapes.page.p50:.0f} gzip scrapes (target 200)",
            )
    for busy in figures.busy:
        yield (
            f"{_kind(busy.gzip)} scrape while {busy.publications} pages are published: p50, p99",
            f"{milliseconds(busy.page.p50)}, {milliseconds(busy.page.p99)}",
            (
                f"p99 is {busy.page.p99 / idle[busy.gzip]:.2f} times the idle p50 (target 3); longest stall "
                f"{milliseconds(busy.stall)}"
            ),
        )
    for publication in figures.publications:
        yield (
            f"publication, {publication.changed:.0%} changed",
            f"{milliseconds(publication.cpu)} CPU, {milliseconds(publication.seconds)}",
            f"longest stall {milliseconds(publication.stall)}",
        )


def _kind(gzip: bool) -> str:
    return "gzip" if gzip else "plain"


def report(found: Sequence[Figures]) -> str:
    """Return Markdown tables of all sizes, and of the growth from the first to the last."""
    lines = [f"{os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}"]
    for figures in found:
        lines += [
            "",
            f"{figures.pipelines} pipelines",
            "",
            "| measurement | value | comparison |",
            "|---|---|---|",
        ]
        lines += [f"| {' | '.join(row)} |" for row in rows(figures)]
    if len(found) > 1:
        costs: dict[str, list[float]] = {
            "page": [one.plain for one in found],
            "memory at rest": [one.memory.rest for one in found],
            "memory at its peak": [one.memory.peak for one in found],
            "first request": [one.first for one in found],
            "publication, 1 % changed": [
                statistics.median(map(relative, one.publications[1:4])) for one in found
            ],
            "publication, 100 % changed": [relative(one.publications[4]) for one in found],
            **{
                f"{_kind(found[0].scrapes[index].gzip)} scrape": [
                    one.scrapes[index].page.p50 for one in found
                ]
                for index in (0, 1)
            },
        }
        lines += ["", f"growth from {found[0].pipelines} to {found[-1].pipelines} pipelines (target 1.1)", ""]
        lines += ["| cost | exponent |", "|---|---|"]
        lines += [f"| {name} | {exponent(found, values):.2f} |" for name, values in costs.items()]
    return "\n".join(lines)
