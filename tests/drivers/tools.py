"""Third-party programs that tests run. If one is missing, its tests are skipped, except in CI."""

import os
import shutil
from pathlib import Path

import pytest

BUILT = Path(__file__).parents[2] / ".tools" / "bin"
"""Where `make tools` puts what it builds."""


def installed(name: str) -> str:
    """Return the path of an installed program."""
    return _required(name, shutil.which(name))


def built(name: str) -> str:
    """Return the path of a program that `make tools` builds, because Debian's is too old or does not exist."""
    return _required(name, shutil.which(name, path=str(BUILT)))


def newest(name: str) -> str:
    """Return the path of a program: of that which `make tools` built, otherwise of the installed one."""
    return built(name) if os.environ.get("CI") or (BUILT / name).exists() else installed(name)


def _required(name: str, path: str | None) -> str:
    if path is None and not os.environ.get("CI"):
        pytest.skip(f"{name} is not there")
    assert path, f"{name} is not there"
    return path


def fetched(name: str) -> str:
    """Return the path of a file of a Node package that `make tools` fetches."""
    path = BUILT.parent / "node_modules" / name
    return _required(name, str(path) if path.exists() else None)
