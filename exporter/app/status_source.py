"""Data of an exporter for the status page."""

from exporter.app.exporter import Exporter
from exporter.core.clock import Clock
from exporter.core.usage import Usage
from exporter.polling.poller import Poller
from exporter.polling.project_finder import ProjectFinder
from exporter.polling.project_health import Outage
from exporter.status_page.facts import ProjectFacts, ProjectProblem
from exporter.status_page.page import StatusPage
from exporter.tracking.project import ProjectTracker
from exporter.web.status_routes import StatusSource


def status_source(exporter: Exporter, clock: Clock, metrics_path: str) -> StatusSource:
    """Return the data source of the status page."""
    return StatusSource(
        page=StatusPage(metrics_path, exporter.publisher.rest_while_sending),
        catalogue=lambda: exporter.publisher.catalogue,
        views=lambda: exporter.publisher.views,
        facts=lambda: [
            *(_entry_facts(one.finder, clock) for one in exporter.finders if not one.finder.up),
            *(_facts(project.poller, project.client.usage, project.tracker) for project in exporter.projects),
        ],
        clock=clock,
    )


def _entry_facts(finder: ProjectFinder, clock: Clock) -> ProjectFacts:
    """Return the facts of an entry whose list of projects cannot be read. Its pipelines are those of its projects."""
    outage = finder.health.outage
    return ProjectFacts(
        project=finder.entry,
        provider=finder.provider,
        pipelines=0,
        up=False if outage is not None else None,
        incomplete=False,
        problem=_problem(outage),
        last_poll=finder.last_search,
        next_poll=clock.time() + finder.next_search - clock.monotonic(),
        usage=finder.api.usage,
    )


def _problem(outage: Outage | None) -> ProjectProblem | None:
    if outage is None:
        return None
    cause = outage.cause
    return ProjectProblem(
        since=outage.since,
        operation=cause.operation,
        code=cause.code,
        error_code=cause.error_code,
        message=cause.message,
        request_id=cause.request_id,
        remedy=cause.remedy,
        held_back=cause.held_back,
    )


def _facts(poller: Poller, usage: Usage, tracker: ProjectTracker) -> ProjectFacts:
    outage = poller.health.outage
    polled = poller.last_refresh is not None
    return ProjectFacts(
        project=poller.project,
        provider=tracker.provider,
        pipelines=len(tracker.ids),
        up=False if outage is not None else (True if polled else None),
        incomplete=polled and outage is None and not poller.up,
        problem=_problem(outage),
        last_poll=poller.last_refresh,
        next_poll=poller.schedule.next_refresh,
        usage=usage,
    )
