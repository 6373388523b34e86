"""What tracking publishes: views of pipelines and projects, and events to report.

Views are frozen. A view is replaced only when something visible changed, so that what was rendered from it can be
reused for as long as the view is the same object.
"""

import msgspec

from exporter.core.model import Pipeline, Run
from exporter.tracking.ledger import EndedRun, Streak
from exporter.tracking.run_counters import DurationHistograms, RunCounters


class View(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Published values of a pipeline. A value that is None or empty has no sample."""

    pipeline: Pipeline
    up: bool | None = None
    """Whether the last poll that covered the pipeline succeeded; None before the first."""
    has_run: bool | None = None
    latest: Run | None = None
    status_change: float | None = None
    """When the latest run entered its status, in Unix seconds."""
    stage_changes: tuple[tuple[str, int, float], ...] = ()
    """Stages that are waiting, paused or suspended: name, sequence, and when they entered that status (Unix seconds)."""
    finished: Run | None = None
    """The latest finished run."""
    streak: Streak | None = None
    """Streak of failures; None while it is unknown, and once it is withdrawn."""
    active_starts: tuple[float | None, ...] | None = None
    """Start of each run in progress, in Unix seconds; None before the first response, and once they are withdrawn."""
    runs: tuple[EndedRun, ...] = ()
    """The newest ended runs, by falling number. No series comes from them; the status page draws them."""
    unresolved: int = 0
    """Number of runs that still have to be found or looked up."""
    counters: RunCounters | None = None
    """None before the first save."""
    durations: DurationHistograms | None = None


class ProjectView(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Published values of a project: the histograms that its pipelines share."""

    provider: str
    project: str
    durations: DurationHistograms


class MissedRuns(msgspec.Struct, frozen=True):
    """Runs of a pipeline that were given up."""

    pipeline: Pipeline
    runs: int
    why: str


class Misnumbered(msgspec.Struct, frozen=True):
    """A run that was reported with a wrong number."""

    pipeline: Pipeline
    run: Run
    """As it was reported."""
