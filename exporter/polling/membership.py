"""Which pipelines a project has: those listed in the configuration, those discovered, and what each is called.

A listing is evidence, not truth: one that suddenly shrinks is more often a lost permission than a mass deletion. So a
pipeline leaves after two complete listings without it, and a listing that is empty or less than half of the one before
is not believed until three in a row agree.

Where several exporters share a configuration each judges the whole listing, and every claim to a pipeline, as if it
were alone; only then it leaves what is another's to that one.
"""

import math
from collections.abc import Collection, Hashable, Iterable, Iterator, Mapping

from exporter.config.project_section import PipelineEntry
from exporter.core.model import Pipeline, label, name_label
from exporter.core.shard import Shard
from exporter.providers.registry import AnyProject


def membership_hint(project: AnyProject) -> str:
    """What is most likely wrong where the provider lists no pipelines."""
    return (
        "the provider lists no pipelines: most likely the user is no member of this project "
        f"(or {project.scope_key} is another's)"
    )


ABSENCES = 2
AGREEING = 3


class OwnershipRegistry:
    """Who watches a pipeline, where several projects of the configuration find the same: who lists it, or the earliest."""

    def __init__(self) -> None:
        self._owners: dict[Hashable, tuple[bool, int]] = {}

    def take(self, pipeline: Hashable, project: int, *, discovered: bool) -> bool:
        """Claim a pipeline for a project, by its place in the configuration; says whether it is its own."""
        claim = (discovered, project)
        owner = min(claim, self._owners.get(pipeline, claim))
        self._owners[pipeline] = owner
        return owner == claim

    def free(self, pipeline: Hashable, project: int) -> bool:
        """Whether a project that discovers a pipeline may have it, as far as known."""
        claim = (True, project)
        return self._owners.get(pipeline, claim) >= claim

    def leave(self, pipeline: Hashable, project: int) -> None:
        """Give up what a project had discovered: another one may have it."""
        if self._owners.get(pipeline) == (True, project):
            del self._owners[pipeline]


