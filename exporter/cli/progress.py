"""Show the progress of polls on one line of standard error, if it is a terminal."""

import logging
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TextIO, cast

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn

from exporter.polling.progress import PollStep, ignore_progress
from exporter.polling.progress import Progress as Follower


class _Line:
    """The progress line, with the sums of each step over all projects."""

    def __init__(self, bar: Progress) -> None:
        self._bar = bar
        self._task = bar.add_task("connecting", total=None)
        self._done: Counter[PollStep] = Counter()
        self._total: Counter[PollStep] = Counter()

    def follow(self, step: PollStep, done: int, more: int) -> None:
        """Add `done` pipelines to a step, and `more` to its total. Update the line."""
        self._done[step] += done
        self._total[step] += more
        listed, polled = self._done[PollStep.LIST], self._done[PollStep.POLL]
        pipelines, look_ups = self._total[PollStep.POLL], self._total[PollStep.FOLLOW_UP]
        parts = [f"{listed} listed"] if listed else []
        if pipelines:
            parts.append(f"{polled}/{pipelines} pipelines")
        if look_ups:
            parts.append(f"{self._done[PollStep.FOLLOW_UP]}/{look_ups} look-ups")
        known = pipelines + look_ups
        self._bar.update(
            self._task,
            description=", ".join(parts) or "connecting",
            total=known or None,
            completed=polled + self._done[PollStep.FOLLOW_UP],
        )


class _AboveLine:
    """Writes log lines above the progress line."""

    def __init__(self, console: Console) -> None:
        self._console = console

    def write(self, text: str) -> None:
        """Print text that ends with a line end, without wrapping or colours."""
        if text.strip():
            self._console.print(text.rstrip("\n"), markup=False, highlight=False, soft_wrap=True, emoji=False)

    def flush(self) -> None:
        """Do nothing: the console does not buffer."""


@contextmanager
def progress_line() -> Iterator[Follower]:
    """Yield a callback that shows the progress of polls on the line. The line disappears at the end."""
    console = Console(stderr=True)
    if not console.is_terminal or not sys.stderr.isatty():
        yield ignore_progress
        return
    bar = Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        TaskProgressColumn(),
        TimeElapsedColumn(),
        console=console,
        transient=True,
        redirect_stdout=False,
        redirect_stderr=False,
    )
    handlers = [one for one in logging.getLogger().handlers if isinstance(one, logging.StreamHandler)]
    streams = [one.stream for one in handlers]
    above = cast("TextIO", _AboveLine(console))
    with bar:
        for handler in handlers:
            handler.setStream(above)
        try:
            yield _Line(bar).follow
        finally:
            for handler, stream in zip(handlers, streams, strict=True):
                handler.setStream(stream)
