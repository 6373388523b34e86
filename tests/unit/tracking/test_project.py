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


def test_before_the_first_poll_has_ended_nothing_is_shown():
    """Absent is not zero."""
    wall = Wall()
    assert wall.tracker.views() == ()
    assert wall.tracker.project_view() is None


def test_a_first_poll_that_fails_shows_a_pipeline_that_is_down():
    """And nothing that nobody knows."""
    wall = Wall()
    wall.fails()
    assert wall.view() == View(pipeline=pipeline(), up=False)


def test_an_answer_shows_the_run():
    """And all that follows from it."""
    wall = Wall(run(1, Status.FAILED))
    view = wall.view()
    assert (view.up, view.has_run) == (True, True)
    assert view.latest == run(1, Status.FAILED)
    assert view.finished == run(1, Status.FAILED)
    assert view.streak == Streak(1, NOON + 50, None)
    assert view.active_starts == ()
    assert view.counters is not None
    assert view.counters.created == wall.now


def test_a_run_under_way_is_active_and_the_finished_one_stays():
    """A red pipeline stays red while its next run is under way."""
    wall = Wall(run(1, Status.FAILED), run(2, Status.RUNNING, start=NOON + 100))
    view = wall.view()
    assert view.latest is not None
    assert view.latest.id == "run-2"
    assert view.finished == run(1, Status.FAILED)
    assert view.active_starts == (NOON + 100,)


def test_an_active_run_whose_start_is_not_known_is_still_one():
    """It counts as active, without a time."""
    assert Wall(run(1, Status.PENDING, start=None)).view().active_starts == (None,)


def test_an_answer_without_a_run_shows_a_pipeline_that_has_none():
    """Its counters begin all the same."""
    view = Wall(None).view()
    assert (view.up, view.has_run, view.latest, view.finished) == (True, False, None, None)
    assert view.active_starts == ()
    assert view.counters is not None


def test_an_older_answer_changes_nothing():
    """Answers may overtake each other."""
    wall = Wall(run(1), run(2, Status.FAILED))
    before = wall.view()
    wall.sees(run(2, Status.RUNNING), asked_ago=60)
    wall.sees(None, asked_ago=60)
    assert wall.view() is before


def test_an_answer_that_is_not_believed_shows_nothing():
    """A stale answer tells of the run before: the one under way stays shown, and is asked about as before."""
    wall = Wall(run(8), run(9, Status.RUNNING))
    shown = wall.view()
    wall.sees(run(8))
    assert wall.view() is shown
    assert wall.tracker.active(wall.now) == ("p",)
    wall.sees(run(8))
    assert wall.view().latest == run(8)


def test_a_view_stays_the_same_object_until_something_visible_changes():
    """So that whoever renders it can keep what it rendered."""
    wall = Wall(run(1))
    before = wall.view()
    wall.sees(run(1))
    assert wall.view() is before
    wall.fails()
    assert wall.view() is not before


def test_one_pipeline_says_nothing_of_another():
    """Each stands for itself, in the order of the configuration."""
    wall = Wall(ids=("b", "a", "c"))
    wall.sees(run(1), "a")
    wall.fails("b")
    assert wall.tracker.ids == ("b", "a", "c")
    assert [(view.pipeline.id, view.up) for view in wall.tracker.views()] == [("b", False), ("a", True)]


# Failures and age


def test_a_failed_poll_keeps_the_last_known_values():
    """Only `up` tells it."""
    wall = Wall(run(1, Status.FAILED))
    before = wall.view()
    wall.fails()
    assert wall.view() == msgspec.structs.replace(before, up=False)
    wall.sees(run(1, Status.FAILED))
    assert wall.view() == before


def test_after_max_age_the_gauges_go_and_the_counters_stay():
    """Old data is not served without its age; a counter is never taken back."""
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


def test_what_was_withdrawn_is_withdrawn_once():
    """A page need not be rendered again for it."""
    wall = Wall(run(1))
    wall.waits(MAX_AGE + 1)
    before = wall.view()
    assert not wall.waits(60)
    wall.fails()
    wall.fails()
    assert wall.gauges() == GONE
    assert wall.view() == msgspec.structs.replace(before, up=False)


def test_age_is_counted_from_the_last_answer():
    """Failures between do not make it younger."""
    wall = Wall(run(1))
    wall.waits(MAX_AGE - 10)
    wall.fails()
    assert wall.waits(11)


def test_what_was_never_answered_cannot_grow_old():
    """There is nothing to withdraw."""
    wall = Wall()
    wall.fails()
    before = wall.view()
    assert not wall.waits(10 * MAX_AGE)
    assert wall.view() is before


