"""Alerts outlive restarts, failed scrapes and outages, and resolve when they should, as evaluated by promtool."""

import pytest

from tests.drivers.rules import ALERTS, BY_TEAM, PIPELINE, PROJECT, pipeline, project, series
from tests.integration.test_alert_rules import (
    AUTO,
    CHANGE,
    DOWN,
    FAILED,
    FAILURES,
    HEALTHY,
    INFO,
    OLDEST,
    PIPELINE_UP,
    PROJECT_UP,
    RED,
    RUN,
    RUNNING,
    STAGE,
    START,
    SUCCESS,
    UP,
    WAITING,
    minutes,
    pipelines,
    shards,
    steps,
)

OUT_OF_DATE = "This may be out of date"
EVERY_MINUTE = range(61)


def restarted(values: dict[str, str], pod: str = "a", *, gap: int = 3) -> dict[str, str]:
    """Return values that a restart interrupts after twenty minutes; another pod has other target labels."""
    found = {}
    for name, value in values.items():
        before, after = f"{value.split('x')[0]}x19 stale", f"_x{20 + gap} {value.split('x')[0]}x300"
        if pod == "a":
            found[name] = f"{before} _x{gap - 1} {value.split('x')[0]}x300"
        else:
            found[name] = before
            found[name.replace('pod="a"', f'pod="{pod}"').replace('"a:10047"', f'"{pod}:10047"')] = after
    return found


@pytest.mark.parametrize("pod", ["a", "b"])
@pytest.mark.parametrize("red", [False, True])
def test_a_restart_fires_and_resolves_no_alert(evaluate, pod, red):
    """While the exporter restarts, its series are missing; then the project is not up before its first refresh."""
    values = HEALTHY | {FAILED: f"{int(red)}x300"}
    constant = {name: value for name, value in values.items() if name not in {SUCCESS, UP, PROJECT_UP}}
    found = restarted({name: value.replace("+60", "") for name, value in constant.items()}, pod)
    target = {"instance": f"{pod}:10047", "pod": pod}
    if pod == "a":
        found[UP] = steps((1, 20), (0, 3), (1, 100))
        found[PROJECT_UP] = steps((1, 20), ("stale", 1), ("_", 2), (0, 2), (1, 100))
        found[SUCCESS] = steps(("0+60", 20), ("stale", 1), ("_", 4), ("1500+60", 100))
    else:
        found[UP] = steps((1, 20), ("stale", 1))
        found[series("up", target)] = steps(("_", 23), (1, 100))
        found[PROJECT_UP] = steps((1, 20), ("stale", 1))
        found[project("pipeline_exporter_project_up", **target)] = steps(("_", 23), (0, 2), (1, 100))
        found[SUCCESS] = steps(("0+60", 20), ("stale", 1))
        found[project("pipeline_exporter_last_success_timestamp_seconds", **target)] = steps(
            ("_", 25), ("1500+60", 100)
        )
    evaluated = evaluate(found, at=minutes(*EVERY_MINUTE))
    assert evaluated.names() == [{"PipelineFailed"} if red else set()] * len(EVERY_MINUTE)
    assert evaluated.firing("PipelineFailed") == [int(red)] * len(EVERY_MINUTE)


def test_a_failed_scrape_neither_resolves_an_alert_nor_fires_another(evaluate):
    missing = {
        name: f"{value.split('x')[0]}x9 stale {value.split('x')[0]}x60" for name, value in HEALTHY.items()
    }
    missing[SUCCESS] = "0+60x9 stale 660+60x60"
    missing |= {UP: "1x9 0 1x60", FAILED: "1x9 stale 1x60"}
    found = evaluate(missing, at=minutes(*range(30)))
    assert found.names() == [{"PipelineFailed"}] * 30


# The minutes are those of the outage: it begins at 60, values are withdrawn 15 minutes later.
def project_down(minutes: int) -> dict[str, str]:
    return {
        FAILED: steps((1, 75), ("stale", 1), ("_", minutes - 16), (0, 60)),
        PIPELINE_UP: steps((1, 60), (0, minutes), (1, 60)),
        PROJECT_UP: steps((1, 60), (0, minutes), (1, 60)),
        SUCCESS: steps(("0+60", 60), (3540, minutes), (f"{(60 + minutes) * 60}+60", 60)),
        DOWN: steps(("_", 61), (3600, minutes - 1), ("stale", 1)),
    }


def exporter_gone(minutes: int) -> dict[str, str]:
    gone = {
        name: f"{value.split('x')[0]}x59 stale _x{minutes - 1} {value.split('x')[0]}x60"
        for name, value in HEALTHY.items()
    }
    return gone | {
        FAILED: steps((1, 60), ("stale", 1), ("_", minutes - 1), (0, 60)),
        UP: steps((1, 60), (0, minutes), (1, 60)),
        AUTO: steps(("7200+60", 60), ("stale", 1), ("_", minutes - 1), ("20000+60", 60)),
        SUCCESS: steps(("0+60", 60), ("stale", 1), ("_", minutes - 1), (f"{(60 + minutes) * 60}+60", 60)),
    }


