"""The request budget of a project: a token bucket that everything sent to its cloud goes through.

Ours, since rate-limit libraries know no injected clock.
"""

import asyncio

from exporter.core.clock import Clock


class RateLimiter:
    """At most `rate` requests a second in the long run, `burst` at once; first come, first served."""

    def __init__(self, rate: float, burst: int, clock: Clock) -> None:
        self._rate = rate
        self._burst = float(burst)
        self._clock = clock
        self._tokens = float(burst)
        self._at = clock.monotonic()
        self._turn = asyncio.Lock()

    async def acquire(self) -> None:
        """Wait until one more request may be sent."""
        # The lock keeps the queue in order: whoever waits for a token holds it.
        async with self._turn:
            while (wait := self._wait()) > 0:
                await self._clock.sleep(wait)
            self._tokens -= 1

    def _wait(self) -> float:
        now = self._clock.monotonic()
        self._tokens = min(self._burst, self._tokens + (now - self._at) * self._rate)
        self._at = now
        wait = (1 - self._tokens) / self._rate
        # A sleep can end a hair early; a wait below the clock's grain would spin.
        return wait if now + wait > now else 0.0
