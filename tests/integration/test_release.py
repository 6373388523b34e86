"""A release: its files, that they are complete, and that the same commit gives the same bytes."""

import hashlib
import json
import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

from deploy import release
from exporter import __version__
from tests.drivers.manifests import CHART as FOLDER
from tests.drivers.manifests import RELEASE, ROOT, helm
from tests.unit.test_locks import pins

if not (ROOT / ".git").exists():
    pytest.skip("a release is built from a commit", allow_module_level=True)

CHART = f"pipeline-exporter-{__version__}.tgz"
COMPONENTS = f"pipeline-exporter-{__version__}.cdx.json"
MONITORING = f"pipeline-exporter-monitoring-{__version__}.tar.gz"
SOURCE = f"pipeline_exporter-{__version__}.tar.gz"
WHEEL = f"pipeline_exporter-{__version__}-py3-none-any.whl"


def names(archive: Path) -> list[str]:
    with tarfile.open(archive) as tar:
        return tar.getnames()


def contents(folder: Path) -> dict[str, str]:
    return {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in folder.iterdir()}


def checksums_are_those_of_the_files(dist: Path) -> None:
    lines = (dist / "SHA256SUMS").read_text().splitlines()
    listed = {name: checksum for checksum, name in (line.split("  ") for line in lines)}
    assert listed == {name: sum_ for name, sum_ in contents(dist).items() if name != "SHA256SUMS"}
    assert set(listed) == {CHART, COMPONENTS, MONITORING, SOURCE, WHEEL}


def wheel_has_the_package_and_nothing_else(dist: Path) -> None:
    with zipfile.ZipFile(dist / WHEEL) as wheel:
        files = set(wheel.namelist())
    tracked = set(release.run("git", "ls-files", "exporter", folder=ROOT, epoch=0).split())
    assert {file for file in files if ".dist-info/" not in file} <= tracked
    assert {file for file in tracked if file.endswith(".py")} <= files


def source_gives_the_same_wheel(dist: Path) -> None:
    """The source archive is complete, so that it can be built without a clone."""
    folder = dist.parent / "from-source"
    with tarfile.open(dist / SOURCE) as tar:
        tar.extractall(folder, filter="data")
    (top,) = folder.iterdir()
    epoch = int(release.run("git", "log", "-1", "--format=%ct", folder=ROOT, epoch=0))
    release.run(sys.executable, "-m", "hatchling", "build", "-t", "wheel", folder=top, epoch=epoch)
    assert (top / "dist" / WHEEL).read_bytes() == (dist / WHEEL).read_bytes()
    for name in ("Makefile", "requirements/development.txt", "deploy/Dockerfile", "CHANGELOG.md"):
        assert (top / name).exists(), name


def chart_renders_as_its_folder(dist: Path) -> None:
    packed = helm("template", RELEASE, dist / CHART, "--namespace=ci")
    assert packed.returncode == 0, packed.stderr
    folder = helm("template", RELEASE, FOLDER, "--namespace=ci")
    assert packed.stdout == folder.stdout


def bundle_has_rules_dashboards_and_runbooks(dist: Path) -> None:
    folders = ("deploy/prometheus", "deploy/alertmanager", "deploy/grafana", "docs/runbooks")
    tracked = release.run("git", "ls-files", *folders, folder=ROOT, epoch=0).split()
    top = MONITORING.removesuffix(".tar.gz")
    expected = [f"{top}/{name}" for name in ("LICENSE", *tracked) if not name.endswith(".py")]
    assert sorted(names(dist / MONITORING)) == sorted(expected)


def components_are_the_locked_ones_with_a_license(dist: Path) -> None:
    bom = json.loads((dist / COMPONENTS).read_text())
    assert bom["bomFormat"] == "CycloneDX"
    root = bom["metadata"]["component"]
    assert (root["name"], root["version"]) == ("pipeline-exporter", __version__)
    found = {one["name"].lower().replace("_", "-"): one for one in bom["components"]}
    locked = pins("run")
    assert found.keys() <= locked.keys()
    assert all(found[name]["version"] == locked[name] and found[name]["licenses"] for name in found)
    assert len(found) >= len(locked) - 1, "what only some versions of Python need"


@pytest.fixture
def dist(tmp_path: Path) -> Path:
    target = tmp_path / "dist"
    release.build(target)
    return target


def test_release(dist, tmp_path, subtests):
    """Check everything in one test, so that the processes of a test session do not build a release several times."""
    for check in (
        checksums_are_those_of_the_files,
        wheel_has_the_package_and_nothing_else,
        source_gives_the_same_wheel,
        chart_renders_as_its_folder,
        bundle_has_rules_dashboards_and_runbooks,
        components_are_the_locked_ones_with_a_license,
    ):
        with subtests.test(check.__name__):
            check(dist)
    with subtests.test("a second build gives the same bytes"):
        # Another place, another time, other modes of new files.
        before = os.umask(0o077)
        try:
            release.build(tmp_path / "other" / "place")
        finally:
            os.umask(before)
        assert contents(tmp_path / "other" / "place") == contents(dist)
    shutil.rmtree(tmp_path)


def test_changes_that_are_not_committed_are_refused(tmp_path):
    """The test uses a clone, so that this repository is not changed."""
    clone = tmp_path / "clone"
    release.run("git", "clone", "--quiet", ROOT, clone, folder=tmp_path, epoch=0)
    (clone / "README.md").write_text("changed")
    done = subprocess.run(
        [sys.executable, "-m", "deploy.release", "dist"],
        cwd=clone,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert "not committed" in done.stderr
    assert not (clone / "dist").exists()
