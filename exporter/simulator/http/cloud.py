"""Base class of simulated clouds, which routes requests to operations and sends their responses.

Subclasses define the published operations, the check of credentials, and the form of errors. This module logs
requests, reads bodies, injects faults, and records which runs each response reports.
"""

from abc import ABC, abstractmethod
from collections import Counter, deque
from collections.abc import Callable
from itertools import cycle

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from exporter.simulator.http.answers import (
    Answer,
    DeclinedError,
    InjectedFault,
    ResetResponse,
    fault_response,
    with_bad_records,
)
from exporter.simulator.http.gateway import Throttle
from exporter.simulator.http.recorder import RecordedRequest, RequestContext, RequestLog, RequestRecorder
from exporter.simulator.http.switches import Switches
from exporter.simulator.world.project import RunSource, SimulatedProject
from exporter.simulator.world.runs import RunSnapshot
from exporter.simulator.world.truth import PipelineTruth, pipeline_truth
from exporter.simulator.world.world import SimulatedPipeline, World

MAX_BODY_BYTES = 12 * 2**20

Handler = Callable[[Request, bytes, RequestContext], Answer]
"""Handler of an operation; raises `DeclinedError` for an error of the service."""

AuthCheck = Callable[[Request, bytes, RequestContext], Answer | None]
"""Check by the gateway before an operation; returns an error, or None if the request may pass."""


