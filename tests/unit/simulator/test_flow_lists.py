"""Flow's lists: a client that reads all pages sees every row once, and filters select the right rows."""

from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.simulator import Scenario, SimulatedStatus, World
from tests.marks import examples
from tests.unit.simulator.test_flow import NOW, OWN, RAN, WORLD, SharedPort, Site, milliseconds

# A deadline would measure the machine: every example reads a whole list.
SLOW = examples(25)
SMALL = World(seed=3, pipelines=37)
SELDOM = next(pipeline for pipeline in SMALL.pipelines if pipeline.period == 86_400)
WORDS = ("SUCCESS", "FAIL", "CANCELED", "RUNNING", "WAITING")


@pytest.fixture(scope="module")
def port() -> Iterator[SharedPort]:
    with SharedPort.open() as port:
        yield port


@pytest.fixture
def site(port: SharedPort) -> Site:
    return Site(port)


def by_token(site: Site, path: str, operation: str, key: str, **query: Any) -> list[Any]:
    """Read a list of the signed generation to its end."""
    rows: list[Any] = []
    while True:
        page = site.request(path, operation, **query).json()
        rows += page[key]
        assert page["totalCount"] >= len(rows)
        if not page.get("nextToken"):
            assert page["totalCount"] == len(rows)
            return rows
        query["nextToken"] = page["nextToken"]


