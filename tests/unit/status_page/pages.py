"""Views and facts for tests of the status page."""

from functools import cache
from typing import Any

from exporter.core.model import Pipeline, Run, Stage, Status
from exporter.core.usage import Usage
from exporter.metrics.catalogue import catalogue
from exporter.settings.settings import Metrics
from exporter.status_page.facts import ProjectFacts, ProjectProblem
from exporter.status_page.page import StatusPage
from exporter.tracking.ledger import EndedRun, Extent, Streak
from exporter.tracking.run_counters import BucketBounds, RunCounters
from exporter.tracking.views import View

NOON = 1_700_000_000.0
HOUR = 3600.0
FAILED, SUCCESS, RUNNING, WAITING = Status.FAILED, Status.SUCCESS, Status.RUNNING, Status.WAITING


FAMILIES = catalogue(Metrics())


@cache
def status_page() -> StatusPage:
    return StatusPage("/metrics")


def facts(project: str = "shop", **changes: Any) -> ProjectFacts:
    """Return a project that is up."""
    values: dict[str, Any] = {
        "project": project,
        "provider": "flow",
        "pipelines": 3,
        "up": True,
        "incomplete": False,
        "problem": None,
        "last_poll": NOON - 12,
        "next_poll": NOON + 48,
    }
    used: dict[str, Any] = {
        "requests_per_minute": 7,
        "allowed_per_minute": 600,
        "budget_left": 19,
        "budget": 20,
        "credentials_accepted": True,
        "credentials_expire": None,
        "credentials_renewal": "auto",
    }
    usage = Usage(**{name: changes.pop(name, value) for name, value in used.items()})
    return ProjectFacts(**{**values, "usage": usage, **changes})


def problem(**changes: Any) -> ProjectProblem:
    """Return why a project has been down for two hours."""
    values: dict[str, Any] = {
        "since": NOON - 2 * HOUR,
        "operation": "ListPipelines",
        "code": "401",
        "error_code": "Forbidden.Token",
        "message": "the token is no longer valid",
        "request_id": "request-1",
        "remedy": "credentials-rejected",
    }
    return ProjectProblem(**{**values, **changes})


def run(status: Status, number: int = 7, **changes: Any) -> Run:
    """Return a run that started an hour ago, and took ten minutes if it has ended."""
    start = NOON - HOUR
    values: dict[str, Any] = {
        "id": f"run-{number}",
        "number": number,
        "status": status,
        "start": start,
        "end": start + 600 if status.final else None,
        "branch": "main",
        "stages": (
            Stage("Build", 0, SUCCESS, start, 60.0),
            Stage("Deploy", 1, status, start + 60, 540.0 if status.final else None),
        ),
    }
    return Run(**{**values, **changes})


def view(
    name: str = "checkout", *, status: Status = SUCCESS, before: Status = SUCCESS, **changes: Any
) -> View:
    """Return a pipeline whose latest run has a status. `before` is that of the run before, if the latest has not ended."""
    latest = run(status)
    finished = latest if status.final else run(before, 6)
    red = finished.status is FAILED
    values: dict[str, Any] = {
        "pipeline": Pipeline("flow", "shop", f"id-{name}"[:64], name, "https://flow.example.com/7"),
        "up": True,
        "has_run": True,
        "latest": latest,
        "finished": finished,
        "status_change": NOON - HOUR / 2,
        "streak": Streak(3 if red else 0, NOON - 2 * HOUR if red else None, NOON - 3 * HOUR, Extent.WHOLE),
        "active_starts": () if status.final else (NOON - HOUR,),
        "runs": tuple(
            EndedRun(f"run-{number}", number, SUCCESS, NOON - HOUR, NOON - HOUR - 60 * number)
            for number in (6, 5, 4)
        ),
        "counters": RunCounters(created=NOON - 5 * HOUR),
        "durations": BucketBounds.of(Metrics()).empty(NOON),
    }
    return View(**{**values, **changes})
