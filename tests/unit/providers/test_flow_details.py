"""The details of a run: its stages in the order of their groups, and none of what users put into them."""

import json
import random
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exporter.core.failures import FailureKind
from exporter.core.model import JOBS, LABEL_LENGTH, STAGES, Job, Run, Stage, Status, Trigger
from exporter.providers.protocol import RunDetail
from exporter.simulator.flow.organization import executor
from exporter.simulator.flow.personal_records import SECRET
from exporter.simulator.flow.serialized import serialize
from exporter.simulator.flow.vocabulary import trigger
from tests.unit.providers.test_codearts import json_values, spoilt
from tests.unit.providers.test_flow_lists import SPOKEN, spoken
from tests.unit.providers.test_flow_requests import RAN, TODAY, WORLD, Desk, generations
from tests.unit.providers.test_flow_runs import STATUSES_OF_THE_WORLD, TRIGGERS, UNKNOWN_WORDS, WORDS

DATA = Path(__file__).parents[2] / "data"
SEED = (DATA / "flow_run_seed.json").read_bytes()
NOW = 1_781_700_000.0
PIPELINE = "4185805"
CREATED, START, END = 1_781_661_495, 1_781_661_512, 1_781_661_647
TIMES = {"startTime": START * 1000, "endTime": END * 1000}
HASH = "0f3c1d2e4b5a69788796a5b4c3d2e1f001234567"
PRIVATE = "hunter2-nobody-may-see-this"


def job(index: int = 0, **changes: Any) -> dict[str, Any]:
    return {
        "id": 217_000_000 + index,
        "jobSign": f"sign_{index}",
        "name": f"job-{index}",
        "status": "SUCCESS",
        **TIMES,
        "params": "{}",
        "result": None,
        "actions": None,
        **changes,
    }


def stage(index: int = 0, *, group: int | None = None, info: Any = None, **changes: Any) -> dict[str, Any]:
    """A stage; `changes` take the place of its information's own, or `info` of all of that."""
    name = changes.get("name", f"stage-{index}")
    told = {"id": 91_000_000 + index, "name": name, "status": "SUCCESS", **TIMES, "jobs": [job(0), job(1)]}
    at = f"Group{index if group is None else group}-Stage{0 if group is None else index}"
    return {"index": at, "name": name, "stageInfo": {**told, **changes} if info is None else info}


def record(**changes: Any) -> dict[str, Any]:
    """A finished run in the vendor's shape; `changes` take the place of its own."""
    return {
        "createTime": CREATED * 1000,
        "updateTime": END * 1000,
        "creatorAccountId": "account-0",
        "modifierAccountId": "account-1",
        "pipelineId": int(PIPELINE),
        "pipelineRunId": 7,
        "status": "SUCCESS",
        "triggerMode": 1,
        "stageGroup": [["Group0-Stage0"], ["Group1-Stage0"]],
        "sources": [
            {"sign": "s", "type": "Codeup", "data": {"branch": "main", "commint": "{}", "repo": "r"}}
        ],
        "stages": [stage(0), stage(1)],
        **changes,
    }


def body(answer: Any, generation: str = "personal") -> bytes:
    if isinstance(answer, bytes):
        return answer
    if generation != "signed":
        return json.dumps(answer).encode()
    blank = {"errorMessage": '""', "errorCode": '""'}
    return json.dumps({"requestId": "r-1", "pipelineRun": answer, "success": True, **blank}).encode()


def read(answer: Any, generation: str = "personal", pipeline: str = PIPELINE) -> RunDetail:
    return SPOKEN[generation].read_detail(body(answer, generation), pipeline, NOW)


def run_of(**changes: Any) -> Run:
    detail = read(record(**changes))
    assert not detail.rejected
    assert detail.run is not None
    return detail.run


def stages_of(*stages: Any, groups: Any = None) -> tuple[Stage, ...]:
    return run_of(stages=list(stages), stageGroup=groups).stages


def sequences(*stages: Any, groups: Any) -> list[tuple[str, int]]:
    return [(one.name, one.sequence) for one in stages_of(*stages, groups=groups)]


# -- whole answers


