"""Mask the secrets of the process in text: plain, percent-encoded, or in base64.

Clouds, gateways and proxies echo parts of requests. `Secret` registers its value here when it is created and at each
read. Logs, errors, labels and pages pass their text through `redact` or `printable`.
"""

import base64
import html
import json
import re
from bisect import bisect_left
from collections.abc import Iterator
from functools import cache, lru_cache
from urllib.parse import unquote, urlsplit

MASK = "<secret>"

_SHORT = 8
"""Shorter secrets are masked only if they are the whole text, since they also occur in ordinary text."""
_GRAM, _STEP = 5, 4
"""Length of the substrings (grams) to look up, and distance between them. In every text that contains a secret, one of the
secret's first `_STEP` grams starts at a multiple of `_STEP`."""
_MAX_VALUES = 4000
"""Maximum number of secrets. Secrets in use are registered at each request, so rotated ones are dropped first."""
_GROWTH = 6
"""Maximum number of characters that encode one byte of a secret, such as `&quot;`."""
_CACHED_NAMES = 4096
_MAX_INPUT = 4096
"""Characters of an external text that `printable` processes before it cuts the text to the requested length."""
_ENCODED_START = _SHORT * 12
"""Maximum length of `_SHORT` characters when they are percent-encoded."""
_ESCAPES = re.compile(r"(?:%[0-9A-Fa-f]{2})+")
# A gateway that refuses a signature echoes the canonical request, headers included.
_ECHO = re.compile("canonical_?request", re.IGNORECASE)
_SIGNATURE = re.compile(r"(?<=signature=)[0-9a-f]+", re.IGNORECASE)


