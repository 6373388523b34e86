"""Every probable mistake in a configuration, with the warning of `check-config`.

A case is a pair of files in `config/warned`: NAME.yaml and NAME.txt with the warnings. They have FILE for the path of the
file and FOLDER for its folder. Every secret is `opensesame`, and no warning may show a part of it.
"""

import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from exporter.app.config_warnings import warning_lines
from exporter.cli import main
from exporter.core.clock import SystemClock
from exporter.core.shard import Shard
from exporter.settings.load import load_file
from tests.drivers.process import command
from tests.drivers.support import project

CASES = Path(__file__).parents[2] / "config" / "warned"


@pytest.fixture
def check(monkeypatch, capsys):
    """Run `check-config` in this process; return the exit code, standard output and standard error."""
    monkeypatch.setattr("exporter.core.logs.configure", lambda *_: None)

    def check(*arguments):
        """Run the command with some arguments."""
        code = main(["check-config", *map(str, arguments)])
        printed = capsys.readouterr()
        return code, printed.out, printed.err

    return check


@pytest.fixture
def write(tmp_path):
    """Write a configuration of one project, and return its path."""

    def write(**changes):
        """Write the configuration."""
        file = tmp_path / "config.yaml"
        file.write_text(yaml.safe_dump({"projects": [project(**changes)]}))
        return file

    return write


@pytest.mark.parametrize("name", sorted(file.stem for file in CASES.glob("*.yaml")))
def test_probable_mistake_gives_a_warning(check, name):
    file = CASES / f"{name}.yaml"
    expected = (CASES / f"{name}.txt").read_text().replace("FILE", str(file)).replace("FOLDER", str(CASES))
    code, output, errors = check(file)
    assert (code, errors) == (0, expected)
    assert output.startswith(f"{file} is valid: ")
    assert not re.search("open|sesame", errors.replace(str(CASES), ""))
    assert check("--strict", file) == (2, "", expected)


def test_every_warning_has_file_key_and_text():
    for file in CASES.glob("*.txt"):
        for line in file.read_text().splitlines():
            assert re.fullmatch(r"FILE(:\d+)?: [a-z][\w.\[\]]*: warning: \S.*", line)


def test_configuration_without_mistakes_gives_no_warning(check, write):
    """It uses the metadata service, loopback addresses, anchored patterns, and an expiry in the future."""
    discover = {
        "interval": "1m",
        "include": ["^pay-.*$", "(?i)shop-[0-9]+", ".*-prod$", "checkout"],
        "exclude": [r"a\*b", "[ab]*", "(x|y)*", "x.*"],
    }
    for auth in (
        {"method": "metadata"},
        {"method": "token", "token": "a-$TOKEN-to-keep", "expires": "2999-01-31"},
    ):
        file = write(
            auth=auth,
            pipelines=["f" * 32],
            discover=discover,
            url_template="https://devcloud.example.com/{pipeline_id}",
            proxy="http://user:opensesame@proxy.example.com:3128",
        )
        for arguments in ((file,), ("--strict", file)):
            code, output, errors = check(*arguments)
            assert (code, errors) == (0, "")
            assert "opensesame" not in output


def test_readable_secret_file_gives_no_warning(check, write):
    file = write(auth={"method": "token", "token_file": "token"})
    (file.parent / "token").write_text("opensesame\n")
    assert check("--strict", file)[0] == 0


def test_many_series_give_a_warning_without_a_line(check, write):
    code, _, errors = check(write(pipelines=[f"{number:032x}" for number in range(1, 5000)]))
    assert code == 0
    assert re.search(r"config.yaml: metrics: warning: about \d{6} series are more than", errors)


def test_warnings_are_in_line_order(check, write):
    """Warnings without a line come last."""
    file = write(
        project_id="short",
        pipelines=["another", "x" * 32],
        rate_limit={"requests_per_second": 0.001, "burst": 1},
        discover={"interval": "1s", "include": ["pay-*"]},
    )
    _, _, errors = check(file)
    numbers = [re.match(rf"{re.escape(str(file))}:(\d+): ", line) for line in errors.splitlines()]
    lines = [int(found[1]) for found in numbers if found]
    assert lines == sorted(lines)
    assert len(lines) == 5


