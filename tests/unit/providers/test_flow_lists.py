"""Decoding of pipeline lists: the end of the list, independent rows, and both forms of a row."""

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
from tests.marks import examples
from tests.unit.providers.test_codearts import corrupted, json_values
from tests.unit.providers.test_flow_requests import (
    NEVER_RAN,
    TODAY,
    WORLD,
    FlowHarness,
    generations,
    provider,
)

NOW = 1_748_400_000.0
PROVIDERS = {name: provider(name) for name in ("personal", "signed")}
each_generation = pytest.mark.parametrize("generation", PROVIDERS)


def row(index: int = 0, **changes: Any) -> dict[str, Any]:
    """Return a row as observed with personal tokens, with `changes` applied."""
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
    """Return a row as documented for both generations."""
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
    """Return a response with rows, bare or in an envelope."""
    if generation != "signed":
        return json.dumps(rows).encode()
    found = {"requestId": "r-1", "errorMessage": '""', key: rows, "totalCount": 1, "nextToken": None}
    return json.dumps({**found, "success": True, "errorCode": '""', **envelope}).encode()


def read(generation: str, *rows: Any) -> PipelineRows:
    return PROVIDERS[generation].read_pipelines(body(generation, rows), NOW, {})


def plain(listing: PipelineRows) -> tuple[int, dict[str, str], list[str]]:
    """Return the number of rows, names by id, and reasons of rejections."""
    return listing.rows, listing.pipelines, [reason for reason, _ in listing.rejected]


# -- complete lists


def pages(harness: FlowHarness) -> list[PipelineRows]:
    """Return all pages, up to the last one or an empty one."""
    found: list[PipelineRows] = []
    place = PageCursor()
    while not found or (found[-1].rows and not found[-1].last):
        assert len(found) < 50
        found.append(harness.provider.read_pipelines(*_answered(harness, place)))
        place = place.after(found[-1])
    return found


def _answered(harness: FlowHarness, place: PageCursor) -> tuple[bytes, float, Mapping[str, str]]:
    answer, headers = harness.answer(harness.provider.pipelines_request(place))
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
def test_pages_have_every_pipeline_once(
    generation: str, page_limit: int, switch: str, value: Any, endless: bool
) -> None:
    """Also if the cloud returns fewer rows than requested, for each way to mark the end."""
    harness = FlowHarness(generation)
    harness.cloud.page_limit = page_limit
    setattr(harness.cloud, switch, value)
    found = pages(harness)
    names = [item for page in found for item in page.pipelines.items()]
    assert sorted(names) == sorted((harness.cloud.pipeline_id(one.id), one.name) for one in WORLD.pipelines)
    assert not any(page.rejected or page.unknown_values or page.runs or page.unusable for page in found)
    assert [page.last for page in found[:-1]] == [False] * (len(found) - 1)
    # Without a mark, the empty page is the end.
    if endless and generation != "signed":
        assert (found[-1].rows, found[-1].last) == (0, False)
    else:
        assert found[-1].last


@generations
def test_empty_list_has_an_end(generation: str) -> None:
    harness = FlowHarness(generation)
    harness.cloud.empty_list_with_total = True
    page = harness.provider.read_pipelines(*_answered(harness, PageCursor()))
    assert (page.rows, page.pipelines) == (0, {})


# -- activity queries


@generations
def test_activity_query_finds_running_pipelines(generation: str) -> None:
    """Exactly those whose latest run is running."""
    harness = FlowHarness(generation)
    found = active_pipelines(harness, None)
    latest = {one.id: WORLD.latest_run(one.id, TODAY) for one in WORLD.pipelines}
    active = {
        harness.cloud.pipeline_id(key) for key, run in latest.items() if run and not run.status.finished
    }
    assert set(found) == active
    assert len(found) == len(active) > 0


@generations
def test_activity_query_finds_runs_started_in_a_window(generation: str) -> None:
    harness = FlowHarness(generation)
    window = TimeWindow(TODAY - 7200, TODAY)
    latest = {one.id: WORLD.latest_run(one.id, TODAY) for one in WORLD.pipelines}
    begun = {
        harness.cloud.pipeline_id(key) for key, run in latest.items() if run and run.start >= window.since
    }
    assert set(active_pipelines(harness, window)) == begun
    assert 30 < len(begun) < len(WORLD.pipelines)
    assert harness.cloud.pipeline_id(NEVER_RAN.id) not in begun


