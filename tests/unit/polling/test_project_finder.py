"""The projects of an entry: what a list changes, and when the exporter does not believe it."""

import asyncio
import json
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import pytest

from exporter.client.api_client import ApiError, ApiResponse
from exporter.client.rate_limiter import RateLimiter
from exporter.config.project_section import NameFilter, ProjectSearch
from exporter.core.failures import FailureKind, RequestFailure
from exporter.core.hourly_warnings import HourlyWarnings
from exporter.polling.project_finder import ProjectFinder
from exporter.providers.codearts import ProjectDirectory
from exporter.telemetry.recorder import Telemetry
from tests.drivers.support import FakeClock

INTERVAL, RETRY = 600.0, 60.0
DENIED = RequestFailure(kind=FailureKind.CONTENT, code="403", message="denied")
FOUR = {"1": "One", "2": "Two", "3": "Three", "4": "Four"}


class Account:
    """A list of projects, and a finder that reads it."""

    def __init__(self, known: dict[str, str] | None = None, **names: Any) -> None:
        self.clock = FakeClock()
        self.rows: Sequence[tuple[str, str]] = list(FOUR.items())
        self.page = 100
        self.failure: RequestFailure | None = None
        self.offsets: list[int] = []
        self.sent = 0
        self.finder = ProjectFinder(
            "account",
            ProjectSearch(NameFilter.model_validate(names), INTERVAL, "http://127.0.0.1:1"),
            ProjectDirectory(),
            SimpleNamespace(send=self.send, sent=0, warnings=HourlyWarnings(self.clock)),  # type: ignore[arg-type]
            rate_limiter=RateLimiter(10, 10, self.clock),
            known=known or {},
            retry=RETRY,
            telemetry=Telemetry(),
            clock=self.clock,
        )

    async def send(self, request: Any) -> ApiResponse:
        if self.failure is not None:
            raise ApiError(request.operation, self.failure)
        offset = int(dict(request.query)["offset"])
        self.offsets.append(offset)
        rows = self.rows[offset : offset + self.page]
        projects = [{"project_id": identity, "project_name": name} for identity, name in rows]
        body = json.dumps({"projects": projects, "total": 7}).encode()
        return ApiResponse(body=body, now=self.clock.now, sent_at=self.clock.now, code="200")

    def read(self, rows: dict[str, str] | None = None) -> dict[str, str]:
        """Read the list; return the found projects."""
        if rows is not None:
            self.rows = list(rows.items())
        self.clock.now = max(self.clock.now, self.finder.next_search)
        asyncio.run(self.finder.read())
        return dict(self.finder.projects)


def test_projects_are_found_by_name():
    account = Account(include=["T.*", "F.*"], exclude=["Four"])
    assert account.read() == {"2": "Two", "3": "Three"}
    assert account.finder.up


def test_project_without_a_name_has_its_id():
    assert Account().read({"1": ""}) == {"1": "1"}


def test_project_that_is_renamed_stays_or_goes_by_its_new_name():
    account = Account(exclude=["Gone.*"])
    account.read()
    assert account.read({**FOUR, "1": "Uno"})["1"] == "Uno"
    assert account.read({**FOUR, "1": ""})["1"] == "Uno"
    assert "1" not in account.read({**FOUR, "1": "Gone one"})


def test_project_leaves_after_two_lists_without_it():
    account = Account()
    account.read()
    rest = {one: name for one, name in FOUR.items() if one != "4"}
    assert account.read(rest) == FOUR
    assert account.read(FOUR) == FOUR
    assert account.read(rest) == FOUR
    assert account.read(rest) == rest


def test_incomplete_list_removes_nothing():
    account = Account()
    account.read()
    for _ in range(4):
        assert account.read({"1": "One", "2": "Two", "3": "Three", "bad id!": "Four"}) == FOUR


def test_list_that_shrinks_suddenly_is_not_believed():
    account = Account()
    account.read()
    for up in (False, False, True):
        assert account.read({"1": "One"}) == FOUR
        assert account.finder.up is up
    assert account.read({"1": "One"}) == {"1": "One"}


def test_empty_list_is_not_believed_at_first():
    account = Account()
    assert account.read({}) == {}
    assert account.finder.cause is not None
    assert "not a member of any project" in account.finder.cause.message
    assert account.finder.searched


def test_failure_keeps_the_projects_and_is_tried_again_soon():
    account = Account(known=FOUR)
    account.failure = DENIED
    assert account.read() == FOUR
    assert account.finder.next_search == account.clock.now + RETRY
    assert account.finder.cause is not None
    assert account.finder.cause.code == "403"
    account.failure = None
    assert account.read() == FOUR
    assert account.finder.next_search == account.clock.now + INTERVAL
    assert account.finder.cause is None


def test_known_projects_are_filtered_by_the_patterns_of_now():
    assert dict(Account(known=FOUR, include=["T.*"]).finder.projects) == {"2": "Two", "3": "Three"}


def test_list_is_read_to_an_empty_page():
    account = Account()
    many = {str(number): f"Project {number}" for number in range(250)}
    assert account.read(many) == many
    assert account.offsets == [0, 100, 200, 300]


def test_cloud_that_returns_short_pages_hides_rows_so_nothing_leaves():
    account = Account()
    many = {str(number): f"Project {number}" for number in range(150)}
    account.read(many)
    account.page = 80
    for _ in range(4):
        assert account.read(many) == many


def test_cloud_that_ignores_the_offset_is_read_once():
    account = Account()

    async def send(request: Any) -> ApiResponse:
        account.offsets.append(int(dict(request.query)["offset"]))
        body = json.dumps({"projects": [{"project_id": "1", "project_name": "One"}]}).encode()
        return ApiResponse(body=body, now=0.0, sent_at=0.0, code="200")

    account.finder.api.send = send  # type: ignore[method-assign]
    assert account.read() == {"1": "One"}
    assert account.offsets == [0, 100]


@pytest.mark.parametrize("pages", [101])
def test_list_without_an_end_is_read_to_the_last_page_that_can_be_requested(pages):
    account = Account()
    many = {str(number): f"Project {number}" for number in range(20_000)}
    assert len(account.read(many)) == pages * 100
    assert account.offsets[-1] == 10_000
