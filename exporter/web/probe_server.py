"""Serve the health probes in a separate thread, which responds with 503 while the daemon's event loop is stuck."""

import asyncio
import socket
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from exporter.web.routes import probes
from exporter.web.server import Server

STUCK = 3.0
"""Seconds within which the daemon's event loop must respond; shorter than the time limit of a kubelet's probe."""

_CONNECTIONS = 32
"""Maximum number of connections; the kubelet opens one for each probe."""

T = TypeVar("T")


class ProbeServer:
    """Serves the health probes only, without TLS and passwords."""

    def __init__(
        self, listener: socket.socket, problem: Callable[[], str], ready: Callable[[], bool]
    ) -> None:
        """`problem` and `ready` are as for `application`. They are called in the event loop that runs `serve`."""
        self._listener = listener
        self._problem = problem
        self._ready = ready
        self._server = Server(probes(self._ask_problem, self._ask_ready), connections=_CONNECTIONS)
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="probes")
        self._daemon: asyncio.AbstractEventLoop | None = None

    async def serve(self) -> None:
        """Serve until `stop`."""
        self._daemon = asyncio.get_running_loop()
        serve = self._server.serve
        try:
            await self._daemon.run_in_executor(
                self._thread, lambda: asyncio.run(serve(sockets=[self._listener]))
            )
        finally:
            self._thread.shutdown(wait=False)

    def stop(self) -> None:
        """Stop serving."""
        self._server.should_exit = True

    async def _ask_problem(self) -> str:
        found = await self._ask(self._problem)
        return f"the event loop has not turned for {STUCK:.0f} s\n" if found is None else found

    async def _ask_ready(self) -> bool:
        return await self._ask(self._ready) or False

    async def _ask(self, question: Callable[[], T]) -> T | None:
        """Call a function in the daemon's event loop and return its result; None if the loop is stuck or not started."""

        async def answer() -> T:
            return question()

        if self._daemon is None:
            return None
        asked = asyncio.run_coroutine_threadsafe(answer(), self._daemon)
        try:
            return await asyncio.wait_for(asyncio.wrap_future(asked), STUCK)
        except TimeoutError:
            return None
