"""Credentials that are given and that somebody else renews: a token, or an access key."""

from datetime import datetime
from pathlib import Path

from exporter.auth import Outgoing, Renewal, digest
from exporter.auth.huawei.sections import TokenSection
from exporter.auth.huawei.signing import Keys, known_as, readable, signature
from exporter.config.secret import Secret, SecretError


class _Given:
    """What given credentials have in common: no way to get another, and a human to replace them."""

    expiry_renewal = "manual"

    def __init__(self, kind: str, parts: tuple[Secret, ...], *others: str, expires: datetime | None) -> None:
        """`others` are what tells this credential from one of the same parts."""
        self.identity = " ".join((kind, *map(known_as, parts), *others))
        self._parts = parts
        self._expires = expires

    def secrets(self) -> tuple[str, ...]:
        """Each part."""
        return readable(*self._parts)

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


class Token(_Given):
    """`X-Auth-Token`."""

    def __init__(self, section: TokenSection) -> None:
        super().__init__("token", (section.token,), expires=section.expires)
        self._token = section.token

    def headers(self, request: Outgoing, now: float) -> dict[str, str]:  # noqa: ARG002  # a token fits any request
        """The token, read anew."""
        return {"X-Auth-Token": self._token.reveal()}


class Aksk(_Given):
    """A signature by access key and secret key."""

    def __init__(
        self,
        keys: Keys,
        *,
        iam_project_id: str | None = None,
        expires: datetime | None = None,
        path: Path | None = None,
    ) -> None:
        """`path` is the file that holds keys and project, if one does."""
        super().__init__("aksk", keys.parts, iam_project_id or "", expires=expires)
        if path is not None:
            self.identity = f"aksk {path}"
        self._keys = keys
        self._iam_project_id = iam_project_id

    def headers(self, request: Outgoing, now: float) -> dict[str, str]:
        """The signature by the keys as they are now."""
        return signature(request, now, self._keys, self._iam_project_id)
