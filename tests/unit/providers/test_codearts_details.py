"""Decoding of run details: all jobs and steps within the limits, each unique, without input of users."""

import json
import random
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exporter.auth.protocol import UnsignedRequest, query_string
from exporter.core.failures import FailureKind
from exporter.core.model import JOBS, LABEL_LENGTH, STAGES, STEPS, Job, Run, Stage, Status, Step, Trigger
from exporter.providers.protocol import ApiRequest, RunDetail
from exporter.providers.registry import connect
from exporter.simulator.codearts import gateway
from tests.drivers.support import PIPELINE_ID, PROJECT_ID, config, project
from tests.marks import examples
from tests.unit.providers.test_codearts import (
    CODEARTS,
    NOW,
    SHAPES,
    SKIPPED,
    STATUSES,
    corrupted,
    json_values,
    provider,
)
from tests.unit.simulator.test_codearts import NOW as TODAY
from tests.unit.simulator.test_codearts import RUNNING_PIPELINES, WORLD, Desk

SEED = (Path(__file__).parents[2] / "data" / "codearts_detail_seed.json").read_bytes()
CALL = CODEARTS.detail_request(PIPELINE_ID, "r")
START, END = 1_674_207_197, 1_674_207_257
TIMES = {"start_time": START * 1000, "end_time": END * 1000}


def step(index: int = 0, **changes: Any) -> dict[str, Any]:
    return {
        "name": f"step-{index}",
        "task": "official_devcloud_cloudBuild",
        "inputs": [{"key": "k", "value": "v"}],
        "sequence": index,
        "status": "COMPLETED",
        "message": None,
        **TIMES,
        **changes,
    }


def job(index: int = 0, **changes: Any) -> dict[str, Any]:
    return {
        "name": f"job-{index}",
        "sequence": index,
        "status": "COMPLETED",
        "message": None,
        **TIMES,
        "steps": [step(0), step(1)],
        **changes,
    }


def stage(index: int = 0, **changes: Any) -> dict[str, Any]:
    return {
        "name": f"stage-{index}",
        "sequence": index,
        "status": "COMPLETED",
        **TIMES,
        "pre": [step(7, name="entry")],
        "post": None,
        "jobs": [job(0), job(1)],
        **changes,
    }


def record(**changes: Any) -> dict[str, Any]:
    """Return the record of a finished run, with `changes` applied."""
    return {
        "id": "run-0",
        "pipeline_id": PIPELINE_ID,
        "name": "payments",
        "description": None,
        "executor_id": "executor-0",
        "status": "COMPLETED",
        "trigger_type": "Manual",
        "run_number": 7,
        **TIMES,
        "stages": [stage(0), stage(1)],
        "sources": [
            {"type": "code", "params": {"build_params": {"target_branch": "main", "commit_id": "c0"}}}
        ],
        "artifacts": None,
        **changes,
    }


def read(answer: Any) -> RunDetail:
    body = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
    return CODEARTS.read_detail(body, PIPELINE_ID, NOW)


def run_of(**changes: Any) -> Run:
    detail = read(record(**changes))
    assert not detail.rejected
    assert detail.run is not None
    return detail.run


def jobs_of(*jobs: Any) -> tuple[Job, ...]:
    return run_of(stages=[stage(jobs=list(jobs))]).stages[0].jobs


def steps_of(*steps: Any) -> tuple[Step, ...]:
    return jobs_of(job(steps=list(steps)))[0].steps


# -- the vendor's example


def test_documented_response_is_decoded_as_documented() -> None:
    """Byte for byte. The entry of a stage is not a job, and a job may have no steps."""
    assert CODEARTS.failure(CALL, 200, {}, SEED) is None
    detail = read(SEED)
    assert (detail.rejected, detail.unknown_values, detail.implausible_times) == ([], set(), "")
    creating = Job("Creating a Job", 0, Status.SUCCESS, start=1674207197, duration=0)
    assert detail.run == Run(
        id="25adfa6784124cfc9b9274ceaecf9957",
        number=1,
        status=Status.SUCCESS,
        start=1674207197,
        end=1674207197,
        trigger=Trigger.MANUAL,
        branch="master",
        commit="990ea057751d299f5575aac25bf97e88a60b461e",
        executor="847a5317086c41798469d0868535943a",
        event="Manual",
        stages=(Stage("Phase_1", 0, Status.SUCCESS, start=1674207197, duration=0, jobs=(creating,)),),
    )
    assert detail.run.duration == 0


