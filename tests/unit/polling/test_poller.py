"""Polls: what is asked, how often, how many at once, and what a failure costs. Driven by hand, never by a scheduler."""

import asyncio
import re
import sys
from collections import Counter
from contextlib import asynccontextmanager

import pytest

from exporter.app.bootstrap import assemble
from exporter.simulator import CodeArts, InjectedFault, World, running
from exporter.state.sqlite import SqliteStore
from tests.conftest import Cloud
from tests.drivers.process import Samples
from tests.drivers.support import FakeClock, config, project, shown


class FastClock(FakeClock):
    """A clock whose waits take no time and are not counted as time, for polls over a real port."""

    async def sleep(self, seconds):
        self.slept.append(seconds)
        await asyncio.sleep(0)
        self.now += seconds


@asynccontextmanager
async def exporter_on(configuration, clock):
    exporter = assemble(configuration, clock)
    try:
        yield exporter
    finally:
        for poller in exporter.pollers:
            await poller.close()


def samples(exporter):
    return Samples(shown(exporter))


def requests_of(cloud, operation="BatchShowPipelinesLatestStatus"):
    """Ids by request of an operation, and forget them all."""
    chunks = [call.pipeline_ids for call in cloud.codearts.requests if call.operation == operation]
    cloud.codearts.requests.clear()
    return chunks


@pytest.fixture
def quiet_cloud():
    """A cloud whose clock a test sets."""
    codearts = CodeArts(World(pipelines=30))
    moment = codearts.world.start + 30 * 86400.0
    codearts.clock = lambda: moment
    with running(codearts.app) as url:
        yield Cloud(codearts, url)


def under_way(cloud, *words):
    """The ids whose latest run is in one of some vendor's states."""
    now = cloud.codearts.clock()
    world = cloud.codearts.world
    runs = {pipeline.id: world.latest_run(pipeline.id, now) for pipeline in world.pipelines}
    return {pipeline for pipeline, run in runs.items() if run is not None and run.status in words}


def test_ten_thousand_pipelines():
    """200 requests of 50, never more than 4 under way, every id exactly once."""
    codearts = CodeArts(World(pipelines=10_000))
    codearts.latency = 0.01
    # What is under way at first sight takes a request more, for each.
    codearts.rewrite = lambda records: [{**record, "status": "COMPLETED"} for record in records]
    with running(codearts.app) as url:
        cloud = Cloud(codearts, url)
        rate = {"requests_per_second": 100_000, "burst": 1000}

        named = [{"id": pipeline.id, "name": pipeline.name} for pipeline in codearts.world.pipelines]
        own = cloud.project(rate_limit=rate, pipelines=named)

        async def poll():
            async with exporter_on(config(own), FastClock()) as exporter:
                await exporter.pollers[0].tick()
                return shown(exporter)

        page = asyncio.run(poll())
        assert len(codearts.requests) == 200
        chunks = requests_of(cloud)
    assert len(chunks) == 200
    assert {len(chunk) for chunk in chunks} == {50}
    assert codearts.most_under_way == 4
    asked = Counter(identity for chunk in chunks for identity in chunk)
    assert asked == Counter(pipeline.id for pipeline in codearts.world.pipelines)
    assert len(re.findall(r"^ci_pipeline_up\{.*\} 1\.0$", page, re.MULTILINE)) == 10_000
    assert len(re.findall(r"^pipeline_exporter_api_requests_total\{.*\} 200\.0$", page, re.MULTILINE)) == 1


