"""Send requests after a poll, while time remains: for runs that the latest run hides, run details, and streaks of failures.

Follow-ups delay the next poll only by requests in flight. Those not sent in time are due again later.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from functools import partial

from exporter.client.api_client import ApiClient, ApiError, ApiResponse
from exporter.core.clock import Clock
from exporter.core.failures import FailureKind
from exporter.core.model import Run
from exporter.polling.outcome import FATAL, PollOutcome
from exporter.polling.progress import PollStep, Progress, ignore_progress
from exporter.polling.reporter import PollReporter
from exporter.polling.run_history import RunHistoryReader, assume_finished
from exporter.providers.protocol import Provider
from exporter.tracking.accounting import PipelineAccounting
from exporter.tracking.ledger import RUNS, Reach
from exporter.tracking.project import ProjectTracker

_FEW = 10
"""Maximum number of runs to search for with a small page, which most likely has them because they are recent."""

_SMALL = 20
"""Rows of a small page."""

_FATAL = FATAL - {FailureKind.PROJECT}
"""Failures that end all follow-ups. A request that is refused for one pipeline may be allowed for the next."""

_FollowUp = Callable[[PollOutcome], Awaitable[None]]


class FollowUps:
    """Sends the follow-up requests of one project."""

    def __init__(
        self,
        provider: Provider,
        api: ApiClient,
        tracker: ProjectTracker,
        reporter: PollReporter,
        clock: Clock,
        *,
        concurrency: int,
    ) -> None:
        self._provider = provider
        self._api = api
        self._tracker = tracker
        self._reporter = reporter
        self._clock = clock
        self._concurrency = concurrency
        self._suspended: dict[str, RunHistoryReader] = {}
        """Readings of run lists that were suspended until the next poll had ended, by pipeline id."""

    async def run(
        self, deadline: Callable[[], float], *, runs: bool = True, progress: Progress = ignore_progress
    ) -> bool:
        """Start follow-ups until `deadline()` (monotonic seconds) and finish them; return True if there was any.

        Without `runs`, only what gauges need is requested: details of latest runs, and the streak of failures. If nothing is
        counted, other runs are not needed.
        """
        due = self._due(deadline, runs=runs)
        if progress is not ignore_progress:
            # Only a display needs to know how many there are.
            listed = list(due)
            progress(PollStep.FOLLOW_UP, 0, len(listed))
            due = iter(listed)
        # A cloud that fails to list runs may still return run details, and the reverse.
        lists, details = PollOutcome(fatal=_FATAL), PollOutcome(fatal=_FATAL)
        started = 0

        async def work() -> None:
            nonlocal started
            for is_list, follow_up in due:
                if self._clock.monotonic() >= deadline() or lists.fatal or details.fatal:
                    break
                outcome = lists if is_list else details
                if not outcome.ended:
                    started += 1
                    await follow_up(outcome)
                    progress(PollStep.FOLLOW_UP, 1, 0)

        async with asyncio.TaskGroup() as group:
            for _ in range(self._concurrency):
                group.create_task(work())
        for outcome in (lists, details):
            self._reporter.failures(outcome)
        return started > 0

    def _due(self, deadline: Callable[[], float], *, runs: bool) -> Iterator[tuple[bool, _FollowUp]]:
        """Yield due follow-ups, and whether each reads a list.

        Runs come first, because they are counted; the others are only displayed. Streaks come last, unless the list is read
        for runs anyway.
        """
        found = self._tracker.due(self._clock.monotonic())
        self._suspended = {
            pipeline: self._suspended[pipeline] for pipeline in found if pipeline in self._suspended
        }
        for pipeline, lookups in found.items() if runs else ():
            if lookups.listing:
                yield True, partial(self._read_history, pipeline, deadline)
            for run in lookups.runs:
                yield False, partial(self._look_up, pipeline, run)
        for pipeline, of in self._tracker.wanted_details(self._clock.monotonic()):
            yield False, partial(self._update_details, pipeline, of)
        for pipeline, lookups in found.items():
            if lookups.read_back and not (lookups.listing and runs):
                yield True, partial(self._read_history, pipeline, deadline, only_streak=True)

    async def _fetch(
        self, pipeline: str, run: str, outcome: PollOutcome
    ) -> tuple[Run | None, ApiResponse] | ApiError:
        """Return the details of a run (None if they cannot be read) and the response, or the error."""
        try:
            answer = await self._api.send(self._provider.detail_request(pipeline, run))
        except ApiError as error:
            if error.failure.kind is not FailureKind.CONTENT:
                outcome.record_error(error)
            return error
        outcome.record_success()
        detail = self._provider.read_detail(answer.body, pipeline, answer.now)
        self._reporter.record_anomalies(detail)
        return detail.run, answer

    async def _look_up(self, pipeline: str, run: str, outcome: PollOutcome) -> None:
        result = await self._fetch(pipeline, run, outcome)
        clock = self._clock.monotonic()
        if not isinstance(result, ApiError):
            found, answer = result
            if found is not None and found.id == run:
                self._tracker[pipeline].looked_up(run, found, clock=clock, now=answer.now)
            else:
                self._tracker[pipeline].postpone(run, clock)
        elif result.failure.kind is FailureKind.CONTENT:
            # The provider refuses this run, so it no longer exists; other failures prove nothing.
            self._tracker[pipeline].looked_up(run, None, clock=clock, now=None)
        else:
            self._tracker[pipeline].postpone(run, clock)

    async def _update_details(self, pipeline: str, of: Run, outcome: PollOutcome) -> None:
        result = await self._fetch(pipeline, of.id, outcome)
        if not isinstance(result, ApiError):
            self._tracker.detailed(pipeline, of, result[0])
        elif result.failure.kind is FailureKind.CONTENT:
            self._tracker.detailed(pipeline, of, None)
        else:
            self._tracker.detail_failed(pipeline, of, self._clock.monotonic())

    async def _read_history(
        self, pipeline: str, deadline: Callable[[], float], outcome: PollOutcome, *, only_streak: bool = False
    ) -> None:
        """Read the run list of a pipeline as far back as missing runs can be, and as its streak of failures began.

        After `deadline`, reading for the streak is suspended until the next poll has ended.
        """
        accounting = self._tracker[pipeline].accounting
        search = accounting.search()
        few = search.size <= _FEW and accounting.failures <= _FEW
        limit = min(_SMALL if few else RUNS, self._provider.runs_page_size)
        reader = RunHistoryReader(self._provider, self._api, self._reporter, pipeline)
        suspended = self._suspended.pop(pipeline, None)
        interrupted = False
        reach: Reach | None = None
        failure: ApiError | None = None
        runs: list[Run] | None = None
        try:
            if suspended is not None and only_streak:
                reader, reach = suspended, Reach.PARTIAL
                await reader.resume(accounting.known_ids)
                limit = self._provider.runs_page_size
                outcome.record_success()
            while reach is None or not await self._reads_back(reader, accounting):
                interrupted = reach is not None and self._clock.monotonic() >= deadline()
                if interrupted:
                    self._suspended[pipeline] = reader
                    break
                await reader.read_page(limit)
                outcome.record_success()
                limit = self._provider.runs_page_size
                reach = reach or reader.reach(search)
        except ApiError as error:
            failure = error
        coverage = reader.coverage(accounting.known_ids)
        if reader.answer is not None:
            runs, reach = reader.runs, reach or Reach.PARTIAL
            if self._provider.lists_are_summaries:
                try:
                    runs, reach = await self._with_details(pipeline, reader, reach, reader.answer.now)
                except ApiError as error:
                    failure, runs = error, None
        if failure is not None and failure.failure.kind is not FailureKind.CONTENT:
            outcome.record_error(failure)
        clock = self._clock.monotonic()
        if reader.answer is None or runs is None or reach is None:
            self._tracker[pipeline].not_listed(clock)
        else:
            self._tracker[pipeline].listed(
                runs,
                reach,
                clock=clock,
                now=reader.answer.now,
                coverage=coverage,
                interrupted=interrupted,
            )

    async def _reads_back(self, reader: RunHistoryReader, accounting: PipelineAccounting) -> bool:
        """Return whether to stop reading: the streak is known, the rows show it, or further rows would not help."""
        if not accounting.needs_read_back or reader.answer is None:
            return True
        known = accounting.known_ids
        if self._provider.lists_are_summaries:
            await reader.read_statuses(known, accounting.read_back_from)
        return reader.exhausted or accounting.reads_back(
            reader.runs, reader.coverage(known), now=reader.answer.now
        )

    async def _with_details(
        self, pipeline: str, reader: RunHistoryReader, reach: Reach, now: float
    ) -> tuple[list[Run], Reach]:
        """Return the runs of a list, those to count with their details, and how far back they are complete."""
        counted = self._tracker[pipeline].accounting.preview(
            None, assume_finished(reader.runs), reach, now=now
        )
        runs, complete = await reader.with_details(counted, jobs=self._tracker.jobs)
        return runs, reach if complete else Reach.PARTIAL
