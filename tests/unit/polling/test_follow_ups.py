"""Follow-ups: how far a run list is read, what a failure affects, which requests come first, and the deadline."""

import asyncio
import math
import random
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any, cast

import msgspec
import pytest

from exporter.app.bootstrap import assemble
from exporter.client.api_client import ApiClient, ApiError, ApiResponse
from exporter.core.failures import FailureKind, RequestFailure
from exporter.core.hourly_warnings import HourlyWarnings
from exporter.core.model import Pipeline, Run, Stage, Status
from exporter.polling.follow_ups import FollowUps
from exporter.polling.outcome import FAILURES_IN_A_ROW
from exporter.polling.reporter import PollReporter
from exporter.providers.protocol import ApiRequest, PageCursor, Provider, RunDetail, RunRows
from exporter.settings.settings import Metrics
from exporter.simulator import CodeArts, InjectedFault, Scenario, World, running
from exporter.simulator import SimulatedStatus as Fate
from exporter.telemetry.recorder import Telemetry
from exporter.tracking.ledger import APART
from exporter.tracking.ledger.search import DAY, HOUR, WEEK
from exporter.tracking.project import ProjectTracker
from exporter.tracking.saved import RetiredPipelines
from exporter.tracking.views import View
from tests.conftest import Cloud
from tests.drivers.process import Samples
from tests.drivers.support import FakeClock, config, shown

pytestmark = pytest.mark.process

NOON = 1_700_000_000.0
LIST, DETAIL = "ListPipelineRuns", "ShowPipelineRunDetail"
RUNNING, FAILED = Status.RUNNING, Status.FAILED


def run(number: int, status: Status = Status.SUCCESS, *, start: float | None = None) -> Run:
    """Return a run that starts 100 s after the one before it, and takes 50 s if it has ended."""
    start = NOON + 100.0 * number if start is None else start
    return Run(
        id=f"run-{number}",
        number=number,
        status=status,
        start=start,
        end=start + 50 if status.final else None,
    )


def newest_first(first: int, last: int) -> list[Run]:
    """Return finished runs, the newest first."""
    return [run(number) for number in range(first, last - 1, -1)]


def given_up(caplog: pytest.LogCaptureFixture) -> list[tuple[str, int, str]]:
    """Return pipeline, number of runs and reason of each line about runs that are given up."""
    records: list[Any] = [record for record in caplog.records if record.msg == "giving up on runs"]
    return [(record.pipeline, record.runs, record.reason) for record in records]


class FakeCloud:
    """A provider and its API client: run lists, details and failures as a test sets them."""

    name = "codearts"
    runs_page_size = 100
    lists_are_summaries = False

    def __init__(self, clock: FakeClock) -> None:
        self._clock = clock
        self.histories: dict[str, Sequence[Run]] = {}
        """Run list of each pipeline."""
        self.details: dict[str, Run | None] = {}
        """Details by the id requested; None if they cannot be read."""
        self.unreadable: set[str] = set()
        """Ids of runs whose rows cannot be read."""
        self.failures: dict[tuple[str, str], RequestFailure] = {}
        """Failures by operation and pipeline."""
        self.failing_from = 0
        """Lowest row offset at which a failure of lists takes effect."""
        self.page = 100
        """Maximum number of rows of a page."""
        self.uses_offset = True
        self.seconds = 0.0
        """Duration of a request."""
        self.requested: list[str] = []
        """The requests as text."""
        self.in_flight = self.most_in_flight = 0
        self._readings: list[RunRows | RunDetail] = []

    def runs_request(self, pipeline: str, cursor: PageCursor, limit: int) -> ApiRequest:
        window = (("offset", str(cursor.rows)), ("limit", str(limit)))
        return ApiRequest(operation=LIST, method="POST", path=pipeline, query=window)

    def detail_request(self, pipeline: str, run: str) -> ApiRequest:
        return ApiRequest(operation=DETAIL, method="GET", path=pipeline, query=(("run", run),))

    def read_runs(self, body: bytes, _: str, __: float, ___: Mapping[str, str]) -> RunRows:
        return cast("RunRows", self._readings[int(body)])

    def read_detail(self, body: bytes, _: str, __: float) -> RunDetail:
        return cast("RunDetail", self._readings[int(body)])

    async def send(self, call: ApiRequest) -> ApiResponse:
        query = dict(call.query)
        text = (
            f"runs of {call.path} from {query['offset']}: {query['limit']}"
            if "offset" in query
            else query["run"]
        )
        self.requested.append(text)
        self.in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self.in_flight)
        await self._clock.sleep(self.seconds)
        self.in_flight -= 1
        failure = self.failures.get((call.operation, call.path))
        if failure is not None and int(query.get("offset", 0)) >= self.failing_from:
            raise ApiError(call.operation, failure)
        self._readings.append(self._detail(**query) if "run" in query else self._list(call.path, **query))
        body = str(len(self._readings) - 1).encode()
        return ApiResponse(body=body, now=self._clock.now, sent_at=self._clock.now, code="200")

    def _detail(self, run: str) -> RunDetail:
        found = self.details[run]
        return RunDetail(run=found, rejected=[] if found else [("unreadable", "the details")])

    def _list(self, pipeline: str, offset: str, limit: str) -> RunRows:
        first = int(offset) if self.uses_offset else 0
        rows = self.histories.get(pipeline, ())[first : first + min(int(limit), self.page)]
        readable = [one for one in rows if one.id not in self.unreadable]
        rejected = [("unreadable", "a row")] * (len(rows) - len(readable))
        return RunRows(rows=len(rows), runs=readable, unreadable=len(rejected), rejected=rejected)


