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


def silent(url: str) -> set[tuple[str, str]]:
    """Return the places, as in `expressions`, of the queries without a result now; a query with an error fails."""
    return {where for where, expr in expressions() if not _rows(url, plain(expr, rate="1m", range_="5m"))}


def empty(url: str) -> set[tuple[str, str]]:
    """Return (dashboard, title) of the panels whose queries have no result now."""
    found = silent(url)
    return {
        (name, title)
        for (name, title), panel in PANELS.items()
        if all((name, f"{title} {target['refId']}") in found for target in panel["targets"])
    }


def _rows(url: str, expr: str) -> list[Any]:
    data = {"query": expr}
    answer = httpx.post(f"{url}/api/v1/query", data=data, trust_env=False, timeout=30).json()
    assert answer["status"] == "success", (expr, answer["error"])
    return [row for row in answer["data"]["result"] if row["value"][1] != "NaN"]
