"""The dashboards that `make dashboards` writes: Grafana's linter, Grafana's types, and the names of metrics and labels."""

import json
import re
import shutil
import subprocess

import pytest
import yaml

from deploy.dashboards.files import files
from tests.drivers.dashboards import BOARDS, FOLDER, PANELS, expressions, plain
from tests.drivers.manifests import CHART, ROOT, overlay, run, validate
from tests.drivers.rules import RECORDING

METRICS = (ROOT / "docs" / "metrics.md").read_text(encoding="utf-8")
UNITS = {"short", "none", "s", "bytes", "percentunit", "reqps", "dateTimeAsIso"}
"""The identifiers of units that are used, all from Grafana's list."""
OF_PROMETHEUS = {"up", "scrape_samples_scraped", "process_resident_memory_bytes", "process_cpu_seconds_total"}
EXCLUDED = {"template-job-rule", "template-instance-rule", "target-job-rule", "target-instance-rule"}
EACH_BOARD = pytest.mark.parametrize("name", BOARDS)
EACH_PANEL = pytest.mark.parametrize("panel", PANELS.values(), ids=[": ".join(key) for key in PANELS])
QUERIES = expressions()


@pytest.mark.parametrize("file", files(), ids=lambda path: path.name)
def test_the_file_is_what_the_source_generates(file):
    """Run `make dashboards` to update the file."""
    assert file.read_text(encoding="utf-8") == files()[file]


def test_every_dashboard_has_its_source():
    assert {file.name for file in files()} == {file.name for file in FOLDER.glob("*.json")}
    assert len(files()) == 4


# The rules of Grafana's dashboard-linter, under their names there.


@EACH_BOARD
def test_first_variable_is_the_data_source(name):
    source = BOARDS[name]["templating"]["list"][0]
    assert (source["name"], source["type"], source["label"]) == ("datasource", "datasource", "Data source")
    assert source["query"] == "prometheus"


@EACH_BOARD
def test_template_on_time_change_reload_rule(name):
    queried = [one for one in BOARDS[name]["templating"]["list"] if one["type"] == "query"]
    assert len(queried) >= 2
    assert all(one["refresh"] == 2 and one["datasource"]["uid"] == "${datasource}" for one in queried)


@EACH_BOARD
def test_dashboard_is_read_only(name):
    assert BOARDS[name]["editable"] is False


