"""Log and count anomalies in the polls of a project: failures, rejected records, runs that are given up.

Warnings are held until a refresh has ended, because failures that took the project down are logged as an outage.
"""

import logging
from collections import Counter
from collections.abc import Iterable
from datetime import UTC, datetime
from functools import partial

from exporter.client.api_client import ApiError
from exporter.core.hourly_warnings import HourlyWarnings
from exporter.polling.cause import remedy
from exporter.polling.outcome import PollOutcome
from exporter.providers.protocol import Decoded
from exporter.telemetry import families
from exporter.telemetry.recorder import Telemetry
from exporter.tracking.views import Misnumbered, MissedRuns

_LOGGED = 1000
"""Maximum number of distinct values of a project to log, each once."""

_log = logging.getLogger("exporter.polling.reporter")


def error_fields(error: ApiError) -> dict[str, str]:
    """Return the log fields of a failed request."""
    failure = error.failure
    return {
        "operation": error.operation,
        "code": failure.code,
        "error_code": failure.error_code,
        "request_id": failure.request_id,
        "error": failure.message,
    }


class PollReporter:
    """Logs and counts anomalies of one project's polls."""

    def __init__(
        self,
        project: str,
        provider: str,
        telemetry: Telemetry,
        warnings: HourlyWarnings,
        *,
        zone_key: str = "",
    ) -> None:
        """`warnings` are those of the project; `zone_key` is the configuration key of the time zone of stage times."""
        self._project = project
        self._provider = provider
        self._telemetry = telemetry
        self._warnings = warnings
        self._zone_key = zone_key
        self._logged: set[tuple[str, ...]] = set()
        self._expiry_logged: float | None = None
        """Expiry of the credentials that was last logged, in Unix seconds."""

    # Responses

    def record_anomalies(self, decoded: Decoded) -> None:
        """Count the anomalies of a response, and report them."""
        if decoded.rejected:
            self._records_rejected(decoded)
        for field, value in self._telemetry.unknown_values(self._provider, decoded.unknown_values):
            if self._is_new("unknown-value", field, value):
                _log.info(
                    "unknown value, showing it as unknown",
                    extra={
                        "id": "unknown-value",
                        "project": self._project,
                        "field": field,
                        "value": value,
                        "family": families.UNKNOWN_WORDS.name,
                    },
                )
        if decoded.implausible_times and self._is_new("stage-outside-run"):
            _log.warning(
                "stage starts outside its run, omitting such start times",
                extra={
                    "id": "stage-outside-run",
                    "project": self._project,
                    "detail": decoded.implausible_times,
                    "reason": f"is {self._zone_key} right?",
                },
            )

    def _records_rejected(self, decoded: Decoded) -> None:
        records = Counter(reason for reason, _ in decoded.rejected) + Counter(decoded.further_rejected)
        messages = dict(reversed(decoded.rejected))
        for reason, count in records.items():
            self._telemetry.records_rejected(self._project, self._provider, reason, count)
            log = partial(self._log_rejected, reason, messages.get(reason, ""))
            self._warnings.add(("record-rejected", reason), log, count)

    def _log_rejected(self, reason: str, message: str, records: int) -> None:
        _log.warning(
            "record rejected",
            extra={
                "id": "record-rejected",
                "project": self._project,
                "reason": reason,
                "error": message,
                "records": records,
            },
        )

    def _is_new(self, *key: str) -> bool:
        """Return True the first time for each key; False from then on, and once too many keys have been logged."""
        if key in self._logged or len(self._logged) >= _LOGGED:
            return False
        self._logged.add(key)
        return True

    def misnumbered(self, misnumbered: Iterable[Misnumbered]) -> None:
        """Count runs reported with a wrong number, and report them."""
        for one in misnumbered:
            self._telemetry.records_rejected(self._project, self._provider, "wrong_number")
            self._warnings.add(("wrong-run-number",), partial(self._log_misnumbered, one), of_outage=False)

    def _log_misnumbered(self, first: Misnumbered, records: int) -> None:
        _log.warning(
            "wrong run number, ignoring it",
            extra={
                "id": "wrong-run-number",
                "project": self._project,
                "pipeline": first.pipeline.id,
                "run": first.run.id,
                "number": first.run.number,
                "records": records,
            },
        )

    def missed(self, missed: Iterable[MissedRuns]) -> None:
        """Report runs that will not be counted any more."""
        for one in missed:
            log = partial(self._log_missed, one)
            self._warnings.add(("runs-given-up", one.why), log, one.runs, of_outage=False)

    def _log_missed(self, first: MissedRuns, runs: int) -> None:
        _log.warning(
            "giving up on runs",
            extra={
                "id": "runs-given-up",
                "project": self._project,
                "pipeline": first.pipeline.id,
                "runs": runs,
                "reason": first.why,
            },
        )

    # Failures

    def failures(self, outcome: PollOutcome) -> None:
        """Report the failures of a poll, once for each remedy."""
        for count, error in outcome.errors:
            fields = error_fields(error)
            _log.debug("poll failed", extra={"project": self._project, "requests": count, **fields})
            kind = ("poll-failed", remedy(error.failure))
            self._warnings.add(kind, partial(self._log_failed, error), count)

    def _log_failed(self, first: ApiError, requests: int) -> None:
        _log.warning(
            "poll failed",
            extra={
                "id": "poll-failed",
                "project": self._project,
                "requests": requests,
                **error_fields(first),
            },
        )

    def poll_skipped(self) -> None:
        """Count and report a poll that was due while the previous one was running."""
        self._telemetry.poll_skipped(self._project, self._provider)
        self._warnings.add(("poll-skipped",), self._log_skipped)

    def _log_skipped(self, polls: int) -> None:
        _log.warning(
            "poll skipped, the previous one is still running",
            extra={"id": "poll-skipped", "project": self._project, "polls": polls},
        )

    def pipeline_refused(self, pipeline: str, error: ApiError) -> None:
        """Report that a pipeline is left out of most polls because the provider refuses its id."""
        log = partial(self._log_refused, pipeline, error)
        self._warnings.add(("pipeline-refused",), log, of_outage=False)

    def _log_refused(self, first: str, error: ApiError, pipelines: int) -> None:
        _log.warning(
            "pipeline refused, polling it rarely from now on",
            extra={
                "id": "pipeline-refused",
                "project": self._project,
                "pipeline": first,
                "pipelines": pipelines,
                **error_fields(error),
            },
        )

    def pipeline_unreadable(self, pipeline: str) -> None:
        """Report that a pipeline is polled alone because responses about it cannot be read."""
        self._warnings.add(("pipeline-unreadable",), partial(self._log_unreadable, pipeline), of_outage=False)

    def _log_unreadable(self, first: str, pipelines: int) -> None:
        _log.warning(
            "cannot read the answers about a pipeline, polling it alone",
            extra={
                "id": "pipeline-unreadable",
                "project": self._project,
                "pipeline": first,
                "pipelines": pipelines,
            },
        )

    def implausible_list(self, pipelines: int, reason: str) -> None:
        """Report that a list of pipelines is not believed."""
        # Logged at once, because it has the likely cause of the failures that follow.
        self._warnings.log_now(("implausible-list",), partial(self._log_implausible, pipelines, reason))

    def _log_implausible(self, pipelines: int, reason: str, failures: int) -> None:
        _log.warning(
            "implausible list of pipelines, keeping the known ones",
            extra={
                "id": "implausible-list",
                "project": self._project,
                "pipelines": pipelines,
                "reason": reason,
                "failures": failures,
            },
        )

    def names_not_listed(self, error: ApiError) -> None:
        """Report that the names of pipelines are not available."""
        self._warnings.add(("names-not-listed",), partial(self._log_names, error))

    def _log_names(self, error: ApiError, failures: int) -> None:
        _log.warning(
            "cannot list pipeline names, using ids",
            extra={
                "id": "names-not-listed",
                "project": self._project,
                "failures": failures,
                **error_fields(error),
            },
        )

    def activity_not_listed(self, error: ApiError) -> None:
        """Report that the provider does not list recently active pipelines."""
        self._warnings.add(("activity-not-listed",), partial(self._log_activity, error))

    def _log_activity(self, error: ApiError, failures: int) -> None:
        _log.warning(
            "cannot list recently active pipelines, querying each one",
            extra={
                "id": "activity-not-listed",
                "project": self._project,
                "failures": failures,
                **error_fields(error),
            },
        )

    # Credentials

    def credentials_expire(self, expiry: float | None, now: float) -> None:
        """Log once that manually renewed credentials have passed their configured expiry (Unix seconds)."""
        if expiry is None or expiry > now or expiry == self._expiry_logged:
            return
        self._expiry_logged = expiry
        _log.warning(
            "credentials have expired",
            extra={
                "id": "credentials-expired",
                "project": self._project,
                "value": datetime.fromtimestamp(expiry, UTC).isoformat(),
            },
        )
