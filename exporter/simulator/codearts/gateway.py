"""The gateway of CodeArts: authentication, lockouts, and their errors.

The error texts are those seen in the field, because users search for them and an exporter must interpret them.
"""

import hmac
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime

from exporter.simulator.codearts import signature
from exporter.simulator.codearts.switches import CodeArtsSwitches

MAX_SKEW = 15 * 60

_BAD = "Incorrect IAM authentication information: "


@dataclass(frozen=True, slots=True)
class Credentials:
    """The credentials that are valid, for each method of authentication.

    A key pair, with a security token if it is temporary; a token; domain, user name and password, for which IAM
    issues a token; and the token of a pod, for which the cluster issues a key pair.
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
class GatewayRefusal:
    """Error response of the gateway; `wrong_secret` marks an attempt that counts towards a lockout."""

    status: int
    code: str
    message: str
    wrong_secret: bool = False

    def body(self, request_id: str) -> dict[str, str]:
        """Return the JSON object of the error."""
        return {"error_msg": self.message, "error_code": self.code, "request_id": request_id}


NOT_PUBLISHED = GatewayRefusal(
    404, "APIGW.0101", "The API does not exist or has not been published in the environment"
)
TOO_LARGE = GatewayRefusal(413, "APIGW.0201", "Request entity too large")
DENIED = GatewayRefusal(403, "APIGW.0302", "The IAM user is not authorized to access the API")
THROTTLED = GatewayRefusal(
    429,
    "APIGW.0308",
    "The throttling threshold has been reached: policy user over ratelimit,limit:200,time:5 minute",
)
REVOKED = GatewayRefusal(401, "APIGW.0307", "The token must be updated")
INTERNAL = GatewayRefusal(500, "APIGW.0601", "Internal server error")


def throttled(limit: int, seconds: float) -> GatewayRefusal:
    """Return the error for more than `limit` requests in a window of `seconds`, with the vendor's text."""
    minutes, rest = divmod(seconds, 60)
    window = f"{minutes:g} minute" if minutes and not rest else f"{seconds:g} second"
    text = (
        f"The throttling threshold has been reached: policy user over ratelimit,limit:{limit},time:{window}"
    )
    return GatewayRefusal(429, "APIGW.0308", text)


def unauthorized(reason: str, *, wrong_secret: bool = False) -> GatewayRefusal:
    """Return the error for invalid credentials, with the reason."""
    return GatewayRefusal(401, "APIGW.0301", _BAD + reason, wrong_secret)


def unknown_key(access_key: str) -> GatewayRefusal:
    """Return the error for an access key that does not exist, or that was deleted or disabled."""
    return unauthorized(f"ak {access_key} not exist", wrong_secret=True)


def claimed_key(headers: Mapping[bytes, bytes]) -> str | None:
    """Return the access key in the `Authorization` header of a request, before any check; None without one."""
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
) -> GatewayRefusal | None:
    """Return the error for a request, or None if its credentials are valid.

    Path, query and body are the bytes on the wire, header names are lower-case, `now` is the gateway's clock in Unix
    seconds.
    """
    token = headers.get(b"x-auth-token")
    if token is not None:
        return (
            None
            if _equal(token, credentials.token)
            else unauthorized("decrypt token fail", wrong_secret=True)
        )
    header = headers.get(b"authorization", b"").decode("latin-1")
    if not header.startswith(signature.ALGORITHM):
        return unauthorized("x-auth-token not found")
    given = signature.parse(header)
    date = headers.get(b"x-sdk-date", b"").decode("latin-1")
    sent = _parse_date(date)
    if given is None or sent is None or "x-sdk-date" not in given.signed_headers:
        return unauthorized("verify aksk signature fail")
    if given.access_key != credentials.access_key:
        return unknown_key(given.access_key)
    if abs(now - sent) > MAX_SKEW:
        return unauthorized("calc ak sk signature fail:signature expired")
    canonical = signature.canonical_request(
        method=method,
        raw_path=raw_path,
        raw_query=raw_query,
        headers=headers,
        signed_headers=given.signed_headers,
        body=body,
    )
    if not _equal(given.signature.encode(), signature.signature(credentials.secret_key, date, canonical)):
        echo = canonical.decode("utf-8", "replace").replace("\n", "|")
        return unauthorized(f"verify aksk signature fail,canonicalRequest:{echo}", wrong_secret=True)
    expected = credentials.security_token
    if expected is not None and not _equal(headers.get(b"x-security-token", b""), expected):
        return unauthorized("verify security token fail", wrong_secret=True)
    return None


class GatewayLockouts:
    """Lockout of clients after too many wrong secrets in a row, as `lock_after` and `lock_seconds` of the switches say.

    Callers pass the time, so that tests can control it.
    """

    def __init__(self, switches: CodeArtsSwitches) -> None:
        self._switches = switches
        self._failures: dict[str, int] = {}
        self._until: dict[str, float] = {}

    def locked(self, client: str, now: float) -> bool:
        """Return whether `client` is refused at `now`, even with valid credentials."""
        return self._switches.lock_after is not None and now < self._until.get(client, now)

    def record(self, client: str, *, wrong: bool, now: float) -> None:
        """Count a wrong secret of `client`; a right one resets the count."""
        limit = self._switches.lock_after
        failures = self._failures.get(client, 0) + 1 if wrong and limit is not None else 0
        if limit is not None and failures >= limit:
            self._until[client] = now + self._switches.lock_seconds
            failures = 0
        self._failures[client] = failures


def _equal(given: bytes, expected: str) -> bool:
    return hmac.compare_digest(given, expected.encode())


def _parse_date(date: str) -> float | None:
    try:
        return datetime.strptime(date, "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC).timestamp()
    except ValueError:
        return None
