"""Panels, variables and annotations in the style of these dashboards, built with Grafana's Foundation SDK."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from grafana_foundation_sdk.builders import (
    bargauge,
    common,
    dashboard,
    heatmap,
    prometheus,
    stat,
    statetimeline,
    table,
    text,
    timeseries,
)
from grafana_foundation_sdk.models import common as types
from grafana_foundation_sdk.models import dashboard as model
from grafana_foundation_sdk.models import heatmap as heatmap_model
from grafana_foundation_sdk.models import prometheus as prometheus_model
from grafana_foundation_sdk.models import text as text_model

from deploy.dashboards.queries import INFO, STATUSES, both, of_team, pipelines

SOURCE = types.DataSourceRef(type_val="prometheus", uid="${datasource}")
TAG = "pipeline-exporter"
COLORS = {
    "success": "green",
    "failed": "red",
    "canceled": "#808080",
    "ignored": "purple",
    "running": "blue",
    "pending": "light-blue",
    "waiting": "orange",
    "paused": "orange",
    "suspended": "orange",
    "skipped": "#808080",
    "unknown": "#808080",
}
"""The colour of each status, on all dashboards."""
NONE = "none"
"""Text of a panel that has nothing to report."""


@dataclass(frozen=True)
class Query:
    """A query of a panel."""

    expr: str
    legend: str = ""
    exemplars: bool = False


@dataclass(frozen=True)
class Column:
    """A column of a table; `field` is a label, or the index of the query whose values it shows."""

    field: str | int
    title: str
    unit: str = ""
    width: int = 0
    decimals: int | None = None
    mappings: tuple[Any, ...] = ()
    steps: tuple[tuple[float | None, str], ...] = ()
    link: tuple[str, str] | None = None
    """Title and URL."""


def thresholds(*steps: tuple[float | None, str]) -> dashboard.ThresholdsConfig:
    """Return thresholds from (value, colour): each colour applies from its value on, None for the lowest."""
    found = [model.Threshold(value=value, color=color) for value, color in steps]
    return dashboard.ThresholdsConfig().mode(model.ThresholdsMode.ABSOLUTE).steps(found)


def words(found: Mapping[str, tuple[str, str]]) -> model.ValueMap:
    """Return a mapping from values to text and colour."""
    return model.ValueMap(
        options={
            value: model.ValueMappingResult(text=text, color=color, index=index)
            for index, (value, (text, color)) in enumerate(found.items())
        }
    )


STATES = words({str(number): (status, COLORS[status]) for number, status in enumerate(STATUSES, start=1)})
"""Mapping of the numbers of `queries.coded` to statuses."""
OPEN = model.RegexMap(
    options=model.DashboardRegexMapOptions(
        pattern="^https?:.*", result=model.ValueMappingResult(text="open", color="blue", index=0)
    )
)
"""Mapping of every URL to the word `open`."""


def _target(query: Query, number: int, *, instant: bool, form: str) -> prometheus.Dataquery:
    found = (
        prometheus.Dataquery()
        .datasource(SOURCE)
        .ref_id(chr(ord("A") + number))
        .expr(query.expr)
        .legend_format(query.legend or "__auto")
        .format(prometheus_model.PromQueryFormat(form))
    )
    if query.exemplars:
        found = found.exemplar(exemplar=True)
    return found.instant() if instant else found.range()


def _panel(
    builder: Any,
    title: str,
    description: str,
    queries: Sequence[Query],
    size: tuple[int, int],
    *,
    instant: bool = False,
    form: str = "time_series",
    unit: str = "",
    none: str = "",
) -> Any:
    builder = builder.title(title).description(description).datasource(SOURCE).span(size[0]).height(size[1])
    for number, query in enumerate(queries):
        builder = builder.with_target(_target(query, number, instant=instant, form=form))
    if unit:
        builder = builder.unit(unit)
    return builder.no_value(none) if none else builder


def number(
    title: str,
    description: str,
    expr: str,
    *,
    size: tuple[int, int] = (4, 4),
    unit: str = "short",
    steps: Sequence[tuple[float | None, str]] = ((None, "text"),),
    mappings: Sequence[Any] = (),
    decimals: int | None = None,
    legend: str = "",
    named: bool = False,
    none: str = "",
) -> Any:
    """Return a panel with one large number or, if `named`, with the legend instead of it."""
    builder = stat.Panel().reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]).values(False))
    builder = builder.thresholds(thresholds(*steps)).mappings(list(mappings))
    builder = builder.color_scheme(dashboard.FieldColor().mode(model.FieldColorModeId.THRESHOLDS)).graph_mode(
        types.BigValueGraphMode.NONE
    )
    coloured = any(color != "text" for _, color in steps) or bool(mappings) or named
    builder = builder.color_mode(
        types.BigValueColorMode.BACKGROUND if coloured else types.BigValueColorMode.NONE
    )
    if named:
        builder = builder.text_mode(types.BigValueTextMode.NAME)
        for status, color in COLORS.items():
            fixed = [model.DynamicConfigValue("color", {"mode": "fixed", "fixedColor": color})]
            builder = builder.override_by_name(status, fixed)
    if decimals is not None:
        builder = builder.decimals(decimals)
    return _panel(
        builder, title, description, [Query(expr, legend)], size, instant=True, unit=unit, none=none
    )


def graph(
    title: str,
    description: str,
    queries: Sequence[Query],
    *,
    size: tuple[int, int] = (12, 8),
    unit: str = "short",
    bars: bool = False,
    points: bool = False,
    stacked: bool = False,
    colors: Mapping[str, str] | None = None,
    shades: str = "",
    least: float | None = 0,
    most: float | None = None,
    none: str = "",
) -> Any:
    """Return a panel with lines, bars or points over time.

    `colors` maps legends to colours; `shades` is a colour for all others.
    """
    builder = timeseries.Panel().fill_opacity(70 if bars else 10 if not points else 0)
    builder = builder.draw_style(
        types.GraphDrawStyle.BARS
        if bars
        else types.GraphDrawStyle.POINTS
        if points
        else types.GraphDrawStyle.LINE
    )
    builder = builder.line_width(0 if bars else 2).show_points(types.VisibilityMode.AUTO)
    builder = builder.legend(
        common.VizLegendOptions()
        .display_mode(types.LegendDisplayMode.LIST)
        .placement(types.LegendPlacement.BOTTOM)
        .show_legend(True)
    ).tooltip(
        common.VizTooltipOptions().mode(types.TooltipDisplayMode.MULTI).sort(types.SortOrder.DESCENDING)
    )
    if shades:
        scheme = dashboard.FieldColor().mode(model.FieldColorModeId.SHADES)
        builder = builder.color_scheme(scheme.fixed_color(shades))
    if stacked:
        builder = builder.stacking(common.StackingConfig().mode(types.StackingMode.NORMAL).group("A"))
    if least is not None:
        builder = builder.min(least)
    if most is not None:
        builder = builder.max(most)
    for name, color in (colors or {}).items():
        builder = builder.override_by_name(
            name, [model.DynamicConfigValue("color", {"mode": "fixed", "fixedColor": color})]
        )
    return _panel(builder, title, description, queries, size, unit=unit, none=none)


def timeline(
    title: str, description: str, queries: Sequence[Query], *, size: tuple[int, int], none: str = ""
) -> Any:
    """Return a panel with the status of each series over time."""
    builder = statetimeline.Panel().mappings([STATES]).show_value(types.VisibilityMode.AUTO)
    builder = builder.merge_values(True).row_height(0.8).fill_opacity(80).line_width(0)
    builder = builder.color_scheme(dashboard.FieldColor().mode(model.FieldColorModeId.THRESHOLDS))
    return _panel(builder, title, description, queries, size, none=none)


def durations(title: str, description: str, expr: str, *, size: tuple[int, int]) -> Any:
    """Return a panel with a histogram over time, and its exemplars."""
    builder = heatmap.Panel().calculate(False).cell_gap(1)
    builder = builder.color(
        heatmap.HeatmapColorOptions().mode(heatmap_model.HeatmapColorMode.SCHEME).scheme("Blues").steps(32)
    ).y_axis(heatmap.YAxisConfig().unit("s"))
    builder = builder.exemplars_color("orange")
    query = Query(expr, "{{le}}", exemplars=True)
    return _panel(
        builder, title, description, [query], size, form="heatmap", unit="short", none="no run succeeded"
    )


def ranking(
    title: str,
    description: str,
    expr: str,
    legend: str,
    *,
    size: tuple[int, int],
    unit: str = "short",
    steps: Sequence[tuple[float | None, str]],
    decimals: int | None = None,
    most: float | None = None,
    none: str = "",
) -> Any:
    """Return a panel with a horizontal bar for each row."""
    builder = bargauge.Panel().orientation(types.VizOrientation.HORIZONTAL).min(0)
    builder = builder.display_mode(types.BarGaugeDisplayMode.BASIC).thresholds(thresholds(*steps))
    builder = builder.reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]).values(False))
    builder = builder.value_mode(types.BarGaugeValueMode.TEXT).show_unfilled(True)
    builder = builder.name_placement(types.BarGaugeNamePlacement.LEFT)
    if decimals is not None:
        builder = builder.decimals(decimals)
    if most is not None:
        builder = builder.max(most)
    return _panel(
        builder, title, description, [Query(expr, legend)], size, instant=True, unit=unit, none=none
    )


def rows(
    title: str,
    description: str,
    queries: Sequence[str],
    columns: Sequence[Column],
    *,
    size: tuple[int, int],
    sort: tuple[str, bool] | None = None,
    none: str = "",
) -> Any:
    """Return a table that merges the rows of its queries by their labels; `sort` is (title of a column, descending)."""
    fields = {column.title: _field(column.field, len(queries)) for column in columns}
    shown = list(fields.values())
    builder = table.Panel().cell_height(types.TableCellHeight.SM)
    if sort:
        title_, descending = sort
        builder = builder.sort_by([common.TableSortByFieldState().display_name(title_).desc(descending)])
    builder = builder.with_transformation(model.DataTransformerConfig(id_val="merge", options={}))
    builder = builder.with_transformation(
        model.DataTransformerConfig(
            id_val="filterFieldsByName", options={"include": {"names": shown}, "byVariable": False}
        )
    )
    builder = builder.with_transformation(
        model.DataTransformerConfig(
            id_val="organize",
            options={
                "indexByName": {name: position for position, name in enumerate(shown)},
                "renameByName": {name: title for title, name in fields.items()},
                "excludeByName": {},
            },
        )
    )
    for column in columns:
        properties = _properties(column)
        if properties:
            builder = builder.override_by_name(column.title, properties)
    found = [Query(query) for query in queries]
    return _panel(builder, title, description, found, size, instant=True, form="table", none=none)


def _field(field: str | int, queries: int) -> str:
    if isinstance(field, str):
        return field
    return "Value" if queries == 1 else f"Value #{chr(ord('A') + field)}"


def _properties(column: Column) -> list[model.DynamicConfigValue]:
    found: list[tuple[str, object]] = []
    if column.unit:
        found.append(("unit", column.unit))
    if column.width:
        found.append(("custom.width", column.width))
    if column.decimals is not None:
        found.append(("decimals", column.decimals))
    if column.steps:
        steps = [{"value": value, "color": color} for value, color in column.steps]
        found.append(("thresholds", {"mode": "absolute", "steps": steps}))
        found.append(("color", {"mode": "thresholds"}))
    if column.mappings:
        found.append(("mappings", list(column.mappings)))
    if column.mappings or column.steps:
        found.append(("custom.cellOptions", {"type": "color-text"}))
    if column.link:
        title, address = column.link
        found.append(
            ("links", [{"title": title, "url": address, "targetBlank": address.startswith("${__value")}])
        )
    return [model.DynamicConfigValue(name, value) for name, value in found]


def note(title: str, description: str, content: str, *, size: tuple[int, int]) -> Any:
    """Return a panel with text."""
    builder = text.Panel().mode(text_model.TextMode.MARKDOWN).content(content)
    return builder.title(title).description(description).span(size[0]).height(size[1])


def variable(
    name: str, label: str, query: str, *, many: bool = True, everything: bool = True
) -> dashboard.QueryVariable:
    """Return a variable with the values of a label; `everything` adds the value All, which needs no label."""
    found = dashboard.QueryVariable(name).label(label).datasource(SOURCE).query(query)
    found = found.refresh(model.VariableRefresh.ON_TIME_RANGE_CHANGED)
    found = found.sort(model.VariableSort.ALPHABETICAL_ASC).multi(many).include_all(everything)
    return found.all_value(".*") if everything else found


PROVIDERS = variable("provider", "Provider", "label_values(ci_pipeline_info, provider)")
PROJECTS = variable("project", "Project", 'label_values(ci_pipeline_info{provider=~"$provider"}, project)')
_OF_PROJECT = 'provider=~"$provider", project=~"$project"'
TEAMS = variable("team", "Team", f"label_values(ci_pipeline_info{{{_OF_PROJECT}}}, label_team)")
_NAMES = f'label_values(ci_pipeline_info{{{_OF_PROJECT}, label_team=~"$team"}}, pipeline)'
PIPELINES = variable("pipeline", "Pipeline", _NAMES)
ONE_PIPELINE = variable("pipeline", "Pipeline", _NAMES, many=False, everything=False)


def _ends(status: str, deploys: str = "") -> str:
    """Return a query for the ends of the latest finished runs with a status, in Unix milliseconds."""
    ends = both(
        of_team(pipelines("ci_pipeline_latest_finished_run_end_timestamp_seconds")),
        pipelines("ci_pipeline_latest_finished_run_status", f'status="{status}"') + " == 1",
    )
    if deploys:
        ends = both(ends, pipelines(INFO, deploys))
    return f"1000 * (\n{ends}\n)"


def _annotation(name: str, expr: str, color: str, *, enabled: bool) -> dashboard.AnnotationQuery:
    return (
        dashboard.AnnotationQuery()
        .name(name)
        .datasource(SOURCE)
        .enable(enabled)
        .icon_color(color)
        .expr(expr)
        .step("1m")
        .title_format(name)
        .text_format("{{pipeline}} ({{project}})")
        .use_value_for_time(True)
    )


def failed_runs(*, enabled: bool) -> dashboard.AnnotationQuery:
    """Return an annotation at the end of each failed run."""
    return _annotation("Failed run", _ends("failed"), "red", enabled=enabled)


def deploying_runs(*, enabled: bool) -> dashboard.AnnotationQuery:
    """Return an annotation at the end of each successful run of a deploying pipeline."""
    return _annotation("Deploying run", _ends("success", 'label_deploys!=""'), "blue", enabled=enabled)


def board(
    name: str,
    title: str,
    description: str,
    *,
    since: str,
    variables: Sequence[Any],
    annotations: Sequence[Any] = (),
    sections: Sequence[tuple[str, Sequence[Any]]],
) -> dashboard.Dashboard:
    """Return a dashboard; each section is a row of panels with a heading."""
    found = (
        dashboard.Dashboard(f"Pipelines / {title}")
        .uid(f"pipeline-exporter-{name}")
        .description(description)
        .tags([TAG])
        .readonly()
        .refresh("1m")
        .time(since, "now")
        .timezone("browser")
        .tooltip(model.DashboardCursorSync.CROSSHAIR)
        .link(
            dashboard.DashboardLink("Pipelines")
            .type(model.DashboardLinkType.DASHBOARDS)
            .tags([TAG])
            .include_vars(True)
            .keep_time(True)
        )
        .with_variable(dashboard.DatasourceVariable("datasource").label("Data source").type("prometheus"))
    )
    for one in variables:
        found = found.with_variable(one)
    for one in annotations:
        found = found.annotation(one)
    identity = 0
    for heading, panels in sections:
        identity += 1
        found = found.with_row(dashboard.Row(heading).id(identity))
        for panel in panels:
            identity += 1
            found = found.with_panel(panel.id(identity))
    return found