@pytest.mark.process
class TestStandardInput:
    """`check-config -`, as a process."""

    @staticmethod
    def check(text, *flags):
        """Run the command with a text on standard input."""
        return subprocess.run(
            [sys.executable, "-m", "exporter", "check-config", *flags, "-"],
            input=text,
            capture_output=True,
            timeout=30,
            check=False,
        )

    def test_valid_text_is_described(self, write):
        done = self.check(write().read_bytes())
        assert (done.returncode, done.stderr) == (0, b"")
        assert done.stdout.startswith(b"- is valid: 1 project, 1 pipeline\n")

    def test_warnings_and_faults_have_the_line(self, write):
        text = write(project_id="short").read_bytes()
        done = self.check(text, "--strict")
        assert (done.returncode, done.stdout) == (2, b"")
        assert re.fullmatch(rb"-:\d+: projects\[0\].project_id: warning: short is not .*\n", done.stderr)
        done = self.check(b"projects:\n\t- name: payments\n")
        assert (done.returncode, done.stdout) == (2, b"")
        assert done.stderr == b"-:2: (yaml): a tab is in the indentation (indent with spaces)\n"

    def test_endless_input_is_refused(self):
        done = self.check(b"#" * (5 << 20))
        assert (done.returncode, done.stdout) == (2, b"")
        assert done.stderr == b"-:1: (file): is larger than 4 MiB (is it the right file?)\n"

    def test_other_commands_read_no_standard_input(self):
        code, _, errors = command("once", "--config.file", "-")
        assert (code, errors) == (2, "-:1: (file): cannot be read: No such file or directory\n")


class TestVariables:
    """Environment variables that begin like flags."""

    UNKNOWN = "PIPELINE_EXPORTER_LOG_LEVL"
    OTHERS = (
        "PIPELINE_EXPORTER_SERVICE_HOST",
        "PIPELINE_EXPORTER_SERVICE_PORT",
        "PIPELINE_EXPORTER_SERVICE_PORT_HTTP",
        "PIPELINE_EXPORTER_PORT",
        "PIPELINE_EXPORTER_PORT_10047_TCP_ADDR",
        "PIPELINE_EXPORTER_HEADLESS_SERVICE_HOST",
        "PIPELINE_EXPORTER_HEADLESS_PORT_10047_TCP",
        "PIPELINE_EXPORTER_LOG_LEVEL",
        "OTHER_EXPORTER_LOG_LEVL",
    )

    def test_unknown_variable_is_a_warning_of_check_config(self, check, write, monkeypatch):
        monkeypatch.setenv(self.UNKNOWN, "debug")
        file = write()
        warning = (
            f"{file}: {self.UNKNOWN}: warning: unknown environment variable "
            "(did you mean PIPELINE_EXPORTER_LOG_LEVEL?)\n"
        )
        code, _, errors = check(file)
        assert (code, errors) == (0, warning)
        assert check(file, "--strict") == (2, "", warning)

    def test_other_variables_are_no_warnings(self, check, write, monkeypatch):
        for name in self.OTHERS:
            monkeypatch.setenv(name, "debug")
        assert check(write(), "--strict")[::2] == (0, "")

    def test_variable_of_the_configuration_is_no_warning(self, check, write, monkeypatch):
        monkeypatch.setenv("PIPELINE_EXPORTER_TOKEN", "opensesame")
        file = write(auth={"method": "token", "token": "${PIPELINE_EXPORTER_TOKEN}"})
        assert check(file, "--strict")[::2] == (0, "")

    @pytest.mark.process
    @pytest.mark.parametrize("name", ["run", "demo", "simulate"])
    def test_unknown_variable_is_logged_once(self, write, name):
        """The command then fails, because the address does not exist."""
        environment = dict.fromkeys((self.UNKNOWN, *self.OTHERS), "warning")
        file = [str(write())] if name == "run" else []
        code, _, errors = command(name, *file, "--web.listen-address", "192.0.2.1:1", environment=environment)
        assert code == 1
        [line] = [line for line in errors.splitlines() if "level=warning" in line]
        assert 'msg="unknown environment variable" id=unknown-variable' in line
        assert line.endswith(f"variable={self.UNKNOWN}")
        assert 'reason="did you mean PIPELINE_EXPORTER_LOG_LEVEL?"' in line


def test_warnings_of_a_shard_are_about_its_part(write):
    """A tenth of the pipelines fits into the request budget that all of them would exceed."""
    ids = [f"{number:032x}" for number in range(1, 1000)]
    loaded = load_file(write(pipelines=ids, rate_limit={"requests_per_second": 0.1, "burst": 1}), {})
    [whole] = warning_lines(loaded, SystemClock())
    assert "a refresh takes 190 s under rate_limit" in whole
    assert warning_lines(loaded, SystemClock(), Shard(0, 10)) == []
