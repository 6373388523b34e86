"""The exporter: its projects, and how another configuration replaces the one in force.

`prepare` does all that can fail, and changes nothing. `apply` does the rest. Projects that have not changed keep their
connections, credentials, polls and values. docs/design/reload.md explains the order.
"""

import asyncio
from collections.abc import Awaitable, Callable, Collection, Hashable, Mapping, Sequence

import msgspec

from exporter.app.cloud_access import CloudAccess, Link, authorities_digest
from exporter.app.finders import Finders, PreparedFinders
from exporter.app.project import EntryFinder, Project, ProjectBuilder, same_tracker
from exporter.config.project_section import ProjectSection
from exporter.core.clock import Clock
from exporter.core.model import Pipeline
from exporter.core.shard import Shard
from exporter.exposition import Variant
from exporter.exposition.publisher import Publisher
from exporter.metrics.catalogue import catalogue
from exporter.polling.membership import Membership, listed_keys
from exporter.polling.ownership import OwnershipRegistry
from exporter.polling.poller import Poller
from exporter.polling.progress import Progress
from exporter.providers.registry import AnyProject
from exporter.settings.settings import Config
from exporter.state.repository import StateRepository
from exporter.telemetry.recorder import Telemetry, set_created_series
from exporter.tracking.project import ProjectTracker

Retire = Callable[[Sequence[Project]], Awaitable[None]]
"""Stops the polls of projects, after the requests in flight."""


class ProjectChanges(msgspec.Struct, frozen=True):
    """Names of projects by what a configuration changes."""

    added: tuple[str, ...]
    changed: tuple[str, ...]
    removed: tuple[str, ...]
    unchanged: tuple[str, ...]


class Prepared(msgspec.Struct, frozen=True):
    """A configuration that can be applied."""

    source: Config
    """The configuration as written, in which an entry may stand for many projects."""
    config: Config
    """The same with every project."""
    entries: Mapping[str, str]
    """The entry that has found a project, by the project's name."""
    links: dict[str, Link]
    """Of each project, by name; that of a project that stays is not used."""
    finders: PreparedFinders
    kept: dict[str, Project]
    """Projects that stay as they are, by name."""

    listed: dict[Hashable, str]
    """Name of the project that lists a pipeline by id."""

    def is_claimed(self, project: Project) -> bool:
        """Return whether another project lists a pipeline that this one has discovered."""
        name = project.settings.name
        return any(self.listed.get(key, name) != name for key in project.membership.discovered)


