"""Decoding of run lists: row by row, with certainty about absent runs."""

import json
import random
import time
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exporter.core.failures import FailureKind
from exporter.core.model import LABEL_LENGTH, Run, Stage, Status, Trigger
from exporter.providers.protocol import PageCursor, RunRows, SupportsBatchQuery
from tests.drivers.support import PIPELINE_ID, PROJECT_ID
from tests.marks import examples
from tests.unit.providers.test_codearts import (
    CODEARTS,
    END,
    LOCAL,
    NOW,
    SHAPES,
    START,
    corrupted,
    json_values,
    provider,
    record,
)
from tests.unit.simulator.test_codearts import NEVER_RUN, RUNNING_PIPELINES, WORLD, Desk
from tests.unit.simulator.test_codearts import NOW as TODAY

CALL = CODEARTS.runs_request(PIPELINE_ID, PageCursor(), 100)
OTHER = "f" * 32
BUSY = min(RUNNING_PIPELINES, key=lambda pipeline: abs(pipeline.period - 2000))


def row(index: int = 0, **changes: Any) -> dict[str, Any]:
    """Return the row of a finished run, with `changes` applied."""
    stages = [{"id": f"{index:032x}", "name": "Build", "sequence": 0, "status": "COMPLETED", **LOCAL}]
    return record(index, **{"pipeline_id": PIPELINE_ID, "stage_status_list": stages, **changes})


def run(index: int = 0) -> Run:
    """Return the expected run of a row."""
    return Run(
        id=f"run-{index}",
        number=index + 7,
        status=Status.SUCCESS,
        start=START,
        end=END,
        trigger=Trigger.MANUAL,
        branch="main",
        commit=f"c{index}",
        executor=f"executor-{index}",
        stages=(Stage("Build", 0, Status.SUCCESS, start=START + 1, duration=122),),
    )


def body(rows: Any, **envelope: Any) -> bytes:
    found = {"offset": 0, "limit": 100, "total": 1, "pipeline_runs": rows, **envelope}
    return json.dumps(found).encode()


def read(*rows: Any) -> RunRows:
    return CODEARTS.read_runs(body(rows), PIPELINE_ID, NOW, {})


# -- requests


@pytest.mark.parametrize(("offset", "limit"), [(0, 100), (100, 100), (9_900, 7)])
def test_request_is_as_documented(offset: int, limit: int) -> None:
    """Newest first. The project is in the path only."""
    call = CODEARTS.runs_request(PIPELINE_ID, PageCursor(rows=offset, pages=3), limit)
    assert (call.operation, call.method, call.query) == ("ListPipelineRuns", "POST", ())
    assert call.path == f"/v5/{PROJECT_ID}/api/pipelines/{PIPELINE_ID}/pipeline-runs/list"
    assert dict(call.headers) == {"Content-Type": "application/json"}
    assert json.loads(call.body) == {
        "offset": offset,
        "limit": limit,
        "sort_key": "start_time",
        "sort_dir": "desc",
    }


def test_special_characters_stay_in_their_path_segment() -> None:
    assert "/pipelines/a%2F..%3F/pipeline-runs/list" in CODEARTS.runs_request("a/..?", PageCursor(), 1).path


def simulated() -> tuple[Desk, SupportsBatchQuery]:
    return Desk(), provider(project_id=WORLD.project_id)


def pages(desk: Desk, codearts: SupportsBatchQuery, pipeline: str, limit: int = 100) -> list[RunRows]:
    """Return all pages, up to the empty one."""
    found: list[RunRows] = []
    place = PageCursor()
    while not found or found[-1].rows:
        call = codearts.runs_request(pipeline, place, limit)
        answer = desk.request(call.method, call.path, content=call.body)
        assert codearts.failure(call, answer.status_code, {}, answer.content) is None
        found.append(codearts.read_runs(answer.content, pipeline, TODAY, {}))
        place = place.after(found[-1])
    return found


