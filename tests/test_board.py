"""What is known of every pipeline: what answers and failures show, keep and withdraw."""

from collections.abc import Iterable, Sequence
from typing import Any

import msgspec
import pytest

from exporter.board import ABSENCES, DETAIL_TRIES, HELD_ACTIVE, LOOKUP_LONGEST, Board, View
from exporter.config.schema import Metrics
from exporter.ledger import HIDDEN, Series
from exporter.model import Job, Pipeline, Run, Stage, Status, Step
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
        """The time by the monotonic clock."""
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

    def looks(self, *found: Run | None) -> None:
        """Look up what is due: the oldest hidden run is found first."""
        for (identity, run_id), answer in zip(self.due(), found, strict=True):
            self.board.looked_up(identity, run_id, answer, self.asked)

    def due(self) -> tuple[tuple[str, str], ...]:
        """Hidden runs to look up now."""
        return self.board.due_lookups(self.asked)

    def wanted(self) -> list[str]:
        """The ids of runs whose details are asked for."""
        return [run.id for _, run in self.board.wanted_details(self.asked)]

    def learns(self, detail: Run | None, identity: str = "p") -> None:
        """Apply the answer to a request for the details that are wanted."""
        self.board.detailed(identity, dict(self.board.wanted_details(self.asked))[identity], detail)

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


# Pipelines that come, go and are renamed


def test_a_pipeline_that_joins_is_shown_from_its_first_poll_on():
    """Its counters begin then; those that were there keep theirs."""
    wall = Wall(run(1), run(2))
    before = wall.view()
    wall.board.update([pipeline("q"), pipeline("p")])
    assert wall.board.ids == ("q", "p")
    assert wall.board.views() == (before,)
    wall.sees(run(1), "q")
    assert [view.pipeline.id for view in wall.board.views()] == ["q", "p"]
    assert wall.view() is before
    assert wall.view("q").tally != before.tally


def test_a_pipeline_that_leaves_is_shown_no_longer():
    """Nor asked about; what still arrives about it changes nothing, and one that is back is new."""
    wall = Wall(ids=("p", "q"), details="jobs")
    for answer in (run(1), run(2, Status.RUNNING), run(3, Status.RUNNING)):
        wall.sees(answer, "q")
    wall.waits(60)
    assert wall.due() == (("q", "run-2"),)
    wall.board.update([pipeline("p")])
    assert (wall.board.ids, wall.board.views(), wall.board.active(wall.now)) == (("p",), (), ())
    assert (wall.due(), wall.wanted(), wall.board.unresolved) == ((), [], 0)
    wall.board.failed(["q"])
    wall.board.looked_up("q", "run-2", None, wall.asked)
    wall.board.postpone("q", "run-2", wall.asked)
    wall.board.detailed("q", run(3), None)
    wall.board.detail_failed("q", wall.asked)
    assert wall.board.views() == ()
    wall.board.update([pipeline("p"), pipeline("q")])
    assert wall.board.views() == ()
    wall.sees(run(3), "q")
    view = wall.view("q")
    assert view.tally is not None
    assert view.tally.created == wall.now
    assert sum(view.tally.runs.values()) == 0


def test_a_project_keeps_the_histograms_of_pipelines_that_left():
    """They never decrease."""
    wall = seen_to_end(run_histogram="project")
    before = wall.board.project_view()
    wall.board.update([pipeline("p")])
    assert wall.board.project_view() is before


def test_a_renamed_pipeline_keeps_what_is_known_of_it():
    """Only what it is called, or labelled, is another."""
    wall = Wall(run(1), run(2, Status.RUNNING))
    before = wall.view()
    renamed = msgspec.structs.replace(pipeline(), name="new", labels=(("team", "pay"),), url="https://x")
    wall.board.update([renamed])
    assert wall.view() == msgspec.structs.replace(before, pipeline=renamed)
    wall.sees(run(2))
    assert wall.view().pipeline == renamed
    assert wall.view().tally is not None


def test_a_pipeline_is_renamed_before_its_first_poll():
    """It is shown under its new name at once."""
    wall = Wall()
    renamed = msgspec.structs.replace(pipeline(), name="new")
    wall.board.update([renamed])
    assert wall.board.views() == ()
    wall.fails()
    assert wall.view() == View(pipeline=renamed, up=False)


def test_an_update_that_changes_nothing_changes_no_view():
    """It need not be rendered again."""
    wall = Wall(run(1))
    before = wall.view()
    wall.board.update([pipeline()])
    assert wall.view() is before


