"""Signature ACS3-HMAC-SHA256 by an access key, for the API of 2021-06-25.

Source: "V3 request structure and signature"
(https://www.alibabacloud.com/help/en/sdk/product-overview/v3-request-structure-and-signature). The page's example and
signatures of the vendor's SDK are the test vectors.
"""

import hashlib
from datetime import UTC, datetime
from secrets import token_hex
from urllib.parse import quote, unquote_to_bytes

from exporter.auth.canonical import canonical_hash, keyed_hash, signed_names
from exporter.auth.keys import Keys
from exporter.auth.protocol import UNRESERVED, UnsignedRequest

ALGORITHM = "ACS3-HMAC-SHA256"


def random_nonce() -> str:
    """Return 128 random bits in hexadecimal.

    The vendor refuses a nonce that was used before (`SignatureNonceUsed`), also in a retry or from another process.
    """
    return token_hex(16)


def signature(request: UnsignedRequest, now: float, keys: Keys, nonce: str) -> dict[str, str]:
    """Return the headers to add to a request to sign it. It is sent at `now` (Unix seconds).

    The signature covers all headers of the request, which must include `x-acs-action` and `x-acs-version`.

    Raises:
        SecretError: A key cannot be read.

    """
    added = {
        "x-acs-content-sha256": hashlib.sha256(request.body).hexdigest(),
        "x-acs-date": datetime.fromtimestamp(now, UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "x-acs-signature-nonce": nonce,
    }
    if keys.security_token is not None:
        added["x-acs-security-token"] = keys.security_token.reveal()
    signed = {name.lower(): value.strip() for name, value in request.headers}
    signed |= {**added, "host": request.host}
    hashed = canonical_hash(request, _canonical_path(request.path), signed)
    signature_hash = keyed_hash(keys.secret_key.reveal(), f"{ALGORITHM}\n{hashed}")
    access_key = keys.access_key.reveal()
    added["Authorization"] = (
        f"{ALGORITHM} Credential={access_key},SignedHeaders={signed_names(signed)},Signature={signature_hash}"
    )
    return added


def _canonical_path(path: str) -> str:
    """Return a path percent-encoded once, in a unique spelling. An encoded slash in a segment stays encoded."""
    segments = (quote(unquote_to_bytes(segment), safe=UNRESERVED) for segment in path.split("/"))
    return "/".join(segments) or "/"
