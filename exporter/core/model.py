"""What the world is: pipelines, their runs and stages, and one vocabulary of status and trigger for every cloud.

Providers translate a vendor's words into these values; everything behind them speaks only these. All values are
frozen, times are epoch seconds, durations seconds, and what is not known is `None`, never zero.
"""

from enum import StrEnum

import msgspec

from exporter.core.redaction import redact, redact_name

LABEL_LENGTH = 256
"""Characters kept of a label's value: an operator's `label_value_length_limit` fails a whole scrape."""

STAGES = 50
JOBS = 200
STEPS = 500
"""Stages, jobs and steps kept of one run."""


class Status(StrEnum):
    """State of a run or a stage, the same words for every provider."""

    SUCCESS = "success"
    FAILED = "failed"
    CANCELED = "canceled"
    IGNORED = "ignored"
    SKIPPED = "skipped"
    RUNNING = "running"
    PENDING = "pending"
    WAITING = "waiting"
    PAUSED = "paused"
    SUSPENDED = "suspended"
    UNKNOWN = "unknown"

    @property
    def final(self) -> bool:
        """Whether nothing more is expected to happen (a retry may still reopen a run)."""
        return self in _FINAL

    @property
    def held(self) -> bool:
        """Whether somebody or something has to act before it goes on."""
        return self in _HELD


_FINAL = frozenset({Status.SUCCESS, Status.FAILED, Status.CANCELED, Status.IGNORED, Status.SKIPPED})
_HELD = frozenset({Status.WAITING, Status.PAUSED, Status.SUSPENDED})

ENDS = (Status.SUCCESS, Status.FAILED, Status.CANCELED, Status.IGNORED)
"""The states a run can end in (only stages are skipped)."""

RUN_STATUSES = (
    *ENDS,
    Status.RUNNING,
    Status.PENDING,
    Status.WAITING,
    Status.PAUSED,
    Status.SUSPENDED,
    Status.UNKNOWN,
)
"""The states a run can be in, in the order they are exposed."""


class Trigger(StrEnum):
    """What started a run."""

    MANUAL = "manual"
    SCHEDULE = "schedule"
    PUSH = "push"
    MERGE_REQUEST = "merge_request"
    TAG = "tag"
    ISSUE = "issue"
    COMMENT = "comment"
    PIPELINE = "pipeline"
    WEBHOOK = "webhook"
    ROLLBACK = "rollback"
    OTHER = "other"
    UNKNOWN = "unknown"


class Pipeline(msgspec.Struct, frozen=True, gc=False):
    """A pipeline as the exporter names it: the identity of every series that it owns."""

    provider: str
    project: str
    """The project's name in the configuration."""
    id: str
    name: str
    """The pipeline's name, or its id until the name is known."""
    url: str = ""
    labels: tuple[tuple[str, str], ...] = ()
    """The user's own labels, without prefix."""


class Step(msgspec.Struct, frozen=True, gc=False):
    """One step of a job; (name, sequence) is unique in its job."""

    name: str
    sequence: int
    task: str
    """What it does: the name of the vendor's plug-in."""
    status: Status
    duration: float | None = None


class Job(msgspec.Struct, frozen=True, gc=False):
    """One job of a stage; (name, sequence) is unique in its stage."""

    name: str
    sequence: int
    status: Status
    start: float | None = None
    duration: float | None = None
    """Seconds from start to end, of a finished job only."""
    steps: tuple[Step, ...] = ()


class Stage(msgspec.Struct, frozen=True, gc=False):
    """One stage of a run; (name, sequence) is unique in its run."""

    name: str
    sequence: int
    status: Status
    start: float | None = None
    duration: float | None = None
    """Seconds from start to end, of a finished stage only."""
    jobs: tuple[Job, ...] = ()
    """Known only from the run's details."""


class Run(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One run of a pipeline. A retry keeps the id, so id and a final status do not make it immutable."""

    id: str
    """The vendor's id, or `#` and the number where it gave none."""
    number: int | None = None
    """The vendor's running number; unique in its pipeline, with gaps."""
    status: Status
    start: float | None = None
    end: float | None = None
    """End of a finished run, or the end told of one whose state has no translation; absent while it is under way."""
    trigger: Trigger = Trigger.UNKNOWN
    branch: str = ""
    tag: str = ""
    commit: str = ""
    executor: str = ""
    """The id of who started it, never a person's name."""
    event: str = ""
    merge_id: str = ""
    source_branch: str = ""
    url: str = ""
    stages: tuple[Stage, ...] = ()

    @property
    def nameless(self) -> bool:
        """Whether the vendor gave no id, so that it cannot be asked about this run."""
        return self.id.startswith("#")

    @property
    def duration(self) -> float | None:
        """Seconds from start to end, pauses included; absent unless finished with both times in order."""
        if not self.status.final or self.start is None or self.end is None or self.end < self.start:
            return None
        return self.end - self.start


def label(value: str | None) -> str:
    """Return a vendor's text as a label's value: absent is empty, no longer than `LABEL_LENGTH`.

    Secrets in it are masked where it is shown, but the cut leaves no part of one.
    """
    if not value or len(value) <= LABEL_LENGTH:
        return value or ""
    return redact(value, LABEL_LENGTH)


def name_label(value: str | None) -> str:
    """Return a name as a label's value with its secrets masked: names must differ as they are shown."""
    return redact_name(value, LABEL_LENGTH) if value else ""
