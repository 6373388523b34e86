"""Classified request failures, used by providers, authentication and polling."""

from enum import StrEnum

import msgspec


class FailureKind(StrEnum):
    """Class of a request failure, which determines how to react."""

    TRANSIENT = "transient"
    """A temporary failure of the network or the service: retry."""
    THROTTLED = "throttled"
    """Too many requests: wait, then retry."""
    CREDENTIALS = "credentials"
    """The credentials were rejected. Further attempts can lock the key."""
    NOT_SENT = "not_sent"
    """The request was not sent, because a secret cannot be read or no valid credential is available."""
    PROJECT = "project"
    """A problem of the project, the caller's permissions or the whole API. Every other request would fail, too."""
    CONTENT = "content"
    """A problem with the content of this request. Other requests may succeed."""
    UNREADABLE = "unreadable"
    """The response is not a valid response to the operation."""


class RequestFailure(msgspec.Struct, frozen=True, kw_only=True):
    """Reason why a request failed."""

    kind: FailureKind
    code: str
    """The HTTP status, or a word such as `timeout`, `connect` or `invalid` if there is no usable status."""
    error_code: str = ""
    """The vendor's error code, if the response has one."""
    message: str = ""
    """The message of the vendor or the network. It may contain secrets, so mask it before you print it."""
    request_id: str = ""
    wait: float | None = None
    """Seconds to wait before the next attempt. None if unknown."""
    membership: bool = False
    """Whether the caller is not a member of the project, or the project does not exist."""
