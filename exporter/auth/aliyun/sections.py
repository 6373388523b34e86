"""What can stand under `auth` of a Flow project."""

from typing import Literal

from exporter.config.section import SecretText, Section
from exporter.config.types import Moment


class YunxiaoTokenSection(Section):
    """`auth` with a personal access token of Yunxiao, for the API of `/oapi/v1`."""

    method: Literal["yunxiao_token"]
    token: SecretText
    expires: Moment | None = None
    """When the token ends, for a reminder: every token has an end, and no answer tells it."""


class AkskSection(Section):
    """`auth` with an access key of the cloud, permanent or (with `security_token`) temporary, for the API of 2021-06-25."""

    method: Literal["aksk"]
    access_key: SecretText
    """The AccessKey ID."""
    secret_key: SecretText
    """The AccessKey secret."""
    security_token: SecretText | None = None
    expires: Moment | None = None
    """When the key is to be replaced, for a reminder: nothing else tells."""


class DefaultSection(Section):
    """`auth` by the access key that the vendor's SDK would find: environment variables and files."""

    method: Literal["default"]


AuthSection = YunxiaoTokenSection | AkskSection | DefaultSection
