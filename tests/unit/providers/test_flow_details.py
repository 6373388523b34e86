"""Decoding of run details: stages in the order of their groups, without input of users."""

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
from tests.marks import examples
from tests.unit.providers.test_codearts import corrupted, json_values
from tests.unit.providers.test_flow_lists import PROVIDERS, each_generation
from tests.unit.providers.test_flow_requests import RAN, TODAY, WORLD, FlowHarness, generations
from tests.unit.providers.test_flow_runs import STATUSES_OF_THE_WORLD, TRIGGERS, UNKNOWN_STATUSES, WORDS

DATA = Path(__file__).parents[2] / "data"
SEED = (DATA / "flow_run_seed.json").read_bytes()
NOW = 1_781_700_000.0
PIPELINE = "4185805"
CREATED, START, END = 1_781_661_495, 1_781_661_512, 1_781_661_647
TIMES = {"startTime": START * 1000, "endTime": END * 1000}
HASH = "0f3c1d2e4b5a69788796a5b4c3d2e1f001234567"
PRIVATE = "hunter2-must-stay-private"


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
    """Return a stage with `changes` applied to its `stageInfo`, or with `info` instead of it."""
    name = changes.get("name", f"stage-{index}")
    found = {"id": 91_000_000 + index, "name": name, "status": "SUCCESS", **TIMES, "jobs": [job(0), job(1)]}
    at = f"Group{index if group is None else group}-Stage{0 if group is None else index}"
    return {"index": at, "name": name, "stageInfo": {**found, **changes} if info is None else info}


def record(**changes: Any) -> dict[str, Any]:
    """Return the record of a finished run, with `changes` applied."""
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
    return PROVIDERS[generation].read_detail(body(answer, generation), pipeline, NOW)


def run_of(**changes: Any) -> Run:
    detail = read(record(**changes))
    assert not detail.rejected
    assert detail.run is not None
    return detail.run


def stages_of(*stages: Any, groups: Any = None) -> tuple[Stage, ...]:
    return run_of(stages=list(stages), stageGroup=groups).stages


def sequences(*stages: Any, groups: Any) -> list[tuple[str, int]]:
    return [(one.name, one.sequence) for one in stages_of(*stages, groups=groups)]


# -- complete responses


def test_documented_response_is_decoded_as_documented() -> None:
    """Byte for byte, although a stage of the successful run is running, and a group has another name than its stage."""
    flow = PROVIDERS["signed"]
    assert flow.failure(flow.detail_request("1234", "1"), 200, {}, SEED) is None
    detail = read(SEED, "signed", "1234")
    assert (detail.rejected, detail.unknown_values, detail.implausible_times) == ([], set(), "")
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


def test_run_that_waits_for_an_approval_is_decoded() -> None:
    """With a personal token: parallel stages with one name, out of order, and null for never."""
    answer = (DATA / "flow_run_personal.json").read_bytes()
    flow = PROVIDERS["personal"]
    assert flow.failure(flow.detail_request(PIPELINE, "587"), 200, {}, answer) is None
    detail = read(answer)
    assert (detail.rejected, detail.unknown_values) == ([], set())
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


def test_canceled_run_is_decoded() -> None:
    """With signed requests: two stages with one name, one never reached, and absent keys for never."""
    answer = (DATA / "flow_run_signed.json").read_bytes()
    flow = PROVIDERS["signed"]
    assert flow.failure(flow.detail_request("2634510", "992"), 200, {}, answer) is None
    detail = read(answer, "signed", "2634510")
    assert (detail.rejected, detail.unknown_values) == ([], {("trigger_mode", "4")})
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
def test_simulated_runs_are_decoded_correctly(generation: str) -> None:
    """The latest run of each pipeline with its jobs, in both generations, without the secrets in it."""
    harness = FlowHarness(generation)
    statuses, aside = set(), 0
    for pipeline in RAN[:60]:
        run = WORLD.latest_run(pipeline.id, TODAY)
        assert run is not None
        found = serialize(pipeline, run, TODAY)
        identity = harness.cloud.pipeline_id(pipeline.id)
        answer, _ = harness.answer(harness.provider.detail_request(identity, str(run.number)))
        detail = harness.provider.read_detail(answer, identity, TODAY)
        assert not detail.rejected
        assert detail.unknown_values <= {("trigger_mode", "4")}
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
            for place, part in enumerate(found.stages)
        )
        status = STATUSES_OF_THE_WORLD[found.run.status]
        ends = [part.stage.end for part in found.stages if part.stage.end is not None]
        assert detail.run == Run(
            id=str(run.number),
            number=run.number,
            status=status,
            start=min(part.stage.start for part in found.stages if part.stage.start is not None),
            end=max(ends) if status.final else None,
            trigger=TRIGGERS[trigger(found.run)],
            branch=pipeline.branch,
            executor=executor(run),
            stages=stages,
        )
        assert status.final is (found.run.end is not None)
        if status.final:
            assert detail.run.end == found.run.end
        assert SECRET not in repr(detail)
        statuses |= {one.status for one in stages}
        aside += any(part.position.stage for part in found.stages)
    assert statuses >= {Status.SUCCESS, Status.FAILED, Status.RUNNING, Status.PENDING}
    assert aside > 5