class Harness:
    """A tracker of some pipelines, and its follow-ups."""

    def __init__(self, *ids: str, details: str = "none", concurrency: int = 1) -> None:
        self.clock = FakeClock(NOON + 100_000)
        self.cloud = FakeCloud(self.clock)
        self.tracker = ProjectTracker(
            [Pipeline("codearts", "payments", identity, identity) for identity in ids or ("p",)],
            Metrics.model_validate({"details": details}),
            RetiredPipelines(),
            provider="codearts",
            project="payments",
            interval=60.0,
            started=self.clock.now,
        )
        self.warnings = HourlyWarnings(self.clock)
        reporter = self.reporter = PollReporter("payments", "codearts", Telemetry(), self.warnings)
        provider, api = cast("Provider", self.cloud), cast("ApiClient", self.cloud)
        self.follow_ups = FollowUps(
            provider, api, self.tracker, reporter, self.clock, concurrency=concurrency
        )

    def poll(self, *answers: Run | None, pipeline: str = "p") -> None:
        """Apply responses with these runs of a pipeline, fifteen seconds apart."""
        for answer in answers:
            self.clock.now += 15
            runs = {} if answer is None else {pipeline: answer}
            self.tracker.answered([pipeline], runs, sent_at=self.clock.now, now=self.clock.now)
            self.tracker.commit(self.tracker.unsaved())

    def poll_at_end(self, *answers: Run) -> None:
        """Apply responses with these runs of pipeline `p`, each at the end of its run."""
        for answer in answers:
            self.clock.now = (answer.end or 0.0) - 15
            self.poll(answer)

    def wait(self, seconds: float) -> None:
        self.clock.now += seconds

    def follow_up(self, *, seconds: float = math.inf, runs: bool = True) -> list[str]:
        """Run follow-ups for some seconds; return what was requested."""
        self.cloud.requested = []
        deadline = self.clock.now + seconds
        assert asyncio.run(self.follow_ups.run(lambda: deadline, runs=runs)) is bool(self.cloud.requested)
        self.reporter.missed(self.tracker.commit(self.tracker.unsaved()))
        self.warnings.flush()
        return self.cloud.requested

    def fail(self, operation: str, *pipelines: str, kind: FailureKind = FailureKind.TRANSIENT) -> None:
        """Make an operation fail for these pipelines, and for no others."""
        self.cloud.failures = {
            key: failure for key, failure in self.cloud.failures.items() if key[0] != operation
        }
        failure = RequestFailure(kind=kind, code="503", message="not now")
        self.cloud.failures |= {(operation, pipeline): failure for pipeline in pipelines}

    def view(self, pipeline: str = "p") -> View:
        return next(view for view in self.tracker.views() if view.pipeline.id == pipeline)

    def counts(self, pipeline: str = "p") -> dict[str, int]:
        """Return the counters that are not 0."""
        counters = self.view(pipeline).counters
        assert counters is not None
        found = {status.value: count for status, count in counters.runs.items()}
        return {name: count for name, count in {**found, "missed": counters.missed}.items() if count}

    @property
    def unresolved(self) -> int:
        return self.tracker.unresolved


def test_no_request_if_nothing_is_unknown():
    harness = Harness("p", "q")
    harness.poll(run(1), run(2, RUNNING))
    harness.poll(None, pipeline="q")
    harness.wait(DAY)
    assert harness.follow_up() == []


# How far the run list is read


def test_few_missing_numbers_take_a_small_page():
    """Recent numbers are on top of the list."""
    harness = Harness()
    harness.poll(run(1), run(12))
    harness.cloud.histories["p"] = newest_first(12, 1)
    assert harness.follow_up() == ["runs of p from 0: 20"]
    assert harness.counts() == {"success": 11}
    assert harness.unresolved == 0


def test_many_missing_numbers_take_a_full_page():
    harness = Harness()
    harness.poll(run(1), run(13))
    harness.cloud.histories["p"] = newest_first(13, 1)
    assert harness.follow_up() == ["runs of p from 0: 100"]
    assert harness.counts() == {"success": 12}


def test_list_is_read_until_all_numbers_are_found():
    harness = Harness()
    harness.poll(run(1000), run(1003))
    # On top are runs without a number.
    later = [msgspec.structs.replace(run(number), number=None) for number in range(1300, 1150, -1)]
    harness.cloud.histories["p"] = [*later, *newest_first(1003, 1)]
    assert harness.follow_up() == [
        "runs of p from 0: 20",
        "runs of p from 20: 100",
        "runs of p from 120: 100",
    ]
    assert harness.counts() == {"success": 3}


def test_next_page_begins_after_the_rows_returned():
    harness = Harness()
    harness.poll_at_end(run(1), run(30))
    harness.cloud.histories["p"] = newest_first(30, 1)
    harness.cloud.page = 13
    assert harness.follow_up() == [f"runs of p from {offset}: 100" for offset in (0, 13, 26)]
    assert harness.counts() == {"success": 29}


def test_run_that_starts_between_two_pages_loses_no_other_run():
    """The new run shifts the rows, so that the second page repeats one."""
    harness = Harness()
    harness.poll_at_end(run(1), run(60))
    pages = iter(
        [newest_first(60, 1), [run(61), *newest_first(60, 1)], [run(62), run(61), *newest_first(60, 1)]]
    )

    class Moving(dict[str, Sequence[Run]]):
        def get(self, key: str, default: Any = None) -> Any:
            return next(pages)

    harness.cloud.histories = Moving()
    harness.cloud.page = 25
    assert len(harness.follow_up()) == 3
    assert harness.counts() == {"success": 59}
    assert harness.unresolved == 0


@pytest.mark.parametrize("older", [0, 60], ids=["end", "floor"])
def test_number_that_two_complete_readings_lack_is_nonexistent(older):
    """A reading is complete at the end of the list, or at runs that started long before. No run is missed."""
    harness = Harness()
    harness.poll(run(100), run(104))
    harness.cloud.histories["p"] = [
        run(104),
        run(100),
        *(run(99 - number, start=NOON - HOUR * number) for number in range(older)),
    ]
    for _ in range(2):
        assert harness.follow_up()
        assert harness.counts() == {"success": 1}
        harness.wait(APART + 10)
    assert harness.unresolved == 0
    assert harness.follow_up() == []


