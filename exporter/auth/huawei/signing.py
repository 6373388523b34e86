"""The AK/SK signature SDK-HMAC-SHA256, with permanent keys and with temporary ones.

Sources: the API Request Signing Guide (https://support.huaweicloud.com/intl/en-us/devg-apisign/api-sign-algorithm.html)
and the vendor's SDK, whose behaviour the test vectors record where the guide is silent.
"""

from datetime import UTC, datetime
from urllib.parse import quote, unquote

from exporter.auth.canonical import canonical_hash, keyed_hash, signed_names
from exporter.auth.keys import Keys
from exporter.auth.protocol import UNRESERVED, UnsignedRequest

ALGORITHM = "SDK-HMAC-SHA256"


def signature(request: UnsignedRequest, now: float, keys: Keys, iam_project_id: str | None) -> dict[str, str]:
    """The signature of a request sent at `now` (epoch seconds), and the headers that are signed with it.

    Raises:
        SecretError: a key cannot be read.

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
    """The `Authorization` header of a request.

    `headers` are those to sign; `Host` is added, `X-Sdk-Date` must be among them. Names with an underscore are left
    out, as gateways drop them.
    """
    signed = {"host": request.host}
    signed |= {name.lower(): value.strip() for name, value in headers.items() if "_" not in name}
    # The slash at the end is part of the canonical form only; the request goes out without it.
    path = "/".join(quote(segment, safe=UNRESERVED) for segment in unquote(request.path).split("/"))
    hashed = canonical_hash(request, path if path.endswith("/") else f"{path}/", signed)
    proof = keyed_hash(secret_key, f"{ALGORITHM}\n{signed['x-sdk-date']}\n{hashed}")
    return f"{ALGORITHM} Access={access_key}, SignedHeaders={signed_names(signed)}, Signature={proof}"