@pytest.mark.parametrize(("limit", "page_limit"), [(100, 100), (7, 100), (100, 33)])
def test_pages_have_every_run_once(limit: int, page_limit: int) -> None:
    """Newest first, also if the cloud returns fewer rows than requested."""
    desk, codearts = simulated()
    desk.cloud.page_limit = page_limit
    found = pages(desk, codearts, BUSY.id, limit)
    latest = WORLD.latest_run(BUSY.id, TODAY)
    assert latest is not None
    numbers = [one.number for page in found for one in page.runs]
    assert numbers == list(range(latest.number, 0, -1))
    assert max(page.rows for page in found) == min(limit, page_limit)
    assert not any(
        page.rejected or page.unknown_values or page.implausible_times or page.incomplete for page in found
    )


def test_newest_run_is_the_same_in_list_batch_and_details() -> None:
    desk, codearts = simulated()
    page = pages(desk, codearts, BUSY.id)[0]
    batch = codearts.read_batch(desk.batch(BUSY.id).content, [BUSY.id], TODAY)
    assert page.runs[0] == batch.runs[BUSY.id]
    for one in page.runs[:20]:
        answer = json.dumps(desk.detail(BUSY.id, one.id)).encode()
        detail = codearts.read_detail(answer, BUSY.id, TODAY).run
        assert detail is not None
        assert (detail.id, detail.number, detail.status) == (one.id, one.number, one.status)
        assert (detail.start, detail.end, detail.branch) == (one.start, one.end, one.branch)


def test_pipeline_that_never_ran_has_an_empty_page() -> None:
    assert pages(*simulated(), NEVER_RUN[0].id) == [RunRows()]


# -- rows


def test_runs_keep_the_order_of_the_page() -> None:
    page = read(row(2), row(0), row(1))
    assert page == RunRows(rows=3, runs=[run(2), run(0), run(1)])
    assert not page.incomplete


@pytest.mark.parametrize("change", ["remove", "null", "replace"])
def test_row_without_pipeline_id_belongs_to_the_requested_pipeline(change: str) -> None:
    page = read(corrupted(row(), ("pipeline_id",), change, ""))
    assert page == RunRows(rows=1, runs=[run()])


@pytest.mark.parametrize("stranger", [OTHER, 12, "x", f" {PIPELINE_ID}"])
def test_row_of_another_pipeline_is_rejected(stranger: Any) -> None:
    """It counts as a row, and the page stays complete."""
    page = read(row(pipeline_id=stranger), row(1))
    assert (page.rows, page.runs, page.unreadable, page.incomplete) == (2, [run(1)], 0, False)
    ((reason, message),) = page.rejected
    assert reason == "not_requested"
    assert len(message) < 300


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"pipeline_id": ["x"]}, "unreadable"),
        ({"pipeline_id": True}, "unreadable"),
        ({"pipeline_id": "x" * (LABEL_LENGTH + 1)}, "no_pipeline_id"),
        ({"pipeline_run_id": {}}, "unreadable"),
        ({"status": ["FAILED"]}, "unreadable"),
        ({"pipeline_id": None, "status": True}, "unreadable"),
        ({"pipeline_run_id": None, "run_number": None}, "no_run_id"),
        ({"pipeline_run_id": "", "run_number": 0}, "no_run_id"),
    ],
)
def test_unusable_row_is_unreadable(changes: dict[str, Any], reason: str) -> None:
    """It may be any run of the pipeline, so that absence proves nothing."""
    page = read(row(0, **changes), row(1))
    assert (page.rows, page.runs, page.unreadable, page.incomplete) == (2, [run(1)], 1, True)
    assert [found for found, _ in page.rejected] == [reason]


def test_corrupted_row_of_another_pipeline_leaves_the_page_complete() -> None:
    page = read(row(0, pipeline_id=OTHER, status=["FAILED"]), row(1))
    assert (page.runs, page.unreadable) == ([run(1)], 0)
    assert [reason for reason, _ in page.rejected] == ["unreadable"]


