"""Find projects while the exporter runs, and put those found in force as a reload does."""

import asyncio
import logging

from exporter.app.exporter import Exporter
from exporter.app.scheduler import Scheduler
from exporter.client.transport import SetupError
from exporter.core.clock import Clock
from exporter.core.health import Health
from exporter.polling.project_finder import ProjectFinder

_PAUSE = 1.0
"""Seconds between two checks whether a list of projects is due."""

_log = logging.getLogger("exporter.app.project_discovery")


class ProjectDiscovery:
    """Reads the lists of projects when they are due."""

    def __init__(self, exporter: Exporter, scheduler: Scheduler, health: Health, clock: Clock) -> None:
        self._exporter = exporter
        self._scheduler = scheduler
        self._health = health
        self._clock = clock

    async def run(self) -> None:
        """Search until cancelled."""
        while True:
            now = self._clock.monotonic()
            due = [one.finder for one in self._exporter.finders if one.finder.next_search <= now]
            if due:
                await asyncio.gather(*(_read(finder) for finder in due))
                await self._try_to_apply()
            await self._clock.sleep(_PAUSE)

    async def _try_to_apply(self) -> None:
        """Put the found projects in force; log what prevents it."""
        try:
            await self._apply()
        except SetupError as error:
            _log.error(
                "found projects not watched, their settings cannot be used",
                extra={"id": "found-projects-not-watched", "error": str(error)},
            )
        except Exception:  # noqa: BLE001  # the next search may succeed
            _log.exception(
                "found projects not watched by an internal error, please report this",
                extra={"id": "project-discovery-crashed"},
            )

    async def _apply(self) -> None:
        """Put the found projects in force, and publish."""
        exporter = self._exporter
        if await exporter.apply_found(self._scheduler.retire):
            self._scheduler.add_new()
            activities = {poller.project: poller.activity for poller in exporter.pollers}
            self._health.watch(activities, exporter.config.poll.interval)
        await exporter.publisher.publish()


async def _read(finder: ProjectFinder) -> None:
    """Read a list; log an internal error instead of raising it, so that the next search comes."""
    try:
        await finder.read()
    except Exception:  # noqa: BLE001  # no caller would log it
        _log.exception(
            "poll failed by an internal error, please report this",
            extra={"id": "poll-crashed", "project": finder.entry},
        )
        finder.postpone()
