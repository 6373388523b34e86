"""ShowPipelineRunDetail: one run with its stages, jobs and steps, in the form of the vendor's published example.

Stage times are in milliseconds here, but text in local time in the batch operation.
"""

from exporter.simulator.codearts.errors import no_run
from exporter.simulator.codearts.records import build_params, derive_id, milliseconds
from exporter.simulator.http.answers import Answer, Record
from exporter.simulator.world.jobs import JobSnapshot, StepSnapshot, jobs
from exporter.simulator.world.project import SimulatedProject
from exporter.simulator.world.runs import RunSnapshot, SimulatedStatus, StageSnapshot
from exporter.simulator.world.world import SimulatedPipeline

_BROKEN = '{"errorMessage":"The build task failed: exit code 1","errorCode":"DEV-CODECI-35002"}'


def detail(
    project: SimulatedProject, pipeline: SimulatedPipeline, run_id: str | None, now: float, pages: str
) -> Answer:
    """Return the run with that id, by default the latest run, at `now`; `pages` is as in `batch_record`.

    Raises `DeclinedError` if the pipeline has no such run.
    """
    runs = project.runs
    run = runs.run(pipeline, run_id, now) if run_id else runs.latest_run(pipeline, now)
    if run is None:
        raise no_run()
    return Answer(_record(project, pipeline, run, now, pages), runs=(run,))


def _record(
    project: SimulatedProject, pipeline: SimulatedPipeline, run: RunSnapshot, now: float, pages: str
) -> Record:
    origin = run.origin
    return {
        "id": run.id,
        "pipeline_id": pipeline.id,
        "manifest_version": "3.0",
        "name": pipeline.name,
        "description": None,
        "is_publish": False,
        "executor_id": origin.executor_id,
        "executor_name": origin.executor_name,
        "status": run.status_text,
        "trigger_type": origin.trigger,
        "run_number": run.number,
        "start_time": milliseconds(run.start),
        "end_time": milliseconds(run.end),
        "stages": [_stage(pipeline, run, stage, now) for stage in run.stages],
        "domain_id": project.domain_id,
        "project_id": project.world.project_id,
        "region": project.world.region,
        "component_id": "",
        "language": "zh-cn",
        "sources": [_source(pipeline, run)],
        "artifacts": None,
        "subject_id": run.id,
        "detail_url": f"{pages}/{pipeline.id}/{run.id}" if pages else "",
        "current_system_time": int(now * 1000),
    }


def _stage(pipeline: SimulatedPipeline, run: RunSnapshot, stage: StageSnapshot, now: float) -> Record:
    own = derive_id(run.id, stage.sequence)
    # The entry step of a stage completes when the stage starts.
    entry_status = SimulatedStatus.INIT if stage.start is None else SimulatedStatus.COMPLETED
    entry = StepSnapshot(
        None, "official_devcloud_autoTrigger", None, 0, entry_status, stage.start, stage.start
    )
    return {
        "id": own,
        "category": None,
        "name": stage.name,
        "identifier": str(stage.sequence),
        "run_always": False,
        "parallel": None,
        "is_select": True,
        "sequence": stage.sequence,
        "depends_on": [str(stage.sequence - 1)] if stage.sequence else [],
        "condition": None,
        "status": stage.status,
        "start_time": milliseconds(stage.start),
        "end_time": milliseconds(stage.end),
        "pre": [_step(f"{own} pre", entry)],
        "post": [],
        "jobs": [
            _job(pipeline, stage.sequence, own, job) for job in jobs(pipeline, run, stage.sequence, now)
        ],
    }


def _job(pipeline: SimulatedPipeline, stage: int, stage_id: str, job: JobSnapshot) -> Record:
    own = derive_id(stage_id, job.sequence)
    digest = derive_id(pipeline.id, stage, job.sequence)
    return {
        "id": own,
        "category": None,
        "sequence": job.sequence,
        "async": None,
        "name": job.name,
        # The same in every run: the creation time of the job and random digits.
        "identifier": f"{pipeline.created * 1000}{digest[:8]}-{digest[8:12]}-{digest[12:16]}-{digest[16:20]}-{digest[20:]}",
        "depends_on": [],
        "condition": None,
        "resource": None,
        "is_select": job.selected,
        "timeout": "",
        "last_dispatch_id": derive_id(own, "dispatch") if job.start is not None else None,
        "status": job.status,
        "message": _BROKEN if job.status is SimulatedStatus.FAILED else None,
        "start_time": milliseconds(job.start),
        "end_time": milliseconds(job.end),
        "steps": [_step(own, step) for step in job.steps],
    }


def _step(parent: str, step: StepSnapshot) -> Record:
    own = derive_id(parent, "step", step.sequence)
    return {
        "name": step.name,
        "task": step.task,
        "business_type": step.business_type,
        "inputs": None,
        "sequence": step.sequence,
        "official_task_version": None,
        "identifier": None,
        "multi_step_editable": 0,
        "id": own,
        "endpoint_ids": None,
        "last_dispatch_id": derive_id(own, "dispatch") if step.start is not None else None,
        "status": step.status,
        "message": _BROKEN if step.status is SimulatedStatus.FAILED else None,
        "start_time": milliseconds(step.start),
        "end_time": milliseconds(step.end),
    }


def _source(pipeline: SimulatedPipeline, run: RunSnapshot) -> Record:
    return {
        "type": "code",
        "params": {
            "git_type": "codehub",
            "git_url": pipeline.repository,
            "ssh_git_url": f"git@codehub.example.com:demo/{pipeline.repository.rpartition('/')[2]}",
            "web_url": "",
            "repo_name": pipeline.repository.rpartition("/")[2].removesuffix(".git"),
            "default_branch": pipeline.branch,
            "endpoint_id": "",
            "codehub_id": pipeline.repository_id,
            "alias": "",
            "build_params": build_params(pipeline, run),
        },
    }
