"""Data of an exporter for the status page."""

from exporter.app.exporter import Exporter
from exporter.core.clock import Clock
from exporter.core.usage import Usage
from exporter.polling.poller import Poller
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
            _facts(project.poller, project.client.usage, project.tracker) for project in exporter.projects
        ],
        clock=clock,
    )


def _facts(poller: Poller, usage: Usage, tracker: ProjectTracker) -> ProjectFacts:
    outage = poller.health.outage
    problem = None
    if outage is not None:
        cause = outage.cause
        problem = ProjectProblem(
            since=outage.since,
            operation=cause.operation,
            code=cause.code,
            error_code=cause.error_code,
            message=cause.message,
            request_id=cause.request_id,
            remedy=cause.remedy,
            held_back=cause.held_back,
        )
    polled = poller.last_refresh is not None
    return ProjectFacts(
        project=poller.project,
        provider=tracker.provider,
        pipelines=len(tracker.ids),
        up=False if outage is not None else (True if polled else None),
        incomplete=polled and outage is None and not poller.up,
        problem=problem,
        last_poll=poller.last_refresh,
        next_poll=poller.schedule.next_refresh,
        usage=usage,
    )
