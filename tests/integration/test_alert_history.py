"""Recording rules and the alerts that compare a day with the week before, over nine days. promtool evaluates the rules."""

import pytest

from tests.drivers.rules import PROJECT, Evaluation, series

DAYS = 9
HOURS = DAYS * 24
BUCKETS = {"60.0": 60, "300.0": 300, "600.0": 600, "1800.0": 1800, "+Inf": 10**9}
# What each pipeline did: a run an hour, and another life since the last day began.
LAST_DAY = 24


def pipeline(name: str) -> dict[str, str]:
    return {**PROJECT, "pipeline": name, "pipeline_id": name}


def counter(increments: list[int]) -> str:
    """Return the values of a counter that grows by the hour, in steps of five minutes."""
    values, total = ["0x11"], 0
    for increment in increments:
        total += increment
        values.append(f"{total}x11")
    return " ".join(values)


def hourly(before: int, last_day: int) -> list[int]:
    return [before] * (HOURS - LAST_DAY) + [last_day] * LAST_DAY


def runs(name: str, *, success: list[int], failed: list[int]) -> dict[str, str]:
    labels = pipeline(name)
    return {
        series(
            "ci_pipeline_info", labels, label_deploys="production" if name == "flaky" else ""
        ): f"1x{HOURS * 12}",
        series("ci_pipeline_runs_total", labels, status="success"): counter(success),
        series("ci_pipeline_runs_total", labels, status="failed"): counter(failed),
        series("ci_pipeline_runs_total", labels, status="canceled"): counter([3] * HOURS),
        series("ci_pipeline_recoveries_total", labels): counter(failed),
        series("ci_pipeline_recovery_seconds_total", labels): counter([900 * number for number in failed]),
    }


def histogram(metric: str, labels: dict[str, str], seconds: list[int]) -> dict[str, str]:
    """Return a histogram with one observation an hour."""
    found = {
        series(f"{metric}_bucket", labels, status="success", le=le): counter(
            [int(value <= bound) for value in seconds]
        )
        for le, bound in BUCKETS.items()
    }
    found[series(f"{metric}_sum", labels, status="success")] = counter(seconds)
    found[series(f"{metric}_count", labels, status="success")] = counter([1] * len(seconds))
    return found


def stage(name: str, seconds: list[int]) -> dict[str, str]:
    return histogram("ci_pipeline_stage_duration_seconds", {**PROJECT, "stage_name": name}, seconds)


def duration(name: str, seconds: list[int]) -> dict[str, str]:
    return histogram("ci_pipeline_run_duration_seconds", pipeline(name), seconds)


ALWAYS = f"1x{HOURS * 12}"
LIVES = {
    series("up"): ALWAYS,
    **runs("steady", success=[1] * HOURS, failed=[0] * HOURS),
    **duration("steady", [100] * HOURS),
    **stage("Test", [50] * HOURS),
    # Half of its runs fail on the last day.
    **runs("flaky", success=hourly(2, 1), failed=hourly(0, 1)),
    **runs("slow", success=[1] * HOURS, failed=[0] * HOURS),
    **duration("slow", hourly(100, 500)),
    **stage("Build", hourly(50, 200)),
    # Its last run began three and a half days before the end.
    **runs("idle", success=[1] * (HOURS - 84) + [0] * 84, failed=[0] * HOURS),
    series("ci_pipeline_latest_run_start_timestamp_seconds", pipeline("idle")): f"0+300x{(HOURS - 84) * 12} "
    f"{(HOURS - 84) * 3600}x{84 * 12}",
    # A run that began an hour before the end; usual are 100 seconds.
    **runs("stuck", success=[1] * HOURS, failed=[0] * HOURS),
    **duration("stuck", [100] * HOURS),
    series("ci_pipeline_latest_run_start_timestamp_seconds", pipeline("stuck")): ALWAYS,
    series("ci_pipeline_oldest_active_run_start_timestamp_seconds", pipeline("stuck")):
    f"_x{(HOURS - 1) * 12} {(HOURS - 1) * 3600}x12",
    # A run that began five hours before the end, where runs usually take that long.
    **duration("long", [20_000] * HOURS),
    series("ci_pipeline_latest_run_start_timestamp_seconds", pipeline("long")): ALWAYS,
    series("ci_pipeline_oldest_active_run_start_timestamp_seconds", pipeline("long")):
    f"_x{(HOURS - 5) * 12} {(HOURS - 5) * 3600}x60",
}  # fmt: skip
BEFORE, AFTER = f"{HOURS - LAST_DAY}h", f"{HOURS}h"


@pytest.fixture(scope="module")
def evaluated(tmp_path_factory) -> Evaluation:
    return Evaluation(
        tmp_path_factory.mktemp("history"),
        LIVES,
        at=[BEFORE, AFTER],
        step="5m",
        expression='{__name__=~"ALERTS|.+:.+"}',
        texts=[
            (AFTER, alert)
            for alert in (
                "PipelineRunStuck", "PipelineNotRun", "PipelineSuccessRatioDropped", "PipelineSlower", "PipelineStageSlower",
            )
        ],
    )  # fmt: skip
