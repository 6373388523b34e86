"""The board: what is known of every pipeline now, and how answers and failures change it.

A `View` is what a page shows of a pipeline. It is frozen and replaced only when something visible changed, so that
whoever renders it can keep what it rendered for as long as the view stays the same object.
"""

import math
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

import msgspec

from exporter.core.model import Pipeline, Run, Stage, Status
from exporter.settings.settings import HistogramScope, Metrics
from exporter.state.codec import RetiredPipelines, SavedPipeline, Snapshot, WaitingStage
from exporter.tracking.ledger import (
    Event,
    EventKind,
    LedgerState,
    LedgerUpdate,
    Reach,
    Search,
    Streak,
    apply_history,
    apply_latest,
    apply_lookup,
    history_unavailable,
    search,
)
from exporter.tracking.lookups import LONGEST, DueLookups, LookupSchedule
from exporter.tracking.run_counters import (
    STAGE_NAMES_OF_PIPELINE,
    STAGE_NAMES_OF_PROJECT,
    BucketBounds,
    DurationHistograms,
    RunCounters,
)

ABSENCES = 3
"""Answers in a row without a pipeline that had a run, after which its gauges go."""

DETAIL_TRIES = 3
"""Failures to get a run's details after which those of its state before are no longer shown."""

HELD_ACTIVE = 3600.0
"""Seconds for which a run that waits for somebody is polled as one under way."""


