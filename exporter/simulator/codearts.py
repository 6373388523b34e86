"""A simulated Huawei Cloud CodeArts Pipeline: the vendor's APIs on top of a world of pipelines.

It exists so that the exporter can be shown, tested end to end and measured without an account. It answers in
the wire shape of the vendor's published examples, refuses as the vendor's gateway refuses, and lets a test in
the same process see what was asked and spoil what is answered.
"""

import json
import math
import time
from collections import deque
from collections.abc import Callable
from typing import Any

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from exporter.simulator import gateway, listing, metadata
from exporter.simulator.answers import DeclinedError, Good, mismatch, service_error, unparsed
from exporter.simulator.detail import detail
from exporter.simulator.gateway import Credentials
from exporter.simulator.iam import Iam
from exporter.simulator.limits import Locks, Throttle
from exporter.simulator.mischief import Mischief, Record, answer
from exporter.simulator.project import Project, Runs
from exporter.simulator.reception import Book, Call, Reception, Visit
from exporter.simulator.records import batch_record
from exporter.simulator.switches import Switches
from exporter.simulator.world import World

BATCH_STATUS = "BatchShowPipelinesLatestStatus"
LIST_PIPELINES = "ListPipelines"
RUN_DETAIL = "ShowPipelineRunDetail"
LIST_RUNS = "ListPipelineRuns"
KEYSTONE = "KeystoneCreateUserTokenByPassword"
IMDS = "MetadataToken"
SECURITY_KEY = "MetadataSecurityKey"
POD_IDENTITY = "PodIdentity"

_Tell = Callable[[Request, bytes, Visit], Good]


