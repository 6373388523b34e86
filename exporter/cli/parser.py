"""Find the command in the arguments, parse its flags, and print its help.

Each command has a parser of its own, so that its help and errors are about this command only. Flags may stand before or
after the command.
"""

import argparse
import difflib
import platform
import textwrap
from collections.abc import Mapping, Sequence
from typing import Never

import msgspec

from exporter import __version__
from exporter.cli.flags import (
    CONFIG_FILE,
    ENABLE_LIFECYCLE,
    FORMAT,
    LOG_FLAGS,
    POLL_TOKEN_FILE,
    PROBE_LISTEN_ADDRESS,
    REPORT,
    SCHEMA,
    SHARDS_FLAGS,
    SIMULATE_FLAGS,
    STATUS_FLAGS,
    STRICT,
    TELEMETRY_PATH,
    WEB_CONFIG_FILE,
    Flag,
    listen_address,
    log_flags,
)

PROGRAM = "pipeline-exporter"
_WIDTH = 78
"""Columns of a description."""


class Command(msgspec.Struct, frozen=True):
    """A command: its flags, and the texts of its help."""

    summary: str
    description: str
    flags: tuple[Flag, ...]
    exit_codes: Mapping[int, str]
    takes_file: bool = False
    file: str = f"the configuration file (default: that of --{CONFIG_FILE.name})"


_INVALID = "the configuration or the command line is invalid"
_STOPPED = "stopped by SIGTERM or SIGINT"

COMMANDS = {
    "run": Command(
        "poll and serve metrics (the default)",
        "Poll the clouds, and serve metrics until SIGTERM or SIGINT.",
        (
            CONFIG_FILE,
            listen_address(":10047"),
            TELEMETRY_PATH,
            WEB_CONFIG_FILE,
            PROBE_LISTEN_ADDRESS,
            ENABLE_LIFECYCLE,
            POLL_TOKEN_FILE,
            *SHARDS_FLAGS,
            *LOG_FLAGS,
        ),
        {0: _STOPPED, 1: "cannot listen, or cannot use the state", 2: _INVALID},
        takes_file=True,
    ),
    "check-config": Command(
        "check FILE, and print the requests and series to expect",
        "Check a configuration, and print what it means: projects, pipelines, requests and series. Nothing is sent. "
        "Probable mistakes are printed as FILE:LINE: KEY: warning: problem.",
        (CONFIG_FILE, STRICT, SCHEMA, *SHARDS_FLAGS, *LOG_FLAGS),
        {
            0: "the configuration is valid",
            2: f"{_INVALID}, or --strict is given and there are warnings",
        },
        takes_file=True,
        file=f"the configuration file, - for standard input (default: that of --{CONFIG_FILE.name})",
    ),
    "once": Command(
        "poll everything once and print the metrics",
        "Poll everything once, and print the metrics on standard output. Nothing is counted or stored.",
        (CONFIG_FILE, *SHARDS_FLAGS, *LOG_FLAGS),
        {
            0: "every project answered",
            1: "a project failed; the metrics are printed nevertheless",
            2: _INVALID,
        },
        takes_file=True,
    ),
    "status": Command(
        "print what is red, running and waiting",
        "Print a line for each project, then the pipelines that are red, waiting, or running for unusually long. "
        "With --url, read the page of a running exporter. Otherwise poll everything once, without counting or "
        "storing anything.",
        (*STATUS_FLAGS, CONFIG_FILE, TELEMETRY_PATH, *SHARDS_FLAGS, *log_flags("warning")),
        {
            0: "every project is up",
            1: "a project is down, or --url does not answer",
            2: _INVALID,
            3: "with --fail-on red: every project is up, and a pipeline is red",
        },
        takes_file=True,
    ),
    "discover": Command(
        "print the pipelines in the provider's lists, for the configuration",
        "Print the pipelines that the provider lists for each project, as YAML to paste into the configuration.",
        (CONFIG_FILE, *LOG_FLAGS),
        {0: "every project listed pipelines", 1: "a project failed, or listed no pipelines", 2: _INVALID},
        takes_file=True,
    ),
    "doctor": Command(
        "ask each provider what works and what is missing",
        "Check each project step by step, from name resolution to the details of a run, then this machine. Everything is "
        "read-only. Where credentials are refused, no further request is sent. The first fault of a project is the "
        "cause of what follows.",
        (CONFIG_FILE, FORMAT, REPORT, listen_address(":10047"), *log_flags("warning")),
        {0: "no check found a fault", 1: "a check found a fault", 2: _INVALID},
        takes_file=True,
    ),
    "demo": Command(
        "run on simulated clouds, without an account",
        "Run simulated clouds in this process, and the exporter on them. No account is needed.",
        (listen_address("127.0.0.1:10047"), TELEMETRY_PATH, *SIMULATE_FLAGS, *LOG_FLAGS),
        {0: _STOPPED, 1: "cannot listen", 2: "the command line is invalid"},
    ),
    "simulate": Command(
        "run only the simulated clouds, and print a configuration for them",
        "Run the simulated clouds alone, and print a configuration that polls them.",
        (listen_address("127.0.0.1:10048"), *SIMULATE_FLAGS, *LOG_FLAGS),
        {0: _STOPPED, 1: "cannot listen", 2: "the command line is invalid"},
    ),
}

