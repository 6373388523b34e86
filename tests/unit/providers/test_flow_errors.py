"""Classification of error responses, in all envelopes, and messages for unexpected ones."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exporter.core.failures import FailureKind, RequestFailure
from exporter.providers.flow.errors import ERROR_KEYS
from exporter.providers.protocol import ApiRequest, PageCursor
from exporter.simulator import InjectedFault
from exporter.simulator.flow import errors as simulated
from tests.marks import examples
from tests.unit.providers.test_codearts import json_values
from tests.unit.providers.test_flow_lists import PROVIDERS, body, documented, each_generation
from tests.unit.providers.test_flow_requests import RAN, FlowHarness, generations

PIPELINE = "12222"
OPERATIONS: dict[str, Callable[[Any], ApiRequest]] = {
    "ListPipelines": lambda flow: flow.pipelines_request(PageCursor()),
    "ListPipelineRuns": lambda flow: flow.runs_request(PIPELINE, PageCursor(), 30),
    "GetPipelineRun": lambda flow: flow.detail_request(PIPELINE, "7"),
}
operations = pytest.mark.parametrize("operation", OPERATIONS)
of_one_pipeline = pytest.mark.parametrize("operation", ["ListPipelineRuns", "GetPipelineRun"])
RUN = {"pipelineId": int(PIPELINE), "pipelineRunId": 7, "status": "SUCCESS"}
ROWS = {"ListPipelines": "pipelines", "ListPipelineRuns": "pipelineRuns"}


def classified(
    status: int,
    answer: Any,
    *,
    generation: str = "signed",
    operation: str = "ListPipelineRuns",
    **headers: str,
) -> RequestFailure | None:
    """Classify a response; headers have _ for -."""
    flow = PROVIDERS[generation]
    raw = answer if isinstance(answer, bytes) else json.dumps(answer, ensure_ascii=False).encode()
    named = {name.replace("_", "-"): text for name, text in headers.items()}
    return flow.failure(OPERATIONS[operation](flow), status, named, raw)


def failure_of(status: int, answer: Any, **where: Any) -> RequestFailure:
    failure = classified(status, answer, **where)
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
@each_generation
@operations
def test_every_error_envelope_is_read(operation: str, generation: str, shape: str, status: int) -> None:
    """It is read with status 200 as well as 400, in both generations."""
    answer = SHAPES[shape]("InvalidPipeline.NotFound", WORDS)
    failure = failure_of(status, answer, generation=generation, operation=operation)
    assert failure == RequestFailure(
        kind=FailureKind.CONTENT,
        code=str(status),
        error_code="InvalidPipeline.NotFound",
        message=WORDS,
        request_id="r-1",
    )


def test_xml_message_is_unescaped() -> None:
    failure = failure_of(403, XML.format("Forbidden.RAM", "a &lt;b&gt; &amp; c").encode())
    assert failure.message == "a <b> & c"


def test_request_id_may_be_in_the_header_only() -> None:
    assert failure_of(500, {}, x_acs_request_id="header").request_id == "header"
    assert failure_of(500, {"requestId": "body"}, x_acs_request_id="header").request_id == "body"


# -- success

BLANKS = [None, "", '""', "”“", "“”", ' "" ']


def success(operation: str, generation: str = "signed", **envelope: Any) -> bytes:
    """Return a response with the result of an operation."""
    if operation == "GetPipelineRun":
        return json.dumps(RUN if generation != "signed" else {"pipelineRun": RUN, **envelope}).encode()
    rows = [documented()] if operation == "ListPipelines" else [RUN]
    answer: dict[str, Any] = {"requestId": "r-1", ROWS[operation]: rows, **envelope}
    return json.dumps(rows if generation != "signed" else answer).encode()


@pytest.mark.parametrize("status", [200, 201, 299])
@pytest.mark.parametrize("code", [*BLANKS, "InvalidPipeline.NotFound", "Throttling", 7, ["x"]])
@pytest.mark.parametrize("says", [True, None, "absent"])
@operations
def test_response_with_the_result_is_a_success(operation: str, says: Any, code: Any, status: int) -> None:
    """With any code: a success in the vendor's example has one."""
    envelope = {} if says == "absent" else {"success": says}
    answer = success(operation, errorCode=code, errorMessage=code, **envelope)
    assert classified(status, answer, operation=operation) is None
    assert (
        classified(status, success(operation, "personal"), operation=operation, generation="personal") is None
    )


