"""Requests to Flow, in both generations and editions, against the simulated cloud."""

import asyncio
from typing import Any

import httpx
import pytest

from exporter.auth.protocol import UnsignedRequest, query_string
from exporter.core.failures import FailureKind
from exporter.providers.protocol import ApiRequest, ListPage, PageCursor, SupportsActivityQuery, TimeWindow
from exporter.providers.registry import connect
from exporter.settings.settings import Config
from exporter.simulator import Flow, World
from tests.unit.providers.test_flow_project import CENTRAL_ID, KEYS, OWN_DOMAIN, TOKEN, settings

WORLD = World(seed=7, pipelines=120)
TODAY = WORLD.start + 12 * 86_400 + 0.5
RAN = [pipeline for pipeline in WORLD.pipelines if pipeline.first is not None]
NEVER_RAN = next(pipeline for pipeline in WORLD.pipelines if pipeline.first is None)

GENERATIONS: dict[str, dict[str, Any]] = {
    "personal": {"auth": TOKEN},
    "region": {"auth": TOKEN, "edition": "region", "endpoint": OWN_DOMAIN},
    "signed": {"auth": KEYS},
}
"""Configurations by generation."""

generations = pytest.mark.parametrize("generation", GENERATIONS)


def provider(generation: str, **changes: Any) -> SupportsActivityQuery:
    """Return the provider of an organization."""
    projects = [settings(**{**GENERATIONS[generation], **changes})]
    flow, _, _ = connect(Config.model_validate({"projects": projects}).projects[0], {})
    assert isinstance(flow, SupportsActivityQuery)
    return flow


class FlowHarness:
    """A simulated cloud without a port and with a fixed clock, and a provider with its credentials."""

    def __init__(self, generation: str) -> None:
        self.cloud = Flow(WORLD, clock=lambda: TODAY)
        good = self.cloud.credentials
        if GENERATIONS[generation]["auth"] is TOKEN:
            auth = {**TOKEN, "token": good.personal_token}
        else:
            auth = {**KEYS, "access_key": good.access_key, "secret_key": good.secret_key}
        changes = {**GENERATIONS[generation], "auth": auth, "organization_id": self.cloud.organization_id}
        (project,) = Config.model_validate({"projects": [settings(**changes)]}).projects
        flow, self.auth, _ = connect(project, {})
        assert isinstance(flow, SupportsActivityQuery)
        self.provider = flow

    def send(self, call: ApiRequest) -> httpx.Response:
        """Return the response of the cloud."""
        outgoing = UnsignedRequest(
            method=call.method, host="testserver", path=call.path, query=call.query, headers=call.headers
        )
        headers = {"Host": outgoing.host, **dict(call.headers), **self.auth.headers(outgoing, TODAY)}
        path = f"{call.path}?{query_string(call.query)}" if call.query else call.path

        async def asked() -> httpx.Response:
            transport = httpx.ASGITransport(self.cloud.app)
            async with httpx.AsyncClient(transport=transport, base_url="http://testserver") as client:
                return await client.request(call.method, path, headers=headers)

        return asyncio.run(asked())

    def answer(self, call: ApiRequest) -> tuple[bytes, dict[str, str]]:
        """Return body and headers of a successful response."""
        answer = self.send(call)
        headers = dict(answer.headers)
        assert self.provider.failure(call, answer.status_code, headers, answer.content) is None
        return answer.content, headers

    def failure(self, call: ApiRequest) -> tuple[FailureKind, str]:
        """Return kind and code of a failure."""
        answer = self.send(call)
        failure = self.provider.failure(call, answer.status_code, dict(answer.headers), answer.content)
        assert failure is not None
        return failure.kind, failure.error_code


ROOTS = {
    "personal": f"/oapi/v1/flow/organizations/{CENTRAL_ID}/pipelines",
    "region": "/oapi/v1/flow/pipelines",
    "signed": f"/organization/{CENTRAL_ID}/pipelines",
}
RUNS = {"personal": "runs", "region": "runs", "signed": "pipelineRuns"}


def headers_of(generation: str, operation: str) -> dict[str, str]:
    accept = {"Accept": "application/json"}
    if generation != "signed":
        return accept
    return accept | {"x-acs-action": operation, "x-acs-version": "2021-06-25"}


# -- lists

FIRST = PageCursor()
LATER = PageCursor().after(ListPage(rows=30, token="a+b/c=")).after(ListPage(rows=17, token="+/ ="))


