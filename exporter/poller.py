"""What is due, in which chunks, and what its answers change: one unit of work a call.

`tick` is that unit. It is called by the scheduler and, in tests, by hand; it never starts or waits for itself.
"""

import asyncio
import logging
import math
from collections.abc import Awaitable, Callable, Iterable, Sequence

import msgspec

from exporter.api import Answer, Api, ApiError
from exporter.board import Board
from exporter.clock import Clock
from exporter.config.schema import Poll
from exporter.fault import Fault, Kind
from exporter.providers.base import Provider
from exporter.telemetry import Telemetry

FAILURES = 3
"""Chunks in a row that may fail before the rest of a poll is given up: then it is not the chunk."""

_TOLD = 1000
_EARLY = 0.01
"""How early a refresh may begin, in intervals: a timer by another clock need not hit its moment to the millisecond."""

_log = logging.getLogger("exporter.poller")


class _Outcome(msgspec.Struct):
    """How a poll goes."""

    failed: int = 0
    in_a_row: int = 0
    over: bool = False
    """Whether what is left would meet the same failure."""
    faults: dict[tuple[str, str, str], tuple[int, ApiError]] = {}
    """By operation, code and error code: how often, and the first."""


class Poller:
    """The polls of one project, which never overlap."""

    def __init__(
        self,
        project: str,
        provider: Provider,
        api: Api,
        board: Board,
        poll: Poll,
        *,
        started: float,
        offset: float,
        telemetry: Telemetry,
        clock: Clock,
        publish: Callable[[], Awaitable[None]],
    ) -> None:
        """`started` is when the first tick is due (monotonic); regular refreshes begin `offset` seconds after it."""
        self.project = project
        self._provider = provider
        self._api = api
        self._board = board
        self._poll = poll
        self._started = started
        self.offset = offset
        self._telemetry = telemetry
        self._clock = clock
        self._publish = publish
        self._slot: int | None = None
        self.up = False
        """Whether every request of the last refresh, and of any active poll since, was answered."""
        self._told: set[str] = set()
        self.refreshed = asyncio.Event()
        """Set when the first refresh has ended, well or not."""

    def _present_slot(self) -> int:
        """Which refresh the present moment belongs to: -1 is the first, at the start."""
        since = self._clock.monotonic() - self._started - self.offset
        return max(-1, math.floor((since + _EARLY * self._poll.interval) / self._poll.interval))

    def _due(self) -> tuple[bool, tuple[str, ...]]:
        """Whether a refresh is due, and the ids to ask about now."""
        refresh = self._present_slot() != self._slot
        return refresh, self._board.ids if refresh else self._board.active(self._clock.time())

    async def tick(self) -> None:
        """Refresh all pipelines if that is due, else ask about those whose run is under way."""
        refresh, ids = self._due()
        self._slot = self._present_slot()
        if not ids:
            return
        started = self._clock.monotonic()
        outcome = await self._ask(ids)
        seconds = self._clock.monotonic() - started
        self.up = not outcome.failed and (refresh or self.up)
        self._telemetry.polled(
            self.project,
            self._provider.name,
            up=self.up,
            refresh=refresh,
            seconds=seconds,
            now=self._clock.time(),
        )
        self._tell(outcome)
        _log.debug(
            "%s of %d pipelines took %.2f s",
            "refresh" if refresh else "active poll",
            len(ids),
            seconds,
            extra={"project": self.project},
        )
        self._board.expire(self._clock.monotonic(), self._poll.max_age)
        await self._publish()
        if refresh:
            self.refreshed.set()

    async def _ask(self, ids: Sequence[str]) -> _Outcome:
        size = self._poll.chunk_size
        chunks = iter([ids[start : start + size] for start in range(0, len(ids), size)])
        outcome = _Outcome()
        # Until one chunk was answered the others wait: a wrong key, used four times at once, is soon a locked one.
        for chunk in chunks:
            if await self._ask_chunk(chunk, outcome):
                break
        async with asyncio.TaskGroup() as workers:
            for _ in range(self._poll.concurrency):
                workers.create_task(self._ask_chunks(chunks, outcome))
        return outcome

    async def _ask_chunks(self, chunks: Iterable[Sequence[str]], outcome: _Outcome) -> None:
        for chunk in chunks:
            await self._ask_chunk(chunk, outcome)

    async def _ask_chunk(self, ids: Sequence[str], outcome: _Outcome) -> bool:
        """Ask about some pipelines; says whether they were answered."""
        if outcome.over:
            self._board.failed(ids)
            return False
        try:
            answer = await self._api.send(self._provider.batch(ids))
        except ApiError as error:
            self._board.failed(ids)
            self._note(error, outcome)
            return False
        outcome.in_a_row = 0
        self._apply(ids, answer)
        return True

    def _note(self, error: ApiError, outcome: _Outcome) -> None:
        fault = error.fault
        key = (error.operation, fault.code, fault.error_code)
        count, first = outcome.faults.get(key, (0, error))
        outcome.faults[key] = (count + 1, first)
        outcome.failed += 1
        outcome.in_a_row += 1
        hopeless = fault.kind in {Kind.CREDENTIALS, Kind.PROJECT, Kind.THROTTLED}
        if hopeless or (fault.kind is not Kind.CONTENT and outcome.in_a_row >= FAILURES):
            outcome.over = True

    def _apply(self, ids: Sequence[str], answer: Answer) -> None:
        batch = self._provider.read_batch(answer.body, ids, answer.now)
        self._board.answered(ids, batch.runs, asked=answer.asked, now=answer.now)
        for reason, words in batch.rejected:
            self._telemetry.rejected(self.project, reason)
            self._tell_once(f"a record was rejected ({reason}): {words}")
        for field, word in self._telemetry.unknown_words(self._provider.name, batch.words):
            self._tell_once(f"{word!r} is no known {field}, shown as unknown")
        if batch.misplaced:
            self._tell_once(
                "a stage starts outside its run, so start times of such stages are left out: is stage_time_zone right?",
                f" (first seen at {batch.misplaced})",
            )

    def _tell_once(self, text: str, detail: str = "") -> None:
        if text not in self._told and len(self._told) < _TOLD:
            self._told.add(text)
            _log.warning("%s%s", text, detail, extra={"project": self.project})

    def _tell(self, outcome: _Outcome) -> None:
        for count, error in outcome.faults.values():
            fault: Fault = error.fault
            _log.warning(
                "poll failed%s: %s",
                f" in {count} chunks" if count > 1 else "",
                fault.message,
                extra={
                    "project": self.project,
                    "operation": error.operation,
                    "code": fault.code,
                    "error_code": fault.error_code,
                    "request_id": fault.request_id,
                },
            )

    def skip(self) -> None:
        """A tick was due while the one before still ran: count it, if it would have asked anything."""
        _, ids = self._due()
        if ids:
            self._telemetry.skipped(self.project)
            _log.warning("a poll was due while the one before still ran", extra={"project": self.project})

    async def close(self) -> None:
        """Close the connections to the cloud."""
        await self._api.close()
