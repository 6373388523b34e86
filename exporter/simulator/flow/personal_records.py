"""Records of the personal generation, as observed; the documentation differs in places.

A start or end that has not been reached is null. A run contains values that an exporter must not expose: secret
parameters, and URLs with tokens.
"""

import json
from typing import Any

from exporter.simulator.flow import signed_records
from exporter.simulator.flow.layout import account_id, hash_number, layout
from exporter.simulator.flow.organization import Organization, executor, milliseconds
from exporter.simulator.flow.serialized import SerializedJob, SerializedRun, SerializedStage
from exporter.simulator.flow.signed_records import group, groups, job_id
from exporter.simulator.flow.vocabulary import status_text, trigger
from exporter.simulator.http.answers import Record
from exporter.simulator.world.runs import RunSnapshot
from exporter.simulator.world.world import SimulatedPipeline

SECRET = "simulated-secret-that-belongs-nowhere"  # noqa: S105  # of no use anywhere


def run_record(
    organization: Organization, pipeline: SimulatedPipeline, serialized: SerializedRun, created: int
) -> Record:
    """Return the record of a run with its stages; `created` is its creation time, in Unix milliseconds."""
    run = serialized.run
    return {
        "createTime": created,
        "updateTime": milliseconds(serialized.changed),
        "creatorAccountId": executor(run),
        "modifierAccountId": executor(run),
        "creator": None,
        "modifier": None,
        "pipelineConfigId": None,
        "pipelineId": organization.numbers.of(pipeline),
        "pipelineRunId": run.number,
        "pipelineType": "PIPELINEASCODE" if layout(pipeline).yaml else None,
        "status": status_text(run),
        "triggerMode": trigger(run),
        "stageGroup": groups(serialized, [stage.position.index for stage in serialized.stages]),
        "groups": [{"id": group(pipeline), "name": "demo"}] if group(pipeline) else [],
        "globalParams": [_parameter("VERSION", "1.0"), _parameter("TOKEN", SECRET, encrypted=True)],
        "sources": [_source(pipeline)],
        "stages": [_stage(run, stage) for stage in serialized.stages],
    }


def run_row(
    organization: Organization,
    pipeline: SimulatedPipeline,
    run: RunSnapshot,
    ended: dict[str, Any],
    *,
    status: bool,
) -> Record:
    """Return the row of a run in the list; `ended` has the field of its end, `status` adds the undocumented status."""
    return {
        **({"status": status_text(run)} if status else {}),
        "startTime": milliseconds(run.start),
        "triggerMode": trigger(run),
        "pipelineRunId": run.number,
        "pipelineId": organization.numbers.of(pipeline),
        **ended,
        "creator": None,
        "creatorAccountId": executor(run),
    }


def pipeline_row(organization: Organization, pipeline: SimulatedPipeline, *, documented: bool) -> Record:
    """Return the row of a pipeline in the list, with the observed or the documented keys."""
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


def _source(pipeline: SimulatedPipeline) -> Record:
    serialized = signed_records.source(pipeline)
    name = pipeline.repository.rpartition("/")[2].removesuffix(".git")
    return {
        "name": name,
        "sign": serialized["sign"],
        "type": serialized["type"],
        "label": name,
        "data": {
            "branch": pipeline.branch,
            "repo": pipeline.repository,
            "label": name,
            "isTrigger": True,
            "webhook": f"http://flow.example.com/webhook/{account_id(pipeline.id, 'webhook')}?token={SECRET}",
        },
    }


def _stage(run: RunSnapshot, serialized: SerializedStage) -> Record:
    stage = serialized.stage
    return {
        "index": serialized.position.index,
        "name": stage.name,
        "stageInfo": {
            "id": hash_number(run.id, serialized.position.index),
            "name": stage.name,
            "status": serialized.status_text,
            **_times(stage.start, stage.end),
            "jobs": [_job(run, stage.name, job) for job in serialized.jobs],
        },
    }


def _job(run: RunSnapshot, stage: str, serialized: SerializedJob) -> Record:
    job = serialized.job
    steps = [step.task for step in job.steps]
    # A deployment reports success as soon as it has started.
    deploying = stage == "Deploy" and job.start is not None
    return {
        "id": job_id(run, serialized),
        "jobSign": account_id(serialized.key)[:8],
        "name": job.name,
        "status": serialized.status_text,
        **_times(job.start, job.end),
        "params": json.dumps({"steps": steps, "env": {"TOKEN": SECRET}}) if steps else None,
        "result": json.dumps({"message": "deploy.running", "successful": True}) if deploying else None,
        "actions": [_action(job.sequence)] if job.status.paused else None,
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