@pytest.mark.parametrize(
    ("outage", "own"),
    [(project_down, "PipelineExporterProjectDown"), (exporter_gone, "PipelineExporterGone")],
    ids=["project-down", "exporter-gone"],
)
def test_an_alert_outlives_an_outage_and_says_that_it_may_be_out_of_date(evaluate, outage, own):
    times = [*range(55, 200, 5)]
    found = evaluate(HEALTHY | outage(120), at=minutes(*times), texts=[("100m", "PipelineFailed")])
    during = [names for time, names in zip(times, found.names(), strict=True) if 75 <= time < 180]
    assert all(names == {"PipelineFailed", own} for names in during)
    assert OUT_OF_DATE in found.annotations("PipelineFailed")["description"]
    # A run that succeeded meanwhile resolves it.
    assert found.names()[-1] == set()
    assert found.firing("PipelineFailed") == [int(time < 180) for time in times]


@pytest.mark.parametrize("outage", [project_down, exporter_gone])
def test_a_pipeline_that_was_repaired_before_an_outage_stays_green(evaluate, outage):
    values = HEALTHY | outage(120)
    values[FAILED] = values[FAILED].replace("1x74", "1x30 0x43").replace("1x59", "1x30 0x28")
    found = evaluate(values, at=minutes(*range(45, 175, 10)))
    assert found.firing("PipelineFailed") == [0] * 13


def test_after_a_day_of_an_outage_an_alert_ends(evaluate):
    values = HEALTHY | {
        FAILED: "1x15 stale",
        PIPELINE_UP: "1x12 0x400",
        PROJECT_UP: "1x12 0x400",
        DOWN: "_x12 3600x400",
    }
    hours = [f"{hour}h" for hour in (1, 12, 25, 26)]
    found = evaluate(values, at=hours, step="5m")
    assert found.firing("PipelineFailed") == [1, 1, 1, 0]


def test_the_pipelines_of_a_missing_shard_keep_their_alerts(evaluate):
    on_shard = {
        name: value.replace("1x", "1x9 stale _x39 1x") if name in {INFO, PIPELINE_UP} else value
        for name, value in HEALTHY.items()
    }
    values = (
        on_shard | shards(3, 3, 3, missing=(1,)) | {FAILED: steps((1, 10), ("stale", 1), ("_", 39), (0, 60))}
    )
    found = evaluate(values, at=minutes(9, 16, 25, 45, 60))
    assert found.firing("PipelineFailed") == [1, 1, 1, 1, 0]


@pytest.mark.parametrize(
    "leaves", [{FAILED, PIPELINE_UP, INFO}, {FAILED}], ids=["removed", "deleted-in-the-cloud"]
)
def test_a_pipeline_that_is_no_longer_watched_has_no_alert(evaluate, leaves):
    values = HEALTHY | {FAILED: "1x300"}
    values |= {name: f"{values[name].split('x')[0]}x19 stale" for name in leaves}
    found = evaluate(values, at=minutes(19, 26))
    assert found.names() == [{"PipelineFailed"}, set()]


def test_two_replicas_are_one_alert(evaluate):
    other = {
        name.replace('pod="a"', 'pod="b"').replace('"a:10047"', '"b:10047"'): value
        for name, value in (HEALTHY | RED).items()
    }
    found = evaluate(HEALTHY | RED | other, at=minutes(9, 20, 75))
    assert found.names() == [set(), {"PipelineFailed"}, set()]
    assert found.firing("PipelineFailed") == [0, 1, 0]


def test_a_red_pipeline_stays_red_while_its_next_run_is_in_progress(evaluate):
    running = {RUNNING: steps((0, 20), (1, 20), (0, 60)), OLDEST: steps(("_", 20), (1200, 20), ("stale", 1))}
    found = evaluate(HEALTHY | RED | running, at=minutes(*range(12, 68, 5)))
    assert found.names() == [{"PipelineFailed"}] * 12


def test_two_failed_stages_are_one_alert_that_names_both(evaluate):
    second = pipeline("ci_pipeline_latest_finished_run_failed_stage", stage_name="Scan", stage_sequence="3")
    found = evaluate(HEALTHY | RED | {second: "1x60"}, at=["20m"], texts=[("20m", "PipelineFailed")])
    assert found.firing("PipelineFailed") == [1]
    assert 'failed in stage "Deploy" "Scan".' in found.annotations("PipelineFailed")["description"]


def test_two_branches_at_once_do_not_hide_an_alert(evaluate):
    """For a moment, the label of an info metric can have two values, and so can the labels of a pipeline."""
    twice = {
        pipeline("ci_pipeline_latest_finished_run_info", trigger="push", branch="other", url=""): "1x60",
        pipeline("ci_pipeline_info", url="", label_team="mobile"): "1x60",
    }
    for alerts in (ALERTS, BY_TEAM):
        found = evaluate(HEALTHY | RED | twice, at=["20m"], alerts=alerts)
        assert found.firing("PipelineFailed") == [1]


