"""What is no answer of Flow: of what each refusal speaks, however it is wrapped, and what is said of the rest."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exporter.core.failures import FailureKind, RequestFailure
from exporter.providers.flow.errors import TELLING
from exporter.providers.protocol import ApiRequest, PageCursor
from exporter.simulator import InjectedFault
from exporter.simulator.flow import errors as simulated
from tests.unit.providers.test_codearts import json_values
from tests.unit.providers.test_flow_lists import SPOKEN, body, documented, spoken
from tests.unit.providers.test_flow_requests import RAN, Desk, generations

PIPELINE = "12222"
OPERATIONS: dict[str, Callable[[Any], ApiRequest]] = {
    "ListPipelines": lambda said: said.pipelines_request(PageCursor()),
    "ListPipelineRuns": lambda said: said.runs_request(PIPELINE, PageCursor(), 30),
    "GetPipelineRun": lambda said: said.detail_request(PIPELINE, "7"),
}
operations = pytest.mark.parametrize("operation", OPERATIONS)
of_one_pipeline = pytest.mark.parametrize("operation", ["ListPipelineRuns", "GetPipelineRun"])
RUN = {"pipelineId": int(PIPELINE), "pipelineRunId": 7, "status": "SUCCESS"}
ROWS = {"ListPipelines": "pipelines", "ListPipelineRuns": "pipelineRuns"}


def judged(
    status: int,
    answer: Any,
    *,
    generation: str = "signed",
    operation: str = "ListPipelineRuns",
    **headers: str,
) -> RequestFailure | None:
    """What is said of an answer; headers with _ for -."""
    said = SPOKEN[generation]
    raw = answer if isinstance(answer, bytes) else json.dumps(answer, ensure_ascii=False).encode()
    named = {name.replace("_", "-"): text for name, text in headers.items()}
    return said.failure(OPERATIONS[operation](said), status, named, raw)


def told(status: int, answer: Any, **where: Any) -> RequestFailure:
    failure = judged(status, answer, **where)
    assert failure is not None
    return failure


# -- envelopes

WORDS = "The pipeline is not found."
XML = """<?xml version="1.0" encoding="UTF-8"?>
<Error>
  <RequestId>r-1</RequestId><HostId>devops.cn-hangzhou.aliyuncs.com</HostId>
  <Code>{}</Code>
  <Message>{}</Message>