def _lasted(part: Any) -> float | None:
    over = STATUSES_OF_THE_WORLD[part.status].final and part.end is not None and part.start is not None
    return part.end - part.start if over else None


@generations
def test_missing_run_fails_this_request_only(generation: str) -> None:
    harness = FlowHarness(generation)
    identity = harness.cloud.pipeline_id(RAN[0].id)
    kind, code = harness.failure(harness.provider.detail_request(identity, "999999"))
    assert kind is FailureKind.CONTENT
    assert code.endswith("NotFound")


@each_generation
def test_both_generations_are_decoded_alike(generation: str) -> None:
    detail = read(record(), generation)
    assert (detail.rejected, detail.unknown_values) == ([], set())
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


# -- start and end of a run, which its details do not have


def timed(
    *spans: tuple[int | None, int | None, str], status: str = "SUCCESS"
) -> tuple[float | None, float | None]:
    """Return start and end of a run with these stages, in seconds since the common start."""
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
    return tuple(None if found is None else found - START for found in (run.start, run.end))  # type: ignore[return-value]


def test_run_starts_with_its_first_stage_and_ends_with_its_last() -> None:
    """First and last by time, because stages are parallel."""
    assert timed((30, 60, "SUCCESS"), (0, 20, "SUCCESS"), (10, 90, "FAIL"), (20, 50, "FINISH")) == (0, 90)
    assert timed((0, 20, "SUCCESS"), (None, None, "SKIP"), (30, 40, "CANCELED")) == (0, 40)


def test_run_without_started_stage_starts_at_its_creation() -> None:
    """A run that had to wait was created before it started."""
    assert timed((None, None, "INIT"), status="WAITING") == (CREATED - START, None)
    assert run_of(stages=[]).start == CREATED
    assert run_of(stages=[], createTime=None).start is None


@pytest.mark.parametrize("status", ["RUNNING", "WAITING", "INIT", "NEVER_HEARD_OF", None])
def test_run_without_final_status_has_no_end(status: Any) -> None:
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
def test_unfinished_stage_leaves_the_end_open(
    unfinished: tuple[int, int | None, str],
) -> None:
    """The stage was restarted, or its end is missing, so the run does not end with the other stages."""
    assert timed((0, 20, "SUCCESS"), unfinished, (20, 25, "FAIL")) == (0, None)


def test_stage_that_never_started_does_not_leave_the_end_open() -> None:
    assert timed((0, 20, "FAIL"), (None, None, "INIT"), status="FAIL") == (0, 20)
    assert timed((None, None, "SKIP")) == (CREATED - START, None)


@pytest.mark.parametrize("never", [None, "", 0, "0", "absent"])
def test_every_format_of_never_is_an_absent_time(never: Any) -> None:
    info = {"name": "A", "status": "INIT", "startTime": never, "endTime": never}
    if never == "absent":
        info = {"name": "A", "status": "INIT"}
    detail = read(record(stages=[stage(info={**info, "jobs": [info]})]))
    assert detail.run is not None
    assert detail.run.stages == (Stage("A", 0, Status.PENDING, jobs=(Job("A", 0, Status.PENDING),)),)
    assert not detail.unknown_values


def test_end_before_start_gives_no_duration() -> None:
    backwards = {"startTime": END * 1000, "endTime": START * 1000}
    (found,) = stages_of(stage(**backwards, jobs=[job(**backwards)]))
    assert (found.duration, found.jobs[0].duration) == (None, None)


# -- order of stages