# -- requests


def test_request_is_as_documented() -> None:
    call = CODEARTS.detail_request(PIPELINE_ID, "25adfa6784124cfc9b9274ceaecf9957")
    assert (call.operation, call.method, call.body) == ("ShowPipelineRunDetail", "GET", b"")
    assert call.path == f"/v5/{PROJECT_ID}/api/pipelines/{PIPELINE_ID}/pipeline-runs/detail"
    assert call.query == (("pipeline_run_id", "25adfa6784124cfc9b9274ceaecf9957"),)


def send(desk: Desk, call: ApiRequest) -> Any:
    """Send a signed request to the simulated cloud."""
    keys = desk.cloud.credentials
    section = {"method": "aksk", "access_key": keys.access_key, "secret_key": keys.secret_key}
    _, auth, _ = connect(config(project(auth=section)).projects[0], {})
    outgoing = UnsignedRequest(
        method=call.method, host="testserver", path=call.path, query=call.query, headers=call.headers
    )
    headers = {"Host": outgoing.host, **dict(call.headers), **auth.headers(outgoing, desk.now)}
    return desk.request(call.method, f"{call.path}?{query_string(call.query)}", headers=headers)


def test_signed_request_returns_the_run() -> None:
    """For each simulated pipeline the details agree with the batch, and have jobs."""
    desk, codearts = Desk(), provider(project_id=WORLD.project_id)
    ids = [pipeline.id for pipeline in RUNNING_PIPELINES[:30]]
    batch = codearts.read_batch(desk.batch(*ids).content, ids, TODAY)
    for identity, run in batch.runs.items():
        call = codearts.detail_request(identity, run.id)
        answer = send(desk, call)
        assert codearts.failure(call, answer.status_code, {}, answer.content) is None
        detail = codearts.read_detail(answer.content, identity, TODAY)
        assert (detail.rejected, detail.unknown_values, detail.implausible_times) == ([], set(), "")
        assert detail.run is not None
        assert all(stage.jobs for stage in detail.run.stages)
        bare = [msgspec.structs.replace(stage, jobs=()) for stage in detail.run.stages]
        assert msgspec.structs.replace(detail.run, stages=tuple(bare)) == run


@pytest.mark.parametrize(
    "run",
    ["#12", "a b", "a&b=c", "a+b", "50%", "a=b?c", "流水线", "a/b", "\x00\n", "~._-"],
)
def test_special_characters_in_a_run_id_are_signed_and_received(run: str) -> None:
    """The cloud accepts the signature and receives the id, which it does not know."""
    desk, codearts = Desk(), provider(project_id=WORLD.project_id)
    call = codearts.detail_request(RUNNING_PIPELINES[0].id, run)
    answer = send(desk, call)
    failure = codearts.failure(call, answer.status_code, {}, answer.content)
    assert failure is not None
    assert (failure.kind, failure.error_code) == (FailureKind.CONTENT, "DEVPIPE.00011402")
    assert desk.cloud.requests[-1].run_id == run


@pytest.mark.parametrize("pipeline", ["a/b", "../x", "a?b#c", "a b", "50%", "流水线", "a;b=c:d@e"])
def test_special_characters_in_a_pipeline_id_stay_in_its_path_segment(pipeline: str) -> None:
    """No id changes the path, and the gateway accepts the signature."""
    call = CODEARTS.detail_request(pipeline, "r")
    before, after = f"/v5/{PROJECT_ID}/api/pipelines/", "/pipeline-runs/detail"
    assert call.path.startswith(before)
    assert call.path.endswith(after)
    assert set(call.path[len(before) : -len(after)]).isdisjoint("/?#; ")
    assert call.path.isascii()
    section = {"method": "aksk", "access_key": "A" * 20, "secret_key": "a-secret-key-of-a-test"}
    _, auth, _ = connect(config(project(auth=section)).projects[0], {})
    outgoing = UnsignedRequest(
        method=call.method, host="a.example.com", path=call.path, query=call.query, headers=call.headers
    )
    wire = {"Host": outgoing.host, **dict(call.headers), **auth.headers(outgoing, NOW)}
    refusal = gateway.refusal(
        gateway.Credentials(access_key="A" * 20, secret_key="a-secret-key-of-a-test"),
        method=call.method,
        raw_path=call.path.encode(),
        raw_query=query_string(call.query).encode(),
        headers={name.lower().encode(): value.encode() for name, value in wire.items()},
        body=b"",
        now=NOW,
    )
    assert refusal is None


