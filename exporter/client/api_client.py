"""Send the requests of a project: sign, rate-limit and retry them, and update the state of the credential."""

import asyncio
import logging
import random
from collections.abc import Callable, Mapping
from functools import lru_cache, partial
from types import MappingProxyType
from urllib.parse import urlsplit

import httpx
import msgspec

from exporter.auth.protocol import UnsignedRequest, query_string
from exporter.client.credential_state import CredentialState
from exporter.client.exchange import Exchange, response_date
from exporter.client.rate_limiter import RateLimiter
from exporter.client.renewal import CredentialRenewal
from exporter.client.request_telemetry import RequestTelemetry
from exporter.client.transport import USER_AGENT, ConnectionPools, TransportOptions
from exporter.config.secret import SecretError
from exporter.core.clock import Clock
from exporter.core.failures import FailureKind, RequestFailure
from exporter.core.health import Activity
from exporter.core.hourly_warnings import HourlyWarnings
from exporter.core.usage import Usage
from exporter.providers.protocol import ApiRequest, Service
from exporter.providers.responses import too_complex
from exporter.telemetry.recorder import Telemetry

RETRIES = 2
_FIRST_PAUSE = 0.5
_SKEW = 300.0
"""Seconds of clock difference from which it is the likely cause of a rejection."""

# Most requests have the same URL, and parsing it takes as long as everything else done here for a request.
_parsed = lru_cache(16)(httpx.URL)

_log = logging.getLogger("exporter.client.api_client")


class ApiResponse(msgspec.Struct, frozen=True):
    """Successful response to an API request."""

    body: bytes
    now: float
    """The `Date` header in Unix seconds; without one, the time of this machine."""
    sent_at: float
    """When the request was sent, in monotonic seconds."""
    code: str
    """HTTP status, as text."""
    headers: Mapping[str, str] = MappingProxyType({})
    """Keyed in lower case."""


class ApiError(Exception):
    """A request failed, and no retry is left. Secrets in the message of `failure` are masked."""

    def __init__(self, operation: str, failure: RequestFailure) -> None:
        super().__init__(failure.message)
        self.operation = operation
        self.failure = failure


