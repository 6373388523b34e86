"""Asking a cloud that tells of each pipeline alone: those first of all in which something has happened.

A sweep asks three lists of the whole project, each a page or a few: which pipelines were started since the last sweep,
which since a while before it, and in which a run is under way. Those are asked about by their run lists, and so is
whatever is known to be under way. Of the others the sweep has told that nothing happened.

A sweep can be wrong: a start may be listed late, and a run that is begun again keeps its start. So its longer window
reaches back over the last ones, and each pipeline is asked directly once in an hour, too, spread out. What stands in
the longer window alone, and is explained by the run that is known, is not asked for again.

Where asking each pipeline directly costs fewer requests, there is no sweep.
"""

import math
from collections.abc import Sequence
from hashlib import sha256

from exporter.client.api_client import ApiClient, ApiError, ApiResponse
from exporter.core.clock import Clock
from exporter.core.failures import FailureKind
from exporter.core.model import Run
from exporter.polling.reporter import PollOutcome, PollReporter
from exporter.polling.run_history import RunHistoryReader, assume_finished, is_summary
from exporter.polling.strategies.base import PollObserver, PollStrategy
from exporter.providers.protocol import PageCursor, SupportsActivityQuery, TimeWindow
from exporter.tracking.ledger import RUNS, Reach
from exporter.tracking.project import ProjectTracker

LISTS = 3
"""Lists that a sweep asks for, a page of each at least."""

DIRECTLY = 3600.0
"""Seconds within which each pipeline is asked directly, whatever the sweeps tell."""

OVERLAP = 2
"""Intervals by which the window of a sweep reaches back before the one before it."""

RECKONED = 3600.0
"""Seconds after which a sweep that was found too dear is tried again."""

_GRAIN = 5.0
"""Seconds that a clock may be off, or a moment be rounded by."""

_AHEAD = 3600.0
"""Seconds by which a window ends in the future: whether it bounds starts or ends nobody says."""

_SLACK = 60.0
"""Seconds between what a sweep and what a run list may call the start of a run."""


def requests_of_direct_asks(pipelines: int, interval: float) -> float:
    """Requests of a refresh that ask pipelines directly although nothing has happened, on the average."""
    # A pause is between half an hour and an hour, any of them as likely.
    return pipelines * interval * 2 * math.log(2) / DIRECTLY


def sweeps(pipelines: int, interval: float, pages: int = LISTS) -> bool:
    """Whether sweeps of so many pages cost fewer requests than asking each pipeline in each refresh."""
    return pages + requests_of_direct_asks(pipelines, interval) < pipelines


