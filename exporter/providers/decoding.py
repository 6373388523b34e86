"""Reading what comes over the wire so that what is wrong costs only itself: a page its page, a row its row.

Where a record has values of another type than is documented, they count as not given, and the rest of it is read.
What of a record must not be guessed at is each provider's to say.
"""

import re
from collections.abc import Mapping
from functools import cache
from typing import Any, TypeVar, get_args, get_origin

import msgspec

from exporter.auth.reply import destination
from exporter.core.failures import FailureKind, RequestFailure
from exporter.providers.protocol import ApiRequest

Time = int | float | str | None
Number = int | float | str | None
Text = str | int | None

# What msgspec raises of bytes that are no JSON, no text, too deep, or of another type than is expected.
UNREADABLE = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)

R = TypeVar("R", bound=msgspec.Struct)
V = TypeVar("V")

ROWS = 2000
"""Most records of an answer; twice the largest `poll.chunk_size`."""
PIPELINE_ROWS = 20_000
"""Most rows of a page of pipelines, which cost less to read; a cloud was not seen to give more than was asked for."""
_COMMAS = 500_000
"""Most values of an answer; a vendor's value takes 15 bytes and more with its key."""
_VALUE_LENGTH = 65_536
"""Most bytes of a value that an error is read out of."""
_ESCAPES = 50_000
"""Most escapes that are searched for halves of characters."""
_PARTS = 20_000
"""Most values of one record that are tried one by one where the record does not fit its type."""

_anything = msgspec.json.Decoder()
_records = msgspec.json.Decoder(list[msgspec.Raw])


class UnusableRecordError(Exception):
    """A record that cannot be used; bears the reason, words, and the pipeline if at least that could be read."""

    def __init__(self, reason: str, words: str, pipeline: str = "") -> None:
        super().__init__(words)
        self.reason = reason
        self.pipeline = pipeline


class RecordDecoder:
    """The records of a provider."""

    def __init__(self, essential: type[msgspec.Struct], pipeline: str) -> None:
        """`essential` is what a record must not be wrong about, `pipeline` the key by which it names its pipeline."""
        self._essential = essential
        told = msgspec.field(default=None, name=pipeline)
        self._named: Any = msgspec.defstruct("Named", [("pipeline", Text, told)])

    def decode(self, raw: msgspec.Raw | bytes, record: type[R]) -> R:
        """One record: where it has values of another type than is documented, those fields that have a fitting one.

        Raises:
            UnusableError: it is no record at all, or what is essential cannot be read.

        """
        try:
            return msgspec.json.decode(raw, type=record)
        except UNREADABLE as error:
            failure: Exception = error
        whole = _whole_characters(bytes(raw))
        try:
            msgspec.json.decode(whole, type=self._essential)
            return _Fitting().record(whole, record)
        except UNREADABLE as error:
            failure = error if isinstance(error, msgspec.ValidationError) else failure
            raise UnusableRecordError(
                "unreadable", _printable(str(failure)), self._pipeline_of(whole)
            ) from None
        except UnusableRecordError as error:
            raise UnusableRecordError(error.reason, str(error), self._pipeline_of(whole)) from None

    def _pipeline_of(self, raw: bytes) -> str:
        try:
            return text(msgspec.json.decode(raw, type=self._named).pipeline)
        except UNREADABLE:
            return ""


class _Fitting:
    """Reads what fits of a record that does not fit its type, in a limited number of steps."""

    def __init__(self) -> None:
        self._left = _PARTS

    def record(self, raw: msgspec.Raw | bytes, record: type[R]) -> R:
        """A record of those fields that have a fitting value; the others count as not given.

        Raises:
            UnusableError: that takes too many steps.

        """
        unreadable, kinds = _anatomy(record)
        found = msgspec.json.decode(raw, type=unreadable)
        return record(**{name: self._part(getattr(found, name), kind) for name, kind in kinds.items()})

    def _part(self, raw: msgspec.Raw, kind: Any) -> Any:
        """A value if it fits; else of a list those items, of a record those fields that do; None of anything else."""
        self._take(1)
        record, item = _inside(kind)
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
                self._take(len(items))
                return [self._part(one, item) for one in items]
        except UNREADABLE:
            pass
        return None

    def _take(self, steps: int) -> None:
        self._left -= steps
        if self._left < 0:
            raise UnusableRecordError("unreadable", "too many values of another type than is documented")


@cache
def _inside(kind: Any) -> tuple[type[msgspec.Struct] | None, Any]:
    """The record that a value is unless it is null, or what the items are of the list that it may be."""
    kinds = get_args(kind)
    record = next((one for one in kinds if isinstance(one, type) and issubclass(one, msgspec.Struct)), None)
    return record, next((get_args(one)[0] for one in kinds if get_origin(one) is list), None)


@cache
def _anatomy(record: type[msgspec.Struct]) -> tuple[type[msgspec.Struct], dict[str, Any]]:
    """A record of the same fields, none of which is read yet, and what each is to be read as."""
    fields = msgspec.structs.fields(record)
    unreadable = [
        (field.name, msgspec.Raw, msgspec.field(default=msgspec.Raw(b"null"), name=field.encode_name))
        for field in fields
    ]
    return msgspec.defstruct(record.__name__, unreadable), {field.name: field.type for field in fields}


