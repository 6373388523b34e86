"""The list of a pipeline's runs, which is an outline: what a page has is read row by row, whatever it leaves out."""

import json
import random
import time
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exporter.core.failures import FailureKind
from exporter.core.model import LABEL_LENGTH, Run, Status, Trigger
from exporter.providers.protocol import PageCursor, RunRows
from exporter.simulator import SimulatedStatus as Told
from exporter.simulator.flow.organization import executor
from exporter.simulator.flow.serialized import summarize
from exporter.simulator.flow.vocabulary import trigger
from tests.unit.providers.test_codearts import json_values, spoilt
from tests.unit.providers.test_flow_lists import SPOKEN, spoken
from tests.unit.providers.test_flow_lists import body as page_body
from tests.unit.providers.test_flow_requests import NEVER_RAN, RAN, TODAY, WORLD, Desk, generations

NOW = 1_748_400_000.0
PIPELINE = "4185805"
OTHER = 4185806
START, END = 1_748_314_799, 1_748_314_922


def row(index: int = 0, **changes: Any) -> dict[str, Any]:
    """A finished run of the pipeline as it was seen; `changes` take the place of its own."""
    return {
        "status": "SUCCESS",
        "startTime": START * 1000,
        "triggerMode": 1,
        "pipelineRunId": index + 7,
        "pipelineId": int(PIPELINE),
        "endTime": END * 1000,
        "creator": None,
        "creatorAccountId": f"account-{index}",
        **changes,
    }


def run(index: int = 0, **changes: Any) -> Run:
    """The run of a row."""
    told: dict[str, Any] = {
        "id": str(index + 7),
        "number": index + 7,
        "status": Status.SUCCESS,
        "start": START,
        "end": END,
        "trigger": Trigger.MANUAL,
        "executor": f"account-{index}",
    }
    return Run(**{**told, **changes})


def body(generation: str, rows: Any, **envelope: Any) -> bytes:
    return page_body(generation, rows, "pipelineRuns", **envelope)


def read(*rows: Any, generation: str = "personal") -> RunRows:
    return SPOKEN[generation].read_runs(body(generation, rows), PIPELINE, NOW, {})


def run_of(**changes: Any) -> Run:
    """The run that is read out of a row alone in its page."""
    page = read(row(**changes))
    assert not page.rejected
    (one,) = page.runs
    return one


# -- the whole list, held against the world that it tells

LATEST = {pipeline.id: WORLD.latest_run(pipeline.id, TODAY) for pipeline in RAN}
BUSY = next(one for one in RAN if (latest := LATEST[one.id]) is not None and 70 < latest.number < 150)
"""Of a few pages of runs."""
STATUSES_OF_THE_WORLD = {
    Told.INIT: Status.PENDING,
    Told.QUEUED: Status.WAITING,
    Told.RUNNING: Status.RUNNING,
    Told.PAUSED: Status.WAITING,
    Told.SUSPEND: Status.WAITING,
    Told.COMPLETED: Status.SUCCESS,
    Told.FAILED: Status.FAILED,
    Told.CANCELED: Status.CANCELED,
    Told.SKIPPED: Status.SKIPPED,
    Told.UNSELECTED: Status.SKIPPED,
    Told.IGNORED: Status.SUCCESS,
}
"""A failure that is ignored is none there."""
TRIGGERS = {
    1: Trigger.MANUAL,
    2: Trigger.SCHEDULE,
    3: Trigger.PUSH,
    4: Trigger.UNKNOWN,
    5: Trigger.PIPELINE,
    6: Trigger.WEBHOOK,
}


def truth(pipeline: str, number: int) -> Run:
    """What the world knows of a run that its outline tells."""
    known = WORLD.run(pipeline, number, TODAY)
    assert known is not None
    told = summarize(known)
    return Run(
        id=str(number),
        number=number,
        status=STATUSES_OF_THE_WORLD[told.status],
        start=told.start,
        end=told.end,
        trigger=TRIGGERS[trigger(told)],
        executor=executor(known),
    )


def page_at(desk: Desk, pipeline: str, place: PageCursor) -> RunRows:
    """A page of the runs of a pipeline of the world."""
    identity = desk.cloud.pipeline_id(pipeline)
    answer, headers = desk.answer(desk.spoken.runs_request(identity, place, 10))
    return desk.spoken.read_runs(answer, identity, TODAY, headers)


