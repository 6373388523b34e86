"""Flow, whole: which pipelines are asked about, how many requests that takes, and what a page tells of them.

The simulated cloud and the exporter share one clock, which a test moves.
"""

import asyncio
from collections import Counter, defaultdict
from collections.abc import Callable, Coroutine, Iterator
from dataclasses import dataclass, field
from typing import Any, TypeVar

import pytest

from exporter.app.bootstrap import Exporter, assemble
from exporter.app.check_config import report
from exporter.polling.strategies.activity import DIRECT_INTERVAL, LISTS, RETRY_INTERVAL, activity_query_pays
from exporter.simulator import Flow, InjectedFault, Scenario, Status, World, running
from tests.drivers.process import Samples
from tests.drivers.support import FakeClock, config, shown

LIST, RUNS, DETAIL = "ListPipelines", "ListPipelineRuns", "GetPipelineRun"
FREE = {"requests_per_second": 100_000, "burst": 100_000}
INTERVAL = 60.0

T = TypeVar("T")


@dataclass
class Stage:
    """A simulated organization and an exporter on it, with one clock."""

    flow: Flow
    url: str
    clock: FakeClock
    story: Scenario
    asked: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    """When each pipeline's run list was asked for, by id there."""
    exporter: Exporter | None = None

    @property
    def ids(self) -> list[str]:
        """The ids of its pipelines as its story has them."""
        return [one.id for one in self.story.world.pipelines]

    def id_of(self, pipeline: str) -> str:
        """A pipeline's id as the cloud has it."""
        return self.flow.pipeline_id(pipeline)

    def project(self, **changes: Any) -> dict[str, Any]:
        """A project of a configuration that polls all of its pipelines, or some."""
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

    def run(self, pipeline: str, seconds: float | None = 20.0, status: Status = Status.COMPLETED) -> Any:
        """A run that begins now, and ends after so many seconds if it does."""
        tale = self.story.begin(pipeline, self.clock.now)
        if seconds is not None:
            self.story.end(tale, self.clock.now + seconds, status)
        return tale

    def begin(self, *projects: dict[str, Any], **sections: Any) -> None:
        """Put an exporter together."""
        sections.setdefault("poll", {"interval": f"{INTERVAL:g}s", "active_interval": f"{INTERVAL:g}s"})
        self.exporter = assemble(config(*(projects or (self.project(),)), **sections), self.clock)

    async def tick(self, seconds: float = 0.0) -> Counter[str]:
        """Do what is due after so many seconds; tells the requests that it took, by operation."""
        self.clock.now += seconds
        self.flow.requests.clear()
        assert self.exporter is not None
        for poller in self.exporter.pollers:
            await poller.tick()
        for call in self.flow.requests:
            if call.operation == RUNS:
                self.asked[call.pipeline_ids[0]].append(self.clock.now)
        return Counter(call.operation or "" for call in self.flow.requests)

    def page(self) -> Samples:
        """The page in force."""
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


def stage(pipelines: int) -> Iterator[Stage]:
    world = World(pipelines=pipelines)
    story = Scenario(world)
    clock = FakeClock(world.start + 1000.0)
    flow = Flow(world, clock=clock.time, runs=story)
    with running(flow.app) as url:
        staged = Stage(flow, url, clock, story)
        for pipeline in staged.ids:
            staged.run(pipeline)
        clock.now += 1000
        yield staged


@pytest.fixture
def small():
    """Eight pipelines, each of which has run once."""
    yield from stage(8)


@pytest.fixture
def medium():
    """Two hundred."""
    yield from stage(200)


@pytest.fixture
def large():
    """A thousand."""
    yield from stage(1000)


