"""A simulated Huawei Cloud CodeArts Pipeline: the vendor's APIs on top of a world of pipelines.

The demo, end-to-end tests and benchmarks run on it without an account. Its responses have the form of the vendor's
published examples, its errors that of the vendor's gateway. A test in the same process can read the requests and
change the responses.
"""

import json
import math
import time
from collections.abc import Callable
from typing import Any

from starlette.requests import Request
from starlette.routing import Route

from exporter.simulator.codearts import gateway, iam, listing, metadata
from exporter.simulator.codearts.detail import detail
from exporter.simulator.codearts.directory import SimulatedProjects
from exporter.simulator.codearts.errors import mismatch, no_pipeline, no_project, service_error, unparsed
from exporter.simulator.codearts.gateway import Credentials, GatewayLockouts
from exporter.simulator.codearts.iam import Iam
from exporter.simulator.codearts.records import batch_record
from exporter.simulator.codearts.switches import CodeArtsSwitches
from exporter.simulator.http.answers import (
    INJECTED_WAIT,
    Answer,
    DeclinedError,
    InjectedFault,
    Record,
)
from exporter.simulator.http.cloud import Cloud, Handler
from exporter.simulator.http.recorder import RequestContext
from exporter.simulator.world.project import RunSource, SimulatedProject
from exporter.simulator.world.world import SimulatedPipeline, World

BATCH_STATUS = "BatchShowPipelinesLatestStatus"
LIST_PIPELINES = "ListPipelines"
RUN_DETAIL = "ShowPipelineRunDetail"
LIST_RUNS = "ListPipelineRuns"
KEYSTONE = "KeystoneCreateUserTokenByPassword"
IMDS = "MetadataToken"
SECURITY_KEY = "MetadataSecurityKey"
POD_IDENTITY = "PodIdentity"
RUN_PAGE = "RunPage"
RETENTION = "ShowRecordVisibleDays"
LIST_PROJECTS = "ListProjectsV4"

RETENTION_DAYS = 365

_PAGES = "cicd/project/{project_id}/pipeline/detail"

_REFUSALS = {
    InjectedFault.SERVER_ERROR: gateway.INTERNAL,
    InjectedFault.THROTTLED: gateway.THROTTLED,
    InjectedFault.DENIED: gateway.DENIED,
}
_ERROR_OBJECTS = {
    InjectedFault.ERROR_OBJECT: {"error_code": "DEVPIPE.00011136", "error_msg": "项目ID和流水线不匹配"},
    InjectedFault.NESTED_ERROR: {"error": {"code": "DEVPIPE.00011136", "message": "项目ID和流水线不匹配"}},
}