class Redactor:
    """Set of secrets with a search for them in text.

    Most texts contain no secret, so a first check looks up only every fourth gram of the text. Its cost does not depend on
    the number of secrets.
    """

    def __init__(self) -> None:
        self._values: dict[str, None] = {}
        self._whole: set[str] = set()
        self._grams: set[str] = set()
        self._starts: dict[str, tuple[str, ...]] = {}
        """Secrets by the first `_SHORT` characters of each of their spellings."""
        self._longest = 0
        self.redact_name = lru_cache(_CACHED_NAMES)(self.redact)
        """`redact` with a cache, for texts that occur often."""

    def register(self, value: str) -> None:
        """Mask a value from now on."""
        if value in self._values:
            # Move it to the end: `_forget` drops from the start.
            del self._values[value]
            self._values[value] = None
        elif value:
            self._values[value] = None
            self._index(value)
            if len(self._values) > _MAX_VALUES:
                self._forget()

    def _forget(self) -> None:
        """Drop the least recently registered half of the values."""
        recent = Redactor()
        for value in list(self._values)[_MAX_VALUES // 2 :]:
            recent.register(value)
        self._values, self._longest = recent._values, recent._longest
        self._whole, self._grams, self._starts = recent._whole, recent._grams, recent._starts

    def _index(self, value: str) -> None:
        self.redact_name.cache_clear()
        self._longest = max(self._longest, _GROWTH * len(_bytes(value)))
        forms = _forms(value)
        if len(value) < _SHORT:
            self._whole.update(forms)
            return
        for form in forms:
            start = form[:_SHORT]
            if value not in self._starts.get(start, ()):
                self._starts[start] = (*self._starts.get(start, ()), value)
            self._grams.update(start[index : index + _GRAM] for index in range(_STEP))

    def redact(self, text: str, length: int | None = None) -> str:
        """Return a text with its secrets masked, cut to `length`. No part of a secret is left at the cut.

        The cost depends on `length`, not on the length of the text.
        """
        limit = len(text) if length is None else length
        window = text[: limit + self._longest]
        if not self._suspects(window[: limit + _ENCODED_START]):
            return window[:limit]
        parts: list[str] = []
        position = 0
        for start, end in self._found(window, limit):
            if start >= position:
                parts += (window[position:start], MASK)
            position = max(position, end)
        parts.append(window[position:limit])
        return "".join(parts)[:length]

    def printable(self, text: str, length: int) -> str:
        """Return an external text as one line of bounded length with secrets masked.

        Control characters become blanks before masking: a secret with blanks may arrive with line ends in their place.
        """
        window = _ECHO.split(text[: _MAX_INPUT + self._longest], maxsplit=1)[0]
        line = _SIGNATURE.sub(MASK, self.redact(_blanked(window).strip(), _MAX_INPUT))
        return line if len(line) <= length else f"{line[:length]}…"

    def _suspects(self, text: str) -> bool:
        """Return whether a text may contain a secret."""
        if text in self._whole:
            return True
        if len(text) >= _SHORT:
            grams = [text[index : index + _GRAM] for index in range(0, len(text) - _GRAM + 1, _STEP)]
            if not self._grams.isdisjoint(grams):
                return True
        # The recursion ends, since decoding removes percent signs.
        return "%" in text and _ESCAPES.search(text) is not None and self._suspects(_decoded(text)[0])

    def _found(self, text: str, length: int) -> list[tuple[int, int]]:
        """Return the start and end of each secret that starts in the first `length` characters, in order."""
        if text in self._whole or unquote(text) in self._whole:
            return [(0, len(text))]
        found = list(self._spans(text, length))
        if "%" in text:
            decoded, offsets = _decoded(text)
            length = bisect_left(offsets, length)
            found += [(offsets[start], offsets[end]) for start, end in self._spans(decoded, length)]
        return sorted(found)

    def _spans(self, text: str, length: int) -> Iterator[tuple[int, int]]:
        forms = cache(_forms)
        position = 0
        while position < length:
            values = self._starts.get(text[position : position + _SHORT], ())
            lengths = [
                len(form) for value in values for form in forms(value) if text.startswith(form, position)
            ]
            if lengths:
                yield position, position + max(lengths)
            position += max(lengths, default=1)


def _bytes(value: str) -> bytes:
    # An environment variable can contain bytes that are not UTF-8.
    return value.encode(errors="surrogateescape")


def _forms(value: str) -> set[str]:
    """Return the spellings of a value, except percent-encoded ones: `_decoded` covers them."""
    raw = _bytes(value)
    forms = {
        value,
        _blanked(value),
        # Blanks as HTML forms encode them.
        value.replace(" ", "+"),
        # As a string in JSON, or as text in XML or HTML.
        json.dumps(value)[1:-1],
        json.dumps(value, ensure_ascii=False)[1:-1],
        html.escape(value),
    }
    for encode in (base64.b64encode, base64.urlsafe_b64encode):
        whole = encode(raw).decode()
        forms |= {whole, whole.rstrip("=")}
        if len(value) < _SHORT:
            continue
        # Inside a longer text, a value can start at any of the three bytes of a base64 group. The characters at both ends
        # also encode neighbouring bytes, so they are left out.
        for before in range(3):
            encoded = encode(b"\0" * before + raw).decode()
            forms.add(encoded[(before * 8 + 5) // 6 : (before + len(raw)) * 8 // 6])
    return forms


def _decoded(text: str) -> tuple[str, list[int]]:
    """Return a percent-decoded text, and for each of its characters the offset in `text`."""
    parts: list[str] = []
    offsets: list[int] = []
    last = 0
    for escapes in _ESCAPES.finditer(text):
        start, end = escapes.span()
        raw = bytes.fromhex(escapes[0].replace("%", ""))
        try:
            characters, sizes = (part := raw.decode()), [len(character.encode()) for character in part]
        except UnicodeDecodeError:
            characters, sizes = raw.decode("latin-1"), [1] * len(raw)
        parts += (text[last:start], characters)
        offsets += range(last, start)
        for size in sizes:
            offsets.append(start)
            start += 3 * size
        last = end
    parts.append(text[last:])
    offsets += range(last, len(text) + 1)
    return "".join(parts), offsets


def _blanked(text: str) -> str:
    """Replace the characters that end a line or control a terminal with blanks."""
    if text.isprintable():
        return text
    return "".join(character if character.isprintable() else " " for character in text)


_process = Redactor()


def register(value: str) -> None:
    """Mask a value in all output of this process from now on."""
    _process.register(value)


def register_proxy(url: str) -> None:
    """Mask the URL of a proxy and its credentials, including the base64 form of the `Proxy-Authorization` header."""
    parts = urlsplit(url if "://" in url else f"http://{url}")
    if parts.username is None and parts.password is None:
        return
    user, password = unquote(parts.username or ""), unquote(parts.password or "")
    register(url)
    for part in (parts.username, user) if not password else (parts.password, password):
        register(part or "")
    pair = f"{user}:{password}"
    register(pair)
    register(base64.b64encode(pair.encode()).decode())


def redact(text: str, length: int | None = None) -> str:
    """Return a text with the secrets of this process masked, cut to `length` if given."""
    return _process.redact(text, length)


def redact_name(text: str, length: int) -> str:
    """Return the same as `redact`, with a cache for texts that occur often."""
    return _process.redact_name(text, length)


def printable(text: str, length: int) -> str:
    """Return an external text as one line with secrets masked, cut to `length` with an ellipsis."""
    return _process.printable(text, length)
