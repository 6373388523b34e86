"""`doctor` finds the first cause of each trouble, and its report has no values."""

import asyncio
import json
import re
from typing import Any

import httpx
import msgspec
import pytest

from exporter.app.doctor import output
from exporter.app.doctor.checks import CheckState, Name
from exporter.app.doctor.examine import examine
from exporter.client.transport import ConnectionPools
from exporter.core.failures import FailureKind, RequestFailure
from exporter.simulator import CodeArts, Flow, InjectedFault, Trouble, World
from exporter.simulator.console.drill import Drill
from tests.drivers.poll_now import CloudClock, play
from tests.drivers.support import config

pytestmark = pytest.mark.process

KINDS = ["codearts", "flow"]


def simulated(kind, world, clock) -> Any:
    """Return a simulated cloud of that kind; the kinds differ in their switches."""
    return (CodeArts if kind == "codearts" else Flow)(world, clock=clock.time)


class Case:
    """A simulated cloud in virtual time, and a project on it."""

    def __init__(self, kind, monkeypatch, **changes):
        world = World(pipelines=60)
        self.clock = CloudClock(world.start + 30 * 86_400.0)
        self.cloud = simulated(kind, world, self.clock)
        common = {"name": "payments", "provider": kind, "endpoint": "http://127.0.0.1:1"}
        if kind == "codearts":
            own = {
                "project_id": world.project_id,
                "auth": {"method": "token", "token": self.cloud.credentials.token},
            }
        else:
            own = {
                "organization_id": self.cloud.organization_id,
                "auth": {"method": "yunxiao_token", "token": self.cloud.credentials.personal_token},
            }
        self.project = {**common, **own, "discover": {}, **changes}
        transport = httpx.ASGITransport(app=self.cloud.app)

        async def exchange(pools, request, limit=0):
            try:
                async with asyncio.timeout(pools._timeout), httpx.AsyncClient(transport=transport) as client:
                    response = await client.send(request)
            except TimeoutError:
                return RequestFailure(kind=FailureKind.TRANSIENT, code="timeout", message="no response")
            except ConnectionError:
                return RequestFailure(kind=FailureKind.TRANSIENT, code="connect", message="reset")
            return response.status_code, dict(response.headers), response.content

        monkeypatch.setattr(ConnectionPools, "exchange", exchange)

    def examine(self, *projects, **sections):
        async def run():
            settings = config(*(projects or (self.project,)), **sections)
            return await examine(settings, "127.0.0.1:0", self.clock)

        return play(run)


def first(examination):
    """Return the first check that is not ok, and the documentation entry that its remedy names."""
    check = next(check for check in examination.checks if check.state is not CheckState.OK)
    return check.check, re.findall(r"troubleshooting\.md#([a-z-]+)", check.remedy)[-1]


