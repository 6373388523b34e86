"""What is known of every pipeline: what answers and failures show, keep and withdraw."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.core.model import Job, Pipeline, Run, Stage, Status, Step
from exporter.settings.settings import Metrics
from exporter.tracking.details import DETAIL_TRIES
from exporter.tracking.ledger import Reach, Streak
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
    """A run that took fifty seconds, if it has ended."""
    if status.final and end is None and start is not None:
        end = start + 50
    return Run(id=f"run-{number}", number=number, status=status, start=start, end=end, stages=tuple(stages))


class Wall:
    """A board, and a clock that goes on by fifteen seconds with every answer; what is learnt is saved at once."""

    def __init__(
        self,
        *answers: Run | None,
        ids: Sequence[str] = ("p",),
        remembered: Mapping[str, SavedPipeline] | None = None,
        durations: DurationHistograms | None = None,
        later: float = 0.0,
        **metrics: Any,
    ) -> None:
        self.ids = ids
        self.asked = 1000.0
        """The time by the monotonic clock."""
        self.now = NOON + 600 + later
        self.retired = RetiredPipelines()
        self.retired.retired = {identity: (one, None) for identity, one in (remembered or {}).items()}
        self._metrics = metrics
        self.tracker = ProjectTracker(
            [pipeline(identity) for identity in ids],
            Metrics.model_validate(metrics),
            self.retired,
            provider="codearts",
            project="payments",
            interval=60.0,
            started=self.asked,
            durations=durations,
        )
        self.safe: dict[str, SavedPipeline] = dict(remembered or {})
        """What was saved of each pipeline."""
        self.safe_durations = durations
        for answer in answers:
            self.sees(answer)

    def sees(
        self, answer: Run | None, identity: str = "p", *, asked_ago: float = 0.0, saved: bool = True
    ) -> None:
        """Apply an answer, by default one that was asked for after all others, and save what it taught."""
        self.asked += 15
        self.now += 15
        runs = {} if answer is None else {identity: answer}
        self.tracker.answered([identity], runs, sent_at=self.asked - asked_ago, now=self.now)
        if saved:
            self.saves()

    def saves(self) -> list[MissedRuns]:
        """What there is to remember is safe now; returns what was missed."""
        unsaved, durations = self.tracker.unsaved(), self.tracker.accounting.unsaved
        self.safe |= unsaved
        self.safe_durations = self.safe_durations if durations is None else durations
        return self.tracker.commit(unsaved)

    def cannot_save(self) -> None:
        """It is not."""
        self.tracker.roll_back(self.tracker.unsaved(), self.asked)

    def restarts(self, *, later: float = 0.0) -> "Wall":
        """A new process that knows what was saved, some seconds later."""
        return Wall(
            ids=self.ids,
            remembered=self.safe,
            durations=self.safe_durations,
            later=self.now + later - NOON - 600,
            **self._metrics,
        )

    def watches(self, *pipelines: Pipeline) -> None:
        """These are watched from now on."""
        self.tracker.update(pipelines, self.asked, self.now)

    def fails(self, identity: str = "p") -> None:
        """A poll fails."""
        self.tracker.failed([identity])

    def waits(self, seconds: float) -> bool:
        """Let time pass, and withdraw what is too old by then; whether anything was."""
        self.asked += seconds
        self.now += seconds
        return self.tracker.expire(self.asked, MAX_AGE)

    def looks(self, *found: Run | None) -> list[MissedRuns]:
        """Look up what is due, the oldest hidden run first; returns what is missed."""
        missed = []
        for (identity, run_id), answer in zip(self.due(), found, strict=True):
            missed += self.finds(run_id, answer, identity)
        return missed

    def finds(self, run_id: str, answer: Run | None, identity: str = "p") -> list[MissedRuns]:
        """Look up a run; returns what is missed."""
        self.tracker[identity].looked_up(run_id, answer, clock=self.asked, now=self.now)
        return self.saves()

    def reads(self, *rows: Run, reach: Reach = Reach.COMPLETE, saved: bool = True) -> list[MissedRuns]:
        """Read the run list; returns what is missed."""
        self.tracker["p"].listed(rows, reach, clock=self.asked, now=self.now)
        return self.saves() if saved else []

    def cannot_read(self) -> list[MissedRuns]:
        """The run list fails; returns what is missed."""
        self.tracker["p"].not_listed(self.asked)
        return self.saves()

    def due(self) -> tuple[tuple[str, str], ...]:
        """Hidden runs to look up now."""
        return tuple((identity, run) for identity, asks in self.asks().items() for run in asks.runs)

    def asks(self) -> dict[str, DueLookups]:
        """What to ask for now of runs that are not the latest."""
        return self.tracker.due(self.asked)

    def counts(self, identity: str = "p") -> dict[str, int]:
        """What the counters say, of those that are not 0."""
        counters = self.view(identity).counters
        assert counters is not None
        found = {
            **{status.value: count for status, count in counters.runs.items()},
            **{f"{status.value} again": count for status, count in counters.retries.items()},
            "missed": counters.missed,
        }
        return {name: count for name, count in found.items() if count}

    def missing_numbers(self) -> list[str]:
        """The ids of runs whose details are asked for."""
        return [run.id for _, run in self.tracker.wanted_details(self.asked)]

    def learns(self, detail: Run | None, identity: str = "p") -> None:
        """Apply the answer to a request for the details that are wanted."""
        self.tracker.detailed(identity, dict(self.tracker.wanted_details(self.asked))[identity], detail)

    def view(self, identity: str = "p") -> View:
        """What is shown of a pipeline."""
        return next(view for view in self.tracker.views() if view.pipeline.id == identity)

    def gauges(self) -> tuple[object, ...]:
        """What is withdrawn together: the latest and latest finished run's, the failures', the active ones'."""
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
    wall = Wall()
    assert wall.tracker.views() == ()
    assert wall.tracker.project_view() is None


def test_failed_first_poll_shows_only_up_0():
    wall = Wall()
    wall.fails()
    assert wall.view() == View(pipeline=pipeline(), up=False)


def test_answer_shows_the_latest_run():
    wall = Wall(run(1, Status.FAILED))
    view = wall.view()
    assert (view.up, view.has_run) == (True, True)
    assert view.latest == run(1, Status.FAILED)
    assert view.finished == run(1, Status.FAILED)
    assert view.streak == Streak(1, NOON + 50, None)
    assert view.active_starts == ()
    assert view.counters is not None
    assert view.counters.created == wall.now


def test_run_in_progress_is_active_and_the_finished_one_stays():
    wall = Wall(run(1, Status.FAILED), run(2, Status.RUNNING, start=NOON + 100))
    view = wall.view()
    assert view.latest is not None
    assert view.latest.id == "run-2"
    assert view.finished == run(1, Status.FAILED)
    assert view.active_starts == (NOON + 100,)


def test_active_run_without_a_start_counts_as_active():
    assert Wall(run(1, Status.PENDING, start=None)).view().active_starts == (None,)


def test_answer_without_a_run_shows_has_run_0_and_starts_counters():
    view = Wall(None).view()
    assert (view.up, view.has_run, view.latest, view.finished) == (True, False, None, None)
    assert view.active_starts == ()
    assert view.counters is not None