def pages(desk: Desk, pipeline: str) -> list[RunRows]:
    """All pages, up to the one that the cloud calls the last, or that is empty."""
    found: list[RunRows] = []
    place = PageCursor()
    while not found or (found[-1].rows and not found[-1].last):
        assert len(found) < 50
        found.append(page_at(desk, pipeline, place))
        place = place.after(found[-1])
    return found


@generations
@pytest.mark.parametrize("order", ["descending", "random"])
def test_page_by_page_every_run_of_the_pipeline_is_found_once(generation: str, order: Any) -> None:
    """In whatever order they are listed, and each as it was."""
    desk = Desk(generation)
    desk.cloud.runs_order = order
    found = pages(desk, BUSY.id)
    latest = WORLD.latest_run(BUSY.id, TODAY)
    assert latest is not None
    runs = {one.id: one for page in found for one in page.runs}
    assert set(runs) == {str(number) for number in range(1, latest.number + 1)}
    assert sum(page.rows for page in found) == latest.number
    assert all(runs[str(number)] == truth(BUSY.id, number) for number in range(1, latest.number + 1, 7))
    assert not any(page.rejected or page.implausible_times or page.incomplete for page in found)
    assert {word for page in found for word in page.words} <= {("trigger_mode", "4")}


@generations
@pytest.mark.parametrize("open_end", ["mixed", "absent", "null", "zero"])
def test_the_latest_runs_are_those_of_the_world(generation: str, open_end: Any) -> None:
    """Those under way too, however the end that they do not have is told."""
    desk = Desk(generation)
    desk.cloud.open_end = open_end
    statuses = set()
    for pipeline in RAN[:40]:
        newest = page_at(desk, pipeline.id, PageCursor()).runs[0]
        assert newest == truth(pipeline.id, newest.number or 0)
        statuses.add(newest.status)
    assert statuses >= {Status.SUCCESS, Status.RUNNING}


@pytest.mark.parametrize("generation", ["personal", "region"])
def test_where_the_status_is_not_told_all_else_is(generation: str) -> None:
    """It is not documented, so that its absence is no word; what of the run is over, nobody knows then."""
    desk = Desk(generation)
    desk.cloud.run_status = False
    page = page_at(desk, BUSY.id, PageCursor())
    assert {one.status for one in page.runs} == {Status.UNKNOWN}
    assert [(one.number, one.start, one.end) for one in page.runs] == [
        (one.number, one.start, one.end) for one in (truth(BUSY.id, one.number or 0) for one in page.runs)
    ]
    assert page.words <= {("trigger_mode", "4")}


@generations
def test_a_pipeline_that_never_ran_has_an_empty_page(generation: str) -> None:
    (page,) = pages(Desk(generation), NEVER_RAN.id)
    assert (page.rows, page.runs, page.incomplete) == (0, [], False)


@generations
def test_a_pipeline_that_is_gone_is_not_found(generation: str) -> None:
    """That is no empty page: its runs are not known to be none."""
    desk = Desk(generation)
    gone = desk.cloud.pipeline_id(BUSY.id)
    desk.cloud.deleted = {BUSY.id}
    kind, code = desk.failure(desk.spoken.runs_request(gone, PageCursor(), 10))
    assert kind is FailureKind.CONTENT
    assert code.endswith("NotFound")


# -- what is read


@spoken
def test_a_page_gives_outlines_in_its_order(generation: str) -> None:
    page = read(row(2), row(0), row(1), generation=generation)
    assert (page.rows, page.runs) == (3, [run(2), run(0), run(1)])
    assert (page.incomplete, page.rejected, page.words) == (False, [], set())
    assert page.last is (generation == "signed")


WORDS = {
    "SUCCESS": Status.SUCCESS,
    "FINISH": Status.SUCCESS,
    "success": Status.SUCCESS,
    "FAIL": Status.FAILED,
    "fail": Status.FAILED,
    "CANCELED": Status.CANCELED,
    "RUNNING": Status.RUNNING,
    "CANCELLING": Status.RUNNING,
    "running": Status.RUNNING,
    "INIT": Status.PENDING,
    "ready": Status.PENDING,
    "WAITING": Status.WAITING,
}
UNKNOWN_WORDS = ["FAILED", "CANCELLED", "UNKOWN", "Success", "NEVER_HEARD_OF", " FAIL", "失败", 3]


