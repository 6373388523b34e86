"""Everything that is sent for a project: budget, signature, retries, renewals, and what an outcome says of who asked."""

import asyncio
import contextlib
import logging
import random
from collections.abc import Callable, Mapping
from datetime import UTC
from email.utils import parsedate_to_datetime
from functools import lru_cache
from types import MappingProxyType
from urllib.parse import urlsplit

import httpx
import msgspec

from exporter import __version__
from exporter.auth.protocol import (
    IssuerReply,
    IssuerRequest,
    NoReplyError,
    Renewal,
    RenewalError,
    UnsignedRequest,
    query_string,
)
from exporter.client.credential_state import CredentialState
from exporter.client.rate_limiter import RateLimiter
from exporter.client.transport import Connections, TransportOptions
from exporter.config.secret import SecretError
from exporter.core.clock import Clock
from exporter.core.failures import FailureKind, RequestFailure
from exporter.core.health import Activity
from exporter.core.redaction import printable
from exporter.providers.decoding import too_complex
from exporter.providers.protocol import ApiRequest, Provider
from exporter.telemetry.recorder import Telemetry

RETRIES = 2
ISSUER_LIMIT = 1024 * 1024
"""Most bytes of the answer of an issuer of credentials; an honest one has a few thousand."""
_FIRST_PAUSE = 0.5
_SKEW = 300.0
"""Seconds by which the provider's clock must differ from what was known, for a refusal to be put down to that."""
_UNREADABLE = "secret"
"""The code of a failure to read a secret: nothing was sent, so nobody was refused."""
_LAST_DATE = 2.0**32
_USER_AGENT = f"pipeline-exporter/{__version__}"
_MESSAGE_LENGTH = 300

# Most requests go to one URL, and reading it takes as long as everything else that is done for a request here.
_parsed = lru_cache(16)(httpx.URL)

_log = logging.getLogger("exporter.client.api_client")


class ApiResponse(msgspec.Struct, frozen=True):
    """A success."""

    body: bytes
    now: float
    """The answer's own clock: its `Date`, else ours; epoch seconds."""
    asked: float
    """When the request was sent, by our monotonic clock."""
    code: str
    """The HTTP status."""
    headers: Mapping[str, str] = MappingProxyType({})
    """Keyed in lower case."""


class ApiError(Exception):
    """A request that failed for good; the fault's message is masked and fit to print."""

    def __init__(self, operation: str, failure: RequestFailure) -> None:
        super().__init__(failure.message)
        self.operation = operation
        self.failure = failure


