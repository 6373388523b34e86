"""The simulated Flow is held to the vendor's published example, and to what others have seen, on a real port."""

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

from exporter.simulator import Call, Flow, FlowCredentials, InjectedFault, Scenario, Status, World, running
from exporter.simulator.flow import signature
from exporter.simulator.flow.personal_records import SECRET
from exporter.simulator.flow.switches import FlowSwitches

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

# Seen in the list of pipelines of the personal generation.
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
    """What Flow makes of a moment."""
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
    """Sign a GET as the vendor's rules say; `headers` (with _ for -) come in the place of the usual ones or beside."""
    told = {
        "host": host,
        "x-acs-action": operation,
        "x-acs-version": "2021-06-25",
        "x-acs-date": datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "x-acs-signature-nonce": secrets.token_hex(16),
        "x-acs-content-sha256": "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    }
    if credentials.security_token is not None:
        told["x-acs-security-token"] = credentials.security_token
    told |= {name.replace("_", "-"): value for name, value in headers.items()}
    names = sorted(set(told) - unsigned)
    canonical = signature.canonical_request(
        method="GET",
        raw_path=path.encode(),
        raw_query=query.encode(),
        headers={name.encode(): value.encode() for name, value in told.items()},
        signed_headers=names,
        body=body,
    )
    value = signature.signature(credentials.secret_key, canonical)
    who = f"Credential={credentials.access_key},SignedHeaders={';'.join(names)}"
    return told | {"authorization": f"{signature.ALGORITHM} {who},Signature={value}"}


class Door:
    """One port for many clouds, one after the other."""

    def __init__(self, client: httpx.Client) -> None:
        self.client = client
        self.cloud: Flow | None = None

    @classmethod
    @contextlib.contextmanager
    def open(cls) -> "Iterator[Door]":
        """Open it for as long as the context lasts."""

        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            assert opened.cloud is not None
            await opened.cloud.app(scope, receive, send)

        with running(app) as url, httpx.Client(base_url=url, timeout=10) as client:
            opened = cls(client)
            yield opened


class Site:
    """A cloud behind the door, whose clock stands at `now` until it is moved, and a client that speaks to it."""

    def __init__(
        self, door: Door, world: World = WORLD, now: float = NOW, story: Scenario | None = None
    ) -> None:
        self.client = door.client
        self.now = now
        self.cloud = door.cloud = Flow(world, clock=lambda: self.now, runs=story)
        self.host = f"{self.client.base_url.host}:{self.client.base_url.port}"
        self.pipelines = f"/organization/{self.cloud.organization_id}/pipelines"
        self.central = f"/oapi/v1/flow/organizations/{self.cloud.organization_id}/pipelines"
        self.token = {"x-yunxiao-token": self.cloud.credentials.personal_token}

    def sign(self, path: str, operation: str, **headers: Any) -> dict[str, str]:
        """The headers of a signed GET."""
        plain, _, query = path.partition("?")
        credentials = headers.pop("credentials", self.cloud.credentials)
        at = headers.pop("at", self.now)
        return signing(plain, query, operation, credentials, host=self.host, at=at, **headers)

    def ask(self, path: str, operation: str, **query: Any) -> httpx.Response:
        """Ask the signed generation for what lies below its pipelines."""
        path = f"{self.pipelines}{path}" + (f"?{urlencode(query, quote_via=quote)}" if query else "")
        return self.client.get(path, headers=self.sign(path, operation))

    def listed(self, **query: Any) -> Any:
        """A page of pipelines of the signed generation."""
        return self.ask("", "ListPipelines", **query).json()

    def runs(self, pipeline_id: str, **query: Any) -> Any:
        """A page of runs of the signed generation."""
        return self.ask(f"/{self.id(pipeline_id)}/pipelineRuns", "ListPipelineRuns", **query).json()

    def run(self, pipeline_id: str, number: int | str) -> Any:
        """A run of the signed generation."""
        return self.ask(f"/{self.id(pipeline_id)}/pipelineRuns/{number}", "GetPipelineRun").json()

    def bare(self, path: str, **query: Any) -> httpx.Response:
        """Ask the personal generation for what lies below its pipelines."""
        return self.client.get(f"{self.central}{path}", params=query, headers=self.token)

    def latest(self, pipeline_id: str) -> Any:
        """The latest run of the personal generation."""
        return self.bare(f"/{self.id(pipeline_id)}/runs/latestPipelineRun").json()

    def id(self, pipeline_id: str) -> str:
        """What Flow calls a pipeline of the world."""
        return self.cloud.pipeline_id(pipeline_id)


@pytest.fixture(scope="module")
def door() -> Iterator[Door]:
    with Door.open() as door:
        yield door


@pytest.fixture
def site(door: Door) -> Site:
    return Site(door)


def same_shape(told: Any, example: Any, where: str = "") -> None:
    """Compare: same keys and JSON types; only a time that has not come may have no key."""
    if isinstance(example, dict):
        absent = {"startTime", "endTime"} if where.endswith(("stageInfo", "jobs[]")) else set()
        assert set(told) <= set(example), where
        assert set(example) - set(told) <= absent, where
        for key, value in told.items():
            same_shape(value, example[key], f"{where}.{key}")
    elif isinstance(example, list):
        assert isinstance(told, list), where
        for item in told:
            same_shape(item, example[0], f"{where}[]")
    elif example is not None:
        assert type(told) is type(example), where


# -- the signed generation


def test_a_run_has_the_shape_of_the_vendors_example(site: Site) -> None:
    seen = set()
    for pipeline in RAN[:60]:
        run = WORLD.latest_run(pipeline.id, NOW)
        assert run is not None
        told = site.run(pipeline.id, run.number)
        same_shape(told, EXAMPLE)
        record = told["pipelineRun"]
        assert (record["pipelineId"], record["pipelineRunId"]) == (int(site.id(pipeline.id)), run.number)
        assert record["createTime"] == run.start * 1000 <= record["updateTime"] <= NOW * 1000
        assert sum(map(len, record["stageGroup"])) == len(record["stages"])
        assert [name for group in record["stageGroup"] for name in group] == [
            stage["name"] for stage in record["stages"]
        ]
        assert all(stage["name"] == stage["stageInfo"]["name"] for stage in record["stages"])
        seen |= {record["status"]} | {stage["stageInfo"]["status"] for stage in record["stages"]}
    assert seen >= {"SUCCESS", "FAIL", "RUNNING", "INIT", "FINISH"}


def test_what_has_not_begun_or_ended_has_no_key(site: Site) -> None:
    for pipeline in RAN[:60]:
        run = WORLD.latest_run(pipeline.id, NOW)
        assert run is not None
        for stage in site.run(pipeline.id, run.number)["pipelineRun"]["stages"]:
            for part in (stage["stageInfo"], *stage["stageInfo"]["jobs"]):
                idle = {"INIT", "SKIP"} | ({"WAITING"} if "startTime" not in part else set())
                assert ("startTime" in part) is (part["status"] not in idle)
                assert ("endTime" in part) is (part["status"] in {"SUCCESS", "FINISH", "FAIL", "CANCELED"})


def test_a_list_of_runs_has_their_times(site: Site) -> None:
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


def test_a_list_of_pipelines_tells_nothing_of_runs(site: Site) -> None:
    rows = site.listed(maxResults=30)["pipelines"]
    youngest = WORLD.pipelines[:-31:-1]
    assert [(row["pipelineName"], str(row["pipelineId"])) for row in rows] == [
        (pipeline.name, site.id(pipeline.id)) for pipeline in youngest
    ]
    assert {frozenset(row) for row in rows} == {
        frozenset({"pipelineId", "pipelineName", "createTime", "creatorAccountId", "groupId"})
    }


def test_a_pipeline_by_itself_has_no_id(site: Site) -> None:
    told = site.ask(f"/{site.id(OWN)}", "GetPipeline").json()["pipeline"]
    assert told["name"] == RAN[0].name
    assert set(told) >= {"envId", "envName", "groupId", "tagList", "pipelineConfig", "updateTime"}
    assert not {"id", "pipelineId"} & set(told)
    assert told == site.bare(f"/{site.id(OWN)}").json()


# -- the personal generation


def test_the_latest_run_is_told_as_it_has_been_seen(site: Site) -> None:
    """What has not begun or ended is null, a stage bears its place, and secrets lie about."""
    held = False
    for pipeline in RAN[:60]:
        told = site.latest(pipeline.id)
        run = WORLD.latest_run(pipeline.id, NOW)
        assert run is not None
        assert (told["pipelineId"], told["pipelineRunId"]) == (int(site.id(pipeline.id)), run.number)
        assert told == site.bare(f"/{site.id(pipeline.id)}/runs/{run.number}").json()
        assert [index for group in told["stageGroup"] for index in group] == [
            stage["index"] for stage in told["stages"]
        ]
        assert told["pipelineType"] in {None, "PIPELINEASCODE"}
        assert {parameter["key"] for parameter in told["globalParams"]} == {"VERSION", "TOKEN"}
        assert SECRET in json.dumps(told["globalParams"])
        assert SECRET in told["sources"][0]["data"]["webhook"]
        for stage in told["stages"]:
            info = stage["stageInfo"]
            assert set(info) == {"id", "name", "status", "startTime", "endTime", "jobs"}
            for job in info["jobs"]:
                assert set(job) == {
                    "id", "jobSign", "name", "status", "startTime", "endTime", "params", "result", "actions",
                }  # fmt: skip
                held = held or bool(job["actions"])
                assert (job["startTime"] is None) is (
                    job["status"] in {"INIT", "SKIP"} or (job["status"] == "WAITING" and not job["actions"])
                )
                if job["result"] is not None:
                    assert json.loads(job["result"])["successful"] is True


def test_both_generations_tell_the_same_run(site: Site) -> None:
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


def test_rows_have_the_keys_that_were_seen_or_those_documented(site: Site) -> None:
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


def test_the_edition_of_a_region_has_no_organization_in_its_paths(site: Site) -> None:
    for path in ("", f"/{site.id(OWN)}", f"/{site.id(OWN)}/runs", f"/{site.id(OWN)}/runs/1"):
        central = site.bare(path)
        region = site.client.get(f"/oapi/v1/flow/pipelines{path}", headers=site.token)
        assert region.status_code == central.status_code == 200
        assert region.content == central.content


@pytest.mark.parametrize(
    ("form", "status", "body"), [("404", 404, None), ("null", 200, b"null"), ("empty", 200, b"")]
)
def test_the_latest_run_of_what_never_ran(site: Site, form: Any, status: int, body: bytes | None) -> None:
    site.cloud.never_run = form
    answer = site.bare(f"/{site.id(NEVER_RAN.id)}/runs/latestPipelineRun")
    assert answer.status_code == status
    assert body is None or answer.content == body
    assert site.runs(NEVER_RAN.id)["pipelineRuns"] == site.bare(f"/{site.id(NEVER_RAN.id)}/runs").json() == []


# -- ids


def test_ids_are_numbers_that_rise_with_creation_and_belong_to_the_world(site: Site) -> None:
    ids = [int(site.id(pipeline.id)) for pipeline in WORLD.pipelines]
    assert ids == sorted(set(ids))
    assert all(1_000_000 <= number < 10_000_000 for number in ids)
    larger, other = Flow(World(seed=7, pipelines=200)), Flow(World(seed=8))
    assert [int(larger.pipeline_id(pipeline.id)) for pipeline in WORLD.pipelines] == ids
    assert (larger.organization_id, len(larger.organization_id)) == (site.cloud.organization_id, 24)
    assert other.organization_id != larger.organization_id
    with pytest.raises(KeyError):
        site.cloud.pipeline_id("f" * 32)


def test_calls_are_remembered_by_the_vendors_names(site: Site) -> None:
    number = site.id(OWN)
    site.listed()
    site.ask(f"/{number}", "GetPipeline")
    site.runs(OWN)
    site.run(OWN, 3)
    site.bare("")
    site.bare(f"/{number}")
    site.bare(f"/{number}/runs")
    site.bare(f"/{number}/runs/3")
    site.latest(OWN)
    site.client.get("/oapi/v1/flow")
    assert list(site.cloud.requests) == [
        Call("ListPipelines", (), 200, NOW),
        Call("GetPipeline", (number,), 200, NOW),
        Call("ListPipelineRuns", (number,), 200, NOW),
        Call("GetPipelineRun", (number,), 200, NOW, "3"),
        Call("ListPipelines", (), 200, NOW),
        Call("GetPipeline", (number,), 200, NOW),
        Call("ListPipelineRuns", (number,), 200, NOW),
        Call("GetPipelineRun", (number,), 200, NOW, "3"),
        Call("GetLatestPipelineRun", (number,), 200, NOW),
        Call(None, (), 404, NOW),
    ]
    assert site.cloud.most_under_way >= 1


# -- quirks


def test_an_end_that_is_none_has_three_forms(door: Door) -> None:
    """Whichever it is: by the run, or always the same; an end that is one is told."""
    story = Scenario(WORLD)
    site = Site(door, now=NOW + 60, story=story)
    for _ in range(30):
        story.begin(OWN, NOW)
    ended = story.begin(OWN, NOW)
    story.end(ended, NOW + 60, Status.COMPLETED)

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
def test_a_success_may_have_a_code(site: Site, blank: str | None) -> None:
    site.cloud.blank = blank
    answer = site.listed()
    assert (answer["success"], answer["errorCode"], answer["errorMessage"]) == (True, blank, blank)


def test_the_record_of_a_run_may_be_older_than_its_start(site: Site) -> None:
    before = site.run(OWN, 1)["pipelineRun"]
    site.cloud.create_lead = 17
    after = site.run(OWN, 1)["pipelineRun"]
    assert after == before | {"createTime": before["createTime"] - 17_000}
    assert site.latest(OWN)["createTime"] == site.runs(OWN)["pipelineRuns"][0]["startTime"] - 17_000


def test_deleted_and_renamed_pipelines(site: Site) -> None:
    """Both by the world's ids; a name changes in lists and by itself, an id never."""
    other = RAN[1]
    site.cloud.renamed = {other.id: "renamed-pipeline"}
    site.cloud.deleted = {OWN}
    assert site.listed()["totalCount"] == 119
    (row,) = site.listed(pipelineName="RENAMED")["pipelines"]
    assert (str(row["pipelineId"]), row["pipelineName"]) == (site.id(other.id), "renamed-pipeline")
    assert site.bare(f"/{site.id(other.id)}").json()["name"] == "renamed-pipeline"
    assert site.runs(OWN)["Code"] == "InvalidPipeline.NotFound"


def test_a_list_may_be_empty_whatever_its_total(site: Site) -> None:
    site.cloud.empty_list_with_total = True
    answer = site.listed()
    assert (answer["pipelines"], answer["totalCount"]) == ([], 120)
    bare = site.bare("")
    assert (bare.json(), bare.headers["x-total"]) == ([], "120")


def test_what_is_polled_may_be_behind(door: Door) -> None:
    story = Scenario(WORLD)
    site = Site(door, now=NOW + 61, story=story)
    run = story.begin(OWN, NOW)
    story.end(run, NOW + 60, Status.FAILED)
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
    "nobody": (
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


def _asked(site: Site, path: str) -> tuple[httpx.Response, httpx.Response]:
    """Ask both generations for the same."""
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
def test_what_the_service_declines(site: Site, case: str) -> None:
    prepare, path, told, bare_told = SERVICE_ERRORS[case]
    prepare(site)
    signed, bare = _asked(site, path)
    assert (signed.status_code, signed.json()["Code"]) == told
    assert set(signed.json()) == {"RequestId", "HostId", "Code", "Message", "Recommend"}
    assert signed.json()["RequestId"] == signed.headers["x-request-id"]
    assert (bare.status_code, bare.json()["errorCode"]) == bare_told
    assert set(bare.json()) == {"errorCode", "errorMessage", "requestId"}


@pytest.mark.parametrize(("form", "status"), [("status", 404), ("envelope", 200)])
def test_an_error_of_the_service_may_come_in_an_envelope(site: Site, form: Any, status: int) -> None:
    site.cloud.error_form = form
    answer = site.ask("/1/pipelineRuns/1", "GetPipelineRun")
    assert answer.status_code == status
    assert answer.json() == {
        "requestId": answer.headers["x-request-id"],
        "success": False,
        "errorCode": "InvalidPipeline.NotFound",
        "errorMessage": "The pipeline is not found.",
    }
    site.cloud.injected_fault = InjectedFault.ERROR_OBJECT
    told = site.ask("", "ListPipelines")
    assert (told.status_code, told.json()["success"]) == (200, False)


def test_a_status_is_not_what_a_code_depends_on(site: Site) -> None:
    site.cloud.statuses = {"InvalidPipeline.NotFound": 400, "NotFound": 410}
    signed, bare = _asked(site, "/1/{runs}")
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
def test_a_path_that_is_not_published(site: Site, path: str, code: str) -> None:
    path = path.format(pipelines=site.pipelines, central=site.central)
    answer = site.client.get(path, headers=site.token)
    assert answer.status_code == 404
    assert answer.json().get("Code", answer.json().get("errorCode")) == code
    assert site.client.post(site.central, headers=site.token).json()["errorCode"] == "NotFound"


def test_a_personal_token_is_needed_good_and_young(site: Site) -> None:
    def told(headers: dict[str, str]) -> tuple[int, str]:
        answer = site.client.get(site.central, headers=headers)
        return answer.status_code, answer.json()["errorCode"]

    assert told({}) == told({"x-yunxiao-token": ""}) == (401, "Unauthorized")
    assert told({"x-yunxiao-token": "pt-another"}) == (401, "InvalidTokenError")
    site.cloud.expires = NOW + 1
    assert site.bare("").status_code == 200
    site.now += 1
    assert told(site.token) == (401, "ExpiredTokenError")
    site.cloud.expires = None
    site.cloud.credentials = FlowCredentials(personal_token="pt-rotated")
    assert told(site.token) == (401, "InvalidTokenError")
    strange = site.client.get(site.central, headers={b"x-yunxiao-token": "pt-é".encode()})
    assert (strange.status_code, strange.json()["errorCode"]) == (401, "InvalidTokenError")


@pytest.mark.parametrize("code", ["Throttling", "Throttling.User", "Throttling.Api"])
def test_who_asks_too_often_is_told_how_long_to_wait(site: Site, code: str) -> None:
    """In milliseconds, if at all; who waits so long passes."""
    site.cloud.throttle, site.cloud.throttle_code = (2, 10), code
    site.listed()
    site.now += 2.5
    site.bare("")
    refused = site.ask("", "ListPipelines")
    assert (refused.status_code, refused.json()["Code"]) == (400, code)
    assert "x-acs-retry-after" not in refused.headers
    site.cloud.retry_after = True
    site.now += 100
    site.listed()
    site.now += 2.5
    site.listed()
    signed = site.ask("", "ListPipelines")
    bare = site.bare("")
    assert (bare.status_code, bare.json()["errorCode"]) == (429, "TooManyRequests")
    assert int(signed.headers["x-acs-retry-after"]) == 10_000
    site.now += int(bare.headers["x-acs-retry-after"]) / 1000
    assert site.bare("").status_code == 200


def test_the_throttle_spares_those_without_an_identity(site: Site) -> None:
    site.cloud.throttle = 1, 10
    for _ in range(3):
        assert site.client.get(site.central).status_code == 401
        assert site.client.get(site.pipelines).status_code == 400
    assert site.bare("").status_code == 200


def test_a_gateway_may_have_another_clock(site: Site) -> None:
    site.cloud.skew = 1_200
    refused = site.ask("", "ListPipelines")
    assert refused.json()["Code"] == "InvalidTimeStamp.Expired"
    assert parsedate_to_datetime(refused.headers["date"]).timestamp() == int(NOW + 1_200)
    path = f"{site.pipelines}?maxResults=1"
    headers = site.sign(path, "ListPipelines", at=NOW + 1_200)
    assert site.client.get(path, headers=headers).status_code == 200


def test_answers_are_held_back(site: Site) -> None:
    site.cloud.latency = 0.05
    begun = time.monotonic()
    site.bare("")
    assert time.monotonic() - begun >= 0.05


# These have no end, or end with a connection, and are tried with another cloud.
WHOLE = [
    m for m in InjectedFault if m not in {InjectedFault.HUGE, InjectedFault.DRIP, InjectedFault.TRUNCATED}
]
SPOKEN = {
    InjectedFault.SERVER_ERROR: ((500, "InternalError"), (500, "InternalServerError")),
    InjectedFault.THROTTLED: ((400, "Throttling.User"), (429, "TooManyRequests")),
    InjectedFault.DENIED: ((403, "Forbidden.RAM"), (403, "Forbidden")),
}


@pytest.mark.parametrize("injected_fault", WHOLE, ids=lambda m: m.name)
def test_mischief_takes_the_place_of_any_good_answer(site: Site, injected_fault: InjectedFault) -> None:
    good = [site.runs(OWN), site.latest(OWN)]
    site.cloud.injected_fault, site.cloud.injected_fault_operation = injected_fault, "Another"
    assert site.latest(OWN) == good[1]
    site.cloud.injected_fault_operation = None
    signed = site.ask(f"/{site.id(OWN)}/pipelineRuns", "ListPipelineRuns")
    bare = site.bare(f"/{site.id(OWN)}/runs/latestPipelineRun")
    if injected_fault in SPOKEN:
        told, bare_told = SPOKEN[injected_fault]
        assert (signed.status_code, signed.json()["Code"]) == told
        assert (bare.status_code, bare.json()["errorCode"]) == bare_told
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


def test_every_switch_is_told() -> None:
    """The levers are found in one place, with their meaning."""
    text = "".join(kind.__doc__ or "" for kind in FlowSwitches.__mro__)
    cloud = Flow(WORLD)
    for name in vars(FlowSwitches()):
        assert f"`{name}`" in text, name
        assert hasattr(cloud, name)
    assert cloud.page_limit == 30


def test_secrets_do_not_show_in_a_representation() -> None:
    assert "no-use" not in repr(FlowCredentials(security_token="no-use"))
