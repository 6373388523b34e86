"""What a rule is made of, and the PromQL fragments that several rules share."""

from dataclasses import dataclass, field, replace
from textwrap import indent
from typing import Generic, TypeVar

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
    """Labels next to the severity that the expression cannot have."""
    of_pipeline: bool = False
    """True if it has the identity labels of a pipeline, so that labels of its configuration can be joined."""
    maybe_of_project: bool = False
    """True if it lacks the pipeline where a histogram is kept per project."""


Rule = TypeVar("Rule", Record, Alert)


@dataclass(frozen=True)
class Group(Generic[Rule]):
    """Rules that are evaluated one after the other, at the same time."""

    name: str
    rules: tuple[Rule, ...]
    interval: str = ""
    note: str = ""


def seen(metric: str, *dropped: str, how: str = "max") -> str:
    """Return a gauge without the labels of its target and those dropped.

    The five minutes bridge failed scrapes and the gap of a restart.
    """
    return f"{how} without ({', '.join(('instance', 'pod', *dropped))}) (\n  last_over_time({metric}[5m])\n)"


def joined(expr: str, labels: str) -> str:
    """Return an expression with labels that the configuration gives to pipelines."""
    return f"(\n{indent(expr, '  ')}\n)\n* on ({IDENTITY}) group_left ({labels}) pipeline:ci_pipeline_info:latest"


def with_labels(alert: Alert, labels: str) -> Alert:
    """Return the alert with labels that the configuration gives to pipelines."""
    if not alert.of_pipeline or not labels:
        return alert
    expr = joined(alert.expr, labels)
    if alert.maybe_of_project:
        expr += f"\nor on ({IDENTITY}) (\n{indent(alert.expr, '  ')}\n)"
    return replace(alert, expr=expr)
