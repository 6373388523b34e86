"""Query pipelines one by one, first those in which something has happened.

An activity query reads three lists of the whole project, each of one or a few pages: pipelines whose last run started
since the previous query, pipelines whose last run started in a longer window, and pipelines with a run in progress. These
pipelines are queried by their run lists, and so is every pipeline that is known to have a run in progress. The others
have not changed.

An activity query can be wrong: a start may be listed late, and a retried run keeps its start. So the longer window
reaches back over the last queries, and each pipeline is also queried directly once an hour, spread out. A pipeline that
only the longer window lists is skipped if its latest known run explains the row.

If querying each pipeline directly takes fewer requests, there is no activity query.
"""

import math
from collections.abc import Sequence
from hashlib import sha256

from exporter.client.api_client import ApiClient, ApiError, ApiResponse
from exporter.core.clock import Clock
from exporter.core.failures import FailureKind
from exporter.core.model import Run
from exporter.polling.outcome import PollOutcome
from exporter.polling.reporter import PollReporter
from exporter.polling.run_history import RunHistoryReader, assume_finished, is_summary
from exporter.polling.strategies.base import PollObserver, PollStrategy
from exporter.providers.protocol import PageCursor, SupportsActivityQuery, TimeWindow
from exporter.tracking.ledger import RUNS, Reach
from exporter.tracking.project import ProjectTracker

LISTS = 3
"""Lists of an activity query, each of at least one page."""

DIRECT_INTERVAL = 3600.0
"""Seconds within which each pipeline is queried directly, in addition to activity queries."""

OVERLAP = 2
"""Poll intervals by which the longer window reaches back."""

RETRY_INTERVAL = 3600.0
"""Seconds until activity queries are tried again after one was refused or took too many requests."""

_CLOCK_ERROR = 5.0
"""Seconds that a clock may be wrong or a time rounded by."""

_AHEAD = 3600.0
"""Seconds by which a window ends in the future: whether it limits starts or ends is undocumented."""

_START_ERROR = 60.0
"""Seconds by which the start of a run may differ between an activity query and the run list."""

_NEVER = -math.inf


def direct_requests(pipelines: int, interval: float) -> float:
    """Return the mean number of requests in a refresh for direct queries of pipelines without activity."""
    # The pause is evenly distributed between half an interval and a whole one.
    return pipelines * interval * 2 * math.log(2) / DIRECT_INTERVAL


def activity_query_pays(pipelines: int, interval: float, pages: int = LISTS) -> bool:
    """Return True if an activity query with this number of pages takes fewer requests than querying each pipeline."""
    return pages + direct_requests(pipelines, interval) < pipelines


