"""Configuration of a CodeArts project, and the endpoint of each region."""

import difflib
import re
from collections.abc import Iterator
from typing import Annotated, ClassVar, Literal, Self
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo

from pydantic import Field, PlainSerializer, PlainValidator, ValidationInfo, WithJsonSchema, field_validator

from exporter.auth.huawei import AuthSection, HuaweiAkskSection, PasswordSection
from exporter.config.project_section import NameFilter, ProjectSearch, ProjectSection, is_placeholder
from exporter.config.types import Duration, Endpoint, Identifier
from exporter.config.yaml_source import Path as KeyPath
from exporter.providers.codearts.directory import directory_endpoint

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


class DiscoverProjects(NameFilter):
    """Which CodeArts projects to watch, of those that the user is a member of."""

    interval: Duration = 600.0
    """How often the list of projects is read."""
    endpoint: Endpoint | None = None
    """Base URL of CodeArts Req, which has the list. Needed only where that of the region is wrong or unknown."""


class CodeArtsProject(ProjectSection):
    """Configuration of a CodeArts project."""

    scope_key: ClassVar[str] = "project_id"
    provider: Literal["codearts"]
    """Huawei Cloud CodeArts Pipeline."""
    endpoint: Endpoint | None = None
    """Base URL of the API. Needed only where that of the region is wrong."""
    region: str | None = Field(default=None, validate_default=True)
    """Region of the project. Required unless `endpoint` is given."""
    discover_projects: DiscoverProjects | None = None
    """Projects to find by name, instead of `project_id`. Each becomes a project named `NAME/PROJECT NAME`."""
    project_id: Identifier | None = Field(default=None, validate_default=True)
    """The CodeArts project, not the IAM one. Required unless `discover_projects` is given."""
    stage_time_zone: Annotated[
        ZoneInfo,
        PlainValidator(_zone),
        PlainSerializer(str, return_type=str),
        WithJsonSchema({"type": "string"}),
    ] = ZoneInfo("Asia/Shanghai")
    """Time zone of stage times, which CodeArts reports without one."""
    auth: Annotated[AuthSection, Field(discriminator="method")]
    """The credentials."""

    @field_validator("discover_projects", mode="after")
    @classmethod
    def _findable(cls, discover: DiscoverProjects | None, info: ValidationInfo) -> DiscoverProjects | None:
        if discover is None:
            return None
        if info.data.get("pipelines"):
            raise ValueError("must not be given with pipelines (an id belongs to one project: use discover)")
        # An invalid region is absent from `info.data` and has an error of its own.
        if discover.endpoint is None and "region" in info.data:
            region = info.data["region"]
            if region is None or directory_endpoint(region) is None:
                raise ValueError(
                    f"no address of CodeArts Req is known for region {region or '(none)'} "
                    "(give discover_projects.endpoint as well)"
                )
        return discover

    @field_validator("project_id", mode="after")
    @classmethod
    def _one_or_many(cls, project_id: str | None, info: ValidationInfo) -> str | None:
        # An invalid value is absent from `info.data` and has an error of its own.
        many = info.data.get("discover_projects", True)
        if project_id is None and not many:
            raise ValueError("is missing (give project_id, or discover_projects to find projects by name)")
        if project_id is not None and isinstance(many, DiscoverProjects):
            raise ValueError("must not be given with discover_projects (keep one of them)")
        return project_id

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
        """Id of the project; empty if the entry finds projects."""
        return self.project_id or ""

    @property
    def project_search(self) -> ProjectSearch | None:
        """Which projects to find; None for one project."""
        discover = self.discover_projects
        if discover is None:
            return None
        url = discover.endpoint or directory_endpoint(str(self.region))
        return ProjectSearch(discover, discover.interval, str(url))

    def found_project(self, name: str, scope: str) -> Self:
        """Return the settings of a project that the entry has found."""
        return self.model_copy(update={"name": name, "project_id": scope, "discover_projects": None})

    @property
    def base_url(self) -> str:
        """The configured endpoint, or that of the region."""
        return self.endpoint or ENDPOINTS[str(self.region)]

    @property
    def urls(self) -> tuple[str, ...]:
        """URLs that secrets are sent to: the endpoint, that of the list of projects, and IAM for a password."""
        search = self.project_search
        directory = (search.base_url,) if search else ()
        if isinstance(self.auth, PasswordSection):
            return self.base_url, *directory, self.auth.endpoint_in(self.region)
        return self.base_url, *directory

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
        if self.project_id is not None:
            yield ("project_id",), self.project_id
        for position, entry in enumerate(self.pipelines):
            yield ("pipelines", position), entry.id

    def _auth_warnings(self) -> Iterator[tuple[KeyPath, str]]:
        auth = self.auth
        if (
            isinstance(auth, HuaweiAkskSection)
            and auth.iam_project_id
            and auth.iam_project_id == self.project_id
        ):
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
