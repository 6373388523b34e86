"""The page in force: rendered after a poll, off the event loop, and swapped whole, in the kinds that are asked for."""

import asyncio
import logging
import threading
from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from typing import TypeVar

from exporter.board import Board, ProjectView, View
from exporter.clock import Clock
from exporter.exposition import Body, Exposition, Kind
from exporter.telemetry import Telemetry

FORGET = 600.0
"""Seconds after which a kind of page that nobody asks for is made no longer."""

PATIENCE = 1.0
"""Seconds that a publication may wait in all for pages to be sent."""

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
        self._sending = 0
        self._calm = threading.Event()
        """Whether no page is being sent."""
        self._calm.set()
        self._patience = 0.0
        exposition.pause = self._give_way
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

    @asynccontextmanager
    async def sending(self, kind: Kind) -> AsyncIterator[Body]:
        """The page in force, while it is sent: rendering gives way to it."""
        body = await self.body(kind)
        self._sending += 1
        self._calm.clear()
        try:
            yield body
        finally:
            self._sending -= 1
            if not self._sending:
                self._calm.set()

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
            page = await self._apart(lambda: self._render(pipelines, projects, kinds))
            gone = [chunk for body in self._page.values() for chunk in body.chunks]
            self._page = page
            self._thread.submit(self._let_go, gone)

    def _render(
        self, pipelines: Sequence[View], projects: Sequence[ProjectView], kinds: Collection[Kind]
    ) -> Mapping[Kind, Body]:
        self.exposition.keep(kinds)
        self.exposition.update(pipelines, projects)
        for board in self._boards:
            withheld = self.exposition.withheld.get(board.project, 0)
            self._telemetry.withheld(board.project, withheld)
        return {kind: self.exposition.body(kind) for kind in kinds}

    def _give_way(self) -> None:
        """Wait, in the thread that renders, while a page is sent; but not for clients that read slowly."""
        if self._patience > 0 and not self._calm.is_set():
            began = self._clock.monotonic()
            self._calm.wait(self._patience)
            self._patience -= self._clock.monotonic() - began

    def _let_go(self, chunks: list[bytes]) -> None:
        """Free a page when it has been sent, and bit by bit: at once it would be a pause of tens of milliseconds."""
        self._patience = PATIENCE
        self._give_way()
        while chunks:
            chunks.pop()

    async def _apart(self, work: Callable[[], T]) -> T:
        self._patience = PATIENCE
        done = await asyncio.get_running_loop().run_in_executor(self._thread, work)
        for family, fault in self.exposition.faults.take().items():
            self._telemetry.not_rendered(family, fault.times)
            if family not in self._told:
                self._told.add(family)
                _log.error("a page lacks some of %s: %s; please report this", family, fault.words)
        return done