def test_list_is_read_back_to_an_hour_before_the_gap():
    harness = Harness()
    harness.poll_at_end(run(500), run(502))
    harness.cloud.histories["p"] = [run(502), *newest_first(500, 1)]
    # Runs start 100 s apart, so the page from run 381 on is the first whose runs all began an hour before the gap.
    assert harness.follow_up() == [f"runs of p from {row}" for row in ("0: 20", "20: 100", "120: 100")]
    assert harness.unresolved == 1


def test_runs_older_than_a_week_are_given_up():
    """Two weeks pass without a response, and the start of the run before the gap is unknown."""
    harness = Harness()
    harness.poll(msgspec.structs.replace(run(1), start=None))
    harness.wait(2 * WEEK)
    now = harness.clock.now
    harness.poll(run(4, start=now))
    harness.cloud.histories["p"] = [run(4, start=now), *(run(0, start=now - WEEK - HOUR),) * 30]
    harness.cloud.page = 1
    assert len(harness.follow_up()) == 2
    assert harness.counts() == {"success": 1, "missed": 2}
    assert harness.unresolved == 0


def test_runs_beyond_a_thousand_rows_are_given_up(caplog):
    harness = Harness()
    harness.poll(run(1), run(5000), run(5000))
    harness.cloud.histories["p"] = newest_first(5000, 1)
    assert harness.follow_up() == [f"runs of p from {row}: 100" for row in range(0, 1000, 100)]
    assert harness.counts() == {"success": 1000, "missed": 3999}
    assert given_up(caplog) == [("p", 3999, "older than a week or than a thousand runs")]


def test_numbers_stay_open_if_the_cloud_ignores_the_offset():
    """Runs whose rows it does not return are neither nonexistent nor missed."""
    harness = Harness()
    harness.poll(run(1), run(150), run(150))
    harness.cloud.histories["p"] = newest_first(150, 1)
    harness.cloud.uses_offset = False
    for pause in (120, 240, 480, 900):
        assert harness.follow_up() == ["runs of p from 0: 100", "runs of p from 100: 100"]
        assert (harness.counts(), harness.unresolved) == ({"success": 100}, 49)
        harness.wait(pause - 1)
        assert harness.follow_up() == []
        harness.wait(1)


def test_unreadable_row_leaves_numbers_open(caplog):
    """The row may be the missing run; once it is readable, the run is counted."""
    harness = Harness()
    harness.poll(run(1), run(4))
    harness.cloud.histories["p"] = newest_first(4, 1)
    harness.cloud.unreadable = {"run-2"}
    for _ in range(4):
        assert harness.follow_up()
        assert (harness.counts(), harness.unresolved) == ({"success": 2}, 1)
        harness.wait(900)
    assert [(record.id, record.reason, record.error) for record in caplog.records] == [
        ("record-rejected", "unreadable", "a row")
    ]
    harness.cloud.unreadable = set()
    harness.follow_up()
    assert (harness.counts(), harness.unresolved) == ({"success": 3}, 0)


def test_page_of_unreadable_rows_is_skipped():
    harness = Harness()
    harness.poll_at_end(run(1), run(30))
    harness.cloud.histories["p"] = newest_first(30, 1)
    harness.cloud.page = 10
    harness.cloud.unreadable = {f"run-{number}" for number in range(21, 31)}
    assert len(harness.follow_up()) == 4
    assert (harness.counts(), harness.unresolved) == ({"success": 20}, 9)


def test_runs_without_a_number_leave_numbers_open():
    """They may be the missing runs."""
    harness = Harness()
    harness.poll(run(1), run(4))
    harness.cloud.histories["p"] = [run(4), msgspec.structs.replace(run(2), number=None), run(1)]
    for _ in range(3):
        assert harness.follow_up()
        assert harness.unresolved == 2
        harness.wait(900)


def test_other_runs_in_progress_at_first_sight_take_one_page():
    harness = Harness()
    harness.poll(run(50, RUNNING))
    harness.cloud.histories["p"] = [run(50, RUNNING), run(49), run(48, RUNNING), *newest_first(47, 1)]
    assert harness.follow_up() == ["runs of p from 0: 20"]
    assert harness.unresolved == 1
    assert harness.follow_up() == []


# Hidden runs


def with_hidden_run(*ids: str, **changes: Any) -> Harness:
    """Return pipelines in each of which run-3 has hidden run-2 for a minute."""
    harness = Harness(*ids, **changes)
    for identity in ids or ("p",):
        harness.poll(run(1), run(2, RUNNING), run(3, RUNNING), pipeline=identity)
    harness.wait(60)
    return harness


def test_one_hidden_run_is_looked_up_by_its_id():
    harness = with_hidden_run()
    harness.cloud.details["run-2"] = run(2, RUNNING)
    assert harness.follow_up() == ["run-2"]
    assert harness.unresolved == 1
    harness.wait(120)
    harness.cloud.details["run-2"] = run(2)
    assert harness.follow_up() == ["run-2"]
    assert (harness.counts(), harness.unresolved) == ({"success": 1}, 0)


def test_two_hidden_runs_take_one_page():
    """A run that the page lacks is then looked up by its id."""
    harness = Harness()
    harness.poll(run(1), run(2, RUNNING), run(3, RUNNING), run(4, RUNNING))
    harness.wait(60)
    harness.cloud.histories["p"] = [run(4, RUNNING), run(3), run(1)]
    harness.cloud.details["run-2"] = run(2, FAILED)
    assert harness.follow_up() == ["runs of p from 0: 20"]
    assert harness.counts() == {"success": 1}
    assert harness.follow_up() == ["run-2"]
    assert harness.counts() == {"success": 1, "failed": 1}


def test_hidden_run_absent_from_the_list_is_looked_up_in_addition():
    harness = Harness()
    harness.poll(run(1), *(run(number, RUNNING) for number in (2, 3, 4, 5)))
    harness.wait(60)
    harness.cloud.histories["p"] = [run(5, RUNNING), run(4, RUNNING), run(3, RUNNING), run(1)]
    harness.cloud.details["run-2"] = run(2, RUNNING)
    assert harness.follow_up() == ["runs of p from 0: 20"]
    assert harness.follow_up() == ["run-2"]
    harness.wait(120)
    assert harness.follow_up() == ["runs of p from 0: 20", "run-2"]


