"""Decoding of the list of pipelines: stable pages, and no row affected by another."""

import json
import time
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exporter.core.failures import FailureKind
from exporter.core.model import LABEL_LENGTH, Run, Status
from exporter.providers.protocol import PageCursor, PipelineRows
from tests.drivers.support import PROJECT_ID
from tests.marks import examples
from tests.unit.providers.test_codearts import (
    CODEARTS,
    NOW,
    SHAPES,
    corrupted,
    json_values,
    pipeline_id,
    provider,
    record,
    run_of,
)
from tests.unit.simulator.test_codearts import NOW as TODAY
from tests.unit.simulator.test_codearts import WORLD, Desk

CALL = CODEARTS.pipelines_request(PageCursor())


def row(index: int = 0, **changes: Any) -> dict[str, Any]:
    """Return the row of a pipeline with a run, with `changes` applied."""
    return {
        "pipeline_id": pipeline_id(index),
        "name": f"pipeline-{index}",
        "project_id": PROJECT_ID,
        "project_name": "Payments",
        "is_publish": False,
        "create_time": 1_670_000_000_000 + index,
        "latest_run": record(index),
        "banned": False,
        "tag_list": [],
        **changes,
    }


def body(rows: Any, **envelope: Any) -> bytes:
    return json.dumps({"offset": 0, "limit": 100, "total": 1, "pipelines": rows, **envelope}).encode()


def read(*rows: Any) -> PipelineRows:
    return CODEARTS.read_pipelines(body(rows), NOW, {})


def run(index: int) -> Run:
    return CODEARTS.read_batch(json.dumps([record(index)]).encode(), [pipeline_id(index)], NOW).runs[
        pipeline_id(index)
    ]


# -- requests


@pytest.mark.parametrize("offset", [0, 100, 9_900])
def test_request_has_the_project_twice_and_a_stable_order(offset: int) -> None:
    """In path and body, since the path alone does not filter. By creation, so that new pipelines come last."""
    call = CODEARTS.pipelines_request(PageCursor(rows=offset, pages=3))
    assert (call.operation, call.method) == ("ListPipelines", "POST")
    assert call.path == f"/v5/{PROJECT_ID}/api/pipelines/list"
    assert dict(call.headers) == {"Content-Type": "application/json"}
    assert json.loads(call.body) == {
        "project_id": PROJECT_ID,
        "offset": offset,
        "limit": 100,
        "sort_key": "create_time",
        "sort_dir": "asc",
    }


def simulated() -> tuple[Desk, Any]:
    return Desk(), provider(project_id=WORLD.project_id)


def pages(desk: Desk, codearts: Any) -> list[PipelineRows]:
    """Return all pages, up to the empty one."""
    found: list[PipelineRows] = []
    place = PageCursor()
    while not found or found[-1].rows:
        call = codearts.pipelines_request(place)
        answer = desk.request(call.method, call.path, content=call.body)
        assert codearts.failure(call, answer.status_code, {}, answer.content) is None
        found.append(codearts.read_pipelines(answer.content, TODAY, {}))
        place = place.after(found[-1])
    return found


@pytest.mark.parametrize(("page_limit", "foreign_rows"), [(100, 0), (100, 150), (33, 7)])
def test_pages_have_every_pipeline_once(page_limit: int, foreign_rows: int) -> None:
    """Also if the cloud returns fewer rows than requested, or rows of another project."""
    desk, codearts = simulated()
    desk.cloud.page_limit, desk.cloud.foreign_rows = page_limit, foreign_rows
    found = pages(desk, codearts)
    assert sum(page.rows for page in found) == len(WORLD.pipelines) + foreign_rows
    names = [item for page in found for item in page.pipelines.items()]
    assert sorted(names) == sorted((pipeline.id, pipeline.name) for pipeline in WORLD.pipelines)
    assert not any(
        page.rejected or page.unknown_values or page.implausible_times or page.unusable for page in found
    )


