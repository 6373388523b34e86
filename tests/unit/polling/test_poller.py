"""Polls: which pipelines are queried, how often, how many at once, and what a failure affects. Ticks are called by hand."""

import asyncio
import re
import sys
from collections import Counter
from contextlib import asynccontextmanager

import pytest

from exporter.app.bootstrap import assemble
from exporter.simulator import CodeArts, InjectedFault, World, running
from exporter.state.recovery import open_store
from tests.conftest import Cloud
from tests.drivers.process import Samples
from tests.drivers.support import FakeClock, config, project, shown

pytestmark = pytest.mark.process


class FastClock(FakeClock):
    """A clock whose waits end at once and count as time, for polls over a real port."""

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
    """Return the ids of each request of an operation, and clear the request log."""
    chunks = [call.pipeline_ids for call in cloud.codearts.requests if call.operation == operation]
    cloud.codearts.requests.clear()
    return chunks


@pytest.fixture
def quiet_cloud():
    """A cloud whose clock stands still."""
    codearts = CodeArts(World(pipelines=30))
    moment = codearts.world.start + 30 * 86400.0
    codearts.clock = lambda: moment
    with running(codearts.app) as url:
        yield Cloud(codearts, url)


def with_status(cloud, *statuses):
    """Return the ids whose latest run has one of the vendor's statuses."""
    now = cloud.codearts.clock()
    world = cloud.codearts.world
    runs = {pipeline.id: world.latest_run(pipeline.id, now) for pipeline in world.pipelines}
    return {pipeline for pipeline, run in runs.items() if run is not None and run.status in statuses}


@pytest.mark.process
def test_ten_thousand_pipelines_take_200_requests():
    """At most 4 in flight, each id exactly once."""
    codearts = CodeArts(World(pipelines=10_000))
    codearts.latency = 0.05
    # Runs in progress at first sight would take one request more each.
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
        # The list has a hundred pages and an empty one. It is read once an hour, after the batches.
        operations = [call.operation for call in codearts.requests]
        assert operations == ["BatchShowPipelinesLatestStatus"] * 200 + ["ListPipelines"] * 101
        chunks = requests_of(cloud)
    assert len(chunks) == 200
    assert {len(chunk) for chunk in chunks} == {50}
    assert codearts.max_in_flight == 4
    queried = Counter(identity for chunk in chunks for identity in chunk)
    assert queried == Counter(pipeline.id for pipeline in codearts.world.pipelines)
    assert len(re.findall(r"^ci_pipeline_up\{.*\} 1\.0$", page, re.MULTILINE)) == 10_000
    assert len(re.findall(r"^pipeline_exporter_api_requests_total\{.*\} 200\.0$", page, re.MULTILINE)) == 1


