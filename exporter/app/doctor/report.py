"""Describe the vendor's responses for a bug report, without their values.

The report contains shapes of responses, words of enumerations, presence of fields, formats of times, limits, names of
headers, codes and latencies. It contains no other values: no ids, names, addresses, texts or secrets. Therefore a string
is described by its format, a number by its kind, and a key that is not an ordinary identifier is masked.
"""

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from typing import Any

import msgspec

from exporter import __version__
from exporter.app.doctor.checks import Check
from exporter.client.exchange import Exchange
from exporter.core.redaction import redact
from exporter.providers.registry import AnyProject

ENUMERATIONS = frozenset(
    {
        "status",
        "trigger_type",
        "triggerMode",
        "trigger_mode",
        "manifest_version",
        "language",
        "git_type",
        "build_type",
        "result",
        "signStatus",
    }
)
"""Fields whose values belong to an enumeration."""
_WORDS = 40
"""Maximum number of words to report of an enumeration, and maximum characters of a word."""
_DEPTH = 12
_NOT_JSON = object()
_WORD = re.compile(r"[A-Za-z]+(_[A-Za-z]+)*|[0-9](\.[0-9])?")
_CODE = re.compile(r"[A-Za-z]+[A-Za-z0-9_]*(\.[A-Za-z0-9_]+)*")
_KEY = re.compile(r"[A-Za-z_][A-Za-z_]{0,40}")
_HEADER = re.compile(r"[a-z]+(-[a-z]+){0,6}")
_FORMATS = (
    ("empty", re.compile("")),
    ("time ISO 8601 with zone", re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:?\d\d)")),
    ("time ISO 8601 without zone", re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?")),
    ("time YYYY-MM-DD HH:MM:SS", re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d")),
    ("digits, 13: epoch milliseconds?", re.compile(r"\d{13}")),
    ("digits", re.compile(r"\d+")),
    ("32 hexadecimal digits", re.compile(r"[0-9a-f]{32}")),
    ("UUID", re.compile(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")),
    ("URL", re.compile(r"https?://.*", re.DOTALL)),
    ("JSON", re.compile(r"[\[{].*[\]}]", re.DOTALL)),
)
_SECONDS = range(10**9, 10**10)
_MILLISECONDS = range(10**12, 10**13)


class _Shape:
    """Description of the values at one position in an operation's responses."""

    def __init__(self, texts: AbstractSet[str]) -> None:
        """`texts` are the strings in all responses. A key that is one of them may be a name or an id, and is masked."""
        self._texts = texts
        self._count = 0
        self._kinds: Counter[str] = Counter()
        self._formats: set[str] = set()
        self._words: set[str] = set()
        self._fields: dict[str, _Shape] = {}
        self._items: _Shape | None = None
        self._lengths: list[int] = []

    def add(self, value: Any, *, key: str = "", depth: int = 0) -> None:
        """Add a value. `key` is its key in the enclosing object, `depth` its nesting."""
        self._count += 1
        self._kinds[_kind(value)] += 1
        if depth > _DEPTH:
            return
        if isinstance(value, dict):
            for name, member in value.items():
                ordinary = _KEY.fullmatch(name) and name not in self._texts and redact(name) == name
                shown = name if ordinary else "<key>"
                self._fields.setdefault(shown, _Shape(self._texts)).add(member, key=name, depth=depth + 1)
        elif isinstance(value, list):
            self._lengths.append(len(value))
            self._items = self._items or _Shape(self._texts)
            for item in value:
                self._items.add(item, key=key, depth=depth + 1)
        elif isinstance(value, str):
            is_word = key in ENUMERATIONS and _WORD.fullmatch(value) and redact(value) == value
            if is_word and len(value) <= _WORDS and len(self._words) < _WORDS:
                self._words.add(value)
            else:
                self._formats.add(_format(value))
        elif isinstance(value, int) and not isinstance(value, bool):
            self._formats.add(_size(value))

    def described(self) -> dict[str, Any]:
        """Return the description as JSON values."""
        found: dict[str, Any] = {"count": self._count, "types": dict(sorted(self._kinds.items()))}
        if self._formats:
            found["formats"] = sorted(self._formats)
        if self._words:
            found["words"] = sorted(self._words)
        if self._lengths:
            found["lengths"] = _range(self._lengths)
        if self._fields:
            found["fields"] = {name: shape.described() for name, shape in sorted(self._fields.items())}
        if self._items is not None and any(self._lengths):
            found["items"] = self._items.described()
        return found


def _kind(value: Any) -> str:
    names = {bool: "boolean", int: "integer", float: "number", str: "string", list: "array", dict: "object"}
    return names.get(type(value), "null")


def _format(value: str) -> str:
    return next((name for name, pattern in _FORMATS if pattern.fullmatch(value)), "text")


def _size(value: int) -> str:
    if value in _MILLISECONDS:
        return "epoch milliseconds"
    if value in _SECONDS:
        return "epoch seconds"
    return "small" if abs(value) < _SECONDS.start else "large"


def report(
    projects: Iterable[tuple[AnyProject, Sequence[Check], Sequence[Exchange]]], machine: Sequence[Check]
) -> str:
    """Return the report of an examination as JSON."""
    described = [
        {
            "provider": project.provider,
            "auth_method": project.auth.method,
            "checks": _states(checks),
            "operations": _operations(exchanges),
        }
        for project, checks, exchanges in projects
    ]
    value = {"version": __version__, "projects": described, "machine": _states(machine)}
    return msgspec.json.format(msgspec.json.encode(value), indent=2).decode() + "\n"


def _states(checks: Sequence[Check]) -> dict[str, str]:
    return {check.check.value: check.state.value for check in checks}


def _operations(exchanges: Sequence[Exchange]) -> dict[str, Any]:
    found: dict[str, list[tuple[Exchange, Any]]] = {}
    for one in exchanges:
        found.setdefault(one.operation, []).append((one, _decoded(one.body)))
    texts = {text for answers in found.values() for _, value in answers for text in _texts(value)}
    return {operation: _operation(answers, texts) for operation, answers in found.items()}


def _operation(answers: Sequence[tuple[Exchange, Any]], texts: AbstractSet[str]) -> dict[str, Any]:
    exchanges = [one for one, _ in answers]
    headers: Counter[str] = Counter()
    shapes: dict[str, _Shape] = {}
    for one, value in answers:
        headers.update(_header_names(one.headers))
        key = f"{one.code}, not JSON" if value is _NOT_JSON else one.code
        shapes.setdefault(key, _Shape(texts)).add(None if value is _NOT_JSON else value)
    return {
        "requests": len(exchanges),
        "codes": dict(Counter(one.code for one in exchanges)),
        "error_codes": dict(Counter(_error_code(one.error_code) for one in exchanges if one.error_code)),
        "seconds": _range([round(one.seconds, 2) for one in exchanges]),
        "bytes": _range([float(f"{len(one.body):.1g}") for one in exchanges]),
        "headers": dict(sorted(headers.items())),
        "responses": {code: shape.described() for code, shape in shapes.items()},
    }


def _decoded(body: bytes) -> Any:
    try:
        return msgspec.json.decode(body) if body else None
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return _NOT_JSON


def _texts(value: Any) -> Iterator[str]:
    """Yield every string in a JSON value that is neither the key of a member nor a word of an enumeration."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for key, member in value.items():
            if key not in ENUMERATIONS or not isinstance(member, str):
                yield from _texts(member)
    elif isinstance(value, list):
        for item in value:
            yield from _texts(item)


def _range(values: Sequence[float]) -> dict[str, float]:
    return {"least": min(values), "most": max(values)}


def _header_names(headers: Mapping[str, str]) -> list[str]:
    return [name if _HEADER.fullmatch(name) and redact(name) == name else "<header>" for name in headers]


def _error_code(code: str) -> str:
    return code if _CODE.fullmatch(code) and redact(code) == code and len(code) <= 2 * _WORDS else "<code>"