def active_pipelines(harness: FlowHarness, window: TimeWindow | None) -> list[str]:
    """Return the ids on all pages of an activity query."""
    found: list[str] = []
    place, page = PageCursor(), ActivityRows(rows=1)
    while page.rows and not page.last:
        assert place.pages < 50
        page = harness.provider.read_activity(
            *harness.answer(harness.provider.activity_request(place, window))
        )
        place = place.after(page)
        assert not page.rejected
        found += page.pipelines
    return found


@each_generation
def test_activity_query_is_decoded_row_by_row(generation: str) -> None:
    answer = body(generation, [row(0), 7, documented(1), row(2, id=None), row(0)])
    page = PROVIDERS[generation].read_activity(answer, {})
    assert (page.rows, page.pipelines) == (5, [identity(0), identity(1)])
    assert [reason for reason, _ in page.rejected] == ["unreadable", "no_pipeline_id"]


# -- the last page


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
def test_headers_show_the_last_page(headers: dict[str, str], last: bool, rows: int) -> None:
    """Headers are used if they are numbers. The number of rows does not matter."""
    personal = PROVIDERS["personal"]
    answer = body("personal", [row(index) for index in range(rows)])
    assert personal.read_pipelines(answer, NOW, headers).last is last
    assert personal.read_activity(answer, headers).last is last


@pytest.mark.parametrize(
    ("token", "expected"), [(None, ""), ("", ""), ("absent", ""), ("a+b/c=", "a+b/c="), (17, "17")]
)
@pytest.mark.parametrize("rows", [0, 1, 30])
def test_missing_token_shows_the_last_page(token: Any, expected: str, rows: int) -> None:
    """Headers of the other generation are ignored."""
    sent_rows = [documented(index) for index in range(rows)]
    envelope = json.loads(body("signed", sent_rows, nextToken=token))
    if token == "absent":
        del envelope["nextToken"]
    answer = json.dumps(envelope).encode()
    headers = {"x-page": "4", "x-total-pages": "4"}
    page = PROVIDERS["signed"].read_pipelines(answer, NOW, headers)
    assert (page.rows, page.token, page.last) == (rows, expected, not expected)
    following = PROVIDERS["signed"].pipelines_request(PageCursor().after(page))
    assert dict(following.query).get("nextToken", "") == expected


@pytest.mark.parametrize("token", [[], {}, True, 1.5, ["a"]])
def test_invalid_token_is_not_the_end(token: Any) -> None:
    """Otherwise the following pipelines would count as deleted."""
    signed = PROVIDERS["signed"]
    failure = signed.failure(
        signed.pipelines_request(PageCursor()), 200, {}, body("signed", [documented()], nextToken=token)
    )
    assert failure is not None
    assert (failure.kind, failure.code) == (FailureKind.UNREADABLE, "invalid")
    assert "token" in failure.message


# -- rows


@each_generation
def test_both_forms_of_a_row_are_decoded(generation: str) -> None:
    listing = read(generation, row(0), documented(1), row(2, pipelineId=1, pipelineName="documented"))
    assert plain(listing) == (
        3,
        {identity(0): "pipeline-0", identity(1): "pipeline-1", "1": "documented"},
        [],
    )
    assert (listing.runs, listing.unusable) == ({}, set())


@each_generation
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
def test_name_is_used_unchanged(generation: str, name: Any, expected: str) -> None:
    """Text and numbers are used unchanged. A row without name is a pipeline."""
    assert plain(read(generation, row(name=name))) == (1, {identity(0): expected}, [])
    assert plain(read(generation, documented(pipelineName=name))) == (1, {identity(0): expected}, [])


