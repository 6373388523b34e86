"""The pipelines of a publication, in the orders in which the page shows them.

An overview is made from frozen views. Of a view that did not change, everything is kept.
"""

from bisect import insort
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from operator import attrgetter
from typing import Any

import msgspec

from exporter.core.model import Run, Status, failed_stages
from exporter.core.redaction import redact
from exporter.status_page.answer import (
    ENOUGH,
    RUNNING,
    WAITING,
    ActivePipeline,
    PipelineStatus,
    RedPipeline,
    limit,
)
from exporter.status_page.query import PipelineQuery
from exporter.tracking.views import View

PAGE = 100
"""Pipelines of one page."""

_RED, _WAITING, _RUNNING, _OTHER = range(4)


class PipelineRow(msgspec.Struct, frozen=True, gc=False):
    """A pipeline with what it is selected and sorted by."""

    view: View
    status: str
    """Status of its latest run, `none` without a run, `unknown` before the first answer."""
    red: bool
    since: float | None
    """Of a red one since when, otherwise since when it has its status; epoch seconds."""
    notable: bool
    """Whether it is red or its latest run has not ended."""
    text: str
    """Name and id in lower case."""
    attention: tuple[int, float, str, str]
    """Sort key: red ones first, the newest before; then waiting ones, the longest before; then running ones."""

    @property
    def latest(self) -> Run | None:
        """The latest run; the latest finished one until it is known after a restart."""
        return self.view.latest or self.view.finished

    @property
    def usual_seconds(self) -> float | None:
        """Average duration of successful runs, where enough are counted."""
        durations = self.view.durations
        found = durations.runs.get(Status.SUCCESS) if durations is not None else None
        runs = sum(found.counts) if found is not None else 0
        return found.sum / runs if found is not None and runs >= ENOUGH else None

    def long_running(self, now: float) -> bool:
        """Return whether its latest run is in progress for unusually long at `now` (epoch seconds)."""
        run = self.view.latest
        if self.status not in RUNNING or run is None or run.start is None:
            return False
        return now - run.start > limit(self.usual_seconds)


def _row(view: View) -> PipelineRow:
    run = view.latest or view.finished
    if run is not None:
        status = run.status.value
    else:
        status = "none" if view.has_run is False else "unknown"
    red = view.finished is not None and view.finished.status is Status.FAILED
    name, project = view.pipeline.name, view.pipeline.project
    since = view.status_change
    if red:
        since = view.streak.broken_since if view.streak is not None else None
        attention = (_RED, -(since or 0.0), project, name)
    elif status in WAITING:
        attention = (_WAITING, since or float("inf"), project, name)
    elif status in RUNNING:
        attention = (_RUNNING, (run.start if run is not None else None) or float("inf"), project, name)
    else:
        attention = (_OTHER, 0.0, name, project)
    notable = attention[0] != _OTHER
    return PipelineRow(view, status, red, since, notable, f"{name}\n{view.pipeline.id}".lower(), attention)


def _latest_first(value: float | None) -> float:
    return -value if value is not None else float("inf")


_KEYS: dict[str, Callable[[PipelineRow], object]] = {
    "attention": attrgetter("attention"),
    "name": lambda row: (row.view.pipeline.name, row.view.pipeline.project),
    "since": lambda row: (_latest_first(row.since), row.attention),
    "started": lambda row: (_latest_first(row.latest.start if row.latest else None), row.attention),
    "duration": lambda row: (_latest_first(row.latest.duration if row.latest else None), row.attention),
    "failures": lambda row: (
        _latest_first(row.view.streak.failures if row.view.streak else None),
        row.attention,
    ),
}


