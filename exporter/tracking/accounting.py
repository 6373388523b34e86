"""Accounting of a pipeline and of a project: working, committed and published values.

Values are saved before they are published: a counter that was published but not saved would go back after a restart.
"""

from collections.abc import Sequence

import msgspec

from exporter.core.model import Pipeline, Run
from exporter.tracking.ledger import (
    Coverage,
    Event,
    EventKind,
    LedgerState,
    LedgerUpdate,
    Reach,
    Search,
    apply_history,
    apply_latest,
    apply_lookup,
    history_unavailable,
    needs_read_back,
    search,
    waiting_recovery,
)
from exporter.tracking.run_counters import DurationHistograms, DurationObserver, RunCounters
from exporter.tracking.saved import Accounts, SavedPipeline, StatusSince
from exporter.tracking.views import Misnumbered, MissedRuns


class PipelineAccounting:
    """Accounting of one pipeline.

    `working` changes with every response. `committed` is what the store has; counters and histograms are published from it.
    A failed save resets `working` to `committed`, so that the next response is accounted again. It resets neither
    `published`, which gauges are published from, nor `status_since`: the last response is true, whether saved or not.
    """

    def __init__(self, observer: DurationObserver, saved: SavedPipeline | None = None) -> None:
        self._observer = observer
        self.committed = saved
        self.working: Accounts | None = None
        """None before first sight: the first response about the pipeline."""
        self.published: LedgerState | None = None
        self.status_since = StatusSince()
        self.answered = 0.0
        """Provider's time of the last believed response, in Unix seconds."""
        if saved is not None:
            self.working = saved.accounts
            self.published = saved.accounts.state
            self.status_since = saved.status_since
            self.answered = saved.answered

    # Saving

    def unsaved(self, name: str) -> bool:
        """Return whether the store lacks anything; `name` is the pipeline's name, empty while it is unknown."""
        committed = self.committed
        if self.working is None:
            return False
        return committed is None or (
            self.working is not committed.accounts
            or self.status_since != committed.status_since
            or name != committed.name
        )

    def to_save(self, name: str) -> SavedPipeline | None:
        """Return the values to save; None before first sight."""
        if self.working is None:
            return None
        return SavedPipeline(self.working, self.status_since, name, self.answered)

    def commit(self, name: str) -> None:
        """Record that the store has the values of `to_save`."""
        self.committed = self.to_save(name)

    def roll_back(self) -> None:
        """Reset the working values to those that the store has."""
        committed = self.committed
        self.working = committed.accounts if committed is not None else None
        self.answered = committed.answered if committed is not None else 0.0

    # Responses

    @property
    def state(self) -> LedgerState | None:
        """The working state of the ledger; None before first sight."""
        return self.working.state if self.working is not None else None

    @property
    def unresolved(self) -> int:
        """Number of runs that still have to be found or looked up."""
        return self.working.state.unresolved if self.working is not None else 0

    def apply_latest(self, run: Run | None, *, now: float) -> LedgerUpdate:
        """Apply a response about the latest run (None: no run); `now` is the provider's time in Unix seconds."""
        update = apply_latest(self.state, run, now=now, answered=self.answered)
        if self.working is None:
            self.working = Accounts(update.state, RunCounters(created=now), self._observer.bounds.empty(now))
        self._account(update)
        if update.believed:
            self.answered = now
        return update

    def apply_history(
        self, runs: Sequence[Run], reach: Reach, *, now: float, same_answer: bool, coverage: Coverage
    ) -> LedgerUpdate | None:
        """Apply rows of the run list; return None before first sight."""
        if self.working is None:
            return None
        update = apply_history(
            self.working.state, runs, reach, now=now, same_answer=same_answer, coverage=coverage
        )
        self._account(update)
        # These rows have the current numbering, even if later responses are not believed.
        self.answered = max(self.answered, now)
        return update

    def apply_lookup(self, run_id: str, run: Run | None, *, now: float | None) -> LedgerUpdate | None:
        """Apply the look-up of a hidden run; return None before first sight.

        `now` is the provider's time in Unix seconds; None stands for that of the last believed response.
        """
        if self.working is None:
            return None
        now = self.answered if now is None else now
        update = apply_lookup(self.working.state, run_id, run, now=now)
        self._account(update)
        return update

    def history_unavailable(self) -> LedgerUpdate | None:
        """Apply a failure to read the run list; return None before first sight."""
        if self.working is None:
            return None
        update = history_unavailable(self.working.state, now=self.answered)
        self._account(update)
        return update

    def add_failed_stages(self, run: Run) -> None:
        """Add the failed stages and jobs of `run` to the latest finished run, if they are the same run."""
        if self.working is not None:
            state = self.working.state.with_failed_stages(run)
            if state is not self.working.state:
                self.working = msgspec.structs.replace(self.working, state=state)
        if self.published is not None:
            self.published = self.published.with_failed_stages(run)

    def _account(self, update: LedgerUpdate) -> None:
        working = self.working
        # A misnumbered run changes nothing that has to be saved.
        counts = any(event.kind is not EventKind.MISNUMBERED for event in update.events)
        if working is not None and (update.state is not working.state or counts):
            self.working = Accounts(
                update.state,
                working.counters.add(update.events),
                self._observer.observe(working.durations, update.events),
            )
        self.published = update.state

    # What a response would change

    def preview(self, latest: Run | None, runs: Sequence[Run], reach: Reach, *, now: float) -> frozenset[str]:
        """Return the ids of the runs that would be counted if a response had this latest run and these rows."""
        state = self.state
        events: tuple[Event, ...] = ()
        if latest is not None:
            update = apply_latest(state, latest, now=now, answered=self.answered)
            state, events = update.state, update.events
        same_answer = latest is not None
        events += apply_history(state or LedgerState(), runs, reach, now=now, same_answer=same_answer).events
        ended = (event.run for event in events if event.kind is EventKind.ENDED)
        return frozenset(run.id for run in ended if run is not None)

    @property
    def needs_read_back(self) -> bool:
        """Whether the run list has to be read back to determine the streak of failures."""
        return self.working is not None and needs_read_back(self.working.state)

    @property
    def failures(self) -> int:
        """Known number of failures in a row."""
        return self.working.state.streak.failures if self.working is not None else 0

    @property
    def read_back_from(self) -> int | None:
        """Run number below which to search for the last success; None to search all runs."""
        return waiting_recovery(self.working.state) if self.working is not None else None

    @property
    def known_ids(self) -> frozenset[str]:
        """Ids of the runs in the working state: open runs, and the ended runs that are kept."""
        state = self.state
        if state is None:
            return frozenset()
        return frozenset([run.id for run in state.ended] + [run.id for run in state.open])

    def reads_back(self, runs: Sequence[Run], coverage: Coverage, *, now: float) -> bool:
        """Return whether these rows of the run list are enough to determine the streak."""
        state = self.state or LedgerState()
        return apply_history(state, runs, Reach.PARTIAL, now=now, coverage=coverage).read_back

    def search(self) -> Search:
        """Return what to search the run list for."""
        return search(self.state or LedgerState(), now=self.answered)

    def search_after(self, latest: Run, now: float) -> Search:
        """Return what to search the run list for after a response with this latest run at `now`, the provider's time."""
        return search(apply_latest(self.state, latest, now=now, answered=self.answered).state, now=now)


