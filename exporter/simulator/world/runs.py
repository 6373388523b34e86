"""A simulated run: its plan, and its state at a given time.

The plan of a run is drawn before the run starts. Its state at any time follows from the plan, so repeated queries
agree. Times are whole Unix seconds, as in the vendor's example. Runs of a scenario may start and end between two whole
seconds; their stages do not.
"""

import enum
from dataclasses import dataclass, field
from random import Random


class SimulatedStatus(enum.StrEnum):
    """Status of a run, stage, job or step, in the vendor's spelling.

    Runs of a `World` are never INIT or QUEUED. Only jobs are UNSELECTED or SKIPPED; in Flow, stages are SKIPPED as well.
    """

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
    def finished(self) -> bool:
        """Whether a run in this state has ended; a retry can still restart it."""
        return self in _FINISHED

    @property
    def paused(self) -> bool:
        """Whether a run in this state waits to be resumed."""
        return self in _PAUSED


_FINISHED = frozenset(
    {SimulatedStatus.COMPLETED, SimulatedStatus.FAILED, SimulatedStatus.CANCELED, SimulatedStatus.IGNORED}
)
_PAUSED = frozenset({SimulatedStatus.PAUSED, SimulatedStatus.SUSPEND})


@dataclass(frozen=True, slots=True)
class StageSnapshot:
    """State of a stage at a given time; `start` and `end` are Unix seconds, or None until reached."""

    name: str
    sequence: int
    status: SimulatedStatus
    start: int | None
    end: int | None


@dataclass(frozen=True, slots=True)
class RunPlan:
    """Planned course of a run; times are Unix seconds.

    `spans` holds (queued, start, end) of each stage that the run reaches, in order. The last of these stages ends in
    `final_status`, the others in COMPLETED. `pause` is (start, end) within one span, or None. During the pause, the run
    and that stage have `pause_status`.
    """

    stages: tuple[str, ...]
    start: int
    end: int
    final_status: SimulatedStatus
    spans: tuple[tuple[int, int, int], ...]
    pause: tuple[int, int] | None
    pause_status: SimulatedStatus

    def status(self, now: float) -> SimulatedStatus:
        """Return the status of the run at `now`, which must not be before its start."""
        if now >= self.end:
            return self.final_status
        if self.pause and self.pause[0] <= now < self.pause[1]:
            return self.pause_status
        return SimulatedStatus.RUNNING

    def stages_at(self, now: float) -> tuple[StageSnapshot, ...]:
        """Return the states of all stages at `now`."""
        active = self.status(now)
        return tuple(self._stage(sequence, now, active) for sequence in range(len(self.stages)))

    def _stage(self, sequence: int, now: float, active: SimulatedStatus) -> StageSnapshot:
        name = self.stages[sequence]
        if sequence >= len(self.spans):
            return StageSnapshot(name, sequence, SimulatedStatus.INIT, None, None)
        queued, start, end = self.spans[sequence]
        if now < queued:
            return StageSnapshot(name, sequence, SimulatedStatus.INIT, None, None)
        if now < start:
            return StageSnapshot(name, sequence, SimulatedStatus.QUEUED, None, None)
        if now < end:
            return StageSnapshot(name, sequence, active, start, None)
        last = sequence == len(self.spans) - 1
        return StageSnapshot(
            name, sequence, self.final_status if last else SimulatedStatus.COMPLETED, start, end
        )


@dataclass(frozen=True, slots=True)
class Origin:
    """Trigger, executor and source revision of a run; None for values that its trigger does not have."""

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
class RunSnapshot:
    """State of a run at a given time; times are Unix seconds.

    `end` is None until the run has ended and the end is reported. Jobs and steps are derived from `plan`, which is not
    part of any response. `custom_status` is a status text outside the vendor's list that replaces the status, or None.
    """

    pipeline_id: str
    id: str
    number: int
    status: SimulatedStatus
    start: float
    end: float | None
    stages: tuple[StageSnapshot, ...]
    origin: Origin
    plan: RunPlan = field(repr=False)
    custom_status: str | None = None

    @property
    def status_text(self) -> str:
        """The status text that the cloud reports."""
        return self.custom_status or self.status.value


_CANCELED_SHARE = 0.04
_IGNORED_SHARE = 0.01
_SLOW_SHARE = 0.02
_PAUSED_SHARE = 0.05
_BUSY_POOL_SHARE = 0.1


def plan_run(
    rng: Random, start: int, stages: tuple[tuple[str, int], ...], period: int, failing: float
) -> RunPlan:
    """Return the plan of the run that starts at `start`.

    `stages` are (name, usual duration in seconds). `period` is the number of seconds between two starts of the
    pipeline; it limits a pause. `failing` is the fraction of its runs that fail.
    """
    final_status = draw_final_status(rng.random(), failing)
    reached = len(stages) if final_status is SimulatedStatus.COMPLETED else rng.randint(1, len(stages))
    paused = rng.randrange(reached) if rng.random() < _PAUSED_SHARE else None
    speed = rng.uniform(0.8, 1.25) * (rng.uniform(1.5, 3) if rng.random() < _SLOW_SHARE else 1)
    pause: tuple[int, int] | None = None
    spans = []
    queued = start
    for sequence in range(reached):
        usual = stages[sequence][1]
        wait = rng.randint(10, 60) if sequence and rng.random() < _BUSY_POOL_SHARE else rng.randint(1, 3)
        started = queued + wait
        cut_short = (
            rng.uniform(0.2, 1)
            if final_status is not SimulatedStatus.COMPLETED and sequence == reached - 1
            else 1
        )
        ended = started + max(1, int(usual * speed * cut_short))
        if sequence == paused:
            middle = (started + ended) // 2
            length = min(int(period * rng.uniform(0.1, 0.5)), 4 * 3600)
            pause = (middle, middle + length)
            ended += length
        spans.append((queued, started, ended))
        queued = ended
    return RunPlan(
        stages=tuple(name for name, _ in stages),
        start=start,
        end=queued,
        final_status=final_status,
        spans=tuple(spans),
        pause=pause,
        pause_status=rng.choice((SimulatedStatus.PAUSED, SimulatedStatus.SUSPEND)),
    )


def draw_final_status(value: float, failing: float) -> SimulatedStatus:
    """Return the final status that a random `value` in [0, 1) selects; `failing` is the fraction of runs that fail."""
    if value < failing:
        return SimulatedStatus.FAILED
    # The other shares apply to the runs that do not fail, so a pipeline that nearly always fails is hardly ever
    # canceled.
    rest = (value - failing) / (1 - failing)
    if rest < _CANCELED_SHARE:
        return SimulatedStatus.CANCELED
    if rest < _CANCELED_SHARE + _IGNORED_SHARE:
        return SimulatedStatus.IGNORED
    return SimulatedStatus.COMPLETED
