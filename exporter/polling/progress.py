"""Follow the progress of polls, for commands that show it."""

from collections.abc import Callable
from enum import Enum


class PollStep(Enum):
    """A part of a poll."""

    LIST = "list"
    """Reading the list of pipelines; its length is unknown until the end."""
    POLL = "poll"
    """Querying the latest runs of pipelines."""
    FOLLOW_UP = "follow up"
    """Reading run lists and runs of pipelines after that."""


Progress = Callable[[PollStep, int, int], None]
"""Called with a step, how many more of its items are done, and how many items were added to it."""


def ignore_progress(_step: PollStep, _done: int, _more: int) -> None:
    """Do nothing, where no progress is displayed."""
