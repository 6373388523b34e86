"""What somebody does to runs shows in every operation, no sooner and no later; and what was told is known afterwards."""

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exporter.simulator import (
    CodeArts,
    FaultRates,
    InjectedFault,
    Scenario,
    ScenarioGenerator,
    SimulatedRun,
    State,
    Status,
    World,
    running,
)
from exporter.simulator.http.faults import encoded
from tests.unit.simulator.test_codearts import OVER, SEED, UNDER_WAY, Desk, _same_shape

WORLD = World(seed=5, pipelines=20)
NOW = WORLD.start + 1_000.25
OWN, OTHER = (pipeline.id for pipeline in WORLD.pipelines[:2])
FATES = [Status.COMPLETED, Status.FAILED, Status.CANCELED, Status.IGNORED]
BATCH, LIST = "BatchShowPipelinesLatestStatus", "ListPipelines"
DETAIL, RUNS = "ShowPipelineRunDetail", "ListPipelineRuns"

Shown = tuple[str, int, str, float, float | None]


def shown(record: Any) -> Shown:
    """What a record says of its run: id, number, status, start and end."""
    end = record["end_time"]
    return (
        record.get("pipeline_run_id") or record["id"],
        record["run_number"],
        record["status"],
        record["start_time"] / 1000,
        None if end is None else end / 1000,
    )


class Stage(Desk):
    """A cloud that tells a story, asked without a port; time passes when told to."""

    def __init__(self, story: Scenario | None = None, now: float = NOW) -> None:
        self.story = story or Scenario(WORLD)
        super().__init__(self.story.world, now, self.story)

    def after(self, seconds: float) -> float:
        """Let time pass; gives the moment after it."""
        self.now += seconds
        return self.now

    def latest(self) -> Shown | None:
        """The latest run, which three operations tell alike; None if there is none."""
        (row, *_) = self.listed()["pipelines"]
        records, told = self.batch(OWN).json(), self.detail(OWN)
        if row["latest_run"] is None:
            assert (records, told["error_code"]) == ([], "DEVPIPE.00011402")
            return None
        assert [shown(row["latest_run"])] == [shown(told)] == [shown(record) for record in records]
        return shown(told)

    def of(self, run: SimulatedRun) -> Shown | None:
        """A run, which its detail and the list of runs tell alike; None if it is in neither."""
        rows = [shown(row) for row in self.runs(OWN, limit=100)["pipeline_runs"]]
        told = self.detail(OWN, run.id)
        found = [row for row in rows if row[0] == run.id]
        assert found == ([] if "error_code" in told else [shown(told)])
        return found[0] if found else None

    def numbers(self) -> list[int]:
        """The numbers of the runs, oldest start first."""
        return [row["run_number"] for row in self.runs(OWN, limit=100, sort_dir="asc")["pipeline_runs"]]

    def stages(self, run: SimulatedRun) -> list[tuple[str, str]]:
        """Names and statuses of the stages of a run."""
        return [(stage["name"], stage["status"]) for stage in self.detail(OWN, run.id)["stages"]]


@pytest.fixture
def stage() -> Stage:
    return Stage()


@pytest.fixture
def story(stage: Stage) -> Scenario:
    return stage.story


# -- runs begin and end


def test_pipelines_are_those_of_the_world_and_have_no_runs(stage: Stage) -> None:
    rows = stage.listed(limit=100)["pipelines"]
    assert [(row["pipeline_id"], row["latest_run"]) for row in rows] == [
        (pipeline.id, None) for pipeline in WORLD.pipelines
    ]
    assert stage.latest() is None
    assert stage.runs(OWN)["total"] == 0


def test_a_run_shows_in_all_operations_from_its_beginning_on(stage: Stage, story: Scenario) -> None:
    run = story.begin(OWN, NOW)
    assert stage.latest() == stage.of(run) == (run.id, 1, "RUNNING", NOW, None)
    assert stage.batch(OTHER).json() == []
    stage.now = NOW - 0.001
    assert stage.latest() is stage.of(run) is None


