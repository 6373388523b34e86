"""Fixtures that several integration tests share."""

import fcntl
import os
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from tests.drivers.history import record_history, write_history
from tests.drivers.rules import Evaluation
from tests.drivers.tools import built, installed, newest


def _once(factory: pytest.TempPathFactory, name: str, write: Callable[[Path], None]) -> Path:
    """Return a folder that one process of a test session writes for all."""
    root = factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        root = root.parent
    folder = root / name
    with (root / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not folder.exists():
            unfinished = root / f"{name}-unfinished"
            unfinished.mkdir()
            write(unfinished)
            unfinished.rename(folder)
    return folder


@pytest.fixture(scope="session")
def history(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of three weeks of blocks."""
    promtool = installed("promtool")
    return _once(tmp_path_factory, "history", partial(write_history, promtool))


@pytest.fixture(scope="session")
def recorded(history: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory with the same blocks, and with those of the recording rules."""
    programs = newest("promtool"), newest("prometheus")

    def write(directory: Path) -> None:
        shutil.copytree(history, directory / "data")
        record_history(*programs, directory)

    return _once(tmp_path_factory, "recorded", write)


@pytest.fixture(scope="module", params=[installed, built], ids=["packaged", "built"])
def promtool(request: pytest.FixtureRequest) -> str:
    """The promtool of Debian's Prometheus 2, or that of Prometheus 3, where a window lacks its first moment."""
    program: str = request.param("promtool")
    return program


@pytest.fixture
def evaluate(promtool: str, tmp_path: Path) -> Callable[..., Evaluation]:
    """Evaluate the rules over made-up series, with the one promtool and with the other."""
    return partial(Evaluation, promtool, tmp_path)
