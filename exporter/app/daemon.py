"""Start and stop the daemon: state, scheduler, web server and signals."""

import asyncio
import contextlib
import logging
import signal
import socket
from pathlib import Path

import msgspec

from exporter.app import runtime
from exporter.app.bootstrap import assemble
from exporter.app.exporter import Exporter
from exporter.app.poll_now import PollNow
from exporter.app.project_discovery import ProjectDiscovery
from exporter.app.reloader import Reloader
from exporter.app.scheduler import Scheduler
from exporter.app.status_source import status_source
from exporter.core.clock import Clock, SystemClock
from exporter.core.health import Health
from exporter.core.shard import Shard
from exporter.exposition import PROMETHEUS
from exporter.settings.load import LoadedFile
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


class Serving(msgspec.Struct, frozen=True, kw_only=True):
    """What the daemon serves, and where."""

    listener: socket.socket
    telemetry_path: str = "/metrics"
    web_config: WebConfigFile | None = None
    probe_listener: socket.socket | None = None
    """Serves the health probes only, without TLS and passwords."""
    lifecycle: bool = False
    """Whether clients may reload the configuration."""
    poll_token: PollToken | None = None
    """Token for poll requests (`POST /-/poll`); None disables them."""


async def run(
    config: Config | LoadedFile, serving: Serving, clock: Clock | None = None, *, shard: Shard | None = None
) -> int:
    """Poll and serve until SIGTERM or SIGINT; return the exit code. A `LoadedFile` can be reloaded.

    Raises:
        SetupError: a certificate authority cannot be loaded.
        StateError: the state cannot be used.

    """
    runtime.tune()
    return await _Daemon(config, serving, clock or SystemClock(), shard).run()


class _Daemon:
    """The running process: exporter, scheduler, reloader and web servers."""

    def __init__(
        self, source: Config | LoadedFile, serving: Serving, clock: Clock, shard: Shard | None
    ) -> None:
        config = source.config if isinstance(source, LoadedFile) else source
        store, stored = open_state(config, clock)
        exporter = assemble(config, clock, shard=shard, store=store, stored=stored, variants=(PROMETHEUS,))
        self._exporter = exporter
        self._scheduler = Scheduler(exporter, clock)
        self._health = Health(
            {poller.project: poller.activity for poller in exporter.pollers}, config.poll.interval
        )
        self._readiness = Readiness(exporter, clock)
        self._reloader = (
            Reloader(source, exporter, self._scheduler, self._health, clock)
            if isinstance(source, LoadedFile)
            else None
        )
        self._search = ProjectDiscovery(exporter, self._scheduler, self._health, clock)
        self._listeners = self._serve(serving, clock)
        self._stop = asyncio.Event()

    def _serve(self, serving: Serving, clock: Clock) -> Listeners:
        exporter, reloader, telemetry = self._exporter, self._reloader, self._exporter.telemetry
        token = serving.poll_token
        effective = exporter.source.effective()
        web = application(
            page=exporter.publisher.sending,
            problem=self._health.problem,
            ready=self._readiness,
            status=status_source(exporter, clock, serving.telemetry_path),
            effective_config=lambda: reloader.effective if reloader else effective,
            telemetry_path=serving.telemetry_path,
            created_series=lambda: exporter.config.metrics.created_series,
            reload=reloader.start if reloader and serving.lifecycle else None,
            poll_now=poll_route(token, PollNow(lambda: exporter.pollers)) if token else None,
        )
        if serving.web_config is not None:
            telemetry.files.set_web_config_reloaded(succeeded=True)
        return Listeners(
            web,
            serving.listener,
            clock,
            web_config=serving.web_config,
            reloaded=lambda succeeded: telemetry.files.set_web_config_reloaded(succeeded=succeeded),
            probe_listener=serving.probe_listener,
            problem=self._health.problem,
            ready=self._readiness,
            poll_now=token is not None,
        )

    async def run(self) -> int:
        """Run until a signal, or until a server fails; return the exit code."""
        self._handle_signals()
        self._scheduler.start()
        # The first response to a scrape has the stored state. Clients wait for it, polls do not.
        await self._exporter.publisher.publish()
        serving = asyncio.create_task(self._listeners.serve())
        stopping = asyncio.create_task(self._stop.wait())
        watching = [asyncio.create_task(self._search.run())]
        if self._reloader is not None:
            watching.append(asyncio.create_task(self._reloader.watch()))
        await asyncio.wait({serving, stopping}, return_when=asyncio.FIRST_COMPLETED)
        _log.info("stopping")
        stopping.cancel()
        for task in watching:
            task.cancel()
        if self._reloader is not None:
            await self._reloader.stop()
        await self._scheduler.stop()
        self._listeners.stop()
        with contextlib.suppress(asyncio.CancelledError):
            await serving
        await self._exporter.close()
        return 0 if self._stop.is_set() else 1

    def _handle_signals(self) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop.set)
        loop.add_signal_handler(signal.SIGHUP, self._reload)

    def _reload(self) -> None:
        if self._reloader is None:
            _log.info("SIGHUP ignored, there is no configuration file")
        else:
            self._reloader.start()


class Readiness:
    """Readiness check. It succeeds once the first refreshes have ended, or after `READY_ANYWAY` seconds."""

    def __init__(self, exporter: Exporter, clock: Clock) -> None:
        self._exporter = exporter
        self._clock = clock
        self._started = clock.monotonic()
        self._ready = False

    def __call__(self) -> bool:
        """Return whether the exporter is ready."""
        self._ready = (
            self._ready or self._exporter.refreshed or self._clock.monotonic() - self._started >= READY_ANYWAY
        )
        return self._ready


def open_state(config: Config, clock: Clock) -> tuple[SqliteStore, StoredState] | tuple[None, None]:
    """Open and read the state file of a configuration; return `(None, None)` if it has no `state.path`.

    Raises:
        StateError: the state cannot be used.

    """
    if config.state.path is None:
        return None, None
    return open_store(Path(config.state.path), clock.time())
