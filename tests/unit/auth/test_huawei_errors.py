"""Error responses of Huawei Cloud: code, message, throttling and wait."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.auth.huawei.errors import ERROR_KEYS, read_error
from exporter.auth.reply import destination

THROTTLED = "The throttling threshold has been reached"
NOON = "Mon, 15 Jan 2024 12:00:00 GMT"
LATER = "Mon, 15 Jan 2024 12:00:45 GMT"


@pytest.mark.parametrize(
    ("answer", "code", "message"),
    [
        ({"error_code": "A", "error_msg": "text"}, "A", "text"),
        ({"errorCode": "A", "errorMsg": "text"}, "A", "text"),
        ({"code": "A", "message": "text"}, "A", "text"),
        ({"error": {"code": "A", "message": "text", "title": "t"}}, "A", "text"),
        ({"error": {"error_code": "A", "error_msg": "text"}}, "A", "text"),
        ({"error": {"code": 401, "message": "text"}}, "401", "text"),
        ({"error_code": "", "errorCode": None, "error": {"code": "A", "message": "text"}}, "A", "text"),
        ({"error_code": "A", "error_msg": "text", "error": {"code": "B", "message": "more"}}, "A", "text"),
        ({"error_code": "A", "error": {"message": "text"}}, "A", "text"),
        ({"error_msg": "text", "error": {"code": "A"}}, "A", "text"),
        ({"error_code": "A"}, "A", ""),
        ({"error_msg": "text"}, "", "text"),
        ({"error": {"message": "text"}}, "", "text"),
        ({"error": "text"}, "", ""),
        ({"error_code": ["A"], "error_msg": {"it": "s"}}, "", ""),
        ({"error_code": "A", "error_msg": ["it's \\ quoted"]}, "A", ""),
        ({}, "", ""),
        ([{"error_code": "A"}], "", ""),
        ("A", "", ""),
        (None, "", ""),
    ],
)
def test_every_error_format_is_read(answer: Any, code: str, message: str) -> None:
    """The first code comes with its own message. Without a code, the first message counts."""
    error = read_error(400, {}, answer)
    assert (error.code, error.message) == (code, message)
    assert (error.throttled, error.wait) == (False, None)


def test_request_id_in_header_takes_precedence() -> None:
    answer = {"error_code": "A", "request_id": "body"}
    assert read_error(400, {"x-request-id": "header"}, answer).request_id == "header"
    assert read_error(400, {}, answer).request_id == "body"
    assert read_error(400, {}, None).request_id == ""


@pytest.mark.parametrize(
    ("status", "answer"),
    [
        (429, None),
        (200, {"error_code": "APIGW.0308"}),
        (400, {"error_code": "APIG.0308"}),
        (400, {"error_code": "IAM.0012"}),
        (400, {"error_msg": f"{THROTTLED}: policy user over ratelimit"}),
    ],
)
def test_throttling_is_recognized_by_status_code_or_message(status: int, answer: Any) -> None:
    assert read_error(status, {}, answer).throttled


@pytest.mark.parametrize("status", [429, 503])
@pytest.mark.parametrize(
    ("headers", "wait"),
    [
        ({"retry-after": "7"}, 7.0),
        ({"retry-after": " 7 "}, 7.0),
        ({"retry-after": "0"}, 0.0),
        ({"retry-after": "9" * 5000}, 99_999.0),
        ({"retry-after": LATER, "date": NOON}, 45.0),
        ({"retry-after": NOON, "date": LATER}, 0.0),
        ({"retry-after": LATER}, None),
        ({"retry-after": "Mon, 99 Foo 2024 12:00:00 GMT", "date": NOON}, None),
        ({"retry-after": "Mon, 15 Jan 2024 12:00:00 -0000", "date": NOON}, None),
        ({"retry-after": "soon"}, None),
        ({"retry-after": "-7"}, None),
        ({}, None),
    ],
)
def test_retry_after_is_seconds_or_a_date(status: int, headers: dict[str, str], wait: float | None) -> None:
    """A date is compared with the response's own, since clocks differ. Long waits are cut."""
    assert read_error(status, headers, None).wait == wait


@pytest.mark.parametrize("status", [200, 400, 401, 500, 502])
def test_wait_is_ignored_without_throttling_or_outage(status: int) -> None:
    assert read_error(status, {"retry-after": "7"}, {"error_msg": "time:5 minute"}).wait is None


@pytest.mark.parametrize(
    ("limit", "wait"),
    [
        ("policy user over ratelimit,limit:200,time:5 minute", 300.0),
        ("policy ip over ratelimit,limit:5,time:1 second", 1.0),
        ("policy api over ratelimit,limit:9,time: 2 hour", 7200.0),
        ("Threshold: 5 times per 60 seconds", 60.0),
        ("policy user over ratelimit", None),
        ("time:99999999 second", None),
        ("time:99999999 seconds", None),
    ],
)
def test_throttling_message_names_its_window(limit: str, wait: float | None) -> None:
    """`Retry-After` takes precedence over the message. A 503 has no window."""
    answer = {"error_msg": f"{THROTTLED}: {limit}"}
    assert read_error(429, {}, answer).wait == wait
    assert read_error(429, {"retry-after": "7"}, answer).wait == 7
    assert read_error(503, {}, {"error_msg": limit}).wait is None


@pytest.mark.parametrize(
    ("location", "text"),
    [
        ("https://auth.example.com/login?ticket=very-private", "auth.example.com"),
        ("/login?ticket=very-private", "another path"),
        ("", "nowhere"),
        ("http://[very-private", "an invalid address"),
    ],
)
def test_redirect_is_described_by_its_host_only(location: str, text: str) -> None:
    assert destination({"location": location}) == text


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(sorted(ERROR_KEYS)), inner),
    max_leaves=10,
)


@given(st.integers(100, 599), st.dictionaries(st.sampled_from(["retry-after", "date"]), st.text()), values)
def test_any_response_can_be_read(status: int, headers: dict[str, str], answer: Any) -> None:
    error = read_error(status, headers, answer)
    assert error.wait is None or 0 <= error.wait <= 99_999
    assert error.throttled or status == 503 or error.wait is None
    json.dumps([error.code, error.message, error.request_id])
