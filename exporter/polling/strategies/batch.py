"""Asking a cloud that tells the latest runs of many pipelines in one answer."""

from collections.abc import Sequence

from exporter.client.api_client import Api
from exporter.core.clock import Clock
from exporter.polling.reporter import Outcome, Report
from exporter.polling.strategies.base import Inquiry, Watcher
from exporter.providers.protocol import Batching
from exporter.tracking.project import Board


class BatchInquiry(Inquiry):
    """Every pipeline is asked about each time, as many in one request as the cloud takes."""

    def __init__(
        self,
        provider: Batching,
        api: Api,
        board: Board,
        report: Report,
        clock: Clock,
        watcher: Watcher,
        *,
        chunk_size: int,
        concurrency: int,
    ) -> None:
        super().__init__(api, board, report, clock, watcher, chunk_size=chunk_size, concurrency=concurrency)
        self._provider = provider

    async def ask(self, ids: Sequence[str], outcome: Outcome, *, refresh: bool) -> int:
        """Ask about all of them."""
        await self._ask_all(ids, outcome, refresh=refresh, trusted=outcome.covered)
        return len(ids)

    async def _ask_chunk(self, ids: Sequence[str]) -> frozenset[str]:
        answer = await self._api.send(self._provider.batch(ids))
        batch = self._provider.read_batch(answer.body, ids, answer.now)
        self._report.surprises(batch)
        silent = [identity for identity in ids if identity not in batch.runs and identity not in batch.untold]
        unclear = frozenset(silent if batch.incomplete else ())
        told = [identity for identity in ids if identity not in batch.untold and identity not in unclear]
        self._board.answered(told, batch.runs, asked=answer.asked, now=answer.now)
        self._board.failed(batch.untold)
        return unclear
