"""Assemble /metrics pages: the exporter's own series, then the head and the blocks of each metric family.

A page is a tuple of byte strings, most of which the next page reuses.
"""

import contextlib
from collections.abc import Callable, Collection, Hashable, Iterable, Iterator, Sequence
from typing import Generic, NamedTuple, TypeVar

import msgspec
from prometheus_client import Metric
from prometheus_client.exposition import generate_latest as generate_text
from prometheus_client.openmetrics.exposition import generate_latest as generate_openmetrics
from prometheus_client.registry import Collector, CollectorRegistry

from exporter.exposition.blocks import Block, BlockStore, PublishedView, RenderFailures
from exporter.exposition.gzip_member import Deflated, member
from exporter.exposition.render import Content, Format, pairs, renderers
from exporter.exposition.series_limit import SeriesCounter, SeriesCounts, allocate
from exporter.metrics.catalogue import Catalogue
from exporter.metrics.family import DETAIL_LEVELS, PIPELINE_LABELS, PROJECT_LABELS, Family
from exporter.tracking.views import ProjectView, View

V = TypeVar("V")

GROUP_SIZE = 500
"""Maximum number of views in a block. With more, the longest step of a publication grows, but hardly its total time."""

# Handing a chunk to the server takes as long as copying about 50 kB, so smaller chunks are joined.
_MIN_CHUNK = 64 * 1024
_MIN_GZIP_CHUNK = 256 * 1024
_EOF = b"# EOF\n"


class Variant(NamedTuple):
    """A variant of the /metrics page: its format, and whether it is compressed."""

    form: Format
    gzip: bool


PROMETHEUS = Variant(Format.OPENMETRICS, gzip=True)
"""The variant that Prometheus requests by default."""


class Body(msgspec.Struct, frozen=True, gc=False):
    """A rendered /metrics page in one variant; `length` is in bytes."""

    chunks: tuple[bytes, ...]
    length: int

    @classmethod
    def of(cls, chunks: Iterable[bytes], least: int = 0) -> "Body":
        """Return a body of these chunks; adjacent chunks shorter than `least` bytes are joined."""
        joined = tuple(_join(chunks, least))
        return cls(joined, sum(map(len, joined)))


def _join(chunks: Iterable[bytes], least: int) -> Iterator[bytes]:
    waiting: list[bytes] = []
    size = 0
    for chunk in chunks:
        if len(chunk) < least and size < least:
            waiting.append(chunk)
            size += len(chunk)
            continue
        if waiting:
            yield b"".join(waiting)
        waiting, size = [], 0
        if len(chunk) < least:
            waiting, size = [chunk], len(chunk)
        else:
            yield chunk
    if waiting:
        yield b"".join(waiting)


class OwnSeries(Collector):
    """Snapshot of the exporter's metrics about itself. They are few, so prometheus-client renders them."""

    def __init__(self, source: Collector) -> None:
        self._metrics = tuple(source.collect())

    def collect(self) -> Iterable[Metric]:
        """Return the metrics of the snapshot."""
        return self._metrics

    def render(self, form: Format) -> bytes:
        """Render the metrics in a format, without the final `# EOF` of OpenMetrics."""
        registry = CollectorRegistry()
        registry.register(self)
        if form is Format.TEXT:
            return generate_text(registry)
        page: bytes = generate_openmetrics(registry)
        return page.removesuffix(_EOF)


