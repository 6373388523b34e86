"""Colours and units as Grafana shows them."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

COLORS = {
    "green": "#73bf69",
    "red": "#f2495c",
    "dark-red": "#c4162a",
    "orange": "#ff9830",
    "dark-orange": "#fa6400",
    "yellow": "#fade2a",
    "blue": "#5794f2",
    "light-blue": "#8ab8ff",
    "dark-blue": "#1f60c4",
    "purple": "#b877d9",
}
PALETTE = (
    "#73bf69",
    "#f2cc0c",
    "#8ab8ff",
    "#ff780a",
    "#f2495c",
    "#5794f2",
    "#b877d9",
    "#705da0",
    "#37872d",
    "#fade2a",
)
"""The colours of series that have none of their own."""
THEMES = {
    "dark": {"page": "#111217", "panel": "#181b1f", "line": "#2f333a", "text": "#d5d6e0", "dim": "#9a9cab"},
    "light": {"page": "#f4f5f5", "panel": "#ffffff", "line": "#dcdee2", "text": "#24292e", "dim": "#62666d"},
}
_DURATIONS = ((604_800, "weeks"), (86_400, "days"), (3600, "hours"), (60, "mins"))
_SCALES = ((1e9, "B"), (1e6, "M"), (1e3, "K"))


def color(name: str) -> str:
    """Return the CSS colour for a colour name of Grafana; `text` is the colour of text."""
    return "var(--text)" if name == "text" else COLORS.get(name, name)


def shade(name: str, position: int, count: int) -> str:
    """Return one of some shades of a colour."""
    return f"color-mix(in srgb, {color(name)} {100 - 40 * position // max(1, count - 1)}%, black)"


def threshold(value: float, steps: Sequence[dict[str, Any]]) -> str:
    """Return the colour name that threshold steps give to a value."""
    found = "text"
    for step in steps:
        if step["value"] is None or value >= step["value"]:
            found = step["color"]
    return found


def shown(value: float, unit: str, decimals: int | None = None) -> str:
    """Format a value with its unit, as Grafana does."""
    if unit == "dateTimeAsIso":
        return datetime.fromtimestamp(value / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S")
    if unit == "percentunit":
        return f"{_digits(value * 100, decimals, 1)}%"
    if unit == "s":
        for seconds, word in _DURATIONS:
            if abs(value) >= seconds:
                digits = _digits(value / seconds, decimals, 1)
                return f"{digits} {word.removesuffix('s') if digits == '1' else word}"
        if 0 < abs(value) < 1:
            return f"{_digits(value * 1000, decimals, 0)} ms"
        return f"{_digits(value, decimals, 1)} s"
    if unit == "bytes":
        return f"{_digits(value / 2**20, decimals, 1)} MiB"
    if unit == "none":
        return f"{value:.0f}"
    suffix = " req/s" if unit == "reqps" else ""
    for scale, word in _SCALES:
        if abs(value) >= scale:
            return f"{_digits(value / scale, decimals, 1)} {word}{suffix}"
    return f"{_digits(value, decimals, 2)}{suffix}"


def _digits(value: float, decimals: int | None, most: int) -> str:
    if decimals is not None:
        return f"{value:.{decimals}f}"
    return f"{value:.{most}f}".rstrip("0").rstrip(".") if most else f"{value:.0f}"