@pytest.mark.parametrize("fate", FATES)
def test_a_run_ends_in_its_fate(stage: Stage, story: Scenario, fate: Status) -> None:
    run = story.begin(OWN, NOW)
    end = stage.after(75.125)
    story.end(run, end, fate)
    assert stage.latest() == stage.of(run) == (run.id, 1, fate, NOW, end)
    reached = [status for _, status in stage.stages(run) if status != "INIT"]
    assert set(reached[:-1]) <= {"COMPLETED"}
    assert reached[-1] == fate
    assert len(reached) == len(stage.stages(run)) or fate is not Status.COMPLETED
    stage.now = end - 0.001
    assert stage.latest() == (run.id, 1, "RUNNING", NOW, None)


def test_the_latest_run_is_the_one_that_started_last_whichever_ended_last(
    stage: Stage, story: Scenario
) -> None:
    first = story.begin(OWN, NOW)
    second = story.begin(OWN, stage.after(60))
    story.end(second, stage.after(60), Status.COMPLETED)
    story.end(first, stage.after(60), Status.FAILED)
    assert stage.latest() == (second.id, 2, "COMPLETED", NOW + 60, NOW + 120)
    assert stage.of(first) == (first.id, 1, "FAILED", NOW, NOW + 180)
    assert stage.numbers() == [1, 2]


def test_of_two_that_start_together_the_greater_number_is_the_latest(stage: Stage, story: Scenario) -> None:
    story.begin(OWN, NOW, number=7)
    waiting = story.reserve(OWN)
    ninth = story.begin(OWN, stage.after(1))
    story.begin(OWN, stage.now, number=waiting)
    told = stage.latest()
    assert told is not None
    assert told[:2] == (ninth.id, 9)
    assert stage.numbers() == [7, 8, 9]


@pytest.mark.parametrize("word", [Status.PAUSED, Status.SUSPEND])
def test_a_run_is_held_and_goes_on(stage: Stage, story: Scenario, word: Status) -> None:
    run = story.begin(OWN, NOW)
    story.hold(run, stage.after(10), word)
    stage.after(86_400)
    assert stage.latest() == (run.id, 1, word, NOW, None)
    held = stage.stages(run)
    assert [status for _, status in held if status != "INIT"] == [word]
    story.go_on(run, stage.now)
    assert stage.latest() == (run.id, 1, "RUNNING", NOW, None)
    stage.after(86_400)
    assert [status for _, status in stage.stages(run)][-1] == "RUNNING"
    story.end(run, stage.now, Status.COMPLETED)
    assert {status for _, status in stage.stages(run)} == {"COMPLETED"}


def test_a_run_may_wait_before_its_stages_begin(stage: Stage, story: Scenario) -> None:
    run, canceled = (story.begin(OWN, NOW, status=Status.QUEUED) for _ in range(2))
    stage.after(600)
    assert stage.of(run) == (run.id, 1, "QUEUED", NOW, None)
    assert {status for _, status in stage.stages(run)} == {"INIT"}
    story.go_on(run, stage.now)
    story.end(canceled, stage.now, Status.CANCELED)
    stage.after(5)
    assert stage.stages(run)[0][1] == "RUNNING"
    assert stage.of(canceled) == (canceled.id, 2, "CANCELED", NOW, NOW + 600)
    assert {status for _, status in stage.stages(canceled)} == {"INIT"}


def test_an_end_that_is_kept_back_is_told_later(stage: Stage, story: Scenario) -> None:
    run = story.begin(OWN, NOW)
    story.end(run, stage.after(60), Status.COMPLETED, tell_end=False)
    assert stage.latest() == stage.of(run) == (run.id, 1, "COMPLETED", NOW, None)
    story.tell(run, stage.after(60))
    assert stage.latest() == stage.of(run) == (run.id, 1, "COMPLETED", NOW, NOW + 60)


@pytest.mark.parametrize("tell_end", [True, False])
def test_a_word_of_its_own_stands_in_the_place_of_the_status(
    stage: Stage, story: Scenario, tell_end: bool
) -> None:
    run = story.begin(OWN, NOW)
    story.end(run, stage.after(60), Status.FAILED, word="ARCHIVED", tell_end=tell_end)
    assert stage.latest() == stage.of(run) == (run.id, 1, "ARCHIVED", NOW, NOW + 60 if tell_end else None)
    assert stage.runs(OWN, status=["ARCHIVED"])["total"] == 1
    assert stage.runs(OWN, status=["FAILED"])["total"] == 0
    assert ("ARCHIVED", "FAILED") not in stage.stages(run)
    story.end(run, stage.after(60), Status.CANCELED)
    assert stage.latest() == (run.id, 1, "CANCELED", NOW, NOW + 120)


