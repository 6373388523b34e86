"""The gateway in front of the cloud: who may pass, and in which words the others are turned away.

Its texts are those seen in the field, because people search for them and an exporter has to make sense of
them.
"""

import hmac
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime

from exporter.simulator import signature

MOST_SKEW = 15 * 60
MOST_BODY = 12 * 2**20

_BAD = "Incorrect IAM authentication information: "


@dataclass(frozen=True, slots=True)
class Credentials:
    """What a client must know: a key pair or a token, and with a temporary key pair its security token."""

    access_key: str = "SIMULATED0ACCESS0KEY"
    secret_key: str = field(default="simulated-secret-key-of-no-use-anywhere", repr=False)
    token: str = field(default="simulated-token-of-no-use-anywhere", repr=False)
    security_token: str | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class Refusal:
    """The gateway's no: HTTP status, the vendor's code, a text."""

    status: int
    code: str
    message: str

    def body(self, request_id: str) -> dict[str, str]:
        """Return the JSON object that the gateway answers with."""
        return {"error_msg": self.message, "error_code": self.code, "request_id": request_id}


NOT_PUBLISHED = Refusal(
    404, "APIGW.0101", "The API does not exist or has not been published in the environment"
)
TOO_LARGE = Refusal(413, "APIGW.0201", "Request entity too large")
DENIED = Refusal(403, "APIGW.0302", "The IAM user is not authorized to access the API")
THROTTLED = Refusal(
    429,
    "APIGW.0308",
    "The throttling threshold has been reached: policy user over ratelimit,limit:200,time:5 minute",
)
INTERNAL = Refusal(500, "APIGW.0601", "Internal server error")


def refusal(
    credentials: Credentials,
    *,
    method: str,
    raw_path: bytes,
    raw_query: bytes,
    headers: Mapping[bytes, bytes],
    body: bytes,
    now: float,
) -> Refusal | None:
    """Say why the request may not pass, or None if it may.

    Path, query and body are the bytes on the wire, header names are lower-case, `now` is the gateway's clock
    in Unix seconds.
    """
    token = headers.get(b"x-auth-token")
    if token is not None:
        return None if _same(token, credentials.token) else _unauthorized("decrypt token fail")
    header = headers.get(b"authorization", b"").decode("latin-1")
    if not header.startswith(signature.ALGORITHM):
        return _unauthorized("x-auth-token not found")
    given = signature.parse(header)
    date = headers.get(b"x-sdk-date", b"").decode("latin-1")
    sent = _moment(date)
    if given is None or sent is None or "x-sdk-date" not in given.signed_headers:
        return _unauthorized("verify aksk signature fail")
    if given.access_key != credentials.access_key:
        return _unauthorized(f"ak {given.access_key} not exist")
    if abs(now - sent) > MOST_SKEW:
        return _unauthorized("calc ak sk signature fail:signature expired")
    canonical = signature.canonical_request(
        method=method,
        raw_path=raw_path,
        raw_query=raw_query,
        headers=headers,
        signed_headers=given.signed_headers,
        body=body,
    )
    if not _same(given.signature.encode(), signature.signature(credentials.secret_key, date, canonical)):
        echo = canonical.decode("utf-8", "replace").replace("\n", "|")
        return _unauthorized(f"verify aksk signature fail,canonicalRequest:{echo}")
    expected = credentials.security_token
    if expected is not None and not _same(headers.get(b"x-security-token", b""), expected):
        return _unauthorized("verify security token fail")
    return None


def _unauthorized(reason: str) -> Refusal:
    return Refusal(401, "APIGW.0301", _BAD + reason)


def _same(given: bytes, expected: str) -> bool:
    return hmac.compare_digest(given, expected.encode())


def _moment(date: str) -> float | None:
    try:
        return datetime.strptime(date, "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC).timestamp()
    except ValueError:
        return None
