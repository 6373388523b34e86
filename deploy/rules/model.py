"""What a rule is made of, and the PromQL fragments that several rules share."""

from dataclasses import dataclass, field

IDENTITY = "job, provider, project, pipeline_id"
PROJECT = "job, provider, project"


@dataclass(frozen=True)
class Record:
    """A recording rule."""

    name: str
    expr: str
    note: str = ""
    """Why it is written this way; a comment in the file."""


@dataclass(frozen=True)
class Alert:
    """An alerting rule."""

    name: str
    expr: str
    severity: str
    summary: str
    description: str
    note: str = ""
    waiting: str = ""
    """The value of `for`."""
    keep_firing: str = ""
    """The value of `keep_firing_for`."""
    labels: dict[str, str] = field(default_factory=dict)
    about_pipeline: bool = False
    """True if the alert has the identity labels of a pipeline, so that labels of its configuration can be joined."""


@dataclass(frozen=True)
class Group:
    """Rules that are evaluated one after the other, at the same time."""

    name: str
    rules: tuple[Record | Alert, ...]
    interval: str = ""
    note: str = ""


def seen(metric: str, *dropped: str, how: str = "max") -> str:
    """Return a gauge without the labels of its target and those dropped.

    The five minutes bridge failed scrapes and the gap of a restart.
    """
    return f"{how} without ({', '.join(('instance', 'pod', *dropped))}) (\n  last_over_time({metric}[5m])\n)"


def held(record: str) -> str:
    """Return a recorded value; while the exporter is blind for a pipeline, the last one of the past 24 hours."""
    return f"({record}\n  or last_over_time({record}[1d]) and on ({IDENTITY}) pipeline:ci_pipeline_up:blind)"
