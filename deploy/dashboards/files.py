"""Render the dashboards as Grafana's classic JSON, which Grafana 11 to 13 read."""

import json
from pathlib import Path
from typing import Any

from grafana_foundation_sdk.cog.encoder import JSONEncoder

from deploy.dashboards import delivery, exporter, overview, pipeline

FOLDER = Path(__file__).parents[1] / "grafana"


def _classic(board: object) -> dict[str, Any]:
    """Return a dashboard as JSON, without the keys of the SDK that other versions of Grafana do not know."""
    found: dict[str, Any] = json.loads(JSONEncoder().encode(board))
    for variable in found["templating"]["list"]:
        for name in ("auto", "auto_min", "auto_count"):
            del variable[name]
    for link in found["links"]:
        del link["placement"]
    for panel in found["panels"]:
        panel.get("options", {}).pop("footer", None)
    found["annotations"].setdefault("list", [])
    return found


def files() -> dict[Path, str]:
    """Return the text of each dashboard, by the path of its file."""
    boards = [_classic(module.BOARD.build()) for module in (overview, pipeline, delivery, exporter)]
    return {
        FOLDER / f"{board['uid']}.json": json.dumps(board, indent=2, sort_keys=True, ensure_ascii=False)
        + "\n"
        for board in boards
    }
