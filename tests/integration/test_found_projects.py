"""One entry of the configuration finds many projects of a cloud, and follows them as they come and go."""

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from exporter.simulator import CodeArts, InjectedFault, World, running
from tests.conftest import AGE, Cloud
from tests.drivers.process import Process, command, eventually, exporter

UP = "pipeline_exporter_project_up"
RUNS = "ci_pipeline_runs_total"
ENTRY = "account"
SEEDS = {"Payments": 11, "Search": 12, "Mobile": 13, "Legacy": 14}


@pytest.fixture
def account() -> Iterator[Cloud]:
    """An account with five projects, in a cloud whose clock runs a hundred times as fast, so that runs end in seconds."""
    base = time.time()
    start = base - AGE
    codearts = CodeArts(World(pipelines=30, start=start), clock=lambda: base + 100 * (time.time() - base))
    codearts.projects.rename(codearts.world.project_id, "First")
    for name, seed in SEEDS.items():
        codearts.projects.add(name, World(seed=seed, pipelines=4, start=start))
    with running(codearts.app) as url:
        yield Cloud(codearts, url)


def id_of(account: Cloud, name: str) -> str:
    return next(one for one, other in account.codearts.projects.names().items() if other == name)


def configuration(account: Cloud, *, state: Path | None = None, **search: Any) -> dict[str, Any]:
    entry = account.project(name=ENTRY, pipelines=[])
    del entry["project_id"]
    entry["discover_projects"] = {"endpoint": account.url, "interval": "1s", **search}
    poll = {"interval": "500ms", "active_interval": "200ms", "timeout": "2s"}
    states = {"state": {"path": str(state)}} if state else {}
    return {"poll": poll, "projects": [entry], **states}


def followed(process: Process) -> set[str]:
    """Return the names of the found projects that are up, without the entry's."""
    labels = (dict(key) for key, value in process.samples().get(UP).items() if value == 1)
    names = {one["project"] for one in labels}
    return {name.removeprefix(f"{ENTRY}/") for name in names if name != ENTRY}


def expect(process: Process, *names: str) -> None:
    eventually(lambda: followed(process) == set(names), f"projects {names}")


def entry_up(process: Process) -> float | None:
    return process.samples().value(UP, project=ENTRY)


def counted(process: Process, project: str) -> float:
    return sum(process.samples().get(RUNS, project=f"{ENTRY}/{project}").values())


ALL = ("First", *SEEDS)


def test_projects_are_found_added_renamed_and_removed(account, tmp_path):
    projects = account.codearts.projects
    start = account.codearts.world.start
    with exporter(tmp_path, configuration(account, exclude=["Legacy"])) as process:
        eventually(lambda: process.get("/-/ready").status_code == 200, "the first refresh")
        expect(process, "First", "Payments", "Search", "Mobile")
        assert entry_up(process) == 1
        assert process.samples().get("ci_pipeline_latest_run_number", project="account/Payments")

        projects.add("Data", World(seed=21, pipelines=4, start=start))
        expect(process, "First", "Payments", "Search", "Mobile", "Data")

        requests = process.samples().value(
            "pipeline_exporter_api_requests_total",
            project="account/Search",
            code="200",
            operation="ListPipelines",
        )
        projects.rename(id_of(account, "Mobile"), "Apps")
        expect(process, "First", "Payments", "Search", "Apps", "Data")
        samples = process.samples()
        assert not samples.get("ci_pipeline_latest_run_number", project="account/Mobile")
        # The other projects were not touched: their list of pipelines was not read again.
        assert requests == samples.value(
            "pipeline_exporter_api_requests_total",
            project="account/Search",
            code="200",
            operation="ListPipelines",
        )

        projects.remove(id_of(account, "Payments"))
        expect(process, "First", "Search", "Apps", "Data")


def test_counters_of_a_renamed_project_continue(account, tmp_path):
    account.codearts.projects.add("Busy", World(seed=31, pipelines=30, start=account.codearts.world.start))
    with exporter(tmp_path, configuration(account, include=["Busy", "Idle"])) as process:
        expect(process, "Busy")
        created = process.samples().get("ci_pipeline_info", project=f"{ENTRY}/Busy")
        before = eventually(lambda: counted(process, "Busy"), "a counted run")
        account.codearts.projects.rename(id_of(account, "Busy"), "Idle")
        expect(process, "Idle")
        assert len(process.samples().get("ci_pipeline_info", project=f"{ENTRY}/Idle")) == len(created)
        eventually(lambda: counted(process, "Idle") >= before, "the counters under the new name")


