"""The only outward socket: connections, total time limits, bounded bodies; foreign exceptions stop here.

httpx has no total time limit, and a task cancelled while it waits for a connection leaks its place in the pool (as of
httpcore 1.0.9). So a request that runs out of time is cancelled only together with all connections: new ones take over,
and the old ones are closed once nothing else uses them.

Of httpx its transports are used, not its client: redirects are not followed and cookies not kept anyway, and to see to
that takes it a sixth of a request's CPU. What is left to do is to find the proxy.
"""

import asyncio
import contextlib
import os
import ssl
import zlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, cast
from urllib.request import getproxies, proxy_bypass

import httpx
import msgspec

from exporter.client.bodies import BODY_LIMIT, SMALL, Bodies
from exporter.config.files import NotUsableError, check_file
from exporter.config.secret import Secret
from exporter.config.section import CA_LIMIT
from exporter.core.failures import FailureKind, RequestFailure
from exporter.core.redaction import redact, register_proxy

FAILURE_LIMIT = 1024 * 1024
"""Most bytes of an answer whose status is a failure; an honest one has a few thousand."""

_PIECE = SMALL // 4
"""Bytes that are decompressed at a time."""

_PIECES = 500
"""Pieces of a body after which other tasks of the event loop run."""

_KEEPALIVE = 300.0

Received = tuple[int, dict[str, str], bytes]
"""Status, headers in lower case, body."""


class TransportOptions(msgspec.Struct, frozen=True):
    """How a project's requests travel."""

    tls: ssl.SSLContext
    proxy: Secret | None = None
    """A proxy's URL; without one those of the usual environment variables."""
    bypass_proxy: bool = False
    """Whether no proxy at all is used."""
    bodies: Bodies = msgspec.field(default_factory=Bodies)
    """The bodies in flight, shared by all projects of a process."""


class SetupError(Exception):
    """Something that requests need is not there; with words."""


def tls_context(ca_file: Path | None = None, *, verify: bool = True) -> ssl.SSLContext:
    """What verifies the clouds' certificates: by `ca_file`, else certifi's authorities or those of `SSL_CERT_FILE`.

    Raises:
        SetupError: they cannot be loaded.

    """
    try:
        if ca_file is None and (usual := os.environ.get("SSL_CERT_FILE")):
            check_file(Path(usual), CA_LIMIT)
        context = ssl.create_default_context(cafile=ca_file) if ca_file else httpx.create_ssl_context()
    except (OSError, NotUsableError) as error:
        source = f"tls.ca_file {ca_file}" if ca_file else "SSL_CERT_FILE or SSL_CERT_DIR"
        words = error.strerror if isinstance(error, OSError) else str(error)
        raise SetupError(f"cannot load the certificate authorities of {source}: {words}") from None
    if not verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


class _Pool:
    """Connections to whatever host, directly or by a proxy, that are closed together."""

    def __init__(self, connections: int, transport: TransportOptions) -> None:
        self._limits = httpx.Limits(
            max_connections=connections, max_keepalive_connections=connections, keepalive_expiry=_KEEPALIVE
        )
        self._transport = transport
        self._usual = {} if transport.bypass_proxy or transport.proxy else getproxies()
        """The proxies of the environment, by the scheme of what is asked for."""
        for scheme, url in self._usual.items():
            if scheme != "no":
                register_proxy(url)
        self._transports: dict[str, httpx.AsyncHTTPTransport] = {}
        """By the URL of the proxy; without one under an empty string."""

    async def send(self, request: httpx.Request) -> httpx.Response:
        """Send a request; its answer's body is yet to be read, and closed."""
        proxy = self._proxy(request.url)
        if proxy not in self._transports:
            self._transports[proxy] = httpx.AsyncHTTPTransport(
                verify=self._transport.tls, proxy=proxy or None, limits=self._limits
            )
        # Without time limits of its own: the one on the whole is less than each of them would be.
        return await self._transports[proxy].handle_async_request(request)

    def _proxy(self, url: httpx.URL) -> str:
        """The URL of the proxy for a URL; empty for none."""
        if self._transport.proxy is not None:
            return self._transport.proxy.reveal()
        proxy = self._usual.get(url.scheme) or self._usual.get("all", "")
        if not proxy or proxy_bypass(url.netloc.decode()):
            return ""
        return proxy if "://" in proxy else f"http://{proxy}"

    async def close(self) -> None:
        """Close them."""
        for way in self._transports.values():
            await way.aclose()


