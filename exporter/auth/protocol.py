"""Authentication: a request and a key in, the headers that prove it out. One folder a vendor; no sockets here.

A credential that must be fetched is fetched without I/O, too: an `Auth` describes the exchanges one after the other
as a generator, and whoever drives it performs them.
"""

import hashlib
from collections.abc import Generator, Mapping, Sequence
from typing import Protocol
from urllib.parse import quote

import msgspec

from exporter.core.failures import RequestFailure

UNRESERVED = "-_.~"
"""What stays as it is in a signed URL, beside letters and digits (RFC 3986, section 2.3)."""


class UnsignedRequest(msgspec.Struct, frozen=True, kw_only=True):
    """A request as it will be sent, before it is signed."""

    method: str
    host: str
    """Value of the Host header: with the port, unless it is the scheme's own."""
    path: str
    """Percent-encoded, from the root."""
    query: tuple[tuple[str, str], ...] = ()
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes = b""


class IssuerRequest(msgspec.Struct, frozen=True, kw_only=True):
    """A request to whoever issues credentials, complete as it stands."""

    operation: str
    """The vendor's name of the operation, for metrics and words."""
    method: str
    url: str
    bypass_proxy: bool = False
    """Whether it goes to this machine or the one that carries it, where no proxy leads."""
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes = b""

    def __repr__(self) -> str:
        # Headers, body and, if need be, queries are where passwords and tokens travel.
        return f"Exchange({self.operation}: {self.method} {self.url.partition('?')[0]})"


class IssuerReply(msgspec.Struct, frozen=True):
    """What the issuer answered."""

    status: int
    headers: Mapping[str, str]
    """Keyed in lower case."""
    body: bytes

    def __repr__(self) -> str:
        return f"Reply({self.status}, {len(self.body)} bytes)"  # the rest is a fresh credential


class NoReplyError(Exception):
    """No reply to an exchange came; thrown into a renewal by whoever drives it."""

    def __init__(self, failure: RequestFailure) -> None:
        super().__init__(failure.message)
        self.failure = failure


class RenewalError(Exception):
    """A credential that was not renewed; one obtained before serves on until it ends.

    The fault's kind is CREDENTIALS if the issuer refused who asks, or what to ask with cannot be read; its message
    and codes are free of secrets, on one line and of a bounded length.
    """

    def __init__(self, failure: RequestFailure) -> None:
        super().__init__(failure.message)
        self.failure = failure


Renewal = Generator[IssuerRequest, IssuerReply, None]
"""The exchanges that renew a credential, which is renewed once the generator has run to its end.

Send a `IssuerReply` to each exchange, or throw an `NoReplyError`. The generator raises `RenewalError`, and nothing else.
"""


class Auth(Protocol):
    """Proves to a vendor who asks."""

    @property
    def credential_id(self) -> str:
        """Which credential this is: no secret, and the same after a rotation.

        Equal only where one object can stand for the other, scope included: whoever shares a credential's state may
        share the object.
        """

    @property
    def expiry_renewal(self) -> str:
        """Who replaces the credential before it ends: `auto` (this object), or `manual` (a human)."""

    def headers(self, request: UnsignedRequest, now: float) -> dict[str, str]:
        """The headers to add to a request sent at `now` (epoch seconds).

        Raises:
            SecretError: a key cannot be read at the moment, or none has been obtained that is still valid.

        """

    def fingerprint(self) -> str:
        """A digest of what proves the identity now, another once that was rotated or renewed; empty if unreadable."""

    def expires(self) -> float | None:
        """When the present credential ends, in epoch seconds; None if nobody tells."""

    def renewal(self, now: float, *, refused: bool = False) -> Renewal | None:
        """The renewal that is due at `now` (epoch seconds), or None.

        With `refused`, after the vendor refused the present credential: a renewal wherever a fresh one can be had.
        A renewal that failed is due again at once: when to try again is decided by whoever drives it.
        """


def query_string(query: Sequence[tuple[str, str]]) -> str:
    """A query in the one form that is signed and, since the two must not differ, sent: sorted, percent-encoded."""
    return "&".join(
        f"{quote(key, safe=UNRESERVED)}={quote(value, safe=UNRESERVED)}" for key, value in sorted(query)
    )


def digest(*values: str) -> str:
    """SHA-256 of some values, in hexadecimal, by which they are compared without being kept."""
    # An environment variable may hold bytes that are no text.
    return hashlib.sha256("\0".join(values).encode(errors="surrogateescape")).hexdigest()
