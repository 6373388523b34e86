"""HTTP routes of the daemon. They respond with what polls have found, and never wait for a provider."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from typing import TypeVar

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from exporter.exposition import Body, Variant
from exporter.exposition.negotiation import accepts_gzip, choose_format
from exporter.web.status_routes import StatusSource, status_routes

_YIELD_BYTES = 1 << 20
"""Bytes to send before a response yields to others."""

T = TypeVar("T")

_log = logging.getLogger("exporter.web.routes")


def application(
    *,
    page: Callable[[Variant], AbstractAsyncContextManager[Body]],
    problem: Callable[[], str],
    ready: Callable[[], bool],
    status: StatusSource,
    effective_config: Callable[[], str],
    telemetry_path: str,
    created_series: Callable[[], bool] = lambda: False,
    reload: Callable[[], Awaitable[Sequence[str]]] | None = None,
    poll_now: Route | None = None,
) -> Starlette:
    """Return the web application.

    `page` provides the current /metrics page in a variant while it is being sent. `problem` returns why the exporter is
    unhealthy, or an empty string. `ready` returns True once the first refreshes have ended. `status` has the sources of the
    status page. `effective_config` returns the configuration in force with its secrets masked. `telemetry_path` is the path
    of the /metrics page. `created_series` returns whether OpenMetrics has `_created` series. `reload` reads the
    configuration again, and returns all faults; it is None if clients may not reload. `poll_now` is the result of
    `poll_route`, or None if poll now is disabled.
    """

    async def metrics(request: Request) -> Response:
        variant = Variant(
            choose_format(", ".join(request.headers.getlist("accept")), created_series=created_series()),
            accepts_gzip(", ".join(request.headers.getlist("accept-encoding"))),
        )
        return _PageResponse(variant, page)

    async def config(_: Request) -> Response:
        return PlainTextResponse(effective_config())

    routes: Sequence[Route] = (
        *_probe_routes(_waiting_for(problem), _waiting_for(ready)),
        Route("/config", config),
        Route("/-/reload", _reloading(reload), methods=["POST", "PUT"]),
        *([poll_now] if poll_now is not None else []),
        Route(telemetry_path, metrics),
        *status_routes(status, root=telemetry_path != "/"),
    )
    return _without_redirects(routes)


def probes(problem: Callable[[], Awaitable[str]], ready: Callable[[], Awaitable[bool]]) -> Starlette:
    """Return an application with the health probes only; `problem` and `ready` are as for `application`, but async."""
    return _without_redirects(_probe_routes(problem, ready))


def _reloading(
    reload: Callable[[], Awaitable[Sequence[str]]] | None,
) -> Callable[[Request], Awaitable[Response]]:
    async def reloading(_: Request) -> Response:
        if reload is None:
            return PlainTextResponse("Reloading is not enabled (--web.enable-lifecycle)\n", status_code=403)
        faults = await asyncio.shield(reload())
        if faults:
            return PlainTextResponse("\n".join(("Not reloaded:", *faults, "")), status_code=500)
        return PlainTextResponse("Reloaded\n")

    return reloading


def _waiting_for(function: Callable[[], T]) -> Callable[[], Awaitable[T]]:
    async def call() -> T:
        return function()

    return call


def _probe_routes(
    problem: Callable[[], Awaitable[str]], ready: Callable[[], Awaitable[bool]]
) -> Sequence[Route]:
    async def healthy(_: Request) -> Response:
        reason = await problem()
        if reason:
            return PlainTextResponse(f"Unhealthy: {reason}", status_code=503)
        return PlainTextResponse("Healthy\n")

    async def readiness(_: Request) -> Response:
        if await ready():
            return PlainTextResponse("Ready\n")
        return PlainTextResponse("Not ready: the first refresh has not ended\n", status_code=503)

    return (Route("/-/healthy", healthy), Route("/-/ready", readiness))


def _without_redirects(routes: Sequence[Route]) -> Starlette:
    web = Starlette(routes=routes)
    web.router.redirect_slashes = False
    return web


class _PageResponse(Response):
    """Sends one /metrics page, chunk by chunk, even if a newer one is published meanwhile."""

    def __init__(
        self, variant: Variant, page: Callable[[Variant], AbstractAsyncContextManager[Body]]
    ) -> None:
        super().__init__(media_type=variant.form.value)
        self._variant = variant
        self._page = page

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002  # the signature of ASGI
        """Send the page."""
        try:
            await self._send(scope, send)
        except Exception:
            # uvicorn's own log is disabled, because it reports each client that leaves early.
            _log.exception(
                "scrape failed by an internal error, please report this", extra={"id": "scrape-failed"}
            )
            raise

    async def _send(self, scope: Scope, send: Send) -> None:
        async with self._page(self._variant) as body:
            self.headers["Content-Length"] = str(body.length)
            self.headers["Vary"] = "Accept, Accept-Encoding"
            if self._variant.gzip:
                self.headers["Content-Encoding"] = "gzip"
            start = {"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers}
            await send(start)
            if scope["method"] != "HEAD":
                sent = 0
                for chunk in body.chunks:
                    await send({"type": "http.response.body", "body": chunk, "more_body": True})
                    sent += len(chunk)
                    if sent >= _YIELD_BYTES:
                        # Otherwise a client that reads fast would keep the event loop busy.
                        await asyncio.sleep(0)
                        sent = 0
        await send({"type": "http.response.body", "body": b"", "more_body": False})
