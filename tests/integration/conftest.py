"""Fixtures that several integration tests share."""

import fcntl
import os
from pathlib import Path

import pytest

from tests.drivers.history import write_history
from tests.drivers.tools import installed


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
