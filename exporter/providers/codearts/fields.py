"""Which fields of CodeArts' answers the metrics show, for their HELP."""

SERVICE = "CodeArts"

FIELDS = {
    "ci_pipeline_latest_run_status": "status",
    "ci_pipeline_latest_run_number": "run_number",
    "ci_pipeline_latest_run_start_timestamp_seconds": "start_time",
    "ci_pipeline_latest_run_end_timestamp_seconds": "end_time",
    "ci_pipeline_latest_run_stage_status": "stage_status_list.status",
    "ci_pipeline_latest_run_stage_start_timestamp_seconds": "stage_status_list.start_time, read in stage_time_zone",
    "ci_pipeline_latest_run_job_status": "stages.jobs.status of run details",
    "ci_pipeline_latest_run_job_start_timestamp_seconds": "stages.jobs.start_time of run details",
    "ci_pipeline_latest_run_step_status": "stages.jobs.steps.status of run details",
}
"""By family."""
