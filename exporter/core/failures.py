"""Classified request failures, which providers, authentication and polls exchange."""

from enum import StrEnum

import msgspec


class FailureKind(StrEnum):
    """Scope of a failure, which decides what to do next."""

    TRANSIENT = "transient"
    """The network or the service at the moment: try again."""
    THROTTLED = "throttled"
    """Too many requests: wait, then try again."""
    CREDENTIALS = "credentials"
    """The credentials were refused. More tries can lock the key."""
    NOT_SENT = "not_sent"
    """A secret cannot be read, or no valid credential is held. The request was not sent, so the provider has not judged it."""
    PROJECT = "project"
    """The project, the caller's permissions or the whole API: every other request would fail for the same reason."""
    CONTENT = "content"
    """The content of this request. Other requests may succeed."""
    UNREADABLE = "unreadable"
    """The response does not match the operation."""


class RequestFailure(msgspec.Struct, frozen=True, kw_only=True):
    """Why a request failed."""

    kind: FailureKind
    code: str
    """The HTTP status, or `invalid`, `timeout`, `connect`."""
    error_code: str = ""
    """The vendor's error code, if the response has one."""
    message: str = ""
    """The message of the vendor or the network. It may contain secrets, so mask it before you print it."""
    request_id: str = ""
    wait: float | None = None
    """Seconds that the vendor asks to wait."""
    membership: bool = False
    """Whether the caller is not a member of the project, or the project does not exist."""
