"""Closer looks: how far a run list is read, what a failure costs, what comes first, and when it is enough for now."""

import asyncio
import math
import random
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any, cast

import msgspec
import pytest

from exporter.api import Answer, Api, ApiError
from exporter.assembly import assemble
from exporter.board import Board, View
from exporter.config.schema import Metrics
from exporter.fault import Fault, Kind
from exporter.ledger import APART
from exporter.ledger.rules import DAY, HOUR, WEEK
from exporter.looks import Looks
from exporter.memory import Past
from exporter.model import Pipeline, Run, Status
from exporter.providers.base import Call, Detail, Place, Provider, Runs
from exporter.report import FAILURES, Report
from exporter.simulator import CodeArts, Mischief, Story, World, running
from exporter.simulator import Status as Fate
from exporter.telemetry import Telemetry
from tests.conftest import Cloud
from tests.running import Samples
from tests.support import FakeClock, config, shown

NOON = 1_700_000_000.0
LIST, DETAIL = "ListPipelineRuns", "ShowPipelineRunDetail"
RUNNING, FAILED = Status.RUNNING, Status.FAILED


def run(number: int, status: Status = Status.SUCCESS, *, start: float | None = None) -> Run:
    """A run that started a hundred seconds after the one before it, and took fifty if it has ended."""
    start = NOON + 100.0 * number if start is None else start
    return Run(
        id=f"run-{number}",
        number=number,
        status=status,
        start=start,
        end=start + 50 if status.final else None,
    )


def back(first: int, last: int) -> list[Run]:
    """Ended runs, the newest first."""
    return [run(number) for number in range(first, last - 1, -1)]


class Clouded:
    """A provider and what is sent to it: run lists and details as a test has them, failures as it wants them."""

    name = "codearts"
    runs_page_size = 100

    def __init__(self, clock: FakeClock) -> None:
        self._clock = clock
        self.histories: dict[str, Sequence[Run]] = {}
        """The run list of each pipeline."""
        self.details: dict[str, Run | None] = {}
        """What details are told by the id that is asked for; None if they cannot be read."""
        self.unreadable: set[str] = set()
        """The ids of runs whose rows cannot be read."""
        self.faults: dict[tuple[str, str], Fault] = {}
        """Why an operation on a pipeline fails."""
        self.failing_from = 0
        """The row from which on lists fail."""
        self.page = 100
        """Rows that a page has at most."""
        self.heeds_offset = True
        self.seconds = 0.0
        """How long an answer takes."""
        self.asked: list[str] = []
        """What was asked, in words."""
        self.under_way = self.most_under_way = 0
        self._readings: list[Runs | Detail] = []

    def runs(self, pipeline: str, place: Place, limit: int) -> Call:
        window = (("offset", str(place.rows)), ("limit", str(limit)))
        return Call(operation=LIST, method="POST", path=pipeline, query=window)

    def detail(self, pipeline: str, run: str) -> Call:
        return Call(operation=DETAIL, method="GET", path=pipeline, query=(("run", run),))

    def read_runs(self, body: bytes, _: str, __: float, ___: Mapping[str, str]) -> Runs:
        return cast("Runs", self._readings[int(body)])

    def read_detail(self, body: bytes, _: str, __: float) -> Detail:
        return cast("Detail", self._readings[int(body)])

    async def send(self, call: Call) -> Answer:
        query = dict(call.query)
        words = (
            f"runs of {call.path} from {query['offset']}: {query['limit']}"
            if "offset" in query
            else query["run"]
        )
        self.asked.append(words)
        self.under_way += 1
        self.most_under_way = max(self.most_under_way, self.under_way)
        await self._clock.sleep(self.seconds)
        self.under_way -= 1
        fault = self.faults.get((call.operation, call.path))
        if fault is not None and int(query.get("offset", 0)) >= self.failing_from:
            raise ApiError(call.operation, fault)
        self._readings.append(self._detail(**query) if "run" in query else self._list(call.path, **query))
        body = str(len(self._readings) - 1).encode()
        return Answer(body=body, now=self._clock.now, asked=self._clock.now, code="200")

    def _detail(self, run: str) -> Detail:
        found = self.details[run]
        return Detail(run=found, rejected=[] if found else [("unreadable", "the details")])

    def _list(self, pipeline: str, offset: str, limit: str) -> Runs:
        first = int(offset) if self.heeds_offset else 0
        rows = self.histories.get(pipeline, ())[first : first + min(int(limit), self.page)]
        told = [one for one in rows if one.id not in self.unreadable]
        rejected = [("unreadable", "a row")] * (len(rows) - len(told))
        return Runs(rows=len(rows), runs=told, unread=len(rejected), rejected=rejected)


