"""Every run is counted exactly once, despite faults of clouds, runs and the exporter.

The whole exporter polls a scenario. A test begins, ends, retries and deletes runs. The cloud responds late, wrongly or
not at all, and the exporter is killed and restarted. When everything works again, counters and histograms must match
the reports of the cloud.
"""

import asyncio
import math
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from unittest.mock import patch

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    rule,
    run_state_machine_as_test,
)

from exporter.exposition.publisher import Publisher
from exporter.simulator import (
    CodeArts,
    Flow,
    InjectedFault,
    Scenario,
    SimulatedRun,
    SimulatedStatus,
    World,
    running,
)
from exporter.state.repository import StateRepository
from exporter.state.sqlite import SaveError, SqliteStore
from exporter.tracking.project import ProjectTracker
from exporter.tracking.run_counters import BucketBounds
from exporter.tracking.views import MissedRuns
from tests.drivers.audit import Audit
from tests.drivers.streaks import false_streaks, reporting
from tests.drivers.summary_lists import GET_RUN, LIST_RUNS, TRANSIENT_FAULTS, SummaryListScenario
from tests.drivers.support import FakeClock
from tests.marks import examples
from tests.soak import ACTIVE, ExporterLife, configurations, create_cloud, pipeline_ids, publish_nothing

FINAL_STATUSES = (
    SimulatedStatus.COMPLETED,
    SimulatedStatus.FAILED,
    SimulatedStatus.CANCELED,
    SimulatedStatus.IGNORED,
)
LIST_PIPELINES = "ListPipelines"


class KilledError(BaseException):
    """Raised to simulate a kill of the process."""


class SaveFault:
    """Fault of the next save: the exporter is killed "before" or "after" it, the disk is "full", or none if empty."""

    def __init__(self) -> None:
        self.next = ""
        self.committed_until = 0.0
        """Time up to which all reports are in the state, in Unix seconds."""


@dataclass
class Port:
    """A port that serves one simulated cloud after the other."""

    url: str
    cloud: CodeArts | Flow | None = None


@pytest.fixture(scope="module")
def port():
    """One port for all examples: a server takes longer to start than an example takes."""
    served = Port("")

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if served.cloud is not None:
            await served.cloud.app(scope, receive, send)

    with running(app) as served.url:
        yield served


