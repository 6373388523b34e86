"""Provider of Huawei Cloud CodeArts Pipeline."""

from exporter.auth.huawei import authentication
from exporter.providers.codearts.directory import ProjectDirectory, directory_endpoint
from exporter.providers.codearts.project import ENDPOINTS, CodeArtsProject
from exporter.providers.codearts.provider import CodeArtsProvider

__all__ = [
    "ENDPOINTS",
    "CodeArtsProject",
    "CodeArtsProvider",
    "ProjectDirectory",
    "authentication",
    "directory_endpoint",
]
