"""Check passwords of HTTP basic authentication (RFC 7617) against bcrypt hashes."""

import asyncio
import base64
import binascii
import hashlib
import hmac
import secrets
from collections.abc import Mapping

import bcrypt

from exporter.config.secret import Secret

_CACHED = 100
"""Maximum number of accepted passwords to cache, so that few scrapes take the time of a bcrypt check."""
_PASSWORD = 72
"""Maximum length in bytes of the part of a password that bcrypt uses."""


class PasswordCheck:
    """Checks passwords one at a time, so that clients with wrong ones cannot take all processors."""

    def __init__(self) -> None:
        self._key = secrets.token_bytes(32)
        self._accepted: dict[bytes, None] = {}
        self._turn = asyncio.Lock()

    async def accepts(self, authorization: str, users: Mapping[str, Secret]) -> bool:
        """Return whether an `Authorization` header has the name and password of a user.

        `users` has at least one user, by name, with a bcrypt hash. Rejecting an unknown user takes as long as rejecting a
        wrong password.
        """
        given = _credentials(authorization)
        if given is None:
            return False
        user, password = given
        known = users.get(user)
        hashed = (known or next(iter(users.values()))).reveal().encode()
        proof = hmac.digest(self._key, b"\0".join((user.encode(), hashed, password)), hashlib.sha256)
        if proof in self._accepted:
            return True
        async with self._turn:
            matches = await asyncio.to_thread(_matches, password, hashed)
        if known is None or not matches:
            return False
        while len(self._accepted) >= _CACHED:
            del self._accepted[next(iter(self._accepted))]
        self._accepted[proof] = None
        return True


def _matches(password: bytes, hashed: bytes) -> bool:
    try:
        return bcrypt.checkpw(password[:_PASSWORD], hashed)
    except ValueError:
        return False


def _credentials(authorization: str) -> tuple[str, bytes] | None:
    scheme, _, encoded = authorization.partition(" ")
    if scheme.lower() != "basic":
        return None
    try:
        user, colon, password = base64.b64decode(encoded.strip(), validate=True).partition(b":")
        return (user.decode(), password) if colon else None
    except (binascii.Error, ValueError):
        return None