@pytest.mark.parametrize(
    ("run_url", "pipeline_url", "page"),
    [
        (RUN, "https://example.com/p1", RUN),
        ("", "https://example.com/p1", "https://example.com/p1"),
        (None, "https://example.com/p1", "https://example.com/p1"),
        (None, "", None),
    ],
    ids=["run", "run-without-page", "not-enabled", "neither"],
)
def test_the_link_is_the_page_of_the_run_or_of_the_pipeline_or_none(evaluate, run_url, pipeline_url, page):
    own = {name: value for name, value in HEALTHY.items() if "_info" not in name}
    labels = {} if run_url is None else {"url": run_url}
    own |= {
        pipeline("ci_pipeline_latest_finished_run_info", trigger="push", branch="main", **labels): "1x60",
        pipeline("ci_pipeline_info", url=pipeline_url): "1x60",
    }
    found = evaluate(own | RED, at=["20m"], texts=[("20m", "PipelineFailed")])
    lines = found.annotations("PipelineFailed")["description"].splitlines()
    assert [line for line in lines if line.startswith("Page")] == ([f"Page: {page}"] if page else [])


def test_without_run_number_and_branch_the_text_is_still_a_sentence(evaluate):
    found = evaluate({UP: "1x60", FAILED: "1x60"}, at=["20m"], texts=[("20m", "PipelineFailed")])
    text = found.annotations("PipelineFailed")["description"]
    assert text.startswith("Pipeline checkout (project shop) is red: its latest finished run failed.\nNext: ")


def test_only_the_present_status_is_exposed_and_a_run_that_went_on_no_longer_waits(evaluate):
    """With metrics.run_status_series: current, the series of a past status is missing instead of 0."""
    values = {
        name: value for name, value in HEALTHY.items() if "run_status" not in name or "finished" in name
    } | {
        WAITING: steps(("_", 10), (1, 300), ("stale", 1)),
        RUNNING: steps(("_", 310), (1, 60), ("stale", 1)),
        OLDEST: "60x400",
        CHANGE: steps((600, 310), (18600, 100)),
        PIPELINE_UP: steps((1, 330), (0, 100)),
    }
    found = evaluate(values, at=minutes(240, 260, 320, 390))
    assert found.firing("PipelineRunWaiting") == [0, 1, 0, 0]


def test_an_approval_of_a_single_stage_is_waited_for_too(evaluate):
    values = HEALTHY | {
        RUNNING: "1x400",
        OLDEST: "60x400",
        pipeline("ci_pipeline_latest_run_stage_status_change_timestamp_seconds", **STAGE): "600x300 stale",
        pipeline("ci_pipeline_latest_run_stage_status", **STAGE, status="waiting"): "1x300 stale",
    }
    found = evaluate(values, at=minutes(200, 260, 310), texts=[("260m", "PipelineRunWaiting")])
    assert found.firing("PipelineRunWaiting") == [0, 1, 0]
    assert found.firing("PipelineRunStuckWithoutHistory") == [0, 0, 1]
    assert 'in stage "Deploy" for' in found.annotations("PipelineRunWaiting")["description"]


def test_a_run_that_is_hidden_by_newer_ones_is_stuck(evaluate):
    values = HEALTHY | {START: "0+600x400", OLDEST: "60x400", RUNNING: "0x400"}
    found = evaluate(values, at=minutes(110, 130))
    assert found.firing("PipelineRunStuckWithoutHistory") == [0, 1]


def test_an_alert_has_the_team_of_its_pipeline(evaluate):
    values = (
        HEALTHY | RED | {FAILURES: "3x100", series("ci_pipeline_runs_missed_total", PIPELINE): "0x9 3x100"}
    )
    found = evaluate(values, at=["20m"], alerts=BY_TEAM)
    teams = {labels["alertname"]: labels.get("label_team") for labels, _ in found.samples[0]}
    assert teams == dict.fromkeys(
        ["PipelineFailed", "PipelineFailingRepeatedly", "PipelineExporterRunsMissed"], "payments"
    )


def test_many_red_pipelines_are_one_alert_for_each_team(evaluate):
    infos = {
        series(
            "ci_pipeline_info",
            {**PROJECT, "pipeline": f"service-{n}", "pipeline_id": f"s{n}"},
            label_team=team,
        ): "1x60"
        for n, team in enumerate(["payments"] * 12 + ["mobile"] * 8)
    }
    others = {name: value for name, value in HEALTHY.items() if name not in {FAILED, INFO}}
    found = evaluate(others | pipelines(20, 6) | infos, at=["20m"], alerts=BY_TEAM)
    many = [labels for labels, _ in found.samples[0] if labels["alertname"] == "PipelinesManyRed"]
    assert [labels["label_team"] for labels in many] == ["payments"]


def test_teams_need_no_labels_in_the_configuration(evaluate):
    own = {name: value for name, value in HEALTHY.items() if name != INFO} | {
        pipeline("ci_pipeline_info", url=""): "1x60"
    }
    found = evaluate(own | RED, at=["20m"], alerts=BY_TEAM)
    assert found.names() == [{"PipelineFailed"}]
