"""Which pipelines a project has: those listed in the configuration, those discovered, and what each is called.

A listing is evidence, not truth: one that suddenly shrinks is more often a lost permission than a mass deletion. So a
pipeline leaves after two complete listings without it, and a listing that is empty or less than half of the one before
is not believed until three in a row agree.

Where several exporters share a configuration each judges the whole listing, and every claim to a pipeline, as if it
were alone; only then it leaves what is another's to that one.
"""

from collections.abc import Hashable, Iterator, Mapping

from exporter.config.fields import PipelineEntry
from exporter.model import Pipeline, label, name_label
from exporter.providers import AnyProject
from exporter.shard import Shard


def no_member(project: AnyProject) -> str:
    """What is most likely wrong where the provider lists no pipelines."""
    return (
        "the provider lists no pipelines: most likely the user is no member of this project "
        f"(or {project.scope_key} is another's)"
    )


ABSENCES = 2
AGREEING = 3


class Claims:
    """Who watches a pipeline, where several projects of the configuration find the same: who lists it, or the earliest."""

    def __init__(self) -> None:
        self._owners: dict[Hashable, tuple[bool, int]] = {}

    def take(self, pipeline: Hashable, project: int, *, discovered: bool) -> bool:
        """Claim a pipeline for a project, by its place in the configuration; says whether it is its own."""
        claim = (discovered, project)
        owner = min(claim, self._owners.get(pipeline, claim))
        self._owners[pipeline] = owner
        return owner == claim

    def leave(self, pipeline: Hashable, project: int) -> None:
        """Give up what a project had discovered: another one may have it."""
        if self._owners.get(pipeline) == (True, project):
            del self._owners[pipeline]


class Membership:
    """The pipelines of one project, or those that a shard has of them."""

    def __init__(self, project: AnyProject, place: int, claims: Claims, shard: Shard | None = None) -> None:
        self._project = project
        self._place = place
        self._claims = claims
        self._shard = shard
        self._owned: dict[str, bool] = {}
        """What the shard said of each id: it has to think about it."""
        self._configured: dict[str, PipelineEntry] = {entry.id: entry for entry in project.pipelines}
        self._names: dict[str, str] = {}
        self._absences: dict[str, int] = {}
        self._size: int | None = None
        """How many pipelines the last listing had that was believed."""
        self._doubted = 0
        self._doubtful: frozenset[str] | None = None
        """The ids of the last listing that was not believed."""
        for identity in self._configured:
            claims.take(self._key(identity), place, discovered=False)

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
        for identity, name in names.items():
            key = self._key(identity)
            if identity in self._configured:
                self._learn(identity, name)
            elif (
                discovery is not None
                and discovery.takes(name)
                and self._claims.take(key, self._place, discovered=True)
            ):
                self._absences[identity] = 0
                self._learn(identity, name)
        # So many there were at least: a listing that shrank meanwhile is doubted too.
        self._size = len(self._absences) or None

    def listed(self, found: Mapping[str, str]) -> str:
        """Apply a complete listing, names by id; returns why it is not believed, empty if it is."""
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
        for identity, name in found.items():
            if identity in self._configured:
                continue
            known = name or self._names.get(identity, "")
            key = self._key(identity)
            if discovery.takes(known) and self._claims.take(key, self._place, discovered=True):
                self._absences[identity] = 0
                if known:
                    self._learn(identity, known)
            elif identity in self._absences:
                self._leave(identity)
        for identity in [identity for identity in self._absences if identity not in found]:
            self._absences[identity] += 1
            if self._absences[identity] >= ABSENCES:
                self._leave(identity)
        return ""

    def _learn(self, identity: str, name: str) -> None:
        if self._owns(identity):
            self._names[identity] = name

    def _leave(self, identity: str) -> None:
        del self._absences[identity]
        self._names.pop(identity, None)
        self._owned.pop(identity, None)
        self._claims.leave(self._key(identity), self._place)

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
            url=label(self._project.page(identity)),
            labels=tuple(labels.items()),
        )


def _doubt(project: AnyProject, found: int, before: int) -> str:
    if not found:
        return no_member(project)
    return f"the provider lists {found} pipelines after {before}: did the user lose a permission?"
