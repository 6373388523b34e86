"""A refusal is read the same, whoever of the vendor speaks: its code, its words, and when to come back."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.auth.huawei.errors import TELLING, destination, read_refusal

THROTTLED = "The throttling threshold has been reached"
NOON = "Mon, 15 Jan 2024 12:00:00 GMT"
LATER = "Mon, 15 Jan 2024 12:00:45 GMT"


@pytest.mark.parametrize(
    ("answer", "code", "message"),
    [
        ({"error_code": "A", "error_msg": "words"}, "A", "words"),
        ({"errorCode": "A", "errorMsg": "words"}, "A", "words"),
        ({"code": "A", "message": "words"}, "A", "words"),
        ({"error": {"code": "A", "message": "words", "title": "t"}}, "A", "words"),
        ({"error": {"error_code": "A", "error_msg": "words"}}, "A", "words"),
        ({"error": {"code": 401, "message": "words"}}, "401", "words"),
        ({"error_code": "", "errorCode": None, "error": {"code": "A", "message": "words"}}, "A", "words"),
        ({"error_code": "A", "error_msg": "words", "error": {"code": "B", "message": "more"}}, "A", "words"),
        ({"error_code": "A", "error": {"message": "words"}}, "A", "words"),
        ({"error_msg": "words", "error": {"code": "A"}}, "A", "words"),
        ({"error_code": "A"}, "A", ""),
        ({"error_msg": "words"}, "", "words"),
        ({"error": {"message": "words"}}, "", "words"),
        ({"error": "words"}, "", ""),
        ({"error_code": ["A"], "error_msg": {"it": "s"}}, "", ""),
        ({"error_code": "A", "error_msg": ["it's \\ quoted"]}, "A", ""),
        ({}, "", ""),
        ([{"error_code": "A"}], "", ""),
        ("A", "", ""),
        (None, "", ""),
    ],
)
def test_every_envelope_is_opened(answer: Any, code: str, message: str) -> None:
    """The first code and the words beside it; where one of the two is missing, the other is told."""
    refusal = read_refusal(400, {}, answer)
    assert (refusal.code, refusal.message) == (code, message)
    assert (refusal.throttled, refusal.wait) == (False, None)


def test_the_request_id_of_the_header_comes_first() -> None:
    answer = {"error_code": "A", "request_id": "body"}
    assert read_refusal(400, {"x-request-id": "header"}, answer).request_id == "header"
    assert read_refusal(400, {}, answer).request_id == "body"
    assert read_refusal(400, {}, None).request_id == ""


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
def test_throttling_has_many_faces(status: int, answer: Any) -> None:
    assert read_refusal(status, {}, answer).throttled


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
    """A date is taken against the answer's own, since nobody's clock is right; and only so much is believed."""
    assert read_refusal(status, headers, None).wait == wait


@pytest.mark.parametrize("status", [200, 400, 401, 500, 502])
def test_nobody_waits_for_what_is_neither_throttling_nor_an_outage(status: int) -> None:
    assert read_refusal(status, {"retry-after": "7"}, {"error_msg": "time:5 minute"}).wait is None


@pytest.mark.parametrize(
    ("words", "wait"),
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
def test_throttling_names_its_window(words: str, wait: float | None) -> None:
    """`Retry-After` comes first; an outage has no window."""
    answer = {"error_msg": f"{THROTTLED}: {words}"}
    assert read_refusal(429, {}, answer).wait == wait
    assert read_refusal(429, {"retry-after": "7"}, answer).wait == 7
    assert read_refusal(503, {}, {"error_msg": words}).wait is None


@pytest.mark.parametrize(
    ("location", "words"),
    [
        ("https://auth.example.com/login?ticket=very-private", "auth.example.com"),
        ("/login?ticket=very-private", "another path"),
        ("", "nowhere"),
        ("http://[very-private", "an address that is none"),
    ],
)
def test_a_redirect_is_told_by_its_host_alone(location: str, words: str) -> None:
    assert destination({"location": location}) == words


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(sorted(TELLING)), inner),
    max_leaves=10,
)


@given(st.integers(100, 599), st.dictionaries(st.sampled_from(["retry-after", "date"]), st.text()), values)
def test_no_answer_breaks_the_reader(status: int, headers: dict[str, str], answer: Any) -> None:
    refusal = read_refusal(status, headers, answer)
    assert refusal.wait is None or 0 <= refusal.wait <= 99_999
    assert refusal.throttled or status == 503 or refusal.wait is None
    json.dumps([refusal.code, refusal.message, refusal.request_id])
