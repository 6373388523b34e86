"""The settings and their defaults. docs/configuration.md describes each."""

from typing import Annotated, Any, Literal

import yaml
from pydantic import AfterValidator, BeforeValidator, Field

from exporter.config.section import Section, resolve_path
from exporter.config.types import Duration, increasing, without_duplicates
from exporter.core.histograms import HistogramScope
from exporter.core.redaction import redact
from exporter.providers.registry import AnyProject

Buckets = Annotated[tuple[Duration, ...], AfterValidator(increasing)]

RunInfoLabel = Literal[
    "trigger", "branch", "tag", "run_id", "commit", "executor", "event", "merge_id", "source_branch", "url"
]


_MINUTE = 60.0
_HOUR = 3600.0


class Poll(Section):
    """When and how clouds are polled."""

    interval: Duration = 60.0
    active_interval: Duration = 15.0
    chunk_size: int = Field(default=50, ge=1, le=1000)
    concurrency: int = Field(default=4, ge=1, le=100)
    timeout: Duration = 10.0
    max_age: Duration = 15 * _MINUTE


class Metrics(Section):
    """Which series are exposed."""

    run_status_series: Literal["all", "current"] = "all"
    stage_status_series: Literal["all", "current"] = "current"
    run_info_labels: Annotated[tuple[RunInfoLabel, ...], AfterValidator(without_duplicates)] = (
        "trigger",
        "branch",
    )
    details: Literal["none", "jobs", "steps"] = "none"
    run_histogram: HistogramScope = "pipeline"
    stage_histogram: HistogramScope = "project"
    run_duration_buckets: Buckets = (
        15.0, 30.0, _MINUTE, 2 * _MINUTE, 5 * _MINUTE, 10 * _MINUTE, 20 * _MINUTE, 30 * _MINUTE,
        _HOUR, 2 * _HOUR, 4 * _HOUR, 8 * _HOUR, 24 * _HOUR,
    )  # fmt: skip
    stage_duration_buckets: Buckets = (
        10.0, 30.0, _MINUTE, 2 * _MINUTE, 5 * _MINUTE, 10 * _MINUTE, 20 * _MINUTE, 30 * _MINUTE, _HOUR, 2 * _HOUR,
    )  # fmt: skip
    created_series: bool = False


class State(Section):
    """Where the state is stored that survives a restart."""

    path: Annotated[str, Field(min_length=1), AfterValidator(resolve_path)] | None = None


class Limits(Section):
    """Bounds on the number of series and pipelines."""

    max_series: int = Field(default=0, ge=0)
    """Series of one project, in addition to the exporter's own; 0 means no limit."""
    max_pipelines: int = Field(default=20_000, ge=1)
    """Pipelines of this shard in one project, after include and exclude."""


def _of_a_provider(value: object) -> object:
    # pydantic lists the possible tags for an empty tag, but not for a missing one.
    return {**value, "provider": ""} if isinstance(value, dict) and not value.get("provider") else value


class Config(Section):
    """The whole configuration."""

    poll: Poll = Poll()
    metrics: Metrics = Metrics()
    state: State = State()
    limits: Limits = Limits()
    projects: tuple[Annotated[AnyProject, BeforeValidator(_of_a_provider)], ...] = Field(min_length=1)

    def effective(self) -> str:
        """Return the configuration in force as YAML, with defaults, and every secret as `<secret>`."""
        values = _redacted(self.model_dump(mode="json"))
        return yaml.safe_dump(values, sort_keys=False, allow_unicode=True)


def _redacted(value: Any) -> Any:
    """Return settings with secrets masked in every text: a user may have put one where it does not belong."""
    if isinstance(value, dict):
        return {key: _redacted(one) for key, one in value.items()}
    if isinstance(value, list):
        return [_redacted(one) for one in value]
    return redact(value) if isinstance(value, str) else value
