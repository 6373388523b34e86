"""A real Prometheus scrapes a real exporter, and its tools find nothing to complain about."""

import os
import shutil
import socket
import subprocess

import httpx
import pytest
import yaml

from tests.running import PATIENCE, eventually, exporter


def tool(name):
    """A program of Prometheus; without it the test is skipped, but not where everything must be tested."""
    path = shutil.which(name)
    if path is None and not os.environ.get("CI"):
        pytest.skip(f"{name} is not installed")
    assert path, f"{name} is not installed"
    return path


@pytest.fixture
def process(tmp_path, cloud):
    configuration = {"poll": {"interval": "1s", "active_interval": "1s"}, "projects": [cloud.project()]}
    with exporter(tmp_path, configuration) as process:
        eventually(lambda: process.get("/-/ready").status_code == 200, "the first refresh")
        yield process


@pytest.fixture
def prometheus(tmp_path, process):
    """The URL of a Prometheus that scrapes the exporter every second."""
    program = tool("prometheus")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    scrape = {"job_name": "pipeline-exporter", "static_configs": [{"targets": [process.address()]}]}
    file = tmp_path / "prometheus.yml"
    file.write_text(
        yaml.safe_dump(
            {"global": {"scrape_interval": "1s", "scrape_timeout": "1s"}, "scrape_configs": [scrape]}
        )
    )
    server = subprocess.Popen(
        [
            program,
            f"--config.file={file}",
            f"--storage.tsdb.path={tmp_path / 'data'}",
            f"--web.listen-address=127.0.0.1:{port}",
        ],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        server.terminate()
        server.wait(PATIENCE)


def query(url, expression):
    try:
        answer = httpx.get(f"{url}/api/v1/query", params={"query": expression}, trust_env=False)
    except httpx.TransportError:
        return []
    return answer.json()["data"]["result"] if answer.status_code == 200 else []


def test_prometheus_scrapes_and_answers(prometheus, process, cloud):
    """What Prometheus answers is what the cloud's own truth says."""
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
        return found if found.keys() == runs.keys() else None

    found = eventually(numbers, "every pipeline with a run is there")
    # A run may begin while the test looks.
    assert all(0 <= found[pipeline] - number <= 1 for pipeline, number in runs.items())
    total = query(prometheus, "count(ci_pipeline_latest_run_status) / count(ci_pipeline_latest_run_number)")
    assert float(total[0]["value"][1]) == 10
    row = query(prometheus, "ci_pipeline_up")[0]["metric"]
    assert row["job"] == "pipeline-exporter"
    assert not [name for name in row if name.startswith("exported_")]


def test_promtool_is_silent(process):
    """`promtool check metrics` finds nothing on the page."""
    page = process.get("/metrics").text
    done = subprocess.run(
        [tool("promtool"), "check", "metrics"], input=page, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
