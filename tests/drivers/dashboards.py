"""The dashboards as Grafana reads them, and their queries as Prometheus reads them."""

import json
import re
from pathlib import Path
from typing import Any

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
    """Return a query with values in place of its variables, which are all `All` except for the pipeline."""
    values = {"$__rate_interval": rate, "$__range": range_, "$pipeline": pipeline}
    for name, value in values.items():
        expr = expr.replace(name, value)
    return re.sub(r"\$(provider|project|team)\b", ".*", expr)


def expressions() -> list[tuple[str, str]]:
    """Return where each query of the dashboards is, and the query; those of annotations too."""
    found = [
        (f"{name}: {panel['title']} {target['refId']}", target["expr"])
        for (name, _), panel in PANELS.items()
        for target in panel["targets"]
    ]
    return found + [
        (f"{name}: annotation {one['name']}", one["expr"])
        for name, board in BOARDS.items()
        for one in board["annotations"]["list"]
    ]
