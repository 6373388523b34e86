"""Commands and flags as a user types them: what is printed, and the exit code."""

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
    """Writes a configuration, returns its path."""

    def write(*projects, **sections):
        file = tmp_path / "config.yaml"
        file.write_text(yaml.safe_dump({**sections, "projects": list(projects)}))
        return str(file)

    return write


def test_version():
    code, output, _ = command("--version")
    assert code == 0
    assert output.startswith(f"pipeline-exporter, version {__version__} (python 3.")


def test_help_names_every_command():
    code, output, _ = command("--help")
    assert code == 0
    for name in ("run", "check-config", "once", "demo", "simulate"):
        assert re.search(rf"^  {name} ", output, re.MULTILINE)


@pytest.mark.parametrize(
    "arguments",
    [
        ["--no-such-flag"],
        ["no-such-command"],
        ["run", "--log.level=loud"],
        ["run", "--log.format=xml"],
        ["run", "--web.listen-address=10047"],
        ["run", "--web.listen-address=localhost:http"],
        ["run", "--web.telemetry-path=metrics"],
        ["run", "--web.telemetry-path=/config"],
        ["demo", "--simulate.pipelines=0"],
        ["run", "--shard.index=-1", "--shard.total=3"],
        ["run", "--shard.index=0", "--shard.total=0"],
        ["run", "--shard.index=0", "--shard.total=three"],
        ["run", "--shard.index=0", "--shard.total=1001"],
        ["run", "config.yaml"],
    ],
)
def test_wrong_usage(arguments):
    """Usage errors exit with 2 and say what is wrong."""
    code, output, errors = command(*arguments)
    assert (code, output) == (2, "")
    assert "error:" in errors
    assert "Traceback" not in errors


def test_a_wrong_flag_in_the_environment():
    """The environment variable of a flag is checked as the flag is."""
    code, _, errors = command("check-config", environment={"PIPELINE_EXPORTER_LOG_LEVEL": "loud"})
    assert code == 2
    assert "'loud' is none of debug, info, warning, error" in errors


