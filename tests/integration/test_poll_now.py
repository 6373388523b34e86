"""`/-/poll`: the last step of a pipeline requests a poll, and the metrics page shows the end of its run seconds later."""

import asyncio
import os
from dataclasses import replace
from random import Random
from typing import Any

import bcrypt
import pytest
import yaml

from exporter.simulator import CodeArts, FaultRates, Flow, Scenario, ScenarioGenerator, World, running
from exporter.simulator.world.runs import SimulatedStatus
from exporter.tracking.run_counters import BucketBounds
from tests.drivers.audit import Audit
from tests.drivers.poll_now import HEADERS, TOKEN, CloudClock, instance, play
from tests.drivers.process import command, eventually, exporter
from tests.drivers.summary_lists import SummaryListScenario
from tests.drivers.support import project
from tests.soak import pipeline_ids, projects

HOUR, DAY = 3600.0, 86_400.0
HASH = bcrypt.hashpw(b"correct horse", bcrypt.gensalt(4)).decode()
COMPLETED = SimulatedStatus.COMPLETED


class Stage:
    """A simulated cloud in virtual time, and settings of an exporter that polls it every minute."""

    def __init__(self, kind="codearts", pipelines=3, rates=None, **project):
        world = World(pipelines=pipelines)
        self.clock = CloudClock(world.start + DAY)
        if kind == "codearts":
            self.scenario = Scenario(world)
            self.cloud: CodeArts | Flow = CodeArts(world, clock=self.clock.time, runs=self.scenario)
        else:
            self.scenario = SummaryListScenario(world)
            self.cloud = self.scenario.cloud = Flow(world, clock=self.clock.time, runs=self.scenario)
        self.generator = ScenarioGenerator(self.scenario, 1, rates) if rates else None
        keys = next(projects(self.cloud))
        self.ids = [entry["id"] for entry in keys["pipelines"]]
        self.settings: dict[str, Any] = {
            "poll": {"interval": "60s", "active_interval": "60s"},
            "projects": [{"name": "payments", "endpoint": "http://cloud.test", **keys, **project}],
        }

    async def app(self, scope, receive, send):
        if self.generator is not None:
            self.generator.play(self.clock.time())
        await self.cloud.app(scope, receive, send)

    def begin(self, index=0):
        return self.scenario.begin(self.scenario.world.pipelines[index].id, self.clock.time())

    def end(self, run, after=0.0):
        self.scenario.end(run, self.clock.time() + after, COMPLETED)

    def run(self, monkeypatch, directory, **options):
        return instance(monkeypatch, directory, self.app, self.clock, self.settings, **options)

    def requests(self):
        return sum(self.cloud.request_counts.values())


@pytest.mark.parametrize("kind", ["codearts", "flow"])
@pytest.mark.parametrize(
    ("ends_after", "seen_after"), [(-5.0, 1.0), (0.0, 1.0), (0.5, 3.0), (4.9, 6.0), (14.0, 17.0)]
)
def test_end_is_on_the_page_by_the_poll_after_it(kind, ends_after, seen_after, monkeypatch, tmp_path):
    """The poll interval is a minute, so no other poll can show it."""
    stage = Stage(kind)

    async def scenario():
        async with stage.run(monkeypatch, tmp_path, latency=0.1) as running:
            await asyncio.sleep(62)
            run = stage.begin()
            await asyncio.sleep(61)
            if ends_after < 0:
                stage.end(run)
                await asyncio.sleep(-ends_after)
            called = stage.clock.monotonic()
            assert await running.call(stage.ids[0]) == 202
            if ends_after >= 0:
                stage.end(run, ends_after)
            await asyncio.sleep(20)
            seen = running.counted_at(stage.ids[0], 1)
            assert seen is not None
            assert seen - called <= seen_after

    play(scenario)


def test_polls_follow_at_1_5_and_15_seconds_while_the_run_is_in_progress(monkeypatch, tmp_path):
    stage = Stage()

    async def scenario():
        async with stage.run(monkeypatch, tmp_path) as running:
            await asyncio.sleep(2)
            stage.begin()
            called = stage.clock.time()
            stage.cloud.requests.clear()
            assert await running.call(stage.ids[0]) == 202
            await asyncio.sleep(50)
            polls = [
                round(call.at - called, 1)
                for call in stage.cloud.requests
                if call.pipeline_ids == (stage.ids[0],)
            ]
            assert polls == [0, 1, 5, 15]
            # Of a finished run, the first poll is the last.
            stage.cloud.requests.clear()
            assert await running.call(stage.ids[1]) == 202
            await asyncio.sleep(5)
            assert [call.pipeline_ids for call in stage.cloud.requests] == [(stage.ids[1],)]

    play(scenario)