class ExactlyOnceMachine(RuleBasedStateMachine):
    """Three pipelines, some with runs at first; a cloud, an exporter, and one clock."""

    port: Port
    name = "codearts"
    size = 3
    keeps_state = True
    """Without a state, an exporter knows nothing after a restart: counts begin again, but streaks must still be true."""

    def __init__(self) -> None:
        super().__init__()
        self.directory = TemporaryDirectory()
        world = World(pipelines=self.size)
        self.clock = FakeClock(world.start + 1000.0)
        self.scenario, self.cloud = create_cloud(self.name, world, self.clock)
        self.cloud.clock = self.cloud_time
        self.seconds_per_answer = 0.0
        self.port.cloud = self.cloud
        # One request at a time makes an example reproducible.
        state = Path(self.directory.name) / "state.db" if self.keeps_state else None
        self.configs = configurations(self.cloud, self.port.url, state, concurrency=1)
        self.life = ExporterLife(self.configs, self.clock, self.scenario)
        self.runner = asyncio.Runner()
        self.save_fault = SaveFault()
        self.pipelines = [one.id for one in world.pipelines]
        self.runs: list[SimulatedRun] = []
        self.audit: Audit | None = None
        self.wild = 0

    def teardown(self) -> None:
        try:
            # An example that failed at its start has nothing to check.
            if self.audit is not None:
                self.everything_is_counted_when_faults_stop()
        finally:
            self.runner.run(self.life.stop())
            self.runner.close()
            self.directory.cleanup()

    def cloud_time(self) -> float:
        """Return the cloud's time, which advances with each response."""
        self.clock.now += self.seconds_per_answer
        return self.clock.now

    # The exporter

    @initialize(statuses=st.lists(st.sampled_from([None, *FINAL_STATUSES]), max_size=3))
    def starts_with_runs(self, statuses):
        """There may be runs before the first poll; finished ones are not counted."""
        self.first_poll(statuses)

    def first_poll(self, statuses: list[SimulatedStatus | None]) -> None:
        """Create a run for each final status, unfinished for None, and poll for the first time."""
        for status in statuses:
            run = self.begin(self.pipelines[0])
            if status is not None:
                self.scenario.end(run, self.clock.now + 5, status)
            self.clock.now += 10
        self.audit = Audit(self.scenario, self.clock.now, pipeline_ids(self.cloud))
        self.save_fault.committed_until = self.clock.now
        self.poll()

    def poll(self) -> None:
        """Run a tick; discard the reports that were not committed if the exporter is killed."""
        with failing_saves(self.save_fault, self.clock, self.scenario):
            try:
                self.runner.run(self.life.tick())
            except* KilledError:
                self.kill()
        self.clock.now += ACTIVE
        self.streaks_are_true_or_absent(settled=False)

    def kill(self) -> None:
        """Kill the exporter: it loses what it has not saved."""
        self.scenario.discard_reports(self.save_fault.committed_until)
        self.restarts()

    def counters(self) -> dict[str, Any]:
        """Return the counters that the exporter shows, by pipeline id."""
        exporter = self.life.exporter
        return {
            view.pipeline.id: (view.counters, view.durations and view.durations.runs_created)
            for tracker in exporter.trackers
            for view in tracker.views()
            if view.counters is not None
        }

    @rule()
    def polls(self):
        self.poll()

    @rule(minutes=st.integers(1, 10))
    def poll_is_late(self, minutes):
        self.clock.now += 60 * minutes
        self.poll()

    @rule(when=st.sampled_from(["before", "after", "full"]))
    def next_save_fails(self, when):
        """The exporter is killed before or after the save, or the disk is full."""
        if self.keeps_state or when != "full":
            self.save_fault.next = when

    @rule(seconds=st.integers(0, 3600))
    def restarts(self, seconds=0):
        """After downtime the exporter shows the committed counters before its first request."""
        shown = self.counters()
        self.runner.run(self.life.stop())
        self.clock.now += seconds
        if self.keeps_state:
            assert self.counters() == shown
        else:
            self.scenario.discard_reports(0.0)
            self.audit = Audit(self.scenario, self.clock.now, pipeline_ids(self.cloud))

    # The cloud

    @rule(
        injected_fault=st.sampled_from(
            [None, None, InjectedFault.SERVER_ERROR, InjectedFault.CUT, InjectedFault.ERROR_OBJECT]
        )
    )
    def run_list_fails(self, injected_fault):
        """The fault stays until this rule removes it."""
        self.cloud.injected_fault, self.cloud.injected_fault_operation = injected_fault, LIST_RUNS

    @rule(
        injected_fault=st.sampled_from([InjectedFault.BAD_GATEWAY, InjectedFault.HTML, InjectedFault.EMPTY])
    )
    def one_poll_fails(self, injected_fault):
        before = self.cloud.injected_fault, self.cloud.injected_fault_operation
        self.cloud.injected_fault, self.cloud.injected_fault_operation = injected_fault, None
        self.poll()
        self.cloud.injected_fault, self.cloud.injected_fault_operation = before

    @rule(seconds=st.sampled_from([0.0, 0.3, 2.0]))
    def answers_take_time(self, seconds):
        """Runs change between the responses of one poll."""
        self.seconds_per_answer = seconds

    @rule(order=st.sampled_from(["requested", "ascending", "descending", "random"]))
    def run_list_has_another_order(self, order):
        self.cloud.runs_order = order

    @rule(seconds=st.sampled_from([0.0, 0.0, 20.0, 100.0]))
    def answers_are_stale(self, seconds):
        self.cloud.stale = seconds

    @rule(index=st.integers(0, 2))
    def number_is_misreported(self, index):
        """The next response gives the latest run an implausible number, a different one each time.

        Not without a state: after a restart, an exporter cannot recognize the first number as implausible.
        """
        if not self.keeps_state:
            return
        self.wild += 1_000_000
        self.scenario.misreport(self.pipelines[index], self.wild)

    # The runs

    def begin(self, pipeline: str, **how: Any) -> SimulatedRun:
        run = self.scenario.begin(pipeline, self.clock.now, **how)
        self.runs.append(run)
        return run

    def choose(self, data: Any, fits: Callable[[SimulatedRun], bool]) -> SimulatedRun | None:
        past = (run for run in self.runs if run.transitions[-1].moment <= self.clock.now)
        found = [run for run in past if self.scenario.exists(run) and fits(run)]
        return data.draw(st.sampled_from(found)) if found else None

    @rule(index=st.integers(0, 2), status=st.sampled_from([SimulatedStatus.RUNNING, SimulatedStatus.PAUSED]))
    def run_begins(self, index, status):
        """The run before it may be unfinished."""
        self.clock.now += 1
        self.begin(self.pipelines[index], status=status)

    @rule(
        index=st.integers(0, 2),
        final_statuses=st.lists(st.sampled_from(FINAL_STATUSES), min_size=1, max_size=25),
    )
    def many_runs_begin_and_end(self, index, final_statuses):
        """All of them begin and end between two polls."""
        for final_status in final_statuses:
            self.clock.now += 2
            run = self.begin(self.pipelines[index])
            self.clock.now += 3
            self.scenario.end(run, self.clock.now, final_status)

    @rule(index=st.integers(0, 2), count=st.integers(1, 3))
    def numbers_are_skipped(self, index, count):
        self.scenario.skip(self.pipelines[index], count)

    @rule(index=st.integers(0, 2))
    def number_is_reserved(self, index):
        self.scenario.reserve(self.pipelines[index])

    @rule(data=st.data(), index=st.integers(0, 2))
    def reserved_run_begins(self, data, index):
        """Runs with greater numbers may have begun before it."""
        waiting = sorted(self.scenario.reserved(self.pipelines[index]))
        if waiting:
            self.clock.now += 1
            self.begin(self.pipelines[index], number=data.draw(st.sampled_from(waiting)))

    @rule(
        data=st.data(),
        final_status=st.sampled_from(FINAL_STATUSES),
        end_reported=st.sampled_from([True, True, True, False]),
    )
    def run_ends(self, data, final_status, end_reported):
        """Its end may not be reported."""
        run = self.choose(data, lambda run: not run.finished)
        if run is not None:
            self.clock.now += 2
            self.scenario.end(run, self.clock.now, final_status, report_end=end_reported)

    @rule(
        data=st.data(),
        final_status=st.sampled_from(FINAL_STATUSES),
        after=st.integers(1, 20),
        retried=st.booleans(),
    )
    def run_ends_soon(self, data, final_status, after, retried):
        """The run may end during a poll, and may be retried at once."""
        run = self.choose(data, lambda run: not run.finished)
        if run is not None:
            self.scenario.end(run, self.clock.now + after, final_status)
            if retried:
                self.scenario.retry(run, self.clock.now + after + 3)

    @rule(data=st.data())
    def run_ends_with_unknown_status(self, data):
        run = self.choose(data, lambda run: not run.finished)
        if run is not None:
            self.clock.now += 2
            self.scenario.end(run, self.clock.now, SimulatedStatus.FAILED, custom_status="TERMINATED_BY_MOON")

    @rule(data=st.data())
    def end_is_revealed(self, data):
        run = self.choose(data, lambda run: not run.transitions[-1].end_reported)
        if run is not None:
            self.scenario.reveal_end(run, self.clock.now)

    @rule(data=st.data())
    def run_is_retried(self, data):
        """Any finished run, old or new, is retried."""
        run = self.choose(data, lambda run: run.finished and run.transitions[-1].custom_status is None)
        if run is not None:
            self.clock.now += 2
            self.scenario.retry(run, self.clock.now)

    @rule(data=st.data())
    def failure_is_ignored(self, data):
        run = self.choose(
            data,
            lambda run: (
                run.transitions[-1].status is SimulatedStatus.FAILED
                and run.transitions[-1].custom_status is None
            ),
        )
        if run is not None:
            self.scenario.ignore(run, self.clock.now)

    @rule(data=st.data())
    def run_is_deleted(self, data):
        """Any run is deleted, finished or not."""
        run = self.choose(data, lambda _: True)
        if run is not None:
            self.clock.now += 1
            self.scenario.delete(run, self.clock.now)

    # The invariants

    def streaks_are_true_or_absent(self, *, settled: bool) -> None:
        """Compare the streaks that are shown with the cloud's runs. Once settled, all of them are shown."""
        assert self.audit is not None
        views = [view for tracker in self.life.exporter.trackers for view in tracker.views()]
        now = self.clock.now
        known_until = now if settled else -math.inf
        failures = false_streaks(views, self.audit, self.scenario, now, known_until, reporting(self.cloud))
        assert not failures, failures

    @rule()
    def everything_is_counted_when_faults_stop(self):
        """After some time without faults all runs are resolved, and counted as the cloud reported them."""
        self.save_fault.next = ""
        self.cloud.injected_fault = None
        self.cloud.stale = self.seconds_per_answer = 0.0
        for _ in range(7):
            self.poll()
            self.clock.now += 930
        exporter = self.life.exporter
        views = [view for tracker in exporter.trackers for view in tracker.views()]
        projects = [view for tracker in exporter.trackers if (view := tracker.project_view()) is not None]
        assert len(views) == len(self.pipelines)
        assert self.audit is not None
        self.streaks_are_true_or_absent(settled=True)
        if not self.keeps_state:
            return
        result = self.audit.check(views, projects, BucketBounds.of(self.configs[0].metrics))
        assert not result.failures, result.failures
        assert (result.double, result.unexplained) == (0, 0)
        for tracker in exporter.trackers:
            for saved in (tracker[pipeline_id].to_save() for pipeline_id in tracker.ids):
                assert saved is not None
                assert saved.accounts.state.missing_numbers == ()


