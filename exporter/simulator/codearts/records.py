"""Records of runs in the form that three of the vendor's operations share.

Run times are in milliseconds, but stage times are text in local time. The vendor is inconsistent, and an exporter must
cope with it.
"""

from datetime import datetime, timedelta, timezone
from hashlib import blake2b

from exporter.simulator.http.answers import Record
from exporter.simulator.world.runs import RunSnapshot
from exporter.simulator.world.world import SimulatedPipeline

# The vendor writes stage times in the local time of its home region, without a zone.
_HOME = timezone(timedelta(hours=8))


def derive_id(*parts: object) -> str:
    """Return an id in the vendor's form; equal parts give equal ids."""
    return blake2b(" ".join(map(str, parts)).encode(), digest_size=16).hexdigest()


def milliseconds(moment: float | None) -> int | None:
    """Convert Unix seconds to milliseconds, the vendor's unit; None stays None."""
    return None if moment is None else round(moment * 1000)


def batch_record(pipeline: SimulatedPipeline, run: RunSnapshot, pages: str) -> Record:
    """Return a run as BatchShowPipelinesLatestStatus reports it.

    `pages` is the URL prefix of `detail_url`. It is empty for a token without a region, whose records have no URL.
    """
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
        "status": run.status_text,
        "run_number": run.number,
        "trigger_type": origin.trigger,
        "build_params": build_params(pipeline, run) | {"git_url": pipeline.repository},
        "artifact_params": None,
        "start_time": milliseconds(run.start),
        "end_time": milliseconds(run.end),
        "detail_url": f"{pages}/{run.pipeline_id}/{run.id}" if pages else "",
    }


def list_record(pipeline: SimulatedPipeline, run: RunSnapshot, pages: str) -> Record:
    """Return a run as the lists report it: stages also have an id. `pages` is as in `batch_record`."""
    record = batch_record(pipeline, run, pages)
    record["stage_status_list"] = [
        {"id": derive_id(run.id, stage["sequence"]), **stage} for stage in record["stage_status_list"]
    ]
    return record


def build_params(pipeline: SimulatedPipeline, run: RunSnapshot) -> Record:
    """Return the source revision that a run was built from."""
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
