"""The daemon: scheduler, web server and signals; the only place where things start and stop."""

import asyncio
import contextlib
import logging
import math
import signal
import socket
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path

import uvicorn
from apscheduler.events import EVENT_JOB_MAX_INSTANCES, EVENT_JOB_SUBMITTED, JobSubmissionEvent
from apscheduler.schedulers.asyncio import AsyncIOScheduler
from apscheduler.triggers.base import BaseTrigger
from starlette.types import ASGIApp

from exporter import __version__
from exporter.app import runtime
from exporter.app.bootstrap import Exporter, assemble
from exporter.core.clock import Clock, MonotonicZone, SystemClock, watch
from exporter.core.health import Health
from exporter.core.shard import Shard
from exporter.polling.poller import Poller
from exporter.settings.settings import Config, Poll
from exporter.state.recovery import open_store
from exporter.state.sqlite import SqliteStore, StoredState
from exporter.web.connections import KEEP_ALIVE, Connection, Connections, connection_limit
from exporter.web.routes import application

READY_ANYWAY = 60.0
"""Seconds after which the exporter is ready even if a first refresh has not ended."""

_STOP_SERVING = 3
_BACKLOG = 2048
"""Connections that the system holds until they are accepted: a client that it turns away tries again after a second."""
_TIDY = 3600.0
"""Seconds between two looks of the garbage collector at everything."""
_EXPIRY_CHECKS = 4
"""Checks for values that are too old in a `poll.max_age`."""
_HEARTBEAT = 15.0
"""Seconds between pages at the most."""
_GRAIN = 0.001

_log = logging.getLogger("exporter.app.daemon")


class ListenError(Exception):
    """The address cannot be listened on."""


class PollTrigger(BaseTrigger):  # type: ignore[misc]  # APScheduler has no types
    """Fires at once, then wherever a regular refresh or an active poll is due.

    Both keep to a fixed raster from the start, so that neither drifts, and where they meet they are one. Moments that
    have passed are skipped: what was due then is due still.
    """

    def __init__(self, start: datetime, poll: Poll, offset: float) -> None:
        self._start = start
        self._rasters = ((offset, poll.interval), (0.0, min(poll.active_interval, poll.interval)))

    def get_next_fire_time(self, previous_fire_time: datetime | None, now: datetime) -> datetime:
        """The next moment after `now`, which APScheduler passes with the moment last fired."""
        if previous_fire_time is None:
            return now
        # A moment is told in microseconds: a grain more keeps one from being found twice.
        since = (max(now, previous_fire_time) - self._start).total_seconds() + _GRAIN
        after = min(
            offset + period * (math.floor((since - offset) / period) + 1) for offset, period in self._rasters
        )
        return self._start + timedelta(seconds=after)


def listen(address: str) -> socket.socket:
    """A socket that listens on `HOST:PORT`; without a host on every interface, with port 0 on a free port.

    Raises:
        ListenError: with words.

    """
    host, _, port = address.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    try:
        if host:
            family = socket.AF_INET6 if ":" in host else socket.AF_INET
            listener = socket.create_server((host, int(port)), family=family, backlog=_BACKLOG)
        elif socket.has_dualstack_ipv6():
            listener = socket.create_server(
                ("::", int(port)), family=socket.AF_INET6, dualstack_ipv6=True, backlog=_BACKLOG
            )
        else:
            listener = socket.create_server(("", int(port)), backlog=_BACKLOG)
    except (OSError, OverflowError) as error:
        words = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise ListenError(f"cannot listen on {address}: {words}") from None
    # Connections inherit it; without it each answer waits 40 ms for the client's delayed acknowledgement.
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listener