def test_calls_for_many_pipelines_share_requests(monkeypatch, tmp_path):
    stage = Stage(pipelines=40)

    async def scenario():
        async with stage.run(monkeypatch, tmp_path) as running:
            await asyncio.sleep(2)
            stage.cloud.requests.clear()
            codes = await asyncio.gather(*(running.call(identity) for identity in stage.ids))
            assert set(codes) == {202}
            await asyncio.sleep(0.9)
            assert len(stage.cloud.requests) <= 2
            polled = [one for call in stage.cloud.requests for one in call.pipeline_ids]
            assert sorted(polled) == sorted(stage.ids)

    play(scenario)


@pytest.mark.parametrize("kind", ["codearts", "flow"])
def test_long_refresh_lets_a_requested_poll_pass(kind, monkeypatch, tmp_path):
    """Each request of the refresh takes 0.2 s, and four are in flight at a time."""
    stage = Stage(kind, pipelines=300, rate_limit={"requests_per_second": 1000, "burst": 1000})
    stage.settings["poll"]["chunk_size"] = 1

    async def scenario():
        async with stage.run(monkeypatch, tmp_path, latency=0.2) as running:
            # The first refresh takes at least 300 x 0.2 s / 4, so it has just begun to query pipelines.
            await asyncio.sleep(3)
            run = stage.begin(299)
            await asyncio.sleep(1)
            assert await running.call(stage.ids[299]) == 202
            stage.end(run, 0.5)
            await asyncio.sleep(3)
            assert not running.exporter.pollers[0].refreshed.is_set()
            assert running.counted_at(stage.ids[299], 1) is not None

    play(scenario)


def test_follow_ups_let_a_requested_poll_pass(monkeypatch, tmp_path):
    """A hundred run details would keep the project busy for half a minute."""
    stage = Stage(pipelines=100, rate_limit={"requests_per_second": 4, "burst": 1})
    stage.settings["metrics"] = {"details": "jobs"}

    async def scenario():
        async with stage.run(monkeypatch, tmp_path) as running:
            for index in range(100):
                stage.begin(index)
            await asyncio.sleep(10)
            assert await running.call(stage.ids[7]) == 202
            called = stage.clock.time()
            await asyncio.sleep(2)
            assert any(
                call.pipeline_ids == (stage.ids[7],) and call.run_id is None and call.at >= called
                for call in stage.cloud.requests
            )

    play(scenario)


def test_polls_obey_the_rate_limit_and_a_refused_credential(monkeypatch, tmp_path):
    stage = Stage(pipelines=30, rate_limit={"requests_per_second": 1, "burst": 1})
    stage.settings["poll"]["chunk_size"] = 1

    async def scenario():
        async with stage.run(monkeypatch, tmp_path) as running:
            await asyncio.sleep(50)
            before, began = stage.requests(), stage.clock.monotonic()
            for _ in range(20):
                for identity in stage.ids:
                    await running.call(identity)
                await asyncio.sleep(1.1)
            assert stage.requests() - before <= stage.clock.monotonic() - began + 2
            await asyncio.sleep(60)
            assert isinstance(stage.cloud, CodeArts)
            stage.cloud.credentials = replace(stage.cloud.credentials, token="another token of the cloud")
            await asyncio.sleep(70)
            before = stage.requests()
            for _ in range(20):
                await running.call(stage.ids[0])
                await asyncio.sleep(1.1)
            assert stage.requests() - before <= 1

    play(scenario)