def test_refused_hidden_run_is_missed(caplog):
    harness = with_hidden_run()
    harness.fail(DETAIL, "p", kind=FailureKind.CONTENT)
    assert harness.follow_up() == ["run-2"]
    assert (harness.counts(), harness.unresolved) == ({"missed": 1}, 0)
    assert given_up(caplog) == [("p", 1, "the provider no longer knows it")]
    harness.wait(DAY)
    assert harness.follow_up() == []


@pytest.mark.parametrize("kind", [kind for kind in FailureKind if kind is not FailureKind.CONTENT])
def test_other_failure_of_a_look_up_is_retried_later(kind):
    harness = with_hidden_run()
    harness.fail(DETAIL, "p", kind=kind)
    assert harness.follow_up() == ["run-2"]
    assert (harness.counts(), harness.unresolved) == ({}, 1)
    assert harness.follow_up() == []
    harness.wait(120)
    harness.fail(DETAIL)
    harness.cloud.details["run-2"] = run(2)
    assert harness.follow_up() == ["run-2"]
    assert harness.counts() == {"success": 1}


@pytest.mark.parametrize("found", [None, run(7)], ids=["unreadable", "another run"])
def test_details_of_no_run_or_another_run_are_requested_again(found, caplog):
    harness = with_hidden_run()
    harness.cloud.details["run-2"] = found
    assert harness.follow_up() == ["run-2"]
    assert [record.error for record in caplog.records] == ([] if found else ["the details"])
    assert (harness.counts(), harness.unresolved) == ({}, 1)
    assert harness.follow_up() == []
    harness.wait(120)
    assert harness.follow_up() == ["run-2"]


# What a failure affects


def test_failed_list_is_retried_with_growing_pauses():
    """The pauses grow up to a quarter of an hour."""
    harness = Harness()
    harness.poll(run(1), run(3))
    harness.fail(LIST, "p")
    harness.cloud.histories["p"] = newest_first(3, 1)
    for pause in (120, 240, 480, 900, 900):
        assert harness.follow_up() == ["runs of p from 0: 20"]
        assert (harness.counts(), harness.unresolved) == ({"success": 1}, 1)
        harness.wait(pause - 1)
        assert harness.follow_up() == []
        harness.wait(1)
    harness.fail(LIST)
    harness.follow_up()
    assert (harness.counts(), harness.unresolved) == ({"success": 2}, 0)


@pytest.mark.parametrize(
    "kind", [FailureKind.TRANSIENT, FailureKind.PROJECT, FailureKind.CONTENT, FailureKind.UNREADABLE]
)
def test_failed_list_affects_its_pipeline_only(kind):
    harness = Harness("p", "q", "r", details="jobs")
    harness.poll(run(1), run(3))
    harness.poll(run(1), run(3), pipeline="q")
    harness.poll(run(1), run(2, RUNNING), run(3, RUNNING), pipeline="r")
    harness.wait(60)
    harness.cloud.histories["q"] = newest_first(3, 1)
    harness.cloud.details = {"run-2": run(2), "run-3": run(3)}
    harness.fail(LIST, "p", kind=kind)
    assert harness.follow_up() == [
        "runs of p from 0: 20",
        "runs of q from 0: 20",
        "run-2",
        "run-3",
        "run-3",
        "run-3",
    ]
    assert harness.counts("q") == {"success": 2}
    assert harness.counts("r") == {"success": 1}


@pytest.mark.parametrize("kind", [FailureKind.TRANSIENT, FailureKind.CONTENT])
def test_first_pages_are_applied_if_a_later_page_fails(kind):
    harness = Harness()
    harness.poll(run(1), run(200), run(200))
    harness.cloud.histories["p"] = newest_first(200, 1)
    harness.fail(LIST, "p", kind=kind)
    harness.cloud.failing_from = 100
    assert len(harness.follow_up()) == 2
    assert (harness.counts(), harness.unresolved) == ({"success": 100}, 99)
    harness.wait(120)
    harness.fail(LIST)
    harness.follow_up()
    assert harness.counts() == {"success": 199}


def test_runs_are_missed_if_the_list_fails_for_a_day(caplog):
    harness = Harness()
    harness.poll(run(1), run(3))
    started = harness.clock.now
    harness.fail(LIST, "p", kind=FailureKind.CONTENT)
    while harness.unresolved:
        harness.wait(300)
        harness.poll(run(3))
        harness.follow_up()
        assert harness.clock.now < started + 2 * DAY
    assert DAY <= harness.clock.now - started < DAY + 1800
    assert harness.counts() == {"success": 1, "missed": 1}
    assert given_up(caplog) == [("p", 1, "the run list could not be read for a day")]
    harness.wait(DAY)
    assert harness.follow_up() == []


@pytest.mark.parametrize("kind", [FailureKind.CREDENTIALS, FailureKind.THROTTLED])
def test_fatal_failure_ends_follow_ups(kind):
    """The remaining follow-ups stay due."""
    harness = with_hidden_run("p", "q", "r", details="jobs")
    harness.cloud.details = {"run-2": run(2), "run-3": run(3, RUNNING)}
    harness.fail(DETAIL, "p", "q", "r", kind=kind)
    assert harness.follow_up() == ["run-2"]
    harness.fail(DETAIL)
    assert harness.follow_up() == ["run-2"] * 2 + ["run-3"] * 3