class ActivityStrategy(PollStrategy):
    """A sweep each time, and then those pipelines that it or the run that is known speaks for."""

    # Each is asked by itself, so that whoever may not see one can see the next: if not, it is the project after all.
    refusals = frozenset({FailureKind.CONTENT, FailureKind.PROJECT})

    def __init__(
        self,
        provider: SupportsActivityQuery,
        api: ApiClient,
        tracker: ProjectTracker,
        report: PollReporter,
        clock: Clock,
        watcher: PollObserver,
        *,
        interval: float,
        concurrency: int,
    ) -> None:
        """`interval` is the poll's, in seconds."""
        super().__init__(api, tracker, report, clock, watcher, chunk_size=1, concurrency=concurrency)
        self._provider = provider
        self._interval = interval
        self._directly: dict[str, float] = {}
        """When each pipeline is to be asked directly, in monotonic seconds; those that are not here at once."""
        self._swept: float | None = None
        """When what was last found out about all pipelines began to be asked for, in monotonic seconds."""
        self._ahead = clock.time() - clock.monotonic()
        """How far the provider's clock is ahead of our monotonic one, in seconds: a step of the wall clock moves no window."""
        self._pages = LISTS
        """Requests that a sweep takes, as far as known."""
        self._too_dear_until = -math.inf

    async def poll(self, ids: Sequence[str], outcome: PollOutcome, *, refresh: bool) -> int:
        """Ask about those that it is worth to ask about; the others are as they were."""
        if not refresh:
            await self._ask_all(ids, outcome, refresh=False)
            return len(ids)
        started = self._clock.monotonic()
        watched = frozenset(ids)
        self._directly = {one: due for one, due in self._directly.items() if one in watched}
        asked = {one for one in ids if self._directly.get(one, -math.inf) <= started}
        asked |= watched.intersection(
            self._tracker.must_query.union(self._tracker.active(self._clock.time()))
        )
        told: set[str] | None = None
        others = len(ids) - len(asked)
        if self._swept is not None and others > self._pages and self._sweeping(len(ids), started):
            told = await self._sweep(self._swept, most=others, outcome=outcome)
        failing = outcome.failed > 0
        if told is not None:
            asked |= watched.intersection(told)
            self._tracker.inactive(watched - asked, sent_at=started)
        elif failing:
            self._tracker.failed(watched - asked)
        else:
            asked = set(ids)
        if outcome.over:
            self._tracker.failed(asked)
            return 0
        plan = await self._ask_all(
            [one for one in ids if one in asked], outcome, refresh=True, trusted=told is not None
        )
        for identity in plan.unasked:
            # The next sweep need not speak for it again.
            self._directly.pop(identity, None)
        if told is not None or not (failing or outcome.over):
            self._swept = started
        return len(asked)

    # Sweeps

    def _sweeping(self, pipelines: int, now: float) -> bool:
        if now < self._too_dear_until:
            return False
        return sweeps(pipelines, self._interval, self._pages)

    async def _sweep(self, since: float, *, most: int, outcome: PollOutcome) -> set[str] | None:
        """The pipelines in which something may have happened since a moment (monotonic seconds).

        None if that cannot be told, for it failed or takes more than `most` requests.
        """
        now = self._clock.monotonic() + self._ahead
        epoch_start, until = now - (self._clock.monotonic() - since) - _GRAIN, now + _AHEAD
        longer = TimeWindow(epoch_start - OVERLAP * self._interval, until)
        fresh: set[str] = set()
        pages = 0
        try:
            for executed in (TimeWindow(epoch_start, until), None, longer):
                place = PageCursor()
                while True:
                    if pages >= most:
                        # Each pipeline asked directly costs no more than that.
                        self._too_dear_until = self._clock.monotonic() + RECKONED
                        return None
                    answer = await self._api.send(self._provider.activity_request(place, executed))
                    page = self._provider.read_activity(answer.body, answer.headers)
                    pages += 1
                    outcome.in_a_row = 0
                    self._report.record_anomalies(page)
                    found = (
                        identity for identity in page.pipelines if self._speaks(identity, executed, longer)
                    )
                    fresh.update(found)
                    place = place.after(page)
                    if page.last or not page.rows:
                        break
                self._heard(answer)
        except ApiError as error:
            if error.failure.kind in {FailureKind.PROJECT, FailureKind.CONTENT, FailureKind.UNREADABLE}:
                # Whoever may not list pipelines may still ask about each.
                self._too_dear_until = self._clock.monotonic() + RECKONED
                self._report.warn("pipelines cannot be listed by what has happened, so each is asked", error)
            else:
                outcome.note(error)
            return None
        self._pages = pages
        return fresh

    def _speaks(self, identity: str, executed: TimeWindow | None, longer: TimeWindow) -> bool:
        """Whether a row of a sweep speaks for asking about a pipeline."""
        if identity not in self._directly:
            return False
        if executed is not longer:
            return True
        latest = self._tracker[identity].latest
        return latest is None or latest.start is None or latest.start < longer.since - _SLACK

    # Pipelines

    async def _ask_chunk(self, ids: Sequence[str]) -> frozenset[str]:
        for identity in ids:
            await self._ask_one(identity)
        return frozenset()

    async def _ask_one(self, identity: str) -> None:
        self._directly.pop(identity, None)
        runs = RunHistoryReader(self._provider, self._api, self._report, identity)
        while not runs.newest_found:
            await runs.read_page(RUNS)
        answer = runs.answer
        if answer is None or not runs.conclusive:
            self._tracker.failed([identity])
            return
        self._heard(answer)
        newest = max(runs.runs, key=lambda run: run.number or 0, default=None)
        if newest is None:
            self._tracker.answered([identity], {}, sent_at=answer.sent_at, now=answer.now)
        else:
            # As far back as numbers are wanted: whoever asks again and again leaves closer looks no turn.
            search = self._tracker[identity].accounting.search_after(newest, answer.now)
            while runs.reach(search) is None:
                await runs.read_page(RUNS)
            reach = runs.reach(search) or Reach.PARTIAL
            await self._tell(identity, runs, reach, newest, runs.answer or answer)
        self._directly[identity] = self._clock.monotonic() + self._pause(identity)

    async def _tell(
        self, identity: str, runs: RunHistoryReader, reach: Reach, newest: Run, answer: ApiResponse
    ) -> None:
        """Complete what is new of the runs of a pipeline, and tell it."""
        first, *rows = assume_finished([newest, *runs.runs])
        missing_numbers = set(self._tracker[identity].accounting.preview(first, rows, reach, now=answer.now))
        known = self._tracker[identity].latest
        settled = known is not None and newest.status.final and is_summary(newest, known)
        if not settled:
            missing_numbers.add(newest.id)
        told, complete = await runs.completed(missing_numbers, jobs=self._tracker.jobs)
        latest = next(run for run in told if run.id == newest.id)
        if known is not None and settled:
            latest = known
        self._tracker.answered([identity], {identity: latest}, sent_at=answer.sent_at, now=answer.now)
        self._tracker[identity].listed(
            told,
            reach if complete else Reach.PARTIAL,
            clock=self._clock.monotonic(),
            now=answer.now,
            same_answer=True,
        )

    def _heard(self, answer: ApiResponse) -> None:
        self._ahead = answer.now - self._clock.monotonic()

    def _pause(self, identity: str) -> float:
        """Seconds until a pipeline is asked directly again: each another time, so that they spread out."""
        drawn = int.from_bytes(sha256(identity.encode()).digest()[:4]) / 2**32
        return max(DIRECTLY * (0.5 + 0.5 * drawn) - self._interval, 0.0)