def test_the_documented_answer_is_read_as_documented() -> None:
    """Byte for byte, though a stage is under way in a run that succeeded, and a group has another name than its stage."""
    said = SPOKEN["signed"]
    assert said.failure(said.detail_request("1234", "1"), 200, {}, SEED) is None
    detail = read(SEED, "signed", "1234")
    assert (detail.rejected, detail.words, detail.implausible_times) == ([], set(), "")
    building = Job("Java构建", 0, Status.RUNNING, start=1586863220)
    assert detail.run == Run(
        id="1",
        number=1,
        status=Status.SUCCESS,
        start=1586863220,
        end=None,
        trigger=Trigger.MANUAL,
        branch="master",
        executor="1111111111",
        stages=(Stage("Java构建", 0, Status.RUNNING, start=1586863220, jobs=(building,)),),
    )


def test_a_run_that_waits_for_somebody() -> None:
    """By a personal token: parallel stages of one name, told in another order than they stand, and null for never."""
    answer = (DATA / "flow_run_personal.json").read_bytes()
    said = SPOKEN["personal"]
    assert said.failure(said.detail_request(PIPELINE, "587"), 200, {}, answer) is None
    detail = read(answer)
    assert (detail.rejected, detail.words) == ([], set())
    start = 1_781_661_512
    success, failed, waiting = Status.SUCCESS, Status.FAILED, Status.WAITING
    assert detail.run == Run(
        id="587",
        number=587,
        status=Status.WAITING,
        start=start,
        end=None,
        trigger=Trigger.PUSH,
        branch="release/1.8",
        executor="665694bf0123456789abcdef",
        stages=(
            Stage("构建", 0, success, start, 60, (Job("Java 构建", 0, success, start, 60),)),
            Stage("测试", 1, success, start + 62, 28, (Job("接口测试", 0, success, start + 62, 28),)),
            Stage(
                "测试",
                2,
                failed,
                start + 62,
                85,
                (Job("单元测试", 0, success, start + 62, 39), Job("代码扫描", 1, failed, start + 62, 85)),
            ),
            Stage("审批", 3, waiting, start + 206, None, (Job("人工卡点", 0, waiting, start + 206),)),
            Stage("部署", 4, Status.PENDING, jobs=(Job("主机部署", 0, Status.PENDING),)),
        ),
    )
    assert PRIVATE.encode() in answer
    assert PRIVATE not in repr(detail)


def test_a_run_that_was_canceled() -> None:
    """By signed requests: two stages of one name, one of which was never reached, and keys that are absent for never."""
    answer = (DATA / "flow_run_signed.json").read_bytes()
    said = SPOKEN["signed"]
    assert said.failure(said.detail_request("2634510", "992"), 200, {}, answer) is None
    detail = read(answer, "signed", "2634510")
    assert (detail.rejected, detail.words) == ([], {("trigger_mode", "4")})
    start = 1_679_635_863
    success, canceled, skipped = Status.SUCCESS, Status.CANCELED, Status.SKIPPED
    assert detail.run == Run(
        id="992",
        number=992,
        status=Status.CANCELED,
        start=start,
        end=start + 301,
        branch="master",
        commit=HASH,
        executor="5e8f0123456789abcdef0123",
        stages=(
            Stage("Group0-Stage0", 0, success, start, 25, (Job("Checkout", 0, success, start, 25),)),
            Stage(
                "Build",
                1,
                success,
                start + 27,
                213,
                (Job("npm", 0, success, start + 27, 153), Job("Image", 1, success, start + 180, 60)),
            ),
            Stage("Lint", 2, success, start + 27, 33, (Job("eslint", 0, success, start + 27, 33),)),
            Stage("Deploy", 3, canceled, start + 241, 60, (Job("Staging", 0, canceled, start + 241, 60),)),
            Stage("Deploy", 4, skipped, jobs=(Job("Production", 0, skipped),)),
        ),
    )


