"""The simulated Flow against the vendor's published example and observed answers, on a real port."""

import contextlib
import json
import secrets
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import quote, urlencode

import httpx
import pytest
from starlette.types import Receive, Scope, Send

from exporter.simulator import (
    Flow,
    FlowCredentials,
    InjectedFault,
    RecordedRequest,
    Scenario,
    SimulatedStatus,
    World,
    running,
)
from exporter.simulator.flow import signature
from exporter.simulator.flow.personal_records import SECRET
from exporter.simulator.flow.switches import FlowSwitches

pytestmark = pytest.mark.process

WORLD = World(seed=7, pipelines=120)
NOW = WORLD.start + 12 * 86_400 + 0.5
RAN = [pipeline for pipeline in WORLD.pipelines if pipeline.first is not None]
NEVER_RAN = next(pipeline for pipeline in WORLD.pipelines if pipeline.first is None)
OWN = RAN[0].id

# Published with GetPipelineRun of version 2021-06-25.
EXAMPLE = json.loads(r"""
{ "requestId": "ASSDS-ASSASX-XSAXSA-XSAXSAXS", "errorMessage": "\"\"", "pipelineRun": {
  "creatorAccountId": "1111111111", "createTime": 1586863220000, "updateTime": 1586863220000,
  "modifierAccountId": "11111111111", "pipelineId": 1234, "pipelineRunId": 1, "status": "SUCCESS", "triggerMode": 1,
  "stageGroup": [["阶段名称"]],
  "sources": [{"sign": "assaaaaaasasasa", "type": "Codeup",
    "data": {"branch": "master", "commint": "{}", "repo": "http://codeup.aliyun.com/a.git"}}],
  "stages": [{"name": "Java构建", "stageInfo": {"endTime": 1586863220000, "startTime": 1586863220000,
    "name": "Java构建", "status": "RUNNING",
    "jobs": [{"endTime": 1586863220000, "id": 21212, "name": "Java构建", "params": "{}", "status": "RUNNING",
      "startTime": 1586863220000,
      "actions": [{"type": "PassPipelineValidate", "disable": true, "params": {"key": ""}}]}]}}]},
  "success": true, "errorCode": "\"\"" }
""")

# Observed in the list of pipelines of the personal generation.
PIPELINE_ROW: dict[str, Any] = {
    "name": "demo",
    "owner": None,
    "pipelineConfig": None,
    "id": 4185805,
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
}


def milliseconds(moment: float) -> int:
    """Return a time in Flow's unit."""
    return int(moment) * 1000


