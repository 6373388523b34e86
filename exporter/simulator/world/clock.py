"""A clock that runs faster than real time, for days of simulated runs within minutes."""

import time


class AcceleratedClock:
    """A clock that shows `start` (Unix seconds) when it is created, and then runs `factor` times as fast as real time."""

    def __init__(self, factor: float, start: float) -> None:
        self._factor = factor
        self._start = start
        self._created_at = time.monotonic()

    def __call__(self) -> float:
        """Return the time, in Unix seconds."""
        return self._start + self._factor * (time.monotonic() - self._created_at)
