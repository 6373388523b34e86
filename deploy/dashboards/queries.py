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
    """Return a selector of the chosen pipelines' series."""
    return f"{metric}{{{', '.join((PIPELINE, *more))}}}"


def projects(metric: str, *more: str) -> str:
    """Return a selector of the chosen projects' series."""
    return f"{metric}{{{', '.join((PROJECT, *more))}}}"


def both(expr: str, other: str) -> str:
    """Return an expression for the pipelines that another one has as well."""
    return f"(\n{indent(expr, '  ')}\n)\nand on ({IDENTITY})\n(\n{indent(other, '  ')}\n)"


def of_team(expr: str) -> str:
    """Return an expression for the pipelines of the chosen teams."""
    return f'(\n{indent(expr, "  ")}\n)\nand on ({IDENTITY}) {INFO}{{label_team=~"$team"}}'


def by(labels: str, expr: str, how: str = "max") -> str:
    """Return an aggregation."""
    return f"{how} by ({labels}) (\n{indent(expr, '  ')}\n)"


def first(labels: str, expr: str) -> str:
    """Return one series of each pipeline, with more labels."""
    one = f"topk by ({IDENTITY}) (1,\n{indent(expr, '  ')}\n)"
    return by(f"{NAMES}, {labels}", one)


def page(of: str, kind: str) -> str:
    """Return the page of a run or, without one, of the pipeline, for the pipelines of an expression."""
    run = both(pipelines(f"ci_pipeline_{kind}_info", 'url!=""'), of)
    pipeline = both(pipelines(INFO, 'url!=""'), of)
    return first("url", f"{run}\nor on ({IDENTITY})\n{pipeline}")


def coded(metric: str, labels: str, select: str) -> str:
    """Return the number of the status that is 1, counted from 1 in the order of STATUSES.

    State timelines show a number for each moment and translate it.
    """
    parts = [
        f'{number} * max by ({labels}) ({metric}{{{select}, status="{status}"}} == 1)'
        for number, status in enumerate(STATUSES, start=1)
    ]
    return "\nor\n".join(parts)


def ratio(part: str, whole: str) -> str:
    """Return a ratio, and nothing where nothing happened."""
    return f"{part}\n/\n({whole} > 0)"
