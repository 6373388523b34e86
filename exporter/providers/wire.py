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

Time = int | float | str | None
Number = int | float | str | None
Text = str | int | None

# What msgspec raises of bytes that are no JSON, no text, too deep, or of another type than is expected.
UNREADABLE = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)

R = TypeVar("R", bound=msgspec.Struct)
V = TypeVar("V")

_anything = msgspec.json.Decoder()
_records = msgspec.json.Decoder(list[msgspec.Raw])
_outlined = msgspec.json.Decoder(dict[str, msgspec.Raw])


class UnusableError(Exception):
    """A record that cannot be used; bears the reason, words, and the pipeline if at least that could be read."""

    def __init__(self, reason: str, words: str, pipeline: str = "") -> None:
        super().__init__(words)
        self.reason = reason
        self.pipeline = pipeline


class Records:
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
            fault: Exception = error
        whole = _whole_characters(bytes(raw))
        try:
            msgspec.json.decode(whole, type=self._essential)
            return _what_fits(whole, record)
        except UNREADABLE as error:
            fault = error if isinstance(error, msgspec.ValidationError) else fault
            raise UnusableError("unreadable", _printable(str(fault)), self._pipeline_of(whole)) from None

    def _pipeline_of(self, raw: bytes) -> str:
        try:
            return text(msgspec.json.decode(raw, type=self._named).pipeline)
        except UNREADABLE:
            return ""


def _what_fits(raw: msgspec.Raw | bytes, record: type[R]) -> R:
    """A record of those fields that have a fitting value; the others count as not given."""
    unread, kinds = _anatomy(record)
    found = msgspec.json.decode(raw, type=unread)
    return record(**{name: _part_that_fits(getattr(found, name), kind) for name, kind in kinds.items()})


def _part_that_fits(raw: msgspec.Raw, kind: Any) -> Any:
    """A value if it fits; else of a list those items, of a record those fields that do; None of anything else."""
    try:
        return msgspec.json.decode(raw, type=kind)
    except UNREADABLE:
        pass
    for part in get_args(kind):
        try:
            if isinstance(part, type) and issubclass(part, msgspec.Struct):
                return _what_fits(raw, part)
            if get_origin(part) is list:
                return [_part_that_fits(item, get_args(part)[0]) for item in _records.decode(raw)]
        except UNREADABLE:
            continue
    return None


@cache
def _anatomy(record: type[msgspec.Struct]) -> tuple[type[msgspec.Struct], dict[str, Any]]:
    """A record of the same fields, none of which is read yet, and what each is to be read as."""
    fields = msgspec.structs.fields(record)
    unread = [
        (field.name, msgspec.Raw, msgspec.field(default=msgspec.Raw(b"null"), name=field.encode_name))
        for field in fields
    ]
    return msgspec.defstruct(record.__name__, unread), {field.name: field.type for field in fields}


def rows(raw: msgspec.Raw | bytes) -> list[msgspec.Raw]:
    """The rows of a page, not yet read; none if they are null.

    Raises:
        UnusableError: it has none that could be read.

    """
    if bytes(raw) == b"null":
        return []
    try:
        return outline(bytes(raw))
    except UNREADABLE as error:
        raise UnusableError("unreadable", _printable(str(error))) from None


def outline(body: bytes) -> list[msgspec.Raw]:
    """The records of an array, not yet read; half a character in one of them does not cost the others."""
    return _mended(_records, body)


def _mended(decoder: msgspec.json.Decoder[V], body: bytes) -> V:
    try:
        return decoder.decode(body)
    except msgspec.DecodeError:
        return decoder.decode(_whole_characters(body))


# Half of a character, which is left where text is cut by UTF-16 units; what must stay is matched first.
_HALVES = re.compile(rb"(\\\\|\\u[dD][89abAB]\w\w\\u[dD][c-fC-F]\w\w)|\\u[dD][89a-fA-F]\w\w")


def _whole_characters(body: bytes) -> bytes:
    return _HALVES.sub(lambda found: found[1] or rb"\ufffd", body)


def parse(body: bytes, telling: frozenset[str]) -> tuple[Any, str]:
    """The JSON value of a body, or words for what it is instead.

    Of an array the outline only, of an object what an error is told by, the values of the keys that are `telling`: what
    else is wrong costs only itself.
    """
    if not body.strip():
        return None, "an empty body"
    try:
        match body.lstrip()[:1]:
            case b"[":
                return outline(body), ""
            case b"{":
                told = _mended(_outlined, body)
                return {key: _value(raw) if key in telling else raw for key, raw in told.items()}, ""
            case _:
                return _anything.decode(body), ""
    except UNREADABLE:
        looks = "an HTML page" if b"<" in body.lstrip()[:1] else "no valid JSON"
        return None, f"{looks} ({len(body)} bytes)"


def _value(raw: msgspec.Raw) -> Any:
    try:
        return _anything.decode(raw)
    except UNREADABLE:
        return None


def text(value: object) -> str:
    """A vendor's text; absent is empty."""
    return "" if value is None else str(value)


def _printable(words: str) -> str:
    return "".join(character if character.isprintable() else "?" for character in words)


def misfit(operation: str, answer: object, problem: str) -> str:
    """What to say of a success that is not the operation's answer; `problem` is what `parse` found wrong with it."""
    got = problem or f"a JSON {'object' if isinstance(answer, dict) else 'value'} that is not its answer"
    return f"{operation} answered {got}"


def wordless(status: int, headers: Mapping[str, str], problem: str) -> str:
    """What to say of a refusal that says nothing itself."""
    if 300 <= status < 400:
        return f"redirected to {destination(headers)}; redirects are not followed (is the endpoint right?)"
    return f"HTTP {status} with {problem or 'no message'}"
