"""Commands, flags and exit codes.

Exit code 0 is success, 1 a failure outside of the exporter (a project, the port, the state), and 2 an invalid configuration
or usage.
"""

import argparse
import asyncio
import logging
import os
import platform
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Never

import yaml
from tqdm import tqdm

from exporter import __version__
from exporter.app import check_config, demo
from exporter.app.bootstrap import Exporter, assemble
from exporter.app.daemon import run
from exporter.app.scheduler import guarded_tick
from exporter.client.api_client import ApiError
from exporter.client.transport import SetupError
from exporter.config.project_section import ProjectSection
from exporter.core import logs
from exporter.core.clock import SystemClock
from exporter.core.redaction import redact
from exporter.core.shard import SHARDS, Shard, chosen
from exporter.exposition import Body, Format, Variant
from exporter.polling.membership import membership_hint
from exporter.polling.reporter import error_fields
from exporter.settings.load import ConfigError, load
from exporter.settings.settings import Config
from exporter.state.sqlite import StateError
from exporter.web.server import ListenError, listen

_COMMANDS = {
    "run": "poll and serve metrics (the default)",
    "check-config": "check FILE, and print the requests and series to expect",
    "once": "poll everything once and print the metrics",
    "discover": "print the pipelines in the provider's lists, for the configuration",
    "demo": "run on simulated clouds, without an account",
    "simulate": "run only the simulated clouds, and print a configuration for them",
}

_SHARED = frozenset({"run", "check-config", "once"})
"""Commands that use `--shard.index` and `--shard.total`."""

_log = logging.getLogger("exporter.cli")

