"""Several projects of a simulated CodeArts account, and their list."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.simulator import Scenario, World
from tests.marks import examples
from tests.unit.simulator.test_codearts import WORLD, Desk

ROW: dict[str, Any] = {
    "project_num_id": int,
    "project_id": str,
    "project_name": str,
    "description": str,
    "created_time": int,
    "updated_time": int,
    "project_type": str,
    "creator": dict,
}
NO_PROJECT = {"error_code": "DEVPIPE.00011412", "error_msg": "The project does not exist"}


def small(seed: int) -> World:
    return World(seed=seed, pipelines=4, start=WORLD.start)


OTHER = small(8)


@pytest.fixture
def desk() -> Desk:
    """A cloud with a second project."""
    desk = Desk()
    desk.cloud.projects.add("Payments", OTHER)
    return desk


def listed(desk: Desk, offset: object = 0, limit: object = 100) -> Any:
    response = desk.request("GET", f"/v4/projects?offset={offset}&limit={limit}")
    assert response.status_code == 200
    return response.json()


def names(desk: Desk) -> dict[str, str]:
    rows = listed(desk)["projects"]
    return {row["project_id"]: row["project_name"] for row in rows}


def batch(desk: Desk, world: World) -> Any:
    path = f"/v5/{world.project_id}/api/pipelines/status"
    return desk.request("POST", path, json=[pipeline.id for pipeline in world.pipelines]).json()


def test_row_has_the_documented_fields(desk: Desk) -> None:
    answer = listed(desk)
    assert list(answer) == ["projects", "total"]
    assert answer["total"] == 2
    for row in answer["projects"]:
        assert list(row) == list(ROW)
        for key, kind in ROW.items():
            assert isinstance(row[key], kind), key
        assert row["creator"]["domain_id"] == WORLD.domain_id
    request = desk.cloud.requests[-1]
    assert (request.operation, request.status) == ("ListProjectsV4", 200)


def test_newest_project_comes_first(desk: Desk) -> None:
    rows = listed(desk)["projects"]
    assert [row["project_id"] for row in rows] == [OTHER.project_id, WORLD.project_id]
    assert rows[0]["created_time"] > rows[1]["created_time"]


def test_projects_can_be_added_renamed_and_removed(desk: Desk) -> None:
    projects = desk.cloud.projects
    third = projects.add("Shop", small(9))
    projects.rename(third, "Store")
    projects.rename(WORLD.project_id, "First")
    expected = {WORLD.project_id: "First", OTHER.project_id: "Payments", third: "Store"}
    assert names(desk) == projects.names() == expected
    projects.remove(OTHER.project_id)
    assert names(desk) == {WORLD.project_id: "First", third: "Store"}


def test_two_projects_cannot_have_the_same_ids(desk: Desk) -> None:
    with pytest.raises(ValueError, match="seed 8"):
        desk.cloud.projects.add("Twin", small(8))


@examples(40)
@given(st.integers(0, 12), st.integers(1, 5))
def test_pages_of_any_size_contain_every_project_once(count: int, limit: int) -> None:
    desk = Desk(small(7))
    for seed in range(count):
        desk.cloud.projects.add(f"project {seed}", small(100 + seed))
    seen: list[str] = []
    offset = 0
    while rows := listed(desk, offset, limit)["projects"]:
        assert len(rows) <= limit
        seen += [row["project_id"] for row in rows]
        offset += limit
    assert seen == list(desk.cloud.projects.names())[::-1]


@pytest.mark.parametrize(
    "query",
    [
        "",
        "offset=0",
        "limit=10",
        "offset=5&limit=10",
        "offset=-1&limit=1",
        "offset=10001&limit=1",
        "offset=0&limit=0",
        "offset=0&limit=1001",
        "offset=x&limit=1",
        "offset=0&limit=",
        "offset=%D9%A1&limit=1",
    ],
)
def test_invalid_page_is_an_error(desk: Desk, query: str) -> None:
    response = desk.request("GET", f"/v4/projects?{query}")
    assert response.status_code == 400
    assert response.json().keys() == {"error_code", "error_msg"}
    assert response.json()["error_code"].startswith("PM.")


def test_largest_page_is_accepted_and_reduced(desk: Desk) -> None:
    desk.cloud.page_limit = 1
    answer = listed(desk, 0, 1000)
    assert (len(answer["projects"]), answer["total"]) == (1, 2)
    assert listed(desk, 10_000, 1000)["projects"] == []


def test_list_needs_credentials(desk: Desk) -> None:
    path = "/v4/projects?offset=0&limit=10"
    assert desk.request("GET", path, headers={}).status_code == 401
    assert desk.request("GET", path, headers={"X-Auth-Token": "wrong"}).json()["error_code"] == "APIGW.0301"
    assert desk.sign("GET", path, desk.cloud.credentials).status_code == 200


def test_user_without_membership_sees_no_project(desk: Desk) -> None:
    desk.cloud.no_membership = True
    assert listed(desk) == {"projects": [], "total": 0}
    assert batch(desk, OTHER) == NO_PROJECT


def test_share_of_the_list_leaves_out_the_newest(desk: Desk) -> None:
    """They still answer."""
    desk.cloud.projects_listed_share = 0.5
    assert names(desk) == {WORLD.project_id: WORLD.project_name}
    assert listed(desk)["total"] == 1
    assert batch(desk, OTHER)
    desk.cloud.projects_listed_share = 0.0
    assert names(desk) == {}


# -- the operations of each project


def test_each_project_answers_with_its_own_runs(desk: Desk) -> None:
    for world in (WORLD, OTHER):
        runs = {one.id: world.latest_run(one.id, desk.now) for one in world.pipelines}
        found = {record["pipeline_id"]: record["pipeline_run_id"] for record in batch(desk, world)}
        assert found == {key: run.id for key, run in runs.items() if run is not None}
        assert found


def test_pipelines_of_another_project_are_unknown(desk: Desk) -> None:
    foreign = f"/v5/{OTHER.project_id}/api/pipelines"
    ids = [pipeline.id for pipeline in WORLD.pipelines[:5]]
    assert desk.request("POST", f"{foreign}/status", json=ids).json() == []
    detail = desk.request("GET", f"{foreign}/{ids[0]}/pipeline-runs/detail").json()
    assert detail["error_code"] == "DEVPIPE.00011401"


def test_list_runs_and_details_belong_to_the_project_in_the_path(desk: Desk) -> None:
    path = f"/v5/{OTHER.project_id}/api/pipelines"
    rows = desk.request("POST", f"{path}/list", json={"project_id": OTHER.project_id}).json()["pipelines"]
    assert [row["pipeline_id"] for row in rows] == [pipeline.id for pipeline in OTHER.pipelines]
    assert {(row["project_id"], row["project_name"]) for row in rows} == {(OTHER.project_id, "Payments")}
    row = next(row for row in rows if row["latest_run"])
    latest = row["latest_run"]
    of_runs = f"{path}/{row['pipeline_id']}/pipeline-runs"
    runs = desk.request("POST", f"{of_runs}/list", json={}).json()["pipeline_runs"]
    assert runs[0] == latest
    detail = desk.request("GET", f"{of_runs}/detail").json()
    assert (detail["id"], detail["project_id"], detail["domain_id"]) == (
        latest["pipeline_run_id"],
        OTHER.project_id,
        WORLD.domain_id,
    )
    assert f"/project/{OTHER.project_id}/" in detail["detail_url"]
    assert desk.request("GET", detail["detail_url"], headers={}).json()["id"] == detail["id"]
    retention = f"/v5/{WORLD.domain_id}/api/whitelist/record-visible-days"
    query = f"domain_id={WORLD.domain_id}&project_id={OTHER.project_id}"
    assert desk.request("GET", f"{retention}?{query}").json() == {"record_visible_days": 365}


def test_removed_project_answers_like_an_unknown_one(desk: Desk) -> None:
    desk.cloud.projects.remove(OTHER.project_id)
    assert desk.cloud.projects.find(OTHER.project_id) is None
    assert batch(desk, OTHER) == NO_PROJECT
    path = f"/v5/{OTHER.project_id}/api/pipelines"
    assert desk.request("POST", f"{path}/list", json={}).json()["pipelines"] == []
    of_runs = f"{path}/{OTHER.pipelines[0].id}/pipeline-runs"
    assert desk.request("GET", f"{of_runs}/detail").json() == NO_PROJECT
    assert desk.request("POST", f"{of_runs}/list", json={}).json() == NO_PROJECT
    assert batch(desk, WORLD)


def test_first_project_can_be_removed(desk: Desk) -> None:
    desk.cloud.projects.remove(WORLD.project_id)
    assert names(desk) == {OTHER.project_id: "Payments"}
    assert batch(desk, WORLD) == NO_PROJECT
    assert batch(desk, OTHER)


def test_scenario_of_a_further_project_records_what_was_reported(desk: Desk) -> None:
    world = small(9)
    scenario = Scenario(world)
    desk.cloud.projects.add("Scripted", world, scenario)
    pipeline = world.pipelines[0]
    run = scenario.begin(pipeline.id, desk.now - 5)
    assert [record["pipeline_run_id"] for record in batch(desk, world)] == [run.id]
    assert list(scenario.reports(pipeline.id)) == [run.id]