@generations
def test_a_run_is_told_as_the_world_knows_it(generation: str) -> None:
    """Of every pipeline the latest run, down to its jobs, by either generation; secrets that lie about stay there."""
    desk = Desk(generation)
    statuses, aside = set(), 0
    for pipeline in RAN[:60]:
        run = WORLD.latest_run(pipeline.id, TODAY)
        assert run is not None
        told = serialize(pipeline, run, TODAY)
        identity = desk.cloud.pipeline_id(pipeline.id)
        answer, _ = desk.answer(desk.spoken.detail_request(identity, str(run.number)))
        detail = desk.spoken.read_detail(answer, identity, TODAY)
        assert not detail.rejected
        assert detail.words <= {("trigger_mode", "4")}
        stages = tuple(
            Stage(
                part.stage.name,
                place,
                STATUSES_OF_THE_WORLD[part.stage.status],
                part.stage.start,
                _lasted(part.stage),
                tuple(
                    Job(
                        one.job.name,
                        n,
                        STATUSES_OF_THE_WORLD[one.job.status],
                        one.job.start,
                        _lasted(one.job),
                    )
                    for n, one in enumerate(part.jobs)
                ),
            )
            for place, part in enumerate(told.stages)
        )
        status = STATUSES_OF_THE_WORLD[told.run.status]
        ends = [part.stage.end for part in told.stages if part.stage.end is not None]
        assert detail.run == Run(
            id=str(run.number),
            number=run.number,
            status=status,
            start=min(part.stage.start for part in told.stages if part.stage.start is not None),
            end=max(ends) if status.final else None,
            trigger=TRIGGERS[trigger(told.run)],
            branch=pipeline.branch,
            executor=executor(run),
            stages=stages,
        )
        assert status.final is (told.run.end is not None)
        if status.final:
            assert detail.run.end == told.run.end
        assert SECRET not in repr(detail)
        statuses |= {one.status for one in stages}
        aside += any(part.position.stage for part in told.stages)
    assert statuses >= {Status.SUCCESS, Status.FAILED, Status.RUNNING, Status.PENDING}
    assert aside > 5


def _lasted(part: Any) -> float | None:
    over = STATUSES_OF_THE_WORLD[part.status].final and part.end is not None and part.start is not None
    return part.end - part.start if over else None


@generations
def test_a_run_that_is_not_there_speaks_of_itself_alone(generation: str) -> None:
    desk = Desk(generation)
    identity = desk.cloud.pipeline_id(RAN[0].id)
    kind, code = desk.failure(desk.spoken.detail_request(identity, "999999"))
    assert kind is FailureKind.CONTENT
    assert code.endswith("NotFound")


@spoken
def test_both_generations_are_read_alike(generation: str) -> None:
    detail = read(record(), generation)
    assert (detail.rejected, detail.words) == ([], set())
    jobs = tuple(Job(f"job-{n}", n, Status.SUCCESS, START, 135) for n in (0, 1))
    assert detail.run == Run(
        id="7",
        number=7,
        status=Status.SUCCESS,
        start=START,
        end=END,
        trigger=Trigger.MANUAL,
        branch="main",
        executor="account-0",
        stages=tuple(Stage(f"stage-{n}", n, Status.SUCCESS, START, 135, jobs) for n in (0, 1)),
    )


# -- when a run began and ended, which its details do not tell


def timed(
    *spans: tuple[int | None, int | None, str], status: str = "SUCCESS"
) -> tuple[float | None, float | None]:
    """Start and end of a run whose stages have these times and statuses, in seconds from the start of the others."""
    stages = [
        stage(
            index,
            startTime=None if start is None else (START + start) * 1000,
            endTime=None if end is None else (START + end) * 1000,
            status=word,
        )
        for index, (start, end, word) in enumerate(spans)
    ]
    run = run_of(stages=stages, status=status)
    return tuple(None if told is None else told - START for told in (run.start, run.end))  # type: ignore[return-value]


def test_a_run_begins_with_its_first_stage_and_ends_with_its_last() -> None:
    """Whichever those are: stages stand side by side, and none says when its run was over."""
    assert timed((30, 60, "SUCCESS"), (0, 20, "SUCCESS"), (10, 90, "FAIL"), (20, 50, "FINISH")) == (0, 90)
    assert timed((0, 20, "SUCCESS"), (None, None, "SKIP"), (30, 40, "CANCELED")) == (0, 40)


def test_before_its_first_stage_a_run_begins_with_its_record() -> None:
    """Which is older than the start of a run that had to wait."""
    assert timed((None, None, "INIT"), status="WAITING") == (CREATED - START, None)
    assert run_of(stages=[]).start == CREATED
    assert run_of(stages=[], createTime=None).start is None


@pytest.mark.parametrize("status", ["RUNNING", "WAITING", "INIT", "NEVER_HEARD_OF", None])
def test_a_run_that_is_not_known_to_be_over_has_no_end(status: Any) -> None:
    assert timed((0, 20, "SUCCESS"), status=status) == (0, None)


