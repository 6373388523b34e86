"""The lock files in requirements/ satisfy pyproject.toml, with exact versions and hashes."""

import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
RUN = PROJECT["project"]["dependencies"]
WANTED = {
    "run": RUN,
    "development": RUN + PROJECT["project"]["optional-dependencies"]["dev"],
    "build": PROJECT["build-system"]["requires"],
}


def normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def entries(name: str) -> list[str]:
    """Return the entries of a lock file, each with its hashes and the comment that lists what needs it."""
    return re.split(r"^(?=[\w])", (ROOT / "requirements" / f"{name}.txt").read_text(), flags=re.MULTILINE)[1:]


def pins(name: str) -> dict[str, str]:
    locked = [Requirement(entry.partition("\\")[0]) for entry in entries(name)]
    assert all(re.fullmatch(r"==[\w.]+", str(one.specifier)) for one in locked)
    return {normal(one.name): str(one.specifier)[2:] for one in locked}


@pytest.mark.parametrize("name", WANTED)
def test_lock_has_what_the_project_asks_for(name):
    locked = pins(name)
    for wanted in map(Requirement, WANTED[name]):
        assert locked[normal(wanted.name)] in wanted.specifier, wanted


@pytest.mark.parametrize("name", WANTED)
def test_each_locked_package_has_hashes_and_is_needed(name):
    """In comments, uv names what needs a package: the project, the build system's list, or another locked package."""
    wanted = {normal(Requirement(one).name) for one in WANTED[name]}
    for entry in entries(name):
        package = normal(Requirement(entry.partition("\\")[0]).name)
        assert re.search(r"^    --hash=sha256:[0-9a-f]{64}", entry, re.MULTILINE), package
        needed_by = set(re.findall(r"^    #(?: via|  ) +([\w.-]+)$", entry, re.MULTILINE))
        assert package in wanted or needed_by & pins(name).keys(), package


def test_locks_agree_on_versions():
    run, development, build = (pins(name) for name in ("run", "development", "build"))
    assert run.items() <= development.items()
    assert not {
        name: (version, development[name])
        for name, version in build.items()
        if development.get(name, version) != version
    }


@pytest.mark.parametrize("name", WANTED)
def test_lock_names_no_index(name):
    """The hashes hold for every mirror, so users can choose one."""
    text = (ROOT / "requirements" / f"{name}.txt").read_text()
    assert "://" not in text
    assert "--index-url" not in text


def test_build_tool_has_one_version():
    (requirement,) = PROJECT["build-system"]["requires"]
    assert re.fullmatch(r"hatchling==[\d.]+", requirement)
