"""Charts as SVG: lines, bars and points over time, states over time, and heatmaps."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from html import escape

from deploy.dashboards.preview.style import shown

_HALF_LABEL = 17
"""Half the width of a label of the axis of time in pixels."""
_SECONDS = (
    10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10_800, 21_600, 43_200, 86_400, 172_800, 432_000, 864_000,
)  # fmt: skip
"""Round durations."""


@dataclass(frozen=True)
class Series:
    """A series with its name, its colour, and its (Unix time, value) points."""

    name: str
    color: str
    points: tuple[tuple[float, float], ...]


@dataclass(frozen=True)
class Frame:
    """The size of a chart in pixels, and its time range in Unix seconds."""

    width: int
    height: int
    start: float
    end: float
    left: int = 62
    bottom: int = 20

    def x(self, time: float) -> float:
        """Return the horizontal position of a time, in pixels."""
        return self.left + (time - self.start) / (self.end - self.start) * (self.width - self.left - 8)

    def y(self, value: float, least: float, most: float) -> float:
        """Return the vertical position of a value, in pixels; `least` and `most` are the bounds of the axis."""
        return 6 + (1 - (value - least) / (most - least or 1)) * (self.height - self.bottom - 6)

    def svg(self, parts: Sequence[str]) -> str:
        """Return the SVG of a chart with these parts and a time axis."""
        return (
            f'<svg width="{self.width}" height="{self.height}" viewBox="0 0 {self.width} {self.height}">'
            + "".join((*self._times(), *parts))
            + "</svg>"
        )

    def _times(self) -> list[str]:
        span = self.end - self.start
        steps = (300, 900, 1800, 3600, 10_800, 21_600, 43_200, 86_400, 172_800, 432_000)
        step = next((step for step in steps if span / step <= self.width / 75), 864_000)
        form = "%m-%d" if step >= 86_400 else "%H:%M"
        found = []
        time = math.ceil(self.start / step) * step
        while time <= self.end:
            x = self.x(time)
            label = datetime.fromtimestamp(time, UTC).strftime(form)
            # A label at the edge would be cut.
            place = min(x, self.width - _HALF_LABEL)
            found.append(
                f'<line class="grid" x1="{x:.1f}" x2="{x:.1f}" y1="6" y2="{self.height - self.bottom}"/>'
                f'<text class="axis" x="{place:.1f}" y="{self.height - 4}" text-anchor="middle">{label}</text>'
            )
            time += step
        return found


def over_time(
    frame: Frame,
    series: Sequence[Series],
    unit: str,
    *,
    kind: str,
    stacked: bool,
    most: float | None,
    step: float,
) -> str:
    """Return a chart with lines, bars or points over time."""
    drawn = _stacked(series) if stacked else [(one, [0.0] * len(one.points)) for one in series]
    highest = max(
        (base + value for one, bases in drawn for (_, value), base in zip(one.points, bases, strict=True)),
        default=1,
    )
    whole = all(value == int(value) for one in series for _, value in one.points)
    tick = _tick(most or highest or 1, unit, whole=whole)
    top = most if most is not None else tick * math.ceil((highest or 1) / tick)
    parts = []
    for part in range(round(top / tick) + 1):
        value = tick * part
        y = frame.y(value, 0, top)
        parts.append(
            f'<line class="grid" x1="{frame.left}" x2="{frame.width - 8}" y1="{y:.1f}" y2="{y:.1f}"/>'
            f'<text class="axis" x="{frame.left - 6}" y="{y + 4:.1f}" text-anchor="end">{shown(value, unit)}</text>'
        )
    for one, bases in reversed(drawn):
        if kind == "bars":
            parts += _bars(frame, one, bases, top, step)
        else:
            parts += _lines(frame, one, bases, top, step, filled=stacked)
    return frame.svg(parts)


def _stacked(series: Sequence[Series]) -> list[tuple[Series, list[float]]]:
    totals: dict[float, float] = {}
    found = []
    for one in series:
        bases = []
        for time, value in one.points:
            bases.append(totals.get(time, 0.0))
            totals[time] = totals.get(time, 0.0) + value
        found.append((one, bases))
    return found


def _tick(highest: float, unit: str, *, whole: bool) -> float:
    """Return the distance of lines that divides an axis into five parts at most, in round values of the unit."""
    steps: Iterable[float] = (part * 10.0**power for power in range(-3, 9) for part in (1, 2, 5))
    if unit == "s" and highest > _SECONDS[0]:
        steps = _SECONDS
    elif unit == "bytes":
        steps = (2.0**20 * step for step in steps)
    elif whole:
        steps = (step for step in steps if step >= 1)
    return next((step for step in steps if highest / step <= 5), highest)


def _bars(frame: Frame, one: Series, bases: Sequence[float], top: float, step: float) -> list[str]:
    width = max(1.0, (frame.x(frame.start + step) - frame.x(frame.start)) * 0.8)
    return [
        f'<rect x="{frame.x(time) - width:.1f}" width="{width:.1f}" y="{frame.y(base + value, 0, top):.1f}" '
        f'height="{frame.y(base, 0, top) - frame.y(base + value, 0, top):.1f}" fill="{one.color}" fill-opacity="0.85"/>'
        for (time, value), base in zip(one.points, bases, strict=True)
        if value > 0
    ]


def _lines(
    frame: Frame, one: Series, bases: Sequence[float], top: float, step: float, *, filled: bool
) -> list[str]:
    """Return a line, with gaps where a value is missing."""
    pieces: list[list[tuple[float, float, float]]] = []
    last = -math.inf
    for (time, value), base in zip(one.points, bases, strict=True):
        if time - last > 1.5 * step:
            pieces.append([])
        pieces[-1].append((frame.x(time), frame.y(base + value, 0, top), frame.y(base, 0, top)))
        last = time
    found = []
    for piece in pieces:
        if len(piece) == 1:
            found.append(
                f'<circle cx="{piece[0][0]:.1f}" cy="{piece[0][1]:.1f}" r="2.5" fill="{one.color}"/>'
            )
            continue
        line = " ".join(f"{x:.1f},{y:.1f}" for x, y, _ in piece)
        back = " ".join(f"{x:.1f},{base:.1f}" for x, _, base in reversed(piece))
        opacity = 0.45 if filled else 0.08
        found.append(f'<polygon points="{line} {back}" fill="{one.color}" fill-opacity="{opacity}"/>')
        found.append(f'<polyline points="{line}" fill="none" stroke="{one.color}" stroke-width="1.8"/>')
    return found


def states(
    frame: Frame,
    series: Sequence[tuple[str, Sequence[tuple[float, float]]]],
    words: dict[str, tuple[str, str]],
    step: float,
) -> str:
    """Return a chart with a row for each series, which has the colour of its state at each time."""
    height = (frame.height - frame.bottom - 6) / max(1, len(series))
    parts = []
    for number, (name, points) in enumerate(series):
        y = 6 + number * height
        parts.append(
            f'<text class="axis" x="{frame.left - 8}" y="{y + height / 2 + 4:.1f}" text-anchor="end">{escape(name)}</text>'
        )
        for begin, end, value in _merged(points, step):
            word, color = words.get(f"{value:g}", (f"{value:g}", "gray"))
            x, width = frame.x(begin), frame.x(min(end, frame.end)) - frame.x(begin)
            parts.append(
                f'<rect x="{x:.1f}" width="{max(width, 1):.1f}" y="{y + height * 0.1:.1f}" height="{height * 0.8:.1f}" '
                f'fill="{color}" fill-opacity="0.85"/>'
            )
            if width > 7 * len(word) + 6:
                parts.append(
                    f'<text class="state" x="{x + 5:.1f}" y="{y + height / 2 + 4:.1f}">{escape(word)}</text>'
                )
    return frame.svg(parts)


def _merged(points: Sequence[tuple[float, float]], step: float) -> list[tuple[float, float, float]]:
    found: list[tuple[float, float, float]] = []
    for time, value in points:
        if found and found[-1][2] == value and time - found[-1][1] < step / 2:
            found[-1] = (found[-1][0], time + step, value)
        else:
            found.append((time, time + step, value))
    return found


def heatmap(frame: Frame, buckets: Sequence[tuple[str, Sequence[tuple[float, float]]]], step: float) -> str:
    """Return a chart with a cell for each time and bucket; the counts of `buckets` are cumulative, as in Prometheus."""
    height = (frame.height - frame.bottom - 6) / max(1, len(buckets))
    below: dict[float, float] = {}
    cells = []
    for number, (_, points) in enumerate(buckets):
        for time, value in points:
            cells.append((number, time, max(0.0, value - below.get(time, 0.0))))
            below[time] = value
    most = max((count for _, _, count in cells), default=1) or 1
    parts = []
    for number, (bound, _) in enumerate(buckets):
        y = frame.height - frame.bottom - (number + 0.5) * height + 4
        label = bound if bound == "+Inf" else shown(float(bound), "s")
        parts.append(f'<text class="axis" x="{frame.left - 6}" y="{y:.1f}" text-anchor="end">{label}</text>')
    width = frame.x(frame.start + step) - frame.x(frame.start)
    for number, time, count in cells:
        if count > 0.01:
            y = frame.height - frame.bottom - (number + 1) * height
            parts.append(
                f'<rect x="{frame.x(time) - width:.1f}" width="{max(width - 1, 1):.1f}" y="{y + 0.5:.1f}" height="{height - 1:.1f}" '
                f'fill="#5794f2" fill-opacity="{0.25 + 0.75 * count / most:.2f}"/>'
            )
    return frame.svg(parts)
