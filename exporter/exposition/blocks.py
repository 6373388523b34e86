"""Cache the rendered lines of views as blocks of bytes, and render again only the views that have changed.

A block holds the lines of one family renderer for a group of some hundred views. It records the length of each view's part,
so that an update joins slices of the old block with newly rendered parts. If the bytes stay the same, the block stays the
same object and keeps its compressed form. Each view has a slot in its group; a slot that becomes free is reused.
"""

from array import array
from collections.abc import Callable, Collection, Hashable, Iterable, Iterator, Mapping, Sequence
from itertools import accumulate
from typing import Generic, TypeVar

import msgspec

from exporter.exposition.gzip_member import Deflated
from exporter.exposition.render import FamilyRenderer
from exporter.metrics.family import DETAIL_LEVELS

T = TypeVar("T")
V = TypeVar("V")

_STRIDE = 256
"""Views to process between two calls of `pause`; comparing this many takes less than a millisecond."""


class Block:
    """Immutable bytes of a /metrics page, and their compressed form once it is needed."""

    __slots__ = ("_deflated", "data", "lengths")

    def __init__(self, data: bytes, lengths: "array[int] | None" = None) -> None:
        self.data = data
        self.lengths = array("I") if lengths is None else lengths
        """Length of each part in bytes, by slot."""
        self._deflated: Deflated | None = None

    @classmethod
    def of(cls, parts: Sequence[bytes]) -> "Block":
        """Return a block with one slot for each part."""
        return cls(b"".join(parts), array("I", map(len, parts)))

    def replace(self, parts: Sequence[tuple[int, bytes]]) -> "Block":
        """Return the block with new parts in some slots; `self` if no byte changes.

        `parts` has pairs of slot and new part, in rising order of slots. A slot just after the last one is added.
        """
        lengths = self.lengths[:]
        starts = list(accumulate(lengths, initial=0))
        pieces: list[bytes | memoryview] = []
        whole = memoryview(self.data)
        done = 0
        for slot, part in parts:
            if slot == len(lengths):
                starts.append(starts[-1])
                lengths.append(0)
            start, end = starts[slot], starts[slot + 1]
            if self.data[start:end] == part:
                continue
            pieces += (whole[done:start], part)
            done = end
            lengths[slot] = len(part)
        if not pieces:
            # Additional empty slots do not change the bytes.
            self.lengths = lengths
            return self
        return Block(b"".join((*pieces, whole[done:])), lengths)

    def deflated(self) -> Deflated:
        """Return the compressed block, and cache it."""
        if self._deflated is None:
            self._deflated = Deflated.of(self.data)
        return self._deflated

    def forget_deflated(self) -> None:
        """Drop the compressed block from the cache."""
        self._deflated = None


class PublishedView(msgspec.Struct, Generic[V], frozen=True, gc=False):
    """A view to publish, and in how much detail."""

    view: V
    detail_level: int = DETAIL_LEVELS
    """Only families with a lower `detail_level` are published."""


class RenderFailure(msgspec.Struct, frozen=True):
    """Number of failures to render a metric family, and the message of the last one."""

    times: int
    message: str


class RenderFailures:
    """Failures to render, by metric family. A failure affects only one view in one family."""

    def __init__(self) -> None:
        self._found: dict[str, RenderFailure] = {}

    def add(self, family: str, message: str, times: int = 1) -> None:
        """Add failures of a family; `message` replaces the one before."""
        before = self._found.get(family)
        self._found[family] = RenderFailure(times + (before.times if before else 0), message)

    def take(self) -> dict[str, RenderFailure]:
        """Return the failures since the last call, by family."""
        found, self._found = self._found, {}
        return found


class _Group(Generic[V]):
    """A group of views, each in a slot, with a block for each renderer."""

    def __init__(self) -> None:
        self.slots: list[PublishedView[V] | None] = []
        self.free: list[int] = []
        self.blocks: dict[FamilyRenderer[V], Block] = {}

    @property
    def views(self) -> int:
        return len(self.slots) - len(self.free)


