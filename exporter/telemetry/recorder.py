"""Record the exporter's activity in its metrics about itself."""

import platform
from collections.abc import Iterable

from prometheus_client import (
    CollectorRegistry,
    GCCollector,
    Metric,
    PlatformCollector,
    ProcessCollector,
    disable_created_metrics,
    enable_created_metrics,
)

from exporter import __version__
from exporter.core.failures import RequestFailure
from exporter.core.redaction import redact
from exporter.core.shard import Shard
from exporter.providers.protocol import REJECTIONS
from exporter.telemetry import families
from exporter.telemetry.files import FileTelemetry

_OTHER = "other"
# Label values come from the provider, so their number is limited.
_MAX_ERROR_CODES = 100
_MAX_UNKNOWN_VALUES = 100
_MAX_LENGTH = 64
_MAX_REMOVED = 1000
"""Maximum number of removed projects whose counters are kept."""


def set_created_series(enabled: bool) -> None:
    """Set whether counters and histograms have `_created` series."""
    # prometheus-client has one switch for the process, and reads it when a metric is exposed.
    if enabled:
        enable_created_metrics()
    else:
        disable_created_metrics()


class Telemetry:
    """The exporter's metrics about itself, in their own registry."""

    def __init__(self, *, created_series: bool = False, shard: Shard | None = None) -> None:
        set_created_series(created_series)
        self.registry = registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        PlatformCollector(registry=registry)
        GCCollector(registry=registry)
        build = {"version": __version__, "python": platform.python_version()}
        families.BUILD_INFO.create(registry).info(build)
        if shard is not None:
            families.SHARD_INDEX.create(registry).set(shard.index)
            families.SHARDS.create(registry).set(shard.total)
        self._has_state = False
        self._state_up = families.STATE_UP.create(None)
        self.files = FileTelemetry(registry)
        self._project_up = families.PROJECT_UP.create(registry)
        self._project_failure = families.PROJECT_FAILURE.create(registry)
        self._down_since = families.PROJECT_DOWN_SINCE.create(registry)
        self._last_poll = families.LAST_POLL.create(registry)
        self._last_success = families.LAST_SUCCESS.create(registry)
        self._poll_duration = families.POLL_DURATION.create(registry)
        self._poll_interval = families.POLL_INTERVAL.create(registry)
        self._polls_skipped = families.POLLS_SKIPPED.create(registry)
        self._pipelines = families.PIPELINES.create(registry)
        self._not_listed = families.PIPELINES_NOT_LISTED.create(registry)
        self._listed = families.PIPELINES_LISTED.create(registry)
        self._refused = families.PIPELINES_REFUSED.create(registry)
        self._unresolved = families.RUNS_UNRESOLVED.create(registry)
        self._credentials_valid = families.CREDENTIALS_VALID.create(registry)
        self._credentials_expiry = families.CREDENTIALS_EXPIRY.create(registry)
        self._requests = families.API_REQUESTS.create(registry)
        self._errors = families.API_ERRORS.create(registry)
        self._request_duration = families.API_REQUEST_DURATION.create(registry)
        self._retries = families.API_RETRIES.create(registry)
        self._throttled = families.API_THROTTLED.create(registry)
        self._rejected = families.REJECTED_RECORDS.create(registry)
        self._unknown_values = families.UNKNOWN_WORDS.create(registry)
        self._withheld = families.SERIES_WITHHELD.create(registry)
        self._render_failures = families.RENDER_FAILURES.create(registry)
        self._project_gauges = (
            self._project_up, self._project_failure, self._down_since, self._last_poll, self._last_success,
            self._poll_interval, self._pipelines, self._not_listed, self._listed, self._refused, self._unresolved,
            self._credentials_valid, self._credentials_expiry, self._withheld,
        )  # fmt: skip
        self._project_counters = (
            self._poll_duration, self._polls_skipped, self._requests, self._errors, self._retries, self._throttled,
            self._rejected,
        )  # fmt: skip
        self._error_codes: dict[str, set[str]] = {}
        self._known_values: set[tuple[str, str, str]] = set()
        self._removed: dict[tuple[str, str], None] = {}
        """Removed projects, as pairs of provider and project, in the order of their removal."""

    def collect(self) -> Iterable[Metric]:
        """Return all metrics, without the series of removed projects."""
        for metric in self.registry.collect():
            if self._removed:
                metric.samples = [
                    sample
                    for sample in metric.samples
                    if (sample.labels.get("provider", ""), sample.labels.get("project", ""))
                    not in self._removed
                ]
            yield metric

    def set_state_up(self, *, up: bool) -> None:
        """Set whether the last save of the state succeeded; the gauge is absent before the first call."""
        if not self._has_state:
            self._has_state = True
            self.registry.register(self._state_up)
        self._state_up.set(up)

    def add_project(self, project: str, provider: str, *, pipelines: int, interval: float) -> None:
        """Create the series of a project, with their values before its first poll.

        If the project was removed before, its counters continue from their last values.
        """
        self._removed.pop((provider, project), None)
        self._project_up.labels(provider, project).set(0)
        self._poll_interval.labels(provider, project).set(interval)
        self._pipelines.labels(provider, project).set(pipelines)
        self._poll_duration.labels(provider, project)
        for gauge in (self._refused, self._unresolved, self._withheld):
            gauge.labels(provider, project)
        for counter in (self._polls_skipped, self._retries, self._throttled):
            counter.labels(provider, project)
        for reason in REJECTIONS:
            self._rejected.labels(provider, project, reason)

    def replace_project(self, project: str, provider: str, *, pipelines: int, interval: float) -> None:
        """Apply changed settings of a project to its gauges.

        The gauges of the failure, the listed pipelines and the credential's expiry are removed. All others keep their values.
        """
        self._poll_interval.labels(provider, project).set(interval)
        self._pipelines.labels(provider, project).set(pipelines)
        self.set_project_down(project, provider, None)
        self.set_listed(project, provider, not_listed=None, selected=None)
        self.set_credentials_expiry(project, provider, "", None)

    def remove_project(self, project: str, provider: str) -> None:
        """Remove the series of a project from the /metrics page. Its counters are kept in case it is added again."""
        for gauge in self._project_gauges:
            gauge.remove_by_labels({"provider": provider, "project": project})
        self._removed[provider, project] = None
        if len(self._removed) > _MAX_REMOVED:
            oldest = next(iter(self._removed))
            del self._removed[oldest]
            labels = dict(zip(("provider", "project"), oldest, strict=True))
            for metric in (*self._project_gauges, *self._project_counters):
                metric.remove_by_labels(labels)
            self._error_codes.pop(labels["project"], None)

    def poll_ended(
        self, project: str, provider: str, *, up: bool, refresh: bool, seconds: float, now: float
    ) -> None:
        """Record that a poll ended at `now` (Unix seconds). Its time and duration are recorded only for a refresh."""
        self._project_up.labels(provider, project).set(1 if up else 0)
        if refresh:
            self._last_poll.labels(provider, project).set(now)
            self._poll_duration.labels(provider, project).observe(seconds)
            if up:
                self._last_success.labels(provider, project).set(now)

    def set_project_down(
        self,
        project: str,
        provider: str,
        since: float | None,
        *,
        operation: str = "",
        code: str = "",
        error_code: str = "",
    ) -> None:
        """Set when a project went down (Unix seconds), and the cause; None while it is up."""
        for gauge in (self._project_failure, self._down_since):
            gauge.remove_by_labels({"provider": provider, "project": project})
        if since is not None:
            cause = (redact(text, _MAX_LENGTH) for text in (operation, code, error_code))
            self._project_failure.labels(provider, project, *cause).set(1)
            self._down_since.labels(provider, project).set(since)

    def poll_skipped(self, project: str, provider: str) -> None:
        """Count a poll that was due while the previous one was still running."""
        self._polls_skipped.labels(provider, project).inc()

    def set_pipelines(
        self, project: str, provider: str, *, pipelines: int, refused: int, unresolved: int
    ) -> None:
        """Set how many pipelines are watched, how many are refused, and how many runs must still be looked up."""
        self._pipelines.labels(provider, project).set(pipelines)
        self._refused.labels(provider, project).set(refused)
        self._unresolved.labels(provider, project).set(unresolved)

    def set_listed(
        self, project: str, provider: str, *, not_listed: int | None, selected: tuple[int, int] | None
    ) -> None:
        """Set the gauges that compare the provider's list of pipelines with the configuration; None removes a gauge.

        `not_listed` is the number of configured pipelines that the list lacks. `selected` has the number of listed pipelines
        that `discover` selects, and the number of those that it does not.
        """
        for gauge in (self._not_listed, self._listed):
            gauge.remove_by_labels({"provider": provider, "project": project})
        if not_listed is not None:
            self._not_listed.labels(provider, project).set(not_listed)
        if selected is not None:
            for value, number in zip(("true", "false"), selected, strict=True):
                self._listed.labels(provider, project, value).set(number)

    def set_series_withheld(self, project: str, provider: str, series: int) -> None:
        """Set the number of a project's series that `limits.max_series` keeps off the /metrics page."""
        self._withheld.labels(provider, project).set(series)

    def render_failed(self, family: str, times: int) -> None:
        """Count failures to render a family."""
        self._render_failures.labels(family).inc(times)

    def set_credentials_valid(self, project: str, provider: str, *, valid: bool) -> None:
        """Set whether the provider last accepted the project's credentials."""
        self._credentials_valid.labels(provider, project).set(1 if valid else 0)

    def set_credentials_expiry(self, project: str, provider: str, renewal: str, at: float | None) -> None:
        """Set when the project's credentials expire, in Unix seconds; None, if unknown, removes the gauge.

        `renewal` is the value of the label `renewal`.
        """
        self._credentials_expiry.remove_by_labels({"project": project})
        if at is not None:
            self._credentials_expiry.labels(provider, project, renewal).set(at)

    def request_ended(self, project: str, provider: str, operation: str, code: str, seconds: float) -> None:
        """Count a request that ended, with or without a response, and record its duration in seconds."""
        self._requests.labels(provider, project, operation, code).inc()
        self._request_duration.labels(provider, operation).observe(seconds)

    def request_failed(self, project: str, provider: str, operation: str, failure: RequestFailure) -> None:
        """Count a failed request."""
        code = redact(failure.error_code or failure.code, _MAX_LENGTH)
        known = self._error_codes.setdefault(project, set())
        if code not in known and len(known) >= _MAX_ERROR_CODES:
            code = _OTHER
        known.add(code)
        self._errors.labels(provider, project, operation, code).inc()

    def request_retried(self, project: str, provider: str) -> None:
        """Count a request that is sent again."""
        self._retries.labels(provider, project).inc()

    def request_throttled(self, project: str, provider: str) -> None:
        """Count a response by which the provider throttled the exporter."""
        self._throttled.labels(provider, project).inc()

    def records_rejected(self, project: str, provider: str, reason: str, records: int = 1) -> None:
        """Count records that could not be used."""
        self._rejected.labels(provider, project, reason).inc(records)

    def unknown_values(self, provider: str, values: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
        """Count the provider's untranslated values, as pairs of field and value; return those seen for the first time."""
        new = []
        for field, raw in sorted(values):
            value = redact(raw, _MAX_LENGTH)
            key = (provider, field, value)
            if key not in self._known_values:
                if len(self._known_values) >= _MAX_UNKNOWN_VALUES:
                    self._unknown_values.labels(provider, field, _OTHER).inc()
                    continue
                self._known_values.add(key)
                new.append((field, value))
            self._unknown_values.labels(*key).inc()
        return new
