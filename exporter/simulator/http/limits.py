"""What the gateway counts: requests in a window, and wrong secrets in a row.

Both by the time they are told, so that a test can let a window or a lock pass without waiting for it.
"""

from collections import deque

from exporter.simulator.codearts.switches import CodeArtsSwitches


class Throttle:
    """A sliding window over the moments of all requests, those turned away included."""

    def __init__(self) -> None:
        self._moments: deque[float] = deque()

    def wait(self, limit: int, seconds: float, now: float) -> float | None:
        """Count a request at `now`; None if it may pass, else the seconds after which one would, if none came."""
        moments = self._moments
        while moments and moments[0] <= now - seconds:
            moments.popleft()
        full = len(moments) >= limit
        moments.append(now)
        return moments[len(moments) - max(limit, 1)] + seconds - now if full else None


class Locks:
    """Who has given too many wrong secrets in a row, as `lock_after` and `lock_seconds` of the switches say."""

    def __init__(self, switches: CodeArtsSwitches) -> None:
        self._switches = switches
        self._wrong: dict[str, int] = {}
        self._until: dict[str, float] = {}

    def locked(self, who: str, now: float) -> bool:
        """Tell whether `who` is refused at `now` whatever is said."""
        return self._switches.lock_after is not None and now < self._until.get(who, now)

    def note(self, who: str, *, wrong: bool, now: float) -> None:
        """Count a wrong secret of `who`, or forget the earlier ones because of a right one."""
        most = self._switches.lock_after
        count = self._wrong.get(who, 0) + 1 if wrong and most is not None else 0
        if most is not None and count >= most:
            self._until[who] = now + self._switches.lock_seconds
            count = 0
        self._wrong[who] = count
