"""How to query the latest runs of pipelines with as few requests as a cloud allows."""

from exporter.client.api_client import ApiClient
from exporter.core.clock import Clock
from exporter.polling.reporter import PollReporter
from exporter.polling.strategies.activity import ActivityStrategy
from exporter.polling.strategies.base import PollStrategy
from exporter.polling.strategies.batch import BatchStrategy
from exporter.providers.protocol import AnyProvider
from exporter.settings.settings import Poll
from exporter.tracking.project import ProjectTracker


def choose_strategy(
    provider: AnyProvider,
    api: ApiClient,
    tracker: ProjectTracker,
    reporter: PollReporter,
    clock: Clock,
    poll: Poll,
) -> PollStrategy:
    """Return the strategy for a provider: batches if it supports them, otherwise activity queries."""
    if provider.batched:
        return BatchStrategy(
            provider,
            api,
            tracker,
            reporter,
            clock,
            chunk_size=poll.chunk_size,
            concurrency=poll.concurrency,
        )
    return ActivityStrategy(
        provider,
        api,
        tracker,
        reporter,
        clock,
        interval=poll.interval,
        concurrency=poll.concurrency,
    )