@pytest.mark.parametrize(
    ("kind", "rates", "hours"),
    [("codearts", FaultRates(), 2), ("flow", FaultRates.none(), 0.5)],
    ids=["codearts", "flow"],
)
def test_forged_lost_doubled_and_flooding_calls_leave_the_counters_true(
    kind, rates, hours, monkeypatch, tmp_path
):
    """The scenario has some hours of runs, for CodeArts with all faults."""
    stage = Stage(kind, 6, rates, rate_limit={"requests_per_second": 50, "burst": 50})
    stage.settings["poll"] |= {"interval": "120s", "active_interval": "30s"}
    assert stage.generator is not None
    stage.generator.play(stage.clock.begin)
    rng = Random(1)
    codes = []

    async def caller(running):
        while True:
            await asyncio.sleep(rng.expovariate(1 / 60))
            pipeline = rng.choice(stage.ids)
            match rng.randrange(5):
                case 0:  # lost
                    pass
                case 1:  # forged
                    codes.append(await running.call(pipeline, headers={"Authorization": "Bearer guess"}))
                    codes.append(await running.call("f" * 32))
                    codes.append(await running.call(pipeline, project="another"))
                case 2:  # doubled
                    codes.extend([await running.call(pipeline), await running.call(pipeline)])
                case 3:  # flooding
                    for _ in range(30):
                        codes.append(await running.call(rng.choice(stage.ids)))
                        await asyncio.sleep(0.1)
                case _:
                    codes.append(await running.call(pipeline))

    async def scenario():
        async with stage.run(monkeypatch, tmp_path, latency=0.05) as running:
            if isinstance(stage.scenario, SummaryListScenario):
                running.when_published = stage.scenario.commit
            await asyncio.sleep(0.01)
            audit = Audit(stage.scenario, stage.clock.time(), pipeline_ids(stage.cloud))
            calling = asyncio.create_task(caller(running))
            await asyncio.sleep(hours * HOUR)
            calling.cancel()
            # No more runs begin or end.
            stage.generator = None
            await asyncio.sleep(hours * HOUR)
            [tracker] = running.exporter.trackers
            bounds = BucketBounds.of(running.config.metrics)
            result = audit.check(tracker.views(), [tracker.project_view()], bounds)
            assert not result.failures
            assert not result.double
            assert not result.unexplained
            assert result.true > 10

    play(scenario)
    assert {202, 401, 404, 429} <= set(codes)


@pytest.fixture
def cloud():
    """A cloud in real time whose only run is in progress."""
    scenario = Scenario(World(pipelines=3))
    cloud = CodeArts(scenario.world, runs=scenario)
    with running(cloud.app) as url:
        yield cloud, scenario, url


def configuration(cloud, url):
    project = {"name": "payments", "endpoint": url, **next(projects(cloud))}
    return {"poll": {"interval": "120s", "active_interval": "120s"}, "projects": [project]}


def poll_now(process, headers=HEADERS, **parameters):
    return process.request("POST", "/-/poll", params=parameters, headers=headers).status_code


def runs(process, pipeline):
    return process.samples().value("ci_pipeline_runs_total", pipeline_id=pipeline, status="success")


