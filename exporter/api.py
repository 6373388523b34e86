"""The only outward socket: budget, signature, time and size limits, retries; foreign exceptions stop here.

httpx has no total time limit, and a task cancelled while it waits for a connection leaks its place in the pool (as of
httpcore 1.0.9). So a request that runs out of time is cancelled only together with its client: a new one takes over,
and the old one is closed once nothing else uses it.
"""

import asyncio
import contextlib
import logging
import random
import re
import ssl
from collections.abc import AsyncIterator, Callable, Iterable
from datetime import UTC
from email.utils import parsedate_to_datetime
from urllib.parse import urlsplit

import httpx
import msgspec

from exporter import __version__
from exporter.auth import Auth, Outgoing, query_string
from exporter.budget import Budget
from exporter.clock import Clock
from exporter.config.secret import MASK, SecretError
from exporter.fault import Fault, Kind
from exporter.providers.base import Call, Provider
from exporter.telemetry import Telemetry

BODY_LIMIT = 32 * 1024 * 1024
"""Bytes of an answer, decompressed; an honest batch of a thousand pipelines is below 4 MiB."""

RETRIES = 2
_FIRST_PAUSE = 0.5
_LONGEST_WAIT = 3600.0
_MESSAGE_LENGTH = 300
_KEEPALIVE = 300.0

_SIGNATURE = re.compile(r"(?<=signature=)[0-9a-f]+", re.IGNORECASE)
_ECHO = re.compile("canonical_?request", re.IGNORECASE)

_log = logging.getLogger("exporter.api")


class Answer(msgspec.Struct, frozen=True):
    """A success."""

    body: bytes
    now: float
    """The answer's own clock: its `Date`, else ours; epoch seconds."""
    asked: float
    """When the request was sent, by our monotonic clock."""
    code: str
    """The HTTP status."""


class ApiError(Exception):
    """A request that failed for good; the fault's message is masked and fit to print."""

    def __init__(self, operation: str, fault: Fault) -> None:
        super().__init__(fault.message)
        self.operation = operation
        self.fault = fault