def test_list_that_shrinks_suddenly_is_not_believed(account, tmp_path):
    with exporter(tmp_path, configuration(account)) as process:
        expect(process, *ALL)
        account.codearts.projects_listed_share = 0.4
        eventually(lambda: entry_up(process) == 0, "a list that is not believed")
        account.codearts.projects_listed_share = 1.0
        eventually(lambda: entry_up(process) == 1, "a whole list")
        assert followed(process) == set(ALL)


def test_refused_list_takes_the_entry_down_and_keeps_the_projects(account, tmp_path):
    with exporter(tmp_path, configuration(account, interval="1s")) as process:
        expect(process, *ALL)
        account.codearts.injected_fault_operation = "ListProjectsV4"
        account.codearts.injected_fault = InjectedFault.DENIED
        eventually(lambda: entry_up(process) == 0, "a refused list")
        assert followed(process) == set(ALL)
        page = eventually(
            lambda: text if "has been down since" in (text := process.get("/").text) else "",
            "the entry on the status page",
        )
        assert "ListProjectsV4 answered 403" in page
        line = next(line for line in process.log if "project down" in line)
        assert "project=account " in line
        assert "operation=ListProjectsV4" in line
        account.codearts.injected_fault = None
        eventually(lambda: entry_up(process) == 1, "the list")


def test_found_projects_survive_a_restart_while_the_list_fails(account, tmp_path):
    state = tmp_path / "state.db"
    account.codearts.projects.add("Busy", World(seed=31, pipelines=30, start=account.codearts.world.start))
    settings = configuration(account, state=state, include=["Busy"])
    with exporter(tmp_path, settings) as process:
        expect(process, "Busy")
        eventually(lambda: counted(process, "Busy") > 0, "a counted run")
        process.stop()
    account.codearts.projects_listed_share = 0.0
    with exporter(tmp_path, settings) as process:
        expect(process, "Busy")
        assert entry_up(process) == 0


def test_two_projects_of_one_name_get_their_ids(account, tmp_path):
    projects = account.codearts.projects
    twin = projects.add("Payments", World(seed=41, pipelines=4, start=account.codearts.world.start))
    other = next(one for one, name in projects.names().items() if name == "Payments" and one != twin)
    with exporter(tmp_path, configuration(account, include=["Payments"])) as process:
        expect(process, f"Payments ({twin})", f"Payments ({other})")
        lines = [line for line in process.log if "project-name-collision" in line]
        assert len(lines) == 2


def test_reload_selects_other_projects(account, tmp_path):
    settings = configuration(account, include=["First", "Search"])
    with exporter(tmp_path, settings, "--web.enable-lifecycle") as process:
        expect(process, "First", "Search")
        settings = configuration(account, include=["Search", "Mobile"])
        (tmp_path / "config.yaml").write_text(yaml.safe_dump(settings))
        assert process.request("POST", "/-/reload").status_code == 200
        expect(process, "Search", "Mobile")


def test_projects_of_an_entry_share_its_budget(account, tmp_path):
    settings = configuration(account)
    settings["projects"][0]["rate_limit"] = {"requests_per_second": 4, "burst": 4}
    with exporter(tmp_path, settings) as process:
        expect(process, *ALL)
        limits = {
            one["requests_allowed_per_minute"] for one in process.get("/api/v1/status").json()["projects"]
        }
        assert limits == {240}


def test_commands_find_projects_too(account, tmp_path):
    file = tmp_path / "config.yaml"
    file.write_text(yaml.safe_dump(configuration(account, include=["Pay.*", "Search"])))
    code, output, _ = command("status", str(file), "--format", "json")
    assert code == 0
    assert {one["project"] for one in json.loads(output)["projects"]} >= {
        "account/Payments",
        "account/Search",
    }
    code, output, _ = command("discover", str(file))
    assert code == 0
    assert "# account/Payments: 4 pipelines" in output
    code, output, _ = command("doctor", str(file))
    assert code == 0
    assert "2 found" in output
    account.codearts.no_membership = True
    code, output, _ = command("doctor", str(file))
    assert code == 1
    assert "the user needs to be a member of each project" in output
    assert command("status", str(file))[0] == 1
    code, output, _ = command("check-config", str(file))
    assert code == 0
    assert "projects to be found" in output
