"""The page in force: rendered after a poll, off the event loop, and swapped whole."""

import asyncio
from collections.abc import Sequence

from exporter.board import Board
from exporter.exposition import Exposition, Page, own_series
from exporter.telemetry import Telemetry


class Publisher:
    """Renders what the boards show, one page at a time."""

    def __init__(self, boards: Sequence[Board], exposition: Exposition, telemetry: Telemetry) -> None:
        self._boards = boards
        self._exposition = exposition
        self._telemetry = telemetry
        self._wanted = False
        self.published = 0
        """How many pages there have been."""
        self._turn = asyncio.Lock()
        self.page: Page = exposition.render((), (), own_series(telemetry.registry))
        """The last finished page; before the first, one of the exporter's own series."""

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
            own = own_series(self._telemetry.registry)
            self.published += 1
            self.page = await asyncio.to_thread(self._exposition.render, pipelines, projects, own)
