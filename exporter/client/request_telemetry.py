"""Telemetry of a project's requests: metrics for each request, and a debug log line for each failure."""

import logging

import msgspec

from exporter.auth.protocol import Auth
from exporter.core.clock import Clock
from exporter.core.failures import FailureKind, RequestFailure
from exporter.core.redaction import printable
from exporter.telemetry.recorder import Telemetry

_MESSAGE_LENGTH = 300

_log = logging.getLogger("exporter.client.request_telemetry")


class RequestTelemetry:
    """Counts and times the requests of one project, and logs those that failed."""

    def __init__(self, project: str, provider: str, telemetry: Telemetry, clock: Clock) -> None:
        self._project = project
        self._provider = provider
        self._telemetry = telemetry
        self._clock = clock
        self.sent = 0
        """Number of requests that have ended."""

    def ended(self, operation: str, code: str, started: float) -> None:
        """Record the count and duration of a request that was sent at `started` (monotonic seconds)."""
        seconds = self._clock.monotonic() - started
        self.sent += 1
        self._telemetry.request_ended(self._project, self._provider, operation, code, seconds)

    def failed(self, operation: str, failure: RequestFailure) -> RequestFailure:
        """Count and log a failure. Return it with its secrets masked."""
        failure = _masked(failure)
        self._telemetry.request_failed(self._project, self._provider, operation, failure)
        _log.debug("request failed", extra=self.fields(operation, failure))
        return failure

    def rejected_by_issuer(self, operation: str, status: int) -> None:
        """Count an error response of an issuer. The renewal reads and reports its body."""
        failure = RequestFailure(kind=FailureKind.TRANSIENT, code=str(status))
        self._telemetry.request_failed(self._project, self._provider, operation, failure)

    def credential_in_use(self, auth: Auth) -> None:
        """Set the gauge of the credential's expiry, or remove it if unknown."""
        self._telemetry.set_credentials_expiry(
            self._project, self._provider, auth.expiry_renewal, auth.expires()
        )

    def fields(self, operation: str, failure: RequestFailure) -> dict[str, str]:
        """Return the log fields that describe a failure."""
        return {
            "project": self._project,
            "operation": operation,
            "code": failure.code,
            "error_code": failure.error_code,
            "request_id": failure.request_id,
            "error": failure.message,
        }


def _masked(failure: RequestFailure) -> RequestFailure:
    return msgspec.structs.replace(
        failure,
        message=printable(failure.message, _MESSAGE_LENGTH),
        error_code=printable(failure.error_code, _MESSAGE_LENGTH),
        request_id=printable(failure.request_id, _MESSAGE_LENGTH),
    )
