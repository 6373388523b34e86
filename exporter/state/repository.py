"""What is remembered across restarts: what boards know goes to the store after each poll, and comes back at the start.

The order is: save, then show. What could not be saved was not accounted: the page keeps the counters that are safe, and
the next poll tries again. A save that was not finished in time counts as one that failed, but may be written later:
so the next save that works restores each row of it to what is accounted.
"""

import asyncio
import logging
from collections.abc import Mapping

from exporter.core.clock import Clock
from exporter.core.shard import Shard
from exporter.providers.registry import AnyProject
from exporter.settings.settings import Config
from exporter.state.codec import (
    RetiredPipelines,
    SavedPipeline,
    UnreadableError,
    decode_durations,
    encode_durations,
    encode_pipeline,
    read,
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
from exporter.tracking.project import MissedRuns, ProjectTracker, bounds
from exporter.tracking.run_counters import DurationHistograms

FORGET = 7 * 86_400.0
"""Seconds for which a pipeline that left the configuration is remembered."""

_log = logging.getLogger("exporter.state.repository")


class StateRepository:
    """The memory of all boards. Without a store it lasts as long as the process."""

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
        """`stored` is what the store held when it was opened."""
        self._telemetry = telemetry
        self._clock = clock
        self._store = store
        self._bounds = bounds(config.metrics)
        self._retired_by_key: dict[Key, RetiredPipelines] = {}
        self._durations: dict[ProjectKey, DurationHistograms] = {}
        self._keys = {project.name: _key(project) for project in config.projects}
        self._forgotten: set[PipelineKey] = set()
        """What is to be deleted with the next save."""
        self._left: dict[PipelineKey, float] = {}
        """Which pipelines the store has as left, and since when."""
        self._uncertain = Changes()
        """What is accounted of the rows that an unfinished save may have replaced."""
        self._failing = False
        self._turn = asyncio.Lock()
        if store is not None:
            telemetry.state(up=True)
        if stored is not None:
            self._take(stored, shard)

    def _take(self, stored: StoredState, shard: Shard | None) -> None:
        now = self._clock.time()
        unreadable = 0
        for key, row in stored.pipelines.items():
            place = key.key
            owned = shard is None or shard.owns(place.provider, place.scope, key.pipeline)
            if not owned or (row.left is not None and row.left < now - FORGET):
                # What is not owned at once: if it comes back, its runs were another shard's meanwhile.
                self._forgotten.add(key)
                continue
            try:
                remembered = read(row.data, self._bounds, now)
            except UnreadableError:
                unreadable += 1
                self._forgotten.add(key)
                continue
            self._retired(place).away[key.pipeline] = (remembered, row.left)
            if row.left is not None:
                self._left[key] = row.left
        for project, data in stored.projects.items():
            try:
                self._durations[project] = decode_durations(data, self._bounds, now)
            except UnreadableError:
                unreadable += 1
        if unreadable:
            _log.error("%d records of the state cannot be read: their counters begin anew", unreadable)

    def _retired(self, key: Key) -> RetiredPipelines:
        return self._retired_by_key.setdefault(key, RetiredPipelines())

    def retired(self, project: AnyProject) -> RetiredPipelines:
        """What is remembered of the pipelines of a project that nobody watches."""
        return self._retired(_key(project))

    def durations(self, project: AnyProject) -> DurationHistograms | None:
        """What is remembered of a project's histograms."""
        return self._durations.get(ProjectKey(_key(project), project.name))

    def names(self, project: AnyProject) -> dict[str, str]:
        """The names of the pipelines that were watched in a project when it was last saved, by id."""
        away = self.retired(project).away.items()
        return {
            identity: remembered.memory.name
            for identity, (remembered, left) in away
            if left is None and remembered.memory.name
        }

    def begin(self) -> None:
        """All boards have taken what they watch: what nobody took is left from now on."""
        now = self._clock.time()
        for retired in self._retired_by_key.values():
            retired.away = {
                pipeline: (remembered, now if left is None else left)
                for pipeline, (remembered, left) in retired.away.items()
            }

    async def keep(self, tracker: ProjectTracker) -> list[MissedRuns]:
        """Save what a board knows in one transaction, then have it shown; returns what was missed."""
        # One after the other: what is forgotten, left or back is of all boards.
        async with self._turn:
            return await self._keep(tracker)

    async def _keep(self, tracker: ProjectTracker) -> list[MissedRuns]:
        self._forget()
        unsaved = tracker.unsaved()
        if self._store is not None and not await self._save(self._store, tracker, unsaved):
            tracker.not_saved(unsaved, self._clock.monotonic())
            return []
        return tracker.saved(unsaved)

    async def _save(
        self, store: SqliteStore, tracker: ProjectTracker, unsaved: Mapping[str, SavedPipeline]
    ) -> bool:
        """Save what is new of a board; returns whether all of it is safe."""
        own = self._changes(tracker, unsaved)
        changes = _merged(self._uncertain, own)
        if not changes:
            # Nothing is written, which does not show whether it could be.
            return True
        try:
            await store.save(changes)
        except SaveError as error:
            if isinstance(error, SaveTimeoutError):
                self._uncertain = _merged(self._uncertain, self._accounted(tracker, own))
            self._telemetry.state(up=False)
            if not self._failing:
                _log.error("%s; nothing is counted until it can be", error)
            self._failing = True
            return False
        if self._failing:
            _log.info("the state can be written again")
        self._failing = False
        self._telemetry.state(up=True)
        self._uncertain = Changes()
        self._forgotten -= set(changes.delete)
        for key, left in changes.left.items():
            if left is None:
                self._left.pop(key, None)
            else:
                self._left[key] = left
        return True

    def _changes(self, tracker: ProjectTracker, unsaved: Mapping[str, SavedPipeline]) -> Changes:
        key = self._keys[tracker.project]
        durations = tracker.unsaved_durations()
        return Changes(
            delete=frozenset(self._forgotten),
            pipelines={
                PipelineKey(key, pipeline): encode_pipeline(remembered, self._bounds)
                for pipeline, remembered in unsaved.items()
            },
            left=self._marks(),
            projects={ProjectKey(key, tracker.project): encode_durations(durations, self._bounds)}
            if durations is not None
            else {},
        )

    def _accounted(self, tracker: ProjectTracker, changes: Changes) -> Changes:
        """What is accounted of the rows that changes of this board replace; deletions are repeated by the next save."""
        committed = {key: tracker.committed(key.pipeline) for key in changes.pipelines}
        durations = tracker.committed_durations or self._bounds.empty(self._clock.time())
        return Changes(
            delete=frozenset(key for key, one in committed.items() if one is None),
            pipelines={
                key: encode_pipeline(one, self._bounds) for key, one in committed.items() if one is not None
            },
            left={key: self._left.get(key) for key in changes.left},
            projects={key: encode_durations(durations, self._bounds) for key in changes.projects},
        )

    def _marks(self) -> dict[PipelineKey, float | None]:
        """Pipelines that left, or are back, as the store does not have it yet."""
        marks: dict[PipelineKey, float | None] = {}
        for key, retired in self._retired_by_key.items():
            for pipeline, (_, left) in retired.away.items():
                if self._left.get(PipelineKey(key, pipeline)) != left:
                    marks[PipelineKey(key, pipeline)] = left
        for one in self._left:
            if one.pipeline not in self._retired(one.key).away:
                marks[one] = None
        return marks

    def _forget(self) -> None:
        """Forget what was left long ago."""
        now = self._clock.time()
        for key, retired in self._retired_by_key.items():
            for pipeline, (_, left) in list(retired.away.items()):
                if left is not None and left < now - FORGET:
                    del retired.away[pipeline]
                    self._left.pop(PipelineKey(key, pipeline), None)
                    if self._store is not None:
                        self._forgotten.add(PipelineKey(key, pipeline))

    async def close(self) -> None:
        """Wait for what is being written, and let go of the state."""
        if self._store is not None:
            await self._store.close()


def _merged(first: Changes, then: Changes) -> Changes:
    """Both as one; where they differ about a row, the second holds."""
    if not first:
        return then
    return Changes(
        delete=frozenset((*first.delete, *then.delete)),
        pipelines={**first.pipelines, **then.pipelines},
        left={**first.left, **then.left},
        projects={**first.projects, **then.projects},
    )


def _key(project: AnyProject) -> Key:
    return Key(project.provider, project.base_url, project.scope)