def test_stages_have_the_order_of_their_groups() -> None:
    """In any order of the list. Each stage has its own position."""
    groups = [["Group0-Stage0"], ["Group1-Stage0", "Group1-Stage1"], ["Group2-Stage0"]]
    listed = [stage(2), stage(1, group=1, name="lint"), stage(0), stage(0, group=1, name="build")]
    assert sequences(*listed, groups=groups) == [("stage-0", 0), ("build", 1), ("lint", 2), ("stage-2", 3)]


@given(st.permutations(range(5)), st.integers(1, 5))
def test_order_of_the_list_does_not_matter(order: list[int], size: int) -> None:
    """The division into groups does not matter either."""
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
def test_groups_may_list_names_and_be_flat(groups: Any) -> None:
    """Nested as in the signed API, or flat as documented for the other. Invalid names are skipped."""
    assert sequences(stage(0, name="A"), stage(1, name="B"), groups=groups) == [("B", 0), ("A", 1)]


def test_groups_may_list_names_from_the_stage_info() -> None:
    bare = {"index": None, "name": None}
    listed = [{**stage(0, name="A"), **bare}, {**stage(1, name="B"), **bare}]
    assert sequences(*listed, groups=[["B"], ["A"]]) == [("B", 0), ("A", 1)]


def test_index_takes_precedence_over_name() -> None:
    """An unnamed stage has the name of a position, which may be another one's."""
    listed = [stage(1, name="Group0-Stage0"), stage(0, name="A")]
    groups = [["Group0-Stage0"], ["Group1-Stage0"]]
    assert sequences(*listed, groups=groups) == [("A", 0), ("Group0-Stage0", 1)]


def test_stages_with_one_name_take_its_positions_in_turn() -> None:
    listed = [
        {**stage(n, name="Deploy", status=word), "index": None} for n, word in enumerate(("FAIL", "SKIP"))
    ]
    found = stages_of(*listed, groups=[["Deploy"], ["Build"], ["Deploy"]])
    assert [(one.sequence, one.status) for one in found] == [(0, Status.FAILED), (2, Status.SKIPPED)]


@pytest.mark.parametrize("groups", [None, [], [[]], [None], "Group0-Stage0", 7, {}, [[{}]]])
def test_order_of_the_list_is_used_without_groups(groups: Any) -> None:
    listed = [stage(1), stage(0), None, stage(1)]
    assert sequences(*listed, groups=groups) == [("stage-1", 0), ("stage-0", 1), ("stage-1", 3)]


def test_stage_in_no_group_takes_a_free_position() -> None:
    """As in the vendor's example. Without a free position it comes last."""
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
def test_positions_of_stages_are_unique(stages: list[Any], groups: list[Any]) -> None:
    """Otherwise two samples would be the same series, which fails a scrape."""
    listed = [
        found and {"index": found[0], "name": found[1], "stageInfo": {"status": "SUCCESS"}}
        for found in stages
    ]
    placed = [one.sequence for one in stages_of(*listed, groups=groups)]
    assert len(placed) == sum(found is not None for found in stages)
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
def test_stage_without_a_name_is_named_by_its_index(info: Any, outer: Any, name: str) -> None:
    """An unnamed stage has its index as name."""
    found = {**stage(0, name=info), "name": outer}
    assert [one.name for one in stages_of(found)] == [name]


@pytest.mark.parametrize(("word", "status"), [*WORDS.items(), ("SKIP", Status.SKIPPED)])
def test_statuses_of_stages_and_jobs_are_translated(word: str, status: Status) -> None:
    """Only final ones have a duration."""
    detail = read(record(stages=[stage(status=word, jobs=[job(status=word)])]))
    assert detail.run is not None
    (found,) = detail.run.stages
    for one in (found, found.jobs[0]):
        assert (one.status, one.duration) == (status, 135 if status.final else None)
    assert not detail.unknown_values


@pytest.mark.parametrize("word", ["", None, *UNKNOWN_STATUSES, [], {}])
def test_unknown_statuses_are_reported_by_level(word: Any) -> None:
    detail = read(record(stages=[stage(status=word, jobs=[job(status=word)])]))
    assert detail.run is not None
    (found,) = detail.run.stages
    assert (found.status, found.jobs[0].status) == (Status.UNKNOWN, Status.UNKNOWN)
    text = str(word) if isinstance(word, str | int) else ""
    assert detail.unknown_values == {("stage_status", text), ("job_status", text)}


