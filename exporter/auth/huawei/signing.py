"""The AK/SK signature SDK-HMAC-SHA256, with permanent keys and with temporary ones.

Sources: the API Request Signing Guide (https://support.huaweicloud.com/intl/en-us/devg-apisign/api-sign-algorithm.html)
and the vendor's SDK, whose behaviour the test vectors record where the guide is silent.
"""

import hashlib
import hmac
from datetime import UTC, datetime
from urllib.parse import quote, unquote

import msgspec

from exporter.auth import UNRESERVED, Outgoing, digest, query_string
from exporter.config.secret import FileSecret, Secret, SecretError

ALGORITHM = "SDK-HMAC-SHA256"


class Keys(msgspec.Struct, frozen=True):
    """What signs."""

    access_key: Secret
    """No secret by itself, but it names whose secret the other is."""
    secret_key: Secret
    security_token: Secret | None = None
    """Belongs to temporary keys, which are nothing without it."""

    @property
    def parts(self) -> tuple[Secret, ...]:
        """The keys that there are."""
        return tuple(key for key in (self.access_key, self.secret_key, self.security_token) if key)


def signature(request: Outgoing, now: float, keys: Keys, iam_project_id: str | None) -> dict[str, str]:
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


def sign(request: Outgoing, headers: dict[str, str], *, access_key: str, secret_key: str) -> str:
    """The `Authorization` header of a request.

    `headers` are those to sign; `Host` is added, `X-Sdk-Date` must be among them. Names with an underscore are left
    out, as gateways drop them.
    """
    signed = {"host": request.host}
    signed |= {name.lower(): value.strip() for name, value in headers.items() if "_" not in name}
    names = ";".join(sorted(signed))
    # The slash at the end is part of the canonical form only; the request goes out without it.
    path = "/".join(quote(segment, safe=UNRESERVED) for segment in unquote(request.path).split("/"))
    canonical = "\n".join(
        (
            request.method,
            path if path.endswith("/") else f"{path}/",
            query_string(request.query),
            "".join(f"{name}:{signed[name]}\n" for name in sorted(signed)),
            names,
            hashlib.sha256(request.body).hexdigest(),
        )
    )
    # An environment variable may hold bytes that are no text.
    hashed = hashlib.sha256(canonical.encode(errors="surrogateescape")).hexdigest()
    to_sign = f"{ALGORITHM}\n{signed['x-sdk-date']}\n{hashed}"
    signed_digest = hmac.new(
        secret_key.encode(errors="surrogateescape"), to_sign.encode(), hashlib.sha256
    ).hexdigest()
    return f"{ALGORITHM} Access={access_key}, SignedHeaders={names}, Signature={signed_digest}"


def known_as(secret: Secret) -> str:
    """What tells a secret from others: its file, whatever that holds, or a digest of its value."""
    return str(secret.path) if isinstance(secret, FileSecret) else digest(secret.reveal())


def readable(*secrets: Secret | None) -> tuple[str, ...]:
    """The values of those secrets that are there and can be read."""
    values = []
    for secret in secrets:
        try:
            values.append(secret.reveal() if secret else "")
        except SecretError:
            continue
    return tuple(value for value in values if value)
