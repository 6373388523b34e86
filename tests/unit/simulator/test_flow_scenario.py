"""Runs of a scenario in Flow's form, and the record of what Flow reported."""

from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.simulator import FaultRates, InjectedFault, Scenario, ScenarioGenerator, SimulatedStatus, World
from exporter.simulator.flow.layout import layout
from exporter.simulator.flow.serialized import serialize
from exporter.simulator.flow.vocabulary import normalize, status_name
from tests.marks import examples
from tests.unit.simulator.test_flow import WORLD, SharedPort, Site, milliseconds

NOW = WORLD.start + 1_000.25
OWN, OTHER = (pipeline.id for pipeline in WORLD.pipelines[:2])
# Pipelines with parallel stages that have names.
PARALLEL = [
    pipeline
    for pipeline in WORLD.pipelines
    if layout(pipeline).parallel_stage is not None and not layout(pipeline).unnamed
]
LIST_RUNS, GET_RUN, LATEST = "ListPipelineRuns", "GetPipelineRun", "GetLatestPipelineRun"
FINISHED = {"SUCCESS", "FINISH", "FAIL", "CANCELED"}
UNFINISHED = {"RUNNING", "PAUSED", "SUSPEND"}


class ScenarioSite(Site):
    """A cloud that serves a scenario; a test moves its clock."""

    def __init__(self, port: SharedPort, world: World = WORLD, now: float = NOW) -> None:
        self.scenario = Scenario(world)
        super().__init__(port, world, now, self.scenario)

    def after(self, seconds: float) -> float:
        """Advance the clock and return the time."""
        self.now += seconds
        return self.now

    def shown(self, pipeline_id: str = OWN) -> tuple[int, str, int, int | None] | None:
        """Return number, status, start and end of the latest run; None without a run.

        Both generations must report the same.
        """
        signed = self.runs(pipeline_id)["pipelineRuns"]
        bare = self.bare(f"/{self.id(pipeline_id)}/runs").json()
        latest = self.latest(pipeline_id)
        if not signed:
            assert (bare, latest["errorCode"]) == ([], "NotFound")
            return None
        rows = [
            (row["pipelineRunId"], row["status"], row["startTime"], row.get("endTime") or None)
            for row in (signed[0], bare[0])
        ]
        number, status, start, _ = rows[0]
        detail = self.run(pipeline_id, number)["pipelineRun"]
        assert rows[0] == rows[1]
        for record in (latest, detail):
            seen = record["pipelineRunId"], record["status"], record["createTime"]
            assert seen == (number, status, start)
        return rows[0]

    def stages(self, pipeline_id: str = OWN) -> list[tuple[str, str, int | None, int | None]]:
        """Return positions, statuses, starts and ends of the stages of the latest run."""
        return [
            (stage["index"], *(stage["stageInfo"][key] for key in ("status", "startTime", "endTime")))
            for stage in self.latest(pipeline_id)["stages"]
        ]


@pytest.fixture(scope="module")
def port() -> Iterator[SharedPort]:
    with SharedPort.open() as port:
        yield port


@pytest.fixture
def site(port: SharedPort) -> ScenarioSite:
    return ScenarioSite(port)


# -- statuses


@pytest.mark.parametrize(
    ("final_status", "expected"),
    [
        (SimulatedStatus.COMPLETED, "SUCCESS"),
        (SimulatedStatus.FAILED, "FAIL"),
        (SimulatedStatus.CANCELED, "CANCELED"),
        (SimulatedStatus.IGNORED, "SUCCESS"),
    ],
)
def test_run_ends_with_its_final_status(
    site: ScenarioSite, final_status: SimulatedStatus, expected: str
) -> None:
    run = site.scenario.begin(OWN, NOW)
    assert site.shown() == (1, "RUNNING", milliseconds(NOW), None)
    end = site.after(75.875)
    site.scenario.end(run, end, final_status)
    assert site.shown() == (1, expected, milliseconds(NOW), milliseconds(end))
    reached = [status for _, status, start, _ in site.stages() if start is not None]
    assert set(reached[:-1]) <= FINISHED - {"FAIL"}
    # Later stages are pending, or skipped after an ignored failure.
    rest = {status for _, status, start, _ in site.stages() if start is None}
    assert rest <= ({"SKIP"} if final_status is SimulatedStatus.IGNORED else {"INIT"})
    assert milliseconds(end) in [ended for *_, ended in site.stages()]


