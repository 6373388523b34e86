"""The board: what is known of every pipeline now, and how answers and failures change it.

A `View` is what a page shows of a pipeline. It is frozen and replaced only when something visible changed, so that
whoever renders it can keep what it rendered for as long as the view stays the same object.
"""

import math
from collections.abc import Callable, Iterable, Mapping

import msgspec

from exporter.config.schema import HistogramScope, Metrics
from exporter.ledger import Count, Event, Series, State, account, learn
from exporter.model import Pipeline, Run, Stage, Status
from exporter.tally import STAGE_NAMES_OF_PIPELINE, STAGE_NAMES_OF_PROJECT, Bounds, Durations, Tally

ABSENCES = 3
"""Answers in a row without a pipeline that had a run, after which its gauges go."""

LOOKUP_LONGEST = 900.0
"""Seconds between looks at a run that a newer one hides, at most; they grow from the poll's interval to that."""

DETAIL_TRIES = 3
"""Failures to get a run's details after which those of its state before are no longer shown."""

HIDDEN_UNKNOWN = 86_400.0
"""Seconds after which a hidden run whose state has no translation is given up."""

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


class _Lookup(msgspec.Struct, frozen=True):
    """When a hidden run is to be looked up, by the monotonic clock."""

    due: float
    pause: float
    """What the next pause is doubled from, in seconds."""
    since: float
    """Since when it hides."""


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
        self._detail: Run | None = None
        self._detailed: Run | None = None
        self._detail_failures = 0
        self._detail_due = -math.inf
        self.detail_turn = 0
        """When its turn for details was last, among the pipelines of its board."""
        self._lookups: dict[str, _Lookup] = {}

    def renamed(self, pipeline: Pipeline) -> None:
        """Name, labels or address are others now."""
        self.pipeline = pipeline
        if self.view is not None:
            self.view = msgspec.structs.replace(self.view, pipeline=pipeline)

    def answered(
        self, run: Run | None, *, asked: float, now: float, interval: float, bounds: Bounds, observe: Observe
    ) -> tuple[Event, ...]:
        """Apply a successful answer; returns what was counted.

        `asked` is when its request was sent (monotonic seconds), `now` the answer's own clock (epoch seconds).
        A run that hides from now on is to be looked up after `interval` seconds.
        """
        if self._asked is not None and asked < self._asked:
            return ()
        if self._state is None:
            self._tally = Tally(created=now)
            self._durations = bounds.empty(now)
        self._state, events = account(self._state, run, asked=asked, now=now)
        self._count(events, observe)
        self._lookups = {
            one.id: self._lookups.get(one.id) or _Lookup(asked + interval, interval, asked)
            for one in self._state.hidden
        }
        self._asked = asked
        self._expired = False
        self._absences = self._absences + 1 if run is None else 0
        if run is not None and not self._state.doubtful:
            self._stage_changes = self._held_stages(run, now)
            self._change = self._changed(run, now)
            if run != self._latest:
                self._detail_failures = 0
                self._detail_due = -math.inf
            self._latest = run
        self._show(up=True)
        return events

    def _count(self, events: Iterable[Event], observe: Observe) -> None:
        if self._tally is not None:
            self._tally = self._tally.add(events)
        for event in events:
            if event.count is Count.ENDED and event.run is not None and self._durations is not None:
                self._durations = observe(self._durations, event.run)

    def wanted_detail(self, now: float) -> Run | None:
        """The latest run, if it is new or has changed since its details came, and they are worth a try at `now`."""
        run = self._latest
        if run is None or run.nameless or self._absences >= ABSENCES or run == self._detailed:
            return None
        return run if self._detail_due <= now else None

    def detailed(self, of: Run, detail: Run | None) -> None:
        """Apply the details of a run as it was when they were asked for; None if they cannot be had.

        Then what was known of its jobs goes: they are not as they were before it changed.
        """
        self._detailed = of
        self._detail = detail if detail is not None and detail.id == of.id else None
        if self.view is not None:
            self._show(up=self.view.up)

    def detail_failed(self, now: float, interval: float) -> None:
        """Details could not be had this time (monotonic seconds): again later, and later each time."""
        self._detail_due = now + min(interval * 2**self._detail_failures, LOOKUP_LONGEST)
        self._detail_failures = min(self._detail_failures + 1, 20)
        if self._detail_failures >= DETAIL_TRIES and self._detail is not None:
            # They are of the run as it was before it changed.
            self._detail = None
            if self.view is not None:
                self._show(up=self.view.up)

    def due_lookups(self, now: float) -> tuple[str, ...]:
        """The ids of hidden runs to look up at `now` (monotonic seconds)."""
        return tuple(identity for identity, lookup in self._lookups.items() if lookup.due <= now)

    @property
    def unresolved(self) -> int:
        """How many runs are still to be looked up."""
        return len(self._state.hidden) if self._state else 0

    def postpone(self, identity: str, now: float) -> None:
        """A hidden run still hides, or could not be looked up: ask again later, and later each time."""
        if identity in self._lookups:
            before = self._lookups[identity]
            pause = min(2 * before.pause, LOOKUP_LONGEST)
            self._lookups[identity] = _Lookup(now + pause, pause, before.since)

    def looked_up(self, identity: str, run: Run | None, now: float, observe: Observe) -> tuple[Event, ...]:
        """Apply what was looked up of a hidden run at `now` (monotonic); None if the provider no longer knows it."""
        if self._state is None:
            return ()
        lookup = self._lookups.get(identity)
        if lookup and run and run.status is Status.UNKNOWN and now - lookup.since > HIDDEN_UNKNOWN:
            run = None  # no word that means its end will come
        self._state, events = learn(self._state, identity, run)
        self._count(events, observe)
        if not any(one.id == identity for one in self._state.hidden):
            self._lookups.pop(identity, None)
        if self.view is not None:
            self._show(up=self.view.up)
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
        if run is None or self._absences >= ABSENCES or self._expired:
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
                still = (*self._state.hidden, *([active] if active else []))
                view = msgspec.structs.replace(
                    view,
                    latest=_with_detail(self._latest, self._detail),
                    status_change=self._change,
                    stage_changes=self._stage_changes,
                    finished=self._state.finished,
                    series=self._state.series,
                    active_starts=tuple(one.start for one in still),
                )
        if view != self.view:
            self.view = view