# -- stages, jobs and steps


def test_run_with_stages_jobs_and_steps() -> None:
    steps = tuple(Step(f"step-{n}", n, "official_devcloud_cloudBuild", Status.SUCCESS, 60) for n in (0, 1))
    jobs = tuple(Job(f"job-{n}", n, Status.SUCCESS, START, 60, steps) for n in (0, 1))
    assert run_of().stages == tuple(Stage(f"stage-{n}", n, Status.SUCCESS, START, 60, jobs) for n in (0, 1))


@pytest.mark.parametrize("stages", [None, [], [None]])
def test_run_may_have_no_stages(stages: Any) -> None:
    assert run_of(stages=stages).stages == ()


@pytest.mark.parametrize("jobs", [None, [], [None], "none", {}])
def test_stage_may_have_no_jobs(jobs: Any) -> None:
    (found,) = run_of(stages=[stage(jobs=jobs)]).stages
    assert found == Stage("stage-0", 0, Status.SUCCESS, START, 60)


@pytest.mark.parametrize("steps", [None, [], [None], "no list", 0])
def test_job_may_have_no_steps(steps: Any) -> None:
    assert jobs_of(job(steps=steps)) == (Job("job-0", 0, Status.SUCCESS, START, 60),)


def test_null_jobs_and_steps_are_skipped() -> None:
    """The ones after them keep their index."""
    found = jobs_of(None, job(1, sequence=None, steps=[None, step(1, sequence=None)]))
    assert [(one.name, one.sequence) for one in found] == [("job-1", 1)]
    assert [(one.name, one.sequence) for one in found[0].steps] == [("step-1", 1)]


def test_entry_and_exit_of_a_stage_are_not_jobs() -> None:
    bare = stage(jobs=[])
    assert run_of(stages=[bare | {"pre": [step()], "post": [job(), step()]}]).stages[0].jobs == ()


@pytest.mark.parametrize(("word", "status"), [*STATUSES.items(), *SKIPPED.items()])
def test_statuses_of_jobs_and_steps_are_translated(word: str, status: Status) -> None:
    """On all three levels. Only final parts have a duration."""
    inner = step(status=word)
    detail = read(record(stages=[stage(status=word, jobs=[job(status=word, steps=[inner])])]))
    assert detail.run is not None
    (found,) = detail.run.stages
    duration = 60 if status.final else None
    for one in (found, found.jobs[0], found.jobs[0].steps[0]):
        assert (one.status, one.duration) == (status, duration)
    assert not detail.unknown_values


@pytest.mark.parametrize("word", ["", None, "COMPLETE", "SUCCESS", 3, [], {}])
def test_unknown_statuses_are_reported_by_level(word: Any) -> None:
    detail = read(record(stages=[stage(status=word, jobs=[job(status=word, steps=[step(status=word)])])]))
    assert detail.run is not None
    found = detail.run.stages[0].jobs[0]
    assert (found.status, found.steps[0].status) == (Status.UNKNOWN, Status.UNKNOWN)
    text = str(word) if isinstance(word, str | int) else ""
    assert detail.unknown_values == {("stage_status", text), ("job_status", text), ("step_status", text)}


@pytest.mark.parametrize("never", [None, "", 0, "0"])
def test_job_that_was_never_reached_has_no_times(never: Any) -> None:
    """Not selected, or after a failed stage: neither start nor duration."""
    times = {"start_time": never, "end_time": never}
    found = jobs_of(job(status="UNSELECTED", **times, steps=[step(status="SKIPPED", **times)]))
    unreached = Step("step-0", 0, "official_devcloud_cloudBuild", Status.SKIPPED)
    assert found == (Job("job-0", 0, Status.SKIPPED, steps=(unreached,)),)


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


def test_times_of_details_need_no_time_zone() -> None:
    """They are Unix milliseconds, so no time is implausible."""
    late = {"start_time": (END + 9999) * 1000, "end_time": (END + 10_000) * 1000}
    detail = read(record(stages=[stage(**late, jobs=[job(**late)])]))
    assert detail.run is not None
    assert (detail.run.stages[0].start, detail.run.stages[0].jobs[0].start) == (END + 9999, END + 9999)
    assert not detail.implausible_times


