"""The simulated lists: a client that reads all pages sees every row once."""

import time
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.simulator import RecordedRequest, World
from tests.marks import examples
from tests.unit.simulator.test_codearts import NEVER_RUN, NOW, RUNNING_PIPELINES, WORLD, Desk

ROW: dict[str, Any] = {
    "pipeline_id": str,
    "name": str,
    "project_id": str,
    "project_name": str,
    "component_id": str,
    "is_publish": bool,
    "is_collect": bool,
    "manifest_version": str,
    "create_time": int,
    "latest_run": (dict, type(None)),
    "convert_sign": int,
    "security_level": type(None),
    "banned": bool,
    "description": type(None),
    "tag_list": list,
}
SMALL = World(seed=3, pipelines=37)
BUSY = min(RUNNING_PIPELINES, key=lambda pipeline: pipeline.period)


@pytest.fixture
def desk() -> Desk:
    return Desk()


def _ids(answer: Any) -> list[str]:
    return [row["pipeline_id"] for row in answer["pipelines"]]


# -- ListPipelines


def test_row_has_the_documented_fields(desk: Desk) -> None:
    answer = desk.listed(limit=100)
    assert {key: answer[key] for key in ("offset", "limit", "total", "current_system_time")} == {
        "offset": 0,
        "limit": 100,
        "total": 400,
        "current_system_time": int(NOW * 1000),
    }
    for row in answer["pipelines"]:
        assert list(row) == list(ROW)
        for key, kind in ROW.items():
            assert isinstance(row[key], kind), key
    assert any(row["tag_list"] for row in answer["pipelines"])
    assert desk.cloud.requests[-1] == RecordedRequest("ListPipelines", (), 200, NOW)


def test_latest_run_equals_the_batch_plus_stage_ids(desk: Desk) -> None:
    rows = {row["pipeline_id"]: row["latest_run"] for row in desk.listed(limit=100)["pipelines"]}
    batch = {record["pipeline_id"]: record for record in desk.batch(*rows).json()}
    assert (
        {pipeline_id for pipeline_id, run in rows.items() if run is None} == set(rows) - set(batch) != set()
    )
    for pipeline_id, record in batch.items():
        run = rows[pipeline_id]
        for stage in run["stage_status_list"]:
            assert len(stage.pop("id")) == 32
        assert run == record


# A deadline would measure the machine: every example reads a whole list.
SLOW = examples(40)


@SLOW
@given(st.integers(1, 40), st.sampled_from(["asc", "desc"]), st.sampled_from(["create_time", "name"]))
def test_pages_of_any_size_contain_every_pipeline_once_in_order(limit: int, direction: str, key: str) -> None:
    desk = Desk(SMALL)
    seen: list[Any] = []
    while page := desk.listed(offset=len(seen), limit=limit, sort_key=key, sort_dir=direction)["pipelines"]:
        assert len(page) <= limit
        seen += page
    assert [row["pipeline_id"] for row in seen] == [
        pipeline.id
        for pipeline in sorted(
            SMALL.pipelines,
            key=lambda pipeline: pipeline.created if key == "create_time" else pipeline.name,
            reverse=direction == "desc",
        )
    ]


def test_default_order_is_creation(desk: Desk) -> None:
    rows = desk.listed(limit=100)["pipelines"]
    assert all(before["create_time"] < after["create_time"] for before, after in pairwise(rows))
    assert [row["pipeline_id"] for row in rows] == [pipeline.id for pipeline in WORLD.pipelines[:100]]
    assert all(pipeline.first is None or pipeline.created < pipeline.first for pipeline in WORLD.pipelines)


def test_page_size_is_limited(desk: Desk) -> None:
    assert (desk.listed(limit=1000)["limit"], len(_ids(desk.listed(limit=1000)))) == (100, 100)
    desk.cloud.page_limit = 50
    assert (desk.listed(limit=100)["limit"], len(_ids(desk.listed(limit=100)))) == (50, 50)
    assert len(_ids(desk.listed())) == 10
    assert _ids(desk.listed(offset=400)) == _ids(desk.listed(offset=10**9)) == []
    assert desk.listed(offset=400)["total"] == 400


def test_name_filter_matches_substrings(desk: Desk) -> None:
    answer = desk.listed(name="PAYMENT", limit=100)
    assert 0 < answer["total"] == len(answer["pipelines"]) < 100
    assert all("payment" in row["name"] for row in answer["pipelines"])


@pytest.mark.parametrize(
    "body",
    [
        {"offset": -1},
        {"limit": "10"},
        {"limit": True},
        {"sort_key": "colour"},
        {"sort_key": []},
        {"sort_key": None},
        {"sort_dir": "up"},
        {"sort_dir": []},
        {"name": 5},
    ],
)
def test_malformed_parameter_is_a_parse_error(desk: Desk, body: dict[str, Any]) -> None:
    assert desk.listed(**body)["error_code"] == "PARSE_REQUEST_DATA_EXCEPTION"
    assert desk.cloud.requests[-1].status == 400


@pytest.mark.parametrize("content", [b"", b"[]", b"{", b"null"])
def test_body_that_is_not_an_object_is_400(desk: Desk, content: bytes) -> None:
    for path in ("list", f"{BUSY.id}/pipeline-runs/list"):
        assert desk.request("POST", f"{desk.pipelines}/{path}", content=content).status_code == 400


