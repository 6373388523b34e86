"""The configuration is reloaded: by a signal, by HTTP, and when its file changes."""

import hashlib
import os
import re
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from exporter.simulator import CodeArts, World, running
from tests.conftest import Cloud
from tests.drivers.process import Process, Samples, eventually, exporter

QUICK = {"interval": "300ms", "active_interval": "100ms", "timeout": "2s"}
SUCCESSFUL = "pipeline_exporter_config_last_reload_successful"
SUCCESS_TIME = "pipeline_exporter_config_last_reload_success_timestamp_seconds"
REQUESTS = "pipeline_exporter_api_requests_total"
RUNS = "ci_pipeline_runs_total"
COUNTERS = (RUNS, REQUESTS, "ci_pipeline_run_duration_seconds_count")


@pytest.fixture
def directory(tmp_path):
    """A folder with the configuration, as a volume of Kubernetes: `config.yaml` is a link to a link."""
    (tmp_path / "first").mkdir()
    (tmp_path / "..data").symlink_to("first")
    (tmp_path / "config.yaml").symlink_to("..data/config.yaml")
    return tmp_path


def swap(directory: Path, configuration: object) -> None:
    """Replace the configuration as Kubernetes does."""
    folder = directory / f"revision-{time.monotonic_ns()}"
    folder.mkdir()
    (folder / "config.yaml").write_text(text(configuration))
    link = directory / "..data_tmp"
    link.symlink_to(folder.name)
    link.rename(directory / "..data")


def text(configuration: object) -> str:
    return configuration if isinstance(configuration, str) else yaml.safe_dump(configuration)


def part(cloud: Cloud, name: str, first: int, last: int, **changes: Any) -> dict[str, Any]:
    """Return a project with some pipelines of the cloud."""
    pipelines = [{"id": one.id, "name": one.name} for one in cloud.codearts.world.pipelines[first:last]]
    return cloud.project(name=name, pipelines=pipelines, **changes)


def quick(*projects: dict[str, Any], **sections: Any) -> dict[str, Any]:
    return {"poll": QUICK, "projects": list(projects), **sections}


@contextmanager
def started(directory: Path, configuration: dict[str, Any], *flags: str) -> Iterator[Process]:
    """Run an exporter that has refreshed once."""
    with exporter(directory, configuration, *flags) as process:
        eventually(lambda: process.get("/-/ready").status_code == 200, "the first refresh")
        yield process


def logged(process: Process, part_of_line: str) -> list[str]:
    return [line for line in process.log if part_of_line in line]


def by_signal(process: Process, configuration: object, directory: Path) -> None:
    (directory / "config.yaml").write_text(text(configuration))
    os.kill(process.pid, signal.SIGHUP)


def by_request(process: Process, configuration: object, directory: Path) -> None:
    (directory / "config.yaml").write_text(text(configuration))
    process.request("POST", "/-/reload")


def by_file(_: Process, configuration: object, directory: Path) -> None:
    swap(directory, configuration)


@pytest.mark.parametrize("replace", [by_signal, by_request, by_file])
def test_projects_are_added_changed_and_removed_and_others_stay(
    directory: Path, cloud: Cloud, replace: Callable[[Process, object, Path], None]
) -> None:
    """The unchanged project keeps its connection and its values; the changed one has its renamed label."""
    stays = part(cloud, "stays", 0, 10)
    before = quick(stays, part(cloud, "changes", 10, 20), part(cloud, "goes", 20, 25))
    after = quick(part(cloud, "new", 25, 30), part(cloud, "changes", 10, 20, labels={"team": "a"}), stays)
    with started(directory, before, "--web.enable-lifecycle") as process:
        eventually(lambda: len(process.samples().get(RUNS, project="goes")) > 0, "counters")
        old = process.samples()
        if replace is not by_file:
            (directory / "config.yaml").unlink()
        replace(process, after, directory)

        def added() -> Samples | None:
            samples = process.samples()
            return samples if samples.get("ci_pipeline_up", project="new") else None

        new = eventually(added, "the new project is polled")
        assert process.get("/-/ready").status_code == 200
        assert not re.search(r'project="goes"', "".join(new.lines))
        assert len(new.get("ci_pipeline_info", project="changes", label_team="a")) == 10
        assert new.get("ci_pipeline_info", project="stays", label_team="a") == {}
        for project in ("stays", "changes"):
            for family in (RUNS, REQUESTS, "ci_pipeline_latest_run_number"):
                now = new.get(family, project=project)
                assert all(now[labels] >= value for labels, value in old.get(family, project=project).items())
        assert new.value(SUCCESSFUL) == 1
        assert new.value(SUCCESS_TIME) >= old.value(SUCCESS_TIME)
        page = process.get("/config").text
        assert new.value("pipeline_exporter_config_hash", hash=hashlib.sha256(page.encode()).hexdigest()) == 1
        assert len(new.get("pipeline_exporter_config_hash")) == 1
        assert yaml.safe_load(page)["projects"][0]["name"] == "new"
        (line,) = eventually(lambda: logged(process, "configuration reloaded"), "a log line")
        assert "projects: 1 added, 1 changed, 1 removed, 1 unchanged" in line
        assert logged(process, "level=error") == []


