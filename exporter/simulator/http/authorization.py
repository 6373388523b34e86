"""The `Authorization` header of a signed request, which has one shape at both vendors."""

import re
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Authorization:
    """The parts of the header; header names lower-case and sorted, as the rules want them."""

    access_key: str
    signed_headers: tuple[str, ...]
    signature: str


def reader(algorithm: str, key: str) -> Callable[[str], Authorization | None]:
    """What reads such a header; `key` is the word that the access key stands behind.

    It returns None of a header of another scheme, or malformed.
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
