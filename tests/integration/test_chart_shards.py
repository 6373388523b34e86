"""The pods of the chart's StatefulSet as real processes, with its arguments and the host names of its pods."""

import os
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.drivers.manifests import chart, only
from tests.drivers.process import Process, Samples, eventually


def pods(shards: int, values: Path) -> list[tuple[str, list[str]]]:
    """Return name and arguments of each pod."""
    stateful_set = only(
        chart("--values", values, "--set=sharding.enabled=true", f"--set=sharding.shards={shards}"),
        "StatefulSet",
    )
    (container,) = stateful_set["spec"]["template"]["spec"]["containers"]
    name = stateful_set["metadata"]["name"]
    return [(f"{name}-{index}", container["args"]) for index in range(stateful_set["spec"]["replicas"])]


def page_of(host: str, arguments: list[str], config: Path) -> Samples:
    """Run a pod until its first refresh has ended, and return its page. Paths and ports are those of this machine."""
    here = {"--config.file": str(config), "--web.listen-address": "127.0.0.1:0"}
    pairs = [argument.partition("=") for argument in arguments]
    assert here.keys() <= {flag for flag, _, _ in pairs}
    process = Process([flag + equals + here.get(flag, value) for flag, equals, value in pairs], host=host)
    try:
        eventually(lambda: process.get("/-/ready").status_code == 200, "a first refresh")
        return process.samples()
    finally:
        assert process.stop() == 0


def polled(page: Samples) -> set[str]:
    return {dict(labels)["pipeline_id"] for labels in page.get("ci_pipeline_up")}


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may set the name of a machine")
def test_pods_cover_every_pipeline_once_and_a_fourth_takes_a_quarter(tmp_path, cloud):
    settings: dict[str, Any] = {"projects": [cloud.project(pipelines=[])]}
    values, config = tmp_path / "values.yaml", tmp_path / "config.yaml"
    values.write_text(yaml.safe_dump({"config": settings}))
    config.write_text(yaml.safe_dump(settings))
    # One after the other: each asks the cloud for its own part only.
    three, four = ([page_of(*pod, config) for pod in pods(shards, values)] for shards in (3, 4))
    everything = Counter(pipeline.id for pipeline in cloud.codearts.world.pipelines)
    for shards in (three, four):
        assert [page.value("pipeline_exporter_shard_index") for page in shards] == list(range(len(shards)))
        assert {page.value("pipeline_exporter_shards") for page in shards} == {len(shards)}
        assert Counter(identity for page in shards for identity in polled(page)) == everything
    assert all(polled(new) <= polled(old) for old, new in zip(three, four[:3], strict=True))
    assert 0.1 < len(polled(four[3])) / len(everything) < 0.4
