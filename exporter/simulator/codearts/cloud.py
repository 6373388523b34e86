"""A simulated Huawei Cloud CodeArts Pipeline: the vendor's APIs on top of a world of pipelines.

It exists so that the exporter can be shown, tested end to end and measured without an account. It answers in
the wire shape of the vendor's published examples, refuses as the vendor's gateway refuses, and lets a test in
the same process see what was asked and spoil what is answered.
"""

import json
import math
import time
from collections.abc import Callable
from typing import Any

from starlette.requests import Request
from starlette.routing import Route

from exporter.simulator.codearts import gateway, listing, metadata
from exporter.simulator.codearts.detail import detail
from exporter.simulator.codearts.gateway import Credentials
from exporter.simulator.codearts.iam import Iam
from exporter.simulator.codearts.records import batch_record
from exporter.simulator.codearts.switches import CodeArtsSwitches
from exporter.simulator.http.answers import DeclinedError, Good
from exporter.simulator.http.cloud import Cloud, Tell
from exporter.simulator.http.faults import InjectedFault, Record
from exporter.simulator.http.limits import Locks
from exporter.simulator.http.recorder import RequestContext
from exporter.simulator.service import mismatch, no_pipeline, no_project, service_error, unparsed
from exporter.simulator.world.project import Runs
from exporter.simulator.world.world import Pipeline, World

BATCH_STATUS = "BatchShowPipelinesLatestStatus"
LIST_PIPELINES = "ListPipelines"
RUN_DETAIL = "ShowPipelineRunDetail"
LIST_RUNS = "ListPipelineRuns"
KEYSTONE = "KeystoneCreateUserTokenByPassword"
IMDS = "MetadataToken"
SECURITY_KEY = "MetadataSecurityKey"
POD_IDENTITY = "PodIdentity"

_REFUSALS = {
    InjectedFault.SERVER_ERROR: gateway.INTERNAL,
    InjectedFault.THROTTLED: gateway.THROTTLED,
    InjectedFault.DENIED: gateway.DENIED,
}
_OBJECTS = {
    InjectedFault.ERROR_OBJECT: {"error_code": "DEVPIPE.00011136", "error_msg": "项目ID和流水线不匹配"},
    InjectedFault.NESTED_ERROR: {"error": {"code": "DEVPIPE.00011136", "message": "项目ID和流水线不匹配"}},
}