class TestEconomy:
    """Requests are spent where something happened."""

    @pytest.mark.parametrize("seconds", [20.0, 90.0])
    def test_a_thousand_pipelines_of_which_ten_run(self, large: Stage, seconds):
        """A refresh takes the pages of its sweep and two requests for each that ran, not a thousand; all are counted."""
        ids = large.ids

        async def scene() -> None:
            large.begin()
            first = await large.tick()
            assert first == {RUNS: 1000, DETAIL: 1000}
            for turn in range(10):
                ran = ids[turn * 10 : turn * 10 + 10]
                large.clock.now += 10
                for pipeline in ran:
                    large.run(pipeline, seconds)
                requests = await large.tick(INTERVAL - 10)
                active = 10 if seconds < INTERVAL - 10 or turn == 0 else 20
                assert requests[LIST] == LISTS
                assert requests.total() <= requests[LIST] + 2 * active
            await large.tick(2 * INTERVAL)

        large.play(scene)
        counted = large.page().get("ci_pipeline_runs_total", status="success")
        assert sum(counted.values()) == 100
        assert set(large.page().get("ci_pipeline_up").values()) == {1.0}

    def test_every_pipeline_is_asked_directly_within_an_hour(self, medium: Stage):
        """Whatever the sweeps tell; spread out, so that no refresh has to bear many."""

        async def scene() -> list[int]:
            medium.begin()
            await medium.tick()
            return [(await medium.tick(INTERVAL))[RUNS] for _ in range(180)]

        asked = medium.play(scene)
        for moments in medium.asked.values():
            ends = [*moments[1:], medium.clock.now]
            assert max(end - start for start, end in zip(moments, ends, strict=True)) <= DIRECT_INTERVAL
        assert max(asked) <= 30
        assert sum(asked) <= 180 * 200 * INTERVAL / DIRECT_INTERVAL * 1.6

    def test_a_small_project_is_polled_directly(self, small: Stage):
        """Where a sweep takes more requests than there are pipelines."""
        few = small.project(pipelines=small.project()["pipelines"][:3])

        async def scene() -> Counter[str]:
            small.begin(few)
            await small.tick()
            return await small.tick(INTERVAL)

        assert small.play(scene) == {RUNS: 3}
        assert not activity_query_pays(3, INTERVAL)
        assert activity_query_pays(8, INTERVAL)

    def test_a_sweep_of_a_busy_organization_is_given_up(self, medium: Stage):
        """The organization has many that ran, few of which are watched: each of these is asked instead, for an hour."""
        watched = medium.project(pipelines=medium.project()["pipelines"][:6])

        async def scene() -> list[Counter[str]]:
            medium.begin(watched)
            await medium.tick()
            for pipeline in medium.ids[6:]:
                medium.run(pipeline)
            return [await medium.tick(INTERVAL) for _ in range(int(RETRY_INTERVAL / INTERVAL) + 2)]

        given_up, *direct, again, swept = medium.play(scene)
        assert given_up == {LIST: 6, RUNS: 6}
        assert all(requests == {RUNS: 6} for requests in direct)
        assert again == swept == {LIST: LISTS}

    def test_what_it_costs_is_told(self, large: Stage):
        """By `check-config`, as it comes."""
        large.begin()
        told = report(config(large.project()))
        assert "about 26.1 requests a refresh, 26.1 a minute while nothing runs: 3 lists" in told
        few = report(config(large.project(pipelines=["1", "2"])))
        assert "2 requests a refresh, 2 a minute while nothing runs: 1 for each pipeline" in few

    def test_jobs_take_no_more_requests(self, small: Stage):
        """The details that tell stages tell them too."""

        async def scene() -> Counter[str]:
            small.begin(metrics={"details": "jobs"})
            await small.tick()
            small.run(small.ids[0])
            return await small.tick(INTERVAL)

        assert small.play(scene) == {LIST: LISTS, RUNS: 1, DETAIL: 1}
        one = small.id_of(small.ids[0])
        assert small.page().get("ci_pipeline_latest_run_job_status", pipeline_id=one)


