"""A whole Flow project: which pipelines are queried, how many requests that takes, and what the metrics page shows.

The simulated cloud and the exporter share one clock, which a test moves.
"""

import asyncio
from collections import Counter, defaultdict
from collections.abc import Callable, Coroutine, Iterator
from dataclasses import dataclass, field
from typing import Any, TypeVar

import pytest

from exporter.app import bootstrap
from exporter.app.check_config import report
from exporter.app.exporter import Exporter
from exporter.polling.strategies.activity import DIRECT_INTERVAL, LISTS, RETRY_INTERVAL, activity_query_pays
from exporter.simulator import Flow, InjectedFault, Scenario, World, running
from exporter.simulator import SimulatedStatus as Status
from tests.drivers.process import Samples
from tests.drivers.support import FakeClock, config, shown

LIST, RUNS, DETAIL = "ListPipelines", "ListPipelineRuns", "GetPipelineRun"
FREE = {"requests_per_second": 100_000, "burst": 100_000}
INTERVAL = 60.0

T = TypeVar("T")


@dataclass
class Organization:
    """A simulated organization and an exporter that polls it, with one clock."""

    flow: Flow
    url: str
    clock: FakeClock
    story: Scenario
    queried: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    """When each pipeline's run list was requested, by id in the cloud."""
    exporter: Exporter | None = None

    @property
    def ids(self) -> list[str]:
        """Ids of its pipelines in the scenario."""
        return [one.id for one in self.story.world.pipelines]

    def id_of(self, pipeline: str) -> str:
        """Return the id of a pipeline in the cloud."""
        return self.flow.pipeline_id(pipeline)

    def project(self, **changes: Any) -> dict[str, Any]:
        """Return a configured project that polls all pipelines, or some."""
        return {
            "name": "mobile",
            "provider": "flow",
            "endpoint": self.url,
            "organization_id": self.flow.organization_id,
            "auth": {"method": "yunxiao_token", "token": self.flow.credentials.personal_token},
            "pipelines": [{"id": self.id_of(one), "name": f"name of {one}"} for one in self.ids],
            "rate_limit": FREE,
            **changes,
        }

    def start_run(
        self, pipeline: str, seconds: float | None = 20.0, status: Status = Status.COMPLETED
    ) -> Any:
        """Start a run now; it ends after `seconds`, or not at all if None."""
        run = self.story.begin(pipeline, self.clock.now)
        if seconds is not None:
            self.story.end(run, self.clock.now + seconds, status)
        return run

    def assemble(self, *projects: dict[str, Any], **sections: Any) -> None:
        """Build an exporter."""
        sections.setdefault("poll", {"interval": f"{INTERVAL:g}s", "active_interval": f"{INTERVAL:g}s"})
        self.exporter = bootstrap.assemble(config(*(projects or (self.project(),)), **sections), self.clock)

    async def tick(self, seconds: float = 0.0) -> Counter[str]:
        """Let time pass and run the due work; return the number of requests by operation."""
        self.clock.now += seconds
        self.flow.requests.clear()
        assert self.exporter is not None
        for poller in self.exporter.pollers:
            await poller.tick()
        for call in self.flow.requests:
            if call.operation == RUNS:
                self.queried[call.pipeline_ids[0]].append(self.clock.now)
        return Counter(call.operation or "" for call in self.flow.requests)

    def page(self) -> Samples:
        """Return the current page."""
        assert self.exporter is not None
        return Samples(shown(self.exporter))

    def play(self, scene: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """Run a scene to its end, and close what it opened."""

        async def whole() -> T:
            try:
                return await scene()
            finally:
                for poller in self.exporter.pollers if self.exporter else ():
                    await poller.close()

        return asyncio.run(whole())


def organization(pipelines: int) -> Iterator[Organization]:
    world = World(pipelines=pipelines)
    story = Scenario(world)
    clock = FakeClock(world.start + 1000.0)
    flow = Flow(world, clock=clock.time, runs=story)
    with running(flow.app) as url:
        staged = Organization(flow, url, clock, story)
        for pipeline in staged.ids:
            staged.start_run(pipeline)
        clock.now += 1000
        yield staged


@pytest.fixture
def small():
    """Eight pipelines with one run each."""
    yield from organization(8)


@pytest.fixture
def medium():
    """Two hundred pipelines."""
    yield from organization(200)


@pytest.fixture
def large():
    """A thousand pipelines."""
    yield from organization(1000)


class TestRequests:
    """Number of requests."""

    @pytest.mark.parametrize("seconds", [20.0, 90.0])
    def test_refresh_takes_requests_for_the_ten_of_a_thousand_pipelines_that_ran(
        self, large: Organization, seconds
    ):
        """The lists of an activity query, and two requests for each pipeline that ran. All runs are counted."""
        ids = large.ids

        async def scene() -> None:
            large.assemble()
            first = await large.tick()
            # And once the pages of the list of pipelines.
            assert first == {RUNS: 1000, DETAIL: 1000, LIST: 34}
            for turn in range(10):
                ran = ids[turn * 10 : turn * 10 + 10]
                large.clock.now += 10
                for pipeline in ran:
                    large.start_run(pipeline, seconds)
                requests = await large.tick(INTERVAL - 10)
                active = 10 if seconds < INTERVAL - 10 or turn == 0 else 20
                assert requests[LIST] == LISTS
                assert requests.total() <= requests[LIST] + 2 * active
            await large.tick(2 * INTERVAL)

        large.play(scene)
        counted = large.page().get("ci_pipeline_runs_total", status="success")
        assert sum(counted.values()) == 100
        assert set(large.page().get("ci_pipeline_up").values()) == {1.0}

    def test_every_pipeline_is_queried_directly_within_an_hour(self, medium: Organization):
        """Spread out, so that no refresh has many direct queries."""

        async def scene() -> list[int]:
            medium.assemble()
            await medium.tick()
            return [(await medium.tick(INTERVAL))[RUNS] for _ in range(180)]

        queried = medium.play(scene)
        for moments in medium.queried.values():
            ends = [*moments[1:], medium.clock.now]
            assert max(end - start for start, end in zip(moments, ends, strict=True)) <= DIRECT_INTERVAL
        assert max(queried) <= 30
        assert sum(queried) <= 180 * 200 * INTERVAL / DIRECT_INTERVAL * 1.6

    def test_small_project_is_queried_directly(self, small: Organization):
        """An activity query would take more requests."""
        few = small.project(pipelines=small.project()["pipelines"][:3])

        async def scene() -> Counter[str]:
            small.assemble(few)
            await small.tick()
            return await small.tick(INTERVAL)

        assert small.play(scene) == {RUNS: 3}
        assert not activity_query_pays(3, INTERVAL)
        assert activity_query_pays(8, INTERVAL)

    def test_activity_queries_pause_for_an_hour_if_they_take_too_many_requests(self, medium: Organization):
        """Many pipelines of the organization ran, and few of them are watched."""
        watched = medium.project(pipelines=medium.project()["pipelines"][:6])

        async def scene() -> list[Counter[str]]:
            medium.assemble(watched)
            await medium.tick()
            for pipeline in medium.ids[6:]:
                medium.start_run(pipeline)
            return [await medium.tick(INTERVAL) for _ in range(int(RETRY_INTERVAL / INTERVAL) + 2)]

        refused, *direct, again, resumed = medium.play(scene)
        assert refused == {LIST: 6, RUNS: 6}
        # Meanwhile the list of all pipelines is read once, in 7 pages.
        assert sorted(requests[LIST] for requests in direct) == [0] * (len(direct) - 1) + [7]
        assert all(
            requests.total() == 6 + requests[LIST] == requests[RUNS] + requests[LIST] for requests in direct
        )
        assert again == resumed == {LIST: LISTS}

    def test_check_config_prints_the_requests(self, large: Organization):
        large.assemble()
        text = report(config(large.project()))
        assert "about 26.1 requests a refresh, 26.1 a minute while nothing runs: 3 lists" in text
        few = report(config(large.project(pipelines=["1", "2"])))
        assert "2 requests a refresh, 2 a minute while nothing runs: 1 for each pipeline" in few

    def test_jobs_take_no_further_requests(self, small: Organization):
        """Details have stages and jobs."""

        async def scene() -> Counter[str]:
            small.assemble(metrics={"details": "jobs"})
            await small.tick()
            small.start_run(small.ids[0])
            return await small.tick(INTERVAL)

        assert small.play(scene) == {LIST: LISTS, RUNS: 1, DETAIL: 1}
        one = small.id_of(small.ids[0])
        assert small.page().get("ci_pipeline_latest_run_job_status", pipeline_id=one)


class TestCounting:
    """Each run is counted exactly once."""

    def test_many_runs_between_two_refreshes_are_counted(self, small: Organization):
        """One page fills the gap, and the stages of every run are observed."""

        async def scene() -> Counter[str]:
            small.assemble(metrics={"stage_histogram": "pipeline"})
            await small.tick()
            for _ in range(12):
                small.start_run(small.ids[3], 2.0)
                small.clock.now += 3
            return await small.tick(INTERVAL)

        assert small.play(scene) == {LIST: LISTS, RUNS: 1, DETAIL: 12}
        one = small.id_of(small.ids[3])
        assert small.page().value("ci_pipeline_runs_total", pipeline_id=one, status="success") == 12
        name = "ci_pipeline_stage_duration_seconds_count"
        stages = small.page().get(name, pipeline_id=one, status="success")
        assert set(stages.values()) == {12.0}

    def test_step_of_the_wall_clock_hides_no_run(self, small: Organization, monkeypatch: pytest.MonkeyPatch):
        """The time window follows the provider's clock and the time since its last answer."""
        time = small.clock.time

        async def scene() -> Counter[str]:
            small.assemble()
            await small.tick()
            small.start_run(small.ids[3])
            monkeypatch.setattr(small.clock, "time", lambda: time() + 86_400.0)
            return await small.tick(INTERVAL)

        assert small.play(scene) == {LIST: LISTS, RUNS: 1, DETAIL: 1}

    @pytest.mark.parametrize("order", ["ascending", "random"])
    def test_latest_run_has_the_greatest_number_in_any_order_of_the_list(self, small: Organization, order):
        small.flow.runs_order = order
        for _ in range(40):
            small.start_run(small.ids[0], 1.0)
            small.clock.now += 2

        async def scene() -> None:
            small.assemble()
            await small.tick()

        small.play(scene)
        assert (
            small.page().value("ci_pipeline_latest_run_number", pipeline_id=small.id_of(small.ids[0])) == 41
        )

    def test_run_in_progress_is_polled_until_it_ends(self, small: Organization):
        """Its stages are updated as well."""
        one = small.id_of(small.ids[0])

        async def scene() -> list[tuple[float | None, set[str]]]:
            small.assemble(poll={"interval": "60s", "active_interval": "15s"})
            await small.tick()
            small.start_run(small.ids[0], 400.0)
            seen = []
            for _ in range(32):
                await small.tick(15)
                stages = small.page().get("ci_pipeline_latest_run_stage_status", pipeline_id=one)
                running = small.page().value(
                    "ci_pipeline_latest_run_status", pipeline_id=one, status="running"
                )
                seen.append((running, {dict(labels)["status"] for labels in stages}))
            return seen

        seen = small.play(scene)
        assert any("running" in stages and "success" in stages for _, stages in seen)
        assert seen[-1] == (0.0, {"success"})
        assert small.page().value("ci_pipeline_runs_total", pipeline_id=one, status="success") == 1

    def test_retried_run_is_found_while_in_progress(self, small: Organization):
        """It keeps its start, so only the list of runs in progress has it."""
        one = small.id_of(small.ids[0])
        run = small.start_run(small.ids[0], 10.0, Status.FAILED)
        small.clock.now += 1000

        async def scene() -> None:
            small.assemble()
            await small.tick()
            await small.tick(INTERVAL)
            small.story.retry(run, small.clock.now + 1)
            await small.tick(INTERVAL)
            small.story.end(run, small.clock.now + 1, Status.COMPLETED)
            await small.tick(INTERVAL)

        small.play(scene)
        assert small.page().value("ci_pipeline_latest_run_status", pipeline_id=one, status="success") == 1

    def test_start_that_is_listed_late_is_found(self, small: Organization):
        """A later, longer window includes it."""
        small.flow.stale = 70.0

        async def scene() -> None:
            small.assemble()
            await small.tick()
            await small.tick(INTERVAL)
            small.start_run(small.ids[5], 5.0)
            for _ in range(3):
                await small.tick(INTERVAL)

        small.play(scene)
        one = small.id_of(small.ids[5])
        assert small.page().value("ci_pipeline_runs_total", pipeline_id=one, status="success") == 1

    @pytest.mark.parametrize("signed", [False, True])
    def test_runs_are_counted_if_lists_have_no_status(self, small: Organization, signed):
        """The details have it. Flow documents no status of list rows."""
        small.flow.run_status = False
        auth = small.project()["auth"]
        if signed:
            keys = small.flow.credentials
            auth = {"method": "aksk", "access_key": keys.access_key, "secret_key": keys.secret_key}

        async def scene() -> None:
            small.assemble(small.project(auth=auth))
            await small.tick()
            for status in (Status.COMPLETED, Status.FAILED):
                small.start_run(small.ids[0], 3.0, status)
                small.clock.now += 5
            await small.tick(INTERVAL)

        small.play(scene)
        one = small.id_of(small.ids[0])
        assert small.page().value("ci_pipeline_runs_total", pipeline_id=one, status="failed") == 1
        assert small.page().value("ci_pipeline_runs_total", pipeline_id=one, status="success") == 1
        assert small.page().get("pipeline_exporter_unknown_words_total") == {}

    def test_old_runs_are_not_counted_if_lists_have_no_status(self, small):
        small.flow.run_status = False
        one = small.id_of(small.ids[0])
        for _ in range(3):
            small.start_run(small.ids[0], 3.0, Status.FAILED)
            small.clock.now += 5
        latest = small.start_run(small.ids[0], None)
        small.clock.now += 5

        async def scene() -> None:
            small.assemble()
            await small.tick()
            for _ in range(3):
                await small.tick(INTERVAL)
                assert small.page().value("ci_pipeline_runs_active", pipeline_id=one) == 1
            small.story.end(latest, small.clock.now + 1, Status.COMPLETED)
            small.clock.now += 2
            small.start_run(small.ids[0], 3.0)
            for _ in range(3):
                await small.tick(INTERVAL)
                assert small.page().value("ci_pipeline_runs_active", pipeline_id=one) == 0

        small.play(scene)
        assert small.page().value("ci_pipeline_runs_total", pipeline_id=one, status="success") == 2
        assert small.page().value("ci_pipeline_runs_total", pipeline_id=one, status="failed") == 0
        assert sum(small.page().get("ci_pipeline_run_retries_total", pipeline_id=one).values()) == 0

    @pytest.mark.parametrize("states", [True, False])
    def test_gap_of_many_pages_is_filled_while_a_run_is_in_progress(self, small, states):
        small.flow.run_status = states
        one = small.id_of(small.ids[0])

        async def scene() -> None:
            small.assemble()
            await small.tick()
            small.start_run(small.ids[0], None)
            await small.tick(INTERVAL)
            for _ in range(120):
                small.clock.now += 5
                small.start_run(small.ids[0], 2.0)
            for _ in range(3):
                await small.tick(INTERVAL)

        small.play(scene)
        assert small.page().value("ci_pipeline_runs_total", pipeline_id=one, status="success") == 120
        assert small.page().value("pipeline_exporter_runs_unresolved") == 1


class TestFailures:
    """A failure affects only its own request."""

    def test_refresh_queries_pipelines_that_the_last_one_left_out(self, small):
        """They are queried although their last known runs explain why the next activity query lists them."""

        async def scene() -> None:
            small.assemble()
            await small.tick()
            for injected_fault in (None, InjectedFault.BAD_GATEWAY):
                for pipeline in small.ids:
                    small.start_run(pipeline, 2.0)
                small.clock.now += 5
                small.flow.injected_fault, small.flow.injected_fault_operation = injected_fault, RUNS
                await small.tick(INTERVAL)
            small.flow.injected_fault = None
            await small.tick(INTERVAL)

        small.play(scene)
        counted = small.page().get("ci_pipeline_runs_total", status="success")
        assert set(counted.values()) == {2.0}

    def test_failed_activity_query_loses_no_run(self, small: Organization):
        """Pipelines that were not queried are not up; the next activity query covers the time of the failed one."""

        async def scene() -> None:
            small.assemble()
            await small.tick()
            small.start_run(small.ids[0], 5.0)
            small.flow.injected_fault, small.flow.injected_fault_operation = InjectedFault.BAD_GATEWAY, LIST
            await small.tick(INTERVAL)
            assert small.page().value("pipeline_exporter_project_up") == 0
            assert set(small.page().get("ci_pipeline_up").values()) == {0.0}
            small.flow.injected_fault = None
            await small.tick(10 * INTERVAL)

        small.play(scene)
        assert small.page().value("pipeline_exporter_project_up") == 1
        one = small.id_of(small.ids[0])
        assert small.page().value("ci_pipeline_runs_total", pipeline_id=one, status="success") == 1

    def test_each_pipeline_is_queried_if_lists_are_refused(self, small: Organization, caplog):
        """One warning an hour; the project is up."""
        small.flow.injected_fault, small.flow.injected_fault_operation = InjectedFault.DENIED, LIST

        async def scene() -> list[Counter[str]]:
            small.assemble()
            await small.tick()
            return [await small.tick(INTERVAL), await small.tick(INTERVAL)]

        assert small.play(scene) == [{LIST: 1, RUNS: 8}, {RUNS: 8}]
        assert small.page().value("pipeline_exporter_project_up") == 1
        assert "cannot list recently active pipelines, querying each one" in caplog.text

    def test_run_is_counted_only_once_its_details_are_answered(self, small: Organization):
        one = small.id_of(small.ids[0])

        async def scene() -> None:
            small.assemble()
            await small.tick()
            small.start_run(small.ids[0], 5.0)
            small.flow.injected_fault, small.flow.injected_fault_operation = InjectedFault.BAD_GATEWAY, DETAIL
            await small.tick(INTERVAL)
            assert small.page().value("ci_pipeline_up", pipeline_id=one) == 0
            assert small.page().value("ci_pipeline_runs_total", pipeline_id=one, status="success") == 0
            small.flow.injected_fault = None
            await small.tick(INTERVAL)

        small.play(scene)
        assert small.page().value("ci_pipeline_runs_total", pipeline_id=one, status="success") == 1
        assert small.page().get("ci_pipeline_latest_run_stage_status", pipeline_id=one)

    def test_run_is_counted_without_stages_if_details_are_refused(self, small: Organization):
        one = small.id_of(small.ids[0])

        async def scene() -> None:
            small.assemble()
            small.flow.injected_fault, small.flow.injected_fault_operation = InjectedFault.DENIED, DETAIL
            await small.tick()
            small.start_run(small.ids[0], 5.0)
            await small.tick(INTERVAL)

        small.play(scene)
        assert small.page().value("ci_pipeline_runs_total", pipeline_id=one, status="success") == 1
        assert small.page().value("ci_pipeline_up", pipeline_id=one) == 1

    def test_refused_pipeline_affects_itself_only(self, small: Organization):
        """The pipeline is refused from the first refresh on, but the project is up."""
        hidden = small.ids[0]
        small.flow.forbidden = {hidden}

        async def scene() -> None:
            small.assemble()
            await small.tick()
            await small.tick(INTERVAL)

        small.play(scene)
        assert small.page().value("pipeline_exporter_project_up") == 1
        assert small.page().value("pipeline_exporter_pipelines_refused") == 1
        assert len(small.page().get("ci_pipeline_latest_run_number")) == 7

    def test_project_is_down_after_two_requests_if_all_pipelines_are_refused(self, small: Organization):
        """No pipeline is quarantined."""
        small.flow.forbidden = set(small.ids)

        async def scene() -> list[Counter[str]]:
            small.assemble()
            return [await small.tick(), await small.tick(INTERVAL)]

        assert small.play(scene) == [{RUNS: 2}, {RUNS: 2}]
        assert small.page().value("pipeline_exporter_project_up") == 0
        assert small.page().value("pipeline_exporter_pipelines_refused") == 0

    def test_deleted_pipeline_is_quarantined(self, small: Organization):
        gone = small.ids[0]

        async def scene() -> list[Counter[str]]:
            small.assemble()
            await small.tick()
            small.start_run(gone)
            small.flow.deleted.add(gone)
            # The list of pipelines lacks it, so that only a direct query finds out.
            small.clock.now += DIRECT_INTERVAL
            return [await small.tick(), await small.tick(INTERVAL)]

        first, then = small.play(scene)
        assert first[RUNS] == 8
        assert then[RUNS] == 0
        assert small.page().value("pipeline_exporter_pipelines_refused") == 1
        assert small.page().value("pipeline_exporter_project_up") == 1


def test_pages_are_published_during_the_first_refresh(large: Organization):
    """The request budget makes the first refresh last long."""
    large.assemble(large.project(rate_limit={"requests_per_second": 10, "burst": 20}))
    pages = []

    async def scene() -> None:
        assert large.exporter is not None
        publish = large.exporter.publisher.publish

        async def record() -> None:
            await publish()
            pages.append(len(large.page().get("ci_pipeline_latest_run_number")))

        large.exporter.pollers[0]._publish = record
        await large.tick()

    large.play(scene)
    assert len(pages) > 10
    assert pages == sorted(pages)
    assert pages[-1] == 1000
