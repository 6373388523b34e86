"""What values and rows of any provider's answers mean, with every spelling of them that any cloud was seen to use.

Times are numbers, digits or text; null, absent, empty and 0 alike stand for "never".
"""

import re
from collections.abc import Callable, Collection, Iterable, Mapping
from datetime import UTC, datetime
from typing import Protocol
from zoneinfo import ZoneInfo

import msgspec

from exporter.core.model import LABEL_LENGTH, Run, Status, Trigger
from exporter.core.redaction import printable, redact
from exporter.providers.decoding import Number, Text, Time, UnusableRecordError, text
from exporter.providers.protocol import Decoded, RunRows

_WORD_LENGTH = 1024
"""Characters kept of a word without translation; logs and labels cut it further."""
_DIGITS = re.compile(r"-?[0-9]{1,19}")


class Timed(Protocol):
    """What has a beginning and an end within a run."""

    start_time: Time
    end_time: Time


class ValueDecoder:
    """Reads the values of one answer, and notes in `decoded` what surprises."""

    def __init__(self, decoded: Decoded) -> None:
        self._reading = decoded

    def status(self, word: Text, known: Mapping[str, Status], field: str) -> Status:
        """A state; what has no translation is told as a word."""
        status = known.get(text(word), Status.UNKNOWN)
        if status is Status.UNKNOWN:
            self._reading.words.add((field, text(word)[:_WORD_LENGTH]))
        return status

    def trigger(self, word: Text, known: Mapping[str, Trigger], field: str) -> Trigger:
        """What started a run; what has no translation is told as a word, unless there is none."""
        trigger = known.get(text(word), Trigger.UNKNOWN)
        if text(word) and trigger is Trigger.UNKNOWN:
            self._reading.words.add((field, text(word)[:_WORD_LENGTH]))
        return trigger

    def whole(self, value: Number, field: str, least: int = 1) -> int | None:
        """A whole number; what is none, or not between `least` and 2^53, is told as a word and counts as not given.

        Zero, where it is below `least`, is one more spelling of "not given".
        """
        if value is None or value == "":
            return None
        # `int` takes digits of other scripts and underscores as well.
        fits = not isinstance(value, str) or _DIGITS.fullmatch(value.strip())
        try:
            number = int(value) if fits else -1
        except (ValueError, OverflowError):
            number = -1
        if isinstance(value, float) and value != number:
            number = -1
        if least <= number < 1 << 53:
            return number
        if number != 0:
            self._reading.words.add((field, _shape(str(value))))
        return None

    def epoch(self, value: Time, field: str, zone: ZoneInfo | None = None) -> float | None:
        """Epoch seconds of epoch milliseconds, digits of them, or a date and time (in `zone` if it names none).

        Text that is no time is told as a word, its digits made equal, and counts as not given.
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
                    self._reading.words.add((field, _shape(value)))
                    return None
                # The epoch's own day, whatever the zone: zero, written out.
                return seconds if seconds > 86_400 else None
        # Zero and below: the vendor's other spelling of "never".
        return value / 1000 if 0 < value < 1e17 else None

    def span(self, record: Timed, zone: ZoneInfo | None = None) -> tuple[float | None, float | None]:
        """Start and end of what is within a run."""
        start = self.epoch(record.start_time, "stage_time", zone)
        return start, self.epoch(record.end_time, "stage_time", zone)


def elapsed(status: Status, start: float | None, end: float | None) -> float | None:
    """How long something took, if it is over."""
    if status.final and start is not None and end is not None and end >= start:
        return end - start
    return None


def _shape(words: str) -> str:
    return re.sub(r"\d", "0", redact(words, 64))


def is_id(pipeline: str) -> bool:
    """Whether a text can be the id of a pipeline."""
    # What is longer than a label is no id: cut, it would be another pipeline's. So would be one with its secrets masked.
    return 0 < len(pipeline) <= LABEL_LENGTH and redact(pipeline) == pipeline


def named(pipeline: str) -> str:
    """The id of a pipeline.

    Raises:
        UnusableError: it is none.

    """
    if not is_id(pipeline):
        raise UnusableRecordError("no_pipeline_id", "a record that names no pipeline")
    return pipeline


def asked_for(pipeline: str, asked: Collection[str]) -> str:
    """The id of a pipeline that was asked for.

    Raises:
        UnusableError: it is none, or of another one.

    """
    if pipeline not in asked:
        words = f"a run of pipeline {printable(named(pipeline), 64)}, which was not asked for"
        raise UnusableRecordError("not_requested", words)
    return pipeline


def fill(
    page: RunRows, rows: Iterable[msgspec.Raw], pipeline: str, read: Callable[[msgspec.Raw], Run]
) -> RunRows:
    """Put the runs of a pipeline's rows into a page, each row read alone.

    Of rows with the same id the last is used. Where they tell different numbers, one of them was misread, and it counts
    as unread.
    """
    found: dict[str, Run] = {}
    for raw in rows:
        page.rows += 1
        try:
            run = read(raw)
        except UnusableRecordError as error:
            page.reject(error.reason, str(error))
            # Another pipeline's row hides no run of this one.
            page.unreadable += error.reason != "not_requested" and error.pipeline in {"", pipeline}
            continue
        twin = found.get(run.id)
        if twin is not None:
            message = (
                f"run {printable(run.id, 64)} of pipeline {pipeline} stands twice in a page; the last is used"
            )
            page.reject("duplicate", message)
            page.unreadable += twin.number != run.number
        found[run.id] = run
    page.runs = list(found.values())
    return page
