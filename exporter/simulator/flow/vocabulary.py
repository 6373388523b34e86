"""Flow's names for the simulated states and triggers.

The vendor's lists are incomplete and differ between API generations and documents. These are the most plausible values.
"""

from exporter.simulator.world.runs import RunSnapshot, SimulatedStatus

# Flow has one state for everything that waits, for a person or for a machine.
_STATUS_NAMES = {
    SimulatedStatus.COMPLETED: "SUCCESS",
    SimulatedStatus.RUNNING: "RUNNING",
    SimulatedStatus.FAILED: "FAIL",
    SimulatedStatus.CANCELED: "CANCELED",
    SimulatedStatus.PAUSED: "WAITING",
    SimulatedStatus.QUEUED: "WAITING",
    SimulatedStatus.INIT: "INIT",
    SimulatedStatus.SKIPPED: "SKIP",
}

# States that Flow does not distinguish. An ignored failure is a skipped job, and the run succeeds.
_SAME = {
    SimulatedStatus.IGNORED: SimulatedStatus.COMPLETED,
    SimulatedStatus.SUSPEND: SimulatedStatus.PAUSED,
    SimulatedStatus.UNSELECTED: SimulatedStatus.SKIPPED,
}

# 1 manual, 2 scheduled, 3 commit, 4 undocumented, 5 another pipeline, 6 webhook. Triggers that Flow lacks get a number
# that would not occur otherwise.
_TRIGGERS = {"Manual": 1, "Scheduler": 2, "Push": 3, "MR": 3, "Issue": 4, "Note": 5, "CreateTag": 6}

UNREPORTED = "(unreported)"
"""Status of a run in the recorded reports if the list did not contain one."""


def normalize(status: SimulatedStatus) -> SimulatedStatus:
    """Return the state that Flow reports for a state; Flow does not distinguish all of them."""
    return _SAME.get(status, status)


def status_text(run: RunSnapshot) -> str:
    """Return the status text that Flow reports for a run."""
    return run.custom_status or status_name(run.status)


def status_name(status: SimulatedStatus) -> str:
    """Return Flow's name for a state."""
    return _STATUS_NAMES[normalize(status)]


def trigger(run: RunSnapshot) -> int:
    """Return Flow's number for the trigger of a run."""
    return _TRIGGERS[run.origin.trigger]
