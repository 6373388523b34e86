"""Recording rules, alerts and groups, and PromQL fragments that several rules share."""

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
    """Reason for the expression; it becomes a comment in the file."""


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
    """Labels in addition to the severity, which the expression cannot provide."""
    of_pipeline: bool = False
    """Whether the expression has the identity labels of a pipeline, so that labels of its configuration can be joined."""
    maybe_of_project: bool = False
    """Whether the expression lacks the pipeline if the configuration sets its histogram to `project`."""


Rule = TypeVar("Rule", Record, Alert)


@dataclass(frozen=True)
class Group(Generic[Rule]):
    """A rule group: rules that Prometheus evaluates in order, with the same timestamp."""

    name: str
    rules: tuple[Rule, ...]
    interval: str = ""
    note: str = ""


def seen(metric: str, *dropped: str, how: str = "max") -> str:
    """Return a query for a gauge, aggregated over the labels of its target and over `dropped` labels.

    It finds values of the past five minutes, so that it bridges failed scrapes and restarts.
    """
    return f"{how} without ({', '.join(('instance', 'pod', *dropped))}) (\n  last_over_time({metric}[5m])\n)"


def joined(expr: str, labels: str) -> str:
    """Return `expr` with labels that the configuration gives to pipelines."""
    return f"(\n{indent(expr, '  ')}\n)\n* on ({IDENTITY}) group_left ({labels}) pipeline:ci_pipeline_info:latest"


def with_labels(alert: Alert, labels: str) -> Alert:
    """Return the alert with labels that the configuration gives to pipelines, unless it has no pipeline."""
    if not alert.of_pipeline or not labels:
        return alert
    expr = joined(alert.expr, labels)
    if alert.maybe_of_project:
        expr += f"\nor on ({IDENTITY}) (\n{indent(alert.expr, '  ')}\n)"
    return replace(alert, expr=expr)
