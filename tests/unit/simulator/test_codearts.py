"""The simulated CodeArts against the vendor's example and signature vectors, because other tests rely on it."""

import ast
import asyncio
import hashlib
import json
import socket
import time
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta, timezone
from email.utils import parsedate_to_datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.types import Receive, Scope, Send

import exporter.simulator
from exporter.simulator import (
    CodeArts,
    Credentials,
    InjectedFault,
    RecordedRequest,
    Scenario,
    World,
    running,
    serve,
)
from exporter.simulator.codearts import signature
from exporter.simulator.codearts.cloud import BATCH_STATUS
from exporter.simulator.http.answers import HUGE_BYTES, encode
from exporter.simulator.world.runs import RunSnapshot, SimulatedStatus

pytestmark = pytest.mark.process

DATA = Path(__file__).parents[2] / "data"
SEED = json.loads((DATA / "codearts_batch_seed.json").read_bytes())
VECTOR_FILE = json.loads((DATA / "huawei_sign_vectors.json").read_bytes())
VECTORS = [
    vector for vector in VECTOR_FILE["vectors"] if vector["authorization"].startswith(signature.ALGORITHM)
]

WORLD = World(seed=7, pipelines=400)
NOW = WORLD.start + 12 * 86_400 + 0.5
RUNNING_PIPELINES = [pipeline for pipeline in WORLD.pipelines if pipeline.first is not None]
NEVER_RUN = [pipeline for pipeline in WORLD.pipelines if pipeline.first is None]
FINISHED = {
    SimulatedStatus.COMPLETED,
    SimulatedStatus.FAILED,
    SimulatedStatus.CANCELED,
    SimulatedStatus.IGNORED,
}
UNFINISHED = {SimulatedStatus.RUNNING, SimulatedStatus.PAUSED, SimulatedStatus.SUSPEND}
ORDER = (
    {SimulatedStatus.INIT: 0, SimulatedStatus.QUEUED: 1}
    | dict.fromkeys(UNFINISHED, 2)
    | dict.fromkeys(FINISHED, 3)
)


class Site:
    """A cloud on a port, its clock, and a client."""

    def __init__(self, cloud: CodeArts, client: httpx.Client) -> None:
        self.cloud = cloud
        self.client = client
        self.path = f"/v5/{cloud.world.project_id}/api/pipelines/status"
        self.token = {"X-Auth-Token": cloud.credentials.token}

    def request(self, *ids: str) -> httpx.Response:
        """Query the status of `ids` with a valid token."""
        return self.client.post(self.path, json=ids, headers=self.token)

    def comes_to_rest(self) -> bool:
        """Wait up to a second until the server has noticed that no request is in flight."""
        for _ in range(100):
            if not self.cloud.in_flight:
                return True
            time.sleep(0.01)
        return False


class Desk:
    """A cloud that is called without a port; its clock stands at `now` until a test moves it."""

    def __init__(self, world: World = WORLD, now: float = NOW, runs: Scenario | None = None) -> None:
        self.now = now
        self.cloud = CodeArts(world, clock=lambda: self.now, runs=runs)
        self.token = {"X-Auth-Token": self.cloud.credentials.token}
        self.pipelines = f"/v5/{world.project_id}/api/pipelines"

    def request(
        self, method: str, path: str, *, headers: dict[str, str] | None = None, **body: Any
    ) -> httpx.Response:
        """Send a request, by default with the valid static token; `body` as httpx takes it."""

        async def send() -> httpx.Response:
            transport = httpx.ASGITransport(self.cloud.app)
            async with httpx.AsyncClient(transport=transport, base_url="http://testserver") as client:
                given = self.token if headers is None else headers
                return await client.request(method, path, headers=given, **body)

        return asyncio.run(send())

    def sign(
        self, method: str, path: str, credentials: Credentials, *, body: bytes = b"", skew: float = 0
    ) -> httpx.Response:
        """Send a signed request, with the security token of `credentials` if they have one."""
        also = (
            {"x-security-token": credentials.security_token} if credentials.security_token is not None else {}
        )
        headers = signed(path, body, credentials, at=self.now + skew, method=method, also=also)
        return self.request(method, path, headers=headers, content=body)

    def batch(self, *ids: str) -> httpx.Response:
        """Query the status of `ids`."""
        return self.request("POST", f"{self.pipelines}/status", json=ids)

    def listed(self, **body: Any) -> Any:
        """List pipelines; the body names the project unless it says otherwise."""
        body = {"project_id": self.cloud.world.project_id} | body
        return self.request("POST", f"{self.pipelines}/list", json=body).json()

    def detail(self, pipeline_id: str, run_id: str | None = None) -> Any:
        """Query the detail of a run, by default of the latest."""
        query = "" if run_id is None else f"?pipeline_run_id={run_id}"
        return self.request("GET", f"{self.pipelines}/{pipeline_id}/pipeline-runs/detail{query}").json()

    def runs(self, pipeline_id: str, **body: Any) -> Any:
        """List the runs of a pipeline."""
        return self.request("POST", f"{self.pipelines}/{pipeline_id}/pipeline-runs/list", json=body).json()


