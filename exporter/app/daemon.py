"""Start and stop the daemon: state, scheduler, web server and signals."""

import asyncio
import contextlib
import logging
import signal
import socket
from pathlib import Path

from exporter.app import runtime
from exporter.app.bootstrap import assemble
from exporter.app.poll_now import PollNow
from exporter.app.scheduler import Scheduler
from exporter.app.status_source import status_source
from exporter.core.clock import Clock, SystemClock
from exporter.core.health import Health
from exporter.core.shard import Shard
from exporter.exposition import PROMETHEUS
from exporter.settings.settings import Config
from exporter.state.recovery import open_store
from exporter.state.sqlite import SqliteStore, StoredState
from exporter.web.listeners import Listeners
from exporter.web.poll_now import PollToken, poll_route
from exporter.web.routes import application
from exporter.web.web_config_file import WebConfigFile

READY_ANYWAY = 60.0
"""Seconds after which the exporter is ready even if a first refresh has not ended."""

_log = logging.getLogger("exporter.app.daemon")


async def run(
    config: Config,
    listener: socket.socket,
    telemetry_path: str,
    clock: Clock | None = None,
    *,
    shard: Shard | None = None,
    web_config: WebConfigFile | None = None,
    probe_listener: socket.socket | None = None,
    poll_token: PollToken | None = None,
) -> int:
    """Poll and serve until SIGTERM or SIGINT; return the exit code.

    `probe_listener` serves the health probes only, without TLS and passwords. `poll_token` enables poll now.

    Raises:
        StateError: the state cannot be used.

    """
    runtime.tune()
    clock = clock or SystemClock()
    store, stored = open_state(config, clock)
    exporter = assemble(config, clock, shard=shard, store=store, stored=stored, variants=(PROMETHEUS,))
    started = clock.monotonic()

    def ready() -> bool:
        first = all(poller.refreshed.is_set() for poller in exporter.pollers)
        return first or clock.monotonic() - started >= READY_ANYWAY

    health = Health({poller.project: poller.activity for poller in exporter.pollers}, config.poll.interval)
    source = status_source(exporter, clock, telemetry_path)
    web = application(
        page=exporter.publisher.sending,
        problem=health.problem,
        ready=ready,
        status=lambda: source,
        effective_config=config.effective(),
        telemetry_path=telemetry_path,
        created_series=config.metrics.created_series,
        poll_now=poll_route(poll_token, PollNow(lambda: exporter.pollers)) if poll_token else None,
    )
    if web_config is not None:
        exporter.telemetry.set_web_config_reloaded(succeeded=True)
    listeners = Listeners(
        web,
        listener,
        clock,
        web_config=web_config,
        reloaded=lambda succeeded: exporter.telemetry.set_web_config_reloaded(succeeded=succeeded),
        probe_listener=probe_listener,
        problem=health.problem,
        ready=ready,
        poll_now=poll_token is not None,
    )
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    loop.add_signal_handler(signal.SIGHUP, _ignore_hangup)
    scheduler = Scheduler(exporter, config.poll, clock)
    scheduler.start()
    # The first page that a client gets has the stored state. Clients wait for it, polls do not.
    await exporter.publisher.publish()
    serving = asyncio.create_task(listeners.serve())
    stopping = asyncio.create_task(stop.wait())
    await asyncio.wait({serving, stopping}, return_when=asyncio.FIRST_COMPLETED)
    _log.info("stopping")
    stopping.cancel()
    await scheduler.stop()
    listeners.stop()
    with contextlib.suppress(asyncio.CancelledError):
        await serving
    exporter.publisher.close()
    for poller in exporter.pollers:
        await poller.close()
    await exporter.repository.close()
    return 0 if stop.is_set() else 1


def _ignore_hangup() -> None:
    _log.warning("SIGHUP ignored, restart to apply a changed configuration", extra={"id": "sighup-ignored"})


def open_state(config: Config, clock: Clock) -> tuple[SqliteStore, StoredState] | tuple[None, None]:
    """Open the state file of a configuration and read it; return nothing if it has none.

    Raises:
        StateError: the state cannot be used.

    """
    if config.state.path is None:
        return None, None
    return open_store(Path(config.state.path), clock.time())