class TestShards:
    """`--shard.index` and `--shard.total`, or what stands for them."""

    @pytest.mark.parametrize("name", ["run", "check-config", "once"])
    @pytest.mark.parametrize(
        ("flags", "words"),
        [
            (["--shard.index=0"], "--shard.index 0 without --shard.total"),
            (["--shard.index=3", "--shard.total=3"], "--shard.index 3 is not below --shard.total 3"),
        ],
    )
    def test_flags_that_mean_no_shard(self, write, name, flags, words):
        """Usage errors, told before anything is asked."""
        code, output, errors = command(name, "--config.file", write(project()), *flags)
        assert (code, output) == (2, "")
        assert f"error: {words}" in errors

    @pytest.mark.parametrize(
        ("host", "code", "words"),
        [
            ("pipeline-exporter-2", 0, "shard 2 of 3, counted from 0, has "),
            ("pipeline-exporter-3", 2, "ordinal of this machine's name 'pipeline-exporter-3' is not below"),
            ("laptop", 2, "machine's name 'laptop' does not end in the ordinal of a StatefulSet's pod"),
        ],
    )
    def test_the_name_of_the_pod_tells_the_index(self, write, monkeypatch, capsys, host, code, words):
        """With `--shard.total` alone, here from the environment."""
        monkeypatch.setattr("platform.node", lambda: host)
        monkeypatch.setattr("exporter.core.logs.configure", lambda *_: None)
        monkeypatch.setenv("PIPELINE_EXPORTER_SHARD_TOTAL", "3")
        with pytest.raises(SystemExit) as ended:
            sys.exit(main(["check-config", write(project())]))
        assert ended.value.code == code
        printed = capsys.readouterr()
        assert words in (printed.err if code else printed.out)

    @pytest.mark.parametrize("name", ["discover", "simulate", "demo"])
    def test_other_commands_know_no_shards(self, name):
        """What does not concern them is no fault: the next is told, an address that is none to listen on."""
        environment = {"PIPELINE_EXPORTER_SHARD_TOTAL": "3"}
        address = "192.0.2.1:1"
        flags = ["--web.listen-address", address, "--config.file", "nowhere.yaml"]
        code, _, errors = command(name, *flags, environment=environment)
        assert code in {1, 2}
        assert f"cannot listen on {address}" in errors or "nowhere.yaml:1: (file)" in errors

    def test_what_a_shard_has(self, write):
        """Of a list it is known."""
        ids = [f"{number:032x}" for number in range(120)]
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
            f"shard 0 of 3, counted from 0, has {len(own)} of them; what follows is its part",
            f"payments (codearts, http://127.0.0.1:1): {len(own)} pipelines",
            "  1 request a refresh, 1 a minute; besides",
        ]
        assert lines[-1].startswith(f"series: about {len(own) * 88 + 80} ")

    @pytest.mark.parametrize(
        ("changes", "share", "project_line"),
        [
            ({"pipelines": []}, "about 1/3 of those discovered", "every pipeline discovered that is its own"),
            (
                {"discover": {}},
                "0 of those listed, and about 1/3 of those discovered",
                "0 pipelines and those discovered that are its own",
            ),
        ],
    )
    def test_what_a_shard_has_of_what_is_discovered(self, write, changes, share, project_line):
        """About its part; the listing takes what it takes without shards."""
        flags = ("--shard.index=0", "--shard.total=3")
        code, output, errors = command("check-config", write(project(**changes)), *flags)
        assert (code, errors) == (0, "")
        lines = output.splitlines()
        assert f"shard 0 of 3, counted from 0, has {share}; what follows is its part" in lines
        assert f"payments (codearts, http://127.0.0.1:1): {project_line}" in lines
        assert (
            "  with 1000 pipelines in the project, about 334 of them watched: about 7.4 a minute; besides"
            in lines
        )


@pytest.mark.parametrize("name", ["run", "check-config", "once"])
def test_every_fault_is_told(write, name):
    """A bad configuration: exit 2 and every fault, on standard error, each with file, line and key."""
    file = write(
        project(region="nowhere", endpoint=None, project_id="a b", colour="red"), poll={"interval": "1"}
    )
    code, output, errors = command(name, "--config.file", file)
    assert (code, output) == (2, "")
    lines = errors.splitlines()
    assert len(lines) == 4
    assert all(re.match(rf"{re.escape(file)}:\d+: [a-z_.\[\]0-9]+: .+ \(.+\)$", line) for line in lines)


def test_a_file_that_is_not_there(tmp_path):
    code, _, errors = command("run", "--config.file", str(tmp_path / "none.yaml"))
    assert code == 2
    assert "none.yaml:1: (file): cannot be read: No such file or directory" in errors


PASSWORD = {"method": "password", "domain": "company", "username": "exporter", "password": "opensesame"}
LISTING = "1 for each 100 pipelines of the project, and 1 to see the end"
RUNS = (
    "  - for runs that began and ended between two polls, or that a newer one hides: 1 for all of a pipeline's",
    "  - for what else is under way at the first sight of a running pipeline: 1 for each",
)


