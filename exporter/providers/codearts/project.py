"""Configuration of a CodeArts project, and the endpoint of each region."""

import difflib
import re
from collections.abc import Iterator
from typing import Annotated, ClassVar, Literal
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo

from pydantic import Field, PlainSerializer, PlainValidator, ValidationInfo, WithJsonSchema, field_validator

from exporter.auth.huawei import AuthSection, HuaweiAkskSection, PasswordSection
from exporter.config.project_section import ProjectSection, is_placeholder
from exporter.config.types import Endpoint, Identifier
from exporter.config.yaml_source import Path as KeyPath

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
_ID = re.compile(f"[0-9A-Za-z]{{{_ID_LENGTH}}}")
_CONSOLE_DOMAIN = ".huaweicloud.com"
_SUGGESTIONS = 3
"""Maximum number of regions that a message suggests."""


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
    """Huawei Cloud CodeArts Pipeline."""
    endpoint: Endpoint | None = None
    """Base URL of the API. Needed only where that of the region is wrong."""
    region: str | None = Field(default=None, validate_default=True)
    """Region of the project. Required unless `endpoint` is given."""
    project_id: Identifier
    """The CodeArts project, not the IAM one."""
    stage_time_zone: Annotated[
        ZoneInfo,
        PlainValidator(_zone),
        PlainSerializer(str, return_type=str),
        WithJsonSchema({"type": "string"}),
    ] = ZoneInfo("Asia/Shanghai")
    """Time zone of stage times, which CodeArts reports without one."""
    auth: Annotated[AuthSection, Field(discriminator="method")]
    """The credentials."""

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
            near = difflib.get_close_matches(region.lower(), ENDPOINTS, n=_SUGGESTIONS, cutoff=0.7)
            hint = (
                f"did you mean {', '.join(near[:-1])}{' or ' if near[1:] else ''}{near[-1]}? " if near else ""
            )
            known = ", ".join(sorted(ENDPOINTS))
            raise ValueError(
                f"{region!r} has no known endpoint ({hint}give endpoint as well, or one of: {known})"
            )
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

    def warnings(self) -> Iterator[tuple[KeyPath, str]]:
        """Yield warnings: ids that do not have the vendor's form, and addresses that do not belong to the region."""
        for path, identity in self._ids():
            if is_placeholder(identity):
                yield path, f"{identity} is a placeholder (give the real id)"
            elif not _ID.fullmatch(identity):
                yield path, f"{identity} is not {_ID_LENGTH} letters and digits, as the ids of CodeArts are"
        yield from self._auth_warnings()
        host = urlsplit(self.endpoint or "").hostname or ""
        if host.endswith(_CONSOLE_DOMAIN):
            yield ("endpoint",), f"{host} is an address of the console, not of the API (leave endpoint out)"
        other = next((region for region, url in ENDPOINTS.items() if url == self.endpoint), self.region)
        if self.region is not None and other != self.region:
            yield (
                ("endpoint",),
                f"is the endpoint of {other}, but region is {self.region} (leave endpoint out)",
            )
        if re.search("/v[0-9]+(/|$)", urlsplit(self.endpoint or "").path):
            yield (
                ("endpoint",),
                "ends with a path of the API, which the exporter appends (leave the path out)",
            )

    def _ids(self) -> Iterator[tuple[KeyPath, str]]:
        yield ("project_id",), self.project_id
        for position, entry in enumerate(self.pipelines):
            yield ("pipelines", position), entry.id

    def _auth_warnings(self) -> Iterator[tuple[KeyPath, str]]:
        auth = self.auth
        if isinstance(auth, HuaweiAkskSection) and auth.iam_project_id == self.project_id:
            yield (
                ("auth", "iam_project_id"),
                "is project_id as well (one is the IAM project of the region, the other the CodeArts project)",
            )
        if not isinstance(auth, PasswordSection) or self.region is None:
            return
        issuer = next((region for region in ENDPOINTS if region in (auth.iam_endpoint or "").split(".")), "")
        if issuer and issuer != self.region:
            yield (
                ("auth", "iam_endpoint"),
                f"is the IAM of {issuer}, but region is {self.region} (use those of one region)",
            )
        if auth.iam_project in ENDPOINTS and auth.iam_project != self.region:
            yield (
                ("auth", "iam_project"),
                f"is the project of {auth.iam_project}, but region is {self.region} (use those of one region)",
            )
