"""Which pipelines a project has: those of the configuration and those discovered, with their names.

A discovered pipeline leaves after two complete lists without it. A list that suddenly shrinks is not believed at once
(`list_caution.py`).

Where several exporters share a configuration, each of them judges the whole list and every claim to a pipeline, and only
then leaves out the pipelines of other shards. So all shards decide alike.
"""

import math
from collections.abc import Collection, Hashable, Iterable, Iterator, Mapping

from exporter.config.project_section import PipelineEntry
from exporter.core.model import Pipeline, name_label
from exporter.core.shard import Shard
from exporter.polling.list_caution import ListCaution
from exporter.polling.ownership import OwnershipRegistry
from exporter.providers.registry import AnyProject

ABSENCES = 2
"""Number of complete lists in a row without a discovered pipeline, after which it is no longer watched."""


def membership_hint(project: AnyProject) -> str:
    """Return the most likely reason why a provider lists no pipelines."""
    return (
        "the list is empty; most likely the user is not a member of this project "
        f"(or {project.scope_key} is another project's)"
    )


def listed_keys(project: AnyProject) -> set[Hashable]:
    """Return the keys, for an `OwnershipRegistry`, of the pipelines that a configured project lists by id."""
    return {(project.provider, project.base_url, entry.id) for entry in project.pipelines}


