"""One answer has a run with a wild number: later runs count, and none is missed, with a real process on both clouds."""

import time
from dataclasses import replace
from typing import Any

import pytest

from exporter.simulator import CodeArts, Flow, Scenario, Status, World, running
from exporter.simulator.world.runs import Run
from tests.drivers.process import Process, eventually, exporter
from tests.drivers.support import project

RUNS, MORE = 6, 4

KNOWN, NEW = 3, 4
"""The numbers of the last run at first sight, and of the next one."""


class Misreported(Scenario):
    """A story one of whose runs is reported once with a number that is not its own."""

    def __init__(self, number: int, wild: int) -> None:
        super().__init__(World(pipelines=1))
        self.waiting = {number: wild}

    @property
    def pipeline(self) -> str:
        """The id of the only pipeline."""
        return self.world.pipelines[0].id

    def reported(self, run: Run) -> Run:
        wild = self.waiting.pop(run.number, None)
        return run if wild is None else replace(run, number=wild)

    def pass_by(self, ago: float = 0.0) -> None:
        """Let a run begin and end at once, so many seconds ago."""
        now = time.time() - ago
        self.end(self.begin(self.pipeline, now), now, Status.COMPLETED)


def configuration(story: Misreported, cloud: CodeArts | Flow, url: str, state: str) -> dict[str, Any]:
    if isinstance(cloud, CodeArts):
        own: dict[str, Any] = {
            "project_id": story.world.project_id,
            "auth": {"method": "token", "token": cloud.credentials.token},
            "pipelines": [story.pipeline],
        }
    else:
        own = {
            "provider": "flow",
            "organization_id": cloud.organization_id,
            "auth": {"method": "yunxiao_token", "token": cloud.credentials.personal_token},
            "pipelines": [cloud.pipeline_id(story.pipeline)],
        }
    entry = {**project(endpoint=url, rate_limit={"requests_per_second": 1000, "burst": 1000}), **own}
    if isinstance(cloud, Flow):
        del entry["project_id"]
    return {
        "poll": {"interval": "200ms", "active_interval": "100ms"},
        "state": {"path": state},
        "projects": [entry],
    }


def counted(process: Process) -> int:
    """Return how many runs were counted, none of which may have been missed."""
    samples = process.samples()
    assert samples.value("ci_pipeline_runs_missed_total") in {None, 0}
    return int(sum(samples.get("ci_pipeline_runs_total").values()))


@pytest.mark.parametrize(
    ("kind", "reported", "wild", "extra"),
    [
        (CodeArts, KNOWN, 45, 0),
        (CodeArts, KNOWN, 10**6, 0),
        (CodeArts, KNOWN, 2**53 - 1, 0),
        (CodeArts, NEW, 45, 0),
        (CodeArts, NEW, 10**6, 0),
        # Here the number is the id, and this one is too near to be doubted: a run that never was is counted.
        (Flow, KNOWN, 45, 1),
        (Flow, KNOWN, 10**6, 0),
        (Flow, NEW, 2**53 - 1, 0),
    ],
    ids=lambda value: getattr(value, "__name__", str(value)),
)
def test_later_runs_count_after_one_wild_number(tmp_path, kind, reported, wild, extra):
    story = Misreported(reported, wild)
    cloud = kind(story.world, runs=story)
    cloud.page_limit = KNOWN - 1
    for _ in range(KNOWN):
        # In a list of several pages with runs older than a week, what is wanted is missed at once.
        story.pass_by(8 * 86_400)
    honest, story.waiting = story.waiting, {}
    with running(cloud.app) as url:
        settings = configuration(story, cloud, url, str(tmp_path / "state.db"))
        with exporter(tmp_path, settings) as process:
            eventually(lambda: process.samples().value("ci_pipeline_has_run") == 1, "the first run is known")
            assert counted(process) == 0
            story.waiting = honest
            if reported == NEW:
                story.pass_by()
            eventually(lambda: not story.waiting, "the run is misreported")
            for _ in range(RUNS - (reported == NEW)):
                story.pass_by()
                time.sleep(0.3)  # more than an interval: most runs are seen as the latest
            eventually(lambda: counted(process) >= RUNS + extra, "all runs are counted")
            assert counted(process) == RUNS + extra
        with exporter(tmp_path, settings) as process:
            eventually(lambda: process.samples().value("ci_pipeline_has_run") == 1, "it polls again")
            for _ in range(MORE):
                story.pass_by()
                time.sleep(0.3)
            eventually(lambda: counted(process) >= RUNS + extra + MORE, "all runs are counted")
            assert counted(process) == RUNS + extra + MORE
