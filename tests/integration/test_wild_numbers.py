"""One response has an implausible run number: later runs count and none is missed, in a real process on both clouds."""

import time
from dataclasses import replace
from typing import Any

import pytest

from exporter.simulator import CodeArts, Flow, Scenario, SimulatedStatus, World, running
from exporter.simulator.world.runs import RunSnapshot
from tests.drivers.process import Process, eventually, exporter
from tests.drivers.support import project

RUNS, MORE = 6, 4

KNOWN, NEW = 3, 4
"""Numbers of the last run before the first poll, and of the next one."""


class MisreportingScenario(Scenario):
    """A scenario that reports one run once with a wrong number."""

    def __init__(self, number: int, wild: int) -> None:
        super().__init__(World(pipelines=1))
        self.pending = {number: wild}

    @property
    def pipeline(self) -> str:
        """Id of the only pipeline."""
        return self.world.pipelines[0].id

    def apply_misreport(self, run: RunSnapshot) -> RunSnapshot:
        wild = self.pending.pop(run.number, None)
        return run if wild is None else replace(run, number=wild)

    def run_once(self, ago: float = 0.0) -> None:
        """Begin and end a run, `ago` seconds before now."""
        now = time.time() - ago
        self.end(self.begin(self.pipeline, now), now, SimulatedStatus.COMPLETED)


def configuration(
    scenario: MisreportingScenario, cloud: CodeArts | Flow, url: str, state: str
) -> dict[str, Any]:
    if isinstance(cloud, CodeArts):
        own: dict[str, Any] = {
            "project_id": scenario.world.project_id,
            "auth": {"method": "token", "token": cloud.credentials.token},
            "pipelines": [scenario.pipeline],
        }
    else:
        own = {
            "provider": "flow",
            "organization_id": cloud.organization_id,
            "auth": {"method": "yunxiao_token", "token": cloud.credentials.personal_token},
            "pipelines": [cloud.pipeline_id(scenario.pipeline)],
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
    """Return the number of counted runs; none may be missed."""
    samples = process.samples()
    assert samples.value("ci_pipeline_runs_missed_total") in {None, 0}
    return int(sum(samples.get("ci_pipeline_runs_total").values()))


@pytest.mark.parametrize(
    ("cloud_class", "misreported_number", "wild", "extra"),
    [
        (CodeArts, KNOWN, 45, 0),
        (CodeArts, KNOWN, 10**6, 0),
        (CodeArts, KNOWN, 2**53 - 1, 0),
        (CodeArts, NEW, 45, 0),
        (CodeArts, NEW, 10**6, 0),
        # Flow identifies runs by number, and this number is too close to be suspicious, so a nonexistent run is
        # counted.
        (Flow, KNOWN, 45, 1),
        (Flow, KNOWN, 10**6, 0),
        (Flow, NEW, 2**53 - 1, 0),
    ],
    ids=lambda value: getattr(value, "__name__", str(value)),
)
def test_later_runs_count_after_one_wild_number(tmp_path, cloud_class, misreported_number, wild, extra):
    scenario = MisreportingScenario(misreported_number, wild)
    cloud = cloud_class(scenario.world, runs=scenario)
    cloud.page_limit = KNOWN - 1
    for _ in range(KNOWN):
        # With several pages and runs older than a week, the exporter gives up an unreadable run at once.
        scenario.run_once(8 * 86_400)
    pending, scenario.pending = scenario.pending, {}
    with running(cloud.app) as url:
        settings = configuration(scenario, cloud, url, str(tmp_path / "state.db"))
        with exporter(tmp_path, settings) as process:
            eventually(lambda: process.samples().value("ci_pipeline_has_run") == 1, "the first run is known")
            assert counted(process) == 0
            scenario.pending = pending
            if misreported_number == NEW:
                scenario.run_once()
            eventually(lambda: not scenario.pending, "the run is misreported")
            for _ in range(RUNS - (misreported_number == NEW)):
                scenario.run_once()
                time.sleep(0.3)  # more than an interval: most runs are seen as the latest
            eventually(lambda: counted(process) >= RUNS + extra, "all runs are counted")
            assert counted(process) == RUNS + extra
        with exporter(tmp_path, settings) as process:
            eventually(lambda: process.samples().value("ci_pipeline_has_run") == 1, "it polls again")
            for _ in range(MORE):
                scenario.run_once()
                time.sleep(0.3)
            eventually(lambda: counted(process) >= RUNS + extra + MORE, "all runs are counted")
            assert counted(process) == RUNS + extra + MORE