# -- names and sequences


def sequences(*jobs: tuple[Any, Any]) -> list[tuple[str, int]]:
    found = jobs_of(*(job(name=name, sequence=sequence) for name, sequence in jobs))
    steps = steps_of(*(step(name=name, sequence=sequence) for name, sequence in jobs))
    listed = [(one.name, one.sequence) for one in found]
    assert listed == [(one.name, one.sequence) for one in steps]
    return listed


def test_repeated_names_differ_by_sequence() -> None:
    """In a job, a stage and a run, each with its own sequence."""
    assert sequences(("A", 3), ("A", 5), ("A", 4)) == [("A", 3), ("A", 5), ("A", 4)]
    run = run_of(stages=[stage(0, name="S"), stage(1, name="S")])
    assert [(one.name, one.sequence, len(one.jobs)) for one in run.stages] == [("S", 0, 2), ("S", 1, 2)]


@pytest.mark.parametrize("missing", [None, "", "first", -1, 1.5, [], True])
def test_missing_sequence_is_the_index(missing: Any) -> None:
    assert sequences(("A", missing), ("A", missing), ("B", missing)) == [("A", 0), ("A", 1), ("B", 2)]


def test_repeated_sequence_is_replaced_by_the_index() -> None:
    """Sequences repeat if, for example, all of them are 0."""
    assert sequences(("A", 0), ("B", 0), ("C", 0)) == [("A", 0), ("B", 1), ("C", 2)]
    assert sequences(("A", 7), ("B", 1), ("C", 1), ("D", 4)) == [("A", 7), ("B", 1), ("C", 2), ("D", 4)]


def test_last_of_exact_duplicates_is_used() -> None:
    found = jobs_of(job(0, status="FAILED"), job(0, status="COMPLETED"))
    assert [(one.name, one.status) for one in found] == [("job-0", Status.SUCCESS)]


@pytest.mark.parametrize("name", [None, "", [], {}, False])
def test_steps_without_names_differ_by_sequence(name: Any) -> None:
    """As in the vendor's example, where the plug-in identifies a step."""
    found = steps_of(step(name=name, sequence=0, task="a"), step(name=name, sequence=1, task="b"))
    assert [(one.name, one.sequence, one.task) for one in found] == [("", 0, "a"), ("", 1, "b")]


@given(st.lists(st.tuples(st.sampled_from(["A", "B", None]), st.none() | st.integers(-1, 4)), max_size=8))
@settings(deadline=None)
def test_name_and_sequence_are_unique_and_no_job_is_lost(jobs: list[tuple[str | None, int | None]]) -> None:
    """Otherwise two samples would be the same series, which fails a scrape."""
    listed = sequences(*jobs)
    assert len(set(listed)) == len(listed)
    distinct = {
        (name, sequence if sequence is not None and sequence >= 0 else f"at {index}")
        for index, (name, sequence) in enumerate(jobs)
    }
    assert len(listed) == len(distinct)


def test_labels_are_cut() -> None:
    """Names of jobs, steps and plug-ins. Two names with the same start remain two jobs."""
    long = "é" * 1000
    found = jobs_of(job(0, name=long + "1"), job(0, name=long + "2", steps=[step(name=long, task=long)]))
    assert [(len(one.name), one.sequence) for one in found] == [(LABEL_LENGTH, 0), (LABEL_LENGTH, 1)]
    (inner,) = found[1].steps
    assert (len(inner.name), len(inner.task)) == (LABEL_LENGTH, LABEL_LENGTH)


# -- limits


def counts(run: Run) -> tuple[int, int, int]:
    jobs = [one for found in run.stages for one in found.jobs]
    return len(run.stages), len(jobs), sum(len(one.steps) for one in jobs)