class CodeArts(Cloud, CodeArtsSwitches):
    """The cloud: serve `app`, then ask it about the project of `world` with `credentials`.

    Its pipelines have the runs that the world has destined, or those of `runs`, a story of the same world.
    IAM, the metadata service of a machine and the pod identity of a cluster answer on the same port. Besides
    what every cloud has, a test in the same process has:

    - `credentials`: may be replaced at any time, as a rotation does; what was valid before is so no more,
      save the tokens that were issued.
    - `rewrite`: a function from the records of a good batch to those that are sent instead, or None. Of what it
      made a story takes no note.
    - `metadata`: the temporary keys, of which it can tell those of any moment.
    """

    def __init__(
        self,
        world: World,
        credentials: Credentials | None = None,
        *,
        clock: Callable[[], float] = time.time,
        runs: Runs | None = None,
    ) -> None:
        super().__init__(world, clock, runs)
        self.credentials = credentials or Credentials()
        self.rewrite: Callable[[list[Record]], list[Record]] | None = None
        self.metadata = metadata.Metadata(self, clock())
        self._locks = Locks(self)
        self._iam = Iam(world, self, self._locks)
        pipelines = "/v5/{project_id}/api/pipelines"
        of_runs = pipelines + "/{pipeline_id}/pipeline-runs"
        self.app = self._application(
            self._service("POST", f"{pipelines}/status", BATCH_STATUS, self._batch),
            self._service("POST", f"{pipelines}/list", LIST_PIPELINES, self._list),
            self._service("GET", f"{of_runs}/detail", RUN_DETAIL, self._detail),
            self._service("POST", f"{of_runs}/list", LIST_RUNS, self._runs),
            self._publish("POST", "/v3/auth/tokens", KEYSTONE, self._create_token),
            self._publish("PUT", "/meta-data/latest/api/token", IMDS, self._metadata_token),
            self._publish("GET", "/openstack/latest/securitykey", SECURITY_KEY, self._security_key),
            self._publish("POST", "/pod-identity", POD_IDENTITY, self._pod_identity),
        )

    def revoke_tokens(self) -> None:
        """Make all tokens that IAM has issued worthless; the one of `credentials` stays good."""
        self._iam.revoke()

    # -- the operations

    def _batch(self, request: Request, body: bytes, context: RequestContext) -> Good:
        ids = _decoded(body)
        if not isinstance(ids, list) or not all(isinstance(pipeline_id, str) for pipeline_id in ids):
            raise unparsed("an array of pipeline ids")
        context.pipeline_ids = tuple(ids)
        self._admit(request.path_params["project_id"])
        if self.batch_limit is not None and len(ids) > self.batch_limit:
            raise self._too_many(context)
        if not self.poison.isdisjoint(ids):
            raise mismatch()
        records, runs = [], []
        for pipeline_id in dict.fromkeys(ids):
            pipeline = self._project.pipeline(pipeline_id)
            run = pipeline and self._project.runs.latest_run(pipeline, context.now - self.stale)
            if pipeline and run:
                run = self._project.runs.reported(run)
                records.append(batch_record(pipeline, run))
                runs.append(run)
        if self.rewrite is not None:
            return Good(self.rewrite(records))
        return Good(records, runs=runs)

    def _too_many(self, context: RequestContext) -> DeclinedError:
        if self.batch_refusal == 413:
            return DeclinedError(413, {**gateway.TOO_LARGE.body(context.request_id)})
        text = f"The number of pipeline ids exceeds the limit {self.batch_limit}"
        return service_error("DEVPIPE.00010002", text, self.batch_refusal)

    def _list(self, request: Request, body: bytes, context: RequestContext) -> Good:
        project_id = request.path_params["project_id"]
        return listing.pipelines(self._project, self, project_id, _object(body), context.now)

    def _detail(self, request: Request, _: bytes, context: RequestContext) -> Good:
        pipeline = self._asked(**request.path_params)
        return detail(self._project, pipeline, context.run_id, context.now)

    def _runs(self, request: Request, body: bytes, context: RequestContext) -> Good:
        pipeline = self._asked(**request.path_params)
        return listing.runs(self._project, self, pipeline, _object(body), context.now)

    def _create_token(self, request: Request, body: bytes, context: RequestContext) -> Good:
        catalog = request.query_params.get("nocatalog") != "true"
        return self._iam.issue(body, self.credentials, context.now, catalog=catalog)

    def _metadata_token(self, request: Request, _: bytes, context: RequestContext) -> Good:
        return self.metadata.token(request.headers, context.now)

    def _security_key(self, request: Request, _: bytes, context: RequestContext) -> Good:
        return self.metadata.security_key(request.headers, context.now)

    def _pod_identity(self, request: Request, _: bytes, context: RequestContext) -> Good:
        return self.metadata.pod_identity(request.headers, self.credentials, context.now)

    # -- who and what may be asked

    def _asked(self, project_id: str, pipeline_id: str) -> Pipeline:
        """Find the pipeline that a request's path names; raises `DeclinedError` if it may not be had."""
        self._admit(project_id)
        if pipeline_id in self.poison:
            raise mismatch()
        pipeline = self._project.pipeline(pipeline_id)
        if pipeline is None:
            raise no_pipeline()
        return pipeline

    def _admit(self, project_id: str) -> None:
        """Raise `DeclinedError` unless `project_id` is this project and the user a member of it."""
        if project_id != self.world.project_id or self.no_membership:
            raise no_project()

    def _run_asked_for(self, request: Request) -> str | None:
        return request.query_params.get("pipeline_run_id") or None

    def _service(self, method: str, path: str, operation: str, tell: Tell) -> Route:
        """Publish an operation behind the gateway."""
        return self._publish(method, path, operation, tell, guard=self._refusal)

    def _refusal(self, request: Request, body: bytes, context: RequestContext) -> Good | None:
        headers = dict(request.headers.raw)
        who = "tokens" if b"x-auth-token" in headers else gateway.claimed_key(headers)
        if who is not None and self._locks.locked(who, context.now):
            return _refused(gateway.unauthorized("the user is locked"), context)
        refusal = self._unproved(request, headers, body, context.now)
        if who is not None and (refusal is None or refusal.forged):
            self._locks.note(who, wrong=refusal is not None, now=context.now)
        if refusal is not None:
            return _refused(refusal, context)
        return self._throttled(context)

    def _unproved(
        self, request: Request, headers: dict[bytes, bytes], body: bytes, now: float
    ) -> gateway.Refusal | None:
        token = headers.get(b"x-auth-token", b"").decode("latin-1")
        if self._iam.knows(token):
            return self._iam.refusal(token, now)
        credentials = self.credentials
        key = None if token else self.metadata.find(gateway.claimed_key(headers) or "")
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

    def _throttled(self, context: RequestContext) -> Good | None:
        wait = self._wait(context)
        if wait is None or self.throttle is None:
            return None
        headers = {"Retry-After": str(math.ceil(wait))} if self.retry_after else {}
        return _refused(gateway.throttled(*self.throttle), context, headers)

    # -- the words for what goes wrong

    def _not_published(self, _: Request, context: RequestContext) -> Good:
        return _refused(gateway.NOT_PUBLISHED, context)

    def _too_large(self, _: Request, context: RequestContext) -> Good:
        return _refused(gateway.TOO_LARGE, context)

    def _spoken(self, injected_fault: InjectedFault, _: Request, context: RequestContext) -> Good | None:
        if injected_fault in _REFUSALS:
            return _refused(_REFUSALS[injected_fault], context)
        return Good(_OBJECTS[injected_fault]) if injected_fault in _OBJECTS else None


def _refused(
    refusal: gateway.Refusal, context: RequestContext, headers: dict[str, str] | None = None
) -> Good:
    return Good(refusal.body(context.request_id), refusal.status, headers or {})


def _decoded(body: bytes) -> Any:
    """Read JSON; what is none is None, which no operation takes."""
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        return None


def _object(body: bytes) -> dict[str, Any]:
    value = _decoded(body)
    if not isinstance(value, dict):
        raise unparsed("an object")
    return value
