"""The finders of an exporter: one for each entry of the configuration that stands for many projects."""

import logging
from collections.abc import Mapping

import msgspec

from exporter.app.cloud_access import CloudAccess, Link, authorities_digest
from exporter.app.expansion import MOST, Expansion, expand
from exporter.app.project import EntryFinder, ProjectBuilder
from exporter.client.rate_limiter import RateLimiter
from exporter.settings.settings import Config
from exporter.state.repository import StateRepository
from exporter.telemetry.recorder import Telemetry

_log = logging.getLogger("exporter.app.finders")


class PreparedFinders(msgspec.Struct, frozen=True):
    """What the finders of another configuration need; the same for all that stay."""

    links: dict[str, Link]
    """Of each entry whose finder is to be built, by name."""
    kept: dict[str, EntryFinder]
    """Finders that stay as they are, by entry."""


class Finders:
    """The finders of an exporter, and the projects that they have found."""

    def __init__(
        self, builder: ProjectBuilder, access: CloudAccess, telemetry: Telemetry, repository: StateRepository
    ) -> None:
        self._builder = builder
        self._access = access
        self._telemetry = telemetry
        self._repository = repository
        self.all: tuple[EntryFinder, ...] = ()
        self._reported: tuple[object, ...] = ()
        """The name collisions and surplus projects that were logged last."""

    @property
    def searched(self) -> bool:
        """Whether each list of projects was read, or could not be read, at least once."""
        return all(one.finder.searched for one in self.all)

    def rate_limiter(self, entry: str) -> RateLimiter | None:
        """Return the request budget of an entry; None if there is no such entry."""
        return next((one.finder.rate_limiter for one in self.all if one.settings.name == entry), None)

    def expand(self, source: Config) -> Expansion:
        """Return a configuration with the projects that its entries have found, or had before the restart."""
        return expand(source, self._found(source))

    def _found(self, source: Config) -> dict[str, Mapping[str, str]]:
        """Return the found projects (names by id) of each entry of a configuration."""
        finders = {one.settings.name: one for one in self.all}
        found: dict[str, Mapping[str, str]] = {}
        for entry in source.projects:
            search = entry.project_search
            if search is None:
                continue
            former = finders.get(entry.name)
            if former is not None and former.finder.search.base_url == search.base_url:
                names = former.finder.projects
            else:
                names = self._repository.found_projects(entry)
            found[entry.name] = {one: name for one, name in names.items() if search.names.matches(name)}
        return found

    def prepare(self, source: Config, *, unchanged: bool) -> PreparedFinders:
        """Do everything that can fail, without changing anything. `unchanged`: the settings for all projects are the same.

        Raises:
            SetupError: a certificate authority cannot be loaded.

        """
        former = {one.settings.name: one for one in self.all}
        prepared = PreparedFinders({}, {})
        for entry in source.projects:
            if entry.project_search is None:
                continue
            finder = former.get(entry.name)
            same = finder is not None and finder.settings == entry
            if finder and unchanged and same and finder.link.authorities == authorities_digest(entry):
                prepared.kept[entry.name] = finder
            else:
                prepared.links[entry.name] = self._access.link(entry)
        return prepared

    def replace(self, source: Config, prepared: PreparedFinders) -> list[EntryFinder]:
        """Build the finders of the entries that are new or have changed; return those to close."""
        former = {one.settings.name: one for one in self.all}
        found = self._found(source)
        finders: list[EntryFinder] = []
        for entry in source.projects:
            search = entry.project_search
            if search is None:
                continue
            kept = prepared.kept.get(entry.name)
            if kept is not None:
                self._access.keep(kept.link)
                finders.append(kept)
                continue
            before, link = former.get(entry.name), prepared.links[entry.name]
            finders.append(self._builder.finder(source, entry, search, link, found[entry.name], before))
            show = self._telemetry.add_project if before is None else self._telemetry.replace_project
            show(entry.name, entry.provider, pipelines=0, interval=search.interval)
        self.all = tuple(finders)
        names = {one.settings.name for one in finders}
        for name, gone in former.items():
            if name not in names:
                self._telemetry.remove_project(name, gone.settings.provider)
        return [one for one in former.values() if one not in finders]

    def report(self, expansion: Expansion) -> None:
        """Log what is wrong with the found projects, once until it changes."""
        wrong = (expansion.collisions, tuple(expansion.surplus.items()))
        if wrong == self._reported:
            return
        self._reported = wrong
        for entry, identity, name in expansion.collisions:
            _log.error(
                "another project has the name of a found project, appending the id",
                extra={"id": "project-name-collision", "project": entry, "value": name, "detail": identity},
            )
        for entry, surplus in expansion.surplus.items():
            _log.error(
                "more projects found than can be followed, not watching the rest",
                extra={
                    "id": "too-many-projects",
                    "project": entry,
                    "projects": MOST + surplus,
                    "limit": MOST,
                },
            )
