"""Trackers of projects and pipelines: values that responses and failures show, save or withdraw."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.core.model import Job, Pipeline, Run, Stage, Status, Step
from exporter.settings.settings import Metrics
from exporter.tracking.details import DETAIL_TRIES
from exporter.tracking.ledger import Coverage, EndedRun, Extent, Reach, Streak
from exporter.tracking.ledger.rules import OPEN
from exporter.tracking.ledger.search import DAY, HOUR
from exporter.tracking.lookups import DueLookups
from exporter.tracking.pipeline import ABSENCES, HELD_ACTIVE
from exporter.tracking.project import ProjectTracker
from exporter.tracking.run_counters import DurationHistograms
from exporter.tracking.saved import RetiredPipelines, SavedPipeline
from exporter.tracking.views import MissedRuns, View

NOON = 1_700_000_000.0
MAX_AGE = 900.0
HELD = [Status.WAITING, Status.PAUSED, Status.SUSPENDED]


def pipeline(identity: str = "p") -> Pipeline:
    return Pipeline(provider="codearts", project="payments", id=identity, name=f"name of {identity}")


def run(
    number: int = 1,
    status: Status = Status.SUCCESS,
    *,
    start: float | None = NOON,
    end: float | None = None,
    stages: Iterable[Stage] = (),
) -> Run:
    """Return a run that took fifty seconds, if it has ended."""
    if status.final and end is None and start is not None:
        end = start + 50
    return Run(id=f"run-{number}", number=number, status=status, start=start, end=end, stages=tuple(stages))


class Tracked:
    """A project tracker, to which a test applies responses at intervals of fifteen seconds, each committed at once."""

    def __init__(
        self,
        *answers: Run | None,
        ids: Sequence[str] = ("p",),
        saved_pipelines: Mapping[str, SavedPipeline] | None = None,
        durations: DurationHistograms | None = None,
        later: float = 0.0,
        **metrics: Any,
    ) -> None:
        self.ids = ids
        self.clock = 1000.0
        """Monotonic seconds."""
        self.now = NOON + 600 + later
        self.retired = RetiredPipelines()
        self.retired.retired = {identity: (one, None) for identity, one in (saved_pipelines or {}).items()}
        self._metrics = metrics
        self.tracker = ProjectTracker(
            [pipeline(identity) for identity in ids],
            Metrics.model_validate(metrics),
            self.retired,
            provider="codearts",
            project="payments",
            interval=60.0,
            started=self.clock,
            durations=durations,
        )
        self.committed: dict[str, SavedPipeline] = dict(saved_pipelines or {})
        """Committed values by pipeline id."""
        self.committed_durations = durations
        for answer in answers:
            self.sees(answer)

    def sees(
        self, answer: Run | None, identity: str = "p", *, sent_ago: float = 0.0, saved: bool = True
    ) -> None:
        """Apply an answer, by default the newest one, and commit it."""
        self.clock += 15
        self.now += 15
        runs = {} if answer is None else {identity: answer}
        self.tracker.answered([identity], runs, sent_at=self.clock - sent_ago, now=self.now)
        if saved:
            self.saves()

    def saves(self) -> list[MissedRuns]:
        """Commit; return the missed runs."""
        unsaved, durations = self.tracker.unsaved(), self.tracker.accounting.unsaved
        self.committed |= unsaved
        self.committed_durations = self.committed_durations if durations is None else durations
        return self.tracker.commit(unsaved)

    def cannot_save(self) -> None:
        self.tracker.roll_back(self.tracker.unsaved(), self.clock)

    def restarts(self, *, later: float = 0.0) -> "Tracked":
        """Return a new process with the committed values, some seconds later."""
        return Tracked(
            ids=self.ids,
            saved_pipelines=self.committed,
            durations=self.committed_durations,
            later=self.now + later - NOON - 600,
            **self._metrics,
        )

    def watches(self, *pipelines: Pipeline) -> None:
        """Track exactly these pipelines from now on."""
        self.tracker.update(pipelines, self.clock, self.now)

    def fails(self, identity: str = "p") -> None:
        self.tracker.failed([identity])

    def waits(self, seconds: float) -> bool:
        """Let time pass, and expire old values; return whether there were any."""
        self.clock += seconds
        self.now += seconds
        return self.tracker.expire(self.clock, MAX_AGE)

    def looks(self, *found: Run | None) -> list[MissedRuns]:
        """Look up the due hidden runs, oldest first; return the missed runs."""
        missed = []
        for (identity, run_id), answer in zip(self.due(), found, strict=True):
            missed += self.finds(run_id, answer, identity)
        return missed

    def finds(self, run_id: str, answer: Run | None, identity: str = "p") -> list[MissedRuns]:
        """Look up a run; return the missed runs."""
        self.tracker[identity].looked_up(run_id, answer, clock=self.clock, now=self.now)
        return self.saves()

    def reads(self, *rows: Run, reach: Reach = Reach.COMPLETE, saved: bool = True) -> list[MissedRuns]:
        """Read the run list; return the missed runs."""
        coverage = Coverage(complete=reach is Reach.COMPLETE)
        self.tracker["p"].listed(rows, reach, clock=self.clock, now=self.now, coverage=coverage)
        return self.saves() if saved else []

    def cannot_read(self) -> list[MissedRuns]:
        """Fail to read the run list; return the missed runs."""
        self.tracker["p"].not_listed(self.clock)
        return self.saves()

    def due(self) -> tuple[tuple[str, str], ...]:
        """Return the hidden runs to look up now."""
        return tuple((identity, run) for identity, asks in self.due_lookups().items() for run in asks.runs)

    def due_lookups(self) -> dict[str, DueLookups]:
        """Return the due look-ups and lists."""
        return self.tracker.due(self.clock)

    def counts(self, identity: str = "p") -> dict[str, int]:
        """Return the counters that are not 0."""
        counters = self.view(identity).counters
        assert counters is not None
        found = {
            **{status.value: count for status, count in counters.runs.items()},
            **{f"{status.value} again": count for status, count in counters.retries.items()},
            "missed": counters.missed,
        }
        return {name: count for name, count in found.items() if count}

    def wanted_details(self) -> list[str]:
        """Return the ids of runs whose details are wanted."""
        return [run.id for _, run in self.tracker.wanted_details(self.clock)]

    def gets_detail(self, detail: Run | None, identity: str = "p") -> None:
        """Apply the wanted details."""
        self.tracker.detailed(identity, dict(self.tracker.wanted_details(self.clock))[identity], detail)

    def view(self, identity: str = "p") -> View:
        """Return the view of a pipeline."""
        return next(view for view in self.tracker.views() if view.pipeline.id == identity)

    def gauges(self) -> tuple[object, ...]:
        """Return the values that are withdrawn together."""
        view = self.view()
        return (
            view.latest,
            view.status_change,
            view.stage_changes,
            view.finished,
            view.streak,
            view.active_starts,
        )


GONE = (None, None, (), None, None, None)


# What is shown


def test_nothing_is_shown_before_the_first_poll_has_ended():
    tracked = Tracked()
    assert tracked.tracker.views() == ()
    assert tracked.tracker.project_view() is None


def test_failed_first_poll_shows_only_up_0():
    tracked = Tracked()
    tracked.fails()
    assert tracked.view() == View(pipeline=pipeline(), up=False)


def test_answer_shows_the_latest_run():
    tracked = Tracked(run(1, Status.FAILED))
    view = tracked.view()
    assert (view.up, view.has_run) == (True, True)
    assert view.latest == run(1, Status.FAILED)
    assert view.finished == run(1, Status.FAILED)
    assert view.streak is None
    assert view.active_starts == ()
    assert view.counters is not None
    assert view.counters.created == tracked.now


def test_run_in_progress_is_active_and_the_finished_one_stays():
    tracked = Tracked(run(1, Status.FAILED), run(2, Status.RUNNING, start=NOON + 100))
    view = tracked.view()
    assert view.latest is not None
    assert view.latest.id == "run-2"
    assert view.finished == run(1, Status.FAILED)
    assert view.active_starts == (NOON + 100,)


def test_active_run_without_a_start_counts_as_active():
    assert Tracked(run(1, Status.PENDING, start=None)).view().active_starts == (None,)


def test_answer_without_a_run_shows_has_run_0_and_starts_counters():
    view = Tracked(None).view()
    assert (view.up, view.has_run, view.latest, view.finished) == (True, False, None, None)
    assert view.active_starts == ()
    assert view.counters is not None


def test_overtaken_answer_changes_nothing():
    tracked = Tracked(run(1), run(2, Status.FAILED))
    before = tracked.view()
    tracked.sees(run(2, Status.RUNNING), sent_ago=60)
    tracked.sees(None, sent_ago=60)
    assert tracked.view() is before


def test_unconfirmed_answer_changes_no_view():
    """It may be stale: the run in progress stays shown and active."""
    tracked = Tracked(run(8), run(9, Status.RUNNING))
    shown = tracked.view()
    tracked.sees(run(8))
    assert tracked.view() is shown
    assert tracked.tracker.active(tracked.now) == ("p",)
    tracked.sees(run(8))
    assert tracked.view().latest == run(8)


def test_view_is_the_same_object_until_something_visible_changes():
    """Then rendered output of the view can be reused."""
    tracked = Tracked(run(1))
    before = tracked.view()
    tracked.sees(run(1))
    assert tracked.view() is before
    tracked.fails()
    assert tracked.view() is not before


def test_pipelines_are_independent_and_in_configured_order():
    tracked = Tracked(ids=("b", "a", "c"))
    tracked.sees(run(1), "a")
    tracked.fails("b")
    assert tracked.tracker.ids == ("b", "a", "c")
    assert [(view.pipeline.id, view.up) for view in tracked.tracker.views()] == [("b", False), ("a", True)]


# Failures and age


def test_failed_poll_changes_only_up():
    tracked = Tracked(run(1, Status.FAILED))
    before = tracked.view()
    tracked.fails()
    assert tracked.view() == msgspec.structs.replace(before, up=False)
    tracked.sees(run(1, Status.FAILED))
    assert tracked.view() == before


def test_gauges_are_withdrawn_after_max_age_and_counters_stay():
    tracked = Tracked(run(1), run(2, Status.FAILED, stages=[Stage("s", 0, Status.PAUSED)]))
    tracked.fails()
    before = tracked.view()
    assert not tracked.waits(MAX_AGE)
    assert tracked.view() is before
    assert tracked.waits(1.0)
    view = tracked.view()
    assert tracked.gauges() == GONE
    assert (view.up, view.has_run) == (False, None)
    assert view.counters == before.counters
    assert view.durations == before.durations


def test_gauges_are_withdrawn_once():
    tracked = Tracked(run(1))
    tracked.waits(MAX_AGE + 1)
    before = tracked.view()
    assert not tracked.waits(60)
    tracked.fails()
    tracked.fails()
    assert tracked.gauges() == GONE
    assert tracked.view() == msgspec.structs.replace(before, up=False)


def test_age_counts_from_the_last_answer_not_from_failures():
    tracked = Tracked(run(1))
    tracked.waits(MAX_AGE - 10)
    tracked.fails()
    assert tracked.waits(11)


def test_pipeline_without_an_answer_does_not_expire():
    tracked = Tracked()
    tracked.fails()
    before = tracked.view()
    assert not tracked.waits(10 * MAX_AGE)
    assert tracked.view() is before


def test_next_answer_restores_withdrawn_values():
    tracked = Tracked(run(1), run(2, Status.RUNNING))
    before = tracked.view()
    tracked.fails()
    tracked.waits(MAX_AGE + 1)
    tracked.sees(run(2, Status.RUNNING))
    assert tracked.view() == before


def test_pipelines_expire_independently():
    tracked = Tracked(ids=("p", "q"))
    tracked.sees(run(1))
    tracked.waits(MAX_AGE)
    tracked.sees(run(1), "q")
    assert tracked.waits(1)
    assert tracked.gauges() == GONE
    assert tracked.view("q").latest == run(1)


# Absence


def test_absent_pipeline_has_no_run_at_once_and_loses_its_gauges_with_the_third_absence():
    tracked = Tracked(run(1), run(2, Status.RUNNING))
    before = tracked.gauges()
    for _ in range(ABSENCES - 1):
        tracked.sees(None)
        assert tracked.view().has_run is False
        assert tracked.gauges() == before
    tracked.sees(None)
    assert tracked.gauges() == GONE
    assert (tracked.view().up, tracked.view().has_run) == (True, False)
    assert tracked.view().counters is not None
    assert tracked.tracker.active(tracked.now) == ()


def test_only_successive_absences_count():
    tracked = Tracked(run(1))
    before = tracked.view()
    for _ in range(3):
        tracked.sees(None)
        tracked.sees(None)
        tracked.sees(run(1))
        assert tracked.view() == before
    for _ in range(ABSENCES):
        tracked.sees(None)
    tracked.sees(run(1))
    assert tracked.view() == before


def test_failed_polls_are_not_absences():
    tracked = Tracked(run(1))
    for _ in range(5):
        tracked.fails()
    tracked.sees(None)
    assert tracked.view().latest == run(1)


def test_pipeline_that_never_had_a_run_keeps_its_gauges():
    tracked = Tracked(None)
    before = tracked.view()
    for _ in range(5):
        tracked.sees(None)
    assert tracked.view() is before


# Times of status changes


def test_final_status_dates_from_the_end():
    assert Tracked(run(1, end=NOON + 77)).view().status_change == NOON + 77


def test_final_status_without_an_end_dates_from_first_sight():
    endless = Run(id="run-1", number=1, status=Status.FAILED, start=NOON)
    tracked = Tracked(endless)
    first = tracked.now
    tracked.sees(endless)
    assert tracked.view().status_change == first
    tracked.sees(run(1, Status.FAILED))
    assert tracked.view().status_change == NOON + 50


def test_status_in_progress_dates_from_first_sight():
    tracked = Tracked(run(1, Status.PAUSED))
    first = tracked.now
    tracked.sees(run(1, Status.PAUSED))
    tracked.fails()
    tracked.waits(MAX_AGE + 1)
    tracked.sees(run(1, Status.PAUSED))
    assert tracked.view().status_change == first


def test_start_after_first_sight_is_the_status_change():
    """Clocks differ, and a status cannot be older than its run."""
    tracked = Tracked()
    tracked.sees(run(1, Status.RUNNING, start=tracked.now + 100))
    assert tracked.view().status_change == tracked.now - 15 + 100


def test_new_status_or_new_run_changes_the_time():
    tracked = Tracked(run(1, Status.RUNNING))
    tracked.sees(run(1, Status.PENDING))
    assert tracked.view().status_change == tracked.now
    tracked.sees(run(1, Status.RUNNING))
    assert tracked.view().status_change == tracked.now
    tracked.sees(run(2, Status.RUNNING))
    assert tracked.view().status_change == tracked.now


@pytest.mark.parametrize("status", HELD)
def test_waiting_run_without_a_waiting_stage_dates_from_the_last_answer_before(status):
    tracked = Tracked(run(1, Status.RUNNING))
    running = tracked.now
    tracked.sees(run(1, status))
    assert tracked.view().status_change == running
    tracked.sees(run(1, status))
    assert tracked.view().status_change == running
    tracked.sees(run(2, status, start=tracked.now + 5))
    assert tracked.view().status_change == tracked.now - 10


@pytest.mark.parametrize("status", HELD)
def test_waiting_run_dates_from_the_earliest_of_its_waiting_stages(status):
    stages = [
        Stage("a", 0, status, NOON + 70),
        Stage("b", 1, status, NOON + 60),
        Stage("c", 2, Status.SUCCESS, NOON, 9),
    ]
    tracked = Tracked(run(1, status, stages=stages))
    assert tracked.view().status_change == NOON + 60
    tracked.sees(run(1, status, stages=[stages[0], Stage("b", 1, Status.SUCCESS, NOON + 60, 9)]))
    assert tracked.view().status_change == NOON + 70


def test_retry_changes_the_time():
    tracked = Tracked(run(1, Status.FAILED), run(1, Status.RUNNING))
    assert tracked.view().status_change == tracked.now
    tracked.sees(run(1, Status.SUCCESS, end=tracked.now - 3))
    assert tracked.view().status_change == tracked.now - 18


@pytest.mark.parametrize("status", HELD)
def test_waiting_stage_dates_from_its_start_at_first_sight(status):
    held = run(1, status, stages=[Stage("approve", 3, status, NOON + 33)])
    tracked = Tracked(held)
    assert tracked.view().stage_changes == (("approve", 3, NOON + 33),)
    tracked.sees(held)
    assert tracked.view().stage_changes == (("approve", 3, NOON + 33),)


def test_waiting_stage_without_a_start_dates_from_first_sight():
    held = run(1, Status.WAITING, stages=[Stage("approve", 3, Status.WAITING)])
    tracked = Tracked(held)
    first = tracked.now
    tracked.sees(held)
    assert tracked.view().stage_changes == (("approve", 3, first),)


def test_stage_that_waits_after_it_ran_dates_from_the_last_answer_that_showed_it_running():
    """Such as a stage whose second job is an approval."""
    tracked = Tracked(run(1, Status.RUNNING, stages=[Stage("a", 0, Status.RUNNING, NOON)]))
    tracked.sees(run(1, Status.RUNNING, stages=[Stage("a", 0, Status.RUNNING, NOON)]))
    running = tracked.now
    tracked.sees(run(1, Status.WAITING, stages=[Stage("a", 0, Status.WAITING, NOON)]))
    assert (tracked.view().status_change, tracked.view().stage_changes) == (running, (("a", 0, running),))


def test_waiting_stage_of_an_older_run_that_is_shown_again_dates_from_its_start():
    """The last answer was about the newer run, which was deleted, and said nothing about this one."""
    held = run(1, Status.WAITING, stages=[Stage("a", 0, Status.WAITING, NOON)])
    tracked = Tracked(held, run(2, Status.RUNNING, start=NOON + 605), held, held)
    assert tracked.view().stage_changes == (("a", 0, NOON),)


def test_waiting_stage_that_starts_later_dates_from_its_start():
    tracked = Tracked()
    start = tracked.now + 500
    tracked.sees(run(1, Status.RUNNING, stages=[Stage("approve", 0, Status.WAITING, start)]))
    assert tracked.view().stage_changes == (("approve", 0, start),)


def test_stage_that_continues_and_waits_again_has_a_new_time():
    held, on = (run(1, Status.RUNNING, stages=[Stage("a", 0, s)]) for s in (Status.PAUSED, Status.RUNNING))
    tracked = Tracked(held, on)
    assert tracked.view().stage_changes == ()
    running = tracked.now
    tracked.sees(held)
    assert tracked.view().stage_changes == (("a", 0, running),)


def test_other_waiting_status_or_other_run_has_a_new_time():
    tracked = Tracked(
        run(1, Status.PAUSED, stages=[Stage("a", 0, Status.PAUSED), Stage("a", 1, Status.PAUSED)])
    )
    first = tracked.now
    tracked.sees(
        run(1, Status.PAUSED, stages=[Stage("a", 0, Status.SUSPENDED), Stage("a", 1, Status.PAUSED)])
    )
    assert tracked.view().stage_changes == (("a", 0, first), ("a", 1, first))
    start = tracked.now + 5
    tracked.sees(
        run(
            2,
            Status.PAUSED,
            start=start,
            stages=[Stage("a", 0, Status.SUSPENDED, start + 3), Stage("a", 1, Status.PAUSED, start + 4)],
        )
    )
    assert tracked.view().stage_changes == (("a", 0, start + 3), ("a", 1, start + 4))


def test_waiting_stage_dates_from_the_start_of_its_waiting_job_once_details_are_known():
    held = run(1, Status.PAUSED, stages=[Stage("a", 0, Status.PAUSED, NOON)])
    tracked = Tracked(held, details="jobs")
    assert tracked.view().stage_changes == (("a", 0, NOON),)
    jobs = (Job("build", 0, Status.SUCCESS, NOON, 40.0), Job("approve", 1, Status.PAUSED, NOON + 41))
    tracked.gets_detail(run(1, Status.PAUSED, stages=[Stage("a", 0, Status.PAUSED, NOON, None, jobs)]))
    tracked.saves()
    assert (tracked.view().status_change, tracked.view().stage_changes) == (NOON + 41, (("a", 0, NOON + 41),))
    again = tracked.restarts(later=HOUR)
    again.sees(held)
    assert again.view().stage_changes == (("a", 0, NOON + 41),)


# Failed stages of the latest finished run


def red(number: int = 1, *, jobs: bool = False, **changes: Any) -> Run:
    """Return a failed run: a stage succeeded, one failed, one was ignored."""
    names = ((Status.SUCCESS, "lint"), (Status.FAILED, "compile"))
    one = (
        tuple(Job(name, at, status, NOON, 5.0, (STEP,)) for at, (status, name) in enumerate(names))
        if jobs
        else ()
    )
    stages = [
        Stage("build", 0, Status.SUCCESS, NOON, 9.0),
        Stage("test", 1, Status.FAILED, NOON + 9, 9.0, one),
        Stage("scan", 2, Status.IGNORED, NOON + 18, 9.0),
    ]
    return run(number, Status.FAILED, stages=stages, **changes)


def failed_parts(tracked: Tracked) -> list[tuple[str, list[str]]]:
    """Return the failed stages of the latest finished run, with the names of their failed jobs."""
    finished = tracked.view().finished
    assert finished is not None
    assert not any(job.steps for stage in finished.stages for job in stage.jobs)
    return [(stage.name, [job.name for job in stage.jobs]) for stage in finished.stages]


def test_failed_stages_stay_while_the_next_run_is_in_progress_and_across_a_restart():
    tracked = Tracked(red(1), staged(2, Status.RUNNING, start=NOON + 100))
    assert failed_parts(tracked) == [("test", [])]
    again = tracked.restarts(later=HOUR)
    assert failed_parts(again) == [("test", [])]
    again.sees(staged(2, Status.RUNNING, start=NOON + 100))
    assert (failed_parts(again), again.wanted_details()) == ([("test", [])], [])
    again.sees(staged(2, Status.SUCCESS, start=NOON + 100))
    assert failed_parts(again) == []


def test_failed_stages_of_a_run_behind_the_first_one_come_from_the_run_list():
    tracked = Tracked(staged(2, Status.RUNNING, start=NOON + 100))
    tracked.reads(staged(2, Status.RUNNING, start=NOON + 100), red(1))
    assert (failed_parts(tracked), tracked.wanted_details()) == ([("test", [])], [])


def test_failed_stages_that_the_run_list_lacks_are_queried_once():
    tracked = Tracked(staged(2, Status.RUNNING, start=NOON + 100))
    tracked.reads(staged(2, Status.RUNNING, start=NOON + 100), run(1, Status.FAILED))
    assert (failed_parts(tracked), tracked.wanted_details()) == ([], ["run-1"])
    tracked.tracker.detail_failed("p", run(1, Status.FAILED), tracked.clock)
    assert tracked.wanted_details() == []
    tracked.waits(60)
    tracked.gets_detail(red(1))
    tracked.saves()
    assert (failed_parts(tracked), tracked.wanted_details()) == ([("test", [])], [])
    assert failed_parts(tracked.restarts()) == [("test", [])]


@pytest.mark.parametrize("detail", [None, run(1, Status.FAILED)], ids=["refused", "no failed stage"])
def test_failed_stages_that_details_lack_are_not_queried_again(detail):
    tracked = Tracked(staged(2, Status.RUNNING, start=NOON + 100))
    tracked.reads(staged(2, Status.RUNNING, start=NOON + 100), run(1, Status.FAILED))
    tracked.gets_detail(detail)
    tracked.saves()
    tracked.sees(staged(2, Status.RUNNING, start=NOON + 100))
    assert (failed_parts(tracked), tracked.wanted_details()) == ([], [])


@pytest.mark.parametrize("status", [Status.SUCCESS, Status.CANCELED, Status.IGNORED])
def test_run_that_did_not_fail_has_no_failed_stages(status):
    stages = [Stage("test", 1, Status.FAILED, NOON, 9.0)]
    tracked = Tracked(run(1, status, stages=stages), staged(2, Status.RUNNING, start=NOON + 100))
    assert (failed_parts(tracked), tracked.wanted_details()) == ([], [])


def test_failed_jobs_come_with_the_details_of_the_latest_run_and_stay():
    tracked = Tracked(red(1), details="jobs")
    assert failed_parts(tracked) == [("test", [])]
    tracked.gets_detail(red(1, jobs=True))
    tracked.saves()
    tracked.sees(red(1))
    tracked.sees(staged(2, Status.RUNNING, start=NOON + 100))
    assert (failed_parts(tracked), tracked.wanted_details()) == ([("test", ["compile"])], ["run-2"])
    again = tracked.restarts(later=HOUR)
    again.sees(staged(2, Status.RUNNING, start=NOON + 100))
    assert (failed_parts(again), again.wanted_details()) == ([("test", ["compile"])], ["run-2"])


def test_failed_jobs_of_a_run_behind_the_first_one_are_queried():
    tracked = Tracked(staged(2, Status.RUNNING, start=NOON + 100), details="jobs")
    tracked.reads(staged(2, Status.RUNNING, start=NOON + 100), red(1))
    assert tracked.wanted_details() == ["run-1", "run-2"]
    tracked.tracker.detailed("p", run(1, Status.FAILED), red(1, jobs=True))
    assert (failed_parts(tracked), tracked.wanted_details()) == ([("test", ["compile"])], ["run-2"])


def test_failed_stages_are_withdrawn_with_the_latest_finished_run():
    tracked = Tracked(red(1), staged(2, Status.RUNNING, start=NOON + 100))
    tracked.waits(MAX_AGE + 1)
    assert tracked.gauges() == GONE


# Active pipelines


@pytest.mark.parametrize("status", [Status.RUNNING, Status.PENDING])
def test_running_or_pending_run_is_active_without_limit(status):
    tracked = Tracked(run(1, status))
    assert tracked.tracker.active(tracked.now) == ("p",)
    assert tracked.tracker.active(tracked.now + 100 * HELD_ACTIVE) == ("p",)


@pytest.mark.parametrize("status", HELD)
def test_waiting_run_is_active_for_an_hour(status):
    """It may wait for days."""
    tracked = Tracked(run(1, status))
    assert tracked.tracker.active(tracked.now + HELD_ACTIVE - 1) == ("p",)
    assert tracked.tracker.active(tracked.now + HELD_ACTIVE) == ()
    tracked.waits(HELD_ACTIVE)
    tracked.sees(run(1, Status.RUNNING))
    tracked.sees(run(1, status))
    assert tracked.tracker.active(tracked.now) == ("p",)


def test_pipelines_without_a_run_in_progress_are_not_active():
    tracked = Tracked(ids=("p", "q", "r"))
    tracked.sees(run(1))
    tracked.sees(None, "q")
    tracked.fails("r")
    assert tracked.tracker.active(tracked.now) == ()


# Histograms


def seen_to_end(**metrics: Any) -> Tracked:
    """Return a tracker that saw two runs of one pipeline end, one of another, and a retry."""
    tracked = Tracked(ids=("p", "q"), **metrics)
    stages = [Stage("build", 0, Status.SUCCESS, NOON, 20.0)]
    for identity in tracked.ids:
        tracked.sees(run(1), identity)
    for number in (2, 3):
        tracked.sees(run(number, stages=stages), "p")
    tracked.sees(run(2, Status.FAILED, stages=stages), "q")
    tracked.sees(run(2, Status.RUNNING, stages=stages), "q")
    tracked.sees(run(2, end=NOON + 900, stages=stages), "q")
    return tracked


def observations(durations: DurationHistograms | None) -> tuple[dict[str, int], dict[str, int]]:
    """Return the numbers of observed runs by status, and of observed stages by name."""
    assert durations is not None
    runs = {status.value: sum(one.counts) for status, one in durations.runs.items() if sum(one.counts)}
    stages = {name: sum(one.counts) for (name, _), one in durations.stages.items()}
    return runs, stages


@pytest.mark.parametrize("runs", ["pipeline", "project", "off"])
@pytest.mark.parametrize("stages", ["pipeline", "project", "off"])
def test_histograms_have_the_configured_scope(runs, stages):
    tracked = seen_to_end(run_histogram=runs, stage_histogram=stages)
    project = tracked.tracker.project_view()
    assert project is not None
    shown = (
        observations(tracked.view("p").durations),
        observations(tracked.view("q").durations),
        observations(project.durations),
    )
    of_runs = {
        "pipeline": ({"success": 2}, {"failed": 1}, {}),
        "project": ({}, {}, {"success": 2, "failed": 1}),
    }
    of_stages = {"pipeline": ({"build": 2}, {"build": 1}, {}), "project": ({}, {}, {"build": 3})}
    nothing: tuple[dict[str, int], ...] = ({}, {}, {})
    assert tuple(one for one, _ in shown) == of_runs.get(runs, nothing)
    assert tuple(one for _, one in shown) == of_stages.get(stages, nothing)


def test_project_histograms_survive_its_pipelines():
    """They never decrease."""
    tracked = seen_to_end(run_histogram="project")
    before = tracked.tracker.project_view()
    tracked.fails("p")
    tracked.waits(MAX_AGE + 1)
    for _ in range(ABSENCES):
        tracked.sees(None, "q")
    assert tracked.tracker.project_view() == before


def test_project_view_is_the_same_object_until_a_run_ends():
    tracked = seen_to_end()
    before = tracked.tracker.project_view()
    tracked.sees(run(3))
    tracked.sees(run(4, Status.RUNNING))
    assert tracked.tracker.project_view() is before
    tracked.sees(run(4))
    assert tracked.tracker.project_view() is not before


def test_project_histograms_start_with_the_first_answer():
    tracked = Tracked()
    tracked.fails()
    assert tracked.tracker.project_view() is None
    tracked.sees(None)
    project = tracked.tracker.project_view()
    assert project is not None
    assert (project.provider, project.project) == ("codearts", "payments")
    assert project.durations.runs_created == tracked.now


def test_stage_names_are_limited_in_each_scope():
    for scope, bound in (("pipeline", 100), ("project", 200)):
        tracked = Tracked(ids=("p", "q", "r"), stage_histogram=scope)
        for identity in tracked.ids:
            tracked.sees(run(1), identity)
            for number in range(2, 5):
                names = [f"{identity} {number} {place}" for place in range(50)]
                stages = [Stage(name, 0, Status.SUCCESS, NOON, 1.0) for name in names]
                tracked.sees(run(number, stages=stages), identity)
        project = tracked.tracker.project_view()
        assert project is not None
        kept = tracked.view("p").durations if scope == "pipeline" else project.durations
        assert kept is not None
        kept_names = {name for name, _ in kept.stages}
        assert len(kept_names) == bound + 1
        assert "(other)" in kept_names


# New, retired and renamed pipelines


def test_new_pipeline_is_shown_after_its_first_poll():
    tracked = Tracked(run(1), run(2))
    before = tracked.view()
    tracked.watches(pipeline("q"), pipeline("p"))
    assert tracked.tracker.ids == ("q", "p")
    assert tracked.tracker.views() == (before,)
    tracked.sees(run(1), "q")
    assert [view.pipeline.id for view in tracked.tracker.views()] == ["q", "p"]
    assert tracked.view() is before
    assert tracked.view("q").counters != before.counters


def test_retired_pipeline_is_neither_shown_nor_polled():
    """Answers that still arrive change nothing."""
    tracked = Tracked(ids=("p", "q"), details="jobs")
    for answer in (run(1), run(2, Status.RUNNING), run(3, Status.RUNNING)):
        tracked.sees(answer, "q")
    tracked.waits(60)
    assert tracked.due() == (("q", "run-2"),)
    tracked.watches(pipeline("p"))
    assert (tracked.tracker.ids, tracked.tracker.views(), tracked.tracker.active(tracked.now)) == (
        ("p",),
        (),
        (),
    )
    assert (tracked.due_lookups(), tracked.wanted_details(), tracked.tracker.unresolved) == ({}, [], 0)
    tracked.tracker.failed(["q"])
    tracked.tracker.detailed("q", run(3), None)
    tracked.tracker.detail_failed("q", run(3), tracked.clock)
    assert tracked.tracker.views() == ()
    assert tracked.tracker.unsaved() == {}


def test_restored_pipeline_continues_with_its_accounts():
    tracked = Tracked(run(1), run(2, Status.FAILED), run(3, Status.RUNNING), run(4, Status.RUNNING))
    before = tracked.view()
    tracked.watches()
    assert set(tracked.retired.retired) == {"p"}
    tracked.waits(HOUR)
    tracked.watches(pipeline())
    assert tracked.retired.retired == {}
    view = tracked.view()
    assert (view.counters, view.finished, view.streak) == (before.counters, before.finished, before.streak)
    assert (view.up, view.latest, view.active_starts) == (None, None, None)
    tracked.sees(run(7))
    assert tracked.counts() == {"failed": 1, "success": 1}
    assert tracked.due_lookups() == {"p": DueLookups(listing=True)}
    assert tracked.tracker.unresolved == 4


def test_pipeline_without_an_answer_leaves_nothing_to_restore():
    tracked = Tracked()
    tracked.fails()
    tracked.watches()
    assert tracked.retired.retired == {}


def test_project_keeps_the_histograms_of_retired_pipelines():
    tracked = seen_to_end(run_histogram="project")
    before = tracked.tracker.project_view()
    tracked.watches(pipeline("p"))
    assert tracked.tracker.project_view() is before


def test_renamed_pipeline_keeps_its_values():
    tracked = Tracked(run(1), run(2, Status.RUNNING))
    before = tracked.view()
    renamed = msgspec.structs.replace(pipeline(), name="new", labels=(("team", "pay"),), url="https://x")
    tracked.watches(renamed)
    assert tracked.view() == msgspec.structs.replace(before, pipeline=renamed)
    tracked.sees(run(2))
    assert tracked.view().pipeline == renamed
    assert tracked.view().counters is not None


def test_pipeline_renamed_before_its_first_poll_has_the_new_name():
    tracked = Tracked()
    renamed = msgspec.structs.replace(pipeline(), name="new")
    tracked.watches(renamed)
    assert tracked.tracker.views() == ()
    tracked.fails()
    assert tracked.view() == View(pipeline=renamed, up=False)


def test_update_without_changes_changes_no_view():
    tracked = Tracked(run(1))
    before = tracked.view()
    tracked.watches(pipeline())
    assert tracked.view() is before


def test_held_back_pipeline_is_tracked_but_not_shown():
    tracked = Tracked(ids=("p", "q"))
    assert tracked.tracker.hold_back(frozenset({"p"}))
    tracked.sees(run(1))
    first = tracked.now
    tracked.sees(run(1), "q")
    tracked.sees(run(2, Status.RUNNING))
    assert [view.pipeline.id for view in tracked.tracker.views()] == ["q"]
    assert tracked.tracker.active(tracked.now) == ("p",)
    assert tracked.tracker.hold_back(frozenset())
    view = tracked.view()
    assert view.counters is not None
    assert view.counters.created == first


# Details

STEP = Step("mvn", 0, "Maven", Status.SUCCESS, 5.0)


def detailed(
    of: Run, status: Status = Status.SUCCESS, *, start: float | None = None, duration: float | None = None
) -> Run:
    """Return the details of a run: each stage has a job of one step."""
    jobs = (Job("compile", 0, status, NOON + 1, 5.0, (STEP,)),)
    stages = tuple(
        Stage(stage.name, stage.sequence, status, start, duration, jobs) for stage in of.stages
    ) or (Stage("build", 0, status, start, duration, jobs),)
    return msgspec.structs.replace(of, stages=stages)


def staged(
    number: int = 1, status: Status = Status.SUCCESS, *, start: float | None = NOON, **changes: Any
) -> Run:
    """Return a run of one stage with the same status."""
    duration = 50.0 if status.final else None
    return run(number, status, stages=[Stage("build", 0, status, start, duration)], **changes)


def jobs_of(tracked: Tracked) -> list[tuple[str, str]]:
    """Return the jobs of the latest run, with their statuses."""
    latest = tracked.view().latest
    assert latest is not None
    return [(job.name, job.status.value) for stage in latest.stages for job in stage.jobs]


def test_details_are_queried_only_if_they_are_shown():
    """Each costs a request."""
    assert Tracked(staged()).wanted_details() == []
    for details in ("jobs", "steps"):
        assert Tracked(staged(), details=details).wanted_details() == ["run-1"]


def test_pipeline_without_a_run_wants_no_details():
    tracked = Tracked(ids=("p", "q", "r"), details="jobs")
    tracked.sees(None)
    tracked.fails("q")
    tracked.sees(run(1), "r")
    for _ in range(ABSENCES):
        tracked.sees(None, "r")
    assert tracked.wanted_details() == []


def test_run_without_an_id_wants_no_details():
    tracked = Tracked(Run(id="#7", number=7, status=Status.SUCCESS), details="jobs")
    assert tracked.wanted_details() == []


def test_details_are_queried_once_for_each_run_and_each_change():
    tracked = Tracked(details="jobs")
    answers = [
        *[staged(1, Status.RUNNING)] * 3,
        *[staged(1, Status.FAILED)] * 3,
        *[staged(2, Status.PENDING)] * 2,
        *[staged(2, Status.RUNNING)] * 2,
        staged(2, Status.SUCCESS),
    ]
    asked = []
    for answer in answers:
        tracked.sees(answer)
        if tracked.wanted_details():
            asked.append(answer)
            tracked.gets_detail(detailed(answer, answer.status))
        tracked.fails()
        tracked.sees(answer)
        assert tracked.wanted_details() == []
    assert asked == list(dict.fromkeys(answers))


def test_unconfirmed_answer_wants_no_details():
    tracked = Tracked(staged(8), staged(9, Status.RUNNING), details="jobs")
    tracked.gets_detail(detailed(staged(9, Status.RUNNING)))
    tracked.sees(staged(8))
    assert tracked.wanted_details() == []


def test_failed_details_are_queried_again_with_growing_pauses():
    tracked = Tracked(staged(1, Status.RUNNING), details="jobs")
    for pause in (60, 120, 240, 480, 900, 900):
        assert tracked.wanted_details() == ["run-1"]
        tracked.tracker.detail_failed("p", staged(1), tracked.clock)
        tracked.waits(pause - 1)
        assert tracked.wanted_details() == []
        tracked.waits(1)
    tracked.tracker.detail_failed("p", staged(1), tracked.clock)
    assert tracked.wanted_details() == []
    tracked.sees(staged(1, Status.FAILED))
    assert tracked.wanted_details() == ["run-1"]


def test_details_queried_longest_ago_come_first():
    """Pipelines that change with every poll must not starve the others."""
    tracked = Tracked(ids=("p", "q", "r"), details="jobs")
    for identity in ("p", "q", "r"):
        tracked.sees(staged(1, Status.RUNNING), identity)
    assert [identity for identity, _ in tracked.tracker.wanted_details(tracked.clock)] == ["p", "q", "r"]
    tracked.tracker.detailed("p", staged(1, Status.RUNNING), None)
    tracked.sees(staged(1), "p")
    assert [identity for identity, _ in tracked.tracker.wanted_details(tracked.clock)] == ["q", "r", "p"]


def test_unavailable_details_are_not_queried_again_until_the_run_changes():
    tracked = Tracked(staged(1, Status.RUNNING), details="jobs")
    tracked.gets_detail(None)
    tracked.sees(staged(1, Status.RUNNING))
    assert (tracked.wanted_details(), jobs_of(tracked)) == ([], [])
    tracked.sees(staged(1))
    assert tracked.wanted_details() == ["run-1"]


def test_details_add_jobs_and_the_run_keeps_its_statuses():
    of = staged(1, Status.RUNNING)
    tracked = Tracked(of, details="steps")
    tracked.gets_detail(detailed(of, Status.SUCCESS))
    (stage,) = tracked.view().latest.stages  # type: ignore[union-attr]
    assert (stage.name, stage.status) == ("build", Status.RUNNING)
    assert stage.jobs == (Job("compile", 0, Status.SUCCESS, NOON + 1, 5.0, (STEP,)),)
    latest = tracked.view().latest
    assert latest is not None
    assert msgspec.structs.replace(latest, stages=of.stages) == of


@pytest.mark.parametrize(
    ("status", "reported", "shown"),
    [
        (Status.SUCCESS, (NOON + 3.5, 40.25), (NOON + 3.5, 40.25)),
        (Status.SUCCESS, (None, None), (NOON, 50.0)),
        (Status.SUCCESS, (NOON + 3.5, None), (NOON + 3.5, 50.0)),
        (Status.RUNNING, (NOON + 3.5, 40.25), (NOON + 3.5, None)),
        (Status.RUNNING, (None, None), (NOON, None)),
    ],
)
def test_stage_times_come_from_the_details(status, reported, shown):
    tracked = Tracked(staged(1, status), details="jobs")
    tracked.gets_detail(detailed(staged(1, status), start=reported[0], duration=reported[1]))
    (stage,) = tracked.view().latest.stages  # type: ignore[union-attr]
    assert (stage.start, stage.duration) == shown


def test_details_apply_to_the_stage_with_the_same_name_and_sequence():
    names = [("a", 0), ("a", 1), ("b", 2)]
    of = run(1, stages=[Stage(name, place, Status.SUCCESS, NOON, 5.0) for name, place in names])
    job = (Job("j", 0, Status.SUCCESS),)
    known = [("a", 1), ("b", 0), ("c", 3)]
    tracked = Tracked(of, details="jobs")
    tracked.gets_detail(
        msgspec.structs.replace(
            of, stages=tuple(Stage(name, place, Status.FAILED, jobs=job) for name, place in known)
        )
    )
    latest = tracked.view().latest
    assert latest is not None
    assert [(stage.name, stage.sequence, bool(stage.jobs)) for stage in latest.stages] == [
        ("a", 0, False),
        ("a", 1, True),
        ("b", 2, False),
    ]
    assert {stage.status for stage in latest.stages} == {Status.SUCCESS}


def test_run_without_stages_gets_those_of_its_details():
    """Batch answers may lack stages."""
    tracked = Tracked(run(1), details="jobs")
    tracked.gets_detail(detailed(run(1)))
    assert jobs_of(tracked) == [("compile", "success")]


def test_details_of_another_run_are_ignored():
    tracked = Tracked(staged(2), details="jobs")
    before = tracked.view()
    tracked.gets_detail(detailed(staged(1)))
    assert tracked.view() is before
    assert tracked.wanted_details() == []


def test_jobs_disappear_when_another_run_is_the_latest():
    tracked = Tracked(staged(1), details="jobs")
    tracked.gets_detail(detailed(staged(1)))
    tracked.sees(staged(2, Status.RUNNING))
    assert jobs_of(tracked) == []
    tracked.gets_detail(detailed(staged(2, Status.RUNNING), Status.RUNNING))
    assert jobs_of(tracked) == [("compile", "running")]


def test_jobs_stay_until_the_details_of_a_change_arrive():
    tracked = Tracked(staged(1, Status.RUNNING), details="jobs")
    tracked.gets_detail(detailed(staged(1, Status.RUNNING), Status.RUNNING))
    tracked.sees(staged(1))
    assert (jobs_of(tracked), tracked.wanted_details()) == ([("compile", "running")], ["run-1"])
    tracked.gets_detail(detailed(staged(1)))
    assert jobs_of(tracked) == [("compile", "success")]


@pytest.mark.parametrize("how", ["refused", "another run", "failed"])
def test_jobs_disappear_if_the_details_of_a_change_are_unavailable(how):
    """A job of a run that ended must not stay shown as running."""
    tracked = Tracked(staged(1, Status.RUNNING), details="jobs")
    tracked.gets_detail(detailed(staged(1, Status.RUNNING), Status.RUNNING))
    tracked.sees(staged(1))
    match how:
        case "refused":
            tracked.gets_detail(None)
        case "another run":
            tracked.gets_detail(detailed(staged(7)))
        case _:
            for _ in range(DETAIL_TRIES):
                assert jobs_of(tracked) == [("compile", "running")]
                tracked.tracker.detail_failed("p", staged(1), tracked.clock)
    assert (jobs_of(tracked), tracked.wanted_details()) == ([], [])


def test_run_that_changed_while_its_details_were_queried_wants_them_again():
    tracked = Tracked(staged(1, Status.RUNNING), details="jobs")
    before = staged(1, Status.RUNNING)
    tracked.sees(staged(1))
    tracked.tracker.detailed("p", before, detailed(before, Status.RUNNING))
    assert tracked.wanted_details() == ["run-1"]


def test_jobs_are_withdrawn_and_restored_with_their_run():
    tracked = Tracked(staged(1), details="jobs")
    tracked.gets_detail(detailed(staged(1)))
    before = tracked.view()
    tracked.fails()
    tracked.waits(MAX_AGE + 1)
    assert tracked.view().latest is None
    tracked.sees(staged(1))
    assert tracked.view() == before
    assert tracked.wanted_details() == []


def test_details_do_not_change_up():
    tracked = Tracked(staged(1), details="jobs")
    tracked.fails()
    tracked.gets_detail(detailed(staged(1)))
    assert tracked.view().up is False
    assert jobs_of(tracked) == [("compile", "success")]


def test_details_are_not_observed_in_histograms():
    tracked = Tracked(staged(1), staged(2), details="jobs", stage_histogram="pipeline")
    before = tracked.view()
    tracked.gets_detail(detailed(staged(2), start=NOON, duration=7.0))
    assert (tracked.view().counters, tracked.view().durations) == (before.counters, before.durations)


# Hidden runs


def hides(*, hidden: int = 1, **metrics: Any) -> Tracked:
    """Return a tracker with a number of hidden runs from run-2 on, behind one in progress."""
    tracked = Tracked(run(1), **metrics)
    for number in range(2, hidden + 3):
        tracked.sees(run(number, Status.RUNNING, start=NOON + number))
    return tracked


def test_hidden_runs_are_active_until_their_end_is_known():
    tracked = hides(hidden=2)
    assert tracked.view().active_starts == (NOON + 2, NOON + 3, NOON + 4)
    assert tracked.tracker.unresolved == 2
    tracked.waits(60)
    tracked.finds("run-2", run(2, start=NOON + 2))
    tracked.finds("run-3", None)
    assert tracked.view().active_starts == (NOON + 4,)
    assert tracked.tracker.unresolved == 0


def test_hidden_run_does_not_make_its_pipeline_active():
    """Polls would not show it."""
    tracked = hides()
    tracked.sees(run(3, start=NOON + 3))
    assert tracked.tracker.active(tracked.now) == ()
    assert tracked.view().active_starts == (NOON + 2,)


def test_hidden_run_is_looked_up_until_its_end_is_known():
    tracked = hides()
    for _ in range(3):
        tracked.sees(run(3, Status.RUNNING, start=NOON + 3))
        assert tracked.due_lookups() == {}
    tracked.waits(15)
    assert tracked.due_lookups() == {"p": DueLookups(runs=("run-2",))}
    assert tracked.looks(run(2, Status.RUNNING, start=NOON + 2)) == []
    assert tracked.due_lookups() == {}
    tracked.waits(120)
    tracked.looks(run(2, start=NOON + 2))
    tracked.waits(DAY)
    assert tracked.due_lookups() == {}


def test_failed_lookup_is_postponed_and_counts_nothing():
    tracked = hides()
    before = tracked.view()
    tracked.waits(60)
    tracked.tracker["p"].postpone("run-2", tracked.clock)
    tracked.waits(119)
    assert tracked.due() == ()
    tracked.waits(1)
    assert tracked.due() == (("p", "run-2"),)
    assert tracked.view() is before


def test_hidden_run_that_is_the_latest_again_is_not_looked_up():
    tracked = hides()
    for _ in range(2):
        tracked.sees(run(2, Status.RUNNING, start=NOON + 2))
    assert tracked.view().latest == run(2, Status.RUNNING, start=NOON + 2)
    tracked.waits(60)
    assert tracked.due() == (("p", "run-3"),)


@pytest.mark.parametrize("scope", ["pipeline", "project"])
def test_hidden_run_counts_once(scope):
    tracked = hides(run_histogram=scope, stage_histogram=scope)
    tracked.waits(60)
    ended = run(2, start=NOON + 2, stages=[Stage("build", 0, Status.SUCCESS, NOON, 20.0)])
    tracked.looks(ended)
    tracked.finds("run-2", ended)
    tracked.sees(run(3, Status.RUNNING, start=NOON + 3))
    view, project = tracked.view(), tracked.tracker.project_view()
    assert project is not None
    assert tracked.counts() == {"success": 1}
    nothing: tuple[dict[str, int], dict[str, int]] = ({}, {})
    counted = {scope: ({"success": 1}, {"build": 1})}
    assert observations(view.durations) == counted.get("pipeline", nothing)
    assert observations(project.durations) == counted.get("project", nothing)


def test_deleted_hidden_run_is_missed_once():
    tracked = hides()
    tracked.waits(60)
    assert tracked.looks(None) == [MissedRuns(pipeline(), 1, "the provider no longer knows it")]
    assert tracked.finds("run-2", None) == []
    assert tracked.counts() == {"missed": 1}
    assert observations(tracked.view().durations) == ({}, {})


def test_lookup_of_another_run_counts_nothing():
    tracked = hides()
    before = tracked.view()
    tracked.waits(60)
    tracked.looks(run(9, Status.FAILED))
    assert tracked.view() is before
    assert (tracked.due(), tracked.tracker.unresolved) == ((), 1)


def test_lookup_does_not_change_up():
    tracked = hides()
    tracked.fails()
    tracked.waits(60)
    tracked.looks(run(2, Status.FAILED, start=NOON + 2))
    assert tracked.view().up is False
    assert tracked.view().streak == Streak(1, NOON + 52, NOON + 50, Extent.WHOLE)


def test_withdrawn_hidden_runs_are_still_looked_up():
    tracked = hides()
    tracked.fails()
    tracked.waits(MAX_AGE + 1)
    assert tracked.gauges() == GONE
    tracked.looks(run(2, start=NOON + 2))
    assert tracked.gauges() == GONE
    assert tracked.counts() == {"success": 1}


def test_new_numbering_shows_no_finished_run_and_keeps_the_streak():
    tracked = hides()
    fresh = Run(id="fresh", number=1, status=Status.RUNNING, start=tracked.now + 5)
    tracked.sees(fresh)
    tracked.sees(fresh)
    view = tracked.view()
    assert (view.latest, view.finished, view.active_starts) == (fresh, None, (fresh.start,))
    assert view.streak == Streak(0, None, NOON + 50, Extent.WHOLE)
    assert tracked.counts() == {"missed": 2}
    tracked.waits(60)
    assert (tracked.due_lookups(), tracked.tracker.unresolved) == ({}, 0)


def test_hidden_runs_beyond_the_limit_are_not_looked_up():
    tracked = hides(hidden=OPEN + 2)
    assert tracked.tracker.unresolved == OPEN
    assert tracked.counts() == {"missed": 2}
    active = tracked.view().active_starts
    assert active is not None
    assert min(start for start in active if start is not None) == NOON + 4


# Missing numbers


def test_missing_numbers_are_listed_and_counted():
    tracked = Tracked(run(1), run(4))
    assert (tracked.due_lookups(), tracked.tracker.unresolved) == ({"p": DueLookups(listing=True)}, 2)
    assert tracked.counts() == {"success": 1}
    assert [(gap.first, gap.last) for gap in tracked.tracker["p"].accounting.search().gaps] == [(2, 3)]
    assert tracked.reads(run(4), run(3, Status.FAILED), run(2), run(1), reach=Reach.PARTIAL) == []
    assert (tracked.due_lookups(), tracked.tracker.unresolved) == ({}, 0)
    assert tracked.counts() == {"success": 2, "failed": 1}
    assert tracked.view().streak == Streak(0, None, NOON + 50, Extent.WHOLE)


def test_listed_runs_are_observed_in_either_scope():
    tracked = Tracked(run(1), run(3), stage_histogram="project")
    tracked.reads(run(2, stages=[Stage("build", 0, Status.SUCCESS, NOON, 20.0)]))
    project = tracked.tracker.project_view()
    assert project is not None
    assert observations(tracked.view().durations) == ({"success": 2}, {})
    assert observations(project.durations) == ({}, {"build": 1})


def test_numbers_beyond_the_limit_are_missed_and_reported():
    tracked = Tracked(run(1), run(4))
    assert tracked.reads(run(4), reach=Reach.LIMIT) == [
        MissedRuns(pipeline(), 2, "older than a week or than a thousand runs")
    ]
    assert tracked.counts() == {"success": 1, "missed": 2}
    assert (tracked.due_lookups(), tracked.tracker.unresolved) == ({}, 0)


def test_numbers_are_missed_after_a_day_of_failed_lists():
    """The day counts by answers: a pipeline that is down misses nothing meanwhile."""
    tracked = Tracked(run(1), run(4))
    for _ in range(4):
        assert tracked.cannot_read() == []
        tracked.waits(DAY)
    tracked.sees(run(4))
    assert tracked.cannot_read() == [MissedRuns(pipeline(), 2, "the run list could not be read for a day")]
    assert tracked.counts() == {"success": 1, "missed": 2}
    tracked.waits(DAY)
    assert tracked.due_lookups() == {}


def test_initial_scan_reads_the_list_once():
    tracked = Tracked(run(9, Status.RUNNING))
    assert tracked.due_lookups() == {"p": DueLookups(listing=True, read_back=True)}
    tracked.reads(run(9, Status.RUNNING), run(8, Status.PAUSED), run(7))
    assert tracked.due_lookups() == {}
    assert tracked.tracker.unresolved == 1
    assert tracked.view().finished == run(7)
    tracked.waits(60)
    tracked.looks(run(8))
    assert tracked.counts() == {"success": 1}


def test_list_does_not_change_up():
    tracked = Tracked(run(1), run(3))
    tracked.fails()
    tracked.reads(run(2, Status.FAILED))
    assert tracked.view().up is False
    assert tracked.counts() == {"success": 1, "failed": 1}
    tracked.cannot_read()
    assert tracked.view().up is False


def test_lookups_before_the_first_answer_are_ignored():
    tracked = Tracked()
    assert (tracked.due_lookups(), tracked.tracker.unresolved) == ({}, 0)
    assert tracked.reads(run(1)) == tracked.cannot_read() == tracked.finds("run-1", run(1)) == []
    tracked.tracker["p"].postpone("run-1", tracked.clock)
    assert tracked.tracker["p"].accounting.search().size == 0
    assert (tracked.tracker.views(), tracked.tracker.unsaved()) == ((), {})


# Committed, then shown


def test_counters_are_shown_when_committed_and_gauges_at_once():
    """A crash must not take back a counter that was shown."""
    tracked = Tracked(run(1), run_histogram="pipeline", stage_histogram="project")
    before, project = tracked.view(), tracked.tracker.project_view()
    tracked.sees(run(2, Status.FAILED, stages=[Stage("b", 0, Status.FAILED, NOON, 5.0)]), saved=False)
    view = tracked.view()
    assert (
        view.latest
        == view.finished
        == run(2, Status.FAILED, stages=[Stage("b", 0, Status.FAILED, NOON, 5.0)])
    )
    assert view.streak == Streak(1, NOON + 50, NOON + 50, Extent.WHOLE)
    assert (view.counters, view.durations) == (before.counters, before.durations)
    assert tracked.tracker.project_view() is project
    tracked.saves()
    view, project = tracked.view(), tracked.tracker.project_view()
    assert tracked.counts() == {"failed": 1}
    assert project is not None
    assert (observations(view.durations), observations(project.durations)) == (
        ({"failed": 1}, {}),
        ({}, {"b": 1}),
    )


def test_first_answer_shows_counters_when_committed():
    tracked = Tracked()
    tracked.sees(run(1, Status.FAILED), saved=False)
    view = tracked.view()
    assert (view.latest, view.finished) == (run(1, Status.FAILED), run(1, Status.FAILED))
    assert (view.counters, view.durations, tracked.tracker.project_view()) == (None, None, None)
    tracked.saves()
    assert tracked.counts() == {}
    assert tracked.tracker.project_view() is not None


def test_lists_and_lookups_count_when_committed():
    tracked = Tracked(run(1), run(2, Status.RUNNING), run(4))
    tracked.reads(run(3), reach=Reach.PARTIAL, saved=False)
    tracked.tracker["p"].looked_up("run-2", run(2), clock=tracked.clock, now=tracked.now)
    assert tracked.counts() == {"success": 1}
    assert tracked.view().active_starts == ()
    tracked.saves()
    assert tracked.counts() == {"success": 3}


def test_answers_without_changes_need_no_save():
    tracked = Tracked(run(1), run(2, Status.RUNNING))
    for _ in range(3):
        tracked.sees(run(2, Status.RUNNING), saved=False)
        tracked.fails()
        tracked.waits(MAX_AGE + 1)
    assert tracked.tracker.unsaved() == {}
    assert tracked.tracker.accounting.unsaved is None


@pytest.mark.parametrize(
    "change",
    [
        lambda tracked: tracked.sees(run(2), saved=False),
        lambda tracked: tracked.sees(run(1, Status.PAUSED), saved=False),
        lambda tracked: tracked.sees(
            run(1, Status.RUNNING, stages=[Stage("ask", 0, Status.PAUSED)]), saved=False
        ),
        lambda tracked: tracked.watches(msgspec.structs.replace(pipeline(), name="new")),
    ],
    ids=["an end", "a state", "a stage that waits", "a name"],
)
def test_changes_that_a_restart_would_lose_are_unsaved(change):
    tracked = Tracked(run(1, Status.RUNNING))
    change(tracked)
    assert set(tracked.tracker.unsaved()) == {"p"}
    tracked.saves()
    assert tracked.tracker.unsaved() == {}


def test_unknown_name_is_saved_as_empty():
    tracked = Tracked()
    tracked.watches(msgspec.structs.replace(pipeline(), name="p"))
    tracked.sees(run(1))
    assert tracked.committed["p"].name == ""
    tracked.watches(pipeline())
    tracked.saves()
    assert tracked.committed["p"].name == "name of p"


def test_rolled_back_run_is_accounted_once_with_the_next_answer():
    tracked = Tracked(run(1), run_histogram="pipeline", stage_histogram="project")
    ended = run(2, Status.FAILED, stages=[Stage("b", 0, Status.FAILED, NOON, 5.0)])
    for _ in range(3):
        tracked.sees(ended, saved=False)
        tracked.cannot_save()
        assert tracked.counts() == {}
        assert tracked.view().finished == ended
    tracked.sees(ended)
    tracked.sees(ended)
    assert tracked.counts() == {"failed": 1}
    project = tracked.tracker.project_view()
    assert project is not None
    assert observations(tracked.view().durations) == ({"failed": 1}, {})
    assert observations(project.durations) == ({}, {"b": 1})


def test_runs_that_ended_while_saves_failed_are_found_afterwards():
    tracked = Tracked(run(1), run(2, Status.RUNNING))
    for number in (2, 3, 4, 5):
        tracked.sees(run(number), saved=False)
        tracked.cannot_save()
        assert tracked.due_lookups() == {}
    tracked.sees(run(5))
    assert tracked.due_lookups() == {"p": DueLookups(listing=True)}
    tracked.reads(run(5), run(4), run(3), run(2), run(1), reach=Reach.PARTIAL)
    assert tracked.counts() == {"success": 4}
    assert tracked.tracker.unresolved == 0


def test_rolled_back_lookup_is_repeated():
    tracked = hides()
    tracked.waits(60)
    tracked.tracker["p"].looked_up("run-2", run(2, start=NOON + 2), clock=tracked.clock, now=tracked.now)
    tracked.cannot_save()
    assert tracked.tracker.unresolved == 1
    tracked.waits(60)
    tracked.looks(run(2, start=NOON + 2))
    assert tracked.counts() == {"success": 1}


def test_rolled_back_first_sight_is_repeated():
    tracked = Tracked()
    tracked.sees(run(1, Status.RUNNING), saved=False)
    tracked.cannot_save()
    assert tracked.due_lookups() == {}
    assert tracked.view().active_starts == (NOON,)
    tracked.sees(run(1))
    view = tracked.view()
    assert view.counters is not None
    assert (view.counters.created, tracked.counts()) == (tracked.now, {})
    tracked.sees(run(2))
    assert tracked.counts() == {"success": 1}


# Restarts


def test_restart_shows_saved_values_before_the_first_poll():
    tracked = Tracked(run(1), run(2, Status.FAILED), run(3, Status.RUNNING), stage_histogram="project")
    before, project = tracked.view(), tracked.tracker.project_view()
    assert before.durations is not None
    assert project is not None
    again = tracked.restarts(later=60)
    view = again.view()
    assert view == View(
        pipeline=pipeline(),
        finished=run(2, Status.FAILED),
        streak=Streak(1, NOON + 50, NOON + 50, Extent.WHOLE),
        runs=(EndedRun.of(run(2, Status.FAILED), 2, counted=True), EndedRun.of(run(1), 1, counted=False)),
        counters=before.counters,
        durations=before.durations,
    )
    assert again.tracker.project_view() == project
    assert again.tracker.active(again.now) == ()
    assert (again.tracker.unsaved(), again.tracker.accounting.unsaved) == ({}, None)


def test_restart_continues_counting():
    tracked = Tracked(run(1), run(2), run(3, Status.RUNNING)).restarts(later=HOUR)
    tracked.sees(run(6))
    assert tracked.counts() == {"success": 2}
    assert tracked.tracker.unresolved == 3
    assert tracked.due_lookups() == {"p": DueLookups(listing=True)}
    tracked.reads(*(run(number) for number in range(6, 0, -1)), reach=Reach.PARTIAL)
    assert tracked.counts() == {"success": 5}


def test_restart_continues_open_lookups():
    gap = Tracked(run(1), run(4)).restarts(later=HOUR)
    assert gap.due_lookups() == {"p": DueLookups(listing=True)}
    gap.reads(run(3), run(2), reach=Reach.PARTIAL)
    assert gap.counts() == {"success": 3}
    hidden = hides().restarts(later=HOUR)
    assert (hidden.due_lookups(), hidden.tracker.unresolved) == ({}, 1)
    hidden.waits(60)
    assert hidden.due_lookups() == {"p": DueLookups(runs=("run-2",))}
    hidden.looks(run(2, start=NOON + 2))
    assert hidden.counts() == {"success": 1}
    assert hidden.view().active_starts is None


def test_new_numbering_is_recognized_across_a_restart():
    before = Tracked(run(1), run(2))
    for start, counted in ((before.now + 5, {"success": 1, "failed": 1}), (before.now - 5, {"success": 1})):
        tracked = before.restarts(later=60)
        tracked.sees(Run(id="fresh", number=1, status=Status.FAILED, start=start, end=before.now + 30))
        assert tracked.counts() == counted
        assert tracked.view().finished == tracked.view().latest


def test_failed_first_poll_after_a_restart_keeps_saved_values():
    tracked = Tracked(run(1, Status.FAILED)).restarts()
    before = tracked.view()
    tracked.fails()
    assert tracked.view() == msgspec.structs.replace(before, up=False)


def test_saved_values_expire():
    tracked = Tracked(run(1), run(2, Status.FAILED)).restarts(later=DAY)
    before = tracked.view()
    assert not tracked.waits(MAX_AGE)
    assert tracked.waits(1)
    assert not tracked.waits(1)
    view = tracked.view()
    assert (view.finished, view.streak) == (None, None)
    assert (view.counters, view.durations) == (before.counters, before.durations)
    tracked.sees(run(2, Status.FAILED))
    assert tracked.view().finished == run(2, Status.FAILED)
    assert tracked.counts() == {"failed": 1}


def test_status_change_survives_a_restart():
    tracked = Tracked(run(1, Status.PAUSED))
    first = tracked.now
    again = tracked.restarts(later=HOUR)
    again.sees(run(1, Status.PAUSED))
    assert again.view().status_change == first
    assert again.tracker.active(again.now) == ()
    again = again.restarts(later=HOUR)
    again.sees(run(1, Status.RUNNING))
    assert again.view().status_change == again.now
    other = tracked.restarts(later=HOUR)
    other.sees(run(2, Status.PAUSED))
    assert other.view().status_change == other.now


def test_waiting_stage_keeps_its_time_across_a_restart():
    tracked = Tracked(
        run(1, Status.PAUSED, stages=[Stage("a", 0, Status.PAUSED), Stage("b", 1, Status.RUNNING)])
    )
    first = tracked.now
    again = tracked.restarts(later=HOUR)
    again.sees(run(1, Status.PAUSED, stages=[Stage("a", 0, Status.PAUSED), Stage("b", 1, Status.WAITING)]))
    # The process before saw that b did not wait.
    assert again.view().stage_changes == (("a", 0, first), ("b", 1, first))
    other = tracked.restarts(later=HOUR)
    other.sees(run(2, Status.PAUSED, start=NOON + 1000, stages=[Stage("a", 0, Status.PAUSED, NOON + 1001)]))
    assert other.view().stage_changes == (("a", 0, NOON + 1001),)


def test_absences_start_at_zero_after_a_restart():
    tracked = Tracked(run(1), run(2, Status.FAILED)).restarts()
    before = tracked.view()
    for _ in range(ABSENCES - 1):
        tracked.sees(None)
        view = tracked.view()
        assert (view.up, view.has_run, view.latest) == (True, False, None)
        assert (view.finished, view.streak) == (before.finished, before.streak)
    tracked.sees(None)
    assert tracked.gauges() == GONE
    assert tracked.counts() == {"failed": 1}
    tracked.sees(run(2, Status.FAILED))
    assert tracked.view().finished == run(2, Status.FAILED)
    assert tracked.counts() == {"failed": 1}


def test_pipeline_without_a_run_is_saved_as_such():
    """Every later run of it counts, also across a restart."""
    tracked = Tracked(None).restarts(later=HOUR)
    view = tracked.view()
    assert (view.finished, view.streak) == (None, Streak(extent=Extent.WHOLE))
    for _ in range(ABSENCES + 1):
        tracked.sees(None)
    assert tracked.view().streak == Streak(extent=Extent.WHOLE)
    tracked.sees(run(2))
    assert tracked.counts() == {"success": 1}
    assert tracked.tracker.unresolved == 1


def test_project_histograms_continue_after_a_restart():
    tracked = seen_to_end(run_histogram="project")
    before = tracked.tracker.project_view()
    assert before is not None
    again = tracked.restarts(later=HOUR)
    again.watches()
    assert again.tracker.project_view() == before
    again.watches(pipeline())
    again.sees(run(4))
    project = again.tracker.project_view()
    assert project is not None
    assert observations(project.durations)[0] == {"success": 3, "failed": 1}
    assert project.durations.runs_created == before.durations.runs_created


def test_details_are_queried_again_after_a_restart():
    tracked = Tracked(staged(), details="jobs")
    tracked.gets_detail(detailed(staged()))
    again = tracked.restarts()
    assert again.wanted_details() == []
    again.sees(staged())
    assert (again.wanted_details(), jobs_of(again)) == (["run-1"], [])


def test_rolled_back_run_of_a_new_numbering_counts_later():
    tracked = Tracked(run(1), run(2))
    fresh = Run(id="fresh", number=1, status=Status.FAILED, start=tracked.now + 5, end=tracked.now + 9)
    tracked.sees(fresh, saved=False)
    tracked.cannot_save()
    tracked.sees(fresh)
    assert tracked.counts() == {"success": 1, "failed": 1}


def test_gap_is_not_listed_at_each_poll_while_saves_fail():
    """Each list costs a request, and its result is lost."""
    tracked = Tracked(run(1), run(4))
    asked = 0
    for _ in range(40):
        if tracked.due_lookups():
            asked += 1
            tracked.reads(run(4), run(3), run(2), saved=False)
            tracked.cannot_save()
        tracked.waits(15)
    assert 1 < asked < 10


def test_postponed_lookups_are_due_with_the_first_save_that_works():
    tracked = Tracked(run(1), run(4))
    for _ in range(200):
        if tracked.due_lookups():
            tracked.reads(run(4), run(3), run(2), saved=False)
            tracked.cannot_save()
        tracked.waits(15)
    tracked.waits(-15)
    assert tracked.due_lookups() == {}
    tracked.sees(run(5), saved=False)
    tracked.cannot_save()
    assert tracked.due_lookups() == {}
    tracked.sees(run(5))
    assert tracked.due_lookups() == {"p": DueLookups(listing=True)}


def test_missed_runs_are_reported_once_when_committed():
    tracked = Tracked(run(1), run(4))
    for _ in range(3):
        tracked.reads(run(4), reach=Reach.LIMIT, saved=False)
        tracked.cannot_save()
    assert [(one.runs, one.why) for one in tracked.reads(run(4), reach=Reach.LIMIT)] == [
        (2, "older than a week or than a thousand runs")
    ]


def test_listed_runs_are_not_counted_again_in_a_new_numbering():
    tracked = Tracked(run(3), run(6))
    late = msgspec.structs.replace(run(1, Status.RUNNING, start=tracked.now + 10), id="late")
    newer = [run(number, start=tracked.now + number - 6, end=tracked.now + 9) for number in range(7, 10)]
    tracked.now += 30
    tracked.sees(late)
    tracked.reads(*newer, run(6), run(5), run(4))
    assert tracked.counts() == {"success": 6}
    tracked.sees(late)
    tenth = run(10, start=tracked.now + 1, end=tracked.now + 2)
    tracked.sees(tenth)
    tracked.reads(tenth, *newer, run(6), run(5), run(4))
    assert tracked.counts() == {"success": 7}


events = st.one_of(
    st.tuples(st.just("sees"), st.integers(0, 4), st.sampled_from([0.0, 20.0])),
    st.tuples(st.just("sees"), st.just(None), st.just(0.0)),
    st.tuples(st.sampled_from(["fails", "cannot_save"])),
    st.tuples(st.just("waits"), st.sampled_from([60.0, MAX_AGE + 1, HOUR, DAY])),
)
ANSWERS = [
    run(1),
    run(2, Status.FAILED, start=NOON + 100),
    run(3, Status.RUNNING, start=NOON + 200),
    run(3, start=NOON + 200),
    run(4, Status.UNKNOWN, start=NOON + 300),
]


@given(st.lists(events, min_size=2, max_size=12))
def test_same_object_is_applied_like_an_equal_one(happened):
    same, equal = Tracked(), Tracked()
    for what, *arguments in happened:
        if what == "sees":
            place, ago = arguments
            answer = None if place is None else ANSWERS[place]
            copy = None if answer is None else msgspec.structs.replace(answer)
            same.sees(answer, sent_ago=ago, saved=False)
            equal.sees(copy, sent_ago=ago, saved=False)
            same.saves()
            equal.saves()
        else:
            getattr(same, what)(*arguments)
            getattr(equal, what)(*arguments)
        assert same.tracker.views() == equal.tracker.views()
        assert same.tracker["p"].to_save() == equal.tracker["p"].to_save()
        assert same.tracker.due(same.clock) == equal.tracker.due(equal.clock)
