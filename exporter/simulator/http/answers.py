"""Responses of simulated clouds: good ones, errors of the service, and injected faults.

Operations return an `Answer` or raise `DeclinedError`; `Cloud` turns both into HTTP responses. An injected fault
replaces the good response of an operation. Each fault has been seen from a gateway, a proxy, a load balancer or the
service itself.
"""

import asyncio
import enum
import json
import re
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from starlette.responses import RedirectResponse, Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from exporter.simulator.world.runs import RunSnapshot

HUGE_BYTES = 40 * 2**20
DRIP_SECONDS = 0.2
INJECTED_WAIT = 5
"""Seconds that an injected throttling error asks the client to wait if the switch `retry_after` is on."""

Record = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Answer:
    """A response before serialization: `value` becomes JSON, or text if `plain`.

    `runs` are the runs that the response reports, in the order of its records.
    """

    value: object
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    plain: bool = False
    runs: Sequence[RunSnapshot] = ()

    def response(self) -> Response:
        """Return the HTTP response."""
        if self.plain:
            return Response(str(self.value), self.status, dict(self.headers), media_type="text/plain")
        return Response(encode(self.value), self.status, dict(self.headers), media_type="application/json")


class DeclinedError(Exception):
    """Makes the service respond with an error; `body` is sent as JSON, or as plain text if it is a string."""

    def __init__(self, status: int, body: object) -> None:
        super().__init__(status, body)
        self.answer = Answer(body, status, plain=isinstance(body, str))


def encode(value: object) -> bytes:
    """Return `value` as JSON in the style of the services: compact UTF-8 without unnecessary escapes."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()


class InjectedFault(enum.Enum):
    """Kind of a faulty response that replaces a good one."""

    HTML = "200 with a page of HTML, as a login portal or a wrong host gives"
    BAD_GATEWAY = "502 with a page of HTML"
    EMPTY = "200 without a body"
    TRUNCATED = "fewer bytes than Content-Length promised, then the connection closes"
    CUT = "complete HTTP, but the JSON ends in the middle"
    HUGE = "40 MB of JSON, streamed"
    ERROR_OBJECT = "200 with an error object of the service"
    NESTED_ERROR = "200 with a nested error object"
    SERVER_ERROR = "500 of the gateway"
    THROTTLED = "the gateway's throttling error"
    DENIED = "403 of the gateway"
    REDIRECT = "302 to a login page on the same host"
    DRIP = "one byte every 0.2 s, without end"
    GARBLED = "bytes that are not UTF-8 in the first record with a run; the other records are intact"
    NULL = "200 with null"


_PAGE = "<!DOCTYPE html><html><head><title>{0}</title></head><body><h1>{0}</h1></body></html>"


def fault_response(injected_fault: InjectedFault, value: object) -> Response:
    """Return the response for a fault that looks the same for all vendors; `value` is the payload that it replaces."""
    body = encode(value)
    match injected_fault:
        case InjectedFault.HTML:
            return Response(_PAGE.format("Welcome"), media_type="text/html")
        case InjectedFault.BAD_GATEWAY:
            return Response(_PAGE.format("502 Bad Gateway"), 502, media_type="text/html")
        case InjectedFault.NULL:
            return Response(b"null", media_type="application/json")
        case InjectedFault.EMPTY:
            return Response(b"", media_type="application/json")
        case InjectedFault.TRUNCATED:
            return _TruncatedResponse(body, media_type="application/json")
        case InjectedFault.CUT:
            return Response(body[: len(body) // 2], media_type="application/json")
        case InjectedFault.HUGE:
            return StreamingResponse(_huge(), media_type="application/json")
        case InjectedFault.REDIRECT:
            return RedirectResponse("/authui/login.html", 302)
        case InjectedFault.DRIP:
            return StreamingResponse(_drip(), media_type="application/json")
        case _:
            return Response(_garble(body), media_type="application/json")


RESET_EXTENSION = "simulator.reset"
"""Key of the ASGI extension that resets the connection of a request; `serve` provides it."""


class ResetResponse(Response):
    """Resets the connection instead of responding; sends 502 without a body if the server cannot reset it."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Reset the connection, and return once the server has noticed."""
        reset = scope.get("extensions", {}).get(RESET_EXTENSION)
        if reset is None:
            await Response(status_code=502)(scope, receive, send)
            return
        reset()
        # The server reports an error for an app that returns before it has noticed the end of the connection.
        while (await receive())["type"] != "http.disconnect":
            pass


class _TruncatedResponse(Response):
    """Announces the length of the whole body but sends half of it; the server then closes the connection."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        await send(
            {"type": "http.response.body", "body": self.body[: len(self.body) // 2], "more_body": True}
        )


async def _huge() -> AsyncIterator[bytes]:
    record = encode({"pipeline_id": "0" * 32, "detail_url": "x" * 2**16})
    yield b"[" + record
    for _ in range(HUGE_BYTES // len(record)):
        yield b"," + record
    yield b"]"


async def _drip() -> AsyncIterator[bytes]:
    yield b"["
    while True:
        await asyncio.sleep(DRIP_SECONDS)
        yield b" "


def with_bad_records(body: bytes, values: Mapping[str, bytes]) -> bytes:
    """Return `body` with an extra field in the records of some pipelines; `values` are its raw bytes by pipeline id."""
    for pipeline, value in values.items():
        name = rb'"(?:pipeline_id|pipelineId)":"?%b\b' % re.escape(pipeline.encode())
        body = re.sub(name, rb'"spoilt":%b,\g<0>' % value.replace(b"\\", rb"\\"), body)
    return body


def _garble(body: bytes) -> bytes:
    """Insert invalid UTF-8 into the first run id; without one, into the first status or else the first string."""
    for mark in (b'"pipeline_run_id":"', b'"status":"', b'":"'):
        if mark in body:
            return body.replace(mark, mark + b"\xff\xfe", 1)
    return body
