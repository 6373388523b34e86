"""Health: 503 for a stuck poll, 200 for a slow, refused or failing one. In virtual time."""

import asyncio
import contextlib
import os
import re
import signal
import sqlite3
from concurrent.futures import Future
from contextlib import asynccontextmanager

import httpx
import pytest

from exporter.app.bootstrap import assemble
from exporter.app.scheduler import Scheduler
from exporter.client.transport import ConnectionPools
from exporter.core.failures import FailureKind, RequestFailure
from exporter.core.health import Activity, Health
from exporter.exposition.publisher import Publisher
from exporter.state.sqlite import Database, SqliteStore
from exporter.state.worker import Worker
from tests.drivers.process import PATIENCE, eventually, exporter
from tests.drivers.support import PIPELINE_ID, FakeClock, config, project
from tests.drivers.virtual_time import LoopClock, VirtualTimeLoop

LIMIT = 600.0
FLOW = {
    "name": "mobile",
    "provider": "flow",
    "organization_id": "5ebbc0228123212b59xxxxx",
    "auth": {"method": "yunxiao_token", "token": "a-token-that-is-secret"},
}


def play(scenario):
    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        return runner.run(scenario())


@asynccontextmanager
async def scheduled(settings, clock=None, store=None):
    """The pollers of a configuration under the daemon's scheduler, and their health."""
    clock = clock or LoopClock()
    exporter = assemble(settings, clock, store=store)
    scheduler = Scheduler(exporter, clock)
    health = Health({one.project: one.activity for one in exporter.pollers}, settings.poll.interval)
    scheduler.start()
    try:
        yield exporter, scheduler, health
    finally:
        await scheduler.stop()
        for poller in exporter.pollers:
            await poller.close()


async def problem_within(health, seconds):
    """Return the first problem that health reports and the seconds until then; an empty problem if there was none."""
    for second in range(int(seconds)):
        if problem := health.problem():
            return problem, second
        await asyncio.sleep(1)
    return "", seconds


@pytest.fixture(autouse=True)
def unpublished(monkeypatch):
    """Publish no pages, which a thread renders in real time."""

    async def publish(_):
        return

    monkeypatch.setattr(Publisher, "publish", publish)


@pytest.fixture
def answers(monkeypatch):
    """Return a function that sets the response to every request: a coroutine function of the request."""
    requests: list[float] = []

    def answer_with(answer):
        async def exchange(_, request):
            requests.append(asyncio.get_running_loop().time())
            return await answer(request)

        monkeypatch.setattr(ConnectionPools, "exchange", exchange)
        return requests

    return answer_with


async def never(_):
    """Wait without ever responding."""
    await asyncio.Event().wait()


def answers_after(seconds, outcome):
    async def answer(_):
        await asyncio.sleep(seconds)
        return outcome

    return answer