@pytest.mark.parametrize(
    "unfinished",
    [
        (30, None, "RUNNING"),
        (30, 40, "RUNNING"),
        (30, None, "WAITING"),
        (30, 40, "NEVER_HEARD_OF"),
        (30, 40, "INIT"),
        (30, None, "CANCELED"),
        (30, None, "SUCCESS"),
    ],
)
def test_a_stage_that_began_and_has_not_ended_leaves_the_end_open(
    unfinished: tuple[int, int | None, str],
) -> None:
    """It was begun again, or its end is not told: the ends of the others are not the run's."""
    assert timed((0, 20, "SUCCESS"), unfinished, (20, 25, "FAIL")) == (0, None)


def test_a_stage_that_never_began_leaves_nothing_open() -> None:
    assert timed((0, 20, "FAIL"), (None, None, "INIT"), status="FAIL") == (0, 20)
    assert timed((None, None, "SKIP")) == (CREATED - START, None)


@pytest.mark.parametrize("never", [None, "", 0, "0", "absent"])
def test_spellings_of_never(never: Any) -> None:
    info = {"name": "A", "status": "INIT", "startTime": never, "endTime": never}
    if never == "absent":
        info = {"name": "A", "status": "INIT"}
    detail = read(record(stages=[stage(info={**info, "jobs": [info]})]))
    assert detail.run is not None
    assert detail.run.stages == (Stage("A", 0, Status.PENDING, jobs=(Job("A", 0, Status.PENDING),)),)
    assert not detail.words


def test_an_end_before_the_start_is_no_duration() -> None:
    backwards = {"startTime": END * 1000, "endTime": START * 1000}
    (told,) = stages_of(stage(**backwards, jobs=[job(**backwards)]))
    assert (told.duration, told.jobs[0].duration) == (None, None)


# -- the order of stages


def test_stages_stand_in_the_order_of_their_groups() -> None:
    """Those of one group side by side, however they are listed; each has a place of its own."""
    groups = [["Group0-Stage0"], ["Group1-Stage0", "Group1-Stage1"], ["Group2-Stage0"]]
    listed = [stage(2), stage(1, group=1, name="lint"), stage(0), stage(0, group=1, name="build")]
    assert sequences(*listed, groups=groups) == [("stage-0", 0), ("build", 1), ("lint", 2), ("stage-2", 3)]


@given(st.permutations(range(5)), st.integers(1, 5))
def test_the_order_of_the_list_does_not_matter(order: list[int], size: int) -> None:
    """Nor where one group ends and the next begins."""
    names = [f"Group{index}-Stage0" for index in range(5)]
    groups = [names[start : start + size] for start in range(0, 5, size)]
    listed = [stage(index, name="same") for index in order]
    assert stages_of(*listed, groups=groups) == stages_of(
        *(stage(n, name="same") for n in range(5)), groups=groups
    )


@pytest.mark.parametrize(
    "groups",
    [
        [["B"], ["A"]],
        [["B", "A"]],
        ["B", "A"],
        [["B"], "A"],
        [["B"], [], ["A"]],
        [["B", None], None, ["A"]],
        [["B", ""], [["x"], {}], ["A"]],
    ],
)
def test_groups_may_be_of_names_and_flat(groups: Any) -> None:
    """As the signed generation nests them, as the other documents them, and with what is no name passed over."""
    assert sequences(stage(0, name="A"), stage(1, name="B"), groups=groups) == [("B", 0), ("A", 1)]


def test_groups_may_be_of_names_that_only_the_information_tells() -> None:
    bare = {"index": None, "name": None}
    listed = [{**stage(0, name="A"), **bare}, {**stage(1, name="B"), **bare}]
    assert sequences(*listed, groups=[["B"], ["A"]]) == [("B", 0), ("A", 1)]


def test_an_index_is_surer_than_a_name() -> None:
    """A stage that nobody named bears the name of a place, which need not be its own."""
    listed = [stage(1, name="Group0-Stage0"), stage(0, name="A")]
    groups = [["Group0-Stage0"], ["Group1-Stage0"]]
    assert sequences(*listed, groups=groups) == [("A", 0), ("Group0-Stage0", 1)]


def test_stages_of_one_name_take_its_places_in_turn() -> None:
    listed = [
        {**stage(n, name="Deploy", status=word), "index": None} for n, word in enumerate(("FAIL", "SKIP"))
    ]
    told = stages_of(*listed, groups=[["Deploy"], ["Build"], ["Deploy"]])
    assert [(one.sequence, one.status) for one in told] == [(0, Status.FAILED), (2, Status.SKIPPED)]


