"""Times and durations as text for people."""

import math
from datetime import UTC, datetime
from itertools import pairwise

_UNITS = ((86400, "d"), (3600, "h"), (60, "m"), (1, "s"))
_EXACT = 3600
"""Seconds of the smallest unit that is shown with the next one."""


def duration(seconds: float) -> str:
    """Return a duration in its largest unit, from an hour on in its two largest units."""
    if not math.isfinite(seconds):
        return "unknown"
    rest = int(seconds)
    for (size, unit), (smaller, next_unit) in pairwise(_UNITS):
        if rest >= size:
            exact = f" {rest % size // smaller}{next_unit}" if size >= _EXACT else ""
            return f"{rest // size}{unit}{exact}"
    return f"{rest}s"


def age(at: float, now: float) -> str:
    """Return the time from `at` to `now` as a duration; zero for one in the future."""
    return duration(max(now - at, 0.0))


def moment(at: float) -> datetime | None:
    """Return a time in UTC; None for one that a calendar does not have."""
    try:
        return datetime.fromtimestamp(at, UTC)
    except (ValueError, OverflowError, OSError):
        return None


def machine_time(at: float) -> str:
    """Return a time in UTC as RFC 3339 has it; empty for one that a calendar does not have."""
    found = moment(at)
    return found.isoformat(timespec="seconds").replace("+00:00", "Z") if found is not None else ""


def clock_time(at: float, now: float) -> str:
    """Return a time as the hour and minute in UTC, with the day unless it is that of `now`."""
    found, today = moment(at), moment(now)
    if found is None:
        return "unknown"
    same_day = today is not None and found.date() == today.date()
    return f"{found:%H:%M}" if same_day else f"{found:%Y-%m-%d %H:%M}"