</Error>"""
SHAPES: dict[str, Callable[[str, str], Any]] = {
    "gateway": lambda code, text: {
        "RequestId": "r-1", "Message": text, "Recommend": "https://x.example.com", "HostId": "h", "Code": code,
    },
    "gateway in lower case": lambda code, text: {"requestid": "r-1", "message": text, "code": code},
    "service": lambda code, text: {
        "requestId": "r-1", "success": False, "errorCode": code, "errorMessage": text,
    },
    "service without success": lambda code, text: {
        "requestId": "r-1", "errorCode": code, "errorMessage": text,
    },
    "service that denies nothing": lambda code, text: {
        "requestId": "r-1", "success": True, "errorCode": code, "errorMessage": text,
    },
    "personal with a description": lambda code, text: {
        "requestId": "r-1", "errorCode": code, "errorDescription": text, "code": 404, "title": "t",
        "httpStatus": 404, "traceId": "t-1",
    },
    "with blanks": lambda code, text: {
        "requestId": "r-1", "errorCode": '""', "errorMessage": "”“", "Code": code, "Message": text,
    },
    "with nulls": lambda code, text: {
        "requestId": None, "errorCode": None, "errorMessage": [], "RequestId": "r-1", "code": code,
        "message": text,
    },
    "XML": lambda code, text: XML.format(code, text).encode(),
    "XML after blanks": lambda code, text: f"\n {XML.format(f' {code} ', text)}".encode(),
}  # fmt: skip


@pytest.mark.parametrize("status", [200, 400, 404])
@pytest.mark.parametrize("shape", SHAPES)
@spoken
@operations
def test_every_envelope_of_errors_is_opened(operation: str, generation: str, shape: str, status: int) -> None:
    """Under 200 as under 400, for either generation."""
    answer = SHAPES[shape]("InvalidPipeline.NotFound", WORDS)
    failure = told(status, answer, generation=generation, operation=operation)
    assert failure == RequestFailure(
        kind=FailureKind.CONTENT,
        code=str(status),
        error_code="InvalidPipeline.NotFound",
        message=WORDS,
        request_id="r-1",
    )


def test_words_of_xml_are_unescaped() -> None:
    failure = told(403, XML.format("Forbidden.RAM", "a &lt;b&gt; &amp; c").encode())
    assert failure.message == "a <b> & c"


def test_the_request_id_may_stand_in_a_header_alone() -> None:
    assert told(500, {}, x_acs_request_id="header").request_id == "header"
    assert told(500, {"requestId": "body"}, x_acs_request_id="header").request_id == "body"


# -- success

BLANKS = [None, "", '""', "”“", "“”", ' "" ']


def success(operation: str, generation: str = "signed", **envelope: Any) -> bytes:
    """An answer that has what is asked for."""
    if operation == "GetPipelineRun":
        return json.dumps(RUN if generation != "signed" else {"pipelineRun": RUN, **envelope}).encode()
    rows = [documented()] if operation == "ListPipelines" else [RUN]
    answer: dict[str, Any] = {"requestId": "r-1", ROWS[operation]: rows, **envelope}
    return json.dumps(rows if generation != "signed" else answer).encode()


@pytest.mark.parametrize("status", [200, 201, 299])
@pytest.mark.parametrize("code", [*BLANKS, "InvalidPipeline.NotFound", "Throttling", 7, ["x"]])
@pytest.mark.parametrize("says", [True, None, "absent"])
@operations
def test_what_has_what_is_asked_for_is_a_success(operation: str, says: Any, code: Any, status: int) -> None:
    """Whatever code it bears: in the vendor's example a success has one."""
    envelope = {} if says == "absent" else {"success": says}
    answer = success(operation, errorCode=code, errorMessage=code, **envelope)
    assert judged(status, answer, operation=operation) is None
    assert judged(status, success(operation, "personal"), operation=operation, generation="personal") is None


@pytest.mark.parametrize("code", [*BLANKS, "InternalError"])
@operations
def test_what_says_that_it_is_no_success_is_none(operation: str, code: Any) -> None:
    """Even where it has what is asked for, or no code."""
    failure = told(200, success(operation, success=False, errorCode=code), operation=operation)
    expected = (
        (FailureKind.TRANSIENT, "InternalError") if code == "InternalError" else (FailureKind.CONTENT, "")
    )
    assert (failure.kind, failure.error_code, failure.code) == (*expected, "200")
    assert failure.message


@pytest.mark.parametrize("operation", list(ROWS))
def test_null_for_a_list_is_an_empty_page(operation: str) -> None:
    """Unless a code says why there is none."""
    key = ROWS[operation]
    for envelope in ({}, {"success": True}, {"success": True, "errorCode": "x"}, {"errorCode": '""'}):
        assert judged(200, {key: None, **envelope}, operation=operation) is None
    assert SPOKEN["signed"].read_pipelines(body("signed", None), 0.0, {}).rows == 0
    failure = told(200, {key: None, "errorCode": "InvalidUser.NotFound"}, operation=operation)
    assert (failure.kind, failure.error_code) == (FailureKind.PROJECT, "InvalidUser.NotFound")


def test_null_for_a_run_is_none() -> None:
    failure = told(200, {"pipelineRun": None, "success": True}, operation="GetPipelineRun")
    assert (failure.kind, failure.code) == (FailureKind.UNREADABLE, "invalid")
    failure = told(
        200, {"pipelineRun": None, "errorCode": "InvalidPipelineRun.NotFound"}, operation="GetPipelineRun"
    )
    assert (failure.kind, failure.error_code) == (FailureKind.CONTENT, "InvalidPipelineRun.NotFound")


# -- codes

