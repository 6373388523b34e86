"""Pages: what is known, in the variants that somebody asks for, as tuples of bytes of which the next page keeps the most.

A page is the exporter's own series, then family by family its head and its blocks.
"""

import contextlib
from collections.abc import Callable, Collection, Hashable, Iterable, Iterator, Sequence
from typing import Generic, NamedTuple, TypeVar

import msgspec
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import generate_latest as generate_text
from prometheus_client.openmetrics.exposition import generate_latest as generate_openmetrics

from exporter.exposition.blocks import Block, BlockStore, PublishedView, RenderFailures
from exporter.exposition.gzip_member import Deflated, member
from exporter.exposition.render import Content, Format, columns, pairs
from exporter.exposition.series_limit import Sizes, Sizing, allot
from exporter.metrics.catalogue import DETAIL_LEVELS, PIPELINE_LABELS, PROJECT_LABELS, Catalogue, Family
from exporter.tracking.views import ProjectView, View

V = TypeVar("V")

GROUP = 500
"""Views that share a block: from 100 to 5,000 a publication costs the same, but the longest step of it grows with them."""

# To hand a chunk to the server takes as long as to copy some 50 kB: small ones are joined, as most compressed ones are.
_LEAST = 64 * 1024
_LEAST_ZIPPED = 256 * 1024
_EOF = b"# EOF\n"


class Variant(NamedTuple):
    """What somebody asks for."""

    form: Format
    gzip: bool


class Body(msgspec.Struct, frozen=True, gc=False):
    """A finished page of one variant."""

    chunks: tuple[bytes, ...]
    length: int

    @classmethod
    def of(cls, chunks: Iterable[bytes], least: int = 0) -> "Body":
        """A body of some chunks, of which those that are smaller than `least` are joined with one another."""
        kept = tuple(_joined(chunks, least))
        return cls(kept, sum(map(len, kept)))


def _joined(chunks: Iterable[bytes], least: int) -> Iterator[bytes]:
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


def own_series(registry: CollectorRegistry, form: Format) -> bytes:
    """The exporter's metrics about itself; few, so that prometheus-client renders them."""
    if form is Format.TEXT:
        return generate_text(registry)
    page: bytes = generate_openmetrics(registry)
    return page.removesuffix(_EOF)


