"""ListPipelines and ListPipelineRuns: what there is, page by page.

Pages are cut by row offset from an order that does not change between two requests, so that a client that
reads them one after the other sees every row once; what goes wrong with lists in the field can be switched
on.
"""

from collections.abc import Callable
from functools import lru_cache
from typing import Any

from exporter.simulator.codearts.records import identity, list_record, milliseconds
from exporter.simulator.codearts.switches import CodeArtsSwitches
from exporter.simulator.http.answers import Good
from exporter.simulator.http.faults import Record
from exporter.simulator.http.switches import Switches
from exporter.simulator.service import unparsed
from exporter.simulator.world.project import Project
from exporter.simulator.world.runs import Run
from exporter.simulator.world.world import Pipeline, World

DEFAULT_LIMIT = 10
# So many rows of another project turn up when a request names its project in the path alone.
_STRAY_ROWS = 3

_PIPELINE_KEYS: dict[str, Callable[[Pipeline], Any]] = {
    "create_time": lambda pipeline: pipeline.created,
    "update_time": lambda pipeline: pipeline.updated,
    "name": lambda pipeline: pipeline.name,
}


def pipelines(
    project: Project, switches: CodeArtsSwitches, project_id: str, body: dict[str, Any], now: float
) -> Good:
    """Answer ListPipelines; `project_id` is that of the path. Raises `DeclinedError` for a body out of shape."""
    offset, limit = _window(body, switches.page_limit)
    key, descending = _order(body, _PIPELINE_KEYS, "create_time", "asc")
    wanted = body.get("name") or ""
    if not isinstance(wanted, str):
        raise unparsed("a text as name")
    rows: list[Pipeline] = []
    strays = switches.foreign_rows or (0 if body.get("project_id") else _STRAY_ROWS)
    elsewhere = Project(_elsewhere(project.world.seed, strays, project.world.start), Switches())
    if _visible(project, switches, project_id, body):
        rows = [*project.pipelines(), *elsewhere.pipelines()]
    if wanted:
        rows = [pipeline for pipeline in rows if wanted.lower() in pipeline.name.lower()]
    # Sorting is stable: what is equal stays in the order of creation.
    rows.sort(key=key, reverse=descending)
    page = [] if switches.empty_list_with_total else rows[offset : offset + limit]
    told = []
    for pipeline in page:
        home = project if project.pipeline(pipeline.id) else elsewhere
        run = home.runs.latest_run(pipeline, now)
        told.append((home.world, pipeline, run and home.runs.reported(run)))
    answer = {
        "offset": offset,
        "limit": limit,
        "total": len(rows),
        "current_system_time": int(now * 1000),
        "pipelines": [_row(*row) for row in told],
    }
    return Good(answer, runs=[run for _, _, run in told if run is not None])


def runs(project: Project, switches: Switches, pipeline: Pipeline, body: dict[str, Any], now: float) -> Good:
    """Answer ListPipelineRuns, newest start first unless the body or the switches say otherwise.

    Raises `DeclinedError` for a body out of shape. A filter, or the order by last change, looks at every run
    that there ever was; a page of the plain history at its own rows only.
    """
    offset, limit = _window(body, switches.page_limit)
    moments: dict[str, Callable[[Run], Any]] = {
        "start_time": lambda run: run.start,
        "update_time": lambda run: now if run.end is None else run.end,
    }
    key, descending = _order(body, moments, "start_time", "desc")
    statuses = body.get("status") or []
    if not isinstance(statuses, list):
        raise unparsed("an array as status")

    if switches.runs_order == "random":
        key, descending = _drawn, False
    elif switches.runs_order != "asked":
        key, descending = moments["start_time"], switches.runs_order == "descending"
    rows = project.runs.history(pipeline, now)
    if statuses or key is not moments["start_time"]:
        rows = [run for run in rows if not statuses or run.said in statuses]
        rows.sort(key=lambda run: (key(run), run.number))
    page = list((rows[::-1] if descending else rows)[offset : offset + limit])
    if page and offset == 0:
        page[0] = project.runs.reported(page[0])
    answer = {
        "offset": offset,
        "limit": limit,
        "total": len(rows),
        "pipeline_runs": [list_record(pipeline, run) for run in page],
    }
    return Good(answer, runs=page)


def _drawn(run: Run) -> str:
    """Order by what nobody chose, but the same for every page; a new run comes between two others."""
    return run.id


def _window(body: dict[str, Any], most: int) -> tuple[int, int]:
    offset, limit = body.get("offset", 0), body.get("limit", DEFAULT_LIMIT)
    for number in (offset, limit):
        if type(number) is not int or number < 0:
            raise unparsed("a whole number from 0 as offset and as limit")
    return offset, min(limit, most)


def _order(
    body: dict[str, Any], keys: dict[str, Callable[[Any], Any]], usual: str, direction: str
) -> tuple[Callable[[Any], Any], bool]:
    key, way = body.get("sort_key", usual), body.get("sort_dir", direction)
    if not isinstance(key, str) or key not in keys:
        raise unparsed(f"one of {', '.join(keys)} as sort_key")
    if way not in ("asc", "desc"):  # a set would want what came to be hashable
        raise unparsed("asc or desc as sort_dir")
    return keys[key], way == "desc"


def _visible(project: Project, switches: Switches, project_id: str, body: dict[str, Any]) -> bool:
    """Tell whether the user sees anything: of a project that is none of his the list is merely empty."""
    named = {project_id, body.get("project_id") or project_id}
    return named == {project.world.project_id} and not switches.no_membership


@lru_cache(maxsize=8)
def _elsewhere(seed: int, count: int, start: float) -> World:
    return World(seed=seed + 1_000_003, pipelines=count, start=start)


def _row(world: World, pipeline: Pipeline, run: Run | None) -> Record:
    return {
        "pipeline_id": pipeline.id,
        "name": pipeline.name,
        "project_id": world.project_id,
        "project_name": world.project_name,
        "component_id": "",
        "is_publish": False,
        "is_collect": pipeline.index % 10 == 0,
        "manifest_version": "3.0",
        "create_time": milliseconds(pipeline.created),
        "latest_run": None if run is None else list_record(pipeline, run),
        "convert_sign": 0,
        "security_level": None,
        "banned": False,
        "description": None,
        "tag_list": [_tag(pipeline, world)] if pipeline.index % 3 == 0 else [],
    }


def _tag(pipeline: Pipeline, world: World) -> Record:
    name = pipeline.name.split("-")[1]
    creator = identity(world.project_id, "creator")
    return {
        "tag_id": identity(world.project_id, "tag", name),
        "name": name,
        "color": "#5e7ce0",
        "project_id": world.project_id,
        "domain_id": world.domain_id,
        "creator_id": creator,
        "updater_id": creator,
        "create_time": milliseconds(int(world.start)),
        "update_time": milliseconds(int(world.start)),
    }
