"""Flags, usage errors and the help of each command."""

import re

import pytest

from exporter.cli.parser import COMMANDS, FLAGS, parse


def parsed(*arguments, **environment):
    return parse(arguments, environment)[0]


def printed(capsys, *arguments, **environment):
    """Return the exit code and both outputs of a parser that exits."""
    with pytest.raises(SystemExit) as ended:
        parse(arguments, environment)
    return ended.value.code, *capsys.readouterr()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--no-such-flag"], "unrecognized arguments: --no-such-flag"),
        (["no-such-command"], "'no-such-command' is not a command"),
        (["check-confg"], "'check-confg' is not a command, did you mean check-config?"),
        (["run", "--log.level=loud"], "argument --log.level: 'loud' is not one of debug, info, warning, error"),
        (["run", "--log.format=xml"], "argument --log.format: 'xml' is not one of logfmt, json"),
        (["run", "--web.listen-address=10047"], "argument --web.listen-address: '10047' is not HOST:PORT"),
        (["run", "--web.listen-address=localhost:http"], "'localhost:http' is not HOST:PORT"),
        (["run", "--web.telemetry-path=metrics"], "'metrics' is not a path, such as /metrics"),
        (["run", "--web.telemetry-path=/config"], "'/config' is used for another page"),
        (["demo", "--simulate.pipelines=0"], "'0' is not a whole number from 1 to 100000"),
        (["simulate", "--trouble=flood"], "'flood' is not one of outage, throttling, expired-token"),
        (["simulate", "--trouble=slow", "--trouble.after=2"], "write a number and a unit, such as 2s"),
        (["demo", "--trouble=slow", "--trouble.for=soon"], "'soon' is not a duration"),
        (["run", "--trouble=slow"], "unrecognized arguments: --trouble"),
        (["run", "--shard.index=-1", "--shard.total=3"], "'-1' is not a whole number from 0 to 999"),
        (["run", "--shard.index=0", "--shard.total=0"], "'0' is not a whole number from 1 to 1000"),
        (["run", "--shard.index=0", "--shard.total=three"], "'three' is not a whole number from 1 to 1000"),
        (["run", "--shard.index=0", "--shard.total=1001"], "'1001' is not a whole number from 1 to 1000"),
        (["run", "--config.file"], "argument --config.file: expected one argument"),
        (["demo", "config.yaml"], "unrecognized arguments: config.yaml"),
        (["once", "one.yaml", "two.yaml"], "unrecognized arguments: two.yaml"),
        (["once", "one.yaml", "--config.file", "two.yaml"], "FILE and --config.file are given (use one)"),
        (["once", "--web.telemetry-path=/metrics"], "unrecognized arguments: --web.telemetry-path=/metrics"),
        (["check-config", "--simulate.seed", "2"], "unrecognized arguments: --simulate.seed"),
    ],
)  # fmt: skip
def test_usage_error_is_one_line_that_names_the_help(capsys, arguments, message):
    program = "pipeline-exporter" + (f" {arguments[0]}" if arguments[0] in COMMANDS else "")
    code, output, errors = printed(capsys, *arguments)
    assert (code, output) == (2, "")
    assert re.fullmatch(rf"{program}: error: .*{re.escape(message)}.* \(see {program} --help\)\n", errors)


def test_wrong_environment_variable_is_a_usage_error(capsys):
    code, output, errors = printed(capsys, "once", PIPELINE_EXPORTER_LOG_LEVEL="loud")
    assert (code, output) == (2, "")
    assert errors == (
        "pipeline-exporter once: error: environment variable PIPELINE_EXPORTER_LOG_LEVEL: 'loud' is not one of debug, "
        "info, warning, error (see pipeline-exporter once --help)\n"
    )


def test_environment_variables_of_other_commands_are_ignored():
    assert parsed("once", PIPELINE_EXPORTER_WEB_LISTEN_ADDRESS="wrong").command == "once"


def test_flag_wins_over_its_environment_variable():
    environment = {"PIPELINE_EXPORTER_LOG_LEVEL": "loud", "PIPELINE_EXPORTER_LOG_FORMAT": "json"}
    flags = parsed("once", "--log.level", "debug", **environment)
    assert (flags.log_level, flags.log_format) == ("debug", "json")


@pytest.mark.parametrize(
    "arguments",
    [
        ["once", "own.yaml", "--log.level", "debug"],
        ["once", "--log.level", "debug", "own.yaml"],
        ["--log.level", "debug", "once", "own.yaml"],
        ["--log.level=debug", "once", "--config.file", "own.yaml"],
        ["--config.file", "own.yaml", "once", "--log.level=debug"],
    ],
)
def test_flags_and_file_may_stand_anywhere(arguments):
    flags = parsed(*arguments, PIPELINE_EXPORTER_CONFIG_FILE="other.yaml")
    assert (flags.command, flags.config_file, flags.log_level) == ("once", "own.yaml", "debug")


def test_run_is_the_default_command():
    flags = parsed("--web.listen-address", ":0")
    assert (flags.command, flags.web_listen_address, flags.config_file) == ("run", ":0", "config.yaml")


@pytest.mark.parametrize(
    ("name", "address"),
    [("run", ":10047"), ("demo", "127.0.0.1:10047"), ("simulate", "127.0.0.1:10048")],
)
def test_address_to_listen_on_depends_on_the_command(name, address):
    assert parsed(name).web_listen_address == address


@pytest.mark.parametrize(("name", "command"), COMMANDS.items(), ids=COMMANDS)
def test_help_of_a_command_has_its_flags_variables_and_exit_codes(capsys, name, command):
    code, output, errors = printed(capsys, name, "--help")
    assert (code, errors) == (0, "")
    assert output.startswith(f"usage: pipeline-exporter {name} ")
    assert ("FILE" in output) is command.takes_file
    assert set(re.findall(r"^  --([\w.-]+)", output, re.MULTILINE)) == {
        *(flag.name for flag in command.flags),
        "version",
    }
    for flag in command.flags:
        assert f"[{flag.variable}]" in output
        assert flag.default is None or f"(default: {flag.default})" in " ".join(output.split())
    for exit_code, meaning in command.exit_codes.items():
        assert f"\n  {exit_code}  {meaning}\n" in output


def test_help_without_a_command_lists_commands_and_the_flags_of_run(capsys):
    code, output, _ = printed(capsys, "--help")
    assert code == 0
    for name, command in COMMANDS.items():
        assert re.search(rf"^  {name} +{re.escape(command.summary)}$", output, re.MULTILINE)
    for flag in COMMANDS["run"].flags:
        assert f"--{flag.name}" in output


def test_every_flag_has_its_own_environment_variable():
    assert len({flag.variable for flag in FLAGS.values()}) == len(FLAGS)