def test_overtaken_answer_changes_nothing():
    wall = Wall(run(1), run(2, Status.FAILED))
    before = wall.view()
    wall.sees(run(2, Status.RUNNING), asked_ago=60)
    wall.sees(None, asked_ago=60)
    assert wall.view() is before


def test_unconfirmed_answer_changes_no_view():
    """It may be stale: the run in progress stays shown and active."""
    wall = Wall(run(8), run(9, Status.RUNNING))
    shown = wall.view()
    wall.sees(run(8))
    assert wall.view() is shown
    assert wall.tracker.active(wall.now) == ("p",)
    wall.sees(run(8))
    assert wall.view().latest == run(8)


def test_view_is_the_same_object_until_something_visible_changes():
    """What was rendered from it can be reused."""
    wall = Wall(run(1))
    before = wall.view()
    wall.sees(run(1))
    assert wall.view() is before
    wall.fails()
    assert wall.view() is not before


def test_pipelines_are_independent_and_in_configured_order():
    wall = Wall(ids=("b", "a", "c"))
    wall.sees(run(1), "a")
    wall.fails("b")
    assert wall.tracker.ids == ("b", "a", "c")
    assert [(view.pipeline.id, view.up) for view in wall.tracker.views()] == [("b", False), ("a", True)]


# Failures and age


def test_failed_poll_changes_only_up():
    wall = Wall(run(1, Status.FAILED))
    before = wall.view()
    wall.fails()
    assert wall.view() == msgspec.structs.replace(before, up=False)
    wall.sees(run(1, Status.FAILED))
    assert wall.view() == before


def test_gauges_are_withdrawn_after_max_age_and_counters_stay():
    wall = Wall(run(1), run(2, Status.FAILED, stages=[Stage("s", 0, Status.PAUSED)]))
    wall.fails()
    before = wall.view()
    assert not wall.waits(MAX_AGE)
    assert wall.view() is before
    assert wall.waits(1.0)
    view = wall.view()
    assert wall.gauges() == GONE
    assert (view.up, view.has_run) == (False, None)
    assert view.counters == before.counters
    assert view.durations == before.durations


def test_gauges_are_withdrawn_once():
    wall = Wall(run(1))
    wall.waits(MAX_AGE + 1)
    before = wall.view()
    assert not wall.waits(60)
    wall.fails()
    wall.fails()
    assert wall.gauges() == GONE
    assert wall.view() == msgspec.structs.replace(before, up=False)


def test_age_counts_from_the_last_answer_not_from_failures():
    wall = Wall(run(1))
    wall.waits(MAX_AGE - 10)
    wall.fails()
    assert wall.waits(11)


def test_pipeline_without_an_answer_does_not_expire():
    wall = Wall()
    wall.fails()
    before = wall.view()
    assert not wall.waits(10 * MAX_AGE)
    assert wall.view() is before


def test_next_answer_restores_withdrawn_values():
    wall = Wall(run(1), run(2, Status.RUNNING))
    before = wall.view()
    wall.fails()
    wall.waits(MAX_AGE + 1)
    wall.sees(run(2, Status.RUNNING))
    assert wall.view() == before


def test_pipelines_expire_independently():
    wall = Wall(ids=("p", "q"))
    wall.sees(run(1))
    wall.waits(MAX_AGE)
    wall.sees(run(1), "q")
    assert wall.waits(1)
    assert wall.gauges() == GONE
    assert wall.view("q").latest == run(1)


# Absence


def test_absent_pipeline_has_no_run_at_once_and_loses_its_gauges_with_the_third_absence():
    wall = Wall(run(1), run(2, Status.RUNNING))
    before = wall.gauges()
    for _ in range(ABSENCES - 1):
        wall.sees(None)
        assert wall.view().has_run is False
        assert wall.gauges() == before
    wall.sees(None)
    assert wall.gauges() == GONE
    assert (wall.view().up, wall.view().has_run) == (True, False)
    assert wall.view().counters is not None
    assert wall.tracker.active(wall.now) == ()


def test_only_successive_absences_count():
    wall = Wall(run(1))
    before = wall.view()
    for _ in range(3):
        wall.sees(None)
        wall.sees(None)
        wall.sees(run(1))
        assert wall.view() == before
    for _ in range(ABSENCES):
        wall.sees(None)
    wall.sees(run(1))
    assert wall.view() == before


def test_failed_polls_are_not_absences():
    wall = Wall(run(1))
    for _ in range(5):
        wall.fails()
    wall.sees(None)
    assert wall.view().latest == run(1)


def test_pipeline_that_never_had_a_run_keeps_its_gauges():
    wall = Wall(None)
    before = wall.view()
    for _ in range(5):
        wall.sees(None)
    assert wall.view() is before


# Since when


def test_final_status_dates_from_the_end():
    assert Wall(run(1, end=NOON + 77)).view().status_change == NOON + 77


def test_final_status_without_an_end_dates_from_first_sight():
    endless = Run(id="run-1", number=1, status=Status.FAILED, start=NOON)
    wall = Wall(endless)
    first = wall.now
    wall.sees(endless)
    assert wall.view().status_change == first
    wall.sees(run(1, Status.FAILED))
    assert wall.view().status_change == NOON + 50


def test_status_in_progress_dates_from_first_sight():
    wall = Wall(run(1, Status.PAUSED))
    first = wall.now
    wall.sees(run(1, Status.PAUSED))
    wall.fails()
    wall.waits(MAX_AGE + 1)
    wall.sees(run(1, Status.PAUSED))
    assert wall.view().status_change == first


def test_start_after_first_sight_is_the_status_change():
    """Clocks differ, and a status cannot be older than its run."""
    wall = Wall()
    wall.sees(run(1, Status.RUNNING, start=wall.now + 100))
    assert wall.view().status_change == wall.now - 15 + 100


def test_new_status_or_new_run_changes_the_time():
    wall = Wall(run(1, Status.RUNNING))
    wall.sees(run(1, Status.PAUSED))
    assert wall.view().status_change == wall.now
    wall.sees(run(1, Status.RUNNING))
    assert wall.view().status_change == wall.now
    wall.sees(run(2, Status.RUNNING))
    assert wall.view().status_change == wall.now


def test_retry_changes_the_time():
    wall = Wall(run(1, Status.FAILED), run(1, Status.RUNNING))
    assert wall.view().status_change == wall.now
    wall.sees(run(1, Status.SUCCESS, end=wall.now - 3))
    assert wall.view().status_change == wall.now - 18


@pytest.mark.parametrize("status", HELD)
def test_waiting_stage_dates_from_first_sight(status):
    wall = Wall(run(1, Status.RUNNING, stages=[Stage("approve", 3, status, NOON)]))
    first = wall.now
    assert wall.view().stage_changes == (("approve", 3, first),)
    wall.sees(run(1, Status.PAUSED, stages=[Stage("approve", 3, status, NOON)]))
    assert wall.view().stage_changes == (("approve", 3, first),)


def test_waiting_stage_that_starts_later_dates_from_its_start():
    wall = Wall()
    start = wall.now + 500
    wall.sees(run(1, Status.RUNNING, stages=[Stage("approve", 0, Status.WAITING, start)]))
    assert wall.view().stage_changes == (("approve", 0, start),)


