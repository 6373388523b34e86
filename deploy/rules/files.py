"""Render the rules as files for Prometheus and Grafana."""

import re
import textwrap
from dataclasses import replace
from pathlib import Path
from typing import Any

import yaml

from deploy.rules import exporter, pipelines, recording
from deploy.rules.model import Alert, Group, Record, with_labels

DEPLOY = Path(__file__).parents[1]
RUNBOOKS = "https://example.com/pipeline-exporter/runbooks/"
"""Where docs/runbooks is published; set your own with `make rules RUNBOOKS=…`."""
TEAM = "label_team"
DATA_SOURCE = "prometheus"
"""The uid of Grafana's data source."""

_NOTICE = "Generated from deploy/rules by `make rules`: change the source, not this file."
_RUNBOOKS_NOTICE = "Set the addresses of the runbooks to your own with `make rules RUNBOOKS=https://…/`."
Rules = tuple[Group[Alert], ...]


def _comment(text: str, indent: int) -> str:
    pad = " " * indent + "# "
    return textwrap.fill(text, 116, initial_indent=pad, subsequent_indent=pad, break_on_hyphens=False) + "\n"


def _block(key: str, text: str, indent: int) -> str:
    """Return a YAML key with a block of text, which may have several lines."""
    pad = " " * indent
    return f"{pad}{key}: |-\n{textwrap.indent(text, pad + '  ')}\n"


def _rule(rule: Record | Alert, runbooks: str) -> str:
    note = _comment(rule.note, 6) if rule.note else ""
    expr = _block("expr", rule.expr, 8)
    if isinstance(rule, Record):
        return f"{note}      - record: {rule.name}\n{expr}"
    return (
        f"{note}      - alert: {rule.name}\n{expr}"
        + (f"        for: {rule.waiting}\n" if rule.waiting else "")
        + (f"        keep_firing_for: {rule.keep_firing}\n" if rule.keep_firing else "")
        + f"        labels:\n          severity: {rule.severity}\n"
        + "".join(f"          {name}: {value}\n" for name, value in rule.labels.items())
        + f"        annotations:\n          summary: {rule.summary}\n"
        + _block("description", rule.description, 10)
        + f"          runbook_url: {runbooks}{rule.name}.md\n"
    )


def _group(group: Group[Any], runbooks: str) -> str:
    note = _comment(group.note, 2) if group.note else ""
    interval = f"    interval: {group.interval}\n" if group.interval else ""
    rules = "\n".join(_rule(rule, runbooks) for rule in group.rules)
    return f"{note}  - name: {group.name}\n{interval}    rules:\n{rules}"


def _prometheus(groups: tuple[Group[Any], ...], head: str, runbooks: str = "") -> str:
    return (
        f"{_comment(_NOTICE, 0)}{_comment(head, 0)}groups:\n"
        + "\n".join(_group(group, runbooks) for group in groups)
    )  # fmt: skip


class _Dumper(yaml.SafeDumper):
    """YAML dumper that writes text of several lines as a block."""


def _text(dumper: _Dumper, text: str) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style="|" if "\n" in text else None)


_Dumper.add_representer(str, _text)


def _uid(name: str) -> str:
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "-", name).lower()


def _grafana_rule(alert: Alert, runbooks: str) -> dict[str, Any]:
    """Return an alert in Grafana's provisioning format; each row of its query fires, as in Prometheus."""
    query = {
        "refId": "A",
        "relativeTimeRange": {"from": 600, "to": 0},
        "datasourceUid": DATA_SOURCE,
        "model": {"refId": "A", "expr": alert.expr, "instant": True, "range": False},
    }
    condition = {
        "refId": "B",
        "datasourceUid": "__expr__",
        "model": {
            "refId": "B",
            "type": "math",
            "expression": "is_number($A)",
            "datasource": {"type": "__expr__", "uid": "__expr__"},
        },
    }
    rule: dict[str, Any] = {
        "uid": _uid(alert.name),
        "title": alert.name,
        "condition": "B",
        "data": [query, condition],
        "noDataState": "OK",
        "execErrState": "Error",
        "for": alert.waiting or "0s",
    }
    if alert.keep_firing:
        rule["keepFiringFor"] = alert.keep_firing
    return rule | {
        "labels": {"severity": alert.severity, **alert.labels},
        "annotations": {
            "summary": alert.summary,
            "description": re.sub(r"\.Value\b", ".Values.A.Value", alert.description),
            "runbook_url": f"{runbooks}{alert.name}.md",
        },
    }


def _grafana(groups: Rules, runbooks: str) -> str:
    provisioned = {
        "apiVersion": 1,
        "groups": [
            {
                "orgId": 1,
                "name": group.name,
                "folder": "Pipelines",
                "interval": "1m",
                "rules": [_grafana_rule(alert, runbooks) for alert in group.rules],
            }
            for group in groups
        ],
    }
    head = (
        "The alerts of prometheus/rules-by-team as Grafana's own. Prometheus must load recording.yml. The data source has "
        f"the uid {DATA_SOURCE}. Grafana runs no queries in templates, so its texts lack run, branch, stage and link."
    )
    notice = "".join(_comment(text, 0) for text in (_NOTICE, head, _RUNBOOKS_NOTICE))
    return notice + yaml.dump(provisioned, Dumper=_Dumper, sort_keys=False, width=1000, allow_unicode=True)


def files(runbooks: str = RUNBOOKS) -> dict[Path, str]:
    """Return the text of each generated file, by path."""
    plain: Rules = (pipelines.ALERTS, exporter.ALERTS)
    routed = tuple(with_labels(alert, TEAM) for alert in exporter.ALERTS.rules)
    by_team: Rules = (pipelines.by_label(TEAM), replace(exporter.ALERTS, rules=routed))
    head = "Alerts. They need recording.yml and Prometheus 2.42 or newer (keep_firing_for)."
    return {
        DEPLOY / "prometheus" / "rules" / "recording.yml": _prometheus(
            recording.GROUPS,
            "Recording rules that alerts and dashboards use. They need Prometheus 2.42 or newer.",
        ),
        DEPLOY / "prometheus" / "rules" / "alerts.yml": _prometheus(
            plain, f"{head} {_RUNBOOKS_NOTICE}", runbooks
        ),
        DEPLOY / "prometheus" / "rules-by-team" / "alerts.yml": _prometheus(
            by_team,
            f"{head} Each alert on a pipeline has the label {TEAM}, for routing: `labels: {{team: …}}` in the "
            f"configuration of the exporter. Load this file instead of rules/alerts.yml. {_RUNBOOKS_NOTICE}",
            runbooks,
        ),
        DEPLOY / "grafana" / "alerting" / "pipeline-exporter.yml": _grafana(by_team, runbooks),
    }
