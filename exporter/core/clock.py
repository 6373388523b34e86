"""Clock protocol, the system's clocks, and detection of wall clock steps."""

import asyncio
import logging
import time
from datetime import UTC, datetime, timedelta, tzinfo
from typing import Protocol

_SAMPLE = 1.0
"""Seconds between two comparisons of the wall clock with the monotonic clock."""
_STEP = 1.0
"""Seconds that the wall clock must jump between two samples to count as a step."""

_log = logging.getLogger("exporter.core.clock")


class Clock(Protocol):
    """Source of time."""

    def time(self) -> float:
        """Return the wall clock time in Unix seconds. It may step."""

    def monotonic(self) -> float:
        """Return the monotonic time in seconds since an arbitrary start. It never steps."""

    async def sleep(self, seconds: float) -> None:
        """Wait for `seconds`, measured with the monotonic clock."""


class SystemClock:
    """Wall clock and monotonic clock of this machine."""

    def time(self) -> float:
        """Return the wall clock time in Unix seconds."""
        return time.time()

    def monotonic(self) -> float:
        """Return the monotonic time in seconds since an arbitrary start."""
        return time.monotonic()

    async def sleep(self, seconds: float) -> None:
        """Wait for `seconds` on the event loop."""
        await asyncio.sleep(seconds)


class MonotonicZone(tzinfo):
    """Time zone in which `datetime.now` returns the monotonic time, counted from 1970.

    APScheduler reads the time only by `datetime.now(timezone)`, which leaves the conversion to the time zone. With the
    wall clock, a step back would delay every poll until the clock has caught up. Datetimes of other zones cannot be
    converted to this one.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock

    def fromutc(self, _: datetime) -> datetime:
        """Return the monotonic time, regardless of the wall clock."""
        return datetime.fromtimestamp(self._clock.monotonic(), UTC).replace(tzinfo=self)

    def utcoffset(self, _: datetime | None) -> timedelta:
        """Return zero, so that differences are seconds of the monotonic clock."""
        return timedelta(0)

    def dst(self, _: datetime | None) -> timedelta:
        """Return zero."""
        return timedelta(0)

    def tzname(self, _: datetime | None) -> str:
        """Return the name that APScheduler prints."""
        return "monotonic"


async def watch(clock: Clock) -> None:
    """Log every step of the wall clock until cancelled. Drift and slewing are too slow to count as steps."""
    offset = clock.time() - clock.monotonic()
    while True:
        await clock.sleep(_SAMPLE)
        before, offset = offset, clock.time() - clock.monotonic()
        if abs(offset - before) > _STEP:
            _log.warning(
                "wall clock stepped",
                extra={"id": "wall-clock-stepped", "seconds": round(offset - before)},
            )
