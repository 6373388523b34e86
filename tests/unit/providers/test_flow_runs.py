"""Decoding of run lists, which are summaries: row by row, with missing fields."""

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
from exporter.simulator import SimulatedStatus
from exporter.simulator.flow.organization import executor
from exporter.simulator.flow.serialized import summarize
from exporter.simulator.flow.vocabulary import trigger
from tests.marks import examples
from tests.unit.providers.test_codearts import corrupted, json_values
from tests.unit.providers.test_flow_lists import PROVIDERS, each_generation
from tests.unit.providers.test_flow_lists import body as page_body
from tests.unit.providers.test_flow_requests import NEVER_RAN, RAN, TODAY, WORLD, FlowHarness, generations

pytestmark = pytest.mark.process

NOW = 1_748_400_000.0
PIPELINE = "4185805"
OTHER = 4185806
START, END = 1_748_314_799, 1_748_314_922


def row(index: int = 0, **changes: Any) -> dict[str, Any]:
    """Return the row of a finished run as observed, with `changes` applied."""
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
    """Return the expected run of a row."""
    found: dict[str, Any] = {
        "id": str(index + 7),
        "number": index + 7,
        "status": Status.SUCCESS,
        "start": START,
        "end": END,
        "trigger": Trigger.MANUAL,
        "executor": f"account-{index}",
    }
    return Run(**{**found, **changes})


def body(generation: str, rows: Any, **envelope: Any) -> bytes:
    return page_body(generation, rows, "pipelineRuns", **envelope)


def read(*rows: Any, generation: str = "personal") -> RunRows:
    return PROVIDERS[generation].read_runs(body(generation, rows), PIPELINE, NOW, {})


def run_of(**changes: Any) -> Run:
    """Return the run of a page with one row."""
    page = read(row(**changes))
    assert not page.rejected
    (one,) = page.runs
    return one


# -- complete lists, compared with the simulated world

LATEST = {pipeline.id: WORLD.latest_run(pipeline.id, TODAY) for pipeline in RAN}
BUSY = next(one for one in RAN if (latest := LATEST[one.id]) is not None and 70 < latest.number < 150)
"""A few pages of runs."""
STATUSES_OF_THE_WORLD = {
    SimulatedStatus.INIT: Status.PENDING,
    SimulatedStatus.QUEUED: Status.WAITING,
    SimulatedStatus.RUNNING: Status.RUNNING,
    SimulatedStatus.PAUSED: Status.WAITING,
    SimulatedStatus.SUSPEND: Status.WAITING,
    SimulatedStatus.COMPLETED: Status.SUCCESS,
    SimulatedStatus.FAILED: Status.FAILED,
    SimulatedStatus.CANCELED: Status.CANCELED,
    SimulatedStatus.SKIPPED: Status.SKIPPED,
    SimulatedStatus.UNSELECTED: Status.SKIPPED,
    SimulatedStatus.IGNORED: Status.SUCCESS,
}
"""Flow does not report an ignored failure as a failure."""
TRIGGERS = {
    1: Trigger.MANUAL,
    2: Trigger.SCHEDULE,
    3: Trigger.PUSH,
    4: Trigger.UNKNOWN,
    5: Trigger.PIPELINE,
    6: Trigger.WEBHOOK,
}


def truth(pipeline: str, number: int) -> Run:
    """Return the summary of a run as the simulated world has it."""
    known = WORLD.run(pipeline, number, TODAY)
    assert known is not None
    found = summarize(known)
    return Run(
        id=str(number),
        number=number,
        status=STATUSES_OF_THE_WORLD[found.status],
        start=found.start,
        end=found.end,
        trigger=TRIGGERS[trigger(found)],
        executor=executor(known),
    )


def page_at(harness: FlowHarness, pipeline: str, place: PageCursor) -> RunRows:
    """Return a page of the runs of a simulated pipeline."""
    identity = harness.cloud.pipeline_id(pipeline)
    answer, headers = harness.answer(harness.provider.runs_request(identity, place, 10))
    return harness.provider.read_runs(answer, identity, TODAY, headers)


def pages(harness: FlowHarness, pipeline: str) -> list[RunRows]:
    """Return all pages, up to the last one or an empty one."""
    found: list[RunRows] = []
    place = PageCursor()
    while not found or (found[-1].rows and not found[-1].last):
        assert len(found) < 50
        found.append(page_at(harness, pipeline, place))
        place = place.after(found[-1])
    return found


