"""Translate values of responses: status, trigger, numbers and times, in all spellings that the clouds use.

Times are numbers, digits or text. Null, absent, empty and 0 all mean "never".
"""

import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Protocol
from zoneinfo import ZoneInfo

from exporter.core.model import Status, Trigger
from exporter.core.redaction import redact
from exporter.providers.decoding import Number, Text, Time, text
from exporter.providers.protocol import Decoded

_VALUE_LENGTH = 1024
"""Characters to keep of an unknown value; logs and labels shorten it further."""
_DIGITS = re.compile(r"-?[0-9]{1,19}")


RunUrl = Callable[[str, str, int | None], str]
"""Returns the configured URL of a run's page, by pipeline, run id and run number; empty if no URL is configured."""


class Timed(Protocol):
    """Record with a start and an end."""

    start_time: Time
    end_time: Time


class ValueDecoder:
    """Translates the values of one response, and adds unknown ones to `decoded`."""

    def __init__(self, decoded: Decoded) -> None:
        self._decoded = decoded

    def status(self, value: Text, known: Mapping[str, Status], field: str) -> Status:
        """Translate a status. Without translation it is `UNKNOWN`."""
        status = known.get(text(value), Status.UNKNOWN)
        if status is Status.UNKNOWN:
            self._decoded.unknown_values.add((field, text(value)[:_VALUE_LENGTH]))
        return status

    def trigger(self, value: Text, known: Mapping[str, Trigger], field: str) -> Trigger:
        """Translate a trigger. Without translation it is `UNKNOWN`; an empty value is not reported."""
        trigger = known.get(text(value), Trigger.UNKNOWN)
        if text(value) and trigger is Trigger.UNKNOWN:
            self._decoded.unknown_values.add((field, text(value)[:_VALUE_LENGTH]))
        return trigger

    def whole(self, value: Number, field: str, least: int = 1) -> int | None:
        """Return a whole number of at least `least` and below 2^53, or None.

        Other values are added to the unknown ones, except zero, which stands for an absent number.
        """
        if value is None or value == "":
            return None
        # `int` also accepts digits of other scripts, and underscores.
        valid = not isinstance(value, str) or _DIGITS.fullmatch(value.strip())
        try:
            number = int(value) if valid else -1
        except (ValueError, OverflowError):
            number = -1
        if isinstance(value, float) and value != number:
            number = -1
        if least <= number < 1 << 53:
            return number
        if number != 0:
            self._decoded.unknown_values.add((field, _shape(str(value))))
        return None

    def epoch(self, value: Time, field: str, zone: ZoneInfo | None = None) -> float | None:
        """Return a time in Unix seconds; None if it means "never" or is unreadable.

        `value` is in Unix milliseconds (number or digits), or in ISO 8601; without a time zone it is in `zone`, by default
        UTC. Other text is added to the unknown values, with 0 for each digit.
        """
        if value is None or value == "":
            return None
        if isinstance(value, str):
            if _DIGITS.fullmatch(value):
                value = int(value)
            else:
                try:
                    moment = datetime.fromisoformat(value)
                    seconds = (moment if moment.tzinfo else moment.replace(tzinfo=zone or UTC)).timestamp()
                except (ValueError, OverflowError):
                    self._decoded.unknown_values.add((field, _shape(value)))
                    return None
                # A time on the day of the epoch is a formatted zero, in any time zone.
                return seconds if seconds > 86_400 else None
        # Zero and negative numbers stand for "never".
        return value / 1000 if 0 < value < 1e17 else None

    def span(self, record: Timed, zone: ZoneInfo | None = None) -> tuple[float | None, float | None]:
        """Return start and end of a stage, job or step, in Unix seconds."""
        start = self.epoch(record.start_time, "stage_time", zone)
        return start, self.epoch(record.end_time, "stage_time", zone)


def elapsed(status: Status, start: float | None, end: float | None) -> float | None:
    """Return the seconds from start to end; None if the status is not final, or a time is unknown or out of order."""
    if status.final and start is not None and end is not None and end >= start:
        return end - start
    return None


def _shape(value: str) -> str:
    return re.sub(r"\d", "0", redact(value, 64))
