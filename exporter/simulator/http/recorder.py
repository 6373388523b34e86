"""Middleware that records every request and adds a request id and the date to every response."""

import asyncio
import random
import secrets
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass
from email.utils import formatdate

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from exporter.simulator.http.switches import Switches
from exporter.simulator.world.project import SimulatedProject

_MAX_RECORDED_REQUESTS = 5_000

NO_ANSWER = 0
"""Recorded status of a request whose connection was reset without a response."""


@dataclass(frozen=True, slots=True)
class RecordedRequest:
    """A request that a simulated cloud received.

    `operation` is the vendor's name, or None if the path is not published. `pipeline_ids` are the requested ids; ids
    in a body are missing if the request was refused before its body was read. `status` is `NO_ANSWER` after a reset.
    `run_id` is the requested run, or None. `at` is the cloud's time, in Unix seconds.
    """

    operation: str | None
    pipeline_ids: tuple[str, ...]
    status: int
    at: float
    run_id: str | None = None


class RequestContext:
    """Data of a request in progress; the whole response describes the state at `now` (Unix seconds).

    `project` is the project that the response reports about, if the cloud has several.
    """

    def __init__(self, now: float) -> None:
        self.now = now
        self.request_id = secrets.token_hex(16)
        self.operation: str | None = None
        self.pipeline_ids: tuple[str, ...] = ()
        self.run_id: str | None = None
        self.project: SimulatedProject | None = None


class RequestLog:
    """The latest requests, oldest first, and counts: of all requests by operation and status, and of those in flight."""

    def __init__(self) -> None:
        self.requests: deque[RecordedRequest] = deque(maxlen=_MAX_RECORDED_REQUESTS)
        self.counts: Counter[tuple[str | None, int]] = Counter()
        self.in_flight = 0
        self.max_in_flight = 0

    def record(self, context: RequestContext, status: int) -> None:
        """Record a request, when its response starts or its connection has been reset."""
        operation = context.operation
        self.counts[operation, status] += 1
        self.requests.append(
            RecordedRequest(operation, context.pipeline_ids, status, context.now, context.run_id)
        )


class RequestRecorder:
    """ASGI middleware that records each request in a `RequestLog` and sets `Date` and `X-Request-Id` of the response."""

    def __init__(self, app: ASGIApp, log: RequestLog, switches: Switches, clock: Callable[[], float]) -> None:
        self._app = app
        self._log = log
        self._switches = switches
        self._clock = clock

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        log, switches = self._log, self._switches
        log.in_flight += 1
        log.max_in_flight = max(log.max_in_flight, log.in_flight)
        try:
            delay = switches.latency + switches.latency_jitter * random.random()
            if delay:
                await asyncio.sleep(delay)
            context = RequestContext(self._clock())
            scope.setdefault("state", {})["context"] = context
            answered = False

            async def record_and_send(message: Message) -> None:
                nonlocal answered
                if message["type"] == "http.response.start":
                    answered = True
                    headers = MutableHeaders(scope=message)
                    headers["X-Request-Id"] = context.request_id
                    headers["Date"] = formatdate(context.now + switches.skew, usegmt=True)
                    log.record(context, message["status"])
                await send(message)

            await self._app(scope, receive, record_and_send)
            if not answered:
                log.record(context, NO_ANSWER)
        finally:
            log.in_flight -= 1
