"""What the exporter says of itself: its own counters, gauges and histograms, by direct instrumentation.

These describe work that this process did, so they live and count here, in a registry of their own; what is known of
pipelines is described in `exporter.metrics`.
"""

import platform
from collections.abc import Iterable

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    GCCollector,
    Histogram,
    Info,
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

_CACHED = "Cached: set by polls, not by the scrape."
_OTHER = "other"
_ERROR_CODES = 100
_WORDS = 100
_WORD_LENGTH = 64

REQUEST_BUCKETS = (0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
POLL_BUCKETS = (0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 20.0, 40.0, 60.0, 120.0, 300.0)


class Telemetry:
    """The exporter's own metrics, in one registry."""

    def __init__(self, *, created_series: bool = False, shard: Shard | None = None) -> None:
        # prometheus-client keeps this as a switch of the process and reads it when a metric is exposed.
        if created_series:
            enable_created_metrics()
        else:
            disable_created_metrics()
        self.registry = registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        PlatformCollector(registry=registry)
        GCCollector(registry=registry)
        Info(
            "pipeline_exporter_build",
            "Version of the exporter and of the Python it runs on.",
            registry=registry,
        ).info({"version": __version__, "python": platform.python_version()})
        if shard is not None:
            Gauge(
                "pipeline_exporter_shard_index",
                "Which of the exporters that share one configuration this is, from 0.",
                registry=registry,
            ).set(shard.index)
            Gauge(
                "pipeline_exporter_shards",
                "How many exporters share one configuration, each with its own part of the pipelines.",
                registry=registry,
            ).set(shard.total)
        self._has_state = False
        self._state_up = Gauge(
            "pipeline_exporter_state_up",
            "1 if the state could be written when it last had to be, 0 if not: then nothing is counted until it can. Only "
            f"with state.path. {_CACHED}",
            registry=None,
        )
        project = ["project"]
        self._project_up = Gauge(
            "pipeline_exporter_project_up",
            "1 if every request of the last refresh, and of any active poll since, was answered; 0 from the start "
            f"and after a failure. {_CACHED}",
            ["project", "provider"],
            registry=registry,
        )
        self._last_poll = Gauge(
            "pipeline_exporter_last_poll_timestamp_seconds",
            "When the last refresh of the project ended, well or not, in epoch seconds; absent before the first.",
            project,
            unit="seconds",
            registry=registry,
        )
        self._last_success = Gauge(
            "pipeline_exporter_last_success_timestamp_seconds",
            "When the last refresh ended that left pipeline_exporter_project_up at 1, in epoch seconds; the start of "
            "the process until there was one.",
            project,
            unit="seconds",
            registry=registry,
        )
        self._poll_duration = Histogram(
            "pipeline_exporter_poll_duration_seconds",
            "How long refreshes took; a refresh is one pass over all pipelines of a project.",
            project,
            buckets=POLL_BUCKETS,
            unit="seconds",
            registry=registry,
        )
        self._poll_interval = Gauge(
            "pipeline_exporter_poll_interval_seconds",
            "The configured poll.interval: how often every pipeline is asked about.",
            project,
            unit="seconds",
            registry=registry,
        )
        self._polls_skipped = Counter(
            "pipeline_exporter_polls_skipped_total",
            "Polls that were due while the one before still ran.",
            project,
            registry=registry,
        )
        self._pipelines = Gauge(
            "pipeline_exporter_pipelines",
            "Pipelines of the project that this exporter watches: configured and discovered.",
            project,
            registry=registry,
        )
        self._refused = Gauge(
            "pipeline_exporter_pipelines_refused",
            "Pipelines left out of batches: refused when asked about alone, or with answers that cannot be read.",
            project,
            registry=registry,
        )
        self._unresolved = Gauge(
            "pipeline_exporter_runs_unresolved",
            "Runs known to exist whose end is still to be learnt: hidden by a newer one while they were under way, or "
            "known by their number alone.",
            project,
            registry=registry,
        )
        self._credentials = Gauge(
            "pipeline_exporter_credentials_valid",
            "1 if the provider accepted the project's credentials when it last judged them, 0 if it refused them. "
            "Absent before it did.",
            project,
            registry=registry,
        )
        self._expiry = Gauge(
            "pipeline_exporter_credentials_expiry_timestamp_seconds",
            "When the project's credentials end, in epoch seconds: renewed by the exporter (auto), or by you (manual, "
            "from auth.expires). Absent where nobody tells.",
            ["project", "renewal"],
            unit="seconds",
            registry=registry,
        )
        self._requests = Counter(
            "pipeline_exporter_api_requests_total",
            "Requests sent to the provider, by operation and outcome: code is the HTTP status; invalid if a 2xx body "
            "is not the operation's shape; timeout or connect if no answer came.",
            ["provider", "project", "operation", "code"],
            registry=registry,
        )
        self._errors = Counter(
            "pipeline_exporter_api_errors_total",
            "Requests that failed, by the vendor's error code, or by the code of "
            "pipeline_exporter_api_requests_total where the vendor gave none.",
            ["provider", "project", "operation", "error_code"],
            registry=registry,
        )
        self._request_duration = Histogram(
            "pipeline_exporter_api_request_duration_seconds",
            "How long requests to the provider took, from send to the last byte or the failure.",
            ["provider", "operation"],
            buckets=REQUEST_BUCKETS,
            unit="seconds",
            registry=registry,
        )
        self._retries = Counter(
            "pipeline_exporter_api_retries_total",
            "Requests sent again after a failure that may pass.",
            project,
            registry=registry,
        )
        self._throttled = Counter(
            "pipeline_exporter_api_throttled_total",
            "Answers by which the provider asked for fewer requests.",
            project,
            registry=registry,
        )
        self._rejected = Counter(
            "pipeline_exporter_rejected_records_total",
            "Records of the provider's answers that could not be used, by reason; each costs itself only.",
            ["project", "reason"],
            registry=registry,
        )
        self._unknown_words = Counter(
            "pipeline_exporter_unknown_words_total",
            "How often a word of the provider had no translation and was shown as unknown.",
            ["provider", "field", "word"],
            registry=registry,
        )
        self._withheld = Gauge(
            "pipeline_exporter_series_withheld",
            f"Series of the project that are not exposed because of limits.max_series. {_CACHED}",
            project,
            registry=registry,
        )
        self._not_rendered = Counter(
            "pipeline_exporter_render_failures_total",
            "Times that a family of metrics could not be written for a pipeline, or would have had a series twice: a "
            "fault of this program, told in the log. It costs that family of that pipeline, not the page.",
            ["family"],
            registry=registry,
        )
        self._error_codes: dict[str, set[str]] = {}
        self._words: set[tuple[str, str, str]] = set()

    def state(self, *, up: bool) -> None:
        """Whether the state could be written; it is shown from the first time on."""
        if not self._has_state:
            self._has_state = True
            self.registry.register(self._state_up)
        self._state_up.set(up)

    def start(self, project: str, provider: str, *, pipelines: int, interval: float, now: float) -> None:
        """Make a project's series exist, with what is true before its first poll."""
        self._project_up.labels(project, provider).set(0)
        self._last_success.labels(project).set(now)
        self._poll_interval.labels(project).set(interval)
        self._pipelines.labels(project).set(pipelines)
        self._poll_duration.labels(project)
        for gauge in (self._refused, self._unresolved, self._withheld):
            gauge.labels(project)
        for counter in (self._polls_skipped, self._retries, self._throttled):
            counter.labels(project)
        for reason in REJECTIONS:
            self._rejected.labels(project, reason)

    def polled(
        self, project: str, provider: str, *, up: bool, refresh: bool, seconds: float, now: float
    ) -> None:
        """A poll has ended at `now`."""
        self._project_up.labels(project, provider).set(1 if up else 0)
        if refresh:
            self._last_poll.labels(project).set(now)
            self._poll_duration.labels(project).observe(seconds)
            if up:
                self._last_success.labels(project).set(now)

    def watched(self, project: str, *, pipelines: int, refused: int, unresolved: int) -> None:
        """How many pipelines and runs a poll left in which state."""
        self._pipelines.labels(project).set(pipelines)
        self._refused.labels(project).set(refused)
        self._unresolved.labels(project).set(unresolved)

    def withheld(self, project: str, series: int) -> None:
        """How many series of a project a page does not show."""
        self._withheld.labels(project).set(series)

    def not_rendered(self, family: str, times: int) -> None:
        """A family could not be written for some pipelines."""
        self._not_rendered.labels(family).inc(times)

    def credentials(self, project: str, *, valid: bool) -> None:
        """The provider has judged the credentials."""
        self._credentials.labels(project).set(1 if valid else 0)

    def credentials_expire(self, project: str, renewal: str, at: float | None) -> None:
        """The present credentials end at `at`, in epoch seconds; None if nobody tells."""
        self._expiry.remove_by_labels({"project": project})
        if at is not None:
            self._expiry.labels(project, renewal).set(at)

    def skipped(self, project: str) -> None:
        """A poll was due while the one before still ran."""
        self._polls_skipped.labels(project).inc()

    def requested(self, project: str, provider: str, operation: str, code: str, seconds: float) -> None:
        """A request has ended, with an answer or without."""
        self._requests.labels(provider, project, operation, code).inc()
        self._request_duration.labels(provider, operation).observe(seconds)

    def failed(self, project: str, provider: str, operation: str, failure: RequestFailure) -> None:
        """A request has failed."""
        code = redact(failure.error_code or failure.code, _WORD_LENGTH)
        known = self._error_codes.setdefault(project, set())
        if code not in known and len(known) >= _ERROR_CODES:
            code = _OTHER
        known.add(code)
        self._errors.labels(provider, project, operation, code).inc()

    def retried(self, project: str) -> None:
        """A request is sent again."""
        self._retries.labels(project).inc()

    def throttled(self, project: str) -> None:
        """The provider asked for fewer requests."""
        self._throttled.labels(project).inc()

    def rejected(self, project: str, reason: str, records: int = 1) -> None:
        """Count records that could not be used."""
        self._rejected.labels(project, reason).inc(records)

    def unknown_words(self, provider: str, words: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
        """Words had no translation; returns those never met before."""
        new = []
        for field, word in sorted(words):
            short = redact(word, _WORD_LENGTH)
            key = (provider, field, short)
            if key not in self._words:
                if len(self._words) >= _WORDS:
                    self._unknown_words.labels(provider, field, _OTHER).inc()
                    continue
                self._words.add(key)
                new.append((field, short))
            self._unknown_words.labels(*key).inc()
        return new
