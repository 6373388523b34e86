"""The lists of pipelines: where they end is known, one row never costs another, and both spellings of a row are read."""

import json
import time
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exporter.core.failures import FailureKind
from exporter.core.model import LABEL_LENGTH
from exporter.providers.protocol import (
    ActivityRows,
    PageCursor,
    PipelineRows,
    SupportsActivityQuery,
    TimeWindow,
)
from tests.unit.providers.test_codearts import json_values, spoilt
from tests.unit.providers.test_flow_requests import NEVER_RAN, TODAY, WORLD, Desk, generations, provider

NOW = 1_748_400_000.0
SPOKEN = {name: provider(name) for name in ("personal", "signed")}
spoken = pytest.mark.parametrize("generation", SPOKEN)


def row(index: int = 0, **changes: Any) -> dict[str, Any]:
    """A pipeline as it was seen in the list of the personal generation; `changes` take the place of its own."""
    return {
        "name": f"pipeline-{index}",
        "owner": None,
        "pipelineConfig": None,
        "id": 4185805 + index,
        "createTime": 1748314799000,
        "modifierAccountId": None,
        "creatorAccountId": "665694bf",
        "updateTime": None,
        "groupId": 112627,
        "envName": None,
        "envId": None,
        "tagList": None,
        "pipelineConfigId": None,
        "creator": {"id": "665694bf", "username": None},
        "modifier": None,
        **changes,
    }


def documented(index: int = 0, **changes: Any) -> dict[str, Any]:
    """A pipeline as both generations document it."""
    return {
        "createTime": 1748314799000,
        "pipelineId": 4185805 + index,
        "pipelineName": f"pipeline-{index}",
        "createAccountId": "665694bf",
        **changes,
    }


def identity(index: int) -> str:
    return str(4185805 + index)


def body(generation: str, rows: Any, key: str = "pipelines", **envelope: Any) -> bytes:
    """An answer with rows: bare, or in an envelope."""
    if generation != "signed":
        return json.dumps(rows).encode()
    told = {"requestId": "r-1", "errorMessage": '""', key: rows, "totalCount": 1, "nextToken": None}
    return json.dumps({**told, "success": True, "errorCode": '""', **envelope}).encode()


def read(generation: str, *rows: Any) -> PipelineRows:
    return SPOKEN[generation].read_pipelines(body(generation, rows), NOW, {})


def plain(listing: PipelineRows) -> tuple[int, dict[str, str], list[str]]:
    """What was read: rows, names by id, why rows were rejected."""
    return listing.rows, listing.pipelines, [reason for reason, _ in listing.rejected]


# -- the whole list


def pages(desk: Desk) -> list[PipelineRows]:
    """All pages, up to the one that the cloud calls the last, or that is empty."""
    found: list[PipelineRows] = []
    place = PageCursor()
    while not found or (found[-1].rows and not found[-1].last):
        assert len(found) < 50
        found.append(desk.spoken.read_pipelines(*_answered(desk, place)))
        place = place.after(found[-1])
    return found


def _answered(desk: Desk, place: PageCursor) -> tuple[bytes, float, Mapping[str, str]]:
    answer, headers = desk.answer(desk.spoken.pipelines_request(place))
    return answer, TODAY, headers


@generations
@pytest.mark.parametrize("page_limit", [30, 13])
@pytest.mark.parametrize(
    ("switch", "value", "endless"),
    [
        ("spelling", "documented", False),
        ("page_headers", False, True),
        ("last_page", "empty", False),
        ("last_page", "absent", False),
        ("blank", None, False),
        ("blank", "", False),
    ],
)
def test_page_by_page_every_pipeline_is_found_once(
    generation: str, page_limit: int, switch: str, value: Any, endless: bool
) -> None:
    """Also where a cloud gives fewer rows than asked, and however it tells that there are no more."""
    desk = Desk(generation)
    desk.cloud.page_limit = page_limit
    setattr(desk.cloud, switch, value)
    found = pages(desk)
    names = [item for page in found for item in page.pipelines.items()]
    assert sorted(names) == sorted((desk.cloud.pipeline_id(one.id), one.name) for one in WORLD.pipelines)
    assert not any(page.rejected or page.words or page.runs or page.unusable for page in found)
    assert [page.last for page in found[:-1]] == [False] * (len(found) - 1)
    # Where nothing tells the end, the empty page does.
    if endless and generation != "signed":
        assert (found[-1].rows, found[-1].last) == (0, False)
    else:
        assert found[-1].last