class ActivityStrategy(PollStrategy):
    """Reads the lists of recently active pipelines, then the run lists of those pipelines."""

    # Each pipeline is queried alone, and the user may be allowed to read the next one: only if none can be read, the
    # project is the cause.
    refusal_kinds = frozenset({FailureKind.CONTENT, FailureKind.PROJECT})

    def __init__(
        self,
        provider: SupportsActivityQuery,
        api: ApiClient,
        tracker: ProjectTracker,
        reporter: PollReporter,
        clock: Clock,
        *,
        interval: float,
        concurrency: int,
    ) -> None:
        """`interval` is the poll interval in seconds."""
        super().__init__(api, tracker, reporter, clock, chunk_size=1, concurrency=concurrency)
        self._provider = provider
        self._interval = interval
        self._direct_due: dict[str, float] = {}
        """When each pipeline is due for a direct query, in monotonic seconds; missing ones are due at once."""
        self._covered: float | None = None
        """When the last poll that covered all pipelines started, in monotonic seconds."""
        self._clock_offset = clock.time() - clock.monotonic()
        """Provider's time minus our monotonic time, in seconds; unlike the wall clock it never steps."""
        self._pages = LISTS
        """Number of requests of the last complete activity query; before the first, one for each list."""
        self._disabled_until = _NEVER

    async def poll(
        self,
        ids: Sequence[str],
        outcome: PollOutcome,
        observer: PollObserver,
        *,
        refresh: bool,
        project_answered: bool = False,  # noqa: ARG002  # a list of pipelines does not prove that runs may be read
    ) -> int:
        """Query pipelines that may have changed; the others keep their state."""
        if not refresh:
            await self._query_all(ids, outcome, observer, refresh=False, project_answered=False)
            return len(ids)
        started = self._clock.monotonic()
        watched = frozenset(ids)
        self._direct_due = {one: due for one, due in self._direct_due.items() if one in watched}
        queried = {one for one in ids if self._direct_due.get(one, _NEVER) <= started}
        queried |= watched.intersection(
            self._tracker.must_query.union(self._tracker.active(self._clock.time()))
        )
        active: set[str] | None = None
        others = len(ids) - len(queried)
        if self._covered is not None and others > self._pages and self._enabled(len(ids), started):
            active = await self._query_activity(self._covered, most=others, outcome=outcome)
        failed = outcome.failed
        if active is not None:
            queried |= watched.intersection(active)
            self._tracker.inactive(watched - queried, sent_at=started)
        elif failed:
            self._tracker.failed(watched - queried)
        else:
            queried = set(ids)
        if outcome.ended:
            self._tracker.failed(queried)
            return 0
        plan = await self._query_all(
            [one for one in ids if one in queried],
            outcome,
            observer,
            refresh=True,
            project_answered=active is not None,
        )
        for identity in plan.unanswered:
            # The next activity query may not list it again.
            self._direct_due.pop(identity, None)
        if active is not None or not (failed or outcome.ended):
            self._covered = started
        return len(queried)

    # Activity queries

    def _enabled(self, pipelines: int, now: float) -> bool:
        if now < self._disabled_until:
            return False
        return activity_query_pays(pipelines, self._interval, self._pages)

    async def _query_activity(self, since: float, *, most: int, outcome: PollOutcome) -> set[str] | None:
        """Return the pipelines in which something may have happened since a time (monotonic seconds).

        None if the query failed or takes more than `most` requests.
        """
        now = self._clock.monotonic() + self._clock_offset
        start, until = now - (self._clock.monotonic() - since) - _CLOCK_ERROR, now + _AHEAD
        longer = TimeWindow(start - OVERLAP * self._interval, until)
        active: set[str] = set()
        pages = 0
        try:
            for window in (TimeWindow(start, until), None, longer):
                cursor = PageCursor()
                while True:
                    if pages >= most:
                        # Querying each pipeline directly takes no more requests than that.
                        self._disabled_until = self._clock.monotonic() + RETRY_INTERVAL
                        return None
                    answer = await self._api.send(self._provider.activity_request(cursor, window))
                    page = self._provider.read_activity(answer.body, answer.headers)
                    pages += 1
                    outcome.record_success()
                    self._reporter.record_anomalies(page)
                    active.update(
                        identity
                        for identity in page.pipelines
                        if self._is_news(identity, longer if window is longer else None)
                    )
                    cursor = cursor.after(page)
                    if page.last or not page.rows:
                        break
                self._read_clock(answer)
        except ApiError as error:
            if error.failure.kind in {FailureKind.PROJECT, FailureKind.CONTENT, FailureKind.UNREADABLE}:
                # A user who may not list pipelines may still query each one.
                self._disabled_until = self._clock.monotonic() + RETRY_INTERVAL
                self._reporter.activity_not_listed(error)
            else:
                outcome.record_error(error)
            return None
        self._pages = pages
        return active

    def _is_news(self, identity: str, longer: TimeWindow | None) -> bool:
        """Return True if a listed pipeline is to be queried; `longer` is the longer window, for its rows."""
        if identity not in self._direct_due:
            return False
        if longer is None:
            return True
        latest = self._tracker[identity].latest
        return latest is None or latest.start is None or latest.start < longer.since - _START_ERROR

    # Pipelines

    async def _query_chunk(self, ids: Sequence[str]) -> frozenset[str]:
        for identity in ids:
            await self._query_pipeline(identity)
        return frozenset()

    async def _query_pipeline(self, identity: str) -> None:
        self._direct_due.pop(identity, None)
        reader = RunHistoryReader(self._provider, self._api, self._reporter, identity)
        while not reader.newest_found:
            await reader.read_page(RUNS)
        answer = reader.answer
        if answer is None or not reader.conclusive:
            self._tracker.failed([identity])
            return
        self._read_clock(answer)
        newest = max(reader.runs, key=lambda run: run.number or 0, default=None)
        if newest is None:
            self._tracker.answered([identity], {}, sent_at=answer.sent_at, now=answer.now)
        else:
            # All pages that the search needs now: a pipeline queried in every poll would never have a follow-up.
            search = self._tracker[identity].accounting.search_after(newest, answer.now)
            while reader.reach(search) is None:
                await reader.read_page(RUNS)
            reach = reader.reach(search) or Reach.PARTIAL
            await self._apply(identity, reader, reach, newest, reader.answer or answer)
        self._direct_due[identity] = self._clock.monotonic() + self._pause(identity)

    async def _apply(
        self, identity: str, reader: RunHistoryReader, reach: Reach, newest: Run, answer: ApiResponse
    ) -> None:
        """Complete new runs of a pipeline with their details, and apply them."""
        first, *rows = assume_finished([newest, *reader.runs])
        wanted = set(self._tracker[identity].accounting.preview(first, rows, reach, now=answer.now))
        known = self._tracker[identity].latest
        settled = known is not None and newest.status.final and is_summary(newest, known)
        if not settled:
            wanted.add(newest.id)
        runs, complete = await reader.with_details(wanted, jobs=self._tracker.jobs)
        latest = next(run for run in runs if run.id == newest.id)
        if known is not None and settled:
            latest = known
        self._tracker.answered([identity], {identity: latest}, sent_at=answer.sent_at, now=answer.now)
        self._tracker[identity].listed(
            runs,
            reach if complete else Reach.PARTIAL,
            clock=self._clock.monotonic(),
            now=answer.now,
            same_answer=True,
            coverage=reader.coverage(self._tracker[identity].accounting.known_ids),
        )

    def _read_clock(self, answer: ApiResponse) -> None:
        self._clock_offset = answer.now - self._clock.monotonic()

    def _pause(self, identity: str) -> float:
        """Return the seconds until a pipeline's next direct query, different for each so that they spread out."""
        drawn = int.from_bytes(sha256(identity.encode()).digest()[:4]) / 2**32
        return max(DIRECT_INTERVAL * (0.5 + 0.5 * drawn) - self._interval, 0.0)