@generations
@pytest.mark.parametrize("place", [FIRST, LATER])
def test_request_for_pipelines_selects_a_page(generation: str, place: PageCursor) -> None:
    """A page is requested by its number, or by the token of the page before, never by row offset."""
    call = provider(generation).pipelines_request(place)
    assert (call.operation, call.method, call.path) == ("ListPipelines", "GET", ROOTS[generation])
    assert dict(call.headers) == headers_of(generation, "ListPipelines")
    if generation == "signed":
        token = {"nextToken": "+/ ="} if place is LATER else {}
        assert dict(call.query) == {"maxResults": "30", **token}
    else:
        assert dict(call.query) == {"page": "3" if place is LATER else "1", "perPage": "30"}
    assert call.body == b""


@generations
@pytest.mark.parametrize("limit", [1, 10, 30, 100])
def test_request_for_runs_has_a_fixed_page_size(generation: str, limit: int) -> None:
    """The page size is fixed, since page numbers depend on it."""
    flow = provider(generation)
    call = flow.runs_request("12222", LATER, limit)
    assert (call.operation, call.method) == ("ListPipelineRuns", "GET")
    assert call.path == f"{ROOTS[generation]}/12222/{RUNS[generation]}"
    assert dict(call.headers) == headers_of(generation, "ListPipelineRuns")
    assert call.query == flow.pipelines_request(LATER).query


@generations
@pytest.mark.parametrize(
    ("window", "since", "until"),
    [
        (TimeWindow(1_700_000_000.0, 1_700_000_060.0), "1700000000000", "1700000060000"),
        (TimeWindow(1_700_000_000.0004, 1_700_000_060.0004), "1700000000000", "1700000060001"),
        (TimeWindow(1_748_314_799.123, 1_748_314_799.123), "1748314799123", "1748314799123"),
    ],
)
def test_request_for_activity_in_a_window(
    generation: str, window: TimeWindow, since: str, until: str
) -> None:
    """In whole milliseconds without exponent, rounded to include the window."""
    flow = provider(generation)
    call = flow.activity_request(LATER, window)
    assert (call.operation, call.path) == ("ListPipelines", ROOTS[generation])
    found = {"executeStartTime": since, "executeEndTime": until}
    assert dict(call.query) == {**dict(flow.pipelines_request(LATER).query), **found}
    assert dict(call.headers) == headers_of(generation, "ListPipelines")


@generations
def test_request_for_running_pipelines_filters_by_status(generation: str) -> None:
    flow = provider(generation)
    found = {"statusList": "RUNNING,WAITING"}
    assert dict(flow.activity_request(FIRST, None).query) == {
        **dict(flow.pipelines_request(FIRST).query),
        **found,
    }


# -- one run


@generations
def test_request_for_details_names_the_run(generation: str) -> None:
    call = provider(generation).detail_request("12222", "7")
    assert (call.operation, call.method, call.query) == ("GetPipelineRun", "GET", ())
    assert call.path == f"{ROOTS[generation]}/12222/{RUNS[generation]}/7"
    assert dict(call.headers) == headers_of(generation, "GetPipelineRun")


ODD_IDS = ["a/b", "../x", "a?b#c", "a b", "50%", "流水线", "a;b=c:d@e", "~._-"]


@generations
@pytest.mark.parametrize("odd", ODD_IDS)
def test_special_characters_in_ids_stay_in_their_path_segment(generation: str, odd: str) -> None:
    """No id changes the path. The cloud receives it and does not know it."""
    harness = FlowHarness(generation)
    pipeline = harness.cloud.pipeline_id(RAN[0].id)
    for call in (
        harness.provider.runs_request(odd, FIRST, 1),
        harness.provider.detail_request(odd, "1"),
        harness.provider.detail_request(pipeline, odd),
    ):
        assert call.path.isascii()
        assert set(call.path).isdisjoint("?#; ")
        kind, code = harness.failure(call)
        # The simulator's web framework decodes an encoded slash before routing.
        unknown = {"InvalidApi.NotFound"} if "/" in odd else set()
        assert code in {"InvalidParam.ParamNotPresent", "BadRequest", "NotFound", *unknown}
        assert kind is (FailureKind.PROJECT if code in unknown else FailureKind.CONTENT)


@generations
def test_simulated_cloud_accepts_every_request(generation: str) -> None:
    """The cloud recognizes the operation."""
    harness = FlowHarness(generation)
    pipeline = harness.cloud.pipeline_id(RAN[0].id)
    calls = [
        harness.provider.pipelines_request(FIRST),
        harness.provider.activity_request(FIRST, None),
        harness.provider.activity_request(FIRST, TimeWindow(TODAY - 3600, TODAY)),
        harness.provider.runs_request(pipeline, FIRST, 30),
        harness.provider.detail_request(pipeline, "1"),
    ]
    for call in calls:
        harness.answer(call)
    assert [seen.operation for seen in harness.cloud.requests] == [call.operation for call in calls]
