"""HTTP connections to the clouds: pools, proxies, TLS, and a time limit for the whole request.

Exceptions of the HTTP library are converted to `RequestFailure` here.

httpx has no time limit for the whole request, and a task cancelled while it waits for a connection leaks its place in the
pool (as of httpcore 1.0.9). Therefore a request that runs out of time is cancelled, and its pool is replaced: new requests
use a new pool, and the old one is closed once no other request uses it.

This uses the transports of httpx instead of its client: redirects and cookies are not wanted, and disabling them in the
client costs a sixth of a request's CPU time. Only the client's choice of a proxy is reimplemented here.
"""

import asyncio
import contextlib
import os
import ssl
from collections.abc import AsyncIterator
from pathlib import Path
from urllib.request import getproxies, proxy_bypass

import httpx
import msgspec

from exporter import __version__
from exporter.client.bodies import (
    BODY_LIMIT,
    Bodies,
    BodyError,
    FramingError,
    IncompleteBodyError,
    check_framing,
    read_body,
)
from exporter.config.files import NotUsableError, check_file
from exporter.config.secret import Secret
from exporter.config.tls import CA_LIMIT
from exporter.core.failures import FailureKind, RequestFailure
from exporter.core.redaction import register_proxy

USER_AGENT = f"pipeline-exporter/{__version__}"

FAILURE_LIMIT = 1024 * 1024
"""Maximum bytes of the body of an error response. Clouds send a few thousand."""

_KEEPALIVE = 300.0

Received = tuple[int, dict[str, str], bytes]
"""Status, headers keyed in lower case, body."""


class TransportOptions(msgspec.Struct, frozen=True):
    """Options for the connections of a project."""

    tls: ssl.SSLContext
    proxy: Secret | None = None
    """URL of a proxy; None to use the proxies of the environment variables."""
    bypass_proxy: bool = False
    """Whether to connect directly, without any proxy."""
    bodies: Bodies = msgspec.field(default_factory=Bodies)
    """Limit on response bodies, shared by all projects of a process."""


class SetupError(Exception):
    """Requests cannot be sent at all; the message names the missing file or setting."""


def tls_context(ca_file: Path | None = None, *, verify: bool = True) -> ssl.SSLContext:
    """Return the TLS context for connections to the clouds.

    The certificate authorities come from `ca_file`, the environment variable `SSL_CERT_FILE`, or certifi, in this order.

    Raises:
        SetupError: they cannot be loaded.

    """
    try:
        if ca_file is None and (usual := os.environ.get("SSL_CERT_FILE")):
            check_file(Path(usual), CA_LIMIT)
        context = ssl.create_default_context(cafile=ca_file) if ca_file else httpx.create_ssl_context()
    except (OSError, NotUsableError) as error:
        source = f"tls.ca_file {ca_file}" if ca_file else "SSL_CERT_FILE or SSL_CERT_DIR"
        problem = error.strerror if isinstance(error, OSError) else str(error)
        raise SetupError(f"cannot load the certificate authorities of {source}: {problem}") from None
    if not verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


class _Pool:
    """Connections to all hosts, direct or through proxies, which are closed together."""

    def __init__(self, connections: int, options: TransportOptions) -> None:
        self._limits = httpx.Limits(
            max_connections=connections, max_keepalive_connections=connections, keepalive_expiry=_KEEPALIVE
        )
        self._options = options
        self._environment = {} if options.bypass_proxy or options.proxy else getproxies()
        """Proxies from the environment variables, by the scheme of the requested URL."""
        for scheme, url in self._environment.items():
            if scheme != "no":
                register_proxy(url)
        self._transports: dict[str, httpx.AsyncHTTPTransport] = {}
        """Transports by the URL of the proxy; an empty string for direct connections."""

    async def send(self, request: httpx.Request) -> httpx.Response:
        """Send a request. The caller reads the body of the response and closes it."""
        proxy = self._proxy(request.url)
        if proxy not in self._transports:
            self._transports[proxy] = httpx.AsyncHTTPTransport(
                verify=self._options.tls, proxy=proxy or None, limits=self._limits
            )
        # No time limits here: each would have to be longer than the total one.
        return await self._transports[proxy].handle_async_request(request)

    def _proxy(self, url: httpx.URL) -> str:
        """Return the URL of the proxy for a request; empty for a direct connection."""
        if self._options.proxy is not None:
            return self._options.proxy.reveal()
        proxy = self._environment.get(url.scheme) or self._environment.get("all", "")
        if not proxy or proxy_bypass(url.netloc.decode()):
            return ""
        return proxy if "://" in proxy else f"http://{proxy}"

    async def close(self) -> None:
        for transport in self._transports.values():
            await transport.aclose()


