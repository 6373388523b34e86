"""Decoding of the list of projects: no row affects another, and each error is classified."""

import asyncio
import json
import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.auth.huawei import HuaweiAkskSection, authentication
from exporter.client.api_client import ApiClient, ApiError
from exporter.client.credential_state import CredentialState
from exporter.client.rate_limiter import RateLimiter
from exporter.client.transport import TransportOptions, tls_context
from exporter.core import redaction
from exporter.core.failures import FailureKind
from exporter.core.model import LABEL_LENGTH
from exporter.providers.codearts import ENDPOINTS, ProjectDirectory, directory_endpoint
from exporter.providers.protocol import PageCursor, ProjectRows
from exporter.simulator import CodeArts, InjectedFault, World, running
from exporter.telemetry.recorder import Telemetry
from tests.drivers.support import FakeClock
from tests.marks import examples
from tests.unit.providers.test_codearts import NOW, corrupted, json_values

DIRECTORY = ProjectDirectory()
CALL = DIRECTORY.projects_request(PageCursor())


def project_id(index: int) -> str:
    return f"{index:032x}"


def row(index: int = 0, **changes: Any) -> dict[str, Any]:
    """Return the row of a project, with `changes` applied."""
    return {
        "project_num_id": 3_844_000 + index,
        "project_id": project_id(index),
        "project_name": f"project-{index}",
        "description": "deploys {everything}",
        "created_time": 1_600_417_972_000,
        "updated_time": 1_600_417_972_000,
        "project_type": "scrum",
        "creator": {"user_num_id": 4090, "user_name": "test001", "nick_name": "Jim"},
        **changes,
    }


def body(rows: Any, **envelope: Any) -> bytes:
    return json.dumps({"projects": rows, "total": 1, **envelope}).encode()


def read(*rows: Any) -> ProjectRows:
    return DIRECTORY.read_projects(body(rows), NOW, {})


def test_page_has_names_by_id() -> None:
    assert read(row(0), row(1, project_name="支付")) == ProjectRows(
        rows=2, projects={project_id(0): "project-0", project_id(1): "支付"}
    )


@pytest.mark.parametrize(
    ("pages", "offset"), [(0, 0), (1, 100), (99, 9_900), (100, 10_000), (101, 10_000), (10**6, 10_000)]
)
def test_offset_is_a_multiple_of_the_limit(pages: int, offset: int) -> None:
    """Also after a page with fewer rows than requested."""
    call = DIRECTORY.projects_request(PageCursor(rows=7, pages=pages))
    assert (call.operation, call.method, call.path) == ("ListProjectsV4", "GET", "/v4/projects")
    assert call.query == (("offset", str(offset)), ("limit", "100"))
    assert (dict(call.headers), call.body) == ({"Content-Type": "application/json"}, b"")


def test_endpoint_is_known_for_some_regions() -> None:
    assert directory_endpoint("cn-north-4") == "https://projectman-ext.cn-north-4.myhuaweicloud.com"
    known = {region for region in ENDPOINTS if directory_endpoint(region)}
    assert len(known) == 9
    assert directory_endpoint("eu-west-101") is directory_endpoint("") is None


# -- rows


@pytest.mark.parametrize("total", [None, 0, -1, "many", 10**30, [], {"count": 1}])
def test_total_does_not_matter(total: Any) -> None:
    page = DIRECTORY.read_projects(body([row()], total=total), NOW, {})
    assert page == ProjectRows(rows=1, projects={project_id(0): "project-0"})
    bare = json.dumps({"projects": [row()]}).encode()
    assert DIRECTORY.failure(CALL, 200, {}, bare) is None
    assert DIRECTORY.read_projects(bare, NOW, {}) == page


@pytest.mark.parametrize(
    "odd", [None, "", True, 1.5, [], {}, "a/b", "../admin", "a b", "a?b", "x" * 65, "流水线", "a\n", "%2e"]
)
def test_row_without_usable_id_is_rejected(odd: Any) -> None:
    page = read(row(0), row(1, project_id=odd), row(2))
    assert (page.rows, list(page.projects), page.incomplete) == (3, [project_id(0), project_id(2)], True)
    assert [reason for reason, _ in page.rejected] == ["unreadable"]


