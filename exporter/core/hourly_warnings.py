"""Rate-limited warnings of one project: held until a refresh ends, then logged at most once an hour.

Only the end of a refresh shows whether the project is down. Then the log lines of the outage replace the warnings that it
caused.
"""

import math
from collections.abc import Callable

import msgspec

from exporter.core.clock import Clock

HOUR = 3600.0
_KINDS = 100
"""Maximum number of kinds to distinguish. Beyond it, warnings with the same slug count as one kind."""

Kind = tuple[str, ...]
"""The slug of a warning, then the values by which warnings with this slug are counted separately."""
Log = Callable[[int], None]
"""Function that logs a warning, given its number of occurrences."""


class _Warning(msgspec.Struct):
    """Pending occurrences of one kind of warning."""

    logged_at: float = -math.inf
    """When it was last logged, in monotonic seconds."""
    log: Log | None = None
    """Logs the first occurrence since `logged_at`; None if there was no occurrence."""
    count: int = 0
    """Number of occurrences since `logged_at`."""
    of_outage: bool = True
    """Whether to drop it if the project is down, because the log lines of the outage cover it."""


class HourlyWarnings:
    """Collects the warnings of one project, and logs each kind at most once an hour with its count."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._kinds: dict[Kind, _Warning] = {}

    def add(self, kind: Kind, log: Log, count: int = 1, *, of_outage: bool = True) -> None:
        """Hold a warning until a `flush`. With `of_outage`, drop it if the project is down by then."""
        if kind not in self._kinds and len(self._kinds) >= _KINDS:
            kind = kind[:1]
        held = self._kinds.setdefault(kind, _Warning())
        if held.log is None:
            held.log = log
            held.of_outage = of_outage
        held.count += count

    def log_now(self, kind: Kind, log: Log) -> None:
        """Log a warning without waiting for the end of the refresh, unless its kind was logged within the hour."""
        self.add(kind, log)
        held = self._kinds.get(kind)
        if held is not None and self._clock.monotonic() - held.logged_at >= HOUR:
            self._log(held)

    def _log(self, held: _Warning) -> None:
        log, count = held.log, held.count
        held.logged_at, held.log, held.count = self._clock.monotonic(), None, 0
        if log is not None:
            log(count)

    def flush(self, most: float = math.inf) -> None:
        """Log at most `most` kinds that have not been logged within the hour, least recently logged first."""
        now = self._clock.monotonic()
        waiting = {kind: held for kind, held in self._kinds.items() if now - held.logged_at >= HOUR}
        due = sorted((one for one in waiting.values() if one.log), key=lambda held: held.logged_at)
        for kind, held in waiting.items():
            if held.log is None:
                del self._kinds[kind]
        for held in due[: None if most == math.inf else int(most)]:
            self._log(held)

    def take(self) -> int:
        """Drop the held warnings that an outage explains. Return their number of occurrences."""
        taken = 0
        for held in self._kinds.values():
            if held.log is not None and held.of_outage:
                taken += held.count
                held.log, held.count = None, 0
        return taken

    @property
    def recent(self) -> int:
        """Number of warnings logged in the last hour."""
        now = self._clock.monotonic()
        return sum(now - held.logged_at < HOUR for held in self._kinds.values())