@pytest.mark.parametrize("groups", [None, [], [[]], [None], "Group0-Stage0", 7, {}, [[{}]]])
def test_without_groups_the_order_of_the_list_serves(groups: Any) -> None:
    listed = [stage(1), stage(0), None, stage(1)]
    assert sequences(*listed, groups=groups) == [("stage-1", 0), ("stage-0", 1), ("stage-1", 3)]


def test_a_stage_that_no_group_names_takes_a_place_that_is_left_over() -> None:
    """In the vendor's example the only group names no stage; where no place is left it comes behind the others."""
    listed = [stage(7, name="A"), stage(1, name="B"), stage(8, name="C"), stage(9, name="D")]
    groups = [["阶段名称"], ["Group1-Stage0"], ["gone"]]
    assert sequences(*listed, groups=groups) == [("A", 0), ("B", 1), ("C", 2), ("D", 3)]
    listed = [stage(index, name=name) for index, name in enumerate("ABC")]
    assert sequences(*listed, groups=["x", "y", "x"]) == [("A", 0), ("B", 1), ("C", 2)]


@given(
    st.lists(
        st.none() | st.tuples(st.sampled_from(["a", "b", None]), st.sampled_from(["a", "c", None])),
        max_size=8,
    ),
    st.lists(
        st.lists(st.sampled_from(["a", "b", "c", None]), max_size=3) | st.sampled_from(["a", "c", None]),
        max_size=5,
    ),
)
@settings(deadline=None)
def test_every_stage_has_a_place_of_its_own(stages: list[Any], groups: list[Any]) -> None:
    """Else two samples of one page would be the same series, which fails a scrape."""
    listed = [
        told and {"index": told[0], "name": told[1], "stageInfo": {"status": "SUCCESS"}} for told in stages
    ]
    placed = [one.sequence for one in stages_of(*listed, groups=groups)]
    assert len(placed) == sum(told is not None for told in stages)
    assert placed == sorted(set(placed))


# -- stages and jobs


@pytest.mark.parametrize(
    ("info", "outer", "name"),
    [
        ("inner", "outer", "inner"),
        (None, "outer", "outer"),
        ("", "outer", "outer"),
        (None, None, "Group0-Stage0"),
    ],
)
def test_the_name_of_a_stage(info: Any, outer: Any, name: str) -> None:
    """Where nobody named it, it goes by its index."""
    told = {**stage(0, name=info), "name": outer}
    assert [one.name for one in stages_of(told)] == [name]


@pytest.mark.parametrize(("word", "status"), [*WORDS.items(), ("SKIP", Status.SKIPPED)])
def test_statuses_of_stages_and_jobs(word: str, status: Status) -> None:
    """Only what is over has a duration."""
    detail = read(record(stages=[stage(status=word, jobs=[job(status=word)])]))
    assert detail.run is not None
    (told,) = detail.run.stages
    for one in (told, told.jobs[0]):
        assert (one.status, one.duration) == (status, 135 if status.final else None)
    assert not detail.words


@pytest.mark.parametrize("word", ["", None, *UNKNOWN_WORDS, [], {}])
def test_unknown_statuses_are_told_by_their_level(word: Any) -> None:
    detail = read(record(stages=[stage(status=word, jobs=[job(status=word)])]))
    assert detail.run is not None
    (told,) = detail.run.stages
    assert (told.status, told.jobs[0].status) == (Status.UNKNOWN, Status.UNKNOWN)
    text = str(word) if isinstance(word, str | int) else ""
    assert detail.words == {("stage_status", text), ("job_status", text)}


@pytest.mark.parametrize("word", ["SKIP", "", None, *UNKNOWN_WORDS])
def test_a_status_that_no_run_has_is_unknown_and_told(word: Any) -> None:
    """In details it is documented, so that its absence is a word, too."""
    detail = read(record(status=word))
    assert detail.run is not None
    assert detail.run.status is Status.UNKNOWN
    assert detail.words == {("status", "" if word is None else str(word))}


@pytest.mark.parametrize("stages", [None, [], [None], "none", {}, [7, "x"]])
def test_a_run_without_stages(stages: Any) -> None:
    assert run_of(stages=stages).stages == ()


