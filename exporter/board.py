"""The board: what is known of every pipeline now, and how answers and failures change it.

A `View` is what a page shows of a pipeline. It is frozen and replaced only when something visible changed, so that
whoever renders it can keep what it rendered for as long as the view stays the same object.
"""

from collections.abc import Callable, Iterable, Mapping

import msgspec

from exporter.config.schema import HistogramScope, Metrics
from exporter.ledger import Count, Event, Series, State, account
from exporter.model import Pipeline, Run, Status
from exporter.tally import STAGE_NAMES_OF_PIPELINE, STAGE_NAMES_OF_PROJECT, Bounds, Durations, Tally

ABSENCES = 3
"""Answers in a row without a pipeline that had a run, after which its gauges go."""

HELD_ACTIVE = 3600.0
"""Seconds for which a run that waits for somebody is polled as one under way."""


class View(msgspec.Struct, frozen=True, kw_only=True):
    """What a page shows of a pipeline; what is None or empty has no sample."""

    pipeline: Pipeline
    up: bool
    has_run: bool | None = None
    latest: Run | None = None
    status_change: float | None = None
    """Since when the latest run has its status, in epoch seconds."""
    stage_changes: tuple[tuple[str, int, float], ...] = ()
    """Stages that wait for somebody: name, sequence, since when."""
    finished: Run | None = None
    series: Series | None = None
    """Failures in a row and what belongs to them; None once withdrawn."""
    active_starts: tuple[float | None, ...] | None = None
    """Starts of the known runs under way; None once withdrawn."""
    tally: Tally | None = None
    """None until the first sight."""
    durations: Durations | None = None


class ProjectView(msgspec.Struct, frozen=True, kw_only=True):
    """What a page shows of a project: the histograms that its pipelines share."""

    provider: str
    project: str
    durations: Durations


Observe = Callable[[Durations, Run], Durations]
"""Adds a run that was counted to histograms."""


class Entry:
    """A pipeline's place on the board."""

    def __init__(self, pipeline: Pipeline) -> None:
        self.pipeline = pipeline
        self.view: View | None = None
        """None until the first poll that covered it has ended."""
        self._asked: float | None = None
        self._expired = False
        self._absences = 0
        self._latest: Run | None = None
        self._change: float | None = None
        self._stage_changes: tuple[tuple[str, int, float], ...] = ()
        self._state: State | None = None
        self._tally: Tally | None = None
        self._durations: Durations | None = None

    def answered(
        self, run: Run | None, *, asked: float, now: float, bounds: Bounds, observe: Observe
    ) -> tuple[Event, ...]:
        """Apply a successful answer; returns what was counted.

        `asked` is when its request was sent (monotonic seconds), `now` the answer's own clock (epoch seconds).
        """
        if self._asked is not None and asked < self._asked:
            return ()
        if self._state is None:
            self._tally = Tally(created=now)
            self._durations = bounds.empty(now)
        self._state, events = account(self._state, run, asked=asked, now=now)
        if self._tally is not None:
            self._tally = self._tally.add(events)
        for event in events:
            if event.count is Count.ENDED and event.run is not None and self._durations is not None:
                self._durations = observe(self._durations, event.run)
        self._asked = asked
        self._expired = False
        self._absences = self._absences + 1 if run is None else 0
        if run is not None and not self._state.doubtful:
            self._stage_changes = self._held_stages(run, now)
            self._change = self._changed(run, now)
            self._latest = run
        self._show(up=True)
        return events

    def failed(self) -> None:
        """A poll that covered the pipeline failed: what was known stays, until it is too old."""
        self._show(up=False)

    def expire(self, now: float, max_age: float) -> bool:
        """Withdraw what was last answered more than `max_age` seconds before `now` (monotonic); whether it was."""
        if self.view is None or self._asked is None or self._expired or now - self._asked <= max_age:
            return False
        self._expired = True
        self._show(up=self.view.up)
        return True

    def active(self, now: float) -> bool:
        """Whether the latest run is under way at `now` (epoch seconds), and worth asking about more often."""
        run = self._latest
        if run is None or self._absences >= ABSENCES:
            return False
        if run.status in {Status.RUNNING, Status.PENDING}:
            return True
        return run.status.held and self._change is not None and now - self._change < HELD_ACTIVE

    def _changed(self, run: Run, now: float) -> float:
        """Since when the run has its status."""
        if run.status.final and run.end is not None:
            return run.end
        last = self._latest
        if last is not None and (last.id, last.status) == (run.id, run.status) and self._change is not None:
            return self._change
        return max(now, run.start or now)

    def _held_stages(self, run: Run, now: float) -> tuple[tuple[str, int, float], ...]:
        """Since when each stage that waits for somebody does."""
        since: dict[tuple[str, int, Status], float] = {}
        if self._latest is not None and self._latest.id == run.id:
            before = {(stage.name, stage.sequence): stage.status for stage in self._latest.stages}
            since = {(name, place, before[name, place]): start for name, place, start in self._stage_changes}
        changes = []
        for stage in run.stages:
            if stage.status.held:
                first_seen = max(now, stage.start or now)
                start = since.get((stage.name, stage.sequence, stage.status), first_seen)
                changes.append((stage.name, stage.sequence, start))
        return tuple(changes)

    def _show(self, *, up: bool) -> None:
        gone = self._latest is not None and self._absences >= ABSENCES
        view = View(pipeline=self.pipeline, up=up, tally=self._tally, durations=self._durations)
        if self._state is not None and not self._expired:
            has_run = self._latest is not None and not self._absences
            view = msgspec.structs.replace(view, has_run=has_run)
            if not gone:
                active = self._state.active
                view = msgspec.structs.replace(
                    view,
                    latest=self._latest,
                    status_change=self._change,
                    stage_changes=self._stage_changes,
                    finished=self._state.finished,
                    series=self._state.series,
                    active_starts=(active.start,) if active else (),
                )
        if view != self.view:
            self.view = view


