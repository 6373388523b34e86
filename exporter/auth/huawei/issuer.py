"""What issuers of credentials answer: their errors in words fit to print, their times, and when to ask again."""

from datetime import UTC, datetime
from typing import Any

import msgspec

from exporter.auth.huawei.errors import Refusal, destination, read_refusal
from exporter.auth.protocol import IssuerReply, NoReplyError, RenewalError
from exporter.config.secret import SecretError
from exporter.core.failures import FailureKind, RequestFailure
from exporter.core.redaction import printable

BODY_LIMIT = 1 << 20
"""Bytes of an answer that are read; an honest one has a few thousand."""

_MESSAGE_LENGTH = 300
_CODE_LENGTH = 64


class Term(msgspec.Struct, frozen=True):
    """How long something that was obtained serves; all in epoch seconds."""

    told: float | None
    """Its end as the issuer says."""
    end: float
    """From here on it is not used."""
    due: float
    """After this a fresh one is wanted."""


def term(told: float | None, now: float, *, assumed: float, margin: float) -> Term:
    """The term of what was obtained at `now`.

    Without a usable end, `assumed` seconds. It is renewed `margin` seconds before its end, or in the last quarter of a
    short life: an issuer that gives out what is about to end is not asked before every request.
    """
    # What has ended already was measured by another clock than ours: the vendor's refusal will tell.
    end = told if told is not None and told > now else now + assumed
    return Term(told, end, end - min(margin, (end - now) / 4))


def moment(value: object) -> float | None:
    """Epoch seconds of an ISO date and time, in UTC if it names no zone; None if it is none."""
    if not isinstance(value, str):
        return None
    try:
        parsed = datetime.fromisoformat(value.strip())
        return parsed.replace(tzinfo=parsed.tzinfo or UTC).timestamp()
    except (ValueError, OverflowError):
        return None


def parsed(body: bytes) -> dict[str, Any]:
    """The JSON object of a body, or an empty one."""
    if len(body) > BODY_LIMIT:
        return {}
    try:
        answer = msgspec.json.decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return {}
    return answer if isinstance(answer, dict) else {}


def fits_header(value: object) -> bool:
    """Whether a value is text that can be sent in a header."""
    return isinstance(value, str) and value.isascii() and value.isprintable() and bool(value.strip())


def refusal(reply: IssuerReply, issuer: str, remedy: str = "") -> RenewalError:
    """Why there is no credential in an answer, which is not a success."""
    status = reply.status
    told = read_refusal(status, reply.headers, parsed(reply.body))
    words = told.message or f"HTTP {status} with no message"
    if not told.message and 300 <= status < 400:
        words = f"redirected to {destination(reply.headers)}; redirects are not followed"
    return RenewalError(
        RequestFailure(
            kind=_kind(status, told),
            code=str(status),
            error_code=printable(told.code, _CODE_LENGTH),
            message=printable(f"{issuer}: {printable(words, _MESSAGE_LENGTH)}{remedy}", _MESSAGE_LENGTH),
            request_id=printable(told.request_id, _CODE_LENGTH),
            wait=told.wait,
        )
    )


def unanswered(error: NoReplyError, remedy: str = "") -> RenewalError:
    """A renewal that failed because nobody answered."""
    words = printable(f"{error.failure.message}{remedy}", _MESSAGE_LENGTH)
    return RenewalError(msgspec.structs.replace(error.failure, message=words))


def unreadable(words: str) -> RenewalError:
    """A success without what it should bring; `words` hold nothing of the answer."""
    return RenewalError(RequestFailure(kind=FailureKind.UNREADABLE, code="invalid", message=words))


def unasked(error: SecretError | ValueError) -> RenewalError:
    """Nobody could be asked, for what to ask with is missing."""
    return RenewalError(RequestFailure(kind=FailureKind.NOT_SENT, code="secret", message=str(error)))


def _kind(status: int, told: Refusal) -> FailureKind:
    if told.throttled:
        return FailureKind.THROTTLED
    if status >= 500 or status == 408:
        return FailureKind.TRANSIENT
    # With words, 404 is an account or project that is not there; without, it is the endpoint that is none.
    if status in {400, 401, 403} or (status == 404 and told.message):
        return FailureKind.CREDENTIALS
    return FailureKind.UNREADABLE
