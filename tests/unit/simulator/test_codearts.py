"""Other tests believe in the simulated cloud, so it is held to the vendor's example and vectors here."""

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
from exporter.simulator import Call, CodeArts, Credentials, InjectedFault, Scenario, World, running, serve
from exporter.simulator.codearts import signature
from exporter.simulator.codearts.cloud import BATCH_STATUS
from exporter.simulator.http.faults import HUGE_BYTES, encoded
from exporter.simulator.world.runs import Run, Status

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
OVER = {Status.COMPLETED, Status.FAILED, Status.CANCELED, Status.IGNORED}
UNDER_WAY = {Status.RUNNING, Status.PAUSED, Status.SUSPEND}
ORDER = {Status.INIT: 0, Status.QUEUED: 1} | dict.fromkeys(UNDER_WAY, 2) | dict.fromkeys(OVER, 3)


class Site:
    """A cloud on a port, its clock, and a client that speaks to it."""

    def __init__(self, cloud: CodeArts, client: httpx.Client) -> None:
        self.cloud = cloud
        self.client = client
        self.path = f"/v5/{cloud.world.project_id}/api/pipelines/status"
        self.token = {"X-Auth-Token": cloud.credentials.token}

    def ask(self, *ids: str) -> httpx.Response:
        """Ask for the status of `ids` with a good token."""
        return self.client.post(self.path, json=ids, headers=self.token)

    def comes_to_rest(self) -> bool:
        """Wait, a second at most, for the server to notice what its client knows: that all is over."""
        for _ in range(100):
            if not self.cloud.under_way:
                return True
            time.sleep(0.01)
        return False


class Desk:
    """A cloud asked without a port, whose clock stands at `now` until it is moved."""

    def __init__(self, world: World = WORLD, now: float = NOW, runs: Scenario | None = None) -> None:
        self.now = now
        self.cloud = CodeArts(world, clock=lambda: self.now, runs=runs)
        self.token = {"X-Auth-Token": self.cloud.credentials.token}
        self.pipelines = f"/v5/{world.project_id}/api/pipelines"

    def ask(
        self, method: str, path: str, *, headers: dict[str, str] | None = None, **body: Any
    ) -> httpx.Response:
        """Send a request, with the good static token if no headers are given; `body` as httpx takes it."""

        async def asked() -> httpx.Response:
            transport = httpx.ASGITransport(self.cloud.app)
            async with httpx.AsyncClient(transport=transport, base_url="http://testserver") as client:
                given = self.token if headers is None else headers
                return await client.request(method, path, headers=given, **body)

        return asyncio.run(asked())

    def sign(
        self, method: str, path: str, credentials: Credentials, *, body: bytes = b"", skew: float = 0
    ) -> httpx.Response:
        """Send a signed request, with the security token of `credentials` if they have one."""
        also = (
            {"x-security-token": credentials.security_token} if credentials.security_token is not None else {}
        )
        headers = signed(path, body, credentials, at=self.now + skew, method=method, also=also)
        return self.ask(method, path, headers=headers, content=body)

    def batch(self, *ids: str) -> httpx.Response:
        """Ask for the status of `ids`."""
        return self.ask("POST", f"{self.pipelines}/status", json=ids)

    def listed(self, **body: Any) -> Any:
        """List pipelines, naming the project in the body unless that says otherwise."""
        body = {"project_id": self.cloud.world.project_id} | body
        return self.ask("POST", f"{self.pipelines}/list", json=body).json()

    def detail(self, pipeline_id: str, run_id: str | None = None) -> Any:
        """Ask for the detail of a run, or of the latest."""
        query = "" if run_id is None else f"?pipeline_run_id={run_id}"
        return self.ask("GET", f"{self.pipelines}/{pipeline_id}/pipeline-runs/detail{query}").json()

    def runs(self, pipeline_id: str, **body: Any) -> Any:
        """List the runs of a pipeline."""
        return self.ask("POST", f"{self.pipelines}/{pipeline_id}/pipeline-runs/list", json=body).json()


@pytest.fixture
def cloud() -> CodeArts:
    return CodeArts(WORLD, clock=lambda: NOW)


@pytest.fixture(scope="module")
def door() -> Iterator[tuple[list[CodeArts], httpx.Client]]:
    """Open one port for the whole file; behind it stands whichever cloud is in the list."""
    clouds: list[CodeArts] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await clouds[0].app(scope, receive, send)

    with running(app) as url, httpx.Client(base_url=url, timeout=5) as client:
        yield clouds, client


