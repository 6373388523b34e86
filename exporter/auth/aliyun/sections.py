"""Settings under `auth` of a Flow project."""

from typing import Literal

from exporter.config.section import SecretText, Section
from exporter.config.types import Moment


class YunxiaoTokenSection(Section):
    """`auth` with a personal access token of Yunxiao, for the API `/oapi/v1`."""

    method: Literal["yunxiao_token"]
    """A personal access token."""
    token: SecretText
    """The token."""
    expires: Moment | None = None
    """When the token expires. The exporter exposes it for alerts, since no response contains it."""


class AliyunAkskSection(Section):
    """`auth` with an access key, permanent or (with `security_token`) temporary, for the API of 2021-06-25."""

    method: Literal["aksk"]
    """An access key."""
    access_key: SecretText
    """The AccessKey ID."""
    secret_key: SecretText
    """The AccessKey secret."""
    security_token: SecretText | None = None
    """Token of temporary keys."""
    expires: Moment | None = None
    """When to replace the key. The exporter exposes it for alerts, since no response contains it."""


class AliyunDefaultSection(Section):
    """`auth` with the access key that the vendor's SDK would find in environment variables and files."""

    method: Literal["default"]
    """What the vendor's SDK would find."""


AuthSection = YunxiaoTokenSection | AliyunAkskSection | AliyunDefaultSection