CAUSES = {
    Trouble.OUTAGE: {(Name.ANSWER, "provider-fails"), (Name.ANSWER, "no-response")},
    Trouble.THROTTLING: {(Name.ANSWER, "provider-throttles")},
    Trouble.EXPIRED_TOKEN: {(Name.CREDENTIALS, "credentials-rejected")},
    Trouble.LOST_MEMBERSHIP: {(Name.MEMBERSHIP, "project-refused")},
    Trouble.SLOW: {(Name.ANSWER, "no-response")},
    Trouble.BAD_RECORDS: {(Name.RECORDS, "record-rejected")},
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("trouble", Trouble)
@pytest.mark.parametrize("listed", [False, True], ids=["discovered", "listed"])
def test_first_cause_of_each_trouble(trouble, kind, listed, monkeypatch):
    case = Case(kind, monkeypatch)
    if listed:
        ids = [case.cloud.pipeline_id(one.id) for one in case.cloud.world.pipelines]
        case.project |= {"discover": None, "pipelines": ids}
    Drill([case.cloud], case.clock.time).plan(trouble)
    examination = case.examine()
    assert first(examination) in CAUSES[trouble]
    if trouble is not Trouble.SLOW:  # one of its requests may exceed the time limit three times
        assert examination.failed is (trouble is not Trouble.BAD_RECORDS)


@pytest.mark.parametrize("kind", KINDS)
def test_healthy_project_has_no_warning(kind, monkeypatch):
    examination = Case(kind, monkeypatch).examine()
    assert {check.state for check in examination.checks} == {CheckState.OK}
    names = [check.check for check in examination.checks]
    assert names == [name for name in Name if name in names]
    whole = {*Name} - {Name.PROJECTS}
    both = whole - {Name.BATCH, Name.RETENTION}
    assert {*names} == (whole if kind == "codearts" else both)
    details = {check.check: check.detail for check in examination.checks}
    assert details[Name.PIPELINES] == "60 are listed, 60 are watched"
    if kind == "codearts":
        assert details[Name.RETENTION] == "runs are kept for 365 days"


@pytest.mark.parametrize("kind", KINDS)
def test_refused_credentials_take_one_request(kind, monkeypatch):
    """Three projects share the credentials; several refusals in a row would lock a key."""
    case = Case(kind, monkeypatch)
    case.project["auth"]["token"] = "another-token-than-the-cloud-knows"
    projects = [{**case.project, "name": name} for name in ("one", "two", "three")]
    examination = case.examine(*projects)
    assert sum(case.cloud.request_counts.values()) == 1
    faults = [check for check in examination.checks if check.state is CheckState.FAULT]
    assert [(check.project, check.check) for check in faults] == [
        (name, Name.CREDENTIALS) for name in ("one", "two", "three")
    ]


def test_missing_secret_file_sends_nothing(monkeypatch, tmp_path):
    case = Case("codearts", monkeypatch)
    case.project["auth"] = {"method": "token", "token_file": str(tmp_path / "missing")}
    examination = case.examine()
    assert first(examination) == (Name.CREDENTIALS, "credentials-missing")
    assert not case.cloud.request_counts


def test_permission_is_distinguished_from_membership(monkeypatch):
    case = Case("codearts", monkeypatch)
    case.cloud.injected_fault = InjectedFault.DENIED
    assert first(case.examine()) == (Name.PERMISSION, "project-refused")
    # Only the list is refused: listed pipelines can be polled.
    case.cloud.injected_fault_operation = "ListPipelines"
    case.project |= {"discover": None, "pipelines": [case.cloud.world.pipelines[0].id]}
    examination = case.examine()
    assert first(examination) == (Name.PERMISSION, "project-refused")
    assert not examination.failed


def test_ids_that_the_provider_lacks(monkeypatch):
    case = Case("codearts", monkeypatch)
    known = case.cloud.world.pipelines[0].id
    case.project |= {"discover": None, "pipelines": [known, "f" * 32]}
    examination = case.examine()
    assert first(examination) == (Name.PIPELINES, "pipelines-not-listed")
    (check,) = [one for one in examination.checks if one.check is Name.PIPELINES]
    assert "f" * 32 in check.detail
    assert known not in check.detail


def test_patterns_that_select_nothing_are_found(monkeypatch):
    case = Case("flow", monkeypatch, discover={"include": ["no-such-name"]})
    assert first(case.examine()) == (Name.PIPELINES, "pattern-selects-nothing")


def test_batch_limit_is_found(monkeypatch):
    case = Case("codearts", monkeypatch)
    case.cloud.batch_limit = 20
    (check,) = [one for one in case.examine().checks if one.check is Name.BATCH]
    assert check.state is CheckState.WARNING
    assert "set poll.chunk_size to 13" in check.remedy


def test_clock_that_is_off_is_a_warning(monkeypatch):
    case = Case("codearts", monkeypatch)
    case.cloud.clock = lambda: case.clock.time() + 400
    (check,) = [one for one in case.examine().checks if one.check is Name.CLOCK]
    assert (check.state, "400 s ahead" in check.detail) == (CheckState.WARNING, True)


def test_retention_is_not_known_without_the_account(monkeypatch):
    case = Case("codearts", monkeypatch)
    case.cloud.world.domain_id = ""
    (check,) = [one for one in case.examine().checks if one.check is Name.RETENTION]
    assert (check.state, check.detail) == (CheckState.OK, "not known")


def test_missing_state_folder_is_a_fault_and_nothing_is_written(monkeypatch, tmp_path):
    case = Case("codearts", monkeypatch)
    examination = case.examine(state={"path": str(tmp_path / "missing" / "state.db")})
    assert first(examination) == (Name.STATE, "start-errors")
    assert examination.failed
    assert not case.examine(state={"path": str(tmp_path / "state.db")}).failed
    assert not (tmp_path / "state.db").exists()


def test_output_masks_secrets_and_control_characters(monkeypatch):
    case = Case("flow", monkeypatch)
    token = case.project["auth"]["token"]
    case.project["name"] = "pay\x1b[31mments"
    case.cloud.no_membership = True
    examination = case.examine()
    checks = [msgspec.structs.replace(one, detail=f"{one.detail} {token}") for one in examination.checks]
    for text in ("\n".join(output.lines(checks)), output.json(checks)):
        assert token not in text
        assert "\x1b" not in text
    assert {"project", "check", "state", "detail", "remedy"} == set(
        json.loads(output.json(checks))["checks"][0]
    )


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("trouble", [None, *Trouble])
def test_report_has_no_values(trouble, kind, monkeypatch):
    """The report has no string or number of responses, requests or the configuration."""
    case = Case(kind, monkeypatch)
    if trouble is not None:
        Drill([case.cloud], case.clock.time).plan(trouble)
    addresses: list[str] = []
    bodies: list[bytes] = []
    answer = ConnectionPools.exchange

    async def exchange(pools, request, limit=0):
        outcome = await answer(pools, request, limit)
        addresses.extend(part for part in re.split(r"[/?&=]", str(request.url)) if re.search(r"\d", part))
        if not isinstance(outcome, RequestFailure):
            bodies.append(outcome[2])
            bodies.extend(value.encode() for value in outcome[1].values())
        return outcome

    monkeypatch.setattr(ConnectionPools, "exchange", exchange)
    report = case.examine().report
    assert json.loads(report)["projects"][0]["provider"] == kind
    found = set(addresses)
    for body in bodies:
        try:
            found.update(values(json.loads(body)))
        except ValueError:
            found.update(re.findall(r"[\w.:/-]*\d[\w.:/-]{5,}", body.decode()))
    found.update(values(case.project))
    tokens = set(values(json.loads(report), keys=True))
    words = {
        word for words in re.findall(r'"words": \[([^\]]*)\]', report) for word in re.findall(r"\w+", words)
    }
    allowed = words | {"codearts", "flow", "token", "yunxiao_token"} | ERROR_CODES
    leaked = {
        value
        for value in found - allowed
        if len(value) >= 5 and (value in tokens or (len(value) >= 8 and value in report))
    }
    assert not leaked


ERROR_CODES = {
    "APIGW.0301",
    "APIGW.0308",
    "DEVPIPE.00011412",
    "TooManyRequests",
    "ExpiredTokenError",
    "InvalidTokenError",
    "Forbidden.InvalidUser.UserNotInCurrentOrganization",
}


def values(value, *, keys=False):
    """Yield every string and number in a JSON value and, if `keys`, the keys of its objects."""
    if isinstance(value, dict):
        if keys:
            yield from value
        for member in value.values():
            yield from values(member, keys=keys)
    elif isinstance(value, list | tuple):
        for member in value:
            yield from values(member, keys=keys)
    elif value is not None and not isinstance(value, bool):
        yield str(value)


def test_report_masks_keys_that_are_names_or_secrets(monkeypatch):
    case = Case("codearts", monkeypatch)
    token = case.cloud.credentials.token
    named = {
        "checkout": {"name": "checkout"},
        token: 1,
        "54f90b75fc1447b1b65e8d3a9f77923d": "x",
        "ordinary": 2,
    }
    case.cloud.rewrite = lambda records: [{**record, **named} for record in records]
    report = case.examine().report
    for secret in ("checkout", token, "54f90b75fc1447b1b65e8d3a9f77923d"):
        assert secret not in report
    assert '"ordinary"' in report
    assert '"<key>"' in report


def test_report_describes_times_and_enumerations(monkeypatch):
    case = Case("codearts", monkeypatch)
    (described,) = json.loads(case.examine().report)["projects"]
    runs = described["operations"]["BatchShowPipelinesLatestStatus"]["responses"]["200"]["items"]["fields"]
    assert runs["start_time"]["formats"] == ["epoch milliseconds"]
    assert "COMPLETED" in runs["status"]["words"]
    stage = runs["stage_status_list"]["items"]["fields"]
    assert "time YYYY-MM-DD HH:MM:SS" in stage["start_time"]["formats"]
    assert described["checks"]["credentials"] == "ok"
