"""Configured credentials, which a person renews: an IAM token, or an access key."""

from datetime import datetime

from exporter.auth.huawei.sections import TokenSection
from exporter.auth.huawei.signing import signature
from exporter.auth.keys import Keys
from exporter.auth.protocol import UnsignedRequest
from exporter.auth.static_credential import StaticCredential


class IamToken(StaticCredential):
    """Configured IAM token, sent in the header `X-Auth-Token`."""

    def __init__(self, section: TokenSection) -> None:
        super().__init__("token", (section.token,), expires=section.expires)
        self._token = section.token

    def headers(self, request: UnsignedRequest, now: float) -> dict[str, str]:  # noqa: ARG002  # the same for any request
        """Return the token header. A token file is read at each call."""
        return {"X-Auth-Token": self._token.reveal()}


class HuaweiAccessKey(StaticCredential):
    """Access key that a person renews. It signs requests."""

    def __init__(
        self, keys: Keys, *, iam_project_id: str | None = None, expires: datetime | None = None
    ) -> None:
        super().__init__("aksk", keys.parts, iam_project_id or "", expires=expires)
        self._keys = keys
        self._iam_project_id = iam_project_id

    def headers(self, request: UnsignedRequest, now: float) -> dict[str, str]:
        """Return the headers that sign the request. Key files are read at each call."""
        return signature(request, now, self._keys, self._iam_project_id)