def test_ignored_failure_becomes_a_success_with_the_same_end(site: ScenarioSite) -> None:
    run = site.scenario.begin(OWN, NOW)
    site.scenario.end(run, site.after(30), SimulatedStatus.FAILED)
    before = site.shown()
    assert before is not None
    site.scenario.ignore(run, site.after(30))
    assert site.shown() == (1, "SUCCESS", *before[2:])


@pytest.mark.parametrize("state", [SimulatedStatus.PAUSED, SimulatedStatus.SUSPEND])
def test_paused_run_is_waiting(site: ScenarioSite, state: SimulatedStatus) -> None:
    run = site.scenario.begin(OWN, NOW)
    site.scenario.pause(run, site.after(10), state)
    assert site.shown() == (1, "WAITING", milliseconds(NOW), None)
    statuses = [status for _, status, _, _ in site.stages()]
    assert "WAITING" in statuses
    jobs = [job for record in site.latest(OWN)["stages"] for job in record["stageInfo"]["jobs"]]
    assert [job["actions"][0]["type"] for job in jobs if job["actions"]] == ["PassPipelineValidate"]
    site.scenario.resume(run, site.after(10))
    assert site.shown() == (1, "RUNNING", milliseconds(NOW), None)


@pytest.mark.parametrize(
    ("status", "expected"), [(SimulatedStatus.QUEUED, "WAITING"), (SimulatedStatus.INIT, "INIT")]
)
def test_run_can_wait_before_it_runs(site: ScenarioSite, status: SimulatedStatus, expected: str) -> None:
    site.scenario.begin(OWN, NOW, status=status)
    site.after(60)
    assert site.shown() == (1, expected, milliseconds(NOW), None)
    assert {status for _, status, _, _ in site.stages()} == {"INIT"}


def test_custom_status_is_reported_unchanged(site: ScenarioSite) -> None:
    run = site.scenario.begin(OWN, NOW)
    site.scenario.end(run, site.after(60), SimulatedStatus.FAILED, custom_status="UNKOWN")
    assert site.shown() == (1, "UNKOWN", milliseconds(NOW), milliseconds(site.now))
    assert [row["pipelineRunId"] for row in site.runs(OWN, status="UNKOWN")["pipelineRuns"]] == [1]


def test_unreported_end_appears_nowhere(site: ScenarioSite) -> None:
    """The stages and jobs that ended with the run do not contain it either."""
    run = site.scenario.begin(OWN, NOW)
    end = site.after(75.5)
    site.scenario.end(run, end, SimulatedStatus.FAILED, report_end=False)
    site.after(60)
    assert site.shown() == (1, "FAIL", milliseconds(NOW), None)
    assert str(milliseconds(end)) not in str(site.latest(OWN))
    site.scenario.reveal_end(run, site.now)
    assert site.shown() == (1, "FAIL", milliseconds(NOW), milliseconds(end))
    assert str(milliseconds(end)) in str(site.latest(OWN))


def test_retry_keeps_the_run_number(site: ScenarioSite) -> None:
    run = site.scenario.begin(OWN, NOW)
    site.scenario.end(run, site.after(60), SimulatedStatus.FAILED)
    site.scenario.retry(run, site.after(60))
    assert site.shown() == (1, "RUNNING", milliseconds(NOW), None)
    site.scenario.end(run, site.after(60), SimulatedStatus.COMPLETED)
    assert site.shown() == (1, "SUCCESS", milliseconds(NOW), milliseconds(site.now))


