"""How CodeArts, the gateway before it and IAM say no, and what each refusal speaks of.

Sources: the error codes of API Gateway (https://support.huaweicloud.com/intl/en-us/usermanual-apig/apig_03_0018.html);
those of the pipeline service are not published: the ones here were seen in public code.
"""

import re
from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import urlsplit

import msgspec

from exporter.fault import Fault, Kind
from exporter.providers.base import Call
from exporter.providers.codearts.records import outline, text

_anything = msgspec.json.Decoder()
_outlined = msgspec.json.Decoder(dict[str, msgspec.Raw])


def read_fault(call: Call, needs: str, status: int, headers: Mapping[str, str], body: bytes) -> Fault | None:
    """Why an answer is not a success, or None if it is one.

    Success is a 2xx with a JSON object that has the key `needs` (with an array, if that is empty) and is no error
    envelope: the service sends its errors under 200 as well.
    """
    error_code, message = "", ""
    answer, problem = _parse(body)
    if isinstance(answer, dict):
        error_code, message = _error(answer)
    ok = 200 <= status < 300
    fits = isinstance(answer, dict) and needs in answer if needs else isinstance(answer, list)
    if ok and fits and not error_code:
        return None
    kind = _kind(status, error_code, message)
    if status == 404 and kind is Kind.PROJECT and call.operation == "ShowPipelineRunDetail":
        # The documented "not found" of a run, unless the gateway or the project says so.
        of_the_run = error_code and error_code not in _NO_PROJECT and not _GATEWAY.match(error_code)
        kind = Kind.CONTENT if of_the_run else kind
    code = str(status)
    if ok and not error_code:
        kind, code = Kind.UNREADABLE, "invalid"
        got = problem or f"a JSON {'object' if isinstance(answer, dict) else 'value'} that is not its answer"
        message = f"{call.operation} answered {got}"
    elif not message:
        message = (
            _redirect(headers) if 300 <= status < 400 else f"HTTP {status} with {problem or 'no message'}"
        )
    return Fault(
        kind=kind,
        code=code,
        error_code=error_code,
        message=message,
        request_id=headers.get("x-request-id", "")
        or (text(answer.get("request_id")) if isinstance(answer, dict) else ""),
        wait=_wait(kind, status, headers, message),
    )


def _parse(body: bytes) -> tuple[Any, str]:
    """The JSON value of a body, or words for what it is instead.

    Of an array the outline only, of an object what an error is told by: what else is wrong costs only itself.
    """
    if not body.strip():
        return None, "an empty body"
    try:
        match body.lstrip()[:1]:
            case b"[":
                return outline(body), ""
            case b"{":
                return {key: _told(key, raw) for key, raw in _outlined.decode(body).items()}, ""
            case _:
                return _anything.decode(body), ""
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        looks = "an HTML page" if b"<" in body.lstrip()[:1] else "no valid JSON"
        return None, f"{looks} ({len(body)} bytes)"


def _told(key: str, raw: msgspec.Raw) -> Any:
    if key not in _TELLING:
        return raw
    try:
        return _anything.decode(raw)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None


_TELLING = {"error", "request_id", "error_code", "error_msg", "errorCode", "errorMsg", "code", "message"}


def _error(answer: dict[str, Any]) -> tuple[str, str]:
    """Code and message of the error envelopes of the service, the gateway and IAM."""
    inner = answer.get("error")
    for place in (answer, inner if isinstance(inner, dict) else {}):
        for code, message in (("error_code", "error_msg"), ("errorCode", "errorMsg"), ("code", "message")):
            given = place.get(code)
            if isinstance(given, (str, int)) and given != "":
                return str(given), text(place.get(message))
    return "", ""


_NO_PROJECT = {"DEVPIPE.00011412", "DEVPIPE.30021001", "DEV_21_100169"}
_THROTTLED = re.compile(r"(?:APIGW|APIG)\.0308|IAM\.0012")
_GATEWAY = re.compile(r"(?:APIGW|APIG)\.")
_UNAUTHENTICATED = re.compile(r"(?:APIGW|APIG)\.(?:0301|0305|0307)|IAM\.(?:0066|0067|1108)")


def _kind(status: int, error_code: str, message: str) -> Kind:
    if status == 429 or _THROTTLED.fullmatch(error_code) or "throttling threshold" in message:
        return Kind.THROTTLED
    if status == 401 or _UNAUTHENTICATED.fullmatch(error_code):
        return Kind.CREDENTIALS
    if status >= 500 or status == 408:
        return Kind.TRANSIENT
    if status == 413:
        return Kind.CONTENT
    if status in {403, 404} or error_code in _NO_PROJECT or _GATEWAY.match(error_code):
        return Kind.PROJECT
    if status in {200, 201, 400}:
        return Kind.CONTENT
    return Kind.PROJECT


_WINDOW = re.compile(r"time:\s*(\d{1,4})\s*(second|minute|hour)")
_LONGEST_WAIT = 99_999.0


def _wait(kind: Kind, status: int, headers: Mapping[str, str], message: str) -> float | None:
    """Seconds to wait: `Retry-After`, else, of throttling, the window that the gateway's message names."""
    if kind is not Kind.THROTTLED and status != 503:
        return None
    told = _retry_after(headers)
    if told is not None:
        return min(max(told, 0.0), _LONGEST_WAIT)
    window = _WINDOW.search(message) if kind is Kind.THROTTLED else None
    if window is None:
        return None
    return float(window[1]) * {"second": 1, "minute": 60, "hour": 3600}[window[2]]


def _retry_after(headers: Mapping[str, str]) -> float | None:
    """The header's seconds, or those from the answer's own date to the one that it names."""
    told = headers.get("retry-after", "").strip()
    if told.isdecimal():
        return float(told)
    try:
        later, now = parsedate_to_datetime(told), parsedate_to_datetime(headers.get("date", ""))
        return (later - now).total_seconds()
    except (TypeError, ValueError, OverflowError):
        return None


def _redirect(headers: Mapping[str, str]) -> str:
    location = headers.get("location", "")
    try:
        place = urlsplit(location).hostname or ("another path" if location else "nowhere")
    except ValueError:
        place = "an address that is none"
    return f"redirected to {place}; redirects are not followed (is the endpoint right?)"
