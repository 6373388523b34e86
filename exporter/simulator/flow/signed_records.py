"""The wire shapes of the signed generation, as its published examples have them.

What has not begun or ended has no key for it; the run itself has no times but those of its record.
"""

import json
from typing import Any

from exporter.simulator.flow.layout import account, drawn
from exporter.simulator.flow.organization import Organization, executor, milliseconds
from exporter.simulator.flow.serialized import Told, ToldJob, ToldStage
from exporter.simulator.flow.vocabulary import said, trigger
from exporter.simulator.http.faults import Record
from exporter.simulator.world.runs import Run
from exporter.simulator.world.world import Pipeline


def run_record(organization: Organization, pipeline: Pipeline, told: Told, created: int) -> Record:
    """Tell a whole run; `created` is the moment of its record, in milliseconds."""
    run = told.run
    return {
        "creatorAccountId": executor(run),
        "createTime": created,
        "updateTime": milliseconds(told.changed),
        "modifierAccountId": executor(run),
        "pipelineId": organization.numbers.of(pipeline),
        "pipelineRunId": run.number,
        "status": said(run),
        "triggerMode": trigger(run),
        "stageGroup": groups(told, [stage.stage.name for stage in told.stages]),
        "sources": [source(pipeline)],
        "stages": [_stage(run, stage) for stage in told.stages],
    }


def run_row(organization: Organization, pipeline: Pipeline, run: Run, ended: dict[str, Any]) -> Record:
    """Tell a run as the list does, with its end as `ended` has it."""
    return {
        "pipelineId": organization.numbers.of(pipeline),
        "pipelineRunId": run.number,
        "status": said(run),
        "triggerMode": trigger(run),
        "startTime": milliseconds(run.start),
        **ended,
        "creatorAccountId": executor(run),
    }


def pipeline_row(organization: Organization, pipeline: Pipeline) -> Record:
    """Tell a pipeline as the list does: nothing of its runs."""
    return {
        "pipelineId": organization.numbers.of(pipeline),
        "pipelineName": pipeline.name,
        "createTime": milliseconds(pipeline.created),
        "creatorAccountId": organization.creator(pipeline),
        "groupId": group(pipeline),
    }


def pipeline_record(organization: Organization, pipeline: Pipeline) -> Record:
    """Tell a pipeline: neither its id nor anything of its runs."""
    creator = organization.creator(pipeline)
    return {
        "name": pipeline.name,
        "createTime": milliseconds(pipeline.created),
        "updateTime": milliseconds(pipeline.updated),
        "creatorAccountId": creator,
        "modifierAccountId": creator,
        "envId": pipeline.index % 3,
        "envName": ("日常", "预发", "正式")[pipeline.index % 3],
        "groupId": group(pipeline),
        "tagList": [{"id": drawn(pipeline.id, "tag"), "name": pipeline.name.split("-")[0]}],
        "pipelineConfig": {
            "flow": "stages: {}\n",
            "settings": "{}",
            "sources": [source(pipeline)],
        },
    }


def groups(told: Told, names: list[str]) -> list[list[str]]:
    """Arrange names of all stages as they stand: groups that come one after the other, of stages side by side."""
    arranged: list[list[str]] = []
    for stage, name in zip(told.stages, names, strict=True):
        if stage.place.stage == 0:
            arranged.append([])
        arranged[-1].append(name)
    return arranged


def group(pipeline: Pipeline) -> int:
    """Tell the id of the group that a pipeline is in; 0 is none."""
    return 0 if pipeline.index % 4 == 0 else drawn("group", pipeline.index % 4)


def job_id(run: Run, job: ToldJob) -> int:
    """Tell the id of a job, another one in each run."""
    return drawn(run.id, job.key)


def source(pipeline: Pipeline) -> Record:
    """Tell where the code is."""
    return {
        "sign": account(pipeline.id, "source"),
        "type": "Codeup",
        "data": {
            "branch": pipeline.branch,
            # So it is spelt, and this is all that is known of it.
            "commint": "{}",
            "repo": pipeline.repository,
        },
    }


def _stage(run: Run, told: ToldStage) -> Record:
    stage = told.stage
    return {
        "name": stage.name,
        "stageInfo": {
            **_times(stage.start, stage.end),
            "name": stage.name,
            "status": told.word,
            "jobs": [_job(run, job) for job in told.jobs],
        },
    }


def _job(run: Run, told: ToldJob) -> Record:
    job = told.job
    return {
        **_times(job.start, job.end),
        "id": job_id(run, told),
        "name": job.name,
        "params": json.dumps({"steps": [step.task for step in job.steps]}),
        "status": told.word,
        "actions": [
            {"type": "PassPipelineValidate", "disable": not job.status.held, "params": {"key": ""}},
        ],
    }


def _times(start: int | None, end: int | None) -> Record:
    times = {"startTime": start, "endTime": end}
    return {key: milliseconds(moment) for key, moment in times.items() if moment is not None}