def test_runs_of_the_list_equal_those_of_the_batch() -> None:
    desk, codearts = simulated()
    listed = {key: value for page in pages(desk, codearts) for key, value in page.runs.items()}
    ids = [pipeline.id for pipeline in WORLD.pipelines]
    batch = codearts.read_batch(desk.batch(*ids).content, ids, TODAY)
    assert listed == batch.runs
    assert listed.keys() < set(ids)


# -- rows


def test_page_has_names_and_runs() -> None:
    assert read(row(0), row(1, latest_run=None)) == PipelineRows(
        rows=2,
        pipelines={pipeline_id(0): "pipeline-0", pipeline_id(1): "pipeline-1"},
        runs={pipeline_id(0): run_of()},
    )


def test_rows_of_other_projects_are_skipped() -> None:
    """Neither used nor rejected, but counted, since the next page starts after them."""
    listing = read(row(0, project_id="f" * 32), row(1), row(2, project_id=17))
    assert (listing.rows, list(listing.pipelines), list(listing.runs)) == (
        3,
        [pipeline_id(1)],
        [pipeline_id(1)],
    )
    assert not listing.rejected


@pytest.mark.parametrize("change", ["remove", "null", "replace"])
@pytest.mark.parametrize("odd", ["", [], {"id": PROJECT_ID}, True])
def test_row_without_project_is_kept(change: str, odd: Any) -> None:
    listing = read(corrupted(row(), ("project_id",), change, odd))
    assert list(listing.pipelines) == list(listing.runs) == [pipeline_id(0)]


@pytest.mark.parametrize("change", ["remove", "null"])
def test_pipeline_that_never_ran_has_a_name(change: str) -> None:
    listing = read(corrupted(row(), ("latest_run",), change, None))
    assert listing == PipelineRows(rows=1, pipelines={pipeline_id(0): "pipeline-0"})


@pytest.mark.parametrize(
    ("latest_run", "reason"),
    [
        ("", "unreadable"),
        ([], "unreadable"),
        (0, "unreadable"),
        (False, "unreadable"),
        ([record()], "unreadable"),
        (record(pipeline_run_id=None, run_number=None), "no_run_id"),
    ],
)
def test_rejected_run_leaves_the_name(latest_run: Any, reason: str) -> None:
    """The run is unknown, which is not the same as none."""
    listing = read(row(0, latest_run=latest_run), row(1))
    assert listing.pipelines == {pipeline_id(0): "pipeline-0", pipeline_id(1): "pipeline-1"}
    assert listing.runs == {pipeline_id(1): run(1)}
    assert [found for found, _ in listing.rejected] == [reason]
    assert listing.unusable == {pipeline_id(0)}


def test_valid_fields_of_a_run_are_kept() -> None:
    latest = record(build_params="main", trigger_type=["Push"], status="FAILED")
    assert read(row(latest_run=latest)).runs[pipeline_id(0)].status is Status.FAILED


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("", ""),
        (None, ""),
        ([], ""),
        ({}, ""),
        (True, ""),
        (7, "7"),
        (" ä\n", " ä\n"),
        ("x" * 9999, "x" * 9999),
    ],
)
def test_name_is_used_unchanged(name: Any, expected: str) -> None:
    """Text and numbers are used unchanged. A row without name is a pipeline."""
    listing = read(row(name=name))
    assert listing.pipelines == {pipeline_id(0): expected}
    assert listing.runs == {pipeline_id(0): run_of()}
    assert not listing.rejected


@pytest.mark.parametrize(
    ("identity", "reason"),
    [
        (None, "no_pipeline_id"),
        ("", "no_pipeline_id"),
        ([], "unreadable"),
        (True, "unreadable"),
        ("x" * (LABEL_LENGTH + 1), "no_pipeline_id"),
    ],
)
def test_row_without_pipeline_id_is_rejected_and_counted(identity: Any, reason: str) -> None:
    listing = read(row(pipeline_id=identity), row(1))
    assert (listing.rows, list(listing.pipelines)) == (2, [pipeline_id(1)])
    assert [found for found, _ in listing.rejected] == [reason]