class ApiClient:
    """Everything that is sent for one project."""

    def __init__(
        self,
        project: str,
        provider: Provider,
        credential: CredentialState,
        base_url: str,
        *,
        rate_limiter: RateLimiter,
        concurrency: int,
        timeout: float,
        transport: TransportOptions,
        telemetry: Telemetry,
        clock: Clock,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self._project = project
        self._provider = provider
        self._credential = credential
        url = urlsplit(base_url)
        self._origin = f"{url.scheme}://{url.netloc}"
        standard = {"http": 80, "https": 443}[url.scheme]
        self._host = url.netloc.removesuffix(f":{standard}")
        self._prefix = url.path
        self.activity = Activity(clock)
        self._rate_limiter = rate_limiter
        self._slots = asyncio.Semaphore(concurrency)
        self._timeout = timeout
        self._telemetry = telemetry
        self._clock = clock
        self._jitter = jitter
        self._cloud = Connections(timeout, concurrency, transport)
        # Whoever hands out temporary keys sits on this machine or beside it, never behind a proxy.
        self._direct = Connections(
            timeout, 1, TransportOptions(tls=transport.tls, bypass_proxy=True, bodies=transport.bodies)
        )

    async def send(self, call: ApiRequest) -> ApiResponse:
        """Send a request, again if what failed may pass.

        Raises:
            ApiError: it failed for good.

        """
        for attempt in range(RETRIES + 1):
            result = await self._try(call)
            if isinstance(result, ApiResponse):
                return result
            pause = self._pause(result, attempt)
            if pause is None or attempt == RETRIES:
                raise ApiError(call.operation, result)
            self._telemetry.retried(self._project)
            _log.debug(
                "retrying in %.1f s: %s", pause, result.message, extra=self._fields(call.operation, result)
            )
            with self.activity.withheld():
                await self._clock.sleep(pause)
        raise AssertionError  # the last attempt returns or raises

    def _pause(self, failure: RequestFailure, attempt: int) -> float | None:
        """Seconds before another try; None if none is worth it."""
        if failure.kind not in {FailureKind.TRANSIENT, FailureKind.THROTTLED}:
            return None
        told = failure.wait or 0.0
        if told > self._timeout:
            return None  # longer than a request may take: that is left to the next poll
        return max(told, _FIRST_PAUSE * (1 << attempt) * (0.5 + self._jitter() / 2))

    async def _try(self, call: ApiRequest) -> ApiResponse | RequestFailure:
        """Send a request; if who asked was refused and there is another proof by then, once more."""
        async with self._slots:
            result, fresh = await self._in_turn(call)
            if fresh:
                # In a new turn, for what is fresh has not been accepted yet.
                result, _ = await self._in_turn(call, last=True)
            return result

    async def _in_turn(
        self, call: ApiRequest, *, last: bool = False
    ) -> tuple[ApiResponse | RequestFailure, bool]:
        """Send a request when its turn comes; says also whether it was refused and there is another proof now."""
        credential = self._credential
        async with credential.slot(self.activity.withheld):
            obstacle = await self._obstacle()
            if obstacle is not None:
                return obstacle, False
            sent = await self._send(call)
            refusal = sent.refusal
            if refusal is None:
                self._judge(sent)
                return sent.result, False
            credential.mark_unverified(sent.fingerprint)
            if not last:
                refusal = await self._freshen(sent, refusal)
                if refusal is None:
                    return sent.result, True
            credential.record_rejection(sent.fingerprint, refusal.message)
            self._telemetry.credentials(self._project, valid=False)
            return refusal, False

    async def _obstacle(self) -> RequestFailure | None:
        """Wait until a request may be sent; a fault if that is not to be."""
        credential = self._credential
        while True:
            failure = credential.blocked() or await self._wait_out() or await self._renew()
            if failure is not None:
                self.activity.blocked()
                if failure.kind is FailureKind.CREDENTIALS and failure.code != _UNREADABLE:
                    self._telemetry.credentials(self._project, valid=False)
                return failure
            await self._take()
            if credential.paused <= 0 and credential.blocked() is None:
                return None
            # Ordered while this waited for the budget; what it took is lost, so that the budget holds.

    async def _wait_out(self) -> RequestFailure | None:
        """Wait while the provider wants no requests; a fault if that is longer than a request may take."""
        while (wait := self._credential.paused) > 0:
            if wait > self._timeout:
                words = f"not asked: the provider ordered a pause, {wait:.0f} s of which are left"
                return RequestFailure(kind=FailureKind.THROTTLED, code="paused", message=words, wait=wait)
            with self.activity.withheld():
                await self._clock.sleep(wait)
        return None

    async def _take(self) -> None:
        """Wait until the budget allows one more request."""
        with self.activity.withheld():
            await self._rate_limiter.acquire()

    def _judge(self, sent: "_Sent") -> None:
        """What an outcome other than a refusal says of the credential."""
        result = sent.result
        if isinstance(result, ApiResponse) or result.kind is FailureKind.CONTENT:
            self._credential.record_success(sent.fingerprint)
            self._telemetry.credentials(self._project, valid=True)
        elif result.kind is FailureKind.THROTTLED:
            self._telemetry.throttled(self._project)
            backoff = _FIRST_PAUSE * 2 * (1 + self._jitter())
            self._credential.pause(result.wait if result.wait is not None else backoff)

    async def _freshen(self, sent: "_Sent", refusal: RequestFailure) -> RequestFailure | None:
        """After a refusal: None if there is something else now to prove the identity with, else what to tell."""
        credential = self._credential
        skew = sent.skew if sent.date is None else sent.date - self._clock.time()
        learnt = abs(skew - sent.skew) > _SKEW
        if learnt and abs(skew - credential.skew) > _SKEW:
            _log.warning(
                "the provider's clock is %.0f s ahead of this machine's; signing by its",
                skew,
                extra={"project": self._project},
            )
            credential.skew = skew
        failure = await self._renew(refused=sent.fingerprint)
        if learnt or credential.auth.fingerprint() != sent.fingerprint:
            return None
        if failure is None:
            return refusal
        return msgspec.structs.replace(refusal, message=f"{refusal.message} ({failure.message})")

    async def _renew(self, refused: str | None = None) -> RequestFailure | None:
        """Renew the credential if that is due, or `refused` is its fingerprint; a fault if there is none to use."""
        credential = self._credential
        auth = credential.auth
        if refused is None and credential.renewing.locked() and self._usable():
            return None  # what there is serves until somebody else has renewed it
        with self.activity.withheld():
            await credential.renewing.acquire()
        try:
            asked_with = auth.fingerprint()
            if refused is not None and (asked_with != refused or credential.blocked() is not None):
                return None  # somebody else was refused too, and has renewed it, or could not
            renewal = auth.renewal(credential.now, refused=refused is not None)
            if renewal is None:
                return None
            usable = refused is None and self._usable()
            blocked = credential.renewal_blocked()
            if blocked is not None:
                return None if usable else blocked
            try:
                await self._drive(renewal)
            except RenewalError as error:
                return self._renewal_failed(asked_with, error.failure, usable=usable)
            credential.renewed()
            self._telemetry.credentials_expire(self._project, auth.expiry_renewal, auth.expires())
            return None
        finally:
            credential.renewing.release()

    def _renewal_failed(
        self, asked_with: str, failure: RequestFailure, *, usable: bool
    ) -> RequestFailure | None:
        if failure.code != _UNREADABLE:  # else nobody was asked
            wait = self._credential.renewal_failed(asked_with, failure)
            failure = msgspec.structs.replace(failure, wait=wait)
        if not usable:
            return failure
        _log.warning(
            "the credential could not be renewed yet: %s", failure.message, extra=self._fields("", failure)
        )
        return None

    def _usable(self) -> bool:
        """Whether there is something to prove the identity with."""
        try:
            self._credential.auth.headers(
                UnsignedRequest(method="GET", host="", path="/"), self._credential.now
            )
        except SecretError:
            return False
        return True

    async def _drive(self, renewal: Renewal) -> None:
        """Perform the exchanges of a renewal.

        Raises:
            RenewalError: it failed.

        """
        with contextlib.closing(renewal), contextlib.suppress(StopIteration):
            exchange = next(renewal)
            while True:
                reply = await self._exchange_with_issuer(exchange)
                if isinstance(reply, RequestFailure):
                    exchange = renewal.throw(NoReplyError(reply))
                else:
                    exchange = renewal.send(reply)

    async def _exchange_with_issuer(self, exchange: IssuerRequest) -> IssuerReply | RequestFailure:
        await self._take()
        started = self._clock.monotonic()
        headers = {"User-Agent": _USER_AGENT, "Accept-Encoding": "gzip", **dict(exchange.headers)}
        request = httpx.Request(exchange.method, exchange.url, headers=headers, content=exchange.body)
        connections = self._direct if exchange.bypass_proxy else self._cloud
        with self.activity.request():
            outcome = await connections.exchange(request, ISSUER_LIMIT)
        seconds = self._clock.monotonic() - started
        if isinstance(outcome, RequestFailure):
            failure = _masked(outcome)
            self._telemetry.failed(self._project, self._provider.name, exchange.operation, failure)
            self._telemetry.requested(
                self._project, self._provider.name, exchange.operation, failure.code, seconds
            )
            _log.debug("request failed: %s", failure.message, extra=self._fields(exchange.operation, failure))
            return failure
        status, received, body = outcome
        self._telemetry.requested(
            self._project, self._provider.name, exchange.operation, str(status), seconds
        )
        if status >= 300:
            refused = RequestFailure(kind=FailureKind.TRANSIENT, code=str(status))
            self._telemetry.failed(self._project, self._provider.name, exchange.operation, refused)
        return IssuerReply(status, received, body)

    async def _send(self, call: ApiRequest) -> "_Sent":
        """Send a request once; whatever comes of it is counted."""
        started = self._clock.monotonic()
        auth = self._credential.auth
        fingerprint, skew = auth.fingerprint(), self._credential.skew
        try:
            request = self._request(call)
        except SecretError as error:
            # Nothing was sent, so no request is counted; the failure is.
            self.activity.blocked()
            failure = RequestFailure(kind=FailureKind.CREDENTIALS, code=_UNREADABLE, message=str(error))
            self._telemetry.failed(self._project, self._provider.name, call.operation, failure)
            return _Sent(failure, fingerprint, skew, None)
        self._telemetry.credentials_expire(self._project, auth.expiry_renewal, auth.expires())
        with self.activity.request():
            outcome = await self._cloud.exchange(request)
        date = None
        result: ApiResponse | RequestFailure
        if isinstance(outcome, RequestFailure):
            result = outcome
        else:
            status, headers, body = outcome
            date = _date(headers.get("date"))
            now = self._clock.time() if date is None else date
            failure_or_none = too_complex(call, body) if 200 <= status < 300 else None
            failure_or_none = failure_or_none or self._provider.failure(call, status, headers, body)
            result = failure_or_none or ApiResponse(body, now, started, str(status), headers)
        if isinstance(result, RequestFailure):
            result = _masked(result)
            self._telemetry.failed(self._project, self._provider.name, call.operation, result)
            _log.debug("request failed: %s", result.message, extra=self._fields(call.operation, result))
        seconds = self._clock.monotonic() - started
        self._telemetry.requested(self._project, self._provider.name, call.operation, result.code, seconds)
        return _Sent(result, fingerprint, skew, date)

    def _request(self, call: ApiRequest) -> httpx.Request:
        outgoing = UnsignedRequest(
            method=call.method,
            host=self._host,
            path=self._prefix + call.path,
            query=call.query,
            headers=call.headers,
            body=call.body,
        )
        proof = self._credential.auth.headers(outgoing, self._credential.now)
        for name, value in proof.items():
            if not (value.isascii() and value.isprintable()):
                # The HTTP library would say so with the value.
                raise SecretError(f"a secret holds characters that no header can carry (see {name})")
        headers = {
            "Host": self._host,
            "User-Agent": _USER_AGENT,
            "Accept": "application/json",
            # No other coding: what a decompressor may be fed stays one kind, with a bound.
            "Accept-Encoding": "gzip",
            **dict(call.headers),
            **proof,
        }
        query = query_string(call.query)
        url = f"{self._origin}{outgoing.path}" + (f"?{query}" if query else "")
        return httpx.Request(call.method, _parsed(url), headers=headers, content=call.body)

    def _fields(self, operation: str, failure: RequestFailure) -> dict[str, str]:
        return {
            "project": self._project,
            "operation": operation,
            "code": failure.code,
            "error_code": failure.error_code,
            "request_id": failure.request_id,
        }

    async def close(self) -> None:
        """Close every connection."""
        await self._cloud.close()
        await self._direct.close()


class _Sent(msgspec.Struct, frozen=True):
    """What came of a request, and with what it proved who asks."""

    result: ApiResponse | RequestFailure
    fingerprint: str
    skew: float
    """What was known of the provider's clock."""
    date: float | None
    """The answer's own clock, if it told one."""

    @property
    def refusal(self) -> RequestFailure | None:
        """The fault, if the provider refused who asked; what could not even be sent is no judgement."""
        failure = self.result
        if (
            isinstance(failure, RequestFailure)
            and failure.kind is FailureKind.CREDENTIALS
            and failure.code != _UNREADABLE
        ):
            return failure
        return None


def _masked(failure: RequestFailure) -> RequestFailure:
    """Return a fault that is fit to print."""
    return msgspec.structs.replace(
        failure,
        message=printable(failure.message, _MESSAGE_LENGTH),
        error_code=printable(failure.error_code, _MESSAGE_LENGTH),
        request_id=printable(failure.request_id, _MESSAGE_LENGTH),
    )


# All answers of a second tell the same.
@lru_cache(16)
def _date(text: str | None) -> float | None:
    if text is None:
        return None
    try:
        moment = parsedate_to_datetime(text)
        date = moment.replace(tzinfo=moment.tzinfo or UTC).timestamp()
    except (ValueError, OverflowError):
        return None
    # What is signed by a clock of another age could not even be written.
    return date if 0 < date < _LAST_DATE else None