class Membership:
    """The watched pipelines of one project, or this shard's part of them."""

    def __init__(
        self,
        project: AnyProject,
        index: int,
        registry: OwnershipRegistry,
        shard: Shard | None = None,
        *,
        limit: float = math.inf,
    ) -> None:
        """`index` is the project's position in the configuration; `limit` is the maximum for this shard to watch."""
        self._project = project
        self.limit = limit
        self._index = index
        self._registry = registry
        self._shard = shard
        self._owned: dict[str, bool] = {}
        """Whether the shard owns each id: a cache, since this takes a hash for each shard."""
        self._configured: dict[str, PipelineEntry] = {entry.id: entry for entry in project.pipelines}
        surplus = self._above_limit(self._configured, limit)
        for identity in surplus:
            del self._configured[identity]
        self._configured_surplus = self.surplus = len(surplus)
        """Number of further pipelines of this shard that would be watched without the limit."""
        self._names: dict[str, str] = {}
        self._absences: dict[str, int] = {}
        """Number of lists in a row that lack a pipeline, by the id of each discovered pipeline."""
        self._caution = ListCaution("pipelines", membership_hint(project))
        for identity in self._configured:
            registry.take(self._key(identity), index, discovered=False)

    def _key(self, identity: str) -> Hashable:
        return self._project.provider, self._project.base_url, identity

    def _owns(self, identity: str) -> bool:
        """Return True unless a pipeline of the project belongs to another shard."""
        if self._shard is None:
            return True
        if identity not in self._owned:
            project = self._project
            self._owned[identity] = self._shard.owns(project.provider, project.scope, identity)
        return self._owned[identity]

    def _above_limit(self, ids: Iterable[str], room: float) -> frozenset[str]:
        """Return this shard's ids that exceed `room`, those that sort last."""
        own = [identity for identity in ids if self._owns(identity)]
        surplus = frozenset(sorted(own)[int(max(room, 0)) :] if len(own) > room else ())
        for identity in surplus:
            self._owned.pop(identity, None)
        return surplus

    @property
    def _room(self) -> float:
        """How many discovered pipelines of this shard may be watched in addition to the configured ones."""
        return self.limit - sum(1 for identity in self._configured if self._owns(identity))

    def selects(self, identity: str, name: str) -> bool:
        """Return True if `discover` selects a listed pipeline, which is not configured by id, by its name."""
        discovery = self._project.discovery
        if discovery is None or identity in self._configured:
            return False
        return discovery.matches(name or self._names.get(identity, ""))

    def may_watch(self, identity: str, *, selected: bool) -> bool:
        """Return True if a listed pipeline is to be watched, as far as known before the list is complete."""
        if not selected and identity not in self._configured:
            return False
        # Not by `_owns`, which would cache the many ids that are not watched.
        project = self._project
        return self._shard is None or self._shard.owns(project.provider, project.scope, identity)

    @property
    def unnamed(self) -> frozenset[str]:
        """Watched ids whose name is unknown."""
        return frozenset(identity for identity in self._without_name() if identity not in self._names)

    @property
    def wants_names(self) -> bool:
        """True if some configured pipeline takes its name from the provider."""
        return any(True for _ in self._without_name())

    @property
    def has_configured(self) -> bool:
        """True if the configuration lists a pipeline of this shard by id."""
        return any(self._owns(identity) for identity in self._configured)

    def not_listed(self, found: Collection[str]) -> tuple[str, ...]:
        """Return the configured ids of the shard that a list lacks."""
        return tuple(one for one in self._configured if one not in found and self._owns(one))

    def selected(self, found: Mapping[str, str]) -> int | None:
        """Return how many pipelines of a list (names by id) `discover` selects; None if none are to be discovered."""
        discovery = self._project.discovery
        return None if discovery is None else sum(1 for name in found.values() if discovery.matches(name))

    def _without_name(self) -> Iterator[str]:
        """Yield the watched ids for which the configuration has no name."""
        return (
            identity
            for identity, entry in self._configured.items()
            if entry.name is None and self._owns(identity)
        )

    @property
    def discovered(self) -> Collection[Hashable]:
        """Keys of the discovered pipelines, in the form of `listed_keys`."""
        return {self._key(identity) for identity in self._absences}

    @property
    def names(self) -> Mapping[str, str]:
        """The known names of the watched pipelines, by id."""
        return self._names

    def claim_configured(self, registry: OwnershipRegistry, index: int) -> None:
        """Switch to another configuration, with this project at `index`, and claim the pipelines that it lists by id."""
        self._registry, self._index = registry, index
        for identity in self._configured:
            registry.take(self._key(identity), index, discovered=False)

    def claim_discovered(self) -> None:
        """Claim the discovered pipelines, after all projects have claimed what they list."""
        for identity in list(self._absences):
            if not self._registry.take(self._key(identity), self._index, discovered=True):
                self._leave(identity)

    def recall(self, names: Mapping[str, str]) -> None:
        """Continue with the pipelines (names by id) that were watched before the restart.

        The next lists show whether the discovered ones still exist.
        """
        discovery = self._project.discovery
        discovered = [
            identity
            for identity, name in names.items()
            if identity not in self._configured and discovery is not None and discovery.matches(name)
        ]
        watched = frozenset(discovered) - self._above_limit(discovered, self._room)
        for identity, name in names.items():
            key = self._key(identity)
            if identity in self._configured:
                self._set_name(identity, name)
            elif identity in watched and self._registry.take(key, self._index, discovered=True):
                self._absences[identity] = 0
                self._set_name(identity, name)
        # The project had at least these, so a list that shrank since then is not believed either.
        self._caution.size = len(self._absences) or None

    def listed(
        self,
        found: Mapping[str, str],
        selected: Collection[str] | None = None,
        *,
        complete: bool = True,
        refused: bool = False,
    ) -> str:
        """Apply a list of pipelines, names by id; return why it is not believed, or an empty string.

        `selected` are the ids that `selects` accepts, if the caller has checked them page by page. `complete`: every
        row could be read, so that pipelines that the list lacks are gone. `refused`: the provider refused the project in
        the last refresh.
        """
        for identity, name in found.items():
            if name and (identity in self._configured or identity in self._absences):
                self._set_name(identity, name)
        if self._project.discovery is None:
            return ""
        if doubt := self._caution.doubt(found, refused=refused):
            return doubt
        missing = [identity for identity in self._absences if identity not in found]
        for identity in missing if complete else ():
            self._absences[identity] += 1
            if self._absences[identity] >= ABSENCES:
                self._leave(identity)
        if selected is None:
            selected = [identity for identity, name in found.items() if self.selects(identity, name)]
        wanted = {identity for identity in selected if self._registry.free(self._key(identity), self._index)}
        surplus = self._above_limit(wanted.union(self._absences.keys() & missing), self._room)
        self.surplus = self._configured_surplus + len(surplus)
        wanted -= surplus
        for identity in [one for one in found if one in wanted]:
            name = found[identity]
            if self._registry.take(self._key(identity), self._index, discovered=True):
                self._absences[identity] = 0
                if name:
                    self._set_name(identity, name)
        for identity in [
            one for one in self._absences if one in surplus or (one in found and one not in wanted)
        ]:
            self._leave(identity)
        return ""

    def _set_name(self, identity: str, name: str) -> None:
        if self._owns(identity):
            self._names[identity] = name

    def _leave(self, identity: str) -> None:
        del self._absences[identity]
        self._names.pop(identity, None)
        self._owned.pop(identity, None)
        self._registry.leave(self._key(identity), self._index)

    def pipelines(self) -> tuple[Pipeline, ...]:
        """Return the pipelines to watch: those that the configuration lists, then the discovered ones."""
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
            url=self._project.page_url(identity),
            labels=tuple(labels.items()),
        )
