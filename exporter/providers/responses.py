"""Check a response as a whole: its size and its JSON. Describe what an unexpected response is."""

from collections.abc import Mapping
from functools import cache
from typing import Any

import msgspec

from exporter.auth.reply import destination
from exporter.core.failures import FailureKind, RequestFailure
from exporter.providers.decoding import ROWS, UNREADABLE, UnusableRecordError, decode_repaired, split_array
from exporter.providers.protocol import ApiRequest

_COMMAS = 500_000
"""Maximum commas of a response. A value of a vendor takes 15 bytes or more, including its key."""
_SMALL_BODY = 256 * 1024
"""Largest body, in bytes, whose values are not counted: counting would take longer than decoding an ordinary response."""
_VALUE_LENGTH = 65_536
"""Maximum bytes of a value that belongs to an error."""

_any = msgspec.json.Decoder()


def too_complex(request: ApiRequest, body: bytes) -> RequestFailure | None:
    """Return a failure for a response whose many values would take seconds and hundreds of megabytes to decode."""
    if len(body) <= _SMALL_BODY:
        return None
    objects, commas = body.count(b"{"), body.count(b",")
    if objects <= request.object_limit and commas <= _COMMAS:
        return None
    message = (
        f"response to {request.operation} has {objects} JSON objects and {commas} commas, "
        f"above the limits of {request.object_limit} and {_COMMAS}, not decoded"
    )
    return RequestFailure(kind=FailureKind.UNREADABLE, code="invalid", message=message)


def parse(
    body: bytes, error_keys: frozenset[str], result_keys: frozenset[str], limit: int = ROWS
) -> tuple[Any, str]:
    """Return the JSON value of a body, or None and a description of what the body is instead.

    An array is split into at most `limit` raw records. In an object, the values of `error_keys` are decoded, those of
    `result_keys` are returned as raw JSON, and all others are skipped.
    """
    if not body.strip():
        return None, "an empty body"
    try:
        match body.lstrip()[:1]:
            case b"[":
                return split_array(body, limit), ""
            case b"{":
                members = _members(body, error_keys | result_keys)
                return {key: _value(raw) if key in error_keys else raw for key, raw in members.items()}, ""
            case _:
                return _any.decode(body), ""
    except UnusableRecordError as error:
        return None, str(error)
    except UNREADABLE:
        description = "an HTML page" if b"<" in body.lstrip()[:1] else "invalid JSON"
        return None, f"{description} ({len(body)} bytes)"


def _members(body: bytes, keys: frozenset[str]) -> dict[str, msgspec.Raw]:
    """Return those members of an object that have one of the keys, as raw JSON."""
    decoder, names = _decoder(keys)
    found = msgspec.structs.astuple(decode_repaired(decoder, body))
    return {name: raw for name, raw in zip(names, found, strict=True) if raw is not _ABSENT}


_ABSENT = msgspec.Raw()


@cache
def _decoder(keys: frozenset[str]) -> tuple[msgspec.json.Decoder[Any], list[str]]:
    names = sorted(keys)
    fields = [
        (f"key_{index}", msgspec.Raw, msgspec.field(default=_ABSENT, name=name))
        for index, name in enumerate(names)
    ]
    return msgspec.json.Decoder(msgspec.defstruct("Members", fields)), names


def _value(raw: msgspec.Raw) -> Any:
    if len(memoryview(raw)) > _VALUE_LENGTH:
        return None
    try:
        return _any.decode(raw)
    except UNREADABLE:
        return None


def unexpected_response(operation: str, value: object, problem: str) -> str:
    """Return the message for a 2xx response of unexpected shape; `problem` is the description from `parse`."""
    found = problem or f"a JSON {'object' if isinstance(value, dict) else 'value'} of another operation"
    return f"unexpected response to {operation}: {found}"


def without_message(status: int, headers: Mapping[str, str], problem: str) -> str:
    """Return the message for an error response without one; `problem` is the description from `parse`."""
    if 300 <= status < 400:
        return f"redirected to {destination(headers)}, which is not followed (check endpoint)"
    return f"HTTP {status} with {problem or 'no message'}"
