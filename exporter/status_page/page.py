"""Render the status page, the page of a pipeline, and the JSON answer.

Everything is computed from frozen views and facts, so this can run in any thread.
"""

from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import msgspec
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from exporter import __version__
from exporter.core.model import Status
from exporter.core.redaction import redact
from exporter.metrics.catalogue import Catalogue
from exporter.metrics.family import Family, MetricType
from exporter.status_page import overview as rows
from exporter.status_page.answer import RUNNING, WAITING, DetailedProject, StatusAnswer, describe
from exporter.status_page.chart import chart, run_duration
from exporter.status_page.facts import ProjectFacts
from exporter.status_page.overview import PAGE, Overview, PipelineRow
from exporter.status_page.query import FILTERS, PipelineQuery, pipeline_link
from exporter.status_page.remedies import REMEDIES
from exporter.status_page.times import age, clock_time, duration, machine_time
from exporter.tracking.ledger import KEPT, Extent
from exporter.tracking.views import View

ASSETS = Path(__file__).parent / "assets"
_PARTS = 50
"""Parts of a page between two pauses: less than a millisecond of work."""


class StatusPage:
    """The pages of an exporter. It keeps the overview of the last views that it was given."""

    def __init__(self, metrics_path: str, pause: Callable[[], None] = lambda: None) -> None:
        """`pause` is called often while a page is rendered; it may wait a little."""
        self._metrics_path = metrics_path
        self._pause = pause
        self._overview = Overview(())

    @cached_property
    def _templates(self) -> Environment:
        """The templates. Compiling them takes longer than a page, so it is left to the first request."""
        environment = Environment(
            loader=FileSystemLoader(Path(__file__).parent / "templates"),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
            auto_reload=False,
        )
        environment.filters["duration"] = duration
        environment.filters["masked"] = redact
        environment.globals.update(
            version=__version__,
            metrics_path=self._metrics_path,
            # Functions, since a call of a macro costs ten times as much, and a page has some hundreds.
            age=age,
            machine_time=machine_time,
            pipeline_link=pipeline_link,
            number="{:,}".format,
        )
        return environment

    def page(
        self, views: Sequence[View], facts: Sequence[ProjectFacts], query: PipelineQuery, now: float
    ) -> str:
        """Return the status page as HTML at `now` (epoch seconds)."""
        found = self._of(views)
        selected = found.select(query)
        number, pages, shown = _page_of(selected, query)
        down = [one for one in facts if one.up is False]
        return self._render(
            "overview.html",
            now=now,
            time=lambda at: clock_time(at, now),
            query=query,
            filters=FILTERS,
            projects=sorted(facts, key=lambda one: one.up is not False),
            down=down,
            unseen_since={one.project: one.problem.since for one in down if one.problem is not None},
            remedies=REMEDIES,
            counts={"red": found.red, "waiting": found.waiting, "running": found.running},
            red=sum(found.red.values()),
            waiting=sum(found.waiting.values()),
            running=sum(found.running.values()),
            long_running=len(found.long_running(now)),
            watched=sum(one.pipelines for one in facts),
            pipelines=[_cells(row, now) for row in shown],
            total=len(selected),
            first=(number - 1) * PAGE + 1,
            page=number,
            pages=pages,
        )

    def pipeline(
        self, views: Sequence[View], catalogue: Catalogue, project: str, pipeline_id: str, now: float
    ) -> str | None:
        """Return the page of a pipeline, with its series in `catalogue`, as HTML; None if it does not exist."""
        row = self._of(views).find(project, pipeline_id)
        if row is None:
            return None
        view, latest = row.view, row.view.latest
        return self._render(
            "pipeline.html",
            now=now,
            time=lambda at: clock_time(at, now),
            row=_cells(row, now),
            view=view,
            latest=row.latest,
            run_url=rows.link(latest.url) if latest is not None and latest.url else None,
            pipeline_url=rows.link(view.pipeline.url),
            stages=latest.stages if latest is not None else (),
            since_of={(name, sequence): since for name, sequence, since in view.stage_changes},
            runs=view.runs[:KEPT],
            run_duration=run_duration,
            anomalies=_anomalies(row, now),
            selector=selector(view),
            families=[
                (name, family.help)
                for family in catalogue.pipelines
                if any(True for _ in family.samples(view))
                for name in (series_name(family),)
            ],
        )

    def answer(
        self, views: Sequence[View], facts: Sequence[ProjectFacts], query: PipelineQuery, now: float
    ) -> bytes:
        """Return the answer of `/api/v1/status` at `now` (epoch seconds)."""
        found = self._of(views)
        selected = found.select(query)
        number, pages, shown = _page_of(selected, query)
        in_order = found.select(PipelineQuery())
        return msgspec.json.encode(
            StatusAnswer(
                version=__version__,
                time=now,
                projects=[_project(one, found) for one in facts],
                red=[rows.red_pipeline(row) for row in in_order if row.red],
                waiting=[rows.active_pipeline(row, row.view.status_change) for row in found.waiting_rows],
                long_running=[
                    rows.active_pipeline(row, row.view.latest.start if row.view.latest else None)
                    for row in found.long_running(now)
                ],
                pipelines=[rows.pipeline_status(row) for row in shown],
                page=number,
                pages=pages,
                total=len(selected),
            )
        )

    def _render(self, template: str, **values: Any) -> str:
        parts = []
        for index, part in enumerate(self._templates.get_template(template).generate(**values)):
            parts.append(part)
            if index % _PARTS == 0:
                self._pause()
        return "".join(parts)

    def _of(self, views: Sequence[View]) -> Overview:
        if self._overview.views is not views:
            self._overview = Overview(views, self._overview)
        return self._overview


