"""What any way to ask for the latest runs of pipelines has in common: chunks under way at once, and what is refused."""

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from typing import Protocol

from exporter.client.api_client import ApiClient, ApiError
from exporter.core.clock import Clock
from exporter.core.failures import FailureKind
from exporter.polling.reporter import PollOutcome, PollReporter
from exporter.polling.strategies.chunking import ChunkPlan, ChunkSizer
from exporter.tracking.project import ProjectTracker


class PollObserver(Protocol):
    """Whoever watches an inquiry go on."""

    def asked(self, pipelines: int) -> None:
        """So many more pipelines were asked about."""

    @property
    def wants_publication(self) -> bool:
        """Whether what was learnt so far is to be shown before the inquiry goes on."""

    async def show(self) -> None:
        """Show what was learnt so far; nothing is under way meanwhile."""


class PollStrategy(ABC):
    """Asks a cloud for the latest runs of the pipelines of one project, and tells the board."""

    refusals = frozenset({FailureKind.CONTENT})
    """Faults that may speak of the pipelines that were asked about."""

    def __init__(
        self,
        api: ApiClient,
        tracker: ProjectTracker,
        report: PollReporter,
        clock: Clock,
        watcher: PollObserver,
        *,
        chunk_size: int,
        concurrency: int,
    ) -> None:
        self._api = api
        self._tracker = tracker
        self._report = report
        self._clock = clock
        self._watcher = watcher
        self._concurrency = concurrency
        self._batches = ChunkSizer(chunk_size)

    def refused(self, ids: Iterable[str]) -> int:
        """How many of these pipelines the cloud refuses."""
        return sum(identity in self._batches.refusals for identity in ids)

    @abstractmethod
    async def poll(self, ids: Sequence[str], outcome: PollOutcome, *, refresh: bool) -> int:
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
        self, ids: Sequence[str], outcome: PollOutcome, *, refresh: bool, trusted: bool = False
    ) -> ChunkPlan:
        """Ask about every one of these pipelines; `trusted`: the cloud has answered about the project just now."""
        plan = self._batches.poll(ids, self._clock.monotonic(), trusted=trusted, refresh=refresh)
        async with asyncio.TaskGroup() as group:
            under_way: set[asyncio.Task[None]] = set()
            while True:
                if not under_way and self._watcher.wants_publication:
                    await self._watcher.show()
                while (
                    len(under_way) < self._concurrency
                    and not outcome.over
                    and not self._watcher.wants_publication
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
        self._tracker.failed((*plan.unasked, *plan.refused_ids, *plan.skipped))
        for identity in plan.refused_ids:
            if self._batches.refusals[identity].unreadable:
                self._report.unreadable(identity)
            else:
                self._report.warn(
                    f"pipeline {identity} is refused, and asked about rarely from now on",
                    outcome.refusals[identity],
                )
        return plan

    async def _follow(self, ids: Sequence[str], plan: ChunkPlan, outcome: PollOutcome) -> None:
        """Ask about a chunk, and tell the plan what became of it."""
        try:
            unclear = await self._ask_chunk(ids)
        except ApiError as error:
            code = error.failure.error_code or error.failure.code
            refused = error.failure.kind in self.refusals
            if refused:
                plan.refused(ids, code)
            elif error.failure.kind is FailureKind.UNREADABLE:
                refused = plan.unreadable(ids, code)
            else:
                plan.failed(ids)
            if len(ids) == 1 or not refused:
                self._watcher.asked(len(ids))
                self._tracker.failed(ids)
            if refused:
                outcome.refusals |= dict.fromkeys(ids, error)
            else:
                outcome.note(error)
            return
        self._watcher.asked(len(ids))
        outcome.in_a_row = 0
        self._tracker.failed(unclear)
        plan.accepted(ids, unclear)