_ADDRESS = re.compile(r"(\[[0-9a-fA-F:.]+\]|[^:\s\[\]]*):[0-9]{1,5}")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command and return its exit code."""
    parser = _parser(os.environ)
    flags = parser.parse_intermixed_args(arguments)
    if flags.file and flags.command != "check-config":
        parser.error(f"{flags.command} does not take FILE (use --config.file)")
    if flags.trouble is None and (flags.trouble_after is not None or flags.trouble_for is not None):
        parser.error("--trouble.after and --trouble.for need --trouble")
    try:
        flags.shard = _shard(flags)
    except ValueError as error:
        parser.error(str(error))
    logs.configure(flags.log_level, flags.log_format)
    try:
        return _COMMAND[flags.command](flags)
    except ConfigError as error:
        print(redact(str(error)), file=sys.stderr)
        return 2
    except (ListenError, StateError) as error:
        print(f"pipeline-exporter: {redact(str(error))}", file=sys.stderr)
        return 1
    except SetupError as error:
        print(f"pipeline-exporter: {redact(str(error))}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        # The daemons handle the signal themselves; other commands did not finish.
        return 130


def _parser(environment: Mapping[str, str]) -> argparse.ArgumentParser:
    commands = "\n".join(f"  {name:14}{text}" for name, text in _COMMANDS.items())
    parser = argparse.ArgumentParser(
        prog="pipeline-exporter",
        description="Prometheus exporter for CI/CD pipelines in the cloud.",
        epilog=f"commands:\n{commands}\n\nEach flag has an environment variable (--log.level: {_variable('log.level')}). "
        "If both are given, the flag wins.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("command", nargs="?", default="run", choices=_COMMANDS, metavar="COMMAND")
    parser.add_argument("file", nargs="?", metavar="FILE", help="the configuration file, for check-config")

    def flag(name: str, default: str | None, text: str, kind: Callable[[str], object] = str) -> None:
        shown = f" (default: {default})" if default else ""
        parser.add_argument(
            f"--{name}",
            dest=name.replace(".", "_").replace("-", "_"),
            metavar=name.rsplit(".", 1)[-1].upper(),
            type=kind,
            default=environment.get(_variable(name), default),
            help=text + shown,
        )

    flag("config.file", "config.yaml", "the configuration file")
    flag(
        "web.listen-address", None,
        "HOST:PORT to listen on; port 0 picks a free port (default: :10047; demo: 127.0.0.1:10047; simulate: 127.0.0.1:10048)",
        _address,
    )  # fmt: skip
    flag("web.telemetry-path", "/metrics", "path of the metrics", _path)
    flag(
        "shard.total", None,
        "number of exporters that share the configuration, each with a part of the pipelines",
        _whole(1, SHARDS),
    )  # fmt: skip
    flag(
        "shard.index", None,
        "index of this exporter, from 0 (default: the number at the end of a StatefulSet pod's name)",
        _whole(0, SHARDS - 1),
    )  # fmt: skip
    flag("log.level", "info", "debug, info, warning or error", _one_of(*logs.LEVELS))
    flag("log.format", "logfmt", "logfmt or json", _one_of(*logs.FORMATS))
    simulated = _whole(1, 100_000)
    flag("simulate.pipelines", "200", "for demo and simulate: pipelines of each cloud", simulated)
    flag("simulate.seed", "1", "for demo and simulate: seed of the random clouds", simulated)
    flag("trouble", None, f"for demo and simulate: {', '.join(demo.TROUBLES)}", _one_of(*demo.TROUBLES))
    flag("trouble.after", None, "time from the start until the trouble begins (default: 0s)", _duration)
    flag("trouble.for", None, "time that the trouble lasts (default: until the end)", _duration)
    version = f"pipeline-exporter, version {__version__} (python {platform.python_version()})"
    parser.add_argument("--version", action="version", version=version)
    return parser


def _variable(flag: str) -> str:
    return f"PIPELINE_EXPORTER_{re.sub('[.-]', '_', flag).upper()}"


def _one_of(*values: str) -> Callable[[str], str]:
    def read(text: str) -> str:
        if text not in values:
            raise argparse.ArgumentTypeError(f"{text!r} is not one of {', '.join(values)}")
        return text

    return read


def _duration(text: str) -> float:
    try:
        return demo.parse_delay(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _address(text: str) -> str:
    if not _ADDRESS.fullmatch(text):
        raise argparse.ArgumentTypeError(f"{text!r} is not HOST:PORT, such as :10047 or 127.0.0.1:0")
    return text


def _path(text: str) -> str:
    if text in {"/config", "/-/healthy", "/-/ready"}:
        raise argparse.ArgumentTypeError(
            f"{text!r} is used for another page (choose a path such as /metrics)"
        )
    if not re.fullmatch(r"/[A-Za-z0-9._~/-]*", text):
        raise argparse.ArgumentTypeError(f"{text!r} is not a path, such as /metrics")
    return text


def _whole(least: int, most: int) -> Callable[[str], int]:
    def read(text: str) -> int:
        if not text.isdecimal() or not least <= int(text) <= most:
            raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from {least} to {most}")
        return int(text)

    return read


def _shard(flags: argparse.Namespace) -> Shard | None:
    """Return the shard of a command; None for all pipelines.

    Raises:
        ValueError: the flags contradict each other.

    """
    if flags.command not in _SHARED:
        return None
    return chosen(flags.shard_index, flags.shard_total, platform.node())


def _config(flags: argparse.Namespace) -> Config:
    return load(Path(flags.config_file))


def _run(flags: argparse.Namespace) -> int:
    config = _config(flags)
    if flags.shard:
        _log.info("running as a shard", extra={"detail": f"index {flags.shard.index} of {flags.shard.total}"})
    listener = listen(flags.web_listen_address or ":10047")
    return asyncio.run(run(config, listener, flags.web_telemetry_path, shard=flags.shard))


def _check_config(flags: argparse.Namespace) -> int:
    file = Path(flags.file or flags.config_file)
    config = load(file)
    print(f"{file} is valid: {redact(check_config.report(config, flags.shard))}")
    return 0


def _once(flags: argparse.Namespace) -> int:
    config = _config(flags)
    exporter, page = asyncio.run(_poll_once(config, flags.shard))
    # Expositions are UTF-8 on every terminal.
    sys.stdout.buffer.writelines(page.chunks)
    return 0 if all(poller.up for poller in exporter.pollers) else 1


async def _poll_once(config: Config, shard: Shard | None) -> tuple[Exporter, Body]:
    with _progress_bar() as bar:
        exporter = assemble(config, SystemClock(), shard=shard, progress=bar.update)
        if not any(project.discovery for project in config.projects):
            bar.reset(sum(len(tracker.ids) for tracker in exporter.trackers))
        async with asyncio.TaskGroup() as polls:
            for poller in exporter.pollers:
                polls.create_task(guarded_tick(poller, once=True))
    await exporter.publisher.publish()
    page = await exporter.publisher.body(Variant(Format.TEXT, gzip=False))
    for poller in exporter.pollers:
        await poller.close()
    return exporter, page


def _progress_bar() -> "tqdm[Never]":
    """Return a bar on standard error, disabled where that is not a terminal."""
    return tqdm(unit=" pipelines", disable=None, leave=False)


def _discover(flags: argparse.Namespace) -> int:
    config = _config(flags)
    return asyncio.run(_print_pipelines(config))


async def _print_pipelines(config: Config) -> int:
    exporter = assemble(config, SystemClock())
    code = 0
    for project, poller in zip(config.projects, exporter.pollers, strict=True):
        try:
            with _progress_bar() as bar:
                names = await poller.list_pipelines(bar.update)
        except ApiError as error:
            _log.error(
                "cannot list pipelines",
                extra={"id": "discover-failed", "project": project.name, **error_fields(error)},
            )
            code = 1
            continue
        finally:
            await poller.close()
        if not names:
            _log.error(
                "no pipelines listed",
                extra={
                    "id": "no-pipelines-listed",
                    "project": project.name,
                    "reason": membership_hint(project),
                },
            )
            code = 1
        selected = {identity: name for identity, name in names.items() if _selects(project, name)}
        excluded = len(names) - len(selected)
        others = f", {excluded} others do not match discover" if excluded else ""
        print(f"# {project.name}: {len(selected)} pipelines{others}")
        entries = [_entry(identity, name) for identity, name in selected.items()]
        print(yaml.safe_dump({"pipelines": entries}, sort_keys=False, allow_unicode=True))
    return code


def _entry(identity: str, name: str) -> object:
    """Return a pipeline as an entry of the configuration, where `${` begins a variable."""
    return {"id": identity, "name": name.replace("${", "$${")} if name else identity


def _selects(project: ProjectSection, name: str) -> bool:
    return project.discovery is None or project.discovery.matches(name)


def _demo(flags: argparse.Namespace) -> int:
    listener = listen(flags.web_listen_address or "127.0.0.1:10047")
    return asyncio.run(demo.run_demo(listener, flags.web_telemetry_path, _simulation(flags)))


def _simulate(flags: argparse.Namespace) -> int:
    listener = listen(flags.web_listen_address or "127.0.0.1:10048")
    return asyncio.run(demo.simulate(listener, _simulation(flags)))


def _simulation(flags: argparse.Namespace) -> demo.Simulation:
    return demo.Simulation(
        seed=flags.simulate_seed,
        pipelines=flags.simulate_pipelines,
        trouble=flags.trouble,
        after=flags.trouble_after or 0.0,
        duration=flags.trouble_for,
    )


_COMMAND: dict[str, Callable[[argparse.Namespace], int]] = {
    "run": _run,
    "check-config": _check_config,
    "once": _once,
    "discover": _discover,
    "demo": _demo,
    "simulate": _simulate,
}
