"""The closer looks after a poll, as long as there is time: runs that no answer about the latest tells, and details.

They never delay a poll by more than what is under way: whatever is not asked for now is due again later.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Sequence
from functools import partial
from itertools import pairwise

from exporter.api import Answer, Api, ApiError
from exporter.board import Board
from exporter.clock import Clock
from exporter.fault import Kind
from exporter.ledger import RUNS, Reach
from exporter.model import Run
from exporter.providers.base import Provider
from exporter.report import HOPELESS, Outcome, Report

_FEW = 10
"""Numbers that a small page of runs most likely has, since they were given lately."""

_SMALL = 20
"""Rows of a small page."""

_PAGES = 30
"""Pages of one list that are read at a time."""

_Look = Callable[[Outcome], Awaitable[None]]


class Looks:
    """The closer looks of one project."""

    def __init__(
        self, provider: Provider, api: Api, board: Board, report: Report, clock: Clock, *, concurrency: int
    ) -> None:
        self._provider = provider
        self._api = api
        self._board = board
        self._report = report
        self._clock = clock
        self._concurrency = concurrency

    async def take(self, deadline: float, *, runs: bool = True) -> bool:
        """Begin looks until `deadline` (monotonic seconds), and end them; says whether there was any.

        Without `runs` only details are asked for: where nothing is counted, other runs are of no use.
        """
        due = self._due(runs=runs)
        # What fails of the one may be had of the other.
        outcomes = {True: Outcome(), False: Outcome()}
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
        found = self._board.due(self._clock.monotonic()) if runs else {}
        for pipeline, asks in found.items():
            if asks.listing:
                yield True, partial(self._read_runs, pipeline)
            for run in asks.runs:
                yield False, partial(self._look_up, pipeline, run)
        for pipeline, latest in self._board.wanted_details(self._clock.monotonic()):
            yield False, partial(self._ask_details, pipeline, latest)

    async def _ask(self, pipeline: str, run: str, outcome: Outcome) -> tuple[Run | None, Answer] | ApiError:
        """The details of a run, None if they could not be read; or why there are none."""
        try:
            answer = await self._api.send(self._provider.detail(pipeline, run))
        except ApiError as error:
            if error.fault.kind is not Kind.CONTENT:
                # What is refused of one pipeline may be allowed of the next.
                outcome.note(error, hopeless=HOPELESS - {Kind.PROJECT})
            return error
        outcome.in_a_row = 0
        detail = self._provider.read_detail(answer.body, pipeline, answer.now)
        self._report.surprises(detail)
        return detail.run, answer

    async def _look_up(self, pipeline: str, run: str, outcome: Outcome) -> None:
        result = await self._ask(pipeline, run, outcome)
        clock = self._clock.monotonic()
        if not isinstance(result, ApiError):
            found, answer = result
            # One that is not the run asked for tells nothing of it.
            if found is not None and found.id == run:
                self._board.looked_up(pipeline, run, found, clock=clock, now=answer.now)
            else:
                self._board.postpone(pipeline, run, clock)
        elif result.fault.kind is Kind.CONTENT:
            # A run that is refused for itself is gone; every other failure tells nothing of it.
            self._board.looked_up(pipeline, run, None, clock=clock, now=None)
        else:
            self._board.postpone(pipeline, run, clock)

    async def _ask_details(self, pipeline: str, latest: Run, outcome: Outcome) -> None:
        result = await self._ask(pipeline, latest.id, outcome)
        if not isinstance(result, ApiError):
            self._board.detailed(pipeline, latest, result[0])
        elif result.fault.kind is Kind.CONTENT:
            self._board.detailed(pipeline, latest, None)
        else:
            self._board.detail_failed(pipeline, self._clock.monotonic())

    async def _read_runs(self, pipeline: str, outcome: Outcome) -> None:
        """Read the run list of a pipeline as far back as what is wanted can lie."""
        search = self._board.search(pipeline)
        limit = min(_SMALL if search.size <= _FEW else RUNS, self._provider.runs_page_size)
        found: dict[str, Run] = {}
        offset = pages = 0
        fault: ApiError | None = None
        whole = falling = True
        reach: Reach | None = None
        while reach is None:
            try:
                answer = await self._api.send(self._provider.runs(pipeline, offset, limit))
            except ApiError as error:
                fault = error
                break
            outcome.in_a_row = 0
            page = self._provider.read_runs(answer.body, pipeline, answer.now)
            self._report.surprises(page)
            now = answer.now
            whole = whole and not page.incomplete
            falling = falling and _falling((*found.values(), *page.runs))
            offset, pages = offset + page.rows, pages + 1
            if not page.rows:
                reach = Reach.COMPLETE
            elif page.runs and found.keys() >= {run.id for run in page.runs}:
                # A cloud that does not heed the offset: what it does not tell cannot be known.
                reach = Reach.CUT
            else:
                found |= {run.id: run for run in page.runs}
                limit = self._provider.runs_page_size
                if search.found(found.values()) or pages >= _PAGES:
                    reach = Reach.CUT
                elif falling:
                    reach = search.reach(page.runs) or (Reach.BOUND if offset >= RUNS else None)
        clock = self._clock.monotonic()
        if fault is not None and fault.fault.kind is not Kind.CONTENT:
            outcome.note(fault, hopeless=HOPELESS - {Kind.PROJECT})
        if not pages:
            self._board.not_listed(pipeline, clock)
            return
        if reach is None or not whole:
            reach = Reach.CUT
        self._board.listed(pipeline, list(found.values()), reach, clock=clock, now=now)


def _falling(runs: Sequence[Run]) -> bool:
    """Whether runs come by their start, newest first, as they were asked for."""
    starts = [run.start for run in runs if run.start is not None]
    return all(start >= following for start, following in pairwise(starts))
