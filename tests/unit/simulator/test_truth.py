"""True states of pipelines, compared with a simple computation over all their runs, for both clouds."""

from functools import cache

import pytest

from exporter.simulator import CodeArts, Flow, Scenario, SimulatedStatus, World
from exporter.simulator.flow.vocabulary import status_name

WORLD = World(seed=2, pipelines=50)
NOW = WORLD.start + 3600.5
IGNORED = SimulatedStatus.IGNORED
COMPLETED, FAILED, CANCELED = SimulatedStatus.COMPLETED, SimulatedStatus.FAILED, SimulatedStatus.CANCELED
SUCCESSES = {CodeArts: {COMPLETED}, Flow: {COMPLETED, IGNORED}}


@cache
def every_run(pipeline):
    latest = WORLD.latest_run(pipeline.id, NOW)
    return [] if latest is None else [WORLD.run(pipeline.id, n, NOW) for n in range(1, latest.number + 1)]


@pytest.mark.parametrize("kind", [CodeArts, Flow])
def test_truth_equals_what_all_runs_say(kind):
    cloud = kind(WORLD, clock=lambda: NOW)
    truths = {one.pipeline: one for one in cloud.truth()}
    assert len(truths) == 50
    for pipeline in WORLD.pipelines:
        truth = truths[pipeline.name]
        assert truth.pipeline_id == cloud.pipeline_id(pipeline.id)
        runs = every_run(pipeline)
        ended = [run for run in runs if run.end is not None]
        successes = [run for run in ended if run.status in SUCCESSES[kind]]
        after = ended[ended.index(successes[-1]) + 1 :] if successes else ended
        failures = [run for run in after if run.status is FAILED]
        assert truth.failures == len(failures)
        assert truth.failing_since == (failures[0].end if failures else None)
        assert truth.last_success == (successes[-1].end if successes else None)
        assert truth.red == (bool(ended) and ended[-1].status is FAILED)
        for shown, run in ((truth.latest_run, runs[-1:]), (truth.finished_run, ended[-1:])):
            assert (
                [shown.number, shown.start, shown.end] == [run[0].number, run[0].start, run[0].end]
                if run
                else not shown
            )
    reds = [truth for truth in truths.values() if truth.red]
    assert len(reds) > 1
    assert max(truth.failures for truth in reds) > 1
    assert all(truth.finished_run.failed_stages for truth in reds)


def test_status_and_ids_are_those_of_the_cloud():
    codearts = CodeArts(WORLD, clock=lambda: NOW).truth()
    flow = Flow(WORLD, clock=lambda: NOW).truth()
    for one, other in zip(codearts, flow, strict=True):
        if one.latest_run is not None:
            assert other.latest_run is not None
            assert other.latest_run.id == str(one.latest_run.number)
            assert other.latest_run.status == status_name(SimulatedStatus(one.latest_run.status))


def test_failed_stage_is_the_one_that_the_answer_reports():
    codearts = CodeArts(WORLD, clock=lambda: NOW)
    for truth in codearts.truth():
        if truth.red:
            assert truth.finished_run is not None
            run = WORLD.run(truth.pipeline_id, truth.finished_run.number, NOW)
            assert run is not None
            assert truth.finished_run.failed_stages == (
                (run.stages[len(run.plan.spans) - 1].name, len(run.plan.spans) - 1),
            )


def test_canceled_and_ignored_runs_neither_count_nor_end_a_streak():
    scenario, now = Scenario(WORLD), NOW
    own = WORLD.pipelines[0].id
    for status in (COMPLETED, FAILED, CANCELED, IGNORED, FAILED):
        run = scenario.begin(own, now)
        scenario.end(run, now + 5, status)
        now += 10
    cloud = CodeArts(WORLD, clock=lambda: now, runs=scenario)
    truth = cloud.truth()[0]
    assert (truth.failures, truth.failing_since, truth.last_success) == (2, NOW + 15, NOW + 5)
    # In Flow, an ignored failure is a success.
    truth = Flow(WORLD, clock=lambda: now, runs=scenario).truth()[0]
    assert (truth.failures, truth.failing_since, truth.last_success) == (1, int(NOW + 45), int(NOW + 35))


def test_pause_begins_the_status():
    runs = [WORLD.latest_run(pipeline.id, NOW) for pipeline in WORLD.pipelines]
    paused = [run for run in runs if run is not None and run.status.paused]
    cloud = CodeArts(WORLD, clock=lambda: NOW)
    since = {
        truth.pipeline_id: truth.latest_run.since for truth in cloud.truth() if truth.latest_run is not None
    }
    assert paused
    for run in paused:
        assert run.plan.pause is not None
        assert since[run.pipeline_id] == run.plan.pause[0] > run.start
