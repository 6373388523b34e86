"""How Huawei Cloud says no, whoever of it speaks: issuers of credentials, the gateway and the services.

They share envelopes, throttling and the ways to say when to come back; what a refusal speaks of differs, and is judged
by whoever asked. Sources: the error codes of API Gateway
(https://support.huaweicloud.com/intl/en-us/usermanual-apig/apig_03_0018.html), and the vendor's SDK
(huaweicloudsdkcore exceptions/exception_handler.py) for the envelopes.
"""

import re
from collections.abc import Mapping
from typing import Any

import msgspec

from exporter.auth.reply import destination, retry_after

__all__ = ["TELLING", "Refusal", "destination", "read_refusal"]

_PAIRS = (("error_code", "error_msg"), ("errorCode", "errorMsg"), ("code", "message"))
TELLING = frozenset({"error", "request_id", *(key for pair in _PAIRS for key in pair)})
"""The keys of an answer that a refusal is read out of."""

_THROTTLED = re.compile(r"(?:APIGW|APIG)\.0308|IAM\.0012")
_WINDOW = re.compile(r"(?<!\d)(\d{1,4}) seconds|time:\s*(\d{1,4})\s*(second|minute|hour)", re.ASCII)

_LOOKED_AT = 4096
"""Characters of a message in which a window is looked for."""


class Refusal(msgspec.Struct, frozen=True):
    """What an answer that is no success says; unmasked, as the vendor wrote it."""

    code: str
    """The vendor's code; empty if it gave none."""
    message: str
    """The vendor's words; empty if there are none."""
    request_id: str
    throttled: bool
    """Whether it is about too many requests."""
    wait: float | None
    """Seconds that the vendor asks to wait."""


def read_refusal(status: int, headers: Mapping[str, str], answer: object) -> Refusal:
    """Read an answer that is no success, or may be none; `headers` are keyed in lower case.

    `answer` is the JSON value of its body; what is no object has neither code nor words.
    """
    told: dict[str, Any] = answer if isinstance(answer, dict) else {}
    code, message = _envelope(told)
    throttled = status == 429 or _THROTTLED.fullmatch(code) is not None or "throttling threshold" in message
    return Refusal(
        code=code,
        message=message,
        request_id=headers.get("x-request-id", "") or _text(told.get("request_id")),
        throttled=throttled,
        wait=_wait(status, headers, message, throttled=throttled),
    )


def _envelope(answer: dict[str, Any]) -> tuple[str, str]:
    """The first code there is and the words beside it, or else the first words."""
    inner = answer.get("error")
    places = (answer, inner) if isinstance(inner, dict) else (answer,)
    told = [(_text(place.get(code)), _text(place.get(words))) for place in places for code, words in _PAIRS]
    code, message = next((pair for pair in told if pair[0]), ("", ""))
    return code, message or next((words for _, words in told if words), "")


def _text(value: object) -> str:
    # Of anything else the `repr` would show a secret in a spelling that no mask fits.
    return str(value) if isinstance(value, (str, int)) else ""


def _wait(status: int, headers: Mapping[str, str], message: str, *, throttled: bool) -> float | None:
    """What `Retry-After` says, else, of throttling, the window that the message names."""
    if not throttled and status != 503:
        return None
    told = retry_after(headers)
    if told is not None:
        return told
    window = _WINDOW.search(message[:_LOOKED_AT]) if throttled else None
    if window is None:
        return None
    return float(window[1] or window[2]) * {"minute": 60, "hour": 3600}.get(window[3] or "", 1)