class View(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What a page shows of a pipeline; what is None or empty has no sample."""

    pipeline: Pipeline
    up: bool | None = None
    """Whether the last poll that covered it was answered; None before the first."""
    has_run: bool | None = None
    latest: Run | None = None
    status_change: float | None = None
    """Since when the latest run has its status, in epoch seconds."""
    stage_changes: tuple[tuple[str, int, float], ...] = ()
    """Stages that wait for somebody: name, sequence, since when."""
    finished: Run | None = None
    series: Streak | None = None
    """Failures in a row and what belongs to them; None once withdrawn."""
    active_starts: tuple[float | None, ...] | None = None
    """Starts of the known runs under way; None once withdrawn."""
    counters: RunCounters | None = None
    """None until the first sight."""
    durations: DurationHistograms | None = None


class ProjectView(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What a page shows of a project: the histograms that its pipelines share."""

    provider: str
    project: str
    durations: DurationHistograms


class MissedRuns(msgspec.Struct, frozen=True):
    """Runs of a pipeline that were given up."""

    pipeline: Pipeline
    runs: int
    why: str


class Misnumbered(msgspec.Struct, frozen=True):
    """A run that was reported with a number that is not its own."""

    pipeline: Pipeline
    run: Run
    """As it was reported."""


Observe = Callable[[DurationHistograms, Run], DurationHistograms]
"""Adds a run that was counted to histograms."""


class _Accounts(msgspec.Struct, frozen=True, gc=False):
    """What is accounted of a pipeline."""

    state: LedgerState
    counters: RunCounters
    durations: DurationHistograms


class _Notes(msgspec.Struct, frozen=True, gc=False):
    """What else is remembered of a pipeline."""

    run: str = ""
    """The id of the latest run."""
    status: Status = Status.UNKNOWN
    change: float | None = None
    """Since when it has that status."""
    waiting: tuple[WaitingStage, ...] = ()


class PipelineTracker:
    """A pipeline's place on the board."""

    def __init__(
        self,
        pipeline: Pipeline,
        *,
        interval: float,
        now: float,
        remembered: SavedPipeline | None = None,
        lists_are_summaries: bool = False,
    ) -> None:
        """`interval` is the poll's, `now` is monotonic; both in seconds. `lists_are_summaries` as for `ProjectTracker`."""
        self.pipeline = pipeline
        self.view: View | None = None
        """None until the first poll that covered it has ended, unless something is remembered of it."""
        self.since = now
        """When what is shown was answered, or taken from memory, in monotonic seconds."""
        self._asked: float | None = None
        self._expired = False
        self._absences = 0
        self._latest: Run | None = None
        self._books: _Accounts | None = None
        self._kept: _Accounts | None = None
        """What is safe: counters are shown from here."""
        self._shown: LedgerState | None = None
        """What gauges are shown from."""
        self._notes = self._kept_notes = _Notes()
        self._kept_name = ""
        self._answered = self._kept_answered = 0.0
        self._detail: Run | None = None
        self._detailed: Run | None = None
        self._detail_failures = 0
        self._detail_due = -math.inf
        self.detail_turn = 0
        """When its turn for details was last, among the pipelines of its board."""
        self._unsettled = False
        """Whether an answer was lost, so that another is needed soon."""
        self._backfill = LookupSchedule(interval, list_first=lists_are_summaries)
        if remembered is not None:
            memory = remembered.memory
            self._books = self._kept = _Accounts(memory.state, memory.counters, memory.durations)
            self._shown = memory.state
            self._notes = self._kept_notes = _Notes(memory.run, memory.status, memory.change, memory.waiting)
            self._kept_name = memory.name
            self._answered = self._kept_answered = remembered.answered
            self._backfill.follow(memory.state, now)
            self._show(up=None)

    def renamed(self, pipeline: Pipeline) -> None:
        """Name, labels or address are others now."""
        self.pipeline = pipeline
        if self.view is not None:
            self.view = msgspec.structs.replace(self.view, pipeline=pipeline)

    # What is remembered

    @property
    def _name(self) -> str:
        return self.pipeline.name if self.pipeline.name != self.pipeline.id else ""

    @property
    def unsaved(self) -> bool:
        """Whether there is more to remember than what is safe."""
        return self._books is not None and (
            self._books is not self._kept or self._notes != self._kept_notes or self._name != self._kept_name
        )

    def remembered(self) -> SavedPipeline | None:
        """What is to be remembered; None before the first sight."""
        return _remembered(self._books, self._notes, self._name, self._answered)

    def committed(self) -> SavedPipeline | None:
        """What is safe; None if nothing is."""
        return _remembered(self._kept, self._kept_notes, self._kept_name, self._kept_answered)

    def saved(self) -> None:
        """What was to be remembered is safe: it is shown."""
        self._kept, self._kept_notes, self._kept_name = self._books, self._notes, self._name
        self._kept_answered = self._answered
        self._show(up=self._up)

    def not_saved(self, now: float) -> None:
        """It is not: nothing was accounted since, and the next answer is applied to what was known before."""
        self._books, self._answered = self._kept, self._kept_answered
        self._unsettled = True
        self._backfill.not_saved(self._books.state if self._books is not None else LedgerState(), now)

    def saves_again(self) -> None:
        """A save of the board worked: look at once for what was put off while none did."""
        self._backfill.saves_again()

    # Answers

    def answered(
        self, run: Run | None, *, asked: float, now: float, bounds: BucketBounds, observe: Observe
    ) -> tuple[Event, ...]:
        """Apply a successful answer; returns what was counted.

        `asked` is when its request was sent (monotonic seconds), `now` the answer's own clock (epoch seconds).
        """
        if self._asked is not None and asked < self._asked:
            return ()
        books = self._books or _Accounts(LedgerState(), RunCounters(created=now), bounds.empty(now))
        first = self._books is None
        outcome = apply_latest(None if first else books.state, run, now=now, answered=self._answered)
        self._take(books, outcome, observe)
        self._asked = self.since = asked
        self._expired = self._unsettled = False
        self._absences = self._absences + 1 if run is None else 0
        if outcome.believed:
            self._answered = now
        if run is not None:
            run = _with_known_number(run, outcome.events)
        if run is not None and outcome.believed:
            self._notes = self._noted(run, now)
            if run != self._latest:
                self._detail_failures = 0
                self._detail_due = -math.inf
            self._latest = run
        self._backfill.follow(outcome.state, asked)
        self._show(up=True)
        return outcome.events

    def mark_unchanged(self, asked: float, now: float) -> None:
        """An answer tells word for word what is known of a pipeline that is not busy; times as for `answered`."""
        if self._asked is None or asked >= self._asked:
            self._asked = self.since = asked
            self._answered = now

    @property
    def needs_attention(self) -> bool:
        """Whether there is more to it than what the last answer told: something goes on, is sought, failed, or is unsaved."""
        state, latest = self._state, self._latest
        if state is None or self._up is not True or self._expired or self._unsettled:
            return True
        if (
            state.open
            or state.missing_numbers
            or state.unconfirmed_id
            or state.leap
            or self._backfill.earliest < math.inf
        ):
            return True
        if latest is not None and not latest.status.final:
            return True
        # One that had a run, in this process or before, and has none now: it counts how often.
        return (bool(self._notes.run) and self._absences > 0) or self.unsaved

    def _take(self, books: _Accounts, outcome: LedgerUpdate, observe: Observe) -> None:
        """Enter what an answer taught."""
        # A misnumbered run changes nothing that is to be saved.
        counts = any(event.count is not EventKind.MISNUMBERED for event in outcome.events)
        if self._books is None or outcome.state is not books.state or counts:
            durations = books.durations
            for event in outcome.events:
                if event.count is EventKind.ENDED and event.run is not None:
                    durations = observe(durations, event.run)
            self._books = _Accounts(outcome.state, books.counters.add(outcome.events), durations)
        self._shown = outcome.state

    def unchanged(self, asked: float) -> None:
        """A successful answer told that nothing has happened; its request was sent at `asked` (monotonic seconds)."""
        if self._asked is None or asked < self._asked:
            return
        self._asked = self.since = asked
        self._expired = False
        self._show(up=True)

    @property
    def latest(self) -> Run | None:
        """The latest run as the last answer told it."""
        return self._latest

    @property
    def must_query(self) -> bool:
        """Whether something is known to go on, or was lost, so that it has to be asked about."""
        state = self._state
        return self._unsettled or (state is not None and bool(state.open or state.leap))

    def preview(self, latest: Run | None, runs: Sequence[Run], reach: Reach, *, now: float) -> frozenset[str]:
        """The ids of the runs that would be counted if an answer told the latest run, if one is given, and the list these."""
        state = self._state
        events: tuple[Event, ...] = ()
        if latest is not None:
            shown = apply_latest(state, latest, now=now, answered=self._answered)
            state, events = shown.state, shown.events
        same = latest is not None
        events += apply_history(state or LedgerState(), runs, reach, now=now, same_answer=same).events
        ended = (event.run for event in events if event.count is EventKind.ENDED)
        return frozenset(run.id for run in ended if run is not None)

    # Details

    def wanted_detail(self, now: float) -> Run | None:
        """The latest run, if it is new or has changed since its details came, and they are worth a try at `now`."""
        run = self._latest
        if run is None or run.without_id or self._absences >= ABSENCES or run == self._detailed:
            return None
        return run if self._detail_due <= now else None

    def detailed(self, of: Run, detail: Run | None) -> None:
        """Apply the details of a run as it was when they were asked for; None if they cannot be had.

        Then what was known of its jobs goes: they are not as they were before it changed.
        """
        self._detailed = of
        self._detail = detail if detail is not None and detail.id == of.id else None
        self._show(up=self._up)

    def detail_failed(self, now: float, interval: float) -> None:
        """Details could not be had this time (monotonic seconds): again later, and later each time."""
        self._detail_due = now + min(interval * 2**self._detail_failures, LONGEST)
        self._detail_failures = min(self._detail_failures + 1, 20)
        if self._detail_failures >= DETAIL_TRIES and self._detail is not None:
            # They are of the run as it was before it changed.
            self._detail = None
            self._show(up=self._up)

    # What the latest run does not tell

    def due(self, now: float) -> DueLookups:
        """What to ask for at `now` (monotonic seconds) of runs that the latest does not tell."""
        return self._backfill.due(now)

    @property
    def due_since(self) -> float:
        """Since when there is something more to ask for, in monotonic seconds; infinite if there is nothing."""
        return self._backfill.earliest

    @property
    def unresolved(self) -> int:
        """How many runs are still to be learnt."""
        return self._books.state.unresolved if self._books is not None else 0

    def search(self) -> Search:
        """What to read the run list for."""
        return search(self._state or LedgerState(), now=self._answered)

    def search_after(self, latest: Run, now: float) -> Search:
        """What to read the run list for once an answer, at `now` by its own clock, has told the latest run."""
        return search(apply_latest(self._state, latest, now=now, answered=self._answered).state, now=now)

    @property
    def _state(self) -> LedgerState | None:
        return self._books.state if self._books is not None else None

    def listed(
        self,
        runs: Sequence[Run],
        reach: Reach,
        *,
        clock: float,
        now: float,
        observe: Observe,
        same_answer: bool = False,
    ) -> tuple[Event, ...]:
        """Apply what the run list told at `now` (its own clock); `clock` is monotonic. Returns what was counted.

        `same_answer`: the latest run was taken from this list.
        """
        books = self._books
        if books is None:
            return ()
        outcome = apply_history(books.state, runs, reach, now=now, same_answer=same_answer)
        self._take(books, outcome, observe)
        # What it told is of the present numbering, whatever comes next.
        self._answered = max(self._answered, now)
        self._backfill.listed(frozenset(run.id for run in runs), outcome.state, clock)
        self._show(up=self._up)
        return outcome.events

    def not_listed(self, clock: float) -> tuple[Event, ...]:
        """The run list could not be read; returns what was counted."""
        books = self._books
        if books is None:
            return ()
        outcome = history_unavailable(books.state, now=self._answered)
        self._take(books, outcome, _observe_nothing)
        self._backfill.not_listed(outcome.state, clock)
        self._show(up=self._up)
        return outcome.events

    def looked_up(
        self, identity: str, run: Run | None, *, clock: float, now: float | None, observe: Observe
    ) -> tuple[Event, ...]:
        """Apply what was looked up of a hidden run; None if the provider no longer knows it.

        `now` is the answer's own clock, None where it told none.
        """
        books = self._books
        if books is None:
            return ()
        outcome = apply_lookup(books.state, identity, run, now=self._answered if now is None else now)
        self._take(books, outcome, observe)
        self._backfill.looked_up(identity, outcome.state, clock)
        self._show(up=self._up)
        return outcome.events

    def postpone(self, identity: str, clock: float) -> None:
        """A hidden run could not be looked up: again later."""
        if self._books is not None:
            self._backfill.looked_up(identity, self._books.state, clock)

    # Failures and age

    def failed(self) -> None:
        """A poll that covered the pipeline failed: what was known stays, until it is too old."""
        self._show(up=False)

    def expire(self, now: float, max_age: float) -> bool:
        """Withdraw what was last answered more than `max_age` seconds before `now` (monotonic); whether it was."""
        if self._shown is None or self._expired or now - self.since <= max_age:
            return False
        self._expired = True
        self._show(up=self._up)
        return True

    def active(self, now: float) -> bool:
        """Whether the latest run is under way at `now` (epoch seconds), and worth asking about more often."""
        run = self._latest
        if run is None or self._absences >= ABSENCES or self._expired:
            return False
        if run.status in {Status.RUNNING, Status.PENDING}:
            return True
        change = self._notes.change
        return run.status.held and change is not None and now - change < HELD_ACTIVE

    # What is shown

    @property
    def _up(self) -> bool | None:
        return self.view.up if self.view is not None else None

    def _noted(self, run: Run, now: float) -> _Notes:
        """What is remembered of the latest run."""
        before = self._notes
        change = max(now, run.start or now)
        if run.status.final and run.end is not None:
            change = run.end
        elif (before.run, before.status) == (run.id, run.status) and before.change is not None:
            change = before.change
        known = before.waiting if before.run == run.id else ()
        since = {(one.name, one.sequence, one.status): one.since for one in known}
        waiting = tuple(
            WaitingStage(
                stage.name,
                stage.sequence,
                stage.status,
                since.get((stage.name, stage.sequence, stage.status), max(now, stage.start or now)),
            )
            for stage in run.stages
            if stage.status.held
        )
        return _Notes(run.id, run.status, change, waiting)

    def _show(self, *, up: bool | None) -> None:
        kept, state, latest = self._kept, self._shown, self._latest
        view = View(
            pipeline=self.pipeline,
            up=up,
            counters=kept.counters if kept is not None else None,
            durations=kept.durations if kept is not None else None,
        )
        if state is not None and not self._expired:
            gone = bool(self._notes.run) and self._absences >= ABSENCES
            answered = self._asked is not None
            told = answered and not gone
            view = msgspec.structs.replace(
                view,
                has_run=latest is not None and not self._absences if answered else None,
                finished=None if gone else state.finished,
                series=None if gone else state.series,
                latest=_with_detail(latest, self._detail) if told else None,
                status_change=self._notes.change if told and latest is not None else None,
                stage_changes=self._stage_changes() if told and latest is not None else (),
                active_starts=state.starts if told else None,
            )
        if view != self.view:
            self.view = view

    def _stage_changes(self) -> tuple[tuple[str, int, float], ...]:
        return tuple([(one.name, one.sequence, one.since) for one in self._notes.waiting])


def _remembered(books: _Accounts | None, notes: _Notes, name: str, answered: float) -> SavedPipeline | None:
    if books is None:
        return None
    memory = Snapshot(
        name=name,
        state=books.state,
        counters=books.counters,
        durations=books.durations,
        run=notes.run,
        status=notes.status,
        change=notes.change,
        waiting=notes.waiting,
    )
    return SavedPipeline(memory, answered)


def _with_known_number(run: Run, events: Iterable[Event]) -> Run:
    """A run with its known number, where an answer reported another one."""
    for event in events:
        if event.count is EventKind.MISNUMBERED and event.run is run and event.number is not None:
            return msgspec.structs.replace(run, number=event.number)
    return run


def _observe_nothing(durations: DurationHistograms, _: Run) -> DurationHistograms:
    return durations


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


class ProjectTracker:
    """The pipelines of one project."""

    def __init__(
        self,
        pipelines: Iterable[Pipeline],
        metrics: Metrics,
        retired: RetiredPipelines,
        *,
        provider: str,
        project: str,
        interval: float,
        started: float,
        durations: DurationHistograms | None = None,
        lists_are_summaries: bool = False,
    ) -> None:
        """`interval` is the poll's, `started` monotonic; both in seconds. `durations` are what is remembered of it.

        `lists_are_summaries`: what goes on inside a run, and nothing else, is told by its details alone; answers bring them along.
        """
        self._entries: dict[str, PipelineTracker] = {}
        self._busy: dict[str, PipelineTracker] = {}
        """Those that are busy: most are not, most of the time."""
        self._retired = retired
        self._provider = provider
        self.project = project
        """Its name in the configuration."""
        self._interval = interval
        self._outlines = lists_are_summaries
        self.jobs = metrics.details != "none"
        """Whether the jobs of latest runs are shown."""
        self._bounds = bounds(metrics)
        self._own = self._observer(metrics, "pipeline", STAGE_NAMES_OF_PIPELINE)
        self._shared = self._observer(metrics, "project", STAGE_NAMES_OF_PROJECT)
        self._durations = durations
        """The histograms that the pipelines share; None before the first answer."""
        self._view = self._project_view()
        self._missed: list[MissedRuns] = []
        """What was missed since all was safe."""
        self._misnumbered: list[Misnumbered] = []
        """Runs with a wrong number that are not yet counted as such."""
        self._turn = 0
        self.held_back: frozenset[str] = frozenset()
        """The ids of pipelines that are not shown yet, since their name may still be learnt."""
        self.update(pipelines, started, 0.0)

    def _observer(self, metrics: Metrics, scope: HistogramScope, names: int) -> Observe:
        """What adds a run to the histograms that are kept in a scope."""

        def observe(durations: DurationHistograms, run: Run) -> DurationHistograms:
            if metrics.run_histogram == scope:
                durations = self._bounds.observe_run(durations, run)
            if metrics.stage_histogram == scope:
                durations = self._bounds.observe_stages(durations, run, names)
            return durations

        return observe

    def update(self, pipelines: Iterable[Pipeline], clock: float, now: float) -> None:
        """Watch these pipelines: new ones join, those that are missing leave, the others keep what is known of them.

        `clock` is monotonic, `now` epoch seconds. What is known of one that leaves is not forgotten at once.
        """
        before = self._entries
        self._entries = {}
        for pipeline in pipelines:
            entry = before.pop(pipeline.id, None)
            if entry is None:
                remembered = self._retired.recall(pipeline.id)
                entry = PipelineTracker(
                    pipeline,
                    interval=self._interval,
                    now=clock,
                    remembered=remembered,
                    lists_are_summaries=self._outlines,
                )
            elif entry.pipeline != pipeline:
                entry.renamed(pipeline)
            self._entries[pipeline.id] = entry
        for identity, entry in before.items():
            self._retired.leave(identity, entry.remembered(), now)
        self._busy = {identity: entry for identity, entry in self._entries.items() if entry.needs_attention}

    def _look_at(self, identity: str) -> PipelineTracker:
        """A pipeline's place, which is busy until it is looked at again by `_settle`."""
        entry = self._busy[identity] = self._entries[identity]
        return entry

    def _settle(self) -> None:
        """Sort out who is busy no more."""
        self._busy = {identity: entry for identity, entry in self._busy.items() if entry.needs_attention}

    # What is remembered

    def unsaved(self) -> dict[str, SavedPipeline]:
        """What there is to remember, by pipeline id, beyond what is safe."""
        found = {identity: entry.remembered() for identity, entry in self._busy.items() if entry.unsaved}
        return {identity: remembered for identity, remembered in found.items() if remembered is not None}

    def remembered(self, identity: str) -> SavedPipeline | None:
        """What is to be remembered of a pipeline; None before its first sight."""
        return self._entries[identity].remembered()

    def committed(self, identity: str) -> SavedPipeline | None:
        """What is safe of a pipeline; None if nothing is."""
        return self._entries[identity].committed()

    @property
    def committed_durations(self) -> DurationHistograms | None:
        """The shared histograms that are safe; None before the first answer."""
        return self._view.durations if self._view is not None else None

    def unsaved_durations(self) -> DurationHistograms | None:
        """The shared histograms, if they are others than those that are safe."""
        return self._durations if self._durations is not self.committed_durations else None

    def saved(self, ids: Collection[str]) -> list[MissedRuns]:
        """What there was to remember is safe: it is shown. Returns what was missed since the last time."""
        for identity in ids:
            self._look_at(identity).saved()
        if ids:
            for entry in self._busy.values():
                entry.saves_again()
        self._settle()
        if self.unsaved_durations() is not None:
            self._view = self._project_view()
        missed, self._missed = self._missed, []
        return missed

    def not_saved(self, ids: Iterable[str], clock: float) -> None:
        """It is not: nothing was accounted since what is safe. `clock` is monotonic."""
        for identity in ids:
            self._look_at(identity).not_saved(clock)
        self._durations = self.committed_durations
        self._missed = []

    # Polls

    @property
    def ids(self) -> tuple[str, ...]:
        """The ids of all pipelines."""
        return tuple(self._entries)

    def active(self, now: float) -> tuple[str, ...]:
        """The ids of pipelines whose run is under way at `now` (epoch seconds)."""
        return tuple(identity for identity, entry in self._busy.items() if entry.active(now))

    def answered(self, ids: Iterable[str], runs: Mapping[str, Run], *, asked: float, now: float) -> None:
        """Apply a successful answer about `ids`: the latest run of those that have one."""
        if self._durations is None:
            self._durations = self._bounds.empty(now)
        for identity in ids:
            run, entry = runs.get(identity), self._entries[identity]
            if run is entry.latest and identity not in self._busy:
                entry.mark_unchanged(asked, now)
                continue
            events = self._look_at(identity).answered(
                run, asked=asked, now=now, bounds=self._bounds, observe=self._own
            )
            self._share(identity, events)

    def unchanged(self, ids: Iterable[str], *, asked: float) -> None:
        """Apply a successful answer which told that nothing has happened in `ids`."""
        for identity in ids:
            self._look_at(identity).unchanged(asked)
        self._settle()

    def latest(self, identity: str) -> Run | None:
        """A pipeline's latest run as the last answer told it."""
        return self._entries[identity].latest

    @property
    def must_query(self) -> frozenset[str]:
        """The ids of pipelines that have to be asked about, whatever else is known of them."""
        return frozenset(identity for identity, entry in self._busy.items() if entry.must_query)

    def preview(
        self, identity: str, latest: Run | None, runs: Sequence[Run], reach: Reach, *, now: float
    ) -> frozenset[str]:
        """The ids of the runs that would be counted if an answer told the latest run, if one is given, and the list these."""
        return self._entries[identity].preview(latest, runs, reach, now=now)

    def _share(self, identity: str, events: Iterable[Event]) -> None:
        """Add what was counted of a pipeline to the histograms of the project."""
        for event in events:
            if event.count is EventKind.ENDED and event.run is not None and self._durations is not None:
                self._durations = self._shared(self._durations, event.run)
            elif event.count is EventKind.MISSED:
                self._missed.append(MissedRuns(self._entries[identity].pipeline, event.runs, event.why))
            elif event.count is EventKind.MISNUMBERED and event.run is not None:
                self._misnumbered.append(Misnumbered(self._entries[identity].pipeline, event.run))

    def take_misnumbered(self) -> list[Misnumbered]:
        """Return the runs that were reported with a wrong number since the last call."""
        found, self._misnumbered = self._misnumbered, []
        return found

    def failed(self, ids: Iterable[str]) -> None:
        """A poll that covered `ids` failed."""
        for identity in ids:
            if identity in self._entries:
                self._look_at(identity).failed()

    def expire(self, now: float, max_age: float) -> bool:
        """Withdraw what was last answered more than `max_age` seconds before `now` (monotonic); whether any was."""
        old = [identity for identity, entry in self._entries.items() if now - entry.since > max_age]
        return sum(self._look_at(identity).expire(now, max_age) for identity in old) > 0

    # Details

    def wanted_details(self, now: float) -> tuple[tuple[str, Run], ...]:
        """Runs whose details are to be asked for, by pipeline id: those that are new or have changed."""
        if not self.jobs or self._outlines:
            return ()
        # Whoever has waited longest comes first: those that change often would else starve the others.
        turns = sorted(self._entries.items(), key=lambda item: item[1].detail_turn)
        missing_numbers = ((identity, entry.wanted_detail(now)) for identity, entry in turns)
        return tuple((identity, run) for identity, run in missing_numbers if run is not None)

    def detailed(self, identity: str, of: Run, detail: Run | None) -> None:
        """Apply the details of a run of a pipeline; None if they cannot be had."""
        if identity in self._entries:
            self._take_turn(identity).detailed(of, detail)

    def _take_turn(self, identity: str) -> PipelineTracker:
        self._turn += 1
        entry = self._entries[identity]
        entry.detail_turn = self._turn
        return entry

    def detail_failed(self, identity: str, now: float) -> None:
        """The details of a pipeline's run could not be asked for this time."""
        if identity in self._entries:
            self._take_turn(identity).detail_failed(now, self._interval)

    # What latest runs do not tell

    def due(self, now: float) -> dict[str, DueLookups]:
        """What to ask for at `now` (monotonic seconds) of runs that are not the latest, by pipeline id.

        Whoever has waited longest comes first.
        """
        due = ((entry.due_since, identity) for identity, entry in self._busy.items())
        waiting = sorted(one for one in due if one[0] <= now)
        return {identity: self._entries[identity].due(now) for _, identity in waiting}

    @property
    def unresolved(self) -> int:
        """How many runs are still to be learnt."""
        return sum(entry.unresolved for entry in self._busy.values())

    def search(self, identity: str) -> Search:
        """What to read a pipeline's run list for."""
        return self._entries[identity].search()

    def search_after(self, identity: str, latest: Run, now: float) -> Search:
        """What to read it for once an answer, at `now` by its own clock, has told the latest run."""
        return self._entries[identity].search_after(latest, now)

    def listed(
        self,
        identity: str,
        runs: Sequence[Run],
        reach: Reach,
        *,
        clock: float,
        now: float,
        same_answer: bool = False,
    ) -> None:
        """Apply what a pipeline's run list told at `now` (its own clock); `clock` is monotonic.

        `same_answer`: the latest run was taken from this list.
        """
        events = self._look_at(identity).listed(
            runs, reach, clock=clock, now=now, observe=self._own, same_answer=same_answer
        )
        self._share(identity, events)

    def not_listed(self, identity: str, clock: float) -> None:
        """A pipeline's run list could not be read."""
        self._share(identity, self._look_at(identity).not_listed(clock))

    def looked_up(
        self, identity: str, run_id: str, run: Run | None, *, clock: float, now: float | None
    ) -> None:
        """Apply what was looked up of a hidden run; None if the provider no longer knows it, and no clock with it."""
        entry = self._look_at(identity)
        self._share(identity, entry.looked_up(run_id, run, clock=clock, now=now, observe=self._own))

    def postpone(self, identity: str, run_id: str, clock: float) -> None:
        """A hidden run could not be looked up: again later."""
        self._look_at(identity).postpone(run_id, clock)

    # What is shown

    def views(self) -> tuple[View, ...]:
        """What a page shows of each pipeline that a poll has covered, or of which something is remembered."""
        return tuple(
            entry.view
            for identity, entry in self._entries.items()
            if entry.view is not None and identity not in self.held_back
        )

    def project_view(self) -> ProjectView | None:
        """What a page shows of the project as a whole; None before its first answer."""
        return self._view

    def _project_view(self) -> ProjectView | None:
        if self._durations is None:
            return None
        return ProjectView(provider=self._provider, project=self.project, durations=self._durations)


def bounds(metrics: Metrics) -> BucketBounds:
    """The histograms' buckets."""
    return BucketBounds(metrics.run_duration_buckets, metrics.stage_duration_buckets)
