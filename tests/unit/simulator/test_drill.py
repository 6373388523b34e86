"""Troubles begin and end by the clock, and clouds react as the vendors do."""

import pytest

from exporter.simulator import Drill, Flow, Trouble, World
from exporter.simulator.console.console import _switches
from tests.unit.simulator.test_codearts import NEVER_RUN, RUNNING_PIPELINES, WORLD, Desk


@pytest.fixture
def desk():
    return Desk()


@pytest.fixture
def drill(desk):
    return Drill([desk.cloud], lambda: desk.now)


def answer(desk):
    """Request a batch; return status, the vendor's error code, and the time to wait."""
    response = desk.batch(RUNNING_PIPELINES[0].id)
    body = response.json() if response.content else None
    code = body.get("error_code") if isinstance(body, dict) else None
    return response.status_code, code, response.headers.get("retry-after")


def test_trouble_lasts_from_after_for_duration(desk, drill):
    drill.plan(Trouble.EXPIRED_TOKEN, 10, 5)
    seen = []
    for _ in range(8):
        drill.update()
        seen.append((drill.active, answer(desk)[0]))
        desk.now += 2.5
    assert seen == [(False, 200)] * 4 + [(True, 401)] * 2 + [(False, 200)] * 2
    assert drill.trouble is None


def test_trouble_after_0_begins_at_once_and_lasts_until_it_is_stopped(desk, drill):
    drill.plan(Trouble.THROTTLING)
    assert answer(desk)[0] == 429
    desk.now += 1e6
    drill.update()
    assert answer(desk)[0] == 429
    drill.stop()
    assert answer(desk)[0] == 200


def test_trouble_missed_between_two_requests_does_not_begin(desk, drill):
    drill.plan(Trouble.OUTAGE, 10, 5)
    desk.now += 100
    drill.update()
    assert not drill.active
    assert drill.trouble is None


@pytest.mark.parametrize("trouble", Trouble)
def test_every_switch_returns_to_its_value(desk, drill, trouble):
    """Switches that a test has changed return to the changed value."""
    desk.cloud.latency, desk.cloud.no_membership = 0.001, True
    before = _switches(desk.cloud)
    drill.plan(Trouble.SLOW)
    drill.plan(trouble)
    during = _switches(desk.cloud)
    drill.stop()
    assert _switches(desk.cloud) == before
    assert (during != before) is (trouble is not Trouble.LOST_MEMBERSHIP)


def test_codearts_responds_as_the_vendor_in_each_trouble(desk, drill):
    answers = {}
    for trouble in (Trouble.THROTTLING, Trouble.EXPIRED_TOKEN, Trouble.LOST_MEMBERSHIP):
        drill.plan(trouble)
        answers[trouble] = answer(desk)
    assert answers == {
        Trouble.THROTTLING: (429, "APIGW.0308", "5"),
        Trouble.EXPIRED_TOKEN: (401, "APIGW.0301", None),
        Trouble.LOST_MEMBERSHIP: (200, "DEVPIPE.00011412", None),
    }
    listed = desk.request("POST", f"{desk.pipelines}/list", json={"project_id": WORLD.project_id}).json()
    assert (listed["total"], listed["pipelines"]) == (0, [])


def test_outage_takes_turns_and_covers_every_path(desk, drill):
    """Without a port there is no connection to reset; 502 stands for it."""
    drill.plan(Trouble.OUTAGE)
    assert [answer(desk) for _ in range(4)] == [(code, None, None) for code in (502, 503, 502, 502)]
    assert desk.request("GET", "/unpublished").status_code == 503


def test_bad_records_affect_their_pipelines_only(desk, drill):
    drill.plan(Trouble.BAD_RECORDS)
    bad = set(desk.cloud.bad_records)
    assert len(bad) == -(-len(RUNNING_PIPELINES) // 25)
    assert bad.isdisjoint(pipeline.id for pipeline in NEVER_RUN)
    text = desk.batch(*(pipeline.id for pipeline in RUNNING_PIPELINES)).text
    assert text.count("NaN") + text.count("undefined") == len(bad)


def test_bad_records_affect_at_least_one_pipeline():
    flow = Flow(World(pipelines=3))
    Drill([flow], flow.clock).plan(Trouble.BAD_RECORDS)
    assert len(flow.bad_records) == 1
