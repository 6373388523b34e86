"""One project in force: its settings, and the parts that poll and track it."""

from collections.abc import Awaitable, Callable, Mapping

import msgspec

from exporter.app.cloud_access import CloudAccess, Link
from exporter.client.api_client import ApiClient
from exporter.client.rate_limiter import RateLimiter
from exporter.config.project_section import ProjectSearch
from exporter.core.clock import Clock
from exporter.polling.list_check import ListCheck
from exporter.polling.membership import Membership
from exporter.polling.poller import Poller
from exporter.polling.progress import Progress
from exporter.polling.project_finder import ProjectFinder
from exporter.providers.registry import AnyProject, directory_of
from exporter.settings.settings import Config
from exporter.state.repository import StateRepository
from exporter.telemetry.recorder import Telemetry
from exporter.tracking.project import ProjectTracker


class Project(msgspec.Struct, frozen=True, eq=False):
    """An active project. It is replaced when a new configuration changes its settings."""

    settings: AnyProject
    link: Link
    membership: Membership
    tracker: ProjectTracker
    client: ApiClient
    poller: Poller


class EntryFinder(msgspec.Struct, frozen=True, eq=False):
    """The finder of an entry of the configuration that stands for many projects."""

    settings: AnyProject
    link: Link
    finder: ProjectFinder


def same_tracker(before: tuple[Config, AnyProject, Link], after: tuple[Config, AnyProject, Link]) -> bool:
    """Return whether the tracker of a project can be reused with the settings of `after`."""
    return _tracker_settings(*before) == _tracker_settings(*after)


def _tracker_settings(config: Config, project: AnyProject, link: Link) -> tuple[object, ...]:
    # The first four identify the project in the state.
    return (
        project.provider,
        project.base_url,
        project.scope,
        project.name,
        link.provider.lists_are_summaries,
        config.metrics,
        config.poll.interval,
    )


class ProjectBuilder:
    """Builds projects of one exporter."""

    def __init__(
        self,
        clock: Clock,
        access: CloudAccess,
        telemetry: Telemetry,
        repository: StateRepository,
        publish: Callable[[], Awaitable[None]],
        progress: Progress,
    ) -> None:
        self._clock = clock
        self._access = access
        self._telemetry = telemetry
        self._repository = repository
        self._publish = publish
        self._progress = progress

    def build(
        self,
        config: Config,
        index: int,
        link: Link,
        membership: Membership,
        tracker: ProjectTracker | None,
        rate_limiter: RateLimiter | None,
    ) -> Project:
        """Build the project at `index` of a configuration. `tracker` is the one to continue with, if there is one.

        `rate_limiter` is that of the entry that has found the project; None if the configuration has the project itself.
        """
        settings = config.projects[index]
        started = self._clock.monotonic()
        if tracker is None:
            tracker = ProjectTracker(
                membership.pipelines(),
                config.metrics,
                self._repository.retired(settings),
                provider=settings.provider,
                project=settings.name,
                interval=config.poll.interval,
                started=started,
                durations=self._repository.durations(settings),
                lists_are_summaries=link.provider.lists_are_summaries,
            )
        else:
            tracker.update(membership.pipelines(), started, self._clock.time())
        client = self._client(config, settings, link, rate_limiter)
        poller = Poller(
            settings.name,
            link.provider,
            client,
            tracker,
            membership,
            ListCheck(settings, membership, self._telemetry, max_age=config.poll.max_age),
            config.poll,
            started=started,
            # The first refreshes start at once, because users wait for the first values; later ones are spread.
            offset=config.poll.interval * (1 - index / len(config.projects)),
            discovery_interval=settings.discovery.interval if settings.discovery else None,
            telemetry=self._telemetry,
            clock=self._clock,
            repository=self._repository,
            publish=self._publish,
            progress=self._progress,
        )
        return Project(settings, link, membership, tracker, client, poller)

    def _client(
        self, config: Config, settings: AnyProject, link: Link, rate_limiter: RateLimiter | None
    ) -> ApiClient:
        return ApiClient(
            settings.name,
            link.provider,
            self._access.credential(settings, link, config.poll.interval),
            link.base_url,
            rate_limiter=rate_limiter or self._rate_limiter(settings),
            concurrency=config.poll.concurrency,
            timeout=config.poll.timeout,
            transport=link.transport,
            telemetry=self._telemetry,
            clock=self._clock,
        )

    def _rate_limiter(self, settings: AnyProject) -> RateLimiter:
        return RateLimiter(settings.rate_limit.requests_per_second, settings.rate_limit.burst, self._clock)

    def finder(
        self,
        config: Config,
        settings: AnyProject,
        search: ProjectSearch,
        link: Link,
        known: Mapping[str, str],
        former: EntryFinder | None,
    ) -> EntryFinder:
        """Build the finder of an entry. `known` are the projects found before; `former` is the finder that it replaces."""
        directory = directory_of(settings)
        same_limit = former is not None and former.settings.rate_limit == settings.rate_limit
        rate_limiter = (
            former.finder.rate_limiter if former is not None and same_limit else self._rate_limiter(settings)
        )
        client = ApiClient(
            settings.name,
            directory,
            self._access.credential(settings, link, config.poll.interval),
            search.base_url,
            rate_limiter=rate_limiter,
            concurrency=1,
            timeout=config.poll.timeout,
            transport=self._access.directory_transport(link, search.base_url),
            telemetry=self._telemetry,
            clock=self._clock,
        )
        finder = ProjectFinder(
            settings.name,
            search,
            directory,
            client,
            rate_limiter=rate_limiter,
            known=known,
            retry=config.poll.interval,
            telemetry=self._telemetry,
            clock=self._clock,
        )
        return EntryFinder(settings, link, finder)
