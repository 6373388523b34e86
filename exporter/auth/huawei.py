"""Huawei Cloud: IAM tokens, and the AK/SK signature SDK-HMAC-SHA256.

Sources: the API Request Signing Guide (https://support.huaweicloud.com/intl/en-us/devg-apisign/api-sign-algorithm.html)
and the vendor's SDK, whose behaviour the test vectors record where the guide is silent.
"""

import hashlib
import hmac
from datetime import UTC, datetime
from typing import Literal
from urllib.parse import quote, unquote

from exporter.auth import UNRESERVED, Auth, Outgoing, query_string
from exporter.config.fields import Identifier, SecretText, Section
from exporter.config.secret import Secret, SecretError

ALGORITHM = "SDK-HMAC-SHA256"


class TokenSection(Section):
    """`auth` with an IAM token that somebody else renews."""

    method: Literal["token"]
    token: SecretText


class AkskSection(Section):
    """`auth` with an access key, permanent or (with `security_token`) temporary."""

    method: Literal["aksk"]
    access_key: SecretText
    secret_key: SecretText
    security_token: SecretText | None = None
    iam_project_id: Identifier | None = None
    """The region's IAM project, which is not the CodeArts project; for accounts with several."""


AuthSection = TokenSection | AkskSection


def authentication(section: AuthSection) -> Auth:
    """What proves the identity that a configuration describes."""
    return Token(section) if isinstance(section, TokenSection) else Aksk(section)


class Token:
    """`X-Auth-Token`."""

    def __init__(self, section: TokenSection) -> None:
        self._section = section

    def headers(self, request: Outgoing, now: float) -> dict[str, str]:  # noqa: ARG002  # a token fits any request
        """The token, read anew."""
        return {"X-Auth-Token": self._section.token.reveal()}

    def secrets(self) -> tuple[str, ...]:
        """The token."""
        return _readable(self._section.token)


class Aksk:
    """A signature by access key and secret key."""

    def __init__(self, section: AkskSection) -> None:
        self._section = section

    def headers(self, request: Outgoing, now: float) -> dict[str, str]:
        """The signature, and the headers that are signed with it."""
        section = self._section
        added = {"X-Sdk-Date": datetime.fromtimestamp(now, UTC).strftime("%Y%m%dT%H%M%SZ")}
        if section.iam_project_id is not None:
            added["X-Project-Id"] = section.iam_project_id
        if section.security_token is not None:
            added["X-Security-Token"] = section.security_token.reveal()
        signed = {**dict(request.headers), **added}
        added["Authorization"] = sign(
            request, signed, access_key=section.access_key.reveal(), secret_key=section.secret_key.reveal()
        )
        return added

    def secrets(self) -> tuple[str, ...]:
        """The keys. The access key is no secret by itself, but names whose secret it is."""
        section = self._section
        return _readable(section.access_key, section.secret_key, section.security_token)


def _readable(*secrets: Secret | None) -> tuple[str, ...]:
    values = []
    for secret in secrets:
        try:
            values.append(secret.reveal() if secret else "")
        except SecretError:
            continue
    return tuple(value for value in values if value)


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
    digest = hashlib.sha256(canonical.encode()).hexdigest()
    to_sign = f"{ALGORITHM}\n{signed['x-sdk-date']}\n{digest}"
    signature = hmac.new(secret_key.encode(), to_sign.encode(), hashlib.sha256).hexdigest()
    return f"{ALGORITHM} Access={access_key}, SignedHeaders={names}, Signature={signature}"