def test_stage_that_continues_and_waits_again_has_a_new_time():
    held, on = (run(1, Status.RUNNING, stages=[Stage("a", 0, s)]) for s in (Status.PAUSED, Status.RUNNING))
    wall = Wall(held, on)
    assert wall.view().stage_changes == ()
    wall.sees(held)
    assert wall.view().stage_changes == (("a", 0, wall.now),)


def test_other_waiting_status_or_other_run_has_a_new_time():
    wall = Wall(run(1, Status.PAUSED, stages=[Stage("a", 0, Status.PAUSED), Stage("a", 1, Status.PAUSED)]))
    first = wall.now
    wall.sees(run(1, Status.PAUSED, stages=[Stage("a", 0, Status.SUSPENDED), Stage("a", 1, Status.PAUSED)]))
    assert wall.view().stage_changes == (("a", 0, wall.now), ("a", 1, first))
    wall.sees(run(2, Status.PAUSED, stages=[Stage("a", 0, Status.SUSPENDED), Stage("a", 1, Status.PAUSED)]))
    assert wall.view().stage_changes == (("a", 0, wall.now), ("a", 1, wall.now))


# Asked more often


@pytest.mark.parametrize("status", [Status.RUNNING, Status.PENDING])
def test_running_or_pending_run_is_active_without_limit(status):
    wall = Wall(run(1, status))
    assert wall.tracker.active(wall.now) == ("p",)
    assert wall.tracker.active(wall.now + 100 * HELD_ACTIVE) == ("p",)


@pytest.mark.parametrize("status", HELD)
def test_waiting_run_is_active_for_an_hour(status):
    """It may wait for days."""
    wall = Wall(run(1, status))
    assert wall.tracker.active(wall.now + HELD_ACTIVE - 1) == ("p",)
    assert wall.tracker.active(wall.now + HELD_ACTIVE) == ()
    wall.waits(HELD_ACTIVE)
    wall.sees(run(1, Status.RUNNING))
    wall.sees(run(1, status))
    assert wall.tracker.active(wall.now) == ("p",)


def test_pipelines_without_a_run_in_progress_are_not_active():
    wall = Wall(ids=("p", "q", "r"))
    wall.sees(run(1))
    wall.sees(None, "q")
    wall.fails("r")
    assert wall.tracker.active(wall.now) == ()


# Histograms


def seen_to_end(**metrics: Any) -> Wall:
    """A board that saw two runs of one pipeline end, one of another, and one that was retried."""
    wall = Wall(ids=("p", "q"), **metrics)
    stages = [Stage("build", 0, Status.SUCCESS, NOON, 20.0)]
    for identity in wall.ids:
        wall.sees(run(1), identity)
    for number in (2, 3):
        wall.sees(run(number, stages=stages), "p")
    wall.sees(run(2, Status.FAILED, stages=stages), "q")
    wall.sees(run(2, Status.RUNNING, stages=stages), "q")
    wall.sees(run(2, end=NOON + 900, stages=stages), "q")
    return wall


def observations(durations: DurationHistograms | None) -> tuple[dict[str, int], dict[str, int]]:
    """How many runs and stages were observed, by status and by name."""
    assert durations is not None
    runs = {status.value: sum(one.counts) for status, one in durations.runs.items() if sum(one.counts)}
    stages = {name: sum(one.counts) for (name, _), one in durations.stages.items()}
    return runs, stages