@pytest.mark.parametrize(("word", "status"), WORDS.items())
def test_statuses_of_runs(word: str, status: Status) -> None:
    page = read(row(status=word))
    assert page.runs == [run(status=status, end=END if status.final else None)]
    assert not page.words


@pytest.mark.parametrize("word", ["SKIP", *UNKNOWN_WORDS])
def test_a_status_that_no_run_has_is_unknown_and_told(word: Any) -> None:
    """Never failure, never dropped; only stages are skipped. The end that is told stays."""
    page = read(row(status=word))
    assert page.runs == [run(status=Status.UNKNOWN)]
    assert page.words == {("status", str(word))}


@pytest.mark.parametrize("change", ["remove", "null", "replace"])
def test_a_status_that_is_not_told_is_no_word(change: str) -> None:
    page = read(spoilt(row(), ("status",), change, ""))
    assert page.runs == [run(status=Status.UNKNOWN)]
    assert not page.words


@pytest.mark.parametrize(
    ("mode", "started_by"),
    [
        (1, Trigger.MANUAL),
        ("1", Trigger.MANUAL),
        (2, Trigger.SCHEDULE),
        (3, Trigger.PUSH),
        (5, Trigger.PIPELINE),
        (6, Trigger.WEBHOOK),
        (None, Trigger.UNKNOWN),
        ("", Trigger.UNKNOWN),
    ],
)
def test_triggers(mode: Any, started_by: Trigger) -> None:
    page = read(row(triggerMode=mode))
    assert page.runs == [run(trigger=started_by)]
    assert not page.words


@pytest.mark.parametrize("mode", [0, 4, 7, -1, "manual"])
def test_an_unknown_trigger_is_told(mode: Any) -> None:
    """4 occurs, and nobody says what it is."""
    page = read(row(triggerMode=mode))
    assert page.runs == [run(trigger=Trigger.UNKNOWN)]
    assert page.words == {("trigger_mode", str(mode))}


@pytest.mark.parametrize("end", [0, "0", "", None, -1, "absent"])
@pytest.mark.parametrize("status", ["RUNNING", "SUCCESS", "NEVER_HEARD_OF"])
def test_spellings_of_no_end(end: Any, status: str) -> None:
    told = row(endTime=end, status=status)
    if end == "absent":
        del told["endTime"]
    page = read(told)
    assert [(one.start, one.end, one.duration) for one in page.runs] == [(START, None, None)]
    assert not {field for field, _ in page.words} - {"status"}


@pytest.mark.parametrize("value", [START * 1000, START * 1000.0, str(START * 1000), "2025-05-27T02:59:59Z"])
def test_spellings_of_a_start(value: Any) -> None:
    """Whole milliseconds are documented; the others cost nothing to read."""
    assert run_of(startTime=value) == run()


def test_text_that_is_no_time_is_told_and_absent() -> None:
    page = read(row(startTime="soon"))
    assert page.runs == [run(start=None)]
    assert page.words == {("time", "soon")}


def test_an_end_of_a_run_under_way_is_not_its_end() -> None:
    """A run that is begun again keeps its id, and may keep the end that it had."""
    assert run_of(status="RUNNING") == run(status=Status.RUNNING, end=None)


@pytest.mark.parametrize("number", [7, "7", 7.0, " 7"])
def test_a_number_is_id_and_number(number: Any) -> None:
    """In one spelling, whatever the vendor's: by the id a run is asked about."""
    assert run_of(pipelineRunId=number) == run()


# -- rows that cannot be used


@pytest.mark.parametrize("change", ["remove", "null", "replace"])
def test_a_row_that_names_no_pipeline_is_of_the_one_that_was_asked_about(change: str) -> None:
    assert read(spoilt(row(), ("pipelineId",), change, "")).runs == [run()]


@pytest.mark.parametrize("spelling", [int(PIPELINE), PIPELINE])
def test_the_id_of_the_pipeline_comes_as_number_or_text(spelling: Any) -> None:
    assert run_of(pipelineId=spelling) == run()


