"""What all clouds have in common: the way of a request to an operation, and of its answer back.

A cloud says which operations it publishes, who guards them, and how it words what is no good answer; the rest is done
here: requests are counted, read and remembered, good answers spoiled when told to, and what they tell is witnessed.
"""

from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from exporter.simulator.http.answers import DeclinedError, Good
from exporter.simulator.http.faults import InjectedFault, answer, with_bad_records
from exporter.simulator.http.limits import Throttle
from exporter.simulator.http.recorder import Call, RequestContext, RequestLog, RequestRecorder
from exporter.simulator.http.switches import Switches
from exporter.simulator.world.project import Project, Runs
from exporter.simulator.world.world import World

MOST_BODY = 12 * 2**20

Tell = Callable[[Request, bytes, RequestContext], Good]
"""An operation: raises `DeclinedError` for what it will not answer."""

Guard = Callable[[Request, bytes, RequestContext], Good | None]
"""Says what is answered in the place of an operation, or None if the request may pass."""


class Cloud(Switches, ABC):
    """A cloud of `world` that shows the runs destined by it, or those of `runs`; subclasses add `app`.

    Besides the switches a test in the same process has:

    - `clock`: the cloud's time, in Unix seconds; may be replaced.
    - `requests`: the latest `Call` values, oldest first, entered when the answer starts.
    - `under_way`, `most_under_way`: requests now being answered, and the most there ever were at once.
    """

    def __init__(self, world: World, clock: Callable[[], float], runs: Runs | None) -> None:
        super().__init__()
        self.world = world
        self.clock = clock
        self._project = Project(world, self, runs)
        self._throttle = Throttle()
        self._book = RequestLog()

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

    # -- what a cloud has words of its own for

    @abstractmethod
    def _not_published(self, request: Request, context: RequestContext) -> Good:
        """Say that there is no such operation."""

    @abstractmethod
    def _too_large(self, request: Request, context: RequestContext) -> Good:
        """Say that the body is larger than the gateway takes."""

    @abstractmethod
    def _spoken(
        self, injected_fault: InjectedFault, request: Request, context: RequestContext
    ) -> Good | None:
        """Say what a mischief is that consists of the vendor's words; None of one that does not."""

    def pipeline_id(self, pipeline_id: str) -> str:
        """Return the id here of the pipeline that has the given one in the world."""
        return pipeline_id

    def _run_asked_for(self, request: Request) -> str | None:
        """Tell the run that a request asks for, if it asks for one."""
        return request.path_params.get("run_id")

    # -- the way there

    def _application(self, *routes: Route) -> Starlette:
        app = Starlette(
            routes=routes,
            middleware=[Middleware(RequestRecorder, book=self._book, switches=self, clock=self._now)],
            exception_handlers={404: self._lost, 405: self._lost},
        )
        # Gateways publish exact paths; a redirect would hide a client's stray slash.
        app.router.redirect_slashes = False
        return app

    def _publish(
        self, method: str, path: str, operation: str, tell: Tell, guard: Guard | None = None
    ) -> Route:
        """Publish an operation that looks after itself, or has a `guard`."""

        async def endpoint(request: Request) -> Response:
            context: RequestContext = request.state.context
            context.operation = operation
            if "pipeline_id" in request.path_params:
                context.pipeline_ids = (request.path_params["pipeline_id"],)
                context.run_id = self._run_asked_for(request)
            body = await _body(request)
            if body is None:
                return self._too_large(request, context).response()
            refused = guard and guard(request, body, context)
            if refused is not None:
                return refused.response()
            try:
                good = tell(request, body, context)
            except DeclinedError as declined:
                return declined.answer.response()
            return self._told(good, request, context)

        # Starlette would add HEAD to GET, which vendors do not publish.
        route = Route(path, endpoint, methods=[method])
        route.methods = {method}
        return route

    def _told(self, good: Good, request: Request, context: RequestContext) -> Response:
        """Send a good answer, or what mischief makes of it, and note what was told by it."""
        operation = context.operation or ""
        injected_fault = self.injected_fault if self.injected_fault_operation in {None, operation} else None
        if injected_fault is None:
            self._project.runs.witness(good.runs, operation, context.now)
            return self._with_bad_records(good.response())
        if injected_fault is InjectedFault.GARBLED:
            # The first run is lost, the others can still be read.
            self._project.runs.witness(good.runs[1:], operation, context.now)
        spoken = self._spoken(injected_fault, request, context)
        return answer(injected_fault, good.value) if spoken is None else spoken.response()

    def _with_bad_records(self, response: Response) -> Response:
        """Put the bytes of `bad_records` into the records of an answer."""
        if self.bad_records:
            ids = {pipeline: self.pipeline_id(pipeline) for pipeline in self.bad_records}
            body = with_bad_records(
                bytes(response.body), {ids[one]: value for one, value in self.bad_records.items()}
            )
            response.headers["Content-Length"] = str(len(body))
            response.body = body
        return response

    def _wait(self, context: RequestContext) -> float | None:
        """Count a request that could prove who it is from; None if it may pass, else the seconds it should wait."""
        if self.throttle is None:
            return None
        limit, seconds = self.throttle
        return self._throttle.wait(limit, seconds, context.now)

    async def _lost(self, request: Request, _: Exception) -> Response:
        return self._not_published(request, request.state.context).response()

    def _now(self) -> float:
        """Look the clock up anew, because a test may replace it."""
        return self.clock()


async def _body(request: Request) -> bytes | None:
    """Read the whole body, or None as soon as it is larger than a gateway takes."""
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > MOST_BODY:
            return None
    return bytes(body)