@pytest.fixture
def site(cloud: CodeArts, door: tuple[list[CodeArts], httpx.Client]) -> Site:
    clouds, client = door
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
    """Sign a request with host, date and the headers in `also`."""
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
def test_signature_of_the_vendor(vector: dict[str, Any]) -> None:
    """The published example and the vendor's SDK compute what we compute, from the bytes on the wire."""
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


def test_every_vector_but_the_derived_one_is_checked() -> None:
    assert {vector["name"] for vector in VECTOR_FILE["vectors"]} - {vector["name"] for vector in VECTORS} == {
        "derived_v11"
    }


@pytest.mark.parametrize(
    "header", ["", "Bearer x", signature.ALGORITHM, "SDK-HMAC-SHA256 Access=a, Signature=b"]
)
def test_an_authorization_of_another_kind_is_not_parsed(header: str) -> None:
    assert signature.parse(header) is None


# -- the world


def test_the_same_arguments_make_the_same_world() -> None:
    again, other = World(seed=7, pipelines=400), World(seed=8, pipelines=400)
    assert again.project_id == WORLD.project_id != other.project_id
    assert again.pipelines == WORLD.pipelines != other.pipelines
    for pipeline in WORLD.pipelines[:50]:
        assert again.latest_run(pipeline.id, NOW) == WORLD.latest_run(pipeline.id, NOW)


def test_a_larger_world_begins_with_the_smaller_one() -> None:
    assert World(seed=7, pipelines=500).pipelines[:400] == WORLD.pipelines


def test_names_and_ids_are_distinct_in_a_large_world() -> None:
    pipelines = World(pipelines=5_000).pipelines
    assert (
        len({pipeline.id for pipeline in pipelines})
        == len({pipeline.name for pipeline in pipelines})
        == 5_000
    )
    assert all(len(pipeline.id) == 32 for pipeline in pipelines)


