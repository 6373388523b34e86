"""Limit the number of client connections, and how long they may send a request, receive a response, or be idle.

uvicorn has no limit for slow requests or slow readers, and asyncio accepts connections until descriptors run out, then
logs each failure. This module replaces the accept loop and adds deadlines to uvicorn's connections.
"""

import asyncio
import errno
import logging
import math
import resource
import socket
import ssl
from collections.abc import Callable
from enum import Enum
from pathlib import Path
from typing import Any

import h11
from uvicorn._types import ASGI3Application, ASGIReceiveCallable, ASGISendCallable, ASGISendEvent, Scope
from uvicorn.config import Config
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.server import ServerState

KEEP_ALIVE = 130.0
"""Seconds that an idle connection is kept: longer than the usual scrape intervals, so that scrapers reuse it."""

_MAX_CONNECTIONS = 512
_MIN_CONNECTIONS = 4
_REQUEST = 10.0
"""Seconds in which a request must arrive completely."""
_RESPONSE = 300.0
"""Seconds in which a client must read its response completely."""
_STUCK = 60.0
"""Seconds in which a client must read some of its response, or all that is left if the connection is closing."""
_SHUTDOWN = 1.0
"""Seconds in which a client must confirm the end of a TLS connection."""
_ACCEPT_BATCH = 4
"""Connections accepted in one iteration of the event loop; more would exceed the limit before others are closed."""
_RETRY_SECONDS = 0.1
"""Seconds until the next attempt to accept connections after descriptors or memory have run out."""
_LOG_INTERVAL = 3600.0
"""Seconds between two warnings of the same kind."""

_EXHAUSTED = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})

_log = logging.getLogger("exporter.web.connections")


