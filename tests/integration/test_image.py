"""The container image: built by buildah on a Debian base from debootstrap, measured, and run."""

import gzip
import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from exporter import __version__
from tests.drivers.manifests import ROOT
from tests.drivers.process import Process, eventually

NOT_POSSIBLE = 77
"""Exit code of deploy/image.sh if it cannot build because a program or Debian's packages are missing."""
MEBIBYTE = 2**20


@dataclass
class Image:
    """A built image, and the mounted root file system of a container."""

    folder: Path
    container: str

    @property
    def layers(self) -> list[bytes]:
        """The compressed layers, from the base up."""
        manifest = json.loads((self.folder / "manifest.json").read_text())
        return [self._blob(layer["digest"]) for layer in manifest["layers"]]

    @property
    def config(self) -> dict[str, Any]:
        manifest = json.loads((self.folder / "manifest.json").read_text())
        return dict(json.loads(self._blob(manifest["config"]["digest"]))["config"])

    def _blob(self, digest: str) -> bytes:
        return (self.folder / digest.removeprefix("sha256:")).read_bytes()

    def inside(self, *command: str) -> list[str]:
        """Return a command that runs another one as a container does: its user, environment, files and processes."""
        config = self.config
        prepare = 'mount -t proc proc "$0/proc" && exec chroot "--userspec=$1" "$0" env -i "${@:2}"'
        namespace = ["unshare", "--mount", "bash", "-c", prepare, self.container]
        return [*namespace, config["User"], *config["Env"], *command]


def run(command: list[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


@pytest.fixture
def image(tmp_path: Path) -> Iterator[Image]:
    folder = tmp_path / "image"
    folder.mkdir()
    store = folder / "store"
    try:
        done = subprocess.run(
            [str(ROOT / "deploy" / "image.sh"), str(folder)],
            capture_output=True,
            text=True,
            timeout=580,
            check=False,
        )
        if done.returncode == NOT_POSSIBLE:
            pytest.skip(done.stderr.splitlines()[-1])
        assert done.returncode == 0, done.stderr
        yield Image(folder / "image", done.stdout.strip())
    finally:
        if store.exists():
            run(["buildah", "--root", f"{store}/root", "--runroot", f"{store}/run", "rm", "--all"])
            shutil.rmtree(store)


def image_is_small(image):
    """The base is Debian's, which is larger than the official slim one."""
    own = sum(len(gzip.decompress(layer)) for layer in image.layers[1:])
    assert own < 50 * MEBIBYTE
    assert sum(map(len, image.layers)) < 120 * MEBIBYTE


def labels_name_version_revision_and_base(image):
    labels = image.config["Labels"]
    assert labels["org.opencontainers.image.version"] == __version__
    assert labels["org.opencontainers.image.base.name"] == "localhost/base"
    assert labels["org.opencontainers.image.revision"]


def installed_version_is_that_of_the_source_and_runs_as_no_one(image):
    done = run(image.inside(*image.config["Entrypoint"], "--version"))
    assert done.stdout.startswith(f"pipeline-exporter, version {__version__} (python 3."), done.stderr
    done = run(image.inside("python", "-c", "import os; print(os.getuid(), os.getgid())"))
    assert done.stdout.split() == ["65532", "65532"]


def image_has_no_tool_to_install_or_develop(image):
    for module in ("pip", "ensurepip", "setuptools", "hatchling", "pytest"):
        done = run(image.inside("python", "-c", f"import {module}"))
        assert done.stderr.endswith(f"ModuleNotFoundError: No module named '{module}'\n")


def no_file_of_the_exporter_is_writable(image):
    """Everything is compiled, so nothing needs to be written; only the folder of the state belongs to the user."""
    root = Path(image.container)
    state = root / "var" / "lib" / "pipeline-exporter"
    assert (state.stat().st_uid, state.stat().st_gid) == (65532, 65532)
    own = root / "opt" / "pipeline-exporter"
    files = [Path(folder) / name for folder, _, names in os.walk(own) for name in names]
    assert {file.lstat().st_uid for file in files} == {0}
    assert not [file for file in files if not file.is_symlink() and file.stat().st_mode & 0o022]
    sources = [file for file in files if file.suffix == ".py" and "exporter" in file.parts[-3:]]
    assert sources
    assert all(list((file.parent / "__pycache__").glob(f"{file.stem}.*.pyc")) for file in sources)


def missing_configuration_is_an_error_with_the_documented_path(image):
    done = run(image.inside(*image.config["Entrypoint"], *image.config["Cmd"]))
    assert done.returncode == 2
    assert "/etc/pipeline-exporter/config.yaml" in done.stderr


def demo_in_the_image_is_healthy_while_it_runs_and_stops_on_sigterm(image):
    entrypoint = image.inside(*image.config["Entrypoint"])
    process = Process(
        ["demo", "--web.listen-address=127.0.0.1:0", "--simulate.pipelines=20"], program=entrypoint
    )
    try:
        address = process.address()
        kind, *check = image.config["Healthcheck"]["Test"]
        assert kind == "CMD"
        check = [part.replace("10047", address.rpartition(":")[2]) for part in check]
        eventually(lambda: process.get("/-/ready").status_code == 200, "the first refresh")
        assert run(image.inside(*check)).returncode == 0
        assert set(process.samples().get("pipeline_exporter_project_up").values()) == {1.0}
    finally:
        assert process.stop() == 0
    assert run(image.inside(*check)).returncode != 0


def test_built_image(image, subtests):
    """Check everything in one test, so that the processes of a test session do not build the image several times."""
    for check in (
        image_is_small,
        labels_name_version_revision_and_base,
        installed_version_is_that_of_the_source_and_runs_as_no_one,
        image_has_no_tool_to_install_or_develop,
        no_file_of_the_exporter_is_writable,
        missing_configuration_is_an_error_with_the_documented_path,
        demo_in_the_image_is_healthy_while_it_runs_and_stops_on_sigterm,
    ):
        with subtests.test(check.__name__):
            check(image)
