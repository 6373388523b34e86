"""Authentication interface: requests, credentials, and renewals as generators.

This package does no I/O. A credential that must be obtained yields its requests one by one from a generator (`Renewal`),
and the API client sends them.
"""

import hashlib
from collections.abc import Generator, Mapping, Sequence
from typing import Protocol
from urllib.parse import quote

import msgspec

from exporter.core.failures import RequestFailure

UNRESERVED = "-_.~"
"""Characters that are not encoded in a signed URL, in addition to letters and digits (RFC 3986, section 2.3)."""


class UnsignedRequest(msgspec.Struct, frozen=True, kw_only=True):
    """A request as it will be sent, before it is signed."""

    method: str
    host: str
    """Value of the Host header, with the port unless it is the default port of the scheme."""
    path: str
    """Absolute and percent-encoded."""
    query: tuple[tuple[str, str], ...] = ()
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes = b""


class IssuerRequest(msgspec.Struct, frozen=True, kw_only=True):
    """A complete request to an issuer of credentials."""

    operation: str
    """The vendor's name of the operation, for metrics and messages."""
    method: str
    url: str
    bypass_proxy: bool = False
    """Whether the issuer is local to this machine or its host, where a proxy cannot reach it."""
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes = b""

    def __repr__(self) -> str:
        # Headers, body and query can contain passwords and tokens.
        return f"IssuerRequest({self.operation}: {self.method} {self.url.partition('?')[0]})"


class IssuerReply(msgspec.Struct, frozen=True):
    """Response of an issuer."""

    status: int
    headers: Mapping[str, str]
    """Keyed in lower case."""
    body: bytes

    def __repr__(self) -> str:
        # Headers and body contain a credential.
        return f"IssuerReply({self.status}, {len(self.body)} bytes)"


class NoReplyError(Exception):
    """An issuer did not reply. The API client throws it into the renewal."""

    def __init__(self, failure: RequestFailure) -> None:
        super().__init__(failure.message)
        self.failure = failure


class RenewalError(Exception):
    """A renewal failed. The previous credential remains in use until it ends.

    The kind of `failure` is CREDENTIALS if the issuer refused the caller or a secret cannot be read. Its message and codes
    contain no secrets and are single lines of bounded length.
    """

    def __init__(self, failure: RequestFailure) -> None:
        super().__init__(failure.message)
        self.failure = failure


Renewal = Generator[IssuerRequest, IssuerReply, None]
"""Generator that yields the requests of a renewal. The credential is renewed when it returns.

For each request, send an `IssuerReply` or throw a `NoReplyError`. The generator raises only `RenewalError`.
"""


class Auth(Protocol):
    """A credential that authenticates requests."""

    @property
    def credential_id(self) -> str:
        """Identity of the credential: contains no secret and stays the same after a rotation.

        Objects with the same id are interchangeable, including their scope: projects that share the state of a credential
        may share the object.
        """

    @property
    def expiry_renewal(self) -> str:
        """How the credential is renewed before it ends: `auto` (by this object) or `manual` (by a person)."""

    def headers(self, request: UnsignedRequest, now: float) -> dict[str, str]:
        """Return the headers to add to a request that is sent at `now` (Unix seconds).

        Raises:
            SecretError: A secret cannot be read, or no valid credential has been obtained.

        """

    def fingerprint(self) -> str:
        """Return a digest of the current secrets, which changes with each rotation or renewal. Empty if unreadable."""

    def expires(self) -> float | None:
        """Return when the current credential expires, in Unix seconds. None if unknown."""

    def renewal(self, now: float, *, refused: bool = False) -> Renewal | None:
        """Return the renewal that is due at `now` (Unix seconds), or None.

        `refused` means that the vendor rejected the current credential: a renewal is due if another credential can be
        obtained. After a failed renewal the next one is due at once, so the caller must limit the rate.
        """


def query_string(query: Sequence[tuple[str, str]]) -> str:
    """Return the query sorted and percent-encoded, as it is signed and sent."""
    return "&".join(
        f"{quote(key, safe=UNRESERVED)}={quote(value, safe=UNRESERVED)}" for key, value in sorted(query)
    )


def digest(*values: str) -> str:
    """Return the SHA-256 of some values in hexadecimal, to compare secrets without storing them."""
    # An environment variable can contain bytes that are not UTF-8.
    return hashlib.sha256("\0".join(values).encode(errors="surrogateescape")).hexdigest()
