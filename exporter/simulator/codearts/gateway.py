"""The gateway in front of the cloud: who may pass, and in which words the others are turned away.

Its texts are those seen in the field, because people search for them and an exporter has to make sense of
them.
"""

import hmac
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime

from exporter.simulator.codearts import signature

MOST_SKEW = 15 * 60

_BAD = "Incorrect IAM authentication information: "


@dataclass(frozen=True, slots=True)
class Credentials:
    """What a client must know to be let in, by one of several ways.

    A key pair, with its security token if it is a temporary one; or a token; or domain, user name and password, for
    which IAM gives a token; or the token of a pod, for which the cluster gives a key pair.
    """

    access_key: str = "SIMULATED0ACCESS0KEY"
    secret_key: str = field(default="simulated-secret-key-of-no-use-anywhere", repr=False)
    token: str = field(default="simulated-token-of-no-use-anywhere", repr=False)
    security_token: str | None = field(default=None, repr=False)
    domain: str = "simulated-domain"
    username: str = "simulated-user"
    password: str = field(default="simulated-password-of-no-use-anywhere", repr=False)
    pod_token: str = field(default="simulated-pod-token-of-no-use-anywhere", repr=False)


@dataclass(frozen=True, slots=True)
class Refusal:
    """The gateway's no: HTTP status, the vendor's code, a text, and whether somebody tried a wrong secret."""

    status: int
    code: str
    message: str
    forged: bool = False

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
REVOKED = Refusal(401, "APIGW.0307", "The token must be updated")
INTERNAL = Refusal(500, "APIGW.0601", "Internal server error")


def throttled(limit: int, seconds: float) -> Refusal:
    """Say that no more than `limit` requests may come in a window of so many seconds, in the vendor's words."""
    minutes, rest = divmod(seconds, 60)
    window = f"{minutes:g} minute" if minutes and not rest else f"{seconds:g} second"
    text = (
        f"The throttling threshold has been reached: policy user over ratelimit,limit:{limit},time:{window}"
    )
    return Refusal(429, "APIGW.0308", text)


def unauthorized(reason: str, *, forged: bool = False) -> Refusal:
    """Say that the proof of identity is none, and why."""
    return Refusal(401, "APIGW.0301", _BAD + reason, forged)


def claimed_key(headers: Mapping[bytes, bytes]) -> str | None:
    """Read which access key a request says it is signed with; None if it does not say."""
    given = signature.parse(headers.get(b"authorization", b"").decode("latin-1"))
    return None if given is None else given.access_key


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
        return None if _same(token, credentials.token) else unauthorized("decrypt token fail", forged=True)
    header = headers.get(b"authorization", b"").decode("latin-1")
    if not header.startswith(signature.ALGORITHM):
        return unauthorized("x-auth-token not found")
    given = signature.parse(header)
    date = headers.get(b"x-sdk-date", b"").decode("latin-1")
    sent = _moment(date)
    if given is None or sent is None or "x-sdk-date" not in given.signed_headers:
        return unauthorized("verify aksk signature fail")
    if given.access_key != credentials.access_key:
        return unauthorized(f"ak {given.access_key} not exist", forged=True)
    if abs(now - sent) > MOST_SKEW:
        return unauthorized("calc ak sk signature fail:signature expired")
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
        return unauthorized(f"verify aksk signature fail,canonicalRequest:{echo}", forged=True)
    expected = credentials.security_token
    if expected is not None and not _same(headers.get(b"x-security-token", b""), expected):
        return unauthorized("verify security token fail", forged=True)
    return None


def _same(given: bytes, expected: str) -> bool:
    return hmac.compare_digest(given, expected.encode())


def _moment(date: str) -> float | None:
    try:
        return datetime.strptime(date, "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC).timestamp()
    except ValueError:
        return None
