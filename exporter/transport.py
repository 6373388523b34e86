"""The only outward socket: connections, total time limits, bounded bodies; foreign exceptions stop here.

httpx has no total time limit, and a task cancelled while it waits for a connection leaks its place in the pool (as of
httpcore 1.0.9). So a request that runs out of time is cancelled only together with its client: a new one takes over,
and the old one is closed once nothing else uses it.
"""

import asyncio
import contextlib
import ssl
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import msgspec

from exporter.config.secret import Secret
from exporter.fault import Fault, Kind

BODY_LIMIT = 32 * 1024 * 1024
"""Bytes of an answer, decompressed; an honest batch of a thousand pipelines is below 4 MiB."""

_KEEPALIVE = 300.0

# httpcore asks several times a request whether sniffio is there, and the search for a module that is not takes a sixth of
# the request's CPU each time; this says at once that it is not.
sys.modules.setdefault("sniffio", None)  # type: ignore[arg-type]

Received = tuple[int, dict[str, str], bytes]
"""Status, headers in lower case, body."""


class Transport(msgspec.Struct, frozen=True):
    """How a project's requests travel."""

    tls: ssl.SSLContext
    proxy: Secret | None = None
    """A proxy's URL; without one those of the usual environment variables."""
    near: bool = False
    """Whether no proxy at all is used."""


class SetupError(Exception):
    """Something that requests need is not there; with words."""


def tls_context(ca_file: Path | None = None, *, verify: bool = True) -> ssl.SSLContext:
    """What verifies the clouds' certificates: by `ca_file`, else certifi's authorities or those of `SSL_CERT_FILE`.

    Raises:
        SetupError: they cannot be loaded.

    """
    try:
        context = ssl.create_default_context(cafile=ca_file) if ca_file else httpx.create_ssl_context()
    except OSError as error:
        source = f"tls.ca_file {ca_file}" if ca_file else "SSL_CERT_FILE or SSL_CERT_DIR"
        raise SetupError(f"cannot load the certificate authorities of {source}: {error.strerror}") from None
    if not verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


class Connections:
    """The HTTP client in use, and those that still end a request before they are closed."""

    def __init__(self, timeout: float, connections: int, transport: Transport) -> None:
        self._timeout = timeout
        self._limits = httpx.Limits(
            max_connections=connections, max_keepalive_connections=connections, keepalive_expiry=_KEEPALIVE
        )
        self._transport = transport
        self._client: httpx.AsyncClient | None = None
        self._users: dict[httpx.AsyncClient, int] = {}

    async def exchange(self, request: httpx.Request) -> Received | Fault:
        """Send a request as it stands; a fault if no whole answer comes in time."""
        exchange = asyncio.create_task(self._read(request))
        try:
            done, _ = await asyncio.wait({exchange}, timeout=self._timeout)
        except asyncio.CancelledError:
            await self._abandon(exchange)
            raise
        if not done:
            await self._abandon(exchange)
            words = f"no whole answer within {self._timeout:g} s"
            return Fault(kind=Kind.TRANSIENT, code="timeout", message=words)
        try:
            return exchange.result()
        except httpx.TimeoutException:
            return Fault(kind=Kind.TRANSIENT, code="timeout", message=f"no answer within {self._timeout:g} s")
        except _RefusedError as error:
            return Fault(kind=Kind.UNREADABLE, code="invalid", message=str(error))
        except _CutError as error:
            return Fault(kind=Kind.TRANSIENT, code="invalid", message=f"the answer broke off: {error}")
        except Exception as error:  # noqa: BLE001  # whatever an HTTP library, a proxy's setting or TLS comes up with
            words = str(error) or type(error).__name__
            if not isinstance(error, (httpx.TransportError, OSError)):
                # The library's words may repeat part of a proxy's password.
                words = (
                    f"{type(error).__name__}: is the proxy's address right, with a password percent-encoded?"
                )
            message = f"no answer from {request.url.netloc.decode()}: {words}"
            return Fault(kind=Kind.TRANSIENT, code="connect", message=message)

    async def _read(self, request: httpx.Request) -> Received:
        async with self._use() as client:
            response = await client.send(request, stream=True)
            try:
                body = await _body(response)
            except (_RefusedError, _CutError):
                if response.is_success:
                    raise
                body = b""  # a status of failure speaks for itself
            finally:
                await response.aclose()
        headers = {name.lower(): value for name, value in response.headers.items()}
        return response.status_code, headers, body

    async def _abandon(self, exchange: asyncio.Task[Received]) -> None:
        await self._retire()
        exchange.cancel()
        # Waited for, not awaited: a cancellation of ours that comes meanwhile is not its own.
        await asyncio.wait({exchange})
        if not exchange.cancelled():
            exchange.exception()

    @contextlib.asynccontextmanager
    async def _use(self) -> AsyncIterator[httpx.AsyncClient]:
        if self._client is None:
            self._client = httpx.AsyncClient(
                timeout=self._timeout,
                limits=self._limits,
                verify=self._transport.tls,
                proxy=self._transport.proxy.reveal() if self._transport.proxy else None,
                trust_env=not self._transport.near,
            )
        client = self._client
        self._users[client] = self._users.get(client, 0) + 1
        try:
            yield client
        finally:
            self._users[client] -= 1
            if client is not self._client and not self._users[client]:
                del self._users[client]
                await client.aclose()

    async def _retire(self) -> None:
        """Let the next request start with a new client; the old one is closed once nothing uses it."""
        client, self._client = self._client, None
        if client is not None and not self._users.get(client):
            self._users.pop(client, None)
            await client.aclose()

    async def close(self) -> None:
        """Close every connection."""
        self._client = None
        # A request still under way counts itself out afterwards.
        for client in tuple(self._users):
            await client.aclose()


class _RefusedError(Exception):
    """A body that is not read to its end, for its size or its coding."""


class _CutError(Exception):
    """A body that broke off."""


_TOO_LARGE = f"an answer of more than {BODY_LIMIT >> 20} MiB is not read"


async def _body(response: httpx.Response) -> bytes:
    chunks = []
    size = 0
    announced = response.headers.get("content-length", "")
    if announced.isdecimal() and int(announced) > BODY_LIMIT:
        raise _RefusedError(_TOO_LARGE)
    # gzip in gzip unpacks a few bytes to gigabytes in one step.
    coding = response.headers.get("content-encoding", "").strip().lower()
    if coding not in {"", "identity", "gzip"}:
        raise _RefusedError(f"an answer in the coding {coding[:64]!r}, which was not asked for, is not read")
    try:
        async for chunk in response.aiter_bytes():
            size += len(chunk)
            if size > BODY_LIMIT:
                raise _RefusedError(_TOO_LARGE)
            chunks.append(chunk)
    except (httpx.RemoteProtocolError, httpx.ReadError, httpx.DecodingError) as error:
        raise _CutError(str(error) or type(error).__name__) from None
    return b"".join(chunks)
