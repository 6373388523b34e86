"""Credentials that are given and that somebody else renews: a personal token, or an access key."""

from collections.abc import Callable
from datetime import datetime

from exporter.auth.aliyun.sections import YunxiaoTokenSection
from exporter.auth.aliyun.signing import signature
from exporter.auth.keys import Keys
from exporter.auth.protocol import UnsignedRequest
from exporter.auth.static_credential import StaticCredential


class YunxiaoToken(StaticCredential):
    """`x-yunxiao-token`, all that the API of `/oapi/v1` wants.

    Source: https://help.aliyun.com/zh/yunxiao/developer-reference/getpipelinerun.
    """

    def __init__(self, section: YunxiaoTokenSection) -> None:
        super().__init__("yunxiao_token", (section.token,), expires=section.expires)
        self._token = section.token

    def headers(self, request: UnsignedRequest, now: float) -> dict[str, str]:  # noqa: ARG002  # a token fits any request
        """The token, read anew."""
        return {"x-yunxiao-token": self._token.reveal()}


class Aksk(StaticCredential):
    """A signature by access key and secret key."""

    def __init__(self, keys: Keys, nonce: Callable[[], str], *, expires: datetime | None = None) -> None:
        """`nonce` is called for each signature."""
        super().__init__("acs3", keys.parts, expires=expires)
        self._keys = keys
        self._nonce = nonce

    def headers(self, request: UnsignedRequest, now: float) -> dict[str, str]:
        """The signature by the keys as they are now, unlike any other of the same request."""
        return signature(request, now, self._keys, self._nonce())