CODES = [
    ("InvalidParam.ParamNotPresent", 400, FailureKind.CONTENT),
    ("InvalidParam", 400, FailureKind.CONTENT),
    ("InvalidParameter.Page", 400, FailureKind.CONTENT),
    ("BadRequest", 400, FailureKind.CONTENT),
    ("InvalidPipeline.NotFound", 404, FailureKind.CONTENT),
    ("InvalidPipelineRun.NotFound", 404, FailureKind.CONTENT),
    ("InvalidUser.NotFound", 400, FailureKind.PROJECT),
    ("InvalidUser.UserNotInCurrentOrganization", 404, FailureKind.PROJECT),
    ("Forbidden.UserNotInCurrentOrganization", 403, FailureKind.PROJECT),
    ("Forbidden.InvalidUser.UserNotInCurrentOrganization", 403, FailureKind.PROJECT),
    ("Forbidden.InvalidOrganizationMember", 403, FailureKind.PROJECT),
    ("Forbidden.RAM", 403, FailureKind.PROJECT),
    ("Forbidden", 403, FailureKind.PROJECT),
    ("InvalidOrganization.NotFound", 404, FailureKind.PROJECT),
    ("InvalidApi.NotFound", 404, FailureKind.PROJECT),
    ("InvalidProduct.NotFound", 404, FailureKind.PROJECT),
    ("InvalidProtocol.NeedSsl", 400, FailureKind.PROJECT),
    ("InvalidVersion", 400, FailureKind.PROJECT),
    ("MissingTimestamp", 400, FailureKind.PROJECT),
    ("UnsupportedInCurrentEnv", 400, FailureKind.PROJECT),
    ("InvalidAccessKeyId.NotFound", 404, FailureKind.CREDENTIALS),
    ("InvalidAccessKeyId.Inactive", 400, FailureKind.CREDENTIALS),
    ("InvalidAccessKeyId", 403, FailureKind.CREDENTIALS),
    ("SignatureDoesNotMatch", 400, FailureKind.CREDENTIALS),
    ("IncompleteSignature", 400, FailureKind.CREDENTIALS),
    ("InvalidTimeStamp.Format", 400, FailureKind.CREDENTIALS),
    ("InvalidTimeStamp.Expired", 400, FailureKind.CREDENTIALS),
    ("InvalidSecurityToken.Expired", 400, FailureKind.CREDENTIALS),
    ("InvalidSecurityToken.MismatchWithAccessKey", 400, FailureKind.CREDENTIALS),
    ("MissingSecurityToken", 400, FailureKind.CREDENTIALS),
    ("MissingAccessKeyId", 400, FailureKind.CREDENTIALS),
    ("Unauthorized", 401, FailureKind.CREDENTIALS),
    ("ExpiredTokenError", 401, FailureKind.CREDENTIALS),
    ("InvalidTokenError", 401, FailureKind.CREDENTIALS),
    ("UnsupportedCurrentTokenType", 400, FailureKind.CREDENTIALS),
    ("SignatureNonceUsed", 400, FailureKind.TRANSIENT),
    ("InternalError", 500, FailureKind.TRANSIENT),
    ("InternalServerError", 500, FailureKind.TRANSIENT),
    ("ServiceUnavailable", 503, FailureKind.TRANSIENT),
    ("Throttling", 400, FailureKind.THROTTLED),
    ("Throttling.User", 400, FailureKind.THROTTLED),
    ("Throttling.Api", 400, FailureKind.THROTTLED),
    ("TooManyRequests", 429, FailureKind.THROTTLED),
]