@pytest.mark.parametrize("info", [None, {}, [], "x"])
def test_a_stage_without_information_keeps_its_place(info: Any) -> None:
    bare = {**stage(0), "stageInfo": info}
    detail = read(record(stages=[bare, stage(1)]))
    assert detail.run is not None
    assert detail.run.stages[0] == Stage("stage-0", 0, Status.UNKNOWN)
    assert detail.run.stages[1] == run_of().stages[1]


@pytest.mark.parametrize("jobs", [None, [], [None], "none", {}])
def test_a_stage_without_jobs(jobs: Any) -> None:
    assert stages_of(stage(jobs=jobs)) == (Stage("stage-0", 0, Status.SUCCESS, START, 135),)


def test_jobs_stay_apart_by_their_place() -> None:
    """Their ids are others in each run, and their names may repeat; what is null keeps its place."""
    (told,) = stages_of(stage(jobs=[job(name="A"), None, job(name="A", id=1), job(name=None)]))
    assert [(one.name, one.sequence) for one in told.jobs] == [("A", 0), ("A", 2), ("", 3)]


def test_numbers_may_be_digits() -> None:
    """Of the run and on every level, as text as well as numbers."""

    def as_text(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: as_text(inner) for key, inner in value.items()}
        if isinstance(value, list):
            return [as_text(inner) for inner in value]
        return str(value) if isinstance(value, int) else value

    detail = read(as_text(record()))
    assert (detail.run, detail.words) == (run_of(), set())


def test_labels_are_cut() -> None:
    """Names of stages and jobs, the branch and who it was; two of the same start stay two."""
    long = "é" * 1000
    run = run_of(
        creatorAccountId=long,
        sources=[{"data": {"branch": long}}],
        stages=[stage(0, name=long + "1"), stage(1, name=long + "2", jobs=[job(name=long)])],
    )
    texts = [run.executor, run.branch, *(one.name for one in run.stages), run.stages[1].jobs[0].name]
    assert {len(text) for text in texts} == {LABEL_LENGTH}
    assert [one.sequence for one in run.stages] == [0, 1]


@pytest.mark.parametrize(
    ("stages", "jobs", "kept"),
    [(60, 1, (50, 50)), (1, 250, (1, 200)), (10, 30, (10, 200)), (50, 4, (50, 200))],
)
def test_more_than_the_bounds_are_cut(stages: int, jobs: int, kept: tuple[int, int]) -> None:
    """The first ones by their places stay; the end of the run is that of all."""
    inner = [job(n) for n in range(jobs)]
    listed = [stage(n, jobs=inner) for n in reversed(range(stages))]
    listed[0]["stageInfo"]["endTime"] = (END + 100) * 1000
    run = run_of(stages=listed, stageGroup=[[f"Group{n}-Stage0"] for n in range(stages)])
    assert (len(run.stages), sum(len(one.jobs) for one in run.stages)) == kept
    assert (STAGES, JOBS) == (50, 200)
    assert [one.name for one in run.stages] == [f"stage-{n}" for n in range(kept[0])]
    assert run.end == END + 100


# -- where a run comes from


@pytest.mark.parametrize(
    "sources",
    [
        [{"data": {"branch": "main"}}],
        [None, {"data": {"branch": "main"}}],
        [{"data": None}, {}, {"data": {"branch": "main"}}],
        [{"type": "artifact", "data": {"branch": ""}}, {"data": {"branch": "main"}}],
        [{"data": "odd"}, 3, {"data": {"branch": "main"}}],
        [{"data": {"branch": "main"}}, {"data": {"branch": "other", "commint": HASH}}],
    ],
)
def test_the_first_source_with_a_branch_tells_it(sources: Any) -> None:
    run = run_of(sources=sources)
    assert (run.branch, run.commit, run.tag) == ("main", "", "")


@pytest.mark.parametrize("sources", [None, [], [None], [{}], [{"data": {}}], "code", {}, 7])
def test_without_sources_the_labels_are_empty(sources: Any) -> None:
    run = run_of(sources=sources)
    assert (run.branch, run.commit) == ("", "")


