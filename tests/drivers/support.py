"""A fake clock, and small configurations."""

import asyncio
from typing import Any

from exporter.app.exporter import Exporter
from exporter.auth.protocol import Auth
from exporter.core.redaction import MASK, redact
from exporter.exposition import Format, Variant
from exporter.providers.codearts import CodeArtsProvider
from exporter.providers.registry import AnyProject, connect
from exporter.settings.settings import Config

PROJECT_ID = "54f90b75fc1447b1b65e8d3a9f77923d"
PIPELINE_ID = "d19799d619424b2bb2625ec2d93ea087"


class FakeClock:
    """A clock that advances when code sleeps on it, or when a test sets it."""

    def __init__(self, now: float = 1_700_000_000.0) -> None:
        self.now = now
        self.slept: list[float] = []

    def time(self) -> float:
        return self.now

    def monotonic(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds
        await asyncio.sleep(0)


def connected(project: AnyProject) -> tuple[CodeArtsProvider, Auth, str]:
    """Return provider, authentication and base URL of a CodeArts project."""
    provider, auth, base_url = connect(project, {})
    assert isinstance(provider, CodeArtsProvider)
    return provider, auth, base_url


def masked(*values: str) -> bool:
    """Return whether the process masks each value in its output."""
    return all(redact(value) == MASK for value in values)


def project(**changes: Any) -> dict[str, Any]:
    """Return a project section, as read from YAML."""
    return {
        "name": "payments",
        "provider": "codearts",
        "endpoint": "http://127.0.0.1:1",
        "project_id": PROJECT_ID,
        "auth": {"method": "token", "token": "a-token-to-keep-secret"},
        "pipelines": [PIPELINE_ID],
        **changes,
    }


def config(*projects: dict[str, Any], **sections: Any) -> Config:
    """Return a configuration with these projects, by default a single one, and other sections."""
    return Config.model_validate({**sections, "projects": projects or (project(),)})


def shown(exporter: Exporter) -> str:
    """Return the last published metrics page as text."""
    return b"".join(exporter.publisher.exposition.body(Variant(Format.TEXT, gzip=False)).chunks).decode()
