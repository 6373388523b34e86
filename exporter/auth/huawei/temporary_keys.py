"""Temporary keys that the platform issues to a server (ECS) or to a pod of a cluster (CCE).

Source: the vendor's SDK (huaweicloudsdkcore auth/internal.py), including all spellings of the response fields.
"""

import zlib
from collections.abc import Generator
from typing import Any, Protocol

from exporter.auth.huawei.issuer_reply import (
    Validity,
    fits_header,
    no_reply_error,
    parse_object,
    parse_time,
    refusal_error,
    unreadable_error,
    validity,
)
from exporter.auth.huawei.signing import signature
from exporter.auth.keys import Keys, readable
from exporter.auth.protocol import IssuerReply, IssuerRequest, NoReplyError, Renewal, UnsignedRequest, digest
from exporter.config.secret import SecretError

_MARGIN = 600
"""Seconds before expiry at which keys are renewed. By then the metadata service has the next keys, and both are valid."""
_SPREAD = 60
"""Maximum delay of a renewal in seconds. It differs by key, so that a fleet does not renew at the same moment."""
_DEFAULT_LIFE = 600.0
"""Seconds to use keys without an expiry. The metadata service replaces keys with less time left."""


class KeyIssuer(Protocol):
    """Service that issues temporary keys."""

    credential_id: str
    source: str
    """Name of the issuer for messages."""
    remedy: str
    """What to check if the issuer does not reply. It is appended to the network's error message."""

    def request_keys(self) -> Generator[IssuerRequest, IssuerReply, IssuerReply]:
        """Yield the requests for keys, and return the response that should contain them.

        Raises:
            RenewalError: The keys could not be requested.
            NoReplyError: The issuer did not reply.

        """

    def secrets(self) -> tuple[str, ...]:
        """Return the secrets that authenticate this exporter to the issuer."""


class TemporaryKeys:
    """Temporary keys that sign requests. They are renewed about ten minutes before they expire."""

    expiry_renewal = "auto"

    def __init__(self, issuer: KeyIssuer) -> None:
        self._issuer = issuer
        self.credential_id = issuer.credential_id
        self.source = issuer.source
        self._keys: Keys | None = None
        self._validity: Validity | None = None

    def headers(self, request: UnsignedRequest, now: float) -> dict[str, str]:
        """Return the headers that sign the request. Raise SecretError without valid keys."""
        if self._keys is None or self._validity is None:
            raise SecretError(f"no keys have been obtained from {self.source} yet")
        if now >= self._validity.end:
            raise SecretError(f"the keys from {self.source} have ended, and their renewal failed")
        return signature(request, now, self._keys, None)

    def fingerprint(self) -> str:
        """Return a digest of the keys, and of the secrets that the issuer requires. Empty without any."""
        values = (*self._issuer.secrets(), *(readable(*self._keys.parts) if self._keys else ()))
        return digest(*values) if values else ""

    def expires(self) -> float | None:
        """Return when the keys expire, in Unix seconds. None if unknown."""
        return self._validity.reported_end if self._validity else None

    def renewal(self, now: float, *, refused: bool = False) -> Renewal | None:
        """Return a renewal before the first use, after a refusal, and shortly before the keys expire; otherwise None."""
        due = refused or self._validity is None or now > self._validity.renew_at
        return self._renew(now) if due else None

    def _renew(self, now: float) -> Renewal:
        try:
            reply = yield from self._issuer.request_keys()
        except NoReplyError as error:
            raise no_reply_error(error, self._issuer.remedy) from None
        if not 200 <= reply.status < 300:
            raise refusal_error(reply, self.source)
        keys, end = _read_keys(reply, self.source)
        # Renewals are only delayed, never earlier than the margin: the next keys must exist.
        margin = _MARGIN - zlib.crc32(keys.access_key.reveal().encode()) % _SPREAD
        if self._keys is None or readable(*keys.parts) != readable(*self._keys.parts):
            self._keys = keys
        self._validity = validity(end, now, default_life=_DEFAULT_LIFE, margin=margin)


def _read_keys(reply: IssuerReply, source: str) -> tuple[Keys, float | None]:
    """Return the keys in a response and their expiry in Unix seconds, in any spelling that the vendor's SDK accepts."""
    fields = parse_object(reply.body)
    for wrapper in ("credential", "credentials"):
        if isinstance(fields.get(wrapper), dict):
            fields = fields[wrapper]
            break
    access = _first(fields, "access", "accessKeyId", "access_key_id")
    secret = _first(fields, "secret", "secretAccessKey", "secret_access_key")
    token = _first(fields, "securitytoken", "securityToken", "security_token")
    if not (fits_header(access) and fits_header(secret) and fits_header(token)):
        raise unreadable_error(f"{source} sent no usable access key, secret key and security token")
    end = parse_time(_first(fields, "expires_at", "expiration", "expiresAt"))
    return Keys.of(access, secret, token), end


def _first(fields: dict[str, Any], *names: str) -> Any:
    return next((fields[name] for name in names if fields.get(name)), "")