class TestStays200:
    """Requests begin and end, or must not be sent."""

    @pytest.mark.parametrize(
        "outcome",
        [
            RequestFailure(kind=FailureKind.TRANSIENT, code="timeout", message="no whole answer within 10 s"),
            RequestFailure(kind=FailureKind.TRANSIENT, code="connect", message="no answer"),
            (500, {}, b""),
            (401, {}, b"{}"),
            (403, {}, b"{}"),
            (429, {"retry-after": "3600"}, b""),
            (429, {"retry-after": "9"}, b""),
            (200, {}, b"not JSON"),
        ],
        ids=["timeout", "connect", "500", "401", "403", "429 for long", "429 for short", "invalid"],
    )
    def test_while_clouds_are_down_for_an_hour(self, answers, outcome):
        requests = answers(answers_after(10.0, outcome))

        async def scenario():
            async with scheduled(config(project(), {**FLOW, "pipelines": ["1", "2"]})) as (*_, health):
                return await problem_within(health, 3700)

        assert play(scenario) == ("", 3700)
        assert requests

    def test_while_a_disk_hangs_for_an_hour(self, answers, tmp_path):
        """Gauges are polled, and every save fails after its time limit."""
        requests = answers(answers_after(1.0, (200, {}, b"[]")))

        class HangingDisk(Worker):
            def submit(self, call):
                return Future()

        async def scenario():
            store = SqliteStore(0, HangingDisk("disk"), Database(sqlite3.connect(":memory:"), tmp_path))
            async with scheduled(config(project()), store=store) as (*_, health):
                return await problem_within(health, 3700)

        assert play(scenario) == ("", 3700)
        assert len(requests) > 60

    def test_during_a_first_refresh_of_ten_thousand_flow_pipelines(self, answers):
        """At the default rate it takes longer than the limit."""

        async def answer(request):
            listing = request.url.path.endswith("/pipelines")
            return 200, {}, b'[{"pipelineId": 1, "pipelineName": "one"}]' if listing else b"[]"

        requests = answers(answer)
        ids = [str(number) for number in range(1, 10_001)]

        async def scenario():
            async with scheduled(config({**FLOW, "pipelines": ids})) as (exporter, _, health):
                async with asyncio.timeout(7200):
                    while not exporter.pollers[0].refreshed.is_set():
                        assert health.problem() == ""
                        await asyncio.sleep(1)
                return asyncio.get_running_loop().time()

        assert play(scenario) > 1.5 * LIMIT
        assert len(requests) > 10_000

    def test_while_the_budget_allows_a_request_every_thousand_seconds(self, answers):
        requests = answers(answers_after(1.0, (500, {}, b"")))
        rare = project(rate_limit={"requests_per_second": 0.001, "burst": 1})

        async def scenario():
            async with scheduled(config(rare)) as (*_, health):
                return await problem_within(health, 3900)

        assert play(scenario) == ("", 3900)
        assert len(requests) == 4

    def test_while_nothing_is_due(self, answers):
        async def listed(_):
            return 200, {}, b'{"total": 0, "pipelines": []}'

        requests = answers(listed)

        async def scenario():
            empty = project(pipelines=[], discover={"interval": "1d"})
            async with scheduled(config(empty)) as (*_, health):
                return await problem_within(health, 4000)

        assert play(scenario) == ("", 4000)
        assert requests[-1] < LIMIT

    def test_while_the_wall_clock_steps(self, answers, caplog):
        """A step neither delays a poll nor adds one, and is logged."""
        requests = answers(answers_after(0.5, (404, {}, b"")))

        async def scenario():
            clock = LoopClock()
            named = project(pipelines=[{"id": PIPELINE_ID, "name": "build"}])
            async with scheduled(config(named), clock) as (*_, health):
                for step in (86_400.0, 0.0, -86_400.0, 0.0):
                    assert await problem_within(health, 100) == ("", 100)
                    clock.step = step
                    assert await problem_within(health, 5) == ("", 5)
                return await problem_within(health, 3590)

        assert play(scenario) == ("", 3590)
        assert requests == [pytest.approx(60.0 * number, abs=0.01) for number in range(67)]
        steps = [record.seconds for record in caplog.records if record.msg == "wall clock stepped"]
        assert steps == [86_400, -86_400, -86_400, 86_400]


class TestTurns503:
    """Due work makes no progress."""

    def test_on_a_request_that_does_not_end(self, answers):
        answers(never)

        async def scenario():
            async with scheduled(config(project(name="one"), project(name="two", provider="codearts"))) as (
                *_,
                health,
            ):
                return await problem_within(health, 3600)

        problem, second = play(scenario)
        # Both share a credential, so the request of the other one waits until it was accepted.
        assert problem == "project one: a request has been running for 601 s\n"
        assert second == LIMIT + 1

    @pytest.mark.parametrize(("interval", "limit"), [("15s", 600), ("5m", 3000)])
    def test_on_a_poll_that_sends_nothing(self, answers, monkeypatch, interval, limit):
        """Only the project that is stuck is named."""
        answers(answers_after(1.0, (404, {}, b"")))
        stuck: list[float] = []

        async def scenario():
            settings = config(project(name="one"), project(name="two"), poll={"interval": interval})
            async with scheduled(settings) as (exporter, _, health):
                await asyncio.sleep(100)
                monkeypatch.setattr(exporter.pollers[1]._repository, "save", save)
                found = await problem_within(health, 7200)
                return found, asyncio.get_running_loop().time() - stuck[0]

        async def save(tracker):
            if tracker.project == "two":
                stuck.append(asyncio.get_running_loop().time())
                await asyncio.Event().wait()
            return []

        (problem, _), seconds = play(scenario)
        assert re.fullmatch(r"project two: a poll is due, but no request began or ended for \d+ s\n", problem)
        assert limit < seconds <= limit + 1

    def test_on_polls_that_end_by_an_internal_error(self, answers, monkeypatch):
        answers(answers_after(1.0, (404, {}, b"")))

        async def scenario():
            async with scheduled(config(project())) as (exporter, _, health):
                await asyncio.sleep(100)
                monkeypatch.setattr(exporter.pollers[0], "_due", lambda: 1 / 0)
                return await problem_within(health, 3600)

        problem, _ = play(scenario)
        assert problem.startswith("project payments: a poll is due, but no request began or ended for 60")

    def test_when_the_scheduler_no_longer_fires(self, answers):
        answers(answers_after(1.0, (404, {}, b"")))

        async def scenario():
            async with scheduled(config(project())) as (_, scheduler, health):
                await asyncio.sleep(290)
                scheduler._scheduler.pause()
                return await problem_within(health, 3600)

        problem, _ = play(scenario)
        assert problem == "project payments: the scheduler has not called for a poll for 601 s\n"


