"""Huawei Cloud's SDK, in a separate environment, reads the simulated cloud and verifies our signatures."""

import time
from typing import Any

import httpx
import pytest

from exporter.auth.huawei import HuaweiAkskSection, authentication
from exporter.auth.protocol import UnsignedRequest
from exporter.providers.codearts.records import RUN_STATUSES
from exporter.providers.protocol import PageCursor
from exporter.providers.registry import connect
from exporter.simulator import CodeArts, World, running
from tests.conftest import Cloud
from tests.drivers.support import config
from tests.drivers.vendor_environment import environment


@pytest.fixture(scope="module")
def sdk(tmp_path_factory):
    """Run a task with the SDK, which stores an installation id in the home directory."""
    packages = ("huaweicloudsdkcodeartspipeline==3.1.219", "huaweicloudsdkprojectman==3.1.219")
    return environment("huawei", *packages, home=tmp_path_factory.mktemp("home"))


@pytest.fixture
def still_cloud():
    """A cloud with a fixed clock."""
    codearts = CodeArts(World(pipelines=60))
    moment = codearts.world.start + 20 * 86400.0 + 137
    codearts.clock = lambda: moment
    with running(codearts.app) as url:
        yield Cloud(codearts, url)


def task_of(cloud):
    """Return the task to read all data of a cloud. Its clock is set to the machine's, which the SDK signs with."""
    codearts = cloud.codearts
    codearts.skew = time.time() - codearts.clock()
    return {
        "do": "read",
        "url": cloud.url,
        "project_id": codearts.world.project_id,
        "iam_project_id": codearts.world.iam_project_id,
        "access_key": codearts.credentials.access_key,
        "secret_key": codearts.credentials.secret_key,
        "ids": [pipeline.id for pipeline in codearts.world.pipelines],
    }


def test_sdk_reads_the_simulated_cloud(sdk, still_cloud):
    """Batch, list and details have the same runs, equal to those of the simulated world."""
    codearts = still_cloud.codearts
    task = task_of(still_cloud)
    ids = task["ids"]
    found = sdk(task)
    now = codearts.clock()
    truth = {}
    for identity in ids:
        run = codearts.world.latest_run(identity, now)
        if run is not None:
            stages = [[stage.name, stage.status.value] for stage in run.stages]
            end = None if run.end is None else run.end * 1000
            truth[identity] = [run.status.value, run.number, run.start * 1000, end, stages]
    assert len(truth) > 50
    assert found["batch"] == truth
    assert found["list"] == truth
    assert found["details"] == truth
    assert found["names"] == {pipeline.id: pipeline.name for pipeline in codearts.world.pipelines}


def test_sdk_and_exporter_decode_the_run_list_alike(sdk, still_cloud):
    """For the same request both get the same runs."""
    found = sdk(task_of(still_cloud))["runs"]
    codearts, _, _ = connect(config(still_cloud.project()).projects[0], {})
    token = {"X-Auth-Token": still_cloud.codearts.credentials.token}
    read = {}
    with httpx.Client(base_url=still_cloud.url, headers=token, trust_env=False) as client:
        for identity in found:
            call = codearts.runs_request(identity, PageCursor(rows=2), 10)
            answer = client.request(call.method, call.path, headers=dict(call.headers), content=call.body)
            now = still_cloud.codearts.clock()
            page = codearts.read_runs(answer.content, identity, now, answer.headers)
            assert not page.rejected
            read[identity] = [
                [run.id, run.status, run.number, run.start, run.end, [one.name for one in run.stages]]
                for run in page.runs
            ]
    theirs = {
        identity: [
            [run, RUN_STATUSES[word], number, start / 1000, end and end / 1000, [name for name, _ in stages]]
            for run, word, number, start, end, stages in rows
        ]
        for identity, rows in found.items()
    }
    assert read == theirs
    assert sum(map(len, read.values())) > 300


def test_sdk_reads_the_list_of_projects(sdk, still_cloud):
    """The newest project comes first; two pages have all of them."""
    projects = still_cloud.codearts.projects
    for seed in range(2, 14):
        projects.add(f"项目 {seed}", World(seed=seed, pipelines=1))
    projects.remove(World(seed=5, pipelines=1).project_id)
    found = sdk({**task_of(still_cloud), "do": "projects"})
    assert [[identity, name] for identity, name, _ in found] == [*map(list, projects.names().items())][::-1]
    assert len(found) == 12
    created = [moment for _, _, moment in found]
    assert created == sorted(created, reverse=True)


def test_sdk_and_exporter_sign_alike(sdk):
    """The signatures are equal for any request."""
    keys = {"access_key": "AKEXAMPLE0123456789A", "secret_key": "SKexample0123456789abcdefghijklmnopqrstu"}
    requests: list[dict[str, Any]] = []
    cases: list[tuple[str, str, tuple[tuple[str, str], ...], str, dict[str, str]]] = [
        ("POST", "/v5/p/api/pipelines/status", (), '["a","b"]', {}),
        ("POST", "/v5/p/api/pipelines/list", (), '{"name":"流水线"}', {}),
        ("GET", "/v5/p/api/pipelines/i/pipeline-runs/detail", (("pipeline_run_id", "r/ü &+"),), "", {}),
        ("GET", "/base/path/v5/x", (), "", {"iam_project_id": "0605767cb280d5762fd0c0133d3bea3f"}),
        ("POST", "/v5/p/api/pipelines/status", (), "[]", {"security_token": "gQpjbi1ub3J0aC00Example/+=="}),
    ]
    ours = []
    for method, path, query, body, extra in cases:
        section = HuaweiAkskSection.model_validate({"method": "aksk", **keys, **extra})
        outgoing = UnsignedRequest(
            method=method,
            host="pipeline.example.com:8443",
            path=path,
            query=query,
            headers=(("Content-Type", "application/json"),),
            body=body.encode(),
        )
        headers = authentication(section).headers(outgoing, 1_700_000_000.0)
        ours.append(headers["Authorization"])
        requests.append(
            {
                "method": method,
                "path": path,
                "query": query,
                "body": body,
                "headers": {"Host": outgoing.host, **dict(outgoing.headers), **headers},
            }
        )
    assert sdk({"do": "sign", **keys, "requests": requests}) == ours
