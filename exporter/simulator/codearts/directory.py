"""The projects of a simulated account, and their list: ListProjectsV4 of CodeArts Req.

Each project has a world of its own. Rows have the form of the vendor's published example.
"""

import re
from collections.abc import Mapping

from exporter.simulator.codearts.errors import invalid_parameter
from exporter.simulator.codearts.records import derive_id, milliseconds
from exporter.simulator.codearts.switches import CodeArtsSwitches
from exporter.simulator.http.answers import Answer, Record
from exporter.simulator.world.project import RunSource, SimulatedProject
from exporter.simulator.world.world import World

_MAX_OFFSET = 10_000
_MAX_LIMIT = 1_000
_CREATION_INTERVAL = 60


class SimulatedProjects:
    """The projects of an account, the first of which is `project`; a test may change them while the cloud runs."""

    def __init__(self, project: SimulatedProject, switches: CodeArtsSwitches) -> None:
        self._switches = switches
        self._account = project.world
        self._projects = {project.world.project_id: project}

    def add(self, name: str, world: World, runs: RunSource | None = None) -> str:
        """Add a project with the pipelines of a world, and return its id.

        The world needs a seed of its own, which makes its ids. The runs come from `runs`, by default from the world.
        """
        if world.project_id in self._projects:
            raise ValueError(f"a project has seed {world.seed} already")
        project = SimulatedProject(world, self._switches, runs)
        project.name, project.domain_id = name, self._account.domain_id
        # Replaced, not changed: a request may read the projects in another thread.
        self._projects = {**self._projects, world.project_id: project}
        return world.project_id

    def rename(self, project_id: str, name: str) -> None:
        """Give a project another name."""
        self._projects[project_id].name = name

    def remove(self, project_id: str) -> None:
        """Remove a project. From now on, it answers like one that never existed."""
        self._projects = {key: project for key, project in self._projects.items() if key != project_id}

    def find(self, project_id: str) -> SimulatedProject | None:
        """Return the project with that id, or None."""
        return self._projects.get(project_id)

    def names(self) -> dict[str, str]:
        """Return the name of each project by id, in the order of creation, whether listed or not."""
        return {key: project.name for key, project in self._projects.items()}

    def page(self, query: Mapping[str, str]) -> Answer:
        """Handle ListProjectsV4: a page of the projects that the user is a member of, newest first.

        Raises `DeclinedError` for a missing or invalid offset or limit. Other parameters are ignored.
        """
        limit = _number(query, "limit", 1, _MAX_LIMIT)
        offset = _number(query, "offset", 0, _MAX_OFFSET)
        if offset % limit:
            raise invalid_parameter("offset", f"a multiple of the limit {limit}")
        names = [] if self._switches.no_membership else list(self.names().items())
        listed = names[: round(len(names) * self._switches.projects_listed_share)]
        rows = [self._row(index, *item) for index, item in enumerate(listed)][::-1]
        size = min(limit, self._switches.page_limit)
        return Answer({"projects": rows[offset : offset + size], "total": len(rows)})

    def _row(self, index: int, project_id: str, name: str) -> Record:
        account = self._account
        created = milliseconds(account.start + index * _CREATION_INTERVAL)
        return {
            "project_num_id": int(project_id[:6], 16),
            "project_id": project_id,
            "project_name": name,
            "description": "",
            "created_time": created,
            "updated_time": created,
            "project_type": "scrum",
            "creator": {
                "user_num_id": 4090,
                "user_id": derive_id(account.domain_id, "creator"),
                "user_name": "simulated-user",
                "domain_id": account.domain_id,
                "domain_name": "simulated-domain",
                "nick_name": "",
            },
        }


def _number(query: Mapping[str, str], name: str, least: int, most: int) -> int:
    """Return a query parameter; raise `DeclinedError` unless it is a number from `least` to `most`."""
    text = query.get(name, "")
    if not re.fullmatch("[0-9]{1,5}", text) or not least <= int(text) <= most:
        raise invalid_parameter(name, f"a whole number from {least} to {most}")
    return int(text)
