"""Build the parts of an exporter from a configuration, without starting them."""

import os
from collections.abc import Collection, Mapping
from urllib.parse import urlsplit

import msgspec

from exporter.client.api_client import ApiClient
from exporter.client.bodies import Bodies
from exporter.client.credential_state import CredentialState, Lockouts
from exporter.client.rate_limiter import RateLimiter
from exporter.client.transport import TransportOptions, tls_context
from exporter.config.project_section import ProjectSection
from exporter.config.tls import Tls
from exporter.core.clock import Clock
from exporter.core.shard import Shard
from exporter.exposition import Variant
from exporter.exposition.publisher import Publisher
from exporter.metrics.catalogue import catalogue
from exporter.polling.list_check import ListCheck
from exporter.polling.membership import Membership
from exporter.polling.ownership import OwnershipRegistry
from exporter.polling.poller import Poller
from exporter.polling.progress import Progress, ignore_progress
from exporter.providers.registry import connect
from exporter.settings.settings import Config
from exporter.state.repository import StateRepository
from exporter.state.sqlite import SqliteStore, StoredState
from exporter.telemetry.recorder import Telemetry
from exporter.tracking.project import ProjectTracker

LOOPBACK = frozenset({"127.0.0.1", "::1", "localhost"})


class Exporter(msgspec.Struct, frozen=True):
    """The parts of an exporter."""

    pollers: tuple[Poller, ...]
    clients: tuple[ApiClient, ...]
    trackers: tuple[ProjectTracker, ...]
    publisher: Publisher
    repository: StateRepository
    telemetry: Telemetry


def assemble(
    config: Config,
    clock: Clock,
    environment: Mapping[str, str] = os.environ,
    *,
    shard: Shard | None = None,
    store: SqliteStore | None = None,
    stored: StoredState | None = None,
    progress: Progress = ignore_progress,
    variants: Collection[Variant] = (),
) -> Exporter:
    """Build the exporter of a configuration, or of a shard's part of it.

    `stored` is the content of the store; `progress` follows the polls. `variants` of the page are always
    ready.
    """
    telemetry = Telemetry(created_series=config.metrics.created_series, shard=shard)
    started = clock.monotonic()
    repository = StateRepository(config, telemetry, clock, store=store, stored=stored, shard=shard)
    registry = OwnershipRegistry()
    # All projects claim the pipelines that they list before any of them discovers others.
    members = [
        Membership(project, index, registry, shard, limit=config.limits.max_pipelines)
        for index, project in enumerate(config.projects)
    ]
    for project, membership in zip(config.projects, members, strict=True):
        membership.recall(repository.names(project))
    connections = [connect(project, environment) for project in config.projects]
    trackers = tuple(
        ProjectTracker(
            membership.pipelines(),
            config.metrics,
            repository.retired(project),
            provider=project.provider,
            project=project.name,
            interval=config.poll.interval,
            started=started,
            durations=repository.durations(project),
            lists_are_summaries=provider.lists_are_summaries,
        )
        for project, membership, (provider, _, _) in zip(config.projects, members, connections, strict=True)
    )
    repository.begin()
    for project, tracker in zip(config.projects, trackers, strict=True):
        telemetry.add_project(
            project.name,
            project.provider,
            pipelines=len(tracker.ids),
            interval=config.poll.interval,
        )
    publisher = Publisher(
        trackers,
        catalogue(config.metrics, label_names(config)),
        telemetry,
        clock,
        created_series=config.metrics.created_series,
        max_series=config.limits.max_series,
        always=variants,
    )
    tls: dict[Tls, TransportOptions] = {}
    bodies = Bodies()
    lockouts: dict[str, Lockouts] = {}
    credentials: dict[tuple[str, str], CredentialState] = {}
    pollers, clients = [], []
    for index, (project, tracker) in enumerate(zip(config.projects, trackers, strict=True)):
        provider, auth, base_url = connections[index]
        credential = credentials.setdefault(
            (base_url, auth.credential_id),
            CredentialState(auth, clock, config.poll.interval, lockouts.setdefault(base_url, Lockouts())),
        )
        if project.tls not in tls:
            context = tls_context(project.tls.ca_file, verify=not project.tls.insecure_skip_verify)
            tls[project.tls] = TransportOptions(tls=context, bodies=bodies)
        api = ApiClient(
            project.name,
            provider,
            credential,
            base_url,
            rate_limiter=RateLimiter(project.rate_limit.requests_per_second, project.rate_limit.burst, clock),
            concurrency=config.poll.concurrency,
            timeout=config.poll.timeout,
            # A proxy does not reach services of this machine.
            transport=msgspec.structs.replace(
                tls[project.tls], proxy=project.proxy, bypass_proxy=urlsplit(base_url).hostname in LOOPBACK
            ),
            telemetry=telemetry,
            clock=clock,
        )
        poller = Poller(
            project.name,
            provider,
            api,
            tracker,
            members[index],
            ListCheck(project, members[index], telemetry, max_age=config.poll.max_age),
            config.poll,
            started=started,
            # The first refreshes start at once, because users wait for the first values; later ones are spread.
            offset=config.poll.interval * (1 - index / len(config.projects)),
            discovery_interval=project.discovery.interval if project.discovery else None,
            telemetry=telemetry,
            clock=clock,
            repository=repository,
            publish=publisher.publish,
            progress=progress,
        )
        pollers.append(poller)
        clients.append(api)
    return Exporter(tuple(pollers), tuple(clients), trackers, publisher, repository, telemetry)


def label_names(config: Config) -> set[str]:
    """Return the names of all labels that the configuration gives to pipelines."""
    return {name for project in config.projects for name in _label_names(project)}


def _label_names(project: ProjectSection) -> set[str]:
    rules = project.discover.labels if project.discover else ()
    sources = (
        project.labels,
        *(entry.labels for entry in project.pipelines),
        *(rule.labels for rule in rules),
    )
    return {name for labels in sources for name in labels}