@pytest.mark.parametrize("stranger", [OTHER, str(OTHER), 0, f" {PIPELINE}", "x" * LABEL_LENGTH])
def test_a_row_of_another_pipeline_is_rejected(stranger: Any) -> None:
    """Counted as a row, and nothing against the absence of what the others do not tell."""
    page = read(row(pipelineId=stranger), row(1))
    assert (page.rows, page.runs, page.unreadable, page.incomplete) == (2, [run(1)], 0, False)
    ((reason, words),) = page.rejected
    assert reason == "not_requested"
    assert len(words) < 300


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"pipelineId": ["x"]}, "unreadable"),
        ({"pipelineId": True}, "unreadable"),
        ({"pipelineId": "x" * (LABEL_LENGTH + 1)}, "no_pipeline_id"),
        ({"pipelineRunId": {}}, "unreadable"),
        ({"pipelineRunId": True}, "unreadable"),
        ({"pipelineRunId": None}, "no_run_id"),
        ({"pipelineRunId": ""}, "no_run_id"),
        ({"pipelineRunId": 0}, "no_run_id"),
        ({"pipelineRunId": -7}, "no_run_id"),
        ({"pipelineRunId": 1.5}, "no_run_id"),
        ({"pipelineRunId": "seven"}, "no_run_id"),
        ({"pipelineRunId": 1 << 53}, "no_run_id"),
        ({"status": ["FAIL"]}, "unreadable"),
        ({"status": True}, "unreadable"),
    ],
)
@spoken
def test_a_row_that_cannot_be_used_is_unread(generation: str, changes: dict[str, Any], reason: str) -> None:
    """It may be any run of the pipeline, so that no absence proves anything."""
    page = read(row(0, **changes), row(1), generation=generation)
    assert (page.rows, page.runs, page.unreadable, page.incomplete) == (2, [run(1)], 1, True)
    assert [told for told, _ in page.rejected] == [reason]


def test_a_row_of_another_pipeline_hides_nothing_however_it_is_spoilt() -> None:
    page = read(row(0, pipelineId=OTHER, status=["FAIL"]), row(1))
    assert (page.runs, page.unreadable) == ([run(1)], 0)
    assert [reason for reason, _ in page.rejected] == ["unreadable"]


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_of_a_run_told_twice_the_last_row_counts(order: tuple[int, int]) -> None:
    twins = [row(), row(status="RUNNING", endTime=None)]
    page = read(*(twins[index] for index in order), row(1))
    assert [(one.id, one.status) for one in page.runs] == [
        ("7", (Status.SUCCESS, Status.RUNNING)[order[-1]]),
        ("8", Status.SUCCESS),
    ]
    assert [reason for reason, _ in page.rejected] == ["duplicate"]
    assert not page.incomplete


@spoken
def test_every_row_is_counted(generation: str) -> None:
    """Used or not."""
    others: list[Any] = [None, 1, "x", [], {}, row(pipelineId=OTHER), row(0, status=True), row(0), row(0)]
    page = read(*others, row(1), generation=generation)
    assert page.rows == len(others) + 1
    assert page.runs == [run(0), run(1)]
    assert page.unreadable == 6


@spoken
@pytest.mark.parametrize(
    "literal", [b'"\xff\xfe"', b'"\\ud83d"', b"1e999", b"9" * 9999], ids=["bytes", "half", "number", "digits"]
)
@pytest.mark.parametrize("place", ["creatorAccountId", "creator", "triggerMode", "endTime"])
def test_spoilt_text_costs_no_more_than_its_field(generation: str, place: str, literal: bytes) -> None:
    """Neither its row nor another."""
    answer = body(generation, [row(0, **{place: "SPOILT"}), row(1)]).replace(b'"SPOILT"', literal)
    said = SPOKEN[generation]
    assert said.failure(said.runs_request(PIPELINE, PageCursor(), 30), 200, {}, answer) is None
    page = said.read_runs(answer, PIPELINE, NOW, {})
    assert [(one.number, one.start) for one in page.runs] == [(7, START), (8, START)]
    assert page.runs[1] == run(1)
    assert not page.incomplete
    str(page.runs).encode()


def test_labels_are_cut() -> None:
    assert len(run_of(creatorAccountId="é" * 1000).executor) == LABEL_LENGTH


def test_thousands_of_rows_are_read_in_no_time() -> None:
    """Even where none of them fits the documentation."""
    page = body("signed", [row(index, creatorAccountId=[]) for index in range(2000)])
    started = time.process_time()
    found = SPOKEN["signed"].read_runs(page, PIPELINE, NOW, {})
    assert time.process_time() - started < 3
    assert found.rows == len(found.runs) == 2000


# -- properties

