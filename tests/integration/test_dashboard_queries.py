"""The dashboards after ten minutes of the demo, and over three weeks with the results of the recording rules."""

import math
import shutil
from collections.abc import Callable, Iterable
from statistics import mean

import pytest
import yaml

from tests.drivers.dashboards import PANELS, TROUBLES, empty, silent
from tests.drivers.demo import END, write_demo
from tests.drivers.history import RECORDED, WEEK
from tests.drivers.past import DAY, DEPLOYING, NEW_NAME, STEP, End, Past
from tests.drivers.prometheus import stored
from tests.drivers.rules import ALERTS
from tests.drivers.tools import built, installed, newest
from tests.integration.test_cookbook import (
    PIPELINE,
    STAGE,
    Rows,
    answer,
    counted,
    ends_within,
    past,
    recoveries,
    red,
    run_durations,
    stage_durations,
    stuck,
    waiting,
)

__all__ = ["past"]
RULES = {
    rule["alert"]: rule["expr"]
    for group in yaml.safe_load(ALERTS.read_text())["groups"]
    for rule in group["rules"]
}
WITHOUT_PAGES = {
    ("overview", "Red now H"), ("overview", "Longest running C"), ("overview", "Waiting runs D"), ("pipeline", "Pages A"),
}  # fmt: skip
"""Queries for links, which the three weeks do not have."""


def test_no_panel_is_empty_after_ten_minutes_of_the_demo(tmp_path):
    """A panel that shows trouble of the exporter alone says none in words; the demo has no state file."""
    write_demo(newest("promtool"), newest("prometheus"), tmp_path)
    with stored(newest("prometheus"), tmp_path) as url:
        found = empty(url, rate="4m", range_="10m", time=END + 5)
    assert found == TROUBLES | {("exporter", "Polls skipped"), ("exporter", "State")}
    said = {key: PANELS[key]["fieldConfig"]["defaults"]["noValue"] for key in found}
    assert said.pop(("exporter", "State")) == "no state file"
    assert set(said.values()) == {"none"}


# Three weeks.


@pytest.fixture(scope="module", params=[installed, built], ids=["packaged", "built"])
def prometheus(request, recorded, tmp_path_factory):
    program = request.param("prometheus")
    folder = tmp_path_factory.mktemp("prometheus")
    shutil.copytree(recorded / "data", folder / "data")
    with stored(program, folder) as url:
        yield url


def test_queries_of_the_dashboards_return_series_over_a_week(prometheus):
    found = silent(prometheus, rate="2h", range_="7d", start=RECORDED - WEEK, end=RECORDED, step=4 * STEP)
    assert {where for where in found if where[0] != "exporter"} == WITHOUT_PAGES


def ends_of(past: Past, seconds: float, *, before: float = 0) -> list[End]:
    """Return the ends in a recorded window. Its first hour has the increase since the page before the window."""
    return ends_within(past, seconds + STEP, before=before)


def by_pipeline(ends: Iterable[End], *statuses: str) -> Rows:
    return {key: float(number) for key, number in counted(ends, *statuses).items()}


def success_ratio(past: Past) -> Rows:
    ends = ends_of(past, WEEK)
    success, runs = counted(ends, "success"), counted(ends, "success", "failed")
    return {key: success[key] / runs[key] for key in runs}


def failures(past: Past) -> Rows:
    return by_pipeline(ends_of(past, WEEK), "failed")


def deployments(past: Past) -> Rows:
    return by_pipeline((end for end in ends_of(past, WEEK) if end.role in DEPLOYING), "success")


def failure_ratio(past: Past, seconds: float) -> Rows:
    ends = [end for end in ends_of(past, seconds) if end.role in DEPLOYING]
    failed, runs = counted(ends, "failed"), counted(ends, "success", "failed")
    return {key: failed[key] / runs[key] for key in runs}


def time_to_restore(past: Past, seconds: float) -> Rows:
    times: dict[tuple[str, ...], list[float]] = {}
    within = set(ends_of(past, seconds))
    for end, duration in recoveries(past):
        if end in within:
            times.setdefault((end.project, end.pipeline_id), []).append(duration)
    return {key: mean(found) for key, found in times.items()}


def stage_means(past: Past) -> Rows:
    return {key: mean(found) for key, found in stage_durations(ends_of(past, WEEK)).items()}


MONTH = 30 * DAY
# What a recorded series is, and how far it may lie from it. A month has the first increases from 0, which Prometheus
# estimates to be smaller where samples are as rare as here.
TRUTH: dict[str, tuple[tuple[str, ...], Callable[[Past], Rows], float]] = {
    "pipeline:ci_pipeline_runs:success_ratio7d": (PIPELINE, success_ratio, 0.002),
    'pipeline:ci_pipeline_runs:increase7d{status="failed"} > 0': (PIPELINE, failures, 0.002),
    'pipeline:ci_pipeline_deployments:increase7d{status="success"}': (PIPELINE, deployments, 0.002),
    "pipeline:ci_pipeline_deployments:failure_ratio7d": (
        PIPELINE,
        lambda past: failure_ratio(past, WEEK),
        0.002,
    ),
    "pipeline:ci_pipeline_deployments:failure_ratio30d": (
        PIPELINE,
        lambda past: failure_ratio(past, MONTH),
        0.1,
    ),
    "pipeline:ci_pipeline_recovery_seconds:mean7d": (
        PIPELINE,
        lambda past: time_to_restore(past, WEEK),
        0.002,
    ),
    "pipeline:ci_pipeline_recovery_seconds:mean30d": (
        PIPELINE,
        lambda past: time_to_restore(past, MONTH),
        0.15,
    ),
    "stage:ci_pipeline_stage_duration_seconds:mean7d": (STAGE, stage_means, 0.002),
}