def test_values_come_back_with_the_next_answer():
    """As if nothing had been: the same run is counted once, its times are kept."""
    wall = Wall(run(1), run(2, Status.RUNNING))
    before = wall.view()
    wall.fails()
    wall.waits(MAX_AGE + 1)
    wall.sees(run(2, Status.RUNNING))
    assert wall.view() == before


def test_the_others_stay_when_one_grows_old():
    """Age is each pipeline's own."""
    wall = Wall(ids=("p", "q"))
    wall.sees(run(1))
    wall.waits(MAX_AGE)
    wall.sees(run(1), "q")
    assert wall.waits(1)
    assert wall.gauges() == GONE
    assert wall.view("q").latest == run(1)


# Absence


def test_a_pipeline_that_is_not_in_an_answer_has_no_run_at_once_and_keeps_its_gauges_twice():
    """It may be back; after the third answer in a row it is believed to be gone."""
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


def test_absences_count_in_a_row():
    """One answer with the run begins them anew, and brings everything back."""
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


def test_failed_polls_are_no_absences():
    """They say nothing of the pipeline."""
    wall = Wall(run(1))
    for _ in range(5):
        wall.fails()
    wall.sees(None)
    assert wall.view().latest == run(1)


def test_a_pipeline_that_never_had_a_run_is_never_gone():
    """It has no run, however often that is said."""
    wall = Wall(None)
    before = wall.view()
    for _ in range(5):
        wall.sees(None)
    assert wall.view() is before


# Since when


def test_a_final_status_is_since_the_runs_end():
    """However late it is seen."""
    assert Wall(run(1, end=NOON + 77)).view().status_change == NOON + 77


def test_a_final_status_without_an_end_is_since_its_first_sight():
    """And stays so, until the end is told."""
    endless = Run(id="run-1", number=1, status=Status.FAILED, start=NOON)
    wall = Wall(endless)
    first = wall.now
    wall.sees(endless)
    assert wall.view().status_change == first
    wall.sees(run(1, Status.FAILED))
    assert wall.view().status_change == NOON + 50


def test_a_status_under_way_is_since_its_first_sight():
    """It is kept across polls, failures and withdrawal."""
    wall = Wall(run(1, Status.PAUSED))
    first = wall.now
    wall.sees(run(1, Status.PAUSED))
    wall.fails()
    wall.waits(MAX_AGE + 1)
    wall.sees(run(1, Status.PAUSED))
    assert wall.view().status_change == first


def test_a_start_after_the_first_sight_is_the_later_of_the_two():
    """Clocks of a cloud differ; nothing is in a state before it started."""
    wall = Wall()
    wall.sees(run(1, Status.RUNNING, start=wall.now + 100))
    assert wall.view().status_change == wall.now - 15 + 100


def test_a_new_status_or_a_new_run_is_a_change():
    """The time is of both together."""
    wall = Wall(run(1, Status.RUNNING))
    wall.sees(run(1, Status.PAUSED))
    assert wall.view().status_change == wall.now
    wall.sees(run(1, Status.RUNNING))
    assert wall.view().status_change == wall.now
    wall.sees(run(2, Status.RUNNING))
    assert wall.view().status_change == wall.now


def test_a_retry_is_a_change():
    """From the end of the run to the sight of its going on."""
    wall = Wall(run(1, Status.FAILED), run(1, Status.RUNNING))
    assert wall.view().status_change == wall.now
    wall.sees(run(1, Status.SUCCESS, end=wall.now - 3))
    assert wall.view().status_change == wall.now - 18


@pytest.mark.parametrize("status", HELD)
def test_a_held_stage_is_since_its_first_sight(status):
    """It is kept while the stage is in that state, whatever the run says."""
    wall = Wall(run(1, Status.RUNNING, stages=[Stage("approve", 3, status, NOON)]))
    first = wall.now
    assert wall.view().stage_changes == (("approve", 3, first),)
    wall.sees(run(1, Status.PAUSED, stages=[Stage("approve", 3, status, NOON)]))
    assert wall.view().stage_changes == (("approve", 3, first),)


def test_a_held_stage_that_starts_later_is_since_its_start():
    """The later of the two."""
    wall = Wall()
    start = wall.now + 500
    wall.sees(run(1, Status.RUNNING, stages=[Stage("approve", 0, Status.WAITING, start)]))
    assert wall.view().stage_changes == (("approve", 0, start),)


def test_a_stage_that_goes_on_is_held_no_longer():
    """And when it is held again, that is a new time."""
    held, on = (run(1, Status.RUNNING, stages=[Stage("a", 0, s)]) for s in (Status.PAUSED, Status.RUNNING))
    wall = Wall(held, on)
    assert wall.view().stage_changes == ()
    wall.sees(held)
    assert wall.view().stage_changes == (("a", 0, wall.now),)