def test_every_row_is_counted() -> None:
    """Rejected ones as well, since the next page starts after them."""
    others: list[Any] = [
        None,
        1,
        "x",
        [],
        {},
        row(project_id="other"),
        row(pipeline_id=None),
        row(latest_run="?"),
    ]
    listing = read(*others, row(1))
    assert listing.rows == len(others) + 1
    assert pipeline_id(1) in listing.runs


@pytest.mark.parametrize(
    "literal", [b'"\xff\xfe"', b'"\\ud83d"', b"1e999", b"9" * 9999], ids=["bytes", "half", "number", "digits"]
)
@pytest.mark.parametrize("place", ["name", "description", "executor_id", "executor_name"])
def test_corrupted_text_affects_its_field_only(place: str, literal: bytes) -> None:
    """It affects neither its row nor another."""
    first = row(description=None)
    if place in {"name", "description"}:
        first[place] = "SPOILT"
    else:
        first["latest_run"][place] = "SPOILT"
    page = body([first, row(1)]).replace(b'"SPOILT"', literal)
    assert CODEARTS.failure(CALL, 200, {}, page) is None
    listing = CODEARTS.read_pipelines(page, NOW, {})
    assert listing.rows == 2
    assert list(listing.pipelines) == [pipeline_id(0), pipeline_id(1)]
    assert listing.runs[pipeline_id(1)] == run(1)
    assert listing.runs[pipeline_id(0)].number == 7


@pytest.mark.parametrize("odd", [None, [], "x", {}, -1, 1e300])
@pytest.mark.parametrize("key", ["total", "offset", "limit", "current_system_time"])
def test_other_members_of_a_page_are_ignored(key: str, odd: Any) -> None:
    page = body([row()], **{key: odd})
    assert CODEARTS.failure(CALL, 200, {}, page) is None
    assert list(CODEARTS.read_pipelines(page, NOW, {}).runs) == [pipeline_id(0)]


def test_thousands_of_rows_are_decoded_quickly() -> None:
    """Even if none of them is as documented."""
    page = body([row(index, name=["odd"], latest_run=record(index, executor_id=[])) for index in range(3000)])
    started = time.process_time()
    listing = CODEARTS.read_pipelines(page, NOW, {})
    assert time.process_time() - started < 3
    assert listing.rows == len(listing.runs) == 3000


# -- properties

fields = st.sampled_from(
    [
        *[(name,) for name in row()],
        *[("latest_run", name) for name in record()],
        ("latest_run", "stage_status_list", 0),
    ]
)


@given(fields, st.sampled_from(["null", "remove", "replace"]), json_values, st.integers(0, 2))
@settings(deadline=None)
def test_corrupted_row_affects_no_other(path: tuple[Any, ...], change: str, value: Any, victim: int) -> None:
    """For any value of one field of one row, the other rows are decoded as if alone, and all are counted."""
    rows = [row(index) for index in range(3)]
    rows[victim] = corrupted(rows[victim], path, change, value)
    page = body(rows)
    assert CODEARTS.failure(CALL, 200, {}, page) is None
    listing = CODEARTS.read_pipelines(page, NOW, {})
    assert listing.rows == 3
    for index in {0, 1, 2} - {victim}:
        assert listing.pipelines[pipeline_id(index)] == f"pipeline-{index}"
        assert listing.runs[pipeline_id(index)] == run(index)
    # The corrupted row has a run, none, or an unknown one. Unknown is never reported as none.
    if path[0] != "latest_run" and pipeline_id(victim) in listing.pipelines:
        assert listing.runs[pipeline_id(victim)] == run(victim)
    if path[0] == "latest_run" and len(path) > 1:
        assert pipeline_id(victim) in listing.runs or pipeline_id(victim) in listing.unusable


