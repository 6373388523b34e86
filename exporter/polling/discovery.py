"""Read a project's list of pipelines: names, discovered pipelines, and latest runs where the list has them."""

import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from collections.abc import Set as AbstractSet

import msgspec

from exporter.client.api_client import ApiClient, ApiError, ApiResponse
from exporter.core.clock import Clock
from exporter.core.failures import FailureKind
from exporter.core.model import Run, label
from exporter.polling.cause import Cause
from exporter.polling.list_check import ListCheck
from exporter.polling.membership import Membership
from exporter.polling.outcome import PollOutcome
from exporter.polling.progress import PollStep, Progress
from exporter.polling.reporter import PollReporter
from exporter.providers.protocol import PageCursor, PipelineRows, Provider
from exporter.tracking.project import ProjectTracker

PAGES = 1000
"""Maximum number of pages to read of a list of pipelines."""

NAMES_INTERVAL = 3600.0
"""Seconds between two readings of pipeline names if no pipelines are discovered."""

NAME_WAIT = 60.0
"""Seconds after polls begin, in which a pipeline without a name is not published."""

_log = logging.getLogger("exporter.polling.discovery")


class PipelineLister:
    """Reads the list of pipelines page by page."""

    def __init__(self, provider: Provider, api: ApiClient, reporter: PollReporter) -> None:
        self._provider = provider
        self._api = api
        self._reporter = reporter
        self.truncated = False
        """Whether the last list was too long to be read to its end."""

    async def pages(self, progress: Progress) -> AsyncIterator[tuple[PipelineRows, ApiResponse]]:
        """Yield each page with its response.

        Raises:
            ApiError: a request failed.

        """
        seen: set[str] = set()
        cursor = PageCursor()
        self.truncated = False
        while cursor.pages < PAGES and cursor.rows < PAGES * self._provider.page_size:
            answer = await self._api.send(self._provider.pipelines_request(cursor))
            page = self._provider.read_pipelines(answer.body, answer.now, answer.headers)
            self._reporter.record_anomalies(page)
            # Some clouds return wrong totals and fewer rows than requested, so neither marks the end. A page without a
            # new pipeline comes from a cloud that ignores the offset.
            if not page.rows or (page.pipelines and seen.issuperset(page.pipelines)):
                break
            found = len(page.pipelines.keys() - seen)
            seen.update(page.pipelines)
            yield page, answer
            cursor = cursor.after(page)
            progress(PollStep.LIST, found, found)
            if page.last:
                break
        else:
            self.truncated = True

    async def names(self, progress: Progress) -> dict[str, str]:
        """Return the name of each pipeline of the project, by id.

        Raises:
            ApiError: a request failed.

        """
        names: dict[str, str] = {}
        async for page, _ in self.pages(progress):
            names |= page.pipelines
        return names

    def implausible(self, doubt: str) -> Cause:
        """Return the cause of a poll whose list of pipelines is not believed."""
        operation = self._provider.pipelines_request(PageCursor()).operation
        return Cause(operation, "implausible", message=doubt, remedy="implausible-list")


class _WatchedRows(msgspec.Struct, frozen=True):
    """The pipelines on a page that may be watched, with their latest runs."""

    ids: frozenset[str]
    unusable: frozenset[str]
    runs: dict[str, Run]
    asked: float
    now: float

    @classmethod
    def of(
        cls, page: PipelineRows, answer: ApiResponse, membership: Membership, selected: AbstractSet[str]
    ) -> "_WatchedRows":
        """Extract these pipelines from a page. Keeping all pages with their bodies would need memory for the whole list."""
        ids = frozenset(one for one in page.pipelines if membership.may_watch(one, selected=one in selected))
        runs = {identity: run for identity, run in page.runs.items() if identity in ids}
        return cls(ids, ids & page.unusable, runs, answer.sent_at, answer.now)


