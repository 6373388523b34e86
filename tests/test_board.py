"""What is known of every pipeline: what answers and failures show, keep and withdraw."""

from collections.abc import Iterable, Sequence
from typing import Any

import msgspec
import pytest

from exporter.board import ABSENCES, HELD_ACTIVE, Board, View
from exporter.config.schema import Metrics
from exporter.ledger import Series
from exporter.model import Pipeline, Run, Stage, Status
from exporter.tally import Durations

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
    """A board, and a clock that goes on by fifteen seconds with every answer."""

    def __init__(self, *answers: Run | None, ids: Sequence[str] = ("p",), **metrics: Any) -> None:
        self.ids = ids
        self.board = Board(
            [pipeline(identity) for identity in ids],
            Metrics.model_validate(metrics),
            provider="codearts",
            project="payments",
            interval=60.0,
        )
        self.asked = 1000.0
        self.now = NOON + 600
        for answer in answers:
            self.sees(answer)

    def sees(self, answer: Run | None, identity: str = "p", *, asked_ago: float = 0.0) -> None:
        """Apply an answer, by default one that was asked for after all others."""
        self.asked += 15
        self.now += 15
        runs = {} if answer is None else {identity: answer}
        self.board.answered([identity], runs, asked=self.asked - asked_ago, now=self.now)

    def fails(self, identity: str = "p") -> None:
        """A poll fails."""
        self.board.failed([identity])

    def waits(self, seconds: float) -> bool:
        """Let time pass, and withdraw what is too old by then; whether anything was."""
        self.asked += seconds
        self.now += seconds
        return self.board.expire(self.asked, MAX_AGE)

    def view(self, identity: str = "p") -> View:
        """What is shown of a pipeline."""
        return next(view for view in self.board.views() if view.pipeline.id == identity)

    def gauges(self) -> tuple[object, ...]:
        """What is withdrawn together: the latest and latest finished run's, the failures', the active ones'."""
        view = self.view()
        return (
            view.latest,
            view.status_change,
            view.stage_changes,
            view.finished,
            view.series,
            view.active_starts,
        )


GONE = (None, None, (), None, None, None)


# What is shown


def test_before_the_first_poll_has_ended_nothing_is_shown():
    """Absent is not zero."""
    wall = Wall()
    assert wall.board.views() == ()
    assert wall.board.project_view() is None


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
    assert view.series == Series(1, NOON + 50, None)
    assert view.active_starts == ()
    assert view.tally is not None
    assert view.tally.created == wall.now


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
    assert view.tally is not None


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
    assert wall.board.active(wall.now) == ("p",)
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
    assert wall.board.ids == ("b", "a", "c")
    assert [(view.pipeline.id, view.up) for view in wall.board.views()] == [("b", False), ("a", True)]


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
    assert view.tally == before.tally
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
    assert wall.view().tally is not None
    assert wall.board.active(wall.now) == ()


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
    assert wall.board.active(wall.now) == ("p",)
    assert wall.board.active(wall.now + 100 * HELD_ACTIVE) == ("p",)


@pytest.mark.parametrize("status", HELD)
def test_a_run_that_waits_for_somebody_is_active_for_an_hour(status):
    """Then it is asked about like the others: it may wait for days."""
    wall = Wall(run(1, status))
    assert wall.board.active(wall.now + HELD_ACTIVE - 1) == ("p",)
    assert wall.board.active(wall.now + HELD_ACTIVE) == ()
    wall.waits(HELD_ACTIVE)
    wall.sees(run(1, Status.RUNNING))
    wall.sees(run(1, status))
    assert wall.board.active(wall.now) == ("p",)


def test_a_finished_run_is_not_active():
    """Nor is a pipeline without one, or one never answered."""
    wall = Wall(ids=("p", "q", "r"))
    wall.sees(run(1))
    wall.sees(None, "q")
    wall.fails("r")
    assert wall.board.active(wall.now) == ()


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


def observations(durations: Durations | None) -> tuple[dict[str, int], dict[str, int]]:
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
    project = wall.board.project_view()
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
    before = wall.board.project_view()
    wall.fails("p")
    wall.waits(MAX_AGE + 1)
    for _ in range(ABSENCES):
        wall.sees(None, "q")
    assert wall.board.project_view() == before


def test_a_projects_view_stays_the_same_object_until_a_run_ends():
    """Most polls count nothing, and need not render it again."""
    wall = seen_to_end()
    before = wall.board.project_view()
    wall.sees(run(3))
    wall.sees(run(4, Status.RUNNING))
    assert wall.board.project_view() is before
    wall.sees(run(4))
    assert wall.board.project_view() is not before


def test_a_projects_histograms_begin_with_its_first_answer():
    """A failure is no beginning."""
    wall = Wall()
    wall.fails()
    assert wall.board.project_view() is None
    wall.sees(None)
    project = wall.board.project_view()
    assert project is not None
    assert (project.provider, project.project) == ("codearts", "payments")
    assert project.durations.created == wall.now


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
        project = wall.board.project_view()
        assert project is not None
        kept = wall.view("p").durations if scope == "pipeline" else project.durations
        assert kept is not None
        kept_names = {name for name, _ in kept.stages}
        assert len(kept_names) == bound + 1
        assert "(other)" in kept_names