@generations
def test_who_sees_nothing_sees_the_end_of_it(generation: str) -> None:
    desk = Desk(generation)
    desk.cloud.empty_list_with_total = True
    page = desk.spoken.read_pipelines(*_answered(desk, PageCursor()))
    assert (page.rows, page.pipelines) == (0, {})


# -- sweeps


@generations
def test_a_sweep_finds_what_is_under_way(generation: str) -> None:
    """Of the latest runs of all pipelines, and no other."""
    desk = Desk(generation)
    found = swept(desk, None)
    latest = {one.id: WORLD.latest_run(one.id, TODAY) for one in WORLD.pipelines}
    active = {desk.cloud.pipeline_id(key) for key, run in latest.items() if run and not run.status.finished}
    assert set(found) == active
    assert len(found) == len(active) > 0


@generations
def test_a_sweep_finds_what_was_started_within_a_window(generation: str) -> None:
    desk = Desk(generation)
    window = TimeWindow(TODAY - 7200, TODAY)
    latest = {one.id: WORLD.latest_run(one.id, TODAY) for one in WORLD.pipelines}
    begun = {desk.cloud.pipeline_id(key) for key, run in latest.items() if run and run.start >= window.since}
    assert set(swept(desk, window)) == begun
    assert 30 < len(begun) < len(WORLD.pipelines)
    assert desk.cloud.pipeline_id(NEVER_RAN.id) not in begun


def swept(desk: Desk, window: TimeWindow | None) -> list[str]:
    """The ids of all pages of a sweep."""
    found: list[str] = []
    place, sweep = PageCursor(), ActivityRows(rows=1)
    while sweep.rows and not sweep.last:
        assert place.pages < 50
        sweep = desk.spoken.read_activity(*desk.answer(desk.spoken.activity_request(place, window)))
        place = place.after(sweep)
        assert not sweep.rejected
        found += sweep.pipelines
    return found


@spoken
def test_a_sweep_is_read_row_by_row(generation: str) -> None:
    answer = body(generation, [row(0), 7, documented(1), row(2, id=None), row(0)])
    sweep = SPOKEN[generation].read_activity(answer, {})
    assert (sweep.rows, sweep.pipelines) == (5, [identity(0), identity(1)])
    assert [reason for reason, _ in sweep.rejected] == ["unreadable", "no_pipeline_id"]


# -- where a page says that it is the last


@pytest.mark.parametrize(
    ("headers", "last"),
    [
        ({}, False),
        ({"x-page": "1", "x-next-page": "2", "x-total-pages": "4"}, False),
        ({"x-page": "4", "x-total-pages": "4"}, True),
        ({"x-page": "5", "x-total-pages": "4"}, True),
        ({"x-page": "3", "x-total-pages": "4"}, False),
        ({"x-page": "4", "x-next-page": "", "x-total-pages": "4"}, True),
        ({"x-page": "4", "x-next-page": "0", "x-total-pages": "4"}, True),
        ({"x-page": "4", "x-next-page": "5", "x-total-pages": "4"}, True),
        ({"x-next-page": "2"}, False),
        ({"x-next-page": "4", "x-total-pages": "4"}, False),
        ({"x-total-pages": "4"}, False),
        ({"x-page": "1", "x-total-pages": "0"}, False),
        ({"x-page": "1", "x-total-pages": ""}, False),
        ({"x-page": "one", "x-total-pages": "many"}, False),
        ({"x-page": "-1", "x-total-pages": "-1"}, False),
        ({"x-page": "٣", "x-total-pages": "٣"}, False),
        ({"x-page": "9" * 30, "x-total-pages": "4"}, False),
        ({"x-page": "2", "x-per-page": "30", "x-total": "1", "x-total-pages": "1.0"}, False),
    ],
)
@pytest.mark.parametrize("rows", [0, 1, 30])
def test_the_headers_tell_the_last_page(headers: dict[str, str], last: bool, rows: int) -> None:
    """Where they are numbers; that rows are few tells nothing."""
    personal = SPOKEN["personal"]
    answer = body("personal", [row(index) for index in range(rows)])
    assert personal.read_pipelines(answer, NOW, headers).last is last
    assert personal.read_activity(answer, headers).last is last