@pytest.mark.parametrize("operation", [LIST, DETAIL])
@pytest.mark.parametrize("kind", [FailureKind.TRANSIENT, FailureKind.PROJECT, FailureKind.UNREADABLE])
def test_scattered_failures_do_not_end_follow_ups(operation, kind):
    ids = [f"p{number}" for number in range(12)]
    harness = Harness(*ids)
    for identity in ids:
        if operation is LIST:
            harness.poll(run(1), run(3), pipeline=identity)
        else:
            harness.poll(run(1), run(2, RUNNING), run(3, RUNNING), pipeline=identity)
        harness.cloud.histories[identity] = newest_first(3, 1)
    harness.wait(60)
    harness.cloud.details["run-2"] = run(2)
    failing = {identity for index, identity in enumerate(ids) if index % FAILURES_IN_A_ROW}
    harness.fail(operation, *failing, kind=kind)
    assert len(harness.follow_up()) == len(ids)
    assert harness.unresolved == len(failing)


def test_failures_in_a_row_end_follow_ups():
    harness = with_hidden_run(*"pqrstu")
    harness.fail(DETAIL, *"pqrstu")
    assert harness.follow_up() == ["run-2"] * FAILURES_IN_A_ROW
    assert harness.follow_up() == ["run-2"] * FAILURES_IN_A_ROW
    assert harness.follow_up() == []


def test_failures_of_one_kind_are_one_log_line(caplog):
    harness = with_hidden_run("p", "q", details="jobs")
    harness.fail(DETAIL, "p", "q")
    assert len(harness.follow_up()) == FAILURES_IN_A_ROW
    (record,) = caplog.records
    assert (record.msg, record.id, record.requests) == ("poll failed", "poll-failed", FAILURES_IN_A_ROW)
    assert (record.operation, record.code, record.error) == (DETAIL, "503", "not now")


def test_refused_details_are_not_requested_again():
    """Not until the run changes; other failures are retried."""
    harness = Harness("p", "q", details="jobs")
    harness.poll(run(1))
    harness.poll(run(1), pipeline="q")
    harness.cloud.details["run-1"] = run(1)
    harness.fail(DETAIL, "p", kind=FailureKind.CONTENT)
    assert harness.follow_up() == ["run-1", "run-1"]
    harness.wait(HOUR)
    assert harness.follow_up() == []
    harness.poll(run(2), pipeline="q")
    harness.fail(DETAIL, "q")
    assert harness.follow_up() == ["run-2"]
    assert harness.follow_up() == []
    harness.wait(60)
    assert harness.follow_up() == ["run-2"]


# Order and deadline


def test_runs_come_before_details():
    """Runs are counted, details are only shown. Of runs, those due for longest come first."""
    harness = Harness("p", "q", "r", details="jobs")
    harness.poll(run(1))
    harness.poll(run(1), run(2, RUNNING), run(3), pipeline="q")
    harness.poll(run(1), run(4), pipeline="r")
    harness.wait(60)
    harness.cloud.histories["r"] = newest_first(4, 1)
    harness.cloud.details = {f"run-{number}": run(number) for number in (1, 2, 3, 4)}
    assert harness.follow_up() == ["runs of r from 0: 20", "run-2", "run-1", "run-3", "run-4"]


def test_only_details_are_requested_where_nothing_is_counted():
    harness = Harness("p", "q", details="jobs")
    harness.poll(run(1), run(2, RUNNING), run(3))
    harness.poll(run(1), run(4), pipeline="q")
    harness.wait(60)
    harness.cloud.details = {"run-3": run(3), "run-4": run(4)}
    assert harness.follow_up(runs=False) == ["run-3", "run-4"]


def test_follow_ups_end_at_the_deadline_and_continue_with_the_next_call():
    ids = [f"p{number}" for number in range(10)]
    harness = Harness(*ids, details="jobs")
    for number, identity in enumerate(ids):
        harness.poll(run(number + 1), pipeline=identity)
        harness.cloud.details[f"run-{number + 1}"] = run(number + 1)
    harness.cloud.seconds = 5.0
    assert harness.follow_up(seconds=12) == ["run-1", "run-2", "run-3"]
    assert harness.follow_up(seconds=0) == []
    assert harness.follow_up(seconds=0.1) == ["run-4"]
    assert harness.follow_up() == [f"run-{number}" for number in range(5, 11)]
    assert harness.follow_up() == []


def test_follow_ups_in_flight_are_limited_by_concurrency():
    ids = [f"p{number}" for number in range(10)]
    harness = Harness(*ids, details="jobs", concurrency=4)
    for number, identity in enumerate(ids):
        harness.poll(run(number + 1), pipeline=identity)
        harness.cloud.details[f"run-{number + 1}"] = run(number + 1)
    assert sorted(harness.follow_up()) == sorted(f"run-{number}" for number in range(1, 11))
    assert harness.cloud.most_in_flight == 4


# On a simulated cloud


class SimulatedPoll:
    """A scenario, its cloud, and an exporter; one clock."""

    def __init__(self, cloud: Cloud, story: Scenario, clock: FakeClock) -> None:
        self.cloud = cloud
        self.story = story
        self.clock = clock
        self.pipeline = story.world.pipelines[0].id

    def add_runs(self, count: int, *, apart: float = 10.0) -> None:
        """Start and finish runs, one after the other."""
        for _ in range(count):
            self.clock.now += apart
            run = self.story.begin(self.pipeline, self.clock.now)
            self.clock.now += apart
            self.story.end(run, self.clock.now, Fate.COMPLETED)

    @asynccontextmanager
    async def exporter(self) -> Any:
        own = self.cloud.project(rate_limit={"requests_per_second": 100_000, "burst": 10_000})
        exporter = assemble(config(own), self.clock)
        try:
            yield (
                exporter.pollers[0],
                lambda: Samples(shown(exporter)),
            )
        finally:
            await exporter.pollers[0].close()

    def asked(self) -> Counter[str | None]:
        """Count the requests since the last call, by operation."""
        found = Counter(call.operation for call in self.cloud.codearts.requests)
        self.cloud.codearts.requests.clear()
        return found


@pytest.fixture
def stage() -> Iterator[SimulatedPoll]:
    world = World(pipelines=2)
    clock = FakeClock(world.start + 1000.0)
    story = Scenario(world)
    codearts = CodeArts(world, clock=clock.time, runs=story)
    with running(codearts.app) as url:
        yield SimulatedPoll(Cloud(codearts, url), story, clock)


