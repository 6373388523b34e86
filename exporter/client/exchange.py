"""Record of a response for diagnosis, and the time in its `Date` header."""

from collections.abc import Mapping
from datetime import UTC
from email.utils import parsedate_to_datetime
from functools import lru_cache

import msgspec

_LAST_DATE = 2.0**32


class Exchange(msgspec.Struct, frozen=True):
    """What was received for one sent request, including error responses."""

    operation: str
    code: str
    """The HTTP status, or `timeout`, `connect`, `invalid`."""
    error_code: str
    seconds: float
    date: float | None
    """The `Date` header in Unix seconds; None if missing or implausible."""
    headers: Mapping[str, str]
    body: bytes


# All responses of a second have the same date.
@lru_cache(16)
def response_date(text: str | None) -> float | None:
    """Return the time of a `Date` header in Unix seconds; None if it is missing or implausible."""
    if text is None:
        return None
    try:
        moment = parsedate_to_datetime(text)
        date = moment.replace(tzinfo=moment.tzinfo or UTC).timestamp()
    except (ValueError, OverflowError):
        return None
    # A clock that is centuries off is useless for dating signatures.
    return date if 0 < date < _LAST_DATE else None
