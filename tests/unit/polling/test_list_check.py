"""What the provider's list shows about the configuration: ids it lacks, patterns that select nothing, and the gauges."""

import asyncio
import logging

import pytest
import yaml

from exporter.app.bootstrap import assemble
from exporter.core.shard import Shard
from exporter.simulator import Flow, InjectedFault, World, running
from tests.drivers.process import Samples, command
from tests.drivers.support import FakeClock, config, shown

pytestmark = pytest.mark.process

NOT_LISTED = "pipeline_exporter_pipelines_not_listed"
LISTED = "pipeline_exporter_pipelines_listed"
OTHERS = [{"id": letter * 32, "name": letter} for letter in "ab"]


def pages(settings, steps, clock=None, shard=None):
    """Call each function in `steps`, and poll after each number of seconds; return the metrics page after each poll."""
    clock = clock or FakeClock()

    async def polls():
        exporter = assemble(settings, clock, shard=shard)
        found = []
        for step in steps:
            if callable(step):
                step()
                continue
            clock.now += step
            await exporter.pollers[0].tick()
            found.append(Samples(shown(exporter)))
        await exporter.pollers[0].close()
        return found

    return asyncio.run(polls())


def lists(cloud):
    """Return how often the list was read from its beginning."""
    return sum(1 for call in cloud.codearts.requests if call.operation == "ListPipelines")


def with_others(cloud, **changes):
    """Return a project with named pipelines of the cloud, and two that it does not have."""
    own = cloud.project()
    return cloud.project(pipelines=[*own["pipelines"], *OTHERS], **changes)


def logged(caplog, slug):
    return [record for record in caplog.records if getattr(record, "id", "") == slug]


def test_ids_that_the_list_lacks_are_counted_and_logged_once(cloud, caplog):
    [first, later] = pages(config(with_others(cloud)), [0, 3600])
    for page in (first, later):
        assert page.value(NOT_LISTED, provider="codearts", project="payments") == 2
        assert page.get(LISTED) == {}
    [record] = logged(caplog, "pipelines-not-listed")
    assert record.levelno == logging.WARNING
    assert (record.pipelines, record.value) == (2, f"{'a' * 32}, {'b' * 32}")
    assert record.reason == "deleted, mistyped, or of another project"


def test_list_is_read_in_the_first_refresh_and_hourly_although_every_name_is_configured(cloud):
    settings = config(cloud.project(), poll={"interval": "10m"})
    [page] = pages(settings, [0])
    once = lists(cloud)
    assert once > 0
    assert page.value(NOT_LISTED) == 0
    cloud.codearts.requests.clear()
    pages(settings, [0, *[600] * 5])
    assert lists(cloud) == once
    cloud.codearts.requests.clear()
    pages(settings, [0, *[600] * 6])
    assert lists(cloud) == 2 * once


def test_discovery_counts_what_it_selects(cloud):
    names = [one["name"] for one in cloud.project()["pipelines"]]
    discover = {"include": [names[0], names[1]]}
    [page] = pages(config(cloud.project(pipelines=[], discover=discover)), [0])
    selected = sum(1 for name in names if name in discover["include"])
    assert page.value(LISTED, provider="codearts", project="payments", selected="true") == selected
    assert page.value(LISTED, project="payments", selected="false") == 30 - selected
    assert page.get(NOT_LISTED) == {}


def test_configured_ids_and_discovery_have_both_gauges(cloud):
    [page] = pages(config(with_others(cloud, discover={})), [0])
    assert page.value(NOT_LISTED) == 2
    assert page.value(LISTED, selected="true") == 30


def test_each_shard_counts_its_own_ids(cloud):
    found = [pages(config(with_others(cloud)), [0], shard=Shard(index, 3))[0] for index in range(3)]
    assert sum(page.value(NOT_LISTED) or 0 for page in found) == 2


def test_gauges_are_absent_where_the_list_cannot_be_read(cloud):
    cloud.codearts.injected_fault = InjectedFault.DENIED
    cloud.codearts.injected_fault_operation = "ListPipelines"
    for own in (with_others(cloud), with_others(cloud, discover={})):
        [page] = pages(config(own), [0])
        assert page.get(NOT_LISTED) == page.get(LISTED) == {}


def test_gauges_are_withdrawn_after_max_age_without_an_answer(cloud):
    def down():
        cloud.codearts.injected_fault = InjectedFault.SERVER_ERROR

    settings = config(with_others(cloud, discover={"interval": "1h"}), poll={"max_age": "5m"})
    first, *others = pages(settings, [0, down, *[60] * 6])
    assert first.value(NOT_LISTED) == 2
    assert [page.value(NOT_LISTED) for page in others[:4]] == [2.0] * 4
    assert others[-1].get(NOT_LISTED) == others[-1].get(LISTED) == {}


