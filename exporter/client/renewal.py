"""Renew credentials with limited lifetime, by sending the requests that a renewal generator yields."""

import contextlib
import logging
from functools import partial

import httpx
import msgspec

from exporter.auth.protocol import (
    IssuerReply,
    IssuerRequest,
    NoReplyError,
    Renewal,
    RenewalError,
    UnsignedRequest,
)
from exporter.client.credential_state import CredentialState
from exporter.client.rate_limiter import RateLimiter
from exporter.client.request_telemetry import RequestTelemetry
from exporter.client.transport import USER_AGENT, ConnectionPools, TransportOptions
from exporter.config.secret import SecretError
from exporter.core.clock import Clock
from exporter.core.failures import FailureKind, RequestFailure
from exporter.core.health import Activity
from exporter.core.hourly_warnings import HourlyWarnings

ISSUER_LIMIT = 1024 * 1024
"""Maximum bytes of an issuer's response. Issuers send a few thousand."""

_log = logging.getLogger("exporter.client.renewal")


class CredentialRenewal:
    """Renews the credential of one project when a renewal is due, or after a rejection.

    Requests to an issuer count against the rate limit of the project. `connections` are those to the provider.
    """

    def __init__(
        self,
        credential: CredentialState,
        connections: ConnectionPools,
        *,
        transport: TransportOptions,
        timeout: float,
        rate_limiter: RateLimiter,
        activity: Activity,
        requests: RequestTelemetry,
        warnings: HourlyWarnings,
        clock: Clock,
    ) -> None:
        self._credential = credential
        self._connections = connections
        # A metadata service runs on this machine or its host, which a proxy cannot reach.
        self._direct = ConnectionPools(
            timeout, 1, TransportOptions(tls=transport.tls, bypass_proxy=True, bodies=transport.bodies)
        )
        self._rate_limiter = rate_limiter
        self._activity = activity
        self._requests = requests
        self._warnings = warnings
        self._clock = clock

    async def renew(self, rejected: str | None = None) -> RequestFailure | None:
        """Renew the credential if a renewal is due, or if its fingerprint is still the `rejected` one.

        Return a failure if no credential is usable afterwards, otherwise None.
        """
        credential = self._credential
        auth = credential.auth
        if rejected is None and credential.renewing.locked() and self._is_usable():
            return None  # another request renews it, and the present one is valid until then
        with self._activity.withheld():
            await credential.renewing.acquire()
        try:
            fingerprint = auth.fingerprint()
            if rejected is not None and (fingerprint != rejected or credential.blocked() is not None):
                return None  # another request was rejected too, and its renewal succeeded or failed already
            renewal = auth.renewal(credential.provider_time, refused=rejected is not None)
            if renewal is None:
                return None
            usable = rejected is None and self._is_usable()
            blocked = credential.renewal_blocked()
            if blocked is not None:
                return None if usable else blocked
            try:
                await self._run(renewal)
            except RenewalError as error:
                failure = self._record_failure(fingerprint, error.failure)
                if not usable:
                    return failure
                self._warnings.add(("credential-renewal-failed",), partial(self._log_failure, failure))
                return None
            credential.record_renewal()
            self._requests.credential_in_use(auth)
            return None
        finally:
            credential.renewing.release()

    def _record_failure(self, fingerprint: str, failure: RequestFailure) -> RequestFailure:
        if failure.kind is FailureKind.NOT_SENT:
            return failure  # the issuer received no request
        wait = self._credential.record_renewal_failure(fingerprint, failure)
        return msgspec.structs.replace(failure, wait=wait)

    def _log_failure(self, first: RequestFailure, failures: int) -> None:
        _log.warning(
            "credential renewal failed, using the present credential",
            extra={
                "id": "credential-renewal-failed",
                "failures": failures,
                **self._requests.fields("", first),
            },
        )

    def _is_usable(self) -> bool:
        """Return whether the current credential can sign a request."""
        request = UnsignedRequest(method="GET", host="", path="/")
        try:
            self._credential.auth.headers(request, self._credential.provider_time)
        except SecretError:
            return False
        return True

    async def _run(self, renewal: Renewal) -> None:
        """Send the requests that a renewal yields, and send the replies back to it.

        Raises:
            RenewalError: it failed.

        """
        with contextlib.closing(renewal), contextlib.suppress(StopIteration):
            request = next(renewal)
            while True:
                reply = await self._send(request)
                if isinstance(reply, RequestFailure):
                    request = renewal.throw(NoReplyError(reply))
                else:
                    request = renewal.send(reply)

    async def _send(self, request: IssuerRequest) -> IssuerReply | RequestFailure:
        with self._activity.withheld():
            await self._rate_limiter.acquire()
        started = self._clock.monotonic()
        headers = {"User-Agent": USER_AGENT, "Accept-Encoding": "gzip", **dict(request.headers)}
        outgoing = httpx.Request(request.method, request.url, headers=headers, content=request.body)
        connections = self._direct if request.bypass_proxy else self._connections
        with self._activity.request():
            outcome = await connections.exchange(outgoing, ISSUER_LIMIT)
        if isinstance(outcome, RequestFailure):
            failure = self._requests.failed(request.operation, outcome)
            self._requests.ended(request.operation, failure.code, started)
            return failure
        status, received, body = outcome
        self._requests.ended(request.operation, str(status), started)
        if status >= 300:
            self._requests.rejected_by_issuer(request.operation, status)
        return IssuerReply(status, received, body)

    async def close(self) -> None:
        """Close the direct connections."""
        await self._direct.close()
