"""The simulator's web console: true states of the pipelines, recent requests, and a form that begins troubles.

`/` is an HTML page, or JSON if the client asks for that; `/truth` is always JSON. `POST /` begins or ends a trouble,
from this machine only. All other paths belong to the clouds.
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, fields
from datetime import UTC, datetime
from ipaddress import ip_address
from itertools import islice
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, PlainTextResponse, RedirectResponse, Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from exporter.simulator.console.drill import Drill, Trouble
from exporter.simulator.http.cloud import Cloud, combine
from exporter.simulator.http.recorder import NO_ANSWER, RecordedRequest
from exporter.simulator.world.truth import PipelineTruth

RECENT = 20
"""Number of recent requests that the console shows for a cloud."""
ROWS = 500
"""Maximum number of pipelines of a cloud on the HTML page; JSON has all."""
_LARGEST_FORM = 4096
_STYLE = "/console.css"
_HERE = Path(__file__).parent


class Console:
    """ASGI application, in `app`, of the console and the clouds of a simulator on one port.

    `clouds` has the clouds by the names of their projects. `read_duration` returns the seconds of a text such as `5m`,
    or raises `ValueError` with a message.
    """

    def __init__(
        self,
        clouds: Mapping[str, Cloud],
        read_duration: Callable[[str], float],
        *,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._clouds = clouds
        self._clock = clock
        self._read_duration = read_duration
        self.drill = Drill(list(clouds.values()), clock)
        self._initial = {name: _switches(cloud) for name, cloud in clouds.items()}
        self._vendors = combine(*clouds.values())
        self._template = _environment().get_template("console.html")
        self._pages = Starlette(
            routes=[
                Route("/", self._show, methods=["GET"]),
                Route("/", self._switch, methods=["POST"]),
                Route("/truth", self._truth, methods=["GET"]),
                Route(_STYLE, _style, methods=["GET"]),
            ]
        )
        self._paths = {"/", "/truth", _STYLE}

    async def app(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request for the console or for a cloud."""
        self.drill.update()
        pages = scope["path"] in self._paths
        await (self._pages if pages else self._vendors)(scope, receive, send)

    async def _show(self, request: Request) -> Response:
        accept = request.headers.get("accept", "")
        if "application/json" in accept and "text/html" not in accept:
            return await self._truth(request)
        return HTMLResponse(
            self._template.render(
                **await self._state(),
                troubles=[(trouble.value, trouble.meaning) for trouble in Trouble],
                rows=ROWS,
            ),
            headers={
                "Content-Security-Policy": "default-src 'none'; style-src 'self'; form-action 'self'",
                "Cache-Control": "no-store",
            },
        )

    async def _truth(self, _: Request) -> Response:
        return JSONResponse(await self._state())

    async def _switch(self, request: Request) -> Response:
        """Begin the trouble that the form names, or end the current one if it names none."""
        if not _is_local(request):
            return PlainTextResponse("troubles can be switched from this machine only\n", 403)
        text = await _read_form(request)
        if text is None:
            return PlainTextResponse("the form is too large\n", 413)
        form = parse_qs(text, keep_blank_values=True)
        values = {name: texts[-1].strip() for name, texts in form.items()}
        try:
            self._apply(values)
        except ValueError as error:
            return PlainTextResponse(f"{error}\n", 400)
        return RedirectResponse("/", 303)

    def _apply(self, form: Mapping[str, str]) -> None:
        """Begin or end a trouble; raise `ValueError` with a message for an invalid form."""
        unknown = form.keys() - {"trouble", "after", "for"}
        if unknown:
            raise ValueError(f"{min(unknown)!r} is not one of trouble, after, for")
        trouble, after, duration = (form.get(name) for name in ("trouble", "after", "for"))
        if trouble:
            self.drill.plan(
                _trouble(trouble),
                self._read_duration(after) if after else 0.0,
                self._read_duration(duration) if duration else None,
            )
        else:
            self.drill.stop()

    # -- the displayed state

    async def _state(self) -> dict[str, Any]:
        """Return the state that the console shows, as JSON values; times are Unix seconds."""
        drill = self.drill
        trouble = drill.trouble and {
            "name": drill.trouble.value,
            "active": drill.active,
            "begins": drill.begins,
            "ends": drill.ends,
        }
        clouds = []
        for name, cloud in self._clouds.items():
            requests = {
                "counts": [
                    {"operation": operation, "code": _code(status), "count": count}
                    for (operation, status), count in sorted(
                        cloud.request_counts.items(), key=lambda item: (item[0][0] or "", item[0][1])
                    )
                ],
                "recent": [_request(one) for one in islice(reversed(cloud.requests), RECENT)],
            }
            # Computing the histories of thousands of pipelines takes seconds; the clouds must keep serving.
            truth = await run_in_threadpool(cloud.truth)
            truth.sort(key=_order)
            clouds.append(
                {
                    "project": name,
                    "red": sum(pipeline.red for pipeline in truth),
                    "pipelines": [asdict(pipeline) for pipeline in truth],
                    "switches": [
                        {"name": switch, "value": value, "changed": value != self._initial[name][switch]}
                        for switch, value in _switches(cloud).items()
                    ],
                    "requests": requests,
                }
            )
        return {"now": self._clock(), "trouble": trouble, "clouds": clouds}


def _order(pipeline: PipelineTruth) -> tuple[bool, int, str]:
    """Sort key: red pipelines first, then the longest failure streak."""
    return not pipeline.red, -pipeline.failures, pipeline.pipeline


def _request(request: RecordedRequest) -> dict[str, Any]:
    return {
        "at": request.at,
        "operation": request.operation,
        "code": _code(request.status),
        "pipelines": len(request.pipeline_ids),
    }


def _code(status: int) -> str:
    return "reset" if status == NO_ANSWER else str(status)


def _switches(cloud: Cloud) -> dict[str, str]:
    """Return the `repr` of each switch of a cloud, by name."""
    return {switch.name: repr(getattr(cloud, switch.name)) for switch in fields(cloud)}


def _trouble(name: str) -> Trouble:
    try:
        return Trouble(name)
    except ValueError:
        raise ValueError(f"{name!r} is not one of {', '.join(Trouble)}") from None


def _is_local(request: Request) -> bool:
    """Return whether a request comes from this machine, and not from a page of another site."""
    if request.client is None:
        return False
    address = ip_address(request.client.host)
    if not (getattr(address, "ipv4_mapped", None) or address).is_loopback:
        return False
    origin = request.headers.get("origin")
    return origin is None or urlsplit(origin).netloc == request.headers.get("host")


async def _read_form(request: Request) -> str | None:
    """Return the body of a form; None if it is too large."""
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > _LARGEST_FORM:
            return None
    return body.decode("utf-8", "replace")


async def _style(_: Request) -> Response:
    return Response((_HERE / "console.css").read_bytes(), media_type="text/css")


def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(_HERE),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["utc"] = _utc
    environment.filters["span"] = _span
    return environment


def _utc(moment: float) -> str:
    return datetime.fromtimestamp(moment, UTC).strftime("%Y-%m-%d %H:%M:%S")


def _span(seconds: float) -> str:
    """Format a number of seconds with its two largest units."""
    rest = max(0, round(seconds))
    parts: list[str] = []
    for unit, size in (("d", 86_400), ("h", 3600), ("m", 60), ("s", 1)):
        count, rest = divmod(rest, size)
        if count or parts:
            parts.append(f"{count}{unit}")
    return " ".join(parts[:2]) or "0s"