class Cloud(Switches, ABC):
    """A simulated cloud that serves the pipelines of `world`, with runs from `runs`, by default from the world.

    In addition to the switches, a test in the same process can use:

    - `clock`: the cloud's time, in Unix seconds; may be replaced.
    - `requests`: the latest requests, oldest first, recorded when the response starts; `request_counts`: the number of
      all requests by operation and status.
    - `in_flight`, `max_in_flight`: the number of requests in progress, and its maximum.
    """

    app: ASGIApp
    """The server application; subclasses set it."""

    def __init__(self, world: World, clock: Callable[[], float], runs: RunSource | None) -> None:
        super().__init__()
        self.world = world
        self.clock = clock
        self._project = SimulatedProject(world, self, runs)
        self._throttle = Throttle()
        self._log = RequestLog()
        self._outage_statuses = cycle((502, 503, None))

    @property
    def requests(self) -> deque[RecordedRequest]:
        """The latest requests, oldest first."""
        return self._log.requests

    @property
    def request_counts(self) -> Counter[tuple[str | None, int]]:
        """The number of requests by operation and status since the start."""
        return self._log.counts

    @property
    def in_flight(self) -> int:
        """Number of requests in progress."""
        return self._log.in_flight

    @property
    def max_in_flight(self) -> int:
        """Largest number of requests that were in progress at the same time."""
        return self._log.max_in_flight

    def serves(self, path: str) -> bool:  # noqa: ARG002
        """Return whether this cloud handles requests for a path, including paths that it does not publish."""
        return True

    def truth(self) -> list[PipelineTruth]:
        """Return the current true state of each pipeline, with this cloud's ids and status texts."""
        now = self.clock()
        return [self._truth(pipeline, now) for pipeline in self._project.pipelines()]

    def _truth(self, pipeline: SimulatedPipeline, now: float) -> PipelineTruth:
        return pipeline_truth(
            self.pipeline_id(pipeline.id),
            pipeline.name,
            self._project.runs.history(pipeline, now),
            now,
            report=lambda run: self._reported(pipeline, run, now),
            summarize=self._summarized,
        )

    def _summarized(self, run: RunSnapshot) -> RunSnapshot:
        """Return a run with the status and the times that this cloud reports for it; stages may be missing."""
        return run

    def _reported(self, pipeline: SimulatedPipeline, run: RunSnapshot, now: float) -> RunSnapshot:  # noqa: ARG002
        """Return a run with the id, the status text and the stages that this cloud reports for it."""
        return run

    # -- errors in the vendor's form

    @abstractmethod
    def _not_published(self, request: Request, context: RequestContext) -> Answer:
        """Return the error for a path that is not published."""

    @abstractmethod
    def _too_large(self, request: Request, context: RequestContext) -> Answer:
        """Return the gateway's error for a body that is too large."""

    @abstractmethod
    def _fault_answer(
        self, injected_fault: InjectedFault, request: Request, context: RequestContext
    ) -> Answer | None:
        """Return the vendor's own response for a fault; None for a fault that looks the same for all vendors."""

    def pipeline_id(self, pipeline_id: str) -> str:
        """Return this cloud's id of the pipeline that has `pipeline_id` in the world."""
        return pipeline_id

    def _requested_run(self, request: Request) -> str | None:
        """Return the id of the run that a request names, or None."""
        return request.path_params.get("run_id")

    # -- requests

    def _application(self, *routes: Route) -> Starlette:
        app = Starlette(
            routes=routes,
            middleware=[Middleware(RequestRecorder, log=self._log, switches=self, clock=self._now)],
            exception_handlers={404: self._handle_unpublished, 405: self._handle_unpublished},
        )
        # Gateways publish exact paths; a redirect would hide a client's stray slash.
        app.router.redirect_slashes = False
        return app

    def _route(
        self, method: str, path: str, operation: str, handler: Handler, auth_check: AuthCheck | None = None
    ) -> Route:
        """Return the route of an operation. Without `auth_check`, every request reaches `handler`."""

        async def endpoint(request: Request) -> Response:
            context: RequestContext = request.state.context
            context.operation = operation
            if "pipeline_id" in request.path_params:
                context.pipeline_ids = (request.path_params["pipeline_id"],)
                context.run_id = self._requested_run(request)
            if self.outage:
                return self._outage_response()
            body = await _read_body(request)
            if body is None:
                return self._too_large(request, context).response()
            refusal = auth_check and auth_check(request, body, context)
            if refusal is not None:
                return refusal.response()
            try:
                answer = handler(request, body, context)
            except DeclinedError as declined:
                return declined.answer.response()
            return self._respond(answer, request, context)

        # Starlette would add HEAD to GET, which vendors do not publish.
        route = Route(path, endpoint, methods=[method])
        route.methods = {method}
        return route

    def _respond(self, answer: Answer, request: Request, context: RequestContext) -> Response:
        """Return the response to a good request, or an injected fault, and record the runs that it reports."""
        operation = context.operation or ""
        runs = (context.project or self._project).runs
        injected_fault = self.injected_fault if self.injected_fault_operation in {None, operation} else None
        if injected_fault is None:
            runs.record_answer(answer.runs, operation, context.now)
            return self._with_bad_records(answer.response())
        if injected_fault is InjectedFault.GARBLED:
            # Only the first run is unreadable.
            runs.record_answer(answer.runs[1:], operation, context.now)
        replacement = self._fault_answer(injected_fault, request, context)
        return fault_response(injected_fault, answer.value) if replacement is None else replacement.response()

    def _outage_response(self) -> Response:
        """Return the next response of an outage: 502 or 503 without a body, or a connection reset, in turn."""
        status = next(self._outage_statuses)
        return ResetResponse() if status is None else Response(status_code=status)

    def _with_bad_records(self, response: Response) -> Response:
        """Apply the switch `bad_records` to a response."""
        if self.bad_records:
            ids = {pipeline: self.pipeline_id(pipeline) for pipeline in self.bad_records}
            body = with_bad_records(
                bytes(response.body), {ids[one]: value for one, value in self.bad_records.items()}
            )
            response.headers["Content-Length"] = str(len(body))
            response.body = body
        return response

    def _throttle_wait(self, context: RequestContext) -> float | None:
        """Count a request with valid credentials; return how many seconds it should wait, or None if it may pass."""
        if self.throttle is None:
            return None
        limit, seconds = self.throttle
        return self._throttle.wait(limit, seconds, context.now)

    async def _handle_unpublished(self, request: Request, _: Exception) -> Response:
        if self.outage:
            return self._outage_response()
        return self._not_published(request, request.state.context).response()

    def _now(self) -> float:
        """Return the time in Unix seconds; `clock` is read at each call because a test may replace it."""
        return self.clock()


def combine(default: Cloud, *others: Cloud) -> ASGIApp:
    """Return an app that serves several clouds on one port.

    A request goes to the first of `others` that serves its path, or to `default`.
    """

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        cloud = next((cloud for cloud in others if cloud.serves(scope["path"])), default)
        await cloud.app(scope, receive, send)

    return app


async def _read_body(request: Request) -> bytes | None:
    """Read the whole body; return None as soon as it exceeds the gateway's limit."""
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > MAX_BODY_BYTES:
            return None
    return bytes(body)
