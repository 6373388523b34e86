"""Alibaba Cloud's SDK, in a separate environment, reads the simulated Flow and verifies our signatures.

It supports the signed generation of the API only.
"""

import time
from dataclasses import dataclass
from typing import Any

import httpx
import pytest

from exporter.auth.aliyun import AliyunAkskSection, authentication
from exporter.auth.protocol import Auth, UnsignedRequest, query_string
from exporter.simulator import Flow, FlowCredentials, World, running
from exporter.simulator.flow.serialized import SerializedStage, serialize
from exporter.simulator.flow.vocabulary import status_text, trigger
from exporter.simulator.world.jobs import JobSnapshot
from exporter.simulator.world.runs import RunSnapshot, StageSnapshot
from exporter.simulator.world.world import SimulatedPipeline
from tests.drivers.vendor_environment import environment

WORLD = World(seed=2, pipelines=45)
NOW = WORLD.start + 3737.5
RAN = next(pipeline for pipeline in WORLD.pipelines if pipeline.first is not None)
NEVER_RAN = next(pipeline for pipeline in WORLD.pipelines if pipeline.first is None)

PERMANENT = FlowCredentials()
TEMPORARY = FlowCredentials(security_token="temporary/+==")
either_key = pytest.mark.parametrize("credentials", [PERMANENT, TEMPORARY], ids=["permanent", "temporary"])

SIZE = ("maxResults", "30")


@pytest.fixture(scope="module")
def sdk(tmp_path_factory):
    """Run a task with the SDK."""
    packages = ("alibabacloud-devops20210625==5.0.3", "alibabacloud-tea-openapi==0.4.6")
    return environment("aliyun", *packages, home=tmp_path_factory.mktemp("home"))


@dataclass
class SimulatedFlow:
    """A running simulated Flow, and tasks for the SDK."""

    flow: Flow
    host: str

    @property
    def access(self) -> dict[str, Any]:
        """Credentials for the SDK."""
        return {
            "host": self.host,
            "organization_id": self.flow.organization_id,
            "access_key": self.flow.credentials.access_key,
            "secret_key": self.flow.credentials.secret_key,
            "security_token": self.flow.credentials.security_token,
        }

    def decoded(self, pipelines: list[SimulatedPipeline], **queries: dict[str, Any]) -> dict[str, Any]:
        """Read lists of pipelines by several queries, and all runs of some pipelines, the latest with details."""
        latest = ((pipeline, WORLD.latest_run(pipeline.id, NOW)) for pipeline in pipelines)
        return {
            "do": "read",
            **self.access,
            "page_size": int(SIZE[1]),
            "queries": queries,
            "pipeline_ids": [self.id(pipeline) for pipeline in pipelines],
            "run_ids": {self.id(pipeline): str(run.number) for pipeline, run in latest if run is not None},
        }

    def attempting(self, pipeline: SimulatedPipeline, *changes: dict[str, Any]) -> dict[str, Any]:
        """Request the first run of a pipeline several times, each with other errors."""
        right = {**self.access, "pipeline_id": self.id(pipeline), "run_id": "1"}
        return {"do": "attempt", "attempts": [{**right, **wrong} for wrong in changes]}

    def id(self, pipeline: SimulatedPipeline) -> str:
        """Return Flow's id of a simulated pipeline."""
        return self.flow.pipeline_id(pipeline.id)


@pytest.fixture
def site():
    """A Flow with a fixed clock. Its gateway uses the machine's clock, which the SDK signs with."""
    flow = Flow(WORLD, clock=lambda: NOW)
    flow.skew = time.time() - NOW
    with running(flow.app) as url:
        yield SimulatedFlow(flow, url.removeprefix("http://"))


def aksk(credentials: FlowCredentials) -> Auth:
    """Return our signer."""
    keys = {key: getattr(credentials, key) for key in ("access_key", "secret_key", "security_token")}
    return authentication(AliyunAkskSection.model_validate({"method": "aksk", **keys}))


def asking(
    operation: str,
    path: str,
    *query: tuple[str, str],
    host: str = "devops.cn-hangzhou.aliyuncs.com",
    organization: str = "5ebbc0228123212b59xxxxx",
) -> UnsignedRequest:
    """Return our request for a path below the pipelines of an organization."""
    return UnsignedRequest(
        method="GET",
        host=host,
        path=f"/organization/{organization}/pipelines{path}",
        query=query,
        headers=(
            ("Accept", "application/json"),
            ("x-acs-action", operation),
            ("x-acs-version", "2021-06-25"),
        ),
    )


# -- signing

