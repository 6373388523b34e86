"""The words of Flow for the states and the triggers of the world.

The vendor's lists of them are not complete, and those of its generations and documents differ: what a word stands for
here is the best reading.
"""

from exporter.simulator.world.runs import Run, Status

# Flow has one word for all that waits, be it for somebody or for a machine.
_WORDS = {
    Status.COMPLETED: "SUCCESS",
    Status.RUNNING: "RUNNING",
    Status.FAILED: "FAIL",
    Status.CANCELED: "CANCELED",
    Status.PAUSED: "WAITING",
    Status.QUEUED: "WAITING",
    Status.INIT: "INIT",
    Status.SKIPPED: "SKIP",
}

# What Flow does not tell apart: a failure that is ignored is a job that was skipped, and the run succeeds.
_SAME = {
    Status.IGNORED: Status.COMPLETED,
    Status.SUSPEND: Status.PAUSED,
    Status.UNSELECTED: Status.SKIPPED,
}

# By hand, by the clock, by a commit, without documented meaning, by another pipeline, by a webhook. What Flow has no
# trigger for is told as one of those that would not occur else.
_TRIGGERS = {"Manual": 1, "Scheduler": 2, "Push": 3, "MR": 3, "Issue": 4, "Note": 5, "CreateTag": 6}

UNTOLD = "(untold)"
"""What stands for the state of a run in the books of what was told, where a list told none."""


def known(status: Status) -> Status:
    """Return the state that Flow takes a state for."""
    return _SAME.get(status, status)


def said(run: Run) -> str:
    """Say how a run is: in a word of Flow, or in one of its own."""
    return run.word or word(run.status)


def word(status: Status) -> str:
    """Say a state."""
    return _WORDS[known(status)]


def trigger(run: Run) -> int:
    """Say why a run was started."""
    return _TRIGGERS[run.origin.trigger]
