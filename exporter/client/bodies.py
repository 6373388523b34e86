"""Read response bodies. All projects of the process share limits on memory and on event loop time.

A response whose end is ambiguous is rejected (RFC 9112, section 6.3).
"""

import asyncio
import contextlib
import ssl
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, cast

import httpx

from exporter.core.redaction import redact

BODY_LIMIT = 8 * 1024 * 1024
"""Maximum bytes of a decompressed body. A batch of a thousand pipelines has less than 4 MiB."""

SMALL = 256 * 1024
"""Bytes above which a body counts as large. A batch of fifty pipelines has about 50 KiB."""

_BODIES = 32
_LARGE = 5
# Together at most 32 * 256 KiB + 5 * 8 MiB = 48 MiB.

_PAUSE = 0.01

_CHUNK = SMALL // 4
"""Bytes to decompress at a time."""

_CHUNKS = 500
"""Number of chunks after which reading a body yields to other tasks of the event loop."""

Enlarge = Callable[[], Awaitable[None]]
"""Function that waits until a body may grow beyond `SMALL` bytes."""


class Bodies:
    """Limit on the response bodies that the process holds in memory at the same time: 48 MiB in total."""

    def __init__(self) -> None:
        self._bodies = asyncio.Semaphore(_BODIES)
        self._large = asyncio.Semaphore(_LARGE)
        self._leaving = asyncio.Lock()

    @contextlib.asynccontextmanager
    async def slot(self) -> AsyncIterator[Enlarge]:
        """Hold a slot for one body. Await the yielded function before the body grows beyond `SMALL` bytes.

        Large bodies are released one at a time: the caller decodes a body without yielding to the event loop, so two
        in a row would block it for twice as long.
        """
        large = False

        async def enlarge() -> None:
            nonlocal large
            if not large:
                await self._large.acquire()
                large = True

        async with self._bodies:
            try:
                yield enlarge
                if large:
                    async with self._leaving:
                        # The first pause ends after the previous body is decoded, the second leaves time for other I/O.
                        await asyncio.sleep(_PAUSE)
                        await asyncio.sleep(_PAUSE)
            finally:
                if large:
                    self._large.release()


class BodyError(Exception):
    """Response body that is too large, or has an unsupported content coding."""


class FramingError(BodyError):
    """Response whose end is ambiguous."""


class IncompleteBodyError(Exception):
    """Response body that ended early, or cannot be decompressed."""


def check_framing(response: httpx.Response) -> None:
    """Reject a response whose end is ambiguous: two parties could disagree on its last byte.

    Raises:
        FramingError: it has both `Content-Length` and `Transfer-Encoding`.

    """
    if "content-length" in response.headers and "transfer-encoding" in response.headers:
        raise FramingError("response has both Content-Length and Transfer-Encoding, not read")


async def read_body(response: httpx.Response, limit: int, bodies: Bodies) -> bytes:
    """Read and decompress a body in chunks, so that it never takes much more memory than `limit`.

    Raises:
        BodyError: it is larger than `limit` bytes, or has an unsupported content coding.
        IncompleteBodyError: it ended early, or cannot be decompressed.

    """
    too_large = f"response larger than {limit / (1 << 20):g} MiB, not read"
    announced = response.headers.get("content-length", "")
    if announced.isdecimal() and int(announced) > limit:
        raise BodyError(too_large)
    body = bytearray()
    count = 0
    try:
        async with bodies.slot() as enlarge:
            async for chunk in _chunks(response):
                if len(body) + len(chunk) > limit:
                    raise BodyError(too_large)
                if len(body) + len(chunk) > SMALL:
                    await enlarge()
                body += chunk
                count += 1
                if count % _CHUNKS == 0:
                    # A body in chunks of a few bytes is parsed from memory, without a pause of its own.
                    await asyncio.sleep(0)
            if _has_surplus(response):
                # A closed connection is not reused.
                await response.extensions["network_stream"].aclose()
            return bytes(body)
    except (httpx.RemoteProtocolError, httpx.ReadError, zlib.error) as error:
        raise IncompleteBodyError(str(error) or type(error).__name__) from None


async def _chunks(response: httpx.Response) -> AsyncIterator[bytes]:
    """Yield the chunks of a body. If compressed, each is decompressed to at most `_CHUNK` bytes."""
    coding = response.headers.get("content-encoding", "").strip()
    # gzip in gzip unpacks a few bytes to gigabytes in one step.
    if coding.lower() not in {"", "identity", "gzip"}:
        raise BodyError(f"response has the content coding {redact(coding, 64)!r}, only gzip was accepted")
    stream = cast("httpx.AsyncByteStream", response.stream)
    if coding.lower() != "gzip":
        async for received in stream:
            yield received
        return
    decompressor = zlib.decompressobj(16 + zlib.MAX_WBITS)
    async for received in stream:
        rest = received
        while rest:
            yield decompressor.decompress(rest, _CHUNK)
            rest = decompressor.unconsumed_tail
    yield decompressor.flush()


def _has_surplus(response: httpx.Response) -> bool:
    """Return whether bytes were received after the end of the response.

    httpcore (as of 1.0.9) would use them as the next response. If bytes arrive later, it closes the idle connection itself.
    """
    stream: Any = response.stream
    try:
        connection = stream._httpcore_stream._stream._connection  # noqa: SLF001  # there is no public way
        received, _ = connection._h11_state.trailing_data  # noqa: SLF001
    except AttributeError:
        return True  # another version of httpcore: a connection for each request is slower, but safe
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