def test_another_held_state_or_another_run_is_a_new_time():
    """Of stages of one name, each has its own."""
    wall = Wall(run(1, Status.PAUSED, stages=[Stage("a", 0, Status.PAUSED), Stage("a", 1, Status.PAUSED)]))
    first = wall.now
    wall.sees(run(1, Status.PAUSED, stages=[Stage("a", 0, Status.SUSPENDED), Stage("a", 1, Status.PAUSED)]))
    assert wall.view().stage_changes == (("a", 0, wall.now), ("a", 1, first))
    wall.sees(run(2, Status.PAUSED, stages=[Stage("a", 0, Status.SUSPENDED), Stage("a", 1, Status.PAUSED)]))
    assert wall.view().stage_changes == (("a", 0, wall.now), ("a", 1, wall.now))


# Asked more often


@pytest.mark.parametrize("status", [Status.RUNNING, Status.PENDING])
def test_a_run_that_moves_is_active_for_as_long_as_it_takes(status):
    """Its end is worth learning soon."""
    wall = Wall(run(1, status))
    assert wall.tracker.active(wall.now) == ("p",)
    assert wall.tracker.active(wall.now + 100 * HELD_ACTIVE) == ("p",)


@pytest.mark.parametrize("status", HELD)
def test_a_run_that_waits_for_somebody_is_active_for_an_hour(status):
    """Then it is asked about like the others: it may wait for days."""
    wall = Wall(run(1, status))
    assert wall.tracker.active(wall.now + HELD_ACTIVE - 1) == ("p",)
    assert wall.tracker.active(wall.now + HELD_ACTIVE) == ()
    wall.waits(HELD_ACTIVE)
    wall.sees(run(1, Status.RUNNING))
    wall.sees(run(1, status))
    assert wall.tracker.active(wall.now) == ("p",)


def test_a_finished_run_is_not_active():
    """Nor is a pipeline without one, or one never answered."""
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
def test_histograms_are_kept_where_the_configuration_says(runs, stages):
    """Per pipeline, per project or not at all, each kind for itself; a retry is observed nowhere."""
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


def test_a_projects_histograms_survive_its_pipelines():
    """They never decrease: not when gauges are withdrawn, nor when a pipeline is gone."""
    wall = seen_to_end(run_histogram="project")
    before = wall.tracker.project_view()
    wall.fails("p")
    wall.waits(MAX_AGE + 1)
    for _ in range(ABSENCES):
        wall.sees(None, "q")
    assert wall.tracker.project_view() == before


def test_a_projects_view_stays_the_same_object_until_a_run_ends():
    """Most polls count nothing, and need not render it again."""
    wall = seen_to_end()
    before = wall.tracker.project_view()
    wall.sees(run(3))
    wall.sees(run(4, Status.RUNNING))
    assert wall.tracker.project_view() is before
    wall.sees(run(4))
    assert wall.tracker.project_view() is not before


def test_a_projects_histograms_begin_with_its_first_answer():
    """A failure is no beginning."""
    wall = Wall()
    wall.fails()
    assert wall.tracker.project_view() is None
    wall.sees(None)
    project = wall.tracker.project_view()
    assert project is not None
    assert (project.provider, project.project) == ("codearts", "payments")
    assert project.durations.runs_created == wall.now


def test_stage_names_have_a_bound_in_each_scope():
    """A hundred names a pipeline, two hundred a project; the others are one."""
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


def test_a_pipeline_that_joins_is_shown_from_its_first_poll_on():
    """Its counters begin then; those that were there keep theirs."""
    wall = Wall(run(1), run(2))
    before = wall.view()
    wall.watches(pipeline("q"), pipeline("p"))
    assert wall.tracker.ids == ("q", "p")
    assert wall.tracker.views() == (before,)
    wall.sees(run(1), "q")
    assert [view.pipeline.id for view in wall.tracker.views()] == ["q", "p"]
    assert wall.view() is before
    assert wall.view("q").counters != before.counters


def test_a_pipeline_that_leaves_is_shown_no_longer():
    """Nor asked about; what still arrives about it changes nothing."""
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


def test_a_pipeline_that_is_back_goes_on_where_it_was_left():
    """With its counters, its failures in a row and its hidden runs; what came meanwhile is looked for."""
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


def test_a_pipeline_that_leaves_before_it_was_answered_leaves_nothing():
    """There is nothing to remember."""
    wall = Wall()
    wall.fails()
    wall.watches()
    assert wall.retired.retired == {}


def test_a_project_keeps_the_histograms_of_pipelines_that_left():
    """They never decrease."""
    wall = seen_to_end(run_histogram="project")
    before = wall.tracker.project_view()
    wall.watches(pipeline("p"))
    assert wall.tracker.project_view() is before


