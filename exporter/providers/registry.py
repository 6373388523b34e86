"""Registry of providers. To add a cloud, add a package here and in `auth/`, and its project type in this module."""

from collections.abc import Mapping
from typing import Annotated

from pydantic import Field

from exporter.auth.protocol import Auth
from exporter.providers import codearts, flow
from exporter.providers.protocol import AnyProvider

AnyProject = Annotated[codearts.CodeArtsProject | flow.FlowProject, Field(discriminator="provider")]
"""A configured project of any provider."""


def connect(project: AnyProject, environment: Mapping[str, str]) -> tuple[AnyProvider, Auth, str]:
    """Return a project's provider, authentication and base URL."""
    match project:
        case codearts.CodeArtsProject():
            auth = codearts.authentication(project.auth, region=project.region, environment=environment)
            return codearts.CodeArtsProvider(project), auth, project.base_url
        case flow.FlowProject():
            auth = flow.authentication(project.auth, environment=environment)
            return flow.FlowProvider(project), auth, project.base_url


def directory_of(project: AnyProject) -> codearts.ProjectDirectory:
    """Return the description of the list in which an entry with a `project_search` finds its projects."""
    match project:
        case codearts.CodeArtsProject():
            return codearts.ProjectDirectory()
        case flow.FlowProject():
            raise TypeError("Flow has no list of projects")


def provider_type(project: AnyProject) -> type[codearts.CodeArtsProvider | flow.FlowProvider]:
    """Return the class of a project's provider, whose attributes describe it without credentials."""
    match project:
        case codearts.CodeArtsProject():
            return codearts.CodeArtsProvider
        case flow.FlowProject():
            return flow.FlowProvider
