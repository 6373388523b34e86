"""Serve an ASGI app on a real port, in the event loop of the caller or in a thread.

Unlike a production server it stops at once and aborts requests in flight: a simulated cloud may send an endless
response, and a test needs its port back. It leaves signals and logging to the caller, except that it turns off
uvicorn's access log.
"""

import asyncio
import contextlib
import socket
import struct
import threading
from collections.abc import Iterator

import uvicorn
from starlette.types import ASGIApp, Receive, Scope, Send

from exporter.simulator.http.answers import RESET_EXTENSION

# Real gateways keep an idle connection longer than the minute between two polls of a client.
_KEEP_ALIVE_SECONDS = 75
_STOP_SECONDS = 10


async def serve(app: ASGIApp, listener: socket.socket) -> None:
    """Serve on `listener`, a listening TCP socket, until cancelled; then drop all connections and close it.

    Stopping takes less than half a second, even with requests in flight. Cancellation is passed on to the caller.
    """
    _disable_nagle(listener)
    stopping = False

    async def abortable(scope: Scope, receive: Receive, send: Send) -> None:
        scope.setdefault("extensions", {})[RESET_EXTENSION] = lambda: _reset_connection(server, scope)
        try:
            await app(scope, receive, send)
        except asyncio.CancelledError:
            # The connection is closed; uvicorn would log the cancellation as an error of the app.
            if not stopping:
                raise

    config = uvicorn.Config(
        abortable,
        http="h11",
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        date_header=False,
        server_header=False,
        timeout_keep_alive=_KEEP_ALIVE_SECONDS,
    )
    server = _Server(config)
    running_server = asyncio.ensure_future(server.serve(sockets=[listener]))
    try:
        # A cancelled uvicorn leaves its sockets open.
        await asyncio.shield(running_server)
    finally:
        stopping = True
        server.stop.set()
        await asyncio.wait([running_server])


class _Server(uvicorn.Server):
    """Uvicorn server that stops at once; uvicorn itself checks every 0.1 s, then waits for requests in flight."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.stop = asyncio.Event()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    async def main_loop(self) -> None:
        await self.stop.wait()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        for server in self.servers:
            server.close()
        for listener in sockets or []:
            listener.close()
        while self.server_state.connections or self.server_state.tasks:
            for connection in list(self.server_state.connections):
                connection.transport.abort()
            # Connections notice their end in the next iteration of the loop, before their requests are cancelled.
            await asyncio.sleep(0)
            for task in list(self.server_state.tasks):
                task.cancel()
            await asyncio.sleep(0)


def _reset_connection(server: uvicorn.Server, scope: Scope) -> None:
    """Reset the connection of a request, so that the client sees a network error instead of a regular close."""
    for connection in server.server_state.connections:
        if getattr(connection, "scope", None) is scope:
            own = connection.transport.get_extra_info("socket")
            # Closing without lingering sends a reset.
            own.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            connection.transport.abort()
            return


def _disable_nagle(listener: socket.socket) -> None:
    # Connections inherit this option. asyncio sets it only on sockets with an explicit protocol number, which
    # the usual ways to create a listener do not give. Without it every response waits 40 ms for the client's
    # delayed acknowledgement.
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


@contextlib.contextmanager
def running(app: ASGIApp, host: str = "127.0.0.1", port: int = 0) -> Iterator[str]:
    """Serve `app` from a thread while the context lasts; yield the base URL.

    Port 0 picks a free port. The port is free again at the end. Raises OSError if the port is taken, and at the end
    any error that stopped the server early.
    """
    listener = socket.create_server((host, port))
    _disable_nagle(listener)
    loop = asyncio.new_event_loop()
    serving = loop.create_task(serve(app, listener))
    thread = threading.Thread(target=_run_loop, args=(loop, serving), name="simulator", daemon=True)
    thread.start()
    try:
        yield f"http://{host}:{listener.getsockname()[1]}"
    finally:
        with contextlib.suppress(RuntimeError):  # a failed server has closed the loop
            loop.call_soon_threadsafe(serving.cancel)
        thread.join(_STOP_SECONDS)
        listener.close()  # needed if the server was stopped before it started
    if not serving.cancelled():
        serving.result()


def _run_loop(loop: asyncio.AbstractEventLoop, serving: asyncio.Task[None]) -> None:
    try:
        loop.run_until_complete(asyncio.wait([serving]))
        loop.run_until_complete(loop.shutdown_asyncgens())
    finally:
        loop.close()