class ApiClient:
    """Authenticated client of one project, with retries, a rate limit and a limit on concurrency."""

    def __init__(
        self,
        project: str,
        provider: Service,
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
        self.observer: Callable[[Exchange], None] | None = None
        """Callback that receives each exchange with the provider, for diagnosis."""
        self._rate_limiter = rate_limiter
        self._concurrency = asyncio.Semaphore(concurrency)
        self._timeout = timeout
        self._telemetry = telemetry
        self.warnings = HourlyWarnings(clock)
        """Warnings of the project, which the poller logs after each refresh."""
        self._requests = RequestTelemetry(project, provider.name, telemetry, clock)
        self._clock = clock
        self._jitter = jitter
        self._accepted: bool | None = None
        self._connections = ConnectionPools(timeout, concurrency, transport)
        self._renewal = CredentialRenewal(
            credential,
            self._connections,
            transport=transport,
            timeout=timeout,
            rate_limiter=rate_limiter,
            activity=self.activity,
            requests=self._requests,
            warnings=self.warnings,
            clock=clock,
        )

    @property
    def manual_expiry(self) -> float | None:
        """When the credentials expire, in Unix seconds; None if unknown, or if the exporter renews them."""
        auth = self._credential.auth
        return auth.expires() if auth.expiry_renewal == "manual" else None

    @property
    def sent(self) -> int:
        """Number of requests sent so far, retries included."""
        return self._requests.sent

    @property
    def usage(self) -> Usage:
        """Snapshot of the project's request budget and credentials."""
        auth = self._credential.auth
        return Usage(
            requests_per_minute=self._rate_limiter.last_minute,
            allowed_per_minute=self._rate_limiter.per_minute,
            budget_left=self._rate_limiter.left,
            budget=self._rate_limiter.burst,
            credentials_accepted=self._accepted,
            credentials_expire=auth.expires(),
            credentials_renewal=auth.expiry_renewal,
        )

    async def send(self, request: ApiRequest) -> ApiResponse:
        """Send a request, and retry it after transient failures and throttling.

        Raises:
            ApiError: every attempt failed, or another attempt is pointless.

        """
        for attempt in range(RETRIES + 1):
            result = await self._attempt(request)
            if isinstance(result, ApiResponse):
                return result
            pause = self._retry_delay(result, attempt)
            if pause is None or attempt == RETRIES:
                raise ApiError(request.operation, result)
            self._telemetry.request_retried(self._project, self._provider.name)
            fields = self._requests.fields(request.operation, result)
            _log.debug("retrying request", extra={**fields, "seconds": round(pause, 1)})
            with self.activity.withheld():
                await self._clock.sleep(pause)
        raise AssertionError  # the last attempt returns or raises

    def _retry_delay(self, failure: RequestFailure, attempt: int) -> float | None:
        """Return the seconds before the next attempt, or None if a retry is pointless."""
        if failure.kind not in {FailureKind.TRANSIENT, FailureKind.THROTTLED}:
            return None
        requested = failure.wait or 0.0
        if requested > self._timeout:
            return None  # the next poll tries again
        return max(requested, _FIRST_PAUSE * (1 << attempt) * (0.5 + self._jitter() / 2))

    async def _attempt(self, request: ApiRequest) -> ApiResponse | RequestFailure:
        """Send a request. If the credential is rejected and can be refreshed, send it once more."""
        async with self._concurrency:
            result, refreshed = await self._send_in_slot(request)
            if refreshed:
                # In a new slot, since the refreshed credential has not been accepted yet.
                result, _ = await self._send_in_slot(request, last=True)
            return result

    async def _send_in_slot(
        self, request: ApiRequest, *, last: bool = False
    ) -> tuple[ApiResponse | RequestFailure, bool]:
        """Send a request while holding a slot of the credential.

        Return the result, and whether the credential was rejected and then refreshed. With `last`, it is not refreshed.
        """
        credential = self._credential
        async with credential.slot(self.activity.withheld):
            obstacle = await self._wait_until_allowed()
            if obstacle is not None:
                return obstacle, False
            sent = await self._send_once(request)
            rejection = sent.rejection
            if rejection is None:
                self._record_outcome(sent)
                return sent.result, False
            credential.mark_unverified(sent.fingerprint)
            if not last:
                rejection = await self._refresh(sent, rejection)
                if rejection is None:
                    return sent.result, True
            credential.record_rejection(sent.fingerprint, rejection.message, rejection.error_code)
            self._set_accepted(accepted=False)
            return rejection, False

    async def _wait_until_allowed(self) -> RequestFailure | None:
        """Wait until a request may be sent. Return a failure if it is blocked, or would wait too long."""
        credential = self._credential
        while True:
            failure = credential.blocked() or await self._wait_out_pause() or await self._renewal.renew()
            if failure is not None:
                self.activity.blocked()
                if failure.kind is FailureKind.CREDENTIALS:
                    self._set_accepted(accepted=False)
                return failure
            with self.activity.withheld():
                await self._rate_limiter.acquire()
            if credential.pause_left <= 0 and credential.blocked() is None:
                return None
            # Paused or blocked during the wait. The acquired token is not returned, so that the rate limit holds.

    async def _wait_out_pause(self) -> RequestFailure | None:
        """Wait until the end of a pause that the provider requested. Return a failure if it is longer than the time limit."""
        while (wait := self._credential.pause_left) > 0:
            if wait > self._timeout:
                message = f"request not sent: throttled by the provider for another {wait:.0f} s"
                return RequestFailure(kind=FailureKind.THROTTLED, code="paused", message=message, wait=wait)
            with self.activity.withheld():
                await self._clock.sleep(wait)
        return None

    def _record_outcome(self, sent: "_Sent") -> None:
        """Update the state of the credential after a request in which it was not rejected."""
        result = sent.result
        if isinstance(result, ApiResponse) or result.kind is FailureKind.CONTENT:
            self._credential.record_success(sent.fingerprint)
            self._set_accepted(accepted=True)
        elif result.kind is FailureKind.THROTTLED:
            self._telemetry.request_throttled(self._project, self._provider.name)
            backoff = _FIRST_PAUSE * 2 * (1 + self._jitter())
            self._credential.pause(result.wait if result.wait is not None else backoff)

    def _set_accepted(self, *, accepted: bool) -> None:
        self._accepted = accepted
        self._telemetry.set_credentials_valid(self._project, self._provider.name, valid=accepted)

    async def _refresh(self, sent: "_Sent", rejection: RequestFailure) -> RequestFailure | None:
        """After a rejection, renew the credential or correct the clock.

        Return None if another attempt may succeed, otherwise the failure to report.
        """
        credential = self._credential
        skew = sent.skew if sent.date is None else sent.date - self._clock.time()
        skew_changed = abs(skew - sent.skew) > _SKEW
        if skew_changed and abs(skew - credential.skew) > _SKEW:
            self.warnings.add(("clock-differs",), partial(self._log_skew, round(skew)), of_outage=False)
            credential.skew = skew
        failure = await self._renewal.renew(rejected=sent.fingerprint)
        if skew_changed or credential.auth.fingerprint() != sent.fingerprint:
            return None
        if failure is None:
            return rejection
        return msgspec.structs.replace(rejection, message=f"{rejection.message} ({failure.message})")

    def _log_skew(self, seconds: int, times: int) -> None:
        _log.warning(
            "clock differs from the provider's, signing with provider time",
            extra={
                "id": "clock-differs",
                "project": self._project,
                "skew_seconds": seconds,
                "failures": times,
            },
        )

    async def _send_once(self, request: ApiRequest) -> "_Sent":
        """Send a request once, and count and log its outcome."""
        started = self._clock.monotonic()
        auth = self._credential.auth
        fingerprint, skew = auth.fingerprint(), self._credential.skew
        try:
            outgoing = self._signed(request)
        except SecretError as error:
            # No request was sent, so only the failure is counted.
            self.activity.blocked()
            failure = RequestFailure(kind=FailureKind.NOT_SENT, code="secret", message=str(error))
            return _Sent(self._requests.failed(request.operation, failure), fingerprint, skew, None)
        self._requests.credential_in_use(auth)
        with self.activity.request():
            outcome = await self._connections.exchange(outgoing)
        date = None
        headers: Mapping[str, str] = {}
        body = b""
        result: ApiResponse | RequestFailure
        if isinstance(outcome, RequestFailure):
            result = outcome
        else:
            status, headers, body = outcome
            date = response_date(headers.get("date"))
            now = self._clock.time() if date is None else date
            problem = too_complex(request, body) if 200 <= status < 300 else None
            problem = problem or self._provider.failure(request, status, headers, body)
            result = problem or ApiResponse(body, now, started, str(status), headers)
        if isinstance(result, RequestFailure):
            result = self._requests.failed(request.operation, result)
        self._requests.ended(request.operation, result.code, started)
        if self.observer is not None:
            error_code = result.error_code if isinstance(result, RequestFailure) else ""
            seconds = self._clock.monotonic() - started
            self.observer(Exchange(request.operation, result.code, error_code, seconds, date, headers, body))
        return _Sent(result, fingerprint, skew, date)

    def _signed(self, request: ApiRequest) -> httpx.Request:
        """Return a request with its authentication headers.

        Raises:
            SecretError: a secret cannot be read, or has characters that a header cannot carry.

        """
        unsigned = UnsignedRequest(
            method=request.method,
            host=self._host,
            path=self._prefix + request.path,
            query=request.query,
            headers=request.headers,
            body=request.body,
        )
        auth_headers = self._credential.auth.headers(unsigned, self._credential.provider_time)
        for name, value in auth_headers.items():
            if not (value.isascii() and value.isprintable()):
                # Checked here, since the error of the HTTP library would show the value.
                raise SecretError(
                    f"a secret has characters that the header {name} cannot carry (printable ASCII only)"
                )
        headers = {
            "Host": self._host,
            "User-Agent": USER_AGENT,
            "Accept": "application/json",
            # The only coding that `read_body` decompresses.
            "Accept-Encoding": "gzip",
            **dict(request.headers),
            **auth_headers,
        }
        query = query_string(request.query)
        url = f"{self._origin}{unsigned.path}" + (f"?{query}" if query else "")
        return httpx.Request(request.method, _parsed(url), headers=headers, content=request.body)

    async def drain(self) -> None:
        """Stop sending requests, and wait until those in flight have ended."""
        await self._connections.drain()

    async def close(self) -> None:
        """Close every connection."""
        await self._connections.close()
        await self._renewal.close()


class _Sent(msgspec.Struct, frozen=True):
    """Outcome of a request, with the credential's fingerprint and the clock skew that it was signed with."""

    result: ApiResponse | RequestFailure
    fingerprint: str
    skew: float
    """Assumed skew of the provider's clock in seconds."""
    date: float | None
    """`Date` of the response in Unix seconds; None without one."""

    @property
    def rejection(self) -> RequestFailure | None:
        """The failure if the provider rejected the credential, otherwise None."""
        result = self.result
        if isinstance(result, RequestFailure) and result.kind is FailureKind.CREDENTIALS:
            return result
        return None