def rows(raw: msgspec.Raw | bytes, most: int = ROWS) -> list[msgspec.Raw]:
    """The rows of a page, not yet read; none if they are null.

    Raises:
        UnusableError: it has none that could be read, or more than `most`.

    """
    if bytes(raw) == b"null":
        return []
    try:
        return split_array(bytes(raw), most)
    except UNREADABLE as error:
        raise UnusableRecordError("unreadable", _printable(str(error))) from None


def split_array(body: bytes, most: int = ROWS) -> list[msgspec.Raw]:
    """The records of an array, not yet read; half a character in one of them does not cost the others.

    Raises:
        UnusableError: there are more than `most`.

    """
    found = _mended(_records, body)
    if len(found) > most:
        raise UnusableRecordError("unreadable", f"{len(found)} records, more than the {most} that are read")
    return found


def too_complex(call: ApiRequest, body: bytes) -> RequestFailure | None:
    """Why an answer is not decoded: its values would take seconds and hundreds of megabytes, though its bytes do not."""
    objects, commas = body.count(b"{"), body.count(b",")
    if objects <= call.object_limit and commas <= _COMMAS:
        return None
    message = (
        f"{call.operation} answered {objects} objects and {commas} commas, more than the {call.object_limit} and "
        f"{_COMMAS} that are read"
    )
    return RequestFailure(kind=FailureKind.UNREADABLE, code="invalid", message=message)


def _mended(decoder: msgspec.json.Decoder[V], body: bytes) -> V:
    try:
        return decoder.decode(body)
    except msgspec.DecodeError:
        return decoder.decode(_whole_characters(body))


# Half of a character, which is left where text is cut by UTF-16 units; what must stay is matched first.
_HALVES = re.compile(rb"\\(?:(\\|u[dD][89abAB]\w\w\\u[dD][c-fC-F]\w\w)|u[dD][89a-fA-F]\w\w)")


def _whole_characters(body: bytes) -> bytes:
    if sum(body.count(escape) for escape in (b"\\\\", b"\\ud", b"\\uD")) > _ESCAPES:
        return body
    return _HALVES.sub(lambda found: b"\\" + found[1] if found[1] else rb"\ufffd", body)


def parse(
    body: bytes, conclusive: frozenset[str], given: frozenset[str], most: int = ROWS
) -> tuple[Any, str]:
    """The JSON value of a body, or words for what it is instead.

    Of an array the outline only, of `most` records at most. Of an object what an error is told by, the values of the keys that are `conclusive`, and
    not yet read those of the keys that are `given`: what else is wrong costs only itself.
    """
    if not body.strip():
        return None, "an empty body"
    try:
        match body.lstrip()[:1]:
            case b"[":
                return split_array(body, most), ""
            case b"{":
                told = _of_keys(body, conclusive | given)
                return {key: _value(raw) if key in conclusive else raw for key, raw in told.items()}, ""
            case _:
                return _anything.decode(body), ""
    except UnusableRecordError as error:
        return None, str(error)
    except UNREADABLE:
        looks = "an HTML page" if b"<" in body.lstrip()[:1] else "no valid JSON"
        return None, f"{looks} ({len(body)} bytes)"


def _of_keys(body: bytes, keys: frozenset[str]) -> dict[str, msgspec.Raw]:
    """The values of an object's keys, not yet read; what stands under others is passed over, however much it is."""
    decoder, names = _decoder(keys)
    found = msgspec.structs.astuple(_mended(decoder, body))
    return {name: raw for name, raw in zip(names, found, strict=True) if raw is not _ABSENT}


_ABSENT = msgspec.Raw()


@cache
def _decoder(keys: frozenset[str]) -> tuple[msgspec.json.Decoder[Any], list[str]]:
    names = sorted(keys)
    fields = [
        (f"key_{place}", msgspec.Raw, msgspec.field(default=_ABSENT, name=name))
        for place, name in enumerate(names)
    ]
    return msgspec.json.Decoder(msgspec.defstruct("Keys", fields)), names


def _value(raw: msgspec.Raw) -> Any:
    if len(memoryview(raw)) > _VALUE_LENGTH:
        return None
    try:
        return _anything.decode(raw)
    except UNREADABLE:
        return None


def text(value: object) -> str:
    """A vendor's text; absent is empty."""
    return "" if value is None else str(value)


def _printable(words: str) -> str:
    return "".join(character if character.isprintable() else "?" for character in words)


def unexpected_response(operation: str, answer: object, problem: str) -> str:
    """What to say of a success that is not the operation's answer; `problem` is what `parse` found wrong with it."""
    got = problem or f"a JSON {'object' if isinstance(answer, dict) else 'value'} that is not its answer"
    return f"{operation} answered {got}"


def without_message(status: int, headers: Mapping[str, str], problem: str) -> str:
    """What to say of a refusal that says nothing itself."""
    if 300 <= status < 400:
        return f"redirected to {destination(headers)}; redirects are not followed (is the endpoint right?)"
    return f"HTTP {status} with {problem or 'no message'}"