@pytest.mark.parametrize("code", [*BLANKS, "InternalError"])
@operations
def test_response_with_success_false_is_a_failure(operation: str, code: Any) -> None:
    """Even with the result, or without a code."""
    failure = failure_of(200, success(operation, success=False, errorCode=code), operation=operation)
    expected = (
        (FailureKind.TRANSIENT, "InternalError") if code == "InternalError" else (FailureKind.CONTENT, "")
    )
    assert (failure.kind, failure.error_code, failure.code) == (*expected, "200")
    assert failure.message


@pytest.mark.parametrize("operation", list(ROWS))
def test_null_list_is_an_empty_page(operation: str) -> None:
    """Unless there is an error code."""
    key = ROWS[operation]
    for envelope in ({}, {"success": True}, {"success": True, "errorCode": "x"}, {"errorCode": '""'}):
        assert classified(200, {key: None, **envelope}, operation=operation) is None
    assert PROVIDERS["signed"].read_pipelines(body("signed", None), 0.0, {}).rows == 0
    failure = failure_of(200, {key: None, "errorCode": "InvalidUser.NotFound"}, operation=operation)
    assert (failure.kind, failure.error_code) == (FailureKind.PROJECT, "InvalidUser.NotFound")


def test_null_run_is_a_failure() -> None:
    failure = failure_of(200, {"pipelineRun": None, "success": True}, operation="GetPipelineRun")
    assert (failure.kind, failure.code) == (FailureKind.UNREADABLE, "invalid")
    failure = failure_of(
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
@each_generation
@operations
def test_known_code_decides(
    operation: str, generation: str, code: str, usual: int, kind: FailureKind
) -> None:
    """With any status, since the vendor's pages contradict each other."""
    for status in {usual, 200, 400, 401, 403, 404, 500, 503}:
        answer = {"errorCode": code, "errorMessage": "message", "requestId": "r-1", "success": False}
        failure = failure_of(status, answer, generation=generation, operation=operation)
        # Some codes add likely causes.
        message, _, _ = failure.message.partition(" (")
        assert message == "message"
        assert failure == RequestFailure(
            kind=kind,
            code=str(status),
            error_code=code,
            message=failure.message,
            request_id="r-1",
            membership="(" in failure.message,
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
def test_status_decides_for_an_unknown_code(code: str, status: int, kind: FailureKind) -> None:
    failure = failure_of(status, {"errorCode": code, "errorMessage": "message", "success": False})
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
@each_generation
def test_not_found_is_about_the_pipeline_or_run_in_the_path(
    generation: str, operation: str, kind: FailureKind, status: int
) -> None:
    """Without them in the path, it is about the project."""
    answer = {"errorCode": "NotFound", "errorMessage": "Not Found", "requestId": "6548f837"}
    failure = failure_of(status, answer, generation=generation, operation=operation)
    assert (failure.kind, failure.error_code, failure.message) == (kind, "NotFound", "Not Found")


@of_one_pipeline
@pytest.mark.parametrize("answer", [b"", b"<html>", b"{}", b'{"errorCode":"\\"\\""}', b"[]"])
def test_not_found_without_a_code_is_about_the_endpoint(operation: str, answer: bytes) -> None:
    """Another service responds there."""
    assert failure_of(404, answer, operation=operation).kind is FailureKind.PROJECT


@pytest.mark.parametrize("status", [429, 503])
@pytest.mark.parametrize(
    "answer", [b"", b"<html>", {"errorCode": "NeverHeardOf"}, {"errorCode": "BadRequest"}]
)
def test_429_needs_no_code(status: int, answer: Any) -> None:
    """A 503 without a throttling code is an outage."""
    kind = failure_of(status, answer).kind
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
def test_wait_is_read_from_the_headers(
    status: int, code: str, headers: dict[str, str], wait: float | None
) -> None:
    """From the vendor's header in milliseconds, or from Retry-After, up to a limit."""
    assert failure_of(status, {"Code": code, "Message": "message"}, **headers).wait == wait


@pytest.mark.parametrize(
    ("status", "code"), [(500, "InternalError"), (400, "BadRequest"), (401, "Unauthorized")]
)
def test_error_other_than_throttling_has_no_wait(status: int, code: str) -> None:
    assert failure_of(status, {"Code": code}, x_acs_retry_after="9000", retry_after="9").wait is None


# -- unexpected responses


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (b"", "an empty body"),
        (b" \r\n", "an empty body"),
        (b"null", "of another operation"),
        (b"{}", "of another operation"),
        (b'{"success":true}', "of another operation"),
        (b'{"success":true,"errorCode":"\\"\\""}', "of another operation"),
        (b'{"data":[]}', "of another operation"),
        (b'"The service is busy"', "of another operation"),
        (b"17", "of another operation"),
        (b"<!DOCTYPE html><title>Log in</title>", "an HTML page"),
        (b"\n <html>", "an HTML page"),
        (b'{"pipelines":[{"a":1},', "invalid JSON"),
        (b"[" * 100_000, "invalid JSON"),
        (b'{"a":' * 100_000, "invalid JSON"),
        (b"\xff\xfe\x00", "invalid JSON"),
        (b"OK", "invalid JSON"),
    ],
)
@each_generation
@operations
def test_unexpected_response_is_described(
    operation: str, generation: str, answer: bytes, message: str
) -> None:
    failure = failure_of(200, answer, generation=generation, operation=operation)
    assert (failure.kind, failure.code, failure.error_code) == (FailureKind.UNREADABLE, "invalid", "")
    assert failure.message.startswith(f"unexpected response to {operation}")
    assert message in failure.message