def test_a_run_is_retried_under_its_id(stage: Stage, story: Scenario) -> None:
    run = story.begin(OWN, NOW)
    story.end(run, stage.after(60), Status.FAILED)
    before = stage.stages(run)
    story.retry(run, stage.after(60))
    assert stage.latest() == (run.id, 1, "RUNNING", NOW, None)
    failed = [status for _, status in before].index("FAILED")
    assert stage.stages(run)[:failed] == before[:failed]
    assert stage.stages(run)[failed][1] == "QUEUED"
    story.end(run, stage.after(60), Status.COMPLETED)
    assert stage.latest() == (run.id, 1, "COMPLETED", NOW, NOW + 180)
    assert {status for _, status in stage.stages(run)} == {"COMPLETED"}


def test_an_old_run_that_is_retried_does_not_become_the_latest(stage: Stage, story: Scenario) -> None:
    old = story.begin(OWN, NOW)
    story.end(old, stage.after(60), Status.CANCELED)
    new = story.begin(OWN, stage.after(60))
    story.retry(old, stage.after(86_400))
    assert stage.latest() == (new.id, 2, "RUNNING", NOW + 120, None)
    assert stage.of(old) == (old.id, 1, "RUNNING", NOW, None)


def test_a_failure_is_ignored_with_the_same_end(stage: Stage, story: Scenario) -> None:
    run = story.begin(OWN, NOW)
    story.end(run, stage.after(60), Status.FAILED)
    before = stage.detail(OWN)["stages"]
    story.ignore(run, stage.after(60))
    assert stage.latest() == (run.id, 1, "IGNORED", NOW, NOW + 60)
    after = stage.detail(OWN)["stages"]
    assert [(one["start_time"], one["end_time"]) for one in before] == [
        (one["start_time"], one["end_time"]) for one in after
    ]


# -- numbers


def test_a_number_given_early_shows_nowhere_until_its_run_begins(stage: Stage, story: Scenario) -> None:
    story.begin(OWN, NOW)
    waiting = story.reserve(OWN)
    third = story.begin(OWN, stage.after(60))
    assert (waiting, third.number) == (2, 3)
    assert stage.numbers() == [1, 3]
    assert story.reserved(OWN) == {2}
    second = story.begin(OWN, stage.after(60), number=waiting)
    assert stage.latest() == (second.id, 2, "RUNNING", NOW + 120, None)
    assert stage.numbers() == [1, 3, 2]
    assert story.reserved(OWN) == set()
    assert story.begin(OWN, stage.after(60)).number == 4


def test_numbers_are_skipped(stage: Stage, story: Scenario) -> None:
    story.begin(OWN, NOW)
    story.skip(OWN)
    story.begin(OWN, NOW)
    story.skip(OWN, 500)
    story.begin(OWN, NOW)
    story.begin(OWN, NOW, number=1_000)
    story.begin(OWN, NOW)
    assert stage.numbers() == [1, 3, 504, 1_000, 1_001]


@pytest.mark.parametrize("delete", [True, False])
def test_numbers_begin_anew_with_other_ids(stage: Stage, story: Scenario, delete: bool) -> None:
    old = [story.begin(OWN, stage.after(1)) for _ in range(3)]
    story.reserve(OWN)
    story.reset_numbers(OWN, stage.after(60), delete=delete)
    assert stage.numbers() == ([] if delete else [1, 2, 3])
    assert story.reserved(OWN) == set()
    new = story.begin(OWN, stage.after(60))
    assert stage.latest() == (new.id, 1, "RUNNING", stage.now, None)
    assert new.id not in {run.id for run in old}
    assert stage.numbers() == ([1] if delete else [1, 2, 3, 1])
    assert [truth.epoch for truth in story.truth(OWN)] == [0, 0, 0, 1]


def test_another_pipeline_comes_under_the_same_id(stage: Stage, story: Scenario) -> None:
    story.begin(OWN, NOW)
    story.begin(OTHER, NOW)
    story.recreate(OWN, stage.after(60))
    assert stage.latest() is None
    assert stage.numbers() == []
    assert stage.runs(OTHER)["total"] == 1
    assert story.begin(OWN, stage.after(60)).number == 1


# -- deletions


