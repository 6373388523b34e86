"""Recording rules and the alerts that compare a day with the week before, evaluated over nine days by promtool.

It evaluates them every half hour, because five minutes would take six times as long. So there are a sixth as many values,
and the sums of days and weeks are a sixth of the correct ones.

Prometheus 2 has both ends of a window, Prometheus 3 its last one alone. Counters grow at each sample, so that increases do
not depend on it; a pause between two lives keeps their ratios apart.
"""

from collections.abc import Sequence
from itertools import accumulate

import pytest

from tests.drivers.rules import GOLDEN, PROJECT, Evaluation, series

DAYS = 9
PER_HOUR = 2
"""Number of evaluations and samples in an hour."""
HOURS = DAYS * 24
BUCKETS = {"60.0": 60, "300.0": 300, "600.0": 600, "1800.0": 1800, "28800.0": 28_800, "+Inf": 10**9}
ALWAYS = f"1x{HOURS * PER_HOUR}"
# What each pipeline did: a run every half hour, and another life since the last day began.
LAST_DAY = 24
PAUSE = 2
"""Hours without a run before the last day. A window of a day has increases of hours that began before it."""


def pipeline(name: str) -> dict[str, str]:
    return {**PROJECT, "pipeline": name, "pipeline_id": name}


def counter(increments: Sequence[float]) -> str:
    """Return the values of a counter that grows every half hour.

    It begins far from 0, because Prometheus estimates increases in another way near 0.
    """
    return " ".join(str(total) for total in accumulate(increments, initial=1000))


def hours(number: int, increment: float) -> list[float]:
    return [increment] * number * PER_HOUR


def lives(before: float, last_day: float) -> list[float]:
    return hours(HOURS - LAST_DAY - PAUSE, before) + hours(PAUSE, 0) + hours(LAST_DAY, last_day)


def runs(name: str, *, success: list[float], failed: list[float]) -> dict[str, str]:
    labels = pipeline(name)
    return {
        series(
            "ci_pipeline_info", labels, label_deploys="production" if name == "flaky" else ""
        ): f"1x{HOURS * PER_HOUR}",
        series("ci_pipeline_latest_run_number", labels): ALWAYS.replace("1x", "217x"),
        series("ci_pipeline_latest_finished_run_number", labels): ALWAYS.replace("1x", "216x"),
        series("ci_pipeline_runs_total", labels, status="success"): counter(success),
        series("ci_pipeline_runs_total", labels, status="failed"): counter(failed),
        series("ci_pipeline_runs_total", labels, status="canceled"): counter(hours(HOURS, 3)),
        series("ci_pipeline_recoveries_total", labels): counter(failed),
        series("ci_pipeline_recovery_seconds_total", labels): counter([900 * number for number in failed]),
    }


def histogram(metric: str, labels: dict[str, str], seconds: list[float]) -> dict[str, str]:
    """Return a histogram with an observation every half hour; 0 stands for no observation."""
    found = {
        series(f"{metric}_bucket", labels, status="success", le=le): counter(
            [int(0 < value <= bound) for value in seconds]
        )
        for le, bound in BUCKETS.items()
    }
    found[series(f"{metric}_sum", labels, status="success")] = counter(seconds)
    found[series(f"{metric}_count", labels, status="success")] = counter(
        [int(value > 0) for value in seconds]
    )
    return found


def stage(name: str, seconds: list[float]) -> dict[str, str]:
    return histogram("ci_pipeline_stage_duration_seconds", {**PROJECT, "stage_name": name}, seconds)


def duration(name: str, seconds: list[float]) -> dict[str, str]:
    return histogram("ci_pipeline_run_duration_seconds", pipeline(name), seconds)


GROWING = f"0+{3600 // PER_HOUR}x{HOURS * PER_HOUR}"
LIVES = {
    series("up"): ALWAYS,
    **runs("steady", success=hours(HOURS, 1), failed=hours(HOURS, 0)),
    **duration("steady", hours(HOURS, 100)),
    **stage("Test", hours(HOURS, 50)),
    # Half of its runs fail on the last day.
    **runs("flaky", success=lives(2, 1), failed=lives(0, 1)),
    **runs("slow", success=hours(HOURS, 1), failed=hours(HOURS, 0)),
    **duration("slow", lives(100, 500)),
    **stage("Build", lives(50, 200.5)),
    # Its last run began three and a half days before the end.
    **runs("idle", success=hours(HOURS - 84, 1) + hours(84, 0), failed=hours(HOURS, 0)),
    series("ci_pipeline_latest_run_start_timestamp_seconds", pipeline("idle")): f"0+{3600 // PER_HOUR}x{(HOURS - 84) * PER_HOUR} "
    f"{(HOURS - 84) * 3600}x{84 * PER_HOUR}",
    # A run that began an hour before the end; usual are 100 seconds.
    **runs("stuck", success=hours(HOURS, 1), failed=hours(HOURS, 0)),
    **duration("stuck", hours(HOURS, 100)),
    series("ci_pipeline_latest_run_start_timestamp_seconds", pipeline("stuck")): GROWING,
    series("ci_pipeline_oldest_active_run_start_timestamp_seconds", pipeline("stuck")):
    f"_x{(HOURS - 1) * PER_HOUR} {(HOURS - 1) * 3600}x{PER_HOUR}",
    # A run that began five hours before the end, where runs usually take that long.
    **duration("long", hours(HOURS, 20_000)),
    series("ci_pipeline_latest_run_start_timestamp_seconds", pipeline("long")): GROWING,
    series("ci_pipeline_oldest_active_run_start_timestamp_seconds", pipeline("long")):
    f"_x{(HOURS - 5) * PER_HOUR} {(HOURS - 5) * 3600}x{5 * PER_HOUR}",
}  # fmt: skip
BEFORE, AFTER = f"{HOURS - LAST_DAY}h", f"{HOURS}h"
ALERTS = {
    ("PipelineSuccessRatioDropped", "flaky"),
    ("PipelineSlower", "slow"),
    ("PipelineStageSlower", "Build"),
    ("PipelineNotRun", "idle"),
    ("PipelineRunStuck", "stuck"),
}


