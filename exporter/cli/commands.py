"""Commands and exit codes.

Exit code 0 is success, 1 a failure outside of the exporter (a project, the port, the state), and 2 an invalid configuration
or usage.
"""

import argparse
import asyncio
import logging
import os
import platform
import sys
from collections.abc import Callable, Collection, Sequence
from pathlib import Path

import yaml

from exporter.app import check_config, demo
from exporter.app.bootstrap import assemble
from exporter.app.config_warnings import warning_lines
from exporter.app.daemon import Serving, run
from exporter.app.once import find_projects, poll_once
from exporter.app.status.page import PageError, fetch, fetch_remedies
from exporter.app.status.poll import poll
from exporter.app.status.summary import summarize
from exporter.cli.environment import unknown_variables
from exporter.cli.parser import parse
from exporter.client.api_client import ApiError
from exporter.client.transport import SetupError
from exporter.config.project_section import ProjectSection
from exporter.config.secret import SecretError
from exporter.core import logs
from exporter.core.clock import SystemClock
from exporter.core.redaction import redact
from exporter.core.shard import Shard, chosen
from exporter.polling.membership import membership_hint
from exporter.polling.reporter import error_fields
from exporter.settings.load import FILE_LIMIT, ConfigError, LoadedFile, load_file
from exporter.settings.schema import schema_text
from exporter.settings.settings import Config
from exporter.state.sqlite import StateError
from exporter.web.poll_now import PollToken
from exporter.web.server import ListenError, listen
from exporter.web.tls import TlsError
from exporter.web.web_config_file import WebConfigFile