@pytest.mark.parametrize("odd", [None, 17, "text", [], [row(5)]])
def test_value_that_is_not_a_row_is_rejected(odd: Any) -> None:
    page = read(row(0), odd)
    assert (page.rows, list(page.projects), page.incomplete) == (2, [project_id(0)], True)


def test_id_may_be_a_number() -> None:
    assert read(row(project_id=3_844_012)).projects == {"3844012": "project-0"}


def test_id_that_is_a_secret_is_rejected() -> None:
    redaction.register(project_id(1))
    page = read(row(0), row(1))
    assert (list(page.projects), page.incomplete) == ([project_id(0)], True)
    assert project_id(1) not in str(page)


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("", ""),
        (None, ""),
        (12, "12"),
        ([], ""),
        ({"name": "x"}, ""),
        ("two\nlines\x1b[31m", "two lines [31m"),
        ("token-to-keep-secret!", "<secret>!"),
        ("n" * LABEL_LENGTH, "n" * (LABEL_LENGTH - 1) + "…"),
        ("流" * 100_000, "流" * (LABEL_LENGTH - 1) + "…"),
    ],
)
def test_any_name_becomes_a_short_line(name: Any, shown: str) -> None:
    redaction.register("token-to-keep-secret")
    page = read(row(0, project_name=name), row(1))
    assert page.projects == {project_id(0): shown, project_id(1): "project-1"}
    assert not page.rejected
    assert not page.incomplete


def test_repeated_row_counts_once() -> None:
    page = read(row(0), row(1), row(0), row(1, project_name=None))
    assert page == ProjectRows(rows=4, projects={project_id(0): "project-0", project_id(1): "project-1"})


def test_first_of_two_names_is_used() -> None:
    page = read(row(0, project_name=""), row(0), row(0, project_name="other"))
    assert page.projects == {project_id(0): "project-0"}
    assert [reason for reason, _ in page.rejected] == ["duplicate"]
    assert not page.incomplete


def test_row_that_is_not_json_is_rejected() -> None:
    spoilt = body([row(0), row(1, project_num_id="SPOILT"), row(2)]).replace(b'"SPOILT"', b"NaN")
    assert DIRECTORY.failure(CALL, 200, {}, spoilt) is None
    page = DIRECTORY.read_projects(spoilt, NOW, {})
    assert (list(page.projects), page.incomplete) == ([project_id(0), project_id(2)], True)


@given(
    st.integers(0, 2),
    st.sampled_from(sorted(row())),
    st.sampled_from(["remove", "null", "replace"]),
    json_values,
    st.randoms(use_true_random=False),
)
def test_changed_field_affects_only_its_row(
    index: int, field: str, change: str, odd: Any, shuffle: random.Random
) -> None:
    """A removed, null or replaced field in one row, with keys in any order."""
    rows: list[Any] = [row(0), row(1), row(2)]
    rows[index] = corrupted(rows[index], (field,), change, odd)
    for position, fields in enumerate(rows):
        items = list(fields.items())
        shuffle.shuffle(items)
        rows[position] = dict(items)
    page = read(*rows)
    others = {project_id(one): f"project-{one}" for one in range(3) if one != index}
    assert others.items() <= page.projects.items()
    assert page.rows == 3
    has_own = page.projects.keys() > others.keys()
    assert page.incomplete == bool(page.rejected) == (not has_own)
    if field not in {"project_id", "project_name"}:
        assert page == read(row(0), row(1), row(2))


# -- errors


@pytest.mark.parametrize(
    "error",
    [
        {"error_code": "PM.02177003", "error_msg": "not a member"},
        {"error": {"code": "PM.02177003", "message": "not a member"}},
        {"error_code": "PM.02177003", "error_msg": "not a member", "projects": [row()]},
    ],
)
@pytest.mark.parametrize("status", [200, 400])
def test_error_object_is_a_failure_with_any_status(error: Any, status: int) -> None:
    failure = DIRECTORY.failure(CALL, status, {}, json.dumps(error).encode())
    assert failure is not None
    assert (failure.kind, failure.error_code, failure.message) == (
        FailureKind.CONTENT,
        "PM.02177003",
        "not a member",
    )