def address_of(listener: socket.socket) -> str:
    """`HOST:PORT` that a listener is bound to."""
    host, port = listener.getsockname()[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


async def run(
    config: Config,
    listener: socket.socket,
    telemetry_path: str,
    clock: Clock | None = None,
    *,
    shard: Shard | None = None,
) -> int:
    """Poll and serve until SIGTERM or SIGINT; returns the exit code.

    Raises:
        StateError: the state cannot be used; with words.

    """
    runtime.tune()
    clock = clock or SystemClock()
    store, stored = open_state(config, clock)
    exporter = assemble(config, clock, shard=shard, store=store, stored=stored)
    started = clock.monotonic()

    def ready() -> bool:
        first = all(poller.refreshed.is_set() for poller in exporter.pollers)
        return first or clock.monotonic() - started >= READY_ANYWAY

    health = Health({poller.project: poller.activity for poller in exporter.pollers}, config.poll.interval)
    web = application(
        page=exporter.publisher.sending,
        problem=health.problem,
        ready=ready,
        effective_config=config.effective(),
        telemetry_path=telemetry_path,
    )
    # Before polls begin: the descriptors that are open now are not free for clients.
    server = Server(web)
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    scheduler = _Scheduler(exporter, config.poll, clock)
    scheduler.start()
    # What is remembered is on the first page that anybody gets: whoever asks meanwhile waits, the polls do not.
    await exporter.publisher.publish()
    serving = asyncio.create_task(server.serve(sockets=[listener]))
    _log.info("listening", extra={"address": address_of(listener), "version": __version__})
    stopping = asyncio.create_task(stop.wait())
    await asyncio.wait({serving, stopping}, return_when=asyncio.FIRST_COMPLETED)
    _log.info("stopping")
    stopping.cancel()
    await scheduler.stop()
    server.should_exit = True
    with contextlib.suppress(asyncio.CancelledError):
        await serving
    exporter.publisher.close()
    for poller in exporter.pollers:
        await poller.close()
    await exporter.repository.close()
    return 0 if stop.is_set() else 1


def open_state(config: Config, clock: Clock) -> tuple[SqliteStore, StoredState] | tuple[None, None]:
    """The state that a configuration names, and what it holds; nothing if it names none.

    Raises:
        StateError: it cannot be used; with words.

    """
    if config.state.path is None:
        return None, None
    return open_store(Path(config.state.path), clock.time())


class Server(uvicorn.Server):
    """uvicorn with limits of connections, and with the signals left to the daemon."""

    def __init__(self, app: ASGIApp) -> None:
        super().__init__(
            uvicorn.Config(
                app,
                ws="none",
                lifespan="off",
                log_config=None,
                access_log=False,
                server_header=False,
                timeout_keep_alive=int(KEEP_ALIVE),
                timeout_graceful_shutdown=_STOP_SERVING,
            )
        )

        self._connections = Connections(connection_limit())
        self._accepting: list[asyncio.Task[None]] = []

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begin to accept connections."""
        await super().startup(sockets=[])
        for listener in sockets or []:
            accepting = self._connections.accept(listener, self._connection)
            self._accepting.append(asyncio.create_task(accepting))

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Accept no more, then close what is open."""
        for task in self._accepting:
            task.cancel()
        await asyncio.gather(*self._accepting, return_exceptions=True)
        await super().shutdown(sockets)

    def _connection(self) -> Connection:
        return Connection(self._connections, self.config, self.server_state, {})

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Capture none."""
        yield


class _Scheduler:
    """Calls the pollers when they are due."""

    def __init__(self, exporter: Exporter, poll: Poll, clock: Clock) -> None:
        self._exporter = exporter
        self._poll = poll
        self._clock = clock
        self._under_way: set[asyncio.Task[None]] = set()
        # The grace time of a second would drop what is late; what is late several times is due once.
        defaults = {"misfire_grace_time": None, "coalesce": True, "max_instances": 1}
        self._zone = MonotonicZone(clock)
        self._scheduler = AsyncIOScheduler(timezone=self._zone, job_defaults=defaults)

    def start(self) -> None:
        self._scheduler.add_listener(self._fired, EVENT_JOB_SUBMITTED | EVENT_JOB_MAX_INSTANCES)
        self._scheduler.add_listener(self._skipped, EVENT_JOB_MAX_INSTANCES)
        now = datetime.now(self._zone)
        for index, poller in enumerate(self._exporter.pollers):
            trigger = PollTrigger(now, self._poll, poller.offset)
            self._scheduler.add_job(self._tick, trigger, [poller], id=str(index))
        self._scheduler.start()
        self._watches = {
            asyncio.create_task(self._watchdog()),
            asyncio.create_task(watch(self._clock)),
        }

    async def stop(self) -> None:
        """Break off what is under way and wait until it has ended."""
        self._scheduler.pause()
        for one in self._watches:
            self._under_way.add(one)
            one.add_done_callback(self._under_way.discard)
        while self._under_way:
            for task in self._under_way:
                task.cancel()
            await asyncio.wait(self._under_way, timeout=1)
        self._scheduler.shutdown(wait=False)

    async def _tick(self, poller: Poller) -> None:
        # A task of its own: APScheduler reports a job that is cancelled at the end as one that failed.
        task = asyncio.create_task(guarded_tick(poller))
        self._under_way.add(task)
        try:
            await asyncio.wait({task})
        finally:
            self._under_way.discard(task)

    async def _watchdog(self) -> None:
        """Withdraw what is too old, and show what counters did during long polls."""
        check = min(self._poll.max_age / _EXPIRY_CHECKS, _HEARTBEAT)
        publisher = self._exporter.publisher
        pages, shown = publisher.published, self._clock.monotonic()
        tidied = -math.inf
        while True:
            await self._clock.sleep(check)
            now = self._clock.monotonic()
            if now - tidied >= _TIDY and all(poller.refreshed.is_set() for poller in self._exporter.pollers):
                tidied = now
                runtime.collect_garbage()
            if publisher.published != pages:
                pages, shown = publisher.published, now
            try:
                expired = sum(tracker.expire(now, self._poll.max_age) for tracker in self._exporter.trackers)
                if expired or now - shown >= _HEARTBEAT:
                    await publisher.publish()
            except Exception:  # noqa: BLE001  # the next round is worth trying all the same
                _log.exception("the page could not be renewed; please report this")

    def _fired(self, event: JobSubmissionEvent) -> None:
        self._exporter.pollers[int(event.job_id)].activity.fired()

    def _skipped(self, event: JobSubmissionEvent) -> None:
        self._exporter.pollers[int(event.job_id)].skip()


async def guarded_tick(poller: Poller, *, once: bool = False) -> None:
    """A tick after which others go on, whatever happens in it."""
    try:
        await poller.tick(once=once)
    except Exception:  # noqa: BLE001  # nothing above would tell it
        # A fault of this program: the next tick is worth trying all the same, and the trace is worth reporting.
        _log.exception("a poll broke off; please report this", extra={"project": poller.project})
