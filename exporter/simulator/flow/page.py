"""The pages of a list: cut by row offset, so that whoever reads them one after the other sees every row once.

That holds while nothing is added or removed, which is all that the vendor's pages promise too.
"""

import base64
import binascii
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from exporter.simulator.flow.errors import Problem, ProblemError
from exporter.simulator.flow.query import Query

DEFAULT_SIZE = 10

# Tokens are opaque; these letters are what breaks a client that does not encode them.
_MARK = b"\xfb\xff\xfe"
_LONGEST = 18

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Page(Generic[T]):
    """Rows of a list of `total`, from the one at `offset` on; `size` is how many there may be."""

    rows: Sequence[T]
    offset: int
    size: int
    total: int

    @property
    def next_token(self) -> str | None:
        """Where the next page begins, None if this is the last."""
        following = self.offset + self.size
        if following >= self.total:
            return None
        return base64.b64encode(_MARK + str(following).encode()).decode()

    @property
    def headers(self) -> dict[str, str]:
        """The headers that tell where it stands; there is no next or previous one beyond the ends."""
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


def by_token(rows: Sequence[T], query: Query, most: int) -> Page[T]:
    """Cut the page that `maxResults` and `nextToken` ask for; raises `ProblemError`."""
    size = _size(query.number("maxResults"), most)
    return _cut(rows, _offset(query.text("nextToken")), size)


def by_number(rows: Sequence[T], query: Query, most: int) -> Page[T]:
    """Cut the page that `page` and `perPage` ask for; raises `ProblemError`."""
    size = _size(query.number("perPage"), most)
    number = query.number("page")
    if number == 0:
        raise ProblemError(Problem.BAD_PARAMETER)
    return _cut(rows, ((number or 1) - 1) * size, size)


def _cut(rows: Sequence[T], offset: int, size: int) -> Page[T]:
    return Page(rows[offset : offset + size], offset, size, len(rows))


def _size(asked: int | None, most: int) -> int:
    if asked == 0:
        raise ProblemError(Problem.BAD_PARAMETER)
    return min(DEFAULT_SIZE if asked is None else asked, most)


def _offset(token: str) -> int:
    if not token:
        return 0
    try:
        text = base64.b64decode(token, validate=True)
    except (binascii.Error, ValueError):
        text = b""
    offset = text.removeprefix(_MARK)
    if not text.startswith(_MARK) or not offset.isdigit() or len(offset) > _LONGEST:
        raise ProblemError(Problem.BAD_PARAMETER)
    return int(offset)
