"""The detail of a run against the vendor's published example and against the batch."""

import json
import time
from collections import Counter
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.simulator import RecordedRequest, World
from exporter.simulator.world.jobs import jobs
from exporter.simulator.world.runs import SimulatedStatus
from tests.unit.simulator.test_codearts import FINISHED, NEVER_RUN, NOW, RUNNING_PIPELINES, WORLD, Desk

# Published with ShowPipelineRunDetail on 2025-09-08.
EXAMPLE = json.loads("""
{ "id": "25adfa6784124cfc9b9274ceaecf9957", "pipeline_id": "98b6ea1536374df883bcc3b129bca4e9",
  "manifest_version": "3.0", "name": "Sub-pipeline qqq", "description": null, "is_publish": false,
  "executor_id": "847a5317086c41798469d0868535943a", "executor_name": "Beta environment account",
  "status": "COMPLETED", "trigger_type": "Manual", "run_number": 1, "start_time": 1674207197000,
  "end_time": 1674207197000, "stages": [ {
    "id": "aac8063fbf084eec9722c77ece6dd283", "category": null, "name": "Phase_1", "identifier": "0",
    "run_always": false, "parallel": null, "is_select": true, "sequence": 0, "depends_on": [], "condition": null,
    "status": "COMPLETED", "start_time": 1674207197000, "end_time": 1674207197000, "pre": [ {
      "name": null, "task": "official_devcloud_autoTrigger", "business_type": null, "inputs": null, "sequence": 0,
      "official_task_version": null, "identifier": null, "multi_step_editable": 0,
      "id": "5a03bdb6ad2848ac972ba21744627a8c", "endpoint_ids": null,
      "last_dispatch_id": "6b3fa4c664844f33abc02053ddd76f62", "status": "COMPLETED", "message": null,
      "start_time": 1674207197000, "end_time": 1674207197000 } ],
    "post": [], "jobs": [ {
      "id": "1cde6a3815164cd18d0fa4038f876e46", "category": null, "sequence": 0, "async": null,
      "name": "Creating a Job", "identifier": "1674207161661b4a41d77-a478-4538-870b-ffb589c1af06", "depends_on": [],
      "condition": null, "resource": null, "is_select": true, "timeout": "", "last_dispatch_id": null,
      "status": "COMPLETED", "message": "not found steps", "start_time": 1674207197000,
      "end_time": 1674207197000, "steps": [] } ] } ],
  "domain_id": "ce8df55870164338a72d7e828a966a2a", "project_id": "6428c2e2b4b64affa14ec80896695c49",
  "region": "{region}", "component_id": "", "language": "zh-cn", "sources": [ { "type": "code", "params": {
      "git_type": "codehub", "git_url": "https://example.com/clsyz00001/aaaaa.git",
      "ssh_git_url": "git@example.com:clsyz00001/aaaaa.git", "web_url": "", "repo_name": "aaaaa",
      "default_branch": "master", "endpoint_id": "", "codehub_id": "2111677704", "alias": "", "build_params": {
        "action": null, "build_type": "branch", "commit_id": "990ea057751d299f5575aac25bf97e88a60b461e",
        "event_type": "Manual", "merge_id": null, "message": "Creating a Dockerfile", "source_branch": null,
        "tag": null, "target_branch": "master", "codehub_id": "2111677704" } } } ],
  "artifacts": null, "subject_id": "25adfa6784124cfc9b9274ceaecf9957" }
""")
EXAMPLE["stages"][0]["jobs"][0]["steps"] = EXAMPLE["stages"][0]["pre"]

UNFINISHED = {SimulatedStatus.RUNNING, SimulatedStatus.PAUSED, SimulatedStatus.SUSPEND}
ORDER = (
    {"INIT": 0, "QUEUED": 1}
    | dict.fromkeys(UNFINISHED, 2)
    | dict.fromkeys(FINISHED | {SimulatedStatus.SKIPPED}, 3)
)
MAY_BE_NULL = {"start_time", "end_time", "message", "last_dispatch_id"}

pipelines = st.sampled_from(RUNNING_PIPELINES)
numbers = st.integers(1, 500)


def _same_shape(record: Any, example: Any, where: str = "") -> None:
    """Compare keys, their order, and JSON types; null is allowed where the example may be null."""
    if isinstance(example, dict):
        assert list(record) == list(example), where
        for key, value in example.items():
            _same_shape(record[key], value, f"{where}.{key}")
    elif isinstance(example, list):
        assert isinstance(record, list)
        for item in record:
            _same_shape(item, example[0] if example else "", f"{where}[]")
    elif example is None:
        assert record is None or type(record) is str, where
    elif record is None:
        assert where.rpartition(".")[2] in MAY_BE_NULL, where
    else:
        assert type(record) is type(example), where


