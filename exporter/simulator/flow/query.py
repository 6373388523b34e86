"""The parameters in the query of a request, of which some are numbers and some are lists."""

import re
from collections.abc import Mapping
from dataclasses import dataclass

from exporter.simulator.flow.errors import Problem, ProblemError

_WHOLE = re.compile(r"[0-9]{1,18}")


def whole(text: str) -> int:
    """Read a whole number; raises `ProblemError` for what is none."""
    if not _WHOLE.fullmatch(text):
        raise ProblemError(Problem.BAD_PARAMETER)
    return int(text)


@dataclass(frozen=True, slots=True)
class Window:
    """A stretch of time in milliseconds, both ends included; one that is None is open."""

    since: int | None = None
    until: int | None = None

    def __bool__(self) -> bool:
        """Whether it leaves anything out."""
        return self.since is not None or self.until is not None

    def holds(self, moment: int) -> bool:
        """Tell whether a moment lies within."""
        return (self.since is None or self.since <= moment) and (self.until is None or moment <= self.until)


class Query:
    """The parameters as they came; an empty one counts as not given."""

    def __init__(self, given: Mapping[str, str]) -> None:
        self._given = given

    def text(self, name: str) -> str:
        """Return a text."""
        return self._given.get(name, "")

    def words(self, name: str) -> frozenset[str]:
        """Return the words between commas."""
        return frozenset(word for word in self.text(name).split(",") if word)

    def number(self, name: str) -> int | None:
        """Return a whole number; raises `ProblemError` for what is none."""
        text = self.text(name)
        return whole(text) if text else None

    def window(self, since: str, until: str) -> Window:
        """Return the stretch between two moments; raises `ProblemError` for what is no moment."""
        return Window(self.number(since), self.number(until))
