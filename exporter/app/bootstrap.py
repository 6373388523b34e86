"""The parts of an exporter, put together from a configuration; nothing here runs yet."""

import os
from collections.abc import Mapping
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
from exporter.exposition.publisher import Publisher
from exporter.metrics.catalogue import catalogue
from exporter.polling.membership import Membership, OwnershipRegistry
from exporter.polling.poller import Poller
from exporter.providers.protocol import SupportsActivityQuery
from exporter.providers.registry import connect
from exporter.settings.settings import Config
from exporter.state.repository import StateRepository
from exporter.state.sqlite import SqliteStore, StoredState
from exporter.telemetry.recorder import Telemetry
from exporter.tracking.project import ProjectTracker

LOOPBACK = frozenset({"127.0.0.1", "::1", "localhost"})


class Exporter(msgspec.Struct, frozen=True):
    """An exporter at rest."""

    pollers: tuple[Poller, ...]
    trackers: tuple[ProjectTracker, ...]
    publisher: Publisher
    repository: StateRepository


def assemble(
    config: Config,
    clock: Clock,
    environment: Mapping[str, str] = os.environ,
    *,
    shard: Shard | None = None,
    store: SqliteStore | None = None,
    stored: StoredState | None = None,
) -> Exporter:
    """Build what a configuration describes, or what a shard has of it; `stored` is what the store held."""
    telemetry = Telemetry(created_series=config.metrics.created_series, shard=shard)
    started = clock.monotonic()
    repository = StateRepository(config, telemetry, clock, store=store, stored=stored, shard=shard)
    registry = OwnershipRegistry()
    # Each takes what it lists before any discovers.
    members = [
        Membership(project, place, registry, shard, limit=config.limits.max_pipelines)
        for place, project in enumerate(config.projects)
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
            lists_are_summaries=isinstance(provider, SupportsActivityQuery),
        )
        for project, membership, (provider, _, _) in zip(config.projects, members, connections, strict=True)
    )
    repository.begin()
    for project, tracker in zip(config.projects, trackers, strict=True):
        telemetry.start(
            project.name,
            project.provider,
            pipelines=len(tracker.ids),
            interval=config.poll.interval,
            now=clock.time(),
        )
    publisher = Publisher(
        trackers,
        catalogue(config.metrics, label_names(config)),
        telemetry,
        clock,
        created_series=config.metrics.created_series,
        max_series=config.limits.max_series,
    )
    tls: dict[Tls, TransportOptions] = {}
    bodies = Bodies()
    lockouts: dict[str, Lockouts] = {}
    credentials: dict[tuple[str, str], CredentialState] = {}
    pollers = []
    for place, (project, tracker) in enumerate(zip(config.projects, trackers, strict=True)):
        provider, auth, base_url = connections[place]
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
            # No proxy leads back to this machine.
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
            members[place],
            config.poll,
            started=started,
            # All start at once, since a user waits for the first values; later refreshes take turns.
            offset=config.poll.interval * (1 - place / len(config.projects)),
            discovery_interval=project.discovery.interval if project.discovery else None,
            telemetry=telemetry,
            clock=clock,
            repository=repository,
            publish=publisher.publish,
        )
        pollers.append(poller)
    return Exporter(tuple(pollers), trackers, publisher, repository)


def label_names(config: Config) -> set[str]:
    """The names of all labels that the configuration gives to pipelines."""
    return {name for project in config.projects for name in _label_names(project)}


def _label_names(project: ProjectSection) -> set[str]:
    rules = project.discover.labels if project.discover else ()
    sources = (
        project.labels,
        *(entry.labels for entry in project.pipelines),
        *(rule.labels for rule in rules),
    )
    return {name for labels in sources for name in labels}
