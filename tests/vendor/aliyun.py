"""Read and sign with Alibaba Cloud's SDK; runs in an environment of its own."""

from typing import Any, get_args, get_origin, get_type_hints

from alibabacloud_devops20210625 import models
from alibabacloud_devops20210625.client import Client
from alibabacloud_tea_openapi.exceptions import AlibabaCloudException
from alibabacloud_tea_openapi.models import Config
from alibabacloud_tea_openapi.utils import Utils
from darabonba.request import DaraRequest
from Tea.model import TeaModel

ALGORITHM = "ACS3-HMAC-SHA256"


def read(task):
    """Return the bodies of all pages of pipelines for each query, of all pages of runs, and of the named runs."""
    client, organization, size = connect(task), task["organization_id"], task["page_size"]

    def pipelines(query):
        return pages(
            lambda token: client.list_pipelines(
                organization, models.ListPipelinesRequest(max_results=size, next_token=token, **query)
            )
        )

    def runs(pipeline):
        return pages(
            lambda token: client.list_pipeline_runs(
                organization, pipeline, models.ListPipelineRunsRequest(max_results=size, next_token=token)
            )
        )

    return {
        "pipelines": {name: pipelines(query) for name, query in task["queries"].items()},
        "runs": {pipeline: runs(pipeline) for pipeline in task["pipeline_ids"]},
        "details": {
            pipeline: body_of(client.get_pipeline_run(organization, pipeline, run))
            for pipeline, run in task["run_ids"].items()
        },
    }


def attempt(task):
    """Request some runs; return the body or the raised error of each request."""
    outcomes = []
    for asked in task["attempts"]:
        run = asked["organization_id"], asked["pipeline_id"], asked["run_id"]
        try:
            outcomes.append({"returned": body_of(connect(asked).get_pipeline_run(*run))})
        except AlibabaCloudException as error:
            raised = [type(error).__name__, error.status_code, error.code, error.retry_after]
            outcomes.append({"raised": raised})
    return outcomes


def sign(task):
    """Return the Authorization header that the SDK's signer creates for each request; the requests have no body."""
    payload = Utils.hash(b"", ALGORITHM).hex()
    keys = task["access_key"], task["secret_key"]
    signed = []
    for asked in task["requests"]:
        request = DaraRequest()
        request.method, request.pathname = asked["method"], asked["path"]
        request.query, request.headers = dict(asked["query"]), asked["headers"]
        signed.append(Utils.get_authorization(request, ALGORITHM, payload, *keys))
    return signed


def connect(task):
    """Return a client for a cloud on this machine."""
    return Client(
        Config(
            endpoint=task["host"],
            protocol="HTTP",
            access_key_id=task["access_key"],
            access_key_secret=task["secret_key"],
            security_token=task["security_token"],
        )
    )


def pages(ask):
    """Return the bodies of all pages; `ask` takes the token of the page before."""
    bodies = [body_of(ask(None))]
    while token := bodies[-1].get("nextToken"):
        bodies.append(body_of(ask(token)))
    return bodies


def body_of(response):
    """Return the body as the SDK decoded it; raise TypeError for wrong types, which the SDK does not check."""
    check(response.body, type(response.body))
    return response.body.to_map()


def check(value, declared):
    """Raise TypeError unless a value and all its parts have the types that the SDK declares."""
    kind = get_origin(declared) or declared
    if value is None or kind is Any:
        return
    if type(value) is not kind:
        raise TypeError(f"{value!r} is no {declared}")
    if kind is list:
        for item in value:
            check(item, *get_args(declared))
    elif issubclass(kind, TeaModel):
        for name, inner in get_type_hints(kind.__init__).items():
            check(getattr(value, name), inner)