@pytest.mark.parametrize("word", ["SKIP", "", None, *UNKNOWN_STATUSES])
def test_status_of_a_run_without_translation_is_unknown_and_reported(word: Any) -> None:
    """Its absence is reported as well, since details always have it."""
    detail = read(record(status=word))
    assert detail.run is not None
    assert detail.run.status is Status.UNKNOWN
    assert detail.unknown_values == {("status", "" if word is None else str(word))}


@pytest.mark.parametrize("stages", [None, [], [None], "none", {}, [7, "x"]])
def test_run_may_have_no_stages(stages: Any) -> None:
    assert run_of(stages=stages).stages == ()


@pytest.mark.parametrize("info", [None, {}, [], "x"])
def test_stage_without_info_keeps_its_position(info: Any) -> None:
    bare = {**stage(0), "stageInfo": info}
    detail = read(record(stages=[bare, stage(1)]))
    assert detail.run is not None
    assert detail.run.stages[0] == Stage("stage-0", 0, Status.UNKNOWN)
    assert detail.run.stages[1] == run_of().stages[1]


@pytest.mark.parametrize("jobs", [None, [], [None], "none", {}])
def test_stage_may_have_no_jobs(jobs: Any) -> None:
    assert stages_of(stage(jobs=jobs)) == (Stage("stage-0", 0, Status.SUCCESS, START, 135),)


def test_jobs_differ_by_index() -> None:
    """Their ids change with each run, and names may repeat. Null keeps its index."""
    (found,) = stages_of(stage(jobs=[job(name="A"), None, job(name="A", id=1), job(name=None)]))
    assert [(one.name, one.sequence) for one in found.jobs] == [("A", 0), ("A", 2), ("", 3)]


def test_numbers_may_be_digits() -> None:
    """Test the run and each level, with text and numbers."""

    def as_text(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: as_text(inner) for key, inner in value.items()}
        if isinstance(value, list):
            return [as_text(inner) for inner in value]
        return str(value) if isinstance(value, int) else value

    detail = read(as_text(record()))
    assert (detail.run, detail.unknown_values) == (run_of(), set())


def test_labels_are_cut() -> None:
    """Names of stages and jobs, branch and executor. Two names with the same start remain two."""
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
def test_number_of_parts_is_limited(stages: int, jobs: int, kept: tuple[int, int]) -> None:
    """The first ones by position are kept. All count for the end of the run."""
    inner = [job(n) for n in range(jobs)]
    listed = [stage(n, jobs=inner) for n in reversed(range(stages))]
    listed[0]["stageInfo"]["endTime"] = (END + 100) * 1000
    run = run_of(stages=listed, stageGroup=[[f"Group{n}-Stage0"] for n in range(stages)])
    assert (len(run.stages), sum(len(one.jobs) for one in run.stages)) == kept
    assert (STAGES, JOBS) == (50, 200)
    assert [one.name for one in run.stages] == [f"stage-{n}" for n in range(kept[0])]
    assert run.end == END + 100


# -- sources


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
def test_branch_is_that_of_the_first_source_with_one(sources: Any) -> None:
    run = run_of(sources=sources)
    assert (run.branch, run.commit, run.tag) == ("main", "", "")


@pytest.mark.parametrize("sources", [None, [], [None], [{}], [{"data": {}}], "code", {}, 7])
def test_labels_are_empty_without_sources(sources: Any) -> None:
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
def test_commit_is_used_if_unambiguous(commint: Any, commit: str) -> None:
    """It is JSON of undocumented form. One of several hashes is not guessed, and text is not a label."""
    run = run_of(sources=[{"data": {"branch": "main", "commint": commint}}])
    assert (run.branch, run.commit) == ("main", commit)


# -- input of users

VALUES: list[Any] = [PRIVATE, {PRIVATE: [PRIVATE]}, [PRIVATE], 17, None, [[PRIVATE]]]


@pytest.mark.parametrize("value", VALUES)
def test_parameters_and_urls_are_never_decoded(value: Any) -> None:
    """They may have secrets. In any form they affect nothing and are not exposed."""
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


# -- another run, or none


@pytest.mark.parametrize("number", [8, "8"])
def test_run_is_the_one_in_the_response(number: Any) -> None:
    """The caller compares the id."""
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
@each_generation
def test_unusable_details_are_counted(generation: str, answer: Any, reason: str) -> None:
    """Including a run of another pipeline with the same number."""
    detail = read(answer, generation)
    assert detail.run is None
    ((found, message),) = detail.rejected
    assert found == reason
    assert message
    assert len(message) < 300


