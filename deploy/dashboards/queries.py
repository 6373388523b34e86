"""PromQL fragments that several panels share."""

from textwrap import indent

from deploy.rules.model import IDENTITY

PROJECT = 'provider=~"$provider", project=~"$project"'
PIPELINE = f'{PROJECT}, pipeline=~"$pipeline"'
NAMES = "provider, project, pipeline, pipeline_id"
INFO = "pipeline:ci_pipeline_info:latest"
STATUSES = (
    "success",
    "failed",
    "canceled",
    "ignored",
    "running",
    "pending",
    "waiting",
    "paused",
    "suspended",
    "skipped",
    "unknown",
)


def pipelines(metric: str, *more: str) -> str:
    """Return a selector of a metric for the selected pipelines; `more` are further matchers."""
    return f"{metric}{{{', '.join((PIPELINE, *more))}}}"


def projects(metric: str, *more: str) -> str:
    """Return a selector of a metric for the selected projects; `more` are further matchers."""
    return f"{metric}{{{', '.join((PROJECT, *more))}}}"


def both(expr: str, other: str) -> str:
    """Return `expr`, limited to the pipelines that `other` has as well."""
    return f"(\n{indent(expr, '  ')}\n)\nand on ({IDENTITY})\n(\n{indent(other, '  ')}\n)"


def of_team(expr: str) -> str:
    """Return `expr`, limited to the pipelines of the selected teams."""
    return f'(\n{indent(expr, "  ")}\n)\nand on ({IDENTITY}) {INFO}{{label_team=~"$team"}}'


def by(labels: str, expr: str, how: str = "max") -> str:
    """Return `expr`, aggregated by `labels` with the operator `how`."""
    return f"{how} by ({labels}) (\n{indent(expr, '  ')}\n)"


def first(labels: str, expr: str) -> str:
    """Return one series of `expr` for each pipeline, with the names of the pipeline and `labels`."""
    one = f"topk by ({IDENTITY}) (1,\n{indent(expr, '  ')}\n)"
    return by(f"{NAMES}, {labels}", one)


def page(of: str, kind: str) -> str:
    """Return a query for the URL of a run or, without one, of its pipeline, for the pipelines of the expression `of`."""
    run = both(pipelines(f"ci_pipeline_{kind}_info", 'url!=""'), of)
    pipeline = both(pipelines(INFO, 'url!=""'), of)
    return first("url", f"{run}\nor on ({IDENTITY})\n{pipeline}")


def coded(metric: str, labels: str, select: str) -> str:
    """Return a query for the status as a number: its position in STATUSES, counted from 1.

    State timelines show numbers, which `model.STATES` maps to text.
    """
    parts = [
        f'{number} * max by ({labels}) ({metric}{{{select}, status="{status}"}} == 1)'
        for number, status in enumerate(STATUSES, start=1)
    ]
    return "\nor\n".join(parts)


def ratio(part: str, whole: str) -> str:
    """Return the ratio of two expressions, without a value where `whole` is 0."""
    return f"{part}\n/\n({whole} > 0)"
