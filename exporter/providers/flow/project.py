"""Configuration of a Flow organization, and the endpoints of both generations of the API.

Source: https://help.aliyun.com/zh/yunxiao/developer-reference/service-access-point-domain for personal tokens; the
vendor's SDK for signed requests.
"""

import re
from collections.abc import Iterator
from typing import Annotated, ClassVar, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, ValidationInfo, field_validator

from exporter.auth.aliyun import AuthSection, YunxiaoTokenSection
from exporter.config.project_section import Listed, PipelineEntry, ProjectSection, is_placeholder
from exporter.config.types import Endpoint, Identifier
from exporter.config.yaml_source import Path as KeyPath

PERSONAL_ENDPOINT = "https://openapi-rdc.aliyuncs.com"
"""URL of the API of personal tokens, central edition."""

PAGE = "https://flow.aliyun.com/pipelines/{pipeline_id}/current"
"""URL of a pipeline's page in the central edition."""

SIGNED_ENDPOINT = "https://devops.cn-hangzhou.aliyuncs.com"
"""URL of the signed API, the same for accounts of all regions."""

_NUMBER = re.compile(r"[1-9][0-9]{0,18}")
_ID_LENGTHS = {"central": 24, "region": 32}
_REGION_DOMAIN = ".devops.aliyuncs.com"
_PAGES = {"flow.aliyun.com", "devops.aliyun.com", "account-devops.aliyun.com"}


def _number(value: str) -> str:
    if not _NUMBER.fullmatch(value):
        page = PAGE.replace("{pipeline_id}", "12222")
        raise ValueError(f"{value!r} is not the id of a pipeline, which is a number (12222 in {page})")
    return value


class FlowPipelineEntry(PipelineEntry):
    """A Flow pipeline to watch, as an item of `projects[].pipelines`."""

    id: Annotated[str, AfterValidator(_number)]
    """Id of the pipeline, a number."""


class FlowProject(ProjectSection):
    """Configuration of a Flow organization."""

    scope_key: ClassVar[str] = "organization_id"
    provider: Literal["flow"]
    """Alibaba Cloud Yunxiao Flow."""
    organization_id: Identifier
    """Id of the organization."""
    pipelines: tuple[Listed[FlowPipelineEntry], ...] = ()
    """Pipelines to watch, as ids or mappings. Without any, and without `discover`, every pipeline is watched."""
    auth: Annotated[AuthSection, Field(discriminator="method")]
    """The credentials."""
    edition: Literal["central", "region"] = "central"
    """Edition of the API of personal tokens: shared, or for an organization with its own domain."""
    endpoint: Endpoint | None = Field(default=None, validate_default=True)
    """Base URL of the API. Required for `edition: region`."""

    @field_validator("edition", mode="after")
    @classmethod
    def _personal(cls, edition: str, info: ValidationInfo) -> str:
        auth = info.data.get("auth")
        if edition == "region" and auth is not None and not isinstance(auth, YunxiaoTokenSection):
            raise ValueError(
                "region is an edition of the API of personal tokens (use method: yunxiao_token, or leave edition out)"
            )
        return edition

    @field_validator("endpoint", mode="after")
    @classmethod
    def _reachable(cls, endpoint: str | None, info: ValidationInfo) -> str | None:
        if endpoint is None and info.data.get("edition") == "region":
            raise ValueError(
                f"is missing (edition: region has a domain of its own: https://example{_REGION_DOMAIN})"
            )
        return endpoint

    @property
    def scope(self) -> str:
        """Id of the organization."""
        return self.organization_id

    @property
    def personal(self) -> bool:
        """Whether requests use the API of personal tokens instead of the signed one."""
        return isinstance(self.auth, YunxiaoTokenSection)

    @property
    def base_url(self) -> str:
        """The configured endpoint, or the vendor's."""
        return self.endpoint or (PERSONAL_ENDPOINT if self.personal else SIGNED_ENDPOINT)

    @property
    def default_url_template(self) -> str:
        """URL template of pipeline pages in the central edition; empty for another edition or a configured endpoint."""
        return PAGE if self.endpoint is None and self.edition == "central" else ""

    def warnings(self) -> Iterator[tuple[KeyPath, str]]:
        """Yield warnings: values that belong to another edition or generation of the API, and addresses of web pages."""
        identity, expected = self.organization_id, _ID_LENGTHS[self.edition]
        if is_placeholder(identity):
            yield ("organization_id",), f"{identity} is a placeholder (give the real id)"
        elif len(identity) != expected:
            hint = ": is edition right?" if len(identity) in _ID_LENGTHS.values() else ""
            yield (
                ("organization_id",),
                f"{identity} is not {expected} characters long, as those of the {self.edition} edition are{hint}",
            )
        host = urlsplit(self.base_url).hostname or ""
        if host in _PAGES:
            yield ("endpoint",), f"{host} has web pages, not the API (leave endpoint out)"
        found = _api_at(host)
        if found not in {"", self.edition if self.personal else "signed"}:
            yield ("endpoint",), f"{self.endpoint} belongs to {_APIS[found]}"
        if re.search("/(oapi|organization)(/|$)", urlsplit(self.base_url).path):
            yield (
                ("endpoint",),
                "ends with a path of the API, which the exporter appends (leave the path out)",
            )


_APIS = {
    "signed": "the API of signed requests (method: aksk or default)",
    "central": "the API of personal tokens (method: yunxiao_token, edition: central)",
    "region": "a region's API of personal tokens (method: yunxiao_token, edition: region)",
}


def _api_at(host: str) -> str:
    """Return the API (a key of `_APIS`) at a host of the vendor; empty for an unknown host."""
    if host.endswith(_REGION_DOMAIN):
        return "region"
    known = {urlsplit(SIGNED_ENDPOINT).hostname: "signed", urlsplit(PERSONAL_ENDPOINT).hostname: "central"}
    return known.get(host, "")
