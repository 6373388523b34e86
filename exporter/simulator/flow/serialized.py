"""Runs as Flow reports them: whole seconds, Flow's states, parallel stages.

The results contain run snapshots without the values that a response omits, so a scenario can record them.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TypeVar

from exporter.simulator.flow.layout import ParallelStage, StagePosition, hash_number, layout
from exporter.simulator.flow.vocabulary import normalize, status_name
from exporter.simulator.world.jobs import JobSnapshot, jobs
from exporter.simulator.world.runs import RunPlan, RunSnapshot, SimulatedStatus, StageSnapshot
from exporter.simulator.world.world import SimulatedPipeline

# Duration of a planned cancellation.
_CANCELLING_SECONDS = 3
# One in this many stages and jobs reports its success as FINISH.
_FINISH_ONE_IN = 12

P = TypeVar("P", StageSnapshot, JobSnapshot)


@dataclass(frozen=True, slots=True)
class SerializedJob:
    """A job with its status text; `key` is the same in every run."""

    key: str
    status_text: str
    job: JobSnapshot


@dataclass(frozen=True, slots=True)
class SerializedStage:
    """A stage with its position, its status text and its jobs."""

    position: StagePosition
    status_text: str
    stage: StageSnapshot
    jobs: tuple[SerializedJob, ...]


@dataclass(frozen=True, slots=True)
class SerializedRun:
    """A run with all its parts; `run.stages` are the stages of `stages`, in the same order.

    `changed` is the time of the last visible change, in Unix seconds.
    """

    run: RunSnapshot
    stages: tuple[SerializedStage, ...]
    changed: float


def summarize(run: RunSnapshot) -> RunSnapshot:
    """Return a run as lists report it: in whole seconds, with a state of Flow, and without stages."""
    return replace(
        run,
        status=normalize(run.status),
        start=int(run.start),
        end=None if run.end is None else int(run.end),
        stages=(),
    )


def serialize(pipeline: SimulatedPipeline, run: RunSnapshot, now: float, end_lag: int = 0) -> SerializedRun:
    """Return a run with all its parts at `now`; the run ends `end_lag` seconds after its last part."""
    stages = tuple(_end_earlier(stage, run.plan.end, end_lag) for stage in _stages(pipeline, run, now))
    reported = replace(summarize(run), stages=tuple(stage.stage for stage in stages))
    moments = [reported.start, reported.end]
    for stage in reported.stages:
        moments += [stage.start, stage.end]
    # A retry is visible before the repeated stage starts again.
    moments += [queued for queued, _, _ in run.plan.spans if queued <= now]
    return SerializedRun(reported, stages, max(moment for moment in moments if moment is not None))


def _stages(pipeline: SimulatedPipeline, run: RunSnapshot, now: float) -> Iterator[SerializedStage]:
    stage_layout = layout(pipeline)
    parallel_stage = stage_layout.parallel_stage
    for stage in run.stages:
        position = StagePosition(stage.sequence, 0)
        seen = replace(stage, name=stage_layout.name(position, stage.name))
        yield _stage(pipeline, run, position, seen, jobs(pipeline, run, stage.sequence, now), now)
        if parallel_stage is not None and parallel_stage.sequence == stage.sequence:
            position = StagePosition(stage.sequence, 1)
            parallel_run = _parallel_run(parallel_stage, run)
            name = stage_layout.name(position, parallel_stage.name)
            seen = replace(parallel_run.plan.stages_at(now)[0], name=name)
            stage_jobs = jobs(parallel_stage.pipeline, parallel_run, 0, now)
            yield _stage(pipeline, run, position, seen, stage_jobs, now)


def _end_earlier(stage: SerializedStage, end: int, lag: int) -> SerializedStage:
    """Move the end of a stage and of its jobs `lag` seconds back, where it is the end of the run."""
    if not lag:
        return stage
    stage_jobs = tuple(replace(job, job=_shift_end(job.job, end, lag)) for job in stage.jobs)
    return replace(stage, stage=_shift_end(stage.stage, end, lag), jobs=stage_jobs)


def _shift_end(part: P, end: int, lag: int) -> P:
    if part.end != end or part.start is None:
        return part
    return replace(part, end=max(part.start, end - lag))


def _parallel_run(parallel_stage: ParallelStage, run: RunSnapshot) -> RunSnapshot:
    """Return a run that consists of the parallel stage; it starts with the other stage and does not pause with it."""
    plan = run.plan
    spans: tuple[tuple[int, int, int], ...] = ()
    complete = True
    if parallel_stage.sequence < len(plan.spans):
        queued, start, _ = plan.spans[parallel_stage.sequence]
        end = min(start + parallel_stage.length, plan.end)
        complete = end == start + parallel_stage.length or plan.final_status is SimulatedStatus.COMPLETED
        spans = ((queued, start, end),)
    own_plan = RunPlan(
        stages=(parallel_stage.name,),
        start=plan.start,
        end=spans[0][2] if spans else plan.end,
        final_status=SimulatedStatus.COMPLETED if complete else SimulatedStatus.CANCELED,
        spans=spans,
        pause=None,
        pause_status=SimulatedStatus.PAUSED,
    )
    return replace(run, id=f"{run.id} aside", plan=own_plan)


def _stage(
    pipeline: SimulatedPipeline,
    run: RunSnapshot,
    position: StagePosition,
    stage: StageSnapshot,
    stage_jobs: tuple[JobSnapshot, ...],
    now: float,
) -> SerializedStage:
    key = f"{pipeline.id} {position.index}"
    stage = _normalize_part(run, stage)
    serialized_jobs = tuple(
        SerializedJob(job_key, _part_status(run, job.status, job_key, now), job)
        for job_key, job in ((f"{key} {job.sequence}", _normalize_part(run, job)) for job in stage_jobs)
    )
    return SerializedStage(position, _part_status(run, stage.status, key, now), stage, serialized_jobs)


def _normalize_part(run: RunSnapshot, part: P) -> P:
    """Return a stage or job in a state that Flow has, without an end that the run does not report."""
    status, end = normalize(part.status), part.end
    if run.status is SimulatedStatus.IGNORED and status is SimulatedStatus.INIT:
        # Parts after an ignored failure are skipped, not pending.
        status = SimulatedStatus.SKIPPED
    if run.status.finished and run.end is None and end == run.plan.end:
        # While the end of a run is not reported, its last stage and job do not reveal it.
        end = None
    return replace(part, status=status, end=end)


def _part_status(run: RunSnapshot, status: SimulatedStatus, key: str, now: float) -> str:
    plan = run.plan
    if (
        status is SimulatedStatus.RUNNING
        and plan.final_status is SimulatedStatus.CANCELED
        and now >= plan.end - _CANCELLING_SECONDS
    ):
        return "CANCELLING"
    if status is SimulatedStatus.COMPLETED and hash_number(key) % _FINISH_ONE_IN == 0:
        return "FINISH"
    return status_name(status)
