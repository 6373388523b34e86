"""Each query of docs/promql.md on a Prometheus with three weeks of scrapes, compared with the simulator's true runs."""

import math
import re
import shutil
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from pathlib import Path
from statistics import mean
from typing import Any

import pytest

from tests.drivers.history import TEAMS
from tests.drivers.past import (
    DAY,
    DEPLOYING,
    HOUR,
    LAST,
    NEW_NAME,
    NOW,
    OUTAGE,
    START,
    STEP,
    STUCK_SINCE,
    WAITING_SINCE,
    End,
    Past,
    pages,
)
from tests.drivers.prometheus import api_get, stored
from tests.drivers.tools import built, installed

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "promql.md").read_text(encoding="utf-8")
RECORDING = (ROOT / "deploy" / "prometheus" / "rules" / "recording.yml").read_text(encoding="utf-8")
QUERIES = dict(re.findall(r"^## ([^\n]*\?)$.*?^```promql\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL))
"""The queries of docs/promql.md, by their questions."""

WEEK = 7 * DAY
Rows = dict[tuple[str, ...], float]
"""Values by project, and by the other labels that the question needs."""


@pytest.fixture(scope="session")
def past() -> Past:
    found = Past()
    found.advance(LAST)
    return found


@pytest.fixture(scope="module", params=[installed, built], ids=["packaged", "built"])
def prometheus(request, history, tmp_path_factory):
    program = request.param("prometheus")
    folder = tmp_path_factory.mktemp("prometheus")
    shutil.copytree(history, folder / "data")
    with stored(program, folder) as url:
        yield url


def answer(url: str, expression: str, labels: Iterable[str], time: float = NOW) -> Rows:
    """Return the rows of a query, which must not fail."""
    found = api_get(url, "query", query=expression, time=time)
    assert found is not None, expression
    rows = {
        tuple(row["metric"].get(label, "") for label in labels): float(row["value"][1])
        for row in found["result"]
    }
    assert len(rows) == len(found["result"]), found["result"]
    return rows


# Expected results. An end is in a window if it lies between the first and the last scrape of the window.


def ends_within(past: Past, seconds: float, *, before: float = 0) -> list[End]:
    seen = [moment for moment in pages() if NOW - before - seconds < moment <= NOW - before]
    return [end for end in past.ends() if seen[0] < end.end <= seen[-1]]


def counted(ends: Iterable[End], *statuses: str) -> Counter[tuple[str, str]]:
    """Return the number of finished runs of each pipeline; a retry does not count again."""
    return Counter((end.project, end.pipeline_id) for end in ends if end.first and end.status in statuses)


def states(past: Past):
    """Yield the project and the true state of each pipeline."""
    for project, cloud in past.clouds.items():
        for state in cloud.truth():
            yield project, state


def red(past: Past) -> Rows:
    return {(project, one.pipeline_id, one.pipeline): 1 for project, one in states(past) if one.red}


def red_since(past: Past) -> Rows:
    return {
        (project, one.pipeline_id, one.pipeline): NOW - one.failing_since
        for project, one in states(past)
        if one.red
    }


def failing(past: Past) -> Rows:
    return {
        (project, one.pipeline_id, one.pipeline): one.failures
        for project, one in states(past)
        if one.failures >= 3
    }


def failed_stages(past: Past) -> Rows:
    return {
        (project, one.pipeline_id, stage): 1
        for project, one in states(past)
        if one.red
        for stage, _ in one.finished_run.failed_stages
    }


def red_by_team(past: Past) -> Rows:
    found: Rows = {(team,): 0 for team in TEAMS.values()}
    for project, *_ in red(past):
        found[TEAMS[project],] += 1
    return found


def stuck(past: Past) -> Rows:
    return {(project, past.id(project, "stuck")): NOW - STUCK_SINCE for project in past.clouds}


def waiting(past: Past) -> Rows:
    return {(project, past.id(project, "waiting")): NOW - WAITING_SINCE for project in past.clouds}


def not_run(past: Past) -> Rows:
    return {
        (project, one.pipeline_id, one.pipeline): NOW - one.latest_run.start
        for project, one in states(past)
        if one.latest_run and NOW - one.latest_run.start > DAY
    }


def never_run(past: Past) -> Rows:
    return {
        (project, one.pipeline_id, one.pipeline): 0 for project, one in states(past) if one.latest_run is None
    }


def first_try(past: Past) -> Rows:
    ends = ends_within(past, WEEK)
    success, runs = counted(ends, "success"), counted(ends, "success", "failed")
    return {pipeline: success[pipeline] / runs[pipeline] for pipeline in runs}


def eventual(past: Past) -> Rows:
    ends = ends_within(past, WEEK)
    runs = counted(ends, "success", "failed")
    success = Counter((end.project, end.pipeline_id) for end in ends if end.status == "success")
    return {pipeline: success[pipeline] / runs[pipeline] for pipeline in runs}


def slower(
    past: Past, durations: Callable[[Iterable[End]], dict[tuple[str, str], list[float]]], least: float
) -> Rows:
    present = durations(ends_within(past, WEEK))
    former = durations(ends_within(past, WEEK, before=WEEK))
    ratios = {key: mean(present[key]) / mean(former[key]) for key in present if key in former}
    return {key: ratio for key, ratio in ratios.items() if ratio > least}


def run_durations(ends: Iterable[End]) -> dict[tuple[str, str], list[float]]:
    found: dict[tuple[str, str], list[float]] = {}
    for end in ends:
        if end.first and end.status == "success":
            found.setdefault((end.project, end.pipeline_id), []).append(end.end - end.start)
    return found


def stage_durations(ends: Iterable[End]) -> dict[tuple[str, str], list[float]]:
    found: dict[tuple[str, str], list[float]] = {}
    for end in ends:
        for stage, status, seconds in end.stages:
            if status == "success":
                found.setdefault((end.project, stage), []).append(seconds)
    return found


def deployments(past: Past) -> Rows:
    found: Rows = defaultdict(float)
    for end in ends_within(past, WEEK):
        if end.first and end.status == "success" and end.role in DEPLOYING:
            found[end.project, TEAMS[end.project]] += 1 / 7
    return found


def recoveries(past: Past) -> list[tuple[End, float]]:
    """Return each success that ended failures, with the time since the first of them."""
    since: dict[str, float] = {}
    found = []
    for end in sorted(past.ends(), key=lambda end: end.end):
        if end.status == "failed":
            since.setdefault(end.pipeline_id, end.end)
        elif end.status == "success" and end.pipeline_id in since:
            found.append((end, end.end - since.pop(end.pipeline_id)))
    return found


def time_to_restore(past: Past) -> Rows:
    times: dict[tuple[str], list[float]] = {}
    for end, seconds in recoveries(past):
        if end.end > START:
            times.setdefault((end.project,), []).append(seconds)
    return {project: mean(found) for project, found in times.items()}


def five_most(past: Past, counts: Counter[tuple[str, str]]) -> Rows:
    assert counts.most_common(5)[-1][1] > counts.most_common(6)[-1][1], "no two share the last place"
    names = {(project, one.pipeline_id): one.pipeline for project, one in states(past)}
    return {(*key, names[key]): count for key, count in counts.most_common(5)}


def noisiest(past: Past) -> Rows:
    return five_most(past, counted(ends_within(past, WEEK), "failed"))


def flapping(past: Past) -> Rows:
    ended = {(end, seconds) for end, seconds in recoveries(past)}
    within = set(ends_within(past, WEEK))
    return five_most(past, Counter((end.project, end.pipeline_id) for end, _ in ended if end in within))


def nothing(_: Past) -> Rows:
    return {}


def missed(_: Past) -> Rows:
    return {("payments",): 1}


NAMED = ("project", "pipeline_id", "pipeline")
PIPELINE = ("project", "pipeline_id")
STAGE = ("project", "stage_name")
# Labels, truth, and how far a value may lie from it. Flow reports the start of some runs a few seconds late. `increase`
# adds a step to each window.
TRUTH: dict[str, tuple[tuple[str, ...], Callable[[Past], Rows], dict[str, Any]]] = {
    "Which pipelines are red?": (NAMED, red, {"abs": 0}),
    "Since when are they red?": (NAMED, red_since, {"abs": 1}),
    "Which pipelines failed three times in a row?": (NAMED, failing, {"abs": 0}),
    "Which stage failed?": ((*PIPELINE, "stage_name"), failed_stages, {"abs": 0}),
    "How many red pipelines has each team?": (("label_team",), red_by_team, {"abs": 0}),
    "Which runs are stuck?": (PIPELINE, stuck, {"abs": 4}),
    "Which runs wait for an approval, and how long?": (PIPELINE, waiting, {"abs": STEP}),
    "Which pipelines have not run for a day?": (NAMED, not_run, {"abs": 4}),
    "Which pipelines have never run?": (NAMED, never_run, {"abs": 0}),
    "What share of runs succeeds at the first try?": (PIPELINE, first_try, {"rel": 0.002}),
    "What share of runs succeeds in the end?": (PIPELINE, eventual, {"rel": 0.002}),
    "Which pipelines are slower than last week?": (
        PIPELINE, lambda past: slower(past, run_durations, 1.3), {"rel": 0.01}
    ),
    "Which stages are slower than last week?": (
        STAGE, lambda past: slower(past, stage_durations, 1.3), {"rel": 0.002}
    ),
    "How often do teams deploy?": (("project", "label_team"), deployments, {"rel": 0.005}),
    "How long does it take to restore a pipeline?": (("project",), time_to_restore, {"rel": 0.005}),
    "Which pipelines are the noisiest?": (NAMED, noisiest, {"rel": 0.01}),
    "Which pipelines turn red most often?": (NAMED, flapping, {"rel": 0.01}),
    "Is the exporter blind?": (("project",), nothing, {"abs": 0}),
    "Were runs missed?": (("project",), missed, {"rel": 0.05}),
}  # fmt: skip
QUANTILES = {
    "How long do runs take?": (PIPELINE, run_durations, "ci_pipeline_run_duration_seconds_bucket"),
    "How long do stages take?": (STAGE, stage_durations, "ci_pipeline_stage_duration_seconds_bucket"),
}
EMPTY = {"Is the exporter blind?"}


def test_every_question_of_the_page_has_a_truth():
    assert PAGE.count("```promql") == len(QUERIES)
    assert QUERIES.keys() == TRUTH.keys() | QUANTILES.keys()


@pytest.mark.parametrize("question", TRUTH)
def test_the_query_returns_what_the_clouds_did(prometheus, past, question):
    labels, truth, tolerance = TRUTH[question]
    expected = truth(past)
    assert expected or question in EMPTY
    assert answer(prometheus, QUERIES[question], labels) == pytest.approx(expected, **tolerance)


@pytest.mark.parametrize("quantile", ["0.95", "0.5"])
@pytest.mark.parametrize("question", QUANTILES)
def test_the_quantile_lies_in_the_bucket_of_the_true_one(prometheus, past, question, quantile):
    labels, durations, metric = QUANTILES[question]
    bounds = sorted(
        bound
        for (text,) in answer(prometheus, f"group by (le) ({metric})", ["le"])
        for bound in [float(text)]
    )
    found = answer(prometheus, QUERIES[question].replace("0.95", quantile), labels)
    expected = durations(ends_within(past, WEEK))
    assert {key for key, value in found.items() if not math.isnan(value)} == expected.keys()
    for key, values in expected.items():
        true = sorted(values)[math.ceil(float(quantile) * len(values)) - 1]
        above = next(index for index, bound in enumerate(bounds) if true <= bound)
        below = bounds[above - 1] if above else 0.0
        assert below <= found[key] <= bounds[above], (key, true)


def test_the_blind_exporter_is_found(prometheus):
    question = QUERIES["Is the exporter blind?"]
    within = next(moment for moment in pages() if moment > OUTAGE[0] + HOUR) + 7
    assert answer(prometheus, question, ["project"], time=within) == {("mobile",): 0}
    # Before the first page no exporter was scraped.
    assert answer(prometheus, question, ["project"], time=START - HOUR) == {("",): 1}
    # The last refresh was seven seconds ago.
    late = question.replace("> 900", "> 5")
    assert late != question
    assert answer(prometheus, late, ["project"]) == {("payments",): 7, ("mobile",): 7}


@pytest.mark.parametrize("question", QUERIES)
def test_the_query_does_not_fail_at_any_time(prometheus, question):
    """Names, branches and targets change meanwhile; a join that matches two series is an error."""
    found = api_get(
        prometheus, "query_range", query=QUERIES[question], start=LAST - WEEK, end=NOW, step=4 * HOUR
    )
    assert found is not None


def test_the_history_has_what_makes_queries_difficult(prometheus, past):
    """A pipeline with two names, two targets at once, and a red pipeline whose next run is in progress."""
    names = answer(prometheus, "group by (pipeline) (last_over_time(ci_pipeline_info[7d]))", ["pipeline"])
    assert {(NEW_NAME,), (past.pipeline("payments", "rare").name,)} <= names.keys()
    assert answer(prometheus, "count(up)", []) == {(): 2}
    assert any(one.red and one.latest_run != one.finished_run for _, one in states(past))


def test_recorded_series_on_the_page_exist():
    names = set(re.findall(r"`((?:pipeline|stage):\w+:\w+)`", PAGE))
    assert len(names) > 3
    assert all(f"record: {name}\n" in RECORDING for name in names)
