"""Publish the /metrics page: after polls, render the variants in use in a thread, then replace all of them at once."""

import asyncio
import logging
import threading
from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from functools import partial
from typing import TypeVar

from exporter.core.clock import Clock
from exporter.exposition.page import Body, Exposition, OwnSeries, Variant
from exporter.metrics.catalogue import Catalogue
from exporter.telemetry.recorder import Telemetry
from exporter.tracking.project import ProjectTracker
from exporter.tracking.views import ProjectView, View

FORGET = 600.0
"""Seconds since the last request for a variant, after which it is no longer rendered."""

REST = 4
"""While a page is being sent, rendering pauses for up to this many times as long as it has worked."""

BRIEF = 0.002
"""Maximum number of seconds that one call of `rest_while_sending` waits."""

T = TypeVar("T")

_log = logging.getLogger("exporter.exposition.publisher")


class ClosedError(Exception):
    """The publisher was closed while it rendered."""


class Publisher:
    """Publishes the views of all trackers as /metrics pages, one page at a time."""

    def __init__(
        self,
        trackers: Sequence[ProjectTracker],
        catalogue: Catalogue,
        telemetry: Telemetry,
        clock: Clock,
        *,
        created_series: bool,
        max_series: int = 0,
        always: Collection[Variant] = (),
    ) -> None:
        """Create a publisher without a page.

        `max_series` limits the series of each project; 0 means no limit. `always` has the variants to render even if no
        client requests them.
        """
        self.published = 0
        """Number of pages published so far."""
        self.catalogue = catalogue
        """The metric families of the current page."""
        self.views: Sequence[View] = ()
        """The views of the last publication."""
        self._trackers = trackers
        self._telemetry = telemetry
        self._clock = clock
        self._outdated = False
        """Whether a caller of `publish` waits for views that the page does not show yet."""
        self._logged: set[str] = set()
        """Families for which a failure has been logged."""
        self._always = frozenset(always)
        self._requested: dict[Variant, float] = {}
        """Time of the last request for each variant, in monotonic seconds."""
        self._page: Mapping[Variant, Body] = {}
        """The current page, in the variants that are ready."""
        self._lock = asyncio.Lock()
        self._sending = 0
        self._idle = threading.Event()
        """Set while no page is being sent."""
        self._idle.set()
        self._worked_since = 0.0
        """When the thread last rested or started to work, in monotonic seconds."""
        self._closed = False
        self.exposition = self._new_exposition(
            catalogue, created_series=created_series, max_series=max_series
        )
        self._next: tuple[Catalogue, Exposition] | None = None
        """Catalogue and exposition that replace the current ones with the next page; None if they stay."""
        # A single worker, so that two pages are never rendered at the same time, even if a caller is cancelled.
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="publisher")

    def _new_exposition(self, catalogue: Catalogue, *, created_series: bool, max_series: int) -> Exposition:
        return Exposition(
            catalogue,
            lambda: OwnSeries(self._telemetry).render,
            created_series=created_series,
            max_series=max_series,
            pause=self._yield_to_scrapes,
        )

    def show(self, trackers: Sequence[ProjectTracker]) -> None:
        """Publish the views of these trackers, and of no others, from the next page on."""
        self._trackers = trackers

    def replace_catalogue(self, catalogue: Catalogue, *, created_series: bool, max_series: int = 0) -> None:
        """Replace the metric families from the next page on. Until then, clients get the current page."""
        exposition = self._new_exposition(catalogue, created_series=created_series, max_series=max_series)
        self._next = catalogue, exposition

    async def body(self, variant: Variant) -> Body:
        """Return the current page in a variant; if it is not ready, all clients wait for the same rendering."""
        self._requested[variant] = self._clock.monotonic()
        if variant not in self._page:
            async with self._lock:
                if variant not in self._page:
                    body = await self._in_thread(self.exposition, lambda: self.exposition.body(variant))
                    self._page = {**self._page, variant: body}
        return self._page[variant]

    @asynccontextmanager
    async def sending(self, variant: Variant) -> AsyncIterator[Body]:
        """Provide the current page to send. Rendering yields until the context ends."""
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
        """Publish the current views; return once the page shows these or newer ones."""
        self._outdated = True
        async with self._lock:
            # Another caller may have published these views while this one waited for the lock.
            if not self._outdated:
                return
            self._outdated = False
            # Views are frozen, so they cannot change while the thread renders them.
            trackers = self._trackers
            pipelines = [view for tracker in trackers for view in tracker.views()]
            projects = [view for tracker in trackers if (view := tracker.project_view()) is not None]
            following = self._next
            catalogue, exposition = following or (self.catalogue, self.exposition)
            since = self._clock.monotonic() - FORGET
            self._requested = {variant: at for variant, at in self._requested.items() if at >= since}
            variants = self._always | self._requested.keys()
            try:
                page = await self._in_thread(
                    exposition, lambda: self._render(exposition, trackers, pipelines, projects, variants)
                )
            except BaseException:
                # Callers that wait for the lock rely on this publication.
                self._outdated = True
                raise
            replaced = [chunk for body in self._page.values() for chunk in body.chunks]
            self._page = page
            self.catalogue, self.exposition, self.views = catalogue, exposition, pipelines
            if self._next is following:
                self._next = None
            self.published += 1
            self._thread.submit(self._work, partial(self._free, replaced))

    def rest_while_sending(self) -> None:
        """Wait up to `BRIEF` seconds while a page is being sent. Other threads call this often during long work."""
        self._idle.wait(BRIEF)

    def close(self) -> None:
        """Stop rendering, and abort what is in progress."""
        self._closed = True
        self._idle.set()
        self._thread.shutdown(wait=False, cancel_futures=True)

    def _render(
        self,
        exposition: Exposition,
        trackers: Sequence[ProjectTracker],
        pipelines: Sequence[View],
        projects: Sequence[ProjectView],
        variants: Collection[Variant],
    ) -> Mapping[Variant, Body]:
        exposition.retain(variants)
        exposition.update(pipelines, projects)
        for tracker in trackers:
            withheld = exposition.withheld.get(tracker.project, 0)
            self._telemetry.set_series_withheld(tracker.project, tracker.provider, withheld)
        return {variant: exposition.body(variant) for variant in variants}

    def _yield_to_scrapes(self) -> None:
        """Rest in the rendering thread if a page is being sent.

        The rest is limited, because clients may read slowly, or follow one another without a gap.

        Raises:
            ClosedError: the publisher is closed.

        """
        if self._closed:
            raise ClosedError
        if not self._idle.is_set():
            self._idle.wait(REST * (self._clock.monotonic() - self._worked_since))
        self._worked_since = self._clock.monotonic()

    def _free(self, chunks: list[bytes]) -> None:
        """Free a replaced page chunk by chunk; all at once would block the interpreter for tens of milliseconds."""
        while chunks:
            self._yield_to_scrapes()
            chunks.pop()

    async def _in_thread(self, exposition: Exposition, work: Callable[[], T]) -> T:
        done = await asyncio.get_running_loop().run_in_executor(self._thread, self._work, work)
        for family, failure in exposition.failures.take().items():
            self._telemetry.render_failed(family, failure.times)
            if family not in self._logged:
                self._logged.add(family)
                _log.error(
                    "metric family left out after an internal error, please report this",
                    extra={"id": "family-not-rendered", "family": family, "error": failure.message},
                )
        return done

    def _work(self, work: Callable[[], T]) -> T:
        self._worked_since = self._clock.monotonic()
        return work()