def test_a_renamed_pipeline_keeps_what_is_known_of_it():
    """Only what it is called, or labelled, is another."""
    wall = Wall(run(1), run(2, Status.RUNNING))
    before = wall.view()
    renamed = msgspec.structs.replace(pipeline(), name="new", labels=(("team", "pay"),), url="https://x")
    wall.watches(renamed)
    assert wall.view() == msgspec.structs.replace(before, pipeline=renamed)
    wall.sees(run(2))
    assert wall.view().pipeline == renamed
    assert wall.view().counters is not None


def test_a_pipeline_is_renamed_before_its_first_poll():
    """It is shown under its new name at once."""
    wall = Wall()
    renamed = msgspec.structs.replace(pipeline(), name="new")
    wall.watches(renamed)
    assert wall.tracker.views() == ()
    wall.fails()
    assert wall.view() == View(pipeline=renamed, up=False)


def test_an_update_that_changes_nothing_changes_no_view():
    """It need not be rendered again."""
    wall = Wall(run(1))
    before = wall.view()
    wall.watches(pipeline())
    assert wall.view() is before


def test_what_is_held_back_is_watched_and_not_shown():
    """Until it has a name; its counters began with its first answer all the same."""
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


def test_details_are_asked_for_only_if_they_are_shown():
    """They cost a request each."""
    assert Wall(staged()).missing_numbers() == []
    for details in ("jobs", "steps"):
        assert Wall(staged(), details=details).missing_numbers() == ["run-1"]


def test_a_pipeline_without_a_run_has_no_details():
    """Whether it never had one, was never answered, or is gone."""
    wall = Wall(ids=("p", "q", "r"), details="jobs")
    wall.sees(None)
    wall.fails("q")
    wall.sees(run(1), "r")
    for _ in range(ABSENCES):
        wall.sees(None, "r")
    assert wall.missing_numbers() == []


def test_a_run_without_an_id_has_no_details():
    """There is nothing to ask by."""
    wall = Wall(Run(id="#7", number=7, status=Status.SUCCESS), details="jobs")
    assert wall.missing_numbers() == []


def test_details_are_asked_for_once_for_each_run_and_each_change_of_it():
    """Never for one that idles, however often it is polled."""
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


def test_an_answer_that_is_not_believed_wants_no_details():
    """What it shows is not the latest run."""
    wall = Wall(staged(8), staged(9, Status.RUNNING), details="jobs")
    wall.learns(detailed(staged(9, Status.RUNNING)))
    wall.sees(staged(8))
    assert wall.missing_numbers() == []


def test_details_that_failed_are_asked_for_at_growing_intervals():
    """Once after the interval, twice that, up to a quarter of an hour; at once when the run has changed."""
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


def test_who_has_waited_longest_for_details_comes_first():
    """Pipelines that change at every poll do not starve the others."""
    wall = Wall(ids=("p", "q", "r"), details="jobs")
    for identity in ("p", "q", "r"):
        wall.sees(staged(1, Status.RUNNING), identity)
    assert [identity for identity, _ in wall.tracker.wanted_details(wall.asked)] == ["p", "q", "r"]
    wall.tracker.detailed("p", staged(1, Status.RUNNING), None)
    wall.sees(staged(1), "p")
    assert [identity for identity, _ in wall.tracker.wanted_details(wall.asked)] == ["q", "r", "p"]


def test_details_that_cannot_be_had_are_not_asked_for_again():
    """Until the run has changed."""
    wall = Wall(staged(1, Status.RUNNING), details="jobs")
    wall.learns(None)
    wall.sees(staged(1, Status.RUNNING))
    assert (wall.missing_numbers(), jobs_of(wall)) == ([], [])
    wall.sees(staged(1))
    assert wall.missing_numbers() == ["run-1"]


def test_details_bring_the_jobs_and_the_run_keeps_its_states():
    """Of stages the answer that changed tells, of jobs the details."""
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
def test_details_know_the_times_of_stages_better(status, told, shown):
    """What they do not tell stays as it was; a stage that is under way has no duration, whatever they tell."""
    wall = Wall(staged(1, status), details="jobs")
    wall.learns(detailed(staged(1, status), start=told[0], duration=told[1]))
    (stage,) = wall.view().latest.stages  # type: ignore[union-attr]
    assert (stage.start, stage.duration) == shown


def test_details_belong_to_the_stage_of_their_name_and_sequence():
    """Others are left as they are, and a stage that only the details have is not added."""
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


def test_a_run_without_stages_has_those_of_its_details():
    """A batch may answer without them."""
    wall = Wall(run(1), details="jobs")
    wall.learns(detailed(run(1)))
    assert jobs_of(wall) == [("compile", "success")]