@pytest.mark.parametrize("number", [None, "", 0, "x", -1, 1.5, [], 10**400])
def test_run_without_number_makes_the_page_incomplete(number: Any) -> None:
    """It may be the run whose number is searched for."""
    page = read(row(0, run_number=number), row(1))
    assert [one.id for one in page.runs] == ["run-0", "run-1"]
    assert (page.unreadable, page.incomplete, page.rejected) == (0, True, [])


def test_run_without_id_is_identified_by_its_number() -> None:
    page = read(row(pipeline_run_id=None))
    assert [one.id for one in page.runs] == ["#7"]
    assert not page.incomplete


def test_ids_and_numbers_may_have_any_type() -> None:
    page = read(row(pipeline_run_id=4711, run_number="12"))
    assert [(one.id, one.number) for one in page.runs] == [("4711", 12)]
    assert CODEARTS.read_runs(body([row(pipeline_id=12)]), "12", NOW, {}).runs == [run()]


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_last_of_two_rows_of_a_run_is_used(order: tuple[int, int]) -> None:
    """The duplicate is reported, and the page stays complete."""
    twins = [row(), row(status="RUNNING", end_time=None)]
    page = read(*(twins[index] for index in order), row(1))
    assert (page.rows, [one.id for one in page.runs]) == (3, ["run-0", "run-1"])
    assert page.runs[0].status is (Status.SUCCESS, Status.RUNNING)[order[-1]]
    assert [reason for reason, _ in page.rejected] == ["duplicate"]
    assert not page.incomplete


def test_id_with_two_numbers_makes_the_page_incomplete() -> None:
    """One of both rows has a wrong id."""
    page = read(row(0), row(0, run_number=8))
    assert [one.number for one in page.runs] == [8]
    assert (page.unreadable, page.incomplete) == (1, True)
    assert [reason for reason, _ in page.rejected] == ["duplicate"]


@pytest.mark.parametrize("end", [0, "0", "", None, "1970-01-01 08:00:00"])
@pytest.mark.parametrize("status", ["RUNNING", "COMPLETED", "NEVER_HEARD_OF"])
def test_every_format_of_no_end_is_an_absent_end(end: Any, status: str) -> None:
    (one,) = read(row(end_time=end, status=status)).runs
    assert (one.start, one.end, one.duration) == (START, None, None)


def test_end_with_unknown_status_is_kept() -> None:
    """As in the other operations."""
    page = read(row(status="NEVER_HEARD_OF"), row(1, status="RUNNING"))
    assert [(one.status, one.end) for one in page.runs] == [(Status.UNKNOWN, END), (Status.RUNNING, None)]
    assert page.unknown_values == {("status", "NEVER_HEARD_OF")}


def test_stages_outside_their_run_are_reported() -> None:
    """A wrong time zone is detected in these rows as well."""
    stages = [{"name": "Build", "sequence": 0, "status": "COMPLETED", "start_time": "2023-03-04 08:48:09"}]
    assert read(row(stage_status_list=stages)).implausible_times


def test_every_row_is_counted() -> None:
    """Rejected ones as well, since the next page starts after them."""
    others: list[Any] = [None, 1, "x", [], {}, row(pipeline_id=OTHER), row(0, status=True), row(0), row(0)]
    page = read(*others, row(1))
    assert page.rows == len(others) + 1
    assert page.runs == [run(0), run(1)]
    assert page.unreadable == 6


@pytest.mark.parametrize(
    "literal", [b'"\xff\xfe"', b'"\\ud83d"', b"1e999", b"9" * 9999], ids=["bytes", "half", "number", "digits"]
)
@pytest.mark.parametrize("place", ["executor_id", "executor_name", "trigger_type", "detail_url"])
def test_corrupted_text_affects_its_field_only(place: str, literal: bytes) -> None:
    """It affects neither its row nor another."""
    answer = body([row(0, **{place: "SPOILT"}), row(1)]).replace(b'"SPOILT"', literal)
    assert CODEARTS.failure(CALL, 200, {}, answer) is None
    page = CODEARTS.read_runs(answer, PIPELINE_ID, NOW, {})
    assert [one.number for one in page.runs] == [7, 8]
    assert page.runs[1] == run(1)
    assert not page.incomplete
    str(page.runs).encode()