@pytest.fixture
def cloud() -> CodeArts:
    return CodeArts(WORLD, clock=lambda: NOW)


@pytest.fixture(scope="module")
def port() -> Iterator[tuple[list[CodeArts], httpx.Client]]:
    """One port for the whole file; it serves the cloud in the list."""
    clouds: list[CodeArts] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await clouds[0].app(scope, receive, send)

    with running(app) as url, httpx.Client(base_url=url, timeout=5) as client:
        yield clouds, client


@pytest.fixture
def site(cloud: CodeArts, port: tuple[list[CodeArts], httpx.Client]) -> Site:
    clouds, client = port
    clouds[:] = [cloud]
    return Site(cloud, client)


def signed(
    path: str,
    body: bytes,
    credentials: Credentials,
    *,
    host: str = "testserver",
    at: float = NOW,
    method: str = "POST",
    also: dict[str, str] | None = None,
) -> dict[str, str]:
    """Return the headers of a signed request; `also` are more headers to sign."""
    date = datetime.fromtimestamp(at, UTC).strftime("%Y%m%dT%H%M%SZ")
    headers = {"host": host, "x-sdk-date": date} | (also or {})
    names = tuple(sorted(headers))
    raw_path, _, raw_query = path.encode().partition(b"?")
    canonical = signature.canonical_request(
        method=method,
        raw_path=raw_path,
        raw_query=raw_query,
        headers={name.encode(): value.encode() for name, value in headers.items()},
        signed_headers=names,
        body=body,
    )
    value = signature.signature(credentials.secret_key, date, canonical)
    who = f"Access={credentials.access_key}, SignedHeaders={';'.join(names)}"
    return headers | {"authorization": f"{signature.ALGORITHM} {who}, Signature={value}"}


# -- the signature


@pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: vector["name"])
def test_signatures_of_example_and_sdk_match_from_bytes_on_the_wire(vector: dict[str, Any]) -> None:
    authorization = signature.parse(vector["authorization"])
    assert authorization is not None
    assert authorization.access_key == vector.get("ak", VECTOR_FILE["ak"])
    raw_path, _, raw_query = vector["wire_uri"].encode().partition(b"?")
    headers = {name.lower().encode(): value.encode() for name, value in vector["headers"].items()}
    canonical = signature.canonical_request(
        method=vector["method"],
        raw_path=raw_path,
        raw_query=raw_query,
        headers=headers | {b"host": vector["host"].encode()},
        signed_headers=authorization.signed_headers,
        body=vector["body"].encode(),
    )
    if "canonical_request" in vector:
        assert canonical.decode() == vector["canonical_request"]
    else:
        assert hashlib.sha256(canonical).hexdigest() == vector["canonical_request_sha256"]
    secret_key = vector.get("sk", VECTOR_FILE["sk"])
    assert (
        signature.signature(secret_key, vector["headers"]["X-Sdk-Date"], canonical) == authorization.signature
    )