@pytest.mark.parametrize(
    ("stages", "jobs", "steps", "kept"),
    [
        (60, 1, 1, (50, 50, 50)),
        (1, 250, 1, (1, 200, 200)),
        (10, 30, 1, (10, 200, 200)),
        (1, 1, 600, (1, 1, 500)),
        (3, 2, 100, (3, 6, 500)),
        (50, 4, 3, (50, 200, 500)),
        (2, 100, 2, (2, 200, 400)),
    ],
)
def test_number_of_parts_is_limited(stages: int, jobs: int, steps: int, kept: tuple[int, int, int]) -> None:
    """In the whole run, for any distribution of jobs and steps. The first ones are kept."""
    inner = [step(n) for n in range(steps)]
    middle = [job(n, steps=inner) for n in range(jobs)]
    run = run_of(stages=[stage(n, jobs=middle) for n in range(stages)])
    assert counts(run) == kept
    assert (STAGES, JOBS, STEPS) == (50, 200, 500)
    assert [one.name for one in run.stages] == [f"stage-{n}" for n in range(kept[0])]
    assert [one.name for one in run.stages[0].jobs] == [f"job-{n}" for n in range(min(jobs, JOBS))]
    assert [one.sequence for one in run.stages[0].jobs[0].steps] == list(range(min(steps, STEPS)))


@given(st.lists(st.lists(st.integers(0, 300), max_size=120), max_size=60), st.randoms(use_true_random=False))
@examples(15)
def test_limits_hold_for_any_run(shape: list[list[int]], chance: random.Random) -> None:
    """For any number of parts, null or repeated, as many as fit are kept."""
    plain = [{"name": chance.choice("AB"), "sequence": n} for n in range(300)]
    stages = [
        {
            "name": "S",
            "sequence": n,
            "jobs": [{"name": "J", "sequence": m, "steps": plain[:k]} for m, k in enumerate(jobs)],
        }
        for n, jobs in enumerate(shape)
    ]
    kept = counts(run_of(stages=stages))
    sizes = shape[:STAGES]
    first_jobs = [size for jobs in sizes for size in jobs][:JOBS]
    assert kept == (len(sizes), len(first_jobs), min(sum(first_jobs), STEPS))


# -- sources


def source(**build: Any) -> dict[str, Any]:
    return {"type": "code", "params": {"git_url": "https://example.com/a.git", "build_params": build}}


@pytest.mark.parametrize(
    "sources",
    [
        [source(target_branch="main")],
        [None, source(target_branch="main")],
        [{"type": "artifact", "params": None}, source(target_branch="main")],
        [{"params": {"build_params": None}}, source(target_branch="main")],
        [{"params": "odd"}, 3, source(target_branch="main")],
        [source(target_branch="main"), source(target_branch="other")],
    ],
)
def test_branch_is_that_of_the_first_source_with_parameters(sources: Any) -> None:
    assert run_of(sources=sources).branch == "main"


@pytest.mark.parametrize("sources", [None, [], [None], [{}], [{"params": {}}], "code", [source()], {}])
def test_labels_are_empty_without_sources(sources: Any) -> None:
    run = run_of(sources=sources)
    assert (run.branch, run.tag, run.commit, run.event, run.merge_id, run.source_branch) == ("",) * 6


# -- input of users

PRIVATE = "hunter2-must-stay-private"
VALUES: list[Any] = [PRIVATE, {PRIVATE: [PRIVATE]}, [PRIVATE], 17, None, [[PRIVATE]]]


@pytest.mark.parametrize("value", VALUES)
@pytest.mark.parametrize("as_pairs", [True, False])
def test_inputs_and_messages_are_never_decoded(value: Any, as_pairs: bool) -> None:
    """They may have secrets. In any form they affect nothing and are not exposed."""
    inputs = [{"key": PRIVATE, "value": value}] if as_pairs else {PRIVATE: value}
    spiked = step(inputs=inputs, message=value, endpoint_ids=[PRIVATE])
    one = job(steps=[spiked], message=PRIVATE, resource=PRIVATE)
    detail = read(record(stages=[stage(jobs=[one], pre=[spiked], condition=PRIVATE)], description=PRIVATE))
    assert detail.run == run_of(stages=[stage(jobs=[job(steps=[step()])])])
    assert PRIVATE not in repr(detail)


# -- another run, or none


def test_run_is_the_one_in_the_response() -> None:
    """The caller compares the id, so another run is never taken for the requested one."""
    assert CODEARTS.detail_request(PIPELINE_ID, "run-1").query == (("pipeline_run_id", "run-1"),)
    assert run_of(id="run-2").id == "run-2"


