"""Files that must not be read: FIFOs, devices and large files, at start and while the exporter runs."""

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from exporter.settings.load import load
from tests.conftest import Cloud
from tests.drivers.probe import HealthProbe
from tests.drivers.process import command, eventually, exporter
from tests.drivers.support import project

NOT_REGULAR = "is not a regular file (FIFOs and devices are not read; give a file)"


def fifo(path: Path) -> None:
    os.mkfifo(path)


def device(path: Path) -> None:
    path.symlink_to("/dev/zero")


def large(size: int) -> Callable[[Path], None]:
    def make(path: Path) -> None:
        path.write_text("x" * (size + 1))

    return make


KINDS: dict[str, tuple[Callable[[Path], None], str, str]] = {
    "fifo": (fifo, NOT_REGULAR, NOT_REGULAR),
    "device": (device, NOT_REGULAR, NOT_REGULAR),
    "large": (
        large(4 << 20),
        "is larger than 4 MiB (is it the right file?)",
        "is larger than 64 KiB (is it the right file?)",
    ),
}


def refused(file: Path, *, environment: dict[str, str] | None = None) -> list[str]:
    """Return the error lines of both commands for a configuration."""
    lines = set()
    for name in ("check-config", "run"):
        code, output, errors = command(name, "--config.file", str(file), environment=environment)
        assert (code, output) == (2, "")
        lines.add(errors)
    [text] = lines
    return text.splitlines()


@pytest.mark.parametrize("kind", KINDS)
def test_configuration_is_refused(tmp_path: Path, kind: str) -> None:
    make, message, _ = KINDS[kind]
    file = tmp_path / "config.yaml"
    make(file)
    assert refused(file) == [f"{file}:1: (file): {message}"]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("key", ["token_file", "proxy_file", "ca_file"])
def test_file_of_a_configuration_is_refused(tmp_path: Path, kind: str, key: str) -> None:
    make, message, secret_message = KINDS[kind]
    make(tmp_path / "given")
    changes: dict[str, dict[str, Any]] = {
        "token_file": {"auth": {"method": "token", "token_file": "given"}},
        "proxy_file": {"proxy_file": "given"},
        "ca_file": {"tls": {"ca_file": "given"}},
    }
    where = {"token_file": "auth.token_file", "proxy_file": "proxy_file", "ca_file": "tls.ca_file"}[key]
    file = tmp_path / "config.yaml"
    file.write_text(yaml.safe_dump({"projects": [project(**changes[key])]}))
    line = next(
        number for number, text in enumerate(file.read_text().splitlines(), 1) if f"{key}: given" in text
    )
    text = (
        f"{tmp_path / 'given'} {message}"
        if key == "ca_file"
        else f"the secret file {tmp_path / 'given'} {secret_message}"
    )
    assert refused(file) == [f"{file}:{line}: projects[0].{where}: {text}"]


@pytest.mark.parametrize("kind", KINDS)
def test_certificates_of_the_environment_are_refused(tmp_path: Path, kind: str) -> None:
    make, message, _ = KINDS[kind]
    make(tmp_path / "given")
    file = tmp_path / "config.yaml"
    file.write_text(yaml.safe_dump({"projects": [project()]}))
    code, _, errors = command(
        "once", "--config.file", str(file), environment={"SSL_CERT_FILE": str(tmp_path / "given")}
    )
    assert code == 2
    assert errors == (
        "pipeline-exporter: cannot load the certificate authorities of SSL_CERT_FILE or SSL_CERT_DIR: "
        f"{message}\n"
    )


@pytest.mark.parametrize("kind", KINDS)
def test_secret_that_changes_while_running_is_a_credential_error(
    tmp_path: Path, cloud: Cloud, kind: str
) -> None:
    """The event loop does not block, and a good file ends the error."""
    make, _, message = KINDS[kind]
    secret = tmp_path / "token"
    token = cloud.codearts.credentials.token
    secret.write_text(token)
    auth = {"method": "token", "token_file": str(secret)}
    settings = {
        "poll": {"interval": "300ms", "active_interval": "300ms"},
        "projects": [cloud.project(auth=auth)],
    }
    with exporter(tmp_path, settings) as process:
        eventually(lambda: process.samples().value("pipeline_exporter_project_up") == 1, "the first refresh")
        with HealthProbe(process) as probe:
            secret.unlink()
            make(secret)
            eventually(lambda: f"the secret file {secret} {message}" in "".join(process.log), "the error")
            eventually(lambda: process.samples().value("pipeline_exporter_project_up") == 0, "the failure")
            assert any("code=secret" in line for line in process.log)
            secret.unlink()
            secret.write_text(token)
            eventually(lambda: process.samples().value("pipeline_exporter_project_up") == 1, "a good file")
    assert probe.failures == []
    assert probe.worst < 1


def test_configuration_of_four_mebibytes_is_read_in_time(tmp_path: Path) -> None:
    """A realistic file with 45,000 pipelines and labels."""
    entries = [
        f"  - id: {number:032x}\n    name: pipe{number}\n    labels: {{team: a}}\n"
        for number in range(45_000)
    ]
    given = project()
    del given["pipelines"]
    head = yaml.safe_dump({"projects": [given]}) + "  pipelines:\n"
    file = tmp_path / "config.yaml"
    file.write_text(head + "".join(entries))
    assert 3 << 20 < file.stat().st_size < 4 << 20
    before = time.process_time()
    assert len(load(file).projects[0].pipelines) == len(entries)
    assert time.process_time() - before < 20


BOMBS = {
    "aliases": "a: &a0 [x, x, x, x, x, x, x, x, x, x]\n"
    + "".join(f"b{level}: &a{level} [{', '.join([f'*a{level - 1}'] * 10)}]\n" for level in range(1, 10)),
    "lists": "[" * 1_000_000,
    "mappings": "{a: " * 100_000,
    "blocks": "- " * 100_000 + "x",
}


@pytest.mark.parametrize("text", BOMBS.values(), ids=BOMBS)
def test_bomb_is_refused(tmp_path: Path, text: str) -> None:
    file = tmp_path / "config.yaml"
    file.write_text(text)
    code, _, errors = command("check-config", "--config.file", str(file))
    assert code == 2
    assert errors == f"{file}:1: (yaml): nested too deeply, or too large (write aliases out)\n"