def test_what_is_held_back_is_watched_and_not_shown():
    """Until it has a name; its counters began with its first answer all the same."""
    wall = Wall(ids=("p", "q"))
    wall.board.held_back = frozenset({"p"})
    wall.sees(run(1))
    first = wall.now
    wall.sees(run(1), "q")
    wall.sees(run(2, Status.RUNNING))
    assert [view.pipeline.id for view in wall.board.views()] == ["q"]
    assert wall.board.active(wall.now) == ("p",)
    wall.board.held_back = frozenset()
    view = wall.view()
    assert view.tally is not None
    assert view.tally.created == first


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
    assert Wall(staged()).wanted() == []
    for details in ("jobs", "steps"):
        assert Wall(staged(), details=details).wanted() == ["run-1"]


def test_a_pipeline_without_a_run_has_no_details():
    """Whether it never had one, was never answered, or is gone."""
    wall = Wall(ids=("p", "q", "r"), details="jobs")
    wall.sees(None)
    wall.fails("q")
    wall.sees(run(1), "r")
    for _ in range(ABSENCES):
        wall.sees(None, "r")
    assert wall.wanted() == []


def test_a_run_without_an_id_has_no_details():
    """There is nothing to ask by."""
    wall = Wall(Run(id="#7", number=7, status=Status.SUCCESS), details="jobs")
    assert wall.wanted() == []


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
        if wall.wanted():
            asked.append(answer)
            wall.learns(detailed(answer, answer.status))
        wall.fails()
        wall.sees(answer)
        assert wall.wanted() == []
    assert asked == list(dict.fromkeys(answers))


def test_an_answer_that_is_not_believed_wants_no_details():
    """What it shows is not the latest run."""
    wall = Wall(staged(8), staged(9, Status.RUNNING), details="jobs")
    wall.learns(detailed(staged(9, Status.RUNNING)))
    wall.sees(staged(8))
    assert wall.wanted() == []


def test_details_that_failed_are_asked_for_at_growing_intervals():
    """Once after the interval, twice that, up to a quarter of an hour; at once when the run has changed."""
    wall = Wall(staged(1, Status.RUNNING), details="jobs")
    for pause in (60, 120, 240, 480, 900, 900):
        assert wall.wanted() == ["run-1"]
        wall.board.detail_failed("p", wall.asked)
        wall.waits(pause - 1)
        assert wall.wanted() == []
        wall.waits(1)
    wall.board.detail_failed("p", wall.asked)
    assert wall.wanted() == []
    wall.sees(staged(1, Status.FAILED))
    assert wall.wanted() == ["run-1"]


def test_who_has_waited_longest_for_details_comes_first():
    """Pipelines that change at every poll do not starve the others."""
    wall = Wall(ids=("p", "q", "r"), details="jobs")
    for identity in ("p", "q", "r"):
        wall.sees(staged(1, Status.RUNNING), identity)
    assert [identity for identity, _ in wall.board.wanted_details(wall.asked)] == ["p", "q", "r"]
    wall.board.detailed("p", staged(1, Status.RUNNING), None)
    wall.sees(staged(1), "p")
    assert [identity for identity, _ in wall.board.wanted_details(wall.asked)] == ["q", "r", "p"]


def test_details_that_cannot_be_had_are_not_asked_for_again():
    """Until the run has changed."""
    wall = Wall(staged(1, Status.RUNNING), details="jobs")
    wall.learns(None)
    wall.sees(staged(1, Status.RUNNING))
    assert (wall.wanted(), jobs_of(wall)) == ([], [])
    wall.sees(staged(1))
    assert wall.wanted() == ["run-1"]


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
    assert wall.wanted() == []


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
    assert (jobs_of(wall), wall.wanted()) == ([("compile", "running")], ["run-1"])
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
                wall.board.detail_failed("p", wall.asked)
    assert (jobs_of(wall), wall.wanted()) == ([], [])


def test_a_run_that_changed_while_its_details_were_asked_for_wants_them_again():
    """They are of the run as it was."""
    wall = Wall(staged(1, Status.RUNNING), details="jobs")
    before = staged(1, Status.RUNNING)
    wall.sees(staged(1))
    wall.board.detailed("p", before, detailed(before, Status.RUNNING))
    assert wall.wanted() == ["run-1"]


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
    assert wall.wanted() == []


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
    assert (wall.view().tally, wall.view().durations) == (before.tally, before.durations)


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
    assert wall.board.unresolved == 2
    wall.waits(60)
    wall.looks(run(2, start=NOON + 2), None)
    assert wall.view().active_starts == (NOON + 4,)
    assert wall.board.unresolved == 0


def test_a_hidden_run_alone_does_not_make_its_pipeline_asked_more_often():
    """It would not be in the answer."""
    wall = hides()
    wall.sees(run(3, start=NOON + 3))
    assert wall.board.active(wall.now) == ()
    assert wall.view().active_starts == (NOON + 2,)


