"""The page in force: rendered after a poll, off the event loop, and swapped whole, in the variants that are asked for."""

import asyncio
import logging
import threading
from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from functools import partial
from typing import TypeVar

from exporter.core.clock import Clock
from exporter.exposition import Body, Exposition, Variant
from exporter.telemetry.recorder import Telemetry
from exporter.tracking.project import ProjectTracker
from exporter.tracking.views import ProjectView, View

FORGET = 600.0
"""Seconds after which a variant of page that nobody asks for is made no longer."""

REST = 4
"""How many times as long as it has worked rendering rests while a page is sent."""

T = TypeVar("T")

_log = logging.getLogger("exporter.exposition.publisher")


class ClosedError(Exception):
    """The publisher was closed while it rendered."""


class Publisher:
    """Renders what the boards show, one page at a time."""

    def __init__(
        self, trackers: Sequence[ProjectTracker], exposition: Exposition, telemetry: Telemetry, clock: Clock
    ) -> None:
        self.exposition = exposition
        self.published = 0
        """How many pages there have been."""
        self._trackers = trackers
        self._telemetry = telemetry
        self._clock = clock
        self._wanted = False
        self._told: set[str] = set()
        """Families that a failure was logged of."""
        self._asked: dict[Variant, float] = {}
        """When a variant was last asked for, in monotonic seconds."""
        self._page: Mapping[Variant, Body] = {}
        """The last finished page; before the first publication, one of the exporter's own series."""
        self._turn = asyncio.Lock()
        self._sending = 0
        self._idle = threading.Event()
        """Whether no page is being sent."""
        self._idle.set()
        self._rested = 0.0
        """When the thread last rested, or began; in monotonic seconds."""
        self._closed = False
        exposition.pause = self._yield_to_scrapes
        # One for all: whatever is broken off at the end, no two render at once.
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="publisher")

    async def body(self, variant: Variant) -> Body:
        """The page in force; who is the first to ask for a variant waits until it is made, with all who ask meanwhile."""
        self._asked[variant] = self._clock.monotonic()
        if variant not in self._page:
            async with self._turn:
                if variant not in self._page:
                    body = await self._in_thread(lambda: self.exposition.body(variant))
                    self._page = {**self._page, variant: body}
        return self._page[variant]

    @asynccontextmanager
    async def sending(self, variant: Variant) -> AsyncIterator[Body]:
        """The page in force, while it is sent: rendering gives way to it."""
        body = await self.body(variant)
        self._sending += 1
        self._idle.clear()
        try:
            yield body
        finally:
            self._sending -= 1
            if not self._sending:
                self._idle.set()

    async def publish(self) -> None:
        """Return when the page shows what the boards show now, or something newer."""
        self._wanted = True
        async with self._turn:
            # Whoever had the turn before may have taken our changes along.
            if not self._wanted:
                return
            self._wanted = False
            # Views are frozen: what is collected here does not change while the thread renders it.
            pipelines = [view for tracker in self._trackers for view in tracker.views()]
            projects = [view for tracker in self._trackers if (view := tracker.project_view()) is not None]
            since = self._clock.monotonic() - FORGET
            self._asked = {variant: at for variant, at in self._asked.items() if at >= since}
            variants = tuple(self._asked)
            try:
                page = await self._in_thread(lambda: self._render(pipelines, projects, variants))
            except BaseException:
                # Who waits for the turn relies on this one.
                self._wanted = True
                raise
            gone = [chunk for body in self._page.values() for chunk in body.chunks]
            self._page = page
            self.published += 1
            self._thread.submit(self._begin, partial(self._let_go, gone))

    def close(self) -> None:
        """Render no more; what is under way is broken off."""
        self._closed = True
        self._idle.set()
        self._thread.shutdown(wait=False, cancel_futures=True)

    def _render(
        self, pipelines: Sequence[View], projects: Sequence[ProjectView], variants: Collection[Variant]
    ) -> Mapping[Variant, Body]:
        self.exposition.keep(variants)
        self.exposition.update(pipelines, projects)
        for tracker in self._trackers:
            withheld = self.exposition.withheld.get(tracker.project, 0)
            self._telemetry.withheld(tracker.project, withheld)
        return {variant: self.exposition.body(variant) for variant in variants}

    def _yield_to_scrapes(self) -> None:
        """Rest for a while, in the thread that renders, if a page is sent.

        Not until it has been sent, since clients may read slowly, or come without a pause.

        Raises:
            ClosedError: nobody waits for what is rendered any more.

        """
        if self._closed:
            raise ClosedError
        if not self._idle.is_set():
            self._idle.wait(REST * (self._clock.monotonic() - self._rested))
        self._rested = self._clock.monotonic()

    def _let_go(self, chunks: list[bytes]) -> None:
        """Free a page when it has been sent, and bit by bit: at once it would be a pause of tens of milliseconds."""
        while chunks:
            self._yield_to_scrapes()
            chunks.pop()

    async def _in_thread(self, work: Callable[[], T]) -> T:
        done = await asyncio.get_running_loop().run_in_executor(self._thread, self._begin, work)
        for family, failure in self.exposition.failures.take().items():
            self._telemetry.not_rendered(family, failure.times)
            if family not in self._told:
                self._told.add(family)
                _log.error("a page lacks some of %s: %s; please report this", family, failure.words)
        return done

    def _begin(self, work: Callable[[], T]) -> T:
        self._rested = self._clock.monotonic()
        return work()
