"""Save what trackers know after each poll, and restore it when the exporter starts.

Values are saved before they are published. If a save fails, /metrics keeps the committed counters, and the next poll tries
again. A save that does not finish in time counts as failed, but may still be written later. The next successful save
therefore writes the committed values of its rows again.
"""

import asyncio
import logging
from collections.abc import Iterable, Mapping

from exporter.core.clock import Clock
from exporter.core.shard import Shard
from exporter.providers.registry import AnyProject
from exporter.settings.settings import Config
from exporter.state.codec import (
    UnreadableError,
    decode_durations,
    decode_pipeline,
    encode_durations,
    encode_pipeline,
)
from exporter.state.sqlite import (
    Changes,
    Key,
    PipelineKey,
    ProjectKey,
    SaveError,
    SaveTimeoutError,
    SqliteStore,
    StoredState,
)
from exporter.telemetry.recorder import Telemetry
from exporter.tracking.project import ProjectTracker
from exporter.tracking.run_counters import BucketBounds, DurationHistograms
from exporter.tracking.saved import RetiredPipelines, SavedPipeline
from exporter.tracking.views import MissedRuns

FORGET = 7 * 86_400.0
"""Seconds for which the saved values of a retired pipeline are kept: one that is no longer tracked."""

_log = logging.getLogger("exporter.state.repository")