class FlowMachine(ExactlyOnceMachine):
    """Of eight pipelines three have runs, so the exporter uses activity queries."""

    name = "flow"
    size = 8
    scenario: SummaryListScenario
    cloud: Flow

    @initialize(
        statuses=st.lists(st.sampled_from([None, *FINAL_STATUSES]), max_size=3),
        switches=st.fixed_dictionaries(
            {
                "run_status": st.booleans(),
                "page_headers": st.booleans(),
                "page_limit": st.sampled_from([30, 3]),
                "open_end": st.sampled_from(["mixed", "zero"]),
                "last_page": st.sampled_from(["null", "absent"]),
                "end_lag": st.sampled_from([0, 3]),
            }
        ),
    )
    def starts_with_runs(self, statuses, switches):
        for name, value in switches.items():
            setattr(self.cloud, name, value)
        # Where ends in details differ from the list, a list without statuses makes a run seem retried (docs/accounting.md).
        self.cloud.run_status = self.cloud.run_status or bool(self.cloud.end_lag)
        self.first_poll(statuses)

    @rule(order=st.sampled_from(["requested", "ascending", "descending", "random"]))
    def run_list_has_another_order(self, order):
        """Three rows in random order look sorted too often to be a test."""
        self.cloud.runs_order = order
        if order == "random":
            self.cloud.page_limit = 30

    @rule(
        operation=st.sampled_from([LIST_PIPELINES, LIST_RUNS, GET_RUN]),
        injected_fault=st.sampled_from(
            [InjectedFault.SERVER_ERROR, InjectedFault.CUT, InjectedFault.ERROR_OBJECT, InjectedFault.DENIED]
        ),
    )
    def operation_fails(self, operation, injected_fault):
        """The fault stays until this rule removes it. If neither list nor details contain a status, no report is possible."""
        if operation != GET_RUN or self.cloud.run_status or injected_fault in TRANSIENT_FAULTS:
            self.cloud.injected_fault, self.cloud.injected_fault_operation = injected_fault, operation

    @rule(end_reported=st.booleans())
    def run_list_has_statuses(self, end_reported):
        """The list of the personal API may lack statuses. Ends in details and in the list are the same then."""
        if self.cloud.end_lag:
            return
        if (
            self.cloud.injected_fault is None
            or self.cloud.injected_fault_operation != GET_RUN
            or self.cloud.injected_fault in TRANSIENT_FAULTS
        ):
            self.cloud.run_status = end_reported