class CodeArts(Cloud, CodeArtsSwitches):
    """A simulated CodeArts that serves the project of `world`; run `app`, and authenticate with `credentials`.

    A test can add further projects of the same account to `projects`.

    The runs come from `runs`, by default from the world. The same port also serves IAM, the metadata service of a
    machine and the pod identity of a cluster. In addition to the members of every cloud, a test in the same process
    can use:

    - `credentials`: the valid ones; replacing them, as by a rotation, invalidates the old ones, except for issued
      tokens.
    - `rewrite`: a function that replaces the records of a good batch response, or None; a scenario does not record the
      result.
    - `metadata`: the metadata service, which has the temporary key of any time.
    - `projects`: the projects by id, to add, rename and remove.
    """

    def __init__(
        self,
        world: World,
        credentials: Credentials | None = None,
        *,
        clock: Callable[[], float] = time.time,
        runs: RunSource | None = None,
    ) -> None:
        super().__init__(world, clock, runs)
        self.credentials = credentials or Credentials()
        self.rewrite: Callable[[list[Record]], list[Record]] | None = None
        self.metadata = metadata.MetadataService(self, clock())
        self.projects = SimulatedProjects(self._project, self)
        self._lockouts = GatewayLockouts(self)
        self._iam = Iam(world, self, self._lockouts)
        pipelines = "/v5/{project_id}/api/pipelines"
        of_runs = pipelines + "/{pipeline_id}/pipeline-runs"
        self.app = self._application(
            self._service("POST", f"{pipelines}/status", BATCH_STATUS, self._batch),
            self._service("POST", f"{pipelines}/list", LIST_PIPELINES, self._list),
            self._service("GET", f"{of_runs}/detail", RUN_DETAIL, self._detail),
            self._service("POST", f"{of_runs}/list", LIST_RUNS, self._runs),
            self._service(
                "GET", "/v5/{tenant_id}/api/whitelist/record-visible-days", RETENTION, self._retention
            ),
            self._service("GET", "/v4/projects", LIST_PROJECTS, self._list_projects),
            self._route("GET", f"/{_PAGES}/{{pipeline_id}}", RUN_PAGE, self._run_page),
            self._route("GET", f"/{_PAGES}/{{pipeline_id}}/{{run_id}}", RUN_PAGE, self._run_page),
            self._route("POST", "/v3/auth/tokens", KEYSTONE, self._create_token),
            self._route("PUT", "/meta-data/latest/api/token", IMDS, self._metadata_token),
            self._route("GET", "/openstack/latest/securitykey", SECURITY_KEY, self._security_key),
            self._route("POST", "/pod-identity", POD_IDENTITY, self._pod_identity),
        )

    def revoke_tokens(self) -> None:
        """Revoke all tokens that IAM has issued; the token of `credentials` stays valid."""
        self._iam.revoke()

    # -- the operations

    def _batch(self, request: Request, body: bytes, context: RequestContext) -> Answer:
        ids = _decode(body)
        if not isinstance(ids, list) or not all(isinstance(pipeline_id, str) for pipeline_id in ids):
            raise unparsed("an array of pipeline ids")
        context.pipeline_ids = tuple(ids)
        project = self._member_project(request, context)
        if self.batch_limit is not None and len(ids) > self.batch_limit:
            raise self._too_many(context)
        if not self.poison.isdisjoint(ids):
            raise mismatch()
        records, runs = [], []
        for pipeline_id in dict.fromkeys(ids):
            pipeline = project.pipeline(pipeline_id)
            run = pipeline and project.runs.latest_run(pipeline, context.now - self.stale)
            if pipeline and run:
                run = project.runs.apply_misreport(run)
                records.append(batch_record(pipeline, run, self._pages(request)))
                runs.append(run)
        if self.rewrite is not None:
            return Answer(self.rewrite(records))
        return Answer(records, runs=runs)

    def _too_many(self, context: RequestContext) -> DeclinedError:
        if self.batch_refusal == 413:
            return DeclinedError(413, {**gateway.TOO_LARGE.body(context.request_id)})
        text = f"The number of pipeline ids exceeds the limit {self.batch_limit}"
        return service_error("DEVPIPE.00010002", text, self.batch_refusal)

    def _list(self, request: Request, body: bytes, context: RequestContext) -> Answer:
        project_id = request.path_params["project_id"]
        # The list of a project that the user cannot see is empty, not an error.
        context.project = self.projects.find(project_id)
        project = context.project or self._project
        return listing.pipelines(
            project, self, project_id, _decode_object(body), context.now, self._pages(request)
        )

    def _detail(self, request: Request, _: bytes, context: RequestContext) -> Answer:
        project, pipeline = self._find_pipeline(request, context)
        return detail(project, pipeline, context.run_id, context.now, self._pages(request))

    def _runs(self, request: Request, body: bytes, context: RequestContext) -> Answer:
        project, pipeline = self._find_pipeline(request, context)
        return listing.runs(project, self, pipeline, _decode_object(body), context.now, self._pages(request))

    def _retention(self, request: Request, _: bytes, __: RequestContext) -> Answer:
        query = request.query_params
        if not request.path_params["tenant_id"] == query.get("domain_id") == self.world.domain_id:
            raise no_project()
        self._find_project(query.get("project_id", ""))
        return Answer({"record_visible_days": RETENTION_DAYS})

    def _list_projects(self, request: Request, _: bytes, __: RequestContext) -> Answer:
        return self.projects.page(request.query_params)

    def _create_token(self, request: Request, body: bytes, context: RequestContext) -> Answer:
        catalog = request.query_params.get("nocatalog") != "true"
        return self._iam.issue(body, self.credentials, context.now, catalog=catalog)

    def _metadata_token(self, request: Request, _: bytes, context: RequestContext) -> Answer:
        return self.metadata.token(request.headers, context.now)

    def _security_key(self, request: Request, _: bytes, context: RequestContext) -> Answer:
        return self.metadata.security_key(request.headers, context.now)

    def _pod_identity(self, request: Request, _: bytes, context: RequestContext) -> Answer:
        return self.metadata.pod_identity(request.headers, self.credentials, context.now)

    def _run_page(self, request: Request, _: bytes, context: RequestContext) -> Answer:
        """Return the target of a `detail_url`, or that of the latest run; it needs no credentials."""
        project, pipeline = self._find_pipeline(request, context)
        run_id = request.path_params.get("run_id")
        answer = detail(project, pipeline, run_id, context.now, self._pages(request))
        return Answer(answer.value)

    # -- lookups and credentials

    def _find_pipeline(
        self, request: Request, context: RequestContext
    ) -> tuple[SimulatedProject, SimulatedPipeline]:
        """Return the pipeline that a request's path names, and its project.

        Raises `DeclinedError` if the user cannot read it.
        """
        project = self._member_project(request, context)
        pipeline_id = request.path_params["pipeline_id"]
        if pipeline_id in self.poison:
            raise mismatch()
        pipeline = project.pipeline(pipeline_id)
        if pipeline is None:
            raise no_pipeline()
        return project, pipeline

    def _member_project(self, request: Request, context: RequestContext) -> SimulatedProject:
        """Return the project that a request's path names; raise `DeclinedError` if the user cannot read it."""
        context.project = self._find_project(request.path_params["project_id"])
        return context.project

    def _find_project(self, project_id: str) -> SimulatedProject:
        """Return a project; raise `DeclinedError` unless it exists and the user is a member of it."""
        project = self.projects.find(project_id)
        if project is None or self.no_membership:
            raise no_project()
        return project

    def _pages(self, request: Request) -> str:
        """Return the URL prefix of `detail_url`; empty for a token without a region."""
        if "x-auth-token" in request.headers and not self.token_region:
            return ""
        return f"{request.base_url}{_PAGES}".replace("{project_id}", request.path_params["project_id"])

    def _requested_run(self, request: Request) -> str | None:
        return request.query_params.get("pipeline_run_id") or None

    def _service(self, method: str, path: str, operation: str, handler: Handler) -> Route:
        """Return the route of an operation behind the gateway."""
        return self._route(method, path, operation, handler, auth_check=self._refusal)

    def _refusal(self, request: Request, body: bytes, context: RequestContext) -> Answer | None:
        headers = dict(request.headers.raw)
        client = "tokens" if b"x-auth-token" in headers else gateway.claimed_key(headers)
        if client is not None and self._lockouts.locked(client, context.now):
            return _refused(gateway.unauthorized("the user is locked"), context)
        refusal = self._check_identity(request, headers, body, context.now)
        if client is not None and (refusal is None or refusal.wrong_secret):
            self._lockouts.record(client, wrong=refusal is not None, now=context.now)
        if refusal is not None:
            return _refused(refusal, context)
        return self._throttled(context)

    def _check_identity(
        self, request: Request, headers: dict[bytes, bytes], body: bytes, now: float
    ) -> gateway.GatewayRefusal | None:
        token = headers.get(b"x-auth-token", b"").decode("latin-1")
        access_key = None if token else gateway.claimed_key(headers)
        if self.credentials_expired:
            return iam.expired(now) if access_key is None else gateway.unknown_key(access_key)
        if self._iam.knows(token):
            return self._iam.refusal(token, now)
        credentials = self.credentials
        key = None if access_key is None else self.metadata.find(access_key)
        if key is not None:
            if now >= key.expires:
                return metadata.expired(key)
            credentials = key.credentials()
        return gateway.refusal(
            credentials,
            method=request.method,
            raw_path=request.scope["raw_path"],
            raw_query=request.scope["query_string"],
            headers=headers,
            body=body,
            now=now + self.skew,
        )

    def _throttled(self, context: RequestContext) -> Answer | None:
        wait = self._throttle_wait(context)
        if wait is None or self.throttle is None:
            return None
        headers = {"Retry-After": str(math.ceil(wait))} if self.retry_after else {}
        return _refused(gateway.throttled(*self.throttle), context, headers)

    # -- errors in the vendor's form

    def _not_published(self, _: Request, context: RequestContext) -> Answer:
        return _refused(gateway.NOT_PUBLISHED, context)

    def _too_large(self, _: Request, context: RequestContext) -> Answer:
        return _refused(gateway.TOO_LARGE, context)

    def _fault_answer(
        self, injected_fault: InjectedFault, _: Request, context: RequestContext
    ) -> Answer | None:
        if injected_fault in _REFUSALS:
            throttled = injected_fault is InjectedFault.THROTTLED and self.retry_after
            headers = {"Retry-After": str(INJECTED_WAIT)} if throttled else {}
            return _refused(_REFUSALS[injected_fault], context, headers)
        return Answer(_ERROR_OBJECTS[injected_fault]) if injected_fault in _ERROR_OBJECTS else None


def _refused(
    refusal: gateway.GatewayRefusal, context: RequestContext, headers: dict[str, str] | None = None
) -> Answer:
    return Answer(refusal.body(context.request_id), refusal.status, headers or {})


def _decode(body: bytes) -> Any:
    """Return the decoded JSON; None for invalid JSON, which no operation accepts."""
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        return None


def _decode_object(body: bytes) -> dict[str, Any]:
    value = _decode(body)
    if not isinstance(value, dict):
        raise unparsed("an object")
    return value
