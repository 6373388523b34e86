"""Liveness: whether the scheduler fires and the polls of every project make progress.

Failed requests count as progress, since they end. A poll that waits forever is unhealthy. A stalled event loop needs no
check, since it does not respond to health requests.
"""

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from exporter.core.clock import Clock

_INTERVALS = 10
"""Number of poll intervals that may pass without progress."""
_MIN_LIMIT = 600.0
"""Seconds that may pass without progress, however short the poll interval is."""

_log = logging.getLogger("exporter.core.health")


class Activity:
    """Progress of the polls and requests of one project."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._fired = clock.monotonic()
        """When the scheduler last started or skipped a poll, in monotonic seconds."""
        self._due = False
        self._progress = self._fired
        """When a poll or request last began, ended or was blocked (monotonic seconds), plus the waiting time since then."""
        self._requests: list[float] = []
        """Start of each request in flight in monotonic seconds, oldest first."""
        self._waits = 0
        """Number of requests that are waiting to be sent."""
        self._withheld_since = 0.0

    def fired(self) -> None:
        """Record that the scheduler fired, even if it skipped a poll because the previous one is still running."""
        self._fired = self._clock.monotonic()

    @contextmanager
    def poll(self) -> Iterator[None]:
        """Track a poll. Progress is due while it runs."""
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
        """Track a request in flight, from the first byte sent to the last byte received."""
        began = self._progress = self._clock.monotonic()
        self._requests.append(began)
        try:
            yield
        finally:
            self._requests.remove(began)
            self._progress = self._clock.monotonic()

    @contextmanager
    def withheld(self) -> Iterator[None]:
        """Track a wait for the rate limiter, throttling or a usable credential. It does not count as lack of progress."""
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
        """Return what has made no progress for more than `limit` seconds; empty if nothing is stuck."""
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
        """Replace the projects to watch. They are polled every `interval` seconds."""
        self._projects = projects
        self._limit = max(_INTERVALS * interval, _MIN_LIMIT)

    def problem(self) -> str:
        """Return a line for each project whose polls are stuck; empty if healthy. Log the change to unhealthy."""
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
