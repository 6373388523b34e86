"""Authentication: a request and a key in, the headers that prove it out. One file a vendor; no I/O here."""

from collections.abc import Sequence
from typing import Protocol
from urllib.parse import quote

import msgspec

UNRESERVED = "-_.~"
"""What stays as it is in a signed URL, beside letters and digits (RFC 3986, section 2.3)."""


class Outgoing(msgspec.Struct, frozen=True, kw_only=True):
    """A request as it will be sent, before it is signed."""

    method: str
    host: str
    """Value of the Host header: with the port, unless it is the scheme's own."""
    path: str
    """Percent-encoded, from the root."""
    query: tuple[tuple[str, str], ...] = ()
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes = b""


class Auth(Protocol):
    """Proves to a vendor who asks."""

    def headers(self, request: Outgoing, now: float) -> dict[str, str]:
        """The headers to add to a request sent at `now` (epoch seconds).

        Raises:
            SecretError: a key cannot be read at the moment.

        """

    def secrets(self) -> tuple[str, ...]:
        """Every value that must not be printed, for masking what a vendor echoes; unreadable ones left out."""


def query_string(query: Sequence[tuple[str, str]]) -> str:
    """A query in the one form that is signed and, since the two must not differ, sent: sorted, percent-encoded."""
    return "&".join(
        f"{quote(key, safe=UNRESERVED)}={quote(value, safe=UNRESERVED)}" for key, value in sorted(query)
    )
