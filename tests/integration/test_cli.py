"""Commands and flags: output and exit codes."""

import fcntl
import os
import pty
import re
import struct
import subprocess
import sys
import termios
from pathlib import Path

import pytest
import yaml

from exporter import __version__
from exporter.cli import main
from exporter.core.shard import Shard
from tests.drivers.process import Samples, command
from tests.drivers.support import project


@pytest.fixture
def write(tmp_path):
    """Write a configuration, and return its path."""

    def write(*projects, **sections):
        """Write a configuration, and return its path."""
        file = tmp_path / "config.yaml"
        file.write_text(yaml.safe_dump({**sections, "projects": list(projects)}))
        return str(file)

    return write


def test_version_is_printed():
    code, output, _ = command("--version")
    assert code == 0
    assert output.startswith(f"pipeline-exporter, version {__version__} (python 3.")


def test_help_and_usage_errors_of_the_process():
    code, output, _ = command("once", "--help")
    assert code == 0
    assert output.startswith("usage: pipeline-exporter once [FILE] [flags]\n")
    assert command("once", "--colour") == (
        2,
        "",
        "pipeline-exporter once: error: unrecognized arguments: --colour (see pipeline-exporter once --help)\n",
    )


class TestShards:
    """`--shard.index`, `--shard.total` and their environment variables."""

    @pytest.mark.parametrize("name", ["run", "check-config", "once"])
    @pytest.mark.parametrize(
        ("flags", "message"),
        [
            (["--shard.index=0"], "--shard.index 0 without --shard.total"),
            (["--shard.index=3", "--shard.total=3"], "--shard.index 3 is not below --shard.total 3"),
        ],
    )
    def test_contradicting_shard_flags_are_usage_errors(self, write, name, flags, message):
        code, output, errors = command(name, "--config.file", write(project()), *flags)
        assert (code, output) == (2, "")
        assert f"error: {message}" in errors

    @pytest.mark.parametrize(
        ("host", "code", "message"),
        [
            ("pipeline-exporter-2", 0, "shard 2 of 3, counted from 0, has "),
            ("pipeline-exporter-3", 2, "ordinal of this machine's name 'pipeline-exporter-3' is not below"),
            ("laptop", 2, "machine's name 'laptop' does not end in the ordinal of a StatefulSet's pod"),
        ],
    )
    def test_shard_index_is_the_ordinal_of_the_pod_name(
        self, write, monkeypatch, capsys, host, code, message
    ):
        monkeypatch.setattr("platform.node", lambda: host)
        monkeypatch.setattr("exporter.core.logs.configure", lambda *_: None)
        monkeypatch.setenv("PIPELINE_EXPORTER_SHARD_TOTAL", "3")
        with pytest.raises(SystemExit) as ended:
            sys.exit(main(["check-config", write(project())]))
        assert ended.value.code == code
        printed = capsys.readouterr()
        assert message in (printed.err if code else printed.out)

    @pytest.mark.parametrize("name", ["discover", "simulate", "demo"])
    def test_other_commands_ignore_shard_flags(self, name):
        """The command fails for another reason: an address that does not exist, or a missing file."""
        environment = {"PIPELINE_EXPORTER_SHARD_TOTAL": "3"}
        address = "192.0.2.1:1"
        flags = ["--config.file", "nowhere.yaml"] if name == "discover" else ["--web.listen-address", address]
        code, _, errors = command(name, *flags, environment=environment)
        assert code in {1, 2}
        assert f"cannot listen on {address}" in errors or "nowhere.yaml:1: (file)" in errors

    def test_check_config_describes_the_part_of_a_shard(self, write):
        ids = [f"{number:032x}" for number in range(1, 121)]
        file = write(project(pipelines=ids))
        flags = ("--shard.index=0", "--shard.total=3")
        code, output, errors = command("check-config", file, *flags)
        assert (code, errors) == (0, "")
        own = [
            identity for identity in ids if Shard(0, 3).owns("codearts", project()["project_id"], identity)
        ]
        lines = output.splitlines()
        assert lines[:4] == [
            f"{file} is valid: 1 project, 120 pipelines",
            f"shard 0 of 3, counted from 0, has {len(own)} of them; the lines below describe its part",
            f"payments (codearts, http://127.0.0.1:1): {len(own)} pipelines",
            "  1 request a refresh, 1 a minute, plus:",
        ]
        assert lines[-1].startswith(f"series: about {len(own) * 88 + 130} ")

    @pytest.mark.parametrize(
        ("changes", "share", "project_line"),
        [
            (
                {"pipelines": []},
                "about 1/3 of those discovered",
                "every pipeline discovered that the shard owns",
            ),
            (
                {"discover": {}},
                "0 of those listed, and about 1/3 of those discovered",
                "0 pipelines and those discovered that the shard owns",
            ),
        ],
    )
    def test_check_config_describes_the_part_of_a_shard_with_discovery(
        self, write, changes, share, project_line
    ):
        """Listing takes as many requests as without shards."""
        flags = ("--shard.index=0", "--shard.total=3")
        code, output, errors = command("check-config", write(project(**changes)), *flags)
        assert (code, errors) == (0, "")
        lines = output.splitlines()
        assert f"shard 0 of 3, counted from 0, has {share}; the lines below describe its part" in lines
        assert f"payments (codearts, http://127.0.0.1:1): {project_line}" in lines
        assert (
            "  with 1000 pipelines in the project, about 334 of them watched: about 7.4 a minute, plus:"
            in lines
        )


