"""Clock that runs faster than real time, so that days of simulated runs take minutes."""

import time


class AcceleratedClock:
    """Clock that starts at `start` (Unix seconds) and runs `factor` times as fast as real time."""

    def __init__(self, factor: float, start: float) -> None:
        self._factor = factor
        self._start = start
        self._created_at = time.monotonic()

    def __call__(self) -> float:
        """Return the simulated time, in Unix seconds."""
        return self._start + self._factor * (time.monotonic() - self._created_at)
