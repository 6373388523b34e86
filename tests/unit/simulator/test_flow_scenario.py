"""What somebody does to runs shows in Flow's words, and what Flow told of them is known afterwards."""

from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exporter.simulator import FaultRates, InjectedFault, Scenario, ScenarioGenerator, Status, World
from exporter.simulator.flow.layout import layout
from exporter.simulator.flow.serialized import in_full
from exporter.simulator.flow.vocabulary import known, word
from tests.unit.simulator.test_flow import WORLD, Door, Site, milliseconds

NOW = WORLD.start + 1_000.25
OWN, OTHER = (pipeline.id for pipeline in WORLD.pipelines[:2])
# Stages that stand side by side, and one pipeline that has them.
PARALLEL = [
    pipeline
    for pipeline in WORLD.pipelines
    if layout(pipeline).aside is not None and not layout(pipeline).nameless
]
LIST_RUNS, GET_RUN, LATEST = "ListPipelineRuns", "GetPipelineRun", "GetLatestPipelineRun"
OVER = {"SUCCESS", "FINISH", "FAIL", "CANCELED"}
UNDER_WAY = {"RUNNING", "PAUSED", "SUSPEND"}


class Stage(Site):
    """A cloud that tells a story; time passes when told to."""

    def __init__(self, door: Door, world: World = WORLD, now: float = NOW) -> None:
        self.story = Scenario(world)
        super().__init__(door, world, now, self.story)

    def after(self, seconds: float) -> float:
        """Let time pass; gives the moment after it."""
        self.now += seconds
        return self.now

    def shown(self, pipeline_id: str = OWN) -> tuple[int, str, int, int | None] | None:
        """Number, status, start and end of the latest run, which both generations tell alike; None if there is none."""
        signed = self.runs(pipeline_id)["pipelineRuns"]
        bare = self.bare(f"/{self.id(pipeline_id)}/runs").json()
        latest = self.latest(pipeline_id)
        if not signed:
            assert (bare, latest["errorCode"]) == ([], "NotFound")
            return None
        told = [
            (row["pipelineRunId"], row["status"], row["startTime"], row.get("endTime") or None)
            for row in (signed[0], bare[0])
        ]
        number, status, start, _ = told[0]
        detail = self.run(pipeline_id, number)["pipelineRun"]
        assert told[0] == told[1]
        for record in (latest, detail):
            seen = record["pipelineRunId"], record["status"], record["createTime"]
            assert seen == (number, status, start)
        return told[0]

    def stages(self, pipeline_id: str = OWN) -> list[tuple[str, str, int | None, int | None]]:
        """Places, statuses, starts and ends of the stages of the latest run."""
        return [
            (stage["index"], *(stage["stageInfo"][key] for key in ("status", "startTime", "endTime")))
            for stage in self.latest(pipeline_id)["stages"]
        ]


@pytest.fixture(scope="module")
def door() -> Iterator[Door]:
    with Door.open() as door:
        yield door


@pytest.fixture
def stage(door: Door) -> Stage:
    return Stage(door)


# -- words


@pytest.mark.parametrize(
    ("fate", "told"),
    [
        (Status.COMPLETED, "SUCCESS"),
        (Status.FAILED, "FAIL"),
        (Status.CANCELED, "CANCELED"),
        (Status.IGNORED, "SUCCESS"),
    ],
)
def test_a_run_ends_in_its_fate(stage: Stage, fate: Status, told: str) -> None:
    run = stage.story.begin(OWN, NOW)
    assert stage.shown() == (1, "RUNNING", milliseconds(NOW), None)
    end = stage.after(75.875)
    stage.story.end(run, end, fate)
    assert stage.shown() == (1, told, milliseconds(NOW), milliseconds(end))
    reached = [status for _, status, start, _ in stage.stages() if start is not None]
    assert set(reached[:-1]) <= OVER - {"FAIL"}
    # What comes after is still to come, or skipped if the failure was.
    rest = {status for _, status, start, _ in stage.stages() if start is None}
    assert rest <= ({"SKIP"} if fate is Status.IGNORED else {"INIT"})
    assert milliseconds(end) in [ended for *_, ended in stage.stages()]


