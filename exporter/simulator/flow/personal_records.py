"""The wire shapes of the personal generation, as they have been seen, which is not always as they are documented.

What has not begun or ended is null. Much of a run is nobody's business: secrets among the parameters, and addresses that
are secrets.
"""

import json
from typing import Any

from exporter.simulator.flow import signed_records
from exporter.simulator.flow.layout import account, drawn, layout
from exporter.simulator.flow.organization import Organization, executor, milliseconds
from exporter.simulator.flow.serialized import Told, ToldJob, ToldStage
from exporter.simulator.flow.signed_records import group, groups, job_id
from exporter.simulator.flow.vocabulary import said, trigger
from exporter.simulator.http.faults import Record
from exporter.simulator.world.runs import Run
from exporter.simulator.world.world import Pipeline

SECRET = "simulated-secret-that-belongs-nowhere"  # noqa: S105  # of no use anywhere


def run_record(organization: Organization, pipeline: Pipeline, told: Told, created: int) -> Record:
    """Tell a whole run; `created` is the moment of its record, in milliseconds."""
    run = told.run
    return {
        "createTime": created,
        "updateTime": milliseconds(told.changed),
        "creatorAccountId": executor(run),
        "modifierAccountId": executor(run),
        "creator": None,
        "modifier": None,
        "pipelineConfigId": None,
        "pipelineId": organization.numbers.of(pipeline),
        "pipelineRunId": run.number,
        "pipelineType": "PIPELINEASCODE" if layout(pipeline).yaml else None,
        "status": said(run),
        "triggerMode": trigger(run),
        "stageGroup": groups(told, [stage.place.index for stage in told.stages]),
        "groups": [{"id": group(pipeline), "name": "demo"}] if group(pipeline) else [],
        "globalParams": [_parameter("VERSION", "1.0"), _parameter("TOKEN", SECRET, encrypted=True)],
        "sources": [_source(pipeline)],
        "stages": [_stage(run, stage) for stage in told.stages],
    }


def run_row(
    organization: Organization, pipeline: Pipeline, run: Run, ended: dict[str, Any], *, status: bool
) -> Record:
    """Tell a run as the list does, with its end as `ended` has it; its status is not documented."""
    return {
        **({"status": said(run)} if status else {}),
        "startTime": milliseconds(run.start),
        "triggerMode": trigger(run),
        "pipelineRunId": run.number,
        "pipelineId": organization.numbers.of(pipeline),
        **ended,
        "creator": None,
        "creatorAccountId": executor(run),
    }


def pipeline_row(organization: Organization, pipeline: Pipeline, *, documented: bool) -> Record:
    """Tell a pipeline as the list does, with the keys that were seen or those that are documented."""
    number, creator = organization.numbers.of(pipeline), organization.creator(pipeline)
    created = milliseconds(pipeline.created)
    if documented:
        return {
            "createTime": created,
            "pipelineId": number,
            "pipelineName": pipeline.name,
            "createAccountId": creator,
        }
    return {
        "name": pipeline.name,
        "owner": None,
        "pipelineConfig": None,
        "id": number,
        "createTime": created,
        "modifierAccountId": None,
        "creatorAccountId": creator,
        "updateTime": None,
        "groupId": group(pipeline),
        "envName": None,
        "envId": None,
        "tagList": None,
        "pipelineConfigId": None,
        "creator": {"id": creator, "username": None},
        "modifier": None,
    }


def _parameter(key: str, value: str, *, encrypted: bool = False) -> Record:
    return {
        "key": key,
        "value": value,
        "encrypted": encrypted,
        "masked": encrypted,
        "runningConfig": False,
        "metaData": None,
        "type": "CUSTOM",
        "description": None,
        "optionType": None,
    }


def _source(pipeline: Pipeline) -> Record:
    told = signed_records.source(pipeline)
    name = pipeline.repository.rpartition("/")[2].removesuffix(".git")
    return {
        "name": name,
        "sign": told["sign"],
        "type": told["type"],
        "label": name,
        "data": {
            "branch": pipeline.branch,
            "repo": pipeline.repository,
            "label": name,
            "isTrigger": True,
            "webhook": f"http://flow.example.com/webhook/{account(pipeline.id, 'webhook')}?token={SECRET}",
        },
    }


def _stage(run: Run, told: ToldStage) -> Record:
    stage = told.stage
    return {
        "index": told.place.index,
        "name": stage.name,
        "stageInfo": {
            "id": drawn(run.id, told.place.index),
            "name": stage.name,
            "status": told.word,
            **_times(stage.start, stage.end),
            "jobs": [_job(run, stage.name, job) for job in told.jobs],
        },
    }


def _job(run: Run, stage: str, told: ToldJob) -> Record:
    job = told.job
    steps = [step.task for step in job.steps]
    # A deployment says that it is successful as soon as it is under way.
    deploying = stage == "Deploy" and job.start is not None
    return {
        "id": job_id(run, told),
        "jobSign": account(told.key)[:8],
        "name": job.name,
        "status": told.word,
        **_times(job.start, job.end),
        "params": json.dumps({"steps": steps, "env": {"TOKEN": SECRET}}) if steps else None,
        "result": json.dumps({"message": "deploy.running", "successful": True}) if deploying else None,
        "actions": [_action(job.sequence)] if job.status.held else None,
    }


def _action(order: int) -> Record:
    return {
        "type": "PassPipelineValidate",
        "displayType": "BUTTON",
        "name": "pass",
        "title": "通过",
        "order": order,
        "disable": False,
        "data": None,
        "params": None,
    }


def _times(start: int | None, end: int | None) -> Record:
    times = {"startTime": start, "endTime": end}
    return {key: None if moment is None else milliseconds(moment) for key, moment in times.items()}