def test_run_without_id_is_identified_by_its_number() -> None:
    assert run_of(id=None).id == "#7"


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (record(id=None, run_number=None), "no_run_id"),
        (record(id="", run_number=0), "no_run_id"),
        (record(id=["x"]), "unreadable"),
        (record(status=["x"]), "unreadable"),
        ({"status": "RUNNING"}, "no_run_id"),
        ({}, "no_run_id"),
        ([], "unreadable"),
        (None, "unreadable"),
        (b"", "unreadable"),
        (SEED[:-30], "unreadable"),
        (b"\xff", "unreadable"),
        (b"[" * 100_000, "unreadable"),
    ],
)
def test_unusable_details_are_counted(answer: Any, reason: str) -> None:
    detail = read(answer)
    assert detail.run is None
    ((found, message),) = detail.rejected
    assert found == reason
    assert message
    assert len(message) < 300


# -- properties

# Fields of a run that depend on a field of its details.
HANGS_ON: dict[Any, set[str]] = {
    ("pipeline_id",): set(),
    ("name",): set(),
    ("description",): set(),
    ("executor_id",): {"executor"},
    ("status",): {"status", "end"},
    ("trigger_type",): {"trigger"},
    ("run_number",): {"number"},
    ("start_time",): {"start"},
    ("end_time",): {"end"},
    ("stages",): {"stages"},
    ("sources",): {"branch", "commit", "tag", "event", "merge_id", "source_branch"},
    ("artifacts",): set(),
    ("sources", 0, "params", "build_params", "commit_id"): {"commit"},
}
STAGE, JOB, STEP = ("stages", 1), ("stages", 1, "jobs", 1), ("stages", 1, "jobs", 1, "steps", 1)
INNER: list[Any] = [
    *[(*STAGE, name) for name in stage()],
    *[(*JOB, name) for name in job()],
    *[(*STEP, name) for name in step()],
    STAGE,
    JOB,
    STEP,
]
changes = st.sampled_from(["null", "remove", "replace"])


@given(st.sampled_from(list(HANGS_ON)), changes, json_values)
@examples(100)
def test_corrupted_field_affects_no_other(path: Any, change: str, value: Any) -> None:
    """For any value of one field, the fields that do not depend on it are decoded as before."""
    answer = corrupted(record(), path, change, value)
    # Without `status` it is not a response of the operation.
    if path == ("status",) and change == "remove":
        return
    assert CODEARTS.failure(CALL, 200, {}, json.dumps(answer).encode()) is None
    detail = read(answer)
    if path == ("status",) and detail.rejected:
        return  # a record with an invalid status is rejected
    assert not detail.rejected
    assert detail.run is not None
    sound, spoiled = msgspec.structs.asdict(run_of()), msgspec.structs.asdict(detail.run)
    assert {name for name in sound if sound[name] != spoiled[name]} <= HANGS_ON[path]


def test_every_field_is_covered() -> None:
    """The table of dependencies lists every field except the id."""
    assert {path[0] for path in HANGS_ON} == set(record()) - {"id"}


@given(st.sampled_from(INNER), changes, json_values)
@examples(150)
def test_corrupted_part_affects_no_other(path: Any, change: str, value: Any) -> None:
    """For any value of a stage, a job, a step or one of their fields, the others are decoded as before.

    Exception: the sequence of the next one, which may no longer be unique.
    """
    detail = read(corrupted(record(), path, change, value))
    assert not detail.rejected
    assert detail.run is not None
    sound, spoiled = run_of(), detail.run
    assert msgspec.structs.replace(spoiled, stages=()) == msgspec.structs.replace(sound, stages=())

    def unnumbered(one: Any) -> Any:
        return msgspec.structs.replace(one, sequence=0)

    first, *others = spoiled.stages
    assert unnumbered(first) == sound.stages[0]
    if len(path) > 3:
        (found,) = others
        assert msgspec.structs.replace(found, jobs=()) == msgspec.structs.replace(sound.stages[1], jobs=())
        assert unnumbered(found.jobs[0]) == sound.stages[1].jobs[0]
        if len(path) > 5:
            own, before = found.jobs[1], sound.stages[1].jobs[1]
            assert msgspec.structs.replace(own, steps=()) == msgspec.structs.replace(before, steps=())
            assert unnumbered(own.steps[0]) == before.steps[0]


