"""Common parts of the vendors' gateways: the `Authorization` header of signed requests, and throttling."""

import re
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Authorization:
    """A parsed `Authorization` header; `signed_headers` are lower-case and sorted, as both signatures require."""

    access_key: str
    signed_headers: tuple[str, ...]
    signature: str


def authorization_parser(algorithm: str, key: str) -> Callable[[str], Authorization | None]:
    """Return a parser for `Authorization` headers of one algorithm; `key` is the field that holds the access key.

    The parser returns None for another scheme and for a malformed header.
    """
    shape = re.compile(
        rf"{algorithm} {key}=(?P<key>[^,\s]+), ?SignedHeaders=(?P<headers>[^,\s]+), ?"
        r"Signature=(?P<signature>[0-9a-f]{64})"
    )

    def parse(header: str) -> Authorization | None:
        found = shape.fullmatch(header)
        if found is None:
            return None
        names = tuple(sorted(found["headers"].lower().split(";")))
        return Authorization(found["key"], names, found["signature"])

    return parse


class Throttle:
    """Rate limit over a sliding window, which counts all requests, including refused ones.

    Callers pass the time, so that tests can control it.
    """

    def __init__(self) -> None:
        self._times: deque[float] = deque()

    def wait(self, limit: int, seconds: float, now: float) -> float | None:
        """Count a request at `now`; return the seconds to wait for a free slot, or None if the request may pass."""
        times = self._times
        while times and times[0] <= now - seconds:
            times.popleft()
        full = len(times) >= limit
        times.append(now)
        return times[len(times) - max(limit, 1)] + seconds - now if full else None
