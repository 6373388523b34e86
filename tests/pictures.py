"""Take the pictures of the status page in docs/images, of the demo's clouds in a headless Chromium: `make pictures`.

With 100 pipelines it takes a few minutes. With `--pipelines 10000` it takes about ten, and only two pictures: they show
that the page stays readable.
"""

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import msgspec

from exporter.app.demo import Clouds, Simulation
from exporter.simulator import Drill, Trouble, running
from tests.drivers.browser import Browser, browser
from tests.drivers.process import Process, exporter

IMAGES = Path(__file__).parents[1] / "docs" / "images"
PATIENCE = 1200.0
"""Seconds for a first refresh of 10,000 pipelines, of which Flow takes one request each."""
DOWN_FOR = 75.0
"""Seconds that a project is down before a picture is taken."""


class Picture(msgspec.Struct, frozen=True):
    """A picture of a page, in a window of so many pixels."""

    name: str
    width: int
    height: int
    dark: bool = False
    of_pipeline: bool = False
    """Whether it shows the page of the first red pipeline instead of the overview."""


HEALTHY = (
    Picture("status-healthy", 1600, 1000),
    Picture("status-pipeline", 1280, 1100, of_pipeline=True),
)
DOWN = (
    Picture("status-down", 1600, 1000),
    Picture("status-dark", 1600, 1000, dark=True),
    Picture("status-phone", 390, 844),
)
MANY_DOWN = (
    Picture("status-many", 1600, 1000),
    Picture("status-many-phone", 390, 844),
)
MANY = 1000
"""Pipelines from which on the pictures are those of a large exporter."""


def take(window: Browser, process: Process, picture: Picture) -> None:
    """Take one picture."""
    path = "/"
    if picture.of_pipeline:
        red = process.get("/api/v1/status").json()["red"][0]
        path = f"/pipeline?project={red['project']}&pipeline_id={red['pipeline_id']}"
    window.show(picture.width, picture.height, dark=picture.dark)
    window.open(f"http://{process.address()}{path}")
    window.picture(IMAGES / f"{picture.name}.png")


def wait(condition: Callable[[], bool]) -> None:
    """Wait for a condition.

    Raises:
        TimeoutError: it did not become true.

    """
    end = time.monotonic() + PATIENCE
    while not condition():
        if time.monotonic() > end:
            raise TimeoutError
        time.sleep(1)


def main() -> None:
    """Take all pictures for a number of pipelines."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--pipelines", type=int, default=100)
    pipelines: int = parser.parse_args().pipelines
    healthy, down = ((), MANY_DOWN) if pipelines >= MANY else (HEALTHY, DOWN)
    clouds = Clouds(Simulation(pipelines=pipelines // 2, seed=1, trouble=None, after=0, duration=None))
    drill = Drill([clouds.codearts], time.time)
    with running(clouds.app) as url, tempfile.TemporaryDirectory() as folder:
        config = clouds.configuration(url)
        config["projects"][0]["name"], config["projects"][1]["name"] = "payments", "mobile"
        with exporter(Path(folder), config) as process, browser() as window:

            def projects() -> list[bool | None]:
                return [one["up"] for one in process.get("/api/v1/status").json()["projects"]]

            wait(lambda: all(projects()))
            for picture in healthy:
                take(window, process, picture)
            drill.plan(Trouble("expired-token"), 0, None)
            wait(lambda: False in projects())
            time.sleep(DOWN_FOR)
            for picture in down:
                take(window, process, picture)


if __name__ == "__main__":
    main()
