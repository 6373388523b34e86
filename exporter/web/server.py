"""The web server: listening socket, and uvicorn with limits on connections."""

import asyncio
import contextlib
import socket
import ssl
from collections.abc import Callable, Iterator

import uvicorn
from starlette.types import ASGIApp

from exporter.web.connections import KEEP_ALIVE, Connection, Connections, connection_limit

_SHUTDOWN_TIMEOUT = 3
"""Seconds to wait for responses in progress when the server stops."""

_BACKLOG = 2048
"""Connections that the kernel queues until they are accepted. If the queue is full, a client retries after a second."""


class ListenError(Exception):
    """The server cannot listen on the address."""


def listen(address: str, flag: str = "web.listen-address") -> socket.socket:
    """Return a socket that listens on `HOST:PORT`: on every interface without a host, on a free port with port 0.

    `flag` is the command-line flag that the error message names.

    Raises:
        ListenError: the address cannot be used.

    """
    host, _, port = address.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    try:
        if host:
            family = socket.AF_INET6 if ":" in host else socket.AF_INET
            listener = socket.create_server((host, int(port)), family=family, backlog=_BACKLOG)
        elif socket.has_dualstack_ipv6():
            listener = socket.create_server(
                ("::", int(port)), family=socket.AF_INET6, dualstack_ipv6=True, backlog=_BACKLOG
            )
        else:
            listener = socket.create_server(("", int(port)), backlog=_BACKLOG)
    except (OSError, OverflowError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise ListenError(
            f"cannot listen on {address}: {reason} (choose another address with --{flag})"
        ) from None
    # Connections inherit it; without it each response waits 40 ms for the client's delayed acknowledgement.
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listener


def address_of(listener: socket.socket) -> str:
    """Return the `HOST:PORT` that a listener is bound to."""
    host, port = listener.getsockname()[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


class Server(uvicorn.Server):
    """uvicorn with limits on connections, and without its signal handlers: the daemon has its own."""

    def __init__(
        self,
        app: ASGIApp,
        tls: Callable[[], ssl.SSLContext | None] = lambda: None,
        *,
        connections: int | None = None,
    ) -> None:
        """`tls` returns the TLS context of a new connection, None for plain HTTP.

        `connections` is the maximum number of connections; by default it is `connection_limit()`.
        """
        super().__init__(
            uvicorn.Config(
                app,
                ws="none",
                lifespan="off",
                log_config=None,
                access_log=False,
                server_header=False,
                timeout_keep_alive=int(KEEP_ALIVE),
                timeout_graceful_shutdown=_SHUTDOWN_TIMEOUT,
            )
        )

        self._tls = tls
        self._connections = Connections(connection_limit() if connections is None else connections)
        self._accepting: list[asyncio.Task[None]] = []

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begin to accept connections."""
        await super().startup(sockets=[])
        for listener in sockets or []:
            accepting = self._connections.accept(listener, self._connection, self._tls)
            self._accepting.append(asyncio.create_task(accepting))

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Accept no more connections, then close the open ones."""
        for task in self._accepting:
            task.cancel()
        await asyncio.gather(*self._accepting, return_exceptions=True)
        await super().shutdown(sockets)

    def close_connections(self) -> None:
        """Close connections without a response to send at once, and the others after their response."""
        self._connections.close_all()

    def _connection(self) -> Connection:
        return Connection(self._connections, self.config, self.server_state, {})

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Capture no signals."""
        yield
