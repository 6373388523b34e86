"""Poll one project: decide what is due and in which order, apply the responses, and publish the results.

`Poller.tick` is one unit of work. The scheduler calls it, and tests call it by hand; it never starts itself. Ticks of a
project do not overlap, so no request is sent twice at the same time and no response overtakes a newer one. Within a tick
the request budget serves the list of pipelines first, then the refresh or active poll, then follow-ups for the time
that remains until the next tick. Results are saved before they are published.

Clients can request polls of single pipelines. These never overlap with a tick either: a tick that is running sends them
between its own requests.
"""

import asyncio
import logging
import math
from collections.abc import Awaitable, Callable

from exporter.client.api_client import ApiClient
from exporter.core.clock import Clock
from exporter.polling.discovery import Discovery, PipelineLister
from exporter.polling.follow_ups import FollowUps
from exporter.polling.health_reporter import HealthReporter
from exporter.polling.list_check import ListCheck
from exporter.polling.membership import Membership
from exporter.polling.outcome import PollOutcome
from exporter.polling.progress import PollStep, Progress, ignore_progress
from exporter.polling.reporter import PollReporter
from exporter.polling.requested import RequestedPolls
from exporter.polling.schedule import PollSchedule
from exporter.polling.strategies import choose_strategy
from exporter.polling.strategies.base import IGNORED
from exporter.providers.protocol import AnyProvider
from exporter.settings.settings import Poll
from exporter.state.repository import StateRepository
from exporter.telemetry.recorder import Telemetry
from exporter.tracking.project import ProjectTracker

INTERIM_INTERVAL = 5.0
"""Seconds between publications during the first refresh."""

_log = logging.getLogger("exporter.polling.poller")


