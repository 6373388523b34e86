"""What is no answer of Flow, and of what each refusal speaks.

Both generations have the same kinds of refusals, by the service and by a gateway before it, in envelopes that differ.
The HTTP status of a code differs between the vendor's own pages, so that a code that is known decides.
Sources: https://help.aliyun.com/zh/yunxiao/developer-reference/error-code-center, the tables of errors of
https://help.aliyun.com/document_detail/460565.html and its neighbours, and the common errors of the vendor's gateway.
"""

import html
import re
from collections.abc import Mapping
from typing import Any

import msgspec

from exporter.auth.reply import LONGEST_WAIT, retry_after
from exporter.core.failures import FailureKind, RequestFailure
from exporter.providers.decoding import PIPELINE_ROWS, parse, unexpected_response, without_message
from exporter.providers.flow.dialects import GIVEN, LIST_PIPELINES, Dialect
from exporter.providers.protocol import ApiRequest

_CODES = ("errorCode", "Code", "code")
_MESSAGES = ("errorMessage", "Message", "message", "errorDescription")
_REQUEST_IDS = ("requestId", "RequestId", "requestid")
TELLING = frozenset({"success", *_CODES, *_MESSAGES, *_REQUEST_IDS})
"""The keys of an answer that a refusal is read out of."""

_XML_LENGTH = 65_536


class _Told(msgspec.Struct, frozen=True):
    """What an answer says of its success; unmasked, as the vendor wrote it."""

    code: str
    message: str
    request_id: str
    success: bool | None


def read_failure(
    call: ApiRequest, dialect: Dialect, status: int, headers: Mapping[str, str], body: bytes
) -> RequestFailure | None:
    """Why an answer is not a success, or None if it is one.

    A success is a 2xx with what is asked for, unless it says of itself that it is none. A code in it says nothing: in
    the vendor's examples a success has one, which is two quotation marks.
    """
    answer, problem = parse(body, TELLING, GIVEN, PIPELINE_ROWS)
    told = _told(answer, body)
    ok = 200 <= status < 300
    given = dialect.gives(call.operation, answer)
    if given is None:
        given = told.success is True or not told.code
    if ok and given and told.success is not False:
        return None
    kind, code, message = _kind(call, status, told.code), str(status), told.message
    if ok and not told.code and told.success is not False:
        kind, code, message = (
            FailureKind.UNREADABLE,
            "invalid",
            unexpected_response(call.operation, answer, problem),
        )
    return RequestFailure(
        kind=kind,
        code=code,
        error_code=told.code,
        message=message or without_message(status, headers, problem),
        request_id=told.request_id or headers.get("x-acs-request-id", ""),
        wait=_wait(headers) if kind is FailureKind.THROTTLED or status == 503 else None,
    )


def _told(answer: Any, body: bytes) -> _Told:
    """What is told in JSON, or in the XML that the gateway falls back to."""
    if isinstance(answer, dict):
        success = answer.get("success")
        return _Told(
            code=_first(answer, _CODES),
            message=_first(answer, _MESSAGES),
            request_id=_first(answer, _REQUEST_IDS),
            success=success if isinstance(success, bool) else None,
        )
    start = body.lstrip()[:_XML_LENGTH]
    found = (
        dict(_ELEMENTS.findall(start.decode(errors="replace")))
        if start[:1] == b"<" and b"<Error>" in start
        else {}
    )
    values = {name: html.unescape(value) for name, value in found.items()}
    return _Told(_first(values, _CODES), _first(values, _MESSAGES), _first(values, _REQUEST_IDS), None)


_ELEMENTS = re.compile(r"<(Code|Message|RequestId)>([^<]*)</\1>")


def _first(told: Mapping[str, Any], names: tuple[str, ...]) -> str:
    """The first of some values that is text, and more than quotation marks."""
    # Of anything else the `repr` would show a secret in a spelling that no mask fits.
    values = (value.strip() for name in names if isinstance(value := told.get(name), str))
    return next((value for value in values if value.strip(' "“”')), "")


def _wait(headers: Mapping[str, str]) -> float | None:
    """Seconds to wait: in a header of the vendor's own, which counts milliseconds, or in the usual one."""
    told = headers.get("x-acs-retry-after", "").strip()
    if told.isdecimal() and float(told) > 0:
        return min(float(told) / 1000, LONGEST_WAIT)
    return retry_after(headers)


# What codes speak of; with a star all that begin so. After a nonce that was used another try brings another one.
_WORDS = {
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
    kind: re.compile("|".join(re.escape(word).replace(r"\*", ".*") for word in words.split()))
    for kind, words in _WORDS.items()
}


def _kind(call: ApiRequest, status: int, code: str) -> FailureKind:
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
        # Of what the path names, if the service says so; without a code of its own the address may be wrong.
        return FailureKind.CONTENT if code and call.operation != LIST_PIPELINES else FailureKind.PROJECT
    return FailureKind.CONTENT if 200 <= status < 300 or status in {400, 413} else FailureKind.PROJECT
