"""What an observer of requests gets, for diagnosis."""

from collections.abc import Mapping

import msgspec


class Exchange(msgspec.Struct, frozen=True):
    """What was received for one request that was sent, error responses included."""

    operation: str
    code: str
    """The HTTP status, or `timeout`, `connect`, `invalid`."""
    error_code: str
    seconds: float
    date: float | None
    """The `Date` header in epoch seconds."""
    headers: Mapping[str, str]
    body: bytes