@each_generation
@pytest.mark.parametrize(
    ("value", "reason"),
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
def test_row_without_pipeline_id_is_rejected_and_counted(
    generation: str, value: Any, reason: str, make: Any
) -> None:
    key = "id" if make is row else "pipelineId"
    listing = read(generation, make(0, **{key: value}), make(1))
    assert plain(listing) == (2, {identity(1): "pipeline-1"}, [reason])


@each_generation
def test_every_row_is_counted(generation: str) -> None:
    """Rejected rows are counted as well."""
    others: list[Any] = [None, 1, "x", [], {}, row(id=None), [row()]]
    listing = read(generation, *others, row(1))
    assert plain(listing)[:2] == (8, {identity(1): "pipeline-1"})
    assert len(listing.rejected) == len(others)


@each_generation
@pytest.mark.parametrize(
    "literal", [b'"\xff\xfe"', b'"\\ud83d"', b"1e999", b"9" * 9999], ids=["bytes", "half", "number", "digits"]
)
@pytest.mark.parametrize("place", ["name", "owner", "creatorAccountId"])
def test_corrupted_text_affects_its_field_only(generation: str, place: str, literal: bytes) -> None:
    answer = body(generation, [row(0, **{place: "SPOILT"}), row(1)]).replace(b'"SPOILT"', literal)
    assert (
        PROVIDERS[generation].failure(PROVIDERS[generation].pipelines_request(PageCursor()), 200, {}, answer)
        is None
    )
    listing = PROVIDERS[generation].read_pipelines(answer, NOW, {})
    assert list(listing.pipelines) == [identity(0), identity(1)]
    assert listing.pipelines[identity(1)] == "pipeline-1"


@pytest.mark.parametrize("odd", [None, [], "x", {}, -1, 1e300])
@pytest.mark.parametrize("key", ["totalCount", "requestId", "errorMessage"])
def test_other_members_of_a_page_are_ignored(key: str, odd: Any) -> None:
    signed = PROVIDERS["signed"]
    page = body("signed", [documented()], **{key: odd})
    assert signed.failure(signed.pipelines_request(PageCursor()), 200, {}, page) is None
    assert list(signed.read_pipelines(page, NOW, {}).pipelines) == [identity(0)]


@each_generation
def test_thousands_of_rows_are_decoded_quickly(generation: str) -> None:
    """Even if none of them is as documented."""
    page = body(generation, [row(index, name=["odd"]) for index in range(3000)])
    started = time.process_time()
    listing = PROVIDERS[generation].read_pipelines(page, NOW, {})
    assert time.process_time() - started < 3
    assert listing.rows == len(listing.pipelines) == 3000


# -- properties


@given(
    st.sampled_from(list(PROVIDERS)),
    st.sampled_from([row, documented]),
    st.data(),
    st.sampled_from(["null", "remove", "replace"]),
    json_values,
    st.integers(0, 2),
)
@settings(deadline=None)
def test_corrupted_row_affects_no_other(
    generation: str, make: Any, data: st.DataObject, change: str, value: Any, victim: int
) -> None:
    """For any value of one field of one row, the other rows are decoded as if alone, and all are counted."""
    rows = [make(index) for index in range(3)]
    field = data.draw(st.sampled_from(list(rows[0])))
    rows[victim] = corrupted(rows[victim], (field,), change, value)
    page = body(generation, rows)
    flow: SupportsActivityQuery = PROVIDERS[generation]
    assert flow.failure(flow.pipelines_request(PageCursor()), 200, {}, page) is None
    listing = flow.read_pipelines(page, NOW, {})
    assert listing.rows == 3
    others = {identity(index): f"pipeline-{index}" for index in {0, 1, 2} - {victim}}
    assert others.items() <= listing.pipelines.items() or field in {"id", "pipelineId"}
    assert others.keys() <= listing.pipelines.keys()
    assert flow.read_activity(page, {}).pipelines == list(listing.pipelines)
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


@given(st.sampled_from(list(PROVIDERS)), st.integers(199, 300), bodies)
@examples(200)
def test_any_success_can_be_decoded(generation: str, status: int, answer: bytes) -> None:
    """Decoding a success never raises, and every failure has a message."""
    flow = PROVIDERS[generation]
    failure = flow.failure(flow.pipelines_request(PageCursor()), status, {}, answer)
    if failure is None:
        assert 200 <= status < 300
        listing = flow.read_pipelines(answer, NOW, {})
        assert listing.rows >= len(listing.pipelines) + len(listing.rejected)
    else:
        assert failure.message or failure.error_code
