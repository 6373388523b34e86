"""Credentials that are given and that somebody else renews: a token, or an access key."""

from datetime import datetime

from exporter.auth.huawei.sections import TokenSection
from exporter.auth.huawei.signing import signature
from exporter.auth.keys import Keys
from exporter.auth.protocol import UnsignedRequest
from exporter.auth.static_credential import StaticCredential


class Token(StaticCredential):
    """`X-Auth-Token`."""

    def __init__(self, section: TokenSection) -> None:
        super().__init__("token", (section.token,), expires=section.expires)
        self._token = section.token

    def headers(self, request: UnsignedRequest, now: float) -> dict[str, str]:  # noqa: ARG002  # a token fits any request
        """The token, read anew."""
        return {"X-Auth-Token": self._token.reveal()}


class Aksk(StaticCredential):
    """A signature by access key and secret key."""

    def __init__(
        self, keys: Keys, *, iam_project_id: str | None = None, expires: datetime | None = None
    ) -> None:
        super().__init__("aksk", keys.parts, iam_project_id or "", expires=expires)
        self._keys = keys
        self._iam_project_id = iam_project_id

    def headers(self, request: UnsignedRequest, now: float) -> dict[str, str]:
        """The signature by the keys as they are now."""
        return signature(request, now, self._keys, self._iam_project_id)
