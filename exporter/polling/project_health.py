"""Determine whether a project is up or down, since when and why, for the log, the metrics and the status page.

A project is down after two refreshes in a row that left `project_up` 0, or one in which nothing was answered. It is up
again after the first refresh that leaves `project_up` 1. Nothing here reads a clock or sends anything.
"""

from collections.abc import Sequence
from enum import StrEnum

import msgspec

from exporter.polling.cause import UNANSWERED, Cause

REFRESHES = 3
"""Refreshes in a row with the same new cause, after which it replaces the cause of the outage."""


class Change(StrEnum):
    """Change of a project's health by a refresh."""

    UP = "up"
    """The project is up for the first time, and was not down before."""
    DOWN = "down"
    UP_AGAIN = "up again"


class Outage(msgspec.Struct):
    """A period in which a project is down."""

    since: float
    """When its first refresh ended, in Unix seconds."""
    began: float
    """The same in monotonic seconds."""
    cause: Cause


class ProjectHealth:
    """State of one project: up, down, or unknown before the first refreshes."""

    def __init__(self) -> None:
        self.up = False
        """Whether the project was up after its last conclusive refresh; False before the first."""
        self.outage: Outage | None = None
        """The current outage; None unless the project is down."""
        self.last_outage: Outage | None = None
        """The outage that ended last."""
        self._failing: Outage | None = None
        """The current outage, or what becomes one if the next refresh fails, too; None after a successful refresh."""
        self._other: Cause | None = None
        """The cause of the last refreshes, if it is not that of the outage."""
        self._times = 0
        """Number of refreshes in a row with that other cause."""

    @property
    def down(self) -> bool:
        """True if the project is down."""
        return self.outage is not None

    @property
    def down_since(self) -> float | None:
        """When the project went down, in Unix seconds; None unless it is down."""
        return None if self.outage is None else self.outage.since

    @property
    def cause(self) -> Cause | None:
        """Why the project is down; None unless it is down."""
        return None if self.outage is None else self.outage.cause

    @property
    def failing(self) -> bool:
        """True if the last refresh failed and the project is not down: the next refresh decides."""
        return self._failing is not None and self.outage is None

    def refreshed(
        self, *, failed: bool, answered: bool, causes: Sequence[Cause], monotonic: float, now: float
    ) -> Change | None:
        """Record the result of a refresh; return what it changed, or None.

        `answered`: a request was answered. `causes` are those of the refresh, the first one first. `monotonic` is the time
        in monotonic seconds, `now` in Unix seconds.
        """
        if not failed:
            return self._succeeded()
        first = next((one for one in causes if not one.held_back), next(iter(causes), UNANSWERED))
        if self._failing is None:
            self._failing = Outage(now, monotonic, first)
            decided = not answered
        else:
            self._update_cause(self._failing, first, causes)
            decided = True
        if not decided or self.outage is not None:
            return None
        self.outage = self._failing
        self.up = False
        return Change.DOWN

    def _succeeded(self) -> Change | None:
        was_up, self.up = self.up, True
        self._failing = None
        self._other, self._times = None, 0
        if self.outage is not None:
            self.last_outage, self.outage = self.outage, None
            return Change.UP_AGAIN
        return None if was_up else Change.UP

    def _update_cause(self, outage: Outage, first: Cause, causes: Sequence[Cause]) -> None:
        """Replace the cause of an outage by one that three refreshes in a row had instead."""
        if first.held_back or any(one.key == outage.cause.key for one in causes):
            # A request that is held back confirms the failure that it is held back for.
            self._other, self._times = None, 0
            return
        if outage.cause.held_back:
            # A poll between refreshes met the failure first; this refresh shows what it was.
            outage.cause = first
            return
        same = self._other is not None and self._other.key == first.key
        self._other, self._times = first, self._times + 1 if same else 1
        if self._times >= REFRESHES:
            outage.cause = first
            self._other, self._times = None, 0