class Overview:
    """The pipelines of one publication. `previous` is the overview before it."""

    def __init__(self, views: Sequence[View], previous: "Overview | None" = None) -> None:
        self.views = views
        known = previous.rows if previous is not None else {}
        self.rows: dict[int, PipelineRow] = {}
        """By the `id()` of their views, which they keep alive."""
        self._new: list[PipelineRow] = []
        self._orders_before = previous._orders if previous is not None else {}  # noqa: SLF001  # of the same class
        self._orders: dict[str, list[PipelineRow]] = {}
        notable = []
        for view in views:
            key = id(view)
            row = known.get(key)
            if row is None:
                row = _row(view)
                self._new.append(row)
            self.rows[key] = row
            if row.notable:
                notable.append(row)
        self.waiting_rows = sorted(
            (row for row in notable if row.status in WAITING),
            key=lambda row: (row.view.status_change or float("inf"), row.attention),
        )
        """The longest first, also those that are red."""
        self._running_rows = sorted(
            (row for row in notable if row.status in RUNNING),
            key=lambda row: ((row.latest.start if row.latest else None) or float("inf"), row.attention),
        )
        self.red = Counter(row.view.pipeline.project for row in notable if row.red)
        self.waiting = Counter(row.view.pipeline.project for row in self.waiting_rows)
        self.running = Counter(
            row.view.pipeline.project for row in self._running_rows if row.status == Status.RUNNING
        )

    def find(self, project: str, pipeline_id: str) -> PipelineRow | None:
        """Return a pipeline; None if it does not exist."""
        for row in self.rows.values():
            pipeline = row.view.pipeline
            if pipeline.id == pipeline_id and pipeline.project == project:
                return row
        return None

    def select(self, query: PipelineQuery) -> list[PipelineRow]:
        """Return the pipelines of all pages of a query, in its order."""
        rows: Iterable[PipelineRow] = self._in_order(query.sort)
        if query.project:
            rows = [row for row in rows if row.view.pipeline.project == query.project]
        if query.status == "red":
            rows = [row for row in rows if row.red]
        elif query.status:
            statuses = WAITING if query.status == "waiting" else {query.status}
            rows = [row for row in rows if row.status in statuses]
        if query.text:
            text = query.text.lower()
            rows = [row for row in rows if text in row.text]
        return list(rows)

    def long_running(self, now: float) -> list[PipelineRow]:
        """Return the pipelines whose run takes unusually long, the longest first."""
        return [row for row in self._running_rows if row.long_running(now)]

    def _in_order(self, sort: str) -> list[PipelineRow]:
        if sort not in self._orders:
            key: Callable[[PipelineRow], Any] = _KEYS[sort]
            found = [row for row in self._orders_before.get(sort, ()) if id(row.view) in self.rows]
            if len(found) + len(self._new) == len(self.rows) and len(self._new) < len(found) / 10:
                # Most rows are where they were: sorting all again would take longer than anything else here.
                for row in self._new:
                    insort(found, row, key=key)
            else:
                found = sorted(self.rows.values(), key=key)
            self._orders[sort] = found
        return self._orders[sort]


# Rows as values of an answer. Here vendors' texts are masked.


def link(url: str) -> str | None:
    """Return a vendor's address if it is one of http or https."""
    return redact(url) if url.startswith(("https://", "http://")) else None


def url_of(row: PipelineRow, run: Run | None) -> str | None:
    """Return the address of a run's page, otherwise of the pipeline's page."""
    return (link(run.url) if run is not None else None) or link(row.view.pipeline.url)


def branch_of(run: Run | None) -> str | None:
    """Return the branch of a run; None if it is unknown."""
    return redact(run.branch) if run is not None and run.branch else None


def failed_stages_of(row: PipelineRow) -> list[str]:
    """Return the stages that failed in the latest finished run."""
    run = row.view.finished
    if run is None:
        return []
    return [redact(stage.name) for stage in failed_stages(run) if stage.status is Status.FAILED]


def failures_of(row: PipelineRow) -> int | None:
    """Return the failures in a row; None if they are unknown."""
    return row.view.streak.failures if row.view.streak is not None else None


def active_stages(row: PipelineRow) -> list[str]:
    """Return the stages of the latest run that wait, or that run if it runs."""
    run = row.view.latest
    statuses = WAITING if row.status in WAITING else RUNNING
    return [redact(stage.name) for stage in run.stages if stage.status in statuses] if run is not None else []


def red_pipeline(row: PipelineRow) -> RedPipeline:
    """Return a red pipeline."""
    pipeline, run = row.view.pipeline, row.view.finished
    return RedPipeline(
        project=pipeline.project,
        pipeline=pipeline.name,
        pipeline_id=pipeline.id,
        since=row.since,
        failures=failures_of(row),
        failed_stages=failed_stages_of(row),
        branch=branch_of(run),
        url=url_of(row, run),
    )


def active_pipeline(row: PipelineRow, since: float | None) -> ActivePipeline:
    """Return a pipeline whose latest run waits, or runs."""
    pipeline, run = row.view.pipeline, row.view.latest
    return ActivePipeline(
        project=pipeline.project,
        pipeline=pipeline.name,
        pipeline_id=pipeline.id,
        status=row.status,
        since=since,
        stages=active_stages(row),
        branch=branch_of(run),
        url=url_of(row, run),
        usual_seconds=row.usual_seconds,
    )


def pipeline_status(row: PipelineRow) -> PipelineStatus:
    """Return a pipeline as a row of the page."""
    pipeline, run = row.view.pipeline, row.latest
    return PipelineStatus(
        project=pipeline.project,
        pipeline=pipeline.name,
        pipeline_id=pipeline.id,
        status=row.status,
        red=row.red,
        since=row.since,
        failures=failures_of(row),
        failed_stages=failed_stages_of(row),
        number=run.number if run is not None else None,
        started=run.start if run is not None else None,
        duration=run.duration if run is not None else None,
        branch=branch_of(run),
        url=url_of(row, run),
    )