class CodeArts(Switches):
    """The cloud: serve `app`, then ask it about the project of `world` with `credentials`.

    Its pipelines have the runs that the world has destined, or those of `runs`, a story of the same world.
    IAM, the metadata service of a machine and the pod identity of a cluster answer on the same port. Besides
    the switches a test in the same process has:

    - `credentials`: may be replaced at any time, as a rotation does; what was valid before is so no more,
      save the tokens that were issued.
    - `clock`: the cloud's time, in Unix seconds.
    - `requests`: the latest `Call` values, oldest first, entered when the answer starts.
    - `under_way`, `most_under_way`: requests now being answered, and the most there ever were at once.
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
        super().__init__()
        self.world = world
        self.credentials = credentials or Credentials()
        self.clock = clock
        self.rewrite: Callable[[list[Record]], list[Record]] | None = None
        self.metadata = metadata.Metadata(self, clock())
        self._project = Project(world, self, runs)
        self._locks = Locks(self)
        self._throttle = Throttle()
        self._iam = Iam(world, self, self._locks)
        self._book = Book()
        pipelines = "/v5/{project_id}/api/pipelines"
        of_runs = pipelines + "/{pipeline_id}/pipeline-runs"
        self.app = Starlette(
            routes=[
                self._service("POST", f"{pipelines}/status", BATCH_STATUS, self._batch),
                self._service("POST", f"{pipelines}/list", LIST_PIPELINES, self._list),
                self._service("GET", f"{of_runs}/detail", RUN_DETAIL, self._detail),
                self._service("POST", f"{of_runs}/list", LIST_RUNS, self._runs),
                self._open("POST", "/v3/auth/tokens", KEYSTONE, self._create_token),
                self._open("PUT", "/meta-data/latest/api/token", IMDS, self._metadata_token),
                self._open("GET", "/openstack/latest/securitykey", SECURITY_KEY, self._security_key),
                self._open("POST", "/pod-identity", POD_IDENTITY, self._pod_identity),
            ],
            middleware=[Middleware(Reception, book=self._book, switches=self, clock=self._now)],
            exception_handlers={404: _not_published, 405: _not_published},
        )
        # The vendor's gateway publishes exact paths; a redirect would hide a client's stray slash.
        self.app.router.redirect_slashes = False

    @property
    def requests(self) -> deque[Call]:
        """The latest calls, oldest first."""
        return self._book.calls

    @property
    def under_way(self) -> int:
        """Requests now being answered."""
        return self._book.under_way

    @property
    def most_under_way(self) -> int:
        """The most requests that there ever were at once."""
        return self._book.most_under_way

    def revoke_tokens(self) -> None:
        """Make all tokens that IAM has issued worthless; the one of `credentials` stays good."""
        self._iam.revoke()

    # -- the operations

    def _batch(self, request: Request, body: bytes, visit: Visit) -> Good:
        ids = _decoded(body)
        if not isinstance(ids, list) or not all(isinstance(pipeline_id, str) for pipeline_id in ids):
            raise unparsed("an array of pipeline ids")
        visit.pipeline_ids = tuple(ids)
        self._project.admit(request.path_params["project_id"])
        if self.batch_limit is not None and len(ids) > self.batch_limit:
            raise self._too_many(visit)
        if not self.poison.isdisjoint(ids):
            raise mismatch()
        records, runs = [], []
        for pipeline_id in dict.fromkeys(ids):
            pipeline = self._project.pipeline(pipeline_id)
            run = pipeline and self._project.runs.latest_run(pipeline, visit.now - self.stale)
            if pipeline and run:
                records.append(batch_record(pipeline, run))
                runs.append(run)
        if self.rewrite is not None:
            return Good(self.rewrite(records))
        return Good(records, runs=runs)

    def _too_many(self, visit: Visit) -> DeclinedError:
        if self.batch_refusal == 413:
            return DeclinedError(413, {**gateway.TOO_LARGE.body(visit.request_id)})
        text = f"The number of pipeline ids exceeds the limit {self.batch_limit}"
        return service_error("DEVPIPE.00010002", text, self.batch_refusal)

    def _list(self, request: Request, body: bytes, visit: Visit) -> Good:
        project_id = request.path_params["project_id"]
        return listing.pipelines(self._project, self, project_id, _object(body), visit.now)

    def _detail(self, request: Request, _: bytes, visit: Visit) -> Good:
        pipeline = self._project.asked(**request.path_params)
        return detail(self._project, pipeline, visit.run_id, visit.now)

    def _runs(self, request: Request, body: bytes, visit: Visit) -> Good:
        pipeline = self._project.asked(**request.path_params)
        return listing.runs(self._project, self, pipeline, _object(body), visit.now)

    def _create_token(self, request: Request, body: bytes, visit: Visit) -> Good:
        catalog = request.query_params.get("nocatalog") != "true"
        return self._iam.issue(body, self.credentials, visit.now, catalog=catalog)

    def _metadata_token(self, request: Request, _: bytes, visit: Visit) -> Good:
        return self.metadata.token(request.headers, visit.now)

    def _security_key(self, request: Request, _: bytes, visit: Visit) -> Good:
        return self.metadata.security_key(request.headers, visit.now)

    def _pod_identity(self, request: Request, _: bytes, visit: Visit) -> Good:
        return self.metadata.pod_identity(request.headers, self.credentials, visit.now)

    # -- the way there

    def _now(self) -> float:
        """Look the clock up anew, because a test may replace it."""
        return self.clock()

    def _service(self, method: str, path: str, operation: str, tell: _Tell) -> Route:
        """Publish an operation behind the gateway."""
        return self._open(method, path, operation, tell, guard=self._refusal)

    def _open(
        self,
        method: str,
        path: str,
        operation: str,
        tell: _Tell,
        guard: Callable[[Request, bytes, Visit], Response | None] | None = None,
    ) -> Route:
        """Publish an operation that looks after itself, or has a `guard` that may answer in its place."""

        async def endpoint(request: Request) -> Response:
            visit: Visit = request.state.visit
            visit.operation = operation
            if "pipeline_id" in request.path_params:
                visit.pipeline_ids = (request.path_params["pipeline_id"],)
                visit.run_id = request.query_params.get("pipeline_run_id") or None
            body = await _body(request)
            if body is None:
                return _refused(gateway.TOO_LARGE, visit)
            refused = guard and guard(request, body, visit)
            if refused is not None:
                return refused
            try:
                good = tell(request, body, visit)
            except DeclinedError as declined:
                return declined.answer.response()
            mischief = self.mischief if self.mischief_only in {None, operation} else None
            if mischief is None:
                self._project.runs.witness(good.runs, operation, visit.now)
                return good.response()
            if mischief is Mischief.GARBLED:
                # The first run is lost, the others can still be read.
                self._project.runs.witness(good.runs[1:], operation, visit.now)
            return answer(mischief, good.value, visit.request_id)

        # Starlette would add HEAD to GET, which the vendor does not publish.
        route = Route(path, endpoint, methods=[method])
        route.methods = {method}
        return route

    def _refusal(self, request: Request, body: bytes, visit: Visit) -> Response | None:
        headers = dict(request.headers.raw)
        who = "tokens" if b"x-auth-token" in headers else gateway.claimed_key(headers)
        if who is not None and self._locks.locked(who, visit.now):
            return _refused(gateway.unauthorized("the user is locked"), visit)
        refusal = self._unproved(request, headers, body, visit.now)
        if who is not None and (refusal is None or refusal.forged):
            self._locks.note(who, wrong=refusal is not None, now=visit.now)
        if refusal is not None:
            return _refused(refusal, visit)
        return self._throttled(visit)

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

    def _throttled(self, visit: Visit) -> Response | None:
        if self.throttle is None:
            return None
        limit, seconds = self.throttle
        wait = self._throttle.wait(limit, seconds, visit.now)
        if wait is None:
            return None
        response = _refused(gateway.throttled(limit, seconds), visit)
        if self.retry_after:
            response.headers["Retry-After"] = str(math.ceil(wait))
        return response


def _refused(refusal: gateway.Refusal, visit: Visit) -> Response:
    return JSONResponse(refusal.body(visit.request_id), refusal.status)


async def _not_published(request: Request, _: Exception) -> Response:
    return _refused(gateway.NOT_PUBLISHED, request.state.visit)


async def _body(request: Request) -> bytes | None:
    """Read the whole body, or None as soon as it is larger than the gateway takes."""
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > gateway.MOST_BODY:
            return None
    return bytes(body)


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