@pytest.mark.parametrize(
    ("token", "told"), [(None, ""), ("", ""), ("absent", ""), ("a+b/c=", "a+b/c="), (17, "17")]
)
@pytest.mark.parametrize("rows", [0, 1, 30])
def test_the_token_tells_the_last_page(token: Any, told: str, rows: int) -> None:
    """Where there is none; headers of another generation tell nothing."""
    told_rows = [documented(index) for index in range(rows)]
    envelope = json.loads(body("signed", told_rows, nextToken=token))
    if token == "absent":
        del envelope["nextToken"]
    answer = json.dumps(envelope).encode()
    headers = {"x-page": "4", "x-total-pages": "4"}
    page = SPOKEN["signed"].read_pipelines(answer, NOW, headers)
    assert (page.rows, page.token, page.last) == (rows, told, not told)
    following = SPOKEN["signed"].pipelines_request(PageCursor().after(page))
    assert dict(following.query).get("nextToken", "") == told


@pytest.mark.parametrize("token", [[], {}, True, 1.5, ["a"]])
def test_a_token_that_is_none_is_not_the_end(token: Any) -> None:
    """Else what follows would be taken for gone."""
    signed = SPOKEN["signed"]
    failure = signed.failure(
        signed.pipelines_request(PageCursor()), 200, {}, body("signed", [documented()], nextToken=token)
    )
    assert failure is not None
    assert (failure.kind, failure.code) == (FailureKind.UNREADABLE, "invalid")
    assert "token" in failure.message


# -- what is read


@spoken
def test_a_row_is_read_in_either_spelling(generation: str) -> None:
    listing = read(generation, row(0), documented(1), row(2, pipelineId=1, pipelineName="documented"))
    assert plain(listing) == (
        3,
        {identity(0): "pipeline-0", identity(1): "pipeline-1", "1": "documented"},
        [],
    )
    assert (listing.runs, listing.unusable) == ({}, set())


@spoken
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
def test_names(generation: str, name: Any, told: str) -> None:
    """As they are told, where they are text or a number; a row without one is still a pipeline."""
    assert plain(read(generation, row(name=name))) == (1, {identity(0): told}, [])
    assert plain(read(generation, documented(pipelineName=name))) == (1, {identity(0): told}, [])


@spoken
@pytest.mark.parametrize(
    ("told", "reason"),
    [
        (None, "no_pipeline_id"),
        ("", "no_pipeline_id"),
        ([], "unreadable"),
        (True, "unreadable"),
        (1.5, "unreadable"),
        ("x" * (LABEL_LENGTH + 1), "no_pipeline_id"),
    ],
)
@pytest.mark.parametrize("make", [row, documented])
def test_a_row_that_names_no_pipeline_is_rejected_and_counted(
    generation: str, told: Any, reason: str, make: Any
) -> None:
    key = "id" if make is row else "pipelineId"
    listing = read(generation, make(0, **{key: told}), make(1))
    assert plain(listing) == (2, {identity(1): "pipeline-1"}, [reason])


@spoken
def test_every_row_is_counted(generation: str) -> None:
    """Used or not."""
    others: list[Any] = [None, 1, "x", [], {}, row(id=None), [row()]]
    listing = read(generation, *others, row(1))
    assert plain(listing)[:2] == (8, {identity(1): "pipeline-1"})
    assert len(listing.rejected) == len(others)