HANGS_ON: dict[str, set[str]] = {
    "status": {"status", "end"},
    "startTime": {"start"},
    "endTime": {"end"},
    "triggerMode": {"trigger"},
    "creatorAccountId": {"executor"},
    "creator": set(),
}
"""What of a run hangs on a field of its row, beside those that say which run it is."""


def test_every_field_is_spoilt() -> None:
    assert set(HANGS_ON) == set(row()) - {"pipelineId", "pipelineRunId"}


@given(
    st.sampled_from(list(SPOKEN)),
    st.sampled_from(list(HANGS_ON)),
    st.sampled_from(["null", "remove", "replace"]),
    json_values,
)
@settings(deadline=None, max_examples=150)
def test_a_spoilt_field_costs_no_other(generation: str, field: str, change: str, value: Any) -> None:
    """Whatever takes the place of one field, all others of its row that do not hang on it read as before."""
    page = read(spoilt(row(), (field,), change, value), generation=generation)
    if field == "status" and page.rejected:
        return  # a state is read right or not at all
    assert not page.rejected
    (spoiled,) = page.runs
    assert {
        name for name in Run.__struct_fields__ if getattr(spoiled, name) != getattr(run(), name)
    } <= HANGS_ON[field]


@given(
    st.sampled_from(list(SPOKEN)),
    st.sampled_from(list(row())),
    st.sampled_from(["null", "remove", "replace"]),
    json_values,
    st.integers(2, 5),
    st.randoms(use_true_random=False),
)
@settings(deadline=None)
def test_a_spoilt_row_costs_no_other(
    generation: str, field: str, change: str, value: Any, count: int, chance: random.Random
) -> None:
    """Whatever takes the place of one field in one row, the others are read as if alone, in any order."""
    said = SPOKEN[generation]
    rows = [row(index) for index in range(1, count)]
    victim = spoilt(row(0), (field,), change, value)
    rows.append(victim)
    chance.shuffle(rows)
    answer = body(generation, rows)
    assert said.failure(said.runs_request(PIPELINE, PageCursor(), 30), 200, {}, answer) is None
    page = said.read_runs(answer, PIPELINE, NOW, {})
    assert page.rows == count
    if any(reason == "duplicate" for reason, _ in page.rejected):
        return  # a number that became another run's own is another story: the last of the two wins
    sound = [
        run(int(item["creatorAccountId"].removeprefix("account-"))) for item in rows if item is not victim
    ]
    assert [one for one in page.runs if one in sound] == sound
    # The spoilt one is the run with its number, or the page says that something is missing; unless what became of
    # it is another pipeline's run or another number, of which nobody can tell that it is wrong.
    if field not in {"pipelineId", "pipelineRunId"}:
        assert 7 in {one.number for one in page.runs} or page.incomplete


@given(
    st.sampled_from(list(SPOKEN)),
    st.lists(json_values, min_size=1, max_size=3),
    st.randoms(use_true_random=False),
)
@settings(deadline=None)
def test_what_is_no_row_is_unread(generation: str, others: list[Any], chance: random.Random) -> None:
    """Each thing in the list that is no run is counted, and the runs beside it are read."""
    rows: list[Any] = [row(0), *others, row(1)]
    chance.shuffle(rows)
    page = read(*rows, generation=generation)
    assert {one.id for one in page.runs} == {"7", "8"}
    assert (page.rows, page.unreadable, len(page.rejected)) == (len(rows), len(others), len(others))


bodies = (
    st.binary(max_size=60)
    | json_values.map(lambda value: json.dumps(value).encode())
    | json_values.map(lambda value: json.dumps({"pipelineRuns": value}).encode())
    | st.lists(json_values, max_size=3).map(lambda rows: body("signed", rows))
    | st.binary(max_size=12).map(
        lambda garbage: body("signed", [row(status="GARBAGE")]).replace(b"GARBAGE", garbage)
    )
)


@given(st.sampled_from(list(SPOKEN)), st.integers(199, 300), bodies)
@settings(deadline=None, max_examples=200)
def test_what_is_no_failure_can_be_read(generation: str, status: int, answer: bytes) -> None:
    """No answer that passes for a success raises, and any other has words."""
    said = SPOKEN[generation]
    failure = said.failure(said.runs_request(PIPELINE, PageCursor(), 30), status, {}, answer)
    if failure is None:
        assert 200 <= status < 300
        page = said.read_runs(answer, PIPELINE, NOW, {})
        assert len(page.runs) + len(page.rejected) == page.rows
    else:
        assert failure.message or failure.error_code
