"""The catalogue: all metric families about pipelines that a configuration enables.

The exporter's metrics about itself are in `exporter.telemetry`.
"""

from collections.abc import Iterable

import msgspec

from exporter.metrics.accounting import counters, durations
from exporter.metrics.family import Family
from exporter.metrics.latest_run import latest_finished_run, latest_run, streak
from exporter.metrics.pipeline import pipeline
from exporter.metrics.stages import jobs, stages, steps
from exporter.settings.settings import Metrics
from exporter.tracking.views import ProjectView, View


class Catalogue(msgspec.Struct, frozen=True, kw_only=True):
    """The metric families that a configuration enables, in the order of the /metrics page."""

    pipelines: tuple[Family[View], ...]
    projects: tuple[Family[ProjectView], ...]


def catalogue(metrics: Metrics, user_labels: Iterable[str] = ()) -> Catalogue:
    """Return the families that a configuration enables; `user_labels` are the names of configured labels."""
    return Catalogue(
        pipelines=(
            *latest_run(metrics),
            *stages(metrics),
            *(jobs() if metrics.details in {"jobs", "steps"} else ()),
            *(steps() if metrics.details == "steps" else ()),
            *latest_finished_run(metrics),
            *streak(),
            *counters(),
            *durations(metrics, "pipeline", lambda view: view.durations),
            *pipeline(tuple(sorted(set(user_labels)))),
        ),
        projects=durations(metrics, "project", lambda view: view.durations),
    )