class Desk:
    """A board of some pipelines, and the looks of it."""

    def __init__(self, *ids: str, details: str = "none", concurrency: int = 1) -> None:
        self.clock = FakeClock(NOON + 100_000)
        self.cloud = Clouded(self.clock)
        self.board = Board(
            [Pipeline("codearts", "payments", identity, identity) for identity in ids or ("p",)],
            Metrics.model_validate({"details": details}),
            Past(),
            provider="codearts",
            project="payments",
            interval=60.0,
            started=self.clock.now,
        )
        report = self.report = Report("payments", "codearts", Telemetry())
        provider, api = cast("Provider", self.cloud), cast("Api", self.cloud)
        self.looks = Looks(provider, api, self.board, report, self.clock, concurrency=concurrency)

    def sees(self, *answers: Run | None, pipeline: str = "p") -> None:
        """Answers about a pipeline, fifteen seconds apart."""
        for answer in answers:
            self.clock.now += 15
            runs = {} if answer is None else {pipeline: answer}
            self.board.answered([pipeline], runs, asked=self.clock.now, now=self.clock.now)
            self.board.saved(self.board.unsaved())

    def waits(self, seconds: float) -> None:
        self.clock.now += seconds

    def takes(self, *, seconds: float = math.inf, runs: bool = True) -> list[str]:
        """Take looks for so long; returns what was asked."""
        self.cloud.asked = []
        deadline = self.clock.now + seconds
        assert asyncio.run(self.looks.take(deadline, runs=runs)) is bool(self.cloud.asked)
        self.report.missed(self.board.saved(self.board.unsaved()))
        return self.cloud.asked

    def fails(self, operation: str, *pipelines: str, kind: Kind = Kind.TRANSIENT) -> None:
        """An operation fails for these pipelines, or for none any more."""
        self.cloud.faults = {key: fault for key, fault in self.cloud.faults.items() if key[0] != operation}
        fault = Fault(kind=kind, code="503", message="not now")
        self.cloud.faults |= {(operation, pipeline): fault for pipeline in pipelines}

    def view(self, pipeline: str = "p") -> View:
        return next(view for view in self.board.views() if view.pipeline.id == pipeline)

    def counts(self, pipeline: str = "p") -> dict[str, int]:
        """What the counters say, of those that are not 0."""
        tally = self.view(pipeline).tally
        assert tally is not None
        found = {status.value: count for status, count in tally.runs.items()}
        return {name: count for name, count in {**found, "missed": tally.missed}.items() if count}

    @property
    def unresolved(self) -> int:
        return self.board.unresolved


def test_nothing_is_asked_when_nothing_is_unknown():
    """Neither lists nor details."""
    desk = Desk("p", "q")
    desk.sees(run(1), run(2, RUNNING))
    desk.sees(None, pipeline="q")
    desk.waits(DAY)
    assert desk.takes() == []


# How far the run list is read


def test_a_few_numbers_are_a_small_page():
    """They were given lately, so they stand on top."""
    desk = Desk()
    desk.sees(run(1), run(12))
    desk.cloud.histories["p"] = back(12, 1)
    assert desk.takes() == ["runs of p from 0: 20"]
    assert desk.counts() == {"success": 11}
    assert desk.unresolved == 0


def test_many_numbers_are_a_full_page():
    """As long as the cloud's are."""
    desk = Desk()
    desk.sees(run(1), run(13))
    desk.cloud.histories["p"] = back(13, 1)
    assert desk.takes() == ["runs of p from 0: 100"]
    assert desk.counts() == {"success": 12}