@pytest.fixture(scope="module")
def evaluated(promtool, tmp_path_factory) -> Evaluation:
    """Return the results of all rules at the end of the eighth and of the ninth day."""
    return Evaluation(
        promtool,
        tmp_path_factory.mktemp("history"),
        LIVES,
        at=[BEFORE, AFTER],
        step=f"{60 // PER_HOUR}m",
        expression='{__name__=~"ALERTS|.+:.+"}',
        texts=[(AFTER, alert) for alert, _ in ALERTS],
    )


def value(evaluated: Evaluation, name: str, **labels: str) -> float:
    """Return a recorded value at the end."""
    (found,) = (
        number
        for own, number in evaluated.samples[1]
        if own["__name__"] == name and labels.items() <= own.items()
    )
    return found


def test_alerts_that_look_back_fire_for_what_changed_alone(evaluated):
    """The steady pipeline, the one with long runs, and the stage Test have no alert; nothing has one before the change."""
    before, after = (
        {
            (labels["alertname"], labels.get("pipeline") or labels["stage_name"])
            for labels, _ in samples
            if labels["__name__"] == "ALERTS" and labels["alertstate"] == "firing"
        }
        for samples in evaluated.samples
    )
    assert (before, after) == (set(), ALERTS)


@pytest.mark.parametrize("alert", sorted(alert for alert, _ in ALERTS))
def test_text_of_an_alert_that_looks_back(evaluated, alert):
    text = evaluated.annotations(alert)
    assert f"{text['summary']}\n{text['description']}\n" == (GOLDEN / f"{alert}.txt").read_text()


def test_days_and_weeks_add_the_increases_of_hours(evaluated):
    """Each of the twelve values of an hour counts a twelfth; this test has two values an hour."""
    runs = {"pipeline": "flaky", "status": "success"}
    part = PER_HOUR / 12
    hour = value(evaluated, "pipeline:ci_pipeline_runs:increase1h", **runs)
    assert hour == pytest.approx(PER_HOUR)
    day = value(evaluated, "pipeline:ci_pipeline_runs:increase1d", **runs)
    assert day == pytest.approx(24 * PER_HOUR * part, rel=0.05)
    week = value(evaluated, "pipeline:ci_pipeline_runs:increase7d", **runs)
    assert week == pytest.approx((2 * (144 - PAUSE) + 24) * PER_HOUR * part, rel=0.05)


def test_ratios_quantiles_and_means_are_those_of_the_runs(evaluated):
    assert value(evaluated, "pipeline:ci_pipeline_runs:success_ratio1d", pipeline="flaky") == pytest.approx(
        0.5
    )
    assert value(evaluated, "pipeline:ci_pipeline_runs:success_ratio7d", pipeline="steady") == pytest.approx(
        1
    )
    assert 60 < value(evaluated, "pipeline:ci_pipeline_run_duration_seconds:p50_7d", pipeline="steady") <= 300
    assert 300 < value(evaluated, "pipeline:ci_pipeline_run_duration_seconds:p95_1d", pipeline="slow") <= 600
    assert value(
        evaluated, "stage:ci_pipeline_stage_duration_seconds:mean1d", stage_name="Build"
    ) == pytest.approx(200.5)
    assert value(evaluated, "stage:ci_pipeline_stage_duration_seconds:p95_1d", stage_name="Test") <= 60


def test_delivery_counts_pipelines_that_a_label_marks(evaluated):
    deployments = {
        labels["pipeline"]
        for labels, _ in evaluated.samples[1]
        if labels["__name__"].startswith("pipeline:ci_pipeline_deployments:")
    }
    assert deployments == {"flaky"}
    labels = {"pipeline": "flaky", "label_deploys": "production"}
    assert value(evaluated, "pipeline:ci_pipeline_deployments:failure_ratio1d", **labels) == pytest.approx(
        0.5
    )
    assert value(
        evaluated, "pipeline:ci_pipeline_deployments:increase30d", **labels, status="failed"
    ) == pytest.approx(24 * PER_HOUR * PER_HOUR / 12, rel=0.05)
    assert value(
        evaluated, "pipeline:ci_pipeline_recovery_seconds:mean30d", pipeline="flaky"
    ) == pytest.approx(900)