_log = logging.getLogger("exporter.cli")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command and return its exit code."""
    flags, parser = parse(sys.argv[1:] if arguments is None else arguments, os.environ)
    try:
        _check_trouble(flags)
        flags.shard = _shard(flags)
    except ValueError as error:
        parser.error(str(error))
    logs.configure(flags.log_level, flags.log_format)
    try:
        return _COMMAND[flags.command](flags)
    except ConfigError as error:
        print(redact(str(error)), file=sys.stderr)
        return 2
    except (ListenError, StateError, PageError) as error:
        print(f"pipeline-exporter: {redact(str(error))}", file=sys.stderr)
        return 1
    except (SetupError, TlsError, SecretError) as error:
        print(f"pipeline-exporter: {redact(str(error))}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        # The daemons handle the signal themselves; other commands did not finish.
        return 130


def _shard(flags: argparse.Namespace) -> Shard | None:
    """Return the shard that the flags select; None if the command covers all pipelines.

    Raises:
        ValueError: the flags contradict each other.

    """
    if "shard_total" not in flags or getattr(flags, "url", None):
        return None
    return chosen(flags.shard_index, flags.shard_total, platform.node())


def _config(flags: argparse.Namespace) -> Config:
    return _loaded(flags).config


def _loaded(flags: argparse.Namespace) -> LoadedFile:
    loaded = load_file(Path(flags.config_file))
    _warn_of_variables(loaded.document.variables)
    return loaded


def _warn_of_variables(used: Collection[str] = ()) -> None:
    """Log environment variables without effect; `used` are those that the configuration refers to."""
    for name, hint in unknown_variables(os.environ, used).items():
        _log.warning(
            "unknown environment variable",
            extra={"id": "unknown-variable", "variable": name, "reason": hint},
        )


def _run(flags: argparse.Namespace) -> int:
    loaded = _loaded(flags)
    if flags.shard:
        _log.info(
            "running as a shard",
            extra={"detail": f"shard {flags.shard.index} of {flags.shard.total}, counted from 0"},
        )
    web_config = WebConfigFile(Path(flags.web_config_file)) if flags.web_config_file else None
    poll_token = PollToken(Path(flags.web_poll_token_file)) if flags.web_poll_token_file else None
    probe_address = flags.web_probe_listen_address
    return asyncio.run(
        run(
            loaded,
            Serving(
                listener=listen(flags.web_listen_address),
                telemetry_path=flags.web_telemetry_path,
                web_config=web_config,
                probe_listener=listen(probe_address, flag="web.probe-listen-address")
                if probe_address
                else None,
                lifecycle=flags.web_enable_lifecycle,
                poll_token=poll_token,
            ),
            shard=flags.shard,
        )
    )


def _check_config(flags: argparse.Namespace) -> int:
    if flags.schema:
        print(schema_text(), end="")
        return 0
    file = Path(flags.config_file)
    content = sys.stdin.buffer.read(FILE_LIMIT + 1) if str(file) == "-" else None
    loaded = load_file(file, content=content)
    warnings = warning_lines(loaded, SystemClock(), flags.shard)
    warnings += [
        f"{file}: {name}: warning: unknown environment variable ({hint or 'unset it'})"
        for name, hint in unknown_variables(os.environ, loaded.document.variables).items()
    ]
    for line in warnings:
        print(redact(line), file=sys.stderr)
    if warnings and flags.strict:
        return 2
    print(f"{file} is valid: {redact(check_config.report(loaded.config, flags.shard))}")
    return 0


def _once(flags: argparse.Namespace) -> int:
    from exporter.cli.progress import progress_line  # noqa: PLC0415  # the daemon does not need it

    config = _config(flags)
    with progress_line() as progress:
        exporter, page = asyncio.run(poll_once(config, flags.shard, progress))
    # Expositions are UTF-8 on every terminal.
    sys.stdout.buffer.writelines(page.chunks)
    listed = all(one.finder.up for one in exporter.finders)
    return 0 if listed and all(poller.up for poller in exporter.pollers) else 1


def _status(flags: argparse.Namespace) -> int:
    from exporter.app.status.table import print_summary  # noqa: PLC0415  # the daemon does not need it
    from exporter.cli.progress import progress_line  # noqa: PLC0415

    remedies: dict[str, str] = {}
    if flags.url:
        samples = fetch(flags.url, flags.web_telemetry_path)
    else:
        config = _config(flags)
        with progress_line() as progress:
            samples, remedies = asyncio.run(poll(config, flags.shard, progress))
    now = SystemClock().time()
    summary = summarize(samples, now)
    if flags.format == "json":
        print(summary.json())
    else:
        if flags.url and summary.down:
            remedies = fetch_remedies(flags.url, flags.web_telemetry_path)
        summary.remedies = remedies
        print_summary(summary, now, sys.stdout, colour=sys.stdout.isatty() and not os.environ.get("NO_COLOR"))
    if summary.down:
        return 1
    return 3 if flags.fail_on == "red" and summary.red else 0


def _doctor(flags: argparse.Namespace) -> int:
    from exporter.app.doctor import output  # noqa: PLC0415  # the daemon does not need it
    from exporter.app.doctor.examine import examine  # noqa: PLC0415

    examination = asyncio.run(examine(_config(flags), flags.web_listen_address, SystemClock()))
    if flags.format == "json":
        print(output.json(examination.checks))
    else:
        for line in output.lines(examination.checks):
            print(line)
    if flags.report:
        try:
            Path(flags.report).write_text(examination.report, encoding="utf-8")
        except OSError as error:
            print(f"pipeline-exporter: cannot write {flags.report}: {error.strerror}", file=sys.stderr)
            return 1
    return 1 if examination.failed else 0


def _discover(flags: argparse.Namespace) -> int:
    config = _config(flags)
    return asyncio.run(_print_pipelines(config))


async def _print_pipelines(config: Config) -> int:
    from exporter.cli.progress import progress_line  # noqa: PLC0415  # the daemon does not need it

    exporter = assemble(config, SystemClock())
    await find_projects(exporter)
    code = 0 if all(one.finder.up for one in exporter.finders) else 1
    for project, poller in zip(exporter.config.projects, exporter.pollers, strict=True):
        try:
            with progress_line() as progress:
                names = await poller.list_pipelines(progress)
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
    """Return a pipeline as an entry of the configuration, with `${` escaped, which begins a variable there."""
    return {"id": identity, "name": name.replace("${", "$${")} if name else identity


def _selects(project: ProjectSection, name: str) -> bool:
    return project.discovery is None or project.discovery.matches(name)


def _demo(flags: argparse.Namespace) -> int:
    _warn_of_variables()
    listener = listen(flags.web_listen_address)
    return asyncio.run(demo.run_demo(listener, flags.web_telemetry_path, _simulation(flags)))


def _simulate(flags: argparse.Namespace) -> int:
    _warn_of_variables()
    listener = listen(flags.web_listen_address)
    return asyncio.run(demo.simulate(listener, _simulation(flags)))


def _check_trouble(flags: argparse.Namespace) -> None:
    """Raise `ValueError` if `--trouble.after` or `--trouble.for` is given without `--trouble`."""
    times = [name for name in ("after", "for") if getattr(flags, f"trouble_{name}", None) is not None]
    if times and flags.trouble is None:
        raise ValueError(f"--trouble.{times[0]} is given without --trouble")


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
    "status": _status,
    "discover": _discover,
    "doctor": _doctor,
    "demo": _demo,
    "simulate": _simulate,
}