class Exposition:
    """Renders the current views as /metrics pages, and caches what later pages can reuse."""

    def __init__(
        self,
        catalogue: Catalogue,
        own: Callable[[], Callable[[Format], bytes]],
        *,
        created_series: bool,
        max_series: int = 0,
        group_size: int = GROUP_SIZE,
        pause: Callable[[], None] = lambda: None,
    ) -> None:
        """Create an exposition without views.

        `own` collects the exporter's metrics about itself, once for each page, and returns a function that renders them.
        `max_series` limits the series of each project; 0 means no limit. `pause` is called every few milliseconds during
        rendering; it may wait, or raise an exception to stop.
        """
        self.failures = RenderFailures()
        self.withheld: dict[str, int] = {}
        """Number of series withheld because of the limit, by project."""
        self._pause = pause
        self._max_series = max_series
        self._own = own
        self._render_own: Callable[[Format], bytes] | None = None
        """Renders the exporter's own series; shared by all variants of a page, so that they have the same values."""
        self._own_blocks: dict[Format, Block] = {}
        self._eof = Block(_EOF)
        self._projects = _Section(
            catalogue.projects,
            PROJECT_LABELS,
            lambda view: (view.project, view.provider),
            lambda view: (view.project, view.provider),
            self.failures,
            pause,
            created_series=created_series,
            group_size=group_size,
        )
        self._pipelines = _Section(
            catalogue.pipelines,
            PIPELINE_LABELS,
            lambda view: (view.pipeline.project, view.pipeline.provider, view.pipeline.id),
            lambda view: (
                view.pipeline.name,
                view.pipeline.id,
                view.pipeline.project,
                view.pipeline.provider,
            ),
            self.failures,
            pause,
            created_series=created_series,
            group_size=group_size,
        )

    def update(self, pipelines: Sequence[View], projects: Sequence[ProjectView]) -> None:
        """Replace the views, and render the changes in the formats in use."""
        self._render_own, self._own_blocks = None, {}
        if self._max_series:
            self._update_within_limit(pipelines, projects)
            return
        self._projects.store.update(map(PublishedView, projects))
        self._pipelines.store.update(map(PublishedView, pipelines))

    def _update_within_limit(self, pipelines: Sequence[View], projects: Sequence[ProjectView]) -> None:
        published_projects: list[PublishedView[ProjectView]] = []
        published_pipelines: list[PublishedView[View]] = []
        self.withheld = {}
        members: dict[str, list[tuple[View, SeriesCounts]]] = {view.project: [] for view in projects}
        for view, counts in self._pipelines.counter.count(
            sorted(pipelines, key=lambda view: view.pipeline.id)
        ):
            members.setdefault(view.pipeline.project, []).append((view, counts))
        shared = {view.project: (view, counts) for view, counts in self._projects.counter.count(projects)}
        for project, own in members.items():
            # The shared histograms of a project are worth more than any single pipeline.
            first = [shared[project]] if project in shared else []
            all_counts = [counts for _, counts in first] + [counts for _, counts in own]
            levels, self.withheld[project] = allocate(all_counts, self._max_series)
            for (project_view, _), level in zip(first, levels, strict=False):
                published_projects.append(PublishedView(project_view, level))
            for (view, _), level in zip(own, levels[len(first) :], strict=True):
                published_pipelines.append(PublishedView(view, level))
        self._projects.store.update(published_projects)
        self._pipelines.store.update(published_pipelines)

    def body(self, variant: Variant) -> Body:
        """Return the page in a variant. From then on, `update` also renders changes in its format."""
        blocks = self.blocks(variant.form)
        if variant.gzip:
            return Body.of(member(self._deflated(blocks)), _MIN_GZIP_CHUNK)
        return Body.of((block.data for block in blocks), _MIN_CHUNK)

    def _deflated(self, blocks: Iterable[Block]) -> Iterator[Deflated]:
        for block in blocks:
            self._pause()
            yield block.deflated()

    def blocks(self, form: Format) -> list[Block]:
        """Return the non-empty blocks of the page in a format."""
        return [block for block in self._blocks(form) if block.data]

    def retain(self, variants: Collection[Variant]) -> None:
        """Drop the cached blocks that pages in these variants do not need."""
        forms = {variant.form for variant in variants}
        gzip_forms = {variant.form for variant in variants if variant.gzip}
        for section in (self._projects, self._pipelines):
            section.retain(forms, gzip_forms)

    def _blocks(self, form: Format) -> Iterator[Block]:
        if form not in self._own_blocks:
            if self._render_own is None:
                self._render_own = self._own()
            self._own_blocks[form] = Block(self._render_own(form))
        yield self._own_blocks[form]
        yield from self._projects.blocks(form)
        yield from self._pipelines.blocks(form)
        if form is Format.OPENMETRICS:
            yield self._eof


class _Section(Generic[V]):
    """The part of the /metrics page about one kind of view: pipelines or projects."""

    def __init__(
        self,
        families: Sequence[Family[V]],
        labels: Sequence[str],
        key: Callable[[V], Hashable],
        identity: Callable[[V], Sequence[str]],
        failures: RenderFailures,
        pause: Callable[[], None],
        *,
        created_series: bool,
        group_size: int,
    ) -> None:
        self._renderers = [renderers(family, labels, created_series=created_series) for family in families]
        self._heads = {
            (renderer, form): Block(head)
            for by_form in self._renderers
            for of_form in by_form.values()
            for renderer in of_form
            for form, head in renderer.heads.items()
        }
        self.store = BlockStore(key, lambda view: pairs(labels, identity(view)), failures, pause, group_size)
        self.counter = SeriesCounter(key, self._count_series, pause)

    def blocks(self, form: Format) -> Iterator[Block]:
        """Return the blocks of all families, each family after its head."""
        self.store.render([renderer for by_form in self._renderers for renderer in by_form[form]])
        for by_form in self._renderers:
            for renderer in by_form[form]:
                blocks = self.store.blocks(renderer)
                if renderer.content is not Content.CREATED or any(block.data for block in blocks):
                    yield self._heads[renderer, form]
                yield from blocks

    def retain(self, forms: Collection[Format], gzip_forms: Collection[Format]) -> None:
        """Drop the blocks of formats not in `forms`, and the compressed blocks of those not in `gzip_forms`."""
        retained, deflated = (
            {renderer for by_form in self._renderers for form in some for renderer in by_form[form]}
            for some in (forms, gzip_forms)
        )
        self.store.retain(retained, deflated)

    def _count_series(self, view: V) -> SeriesCounts:
        """Return the number of series of a view at each detail level."""
        counts = [0] * DETAIL_LEVELS
        for by_form in self._renderers:
            for renderer in by_form[Format.OPENMETRICS]:
                # A family that fails here fails again when it is rendered, and is reported then.
                with contextlib.suppress(Exception):
                    counts[renderer.detail_level] += renderer.count_series(view)
        return counts