class StatelessMachine(ExactlyOnceMachine):
    """CodeArts, and an exporter without a state."""

    keeps_state = False


class StatelessFlowMachine(FlowMachine):
    """Flow, and an exporter without a state."""

    keeps_state = False


@contextmanager
def failing_saves(fault: SaveFault, clock: FakeClock, scenario: Scenario):
    """Kill the exporter at a save, or fill its disk, as `fault` says."""
    save = StateRepository.save

    async def save_or_fail(repository: StateRepository, tracker: ProjectTracker) -> list[MissedRuns]:
        if isinstance(scenario, SummaryListScenario):
            scenario.commit()
        clock.now += 0.01
        when, fault.next = fault.next, ""
        if when == "before":
            raise KilledError
        if when == "full":
            with patch.object(SqliteStore, "save", full):
                missed = await save(repository, tracker)
            scenario.discard_reports(fault.committed_until)
            return missed
        missed = await save(repository, tracker)
        clock.now += 0.01
        fault.committed_until = clock.now
        if when == "after":
            raise KilledError
        return missed

    async def full(_: SqliteStore, changes: object) -> None:
        raise SaveError("the disk is full")

    with (
        patch.object(StateRepository, "save", save_or_fail),
        patch.object(Publisher, "publish", publish_nothing),
    ):
        yield


@pytest.mark.parametrize(
    ("machine", "count", "steps"),
    [
        (ExactlyOnceMachine, 100, 25),
        (ExactlyOnceMachine, 25, 110),
        (FlowMachine, 40, 25),
        (FlowMachine, 10, 110),
        (StatelessMachine, 25, 40),
        (StatelessFlowMachine, 15, 40),
    ],
)
def test_every_run_is_counted_exactly_once(port, machine, count, steps):
    run_state_machine_as_test(
        type("OnPort", (machine,), {"port": port}),
        settings=settings(
            examples(count),
            stateful_step_count=steps,
            database=None,
        ),
    )
