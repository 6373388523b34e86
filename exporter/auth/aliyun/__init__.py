"""Alibaba Cloud Yunxiao: which settings there are for its credentials, and what proves the identity that they describe.

Two generations of its API are proved to in two ways. That of `/oapi/v1` takes a personal token (`yunxiao_token`), that
of 2021-06-25 a signature by access keys (`aksk`, `default`). They have neither address nor paths in common, so the
method decides which of them a project speaks.
"""

from collections.abc import Callable, Mapping
from types import MappingProxyType

from exporter.auth.aliyun.default import Default
from exporter.auth.aliyun.sections import AkskSection, AuthSection, DefaultSection, YunxiaoTokenSection
from exporter.auth.aliyun.signing import fresh_nonce, signature
from exporter.auth.aliyun.static import Aksk, YunxiaoToken
from exporter.auth.keys import Keys
from exporter.auth.protocol import Auth

__all__ = [
    "Aksk",
    "AkskSection",
    "AuthSection",
    "Default",
    "DefaultSection",
    "YunxiaoToken",
    "YunxiaoTokenSection",
    "authentication",
    "signature",
]

_EMPTY: Mapping[str, str] = MappingProxyType({})


def authentication(
    section: AuthSection,
    *,
    environment: Mapping[str, str] = _EMPTY,
    nonce: Callable[[], str] = fresh_nonce,
) -> Auth:
    """What proves the identity that a configuration describes.

    `environment` is what `default` looks into, `nonce` what makes each signature another.
    """
    match section:
        case YunxiaoTokenSection():
            return YunxiaoToken(section)
        case AkskSection():
            keys = Keys(section.access_key, section.secret_key, section.security_token)
            return Aksk(keys, nonce, expires=section.expires)
        case DefaultSection():
            return Default(environment, nonce)
