"""What the log says in an hour of trouble, with the real pollers on a simulated cloud in virtual time."""

import dataclasses

import pytest

from exporter.client.transport import ConnectionPools
from exporter.exposition.publisher import Publisher
from exporter.simulator import CodeArts, Flow, InjectedFault, World
from tests.drivers.drill import Drill
from tests.drivers.support import config

HOUR = 3600.0
START = 300.0
POLL = {"active_interval": "30s"}
MOST = 6
"""Lines about one outage in an hour."""


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


@pytest.fixture(params=["codearts", "flow"])
def prepared(request, drill):
    """A drill on each cloud."""
    if request.param == "codearts":
        cloud = CodeArts(World(pipelines=6))
        return drill(cloud, codearts_project(cloud), metrics={"details": "jobs"}, poll=POLL)
    cloud = Flow(World(pipelines=6))
    return drill(cloud, flow_project(cloud), metrics={"details": "jobs"}, poll=POLL)


def outage(drill):
    drill.unreachable = not drill.unreachable


def fault(injected):
    def switch(drill):
        drill.cloud.injected_fault = None if drill.cloud.injected_fault else injected

    return switch


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


TROUBLES = {
    "outage": outage,
    "bad gateway": fault(InjectedFault.BAD_GATEWAY),
    "login page": fault(InjectedFault.HTML),
    "denied": fault(InjectedFault.DENIED),
    "expired token": expired_token,
    "throttling": fault(InjectedFault.THROTTLED),
    "throttling by window": throttled(4, 60.0, retry_after=False),
    "throttling with a time": throttled(4, 60.0, retry_after=True),
    "throttling by long window": throttled(20, 300.0, retry_after=True),
    "lost membership": lost_membership,
    "slow": slow,
}


@pytest.mark.parametrize("trouble", TROUBLES)
def test_hour_of_trouble_has_few_lines(prepared, trouble):
    switch = TROUBLES[trouble]
    lines = prepared.play(
        START, lambda: switch(prepared), HOUR, lambda: switch(prepared), 600.0
    )
    print(prepared.lines.text())
