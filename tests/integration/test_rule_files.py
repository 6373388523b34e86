"""The files that `make rules` generates, and the runbooks."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from deploy.rules.files import DEPLOY, files
from tests.drivers.rules import ALERTS, BY_TEAM, RECORDING
from tests.integration.test_deploy import run

ROOT = DEPLOY.parent
GRAFANA = DEPLOY / "grafana" / "alerting" / "pipeline-exporter.yml"
RUNBOOKS = ROOT / "docs" / "runbooks"
METRICS = (ROOT / "docs" / "metrics.md").read_text(encoding="utf-8")


def rules(file: Path) -> list[dict[str, Any]]:
    return [rule for group in yaml.safe_load(file.read_text())["groups"] for rule in group["rules"]]


EACH_ALERT = [pytest.param(rule, id=rule["alert"]) for rule in rules(ALERTS)]


@pytest.mark.parametrize("file", files(), ids=lambda path: str(path.relative_to(DEPLOY)))
def test_the_file_is_what_the_source_generates(file):
    """Run `make rules` to update the file."""
    assert file.read_text(encoding="utf-8") == files()[file]


@pytest.mark.parametrize(
    ("file", "count"),
    [(RECORDING, len(rules(RECORDING))), (ALERTS, 26), (BY_TEAM, 26)],
    ids=str,
)
def test_prometheus_accepts_the_rules_without_a_warning(promtool, file, count):
    assert f"{count} rules found" in run(promtool, "check", "rules", "--lint=all", "--lint-fatal", file)


def test_the_address_of_the_runbooks_is_one_setting():
    generated = files("https://wiki.test/runbooks/")
    for file in (ALERTS, BY_TEAM, GRAFANA):
        assert "example.com" not in generated[file]
        assert generated[file].count("https://wiki.test/runbooks/") == 26


@pytest.mark.parametrize("rule", EACH_ALERT)
def test_an_alert_has_a_severity_a_summary_and_its_runbook(rule):
    assert rule["labels"]["severity"] in {"critical", "warning", "info"}
    texts = rule["annotations"]
    assert texts.keys() == {"summary", "description", "runbook_url"}
    assert re.fullmatch(r"[A-Z][^{]*\.", texts["summary"])
    assert "\nNext: " in texts["description"]
    assert texts["runbook_url"].endswith(f"/{rule['alert']}.md")


@pytest.mark.parametrize("rule", EACH_ALERT)
def test_no_alert_depends_on_another_or_on_the_labels_of_a_target(rule):
    """`ALERTS` would keep an alert firing for its own sake. Recorded series have no labels of a target."""
    assert "ALERTS" not in rule["expr"]
    for metric in re.finditer(
        r"(?<![\w:])(?:ci_pipeline|pipeline_exporter)_\w+(?![\w:])|\bup\{", rule["expr"]
    ):
        before = rule["expr"][: metric.start()]
        assert before[before.rfind("without") :].startswith("without (instance, pod"), metric[0]


def test_metrics_in_the_rules_are_documented():
    text = "".join(path.read_text() for path in (RECORDING, ALERTS))
    used = {
        re.sub(r"_(bucket|sum|count)$", "", name)
        for name in re.findall(r"(?<![\w:])((?:ci_pipeline|pipeline_exporter)_[a-z_]+)(?![\w:])", text)
    }
    assert len(used) > 30
    assert {name for name in used if f"`{name}`" not in METRICS} == set()


def recorded() -> set[str]:
    return {rule["record"] for rule in rules(RECORDING)}


def test_recorded_series_in_alerts_and_runbooks_exist():
    texts = [ALERTS.read_text(), *(page.read_text() for page in RUNBOOKS.glob("*.md"))]
    used = set(re.findall(r"\b(?:pipeline|project|stage|job):\w+:\w+", "".join(texts)))
    assert len(used) > 10
    assert used <= recorded()


def test_weeks_are_built_from_the_hours():
    """No rule reads the buckets of more than an hour."""
    for rule in rules(RECORDING):
        if re.search(r"\[(7d|30d)\]", rule["expr"]):
            assert re.fullmatch(r"sum_over_time\([a-z]+:\w+:increase1h\[(7d|30d)\]\) / 12", rule["expr"])


def test_grafana_has_the_same_alerts():
    provisioned = yaml.safe_load(GRAFANA.read_text())
    assert provisioned["apiVersion"] == 1
    found = [rule for group in provisioned["groups"] for rule in group["rules"]]
    for rule, source in zip(found, rules(BY_TEAM), strict=True):
        assert rule["title"] == source["alert"]
        assert rule["data"][0]["model"]["expr"] == source["expr"]
        assert rule["for"] == source.get("for", "0s")
        assert rule.get("keepFiringFor") == source.get("keep_firing_for")
        assert rule["labels"] == source["labels"]
        assert rule["condition"] == rule["data"][1]["refId"]


def test_grafana_accepts_the_fields_of_the_alerts():
    """Uids are unique, with at most 40 characters. A `$` in texts would be replaced by a variable of the environment."""
    provisioned = yaml.safe_load(GRAFANA.read_text())
    found = [rule for group in provisioned["groups"] for rule in group["rules"]]
    uids = [rule["uid"] for rule in found]
    assert len(set(uids)) == len(uids)
    assert all(re.fullmatch(r"[a-z0-9-]{1,40}", uid) for uid in uids)
    for rule in found:
        for text in (*rule["annotations"].values(), *rule["labels"].values()):
            assert "$" not in text
            assert not re.search(r"(?<!\.A)\.Value\b", text)


@pytest.mark.parametrize("rule", EACH_ALERT)
def test_each_alert_has_a_runbook(rule):
    page = (RUNBOOKS / f"{rule['alert']}.md").read_text()
    titles = re.findall(r"^#+ (.*)$", page, re.MULTILINE)
    assert titles == [rule["alert"], "Meaning", "Impact", "First commands", "Causes", "Fixes"]
    assert len(re.findall(r"^\d\. ", page, re.MULTILINE)) == 3
    assert len(page.splitlines()) < 60


def test_each_runbook_has_an_alert_and_a_line_in_the_index():
    names = {rule["alert"] for rule in rules(ALERTS)}
    assert {page.stem for page in RUNBOOKS.glob("*.md")} == names | {"README"}
    assert set(re.findall(r"\]\((\w+)\.md\)", (RUNBOOKS / "README.md").read_text())) == names


def test_queries_in_runbooks_are_valid(promtool, tmp_path):
    """Each is checked as a recording rule."""
    queries = [
        query.strip()
        for page in sorted(RUNBOOKS.glob("*.md"))
        for query in re.findall(r"```promql\n(.*?)```", page.read_text(), re.DOTALL)
    ]
    assert len(queries) > 30
    file = tmp_path / "queries.yml"
    group = {
        "name": "runbooks",
        "rules": [{"record": f"query:number{n}", "expr": q} for n, q in enumerate(queries)],
    }
    file.write_text(yaml.safe_dump({"groups": [group]}))
    run(promtool, "check", "rules", file)
