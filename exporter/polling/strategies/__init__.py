"""How the latest runs of pipelines are asked for, with as few requests as their cloud allows.

A cloud that tells many pipelines in one answer is asked in batches; one that tells each alone is asked for those first
in which something has happened.
"""

from exporter.client.api_client import Api
from exporter.core.clock import Clock
from exporter.polling.reporter import Report
from exporter.polling.strategies.activity import SweepInquiry
from exporter.polling.strategies.base import Inquiry, Watcher
from exporter.polling.strategies.batch import BatchInquiry
from exporter.providers.protocol import AnyProvider, Sweeping
from exporter.settings.settings import Poll
from exporter.tracking.project import Board

__all__ = ["BatchInquiry", "Inquiry", "SweepInquiry", "Watcher", "inquiry"]


def inquiry(
    provider: AnyProvider,
    api: Api,
    board: Board,
    report: Report,
    clock: Clock,
    watcher: Watcher,
    poll: Poll,
) -> Inquiry:
    """The way to ask a provider."""
    if isinstance(provider, Sweeping):
        return SweepInquiry(
            provider,
            api,
            board,
            report,
            clock,
            watcher,
            interval=poll.interval,
            concurrency=poll.concurrency,
        )
    return BatchInquiry(
        provider, api, board, report, clock, watcher, chunk_size=poll.chunk_size, concurrency=poll.concurrency
    )
