"""Why a poll failed, and which section of docs/troubleshooting.md has the remedy."""

import re

import msgspec

from exporter.client.api_client import ApiError
from exporter.core.failures import FailureKind, RequestFailure

PAGE = "docs/troubleshooting.md"

_REMEDIES = {
    FailureKind.THROTTLED: "provider-throttles",
    FailureKind.CREDENTIALS: "credentials-rejected",
    FailureKind.NOT_SENT: "credentials-missing",
    FailureKind.PROJECT: "project-refused",
    FailureKind.CONTENT: "requests-refused",
    FailureKind.UNREADABLE: "responses-unreadable",
}
_HELD_BACK = frozenset({"refused", "paused"})
"""Codes of requests that were not sent because of an earlier failure."""


class Cause(msgspec.Struct, frozen=True):
    """Why a poll failed: the first failure of its kind in the poll."""

    operation: str
    code: str
    """The HTTP status, or a code of the exporter's own, such as `incomplete`."""
    error_code: str = ""
    """The vendor's error code."""
    message: str = ""
    request_id: str = ""
    remedy: str = ""
    """Heading in docs/troubleshooting.md."""

    @property
    def key(self) -> tuple[str, str, str]:
        """Key by which causes are compared."""
        return self.operation, self.code, self.error_code

    @property
    def held_back(self) -> bool:
        """True if the request was not sent because of an earlier failure, so that this is not a cause of its own."""
        return self.code in _HELD_BACK

    @property
    def trouble(self) -> tuple[str, ...]:
        """Key that is equal for outages with the same underlying problem."""
        if self.remedy in {"provider-throttles", "credentials-rejected"}:
            return (self.remedy,)
        # A message may have a time or an attempt in it.
        return self.remedy, self.code, self.error_code, re.sub(r"\d+", "", self.message)


UNANSWERED = Cause("", "incomplete", message="pipelines without an answer", remedy="responses-unreadable")
"""Cause of a poll that lacks responses although no request failed."""


def remedy(failure: RequestFailure) -> str:
    """Return the heading in docs/troubleshooting.md that says what to do about a failure."""
    if failure.kind is FailureKind.TRANSIENT:
        return "provider-fails" if failure.code.isdecimal() else "no-response"
    return _REMEDIES[failure.kind]


def cause(error: ApiError) -> Cause:
    """Convert an error to a cause."""
    failure = error.failure
    return Cause(
        operation=error.operation,
        code=failure.code,
        error_code=failure.error_code,
        message=failure.message,
        request_id=failure.request_id,
        remedy=remedy(failure),
    )