@pytest.mark.parametrize(
    ("commint", "commit"),
    [
        ("{}", ""),
        (HASH, HASH),
        (json.dumps(HASH), HASH),
        (json.dumps({"commitId": HASH, "author": "Somebody"}), HASH),
        (json.dumps({"id": HASH, "sha": HASH}), HASH),
        (json.dumps({"id": "ab" * 32}), "ab" * 32),
        (json.dumps({"id": HASH, "parent": "a" * 40}), ""),
        (json.dumps({"commit": {"id": HASH}}), ""),
        (json.dumps([HASH]), ""),
        (HASH[:12], ""),
        (HASH.upper(), ""),
        ("0" * 40, "0" * 40),
        (17, ""),
        (None, ""),
        ("", ""),
        ("fix: {", ""),
        ("[" * 100_000, ""),
        ({"commitId": HASH}, ""),
        ([HASH], ""),
    ],
)
def test_a_commit_is_told_where_it_is_clearly_one(commint: Any, commit: str) -> None:
    """It is JSON text, of which nobody says more: no guess between several hashes, and no message for a label."""
    run = run_of(sources=[{"data": {"branch": "main", "commint": commint}}])
    assert (run.branch, run.commit) == ("main", commit)


# -- what is never read

VALUES: list[Any] = [PRIVATE, {PRIVATE: [PRIVATE]}, [PRIVATE], 17, None, [[PRIVATE]]]


@pytest.mark.parametrize("value", VALUES)
def test_parameters_and_addresses_are_never_read(value: Any) -> None:
    """Users put secrets there: of whatever form, they cost nothing and come out nowhere."""
    one = job(0, params=value, result=value, actions=value)
    data = {"branch": "main", "commint": "{}", "webhook": value, "repo": value}
    detail = read(
        record(
            stages=[stage(jobs=[one])],
            globalParams=value,
            groups=value,
            creator=value,
            sources=[{"data": data, "label": value}],
        )
    )
    assert detail.run == run_of(stages=[stage(jobs=[job(0)])])
    assert PRIVATE not in repr(detail)


# -- what is no such run


@pytest.mark.parametrize("number", [8, "8"])
def test_the_run_told_is_the_answers_own(number: Any) -> None:
    """Whoever asked for another sees so by its id."""
    assert (run_of(pipelineRunId=number).id, run_of(pipelineRunId=number).number) == ("8", 8)


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (record(pipelineId=4185806), "not_requested"),
        (record(pipelineId="x" * 999), "no_pipeline_id"),
        (record(pipelineId=["x"]), "unreadable"),
        (record(pipelineRunId=None), "no_run_id"),
        (record(pipelineRunId=0), "no_run_id"),
        (record(pipelineRunId="first"), "no_run_id"),
        (record(pipelineRunId=["x"]), "unreadable"),
        (record(status=["x"]), "unreadable"),
        ({"status": "RUNNING"}, "no_run_id"),
        ({}, "no_run_id"),
        ([], "unreadable"),
        (None, "unreadable"),
        (b"", "unreadable"),
        (b"\xff", "unreadable"),
        (b"[" * 100_000, "unreadable"),
    ],
)
@spoken
def test_details_that_cannot_be_used_are_counted(generation: str, answer: Any, reason: str) -> None:
    """Those of another pipeline's run among them, whose number may be the same."""
    detail = read(answer, generation)
    assert detail.run is None
    ((told, words),) = detail.rejected
    assert told == reason
    assert words
    assert len(words) < 300


def test_a_run_that_names_no_pipeline_is_of_the_one_that_was_asked_about() -> None:
    assert run_of(pipelineId=None) == run_of()


# -- properties

HANGS_ON: dict[tuple[Any, ...], set[str]] = {
    ("createTime",): set(),
    ("updateTime",): set(),
    ("creatorAccountId",): {"executor"},
    ("modifierAccountId",): set(),
    ("status",): {"status", "end"},
    ("triggerMode",): {"trigger"},
    ("stageGroup",): {"stages"},
    ("sources",): {"branch", "commit"},
    ("sources", 0, "data", "commint"): {"commit"},
    ("stages",): {"stages", "start", "end"},
}
"""What of a run hangs on a field of its details, beside those that say which run it is."""

STAGE, INFO, JOB = ("stages", 1), ("stages", 1, "stageInfo"), ("stages", 1, "stageInfo", "jobs", 1)
INNER: list[tuple[Any, ...]] = [
    STAGE,
    *[(*STAGE, name) for name in stage()],
    *[(*INFO, name) for name in stage()["stageInfo"]],
    JOB,
    *[(*JOB, name) for name in job()],
]
changes = st.sampled_from(["null", "remove", "replace"])


def test_every_field_is_spoilt() -> None:
    assert {path[0] for path in HANGS_ON} == set(record()) - {"pipelineId", "pipelineRunId"}


