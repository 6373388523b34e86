"""The generated dashboards, and their queries with variables replaced, as Prometheus gets them."""

import json
import re
from pathlib import Path
from typing import Any

import httpx

FOLDER = Path(__file__).parents[2] / "deploy" / "grafana"
BOARDS: dict[str, dict[str, Any]] = {
    path.stem.removeprefix("pipeline-exporter-"): json.loads(path.read_text(encoding="utf-8"))
    for path in sorted(FOLDER.glob("*.json"))
}
Panel = dict[str, Any]


def panels(name: str) -> list[Panel]:
    """Return the panels of a dashboard that show data."""
    return [panel for panel in BOARDS[name]["panels"] if panel["type"] not in {"row", "text"}]


PANELS = {(name, panel["title"]): panel for name in BOARDS for panel in panels(name)}


def plain(expr: str, *, pipeline: str = ".*", rate: str = "5m", range_: str = "1d") -> str:
    """Return a query with its variables replaced; provider, project and team match everything."""
    values = {"$__rate_interval": rate, "$__range": range_, "$pipeline": pipeline}
    for name, value in values.items():
        expr = expr.replace(name, value)
    return re.sub(r"\$(provider|project|team)\b", ".*", expr)


def expressions() -> list[tuple[tuple[str, str], str]]:
    """Return each query of panels and annotations, after (dashboard, title with the letter of the query)."""
    found = [
        ((name, f"{panel['title']} {target['refId']}"), target["expr"])
        for (name, _), panel in PANELS.items()
        for target in panel["targets"]
    ]
    return found + [
        ((name, f"annotation {one['name']}"), one["expr"])
        for name, board in BOARDS.items()
        for one in board["annotations"]["list"]
    ]


TROUBLES = {
    ("exporter", title)
    for title in (
        "Projects down", "Credentials refused", "Down now", "Errors of the clouds", "Throttling", "Rejected records",
        "Runs missed",
    )
}  # fmt: skip
"""Panels that show trouble of the exporter alone: without any, they say so. Polls are skipped on a slow machine too."""


def silent(url: str, *, rate: str = "1m", range_: str = "5m", **when: float) -> set[tuple[str, str]]:
    """Return the places, as in `expressions`, of the queries without a result; a query with an error fails.

    `when` is `time`, by default now, or `start`, `end` and `step`.
    """
    return {
        where
        for where, expr in expressions()
        if not _rows(url, plain(expr, rate=rate, range_=range_), **when)
    }


def empty(url: str, **when: Any) -> set[tuple[str, str]]:
    """Return (dashboard, title) of the panels whose queries have no result; arguments as for `silent`."""
    found = silent(url, **when)
    return {
        (name, title)
        for (name, title), panel in PANELS.items()
        if all((name, f"{title} {target['refId']}") in found for target in panel["targets"])
    }


def _rows(url: str, expr: str, **when: float) -> list[Any]:
    path = "query_range" if "start" in when else "query"
    data = {"query": expr, **when}
    answer = httpx.post(f"{url}/api/v1/{path}", data=data, trust_env=False, timeout=30).json()
    assert answer["status"] == "success", (expr, answer["error"])
    return [
        row
        for row in answer["data"]["result"]
        if any(value != "NaN" for _, value in row.get("values") or [row["value"]])
    ]