@generations
@pytest.mark.parametrize("order", ["descending", "random"])
def test_pages_have_every_run_once(generation: str, order: Any) -> None:
    """In any order of the list, each decoded correctly."""
    harness = FlowHarness(generation)
    harness.cloud.runs_order = order
    found = pages(harness, BUSY.id)
    latest = WORLD.latest_run(BUSY.id, TODAY)
    assert latest is not None
    runs = {one.id: one for page in found for one in page.runs}
    assert set(runs) == {str(number) for number in range(1, latest.number + 1)}
    assert sum(page.rows for page in found) == latest.number
    assert all(runs[str(number)] == truth(BUSY.id, number) for number in range(1, latest.number + 1, 7))
    assert not any(page.rejected or page.implausible_times or page.incomplete for page in found)
    assert {word for page in found for word in page.unknown_values} <= {("trigger_mode", "4")}


@generations
@pytest.mark.parametrize("open_end", ["mixed", "absent", "null", "zero"])
def test_latest_runs_equal_those_of_the_world(generation: str, open_end: Any) -> None:
    """Including running ones, in each format of a missing end."""
    harness = FlowHarness(generation)
    harness.cloud.open_end = open_end
    statuses = set()
    for pipeline in RAN[:40]:
        newest = page_at(harness, pipeline.id, PageCursor()).runs[0]
        assert newest == truth(pipeline.id, newest.number or 0)
        statuses.add(newest.status)
    assert statuses >= {Status.SUCCESS, Status.RUNNING}


@pytest.mark.parametrize("generation", ["personal", "region"])
def test_run_without_status_has_all_other_fields(generation: str) -> None:
    """The status is undocumented, so its absence is not reported. Whether the run has ended is unknown."""
    harness = FlowHarness(generation)
    harness.cloud.run_status = False
    page = page_at(harness, BUSY.id, PageCursor())
    assert {one.status for one in page.runs} == {Status.UNKNOWN}
    assert [(one.number, one.start, one.end) for one in page.runs] == [
        (one.number, one.start, one.end) for one in (truth(BUSY.id, one.number or 0) for one in page.runs)
    ]
    assert page.unknown_values <= {("trigger_mode", "4")}


@generations
def test_pipeline_that_never_ran_has_an_empty_page(generation: str) -> None:
    (page,) = pages(FlowHarness(generation), NEVER_RAN.id)
    assert (page.rows, page.runs, page.incomplete) == (0, [], False)


@generations
def test_deleted_pipeline_is_not_found(generation: str) -> None:
    """It is not an empty page, since its runs are unknown."""
    harness = FlowHarness(generation)
    gone = harness.cloud.pipeline_id(BUSY.id)
    harness.cloud.deleted = {BUSY.id}
    kind, code = harness.failure(harness.provider.runs_request(gone, PageCursor(), 10))
    assert kind is FailureKind.CONTENT
    assert code.endswith("NotFound")


# -- rows


@each_generation
def test_summaries_keep_the_order_of_the_page(generation: str) -> None:
    page = read(row(2), row(0), row(1), generation=generation)
    assert (page.rows, page.runs) == (3, [run(2), run(0), run(1)])
    assert (page.incomplete, page.rejected, page.unknown_values) == (False, [], set())
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
UNKNOWN_STATUSES = ["FAILED", "CANCELLED", "UNKOWN", "Success", "NEVER_HEARD_OF", " FAIL", "失败", 3]


@pytest.mark.parametrize(("word", "status"), WORDS.items())
def test_status_of_a_run_is_translated(word: str, status: Status) -> None:
    page = read(row(status=word))
    assert page.runs == [run(status=status, end=END if status.final else None)]
    assert not page.unknown_values


@pytest.mark.parametrize("word", ["SKIP", *UNKNOWN_STATUSES])
def test_status_of_a_run_without_translation_is_unknown_and_reported(word: Any) -> None:
    """It is neither a failure nor dropped, and keeps its end. Only stages are skipped."""
    page = read(row(status=word))
    assert page.runs == [run(status=Status.UNKNOWN)]
    assert page.unknown_values == {("status", str(word))}


@pytest.mark.parametrize("change", ["remove", "null", "replace"])
def test_missing_status_is_not_reported(change: str) -> None:
    page = read(corrupted(row(), ("status",), change, ""))
    assert page.runs == [run(status=Status.UNKNOWN)]
    assert not page.unknown_values


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
def test_trigger_is_translated(mode: Any, started_by: Trigger) -> None:
    page = read(row(triggerMode=mode))
    assert page.runs == [run(trigger=started_by)]
    assert not page.unknown_values


@pytest.mark.parametrize("mode", [0, 4, 7, -1, "manual"])
def test_unknown_trigger_is_reported(mode: Any) -> None:
    """4 occurs in responses and is undocumented."""
    page = read(row(triggerMode=mode))
    assert page.runs == [run(trigger=Trigger.UNKNOWN)]
    assert page.unknown_values == {("trigger_mode", str(mode))}


