"""Commands and flags as a user types them: what is printed, and the exit code."""

import re

import pytest
import yaml

from exporter import __version__
from tests.running import Samples, command
from tests.support import project


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


class TestCheckConfig:
    """`check-config` says what a configuration means."""

    def test_what_it_means(self, write):
        ids = [f"{number:032x}" for number in range(120)]
        file = write(
            project(pipelines=ids), project(name="mobile", pipelines=["f" * 32]), poll={"interval": "30s"}
        )
        code, output, errors = command("check-config", file)
        assert (code, errors) == (0, "")
        assert f"{file} is valid: 2 projects, 121 pipelines" in output
        assert "payments (codearts, http://127.0.0.1:1): 120 pipelines" in output
        assert "requests: 3 a refresh, 6 a minute" in output
        assert "requests: 1 a refresh, 2 a minute" in output
        assert "every 15s, 1 for each 50 pipelines under way" in output
        assert "warning" not in output

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
        ],
    )  # fmt: skip
    def test_warnings(self, write, changes, sections, words):
        """What is allowed and probably not meant is a warning, not a fault."""
        code, output, _ = command("check-config", write(project(**changes), **sections))
        assert code == 0
        assert [line for line in output.splitlines() if line.startswith("warning: ") and words in line]


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