class TestProcess:
    """The real process."""

    def test_end_is_counted_after_a_call(self, cloud, tmp_path):
        """The next refresh would come two minutes after the start."""
        simulated, scenario, url = cloud
        file = tmp_path / "token"
        file.write_text(f"{TOKEN}\n")
        pipeline = scenario.world.pipelines[0].id
        run = scenario.begin(pipeline, simulated.clock() - 60)
        arguments = ("--web.poll-token-file", str(file), "--log.level", "debug")
        with exporter(tmp_path, configuration(simulated, url), *arguments) as process:
            eventually(lambda: process.get("/-/ready").status_code == 200, "the first refresh has ended")
            scenario.end(run, simulated.clock() + 0.5, COMPLETED)
            assert poll_now(process, project="payments", pipeline_id=pipeline) == 202
            eventually(lambda: runs(process, pipeline) == 1, "the run is counted")
            assert process.stop() == 0
        assert TOKEN not in "".join(process.log)

    def test_codes_and_their_order(self, cloud, tmp_path):
        simulated, scenario, url = cloud
        file = tmp_path / "token"
        file.write_text(TOKEN)
        pipeline = scenario.world.pipelines[0].id
        with exporter(tmp_path, configuration(simulated, url), "--web.poll-token-file", str(file)) as process:
            good = {"project": "payments", "pipeline_id": pipeline}
            bad = {"Authorization": "Bearer guess"}
            answer = process.request("POST", "/-/poll", params=good)
            assert answer.status_code == 401
            assert answer.headers["WWW-Authenticate"].startswith("Bearer")
            for headers in (
                bad,
                {"Authorization": TOKEN},
                {"Authorization": f"Basic {TOKEN}"},
                {"Authorization": "Bearer"},
                {"Authorization": "Bearer t\xf6ken".encode("latin-1")},
            ):
                assert poll_now(process, headers, **good) == 401
            assert poll_now(process, bad) == 401
            assert poll_now(process, bad, project="another", pipeline_id=pipeline) == 401
            assert poll_now(process) == poll_now(process, project="payments") == 400
            assert poll_now(process, project="", pipeline_id=pipeline) == 400
            assert poll_now(process, project="another", pipeline_id=pipeline) == 404
            assert poll_now(process, project="payments", pipeline_id="0" * 32) == 404
            for method in ("GET", "HEAD", "PUT", "DELETE"):
                answer = process.request(method, "/-/poll", params=good, headers=HEADERS)
                assert answer.status_code == 405
                assert answer.headers["Allow"] == "POST"
            assert {poll_now(process, **good) for _ in range(20)} == {202, 429}
            # What is not watched stays so, however often it is called for.
            assert {poll_now(process, project="payments", pipeline_id="0" * 32) for _ in range(5)} == {404}
            answer = process.request(
                "POST", "/-/poll", params=good, headers={"Authorization": f"bearer  {TOKEN}"}
            )
            assert answer.status_code in {202, 429}

    def test_changed_token_is_read_again(self, cloud, tmp_path):
        simulated, scenario, url = cloud
        file = tmp_path / "token"
        file.write_text(TOKEN)
        good = {"project": "payments", "pipeline_id": scenario.world.pipelines[0].id}
        with exporter(tmp_path, configuration(simulated, url), "--web.poll-token-file", str(file)) as process:
            assert poll_now(process, **good) == 202
            (tmp_path / "next").write_text("another-token")
            (tmp_path / "next").replace(file)
            assert poll_now(process, **good) == 401
            assert poll_now(process, {"Authorization": "Bearer another-token"}, **good) in {202, 429}
            file.unlink()
            assert poll_now(process, **good) == 401
            assert poll_now(process, {"Authorization": "Bearer"}, **good) == 401
            file.write_text(TOKEN)
            eventually(lambda: poll_now(process, **good) == 202, "the token is accepted again")
        assert sum("poll-token-unreadable" in line for line in process.log) == 1

    def test_without_a_token_file_it_is_not_found(self, cloud, tmp_path):
        simulated, scenario, url = cloud
        with exporter(tmp_path, configuration(simulated, url)) as process:
            assert poll_now(process, project="payments", pipeline_id=scenario.world.pipelines[0].id) == 404

    def test_token_replaces_the_password_of_the_web_file(self, cloud, tmp_path):
        """One header cannot carry both."""
        simulated, scenario, url = cloud
        (tmp_path / "token").write_text(TOKEN)
        (tmp_path / "web.yml").write_text(yaml.safe_dump({"basic_auth_users": {"prometheus": HASH}}))
        flags = ("--web.config.file", str(tmp_path / "web.yml"))
        good = {"project": "payments", "pipeline_id": scenario.world.pipelines[0].id}
        with exporter(
            tmp_path,
            configuration(simulated, url),
            *flags,
            "--web.poll-token-file",
            str(tmp_path / "token"),
        ) as process:
            assert (
                process.get("/metrics").status_code
                == process.get("/metrics", headers=HEADERS).status_code
                == 401
            )
            assert poll_now(process, **good) == 202
            assert poll_now(process, None, **good) == 401
            assert (
                process.request("POST", "/-/poll", params=good, auth=("prometheus", "x")).status_code == 401
            )
        with exporter(tmp_path, configuration(simulated, url), *flags) as process:
            assert poll_now(process, **good) == 401

    @pytest.mark.parametrize("kind", ["missing", "empty", "directory", "fifo", "large"])
    def test_unusable_token_file_ends_the_start(self, kind, tmp_path):
        file = tmp_path / "token"
        match kind:
            case "empty":
                file.write_text("\n")
            case "directory":
                file.mkdir()
            case "fifo":
                os.mkfifo(file)
            case "large":
                file.write_text("x" * 70_000)
        (tmp_path / "config.yaml").write_text(yaml.safe_dump({"projects": [project()]}))
        code, _, errors = command(
            "run",
            str(tmp_path / "config.yaml"),
            "--web.listen-address",
            "127.0.0.1:0",
            "--web.poll-token-file",
            str(file),
        )
        assert code == 2
        assert len(errors.splitlines()) == 1
        assert str(file) in errors
