"""Which fields of Flow's answers the metrics show, for their HELP."""

SERVICE = "Flow"

FIELDS = {
    "ci_pipeline_latest_run_status": "status",
    "ci_pipeline_latest_run_number": "pipelineRunId",
    "ci_pipeline_latest_run_start_timestamp_seconds": "startTime",
    "ci_pipeline_latest_run_end_timestamp_seconds": "endTime",
    "ci_pipeline_latest_run_stage_status": "stages.stageInfo.status",
    "ci_pipeline_latest_run_stage_start_timestamp_seconds": "stages.stageInfo.startTime",
    "ci_pipeline_latest_run_job_status": "stages.stageInfo.jobs.status",
    "ci_pipeline_latest_run_job_start_timestamp_seconds": "stages.stageInfo.jobs.startTime",
}
"""By family."""