def test_list_of_another_project_is_empty(desk: Desk) -> None:
    answer = desk.request("POST", f"/v5/{'0' * 32}/api/pipelines/list", json={}).json()
    assert (answer["total"], answer["pipelines"]) == (0, [])
    assert desk.listed(project_id="0" * 32)["total"] == 0


# -- ListPipelineRuns


def test_runs_are_listed_newest_first(desk: Desk) -> None:
    answer = desk.runs(BUSY.id, limit=30)
    latest = WORLD.latest_run(BUSY.id, NOW)
    assert latest is not None
    assert [run["run_number"] for run in answer["pipeline_runs"]] == list(
        range(latest.number, latest.number - 30, -1)
    )
    assert answer["total"] == latest.number
    assert (answer["offset"], answer["limit"]) == (0, 30)
    assert answer["pipeline_runs"][0] == desk.listed(name=BUSY.name)["pipelines"][0]["latest_run"]
    assert desk.cloud.requests[-2] == RecordedRequest("ListPipelineRuns", (BUSY.id,), 200, NOW)


@SLOW
@given(st.integers(15, 100), st.sampled_from(["asc", "desc"]), st.sampled_from(["start_time", "update_time"]))
def test_pages_of_runs_contain_every_run_once_in_order(limit: int, direction: str, key: str) -> None:
    pipeline = next(pipeline for pipeline in SMALL.pipelines if pipeline.period == 86_400)
    desk = Desk(SMALL)
    seen: list[Any] = []
    while page := desk.runs(pipeline.id, offset=len(seen), limit=limit, sort_key=key, sort_dir=direction)[
        "pipeline_runs"
    ]:
        seen += page
    numbers = [run["run_number"] for run in seen]
    assert len(numbers) == len(set(numbers)) == max(numbers)
    moments = [run["start_time" if key == "start_time" else "end_time"] or NOW * 1000 for run in seen]
    assert moments == sorted(moments, reverse=direction == "desc")


def test_status_filter_selects_runs(desk: Desk) -> None:
    answer = desk.runs(BUSY.id, status=["FAILED", "CANCELED"], limit=100)
    assert {run["status"] for run in answer["pipeline_runs"]} == {"FAILED", "CANCELED"}
    everything = desk.runs(BUSY.id)["total"]
    assert 100 < answer["total"] < everything
    assert desk.runs(BUSY.id, status="FAILED")["error_code"] == "PARSE_REQUEST_DATA_EXCEPTION"


def test_run_list_without_runs_pipeline_or_project(desk: Desk) -> None:
    assert desk.runs(NEVER_RUN[0].id)["total"] == 0
    assert desk.runs("f" * 32)["error_code"] == "DEVPIPE.00011401"
    path = f"/v5/{'0' * 32}/api/pipelines/{BUSY.id}/pipeline-runs/list"
    assert desk.request("POST", path, json={}).json()["error_code"] == "DEVPIPE.00011412"


# -- faults of lists


def test_foreign_rows_appear_without_a_project_in_the_body(desk: Desk) -> None:
    answer = desk.request("POST", f"{desk.pipelines}/list", json={"limit": 0}).json()
    assert answer["total"] == 403


def test_foreign_rows_appear_always_if_switched_on(desk: Desk) -> None:
    desk.cloud.foreign_rows = 20
    rows: list[Any] = []
    while page := desk.listed(offset=len(rows), limit=100)["pipelines"]:
        rows += page
    foreign = [row for row in rows if row["project_id"] != WORLD.project_id]
    assert (len(rows), len(foreign)) == (420, 20)
    assert {row["project_name"] for row in foreign} != {WORLD.project_name}
    assert desk.batch(foreign[0]["pipeline_id"]).json() == []
    times = [row["create_time"] for row in rows]
    assert times == sorted(times)


def test_list_without_membership_is_empty(desk: Desk) -> None:
    desk.cloud.no_membership = True
    answer = desk.listed()
    assert (answer["total"], answer["pipelines"]) == (0, [])
    assert desk.detail(BUSY.id)["error_code"] == "DEVPIPE.00011412"
    assert desk.batch(BUSY.id).json()["error_code"] == "DEVPIPE.00011412"


def test_list_can_be_empty_with_a_total(desk: Desk) -> None:
    desk.cloud.empty_list_with_total = True
    answer = desk.listed()
    assert (answer["total"], answer["pipelines"]) == (400, [])


def test_deleted_pipeline_is_missing_everywhere(desk: Desk) -> None:
    desk.cloud.deleted = {BUSY.id}
    assert desk.listed()["total"] == 399
    assert desk.batch(BUSY.id).json() == []
    assert desk.detail(BUSY.id)["error_code"] == desk.runs(BUSY.id)["error_code"] == "DEVPIPE.00011401"


def test_renamed_pipeline_keeps_id_and_sources(desk: Desk) -> None:
    before = desk.detail(BUSY.id)
    desk.cloud.renamed = {BUSY.id: "renamed-pipeline"}
    (row,) = desk.listed(name="renamed")["pipelines"]
    assert (row["pipeline_id"], row["name"]) == (BUSY.id, "renamed-pipeline")
    assert desk.detail(BUSY.id) == before | {"name": "renamed-pipeline"}


def test_page_takes_less_than_100_ms_in_a_large_world() -> None:
    desk = Desk(World(pipelines=10_000))
    desk.listed()
    times = []
    for offset in range(0, 1000, 100):
        started = time.process_time()
        assert len(desk.listed(offset=offset, limit=100)["pipelines"]) == 100
        times.append(time.process_time() - started)
    assert min(times) < 0.1
