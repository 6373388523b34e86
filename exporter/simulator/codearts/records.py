"""Records of runs in the vendor's form, which three operations share.

Run times are milliseconds, stage times are local text. This is the vendor's inconsistency; an exporter must cope with
it.
"""

from datetime import datetime, timedelta, timezone
from hashlib import blake2b

from exporter.simulator.http.answers import Record
from exporter.simulator.world.runs import RunSnapshot
from exporter.simulator.world.world import SimulatedPipeline

# The vendor writes stage times in the local time of its home region, without a zone.
_HOME = timezone(timedelta(hours=8))


def derive_id(*parts: object) -> str:
    """Return an id in the vendor's form that depends on the parts only."""
    return blake2b(" ".join(map(str, parts)).encode(), digest_size=16).hexdigest()


def milliseconds(moment: float | None) -> int | None:
    """Return Unix seconds in the vendor's unit."""
    return None if moment is None else round(moment * 1000)


def batch_record(pipeline: SimulatedPipeline, run: RunSnapshot, pages: str) -> Record:
    """Return a run as BatchShowPipelinesLatestStatus reports it.

    `pages` is the URL of the folder of all pages of runs; empty for a token without a region, which gets no addresses.
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
    """Return a run as the lists report it: stages also have an id. `pages` as for a batch."""
    record = batch_record(pipeline, run, pages)
    record["stage_status_list"] = [
        {"id": derive_id(run.id, stage["sequence"]), **stage} for stage in record["stage_status_list"]
    ]
    return record


def build_params(pipeline: SimulatedPipeline, run: RunSnapshot) -> Record:
    """Return the code that a run was built from."""
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
