"""Durations in the format of Prometheus: `90s`, `1h30m`, `250ms`.

Source: https://prometheus.io/docs/prometheus/latest/configuration/configuration/ (`<duration>`).
"""

import re

_UNITS = {
    "y": 31_536_000_000,
    "w": 604_800_000,
    "d": 86_400_000,
    "h": 3_600_000,
    "m": 60_000,
    "s": 1_000,
    "ms": 1,
}
_PATTERN = re.compile("".join(rf"(?:(?P<{unit}>[0-9]{{1,9}}){unit})?" for unit in _UNITS))

DURATION_PATTERN = f"^(?=.){''.join(f'([0-9]{{1,9}}{unit})?' for unit in _UNITS)}$"
"""Pattern of a duration for JSON Schema. It does not check the bounds."""

SHORTEST = 0.1
"""Minimum duration in seconds. A shorter one is most likely a mistake."""

LONGEST = (2**63 - 1) / 1e9
"""Maximum duration in seconds. Prometheus and the operating system store nanoseconds in 64 bits."""


def parse_duration(text: str) -> float:
    """Return the seconds of a duration.

    Raises:
        ValueError: the text is not a duration; the message says how to write it.

    """
    seconds = parse_interval(text)
    if seconds < SHORTEST:
        raise ValueError(f"{text!r} is too short (100ms or more)")
    return seconds


def parse_interval(text: str) -> float:
    """Return the seconds of a duration, which may be 0 or shorter than `SHORTEST`.

    Raises:
        ValueError: as for `parse_duration`.

    """
    if text == "0":
        return 0.0
    match = _PATTERN.fullmatch(text)
    if match is None or not text:
        hint = f"{text}s" if text.isascii() and text.isdecimal() else "90s, 5m or 1h30m"
        raise ValueError(f"{text!r} is not a duration (write a number and a unit, such as {hint})")
    seconds = sum(int(count) * _UNITS[unit] for unit, count in match.groupdict(default="0").items()) / 1000
    if seconds > LONGEST:
        raise ValueError(f"{text!r} is too long (292y or less)")
    return seconds


def format_duration(seconds: float) -> str:
    """Return the shortest exact spelling of a duration, as `parse_duration` reads it."""
    rest = round(seconds * 1000)
    parts = []
    for unit, milliseconds in _UNITS.items():
        # Years and weeks are read but not written: a bucket of 168h is easier to compare than one of 1w.
        if unit in {"y", "w"}:
            continue
        count, rest = divmod(rest, milliseconds)
        if count:
            parts.append(f"{count}{unit}")
    return "".join(parts) or "0s"
