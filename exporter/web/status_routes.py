"""Routes of the status page, its JSON and its assets. Pages are rendered in a thread, so that scrapes never wait for them."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import msgspec
from starlette.requests import Request
from starlette.responses import HTMLResponse, PlainTextResponse, Response
from starlette.routing import Route

from exporter.core.clock import Clock
from exporter.metrics.catalogue import Catalogue
from exporter.status_page.facts import ProjectFacts
from exporter.status_page.page import ASSETS, StatusPage
from exporter.status_page.query import PipelineQuery, QueryError
from exporter.tracking.views import View

_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; connect-src 'self'; "
        "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
}
_FILES = {"status.css": "text/css", "status.js": "text/javascript", "icon.svg": "image/svg+xml"}

T = TypeVar("T")


class StatusSource(msgspec.Struct, frozen=True, kw_only=True):
    """Sources of what the status page shows."""

    page: StatusPage
    catalogue: Callable[[], Catalogue]
    """Returns the families of the last publication."""
    views: Callable[[], Sequence[View]]
    """Returns the views of the last publication."""
    facts: Callable[[], Sequence[ProjectFacts]]
    """Returns the current facts about the projects; called in the event loop."""
    clock: Clock


def status_routes(source: StatusSource, *, root: bool) -> Sequence[Route]:
    """Return the routes of the status page. `root`: whether `/` is free for the page."""
    # One thread, so that scrapes compete with a single rendering, regardless of the number of clients.
    thread = ThreadPoolExecutor(1, thread_name_prefix="status-page")

    async def rendered(render: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(thread, render)

    async def overview(request: Request) -> Response:
        query = PipelineQuery.of(request.query_params)
        views, facts, now = source.views(), source.facts(), source.clock.time()
        return _html(await rendered(lambda: source.page.page(views, facts, query, now)))

    async def pipeline(request: Request) -> Response:
        project, pipeline_id = (request.query_params.get(name, "") for name in ("project", "pipeline_id"))
        views, catalogue, now = source.views(), source.catalogue(), source.clock.time()
        page = await rendered(lambda: source.page.pipeline(views, catalogue, project, pipeline_id, now))
        if page is None:
            return PlainTextResponse("no such pipeline is watched here\n", 404, headers=_HEADERS)
        return _html(page)

    async def answer(request: Request) -> Response:
        query = PipelineQuery.of(request.query_params)
        views, facts, now = source.views(), source.facts(), source.clock.time()
        body = await rendered(lambda: source.page.answer(views, facts, query, now))
        return Response(body, media_type="application/json", headers=_fresh(_HEADERS))

    files = {name: (ASSETS / name).read_bytes() for name in _FILES}

    def file_route(name: str) -> Route:
        async def send(_: Request) -> Response:
            headers = {**_HEADERS, "Cache-Control": "max-age=300"}
            return Response(files[name], media_type=_FILES[name], headers=headers)

        return Route(f"/assets/{name}", send)

    return (
        *([Route("/", _checked(overview))] if root else []),
        Route("/pipeline", pipeline),
        Route("/api/v1/status", _checked(answer)),
        *(file_route(name) for name in _FILES),
    )


def _checked(
    endpoint: Callable[[Request], Awaitable[Response]],
) -> Callable[[Request], Awaitable[Response]]:
    async def check(request: Request) -> Response:
        try:
            return await endpoint(request)
        except QueryError as error:
            return PlainTextResponse(f"{error}\n", 400, headers=_HEADERS)

    return check


def _html(text: str) -> Response:
    # A lone surrogate cannot be encoded; a provider can send one.
    return HTMLResponse(text.encode("utf-8", "replace"), headers=_fresh(_HEADERS))


def _fresh(headers: Mapping[str, str]) -> dict[str, str]:
    return {**headers, "Cache-Control": "no-store"}