def test_run_without_pipeline_id_belongs_to_the_requested_pipeline() -> None:
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
"""Fields of a run that depend on a field of its details, in addition to its id."""

STAGE, INFO, JOB = ("stages", 1), ("stages", 1, "stageInfo"), ("stages", 1, "stageInfo", "jobs", 1)
INNER: list[tuple[Any, ...]] = [
    STAGE,
    *[(*STAGE, name) for name in stage()],
    *[(*INFO, name) for name in stage()["stageInfo"]],
    JOB,
    *[(*JOB, name) for name in job()],
]
changes = st.sampled_from(["null", "remove", "replace"])


def test_every_field_is_covered() -> None:
    assert {path[0] for path in HANGS_ON} == set(record()) - {"pipelineId", "pipelineRunId"}


@given(st.sampled_from(list(PROVIDERS)), st.sampled_from(list(HANGS_ON)), changes, json_values)
@examples(150)
def test_corrupted_field_affects_no_other(generation: str, path: Any, change: str, value: Any) -> None:
    """For any value of one field, the fields that do not depend on it are decoded as before."""
    answer = corrupted(record(), path, change, value)
    flow = PROVIDERS[generation]
    assert flow.failure(flow.detail_request(PIPELINE, "7"), 200, {}, body(answer, generation)) is None
    detail = read(answer, generation)
    if path == ("status",) and detail.rejected:
        return  # a record with an invalid status is rejected
    assert not detail.rejected
    assert detail.run is not None
    sound, spoiled = msgspec.structs.asdict(run_of()), msgspec.structs.asdict(detail.run)
    assert {name for name in sound if sound[name] != spoiled[name]} <= HANGS_ON[path]
    if path == ("stageGroup",):
        assert [one.name for one in detail.run.stages] in (["stage-0", "stage-1"], ["stage-1", "stage-0"])


@given(st.sampled_from(INNER), changes, json_values)
@examples(200)
def test_corrupted_part_affects_no_other(path: Any, change: str, value: Any) -> None:
    """For any value of a stage, a job or one of their fields, the others are decoded as before."""
    detail = read(corrupted(record(), path, change, value))
    assert not detail.rejected
    assert detail.run is not None
    sound, spoiled = run_of(), detail.run
    bare = {"stages": (), "start": None, "end": None}
    assert msgspec.structs.replace(spoiled, **bare) == msgspec.structs.replace(sound, **bare)
    # With the index of the other position, it may take that one.
    first = next(one for one in spoiled.stages if one.name == "stage-0")
    assert msgspec.structs.replace(first, sequence=0) == sound.stages[0]
    if len(path) > 4:
        found = next(one for one in spoiled.stages if one.name == "stage-1")
        assert msgspec.structs.replace(found, jobs=()) == msgspec.structs.replace(sound.stages[1], jobs=())
        assert found.jobs[0] == sound.stages[1].jobs[0]


@pytest.mark.parametrize(
    "literal", [b'"\xff\xfe"', b'"\\ud83d"', b"1e999", b"9" * 9999], ids=["bytes", "half", "number", "digits"]
)
@pytest.mark.parametrize(
    "path",
    [path for path in (*INNER, *HANGS_ON) if path != ("status",)],
    ids=lambda path: ".".join(map(str, path)),
)
@each_generation
def test_corrupted_text_affects_its_field_only(generation: str, path: Any, literal: bytes) -> None:
    """For invalid UTF-8, lone surrogates, and numbers out of range."""
    answer = body(corrupted(record(), path, "replace", "SPOILT"), generation).replace(b'"SPOILT"', literal)
    flow = PROVIDERS[generation]
    assert flow.failure(flow.detail_request(PIPELINE, "7"), 200, {}, answer) is None
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


@given(st.sampled_from(list(PROVIDERS)), st.integers(199, 300), bodies, st.randoms(use_true_random=False))
@examples(200)
def test_any_success_can_be_decoded(
    generation: str, status: int, answer: bytes, chance: random.Random
) -> None:
    """Decoding never raises: the result is a run, or rejected with a message."""
    flow = PROVIDERS[generation]
    pipeline = chance.choice([PIPELINE, "0"])
    failure = flow.failure(flow.detail_request(pipeline, "7"), status, {}, answer)
    if failure is None:
        assert 200 <= status < 300
        detail = read(answer, generation, pipeline)
        assert (detail.run is None) == bool(detail.rejected)
    else:
        assert failure.message or failure.error_code