@EACH_PANEL
def test_panel_follows_the_rules_of_the_linter(panel):
    """Rules of Grafana's linter: panel-datasource, panel-title-description, panel-units, panel-no-targets."""
    assert panel["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
    assert panel["title"]
    assert panel["description"].endswith(".")
    assert panel["targets"]
    defaults = panel["fieldConfig"]["defaults"]
    if panel["type"] not in {"table", "state-timeline"}:
        assert defaults["unit"] in UNITS
    for override in panel["fieldConfig"]["overrides"]:
        for each in override["properties"]:
            assert each["id"] != "unit" or each["value"] in UNITS


@EACH_PANEL
def test_target_rate_interval_and_counter_rules(panel):
    """Rules of Grafana's linter: target-rate-interval, target-counter-agg."""
    for target in panel["targets"]:
        expr = target["expr"]
        assert set(re.findall(r"\b(?:rate|irate|increase)\([^\[]*\[(.*?)\]", expr)) <= {"$__rate_interval"}
        for counter in re.finditer(r"\b(?!process)\w+_total\b", expr):
            assert re.search(r"(?:rate|increase)\($", expr[: counter.start()]), expr


def test_exclusions_have_a_reason():
    found = yaml.safe_load((FOLDER / ".lint").read_text())["exclusions"]
    assert found.keys() == EXCLUDED
    assert all(rule["reason"].endswith(".") for rule in found.values())


def test_prometheus_accepts_every_query(promtool, tmp_path):
    """Rules target-promql and template-label-promql of Grafana's linter; each query is checked as a recording rule."""
    labels = [
        ((name, one["name"]), f"group ({selector})")
        for name, board in BOARDS.items()
        for one in board["templating"]["list"]
        if one["type"] == "query"
        for selector in re.findall(r"label_values\((.*), \w+\)", one["query"])
    ]
    assert len(labels) > 10
    found = [(where, plain(expr)) for where, expr in QUERIES + labels]
    assert not [(where, expr) for where, expr in found if "$" in expr]
    file = tmp_path / "queries.yml"
    group = {
        "name": "dashboards",
        "rules": [{"record": f"query:number{n}", "expr": expr} for n, (_, expr) in enumerate(found)],
    }
    file.write_text(yaml.safe_dump({"groups": [group]}))
    done = run(promtool, "check", "rules", file)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{len(found)} rules found" in done.stdout


# Names.


def test_metrics_are_those_of_the_catalogue_and_the_recording_rules():
    text = "\n".join(expr for _, expr in QUERIES)
    recorded = set(re.findall(r"record: (\S+)", RECORDING.read_text()))
    used = set(re.findall(r"\b(?:pipeline|stage|job):\w+:\w+", text))
    assert len(used) > 15
    assert used <= recorded
    plain_names = {
        re.sub(r"_bucket$", "", name)
        for name in re.findall(r"(?<![\w:])((?:ci|pipeline|up|scrape|process)_?\w*)(?=[{\[)])", text)
        if name not in {"pipeline", "pipeline_id"}
    }
    assert len(plain_names) > 30
    assert {name for name in plain_names if f"`{name}`" not in METRICS and name not in OF_PROMETHEUS} == set()


def test_labels_are_those_of_the_catalogue():
    text = "\n".join(expr for _, expr in QUERIES)
    used = set(re.findall(r"(?:\{|, )(\w+)(?:=~|!~|!=|=)\"", text))
    for names in re.findall(r"(?:by|on|without|group_left|group_right) \(([^()]*)\)", text):
        used |= {name.strip() for name in names.split(",") if name.strip()}
    used |= {
        label
        for panel in PANELS.values()
        for target in panel["targets"]
        for label in re.findall(r"{{(\w+)}}", target["legendFormat"])
    }
    assert used >= {"project", "status", "stage_name", "label_team", "label_deploys", "code", "reason"}
    known = set(re.findall(r"`(\w+)`", METRICS)) | {"le", "job", "instance", "pod"}
    assert used - known <= {"label_team", "label_deploys", "run"}


# What Grafana shows.


@EACH_BOARD
def test_panels_do_not_overlap_and_have_their_own_number(name):
    board = BOARDS[name]["panels"]
    assert len({panel["id"] for panel in board}) == len(board)
    titles = [panel["title"] for panel in board if panel["type"] != "row"]
    assert len(set(titles)) == len(titles)
    cells: set[tuple[int, int]] = set()
    for panel in board:
        place = panel["gridPos"]
        own = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert place["x"] + place["w"] <= 24
        assert not cells & own
        cells |= own


@EACH_PANEL
def test_columns_of_a_table_come_from_its_queries(panel):
    if panel["type"] != "table":
        return
    _, chosen, organized = panel["transformations"]
    names = chosen["options"]["include"]["names"]
    renamed = organized["options"]["renameByName"]
    assert set(renamed) == set(names)
    queries = " ".join(target["expr"] for target in panel["targets"])
    values = (
        {f"Value #{target['refId']}" for target in panel["targets"]}
        if len(panel["targets"]) > 1
        else {"Value"}
    )
    for name in names:
        assert name in values or re.search(rf"\b{name}\b", queries), name
    for override in panel["fieldConfig"]["overrides"]:
        assert override["matcher"]["options"] in renamed.values()
    for each in panel["options"].get("sortBy", []):
        assert each["displayName"] in renamed.values()


def test_each_dashboard_has_a_stable_address_that_links_use():
    uids = [board["uid"] for board in BOARDS.values()]
    assert len(set(uids)) == len(uids)
    assert all(re.fullmatch(r"[a-z-]{1,40}", uid) for uid in uids)
    used = {uid for path in FOLDER.glob("*.json") for uid in re.findall(r"/d/([\w-]+)", path.read_text())}
    assert used == {"pipeline-exporter-pipeline"}


@EACH_BOARD
def test_panels_fill_their_lines(name):
    """The layout has no hole: the widths of the panels in a line add up to the whole width."""
    by_line: dict[int, int] = {}
    for panel in BOARDS[name]["panels"]:
        by_line[panel["gridPos"]["y"]] = by_line.get(panel["gridPos"]["y"], 0) + panel["gridPos"]["w"]
    assert set(by_line.values()) == {24}


def test_statuses_have_the_same_color_everywhere():
    found: dict[str, set[str]] = {}
    for panel in PANELS.values():
        for override in panel["fieldConfig"]["overrides"]:
            for each in override["properties"]:
                if each["id"] == "color" and each["value"]["mode"] == "fixed":
                    found.setdefault(override["matcher"]["options"], set()).add(each["value"]["fixedColor"])
        for mapping in panel["fieldConfig"]["defaults"].get("mappings", []):
            for result in mapping["options"].values():
                found.setdefault(result["text"], set()).add(result["color"])
    assert found["failed"] == {"red"}
    assert found["success"] == {"green"}
    assert all(len(colors) == 1 for colors in found.values()), found


def test_kustomize_makes_them_config_maps_for_the_sidecar():
    manifests = overlay(FOLDER)
    shown: dict[str, str] = {}
    for manifest in manifests:
        validate(manifest)
        assert manifest["metadata"]["labels"]["grafana_dashboard"] == "1"
        shown |= manifest["data"]
    assert shown == {file.name: text for file, text in files().items()}


def test_the_chart_has_them_byte_by_byte():
    copied = {file.name: file.read_bytes() for file in (CHART / "dashboards").iterdir()}
    assert copied == {file.name: file.read_bytes() for file in FOLDER.glob("*.json")}


LOOSE = """\
import type { AnnotationQuery, Dashboard } from "@grafana/schema";
// JSON has strings where TypeScript has enums.
type Loose<T> = T extends string ? `${T}` : T extends number ? (number extends T ? number : `${T}` extends `${infer N extends number}` ? N : never)
  : T extends (infer U)[] ? Loose<U>[] : T extends object ? { [K in keyof T]: Loose<T[K]> } : T;
// Prometheus adds keys to annotations.
type Board = Omit<Loose<Dashboard>, "annotations"> & { annotations: { list: (Loose<AnnotationQuery> & Record<string, unknown>)[] } };
"""
OPTIONS = {
    "bargauge": "BarGauge",
    "heatmap": "Heatmap",
    "stat": "Stat",
    "state-timeline": "StateTimeline",
    "table": "Table",
    "text": "Text",
    "timeseries": "TimeSeries",
}


def typescript() -> str:
    """Return the dashboards, and the options of their panels, as values of Grafana's types."""
    lines = [LOOSE]
    for kind, word in OPTIONS.items():
        module = f"@grafana/schema/dist/esm/raw/composable/{kind.replace('-', '')}/panelcfg/x/{word}PanelCfg_types.gen"
        lines.append(f'import type {{ Options as {word} }} from "{module}";')
    for name, board in BOARDS.items():
        lines.append(f"export const {name}: Board = {json.dumps(board)};")
        for panel in board["panels"]:
            if panel["type"] != "row":
                own = f"Partial<Loose<{OPTIONS[panel['type']]}>>"
                lines.append(f"export const {name}_{panel['id']}: {own} = {json.dumps(panel['options'])};")
    lines.append(
        '// @ts-expect-error: the types refuse what is wrong\nexport const wrong: Board["graphTooltip"] = "all";'
    )
    return "\n".join(lines)


@pytest.mark.skipif(
    not (ROOT / ".tools" / "node_modules").exists(), reason="make tools did not install the types"
)
def test_types_of_grafana_accept_them(tmp_path):
    """TypeScript compares the dashboards with `@grafana/schema`."""
    (tmp_path / "node_modules").symlink_to(ROOT / ".tools" / "node_modules")
    settings = {
        "strict": True, "noEmit": True, "skipLibCheck": True,
        "module": "esnext", "moduleResolution": "bundler", "target": "es2022",
    }  # fmt: skip
    (tmp_path / "tsconfig.json").write_text(json.dumps({"compilerOptions": settings, "files": ["boards.ts"]}))
    compiler = ROOT / ".tools" / "node_modules" / "typescript" / "bin" / "tsc"
    node = shutil.which("node") or pytest.skip("node is not there")

    (tmp_path / "boards.ts").write_text(typescript())
    done = subprocess.run([node, compiler, "-p", tmp_path], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