def test_details_of_another_run_are_ignored():
    """They were not asked for; and they are not asked for again."""
    wall = Wall(staged(2), details="jobs")
    before = wall.view()
    wall.learns(detailed(staged(1)))
    assert wall.view() is before
    assert wall.missing_numbers() == []


def test_the_jobs_of_a_run_that_is_no_longer_the_latest_disappear():
    """At once: they are the latest run's."""
    wall = Wall(staged(1), details="jobs")
    wall.learns(detailed(staged(1)))
    wall.sees(staged(2, Status.RUNNING))
    assert jobs_of(wall) == []
    wall.learns(detailed(staged(2, Status.RUNNING), Status.RUNNING))
    assert jobs_of(wall) == [("compile", "running")]


def test_jobs_stay_until_the_details_of_a_change_arrive():
    """It is a moment; and they are asked for at once."""
    wall = Wall(staged(1, Status.RUNNING), details="jobs")
    wall.learns(detailed(staged(1, Status.RUNNING), Status.RUNNING))
    wall.sees(staged(1))
    assert (jobs_of(wall), wall.missing_numbers()) == ([("compile", "running")], ["run-1"])
    wall.learns(detailed(staged(1)))
    assert jobs_of(wall) == [("compile", "success")]


@pytest.mark.parametrize("how", ["refused", "another run", "failed"])
def test_jobs_go_if_the_details_of_a_change_cannot_be_had(how):
    """A job of a run that ended is not shown as running for ever."""
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


def test_a_run_that_changed_while_its_details_were_asked_for_wants_them_again():
    """They are of the run as it was."""
    wall = Wall(staged(1, Status.RUNNING), details="jobs")
    before = staged(1, Status.RUNNING)
    wall.sees(staged(1))
    wall.tracker.detailed("p", before, detailed(before, Status.RUNNING))
    assert wall.missing_numbers() == ["run-1"]


def test_jobs_are_withdrawn_and_come_back_with_their_run():
    """Without being asked for again."""
    wall = Wall(staged(1), details="jobs")
    wall.learns(detailed(staged(1)))
    before = wall.view()
    wall.fails()
    wall.waits(MAX_AGE + 1)
    assert wall.view().latest is None
    wall.sees(staged(1))
    assert wall.view() == before
    assert wall.missing_numbers() == []


def test_details_of_a_pipeline_that_is_down_show_no_answer():
    """Whether it is up is what its last poll says."""
    wall = Wall(staged(1), details="jobs")
    wall.fails()
    wall.learns(detailed(staged(1)))
    assert wall.view().up is False
    assert jobs_of(wall) == [("compile", "success")]


def test_details_count_nothing():
    """Histograms are of what polls saw end."""
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


def test_hidden_runs_are_active_until_they_are_learnt():
    """The oldest start is theirs."""
    wall = hides(hidden=2)
    assert wall.view().active_starts == (NOON + 2, NOON + 3, NOON + 4)
    assert wall.tracker.unresolved == 2
    wall.waits(60)
    wall.finds("run-2", run(2, start=NOON + 2))
    wall.finds("run-3", None)
    assert wall.view().active_starts == (NOON + 4,)
    assert wall.tracker.unresolved == 0


def test_a_hidden_run_alone_does_not_make_its_pipeline_asked_more_often():
    """It would not be in the answer."""
    wall = hides()
    wall.sees(run(3, start=NOON + 3))
    assert wall.tracker.active(wall.now) == ()
    assert wall.view().active_starts == (NOON + 2,)


def test_a_hidden_run_is_looked_up_until_it_is_learnt():
    """After an interval, whatever polls come in between; when the rest is due, its own tests tell."""
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


def test_a_look_that_failed_is_put_off_like_one_that_taught_nothing():
    """And counts nothing."""
    wall = hides()
    before = wall.view()
    wall.waits(60)
    wall.tracker["p"].postpone("run-2", wall.asked)
    wall.waits(119)
    assert wall.due() == ()
    wall.waits(1)
    assert wall.due() == (("p", "run-2"),)
    assert wall.view() is before


def test_a_hidden_run_that_is_the_latest_again_is_not_looked_up():
    """It is in the answers."""
    wall = hides()
    for _ in range(2):
        wall.sees(run(2, Status.RUNNING, start=NOON + 2))
    assert wall.view().latest == run(2, Status.RUNNING, start=NOON + 2)
    wall.waits(60)
    assert wall.due() == (("p", "run-3"),)


@pytest.mark.parametrize("scope", ["pipeline", "project"])
def test_a_hidden_run_is_counted_once_when_it_is_learnt(scope):
    """In the counters, and in the histograms of either scope."""
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


