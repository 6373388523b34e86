"""Draw a dashboard as one HTML page, with the queries and options in its JSON."""

import json
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

import httpx
from jinja2 import Environment, FileSystemLoader
from markdown_it import MarkdownIt

from deploy.dashboards.preview import charts, style
from deploy.dashboards.preview.charts import Frame, Series

COLUMN, LINE, GAP = 66, 30, 8
"""Width of a column, height of a line and the space between panels in pixels; Grafana has 24 columns."""
Json = dict[str, Any]
Row = dict[str, Any]


@dataclass(frozen=True)
class Moment:
    """The Prometheus to query, the time range (end in Unix seconds, length in seconds), and values of variables."""

    url: str
    end: float
    span: float
    variables: dict[str, str]

    def step(self, width: int) -> float:
        """Return the seconds between two points of a chart that is `width` pixels wide."""
        return max(60.0, round(self.span / (width / 7) / 60) * 60)

    def ask(self, expr: str, step: float | None = None) -> list[Json]:
        """Return the result of a query at the end of the time range or, with `step`, over the whole range."""
        values = {
            "__rate_interval": f"{max(240, int(step or 240))}s",
            "__range": f"{self.span:.0f}s",
            **self.variables,
        }
        for name, value in values.items():
            expr = expr.replace(f"${name}", value)
        if step is None:
            path, times = "query", {"time": self.end}
        else:
            path, times = "query_range", {"start": self.end - self.span, "end": self.end, "step": step}
        answer = httpx.post(
            f"{self.url}/api/v1/{path}", data={"query": expr, **times}, trust_env=False, timeout=120
        ).json()
        if answer["status"] != "success":
            raise SystemExit(f"{expr}\n{answer['error']}")
        result: list[Json] = answer["data"]["result"]
        return result


def page(board: Json, moment: Moment, theme: str, *, lines: int) -> str:
    """Return the HTML page of a dashboard, or of its first lines."""
    panels = [_Panel(panel, moment) for panel in board["panels"] if panel["gridPos"]["y"] < lines]
    environment = Environment(loader=FileSystemLoader(Path(__file__).parent), autoescape=True)
    names = [one["label"] for one in board["templating"]["list"]]
    values = {"Data source": "Prometheus", "Pipeline": moment.variables.get("pipeline", "")}
    return environment.get_template("page.html.j2").render(
        title=board["title"],
        variables=[(name, (values.get(name) or "All").replace(".*", "All")) for name in names],
        panels=panels,
        theme=style.THEMES[theme],
        name=theme,
        end=style.shown(moment.end * 1000, "dateTimeAsIso"),
        span=style.shown(moment.span, "s"),
    )


