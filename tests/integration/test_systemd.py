"""The systemd unit and its snippets, read by systemd's own programs."""

import os
import re
import shlex
from pathlib import Path

import pytest

from tests.drivers.manifests import ROOT, run
from tests.drivers.process import command
from tests.drivers.tools import installed

FOLDER = ROOT / "deploy" / "systemd"
UNIT = FOLDER / "pipeline-exporter.service"
MOST_EXPOSED = 2.0


def setting(name: str) -> str:
    (value,) = re.findall(rf"^{name}=(.*)$", UNIT.read_text(), re.MULTILINE)
    return str(value)


def unit_in(folder: Path) -> Path:
    """Return the unit file with a program that exists on this machine."""
    file = folder / UNIT.name
    file.write_text(UNIT.read_text().replace(shlex.split(setting("ExecStart"))[0], "/bin/true"))
    return file


def test_systemd_accepts_the_unit(tmp_path):
    done = run(installed("systemd-analyze"), "verify", "--man=no", unit_in(tmp_path))
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_unit_is_hardened(tmp_path):
    done = run(installed("systemd-analyze"), "security", "--offline=true", "--no-pager", unit_in(tmp_path))
    found = re.search(r"Overall exposure level for .*: ([\d.]+) ", done.stdout)
    assert found, done.stdout + done.stderr
    assert float(found[1]) < MOST_EXPOSED
    assert (
        f"`systemd-analyze security pipeline-exporter`: {found[1]})"
        in (ROOT / "docs" / "install.md").read_text()
    )


def test_invalid_configuration_ends_the_service_for_good(tmp_path):
    """The command of the unit, with the configuration of this test."""
    _, *arguments = shlex.split(setting("ExecStart"))
    file = tmp_path / "config.yaml"
    file.write_text("projects: 3\n")
    documented = "/etc/pipeline-exporter/config.yaml"
    assert any(documented in argument for argument in arguments)
    code, _, errors = command(*(argument.replace(documented, str(file)) for argument in arguments))
    assert str(code) == setting("RestartPreventExitStatus")
    assert "projects" in errors


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may create users and change owners")
def test_snippets_create_the_user_and_the_folders(tmp_path):
    """Only root writes the configuration and the secrets; the service reads them."""
    secret = tmp_path / "etc" / "pipeline-exporter" / "secrets" / "sk"
    secret.parent.mkdir(parents=True)
    secret.write_text("a secret")
    environment = tmp_path / setting("EnvironmentFile").removeprefix("-/")
    environment.write_text("HUAWEICLOUD_SDK_AK=a key")
    for program, name, flags in (
        ("systemd-sysusers", "pipeline-exporter.sysusers.conf", []),
        ("systemd-tmpfiles", "pipeline-exporter.tmpfiles.conf", ["--create"]),
    ):
        done = run(installed(program), f"--root={tmp_path}", *flags, FOLDER / name)
        assert done.returncode == 0, done.stderr
    account = next(
        line
        for line in (tmp_path / "etc" / "passwd").read_text().splitlines()
        if line.startswith("pipeline-exporter:")
    ).split(":")
    assert setting("User") == setting("Group") == account[0]
    for path, mode in ((secret.parent.parent, 0o750), (secret.parent, 0o750), (secret, 0o640)):
        status = path.stat()
        assert (status.st_uid, status.st_gid, status.st_mode & 0o777) == (0, int(account[3]), mode)
    status = environment.stat()
    assert (status.st_uid, status.st_gid, status.st_mode & 0o777) == (0, 0, 0o600)


def test_state_folder_is_that_of_the_documentation():
    assert f"/var/lib/{setting('StateDirectory')}/state.db" in UNIT.read_text()
