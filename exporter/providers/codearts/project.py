"""Configuration of a CodeArts project, and the endpoint of each region."""

from collections.abc import Iterator
from typing import Annotated, ClassVar, Literal
from zoneinfo import ZoneInfo

from pydantic import Field, PlainSerializer, PlainValidator, ValidationInfo, field_validator

from exporter.auth.huawei import AuthSection, PasswordSection
from exporter.config.project_section import ProjectSection
from exporter.config.types import Endpoint, Identifier

_HOSTS = {
    "cloudpipeline-ext.{}.myhuaweicloud.com": (
        "cn-north-1 cn-north-4 cn-northeast-1 cn-south-1 cn-south-2 cn-east-2 cn-east-3 cn-southwest-2 "
        "ap-southeast-3 sa-brazil-1 la-north-2"
    ),
    "pipeline-external.{}.myhuaweicloud.com": "tr-west-1 la-south-2",
    "pipeline-external.{}.myhuaweicloud.eu": "eu-west-101",
    "pipeline.{}.myhuaweicloud.com": "af-north-1 me-east-1 af-south-1",
}
ENDPOINTS = {
    region: f"https://{pattern.format(region)}"
    for pattern, regions in _HOSTS.items()
    for region in regions.split()
}
"""URL of the pipeline service by region."""

_ID_LENGTH = 32


def _zone(value: object) -> ZoneInfo:
    try:
        return ZoneInfo(str(value))
    except (KeyError, OSError, ValueError):
        raise ValueError(
            f"{value!r} is not a time zone (a name such as Asia/Shanghai or Europe/Dublin)"
        ) from None


class CodeArtsProject(ProjectSection):
    """Configuration of a CodeArts project."""

    scope_key: ClassVar[str] = "project_id"
    provider: Literal["codearts"]
    endpoint: Endpoint | None = None
    region: str | None = Field(default=None, validate_default=True)
    project_id: Identifier
    """The CodeArts project, not the IAM one."""
    stage_time_zone: Annotated[ZoneInfo, PlainValidator(_zone), PlainSerializer(str, return_type=str)] = (
        ZoneInfo("Asia/Shanghai")
    )
    auth: Annotated[AuthSection, Field(discriminator="method")]

    @field_validator("auth", mode="after")
    @classmethod
    def _issued(cls, auth: AuthSection, info: ValidationInfo) -> AuthSection:
        # An invalid region is absent from `info.data` and has an error of its own.
        if isinstance(auth, PasswordSection) and "region" in info.data:
            auth.project_in(info.data["region"])
            auth.endpoint_in(info.data["region"])
        return auth

    @field_validator("region", mode="after")
    @classmethod
    def _reachable(cls, region: str | None, info: ValidationInfo) -> str | None:
        # With an endpoint the region is not needed; an invalid endpoint has an error of its own.
        if info.data.get("endpoint", "wrong") is None and region not in ENDPOINTS:
            if region is None:
                raise ValueError("is missing (give region: cn-north-4, or endpoint: a URL)")
            known = ", ".join(sorted(ENDPOINTS))
            raise ValueError(f"{region!r} has no known endpoint (give endpoint as well, or one of: {known})")
        return region

    @property
    def scope(self) -> str:
        """Id of the project."""
        return self.project_id

    @property
    def base_url(self) -> str:
        """The configured endpoint, or that of the region."""
        return self.endpoint or ENDPOINTS[str(self.region)]

    @property
    def urls(self) -> tuple[str, ...]:
        """URLs that secrets are sent to: the endpoint, and IAM for a password."""
        if isinstance(self.auth, PasswordSection):
            return self.base_url, self.auth.endpoint_in(self.region)
        return (self.base_url,)

    def warnings(self) -> Iterator[str]:
        """Return warnings about ids of another form than the vendor's."""
        odd = next((entry.id for entry in self.pipelines if len(entry.id) != _ID_LENGTH), None)
        if odd is not None:
            yield f"{odd} is not {_ID_LENGTH} characters long, as pipeline ids are"
        if len(self.project_id) != _ID_LENGTH:
            yield f"project_id {self.project_id} is not {_ID_LENGTH} characters long, as project ids are"