def test_a_failure_that_is_ignored_becomes_a_success_with_the_same_end(stage: Stage) -> None:
    run = stage.story.begin(OWN, NOW)
    stage.story.end(run, stage.after(30), Status.FAILED)
    before = stage.shown()
    assert before is not None
    stage.story.ignore(run, stage.after(30))
    assert stage.shown() == (1, "SUCCESS", *before[2:])


@pytest.mark.parametrize("state", [Status.PAUSED, Status.SUSPEND])
def test_what_is_held_waits(stage: Stage, state: Status) -> None:
    run = stage.story.begin(OWN, NOW)
    stage.story.hold(run, stage.after(10), state)
    assert stage.shown() == (1, "WAITING", milliseconds(NOW), None)
    statuses = [status for _, status, _, _ in stage.stages()]
    assert "WAITING" in statuses
    jobs = [job for told in stage.latest(OWN)["stages"] for job in told["stageInfo"]["jobs"]]
    assert [job["actions"][0]["type"] for job in jobs if job["actions"]] == ["PassPipelineValidate"]
    stage.story.go_on(run, stage.after(10))
    assert stage.shown() == (1, "RUNNING", milliseconds(NOW), None)


@pytest.mark.parametrize(("status", "told"), [(Status.QUEUED, "WAITING"), (Status.INIT, "INIT")])
def test_a_run_may_wait_before_it_runs(stage: Stage, status: Status, told: str) -> None:
    stage.story.begin(OWN, NOW, status=status)
    stage.after(60)
    assert stage.shown() == (1, told, milliseconds(NOW), None)
    assert {status for _, status, _, _ in stage.stages()} == {"INIT"}


def test_a_word_of_its_own_is_passed_on(stage: Stage) -> None:
    run = stage.story.begin(OWN, NOW)
    stage.story.end(run, stage.after(60), Status.FAILED, word="UNKOWN")
    assert stage.shown() == (1, "UNKOWN", milliseconds(NOW), milliseconds(stage.now))
    assert [row["pipelineRunId"] for row in stage.runs(OWN, status="UNKOWN")["pipelineRuns"]] == [1]


def test_an_end_that_is_kept_back_is_told_nowhere(stage: Stage) -> None:
    """Neither by the list nor by the stages and jobs that ended with the run."""
    run = stage.story.begin(OWN, NOW)
    end = stage.after(75.5)
    stage.story.end(run, end, Status.FAILED, tell_end=False)
    stage.after(60)
    assert stage.shown() == (1, "FAIL", milliseconds(NOW), None)
    assert str(milliseconds(end)) not in str(stage.latest(OWN))
    stage.story.tell(run, stage.now)
    assert stage.shown() == (1, "FAIL", milliseconds(NOW), milliseconds(end))
    assert str(milliseconds(end)) in str(stage.latest(OWN))


def test_a_retry_is_the_same_run(stage: Stage) -> None:
    run = stage.story.begin(OWN, NOW)
    stage.story.end(run, stage.after(60), Status.FAILED)
    stage.story.retry(run, stage.after(60))
    assert stage.shown() == (1, "RUNNING", milliseconds(NOW), None)
    stage.story.end(run, stage.after(60), Status.COMPLETED)
    assert stage.shown() == (1, "SUCCESS", milliseconds(NOW), milliseconds(stage.now))


def test_numbers_are_ids(stage: Stage) -> None:
    """Of two runs with one number, after numbers began anew, the later is the one that is found by it."""
    story = stage.story
    for _ in range(3):
        story.begin(OWN, stage.after(1))
    story.skip(OWN, 5)
    story.begin(OWN, stage.after(1))
    assert [row["pipelineRunId"] for row in stage.runs(OWN)["pipelineRuns"]] == [9, 3, 2, 1]
    assert stage.run(OWN, 4)["Code"] == "InvalidPipelineRun.NotFound"
    story.reset_numbers(OWN, stage.after(1))
    again = story.begin(OWN, stage.after(1))
    assert stage.run(OWN, 1)["pipelineRun"]["createTime"] == milliseconds(stage.now)
    story.delete(again, stage.after(1))
    assert stage.run(OWN, 1)["pipelineRun"]["createTime"] == milliseconds(NOW + 1)


