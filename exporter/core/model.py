"""Domain model: pipelines, runs, stages, jobs and steps, with one set of statuses and triggers for every provider.

Providers translate a vendor's responses into these values, and all other packages use only these. Values are frozen.
Times are Unix seconds, durations are seconds, and an unknown value is `None`, never zero.
"""

import re
from enum import StrEnum

import msgspec

from exporter.core.redaction import redact, redact_name

LABEL_LENGTH = 256
"""Maximum length of a label value. Prometheus drops a whole scrape if one exceeds `label_value_length_limit`."""

STAGES = 50
JOBS = 200
STEPS = 500
"""Maximum numbers of stages, jobs and steps of one run. Further ones are dropped."""


class Status(StrEnum):
    """Status of a run, stage, job or step, the same for every provider."""

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
        """Whether this is a final status, such as success or failed. A retry can still reopen a run."""
        return self in _FINAL

    @property
    def held(self) -> bool:
        """Whether the status means waiting for an action, such as an approval."""
        return self in _HELD


_FINAL = frozenset({Status.SUCCESS, Status.FAILED, Status.CANCELED, Status.IGNORED, Status.SKIPPED})
_HELD = frozenset({Status.WAITING, Status.PAUSED, Status.SUSPENDED})

ENDS = (Status.SUCCESS, Status.FAILED, Status.CANCELED, Status.IGNORED)
"""Final statuses of a run. A run as a whole is never skipped."""

RUN_STATUSES = (
    *ENDS,
    Status.RUNNING,
    Status.PENDING,
    Status.WAITING,
    Status.PAUSED,
    Status.SUSPENDED,
    Status.UNKNOWN,
)
"""Statuses of a run, in the order of their series on /metrics."""


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
    """Identity and labels of a pipeline, which all its series share."""

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
    """Step of a job. (name, sequence) is unique in its job."""

    name: str
    sequence: int
    task: str
    """Name of the vendor's plug-in that the step runs."""
    status: Status
    duration: float | None = None


class Job(msgspec.Struct, frozen=True, gc=False):
    """Job of a stage. (name, sequence) is unique in its stage."""

    name: str
    sequence: int
    status: Status
    start: float | None = None
    duration: float | None = None
    """Seconds from start to end. None unless the job has finished."""
    steps: tuple[Step, ...] = ()


class Stage(msgspec.Struct, frozen=True, gc=False):
    """Stage of a run. (name, sequence) is unique in its run."""

    name: str
    sequence: int
    status: Status
    start: float | None = None
    duration: float | None = None
    """Seconds from start to end. None unless the stage has finished."""
    jobs: tuple[Job, ...] = ()
    """Empty unless the run's details were requested."""


class Run(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Run of a pipeline. A retry keeps the id, so a run can still change after a final status."""

    id: str
    """The vendor's id, or `#` and the run number if the response has no id."""
    number: int | None = None
    """The vendor's run number. Numbers are unique in a pipeline and increase, with gaps."""
    status: Status
    start: float | None = None
    end: float | None = None
    """End of a finished run, or the reported end of a run with an unknown status. None while the run is in progress."""
    trigger: Trigger = Trigger.UNKNOWN
    branch: str = ""
    tag: str = ""
    commit: str = ""
    executor: str = ""
    """Id of the user who started the run, never a name."""
    event: str = ""
    merge_id: str = ""
    source_branch: str = ""
    url: str = ""
    """URL of the run's web page; empty if unknown."""
    stages: tuple[Stage, ...] = ()

    @property
    def without_id(self) -> bool:
        """Whether the vendor sent no id, so that this run cannot be queried."""
        return self.id.startswith("#")

    @property
    def duration(self) -> float | None:
        """Seconds from start to end, pauses included. None unless the run is finished and both times are plausible."""
        if not self.status.final or self.start is None or self.end is None or self.end < self.start:
            return None
        return self.end - self.start


def failed_stages(run: Run) -> tuple[Stage, ...]:
    """Return the stages of a failed run that failed or contain failed jobs. Empty unless the run failed.

    Each stage keeps only its failed jobs, without steps.
    """
    if run.status is not Status.FAILED:
        return ()
    stages = []
    for stage in run.stages:
        jobs = tuple(
            [msgspec.structs.replace(job, steps=()) for job in stage.jobs if job.status is Status.FAILED]
        )
        if jobs or stage.status is Status.FAILED:
            stages.append(msgspec.structs.replace(stage, jobs=jobs))
    return tuple(stages)


_URL = re.compile(r"https?://[^\s/?#@]+([/?#]\S*)?", re.IGNORECASE)


def url_label(value: str | None) -> str:
    """Return the URL of a web page as a label value; empty if it is not http or https, too long, or contains `user@`.

    A truncated URL would lead to another web page. A user or password must not be shown.
    """
    return value if value and len(value) <= LABEL_LENGTH and _URL.fullmatch(value) else ""


def label(value: str | None) -> str:
    """Return a vendor's text as a label value of at most `LABEL_LENGTH` characters. None becomes empty.

    Secrets are masked when /metrics is rendered. Only a text that is too long is masked here, before it is truncated, so
    that no part of a secret remains at its end.
    """
    if not value or len(value) <= LABEL_LENGTH:
        return value or ""
    return redact(value, LABEL_LENGTH)


def name_label(value: str | None) -> str:
    """Return a name as a label value. Secrets are masked here already, since names must stay unique after masking."""
    return redact_name(value, LABEL_LENGTH) if value else ""