@pytest.mark.parametrize(("code", "usual", "kind"), CODES)
@spoken
@operations
def test_a_known_code_decides(
    operation: str, generation: str, code: str, usual: int, kind: FailureKind
) -> None:
    """Whatever its status, which differs between the vendor's own pages."""
    for status in {usual, 200, 400, 401, 403, 404, 500, 503}:
        answer = {"errorCode": code, "errorMessage": "words", "requestId": "r-1", "success": False}
        failure = told(status, answer, generation=generation, operation=operation)
        assert failure == RequestFailure(
            kind=kind, code=str(status), error_code=code, message="words", request_id="r-1"
        )


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (200, FailureKind.CONTENT),
        (400, FailureKind.CONTENT),
        (413, FailureKind.CONTENT),
        (401, FailureKind.CREDENTIALS),
        (402, FailureKind.PROJECT),
        (403, FailureKind.PROJECT),
        (405, FailureKind.PROJECT),
        (408, FailureKind.TRANSIENT),
        (429, FailureKind.THROTTLED),
        (500, FailureKind.TRANSIENT),
        (502, FailureKind.TRANSIENT),
        (503, FailureKind.TRANSIENT),
    ],
)
@pytest.mark.parametrize("code", ["NeverHeardOf", "XThrottling", "InvalidPipelineGroup", "x" * 999])
def test_of_an_unknown_code_the_status_decides(code: str, status: int, kind: FailureKind) -> None:
    failure = told(status, {"errorCode": code, "errorMessage": "words", "success": False})
    assert (failure.kind, failure.error_code) == (kind, code)


@pytest.mark.parametrize("status", [404, 200])
@pytest.mark.parametrize(
    ("operation", "kind"),
    [
        ("ListPipelines", FailureKind.PROJECT),
        ("ListPipelineRuns", FailureKind.CONTENT),
        ("GetPipelineRun", FailureKind.CONTENT),
    ],
)
@spoken
def test_not_found_speaks_of_what_the_path_names(
    generation: str, operation: str, kind: FailureKind, status: int
) -> None:
    """Of a pipeline or a run, where it names one."""
    answer = {"errorCode": "NotFound", "errorMessage": "Not Found", "requestId": "6548f837"}
    failure = told(status, answer, generation=generation, operation=operation)
    assert (failure.kind, failure.error_code, failure.message) == (kind, "NotFound", "Not Found")


@of_one_pipeline
@pytest.mark.parametrize("answer", [b"", b"<html>", b"{}", b'{"errorCode":"\\"\\""}', b"[]"])
def test_not_found_without_a_code_speaks_of_the_address(operation: str, answer: bytes) -> None:
    """Somebody else answers there, for whom no pipeline exists."""
    assert told(404, answer, operation=operation).kind is FailureKind.PROJECT


@pytest.mark.parametrize("status", [429, 503])
@pytest.mark.parametrize(
    "answer", [b"", b"<html>", {"errorCode": "NeverHeardOf"}, {"errorCode": "BadRequest"}]
)
def test_too_many_requests_need_no_code(status: int, answer: Any) -> None:
    """A 503 without the code of throttling is the service's own trouble."""
    kind = told(status, answer).kind
    if status == 429:
        assert kind is FailureKind.THROTTLED
    else:
        assert kind is (
            FailureKind.CONTENT if answer == {"errorCode": "BadRequest"} else FailureKind.TRANSIENT
        )


# -- how long to wait

NOON = "Mon, 15 Jan 2024 12:00:00 GMT"
LATER = "Mon, 15 Jan 2024 12:00:45 GMT"


@pytest.mark.parametrize(
    ("headers", "wait"),
    [
        ({}, None),
        ({"x_acs_retry_after": "1500"}, 1.5),
        ({"x_acs_retry_after": " 2000 "}, 2.0),
        ({"x_acs_retry_after": "1"}, 0.001),
        ({"x_acs_retry_after": "9" * 40}, 99_999.0),
        ({"x_acs_retry_after": "0"}, None),
        ({"x_acs_retry_after": "-5"}, None),
        ({"x_acs_retry_after": "1.5"}, None),
        ({"x_acs_retry_after": "soon", "retry_after": "7"}, 7.0),
        ({"x_acs_retry_after": "1500", "retry_after": "7"}, 1.5),
        ({"retry_after": "7"}, 7.0),
        ({"retry_after": "0"}, 0.0),
        ({"retry_after": LATER, "date": NOON}, 45.0),
        ({"retry_after": NOON, "date": LATER}, 0.0),
        ({"retry_after": LATER}, None),
        ({"retry_after": "soon"}, None),
    ],
)
@pytest.mark.parametrize(
    ("status", "code"),
    [(400, "Throttling.User"), (429, "TooManyRequests"), (503, "ServiceUnavailable"), (503, "")],
)
def test_the_vendor_says_how_long_to_wait(
    status: int, code: str, headers: dict[str, str], wait: float | None
) -> None:
    """In milliseconds in a header of its own, else in the usual one; of which only so much is believed."""
    assert told(status, {"Code": code, "Message": "words"}, **headers).wait == wait


