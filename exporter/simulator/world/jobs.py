"""The jobs and steps of a stage: what is planned for them, and what can be seen of them at a moment.

Like the runs they belong to they are read off a course that is fixed before it begins: the stretch of time
that is destined for a stage is cut into pieces, first for its jobs, which run one after the other, then for
their steps.
"""

from dataclasses import dataclass
from itertools import pairwise
from random import Random

from exporter.simulator.world.runs import Run, Status
from exporter.simulator.world.world import Pipeline

_JOBS = ("Checkout", "Compile", "Unit tests", "Package", "Lint", "Publish", "Scan", "Notify")
# A step's plug-in, its kind and its name; some steps were never given one.
_STEPS = (
    ("official_shell_plugin", None, "Shell"),
    ("official_devcloud_cloudBuild", "Build", "Build"),
    ("official_devcloud_codeCheck", "Check", None),
    ("official_devcloud_apiTest", "Test", "API test"),
    ("official_devcloud_deploy", "Deploy", "Deploy"),
    ("official_devcloud_subPipeline", "Normal", None),
)
_MATRIX_SHARE = 0.12
_UNSELECTED_SHARE = 0.05
_SKIPPED_SHARE = 0.04


@dataclass(frozen=True, slots=True)
class Step:
    """A step as seen at a moment; a time that has not come, or never will, is None."""

    name: str | None
    task: str
    business_type: str | None
    sequence: int
    status: Status
    start: int | None
    end: int | None


@dataclass(frozen=True, slots=True)
class Job:
    """A job as seen at a moment; `selected` is False for what this run was told to leave out."""

    name: str
    sequence: int
    selected: bool
    status: Status
    start: int | None
    end: int | None
    steps: tuple[Step, ...]


@dataclass(frozen=True, slots=True)
class _Piece:
    """A destined stretch of time, and the word for it once it is over."""

    start: int
    end: int
    fate: Status

    def at(self, now: float, active: Status) -> tuple[Status, int | None, int | None]:
        """Tell status, start and end as they stand at `now`."""
        if now < self.start:
            return Status.INIT, None, None
        if now < self.end:
            return active, self.start, None
        return self.fate, self.start, self.end


def jobs(pipeline: Pipeline, run: Run, sequence: int, now: float) -> tuple[Job, ...]:
    """Show the jobs of stage `sequence` of `run` as they stand at `now`.

    A stage that has failed has a job that has failed, which has a step that has failed; what comes after it
    stays INIT. The jobs that run begin with the stage and end with it.
    """
    course = run.course
    draw = Random(f"{run.id} jobs {sequence}")
    planned = _plan(pipeline, sequence)
    idle = _idle(draw, len(planned))
    queued, pieces = None, []
    if sequence < len(course.legs):
        queued, start, end = course.legs[sequence]
        fate = course.fate if sequence == len(course.legs) - 1 else Status.COMPLETED
        pieces = _pieces(draw, start, end, idle.count(None), fate, course.pause)
    waiting = iter(pieces)
    turn: float = pieces[0].start if pieces else float("inf")
    told = []
    for index, (name, tasks) in enumerate(planned):
        word = idle[index]
        piece = next(waiting, None) if word is None else None
        seen: tuple[Status, int | None, int | None] = (Status.INIT, None, None)
        if word is Status.UNSELECTED or (word is Status.SKIPPED and now >= turn):
            seen = word, None, None
        elif piece is not None:
            seen = piece.at(now, course.status(now))
            if queued is not None and piece is pieces[0] and queued <= now < piece.start:
                seen = Status.QUEUED, None, None
        if word is None:
            # After the job that failed there is no turn any more.
            turn = piece.end if piece and piece.fate is Status.COMPLETED else float("inf")
        steps = _steps(draw, tasks, piece, course.pause, now)
        told.append(Job(name, index, word is not Status.UNSELECTED, *seen, steps))
    return tuple(told)


def _plan(pipeline: Pipeline, sequence: int) -> list[tuple[str, list[int]]]:
    """Plan what every run of the pipeline has in that stage: jobs by name, with their steps."""
    draw = Random(f"{pipeline.id} jobs {sequence}")
    count = draw.choices((1, 2, 3, 4), (50, 30, 15, 5))[0]
    names = draw.sample(_JOBS, count)
    if Random(f"{pipeline.id} matrix").random() < _MATRIX_SHARE:
        names = names[:1] * count
    return [
        (name, draw.sample(range(len(_STEPS)), draw.choices((1, 2, 3), (55, 30, 15))[0])) for name in names
    ]


def _idle(draw: Random, count: int) -> list[Status | None]:
    """Choose the jobs that this run does without; None stands for one that has its turn, and one has."""
    lots = [draw.random() for _ in range(count)]
    words = [
        Status.UNSELECTED
        if lot < _UNSELECTED_SHARE
        else Status.SKIPPED
        if lot < _UNSELECTED_SHARE + _SKIPPED_SHARE
        else None
        for lot in lots
    ]
    return words if None in words else [None, *words[1:]]


def _pieces(
    draw: Random, start: int, end: int, count: int, fate: Status, pause: tuple[int, int] | None
) -> list[_Piece]:
    """Cut a stretch into pieces, the last of which ends in `fate`; fewer than `count` if that is no success.

    A pause that lies within the stretch lies within one of the pieces.
    """
    reached = count if fate is Status.COMPLETED else draw.randint(1, count)
    at, length = end, 0
    if pause is not None and start <= pause[0] < end:
        at, length = pause[0], pause[1] - pause[0]
    cuts = sorted(start + int((end - start - length) * draw.random()) for _ in range(reached - 1))
    bounds = [start, *(cut if cut <= at else cut + length for cut in cuts), end]
    pieces = [_Piece(*bound, Status.COMPLETED) for bound in pairwise(bounds)]
    pieces[-1] = _Piece(bounds[-2], end, fate)
    return pieces


def _steps(
    draw: Random, tasks: list[int], job: _Piece | None, pause: tuple[int, int] | None, now: float
) -> tuple[Step, ...]:
    pieces: list[_Piece] = []
    if job is not None:
        # Steps know fewer words than jobs: what a job may ignore is still a step that failed.
        fate = Status.FAILED if job.fate is Status.IGNORED else job.fate
        pieces = _pieces(draw, job.start, job.end, len(tasks), fate, pause)
    steps = []
    for sequence, task in enumerate(tasks):
        plugin, kind, name = _STEPS[task]
        seen: tuple[Status, int | None, int | None] = (Status.INIT, None, None)
        if sequence < len(pieces):
            seen = pieces[sequence].at(now, Status.RUNNING)
        steps.append(Step(name, plugin, kind, sequence, *seen))
    return tuple(steps)
