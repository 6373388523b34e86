"""Query parameters of Flow, and the pages that they select.

Pages are selected by row offset: a client that reads all pages sees every row once, as long as no row is added or
removed. The vendor promises no more than that.
"""

import base64
import binascii
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from exporter.simulator.flow.errors import Problem, ProblemError

DEFAULT_SIZE = 10

_NUMBER = re.compile(r"[0-9]{1,18}")
# Tokens are opaque. These bytes become letters that break a client that does not percent-encode tokens.
_MARK = b"\xfb\xff\xfe"
_MAX_DIGITS = 18


def parse_number(text: str) -> int:
    """Parse a whole number; raise `ProblemError` for anything else."""
    if not _NUMBER.fullmatch(text):
        raise ProblemError(Problem.BAD_PARAMETER)
    return int(text)


@dataclass(frozen=True, slots=True)
class Window:
    """A time range in Unix milliseconds, both ends included; None leaves an end open."""

    since: int | None = None
    until: int | None = None

    def __bool__(self) -> bool:
        """Return whether the window excludes anything."""
        return self.since is not None or self.until is not None

    def contains(self, moment: int) -> bool:
        """Return whether a time lies within the window."""
        return (self.since is None or self.since <= moment) and (self.until is None or moment <= self.until)


class Query:
    """The query parameters of a request; an empty parameter counts as absent."""

    def __init__(self, parameters: Mapping[str, str]) -> None:
        self._parameters = parameters

    def text(self, name: str) -> str:
        """Return the text of a parameter, empty if absent."""
        return self._parameters.get(name, "")

    def values(self, name: str) -> frozenset[str]:
        """Return the values of a comma-separated list."""
        return frozenset(value for value in self.text(name).split(",") if value)

    def number(self, name: str) -> int | None:
        """Return a whole number, or None if absent; raise `ProblemError` for anything else."""
        text = self.text(name)
        return parse_number(text) if text else None

    def window(self, since: str, until: str) -> Window:
        """Return the window between two parameters; raise `ProblemError` for a malformed one."""
        return Window(self.number(since), self.number(until))


T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Page(Generic[T]):
    """One page of a list with `total` rows; `offset` is the index of its first row, `size` the requested page size."""

    rows: Sequence[T]
    offset: int
    size: int
    total: int

    @property
    def next_token(self) -> str | None:
        """Token of the next page; None on the last page."""
        following = self.offset + self.size
        if following >= self.total:
            return None
        return base64.b64encode(_MARK + str(following).encode()).decode()

    @property
    def headers(self) -> dict[str, str]:
        """Headers with the position of the page; the first page has no previous one, the last no next one."""
        number, last = self.offset // self.size + 1, -(-self.total // self.size)
        headers = {
            "x-page": number,
            "x-per-page": self.size,
            "x-total": self.total,
            "x-total-pages": last,
        }
        if number > 1:
            headers["x-prev-page"] = number - 1
        if number < last:
            headers["x-next-page"] = number + 1
        return {name: str(value) for name, value in headers.items()}


def by_token(rows: Sequence[T], query: Query, limit: int) -> Page[T]:
    """Return the page that `maxResults` and `nextToken` select; raise `ProblemError` for malformed parameters."""
    size = _page_size(query.number("maxResults"), limit)
    return _slice(rows, _offset(query.text("nextToken")), size)


def by_number(rows: Sequence[T], query: Query, limit: int) -> Page[T]:
    """Return the page that `page` and `perPage` select; raise `ProblemError` for malformed parameters."""
    size = _page_size(query.number("perPage"), limit)
    number = query.number("page")
    if number == 0:
        raise ProblemError(Problem.BAD_PARAMETER)
    return _slice(rows, ((number or 1) - 1) * size, size)


def _slice(rows: Sequence[T], offset: int, size: int) -> Page[T]:
    return Page(rows[offset : offset + size], offset, size, len(rows))


def _page_size(requested: int | None, limit: int) -> int:
    if requested == 0:
        raise ProblemError(Problem.BAD_PARAMETER)
    return min(DEFAULT_SIZE if requested is None else requested, limit)


def _offset(token: str) -> int:
    if not token:
        return 0
    try:
        text = base64.b64decode(token, validate=True)
    except (binascii.Error, ValueError):
        text = b""
    offset = text.removeprefix(_MARK)
    if not text.startswith(_MARK) or not offset.isdigit() or len(offset) > _MAX_DIGITS:
        raise ProblemError(Problem.BAD_PARAMETER)
    return int(offset)
