"""The figures of `benchmarks.pages`, and how people read them: beside what they are compared to, and to the targets."""

import math
import os
import platform
import statistics
from collections.abc import Iterable, Iterator, Sequence

import msgspec


class Spread(msgspec.Struct, frozen=True):
    """How long the same took, several times; seconds."""

    p50: float
    p99: float

    @classmethod
    def of(cls, seconds: Iterable[float]) -> "Spread":
        """The spread of some measurements."""
        rising = sorted(seconds)
        p50, p99 = (rising[math.ceil(share * len(rising)) - 1] for share in (0.5, 0.99))
        return cls(p50, p99)


class Scrapes(msgspec.Struct, frozen=True, kw_only=True):
    """Scrapes of one kind by some clients at once."""

    gzip: bool
    clients: int
    page: Spread
    static: Spread
    """The same bytes, as a static response of the same server."""


class Busy(msgspec.Struct, frozen=True, kw_only=True):
    """Scrapes by one client while boards are told answers and pages are published all the time."""

    gzip: bool
    page: Spread
    publications: int
    stall: float
    """The longest time that the event loop did nothing else."""


class Publication(msgspec.Struct, frozen=True, kw_only=True):
    """What a page costs of which a share has changed; OpenMetrics with gzip is asked for."""

    changed: float
    cpu: float
    unit: float
    """Seconds of CPU that a fixed piece of work took just then: how fast the machine was for us."""
    seconds: float
    stall: float


class Snapshot(msgspec.Struct, frozen=True, kw_only=True):
    """Bytes resident above the bare process."""

    trackers: int
    """Before any page."""
    rest: int
    """With pages of one format, plain and with gzip, after publications of all shares."""
    peak: int
    """Ever until then."""


class Figures(msgspec.Struct, frozen=True, kw_only=True):
    """What was measured at one size."""

    pipelines: int
    series: int
    plain: int
    """Bytes of a page."""
    gzip: int
    first: float
    """Seconds until who asks first has its page."""
    publications: list[Publication]
    memory: Snapshot
    scrapes: list[Scrapes]
    needs_attention: list[Busy]
    generate_latest: float | None
    """Seconds that prometheus-client takes for a page of the same samples."""


def exponent(figures: Sequence[Figures], costs: Sequence[float]) -> float:
    """How cost grows from the first size to the last: 1 is linear."""
    return math.log(costs[-1] / costs[0]) / math.log(figures[-1].pipelines / figures[0].pipelines)


def relative(publication: Publication) -> float:
    """What it cost, in pieces of the fixed work: sizes are measured minutes apart, on a machine that others use too."""
    return publication.cpu / publication.unit


def milliseconds(seconds: float) -> str:
    """Seconds as people read them."""
    return f"{1000 * seconds:.3g} ms" if seconds < 1 else f"{seconds:.3g} s"


def rows(figures: Figures) -> Iterator[tuple[str, str, str]]:
    """What was measured, its value, and what it is compared to."""
    memory, page = figures.memory, figures.plain
    yield "series", f"{figures.series}", f"{figures.series / figures.pipelines:.0f} a pipeline"
    yield "page", f"{page / 1e6:.1f} MB", f"{page / figures.pipelines:.0f} B a pipeline"
    yield "page, gzip", f"{figures.gzip / 1e6:.2f} MB", f"{page / figures.gzip:.1f} times smaller"
    for name, size, target in (("at rest", memory.rest, 2.5), ("at its peak", memory.peak, 4.0)):
        yield (
            f"memory {name}",
            f"{size / 1e6:.0f} MB",
            f"{size / page:.2f} times the page (target {target}); {size / figures.pipelines / 1000:.1f} kB a pipeline",
        )
    yield (
        "memory of the boards, before any page",
        f"{memory.trackers / 1e6:.0f} MB",
        f"{memory.trackers / page:.2f} times the page",
    )
    yield "first request, until it has its page", milliseconds(figures.first), ""
    idle = {}
    for one in figures.scrapes:
        kind = "gzip" if one.gzip else "plain"
        if one.clients == 1:
            idle[one.gzip] = one.page.p50
        yield (
            f"scrape, {kind}, {one.clients} at once: p50, p99",
            f"{milliseconds(one.page.p50)}, {milliseconds(one.page.p99)}",
            f"{one.page.p50 / one.static.p50:.2f}, {one.page.p99 / one.static.p99:.2f} times the static response (target 1.5 for p50)",
        )
        if one.gzip and one.clients == 1 and figures.generate_latest:
            yield (
                "generate_latest",
                milliseconds(figures.generate_latest),
                f"{figures.generate_latest / one.page.p50:.0f} times a gzip scrape (target 200)",
            )
    for needs_attention in figures.needs_attention:
        yield (
            f"scrape, {'gzip' if needs_attention.gzip else 'plain'}, while {needs_attention.publications} pages are published: p50, p99",
            f"{milliseconds(needs_attention.page.p50)}, {milliseconds(needs_attention.page.p99)}",
            f"p99 {needs_attention.page.p99 / idle[needs_attention.gzip]:.2f} times the idle p50 (target 3); longest stall {milliseconds(needs_attention.stall)}",
        )
    for each in figures.publications:
        yield (
            f"publication, {each.changed:.0%} changed",
            f"{milliseconds(each.cpu)} CPU, {milliseconds(each.seconds)}",
            f"longest stall {milliseconds(each.stall)}",
        )


def report(found: Sequence[Figures]) -> str:
    """The figures for people."""
    lines = [f"{os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}"]
    for figures in found:
        lines += ["", f"{figures.pipelines} pipelines", "", "| what | | |", "|---|---|---|"]
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
                f"scrape, {'gzip' if found[0].scrapes[place].gzip else 'plain'}": [
                    one.scrapes[place].page.p50 for one in found
                ]
                for place in (0, 1)
            },
        }
        lines += ["", f"growth from {found[0].pipelines} to {found[-1].pipelines} pipelines (target 1.1)", ""]
        lines += ["| cost | exponent |", "|---|---|"]
        lines += [f"| {name} | {exponent(found, some):.2f} |" for name, some in costs.items()]
    return "\n".join(lines)
