"""Every alert on a real Prometheus that scrapes the exporter: no alert without trouble, and an alert for each trouble.

The same holds for the queries of the dashboards: a panel without data has a text that says so.

Durations are shortened: `for` and `keep_firing_for` are removed, intervals are a second, and limits of minutes to days are
seconds. Windows stay as they are; so the recorded increases are too large, but their ratios and quantiles are right.
"""

import json
import re
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import yaml

from exporter.simulator import CodeArts, InjectedFault, Scenario, SimulatedStatus, World, running
from tests.drivers.dashboards import PANELS, TROUBLES, empty, silent
from tests.drivers.process import PATIENCE, Process, eventually, exporter
from tests.drivers.prometheus import api_get, query
from tests.drivers.rules import ALERTS, RECORDING
from tests.drivers.support import project
from tests.drivers.tools import newest
from tests.integration.test_kill import fill_disk

SHORTER = {
    r"> 7200\b": "> 5",
    r"> 14400\b": "> 5",
    r", 1800\)": ", 5)",
    r", 900\)": ", 6)",
    r"> 3 \* 86400": "> 86400",
    r"offset [13]d\b": "offset 30s",
}
NAMES = {rule["alert"] for group in yaml.safe_load(ALERTS.read_text())["groups"] for rule in group["rules"]}
FAILED, COMPLETED = SimulatedStatus.FAILED, SimulatedStatus.COMPLETED


def shortened(file: Path, folder: Path) -> str:
    """Write a copy of a rule file with shorter durations, and return its path."""
    found = yaml.safe_load(file.read_text())
    for group in found["groups"]:
        group["interval"] = "1s"
        for rule in group["rules"]:
            rule.pop("for", None)
            rule.pop("keep_firing_for", None)
            for pattern, shorter in SHORTER.items():
                rule["expr"] = re.sub(pattern, shorter, rule["expr"])
    copy = folder / file.name
    copy.write_text(yaml.safe_dump(found))
    return str(copy)


class Town:
    """Simulated clouds, one for each project, whose runs the test begins and ends."""

    def __init__(self) -> None:
        self.scenarios: dict[str, Scenario] = {}
        self.clouds: dict[str, CodeArts] = {}
        self.sections: list[dict[str, Any]] = []

    def add(self, stack: ExitStack, name: str, pipelines: int = 2, **changes: Any) -> None:
        world = World(seed=len(self.clouds) + 1, pipelines=pipelines)
        scenario = Scenario(world)
        cloud = CodeArts(world, runs=scenario)
        url = stack.enter_context(running(cloud.app))
        self.scenarios[name], self.clouds[name] = scenario, cloud
        own = {
            "name": name,
            "endpoint": url,
            "project_id": world.project_id,
            "auth": {"method": "token", "token": cloud.credentials.token},
            "pipelines": [{"id": one.id, "name": f"{name}-{n}"} for n, one in enumerate(world.pipelines)],
            "rate_limit": {"requests_per_second": 100, "burst": 100},
        }
        self.sections.append(project(**{**own, **changes}))

    def pipelines(self, name: str) -> list[str]:
        return [pipeline.id for pipeline in self.scenarios[name].world.pipelines]

    def run(
        self, name: str, number: int, status: SimulatedStatus, *, seconds: float = 30, ago: float = 0
    ) -> None:
        """Add a run of a pipeline that ended some time ago; the run that began last is the latest one."""
        scenario, end = self.scenarios[name], time.time() - ago
        begun = scenario.begin(self.pipelines(name)[number], end - seconds)
        scenario.end(begun, end, status)


