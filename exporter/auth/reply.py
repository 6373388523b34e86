"""What HTTP itself tells in the headers of an answer that is no success, whoever sends it.

Source: RFC 9110, sections 10.2.2 and 10.2.3.
"""

from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from urllib.parse import urlsplit

from exporter.core.redaction import redact

LONGEST_WAIT = 99_999.0
"""Seconds of which nobody is believed to ask for more."""


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds to wait, told as such or from the answer's own date to another; `headers` are keyed in lower case."""
    told = headers.get("retry-after", "").strip()
    if told.isdecimal():
        return min(float(told), LONGEST_WAIT)
    try:
        later, now = parsedate_to_datetime(told), parsedate_to_datetime(headers.get("date", ""))
        return min(max((later - now).total_seconds(), 0.0), LONGEST_WAIT)
    except (TypeError, ValueError, OverflowError):
        return None


def destination(headers: Mapping[str, str]) -> str:
    """Where a redirect leads, in words: the host and no more, for a path or query may bear a ticket."""
    # Before the host is put in lower case, in which a secret would not be found.
    location = redact(headers.get("location", ""))
    try:
        return urlsplit(location).hostname or ("another path" if location else "nowhere")
    except ValueError:
        return "an address that is none"