def test_lost_membership_is_no_mistake_of_the_ids(cloud, caplog):
    """The project is down, and its failures name the cause."""
    cloud.codearts.no_membership = True
    pages(config(cloud.project()), [0, 60])
    assert logged(caplog, "pipelines-not-listed") == []
    [down] = logged(caplog, "project-down")
    assert "the user is not a member of the project" in down.error


def test_list_is_read_again_when_the_user_is_a_member_again(cloud, caplog):
    """Also without configured names, where the empty list is read before the project refuses the rest."""
    ids = [one["id"] for one in with_others(cloud)["pipelines"]]

    def member_again():
        cloud.codearts.no_membership = False

    cloud.codearts.no_membership = True
    lost, *_, found = pages(config(cloud.project(pipelines=ids)), [0, 60, member_again, 60])
    assert lost.get(NOT_LISTED) == {}
    assert found.value(NOT_LISTED) == 2
    [record] = logged(caplog, "pipelines-not-listed")
    assert record.pipelines == 2


def test_pattern_that_selects_nothing_is_logged_once_with_a_hint(cloud, caplog):
    name = cloud.project()["pipelines"][0]["name"]
    discover = {
        "include": [".*", name[:4], f"X{name}"],
        "labels": [
            {"match": name.upper(), "labels": {"team": "a"}},
            {"match": name, "labels": {"team": "b"}},
        ],
    }
    pages(config(cloud.project(pipelines=[], discover=discover)), [0, 600, 600])
    found = {
        record.field: (record.value, record.reason) for record in logged(caplog, "pattern-selects-nothing")
    }
    assert len(logged(caplog, "pattern-selects-nothing")) == 3
    value, reason = found["discover.include[1]"]
    assert value == name[:4]
    assert reason.startswith("it must match the whole name, and matches a part of ")
    assert found["discover.include[2]"] == (f"X{name}", "")
    assert found["discover.labels[0].match"] == (
        name.upper(),
        "case counts: begin it with (?i) to ignore case",
    )


def test_end_of_credentials_is_logged_once_when_it_has_passed(cloud, caplog):
    token = cloud.codearts.credentials.token
    auth = {"method": "token", "token": token, "expires": "2023-11-14T22:15:00Z"}
    clock = FakeClock()
    pages(config(cloud.project(auth=auth)), [0], clock)
    assert logged(caplog, "credentials-expired") == []
    clock.now = 1_700_000_000.0
    pages(config(cloud.project(auth=auth)), [0, 60, 60, 60, 60], clock)
    [record] = logged(caplog, "credentials-expired")
    assert record.value == "2023-11-14T22:15:00+00:00"


@pytest.mark.parametrize("method", ["yunxiao_token", "aksk"])
@pytest.mark.parametrize(
    ("member", "cause"),
    [(False, "(the user is not a member of the organization"), (True, "organization_id is ")],
)
def test_wrong_organization_and_lost_membership_name_their_causes(caplog, method, member, cause):
    flow = Flow(World(pipelines=3))
    flow.no_membership = not member
    keys = flow.credentials
    auth = {
        "yunxiao_token": {"token": keys.personal_token},
        "aksk": {"access_key": keys.access_key, "secret_key": keys.secret_key},
    }[method]
    with running(flow.app) as url:
        own = {
            "name": "apps",
            "provider": "flow",
            "endpoint": url,
            "organization_id": "f" * 24 if member else flow.organization_id,
            "auth": {"method": method, **auth},
        }
        [page] = pages(config(own), [0])
    assert page.get(NOT_LISTED) == page.get(LISTED) == {}
    [down] = logged(caplog, "project-down")
    assert cause in down.error


@pytest.mark.process
def test_once_logs_each_mistake_once(cloud, tmp_path):
    """The command, its exit code, its messages and the metric."""
    auth = {"method": "token", "token": cloud.codearts.credentials.token, "expires": "2020-01-31"}
    own = with_others(cloud, auth=auth, discover={"include": ["no such name"]})
    file = tmp_path / "config.yaml"
    file.write_text(yaml.safe_dump({"projects": [own]}))
    code, output, errors = command("once", str(file))
    assert code == 0
    assert Samples(output).value(NOT_LISTED, project="payments", provider="codearts") == 2
    warnings = [line for line in errors.splitlines() if "level=warning" in line]
    assert len(warnings) == 3
    for slug in ("pipelines-not-listed", "pattern-selects-nothing", "credentials-expired"):
        assert sum(f" id={slug} " in line for line in warnings) == 1
    assert "a" * 32 in errors


@pytest.mark.process
def test_wrong_project_id_names_its_causes(cloud, tmp_path):
    file = tmp_path / "config.yaml"
    file.write_text(yaml.safe_dump({"projects": [cloud.project(project_id="e" * 32)]}))
    code, _, errors = command("once", str(file))
    assert code == 1
    assert "error_code=DEVPIPE.00011412" in errors
    assert (
        "(the user is not a member of the project, or project_id is not that of a CodeArts project" in errors
    )