def test_runs_between_two_polls_are_counted_after_the_second(stage):
    """Counting them takes one request more."""

    async def scenario():
        async with stage.exporter() as (poller, page):
            stage.add_runs(1)
            await poller.tick()
            assert stage.asked() == {"BatchShowPipelinesLatestStatus": 1, "ListPipelines": 2}
            stage.add_runs(5)
            await poller.tick()
            assert stage.asked() == {"BatchShowPipelinesLatestStatus": 1, LIST: 1}
            counted = page().value("ci_pipeline_runs_total", pipeline_id=stage.pipeline, status="success")
            left = page().value("pipeline_exporter_runs_unresolved")
            stage.clock.now += 60
            await poller.tick()
            assert stage.asked() == {"BatchShowPipelinesLatestStatus": 1}
            return counted, left

    assert asyncio.run(scenario()) == (5, 0)


def test_runs_are_counted_from_many_small_pages(stage):
    stage.cloud.codearts.page_limit = 7

    async def scenario():
        async with stage.exporter() as (poller, page):
            stage.add_runs(30)
            await poller.tick()
            stage.asked()
            stage.add_runs(60, apart=2.0)
            await poller.tick()
            assert stage.asked()[LIST] == 9
            return page().value("ci_pipeline_runs_total", pipeline_id=stage.pipeline, status="success")

    assert asyncio.run(scenario()) == 60


def test_numbers_without_a_run_are_not_missed(stage):
    """Some clouds skip numbers. Each takes two readings of the list."""

    async def scenario():
        async with stage.exporter() as (poller, page):
            stage.add_runs(3)
            await poller.tick()
            stage.story.skip(stage.pipeline, 4)
            stage.add_runs(1)
            lists = 0
            for _ in range(60):
                await poller.tick()
                stage.clock.now += 60
                lists += stage.asked()[LIST]
            found = page()
            # Each reading takes a page and the empty one after it.
            assert lists == 4
            assert found.value("pipeline_exporter_runs_unresolved") == 0
            return (
                found.value("ci_pipeline_runs_total", pipeline_id=stage.pipeline, status="success"),
                found.value("ci_pipeline_runs_missed_total", pipeline_id=stage.pipeline),
            )

    assert asyncio.run(scenario()) == (1, 0)


def test_failed_run_list_leaves_the_project_up(stage):
    async def scenario():
        async with stage.exporter() as (poller, page):
            stage.add_runs(1)
            await poller.tick()
            stage.cloud.codearts.injected_fault = InjectedFault.SERVER_ERROR
            stage.cloud.codearts.injected_fault_operation = LIST
            stage.add_runs(3)
            await poller.tick()
            first = page()
            stage.cloud.codearts.injected_fault = None
            for _ in range(3):
                stage.clock.now += 60
                await poller.tick()
            return first, page()

    first, last = asyncio.run(scenario())
    assert first.value("pipeline_exporter_project_up") == 1
    assert first.value("pipeline_exporter_runs_unresolved") == 2
    for found, counted in ((first, 1), (last, 3)):
        assert found.value("ci_pipeline_runs_total", pipeline_id=stage.pipeline, status="success") == counted
        assert found.value("ci_pipeline_runs_missed_total", pipeline_id=stage.pipeline) == 0
    assert last.value("pipeline_exporter_runs_unresolved") == 0


@pytest.mark.parametrize("kind", [FailureKind.TRANSIENT, FailureKind.PROJECT, FailureKind.UNREADABLE])
def test_failed_lists_of_all_pipelines_do_not_stop_details(kind):
    ids = [f"p{number}" for number in range(10)]
    harness = Harness(*ids, details="jobs")
    for identity in ids:
        harness.poll(run(1), run(3), pipeline=identity)
    harness.cloud.details["run-3"] = run(3)
    harness.fail(LIST, *ids, kind=kind)
    assert harness.follow_up().count("run-3") == 10


@pytest.mark.parametrize("order", ["ascending", "random"])
def test_runs_are_found_in_any_order_of_the_list(order):
    """A page of old runs does not prove that newer ones have been returned."""
    harness = Harness()
    harness.poll(run(500), run(504))
    history = newest_first(504, 1)
    if order == "ascending":
        history.reverse()
    else:
        random.Random(3).shuffle(history)
    harness.cloud.histories["p"] = history
    for _ in range(6):
        harness.follow_up()
        harness.wait(900)
    assert harness.counts() == {"success": 4}


def test_empty_list_of_a_pipeline_with_runs_leaves_numbers_open():
    """A user without permission gets an empty list."""
    harness = Harness()
    harness.poll(run(1), run(4))
    harness.cloud.histories["p"] = []
    for _ in range(3):
        harness.follow_up()
        harness.wait(900)
    assert harness.unresolved == 2


def test_endless_unreadable_rows_take_a_limited_number_of_requests():
    harness = Harness()
    harness.poll(run(1), run(4))
    harness.cloud.histories["p"] = newest_first(4, 1)
    harness.cloud.unreadable = {f"run-{number}" for number in range(5)}
    harness.cloud.uses_offset = False
    assert len(harness.follow_up()) <= 30
    assert harness.counts() == {"success": 1}


# Streaks of failures


def failures(first: int, last: int) -> list[Run]:
    """Return failed runs with their failed stage, the newest first."""
    stages = (Stage("build", 0, FAILED),)
    return [
        msgspec.structs.replace(run(number, FAILED), stages=stages) for number in range(first, last - 1, -1)
    ]


def with_history(*rows: Run, page: int = 100) -> Harness:
    """Return a pipeline whose first response has the newest of these runs."""
    harness = Harness()
    harness.clock.now = max(NOON + 100_000, rows[0].start or 0.0)
    harness.cloud.histories["p"] = rows
    harness.cloud.page = page
    harness.poll(rows[0])
    return harness