def test_file_with_faults_changes_nothing_and_each_fault_is_reported(directory: Path, cloud: Cloud) -> None:
    before = quick(part(cloud, "payments", 0, 10))
    broken = quick(
        part(cloud, "other", 0, 10, stage_time_zone="Nowhere/X", unknown=1), limits={"max_series": -1}
    )
    with started(directory, before, "--web.enable-lifecycle") as process:
        config = process.get("/config").text
        old = process.samples()
        swap(directory, broken)
        answer = process.request("PUT", "/-/reload")
        assert answer.status_code == 500
        for key in ("limits.max_series", "projects[0].unknown", "projects[0].stage_time_zone"):
            assert key in answer.text
            assert len(logged(process, key)) == 1
            assert all("id=config-reload-failed" in line for line in logged(process, key))
        assert cloud.codearts.credentials.token not in answer.text + "".join(process.log)
        new = process.samples()
        assert new.value(SUCCESSFUL) == 0
        assert new.value(SUCCESS_TIME) == old.value(SUCCESS_TIME)
        assert process.get("/config").text == config
        assert new.get("pipeline_exporter_config_hash") == old.get("pipeline_exporter_config_hash")
        cloud.codearts.requests.clear()
        eventually(lambda: cloud.codearts.requests, "polls continue")
        swap(directory, before)
        eventually(lambda: process.samples().value(SUCCESSFUL) == 1, "the file as it was is in force")


def test_reload_by_request_has_to_be_enabled(tmp_path: Path, cloud: Cloud) -> None:
    with started(tmp_path, quick(part(cloud, "payments", 0, 10))) as process:
        assert [process.request(method, "/-/reload").status_code for method in ("POST", "PUT")] == [403, 403]
        assert process.get("/-/reload").status_code == 405
        assert logged(process, "configuration reloaded") == []


def test_sections_of_all_projects_are_applied_and_the_state_path_is_not(tmp_path: Path, cloud: Cloud) -> None:
    """Counters and the latest runs stay."""
    state = {"path": str(tmp_path / "state.db")}
    before = quick(part(cloud, "payments", 0, 10), state=state)
    after = {
        "poll": {**QUICK, "interval": "400ms"},
        "metrics": {"run_status_series": "current", "created_series": True},
        "limits": {"max_pipelines": 5},
        "state": {"path": str(tmp_path / "other.db")},
        "projects": before["projects"],
    }
    with started(tmp_path, before, "--web.enable-lifecycle") as process:
        old = process.samples()
        (tmp_path / "config.yaml").write_text(text(after))
        assert process.request("POST", "/-/reload").text == "Reloaded\n"

        def applied() -> Samples | None:
            samples = process.samples()
            return samples if len(samples.get("ci_pipeline_latest_run_status")) == 5 else None

        new = eventually(applied, "the present status alone is shown, of five pipelines")
        assert new.value("pipeline_exporter_poll_interval_seconds") == 0.4
        assert all(old.get(RUNS)[labels] <= value for labels, value in new.get(RUNS).items())
        accept = {"Accept": "application/openmetrics-text"}
        assert "ci_pipeline_runs_created{" in process.get("/metrics", headers=accept).text
        (line,) = logged(process, "id=restart-needed")
        assert "field=state.path" in line
        assert yaml.safe_load(process.get("/config").text)["state"] == state
        assert not (tmp_path / "other.db").exists()


