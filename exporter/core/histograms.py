"""What settings say about the duration histograms, for packages that do not know the settings."""

from typing import Literal, Protocol

HistogramScope = Literal["pipeline", "project", "off"]
"""What has histograms of its own: each pipeline, each project, or nothing."""


class HistogramOptions(Protocol):
    """Scopes and bucket bounds; the section `metrics` of the configuration provides them."""

    @property
    def run_histogram(self) -> HistogramScope:
        """Scope of run durations."""

    @property
    def stage_histogram(self) -> HistogramScope:
        """Scope of stage durations."""

    @property
    def run_duration_buckets(self) -> tuple[float, ...]:
        """Upper bounds in seconds, rising."""

    @property
    def stage_duration_buckets(self) -> tuple[float, ...]:
        """Upper bounds in seconds, rising."""
