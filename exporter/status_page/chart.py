"""The chart of a pipeline's last runs: a bar for each, its height the duration, its colour the status."""

import math
from collections import Counter
from collections.abc import Sequence

import msgspec

from exporter.tracking.ledger import EndedRun

WIDTH, GAP = 5, 1
HEIGHT, DEPTH = 24, 4
"""Height of the longest run, and how far the bar of a failed run reaches below the others, so that colour is not needed."""
LOWEST = 2
"""Height of a run whose start or end is unknown."""


class Bars(msgspec.Struct, frozen=True):
    """The bars of one status."""

    style: str
    """Class of the style sheet: the status, and `uncounted` for runs that no counter has."""
    path: str
    """For the attribute `d` of an SVG path."""


class Chart(msgspec.Struct, frozen=True):
    """A chart in coordinates of its own."""

    width: int
    height: int
    bars: tuple[Bars, ...]
    text: str
    """What it shows, in words."""


def run_duration(run: EndedRun) -> float | None:
    """Return the seconds of a run; None if they are unknown."""
    if run.start is None or run.end is None:
        return None
    seconds = run.end - run.start
    return seconds if math.isfinite(seconds) and seconds >= 0 else None


def chart(runs: Sequence[EndedRun], slots: int) -> Chart | None:
    """Return the chart of runs, which come by falling number; the newest is on the right of so many slots."""
    if not runs:
        return None
    longest = max((run_duration(run) or 0.0 for run in runs), default=0.0) or 1.0
    paths: dict[str, list[str]] = {}
    for index, run in enumerate(runs):
        seconds = run_duration(run)
        high = LOWEST if seconds is None else max(LOWEST, round(seconds / longest * HEIGHT))
        left = (slots - 1 - index) * (WIDTH + GAP)
        deep = DEPTH if run.status == "failed" else 0
        style = run.status.value if run.counted else f"{run.status.value} uncounted"
        paths.setdefault(style, []).append(f"M{left} {HEIGHT + deep}v-{high + deep}h{WIDTH}v{high + deep}z")
    counts = Counter(run.status.value for run in runs)
    words = ", ".join(f"{number} {status}" for status, number in counts.most_common())
    uncounted = sum(not run.counted for run in runs)
    more = f"; {uncounted} from before the exporter's first sight, not counted" if uncounted else ""
    return Chart(
        slots * (WIDTH + GAP) - GAP,
        HEIGHT + DEPTH,
        tuple(Bars(style, "".join(bars)) for style, bars in paths.items()),
        f"last {len(runs)} runs: {words}{more}",
    )
