"""What is due, in which chunks, and what its answers change: one unit of work a call.

`tick` is that unit. It is called by the scheduler and, in tests, by hand; it never starts or waits for itself. Ticks of
a project do not overlap, so nothing is asked twice at once, and no answer overtakes a newer one. In a tick the budget
serves in the order of the code: names, the refresh or the active poll, then closer looks for the time that is left until
the next tick. What was learnt is saved before it is shown.
"""

import asyncio
import logging
import math
from collections.abc import AsyncIterator, Awaitable, Callable
from collections.abc import Set as AbstractSet

import msgspec

from exporter.client.api_client import ApiClient, ApiError, ApiResponse
from exporter.core.clock import Clock
from exporter.core.failures import FailureKind
from exporter.core.model import Run, label
from exporter.polling.follow_ups import FollowUps
from exporter.polling.membership import Membership
from exporter.polling.reporter import PollOutcome, PollReporter
from exporter.polling.strategies import choose_strategy
from exporter.providers.protocol import AnyProvider, PageCursor, PipelineRows
from exporter.settings.settings import Poll
from exporter.state.repository import StateRepository
from exporter.telemetry.recorder import Telemetry
from exporter.tracking.project import ProjectTracker

PAGES = 1000
"""Pages of a list of pipelines that are read, at most."""

NAMES_INTERVAL = 3600.0
"""Seconds between looks at the names of listed pipelines, where nothing is discovered."""

MEANWHILE = 5.0
"""Seconds between pages while the first refresh goes on."""

PATIENCE = 60.0
"""Seconds for which a pipeline is not shown as long as its name may still be learnt."""

_EARLY = 0.01
"""How early a refresh may begin, in intervals: a timer by another clock need not hit its moment to the millisecond."""

_log = logging.getLogger("exporter.polling.poller")


def _nobody(_: int) -> None:
    """Nobody watches the progress."""


class _Listed(msgspec.Struct, frozen=True):
    """What a page of the list of pipelines says of those that may be watched."""

    ids: frozenset[str]
    unusable: frozenset[str]
    runs: dict[str, Run]
    asked: float
    now: float

    @classmethod
    def of(
        cls, page: PipelineRows, answer: ApiResponse, membership: Membership, chosen: AbstractSet[str]
    ) -> "_Listed":
        """Of a page, and of neither its other rows nor the answer's body, which take the memory of the whole list."""
        ids = frozenset(one for one in page.pipelines if membership.may_watch(one, selected=one in chosen))
        runs = {identity: run for identity, run in page.runs.items() if identity in ids}
        return cls(ids, ids & page.unusable, runs, answer.sent_at, answer.now)


