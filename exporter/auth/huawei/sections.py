"""Settings under `auth` of a CodeArts project, with their checks."""

from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from exporter.config.section import SecretText, Section
from exporter.config.types import Identifier, Moment, check_url


def _endpoint(value: str, example: str) -> str:
    check_url(value, example)
    if "?" in value or "#" in value:
        raise ValueError("must end with the host or a path (no ? or #)")
    return value.rstrip("/")


def _name(value: str) -> str:
    if not value.isprintable():
        raise ValueError("must be one line without control characters")
    return value


METADATA_ENDPOINT = "http://169.254.169.254"
"""Address of the metadata service on every server of the cloud."""

IamEndpoint = Annotated[str, AfterValidator(lambda value: _endpoint(value, "https://iam.example.com"))]
MetadataEndpoint = Annotated[str, AfterValidator(lambda value: _endpoint(value, METADATA_ENDPOINT))]
Name = Annotated[str, Field(min_length=1, max_length=256), AfterValidator(_name)]

# From the SDK (huaweicloudsdkcore auth/endpoint.py). Dublin is from the SDK's IAM package.
_IAM_REGIONS = (
    "cn-north-1", "cn-north-2", "cn-north-4", "cn-north-9", "cn-north-12", "cn-east-2", "cn-east-3", "cn-east-4",
    "cn-east-5", "cn-south-1", "cn-south-2", "cn-southwest-2", "ap-southeast-1", "ap-southeast-2", "ap-southeast-3",
    "ap-southeast-4", "af-south-1", "sa-brazil-1", "la-south-2", "la-north-2", "na-mexico-1", "eu-west-0",
    "my-kualalumpur-1", "ru-moscow-1", "me-east-1", "ae-ad-1", "tr-west-1",
)  # fmt: skip
_IAM = {region: f"https://iam.{region}.myhuaweicloud.com" for region in _IAM_REGIONS}
_IAM["eu-west-101"] = "https://iam.eu-west-101.myhuaweicloud.eu"
_IAM_GLOBAL = "https://iam.myhuaweicloud.com"


class TokenSection(Section):
    """`auth` with an IAM token that a person renews."""

    method: Literal["token"]
    """An IAM token that a person renews."""
    token: SecretText
    """The token."""
    expires: Moment | None = None
    """When the token expires. The exporter exposes it for alerts, since no response contains it."""


class HuaweiAkskSection(Section):
    """`auth` with an access key, permanent or (with `security_token`) temporary."""

    method: Literal["aksk"]
    """An access key."""
    access_key: SecretText
    """The access key id (AK)."""
    secret_key: SecretText
    """The secret access key (SK)."""
    security_token: SecretText | None = None
    """Token of temporary keys."""
    iam_project_id: Identifier | None = None
    """The IAM project of the region, for accounts with several. It is not the CodeArts project."""
    expires: Moment | None = None
    """When to replace the key. The exporter exposes it for alerts, since no response contains it."""


class PasswordSection(Section):
    """`auth` with the password of an IAM user. The exporter obtains tokens."""

    method: Literal["password"]
    """The password of an IAM user."""
    domain: Name
    """The account of the user."""
    username: Name
    """Name of the IAM user."""
    password: SecretText
    """Password of the user."""
    iam_project: Name | None = None
    """Name of the IAM project. The default is the name of the region."""
    iam_endpoint: IamEndpoint | None = None
    """Address of IAM. The default depends on the region."""

    def project_in(self, region: str | None) -> str:
        """Return the name of the IAM project to which tokens are scoped.

        Raises:
            ValueError: Neither `iam_project` nor a region is given. The message is for the user.

        """
        project = self.iam_project or region
        if project is None:
            raise ValueError(
                "iam_project is missing (give it, or the project's region, whose name is the default)"
            )
        return project

    def endpoint_in(self, region: str | None) -> str:
        """Return the URL of the IAM service that issues the tokens.

        Raises:
            ValueError: Neither `iam_endpoint` nor a region is given. The message is for the user.

        """
        if self.iam_endpoint is not None:
            return self.iam_endpoint
        if region is None:
            # Without a region, it is usually a private cloud. Never send its passwords to the public IAM.
            raise ValueError("iam_endpoint is missing (give it, or the project's region)")
        return _IAM.get(region, _IAM_GLOBAL)


class MetadataSection(Section):
    """`auth` with the temporary keys of the server (ECS) on which the exporter runs."""

    method: Literal["metadata"]
    """The temporary keys of the server."""
    metadata_endpoint: MetadataEndpoint = METADATA_ENDPOINT
    """Address of the metadata service."""


class HuaweiDefaultSection(Section):
    """`auth` with what the vendor's SDK would find: environment variables, files, or the platform's temporary keys."""

    method: Literal["default"]
    """What the vendor's SDK would find."""
    metadata_endpoint: MetadataEndpoint = METADATA_ENDPOINT
    """Address of the metadata service."""


AuthSection = TokenSection | HuaweiAkskSection | PasswordSection | MetadataSection | HuaweiDefaultSection