class Poller:
    """Polls one project. Its polls never overlap."""

    def __init__(
        self,
        project: str,
        provider: AnyProvider,
        api: ApiClient,
        tracker: ProjectTracker,
        membership: Membership,
        list_check: ListCheck,
        poll: Poll,
        *,
        started: float,
        offset: float,
        discovery_interval: float | None,
        telemetry: Telemetry,
        clock: Clock,
        repository: StateRepository,
        publish: Callable[[], Awaitable[None]],
        progress: Progress = ignore_progress,
    ) -> None:
        """`started` is when the first tick is due (monotonic seconds); regular refreshes begin `offset` seconds after it.

        `discovery_interval` is None if no pipelines are discovered.
        """
        self.project = project
        self._provider = provider
        self.api = api
        self.activity = api.activity
        self._tracker = tracker
        self._poll = poll
        self._warnings = api.warnings
        self._reporter = PollReporter(
            project, provider.name, telemetry, api.warnings, zone_key=provider.zone_key
        )
        self._health_reporter = HealthReporter(project, provider.name, telemetry, clock, api.warnings)
        self.health = self._health_reporter.health
        """Whether the project is up or down, since when and why."""
        self._repository = repository
        self.schedule = PollSchedule(poll, clock, started=started, offset=offset)
        self._telemetry = telemetry
        self._clock = clock
        self._publish = publish
        self._progress = progress
        self._unreported = 0
        """Number of pipelines in the current poll that are not yet reported as done."""
        self._lister = PipelineLister(provider, api, self._reporter)
        self._list_check = list_check
        self._discovery = Discovery(
            project,
            self._lister,
            tracker,
            membership,
            list_check,
            self._reporter,
            clock,
            started=started,
            interval=discovery_interval,
            tolerance=self.schedule.tolerance,
            progress=progress,
        )
        self._strategy = choose_strategy(provider, api, tracker, self._reporter, clock, poll)
        self._follow_ups = FollowUps(
            provider, api, tracker, self._reporter, clock, concurrency=poll.concurrency
        )
        self._published_at = started
        """When results were last published during the first refresh, in monotonic seconds."""
        self.up = False
        """Whether every request of the last refresh, and of any active poll since, was answered."""
        self.refreshed = asyncio.Event()
        """Set when the first refresh has ended, successful or not."""
        self.last_refresh: float | None = None
        """When the last refresh ended, in Unix seconds; None before the first."""
        self._following_up = False
        self._tick_missed = False
        """Whether a tick came due during follow-ups."""
        self.requested = RequestedPolls(clock, self._poll_between_ticks)
        self._turn = asyncio.Lock()
        """Held by a tick, or by a requested poll between ticks."""

    def _due(self) -> tuple[bool, tuple[str, ...]]:
        """Return whether a refresh is due, and the ids to poll now."""
        refresh = self.schedule.refresh_due
        return refresh, self._tracker.ids if refresh else self._tracker.active(self._clock.time())

    async def tick(self, *, once: bool = False) -> None:
        """Refresh all pipelines if that is due, otherwise poll those with a run in progress; then send follow-ups.

        `once`: no other tick will come, so nothing is left for later.
        """
        async with self._turn:
            with self.activity.poll():
                await self._poll_due(once=once)
                while self._tick_missed:
                    # Follow-ups ended a little after the next tick was due: that tick is late, not skipped.
                    self._tick_missed = False
                    await self._poll_due()
        if once:
            self._warnings.flush()

    async def _poll_due(self, *, once: bool = False) -> None:
        refresh, ids = self._due()
        self.schedule.begin()
        outcome = PollOutcome()
        started = self._clock.monotonic()
        sent = self.api.sent
        queried = 0
        covered: frozenset[str] = frozenset()
        if refresh:
            if self._discovery.due:
                covered = await self._discovery.read(outcome, self.poll_requested)
                ids = tuple(identity for identity in self._tracker.ids if identity not in covered)
            if once:
                self._discovery.stop_waiting()
            self._discovery.report_surplus()
        self._progress(PollStep.POLL, 0, len(ids))
        self._unreported = len(ids)
        if ids and not outcome.ended:
            queried = await self._strategy.poll(
                ids, outcome, self, refresh=refresh, project_answered=bool(covered)
            )
        elif ids:
            self._tracker.failed(ids)
        # A strategy does not query every pipeline, and a poll that ends early leaves some out.
        self.progressed(self._unreported)
        if refresh:
            self._discovery.refresh_ended(outcome)
            await self._check_list(outcome)
        shown = self._discovery.update_held_back()
        if refresh or ids:
            await self.save()
            seconds = self._clock.monotonic() - started
            self._end_poll(outcome, queried, refresh=refresh, seconds=seconds)
            if refresh:
                self.last_refresh = self._clock.time()
                self._health_reporter.refresh_ended(
                    outcome,
                    pipelines=len(self._tracker.ids),
                    requests=self.api.sent - sent,
                    seconds=seconds,
                    log=not once,
                )
        if refresh or ids or shown:
            await self._publish()
        if refresh:
            self.refreshed.set()
        if not outcome.ended:
            await self._follow_up(once=once)

    async def _check_list(self, outcome: PollOutcome) -> None:
        """Compare the provider's list with the configuration if that is due, and log mistakes."""
        self._reporter.credentials_expire(self.api.manual_expiry, self._clock.time())
        if outcome.failed and self._list_check.empty:
            # A project that was refused lists nothing to users who are not members.
            self._list_check.withdraw()
            self._discovery.read_again()
        if outcome.ended:
            # A poll that ended early shows nothing about the configured ids.
            self._list_check.refresh_ended(self._clock.monotonic(), answered=outcome.answered)
            return
        if self._discovery.check_due:
            if self.wants_publication:
                await self.publish_interim()
            await self._discovery.check(outcome, self.poll_requested)
        self._list_check.log()
        answered = outcome.answered or not outcome.failed
        self._list_check.refresh_ended(self._clock.monotonic(), answered=answered)

    async def _follow_up(self, *, once: bool) -> None:
        self._following_up = True
        try:
            while True:
                await self._follow_up_once(once=once)
                if not self.requested.due:
                    break
                await self.poll_requested()
        finally:
            self._following_up = False

    async def _follow_up_once(self, *, once: bool) -> None:
        """Send follow-ups until the next tick or requested poll is due."""
        next_tick = math.inf if once else self.schedule.next_tick
        any_sent = await self._follow_ups.run(
            lambda: min(next_tick, self.requested.next), runs=not once, progress=self._progress
        )
        if once and any_sent:
            # Run lists may have shown failed runs whose failed stages only their details have.
            await self._follow_ups.run(lambda: math.inf, runs=False, progress=self._progress)
        if any_sent:
            await self.save()
            self._update_telemetry()
            await self._publish()

    async def save(self) -> None:
        """Save the results of the polls so far."""
        self._reporter.missed(await self._repository.save(self._tracker))

    def _end_poll(self, outcome: PollOutcome, queried: int, *, refresh: bool, seconds: float) -> None:
        self.up = not outcome.failed and (refresh or self.up)
        self._telemetry.poll_ended(
            self.project,
            self._provider.name,
            up=self.up,
            refresh=refresh,
            seconds=seconds,
            now=self._clock.time(),
        )
        self._update_telemetry()
        self._reporter.failures(outcome)
        _log.debug(
            "poll finished",
            extra={
                "project": self.project,
                "detail": "refresh" if refresh else "active poll",
                "pipelines": queried,
                "seconds": round(seconds, 2),
            },
        )
        self._tracker.expire(self._clock.monotonic(), self._poll.max_age)

    def _update_telemetry(self) -> None:
        ids = self._tracker.ids
        self._telemetry.set_pipelines(
            self.project,
            self._provider.name,
            pipelines=len(ids),
            refused=self._strategy.refused(ids),
            unresolved=self._tracker.unresolved,
        )
        self._reporter.misnumbered(self._tracker.take_misnumbered())

    async def list_pipelines(self, progress: Progress) -> dict[str, str]:
        """Return the name of each pipeline that the provider lists for the project, by id.

        Raises:
            ApiError: a request failed.

        """
        try:
            return await self._lister.names(progress)
        finally:
            self._warnings.flush()

    # Observing a poll

    def progressed(self, pipelines: int) -> None:
        """Report that some more pipelines are done, at most as many as the poll has."""
        done = min(pipelines, self._unreported)
        self._unreported -= done
        self._progress(PollStep.POLL, done, 0)

    @property
    def wants_publication(self) -> bool:
        """True if a requested poll is due, or in the first refresh `INTERIM_INTERVAL` seconds after the last publication."""
        return self.requested.due or (
            not self.refreshed.is_set() and self._clock.monotonic() - self._published_at >= INTERIM_INTERVAL
        )

    async def publish_interim(self) -> None:
        """Send the requested polls that are due, then save and publish the results so far."""
        await self.poll_requested()
        await self.save()
        self._update_telemetry()
        await self._publish()
        self._published_at = self._clock.monotonic()

    # Requested polls

    def watches(self, pipeline_id: str) -> bool:
        """Return True if the project polls a pipeline."""
        return pipeline_id in self._tracker.ids

    def request_poll(self, pipeline_id: str) -> bool:
        """Poll a watched pipeline at once and, while its run is in progress, again; return False if called too often."""
        return self.requested.request(pipeline_id)

    async def _poll_between_ticks(self) -> None:
        """Send the requested polls that are due; if a tick is running, wait until it has sent them."""
        try:
            async with self._turn:
                if self.requested.due:
                    with self.activity.poll():
                        await self.poll_requested()
        except Exception:  # noqa: BLE001  # the next one may succeed
            _log.exception(
                "poll failed by an internal error, please report this",
                extra={"id": "poll-crashed", "project": self.project},
            )

    async def poll_requested(self) -> None:
        """Send the requested polls that are due. No other request for pipelines is in flight meanwhile."""
        ids = tuple(one for one in self.requested.take() if self.watches(one))
        if not ids:
            return
        outcome = PollOutcome()
        started = self._clock.monotonic()
        queried = await self._strategy.poll(ids, outcome, IGNORED, refresh=False)
        await self.save()
        self._end_poll(outcome, queried, refresh=False, seconds=self._clock.monotonic() - started)
        await self._publish()
        if not outcome.failed:
            ended = [one for one in ids if self.watches(one) and not self._tracker[one].in_progress]
            self.requested.ended(ended, started)

    # Between polls

    def skip(self) -> None:
        """Handle a tick that came due during the previous one: do it after follow-ups, otherwise count it as skipped."""
        if self._following_up:
            self._tick_missed = True
            return
        if self._due()[1]:
            self._reporter.poll_skipped()

    def list_again(self) -> None:
        """Read the list of pipelines in the next refresh."""
        self._discovery.read_again()

    async def drain(self) -> None:
        """Send nothing more, and wait until the requests in flight have ended."""
        await self.api.drain()
        await self.requested.close()

    async def close(self) -> None:
        """Send no more requested polls, and close the connections to the cloud."""
        await self.requested.close()
        await self.api.close()
