"""Building blocks that the signatures of both vendors share: the canonical form of a request, and HMAC.

The vendors differ in the signed headers, the encoding of the path and the text that is signed.
"""

import hashlib
import hmac
from collections.abc import Mapping

from exporter.auth.protocol import UnsignedRequest, query_string


def signed_names(headers: Mapping[str, str]) -> str:
    """Return the names of the signed headers as a signature lists them."""
    return ";".join(sorted(headers))


def canonical_hash(request: UnsignedRequest, path: str, headers: Mapping[str, str]) -> str:
    """Return the SHA-256 of the canonical form of a request, in hexadecimal.

    `path` is encoded as the vendor signs it. `headers` are the signed headers, keyed in lower case, including `host`.
    """
    canonical = "\n".join(
        (
            request.method,
            path,
            query_string(request.query),
            "".join(f"{name}:{headers[name]}\n" for name in sorted(headers)),
            signed_names(headers),
            hashlib.sha256(request.body).hexdigest(),
        )
    )
    # An environment variable can contain bytes that are not UTF-8.
    return hashlib.sha256(canonical.encode(errors="surrogateescape")).hexdigest()


def keyed_hash(secret_key: str, text: str) -> str:
    """Return the HMAC-SHA256 of a text in hexadecimal."""
    key = secret_key.encode(errors="surrogateescape")  # as above
    return hmac.new(key, text.encode(), hashlib.sha256).hexdigest()
