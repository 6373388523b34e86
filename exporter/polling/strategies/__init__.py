"""How the latest runs of pipelines are asked for, with as few requests as their cloud allows.

A cloud that tells many pipelines in one answer is asked in batches; one that tells each alone is asked for those first
in which something has happened.
"""

from exporter.client.api_client import ApiClient
from exporter.core.clock import Clock
from exporter.polling.reporter import PollReporter
from exporter.polling.strategies.activity import ActivityStrategy
from exporter.polling.strategies.base import PollObserver, PollStrategy
from exporter.polling.strategies.batch import BatchStrategy
from exporter.providers.protocol import AnyProvider, SupportsActivityQuery
from exporter.settings.settings import Poll
from exporter.tracking.project import ProjectTracker

__all__ = ["ActivityStrategy", "BatchStrategy", "PollObserver", "PollStrategy", "choose_strategy"]


def choose_strategy(
    provider: AnyProvider,
    api: ApiClient,
    tracker: ProjectTracker,
    report: PollReporter,
    clock: Clock,
    watcher: PollObserver,
    poll: Poll,
) -> PollStrategy:
    """The way to ask a provider."""
    if isinstance(provider, SupportsActivityQuery):
        return ActivityStrategy(
            provider,
            api,
            tracker,
            report,
            clock,
            watcher,
            interval=poll.interval,
            concurrency=poll.concurrency,
        )
    return BatchStrategy(
        provider,
        api,
        tracker,
        report,
        clock,
        watcher,
        chunk_size=poll.chunk_size,
        concurrency=poll.concurrency,
    )
