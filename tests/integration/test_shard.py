"""Several exporters with one configuration: every pipeline has one owner, and few move when a shard is added."""

import asyncio
import math
from collections import Counter
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from functools import partial
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from exporter.app.bootstrap import assemble
from exporter.core.shard import Shard, chosen
from tests.drivers.process import Process, Samples, command, eventually, exporter
from tests.drivers.support import FakeClock, config, shown

PIPELINES = [f"{number:032x}" for number in range(4000)]
SIGMAS = 5

texts = st.text(st.characters(exclude_categories=["Cs"]))


def owners(total: int, provider: str, scope: str, pipeline: str) -> list[int]:
    """Return all shards that own a pipeline."""
    return [index for index in range(total) if Shard(index, total).owns(provider, scope, pipeline)]


def owner(total: int, pipeline: str, scope: str = "project") -> int:
    (only,) = owners(total, "codearts", scope, pipeline)
    return only


def spread(share: float) -> float:
    """Return the tolerance for a share of all pipelines that is assigned at random."""
    return SIGMAS * math.sqrt(share * (1 - share) / len(PIPELINES))


# Ownership


@given(st.integers(1, 12), texts, texts, texts)
def test_every_pipeline_has_exactly_one_owner(total, provider, scope, pipeline):
    assert len(owners(total, provider, scope, pipeline)) == 1


@given(st.integers(1, 12), texts, texts, texts)
def test_added_shard_takes_pipelines_and_moves_no_other(total, provider, scope, pipeline):
    before = owners(total, provider, scope, pipeline)
    assert owners(total + 1, provider, scope, pipeline) in (before, [total])


@pytest.mark.parametrize("total", [1, 2, 3, 7])
def test_added_shard_takes_its_share(total):
    moved = sum(owner(total, pipeline) != owner(total + 1, pipeline) for pipeline in PIPELINES)
    share = 1 / (total + 1)
    assert moved / len(PIPELINES) == pytest.approx(share, abs=spread(share))


@pytest.mark.parametrize("total", [1, 2, 3, 8])
def test_shards_have_about_the_same_number_of_pipelines(total):
    shares = Counter(owner(total, pipeline) for pipeline in PIPELINES)
    assert sorted(shares) == list(range(total))
    for count in shares.values():
        assert count / len(PIPELINES) == pytest.approx(1 / total, abs=spread(1 / total))


def test_projects_are_distributed_independently():
    """Otherwise, one shard would own the first pipeline of every project."""
    same = sum(owner(4, pipeline) == owner(4, pipeline, "other") for pipeline in PIPELINES)
    assert same / len(PIPELINES) == pytest.approx(1 / 4, abs=spread(1 / 4))


def test_owners_never_change():
    """On every machine, with every Python. A change would move pipelines and reset their counters."""
    assert [owner(5, pipeline) for pipeline in PIPELINES[:12]] == EXPECTED


EXPECTED = [3, 1, 2, 2, 3, 2, 1, 4, 0, 1, 1, 1]


# Flags


@pytest.mark.parametrize(
    ("index", "total", "host", "shard"),
    [
        (None, None, "pipeline-exporter-2", None),
        (0, 1, "anything", Shard(0, 1)),
        (1, 3, "pipeline-exporter-2", Shard(1, 3)),
        (None, 3, "pipeline-exporter-2", Shard(2, 3)),
        (None, 11, "pipeline-exporter-10", Shard(10, 11)),
        (None, 3, "pipeline-exporter-0.pipeline-exporter.ci.svc.cluster.local", Shard(0, 3)),
    ],
)
def test_flags_or_pod_ordinal_choose_the_shard(index, total, host, shard):
    assert chosen(index, total, host) == shard