class TestCheckConfig:
    """`check-config` says what a configuration means."""

    def test_what_it_means(self, write):
        ids = [f"{number:032x}" for number in range(120)]
        file = write(
            project(pipelines=ids), project(name="mobile", pipelines=["f" * 32]), poll={"interval": "30s"}
        )
        code, output, errors = command("check-config", file)
        assert (code, errors) == (0, "")
        assert output.splitlines() == [
            f"{file} is valid: 2 projects, 121 pipelines",
            "payments (codearts, http://127.0.0.1:1): 120 pipelines",
            "  3 requests a refresh, 6 a minute; besides",
            "  - for running pipelines: every 15s, 1 for each 50 of them (up to 4 a minute)",
            f"  - for names that are not given: at the start and every hour, {LISTING}",
            *RUNS,
            "mobile (codearts, http://127.0.0.1:1): 1 pipeline",
            "  1 request a refresh, 2 a minute; besides",
            "  - for running pipelines: every 15s, 1 for each 50 of them (up to 4 a minute)",
            f"  - for names that are not given: at the start and every hour, {LISTING}",
            *RUNS,
            "state: none, so that counters begin at 0 with each start (see state.path)",
            "series: about 10808 (reckoned with 5 stages, and runs that succeeded and failed)",
        ]

    def test_what_a_limit_means(self, write):
        """It is told, since it decides what the page shows."""
        _, output, _ = command("check-config", write(project(), limits={"max_series": 1000}))
        assert "\nlimits.max_series: of each project at most 1000 are shown\n" in output

    def test_what_discovery_means(self, write):
        """How many there will be is not known: it tells what each takes, and an example."""
        code, output, errors = command("check-config", write(project(pipelines=[])))
        assert (code, errors) == (0, "")
        assert "is valid: 1 project, pipelines to be discovered\n" in output
        assert output.splitlines()[1:] == [
            "payments (codearts, http://127.0.0.1:1): every pipeline discovered",
            "  requests of a refresh, every 1m: 1 for each 50 pipelines",
            f"  but every 10m one lists the project instead: {LISTING}",
            "  with 1000 pipelines in the project, all of them watched: about 19.1 a minute; besides",
            "  - for running pipelines: every 15s, 1 for each 50 of them (up to 4 a minute)",
            *RUNS,
            "state: none, so that counters begin at 0 with each start (see state.path)",
            "series: about 80, and about 88 for each pipeline discovered (reckoned with 5 stages, and runs that succeeded and failed)",
        ]

    def test_what_a_list_beside_discovery_means(self, write):
        file = write(project(discover={"interval": "1m"}), poll={"chunk_size": 1})
        code, output, errors = command("check-config", file)
        assert (code, errors) == (0, "")
        assert "1 project, 1 pipeline and those to be discovered" in output
        assert "payments (codearts, http://127.0.0.1:1): 1 pipeline and those discovered" in output
        assert f"requests of a refresh, every 1m, which lists the project: {LISTING}" in output
        assert "every 15s, 1 for each (up to 4 a minute)" in output

    @pytest.mark.parametrize(
        ("details", "words"),
        [("none", "5 stages, and runs"), ("jobs", "5 stages of one job, and"), ("steps", "5 stages of one job of two steps, and")],
    )  # fmt: skip
    def test_what_details_mean(self, write, details, words):
        """A request for each change, and the series of jobs and steps."""
        _, output, _ = command("check-config", write(project(), metrics={"details": details}))
        told = (
            "- for metrics.details: 1 for each run that is new, or has changed since the poll before"
            in output
        )
        assert told is (details != "none")
        assert f"(reckoned with {words}" in output

    def test_names_that_are_given_cost_nothing(self, write):
        file = write(project(pipelines=[{"id": "f" * 32, "name": "checkout"}]))
        assert "for names" not in command("check-config", file)[1]

    def test_an_active_interval_that_is_longer(self, write):
        """It counts as the interval."""
        file = write(project(), poll={"active_interval": "5m", "interval": "2m"})
        assert "every 2m, 1 for each 50 of them (up to 0.5 a minute)" in command("check-config", file)[1]

    def test_the_file_by_flag_before_or_after_the_command(self, write):
        file = write(project())
        assert command("check-config", "--config.file", file) == command(
            "--config.file", file, "check-config"
        )
        assert command("check-config", "--config.file", file)[0] == 0

    @pytest.mark.parametrize(
        ("changes", "sections", "words"),
        [
            ({"pipelines": [f"{n:032x}" for n in range(5000)]}, {}, "series are more than a scrape should carry"),
            ({"pipelines": [f"{n:032x}" for n in range(500)], "rate_limit": {"requests_per_second": 0.1}}, {"poll": {"chunk_size": 10}}, "a refresh takes 300 s under rate_limit"),
            ({}, {"poll": {"max_age": "30s"}}, "poll.max_age is below poll.interval"),
            ({"endpoint": "http://pipeline.example.com"}, {}, "is not encrypted"),
            ({"pipelines": ["short"]}, {}, "short is not 32 characters long"),
            ({"project_id": "short"}, {}, "project_id short is not 32 characters long"),
            ({"auth": {"method": "token", "token_file": "nowhere"}}, {}, "cannot read the secret file"),
            ({"proxy_file": "nowhere"}, {}, "cannot read the secret file"),
            ({"auth": {**PASSWORD, "iam_project": "one", "iam_endpoint": "http://iam.example.com"}}, {}, "payments: http://iam.example.com is not encrypted"),
            ({"discover": {"interval": "30s"}}, {}, "payments: discover.interval (30s) is below poll.interval (1m)"),
            ({"url_template": "https://devcloud.example.com/{project_id}"}, {}, "url_template has no {pipeline_id}"),
            ({"tls": {"insecure_skip_verify": True}}, {}, "payments: tls.insecure_skip_verify: whoever is in between"),
        ],
    )  # fmt: skip
    def test_warnings(self, write, changes, sections, words):
        """What is allowed and probably not meant is a warning, not a fault."""
        code, output, _ = command("check-config", write(project(**changes), **sections))
        assert code == 0
        assert [line for line in output.splitlines() if line.startswith("warning: ") and words in line]

    def test_no_warnings(self, write):
        """What is common is none: the metadata service, loopback, a listing as often as a refresh."""
        file = write(
            project(
                auth={"method": "metadata"},
                pipelines=["f" * 32],
                discover={"interval": "1m"},
                url_template="https://devcloud.example.com/{pipeline_id}",
                proxy="http://user:opensesame@proxy.example.com:3128",
            )
        )
        code, output, errors = command("check-config", file)
        assert (code, errors) == (0, "")
        assert "warning: " not in output
        assert "opensesame" not in output

    def test_a_region_that_only_iam_needs(self, write):
        """What would fail at the first request is a fault of the configuration, with its line."""
        file = write(project(auth=PASSWORD))
        for name in ("check-config", "run", "once"):
            code, output, errors = command(name, "--config.file", file)
            assert (code, output) == (2, "")
            assert re.fullmatch(
                rf"{re.escape(file)}:\d+: projects\[0\].auth: iam_project is missing \(.*region.*\)\n", errors
            )