def test_run_number_finds_the_latest_run_with_that_number(site: ScenarioSite) -> None:
    """After a reset of the numbering two runs can have the same number."""
    scenario = site.scenario
    for _ in range(3):
        scenario.begin(OWN, site.after(1))
    scenario.skip(OWN, 5)
    scenario.begin(OWN, site.after(1))
    assert [row["pipelineRunId"] for row in site.runs(OWN)["pipelineRuns"]] == [9, 3, 2, 1]
    assert site.run(OWN, 4)["Code"] == "InvalidPipelineRun.NotFound"
    scenario.reset_numbers(OWN, site.after(1))
    again = scenario.begin(OWN, site.after(1))
    assert site.run(OWN, 1)["pipelineRun"]["createTime"] == milliseconds(site.now)
    scenario.delete(again, site.after(1))
    assert site.run(OWN, 1)["pipelineRun"]["createTime"] == milliseconds(NOW + 1)


def test_planned_cancellation_shows_cancelling_before_the_end(port: SharedPort) -> None:
    site = Site(port)
    for pipeline in WORLD.pipelines:
        for number in range(1, 30):
            run = WORLD.run(pipeline.id, number, NOW * 2)
            if (
                run is None
                or run.status is not SimulatedStatus.CANCELED
                or run.end is None
                or run.end - run.start < 60
            ):
                continue
            site.now = run.end - 1
            record = site.run(pipeline.id, number)["pipelineRun"]
            assert record["status"] == "RUNNING"
            assert "CANCELLING" in {stage["stageInfo"]["status"] for stage in record["stages"]}
            return
    pytest.fail("no run was cancelled")


def test_triggers_are_numbers(port: SharedPort) -> None:
    site = Site(port)
    site.cloud.page_limit = 500
    busy = min((p for p in WORLD.pipelines if p.first is not None), key=lambda pipeline: pipeline.period)
    rows = site.runs(busy.id, maxResults=500)["pipelineRuns"]
    assert {row["triggerMode"] for row in rows} == {1, 2, 3, 4, 5, 6}


# -- parallel stages


def test_some_pipelines_have_parallel_stages(port: SharedPort) -> None:
    site = Site(port)
    share = sum(layout(pipeline).parallel_stage is not None for pipeline in WORLD.pipelines) / len(
        WORLD.pipelines
    )
    assert 0.15 < share < 0.45
    for pipeline in PARALLEL[:5]:
        record = site.run(pipeline.id, 1).get("pipelineRun")
        if record is None:
            continue
        sizes = sorted(map(len, record["stageGroup"]))
        assert sizes == [1] * (len(pipeline.stages) - 1) + [2]
        names = [stage["name"] for stage in record["stages"]]
        assert len(set(names)) == len(names) == len(pipeline.stages) + 1


def test_unnamed_stage_is_named_after_its_position(port: SharedPort) -> None:
    site = Site(port)
    unnamed = next(
        pipeline for pipeline in WORLD.pipelines if layout(pipeline).unnamed and pipeline.first is not None
    )
    record = site.latest(unnamed.id)
    assert [stage["name"] for stage in record["stages"]] == [stage["index"] for stage in record["stages"]]
    assert record["stageGroup"][0][0] == "Group0-Stage0"


SLOW = examples(30)
ORDER = dict.fromkeys(FINISHED | {"SKIP"}, 3) | {"RUNNING": 2, "CANCELLING": 2, "WAITING": 1, "INIT": 0}


@SLOW
@given(
    pipeline=st.sampled_from([pipeline for pipeline in PARALLEL if pipeline.first is not None]),
    number=st.integers(1, 300),
    shares=st.lists(st.floats(0, 1.2), min_size=2, max_size=5),
)
def test_groups_run_in_sequence_and_never_go_back(
    port: SharedPort, pipeline: Any, number: int, shares: list[float]
) -> None:
    """Stages of a group start together and end before the next group starts."""
    run = WORLD.run(pipeline.id, number, NOW * 2)
    assert run is not None
    assert run.end is not None
    site = Site(port)
    before: list[Any] = []
    for share in sorted(shares):
        site.now = run.start + share * (run.end - run.start)
        record = site.bare(f"/{site.id(pipeline.id)}/runs/{number}").json()
        stages = {stage["index"]: stage["stageInfo"] for stage in record["stages"]}
        clock = record["createTime"]
        for group in record["stageGroup"]:
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
        assert record["updateTime"] >= clock
        after = list(stages.values())
        for was, now in zip(before, after, strict=False):
            assert was["startTime"] in {None, now["startTime"]}
            assert was["endTime"] in {None, now["endTime"]}
            if "WAITING" not in {was["status"], now["status"]}:
                assert ORDER[now["status"]] >= ORDER[was["status"]]
        before = after


