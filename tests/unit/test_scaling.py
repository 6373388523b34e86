"""The figures in docs/scaling.md agree with the code and with its plan."""

import math
import re
from collections import Counter
from functools import cache
from pathlib import Path

import pytest
import yaml

from exporter.app.check_config import expected_series
from exporter.app.estimate import requests_per_refresh, requests_with_discovery
from exporter.core.shard import owner
from exporter.settings.load import load

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "scaling.md").read_text()

PROJECTS, OF_PROJECT = 200, 5_000
LIST_PAGE = 100
CHUNK = 50


def loaded(folder, pipelines=0, discover="1h", **settings):
    project = {
        "name": "p",
        "provider": "codearts",
        "region": "cn-north-4",
        "project_id": "1" * 32,
        "auth": {"method": "token", "token_file": "/run/secrets/token"},
        "pipelines": [f"{number:032x}" for number in range(pipelines)],
    }
    if not pipelines:
        project["discover"] = {"interval": discover}
        del project["pipelines"]
    file = folder / "config.yaml"
    file.write_text(yaml.safe_dump({"projects": [project], **settings}))
    return load(file, {})


def memory(pipelines, each, reserve):
    return math.ceil(70 + reserve + pipelines * each / 1024 - 0.5)


def rows(section):
    """Return the cells of the tables in a section."""
    text = PAGE.split(f"\n## {section}\n")[1].split("\n## ")[0]
    return [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in text.splitlines()
        if line.startswith("|")
    ]


# One exporter


@pytest.mark.parametrize("row", rows("One exporter")[2:], ids=lambda row: row[0])
def test_row_of_the_capacity_table(row):
    pipelines = int(row[0].replace(",", ""))
    assert int(row[1]) == math.ceil(pipelines / CHUNK)
    assert int(row[4].removesuffix(" MiB")) == memory(pipelines, 35, 0)
    assert int(row[5].removesuffix(" MiB").replace(",", "")) == memory(pipelines, 50, 150)


def test_requests_and_series_of_the_table_are_those_of_check_config(tmp_path):
    config = loaded(tmp_path, 1000)
    assert requests_per_refresh(config, config.projects[0]) == 20
    assert expected_series(config) == pytest.approx(88_000, rel=0.01)


@pytest.mark.parametrize(
    ("metrics", "row"),
    [
        ({}, 0),
        ({"run_status_series": "current"}, 1),
        ({"run_histogram": "project"}, 2),
        ({"run_status_series": "current", "run_histogram": "project"}, 3),
    ],
)
def test_documented_series_of_a_pipeline_are_those_expected(metrics, row, tmp_path):
    series = expected_series(loaded(tmp_path, 1000, metrics=metrics)) / 1000
    assert round(series) == pytest.approx(int(rows("Fewer series")[2:][row][1]), abs=1)


@pytest.mark.parametrize(
    "file", ["deploy/kubernetes/deployment.yaml", "deploy/helm/pipeline-exporter/values.yaml"]
)
def test_manifests_ask_for_the_memory_of_three_thousand_pipelines(file):
    request, limit = (
        int(size) for size in re.findall(r"^ +memory: (\d+)Mi$", (ROOT / file).read_text(), re.MULTILINE)
    )
    assert memory(3000, 35, 0) <= request <= memory(3000, 35, 0) + 32
    assert memory(3000, 50, 150) <= limit <= memory(3000, 50, 150) + 32
    assert f"{request} MiB with a limit of\n  {limit} MiB, which is for 3,000 pipelines" in PAGE


# A million pipelines


@cache
def parts(shards: int, projects: int) -> Counter[tuple[int, int]]:
    """Return the pipelines of each shard and project. Other projects differ by their ids only."""
    return Counter(
        (owner(shards, "codearts", f"{project:032x}", f"{project * OF_PROJECT + number:032x}"), project)
        for project in range(projects)
        for number in range(OF_PROJECT)
    )


def requests_a_second(
    tmp_path: Path, shards: int, *, poll: int = 300, active: int = 60, discover: int = 3600
) -> float:
    """Return the requests a second of all pods with this many shards, if 2 % of the pipelines are running."""
    projects = 20 if shards == 10 else 1
    config = loaded(tmp_path, poll={"interval": f"{poll}s"}, discover=f"{discover}s")
    discovery = config.projects[0].discovery
    assert discovery is not None
    total = 0.0
    for pipelines in parts(shards, projects).values():
        refresh = requests_with_discovery(config, discovery, OF_PROJECT, LIST_PAGE, pipelines)
        total += refresh / poll + math.ceil(pipelines * 0.02 / CHUNK) / active
    return total * PROJECTS / projects


def test_pods_of_the_plan_have_ten_thousand_pipelines_each():
    sizes = Counter[int]()
    for (shard, _), pipelines in parts(10, 20).items():
        sizes[shard] += pipelines
    assert sum(sizes.values()) * 10 == 1_000_000
    assert max(sizes.values()) <= 10_500
    assert min(sizes.values()) >= 9_500
    assert memory(max(sizes.values()), 50, 150) <= 768


@pytest.mark.parametrize(
    ("shards", "settings", "line"),
    [
        (10, {}, r"requests of all pods \| (\d+) a second"),
        (10, {"poll": 60}, r"`poll.interval: 1m`: (\d+) a second"),
        (10, {"active": 15}, r"`poll.active_interval: 15s`: (\d+) a second"),
        (10, {"discover": 600}, r"`discover.interval: 10m`: (\d+) a second"),
        (100, {}, r"100 shards of one release: (\d+) a second"),
        (1, {"active": 15}, r"15s`, the\s+default: (\d+) a second"),
    ],
)
def test_requests_of_the_plan_and_of_its_alternatives(shards, settings, line, tmp_path):
    found = re.search(line, PAGE)
    assert found, line
    assert int(found[1]) == pytest.approx(requests_a_second(tmp_path, shards, **settings), rel=0.03)


def test_a_refresh_of_the_plan_is_within_the_rate_limit_of_a_project(tmp_path):
    """The default limit sends the batches of a project at once, so that no refresh reaches into the next one."""
    limit = loaded(tmp_path).projects[0].rate_limit
    assert max(math.ceil(pipelines / CHUNK) for pipelines in parts(10, 20).values()) <= limit.burst
