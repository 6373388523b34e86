"""`check-config` predicts the series of the metrics page and the requests to a cloud."""

import asyncio
import re
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from exporter.app.bootstrap import assemble
from exporter.app.check_config import STAGES, expected_series
from exporter.app.estimate import requests_per_refresh, requests_with_discovery
from exporter.app.exporter import Exporter
from exporter.core.shard import Shard
from exporter.settings.settings import Config
from exporter.simulator import running
from tests.drivers.support import PROJECT_ID, FakeClock, config, project, shown

COURSE = [("RUNNING", 1), ("COMPLETED", 1), ("FAILED", 2), ("COMPLETED", 3)]
"""Status and number of the latest run, by poll: a success, a failure and another success."""

IDS = [f"{number:032x}" for number in range(30)]


class Stub:
    """A cloud whose pipelines all go through the same runs, with five stages of one job of two steps each."""

    def __init__(self, clock: FakeClock) -> None:
        self.clock = clock
        self.status, self.number = COURSE[0]
        self.requests: Counter[str] = Counter()
        pipelines = "/v5/{project_id}/api/pipelines"
        self.app = Starlette(
            routes=[
                Route(f"{pipelines}/status", self._batch, methods=["POST"]),
                Route(f"{pipelines}/list", self._list, methods=["POST"]),
                Route(f"{pipelines}/{{pipeline_id}}/pipeline-runs/detail", self._detail),
                Route(f"{pipelines}/{{pipeline_id}}/pipeline-runs/list", self._runs, methods=["POST"]),
            ]
        )

    async def _batch(self, request: Request) -> JSONResponse:
        self.requests["batch"] += 1
        return JSONResponse([self._run(identity) for identity in await request.json()])

    async def _list(self, request: Request) -> JSONResponse:
        self.requests["list"] += 1
        body = await request.json()
        ids = IDS[body["offset"] :][: body["limit"]]
        rows = [
            {
                "pipeline_id": identity,
                "project_id": PROJECT_ID,
                "name": identity,
                "latest_run": self._run(identity),
            }
            for identity in ids
        ]
        return JSONResponse(
            {"offset": body["offset"], "limit": body["limit"], "total": len(IDS), "pipelines": rows}
        )

    async def _runs(self, request: Request) -> JSONResponse:
        self.requests["runs"] += 1
        return JSONResponse({"total": 1, "pipeline_runs": [self._run(request.path_params["pipeline_id"])]})

    async def _detail(self, request: Request) -> JSONResponse:
        self.requests["detail"] += 1
        identity = request.path_params["pipeline_id"]
        times = self._times()
        steps = [
            {"name": f"step {index}", "sequence": index, "task": "", "status": self.status, **times}
            for index in range(2)
        ]
        job = {"name": "job", "sequence": 0, "status": self.status, "steps": steps, **times}
        stages = [{**stage, "jobs": [job]} for stage in self._stages()]
        run = self._run(identity)
        return JSONResponse({**run, "id": run["pipeline_run_id"], "stages": stages})

    def _times(self) -> dict[str, int | None]:
        now = int(self.clock.now * 1000)
        return {"start_time": now - 60_000, "end_time": None if self.status == "RUNNING" else now}

    def _stages(self) -> list[dict[str, Any]]:
        return [
            {"name": f"stage {index}", "sequence": index, "status": self.status, **self._times()}
            for index in range(STAGES)
        ]

    def _run(self, identity: str) -> dict[str, Any]:
        return {
            "pipeline_id": identity,
            "pipeline_run_id": f"run {self.number}",
            "run_number": self.number,
            "status": self.status,
            **self._times(),
            "stage_status_list": self._stages(),
        }


@pytest.fixture
def stub() -> Iterator[tuple[Stub, str]]:
    cloud = Stub(FakeClock())
    with running(cloud.app) as url:
        yield cloud, url


def page_after_all_runs(cloud: Stub, settings: Config, shard: Shard | None = None) -> str:
    """Return the page after all runs of `COURSE`."""

    async def polls() -> Exporter:
        exporter = assemble(settings, cloud.clock, shard=shard)
        for cloud.status, cloud.number in COURSE:
            await exporter.pollers[0].tick()
            cloud.clock.now += 60
        await exporter.pollers[0].close()
        return exporter

    return shown(asyncio.run(polls()))


NAMED = [{"id": identity, "name": "a name"} for identity in IDS]


