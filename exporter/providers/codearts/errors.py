"""Classify error responses from CodeArts, the API gateway and IAM.

Source: the error codes of API Gateway (https://support.huaweicloud.com/intl/en-us/usermanual-apig/apig_03_0018.html).
The codes of the pipeline service are unpublished; the ones here occur in public code.
"""

import re
from collections.abc import Mapping

from exporter.auth.huawei.errors import ERROR_KEYS, HuaweiError, read_error
from exporter.core.failures import FailureKind, RequestFailure
from exporter.providers.decoding import UnusableRecordError
from exporter.providers.protocol import ApiRequest
from exporter.providers.responses import parse, unexpected_response, without_message


def read_failure(
    request: ApiRequest, required: str, status: int, headers: Mapping[str, str], body: bytes
) -> RequestFailure | None:
    """Classify an error response; return None for a success.

    A success has a 2xx status and a JSON object with the key `required`, or an array if `required` is empty. It also has no
    error code, because the service sends some errors with status 200.
    """
    value, problem = parse(body, ERROR_KEYS, frozenset({required} if required else ()))
    error = read_error(status, headers, value)
    ok = 200 <= status < 300
    expected = isinstance(value, dict) and required in value if required else isinstance(value, list)
    if ok and expected and not error.code:
        return None
    kind, code, message = _kind(status, error), str(status), error.message
    if status == 404 and kind is FailureKind.PROJECT and request.operation in _OF_ONE_PIPELINE:
        # The pipeline or run in the path was not found, unless the code is the gateway's or about the project.
        in_path = error.code and error.code not in _NO_PROJECT and not _GATEWAY.match(error.code)
        kind = FailureKind.CONTENT if in_path else kind
    if ok and not error.code and not error.throttled:
        kind, code = FailureKind.UNREADABLE, "invalid"
        message = unexpected_response(request.operation, value, problem)
    if error.code in _NO_PROJECT:
        message = f"{message or error.code} ({_NO_PROJECT_CAUSES})"
    return RequestFailure(
        kind=kind,
        code=code,
        error_code=error.code,
        message=message or without_message(status, headers, problem),
        request_id=error.request_id,
        wait=error.wait,
        membership=error.code in _NO_PROJECT,
    )


def unreadable_page(
    operation: str, key: str, error: UnusableRecordError, headers: Mapping[str, str]
) -> RequestFailure:
    """Return the failure for a page whose rows are not an array. It must not count as empty, which would end the list."""
    return RequestFailure(
        kind=FailureKind.UNREADABLE,
        code="invalid",
        message=f"unexpected response to {operation}: {key} is not a list of rows: {error}",
        request_id=headers.get("x-request-id", ""),
    )


_OF_ONE_PIPELINE = {"ShowPipelineRunDetail", "ListPipelineRuns"}
_NO_PROJECT = {"DEVPIPE.00011412", "DEVPIPE.30021001", "DEV_21_100169"}
_NO_PROJECT_CAUSES = (
    "the user is not a member of the project, or project_id is not that of a CodeArts project of this region"
)
_GATEWAY = re.compile(r"(?:APIGW|APIG)\.")
_UNAUTHENTICATED = re.compile(r"(?:APIGW|APIG)\.(?:0301|0305|0307)|IAM\.(?:0066|0067|1108)")


def _kind(status: int, error: HuaweiError) -> FailureKind:
    if error.throttled:
        return FailureKind.THROTTLED
    if status == 401 or _UNAUTHENTICATED.fullmatch(error.code):
        return FailureKind.CREDENTIALS
    if status >= 500 or status == 408:
        return FailureKind.TRANSIENT
    if status == 413:
        return FailureKind.CONTENT
    if status in {403, 404} or error.code in _NO_PROJECT or _GATEWAY.match(error.code):
        return FailureKind.PROJECT
    if status in {200, 201, 400}:
        return FailureKind.CONTENT
    return FailureKind.PROJECT
