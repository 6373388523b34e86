"""Credentials of Huawei Cloud: settings and authentication."""

from collections.abc import Mapping
from types import MappingProxyType

from exporter.auth.huawei.default_chain import HuaweiDefaultChain
from exporter.auth.huawei.metadata_service import MetadataIssuer
from exporter.auth.huawei.password import PasswordToken
from exporter.auth.huawei.sections import (
    AuthSection,
    HuaweiAkskSection,
    HuaweiDefaultSection,
    MetadataSection,
    PasswordSection,
    TokenSection,
)
from exporter.auth.huawei.signing import sign
from exporter.auth.huawei.static_credentials import HuaweiAccessKey, IamToken
from exporter.auth.huawei.temporary_keys import TemporaryKeys
from exporter.auth.keys import Keys
from exporter.auth.protocol import Auth

__all__ = [
    "AuthSection",
    "HuaweiAccessKey",
    "HuaweiAkskSection",
    "HuaweiDefaultChain",
    "HuaweiDefaultSection",
    "IamToken",
    "MetadataSection",
    "PasswordSection",
    "PasswordToken",
    "TemporaryKeys",
    "TokenSection",
    "authentication",
    "sign",
]

_EMPTY: Mapping[str, str] = MappingProxyType({})


def authentication(
    section: AuthSection, *, region: str | None = None, environment: Mapping[str, str] = _EMPTY
) -> Auth:
    """Return the credential that an `auth` section describes.

    `region` is the project's. The method `default` searches `environment`.

    Raises:
        ValueError: A setting is missing and cannot be derived from the region. The message is for the user.

    """
    match section:
        case TokenSection():
            return IamToken(section)
        case HuaweiAkskSection():
            keys = Keys(section.access_key, section.secret_key, section.security_token)
            return HuaweiAccessKey(keys, iam_project_id=section.iam_project_id, expires=section.expires)
        case PasswordSection():
            return PasswordToken(section, region)
        case MetadataSection():
            return TemporaryKeys(MetadataIssuer(section.metadata_endpoint))
        case HuaweiDefaultSection():
            return HuaweiDefaultChain(section, environment)