@pytest.mark.parametrize("operation", list(ROWS))
@each_generation
def test_response_of_another_operation_is_invalid(generation: str, operation: str) -> None:
    """Also one of the other generation."""
    other = "signed" if generation == "personal" else "personal"
    failure = failure_of(200, success(operation, other), generation=generation, operation=operation)
    assert (failure.kind, failure.code) == (FailureKind.UNREADABLE, "invalid")
    failure = failure_of(
        200, success("GetPipelineRun", generation), generation=generation, operation=operation
    )
    assert (failure.kind, failure.code) == (FailureKind.UNREADABLE, "invalid")
    failure = failure_of(
        200, success(operation, generation), generation=generation, operation="GetPipelineRun"
    )
    assert (failure.kind, failure.code) == (FailureKind.UNREADABLE, "invalid")


@pytest.mark.parametrize("rows", ["", "x", 0, False, {}, {"a": 1}])
@pytest.mark.parametrize("operation", list(ROWS))
def test_rows_that_are_not_a_list_are_invalid(operation: str, rows: Any) -> None:
    """Not an empty page, which would end the list."""
    failure = failure_of(200, {ROWS[operation]: rows, "success": True}, operation=operation)
    assert (failure.kind, failure.code) == (FailureKind.UNREADABLE, "invalid")
    assert failure.message.startswith(f"unexpected response to {operation}: not a list of rows")


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
@each_generation
def test_error_status_needs_no_body(generation: str, status: int, kind: FailureKind, answer: bytes) -> None:
    failure = failure_of(status, answer, generation=generation)
    assert (failure.kind, failure.code, failure.error_code) == (kind, str(status), "")
    assert f"HTTP {status}" in failure.message


@operations
def test_success_body_with_error_status_is_a_failure(operation: str) -> None:
    assert (
        failure_of(502, success(operation, success=True), operation=operation).kind is FailureKind.TRANSIENT
    )


@pytest.mark.parametrize(
    ("location", "message"),
    [
        ("https://auth.example.com/login?ticket=very-private", "redirected to auth.example.com, which"),
        ("/login?ticket=very-private", "redirected to another path, which"),
        ("", "redirected to nowhere, which"),
        ("http://[very-private", "redirected to an invalid address, which"),
    ],
)
def test_redirect_message_has_the_host_only(location: str, message: str) -> None:
    failure = failure_of(302, b"", location=location)
    assert (failure.kind, failure.code) == (FailureKind.PROJECT, "302")
    assert message in failure.message
    assert "very-private" not in failure.message


PRIVATE = "hunter2-must-stay-private"


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
@each_generation
@operations
def test_message_has_only_the_vendors_error_text(
    operation: str, generation: str, answer: Any, status: int
) -> None:
    """The rest of a body may have input of users."""
    assert PRIVATE not in repr(classified(status, answer, generation=generation, operation=operation))


# -- the simulated cloud