def test_what_is_being_cancelled_says_so(door: Door) -> None:
    """As far as that is destined."""
    site = Site(door)
    for pipeline in WORLD.pipelines:
        for number in range(1, 30):
            run = WORLD.run(pipeline.id, number, NOW * 2)
            if (
                run is None
                or run.status is not Status.CANCELED
                or run.end is None
                or run.end - run.start < 60
            ):
                continue
            site.now = run.end - 1
            told = site.run(pipeline.id, number)["pipelineRun"]
            assert told["status"] == "RUNNING"
            assert "CANCELLING" in {stage["stageInfo"]["status"] for stage in told["stages"]}
            return
    pytest.fail("nothing was ever cancelled")


def test_every_trigger_is_a_number(door: Door) -> None:
    site = Site(door)
    site.cloud.page_limit = 500
    busy = min((p for p in WORLD.pipelines if p.first is not None), key=lambda pipeline: pipeline.period)
    rows = site.runs(busy.id, maxResults=500)["pipelineRuns"]
    assert {row["triggerMode"] for row in rows} == {1, 2, 3, 4, 5, 6}


# -- stages side by side


def test_some_pipelines_have_stages_side_by_side(door: Door) -> None:
    site = Site(door)
    share = sum(layout(pipeline).aside is not None for pipeline in WORLD.pipelines) / len(WORLD.pipelines)
    assert 0.15 < share < 0.45
    for pipeline in PARALLEL[:5]:
        told = site.run(pipeline.id, 1).get("pipelineRun")
        if told is None:
            continue
        sizes = sorted(map(len, told["stageGroup"]))
        assert sizes == [1] * (len(pipeline.stages) - 1) + [2]
        names = [stage["name"] for stage in told["stages"]]
        assert len(set(names)) == len(names) == len(pipeline.stages) + 1


def test_a_stage_without_a_name_has_that_of_its_place(door: Door) -> None:
    site = Site(door)
    nameless = next(
        pipeline for pipeline in WORLD.pipelines if layout(pipeline).nameless and pipeline.first is not None
    )
    told = site.latest(nameless.id)
    assert [stage["name"] for stage in told["stages"]] == [stage["index"] for stage in told["stages"]]
    assert told["stageGroup"][0][0] == "Group0-Stage0"


PATIENT = settings(deadline=None, max_examples=30)
ORDER = dict.fromkeys(OVER | {"SKIP"}, 3) | {"RUNNING": 2, "CANCELLING": 2, "WAITING": 1, "INIT": 0}


@PATIENT
@given(
    pipeline=st.sampled_from([pipeline for pipeline in PARALLEL if pipeline.first is not None]),
    number=st.integers(1, 300),
    shares=st.lists(st.floats(0, 1.2), min_size=2, max_size=5),
)
def test_groups_come_one_after_the_other(door: Door, pipeline: Any, number: int, shares: list[float]) -> None:
    """Stages of a group begin together and end before the next group begins; and time takes nothing back."""
    run = WORLD.run(pipeline.id, number, NOW * 2)
    assert run is not None
    assert run.end is not None
    site = Site(door)
    before: list[Any] = []
    for share in sorted(shares):
        site.now = run.start + share * (run.end - run.start)
        told = site.bare(f"/{site.id(pipeline.id)}/runs/{number}").json()
        stages = {stage["index"]: stage["stageInfo"] for stage in told["stages"]}
        clock = told["createTime"]
        for group in told["stageGroup"]:
            starts = {stages[index]["startTime"] for index in group}
            assert len(starts) == 1
            (start,) = starts
            assert start is None or start >= clock
            clock = max([clock, *(stages[index]["endTime"] or clock for index in group)])
            for index in group:
                info = stages[index]
                ran = [job for job in info["jobs"] if job["startTime"] is not None]
                assert bool(ran) is (info["startTime"] is not None)
                if ran:
                    assert ran[0]["startTime"] == info["startTime"]
                    assert ran[-1]["endTime"] == info["endTime"]
        assert clock <= site.now * 1000
        assert told["updateTime"] >= clock
        after = list(stages.values())
        for was, now in zip(before, after, strict=False):
            assert was["startTime"] in {None, now["startTime"]}
            assert was["endTime"] in {None, now["endTime"]}
            if "WAITING" not in {was["status"], now["status"]}:
                assert ORDER[now["status"]] >= ORDER[was["status"]]
        before = after


