"""Credentials that are given and that somebody else renews: what they have in common, whatever they prove and to whom."""

from datetime import datetime

from exporter.auth.keys import secret_id
from exporter.auth.protocol import Renewal, digest
from exporter.config.secret import Secret, SecretError


class StaticCredential:
    """No way to get another, and a human to replace it."""

    expiry_renewal = "manual"

    def __init__(self, kind: str, parts: tuple[Secret, ...], *others: str, expires: datetime | None) -> None:
        """`others` are what tells this credential from one of the same parts."""
        self.credential_id = " ".join((kind, *map(secret_id, parts), *others))
        self._parts = parts
        self._expires = expires

    def fingerprint(self) -> str:
        """Of all parts together, as they are now."""
        try:
            return digest(*(part.reveal() for part in self._parts))
        except SecretError:
            return ""

    def expires(self) -> float | None:
        """As the configuration says."""
        return self._expires.timestamp() if self._expires else None

    def renewal(self, now: float, *, refused: bool = False) -> Renewal | None:  # noqa: ARG002  # whatever happened
        """None: a rotated file is read at the next use anyway."""
        return None
