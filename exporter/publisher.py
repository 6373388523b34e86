"""The page in force: rendered after a poll, off the event loop, and swapped whole, in the kinds that are asked for."""

import asyncio
import logging
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from exporter.board import Board, ProjectView, View
from exporter.clock import Clock
from exporter.exposition import Body, Exposition, Kind
from exporter.telemetry import Telemetry

FORGET = 600.0
"""Seconds after which a kind of page that nobody asks for is made no longer."""

T = TypeVar("T")

_log = logging.getLogger("exporter.publisher")


class Publisher:
    """Renders what the boards show, one page at a time."""

    def __init__(
        self, boards: Sequence[Board], exposition: Exposition, telemetry: Telemetry, clock: Clock
    ) -> None:
        self.exposition = exposition
        self.published = 0
        """How many pages there have been."""
        self._boards = boards
        self._telemetry = telemetry
        self._clock = clock
        self._wanted = False
        self._told: set[str] = set()
        """Families that a fault was logged of."""
        self._asked: dict[Kind, float] = {}
        """When a kind was last asked for, in monotonic seconds."""
        self._page: Mapping[Kind, Body] = {}
        """The last finished page; before the first publication, one of the exporter's own series."""
        self._turn = asyncio.Lock()
        # One for all: whatever is broken off at the end, no two render at once.
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="publisher")

    async def body(self, kind: Kind) -> Body:
        """The page in force; who is the first to ask for a kind waits until it is made, with all who ask meanwhile."""
        self._asked[kind] = self._clock.monotonic()
        if kind not in self._page:
            async with self._turn:
                if kind not in self._page:
                    body = await self._apart(lambda: self.exposition.body(kind))
                    self._page = {**self._page, kind: body}
        return self._page[kind]

    async def publish(self) -> None:
        """Return when the page shows what the boards show now, or something newer."""
        self._wanted = True
        async with self._turn:
            # Whoever had the turn before may have taken our changes along.
            if not self._wanted:
                return
            self._wanted = False
            # Views are frozen: what is collected here does not change while the thread renders it.
            pipelines = [view for board in self._boards for view in board.views()]
            projects = [view for board in self._boards if (view := board.project_view()) is not None]
            since = self._clock.monotonic() - FORGET
            self._asked = {kind: at for kind, at in self._asked.items() if at >= since}
            kinds = tuple(self._asked)
            self.published += 1
            self._page = await self._apart(lambda: self._render(pipelines, projects, kinds))

    def _render(
        self, pipelines: Sequence[View], projects: Sequence[ProjectView], kinds: Collection[Kind]
    ) -> Mapping[Kind, Body]:
        self.exposition.keep(kinds)
        self.exposition.update(pipelines, projects)
        for board in self._boards:
            withheld = self.exposition.withheld.get(board.project, 0)
            self._telemetry.withheld(board.project, withheld)
        return {kind: self.exposition.body(kind) for kind in kinds}

    async def _apart(self, work: Callable[[], T]) -> T:
        done = await asyncio.get_running_loop().run_in_executor(self._thread, work)
        for family, fault in self.exposition.faults.take().items():
            self._telemetry.not_rendered(family, fault.times)
            if family not in self._told:
                self._told.add(family)
                _log.error("a page lacks some of %s: %s; please report this", family, fault.words)
        return done