def connection_limit() -> int:
    """Return the maximum number of connections: half of the file descriptors, less those that are open now.

    The other half is for polls and the state. The result is at least `_MIN_CONNECTIONS` and at most `_MAX_CONNECTIONS`.
    """
    descriptors, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if descriptors == resource.RLIM_INFINITY:
        return _MAX_CONNECTIONS
    return max(
        _MIN_CONNECTIONS, min(_MAX_CONNECTIONS, descriptors // 2 - len(list(Path("/dev/fd").iterdir())))
    )


class Phase(Enum):
    """What a connection waits for."""

    REQUEST = "the rest of a request"
    IDLE = "another request"
    RESPONSE = "the client to read its response, or the response itself"
    CLOSE = "the client to read what was sent before the connection closed"


def _seconds(phase: Phase) -> float:
    """Return how long a connection may stay in a phase, in seconds."""
    match phase:
        case Phase.REQUEST:
            return _REQUEST
        case Phase.IDLE:
            return KEEP_ALIVE
        case Phase.RESPONSE:
            return _RESPONSE
        case Phase.CLOSE:
            return _STUCK


class Connections:
    """The open connections of the server, at most `limit`: a further one replaces the longest idle one."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        # Both are in the order of the last progress. A part of a request is not progress.
        self._waiting: dict[Connection, None] = {}
        self._responding: dict[Connection, None] = {}
        self._handshakes: dict[asyncio.Task[Any], None] = {}
        """TLS handshakes in progress, oldest first."""
        self._logged: dict[str, float] = {}

    def add(self, connection: "Connection") -> None:
        """Register a new connection; close others while there are too many."""
        while len(self._waiting) + len(self._responding) >= self.limit:
            if self._may_log("too-many-connections"):
                _log.warning(
                    "too many connections, closing the longest idle ones",
                    extra={"id": "too-many-connections", "limit": self.limit},
                )
            self.close_one()
        self._waiting[connection] = None

    def mark_waiting(self, connection: "Connection") -> None:
        """Record that a connection has no response to send."""
        if connection in self._responding:
            del self._responding[connection]
            self._waiting[connection] = None

    def mark_progress(self, connection: "Connection") -> None:
        """Record that the client has sent a whole request, or has read some of the response."""
        self.remove(connection)
        self._responding[connection] = None

    def remove(self, connection: "Connection") -> None:
        """Forget a connection that is closed."""
        self._waiting.pop(connection, None)
        self._responding.pop(connection, None)

    def close_one(self) -> None:
        """Close the longest idle connection; if all have responses to send, the one without progress for longest."""
        for connection in self._waiting or self._responding:
            # A client that still reads is not idle.
            if not connection.transport.get_write_buffer_size():
                break
        else:
            connection = next(iter(self._waiting or self._responding))
        self.remove(connection)
        connection.abort()

    def close_all(self) -> None:
        """Close connections without a response to send at once, and the others after their response."""
        for connection in tuple(self._waiting):
            connection.abort()
        for connection in self._responding:
            connection.close_after_response()

    async def accept(
        self,
        listener: socket.socket,
        protocol: Callable[[], "Connection"],
        tls: Callable[[], ssl.SSLContext | None] = lambda: None,
    ) -> None:
        """Accept connections until cancelled. `tls` returns the context of a new connection, None for plain HTTP."""
        loop = asyncio.get_running_loop()
        listener.setblocking(False)
        while True:
            accepted: list[socket.socket] = []
            error: OSError | None = None
            try:
                accepted.append((await loop.sock_accept(listener))[0])
                while len(accepted) < _ACCEPT_BATCH:
                    accepted.append(listener.accept()[0])
            except OSError as failure:
                # In most cases no further connection is waiting.
                error = failure
            context = tls()
            if context is not None:
                for connection in accepted:
                    self._begin_handshake(protocol, connection, context)
            else:
                # A connection that fails meanwhile must not end this loop.
                connecting = (loop.connect_accepted_socket(protocol, connection) for connection in accepted)
                await asyncio.gather(*connecting, return_exceptions=True)
            if error is not None and error.errno in _EXHAUSTED:
                if self._may_log("cannot-accept-connections"):
                    _log.warning(
                        "cannot accept another connection, closing the longest idle ones",
                        extra={
                            "id": "cannot-accept-connections",
                            "limit": self.limit,
                            "error": error.strerror,
                        },
                    )
                if self._waiting or self._responding:
                    self.close_one()
                await asyncio.sleep(_RETRY_SECONDS)

    def _begin_handshake(
        self, protocol: Callable[[], "Connection"], connection: socket.socket, context: ssl.SSLContext
    ) -> None:
        """Begin a TLS handshake without waiting for it: its client may be slow."""
        if len(self._handshakes) >= max(1, self.limit // 2):
            oldest = next(iter(self._handshakes))
            del self._handshakes[oldest]
            oldest.cancel()
        handshake = asyncio.create_task(
            asyncio.get_running_loop().connect_accepted_socket(
                protocol,
                connection,
                ssl=context,
                ssl_handshake_timeout=_REQUEST,
                ssl_shutdown_timeout=_SHUTDOWN,
            )
        )
        self._handshakes[handshake] = None
        handshake.add_done_callback(self._end_handshake)

    def _end_handshake(self, handshake: asyncio.Task[Any]) -> None:
        self._handshakes.pop(handshake, None)
        if not handshake.cancelled():
            # Scanners and clients without a certificate fail here; asyncio would log exceptions that are not retrieved.
            handshake.exception()

    def _may_log(self, slug: str) -> bool:
        """Return True at most once an hour for each kind of message."""
        now = asyncio.get_running_loop().time()
        if now - self._logged.get(slug, -math.inf) < _LOG_INTERVAL:
            return False
        self._logged[slug] = now
        return True


class Connection(H11Protocol):
    """A connection of uvicorn with a deadline for each phase."""

    def __init__(
        self,
        connections: Connections,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
    ) -> None:
        super().__init__(config, server_state, app_state)
        self.app = self._guarded(self.app)
        self._counted = connections
        self._phase: Phase | None = None
        self._deadline: asyncio.TimerHandle | None = None
        self._stuck: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as in uvicorn
        """Count the connection and wait for its first request."""
        super().connection_made(transport)
        self._counted.add(self)
        self._update_deadline()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the connection."""
        self._counted.remove(self)
        for timer in (self._deadline, self._stuck):
            if timer is not None:
                timer.cancel()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Read more of a request."""
        super().data_received(data)
        self._update_deadline()

    def on_response_complete(self) -> None:
        """Wait for the next request."""
        super().on_response_complete()
        self._update_deadline()

    def pause_writing(self) -> None:
        """Wait for the client to read, and close the connection if it reads nothing for `_STUCK` seconds."""
        super().pause_writing()
        self._stuck = self.loop.call_later(_STUCK, self.abort)

    def resume_writing(self) -> None:
        """Continue the response."""
        super().resume_writing()
        if self._stuck is not None:
            self._stuck.cancel()
        if self._phase is Phase.RESPONSE:
            self._counted.mark_progress(self)

    def send_400_response(self, msg: str) -> None:
        """Reject the request and close the connection; during a response, close it without a message."""
        if self.cycle is not None and not self.cycle.response_complete:
            # Otherwise the application might still answer a request whose body is invalid.
            self.cycle.disconnected = True
            self.cycle.message_event.set()
        if self.conn.our_state in {h11.IDLE, h11.SEND_RESPONSE}:
            super().send_400_response(msg)
        else:
            self.abort()

    def abort(self) -> None:
        """Close the connection at once, whether or not the client has read its response."""
        if self.cycle is not None:
            # asyncio would log writes that follow in the same iteration of the event loop.
            self.cycle.disconnected = True
        self.transport.abort()

    def close_after_response(self) -> None:
        """Close the connection once the response in progress has been sent."""
        if self.cycle is not None:
            self.cycle.keep_alive = False

    def _guarded(self, app: ASGI3Application) -> ASGI3Application:
        """Wrap an application: reject requests of ambiguous length, and send nothing to clients that have left."""

        async def guarded(scope: Scope, receive: ASGIReceiveCallable, send: ASGISendCallable) -> None:
            async def send_if_open(message: ASGISendEvent) -> None:
                # asyncio logs writes to a closed connection.
                if not self.transport.is_closing():
                    await send(message)

            names = {name for name, _ in self.headers}
            if b"content-length" in names and b"transfer-encoding" in names:
                # A proxy may read the length in another way, so what follows may come from another client.
                await _refuse(send_if_open)
            else:
                await app(scope, receive, send_if_open)

        return guarded

    def _update_deadline(self) -> None:
        """Set the deadline of the current phase, if it has just begun."""
        phase = self._current()
        if phase is self._phase:
            return
        self._phase = phase
        if self._deadline is not None:
            self._deadline.cancel()
        self._deadline = self.loop.call_later(_seconds(phase), self.abort)
        if phase is Phase.RESPONSE:
            self._counted.mark_progress(self)
        else:
            self._counted.mark_waiting(self)

    def _current(self) -> Phase:
        if self.transport.is_closing():
            return Phase.CLOSE
        state = self.conn.their_state
        if state is h11.SEND_BODY:
            return Phase.REQUEST
        if state is not h11.IDLE:
            return Phase.RESPONSE
        began: object = self.cycle
        return Phase.REQUEST if began is None or self.conn.trailing_data[0] else Phase.IDLE


async def _refuse(send: ASGISendCallable) -> None:
    headers = [(b"content-type", b"text/plain; charset=utf-8"), (b"connection", b"close")]
    await send({"type": "http.response.start", "status": 400, "headers": headers})
    body = b"Both Content-Length and Transfer-Encoding: send one of them\n"
    await send({"type": "http.response.body", "body": body, "more_body": False})
