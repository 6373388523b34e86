"""Configured credentials, which a person renews: a personal access token, or an access key."""

from collections.abc import Callable
from datetime import datetime

from exporter.auth.aliyun.sections import YunxiaoTokenSection
from exporter.auth.aliyun.signing import signature
from exporter.auth.keys import Keys
from exporter.auth.protocol import UnsignedRequest
from exporter.auth.static_credential import StaticCredential


class YunxiaoToken(StaticCredential):
    """Personal access token in the header `x-yunxiao-token`, for the API `/oapi/v1`.

    Source: https://help.aliyun.com/zh/yunxiao/developer-reference/getpipelinerun.
    """

    def __init__(self, section: YunxiaoTokenSection) -> None:
        super().__init__("yunxiao_token", (section.token,), expires=section.expires)
        self._token = section.token

    def headers(self, request: UnsignedRequest, now: float) -> dict[str, str]:  # noqa: ARG002  # the same for any request
        """Return the token header. A token file is read at each call."""
        return {"x-yunxiao-token": self._token.reveal()}


class AliyunAccessKey(StaticCredential):
    """Access key that a person renews. It signs requests."""

    def __init__(self, keys: Keys, nonce: Callable[[], str], *, expires: datetime | None = None) -> None:
        """`nonce` returns a unique text for each signature."""
        super().__init__("acs3", keys.parts, expires=expires)
        self._keys = keys
        self._nonce = nonce

    def headers(self, request: UnsignedRequest, now: float) -> dict[str, str]:
        """Return the headers that sign the request. Key files are read at each call."""
        return signature(request, now, self._keys, self._nonce())
