"""Runs as Flow tells them: in whole seconds, in the states that it knows, with stages side by side.

What comes out are runs again, so that a story can witness them: what an answer leaves out is left out of them as well.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TypeVar

from exporter.simulator.flow.layout import Aside, Place, drawn, layout
from exporter.simulator.flow.vocabulary import known, word
from exporter.simulator.world.jobs import Job, jobs
from exporter.simulator.world.runs import Course, Run, Stage, Status
from exporter.simulator.world.world import Pipeline

# So long it takes until what is cancelled has ended, as far as it can be foreseen.
_CANCELLING_SECONDS = 3
# Of so many stages and jobs, one has another word for its success.
_FINISH_ONE_IN = 12

P = TypeVar("P", Stage, Job)


@dataclass(frozen=True, slots=True)
class ToldJob:
    """A job as it is told: `word` is its state, `job` bears its times; `key` is the same in every run."""

    key: str
    word: str
    job: Job


@dataclass(frozen=True, slots=True)
class ToldStage:
    """A stage as it is told: `word` is its state, `stage` bears its name and times."""

    place: Place
    word: str
    stage: Stage
    jobs: tuple[ToldJob, ...]


@dataclass(frozen=True, slots=True)
class Told:
    """A whole run as it is told; the stages of `run` are those of `stages`, in their order.

    `changed` is when something last happened to it, of what can be seen, in Unix seconds.
    """

    run: Run
    stages: tuple[ToldStage, ...]
    changed: float


def brief(run: Run) -> Run:
    """Tell a run as a list does: without stages."""
    return replace(
        run,
        status=known(run.status),
        start=int(run.start),
        end=None if run.end is None else int(run.end),
        stages=(),
    )


def in_full(pipeline: Pipeline, run: Run, now: float, end_lag: int = 0) -> Told:
    """Tell a run with all its parts, as it stands at `now`; it ends `end_lag` seconds after the last of them."""
    stages = tuple(_earlier(stage, run.course.end, end_lag) for stage in _stages(pipeline, run, now))
    told = replace(brief(run), stages=tuple(stage.stage for stage in stages))
    moments = [told.start, told.end]
    for stage in told.stages:
        moments += [stage.start, stage.end]
    # A retry shows before the stage that it repeats has begun again.
    moments += [queued for queued, _, _ in run.course.legs if queued <= now]
    return Told(told, stages, max(moment for moment in moments if moment is not None))


def _stages(pipeline: Pipeline, run: Run, now: float) -> Iterator[ToldStage]:
    plan = layout(pipeline)
    for stage in run.stages:
        place = Place(stage.sequence, 0)
        seen = replace(stage, name=plan.name(place, stage.name))
        yield _stage(pipeline, run, place, seen, jobs(pipeline, run, stage.sequence, now), now)
        if plan.aside is not None and plan.aside.sequence == stage.sequence:
            place = Place(stage.sequence, 1)
            apart = _apart(plan.aside, run)
            seen = replace(apart.course.seen(now)[0], name=plan.name(place, plan.aside.name))
            yield _stage(pipeline, run, place, seen, jobs(plan.aside.pipeline, apart, 0, now), now)


def _earlier(told: ToldStage, end: int, lag: int) -> ToldStage:
    """Let what ended with the run have ended so many seconds before it."""
    if not lag:
        return told
    jobs = tuple(replace(one, job=_cut(one.job, end, lag)) for one in told.jobs)
    return replace(told, stage=_cut(told.stage, end, lag), jobs=jobs)


def _cut(part: P, end: int, lag: int) -> P:
    if part.end != end or part.start is None:
        return part
    return replace(part, end=max(part.start, end - lag))


def _apart(aside: Aside, run: Run) -> Run:
    """Make a run of its own of a stage that runs beside another: it begins with it, and is not held with it."""
    course = run.course
    legs: tuple[tuple[int, int, int], ...] = ()
    complete = True
    if aside.sequence < len(course.legs):
        queued, start, _ = course.legs[aside.sequence]
        end = min(start + aside.length, course.end)
        complete = end == start + aside.length or course.fate is Status.COMPLETED
        legs = ((queued, start, end),)
    own = Course(
        stages=(aside.name,),
        start=course.start,
        end=legs[0][2] if legs else course.end,
        fate=Status.COMPLETED if complete else Status.CANCELED,
        legs=legs,
        pause=None,
        pause_word=Status.PAUSED,
    )
    return replace(run, id=f"{run.id} aside", course=own)


def _stage(
    pipeline: Pipeline, run: Run, place: Place, stage: Stage, jobs_of: tuple[Job, ...], now: float
) -> ToldStage:
    key = f"{pipeline.id} {place.index}"
    stage = _told(run, stage)
    told = tuple(
        ToldJob(key_of, _said(run, job.status, key_of, now), job)
        for key_of, job in ((f"{key} {job.sequence}", _told(run, job)) for job in jobs_of)
    )
    return ToldStage(place, _said(run, stage.status, key, now), stage, told)


def _told(run: Run, part: P) -> P:
    """Tell a part of a run in the states that Flow knows."""
    status, end = known(part.status), part.end
    if run.status is Status.IGNORED and status is Status.INIT:
        # What comes after a failure that is ignored is left out, not still to come.
        status = Status.SKIPPED
    if run.status.over and run.end is None and end == run.course.end:
        # While the end of a run is kept back, nothing that ended with it gives it away.
        end = None
    return replace(part, status=status, end=end)


def _said(run: Run, status: Status, key: str, now: float) -> str:
    course = run.course
    if (
        status is Status.RUNNING
        and course.fate is Status.CANCELED
        and now >= course.end - _CANCELLING_SECONDS
    ):
        return "CANCELLING"
    if status is Status.COMPLETED and drawn(key) % _FINISH_ONE_IN == 0:
        return "FINISH"
    return word(status)
