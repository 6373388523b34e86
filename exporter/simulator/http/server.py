"""A real port for an ASGI app, inside a caller's event loop or in a thread of its own.

Unlike a server for production it stops at once: answers under way are broken off, because a simulated cloud
may be dripping one for ever, and a test wants its port back. It leaves signals and the levels and formats of logs to
whoever runs it; of uvicorn's logs it only turns off the one of requests.
"""

import asyncio
import contextlib
import socket
import threading
from collections.abc import Iterator

import uvicorn
from starlette.types import ASGIApp, Receive, Scope, Send

# A gateway keeps connections longer than a client that polls every minute leaves them idle.
_KEEP_ALIVE_SECONDS = 75
_STOP_SECONDS = 10


async def serve(app: ASGIApp, listener: socket.socket) -> None:
    """Answer on `listener`, a listening TCP socket, until cancelled; then drop all connections and close it.

    Stopping takes less than half a second, whatever is under way. Cancellation is passed on to the caller.
    """
    _answer_at_once(listener)
    stopping = False

    async def breakable(scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await app(scope, receive, send)
        except asyncio.CancelledError:
            # The connection is gone already; let through, this would be logged as a fault of the app.
            if not stopping:
                raise

    config = uvicorn.Config(
        breakable,
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
        # Shielded, because a uvicorn that is cancelled leaves its sockets open.
        await asyncio.shield(running_server)
    finally:
        stopping = True
        server.should_exit = True
        while not running_server.done():
            for connection in list(server.server_state.connections):
                connection.transport.abort()
            # Connections learn of their end in the next turn of the loop, before the answers under way are
            # cancelled.
            await asyncio.sleep(0)
            for answer in list(server.server_state.tasks):
                answer.cancel()
            await asyncio.wait([running_server], timeout=0.05)


class _Server(uvicorn.Server):
    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def _answer_at_once(listener: socket.socket) -> None:
    # Connections inherit this. asyncio sets it only on sockets made with an explicit protocol number, which
    # the usual ways to make a listener do not give; without it every answer waits 40 ms for the client's
    # delayed acknowledgement.
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


@contextlib.contextmanager
def running(app: ASGIApp, host: str = "127.0.0.1", port: int = 0) -> Iterator[str]:
    """Serve `app` from a thread of its own for as long as the context lasts; gives the base URL.

    Port 0 picks a free one. The same port can be taken again right after. Raises OSError if the port is
    taken, and at the end whatever stopped the server before its time.
    """
    listener = socket.create_server((host, port))
    _answer_at_once(listener)
    loop = asyncio.new_event_loop()
    serving = loop.create_task(serve(app, listener))
    thread = threading.Thread(target=_live, args=(loop, serving), name="simulator", daemon=True)
    thread.start()
    try:
        yield f"http://{host}:{listener.getsockname()[1]}"
    finally:
        with contextlib.suppress(RuntimeError):  # the loop is closed if the server failed
            loop.call_soon_threadsafe(serving.cancel)
        thread.join(_STOP_SECONDS)
        listener.close()  # the server does it, unless it was stopped before it began
    if not serving.cancelled():
        serving.result()


def _live(loop: asyncio.AbstractEventLoop, serving: asyncio.Task[None]) -> None:
    try:
        loop.run_until_complete(asyncio.wait([serving]))
        loop.run_until_complete(loop.shutdown_asyncgens())
    finally:
        loop.close()