class Board:
    """The pipelines of one project, in the order of the configuration."""

    def __init__(
        self, pipelines: Iterable[Pipeline], metrics: Metrics, *, provider: str, project: str
    ) -> None:
        self._entries = {pipeline.id: Entry(pipeline) for pipeline in pipelines}
        self._provider = provider
        self._project = project
        self._bounds = Bounds(metrics.run_duration_buckets, metrics.stage_duration_buckets)
        self._own = self._observer(metrics, "pipeline", STAGE_NAMES_OF_PIPELINE)
        self._shared = self._observer(metrics, "project", STAGE_NAMES_OF_PROJECT)
        self._view: ProjectView | None = None

    def _observer(self, metrics: Metrics, scope: HistogramScope, names: int) -> Observe:
        """What adds a run to the histograms that are kept in a scope."""

        def observe(durations: Durations, run: Run) -> Durations:
            if metrics.run_histogram == scope:
                durations = self._bounds.observe_run(durations, run)
            if metrics.stage_histogram == scope:
                durations = self._bounds.observe_stages(durations, run, names)
            return durations

        return observe

    @property
    def ids(self) -> tuple[str, ...]:
        """The ids of all pipelines."""
        return tuple(self._entries)

    def active(self, now: float) -> tuple[str, ...]:
        """The ids of pipelines whose run is under way at `now` (epoch seconds)."""
        return tuple(identity for identity, entry in self._entries.items() if entry.active(now))

    def answered(self, ids: Iterable[str], runs: Mapping[str, Run], *, asked: float, now: float) -> None:
        """Apply a successful answer about `ids`: the latest run of those that have one."""
        view = self._view
        if view is None:
            empty = self._bounds.empty(now)
            view = ProjectView(provider=self._provider, project=self._project, durations=empty)
        for identity in ids:
            events = self._entries[identity].answered(
                runs.get(identity), asked=asked, now=now, bounds=self._bounds, observe=self._own
            )
            for event in events:
                if event.count is Count.ENDED and event.run is not None:
                    durations = self._shared(view.durations, event.run)
                    view = msgspec.structs.replace(view, durations=durations)
        self._view = view

    def failed(self, ids: Iterable[str]) -> None:
        """A poll that covered `ids` failed."""
        for identity in ids:
            self._entries[identity].failed()

    def expire(self, now: float, max_age: float) -> bool:
        """Withdraw what was last answered more than `max_age` seconds before `now` (monotonic); whether any was."""
        return sum(entry.expire(now, max_age) for entry in self._entries.values()) > 0

    def views(self) -> tuple[View, ...]:
        """What a page shows of each pipeline that a poll has covered."""
        return tuple(entry.view for entry in self._entries.values() if entry.view is not None)

    def project_view(self) -> ProjectView | None:
        """What a page shows of the project as a whole; None before its first answer."""
        return self._view