def test_all_vectors_except_the_derived_one_are_checked() -> None:
    assert {vector["name"] for vector in VECTOR_FILE["vectors"]} - {vector["name"] for vector in VECTORS} == {
        "derived_v11"
    }


@pytest.mark.parametrize(
    "header", ["", "Bearer x", signature.ALGORITHM, "SDK-HMAC-SHA256 Access=a, Signature=b"]
)
def test_authorization_of_another_scheme_is_not_parsed(header: str) -> None:
    assert signature.parse(header) is None


# -- the world


def test_same_arguments_give_the_same_world() -> None:
    again, other = World(seed=7, pipelines=400), World(seed=8, pipelines=400)
    assert again.project_id == WORLD.project_id != other.project_id
    assert again.pipelines == WORLD.pipelines != other.pipelines
    for pipeline in WORLD.pipelines[:50]:
        assert again.latest_run(pipeline.id, NOW) == WORLD.latest_run(pipeline.id, NOW)


def test_larger_world_starts_with_the_pipelines_of_the_smaller_one() -> None:
    assert World(seed=7, pipelines=500).pipelines[:400] == WORLD.pipelines


def test_names_and_ids_are_unique_in_a_large_world() -> None:
    pipelines = World(pipelines=5_000).pipelines
    assert (
        len({pipeline.id for pipeline in pipelines})
        == len({pipeline.name for pipeline in pipelines})
        == 5_000
    )
    assert all(len(pipeline.id) == 32 for pipeline in pipelines)