# -- reports

OPERATIONS = (LIST_RUNS, GET_RUN, LATEST)


def _request(site: ScenarioSite, operation: str, pipeline_id: str = OWN, *, signed: bool = True) -> None:
    path = f"/{site.id(pipeline_id)}"
    latest = site.scenario.latest(pipeline_id, site.now)
    number = "" if operation == LIST_RUNS else f"/{latest.number if latest else 1}"
    if operation == LATEST:
        site.bare(f"{path}/runs/latestPipelineRun")
    elif signed:
        site.request(f"{path}/pipelineRuns{number}", operation)
    else:
        site.bare(f"{path}/runs{number}")


@pytest.mark.parametrize("signed", [True, False])
@pytest.mark.parametrize("operation", OPERATIONS)
def test_every_operation_records_each_state_once(site: ScenarioSite, operation: str, signed: bool) -> None:
    """Times are the reported seconds; stages are present if the operation reports them."""
    scenario = site.scenario
    run = scenario.begin(OWN, NOW)
    scenario.begin(OTHER, NOW)
    site.after(0.5)
    for _ in range(3):
        _request(site, operation, signed=signed)
    scenario.end(run, site.after(60), SimulatedStatus.COMPLETED)
    _request(site, operation, signed=signed)
    first, last = scenario.reports(OWN)[run.id]
    assert (first.moment, first.operation, first.status, first.start, first.end, first.final) == (
        NOW + 0.5,
        operation,
        "RUNNING",
        int(NOW),
        None,
        False,
    )
    assert (last.status, last.start, last.end, last.final) == ("COMPLETED", int(NOW), int(site.now), True)
    assert bool(last.stages) is (operation != LIST_RUNS)
    assert scenario.reports(OTHER) == {}