@pytest.mark.parametrize("odd", [None, [], "x", {}, -1, 0, 7, 1e300])
@pytest.mark.parametrize("key", ["total", "offset", "limit"])
def test_other_members_of_a_page_are_ignored(key: str, odd: Any) -> None:
    """Invalid, null or absent."""
    whole = json.loads(body([row()], **{key: odd}))
    for found in (whole, {name: value for name, value in whole.items() if name != key}):
        page = json.dumps(found).encode()
        assert CODEARTS.failure(CALL, 200, {}, page) is None
        assert CODEARTS.read_runs(page, PIPELINE_ID, NOW, {}).runs == [run()]


def test_thousands_of_rows_are_decoded_quickly() -> None:
    """Even if none of them is as documented."""
    page = body([row(index, executor_id=[]) for index in range(2000)])
    started = time.process_time()
    found = CODEARTS.read_runs(page, PIPELINE_ID, NOW, {})
    assert time.process_time() - started < 3
    assert found.rows == len(found.runs) == 2000


# -- properties

fields = st.sampled_from([*[(name,) for name in row()], ("stage_status_list", 0)])


@given(
    fields,
    st.sampled_from(["null", "remove", "replace"]),
    json_values,
    st.integers(2, 5),
    st.randoms(use_true_random=False),
)
@settings(deadline=None)
def test_corrupted_row_affects_no_other(
    path: tuple[Any, ...], change: str, value: Any, count: int, chance: random.Random
) -> None:
    """For any value of one field of one row, the others are decoded as if alone, in any order."""
    rows = [row(index) for index in range(1, count)]
    victim = corrupted(row(0), path, change, value)
    if str(victim.get("pipeline_run_id")) in {one["pipeline_run_id"] for one in rows}:
        return  # with the id of another run the last of both is used
    rows.append(victim)
    chance.shuffle(rows)
    answer = body(rows)
    assert CODEARTS.failure(CALL, 200, {}, answer) is None
    page = CODEARTS.read_runs(answer, PIPELINE_ID, NOW, {})
    assert page.rows == count
    sound = [run(int(item["executor_id"].removeprefix("executor-"))) for item in rows if item is not victim]
    assert [one for one in page.runs if one in sound] == sound
    # The corrupted row is the run with its number, or the page is incomplete. Exception: it became a valid row of another
    # pipeline or another number.
    if path not in {("pipeline_id",), ("run_number",)}:
        assert 7 in {one.number for one in page.runs} or page.incomplete


@given(st.lists(json_values, min_size=1, max_size=3), st.randoms(use_true_random=False))
@settings(deadline=None)
def test_item_that_is_not_a_row_is_unreadable(others: list[Any], chance: random.Random) -> None:
    """Each item that is not a run is counted, and the runs next to it are decoded."""
    rows: list[Any] = [row(0), *others, row(1)]
    chance.shuffle(rows)
    page = read(*rows)
    assert {one.id for one in page.runs} == {"run-0", "run-1"}
    assert (page.rows, page.unreadable, len(page.rejected)) == (len(rows), len(others), len(others))


bodies = (
    st.binary(max_size=60)
    | json_values.map(lambda value: json.dumps(value).encode())
    | json_values.map(lambda value: json.dumps({"pipeline_runs": value}).encode())
    | st.lists(json_values, max_size=3).map(body)
    | st.tuples(st.lists(json_values, max_size=2), json_values).map(lambda both: body(both[0], total=both[1]))
    | st.binary(max_size=12).map(lambda garbage: body([row(status="GARBAGE")]).replace(b"GARBAGE", garbage))
)