def calls(harness: FlowHarness) -> list[ApiRequest]:
    pipeline = harness.cloud.pipeline_id(RAN[0].id)
    return [
        harness.provider.pipelines_request(PageCursor()),
        harness.provider.activity_request(PageCursor(), None),
        harness.provider.runs_request(pipeline, PageCursor(), 30),
        harness.provider.detail_request(pipeline, "1"),
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
def test_user_who_is_not_a_member_is_rejected_everywhere(
    generation: str, error_form: Any, switch: str, value: Any, problem: simulated.Problem
) -> None:
    harness = FlowHarness(generation)
    harness.cloud.error_form = error_form
    setattr(harness.cloud, switch, value)
    no = problem.signed if generation == "signed" else problem.personal
    assert {harness.failure(call) for call in calls(harness)} == {(FailureKind.PROJECT, no.code)}


@generations
def test_rejected_credentials_are_classified(generation: str) -> None:
    harness = FlowHarness(generation)
    harness.cloud.credentials = type(harness.cloud.credentials)(
        access_key="another", secret_key="another", personal_token="another"
    )
    kinds = {harness.failure(call) for call in calls(harness)}
    assert kinds == {
        (
            FailureKind.CREDENTIALS,
            "InvalidAccessKeyId.NotFound" if generation == "signed" else "InvalidTokenError",
        )
    }


@generations
def test_wrong_clock_counts_as_rejected_credentials(generation: str) -> None:
    """Such a rejection starts the correction of the clock. A personal token needs no clock."""
    harness = FlowHarness(generation)
    harness.cloud.skew = 3600.0
    if generation == "signed":
        assert harness.failure(calls(harness)[0]) == (FailureKind.CREDENTIALS, "InvalidTimeStamp.Expired")
    else:
        harness.answer(calls(harness)[0])


@generations
@pytest.mark.parametrize("throttle_code", ["Throttling", "Throttling.User", "Throttling.Api"])
def test_throttling_has_a_wait(generation: str, throttle_code: str) -> None:
    harness = FlowHarness(generation)
    harness.cloud.throttle_code = throttle_code
    harness.cloud.throttle, harness.cloud.retry_after = (1, 2.0), True
    call = calls(harness)[0]
    harness.answer(call)
    answer = harness.send(call)
    failure = harness.provider.failure(call, answer.status_code, dict(answer.headers), answer.content)
    assert failure is not None
    assert (failure.kind, failure.wait) == (FailureKind.THROTTLED, 2.0)


@generations
@pytest.mark.parametrize(
    ("injected_fault", "kind", "message"),
    [
        (InjectedFault.HTML, FailureKind.UNREADABLE, "an HTML page"),
        (InjectedFault.BAD_GATEWAY, FailureKind.TRANSIENT, "HTTP 502 with an HTML page"),
        (InjectedFault.EMPTY, FailureKind.UNREADABLE, "an empty body"),
        (InjectedFault.CUT, FailureKind.UNREADABLE, "invalid JSON"),
        (InjectedFault.NULL, FailureKind.UNREADABLE, "of another operation"),
        (InjectedFault.NESTED_ERROR, FailureKind.UNREADABLE, "of another operation"),
        (InjectedFault.ERROR_OBJECT, FailureKind.TRANSIENT, ""),
        (InjectedFault.SERVER_ERROR, FailureKind.TRANSIENT, ""),
        (InjectedFault.THROTTLED, FailureKind.THROTTLED, ""),
        (InjectedFault.DENIED, FailureKind.PROJECT, ""),
        (InjectedFault.REDIRECT, FailureKind.PROJECT, "redirected to another path"),
    ],
)
def test_injected_faults_are_classified(
    generation: str, injected_fault: InjectedFault, kind: FailureKind, message: str
) -> None:
    """For each operation no fault counts as a success."""
    harness = FlowHarness(generation)
    harness.cloud.injected_fault = injected_fault
    for call in calls(harness):
        answer = harness.send(call)
        failure = harness.provider.failure(call, answer.status_code, dict(answer.headers), answer.content)
        assert failure is not None
        assert (failure.kind, message in failure.message) == (kind, True)


# -- properties

TEXTS = st.sampled_from(
    ["", '""', "x", "Throttling.User", "Forbidden", "InvalidPipeline.NotFound", "NotFound"]
)
KEYS = [*ERROR_KEYS, "pipelines", "nextToken", "pipelineRuns", "pipelineRun", "pipelineRunId"]
envelopes = st.dictionaries(st.sampled_from(sorted(KEYS)), TEXTS | st.booleans() | json_values)


@given(
    st.sampled_from(list(PROVIDERS)),
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
@examples(300)
def test_any_response_is_classified(
    generation: str, operation: str, status: int, headers: dict[str, str], answer: bytes
) -> None:
    """Any response is a success or a failure with a message. Without a result it is a failure."""
    flow = PROVIDERS[generation]
    failure = flow.failure(OPERATIONS[operation](flow), status, headers, answer)
    if failure is None:
        assert 200 <= status < 300
    else:
        assert failure.message or failure.error_code
        assert failure.wait is None or 0 <= failure.wait <= 99_999


@given(envelopes, st.sampled_from(list(OPERATIONS)))
@settings(deadline=None)
def test_success_false_is_never_a_success(envelope: dict[str, Any], operation: str) -> None:
    assert classified(200, {**envelope, "success": False}, operation=operation) is not None
