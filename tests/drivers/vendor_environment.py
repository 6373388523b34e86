"""Environments for the vendors' SDKs, beside the project's own: made the first time, found again later."""

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
"""Does a task, which names the function that does it (`do`); what that returns comes back as JSON has it."""


def environment(vendor: str, *packages: str, home: Path) -> Sdk:
    """An environment with some packages, in which the module of that vendor does tasks.

    Where they cannot be installed, the test is skipped, but not in CI. `home` is the home directory in there.
    """
    place = ROOT / ".venv" / f"vendor-sdk-{vendor}"
    python = place / "bin" / "python"
    ready = place / " ".join(packages)
    if not ready.exists():
        subprocess.run([sys.executable, "-m", "venv", "--clear", place], check=True)
        pip = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *packages]
        done = subprocess.run(pip, check=False, capture_output=True, text=True)
        if done.returncode and not os.environ.get("CI"):
            pytest.skip(f"the SDK cannot be installed: {_reason(done.stderr)}")
        assert not done.returncode, done.stderr
        ready.touch()
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


def _reason(told: str) -> str:
    """What pip says last of what went wrong; after a failed build it still remarks that this is no fault of pip."""
    lines = [line.strip() for line in told.splitlines()]
    errors = [line for line in lines if line.startswith("ERROR: ")]
    return (errors or lines or ["pip does not say why"])[-1]