@pytest.mark.parametrize("name", ["run", "check-config", "once"])
def test_every_configuration_error_is_printed(write, name):
    """Errors have file, line and key; the exit code is 2."""
    file = write(
        project(region="nowhere", endpoint=None, project_id="a b", colour="red"), poll={"interval": "1"}
    )
    code, output, errors = command(name, "--config.file", file)
    assert (code, output) == (2, "")
    lines = errors.splitlines()
    assert len(lines) == 4
    assert all(re.match(rf"{re.escape(file)}:\d+: [a-z_.\[\]0-9]+: .+ \(.+\)$", line) for line in lines)


def test_missing_configuration_file_exits_with_2(tmp_path):
    code, _, errors = command("run", "--config.file", str(tmp_path / "none.yaml"))
    assert code == 2
    assert "none.yaml:1: (file): cannot be read: No such file or directory" in errors


PASSWORD = {"method": "password", "domain": "company", "username": "exporter", "password": "opensesame"}
LISTING = "1 for each 100 pipelines of the project, and 1 for the end of the list"
ESTIMATED_FOR = (
    "estimated for 5 stages, and runs that succeeded and failed; a pipeline that is red has 1 more, and 1 for each stage "
    "that failed"
)

RUNS = (
    "  - runs that started and ended between two polls, or that a newer run hides: 1 for all of a pipeline",
    "  - other runs in progress when a running pipeline is first polled: 1 for each pipeline",
)


class TestCheckConfig:
    """`check-config` describes a configuration."""

    def test_requests_and_series_are_printed(self, write):
        ids = [f"{number:032x}" for number in range(1, 121)]
        file = write(
            project(pipelines=ids), project(name="mobile", pipelines=["f" * 32]), poll={"interval": "30s"}
        )
        code, output, errors = command("check-config", file)
        assert (code, errors) == (0, "")
        assert output.splitlines() == [
            f"{file} is valid: 2 projects, 121 pipelines",
            "payments (codearts, http://127.0.0.1:1): 120 pipelines",
            "  3 requests a refresh, 6 a minute, plus:",
            "  - running pipelines: every 15s, 1 for each 50 of them (up to 4 a minute)",
            f"  - names that are not configured: at the start and every hour, {LISTING}",
            *RUNS,
            "mobile (codearts, http://127.0.0.1:1): 1 pipeline",
            "  1 request a refresh, 2 a minute, plus:",
            "  - running pipelines: every 15s, 1 for each 50 of them (up to 4 a minute)",
            f"  - names that are not configured: at the start and every hour, {LISTING}",
            *RUNS,
            "state: none; counters begin at 0 after each start (see state.path)",
            f"series: about 10908 ({ESTIMATED_FOR})",
        ]

    def test_max_series_is_printed(self, write):
        _, output, _ = command("check-config", write(project(), limits={"max_series": 1000}))
        assert "\nlimits.max_series: at most 1000 series of each project are exposed\n" in output

    def test_discovery_is_described_by_an_example(self, write):
        """The number of pipelines is unknown."""
        code, output, errors = command("check-config", write(project(pipelines=[])))
        assert (code, errors) == (0, "")
        assert "is valid: 1 project, pipelines to be discovered\n" in output
        assert output.splitlines()[1:] == [
            "payments (codearts, http://127.0.0.1:1): every pipeline discovered",
            "  requests of a refresh, every 1m: 1 for each 50 pipelines",
            f"  but every 10m a refresh lists the project instead: {LISTING}",
            "  with 1000 pipelines in the project, all of them watched: about 19.1 a minute, plus:",
            "  - running pipelines: every 15s, 1 for each 50 of them (up to 4 a minute)",
            *RUNS,
            "state: none; counters begin at 0 after each start (see state.path)",
            f"series: about 130, and about 88 for each pipeline discovered ({ESTIMATED_FOR})",
        ]

    def test_configured_pipelines_with_discovery_are_described(self, write):
        file = write(project(discover={"interval": "1m"}), poll={"chunk_size": 1})
        code, output, errors = command("check-config", file)
        assert (code, errors) == (0, "")
        assert "1 project, 1 pipeline and those to be discovered" in output
        assert "payments (codearts, http://127.0.0.1:1): 1 pipeline and those discovered" in output
        assert f"requests of a refresh, every 1m, which lists the project: {LISTING}" in output
        assert "every 15s, 1 for each (up to 4 a minute)" in output

    @pytest.mark.parametrize(
        ("details", "message"),
        [("none", "5 stages, and runs"), ("jobs", "5 stages of one job, and"), ("steps", "5 stages of one job of two steps, and")],
    )  # fmt: skip
    def test_requests_and_series_of_details_are_printed(self, write, details, message):
        _, output, _ = command("check-config", write(project(), metrics={"details": details}))
        line = "- metrics.details: 1 for each run that is new or has changed since the last poll"
        assert (line in output) is (details != "none")
        assert f"(estimated for {message}" in output

    def test_configured_names_take_no_requests(self, write):
        file = write(project(pipelines=[{"id": "f" * 32, "name": "checkout"}]))
        assert "names that are not configured" not in command("check-config", file)[1]

    def test_longer_active_interval_counts_as_the_interval(self, write):
        file = write(project(), poll={"active_interval": "5m", "interval": "2m"})
        assert "every 2m, 1 for each 50 of them (up to 0.5 a minute)" in command("check-config", file)[1]

    def test_config_file_flag_before_or_after_the_command(self, write):
        file = write(project())
        assert command("check-config", "--config.file", file) == command(
            "--config.file", file, "check-config"
        )
        assert command("check-config", "--config.file", file)[0] == 0

    def test_missing_region_for_iam_is_a_configuration_error(self, write):
        """Otherwise the first request would fail."""
        file = write(project(auth=PASSWORD))
        for name in ("check-config", "run", "once"):
            code, output, errors = command(name, file)
            assert (code, output) == (2, "")
            assert re.fullmatch(
                rf"{re.escape(file)}:\d+: projects\[0\].auth: iam_project is missing \(.*region.*\)\n", errors
            )


