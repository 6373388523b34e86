"""Credentials of Alibaba Cloud Yunxiao: settings and authentication.

Flow has two APIs with different addresses, paths and authentication. `/oapi/v1` takes a personal access token
(`yunxiao_token`). The API of 2021-06-25 takes a signature by an access key (`aksk`, `default`). So `auth.method` decides
which API a project uses.
"""

from collections.abc import Callable, Mapping
from types import MappingProxyType

from exporter.auth.aliyun.default_chain import AliyunDefaultChain
from exporter.auth.aliyun.sections import (
    AliyunAkskSection,
    AliyunDefaultSection,
    AuthSection,
    YunxiaoTokenSection,
)
from exporter.auth.aliyun.signing import random_nonce, signature
from exporter.auth.aliyun.static_credentials import AliyunAccessKey, YunxiaoToken
from exporter.auth.keys import Keys
from exporter.auth.protocol import Auth

__all__ = [
    "AliyunAccessKey",
    "AliyunAkskSection",
    "AliyunDefaultChain",
    "AliyunDefaultSection",
    "AuthSection",
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
    nonce: Callable[[], str] = random_nonce,
) -> Auth:
    """Return the credential that an `auth` section describes.

    The method `default` searches `environment`. `nonce` returns a unique text for each signature.
    """
    match section:
        case YunxiaoTokenSection():
            return YunxiaoToken(section)
        case AliyunAkskSection():
            keys = Keys(section.access_key, section.secret_key, section.security_token)
            return AliyunAccessKey(keys, nonce, expires=section.expires)
        case AliyunDefaultSection():
            return AliyunDefaultChain(environment, nonce)
