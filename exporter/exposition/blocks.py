"""Blocks: the lines of one column for some hundred views, kept as bytes and put together anew from what changed.

A block knows how long the part of each view is, so that a new one is made of slices of the old and of what was rendered
anew; nothing is kept of a view beside. A block whose bytes would be the same stays the same object, with what it was
compressed to. A view keeps its place: who leaves leaves it empty, who joins takes an empty one.
"""

from array import array
from collections.abc import Callable, Collection, Hashable, Iterable, Iterator, Mapping, Sequence
from itertools import accumulate
from typing import Generic, TypeVar

import msgspec

from exporter.exposition.gzip_member import Deflated
from exporter.exposition.render import FamilyRenderer
from exporter.metrics.catalogue import DETAIL_LEVELS

T = TypeVar("T")
V = TypeVar("V")

_STRIDE = 256
"""Views that are looked at in less than a millisecond."""


class Block:
    """Bytes of a page, never changed."""

    __slots__ = ("_deflated", "data", "lengths")

    def __init__(self, data: bytes, lengths: "array[int] | None" = None) -> None:
        self.data = data
        self.lengths = array("I") if lengths is None else lengths
        """Of the parts that it is made of, if it is made of any."""
        self._deflated: Deflated | None = None

    @classmethod
    def of(cls, parts: Sequence[bytes]) -> "Block":
        """A block of parts."""
        return cls(b"".join(parts), array("I", map(len, parts)))

    def changed(self, parts: Sequence[tuple[int, bytes]]) -> "Block":
        """The block with other parts at some places, in rising order; places next to the last are new."""
        lengths = self.lengths[:]
        starts = list(accumulate(lengths, initial=0))
        pieces: list[bytes | memoryview] = []
        whole = memoryview(self.data)
        done = 0
        for place, part in parts:
            if place == len(lengths):
                starts.append(starts[-1])
                lengths.append(0)
            start, end = starts[place], starts[place + 1]
            if self.data[start:end] == part:
                continue
            pieces += (whole[done:start], part)
            done = end
            lengths[place] = len(part)
        if not pieces:
            # Places more that are empty change no bytes.
            self.lengths = lengths
            return self
        return Block(b"".join((*pieces, whole[done:])), lengths)

    def deflated(self) -> Deflated:
        """What it is compressed to; done once."""
        if self._deflated is None:
            self._deflated = Deflated.of(self.data)
        return self._deflated

    def forget_deflated(self) -> None:
        """It is not asked for any more."""
        self._deflated = None


class PublishedView(msgspec.Struct, Generic[V], frozen=True, gc=False):
    """A view, and how much of it is shown."""

    view: V
    detail_level: int = DETAIL_LEVELS
    """Families that look less deep are shown."""


class RenderFailure(msgspec.Struct, frozen=True):
    """What went wrong in rendering a family."""

    times: int
    words: str
    """What it was the last time."""


class RenderFailures:
    """What went wrong in rendering, by family: it cost itself only."""

    def __init__(self) -> None:
        self._found: dict[str, RenderFailure] = {}

    def add(self, family: str, words: str, times: int = 1) -> None:
        """Something went wrong."""
        before = self._found.get(family)
        self._found[family] = RenderFailure(times + (before.times if before else 0), words)

    def take(self) -> dict[str, RenderFailure]:
        """What went wrong since the last time."""
        found, self._found = self._found, {}
        return found


class _Group(Generic[V]):
    """Some views, each at a place of its own, and their blocks."""

    def __init__(self) -> None:
        self.places: list[PublishedView[V] | None] = []
        self.free: list[int] = []
        self.blocks: dict[FamilyRenderer[V], Block] = {}

    @property
    def views(self) -> int:
        return len(self.places) - len(self.free)


