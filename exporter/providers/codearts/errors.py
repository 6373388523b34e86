"""What is no answer of CodeArts, and of what each refusal by it, the gateway before it or IAM speaks.

Sources: the error codes of API Gateway (https://support.huaweicloud.com/intl/en-us/usermanual-apig/apig_03_0018.html);
those of the pipeline service are not published: the ones here were seen in public code.
"""

import re
from collections.abc import Mapping

from exporter.auth.huawei.errors import ERROR_KEYS, HuaweiError, read_error
from exporter.core.failures import FailureKind, RequestFailure
from exporter.providers.decoding import parse, unexpected_response, without_message
from exporter.providers.protocol import ApiRequest


def read_failure(
    call: ApiRequest, needs: str, status: int, headers: Mapping[str, str], body: bytes
) -> RequestFailure | None:
    """Why an answer is not a success, or None if it is one.

    Success is a 2xx with a JSON object that has the key `needs` (with an array, if that is empty) and is no error
    envelope: the service sends its errors under 200 as well.
    """
    answer, problem = parse(body, ERROR_KEYS, frozenset({needs} if needs else ()))
    told = read_error(status, headers, answer)
    ok = 200 <= status < 300
    fits = isinstance(answer, dict) and needs in answer if needs else isinstance(answer, list)
    if ok and fits and not told.code:
        return None
    kind, code, message = _kind(status, told), str(status), told.message
    if status == 404 and kind is FailureKind.PROJECT and call.operation in _OF_ONE_PIPELINE:
        # The documented "not found" of what the path names, unless the gateway or the project says so.
        of_the_path = told.code and told.code not in _NO_PROJECT and not _GATEWAY.match(told.code)
        kind = FailureKind.CONTENT if of_the_path else kind
    if ok and not told.code and not told.throttled:
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
        request_id=told.request_id,
        wait=told.wait,
    )


_OF_ONE_PIPELINE = {"ShowPipelineRunDetail", "ListPipelineRuns"}
_NO_PROJECT = {"DEVPIPE.00011412", "DEVPIPE.30021001", "DEV_21_100169"}
_GATEWAY = re.compile(r"(?:APIGW|APIG)\.")
_UNAUTHENTICATED = re.compile(r"(?:APIGW|APIG)\.(?:0301|0305|0307)|IAM\.(?:0066|0067|1108)")


def _kind(status: int, told: HuaweiError) -> FailureKind:
    if told.throttled:
        return FailureKind.THROTTLED
    if status == 401 or _UNAUTHENTICATED.fullmatch(told.code):
        return FailureKind.CREDENTIALS
    if status >= 500 or status == 408:
        return FailureKind.TRANSIENT
    if status == 413:
        return FailureKind.CONTENT
    if status in {403, 404} or told.code in _NO_PROJECT or _GATEWAY.match(told.code):
        return FailureKind.PROJECT
    if status in {200, 201, 400}:
        return FailureKind.CONTENT
    return FailureKind.PROJECT
