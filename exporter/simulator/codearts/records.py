"""Runs in the vendor's wire shape, as three operations share it.

Run times are milliseconds, stage times are local text: the vendor's own inconsistency, kept because an
exporter has to cope with it.
"""

from datetime import datetime, timedelta, timezone
from hashlib import blake2b

from exporter.simulator.http.faults import Record
from exporter.simulator.world.runs import Run
from exporter.simulator.world.world import Pipeline

# The vendor writes stage times in the local time of its home region, without saying so.
_HOME = timezone(timedelta(hours=8))


def identity(*parts: object) -> str:
    """Return an id in the vendor's form, the same for the same parts."""
    return blake2b(" ".join(map(str, parts)).encode(), digest_size=16).hexdigest()


def milliseconds(moment: float | None) -> int | None:
    """Return Unix seconds in the vendor's unit."""
    return None if moment is None else round(moment * 1000)


def batch_record(pipeline: Pipeline, run: Run) -> Record:
    """Tell a run as BatchShowPipelinesLatestStatus does."""
    origin = run.origin
    return {
        "pipeline_id": run.pipeline_id,
        "pipeline_run_id": run.id,
        "executor_id": origin.executor_id,
        "executor_name": origin.executor_name,
        "stage_status_list": [
            {
                "name": stage.name,
                "sequence": stage.sequence,
                "status": stage.status,
                "start_time": _local(stage.start),
                "end_time": _local(stage.end),
            }
            for stage in run.stages
        ],
        "status": run.said,
        "run_number": run.number,
        "trigger_type": origin.trigger,
        "build_params": build_params(pipeline, run) | {"git_url": pipeline.repository},
        "artifact_params": None,
        "start_time": milliseconds(run.start),
        "end_time": milliseconds(run.end),
    }


def list_record(pipeline: Pipeline, run: Run) -> Record:
    """Tell a run as the lists do: their stages have an id besides."""
    record = batch_record(pipeline, run)
    record["stage_status_list"] = [
        {"id": identity(run.id, stage["sequence"]), **stage} for stage in record["stage_status_list"]
    ]
    return record


def build_params(pipeline: Pipeline, run: Run) -> Record:
    """Tell what a run was built from."""
    origin = run.origin
    return {
        "action": origin.action,
        "build_type": "branch" if origin.tag is None else "tag",
        "commit_id": origin.commit,
        "event_type": origin.trigger,
        "merge_id": origin.merge_id,
        "message": origin.message,
        "source_branch": origin.source_branch,
        "tag": origin.tag,
        "target_branch": origin.branch,
        "codehub_id": pipeline.repository_id,
    }


def _local(moment: int | None) -> str | None:
    if moment is None:
        return None
    return datetime.fromtimestamp(moment, _HOME).replace(tzinfo=None).isoformat(" ")
