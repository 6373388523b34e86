"""A real Prometheus scrapes a real exporter, and promtool accepts its page."""

import math
import subprocess
import time
from collections import Counter

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text

from exporter.settings.settings import Metrics
from tests.drivers.process import eventually, exporter
from tests.drivers.prometheus import api_get, query, scraping
from tests.drivers.tools import installed


@pytest.fixture
def process(tmp_path, cloud):
    configuration = {"poll": {"interval": "1s", "active_interval": "1s"}, "projects": [cloud.project()]}
    with exporter(tmp_path, configuration) as process:
        eventually(lambda: process.get("/-/ready").status_code == 200, "the first refresh")
        yield process


@pytest.fixture
def prometheus(tmp_path, process):
    """The URL of a Prometheus that scrapes the exporter every second."""
    features = "--enable-feature=exemplar-storage"
    with scraping(installed("prometheus"), process.address(), tmp_path, features) as url:
        yield url


def test_prometheus_query_returns_the_runs_of_the_cloud(prometheus, process, cloud):
    assert eventually(lambda: query(prometheus, "up == 1"), "the scrape works")
    world = cloud.codearts.world
    runs = {
        pipeline.id: run.number
        for pipeline in world.pipelines
        if (run := world.latest_run(pipeline.id, cloud.codearts.clock()))
    }

    def numbers():
        rows = query(prometheus, "ci_pipeline_latest_run_number")
        found = {row["metric"]["pipeline_id"]: float(row["value"][1]) for row in rows}
        # The last scrape may be from before a run that has just begun.
        return found.keys() == runs.keys() and all(found[one] >= number for one, number in runs.items())

    eventually(numbers, "the latest run of every pipeline is there")
    total = query(prometheus, "count(ci_pipeline_latest_run_status) / count(ci_pipeline_latest_run_number)")
    assert float(total[0]["value"][1]) == 10
    row = query(prometheus, "ci_pipeline_up")[0]["metric"]
    assert row["job"] == "pipeline-exporter"
    assert not [name for name in row if name.startswith("exported_")]


HISTOGRAMS = ("ci_pipeline_run_duration_seconds", "ci_pipeline_stage_duration_seconds")


def exemplars_of_page(process):
    """Return run, value and end of every exemplar on the page, by metric and bucket."""
    answer = process.get("/metrics", headers={"Accept": "application/openmetrics-text"})
    assert answer.headers["Content-Type"].startswith("application/openmetrics-text")
    return {
        (sample.name, *sorted(sample.labels.items())): (
            sample.exemplar.labels, sample.exemplar.value, float(sample.exemplar.timestamp)
        )
        for family in parse_openmetrics(answer.text)
        for sample in family.samples
        if sample.exemplar
    }  # fmt: skip


def exemplars_of_prometheus(url):
    """Return the newest exemplar of every series in Prometheus, in the same form."""
    found = {}
    for name in HISTOGRAMS:
        for series in api_get(url, "query_exemplars", query=f"{name}_bucket", start=0, end=4e9) or ():
            labels = series["seriesLabels"]
            own = sorted(item for item in labels.items() if item[0] not in {"__name__", "job", "instance"})
            last = max(series["exemplars"], key=lambda one: one["timestamp"])
            found[labels["__name__"], *own] = last["labels"], float(last["value"]), last["timestamp"]
    return found


def test_prometheus_stores_the_exemplars_of_both_histograms(prometheus, process, cloud):
    """Each exemplar is a run of the cloud with its end and its duration."""
    assert eventually(lambda: query(prometheus, "up == 1"), "the scrape works")
    # The cloud's clock jumps by hours: runs have ended since and were counted.
    later = time.time() + 6 * 3600
    cloud.codearts.clock = lambda: later

    def page_when_stored():
        shown = exemplars_of_page(process)
        both = {key[0] for key in shown} == {f"{name}_bucket" for name in HISTOGRAMS}
        return shown if both and exemplars_of_prometheus(prometheus) == shown else None

    shown = eventually(page_when_stored, "Prometheus has the exemplars of the page")
    world = cloud.codearts.world
    for (name, *labels), (exemplar, value, end) in shown.items():
        if name.startswith(HISTOGRAMS[0]):
            run = world.run(dict(labels)["pipeline_id"], world.number(exemplar["run_id"]), later)
            assert run.id == exemplar["run_id"]
            assert end == pytest.approx(run.end, abs=0.002)
            assert value == pytest.approx(run.end - run.start, abs=0.002)


