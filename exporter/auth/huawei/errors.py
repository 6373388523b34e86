"""Read error responses of Huawei Cloud: IAM, the metadata service, the API gateway and the services.

All use the same formats for codes, messages, throttling and waits. The caller decides what an error means. Source of the
error codes: API Gateway (https://support.huaweicloud.com/intl/en-us/usermanual-apig/apig_03_0018.html). Source of the
formats: the vendor's SDK (huaweicloudsdkcore exceptions/exception_handler.py).
"""

import re
from collections.abc import Mapping
from typing import Any

import msgspec

from exporter.auth.reply import retry_after

_PAIRS = (("error_code", "error_msg"), ("errorCode", "errorMsg"), ("code", "message"))
ERROR_KEYS = frozenset({"error", "request_id", *(key for pair in _PAIRS for key in pair)})
"""Keys of a response that `read_error` uses."""

_THROTTLED = re.compile(r"(?:APIGW|APIG)\.0308|IAM\.0012")
_WINDOW = re.compile(r"(?<!\d)(\d{1,4}) seconds|time:\s*(\d{1,4})\s*(second|minute|hour)", re.ASCII)

_WINDOW_SEARCH = 4096
"""Number of characters of a message that are searched for a time window."""


class HuaweiError(msgspec.Struct, frozen=True):
    """Content of an error response. Secrets in it are not masked."""

    code: str
    """The vendor's error code. Empty if missing."""
    message: str
    """The vendor's message. Empty if missing."""
    request_id: str
    throttled: bool
    """Whether the request was rejected because of too many requests."""
    wait: float | None
    """Seconds that the vendor asks to wait. None if unknown."""


def read_error(status: int, headers: Mapping[str, str], value: object) -> HuaweiError:
    """Read a response that is or may be an error. `headers` are keyed in lower case.

    `value` is the decoded JSON body. If it is not an object, code and message are empty.
    """
    fields: dict[str, Any] = value if isinstance(value, dict) else {}
    code, message = _code_and_message(fields)
    throttled = status == 429 or _THROTTLED.fullmatch(code) is not None or "throttling threshold" in message
    return HuaweiError(
        code=code,
        message=message,
        request_id=headers.get("x-request-id", "") or _text(fields.get("request_id")),
        throttled=throttled,
        wait=_wait(status, headers, message, throttled=throttled),
    )


def _code_and_message(fields: dict[str, Any]) -> tuple[str, str]:
    """Return the first error code and its message, or an empty code and the first message."""
    inner = fields.get("error")
    objects = (fields, inner) if isinstance(inner, dict) else (fields,)
    pairs = [
        (_text(each.get(code_key)), _text(each.get(message_key)))
        for each in objects
        for code_key, message_key in _PAIRS
    ]
    code, message = next((pair for pair in pairs if pair[0]), ("", ""))
    return code, message or next((text for _, text in pairs if text), "")


def _text(value: object) -> str:
    # The `repr` of other types could contain a secret in a spelling that is not masked.
    return str(value) if isinstance(value, (str, int)) else ""


def _wait(status: int, headers: Mapping[str, str], message: str, *, throttled: bool) -> float | None:
    """Return the seconds to wait by `Retry-After`, or by the time window in a throttling message. None if unknown."""
    if not throttled and status != 503:
        return None
    wait = retry_after(headers)
    if wait is not None:
        return wait
    window = _WINDOW.search(message[:_WINDOW_SEARCH]) if throttled else None
    if window is None:
        return None
    return float(window[1] or window[2]) * {"minute": 60, "hour": 3600}.get(window[3] or "", 1)