@pytest.mark.parametrize("end", [0, "0", "", None, -1, "absent"])
@pytest.mark.parametrize("status", ["RUNNING", "SUCCESS", "NEVER_HEARD_OF"])
def test_every_format_of_no_end_is_an_absent_end(end: Any, status: str) -> None:
    found = row(endTime=end, status=status)
    if end == "absent":
        del found["endTime"]
    page = read(found)
    assert [(one.start, one.end, one.duration) for one in page.runs] == [(START, None, None)]
    assert not {field for field, _ in page.unknown_values} - {"status"}


@pytest.mark.parametrize("value", [START * 1000, START * 1000.0, str(START * 1000), "2025-05-27T02:59:59Z"])
def test_every_format_of_a_start_is_read(value: Any) -> None:
    """Whole milliseconds are documented; the others are accepted as well."""
    assert run_of(startTime=value) == run()


def test_text_that_is_not_a_time_is_reported_and_absent() -> None:
    page = read(row(startTime="soon"))
    assert page.runs == [run(start=None)]
    assert page.unknown_values == {("time", "soon")}


def test_end_of_a_running_run_is_ignored() -> None:
    """A restarted run keeps its id, and may keep its earlier end."""
    assert run_of(status="RUNNING") == run(status=Status.RUNNING, end=None)


@pytest.mark.parametrize("number", [7, "7", 7.0, " 7"])
def test_run_number_is_also_the_id(number: Any) -> None:
    """In one format, since requests for details use the id."""
    assert run_of(pipelineRunId=number) == run()


# -- rejected rows


@pytest.mark.parametrize("change", ["remove", "null", "replace"])
def test_row_without_pipeline_id_belongs_to_the_requested_pipeline(change: str) -> None:
    assert read(corrupted(row(), ("pipelineId",), change, "")).runs == [run()]


@pytest.mark.parametrize("spelling", [int(PIPELINE), PIPELINE])
def test_pipeline_id_may_be_number_or_text(spelling: Any) -> None:
    assert run_of(pipelineId=spelling) == run()


@pytest.mark.parametrize("stranger", [OTHER, str(OTHER), 0, f" {PIPELINE}", "x" * LABEL_LENGTH])
def test_row_of_another_pipeline_is_rejected(stranger: Any) -> None:
    """It counts as a row, and the page stays complete."""
    page = read(row(pipelineId=stranger), row(1))
    assert (page.rows, page.runs, page.unreadable, page.incomplete) == (2, [run(1)], 0, False)
    ((reason, message),) = page.rejected
    assert reason == "not_requested"
    assert len(message) < 300


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
@each_generation
def test_unusable_row_is_unreadable(generation: str, changes: dict[str, Any], reason: str) -> None:
    """It may be any run of the pipeline, so that absence proves nothing."""
    page = read(row(0, **changes), row(1), generation=generation)
    assert (page.rows, page.runs, page.unreadable, page.incomplete) == (2, [run(1)], 1, True)
    assert [found for found, _ in page.rejected] == [reason]


def test_corrupted_row_of_another_pipeline_leaves_the_page_complete() -> None:
    page = read(row(0, pipelineId=OTHER, status=["FAIL"]), row(1))
    assert (page.runs, page.unreadable) == ([run(1)], 0)
    assert [reason for reason, _ in page.rejected] == ["unreadable"]


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_last_of_two_rows_of_a_run_is_used(order: tuple[int, int]) -> None:
    twins = [row(), row(status="RUNNING", endTime=None)]
    page = read(*(twins[index] for index in order), row(1))
    assert [(one.id, one.status) for one in page.runs] == [
        ("7", (Status.SUCCESS, Status.RUNNING)[order[-1]]),
        ("8", Status.SUCCESS),
    ]
    assert [reason for reason, _ in page.rejected] == ["duplicate"]
    assert not page.incomplete


@each_generation
def test_every_row_is_counted(generation: str) -> None:
    """Rejected rows are counted as well."""
    others: list[Any] = [None, 1, "x", [], {}, row(pipelineId=OTHER), row(0, status=True), row(0), row(0)]
    page = read(*others, row(1), generation=generation)
    assert page.rows == len(others) + 1
    assert page.runs == [run(0), run(1)]
    assert page.unreadable == 6


