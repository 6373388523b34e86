"""Temporary keys, as issued by the metadata service of a machine and the pod identity of a cluster.

All requests between two rotations get the same key, as seems true of real ones. A new key appears ten minutes before
the old one expires.
"""

import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from hmac import compare_digest

from exporter.simulator.codearts import gateway
from exporter.simulator.codearts.gateway import Credentials
from exporter.simulator.codearts.iam import format_time
from exporter.simulator.codearts.records import derive_id
from exporter.simulator.codearts.switches import CodeArtsSwitches
from exporter.simulator.http.answers import Answer, DeclinedError

OVERLAP = 600.0
_PREFIX = "SIMULATED0TEMPORARY0"
_LONGEST_TTL = 21_600


@dataclass(frozen=True, slots=True)
class TemporaryKey:
    """A temporary key pair with its security token; `expires` is in Unix seconds."""

    access_key: str
    secret_key: str = field(repr=False)
    security_token: str = field(repr=False)
    expires: float

    def credentials(self) -> Credentials:
        """Return the credentials of a client with this key."""
        return Credentials(
            access_key=self.access_key, secret_key=self.secret_key, security_token=self.security_token
        )


class MetadataService:
    """The metadata service at a machine's link-local address; rotations are counted from `start`, in Unix seconds."""

    def __init__(self, switches: CodeArtsSwitches, start: float) -> None:
        self._switches = switches
        self._start = start
        self._salt = secrets.token_hex(16)
        self._tokens: dict[str, float] = {}

    def token(self, headers: Mapping[str, str], now: float) -> Answer:
        """Handle a PUT for a metadata token; raise `DeclinedError` with 400, or with the status in `imds_off`."""
        if self._switches.imds_off is not None:
            raise DeclinedError(self._switches.imds_off, "Metadata tokens are not available")
        ttl = headers.get("x-metadata-token-ttl-seconds", "")
        if not ttl.isdecimal() or not 1 <= int(ttl) <= _LONGEST_TTL:
            raise DeclinedError(400, "Bad Request")
        self._tokens = {token: until for token, until in self._tokens.items() if now < until}
        token = secrets.token_urlsafe(32)
        self._tokens[token] = now + int(ttl)
        return Answer(token, headers={"X-Metadata-Token-Ttl-Seconds": ttl}, plain=True)

    def security_key(self, headers: Mapping[str, str], now: float) -> Answer:
        """Handle a GET for the machine's temporary key; raise `DeclinedError` with 401."""
        if self._switches.imds_off is None:
            token = headers.get("x-metadata-token")
            missing = self._switches.imds_enforced if token is None else now >= self._tokens.get(token, now)
            if missing:
                raise DeclinedError(401, "Unauthorized")
        return self._key_answer(now)

    def pod_identity(self, headers: Mapping[str, str], credentials: Credentials, now: float) -> Answer:
        """Handle a pod's POST for a temporary key; raise `DeclinedError` with 401."""
        if not compare_digest(headers.get("authorization", "").encode(), credentials.pod_token.encode()):
            raise DeclinedError(401, {"error_code": "401", "error_msg": "Unauthorized"})
        return self._key_answer(now)

    def key(self, now: float) -> TemporaryKey:
        """Return the key that is issued at `now`."""
        return self._key(int((now - self._start) // self._rotation_seconds()))

    def find(self, access_key: str) -> TemporaryKey | None:
        """Return the key of any rotation that has this access key id, or None."""
        name, _, rotation = access_key.removeprefix(_PREFIX).partition("X")
        if not name or not rotation.isdecimal() or len(rotation) > 9:
            return None
        key = self._key(int(rotation))
        return key if key.access_key == access_key else None

    def _key(self, rotation: int) -> TemporaryKey:
        lifetime = self._switches.key_lifetime
        digest = derive_id(self._salt, lifetime, rotation)
        return TemporaryKey(
            access_key=f"{_PREFIX}{digest[:8].upper()}X{rotation}",
            secret_key=f"simulated-{digest[8:]}",
            security_token=f"simulated-security-token-{derive_id(digest, 'token')}",
            expires=self._start + rotation * self._rotation_seconds() + lifetime,
        )

    def _rotation_seconds(self) -> float:
        """Return the seconds between two rotations; keys overlap by `OVERLAP`, but at most by half of their lifetime."""
        lifetime = self._switches.key_lifetime
        return lifetime - min(OVERLAP, lifetime / 2)

    def _key_answer(self, now: float) -> Answer:
        if not self._switches.agency:
            raise DeclinedError(401, "Please configure Cloud Service Agency first")
        key = self.key(now)
        return Answer(
            {
                "credential": {
                    "access": key.access_key,
                    "secret": key.secret_key,
                    "securitytoken": key.security_token,
                    "expires_at": format_time(key.expires),
                }
            }
        )


def expired(key: TemporaryKey) -> gateway.GatewayRefusal:
    """Return the error for an expired temporary key; the vendor's text is unknown."""
    return gateway.unauthorized(f"security token expires, expires_at: {format_time(key.expires)}")