def test_detail_has_the_form_of_the_vendor_example() -> None:
    desk = Desk()
    for pipeline in RUNNING_PIPELINES[:100]:
        record = desk.detail(pipeline.id)
        assert record.pop("current_system_time") == int(NOW * 1000)
        # The vendor's example lacks it.
        assert record.pop("detail_url").endswith(f"/pipeline/detail/{record['pipeline_id']}/{record['id']}")
        _same_shape(record, EXAMPLE)
        assert record["name"] == pipeline.name
        for stage in record["stages"]:
            assert [step["task"] for step in stage["pre"]] == ["official_devcloud_autoTrigger"]
            assert 1 <= len(stage["jobs"]) <= 4
            assert all(1 <= len(job["steps"]) <= 3 for job in stage["jobs"])


def test_detail_agrees_with_the_batch() -> None:
    desk = Desk()
    batch = desk.batch(*(pipeline.id for pipeline in RUNNING_PIPELINES[:100])).json()
    for record in batch:
        detail = desk.detail(record["pipeline_id"])
        assert detail["id"] == record["pipeline_run_id"]
        for key in ("pipeline_id", "run_number", "status", "start_time", "end_time", "trigger_type"):
            assert detail[key] == record[key]
        for stage, summary in zip(detail["stages"], record["stage_status_list"], strict=True):
            assert all(stage[key] == summary[key] for key in ("name", "sequence", "status"))
            assert (stage["start_time"] is None) == (summary["start_time"] is None)
            assert (stage["end_time"] is None) == (summary["end_time"] is None)


@given(pipelines, numbers)
def test_run_is_found_by_its_id(pipeline: Any, number: int) -> None:
    run = WORLD.run(pipeline.id, number, NOW)
    if run is None:
        return
    record = Desk().detail(pipeline.id, run.id)
    assert (record["id"], record["run_number"]) == (run.id, number)


@pytest.mark.parametrize("run_id", ["f" * 32, "x" * 32, "é", "0" * 5_000, "+" * 32, "f" * 24 + "-1234567"])
def test_detail_of_a_missing_run_is_an_error_with_status_200(run_id: str) -> None:
    desk = Desk()
    record = desk.detail(RUNNING_PIPELINES[0].id, run_id)
    assert set(record) == {"error_code", "error_msg"}
    assert record["error_code"] == "DEVPIPE.00011402"
    assert desk.cloud.requests[-1].status == 200


def test_detail_is_an_error_for_wrong_pipelines_projects_and_runs() -> None:
    desk = Desk()
    mine, other = RUNNING_PIPELINES[:2]
    run = WORLD.latest_run(other.id, NOW)
    assert run is not None
    assert desk.detail(mine.id, run.id)["error_code"] == "DEVPIPE.00011402"
    assert desk.detail(NEVER_RUN[0].id)["error_code"] == "DEVPIPE.00011402"
    assert desk.detail("f" * 32)["error_code"] == "DEVPIPE.00011401"
    path = f"/v5/{'0' * 32}/api/pipelines/{mine.id}/pipeline-runs/detail"
    assert desk.request("GET", path).json()["error_code"] == "DEVPIPE.00011412"


def test_recorded_request_has_pipeline_and_run() -> None:
    desk = Desk()
    pipeline = RUNNING_PIPELINES[0]
    desk.detail(pipeline.id, "abc")
    desk.detail(pipeline.id)
    assert list(desk.cloud.requests) == [
        RecordedRequest("ShowPipelineRunDetail", (pipeline.id,), 200, NOW, "abc"),
        RecordedRequest("ShowPipelineRunDetail", (pipeline.id,), 200, NOW),
    ]