def by_number(site: Site, path: str, **query: Any) -> list[Any]:
    """Read a list of the personal generation to its end, following its headers."""
    rows: list[Any] = []
    page = "1"
    while True:
        answer = site.bare(path, page=page, **query)
        rows += answer.json()
        paging = {
            name: int(value)
            for name, value in answer.headers.items()
            if name.startswith("x-") and value.isdigit()
        }
        assert paging["x-page"] == int(page)
        assert paging["x-total-pages"] == -(-paging["x-total"] // paging["x-per-page"])
        assert paging.get("x-prev-page", 0) == int(page) - 1
        if "x-next-page" not in paging:
            assert paging["x-total"] == len(rows)
            return rows
        page = answer.headers["x-next-page"]


# -- pages


@SLOW
@given(size=st.integers(1, 60), most=st.integers(1, 50), last=st.sampled_from(["null", "empty", "absent"]))
def test_pages_of_any_size_contain_every_pipeline_once_in_order(
    port: SharedPort, size: int, most: int, last: Any
) -> None:
    site = Site(port, SMALL)
    site.cloud.page_limit, site.cloud.last_page = most, last
    youngest = [site.id(pipeline.id) for pipeline in SMALL.pipelines[::-1]]
    signed = by_token(site, "", "ListPipelines", "pipelines", maxResults=size)
    assert [str(row["pipelineId"]) for row in signed] == youngest
    assert [str(row["id"]) for row in by_number(site, "", perPage=size)] == youngest


@SLOW
@given(
    size=st.integers(5, 60),
    order=st.sampled_from(["requested", "ascending", "descending", "random"]),
    status=st.sampled_from(["", "SUCCESS", "FAIL"]),
)
def test_pages_of_runs_contain_every_run_once(port: SharedPort, size: int, order: Any, status: str) -> None:
    site = Site(port, SMALL)
    site.cloud.runs_order = order
    query = {"status": status} if status else {}
    path = f"/{site.id(SELDOM.id)}"
    signed = by_token(
        site, f"{path}/pipelineRuns", "ListPipelineRuns", "pipelineRuns", maxResults=size, **query
    )
    bare = by_number(site, f"{path}/runs", perPage=size, **query)
    numbers = [row["pipelineRunId"] for row in signed]
    assert [row["pipelineRunId"] for row in bare] == numbers
    latest = SMALL.latest_run(SELDOM.id, NOW)
    assert latest is not None
    final_statuses = {
        "SUCCESS": {SimulatedStatus.COMPLETED, SimulatedStatus.IGNORED},
        "FAIL": {SimulatedStatus.FAILED},
    }
    expected = {
        number
        for number in range(1, latest.number + 1)
        if (run := SMALL.run(SELDOM.id, number, NOW))
        and run.status in final_statuses.get(status, {run.status})
    }
    assert len(numbers) == len(expected)
    assert set(numbers) == expected
    if order != "random":
        assert numbers == sorted(expected, reverse=order != "ascending")
    elif not status:
        assert numbers not in (sorted(expected), sorted(expected, reverse=True))


def test_pages_have_a_default_and_a_maximum_size(site: Site) -> None:
    assert len(site.listed()["pipelines"]) == len(site.bare("").json()) == 10
    assert len(site.listed(maxResults=100)["pipelines"]) == 30
    answer = site.bare("", perPage=100)
    assert (len(answer.json()), answer.headers["x-per-page"], answer.headers["x-total-pages"]) == (
        30,
        "30",
        "4",
    )
    beyond = site.bare("", page=99)
    assert (beyond.json(), beyond.headers["x-prev-page"]) == ([], "98")


def test_page_headers_can_be_switched_off(site: Site) -> None:
    site.cloud.page_headers = False
    answer = site.bare("", perPage=30)
    assert len(answer.json()) == 30
    assert {name for name in answer.headers if name.startswith("x-")} == {"x-request-id"}


def test_page_token_needs_percent_encoding(site: Site) -> None:
    token = site.listed()["nextToken"]
    assert {"+", "/"} < set(token)
    assert site.listed(nextToken=token)["pipelines"] != site.listed(nextToken="")["pipelines"]


@pytest.mark.parametrize(
    "query",
    [
        {"maxResults": "0"},
        {"maxResults": "ten"},
        {"maxResults": "-1"},
        {"nextToken": "10"},
        {"nextToken": "+//+MTA"},
        {"nextToken": "é"},
        {"executeStartTime": "1.72917804e+12"},
        {"createEndTime": "yesterday"},
        {"maxResults": "9" * 5_000},
    ],
)
def test_malformed_parameter_is_400_in_the_signed_generation(site: Site, query: dict[str, str]) -> None:
    answer = site.request("", "ListPipelines", **query)
    assert (answer.status_code, answer.json()["Code"]) == (400, "InvalidParam.ParamNotPresent")


@pytest.mark.parametrize(
    "query", [{"page": "0"}, {"perPage": "0"}, {"perPage": "x"}, {"triggerMode": "hand"}]
)
def test_malformed_parameter_is_400_in_the_personal_generation(site: Site, query: dict[str, str]) -> None:
    answer = site.bare(f"/{site.id(OWN)}/runs", **query)
    assert (answer.status_code, answer.json()["errorCode"]) == (400, "BadRequest")


# -- filters


def _executed(site: Site, **query: Any) -> set[str]:
    signed = {
        str(row["pipelineId"])
        for row in by_token(site, "", "ListPipelines", "pipelines", maxResults=30, **query)
    }
    assert {str(row["id"]) for row in by_number(site, "", perPage=30, **query)} == signed
    return signed


@SLOW
@given(since=st.integers(0, 7_200), length=st.integers(0, 7_200))
def test_execution_window_filters_by_the_latest_run(port: SharedPort, since: int, length: int) -> None:
    site = Site(port)
    begin = milliseconds(NOW - since - length)
    end = begin + length * 1000
    starts = {
        site.id(pipeline.id): run.start * 1000
        for pipeline in RAN
        if (run := WORLD.latest_run(pipeline.id, NOW))
    }
    assert _executed(site, executeStartTime=begin, executeEndTime=end) == {
        pipeline_id for pipeline_id, start in starts.items() if begin <= start <= end
    }
    assert _executed(site, executeStartTime=begin) == {
        pipeline_id for pipeline_id, start in starts.items() if begin <= start
    }


@given(place=st.integers(0, len(WORLD.pipelines) - 1), offset=st.floats(-400 * 86_400, 40 * 86_400))
def test_latest_start_equals_the_start_of_the_latest_run(place: int, offset: float) -> None:
    pipeline, now = WORLD.pipelines[place], WORLD.start + offset
    run = WORLD.latest_run(pipeline.id, now)
    assert WORLD.latest_start(pipeline.id, now) == (None if run is None else run.start)


def test_status_filters_find_every_pipeline_with_runs_once(site: Site) -> None:
    found = {status: _executed(site, statusList=status) for status in WORDS}
    assert all(found[status] for status in ("SUCCESS", "FAIL", "RUNNING"))
    combine = [pipeline_id for ids in found.values() for pipeline_id in ids]
    assert len(combine) == len(set(combine))
    assert set(combine) == {site.id(pipeline.id) for pipeline in RAN}
    assert _executed(site, statusList="FAIL,RUNNING") == found["FAIL"] | found["RUNNING"]
    assert _executed(site, statusList="NOVEL") == set()
    for pipeline_id in found["FAIL"]:
        assert site.bare(f"/{pipeline_id}/runs", perPage=1).json()[0]["status"] == "FAIL"


def test_pipelines_are_filtered_by_name_creator_and_creation_time(site: Site) -> None:
    rows = by_token(site, "", "ListPipelines", "pipelines", maxResults=30)
    part = WORLD.pipelines[5].name.split("-")[0]
    named = site.listed(pipelineName=part.upper(), maxResults=30)["pipelines"]
    assert named == [row for row in rows if part in row["pipelineName"]] != []
    makers = sorted({row["creatorAccountId"] for row in rows})
    assert len(makers) > 2
    made = by_token(
        site, "", "ListPipelines", "pipelines", maxResults=30, creatorAccountIds=",".join(makers[:2])
    )
    assert made == [row for row in rows if row["creatorAccountId"] in makers[:2]]
    first, last = rows[20]["createTime"], rows[10]["createTime"]
    window = by_token(
        site, "", "ListPipelines", "pipelines", maxResults=30, createStartTime=first, createEndTime=last
    )
    assert window == rows[10:21]
    someone = site.bare(f"/{site.id(OWN)}/runs", perPage=1).json()[0]["creatorAccountId"]
    assert site.id(OWN) in _executed(site, executeAccountIds=someone)


@SLOW
@given(first=st.integers(0, 60), length=st.integers(0, 20), trigger=st.sampled_from(["", 1, 2, 3]))
def test_runs_are_filtered_by_start_and_trigger(
    port: SharedPort, first: int, length: int, trigger: Any
) -> None:
    """The generations spell the end of the window differently; the other spelling is ignored."""
    site = Site(port, SMALL)
    path = f"/{site.id(SELDOM.id)}"
    site.cloud.page_limit = 10_000
    rows = site.runs(SELDOM.id, maxResults=10_000)["pipelineRuns"]
    until, since = (rows[min(place, len(rows) - 1)]["startTime"] for place in (first, first + length))
    expected_numbers = [
        row["pipelineRunId"]
        for row in rows
        if since <= row["startTime"] <= until and trigger in {"", row["triggerMode"]}
    ]
    query = {"startTime": since, "triggerMode": trigger}
    signed = site.runs(SELDOM.id, maxResults=10_000, endTime=until, **query)["pipelineRuns"]
    bare = site.bare(f"{path}/runs", perPage=10_000, endTme=until, **query).json()
    assert (
        [row["pipelineRunId"] for row in signed] == [row["pipelineRunId"] for row in bare] == expected_numbers
    )
    open_ended = site.bare(f"{path}/runs", perPage=10_000, endTime=until, **query).json()
    assert [row["pipelineRunId"] for row in open_ended][
        len(open_ended) - len(expected_numbers) :
    ] == expected_numbers
    assert len(open_ended) == sum(
        since <= row["startTime"] and trigger in {"", row["triggerMode"]} for row in rows
    )


def test_filters_apply_to_runs_of_a_scenario(port: SharedPort) -> None:
    scenario = Scenario(WORLD)
    site = Site(port, scenario=scenario)
    run = scenario.begin(OWN, NOW - 0.25)
    assert _executed(site, executeStartTime=milliseconds(NOW - 0.25)) == {site.id(OWN)}
    assert _executed(site, executeStartTime=milliseconds(NOW) + 1000) == set()
    scenario.pause(run, NOW, SimulatedStatus.SUSPEND)
    assert _executed(site, statusList="WAITING") == {site.id(OWN)}
    scenario.delete(run, NOW)
    assert _executed(site, executeStartTime=0) == set()
