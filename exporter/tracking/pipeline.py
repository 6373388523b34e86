"""Tracker of one pipeline: what is known of it, and how responses and failures change that."""

from collections.abc import Sequence

import msgspec

from exporter.core.model import Pipeline, Run, Status
from exporter.tracking.accounting import PipelineAccounting, ProjectAccounting
from exporter.tracking.attention import AttentionSet
from exporter.tracking.details import DetailTracker
from exporter.tracking.ledger import (
    KEPT,
    NOTHING,
    Coverage,
    Event,
    EventKind,
    LedgerState,
    LedgerUpdate,
    Reach,
    known_streak,
)
from exporter.tracking.lookups import LookupSchedule
from exporter.tracking.run_counters import DurationObserver
from exporter.tracking.saved import SavedPipeline, StatusSince
from exporter.tracking.status_since import status_since
from exporter.tracking.views import View

ABSENCES = 3
"""Number of successive responses without a run, for a pipeline that had one, after which its gauges are withdrawn."""

HELD_ACTIVE = 3600.0
"""Seconds for which a waiting, paused or suspended run is polled like one that is running."""


class PipelineTracker:
    """Keeps what is known of one pipeline, and the schedule of its look-ups.

    Every method that may make it need attention adds it to the attention set. The view is built when it is read.
    """

    def __init__(
        self,
        pipeline: Pipeline,
        attention: AttentionSet["PipelineTracker"],
        project: ProjectAccounting,
        observer: DurationObserver,
        *,
        interval: float,
        now: float,
        saved: SavedPipeline | None = None,
        lists_are_summaries: bool = False,
    ) -> None:
        """Track a pipeline, from its saved values if there are any.

        `interval` is the poll interval in seconds, `now` is in monotonic seconds. `lists_are_summaries` is as for
        `ProjectTracker`.
        """
        self.pipeline = pipeline
        self.since = now
        """When the request for the published response was sent, or tracking began, in monotonic seconds."""
        self.latest: Run | None = None
        """The latest run of the last believed response that had a run."""
        self.accounting = PipelineAccounting(observer, saved)
        self.details = DetailTracker(interval)
        self.finished_details = DetailTracker(interval)
        """Details of the latest finished run if it is not the latest run. They are queried for its failed stages only."""
        self.lookups = LookupSchedule(interval, list_first=lists_are_summaries)
        self._attention = attention
        self._project = project
        self._sent_at: float | None = None
        """When the request for the newest response was sent, in monotonic seconds."""
        self._shown = saved.answered if saved is not None else 0.0
        """Provider's time of the last believed response about the latest run, in Unix seconds."""
        self._up: bool | None = None
        self._expired = False
        self._absences = 0
        self._rolled_back = False
        """Whether a response could not be saved, so that another one is needed soon."""
        self._view: View | None = None
        self._view_outdated = saved is not None
        if saved is not None:
            self.lookups.follow(saved.accounts.state, now)

    def rename(self, pipeline: Pipeline) -> None:
        """Change the name, labels or URL."""
        self._attention.touch(self)
        self.pipeline = pipeline
        self._view_outdated = self._view_outdated or self._view is not None

    # Saving

    @property
    def _name(self) -> str:
        return self.pipeline.name if self.pipeline.name != self.pipeline.id else ""

    @property
    def unsaved(self) -> bool:
        """Whether the store lacks anything of the pipeline."""
        return self.accounting.unsaved(self._name)

    def to_save(self) -> SavedPipeline | None:
        """Return the values to save; None before first sight."""
        return self.accounting.to_save(self._name)

    def commit(self) -> None:
        """Record that the store has the values of `to_save`: counters publish them from now on."""
        self._attention.touch(self)
        self.accounting.commit(self._name)
        self._view_outdated = True

    def roll_back(self, now: float) -> None:
        """Record that nothing was saved, and reset the accounting to what the store has. `now` is in monotonic seconds."""
        self._attention.touch(self)
        self.accounting.roll_back()
        self._rolled_back = True
        self.lookups.rolled_back(self.accounting.state or LedgerState(), now)

    # Responses

    def answered(self, run: Run | None, *, sent_at: float, now: float) -> None:
        """Apply a successful response: the latest run, or None if the pipeline has no run.

        `sent_at` is when its request was sent (monotonic seconds), `now` the provider's time (Unix seconds).
        """
        self._attention.touch(self)
        if self._overtaken(sent_at):
            return
        update = self.accounting.apply_latest(run, now=now)
        self._sent_at = self.since = sent_at
        self._up = True
        self._expired = self._rolled_back = False
        self._absences = self._absences + 1 if run is None else 0
        if run is not None and update.believed:
            run = _with_known_number(run, update.events)
            before = self.accounting.status_since
            self.accounting.status_since = status_since(before, run, shown=self._shown, now=now)
            if run != self.latest:
                self.details.run_changed()
            self.latest = run
        if update.believed:
            self._shown = now
        self.lookups.follow(update.state, sent_at)
        self._apply(update)
        if run is not None:
            self.accounting.add_failed_stages(run)

    def mark_unchanged(self, sent_at: float, now: float) -> None:
        """Apply a response that equals the last one, to a pipeline that needs no attention; times as for `answered`."""
        if self._sent_at is None or sent_at >= self._sent_at:
            self._sent_at = self.since = sent_at
            self.accounting.answered = self._shown = now

    def inactive(self, sent_at: float) -> None:
        """Apply a successful response that proves that no run started or changed; `sent_at` is as for `answered`."""
        self._attention.touch(self)
        if self._sent_at is None or self._overtaken(sent_at):
            return
        self._sent_at = self.since = sent_at
        self._up = True
        self._expired = False
        self._view_outdated = True

    def _overtaken(self, sent_at: float) -> bool:
        return self._sent_at is not None and sent_at < self._sent_at

    def _apply(self, update: LedgerUpdate) -> None:
        self._project.add(self.pipeline, update.events)
        self._view_outdated = True

    # History and look-ups

    def listed(
        self,
        runs: Sequence[Run],
        reach: Reach,
        *,
        clock: float,
        now: float,
        same_answer: bool = False,
        coverage: Coverage = NOTHING,
        interrupted: bool = False,
    ) -> None:
        """Apply rows of the run list; `clock` is in monotonic seconds, `now` is the provider's time (Unix seconds).

        `same_answer`: the latest run was taken from this list, which was not read back for the streak. `interrupted`: the
        list has not been read back far enough yet.
        """
        self._attention.touch(self)
        update = self.accounting.apply_history(
            runs, reach, now=now, same_answer=same_answer, coverage=coverage
        )
        if update is not None:
            ids = frozenset(run.id for run in runs)
            self.lookups.listed(ids, update.state, clock, read_back=not same_answer and not interrupted)
            self._apply(update)
            for run in runs:
                self.accounting.add_failed_stages(run)

    def not_listed(self, clock: float) -> None:
        """Apply a failure to read the run list; `clock` is in monotonic seconds."""
        self._attention.touch(self)
        update = self.accounting.history_unavailable()
        if update is not None:
            self.lookups.not_listed(update.state, clock)
            self._apply(update)

    def looked_up(self, run_id: str, run: Run | None, *, clock: float, now: float | None) -> None:
        """Apply the look-up of a hidden run; `run` is None if the provider no longer has it.

        `clock` is in monotonic seconds. `now` is the provider's time (Unix seconds), None if it is unknown.
        """
        self._attention.touch(self)
        update = self.accounting.apply_lookup(run_id, run, now=now)
        if update is not None:
            self.lookups.looked_up(run_id, update.state, clock)
            self._apply(update)

    def postpone(self, run_id: str, clock: float) -> None:
        """Postpone the next look-up of a hidden run after a failure; `clock` is in monotonic seconds."""
        self._attention.touch(self)
        if self.accounting.state is not None:
            self.lookups.looked_up(run_id, self.accounting.state, clock)

    def saves_again(self) -> None:
        """Record that a save of the project worked: look-ups postponed after failed saves are due at once."""
        self._attention.touch(self)
        self.lookups.saves_again()

    # Details

    def wanted_detail(self, now: float) -> Run | None:
        """Return the latest run if its details should be queried at `now` (monotonic seconds)."""
        run = self.latest
        if run is None or self._absences >= ABSENCES or not self.details.wanted(run, now):
            return None
        return run

    def wanted_finished_detail(self, now: float, *, jobs: bool) -> Run | None:
        """Return the latest finished run if its details should be queried at `now` (monotonic seconds).

        That is the case if it failed, and no response has shown its failed stages or, if `jobs` are wanted, its failed jobs.
        If it is the latest run as well, the details of that are enough.
        """
        state, latest = self.accounting.published, self.latest
        run = state.finished if state is not None else None
        if run is None or run.status is not Status.FAILED or self._absences >= ABSENCES:
            return None
        if latest is None or latest.id == run.id:
            return None
        if any(stage.jobs for stage in run.stages) if jobs else run.stages:
            return None
        run = msgspec.structs.replace(run, stages=())
        return run if self.finished_details.wanted(run, now) else None

    def _details_of(self, run: Run) -> DetailTracker:
        is_latest = self.latest is not None and self.latest.id == run.id
        return self.details if is_latest else self.finished_details

    def detailed(self, of: Run, detail: Run | None) -> None:
        """Apply the details that were queried for the run `of`; None if they are unavailable."""
        self._attention.touch(self)
        details = self._details_of(of)
        details.apply(of, detail if details is self.details else None)
        if detail is not None and detail.id == of.id:
            self.accounting.add_failed_stages(detail)
        if details is self.details and self.latest is not None:
            known = self.accounting.status_since
            self.accounting.status_since = status_since(
                known, details.merged(self.latest), shown=self._shown, now=self._shown
            )
        self._view_outdated = self._view_outdated or self._view is not None

    def detail_failed(self, of: Run, now: float) -> None:
        """Record that the details of a run could not be queried; `now` is in monotonic seconds."""
        self._details_of(of).failed(now)
        self._view_outdated = self._view_outdated or self._view is not None

    # Failures and age

    def failed(self) -> None:
        """Record that a poll failed. The last values stay until they are too old."""
        self._attention.touch(self)
        self._up = False
        self._view_outdated = True

    def expire(self, now: float, max_age: float) -> bool:
        """Withdraw values older than `max_age` seconds at `now` (monotonic); return whether there were any."""
        self._attention.touch(self)
        if self.accounting.published is None or self._expired or now - self.since <= max_age:
            return False
        self._expired = True
        self._view_outdated = True
        return True

    # What to poll

    @property
    def needs_attention(self) -> bool:
        """Whether something is unsettled: a run is in progress or must be found, or a poll or a save failed."""
        state, latest = self.accounting.state, self.latest
        if state is None or self._up is not True or self._expired or self._rolled_back:
            return True
        if (
            state.open
            or state.missing_numbers
            or state.unconfirmed_id
            or state.leap
            or self.lookups.earliest < float("inf")
        ):
            return True
        if latest is not None and not latest.status.final:
            return True
        # Absences of a pipeline that had a run, in this process or before, are counted.
        return (bool(self.accounting.status_since.run) and self._absences > 0) or self.unsaved

    @property
    def must_query(self) -> bool:
        """Whether to query it even if no activity is reported: a run is in progress, or a response could not be saved."""
        state = self.accounting.state
        return self._rolled_back or (state is not None and bool(state.open or state.leap))

    @property
    def in_progress(self) -> bool:
        """Whether the latest run, as far as known, has not ended."""
        return self.latest is not None and not self.latest.status.final

    def active(self, now: float) -> bool:
        """Return whether to poll it more often at `now` (Unix seconds), since its latest run is in progress."""
        run = self.latest
        if run is None or self._absences >= ABSENCES or self._expired:
            return False
        if run.status in {Status.RUNNING, Status.PENDING}:
            return True
        change = self.accounting.status_since.change
        return run.status.held and change is not None and now - change < HELD_ACTIVE

    # What is shown

    @property
    def view(self) -> View | None:
        """The view to publish; None before a poll that covered the pipeline has ended, unless it has saved values."""
        if self._view_outdated:
            self._view_outdated = False
            view = self._build_view()
            if view != self._view:
                self._view = view
        return self._view

    def _build_view(self) -> View:
        committed, state = self.accounting.committed, self.accounting.published
        accounts = committed.accounts if committed is not None else None
        view = View(
            pipeline=self.pipeline,
            up=self._up,
            counters=accounts.counters if accounts is not None else None,
            durations=accounts.durations if accounts is not None else None,
        )
        if state is None or self._expired:
            return view
        status_since, answered = self.accounting.status_since, self._sent_at is not None
        gone = bool(status_since.run) and self._absences >= ABSENCES
        latest = self.latest if answered and not gone else None
        return msgspec.structs.replace(
            view,
            has_run=self.latest is not None and not self._absences if answered else None,
            finished=None if gone else state.finished,
            streak=None if gone else known_streak(state),
            latest=self.details.merged(latest) if latest is not None else None,
            status_change=status_since.change if latest is not None else None,
            stage_changes=_stage_changes(status_since) if latest is not None else (),
            active_starts=state.starts if answered and not gone else None,
            runs=state.ended[:KEPT],
            unresolved=state.unresolved,
        )


def _stage_changes(status_since: StatusSince) -> tuple[tuple[str, int, float], ...]:
    return tuple([(stage.name, stage.sequence, stage.since) for stage in status_since.waiting])


def _with_known_number(run: Run, events: Sequence[Event]) -> Run:
    """Return a run with its known number if it was reported with another one."""
    for event in events:
        if event.kind is EventKind.MISNUMBERED and event.run is run and event.number is not None:
            return msgspec.structs.replace(run, number=event.number)
    return run
