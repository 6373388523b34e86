"""Query the latest runs of many pipelines in one request."""

from collections.abc import Sequence

from exporter.client.api_client import ApiClient
from exporter.core.clock import Clock
from exporter.polling.outcome import PollOutcome
from exporter.polling.reporter import PollReporter
from exporter.polling.strategies.base import PollObserver, PollStrategy
from exporter.providers.protocol import SupportsBatchQuery
from exporter.tracking.project import ProjectTracker


class BatchStrategy(PollStrategy):
    """Queries every given pipeline each time, in chunks as large as the cloud accepts."""

    def __init__(
        self,
        provider: SupportsBatchQuery,
        api: ApiClient,
        tracker: ProjectTracker,
        reporter: PollReporter,
        clock: Clock,
        *,
        chunk_size: int,
        concurrency: int,
    ) -> None:
        super().__init__(api, tracker, reporter, clock, chunk_size=chunk_size, concurrency=concurrency)
        self._provider = provider

    async def poll(
        self,
        ids: Sequence[str],
        outcome: PollOutcome,
        observer: PollObserver,
        *,
        refresh: bool,
        project_answered: bool = False,
    ) -> int:
        """Query all pipelines."""
        await self._query_all(ids, outcome, observer, refresh=refresh, project_answered=project_answered)
        return len(ids)

    async def _query_chunk(self, ids: Sequence[str]) -> frozenset[str]:
        answer = await self._api.send(self._provider.batch_request(ids))
        batch = self._provider.read_batch(answer.body, ids, answer.now)
        self._reporter.record_anomalies(batch)
        absent = [
            identity for identity in ids if identity not in batch.runs and identity not in batch.unusable
        ]
        unclear = frozenset(absent if batch.incomplete else ())
        answered = [
            identity for identity in ids if identity not in batch.unusable and identity not in unclear
        ]
        self._tracker.answered(answered, batch.runs, sent_at=answer.sent_at, now=answer.now)
        self._tracker.failed(batch.unusable)
        return unclear
