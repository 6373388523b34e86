"""Types of settings: durations, dates, ids, URLs, labels and patterns. Their error messages name the remedy."""

import itertools
import re
import warnings
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Annotated
from urllib.parse import urlsplit

from pydantic import AfterValidator, PlainSerializer, PlainValidator, WithJsonSchema

from exporter.config.duration import DURATION_PATTERN, format_duration, parse_duration

_LABEL_NAME = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]*")
_ID = re.compile(r"[0-9A-Za-z_-]{1,64}")
ID_PATTERN = f"^{_ID.pattern}$"
"""Pattern of an id for JSON Schema."""
_QUOTED = 100
"""Maximum characters of a value to repeat in a message."""
_DATE = re.compile(r"\d{4}-\d\d-\d\d(?P<time>[Tt ]\d\d:\d\d:\d\d(\.\d+)?([Zz]|[+-]\d\d:\d\d))?", re.ASCII)


def _duration(value: object) -> float:
    if isinstance(value, str):
        return parse_duration(value)
    raise ValueError("must be a duration, such as 90s")


Duration = Annotated[
    float,
    PlainValidator(_duration),
    PlainSerializer(format_duration, return_type=str),
    WithJsonSchema({"type": "string", "pattern": DURATION_PATTERN, "examples": ["90s", "1h30m"]}),
]
"""Seconds, written as a duration in the format of Prometheus."""


def _moment(value: object) -> datetime:
    text = value if isinstance(value, str) else str(value)
    found = _DATE.fullmatch(text)
    try:
        if found:
            moment = datetime.fromisoformat(text.upper())
            # Raises OverflowError for a time that UTC cannot express: it has no timestamp either.
            return moment.astimezone(UTC) if found["time"] else moment.replace(tzinfo=UTC)
    except (ValueError, OverflowError):
        pass
    raise ValueError(f"{text!r} is not a date (write 2027-01-31, or with time and zone 2027-01-31T12:00:00Z)")


Moment = Annotated[
    datetime,
    PlainValidator(_moment),
    PlainSerializer(lambda moment: moment.isoformat().replace("+00:00", "Z"), return_type=str),
    WithJsonSchema({"type": "string", "pattern": r"^\d{4}-\d\d-\d\d", "examples": ["2027-01-31"]}),
]
"""A date (midnight in UTC) or a date with time and zone, as in RFC 3339."""


def increasing(values: tuple[float, ...]) -> tuple[float, ...]:
    """Return the bucket bounds of a histogram. Raise ValueError unless there is at least one and they increase."""
    if not values:
        raise ValueError("must have at least one bound")
    for low, high in itertools.pairwise(values):
        if high <= low:
            text = f"{format_duration(high)} follows {format_duration(low)}"
            raise ValueError(f"bounds must increase ({text}: put them in order)")
    return values


def without_duplicates(values: Iterable[str]) -> tuple[str, ...]:
    """Return the values as a tuple. Raise ValueError if one occurs twice."""
    seen: dict[str, None] = {}
    for value in values:
        if value in seen:
            raise ValueError(f"{value!r} is given twice (keep one)")
        seen[value] = None
    return tuple(seen)


def _identifier(value: str) -> str:
    if not _ID.fullmatch(value):
        raise ValueError(f"{value!r} is not an id (letters, digits, - and _, up to 64 of them)")
    return value


Identifier = Annotated[
    str, AfterValidator(_identifier), WithJsonSchema({"type": "string", "pattern": ID_PATTERN})
]
"""A vendor's id, safe in a URL path."""


def is_url(value: str) -> bool:
    """Return whether a value is an http or https URL with a host, in printable ASCII without spaces."""
    try:
        parts = urlsplit(value)
        port = parts.port
    except ValueError:
        return False
    # urlsplit drops line ends and tabs, so the URL in use would not be the one in the file.
    clean = value.isascii() and value.isprintable() and " " not in value
    return clean and port != 0 and parts.scheme in {"http", "https"} and bool(parts.hostname)


def check_url(value: str, example: str) -> None:
    """Check that a value is a URL without user and password. The error does not repeat it, since it may contain a password.

    Raises:
        ValueError: the value is not a URL, or contains a user or password.

    """
    if not is_url(value):
        raise ValueError(f"must be a URL such as {example}")
    parts = urlsplit(value)
    if parts.username is not None or parts.password is not None:
        raise ValueError("must not hold a user or password (give them under auth)")


def _endpoint(value: str) -> str:
    check_url(value, "https://pipeline.example.com")
    if "?" in value or "#" in value:
        raise ValueError("must end with the host or a path (no ? or #)")
    return value.rstrip("/")


Endpoint = Annotated[
    str, AfterValidator(_endpoint), WithJsonSchema({"type": "string", "pattern": "^https?://[^?#@ ]+$"})
]
"""Base URL of a service, without a slash at its end."""


def _label_name(name: str) -> str:
    if not _LABEL_NAME.fullmatch(name):
        raise ValueError(f"{name!r} is not a label name (letters, digits and _, not a digit first)")
    return name


def _label_value(value: str) -> str:
    try:
        value.encode()
    except UnicodeEncodeError:
        raise ValueError(f"{value!r} cannot be encoded as UTF-8") from None
    return value


Labels = dict[Annotated[str, AfterValidator(_label_name)], Annotated[str, AfterValidator(_label_value)]]


def _pattern(value: object) -> re.Pattern[str]:
    if not isinstance(value, str):
        raise ValueError("must be a regular expression (quote it if it begins with [, { or *)")  # noqa: TRY004  # pydantic collects ValueError
    if not value:
        raise ValueError("must not be empty (.* matches every name)")
    try:
        with warnings.catch_warnings():
            # Python warns about spellings whose meaning a later version may change.
            warnings.simplefilter("ignore")
            return re.compile(value)
    except (re.error, OverflowError, RecursionError) as error:
        problem = "nested too deeply" if isinstance(error, RecursionError) else _one_line(str(error))
        raise ValueError(
            f"{_shortened(value)!r} is not a regular expression "
            f"({problem}; every name is .*, one beginning with a is a.*)"
        ) from None


def _shortened(text: str) -> str:
    return text if len(text) <= _QUOTED else f"{text[:_QUOTED]}…"


def _one_line(text: str) -> str:
    return "".join(character if character.isprintable() else " " for character in text)


Pattern = Annotated[
    re.Pattern[str],
    PlainValidator(_pattern),
    PlainSerializer(lambda pattern: pattern.pattern, return_type=str),
    # The syntaxes of Python and JSON Schema differ, so `format: regex` would reject valid expressions.
    WithJsonSchema({"type": "string", "minLength": 1}),
]
"""A regular expression that must match a whole name."""