@pytest.mark.parametrize(
    ("index", "total", "host", "message"),
    [
        (0, None, "pod-0", "--shard.index 0 without --shard.total"),
        (3, 3, "pod-0", "--shard.index 3 is not below --shard.total 3"),
        (None, 3, "laptop", "machine's name 'laptop' does not end in the ordinal"),
        (None, 3, "pipeline-exporter-7d4b9c6f5-x2x9k", "does not end in the ordinal"),
        (None, 3, "", "does not end in the ordinal"),
        (None, 3, "7", "does not end in the ordinal"),
        (None, 3, "web.rack-2", "does not end in the ordinal"),
        (None, 3, "pod-3", "ordinal of this machine's name 'pod-3' is not below --shard.total 3"),
    ],
)
def test_invalid_shard_flags_are_refused_with_a_message(index, total, host, message):
    """Guessing would leave pipelines without an owner."""
    with pytest.raises(ValueError, match=message):
        chosen(index, total, host)


# Exporters


def page_of(settings: dict[str, Any], shard: Shard) -> Samples:
    """Return the page of a shard after its first poll."""

    async def poll() -> bytes:
        exporter = assemble(config(settings), FakeClock(), shard=shard)
        for poller in exporter.pollers:
            await poller.tick()
            await poller.close()
        return shown(exporter).encode()

    return Samples(asyncio.run(poll()).decode())


@pytest.mark.parametrize("changes", [{}, {"discover": {"include": ["no such name"]}}])
@pytest.mark.parametrize("named", [True, False])
def test_shard_without_pipelines_of_a_project_is_up(cloud, changes, named):
    one = cloud.codearts.world.pipelines[0]
    listed = [{"id": one.id, "name": one.name} if named else one.id]
    settings = cloud.project(pipelines=listed, **changes)
    total = 3
    own = owner(total, one.id, cloud.codearts.world.project_id)
    for index in range(total):
        cloud.codearts.requests.clear()
        page = page_of(settings, Shard(index, total))
        assert page.value("pipeline_exporter_project_up") == 1
        assert page.value("pipeline_exporter_last_success_timestamp_seconds") == FakeClock().now
        assert len(page.get("ci_pipeline_up")) == page.value("pipeline_exporter_pipelines") == (index == own)
        if index != own and not changes:
            assert not cloud.codearts.requests


def covered(pages: Iterable[Samples]) -> list[set[str]]:
    """Return the ids of the polled pipelines, page by page."""
    return [{dict(labels)["pipeline_id"] for labels in page.get("ci_pipeline_up")} for page in pages]


def ready(process: Process) -> bool:
    """Return whether the first refresh of every project has ended."""
    return process.get("/-/ready").status_code == 200


def test_three_shards_cover_every_pipeline_once_and_a_fourth_takes_a_quarter(tmp_path, cloud):
    """Real processes with one configuration: one project lists pipelines, the other discovers the rest."""
    world = cloud.codearts.world
    everything = {pipeline.id for pipeline in world.pipelines}
    settings = {"projects": [cloud.project(10, name="listed"), cloud.project(name="found", pipelines=[])]}
    directories = [tmp_path / str(index) for index in range(3)]
    for directory in directories:
        directory.mkdir()
    file = tmp_path / "config.yaml"
    file.write_text(yaml.safe_dump(settings))

    def once(index: int) -> Samples:
        code, output, errors = command(
            "once", f"--config.file={file}", f"--shard.index={index}", "--shard.total=4"
        )
        assert (code, errors) == (0, "")
        return Samples(output)

    with ExitStack() as stack:
        processes = [
            stack.enter_context(exporter(directory, settings, f"--shard.index={index}", "--shard.total=3"))
            for index, directory in enumerate(directories)
        ]
        for process in processes:
            eventually(partial(ready, process), "a first refresh")
        three = [process.samples() for process in processes]
    with ThreadPoolExecutor() as pool:
        four = list(pool.map(once, range(4)))
    for pages in (three, four):
        for index, page in enumerate(pages):
            assert page.value("pipeline_exporter_shard_index") == index
            assert page.value("pipeline_exporter_shards") == len(pages)
            assert page.value("pipeline_exporter_project_up", project="found") == 1
        assert Counter(identity for ids in covered(pages) for identity in ids) == Counter(everything)
    before, after = covered(three), covered(four)
    assert all(new <= old for old, new in zip(before, after[:3], strict=True))
    assert 0.1 < len(after[3]) / len(everything) < 0.4
    projects = [dict(labels)["project"] for page in three for labels in page.get("ci_pipeline_up")]
    assert Counter(projects) == {"listed": 10, "found": 20}
