"""Tracker of a project: what is known of all its pipelines."""

from collections.abc import Collection, Iterable, Mapping
from typing import Protocol

from exporter.core.histograms import HistogramOptions
from exporter.core.model import Pipeline, Run
from exporter.tracking.accounting import ProjectAccounting
from exporter.tracking.attention import AttentionSet
from exporter.tracking.lookups import DueLookups
from exporter.tracking.pipeline import PipelineTracker
from exporter.tracking.run_counters import DurationHistograms, DurationObserver
from exporter.tracking.saved import RetiredPipelines, SavedPipeline
from exporter.tracking.views import Misnumbered, MissedRuns, ProjectView, View


class TrackingOptions(HistogramOptions, Protocol):
    """Options of what to track; the section `metrics` of the configuration provides them."""

    @property
    def details(self) -> str:
        """The finest level that is shown of the latest run: `none`, `jobs` or `steps`."""


class ProjectTracker:
    """The pipelines of one project; `tracker[pipeline_id]` is the tracker of one of them."""

    def __init__(
        self,
        pipelines: Iterable[Pipeline],
        options: TrackingOptions,
        retired: RetiredPipelines,
        *,
        provider: str,
        project: str,
        interval: float,
        started: float,
        durations: DurationHistograms | None = None,
        lists_are_summaries: bool = False,
    ) -> None:
        """Track these pipelines, from their saved values in `retired` if there are any.

        `interval` is the poll interval in seconds, `started` is in monotonic seconds. `durations` are the saved histograms
        that the pipelines share. `lists_are_summaries`: rows of run lists lack stages. The strategy then queries details
        together with the latest run, so `wanted_details` leaves them out.
        """
        self.project = project
        """The project's name in the configuration."""
        self.jobs = options.details != "none"
        """Whether the jobs of latest runs are shown."""
        self.accounting = ProjectAccounting(DurationObserver.of(options, "project"), durations)
        self.provider = provider
        self._interval = interval
        self._lists_are_summaries = lists_are_summaries
        self._retired = retired
        self._observer = DurationObserver.of(options, "pipeline")
        self._trackers: dict[str, PipelineTracker] = {}
        self._attention: AttentionSet[PipelineTracker] = AttentionSet()
        self._view: ProjectView | None = None
        self._detail_turn = 0
        self._held_back: frozenset[str] = frozenset()
        self.update(pipelines, started, 0.0)

    def __getitem__(self, pipeline_id: str) -> PipelineTracker:
        """Return the tracker of a pipeline, or raise KeyError."""
        return self._trackers[pipeline_id]

    @property
    def ids(self) -> tuple[str, ...]:
        """The ids of all pipelines."""
        return tuple(self._trackers)

    def update(self, pipelines: Iterable[Pipeline], clock: float, now: float) -> None:
        """Track these pipelines from now on. New ones join, missing ones retire, the others keep what is known of them.

        `clock` is in monotonic seconds, `now` in Unix seconds.
        """
        before, self._trackers = self._trackers, {}
        for pipeline in pipelines:
            tracker = before.pop(pipeline.id, None)
            if tracker is None:
                tracker = self._joined(pipeline, clock)
            elif tracker.pipeline != pipeline:
                tracker.rename(pipeline)
            self._trackers[pipeline.id] = tracker
        for pipeline_id, tracker in before.items():
            self._retired.retire(pipeline_id, tracker.to_save(), now)
        self._attention.reset(self._trackers.values())

    def _joined(self, pipeline: Pipeline, clock: float) -> PipelineTracker:
        return PipelineTracker(
            pipeline,
            self._attention,
            self.accounting,
            self._observer,
            interval=self._interval,
            now=clock,
            saved=self._retired.restore(pipeline.id),
            lists_are_summaries=self._lists_are_summaries,
        )

    # Saving

    def unsaved(self) -> dict[str, SavedPipeline]:
        """Return the values to save, by pipeline id."""
        unsaved = {tracker.pipeline.id: tracker.to_save() for tracker in self._attention if tracker.unsaved}
        return {pipeline_id: saved for pipeline_id, saved in unsaved.items() if saved is not None}

    def commit(self, ids: Collection[str]) -> list[MissedRuns]:
        """Record that the store has the values of these pipelines. Return the runs missed since the last save."""
        for pipeline_id in ids:
            self._trackers[pipeline_id].commit()
        if ids:
            for tracker in self._attention:
                tracker.saves_again()
        self._attention.prune()
        return self.accounting.commit()

    def roll_back(self, ids: Iterable[str], clock: float) -> None:
        """Record that nothing was saved, and discard what was accounted since the last save.

        `clock` is in monotonic seconds.
        """
        for pipeline_id in ids:
            self._trackers[pipeline_id].roll_back(clock)
        self.accounting.roll_back()

    # Polls

    def active(self, now: float) -> tuple[str, ...]:
        """Return the ids of pipelines to poll more often at `now` (Unix seconds)."""
        return tuple(tracker.pipeline.id for tracker in self._attention if tracker.active(now))

    @property
    def must_query(self) -> frozenset[str]:
        """The ids of pipelines to query even if the provider reports no activity."""
        return frozenset(tracker.pipeline.id for tracker in self._attention if tracker.must_query)

    def answered(self, ids: Iterable[str], runs: Mapping[str, Run], *, sent_at: float, now: float) -> None:
        """Apply a successful response about `ids`; `runs` has the latest runs of those that have one, by pipeline id.

        `sent_at` is when its request was sent (monotonic seconds), `now` the provider's time (Unix seconds).
        """
        self.accounting.begin(now)
        attention = self._attention.members
        for pipeline_id in ids:
            run, tracker = runs.get(pipeline_id), self._trackers[pipeline_id]
            if run is tracker.latest and pipeline_id not in attention:
                tracker.mark_unchanged(sent_at, now)
            else:
                tracker.answered(run, sent_at=sent_at, now=now)

    def inactive(self, ids: Iterable[str], *, sent_at: float) -> None:
        """Apply a successful response that proves that no run of `ids` started or changed; `sent_at` as for `answered`."""
        for pipeline_id in ids:
            self._trackers[pipeline_id].inactive(sent_at)
        self._attention.prune()

    def failed(self, ids: Iterable[str]) -> None:
        """Record that a poll of `ids` failed. Retired pipelines are ignored."""
        for pipeline_id in ids:
            if pipeline_id in self._trackers:
                self._trackers[pipeline_id].failed()

    def expire(self, now: float, max_age: float) -> bool:
        """Withdraw values older than `max_age` seconds at `now` (monotonic); return whether there were any."""
        old = [tracker for tracker in self._trackers.values() if now - tracker.since > max_age]
        return sum(tracker.expire(now, max_age) for tracker in old) > 0

    def take_misnumbered(self) -> list[Misnumbered]:
        """Return the runs that were reported with a wrong number since the last call."""
        return self.accounting.take_misnumbered()

    # Follow-ups

    def wanted_details(self, now: float) -> tuple[tuple[str, Run], ...]:
        """Return pairs of pipeline id and run whose details should be queried at `now` (monotonic seconds).

        Failed runs whose failed stages are unknown come first. Of the others, pipelines queried longest ago come first, so
        that those that change often do not starve the others.
        """
        finished = tuple(
            (tracker.pipeline.id, run)
            for tracker in self._attention
            if (run := tracker.wanted_finished_detail(now, jobs=self.jobs)) is not None
        )
        if not self.jobs or self._lists_are_summaries:
            return finished
        turns = sorted(self._trackers.items(), key=lambda item: item[1].details.turn)
        wanted = ((pipeline_id, tracker.wanted_detail(now)) for pipeline_id, tracker in turns)
        return (*finished, *((pipeline_id, run) for pipeline_id, run in wanted if run is not None))

    def detailed(self, pipeline_id: str, of: Run, detail: Run | None) -> None:
        """Apply the details that were queried for the run `of`; None if they are unavailable. Ignore a retired pipeline."""
        if pipeline_id in self._trackers:
            self._take_turn(pipeline_id).detailed(of, detail)

    def detail_failed(self, pipeline_id: str, of: Run, now: float) -> None:
        """Record that the details of a run could not be queried at `now` (monotonic seconds). Ignore a retired pipeline."""
        if pipeline_id in self._trackers:
            self._take_turn(pipeline_id).detail_failed(of, now)

    def _take_turn(self, pipeline_id: str) -> PipelineTracker:
        self._detail_turn += 1
        tracker = self._trackers[pipeline_id]
        tracker.details.turn = self._detail_turn
        return tracker

    def due(self, now: float) -> dict[str, DueLookups]:
        """Return the queries due at `now` (monotonic seconds), except for latest runs, by pipeline id, longest due first."""
        due = ((tracker.lookups.earliest, tracker.pipeline.id) for tracker in self._attention)
        waiting = sorted(item for item in due if item[0] <= now)
        return {pipeline_id: self._trackers[pipeline_id].lookups.due(now) for _, pipeline_id in waiting}

    @property
    def unresolved(self) -> int:
        """Number of runs that still have to be found or looked up."""
        return sum(tracker.accounting.unresolved for tracker in self._attention)

    # What is shown

    def hold_back(self, ids: frozenset[str]) -> bool:
        """Leave these pipelines, which wait for their names, out of `views`, and no others. Return whether they changed."""
        changed = ids != self._held_back
        self._held_back = ids
        return changed

    def views(self) -> tuple[View, ...]:
        """Return the views to publish: of each pipeline that a poll has covered or that has saved values."""
        held_back = self._held_back
        return tuple(
            view
            for pipeline_id, tracker in self._trackers.items()
            if (view := tracker.view) is not None and pipeline_id not in held_back
        )

    def project_view(self) -> ProjectView | None:
        """Return the view of the project as a whole to publish; None before its first save."""
        durations = self.accounting.committed
        if durations is None:
            return None
        if self._view is None or self._view.durations is not durations:
            self._view = ProjectView(provider=self.provider, project=self.project, durations=durations)
        return self._view