def _with_detail(run: Run | None, detail: Run | None) -> Run | None:
    """A run with the jobs and the exact times of its details, if they are of the same run.

    The states are the run's: details are asked for when it changes, so it is as new as they are, or newer.
    """
    if run is None or detail is None or detail.id != run.id:
        return run
    known = {(stage.name, stage.sequence): stage for stage in detail.stages}
    stages = tuple(_stage_with_detail(stage, known.get((stage.name, stage.sequence))) for stage in run.stages)
    return msgspec.structs.replace(run, stages=stages or detail.stages)


def _stage_with_detail(stage: Stage, detail: Stage | None) -> Stage:
    if detail is None:
        return stage
    start = stage.start if detail.start is None else detail.start
    duration = detail.duration if stage.status.final and detail.duration is not None else stage.duration
    return msgspec.structs.replace(stage, start=start, duration=duration, jobs=detail.jobs)


class Board:
    """The pipelines of one project."""

    def __init__(
        self, pipelines: Iterable[Pipeline], metrics: Metrics, *, provider: str, project: str, interval: float
    ) -> None:
        self._entries: dict[str, Entry] = {}
        self._provider = provider
        self._project = project
        self._interval = min(interval, LOOKUP_LONGEST)
        self._details = metrics.details != "none"
        self._bounds = Bounds(metrics.run_duration_buckets, metrics.stage_duration_buckets)
        self._own = self._observer(metrics, "pipeline", STAGE_NAMES_OF_PIPELINE)
        self._shared = self._observer(metrics, "project", STAGE_NAMES_OF_PROJECT)
        self._view: ProjectView | None = None
        self._turn = 0
        self.held_back: frozenset[str] = frozenset()
        """The ids of pipelines that are not shown yet, since their name may still be learnt."""
        self.update(pipelines)

    def _observer(self, metrics: Metrics, scope: HistogramScope, names: int) -> Observe:
        """What adds a run to the histograms that are kept in a scope."""

        def observe(durations: Durations, run: Run) -> Durations:
            if metrics.run_histogram == scope:
                durations = self._bounds.observe_run(durations, run)
            if metrics.stage_histogram == scope:
                durations = self._bounds.observe_stages(durations, run, names)
            return durations

        return observe

    def update(self, pipelines: Iterable[Pipeline]) -> None:
        """Watch these pipelines: new ones join, those that are missing leave, the others keep what is known of them."""
        before = self._entries
        self._entries = {}
        for pipeline in pipelines:
            entry = before.get(pipeline.id) or Entry(pipeline)
            if entry.pipeline != pipeline:
                entry.renamed(pipeline)
            self._entries[pipeline.id] = entry

    @property
    def ids(self) -> tuple[str, ...]:
        """The ids of all pipelines."""
        return tuple(self._entries)

    def active(self, now: float) -> tuple[str, ...]:
        """The ids of pipelines whose run is under way at `now` (epoch seconds)."""
        return tuple(identity for identity, entry in self._entries.items() if entry.active(now))

    def answered(self, ids: Iterable[str], runs: Mapping[str, Run], *, asked: float, now: float) -> None:
        """Apply a successful answer about `ids`: the latest run of those that have one."""
        if self._view is None:
            empty = self._bounds.empty(now)
            self._view = ProjectView(provider=self._provider, project=self._project, durations=empty)
        for identity in ids:
            events = self._entries[identity].answered(
                runs.get(identity),
                asked=asked,
                now=now,
                interval=self._interval,
                bounds=self._bounds,
                observe=self._own,
            )
            self._share(events)

    def _share(self, events: Iterable[Event]) -> None:
        """Add what was counted of a pipeline to the histograms of the project."""
        for event in events:
            if event.count is Count.ENDED and event.run is not None and self._view is not None:
                durations = self._shared(self._view.durations, event.run)
                self._view = msgspec.structs.replace(self._view, durations=durations)

    def wanted_details(self, now: float) -> tuple[tuple[str, Run], ...]:
        """Runs whose details are to be asked for, by pipeline id: those that are new or have changed."""
        if not self._details:
            return ()
        # Whoever has waited longest comes first: those that change often would else starve the others.
        turns = sorted(self._entries.items(), key=lambda item: item[1].detail_turn)
        wanted = ((identity, entry.wanted_detail(now)) for identity, entry in turns)
        return tuple((identity, run) for identity, run in wanted if run is not None)

    def detailed(self, identity: str, of: Run, detail: Run | None) -> None:
        """Apply the details of a run of a pipeline; None if they cannot be had."""
        if identity in self._entries:
            self._take_turn(identity).detailed(of, detail)

    def _take_turn(self, identity: str) -> Entry:
        self._turn += 1
        entry = self._entries[identity]
        entry.detail_turn = self._turn
        return entry

    def detail_failed(self, identity: str, now: float) -> None:
        """The details of a pipeline's run could not be asked for this time."""
        if identity in self._entries:
            self._take_turn(identity).detail_failed(now, self._interval)

    def due_lookups(self, now: float) -> tuple[tuple[str, str], ...]:
        """Hidden runs to look up at `now` (monotonic seconds): pipeline id and run id."""
        return tuple(
            (identity, run) for identity, entry in self._entries.items() for run in entry.due_lookups(now)
        )

    def looked_up(self, identity: str, run_id: str, run: Run | None, now: float) -> None:
        """Apply what was looked up of a hidden run at `now` (monotonic); None if the provider no longer knows it."""
        if identity in self._entries:
            self._share(self._entries[identity].looked_up(run_id, run, now, self._own))
            self.postpone(identity, run_id, now)

    def postpone(self, identity: str, run_id: str, now: float) -> None:
        """Look for a hidden run again later, if it still hides."""
        if identity in self._entries:
            self._entries[identity].postpone(run_id, now)

    @property
    def unresolved(self) -> int:
        """How many runs are still to be looked up."""
        return sum(entry.unresolved for entry in self._entries.values())

    def failed(self, ids: Iterable[str]) -> None:
        """A poll that covered `ids` failed."""
        for identity in ids:
            if identity in self._entries:
                self._entries[identity].failed()

    def expire(self, now: float, max_age: float) -> bool:
        """Withdraw what was last answered more than `max_age` seconds before `now` (monotonic); whether any was."""
        return sum(entry.expire(now, max_age) for entry in self._entries.values()) > 0

    def views(self) -> tuple[View, ...]:
        """What a page shows of each pipeline that a poll has covered."""
        return tuple(
            entry.view
            for identity, entry in self._entries.items()
            if entry.view is not None and identity not in self.held_back
        )

    def project_view(self) -> ProjectView | None:
        """What a page shows of the project as a whole; None before its first answer."""
        return self._view