class TestAuthorities:
    """Unusable certificate authorities: a message before any request, and exit code 2."""

    def test_unusable_ssl_cert_file_is_reported(self, write, tmp_path):
        bad = tmp_path / "authorities.pem"
        bad.write_text("no certificate")
        code, output, errors = command(
            "once", "--config.file", write(project()), environment={"SSL_CERT_FILE": str(bad)}
        )
        assert (code, output) == (2, "")
        assert "cannot load the certificate authorities of SSL_CERT_FILE or SSL_CERT_DIR" in errors
        assert "Traceback" not in errors

    def test_unusable_ca_file_is_reported(self, write):
        """A file without a certificate is a configuration error; one damaged inside is reported when it is loaded."""
        file = write(project(tls={"ca_file": "authorities.pem"}))
        authorities = Path(file).parent / "authorities.pem"
        authorities.write_text("no certificate")
        for name in ("once", "check-config"):
            code, _, errors = command(name, "--config.file", file)
            assert code == 2
            assert f"projects[0].tls.ca_file: {authorities} holds no whole certificate" in errors
        authorities.write_text("-----BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATE-----\n")
        code, output, errors = command("once", "--config.file", file)
        assert (code, output) == (2, "")
        assert f"cannot load the certificate authorities of tls.ca_file {authorities}" in errors
        assert "Traceback" not in errors


class TestOnce:
    """`once` polls everything once and prints the page."""

    def test_page_is_printed(self, write, cloud):
        code, output, errors = command("once", "--config.file", write(cloud.project()))
        assert (code, errors) == (0, "")
        samples = Samples(output)
        assert len(samples.get("ci_pipeline_up")) == 30
        assert samples.value("pipeline_exporter_project_up") == 1

    def test_failed_project_exits_with_1_after_the_page(self, write, cloud):
        file = write(
            cloud.project(), project(name="dead", endpoint="http://127.0.0.1:9"), poll={"timeout": "1s"}
        )
        code, output, errors = command("once", "--config.file", file)
        assert code == 1
        assert "poll failed" in errors
        samples = Samples(output)
        assert samples.value("pipeline_exporter_project_up", project="payments") == 1
        assert samples.value("pipeline_exporter_project_up", project="dead") == 0


@pytest.mark.parametrize("name", ["once", "discover"])
def test_progress_bar_counts_pipelines_on_a_terminal(write, cloud, name):
    """The progress bar is erased at the end."""
    file = write(cloud.project(pipelines=[]))
    controller, terminal = pty.openpty()
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    process = subprocess.Popen(
        [sys.executable, "-m", "exporter", name, "--config.file", file],
        stdout=subprocess.DEVNULL,
        stderr=terminal,
    )
    os.close(terminal)
    shown = b""
    try:
        while chunk := os.read(controller, 4096):
            shown += chunk
    except OSError:
        pass  # the terminal's end
    os.close(controller)
    assert process.wait() == 0
    counts = [(int(done), int(total)) for done, total in re.findall(rb"(\d+)/(\d+) pipelines", shown)]
    assert all(done <= total <= 30 for done, total in counts)
    assert b"30 listed" in shown
    # The only line is erased at the end.
    assert shown.count(b"\n") == 1
    assert shown.endswith(b"\x1b[1A\x1b[2K")