def test_the_list_is_read_until_all_is_found():
    """From the row on where the page before ended, and no further."""
    desk = Desk()
    desk.sees(run(1000), run(1003))
    # Runs without a number of interest on top: of a numbering that others see.
    later = [msgspec.structs.replace(run(number), number=None) for number in range(1300, 1150, -1)]
    desk.cloud.histories["p"] = [*later, *back(1003, 1)]
    assert desk.takes() == ["runs of p from 0: 20", "runs of p from 20: 100", "runs of p from 120: 100"]
    assert desk.counts() == {"success": 3}


def test_pages_are_as_long_as_the_cloud_makes_them():
    """The next begins where the rows ended."""
    desk = Desk()
    desk.sees(run(1), run(30))
    desk.cloud.histories["p"] = back(30, 1)
    desk.cloud.page = 13
    assert desk.takes() == [f"runs of p from {offset}: 100" for offset in (0, 13, 26)]
    assert desk.counts() == {"success": 29}


def test_a_run_that_begins_meanwhile_moves_the_others_on():
    """A page that shows one again is read on."""
    desk = Desk()
    desk.sees(run(1), run(60))
    pages = iter([back(60, 1), [run(61), *back(60, 1)], [run(62), run(61), *back(60, 1)]])

    class Moving(dict[str, Sequence[Run]]):
        def get(self, key: str, default: Any = None) -> Any:
            return next(pages)

    desk.cloud.histories = Moving()
    desk.cloud.page = 25
    assert len(desk.takes()) == 3
    assert desk.counts() == {"success": 59}
    assert desk.unresolved == 0


@pytest.mark.parametrize("older", [0, 60], ids=["end", "floor"])
def test_a_number_that_two_complete_readings_lack_is_void(older):
    """One to the end of the list is complete, or to runs that started long before; nothing is missed."""
    desk = Desk()
    desk.sees(run(100), run(104))
    desk.cloud.histories["p"] = [
        run(104),
        run(100),
        *(run(99 - number, start=NOON - HOUR * number) for number in range(older)),
    ]
    for _ in range(2):
        assert desk.takes()
        assert desk.counts() == {"success": 1}
        desk.waits(APART + 10)
    assert desk.unresolved == 0
    assert desk.takes() == []


def test_the_list_is_read_no_further_than_what_is_wanted_can_lie():
    """An hour before the run before the gap."""
    desk = Desk()
    desk.sees(run(500), run(502))
    desk.cloud.histories["p"] = [run(502), *back(500, 1)]
    # A hundred seconds lie between two runs: the first page that is older as a whole begins with run 381.
    assert desk.takes() == [f"runs of p from {row}" for row in ("0: 20", "20: 100", "120: 100")]
    assert desk.unresolved == 1


def test_a_week_back_it_is_given_up():
    """After two weeks without an answer, where the start of the run before the gap is unknown."""
    desk = Desk()
    desk.sees(msgspec.structs.replace(run(1), start=None))
    desk.waits(2 * WEEK)
    now = desk.clock.now
    desk.sees(run(4, start=now))
    desk.cloud.histories["p"] = [run(4, start=now), *(run(0, start=now - WEEK - HOUR),) * 30]
    desk.cloud.page = 1
    assert len(desk.takes()) == 2
    assert desk.counts() == {"success": 1, "missed": 2}
    assert desk.unresolved == 0


def test_a_thousand_runs_back_it_is_given_up(caplog):
    """Whatever else there may be."""
    desk = Desk()
    desk.sees(run(1), run(5000), run(5000))
    desk.cloud.histories["p"] = back(5000, 1)
    assert desk.takes() == [f"runs of p from {row}: 100" for row in range(0, 1000, 100)]
    assert desk.counts() == {"success": 1000, "missed": 3999}
    assert [record.getMessage() for record in caplog.records] == [
        "runs of pipeline p are missed, 3999 of them: older than a week or than a thousand runs"
    ]


def test_a_cloud_that_does_not_heed_the_offset_tells_what_it_tells():
    """What it does not tell cannot be known: it is neither void nor missed, and asked for again later."""
    desk = Desk()
    desk.sees(run(1), run(150), run(150))
    desk.cloud.histories["p"] = back(150, 1)
    desk.cloud.heeds_offset = False
    for pause in (120, 240, 480, 900):
        assert desk.takes() == ["runs of p from 0: 100", "runs of p from 100: 100"]
        assert (desk.counts(), desk.unresolved) == ({"success": 100}, 49)
        desk.waits(pause - 1)
        assert desk.takes() == []
        desk.waits(1)


