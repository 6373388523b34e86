"""Base of configured credentials, which the exporter cannot renew."""

from datetime import datetime

from exporter.auth.keys import secret_id
from exporter.auth.protocol import Renewal, digest
from exporter.config.secret import Secret, SecretError


class StaticCredential:
    """Base of credentials that a person renews in the configuration or in a secret file."""

    expiry_renewal = "manual"

    def __init__(self, kind: str, parts: tuple[Secret, ...], *others: str, expires: datetime | None) -> None:
        """Set the identity from `kind`, the ids of the secrets in `parts`, and `others` such as a scope."""
        self.credential_id = " ".join((kind, *map(secret_id, parts), *others))
        self._parts = parts
        self._expires = expires

    def fingerprint(self) -> str:
        """Return a digest of the current values of all parts. Empty if one cannot be read."""
        try:
            return digest(*(part.reveal() for part in self._parts))
        except SecretError:
            return ""

    def expires(self) -> float | None:
        """Return the configured expiry in Unix seconds. None if not configured."""
        return self._expires.timestamp() if self._expires else None

    def renewal(self, now: float, *, refused: bool = False) -> Renewal | None:  # noqa: ARG002  # never due
        """Return None: no renewal is needed, since a rotated file is read at the next use."""
        return None
