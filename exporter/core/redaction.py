"""Mask the secrets of the process in text: plain, percent-encoded, or in base64.

Clouds, gateways and proxies repeat what they were sent. `Secret` registers its value here when it is made and each time
it is read; logs, errors, labels and pages pass what they show through `redact` or `printable`.
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
"""Secrets of fewer characters are masked only where they are the whole text: they occur in ordinary words."""
_GRAM, _STEP = 5, 4
"""A text with a secret in it has one of the first `_STEP` grams of the secret at a multiple of `_STEP`."""
_KEPT = 4000
"""Values to remember. A secret in use is registered at each request; those that rotation left behind go first."""
_GROWTH = 6
"""Characters of a text that can stand for one byte of a secret, such as `&quot;`."""
_NAMES = 4096
"""Names to remember with their secrets masked."""
_WORK = 4096
"""Characters of a text from outside that are looked at, before it is cut to a readable length."""
_ENCODED_START = _SHORT * 12
"""Characters that the start of a form can take when it is percent-encoded."""
_ESCAPES = re.compile(r"(?:%[0-9A-Fa-f]{2})+")
# A gateway that refuses a signature repeats the request that it saw, headers included.
_ECHO = re.compile("canonical_?request", re.IGNORECASE)
_SIGNATURE = re.compile(r"(?<=signature=)[0-9a-f]+", re.IGNORECASE)


class Redactor:
    """A set of secrets, and what finds them in text.

    Most texts have no secret in them, so that the first look is at every fourth gram of a text only. What it costs does
    not depend on the number of secrets.
    """

    def __init__(self) -> None:
        self._values: dict[str, None] = {}
        self._whole: set[str] = set()
        self._grams: set[str] = set()
        self._starts: dict[str, tuple[str, ...]] = {}
        """Values by the first characters of their forms."""
        self._longest = 0
        self.redact_name = lru_cache(_NAMES)(self.redact)
        """Mask one of those texts that come again and again."""

    def register(self, value: str) -> None:
        """Mask a value from now on."""
        if value in self._values:
            # The newest last: the first ones are forgotten.
            del self._values[value]
            self._values[value] = None
        elif value:
            self._values[value] = None
            self._index(value)
            if len(self._values) > _KEPT:
                self._forget()

    def _forget(self) -> None:
        """Drop the half of the values that was not used for longest."""
        kept = Redactor()
        for value in list(self._values)[_KEPT // 2 :]:
            kept.register(value)
        self._values, self._longest = kept._values, kept._longest
        self._whole, self._grams, self._starts = kept._whole, kept._grams, kept._starts

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
            self._grams.update(start[place : place + _GRAM] for place in range(_STEP))

    def redact(self, text: str, length: int | None = None) -> str:
        """Return a text with its secrets masked, cut to `length` without leaving a part of one at the cut.

        The time it takes is bounded by `length`, not by the text's.
        """
        limit = len(text) if length is None else length
        window = text[: limit + self._longest]
        if not self._suspects(window[: limit + _ENCODED_START]):
            return window[:limit]
        parts: list[str] = []
        place = 0
        for start, end in self._found(window, limit):
            if start >= place:
                parts += (window[place:start], MASK)
            place = max(place, end)
        parts.append(window[place:limit])
        return "".join(parts)[:length]

    def printable(self, text: str, length: int) -> str:
        """Return a text from outside as one bounded line without secrets.

        Control characters become blanks before secrets are masked, since a blank for a line end may complete one.
        """
        window = _ECHO.split(text[: _WORK + self._longest], maxsplit=1)[0]
        line = _SIGNATURE.sub(MASK, self.redact(_blanked(window).strip(), _WORK))
        return line if len(line) <= length else f"{line[:length]}…"

    def _suspects(self, text: str) -> bool:
        """Return whether a text may have a secret in it."""
        if text in self._whole:
            return True
        if len(text) >= _SHORT:
            grams = [text[place : place + _GRAM] for place in range(0, len(text) - _GRAM + 1, _STEP)]
            if not self._grams.isdisjoint(grams):
                return True
        # Decoded it has fewer percent signs, so that this ends.
        return "%" in text and _ESCAPES.search(text) is not None and self._suspects(_decoded(text)[0])

    def _found(self, text: str, length: int) -> list[tuple[int, int]]:
        """Return where the secrets that start in the first `length` characters begin and end, in order."""
        if text in self._whole or unquote(text) in self._whole:
            return [(0, len(text))]
        found = list(self._spans(text, length))
        if "%" in text:
            decoded, places = _decoded(text)
            length = bisect_left(places, length)
            found += [(places[start], places[end]) for start, end in self._spans(decoded, length)]
        return sorted(found)

    def _spans(self, text: str, length: int) -> Iterator[tuple[int, int]]:
        forms = cache(_forms)
        place = 0
        while place < length:
            values = self._starts.get(text[place : place + _SHORT], ())
            fitting = [len(form) for value in values for form in forms(value) if text.startswith(form, place)]
            if fitting:
                yield place, place + max(fitting)
            place += max(fitting, default=1)


def _bytes(value: str) -> bytes:
    # An environment variable may hold bytes that are not text.
    return value.encode(errors="surrogateescape")


def _forms(value: str) -> set[str]:
    """Return the spellings of a value, other than percent-encoded ones: those are decoded."""
    raw = _bytes(value)
    forms = {
        value,
        _blanked(value),
        # As HTML forms encode blanks.
        value.replace(" ", "+"),
        # As text within JSON or XML that is text itself.
        json.dumps(value)[1:-1],
        json.dumps(value, ensure_ascii=False)[1:-1],
        html.escape(value),
    }
    for encode in (base64.b64encode, base64.urlsafe_b64encode):
        whole = encode(raw).decode()
        forms |= {whole, whole.rstrip("=")}
        if len(value) < _SHORT:
            continue
        # Within something longer a value begins at any of three places of base64's groups. What is left out at both
        # ends depends on its neighbours.
        for before in range(3):
            encoded = encode(b"\0" * before + raw).decode()
            forms.add(encoded[(before * 8 + 5) // 6 : (before + len(raw)) * 8 // 6])
    return forms


def _decoded(text: str) -> tuple[str, list[int]]:
    """Return a text with its percent-encoding taken off, and where each of its characters began before."""
    parts: list[str] = []
    places: list[int] = []
    last = 0
    for escapes in _ESCAPES.finditer(text):
        start, end = escapes.span()
        raw = bytes.fromhex(escapes[0].replace("%", ""))
        try:
            characters, sizes = (part := raw.decode()), [len(character.encode()) for character in part]
        except UnicodeDecodeError:
            characters, sizes = raw.decode("latin-1"), [1] * len(raw)
        parts += (text[last:start], characters)
        places += range(last, start)
        for size in sizes:
            places.append(start)
            start += 3 * size
        last = end
    parts.append(text[last:])
    places += range(last, len(text) + 1)
    return "".join(parts), places


def _blanked(text: str) -> str:
    """Return a text with blanks for the characters that end a line or steer a terminal."""
    return text if text.isprintable() else "".join(one if one.isprintable() else " " for one in text)


_process = Redactor()


def register(value: str) -> None:
    """Mask a value in all that this process shows from now on."""
    _process.register(value)


def register_proxy(url: str) -> None:
    """Mask a proxy's URL and its credentials, also in the form in which they are sent."""
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
    """Return a text with the secrets of this process masked, cut to `length` if one is given."""
    return _process.redact(text, length)


def redact_name(text: str, length: int) -> str:
    """Return what `redact` does, at less cost for a text that comes often."""
    return _process.redact_name(text, length)


def printable(text: str, length: int) -> str:
    """Return a text from outside as one line without secrets, cut to `length` with an ellipsis."""
    return _process.printable(text, length)