def test_refreshes_and_active_polls(quiet_cloud):
    """All pipelines every interval; between, only those under way, packed together, and nothing if there are none."""
    cloud = quiet_cloud
    clock = FastClock(cloud.codearts.clock())
    settings = {"interval": "60s", "active_interval": "15s", "chunk_size": 10}
    everything = {pipeline.id for pipeline in cloud.codearts.world.pipelines}
    active = under_way(cloud, "RUNNING", "INIT", "QUEUED", "PAUSED", "SUSPEND")
    assert 0 < len(active) < 20

    async def poll():
        async with exporter_on(config(cloud.project(), poll=settings), clock) as exporter:
            start = clock.now
            told = []
            for second in (0, 15, 30, 45, 60, 75, 120):
                clock.now = start + second
                await exporter.pollers[0].tick()
                told.append((second, requests_of(cloud)))
            return told

    for second, chunks in asyncio.run(poll()):
        expected = everything if second % 60 == 0 else active
        assert Counter(identity for chunk in chunks for identity in chunk) == Counter(expected), second
        assert len(chunks) == -(-len(expected) // 10), second


def test_a_held_run_is_active_for_an_hour_only(quiet_cloud):
    """Who waits for approval is asked about often in the first hour, then at the interval."""
    cloud = quiet_cloud
    clock = FastClock(cloud.codearts.clock())
    held = cloud.codearts.world.pipelines[0].id

    def hold(records):
        return [{**record, "status": "PAUSED"} for record in records if record["pipeline_id"] == held]

    cloud.codearts.rewrite = hold

    async def poll():
        async with exporter_on(config(cloud.project()), clock) as exporter:
            start = clock.now
            told = {}
            for second in (0, 15, 3615, 3660):
                clock.now = start + second
                await exporter.pollers[0].tick()
                told[second] = sum(requests_of(cloud), ())
            clock.now = start + 3675
            await exporter.pollers[0].tick()
            told[3675] = sum(requests_of(cloud), ())
            return told

    told = asyncio.run(poll())
    assert told[15] == (held,)
    assert len(told[3660]) == 30
    assert told[3675] == ()


def test_an_active_interval_above_the_interval_counts_as_the_interval(quiet_cloud):
    """A refresh covers what an active poll would."""
    cloud = quiet_cloud
    clock = FastClock(cloud.codearts.clock())

    async def poll():
        settings = {"interval": "10s", "active_interval": "1h"}
        async with exporter_on(config(cloud.project(), poll=settings), clock) as exporter:
            for _ in range(3):
                await exporter.pollers[0].tick()
                clock.now += 10
            return requests_of(cloud)

    assert [len(chunk) for chunk in asyncio.run(poll())] == [30, 30, 30]


def test_a_project_that_refuses_is_not_hammered(quiet_cloud):
    """A refusal that every chunk would meet ends the poll after one request, and all pipelines are down."""
    cloud = quiet_cloud
    cloud.codearts.injected_fault = InjectedFault.DENIED

    async def poll():
        async with exporter_on(config(cloud.project(), poll={"chunk_size": 1}), FastClock()) as exporter:
            await exporter.pollers[0].tick()
            return samples(exporter)

    page = asyncio.run(poll())
    assert len(requests_of(cloud)) == 1
    assert page.get("ci_pipeline_up").values()
    assert set(page.get("ci_pipeline_up").values()) == {0}
    assert page.value("pipeline_exporter_project_up") == 0


def test_a_cloud_that_is_down_is_given_up_soon(quiet_cloud):
    """Three chunks in a row, each tried three times; then the rest of the poll is left."""
    cloud = quiet_cloud
    cloud.codearts.injected_fault = InjectedFault.SERVER_ERROR

    async def poll():
        async with exporter_on(config(cloud.project(), poll={"chunk_size": 1}), FastClock()) as exporter:
            await exporter.pollers[0].tick()

    asyncio.run(poll())
    assert len(requests_of(cloud)) == 9


def test_one_bad_id_costs_itself(quiet_cloud):
    """A chunk that is refused for its content is halved until only the id at fault is left out."""
    cloud = quiet_cloud
    poison = cloud.codearts.world.pipelines[0].id
    refused = {"error_code": "DEVPIPE.00011136", "error_msg": "mismatch"}
    cloud.codearts.rewrite = lambda records: (
        refused if any(record["pipeline_id"] == poison for record in records) else records
    )

    async def poll():
        async with exporter_on(config(cloud.project(), poll={"chunk_size": 5}), FastClock()) as exporter:
            await exporter.pollers[0].tick()
            return samples(exporter)

    page = asyncio.run(poll())
    assert Counter(page.get("ci_pipeline_up").values()) == {1.0: 29, 0.0: 1}
    assert page.value("ci_pipeline_up", pipeline_id=poison) == 0
    assert page.value("pipeline_exporter_pipelines_refused") == 1
    assert page.value("pipeline_exporter_project_up") == 1
    assert page.value("pipeline_exporter_api_errors_total", error_code="DEVPIPE.00011136") > 0


def test_project_up_stays_down_until_a_refresh_works(quiet_cloud):
    """A failed active poll brings project_up down; only a refresh brings it up again."""
    cloud = quiet_cloud
    clock = FastClock(cloud.codearts.clock())

    async def poll():
        async with exporter_on(config(cloud.project()), clock) as exporter:
            start = clock.now
            ups = []
            for second, injected_fault in ((0, None), (15, InjectedFault.EMPTY), (30, None), (60, None)):
                clock.now = start + second
                cloud.codearts.injected_fault = injected_fault
                await exporter.pollers[0].tick()
                page = samples(exporter)
                ups.append(page.value("pipeline_exporter_project_up"))
            return ups, page, start

    ups, page, start = asyncio.run(poll())
    assert ups == [1, 0, 0, 1]
    assert page.value("pipeline_exporter_last_success_timestamp_seconds") == pytest.approx(start + 60, abs=1)
    assert page.value("pipeline_exporter_poll_duration_seconds_count") == 2


def test_what_was_due_while_a_poll_ran_is_counted(quiet_cloud):
    """A skipped poll is counted if it would have asked anything."""
    cloud = quiet_cloud
    clock = FastClock(cloud.codearts.clock())
    name = "pipeline_exporter_polls_skipped_total"

    async def poll():
        async with exporter_on(config(cloud.project()), clock) as exporter:
            await exporter.pollers[0].tick()
            counts = [samples(exporter).value(name)]
            exporter.pollers[0].skip()
            clock.now += 60
            await exporter.pollers[0].tick()
            counts.append(samples(exporter).value(name))
            return counts

    assert asyncio.run(poll()) == [0, 1]


def test_ticks_due_during_follow_ups_run_in_a_loop(cloud, monkeypatch):
    """Under a lasting backlog of follow-ups each tick leads to the next; the stack must not grow with them."""
    cloud.codearts.rewrite = lambda _: []
    ticks = 0

    async def poll():
        async with exporter_on(config(cloud.project()), FastClock()) as exporter:
            (poller,) = exporter.pollers
            await poller.tick()

            async def backlog(*_, **__):
                nonlocal ticks
                ticks += 1
                if ticks < 5000:
                    poller.skip()
                await asyncio.sleep(0)
                return False

            monkeypatch.setattr(poller._follow_ups, "run", backlog)
            limit = sys.getrecursionlimit()
            sys.setrecursionlimit(200)
            try:
                await poller.tick()
            finally:
                sys.setrecursionlimit(limit)

    asyncio.run(poll())
    assert ticks == 5000


def test_nothing_under_way_is_no_poll_and_no_skip(cloud):
    """Where no run is under way, nothing is due between refreshes."""
    cloud.codearts.rewrite = lambda _: []
    clock = FastClock()

    async def poll():
        async with exporter_on(config(cloud.project()), clock) as exporter:
            await exporter.pollers[0].tick()
            clock.now += 15
            exporter.pollers[0].skip()
            await exporter.pollers[0].tick()
            await exporter.publisher.publish()
            return samples(exporter)

    page = asyncio.run(poll())
    assert len(requests_of(cloud)) == 1
    assert page.value("pipeline_exporter_polls_skipped_total") == 0
    assert set(page.get("ci_pipeline_has_run").values()) == {0}


def test_an_unknown_word_is_counted_and_told_once(quiet_cloud, caplog):
    """A state without translation shows as unknown, never as failure: a count a poll, one line."""
    cloud = quiet_cloud
    cloud.codearts.rewrite = lambda records: [{**record, "status": "VERIFYING"} for record in records]
    clock = FastClock(cloud.codearts.clock())

    async def poll():
        async with exporter_on(config(cloud.project()), clock) as exporter:
            for _ in range(3):
                await exporter.pollers[0].tick()
                clock.now += 60
            return samples(exporter)

    page = asyncio.run(poll())
    assert page.value("pipeline_exporter_unknown_words_total", field="status", word="VERIFYING") == 3
    assert set(page.get("ci_pipeline_latest_run_status", status="unknown").values()) == {1}
    assert caplog.text.count("'VERIFYING' is no known status") == 1


def test_a_wrong_time_zone_is_told_once(quiet_cloud, caplog):
    """Stages that would start outside their run have no start, keep their duration, and one line names the setting."""
    cloud = quiet_cloud
    finished = under_way(cloud, "COMPLETED", "FAILED", "CANCELED", "IGNORED")
    clock = FastClock(cloud.codearts.clock())

    async def poll():
        own = cloud.project(stage_time_zone="America/Lima")
        async with exporter_on(config(own), clock) as exporter:
            await exporter.pollers[0].tick()
            clock.now += 60
            await exporter.pollers[0].tick()
            return samples(exporter)

    page = asyncio.run(poll())
    stages = "ci_pipeline_latest_run_stage"
    starts = page.get(f"{stages}_start_timestamp_seconds")
    assert not finished & {dict(labels)["pipeline_id"] for labels in starts}
    assert finished <= {dict(labels)["pipeline_id"] for labels in page.get(f"{stages}_duration_seconds")}
    assert caplog.text.count("is stage_time_zone right?") == 1


def test_projects_do_not_wait_for_each_other(quiet_cloud):
    """Each project has its own poller, and the first refreshes come at once."""
    cloud = quiet_cloud
    both = config(cloud.project(15, name="one"), project(name="two", endpoint="http://127.0.0.1:9"))

    async def poll():
        async with exporter_on(both, FastClock()) as exporter:
            await asyncio.gather(*(poller.tick() for poller in exporter.pollers))
            return [poller.refreshed.is_set() for poller in exporter.pollers], samples(exporter)

    refreshed, page = asyncio.run(poll())
    assert refreshed == [True, True]
    assert page.value("pipeline_exporter_project_up", project="one") == 1
    assert page.value("pipeline_exporter_project_up", project="two") == 0
    assert len(page.get("ci_pipeline_up", project="one")) == 15


def test_what_else_was_under_way_at_first_sight_is_looked_for_once(quiet_cloud):
    """A page of the run list for each pipeline that runs when it is first seen, after the refresh; none later."""
    cloud = quiet_cloud
    clock = FastClock(cloud.codearts.clock())
    active = under_way(cloud, "RUNNING", "INIT", "QUEUED", "PAUSED", "SUSPEND")

    async def poll():
        async with exporter_on(config(cloud.project()), clock) as exporter:
            told = []
            for _ in range(3):
                await exporter.pollers[0].tick()
                told.append(requests_of(cloud, "ListPipelineRuns"))
                clock.now += 60
            return told

    first, *later = asyncio.run(poll())
    assert sorted(first) == sorted((identity,) for identity in active)
    assert later == [[], []]


def test_what_could_not_be_saved_is_on_no_page(quiet_cloud, tmp_path):
    """The poll went well and shows what is; counters are there when they are safe."""
    cloud = quiet_cloud
    clock = FastClock(cloud.codearts.clock())
    path, aside = tmp_path / "state.db", tmp_path / "aside.db"
    store, stored = SqliteStore.open(path, clock.now)

    def all_end():
        cloud.codearts.rewrite = lambda records: [{**record, "status": "COMPLETED"} for record in records]
        path.rename(aside)

    def comes_back():
        aside.rename(path)

    async def poll():
        exporter = assemble(config(cloud.project()), clock, store=store, stored=stored)
        pages = []
        for happens in (lambda: None, all_end, comes_back):
            happens()
            await exporter.pollers[0].tick()
            pages.append(samples(exporter))
            clock.now += 60
        await exporter.pollers[0].close()
        await exporter.repository.close()
        return pages

    pages = asyncio.run(poll())
    assert [page.value("pipeline_exporter_state_up") for page in pages] == [1, 0, 1]
    assert [page.value("pipeline_exporter_project_up") for page in pages] == [1, 1, 1]
    counted = [sum(page.get("ci_pipeline_runs_total", status="success").values()) for page in pages]
    active = len(under_way(cloud, "RUNNING", "INIT", "QUEUED", "PAUSED", "SUSPEND"))
    assert counted == [0, 0, active]
    assert len(pages[1].get("ci_pipeline_latest_run_status", status="running")) > 0
    assert set(pages[1].get("ci_pipeline_latest_run_status", status="running").values()) == {0}
