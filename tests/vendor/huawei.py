"""Read and sign with Huawei Cloud's SDK; runs in an environment of its own."""

from huaweicloudsdkcodeartspipeline.v2 import (
    BatchShowPipelinesLatestStatusRequest,
    CodeArtsPipelineClient,
    ListPipelineQuery,
    ListPipelineRunsQuery,
    ListPipelineRunsRequest,
    ListPipelinesRequest,
    ShowPipelineRunDetailRequest,
)
from huaweicloudsdkcore.auth.credentials import BasicCredentials
from huaweicloudsdkcore.sdk_request import SdkRequest
from huaweicloudsdkcore.signer.signer import Signer
from huaweicloudsdkprojectman.v4 import ListProjectsV4Request, ProjectManClient


def read(task):
    """Return the names and runs of pipelines in the list, batch, details and run lists, by pipeline id."""
    credentials = BasicCredentials(task["access_key"], task["secret_key"], task["iam_project_id"])
    builder = CodeArtsPipelineClient.new_builder().with_credentials(credentials)
    client = builder.with_endpoint(task["url"]).build()
    project = task["project_id"]
    batch = client.batch_show_pipelines_latest_status(
        BatchShowPipelinesLatestStatusRequest(project_id=project, body=task["ids"])
    )
    query = ListPipelineQuery(project_id=project, offset=0, limit=100)
    listing = client.list_pipelines(ListPipelinesRequest(project_id=project, body=query))
    listed = {pipeline.pipeline_id: pipeline for pipeline in listing.pipelines}
    details = {}
    for run in batch.body:
        request = ShowPipelineRunDetailRequest(
            project_id=project, pipeline_id=run.pipeline_id, pipeline_run_id=run.pipeline_run_id
        )
        details[run.pipeline_id] = client.show_pipeline_run_detail(request)
    newest = ListPipelineRunsQuery(offset=2, limit=10, sort_key="start_time", sort_dir="desc")
    pages = {}
    for identity in listed:
        request = ListPipelineRunsRequest(project_id=project, pipeline_id=identity, body=newest)
        pages[identity] = client.list_pipeline_runs(request).pipeline_runs
    return {
        "names": {identity: pipeline.name for identity, pipeline in listed.items()},
        "batch": {run.pipeline_id: short(run, run.stage_status_list) for run in batch.body},
        "list": {
            identity: short(pipeline.latest_run, pipeline.latest_run.stage_status_list)
            for identity, pipeline in listed.items()
            if pipeline.latest_run
        },
        "details": {identity: short(run, run.stages) for identity, run in details.items()},
        "runs": {
            identity: [[run.pipeline_run_id, *short(run, run.stage_status_list)] for run in page]
            for identity, page in pages.items()
        },
    }


def projects(task):
    """Return the first twenty projects as [id, name, creation in milliseconds], in the order of the list."""
    credentials = BasicCredentials(task["access_key"], task["secret_key"], task["iam_project_id"])
    client = ProjectManClient.new_builder().with_credentials(credentials).with_endpoint(task["url"]).build()
    rows = [
        row
        for offset in (0, 10)
        for row in client.list_projects_v4(ListProjectsV4Request(offset=offset, limit=10)).projects
    ]
    return [[row.project_id, row.project_name, row.created_time] for row in rows]


def short(run, stages):
    """Return the values to compare: status, number, start and end in milliseconds, names and states of stages."""
    return [
        run.status,
        run.run_number,
        run.start_time,
        run.end_time or None,
        [[stage.name, stage.status] for stage in stages],
    ]


def sign(task):
    """Return the Authorization header that the SDK's signer creates for each request."""
    credentials = BasicCredentials(task["access_key"], task["secret_key"])
    signed = []
    for request in task["requests"]:
        sdk = SdkRequest(
            method=request["method"],
            schema="https",
            host=request["headers"]["Host"],
            resource_path=request["path"],
            uri=None,
            query_params=[tuple(pair) for pair in request["query"]],
            header_params={
                name: value for name, value in request["headers"].items() if name != "Authorization"
            },
            body=request["body"],
        )
        signed.append(Signer(credentials).sign(sdk).header_params["Authorization"])
    return signed
