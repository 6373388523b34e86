"""Shared fixtures: a simulated cloud on a port, and an isolated environment."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
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
    """A running simulated CodeArts cloud."""

    codearts: CodeArts
    url: str

    def project(self, first: int | None = None, **changes: Any) -> dict[str, Any]:
        """Return a project section that polls the first pipelines of this cloud, by default all."""
        world = self.codearts.world
        own = {
            "endpoint": self.url,
            "project_id": world.project_id,
            "auth": {"method": "token", "token": self.codearts.credentials.token},
            "pipelines": [{"id": one.id, "name": one.name} for one in world.pipelines[:first]],
        }
        return project(**{**own, **changes})


AGE = 558 * 3600
"""Age of a small cloud in seconds. At this age, pipelines are red, running and waiting."""


@contextmanager
def small_cloud() -> Iterator[Cloud]:
    """Run a cloud with thirty pipelines while the context lasts; it shows the same runs at any time of day."""
    codearts = CodeArts(World(pipelines=30, start=float(int(time.time()) - AGE)))
    with running(codearts.app) as url:
        yield Cloud(codearts, url)


@pytest.fixture(autouse=True)
def no_secrets() -> Iterator[None]:
    """Start each test without secrets to mask; those of other tests may be ordinary words in this one."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(redaction, "_process", redaction.Redactor())
        yield


@pytest.fixture
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    """Remove the proxy settings of the machine from the environment."""
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


@pytest.fixture
def cloud() -> Iterator[Cloud]:
    """A small cloud."""
    with small_cloud() as cloud:
        yield cloud


@pytest.fixture
def seed_response() -> bytes:
    """The batch response in the vendor's documentation, byte for byte."""
    return (Path(__file__).parent / "data" / "codearts_batch_seed.json").read_bytes()
