"""Time as an argument: the system's clocks, and the shape that a test's clock takes."""

import asyncio
import time
from typing import Protocol


class Clock(Protocol):
    """What tells the time and waits."""

    def time(self) -> float:
        """Epoch seconds; may step."""

    def monotonic(self) -> float:
        """Seconds that never step, from anywhere."""

    async def sleep(self, seconds: float) -> None:
        """Wait, by the monotonic clock."""


class SystemClock:
    """The machine's own clocks."""

    def time(self) -> float:
        """Epoch seconds."""
        return time.time()

    def monotonic(self) -> float:
        """Seconds since some start of the machine's."""
        return time.monotonic()

    async def sleep(self, seconds: float) -> None:
        """Wait on the event loop."""
        await asyncio.sleep(seconds)