def streak_of(harness: Harness) -> tuple[int, float | None, float | None] | None:
    """Return the number of failures, when the first of them ended, and the last success; None while unknown."""
    found = harness.view().streak
    return None if found is None else (found.failures, found.broken_since, found.last_success)


def test_success_at_first_sight_needs_no_reading():
    harness = with_history(*newest_first(50, 1))
    assert harness.follow_up() == []
    assert streak_of(harness) == (0, None, run(50).end)


@pytest.mark.parametrize("latest", [FAILED, RUNNING, Status.CANCELED])
def test_most_streaks_take_one_small_page(latest):
    harness = with_history(run(50, latest), *failures(49, 45), *newest_first(44, 1))
    assert streak_of(harness) is None
    assert harness.follow_up() == ["runs of p from 0: 20"]
    assert streak_of(harness) == (5 + (latest is FAILED), run(45).end, run(44).end)
    assert harness.counts() == {}
    harness.wait(DAY)
    assert harness.follow_up() == []


def test_long_streak_is_read_to_its_begin():
    harness = with_history(*failures(300, 150), *newest_first(149, 1))
    assert harness.follow_up() == [f"runs of p from {row}" for row in ("0: 20", "20: 100", "120: 100")]
    assert streak_of(harness) == (151, run(150).end, run(149).end)


def test_streak_without_a_success_is_whole_at_the_first_run():
    harness = with_history(*failures(7, 1))
    assert harness.follow_up() == ["runs of p from 0: 20"]
    assert streak_of(harness) == (7, run(1).end, None)


def test_streak_is_zero_where_all_runs_were_canceled():
    harness = with_history(run(2, Status.CANCELED), run(1, Status.IGNORED))
    harness.follow_up()
    assert streak_of(harness) == (0, None, None)


def test_skipped_number_is_no_success_if_the_list_reaches_an_hour_further_back():
    rows = [run(400, FAILED), run(398, FAILED), *newest_first(397, 200)]
    harness = with_history(*rows)
    assert harness.follow_up() == ["runs of p from 0: 20", "runs of p from 20: 100"]
    assert streak_of(harness) == (2, run(398).end, run(397).end)


def test_streak_of_a_thousand_runs_is_a_lower_bound_and_its_recovery_is_not_counted():
    harness = with_history(*failures(2000, 2))
    requested = harness.follow_up()
    assert requested == [
        "runs of p from 0: 20",
        *(f"runs of p from {row}: 100" for row in range(20, 1000, 100)),
    ]
    assert streak_of(harness) == (1020, run(981).end, None)
    harness.wait(DAY)
    assert harness.follow_up() == []
    harness.poll(run(2001))
    assert streak_of(harness) == (0, None, run(2001).end)
    counters = harness.view().counters
    assert counters is not None
    assert (counters.recoveries, counters.recovery_seconds) == (0, 0)


def test_streak_of_a_year_is_a_lower_bound():
    now = NOON + 100_000
    rows = [run(number, FAILED, start=now - (100 - number) * 10 * DAY) for number in range(100, 0, -1)]
    harness = with_history(*rows, page=15)
    assert len(harness.follow_up()) == 3
    assert streak_of(harness) == (45, rows[44].end, None)


def test_recovery_waits_until_the_streak_is_read_back():
    harness = with_history(run(50, FAILED), *failures(49, 45), *newest_first(44, 1))
    harness.poll(run(51))
    harness.cloud.histories["p"] = [run(51), *harness.cloud.histories["p"]]
    assert streak_of(harness) == (0, None, run(51).end)
    before = harness.view().counters
    assert before is not None
    assert before.recoveries == 0
    assert harness.follow_up() == ["runs of p from 0: 20"]
    after = harness.view().counters
    assert after is not None
    assert (after.recoveries, after.recovery_seconds) == (1, 600.0)
    assert harness.counts() == {"success": 1}


@pytest.mark.parametrize("offset", [True, False], ids=["long", "without offset"])
def test_list_in_random_order_that_is_not_read_whole_leaves_the_streak_unknown(offset):
    rows = [*failures(3000, 2900), *newest_first(2899, 1)]
    shuffled = [rows[0], *random.Random(3).sample(rows[1:], len(rows) - 1)]
    harness = with_history(*shuffled)
    harness.cloud.uses_offset = offset
    for _ in range(3):
        harness.follow_up()
        assert streak_of(harness) is None
        harness.wait(DAY)


def test_list_in_random_order_that_is_read_whole_shows_the_streak():
    rows = [*failures(300, 290), *newest_first(289, 1)]
    harness = with_history(rows[0], *random.Random(3).sample(rows[1:], len(rows) - 1))
    harness.follow_up()
    assert streak_of(harness) == (11, run(290).end, run(289).end)


def test_unreadable_row_leaves_the_streak_unknown_until_it_can_be_read():
    harness = with_history(*failures(9, 6), *newest_first(5, 1))
    harness.cloud.unreadable = {"run-7"}
    harness.follow_up()
    assert streak_of(harness) is None
    harness.cloud.unreadable = set()
    harness.wait(900)
    harness.follow_up()
    assert streak_of(harness) == (4, run(6).end, run(5).end)


def test_older_run_that_was_in_progress_is_read_again_until_it_ends():
    harness = with_history(run(9, FAILED), run(8, RUNNING), run(7, FAILED), run(6))
    harness.follow_up()
    assert streak_of(harness) == (2, run(7).end, run(6).end)
    harness.cloud.histories["p"] = [run(9, FAILED), run(8), run(7, FAILED), run(6)]
    harness.wait(120)
    harness.follow_up()
    assert streak_of(harness) == (1, run(9).end, run(8).end)
    assert harness.counts() == {}