def _page_of(selected: Sequence[PipelineRow], query: PipelineQuery) -> tuple[int, int, Sequence[PipelineRow]]:
    """Return the number of the page that exists next to the one asked for, how many there are, and its rows."""
    pages = max(1, -(-len(selected) // PAGE))
    number = max(1, min(query.page, pages))
    return number, pages, selected[(number - 1) * PAGE : number * PAGE]


def _project(facts: ProjectFacts, overview: Overview) -> DetailedProject:
    problem, usage = facts.problem, facts.usage
    return DetailedProject(
        project=facts.project,
        provider=facts.provider,
        up=facts.up,
        down_since=problem.since if problem is not None else None,
        cause=describe(problem.operation, problem.code, problem.error_code) if problem is not None else None,
        pipelines=facts.pipelines,
        red=overview.red[facts.project],
        running=overview.running[facts.project],
        waiting=overview.waiting[facts.project],
        error_code=(problem.error_code or None) if problem is not None else None,
        remedy=problem.remedy if problem is not None else None,
        last_poll=facts.last_poll,
        next_poll=facts.next_poll,
        requests_per_minute=usage.requests_per_minute,
        requests_allowed_per_minute=usage.allowed_per_minute,
        budget_left=usage.budget_left,
        budget=usage.budget,
        credentials_accepted=usage.credentials_accepted,
        credentials_expire=usage.credentials_expire,
        credentials_renewal=usage.credentials_renewal if usage.credentials_expire is not None else None,
    )


def _cells(row: PipelineRow, now: float) -> dict[str, Any]:
    """Return what a row of the page shows."""
    status = rows.pipeline_status(row)
    active = row.status in WAITING or row.status in RUNNING
    return {
        **msgspec.structs.asdict(status),
        "active": active,
        "active_stages": rows.active_stages(row) if active else [],
        "long_running": row.long_running(now),
        "provider": row.view.pipeline.provider,
        "latest_failed": row.status == Status.FAILED,
        "at_least": row.view.streak is not None and row.view.streak.extent is Extent.LIMITED,
        "unanswered": row.view.up is False,
        "failed_run": _failed_run(row),
        "chart": chart(row.view.runs[:KEPT], KEPT),
    }


def _failed_run(row: PipelineRow) -> dict[str, Any] | None:
    """Return number and address of the run that a pipeline is red for, if its next run has started."""
    latest, finished = row.view.latest, row.view.finished
    if not row.red or latest is None or finished is None or latest.id == finished.id:
        return None
    return {"number": finished.number, "url": rows.url_of(row, finished)}


def _anomalies(row: PipelineRow, now: float) -> list[str]:
    """Return what is unusual about a pipeline, in sentences."""
    view = row.view
    found = []
    if view.up is False:
        found.append("The last poll that covered this pipeline failed.")
    if view.has_run is False:
        found.append("The provider returns no run: it was never executed, or it was deleted.")
    if row.long_running(now):
        usual = row.usual_seconds
        found.append(
            "The run in progress takes unusually long"
            + (f" (usually {duration(usual)})." if usual is not None else ".")
        )
    if view.active_starts is not None and len(view.active_starts) > 1:
        found.append(f"{len(view.active_starts)} runs are in progress at the same time.")
    if view.unresolved:
        found.append(f"The exporter still looks for the end of known runs: {view.unresolved}.")
    if view.counters is not None and view.counters.missed:
        found.append(f"Runs whose end could not be found out: {view.counters.missed}.")
    if view.streak is not None and view.streak.extent is Extent.LIMITED:
        found.append("The run list has no success as far as it is read: there are at least these failures.")
    if row.status == Status.UNKNOWN and row.latest is not None:
        found.append("The provider reports a status that the exporter does not know.")
    return found


def selector(view: View) -> str:
    """Return the PromQL selector of all series of a pipeline."""
    pipeline = view.pipeline
    return (
        f"{{project={_quoted(pipeline.project)}, pipeline_id={_quoted(pipeline.id)}, "
        f"provider={_quoted(pipeline.provider)}}}"
    )


def _quoted(value: str) -> str:
    escaped = value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{escaped}"'


def series_name(family: Family[View]) -> str:
    """Return the name of a family's series; of a histogram, of its buckets."""
    return f"{family.name}_bucket" if family.type is MetricType.HISTOGRAM else family.name