@each_generation
@pytest.mark.parametrize(
    "literal", [b'"\xff\xfe"', b'"\\ud83d"', b"1e999", b"9" * 9999], ids=["bytes", "half", "number", "digits"]
)
@pytest.mark.parametrize("place", ["creatorAccountId", "creator", "triggerMode", "endTime"])
def test_corrupted_text_affects_its_field_only(generation: str, place: str, literal: bytes) -> None:
    """It affects neither its row nor another."""
    answer = body(generation, [row(0, **{place: "SPOILT"}), row(1)]).replace(b'"SPOILT"', literal)
    flow = PROVIDERS[generation]
    assert flow.failure(flow.runs_request(PIPELINE, PageCursor(), 30), 200, {}, answer) is None
    page = flow.read_runs(answer, PIPELINE, NOW, {})
    assert [(one.number, one.start) for one in page.runs] == [(7, START), (8, START)]
    assert page.runs[1] == run(1)
    assert not page.incomplete
    str(page.runs).encode()


def test_labels_are_cut() -> None:
    assert len(run_of(creatorAccountId="é" * 1000).executor) == LABEL_LENGTH


def test_thousands_of_rows_are_decoded_quickly() -> None:
    """Even if none of them is as documented."""
    page = body("signed", [row(index, creatorAccountId=[]) for index in range(2000)])
    started = time.process_time()
    found = PROVIDERS["signed"].read_runs(page, PIPELINE, NOW, {})
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
"""Fields of a run that depend on a field of its row, in addition to its id."""


def test_every_field_is_covered() -> None:
    assert set(HANGS_ON) == set(row()) - {"pipelineId", "pipelineRunId"}


@given(
    st.sampled_from(list(PROVIDERS)),
    st.sampled_from(list(HANGS_ON)),
    st.sampled_from(["null", "remove", "replace"]),
    json_values,
)
@examples(150)
def test_corrupted_field_affects_no_other(generation: str, field: str, change: str, value: Any) -> None:
    """For any value of one field, the fields that do not depend on it are decoded as before."""
    page = read(corrupted(row(), (field,), change, value), generation=generation)
    if field == "status" and page.rejected:
        return  # a record with an invalid status is rejected
    assert not page.rejected
    (spoiled,) = page.runs
    assert {
        name for name in Run.__struct_fields__ if getattr(spoiled, name) != getattr(run(), name)
    } <= HANGS_ON[field]


@given(
    st.sampled_from(list(PROVIDERS)),
    st.sampled_from(list(row())),
    st.sampled_from(["null", "remove", "replace"]),
    json_values,
    st.integers(2, 5),
    st.randoms(use_true_random=False),
)
@settings(deadline=None)
def test_corrupted_row_affects_no_other(
    generation: str, field: str, change: str, value: Any, count: int, chance: random.Random
) -> None:
    """For any value of one field of one row, the others are decoded as if alone, in any order."""
    flow = PROVIDERS[generation]
    rows = [row(index) for index in range(1, count)]
    victim = corrupted(row(0), (field,), change, value)
    rows.append(victim)
    chance.shuffle(rows)
    answer = body(generation, rows)
    assert flow.failure(flow.runs_request(PIPELINE, PageCursor(), 30), 200, {}, answer) is None
    page = flow.read_runs(answer, PIPELINE, NOW, {})
    assert page.rows == count
    if any(reason == "duplicate" for reason, _ in page.rejected):
        return  # with the number of another run the last of both is used
    sound = [
        run(int(item["creatorAccountId"].removeprefix("account-"))) for item in rows if item is not victim
    ]
    assert [one for one in page.runs if one in sound] == sound
    # The corrupted row is the run with its number, or the page is incomplete. Exception: it became a valid row of another
    # pipeline or another number.
    if field not in {"pipelineId", "pipelineRunId"}:
        assert 7 in {one.number for one in page.runs} or page.incomplete


@given(
    st.sampled_from(list(PROVIDERS)),
    st.lists(json_values, min_size=1, max_size=3),
    st.randoms(use_true_random=False),
)
@settings(deadline=None)
def test_item_that_is_not_a_row_is_unreadable(
    generation: str, others: list[Any], chance: random.Random
) -> None:
    """Each item that is not a run is counted, and the runs next to it are decoded."""
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


@given(st.sampled_from(list(PROVIDERS)), st.integers(199, 300), bodies)
@examples(200)
def test_any_success_can_be_decoded(generation: str, status: int, answer: bytes) -> None:
    """Decoding a success never raises, and every failure has a message."""
    flow = PROVIDERS[generation]
    failure = flow.failure(flow.runs_request(PIPELINE, PageCursor(), 30), status, {}, answer)
    if failure is None:
        assert 200 <= status < 300
        page = flow.read_runs(answer, PIPELINE, NOW, {})
        assert len(page.runs) + len(page.rejected) == page.rows
    else:
        assert failure.message or failure.error_code