REQUESTS = (
    asking("ListPipelines", "", SIZE),
    asking(
        "ListPipelines",
        "",
        ("executeStartTime", "1700000000000"),
        ("executeEndTime", "1700000060000"),
        SIZE,
        ("nextToken", "+/+//jMw=="),
    ),
    asking("ListPipelines", "", ("statusList", "RUNNING,WAITING"), ("nextToken", "a b*~%2F&=?#流水线"), SIZE),
    asking("ListPipelines", "", SIZE, organization="a%2Fb%20c%2A~%E4%B8%AD"),
    asking("ListPipelineRuns", "/12222/pipelineRuns", SIZE, ("nextToken", "")),
    asking("ListPipelineRuns", "/12222/pipelineRuns", SIZE, host="127.0.0.1:8443"),
    asking("GetPipelineRun", "/12222/pipelineRuns/1"),
)


@either_key
def test_sdk_and_exporter_sign_alike(sdk, credentials):
    """The signatures are equal for any request."""
    auth = aksk(credentials)
    ours, requests = [], []
    for request in REQUESTS:
        headers = {"host": request.host, **dict(request.headers), **auth.headers(request, 1_700_000_000.0)}
        ours.append(headers.pop("Authorization"))
        requests.append(
            {"method": request.method, "path": request.path, "query": request.query, "headers": headers}
        )
    keys = {"access_key": credentials.access_key, "secret_key": credentials.secret_key}
    assert sdk({"do": "sign", **keys, "requests": requests}) == ours


# -- reading


def milliseconds(moment: float | None) -> int | None:
    return None if moment is None else int(moment) * 1000


def summary_of_run(run: RunSnapshot) -> list[Any]:
    """Return the expected fields of a run in a list."""
    return [run.number, status_text(run), trigger(run), milliseconds(run.start), milliseconds(run.end)]


def summary_of_row(row: dict[str, Any]) -> list[Any]:
    """Return the same fields of a row. A missing end has several formats."""
    keys = ("pipelineRunId", "status", "triggerMode", "startTime")
    return [*(row[key] for key in keys), row.get("endTime") or None]


def stage_and_jobs(stage: SerializedStage) -> list[tuple[StageSnapshot | JobSnapshot, str]]:
    """Return the statuses of a stage and its jobs."""
    return [(stage.stage, stage.status_text), *((job.job, job.status_text) for job in stage.jobs)]


def whole(pipeline: SimulatedPipeline, run: RunSnapshot) -> dict[str, Any]:
    """Return the expected fields of a run with stages and jobs."""
    full = serialize(pipeline, run, NOW)
    groups: dict[int, list[str]] = {}
    for stage in full.stages:
        groups.setdefault(stage.position.group, []).append(stage.stage.name)
    return {
        "run": summary_of_run(run)[:4],
        "groups": list(groups.values()),
        "parts": [
            [part.name, word, milliseconds(part.start), milliseconds(part.end)]
            for stage in full.stages
            for part, word in stage_and_jobs(stage)
        ],
    }


def details_of_record(record: dict[str, Any]) -> dict[str, Any]:
    """Return the same fields of a record, whose start is its creation."""
    return {
        "run": [record[key] for key in ("pipelineRunId", "status", "triggerMode", "createTime")],
        "groups": record["stageGroup"],
        "parts": [
            [part["name"], part["status"], part.get("startTime"), part.get("endTime")]
            for stage in record["stages"]
            for part in [stage["stageInfo"], *stage["stageInfo"]["jobs"]]
        ],
    }


def rows(pages: list[dict[str, Any]], key: str) -> list[dict[str, Any]]:
    """Return the rows of all pages, and check the total on each."""
    together = [row for page in pages for row in page[key]]
    assert {page["totalCount"] for page in pages} == {len(together)}
    return together


@either_key
def test_sdk_reads_the_simulated_flow(sdk, site, credentials):
    """With each kind of key, all lists and details agree with the simulated world."""
    site.flow.credentials = credentials
    pipelines = list(reversed(WORLD.pipelines))
    latest = {pipeline: WORLD.latest_run(pipeline.id, NOW) for pipeline in pipelines}
    ran = {pipeline: run for pipeline, run in latest.items() if run is not None}
    since = int(NOW) - 1800
    window = {"execute_start_time": since * 1000, "execute_end_time": milliseconds(NOW)}
    found = sdk(site.decoded(pipelines, all={}, running={"status_list": "RUNNING,WAITING"}, lately=window))

    names = {name: rows(pages, "pipelines") for name, pages in found["pipelines"].items()}
    assert {name: [row["pipelineName"] for row in listed] for name, listed in names.items()} == {
        "all": [pipeline.name for pipeline in pipelines],
        "running": [pipeline.name for pipeline, run in ran.items() if run.end is None],
        "lately": [pipeline.name for pipeline, run in ran.items() if run.start >= since],
    }
    assert [str(row["pipelineId"]) for row in names["all"]] == [site.id(pipeline) for pipeline in pipelines]

    for pipeline, run in latest.items():
        numbers = range(run.number if run else 0, 0, -1)
        history = [WORLD.run(pipeline.id, number, NOW) for number in numbers]
        listed = rows(found["runs"][site.id(pipeline)], "pipelineRuns")
        assert [summary_of_row(row) for row in listed] == [summary_of_run(past) for past in history if past]

    details = {
        identity: details_of_record(body["pipelineRun"]) for identity, body in found["details"].items()
    }
    assert details == {site.id(pipeline): whole(pipeline, run) for pipeline, run in ran.items()}

    # The data has several pages, pipelines that never ran, all kinds of runs, and parallel stages.
    assert len(found["pipelines"]["all"]) == 2
    assert len(ran) < len(pipelines)
    assert {status_text(run) for run in ran.values()} == {"SUCCESS", "FAIL", "CANCELED", "RUNNING", "WAITING"}
    assert any(len(group) > 1 for detail in details.values() for group in detail["groups"])