def signing(
    path: str,
    query: str,
    operation: str,
    credentials: FlowCredentials,
    *,
    host: str,
    at: float,
    body: bytes = b"",
    unsigned: frozenset[str] = frozenset(),
    **headers: str,
) -> dict[str, str]:
    """Return the headers of a signed GET; `headers` (with _ for -) replace or extend the usual ones."""
    record = {
        "host": host,
        "x-acs-action": operation,
        "x-acs-version": "2021-06-25",
        "x-acs-date": datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "x-acs-signature-nonce": secrets.token_hex(16),
        "x-acs-content-sha256": "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    }
    if credentials.security_token is not None:
        record["x-acs-security-token"] = credentials.security_token
    record |= {name.replace("_", "-"): value for name, value in headers.items()}
    names = sorted(set(record) - unsigned)
    canonical = signature.canonical_request(
        method="GET",
        raw_path=path.encode(),
        raw_query=query.encode(),
        headers={name.encode(): value.encode() for name, value in record.items()},
        signed_headers=names,
        body=body,
    )
    value = signature.signature(credentials.secret_key, canonical)
    who = f"Credential={credentials.access_key},SignedHeaders={';'.join(names)}"
    return record | {"authorization": f"{signature.ALGORITHM} {who},Signature={value}"}


class SharedPort:
    """One port for several clouds, one after the other."""

    def __init__(self, client: httpx.Client) -> None:
        self.client = client
        self.cloud: Flow | None = None

    @classmethod
    @contextlib.contextmanager
    def open(cls) -> "Iterator[SharedPort]":
        """Open the port while the context lasts."""

        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            assert opened.cloud is not None
            await opened.cloud.app(scope, receive, send)

        with running(app) as url, httpx.Client(base_url=url, timeout=10) as client:
            opened = cls(client)
            yield opened


class Site:
    """A cloud on a shared port, whose clock stands at `now` until a test moves it, and a client."""

    def __init__(
        self, port: SharedPort, world: World = WORLD, now: float = NOW, scenario: Scenario | None = None
    ) -> None:
        self.client = port.client
        self.now = now
        self.cloud = port.cloud = Flow(world, clock=lambda: self.now, runs=scenario)
        self.host = f"{self.client.base_url.host}:{self.client.base_url.port}"
        self.pipelines = f"/organization/{self.cloud.organization_id}/pipelines"
        self.central = f"/oapi/v1/flow/organizations/{self.cloud.organization_id}/pipelines"
        self.token = {"x-yunxiao-token": self.cloud.credentials.personal_token}

    def sign(self, path: str, operation: str, **headers: Any) -> dict[str, str]:
        """Return the headers of a signed GET."""
        plain, _, query = path.partition("?")
        credentials = headers.pop("credentials", self.cloud.credentials)
        at = headers.pop("at", self.now)
        return signing(plain, query, operation, credentials, host=self.host, at=at, **headers)

    def request(self, path: str, operation: str, **query: Any) -> httpx.Response:
        """Send a request to the signed generation, with a path below that of its pipelines."""
        path = f"{self.pipelines}{path}" + (f"?{urlencode(query, quote_via=quote)}" if query else "")
        return self.client.get(path, headers=self.sign(path, operation))

    def listed(self, **query: Any) -> Any:
        """Return a page of pipelines of the signed generation."""
        return self.request("", "ListPipelines", **query).json()

    def runs(self, pipeline_id: str, **query: Any) -> Any:
        """Return a page of runs of the signed generation."""
        return self.request(f"/{self.id(pipeline_id)}/pipelineRuns", "ListPipelineRuns", **query).json()

    def run(self, pipeline_id: str, number: int | str) -> Any:
        """Return a run of the signed generation."""
        return self.request(f"/{self.id(pipeline_id)}/pipelineRuns/{number}", "GetPipelineRun").json()

    def bare(self, path: str, **query: Any) -> httpx.Response:
        """Send a request to the personal generation, with a path below that of its pipelines."""
        return self.client.get(f"{self.central}{path}", params=query, headers=self.token)

    def latest(self, pipeline_id: str) -> Any:
        """Return the latest run of the personal generation."""
        return self.bare(f"/{self.id(pipeline_id)}/runs/latestPipelineRun").json()

    def id(self, pipeline_id: str) -> str:
        """Return Flow's id of a pipeline of the world."""
        return self.cloud.pipeline_id(pipeline_id)


@pytest.fixture(scope="module")
def port() -> Iterator[SharedPort]:
    with SharedPort.open() as port:
        yield port


@pytest.fixture
def site(port: SharedPort) -> Site:
    return Site(port)


def same_shape(record: Any, example: Any, where: str = "") -> None:
    """Compare keys and JSON types; only times may be missing."""
    if isinstance(example, dict):
        absent = {"startTime", "endTime"} if where.endswith(("stageInfo", "jobs[]")) else set()
        assert set(record) <= set(example), where
        assert set(example) - set(record) <= absent, where
        for key, value in record.items():
            same_shape(value, example[key], f"{where}.{key}")
    elif isinstance(example, list):
        assert isinstance(record, list), where
        for item in record:
            same_shape(item, example[0], f"{where}[]")
    elif example is not None:
        assert type(record) is type(example), where


# -- the signed generation


def test_run_has_the_form_of_the_vendor_example(site: Site) -> None:
    seen = set()
    for pipeline in RAN[:60]:
        run = WORLD.latest_run(pipeline.id, NOW)
        assert run is not None
        answer = site.run(pipeline.id, run.number)
        same_shape(answer, EXAMPLE)
        record = answer["pipelineRun"]
        assert (record["pipelineId"], record["pipelineRunId"]) == (int(site.id(pipeline.id)), run.number)
        assert record["createTime"] == run.start * 1000 <= record["updateTime"] <= NOW * 1000
        assert sum(map(len, record["stageGroup"])) == len(record["stages"])
        assert [name for group in record["stageGroup"] for name in group] == [
            stage["name"] for stage in record["stages"]
        ]
        assert all(stage["name"] == stage["stageInfo"]["name"] for stage in record["stages"])
        seen |= {record["status"]} | {stage["stageInfo"]["status"] for stage in record["stages"]}
    assert seen >= {"SUCCESS", "FAIL", "RUNNING", "INIT", "FINISH"}


def test_time_that_is_not_reached_has_no_key(site: Site) -> None:
    for pipeline in RAN[:60]:
        run = WORLD.latest_run(pipeline.id, NOW)
        assert run is not None
        for stage in site.run(pipeline.id, run.number)["pipelineRun"]["stages"]:
            for part in (stage["stageInfo"], *stage["stageInfo"]["jobs"]):
                idle = {"INIT", "SKIP"} | ({"WAITING"} if "startTime" not in part else set())
                assert ("startTime" in part) is (part["status"] not in idle)
                assert ("endTime" in part) is (part["status"] in {"SUCCESS", "FINISH", "FAIL", "CANCELED"})


def test_run_list_has_start_and_end(site: Site) -> None:
    answer = site.runs(OWN, maxResults=30)
    assert {key: answer[key] for key in ("success", "errorCode", "errorMessage")} == {
        "success": True,
        "errorCode": '""',
        "errorMessage": '""',
    }
    latest = WORLD.latest_run(OWN, NOW)
    assert latest is not None
    assert answer["totalCount"] == latest.number
    numbers = [row["pipelineRunId"] for row in answer["pipelineRuns"]]
    assert numbers == list(range(latest.number, latest.number - 30, -1))
    for row in answer["pipelineRuns"][1:]:
        run = WORLD.run(OWN, row["pipelineRunId"], NOW)
        assert run is not None
        assert run.end is not None
        assert row["startTime"] == run.start * 1000
        assert row["endTime"] == run.end * 1000
        assert set(row) == {
            "pipelineId",
            "pipelineRunId",
            "status",
            "triggerMode",
            "startTime",
            "endTime",
            "creatorAccountId",
        }


def test_pipeline_list_has_no_runs(site: Site) -> None:
    rows = site.listed(maxResults=30)["pipelines"]
    youngest = WORLD.pipelines[:-31:-1]
    assert [(row["pipelineName"], str(row["pipelineId"])) for row in rows] == [
        (pipeline.name, site.id(pipeline.id)) for pipeline in youngest
    ]
    assert {frozenset(row) for row in rows} == {
        frozenset({"pipelineId", "pipelineName", "createTime", "creatorAccountId", "groupId"})
    }


def test_pipeline_record_has_no_id(site: Site) -> None:
    record = site.request(f"/{site.id(OWN)}", "GetPipeline").json()["pipeline"]
    assert record["name"] == RAN[0].name
    assert set(record) >= {"envId", "envName", "groupId", "tagList", "pipelineConfig", "updateTime"}
    assert not {"id", "pipelineId"} & set(record)
    assert record == site.bare(f"/{site.id(OWN)}").json()


# -- the personal generation


def test_latest_run_has_the_observed_form(site: Site) -> None:
    """Missing times are null, stages have their position, and parameters and URLs contain secrets."""
    waiting = False
    for pipeline in RAN[:60]:
        record = site.latest(pipeline.id)
        run = WORLD.latest_run(pipeline.id, NOW)
        assert run is not None
        assert (record["pipelineId"], record["pipelineRunId"]) == (int(site.id(pipeline.id)), run.number)
        assert record == site.bare(f"/{site.id(pipeline.id)}/runs/{run.number}").json()
        assert [index for group in record["stageGroup"] for index in group] == [
            stage["index"] for stage in record["stages"]
        ]
        assert record["pipelineType"] in {None, "PIPELINEASCODE"}
        assert {parameter["key"] for parameter in record["globalParams"]} == {"VERSION", "TOKEN"}
        assert SECRET in json.dumps(record["globalParams"])
        assert SECRET in record["sources"][0]["data"]["webhook"]
        for stage in record["stages"]:
            info = stage["stageInfo"]
            assert set(info) == {"id", "name", "status", "startTime", "endTime", "jobs"}
            for job in info["jobs"]:
                assert set(job) == {
                    "id", "jobSign", "name", "status", "startTime", "endTime", "params", "result", "actions",
                }  # fmt: skip
                waiting = waiting or bool(job["actions"])
                assert (job["startTime"] is None) is (
                    job["status"] in {"INIT", "SKIP"} or (job["status"] == "WAITING" and not job["actions"])
                )
                if job["result"] is not None:
                    assert json.loads(job["result"])["successful"] is True


def test_both_generations_report_the_same_run(site: Site) -> None:
    for pipeline in RAN[:40]:
        bare = site.latest(pipeline.id)
        signed = site.run(pipeline.id, bare["pipelineRunId"])["pipelineRun"]
        for key in ("createTime", "updateTime", "status", "triggerMode", "creatorAccountId"):
            assert signed[key] == bare[key]
        for one, other in zip(signed["stages"], bare["stages"], strict=True):
            assert one["name"] == other["name"]
            info, null = one["stageInfo"], other["stageInfo"]
            assert info["status"] == null["status"]
            assert (info.get("startTime"), info.get("endTime")) == (null["startTime"], null["endTime"])
            assert [job["id"] for job in info["jobs"]] == [job["id"] for job in null["jobs"]]


def test_rows_have_the_observed_or_the_documented_keys(site: Site) -> None:
    (row, *_) = site.bare("").json()
    same_shape(row, PIPELINE_ROW)
    assert (row["name"], str(row["id"])) == (WORLD.pipelines[-1].name, site.id(WORLD.pipelines[-1].id))
    site.cloud.spelling = "documented"
    (other, *_) = site.bare("").json()
    assert other == {
        "createTime": row["createTime"],
        "pipelineId": row["id"],
        "pipelineName": row["name"],
        "createAccountId": row["creatorAccountId"],
    }
    seen = {
        "status",
        "startTime",
        "triggerMode",
        "pipelineRunId",
        "pipelineId",
        "creator",
        "creatorAccountId",
    }
    (run, *_) = site.bare(f"/{site.id(OWN)}/runs").json()
    assert set(run) - {"endTime"} == seen
    site.cloud.run_status = False
    (run, *_) = site.bare(f"/{site.id(OWN)}/runs").json()
    assert set(run) - {"endTime"} == seen - {"status"}


def test_regional_edition_has_no_organization_in_its_paths(site: Site) -> None:
    for path in ("", f"/{site.id(OWN)}", f"/{site.id(OWN)}/runs", f"/{site.id(OWN)}/runs/1"):
        central = site.bare(path)
        region = site.client.get(f"/oapi/v1/flow/pipelines{path}", headers=site.token)
        assert region.status_code == central.status_code == 200
        assert region.content == central.content


@pytest.mark.parametrize(
    ("form", "status", "body"), [("404", 404, None), ("null", 200, b"null"), ("empty", 200, b"")]
)
def test_latest_run_without_runs_has_three_forms(
    site: Site, form: Any, status: int, body: bytes | None
) -> None:
    site.cloud.never_run = form
    answer = site.bare(f"/{site.id(NEVER_RAN.id)}/runs/latestPipelineRun")
    assert answer.status_code == status
    assert body is None or answer.content == body
    assert site.runs(NEVER_RAN.id)["pipelineRuns"] == site.bare(f"/{site.id(NEVER_RAN.id)}/runs").json() == []


# -- ids


def test_ids_are_numbers_that_rise_with_creation_and_depend_on_the_world(site: Site) -> None:
    ids = [int(site.id(pipeline.id)) for pipeline in WORLD.pipelines]
    assert ids == sorted(set(ids))
    assert all(1_000_000 <= number < 10_000_000 for number in ids)
    larger, other = Flow(World(seed=7, pipelines=200)), Flow(World(seed=8))
    assert [int(larger.pipeline_id(pipeline.id)) for pipeline in WORLD.pipelines] == ids
    assert (larger.organization_id, len(larger.organization_id)) == (site.cloud.organization_id, 24)
    assert other.organization_id != larger.organization_id
    with pytest.raises(KeyError):
        site.cloud.pipeline_id("f" * 32)


def test_requests_are_recorded_with_the_vendor_operation_names(site: Site) -> None:
    number = site.id(OWN)
    site.listed()
    site.request(f"/{number}", "GetPipeline")
    site.runs(OWN)
    site.run(OWN, 3)
    site.bare("")
    site.bare(f"/{number}")
    site.bare(f"/{number}/runs")
    site.bare(f"/{number}/runs/3")
    site.latest(OWN)
    site.client.get("/oapi/v1/flow")
    assert list(site.cloud.requests) == [
        RecordedRequest("ListPipelines", (), 200, NOW),
        RecordedRequest("GetPipeline", (number,), 200, NOW),
        RecordedRequest("ListPipelineRuns", (number,), 200, NOW),
        RecordedRequest("GetPipelineRun", (number,), 200, NOW, "3"),
        RecordedRequest("ListPipelines", (), 200, NOW),
        RecordedRequest("GetPipeline", (number,), 200, NOW),
        RecordedRequest("ListPipelineRuns", (number,), 200, NOW),
        RecordedRequest("GetPipelineRun", (number,), 200, NOW, "3"),
        RecordedRequest("GetLatestPipelineRun", (number,), 200, NOW),
        RecordedRequest(None, (), 404, NOW),
    ]
    assert site.cloud.max_in_flight >= 1


# -- quirks


def test_missing_end_in_the_run_list_has_three_forms(port: SharedPort) -> None:
    """With "mixed" the form depends on the run; an end that exists is reported."""
    scenario = Scenario(WORLD)
    site = Site(port, now=NOW + 60, scenario=scenario)
    for _ in range(30):
        scenario.begin(OWN, NOW)
    ended = scenario.begin(OWN, NOW)
    scenario.end(ended, NOW + 60, SimulatedStatus.COMPLETED)

    def forms() -> list[Any]:
        signed = site.runs(OWN, maxResults=40)["pipelineRuns"]
        bare = site.bare(f"/{site.id(OWN)}/runs", perPage=40).json()
        assert [row.get("endTime", "absent") for row in signed] == [
            row.get("endTime", "absent") for row in bare
        ]
        assert bare[0]["endTime"] == milliseconds(NOW + 60)
        return [row.get("endTime", "absent") for row in bare[1:]]

    site.cloud.page_limit = 100
    mixed = forms()
    assert len(mixed) == 30
    assert set(mixed) == {"absent", None, 0}
    assert forms() == mixed
    for form, value in (("absent", "absent"), ("null", None), ("zero", 0)):
        site.cloud.open_end = form  # type: ignore[assignment]
        assert set(forms()) == {value}


@pytest.mark.parametrize("blank", ['""', "", None, "”“"])
def test_success_envelope_can_have_an_error_code(site: Site, blank: str | None) -> None:
    site.cloud.blank = blank
    answer = site.listed()
    assert (answer["success"], answer["errorCode"], answer["errorMessage"]) == (True, blank, blank)


def test_run_can_be_created_before_its_start(site: Site) -> None:
    before = site.run(OWN, 1)["pipelineRun"]
    site.cloud.create_lead = 17
    after = site.run(OWN, 1)["pipelineRun"]
    assert after == before | {"createTime": before["createTime"] - 17_000}
    assert site.latest(OWN)["createTime"] == site.runs(OWN)["pipelineRuns"][0]["startTime"] - 17_000


def test_deleted_and_renamed_pipelines_change_lists_and_records(site: Site) -> None:
    other = RAN[1]
    site.cloud.renamed = {other.id: "renamed-pipeline"}
    site.cloud.deleted = {OWN}
    assert site.listed()["totalCount"] == 119
    (row,) = site.listed(pipelineName="RENAMED")["pipelines"]
    assert (str(row["pipelineId"]), row["pipelineName"]) == (site.id(other.id), "renamed-pipeline")
    assert site.bare(f"/{site.id(other.id)}").json()["name"] == "renamed-pipeline"
    assert site.runs(OWN)["Code"] == "InvalidPipeline.NotFound"


def test_list_can_be_empty_with_a_total(site: Site) -> None:
    site.cloud.empty_list_with_total = True
    answer = site.listed()
    assert (answer["pipelines"], answer["totalCount"]) == ([], 120)
    bare = site.bare("")
    assert (bare.json(), bare.headers["x-total"]) == ([], "120")


def test_stale_lists_are_behind_and_numbered_runs_are_not(port: SharedPort) -> None:
    scenario = Scenario(WORLD)
    site = Site(port, now=NOW + 61, scenario=scenario)
    run = scenario.begin(OWN, NOW)
    scenario.end(run, NOW + 60, SimulatedStatus.FAILED)
    site.cloud.stale = 30
    assert site.runs(OWN)["pipelineRuns"][0]["status"] == site.latest(OWN)["status"] == "RUNNING"
    assert site.listed(statusList="RUNNING")["totalCount"] == 1
    assert site.run(OWN, 1)["pipelineRun"]["status"] == "FAIL"


# -- errors

SERVICE_ERRORS: dict[str, tuple[Any, str, tuple[int, str], tuple[int, str]]] = {
    "no organization": (
        lambda site: None,
        "elsewhere",
        (404, "InvalidOrganization.NotFound"),
        (403, "Forbidden.InvalidOrganizationMember"),
    ),
    "no member": (
        lambda site: setattr(site.cloud, "no_membership", True),
        "",
        (403, "Forbidden.UserNotInCurrentOrganization"),
        (403, "Forbidden.InvalidUser.UserNotInCurrentOrganization"),
    ),
    "not registered": (
        lambda site: setattr(site.cloud, "unregistered", True),
        "",
        (400, "InvalidUser.NotFound"),
        (403, "Forbidden"),
    ),
    "no pipeline": (lambda site: None, "/1/{runs}", (404, "InvalidPipeline.NotFound"), (404, "NotFound")),
    "no id": (lambda site: None, "/abc/{runs}", (400, "InvalidParam.ParamNotPresent"), (400, "BadRequest")),
    "no run": (
        lambda site: None,
        "/{own}/{runs}/999999",
        (404, "InvalidPipelineRun.NotFound"),
        (404, "NotFound"),
    ),
    "no number": (
        lambda site: None,
        "/{own}/{runs}/1e3",
        (400, "InvalidParam.ParamNotPresent"),
        (400, "BadRequest"),
    ),
    "no right": (
        lambda site: site.cloud.forbidden.add(OWN),
        "/{own}/{runs}",
        (403, "Forbidden.RAM"),
        (403, "Forbidden"),
    ),
    "broken": (
        lambda site: site.cloud.poison.add(OWN),
        "/{own}/{runs}/1",
        (500, "InternalError"),
        (500, "InternalServerError"),
    ),
}


def _request_both(site: Site, path: str) -> tuple[httpx.Response, httpx.Response]:
    """Send the same request to both generations."""
    operation = "ListPipelines"
    if "{runs}" in path:
        operation = "GetPipelineRun" if path.rpartition("{runs}")[2] else "ListPipelineRuns"
    signed_path, bare_path = (
        f"{root.replace(site.cloud.organization_id, path) if path == 'elsewhere' else root}"
        + ("" if path == "elsewhere" else path.format(runs=runs, own=site.id(OWN)))
        for root, runs in ((site.pipelines, "pipelineRuns"), (site.central, "runs"))
    )
    return (
        site.client.get(signed_path, headers=site.sign(signed_path, operation)),
        site.client.get(bare_path, headers=site.token),
    )


@pytest.mark.parametrize("case", SERVICE_ERRORS)
def test_errors_of_the_service_have_status_and_code_in_both_generations(site: Site, case: str) -> None:
    prepare, path, record, bare_expected = SERVICE_ERRORS[case]
    prepare(site)
    signed, bare = _request_both(site, path)
    assert (signed.status_code, signed.json()["Code"]) == record
    assert set(signed.json()) == {"RequestId", "HostId", "Code", "Message", "Recommend"}
    assert signed.json()["RequestId"] == signed.headers["x-request-id"]
    assert (bare.status_code, bare.json()["errorCode"]) == bare_expected
    assert set(bare.json()) == {"errorCode", "errorMessage", "requestId"}


@pytest.mark.parametrize(("form", "status"), [("status", 404), ("envelope", 200)])
def test_error_of_the_service_can_come_in_an_envelope(site: Site, form: Any, status: int) -> None:
    site.cloud.error_form = form
    answer = site.request("/1/pipelineRuns/1", "GetPipelineRun")
    assert answer.status_code == status
    assert answer.json() == {
        "requestId": answer.headers["x-request-id"],
        "success": False,
        "errorCode": "InvalidPipeline.NotFound",
        "errorMessage": "The pipeline is not found.",
    }
    site.cloud.injected_fault = InjectedFault.ERROR_OBJECT
    record = site.request("", "ListPipelines")
    assert (record.status_code, record.json()["success"]) == (200, False)


def test_status_of_an_error_code_can_be_replaced(site: Site) -> None:
    site.cloud.statuses = {"InvalidPipeline.NotFound": 400, "NotFound": 410}
    signed, bare = _request_both(site, "/1/{runs}")
    assert (signed.status_code, bare.status_code) == (400, 410)


@pytest.mark.parametrize(
    ("path", "code"),
    [
        ("/organizations/x/pipelines", "InvalidApi.NotFound"),
        ("/", "InvalidApi.NotFound"),
        ("{pipelines}/", "InvalidApi.NotFound"),
        ("/oapi/v1/flow/organizations/pipelines", "NotFound"),
        ("{central}/1/run", "NotFound"),
    ],
)
def test_unpublished_path_is_404(site: Site, path: str, code: str) -> None:
    path = path.format(pipelines=site.pipelines, central=site.central)
    answer = site.client.get(path, headers=site.token)
    assert answer.status_code == 404
    assert answer.json().get("Code", answer.json().get("errorCode")) == code
    assert site.client.post(site.central, headers=site.token).json()["errorCode"] == "NotFound"


def test_missing_wrong_and_expired_personal_tokens_are_refused(site: Site) -> None:
    def record(headers: dict[str, str]) -> tuple[int, str]:
        answer = site.client.get(site.central, headers=headers)
        return answer.status_code, answer.json()["errorCode"]

    assert record({}) == record({"x-yunxiao-token": ""}) == (401, "Unauthorized")
    assert record({"x-yunxiao-token": "pt-another"}) == (401, "InvalidTokenError")
    site.cloud.expires = NOW + 1
    assert site.bare("").status_code == 200
    site.now += 1
    assert record(site.token) == (401, "ExpiredTokenError")
    site.cloud.expires = None
    site.cloud.credentials = FlowCredentials(personal_token="pt-rotated")
    assert record(site.token) == (401, "InvalidTokenError")
    strange = site.client.get(site.central, headers={b"x-yunxiao-token": "pt-é".encode()})
    assert (strange.status_code, strange.json()["errorCode"]) == (401, "InvalidTokenError")


@pytest.mark.parametrize("code", ["Throttling", "Throttling.User", "Throttling.Api"])
def test_throttled_client_gets_the_wait_in_milliseconds(site: Site, code: str) -> None:
    site.cloud.throttle, site.cloud.throttle_code = (2, 10), code
    site.listed()
    site.now += 2.5
    site.bare("")
    refused = site.request("", "ListPipelines")
    assert (refused.status_code, refused.json()["Code"]) == (400, code)
    assert "x-acs-retry-after" not in refused.headers
    site.cloud.retry_after = True
    site.now += 100
    site.listed()
    site.now += 2.5
    site.listed()
    signed = site.request("", "ListPipelines")
    bare = site.bare("")
    assert (bare.status_code, bare.json()["errorCode"]) == (429, "TooManyRequests")
    assert int(signed.headers["x-acs-retry-after"]) == 10_000
    site.now += int(bare.headers["x-acs-retry-after"]) / 1000
    assert site.bare("").status_code == 200


def test_requests_without_credentials_are_not_throttled(site: Site) -> None:
    site.cloud.throttle = 1, 10
    for _ in range(3):
        assert site.client.get(site.central).status_code == 401
        assert site.client.get(site.pipelines).status_code == 400
    assert site.bare("").status_code == 200


def test_skew_changes_date_and_signature_check(site: Site) -> None:
    site.cloud.skew = 1_200
    refused = site.request("", "ListPipelines")
    assert refused.json()["Code"] == "InvalidTimeStamp.Expired"
    assert parsedate_to_datetime(refused.headers["date"]).timestamp() == int(NOW + 1_200)
    path = f"{site.pipelines}?maxResults=1"
    headers = site.sign(path, "ListPipelines", at=NOW + 1_200)
    assert site.client.get(path, headers=headers).status_code == 200


def test_latency_delays_answers(site: Site) -> None:
    site.cloud.latency = 0.05
    started = time.monotonic()
    site.bare("")
    assert time.monotonic() - started >= 0.05


# These have no end, or end with the connection; other tests try them.
WHOLE = [
    m for m in InjectedFault if m not in {InjectedFault.HUGE, InjectedFault.DRIP, InjectedFault.TRUNCATED}
]
SPOKEN = {
    InjectedFault.SERVER_ERROR: ((500, "InternalError"), (500, "InternalServerError")),
    InjectedFault.THROTTLED: ((400, "Throttling.User"), (429, "TooManyRequests")),
    InjectedFault.DENIED: ((403, "Forbidden.RAM"), (403, "Forbidden")),
}


@pytest.mark.parametrize("injected_fault", WHOLE, ids=lambda m: m.name)
def test_injected_fault_replaces_the_answer_in_both_generations(
    site: Site, injected_fault: InjectedFault
) -> None:
    good = [site.runs(OWN), site.latest(OWN)]
    site.cloud.injected_fault, site.cloud.injected_fault_operation = injected_fault, "Another"
    assert site.latest(OWN) == good[1]
    site.cloud.injected_fault_operation = None
    signed = site.request(f"/{site.id(OWN)}/pipelineRuns", "ListPipelineRuns")
    bare = site.bare(f"/{site.id(OWN)}/runs/latestPipelineRun")
    if injected_fault in SPOKEN:
        record, bare_expected = SPOKEN[injected_fault]
        assert (signed.status_code, signed.json()["Code"]) == record
        assert (bare.status_code, bare.json()["errorCode"]) == bare_expected
    elif injected_fault is InjectedFault.NESTED_ERROR:
        assert signed.json() == {
            "error": {"code": "InternalError", "message": signed.json()["error"]["message"]}
        }
    elif injected_fault is InjectedFault.GARBLED:
        for answer in (signed, bare):
            with pytest.raises(UnicodeDecodeError):
                answer.content.decode()
        assert json.loads(bare.content.decode("utf-8", "ignore")) == good[1]
    else:
        for answer, was in zip((signed, bare), good, strict=True):
            with contextlib.suppress(ValueError):
                assert answer.json() != was
    site.cloud.poison = {OWN}
    assert site.run(OWN, 1)["Code"] == "InternalError"


def test_every_switch_is_documented() -> None:
    text = "".join(kind.__doc__ or "" for kind in FlowSwitches.__mro__)
    cloud = Flow(WORLD)
    for name in vars(FlowSwitches()):
        assert f"`{name}`" in text, name
        assert hasattr(cloud, name)
    assert cloud.page_limit == 30


def test_repr_of_credentials_has_no_secrets() -> None:
    assert "no-use" not in repr(FlowCredentials(security_token="no-use"))