def test_a_hidden_run_is_looked_up_after_an_interval_and_ever_more_rarely():
    """At most every quarter of an hour."""
    wall = hides()
    pauses = []
    for _ in range(7):
        waited = 0
        while not wall.due():
            wall.waits(15)
            waited += 15
        assert wall.due() == (("p", "run-2"),)
        pauses.append(waited)
        wall.looks(run(2, Status.RUNNING, start=NOON + 2))
    assert pauses == [60, 120, 240, 480, 900, 900, 900]
    assert LOOKUP_LONGEST == 900


def test_a_look_that_failed_is_put_off_like_one_that_taught_nothing():
    """And counts nothing."""
    wall = hides()
    before = wall.view()
    wall.waits(60)
    wall.board.postpone("p", "run-2", wall.asked)
    wall.waits(119)
    assert wall.due() == ()
    wall.waits(1)
    assert wall.due() == (("p", "run-2"),)
    assert wall.view() is before


def test_polls_do_not_put_off_a_look():
    """However many come in between."""
    wall = hides()
    for _ in range(4):
        wall.sees(run(3, Status.RUNNING, start=NOON + 3))
    assert wall.due() == (("p", "run-2"),)


def test_a_long_interval_does_not_put_off_a_look():
    """A quarter of an hour is the most."""
    board = Board([pipeline()], Metrics(), provider="codearts", project="payments", interval=7200.0)
    for asked, number in enumerate((1, 2, 3)):
        board.answered(["p"], {"p": run(number, Status.RUNNING)}, asked=asked, now=NOON)
    assert board.due_lookups(LOOKUP_LONGEST) == ()
    assert board.due_lookups(LOOKUP_LONGEST + 2) == (("p", "run-1"), ("p", "run-2"))


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
    wall.board.looked_up("p", "run-2", ended, wall.asked)
    wall.sees(run(3, Status.RUNNING, start=NOON + 3))
    view, project = wall.view(), wall.board.project_view()
    assert view.tally is not None
    assert project is not None
    assert (view.tally.runs[Status.SUCCESS], view.tally.missed) == (1, 0)
    nothing: tuple[dict[str, int], dict[str, int]] = ({}, {})
    counted = {scope: ({"success": 1}, {"build": 1})}
    assert observations(view.durations) == counted.get("pipeline", nothing)
    assert observations(project.durations) == counted.get("project", nothing)


def test_a_hidden_run_that_is_gone_is_missed_once():
    """Its end cannot be learnt; no histogram has it."""
    wall = hides()
    wall.waits(60)
    wall.looks(None)
    wall.board.looked_up("p", "run-2", None, wall.asked)
    view = wall.view()
    assert view.tally is not None
    assert view.tally.missed == 1
    assert observations(view.durations) == ({}, {})


def test_a_look_that_finds_another_run_counts_nothing():
    """And is put off."""
    wall = hides()
    before = wall.view()
    wall.waits(60)
    wall.looks(run(9, Status.FAILED))
    assert wall.view() is before
    assert (wall.due(), wall.board.unresolved) == ((), 1)


def test_a_look_at_a_pipeline_that_is_down_shows_no_answer():
    """What it teaches is shown; whether it is up is what its last poll says."""
    wall = hides()
    wall.fails()
    wall.waits(60)
    wall.looks(run(2, Status.FAILED, start=NOON + 2))
    assert wall.view().up is False
    assert wall.view().series == Series(1, NOON + 52, NOON + 50)


def test_hidden_runs_are_withdrawn_with_the_others_and_looked_up_all_the_same():
    """Counters do not grow old."""
    wall = hides()
    wall.fails()
    wall.waits(MAX_AGE + 1)
    assert wall.gauges() == GONE
    wall.looks(run(2, start=NOON + 2))
    assert wall.gauges() == GONE
    view = wall.view()
    assert view.tally is not None
    assert view.tally.runs[Status.SUCCESS] == 1


def test_a_new_numbering_shows_no_finished_run_and_hides_none():
    """Until a run of it ends; failures in a row go on."""
    wall = hides()
    fresh = Run(id="fresh", number=1, status=Status.RUNNING, start=wall.now + 5)
    wall.sees(fresh)
    wall.sees(fresh)
    view = wall.view()
    assert (view.latest, view.finished, view.active_starts) == (fresh, None, (fresh.start,))
    assert view.series == Series(0, None, NOON + 50)
    assert view.tally is not None
    assert view.tally.missed == 2
    wall.waits(60)
    assert (wall.due(), wall.board.unresolved) == ((), 0)


def test_hidden_runs_have_a_bound_on_the_board_too():
    """What is given up is looked for no longer; the oldest of the others come first."""
    wall = hides(hidden=HIDDEN + 2)
    wall.waits(60)
    assert [run_id for _, run_id in wall.due()] == [f"run-{number}" for number in range(4, HIDDEN + 4)]
    assert wall.board.unresolved == HIDDEN
