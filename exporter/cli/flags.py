"""The flags of all commands, their environment variables, and the checks of their values."""

import argparse
import re
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

import msgspec

from exporter.app import demo
from exporter.core import logs
from exporter.core.shard import SHARDS

_ADDRESS = re.compile(r"(\[[0-9a-fA-F:.]+\]|[^:\s\[\]]*):[0-9]{1,5}")
_TRUTH = {"true": True, "1": True, "false": False, "0": False}


class Flag(msgspec.Struct, frozen=True):
    """A flag of a command."""

    name: str
    text: str
    default: str | None = None
    read: Callable[[str], Any] = str
    """Function that parses the text of a value, or raises `argparse.ArgumentTypeError`."""
    switch: bool = False
    """Whether the flag takes no value."""
    source: bool = False
    """Whether the flag selects the input, as FILE does. Only one of these may be given."""

    @property
    def variable(self) -> str:
        """The environment variable of the flag."""
        return f"PIPELINE_EXPORTER_{re.sub('[.-]', '_', self.name).upper()}"

    @property
    def attribute(self) -> str:
        """Name of the attribute with the flag's value in the parsed arguments."""
        return re.sub("[.-]", "_", self.name)

    @property
    def help(self) -> str:
        """The flag's description for `--help`, with its default and environment variable."""
        default = f" (default: {self.default})" if self.default else ""
        return f"{self.text}{default} [{self.variable}]"

    def value(self, text: str | None) -> Any:
        """Return the value of the flag from the text of its environment variable, or its default if `text` is None."""
        if self.switch:
            return False if text is None else truth(text)
        given = self.default if text is None else text
        return None if given is None else self.read(given)


def one_of(*values: str) -> Callable[[str], str]:
    """Return a function that accepts only these values."""

    def read(text: str) -> str:
        if text not in values:
            raise argparse.ArgumentTypeError(f"{text!r} is not one of {', '.join(values)}")
        return text

    return read


def truth(text: str) -> bool:
    """Return the boolean value of a switch's environment variable."""
    if text.lower() not in _TRUTH:
        raise argparse.ArgumentTypeError(f"{text!r} is not true or false")
    return _TRUTH[text.lower()]


def address(text: str) -> str:
    """Return an address to listen on, after checking that it is HOST:PORT."""
    if not _ADDRESS.fullmatch(text):
        raise argparse.ArgumentTypeError(f"{text!r} is not HOST:PORT, such as :10047 or 127.0.0.1:0")
    return text


def path(text: str) -> str:
    """Return the URL path of the metrics, after checking that it is valid and not used for another page."""
    if text in {"/config", "/-/healthy", "/-/poll", "/-/ready", "/-/reload"}:
        raise argparse.ArgumentTypeError(
            f"{text!r} is used for another page (choose a path such as /metrics)"
        )
    if not re.fullmatch(r"/[A-Za-z0-9._~/-]*", text):
        raise argparse.ArgumentTypeError(f"{text!r} is not a path, such as /metrics")
    return text


def whole(least: int, most: int) -> Callable[[str], int]:
    """Return a function that parses a whole number within bounds."""

    def read(text: str) -> int:
        if not text.isdecimal() or not least <= int(text) <= most:
            raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from {least} to {most}")
        return int(text)

    return read


def delay(text: str) -> float:
    """Return the seconds of a duration that may be 0."""
    try:
        return demo.parse_delay(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def listen_address(default: str) -> Flag:
    """Return the flag for the address to listen on, whose default depends on the command."""
    return Flag("web.listen-address", "HOST:PORT to listen on; port 0 picks a free port", default, address)


def http_url(text: str) -> str:
    """Return the URL of an exporter, with `http://` added if it is left out."""
    url = text if "://" in text else f"http://{text}"
    try:
        parts = urlsplit(url)
        valid = (
            parts.scheme in {"http", "https"} and parts.hostname and (parts.port or 1) and url.isprintable()
        )
    except ValueError:
        valid = False
    if not valid or parts.query or parts.fragment:
        raise argparse.ArgumentTypeError("not an address such as http://127.0.0.1:10047")
    return url


def log_flags(level: str) -> tuple[Flag, ...]:
    """Return the flags for logging. `level` is the default log level."""
    return (
        Flag("log.level", "debug, info, warning or error", level, one_of(*logs.LEVELS)),
        Flag("log.format", "logfmt or json", "logfmt", one_of(*logs.FORMATS)),
    )


CONFIG_FILE = Flag("config.file", "the configuration file, instead of FILE", "config.yaml", source=True)
WEB_CONFIG_FILE = Flag(
    "web.config.file", "file with TLS, passwords, headers and a rate limit, in the format of exporter-toolkit"
)
POLL_TOKEN_FILE = Flag(
    "web.poll-token-file",
    "file with the token that enables POST /-/poll, by which a pipeline asks for a poll",
)
PROBE_LISTEN_ADDRESS = Flag(
    "web.probe-listen-address",
    "another HOST:PORT with /-/healthy and /-/ready only, without TLS and passwords",
    read=address,
)
ENABLE_LIFECYCLE = Flag(
    "web.enable-lifecycle", "let clients reload the configuration by POST /-/reload", switch=True
)
TELEMETRY_PATH = Flag("web.telemetry-path", "path of the metrics", "/metrics", path)
SHARDS_FLAGS = (
    Flag(
        "shard.total",
        "number of exporters that share the configuration, each with a part of the pipelines",
        read=whole(1, SHARDS),
    ),
    Flag(
        "shard.index",
        "index of this exporter, from 0 (default: the number at the end of a StatefulSet pod's name)",
        read=whole(0, SHARDS - 1),
    ),
)
LOG_FLAGS = log_flags("info")
SCHEMA = Flag("schema", "print the JSON Schema of a configuration, and check nothing", switch=True)
STRICT = Flag("strict", "exit with 2 if there are warnings, for CI", switch=True)
SIMULATE_FLAGS = (
    Flag("simulate.pipelines", "pipelines of each simulated cloud", "200", whole(1, 100_000)),
    Flag("simulate.seed", "seed of the simulated clouds", "1", whole(1, 100_000)),
    Flag(
        "trouble", f"trouble of the simulated clouds: {', '.join(demo.TROUBLES)}", read=one_of(*demo.TROUBLES)
    ),
    Flag("trouble.after", "time from the start until the trouble begins (default: 0s)", read=delay),
    Flag("trouble.for", "time that the trouble lasts (default: until the end)", read=delay),
)
FORMAT = Flag("format", "table, for people, or json", "table", one_of("table", "json"))
REPORT = Flag(
    "report",
    "file to write a report to, for a bug report: shapes of responses, without values, ids, names or secrets",
)
STATUS_FLAGS = (
    Flag(
        "url",
        "read the page of a running exporter at this address, instead of polling",
        read=http_url,
        source=True,
    ),
    FORMAT,
    Flag("fail-on", "red: exit with 3 if a pipeline is red", read=one_of("red")),
)