class Discovery:
    """Keeps the pipeline names and the discovered pipelines of one project up to date."""

    def __init__(
        self,
        project: str,
        lister: PipelineLister,
        tracker: ProjectTracker,
        membership: Membership,
        list_check: ListCheck,
        reporter: PollReporter,
        clock: Clock,
        *,
        started: float,
        interval: float | None,
        tolerance: float,
        progress: Progress,
    ) -> None:
        """`started` is when polls begin (monotonic seconds); `interval` is None if no pipelines are discovered.

        `tolerance` is the time in seconds by which the list may be read early.
        """
        self._project = project
        self._lister = lister
        self._tracker = tracker
        self._membership = membership
        self._list_check = list_check
        self._reporter = reporter
        self._clock = clock
        self._started = started
        self._discovers = interval is not None
        self._interval = NAMES_INTERVAL if interval is None else interval
        self._tolerance = tolerance
        self._progress = progress
        self._listed_at: float | None = None
        self._waits_for_names = self._discovers or membership.wants_names
        self._surplus = 0
        """Number of pipelines above the limit when last logged."""
        self._refused = False
        """Whether the provider refused the project in the last refresh."""
        self.update_held_back()

    @property
    def due(self) -> bool:
        """True if the list is to be read now, before pipelines are polled."""
        return (self._discovers or self._membership.wants_names) and self._is_due

    @property
    def check_due(self) -> bool:
        """True if the list is to be read after pipelines are polled, only to compare it with the configuration."""
        reads_first = self._discovers or self._membership.wants_names
        return not reads_first and self._membership.has_configured and self._is_due

    @property
    def _is_due(self) -> bool:
        return (
            self._listed_at is None
            or self._clock.monotonic() - self._listed_at + self._tolerance >= self._interval
        )

    async def read(
        self, outcome: PollOutcome, between_pages: Callable[[], Awaitable[None]]
    ) -> frozenset[str]:
        """Read the whole list and update the watched pipelines; return the ids whose latest runs it has.

        `between_pages` is called after each page.
        """
        names: dict[str, str] = {}
        selected: set[str] = set()
        pages: list[_WatchedRows] = []
        kept = 0
        has_runs = False
        complete = True
        try:
            async for page, answer in self._lister.pages(self._progress):
                outcome.record_success()
                names |= {identity: label(name) for identity, name in page.pipelines.items()}
                has_runs = has_runs or bool(page.runs)
                complete = complete and not page.incomplete
                of_page = {one for one, name in page.pipelines.items() if self._membership.selects(one, name)}
                selected |= of_page
                pages.append(_WatchedRows.of(page, answer, self._membership, of_page))
                kept += len(pages[-1].ids)
                if kept > self._membership.limit:
                    # Which of them are watched is known at the end; they are polled then.
                    pages.clear()
                await between_pages()
        except ApiError as error:
            self._failed(error, outcome)
            return frozenset()
        outcome.record_success()
        doubt = self._membership.listed(names, selected, complete=complete, refused=self._refused)
        if doubt:
            outcome.record_gap(self._lister.implausible(doubt))
            self._reporter.implausible_list(len(names), doubt)
        else:
            self._listed_at = self._clock.monotonic()
            self._waits_for_names = False
            self._list_check.compare(names, complete=complete and not self._lister.truncated)
        self._tracker.update(self._membership.pipelines(), self._clock.monotonic(), self._clock.time())
        # A list without any run may be one that leaves runs out.
        return self._apply(pages) if has_runs else frozenset()

    async def check(self, outcome: PollOutcome, between_pages: Callable[[], Awaitable[None]]) -> None:
        """Read the whole list, and compare it with the configured ids; `between_pages` as for `read`."""
        names: dict[str, str] = {}
        complete = True
        try:
            async for page, _ in self._lister.pages(self._progress):
                names |= page.pipelines
                complete = complete and not page.incomplete
                await between_pages()
        except ApiError as error:
            self._failed(error, outcome)
            return
        self._listed_at = self._clock.monotonic()
        self._list_check.compare(names, complete=complete and not self._lister.truncated)

    def _apply(self, pages: list[_WatchedRows]) -> frozenset[str]:
        """Apply the latest runs of a list; return the ids of their pipelines."""
        members = frozenset(self._tracker.ids)
        covered: set[str] = set()
        for page in pages:
            ids = [one for one in page.ids - page.unusable if one in members and one not in covered]
            self._tracker.answered(ids, page.runs, sent_at=page.asked, now=page.now)
            covered.update(ids)
        return frozenset(covered)

    def _failed(self, error: ApiError, outcome: PollOutcome) -> None:
        kind = error.failure.kind
        if kind in {FailureKind.PROJECT, FailureKind.CONTENT, FailureKind.UNREADABLE}:
            self._list_check.withdraw()
        if not self._discovers and kind in {
            FailureKind.PROJECT,
            FailureKind.CONTENT,
            FailureKind.UNREADABLE,
        }:
            # Without names the project is not down: ids serve as names.
            self._listed_at = self._clock.monotonic()
            self._waits_for_names = False
            self._reporter.names_not_listed(error)
            return
        # A user who may not list pipelines may still query them, and never gets names.
        refused = kind in {FailureKind.PROJECT, FailureKind.CONTENT}
        self._waits_for_names = self._waits_for_names and not refused
        outcome.record_error(error, ends_poll=not refused)

    def refresh_ended(self, outcome: PollOutcome) -> None:
        """Record whether the provider refused the project in a refresh."""
        self._refused = outcome.refused

    def read_again(self) -> None:
        """Read the list in the next refresh."""
        self._listed_at = None

    def stop_waiting(self) -> None:
        """Publish pipelines under their ids, if their names are still unknown."""
        self._waits_for_names = False

    def update_held_back(self) -> bool:
        """Hold back pipelines that wait for their name, for `NAME_WAIT` seconds at most; return True if these changed."""
        waiting = self._waits_for_names and self._clock.monotonic() - self._started < NAME_WAIT
        held_back = self._membership.unnamed if waiting else frozenset()
        return self._tracker.hold_back(held_back)

    def report_surplus(self) -> None:
        """Log how many pipelines exceed `limits.max_pipelines`, whenever the number has changed."""
        surplus, limit = self._membership.surplus, self._membership.limit
        if surplus != self._surplus:
            self._surplus = surplus
            if surplus:
                _log.error(
                    "more pipelines than limits.max_pipelines, not watching the rest",
                    extra={
                        "id": "too-many-pipelines",
                        "project": self._project,
                        "pipelines": limit + surplus,
                        "limit": limit,
                    },
                )