bodies = (
    st.binary(max_size=60)
    | json_values.map(lambda value: json.dumps(value).encode())
    | json_values.map(lambda value: json.dumps({"pipelines": value}).encode())
    | st.lists(json_values, max_size=3).map(body)
    | st.tuples(st.lists(json_values, max_size=2), json_values).map(lambda both: body(both[0], total=both[1]))
    | st.binary(max_size=12).map(lambda garbage: body([row(name="GARBAGE")]).replace(b"GARBAGE", garbage))
)


@given(st.integers(199, 300), bodies)
@examples(150)
def test_any_success_can_be_decoded(status: int, answer: bytes) -> None:
    """Decoding a success never raises, and every failure has a message."""
    failure = CODEARTS.failure(CALL, status, {}, answer)
    if failure is None:
        assert 200 <= status < 300
        CODEARTS.read_pipelines(answer, NOW, {})
    else:
        assert failure.message or failure.error_code


# -- failures


@pytest.mark.parametrize("pipelines", [None, []])
def test_page_without_rows_is_empty(pipelines: Any) -> None:
    """It ends the list for any reported total."""
    page = body(pipelines, total=400)
    assert CODEARTS.failure(CALL, 200, {}, page) is None
    assert CODEARTS.read_pipelines(page, NOW, {}) == PipelineRows()


@pytest.mark.parametrize(
    "answer",
    [b"", b"null", b"[]", b"{}", b'{"total":0}', b'{"Pipelines":[]}', b'"x"', b"<html>", body([row()])[:-9]],
)
def test_response_without_rows_is_invalid(answer: bytes) -> None:
    """Not an empty page, which would mean that there are no pipelines."""
    failure = CODEARTS.failure(CALL, 200, {"x-request-id": "r-1"}, answer)
    assert failure is not None
    assert (failure.kind, failure.code, failure.error_code) == (FailureKind.UNREADABLE, "invalid", "")
    assert failure.message.startswith("unexpected response to ListPipelines")


@pytest.mark.parametrize("pipelines", ["", "x", 0, False, {}, {"a": 1}])
def test_pipelines_that_are_not_a_list_are_invalid(pipelines: Any) -> None:
    failure = CODEARTS.failure(CALL, 200, {"x-request-id": "r-1"}, body(pipelines))
    assert failure is not None
    assert (failure.kind, failure.code, failure.request_id) == (FailureKind.UNREADABLE, "invalid", "r-1")
    assert failure.message.startswith("unexpected response to ListPipelines")


@pytest.mark.parametrize("status", [200, 400])
@pytest.mark.parametrize("shape", SHAPES)
def test_every_error_envelope_is_read(shape: str, status: int) -> None:
    """Also together with pipelines."""
    envelopes: list[dict[str, Any]] = [{}, {"pipelines": []}]
    for also in envelopes:
        answer = json.dumps(SHAPES[shape]("DEVPIPE.00014007", "message") | also).encode()
        failure = CODEARTS.failure(CALL, status, {}, answer)
        assert failure is not None
        assert (failure.kind, failure.code) == (FailureKind.CONTENT, str(status))
        assert (failure.error_code, failure.message) == ("DEVPIPE.00014007", "message")


@pytest.mark.parametrize("code", ["DEVPIPE.00011412", "DEVPIPE.30021001", "DEV_21_100169"])
def test_missing_project_fails_all_requests(code: str) -> None:
    failure = CODEARTS.failure(
        CALL, 200, {}, json.dumps({"error_code": code, "error_msg": "message"}).encode()
    )
    assert failure is not None
    assert failure.kind is FailureKind.PROJECT


def test_user_who_is_not_a_member_gets_an_empty_list() -> None:
    desk, codearts = simulated()
    desk.cloud.no_membership = True
    (page,) = pages(desk, codearts)
    assert page == PipelineRows()