@pytest.mark.parametrize(
    ("status", "code"), [(500, "InternalError"), (400, "BadRequest"), (401, "Unauthorized")]
)
def test_nobody_waits_for_what_is_no_throttling(status: int, code: str) -> None:
    assert told(status, {"Code": code}, x_acs_retry_after="9000", retry_after="9").wait is None


# -- what is no answer at all


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (b"", "an empty body"),
        (b" \r\n", "an empty body"),
        (b"null", "not its answer"),
        (b"{}", "not its answer"),
        (b'{"success":true}', "not its answer"),
        (b'{"success":true,"errorCode":"\\"\\""}', "not its answer"),
        (b'{"data":[]}', "not its answer"),
        (b'"The service is busy"', "not its answer"),
        (b"17", "not its answer"),
        (b"<!DOCTYPE html><title>Log in</title>", "an HTML page"),
        (b"\n <html>", "an HTML page"),
        (b'{"pipelines":[{"a":1},', "no valid JSON"),
        (b"[" * 100_000, "no valid JSON"),
        (b'{"a":' * 100_000, "no valid JSON"),
        (b"\xff\xfe\x00", "no valid JSON"),
        (b"OK", "no valid JSON"),
    ],
)
@spoken
@operations
def test_what_is_no_answer_of_the_operation_is_said(
    operation: str, generation: str, answer: bytes, words: str
) -> None:
    failure = told(200, answer, generation=generation, operation=operation)
    assert (failure.kind, failure.code, failure.error_code) == (FailureKind.UNREADABLE, "invalid", "")
    assert failure.message.startswith(f"{operation} answered")
    assert words in failure.message


@pytest.mark.parametrize("operation", list(ROWS))
@spoken
def test_an_answer_of_another_operation_is_invalid(generation: str, operation: str) -> None:
    """Nor is that of the other generation one."""
    other = "signed" if generation == "personal" else "personal"
    failure = told(200, success(operation, other), generation=generation, operation=operation)
    assert (failure.kind, failure.code) == (FailureKind.UNREADABLE, "invalid")
    failure = told(200, success("GetPipelineRun", generation), generation=generation, operation=operation)
    assert (failure.kind, failure.code) == (FailureKind.UNREADABLE, "invalid")
    failure = told(200, success(operation, generation), generation=generation, operation="GetPipelineRun")
    assert (failure.kind, failure.code) == (FailureKind.UNREADABLE, "invalid")


@pytest.mark.parametrize("rows", ["", "x", 0, False, {}, {"a": 1}])
@pytest.mark.parametrize("operation", list(ROWS))
def test_rows_that_are_no_list_are_invalid(operation: str, rows: Any) -> None:
    """Not an empty page, which would be the end of the list."""
    failure = told(200, {ROWS[operation]: rows, "success": True}, operation=operation)
    assert (failure.kind, failure.code) == (FailureKind.UNREADABLE, "invalid")
    assert failure.message.startswith(f"{operation} answered a page that cannot be read")


@pytest.mark.parametrize(
    "answer", [b"", b"<html>", b"[" * 100_000, b"\xff", b"null", b"[]", b'"no"', b"{}", b'{"success":true}']
)
@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, FailureKind.CONTENT),
        (401, FailureKind.CREDENTIALS),
        (403, FailureKind.PROJECT),
        (404, FailureKind.PROJECT),
        (429, FailureKind.THROTTLED),
        (502, FailureKind.TRANSIENT),
    ],
)
@spoken
def test_a_status_of_failure_needs_no_body(
    generation: str, status: int, kind: FailureKind, answer: bytes
) -> None:
    failure = told(status, answer, generation=generation)
    assert (failure.kind, failure.code, failure.error_code) == (kind, str(status), "")
    assert f"HTTP {status}" in failure.message


