"""The list of pipelines: its pages are asked for so that they do not shift, and one row never costs another."""

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
from tests.unit.providers.test_codearts import (
    CODEARTS,
    NOW,
    SHAPES,
    json_values,
    pipeline_id,
    provider,
    record,
    run_of,
    spoilt,
)
from tests.unit.simulator.test_codearts import NOW as TODAY
from tests.unit.simulator.test_codearts import WORLD, Desk

CALL = CODEARTS.pipelines_request(PageCursor())


def row(index: int = 0, **changes: Any) -> dict[str, Any]:
    """A pipeline that has run, in the vendor's shape; the values of `changes` take the place of its own."""
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


# -- what is asked


@pytest.mark.parametrize("offset", [0, 100, 9_900])
def test_the_request_names_its_project_twice_and_an_order_that_does_not_shift(offset: int) -> None:
    """In the path and in the body, since the path alone does not filter; by creation, since new ones come last then."""
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


def pages(desk: Desk, spoken: Any) -> list[PipelineRows]:
    """All pages, each beginning after the rows of those before, up to the empty one."""
    found: list[PipelineRows] = []
    place = PageCursor()
    while not found or found[-1].rows:
        call = spoken.pipelines_request(place)
        answer = desk.request(call.method, call.path, content=call.body)
        assert spoken.failure(call, answer.status_code, {}, answer.content) is None
        found.append(spoken.read_pipelines(answer.content, TODAY, {}))
        place = place.after(found[-1])
    return found


@pytest.mark.parametrize(("page_limit", "foreign_rows"), [(100, 0), (100, 150), (33, 7)])
def test_page_by_page_every_pipeline_of_the_project_is_found_once(page_limit: int, foreign_rows: int) -> None:
    """Also where a cloud gives fewer rows than asked, or those of another project between them."""
    desk, spoken = simulated()
    desk.cloud.page_limit, desk.cloud.foreign_rows = page_limit, foreign_rows
    found = pages(desk, spoken)
    assert sum(page.rows for page in found) == len(WORLD.pipelines) + foreign_rows
    names = [item for page in found for item in page.pipelines.items()]
    assert sorted(names) == sorted((pipeline.id, pipeline.name) for pipeline in WORLD.pipelines)
    assert not any(page.rejected or page.words or page.implausible_times or page.unusable for page in found)


def test_the_runs_of_the_list_are_those_of_the_batch() -> None:
    desk, spoken = simulated()
    listed = {key: value for page in pages(desk, spoken) for key, value in page.runs.items()}
    ids = [pipeline.id for pipeline in WORLD.pipelines]
    batch = spoken.read_batch(desk.batch(*ids).content, ids, TODAY)
    assert listed == batch.runs
    assert listed.keys() < set(ids)


# -- what is read


def test_a_page_gives_names_and_runs() -> None:
    assert read(row(0), row(1, latest_run=None)) == PipelineRows(
        rows=2,
        pipelines={pipeline_id(0): "pipeline-0", pipeline_id(1): "pipeline-1"},
        runs={pipeline_id(0): run_of()},
    )


def test_rows_of_other_projects_are_passed_over() -> None:
    """Neither named nor rejected, yet counted, since the next page begins after them."""
    listing = read(row(0, project_id="f" * 32), row(1), row(2, project_id=17))
    assert (listing.rows, list(listing.pipelines), list(listing.runs)) == (
        3,
        [pipeline_id(1)],
        [pipeline_id(1)],
    )
    assert not listing.rejected


@pytest.mark.parametrize("change", ["remove", "null", "replace"])
@pytest.mark.parametrize("odd", ["", [], {"id": PROJECT_ID}, True])
def test_a_row_that_names_no_project_is_kept(change: str, odd: Any) -> None:
    listing = read(spoilt(row(), ("project_id",), change, odd))
    assert list(listing.pipelines) == list(listing.runs) == [pipeline_id(0)]


@pytest.mark.parametrize("change", ["remove", "null"])
def test_a_pipeline_that_never_ran_is_named(change: str) -> None:
    listing = read(spoilt(row(), ("latest_run",), change, None))
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
def test_a_run_that_cannot_be_used_leaves_the_pipeline_its_name(latest_run: Any, reason: str) -> None:
    """And is not "no run": what there is, is not told."""
    listing = read(row(0, latest_run=latest_run), row(1))
    assert listing.pipelines == {pipeline_id(0): "pipeline-0", pipeline_id(1): "pipeline-1"}
    assert listing.runs == {pipeline_id(1): run(1)}
    assert [told for told, _ in listing.rejected] == [reason]
    assert listing.unusable == {pipeline_id(0)}


def test_a_run_keeps_what_can_be_read_of_it() -> None:
    latest = record(build_params="main", trigger_type=["Push"], status="FAILED")
    assert read(row(latest_run=latest)).runs[pipeline_id(0)].status is Status.FAILED


