"""Credentials of Flow, and the checks of signatures and personal tokens."""

import hmac
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime

from exporter.simulator.flow import errors, signature
from exporter.simulator.flow.errors import ApiErrorResponse

MAX_SKEW = 15 * 60
VERSION = "2021-06-25"

# The headers that every signed request must have, and their names in error messages.
_MANDATORY = {
    "x-acs-action": "Action",
    "x-acs-version": "Version",
    "x-acs-date": "Timestamp",
    "x-acs-signature-nonce": "SignatureNonce",
    "x-acs-content-sha256": "ContentSha256",
}


@dataclass(frozen=True, slots=True)
class FlowCredentials:
    """The credentials that are valid: a key pair for signed requests, and a personal token.

    A temporary key pair also has a security token.
    """

    access_key: str = "LTAI5tSIMULATEDACCESSKEY"
    secret_key: str = field(default="simulated-secret-key-of-no-use-anywhere", repr=False)
    security_token: str | None = field(default=None, repr=False)
    personal_token: str = field(default="pt-simulated-token-of-no-use-anywhere", repr=False)


class SignatureCheck:
    """Check of signed requests, which accepts each nonce once."""

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
        """Return the error for a request, or None if its signature is valid.

        Path, query and body are the bytes on the wire, header names are lower-case, `now` is the gateway's clock in
        Unix seconds. The action in the headers must be `operation`, the operation of the path.
        """
        fields = {name.decode("latin-1"): value.decode("latin-1").strip() for name, value in headers.items()}
        if not fields.get("authorization"):
            return errors.missing("AccessKeyId")
        for name, parameter in _MANDATORY.items():
            if not fields.get(name):
                return errors.missing(parameter)
        given = signature.parse(fields["authorization"])
        must_be_signed = {name for name in fields if name == "host" or name.startswith("x-acs-")}
        if given is None or not must_be_signed <= set(given.signed_headers):
            return errors.INCOMPLETE
        if fields["x-acs-version"] != VERSION:
            return errors.BAD_VERSION
        if fields["x-acs-action"] != operation:
            return errors.NO_API
        sent_at = _parse_date(fields["x-acs-date"])
        if sent_at is None:
            return errors.BAD_DATE
        if abs(now - sent_at) > MAX_SKEW:
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
        if not _equal(given.signature, signature.signature(credentials.secret_key, canonical)):
            return errors.mismatch(signature.string_to_sign(canonical), canonical)
        return _check_security_token(
            fields.get("x-acs-security-token"), credentials.security_token
        ) or self._check_nonce(fields["x-acs-signature-nonce"], now)

    def _check_nonce(self, nonce: str, now: float) -> ApiErrorResponse | None:
        """Refuse a nonce that was used before; remember it until its date would be refused anyway."""
        if nonce in self._nonces:
            return errors.NONCE_USED
        self._nonces[nonce] = now
        while (oldest := next(iter(self._nonces))) and self._nonces[oldest] < now - 2 * MAX_SKEW:
            del self._nonces[oldest]
        return None


def token_refusal(credentials: FlowCredentials, given: str | None) -> ApiErrorResponse | None:
    """Return the error for a personal token, or None if it is valid."""
    if not given:
        return errors.NO_TOKEN
    return None if _equal(given, credentials.personal_token) else errors.WRONG_TOKEN


def _check_security_token(given: str | None, expected: str | None) -> ApiErrorResponse | None:
    if expected is None:
        return None if given is None else errors.WRONG_SECURITY_TOKEN
    if given is None:
        return errors.NO_SECURITY_TOKEN
    return None if _equal(given, expected) else errors.WRONG_SECURITY_TOKEN


def _equal(given: str, expected: str) -> bool:
    return hmac.compare_digest(given.encode(), expected.encode())


def _parse_date(date: str) -> float | None:
    try:
        return datetime.strptime(date, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC).timestamp()
    except ValueError:
        return None