@operations
def test_a_success_under_a_status_of_failure_is_none(operation: str) -> None:
    assert told(502, success(operation, success=True), operation=operation).kind is FailureKind.TRANSIENT


@pytest.mark.parametrize(
    ("location", "words"),
    [
        ("https://auth.example.com/login?ticket=very-private", "redirected to auth.example.com;"),
        ("/login?ticket=very-private", "redirected to another path;"),
        ("", "redirected to nowhere;"),
        ("http://[very-private", "redirected to an invalid address;"),
    ],
)
def test_a_redirect_names_the_host_and_no_more(location: str, words: str) -> None:
    failure = told(302, b"", location=location)
    assert (failure.kind, failure.code) == (FailureKind.PROJECT, "302")
    assert words in failure.message
    assert "very-private" not in failure.message


PRIVATE = "hunter2-nobody-may-see-this"


@pytest.mark.parametrize("status", [200, 400, 500])
@pytest.mark.parametrize(
    "answer",
    [
        {"globalParams": PRIVATE, "params": {PRIVATE: PRIVATE}},
        {"errorCode": [PRIVATE], "errorMessage": {PRIVATE: PRIVATE}, "requestId": [PRIVATE]},
        {"pipelines": PRIVATE, "pipelineRuns": PRIVATE, "nextToken": [PRIVATE]},
        {"pipelines": [], "pipelineRuns": [], "nextToken": [PRIVATE]},
        [PRIVATE],
        PRIVATE,
        f"<html>{PRIVATE}<Code>{PRIVATE}</Code>".encode(),
        f'{{"params": "{PRIVATE}'.encode(),
    ],
)
@spoken
@operations
def test_only_what_the_vendor_says_of_an_error_is_told(
    operation: str, generation: str, answer: Any, status: int
) -> None:
    """A body may hold what users put into it."""
    assert PRIVATE not in repr(judged(status, answer, generation=generation, operation=operation))


# -- the simulated cloud


def calls(desk: Desk) -> list[ApiRequest]:
    pipeline = desk.cloud.pipeline_id(RAN[0].id)
    return [
        desk.spoken.pipelines_request(PageCursor()),
        desk.spoken.activity_request(PageCursor(), None),
        desk.spoken.runs_request(pipeline, PageCursor(), 30),
        desk.spoken.detail_request(pipeline, "1"),
    ]


@generations
@pytest.mark.parametrize("error_form", ["gateway", "status", "envelope"])
@pytest.mark.parametrize(
    ("switch", "value", "problem"),
    [
        ("unregistered", True, simulated.Problem.NOT_REGISTERED),
        ("no_membership", True, simulated.Problem.NOT_A_MEMBER),
    ],
)
def test_who_is_no_member_is_refused_everything(
    generation: str, error_form: Any, switch: str, value: Any, problem: simulated.Problem
) -> None:
    desk = Desk(generation)
    desk.cloud.error_form = error_form
    setattr(desk.cloud, switch, value)
    no = problem.signed if generation == "signed" else problem.personal
    assert {desk.failure(call) for call in calls(desk)} == {(FailureKind.PROJECT, no.code)}


@generations
def test_whose_credentials_are_refused_is_told(generation: str) -> None:
    desk = Desk(generation)
    desk.cloud.credentials = type(desk.cloud.credentials)(
        access_key="another", secret_key="another", personal_token="another"
    )
    kinds = {desk.failure(call) for call in calls(desk)}
    assert kinds == {
        (
            FailureKind.CREDENTIALS,
            "InvalidAccessKeyId.NotFound" if generation == "signed" else "InvalidTokenError",
        )
    }


@generations
def test_a_wrong_clock_is_a_matter_of_credentials(generation: str) -> None:
    """Since it is by such a refusal that the provider's clock is learnt; a personal token needs none."""
    desk = Desk(generation)
    desk.cloud.skew = 3600.0
    if generation == "signed":
        assert desk.failure(calls(desk)[0]) == (FailureKind.CREDENTIALS, "InvalidTimeStamp.Expired")
    else:
        desk.answer(calls(desk)[0])


