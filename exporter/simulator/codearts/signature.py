"""SDK-HMAC-SHA256 signature as the gateway computes it, from the bytes on the wire.

It deliberately shares no code with the exporter's signer, so that each reveals errors in the other. The vendor's
worked example and SDK test both.
"""

import hashlib
import hmac
from collections.abc import Mapping
from urllib.parse import quote, unquote_to_bytes

from exporter.simulator.http.gateway import authorization_parser

ALGORITHM = "SDK-HMAC-SHA256"

parse = authorization_parser(ALGORITHM, "Access")


def canonical_request(
    *,
    method: str,
    raw_path: bytes,
    raw_query: bytes,
    headers: Mapping[bytes, bytes],
    signed_headers: tuple[str, ...],
    body: bytes,
) -> bytes:
    """Return the canonical request, which client and gateway hash.

    `headers` has lower-case names; a signed header that is missing counts as empty.
    """
    names = [name.encode("latin-1") for name in signed_headers]
    lines = b"".join(name + b":" + headers.get(name, b"").strip() + b"\n" for name in names)
    payload = hashlib.sha256(body).hexdigest().encode()
    if body:
        # A client may declare the hash of the body, or that it did not hash the body.
        payload = headers.get(b"x-sdk-content-sha256", payload)
    path, query = _canonical_path(raw_path), _canonical_query(raw_query)
    return b"\n".join([method.encode(), path, query, lines, b";".join(names), payload])


def signature(secret_key: str, date: str, canonical: bytes) -> str:
    """Return the signature in lower-case hex; `date` is the text of X-Sdk-Date."""
    to_sign = f"{ALGORITHM}\n{date}\n{hashlib.sha256(canonical).hexdigest()}"
    return hmac.new(secret_key.encode(), to_sign.encode(), hashlib.sha256).hexdigest()


def _canonical_path(raw: bytes) -> bytes:
    """Decode the path, encode each segment again, and add a final slash if it is missing."""
    path = "/".join(quote(segment, safe="") for segment in unquote_to_bytes(raw).split(b"/"))
    return (path if path.endswith("/") else path + "/").encode()


def _canonical_query(raw: bytes) -> bytes:
    """Return the query sorted by decoded name, then value; a plus sign is not decoded to a space."""
    pairs = (part.partition(b"=") for part in raw.split(b"&") if part)
    decoded = sorted((unquote_to_bytes(name), unquote_to_bytes(value)) for name, _, value in pairs)
    return "&".join(f"{quote(name, safe='')}={quote(value, safe='')}" for name, value in decoded).encode()