class _Panel:
    """A panel with its position in pixels and its content as HTML."""

    def __init__(self, panel: Json, moment: Moment) -> None:
        self._panel = panel
        self._moment = moment
        self._defaults: Json = panel.get("fieldConfig", {}).get("defaults", {})
        place = panel["gridPos"]
        self.x, self.y = place["x"] * (COLUMN + GAP), place["y"] * (LINE + GAP)
        self.width = place["w"] * (COLUMN + GAP) - GAP
        self.height = place["h"] * (LINE + GAP) - GAP
        self.kind: str = panel["type"]
        self.title: str = panel["title"]
        draw = {
            "stat": self._stat,
            "table": self._table,
            "timeseries": self._graph,
            "state-timeline": self._states,
            "heatmap": self._heatmap,
            "bargauge": self._ranking,
            "text": self._text,
        }
        self.content = draw[self.kind]() if self.kind in draw else ""

    def _text(self) -> str:
        return str(MarkdownIt().render(self._panel["options"]["content"]))

    @property
    def _nothing(self) -> str:
        return f'<div class="nothing">{escape(self._defaults.get("noValue", "No data"))}</div>'

    def _frame(self, left: int = 62) -> Frame:
        end, legend = self._moment.end, 26 if self.kind == "timeseries" else 6
        return Frame(self.width - 16, self.height - 32 - legend, end - self._moment.span, end, left)

    def _series(self, step: float) -> list[tuple[str, list[tuple[float, float]]]]:
        found = []
        for target in self._panel["targets"]:
            for one in self._moment.ask(target["expr"], step):
                points = [(float(time), float(value)) for time, value in one["values"] if value != "NaN"]
                if points:
                    found.append((_legend(target["legendFormat"], one["metric"]), points))
        return sorted(found)

    def _color(self, name: str) -> str:
        for override in self._panel["fieldConfig"]["overrides"]:
            if override["matcher"]["options"] == name:
                for each in override["properties"]:
                    if each["id"] == "color":
                        return style.color(each["value"]["fixedColor"])
        return ""

    def _automatic(self, number: int, count: int) -> str:
        chosen = self._defaults.get("color", {})
        if chosen.get("mode") == "shades":
            return style.shade(chosen["fixedColor"], number, count)
        return style.PALETTE[number % len(style.PALETTE)]

    def _words(self) -> dict[str, tuple[str, str]]:
        return _words(self._defaults.get("mappings", []))

    def _stat(self) -> str:
        (target,) = self._panel["targets"]
        result = self._moment.ask(target["expr"])
        if not result:
            return f'<div class="number">{self._nothing}</div>'
        if self._panel["options"]["textMode"] == "name":
            text = _legend(target["legendFormat"], result[0]["metric"])
            color = self._color(text)
        else:
            value = float(result[0]["value"][1])
            text = style.shown(value, self._defaults["unit"], self._defaults.get("decimals"))
            name = style.threshold(value, self._defaults["thresholds"]["steps"])
            text, color = self._words().get(f"{value:g}", (text, style.color(name)))
        if self._panel["options"]["colorMode"] == "background" and not color.startswith("var"):
            return f'<div class="number filled" style="background:{color}">{escape(text)}</div>'
        return f'<div class="number">{escape(text)}</div>'

    def _rows(self) -> list[Row]:
        """Return the rows of all queries, merged by the labels that they share, as Grafana's `merge` does."""
        targets = self._panel["targets"]
        frames = [
            [
                {**one["metric"], _value(target, len(targets)): float(one["value"][1])}
                for one in self._moment.ask(target["expr"])
                if one["value"][1] != "NaN"
            ]
            for target in targets
        ]
        filled = [frame for frame in frames if frame]
        if not filled:
            return []
        shared = set.intersection(*({name for row in frame for name in row} for frame in filled))
        merged: dict[tuple[str, ...], Row] = {}
        keys = sorted(shared) if len(filled) > 1 else []
        for frame in filled:
            for number, row in enumerate(frame):
                key = tuple(row.get(name, "") for name in keys) if keys else (str(number),)
                merged.setdefault(key, {}).update(row)
        return list(merged.values())

    def _table(self) -> str:
        rows = self._rows()
        if not rows:
            return self._nothing
        organize = self._panel["transformations"][2]["options"]
        order = sorted(organize["indexByName"], key=organize["indexByName"].get)
        titles = {name: organize["renameByName"][name] for name in order}
        for each in self._panel["options"].get("sortBy", []):
            name = next(name for name, title in titles.items() if title == each["displayName"])
            rows.sort(key=lambda row: (row.get(name) is None, row.get(name)), reverse=each["desc"])
        # A column that no query returned is left out.
        names = [name for name in order if any(name in row for row in rows)]
        head = "".join(f"<th>{escape(titles[name])}</th>" for name in names)
        body = "".join(
            "<tr>" + "".join(self._cell(titles[name], row.get(name)) for name in names) + "</tr>"
            for row in rows[: (self.height - 60) // 30]
        )
        return f"<table><tr>{head}</tr>{body}</table>"

    def _cell(self, title: str, value: object) -> str:
        if value is None:
            return "<td></td>"
        own: Json = {}
        for override in self._panel["fieldConfig"]["overrides"]:
            if override["matcher"]["options"] == title:
                own = {each["id"]: each["value"] for each in override["properties"]}
        text, color = str(value), ""
        if isinstance(value, float):
            text = style.shown(value, own.get("unit", "short"), own.get("decimals"))
            if "thresholds" in own:
                color = style.color(style.threshold(value, own["thresholds"]["steps"]))
        if "links" in own:
            color = style.color("blue")
        key = f"{value:g}" if isinstance(value, float) else str(value)
        found = _words(own.get("mappings", []))
        text, color = found.get(
            key, found.get("*", (text, color)) if key.startswith("http") else (text, color)
        )
        return f'<td style="color:{color}">{escape(text)}</td>' if color else f"<td>{escape(text)}</td>"

    def _graph(self) -> str:
        step = self._moment.step(self.width)
        found = self._series(step)
        series = [
            Series(name, self._color(name) or self._automatic(number, len(found)), tuple(points))
            for number, (name, points) in enumerate(found)
        ]
        if not series:
            return self._nothing
        custom = self._defaults["custom"]
        chart = charts.over_time(
            self._frame(),
            series,
            self._defaults["unit"],
            kind=custom["drawStyle"],
            stacked=custom.get("stacking", {}).get("mode") == "normal",
            most=self._defaults.get("max"),
            step=step,
        )
        names = "".join(
            f'<span><i style="background:{one.color}"></i>{escape(one.name)}</span>' for one in series[:9]
        )
        return f'{chart}<div class="legend">{names}</div>'

    def _states(self) -> str:
        step = self._moment.step(self.width)
        series = self._series(step)
        return charts.states(self._frame(150), series, self._words(), step) if series else self._nothing

    def _heatmap(self) -> str:
        step = self._moment.step(self.width) * 2
        buckets = sorted(self._series(step), key=lambda one: float(one[0]))
        return charts.heatmap(self._frame(), buckets, step) if buckets else self._nothing

    def _ranking(self) -> str:
        (target,) = self._panel["targets"]
        found = [
            (_legend(target["legendFormat"], one["metric"]), float(one["value"][1]))
            for one in self._moment.ask(target["expr"])
        ]
        if not found:
            return self._nothing
        most = self._defaults.get("max", max(value for _, value in found))
        bars = []
        for name, value in found:
            color = style.color(style.threshold(value, self._defaults["thresholds"]["steps"]))
            text = style.shown(value, self._defaults["unit"], self._defaults.get("decimals"))
            bars.append(
                f'<div class="bar"><label>{escape(name)}</label><div><i style="width:{value / most:.1%};background:{color}"></i></div>'
                f'<b style="color:{color}">{text}</b></div>'
            )
        return "".join(bars)


def _value(target: Json, count: int) -> str:
    return "Value" if count == 1 else f"Value #{target['refId']}"


def _words(mappings: list[Json]) -> dict[str, tuple[str, str]]:
    """Return text and colour by value; `*` stands for any URL."""
    found = {}
    for mapping in mappings:
        if mapping["type"] == "value":
            for value, result in mapping["options"].items():
                found[value] = (result["text"], style.color(result["color"]))
        else:
            result = mapping["options"]["result"]
            found["*"] = (result["text"], style.color(result["color"]))
    return found


def _legend(form: str, metric: Json) -> str:
    if form == "__auto":
        return ", ".join(metric.values()) or "value"
    for name, value in metric.items():
        form = form.replace("{{" + name + "}}", value)
    return form


def read(path: Path) -> Json:
    """Return the JSON of a dashboard."""
    found: Json = json.loads(path.read_text(encoding="utf-8"))
    return found
