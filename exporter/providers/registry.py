"""Providers: one folder a cloud. A new cloud is a folder here, one in `auth/`, and its rows in this table."""

from collections.abc import Mapping
from typing import Annotated

from pydantic import Field

from exporter.auth.protocol import Auth
from exporter.providers import codearts, flow
from exporter.providers.protocol import AnyProvider, ApiRequest, LatestRuns, Provider

__all__ = [
    "AnyProject",
    "AnyProvider",
    "ApiRequest",
    "LatestRuns",
    "Provider",
    "connect",
    "fields",
    "provider_type",
]

AnyProject = Annotated[codearts.Project | flow.Project, Field(discriminator="provider")]
"""A project of the configuration, of any provider."""


def connect(project: AnyProject, environment: Mapping[str, str]) -> tuple[AnyProvider, Auth, str]:
    """What speaks a project's language, what proves who asks, and the URL below which it listens."""
    match project:
        case codearts.Project():
            auth = codearts.authentication(project.auth, region=project.region, environment=environment)
            return codearts.CodeArts(project), auth, project.base_url
        case flow.Project():
            auth = flow.authentication(project.auth, environment=environment)
            return flow.Flow(project), auth, project.base_url


def provider_type(project: AnyProject) -> type[codearts.CodeArts | flow.Flow]:
    """Return the class of a project's provider, whose attributes describe it without credentials."""
    match project:
        case codearts.Project():
            return codearts.CodeArts
        case flow.Project():
            return flow.Flow


def fields(family: str) -> dict[str, str]:
    """The vendors' fields that a family of metrics shows, by the names of their services."""
    return {vendor.SERVICE: vendor.FIELDS[family] for vendor in (codearts, flow) if family in vendor.FIELDS}
