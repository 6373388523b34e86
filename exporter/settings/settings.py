"""The settings and their defaults. docs/configuration.md describes each."""

from typing import Annotated, Any, Literal

import yaml
from pydantic import AfterValidator, BeforeValidator, Field

from exporter.config.section import Section, resolve_path
from exporter.config.types import Duration, increasing, without_duplicates
from exporter.core.histograms import HistogramScope
from exporter.core.redaction import redact
from exporter.providers.registry import AnyProject

Buckets = Annotated[
    tuple[Duration, ...], AfterValidator(increasing), Field(json_schema_extra={"minItems": 1})
]

RunInfoLabel = Literal[
    "trigger", "branch", "tag", "run_id", "commit", "executor", "event", "merge_id", "source_branch", "url"
]


_MINUTE = 60.0
_HOUR = 3600.0


class Poll(Section):
    """When and how clouds are polled."""

    interval: Duration = 60.0
    """How often every pipeline is refreshed."""
    active_interval: Duration = 15.0
    """How often a pipeline is polled while its latest run is in progress."""
    chunk_size: int = Field(default=50, ge=1, le=1000)
    """Maximum number of pipelines in one batch request."""
    concurrency: int = Field(default=4, ge=1, le=100)
    """Maximum number of requests of one project in flight at the same time."""
    timeout: Duration = 10.0
    """Time limit of one request, up to the last byte of the response."""
    max_age: Duration = 15 * _MINUTE
    """Time without a response after which a pipeline's gauges are removed."""


class Metrics(Section):
    """Which series are exposed."""

    run_status_series: Literal["all", "current"] = "all"
    """Whether each status of the latest run has a series, or only the current one."""
    stage_status_series: Literal["all", "current"] = "current"
    """Whether each status of a stage of the latest run has a series, or only the current one."""
    run_info_labels: Annotated[tuple[RunInfoLabel, ...], AfterValidator(without_duplicates)] = (
        "trigger",
        "branch",
    )
    """Labels of the info metrics of runs."""
    details: Literal["none", "jobs", "steps"] = "none"
    """Whether to expose jobs, or jobs and steps, of the latest run. This costs a request for each run that has changed."""
    run_histogram: HistogramScope = "pipeline"
    """What has its own histogram of run durations: each pipeline, each project, or nothing."""
    stage_histogram: HistogramScope = "project"
    """What has its own histograms of stage durations: each pipeline, each project, or nothing."""
    run_duration_buckets: Buckets = (
        15.0, 30.0, _MINUTE, 2 * _MINUTE, 5 * _MINUTE, 10 * _MINUTE, 20 * _MINUTE, 30 * _MINUTE,
        _HOUR, 2 * _HOUR, 4 * _HOUR, 8 * _HOUR, 24 * _HOUR,
    )  # fmt: skip
    """Bucket bounds of run durations, in increasing order."""
    stage_duration_buckets: Buckets = (
        10.0, 30.0, _MINUTE, 2 * _MINUTE, 5 * _MINUTE, 10 * _MINUTE, 20 * _MINUTE, 30 * _MINUTE, _HOUR, 2 * _HOUR,
    )  # fmt: skip
    """Bucket bounds of stage durations, in increasing order."""
    created_series: bool = False
    """Whether each counter and histogram has a `_created` series."""


class State(Section):
    """Storage of the state that survives a restart."""

    path: Annotated[str, Field(min_length=1), AfterValidator(resolve_path)] | None = None
    """File of the state. Without it, counters start at zero with each process."""


class Limits(Section):
    """Bounds on the number of series and pipelines."""

    max_series: int = Field(default=0, ge=0)
    """Maximum number of series of one project, without the exporter's own; 0 means no limit."""
    max_pipelines: int = Field(default=20_000, ge=1)
    """Maximum number of pipelines that this shard watches in one project, after `include` and `exclude`."""


def _of_a_provider(value: object) -> object:
    # pydantic lists the possible tags for an empty tag, but not for a missing one.
    return {**value, "provider": ""} if isinstance(value, dict) and not value.get("provider") else value


class Config(Section):
    """The whole configuration."""

    poll: Poll = Poll()
    """When and how clouds are polled."""
    metrics: Metrics = Metrics()
    """Which series are exposed."""
    state: State = State()
    """Storage of the state that survives a restart."""
    limits: Limits = Limits()
    """Bounds on the number of series and pipelines."""
    projects: tuple[Annotated[AnyProject, BeforeValidator(_of_a_provider)], ...] = Field(min_length=1)
    """The projects to watch, each with its credentials."""

    def effective(self) -> str:
        """Return the configuration as YAML, including defaults, with each secret as `<secret>`."""
        values = _redacted(self.model_dump(mode="json"))
        return yaml.safe_dump(values, sort_keys=False, allow_unicode=True)


def _redacted(value: Any) -> Any:
    """Return settings with secrets masked in every text, since a user may have put one where it does not belong."""
    if isinstance(value, dict):
        return {key: _redacted(one) for key, one in value.items()}
    if isinstance(value, list):
        return [_redacted(one) for one in value]
    return redact(value) if isinstance(value, str) else value