def test_promtool_accepts_the_page(process):
    page = process.get("/metrics").text
    done = subprocess.run(
        [installed("promtool"), "check", "metrics"], input=page, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.parametrize(
    ("accept", "parse"),
    [("text/plain", parse_text), ("application/openmetrics-text", parse_openmetrics)],
    ids=["text", "openmetrics"],
)
def test_no_series_is_on_the_page_twice(tmp_path, cloud, accept, parse):
    """Prometheus drops the second one and warns of a duplicate sample."""
    configuration = {
        "poll": {"interval": "1s", "active_interval": "1s"},
        "metrics": {"details": "steps"},
        "projects": [cloud.project()],
    }
    with exporter(tmp_path, configuration) as process:
        eventually(lambda: process.get("/-/ready").status_code == 200, "the first refresh")
        # Runs end and are counted; their stages and jobs are looked up.
        later = time.time() + 6 * 3600
        cloud.codearts.clock = lambda: later
        names = ["ci_pipeline_latest_run_job_status", *(f"{name}_count" for name in HISTOGRAMS)]
        eventually(lambda: all(map(process.samples().get, names)), "everything is there")
        page = process.get("/metrics", headers={"Accept": accept}).text
    series = Counter(
        (sample.name, *sorted(sample.labels.items())) for family in parse(page) for sample in family.samples
    )
    assert [name for name, times in series.items() if times > 1] == []


def counted_runs(world, before, later):
    """Yield the runs that were unfinished at the time `before`, or began after it, and have ended at the time `later`."""
    for pipeline in world.pipelines:
        known, newest = (world.latest_run(pipeline.id, moment) for moment in (before, later))
        if newest is None:
            continue
        first = 1 if known is None else known.number + (known.status.finished)
        for number in range(first, newest.number + 1):
            run = world.run(pipeline.id, number, later)
            if run.status.finished:
                yield run


def test_quantiles_by_stage_lie_in_the_bucket_that_has_the_true_one(tmp_path, cloud):
    """With the default buckets, half a day of runs, and p50 and p95 as Prometheus computes them."""
    world, before = cloud.codearts.world, time.time()
    later = before + 12 * 3600
    cloud.codearts.clock = lambda: before
    configuration = {"poll": {"interval": "1s", "active_interval": "1s"}, "projects": [cloud.project()]}
    runs = list(counted_runs(world, before, later))
    durations: dict[str, list[int]] = {}
    for run in runs:
        for stage in run.stages:
            if stage.status.finished and stage.end is not None:
                durations.setdefault(stage.name, []).append(stage.end - stage.start)
    assert max(len(values) for values in durations.values()) > 50
    bounds = [0.0, *Metrics().stage_duration_buckets, math.inf]
    name = "ci_pipeline_stage_duration_seconds"
    with (
        exporter(tmp_path, configuration) as process,
        scraping(installed("prometheus"), process.address(), tmp_path) as url,
    ):
        eventually(lambda: process.get("/-/ready").status_code == 200, "the first refresh")
        cloud.codearts.clock = lambda: later
        total = f"sum({name}_count)"
        expected = sum(len(values) for values in durations.values())
        eventually(
            lambda: [float(row["value"][1]) for row in query(url, total)] == [expected],
            "every run is counted",
        )
        for quantile in (0.5, 0.95):
            rows = query(url, f"histogram_quantile({quantile}, sum by (le, stage_name) ({name}_bucket))")
            found = {row["metric"]["stage_name"]: float(row["value"][1]) for row in rows}
            assert found.keys() == durations.keys()
            for stage, values in durations.items():
                true = sorted(values)[math.ceil(quantile * len(values)) - 1]
                above = next(index for index, bound in enumerate(bounds) if true <= bound)
                assert bounds[above - 1] <= found[stage] <= bounds[above], (stage, quantile, true)