class StateRepository:
    """The saved state of all projects. Without a store, retired pipelines are kept in memory only."""

    def __init__(
        self,
        config: Config,
        telemetry: Telemetry,
        clock: Clock,
        *,
        store: SqliteStore | None = None,
        stored: StoredState | None = None,
        shard: Shard | None = None,
    ) -> None:
        """Restore `stored`, the content of the store when it was opened; a shard restores only its own pipelines."""
        self._telemetry = telemetry
        self._clock = clock
        self._store = store
        self._bounds = BucketBounds.of(config.metrics)
        self._retired_by_key: dict[Key, RetiredPipelines] = {}
        self._durations: dict[ProjectKey, DurationHistograms] = {}
        self._keys = _keys(config)
        self._forgotten: set[PipelineKey] = set()
        """Pipelines to delete with the next save."""
        self._stored_left: dict[PipelineKey, float] = {}
        """Times of retirement that the store has, in Unix seconds."""
        self._uncertain = Changes()
        """Committed values of the rows that an unfinished save may have replaced."""
        self._failing = False
        self._lock = asyncio.Lock()
        if store is not None:
            telemetry.set_state_up(up=True)
        if stored is not None:
            self._restore(stored, shard)

    def _restore(self, stored: StoredState, shard: Shard | None) -> None:
        now = self._clock.time()
        unreadable = 0
        for key, row in stored.pipelines.items():
            project = key.key
            owned = shard is None or shard.owns(project.provider, project.scope, key.pipeline)
            if not owned or (row.left is not None and row.left < now - FORGET):
                # A pipeline that another shard owned meanwhile must start from first sight when it comes back.
                self._forgotten.add(key)
                continue
            try:
                saved = decode_pipeline(row.data, self._bounds, now)
            except UnreadableError:
                unreadable += 1
                self._forgotten.add(key)
                continue
            self._retired(project).retired[key.pipeline] = (saved, row.left)
            if row.left is not None:
                self._stored_left[key] = row.left
        for project_key, data in stored.projects.items():
            try:
                self._durations[project_key] = decode_durations(data, self._bounds, now)
            except UnreadableError:
                unreadable += 1
        if unreadable:
            _log.error(
                "state records unreadable, their counters start at zero",
                extra={"id": "state-records-unreadable", "records": unreadable},
            )

    def _retired(self, key: Key) -> RetiredPipelines:
        return self._retired_by_key.setdefault(key, RetiredPipelines())

    def retired(self, project: AnyProject) -> RetiredPipelines:
        """Return the saved values of a project's pipelines that are not tracked."""
        return self._retired(_key(project))

    def durations(self, project: AnyProject) -> DurationHistograms | None:
        """Return the saved histograms of a project; None if it has no saved histograms."""
        return self._durations.get(ProjectKey(_key(project), project.name))

    def names(self, project: AnyProject) -> dict[str, str]:
        """Return the names, by id, of a project's pipelines that were tracked when the previous process ended."""
        return {
            pipeline_id: saved.name
            for pipeline_id, (saved, left) in self.retired(project).retired.items()
            if left is None and saved.name
        }

    def found_projects(self, entry: AnyProject) -> dict[str, str]:
        """Return the projects (names by id) of an entry that finds projects, as of when the previous process ended."""
        prefix = f"{entry.name}/"
        return {
            key.scope: project.removeprefix(prefix).removesuffix(f" ({key.scope})")
            for key, project in self._durations
            if (key.provider, key.endpoint) == (entry.provider, entry.base_url)
            and project.startswith(prefix)
            and any(left is None for _, left in self._retired(key).retired.values())
        }

    def begin(self) -> None:
        """Retire the saved pipelines that no tracker has restored. Call this once all trackers have their pipelines."""
        now = self._clock.time()
        for retired in self._retired_by_key.values():
            retired.retired = {
                pipeline_id: (saved, now if left is None else left)
                for pipeline_id, (saved, left) in retired.retired.items()
            }

    def replace(self, config: Config, retired: Iterable[ProjectTracker]) -> None:
        """Continue with another configuration.

        `retired` are trackers that are replaced: their last save has ended, and they have no pipelines any more.
        """
        for tracker in retired:
            if tracker.accounting.committed is not None:
                key = ProjectKey(self._keys[tracker.project], tracker.project)
                self._durations[key] = tracker.accounting.committed
        self._keys = _keys(config)
        before, self._bounds = self._bounds, BucketBounds.of(config.metrics)
        if self._bounds != before:
            self._convert(before)

    def _convert(self, before: BucketBounds) -> None:
        """Replace histograms whose bounds have changed by empty ones, as a restart does. `before` are the old bounds."""
        now = self._clock.time()
        for retired in self._retired_by_key.values():
            retired.retired = {
                pipeline_id: (decode_pipeline(encode_pipeline(saved, before), self._bounds, now), left)
                for pipeline_id, (saved, left) in retired.retired.items()
            }
        self._durations = {
            key: decode_durations(encode_durations(durations, before), self._bounds, now)
            for key, durations in self._durations.items()
        }

    async def save(self, tracker: ProjectTracker) -> list[MissedRuns]:
        """Save what a tracker knows in one transaction, and commit it in the tracker, which then publishes it.

        Return the runs missed since the last save. If saving fails, roll the tracker back and return an empty list.
        """
        # One tracker at a time: deletions and times of retirement concern all of them.
        async with self._lock:
            self._forget_old()
            unsaved = tracker.unsaved()
            if self._store is not None and not await self._write(self._store, tracker, unsaved):
                tracker.roll_back(unsaved, self._clock.monotonic())
                return []
            return tracker.commit(unsaved)

    async def _write(
        self, store: SqliteStore, tracker: ProjectTracker, unsaved: Mapping[str, SavedPipeline]
    ) -> bool:
        """Write what a tracker has to save; return whether all of it is on the disk."""
        own = self._changes(tracker, unsaved)
        changes = _merged(self._uncertain, own)
        if not changes:
            # Nothing was tried, so a store that could not be written is still reported as such.
            return True
        try:
            await store.save(changes)
        except SaveError as error:
            if isinstance(error, SaveTimeoutError):
                self._uncertain = _merged(self._uncertain, self._committed(tracker, own))
            self._telemetry.set_state_up(up=False)
            if not self._failing:
                _log.error(
                    "cannot save the state, counting paused",
                    extra={"id": "state-not-saved", "error": str(error)},
                )
            self._failing = True
            return False
        if self._failing:
            _log.info("state is writable again, counting runs again")
        self._failing = False
        self._telemetry.set_state_up(up=True)
        self._uncertain = Changes()
        self._forgotten -= set(changes.delete)
        for key, left in changes.left.items():
            if left is None:
                self._stored_left.pop(key, None)
            else:
                self._stored_left[key] = left
        return True

    def _changes(self, tracker: ProjectTracker, unsaved: Mapping[str, SavedPipeline]) -> Changes:
        key = self._keys[tracker.project]
        durations = tracker.accounting.unsaved
        return Changes(
            delete=frozenset(self._forgotten),
            pipelines={
                PipelineKey(key, pipeline_id): encode_pipeline(saved, self._bounds)
                for pipeline_id, saved in unsaved.items()
            },
            left=self._changed_left(),
            projects={ProjectKey(key, tracker.project): encode_durations(durations, self._bounds)}
            if durations is not None
            else {},
        )

    def _committed(self, tracker: ProjectTracker, changes: Changes) -> Changes:
        """Return the committed values of the rows that a tracker's changes replace.

        Deletions are left out, because the next save repeats them.
        """
        committed = {key: tracker[key.pipeline].accounting.committed for key in changes.pipelines}
        durations = tracker.accounting.committed or self._bounds.empty(self._clock.time())
        return Changes(
            delete=frozenset(key for key, saved in committed.items() if saved is None),
            pipelines={
                key: encode_pipeline(saved, self._bounds)
                for key, saved in committed.items()
                if saved is not None
            },
            left={key: self._stored_left.get(key) for key in changes.left},
            projects={key: encode_durations(durations, self._bounds) for key in changes.projects},
        )

    def _changed_left(self) -> dict[PipelineKey, float | None]:
        """Return the times of retirement that the store does not have; None for pipelines that are tracked again."""
        changed: dict[PipelineKey, float | None] = {}
        for key, retired in self._retired_by_key.items():
            for pipeline_id, (_, left) in retired.retired.items():
                if self._stored_left.get(PipelineKey(key, pipeline_id)) != left:
                    changed[PipelineKey(key, pipeline_id)] = left
        for stored_key in self._stored_left:
            if stored_key.pipeline not in self._retired(stored_key.key).retired:
                changed[stored_key] = None
        return changed

    def _forget_old(self) -> None:
        """Forget pipelines that were retired more than `FORGET` seconds ago."""
        now = self._clock.time()
        for key, retired in self._retired_by_key.items():
            for pipeline_id, (_, left) in list(retired.retired.items()):
                if left is not None and left < now - FORGET:
                    del retired.retired[pipeline_id]
                    self._stored_left.pop(PipelineKey(key, pipeline_id), None)
                    if self._store is not None:
                        self._forgotten.add(PipelineKey(key, pipeline_id))

    async def close(self) -> None:
        """Wait for a running save, and close the store."""
        if self._store is not None:
            await self._store.close()


def _merged(first: Changes, second: Changes) -> Changes:
    """Merge two sets of changes; for a row that both change, the second applies."""
    if not first:
        return second
    return Changes(
        delete=frozenset((*first.delete, *second.delete)),
        pipelines={**first.pipelines, **second.pipelines},
        left={**first.left, **second.left},
        projects={**first.projects, **second.projects},
    )


def _keys(config: Config) -> dict[str, Key]:
    return {project.name: _key(project) for project in config.projects}


def _key(project: AnyProject) -> Key:
    return Key(project.provider, project.base_url, project.scope)