class Api:
    """Everything that is sent for one project."""

    def __init__(
        self,
        project: str,
        provider: Provider,
        auth: Auth,
        base_url: str,
        *,
        budget: Budget,
        concurrency: int,
        timeout: float,
        tls: ssl.SSLContext,
        telemetry: Telemetry,
        clock: Clock,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self._project = project
        self._provider = provider
        self._auth = auth
        url = urlsplit(base_url)
        self._origin = f"{url.scheme}://{url.netloc}"
        standard = {"http": 80, "https": 443}[url.scheme]
        self._host = url.netloc.removesuffix(f":{standard}")
        self._prefix = url.path
        self._budget = budget
        self._slots = asyncio.Semaphore(concurrency)
        self._timeout = timeout
        self._telemetry = telemetry
        self._clock = clock
        self._jitter = jitter
        self._clients = _Clients(timeout, concurrency, tls)

    async def send(self, call: Call) -> Answer:
        """Send a request, again if what failed may pass.

        Raises:
            ApiError: it failed for good.

        """
        for attempt in range(RETRIES + 1):
            result = await self._try(call)
            if isinstance(result, Answer):
                return result
            pause = self._pause(result, attempt)
            if pause is None or attempt == RETRIES:
                raise ApiError(call.operation, result)
            self._telemetry.retried(self._project)
            _log.debug("retrying in %.1f s: %s", pause, result.message, extra=self._fields(call, result))
            await self._clock.sleep(pause)
        raise AssertionError  # the last attempt returns or raises

    def _pause(self, fault: Fault, attempt: int) -> float | None:
        """Seconds before another try; None if none is worth it."""
        if fault.kind is Kind.THROTTLED:
            self._telemetry.throttled(self._project)
            wait = (
                fault.wait if fault.wait is not None else _FIRST_PAUSE * (1 << attempt) * (1 + self._jitter())
            )
            self._budget.pause(min(wait, _LONGEST_WAIT))
            # A window longer than a poll can wait is left to the next poll: the budget holds it back.
            return 0.0 if wait <= self._timeout else None
        if fault.kind is Kind.TRANSIENT:
            return _FIRST_PAUSE * (1 << attempt) * (0.5 + self._jitter() / 2)
        return None

    async def _try(self, call: Call) -> Answer | Fault:
        async with self._slots:
            # Last before the send: whoever waited for a slot meets a pause that was ordered meanwhile.
            await self._budget.take()
            started = self._clock.monotonic()
            try:
                request = self._request(call)
                # Those of this request: a file may hold others by the time of the answer.
                secrets = self._auth.secrets()
            except SecretError as error:
                # Nothing was sent, so no request is counted; the failure is.
                fault = Fault(kind=Kind.CREDENTIALS, code="secret", message=str(error))
                self._telemetry.failed(self._project, self._provider.name, call.operation, fault)
                return fault
            result = await self._exchange(call, request, started)
        if isinstance(result, Fault):
            result = msgspec.structs.replace(
                result,
                message=_masked(result.message, secrets),
                error_code=_masked(result.error_code, secrets),
                request_id=_masked(result.request_id, secrets),
            )
            self._telemetry.failed(self._project, self._provider.name, call.operation, result)
            _log.debug("request failed: %s", result.message, extra=self._fields(call, result))
        seconds = self._clock.monotonic() - started
        self._telemetry.requested(self._project, self._provider.name, call.operation, result.code, seconds)
        return result

    def _request(self, call: Call) -> httpx.Request:
        outgoing = Outgoing(
            method=call.method,
            host=self._host,
            path=self._prefix + call.path,
            query=call.query,
            headers=call.headers,
            body=call.body,
        )
        proof = self._auth.headers(outgoing, self._clock.time())
        for name, value in proof.items():
            if not (value.isascii() and value.isprintable()):
                # The HTTP library would say so with the value.
                raise SecretError(f"a secret holds characters that no header can carry (see {name})")
        headers = {
            "Host": self._host,
            "User-Agent": f"pipeline-exporter/{__version__}",
            "Accept": "application/json",
            # No other coding: what a decompressor may be fed stays one kind, with a bound.
            "Accept-Encoding": "gzip",
            **dict(call.headers),
            **proof,
        }
        query = query_string(call.query)
        url = f"{self._origin}{outgoing.path}" + (f"?{query}" if query else "")
        return httpx.Request(call.method, url, headers=headers, content=call.body)

    async def _exchange(self, call: Call, request: httpx.Request, asked: float) -> Answer | Fault:
        exchange = asyncio.create_task(self._read(request))
        try:
            done, _ = await asyncio.wait({exchange}, timeout=self._timeout)
        except asyncio.CancelledError:
            await self._abandon(exchange)
            raise
        if not done:
            await self._abandon(exchange)
            return Fault(
                kind=Kind.TRANSIENT, code="timeout", message=f"no whole answer within {self._timeout:g} s"
            )
        try:
            status, headers, body = exchange.result()
        except httpx.TimeoutException:
            return Fault(kind=Kind.TRANSIENT, code="timeout", message=f"no answer within {self._timeout:g} s")
        except _RefusedError as error:
            return Fault(kind=Kind.UNREADABLE, code="invalid", message=str(error))
        except _CutError as error:
            return Fault(kind=Kind.TRANSIENT, code="invalid", message=f"the answer broke off: {error}")
        except (httpx.HTTPError, httpx.InvalidURL, ssl.SSLError, OSError) as error:
            words = str(error) or type(error).__name__
            return Fault(kind=Kind.TRANSIENT, code="connect", message=f"no answer from {self._host}: {words}")
        lowered = {name.lower(): value for name, value in headers.items()}
        fault = self._provider.fault(call, status, lowered, body)
        if fault is not None:
            return fault
        return Answer(body, _date(lowered.get("date")) or self._clock.time(), asked, str(status))

    async def _abandon(self, exchange: asyncio.Task[tuple[int, httpx.Headers, bytes]]) -> None:
        self._clients.retire()
        exchange.cancel()
        with contextlib.suppress(asyncio.CancelledError, Exception):
            await exchange

    async def _read(self, request: httpx.Request) -> tuple[int, httpx.Headers, bytes]:
        async with self._clients.use() as client:
            response = await client.send(request, stream=True)
            try:
                body = await _body(response)
            except (_RefusedError, _CutError):
                if response.is_success:
                    raise
                body = b""  # a status of failure speaks for itself
            finally:
                await response.aclose()
        return response.status_code, response.headers, body

    def _fields(self, call: Call, fault: Fault) -> dict[str, str]:
        return {
            "project": self._project,
            "operation": call.operation,
            "code": fault.code,
            "error_code": fault.error_code,
            "request_id": fault.request_id,
        }

    async def close(self) -> None:
        """Close every connection."""
        await self._clients.close()


def _masked(words: str, secrets: Iterable[str]) -> str:
    """A vendor's words without our secrets, on one line and of a bounded length."""
    # A gateway that refuses a signature repeats the request that it saw, headers included.
    words = _ECHO.split(words, maxsplit=1)[0]
    for secret in sorted(secrets, key=len, reverse=True):
        words = words.replace(secret, MASK)
    words = _SIGNATURE.sub(MASK, words)
    words = "".join(character if character.isprintable() else " " for character in words).strip()
    return words if len(words) <= _MESSAGE_LENGTH else f"{words[:_MESSAGE_LENGTH]}…"


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


def _date(text: str | None) -> float | None:
    if text is None:
        return None
    try:
        moment = parsedate_to_datetime(text)
        return moment.replace(tzinfo=moment.tzinfo or UTC).timestamp()
    except (ValueError, OverflowError):
        return None


class _Clients:
    """The client in use, and those that still end a request before they are closed."""

    def __init__(self, timeout: float, connections: int, tls: ssl.SSLContext) -> None:
        self._timeout = timeout
        self._limits = httpx.Limits(
            max_connections=connections, max_keepalive_connections=connections, keepalive_expiry=_KEEPALIVE
        )
        self._tls = tls
        self._client: httpx.AsyncClient | None = None
        self._users: dict[httpx.AsyncClient, int] = {}

    @contextlib.asynccontextmanager
    async def use(self) -> AsyncIterator[httpx.AsyncClient]:
        if self._client is None:
            self._client = httpx.AsyncClient(timeout=self._timeout, limits=self._limits, verify=self._tls)
        client = self._client
        self._users[client] = self._users.get(client, 0) + 1
        try:
            yield client
        finally:
            self._users[client] -= 1
            if client is not self._client and not self._users[client]:
                del self._users[client]
                await client.aclose()

    def retire(self) -> None:
        """Let the next request start with a new client."""
        self._client = None

    async def close(self) -> None:
        self._client = None
        # A request still under way counts itself out afterwards.
        for client in tuple(self._users):
            await client.aclose()


def tls_context() -> ssl.SSLContext:
    """What verifies the clouds' certificates: certifi's authorities, or those of `SSL_CERT_FILE`."""
    return httpx.create_ssl_context()
