"""Keep the rendered lines of pipelines as blocks of bytes, and replace in them only what has changed.

A block holds the lines of one family renderer for a group of some hundred views. It knows the length of each view's part,
so a new block is put together from slices of the old one and from newly rendered parts. If the bytes stay the same, the
block stays the same object, with its compressed form. Each view has a slot in its group; a slot that becomes free is
reused.
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
"""Views between two pauses; comparing so many takes less than a millisecond."""


class Block:
    """Immutable bytes of a page."""

    __slots__ = ("_deflated", "data", "lengths")

    def __init__(self, data: bytes, lengths: "array[int] | None" = None) -> None:
        self.data = data
        self.lengths = array("I") if lengths is None else lengths
        """Length of each part, by slot."""
        self._deflated: Deflated | None = None

    @classmethod
    def of(cls, parts: Sequence[bytes]) -> "Block":
        """Return a block of these parts."""
        return cls(b"".join(parts), array("I", map(len, parts)))

    def replace(self, parts: Sequence[tuple[int, bytes]]) -> "Block":
        """Return the block with new parts in some slots, in rising order; a slot after the last is added."""
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
        """Return the compressed block, which is then kept."""
        if self._deflated is None:
            self._deflated = Deflated.of(self.data)
        return self._deflated

    def forget_deflated(self) -> None:
        """Free the compressed block."""
        self._deflated = None


class PublishedView(msgspec.Struct, Generic[V], frozen=True, gc=False):
    """A view and the level of detail to publish of it."""

    view: V
    detail_level: int = DETAIL_LEVELS
    """Families below this level are published."""


class RenderFailure(msgspec.Struct, frozen=True):
    """Failures to render a family."""

    times: int
    message: str
    """Message of the last one."""


class RenderFailures:
    """Failures to render, by family. Each affects only one view in one family."""

    def __init__(self) -> None:
        self._found: dict[str, RenderFailure] = {}

    def add(self, family: str, message: str, times: int = 1) -> None:
        """Record failures."""
        before = self._found.get(family)
        self._found[family] = RenderFailure(times + (before.times if before else 0), message)

    def take(self) -> dict[str, RenderFailure]:
        """Return the failures since the last call."""
        found, self._found = self._found, {}
        return found


class _Group(Generic[V]):
    """Some views, each in its slot, and their blocks."""

    def __init__(self) -> None:
        self.slots: list[PublishedView[V] | None] = []
        self.free: list[int] = []
        self.blocks: dict[FamilyRenderer[V], Block] = {}

    @property
    def views(self) -> int:
        return len(self.slots) - len(self.free)


class BlockStore(Generic[V]):
    """The blocks of all views of a kind, in groups."""

    def __init__(
        self,
        key: Callable[[V], Hashable],
        identity: Callable[[V], str],
        failures: RenderFailures,
        pause: Callable[[], None],
        size: int,
    ) -> None:
        """Create an empty store.

        `key` identifies a view, `identity` renders its identity labels. `pause` is called before each block that is
        rendered. `size` is the number of views in a block.
        """
        self._key = key
        self._identity = identity
        self._failures = failures
        self._pause = pause
        self._size = size
        self._groups: list[_Group[V]] = []
        self._slot_of: dict[Hashable, tuple[_Group[V], int]] = {}

    def update(self, published: Iterable[PublishedView[V]]) -> None:
        """Publish these views and no others; of several with the same key, the last one."""
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
        """Put each view into its slot, and add the slots whose view changed to `changes`."""
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
        """Return the same items, with pauses."""
        for count, item in enumerate(items):
            if not count % _STRIDE:
                self._pause()
            yield item

    def blocks(self, renderer: FamilyRenderer[V]) -> list[Block]:
        """Return the blocks of a family that has been rendered."""
        return [group.blocks[renderer] for group in self._groups]

    def render(self, renderers: Collection[FamilyRenderer[V]]) -> None:
        """Render the families that are not rendered yet; `update` keeps them up to date."""
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
        """Keep only the blocks of `renderers`, and only those of `deflated` in compressed form."""
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
        """Dissolve the smallest group as long as two fit into one; its views get slots in other groups."""
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
        """Return the lines of a family for a view with these identity labels; b"" if rendering fails."""
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
