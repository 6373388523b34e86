"""A pytest plugin: marks by folder, and hypothesis profiles. A slow test in another folder carries its mark itself.

`unit`: one package, in milliseconds. `property`: laws that hypothesis searches for exceptions. `process`: real processes,
other programs, and what takes seconds on a real port or disk. `vendor`: the vendors' own SDKs. `timing`: bounds in seconds, so other tests must not run meanwhile.
"""

import gc
import os
from collections.abc import Generator
from functools import cache
from pathlib import Path

import pytest
from hypothesis import settings

TESTS = Path(__file__).parent
TIMING = {
    "test_answers.py",
    "test_clock_steps.py",
    "test_connections.py",
    "test_daemon_loop.py",
    "test_hung_disk.py",
}

# `dev` finds most mistakes in seconds, for `make check`; `ci` is for `make test`, `soak` for `make soak`. Only `soak` searches
# at random: a change must not fail because of an example that has nothing to do with it.
CI = 100
settings.register_profile("dev", max_examples=CI // 10, deadline=None, derandomize=True)
settings.register_profile("ci", max_examples=CI, deadline=None, derandomize=True)
settings.register_profile("soak", max_examples=CI * 25, deadline=None)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "dev"))


def examples(count: int) -> settings:
    """Return settings with a number of examples in the profile `ci`, a tenth of it in `dev`, 25 times as many in `soak`."""
    return settings(max_examples=max(3, count * settings().max_examples // CI))


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Pause the garbage collector, because it would scan the thousands of tests, which stay alive, again and again."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()


@cache
def folder_of(path: Path) -> str:
    """Return the first part of a test's path below `tests`: a folder, or the file itself."""
    return path.relative_to(TESTS).parts[0]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark each test by the folder it lies in."""
    for item in items:
        folder = folder_of(item.path)
        if item.path.name in TIMING:
            item.add_marker("timing")
        if "vendor_sdk" in item.path.name:
            item.add_marker("vendor")
        elif any(item.get_closest_marker(name) for name in ("process", "property")):
            pass
        elif folder == "integration":
            item.add_marker("process")
        elif folder == "property":
            item.add_marker("property")
        else:
            item.add_marker("unit")
