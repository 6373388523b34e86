"""Fixtures that several integration tests share."""

import fcntl
import os
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from tests.drivers.history import write_history
from tests.drivers.rules import Evaluation
from tests.drivers.tools import built, installed


@pytest.fixture(scope="session")
def history(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder with blocks of three weeks; one process of a test session writes it for all others."""
    root = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        root = root.parent
    folder = root / "history"
    promtool = installed("promtool")
    with (root / "history.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not folder.exists():
            unfinished = root / "unfinished"
            unfinished.mkdir()
            write_history(promtool, unfinished)
            unfinished.rename(folder)
    return folder


@pytest.fixture(scope="module", params=[installed, built], ids=["packaged", "built"])
def promtool(request: pytest.FixtureRequest) -> str:
    """The promtool of Debian's Prometheus 2, or that of Prometheus 3, where a window lacks its first moment."""
    program: str = request.param("promtool")
    return program


@pytest.fixture
def evaluate(promtool: str, tmp_path: Path) -> Callable[..., Evaluation]:
    """Evaluate the rules over made-up series, with the one promtool and with the other."""
    return partial(Evaluation, promtool, tmp_path)