def test_a_row_that_cannot_be_read_leaves_everything_open(caplog):
    """It may be what is looked for: however often it is read, nothing is void; what it tells then is counted."""
    desk = Desk()
    desk.sees(run(1), run(4))
    desk.cloud.histories["p"] = back(4, 1)
    desk.cloud.unreadable = {"run-2"}
    for _ in range(4):
        assert desk.takes()
        assert (desk.counts(), desk.unresolved) == ({"success": 2}, 1)
        desk.waits(900)
    assert caplog.messages == ["a record was rejected (unreadable): a row"]
    desk.cloud.unreadable = set()
    desk.takes()
    assert (desk.counts(), desk.unresolved) == ({"success": 3}, 0)


def test_a_page_of_which_nothing_can_be_read_is_passed_over():
    """The next one may tell what is looked for."""
    desk = Desk()
    desk.sees(run(1), run(30))
    desk.cloud.histories["p"] = back(30, 1)
    desk.cloud.page = 10
    desk.cloud.unreadable = {f"run-{number}" for number in range(21, 31)}
    assert len(desk.takes()) == 4
    assert (desk.counts(), desk.unresolved) == ({"success": 20}, 9)


def test_runs_without_a_number_leave_everything_open():
    """They may be what is looked for."""
    desk = Desk()
    desk.sees(run(1), run(4))
    desk.cloud.histories["p"] = [run(4), msgspec.structs.replace(run(2), number=None), run(1)]
    for _ in range(3):
        assert desk.takes()
        assert desk.unresolved == 2
        desk.waits(900)


def test_what_else_was_under_way_at_first_sight_is_one_page():
    """Once."""
    desk = Desk()
    desk.sees(run(50, RUNNING))
    desk.cloud.histories["p"] = [run(50, RUNNING), run(49), run(48, RUNNING), *back(47, 1)]
    assert desk.takes() == ["runs of p from 0: 20"]
    assert desk.unresolved == 1
    assert desk.takes() == []


# Hidden runs


def hides(*ids: str, **changes: Any) -> Desk:
    """Some pipelines in each of which run-2 hides behind run-3, and has for a minute."""
    desk = Desk(*ids, **changes)
    for identity in ids or ("p",):
        desk.sees(run(1), run(2, RUNNING), run(3, RUNNING), pipeline=identity)
    desk.waits(60)
    return desk


def test_one_hidden_run_is_asked_about_by_itself():
    """And counted when it has ended."""
    desk = hides()
    desk.cloud.details["run-2"] = run(2, RUNNING)
    assert desk.takes() == ["run-2"]
    assert desk.unresolved == 1
    desk.waits(120)
    desk.cloud.details["run-2"] = run(2)
    assert desk.takes() == ["run-2"]
    assert (desk.counts(), desk.unresolved) == ({"success": 1}, 0)


def test_two_hidden_runs_are_one_page_of_the_list():
    """One that it does not tell is asked about by itself, with the next look."""
    desk = Desk()
    desk.sees(run(1), run(2, RUNNING), run(3, RUNNING), run(4, RUNNING))
    desk.waits(60)
    desk.cloud.histories["p"] = [run(4, RUNNING), run(3), run(1)]
    desk.cloud.details["run-2"] = run(2, FAILED)
    assert desk.takes() == ["runs of p from 0: 20"]
    assert desk.counts() == {"success": 1}
    assert desk.takes() == ["run-2"]
    assert desk.counts() == {"success": 1, "failed": 1}


def test_one_that_the_list_does_not_tell_is_asked_about_beside_it():
    """A page for the others, details for that one."""
    desk = Desk()
    desk.sees(run(1), *(run(number, RUNNING) for number in (2, 3, 4, 5)))
    desk.waits(60)
    desk.cloud.histories["p"] = [run(5, RUNNING), run(4, RUNNING), run(3, RUNNING), run(1)]
    desk.cloud.details["run-2"] = run(2, RUNNING)
    assert desk.takes() == ["runs of p from 0: 20"]
    assert desk.takes() == ["run-2"]
    desk.waits(120)
    assert desk.takes() == ["runs of p from 0: 20", "run-2"]


