"""Decide what to publish of a project that has more series than `limits.max_series` allows.

Steps are withheld first, then jobs, then stages, then whole pipelines. Within each of these, the pipelines with the greatest
ids are withheld first, and the histograms of the project last. So if a project grows by a few series, a few are withheld,
and the same ones on every page.
"""

from collections.abc import Callable, Hashable, Iterable, Sequence
from typing import Generic, TypeVar

from exporter.metrics.family import DETAIL_LEVELS

V = TypeVar("V")

SeriesCounts = Sequence[int]
"""Number of series at each detail level."""


class SeriesCounter(Generic[V]):
    """Counts the series of views. The count of a view is reused while the view stays the same object."""

    def __init__(
        self, key: Callable[[V], Hashable], count: Callable[[V], SeriesCounts], pause: Callable[[], None]
    ) -> None:
        """`key` identifies a view. `count` counts the series of one view. `pause` is called before each view."""
        self._key = key
        self._count = count
        self._pause = pause
        self._known: dict[Hashable, tuple[V, SeriesCounts]] = {}

    def count(self, views: Iterable[V]) -> list[tuple[V, SeriesCounts]]:
        """Return each view with its number of series; of views with the same key, the last one."""
        before, self._known = self._known, {}
        for view in views:
            self._pause()
            key = self._key(view)
            known = before.get(key)
            self._known[key] = known if known is not None and known[0] is view else (view, self._count(view))
        return list(self._known.values())


def allocate(counts: Sequence[SeriesCounts], limit: int) -> tuple[list[int], int]:
    """Return the detail level to publish for each view, and the number of series withheld.

    At each detail level, the views at the front of `counts` take precedence.
    """
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