@pytest.mark.parametrize(
    "literal", [b'"\xff\xfe"', b'"\\ud83d"', b"1e999", b"9" * 9999], ids=["bytes", "half", "number", "digits"]
)
@pytest.mark.parametrize(
    "path",
    [path for path in (*INNER, *HANGS_ON) if path != ("status",)],
    ids=lambda path: ".".join(map(str, path)),
)
def test_corrupted_text_affects_its_field_only(path: Any, literal: bytes) -> None:
    """For invalid UTF-8, lone surrogates, and numbers out of range."""
    answer = json.dumps(corrupted(record(), path, "replace", "SPOILT")).encode().replace(b'"SPOILT"', literal)
    assert CODEARTS.failure(CALL, 200, {}, answer) is None
    detail = read(answer)
    assert not detail.rejected
    assert detail.run is not None
    assert detail.run.id == "run-0"
    if path[0] == "stages" and len(path) > 1:
        assert detail.run.stages[0] == run_of().stages[0]
    str(detail.run).encode()


bodies = (
    st.binary(max_size=60)
    | json_values.map(lambda value: json.dumps(value).encode())
    | st.dictionaries(st.sampled_from(list(record())), json_values).map(
        lambda value: json.dumps(value).encode()
    )
)


@given(st.integers(199, 300), bodies)
@examples(150)
def test_any_success_can_be_decoded(status: int, answer: bytes) -> None:
    """Decoding never raises: the result is a run, or rejected with a message."""
    failure = CODEARTS.failure(CALL, status, {}, answer)
    if failure is None:
        assert 200 <= status < 300
        detail = read(answer)
        assert (detail.run is None) == bool(detail.rejected)
    else:
        assert failure.message or failure.error_code


# -- failures


@pytest.mark.parametrize("answer", [b"", b"null", b"[]", b"{}", b'{"id":"x"}', b'"x"', b"<html>", SEED[:-9]])
def test_response_of_another_operation_is_invalid(answer: bytes) -> None:
    failure = CODEARTS.failure(CALL, 200, {}, answer)
    assert failure is not None
    assert (failure.kind, failure.code, failure.error_code) == (FailureKind.UNREADABLE, "invalid", "")
    assert failure.message.startswith("unexpected response to ShowPipelineRunDetail")


@pytest.mark.parametrize("status", [200, 400])
@pytest.mark.parametrize("shape", SHAPES)
def test_every_error_envelope_is_read(shape: str, status: int) -> None:
    answer = json.dumps(SHAPES[shape]("DEVPIPE.00011136", "message")).encode()
    failure = CODEARTS.failure(CALL, status, {}, answer)
    assert failure is not None
    assert (failure.kind, failure.code) == (FailureKind.CONTENT, str(status))
    assert (failure.error_code, failure.message) == ("DEVPIPE.00011136", "message")


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        ("DEVPIPE.00011401", FailureKind.CONTENT),
        ("DEVPIPE.00011136", FailureKind.CONTENT),
        ("DEVPIPE.00011412", FailureKind.PROJECT),
        ("APIGW.0301", FailureKind.CREDENTIALS),
        ("APIGW.0308", FailureKind.THROTTLED),
    ],
)
def test_missing_run_fails_this_request_only(code: str, kind: FailureKind) -> None:
    """A missing pipeline or run affects one request, a missing project all."""
    failure = CODEARTS.failure(
        CALL, 200, {}, json.dumps({"error_code": code, "error_msg": "message"}).encode()
    )
    assert failure is not None
    assert (failure.kind, failure.error_code) == (kind, code)


def test_deleted_pipeline_is_not_found() -> None:
    desk, codearts = Desk(), provider(project_id=WORLD.project_id)
    gone = RUNNING_PIPELINES[0].id
    desk.cloud.deleted = {gone}
    call = codearts.detail_request(gone, "r")
    answer = send(desk, call)
    failure = codearts.failure(call, answer.status_code, {}, answer.content)
    assert failure is not None
    assert (failure.kind, failure.error_code) == (FailureKind.CONTENT, "DEVPIPE.00011401")


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        ("DEVPIPE.00011403", FailureKind.CONTENT),
        ("DEVPIPE.00011412", FailureKind.PROJECT),
        ("APIGW.0101", FailureKind.PROJECT),
        ("", FailureKind.PROJECT),
    ],
)
def test_not_found_is_about_the_run_unless_gateway_or_project_says_so(code: str, kind: FailureKind) -> None:
    """A 404 of the gateway or about the project concerns all requests."""
    body = json.dumps({"error_code": code, "error_msg": "not found"}).encode()
    failure = CODEARTS.failure(CALL, 404, {}, body)
    assert failure is not None
    assert failure.kind is kind
