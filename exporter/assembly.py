"""The parts of an exporter, put together from a configuration; nothing here runs yet."""

import msgspec

from exporter.api import Api, tls_context
from exporter.board import Board
from exporter.budget import Budget
from exporter.clock import Clock
from exporter.config.schema import Config
from exporter.exposition import Exposition
from exporter.metrics import catalogue
from exporter.model import Pipeline, label
from exporter.poller import Poller
from exporter.providers import AnyProject, connect
from exporter.publisher import Publisher
from exporter.telemetry import Telemetry


class Exporter(msgspec.Struct, frozen=True):
    """An exporter at rest."""

    pollers: tuple[Poller, ...]
    boards: tuple[Board, ...]
    publisher: Publisher


def assemble(config: Config, clock: Clock) -> Exporter:
    """Build what a configuration describes."""
    telemetry = Telemetry(created_series=config.metrics.created_series)
    tls = tls_context()
    started = clock.monotonic()
    user_labels = {
        name for project in config.projects for entry in project.pipelines for name in entry.labels
    }
    families = catalogue(config.metrics, user_labels)
    exposition = Exposition(families, created_series=config.metrics.created_series)
    boards = tuple(
        Board(_pipelines(project), config.metrics, provider=project.provider, project=project.name)
        for project in config.projects
    )
    for project, board in zip(config.projects, boards, strict=True):
        telemetry.start(
            project.name,
            project.provider,
            pipelines=len(board.ids),
            interval=config.poll.interval,
            now=clock.time(),
        )
    publisher = Publisher(boards, exposition, telemetry)
    pollers = []
    for index, (project, board) in enumerate(zip(config.projects, boards, strict=True)):
        provider, auth, base_url = connect(project)
        api = Api(
            project.name,
            provider,
            auth,
            base_url,
            budget=Budget(project.rate_limit.requests_per_second, project.rate_limit.burst, clock),
            concurrency=config.poll.concurrency,
            timeout=config.poll.timeout,
            tls=tls,
            telemetry=telemetry,
            clock=clock,
        )
        poller = Poller(
            project.name,
            provider,
            api,
            board,
            config.poll,
            started=started,
            # All start at once, since a user waits for the first values; later refreshes take turns.
            offset=config.poll.interval * (1 - index / len(config.projects)),
            telemetry=telemetry,
            clock=clock,
            publish=publisher.publish,
        )
        pollers.append(poller)
    return Exporter(tuple(pollers), boards, publisher)


def _pipelines(project: AnyProject) -> tuple[Pipeline, ...]:
    return tuple(
        Pipeline(
            provider=project.provider,
            project=project.name,
            id=entry.id,
            name=label(entry.name or entry.id),
            labels=tuple(entry.labels.items()),
        )
        for entry in project.pipelines
    )
