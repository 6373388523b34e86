"""Providers: one file a cloud. A new cloud is a file here, one in `auth/`, and a row in this table."""

from collections.abc import Mapping

from exporter.auth import Auth
from exporter.providers import codearts
from exporter.providers.base import Batch, Call, Provider

__all__ = ["AnyProject", "Batch", "Call", "Provider", "connect"]

AnyProject = codearts.Project
"""A project of the configuration, of any provider."""


def connect(project: AnyProject, environment: Mapping[str, str]) -> tuple[Provider, Auth, str]:
    """What speaks a project's language, what proves who asks, and the URL below which it listens."""
    auth = codearts.authentication(project.auth, region=project.region, environment=environment)
    return codearts.CodeArts(project), auth, project.base_url
