"""Draw a dashboard from a Prometheus: `python -m deploy.dashboards.preview overview picture.png --url http://127.0.0.1:9090`.

Chromium makes the picture. Without a time, the dashboard is drawn as of now.
"""

import argparse
import subprocess
import time
from pathlib import Path
from tempfile import TemporaryDirectory

from deploy.dashboards.files import FOLDER
from deploy.dashboards.preview.page import COLUMN, GAP, LINE, Moment, page, read

SPANS = {"overview": 24, "pipeline": 24, "delivery": 24 * 30, "exporter": 6}
"""The usual time range of each dashboard in hours."""


def main() -> None:
    """Write a picture of a dashboard."""
    parser = argparse.ArgumentParser(prog="python -m deploy.dashboards.preview", description=__doc__)
    parser.add_argument("dashboard", choices=SPANS)
    parser.add_argument("picture", type=Path)
    parser.add_argument("--url", default="http://127.0.0.1:9090", help="of Prometheus")
    parser.add_argument(
        "--time", type=float, default=time.time(), help="end of the time range, in Unix seconds"
    )
    parser.add_argument("--hours", type=float, help="length of the time range")
    parser.add_argument("--pipeline", default=".*", help="name of a pipeline")
    parser.add_argument("--theme", choices=["dark", "light"], default="dark")
    parser.add_argument("--lines", type=int, default=1000, help="how many lines of panels to draw")
    flags = parser.parse_args()
    hours = flags.hours or SPANS[flags.dashboard]
    variables = {"provider": ".*", "project": ".*", "team": ".*", "pipeline": flags.pipeline}
    moment = Moment(flags.url, flags.time, hours * 3600, variables)
    board = read(FOLDER / f"pipeline-exporter-{flags.dashboard}.json")
    places = [panel["gridPos"] for panel in board["panels"] if panel["gridPos"]["y"] < flags.lines]
    height = max(place["y"] + place["h"] for place in places) * (LINE + GAP) + 70
    with TemporaryDirectory() as folder:
        file = Path(folder) / "page.html"
        file.write_text(page(board, moment, flags.theme, lines=flags.lines), encoding="utf-8")
        subprocess.run(  # noqa: S603 our own page
            [  # noqa: S607 the one on the PATH
                "chromium",
                "--headless",
                "--no-sandbox",
                "--disable-gpu",
                "--hide-scrollbars",
                f"--user-data-dir={folder}/profile",
                f"--window-size={24 * (COLUMN + GAP) + 24},{height}",
                f"--screenshot={flags.picture.resolve()}",
                file.as_uri(),
            ],
            check=True,
            capture_output=True,
            timeout=120,
        )


main()
