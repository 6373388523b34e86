"""AK/SK signature SDK-HMAC-SHA256, by permanent or temporary keys.

Sources: the API Request Signing Guide (https://support.huaweicloud.com/intl/en-us/devg-apisign/api-sign-algorithm.html)
and the vendor's SDK. The test vectors record what the SDK does where the guide is incomplete.
"""

from datetime import UTC, datetime
from urllib.parse import quote, unquote

from exporter.auth.canonical import canonical_hash, keyed_hash, signed_names
from exporter.auth.keys import Keys
from exporter.auth.protocol import UNRESERVED, UnsignedRequest

ALGORITHM = "SDK-HMAC-SHA256"


def signature(request: UnsignedRequest, now: float, keys: Keys, iam_project_id: str | None) -> dict[str, str]:
    """Return the headers to add to a request to sign it. It is sent at `now` (Unix seconds).

    Raises:
        SecretError: A key cannot be read.

    """
    added = {"X-Sdk-Date": datetime.fromtimestamp(now, UTC).strftime("%Y%m%dT%H%M%SZ")}
    if iam_project_id is not None:
        added["X-Project-Id"] = iam_project_id
    if keys.security_token is not None:
        added["X-Security-Token"] = keys.security_token.reveal()
    signed = {**dict(request.headers), **added}
    added["Authorization"] = sign(
        request, signed, access_key=keys.access_key.reveal(), secret_key=keys.secret_key.reveal()
    )
    return added


def sign(request: UnsignedRequest, headers: dict[str, str], *, access_key: str, secret_key: str) -> str:
    """Return the `Authorization` header of a request.

    `headers` are the headers to sign. They must include `X-Sdk-Date`. `Host` is added. Names with an underscore are not
    signed, since gateways drop them.
    """
    signed = {"host": request.host}
    signed |= {name.lower(): value.strip() for name, value in headers.items() if "_" not in name}
    # The canonical form ends with a slash. The request itself is sent without it.
    path = "/".join(quote(segment, safe=UNRESERVED) for segment in unquote(request.path).split("/"))
    hashed = canonical_hash(request, path if path.endswith("/") else f"{path}/", signed)
    signature_hash = keyed_hash(secret_key, f"{ALGORITHM}\n{signed['x-sdk-date']}\n{hashed}")
    return (
        f"{ALGORITHM} Access={access_key}, SignedHeaders={signed_names(signed)}, Signature={signature_hash}"
    )