def recorded_now(url: str, series: str, labels: Iterable[str]) -> Rows:
    """Return the last values without those of the renamed pipeline, which has a series for each name."""
    renamed = f'group by (pipeline_id) (ci_pipeline_info{{pipeline="{NEW_NAME}"}})'
    return answer(url, f"({series}) unless on (pipeline_id) {renamed}", labels, RECORDED)


def renamed(past: Past) -> tuple[str, ...]:
    return "payments", past.id("payments", "rare")


@pytest.mark.parametrize("series", TRUTH)
def test_recorded_weeks_and_months_are_what_the_clouds_did(prometheus, past, series):
    labels, truth, tolerance = TRUTH[series]
    expected = {key: value for key, value in truth(past).items() if key != renamed(past)}
    assert len(expected) > 3
    assert recorded_now(prometheus, series, labels) == pytest.approx(expected, rel=tolerance)


@pytest.mark.parametrize(
    ("series", "labels", "durations"),
    [
        ("pipeline:ci_pipeline_run_duration_seconds", PIPELINE, run_durations),
        ("stage:ci_pipeline_stage_duration_seconds", STAGE, stage_durations),
    ],
)
@pytest.mark.parametrize(("name", "quantile"), [("p50_7d", 0.5), ("p95_7d", 0.95)])
def test_recorded_quantiles_lie_in_the_bucket_of_the_true_one(
    prometheus, past, series, labels, durations, name, quantile
):
    bounds = sorted(
        float(le)
        for (le,) in answer(prometheus, f"group by (le) ({series}_bucket:increase7d)", ["le"], RECORDED)
    )
    found = recorded_now(prometheus, f"{series}:{name} > 0", labels)
    expected = durations(ends_of(past, WEEK))
    expected.pop(renamed(past), None)
    assert found.keys() == expected.keys()
    for key, values in expected.items():
        true = sorted(values)[math.ceil(quantile * len(values)) - 1]
        above = next(index for index, bound in enumerate(bounds) if true <= bound)
        assert (bounds[above - 1] if above else 0.0) <= found[key] <= bounds[above], (key, true)


def dropped(past: Past) -> set[tuple[str, ...]]:
    """Return the pipelines whose success ratio of a day is lower than that of the week before by more than a quarter."""
    day, week = ends_of(past, DAY), ends_of(past, WEEK, before=DAY)
    runs, success = counted(day, "success", "failed"), counted(day, "success")
    before, succeeded = counted(week, "success", "failed"), counted(week, "success")
    return {
        key
        for key, number in runs.items()
        if number >= 8 and success[key] / number < succeeded[key] / before[key] - 0.25
    }


SLOWED = 6 * DAY
"""How long before the end a day was over in which some pipelines had become slower."""


def slower_pipelines(past: Past) -> set[tuple[str, ...]]:
    return {(project, past.id(project, "slower")) for project in past.clouds}


def slower_stages(past: Past) -> set[tuple[str, ...]]:
    """Return the stages whose runs of a day took longer on average than 1.5 times those of the week before, and than a minute more."""
    day = stage_durations(ends_of(past, DAY, before=SLOWED))
    week = stage_durations(ends_of(past, WEEK, before=SLOWED + DAY))
    return {
        key
        for key, found in day.items()
        if len(found) >= 5 and mean(found) > 1.5 * mean(week[key]) and mean(found) - mean(week[key]) > 60
    }


@pytest.mark.parametrize(
    ("alert", "labels", "truth", "before"),
    [
        ("PipelineFailed", PIPELINE, lambda past: {key[:2] for key in red(past)}, 0),
        ("PipelineRunStuck", PIPELINE, stuck, 0),
        ("PipelineRunWaiting", PIPELINE, waiting, 0),
        ("PipelineSuccessRatioDropped", PIPELINE, dropped, 0),
        ("PipelineSlower", PIPELINE, slower_pipelines, SLOWED),
        ("PipelineStageSlower", STAGE, slower_stages, SLOWED),
    ],
)
def test_alerts_are_those_of_what_the_clouds_did(prometheus, past, alert, labels, truth, before):
    expected = set(truth(past))
    assert expected
    assert answer(prometheus, RULES[alert], labels, RECORDED - before).keys() == expected


@pytest.mark.parametrize(
    "alert", sorted(name for name in RULES if name.startswith("PipelineExporter") or name == "PipelineNotRun")
)
def test_no_other_alert_is_there(prometheus, alert):
    """All pipelines ran within three days, and the exporter is well again after the outage days ago."""
    assert answer(prometheus, RULES[alert], ["project"], RECORDED) == {}
