"""The log during an hour of trouble, with the real pollers on a simulated cloud in virtual time."""

import dataclasses

import pytest

from exporter.client.transport import ConnectionPools
from exporter.exposition.publisher import Publisher
from exporter.simulator import CodeArts, Flow, InjectedFault, World
from tests.drivers.drill import Drill
from tests.drivers.support import config

HOUR = 3600.0
START = 120.0
INTERVAL = 60.0
RECOVERY = 400.0
POLL = {"active_interval": "60s"}
MOST = 6
"""Maximum number of lines about one outage in an hour."""


@pytest.fixture
def drill(monkeypatch):
    """Return a function that makes a drill on a cloud; no pages are published, which takes real time."""

    async def publish(_):
        return

    monkeypatch.setattr(Publisher, "publish", publish)

    def make(cloud, project, **sections):
        def exchange(function):
            monkeypatch.setattr(ConnectionPools, "exchange", function)

        return Drill(cloud, config(project, **sections), exchange)

    return make


def codearts_project(cloud, **changes):
    return {
        "name": "payments",
        "provider": "codearts",
        "endpoint": "http://127.0.0.1:1",
        "project_id": cloud.world.project_id,
        "auth": {"method": "token", "token": cloud.credentials.token},
        "discover": {"interval": "5m"},
        **changes,
    }


def flow_project(cloud, **changes):
    return {
        "name": "mobile",
        "provider": "flow",
        "endpoint": "http://127.0.0.1:1",
        "organization_id": cloud.organization_id,
        "auth": {"method": "yunxiao_token", "token": cloud.credentials.personal_token},
        "discover": {"interval": "5m"},
        **changes,
    }


@pytest.fixture(params=["codearts", "codearts, discovered", "flow"])
def prepared(request, drill):
    """A drill on each cloud."""
    options = {"metrics": {"details": "jobs"}, "poll": POLL}
    if request.param == "codearts":
        codearts = CodeArts(World(pipelines=4))
        listed = [{"id": one.id} for one in codearts.world.pipelines]
        return drill(codearts, codearts_project(codearts, discover=None, pipelines=listed), **options)
    if request.param == "codearts, discovered":
        codearts = CodeArts(World(pipelines=4))
        return drill(codearts, codearts_project(codearts), **options)
    flow = Flow(World(pipelines=4))
    return drill(flow, flow_project(flow), **options)


def outage(drill):
    drill.unreachable = not drill.unreachable


def expired_token(drill):
    cloud = drill.cloud
    good = getattr(drill, "good", None)
    if good is not None:
        cloud.credentials = good
        return
    drill.good = cloud.credentials
    field = "token" if isinstance(cloud, CodeArts) else "personal_token"
    cloud.credentials = dataclasses.replace(cloud.credentials, **{field: "another-token-of-the-cloud"})


def throttled(limit, seconds, *, retry_after):
    def switch(drill):
        drill.cloud.throttle = None if drill.cloud.throttle else (limit, seconds)
        drill.cloud.retry_after = retry_after

    return switch


def lost_membership(drill):
    drill.cloud.no_membership = not drill.cloud.no_membership


def slow(drill):
    drill.cloud.latency = 0.0 if drill.cloud.latency else 30.0


def throttling(drill):
    drill.cloud.injected_fault = None if drill.cloud.injected_fault else InjectedFault.THROTTLED


TROUBLES = {
    "outage": (outage, "no-response"),
    "expired token": (expired_token, "credentials-rejected"),
    "throttling": (throttling, "provider-throttles"),
    "lost membership": (lost_membership, "project-refused"),
}


def messages(lines, start=0.0):
    return [(record.levelname, record.msg) for _, record in lines.between(start)]


@pytest.mark.parametrize("trouble", TROUBLES)
def test_hour_of_trouble_has_few_lines(prepared, trouble):
    """The first line is logged within two refreshes, the last one at recovery."""
    switch, remedy = TROUBLES[trouble]
    lines = prepared.play(START, lambda: switch(prepared), HOUR, lambda: switch(prepared), RECOVERY)
    during = lines.between(START)
    assert len(during) <= MOST, lines.text()
    (began, down), *still, (ended, up) = during
    assert (down.levelname, down.msg) == ("ERROR", "project down"), lines.text()
    assert began - START <= 2 * INTERVAL
    assert down.remedy == f"docs/troubleshooting.md#{remedy}"
    ages = [record.seconds for _, record in still if record.msg == "project still down"]
    # An empty list that is not believed is logged once an hour, besides the refusals.
    others = {record.id for _, record in still if record.msg != "project still down"}
    assert others <= ({"implausible-list"} if trouble == "lost membership" else set())
    for age, expected in zip(ages, (300, 900, 3600), strict=False):
        assert abs(age - expected) <= INTERVAL
    assert len(ages) >= 2
    assert (up.levelname, up.msg) == ("INFO", "project up again")
    assert ended >= START + HOUR
    assert abs(up.seconds - (ended - began)) <= INTERVAL
    # Every failure of the outage is part of one line.
    assert all(record.failures > 0 for _, record in during)
    assert not prepared.exporter.pollers[0].health.down


@pytest.mark.parametrize(
    "switch",
    [throttled(4, 60.0, retry_after=False), throttled(20, 300.0, retry_after=True), slow],
    ids=["window", "long window", "slow"],
)
def test_partial_and_repeated_outages_have_few_lines(prepared, switch):
    """A throttle that passes some requests lets a project go down and up in turn; slow answers skip polls."""
    lines = prepared.play(START, lambda: switch(prepared), HOUR, lambda: switch(prepared), RECOVERY)
    assert len(lines.between(START, START + HOUR)) <= MOST, lines.text()


def test_outage_from_the_start_is_an_outage(drill):
    cloud = CodeArts(World(pipelines=3))
    made = drill(cloud, codearts_project(cloud), poll=POLL)
    made.unreachable = True
    lines = made.play(400.0, lambda: outage(made), 100.0)
    assert messages(lines) == [
        ("ERROR", "project down"),
        ("ERROR", "project still down"),
        ("INFO", "project up again"),
    ]


def test_first_refresh_is_logged_with_its_figures(drill):
    cloud = CodeArts(World(pipelines=3))
    lines = drill(cloud, codearts_project(cloud), poll=POLL).play(100.0)
    [(_, record)] = lines.between(0)
    assert (record.levelname, record.msg) == ("INFO", "project up")
    assert (record.pipelines, record.requests) == (3, 2)


def test_failed_names_and_follow_ups_are_one_warning_an_hour_each(drill):
    """These failures do not make the project down."""
    cloud = CodeArts(World(pipelines=4))
    listed = [{"id": one.id} for one in cloud.world.pipelines]
    made = drill(
        cloud,
        codearts_project(cloud, discover=None, pipelines=listed),
        metrics={"details": "jobs"},
        poll=POLL,
    )
    cloud.injected_fault = InjectedFault.SERVER_ERROR
    cloud.injected_fault_operation = "ShowPipelineRunDetail"
    lines = made.play(1.5 * HOUR)
    warnings = [record for _, record in lines.between(0) if record.levelname == "WARNING"]
    assert {record.id for record in warnings} == {"poll-failed"}
    assert len(warnings) == 2
    assert warnings[1].requests > warnings[0].requests
    assert not [record for _, record in lines.between(0) if record.levelname == "ERROR"]
