"""Definition of a metric family about pipelines: name, HELP text, labels, and a pure function from a view to samples."""

from collections.abc import Callable, Iterable
from enum import StrEnum
from typing import Generic, TypeVar

import msgspec

from exporter.tracking.run_counters import Histogram
from exporter.tracking.views import View

V = TypeVar("V")

# In alphabetical order, in which prometheus-client writes labels.
PIPELINE_LABELS = ("pipeline", "pipeline_id", "project", "provider")
PROJECT_LABELS = ("project", "provider")

STAGE_LABELS = ("stage_name", "stage_sequence")
JOB_LABELS = (*STAGE_LABELS, "job_name", "job_sequence")
STEP_LABELS = (*JOB_LABELS, "step_name", "step_sequence", "task")

_DETAIL_LABELS = ("stage_name", "job_name", "step_name")
DETAIL_LEVELS = 1 + len(_DETAIL_LABELS)
"""Number of detail levels: runs, stages, jobs and steps."""

Value = float | Histogram


class Sample(msgspec.Struct, frozen=True, gc=False):
    """A sample of a family: its value, and its label values except for those of the identity labels."""

    labels: tuple[str, ...]
    value: Value
    created: float | None = None
    """Start time of a counter or histogram, in Unix seconds; None without one."""


class MetricType(StrEnum):
    """Type of a metric family."""

    GAUGE = "gauge"
    COUNTER = "counter"
    HISTOGRAM = "histogram"
    INFO = "info"


class Family(msgspec.Struct, Generic[V], frozen=True, kw_only=True):
    """A metric family that is computed from views."""

    name: str
    """With the suffix of its type: `_total` for counters, `_info` for infos."""
    type: MetricType
    help: str
    labels: tuple[str, ...] = ()
    """Label names in addition to the identity labels of the view."""
    bounds: tuple[float, ...] = ()
    """Upper bounds of a histogram's buckets in seconds, without `+Inf`."""
    samples: Callable[[V], Iterable[Sample]]

    @property
    def unit(self) -> str:
        """Unit at the end of the name; empty if the name has no unit."""
        return "seconds" if self.name.removesuffix("_total").endswith("_seconds") else ""

    @property
    def detail_level(self) -> int:
        """Level of detail that the family shows: 0 for runs, 1 for stages, 2 for jobs, 3 for steps."""
        return sum(label in self.labels for label in _DETAIL_LABELS)


def gauge(name: str, text: str, value: Callable[[View], float | None]) -> Family[View]:
    """Return a gauge family with the identity labels only; if `value` returns None, a view has no sample."""

    def samples(view: View) -> tuple[Sample, ...]:
        shown = value(view)
        return () if shown is None else (Sample((), shown),)

    return Family(name=name, type=MetricType.GAUGE, help=text, samples=samples)
