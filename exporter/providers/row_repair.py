"""Repair a list page with a row that is not valid JSON, so that its other rows can be decoded."""

import re

from exporter.providers.decoding import UNREADABLE, split_array

LONGEST = 1 << 18
"""Maximum bytes of a page to repair. A hundred rows take half of that."""
TOKENS = 1 << 16
"""Maximum strings and brackets to examine, which takes a fraction of a second."""
ROWS = 1000
"""Maximum rows to examine. Clouds return at most a hundred."""

# An unterminated string matches to the end of the page; otherwise each quotation mark in it would be tried again.
_TOKEN = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"?|[\[\]{},]', re.DOTALL)


def readable_rows(body: bytes) -> bytes:
    """Return a page with `null` in place of each row that is not valid JSON, such as one with `NaN` in it.

    Rows are the items of an array, or of the arrays that are members of an object.
    """
    if _is_readable(body) or len(body) > LONGEST:
        return body
    level = 1 if body.lstrip()[:1] == b"[" else 2
    parts: list[bytes] = []
    copied = begin = depth = rows = 0
    in_rows = False
    for count, token in enumerate(_TOKEN.finditer(body)):
        if count == TOKENS or rows > ROWS:
            return body
        mark = token[0]
        if mark in b"[{":
            depth += 1
            if depth == level:
                in_rows, begin = mark == b"[", token.end()
        elif mark in b"]},":
            if depth == level and in_rows:
                rows += 1
                row = body[begin : token.start()]
                if row.strip() and not _is_readable(row):
                    parts += [body[copied:begin], b"null"]
                    copied = token.start()
                begin = token.end()
            depth -= mark != b","
    return b"".join((*parts, body[copied:]))


def _is_readable(value: bytes) -> bool:
    try:
        return len(split_array(b"[%b]" % value)) == 1
    except UNREADABLE:
        return False
