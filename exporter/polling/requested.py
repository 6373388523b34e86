"""Polls of single pipelines that a client requested: when they are due, and until when they are repeated."""

import asyncio
import math
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence

from exporter.core.clock import Clock

DELAYS = (0.0, 1.0, 5.0, 15.0)
"""Seconds from a call to each of its polls. Those after the first are left out once the run has ended."""

CALL_INTERVAL = 1.0
"""Seconds within which a second call for the same pipeline is rejected."""


class RequestedPolls:
    """Pending requested polls of one project. A task sends them until none is left."""

    def __init__(self, clock: Clock, send: Callable[[], Awaitable[None]]) -> None:
        """`send` sends the polls that are due."""
        self._clock = clock
        self._send = send
        self._polls: dict[str, list[tuple[float, float]]] = {}
        """Times of polls by pipeline, each with the time of its call; monotonic seconds."""
        self._called: dict[str, float] = {}
        """Time of the last call for each pipeline, in monotonic seconds; only recent calls."""
        self._changed = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def request(self, pipeline_id: str) -> bool:
        """Request the polls of a call made now; return False if the last call for the pipeline is too recent."""
        now = self._clock.monotonic()
        self._called = {one: at for one, at in self._called.items() if now - at < CALL_INTERVAL}
        if pipeline_id in self._called:
            return False
        self._called[pipeline_id] = now
        self._polls.setdefault(pipeline_id, []).extend((now + delay, now) for delay in DELAYS)
        self._changed.set()
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._run())
        return True

    @property
    def waiting(self) -> Mapping[str, Sequence[tuple[float, float]]]:
        """The polls that are still to come, for `resume`."""
        return self._polls

    def resume(self, waiting: Mapping[str, Sequence[tuple[float, float]]]) -> None:
        """Take over the polls that another poller of the project still had to send when it ended."""
        self._polls = {pipeline_id: list(polls) for pipeline_id, polls in waiting.items()}
        if self._polls:
            self._task = asyncio.create_task(self._run())

    async def _run(self) -> None:
        while (due := self.next) < math.inf:
            self._changed.clear()
            if (seconds := due - self._clock.monotonic()) > 0:
                await self._wait(seconds)
            else:
                await self._send()

    async def _wait(self, seconds: float) -> None:
        """Wait some seconds, or until another poll is requested."""
        waits = [
            asyncio.ensure_future(self._clock.sleep(seconds)),
            asyncio.ensure_future(self._changed.wait()),
        ]
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()

    async def close(self) -> None:
        """Send no more polls."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])

    @property
    def next(self) -> float:
        """When the next poll is due, in monotonic seconds; infinite if none is requested."""
        return min((due for polls in self._polls.values() for due, _ in polls), default=math.inf)

    @property
    def due(self) -> bool:
        """True if a poll is due now."""
        return self.next <= self._clock.monotonic()

    def take(self) -> tuple[str, ...]:
        """Return the pipelines to poll now; one poll serves every call that is due."""
        now = self._clock.monotonic()
        ids = tuple(one for one, polls in self._polls.items() if any(due <= now for due, _ in polls))
        for one in ids:
            self._replace(one, [poll for poll in self._polls[one] if poll[0] > now])
        return ids

    def ended(self, ids: Iterable[str], sent_at: float) -> None:
        """Drop the polls of pipelines whose run had ended when they were queried at `sent_at` (monotonic seconds)."""
        for one in ids:
            self._replace(one, [poll for poll in self._polls.get(one, ()) if poll[1] > sent_at])

    def _replace(self, pipeline_id: str, polls: list[tuple[float, float]]) -> None:
        if polls:
            self._polls[pipeline_id] = polls
        else:
            self._polls.pop(pipeline_id, None)
