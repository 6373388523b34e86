"""The gates of Flow: whose signature, and whose personal token, is good."""

import hmac
from collections.abc import Mapping
from datetime import UTC, datetime

from exporter.simulator.flow import errors, signature
from exporter.simulator.flow.credentials import FlowCredentials
from exporter.simulator.flow.errors import ApiErrorResponse

MOST_SKEW = 15 * 60
VERSION = "2021-06-25"

# The headers that every signed request has, and their names as parameters.
_MANDATORY = {
    "x-acs-action": "Action",
    "x-acs-version": "Version",
    "x-acs-date": "Timestamp",
    "x-acs-signature-nonce": "SignatureNonce",
    "x-acs-content-sha256": "ContentSha256",
}


class SignatureCheck:
    """Lets signed requests pass, each but once."""

    def __init__(self) -> None:
        self._nonces: dict[str, float] = {}

    def refusal(
        self,
        credentials: FlowCredentials,
        *,
        operation: str,
        method: str,
        raw_path: bytes,
        raw_query: bytes,
        headers: Mapping[bytes, bytes],
        body: bytes,
        now: float,
    ) -> ApiErrorResponse | None:
        """Say why the request may not pass, or None if it may.

        Path, query and body are the bytes on the wire, header names are lower-case, `now` is the gateway's clock in
        Unix seconds. What its headers say of the `operation` must fit its path.
        """
        told = {name.decode("latin-1"): value.decode("latin-1").strip() for name, value in headers.items()}
        if not told.get("authorization"):
            return errors.missing("AccessKeyId")
        for name, parameter in _MANDATORY.items():
            if not told.get(name):
                return errors.missing(parameter)
        given = signature.parse(told["authorization"])
        public = {name for name in told if name == "host" or name.startswith("x-acs-")}
        if given is None or not public <= set(given.signed_headers):
            return errors.INCOMPLETE
        if told["x-acs-version"] != VERSION:
            return errors.BAD_VERSION
        if told["x-acs-action"] != operation:
            return errors.NO_API
        sent = _moment(told["x-acs-date"])
        if sent is None:
            return errors.BAD_DATE
        if abs(now - sent) > MOST_SKEW:
            return errors.OLD_DATE
        if given.access_key != credentials.access_key:
            return errors.UNKNOWN_KEY
        canonical = signature.canonical_request(
            method=method,
            raw_path=raw_path,
            raw_query=raw_query,
            headers=headers,
            signed_headers=given.signed_headers,
            body=body,
        )
        if not _same(given.signature, signature.signature(credentials.secret_key, canonical)):
            return errors.mismatch(signature.string_to_sign(canonical), canonical)
        return _strange(told.get("x-acs-security-token"), credentials.security_token) or self._repeated(
            told["x-acs-signature-nonce"], now
        )

    def _repeated(self, nonce: str, now: float) -> ApiErrorResponse | None:
        """Remember a nonce for as long as its request could be sent again."""
        if nonce in self._nonces:
            return errors.NONCE_USED
        self._nonces[nonce] = now
        while (oldest := next(iter(self._nonces))) and self._nonces[oldest] < now - 2 * MOST_SKEW:
            del self._nonces[oldest]
        return None


def token_refusal(credentials: FlowCredentials, given: str | None) -> ApiErrorResponse | None:
    """Say why a personal token is not good, or None if it is."""
    if not given:
        return errors.NO_TOKEN
    return None if _same(given, credentials.personal_token) else errors.WRONG_TOKEN


def _strange(given: str | None, expected: str | None) -> ApiErrorResponse | None:
    if expected is None:
        return None if given is None else errors.WRONG_SECURITY_TOKEN
    if given is None:
        return errors.NO_SECURITY_TOKEN
    return None if _same(given, expected) else errors.WRONG_SECURITY_TOKEN


def _same(given: str, expected: str) -> bool:
    return hmac.compare_digest(given.encode(), expected.encode())


def _moment(date: str) -> float | None:
    try:
        return datetime.strptime(date, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC).timestamp()
    except ValueError:
        return None
