"""Whoever reads a list page by page must see everything once; this is what the simulated lists promise."""

import time
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exporter.simulator import Call, World
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


def test_a_row_has_the_documented_fields(desk: Desk) -> None:
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
    assert desk.cloud.requests[-1] == Call("ListPipelines", (), 200, NOW)


def test_the_latest_run_is_that_of_the_batch_with_ids_of_stages(desk: Desk) -> None:
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


# A deadline would measure the machine, and every example is a whole list.
PATIENT = settings(deadline=None, max_examples=40)


@PATIENT
@given(st.integers(1, 40), st.sampled_from(["asc", "desc"]), st.sampled_from(["create_time", "name"]))
def test_pages_of_any_size_cover_every_pipeline_once_in_order(limit: int, way: str, key: str) -> None:
    """However the pages are cut, together they are the whole list in its order."""
    desk = Desk(SMALL)
    seen: list[Any] = []
    while page := desk.listed(offset=len(seen), limit=limit, sort_key=key, sort_dir=way)["pipelines"]:
        assert len(page) <= limit
        seen += page
    assert [row["pipeline_id"] for row in seen] == [
        pipeline.id
        for pipeline in sorted(
            SMALL.pipelines,
            key=lambda pipeline: pipeline.created if key == "create_time" else pipeline.name,
            reverse=way == "desc",
        )
    ]


def test_creation_is_the_usual_order(desk: Desk) -> None:
    rows = desk.listed(limit=100)["pipelines"]
    assert all(before["create_time"] < after["create_time"] for before, after in pairwise(rows))
    assert [row["pipeline_id"] for row in rows] == [pipeline.id for pipeline in WORLD.pipelines[:100]]
    assert all(pipeline.first is None or pipeline.created < pipeline.first for pipeline in WORLD.pipelines)


def test_a_page_has_a_largest_size(desk: Desk) -> None:
    assert (desk.listed(limit=1000)["limit"], len(_ids(desk.listed(limit=1000)))) == (100, 100)
    desk.cloud.page_limit = 50
    assert (desk.listed(limit=100)["limit"], len(_ids(desk.listed(limit=100)))) == (50, 50)
    assert len(_ids(desk.listed())) == 10
    assert _ids(desk.listed(offset=400)) == _ids(desk.listed(offset=10**9)) == []
    assert desk.listed(offset=400)["total"] == 400


def test_names_are_found_by_a_part(desk: Desk) -> None:
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
def test_a_question_out_of_shape_is_a_parse_error(desk: Desk, body: dict[str, Any]) -> None:
    assert desk.listed(**body)["error_code"] == "PARSE_REQUEST_DATA_EXCEPTION"
    assert desk.cloud.requests[-1].status == 400


@pytest.mark.parametrize("content", [b"", b"[]", b"{", b"null"])
def test_a_list_wants_an_object(desk: Desk, content: bytes) -> None:
    for path in ("list", f"{BUSY.id}/pipeline-runs/list"):
        assert desk.ask("POST", f"{desk.pipelines}/{path}", content=content).status_code == 400


def test_of_a_project_of_somebody_else_there_is_nothing(desk: Desk) -> None:
    answer = desk.ask("POST", f"/v5/{'0' * 32}/api/pipelines/list", json={}).json()
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
    assert desk.cloud.requests[-2] == Call("ListPipelineRuns", (BUSY.id,), 200, NOW)


@PATIENT
@given(st.integers(15, 100), st.sampled_from(["asc", "desc"]), st.sampled_from(["start_time", "update_time"]))
def test_pages_of_runs_cover_every_run_once(limit: int, way: str, key: str) -> None:
    pipeline = next(pipeline for pipeline in SMALL.pipelines if pipeline.period == 86_400)
    desk = Desk(SMALL)
    seen: list[Any] = []
    while page := desk.runs(pipeline.id, offset=len(seen), limit=limit, sort_key=key, sort_dir=way)[
        "pipeline_runs"
    ]:
        seen += page
    numbers = [run["run_number"] for run in seen]
    assert len(numbers) == len(set(numbers)) == max(numbers)
    moments = [run["start_time" if key == "start_time" else "end_time"] or NOW * 1000 for run in seen]
    assert moments == sorted(moments, reverse=way == "desc")


def test_runs_are_filtered_by_status(desk: Desk) -> None:
    answer = desk.runs(BUSY.id, status=["FAILED", "CANCELED"], limit=100)
    assert {run["status"] for run in answer["pipeline_runs"]} == {"FAILED", "CANCELED"}
    everything = desk.runs(BUSY.id)["total"]
    assert 100 < answer["total"] < everything
    assert desk.runs(BUSY.id, status="FAILED")["error_code"] == "PARSE_REQUEST_DATA_EXCEPTION"


def test_what_has_no_runs(desk: Desk) -> None:
    assert desk.runs(NEVER_RUN[0].id)["total"] == 0
    assert desk.runs("f" * 32)["error_code"] == "DEVPIPE.00011401"
    path = f"/v5/{'0' * 32}/api/pipelines/{BUSY.id}/pipeline-runs/list"
    assert desk.ask("POST", path, json={}).json()["error_code"] == "DEVPIPE.00011412"


# -- what goes wrong with lists


def test_rows_of_another_project_turn_up_without_a_project_in_the_body(desk: Desk) -> None:
    answer = desk.ask("POST", f"{desk.pipelines}/list", json={"limit": 0}).json()
    assert answer["total"] == 403


def test_rows_of_another_project_turn_up_always_if_told(desk: Desk) -> None:
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


def test_without_membership_there_is_nothing_and_no_error(desk: Desk) -> None:
    desk.cloud.no_membership = True
    answer = desk.listed()
    assert (answer["total"], answer["pipelines"]) == (0, [])
    assert desk.detail(BUSY.id)["error_code"] == "DEVPIPE.00011412"
    assert desk.batch(BUSY.id).json()["error_code"] == "DEVPIPE.00011412"


def test_a_list_may_be_empty_whatever_its_total(desk: Desk) -> None:
    desk.cloud.empty_list_with_total = True
    answer = desk.listed()
    assert (answer["total"], answer["pipelines"]) == (400, [])


def test_what_is_deleted_is_gone_everywhere(desk: Desk) -> None:
    desk.cloud.deleted = {BUSY.id}
    assert desk.listed()["total"] == 399
    assert desk.batch(BUSY.id).json() == []
    assert desk.detail(BUSY.id)["error_code"] == desk.runs(BUSY.id)["error_code"] == "DEVPIPE.00011401"


def test_what_is_renamed_keeps_its_id_and_its_sources(desk: Desk) -> None:
    before = desk.detail(BUSY.id)
    desk.cloud.renamed = {BUSY.id: "renamed-pipeline"}
    (row,) = desk.listed(name="renamed")["pipelines"]
    assert (row["pipeline_id"], row["name"]) == (BUSY.id, "renamed-pipeline")
    assert desk.detail(BUSY.id) == before | {"name": "renamed-pipeline"}


def test_a_page_is_quick_in_a_large_world() -> None:
    desk = Desk(World(pipelines=10_000))
    desk.listed()
    times = []
    for offset in range(0, 1000, 100):
        begun = time.perf_counter()
        assert len(desk.listed(offset=offset, limit=100)["pipelines"]) == 100
        times.append(time.perf_counter() - begun)
    assert min(times) < 0.1