@generations
@pytest.mark.parametrize("throttle_code", ["Throttling", "Throttling.User", "Throttling.Api"])
def test_who_asks_too_often_is_told_how_long_to_wait(generation: str, throttle_code: str) -> None:
    desk = Desk(generation)
    desk.cloud.throttle_code = throttle_code
    desk.cloud.throttle, desk.cloud.retry_after = (1, 2.0), True
    call = calls(desk)[0]
    desk.answer(call)
    answer = desk.send(call)
    failure = desk.spoken.failure(call, answer.status_code, dict(answer.headers), answer.content)
    assert failure is not None
    assert (failure.kind, failure.wait) == (FailureKind.THROTTLED, 2.0)


@generations
@pytest.mark.parametrize(
    ("injected_fault", "kind", "words"),
    [
        (InjectedFault.HTML, FailureKind.UNREADABLE, "an HTML page"),
        (InjectedFault.BAD_GATEWAY, FailureKind.TRANSIENT, "HTTP 502 with an HTML page"),
        (InjectedFault.EMPTY, FailureKind.UNREADABLE, "an empty body"),
        (InjectedFault.CUT, FailureKind.UNREADABLE, "no valid JSON"),
        (InjectedFault.NULL, FailureKind.UNREADABLE, "not its answer"),
        (InjectedFault.NESTED_ERROR, FailureKind.UNREADABLE, "not its answer"),
        (InjectedFault.ERROR_OBJECT, FailureKind.TRANSIENT, ""),
        (InjectedFault.SERVER_ERROR, FailureKind.TRANSIENT, ""),
        (InjectedFault.THROTTLED, FailureKind.THROTTLED, ""),
        (InjectedFault.DENIED, FailureKind.PROJECT, ""),
        (InjectedFault.REDIRECT, FailureKind.PROJECT, "redirected to another path"),
    ],
)
def test_mischief_is_seen_through(
    generation: str, injected_fault: InjectedFault, kind: FailureKind, words: str
) -> None:
    """Whatever is asked, what comes in the place of an answer is none."""
    desk = Desk(generation)
    desk.cloud.injected_fault = injected_fault
    for call in calls(desk):
        answer = desk.send(call)
        failure = desk.spoken.failure(call, answer.status_code, dict(answer.headers), answer.content)
        assert failure is not None
        assert (failure.kind, words in failure.message) == (kind, True)


# -- properties

TEXTS = st.sampled_from(
    ["", '""', "x", "Throttling.User", "Forbidden", "InvalidPipeline.NotFound", "NotFound"]
)
KEYS = [*TELLING, "pipelines", "nextToken", "pipelineRuns", "pipelineRun", "pipelineRunId"]
envelopes = st.dictionaries(st.sampled_from(sorted(KEYS)), TEXTS | st.booleans() | json_values)


@given(
    st.sampled_from(list(SPOKEN)),
    st.sampled_from(list(OPERATIONS)),
    st.integers(100, 599),
    st.dictionaries(
        st.sampled_from(["retry-after", "x-acs-retry-after", "date", "location"]), st.text(max_size=9)
    ),
    st.binary(max_size=60)
    | json_values.map(lambda value: json.dumps(value).encode())
    | envelopes.map(lambda value: json.dumps(value).encode())
    | TEXTS.map(lambda text: XML.format(text, text).encode()),
)
@settings(deadline=None, max_examples=300)
def test_no_answer_breaks_the_reader(
    generation: str, operation: str, status: int, headers: dict[str, str], answer: bytes
) -> None:
    """Anything is a success or a failure with words; what has no success about it is none."""
    said = SPOKEN[generation]
    failure = said.failure(OPERATIONS[operation](said), status, headers, answer)
    if failure is None:
        assert 200 <= status < 300
    else:
        assert failure.message or failure.error_code
        assert failure.wait is None or 0 <= failure.wait <= 99_999


@given(envelopes, st.sampled_from(list(OPERATIONS)))
@settings(deadline=None)
def test_success_denied_is_never_success(envelope: dict[str, Any], operation: str) -> None:
    assert judged(200, {**envelope, "success": False}, operation=operation) is not None
