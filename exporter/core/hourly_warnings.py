"""Warnings of one project that are held until a refresh has ended, and then logged at most once an hour.

Whether failures belong to an outage is known at the end of a refresh. Those of an outage are part of its own lines.
"""

import math
from collections.abc import Callable

import msgspec

from exporter.core.clock import Clock

HOUR = 3600.0
_KINDS = 100
"""Most kinds that are distinguished; further ones count as one for each message."""

Kind = tuple[str, ...]
"""The slug of a warning, then what distinguishes its kinds."""
Log = Callable[[int], None]
"""Logs a warning that has occurred so many times."""


class _Warning(msgspec.Struct):
    """What is held of one kind of warning."""

    logged_at: float = -math.inf
    """When it was last logged, in seconds of the monotonic clock."""
    log: Log | None = None
    """Logs the first occurrence since then; None if there was no occurrence."""
    count: int = 0
    """Number of occurrences since then."""
    of_outage: bool = True
    """Whether it is dropped if the project goes down: the outage has lines of its own."""


class HourlyWarnings:
    """Holds the warnings of one project, and logs each kind once an hour with its count."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._kinds: dict[Kind, _Warning] = {}

    def add(self, kind: Kind, log: Log, count: int = 1, *, of_outage: bool = True) -> None:
        """Hold a warning; without `of_outage` it is logged even if the project is down meanwhile, but later."""
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
        """Log the kinds that are due, at most so many, those logged longest ago first."""
        now = self._clock.monotonic()
        waiting = {kind: held for kind, held in self._kinds.items() if now - held.logged_at >= HOUR}
        due = sorted((one for one in waiting.values() if one.log), key=lambda held: held.logged_at)
        for kind, held in waiting.items():
            if held.log is None:
                del self._kinds[kind]
        for held in due[: None if most == math.inf else int(most)]:
            self._log(held)

    def take(self) -> int:
        """Forget the held warnings that an outage explains; return how many these were."""
        taken = 0
        for held in self._kinds.values():
            if held.log is not None and held.of_outage:
                taken += held.count
                held.log, held.count = None, 0
        return taken

    @property
    def recent(self) -> int:
        """Lines logged in the last hour."""
        now = self._clock.monotonic()
        return sum(now - held.logged_at < HOUR for held in self._kinds.values())