def test_a_world_has_the_mixture_it_promises() -> None:
    """Shares of fates, of pipelines that never run, are red or flaky, and of overlaps, within wide bounds."""
    fates: Counter[Status] = Counter()
    overlaps = 0
    for pipeline in RUNNING_PIPELINES:
        runs = [_existing(pipeline.id, number) for number in range(1, 15)]
        fates.update(run.status for run in runs)
        overlaps += sum((before.end or 0) > after.start for before, after in pairwise(runs))
    total = fates.total()
    assert 0.8 < fates[Status.COMPLETED] / total < 0.9
    assert 0.06 < fates[Status.FAILED] / total < 0.14
    assert 0.02 < fates[Status.CANCELED] / total < 0.06
    assert 0.003 < fates[Status.IGNORED] / total < 0.02
    assert 0 < overlaps / total < 0.03
    assert 0.01 < len(NEVER_RUN) / len(WORLD.pipelines) < 0.06
    assert {pipeline.failing for pipeline in WORLD.pipelines} == {0.07, 0.45, 0.95}
    seen = [run for pipeline in WORLD.pipelines if (run := WORLD.latest_run(pipeline.id, NOW))]
    assert {run.status for run in seen} >= {Status.COMPLETED, Status.RUNNING, Status.FAILED}
    assert {stage.status for run in seen for stage in run.stages} >= {
        Status.INIT,
        Status.QUEUED,
        Status.RUNNING,
    }
    assert 20 < sorted(run.number for run in seen)[len(seen) // 2] < 5_000


def test_seeing_a_run_is_cheap() -> None:
    """A poll of thousands must measure the exporter, not us; the bound is generous for slow machines."""
    begun = time.perf_counter()
    for pipeline in RUNNING_PIPELINES:
        WORLD.latest_run(pipeline.id, NOW)
    assert (time.perf_counter() - begun) / len(RUNNING_PIPELINES) < 0.001


pipelines = st.sampled_from(RUNNING_PIPELINES)
numbers = st.integers(1, 2_000)
moments = st.floats(-1_000, 100_000)


def _existing(pipeline_id: str, number: int, now: float = NOW * 2) -> Run:
    run = WORLD.run(pipeline_id, number, now)
    assert run is not None
    return run


@given(pipelines, numbers, st.lists(moments, min_size=2, max_size=8))
def test_time_moves_a_run_forward_only(pipeline: Any, number: int, offsets: list[float]) -> None:
    """A run that was seen stays, one that is over stays as it is, and no stage goes back."""
    start = _existing(pipeline.id, number).start
    seen = [WORLD.run(pipeline.id, number, start + offset) for offset in sorted(offsets)]
    for before, after in pairwise(seen):
        if before is None:
            continue
        assert after is not None
        assert (after.id, after.start, after.origin) == (before.id, before.start, before.origin)
        if before.status in OVER:
            assert after == before
        for was, now in zip(before.stages, after.stages, strict=True):
            assert ORDER[now.status] >= ORDER[was.status]
            assert was.start in {None, now.start}
            assert was.end in {None, now.end}


@given(pipelines, numbers, moments)
def test_the_parts_of_a_run_agree(pipeline: Any, number: int, offset: float) -> None:
    """Times lie within the run, in order, and exactly where the status says that they exist."""
    start = _existing(pipeline.id, number).start
    run = WORLD.run(pipeline.id, number, start + offset)
    if run is None:
        assert offset < 0
        return
    assert run.start == start <= start + offset
    assert (run.end is None) == (run.status in UNDER_WAY)
    assert run.end is None or start <= run.end <= start + offset
    assert 3 <= len(run.stages) <= 5
    clock = run.start
    for stage in run.stages:
        assert (stage.start is None) == (stage.status in {Status.INIT, Status.QUEUED})
        assert (stage.end is None) == (stage.status not in OVER)
        for moment in (stage.start, stage.end):
            if moment is not None:
                assert clock <= moment <= (run.end or start + offset)
                clock = moment
    statuses = [stage.status for stage in run.stages]
    reached = [status for status in statuses if status is not Status.INIT]
    assert statuses == reached + [Status.INIT] * (len(statuses) - len(reached))
    assert set(reached[:-1]) <= {Status.COMPLETED}
    if run.status in OVER:
        assert reached[-1] == run.status
        assert run.end == run.stages[len(reached) - 1].end


@given(pipelines, st.floats(0, 40 * 86_400))
def test_the_latest_run_is_the_newest_that_has_started(pipeline: Any, offset: float) -> None:
    now = WORLD.start + offset
    run = WORLD.latest_run(pipeline.id, now)
    assert run is not None
    assert run == WORLD.run(pipeline.id, run.number, now)
    assert run.start <= now < _existing(pipeline.id, run.number + 1).start


def test_what_does_not_exist_is_none() -> None:
    pipeline = RUNNING_PIPELINES[0]
    assert WORLD.latest_run(pipeline.id, WORLD.start - 10 * 365 * 86_400) is None
    assert WORLD.run(pipeline.id, 0, NOW) is None
    assert WORLD.run(pipeline.id, 1_000_000, NOW) is None
    assert WORLD.latest_run(NEVER_RUN[0].id, NOW) is WORLD.run(NEVER_RUN[0].id, 1, NOW) is None
    assert WORLD.latest_run("f" * 32, NOW) is WORLD.run("f" * 32, 1, NOW) is None


# -- the wire


def _same_shape(given_value: Any, example: Any, where: str = "") -> None:
    """Compare: same keys in the same order, same JSON types; null only for a time that has not come."""
    if isinstance(example, dict):
        assert list(given_value) == list(example), where
        for key, value in example.items():
            _same_shape(given_value[key], value, f"{where}.{key}")
    elif isinstance(example, list):
        for item in given_value:
            _same_shape(item, example[0], f"{where}[]")
    elif example is None:
        assert given_value is None or type(given_value) is str, where
    elif given_value is None:
        assert where.endswith("_time"), where
    else:
        assert type(given_value) is type(example), where


def test_records_have_the_shape_of_the_vendors_example(site: Site) -> None:
    records = site.ask(*(pipeline.id for pipeline in WORLD.pipelines)).json()
    assert len(records) == len(RUNNING_PIPELINES)
    _same_shape(records, SEED)
    for record in records:
        over = record["status"] in OVER
        assert (record["end_time"] is not None) is over
        assert record["build_params"]["event_type"] == record["trigger_type"]
        assert (record["build_params"]["merge_id"] is not None) is (record["trigger_type"] == "MR")
        assert (record["build_params"]["tag"] is not None) is (record["trigger_type"] == "CreateTag")


def test_stage_times_are_told_eight_hours_ahead(site: Site) -> None:
    """As in the example, where a stage begins a second after its run and ends with it."""

    def moments(record: Any) -> Iterator[float]:
        home = timezone(timedelta(hours=8))
        for stage in record["stage_status_list"]:
            for key in ("start_time", "end_time"):
                if stage[key]:
                    yield datetime.strptime(stage[key], "%Y-%m-%d %H:%M:%S").replace(tzinfo=home).timestamp()

    records = site.ask(*(pipeline.id for pipeline in WORLD.pipelines)).json()
    for record in SEED + [record for record in records if record["end_time"]]:
        times = list(moments(record))
        assert 1 <= min(times) - record["start_time"] / 1000 <= 3
        assert max(times) == record["end_time"] / 1000


def test_order_is_that_of_the_first_mention_and_what_has_not_run_is_left_out(site: Site) -> None:
    first, second = RUNNING_PIPELINES[1].id, RUNNING_PIPELINES[0].id
    answer = site.ask(first, NEVER_RUN[0].id, second, first, "f" * 32, "不存在")
    assert [record["pipeline_id"] for record in answer.json()] == [first, second]
    assert site.ask().json() == site.ask(NEVER_RUN[0].id).json() == []


@pytest.mark.parametrize(
    "body", [b"", b"{}", b"null", b"[1]", b'["a", null]', b'"a"', b"[", b"\xff", b"[" * 100_000]
)
def test_a_body_that_is_no_array_of_strings_is_a_parse_error(site: Site, body: bytes) -> None:
    answer = site.client.post(site.path, content=body, headers=site.token)
    assert answer.status_code == 400
    assert answer.json()["error_code"] == "PARSE_REQUEST_DATA_EXCEPTION"
    assert set(answer.json()) == {"error_code", "error_msg"}


def test_another_project_is_refused_with_http_200(site: Site) -> None:
    answer = site.client.post(f"/v5/{'0' * 32}/api/pipelines/status", json=[], headers=site.token)
    assert (answer.status_code, answer.json()["error_code"]) == (200, "DEVPIPE.00011412")


def test_every_answer_has_one_date_of_the_clouds_clock_and_a_request_id(site: Site) -> None:
    answers = [site.ask(), site.client.get("/"), site.client.post(site.path)]
    for answer in answers:
        (date,) = answer.headers.get_list("date")
        assert parsedate_to_datetime(date).timestamp() == int(NOW)
        assert "server" not in answer.headers
    assert len({answer.headers["x-request-id"] for answer in answers}) == 3
    assert answers[2].json()["request_id"] == answers[2].headers["x-request-id"]


@pytest.mark.parametrize(("method", "suffix"), [("GET", ""), ("POST", "/"), ("POST", "/more")])
def test_a_path_that_is_not_published(site: Site, method: str, suffix: str) -> None:
    answer = site.client.request(method, site.path + suffix, headers=site.token)
    assert (answer.status_code, answer.json()["error_code"]) == (404, "APIGW.0101")
    assert site.cloud.requests[-1] == Call(None, (), 404, NOW)


def test_a_body_beyond_the_gateways_limit(site: Site) -> None:
    answer = site.client.post(site.path, content=b" " * (12 * 2**20 + 1), headers=site.token)
    assert answer.status_code == 413


# -- the gateway


def test_a_signed_request_passes(site: Site) -> None:
    body = encoded([RUNNING_PIPELINES[0].id])
    headers = signed(site.path, body, site.cloud.credentials, also={"content-type": "application/json"})
    answer = site.client.post(site.path, content=body, headers=headers)
    assert answer.status_code == 200
    assert len(answer.json()) == 1


def test_a_signature_covers_the_raw_path_and_query(site: Site) -> None:
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
def test_refusals(site: Site, case: str) -> None:
    headers, text = REFUSALS[case]
    answer = site.client.post(site.path, content=b"[]", headers=headers(site.path))
    assert answer.status_code == 401
    assert set(answer.json()) == {"error_msg", "error_code", "request_id"}
    assert answer.json()["error_code"] == "APIGW.0301"
    assert answer.json()["error_msg"].startswith("Incorrect IAM authentication information: ")
    assert text in answer.json()["error_msg"]
    assert site.cloud.requests[-1] == Call(BATCH_STATUS, (), 401, NOW)


def test_a_clock_within_fifteen_minutes_passes(site: Site) -> None:
    for at in (NOW - 898, NOW + 898):
        headers = signed(site.path, b"[]", TRUE, at=at)
        assert site.client.post(site.path, content=b"[]", headers=headers).status_code == 200


def test_a_temporary_key_needs_its_security_token(site: Site) -> None:
    """Signed or merely sent along: both are accepted."""
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


def test_secrets_do_not_show_in_a_representation() -> None:
    assert "no-use" not in repr(Credentials(security_token="no-use"))


# -- what a test can see and spoil


def test_calls_are_remembered(site: Site) -> None:
    site.ask("b", "a", "b")
    site.client.post(site.path, json=["a"])
    assert list(site.cloud.requests) == [
        Call(BATCH_STATUS, ("b", "a", "b"), 200, NOW),
        Call(BATCH_STATUS, (), 401, NOW),
    ]
    assert site.comes_to_rest()
    assert site.cloud.most_under_way >= 1


def test_the_most_requests_at_once_are_counted(site: Site) -> None:
    site.cloud.latency = 0.05

    async def ask_together() -> None:
        async with httpx.AsyncClient(base_url=str(site.client.base_url)) as client:
            await asyncio.gather(*(client.post(site.path, json=[], headers=site.token) for _ in range(5)))

    begun = time.monotonic()
    asyncio.run(ask_together())
    assert time.monotonic() - begun >= 0.05
    assert site.comes_to_rest()
    assert site.cloud.most_under_way == 5


def test_records_can_be_rewritten(site: Site) -> None:
    site.cloud.rewrite = lambda records: [record | {"status": "NOVEL"} for record in records]
    assert site.ask(RUNNING_PIPELINES[0].id).json()[0]["status"] == "NOVEL"


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
def test_mischief_that_is_complete_http(site: Site, injected_fault: InjectedFault) -> None:
    good = site.ask(*IDS)
    site.cloud.injected_fault = injected_fault
    bad = site.ask(*IDS)
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
            assert bad.content.endswith(encoded(good.json()[2]) + b"]")
        case InjectedFault.REDIRECT:
            assert bad.headers["location"].startswith("/")


def test_mischief_spares_the_refused(site: Site) -> None:
    site.cloud.injected_fault = InjectedFault.NULL
    assert site.client.post(site.path, json=[]).status_code == 401


def test_a_truncated_answer_ends_with_the_connection(site: Site) -> None:
    site.cloud.injected_fault = InjectedFault.TRUNCATED
    with pytest.raises(httpx.RemoteProtocolError, match="complete message body"):
        site.ask(*IDS)


def test_a_dripping_answer_ends_when_the_client_leaves(site: Site) -> None:
    site.cloud.injected_fault = InjectedFault.DRIP
    with site.client.stream("POST", site.path, json=IDS, headers=site.token) as answer:
        chunks = answer.iter_raw()
        assert next(chunks) + next(chunks) == b"[ "
        assert site.cloud.under_way == 1
    assert site.comes_to_rest()


# -- the port


@pytest.mark.parametrize("latency", [0, 60])
def test_a_server_stops_at_once_and_starts_again_on_its_port(cloud: CodeArts, latency: float) -> None:
    """Whatever is under way: an idle connection, one that drips for ever, one that is held back."""
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
            while cloud.under_way == 0:
                time.sleep(0.005)
            begun = time.monotonic()
        assert time.monotonic() - begun < 1
        assert cloud.under_way == 0
        with pytest.raises(httpx.ConnectError):
            client.get(url)
        lone.close()
        cloud.latency = 0
        with running(cloud.app, port=port) as again:
            assert again == url
            assert client.get(url).status_code == 404


def test_answers_do_not_wait_for_acknowledgements(site: Site) -> None:
    """Small packets are sent at once: a delayed acknowledgement would cost every answer 40 ms."""
    times = []
    for _ in range(15):
        begun = time.perf_counter()
        site.ask(*IDS)
        times.append(time.perf_counter() - begun)
    assert sorted(times)[len(times) // 2] < 0.03


def test_stopping_is_quiet(cloud: CodeArts, caplog: pytest.LogCaptureFixture) -> None:
    cloud.injected_fault = InjectedFault.DRIP
    with httpx.Client() as client, running(cloud.app) as url:
        path = f"{url}/v5/{WORLD.project_id}/api/pipelines/status"
        drip = client.send(
            client.build_request("POST", path, json=[], headers={"X-Auth-Token": cloud.credentials.token}),
            stream=True,
        )
    drip.close()
    assert [record for record in caplog.records if record.levelname == "ERROR"] == []


def test_a_server_stopped_before_it_began_leaves_nothing(cloud: CodeArts) -> None:
    for _ in range(5):
        with running(cloud.app):
            pass


def test_a_taken_port_is_an_error(cloud: CodeArts) -> None:
    with (
        running(cloud.app) as url,
        pytest.raises(OSError, match="in use"),
        running(cloud.app, port=httpx.URL(url).port or 0),
    ):
        pass


def test_serving_inside_a_running_loop_until_cancelled(cloud: CodeArts) -> None:
    async def scene() -> None:
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

    asyncio.run(scene())


# -- the walls


def test_the_simulator_knows_nothing_of_the_exporter() -> None:
    """Else a mistake of the exporter could be repeated by what is meant to find it."""
    for file in Path(exporter.simulator.__path__[0]).rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_bytes())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom):
                assert node.level == 0, file
                names = [node.module or ""]
            for name in names:
                assert not name.startswith("exporter") or name.startswith("exporter.simulator"), (file, name)