class Exposition:
    """Renders pages of what it was last told, and keeps of them what the next ones may have in common."""

    def __init__(
        self,
        catalogue: Catalogue,
        own: Callable[[Format], bytes],
        *,
        created_series: bool,
        max_series: int = 0,
        group: int = GROUP,
    ) -> None:
        """`own` gives the exporter's metrics about itself; `max_series` is for each project, 0 is no limit."""
        self.failures = RenderFailures()
        self.pause: Callable[[], None] = _go_on
        """Called again and again while something is rendered, which takes no longer than milliseconds in between."""
        self.withheld: dict[str, int] = {}
        """How many series of each project are not shown because of the limit."""
        self._max_series = max_series
        self._own = own
        self._own_blocks: dict[Format, Block] = {}
        self._eof = Block(_EOF)
        self._projects = _Section(
            catalogue.projects,
            PROJECT_LABELS,
            lambda view: (view.project, view.provider),
            lambda view: (view.project, view.provider),
            self.failures,
            self._pause,
            created_series=created_series,
            group=group,
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
            self._pause,
            created_series=created_series,
            group=group,
        )

    def update(self, pipelines: Sequence[View], projects: Sequence[ProjectView]) -> None:
        """Take over what is known; rendered is what has changed, of what is kept."""
        self._own_blocks = {}
        if self._max_series:
            self._update_within_limits(pipelines, projects)
            return
        self._projects.store.update(map(PublishedView, projects))
        self._pipelines.store.update(map(PublishedView, pipelines))

    def _update_within_limits(self, pipelines: Sequence[View], projects: Sequence[ProjectView]) -> None:
        shown_projects: list[PublishedView[ProjectView]] = []
        shown_pipelines: list[PublishedView[View]] = []
        self.withheld = {}
        members: dict[str, list[tuple[View, Sizes]]] = {view.project: [] for view in projects}
        for view, size in self._pipelines.sizing.sizes(sorted(pipelines, key=lambda view: view.pipeline.id)):
            members.setdefault(view.pipeline.project, []).append((view, size))
        shared = {view.project: (view, size) for view, size in self._projects.sizing.sizes(projects)}
        for project, some in members.items():
            # What the pipelines of a project share is of more use than any of them.
            first = [shared[project]] if project in shared else []
            sizes = [size for _, size in first] + [size for _, size in some]
            depths, self.withheld[project] = allot(sizes, self._max_series)
            for (whole, _), detail_level in zip(first, depths, strict=False):
                shown_projects.append(PublishedView(whole, detail_level))
            for (view, _), detail_level in zip(some, depths[len(first) :], strict=True):
                shown_pipelines.append(PublishedView(view, detail_level))
        self._projects.store.update(shown_projects)
        self._pipelines.store.update(shown_pipelines)

    def body(self, variant: Variant) -> Body:
        """The page of a variant."""
        blocks = self.blocks(variant.form)
        if variant.gzip:
            return Body.of(member(self._deflated(blocks)), _LEAST_ZIPPED)
        return Body.of((block.data for block in blocks), _LEAST)

    def _pause(self) -> None:
        self.pause()

    def _deflated(self, blocks: Iterable[Block]) -> Iterator[Deflated]:
        for block in blocks:
            self.pause()
            yield block.deflated()

    def blocks(self, form: Format) -> list[Block]:
        """What the page of a format is made of."""
        return [block for block in self._blocks(form) if block.data]

    def keep(self, variants: Collection[Variant]) -> None:
        """Forget what only pages of other variants have."""
        forms = {variant.form for variant in variants}
        zipped = {variant.form for variant in variants if variant.gzip}
        for section in (self._projects, self._pipelines):
            section.keep(forms, zipped)

    def _blocks(self, form: Format) -> Iterator[Block]:
        if form not in self._own_blocks:
            self._own_blocks[form] = Block(self._own(form))
        yield self._own_blocks[form]
        yield from self._projects.blocks(form)
        yield from self._pipelines.blocks(form)
        if form is Format.OPENMETRICS:
            yield self._eof


def _go_on() -> None:
    """Do not wait."""


class _Section(Generic[V]):
    """The families of one kind of view."""

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
        group: int,
    ) -> None:
        self._columns = [columns(family, labels, created_series=created_series) for family in families]
        self._heads = {
            (column, form): Block(head)
            for by_form in self._columns
            for some in by_form.values()
            for column in some
            for form, head in column.heads.items()
        }
        self.store = BlockStore(key, lambda view: pairs(labels, identity(view)), failures, pause, group)
        self.sizing = Sizing(key, self._sizes, pause)

    def blocks(self, form: Format) -> Iterator[Block]:
        """The families, one after the other, each with its head."""
        self.store.render([column for by_form in self._columns for column in by_form[form]])
        for by_form in self._columns:
            for column in by_form[form]:
                blocks = self.store.blocks(column)
                if column.content is not Content.CREATED or any(block.data for block in blocks):
                    yield self._heads[column, form]
                yield from blocks

    def keep(self, forms: Collection[Format], zipped: Collection[Format]) -> None:
        """Forget what is in no page of these formats, and what it is compressed to if it is in none of the `zipped`."""
        kept, deflated = (
            {column for by_form in self._columns for form in some for column in by_form[form]}
            for some in (forms, zipped)
        )
        self.store.keep(kept, deflated)

    def _sizes(self, view: V) -> Sizes:
        """How many series a view has, by depth."""
        sizes = [0] * DETAIL_LEVELS
        for by_form in self._columns:
            for column in by_form[Format.OPENMETRICS]:
                # What cannot be written is told when it is tried.
                with contextlib.suppress(Exception):
                    sizes[column.detail_level] += column.series(view)
        return sizes