# -- what was told

OPERATIONS = (LIST_RUNS, GET_RUN, LATEST)


def _ask(stage: Stage, operation: str, pipeline_id: str = OWN, *, signed: bool = True) -> None:
    path = f"/{stage.id(pipeline_id)}"
    latest = stage.story.latest(pipeline_id, stage.now)
    number = "" if operation == LIST_RUNS else f"/{latest.number if latest else 1}"
    if operation == LATEST:
        stage.bare(f"{path}/runs/latestPipelineRun")
    elif signed:
        stage.ask(f"{path}/pipelineRuns{number}", operation)
    else:
        stage.bare(f"{path}/runs{number}")


@pytest.mark.parametrize("signed", [True, False])
@pytest.mark.parametrize("operation", OPERATIONS)
def test_every_operation_that_tells_runs_is_witnessed(stage: Stage, operation: str, signed: bool) -> None:
    """Each state once, in the seconds that were told, with stages if those were."""
    story = stage.story
    run = story.begin(OWN, NOW)
    story.begin(OTHER, NOW)
    stage.after(0.5)
    for _ in range(3):
        _ask(stage, operation, signed=signed)
    story.end(run, stage.after(60), Status.COMPLETED)
    _ask(stage, operation, signed=signed)
    first, last = story.told(OWN)[run.id]
    assert (first.moment, first.operation, first.status, first.start, first.end, first.final) == (
        NOW + 0.5,
        operation,
        "RUNNING",
        int(NOW),
        None,
        False,
    )
    assert (last.status, last.start, last.end, last.final) == ("COMPLETED", int(NOW), int(stage.now), True)
    assert bool(last.stages) is (operation != LIST_RUNS)
    assert story.told(OTHER) == {}