def test_a_hidden_run_that_is_gone_is_missed_once():
    """Its end cannot be learnt; no histogram has it, and somebody is told why."""
    wall = hides()
    wall.waits(60)
    assert wall.looks(None) == [MissedRuns(pipeline(), 1, "the provider no longer knows it")]
    assert wall.finds("run-2", None) == []
    assert wall.counts() == {"missed": 1}
    assert observations(wall.view().durations) == ({}, {})


def test_a_look_that_finds_another_run_counts_nothing():
    """And is put off."""
    wall = hides()
    before = wall.view()
    wall.waits(60)
    wall.looks(run(9, Status.FAILED))
    assert wall.view() is before
    assert (wall.due(), wall.tracker.unresolved) == ((), 1)


def test_a_look_at_a_pipeline_that_is_down_shows_no_answer():
    """What it teaches is shown; whether it is up is what its last poll says."""
    wall = hides()
    wall.fails()
    wall.waits(60)
    wall.looks(run(2, Status.FAILED, start=NOON + 2))
    assert wall.view().up is False
    assert wall.view().streak == Streak(1, NOON + 52, NOON + 50)


def test_hidden_runs_are_withdrawn_with_the_others_and_looked_up_all_the_same():
    """Counters do not grow old."""
    wall = hides()
    wall.fails()
    wall.waits(MAX_AGE + 1)
    assert wall.gauges() == GONE
    wall.looks(run(2, start=NOON + 2))
    assert wall.gauges() == GONE
    assert wall.counts() == {"success": 1}


def test_a_new_numbering_shows_no_finished_run_and_hides_none():
    """Until a run of it ends; failures in a row go on."""
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


def test_hidden_runs_have_a_bound_on_the_board_too():
    """What is given up is looked for no longer."""
    wall = hides(hidden=OPEN + 2)
    assert wall.tracker.unresolved == OPEN
    assert wall.counts() == {"missed": 2}
    active = wall.view().active_starts
    assert active is not None
    assert min(start for start in active if start is not None) == NOON + 4


# Numbers that were jumped over


def test_numbers_that_were_jumped_over_are_asked_for_and_counted_when_the_list_tells_them():
    """They are unresolved until then, not missed."""
    wall = Wall(run(1), run(4))
    assert (wall.asks(), wall.tracker.unresolved) == ({"p": DueLookups(listing=True)}, 2)
    assert wall.counts() == {"success": 1}
    assert [(gap.first, gap.last) for gap in wall.tracker["p"].accounting.search().gaps] == [(2, 3)]
    assert wall.reads(run(4), run(3, Status.FAILED), run(2), run(1), reach=Reach.PARTIAL) == []
    assert (wall.asks(), wall.tracker.unresolved) == ({}, 0)
    assert wall.counts() == {"success": 2, "failed": 1}
    assert wall.view().streak == Streak(0, None, NOON + 50)


def test_what_the_run_list_tells_is_observed_in_either_scope():
    """As what polls see."""
    wall = Wall(run(1), run(3), stage_histogram="project")
    wall.reads(run(2, stages=[Stage("build", 0, Status.SUCCESS, NOON, 20.0)]))
    project = wall.tracker.project_view()
    assert project is not None
    assert observations(wall.view().durations) == ({"success": 2}, {})
    assert observations(project.durations) == ({}, {"build": 1})


def test_numbers_that_cannot_be_had_are_missed_and_told():
    """Here since they are older than a week."""
    wall = Wall(run(1), run(4))
    assert wall.reads(run(4), reach=Reach.LIMIT) == [
        MissedRuns(pipeline(), 2, "older than a week or than a thousand runs")
    ]
    assert wall.counts() == {"success": 1, "missed": 2}
    assert (wall.asks(), wall.tracker.unresolved) == ({}, 0)


def test_numbers_are_missed_if_the_list_fails_for_a_day():
    """A day of answers: a pipeline that is down as a whole misses nothing meanwhile."""
    wall = Wall(run(1), run(4))
    for _ in range(4):
        assert wall.cannot_read() == []
        wall.waits(DAY)
    wall.sees(run(4))
    assert wall.cannot_read() == [MissedRuns(pipeline(), 2, "the run list could not be read for a day")]
    assert wall.counts() == {"success": 1, "missed": 2}
    wall.waits(DAY)
    assert wall.asks() == {}


def test_what_else_was_under_way_at_first_sight_is_asked_for():
    """Once: the list tells it."""
    wall = Wall(run(9, Status.RUNNING))
    assert wall.asks() == {"p": DueLookups(listing=True)}
    wall.reads(run(9, Status.RUNNING), run(8, Status.PAUSED), run(7))
    assert wall.asks() == {}
    assert wall.tracker.unresolved == 1
    assert wall.view().finished == run(7)
    wall.waits(60)
    wall.looks(run(8))
    assert wall.counts() == {"success": 1}


