"""ACS3-HMAC-SHA256 as the gateway computes it, from the bytes that came over the wire.

Written apart from any signer on purpose: two readings of the same rules that agree are evidence, one reading that
agrees with itself is not. The published worked example and the vendor's SDK are the judges of both.
"""

import hashlib
import hmac
from collections.abc import Mapping, Sequence
from urllib.parse import quote_from_bytes, unquote_to_bytes

from exporter.simulator.http.authorization import reader

ALGORITHM = "ACS3-HMAC-SHA256"

parse = reader(ALGORITHM, "Credential")


def canonical_request(
    *,
    method: str,
    raw_path: bytes,
    raw_query: bytes,
    headers: Mapping[bytes, bytes],
    signed_headers: Sequence[str],
    body: bytes,
) -> bytes:
    """Write the text that both sides hash.

    `headers` has lower-case names; a signed header that did not come counts as empty. The hash is that of the body that
    came, whatever a header says of it.
    """
    names = [name.encode("latin-1") for name in signed_headers]
    lines = b"".join(name + b":" + headers.get(name, b"").strip() + b"\n" for name in names)
    payload = hashlib.sha256(body).hexdigest().encode()
    return b"\n".join(
        [method.encode(), raw_path or b"/", _canonical_query(raw_query), lines, b";".join(names), payload]
    )


def string_to_sign(canonical: bytes) -> str:
    """Return what is signed of a canonical request."""
    return f"{ALGORITHM}\n{hashlib.sha256(canonical).hexdigest()}"


def signature(secret_key: str, canonical: bytes) -> str:
    """Return the signature of a canonical request, in lower-case hex."""
    return hmac.new(secret_key.encode(), string_to_sign(canonical).encode(), hashlib.sha256).hexdigest()


def _canonical_query(raw: bytes) -> bytes:
    """Sorted by name; decoded and encoded anew, because clients may send a space as a plus."""
    pairs = (part.replace(b"+", b" ").partition(b"=") for part in raw.split(b"&") if part)
    decoded = sorted((unquote_to_bytes(name), unquote_to_bytes(value)) for name, _, value in pairs)
    return "&".join(f"{_quoted(name)}={_quoted(value)}" for name, value in decoded).encode()


def _quoted(part: bytes) -> str:
    return quote_from_bytes(part, safe="")
