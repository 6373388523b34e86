"""Replace the entries of a configuration that find projects by the projects that they have found.

The rest of the exporter sees ordinary projects. docs/design/found-projects.md explains why.
"""

from collections import Counter
from collections.abc import Mapping

import msgspec

from exporter.providers.registry import AnyProject
from exporter.settings.settings import Config

MOST = 500
"""Maximum number of projects that one entry follows."""


class Expansion(msgspec.Struct, frozen=True):
    """A configuration in which every project is one project of a provider."""

    config: Config
    entries: Mapping[str, str]
    """The entry of each found project, by the project's name."""
    collisions: tuple[tuple[str, str, str], ...]
    """Entry, id and name of each found project whose name another project has, too."""
    surplus: Mapping[str, int]
    """Number of found projects that are not followed, by entry; only entries that have any."""


def expand(config: Config, found: Mapping[str, Mapping[str, str]]) -> Expansion:
    """Return a configuration with each entry replaced by its projects: `found` has their names by id, by entry.

    A found project is named by entry and name, `ENTRY/NAME`. If another project has that name, the id is appended.
    """
    projects: list[AnyProject] = []
    entries: dict[str, str] = {}
    collisions: list[tuple[str, str, str]] = []
    surplus: dict[str, int] = {}
    followed: dict[str, list[str]] = {}
    for entry in config.projects:
        if entry.project_search is None:
            continue
        ids = sorted(found.get(entry.name, {}))
        followed[entry.name] = ids[:MOST]
        if len(ids) > MOST:
            surplus[entry.name] = len(ids) - MOST
    plain = Counter(project.name for project in config.projects)
    plain.update(f"{entry}/{found[entry][identity]}" for entry, ids in followed.items() for identity in ids)
    for entry in config.projects:
        if entry.project_search is None:
            projects.append(entry)
            continue
        for identity in followed[entry.name]:
            name = f"{entry.name}/{found[entry.name][identity]}"
            if plain[name] > 1:
                collisions.append((entry.name, identity, name))
                while name in plain or name in entries:
                    name = with_id(name, identity)
            projects.append(entry.found_project(name, identity))
            entries[name] = entry.name
    return Expansion(
        config.model_copy(update={"projects": tuple(projects)}), entries, tuple(collisions), surplus
    )


def with_id(name: str, identity: str) -> str:
    """Return the name of a found project whose plain name another project has, too."""
    return f"{name} ({identity})"
