"""What `check-config` predicts is what comes."""

import asyncio
import re

import pytest

from exporter.assembly import assemble
from exporter.check import STAGES, expected_series
from exporter.exposition import Format
from tests.support import FakeClock, config

COURSE = [("RUNNING", 1), ("COMPLETED", 1), ("FAILED", 2), ("COMPLETED", 3)]
"""Status and number of the latest run, poll by poll: a success and a failure are seen, and all ends well."""


def record(identity, now, status, number):
    """A run as the batch operation tells it, of five stages that go as the run goes."""
    times = {"start_time": now - 60_000, "end_time": None if status == "RUNNING" else now}
    stages = [
        {"name": f"stage {place}", "sequence": place, "status": status, **times} for place in range(STAGES)
    ]
    return {
        "pipeline_id": identity,
        "pipeline_run_id": f"run {number}",
        "run_number": number,
        "status": status,
        **times,
        "stage_status_list": stages,
    }


@pytest.mark.parametrize(
    "metrics",
    [
        {},
        {"run_histogram": "project", "stage_histogram": "pipeline"},
        {"run_histogram": "off", "stage_histogram": "off"},
        {"run_status_series": "current", "stage_status_series": "all"},
        {"run_duration_buckets": ["1m"], "stage_duration_buckets": ["1m", "1h"]},
    ],
)
def test_the_series_of_a_page_are_those_predicted(cloud, metrics):
    """Counted on a page after five stages, a success and a failure of every pipeline."""
    settings = config(cloud.project(), metrics=metrics)
    clock = FakeClock()
    cloud.codearts.clock = clock.time

    async def poll():
        exporter = assemble(settings, clock)
        for status, number in COURSE:
            now = int(clock.now * 1000)
            cloud.codearts.rewrite = lambda _, now=now, status=status, number=number: [
                record(pipeline.id, now, status, number) for pipeline in cloud.codearts.world.pipelines
            ]
            await exporter.pollers[0].tick()
            clock.now += 60
        await exporter.pollers[0].close()
        return exporter.publisher.page.bodies[Format.TEXT].plain.decode()

    page = asyncio.run(poll())
    assert len(re.findall(r"^ci_pipeline_", page, re.MULTILINE)) == expected_series(settings)