class Membership:
    """The pipelines of one project, or those that a shard has of them."""

    def __init__(
        self,
        project: AnyProject,
        place: int,
        registry: OwnershipRegistry,
        shard: Shard | None = None,
        *,
        limit: float = math.inf,
    ) -> None:
        """`limit` is the number of pipelines of this shard that are watched at most."""
        self._project = project
        self.limit = limit
        self._place = place
        self._registry = registry
        self._shard = shard
        self._owned: dict[str, bool] = {}
        """What the shard said of each id: it has to think about it."""
        self._configured: dict[str, PipelineEntry] = {entry.id: entry for entry in project.pipelines}
        beyond = self._beyond(self._configured, limit)
        for identity in beyond:
            del self._configured[identity]
        self._configured_surplus = self.surplus = len(beyond)
        """How many further pipelines of this shard would be watched without the limit."""
        self._names: dict[str, str] = {}
        self._absences: dict[str, int] = {}
        self._size: int | None = None
        """How many pipelines the last listing had that was believed."""
        self._doubted = 0
        self._doubtful: frozenset[str] | None = None
        """The ids of the last listing that was not believed."""
        for identity in self._configured:
            registry.take(self._key(identity), place, discovered=False)

    def _key(self, identity: str) -> Hashable:
        return self._project.provider, self._project.base_url, identity

    def _owns(self, identity: str) -> bool:
        """Whether a pipeline of the project is not another shard's."""
        if self._shard is None:
            return True
        if identity not in self._owned:
            project = self._project
            self._owned[identity] = self._shard.owns(project.provider, project.scope, identity)
        return self._owned[identity]

    def _beyond(self, ids: Iterable[str], room: float) -> frozenset[str]:
        """The ids of this shard for which there is no room: those that come first by id are watched."""
        own = [identity for identity in ids if self._owns(identity)]
        beyond = frozenset(sorted(own)[int(max(room, 0)) :] if len(own) > room else ())
        for identity in beyond:
            self._owned.pop(identity, None)
        return beyond

    @property
    def _room(self) -> float:
        """How many discovered pipelines of this shard may be watched in addition to the configured ones."""
        return self.limit - sum(1 for identity in self._configured if self._owns(identity))

    def selects(self, identity: str, name: str) -> bool:
        """Whether a listed pipeline is one to discover, by its name."""
        discovery = self._project.discovery
        if discovery is None or identity in self._configured:
            return False
        return discovery.matches(name or self._names.get(identity, ""))

    def may_watch(self, identity: str, *, selected: bool) -> bool:
        """Whether a listed pipeline is one to watch, as far as is known before the list is complete."""
        if not selected and identity not in self._configured:
            return False
        # Not by `_owns`, which remembers its answer also for the many that are not watched.
        project = self._project
        return self._shard is None or self._shard.owns(project.provider, project.scope, identity)

    @property
    def unnamed(self) -> frozenset[str]:
        """The watched ids whose name is not known."""
        return frozenset(identity for identity in self._nameless() if identity not in self._names)

    @property
    def wants_names(self) -> bool:
        """Whether some listed pipeline is to be called as the provider calls it."""
        return any(True for _ in self._nameless())

    def _nameless(self) -> Iterator[str]:
        """The listed ids that are watched and have no name in the configuration."""
        return (
            identity
            for identity, entry in self._configured.items()
            if entry.name is None and self._owns(identity)
        )

    def recall(self, names: Mapping[str, str]) -> None:
        """Go on with the pipelines that were watched before the start, names by id.

        Whether those that were discovered are still there the next listings tell.
        """
        discovery = self._project.discovery
        discovered = [
            identity
            for identity, name in names.items()
            if identity not in self._configured and discovery is not None and discovery.matches(name)
        ]
        missing_numbers = frozenset(discovered) - self._beyond(discovered, self._room)
        for identity, name in names.items():
            key = self._key(identity)
            if identity in self._configured:
                self._learn(identity, name)
            elif identity in missing_numbers and self._registry.take(key, self._place, discovered=True):
                self._absences[identity] = 0
                self._learn(identity, name)
        # So many there were at least: a listing that shrank meanwhile is doubted too.
        self._size = len(self._absences) or None

    def listed(
        self, found: Mapping[str, str], selected: Collection[str] | None = None, *, complete: bool = True
    ) -> str:
        """Apply a listing, names by id; returns why it is not believed, empty if it is.

        `selected` are those of its ids that `selects` says yes to, where that was asked page by page.
        `complete`: it has no rows that could not be read, so that what it lacks is gone.
        """
        for identity, name in found.items():
            if name and (identity in self._configured or identity in self._absences):
                self._learn(identity, name)
        discovery = self._project.discovery
        if discovery is None:
            return ""
        before = self._size or 0
        if len(found) < before / 2 or (not found and self._size != 0):
            # Only listings that say the same agree.
            self._doubted = self._doubted + 1 if frozenset(found) == self._doubtful else 1
            self._doubtful = frozenset(found)
            if self._doubted < AGREEING:
                return _doubt(self._project, len(found), before)
        self._doubted, self._doubtful = 0, None
        self._size = len(found)
        missing = [identity for identity in self._absences if identity not in found]
        for identity in missing if complete else ():
            self._absences[identity] += 1
            if self._absences[identity] >= ABSENCES:
                self._leave(identity)
        if selected is None:
            selected = [identity for identity, name in found.items() if self.selects(identity, name)]
        missing_numbers = {
            identity for identity in selected if self._registry.free(self._key(identity), self._place)
        }
        beyond = self._beyond(missing_numbers.union(self._absences.keys() & missing), self._room)
        self.surplus = self._configured_surplus + len(beyond)
        missing_numbers -= beyond
        for identity in [one for one in found if one in missing_numbers]:
            name = found[identity]
            if self._registry.take(self._key(identity), self._place, discovered=True):
                self._absences[identity] = 0
                if name:
                    self._learn(identity, name)
        for identity in [
            one for one in self._absences if one in beyond or (one in found and one not in missing_numbers)
        ]:
            self._leave(identity)
        return ""

    def _learn(self, identity: str, name: str) -> None:
        if self._owns(identity):
            self._names[identity] = name

    def _leave(self, identity: str) -> None:
        del self._absences[identity]
        self._names.pop(identity, None)
        self._owned.pop(identity, None)
        self._registry.leave(self._key(identity), self._place)

    def pipelines(self) -> tuple[Pipeline, ...]:
        """What is to be watched: the listed ones first."""
        ids = dict.fromkeys((*self._configured, *self._absences))
        return tuple(self._pipeline(identity) for identity in ids if self._owns(identity))

    def _pipeline(self, identity: str) -> Pipeline:
        entry = self._configured.get(identity)
        name = (entry.name if entry else None) or self._names.get(identity, identity)
        labels = dict(self._project.labels)
        if self._project.discover is not None:
            labels |= self._project.discover.labels_of(name)
        if entry is not None:
            labels |= entry.labels
        return Pipeline(
            provider=self._project.provider,
            project=self._project.name,
            id=identity,
            name=name_label(name),
            url=label(self._project.page_url(identity)),
            labels=tuple(labels.items()),
        )


def _doubt(project: AnyProject, found: int, before: int) -> str:
    if not found:
        return membership_hint(project)
    return f"the provider lists {found} pipelines after {before}: did the user lose a permission?"