def test_the_newest_run_is_deleted_and_its_number_not_given_again(stage: Stage, story: Scenario) -> None:
    first = story.begin(OWN, NOW)
    story.end(first, stage.after(60), Status.COMPLETED)
    second = story.begin(OWN, stage.after(60))
    story.delete(second, stage.after(60))
    assert stage.latest() == (first.id, 1, "COMPLETED", NOW, NOW + 60)
    assert stage.of(second) is None
    assert story.begin(OWN, stage.after(60)).number == 3


@pytest.mark.parametrize("over", [True, False])
def test_an_older_run_is_deleted(stage: Stage, story: Scenario, over: bool) -> None:
    first, second = story.begin(OWN, NOW), story.begin(OWN, NOW)
    if over:
        story.end(first, stage.after(60), Status.FAILED)
    story.delete(first, stage.after(60))
    assert stage.of(first) is None
    assert stage.numbers() == [2]
    assert stage.latest() == (second.id, 2, "RUNNING", NOW, None)


IMPOSSIBLE: dict[str, Callable[[Scenario, SimulatedRun], Any]] = {
    "ends as running": lambda story, run: story.end(run, NOW + 9, Status.RUNNING),
    "goes on running": lambda story, run: story.go_on(run, NOW + 9),
    "is held as running": lambda story, run: story.hold(run, NOW + 9, Status.RUNNING),
    "is retried under way": lambda story, run: story.retry(run, NOW + 9),
    "is ignored under way": lambda story, run: story.ignore(run, NOW + 9),
    "has nothing to tell": lambda story, run: story.tell(run, NOW + 9),
    "ends before it began": lambda story, run: story.end(run, NOW - 1, Status.FAILED),
    "begins at its end": lambda story, run: story.begin(OWN, NOW, status=Status.FAILED),
    "takes a given number": lambda story, run: story.begin(OWN, NOW, number=run.number),
}


@pytest.mark.parametrize("case", IMPOSSIBLE)
def test_what_cannot_happen(story: Scenario, case: str) -> None:
    run = story.begin(OWN, NOW)
    before = story.truth(OWN)
    with pytest.raises(ValueError, match=r"run|number"):
        IMPOSSIBLE[case](story, run)
    assert story.truth(OWN) == before


def test_nothing_happens_to_what_is_over_but_a_retry_or_a_change_of_mind(story: Scenario) -> None:
    run = story.begin(OWN, NOW)
    story.end(run, NOW, Status.COMPLETED)
    for action in (
        lambda: story.end(run, NOW, Status.COMPLETED),
        lambda: story.hold(run, NOW),
        lambda: story.go_on(run, NOW),
        lambda: story.ignore(run, NOW),
        lambda: story.tell(run, NOW),
    ):
        with pytest.raises(ValueError, match="run"):
            action()
    story.delete(run, NOW)
    for action in (lambda: story.retry(run, NOW), lambda: story.delete(run, NOW)):
        with pytest.raises(ValueError, match="does not exist"):
            action()


def test_a_pipeline_that_is_none(story: Scenario) -> None:
    with pytest.raises(KeyError):
        story.begin("f" * 32, NOW)


# -- switches


def test_the_batch_is_behind_and_the_others_are_not(stage: Stage, story: Scenario) -> None:
    run = story.begin(OWN, NOW)
    story.end(run, stage.after(60), Status.FAILED)
    story.begin(OWN, stage.after(60))
    story.delete(run, stage.after(60))
    stage.cloud.stale = 30
    told = []
    for _ in range(5):
        told += [[shown(row)[1:3] for row in stage.batch(OWN).json()]]
        stage.now -= 40
    assert told == [[(2, "RUNNING")], [(1, "FAILED")], [(1, "FAILED")], [(1, "RUNNING")], []]
    stage.now = NOW + 180
    stage.cloud.stale = 100
    assert shown(stage.batch(OWN).json()[0])[:2] == (run.id, 1)
    assert shown(stage.detail(OWN))[1] == 2
    assert stage.numbers() == [2]


