"""Duration of scrapes: the first one, and those of a Prometheus that prefers protobuf."""

import gzip
import statistics
import time
from contextlib import contextmanager

import pytest

from exporter.simulator import CodeArts, World, running
from tests.conftest import Cloud
from tests.drivers.process import Samples, eventually, exporter
from tests.drivers.prometheus import query, scraping
from tests.drivers.tools import built

PROMETHEUS_3_5 = {
    "Accept": "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,"
    "application/openmetrics-text;version=0.0.1;q=0.5,text/plain;version=1.0.0;escaping=allow-utf-8;q=0.4,"
    "text/plain;version=0.0.4;q=0.3,*/*;q=0.2",
    "Accept-Encoding": "gzip",
}


@contextmanager
def large(directory, pipelines=1000):
    """An exporter of many pipelines."""
    codearts = CodeArts(World(pipelines=pipelines))
    with running(codearts.app) as url:
        project = Cloud(codearts, url).project(rate_limit={"requests_per_second": 1000, "burst": 1000})
        configuration = {"poll": {"interval": "10m"}, "projects": [project]}
        with exporter(directory, configuration) as process:
            yield process


def scrape_seconds(process):
    began = time.perf_counter()
    with process.stream("/metrics", headers=PROMETHEUS_3_5) as answer:
        page = b"".join(answer.iter_raw())
    seconds = time.perf_counter() - began
    assert answer.headers["Content-Encoding"] == "gzip"
    assert b"ci_pipeline_latest_run_status" in gzip.decompress(page)
    return seconds


@pytest.mark.timing
@pytest.mark.parametrize("pipelines", [1000, 10_000])
def test_first_scrape_costs_at_most_twice_the_tenth(tmp_path, pipelines):
    ratios: list[float] = []
    # Another process may take the processor from any one scrape.
    while len(ratios) < 3 and min(ratios, default=9) > 2:
        directory = tmp_path / str(len(ratios))
        directory.mkdir()
        with large(directory, pipelines) as process:
            eventually(lambda: process.get("/-/ready").status_code == 200, "the exporter is ready")
            first = scrape_seconds(process)
            following = [scrape_seconds(process) for _ in range(9)]
        ratios.append(first / max(following[-1], statistics.median(following)))
    assert min(ratios) <= 2


def test_no_own_counter_goes_back_between_two_formats(tmp_path):
    with large(tmp_path) as process:
        eventually(lambda: process.get("/-/ready").status_code == 200, "the exporter is ready")
        shown: list[float] = []
        for accept in ("text/plain", "application/openmetrics-text") * 5:
            text = process.get("/metrics", headers={"Accept": accept}).text
            seconds = Samples(text).value("process_cpu_seconds_total")
            assert seconds is not None
            shown.append(seconds)
        assert shown == sorted(shown)


@pytest.mark.parametrize("created", [False, True])
def test_prometheus_that_prefers_protobuf_scrapes_in_seconds(tmp_path, created):
    """In OpenMetrics without `_created` lines it searches the rest of a family for each series: 39 s for this page."""
    program = built("prometheus")
    codearts = CodeArts(World(pipelines=500))
    with running(codearts.app) as url:
        sections = {"metrics": {"created_series": created}, "poll": {"interval": "10m"}}
        with exporter(tmp_path, {**sections, "projects": [Cloud(codearts, url).project()]}) as process:
            eventually(lambda: process.get("/-/ready").status_code == 200, "the exporter is ready")
            features = "--enable-feature=created-timestamp-zero-ingestion"
            with scraping(program, process.address(), tmp_path, features, timeout=5) as prometheus:
                # A scrape that takes longer fails.
                assert eventually(lambda: query(prometheus, "up == 1"), "Prometheus has scraped")
                assert float(query(prometheus, "count(ci_pipeline_up)")[0]["value"][1]) == 500