class Monitor:
    """A real Prometheus with the rules."""

    def __init__(self, folder: Path) -> None:
        self._targets = folder / "targets.json"
        self.targets: list[str] = []
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        self.url = f"http://127.0.0.1:{port}"
        job = {
            "job_name": "pipeline-exporter",
            "scrape_interval": "1s",
            "scrape_timeout": "1s",
            "file_sd_configs": [{"files": [str(self._targets)], "refresh_interval": "1s"}],
        }
        configuration = {
            "global": {"evaluation_interval": "1s"},
            "rule_files": [shortened(file, folder) for file in (RECORDING, ALERTS)],
            "scrape_configs": [job],
        }
        file = folder / "prometheus.yml"
        file.write_text(yaml.safe_dump(configuration))
        self.scrape()
        self.process = subprocess.Popen(
            [
                newest("prometheus"),
                f"--config.file={file}",
                f"--storage.tsdb.path={folder / 'data'}",
                f"--web.listen-address=127.0.0.1:{port}",
            ],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

    def scrape(self, *processes: Process) -> None:
        self.targets += [process.address() for process in processes]
        # Prometheus may read the file at any moment.
        written = self._targets.with_suffix(".new")
        written.write_text(json.dumps([{"targets": self.targets}]))
        written.replace(self._targets)

    def firing(self) -> set[tuple[str, str]]:
        """Return name and project of the alerts that fire."""
        rows = query(self.url, 'ALERTS{alertstate="firing"}')
        return {(row["metric"]["alertname"], row["metric"].get("project", "")) for row in rows}

    def alerts(self) -> list[dict[str, Any]]:
        return list(api_get(self.url, "alerts")["alerts"])

    def errors(self) -> list[str]:
        """Return the error messages of all rules that failed."""
        groups = api_get(self.url, "rules")["groups"]
        return [
            f"{rule['name']}: {rule['lastError']}"
            for group in groups
            for rule in group["rules"]
            if rule.get("lastError")
        ]


def folder(path: Path) -> Path:
    path.mkdir()
    return path


@contextmanager
def monitor(path: Path) -> Iterator[Monitor]:
    found = Monitor(folder(path))
    try:
        yield found
    finally:
        found.process.terminate()
        found.process.wait(PATIENCE)


def well(stack: ExitStack) -> Town:
    """Return clouds without trouble, each prepared for its trouble later in the test."""
    town = Town()
    for name in (
        "well",
        "slow",
        "idle",
        "waiting",
        "refused",
        "throttled",
        "late",
        "broken",
        "garbled",
        "missed",
        "down",
    ):
        town.add(stack, name)
    town.add(stack, "red", pipelines=8, labels={"deploys": "production", "team": "shop"})
    town.add(stack, "stuck")
    town.add(stack, "unlisted", discover={"interval": "1s", "include": [".*"]})
    town.add(stack, "nothing", discover={"interval": "1s", "include": ["kept-.*"]})
    del town.sections[-1]["pipelines"]
    town.clouds["nothing"].renamed = {one: f"kept-{n}" for n, one in enumerate(town.pipelines("nothing"))}
    for name in ("well", "red", "stuck", "slow", "broken", "garbled"):
        town.run(name, 0, COMPLETED, ago=7200)
    town.run("slow", 1, COMPLETED, ago=7200)
    town.sections[0]["auth"]["expires"] = expiring(days=90)
    return town


def expiring(days: int) -> str:
    return (datetime.now(UTC) + timedelta(days=days)).isoformat()


def trouble(town: Town) -> None:
    """Cause the trouble of each alert."""
    now = time.time()
    for number in range(5):
        town.run("red", number, FAILED)
    for _ in range(3):
        town.run("red", 0, FAILED)
    town.run("red", 5, FAILED, ago=20)
    town.run("red", 5, COMPLETED, seconds=10)
    town.scenarios["stuck"].begin(town.pipelines("stuck")[0], now - 600)
    town.scenarios["stuck"].begin(town.pipelines("stuck")[1], now - 600)
    paused = town.scenarios["waiting"].begin(town.pipelines("waiting")[0], now - 60)
    town.scenarios["waiting"].pause(paused, now - 30)
    for _ in range(12):
        town.run("idle", 0, COMPLETED, seconds=2 * 86400)
        town.run("slow", 0, COMPLETED, seconds=900)
        town.run("slow", 1, FAILED)
    hidden = town.scenarios["missed"].begin(town.pipelines("missed")[0], now - 2)
    time.sleep(3)
    town.scenarios["missed"].begin(town.pipelines("missed")[0], time.time())
    town.scenarios["missed"].delete(hidden, time.time())
    town.clouds["down"].injected_fault = InjectedFault.SERVER_ERROR
    town.clouds["garbled"].injected_fault = InjectedFault.GARBLED
    town.clouds["refused"].credentials = replace(
        town.clouds["refused"].credentials, token="another-token-than-before"
    )
    town.clouds["throttled"].throttle = (1, 1.5)
    town.clouds["late"].latency = 8.0
    town.clouds["broken"].bad_records = {town.pipelines("broken")[0]: b"NaN"}
    town.clouds["unlisted"].deleted.add(town.pipelines("unlisted")[0])
    town.clouds["nothing"].renamed = {one: f"other-{n}" for n, one in enumerate(town.pipelines("nothing"))}


PIPELINE_ALERTS = {
    ("PipelineFailed", "red"), ("PipelineFailingRepeatedly", "red"), ("PipelinesManyRed", "red"),
    ("PipelineRunStuck", "stuck"), ("PipelineRunStuckWithoutHistory", "stuck"), ("PipelineRunWaiting", "waiting"),
    ("PipelineNotRun", "idle"), ("PipelineSuccessRatioDropped", "slow"), ("PipelineSlower", "slow"),
    ("PipelineStageSlower", "slow"),
}  # fmt: skip
EXPORTER_ALERTS = {
    ("PipelineExporterProjectDown", "down"), ("PipelineExporterCredentialsRefused", "refused"),
    ("PipelineExporterCredentialsExpiring", "expiring"), ("PipelineExporterThrottled", "throttled"),
    ("PipelineExporterStale", "late"), ("PipelineExporterRecordsRejected", "garbled"),
    ("PipelineExporterPipelinesRefused", "broken"), ("PipelineExporterRunsMissed", "missed"),
    ("PipelineExporterPipelinesNotListed", "unlisted"), ("PipelineExporterNothingSelected", "nothing"),
    ("PipelineExporterSeriesWithheld", "many"), ("PipelineExporterStateDown", ""), ("PipelineExporterShardMissing", ""),
    ("PipelineExporterShardMismatch", ""), ("PipelineExporterReloadFailed", ""),
}  # fmt: skip
GONE = ("PipelineExporterGone", "")


def wait_for(found: Callable[[], set[tuple[str, str]]], wanted: set[tuple[str, str]]) -> None:
    deadline = time.monotonic() + 3 * PATIENCE
    while missing := wanted - found():
        assert time.monotonic() < deadline, f"do not fire: {sorted(missing)}"
        time.sleep(0.5)


def test_each_alert_fires_on_a_real_prometheus_in_its_trouble_and_not_before(tmp_path):
    assert {name for name, _ in PIPELINE_ALERTS | EXPORTER_ALERTS | {GONE}} == NAMES
    poll = {"interval": "1s", "active_interval": "1s"}
    with ExitStack() as stack:
        town = well(stack)
        exporters = stack.enter_context(ExitStack())
        others = Town()
        others.add(stack, "many", pipelines=6)
        others.add(stack, "expiring")
        others.sections[-1]["auth"]["expires"] = expiring(days=1)
        shared = {"poll": poll, "projects": others.sections, "limits": {"max_series": 50}}
        full = exporters.enter_context(
            exporter(
                folder(tmp_path / "full"),
                {**shared, "state": {"path": str(tmp_path / "state.db")}},
                "--shard.index=0",
                "--shard.total=3",
            )
        )
        other = exporters.enter_context(
            exporter(folder(tmp_path / "other"), shared, "--shard.index=1", "--shard.total=2")
        )
        links = {"run_info_labels": ["trigger", "branch", "url"]}
        configuration = {"poll": poll, "metrics": links, "projects": town.sections}
        first = exporters.enter_context(exporter(tmp_path, configuration))
        for process in (first, full, other):
            process.address()
        prometheus = stack.enter_context(monitor(tmp_path / "prometheus"))
        prometheus.scrape(first)
        eventually(lambda: query(prometheus.url, "pipeline:ci_pipeline_runs:increase1d"), "rules record")
        eventually(
            lambda: query(prometheus.url, "count(pipeline:ci_pipeline_up:blind) or vector(0)"),
            "rules are evaluated",
        )
        for _ in range(5):
            town.run("slow", 0, COMPLETED, ago=3600)
            town.run("slow", 1, COMPLETED, ago=3600)
            # The first observation of a stage comes with its series, so it is no increase.
            time.sleep(2)
        town.run("stuck", 0, COMPLETED, ago=3600)
        time.sleep(25)
        assert prometheus.firing() == set()
        quiet = empty(prometheus.url)
        assert quiet >= TROUBLES
        assert not {key for key in quiet if not PANELS[key]["fieldConfig"]["defaults"].get("noValue")}
        assert all(PANELS[key]["fieldConfig"]["defaults"]["noValue"] == "none" for key in TROUBLES)

        trouble(town)
        # These exporters have their trouble from the start.
        prometheus.scrape(full, other)
        eventually(lambda: full.samples().value("pipeline_exporter_state_up") == 1, "the state is saved")
        fill_disk(full)
        (tmp_path / "full" / "config.yaml").write_text("projects: []")
        for number in range(6):
            others.run("many", number, COMPLETED)

        fired: set[tuple[str, str]] = set()
        texts: dict[tuple[str, str], str] = {}

        def seen() -> set[tuple[str, str]]:
            texts.update(
                {
                    (one["labels"]["alertname"], one["labels"].get("project", "")): one["annotations"][
                        "description"
                    ]
                    for one in prometheus.alerts()
                }
            )
            fired.update(prometheus.firing())
            return fired

        wait_for(seen, PIPELINE_ALERTS | EXPORTER_ALERTS)
        # A machine that is overloaded may evaluate a rule twice for one timestamp; a wrong rule fails every time.
        eventually(lambda: not prometheus.errors(), "no rule fails")
        assert not {name for name, project in fired if project == "well"}
        eventually(lambda: not silent(prometheus.url), "every query of the dashboards returns series")
        stage = r' in stage( "[^"]+")+\. It has been red since 20\d\d-.*'
        assert re.match(
            rf"Pipeline red-\d \(project red\) is red: run \d on branch \S+ failed{stage}",
            texts["PipelineFailed", "red"],
        )
        assert " Cause: " in texts["PipelineExporterProjectDown", "down"]

        exporters.close()
        wait_for(prometheus.firing, {GONE, ("PipelineFailed", "red")})