@pytest.mark.parametrize("runs", ["pipeline", "project", "off"])
@pytest.mark.parametrize("stages", ["pipeline", "project", "off"])
def test_histograms_have_the_configured_scope(runs, stages):
    wall = seen_to_end(run_histogram=runs, stage_histogram=stages)
    project = wall.tracker.project_view()
    assert project is not None
    shown = (
        observations(wall.view("p").durations),
        observations(wall.view("q").durations),
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
    wall = seen_to_end(run_histogram="project")
    before = wall.tracker.project_view()
    wall.fails("p")
    wall.waits(MAX_AGE + 1)
    for _ in range(ABSENCES):
        wall.sees(None, "q")
    assert wall.tracker.project_view() == before


def test_project_view_is_the_same_object_until_a_run_ends():
    wall = seen_to_end()
    before = wall.tracker.project_view()
    wall.sees(run(3))
    wall.sees(run(4, Status.RUNNING))
    assert wall.tracker.project_view() is before
    wall.sees(run(4))
    assert wall.tracker.project_view() is not before


def test_project_histograms_start_with_the_first_answer():
    wall = Wall()
    wall.fails()
    assert wall.tracker.project_view() is None
    wall.sees(None)
    project = wall.tracker.project_view()
    assert project is not None
    assert (project.provider, project.project) == ("codearts", "payments")
    assert project.durations.runs_created == wall.now


def test_stage_names_are_limited_in_each_scope():
    for scope, bound in (("pipeline", 100), ("project", 200)):
        wall = Wall(ids=("p", "q", "r"), stage_histogram=scope)
        for identity in wall.ids:
            wall.sees(run(1), identity)
            for number in range(2, 5):
                names = [f"{identity} {number} {place}" for place in range(50)]
                stages = [Stage(name, 0, Status.SUCCESS, NOON, 1.0) for name in names]
                wall.sees(run(number, stages=stages), identity)
        project = wall.tracker.project_view()
        assert project is not None
        kept = wall.view("p").durations if scope == "pipeline" else project.durations
        assert kept is not None
        kept_names = {name for name, _ in kept.stages}
        assert len(kept_names) == bound + 1
        assert "(other)" in kept_names


# Pipelines that come, go and are renamed


def test_new_pipeline_is_shown_after_its_first_poll():
    wall = Wall(run(1), run(2))
    before = wall.view()
    wall.watches(pipeline("q"), pipeline("p"))
    assert wall.tracker.ids == ("q", "p")
    assert wall.tracker.views() == (before,)
    wall.sees(run(1), "q")
    assert [view.pipeline.id for view in wall.tracker.views()] == ["q", "p"]
    assert wall.view() is before
    assert wall.view("q").counters != before.counters


def test_retired_pipeline_is_neither_shown_nor_polled():
    """Answers that still arrive change nothing."""
    wall = Wall(ids=("p", "q"), details="jobs")
    for answer in (run(1), run(2, Status.RUNNING), run(3, Status.RUNNING)):
        wall.sees(answer, "q")
    wall.waits(60)
    assert wall.due() == (("q", "run-2"),)
    wall.watches(pipeline("p"))
    assert (wall.tracker.ids, wall.tracker.views(), wall.tracker.active(wall.now)) == (("p",), (), ())
    assert (wall.asks(), wall.missing_numbers(), wall.tracker.unresolved) == ({}, [], 0)
    wall.tracker.failed(["q"])
    wall.tracker.detailed("q", run(3), None)
    wall.tracker.detail_failed("q", wall.asked)
    assert wall.tracker.views() == ()
    assert wall.tracker.unsaved() == {}


def test_restored_pipeline_continues_with_its_accounts():
    wall = Wall(run(1), run(2, Status.FAILED), run(3, Status.RUNNING), run(4, Status.RUNNING))
    before = wall.view()
    wall.watches()
    assert set(wall.retired.retired) == {"p"}
    wall.waits(HOUR)
    wall.watches(pipeline())
    assert wall.retired.retired == {}
    view = wall.view()
    assert (view.counters, view.finished, view.streak) == (before.counters, before.finished, before.streak)
    assert (view.up, view.latest, view.active_starts) == (None, None, None)
    wall.sees(run(7))
    assert wall.counts() == {"failed": 1, "success": 1}
    assert wall.asks() == {"p": DueLookups(listing=True)}
    assert wall.tracker.unresolved == 4


def test_pipeline_without_an_answer_leaves_nothing_to_restore():
    wall = Wall()
    wall.fails()
    wall.watches()
    assert wall.retired.retired == {}


def test_project_keeps_the_histograms_of_retired_pipelines():
    wall = seen_to_end(run_histogram="project")
    before = wall.tracker.project_view()
    wall.watches(pipeline("p"))
    assert wall.tracker.project_view() is before


def test_renamed_pipeline_keeps_its_values():
    wall = Wall(run(1), run(2, Status.RUNNING))
    before = wall.view()
    renamed = msgspec.structs.replace(pipeline(), name="new", labels=(("team", "pay"),), url="https://x")
    wall.watches(renamed)
    assert wall.view() == msgspec.structs.replace(before, pipeline=renamed)
    wall.sees(run(2))
    assert wall.view().pipeline == renamed
    assert wall.view().counters is not None


def test_pipeline_renamed_before_its_first_poll_has_the_new_name():
    wall = Wall()
    renamed = msgspec.structs.replace(pipeline(), name="new")
    wall.watches(renamed)
    assert wall.tracker.views() == ()
    wall.fails()
    assert wall.view() == View(pipeline=renamed, up=False)


def test_update_without_changes_changes_no_view():
    wall = Wall(run(1))
    before = wall.view()
    wall.watches(pipeline())
    assert wall.view() is before


def test_held_back_pipeline_is_tracked_but_not_shown():
    wall = Wall(ids=("p", "q"))
    assert wall.tracker.hold_back(frozenset({"p"}))
    wall.sees(run(1))
    first = wall.now
    wall.sees(run(1), "q")
    wall.sees(run(2, Status.RUNNING))
    assert [view.pipeline.id for view in wall.tracker.views()] == ["q"]
    assert wall.tracker.active(wall.now) == ("p",)
    assert wall.tracker.hold_back(frozenset())
    view = wall.view()
    assert view.counters is not None
    assert view.counters.created == first


# Details

STEP = Step("mvn", 0, "Maven", Status.SUCCESS, 5.0)


def detailed(
    of: Run, status: Status = Status.SUCCESS, *, start: float | None = None, duration: float | None = None
) -> Run:
    """The details of a run: each stage has a job of one step."""
    jobs = (Job("compile", 0, status, NOON + 1, 5.0, (STEP,)),)
    stages = tuple(
        Stage(stage.name, stage.sequence, status, start, duration, jobs) for stage in of.stages
    ) or (Stage("build", 0, status, start, duration, jobs),)
    return msgspec.structs.replace(of, stages=stages)


def staged(
    number: int = 1, status: Status = Status.SUCCESS, *, start: float | None = NOON, **changes: Any
) -> Run:
    """A run of one stage, in the same state."""
    duration = 50.0 if status.final else None
    return run(number, status, stages=[Stage("build", 0, status, start, duration)], **changes)


def jobs_of(wall: Wall) -> list[tuple[str, str]]:
    """The jobs of the latest run, and their states."""
    latest = wall.view().latest
    assert latest is not None
    return [(job.name, job.status.value) for stage in latest.stages for job in stage.jobs]


def test_details_are_queried_only_if_they_are_shown():
    """Each costs a request."""
    assert Wall(staged()).missing_numbers() == []
    for details in ("jobs", "steps"):
        assert Wall(staged(), details=details).missing_numbers() == ["run-1"]


def test_pipeline_without_a_run_wants_no_details():
    wall = Wall(ids=("p", "q", "r"), details="jobs")
    wall.sees(None)
    wall.fails("q")
    wall.sees(run(1), "r")
    for _ in range(ABSENCES):
        wall.sees(None, "r")
    assert wall.missing_numbers() == []


def test_run_without_an_id_wants_no_details():
    wall = Wall(Run(id="#7", number=7, status=Status.SUCCESS), details="jobs")
    assert wall.missing_numbers() == []


def test_details_are_queried_once_for_each_run_and_each_change():
    wall = Wall(details="jobs")
    answers = [
        *[staged(1, Status.RUNNING)] * 3,
        *[staged(1, Status.FAILED)] * 3,
        *[staged(2, Status.PENDING)] * 2,
        *[staged(2, Status.RUNNING)] * 2,
        staged(2, Status.SUCCESS),
    ]
    asked = []
    for answer in answers:
        wall.sees(answer)
        if wall.missing_numbers():
            asked.append(answer)
            wall.learns(detailed(answer, answer.status))
        wall.fails()
        wall.sees(answer)
        assert wall.missing_numbers() == []
    assert asked == list(dict.fromkeys(answers))


def test_unconfirmed_answer_wants_no_details():
    wall = Wall(staged(8), staged(9, Status.RUNNING), details="jobs")
    wall.learns(detailed(staged(9, Status.RUNNING)))
    wall.sees(staged(8))
    assert wall.missing_numbers() == []


def test_failed_details_are_queried_again_with_growing_pauses():
    wall = Wall(staged(1, Status.RUNNING), details="jobs")
    for pause in (60, 120, 240, 480, 900, 900):
        assert wall.missing_numbers() == ["run-1"]
        wall.tracker.detail_failed("p", wall.asked)
        wall.waits(pause - 1)
        assert wall.missing_numbers() == []
        wall.waits(1)
    wall.tracker.detail_failed("p", wall.asked)
    assert wall.missing_numbers() == []
    wall.sees(staged(1, Status.FAILED))
    assert wall.missing_numbers() == ["run-1"]


def test_details_queried_longest_ago_come_first():
    """Pipelines that change with every poll must not starve the others."""
    wall = Wall(ids=("p", "q", "r"), details="jobs")
    for identity in ("p", "q", "r"):
        wall.sees(staged(1, Status.RUNNING), identity)
    assert [identity for identity, _ in wall.tracker.wanted_details(wall.asked)] == ["p", "q", "r"]
    wall.tracker.detailed("p", staged(1, Status.RUNNING), None)
    wall.sees(staged(1), "p")
    assert [identity for identity, _ in wall.tracker.wanted_details(wall.asked)] == ["q", "r", "p"]


def test_unavailable_details_are_not_queried_again_until_the_run_changes():
    wall = Wall(staged(1, Status.RUNNING), details="jobs")
    wall.learns(None)
    wall.sees(staged(1, Status.RUNNING))
    assert (wall.missing_numbers(), jobs_of(wall)) == ([], [])
    wall.sees(staged(1))
    assert wall.missing_numbers() == ["run-1"]


def test_details_add_jobs_and_the_run_keeps_its_statuses():
    of = staged(1, Status.RUNNING)
    wall = Wall(of, details="steps")
    wall.learns(detailed(of, Status.SUCCESS))
    (stage,) = wall.view().latest.stages  # type: ignore[union-attr]
    assert (stage.name, stage.status) == ("build", Status.RUNNING)
    assert stage.jobs == (Job("compile", 0, Status.SUCCESS, NOON + 1, 5.0, (STEP,)),)
    latest = wall.view().latest
    assert latest is not None
    assert msgspec.structs.replace(latest, stages=of.stages) == of


@pytest.mark.parametrize(
    ("status", "told", "shown"),
    [
        (Status.SUCCESS, (NOON + 3.5, 40.25), (NOON + 3.5, 40.25)),
        (Status.SUCCESS, (None, None), (NOON, 50.0)),
        (Status.SUCCESS, (NOON + 3.5, None), (NOON + 3.5, 50.0)),
        (Status.RUNNING, (NOON + 3.5, 40.25), (NOON + 3.5, None)),
        (Status.RUNNING, (None, None), (NOON, None)),
    ],
)
def test_stage_times_come_from_the_details(status, told, shown):
    wall = Wall(staged(1, status), details="jobs")
    wall.learns(detailed(staged(1, status), start=told[0], duration=told[1]))
    (stage,) = wall.view().latest.stages  # type: ignore[union-attr]
    assert (stage.start, stage.duration) == shown


def test_details_apply_to_the_stage_with_the_same_name_and_sequence():
    names = [("a", 0), ("a", 1), ("b", 2)]
    of = run(1, stages=[Stage(name, place, Status.SUCCESS, NOON, 5.0) for name, place in names])
    job = (Job("j", 0, Status.SUCCESS),)
    known = [("a", 1), ("b", 0), ("c", 3)]
    wall = Wall(of, details="jobs")
    wall.learns(
        msgspec.structs.replace(
            of, stages=tuple(Stage(name, place, Status.FAILED, jobs=job) for name, place in known)
        )
    )
    latest = wall.view().latest
    assert latest is not None
    assert [(stage.name, stage.sequence, bool(stage.jobs)) for stage in latest.stages] == [
        ("a", 0, False),
        ("a", 1, True),
        ("b", 2, False),
    ]
    assert {stage.status for stage in latest.stages} == {Status.SUCCESS}


def test_run_without_stages_gets_those_of_its_details():
    """Batch answers may lack stages."""
    wall = Wall(run(1), details="jobs")
    wall.learns(detailed(run(1)))
    assert jobs_of(wall) == [("compile", "success")]


def test_details_of_another_run_are_ignored():
    wall = Wall(staged(2), details="jobs")
    before = wall.view()
    wall.learns(detailed(staged(1)))
    assert wall.view() is before
    assert wall.missing_numbers() == []


def test_jobs_disappear_when_another_run_is_the_latest():
    wall = Wall(staged(1), details="jobs")
    wall.learns(detailed(staged(1)))
    wall.sees(staged(2, Status.RUNNING))
    assert jobs_of(wall) == []
    wall.learns(detailed(staged(2, Status.RUNNING), Status.RUNNING))
    assert jobs_of(wall) == [("compile", "running")]


def test_jobs_stay_until_the_details_of_a_change_arrive():
    wall = Wall(staged(1, Status.RUNNING), details="jobs")
    wall.learns(detailed(staged(1, Status.RUNNING), Status.RUNNING))
    wall.sees(staged(1))
    assert (jobs_of(wall), wall.missing_numbers()) == ([("compile", "running")], ["run-1"])
    wall.learns(detailed(staged(1)))
    assert jobs_of(wall) == [("compile", "success")]


@pytest.mark.parametrize("how", ["refused", "another run", "failed"])
def test_jobs_disappear_if_the_details_of_a_change_are_unavailable(how):
    """A job of a run that ended must not stay shown as running."""
    wall = Wall(staged(1, Status.RUNNING), details="jobs")
    wall.learns(detailed(staged(1, Status.RUNNING), Status.RUNNING))
    wall.sees(staged(1))
    match how:
        case "refused":
            wall.learns(None)
        case "another run":
            wall.learns(detailed(staged(7)))
        case _:
            for _ in range(DETAIL_TRIES):
                assert jobs_of(wall) == [("compile", "running")]
                wall.tracker.detail_failed("p", wall.asked)
    assert (jobs_of(wall), wall.missing_numbers()) == ([], [])


def test_run_that_changed_while_its_details_were_queried_wants_them_again():
    wall = Wall(staged(1, Status.RUNNING), details="jobs")
    before = staged(1, Status.RUNNING)
    wall.sees(staged(1))
    wall.tracker.detailed("p", before, detailed(before, Status.RUNNING))
    assert wall.missing_numbers() == ["run-1"]


def test_jobs_are_withdrawn_and_restored_with_their_run():
    wall = Wall(staged(1), details="jobs")
    wall.learns(detailed(staged(1)))
    before = wall.view()
    wall.fails()
    wall.waits(MAX_AGE + 1)
    assert wall.view().latest is None
    wall.sees(staged(1))
    assert wall.view() == before
    assert wall.missing_numbers() == []


def test_details_do_not_change_up():
    wall = Wall(staged(1), details="jobs")
    wall.fails()
    wall.learns(detailed(staged(1)))
    assert wall.view().up is False
    assert jobs_of(wall) == [("compile", "success")]


def test_details_are_not_observed_in_histograms():
    wall = Wall(staged(1), staged(2), details="jobs", stage_histogram="pipeline")
    before = wall.view()
    wall.learns(detailed(staged(2), start=NOON, duration=7.0))
    assert (wall.view().counters, wall.view().durations) == (before.counters, before.durations)


# Hidden runs


def hides(*, hidden: int = 1, **metrics: Any) -> Wall:
    """A board with so many runs under way that newer ones hide, from run-2 on, the latest being under way too."""
    wall = Wall(run(1), **metrics)
    for number in range(2, hidden + 3):
        wall.sees(run(number, Status.RUNNING, start=NOON + number))
    return wall


def test_hidden_runs_are_active_until_their_end_is_known():
    wall = hides(hidden=2)
    assert wall.view().active_starts == (NOON + 2, NOON + 3, NOON + 4)
    assert wall.tracker.unresolved == 2
    wall.waits(60)
    wall.finds("run-2", run(2, start=NOON + 2))
    wall.finds("run-3", None)
    assert wall.view().active_starts == (NOON + 4,)
    assert wall.tracker.unresolved == 0


def test_hidden_run_does_not_make_its_pipeline_active():
    """Polls would not show it."""
    wall = hides()
    wall.sees(run(3, start=NOON + 3))
    assert wall.tracker.active(wall.now) == ()
    assert wall.view().active_starts == (NOON + 2,)


def test_hidden_run_is_looked_up_until_its_end_is_known():
    wall = hides()
    for _ in range(3):
        wall.sees(run(3, Status.RUNNING, start=NOON + 3))
        assert wall.asks() == {}
    wall.waits(15)
    assert wall.asks() == {"p": DueLookups(runs=("run-2",))}
    assert wall.looks(run(2, Status.RUNNING, start=NOON + 2)) == []
    assert wall.asks() == {}
    wall.waits(120)
    wall.looks(run(2, start=NOON + 2))
    wall.waits(DAY)
    assert wall.asks() == {}


def test_failed_lookup_is_postponed_and_counts_nothing():
    wall = hides()
    before = wall.view()
    wall.waits(60)
    wall.tracker["p"].postpone("run-2", wall.asked)
    wall.waits(119)
    assert wall.due() == ()
    wall.waits(1)
    assert wall.due() == (("p", "run-2"),)
    assert wall.view() is before


def test_hidden_run_that_is_the_latest_again_is_not_looked_up():
    wall = hides()
    for _ in range(2):
        wall.sees(run(2, Status.RUNNING, start=NOON + 2))
    assert wall.view().latest == run(2, Status.RUNNING, start=NOON + 2)
    wall.waits(60)
    assert wall.due() == (("p", "run-3"),)


@pytest.mark.parametrize("scope", ["pipeline", "project"])
def test_hidden_run_counts_once(scope):
    wall = hides(run_histogram=scope, stage_histogram=scope)
    wall.waits(60)
    ended = run(2, start=NOON + 2, stages=[Stage("build", 0, Status.SUCCESS, NOON, 20.0)])
    wall.looks(ended)
    wall.finds("run-2", ended)
    wall.sees(run(3, Status.RUNNING, start=NOON + 3))
    view, project = wall.view(), wall.tracker.project_view()
    assert project is not None
    assert wall.counts() == {"success": 1}
    nothing: tuple[dict[str, int], dict[str, int]] = ({}, {})
    counted = {scope: ({"success": 1}, {"build": 1})}
    assert observations(view.durations) == counted.get("pipeline", nothing)
    assert observations(project.durations) == counted.get("project", nothing)


def test_deleted_hidden_run_is_missed_once():
    wall = hides()
    wall.waits(60)
    assert wall.looks(None) == [MissedRuns(pipeline(), 1, "the provider no longer knows it")]
    assert wall.finds("run-2", None) == []
    assert wall.counts() == {"missed": 1}
    assert observations(wall.view().durations) == ({}, {})


def test_lookup_of_another_run_counts_nothing():
    wall = hides()
    before = wall.view()
    wall.waits(60)
    wall.looks(run(9, Status.FAILED))
    assert wall.view() is before
    assert (wall.due(), wall.tracker.unresolved) == ((), 1)


def test_lookup_does_not_change_up():
    wall = hides()
    wall.fails()
    wall.waits(60)
    wall.looks(run(2, Status.FAILED, start=NOON + 2))
    assert wall.view().up is False
    assert wall.view().streak == Streak(1, NOON + 52, NOON + 50)


def test_withdrawn_hidden_runs_are_still_looked_up():
    wall = hides()
    wall.fails()
    wall.waits(MAX_AGE + 1)
    assert wall.gauges() == GONE
    wall.looks(run(2, start=NOON + 2))
    assert wall.gauges() == GONE
    assert wall.counts() == {"success": 1}


def test_new_numbering_shows_no_finished_run_and_keeps_the_streak():
    wall = hides()
    fresh = Run(id="fresh", number=1, status=Status.RUNNING, start=wall.now + 5)
    wall.sees(fresh)
    wall.sees(fresh)
    view = wall.view()
    assert (view.latest, view.finished, view.active_starts) == (fresh, None, (fresh.start,))
    assert view.streak == Streak(0, None, NOON + 50)
    assert wall.counts() == {"missed": 2}
    wall.waits(60)
    assert (wall.asks(), wall.tracker.unresolved) == ({}, 0)


def test_hidden_runs_beyond_the_limit_are_not_looked_up():
    wall = hides(hidden=OPEN + 2)
    assert wall.tracker.unresolved == OPEN
    assert wall.counts() == {"missed": 2}
    active = wall.view().active_starts
    assert active is not None
    assert min(start for start in active if start is not None) == NOON + 4


# Numbers that were jumped over


def test_missing_numbers_are_listed_and_counted():
    wall = Wall(run(1), run(4))
    assert (wall.asks(), wall.tracker.unresolved) == ({"p": DueLookups(listing=True)}, 2)
    assert wall.counts() == {"success": 1}
    assert [(gap.first, gap.last) for gap in wall.tracker["p"].accounting.search().gaps] == [(2, 3)]
    assert wall.reads(run(4), run(3, Status.FAILED), run(2), run(1), reach=Reach.PARTIAL) == []
    assert (wall.asks(), wall.tracker.unresolved) == ({}, 0)
    assert wall.counts() == {"success": 2, "failed": 1}
    assert wall.view().streak == Streak(0, None, NOON + 50)


def test_listed_runs_are_observed_in_either_scope():
    wall = Wall(run(1), run(3), stage_histogram="project")
    wall.reads(run(2, stages=[Stage("build", 0, Status.SUCCESS, NOON, 20.0)]))
    project = wall.tracker.project_view()
    assert project is not None
    assert observations(wall.view().durations) == ({"success": 2}, {})
    assert observations(project.durations) == ({}, {"build": 1})


def test_numbers_beyond_the_limit_are_missed_and_reported():
    wall = Wall(run(1), run(4))
    assert wall.reads(run(4), reach=Reach.LIMIT) == [
        MissedRuns(pipeline(), 2, "older than a week or than a thousand runs")
    ]
    assert wall.counts() == {"success": 1, "missed": 2}
    assert (wall.asks(), wall.tracker.unresolved) == ({}, 0)


def test_numbers_are_missed_after_a_day_of_failed_lists():
    """The day counts by answers: a pipeline that is down misses nothing meanwhile."""
    wall = Wall(run(1), run(4))
    for _ in range(4):
        assert wall.cannot_read() == []
        wall.waits(DAY)
    wall.sees(run(4))
    assert wall.cannot_read() == [MissedRuns(pipeline(), 2, "the run list could not be read for a day")]
    assert wall.counts() == {"success": 1, "missed": 2}
    wall.waits(DAY)
    assert wall.asks() == {}


def test_initial_scan_reads_the_list_once():
    wall = Wall(run(9, Status.RUNNING))
    assert wall.asks() == {"p": DueLookups(listing=True)}
    wall.reads(run(9, Status.RUNNING), run(8, Status.PAUSED), run(7))
    assert wall.asks() == {}
    assert wall.tracker.unresolved == 1
    assert wall.view().finished == run(7)
    wall.waits(60)
    wall.looks(run(8))
    assert wall.counts() == {"success": 1}


def test_list_does_not_change_up():
    wall = Wall(run(1), run(3))
    wall.fails()
    wall.reads(run(2, Status.FAILED))
    assert wall.view().up is False
    assert wall.counts() == {"success": 1, "failed": 1}
    wall.cannot_read()
    assert wall.view().up is False


def test_lookups_before_the_first_answer_are_ignored():
    wall = Wall()
    assert (wall.asks(), wall.tracker.unresolved) == ({}, 0)
    assert wall.reads(run(1)) == wall.cannot_read() == wall.finds("run-1", run(1)) == []
    wall.tracker["p"].postpone("run-1", wall.asked)
    assert wall.tracker["p"].accounting.search().size == 0
    assert (wall.tracker.views(), wall.tracker.unsaved()) == ((), {})


# Saved, then shown


def test_counters_are_shown_when_committed_and_gauges_at_once():
    """A crash must not take back a counter that was shown."""
    wall = Wall(run(1), run_histogram="pipeline", stage_histogram="project")
    before, project = wall.view(), wall.tracker.project_view()
    wall.sees(run(2, Status.FAILED, stages=[Stage("b", 0, Status.FAILED, NOON, 5.0)]), saved=False)
    view = wall.view()
    assert (view.latest, view.finished) == (
        run(2, Status.FAILED, stages=[Stage("b", 0, Status.FAILED, NOON, 5.0)]),
        run(2, Status.FAILED),
    )
    assert view.streak == Streak(1, NOON + 50, NOON + 50)
    assert (view.counters, view.durations) == (before.counters, before.durations)
    assert wall.tracker.project_view() is project
    wall.saves()
    view, project = wall.view(), wall.tracker.project_view()
    assert wall.counts() == {"failed": 1}
    assert project is not None
    assert (observations(view.durations), observations(project.durations)) == (
        ({"failed": 1}, {}),
        ({}, {"b": 1}),
    )


def test_first_answer_shows_counters_when_committed():
    wall = Wall()
    wall.sees(run(1, Status.FAILED), saved=False)
    view = wall.view()
    assert (view.latest, view.finished) == (run(1, Status.FAILED), run(1, Status.FAILED))
    assert (view.counters, view.durations, wall.tracker.project_view()) == (None, None, None)
    wall.saves()
    assert wall.counts() == {}
    assert wall.tracker.project_view() is not None


def test_lists_and_lookups_count_when_committed():
    wall = Wall(run(1), run(2, Status.RUNNING), run(4))
    wall.reads(run(3), reach=Reach.PARTIAL, saved=False)
    wall.tracker["p"].looked_up("run-2", run(2), clock=wall.asked, now=wall.now)
    assert wall.counts() == {"success": 1}
    assert wall.view().active_starts == ()
    wall.saves()
    assert wall.counts() == {"success": 3}


def test_answers_without_changes_need_no_save():
    wall = Wall(run(1), run(2, Status.RUNNING))
    for _ in range(3):
        wall.sees(run(2, Status.RUNNING), saved=False)
        wall.fails()
        wall.waits(MAX_AGE + 1)
    assert wall.tracker.unsaved() == {}
    assert wall.tracker.accounting.unsaved is None


@pytest.mark.parametrize(
    "change",
    [
        lambda wall: wall.sees(run(2), saved=False),
        lambda wall: wall.sees(run(1, Status.PAUSED), saved=False),
        lambda wall: wall.sees(run(1, Status.RUNNING, stages=[Stage("ask", 0, Status.PAUSED)]), saved=False),
        lambda wall: wall.watches(msgspec.structs.replace(pipeline(), name="new")),
    ],
    ids=["an end", "a state", "a stage that waits", "a name"],
)
def test_changes_that_a_restart_would_lose_are_unsaved(change):
    wall = Wall(run(1, Status.RUNNING))
    change(wall)
    assert set(wall.tracker.unsaved()) == {"p"}
    wall.saves()
    assert wall.tracker.unsaved() == {}


def test_unknown_name_is_saved_as_empty():
    wall = Wall()
    wall.watches(msgspec.structs.replace(pipeline(), name="p"))
    wall.sees(run(1))
    assert wall.safe["p"].name == ""
    wall.watches(pipeline())
    wall.saves()
    assert wall.safe["p"].name == "name of p"


def test_rolled_back_run_is_accounted_once_with_the_next_answer():
    wall = Wall(run(1), run_histogram="pipeline", stage_histogram="project")
    ended = run(2, Status.FAILED, stages=[Stage("b", 0, Status.FAILED, NOON, 5.0)])
    for _ in range(3):
        wall.sees(ended, saved=False)
        wall.cannot_save()
        assert wall.counts() == {}
        assert wall.view().finished == run(2, Status.FAILED)
    wall.sees(ended)
    wall.sees(ended)
    assert wall.counts() == {"failed": 1}
    project = wall.tracker.project_view()
    assert project is not None
    assert observations(wall.view().durations) == ({"failed": 1}, {})
    assert observations(project.durations) == ({}, {"b": 1})


def test_runs_that_ended_while_saves_failed_are_found_afterwards():
    wall = Wall(run(1), run(2, Status.RUNNING))
    for number in (2, 3, 4, 5):
        wall.sees(run(number), saved=False)
        wall.cannot_save()
        assert wall.asks() == {}
    wall.sees(run(5))
    assert wall.asks() == {"p": DueLookups(listing=True)}
    wall.reads(run(5), run(4), run(3), run(2), run(1), reach=Reach.PARTIAL)
    assert wall.counts() == {"success": 4}
    assert wall.tracker.unresolved == 0


def test_rolled_back_lookup_is_repeated():
    wall = hides()
    wall.waits(60)
    wall.tracker["p"].looked_up("run-2", run(2, start=NOON + 2), clock=wall.asked, now=wall.now)
    wall.cannot_save()
    assert wall.tracker.unresolved == 1
    wall.waits(60)
    wall.looks(run(2, start=NOON + 2))
    assert wall.counts() == {"success": 1}


def test_rolled_back_first_sight_is_repeated():
    wall = Wall()
    wall.sees(run(1, Status.RUNNING), saved=False)
    wall.cannot_save()
    assert wall.asks() == {}
    assert wall.view().active_starts == (NOON,)
    wall.sees(run(1))
    view = wall.view()
    assert view.counters is not None
    assert (view.counters.created, wall.counts()) == (wall.now, {})
    wall.sees(run(2))
    assert wall.counts() == {"success": 1}


# What is remembered


def test_restart_shows_saved_values_before_the_first_poll():
    wall = Wall(run(1), run(2, Status.FAILED), run(3, Status.RUNNING), stage_histogram="project")
    before, project = wall.view(), wall.tracker.project_view()
    assert before.durations is not None
    assert project is not None
    again = wall.restarts(later=60)
    view = again.view()
    assert view == View(
        pipeline=pipeline(),
        finished=run(2, Status.FAILED),
        streak=Streak(1, NOON + 50, NOON + 50),
        counters=before.counters,
        durations=before.durations,
    )
    assert again.tracker.project_view() == project
    assert again.tracker.active(again.now) == ()
    assert (again.tracker.unsaved(), again.tracker.accounting.unsaved) == ({}, None)


def test_restart_continues_counting():
    wall = Wall(run(1), run(2), run(3, Status.RUNNING)).restarts(later=HOUR)
    wall.sees(run(6))
    assert wall.counts() == {"success": 2}
    assert wall.tracker.unresolved == 3
    assert wall.asks() == {"p": DueLookups(listing=True)}
    wall.reads(*(run(number) for number in range(6, 0, -1)), reach=Reach.PARTIAL)
    assert wall.counts() == {"success": 5}


def test_restart_continues_open_lookups():
    gap = Wall(run(1), run(4)).restarts(later=HOUR)
    assert gap.asks() == {"p": DueLookups(listing=True)}
    gap.reads(run(3), run(2), reach=Reach.PARTIAL)
    assert gap.counts() == {"success": 3}
    hidden = hides().restarts(later=HOUR)
    assert (hidden.asks(), hidden.tracker.unresolved) == ({}, 1)
    hidden.waits(60)
    assert hidden.asks() == {"p": DueLookups(runs=("run-2",))}
    hidden.looks(run(2, start=NOON + 2))
    assert hidden.counts() == {"success": 1}
    assert hidden.view().active_starts is None


def test_new_numbering_is_recognized_across_a_restart():
    before = Wall(run(1), run(2))
    for start, counted in ((before.now + 5, {"success": 1, "failed": 1}), (before.now - 5, {"success": 1})):
        wall = before.restarts(later=60)
        wall.sees(Run(id="fresh", number=1, status=Status.FAILED, start=start, end=before.now + 30))
        assert wall.counts() == counted
        assert wall.view().finished == wall.view().latest


def test_failed_first_poll_after_a_restart_keeps_saved_values():
    wall = Wall(run(1, Status.FAILED)).restarts()
    before = wall.view()
    wall.fails()
    assert wall.view() == msgspec.structs.replace(before, up=False)


def test_saved_values_expire():
    wall = Wall(run(1), run(2, Status.FAILED)).restarts(later=DAY)
    before = wall.view()
    assert not wall.waits(MAX_AGE)
    assert wall.waits(1)
    assert not wall.waits(1)
    view = wall.view()
    assert (view.finished, view.streak) == (None, None)
    assert (view.counters, view.durations) == (before.counters, before.durations)
    wall.sees(run(2, Status.FAILED))
    assert wall.view().finished == run(2, Status.FAILED)
    assert wall.counts() == {"failed": 1}


def test_status_change_survives_a_restart():
    wall = Wall(run(1, Status.PAUSED))
    first = wall.now
    again = wall.restarts(later=HOUR)
    again.sees(run(1, Status.PAUSED))
    assert again.view().status_change == first
    assert again.tracker.active(again.now) == ()
    again = again.restarts(later=HOUR)
    again.sees(run(1, Status.RUNNING))
    assert again.view().status_change == again.now
    other = wall.restarts(later=HOUR)
    other.sees(run(2, Status.PAUSED))
    assert other.view().status_change == other.now


def test_waiting_stage_keeps_its_time_across_a_restart():
    wall = Wall(run(1, Status.PAUSED, stages=[Stage("a", 0, Status.PAUSED), Stage("b", 1, Status.PAUSED)]))
    first = wall.now
    again = wall.restarts(later=HOUR)
    again.sees(run(1, Status.PAUSED, stages=[Stage("a", 0, Status.PAUSED), Stage("b", 1, Status.WAITING)]))
    assert again.view().stage_changes == (("a", 0, first), ("b", 1, again.now))
    other = wall.restarts(later=HOUR)
    other.sees(run(2, Status.PAUSED, stages=[Stage("a", 0, Status.PAUSED)]))
    assert other.view().stage_changes == (("a", 0, other.now),)


def test_absences_start_at_zero_after_a_restart():
    wall = Wall(run(1), run(2, Status.FAILED)).restarts()
    before = wall.view()
    for _ in range(ABSENCES - 1):
        wall.sees(None)
        view = wall.view()
        assert (view.up, view.has_run, view.latest) == (True, False, None)
        assert (view.finished, view.streak) == (before.finished, before.streak)
    wall.sees(None)
    assert wall.gauges() == GONE
    assert wall.counts() == {"failed": 1}
    wall.sees(run(2, Status.FAILED))
    assert wall.view().finished == run(2, Status.FAILED)
    assert wall.counts() == {"failed": 1}


def test_pipeline_without_a_run_is_saved_as_such():
    """Every later run of it counts, also across a restart."""
    wall = Wall(None).restarts(later=HOUR)
    view = wall.view()
    assert (view.finished, view.streak) == (None, Streak())
    for _ in range(ABSENCES + 1):
        wall.sees(None)
    assert wall.view().streak == Streak()
    wall.sees(run(2))
    assert wall.counts() == {"success": 1}
    assert wall.tracker.unresolved == 1


def test_project_histograms_continue_after_a_restart():
    wall = seen_to_end(run_histogram="project")
    before = wall.tracker.project_view()
    assert before is not None
    again = wall.restarts(later=HOUR)
    again.watches()
    assert again.tracker.project_view() == before
    again.watches(pipeline())
    again.sees(run(4))
    project = again.tracker.project_view()
    assert project is not None
    assert observations(project.durations)[0] == {"success": 3, "failed": 1}
    assert project.durations.runs_created == before.durations.runs_created


def test_details_are_queried_again_after_a_restart():
    wall = Wall(staged(), details="jobs")
    wall.learns(detailed(staged()))
    again = wall.restarts()
    assert again.missing_numbers() == []
    again.sees(staged())
    assert (again.missing_numbers(), jobs_of(again)) == (["run-1"], [])


def test_rolled_back_run_of_a_new_numbering_counts_later():
    wall = Wall(run(1), run(2))
    fresh = Run(id="fresh", number=1, status=Status.FAILED, start=wall.now + 5, end=wall.now + 9)
    wall.sees(fresh, saved=False)
    wall.cannot_save()
    wall.sees(fresh)
    assert wall.counts() == {"success": 1, "failed": 1}


def test_gap_is_not_listed_at_each_poll_while_saves_fail():
    """Each list costs a request, and its result is lost."""
    wall = Wall(run(1), run(4))
    asked = 0
    for _ in range(40):
        if wall.asks():
            asked += 1
            wall.reads(run(4), run(3), run(2), saved=False)
            wall.cannot_save()
        wall.waits(15)
    assert 1 < asked < 10


def test_postponed_lookups_are_due_with_the_first_save_that_works():
    wall = Wall(run(1), run(4))
    for _ in range(200):
        if wall.asks():
            wall.reads(run(4), run(3), run(2), saved=False)
            wall.cannot_save()
        wall.waits(15)
    wall.waits(-15)
    assert wall.asks() == {}
    wall.sees(run(5), saved=False)
    wall.cannot_save()
    assert wall.asks() == {}
    wall.sees(run(5))
    assert wall.asks() == {"p": DueLookups(listing=True)}


def test_missed_runs_are_reported_once_when_committed():
    wall = Wall(run(1), run(4))
    for _ in range(3):
        wall.reads(run(4), reach=Reach.LIMIT, saved=False)
        wall.cannot_save()
    assert [(one.runs, one.why) for one in wall.reads(run(4), reach=Reach.LIMIT)] == [
        (2, "older than a week or than a thousand runs")
    ]


def test_listed_runs_are_not_counted_again_in_a_new_numbering():
    wall = Wall(run(3), run(6))
    late = msgspec.structs.replace(run(1, Status.RUNNING, start=wall.now + 10), id="late")
    newer = [run(number, start=wall.now + number - 6, end=wall.now + 9) for number in range(7, 10)]
    wall.now += 30
    wall.sees(late)
    wall.reads(*newer, run(6), run(5), run(4))
    assert wall.counts() == {"success": 6}
    wall.sees(late)
    tenth = run(10, start=wall.now + 1, end=wall.now + 2)
    wall.sees(tenth)
    wall.reads(tenth, *newer, run(6), run(5), run(4))
    assert wall.counts() == {"success": 7}


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
    same, equal = Wall(), Wall()
    for what, *arguments in happened:
        if what == "sees":
            place, ago = arguments
            answer = None if place is None else ANSWERS[place]
            copy = None if answer is None else msgspec.structs.replace(answer)
            same.sees(answer, asked_ago=ago, saved=False)
            equal.sees(copy, asked_ago=ago, saved=False)
            same.saves()
            equal.saves()
        else:
            getattr(same, what)(*arguments)
            getattr(equal, what)(*arguments)
        assert same.tracker.views() == equal.tracker.views()
        assert same.tracker["p"].to_save() == equal.tracker["p"].to_save()
        assert same.tracker.due(same.asked) == equal.tracker.due(equal.asked)