def test_the_stages_that_were_told_are_those_on_the_wire(stage: Stage) -> None:
    pipeline = PARALLEL[0]
    run = stage.story.begin(pipeline.id, NOW)
    stage.story.end(run, stage.after(3_000), Status.COMPLETED)
    record = stage.latest(pipeline.id)
    (telling,) = stage.story.told(pipeline.id)[run.id]
    assert [(name, seconds) for name, _, seconds in telling.stages] == [
        (one["name"], (one["stageInfo"]["endTime"] - one["stageInfo"]["startTime"]) // 1000)
        for one in record["stages"]
    ]
    assert len(telling.stages) == len(pipeline.stages) + 1
    # The list says nothing of stages, and so nothing new.
    stage.runs(pipeline.id)
    stage.latest(pipeline.id)
    assert stage.story.told(pipeline.id) == {run.id: (telling,)}


def test_a_list_and_a_look_together_tell_all(stage: Stage) -> None:
    """However often they take turns, each tells the run once."""
    run = stage.story.begin(OWN, NOW)
    stage.story.end(run, stage.after(60), Status.FAILED)
    for _ in range(3):
        stage.runs(OWN)
        stage.latest(OWN)
    listed, looked = stage.story.told(OWN)[run.id]
    assert (listed.operation, listed.stages) == (LIST_RUNS, ())
    assert looked.operation == LATEST
    assert looked.stages


@pytest.mark.parametrize("operation", OPERATIONS)
@pytest.mark.parametrize(
    "injected_fault",
    [InjectedFault.CUT, InjectedFault.NULL, InjectedFault.ERROR_OBJECT],
    ids=lambda m: m.name,
)
def test_what_did_not_go_out_was_not_told(
    stage: Stage, operation: str, injected_fault: InjectedFault
) -> None:
    run = stage.story.begin(OWN, NOW)
    stage.cloud.injected_fault, stage.cloud.injected_fault_operation = injected_fault, operation
    _ask(stage, operation)
    stage.cloud.injected_fault, stage.cloud.throttle = None, (0, 60)
    _ask(stage, operation)
    stage.cloud.throttle, stage.cloud.forbidden = None, {OWN}
    _ask(stage, operation)
    assert stage.story.told(OWN) == {}
    stage.cloud.forbidden = set()
    _ask(stage, operation)
    assert set(stage.story.told(OWN)) == {run.id}


def test_of_a_garbled_list_all_but_the_first_run_are_told(stage: Stage) -> None:
    runs = [stage.story.begin(OWN, NOW + place) for place in range(3)]
    stage.after(10)
    stage.cloud.injected_fault = InjectedFault.GARBLED
    path = f"/{stage.id(OWN)}/pipelineRuns"
    content = stage.ask(path, LIST_RUNS).content.decode("utf-8", "replace")
    assert content.index("\ufffd") < content.index('"pipelineRunId":2')
    assert set(stage.story.told(OWN)) == {run.id for run in runs[:2]}


WILD = FaultRates(**{**dict.fromkeys(FaultRates.__slots__, 0.2), "reset": 0.0, "recreated": 0.0})
SMALL = World(seed=5, pipelines=8)


@PATIENT
@given(
    seed=st.integers(0, 1_000),
    questions=st.lists(
        st.tuples(st.floats(1, 2_000), st.sampled_from(OPERATIONS), st.booleans()), min_size=1, max_size=8
    ),
)
def test_what_was_told_was_true(door: Door, seed: int, questions: list[tuple[float, str, bool]]) -> None:
    """Whatever happens: each telling is a state that the run had at that moment, as far as Flow tells states apart."""
    stage = Stage(door, SMALL, SMALL.start)
    drama = ScenarioGenerator(stage.story, seed, WILD)
    for seconds, operation, signed in questions:
        drama.play(stage.after(seconds))
        for pipeline in SMALL.pipelines:
            _ask(stage, operation, pipeline.id, signed=signed)
            assert stage.cloud.requests[-1].status in {200, 404}
    statuses = {status.value: known(status).value for status in Status}
    for pipeline in SMALL.pipelines:
        truths = {truth.id: truth for truth in stage.story.truth(pipeline.id)}
        for run_id, tellings in stage.story.told(pipeline.id).items():
            for telling in tellings:
                states = truths[run_id].states
                state = [state for state in states if state.moment <= round(telling.moment, 3)][-1]
                assert telling.status == statuses.get(state.status, state.status)
                assert telling.start == int(state.start)
                assert telling.end == (None if state.end is None else int(state.end))
            assert all(not after.repeats(before) for before, after in pairwise(tellings))


@PATIENT
@given(seed=st.integers(0, 1_000), offsets=st.lists(st.floats(0, 10_000), min_size=2, max_size=6))
def test_stages_take_nothing_back(seed: int, offsets: list[float]) -> None:
    """Save that a retry begins a stage anew; and no record goes back."""
    story = Scenario(SMALL)
    ScenarioGenerator(story, seed, WILD).play(SMALL.start + 10_000)
    for pipeline in SMALL.pipelines:
        for truth in story.truth(pipeline.id):
            again = [
                after.moment - SMALL.start
                for before, after in pairwise(truth.states)
                if after.status == "RUNNING" and before.status not in UNDER_WAY
            ]
            early, was, word_was = 0.0, None, None
            for late in sorted(offsets):
                run = story.run(pipeline, truth.id, SMALL.start + late)
                now = run and in_full(pipeline, run, SMALL.start + late)
                if was and now:
                    assert was.changed <= now.changed <= SMALL.start + late
                # An unknown word may have been taken for the end too early.
                if was and now and word_was is None and not any(early < moment <= late for moment in again):
                    for before, after in zip(was.run.stages, now.run.stages, strict=True):
                        assert before.name == after.name
                        assert before.start in {None, after.start}
                        assert before.end in {None, after.end}
                early, was, word_was = late, now, run and run.word


def test_every_state_of_the_world_has_a_word() -> None:
    assert {word(status) for status in Status} == {
        "SUCCESS", "RUNNING", "FAIL", "CANCELED", "WAITING", "INIT", "SKIP",
    }  # fmt: skip