def understood(answers: Any) -> Any:
    """Return responses as decoded by the SDK, without null values and request ids."""
    if isinstance(answers, dict):
        return {
            key: understood(value)
            for key, value in answers.items()
            if value is not None and key != "requestId"
        }
    return [understood(value) for value in answers] if isinstance(answers, list) else answers


@either_key
def test_sdk_and_exporter_receive_the_same_responses(sdk, site, credentials):
    """Our requests get the same responses, without fields unknown to the SDK."""
    site.flow.credentials = credentials
    found = sdk(site.decoded([NEVER_RAN, *WORLD.pipelines[:9]], all={}))
    auth, organization = aksk(credentials), site.flow.organization_id

    with httpx.Client(base_url=f"http://{site.host}", trust_env=False) as client:

        def ask(operation: str, path: str, *query: tuple[str, str]) -> Any:
            request = asking(operation, path, *query, host=site.host, organization=organization)
            headers = dict(request.headers) | auth.headers(request, time.time())
            return client.get(f"{request.path}?{query_string(request.query)}", headers=headers).json()

        def pages(operation: str, path: str) -> list[Any]:
            answers = [ask(operation, path, SIZE)]
            while token := answers[-1].get("nextToken"):
                answers.append(ask(operation, path, SIZE, ("nextToken", token)))
            return answers

        ours = {
            "pipelines": {"all": pages("ListPipelines", "")},
            "runs": {one: pages("ListPipelineRuns", f"/{one}/pipelineRuns") for one in found["runs"]},
            "details": {
                one: ask("GetPipelineRun", f"/{one}/pipelineRuns/{body['pipelineRun']['pipelineRunId']}")
                for one, body in found["details"].items()
            },
        }
    assert understood(ours) == understood(found)


# -- errors


def test_sdk_raises_the_documented_errors(sdk, site):
    """For wrong keys and for missing pipelines and runs."""
    wrong = {
        (404, "InvalidAccessKeyId.NotFound"): {"access_key": "LTAIforeign"},
        (400, "SignatureDoesNotMatch"): {"secret_key": "of another user"},
        (400, "InvalidSecurityToken.MismatchWithAccessKey"): {"security_token": "of another user"},
        (404, "InvalidOrganization.NotFound"): {"organization_id": "0" * 24},
        (404, "InvalidPipeline.NotFound"): {"pipeline_id": "1"},
        (404, "InvalidPipelineRun.NotFound"): {"run_id": "1000000"},
    }
    good, *bad = sdk(site.attempting(RAN, {}, *wrong.values()))
    assert good["returned"]["pipelineRun"]["pipelineRunId"] == 1
    assert bad == [{"raised": ["ClientException", status, code, None]} for status, code in wrong]


@pytest.mark.parametrize(
    ("form", "outcome"),
    [
        ("gateway", {"raised": ["ClientException", 404, "InvalidPipelineRun.NotFound", None]}),
        ("status", {"raised": ["ClientException", 404, "None", None]}),
        (
            "envelope",
            {
                "returned": {
                    "success": False,
                    "errorCode": "InvalidPipelineRun.NotFound",
                    "errorMessage": "The pipeline execution instance is not found.",
                }
            },
        ),
    ],
)
def test_pipeline_that_never_ran_has_no_run(sdk, site, form, outcome):
    """The SDK reads error codes in the gateway's form only, and raises nothing for an envelope with status 200."""
    site.flow.error_form = form
    assert understood(sdk(site.attempting(NEVER_RAN, {}))) == [outcome]


def test_sdk_reads_the_wait_of_a_throttled_request(sdk, site):
    """The milliseconds are in the header that the SDK reads."""
    site.flow.throttle = (1, 60.0)
    site.flow.retry_after = True
    _, outcome = sdk(site.attempting(RAN, {}, {}))
    assert outcome == {"raised": ["ThrottlingException", 400, "Throttling.User", 60_000]}