def test_withheld_time_does_not_count():
    """Time before and after it counts, even if several requests wait at once."""
    clock = FakeClock()
    activity = Activity(clock)
    with activity.poll():
        clock.now += 300
        with activity.withheld():
            clock.now += 1000
            with activity.withheld():
                clock.now += 1000
            clock.now += 1000
            activity.fired()
            assert activity.problem(LIMIT) == ""
        clock.now += 300
        assert activity.problem(LIMIT) == ""
        clock.now += 1
        assert activity.problem(LIMIT) == "a poll is due, but no request began or ended for 601 s"
        with activity.request():
            assert activity.problem(LIMIT) == ""
            clock.now += 600
            with activity.withheld():
                clock.now += 1
                assert activity.problem(LIMIT) == "a request has been running for 601 s"
        assert activity.problem(LIMIT) == "the scheduler has not called for a poll for 902 s"


def test_poll_that_ended_by_an_error_stays_due_until_a_request_is_sent():
    """Polls that find nothing due in between do not count as progress."""
    clock = FakeClock()
    activity = Activity(clock)

    def poll(action=lambda: None):
        clock.now += 60
        activity.fired()
        with contextlib.suppress(ZeroDivisionError), activity.poll():
            action()
        return activity.problem(LIMIT)

    poll(lambda: 1 / 0)
    assert [poll(activity.blocked) for _ in range(20)] == [""] * 20
    poll(lambda: 1 / 0)
    assert [poll() for _ in range(10)] == [""] * 10
    assert poll() == "a poll is due, but no request began or ended for 660 s"

    def request():
        with activity.request():
            pass

    assert poll(request) == ""
    assert [poll() for _ in range(20)] == [""] * 20


BLOCKING = """
import signal, time
signal.signal(signal.SIGUSR1, lambda *_: time.sleep(2))  # in the thread of the event loop
signal.signal(signal.SIGUSR2, lambda *_: time.sleep(6))
"""


def test_health_does_not_answer_while_the_event_loop_is_blocked(tmp_path, cloud):
    (tmp_path / "sitecustomize.py").write_text(BLOCKING)
    with exporter(
        tmp_path, {"projects": [cloud.project()]}, environment={"PYTHONPATH": str(tmp_path)}
    ) as process:
        assert process.get("/-/healthy").status_code == 200
        os.kill(process.pid, signal.SIGUSR1)
        with pytest.raises(httpx.ReadTimeout):
            process.get("/-/healthy", timeout=1.0)
        assert process.get("/-/healthy").status_code == 200


def test_probe_listener_answers_503_while_the_event_loop_is_blocked(tmp_path, cloud):
    (tmp_path / "sitecustomize.py").write_text(BLOCKING)
    with exporter(
        tmp_path,
        {"projects": [cloud.project()]},
        "--web.probe-listen-address=127.0.0.1:0",
        environment={"PYTHONPATH": str(tmp_path)},
    ) as process:
        _, probes = eventually(process.addresses, "both listeners are there")
        with httpx.Client(base_url=f"http://{probes}", trust_env=False, timeout=PATIENCE) as client:
            eventually(lambda: client.get("/-/ready").status_code == 200, "the first refresh")
            assert client.get("/-/healthy").status_code == 200
            os.kill(process.pid, signal.SIGUSR2)
            answer = client.get("/-/healthy")
            assert answer.status_code == 503
            assert answer.text == "Unhealthy: the event loop has not turned for 3 s\n"
            eventually(lambda: client.get("/-/healthy").status_code == 200, "the event loop turns again")