def test_active_polls_query_only_pipelines_in_progress(quiet_cloud):
    """A refresh queries all pipelines once an interval."""
    cloud = quiet_cloud
    clock = FastClock(cloud.codearts.clock())
    settings = {"interval": "60s", "active_interval": "15s", "chunk_size": 10}
    everything = {pipeline.id for pipeline in cloud.codearts.world.pipelines}
    active = with_status(cloud, "RUNNING", "INIT", "QUEUED", "PAUSED", "SUSPEND")
    assert 0 < len(active) < 20

    async def poll():
        async with exporter_on(config(cloud.project(), poll=settings), clock) as exporter:
            start = clock.now
            polls = []
            for second in (0, 15, 30, 45, 60, 75, 120):
                clock.now = start + second
                await exporter.pollers[0].tick()
                polls.append((second, requests_of(cloud)))
            return polls

    for second, chunks in asyncio.run(poll()):
        expected = everything if second % 60 == 0 else active
        assert Counter(identity for chunk in chunks for identity in chunk) == Counter(expected), second
        assert len(chunks) == -(-len(expected) // 10), second


def test_paused_run_is_polled_actively_for_an_hour(quiet_cloud):
    cloud = quiet_cloud
    clock = FastClock(cloud.codearts.clock())
    held = cloud.codearts.world.pipelines[0].id

    def hold(records):
        return [{**record, "status": "PAUSED"} for record in records if record["pipeline_id"] == held]

    cloud.codearts.rewrite = hold

    async def poll():
        async with exporter_on(config(cloud.project()), clock) as exporter:
            start = clock.now
            queried = {}
            for second in (0, 15, 3615, 3660):
                clock.now = start + second
                await exporter.pollers[0].tick()
                queried[second] = sum(requests_of(cloud), ())
            clock.now = start + 3675
            await exporter.pollers[0].tick()
            queried[3675] = sum(requests_of(cloud), ())
            return queried

    queried = asyncio.run(poll())
    assert queried[15] == (held,)
    assert len(queried[3660]) == 30
    assert queried[3675] == ()


def test_active_interval_above_the_interval_counts_as_the_interval(quiet_cloud):
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


def test_refused_project_takes_one_request_a_poll(quiet_cloud):
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


def test_poll_ends_after_three_failed_chunks_in_a_row(quiet_cloud):
    """Each chunk is tried three times."""
    cloud = quiet_cloud
    cloud.codearts.injected_fault = InjectedFault.SERVER_ERROR

    async def poll():
        async with exporter_on(config(cloud.project(), poll={"chunk_size": 1}), FastClock()) as exporter:
            await exporter.pollers[0].tick()

    asyncio.run(poll())
    assert len(requests_of(cloud)) == 9


def test_refused_id_affects_its_pipeline_only(quiet_cloud):
    """Its chunk is halved until the id is alone."""
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


def test_only_a_refresh_sets_project_up_again_after_a_failed_active_poll(quiet_cloud):
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


def test_skipped_poll_is_counted_if_it_would_send_requests(quiet_cloud):
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
    """Under a lasting backlog of follow-ups each tick leads to the next, and the stack must not grow with them."""
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


def test_no_run_in_progress_means_no_poll_and_no_skip_between_refreshes(cloud):
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


def test_unknown_status_is_counted_each_poll_and_logged_once(quiet_cloud, caplog):
    caplog.set_level("INFO")
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
    assert [
        (record.field, record.value)
        for record in caplog.records
        if getattr(record, "id", "") == "unknown-value"
    ] == [("status", "VERIFYING")]


def test_wrong_time_zone_withdraws_stage_starts_and_is_logged_once(quiet_cloud, caplog):
    """Durations stay, because they need no time zone."""
    cloud = quiet_cloud
    finished = with_status(cloud, "COMPLETED", "FAILED", "CANCELED", "IGNORED")
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
    (record,) = [record for record in caplog.records if record.id == "stage-outside-run"]
    assert record.reason == "is stage_time_zone right?"


def test_failing_project_does_not_delay_another(quiet_cloud):
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


def test_other_runs_in_progress_at_first_sight_are_searched_once(quiet_cloud):
    """One page of the run list for each pipeline with a run in progress. It shows the streak of failures as well.

    A pipeline whose latest run has ended takes a page only if that was not a success.
    """
    cloud = quiet_cloud
    clock = FastClock(cloud.codearts.clock())
    active = with_status(cloud, "RUNNING", "INIT", "QUEUED", "PAUSED", "SUSPEND")
    red = with_status(cloud, "FAILED", "CANCELED", "IGNORED")

    async def poll():
        async with exporter_on(config(cloud.project()), clock) as exporter:
            lists = []
            for _ in range(3):
                await exporter.pollers[0].tick()
                lists.append(requests_of(cloud, "ListPipelineRuns"))
                clock.now += 60
            return lists

    first, *later = asyncio.run(poll())
    assert sorted(first) == sorted((identity,) for identity in active | red)
    assert later == [[], []]


def test_unsaved_counters_are_not_published(quiet_cloud, tmp_path):
    """Gauges are published, and the poll counts as successful."""
    cloud = quiet_cloud
    clock = FastClock(cloud.codearts.clock())
    path, aside = tmp_path / "state.db", tmp_path / "aside.db"
    store, stored = open_store(path, clock.now)

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
    active = len(with_status(cloud, "RUNNING", "INIT", "QUEUED", "PAUSED", "SUSPEND"))
    assert counted == [0, 0, active]
    assert len(pages[1].get("ci_pipeline_latest_run_status", status="running")) > 0
    assert set(pages[1].get("ci_pipeline_latest_run_status", status="running").values()) == {0}
