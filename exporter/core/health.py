"""Liveness: whether the scheduler fires, and whether every project's polls make progress.

A provider that fails is progress: its requests end. What must not happen is a poll that waits for something that never
comes. A stalled event loop needs no check here, since it answers no health request either.
"""

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from exporter.core.clock import Clock

_INTERVALS = 10
"""Poll intervals without progress after which a project is stuck."""
_AT_LEAST = 600.0
"""Seconds without progress that are always allowed."""

_log = logging.getLogger("exporter.core.health")


class Activity:
    """Progress of one project: when its polls were due, and when its requests began and ended."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._fired = clock.monotonic()
        """When the scheduler last called for a poll."""
        self._due = False
        self._progress = self._fired
        """When the poll or a request last began or ended, or was blocked; plus the time withheld since then."""
        self._requests: list[float] = []
        """When each request in flight began, the oldest first."""
        self._waits = 0
        """How many requests wait until they may be sent."""
        self._withheld_since = 0.0

    def fired(self) -> None:
        """Record that the scheduler called for a poll, whether it began or the one before still ran."""
        self._fired = self._clock.monotonic()

    @contextmanager
    def poll(self) -> Iterator[None]:
        """Enclose a poll. After it nothing is due until the next one."""
        broke_off, before = self._due, self._progress
        if not broke_off:
            self._progress = self._clock.monotonic()
        self._due = True
        yield
        # What a poll that broke off has left is due until a later one makes progress.
        self._due = broke_off and self._progress == before

    def blocked(self) -> None:
        """Record that a request was not sent, since throttling or a lack of credentials forbids it."""
        self._progress = self._clock.monotonic()

    @contextmanager
    def request(self) -> Iterator[None]:
        """Enclose a request, from the first byte sent to the last byte received."""
        began = self._progress = self._clock.monotonic()
        self._requests.append(began)
        try:
            yield
        finally:
            self._requests.remove(began)
            self._progress = self._clock.monotonic()

    @contextmanager
    def withheld(self) -> Iterator[None]:
        """Enclose a wait until a request may be sent: for the budget, throttling or a usable credential."""
        if not self._waits:
            self._withheld_since = self._clock.monotonic()
        self._waits += 1
        try:
            yield
        finally:
            self._waits -= 1
            if not self._waits:
                self._progress += self._clock.monotonic() - max(self._withheld_since, self._progress)

    def problem(self, limit: float) -> str:
        """Return what has made no progress for more than `limit` seconds, or an empty string."""
        now = self._clock.monotonic()
        if self._requests and (seconds := now - self._requests[0]) > limit:
            return f"a request has been running for {seconds:.0f} s"
        until = self._withheld_since if self._waits else now
        if self._due and (seconds := until - self._progress) > limit:
            return f"a poll is due, but no request began or ended for {seconds:.0f} s"
        if (seconds := now - self._fired) > limit:
            return f"the scheduler has not called for a poll for {seconds:.0f} s"
        return ""


class Health:
    """Health of the process: that of all projects together."""

    def __init__(self, projects: Mapping[str, Activity], interval: float) -> None:
        """`interval` is that of the polls, in seconds."""
        self._projects = projects
        self._limit = max(_INTERVALS * interval, _AT_LEAST)
        self._healthy = True

    def problem(self) -> str:
        """Return why the process is unhealthy, a line for each project that is stuck; empty if it is healthy."""
        problems = {
            name: problem
            for name, activity in self._projects.items()
            if (problem := activity.problem(self._limit))
        }
        if problems and self._healthy:
            for name, problem in problems.items():
                _log.error("polls are stuck", extra={"project": name, "reason": problem})
        self._healthy = not problems
        return "".join(f"project {name}: {problem}\n" for name, problem in problems.items())