def test_shares_of_statuses_overlaps_and_failing_pipelines_are_within_bounds() -> None:
    final_statuses: Counter[SimulatedStatus] = Counter()
    overlaps = 0
    for pipeline in RUNNING_PIPELINES:
        runs = [_existing(pipeline.id, number) for number in range(1, 15)]
        final_statuses.update(run.status for run in runs)
        overlaps += sum((before.end or 0) > after.start for before, after in pairwise(runs))
    total = final_statuses.total()
    assert 0.8 < final_statuses[SimulatedStatus.COMPLETED] / total < 0.9
    assert 0.06 < final_statuses[SimulatedStatus.FAILED] / total < 0.14
    assert 0.02 < final_statuses[SimulatedStatus.CANCELED] / total < 0.06
    assert 0.003 < final_statuses[SimulatedStatus.IGNORED] / total < 0.02
    assert 0 < overlaps / total < 0.03
    assert 0.01 < len(NEVER_RUN) / len(WORLD.pipelines) < 0.06
    assert {pipeline.failing for pipeline in WORLD.pipelines} == {0.07, 0.45, 0.95}
    seen = [run for pipeline in WORLD.pipelines if (run := WORLD.latest_run(pipeline.id, NOW))]
    assert {run.status for run in seen} >= {
        SimulatedStatus.COMPLETED,
        SimulatedStatus.RUNNING,
        SimulatedStatus.FAILED,
    }
    assert {stage.status for run in seen for stage in run.stages} >= {
        SimulatedStatus.INIT,
        SimulatedStatus.QUEUED,
        SimulatedStatus.RUNNING,
    }
    assert 20 < sorted(run.number for run in seen)[len(seen) // 2] < 5_000


def test_snapshot_of_a_run_takes_less_than_a_millisecond() -> None:
    """Benchmarks with thousands of pipelines must measure the exporter, not the simulator."""
    started = time.process_time()
    for pipeline in RUNNING_PIPELINES:
        WORLD.latest_run(pipeline.id, NOW)
    assert (time.process_time() - started) / len(RUNNING_PIPELINES) < 0.001


pipelines = st.sampled_from(RUNNING_PIPELINES)
numbers = st.integers(1, 2_000)
moments = st.floats(-1_000, 100_000)


def _existing(pipeline_id: str, number: int, now: float = NOW * 2) -> RunSnapshot:
    run = WORLD.run(pipeline_id, number, now)
    assert run is not None
    return run


@given(pipelines, numbers, st.lists(moments, min_size=2, max_size=8))
def test_later_snapshot_of_a_run_never_goes_back(pipeline: Any, number: int, offsets: list[float]) -> None:
    """A run stays visible, a finished run does not change, and stages only advance."""
    start = _existing(pipeline.id, number).start
    seen = [WORLD.run(pipeline.id, number, start + offset) for offset in sorted(offsets)]
    for before, after in pairwise(seen):
        if before is None:
            continue
        assert after is not None
        assert (after.id, after.start, after.origin) == (before.id, before.start, before.origin)
        if before.status in FINISHED:
            assert after == before
        for was, now in zip(before.stages, after.stages, strict=True):
            assert ORDER[now.status] >= ORDER[was.status]
            assert was.start in {None, now.start}
            assert was.end in {None, now.end}


@given(pipelines, numbers, moments)
def test_stage_times_and_statuses_agree_with_the_run(pipeline: Any, number: int, offset: float) -> None:
    """Times are ordered, lie within the run, and are present exactly where the status requires them."""
    start = _existing(pipeline.id, number).start
    run = WORLD.run(pipeline.id, number, start + offset)
    if run is None:
        assert offset < 0
        return
    assert run.start == start <= start + offset
    assert (run.end is None) == (run.status in UNFINISHED)
    assert run.end is None or start <= run.end <= start + offset
    assert 3 <= len(run.stages) <= 5
    clock = run.start
    for stage in run.stages:
        assert (stage.start is None) == (stage.status in {SimulatedStatus.INIT, SimulatedStatus.QUEUED})
        assert (stage.end is None) == (stage.status not in FINISHED)
        for moment in (stage.start, stage.end):
            if moment is not None:
                assert clock <= moment <= (run.end or start + offset)
                clock = moment
    statuses = [stage.status for stage in run.stages]
    reached = [status for status in statuses if status is not SimulatedStatus.INIT]
    assert statuses == reached + [SimulatedStatus.INIT] * (len(statuses) - len(reached))
    assert set(reached[:-1]) <= {SimulatedStatus.COMPLETED}
    if run.status in FINISHED:
        assert reached[-1] == run.status
        assert run.end == run.stages[len(reached) - 1].end


@given(pipelines, st.floats(0, 40 * 86_400))
def test_latest_run_is_the_newest_started_run(pipeline: Any, offset: float) -> None:
    now = WORLD.start + offset
    run = WORLD.latest_run(pipeline.id, now)
    assert run is not None
    assert run == WORLD.run(pipeline.id, run.number, now)
    assert run.start <= now < _existing(pipeline.id, run.number + 1).start


def test_missing_pipelines_and_runs_return_nothing() -> None:
    pipeline = RUNNING_PIPELINES[0]
    assert WORLD.latest_run(pipeline.id, WORLD.start - 10 * 365 * 86_400) is None
    assert WORLD.run(pipeline.id, 0, NOW) is None
    assert WORLD.run(pipeline.id, 1_000_000, NOW) is None
    assert WORLD.latest_run(NEVER_RUN[0].id, NOW) is WORLD.run(NEVER_RUN[0].id, 1, NOW) is None
    assert WORLD.latest_run("f" * 32, NOW) is WORLD.run("f" * 32, 1, NOW) is None


# -- the wire


def _same_shape(record: Any, example: Any, where: str = "") -> None:
    """Compare keys, their order, and JSON types; null is only allowed for a time."""
    if isinstance(example, dict):
        assert list(record) == list(example), where
        for key, value in example.items():
            _same_shape(record[key], value, f"{where}.{key}")
    elif isinstance(example, list):
        for item in record:
            _same_shape(item, example[0], f"{where}[]")
    elif example is None:
        assert record is None or type(record) is str, where
    elif record is None:
        assert where.endswith("_time"), where
    else:
        assert type(record) is type(example), where


def test_records_have_the_form_of_the_vendor_example(site: Site) -> None:
    records = site.request(*(pipeline.id for pipeline in WORLD.pipelines)).json()
    assert len(records) == len(RUNNING_PIPELINES)
    for record in records:
        page = f"/cicd/project/{WORLD.project_id}/pipeline/detail/{record['pipeline_id']}/{record['pipeline_run_id']}"
        # The vendor's example lacks it.
        assert record.pop("detail_url").endswith(page)
    _same_shape(records, SEED)
    for record in records:
        finished = record["status"] in FINISHED
        assert (record["end_time"] is not None) is finished
        assert record["build_params"]["event_type"] == record["trigger_type"]
        assert (record["build_params"]["merge_id"] is not None) is (record["trigger_type"] == "MR")
        assert (record["build_params"]["tag"] is not None) is (record["trigger_type"] == "CreateTag")


def test_stage_times_are_local_text_at_utc_plus_eight(site: Site) -> None:
    """In the vendor's example a stage starts a second after its run and ends with it."""

    def moments(record: Any) -> Iterator[float]:
        home = timezone(timedelta(hours=8))
        for stage in record["stage_status_list"]:
            for key in ("start_time", "end_time"):
                if stage[key]:
                    yield datetime.strptime(stage[key], "%Y-%m-%d %H:%M:%S").replace(tzinfo=home).timestamp()

    records = site.request(*(pipeline.id for pipeline in WORLD.pipelines)).json()
    for record in SEED + [record for record in records if record["end_time"]]:
        times = list(moments(record))
        assert 1 <= min(times) - record["start_time"] / 1000 <= 3
        assert max(times) == record["end_time"] / 1000


def test_batch_keeps_the_requested_order_and_omits_pipelines_without_runs(site: Site) -> None:
    first, second = RUNNING_PIPELINES[1].id, RUNNING_PIPELINES[0].id
    answer = site.request(first, NEVER_RUN[0].id, second, first, "f" * 32, "不存在")
    assert [record["pipeline_id"] for record in answer.json()] == [first, second]
    assert site.request().json() == site.request(NEVER_RUN[0].id).json() == []


@pytest.mark.parametrize(
    "body", [b"", b"{}", b"null", b"[1]", b'["a", null]', b'"a"', b"[", b"\xff", b"[" * 100_000]
)
def test_body_that_is_not_an_array_of_strings_is_a_parse_error(site: Site, body: bytes) -> None:
    answer = site.client.post(site.path, content=body, headers=site.token)
    assert answer.status_code == 400
    assert answer.json()["error_code"] == "PARSE_REQUEST_DATA_EXCEPTION"
    assert set(answer.json()) == {"error_code", "error_msg"}


def test_another_project_is_an_error_with_status_200(site: Site) -> None:
    answer = site.client.post(f"/v5/{'0' * 32}/api/pipelines/status", json=[], headers=site.token)
    assert (answer.status_code, answer.json()["error_code"]) == (200, "DEVPIPE.00011412")


def test_every_answer_has_a_request_id_and_the_date_of_the_cloud(site: Site) -> None:
    answers = [site.request(), site.client.get("/"), site.client.post(site.path)]
    for answer in answers:
        (date,) = answer.headers.get_list("date")
        assert parsedate_to_datetime(date).timestamp() == int(NOW)
        assert "server" not in answer.headers
    assert len({answer.headers["x-request-id"] for answer in answers}) == 3
    assert answers[2].json()["request_id"] == answers[2].headers["x-request-id"]


@pytest.mark.parametrize(("method", "suffix"), [("GET", ""), ("POST", "/"), ("POST", "/more")])
def test_unpublished_path_is_404(site: Site, method: str, suffix: str) -> None:
    answer = site.client.request(method, site.path + suffix, headers=site.token)
    assert (answer.status_code, answer.json()["error_code"]) == (404, "APIGW.0101")
    assert site.cloud.requests[-1] == RecordedRequest(None, (), 404, NOW)


def test_body_beyond_the_limit_is_413(site: Site) -> None:
    answer = site.client.post(site.path, content=b" " * (12 * 2**20 + 1), headers=site.token)
    assert answer.status_code == 413


# -- the gateway


def test_signed_request_is_accepted(site: Site) -> None:
    body = encode([RUNNING_PIPELINES[0].id])
    headers = signed(site.path, body, site.cloud.credentials, also={"content-type": "application/json"})
    answer = site.client.post(site.path, content=body, headers=headers)
    assert answer.status_code == 200
    assert len(answer.json()) == 1


def test_signature_covers_raw_path_and_query(site: Site) -> None:
    path = site.path.replace("api", "%61pi") + "?b=2&a=%20+x"
    headers = signed(path, b"[]", site.cloud.credentials)
    assert site.client.post(path, content=b"[]", headers=headers).status_code == 200
    assert site.client.post(path + "&c=3", content=b"[]", headers=headers).status_code == 401


TRUE = Credentials()
WRONG = Credentials(secret_key="another")
FAKE = Credentials(access_key="FOREIGN")
REFUSALS: dict[str, tuple[Callable[[str], dict[str, str]], str]] = {
    "nothing": (lambda _: {}, "x-auth-token not found"),
    "another scheme": (lambda _: {"Authorization": "Bearer x"}, "x-auth-token not found"),
    "wrong token": (lambda _: {"X-Auth-Token": "wrong"}, "decrypt token fail"),
    "empty token": (lambda _: {"X-Auth-Token": ""}, "decrypt token fail"),
    "foreign key": (lambda path: signed(path, b"[]", FAKE), "ak FOREIGN not exist"),
    "wrong secret": (
        lambda path: signed(path, b"[]", WRONG),
        "verify aksk signature fail,canonicalRequest:POST|/v5/",
    ),
    "other body": (lambda path: signed(path, b"[ ]", TRUE), "verify aksk signature fail"),
    "other path": (lambda path: signed(path + "x", b"[]", TRUE), "verify aksk signature fail"),
    "other host": (lambda path: signed(path, b"[]", TRUE) | {"host": "elsewhere"}, "|host:elsewhere|"),
    "malformed": (lambda _: {"Authorization": signature.ALGORITHM + " x"}, "verify aksk signature fail"),
    "no date": (
        lambda path: signed(path, b"[]", TRUE) | {"x-sdk-date": "today"},
        "verify aksk signature fail",
    ),
    "slow clock": (lambda path: signed(path, b"[]", TRUE, at=NOW - 902), "signature expired"),
    "fast clock": (lambda path: signed(path, b"[]", TRUE, at=NOW + 902), "signature expired"),
}


@pytest.mark.parametrize("case", REFUSALS)
def test_invalid_credentials_are_refused_with_a_reason(site: Site, case: str) -> None:
    headers, text = REFUSALS[case]
    answer = site.client.post(site.path, content=b"[]", headers=headers(site.path))
    assert answer.status_code == 401
    assert set(answer.json()) == {"error_msg", "error_code", "request_id"}
    assert answer.json()["error_code"] == "APIGW.0301"
    assert answer.json()["error_msg"].startswith("Incorrect IAM authentication information: ")
    assert text in answer.json()["error_msg"]
    assert site.cloud.requests[-1] == RecordedRequest(BATCH_STATUS, (), 401, NOW)


def test_date_within_fifteen_minutes_is_accepted(site: Site) -> None:
    for at in (NOW - 898, NOW + 898):
        headers = signed(site.path, b"[]", TRUE, at=at)
        assert site.client.post(site.path, content=b"[]", headers=headers).status_code == 200


def test_temporary_key_requires_its_security_token(site: Site) -> None:
    """The token is accepted whether or not it is signed."""
    site.cloud.credentials = temporary = Credentials(security_token="temporary")
    plain = signed(site.path, b"[]", temporary)
    also = signed(site.path, b"[]", temporary, also={"x-security-token": "temporary"})
    for headers, status in [
        (plain, 401),
        (plain | {"X-Security-Token": "other"}, 401),
        (plain | {"X-Security-Token": "temporary"}, 200),
        (also, 200),
    ]:
        assert site.client.post(site.path, content=b"[]", headers=headers).status_code == status


def test_repr_of_credentials_has_no_secrets() -> None:
    assert "no-use" not in repr(Credentials(security_token="no-use"))


# -- what a test can read and change


def test_requests_are_recorded(site: Site) -> None:
    site.request("b", "a", "b")
    site.client.post(site.path, json=["a"])
    assert list(site.cloud.requests) == [
        RecordedRequest(BATCH_STATUS, ("b", "a", "b"), 200, NOW),
        RecordedRequest(BATCH_STATUS, (), 401, NOW),
    ]
    assert site.comes_to_rest()
    assert site.cloud.max_in_flight >= 1


def test_maximum_of_requests_in_flight_is_recorded(site: Site) -> None:
    site.cloud.latency = 0.05

    async def ask_together() -> None:
        async with httpx.AsyncClient(base_url=str(site.client.base_url)) as client:
            await asyncio.gather(*(client.post(site.path, json=[], headers=site.token) for _ in range(5)))

    started = time.monotonic()
    asyncio.run(ask_together())
    assert time.monotonic() - started >= 0.05
    assert site.comes_to_rest()
    assert site.cloud.max_in_flight == 5


def test_rewrite_replaces_the_records_of_a_batch(site: Site) -> None:
    site.cloud.rewrite = lambda records: [record | {"status": "NOVEL"} for record in records]
    assert site.request(RUNNING_PIPELINES[0].id).json()[0]["status"] == "NOVEL"


STATUSES = {
    InjectedFault.BAD_GATEWAY: 502,
    InjectedFault.SERVER_ERROR: 500,
    InjectedFault.THROTTLED: 429,
    InjectedFault.DENIED: 403,
    InjectedFault.REDIRECT: 302,
}
IDS = [pipeline.id for pipeline in RUNNING_PIPELINES[:3]]


@pytest.mark.parametrize(
    "injected_fault",
    [m for m in InjectedFault if m not in {InjectedFault.TRUNCATED, InjectedFault.DRIP}],
    ids=lambda m: m.name,
)
def test_injected_fault_replaces_the_answer(site: Site, injected_fault: InjectedFault) -> None:
    good = site.request(*IDS)
    site.cloud.injected_fault = injected_fault
    bad = site.request(*IDS)
    assert bad.status_code == STATUSES.get(injected_fault, 200)
    assert bad.content != good.content
    assert "date" in bad.headers
    assert "x-request-id" in bad.headers
    code = {
        InjectedFault.SERVER_ERROR: "APIGW.0601",
        InjectedFault.THROTTLED: "APIGW.0308",
        InjectedFault.DENIED: "APIGW.0302",
        InjectedFault.ERROR_OBJECT: "DEVPIPE.00011136",
    }.get(injected_fault)
    if code:
        assert bad.json()["error_code"] == code
    match injected_fault:
        case InjectedFault.HTML | InjectedFault.BAD_GATEWAY:
            assert bad.headers["content-type"].startswith("text/html")
        case InjectedFault.EMPTY:
            assert bad.content == b""
        case InjectedFault.NULL:
            assert bad.content == b"null"
        case InjectedFault.CUT:
            assert good.content.startswith(bad.content)
        case InjectedFault.HUGE:
            assert len(bad.content) >= HUGE_BYTES
            assert {record["pipeline_id"] for record in bad.json()} == {"0" * 32}
        case InjectedFault.NESTED_ERROR:
            assert set(bad.json()["error"]) == {"code", "message"}
        case InjectedFault.GARBLED:
            with pytest.raises(UnicodeDecodeError):
                bad.content.decode()
            mended = json.loads(bad.content.decode("utf-8", "ignore"))
            assert mended == good.json()
            assert bad.content.endswith(encode(good.json()[2]) + b"]")
        case InjectedFault.REDIRECT:
            assert bad.headers["location"].startswith("/")


def test_injected_fault_does_not_replace_a_refusal(site: Site) -> None:
    site.cloud.injected_fault = InjectedFault.NULL
    assert site.client.post(site.path, json=[]).status_code == 401


def test_truncated_answer_closes_the_connection(site: Site) -> None:
    site.cloud.injected_fault = InjectedFault.TRUNCATED
    with pytest.raises(httpx.RemoteProtocolError, match="complete message body"):
        site.request(*IDS)


def test_dripping_answer_ends_when_the_client_disconnects(site: Site) -> None:
    site.cloud.injected_fault = InjectedFault.DRIP
    with site.client.stream("POST", site.path, json=IDS, headers=site.token) as answer:
        chunks = answer.iter_raw()
        assert next(chunks) + next(chunks) == b"[ "
        assert site.cloud.in_flight == 1
    assert site.comes_to_rest()


# -- the port


@pytest.mark.parametrize("latency", [0, 60])
def test_server_stops_at_once_and_restarts_on_its_port(cloud: CodeArts, latency: float) -> None:
    """It stops with an idle connection, an endless response, and a delayed response."""
    cloud.injected_fault = InjectedFault.DRIP
    with httpx.Client() as client:
        with running(cloud.app) as url:
            port = httpx.URL(url).port
            assert port
            client.get(url)
            cloud.latency = latency
            path = f"{url}/v5/{WORLD.project_id}/api/pipelines/status"
            lone = socket.create_connection(("127.0.0.1", port))
            token = f"X-Auth-Token: {cloud.credentials.token}"
            head = f"POST {httpx.URL(path).path} HTTP/1.1\r\nHost: x\r\n{token}\r\nContent-Length: 2"
            lone.sendall(f"{head}\r\n\r\n[]".encode())
            while cloud.in_flight == 0:
                time.sleep(0.005)
            started = time.monotonic()
        assert time.monotonic() - started < 10
        assert cloud.in_flight == 0
        with pytest.raises(httpx.ConnectError):
            client.get(url)
        lone.close()
        cloud.latency = 0
        with running(cloud.app, port=port) as again:
            assert again == url
            assert client.get(url).status_code == 404


def test_answers_are_sent_without_delay(site: Site) -> None:
    """With Nagle's algorithm, delayed acknowledgements would delay every response by 40 ms."""
    times = []
    for _ in range(15):
        started = time.perf_counter()
        site.request(*IDS)
        times.append(time.perf_counter() - started)
    assert min(times) < 0.03


def test_stopping_logs_no_error(cloud: CodeArts, caplog: pytest.LogCaptureFixture) -> None:
    cloud.injected_fault = InjectedFault.DRIP
    with httpx.Client() as client, running(cloud.app) as url:
        path = f"{url}/v5/{WORLD.project_id}/api/pipelines/status"
        drip = client.send(
            client.build_request("POST", path, json=[], headers={"X-Auth-Token": cloud.credentials.token}),
            stream=True,
        )
    drip.close()
    assert [record for record in caplog.records if record.levelname == "ERROR"] == []


def test_server_stopped_before_its_first_request_leaves_nothing(cloud: CodeArts) -> None:
    for _ in range(5):
        with running(cloud.app):
            pass


def test_taken_port_is_an_error(cloud: CodeArts) -> None:
    with (
        running(cloud.app) as url,
        pytest.raises(OSError, match="in use"),
        running(cloud.app, port=httpx.URL(url).port or 0),
    ):
        pass


def test_serve_in_a_running_loop_closes_the_listener_on_cancellation(cloud: CodeArts) -> None:
    async def serve_and_cancel() -> None:
        listener = socket.create_server(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        serving = asyncio.create_task(serve(cloud.app, listener))
        async with httpx.AsyncClient() as client:
            assert (await client.get(url)).status_code == 404
            serving.cancel()
            with pytest.raises(asyncio.CancelledError):
                await serving
            assert listener.fileno() == -1
        assert asyncio.all_tasks() == {asyncio.current_task()}

    asyncio.run(serve_and_cancel())


# -- what the simulator imports


def test_simulator_imports_nothing_else_of_the_exporter() -> None:
    """Otherwise the simulator could have the same errors as the exporter, and hide them."""
    for file in Path(exporter.simulator.__path__[0]).rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_bytes())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom):
                assert node.level == 0, file
                names = [node.module or ""]
            for name in names:
                assert not name.startswith("exporter") or name.startswith("exporter.simulator"), (file, name)
