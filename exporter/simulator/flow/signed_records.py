"""Records of the signed generation, in the form of its published examples.

A start or end that has not been reached is absent. The record of a whole run has neither start nor end.
"""

import json
from typing import Any

from exporter.simulator.flow.layout import account_id, hash_number
from exporter.simulator.flow.organization import Organization, executor, milliseconds
from exporter.simulator.flow.serialized import SerializedJob, SerializedRun, SerializedStage
from exporter.simulator.flow.vocabulary import status_text, trigger
from exporter.simulator.http.answers import Record
from exporter.simulator.world.runs import RunSnapshot
from exporter.simulator.world.world import SimulatedPipeline


def run_record(
    organization: Organization, pipeline: SimulatedPipeline, serialized: SerializedRun, created: int
) -> Record:
    """Return the record of a run with its stages; `created` is its creation time, in Unix milliseconds."""
    run = serialized.run
    return {
        "creatorAccountId": executor(run),
        "createTime": created,
        "updateTime": milliseconds(serialized.changed),
        "modifierAccountId": executor(run),
        "pipelineId": organization.numbers.of(pipeline),
        "pipelineRunId": run.number,
        "status": status_text(run),
        "triggerMode": trigger(run),
        "stageGroup": groups(serialized, [stage.stage.name for stage in serialized.stages]),
        "sources": [source(pipeline)],
        "stages": [_stage(run, stage) for stage in serialized.stages],
    }


def run_row(
    organization: Organization, pipeline: SimulatedPipeline, run: RunSnapshot, ended: dict[str, Any]
) -> Record:
    """Return the row of a run in the list; `ended` has the field of its end, if any."""
    return {
        "pipelineId": organization.numbers.of(pipeline),
        "pipelineRunId": run.number,
        "status": status_text(run),
        "triggerMode": trigger(run),
        "startTime": milliseconds(run.start),
        **ended,
        "creatorAccountId": executor(run),
    }


def pipeline_row(organization: Organization, pipeline: SimulatedPipeline) -> Record:
    """Return the row of a pipeline in the list, which contains nothing about its runs."""
    return {
        "pipelineId": organization.numbers.of(pipeline),
        "pipelineName": pipeline.name,
        "createTime": milliseconds(pipeline.created),
        "creatorAccountId": organization.creator(pipeline),
        "groupId": group(pipeline),
    }


def pipeline_record(organization: Organization, pipeline: SimulatedPipeline) -> Record:
    """Return the record of a pipeline, which contains neither its id nor its runs."""
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
        "tagList": [{"id": hash_number(pipeline.id, "tag"), "name": pipeline.name.split("-")[0]}],
        "pipelineConfig": {
            "flow": "stages: {}\n",
            "settings": "{}",
            "sources": [source(pipeline)],
        },
    }


def groups(serialized: SerializedRun, names: list[str]) -> list[list[str]]:
    """Return `names`, one for each stage, by group. Groups run one after the other, stages of a group in parallel."""
    arranged: list[list[str]] = []
    for stage, name in zip(serialized.stages, names, strict=True):
        if stage.position.stage == 0:
            arranged.append([])
        arranged[-1].append(name)
    return arranged


def group(pipeline: SimulatedPipeline) -> int:
    """Return the id of the pipeline's group; 0 without one."""
    return 0 if pipeline.index % 4 == 0 else hash_number("group", pipeline.index % 4)


def job_id(run: RunSnapshot, job: SerializedJob) -> int:
    """Return the id of a job, which differs in each run."""
    return hash_number(run.id, job.key)


def source(pipeline: SimulatedPipeline) -> Record:
    """Return the source repository of a pipeline."""
    return {
        "sign": account_id(pipeline.id, "source"),
        "type": "Codeup",
        "data": {
            "branch": pipeline.branch,
            # The vendor's spelling; the documentation shows no other value.
            "commint": "{}",
            "repo": pipeline.repository,
        },
    }


def _stage(run: RunSnapshot, serialized: SerializedStage) -> Record:
    stage = serialized.stage
    return {
        "name": stage.name,
        "stageInfo": {
            **_times(stage.start, stage.end),
            "name": stage.name,
            "status": serialized.status_text,
            "jobs": [_job(run, job) for job in serialized.jobs],
        },
    }


def _job(run: RunSnapshot, serialized: SerializedJob) -> Record:
    job = serialized.job
    return {
        **_times(job.start, job.end),
        "id": job_id(run, serialized),
        "name": job.name,
        "params": json.dumps({"steps": [step.task for step in job.steps]}),
        "status": serialized.status_text,
        "actions": [
            {"type": "PassPipelineValidate", "disable": not job.status.paused, "params": {"key": ""}},
        ],
    }


def _times(start: int | None, end: int | None) -> Record:
    times = {"startTime": start, "endTime": end}
    return {key: milliseconds(moment) for key, moment in times.items() if moment is not None}