def test_pipeline_that_another_project_lists_moves_with_its_counters(tmp_path: Path, cloud: Cloud) -> None:
    """It moves even if the project that it leaves discovered it and does not change."""
    one = cloud.codearts.world.pipelines[0]
    finds_all = part(cloud, "finds", 0, 0, discover={"interval": "1h"})
    before = quick(finds_all)
    after = quick(finds_all, part(cloud, "lists", 0, 1))
    with started(tmp_path, before, "--web.enable-lifecycle") as process:
        of = {"pipeline_id": one.id, "status": "success"}
        eventually(lambda: process.samples().get(RUNS, **of), "counters")
        for configuration, owner in ((after, "lists"), (before, "finds"), (after, "lists")):
            counted = process.samples().value(RUNS, **of)
            assert counted is not None
            (tmp_path / "config.yaml").write_text(text(configuration))
            assert process.request("POST", "/-/reload").status_code == 200

            def moved(owner: str = owner, counted: float = counted) -> bool:
                value = process.samples().value(RUNS, project=owner, **of)
                return value is not None and value >= counted

            eventually(moved, f"the pipeline belongs to {owner}")
            assert len(process.samples().get(RUNS, **of)) == 1


def test_request_in_flight_ends_normally(tmp_path: Path, cloud: Cloud) -> None:
    """The request of a removed project ends, and so does a scrape."""
    with started(tmp_path, quick(part(cloud, "payments", 0, 10)), "--web.enable-lifecycle") as process:
        cloud.codearts.latency = 1.0
        cloud.codearts.requests.clear()
        eventually(lambda: cloud.codearts.in_flight, "a request is in flight")
        (tmp_path / "config.yaml").write_text(text(quick(part(cloud, "other", 10, 20))))
        with process.stream("/metrics") as scrape:
            assert process.request("POST", "/-/reload").status_code == 200
            assert b'project="payments"' in scrape.read()
        # A connection that is cut would be in the record without a status.
        assert {request.status for request in list(cloud.codearts.requests)} == {200}


class Scraper(threading.Thread):
    """Scrapes repeatedly, and collects failed scrapes and decreased counters."""

    def __init__(self, url: str) -> None:
        super().__init__(daemon=True)
        self._url = url
        self._stopping = threading.Event()
        self._greatest: dict[str, float] = {}
        self.scrapes = 0
        self.complaints: list[str] = []

    def run(self) -> None:
        with httpx.Client(trust_env=False, timeout=30) as client:
            while not self._stopping.is_set():
                answer = client.get(self._url)
                if answer.status_code != 200:
                    self.complaints.append(f"status {answer.status_code}")
                    continue
                self._check(answer.text)
                self.scrapes += 1
                self._stopping.wait(0.05)

    def _check(self, page: str) -> None:
        for line in page.splitlines():
            if line.startswith(COUNTERS):
                series, _, value = line.rpartition(" ")
                if float(value) < self._greatest.get(series, 0.0):
                    self.complaints.append(f"{series} went back to {value}")
                self._greatest[series] = float(value)

    def stop(self) -> None:
        self._stopping.set()
        self.join()


def resident(process: Process) -> float:
    """Return the resident memory in MiB."""
    status = Path(f"/proc/{process.pid}/status").read_text()
    found = re.search(r"VmRSS:\s+(\d+) kB", status)
    assert found is not None
    return int(found[1]) / 1024


def test_hundred_reloads_under_load(tmp_path: Path) -> None:
    """No scrape fails, no counter decreases, and memory and descriptors do not grow. Runs end fast in this cloud."""
    base = time.time()
    codearts = CodeArts(World(pipelines=80), clock=lambda: base + 100 * (time.time() - base))
    with running(codearts.app) as url:
        cloud = Cloud(codearts, url)
        stays = part(cloud, "stays", 0, 20)
        teams = [part(cloud, "changes", 20, 30, labels={"team": team}) for team in ("a", "b")]
        extra = [part(cloud, f"extra-{number}", 30 + 10 * number, 40 + 10 * number) for number in range(5)]
        with started(tmp_path, quick(stays, teams[0]), "--web.enable-lifecycle") as process:
            scraper = Scraper(f"http://{process.address()}/metrics")
            scraper.start()
            levels = []
            for turn in range(100):
                broken = turn % 10 == 5
                configuration = quick(*extra[: turn % 3], stays, teams[turn % 2], *extra[3 : 3 + turn % 2])
                (tmp_path / "config.yaml").write_text("projects: [" if broken else text(configuration))
                assert process.request("POST", "/-/reload").status_code == (500 if broken else 200)
                if turn % 10 == 9:
                    levels.append((resident(process), process.open_files()))
            scraper.stop()
            assert scraper.complaints == []
            assert scraper.scrapes >= 20
            (early, files), (late, more_files) = levels[2], levels[-1]
            assert late - early < 16
            assert more_files - files < 10
            assert process.samples().get("ci_pipeline_latest_run_number", project="stays")
            assert logged(process, "Traceback") == []
            # The watch of the file may reload a content as well, before the request does.
            assert len(logged(process, "configuration reloaded")) >= 90
