"""Run the pollers when they are due, and publish /metrics between polls."""

import asyncio
import logging
import math
from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta

from apscheduler.events import EVENT_JOB_MAX_INSTANCES, EVENT_JOB_SUBMITTED, JobSubmissionEvent
from apscheduler.schedulers.asyncio import AsyncIOScheduler
from apscheduler.triggers.base import BaseTrigger

from exporter.app import runtime
from exporter.app.exporter import Exporter
from exporter.app.project import Project
from exporter.core.clock import Clock, MonotonicZone, watch
from exporter.polling.poller import Poller
from exporter.settings.settings import Poll

_GARBAGE_INTERVAL = 3600.0
"""Seconds between two full garbage collections."""
_EXPIRY_CHECKS = 4
"""Number of checks for expired values during one `poll.max_age`."""
_HEARTBEAT = 15.0
"""Maximum seconds between two publications of /metrics."""
_GRAIN = 0.001
_PATIENCE = 30.0
"""Maximum seconds to wait for the requests in flight of retired projects."""
_SETTLE = 0.05
"""Seconds that a poll of a retired project has to process its last responses before it is cancelled."""

_log = logging.getLogger("exporter.app.scheduler")


class PollTrigger(BaseTrigger):  # type: ignore[misc]  # APScheduler has no types
    """Fires at once, then whenever a refresh or an active poll is due.

    Both have fixed intervals counted from the start, so they do not drift. Where they coincide, the trigger fires once.
    Times that have passed are skipped: the next poll does what was due then.
    """

    def __init__(self, start: datetime, poll: Poll, offset: float) -> None:
        """`offset` is when the first regular refresh is due, in seconds after `start`."""
        self._start = start
        self._series = ((offset, poll.interval), (0.0, min(poll.active_interval, poll.interval)))

    def get_next_fire_time(self, previous_fire_time: datetime | None, now: datetime) -> datetime:
        """Return the next time to fire after `now` and after `previous_fire_time`."""
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

    def __init__(self, exporter: Exporter, clock: Clock) -> None:
        self._exporter = exporter
        self._clock = clock
        self._jobs: dict[str, Poller] = {}
        """The scheduled pollers, by the id of their job."""
        self._number = 0
        """Of the last job."""
        self._ticks: dict[Poller, asyncio.Task[None]] = {}
        """The running polls."""
        self._background: set[asyncio.Task[None]] = set()
        # The default grace time of a second would drop late ticks. Several late ticks are combined into one.
        defaults = {"misfire_grace_time": None, "coalesce": True, "max_instances": 1}
        self._zone = MonotonicZone(clock)
        self._scheduler = AsyncIOScheduler(timezone=self._zone, job_defaults=defaults)

    def start(self) -> None:
        """Start polling, and the background tasks."""
        self._scheduler.add_listener(self._fired, EVENT_JOB_SUBMITTED | EVENT_JOB_MAX_INSTANCES)
        self._scheduler.add_listener(self._skipped, EVENT_JOB_MAX_INSTANCES)
        self.add_new()
        self._scheduler.start()
        self._background = {
            asyncio.create_task(self._watchdog()),
            asyncio.create_task(watch(self._clock)),
        }

    def add_new(self) -> None:
        """Schedule the projects that are not scheduled yet. Their first polls start at once."""
        now, scheduled = datetime.now(self._zone), frozenset(self._jobs.values())
        for poller in self._exporter.pollers:
            if poller not in scheduled:
                self._number += 1
                job = str(self._number)
                self._jobs[job] = poller
                trigger = PollTrigger(now, self._exporter.config.poll, poller.schedule.offset)
                self._scheduler.add_job(self._tick, trigger, [job], id=job)

    async def retire(self, projects: Sequence[Project]) -> None:
        """End the polls of some projects for good; requests in flight have the time that they always have."""
        retired = frozenset(project.poller for project in projects)
        for job in [job for job, poller in self._jobs.items() if poller in retired]:
            del self._jobs[job]
            self._scheduler.remove_job(job)
        draining = {asyncio.create_task(poller.drain()) for poller in retired}
        if draining:
            await asyncio.wait(draining, timeout=_PATIENCE)
        await _cancel(draining)
        ticks = {self._ticks[poller] for poller in retired if poller in self._ticks}
        if ticks:
            # Responses that have just come are still used.
            await asyncio.wait(ticks, timeout=_SETTLE)
        await _cancel(ticks)

    async def stop(self) -> None:
        """Cancel running polls and wait until they have ended."""
        self._scheduler.pause()
        self._jobs.clear()
        await _cancel({*self._ticks.values(), *self._background})
        self._scheduler.shutdown(wait=False)

    async def _tick(self, job: str) -> None:
        poller = self._jobs.get(job)
        if poller is None:
            return  # retired since the job was submitted
        # A task of its own, because APScheduler logs a cancelled job as a failed one.
        task = self._ticks[poller] = asyncio.create_task(guarded_tick(poller))
        try:
            await asyncio.wait({task})
        finally:
            del self._ticks[poller]

    async def _watchdog(self) -> None:
        """Remove expired values, publish /metrics during long polls, and collect garbage, until cancelled."""
        publisher = self._exporter.publisher
        pages, published_at = publisher.published, self._clock.monotonic()
        collected_at = -math.inf
        while True:
            max_age = self._exporter.config.poll.max_age
            await self._clock.sleep(min(max_age / _EXPIRY_CHECKS, _HEARTBEAT))
            now = self._clock.monotonic()
            if now - collected_at >= _GARBAGE_INTERVAL and all(
                poller.refreshed.is_set() for poller in self._exporter.pollers
            ):
                collected_at = now
                runtime.collect_garbage()
            if publisher.published != pages:
                pages, published_at = publisher.published, now
            try:
                expired = sum(tracker.expire(now, max_age) for tracker in self._exporter.trackers)
                if expired or now - published_at >= _HEARTBEAT:
                    await publisher.publish()
            except Exception:  # noqa: BLE001  # the next round may succeed
                _log.exception(
                    "publication failed by an internal error, please report this",
                    extra={"id": "publication-failed"},
                )

    def _fired(self, event: JobSubmissionEvent) -> None:
        if poller := self._jobs.get(event.job_id):
            poller.activity.fired()

    def _skipped(self, event: JobSubmissionEvent) -> None:
        if poller := self._jobs.get(event.job_id):
            poller.skip()


async def _cancel(tasks: Iterable[asyncio.Task[None]]) -> None:
    """Cancel tasks repeatedly until they have ended."""
    left = {task for task in tasks if not task.done()}
    while left:
        for task in left:
            task.cancel()
        _, left = await asyncio.wait(left, timeout=1)


async def guarded_tick(poller: Poller, *, once: bool = False) -> None:
    """Run a tick; log an internal error instead of raising it, so that the next tick comes."""
    try:
        await poller.tick(once=once)
    except Exception:  # noqa: BLE001  # no caller would log it
        _log.exception(
            "poll failed by an internal error, please report this",
            extra={"id": "poll-crashed", "project": poller.project},
        )