def test_a_hidden_run_that_is_refused_is_missed(caplog):
    """Nobody can learn its end any more; that is told."""
    desk = hides()
    desk.fails(DETAIL, "p", kind=Kind.CONTENT)
    assert desk.takes() == ["run-2"]
    assert (desk.counts(), desk.unresolved) == ({"missed": 1}, 0)
    assert caplog.messages == ["runs of pipeline p are missed, 1 of them: the provider no longer knows it"]
    desk.waits(DAY)
    assert desk.takes() == []


@pytest.mark.parametrize("kind", [kind for kind in Kind if kind is not Kind.CONTENT])
def test_another_failure_says_nothing_of_a_hidden_run(kind):
    """It is asked about again, later."""
    desk = hides()
    desk.fails(DETAIL, "p", kind=kind)
    assert desk.takes() == ["run-2"]
    assert (desk.counts(), desk.unresolved) == ({}, 1)
    assert desk.takes() == []
    desk.waits(120)
    desk.fails(DETAIL)
    desk.cloud.details["run-2"] = run(2)
    assert desk.takes() == ["run-2"]
    assert desk.counts() == {"success": 1}


@pytest.mark.parametrize("told", [None, run(7)], ids=["unreadable", "another run"])
def test_details_that_are_not_those_of_the_run_say_nothing_of_it(told, caplog):
    """It is asked about again, later; what cannot be read is told."""
    desk = hides()
    desk.cloud.details["run-2"] = told
    assert desk.takes() == ["run-2"]
    assert caplog.messages == ([] if told else ["a record was rejected (unreadable): the details"])
    assert (desk.counts(), desk.unresolved) == ({}, 1)
    assert desk.takes() == []
    desk.waits(120)
    assert desk.takes() == ["run-2"]


# What a failure costs


def test_a_list_that_fails_is_asked_for_ever_more_rarely():
    """At most every quarter of an hour; when it answers, all is counted."""
    desk = Desk()
    desk.sees(run(1), run(3))
    desk.fails(LIST, "p")
    desk.cloud.histories["p"] = back(3, 1)
    for pause in (120, 240, 480, 900, 900):
        assert desk.takes() == ["runs of p from 0: 20"]
        assert (desk.counts(), desk.unresolved) == ({"success": 1}, 1)
        desk.waits(pause - 1)
        assert desk.takes() == []
        desk.waits(1)
    desk.fails(LIST)
    desk.takes()
    assert (desk.counts(), desk.unresolved) == ({"success": 2}, 0)


@pytest.mark.parametrize("kind", [Kind.TRANSIENT, Kind.PROJECT, Kind.CONTENT, Kind.UNREADABLE])
def test_a_list_that_fails_costs_only_itself(kind):
    """Other pipelines' lists, hidden runs and details are asked for all the same."""
    desk = Desk("p", "q", "r", details="jobs")
    desk.sees(run(1), run(3))
    desk.sees(run(1), run(3), pipeline="q")
    desk.sees(run(1), run(2, RUNNING), run(3, RUNNING), pipeline="r")
    desk.waits(60)
    desk.cloud.histories["q"] = back(3, 1)
    desk.cloud.details = {"run-2": run(2), "run-3": run(3)}
    desk.fails(LIST, "p", kind=kind)
    assert desk.takes() == [
        "runs of p from 0: 20",
        "runs of q from 0: 20",
        "run-2",
        "run-3",
        "run-3",
        "run-3",
    ]
    assert desk.counts("q") == {"success": 2}
    assert desk.counts("r") == {"success": 1}


@pytest.mark.parametrize("kind", [Kind.TRANSIENT, Kind.CONTENT])
def test_what_the_first_pages_told_is_taken_also_if_a_later_one_fails(kind):
    """The rest is open, and asked for again."""
    desk = Desk()
    desk.sees(run(1), run(200), run(200))
    desk.cloud.histories["p"] = back(200, 1)
    desk.fails(LIST, "p", kind=kind)
    desk.cloud.failing_from = 100
    assert len(desk.takes()) == 2
    assert (desk.counts(), desk.unresolved) == ({"success": 100}, 99)
    desk.waits(120)
    desk.fails(LIST)
    desk.takes()
    assert desk.counts() == {"success": 199}


