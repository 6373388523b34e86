"""When the refreshes and ticks of a project are due. Both keep to fixed times, so they do not drift."""

import math

from exporter.core.clock import Clock
from exporter.settings.settings import Poll

_EARLY = 0.01
"""How early a refresh may start, as a share of the interval: a timer may fire some milliseconds early."""


class PollSchedule:
    """The due times of one project. The first refresh is due at the start, regular ones begin later."""

    def __init__(self, poll: Poll, clock: Clock, *, started: float, offset: float) -> None:
        """`started` is when the first tick is due (monotonic); regular refreshes begin `offset` seconds after it."""
        self._started = started
        self.offset = offset
        self.tolerance = _EARLY * poll.interval
        """Seconds by which a refresh may start early."""
        self._interval = poll.interval
        self._period = min(poll.active_interval, poll.interval)
        self._clock = clock
        self._last: int | None = None
        """Index of the refresh that was last begun; None before the first."""

    def _present(self) -> int:
        """Return the index of the last refresh that is due by now; -1 is the first one, at the start."""
        since = self._clock.monotonic() - self._started - self.offset
        return max(-1, math.floor((since + self.tolerance) / self._interval))

    @property
    def refresh_due(self) -> bool:
        """True if a refresh is due that was not begun."""
        return self._present() != self._last

    def begin(self) -> None:
        """Note that what is due begins."""
        self._last = self._present()

    @property
    def next_refresh(self) -> float:
        """When the next refresh is due, in Unix seconds. It is in the past while polls are late."""
        since = 0.0 if self._last is None else self.offset + (self._last + 1) * self._interval
        return self._clock.time() + self._started + since - self._clock.monotonic()

    @property
    def next_tick(self) -> float:
        """When the next tick may be due, in monotonic seconds."""
        since = self._clock.monotonic() - self._started
        return self._started + (math.floor(since / self._period) + 1) * self._period
