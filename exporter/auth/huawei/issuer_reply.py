"""Read responses of credential issuers, and decide when to renew a credential."""

from datetime import UTC, datetime
from typing import Any

import msgspec

from exporter.auth.huawei.errors import HuaweiError, read_error
from exporter.auth.protocol import IssuerReply, NoReplyError, RenewalError
from exporter.auth.reply import destination
from exporter.config.secret import SecretError
from exporter.core.failures import FailureKind, RequestFailure
from exporter.core.redaction import printable

BODY_LIMIT = 1 << 20
"""Maximum bytes of a response to decode. Valid responses have a few thousand."""

_MESSAGE_LENGTH = 300
_CODE_LENGTH = 64


class Validity(msgspec.Struct, frozen=True):
    """How long an obtained credential is used. All times are Unix seconds."""

    reported_end: float | None
    """Expiry in the response. None if missing."""
    end: float
    """When the exporter stops using the credential."""
    renew_at: float
    """The credential is renewed after this time."""


def validity(reported_end: float | None, now: float, *, default_life: float, margin: float) -> Validity:
    """Return how long to use a credential that was obtained at `now`.

    Without a plausible expiry, it is used for `default_life` seconds. Renewal is due `margin` seconds before the end, but
    never before the last quarter of the lifetime: otherwise a short lifetime would cause a renewal at every request.
    """
    # An expiry in the past means that the clocks differ. If the credential has really expired, the vendor rejects it.
    end = reported_end if reported_end is not None and reported_end > now else now + default_life
    return Validity(reported_end, end, end - min(margin, (end - now) / 4))


def parse_time(value: object) -> float | None:
    """Return the Unix seconds of an ISO date and time, in UTC if it has no zone. None if it is invalid."""
    if not isinstance(value, str):
        return None
    try:
        time = datetime.fromisoformat(value.strip())
        return time.replace(tzinfo=time.tzinfo or UTC).timestamp()
    except (ValueError, OverflowError):
        return None


def parse_object(body: bytes) -> dict[str, Any]:
    """Return the JSON object in a body. Empty if the body is anything else."""
    if len(body) > BODY_LIMIT:
        return {}
    try:
        value = msgspec.json.decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


def fits_header(value: object) -> bool:
    """Return whether a value is a string that can be sent in a header."""
    return isinstance(value, str) and value.isascii() and value.isprintable() and bool(value.strip())


def refusal_error(reply: IssuerReply, issuer: str, remedy: str = "") -> RenewalError:
    """Return the error for a response with an error status."""
    status = reply.status
    error = read_error(status, reply.headers, parse_object(reply.body))
    message = error.message or f"HTTP {status} with no message"
    if not error.message and 300 <= status < 400:
        message = f"redirected to {destination(reply.headers)}; redirects are not followed"
    return RenewalError(
        RequestFailure(
            kind=_kind(status, error),
            code=str(status),
            error_code=printable(error.code, _CODE_LENGTH),
            message=printable(f"{issuer}: {printable(message, _MESSAGE_LENGTH)}{remedy}", _MESSAGE_LENGTH),
            request_id=printable(error.request_id, _CODE_LENGTH),
            wait=error.wait,
        )
    )


def no_reply_error(error: NoReplyError, remedy: str = "") -> RenewalError:
    """Return the error for an issuer that did not reply."""
    message = printable(f"{error.failure.message}{remedy}", _MESSAGE_LENGTH)
    return RenewalError(msgspec.structs.replace(error.failure, message=message))


def unreadable_error(message: str) -> RenewalError:
    """Return the error for a successful response without a credential. `message` must not quote the response."""
    return RenewalError(RequestFailure(kind=FailureKind.UNREADABLE, code="invalid", message=message))


def not_sent_error(error: SecretError | ValueError) -> RenewalError:
    """Return the error for a request that could not be built, because a secret or setting is unusable."""
    return RenewalError(RequestFailure(kind=FailureKind.NOT_SENT, code="secret", message=str(error)))


def _kind(status: int, error: HuaweiError) -> FailureKind:
    if error.throttled:
        return FailureKind.THROTTLED
    if status >= 500 or status == 408:
        return FailureKind.TRANSIENT
    # A 404 with a message is about an account or project that does not exist. Without one, the endpoint is wrong.
    if status in {400, 401, 403} or (status == 404 and error.message):
        return FailureKind.CREDENTIALS
    return FailureKind.UNREADABLE
