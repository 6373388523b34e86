"""Definitions of the exporter's metrics about itself.

Metrics about pipelines are in `exporter.metrics`.
"""

from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Info

M = TypeVar("M", Counter, Gauge, Histogram, Info)

_REQUEST_BUCKETS = (0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
_POLL_BUCKETS = (0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 20.0, 40.0, 60.0, 120.0, 300.0)


@dataclass(frozen=True)
class OwnFamily(Generic[M]):
    """Definition of a metric family about the exporter itself."""

    type: type[M]
    name: str
    help: str
    labels: tuple[str, ...] = ()
    buckets: tuple[float, ...] = ()

    def create(self, registry: CollectorRegistry | None) -> M:
        """Create the metric, and register it unless `registry` is None."""
        unit = "seconds" if self.name.endswith("_seconds") else ""
        options: dict[str, Any] = {"buckets": self.buckets} if self.buckets else {}
        return self.type(self.name, self.help, self.labels, unit=unit, registry=registry, **options)


_PROJECT = ("provider", "project")

BUILD_INFO = OwnFamily(
    Info,
    "pipeline_exporter_build",
    "Versions of the exporter and of Python; always 1.",
)
SHARD_INDEX = OwnFamily(
    Gauge,
    "pipeline_exporter_shard_index",
    "Index of this shard, counted from 0.",
)
SHARDS = OwnFamily(
    Gauge,
    "pipeline_exporter_shards",
    "Number of shards that share the configuration.",
)
STATE_UP = OwnFamily(
    Gauge,
    "pipeline_exporter_state_up",
    "Whether the last save of the state succeeded (1) or failed (0).",
)
CONFIG_RELOADED = OwnFamily(
    Gauge,
    "pipeline_exporter_config_last_reload_successful",
    "Whether the last load of the configuration succeeded (1) or failed (0).",
)
CONFIG_RELOAD_TIME = OwnFamily(
    Gauge,
    "pipeline_exporter_config_last_reload_success_timestamp_seconds",
    "Unix time of the last successful load of the configuration.",
)
CONFIG_HASH = OwnFamily(
    Gauge,
    "pipeline_exporter_config_hash",
    "Hash of the configuration in force with its secrets masked; always 1.",
    ("hash",),
)
WEB_CONFIG_RELOADED = OwnFamily(
    Gauge,
    "pipeline_exporter_web_config_last_reload_successful",
    "Whether the last read of the web configuration file succeeded (1) or failed (0).",
)
PROJECT_UP = OwnFamily(
    Gauge,
    "pipeline_exporter_project_up",
    "Whether every request of the last refresh and of later active polls was answered.",
    _PROJECT,
)
PROJECT_FAILURE = OwnFamily(
    Gauge,
    "pipeline_exporter_project_failure_info",
    "1 while the project is down, with the cause as labels.",
    ("provider", "project", "operation", "code", "error_code"),
)
PROJECT_DOWN_SINCE = OwnFamily(
    Gauge,
    "pipeline_exporter_project_down_since_timestamp_seconds",
    "Unix time since which the project is down.",
    ("provider", "project"),
)
LAST_POLL = OwnFamily(
    Gauge,
    "pipeline_exporter_last_poll_timestamp_seconds",
    "Unix time at which the last refresh of the project ended.",
    _PROJECT,
)
LAST_SUCCESS = OwnFamily(
    Gauge,
    "pipeline_exporter_last_success_timestamp_seconds",
    "Unix time at which the last fully successful refresh of the project ended.",
    _PROJECT,
)
POLL_DURATION = OwnFamily(
    Histogram,
    "pipeline_exporter_poll_duration_seconds",
    "Duration of refreshes in seconds.",
    _PROJECT,
    _POLL_BUCKETS,
)
POLL_INTERVAL = OwnFamily(
    Gauge,
    "pipeline_exporter_poll_interval_seconds",
    "Configured poll interval in seconds.",
    _PROJECT,
)
POLLS_SKIPPED = OwnFamily(
    Counter,
    "pipeline_exporter_polls_skipped_total",
    "Polls skipped because the previous poll was still running.",
    _PROJECT,
)
PIPELINES = OwnFamily(
    Gauge,
    "pipeline_exporter_pipelines",
    "Number of pipelines that this exporter watches.",
    _PROJECT,
)
PIPELINES_NOT_LISTED = OwnFamily(
    Gauge,
    "pipeline_exporter_pipelines_not_listed",
    "Number of configured pipelines that the provider's list of pipelines lacks.",
    ("provider", "project"),
)
PIPELINES_LISTED = OwnFamily(
    Gauge,
    "pipeline_exporter_pipelines_listed",
    "Number of pipelines in the provider's list, by whether discover selects them.",
    ("provider", "project", "selected"),
)
PIPELINES_REFUSED = OwnFamily(
    Gauge,
    "pipeline_exporter_pipelines_refused",
    "Number of pipelines left out of batches: refused by the provider, or with unreadable responses.",
    _PROJECT,
)
RUNS_UNRESOLVED = OwnFamily(
    Gauge,
    "pipeline_exporter_runs_unresolved",
    "Number of known runs whose end still has to be looked up.",
    _PROJECT,
)
SERIES_WITHHELD = OwnFamily(
    Gauge,
    "pipeline_exporter_series_withheld",
    "Number of series that are not exposed because of limits.max_series.",
    _PROJECT,
)
RENDER_FAILURES = OwnFamily(
    Counter,
    "pipeline_exporter_render_failures_total",
    "Failures to render a metric family for a pipeline or a project.",
    ("family",),
)
CREDENTIALS_VALID = OwnFamily(
    Gauge,
    "pipeline_exporter_credentials_valid",
    "Whether the provider last accepted (1) or rejected (0) the credentials of the project.",
    _PROJECT,
)
CREDENTIALS_EXPIRY = OwnFamily(
    Gauge,
    "pipeline_exporter_credentials_expiry_timestamp_seconds",
    "Unix time at which the credentials of the project expire.",
    (*_PROJECT, "renewal"),
)
API_REQUESTS = OwnFamily(
    Counter,
    "pipeline_exporter_api_requests_total",
    "Requests sent to the provider, by operation and result.",
    (*_PROJECT, "operation", "code"),
)
API_ERRORS = OwnFamily(
    Counter,
    "pipeline_exporter_api_errors_total",
    "Failed requests to the provider, by operation and error code.",
    (*_PROJECT, "operation", "error_code"),
)
API_REQUEST_DURATION = OwnFamily(
    Histogram,
    "pipeline_exporter_api_request_duration_seconds",
    "Duration of requests to the provider in seconds.",
    ("provider", "operation"),
    _REQUEST_BUCKETS,
)
API_RETRIES = OwnFamily(
    Counter,
    "pipeline_exporter_api_retries_total",
    "Requests sent again after a temporary failure.",
    _PROJECT,
)
API_THROTTLED = OwnFamily(
    Counter,
    "pipeline_exporter_api_throttled_total",
    "Responses by which the provider throttled the exporter.",
    _PROJECT,
)
REJECTED_RECORDS = OwnFamily(
    Counter,
    "pipeline_exporter_rejected_records_total",
    "Records in responses that could not be used, by reason.",
    (*_PROJECT, "reason"),
)
UNKNOWN_WORDS = OwnFamily(
    Counter,
    "pipeline_exporter_unknown_words_total",
    "Values of the provider that have no translation and are shown as unknown.",
    ("provider", "field", "word"),
)