class Poller:
    """The polls of one project, which never overlap."""

    def __init__(
        self,
        project: str,
        provider: AnyProvider,
        api: ApiClient,
        tracker: ProjectTracker,
        membership: Membership,
        poll: Poll,
        *,
        started: float,
        offset: float,
        discovery_interval: float | None,
        telemetry: Telemetry,
        clock: Clock,
        repository: StateRepository,
        publish: Callable[[], Awaitable[None]],
    ) -> None:
        """`started` is when the first tick is due (monotonic); regular refreshes begin `offset` seconds after it.

        `discovery_interval` is None where no pipelines are discovered.
        """
        self.project = project
        self._provider = provider
        self._api = api
        self.activity = api.activity
        self._tracker = tracker
        self._membership = membership
        self._poll = poll
        self._report = PollReporter(project, provider.name, telemetry, zone_key=provider.zone_key)
        self._follow_ups = FollowUps(
            provider, api, tracker, self._report, clock, concurrency=poll.concurrency
        )
        self._repository = repository
        self._started = started
        self.offset = offset
        self._discovers = discovery_interval is not None
        self._listing_interval = NAMES_INTERVAL if discovery_interval is None else discovery_interval
        self._listed_at: float | None = None
        self._names_settled = not (self._discovers or membership.wants_names)
        self._strategy = choose_strategy(provider, api, tracker, self._report, clock, self, poll)
        self._telemetry = telemetry
        self._clock = clock
        self._publish = publish
        self._slot: int | None = None
        self._shown = started
        """When a page was last published while the first refresh went on."""
        self.up = False
        """Whether every request of the last refresh, and of any active poll since, was answered."""
        self.progress: Callable[[int], object] = _nobody
        """Called with the number of pipelines that were asked about or listed, as a poll goes on."""
        self._looking = False
        self._again = False
        """Whether a tick came due while only details and hidden runs were asked for."""
        self.refreshed = asyncio.Event()
        """Set when the first refresh has ended, well or not."""
        self._surplus = 0
        """How many pipelines above the limit were reported last."""
        self._settle_names()

    def _present_slot(self) -> int:
        """Which refresh the present moment belongs to: -1 is the first, at the start."""
        since = self._clock.monotonic() - self._started - self.offset
        return max(-1, math.floor((since + _EARLY * self._poll.interval) / self._poll.interval))

    def _due(self) -> tuple[bool, tuple[str, ...]]:
        """Whether a refresh is due, and the ids to ask about now."""
        refresh = self._present_slot() != self._slot
        return refresh, self._tracker.ids if refresh else self._tracker.active(self._clock.time())

    async def tick(self, *, once: bool = False) -> None:
        """Refresh all pipelines if that is due, else ask about those whose run is under way; then look closer.

        `once`: there will be no other tick, so nothing is left for later.
        """
        with self.activity.poll():
            await self._poll_due(once=once)
            while self._again:
                # What was under way at the last moment ended a little late: that is no poll that ran into the next.
                self._again = False
                await self._poll_due()

    async def _poll_due(self, *, once: bool = False) -> None:
        refresh, ids = self._due()
        self._slot = self._present_slot()
        outcome = PollOutcome()
        started = self._clock.monotonic()
        asked = 0
        if refresh:
            if self._listing_due():
                covered = await self._list(outcome)
                ids = tuple(identity for identity in self._tracker.ids if identity not in covered)
            self._names_settled = self._names_settled or once
            self._report_surplus()
        if ids and not outcome.over:
            asked = await self._strategy.poll(ids, outcome, refresh=refresh)
        elif ids:
            self._tracker.failed(ids)
        shown = self._settle_names()
        if refresh or ids:
            self._report.missed(await self._repository.save(self._tracker))
            self._end_poll(outcome, asked, refresh=refresh, seconds=self._clock.monotonic() - started)
        if refresh or ids or shown:
            await self._publish()
        if refresh:
            self.refreshed.set()
        if not outcome.over:
            self._looking = True
            try:
                looked = await self._follow_ups.run(math.inf if once else self._next_tick(), runs=not once)
            finally:
                self._looking = False
            if looked:
                self._report.missed(await self._repository.save(self._tracker))
                self._watch()
                await self._publish()

    def _end_poll(self, outcome: PollOutcome, asked: int, *, refresh: bool, seconds: float) -> None:
        self.up = not outcome.failed and (refresh or self.up)
        self._telemetry.polled(
            self.project,
            self._provider.name,
            up=self.up,
            refresh=refresh,
            seconds=seconds,
            now=self._clock.time(),
        )
        self._watch()
        self._report.failures(outcome)
        _log.debug(
            "%s: asked about %d pipelines in %.2f s",
            "refresh" if refresh else "active poll",
            asked,
            seconds,
            extra={"project": self.project},
        )
        self._tracker.expire(self._clock.monotonic(), self._poll.max_age)

    def _watch(self) -> None:
        ids = self._tracker.ids
        self._telemetry.watched(
            self.project,
            pipelines=len(ids),
            refused=self._strategy.refused(ids),
            unresolved=self._tracker.unresolved,
        )
        self._report.misnumbered(self._tracker.take_misnumbered())

    def _next_tick(self) -> float:
        """When the next tick may be due, by the monotonic clock."""
        period = min(self._poll.active_interval, self._poll.interval)
        since = self._clock.monotonic() - self._started
        return self._started + (math.floor(since / period) + 1) * period

    # Names and members

    def _listing_due(self) -> bool:
        if not (self._discovers or self._membership.wants_names):
            return False
        early = _EARLY * self._poll.interval
        return (
            self._listed_at is None
            or self._clock.monotonic() - self._listed_at + early >= self._listing_interval
        )

    async def _list(self, outcome: PollOutcome) -> frozenset[str]:
        """Read the whole list of pipelines; returns the ids that it told everything about that a batch would."""
        found: dict[str, str] = {}
        selected: set[str] = set()
        listed: list[_Listed] = []
        kept = 0
        # A list that tells no run at all may be one that does not tell runs.
        tells = False
        complete = True
        try:
            async for page, answer in self._pages():
                found |= {identity: label(name) for identity, name in page.pipelines.items()}
                tells = tells or bool(page.runs)
                complete = complete and not page.incomplete
                chosen = {one for one, name in page.pipelines.items() if self._membership.selects(one, name)}
                selected |= chosen
                listed.append(_Listed.of(page, answer, self._membership, chosen))
                kept += len(listed[-1].ids)
                if kept > self._membership.limit:
                    # Which of them are watched is known at the end: those are polled in addition.
                    listed.clear()
        except ApiError as error:
            if (
                error.failure.kind in {FailureKind.PROJECT, FailureKind.CONTENT, FailureKind.UNREADABLE}
                and not self._discovers
            ):
                # Names alone are a convenience: nothing is down without them.
                self._listed_at = self._clock.monotonic()
                self._names_settled = True
                self._report.warn("pipelines' names cannot be listed, their ids serve", error)
                return frozenset()
            outcome.note(error)
            if error.failure.kind in {FailureKind.PROJECT, FailureKind.CONTENT}:
                # Where names cannot be listed at all there is nothing to wait for, and batches may work all the same.
                self._names_settled = True
                outcome.over = False
            return frozenset()
        mark_unverified = self._membership.listed(found, selected, complete=complete)
        if mark_unverified:
            outcome.failed += 1
            _log.warning(mark_unverified, extra={"project": self.project})
        else:
            self._listed_at = self._clock.monotonic()
            self._names_settled = True
        self._tracker.update(self._membership.pipelines(), self._clock.monotonic(), self._clock.time())
        members = frozenset(self._tracker.ids)
        covered: set[str] = set()
        for part in listed if tells else ():
            ids = [one for one in part.ids - part.unusable if one in members and one not in covered]
            self._tracker.answered(ids, part.runs, sent_at=part.asked, now=part.now)
            covered.update(ids)
        outcome.covered = bool(covered)
        return frozenset(covered)

    def _report_surplus(self) -> None:
        """Log that there are more pipelines than are watched, whenever their number has changed."""
        surplus, limit = self._membership.surplus, self._membership.limit
        if surplus != self._surplus:
            self._surplus = surplus
            if surplus:
                _log.error(
                    "more pipelines than limits.max_pipelines, watching the first by id",
                    extra={"project": self.project, "pipelines": limit + surplus, "limit": limit},
                )

    async def _pages(self) -> AsyncIterator[tuple[PipelineRows, ApiResponse]]:
        """Read the list of pipelines page by page.

        Raises:
            ApiError: a page cannot be had.

        """
        seen: set[str] = set()
        place = PageCursor()
        while place.pages < PAGES and place.rows < PAGES * self._provider.page_size:
            answer = await self._api.send(self._provider.pipelines_request(place))
            page = self._provider.read_pipelines(answer.body, answer.now, answer.headers)
            self._report.record_anomalies(page)
            # Totals were seen to be wrong, and a cloud may give fewer rows than asked. A page that says nothing new is
            # one of a cloud that does not heed where it is to begin.
            if not page.rows or (page.pipelines and seen.issuperset(page.pipelines)):
                break
            seen.update(page.pipelines)
            yield page, answer
            place = place.after(page)
            self.progress(page.rows)
            if page.last:
                break

    async def discover(self) -> dict[str, str]:
        """The name of each pipeline that the provider lists for the project, by id.

        Raises:
            ApiError: it does not list them.

        """
        found: dict[str, str] = {}
        async for page, _ in self._pages():
            found |= page.pipelines
        return found

    def _settle_names(self) -> bool:
        """Decide which pipelines are held back for want of a name; says whether that changed."""
        waiting = not self._names_settled and self._clock.monotonic() - self._started < PATIENCE
        held_back = self._membership.unnamed if waiting else frozenset()
        return self._tracker.hold_back(held_back)

    # Watching an inquiry

    def asked(self, pipelines: int) -> None:
        """So many more pipelines were asked about."""
        self.progress(pipelines)

    @property
    def wants_publication(self) -> bool:
        """Whether it is time to show what the first refresh has learnt so far."""
        return not self.refreshed.is_set() and self._clock.monotonic() - self._shown >= MEANWHILE

    async def show(self) -> None:
        """Save what was learnt so far, and publish it."""
        self._report.missed(await self._repository.save(self._tracker))
        self._watch()
        await self._publish()
        self._shown = self._clock.monotonic()

    # Between polls

    def skip(self) -> None:
        """A tick was due while the one before still ran: count it, if it would have asked anything."""
        if self._looking:
            self._again = True
            return
        _, ids = self._due()
        if ids:
            self._telemetry.skipped(self.project)
            _log.warning("a poll was due while the one before still ran", extra={"project": self.project})

    async def close(self) -> None:
        """Close the connections to the cloud."""
        await self._api.close()
