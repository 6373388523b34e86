"""Huawei Cloud: which settings there are for its credentials, and what proves the identity that they describe."""

from collections.abc import Mapping
from types import MappingProxyType

from exporter.auth.huawei.default import Default
from exporter.auth.huawei.password import Password
from exporter.auth.huawei.sections import (
    AkskSection,
    AuthSection,
    DefaultSection,
    MetadataSection,
    PasswordSection,
    TokenSection,
)
from exporter.auth.huawei.signing import sign
from exporter.auth.huawei.static import Aksk, Token
from exporter.auth.huawei.temporary import Metadata, Temporary
from exporter.auth.keys import Keys
from exporter.auth.protocol import Auth

__all__ = [
    "Aksk",
    "AkskSection",
    "AuthSection",
    "Default",
    "DefaultSection",
    "MetadataSection",
    "Password",
    "PasswordSection",
    "Temporary",
    "Token",
    "TokenSection",
    "authentication",
    "sign",
]

_EMPTY: Mapping[str, str] = MappingProxyType({})


def authentication(
    section: AuthSection, *, region: str | None = None, environment: Mapping[str, str] = _EMPTY
) -> Auth:
    """What proves the identity that a configuration describes.

    `region` is the project's, `environment` what `default` looks into.

    Raises:
        ValueError: a setting is missing that the region does not tell; in a fault's words.

    """
    match section:
        case TokenSection():
            return Token(section)
        case AkskSection():
            keys = Keys(section.access_key, section.secret_key, section.security_token)
            return Aksk(keys, iam_project_id=section.iam_project_id, expires=section.expires)
        case PasswordSection():
            return Password(section, region)
        case MetadataSection():
            return Temporary(Metadata(section.metadata_endpoint))
        case DefaultSection():
            return Default(section, environment)
