"""Decode records so that an error affects as little as possible: one page, one row, or one field.

Fields with a value of an undocumented type count as absent, and the rest of the record is decoded. Each provider lists
the fields that must not be guessed: a record with an error in one of them is rejected.
"""

import re
from functools import cache
from typing import Any, TypeVar, get_args, get_origin

import msgspec

Time = int | float | str | None
Number = int | float | str | None
Text = str | int | None

# What msgspec raises for invalid JSON, invalid UTF-8, too deep nesting, and values of another type.
UNREADABLE = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)

R = TypeVar("R", bound=msgspec.Struct)
V = TypeVar("V")

ROWS = 2000
"""Maximum records of a response: twice the maximum of `poll.chunk_size`."""
PIPELINE_ROWS = 20_000
"""Maximum rows of a page of pipelines, which take less time to decode."""
_ESCAPES = 50_000
"""Maximum escapes in a body that is searched for lone surrogates."""
_VALUES = 20_000
"""Maximum values that are decoded one by one for a record that does not match its type."""

_records = msgspec.json.Decoder(list[msgspec.Raw])


class UnusableRecordError(Exception):
    """Record that is rejected, with a reason of `REJECTIONS`, a message, and its pipeline id if that is readable."""

    def __init__(self, reason: str, message: str, pipeline: str = "") -> None:
        super().__init__(message)
        self.reason = reason
        self.pipeline = pipeline


class RecordDecoder:
    """Decoder for the records of one provider."""

    def __init__(self, essential: type[msgspec.Struct], pipeline: str) -> None:
        """`essential` has the fields that must be valid, `pipeline` is the key of a record's pipeline id."""
        self._essential = essential
        field = msgspec.field(default=None, name=pipeline)
        self._pipeline_only: Any = msgspec.defstruct("PipelineOnly", [("pipeline", Text, field)])

    def decode(self, raw: msgspec.Raw | bytes, record: type[R]) -> R:
        """Decode a record. If it does not match its type, decode the fields that do.

        Raises:
            UnusableRecordError: it is not a JSON object, or an essential field is invalid.

        """
        try:
            return msgspec.json.decode(raw, type=record)
        except UNREADABLE as error:
            failure: Exception = error
        repaired = _without_lone_surrogates(bytes(raw))
        try:
            msgspec.json.decode(repaired, type=self._essential)
            return _PartialDecoder().record(repaired, record)
        except UNREADABLE as error:
            failure = error if isinstance(error, msgspec.ValidationError) else failure
            raise UnusableRecordError(
                "unreadable", _printable(str(failure)), self._pipeline_of(repaired)
            ) from None
        except UnusableRecordError as error:
            raise UnusableRecordError(error.reason, str(error), self._pipeline_of(repaired)) from None

    def _pipeline_of(self, raw: bytes) -> str:
        try:
            return text(msgspec.json.decode(raw, type=self._pipeline_only).pipeline)
        except UNREADABLE:
            return ""


class _PartialDecoder:
    """Decodes the valid fields of one record, in a limited number of steps."""

    def __init__(self) -> None:
        self._left = _VALUES

    def record(self, raw: msgspec.Raw | bytes, record: type[R]) -> R:
        """Return a record with the valid fields; the others have their defaults.

        Raises:
            UnusableRecordError: it has too many values.

        """
        undecoded, types = _undecoded(record)
        found = msgspec.json.decode(raw, type=undecoded)
        return record(**{name: self._value(getattr(found, name), kind) for name, kind in types.items()})

    def _value(self, raw: msgspec.Raw, kind: Any) -> Any:
        """Return a valid value, the valid items of a list, a record with its valid fields, or None."""
        self._count(1)
        record, item = _nested(kind)
        first = bytes(memoryview(raw)[:1])
        if record is not None and first != b"{":
            return None
        try:
            return msgspec.json.decode(raw, type=kind)
        except UNREADABLE:
            pass
        try:
            if record is not None:
                return self.record(raw, record)
            if item is not None and first == b"[":
                items = _records.decode(raw)
                self._count(len(items))
                return [self._value(each, item) for each in items]
        except UNREADABLE:
            pass
        return None

    def _count(self, values: int) -> None:
        self._left -= values
        if self._left < 0:
            raise UnusableRecordError("unreadable", "too many values in a record that has undocumented types")


@cache
def _nested(kind: Any) -> tuple[type[msgspec.Struct] | None, Any]:
    """Return the record type of an optional record, or the item type of an optional list."""
    kinds = get_args(kind)
    record = next(
        (each for each in kinds if isinstance(each, type) and issubclass(each, msgspec.Struct)), None
    )
    return record, next((get_args(each)[0] for each in kinds if get_origin(each) is list), None)


@cache
def _undecoded(record: type[msgspec.Struct]) -> tuple[type[msgspec.Struct], dict[str, Any]]:
    """Return a record type with the same fields as raw JSON, and the types of the fields."""
    fields = msgspec.structs.fields(record)
    raw = [
        (field.name, msgspec.Raw, msgspec.field(default=msgspec.Raw(b"null"), name=field.encode_name))
        for field in fields
    ]
    return msgspec.defstruct(record.__name__, raw), {field.name: field.type for field in fields}


def rows(raw: msgspec.Raw | bytes, limit: int = ROWS) -> list[msgspec.Raw]:
    """Return the rows of a page as raw JSON; an empty list for null.

    Raises:
        UnusableRecordError: it is not an array, or has more than `limit` rows.

    """
    if bytes(raw) == b"null":
        return []
    try:
        return split_array(bytes(raw), limit)
    except UNREADABLE as error:
        raise UnusableRecordError("unreadable", _printable(str(error))) from None


def split_array(body: bytes, limit: int = ROWS) -> list[msgspec.Raw]:
    """Return the records of an array as raw JSON. Lone surrogates in one of them do not affect the others.

    Raises:
        UnusableRecordError: it has more than `limit` records.

    """
    records = decode_repaired(_records, body)
    if len(records) > limit:
        raise UnusableRecordError("unreadable", f"{len(records)} records, above the limit of {limit}")
    return records


def decode_repaired(decoder: msgspec.json.Decoder[V], body: bytes) -> V:
    """Decode a body; if that fails, decode it without lone surrogates."""
    try:
        return decoder.decode(body)
    except msgspec.DecodeError:
        return decoder.decode(_without_lone_surrogates(body))


# Text that was cut in UTF-16 can end in half of a surrogate pair. Escaped backslashes and complete pairs match first.
_SURROGATES = re.compile(rb"\\(?:(\\|u[dD][89abAB]\w\w\\u[dD][c-fC-F]\w\w)|u[dD][89a-fA-F]\w\w)")


def _without_lone_surrogates(body: bytes) -> bytes:
    if sum(body.count(escape) for escape in (b"\\\\", b"\\ud", b"\\uD")) > _ESCAPES:
        return body
    return _SURROGATES.sub(lambda found: b"\\" + found[1] if found[1] else rb"\ufffd", body)


def text(value: object) -> str:
    """Return a vendor's value as text; empty if absent."""
    return "" if value is None else str(value)


def _printable(message: str) -> str:
    return "".join(character if character.isprintable() else "?" for character in message)