@pytest.mark.parametrize("way", ["asc", "desc"])
def test_the_list_of_runs_comes_in_an_order_of_its_own(stage: Stage, story: Scenario, way: str) -> None:
    runs = [story.begin(OWN, NOW + place) for place in range(30)]
    stage.after(60)

    def numbers(**body: Any) -> list[int]:
        rows = stage.runs(OWN, limit=50, sort_dir=way, **body)["pipeline_runs"]
        return [row["run_number"] for row in rows]

    upwards = [run.number for run in runs]
    assert numbers() == (upwards if way == "asc" else upwards[::-1])
    stage.cloud.runs_order = "ascending"
    assert numbers() == numbers(sort_key="update_time") == upwards
    stage.cloud.runs_order = "descending"
    assert numbers() == numbers(sort_key="update_time") == upwards[::-1]
    stage.cloud.runs_order = "random"
    assert numbers() not in (upwards, upwards[::-1])
    assert sorted(numbers()) == upwards
    assert stage.runs(OWN, sort_key="colour")["error_code"] == "PARSE_REQUEST_DATA_EXCEPTION"


def test_orders_are_for_the_runs_that_are_destined_as_well() -> None:
    desk = Desk(WORLD)
    pipeline = next(pipeline for pipeline in WORLD.pipelines if pipeline.first is not None)
    usual = desk.runs(pipeline.id, limit=50)["pipeline_runs"]
    desk.cloud.runs_order = "ascending"
    rows = desk.runs(pipeline.id, limit=50)["pipeline_runs"]
    assert [row["run_number"] for row in rows] == list(range(1, 51))
    desk.cloud.runs_order = "random"
    assert desk.runs(pipeline.id, limit=50)["pipeline_runs"] not in (rows, usual)
    desk.cloud.stale = 400 * 86_400
    assert desk.batch(pipeline.id).json() == []


# -- truth, and what was told


def test_the_truth_is_all_that_ever_was(story: Scenario) -> None:
    run = story.begin(OWN, NOW)
    story.hold(run, NOW + 1, Status.SUSPEND)
    story.go_on(run, NOW + 2)
    story.end(run, NOW + 3, Status.FAILED, tell_end=False)
    story.tell(run, NOW + 4)
    story.ignore(run, NOW + 5)
    story.retry(run, NOW + 6)
    story.end(run, NOW + 7, Status.COMPLETED, word="NOVEL")
    story.delete(run, NOW + 8)
    (truth,) = story.truth(OWN)
    assert (truth.id, truth.number, truth.epoch, truth.deleted) == (run.id, 1, 0, NOW + 8)
    assert truth.states == (
        State(NOW, "RUNNING", NOW, None),
        State(NOW + 1, "SUSPEND", NOW, None),
        State(NOW + 2, "RUNNING", NOW, None),
        State(NOW + 3, "FAILED", NOW, None),
        State(NOW + 4, "FAILED", NOW, NOW + 3),
        State(NOW + 5, "IGNORED", NOW, NOW + 3),
        State(NOW + 6, "RUNNING", NOW, None),
        State(NOW + 7, "NOVEL", NOW, NOW + 7),
    )
    assert story.truth(OTHER) == ()


OPERATIONS: dict[str, tuple[str, str, Any]] = {
    BATCH: ("POST", "status", [OWN]),
    LIST: ("POST", "list", {"project_id": WORLD.project_id}),
    DETAIL: ("GET", f"{OWN}/pipeline-runs/detail", None),
    RUNS: ("POST", f"{OWN}/pipeline-runs/list", {}),
}


def _ask(stage: Stage, operation: str) -> None:
    method, path, body = OPERATIONS[operation]
    stage.ask(method, f"{stage.pipelines}/{path}", json=body)


@pytest.mark.parametrize("operation", OPERATIONS)
def test_every_operation_is_witnessed(stage: Stage, story: Scenario, operation: str) -> None:
    """Each state once, with the moment of the answer; what nobody asked about was not told."""
    run = story.begin(OWN, NOW)
    story.begin(OTHER, NOW)
    assert story.told(OWN) == {}
    stage.after(0.5)
    for _ in range(3):
        _ask(stage, operation)
    story.end(run, stage.after(60), Status.COMPLETED)
    story.retry(run, stage.after(1))
    story.end(run, stage.after(1), Status.FAILED)
    _ask(stage, operation)
    stage.after(60)
    _ask(stage, operation)
    first, last = story.told(OWN)[run.id]
    assert (first.moment, first.operation, first.status, first.start, first.end, first.final) == (
        NOW + 0.5,
        operation,
        "RUNNING",
        NOW,
        None,
        False,
    )
    assert (last.moment, last.status, last.start, last.end, last.final) == (
        NOW + 62.5,
        "FAILED",
        NOW,
        NOW + 62.5,
        True,
    )
    assert bool(story.told(OTHER)) == (operation == LIST)


