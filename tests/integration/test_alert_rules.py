"""Each alert fires on its trouble alone, outlives outages, and says what to do, as evaluated by promtool."""

import pytest
import yaml

from tests.drivers.rules import (
    ALERTS,
    GOLDEN,
    PROJECT,
    pipeline,
    project,
    series,
)

RULES = {
    rule["alert"]: rule for group in yaml.safe_load(ALERTS.read_text())["groups"] for rule in group["rules"]
}
LONG = 400
"""Minutes of a series that lasts longer than any test."""
STAGE = {"stage_name": "Deploy", "stage_sequence": "2"}
RUN = "https://example.com/runs/45"


def constant(value: float) -> str:
    return f"{value}x{LONG}"


def steps(*parts: tuple[float | str, int]) -> str:
    """Return (value, minutes) parts in promtool's notation; `_` stands for minutes without a sample."""
    # promtool: 1x2 is three samples, _x2 is two.
    return " ".join(
        f"{value}x{minutes - (value != '_')}" if minutes > 1 else f"{value}" for value, minutes in parts
    )


FAILED = pipeline("ci_pipeline_latest_finished_run_status", status="failed")
UP = series("up")
PIPELINE_UP = pipeline("ci_pipeline_up")
INFO = pipeline("ci_pipeline_info", url="https://example.com/pipelines/p1", label_team="payments")
START = pipeline("ci_pipeline_latest_run_start_timestamp_seconds")
CHANGE = pipeline("ci_pipeline_latest_run_status_change_timestamp_seconds")
OLDEST = pipeline("ci_pipeline_oldest_active_run_start_timestamp_seconds")
RUNNING = pipeline("ci_pipeline_latest_run_status", status="running")
WAITING = pipeline("ci_pipeline_latest_run_status", status="waiting")
FAILURES = pipeline("ci_pipeline_consecutive_failures")
STAGE_CHANGE = pipeline("ci_pipeline_latest_run_stage_status_change_timestamp_seconds", **STAGE)
MISSED = pipeline("ci_pipeline_runs_missed_total")
PROJECT_UP = project("pipeline_exporter_project_up")
SUCCESS = project("pipeline_exporter_last_success_timestamp_seconds")
DOWN = project("pipeline_exporter_project_down_since_timestamp_seconds")
VALID = project("pipeline_exporter_credentials_valid")
MANUAL = project("pipeline_exporter_credentials_expiry_timestamp_seconds", renewal="manual")
AUTO = project("pipeline_exporter_credentials_expiry_timestamp_seconds", renewal="auto")
THROTTLED = project("pipeline_exporter_api_throttled_total")
REJECTED = project("pipeline_exporter_rejected_records_total", reason="unreadable")
WITHHELD = project("pipeline_exporter_series_withheld")
REFUSED = project("pipeline_exporter_pipelines_refused")
NOT_LISTED = project("pipeline_exporter_pipelines_not_listed")
SELECTED = project("pipeline_exporter_pipelines_listed", selected="true")
UNSELECTED = project("pipeline_exporter_pipelines_listed", selected="false")
STATE_UP = series("pipeline_exporter_state_up")
RELOADED = series("pipeline_exporter_config_last_reload_successful")

HEALTHY = {
    UP: constant(1),
    PIPELINE_UP: constant(1),
    INFO: constant(1),
    FAILED: constant(0),
    pipeline("ci_pipeline_latest_finished_run_status", status="success"): constant(1),
    START: constant(0),
    CHANGE: constant(600),
    RUNNING: constant(0),
    WAITING: constant(0),
    FAILURES: constant(0),
    MISSED: constant(0),
    pipeline("ci_pipeline_latest_run_number"): constant(46),
    pipeline("ci_pipeline_latest_run_info", trigger="push", branch="main", url=RUN): constant(1),
    pipeline("ci_pipeline_latest_finished_run_number"): constant(45),
    pipeline("ci_pipeline_latest_finished_run_info", trigger="push", branch="main", url=RUN): constant(1),
    PROJECT_UP: constant(1),
    SUCCESS: f"0+60x{LONG}",
    project("pipeline_exporter_poll_interval_seconds"): constant(60),
    VALID: constant(1),
    MANUAL: constant(90 * 86400),
    AUTO: f"7200+60x{LONG}",
    THROTTLED: constant(0),
    REJECTED: constant(0),
    WITHHELD: constant(0),
    REFUSED: constant(0),
    NOT_LISTED: constant(0),
    SELECTED: constant(3),
    UNSELECTED: constant(7),
    STATE_UP: constant(1),
    RELOADED: constant(1),
}
RED = {
    FAILED: steps((0, 10), (1, 60), (0, 100)),
    pipeline("ci_pipeline_latest_finished_run_failed_stage", **STAGE): steps(("_", 10), (1, 60)),
    pipeline("ci_pipeline_broken_since_timestamp_seconds"): steps(("_", 10), (540, 60)),
}