def test_what_a_list_could_not_tell_for_a_day_is_missed(caplog):
    """With one line of why; what is known keeps its counts, and the list is asked no more."""
    desk = Desk()
    desk.sees(run(1), run(3))
    began = desk.clock.now
    desk.fails(LIST, "p", kind=Kind.CONTENT)
    while desk.unresolved:
        desk.waits(300)
        desk.sees(run(3))
        desk.takes()
        assert desk.clock.now < began + 2 * DAY
    assert DAY <= desk.clock.now - began < DAY + 1800
    assert desk.counts() == {"success": 1, "missed": 1}
    assert caplog.messages == [
        "runs of pipeline p are missed, 1 of them: the run list could not be read for a day"
    ]
    desk.waits(DAY)
    assert desk.takes() == []


@pytest.mark.parametrize("kind", [Kind.CREDENTIALS, Kind.THROTTLED])
def test_a_failure_that_everything_would_meet_ends_the_looks(kind):
    """One request tells it; the rest is due as before."""
    desk = hides("p", "q", "r", details="jobs")
    desk.cloud.details = {"run-2": run(2), "run-3": run(3, RUNNING)}
    desk.fails(DETAIL, "p", "q", "r", kind=kind)
    assert desk.takes() == ["run-2"]
    desk.fails(DETAIL)
    assert desk.takes() == ["run-2"] * 2 + ["run-3"] * 3


@pytest.mark.parametrize("operation", [LIST, DETAIL])
@pytest.mark.parametrize("kind", [Kind.TRANSIENT, Kind.PROJECT, Kind.UNREADABLE])
def test_failures_here_and_there_end_no_looks(operation, kind):
    """What fails for one pipeline may be answered for the next."""
    ids = [f"p{number}" for number in range(12)]
    desk = Desk(*ids)
    for identity in ids:
        if operation is LIST:
            desk.sees(run(1), run(3), pipeline=identity)
        else:
            desk.sees(run(1), run(2, RUNNING), run(3, RUNNING), pipeline=identity)
        desk.cloud.histories[identity] = back(3, 1)
    desk.waits(60)
    desk.cloud.details["run-2"] = run(2)
    failing = {identity for place, identity in enumerate(ids) if place % FAILURES}
    desk.fails(operation, *failing, kind=kind)
    assert len(desk.takes()) == len(ids)
    assert desk.unresolved == len(failing)


def test_a_cloud_that_is_down_is_not_asked_for_everything():
    """Some failures in a row are enough for now, and told as one."""
    desk = hides(*"pqrstu")
    desk.fails(DETAIL, *"pqrstu")
    assert desk.takes() == ["run-2"] * FAILURES
    assert desk.takes() == ["run-2"] * FAILURES
    assert desk.takes() == []


def test_failures_are_told_once_each_kind(caplog):
    """With their number, and what a support desk would ask for."""
    desk = hides("p", "q", details="jobs")
    desk.fails(DETAIL, "p", "q")
    assert len(desk.takes()) == FAILURES
    assert caplog.messages == [f"poll failed in {FAILURES} requests: not now"]
    assert (caplog.records[0].operation, caplog.records[0].code) == (DETAIL, "503")


def test_details_that_were_refused_are_not_asked_for_again():
    """Until the run changes; a failure of another kind is tried again later."""
    desk = Desk("p", "q", details="jobs")
    desk.sees(run(1))
    desk.sees(run(1), pipeline="q")
    desk.cloud.details["run-1"] = run(1)
    desk.fails(DETAIL, "p", kind=Kind.CONTENT)
    assert desk.takes() == ["run-1", "run-1"]
    desk.waits(HOUR)
    assert desk.takes() == []
    desk.sees(run(1, FAILED), pipeline="q")
    desk.fails(DETAIL, "q")
    assert desk.takes() == ["run-1"]
    assert desk.takes() == []
    desk.waits(60)
    assert desk.takes() == ["run-1"]