def test_the_stages_that_were_told_are_those_on_the_wire(stage: Stage, story: Scenario) -> None:
    run = story.begin(OWN, NOW)
    story.end(run, stage.after(200), Status.CANCELED)
    stage.detail(OWN)
    (telling,) = story.told(OWN)[run.id]
    wire = [
        (
            one["name"],
            one["status"],
            None if one["end_time"] is None else (one["end_time"] - one["start_time"]) / 1000,
        )
        for one in stage.detail(OWN)["stages"]
    ]
    assert list(telling.stages) == wire
    # Another operation tells the same, and so nothing new.
    for operation in (BATCH, LIST, RUNS):
        _ask(stage, operation)
    assert story.told(OWN) == {run.id: (telling,)}


def test_stages_under_way_are_news(stage: Stage, story: Scenario) -> None:
    run = story.begin(OWN, NOW)
    for _ in range(100):
        stage.batch(OWN)
        stage.after(30)
    told = story.told(OWN)[run.id]
    assert {telling.status for telling in told} == {"RUNNING"}
    assert len(WORLD.pipelines[0].stages) <= len(told) <= 4 * len(WORLD.pipelines[0].stages)


@pytest.mark.parametrize("operation", OPERATIONS)
@pytest.mark.parametrize(
    "injected_fault",
    [InjectedFault.BAD_GATEWAY, InjectedFault.CUT, InjectedFault.NULL, InjectedFault.ERROR_OBJECT],
    ids=lambda m: m.name,
)
def test_what_did_not_go_out_was_not_told(
    stage: Stage, story: Scenario, operation: str, injected_fault: InjectedFault
) -> None:
    story.begin(OWN, NOW)
    stage.cloud.injected_fault, stage.cloud.injected_fault_operation = injected_fault, operation
    _ask(stage, operation)
    assert story.told(OWN) == {}
    stage.cloud.injected_fault_operation = "Another"
    _ask(stage, operation)
    assert len(story.told(OWN)) == 1


def test_of_a_garbled_batch_all_but_the_first_run_are_told(stage: Stage, story: Scenario) -> None:
    for pipeline_id in (OWN, OTHER):
        story.begin(pipeline_id, NOW)
    stage.cloud.injected_fault = InjectedFault.GARBLED
    stage.batch(OWN, OTHER)
    assert story.told(OWN) == {}
    assert len(story.told(OTHER)) == 1


def test_a_refusal_tells_nothing(stage: Stage, story: Scenario) -> None:
    story.begin(OWN, NOW)
    stage.ask("POST", f"{stage.pipelines}/status", headers={}, json=[OWN])
    stage.cloud.batch_limit = 0
    stage.batch(OWN)
    stage.cloud.batch_limit = None
    stage.cloud.poison = {OWN}
    stage.batch(OWN)
    stage.detail(OWN)
    stage.cloud.poison, stage.cloud.throttle = set(), (0, 60)
    stage.batch(OWN)
    assert story.told(OWN) == {}


def test_a_rewritten_batch_tells_nothing_of_the_story(stage: Stage, story: Scenario) -> None:
    story.begin(OWN, NOW)
    stage.cloud.rewrite = lambda records: [record | {"status": "FAILED"} for record in records]
    assert stage.batch(OWN).json()[0]["status"] == "FAILED"
    assert story.told(OWN) == {}


def test_a_stale_answer_is_told_when_it_is_given(stage: Stage, story: Scenario) -> None:
    run = story.begin(OWN, NOW)
    story.end(run, NOW + 60, Status.COMPLETED)
    stage.cloud.stale = 30
    for moment in (NOW + 70, NOW + 100):
        stage.now = moment
        stage.batch(OWN)
    assert [(telling.moment, telling.status) for telling in story.told(OWN)[run.id]] == [
        (NOW + 70, "RUNNING"),
        (NOW + 100, "COMPLETED"),
    ]


# -- forgetting


