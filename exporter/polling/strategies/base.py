"""What all strategies share: chunks in flight at the same time, and pipelines that are refused."""

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from typing import Protocol

from exporter.client.api_client import ApiClient, ApiError
from exporter.core.clock import Clock
from exporter.core.failures import FailureKind
from exporter.polling.outcome import PollOutcome
from exporter.polling.reporter import PollReporter
from exporter.polling.strategies.chunking import ChunkPlan, ChunkSizer
from exporter.tracking.project import ProjectTracker


class PollObserver(Protocol):
    """Follows the progress of a poll."""

    def progressed(self, pipelines: int) -> None:
        """Record that the requests for this number of further pipelines have ended."""

    @property
    def wants_publication(self) -> bool:
        """True if the results so far are to be published before the poll continues."""

    async def publish_interim(self) -> None:
        """Publish the results so far; no request is in flight meanwhile."""


class _Ignored:
    """Observer that ignores progress."""

    wants_publication = False

    def progressed(self, pipelines: int) -> None:
        """Do nothing."""

    async def publish_interim(self) -> None:
        """Do nothing."""


IGNORED: PollObserver = _Ignored()
"""Observer for polls that are published only at their end."""


class PollStrategy(ABC):
    """Queries the latest runs of one project's pipelines, and applies the responses to its tracker."""

    refusal_kinds = frozenset({FailureKind.CONTENT})
    """Kinds of failures that may be due to the ids of a request."""

    def __init__(
        self,
        api: ApiClient,
        tracker: ProjectTracker,
        reporter: PollReporter,
        clock: Clock,
        *,
        chunk_size: int,
        concurrency: int,
    ) -> None:
        self._api = api
        self._tracker = tracker
        self._reporter = reporter
        self._clock = clock
        self._concurrency = concurrency
        self._sizer = ChunkSizer(chunk_size)

    def refused(self, ids: Iterable[str]) -> int:
        """Return how many of these pipelines are quarantined."""
        return sum(identity in self._sizer.refusals for identity in ids)

    @abstractmethod
    async def poll(
        self,
        ids: Sequence[str],
        outcome: PollOutcome,
        observer: PollObserver,
        *,
        refresh: bool,
        project_answered: bool = False,
    ) -> int:
        """Update pipelines: all of them in a `refresh`, otherwise those whose run is in progress.

        `project_answered`: another request of this poll was answered, so that a refusal is due to the ids. Returns the
        number of pipelines queried.
        """

    @abstractmethod
    async def _query_chunk(self, ids: Sequence[str]) -> frozenset[str]:
        """Query a chunk of pipelines and apply the response; return the ids that it leaves unclear.

        Raises:
            ApiError: the request failed.

        """

    async def _query_all(
        self,
        ids: Sequence[str],
        outcome: PollOutcome,
        observer: PollObserver,
        *,
        refresh: bool,
        project_answered: bool,
    ) -> ChunkPlan:
        """Query each of these pipelines; `project_answered` as for `poll`."""
        plan = self._sizer.poll(
            ids, self._clock.monotonic(), project_answered=project_answered, refresh=refresh
        )
        refusals: dict[str, ApiError] = {}
        async with asyncio.TaskGroup() as group:
            in_flight: set[asyncio.Task[None]] = set()
            while True:
                if not in_flight and observer.wants_publication:
                    await observer.publish_interim()
                while (
                    len(in_flight) < self._concurrency
                    and not outcome.ended
                    and not observer.wants_publication
                    and (chunk := plan.next())
                ):
                    in_flight.add(
                        group.create_task(self._run_chunk(chunk, plan, outcome, observer, refusals))
                    )
                if not in_flight:
                    break
                _, in_flight = await asyncio.wait(in_flight, return_when=asyncio.FIRST_COMPLETED)
        # One refused id of the few in an active poll proves nothing; the next refresh shows more.
        if plan.unanswered and not outcome.failed and refresh:
            # The project refuses every request, or has more bad ids than one poll may find.
            for error in list(refusals.values())[-1:]:
                outcome.record_error(error)
            outcome.record_gap()
        self._tracker.failed((*plan.unanswered, *plan.quarantined, *plan.skipped))
        for identity in plan.quarantined:
            if self._sizer.refusals[identity].unreadable:
                self._reporter.pipeline_unreadable(identity)
            else:
                self._reporter.pipeline_refused(identity, refusals[identity])
        return plan

    async def _run_chunk(
        self,
        ids: Sequence[str],
        plan: ChunkPlan,
        outcome: PollOutcome,
        observer: PollObserver,
        refusals: dict[str, ApiError],
    ) -> None:
        """Query a chunk and report the result to the plan; `refusals` collects the errors of refused ids."""
        try:
            unclear = await self._query_chunk(ids)
        except ApiError as error:
            code = error.failure.error_code or error.failure.code
            refused = error.failure.kind in self.refusal_kinds
            if refused:
                plan.refused(ids, code)
            elif error.failure.kind is FailureKind.UNREADABLE:
                refused = plan.unreadable(ids, code)
            else:
                plan.failed(ids)
            if len(ids) == 1 or not refused:
                observer.progressed(len(ids))
                self._tracker.failed(ids)
            if refused:
                refusals.update(dict.fromkeys(ids, error))
            else:
                outcome.record_error(error)
            return
        observer.progressed(len(ids))
        outcome.record_success()
        self._tracker.failed(unclear)
        plan.accepted(ids, unclear)