def pipelines(count: int, red: int) -> dict[str, str]:
    """Return pipelines of one project, of which some turn red after ten minutes and green an hour later."""
    return {
        series(
            "ci_pipeline_latest_finished_run_status",
            {**PROJECT, "pipeline": f"service-{number}", "pipeline_id": f"s{number}"},
            status="failed",
        ): steps((0, 10), (1 if number < red else 0, 60), (0, 100))
        for number in range(count)
    }


def shards(*totals: int, missing: tuple[int, ...] = ()) -> dict[str, str]:
    """Return exporters that share a configuration; some stop after ten minutes and are back after forty."""
    found = {}
    for index, total in enumerate(totals):
        target = {"instance": f"{index}:10047", "pod": f"exporter-{index}"}
        gone = index in missing
        for name, value in (("shard_index", index), ("shards", total)):
            values = steps((value, 10), ("stale", 1), ("_", 39), (value, 60)) if gone else constant(value)
            found[series(f"pipeline_exporter_{name}", target)] = values
    return found


# Each alert: what changes on a healthy exporter, when it does not fire yet, when it fires, and when no longer.
TROUBLE = {
    "PipelineFailed": (RED, 9, 10, 75),
    "PipelineFailingRepeatedly": ({**RED, FAILURES: steps((0, 10), (2, 20), (3, 30), (0, 60))}, 25, 31, 66),
    "PipelinesManyRed": (pipelines(19, 6), 9, 11, 76),
    "PipelineRunStuckWithoutHistory": (
        {
            RUNNING: steps((1, 200), (0, 60)),
            OLDEST: steps((60, 200)),
            pipeline("ci_pipeline_latest_run_stage_status", **STAGE, status="running"): steps((1, 200)),
        },
        120, 122, 206,
    ),
    "PipelineRunWaiting": (
        {
            WAITING: steps((0, 10), (1, 300), (0, 60)),
            CHANGE: constant(600),
            OLDEST: steps((60, 310)),
            pipeline("ci_pipeline_latest_run_stage_status", **STAGE, status="waiting"): steps(("_", 10), (1, 300)),
        },
        249, 252, 316,
    ),
    "PipelineExporterProjectDown": (
        {
            PROJECT_UP: steps((1, 10), (0, 40), (1, 60)),
            DOWN: steps(("_", 11), (600, 39), ("stale", 1)),
            project(
                "pipeline_exporter_project_failure_info",
                operation="list_runs", code="503", error_code="DEVPIPE.0001",
            ): steps(("_", 11), (1, 39)),
        },
        15, 17, 62,
    ),
    "PipelineExporterStale": (
        {PROJECT_UP: steps((0, 60), (1, 60)), SUCCESS: steps(("0+60", 10), (600, 50), ("3600+60", 60))},
        34, 36, 72,
    ),
    "PipelineExporterCredentialsRefused": ({VALID: steps((1, 10), (0, 40), (1, 60))}, 14, 16, 62),
    "PipelineExporterCredentialsExpiring": ({MANUAL: steps((7 * 86400 + 600, 40), (90 * 86400, 60))}, 15, 17, 46),
    "PipelineExporterThrottled": ({THROTTLED: steps((0, 10), ("0+5", 40), (200, 60))}, 24, 30, 85),
    "PipelineExporterRecordsRejected": ({REJECTED: steps((0, 10), (2, 120))}, 9, 11, 75),
    "PipelineExporterRunsMissed": ({MISSED: steps((0, 10), (2, 120))}, 9, 11, 75),
    "PipelineExporterSeriesWithheld": ({WITHHELD: steps((0, 10), (120, 40), (0, 60))}, 19, 21, 62),
    "PipelineExporterPipelinesRefused": ({REFUSED: steps((0, 10), (2, 40), (0, 60))}, 19, 21, 62),
    "PipelineExporterPipelinesNotListed": ({NOT_LISTED: steps((0, 10), (2, 40), (0, 60))}, 19, 21, 62),
    "PipelineExporterNothingSelected": ({SELECTED: steps((3, 10), (0, 40), (3, 60))}, 19, 21, 62),
    "PipelineExporterStateDown": ({STATE_UP: steps((1, 10), (0, 40), (1, 60))}, 19, 21, 62),
    "PipelineExporterReloadFailed": ({RELOADED: steps((1, 10), (0, 40), (1, 60))}, 19, 21, 62),
    "PipelineExporterShardMissing": (shards(3, 3, 3, missing=(1,)), 18, 22, 60),
    "PipelineExporterShardMismatch": (shards(4, 4, 4, 4) | {
        series("pipeline_exporter_shards", instance="0:10047", pod="exporter-0"): steps((4, 10), (3, 40), (4, 60))
    }, 24, 26, 62),
    "PipelineExporterGone": ({UP: steps((1, 10), (0, 40), (1, 60))}, 14, 16, 57),
}  # fmt: skip
# These look back for days; test_alert_history.py has them.
HISTORY = {
    "PipelineRunStuck", "PipelineNotRun", "PipelineSuccessRatioDropped", "PipelineSlower", "PipelineStageSlower",
}  # fmt: skip


