"""Why a request failed, and what its failure speaks of: the words between providers, authentication and polls."""

from enum import StrEnum

import msgspec


class FailureKind(StrEnum):
    """What a failure speaks of, which decides what to do next."""

    TRANSIENT = "transient"
    """The network or the service for now: worth another try."""
    THROTTLED = "throttled"
    """Too many requests: wait, then try again."""
    CREDENTIALS = "credentials"
    """The caller is not who it says: more tries can lock the key."""
    NOT_SENT = "not_sent"
    """A secret cannot be read, or no valid credential is held. Nothing was sent, so the provider has judged nothing."""
    PROJECT = "project"
    """The project, the caller's rights or the API as a whole: every other request will meet the same."""
    CONTENT = "content"
    """What this one request asked for; others may succeed."""
    UNREADABLE = "unreadable"
    """An answer that is not the operation's."""


class RequestFailure(msgspec.Struct, frozen=True, kw_only=True):
    """Why a request failed."""

    kind: FailureKind
    code: str
    """The HTTP status, or `invalid`, `timeout`, `connect`."""
    error_code: str = ""
    """The vendor's code, if it gave one."""
    message: str = ""
    """The vendor's or the network's words, unmasked: whoever prints it masks it."""
    request_id: str = ""
    wait: float | None = None
    """Seconds that the vendor asks to wait."""