def test_what_is_forgotten_never_was(stage: Stage, story: Scenario) -> None:
    old, young, deleted, latest = (story.begin(OWN, NOW) for _ in range(4))
    open_ = story.begin(OWN, NOW - 1)
    for run, seconds in ((old, 10), (young, 100), (latest, 10)):
        story.end(run, NOW + seconds, Status.FAILED)
    story.delete(deleted, NOW + 10)
    stage.after(200)
    stage.runs(OWN)
    story.forget(NOW + 50)
    assert [truth.id for truth in story.truth(OWN)] == [run.id for run in (open_, young, latest)]
    assert set(story.told(OWN)) == {open_.id, young.id, latest.id}
    assert stage.of(old) is None
    told = stage.latest()
    assert told is not None
    assert told[0] == latest.id
    with pytest.raises(ValueError, match="does not exist"):
        story.retry(old, stage.now)
    assert story.begin(OWN, stage.now).number == 6


def test_the_latest_that_is_left_is_kept(stage: Stage, story: Scenario) -> None:
    first, second = story.begin(OWN, NOW), story.begin(OWN, NOW)
    for run in (first, second):
        story.end(run, NOW + 1, Status.FAILED)
    story.delete(second, NOW + 2)
    stage.after(60)
    story.forget(stage.now)
    told = stage.latest()
    assert told is not None
    assert told[0] == first.id


# -- the wire, and laws


WILD = FaultRates(**{**dict.fromkeys(FaultRates.__slots__, 0.2), "reset": 0.02, "recreated": 0.02})
# A deadline would measure the machine, and every example is a whole project.
PATIENT = settings(deadline=None, max_examples=30)
seeds = st.integers(0, 1_000)
IDS = [pipeline.id for pipeline in WORLD.pipelines]


def played(seed: int, seconds: float = 10_000) -> Stage:
    """A cloud whose pipelines have had hours of everything that can happen."""
    story = Scenario(WORLD)
    ScenarioGenerator(story, seed, WILD).play(WORLD.start + seconds)
    return Stage(story, WORLD.start + seconds)


def test_records_have_the_shape_of_the_vendors_example() -> None:
    for record in played(1).batch(*IDS).json():
        unknown = record["status"] not in OVER | UNDER_WAY
        _same_shape([record | {"status": "FAILED"} if unknown else record], SEED)


@PATIENT
@given(seeds, st.floats(0, 10_000))
def test_the_parts_of_any_run_agree(seed: int, offset: float) -> None:
    """At any moment, whatever has happened: times within the run, in order, and where the words say."""
    stage = played(seed)
    now = WORLD.start + offset
    for pipeline in WORLD.pipelines:
        for run in stage.story.history(pipeline, now):
            assert run.start <= now + 0.001
            until = int(run.end if run.end is not None else now)
            clock = int(run.start)
            for one in run.stages:
                assert (one.start is None) == (one.status in {Status.INIT, Status.QUEUED})
                assert (one.end is None) == (one.status not in OVER)
                for moment in (one.start, one.end):
                    if moment is not None:
                        assert clock <= moment <= until
                        clock = moment
            reached = [one.status for one in run.stages if one.status is not Status.INIT]
            assert all(one.status is Status.INIT for one in run.stages[len(reached) :])
            assert set(reached[:-1]) <= {Status.COMPLETED}
            if run.status.over:
                assert reached[-1] is run.status
                assert len(reached) == len(run.stages) or run.status is not Status.COMPLETED


@PATIENT
@given(seeds, st.lists(st.floats(0, 10_000), min_size=2, max_size=6))
def test_stages_take_nothing_back(seed: int, offsets: list[float]) -> None:
    """Save that a retry begins a stage anew."""
    story = played(seed).story
    for pipeline in WORLD.pipelines:
        for truth in story.truth(pipeline.id):
            seen = [story.run(pipeline, truth.id, WORLD.start + offset) for offset in sorted(offsets)]
            again = [
                after.moment
                for before, after in pairwise(truth.states)
                if after.status == "RUNNING" and before.status not in UNDER_WAY
            ]
            for (early, before), (late, after) in pairwise(zip(sorted(offsets), seen, strict=True)):
                if before is None or after is None:
                    continue
                if any(early < moment - WORLD.start <= late for moment in again):
                    continue
                for was, now in zip(before.stages, after.stages, strict=True):
                    assert was.start in {None, now.start}
                    # An unknown word may have been taken for the end too early.
                    assert was.end in {None, now.end} or before.word is not None


