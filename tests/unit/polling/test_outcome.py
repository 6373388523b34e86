"""When a poll ends early, and what it reports."""

import pytest

from exporter.client.api_client import ApiError
from exporter.core.failures import FailureKind, RequestFailure
from exporter.polling.outcome import FAILURES_IN_A_ROW, FATAL, PollOutcome


def error(kind: FailureKind = FailureKind.TRANSIENT, code: str = "503") -> ApiError:
    return ApiError("ListPipelines", RequestFailure(kind=kind, code=code))


@pytest.mark.parametrize("kind", FailureKind)
def test_one_fatal_failure_ends_the_poll(kind):
    outcome = PollOutcome()
    outcome.record_error(error(kind))
    single = kind in {FailureKind.TRANSIENT, FailureKind.CONTENT, FailureKind.UNREADABLE}
    assert (outcome.failed, outcome.ended, outcome.fatal) == (True, not single, not single)


def test_fatal_kinds_can_be_limited():
    outcome = PollOutcome(fatal=FATAL - {FailureKind.PROJECT})
    outcome.record_error(error(FailureKind.PROJECT))
    assert not outcome.ended
    outcome.record_error(error(FailureKind.THROTTLED))
    assert outcome.ended


def test_failures_in_a_row_end_the_poll():
    outcome = PollOutcome()
    for _ in range(FAILURES_IN_A_ROW - 1):
        outcome.record_error(error())
    outcome.record_success()
    for _ in range(FAILURES_IN_A_ROW):
        assert not outcome.ended
        outcome.record_error(error())
    assert outcome.ended
    assert not outcome.fatal


def test_tolerated_error_ends_the_poll_with_the_next_one():
    outcome = PollOutcome()
    outcome.record_error(error(FailureKind.PROJECT), ends_poll=False)
    assert not outcome.ended
    outcome.record_error(error())
    assert outcome.ended


def test_errors_are_grouped_by_operation_and_code():
    outcome = PollOutcome()
    first = error()
    for each in (first, error(), error(code="502")):
        outcome.record_error(each)
    assert [count for count, _ in outcome.errors] == [2, 1]
    assert next(iter(outcome.errors))[1] is first


def test_gap_fails_the_poll_without_an_error():
    outcome = PollOutcome()
    outcome.record_gap()
    assert (outcome.failed, outcome.ended, list(outcome.errors)) == (True, False, [])
