"""ACS3-HMAC-SHA256 signature as the gateway computes it, from the bytes on the wire.

It deliberately shares no code with the exporter's signer, so that each reveals errors in the other. The vendor's
worked example and SDK test both.
"""

import hashlib
import hmac
from collections.abc import Mapping, Sequence
from urllib.parse import quote_from_bytes, unquote_to_bytes

from exporter.simulator.http.gateway import authorization_parser

ALGORITHM = "ACS3-HMAC-SHA256"

parse = authorization_parser(ALGORITHM, "Credential")


def canonical_request(
    *,
    method: str,
    raw_path: bytes,
    raw_query: bytes,
    headers: Mapping[bytes, bytes],
    signed_headers: Sequence[str],
    body: bytes,
) -> bytes:
    """Return the canonical request, which client and gateway hash.

    `headers` has lower-case names; a signed header that is missing counts as empty. The payload hash is that of the
    received body, regardless of the header that declares it.
    """
    names = [name.encode("latin-1") for name in signed_headers]
    lines = b"".join(name + b":" + headers.get(name, b"").strip() + b"\n" for name in names)
    payload = hashlib.sha256(body).hexdigest().encode()
    return b"\n".join(
        [method.encode(), raw_path or b"/", _canonical_query(raw_query), lines, b";".join(names), payload]
    )


def string_to_sign(canonical: bytes) -> str:
    """Return the string to sign of a canonical request."""
    return f"{ALGORITHM}\n{hashlib.sha256(canonical).hexdigest()}"


def signature(secret_key: str, canonical: bytes) -> str:
    """Return the signature of a canonical request, in lower-case hex."""
    return hmac.new(secret_key.encode(), string_to_sign(canonical).encode(), hashlib.sha256).hexdigest()


def _canonical_query(raw: bytes) -> bytes:
    """Return the query sorted by name and encoded in one way; clients may send a space as a plus sign."""
    pairs = (part.replace(b"+", b" ").partition(b"=") for part in raw.split(b"&") if part)
    decoded = sorted((unquote_to_bytes(name), unquote_to_bytes(value)) for name, _, value in pairs)
    return "&".join(f"{_quoted(name)}={_quoted(value)}" for name, value in decoded).encode()


def _quoted(part: bytes) -> str:
    return quote_from_bytes(part, safe="")