def test_what_the_list_tells_of_a_pipeline_that_is_down_shows_no_answer():
    """It is shown; whether it is up is what its last poll says."""
    wall = Wall(run(1), run(3))
    wall.fails()
    wall.reads(run(2, Status.FAILED))
    assert wall.view().up is False
    assert wall.counts() == {"success": 1, "failed": 1}
    wall.cannot_read()
    assert wall.view().up is False


def test_before_the_first_answer_nothing_is_asked_for_and_nothing_is_taken():
    """There is nothing that is known to be unknown."""
    wall = Wall()
    assert (wall.asks(), wall.tracker.unresolved) == ({}, 0)
    assert wall.reads(run(1)) == wall.cannot_read() == wall.finds("run-1", run(1)) == []
    wall.tracker["p"].postpone("run-1", wall.asked)
    assert wall.tracker["p"].accounting.search().size == 0
    assert (wall.tracker.views(), wall.tracker.unsaved()) == ((), {})


# Saved, then shown


def test_counters_are_shown_when_they_are_safe_and_gauges_at_once():
    """What a crash would take back was never shown."""
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


def test_a_first_answer_shows_counters_when_it_is_safe():
    """The gauges before."""
    wall = Wall()
    wall.sees(run(1, Status.FAILED), saved=False)
    view = wall.view()
    assert (view.latest, view.finished) == (run(1, Status.FAILED), run(1, Status.FAILED))
    assert (view.counters, view.durations, wall.tracker.project_view()) == (None, None, None)
    wall.saves()
    assert wall.counts() == {}
    assert wall.tracker.project_view() is not None


def test_what_looks_teach_is_counted_when_it_is_safe():
    """From the run list, and of a single run."""
    wall = Wall(run(1), run(2, Status.RUNNING), run(4))
    wall.reads(run(3), reach=Reach.PARTIAL, saved=False)
    wall.tracker["p"].looked_up("run-2", run(2), clock=wall.asked, now=wall.now)
    assert wall.counts() == {"success": 1}
    assert wall.view().active_starts == ()
    wall.saves()
    assert wall.counts() == {"success": 3}


def test_what_changes_nothing_need_not_be_saved():
    """Nor what only a page shows."""
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
def test_what_a_restart_would_lose_is_to_be_saved(change):
    """What is counted, since when something is so, and what a pipeline is called."""
    wall = Wall(run(1, Status.RUNNING))
    change(wall)
    assert set(wall.tracker.unsaved()) == {"p"}
    wall.saves()
    assert wall.tracker.unsaved() == {}


def test_a_name_that_is_not_known_is_not_remembered_as_one():
    """A pipeline bears its id until it is."""
    wall = Wall()
    wall.watches(msgspec.structs.replace(pipeline(), name="p"))
    wall.sees(run(1))
    assert wall.safe["p"].name == ""
    wall.watches(pipeline())
    wall.saves()
    assert wall.safe["p"].name == "name of p"


def test_what_could_not_be_saved_is_accounted_again_with_the_next_answer():
    """Nothing twice, nothing lost, in the histograms neither."""
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


def test_runs_that_came_and_went_while_nothing_could_be_saved_are_learnt_afterwards():
    """One was under way when the last was safe, others are numbers that were jumped over."""
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


def test_looks_that_could_not_be_saved_are_taken_again():
    """What they found is not known, so it is asked for."""
    wall = hides()
    wall.waits(60)
    wall.tracker["p"].looked_up("run-2", run(2, start=NOON + 2), clock=wall.asked, now=wall.now)
    wall.cannot_save()
    assert wall.tracker.unresolved == 1
    wall.waits(60)
    wall.looks(run(2, start=NOON + 2))
    assert wall.counts() == {"success": 1}


def test_a_first_sight_that_could_not_be_saved_is_none():
    """It counts from the first that could; nothing is asked for until then."""
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


def test_a_restart_shows_what_stays_true_before_the_first_poll():
    """Counters, histograms, the latest finished run and the failures in a row; nobody knows whether it is up."""
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


def test_a_restart_counts_on():
    """An end that came meanwhile, what was jumped over, what is hidden: as if nothing had been."""
    wall = Wall(run(1), run(2), run(3, Status.RUNNING)).restarts(later=HOUR)
    wall.sees(run(6))
    assert wall.counts() == {"success": 2}
    assert wall.tracker.unresolved == 3
    assert wall.asks() == {"p": DueLookups(listing=True)}
    wall.reads(*(run(number) for number in range(6, 0, -1)), reach=Reach.PARTIAL)
    assert wall.counts() == {"success": 5}


def test_what_was_unknown_at_the_end_is_asked_for_after_a_restart():
    """Before the first poll: gaps at once, hidden runs after an interval."""
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