class ConnectionPools:
    """The connection pool for new requests, and older pools that still have requests in flight."""

    def __init__(self, timeout: float, connections: int, options: TransportOptions) -> None:
        self._timeout = timeout
        self._connections = connections
        self._options = options
        self._pool: _Pool | None = None
        self._users: dict[_Pool, int] = {}
        """Requests in flight by pool."""
        self._exchanges: set[asyncio.Task[Received]] = set()
        self._draining = False

    async def exchange(self, request: httpx.Request, limit: int = BODY_LIMIT) -> Received | RequestFailure:
        """Send a request. Return the response, or a failure unless it is complete in time and has at most `limit` bytes."""
        if self._draining:
            await asyncio.Event().wait()
        exchange = asyncio.create_task(self._read(request, limit))
        self._exchanges.add(exchange)
        exchange.add_done_callback(self._exchanges.discard)
        try:
            done, _ = await asyncio.wait({exchange}, timeout=self._timeout)
        except asyncio.CancelledError:
            await self._abandon(exchange)
            raise
        if not done:
            await self._abandon(exchange)
            message = f"no complete response within {self._timeout:g} s"
            return RequestFailure(kind=FailureKind.TRANSIENT, code="timeout", message=message)
        try:
            return exchange.result()
        except httpx.TimeoutException:
            message = f"no response within {self._timeout:g} s"
            return RequestFailure(kind=FailureKind.TRANSIENT, code="timeout", message=message)
        except BodyError as error:
            return RequestFailure(kind=FailureKind.UNREADABLE, code="invalid", message=str(error))
        except IncompleteBodyError as error:
            message = f"incomplete or damaged response: {error}"
            return RequestFailure(kind=FailureKind.TRANSIENT, code="invalid", message=message)
        except Exception as error:  # noqa: BLE001  # HTTP library, proxy settings and TLS raise many types
            problem = str(error) or type(error).__name__
            if not isinstance(error, (httpx.TransportError, OSError)):
                # The message of the library may repeat part of a proxy's password.
                problem = (
                    f"{type(error).__name__} (check the proxy URL; its password must be percent-encoded)"
                )
            message = f"no response from {request.url.netloc.decode()}: {problem}"
            return RequestFailure(kind=FailureKind.TRANSIENT, code="connect", message=message)

    async def _read(self, request: httpx.Request, limit: int) -> Received:
        async with self._use() as pool:
            response = await pool.send(request)
            limit = limit if response.is_success else min(limit, FAILURE_LIMIT)
            try:
                check_framing(response)
                body = await read_body(response, limit, self._options.bodies)
            except (BodyError, IncompleteBodyError) as error:
                if response.is_success or isinstance(error, FramingError):
                    raise
                body = b""  # the status alone classifies the failure
            finally:
                await response.aclose()
        headers = {name.lower(): value for name, value in response.headers.items()}
        return response.status_code, headers, body

    async def drain(self) -> None:
        """Wait until the requests in flight have ended. Later requests are not sent, but wait until they are cancelled."""
        self._draining = True
        while self._exchanges:
            await asyncio.wait(self._exchanges)

    async def _abandon(self, exchange: asyncio.Task[Received]) -> None:
        await self._rotate()
        exchange.cancel()
        # `wait`, not `await exchange`: a cancellation of this task meanwhile must not be mistaken for the other's.
        await asyncio.wait({exchange})
        if not exchange.cancelled():
            exchange.exception()

    @contextlib.asynccontextmanager
    async def _use(self) -> AsyncIterator[_Pool]:
        if self._pool is None:
            self._pool = _Pool(self._connections, self._options)
        pool = self._pool
        self._users[pool] = self._users.get(pool, 0) + 1
        try:
            yield pool
        finally:
            self._users[pool] -= 1
            if pool is not self._pool and not self._users[pool]:
                del self._users[pool]
                await pool.close()

    async def _rotate(self) -> None:
        """Make the next request open a new pool. Close the current one when it has no request in flight."""
        pool, self._pool = self._pool, None
        if pool is not None and not self._users.get(pool):
            self._users.pop(pool, None)
            await pool.close()

    async def close(self) -> None:
        """Close every connection."""
        self._pool = None
        # A request in flight removes its pool from `_users` afterwards.
        for pool in tuple(self._users):
            await pool.close()