# What comes first, and for how long


def test_runs_come_before_details():
    """They are counted, details are only shown; of runs whatever has been due for longest."""
    desk = Desk("p", "q", "r", details="jobs")
    desk.sees(run(1))
    desk.sees(run(1), run(2, RUNNING), run(3), pipeline="q")
    desk.sees(run(1), run(4), pipeline="r")
    desk.waits(60)
    desk.cloud.histories["r"] = back(4, 1)
    desk.cloud.details = {f"run-{number}": run(number) for number in (1, 2, 3, 4)}
    assert desk.takes() == ["runs of r from 0: 20", "run-2", "run-1", "run-3", "run-4"]


def test_where_nothing_is_counted_only_details_are_asked_for():
    """Other runs are of no use there."""
    desk = Desk("p", "q", details="jobs")
    desk.sees(run(1), run(2, RUNNING), run(3))
    desk.sees(run(1), run(4), pipeline="q")
    desk.waits(60)
    desk.cloud.details = {"run-3": run(3), "run-4": run(4)}
    assert desk.takes(runs=False) == ["run-3", "run-4"]


def test_looks_end_at_the_deadline_and_go_on_with_the_next():
    """What is under way then is waited for; what was not asked is due as before."""
    ids = [f"p{number}" for number in range(10)]
    desk = Desk(*ids, details="jobs")
    for number, identity in enumerate(ids):
        desk.sees(run(number + 1), pipeline=identity)
        desk.cloud.details[f"run-{number + 1}"] = run(number + 1)
    desk.cloud.seconds = 5.0
    assert desk.takes(seconds=12) == ["run-1", "run-2", "run-3"]
    assert desk.takes(seconds=0) == []
    assert desk.takes(seconds=0.1) == ["run-4"]
    assert desk.takes() == [f"run-{number}" for number in range(5, 11)]
    assert desk.takes() == []


def test_no_more_looks_are_under_way_than_requests_may_be():
    """Each thing is asked for once all the same."""
    ids = [f"p{number}" for number in range(10)]
    desk = Desk(*ids, details="jobs", concurrency=4)
    for number, identity in enumerate(ids):
        desk.sees(run(number + 1), pipeline=identity)
        desk.cloud.details[f"run-{number + 1}"] = run(number + 1)
    assert sorted(desk.takes()) == sorted(f"run-{number}" for number in range(1, 11))
    assert desk.cloud.most_under_way == 4


# On a simulated cloud


class Stage:
    """A story, the cloud that tells it, and an exporter; one clock."""

    def __init__(self, cloud: Cloud, story: Story, clock: FakeClock) -> None:
        self.cloud = cloud
        self.story = story
        self.clock = clock
        self.pipeline = story.world.pipelines[0].id

    def runs(self, count: int, *, apart: float = 10.0) -> None:
        """So many runs begin and succeed, one after the other."""
        for _ in range(count):
            self.clock.now += apart
            tale = self.story.begin(self.pipeline, self.clock.now)
            self.clock.now += apart
            self.story.end(tale, self.clock.now, Fate.COMPLETED)

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
        """How often each operation was asked for since this was asked last."""
        found = Counter(call.operation for call in self.cloud.codearts.requests)
        self.cloud.codearts.requests.clear()
        return found


@pytest.fixture
def stage() -> Iterator[Stage]:
    world = World(pipelines=2)
    clock = FakeClock(world.start + 1000.0)
    story = Story(world)
    codearts = CodeArts(world, clock=clock.time, runs=story)
    with running(codearts.app) as url:
        yield Stage(Cloud(codearts, url), story, clock)


def test_runs_that_come_and_go_between_two_polls_are_on_the_page_after_the_next(stage):
    """They cost one request more, once."""

    async def scenario():
        async with stage.exporter() as (poller, page):
            stage.runs(1)
            await poller.tick()
            assert stage.asked() == {"BatchShowPipelinesLatestStatus": 1}
            stage.runs(5)
            await poller.tick()
            assert stage.asked() == {"BatchShowPipelinesLatestStatus": 1, LIST: 1}
            counted = page().value("ci_pipeline_runs_total", pipeline_id=stage.pipeline, status="success")
            left = page().value("pipeline_exporter_runs_unresolved")
            stage.clock.now += 60
            await poller.tick()
            assert stage.asked() == {"BatchShowPipelinesLatestStatus": 1}
            return counted, left

    assert asyncio.run(scenario()) == (5, 0)


