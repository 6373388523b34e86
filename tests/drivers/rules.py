"""Evaluate the rules over made-up series with promtool."""

import json
import re
import subprocess
from collections.abc import Sequence
from pathlib import Path

import yaml

DEPLOY = Path(__file__).parents[2] / "deploy"
RECORDING = DEPLOY / "prometheus" / "rules" / "recording.yml"
ALERTS = DEPLOY / "prometheus" / "rules" / "alerts.yml"
BY_TEAM = DEPLOY / "prometheus" / "rules-by-team" / "alerts.yml"
GOLDEN = DEPLOY.parent / "tests" / "golden" / "alerts"
"""Folder of the expected texts of alerts."""

Labels = dict[str, str]
Sample = tuple[Labels, float]
TARGET = {"job": "pipeline-exporter", "instance": "a:10047", "pod": "a"}
PROJECT = {"provider": "codearts", "project": "shop"}
PIPELINE = {**PROJECT, "pipeline": "checkout", "pipeline_id": "p1"}

_STRING = r'(\w+)=("(?:[^"\\]|\\.)*")'
FIRING = 'ALERTS{alertstate="firing"}'


def series(name: str, labels: Labels | None = None, **more: str) -> str:
    """Return the name of a series of the exporter as Prometheus stores it."""
    pairs = ", ".join(f'{key}="{value}"' for key, value in {**TARGET, **(labels or {}), **more}.items())
    return f"{name}{{{pairs}}}"


def project(name: str, **more: str) -> str:
    return series(name, PROJECT, **more)


def pipeline(name: str, **more: str) -> str:
    return series(name, PIPELINE, **more)


def _pairs(text: str) -> Labels:
    return {key: json.loads(value) for key, value in re.findall(_STRING, text)}


class Evaluation:
    """Results of the rules for made-up series."""

    def __init__(
        self,
        promtool: str,
        folder: Path,
        values: dict[str, str],
        *,
        at: Sequence[str],
        expression: str = FIRING,
        texts: Sequence[tuple[str, str]] = (),
        alerts: Path = ALERTS,
        step: str = "1m",
    ) -> None:
        """Evaluate `expression` at the times `at`, and the texts of alerts for the (time, alert) pairs in `texts`.

        `values` are the values of each series in promtool's notation. promtool compares results but does not print
        them. Therefore its test expects nothing, and the results are read from the differences that it reports.
        """
        test = {
            "interval": step,
            "input_series": [{"series": name, "values": value} for name, value in values.items()],
            "promql_expr_test": [{"expr": expression, "eval_time": time} for time in at],
            "alert_rule_test": [{"alertname": alert, "eval_time": time} for time, alert in texts],
        }
        suite = {
            "rule_files": [str(RECORDING), str(alerts)],
            "group_eval_order": [
                group["name"]
                for file in (RECORDING, alerts)
                for group in yaml.safe_load(file.read_text())["groups"]
            ],
            "evaluation_interval": step,
            "tests": [test],
        }
        file = folder / "rules.test.yml"
        file.write_text(yaml.safe_dump(suite, width=100_000))
        done = subprocess.run(
            [promtool, "test", "rules", str(file)], capture_output=True, text=True, check=False
        )
        self._output = done.stdout + done.stderr
        found = re.findall(r"\n    expr: .*, time: (.*),\n +exp: nil\n +got: (.*)", self._output)
        assert done.returncode == 0 or found or "alertname:" in self._output, self._output
        # promtool writes 1h5m for 65m, so times are compared in minutes.
        parsed = {
            _minutes(time): [
                (_pairs(labels), float(value))
                for labels, value in re.findall(r"\{(.*?)\} ([-+.\deEInfNa]+)", got)
            ]
            for time, got in found
        }
        self.samples: list[list[Sample]] = [parsed.get(_minutes(time), []) for time in at]
        """The samples of the expression at each time."""

    def firing(self, alert: str) -> list[int]:
        """Return how many alerts with this name fire at each time."""
        return [sum(labels["alertname"] == alert for labels, _ in samples) for samples in self.samples]

    def names(self) -> list[set[str]]:
        """Return the names of the alerts that fire at each time."""
        return [{labels["alertname"] for labels, _ in samples} for samples in self.samples]

    def annotations(self, alert: str) -> Labels:
        """Return the annotations of the first result for an alert."""
        found = re.search(rf'Labels:\{{alertname="{alert}".*\n +Annotations:\{{(.*)\}}', self._output)
        assert found, self._output
        return _pairs(found[1])


def _minutes(time: str) -> float:
    units = {"d": 1440, "h": 60, "m": 1, "s": 1 / 60}
    return sum(float(number) * units[unit] for number, unit in re.findall(r"(\d+)([dhms])", time))
