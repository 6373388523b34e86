"""A simulated Huawei Cloud CodeArts Pipeline: the vendor's API on top of a world of pipelines.

It exists so that the exporter can be shown, tested end to end and measured without an account. It answers in
the wire shape of the vendor's published example, refuses as the vendor's gateway refuses, and lets a test in
the same process see what was asked and spoil what is answered.
"""

import asyncio
import json
import secrets
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from email.utils import formatdate

from starlette.applications import Starlette
from starlette.datastructures import MutableHeaders
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from exporter.simulator import gateway
from exporter.simulator.gateway import Credentials
from exporter.simulator.mischief import Mischief, Record, answer, encoded
from exporter.simulator.runs import Run
from exporter.simulator.world import Pipeline, World

BATCH_STATUS = "BatchShowPipelinesLatestStatus"

# The vendor writes stage times in the local time of its home region, without saying so.
_HOME = timezone(timedelta(hours=8))
_REMEMBERED_CALLS = 5_000


@dataclass(frozen=True, slots=True)
class Call:
    """A request as the cloud remembers it.

    `operation` is the vendor's name of it, None if the path is not published. `pipeline_ids` is what was
    asked for, as asked; empty if the request was refused before its body was read. `at` is the cloud's clock,
    in Unix seconds.
    """

    operation: str | None
    pipeline_ids: tuple[str, ...]
    status: int
    at: float


class _Visit:
    """What is known of a request under way; `now` is the one moment that its whole answer speaks of."""

    def __init__(self, now: float) -> None:
        self.now = now
        self.request_id = secrets.token_hex(16)
        self.operation: str | None = None
        self.pipeline_ids: tuple[str, ...] = ()


class CodeArts:
    """The cloud: serve `app`, then ask it about the project of `world` with `credentials`.

    The other attributes are for a test in the same process:

    - `requests`: the latest `Call` values, oldest first, entered when the answer starts.
    - `under_way`, `most_under_way`: requests now being answered, and the most there ever were at once.
    - `latency`: seconds that every answer is held back.
    - `mischief`: what to answer in the place of every good answer, or None.
    - `rewrite`: a function from the records of a good answer to those that are sent instead, or None.
    """

    def __init__(
        self, world: World, credentials: Credentials | None = None, *, clock: Callable[[], float] = time.time
    ) -> None:
        self.world = world
        self.credentials = credentials or Credentials()
        self.clock = clock
        self.requests: deque[Call] = deque(maxlen=_REMEMBERED_CALLS)
        self.under_way = 0
        self.most_under_way = 0
        self.latency = 0.0
        self.mischief: Mischief | None = None
        self.rewrite: Callable[[list[Record]], list[Record]] | None = None
        self.app = Starlette(
            routes=[Route("/v5/{project_id}/api/pipelines/status", self._batch_status, methods=["POST"])],
            middleware=[Middleware(_Reception, cloud=self)],
            exception_handlers={404: _not_published, 405: _not_published},
        )
        # The vendor's gateway publishes exact paths; a redirect would hide a client's stray slash.
        self.app.router.redirect_slashes = False

    async def _batch_status(self, request: Request) -> Response:
        visit: _Visit = request.state.visit
        visit.operation = BATCH_STATUS
        body = await _body(request)
        if body is None:
            return _refused(gateway.TOO_LARGE, visit)
        refusal = self._refusal(request, body, visit.now)
        if refusal is not None:
            return _refused(refusal, visit)
        ids = _pipeline_ids(body)
        if ids is None:
            text = "Failed to parse the request data: an array of pipeline ids is expected"
            return JSONResponse({"error_code": "PARSE_REQUEST_DATA_EXCEPTION", "error_msg": text}, 400)
        visit.pipeline_ids = ids
        if request.path_params["project_id"] != self.world.project_id:
            return JSONResponse({"error_code": "DEVPIPE.00011412", "error_msg": "The project does not exist"})
        records = self.records(ids, visit.now)
        if self.rewrite is not None:
            records = self.rewrite(records)
        if self.mischief is not None:
            return answer(self.mischief, records, visit.request_id)
        return Response(encoded(records), media_type="application/json")

    def records(self, ids: tuple[str, ...], now: float) -> list[Record]:
        """Return what a good answer holds: a record for each pipeline that has run, as first mentioned."""
        found = []
        for pipeline_id in dict.fromkeys(ids):
            pipeline = self.world.pipeline(pipeline_id)
            run = self.world.latest_run(pipeline_id, now)
            if pipeline is not None and run is not None:
                found.append(_record(pipeline, run))
        return found

    def _refusal(self, request: Request, body: bytes, now: float) -> gateway.Refusal | None:
        return gateway.refusal(
            self.credentials,
            method=request.method,
            raw_path=request.scope["raw_path"],
            raw_query=request.scope["query_string"],
            headers=dict(request.headers.raw),
            body=body,
            now=now,
        )


class _Reception:
    """Counts and times every request, published or not; stamps every answer with an id and the date."""

    def __init__(self, app: ASGIApp, cloud: CodeArts) -> None:
        self.app = app
        self.cloud = cloud

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        cloud = self.cloud
        cloud.under_way += 1
        cloud.most_under_way = max(cloud.most_under_way, cloud.under_way)
        try:
            if cloud.latency:
                await asyncio.sleep(cloud.latency)
            visit = _Visit(cloud.clock())
            scope.setdefault("state", {})["visit"] = visit

            async def stamped(message: Message) -> None:
                if message["type"] == "http.response.start":
                    headers = MutableHeaders(scope=message)
                    headers["X-Request-Id"] = visit.request_id
                    headers["Date"] = formatdate(visit.now, usegmt=True)
                    cloud.requests.append(
                        Call(visit.operation, visit.pipeline_ids, message["status"], visit.now)
                    )
                await send(message)

            await self.app(scope, receive, stamped)
        finally:
            cloud.under_way -= 1


def _refused(refusal: gateway.Refusal, visit: _Visit) -> Response:
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


def _pipeline_ids(body: bytes) -> tuple[str, ...] | None:
    try:
        ids = json.loads(body)
    except (ValueError, RecursionError):
        return None
    if not isinstance(ids, list) or not all(isinstance(pipeline_id, str) for pipeline_id in ids):
        return None
    return tuple(ids)


def _record(pipeline: Pipeline, run: Run) -> Record:
    """Put a run in the vendor's shape: times of the run in milliseconds, of its stages as local text."""
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
        "status": run.status,
        "run_number": run.number,
        "trigger_type": origin.trigger,
        "build_params": {
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
            "git_url": pipeline.repository,
        },
        "artifact_params": None,
        "start_time": run.start * 1000,
        "end_time": None if run.end is None else run.end * 1000,
    }


def _local(moment: int | None) -> str | None:
    if moment is None:
        return None
    return datetime.fromtimestamp(moment, _HOME).replace(tzinfo=None).isoformat(" ")
