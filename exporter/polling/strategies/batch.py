"""Asking a cloud that tells the latest runs of many pipelines in one answer."""

from collections.abc import Sequence

from exporter.client.api_client import ApiClient
from exporter.core.clock import Clock
from exporter.polling.reporter import PollOutcome, PollReporter
from exporter.polling.strategies.base import PollObserver, PollStrategy
from exporter.providers.protocol import SupportsBatchQuery
from exporter.tracking.project import ProjectTracker


class BatchStrategy(PollStrategy):
    """Every pipeline is asked about each time, as many in one request as the cloud takes."""

    def __init__(
        self,
        provider: SupportsBatchQuery,
        api: ApiClient,
        tracker: ProjectTracker,
        report: PollReporter,
        clock: Clock,
        watcher: PollObserver,
        *,
        chunk_size: int,
        concurrency: int,
    ) -> None:
        super().__init__(api, tracker, report, clock, watcher, chunk_size=chunk_size, concurrency=concurrency)
        self._provider = provider

    async def poll(self, ids: Sequence[str], outcome: PollOutcome, *, refresh: bool) -> int:
        """Ask about all of them."""
        await self._ask_all(ids, outcome, refresh=refresh, trusted=outcome.covered)
        return len(ids)

    async def _ask_chunk(self, ids: Sequence[str]) -> frozenset[str]:
        answer = await self._api.send(self._provider.batch_request(ids))
        batch = self._provider.read_batch(answer.body, ids, answer.now)
        self._report.record_anomalies(batch)
        silent = [
            identity for identity in ids if identity not in batch.runs and identity not in batch.unusable
        ]
        unclear = frozenset(silent if batch.incomplete else ())
        told = [identity for identity in ids if identity not in batch.unusable and identity not in unclear]
        self._tracker.answered(told, batch.runs, sent_at=answer.sent_at, now=answer.now)
        self._tracker.failed(batch.unusable)
        return unclear
