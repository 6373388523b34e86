"""Classify error responses from Flow and the gateway in front of it.

Both generations of the API have the same kinds of errors, in different envelopes. The vendor's pages give different
HTTP statuses for the same code, so a known code decides, not the status.

Source: https://help.aliyun.com/zh/yunxiao/developer-reference/error-code-center, the tables of errors of
https://help.aliyun.com/document_detail/460565.html and the pages next to it, and the gateway's common errors.
"""

import html
import re
from collections.abc import Mapping
from typing import Any

import msgspec

from exporter.auth.reply import LONGEST_WAIT, retry_after
from exporter.core.failures import FailureKind, RequestFailure
from exporter.providers.decoding import PIPELINE_ROWS, UnusableRecordError
from exporter.providers.flow.dialects import LIST_PIPELINES, RESULT_KEYS, Dialect
from exporter.providers.protocol import ApiRequest
from exporter.providers.responses import parse, unexpected_response, without_message

_CODES = ("errorCode", "Code", "code")
_MESSAGES = ("errorMessage", "Message", "message", "errorDescription")
_REQUEST_IDS = ("requestId", "RequestId", "requestid")
ERROR_KEYS = frozenset({"success", *_CODES, *_MESSAGES, *_REQUEST_IDS})
"""Keys of a response that describe an error."""

_XML_LENGTH = 65_536


class _ErrorBody(msgspec.Struct, frozen=True):
    """Error fields of a response as sent, secrets included."""

    code: str
    message: str
    request_id: str
    success: bool | None


def read_failure(
    request: ApiRequest, dialect: Dialect, status: int, headers: Mapping[str, str], body: bytes
) -> RequestFailure | None:
    """Classify an error response; return None for a success.

    A success has a 2xx status and the expected result, and no `success: false`. A code alone does not make it an error: the
    vendor's example of a success has a code that consists of two quotation marks.
    """
    value, problem = parse(body, ERROR_KEYS, RESULT_KEYS, PIPELINE_ROWS)
    error = _error_of(value, body)
    ok = 200 <= status < 300
    expected = dialect.has_result(request.operation, value)
    if expected is None:
        expected = error.success is True or not error.code
    if ok and expected and error.success is not False:
        return None
    kind, code, message = _kind(request, status, error.code), str(status), error.message
    if ok and not error.code and error.success is not False:
        kind, code = FailureKind.UNREADABLE, "invalid"
        message = unexpected_response(request.operation, value, problem)
    causes = next((causes for codes, causes in _CAUSES.items() if re.fullmatch(codes, error.code)), "")
    if causes:
        message = f"{message or error.code} ({causes})"
    return RequestFailure(
        kind=kind,
        code=code,
        error_code=error.code,
        message=message or without_message(status, headers, problem),
        request_id=error.request_id or headers.get("x-acs-request-id", ""),
        wait=_wait(headers) if kind is FailureKind.THROTTLED or status == 503 else None,
        membership=bool(causes),
    )


def unreadable_page(operation: str, error: UnusableRecordError) -> RequestFailure:
    """Return the failure for a page whose rows are not an array. It must not count as empty, which would end the list."""
    return RequestFailure(
        kind=FailureKind.UNREADABLE,
        code="invalid",
        message=f"unexpected response to {operation}: not a list of rows: {error}",
    )


def _error_of(value: Any, body: bytes) -> _ErrorBody:
    """Return the error fields of a JSON object, or of the XML that the gateway sends in some cases."""
    if isinstance(value, dict):
        success = value.get("success")
        return _ErrorBody(
            code=_first(value, _CODES),
            message=_first(value, _MESSAGES),
            request_id=_first(value, _REQUEST_IDS),
            success=success if isinstance(success, bool) else None,
        )
    start = body.lstrip()[:_XML_LENGTH]
    elements = (
        dict(_ELEMENTS.findall(start.decode(errors="replace")))
        if start[:1] == b"<" and b"<Error>" in start
        else {}
    )
    values = {name: html.unescape(escaped) for name, escaped in elements.items()}
    return _ErrorBody(_first(values, _CODES), _first(values, _MESSAGES), _first(values, _REQUEST_IDS), None)


_ELEMENTS = re.compile(r"<(Code|Message|RequestId)>([^<]*)</\1>")


def _first(members: Mapping[str, Any], names: tuple[str, ...]) -> str:
    """Return the first named member that is a string of more than quotation marks; empty if there is no such member."""
    # Strings only: the `repr` of another value would show a secret in a form that is not masked.
    values = (value.strip() for name in names if isinstance(value := members.get(name), str))
    return next((value for value in values if value.strip(' "“”')), "")


def _wait(headers: Mapping[str, str]) -> float | None:
    """Return the seconds to wait: from the vendor's own header, in milliseconds, or from `Retry-After`."""
    milliseconds = headers.get("x-acs-retry-after", "").strip()
    if milliseconds.isdecimal() and float(milliseconds) > 0:
        return min(float(milliseconds) / 1000, LONGEST_WAIT)
    return retry_after(headers)


_CAUSES = {
    r"InvalidOrganization\.NotFound": (
        "organization_id is wrong: it is the part of the address after /organization/ in the console"
    ),
    r"(Forbidden\.)?(InvalidUser\.)?(UserNotInCurrentOrganization|InvalidOrganizationMember)": (
        "the user is not a member of the organization, or organization_id is another one's"
    ),
    r"InvalidUser\.NotFound": "the user of the access key is not a user of Yunxiao",
}
"""Likely causes by error code."""

# A star matches any suffix. After SignatureNonceUsed a retry has another nonce.
_CODES_OF = {
    FailureKind.THROTTLED: "Throttling* TooManyRequests*",
    FailureKind.TRANSIENT: "SignatureNonceUsed InternalError* InternalServerError ServiceUnavailable*",
    FailureKind.CREDENTIALS: """
        InvalidAccessKeyId* SignatureDoesNotMatch IncompleteSignature InvalidTimeStamp* InvalidSecurityToken*
        MissingAccessKeyId MissingSecurityToken
        Unauthorized ExpiredTokenError InvalidTokenError UnsupportedCurrentTokenType
    """,
    FailureKind.PROJECT: """
        Forbidden* InvalidOrganization.NotFound InvalidUser.* InvalidApi.NotFound InvalidProduct* InvalidProtocol*
        InvalidVersion Missing* UnsupportedInCurrentEnv
    """,
    FailureKind.CONTENT: "InvalidPipeline.NotFound InvalidPipelineRun.NotFound InvalidParam* BadRequest",
}
_KINDS = {
    kind: re.compile("|".join(re.escape(code).replace(r"\*", ".*") for code in codes.split()))
    for kind, codes in _CODES_OF.items()
}


def _kind(request: ApiRequest, status: int, code: str) -> FailureKind:
    if status == 429:
        return FailureKind.THROTTLED
    for kind, codes in _KINDS.items():
        if codes.fullmatch(code):
            return kind
    if status == 401:
        return FailureKind.CREDENTIALS
    if status >= 500 or status == 408:
        return FailureKind.TRANSIENT
    if status == 404 or code == "NotFound":
        # With a code, the pipeline or run in the path was not found; without one the endpoint may be wrong.
        return FailureKind.CONTENT if code and request.operation != LIST_PIPELINES else FailureKind.PROJECT
    return FailureKind.CONTENT if 200 <= status < 300 or status in {400, 413} else FailureKind.PROJECT
