"""The run list of a pipeline, read page by page, and what it leaves out.

Of a cloud whose lists are outlines a run that is to be shown or counted is completed by its details first: what was
counted without its stages could not be mended later.
"""

from collections.abc import Container, Iterable, Sequence
from itertools import pairwise

import msgspec

from exporter.client.api_client import ApiClient, ApiError, ApiResponse
from exporter.core.failures import FailureKind
from exporter.core.model import Run, Status, Trigger
from exporter.polling.reporter import PollReporter
from exporter.providers.protocol import PageCursor, Provider
from exporter.tracking.ledger import RUNS, Reach, Search

PAGES = 30
"""Pages of one list that are read at a time."""

COMPLETED = 50
"""Runs of one list that are completed at a time."""

# Whatever else is wrong with details, they will be as wrong the next time.
_LASTING = frozenset({FailureKind.CONTENT, FailureKind.PROJECT, FailureKind.UNREADABLE})


class RunHistoryReader:
    """One reading of a pipeline's run list."""

    def __init__(self, provider: Provider, api: ApiClient, report: PollReporter, pipeline: str) -> None:
        self._provider = provider
        self._api = api
        self._report = report
        self._pipeline = pipeline
        self._found: dict[str, Run] = {}
        self._place = PageCursor()
        self._last_page: Sequence[Run] = ()
        self._whole = True
        self._falling = True
        self._end = self._stuck = False
        self.answer: ApiResponse | None = None
        """The last answer; None before the first."""

    @property
    def pages(self) -> int:
        """How many pages were read."""
        return self._place.pages

    @property
    def runs(self) -> list[Run]:
        """The runs found so far."""
        return list(self._found.values())

    async def read_page(self, limit: int) -> None:
        """Read the next page, of so many rows at most.

        Raises:
            ApiError: there was no answer.

        """
        answer = await self._api.send(self._provider.runs_request(self._pipeline, self._place, limit))
        page = self._provider.read_runs(answer.body, self._pipeline, answer.now, answer.headers)
        self._report.record_anomalies(page)
        self.answer = answer
        self._whole = self._whole and not page.incomplete
        self._falling = self._falling and _falling((*self._found.values(), *page.runs))
        self._place = self._place.after(page)
        # A page that says nothing new is one of a cloud that does not heed where it is to begin.
        self._stuck = bool(page.runs) and self._found.keys() >= {run.id for run in page.runs}
        self._end = not page.rows or (page.last and not self._stuck)
        if not self._stuck:
            self._last_page = page.runs
            self._found |= {run.id: run for run in page.runs}

    @property
    def newest_found(self) -> bool:
        """Whether no page that was not read has a newer run than those found."""
        return self.pages > 0 and (self._end or self._stuck or self._falling or self.pages >= PAGES)

    @property
    def conclusive(self) -> bool:
        """Whether the list can be trusted to tell which run is the latest: it has one, or none that was not read."""
        return self._whole or bool(self._found)

    def reach(self, search: Search) -> Reach | None:
        """How far the reading has got for what is wanted; None if it is to go on."""
        reach = self._reach(search)
        return Reach.PARTIAL if reach is not None and not self._whole else reach

    def _reach(self, search: Search) -> Reach | None:
        if self._end:
            return Reach.COMPLETE
        if self._stuck or search.found(self._found.values()) or self.pages >= PAGES:
            return Reach.PARTIAL
        if not self._falling:
            return None
        return search.reach(self._last_page) or (Reach.LIMIT if self._place.rows >= RUNS else None)

    async def completed(self, ids: Container[str], *, jobs: bool) -> tuple[list[Run], bool]:
        """The runs found, those of `ids` with what their details tell; and whether those are all that were found.

        Where the list does not tell a state, the details of the newest run do, and of those that may be under way; any
        other run of which it is not told is left out. Where there are more runs than one reading may complete, the others
        are left out, oldest first. Jobs are kept if `jobs` says so.

        Raises:
            ApiError: details could not be had this time.

        """
        found = sorted(self._found.values(), key=lambda run: run.number or 0, reverse=True)
        missing_numbers = [
            run
            for run in found
            if run.id in ids or (run.status is Status.UNKNOWN and (run.end is None or run is found[0]))
        ]
        details = {run.id: await self._complete(run, jobs=jobs) for run in missing_numbers[:COMPLETED]}
        left_out = {run.id for run in missing_numbers[COMPLETED:]}
        runs = [details.get(run.id, run) for run in self._found.values() if run.id not in left_out]
        told = [run for run in runs if run.id in details or run.status is not Status.UNKNOWN]
        return told, not left_out

    async def _complete(self, run: Run, *, jobs: bool) -> Run:
        try:
            answer = await self._api.send(self._provider.detail_request(self._pipeline, run.id))
        except ApiError as error:
            if error.failure.kind in _LASTING:
                return run
            raise
        detail = self._provider.read_detail(answer.body, self._pipeline, answer.now)
        self._report.record_anomalies(detail)
        if detail.run is None or detail.run.id != run.id:
            return run
        return completed(run, detail.run if jobs else _without_jobs(detail.run))


def completed(run: Run, detail: Run) -> Run:
    """A run as the list tells it, with what only its details do.

    State and times are the list's where it has them: those of the details are another moment's, and are put together
    from stages.
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
    """Whether the list tells a run as it is known, as far as it goes."""
    return run.status is not Status.UNKNOWN and completed(run, known) == known


def _without_jobs(run: Run) -> Run:
    stages = tuple(msgspec.structs.replace(stage, jobs=()) for stage in run.stages)
    return msgspec.structs.replace(run, stages=stages)


def assume_finished(runs: Iterable[Run]) -> list[Run]:
    """The runs as if those whose state the list does not tell had ended, which their details may say."""
    return [
        msgspec.structs.replace(run, status=Status.SUCCESS) if run.status is Status.UNKNOWN else run
        for run in runs
    ]


def _falling(runs: Sequence[Run]) -> bool:
    """Whether runs come by their start, newest first, as they were asked for."""
    starts = [run.start for run in runs if run.start is not None]
    return all(start >= following for start, following in pairwise(starts))
