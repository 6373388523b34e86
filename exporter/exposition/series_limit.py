"""Decide what to publish of a project that has more series than `limits.max_series` allows.

Steps are withheld first, then jobs, then stages, then pipelines. Within each kind, pipelines with the greatest ids go first.
So a project that grows by a few series loses a few, and the same ones on every page. The histograms that the pipelines of a
project share come before all pipelines.
"""

from collections.abc import Callable, Hashable, Iterable, Sequence
from typing import Generic, TypeVar

from exporter.metrics.family import DETAIL_LEVELS

V = TypeVar("V")

SeriesCounts = Sequence[int]
"""Number of series at each detail level."""


class SeriesCounter(Generic[V]):
    """Counts the series of views, once for each object."""

    def __init__(
        self, key: Callable[[V], Hashable], count: Callable[[V], SeriesCounts], pause: Callable[[], None]
    ) -> None:
        """`pause` is called before each view."""
        self._key = key
        self._count = count
        self._pause = pause
        self._known: dict[Hashable, tuple[V, SeriesCounts]] = {}

    def count(self, views: Iterable[V]) -> list[tuple[V, SeriesCounts]]:
        """Return the views with their numbers of series."""
        before, self._known = self._known, {}
        for view in views:
            self._pause()
            key = self._key(view)
            known = before.get(key)
            self._known[key] = known if known is not None and known[0] is view else (view, self._count(view))
        return list(self._known.values())


def allocate(counts: Sequence[SeriesCounts], limit: int) -> tuple[list[int], int]:
    """Return the detail level to publish of each view, earlier views first, and the number of series withheld."""
    levels = [0] * len(counts)
    left = limit
    withheld = sum(map(sum, counts))
    for detail_level in range(DETAIL_LEVELS):
        for index, series in enumerate(counts):
            if series[detail_level] > left:
                return levels, withheld
            left -= series[detail_level]
            withheld -= series[detail_level]
            levels[index] = detail_level + 1
    return levels, withheld
