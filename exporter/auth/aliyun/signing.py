"""The signature ACS3-HMAC-SHA256 by an access key, with which the API of 2021-06-25 is asked.

Source: "V3 request structure and signature"
(https://www.alibabacloud.com/help/en/sdk/product-overview/v3-request-structure-and-signature). Its worked example and
what the vendor's SDK signs are the test vectors.
"""

import hashlib
from datetime import UTC, datetime
from secrets import token_hex
from urllib.parse import quote, unquote_to_bytes

from exporter.auth.canonical import canonical_hash, keyed_hash, signed_names
from exporter.auth.keys import Keys
from exporter.auth.protocol import UNRESERVED, UnsignedRequest

ALGORITHM = "ACS3-HMAC-SHA256"


def fresh_nonce() -> str:
    """What makes a signature unlike any other: 128 bits that nobody can guess, in hexadecimal.

    A nonce that comes twice is refused (`SignatureNonceUsed`), also in a repeated request and from another process.
    """
    return token_hex(16)


def signature(request: UnsignedRequest, now: float, keys: Keys, nonce: str) -> dict[str, str]:
    """The signature of a request sent at `now` (epoch seconds), and the headers that are signed with it.

    Every header of the request is signed as well. `x-acs-action` and `x-acs-version`, which the vendor demands, are
    among them: the operation's name and the API's version are known to whoever describes the request.

    Raises:
        SecretError: a key cannot be read.

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
    hashed = canonical_hash(request, _canonical(request.path), signed)
    proof = keyed_hash(keys.secret_key.reveal(), f"{ALGORITHM}\n{hashed}")
    access_key = keys.access_key.reveal()
    added["Authorization"] = (
        f"{ALGORITHM} Credential={access_key},SignedHeaders={signed_names(signed)},Signature={proof}"
    )
    return added


def _canonical(path: str) -> str:
    """A path with everything encoded that is to be, once and in one spelling; a slash in a segment stays encoded."""
    segments = (quote(unquote_to_bytes(segment), safe=UNRESERVED) for segment in path.split("/"))
    return "/".join(segments) or "/"
