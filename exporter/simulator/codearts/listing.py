"""ListPipelines and ListPipelineRuns: pipelines and runs, page by page.

Pages are selected by row offset in an order that does not change between two requests, so a client that reads all
pages sees every row once. Switches inject faults that were seen in real lists.
"""

from collections.abc import Callable
from functools import lru_cache
from typing import Any

from exporter.simulator.codearts.errors import unparsed
from exporter.simulator.codearts.records import derive_id, list_record, milliseconds
from exporter.simulator.codearts.switches import CodeArtsSwitches
from exporter.simulator.http.answers import Answer, Record
from exporter.simulator.http.switches import Switches
from exporter.simulator.world.project import SimulatedProject
from exporter.simulator.world.runs import RunSnapshot
from exporter.simulator.world.world import SimulatedPipeline, World

DEFAULT_LIMIT = 10
# Rows of another project in the response to a request that names its project in the path only.
_DEFAULT_FOREIGN_ROWS = 3

_PIPELINE_KEYS: dict[str, Callable[[SimulatedPipeline], Any]] = {
    "create_time": lambda pipeline: pipeline.created,
    "update_time": lambda pipeline: pipeline.updated,
    "name": lambda pipeline: pipeline.name,
}


def pipelines(
    project: SimulatedProject,
    switches: CodeArtsSwitches,
    project_id: str,
    body: dict[str, Any],
    now: float,
    pages: str,
) -> Answer:
    """Handle ListPipelines; `project_id` comes from the path, `pages` is as in `batch_record`.

    Raises `DeclinedError` for a malformed body.
    """
    offset, limit = _window(body, switches.page_limit)
    key, descending = _order(body, _PIPELINE_KEYS, "create_time", "asc")
    name = body.get("name") or ""
    if not isinstance(name, str):
        raise unparsed("a text as name")
    rows: list[SimulatedPipeline] = []
    foreign_count = switches.foreign_rows or (0 if body.get("project_id") else _DEFAULT_FOREIGN_ROWS)
    foreign = SimulatedProject(
        _foreign_world(project.world.seed, foreign_count, project.world.start), Switches()
    )
    if _is_visible(project, switches, project_id, body):
        rows = [*project.pipelines(), *foreign.pipelines()]
    if name:
        rows = [pipeline for pipeline in rows if name.lower() in pipeline.name.lower()]
    # The sort is stable, so equal rows stay in the order of creation.
    rows.sort(key=key, reverse=descending)
    page = [] if switches.empty_list_with_total else rows[offset : offset + limit]
    page_runs = []
    for pipeline in page:
        owner = project if project.pipeline(pipeline.id) else foreign
        run = owner.runs.latest_run(pipeline, now)
        page_runs.append((owner, pipeline, run and owner.runs.apply_misreport(run)))
    answer = {
        "offset": offset,
        "limit": limit,
        "total": len(rows),
        "current_system_time": int(now * 1000),
        "pipelines": [_row(*row, pages) for row in page_runs],
    }
    return Answer(answer, runs=[run for _, _, run in page_runs if run is not None])


def runs(
    project: SimulatedProject,
    switches: Switches,
    pipeline: SimulatedPipeline,
    body: dict[str, Any],
    now: float,
    pages: str,
) -> Answer:
    """Handle ListPipelineRuns: latest start first, unless the body or the switches say otherwise.

    Raises `DeclinedError` for a malformed body. `pages` is as in `batch_record`. A filter, or another order than by
    start, computes every run of the pipeline; otherwise only the runs of the page are computed.
    """
    offset, limit = _window(body, switches.page_limit)
    sort_keys: dict[str, Callable[[RunSnapshot], Any]] = {
        "start_time": lambda run: run.start,
        "update_time": lambda run: now if run.end is None else run.end,
    }
    key, descending = _order(body, sort_keys, "start_time", "desc")
    statuses = body.get("status") or []
    if not isinstance(statuses, list):
        raise unparsed("an array as status")

    if switches.runs_order == "random":
        key, descending = _by_id, False
    elif switches.runs_order != "requested":
        key, descending = sort_keys["start_time"], switches.runs_order == "descending"
    rows = project.runs.history(pipeline, now)
    if statuses or key is not sort_keys["start_time"]:
        rows = [run for run in rows if not statuses or run.status_text in statuses]
        rows.sort(key=lambda run: (key(run), run.number))
    page = list((rows[::-1] if descending else rows)[offset : offset + limit])
    if page and offset == 0:
        page[0] = project.runs.apply_misreport(page[0])
    answer = {
        "offset": offset,
        "limit": limit,
        "total": len(rows),
        "pipeline_runs": [list_record(pipeline, run, pages) for run in page],
    }
    return Answer(answer, runs=page)


def _by_id(run: RunSnapshot) -> str:
    """Sort key of an arbitrary order that is the same for every page; a new run may appear anywhere in it."""
    return run.id


def _window(body: dict[str, Any], max_limit: int) -> tuple[int, int]:
    offset, limit = body.get("offset", 0), body.get("limit", DEFAULT_LIMIT)
    for number in (offset, limit):
        if type(number) is not int or number < 0:
            raise unparsed("a whole number from 0 as offset and as limit")
    return offset, min(limit, max_limit)


def _order(
    body: dict[str, Any], keys: dict[str, Callable[[Any], Any]], default_key: str, default_direction: str
) -> tuple[Callable[[Any], Any], bool]:
    key, direction = body.get("sort_key", default_key), body.get("sort_dir", default_direction)
    if not isinstance(key, str) or key not in keys:
        raise unparsed(f"one of {', '.join(keys)} as sort_key")
    if direction not in ("asc", "desc"):  # not a set: the value may not be hashable
        raise unparsed("asc or desc as sort_dir")
    return keys[key], direction == "desc"


def _is_visible(project: SimulatedProject, switches: Switches, project_id: str, body: dict[str, Any]) -> bool:
    """Return whether the user can see the requested project; otherwise the list is empty, not an error."""
    named = {project_id, body.get("project_id") or project_id}
    return named == {project.world.project_id} and not switches.no_membership


@lru_cache(maxsize=8)
def _foreign_world(seed: int, count: int, start: float) -> World:
    return World(seed=seed + 1_000_003, pipelines=count, start=start)


def _row(
    project: SimulatedProject, pipeline: SimulatedPipeline, run: RunSnapshot | None, pages: str
) -> Record:
    return {
        "pipeline_id": pipeline.id,
        "name": pipeline.name,
        "project_id": project.world.project_id,
        "project_name": project.name,
        "component_id": "",
        "is_publish": False,
        "is_collect": pipeline.index % 10 == 0,
        "manifest_version": "3.0",
        "create_time": milliseconds(pipeline.created),
        "latest_run": None if run is None else list_record(pipeline, run, pages),
        "convert_sign": 0,
        "security_level": None,
        "banned": False,
        "description": None,
        "tag_list": [_tag(pipeline, project)] if pipeline.index % 3 == 0 else [],
    }


def _tag(pipeline: SimulatedPipeline, project: SimulatedProject) -> Record:
    world = project.world
    name = pipeline.name.split("-")[1]
    creator = derive_id(world.project_id, "creator")
    return {
        "tag_id": derive_id(world.project_id, "tag", name),
        "name": name,
        "color": "#5e7ce0",
        "project_id": world.project_id,
        "domain_id": project.domain_id,
        "creator_id": creator,
        "updater_id": creator,
        "create_time": milliseconds(int(world.start)),
        "update_time": milliseconds(int(world.start)),
    }
