"""One run of a pipeline: what is destined for it, and what can be seen of it at a moment.

A run's whole course is fixed before it starts, as a function of a random source handed in. What a cloud would
answer at a moment is then read off that course, so that time can be asked forwards, backwards and at leaps,
and the same question always has the same answer. Its times are whole Unix seconds, as in the vendor's own
example; those of a run that is told by a story may have milliseconds, those of its stages do not.
"""

import enum
from dataclasses import dataclass, field
from random import Random


class Status(enum.StrEnum):
    """The vendor's words; INIT and QUEUED are said of stages, jobs and steps only, the last two of jobs only."""

    COMPLETED = "COMPLETED"
    RUNNING = "RUNNING"
    FAILED = "FAILED"
    CANCELED = "CANCELED"
    IGNORED = "IGNORED"
    PAUSED = "PAUSED"
    SUSPEND = "SUSPEND"
    INIT = "INIT"
    QUEUED = "QUEUED"
    UNSELECTED = "UNSELECTED"
    SKIPPED = "SKIPPED"

    @property
    def over(self) -> bool:
        """Whether a run in this state has ended; a retry may still take it up again."""
        return self in _OVER

    @property
    def held(self) -> bool:
        """Whether a run in this state waits for somebody to let it go on."""
        return self in _HELD


_OVER = frozenset({Status.COMPLETED, Status.FAILED, Status.CANCELED, Status.IGNORED})
_HELD = frozenset({Status.PAUSED, Status.SUSPEND})


@dataclass(frozen=True, slots=True)
class Stage:
    """A stage as seen at a moment; a time that has not come, or never will, is None."""

    name: str
    sequence: int
    status: Status
    start: int | None
    end: int | None


@dataclass(frozen=True, slots=True)
class Course:
    """What is destined for a run.

    `legs` holds (queued, start, end) of every stage that is ever reached, in order; the last of them ends in
    `fate`, those before it end well. During `pause`, which lies within one leg, run and stage show
    `pause_word`.
    """

    stages: tuple[str, ...]
    start: int
    end: int
    fate: Status
    legs: tuple[tuple[int, int, int], ...]
    pause: tuple[int, int] | None
    pause_word: Status

    def status(self, now: float) -> Status:
        """Tell the run's status at `now`, which must not lie before its start."""
        if now >= self.end:
            return self.fate
        if self.pause and self.pause[0] <= now < self.pause[1]:
            return self.pause_word
        return Status.RUNNING

    def seen(self, now: float) -> tuple[Stage, ...]:
        """Return all stages as they stand at `now`."""
        active = self.status(now)
        return tuple(self._stage(sequence, now, active) for sequence in range(len(self.stages)))

    def _stage(self, sequence: int, now: float, active: Status) -> Stage:
        name = self.stages[sequence]
        if sequence >= len(self.legs):
            return Stage(name, sequence, Status.INIT, None, None)
        queued, start, end = self.legs[sequence]
        if now < queued:
            return Stage(name, sequence, Status.INIT, None, None)
        if now < start:
            return Stage(name, sequence, Status.QUEUED, None, None)
        if now < end:
            return Stage(name, sequence, active, start, None)
        last = sequence == len(self.legs) - 1
        return Stage(name, sequence, self.fate if last else Status.COMPLETED, start, end)


@dataclass(frozen=True, slots=True)
class Origin:
    """Why a run started and from which code; what a trigger does not bring along is None."""

    trigger: str
    executor_id: str
    executor_name: str
    branch: str
    commit: str
    message: str
    tag: str | None = None
    action: str | None = None
    merge_id: str | None = None
    source_branch: str | None = None


@dataclass(frozen=True, slots=True)
class Run:
    """A run as seen at a moment; `end` is None until it is over, or for as long as it is kept back. Times are Unix seconds.

    `course` is what no cloud would tell, and what jobs and steps are read off. `word`, if there is one, is what
    the cloud says in the place of the status: one that nobody has heard of.
    """

    pipeline_id: str
    id: str
    number: int
    status: Status
    start: float
    end: float | None
    stages: tuple[Stage, ...]
    origin: Origin
    course: Course = field(repr=False)
    word: str | None = None

    @property
    def said(self) -> str:
        """What the cloud says of its state: a known status, or a word of its own."""
        return self.word or self.status.value


_CANCELED_SHARE = 0.04
_IGNORED_SHARE = 0.01
_SLOW_SHARE = 0.02
_PAUSED_SHARE = 0.05
_BUSY_POOL_SHARE = 0.1


def course(
    draw: Random, start: int, stages: tuple[tuple[str, int], ...], period: int, failing: float
) -> Course:
    """Decide the course of the run that starts at `start`.

    `stages` are (name, usual seconds), `period` the seconds between the pipeline's starts, which bounds a
    pause, and `failing` the share of its runs that fail.
    """
    ending = fate(draw.random(), failing)
    reached = len(stages) if ending is Status.COMPLETED else draw.randint(1, len(stages))
    paused = draw.randrange(reached) if draw.random() < _PAUSED_SHARE else None
    speed = draw.uniform(0.8, 1.25) * (draw.uniform(1.5, 3) if draw.random() < _SLOW_SHARE else 1)
    pause: tuple[int, int] | None = None
    legs = []
    queued = start
    for sequence in range(reached):
        usual = stages[sequence][1]
        waited = draw.randint(10, 60) if sequence and draw.random() < _BUSY_POOL_SHARE else draw.randint(1, 3)
        begun = queued + waited
        cut_short = draw.uniform(0.2, 1) if ending is not Status.COMPLETED and sequence == reached - 1 else 1
        ended = begun + max(1, int(usual * speed * cut_short))
        if sequence == paused:
            middle = (begun + ended) // 2
            length = min(int(period * draw.uniform(0.1, 0.5)), 4 * 3600)
            pause = (middle, middle + length)
            ended += length
        legs.append((queued, begun, ended))
        queued = ended
    return Course(
        stages=tuple(name for name, _ in stages),
        start=start,
        end=queued,
        fate=ending,
        legs=tuple(legs),
        pause=pause,
        pause_word=draw.choice((Status.PAUSED, Status.SUSPEND)),
    )


def fate(lot: float, failing: float) -> Status:
    """Tell how a run ends, by a `lot` between 0 and 1; `failing` is the share of the pipeline's runs that fail."""
    if lot < failing:
        return Status.FAILED
    # A pipeline that nearly always fails is hardly ever cancelled: the other shares are of what failing
    # leaves.
    rest = (lot - failing) / (1 - failing)
    if rest < _CANCELED_SHARE:
        return Status.CANCELED
    if rest < _CANCELED_SHARE + _IGNORED_SHARE:
        return Status.IGNORED
    return Status.COMPLETED
