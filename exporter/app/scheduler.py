"""Call the pollers when they are due, and renew the page between polls."""

import asyncio
import logging
import math
from datetime import datetime, timedelta

from apscheduler.events import EVENT_JOB_MAX_INSTANCES, EVENT_JOB_SUBMITTED, JobSubmissionEvent
from apscheduler.schedulers.asyncio import AsyncIOScheduler
from apscheduler.triggers.base import BaseTrigger

from exporter.app import runtime
from exporter.app.bootstrap import Exporter
from exporter.core.clock import Clock, MonotonicZone, watch
from exporter.polling.poller import Poller
from exporter.settings.settings import Poll

_GARBAGE_INTERVAL = 3600.0
"""Seconds between two full garbage collections."""
_EXPIRY_CHECKS = 4
"""Checks for values that are too old during one `poll.max_age`."""
_HEARTBEAT = 15.0
"""Most seconds between two pages."""
_GRAIN = 0.001

_log = logging.getLogger("exporter.app.scheduler")


class PollTrigger(BaseTrigger):  # type: ignore[misc]  # APScheduler has no types
    """Fires at once, then whenever a refresh or an active poll is due.

    Refreshes and active polls each keep to fixed times counted from the start, so they do not drift, and fire once where
    they coincide. Times that have passed are skipped: what was due then is due still.
    """

    def __init__(self, start: datetime, poll: Poll, offset: float) -> None:
        """`offset` is when the first regular refresh is due, in seconds after `start`."""
        self._start = start
        self._series = ((offset, poll.interval), (0.0, min(poll.active_interval, poll.interval)))

    def get_next_fire_time(self, previous_fire_time: datetime | None, now: datetime) -> datetime:
        """Return the next time after `now`, which APScheduler passes with the time last fired."""
        if previous_fire_time is None:
            return now
        # Datetimes are rounded to microseconds; the grain keeps a time from being returned twice.
        since = (max(now, previous_fire_time) - self._start).total_seconds() + _GRAIN
        after = min(
            offset + period * (math.floor((since - offset) / period) + 1) for offset, period in self._series
        )
        return self._start + timedelta(seconds=after)


class Scheduler:
    """Runs the pollers of an exporter."""

    def __init__(self, exporter: Exporter, poll: Poll, clock: Clock) -> None:
        self._exporter = exporter
        self._poll = poll
        self._clock = clock
        self._running: set[asyncio.Task[None]] = set()
        self._background: set[asyncio.Task[None]] = set()
        # The default grace time of a second would drop late ticks; several late ticks are one.
        defaults = {"misfire_grace_time": None, "coalesce": True, "max_instances": 1}
        self._zone = MonotonicZone(clock)
        self._scheduler = AsyncIOScheduler(timezone=self._zone, job_defaults=defaults)

    def start(self) -> None:
        """Begin to poll."""
        self._scheduler.add_listener(self._fired, EVENT_JOB_SUBMITTED | EVENT_JOB_MAX_INSTANCES)
        self._scheduler.add_listener(self._skipped, EVENT_JOB_MAX_INSTANCES)
        now = datetime.now(self._zone)
        for index, poller in enumerate(self._exporter.pollers):
            trigger = PollTrigger(now, self._poll, poller.offset)
            self._scheduler.add_job(self._tick, trigger, [poller], id=str(index))
        self._scheduler.start()
        self._background = {
            asyncio.create_task(self._watchdog()),
            asyncio.create_task(watch(self._clock)),
        }

    async def stop(self) -> None:
        """Cancel running polls and wait until they have ended."""
        self._scheduler.pause()
        for task in self._background:
            self._running.add(task)
            task.add_done_callback(self._running.discard)
        while self._running:
            for task in self._running:
                task.cancel()
            await asyncio.wait(self._running, timeout=1)
        self._scheduler.shutdown(wait=False)

    async def _tick(self, poller: Poller) -> None:
        # A task of its own, because APScheduler logs a cancelled job as a failed one.
        task = asyncio.create_task(guarded_tick(poller))
        self._running.add(task)
        try:
            await asyncio.wait({task})
        finally:
            self._running.discard(task)

    async def _watchdog(self) -> None:
        """Withdraw values that are too old, and publish counters during long polls."""
        check = min(self._poll.max_age / _EXPIRY_CHECKS, _HEARTBEAT)
        publisher = self._exporter.publisher
        pages, published_at = publisher.published, self._clock.monotonic()
        collected_at = -math.inf
        while True:
            await self._clock.sleep(check)
            now = self._clock.monotonic()
            if now - collected_at >= _GARBAGE_INTERVAL and all(
                poller.refreshed.is_set() for poller in self._exporter.pollers
            ):
                collected_at = now
                runtime.collect_garbage()
            if publisher.published != pages:
                pages, published_at = publisher.published, now
            try:
                expired = sum(tracker.expire(now, self._poll.max_age) for tracker in self._exporter.trackers)
                if expired or now - published_at >= _HEARTBEAT:
                    await publisher.publish()
            except Exception:  # noqa: BLE001  # the next round may succeed
                _log.exception(
                    "publishing a page failed, please report this", extra={"id": "publication-failed"}
                )

    def _fired(self, event: JobSubmissionEvent) -> None:
        self._exporter.pollers[int(event.job_id)].activity.fired()

    def _skipped(self, event: JobSubmissionEvent) -> None:
        self._exporter.pollers[int(event.job_id)].skip()


async def guarded_tick(poller: Poller, *, once: bool = False) -> None:
    """Run a tick; log an internal error instead of raising it, so that the next tick comes."""
    try:
        await poller.tick(once=once)
    except Exception:  # noqa: BLE001  # no caller would log it
        _log.exception(
            "poll ended by an internal error, please report this",
            extra={"id": "poll-crashed", "project": poller.project},
        )