class BlockStore(Generic[V]):
    """All views of a kind, in groups."""

    def __init__(
        self,
        key: Callable[[V], Hashable],
        identity: Callable[[V], str],
        failures: RenderFailures,
        pause: Callable[[], None],
        size: int,
    ) -> None:
        """`key` tells the views apart, `identity` is their labels; `size` is how many views share a block.

        `pause` is called before each block that is rendered.
        """
        self._key = key
        self._identity = identity
        self._failures = failures
        self._pause = pause
        self._size = size
        self._groups: list[_Group[V]] = []
        self._where: dict[Hashable, tuple[_Group[V], int]] = {}

    def update(self, shown: Iterable[PublishedView[V]]) -> None:
        """Take over what is to be shown; of several with one key the last is."""
        changes: dict[_Group[V], dict[int, PublishedView[V] | None]] = {}
        try:
            self._sort(shown, changes)
            for group in self._groups:
                if group in changes:
                    self._render(group, changes[group])
        except BaseException:
            # Their lines are not those of their views any more, and nothing would tell the next time.
            for group in changes:
                group.blocks.clear()
            raise

    def _sort(
        self, shown: Iterable[PublishedView[V]], changes: dict[_Group[V], dict[int, PublishedView[V] | None]]
    ) -> None:
        """Put each view to its place, and enter into `changes` the places that have another one now."""
        missing_numbers = {self._key(one.view): one for one in self._by_and_by(shown)}
        for key in self._where.keys() - missing_numbers.keys():
            group, place = self._where.pop(key)
            group.places[place] = None
            group.free.append(place)
            changes.setdefault(group, {})[place] = None
        if changes:
            self._merge()
        for key, one in self._by_and_by(missing_numbers.items()):
            group, place = self._where.get(key) or self._join(key)
            known = group.places[place]
            if known is None or known.view is not one.view or known.detail_level != one.detail_level:
                group.places[place] = one
                changes.setdefault(group, {})[place] = one

    def _by_and_by(self, many: Iterable[T]) -> Iterator[T]:
        """The same, with pauses."""
        for count, one in enumerate(many):
            if not count % _STRIDE:
                self._pause()
            yield one

    def blocks(self, column: FamilyRenderer[V]) -> list[Block]:
        """The blocks of a column that is kept."""
        return [group.blocks[column] for group in self._groups]

    def render(self, columns: Collection[FamilyRenderer[V]]) -> None:
        """Keep these columns too."""
        for group in self._groups:
            missing = [column for column in columns if column not in group.blocks]
            if missing:
                rows = [(one, self._labels(one)) for one in group.places]
                for column in missing:
                    self._pause()
                    group.blocks[column] = Block.of([self._part(column, one, labels) for one, labels in rows])

    def keep(self, columns: Collection[FamilyRenderer[V]], deflated: Collection[FamilyRenderer[V]]) -> None:
        """Forget the blocks of other columns than these, and what blocks are compressed to of others than the `deflated`."""
        for group in self._groups:
            group.blocks = {column: block for column, block in group.blocks.items() if column in columns}
            for column, block in group.blocks.items():
                if column not in deflated:
                    block.forget_deflated()

    def _join(self, key: Hashable) -> tuple[_Group[V], int]:
        """Find a place for one view more."""
        for group in reversed(self._groups):
            if group.free:
                self._where[key] = group, group.free.pop()
                return self._where[key]
            if len(group.places) < self._size:
                group.places.append(None)
                self._where[key] = group, len(group.places) - 1
                return self._where[key]
        self._groups.append(_Group())
        return self._join(key)

    def _merge(self) -> None:
        """Dissolve groups that have become small, for as long as two fit into one: their views join others."""
        self._groups = [group for group in self._groups if group.views]
        while len(self._groups) > 1:
            least, next_to_it = sorted(self._groups, key=lambda group: group.views)[:2]
            if least.views + next_to_it.views > self._size:
                break
            self._groups.remove(least)
            for one in least.places:
                if one is not None:
                    del self._where[self._key(one.view)]

    def _part(self, column: FamilyRenderer[V], one: PublishedView[V] | None, labels: str) -> bytes:
        """The lines of a column for a view with these labels."""
        if one is None or column.detail_level >= one.detail_level:
            return b""
        name = column.family.name
        try:
            lines, twice = column.lines(one.view, labels)
        except Exception as error:  # noqa: BLE001  # whatever it is, the other families are to be shown
            self._failures.add(name, f"{type(error).__name__}: {error}")
            return b""
        if twice:
            self._failures.add(name, f"a series twice, of {labels}", twice)
        return lines

    def _render(self, group: _Group[V], some: Mapping[int, PublishedView[V] | None]) -> None:
        """Render what has changed in a group."""
        rows = [(place, some[place], self._labels(some[place])) for place in sorted(some)]
        for column, block in group.blocks.items():
            self._pause()
            parts = [(place, self._part(column, one, labels)) for place, one, labels in rows]
            group.blocks[column] = block.changed(parts)

    def _labels(self, one: PublishedView[V] | None) -> str:
        return "" if one is None else self._identity(one.view)