class TestTruth:
    """Nothing is overlooked, and nothing is told twice."""

    def test_many_runs_between_two_refreshes(self, small: Stage):
        """One page fills the gap, and every run's stages are observed."""

        async def scene() -> Counter[str]:
            small.begin(metrics={"stage_histogram": "pipeline"})
            await small.tick()
            for _ in range(12):
                small.run(small.ids[3], 2.0)
                small.clock.now += 3
            return await small.tick(INTERVAL)

        assert small.play(scene) == {LIST: LISTS, RUNS: 1, DETAIL: 12}
        one = small.id_of(small.ids[3])
        assert small.page().value("ci_pipeline_runs_total", pipeline_id=one, status="success") == 12
        name = "ci_pipeline_stage_duration_seconds_count"
        stages = small.page().get(name, pipeline_id=one, status="success")
        assert set(stages.values()) == {12.0}

    def test_a_step_of_the_wall_clock_hides_no_run(self, small: Stage, monkeypatch: pytest.MonkeyPatch):
        """The window of a sweep goes by the provider's clock and the time since its last answer."""
        time = small.clock.time

        async def scene() -> Counter[str]:
            small.begin()
            await small.tick()
            small.run(small.ids[3])
            monkeypatch.setattr(small.clock, "time", lambda: time() + 86_400.0)
            return await small.tick(INTERVAL)

        assert small.play(scene) == {LIST: LISTS, RUNS: 1, DETAIL: 1}

    @pytest.mark.parametrize("order", ["ascending", "random"])
    def test_the_latest_run_is_the_one_with_the_greatest_number(self, small: Stage, order):
        """Whatever order the list has, and on whichever page."""
        small.flow.runs_order = order
        for _ in range(40):
            small.run(small.ids[0], 1.0)
            small.clock.now += 2

        async def scene() -> None:
            small.begin()
            await small.tick()

        small.play(scene)
        assert (
            small.page().value("ci_pipeline_latest_run_number", pipeline_id=small.id_of(small.ids[0])) == 41
        )

    def test_a_run_that_goes_on_is_followed(self, small: Stage):
        """Its stages too, until it has ended."""
        one = small.id_of(small.ids[0])

        async def scene() -> list[tuple[float | None, set[str]]]:
            small.begin(poll={"interval": "60s", "active_interval": "15s"})
            await small.tick()
            small.run(small.ids[0], 400.0)
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

    def test_a_retry_is_seen_while_it_goes_on(self, small: Stage):
        """It keeps its start, so that no window has it; the sweep of what is under way does."""
        one = small.id_of(small.ids[0])
        tale = small.run(small.ids[0], 10.0, Status.FAILED)
        small.clock.now += 1000

        async def scene() -> None:
            small.begin()
            await small.tick()
            await small.tick(INTERVAL)
            small.story.retry(tale, small.clock.now + 1)
            await small.tick(INTERVAL)
            small.story.end(tale, small.clock.now + 1, Status.COMPLETED)
            await small.tick(INTERVAL)

        small.play(scene)
        assert small.page().value("ci_pipeline_latest_run_status", pipeline_id=one, status="success") == 1

    def test_a_start_that_is_listed_late_is_found(self, small: Stage):
        """The window reaches back over the one before."""
        small.flow.stale = 70.0

        async def scene() -> None:
            small.begin()
            await small.tick()
            await small.tick(INTERVAL)
            small.run(small.ids[5], 5.0)
            for _ in range(3):
                await small.tick(INTERVAL)

        small.play(scene)
        one = small.id_of(small.ids[5])
        assert small.page().value("ci_pipeline_runs_total", pipeline_id=one, status="success") == 1

    @pytest.mark.parametrize("signed", [False, True])
    def test_a_list_that_tells_no_states(self, small: Stage, signed):
        """They are not documented: the details of a run tell its state."""
        small.flow.run_status = False
        auth = small.project()["auth"]
        if signed:
            keys = small.flow.credentials
            auth = {"method": "aksk", "access_key": keys.access_key, "secret_key": keys.secret_key}

        async def scene() -> None:
            small.begin(small.project(auth=auth))
            await small.tick()
            for status in (Status.COMPLETED, Status.FAILED):
                small.run(small.ids[0], 3.0, status)
                small.clock.now += 5
            await small.tick(INTERVAL)

        small.play(scene)
        one = small.id_of(small.ids[0])
        assert small.page().value("ci_pipeline_runs_total", pipeline_id=one, status="failed") == 1
        assert small.page().value("ci_pipeline_runs_total", pipeline_id=one, status="success") == 1
        assert small.page().get("pipeline_exporter_unknown_words_total") == {}

    def test_states_that_no_list_tells_make_nothing_old_new(self, small):
        """What was over at first sight stays outside, and what is counted stays over."""
        small.flow.run_status = False
        one = small.id_of(small.ids[0])
        for _ in range(3):
            small.run(small.ids[0], 3.0, Status.FAILED)
            small.clock.now += 5
        latest = small.run(small.ids[0], None)
        small.clock.now += 5

        async def scene() -> None:
            small.begin()
            await small.tick()
            for _ in range(3):
                await small.tick(INTERVAL)
                assert small.page().value("ci_pipeline_runs_active", pipeline_id=one) == 1
            small.story.end(latest, small.clock.now + 1, Status.COMPLETED)
            small.clock.now += 2
            small.run(small.ids[0], 3.0)
            for _ in range(3):
                await small.tick(INTERVAL)
                assert small.page().value("ci_pipeline_runs_active", pipeline_id=one) == 0

        small.play(scene)
        assert small.page().value("ci_pipeline_runs_total", pipeline_id=one, status="success") == 2
        assert small.page().value("ci_pipeline_runs_total", pipeline_id=one, status="failed") == 0
        assert sum(small.page().get("ci_pipeline_run_retries_total", pipeline_id=one).values()) == 0

    @pytest.mark.parametrize("states", [True, False])
    def test_a_gap_of_many_pages_is_filled_while_a_run_goes_on(self, small, states):
        """However often the pipeline is asked about for that run's sake."""
        small.flow.run_status = states
        one = small.id_of(small.ids[0])

        async def scene() -> None:
            small.begin()
            await small.tick()
            small.run(small.ids[0], None)
            await small.tick(INTERVAL)
            for _ in range(120):
                small.clock.now += 5
                small.run(small.ids[0], 2.0)
            for _ in range(3):
                await small.tick(INTERVAL)

        small.play(scene)
        assert small.page().value("ci_pipeline_runs_total", pipeline_id=one, status="success") == 120
        assert small.page().value("pipeline_exporter_runs_unresolved") == 1