@given(st.sampled_from(list(SPOKEN)), st.sampled_from(list(HANGS_ON)), changes, json_values)
@settings(deadline=None, max_examples=150)
def test_a_spoilt_field_costs_no_other(generation: str, path: Any, change: str, value: Any) -> None:
    """Whatever takes the place of one field, all others that do not hang on it read as before."""
    answer = spoilt(record(), path, change, value)
    said = SPOKEN[generation]
    assert said.failure(said.detail_request(PIPELINE, "7"), 200, {}, body(answer, generation)) is None
    detail = read(answer, generation)
    if path == ("status",) and detail.rejected:
        return  # a state is read right or not at all
    assert not detail.rejected
    assert detail.run is not None
    sound, spoiled = msgspec.structs.asdict(run_of()), msgspec.structs.asdict(detail.run)
    assert {name for name in sound if sound[name] != spoiled[name]} <= HANGS_ON[path]
    if path == ("stageGroup",):
        assert [one.name for one in detail.run.stages] in (["stage-0", "stage-1"], ["stage-1", "stage-0"])


@given(st.sampled_from(INNER), changes, json_values)
@settings(deadline=None, max_examples=200)
def test_a_spoilt_part_costs_no_other(path: Any, change: str, value: Any) -> None:
    """Whatever takes the place of a stage, a job or a field of theirs, those beside it read as before."""
    detail = read(spoilt(record(), path, change, value))
    assert not detail.rejected
    assert detail.run is not None
    sound, spoiled = run_of(), detail.run
    bare = {"stages": (), "start": None, "end": None}
    assert msgspec.structs.replace(spoiled, **bare) == msgspec.structs.replace(sound, **bare)
    # Only where its index became that of the other's place, it may stand there.
    first = next(one for one in spoiled.stages if one.name == "stage-0")
    assert msgspec.structs.replace(first, sequence=0) == sound.stages[0]
    if len(path) > 4:
        told = next(one for one in spoiled.stages if one.name == "stage-1")
        assert msgspec.structs.replace(told, jobs=()) == msgspec.structs.replace(sound.stages[1], jobs=())
        assert told.jobs[0] == sound.stages[1].jobs[0]


@pytest.mark.parametrize(
    "literal", [b'"\xff\xfe"', b'"\\ud83d"', b"1e999", b"9" * 9999], ids=["bytes", "half", "number", "digits"]
)
@pytest.mark.parametrize(
    "path",
    [path for path in (*INNER, *HANGS_ON) if path != ("status",)],
    ids=lambda path: ".".join(map(str, path)),
)
@spoken
def test_spoilt_text_costs_no_more_than_its_field(generation: str, path: Any, literal: bytes) -> None:
    """Of bytes that are no text, half a character, and numbers that nobody can hold."""
    answer = body(spoilt(record(), path, "replace", "SPOILT"), generation).replace(b'"SPOILT"', literal)
    said = SPOKEN[generation]
    assert said.failure(said.detail_request(PIPELINE, "7"), 200, {}, answer) is None
    detail = read(answer, generation)
    assert not detail.rejected
    assert detail.run is not None
    assert (detail.run.id, detail.run.number) == ("7", 7)
    if path[0] == "stages" and len(path) > 1:
        assert detail.run.stages[0] == run_of().stages[0]
    str(detail.run).encode()


bodies = (
    st.binary(max_size=60)
    | json_values.map(lambda value: json.dumps(value).encode())
    | json_values.map(lambda value: body(value, "signed"))
    | st.dictionaries(st.sampled_from(list(record())), json_values).map(body)
    | st.dictionaries(st.sampled_from(list(record())), json_values).map(lambda value: body(value, "signed"))
)


@given(st.sampled_from(list(SPOKEN)), st.integers(199, 300), bodies, st.randoms(use_true_random=False))
@settings(deadline=None, max_examples=200)
def test_what_is_no_failure_can_be_read(
    generation: str, status: int, answer: bytes, chance: random.Random
) -> None:
    """No answer that passes for a success raises: it is a run, or rejected with words."""
    said = SPOKEN[generation]
    pipeline = chance.choice([PIPELINE, "0"])
    failure = said.failure(said.detail_request(pipeline, "7"), status, {}, answer)
    if failure is None:
        assert 200 <= status < 300
        detail = read(answer, generation, pipeline)
        assert (detail.run is None) == bool(detail.rejected)
    else:
        assert failure.message or failure.error_code
