"""Decide when to log an outage: when it begins, 5, 15 and 60 minutes later, then hourly, and when it ends.

A provider that keeps failing and recovering would fill the log. So outages with the same underlying problem have at most six
lines an hour: the first two outages are logged at once, a further one after it has lasted 15 minutes.
"""

import math
from collections import deque

from exporter.core.hourly_warnings import HOUR
from exporter.polling.project_health import Outage

LINES = 6
"""Maximum number of lines about one problem in an hour."""
_RESERVED = 2
"""Number of these lines that are reserved for the beginning and end of an outage."""
_EARLY = 10.0
"""Seconds by which a line may be early, because refreshes do not all take equally long."""
_STEPS = (300.0, 900.0)
"""Seconds after the beginning of an outage at which a line is due, before the hourly lines."""


class OutageLog:
    """Decides when to log the outages of one project."""

    def __init__(self) -> None:
        self.failures = 0
        """Failures since the last line."""
        self.logged = False
        """Whether the log has a line about the current outage."""
        self._next = 0.0
        """When the next line is due, in seconds after the beginning of the outage."""
        self._lines: deque[float] = deque()
        """Monotonic times of the lines in the last hour."""
        self._troubles: dict[tuple[str, ...], float] = {}
        """When an outage last began, in monotonic seconds, by `Cause.trouble`."""
        self._again = False
        """Whether the current outage has the same underlying problem as another one in the last hour."""

    def begin(self, outage: Outage, now: float) -> None:
        """Record that an outage begins at `now` (monotonic seconds)."""
        self._prune(now)
        self._again = outage.cause.trouble in self._troubles
        self._troubles[outage.cause.trouble] = now
        self.logged = False
        self._next = 0.0

    def take_line(self, outage: Outage, now: float, warnings: int) -> bool:
        """Return True if the caller must log a line now; `warnings` is the number of warnings in the last hour."""
        self._prune(now)
        age = now - outage.began + _EARLY
        if age < self._next or (self._again and not self._has_room(age, warnings)):
            return False
        self._next = next((step for step in _STEPS if step > age), (math.floor(age / HOUR) + 1) * HOUR)
        self._lines.append(now)
        self.logged = True
        return True

    def take_end(self, now: float) -> bool:
        """Return True if the caller must log the end of the outage, since the log has a line about it."""
        if self.logged:
            self._lines.append(now)
        logged, self.logged = self.logged, False
        return logged

    def warnings_left(self, now: float) -> float:
        """Return how many warnings may be logged, so that enough lines are left for another outage."""
        self._prune(now)
        return max(LINES - _RESERVED - len(self._lines), 0) if self._lines else math.inf

    def _has_room(self, age: float, warnings: int) -> bool:
        lines = len(self._lines) + min(warnings, _RESERVED)
        return lines + _RESERVED <= LINES and (lines < LINES - _RESERVED or age >= _STEPS[-1])

    def _prune(self, now: float) -> None:
        while self._lines and now - self._lines[0] >= HOUR:
            self._lines.popleft()
        self._troubles = {one: began for one, began in self._troubles.items() if now - began < HOUR}