@given(pipelines, numbers, st.floats(0, 1.1))
def test_jobs_and_steps_agree_with_their_stage(pipeline: Any, number: int, share: float) -> None:
    """A failed stage has a failed job with a failed step; times lie within the stage."""
    whole = WORLD.run(pipeline.id, number, NOW * 2)
    assert whole is not None
    assert whole.end is not None
    now = whole.start + share * (whole.end - whole.start)
    run = WORLD.run(pipeline.id, number, now)
    assert run is not None
    for stage in run.stages:
        record = jobs(pipeline, run, stage.sequence, now)
        ran = [job for job in record if job.start is not None]
        if stage.start is None:
            assert ran == []
            statuses = {SimulatedStatus.INIT, SimulatedStatus.UNSELECTED} | (
                {stage.status} - {SimulatedStatus.INIT}
            )
            assert {job.status for job in record} <= statuses
            continue
        assert ran[0].start == stage.start
        assert all(job.status is SimulatedStatus.COMPLETED for job in ran[:-1])
        assert ran[-1].end == stage.end
        assert ran[-1].status == stage.status
        for job in record:
            assert job.selected == (job.status is not SimulatedStatus.UNSELECTED)
            started = [step for step in job.steps if step.start is not None]
            assert (started == []) == (job.start is None)
            if started:
                assert (started[0].start, started[-1].end) == (job.start, job.end)
                assert all(step.status is SimulatedStatus.COMPLETED for step in started[:-1])
                last = {
                    SimulatedStatus.IGNORED: SimulatedStatus.FAILED,
                    SimulatedStatus.PAUSED: SimulatedStatus.RUNNING,
                    SimulatedStatus.SUSPEND: SimulatedStatus.RUNNING,
                }.get(job.status, job.status)
                assert started[-1].status is last


@given(pipelines, numbers, st.lists(st.floats(0, 1.2), min_size=2, max_size=6))
def test_later_snapshot_of_jobs_never_goes_back(pipeline: Any, number: int, shares: list[float]) -> None:
    whole = WORLD.run(pipeline.id, number, NOW * 2)
    assert whole is not None
    assert whole.end is not None
    length = whole.end - whole.start
    before: list[Any] = []
    for share in sorted(shares):
        now = whole.start + share * length
        run = WORLD.run(pipeline.id, number, now)
        assert run is not None
        after = [job for stage in run.stages for job in jobs(pipeline, run, stage.sequence, now)]
        for was, is_now in zip(before, after, strict=False):
            assert (was.name, was.selected) == (is_now.name, is_now.selected)
            assert was.start in {None, is_now.start}
            assert was.end in {None, is_now.end}
            if was.status is not SimulatedStatus.UNSELECTED:
                assert ORDER[is_now.status] >= ORDER[was.status]
        before = after


def test_jobs_and_steps_have_all_counts_names_and_statuses() -> None:
    statuses: Counter[str] = Counter()
    counts: Counter[int] = Counter()
    steps: Counter[int] = Counter()
    unnamed = twice_in_a_stage = twice_in_a_run = 0
    for pipeline in RUNNING_PIPELINES:
        run = WORLD.latest_run(pipeline.id, NOW)
        assert run is not None
        stages = [jobs(pipeline, run, stage.sequence, NOW) for stage in run.stages]
        names = [[job.name for job in record] for record in stages]
        twice_in_a_stage += any(len(set(record)) < len(record) for record in names)
        twice_in_a_run += len(set().union(*names)) < sum(len(set(record)) for record in names)
        for record in stages:
            counts[len(record)] += 1
            statuses.update(job.status for job in record)
            for job in record:
                steps[len(job.steps)] += 1
                unnamed += sum(step.name is None for step in job.steps)
    assert set(statuses) >= {"COMPLETED", "FAILED", "RUNNING", "INIT", "UNSELECTED", "SKIPPED"}
    assert set(counts) == {1, 2, 3, 4}
    assert set(steps) == {1, 2, 3}
    assert unnamed
    assert twice_in_a_run
    assert 0 < twice_in_a_stage < len(RUNNING_PIPELINES) / 3


def test_job_identifiers_are_the_same_in_every_run() -> None:
    desk = Desk()
    pipeline = RUNNING_PIPELINES[0]
    latest = WORLD.latest_run(pipeline.id, NOW)
    assert latest is not None
    earlier = WORLD.run(pipeline.id, latest.number - 1, NOW)
    assert earlier is not None

    def of(run_id: str, key: str) -> list[str]:
        return [job[key] for stage in desk.detail(pipeline.id, run_id)["stages"] for job in stage["jobs"]]

    assert of(latest.id, "identifier") == of(earlier.id, "identifier")
    assert set(of(latest.id, "id")).isdisjoint(of(earlier.id, "id"))


def test_detail_takes_less_than_50_ms_in_a_large_world() -> None:
    desk = Desk(World(pipelines=10_000))
    times = []
    for pipeline in desk.cloud.world.pipelines[:50]:
        started = time.process_time()
        desk.detail(pipeline.id)
        times.append(time.process_time() - started)
    assert sorted(times)[25] < 0.05
