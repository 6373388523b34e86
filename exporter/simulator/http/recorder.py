"""The reception of the cloud: who comes is counted, timed and remembered, and nobody leaves without a stamp."""

import asyncio
import secrets
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from email.utils import formatdate

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from exporter.simulator.http.switches import Switches

_REMEMBERED_CALLS = 5_000


@dataclass(frozen=True, slots=True)
class Call:
    """A request as the cloud remembers it.

    `operation` is the vendor's name of it, None if the path is not published. `pipeline_ids` is what was
    asked for, as asked: those of a body are empty if the request was refused before its body was read.
    `run_id` is the run that was asked for, if one was. `at` is the cloud's clock, in Unix seconds.
    """

    operation: str | None
    pipeline_ids: tuple[str, ...]
    status: int
    at: float
    run_id: str | None = None


class RequestContext:
    """What is known of a request under way; `now` is the one moment that its whole answer speaks of."""

    def __init__(self, now: float) -> None:
        self.now = now
        self.request_id = secrets.token_hex(16)
        self.operation: str | None = None
        self.pipeline_ids: tuple[str, ...] = ()
        self.run_id: str | None = None


class RequestLog:
    """What the reception writes down: the latest calls, oldest first, and how many are under way."""

    def __init__(self) -> None:
        self.calls: deque[Call] = deque(maxlen=_REMEMBERED_CALLS)
        self.under_way = 0
        self.most_under_way = 0


class RequestRecorder:
    """Counts and times every request, published or not; stamps every answer with an id and the date."""

    def __init__(
        self, app: ASGIApp, book: RequestLog, switches: Switches, clock: Callable[[], float]
    ) -> None:
        self._app = app
        self._book = book
        self._switches = switches
        self._clock = clock

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        book = self._book
        book.under_way += 1
        book.most_under_way = max(book.most_under_way, book.under_way)
        try:
            if self._switches.latency:
                await asyncio.sleep(self._switches.latency)
            context = RequestContext(self._clock())
            scope.setdefault("state", {})["context"] = context

            async def stamped(message: Message) -> None:
                if message["type"] == "http.response.start":
                    headers = MutableHeaders(scope=message)
                    headers["X-Request-Id"] = context.request_id
                    headers["Date"] = formatdate(context.now + self._switches.skew, usegmt=True)
                    book.calls.append(
                        Call(
                            context.operation,
                            context.pipeline_ids,
                            message["status"],
                            context.now,
                            context.run_id,
                        )
                    )
                await send(message)

            await self._app(scope, receive, stamped)
        finally:
            book.under_way -= 1