class BlockStore(Generic[V]):
    """Stores the rendered blocks of all views of one kind: pipelines or projects."""

    def __init__(
        self,
        key: Callable[[V], Hashable],
        identity: Callable[[V], str],
        failures: RenderFailures,
        pause: Callable[[], None],
        size: int,
    ) -> None:
        """Create an empty store.

        `key` identifies a view, `identity` renders its identity labels. `pause` is called often during long work. `size` is
        the maximum number of views in a block.
        """
        self._key = key
        self._identity = identity
        self._failures = failures
        self._pause = pause
        self._size = size
        self._groups: list[_Group[V]] = []
        self._slot_of: dict[Hashable, tuple[_Group[V], int]] = {}

    def update(self, published: Iterable[PublishedView[V]]) -> None:
        """Replace the views by these, and render the changes; of views with the same key, the last one counts."""
        changes: dict[_Group[V], dict[int, PublishedView[V] | None]] = {}
        try:
            self._assign(published, changes)
            for group in self._groups:
                if group in changes:
                    self._render(group, changes[group])
        except BaseException:
            # The slots have new views already, so the next update would not notice that these blocks are outdated.
            for group in changes:
                group.blocks.clear()
            raise

    def _assign(
        self,
        published: Iterable[PublishedView[V]],
        changes: dict[_Group[V], dict[int, PublishedView[V] | None]],
    ) -> None:
        """Assign each view to a slot, and record changed slots in `changes`: the new view, or None for a freed slot."""
        current = {self._key(one.view): one for one in self._pausing(published)}
        for key in self._slot_of.keys() - current.keys():
            group, slot = self._slot_of.pop(key)
            group.slots[slot] = None
            group.free.append(slot)
            changes.setdefault(group, {})[slot] = None
        if changes:
            self._merge_groups()
        for key, one in self._pausing(current.items()):
            group, slot = self._slot_of.get(key) or self._new_slot(key)
            known = group.slots[slot]
            if known is None or known.view is not one.view or known.detail_level != one.detail_level:
                group.slots[slot] = one
                changes.setdefault(group, {})[slot] = one

    def _pausing(self, items: Iterable[T]) -> Iterator[T]:
        """Yield the items, and call `pause` before every `_STRIDE` of them."""
        for count, item in enumerate(items):
            if not count % _STRIDE:
                self._pause()
            yield item

    def blocks(self, renderer: FamilyRenderer[V]) -> list[Block]:
        """Return a renderer's blocks, one for each group; call `render` first."""
        return [group.blocks[renderer] for group in self._groups]

    def render(self, renderers: Collection[FamilyRenderer[V]]) -> None:
        """Render the blocks that these renderers still lack; `update` keeps them up to date from then on."""
        for group in self._groups:
            missing = [renderer for renderer in renderers if renderer not in group.blocks]
            if missing:
                rows = [(one, self._labels(one)) for one in group.slots]
                for renderer in missing:
                    self._pause()
                    group.blocks[renderer] = Block.of(
                        [self._part(renderer, one, labels) for one, labels in rows]
                    )

    def retain(
        self, renderers: Collection[FamilyRenderer[V]], deflated: Collection[FamilyRenderer[V]]
    ) -> None:
        """Drop the blocks of renderers not in `renderers`, and the compressed blocks of those not in `deflated`."""
        for group in self._groups:
            group.blocks = {
                renderer: block for renderer, block in group.blocks.items() if renderer in renderers
            }
            for renderer, block in group.blocks.items():
                if renderer not in deflated:
                    block.forget_deflated()

    def _new_slot(self, key: Hashable) -> tuple[_Group[V], int]:
        for group in reversed(self._groups):
            if group.free:
                self._slot_of[key] = group, group.free.pop()
                return self._slot_of[key]
            if len(group.slots) < self._size:
                group.slots.append(None)
                self._slot_of[key] = group, len(group.slots) - 1
                return self._slot_of[key]
        self._groups.append(_Group())
        return self._new_slot(key)

    def _merge_groups(self) -> None:
        """Dissolve the smallest group while the two smallest fit into one. `_assign` then gives its views new slots."""
        self._groups = [group for group in self._groups if group.views]
        while len(self._groups) > 1:
            smallest, second = sorted(self._groups, key=lambda group: group.views)[:2]
            if smallest.views + second.views > self._size:
                break
            self._groups.remove(smallest)
            for one in smallest.slots:
                if one is not None:
                    del self._slot_of[self._key(one.view)]

    def _part(self, renderer: FamilyRenderer[V], one: PublishedView[V] | None, labels: str) -> bytes:
        """Return a view's lines of a family; b"" if the slot is free, the detail level excludes them, or rendering fails."""
        if one is None or renderer.detail_level >= one.detail_level:
            return b""
        name = renderer.family.name
        try:
            lines, duplicates = renderer.lines(one.view, labels)
        except Exception as error:  # noqa: BLE001  # the other families must still be rendered
            self._failures.add(name, f"{type(error).__name__}: {error}")
            return b""
        if duplicates:
            self._failures.add(name, f"duplicate series of {labels}", duplicates)
        return lines

    def _render(self, group: _Group[V], changes: Mapping[int, PublishedView[V] | None]) -> None:
        """Render the changed slots of a group."""
        rows = [(slot, changes[slot], self._labels(changes[slot])) for slot in sorted(changes)]
        for renderer, block in group.blocks.items():
            self._pause()
            parts = [(slot, self._part(renderer, one, labels)) for slot, one, labels in rows]
            group.blocks[renderer] = block.replace(parts)

    def _labels(self, one: PublishedView[V] | None) -> str:
        return "" if one is None else self._identity(one.view)