@PATIENT
@given(
    seeds,
    st.integers(1, 30),
    st.sampled_from(["asked", "ascending", "descending", "random"]),
    st.sampled_from(["asc", "desc"]),
)
def test_pages_in_whatever_order_hold_every_run_once(seed: int, limit: int, order: Any, way: str) -> None:
    stage = played(seed)
    stage.cloud.runs_order = order
    for pipeline in WORLD.pipelines[:3]:
        rows: list[Any] = []
        while page := stage.runs(pipeline.id, offset=len(rows), limit=limit, sort_dir=way)["pipeline_runs"]:
            rows += page
        expected = {truth.id for truth in stage.story.truth(pipeline.id) if truth.deleted is None}
        assert len(rows) == len(expected)
        assert {row["pipeline_run_id"] for row in rows} == expected


@PATIENT
@given(seeds, st.lists(st.floats(1, 4_000), min_size=1, max_size=12), st.floats(0, 10_000))
def test_a_stale_answer_is_that_of_then(seed: int, steps: list[float], stale: float) -> None:
    """However much has happened since, the batch tells what it told when it was not behind."""
    stage = Stage(now=WORLD.start)
    drama = ScenarioGenerator(stage.story, seed, WILD)
    answers = []
    for step in steps:
        drama.play(stage.after(step))
        answers.append((stage.now, stage.batch(*IDS).content))
    drama.play(stage.after(stale))
    for moment, content in answers:
        stage.cloud.stale = stage.now - moment
        assert stage.batch(*IDS).content == content


@PATIENT
@given(seeds, st.lists(st.tuples(st.floats(1, 2_000), st.sampled_from(list(OPERATIONS))), max_size=12))
def test_what_was_told_was_true(seed: int, questions: list[tuple[float, str]]) -> None:
    """Each telling is a state that the run had at that moment, and no two in a row are the same."""
    stage = Stage(now=WORLD.start)
    drama = ScenarioGenerator(stage.story, seed, WILD)
    for seconds, operation in questions:
        drama.play(stage.after(seconds))
        _ask(stage, operation)
    for pipeline_id in IDS:
        told = stage.story.told(pipeline_id)
        truths = {truth.id: truth for truth in stage.story.truth(pipeline_id)}
        assert set(told) <= set(truths)
        for run_id, tellings in told.items():
            truth = truths[run_id]
            for telling in tellings:
                state = [state for state in truth.states if state.moment <= round(telling.moment, 3)][-1]
                assert (telling.status, telling.start, telling.end) == (state.status, state.start, state.end)
                assert truth.deleted is None or telling.moment < truth.deleted + 0.001
            assert all(not after.repeats(before) for before, after in pairwise(tellings))


def test_ids_are_never_given_twice() -> None:
    story = played(3).story
    ids = [truth.id for pipeline_id in IDS for truth in story.truth(pipeline_id)]
    assert len(ids) == len(set(ids)) > 150
    assert {len(run_id) for run_id in ids} == {32}


def test_a_story_on_a_port() -> None:
    """As an exporter meets it; the test acts while nobody asks."""
    story = Scenario(WORLD)
    cloud = CodeArts(WORLD, clock=lambda: NOW + 60, runs=story)
    run = story.begin(OWN, NOW)
    path = f"/v5/{WORLD.project_id}/api/pipelines"
    token = {"X-Auth-Token": cloud.credentials.token}
    with running(cloud.app) as url, httpx.Client(base_url=url, headers=token, timeout=5) as client:
        (record,) = client.post(f"{path}/status", json=[OWN]).json()
        assert shown(record) == (run.id, 1, "RUNNING", NOW, None)
        story.end(run, NOW + 60, Status.FAILED)
        told = client.get(f"{path}/{OWN}/pipeline-runs/detail", params={"pipeline_run_id": run.id})
        assert shown(told.json()) == (run.id, 1, "FAILED", NOW, NOW + 60)
        cloud.injected_fault, cloud.injected_fault_operation = InjectedFault.BAD_GATEWAY, RUNS
        assert client.post(f"{path}/{OWN}/pipeline-runs/list", content=encoded({})).status_code == 502
    assert [(telling.operation, telling.final) for telling in story.told(OWN)[run.id]] == [
        (BATCH, False),
        (DETAIL, True),
    ]
