"""Decide whether a list that has suddenly shrunk is believed: that is more often a lost permission than a mass deletion."""

from collections.abc import Collection

AGREEING = 3
"""Number of lists in a row that must agree to be believed after a sudden loss."""


class ListCaution:
    """What earlier lists of one kind had. Lists are compared by their ids."""

    def __init__(self, noun: str, empty: str) -> None:
        """`noun` is what the list has, in the plural; `empty` is the most likely reason for an empty list."""
        self._noun = noun
        self._empty = empty
        self.size: int | None = None
        """Number of rows of the last list that was believed; None if unknown."""
        self._disbelieved = 0
        self._disbelieved_ids: frozenset[str] | None = None
        """The ids of the last list that was not believed."""

    def doubt(self, found: Collection[str], *, refused: bool = False) -> str:
        """Return why a list of ids is not believed; believe it and return an empty string otherwise.

        An empty list, or one less than half as long as the one before, is believed only when `AGREEING` in a row have the
        same ids. While the provider refuses the user (`refused`), no empty list is believed.
        """
        before = self.size or 0
        if refused and not found:
            # Users who are not members get an empty list, so any number of empty lists proves nothing.
            self._disbelieved, self._disbelieved_ids = 0, None
            return self._empty
        if len(found) >= before / 2 and (found or self.size == 0):
            return self._believe(found)
        self._disbelieved = self._disbelieved + 1 if frozenset(found) == self._disbelieved_ids else 1
        self._disbelieved_ids = frozenset(found)
        if self._disbelieved >= AGREEING:
            return self._believe(found)
        if not found:
            return self._empty
        return f"the list has {len(found)} {self._noun} after {before}; did the user lose a permission?"

    def _believe(self, found: Collection[str]) -> str:
        self._disbelieved, self._disbelieved_ids = 0, None
        self.size = len(found)
        return ""