@pytest.mark.parametrize(
    ("name", "told"),
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
def test_names(name: Any, told: str) -> None:
    """As they are told, where they are text or a number; a row without one is still a pipeline."""
    listing = read(row(name=name))
    assert listing.pipelines == {pipeline_id(0): told}
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
def test_a_row_that_names_no_pipeline_is_rejected_and_counted(identity: Any, reason: str) -> None:
    listing = read(row(pipeline_id=identity), row(1))
    assert (listing.rows, list(listing.pipelines)) == (2, [pipeline_id(1)])
    assert [told for told, _ in listing.rejected] == [reason]


def test_every_row_is_counted() -> None:
    """Used or not, else the next page would bring rows that were seen."""
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
def test_spoilt_text_costs_no_more_than_its_field(place: str, literal: bytes) -> None:
    """Neither its row nor another."""
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
def test_what_stands_beside_the_rows_costs_nothing(key: str, odd: Any) -> None:
    page = body([row()], **{key: odd})
    assert CODEARTS.failure(CALL, 200, {}, page) is None
    assert list(CODEARTS.read_pipelines(page, NOW, {}).runs) == [pipeline_id(0)]


def test_thousands_of_rows_are_read_in_no_time() -> None:
    """Even where none of them fits the documentation."""
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
def test_a_spoilt_row_costs_no_other(path: tuple[Any, ...], change: str, value: Any, victim: int) -> None:
    """Whatever takes the place of one field in one row, the other rows are read as if alone, and all are counted."""
    rows = [row(index) for index in range(3)]
    rows[victim] = spoilt(rows[victim], path, change, value)
    page = body(rows)
    assert CODEARTS.failure(CALL, 200, {}, page) is None
    listing = CODEARTS.read_pipelines(page, NOW, {})
    assert listing.rows == 3
    for index in {0, 1, 2} - {victim}:
        assert listing.pipelines[pipeline_id(index)] == f"pipeline-{index}"
        assert listing.runs[pipeline_id(index)] == run(index)
    # What is said of the spoilt one is a run, that there is none, or nothing: never the second for the third.
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
@settings(deadline=None, max_examples=150)
def test_what_is_no_failure_can_be_read(status: int, answer: bytes) -> None:
    """No answer that passes for a success raises, and any other has words."""
    failure = CODEARTS.failure(CALL, status, {}, answer)
    if failure is None:
        assert 200 <= status < 300
        CODEARTS.read_pipelines(answer, NOW, {})
    else:
        assert failure.message or failure.error_code


# -- failures


@pytest.mark.parametrize("pipelines", [None, []])
def test_a_page_of_nothing_is_empty(pipelines: Any) -> None:
    """The end of the list, whatever total is claimed."""
    page = body(pipelines, total=400)
    assert CODEARTS.failure(CALL, 200, {}, page) is None
    assert CODEARTS.read_pipelines(page, NOW, {}) == PipelineRows()


@pytest.mark.parametrize(
    "answer",
    [b"", b"null", b"[]", b"{}", b'{"total":0}', b'{"Pipelines":[]}', b'"x"', b"<html>", body([row()])[:-9]],
)
def test_what_is_no_page_is_invalid(answer: bytes) -> None:
    """Not an empty page, which would be a list without pipelines."""
    failure = CODEARTS.failure(CALL, 200, {"x-request-id": "r-1"}, answer)
    assert failure is not None
    assert (failure.kind, failure.code, failure.error_code) == (FailureKind.UNREADABLE, "invalid", "")
    assert failure.message.startswith("ListPipelines answered")


@pytest.mark.parametrize("pipelines", ["", "x", 0, False, {}, {"a": 1}])
def test_pipelines_that_are_no_list_are_invalid(pipelines: Any) -> None:
    failure = CODEARTS.failure(CALL, 200, {"x-request-id": "r-1"}, body(pipelines))
    assert failure is not None
    assert (failure.kind, failure.code, failure.request_id) == (FailureKind.UNREADABLE, "invalid", "r-1")
    assert failure.message.startswith("ListPipelines answered")


@pytest.mark.parametrize("status", [200, 400])
@pytest.mark.parametrize("shape", SHAPES)
def test_every_envelope_of_errors_is_opened(shape: str, status: int) -> None:
    """Also where it comes with a success and with pipelines."""
    envelopes: list[dict[str, Any]] = [{}, {"pipelines": []}]
    for also in envelopes:
        answer = json.dumps(SHAPES[shape]("DEVPIPE.00014007", "words") | also).encode()
        failure = CODEARTS.failure(CALL, status, {}, answer)
        assert failure is not None
        assert (failure.kind, failure.code) == (FailureKind.CONTENT, str(status))
        assert (failure.error_code, failure.message) == ("DEVPIPE.00014007", "words")


@pytest.mark.parametrize("code", ["DEVPIPE.00011412", "DEVPIPE.30021001", "DEV_21_100169"])
def test_a_project_that_is_not_there_is_the_projects_fault(code: str) -> None:
    failure = CODEARTS.failure(CALL, 200, {}, json.dumps({"error_code": code, "error_msg": "words"}).encode())
    assert failure is not None
    assert failure.kind is FailureKind.PROJECT


def test_who_is_no_member_sees_an_empty_list() -> None:
    desk, spoken = simulated()
    desk.cloud.no_membership = True
    (page,) = pages(desk, spoken)
    assert page == PipelineRows()