@pytest.mark.parametrize("status", [FAILED, RUNNING])
def test_run_that_begins_late_with_a_number_from_before_first_sight_is_part_of_the_streak(status):
    """Its number was given early. It is not counted."""
    canceled = [run(number, Status.CANCELED) for number in (11, 10, 9)]
    harness = with_history(canceled[2], run(7, FAILED), run(6))
    harness.follow_up()
    assert streak_of(harness) == (1, run(7).end, run(6).end)
    late = run(8, status, start=canceled[1].start)
    harness.cloud.histories["p"] = [*canceled[:2], late, canceled[2], run(7, FAILED), run(6)]
    harness.poll(canceled[0])
    harness.follow_up()
    late = run(8, FAILED, start=canceled[1].start)
    harness.cloud.histories["p"] = [*canceled[:2], late, canceled[2], run(7, FAILED), run(6)]
    harness.wait(900)
    harness.follow_up()
    assert streak_of(harness) == (2, run(7).end, run(6).end)
    assert harness.counts() == {"canceled": 2}
    harness.wait(DAY)
    assert harness.follow_up() == []


def test_streaks_of_a_new_numbering_continue_those_before_it():
    old = [run(number, FAILED, start=NOON + number) for number in range(40, 37, -1)]
    new = [run(2, FAILED, start=NOON + 90_000), run(1, FAILED, start=NOON + 80_000)]
    new = [msgspec.structs.replace(one, id=f"new-{one.id}") for one in new]
    harness = with_history(*new, *old, run(37, start=NOON + 30))
    harness.follow_up()
    assert streak_of(harness) == (5, old[-1].end, NOON + 80)
    assert harness.counts() == {}


def test_success_that_ended_earlier_and_has_a_greater_number_ends_the_streak():
    """The number of the latest run was given early, so that the run before it has a greater one."""
    late = run(7, FAILED, start=NOON + 90_000)
    harness = with_history(late, run(9), run(8, FAILED), *failures(6, 5), *newest_first(4, 1))
    harness.follow_up()
    assert streak_of(harness) == (0, None, run(9).end)
    harness.poll(late, late, run(10, FAILED, start=NOON + 99_000))
    assert streak_of(harness) == (1, NOON + 99_050, run(9).end)


def test_new_numbering_whose_runs_do_not_overlap_the_old_ones_is_no_early_number():
    old = [run(number, FAILED, start=NOON + number) for number in (5, 4)]
    new = [run(2, FAILED, start=NOON + 90_000), run(1, FAILED, start=NOON + 80_000)]
    harness = with_history(*new, *old, run(3, start=NOON + 3))
    harness.follow_up()
    assert streak_of(harness) == (4, old[-1].end, NOON + 53)
    assert harness.counts() == {}


def test_streaks_are_read_where_nothing_is_counted():
    harness = with_history(*failures(9, 6), *newest_first(5, 1))
    assert harness.follow_up(runs=False) == ["runs of p from 0: 20"]
    assert streak_of(harness) == (4, run(6).end, run(5).end)


def test_streaks_come_after_details():
    harness = Harness("p", "q", details="jobs")
    for pipeline in ("p", "q"):
        harness.cloud.histories[pipeline] = [run(2, FAILED), run(1)]
        harness.poll(run(2, FAILED), pipeline=pipeline)
    harness.cloud.details["run-2"] = run(2, FAILED)
    assert harness.follow_up() == ["run-2", "run-2", "runs of p from 0: 20", "runs of q from 0: 20"]


def test_long_reading_does_not_delay_the_next_poll_and_continues_after_it():
    harness = with_history(*failures(700, 150), *newest_first(149, 1))
    harness.cloud.seconds = 1.0
    requested = harness.follow_up(seconds=3)
    assert requested == [f"runs of p from {row}" for row in ("0: 20", "20: 100", "120: 100")]
    assert streak_of(harness) is None
    newest = run(701, FAILED, start=harness.clock.now - 30)
    harness.cloud.histories["p"] = [newest, *harness.cloud.histories["p"]]
    harness.poll(newest)
    requested = harness.follow_up()
    assert requested == [f"runs of p from {row}: 100" for row in (0, 120, 220, 320, 420, 520)]
    assert streak_of(harness) == (552, run(150).end, run(149).end)
    assert harness.counts() == {"failed": 1}


def test_interrupted_reading_begins_again_if_a_run_was_deleted_meanwhile():
    harness = with_history(*failures(700, 500), *newest_first(499, 1))
    harness.cloud.seconds = 1.0
    assert len(harness.follow_up(seconds=2)) == 2
    rows = [one for one in harness.cloud.histories["p"] if one.number != 690]
    harness.cloud.histories["p"] = rows
    harness.poll(rows[0])
    requested = harness.follow_up()
    assert requested == [f"runs of p from {row}: 100" for row in (0, 100, 200)]
    assert streak_of(harness) == (200, run(500).end, run(499).end)


@pytest.mark.parametrize("deleted", [[590], range(590, 481, -1), range(600, 479, -1)])
def test_interrupted_reading_skips_no_run_if_older_ones_were_deleted_meanwhile(deleted):
    """Later rows have moved up, so that the next page begins behind runs that were never read."""
    history = [*failures(700, 481), run(480), *failures(479, 150), *newest_first(149, 1)]
    harness = with_history(*history)
    harness.cloud.seconds = 1.0
    assert len(harness.follow_up(seconds=3)) == 3
    harness.cloud.histories["p"] = [one for one in history if one.number not in deleted]
    harness.poll(history[0])
    harness.follow_up()
    found = streak_of(harness)
    assert found is not None
    if 480 in deleted:
        # What was read before the deletion may be part of it.
        assert found[0] == 700 - 149 - len(deleted)
    else:
        assert found[0] in {220, 220 - len(deleted)}
        assert found[2] == run(480).end


def test_run_with_a_greater_number_that_began_long_before_is_counted_in_a_gap():
    """Its number was given in the present numbering: the number below it was given early, and its run began late."""
    harness = Harness()
    harness.poll(run(10, start=NOON))
    rows = [
        run(12, start=NOON + 20_000),
        run(13, start=NOON + 100),
        run(11, start=NOON + 50),
        run(10, start=NOON),
    ]
    harness.cloud.histories["p"] = rows
    harness.poll(rows[0])
    harness.follow_up()
    assert harness.counts() == {"success": 3}