def test_a_new_numbering_is_told_from_an_old_run_also_across_a_restart():
    """What began after the last answer is counted, what began before lies outside."""
    before = Wall(run(1), run(2))
    for start, counted in ((before.now + 5, {"success": 1, "failed": 1}), (before.now - 5, {"success": 1})):
        wall = before.restarts(later=60)
        wall.sees(Run(id="fresh", number=1, status=Status.FAILED, start=start, end=before.now + 30))
        assert wall.counts() == counted
        assert wall.view().finished == wall.view().latest


def test_a_first_poll_that_fails_after_a_restart_shows_a_pipeline_that_is_down():
    """With what is remembered of it."""
    wall = Wall(run(1, Status.FAILED)).restarts()
    before = wall.view()
    wall.fails()
    assert wall.view() == msgspec.structs.replace(before, up=False)


def test_what_is_remembered_grows_old_too():
    """After max_age without an answer the gauges go; the counters stay, and the next answer brings all back."""
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


def test_a_status_is_since_its_first_sight_also_across_a_restart():
    """Of the same run in the same state; another is a change."""
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


def test_a_held_stage_is_since_its_first_sight_also_across_a_restart():
    """While its run and its state are the same."""
    wall = Wall(run(1, Status.PAUSED, stages=[Stage("a", 0, Status.PAUSED), Stage("b", 1, Status.PAUSED)]))
    first = wall.now
    again = wall.restarts(later=HOUR)
    again.sees(run(1, Status.PAUSED, stages=[Stage("a", 0, Status.PAUSED), Stage("b", 1, Status.WAITING)]))
    assert again.view().stage_changes == (("a", 0, first), ("b", 1, again.now))
    other = wall.restarts(later=HOUR)
    other.sees(run(2, Status.PAUSED, stages=[Stage("a", 0, Status.PAUSED)]))
    assert other.view().stage_changes == (("a", 0, other.now),)


def test_absences_are_counted_anew_after_a_restart():
    """After three answers without its run a pipeline is believed to be gone, with what was remembered of it."""
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


def test_a_pipeline_that_never_had_a_run_is_remembered_as_such():
    """Every run of it is known to come, also across a restart."""
    wall = Wall(None).restarts(later=HOUR)
    view = wall.view()
    assert (view.finished, view.streak) == (None, Streak())
    for _ in range(ABSENCES + 1):
        wall.sees(None)
    assert wall.view().streak == Streak()
    wall.sees(run(2))
    assert wall.counts() == {"success": 1}
    assert wall.tracker.unresolved == 1


def test_a_projects_histograms_go_on_after_a_restart():
    """Also if no pipeline of them is watched any more."""
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


def test_details_are_asked_for_anew_after_a_restart():
    """They are not remembered."""
    wall = Wall(staged(), details="jobs")
    wall.learns(detailed(staged()))
    again = wall.restarts()
    assert again.missing_numbers() == []
    again.sees(staged())
    assert (again.missing_numbers(), jobs_of(again)) == (["run-1"], [])


def test_a_run_of_a_new_numbering_that_could_not_be_saved_is_counted_when_it_can():
    """It began after the last answer that is safe."""
    wall = Wall(run(1), run(2))
    fresh = Run(id="fresh", number=1, status=Status.FAILED, start=wall.now + 5, end=wall.now + 9)
    wall.sees(fresh, saved=False)
    wall.cannot_save()
    wall.sees(fresh)
    assert wall.counts() == {"success": 1, "failed": 1}


def test_while_nothing_can_be_saved_a_gap_is_not_asked_for_at_each_poll():
    """What was learnt is lost each time, and costs a request."""
    wall = Wall(run(1), run(4))
    asked = 0
    for _ in range(40):
        if wall.asks():
            asked += 1
            wall.reads(run(4), run(3), run(2), saved=False)
            wall.cannot_save()
        wall.waits(15)
    assert 1 < asked < 10


def test_what_was_put_off_while_nothing_could_be_saved_is_due_with_the_first_save():
    """The pauses grew with each failure, to a quarter of an hour at most; they are not waited for."""
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


def test_what_was_missed_is_told_when_it_is_safe():
    """Once, however often it was tried to save it."""
    wall = Wall(run(1), run(4))
    for _ in range(3):
        wall.reads(run(4), reach=Reach.LIMIT, saved=False)
        wall.cannot_save()
    assert [(one.runs, one.why) for one in wall.reads(run(4), reach=Reach.LIMIT)] == [
        (2, "older than a week or than a thousand runs")
    ]


def test_what_a_list_told_is_not_counted_again_in_a_new_numbering():
    """Nor where answers about the latest run were in doubt when it was read."""
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
def test_the_same_answer_again_is_an_answer_like_any_other(happened):
    """Whether it is the same object, which is known to tell nothing new, or only an equal one."""
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
