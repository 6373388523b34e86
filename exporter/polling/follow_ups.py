"""The closer looks after a poll, as long as there is time: runs that no answer about the latest tells, and details.

They never delay a poll by more than what is under way: whatever is not asked for now is due again later.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from functools import partial

from exporter.client.api_client import ApiClient, ApiError, ApiResponse
from exporter.core.clock import Clock
from exporter.core.failures import FailureKind
from exporter.core.model import Run
from exporter.polling.reporter import HOPELESS, PollOutcome, PollReporter
from exporter.polling.run_history import RunHistoryReader, assume_finished
from exporter.providers.protocol import Provider, SupportsActivityQuery
from exporter.tracking.ledger import RUNS, Reach
from exporter.tracking.project import ProjectTracker

_FEW = 10
"""Numbers that a small page of runs most likely has, since they were given lately."""

_SMALL = 20
"""Rows of a small page."""

_Look = Callable[[PollOutcome], Awaitable[None]]


class FollowUps:
    """The closer looks of one project."""

    def __init__(
        self,
        provider: Provider,
        api: ApiClient,
        tracker: ProjectTracker,
        report: PollReporter,
        clock: Clock,
        *,
        concurrency: int,
    ) -> None:
        self._provider = provider
        self._lists_are_summaries = isinstance(provider, SupportsActivityQuery)
        self._api = api
        self._tracker = tracker
        self._report = report
        self._clock = clock
        self._concurrency = concurrency

    async def run(self, deadline: float, *, runs: bool = True) -> bool:
        """Begin looks until `deadline` (monotonic seconds), and end them; says whether there was any.

        Without `runs` only details are asked for: where nothing is counted, other runs are of no use.
        """
        due = self._due(runs=runs)
        # What fails of the one may be had of the other.
        outcomes = {True: PollOutcome(), False: PollOutcome()}
        taken = 0

        async def look() -> None:
            nonlocal taken
            for of_list, one in due:
                if self._clock.monotonic() >= deadline or any(one.hopeless for one in outcomes.values()):
                    break
                if not outcomes[of_list].over:
                    taken += 1
                    await one(outcomes[of_list])

        async with asyncio.TaskGroup() as group:
            for _ in range(self._concurrency):
                group.create_task(look())
        for outcome in outcomes.values():
            self._report.failures(outcome)
        return taken > 0

    def _due(self, *, runs: bool) -> Iterator[tuple[bool, _Look]]:
        """Looks, and whether they are of a list. Runs first: they are counted, details are only shown."""
        found = self._tracker.due(self._clock.monotonic()) if runs else {}
        for pipeline, asks in found.items():
            if asks.listing:
                yield True, partial(self._read_runs, pipeline)
            for run in asks.runs:
                yield False, partial(self._look_up, pipeline, run)
        for pipeline, latest in self._tracker.wanted_details(self._clock.monotonic()):
            yield False, partial(self._ask_details, pipeline, latest)

    async def _ask(
        self, pipeline: str, run: str, outcome: PollOutcome
    ) -> tuple[Run | None, ApiResponse] | ApiError:
        """The details of a run, None if they could not be read; or why there are none."""
        try:
            answer = await self._api.send(self._provider.detail_request(pipeline, run))
        except ApiError as error:
            if error.failure.kind is not FailureKind.CONTENT:
                # What is refused of one pipeline may be allowed of the next.
                outcome.note(error, hopeless=HOPELESS - {FailureKind.PROJECT})
            return error
        outcome.in_a_row = 0
        detail = self._provider.read_detail(answer.body, pipeline, answer.now)
        self._report.record_anomalies(detail)
        return detail.run, answer

    async def _look_up(self, pipeline: str, run: str, outcome: PollOutcome) -> None:
        result = await self._ask(pipeline, run, outcome)
        clock = self._clock.monotonic()
        if not isinstance(result, ApiError):
            found, answer = result
            # One that is not the run asked for tells nothing of it.
            if found is not None and found.id == run:
                self._tracker[pipeline].looked_up(run, found, clock=clock, now=answer.now)
            else:
                self._tracker[pipeline].postpone(run, clock)
        elif result.failure.kind is FailureKind.CONTENT:
            # A run that is refused for itself is gone; every other failure tells nothing of it.
            self._tracker[pipeline].looked_up(run, None, clock=clock, now=None)
        else:
            self._tracker[pipeline].postpone(run, clock)

    async def _ask_details(self, pipeline: str, latest: Run, outcome: PollOutcome) -> None:
        result = await self._ask(pipeline, latest.id, outcome)
        if not isinstance(result, ApiError):
            self._tracker.detailed(pipeline, latest, result[0])
        elif result.failure.kind is FailureKind.CONTENT:
            self._tracker.detailed(pipeline, latest, None)
        else:
            self._tracker.detail_failed(pipeline, self._clock.monotonic())

    async def _read_runs(self, pipeline: str, outcome: PollOutcome) -> None:
        """Read the run list of a pipeline as far back as what is wanted can lie."""
        search = self._tracker[pipeline].accounting.search()
        limit = min(_SMALL if search.size <= _FEW else RUNS, self._provider.runs_page_size)
        runs = RunHistoryReader(self._provider, self._api, self._report, pipeline)
        reach: Reach | None = None
        failure: ApiError | None = None
        told: list[Run] | None = None
        try:
            while reach is None:
                await runs.read_page(limit)
                outcome.in_a_row = 0
                limit = self._provider.runs_page_size
                reach = runs.reach(search)
        except ApiError as error:
            failure = error
        if runs.answer is not None:
            told, reach = runs.runs, reach or Reach.PARTIAL
            if self._lists_are_summaries:
                try:
                    told, reach = await self._completed(pipeline, runs, reach, runs.answer.now)
                except ApiError as error:
                    failure, told = error, None
        if failure is not None and failure.failure.kind is not FailureKind.CONTENT:
            outcome.note(failure, hopeless=HOPELESS - {FailureKind.PROJECT})
        clock = self._clock.monotonic()
        if runs.answer is None or told is None or reach is None:
            self._tracker[pipeline].not_listed(clock)
        else:
            self._tracker[pipeline].listed(told, reach, clock=clock, now=runs.answer.now)

    async def _completed(
        self, pipeline: str, runs: RunHistoryReader, reach: Reach, now: float
    ) -> tuple[list[Run], Reach]:
        """The runs that a list told, those to be counted with what only their details tell."""
        counted = self._tracker[pipeline].accounting.preview(None, assume_finished(runs.runs), reach, now=now)
        told, complete = await runs.completed(counted, jobs=False)
        return told, reach if complete else Reach.PARTIAL
