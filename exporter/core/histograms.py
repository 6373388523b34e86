"""Interface of the histogram settings, for packages that must not depend on the settings."""

from typing import Literal, Protocol

HistogramScope = Literal["pipeline", "project", "off"]
"""Whether each pipeline has its own histogram, each project has one, or there are no histograms."""


class HistogramOptions(Protocol):
    """Scopes and bucket bounds of the histograms. The configuration section `metrics` implements this."""

    @property
    def run_histogram(self) -> HistogramScope:
        """Scope of run durations."""

    @property
    def stage_histogram(self) -> HistogramScope:
        """Scope of stage durations."""

    @property
    def run_duration_buckets(self) -> tuple[float, ...]:
        """Upper bounds of the buckets in seconds, in increasing order."""

    @property
    def stage_duration_buckets(self) -> tuple[float, ...]:
        """Upper bounds of the buckets in seconds, in increasing order."""
