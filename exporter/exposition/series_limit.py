"""How much of a project is shown where `limits.max_series` does not allow all: deterministic, and steady between pages.

Steps go first, then jobs, then stages, then pipelines; and of each those of pipelines with the greatest ids, so that a
project that grows by a few series loses a few, and the same ones on every page. What the pipelines of a project share is
one piece, and comes first.
"""

from collections.abc import Callable, Hashable, Iterable, Sequence
from typing import Generic, TypeVar

from exporter.metrics.catalogue import DETAIL_LEVELS

V = TypeVar("V")

Sizes = Sequence[int]
"""How many series something has at each depth."""


class Sizing(Generic[V]):
    """Counts the series of views, each once for as long as it is the same object."""

    def __init__(
        self, key: Callable[[V], Hashable], count: Callable[[V], Sizes], pause: Callable[[], None]
    ) -> None:
        """`pause` is called before each view."""
        self._key = key
        self._count = count
        self._pause = pause
        self._known: dict[Hashable, tuple[V, Sizes]] = {}

    def sizes(self, views: Iterable[V]) -> list[tuple[V, Sizes]]:
        """The views and their sizes."""
        before, self._known = self._known, {}
        for view in views:
            self._pause()
            key = self._key(view)
            known = before.get(key)
            self._known[key] = known if known is not None and known[0] is view else (view, self._count(view))
        return list(self._known.values())


def allot(sizes: Sequence[Sizes], limit: int) -> tuple[list[int], int]:
    """To which depth each is shown, those that stand first before others; and how many series are not."""
    depths = [0] * len(sizes)
    left = limit
    withheld = sum(map(sum, sizes))
    for detail_level in range(DETAIL_LEVELS):
        for place, size in enumerate(sizes):
            if size[detail_level] > left:
                return depths, withheld
            left -= size[detail_level]
            withheld -= size[detail_level]
            depths[place] = detail_level + 1
    return depths, withheld
