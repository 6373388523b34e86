"""Build the files of a release from the last commit: `python -m deploy.release FOLDER`, or `make release`.

They are the wheel, the source, the chart, the rules and dashboards, the list of components (CycloneDX), and checksums. The
same commit gives the same bytes.
"""

import gzip
import hashlib
import os
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterable
from pathlib import Path

from exporter import __version__

ROOT = Path(__file__).parents[1]
REQUIREMENTS = Path("requirements", "run.txt")
MONITORING = ("LICENSE", "deploy/prometheus", "deploy/alertmanager", "deploy/grafana", "docs/runbooks")


def run(*command: str | Path, folder: Path, epoch: int) -> str:
    """Run a program in a folder, with `epoch` as SOURCE_DATE_EPOCH, and return its output; raise an error if it fails."""
    environment = {**os.environ, "SOURCE_DATE_EPOCH": str(epoch)}
    done = subprocess.run(command, cwd=folder, env=environment, stdout=subprocess.PIPE, text=True, check=True)  # noqa: S603
    return done.stdout


def pack(archive: Path, top: str, files: Iterable[tuple[str, Path]], epoch: int) -> None:
    """Write files below a top folder into a `.tar.gz` whose owners, modes and times are the same on all machines."""
    with (
        archive.open("wb") as raw,
        gzip.GzipFile("", "wb", fileobj=raw, mtime=epoch) as compressed,
        tarfile.open(fileobj=compressed, mode="w") as tar,
    ):
        for name, file in sorted(files):
            entry = tarfile.TarInfo(f"{top}/{name}")
            entry.size, entry.mtime, entry.mode = file.stat().st_size, epoch, 0o644
            with file.open("rb") as content:
                tar.addfile(entry, content)


def files_in(source: Path, *parts: str, below: str = ".") -> Iterable[tuple[str, Path]]:
    """Yield (path relative to `below`, file) for the files in `parts` of `source`, except for generating Python code."""
    for part in parts:
        path = source / part
        for file in [path] if path.is_file() else path.rglob("*"):
            if file.is_file() and file.suffix != ".py":
                yield file.relative_to(source / below).as_posix(), file


def list_components(source: Path, wheel: Path, target: Path, epoch: int) -> None:
    """Install the locked packages and the wheel into an empty environment, and list its components as CycloneDX."""
    with tempfile.TemporaryDirectory() as folder:
        environment = Path(folder, "environment")
        run(sys.executable, "-m", "venv", "--without-pip", environment, folder=source, epoch=epoch)
        pip = (sys.executable, "-m", "pip", "--python", environment, "install", "--quiet")
        run(*pip, "--require-hashes", "--requirement", REQUIREMENTS, folder=source, epoch=epoch)
        # By its name, because the list would contain the path of a wheel that is installed by its path.
        where = ("--no-index", "--find-links", wheel.parent)
        run(*pip, "--no-deps", *where, f"pipeline-exporter=={__version__}", folder=source, epoch=epoch)
        project = Path(folder, "pyproject.toml")
        text = (source / "pyproject.toml").read_text(encoding="utf-8")
        project.write_text(
            text.replace('dynamic = ["version"]', f'version = "{__version__}"'), encoding="utf-8"
        )
        tool = (Path(sys.executable).with_name("cyclonedx-py"), "environment", "--output-reproducible")
        run(*tool, "--pyproject", project, "--output-file", target, environment, folder=source, epoch=epoch)


def build(target: Path) -> None:
    """Write the files of a release into a folder."""
    target.mkdir(parents=True, exist_ok=True)
    epoch = int(run("git", "log", "-1", "--format=%ct", folder=ROOT, epoch=0))
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder)
        run("git", "archive", "--output", source / "source.tar", "HEAD", folder=ROOT, epoch=epoch)
        with tarfile.open(source / "source.tar") as archive:
            archive.extractall(source, filter="data")
        (source / "source.tar").unlink()
        run(sys.executable, "-m", "hatchling", "build", "--directory", target, folder=source, epoch=epoch)
        chart = files_in(source, "deploy/helm/pipeline-exporter", below="deploy/helm/pipeline-exporter")
        pack(target / f"pipeline-exporter-{__version__}.tgz", "pipeline-exporter", chart, epoch)
        name = f"pipeline-exporter-monitoring-{__version__}"
        pack(target / f"{name}.tar.gz", name, files_in(source, *MONITORING), epoch)
        wheel = target / f"pipeline_exporter-{__version__}-py3-none-any.whl"
        list_components(source, wheel, target / f"pipeline-exporter-{__version__}.cdx.json", epoch)
    sums = [
        f"{hashlib.sha256(file.read_bytes()).hexdigest()}  {file.name}\n"
        for file in sorted(target.glob("pipeline?exporter-*"))
    ]
    (target / "SHA256SUMS").write_text("".join(sums), encoding="utf-8")


if __name__ == "__main__":
    if run("git", "status", "--porcelain", folder=ROOT, epoch=0):
        sys.exit("There are changes that are not committed: a release has only what is committed.")
    build(Path(sys.argv[1]).resolve())
