"""What the status says, as JSON: the answer of `/api/v1/status`, and what the command `status` prints.

Times are epoch seconds, durations are seconds, and a value that is unknown is None.
"""

import msgspec

WAITING = frozenset({"waiting", "paused", "suspended"})
RUNNING = frozenset({"running", "pending"})

LONG = 3600.0
"""Seconds after which a run is long-running, where nothing is known of earlier runs."""
FACTOR = 3
"""How many times the average of earlier runs makes a run long-running."""
ENOUGH = 5
"""Successful runs that make an average."""
SHORTEST = 300.0
"""Seconds that a run takes before it is long-running, also where runs usually take seconds."""


_PROBLEMS = {
    "connect": "could not connect",
    "timeout": "was not answered in time",
    "invalid": "was answered with something unreadable",
    "implausible": "has implausibly few pipelines",
    "refused": "was not sent, since the credentials were refused",
}
"""What the codes of failures mean that are not HTTP statuses."""


def describe(operation: str, code: str, error_code: str) -> str:
    """Return why a project is down, in words."""
    if code.isdecimal():
        return " ".join(part for part in (operation, f"answered {code}", error_code) if part)
    problem = f"{operation} {_PROBLEMS.get(code, code)}".strip()
    return f"{problem} ({error_code})" if error_code else problem


class ProjectStatus(msgspec.Struct, kw_only=True):
    """A project."""

    project: str
    provider: str
    up: bool | None
    """False while the project is down; None before its first refresh has ended."""
    down_since: float | None
    cause: str | None
    pipelines: int
    red: int
    running: int
    waiting: int


class RedPipeline(msgspec.Struct, kw_only=True):
    """A pipeline whose latest finished run failed."""

    project: str
    pipeline: str
    pipeline_id: str
    since: float | None
    failures: int | None
    failed_stages: list[str]
    branch: str | None
    url: str | None


class ActivePipeline(msgspec.Struct, kw_only=True):
    """A pipeline whose latest run waits, or is in progress for unusually long."""

    project: str
    pipeline: str
    pipeline_id: str
    status: str
    since: float | None
    """Since when it waits; of a long-running one, its start."""
    stages: list[str]
    """The stages that wait, or run."""
    branch: str | None
    url: str | None
    usual_seconds: float | None
    """Average duration of successful runs, where enough are known."""


def limit(usual_seconds: float | None) -> float:
    """Return the seconds after which a run in progress is long-running."""
    return LONG if usual_seconds is None else max(SHORTEST, FACTOR * usual_seconds)


class DetailedProject(ProjectStatus, kw_only=True):
    """A project, with what only a running exporter knows."""

    error_code: str | None
    """The vendor's, of the request that failed."""
    remedy: str | None
    """Heading of docs/troubleshooting.md with what to do."""
    last_poll: float | None
    """When the last refresh ended."""
    next_poll: float
    """When the next refresh is due."""
    requests_per_minute: int
    """Requests in the last minute."""
    requests_allowed_per_minute: int
    """Requests that `rate_limit` allows in a minute."""
    budget_left: int
    """Requests that may be sent at once, of `budget`."""
    budget: int
    credentials_accepted: bool | None
    """None before the first answer."""
    credentials_expire: float | None
    credentials_renewal: str | None
    """`auto` or `manual`, where an expiry is known."""


class PipelineStatus(msgspec.Struct, kw_only=True):
    """A pipeline, as a row of the page."""

    project: str
    pipeline: str
    pipeline_id: str
    status: str
    """Status of the latest run, `none` without a run, `unknown` before the first answer."""
    red: bool
    """Whether the latest finished run failed."""
    since: float | None
    """Of a red one, since when; otherwise since when it has its status."""
    failures: int | None
    failed_stages: list[str]
    number: int | None
    started: float | None
    duration: float | None
    """Of the latest run, if it is finished."""
    branch: str | None
    url: str | None


class StatusAnswer(msgspec.Struct, kw_only=True):
    """The answer of `/api/v1/status`."""

    version: str
    time: float
    projects: list[DetailedProject]
    red: list[RedPipeline]
    waiting: list[ActivePipeline]
    long_running: list[ActivePipeline]
    pipelines: list[PipelineStatus]
    """Those of the page that was asked for."""
    page: int
    pages: int
    total: int
    """Pipelines that the filter selects."""