@given(st.integers(199, 300), bodies)
@examples(150)
def test_any_success_can_be_decoded(status: int, answer: bytes) -> None:
    """Decoding a success never raises, and every failure has a message."""
    failure = CODEARTS.failure(CALL, status, {}, answer)
    if failure is None:
        assert 200 <= status < 300
        page = CODEARTS.read_runs(answer, PIPELINE_ID, NOW, {})
        assert len(page.runs) + len(page.rejected) == page.rows
    else:
        assert failure.message or failure.error_code


# -- failures


@pytest.mark.parametrize("rows", [None, []])
def test_page_without_rows_is_empty(rows: Any) -> None:
    """It ends the list for any reported total."""
    page = body(rows, total=400)
    assert CODEARTS.failure(CALL, 200, {}, page) is None
    assert CODEARTS.read_runs(page, PIPELINE_ID, NOW, {}) == RunRows()


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"null",
        b"[]",
        b"{}",
        b'{"total":0}',
        b'{"pipelines":[]}',
        b'{"pipelineRuns":[]}',
        b'"x"',
        b"<html>",
        body([row()])[:-9],
    ],
)
def test_response_without_rows_is_invalid(answer: bytes) -> None:
    """Not an empty page, which would end the list."""
    failure = CODEARTS.failure(CALL, 200, {"x-request-id": "r-1"}, answer)
    assert failure is not None
    assert (failure.kind, failure.code, failure.error_code) == (FailureKind.UNREADABLE, "invalid", "")
    assert failure.message.startswith("unexpected response to ListPipelineRuns")


@pytest.mark.parametrize("rows", ["", "x", 0, False, {}, {"a": 1}])
def test_rows_that_are_not_a_list_are_invalid(rows: Any) -> None:
    failure = CODEARTS.failure(CALL, 200, {"x-request-id": "r-1"}, body(rows))
    assert failure is not None
    assert (failure.kind, failure.code, failure.request_id) == (FailureKind.UNREADABLE, "invalid", "r-1")
    assert failure.message.startswith(
        "unexpected response to ListPipelineRuns: pipeline_runs is not a list of rows"
    )


@pytest.mark.parametrize("status", [200, 400])
@pytest.mark.parametrize("shape", SHAPES)
def test_every_error_envelope_is_read(shape: str, status: int) -> None:
    """Also together with rows."""
    envelopes: list[dict[str, Any]] = [{}, {"pipeline_runs": []}]
    for also in envelopes:
        answer = json.dumps(SHAPES[shape]("DEVPIPE.00011136", "message") | also).encode()
        failure = CODEARTS.failure(CALL, status, {}, answer)
        assert failure is not None
        assert (failure.kind, failure.code) == (FailureKind.CONTENT, str(status))
        assert (failure.error_code, failure.message) == ("DEVPIPE.00011136", "message")


@pytest.mark.parametrize("status", [200, 404])
@pytest.mark.parametrize(
    ("code", "kind"),
    [
        ("DEVPIPE.00011401", FailureKind.CONTENT),
        ("DEVPIPE.00011412", FailureKind.PROJECT),
        ("APIGW.0101", FailureKind.PROJECT),
        ("APIGW.0301", FailureKind.CREDENTIALS),
        ("APIGW.0308", FailureKind.THROTTLED),
    ],
)
def test_missing_pipeline_fails_this_request_only(status: int, code: str, kind: FailureKind) -> None:
    """With status 200 and 404. Errors of the gateway and about the project concern all requests."""
    answer = json.dumps({"error_code": code, "error_msg": "message"}).encode()
    failure = CODEARTS.failure(CALL, status, {}, answer)
    assert failure is not None
    assert (failure.kind, failure.error_code) == (kind, code)


def test_deleted_pipeline_is_not_found() -> None:
    """It is not an empty page, since its runs are unknown."""
    desk, codearts = simulated()
    desk.cloud.deleted = {BUSY.id}
    call = codearts.runs_request(BUSY.id, PageCursor(), 10)
    answer = desk.request(call.method, call.path, content=call.body)
    failure = codearts.failure(call, answer.status_code, {}, answer.content)
    assert failure is not None
    assert (failure.kind, failure.error_code) == (FailureKind.CONTENT, "DEVPIPE.00011401")
