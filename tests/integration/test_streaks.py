"""Failure streaks from the first metrics page on: a real process on simulated clouds, compared with their runs."""

import json
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from exporter.simulator import CodeArts, Flow, Scenario, SimulatedStatus, World, running
from tests.drivers.process import Process, Samples, command, eventually
from tests.soak import projects

COMPLETED, FAILED, CANCELED = (
    SimulatedStatus.COMPLETED,
    SimulatedStatus.FAILED,
    SimulatedStatus.CANCELED,
)
METRICS = (
    "ci_pipeline_consecutive_failures",
    "ci_pipeline_broken_since_timestamp_seconds",
    "ci_pipeline_last_success_timestamp_seconds",
)

Streaks = dict[str, tuple[float | None, ...]]
"""(number of failures, end of the first failure, last success) by pipeline name."""


class Stage:
    """A cloud with pipelines that are red for different reasons, and their true streaks."""

    def __init__(self, name: str) -> None:
        self.begin = float(int(time.time()) - 20_000)
        self.scenario = Scenario(World(pipelines=5))
        world = self.scenario.world
        self.names = [pipeline.name for pipeline in world.pipelines]
        kind = CodeArts if name == "codearts" else Flow
        self.cloud: CodeArts | Flow = kind(world, clock=time.time, runs=self.scenario)
        self.truth: Streaks = {
            # Green.
            self.play(0, [FAILED, FAILED, COMPLETED]): (0, None, self.end(2)),
            # Red for longer than a small page of the list.
            self.play(1, [COMPLETED] * 5 + [FAILED] * 54): (54, self.end(5), self.end(4)),
            # Red behind a canceled run and one in progress.
            self.play(2, [COMPLETED, FAILED, CANCELED, FAILED, CANCELED, None]): (
                2,
                self.end(1),
                self.end(0),
            ),
            # Never green.
            self.play(3, [FAILED] * 3): (3, self.end(0), None),
            # Red around a canceled run.
            self.play(4, [COMPLETED, FAILED, CANCELED, FAILED]): (2, self.end(1), self.end(0)),
        }

    def end(self, index: int) -> float:
        """Return when the run at that index ended."""
        return self.begin + 100 * index + 60

    def play(self, pipeline: int, ends: Sequence[SimulatedStatus | None]) -> str:
        """Create a run for each final status, unfinished for None; return the pipeline's name."""
        found = self.scenario.world.pipelines[pipeline]
        for index, status in enumerate(ends):
            run = self.scenario.begin(found.id, self.begin + 100 * index)
            if status is not None:
                self.scenario.end(run, self.end(index), status)
        return found.name

    def write(self, directory: Path, url: str, **settings: Any) -> str:
        """Write the configuration; return its path."""
        free = {"requests_per_second": 100_000, "burst": 100_000}
        project = {"name": "one", "endpoint": url, "rate_limit": free, **next(projects(self.cloud))}
        file = directory / "config.yaml"
        poll = {"interval": "1s", "active_interval": "1s"}
        file.write_text(json.dumps({"poll": poll, "projects": [project], **settings}))
        return str(file)


def streaks(samples: Samples) -> Streaks:
    """Return the streaks of a page; metrics without a value are None."""
    found = [
        {dict(labels)["pipeline_id"]: value for labels, value in samples.get(name).items()}
        for name in METRICS
    ]
    names = {
        dict(labels)["pipeline_id"]: dict(labels)["pipeline"] for labels in samples.get("ci_pipeline_info")
    }
    return {
        name: tuple(values.get(identity) for values in found)
        for identity, name in names.items()
        if any(identity in values for values in found)
    }


@pytest.fixture(params=["codearts", "flow"])
def stage(request: pytest.FixtureRequest) -> Stage:
    return Stage(request.param)


def test_once_prints_true_streaks(stage: Stage, tmp_path: Path) -> None:
    with running(stage.cloud.app) as url:
        code, output, errors = command("once", "--config.file", stage.write(tmp_path, url))
    assert code == 0, errors
    assert streaks(Samples(output)) == stage.truth


def test_streaks_are_true_again_after_a_kill_without_a_state(stage: Stage, tmp_path: Path) -> None:
    """A page shows true streaks or no streaks."""
    with running(stage.cloud.app) as url:
        arguments = [
            "run",
            "--config.file",
            stage.write(tmp_path, url),
            "--web.listen-address",
            "127.0.0.1:0",
        ]
        for _ in range(2):
            process = Process(arguments)
            try:

                def all_shown(process: Process = process) -> bool:
                    shown = streaks(process.samples())
                    assert shown.items() <= stage.truth.items()
                    return len(shown) == len(stage.truth)

                eventually(all_shown, "all streaks are shown")
            finally:
                process.kill()
                process.wait()


def test_flow_list_without_statuses_costs_at_most_twenty_details_a_pipeline(tmp_path: Path) -> None:
    """Beyond them the number of failures is a lower bound, and the last success is absent."""
    stage = Stage("flow")
    assert isinstance(stage.cloud, Flow)
    stage.cloud.run_status = False
    with running(stage.cloud.app) as url:
        code, output, errors = command("once", "--config.file", stage.write(tmp_path, url))
    assert code == 0, errors
    shown = streaks(Samples(output))
    red = stage.names[1]
    failures, since, success = shown.pop(red)
    details = Counter(
        call.pipeline_ids for call in stage.cloud.requests if call.operation == "GetPipelineRun"
    )
    # The poll requested the details of the latest run, too.
    assert max(details.values()) == 1 + 20
    assert (failures, since, success) == (20, stage.end(39), None)
    del stage.truth[red]
    assert shown == stage.truth