class Connections:
    """The connections in use, and those that still end a request before they are closed."""

    def __init__(self, timeout: float, connections: int, transport: TransportOptions) -> None:
        self._timeout = timeout
        self._connections = connections
        self._transport = transport
        self._pool: _Pool | None = None
        self._users: dict[_Pool, int] = {}

    async def exchange(self, request: httpx.Request, limit: int = BODY_LIMIT) -> Received | RequestFailure:
        """Send a request as it stands; a fault if no whole answer of at most `limit` bytes comes in time."""
        exchange = asyncio.create_task(self._read(request, limit))
        try:
            done, _ = await asyncio.wait({exchange}, timeout=self._timeout)
        except asyncio.CancelledError:
            await self._abandon(exchange)
            raise
        if not done:
            await self._abandon(exchange)
            words = f"no whole answer within {self._timeout:g} s"
            return RequestFailure(kind=FailureKind.TRANSIENT, code="timeout", message=words)
        try:
            return exchange.result()
        except httpx.TimeoutException:
            return RequestFailure(
                kind=FailureKind.TRANSIENT, code="timeout", message=f"no answer within {self._timeout:g} s"
            )
        except _RefusedError as error:
            return RequestFailure(kind=FailureKind.UNREADABLE, code="invalid", message=str(error))
        except _CutError as error:
            return RequestFailure(
                kind=FailureKind.TRANSIENT, code="invalid", message=f"the answer broke off: {error}"
            )
        except Exception as error:  # noqa: BLE001  # whatever an HTTP library, a proxy's setting or TLS comes up with
            words = str(error) or type(error).__name__
            if not isinstance(error, (httpx.TransportError, OSError)):
                # The library's words may repeat part of a proxy's password.
                words = (
                    f"{type(error).__name__}: is the proxy's address right, with a password percent-encoded?"
                )
            message = f"no answer from {request.url.netloc.decode()}: {words}"
            return RequestFailure(kind=FailureKind.TRANSIENT, code="connect", message=message)

    async def _read(self, request: httpx.Request, limit: int) -> Received:
        async with self._use() as pool:
            response = await pool.send(request)
            try:
                _check_framing(response)
                body = await self._body(response, limit if response.is_success else min(limit, FAILURE_LIMIT))
            except (_RefusedError, _CutError) as error:
                if response.is_success or isinstance(error, _FramingError):
                    raise
                body = b""  # a status of failure speaks for itself
            finally:
                await response.aclose()
        headers = {name.lower(): value for name, value in response.headers.items()}
        return response.status_code, headers, body

    async def _abandon(self, exchange: asyncio.Task[Received]) -> None:
        await self._rotate()
        exchange.cancel()
        # Waited for, not awaited: a cancellation of ours that comes meanwhile is not its own.
        await asyncio.wait({exchange})
        if not exchange.cancelled():
            exchange.exception()

    @contextlib.asynccontextmanager
    async def _use(self) -> AsyncIterator[_Pool]:
        if self._pool is None:
            self._pool = _Pool(self._connections, self._transport)
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
        """Let the next request start with new connections; the old ones are closed once nothing uses them."""
        pool, self._pool = self._pool, None
        if pool is not None and not self._users.get(pool):
            self._users.pop(pool, None)
            await pool.close()

    async def close(self) -> None:
        """Close every connection."""
        self._pool = None
        # A request still under way counts itself out afterwards.
        for pool in tuple(self._users):
            await pool.close()

    async def _body(self, response: httpx.Response, limit: int) -> bytes:
        """Read a body, decompressed, in pieces so that no step takes more memory than the limit allows."""
        too_large = f"an answer of more than {limit / (1 << 20):g} MiB is not read"
        announced = response.headers.get("content-length", "")
        if announced.isdecimal() and int(announced) > limit:
            raise _RefusedError(too_large)
        body = bytearray()
        pieces = 0
        try:
            async with self._transport.bodies.decoded() as enlarge:
                async for piece in _pieces(response):
                    if len(body) + len(piece) > limit:
                        raise _RefusedError(too_large)
                    if len(body) + len(piece) > SMALL:
                        await enlarge()
                    body += piece
                    pieces += 1
                    if pieces % _PIECES == 0:
                        # A body in chunks of a few bytes is parsed from memory, without a pause of its own.
                        await asyncio.sleep(0)
                if _has_surplus(response):
                    # An idle connection that is closed is not used again.
                    await response.extensions["network_stream"].aclose()
                return bytes(body)
        except (httpx.RemoteProtocolError, httpx.ReadError, zlib.error) as error:
            raise _CutError(str(error) or type(error).__name__) from None


class _RefusedError(Exception):
    """A body that is not read to its end, for its size or its coding."""


class _FramingError(_RefusedError):
    """An answer whose end is ambiguous."""


class _CutError(Exception):
    """A body that broke off."""


def _check_framing(response: httpx.Response) -> None:
    """Refuse an answer that two parties could cut differently (RFC 9112, section 6.3)."""
    if "content-length" in response.headers and "transfer-encoding" in response.headers:
        raise _FramingError("an answer with both Content-Length and Transfer-Encoding is not read")


async def _pieces(response: httpx.Response) -> AsyncIterator[bytes]:
    """Read the body of an answer, decompressed at most `_PIECE` bytes at a time."""
    coding = response.headers.get("content-encoding", "").strip()
    # gzip in gzip unpacks a few bytes to gigabytes in one step.
    if coding.lower() not in {"", "identity", "gzip"}:
        raise _RefusedError(
            f"an answer in the coding {redact(coding, 64)!r}, which was not asked for, is not read"
        )
    stream = cast("httpx.AsyncByteStream", response.stream)
    if coding.lower() != "gzip":
        async for chunk in stream:
            yield chunk
        return
    unpacked = zlib.decompressobj(16 + zlib.MAX_WBITS)
    async for chunk in stream:
        rest = chunk
        while rest:
            yield unpacked.decompress(rest, _PIECE)
            rest = unpacked.unconsumed_tail
    yield unpacked.flush()


def _has_surplus(response: httpx.Response) -> bool:
    """Whether bytes after the answer have been received: httpcore (as of 1.0.9) would make them the next answer.

    What arrives later makes the idle socket readable, and httpcore closes such a connection itself.
    """
    stream: Any = response.stream
    try:
        connection = stream._httpcore_stream._stream._connection  # noqa: SLF001  # there is no public way
        received, _ = connection._h11_state.trailing_data  # noqa: SLF001
    except AttributeError:
        return True  # of another release: a connection for each request is slower, and safe
    if received:
        return True
    encrypted = response.extensions["network_stream"].get_extra_info("ssl_object")
    if encrypted is None:
        return False
    try:
        encrypted.read(1)
    except ssl.SSLWantReadError:
        return False
    except ssl.SSLError:
        pass
    return True
