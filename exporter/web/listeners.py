"""The servers of the daemon: the main one, and one for health probes if that has an address of its own."""

import asyncio
import logging
import socket
from collections.abc import Callable

from starlette.types import ASGIApp

from exporter import __version__
from exporter.core.clock import Clock
from exporter.web.guard import Guard
from exporter.web.probe_server import ProbeServer
from exporter.web.server import Server, address_of
from exporter.web.web_config_file import WebConfigFile

_log = logging.getLogger("exporter.web.listeners")


class Listeners:
    """Serves the application, under the web configuration file if there is one, and the health probes."""

    def __init__(
        self,
        app: ASGIApp,
        listener: socket.socket,
        clock: Clock,
        *,
        web_config: WebConfigFile | None = None,
        reloaded: Callable[[bool], None],
        probe_listener: socket.socket | None = None,
        problem: Callable[[], str],
        ready: Callable[[], bool],
        poll_now: bool = False,
    ) -> None:
        """Create the servers. Call this before polls begin, because the servers count the descriptors that are open.

        `reloaded` is called after each reload of the web configuration, with True if it succeeded. `problem` and `ready`
        are as for `ProbeServer`, `poll_now` is as for `Guard`.
        """
        self._web_config = web_config
        self._reloaded = reloaded
        self._watching: asyncio.Task[None] | None = None
        if web_config is None:
            main = Server(app)
        else:
            guard = Guard(app, lambda: web_config.settings, clock, poll_now=poll_now)
            main = Server(guard, lambda: web_config.tls)
        self._main = main
        self._listener = listener
        self._probe_listener = probe_listener
        self._probes = ProbeServer(probe_listener, problem, ready) if probe_listener is not None else None

    async def serve(self) -> None:
        """Serve until `stop`, or until a server fails."""
        if self._web_config is not None:
            self._watching = asyncio.create_task(self._web_config.watch(self._apply))
        serving = [asyncio.create_task(self._main.serve(sockets=[self._listener]))]
        if self._probes is not None:
            serving.append(asyncio.create_task(self._probes.serve()))
        for listener in (self._listener, self._probe_listener):
            if listener is not None:
                _log.info("listening", extra={"address": address_of(listener), "version": __version__})
        await asyncio.wait(serving, return_when=asyncio.FIRST_COMPLETED)
        self.stop()
        await asyncio.gather(*serving)

    def stop(self) -> None:
        """Stop serving."""
        if self._watching is not None:
            self._watching.cancel()
        self._main.should_exit = True
        if self._probes is not None:
            self._probes.stop()

    def _apply(self, succeeded: bool) -> None:
        if succeeded:
            # Connections made under the old settings end: their clients may not be trusted any more.
            self._main.close_connections()
        self._reloaded(succeeded)
