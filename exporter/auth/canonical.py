"""What the vendors' signatures have in common: a request in one canonical form, hashed, and a text hashed with a key.

Which headers are signed, how a path is written and what exactly is hashed with the key is each vendor's own.
"""

import hashlib
import hmac
from collections.abc import Mapping

from exporter.auth.protocol import UnsignedRequest, query_string


def signed_names(headers: Mapping[str, str]) -> str:
    """The names of the signed headers as a signature lists them."""
    return ";".join(sorted(headers))


def canonical_hash(request: UnsignedRequest, path: str, headers: Mapping[str, str]) -> str:
    """SHA-256 of a request's canonical form, in hexadecimal.

    `path` is as the vendor signs it; `headers` are those that are signed, keyed in lower case, `host` among them.
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
    # An environment variable may hold bytes that are no text.
    return hashlib.sha256(canonical.encode(errors="surrogateescape")).hexdigest()


def keyed_hash(secret_key: str, text: str) -> str:
    """HMAC-SHA256 of a text, in hexadecimal."""
    key = secret_key.encode(errors="surrogateescape")  # as above
    return hmac.new(key, text.encode(), hashlib.sha256).hexdigest()
