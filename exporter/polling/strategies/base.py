"""What any way to ask for the latest runs of pipelines has in common: chunks under way at once, and what is refused."""

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from typing import Protocol

from exporter.client.api_client import Api, ApiError
from exporter.core.clock import Clock
from exporter.core.failures import Kind
from exporter.polling.reporter import Outcome, Report
from exporter.polling.strategies.chunking import Batches, Plan
from exporter.tracking.project import Board


class Watcher(Protocol):
    """Whoever watches an inquiry go on."""

    def asked(self, pipelines: int) -> None:
        """So many more pipelines were asked about."""

    @property
    def impatient(self) -> bool:
        """Whether what was learnt so far is to be shown before the inquiry goes on."""

    async def show(self) -> None:
        """Show what was learnt so far; nothing is under way meanwhile."""


class Inquiry(ABC):
    """Asks a cloud for the latest runs of the pipelines of one project, and tells the board."""

    refusals = frozenset({Kind.CONTENT})
    """Faults that may speak of the pipelines that were asked about."""

    def __init__(
        self,
        api: Api,
        board: Board,
        report: Report,
        clock: Clock,
        watcher: Watcher,
        *,
        chunk_size: int,
        concurrency: int,
    ) -> None:
        self._api = api
        self._board = board
        self._report = report
        self._clock = clock
        self._watcher = watcher
        self._concurrency = concurrency
        self._batches = Batches(chunk_size)

    def refused(self, ids: Iterable[str]) -> int:
        """How many of these pipelines the cloud refuses."""
        return sum(identity in self._batches.refusals for identity in ids)

    @abstractmethod
    async def ask(self, ids: Sequence[str], outcome: Outcome, *, refresh: bool) -> int:
        """Find out how pipelines are: all that are due in a `refresh`, else those whose run is under way.

        Returns how many were asked about one by one or in batches.
        """

    @abstractmethod
    async def _ask_chunk(self, ids: Sequence[str]) -> frozenset[str]:
        """Ask about a chunk of pipelines, and tell the board what is answered.

        Returns the ids of which the answer leaves open whether it says anything.

        Raises:
            ApiError: there was no answer.

        """

    async def _ask_all(
        self, ids: Sequence[str], outcome: Outcome, *, refresh: bool, trusted: bool = False
    ) -> Plan:
        """Ask about every one of these pipelines; `trusted`: the cloud has answered about the project just now."""
        plan = self._batches.poll(ids, self._clock.monotonic(), trusted=trusted, refresh=refresh)
        async with asyncio.TaskGroup() as group:
            under_way: set[asyncio.Task[None]] = set()
            while True:
                if not under_way and self._watcher.impatient:
                    await self._watcher.show()
                while (
                    len(under_way) < self._concurrency
                    and not outcome.over
                    and not self._watcher.impatient
                    and (chunk := plan.next())
                ):
                    under_way.add(group.create_task(self._follow(chunk, plan, outcome)))
                if not under_way:
                    break
                _, under_way = await asyncio.wait(under_way, return_when=asyncio.FIRST_COMPLETED)
        # Of the few ids of an active poll one that is refused proves nothing: the next refresh tells.
        if plan.unasked and not outcome.failed and refresh:
            # The project refuses whatever it is asked, or more than may be found out in one poll.
            for error in list(outcome.refusals.values())[-1:]:
                outcome.note(error)
            outcome.failed += 1
        self._board.failed((*plan.unasked, *plan.refused_ids, *plan.skipped))
        for identity in plan.refused_ids:
            if self._batches.refusals[identity].unreadable:
                self._report.unreadable(identity)
            else:
                self._report.warn(
                    f"pipeline {identity} is refused, and asked about rarely from now on",
                    outcome.refusals[identity],
                )
        return plan

    async def _follow(self, ids: Sequence[str], plan: Plan, outcome: Outcome) -> None:
        """Ask about a chunk, and tell the plan what became of it."""
        try:
            unclear = await self._ask_chunk(ids)
        except ApiError as error:
            code = error.fault.error_code or error.fault.code
            refused = error.fault.kind in self.refusals
            if refused:
                plan.refused(ids, code)
            elif error.fault.kind is Kind.UNREADABLE:
                refused = plan.unreadable(ids, code)
            else:
                plan.failed(ids)
            if len(ids) == 1 or not refused:
                self._watcher.asked(len(ids))
                self._board.failed(ids)
            if refused:
                outcome.refusals |= dict.fromkeys(ids, error)
            else:
                outcome.note(error)
            return
        self._watcher.asked(len(ids))
        outcome.in_a_row = 0
        self._board.failed(unclear)
        plan.accepted(ids, unclear)