def test_runs_are_found_behind_many_others_in_small_pages(stage):
    """Page by page, in whatever tick."""
    stage.cloud.codearts.page_limit = 7

    async def scenario():
        async with stage.exporter() as (poller, page):
            stage.runs(30)
            await poller.tick()
            stage.asked()
            stage.runs(60, apart=2.0)
            await poller.tick()
            assert stage.asked()[LIST] == 9
            return page().value("ci_pipeline_runs_total", pipeline_id=stage.pipeline, status="success")

    assert asyncio.run(scenario()) == 60


def test_numbers_that_no_run_has_are_not_missed(stage):
    """Some clouds give numbers that come to nothing: they are looked for twice, and that is all."""

    async def scenario():
        async with stage.exporter() as (poller, page):
            stage.runs(3)
            await poller.tick()
            stage.story.skip(stage.pipeline, 4)
            stage.runs(1)
            lists = 0
            for _ in range(60):
                await poller.tick()
                stage.clock.now += 60
                lists += stage.asked()[LIST]
            found = page()
            # Each time a page, and the empty one after it.
            assert lists == 4
            assert found.value("pipeline_exporter_runs_unresolved") == 0
            return (
                found.value("ci_pipeline_runs_total", pipeline_id=stage.pipeline, status="success"),
                found.value("ci_pipeline_runs_missed_total", pipeline_id=stage.pipeline),
            )

    assert asyncio.run(scenario()) == (1, 0)


def test_a_run_list_that_is_down_shows_in_its_own_numbers_only(stage):
    """The project is up; what is still to be learnt is shown, and learnt in the end."""

    async def scenario():
        async with stage.exporter() as (poller, page):
            stage.runs(1)
            await poller.tick()
            stage.cloud.codearts.mischief = Mischief.SERVER_ERROR
            stage.cloud.codearts.mischief_only = LIST
            stage.runs(3)
            await poller.tick()
            first = page()
            stage.cloud.codearts.mischief = None
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


@pytest.mark.parametrize("kind", [Kind.TRANSIENT, Kind.PROJECT, Kind.UNREADABLE])
def test_lists_that_fail_for_many_cost_only_themselves(kind):
    """Where the run list is refused or broken as a whole, details are asked for all the same."""
    ids = [f"p{number}" for number in range(10)]
    desk = Desk(*ids, details="jobs")
    for identity in ids:
        desk.sees(run(1), run(3), pipeline=identity)
    desk.cloud.details["run-3"] = run(3)
    desk.fails(LIST, *ids, kind=kind)
    assert desk.takes().count("run-3") == 10


@pytest.mark.parametrize("order", ["ascending", "random"])
def test_nothing_is_concluded_from_the_order_of_the_list(order):
    """A page of old runs is no proof that newer ones have been told."""
    desk = Desk()
    desk.sees(run(500), run(504))
    history = back(504, 1)
    if order == "ascending":
        history.reverse()
    else:
        random.Random(3).shuffle(history)
    desk.cloud.histories["p"] = history
    for _ in range(6):
        desk.takes()
        desk.waits(900)
    assert desk.counts() == {"success": 4}


def test_an_empty_list_of_a_pipeline_that_has_runs_concludes_nothing():
    """Whoever may not see them gets one."""
    desk = Desk()
    desk.sees(run(1), run(4))
    desk.cloud.histories["p"] = []
    for _ in range(3):
        desk.takes()
        desk.waits(900)
    assert desk.unresolved == 2


def test_rows_that_cannot_be_read_are_not_missed_at_once():
    """However many pages of them there are, a look costs a bounded number of requests."""
    desk = Desk()
    desk.sees(run(1), run(4))
    desk.cloud.histories["p"] = back(4, 1)
    desk.cloud.unreadable = {f"run-{number}" for number in range(5)}
    desk.cloud.heeds_offset = False
    assert len(desk.takes()) <= 30
    assert desk.counts() == {"success": 1}