def minutes(*times: int) -> list[str]:
    return [f"{time}m" for time in times]


def test_every_alert_has_its_trouble():
    assert TROUBLE.keys() | HISTORY == RULES.keys()


def test_no_alert_fires_on_a_healthy_exporter(evaluate):
    found = evaluate(HEALTHY, at=minutes(0, 5, 30, 120, 390))
    assert found.names() == [set()] * 5


@pytest.mark.parametrize("alert", TROUBLE)
def test_alert_fires_on_its_trouble_alone_and_says_what_to_do(evaluate, alert):
    """An engineer who reads only this text knows the cause and the next step."""
    changes, *times = TROUBLE[alert]
    _, during, _ = minutes(*times)
    found = evaluate(HEALTHY | changes, at=minutes(*times), texts=[(during, alert)])
    assert found.firing(alert) == [0, 1, 0]
    # These alerts imply another one, which the example for Alertmanager inhibits.
    including = {"PipelineFailingRepeatedly": {"PipelineFailed"}, "PipelinesManyRed": {"PipelineFailed"}}
    assert found.names()[1] == {alert} | including.get(alert, set())
    text = found.annotations(alert)
    assert text["runbook_url"].endswith(f"/{alert}.md")
    assert f"{text['summary']}\n{text['description']}\n" == (GOLDEN / f"{alert}.txt").read_text()


@pytest.mark.parametrize(
    ("reason", "said"),
    [
        ("wrong_number", "Only the numbers of these runs are not used; counters and statuses are right."),
        ("duplicate", "The other record of the same run was used, so values are right."),
    ],
)
def test_rejected_records_that_change_no_value_say_so(evaluate, reason, said):
    rejected = {project("pipeline_exporter_rejected_records_total", reason=reason): steps((0, 10), (2, 50))}
    alert = "PipelineExporterRecordsRejected"
    text = evaluate(HEALTHY | rejected, at=["20m"], texts=[("20m", alert)]).annotations(alert)
    assert said in text["description"]
    assert "last values" not in text["description"]


def test_expired_credentials_say_how_long_ago(evaluate):
    alert = "PipelineExporterCredentialsExpiring"
    found = evaluate(HEALTHY | {MANUAL: constant(600)}, at=["20m"], texts=[("20m", alert)])
    assert "(codearts) expired 10m 0s ago. You renew them." in found.annotations(alert)["description"]


def test_a_stuck_run_that_a_newer_one_hides_is_an_older_one(evaluate):
    alert = "PipelineRunStuckWithoutHistory"
    hidden = {OLDEST: constant(60), START: constant(3600), RUNNING: constant(1)}
    found = evaluate(HEALTHY | hidden, at=["130m"], texts=[("130m", alert)])
    assert "The run in question is an older one" in found.annotations(alert)["description"]
