"""Read the run list of a pipeline page by page, and add what only run details have.

Where lists are summaries, a run is completed with its details before it is shown or counted, because stages cannot be
added to a count later.
"""

from collections.abc import Container, Iterable, Sequence
from itertools import pairwise

import msgspec

from exporter.client.api_client import ApiClient, ApiError, ApiResponse
from exporter.core.failures import FailureKind
from exporter.core.model import Run, Status, Trigger
from exporter.polling.reporter import PollReporter
from exporter.providers.protocol import PageCursor, Provider, RunRows
from exporter.tracking.ledger import RUNS, YEAR, Coverage, Reach, Search

PAGES = 30
"""Maximum number of pages to read in one reading."""

PAGES_BACK = 100
"""Maximum number of pages to read in one reading for the streak of failures."""

COMPLETED = 50
"""Maximum number of runs to complete with their details in one reading."""

STATUSES = 20
"""Maximum number of runs whose status is read from their details in one reading, for the streak of failures."""

_LASTING = frozenset({FailureKind.CONTENT, FailureKind.PROJECT, FailureKind.UNREADABLE})
"""Kinds of failures that a repeated request for details would most likely meet again."""


class RunHistoryReader:
    """Reads a pipeline's run list page by page, and keeps the runs that it finds."""

    def __init__(self, provider: Provider, api: ApiClient, reporter: PollReporter, pipeline: str) -> None:
        self._provider = provider
        self._api = api
        self._reporter = reporter
        self._pipeline = pipeline
        self._found: dict[str, Run] = {}
        self._cursor = PageCursor()
        self._last_page: Sequence[Run] = ()
        self._last_cursor = PageCursor()
        """Start of the last page."""
        self._complete = True
        self._newest_first = True
        self._ended = self._repeats = False
        self._details: dict[str, Run] = {}
        """Completed runs by id."""
        self._status_unknown = False
        """Whether the details of a run that the streak needs were refused, or were one too many."""
        self.answer: ApiResponse | None = None
        """The last response; None before the first."""

    @property
    def pages(self) -> int:
        """Number of pages read."""
        return self._cursor.pages

    @property
    def runs(self) -> list[Run]:
        """The runs found so far."""
        return list(self._found.values())

    async def read_page(self, limit: int) -> None:
        """Read the next page, of at most `limit` rows.

        Raises:
            ApiError: the request failed.

        """
        self._add(await self._request(self._cursor, limit))

    async def _request(self, cursor: PageCursor, limit: int) -> RunRows:
        answer = await self._api.send(self._provider.runs_request(self._pipeline, cursor, limit))
        page = self._provider.read_runs(answer.body, self._pipeline, answer.now, answer.headers)
        self._reporter.record_anomalies(page)
        self.answer = answer
        return page

    def _add(self, page: RunRows) -> None:
        self._complete = self._complete and not page.incomplete
        # Rows move down while runs begin, so that a page may repeat some of the page before.
        new = [run for run in page.runs if run.id not in self._found]
        self._newest_first = self._newest_first and _newest_first((*self._found.values(), *new))
        # A page without a new run comes from a cloud that ignores the offset.
        self._repeats = bool(page.runs) and not new
        self._ended = not page.rows or (page.last and not self._repeats)
        if not self._repeats:
            self._last_page, self._last_cursor = page.runs, self._cursor
            # A status that was read from details stays.
            self._found |= {
                run.id: run
                for run in page.runs
                if run.status is not Status.UNKNOWN or run.id not in self._found
            }
        self._cursor = self._cursor.after(page)

    async def resume(self, known: Container[str]) -> None:
        """Continue after polls: read the newest page and the last one again, and keep the older rows if both join them.

        Rows in `known` may have changed, so they are not kept.

        Raises:
            ApiError: the request failed.

        """
        before, last_page, last_cursor = self._found, self._last_page, self._last_cursor
        complete, in_order = self._complete, self._newest_first
        self._found, self._cursor, self.answer = {}, PageCursor(), None
        self._complete = self._newest_first = True
        self._details.clear()
        await self.read_page(self._provider.runs_page_size)
        older = {key: run for key, run in before.items() if key not in known and key not in self._found}
        # A row that the newest page lacks was deleted, so that the pages have moved.
        joined = self._found.keys() & before.keys() and all(
            run.start is not None and run.start <= self._oldest for run in older.values()
        )
        in_order = in_order and self._newest_first
        if not joined or not in_order or self._ended or not last_cursor.pages:
            return
        # Rows move up when older ones are deleted: the next page may begin behind runs that were never read.
        page = await self._request(last_cursor, self._provider.runs_page_size)
        if {run.id for run in page.runs}.isdisjoint(run.id for run in last_page):
            return
        self._found |= older
        self._complete = self._complete and complete
        self._cursor, self._last_page, self._last_cursor = last_cursor, last_page, last_cursor
        self._add(page)
        self._repeats = False

    @property
    def newest_found(self) -> bool:
        """True if no further page can have a newer run than those found."""
        return self.pages > 0 and (self._ended or self._repeats or self._newest_first or self.pages >= PAGES)

    @property
    def conclusive(self) -> bool:
        """True if the list shows which run is the latest, or that the pipeline never ran."""
        return self._complete or bool(self._found)

    def reach(self, search: Search) -> Reach | None:
        """Return how far back the list was read for a search; None if reading must continue."""
        reach = self._reach(search)
        return Reach.PARTIAL if reach is not None and not self._complete else reach

    def _reach(self, search: Search) -> Reach | None:
        if self._ended:
            return Reach.COMPLETE
        if self._repeats or search.found(self._found.values()) or self.pages >= PAGES:
            return Reach.PARTIAL
        if not self._newest_first:
            return None
        return search.reach(self._last_page) or (Reach.LIMIT if self._cursor.rows >= RUNS else None)

    # The streak of failures

    @property
    def exhausted(self) -> bool:
        """True if no further page helps to find the last success."""
        return (
            self._ended
            or self._repeats
            or self._status_unknown
            or self._cursor.rows >= RUNS
            or self.pages >= PAGES_BACK
            or self._oldest < self._now - YEAR
        )

    def coverage(self, known: Container[str]) -> Coverage:
        """Return which runs the rows include; the status of those in `known` is known."""
        in_order = self._newest_first and self._complete
        unclear = (run.number or 0 for run in self._found.values() if self._lacks_status(run, known))
        return Coverage(
            complete=self._ended and self._complete,
            since=self._oldest if in_order and self._found else None,
            limited=in_order and self.exhausted and not (self._ended or self._repeats),
            unclear=max(unclear, default=-1),
        )

    async def read_statuses(self, known: Container[str], below: int | None) -> None:
        """Read statuses that rows lack from run details, newest first, back to the last success with a number below `below`.

        Raises:
            ApiError: a request for details failed and is worth another try.

        """
        rows = sorted(self._found.values(), key=lambda run: run.number or 0, reverse=True)
        for row in rows:
            run = row
            # The newest row is completed in any case, see `with_details`.
            if self._lacks_status(row, () if row is rows[0] else known):
                if len(self._details) < STATUSES:
                    run = self._found[row.id] = await self._complete_run(row, jobs=False)
                if row.id not in self._details and row.id not in known:
                    self._status_unknown = True
                    return
            if run.status is Status.SUCCESS and (below is None or (run.number or 0) < below):
                return

    def _lacks_status(self, run: Run, known: Container[str]) -> bool:
        return (
            self._provider.lists_are_summaries
            and run.status is Status.UNKNOWN
            and run.id not in self._details
            and run.id not in known
        )

    @property
    def _oldest(self) -> float:
        return min((run.start for run in self._found.values() if run.start is not None), default=self._now)

    @property
    def _now(self) -> float:
        return self.answer.now if self.answer is not None else 0.0

    # Details

    async def with_details(self, ids: Container[str], *, jobs: bool) -> tuple[list[Run], bool]:
        """Return the runs found, with the details of those in `ids`, and whether `COMPLETED` left no run out.

        Runs whose status the list lacks are completed, too, if they are the newest or may still be running; other runs
        without a status are left out. So are the oldest runs above `COMPLETED`. Jobs are dropped unless `jobs` is true.

        Raises:
            ApiError: a request for details failed and is worth another try.

        """
        found = sorted(self._found.values(), key=lambda run: run.number or 0, reverse=True)
        wanted = [
            run
            for run in found
            if run.id in ids or (run.status is Status.UNKNOWN and (run.end is None or run is found[0]))
        ]
        details = {run.id: await self._complete_run(run, jobs=jobs) for run in wanted[:COMPLETED]}
        left_out = {run.id for run in wanted[COMPLETED:]}
        runs = [details.get(run.id, run) for run in self._found.values() if run.id not in left_out]
        usable = [run for run in runs if run.id in details or run.status is not Status.UNKNOWN]
        return usable, not left_out

    async def _complete_run(self, run: Run, *, jobs: bool) -> Run:
        if run.id in self._details:
            return self._details[run.id]
        try:
            answer = await self._api.send(self._provider.detail_request(self._pipeline, run.id))
        except ApiError as error:
            if error.failure.kind in _LASTING:
                return run
            raise
        detail = self._provider.read_detail(answer.body, self._pipeline, answer.now)
        self._reporter.record_anomalies(detail)
        if detail.run is None or detail.run.id != run.id:
            return run
        completed = self._details[run.id] = _merge(run, detail.run if jobs else _without_jobs(detail.run))
        return completed


