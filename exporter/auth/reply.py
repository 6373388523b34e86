"""HTTP headers of error responses: `Retry-After` and `Location`.

Source: RFC 9110, sections 10.2.2 and 10.2.3.
"""

from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from urllib.parse import urlsplit

from exporter.core.redaction import redact

LONGEST_WAIT = 99_999.0
"""Maximum seconds to wait. Longer waits are cut."""


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Return the seconds to wait by `Retry-After`, or None if missing or invalid. `headers` are keyed in lower case.

    A date is compared with the response's own `Date`, since the clock of this machine can differ.
    """
    value = headers.get("retry-after", "").strip()
    if value.isdecimal():
        return min(float(value), LONGEST_WAIT)
    try:
        later, now = parsedate_to_datetime(value), parsedate_to_datetime(headers.get("date", ""))
        return min(max((later - now).total_seconds(), 0.0), LONGEST_WAIT)
    except (TypeError, ValueError, OverflowError):
        return None


def destination(headers: Mapping[str, str]) -> str:
    """Return the target of a redirect for messages: only its host, since path and query can contain a secret."""
    # Mask before `hostname` converts the host to lower case: masking is case-sensitive.
    location = redact(headers.get("location", ""))
    try:
        return urlsplit(location).hostname or ("another path" if location else "nowhere")
    except ValueError:
        return "an invalid address"
