"""Jobs and steps of a stage, as of a given time.

They follow from the plan of the run. The time of a stage is divided among its jobs, which run one after the other. The
time of a job is divided among its steps.
"""

from dataclasses import dataclass
from itertools import pairwise
from random import Random

from exporter.simulator.world.runs import RunSnapshot, SimulatedStatus
from exporter.simulator.world.world import SimulatedPipeline

_JOBS = ("Checkout", "Compile", "Unit tests", "Package", "Lint", "Publish", "Scan", "Notify")
# (plug-in, business type, name) of each step; some steps have no name.
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
class StepSnapshot:
    """State of a step at a given time; `start` and `end` are Unix seconds, or None until reached."""

    name: str | None
    task: str
    business_type: str | None
    sequence: int
    status: SimulatedStatus
    start: int | None
    end: int | None


@dataclass(frozen=True, slots=True)
class JobSnapshot:
    """State of a job at a given time; `selected` is False if the run omits the job.

    `start` and `end` are Unix seconds, or None until reached.
    """

    name: str
    sequence: int
    selected: bool
    status: SimulatedStatus
    start: int | None
    end: int | None
    steps: tuple[StepSnapshot, ...]


@dataclass(frozen=True, slots=True)
class _Interval:
    """Planned time range of a job or step, in Unix seconds, and the status in which it ends."""

    start: int
    end: int
    final_status: SimulatedStatus

    def at(self, now: float, active: SimulatedStatus) -> tuple[SimulatedStatus, int | None, int | None]:
        """Return status, start and end at `now`; between start and end the status is `active`."""
        if now < self.start:
            return SimulatedStatus.INIT, None, None
        if now < self.end:
            return active, self.start, None
        return self.final_status, self.start, self.end


def jobs(pipeline: SimulatedPipeline, run: RunSnapshot, sequence: int, now: float) -> tuple[JobSnapshot, ...]:
    """Return the jobs of stage `sequence` of `run` at `now`.

    A failed stage has one failed job, which has one failed step. Later jobs and steps stay INIT. The first job that
    runs starts with the stage, and the last one ends with it.
    """
    plan = run.plan
    rng = Random(f"{run.id} jobs {sequence}")
    planned = _plan(pipeline, sequence)
    idle = _idle(rng, len(planned))
    queued, intervals = None, []
    if sequence < len(plan.spans):
        queued, start, end = plan.spans[sequence]
        final_status = plan.final_status if sequence == len(plan.spans) - 1 else SimulatedStatus.COMPLETED
        intervals = _split(rng, start, end, idle.count(None), final_status, plan.pause)
    waiting = iter(intervals)
    next_start: float = intervals[0].start if intervals else float("inf")
    snapshots = []
    for index, (name, tasks) in enumerate(planned):
        idle_status = idle[index]
        interval = next(waiting, None) if idle_status is None else None
        seen: tuple[SimulatedStatus, int | None, int | None] = (SimulatedStatus.INIT, None, None)
        if idle_status is SimulatedStatus.UNSELECTED or (
            idle_status is SimulatedStatus.SKIPPED and now >= next_start
        ):
            seen = idle_status, None, None
        elif interval is not None:
            seen = interval.at(now, plan.status(now))
            if queued is not None and interval is intervals[0] and queued <= now < interval.start:
                seen = SimulatedStatus.QUEUED, None, None
        if idle_status is None:
            # No job starts after a failed one.
            next_start = (
                interval.end
                if interval and interval.final_status is SimulatedStatus.COMPLETED
                else float("inf")
            )
        steps = _steps(rng, tasks, interval, plan.pause, now)
        snapshots.append(
            JobSnapshot(name, index, idle_status is not SimulatedStatus.UNSELECTED, *seen, steps)
        )
    return tuple(snapshots)


def _plan(pipeline: SimulatedPipeline, sequence: int) -> list[tuple[str, list[int]]]:
    """Return (name, step indices) of each job in a stage; all runs of the pipeline have the same jobs."""
    rng = Random(f"{pipeline.id} jobs {sequence}")
    count = rng.choices((1, 2, 3, 4), (50, 30, 15, 5))[0]
    names = rng.sample(_JOBS, count)
    if Random(f"{pipeline.id} matrix").random() < _MATRIX_SHARE:
        names = names[:1] * count
    return [(name, rng.sample(range(len(_STEPS)), rng.choices((1, 2, 3), (55, 30, 15))[0])) for name in names]


def _idle(rng: Random, count: int) -> list[SimulatedStatus | None]:
    """Draw which of `count` jobs a run omits: UNSELECTED, SKIPPED, or None for a job that runs. At least one runs."""
    values = [rng.random() for _ in range(count)]
    statuses = [
        SimulatedStatus.UNSELECTED
        if value < _UNSELECTED_SHARE
        else SimulatedStatus.SKIPPED
        if value < _UNSELECTED_SHARE + _SKIPPED_SHARE
        else None
        for value in values
    ]
    return statuses if None in statuses else [None, *statuses[1:]]


def _split(
    rng: Random,
    start: int,
    end: int,
    count: int,
    final_status: SimulatedStatus,
    pause: tuple[int, int] | None,
) -> list[_Interval]:
    """Split a time range into consecutive intervals; the last one ends in `final_status`, the others in COMPLETED.

    There are `count` intervals if `final_status` is COMPLETED, and from 1 to `count` otherwise. A pause that begins in
    the range falls within one interval.
    """
    reached = count if final_status is SimulatedStatus.COMPLETED else rng.randint(1, count)
    at, length = end, 0
    if pause is not None and start <= pause[0] < end:
        at, length = pause[0], pause[1] - pause[0]
    cuts = sorted(start + int((end - start - length) * rng.random()) for _ in range(reached - 1))
    bounds = [start, *(cut if cut <= at else cut + length for cut in cuts), end]
    intervals = [_Interval(*bound, SimulatedStatus.COMPLETED) for bound in pairwise(bounds)]
    intervals[-1] = _Interval(bounds[-2], end, final_status)
    return intervals


def _steps(
    rng: Random, tasks: list[int], job: _Interval | None, pause: tuple[int, int] | None, now: float
) -> tuple[StepSnapshot, ...]:
    intervals: list[_Interval] = []
    if job is not None:
        # Steps have fewer states than jobs: the failed step of an ignored job is FAILED.
        final_status = (
            SimulatedStatus.FAILED if job.final_status is SimulatedStatus.IGNORED else job.final_status
        )
        intervals = _split(rng, job.start, job.end, len(tasks), final_status, pause)
    steps = []
    for sequence, task in enumerate(tasks):
        plugin, kind, name = _STEPS[task]
        seen: tuple[SimulatedStatus, int | None, int | None] = (SimulatedStatus.INIT, None, None)
        if sequence < len(intervals):
            seen = intervals[sequence].at(now, SimulatedStatus.RUNNING)
        steps.append(StepSnapshot(name, plugin, kind, sequence, *seen))
    return tuple(steps)