class Exporter:
    """An exporter: its projects, and the parts that they share."""

    def __init__(
        self,
        config: Config,
        clock: Clock,
        *,
        access: CloudAccess,
        telemetry: Telemetry,
        repository: StateRepository,
        shard: Shard | None,
        progress: Progress,
        variants: Collection[Variant],
    ) -> None:
        """Build the projects of a configuration.

        Raises:
            SetupError: a certificate authority cannot be loaded.

        """
        self.source = config
        """The configuration in force, as written: an entry may stand for many projects."""
        self.config = config
        """The same with every project that the entries have found."""
        self.projects: tuple[Project, ...] = ()
        self.entries: Mapping[str, str] = {}
        """The entry that has found a project, by the project's name."""
        self.changing = asyncio.Lock()
        """Held while another configuration, or other found projects, are prepared and put in force."""
        self._refreshed = False
        self.telemetry = telemetry
        self.repository = repository
        self._clock = clock
        self._access = access
        self._shard = shard
        self.publisher = Publisher(
            (),
            catalogue(config.metrics, label_names(config)),
            telemetry,
            clock,
            created_series=config.metrics.created_series,
            max_series=config.limits.max_series,
            always=variants,
        )
        self._builder = ProjectBuilder(clock, access, telemetry, repository, self.publisher.publish, progress)
        self._finders = Finders(self._builder, access, telemetry, repository)
        self._replace_projects(self.prepare(config), ())
        repository.begin()

    @property
    def pollers(self) -> tuple[Poller, ...]:
        """The pollers of all projects."""
        return tuple(project.poller for project in self.projects)

    @property
    def trackers(self) -> tuple[ProjectTracker, ...]:
        """The trackers of all projects."""
        return tuple(project.tracker for project in self.projects)

    @property
    def finders(self) -> tuple[EntryFinder, ...]:
        """The finders of the entries that stand for many projects."""
        return self._finders.all

    @property
    def refreshed(self) -> bool:
        """Whether the first refresh of each project has ended; a later configuration does not change that."""
        return self._refreshed or (
            self._finders.searched
            and all(poller.refreshed.is_set() for poller in self.pollers)
            and not self.outdated
        )

    @property
    def outdated(self) -> bool:
        """Whether the entries have found other projects than those in force."""
        return (
            bool(self.finders) and self._finders.expand(self.source).config.projects != self.config.projects
        )

    def prepare(self, config: Config) -> Prepared:
        """Prepare a configuration, without changing anything: do everything that can fail.

        Raises:
            SetupError: a certificate authority cannot be loaded.

        """
        links, kept = {}, {}
        source, expansion = config, self._finders.expand(config)
        config = expansion.config
        former = {project.settings.name: project for project in self.projects}
        same_sections = _sections(config) == _sections(self.config)
        for settings in config.projects:
            project = former.get(settings.name)
            if (
                project is not None
                and same_sections
                and project.settings == settings
                and project.link.authorities == authorities_digest(settings)
            ):
                kept[settings.name] = project
                links[settings.name] = project.link
            else:
                links[settings.name] = self._access.link(settings)
        finders = self._finders.prepare(source, unchanged=same_sections)
        self._finders.report(expansion)
        listed = {key: settings.name for settings in config.projects for key in listed_keys(settings)}
        return Prepared(source, config, expansion.entries, links, finders, kept, listed)

    async def apply(self, prepared: Prepared, retire: Retire) -> ProjectChanges:
        """Put a configuration in force. `retire` stops the polls of the projects that go or change."""
        retired: list[Project] = []
        while leaving := [
            project
            for project in self.projects
            if project not in retired
            and (prepared.kept.get(project.settings.name) is not project or prepared.is_claimed(project))
        ]:
            # Meanwhile the others poll, and may discover a pipeline that another project lists now.
            await retire(leaving)
            retired += leaving
            for project in leaving:
                await project.poller.save()
        changes, finders = self._replace_projects(prepared, retired)
        for project in retired:
            await project.poller.close()
        for one in finders:
            await one.finder.close()
        return changes

    async def apply_found(self, retire: Retire) -> bool:
        """Put the projects in force that the entries have found; return whether that changed anything.

        Raises:
            SetupError: a certificate authority cannot be loaded.

        """
        async with self.changing:
            if not self.outdated:
                return False
            await self.apply(self.prepare(self.source), retire)
            return True

    def _replace_projects(
        self, prepared: Prepared, retired: Sequence[Project]
    ) -> tuple[ProjectChanges, list[EntryFinder]]:
        """Replace all projects at once: nothing awaits, so that no poll or page sees half of it.

        Return what has changed, and the finders to close.
        """
        config, before = prepared.config, self.config
        self._refreshed = bool(self.projects) and self.refreshed
        former = {project.settings.name: project for project in retired}
        stays = {
            project.settings.name: project for project in self.projects if project.settings.name not in former
        }
        members = self._members(config, stays, former)
        trackers = self._reusable_trackers(config, prepared, members, former)
        self.repository.replace(config, [one.tracker for one in retired if one.settings.name not in trackers])
        gone = self._finders.replace(prepared.source, prepared.finders)
        scopes = {(one.link.base_url, one.settings.scope) for one in retired}
        for project in stays.values():
            self._access.keep(project.link)
            # It may discover what another project has given up.
            if project.settings.discovery and (project.link.base_url, project.settings.scope) in scopes:
                project.poller.list_again()
        self.projects = tuple(
            stays.get(settings.name)
            or self._builder.build(
                config,
                index,
                prepared.links[settings.name],
                members[settings.name],
                trackers.get(settings.name),
                self._finders.rate_limiter(prepared.entries.get(settings.name, "")),
            )
            for index, settings in enumerate(config.projects)
        )
        for project in self.projects:
            if project.settings.name in former:
                project.poller.requested.resume(former[project.settings.name].poller.requested.waiting)
        self.config, self.source, self.entries = config, prepared.source, prepared.entries
        links = [project.link for project in self.projects]
        self._access.forget_unused([*links, *(one.link for one in self.finders)])
        changes = self._report(config, stays, former)
        self.publisher.show(self.trackers)
        if _appearance(config) != _appearance(before):
            set_created_series(config.metrics.created_series)
            self.publisher.replace_catalogue(
                catalogue(config.metrics, label_names(config)),
                created_series=config.metrics.created_series,
                max_series=config.limits.max_series,
            )
        return changes, gone

    def _members(
        self, config: Config, stays: dict[str, Project], former: dict[str, Project]
    ) -> dict[str, Membership]:
        """Return the memberships of all projects, by name. All claim their listed pipelines before the discovered ones."""
        registry = OwnershipRegistry()
        members = {}
        for index, settings in enumerate(config.projects):
            if settings.name in stays:
                members[settings.name] = stays[settings.name].membership
                members[settings.name].claim_configured(registry, index)
            else:
                members[settings.name] = Membership(
                    settings, index, registry, self._shard, limit=config.limits.max_pipelines
                )
        for settings in config.projects:
            if settings.name in stays:
                members[settings.name].claim_discovered()
            else:
                names = _former_names(settings, former)
                members[settings.name].recall({**self.repository.names(settings), **names})
        return members

    def _reusable_trackers(
        self,
        config: Config,
        prepared: Prepared,
        members: dict[str, Membership],
        former: dict[str, Project],
    ) -> dict[str, ProjectTracker]:
        """Return the trackers to reuse, by project name. Every pipeline that leaves a tracker is retired."""
        sections = {settings.name: settings for settings in config.projects}
        reusable = {}
        clock, now = self._clock.monotonic(), self._clock.time()
        for name, project in former.items():
            pipelines: tuple[Pipeline, ...] = ()
            if name in sections and same_tracker(
                (self.config, project.settings, project.link), (config, sections[name], prepared.links[name])
            ):
                reusable[name] = project.tracker
                pipelines = tuple(one for one in members[name].pipelines() if one.id in project.tracker.ids)
            # New pipelines join later, since they may come from another tracker.
            project.tracker.update(pipelines, clock, now)
        return reusable

    def _report(
        self, config: Config, stays: dict[str, Project], former: dict[str, Project]
    ) -> ProjectChanges:
        """Show which projects there are now; return what has changed."""
        present = {project.settings.name: project for project in self.projects}
        added, changed = [], []
        for name, project in former.items():
            if name not in present or present[name].settings.provider != project.settings.provider:
                self.telemetry.remove_project(name, project.settings.provider)
        for name, project in present.items():
            if name in stays:
                continue
            provider, numbers = project.settings.provider, {"pipelines": len(project.tracker.ids)}
            if name in former and former[name].settings.provider == provider:
                changed.append(name)
                self.telemetry.replace_project(name, provider, **numbers, interval=config.poll.interval)
            else:
                added.append(name)
                self.telemetry.add_project(name, provider, **numbers, interval=config.poll.interval)
        removed = tuple(name for name in former if name not in changed)
        return ProjectChanges(tuple(added), tuple(changed), removed, tuple(stays))

    async def close(self) -> None:
        """Stop rendering, and close connections and state. Call it after the polls have been stopped."""
        self.publisher.close()
        for poller in self.pollers:
            await poller.close()
        for one in self.finders:
            await one.finder.close()
        await self.repository.close()


def _sections(config: Config) -> tuple[Hashable, ...]:
    """Return the settings that concern every project."""
    return config.poll, config.metrics, config.limits.max_pipelines


def _appearance(config: Config) -> tuple[object, ...]:
    """Return the settings that determine which series /metrics has."""
    return config.metrics, config.limits.max_series, label_names(config)


def _former_names(settings: AnyProject, former: dict[str, Project]) -> dict[str, str]:
    """Return the pipeline names, by id, that former projects with the same scope at the provider knew."""
    return {
        identity: name
        for project in former.values()
        if (project.settings.provider, project.settings.base_url, project.settings.scope)
        == (settings.provider, settings.base_url, settings.scope)
        for identity, name in project.membership.names.items()
    }


def label_names(config: Config) -> set[str]:
    """Return the names of all labels that the configuration gives to pipelines."""
    return {name for project in config.projects for name in _label_names(project)}


def _label_names(project: ProjectSection) -> set[str]:
    rules = project.discover.labels if project.discover else ()
    sources = (
        project.labels,
        *(entry.labels for entry in project.pipelines),
        *(rule.labels for rule in rules),
    )
    return {name for labels in sources for name in labels}