@pytest.mark.parametrize(
    "metrics",
    [
        {},
        {"run_histogram": "project", "stage_histogram": "pipeline"},
        {"run_histogram": "off", "stage_histogram": "off"},
        {"run_status_series": "current", "stage_status_series": "all"},
        {"run_duration_buckets": ["1m"], "stage_duration_buckets": ["1m", "1h"]},
        {"details": "jobs"},
        {"details": "steps"},
        {"details": "steps", "stage_status_series": "all", "run_histogram": "off"},
    ],
)
def test_page_has_the_series_predicted(stub, metrics):
    """Every pipeline has had a success and a failure, with five stages of one job of two steps."""
    cloud, url = stub
    settings = config(project(endpoint=url, pipelines=NAMED), metrics=metrics)
    page = page_after_all_runs(cloud, settings)
    assert len(re.findall(r"^ci_pipeline_", page, re.MULTILINE)) == expected_series(settings)
    detailed = len(re.findall(r"^ci_pipeline_latest_run_step_status", page, re.MULTILINE))
    assert detailed == (len(IDS) * STAGES * 2 if metrics.get("details") == "steps" else 0)


def test_refresh_takes_the_requests_predicted(stub):
    """The first refresh also takes a run list for each pipeline that runs, and two pages of the list of pipelines."""
    cloud, url = stub
    settings = config(project(endpoint=url, pipelines=NAMED), poll={"chunk_size": 7})
    page_after_all_runs(cloud, settings)
    assert requests_per_refresh(settings, settings.projects[0]) == 5
    assert cloud.requests == {"batch": 5 * len(COURSE), "runs": len(IDS), "list": 2}


def test_details_take_one_request_for_each_change(stub):
    """Each poll of the course finds every run new or changed."""
    cloud, url = stub
    page_after_all_runs(cloud, config(project(endpoint=url, pipelines=NAMED), metrics={"details": "jobs"}))
    assert cloud.requests["detail"] == len(IDS) * len(COURSE)


@pytest.mark.parametrize(("interval", "listings", "batches"), [("1m", 4, 0), ("2m", 2, 2), ("10m", 1, 3)])
def test_discovery_takes_the_requests_predicted(stub, interval, listings, batches):
    """A list, of one page and the empty one after it, replaces a refresh's batches."""
    cloud, url = stub
    settings = config(project(endpoint=url, pipelines=[], discover={"interval": interval}))
    page_after_all_runs(cloud, settings)
    assert cloud.requests == Counter({"list": 2 * listings, "batch": batches, "runs": len(IDS)})


@pytest.mark.parametrize(
    ("interval", "mean"), [("30s", 11), ("1m", 11), ("2m", (20 + 11) / 2), ("10m", (9 * 20 + 11) / 10)]
)
def test_mean_requests_include_the_lists_of_discovery(interval, mean):
    """A thousand pipelines are 20 chunks or 10 pages."""
    settings = config(project(pipelines=[], discover={"interval": interval}))
    discovery = settings.projects[0].discovery
    assert discovery is not None
    assert requests_with_discovery(settings, discovery, 1000, 100, watched=1000) == pytest.approx(mean)


def test_shard_with_discovery_lists_the_whole_project():
    """Only its queries for runs are fewer: a third of a thousand pipelines are 7 chunks."""
    settings = config(project(pipelines=[]))
    discovery = settings.projects[0].discovery
    assert discovery is not None
    assert requests_with_discovery(settings, discovery, 1000, 100, watched=334) == pytest.approx(
        (9 * 7 + 11) / 10
    )


def test_shard_has_the_series_and_requests_of_its_part(stub):
    cloud, url = stub
    settings = config(project(endpoint=url, pipelines=NAMED), poll={"chunk_size": 7})
    pipelines = 0
    for shard in (Shard(index, 3) for index in range(3)):
        cloud.requests.clear()
        page = page_after_all_runs(cloud, settings, shard)
        assert len(re.findall(r"^ci_pipeline_", page, re.MULTILINE)) == expected_series(settings, shard)
        requests = requests_per_refresh(settings, settings.projects[0], shard)
        own = len(re.findall(r"^ci_pipeline_up", page, re.MULTILINE))
        assert cloud.requests == {"batch": requests * len(COURSE), "runs": own, "list": 2}
        pipelines += own
    assert pipelines == len(NAMED)