FLAGS = {flag.name: flag for command in COMMANDS.values() for flag in command.flags}
"""The flags of all commands by name. If commands give a flag different defaults, this has only one of them."""


class Parser(argparse.ArgumentParser):
    """Argument parser that reports a usage error in one line."""

    def error(self, message: str) -> Never:
        """Print a usage error with a pointer to the help, and exit with 2."""
        self.exit(2, f"{self.prog}: error: {message} (see {self.prog} --help)\n")


def parse(arguments: Sequence[str], environment: Mapping[str, str]) -> tuple[argparse.Namespace, Parser]:
    """Return the values of all flags of the command, and the parser, with which the caller can report further errors.

    Prints and exits on `--help`, `--version` and usage errors.
    """
    name, rest = _split(arguments)
    if name is not None and name not in COMMANDS:
        near = difflib.get_close_matches(name, COMMANDS, 1)
        hint = f", did you mean {near[0]}?" if near else ""
        _main_parser().error(f"{name!r} is not a command{hint}")
    command = COMMANDS[name or "run"]
    parser = _main_parser() if name is None else _command_parser(name)
    values = parser.parse_intermixed_args(rest)
    file = getattr(values, "file", None)
    sources = [flag for flag in command.flags if flag.source and flag.attribute in values]
    given = [*(["FILE"] if file else []), *(f"--{flag.name}" for flag in sources)]
    if len(given) > 1:
        parser.error(f"{' and '.join(given)} are given (use one)")
    for flag in command.flags:
        if flag.attribute not in values:
            text = None if flag.source and given else environment.get(flag.variable)
            try:
                setattr(values, flag.attribute, flag.value(text))
            except argparse.ArgumentTypeError as error:
                parser.error(f"environment variable {flag.variable}: {error}")
    values.command = name or "run"
    if file:
        values.config_file = file
    return values, parser


def _split(arguments: Sequence[str]) -> tuple[str | None, list[str]]:
    """Return the command (None if missing), and the other arguments."""
    index = 0
    while index < len(arguments):
        argument = arguments[index]
        if not argument.startswith("-"):
            return argument, [*arguments[:index], *arguments[index + 1 :]]
        flag = FLAGS.get(argument.removeprefix("--"))
        index += 2 if flag is not None and not flag.switch else 1
    return None, list(arguments)


def _command_parser(name: str) -> Parser:
    command = COMMANDS[name]
    codes = "\n".join(f"  {code}  {meaning}" for code, meaning in command.exit_codes.items())
    file = " [FILE]" if command.takes_file else ""
    parser = Parser(
        prog=f"{PROGRAM} {name}",
        usage=f"{PROGRAM} {name}{file} [flags]",
        description=textwrap.fill(command.description, _WIDTH),
        epilog=f"exit codes:\n{codes}\n\nA flag wins over its environment variable, which is given in brackets.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
        add_help=False,
    )
    if command.takes_file:
        parser.add_argument_group("arguments").add_argument(
            "file", nargs="?", default=None, metavar="FILE", help=command.file
        )
    _add_flags(parser, command)
    return parser


def _main_parser() -> Parser:
    commands = "\n".join(f"  {name:14}{command.summary}" for name, command in COMMANDS.items())
    parser = Parser(
        prog=PROGRAM,
        usage=f"{PROGRAM} [COMMAND] [FILE] [flags]",
        description="Prometheus exporter for CI/CD pipelines in the cloud.\n\n"
        f"commands:\n{commands}\n\n"
        f"'{PROGRAM} COMMAND --help' describes a command, its flags and exit codes. The flags below are those of run.",
        epilog="Each flag has an environment variable, given in brackets. If both are given, the flag wins.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
        add_help=False,
    )
    _add_flags(parser, COMMANDS["run"])
    return parser


def _add_flags(parser: Parser, command: Command) -> None:
    group = parser.add_argument_group("flags")
    for flag in command.flags:
        if flag.switch:
            group.add_argument(
                f"--{flag.name}",
                dest=flag.attribute,
                action="store_true",
                default=argparse.SUPPRESS,
                help=flag.help,
            )
        else:
            group.add_argument(
                f"--{flag.name}",
                dest=flag.attribute,
                metavar=flag.name.rsplit(".", 1)[-1].upper(),
                type=flag.read,
                default=argparse.SUPPRESS,
                help=flag.help,
            )
    group.add_argument("-h", "--help", action="help", help="print this help")
    version = f"{PROGRAM}, version {__version__} (python {platform.python_version()})"
    group.add_argument("--version", action="version", version=version, help="print the version")
