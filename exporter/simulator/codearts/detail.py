"""ShowPipelineRunDetail: one run down to its steps, in the wire shape of the vendor's published example.

Here, unlike in the batch, stage times are milliseconds.
"""

from exporter.simulator.codearts.records import build_params, identity, milliseconds
from exporter.simulator.http.answers import Good
from exporter.simulator.http.faults import Record
from exporter.simulator.service import no_run
from exporter.simulator.world.jobs import Job, Step, jobs
from exporter.simulator.world.project import Project
from exporter.simulator.world.runs import Run, Stage, Status
from exporter.simulator.world.world import Pipeline, World

_BROKEN = '{"errorMessage":"The build task failed: exit code 1","errorCode":"DEV-CODECI-35002"}'


def detail(project: Project, pipeline: Pipeline, run_id: str | None, now: float) -> Good:
    """Answer with the run of that id, or without one the latest, as it stands at `now`.

    Raises `DeclinedError` if there is no such run of the pipeline, or none at all.
    """
    runs = project.runs
    run = runs.run(pipeline, run_id, now) if run_id else runs.latest_run(pipeline, now)
    if run is None:
        raise no_run()
    return Good(_record(project.world, pipeline, run, now), runs=(run,))


def _record(world: World, pipeline: Pipeline, run: Run, now: float) -> Record:
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
        "status": run.said,
        "trigger_type": origin.trigger,
        "run_number": run.number,
        "start_time": milliseconds(run.start),
        "end_time": milliseconds(run.end),
        "stages": [_stage(pipeline, run, stage, now) for stage in run.stages],
        "domain_id": world.domain_id,
        "project_id": world.project_id,
        "region": world.region,
        "component_id": "",
        "language": "zh-cn",
        "sources": [_source(pipeline, run)],
        "artifacts": None,
        "subject_id": run.id,
        "current_system_time": int(now * 1000),
    }


def _stage(pipeline: Pipeline, run: Run, stage: Stage, now: float) -> Record:
    own = identity(run.id, stage.sequence)
    # A stage lets itself in at the moment it begins.
    begun = Status.INIT if stage.start is None else Status.COMPLETED
    entry = Step(None, "official_devcloud_autoTrigger", None, 0, begun, stage.start, stage.start)
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


def _job(pipeline: Pipeline, stage: int, stage_id: str, job: Job) -> Record:
    own = identity(stage_id, job.sequence)
    lot = identity(pipeline.id, stage, job.sequence)
    return {
        "id": own,
        "category": None,
        "sequence": job.sequence,
        "async": None,
        "name": job.name,
        # The same in every run: when the job was made, and something random.
        "identifier": f"{pipeline.created * 1000}{lot[:8]}-{lot[8:12]}-{lot[12:16]}-{lot[16:20]}-{lot[20:]}",
        "depends_on": [],
        "condition": None,
        "resource": None,
        "is_select": job.selected,
        "timeout": "",
        "last_dispatch_id": identity(own, "dispatch") if job.start is not None else None,
        "status": job.status,
        "message": _BROKEN if job.status is Status.FAILED else None,
        "start_time": milliseconds(job.start),
        "end_time": milliseconds(job.end),
        "steps": [_step(own, step) for step in job.steps],
    }


def _step(parent: str, step: Step) -> Record:
    own = identity(parent, "step", step.sequence)
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
        "last_dispatch_id": identity(own, "dispatch") if step.start is not None else None,
        "status": step.status,
        "message": _BROKEN if step.status is Status.FAILED else None,
        "start_time": milliseconds(step.start),
        "end_time": milliseconds(step.end),
    }


def _source(pipeline: Pipeline, run: Run) -> Record:
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
