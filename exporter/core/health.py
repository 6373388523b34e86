"""Liveness: whether the scheduler fires and the polls of every project make progress.

Failed requests are progress too, since they end. Unhealthy is a poll that waits forever. A stalled event loop needs no
check, since it does not answer health requests either.
"""

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from exporter.core.clock import Clock

_INTERVALS = 10
"""Poll intervals without progress that are allowed."""
_MIN_LIMIT = 600.0
"""Seconds without progress that are allowed at any poll interval."""

_log = logging.getLogger("exporter.core.health")


class Activity:
    """Progress of the polls and requests of one project."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._fired = clock.monotonic()
        """When the scheduler last started or skipped a poll."""
        self._due = False
        self._progress = self._fired
        """When a poll or request last began, ended or was blocked, plus the time that requests had to wait since then."""
        self._requests: list[float] = []
        """Start of each request in flight, the oldest first."""
        self._waits = 0
        """Number of requests that wait for permission to be sent."""
        self._withheld_since = 0.0

    def fired(self) -> None:
        """Record that the scheduler fired, whether a poll began or the last one is still running."""
        self._fired = self._clock.monotonic()

    @contextmanager
    def poll(self) -> Iterator[None]:
        """Measure a poll. After it nothing is due until the next one."""
        unfinished, before = self._due, self._progress
        if not unfinished:
            self._progress = self._clock.monotonic()
        self._due = True
        yield
        # Not in `finally`: after a poll that raised, work stays due until a later poll makes progress.
        self._due = unfinished and self._progress == before

    def blocked(self) -> None:
        """Record that a request was not sent because of throttling or a lack of usable credentials."""
        self._progress = self._clock.monotonic()

    @contextmanager
    def request(self) -> Iterator[None]:
        """Measure a request, from the first byte sent to the last byte received."""
        began = self._progress = self._clock.monotonic()
        self._requests.append(began)
        try:
            yield
        finally:
            self._requests.remove(began)
            self._progress = self._clock.monotonic()

    @contextmanager
    def withheld(self) -> Iterator[None]:
        """Measure a wait before a request: for the rate limiter, throttling or a usable credential."""
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
        """Describe what made no progress for more than `limit` seconds. Return an empty string if nothing is stuck."""
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
    """Health of the process: all projects together."""

    def __init__(self, projects: Mapping[str, Activity], interval: float) -> None:
        """`interval` is the poll interval in seconds."""
        self._healthy = True
        self.watch(projects, interval)

    def watch(self, projects: Mapping[str, Activity], interval: float) -> None:
        """Watch these projects from now on, polled every `interval` seconds."""
        self._projects = projects
        self._limit = max(_INTERVALS * interval, _MIN_LIMIT)

    def problem(self) -> str:
        """Return one line for each project whose polls are stuck. Empty means healthy."""
        problems = {
            name: problem
            for name, activity in self._projects.items()
            if (problem := activity.problem(self._limit))
        }
        if problems and self._healthy:
            for name, problem in problems.items():
                _log.error("polls are stuck", extra={"id": "polls-stuck", "project": name, "reason": problem})
        self._healthy = not problems
        return "".join(f"project {name}: {problem}\n" for name, problem in problems.items())