def _merge(run: Run, detail: Run) -> Run:
    """Return a run of a list with what only its details have.

    Status and times are the list's if it has them: the details were requested at another moment, and their times are
    computed from stages.
    """
    status = detail.status if run.status is Status.UNKNOWN else run.status
    return msgspec.structs.replace(
        detail,
        number=run.number,
        status=status,
        start=detail.start if run.start is None else run.start,
        end=run.end if run.end is not None or not status.final else detail.end,
        trigger=detail.trigger if run.trigger is Trigger.UNKNOWN else run.trigger,
        executor=run.executor or detail.executor,
    )


def is_summary(run: Run, known: Run) -> bool:
    """Return True if a run of a list agrees with what is known of it."""
    return run.status is not Status.UNKNOWN and _merge(run, known) == known


def _without_jobs(run: Run) -> Run:
    stages = tuple(msgspec.structs.replace(stage, jobs=()) for stage in run.stages)
    return msgspec.structs.replace(run, stages=stages)


def assume_finished(runs: Iterable[Run]) -> list[Run]:
    """Return the runs, with success in place of an unknown status: their details may show that they ended."""
    return [
        msgspec.structs.replace(run, status=Status.SUCCESS) if run.status is Status.UNKNOWN else run
        for run in runs
    ]


def _newest_first(runs: Sequence[Run]) -> bool:
    """Return True if runs are sorted by their start, newest first, as the request orders them."""
    starts = [run.start for run in runs if run.start is not None]
    return all(start >= following for start, following in pairwise(starts))