class ProjectAccounting:
    """Histograms that a project's pipelines share, and events of its pipelines to report."""

    def __init__(self, observer: DurationObserver, saved: DurationHistograms | None = None) -> None:
        self._observer = observer
        self.committed = saved
        """What the store has; None before the first save."""
        self._working = saved
        self._missed: list[MissedRuns] = []
        """Runs missed since the last save."""
        self._misnumbered: list[Misnumbered] = []

    def begin(self, now: float) -> None:
        """Create the histograms at the project's first response; `now` is the provider's time in Unix seconds."""
        if self._working is None:
            self._working = self._observer.bounds.empty(now)

    def add(self, pipeline: Pipeline, events: Sequence[Event]) -> None:
        """Observe the ended runs among a pipeline's events, and collect the events to report."""
        for event in events:
            if event.kind is EventKind.MISSED:
                self._missed.append(MissedRuns(pipeline, event.runs, event.why))
            elif event.kind is EventKind.MISNUMBERED and event.run is not None:
                self._misnumbered.append(Misnumbered(pipeline, event.run))
        if self._working is not None:
            self._working = self._observer.observe(self._working, events)

    @property
    def unsaved(self) -> DurationHistograms | None:
        """The histograms if they differ from the store's, otherwise None."""
        return self._working if self._working is not self.committed else None

    def commit(self) -> list[MissedRuns]:
        """Record that the store has the histograms; return the runs missed since the last save."""
        self.committed = self._working
        missed, self._missed = self._missed, []
        return missed

    def roll_back(self) -> None:
        """Reset the histograms to those of the store, and forget the runs missed since the last save."""
        self._working = self.committed
        self._missed = []

    def take_misnumbered(self) -> list[Misnumbered]:
        """Return the runs that were reported with a wrong number since the last call."""
        found, self._misnumbered = self._misnumbered, []
        return found
