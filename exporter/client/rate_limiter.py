"""Token bucket for the requests of one project.

Libraries for rate limits do not accept an injected clock, which the tests need.
"""

import asyncio

from exporter.core.clock import Clock


class RateLimiter:
    """Allows `rate` requests a second on average and `burst` at once, first come, first served."""

    def __init__(self, rate: float, burst: int, clock: Clock) -> None:
        self._rate = rate
        self._burst = float(burst)
        self._clock = clock
        self._tokens = float(burst)
        self._updated = clock.monotonic()
        self._queue = asyncio.Lock()

    async def acquire(self) -> None:
        """Wait until one more request may be sent."""
        # Waiting while holding the lock keeps the order of arrival.
        async with self._queue:
            while (wait := self._refill()) > 0:
                await self._clock.sleep(wait)
            self._tokens -= 1

    def _refill(self) -> float:
        """Add the tokens since the last call; return the seconds until one is available."""
        now = self._clock.monotonic()
        self._tokens = min(self._burst, self._tokens + (now - self._updated) * self._rate)
        self._updated = now
        wait = (1 - self._tokens) / self._rate
        # A sleep may end slightly early. A wait below the clock's resolution would loop without end.
        return wait if now + wait > now else 0.0