@pytest.mark.parametrize(
    ("status", "code", "kind"),
    [
        (401, "APIGW.0301", FailureKind.CREDENTIALS),
        (403, "APIGW.0302", FailureKind.PROJECT),
        (404, "APIGW.0101", FailureKind.PROJECT),
        (429, "APIGW.0308", FailureKind.THROTTLED),
        (500, "APIGW.0601", FailureKind.TRANSIENT),
    ],
)
def test_error_of_the_gateway_is_classified(status: int, code: str, kind: FailureKind) -> None:
    failure = DIRECTORY.failure(CALL, status, {}, json.dumps({"error_code": code, "error_msg": "m"}).encode())
    assert failure is not None
    assert (failure.kind, failure.error_code) == (kind, code)


@pytest.mark.parametrize(
    "wrong",
    [b"", b"null", b"[]", b"{}", b"<html>", b'{"total":0}', body({}), body("x"), body(1), b'{"projects":[}'],
)
def test_other_response_is_a_failure(wrong: bytes) -> None:
    """It does not count as an empty list."""
    failure = DIRECTORY.failure(CALL, 200, {}, wrong)
    assert failure is not None
    assert failure.kind is FailureKind.UNREADABLE


@pytest.mark.parametrize("empty", [None, []])
def test_empty_page_ends_the_list(empty: Any) -> None:
    assert DIRECTORY.failure(CALL, 200, {}, body(empty)) is None
    assert DIRECTORY.read_projects(body(empty), NOW, {}) == ProjectRows()


@examples(200)
@given(st.one_of(json_values, st.fixed_dictionaries({"projects": json_values})))
def test_any_json_is_read_or_a_failure(value: Any) -> None:
    content = json.dumps(value).encode()
    if DIRECTORY.failure(CALL, 200, {}, content) is None:
        DIRECTORY.read_projects(content, NOW, {})


# -- against the simulated cloud on a port


async def pages(url: str, codearts: CodeArts) -> list[ProjectRows]:
    """Return all pages that a client with a signing key reads, up to the empty one."""
    clock = FakeClock(codearts.clock())
    credentials = codearts.credentials
    section = HuaweiAkskSection.model_validate(
        {"method": "aksk", "access_key": credentials.access_key, "secret_key": credentials.secret_key}
    )
    client = ApiClient(
        "directory",
        DIRECTORY,
        CredentialState(authentication(section), clock, 60.0),
        url,
        rate_limiter=RateLimiter(1000.0, 1000, clock),
        concurrency=1,
        timeout=10.0,
        transport=TransportOptions(tls=tls_context(), bypass_proxy=True),
        telemetry=Telemetry(),
        clock=clock,
    )
    found: list[ProjectRows] = []
    cursor = PageCursor()
    try:
        while not found or found[-1].rows:
            answer = await client.send(DIRECTORY.projects_request(cursor))
            found.append(DIRECTORY.read_projects(answer.body, answer.now, answer.headers))
            cursor = cursor.after(found[-1])
    finally:
        await client.close()
    return found


def account(projects: int) -> CodeArts:
    """Return a cloud with so many projects, and with a fixed clock."""
    world = World(pipelines=1)
    codearts = CodeArts(world, clock=lambda: world.start + 86_400.0)
    for seed in range(2, projects + 1):
        codearts.projects.add(f"project {seed}", World(seed=seed, pipelines=1))
    return codearts


@pytest.mark.process
@pytest.mark.usefixtures("no_proxy")
def test_client_reads_all_projects_of_an_account() -> None:
    codearts = account(250)
    with running(codearts.app) as url:
        found = asyncio.run(pages(url, codearts))
    assert [page.rows for page in found] == [100, 100, 50, 0]
    listed = {key: name for page in found for key, name in page.projects.items()}
    assert listed == codearts.projects.names()
    assert len(listed) == 250
    assert not any(page.rejected or page.incomplete for page in found)
    assert codearts.request_counts == {("ListProjectsV4", 200): 4}


@pytest.mark.process
@pytest.mark.usefixtures("no_proxy")
@pytest.mark.parametrize(
    "fault", [InjectedFault.ERROR_OBJECT, InjectedFault.NESTED_ERROR, InjectedFault.HTML]
)
def test_fault_of_the_list_is_an_error(fault: InjectedFault) -> None:
    codearts = account(2)
    codearts.injected_fault, codearts.injected_fault_operation = fault, "ListProjectsV4"
    with running(codearts.app) as url, pytest.raises(ApiError) as raised:
        asyncio.run(pages(url, codearts))
    assert raised.value.operation == "ListProjectsV4"
