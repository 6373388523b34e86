"""What a cloud says on its bad days: the answers an exporter must survive.

Each stands for something that gateways, proxies, load balancers or the service itself have been seen to do.
They are given to requests that have passed the gateway and were well-formed, in the place of the good answer,
whatever the operation. Those that consist of a vendor's words are worded by its cloud.
"""

import asyncio
import enum
import json
import re
from collections.abc import AsyncIterator, Mapping
from typing import Any

from starlette.responses import RedirectResponse, Response, StreamingResponse
from starlette.types import Receive, Scope, Send

HUGE_BYTES = 40 * 2**20
DRIP_SECONDS = 0.2

Record = dict[str, Any]


class InjectedFault(enum.Enum):
    """An answer in the place of the good one."""

    HTML = "200 with a page of HTML, as a login portal or a wrong host gives"
    BAD_GATEWAY = "502 with a page of HTML"
    EMPTY = "200 without a body"
    TRUNCATED = "fewer bytes than Content-Length promised, then the connection closes"
    CUT = "complete HTTP, but the JSON ends in the middle"
    HUGE = "40 MB of JSON, streamed"
    ERROR_OBJECT = "200 with an error object of the service"
    NESTED_ERROR = "200 with a nested error object"
    SERVER_ERROR = "500 of the gateway"
    THROTTLED = "the gateway's no to whoever asks too often"
    DENIED = "403 of the gateway"
    REDIRECT = "302 to a login page on the same host"
    DRIP = "one byte every 0.2 s, for ever"
    GARBLED = "the first record that ran holds bytes that are not UTF-8, the others are fine"
    NULL = "200 with null"


_PAGE = "<!DOCTYPE html><html><head><title>{0}</title></head><body><h1>{0}</h1></body></html>"


def encoded(value: object) -> bytes:
    """JSON as the service writes it: UTF-8, nothing escaped that need not be."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()


def answer(injected_fault: InjectedFault, good: object) -> Response:
    """Return the answer that `injected_fault`, which needs no vendor's words, makes of what would have been `good`."""
    body = encoded(good)
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
            return _Truncated(body, media_type="application/json")
        case InjectedFault.CUT:
            return Response(body[: len(body) // 2], media_type="application/json")
        case InjectedFault.HUGE:
            return StreamingResponse(_huge(), media_type="application/json")
        case InjectedFault.REDIRECT:
            return RedirectResponse("/authui/login.html", 302)
        case InjectedFault.DRIP:
            return StreamingResponse(_drip(), media_type="application/json")
        case _:
            return Response(_garbled(body), media_type="application/json")


class _Truncated(Response):
    """Promises its whole body, sends half of it and leaves; the server then closes the connection."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        await send(
            {"type": "http.response.body", "body": self.body[: len(self.body) // 2], "more_body": True}
        )


async def _huge() -> AsyncIterator[bytes]:
    record = encoded({"pipeline_id": "0" * 32, "detail_url": "x" * 2**16})
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
    """Return a body in which the records of some pipelines, by id, have these bytes as the value of one more field."""
    for pipeline, value in values.items():
        name = rb'"(?:pipeline_id|pipelineId)":"?%b\b' % re.escape(pipeline.encode())
        body = re.sub(name, rb'"spoilt":%b,\g<0>' % value.replace(b"\\", rb"\\"), body)
    return body


def _garbled(body: bytes) -> bytes:
    """Spoil the first run's id, or where there is none the first status, or the first text."""
    for mark in (b'"pipeline_run_id":"', b'"status":"', b'":"'):
        if mark in body:
            return body.replace(mark, mark + b"\xff\xfe", 1)
    return body