class TestFailures:
    """What fails costs itself."""

    def test_whom_a_broken_off_refresh_left_out_the_next_one_asks(self, small):
        """Although the next sweep has no word of them but what their last known runs explain."""

        async def scene() -> None:
            small.begin()
            await small.tick()
            for injected_fault in (None, InjectedFault.BAD_GATEWAY):
                for pipeline in small.ids:
                    small.run(pipeline, 2.0)
                small.clock.now += 5
                small.flow.injected_fault, small.flow.injected_fault_operation = injected_fault, RUNS
                await small.tick(INTERVAL)
            small.flow.injected_fault = None
            await small.tick(INTERVAL)

        small.play(scene)
        counted = small.page().get("ci_pipeline_runs_total", status="success")
        assert set(counted.values()) == {2.0}

    def test_a_failed_sweep_leaves_nothing_out(self, small: Stage):
        """Pipelines that were not asked are not up; the next sweep covers what the failed one would have."""

        async def scene() -> None:
            small.begin()
            await small.tick()
            small.run(small.ids[0], 5.0)
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

    def test_who_may_not_list_pipelines_asks_each(self, small: Stage, caplog):
        """And is told so once in a while; nothing is down."""
        small.flow.injected_fault, small.flow.injected_fault_operation = InjectedFault.DENIED, LIST

        async def scene() -> list[Counter[str]]:
            small.begin()
            await small.tick()
            return [await small.tick(INTERVAL), await small.tick(INTERVAL)]

        assert small.play(scene) == [{LIST: 1, RUNS: 8}, {RUNS: 8}]
        assert small.page().value("pipeline_exporter_project_up") == 1
        assert "cannot list recently active pipelines, querying each one" in caplog.text

    def test_details_that_fail_are_asked_for_again(self, small: Stage):
        """A run is not counted without its stages as long as they may still be told."""
        one = small.id_of(small.ids[0])

        async def scene() -> None:
            small.begin()
            await small.tick()
            small.run(small.ids[0], 5.0)
            small.flow.injected_fault, small.flow.injected_fault_operation = InjectedFault.BAD_GATEWAY, DETAIL
            await small.tick(INTERVAL)
            assert small.page().value("ci_pipeline_up", pipeline_id=one) == 0
            assert small.page().value("ci_pipeline_runs_total", pipeline_id=one, status="success") == 0
            small.flow.injected_fault = None
            await small.tick(INTERVAL)

        small.play(scene)
        assert small.page().value("ci_pipeline_runs_total", pipeline_id=one, status="success") == 1
        assert small.page().get("ci_pipeline_latest_run_stage_status", pipeline_id=one)

    def test_details_that_are_refused_cost_the_stages_alone(self, small: Stage):
        """Whoever may not see them is shown what the list tells."""
        one = small.id_of(small.ids[0])

        async def scene() -> None:
            small.begin()
            small.flow.injected_fault, small.flow.injected_fault_operation = InjectedFault.DENIED, DETAIL
            await small.tick()
            small.run(small.ids[0], 5.0)
            await small.tick(INTERVAL)

        small.play(scene)
        assert small.page().value("ci_pipeline_runs_total", pipeline_id=one, status="success") == 1
        assert small.page().value("ci_pipeline_up", pipeline_id=one) == 1

    def test_a_pipeline_that_one_may_not_see_costs_itself(self, small: Stage):
        """From the first refresh on; the others are shown, and the project is up."""
        hidden = small.ids[0]
        small.flow.forbidden = {hidden}

        async def scene() -> None:
            small.begin()
            await small.tick()
            await small.tick(INTERVAL)

        small.play(scene)
        assert small.page().value("pipeline_exporter_project_up") == 1
        assert small.page().value("pipeline_exporter_pipelines_refused") == 1
        assert len(small.page().get("ci_pipeline_latest_run_number")) == 7

    def test_who_may_see_none_is_told_so_with_few_requests(self, small: Stage):
        """It is the project that is refused: no pipeline is singled out."""
        small.flow.forbidden = set(small.ids)

        async def scene() -> list[Counter[str]]:
            small.begin()
            return [await small.tick(), await small.tick(INTERVAL)]

        assert small.play(scene) == [{RUNS: 2}, {RUNS: 2}]
        assert small.page().value("pipeline_exporter_project_up") == 0
        assert small.page().value("pipeline_exporter_pipelines_refused") == 0

    def test_a_pipeline_that_is_no_more_is_singled_out(self, small: Stage):
        """The others are as they were, and the project is up."""
        gone = small.ids[0]

        async def scene() -> list[Counter[str]]:
            small.begin()
            await small.tick()
            small.run(gone)
            small.flow.deleted.add(gone)
            # The list of pipelines has it no more, so that it is found out when it is asked directly.
            small.clock.now += DIRECT_INTERVAL
            return [await small.tick(), await small.tick(INTERVAL)]

        first, then = small.play(scene)
        assert first[RUNS] == 8
        assert then[RUNS] == 0
        assert small.page().value("pipeline_exporter_pipelines_refused") == 1
        assert small.page().value("pipeline_exporter_project_up") == 1


def test_pages_come_while_the_first_refresh_goes_on(large: Stage):
    """A budget of ten requests a second makes it last; whoever looks sees what is known so far."""
    large.begin(large.project(rate_limit={"requests_per_second": 10, "burst": 20}))
    pages = []

    async def scene() -> None:
        assert large.exporter is not None
        publish = large.exporter.publisher.publish

        async def watched() -> None:
            await publish()
            pages.append(len(large.page().get("ci_pipeline_latest_run_number")))

        large.exporter.pollers[0]._publish = watched
        await large.tick()

    large.play(scene)
    assert len(pages) > 10
    assert pages == sorted(pages)
    assert pages[-1] == 1000
