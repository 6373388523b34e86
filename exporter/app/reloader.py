"""Reload the configuration: on SIGHUP, on request, and when the content of its file has changed.

All or nothing: a file with a fault changes nothing, and every fault is logged.
"""

import asyncio
import hashlib
import logging

from exporter.app.exporter import Exporter, Prepared, ProjectChanges
from exporter.app.scheduler import Scheduler
from exporter.client.transport import SetupError
from exporter.config.files import NotUsableError, read_file
from exporter.core.clock import Clock
from exporter.core.health import Health
from exporter.core.redaction import redact
from exporter.settings.load import FILE_LIMIT, ConfigError, LoadedFile, load_file
from exporter.settings.settings import Config
from exporter.state.worker import Worker

CHECK_INTERVAL = 3.0
"""Seconds between two checks of the file for changes."""

_log = logging.getLogger("exporter.app.reloader")


class Reloader:
    """Reloads the configuration file, and puts the configuration in force."""

    def __init__(
        self, loaded: LoadedFile, exporter: Exporter, scheduler: Scheduler, health: Health, clock: Clock
    ) -> None:
        """`loaded` is the file as the exporter started with it."""
        self._file = loaded.file
        self._exporter = exporter
        self._scheduler = scheduler
        self._health = health
        self._clock = clock
        self._seen: bytes | str = loaded.digest
        """What the last load found: a digest of the content, or why the file could not be read."""
        self._tasks: set[asyncio.Task[list[str]]] = set()
        # Not in the event loop: files may be on a slow network, or one that hangs.
        self._worker = Worker("configuration")
        self._in_force(loaded.config)

    @property
    def effective(self) -> str:
        """The configuration in force as YAML, with secrets masked."""
        return self._effective

    def start(self) -> asyncio.Task[list[str]]:
        """Start a reload. The result of the task is a list of faults; empty if the file's configuration is in force."""
        # A task of its own, so that a client that leaves does not stop it half-way.
        task = asyncio.create_task(self._guarded_reload())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def watch(self) -> None:
        """Reload whenever the content of the file has changed, until cancelled."""
        before = self._seen
        while True:
            await self._clock.sleep(CHECK_INTERVAL)
            now = await asyncio.wrap_future(self._worker.submit(self._look))
            # Twice the same, since an editor may still be writing.
            if now != self._seen and now == before:
                await self.start()
            before = now

    async def stop(self) -> None:
        """Cancel running reloads."""
        self._worker.stop()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _look(self) -> bytes | str:
        try:
            return hashlib.sha256(read_file(self._file, FILE_LIMIT)).digest()
        except (OSError, NotUsableError) as error:
            return str(error)

    def _prepare(self) -> tuple[bytes | str, Prepared | list[str]]:
        """Load the file. Return a new value for `_seen`, and the prepared configuration or the faults."""
        try:
            loaded = load_file(self._file)
            return loaded.digest, self._exporter.prepare(self._applicable(loaded.config))
        except ConfigError as error:
            return self._look(), redact(str(error)).splitlines()
        except SetupError as error:
            return self._look(), [redact(f"{self._file}: {error}")]

    def _applicable(self, config: Config) -> Config:
        """Return a configuration without the changes that need a restart."""
        in_force = self._exporter.config.state
        if config.state == in_force:
            return config
        _log.warning(
            "changed setting needs a restart, keeping the old value",
            extra={"id": "restart-needed", "field": "state.path", "value": in_force.path or "none"},
        )
        return config.model_copy(update={"state": in_force})

    async def _guarded_reload(self) -> list[str]:
        try:
            return await self._reload()
        except Exception:  # noqa: BLE001  # the next reload may succeed
            self._exporter.telemetry.files.config_rejected()
            _log.exception(
                "reload failed by an internal error, please report this", extra={"id": "reload-crashed"}
            )
            return ["internal error, see the log"]

    async def _reload(self) -> list[str]:
        async with self._exporter.changing:
            began = self._clock.monotonic()
            self._seen, prepared = await asyncio.wrap_future(self._worker.submit(self._prepare))
            if not isinstance(prepared, Prepared):
                self._reject(prepared)
                await self._exporter.publisher.publish()
                return prepared
            changes = await self._exporter.apply(prepared, self._scheduler.retire)
            self._scheduler.add_new()
            self._in_force(prepared.source)
            await self._exporter.publisher.publish()
            _log.info(
                "configuration reloaded",
                extra={
                    "file": str(self._file),
                    "detail": _summary(changes),
                    "seconds": round(self._clock.monotonic() - began, 2),
                },
            )
            return []

    def _reject(self, faults: list[str]) -> None:
        self._exporter.telemetry.files.config_rejected()
        for fault in faults:
            _log.error(
                "configuration not reloaded, keeping the one in force",
                extra={"id": "config-reload-failed", "file": str(self._file), "error": fault},
            )

    def _in_force(self, config: Config) -> None:
        self._effective = config.effective()
        digest = hashlib.sha256(self._effective.encode()).hexdigest()
        self._exporter.telemetry.files.config_in_force(digest, self._clock.time())
        activities = {poller.project: poller.activity for poller in self._exporter.pollers}
        self._health.watch(activities, config.poll.interval)


def _summary(changes: ProjectChanges) -> str:
    return (
        f"projects: {len(changes.added)} added, {len(changes.changed)} changed, {len(changes.removed)} removed, "
        f"{len(changes.unchanged)} unchanged"
    )
