"""Virtual environments for the vendors' SDKs, next to the project's own; each is created once and reused."""

import fcntl
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]

Sdk = Callable[[dict[str, Any]], Any]
"""Run a task and return its result, decoded from JSON; the task names its function under `do`."""


def environment(vendor: str, *packages: str, home: Path) -> Sdk:
    """Return a runner for the tasks of a vendor, in an environment with these packages.

    If the packages cannot be installed, the test is skipped, except in CI. `home` is the home directory of the tasks.
    """
    directory = ROOT / ".venv" / f"vendor-sdk-{vendor}"
    python = directory / "bin" / "python"
    # Tests of one SDK may run in several processes at once.
    with (ROOT / ".venv" / f"vendor-sdk-{vendor}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        _create(directory, python, packages)
    variables = {"HOME": str(home), "PATH": os.environ["PATH"], "NO_PROXY": "127.0.0.1"}

    def run(task: dict[str, Any]) -> Any:
        done = subprocess.run(
            [python, "-m", "tests.vendor", vendor],
            input=json.dumps(task),
            capture_output=True,
            text=True,
            check=False,
            cwd=ROOT,
            env=variables,
        )
        assert not done.returncode, done.stderr
        return json.loads(done.stdout)

    return run


def _create(directory: Path, python: Path, packages: tuple[str, ...]) -> None:
    ready = directory / " ".join(packages)
    if ready.exists():
        return
    subprocess.run([sys.executable, "-m", "venv", "--clear", directory], check=True)
    pip = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *packages]
    done = subprocess.run(pip, check=False, capture_output=True, text=True)
    if done.returncode and not os.environ.get("CI"):
        pytest.skip(f"the SDK cannot be installed: {_reason(done.stderr)}")
    assert not done.returncode, done.stderr
    ready.touch()


def _reason(output: str) -> str:
    """Return the last error of pip; after a failed build pip adds a remark that is not the reason."""
    lines = [line.strip() for line in output.splitlines()]
    errors = [line for line in lines if line.startswith("ERROR: ")]
    return (errors or lines or ["pip does not say why"])[-1]
