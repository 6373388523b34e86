"""Token bucket for the requests of one project.

Libraries for rate limits do not accept an injected clock, which the tests need.
"""

import asyncio
import math
from collections import deque

from exporter.core.clock import Clock

_MINUTE = 60


class RateLimiter:
    """Allows `rate` requests a second on average and `burst` at once, first come, first served."""

    def __init__(self, rate: float, burst: int, clock: Clock) -> None:
        self._rate = rate
        self._burst = float(burst)
        self._clock = clock
        self._tokens = float(burst)
        self._updated = clock.monotonic()
        self._queue = asyncio.Lock()
        self._seconds: deque[list[int]] = deque()
        """Requests of the last minute: pairs of a monotonic second and its number of requests."""

    async def acquire(self) -> None:
        """Wait until one more request may be sent."""
        # Waiting while holding the lock keeps the order of arrival.
        async with self._queue:
            while (wait := self._refill()) > 0:
                await self._clock.sleep(wait)
            self._tokens -= 1
            self._note(math.floor(self._updated))

    @property
    def per_minute(self) -> int:
        """Requests that may be sent in a minute on average."""
        return round(self._rate * _MINUTE)

    @property
    def burst(self) -> int:
        """Requests that may be sent at once after a pause."""
        return int(self._burst)

    @property
    def left(self) -> int:
        """Requests that may be sent at once now."""
        self._refill()
        return max(0, math.floor(self._tokens))

    @property
    def last_minute(self) -> int:
        """Number of requests in the last minute."""
        self._forget(math.floor(self._clock.monotonic()))
        return sum(count for _, count in self._seconds)

    def _note(self, second: int) -> None:
        if self._seconds and self._seconds[-1][0] == second:
            self._seconds[-1][1] += 1
            return
        self._forget(second)
        self._seconds.append([second, 1])

    def _forget(self, second: int) -> None:
        while self._seconds and self._seconds[0][0] <= second - _MINUTE:
            self._seconds.popleft()

    def _refill(self) -> float:
        """Add the tokens accrued since the last call. Return the seconds until one is available; zero or less if one is."""
        now = self._clock.monotonic()
        self._tokens = min(self._burst, self._tokens + (now - self._updated) * self._rate)
        self._updated = now
        wait = (1 - self._tokens) / self._rate
        # A sleep may end slightly early. A wait below the clock's resolution would loop without end.
        return wait if now + wait > now else 0.0
