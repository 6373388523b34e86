"""When a project is down, since when, and why."""

import pytest

from exporter.polling.cause import UNANSWERED, Cause
from exporter.polling.project_health import REFRESHES, Change, ProjectHealth

TIMEOUT = Cause("Batch", "timeout", message="no response", remedy="no-response")
BROKEN = Cause("Batch", "502", remedy="provider-fails")
DENIED = Cause("Batch", "403", "APIGW.0302", remedy="project-refused")
HELD_BACK = Cause("Batch", "refused", "APIGW.0301", remedy="credentials-rejected")
START = 1_700_000_000.0


class Refreshes:
    """Refreshes of one project, a minute apart."""

    def __init__(self):
        self.health = ProjectHealth()
        self.minutes = 0

    def succeed(self):
        return self._refresh(failed=False, answered=True, causes=())

    def fail(self, *causes, answered=False):
        return self._refresh(failed=True, answered=answered, causes=causes)

    def _refresh(self, **result):
        self.minutes += 1
        since = 60.0 * self.minutes
        return self.health.refreshed(monotonic=since, now=START + since, **result)


def test_project_is_neither_up_nor_down_before_its_first_refresh():
    health = ProjectHealth()
    assert (health.up, health.down, health.down_since, health.cause) == (False, False, None, None)


def test_refresh_without_any_answer_takes_the_project_down():
    refreshes = Refreshes()
    assert refreshes.succeed() is Change.UP
    assert refreshes.fail(TIMEOUT) is Change.DOWN
    assert refreshes.health.cause == TIMEOUT
    assert refreshes.health.down_since == START + 120


def test_two_failed_refreshes_with_answers_take_the_project_down_since_the_first():
    refreshes = Refreshes()
    assert refreshes.fail(BROKEN, answered=True) is None
    assert not refreshes.health.down
    assert refreshes.health.failing
    assert refreshes.fail(TIMEOUT, answered=True) is Change.DOWN
    assert (refreshes.health.down_since, refreshes.health.cause) == (START + 60, BROKEN)
    assert not refreshes.health.failing


def test_failed_refreshes_with_a_success_between_them_do_not_take_it_down():
    refreshes = Refreshes()
    changes = []
    for _ in range(3):
        changes += [refreshes.fail(BROKEN, answered=True), refreshes.succeed()]
    assert changes == [None, Change.UP, None, None, None, None]


def test_first_success_ends_the_outage():
    refreshes = Refreshes()
    assert refreshes.fail(TIMEOUT) is Change.DOWN
    assert refreshes.fail(TIMEOUT) is None
    assert refreshes.succeed() is Change.UP_AGAIN
    assert (refreshes.health.up, refreshes.health.down_since) == (True, None)
    assert refreshes.health.last_outage is not None
    assert refreshes.health.last_outage.since == START + 60
    assert refreshes.succeed() is None


def test_cause_is_replaced_after_three_refreshes_with_another_one():
    refreshes = Refreshes()
    refreshes.fail(TIMEOUT)
    for _ in range(REFRESHES - 1):
        refreshes.fail(DENIED)
        assert refreshes.health.cause == TIMEOUT
    refreshes.fail(DENIED)
    assert refreshes.health.cause == DENIED
    assert refreshes.health.down_since == START + 60


@pytest.mark.parametrize("between", [(TIMEOUT,), (BROKEN,), (DENIED, TIMEOUT), (HELD_BACK,)])
def test_other_cause_must_come_three_times_in_a_row(between):
    refreshes = Refreshes()
    refreshes.fail(TIMEOUT)
    for causes in ((DENIED,), (DENIED,), between, (DENIED,), (DENIED,)):
        refreshes.fail(*causes)
        assert refreshes.health.cause == TIMEOUT


def test_requests_held_back_are_no_cause_of_their_own():
    refreshes = Refreshes()
    refreshes.fail(DENIED)
    for _ in range(5):
        refreshes.fail(HELD_BACK)
    assert refreshes.health.cause == DENIED


def test_cause_that_was_not_held_back_is_preferred():
    refreshes = Refreshes()
    refreshes.fail(HELD_BACK, DENIED)
    assert refreshes.health.cause == DENIED


def test_cause_of_requests_held_back_is_replaced_by_the_first_real_one():
    rejected = Cause("List", "401", "APIGW.0301", remedy="credentials-rejected")
    refreshes = Refreshes()
    refreshes.fail(HELD_BACK)
    assert refreshes.health.cause == HELD_BACK
    refreshes.fail(rejected)
    assert refreshes.health.cause == rejected
    assert refreshes.health.down_since == START + 60


def test_missing_answers_without_an_error_are_a_cause():
    refreshes = Refreshes()
    refreshes.fail()
    assert refreshes.health.cause == UNANSWERED