def test_reported_stages_are_those_on_the_wire(site: ScenarioSite) -> None:
    pipeline = PARALLEL[0]
    run = site.scenario.begin(pipeline.id, NOW)
    site.scenario.end(run, site.after(3_000), SimulatedStatus.COMPLETED)
    record = site.latest(pipeline.id)
    (report,) = site.scenario.reports(pipeline.id)[run.id]
    assert [(name, seconds) for name, _, seconds in report.stages] == [
        (one["name"], (one["stageInfo"]["endTime"] - one["stageInfo"]["startTime"]) // 1000)
        for one in record["stages"]
    ]
    assert len(report.stages) == len(pipeline.stages) + 1
    # The list has no stages, so it reports nothing new.
    site.runs(pipeline.id)
    site.latest(pipeline.id)
    assert site.scenario.reports(pipeline.id) == {run.id: (report,)}


def test_alternating_list_and_detail_each_report_the_run_once(site: ScenarioSite) -> None:
    run = site.scenario.begin(OWN, NOW)
    site.scenario.end(run, site.after(60), SimulatedStatus.FAILED)
    for _ in range(3):
        site.runs(OWN)
        site.latest(OWN)
    listed, looked = site.scenario.reports(OWN)[run.id]
    assert (listed.operation, listed.stages) == (LIST_RUNS, ())
    assert looked.operation == LATEST
    assert looked.stages


@pytest.mark.parametrize("operation", OPERATIONS)
@pytest.mark.parametrize(
    "injected_fault",
    [InjectedFault.CUT, InjectedFault.NULL, InjectedFault.ERROR_OBJECT],
    ids=lambda m: m.name,
)
def test_answer_that_was_not_sent_is_not_recorded(
    site: ScenarioSite, operation: str, injected_fault: InjectedFault
) -> None:
    run = site.scenario.begin(OWN, NOW)
    site.cloud.injected_fault, site.cloud.injected_fault_operation = injected_fault, operation
    _request(site, operation)
    site.cloud.injected_fault, site.cloud.throttle = None, (0, 60)
    _request(site, operation)
    site.cloud.throttle, site.cloud.forbidden = None, {OWN}
    _request(site, operation)
    assert site.scenario.reports(OWN) == {}
    site.cloud.forbidden = set()
    _request(site, operation)
    assert set(site.scenario.reports(OWN)) == {run.id}


def test_garbled_list_reports_all_but_the_first_run(site: ScenarioSite) -> None:
    runs = [site.scenario.begin(OWN, NOW + place) for place in range(3)]
    site.after(10)
    site.cloud.injected_fault = InjectedFault.GARBLED
    path = f"/{site.id(OWN)}/pipelineRuns"
    content = site.request(path, LIST_RUNS).content.decode("utf-8", "replace")
    assert content.index("\ufffd") < content.index('"pipelineRunId":2')
    assert set(site.scenario.reports(OWN)) == {run.id for run in runs[:2]}


WILD = FaultRates(**{**dict.fromkeys(FaultRates.__slots__, 0.2), "reset": 0.0, "recreated": 0.0})
SMALL = World(seed=5, pipelines=8)


@SLOW
@given(
    seed=st.integers(0, 1_000),
    questions=st.lists(
        st.tuples(st.floats(1, 2_000), st.sampled_from(OPERATIONS), st.booleans()), min_size=1, max_size=8
    ),
)
def test_reports_equal_the_true_states(
    port: SharedPort, seed: int, questions: list[tuple[float, str, bool]]
) -> None:
    """Each report is a state that the run had at that moment, as far as Flow distinguishes states."""
    site = ScenarioSite(port, SMALL, SMALL.start)
    generator = ScenarioGenerator(site.scenario, seed, WILD)
    for seconds, operation, signed in questions:
        generator.play(site.after(seconds))
        for pipeline in SMALL.pipelines:
            _request(site, operation, pipeline.id, signed=signed)
            assert site.cloud.requests[-1].status in {200, 404}
    statuses = {status.value: normalize(status).value for status in SimulatedStatus}
    for pipeline in SMALL.pipelines:
        truths = {truth.id: truth for truth in site.scenario.truth(pipeline.id)}
        for run_id, reports in site.scenario.reports(pipeline.id).items():
            for report in reports:
                states = truths[run_id].states
                state = [state for state in states if state.moment <= round(report.moment, 3)][-1]
                assert report.status == statuses.get(state.status, state.status)
                assert report.start == int(state.start)
                assert report.end == (None if state.end is None else int(state.end))
            assert all(not after.repeats(before) for before, after in pairwise(reports))


@SLOW
@given(seed=st.integers(0, 1_000), offsets=st.lists(st.floats(0, 10_000), min_size=2, max_size=6))
def test_stages_never_go_back_except_for_a_retry(seed: int, offsets: list[float]) -> None:
    """The time of the last change never goes back either."""
    scenario = Scenario(SMALL)
    ScenarioGenerator(scenario, seed, WILD).play(SMALL.start + 10_000)
    for pipeline in SMALL.pipelines:
        for truth in scenario.truth(pipeline.id):
            again = [
                after.moment - SMALL.start
                for before, after in pairwise(truth.states)
                if after.status == "RUNNING" and before.status not in UNFINISHED
            ]
            early, was, custom_status_before = 0.0, None, None
            for late in sorted(offsets):
                run = scenario.run(pipeline, truth.id, SMALL.start + late)
                now = run and serialize(pipeline, run, SMALL.start + late)
                if was and now:
                    assert was.changed <= now.changed <= SMALL.start + late
                # A run with an unknown status may have seemed finished too early.
                if (
                    was
                    and now
                    and custom_status_before is None
                    and not any(early < moment <= late for moment in again)
                ):
                    for before, after in zip(was.run.stages, now.run.stages, strict=True):
                        assert before.name == after.name
                        assert before.start in {None, after.start}
                        assert before.end in {None, after.end}
                early, was, custom_status_before = late, now, run and run.custom_status


def test_every_simulated_state_has_a_name_in_flow() -> None:
    assert {status_name(status) for status in SimulatedStatus} == {
        "SUCCESS", "RUNNING", "FAIL", "CANCELED", "WAITING", "INIT", "SKIP",
    }  # fmt: skip
