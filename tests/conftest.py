"""Fixtures: a simulated cloud on a real port, and a configuration that polls it."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from exporter.core import redaction
from exporter.simulator import CodeArts, World, running
from tests.drivers.support import project

pytest_plugins = ("tests.marks",)


@dataclass
class Cloud:
    """A simulated CodeArts cloud under way."""

    codearts: CodeArts
    url: str

    def project(self, first: int | None = None, **changes: Any) -> dict[str, Any]:
        """A project of a configuration that polls the first pipelines of this cloud, or all."""
        world = self.codearts.world
        own = {
            "endpoint": self.url,
            "project_id": world.project_id,
            "auth": {"method": "token", "token": self.codearts.credentials.token},
            "pipelines": [{"id": one.id, "name": one.name} for one in world.pipelines[:first]],
        }
        return project(**{**own, **changes})


@pytest.fixture(autouse=True)
def no_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    """No secrets of other tests, which may be ordinary words in this one."""
    monkeypatch.setattr(redaction, "_process", redaction.Redactor())


@pytest.fixture
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    """No proxy in the environment, whatever the machine has."""
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


@pytest.fixture
def cloud() -> Iterator[Cloud]:
    """A small cloud."""
    codearts = CodeArts(World(pipelines=30))
    with running(codearts.app) as url:
        yield Cloud(codearts, url)


@pytest.fixture
def seed_response() -> bytes:
    """The batch answer that the vendor documents, byte for byte."""
    return (Path(__file__).parent / "data" / "codearts_batch_seed.json").read_bytes()