@spoken
@pytest.mark.parametrize(
    "literal", [b'"\xff\xfe"', b'"\\ud83d"', b"1e999", b"9" * 9999], ids=["bytes", "half", "number", "digits"]
)
@pytest.mark.parametrize("place", ["name", "owner", "creatorAccountId"])
def test_spoilt_text_costs_no_more_than_its_field(generation: str, place: str, literal: bytes) -> None:
    answer = body(generation, [row(0, **{place: "SPOILT"}), row(1)]).replace(b'"SPOILT"', literal)
    assert (
        SPOKEN[generation].failure(SPOKEN[generation].pipelines_request(PageCursor()), 200, {}, answer)
        is None
    )
    listing = SPOKEN[generation].read_pipelines(answer, NOW, {})
    assert list(listing.pipelines) == [identity(0), identity(1)]
    assert listing.pipelines[identity(1)] == "pipeline-1"


@pytest.mark.parametrize("odd", [None, [], "x", {}, -1, 1e300])
@pytest.mark.parametrize("key", ["totalCount", "requestId", "errorMessage"])
def test_what_stands_beside_the_rows_costs_nothing(key: str, odd: Any) -> None:
    signed = SPOKEN["signed"]
    page = body("signed", [documented()], **{key: odd})
    assert signed.failure(signed.pipelines_request(PageCursor()), 200, {}, page) is None
    assert list(signed.read_pipelines(page, NOW, {}).pipelines) == [identity(0)]


@spoken
def test_thousands_of_rows_are_read_in_no_time(generation: str) -> None:
    """Even where none of them fits the documentation."""
    page = body(generation, [row(index, name=["odd"]) for index in range(3000)])
    started = time.process_time()
    listing = SPOKEN[generation].read_pipelines(page, NOW, {})
    assert time.process_time() - started < 3
    assert listing.rows == len(listing.pipelines) == 3000


# -- properties


@given(
    st.sampled_from(list(SPOKEN)),
    st.sampled_from([row, documented]),
    st.data(),
    st.sampled_from(["null", "remove", "replace"]),
    json_values,
    st.integers(0, 2),
)
@settings(deadline=None)
def test_a_spoilt_row_costs_no_other(
    generation: str, make: Any, data: st.DataObject, change: str, value: Any, victim: int
) -> None:
    """Whatever takes the place of one field in one row, the other rows are read as if alone, and all are counted."""
    rows = [make(index) for index in range(3)]
    field = data.draw(st.sampled_from(list(rows[0])))
    rows[victim] = spoilt(rows[victim], (field,), change, value)
    page = body(generation, rows)
    said: SupportsActivityQuery = SPOKEN[generation]
    assert said.failure(said.pipelines_request(PageCursor()), 200, {}, page) is None
    listing = said.read_pipelines(page, NOW, {})
    assert listing.rows == 3
    others = {identity(index): f"pipeline-{index}" for index in {0, 1, 2} - {victim}}
    assert others.items() <= listing.pipelines.items() or field in {"id", "pipelineId"}
    assert others.keys() <= listing.pipelines.keys()
    assert said.read_activity(page, {}).pipelines == list(listing.pipelines)
    json.dumps(str(listing)).encode()


bodies = (
    st.binary(max_size=60)
    | json_values.map(lambda value: json.dumps(value).encode())
    | json_values.map(lambda value: json.dumps({"pipelines": value}).encode())
    | st.lists(json_values, max_size=3).map(lambda rows: body("signed", rows))
    | st.tuples(st.lists(json_values, max_size=2), json_values).map(
        lambda both: body("signed", both[0], nextToken=both[1])
    )
    | st.binary(max_size=12).map(
        lambda garbage: body("signed", [row(name="GARBAGE")]).replace(b"GARBAGE", garbage)
    )
)


@given(st.sampled_from(list(SPOKEN)), st.integers(199, 300), bodies)
@settings(deadline=None, max_examples=200)
def test_what_is_no_failure_can_be_read(generation: str, status: int, answer: bytes) -> None:
    """No answer that passes for a success raises, and any other has words."""
    said = SPOKEN[generation]
    failure = said.failure(said.pipelines_request(PageCursor()), status, {}, answer)
    if failure is None:
        assert 200 <= status < 300
        listing = said.read_pipelines(answer, NOW, {})
        assert listing.rows >= len(listing.pipelines) + len(listing.rejected)
    else:
        assert failure.message or failure.error_code