class TestAuthorities:
    """Certificate authorities that cannot be used: words before anything is asked, and exit 2."""

    def test_of_the_environment(self, write, tmp_path):
        bad = tmp_path / "authorities.pem"
        bad.write_text("no certificate")
        code, output, errors = command(
            "once", "--config.file", write(project()), environment={"SSL_CERT_FILE": str(bad)}
        )
        assert (code, output) == (2, "")
        assert "cannot load the certificate authorities of SSL_CERT_FILE or SSL_CERT_DIR" in errors
        assert "Traceback" not in errors

    def test_of_the_configuration(self, write):
        """A file without a certificate is a fault of the configuration; one damaged deeper is told when it is loaded."""
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

    def test_it_works(self, write, cloud):
        code, output, errors = command("once", "--config.file", write(cloud.project()))
        assert (code, errors) == (0, "")
        samples = Samples(output)
        assert len(samples.get("ci_pipeline_up")) == 30
        assert samples.value("pipeline_exporter_project_up") == 1

    def test_a_project_fails(self, write, cloud):
        """It prints what there is, and exits with 1."""
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
def test_a_progress_bar_where_standard_error_is_a_terminal(write, cloud, name):
    """On a terminal the pipelines are counted as they come, and nothing of it is left at the end."""
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
    assert b"30 pipelines [" in shown or b"0 pipelines [" in shown
    assert shown.endswith(b"\r")
