"""Temporary keys, as the metadata service of a machine and the pod identity of a cluster hand them out.

Keys are a pure function of the time since the cloud began, as real ones seem to be: whoever asks between two
rotations gets the same, and a new one appears ten minutes before the old one ends.
"""

import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from hmac import compare_digest

from exporter.simulator.codearts import gateway
from exporter.simulator.codearts.gateway import Credentials
from exporter.simulator.codearts.iam import moment_text
from exporter.simulator.codearts.records import identity
from exporter.simulator.codearts.switches import CodeArtsSwitches
from exporter.simulator.http.answers import DeclinedError, Good

OVERLAP = 600.0
_PREFIX = "SIMULATED0TEMPORARY0"
_LONGEST_TTL = 21_600


@dataclass(frozen=True, slots=True)
class Key:
    """A temporary key pair with its security token; `expires` is in Unix seconds."""

    access_key: str
    secret_key: str = field(repr=False)
    security_token: str = field(repr=False)
    expires: float

    def credentials(self) -> Credentials:
        """Return what a client with this key must prove."""
        return Credentials(
            access_key=self.access_key, secret_key=self.secret_key, security_token=self.security_token
        )


class Metadata:
    """What answers at a machine's link-local address; keys are counted from `begun`, in Unix seconds."""

    def __init__(self, switches: CodeArtsSwitches, begun: float) -> None:
        self._switches = switches
        self._begun = begun
        self._salt = secrets.token_hex(16)
        self._tokens: dict[str, float] = {}

    def token(self, headers: Mapping[str, str], now: float) -> Good:
        """Answer a PUT for a metadata token; raises `DeclinedError` with 400, or as `imds_off` says."""
        if self._switches.imds_off is not None:
            raise DeclinedError(self._switches.imds_off, "Metadata tokens are not available")
        wanted = headers.get("x-metadata-token-ttl-seconds", "")
        if not wanted.isdecimal() or not 1 <= int(wanted) <= _LONGEST_TTL:
            raise DeclinedError(400, "Bad Request")
        self._tokens = {token: until for token, until in self._tokens.items() if now < until}
        token = secrets.token_urlsafe(32)
        self._tokens[token] = now + int(wanted)
        return Good(token, headers={"X-Metadata-Token-Ttl-Seconds": wanted}, plain=True)

    def security_key(self, headers: Mapping[str, str], now: float) -> Good:
        """Answer a GET for the machine's temporary key; raises `DeclinedError` with 401."""
        if self._switches.imds_off is None:
            token = headers.get("x-metadata-token")
            missing = self._switches.imds_enforced if token is None else now >= self._tokens.get(token, now)
            if missing:
                raise DeclinedError(401, "Unauthorized")
        return self._told(now)

    def pod_identity(self, headers: Mapping[str, str], credentials: Credentials, now: float) -> Good:
        """Answer a pod's POST for a temporary key; raises `DeclinedError` with 401."""
        if not compare_digest(headers.get("authorization", "").encode(), credentials.pod_token.encode()):
            raise DeclinedError(401, {"error_code": "401", "error_msg": "Unauthorized"})
        return self._told(now)

    def key(self, now: float) -> Key:
        """Return the key that is handed out at `now`."""
        return self._key(int((now - self._begun) // self._between()))

    def find(self, access_key: str) -> Key | None:
        """Find the key that was ever, or will be, handed out under that name; None if there is none."""
        name, _, turn = access_key.removeprefix(_PREFIX).partition("X")
        if not name or not turn.isdecimal() or len(turn) > 9:
            return None
        key = self._key(int(turn))
        return key if key.access_key == access_key else None

    def _key(self, turn: int) -> Key:
        lifetime = self._switches.key_lifetime
        lot = identity(self._salt, lifetime, turn)
        return Key(
            access_key=f"{_PREFIX}{lot[:8].upper()}X{turn}",
            secret_key=f"simulated-{lot[8:]}",
            security_token=f"simulated-security-token-{identity(lot, 'token')}",
            expires=self._begun + turn * self._between() + lifetime,
        )

    def _between(self) -> float:
        """Return the seconds from one rotation to the next; very short lives overlap by half."""
        lifetime = self._switches.key_lifetime
        return lifetime - min(OVERLAP, lifetime / 2)

    def _told(self, now: float) -> Good:
        if not self._switches.agency:
            raise DeclinedError(401, "Please configure Cloud Service Agency first")
        key = self.key(now)
        return Good(
            {
                "credential": {
                    "access": key.access_key,
                    "secret": key.secret_key,
                    "securitytoken": key.security_token,
                    "expires_at": moment_text(key.expires),
                }
            }
        )


def expired(key: Key) -> gateway.Refusal:
    """Say that a temporary key is too old; the vendor's own words are unknown."""
    return gateway.unauthorized(f"security token expires, expires_at: {moment_text(key.expires)}")
