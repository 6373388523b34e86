"""Log and count what is unusual in the polls of a project: failures, rejected records, runs that are given up."""

import logging
from collections.abc import Iterable

from exporter.client.api_client import ApiError
from exporter.polling.outcome import PollOutcome
from exporter.providers.protocol import Decoded
from exporter.telemetry.recorder import Telemetry
from exporter.tracking.views import Misnumbered, MissedRuns

_LOGGED = 1000
"""Most distinct warnings of a project that are logged once each."""

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

    def __init__(self, project: str, provider: str, telemetry: Telemetry, *, zone_key: str = "") -> None:
        """`zone_key` is the configuration key of the time zone that stage times are read in."""
        self._project = project
        self._provider = provider
        self._telemetry = telemetry
        self._zone_key = zone_key
        self._logged: set[tuple[str, ...]] = set()

    def record_anomalies(self, decoded: Decoded) -> None:
        """Count the anomalies of an answer, and log each the first time."""
        for reason, message in decoded.rejected:
            self._telemetry.records_rejected(self._project, self._provider, reason)
            if self._is_new("record-rejected", reason, message):
                _log.warning(
                    "record rejected",
                    extra={
                        "id": "record-rejected",
                        "project": self._project,
                        "reason": reason,
                        "error": message,
                    },
                )
        for reason, records in decoded.further_rejected.items():
            self._telemetry.records_rejected(self._project, self._provider, reason, records)
        for field, value in self._telemetry.unknown_values(self._provider, decoded.unknown_values):
            if self._is_new("unknown-value", field, value):
                _log.warning(
                    "unknown value, showing it as unknown",
                    extra={"id": "unknown-value", "project": self._project, "field": field, "value": value},
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

    def _is_new(self, *key: str) -> bool:
        """Return True the first time that a warning is due; False also where too many have been logged."""
        if key in self._logged or len(self._logged) >= _LOGGED:
            return False
        self._logged.add(key)
        return True

    def misnumbered(self, misnumbered: Iterable[Misnumbered]) -> None:
        """Count runs reported with a wrong number, and log the first of each pipeline."""
        for one in misnumbered:
            self._telemetry.records_rejected(self._project, self._provider, "wrong_number")
            if self._is_new("wrong-run-number", one.pipeline.id):
                _log.warning(
                    "wrong run number, ignoring it",
                    extra={
                        "id": "wrong-run-number",
                        "project": self._project,
                        "pipeline": one.pipeline.id,
                        "run": one.run.id,
                        "number": one.run.number,
                    },
                )

    def missed(self, missed: Iterable[MissedRuns]) -> None:
        """Log runs that will not be counted any more."""
        for one in missed:
            _log.warning(
                "giving up on runs",
                extra={
                    "id": "runs-given-up",
                    "project": self._project,
                    "pipeline": one.pipeline.id,
                    "runs": one.runs,
                    "reason": one.why,
                },
            )

    def failures(self, outcome: PollOutcome) -> None:
        """Log what failed in a poll, once by operation and code."""
        for count, error in outcome.errors:
            _log.warning(
                "poll failed",
                extra={
                    "id": "poll-failed",
                    "project": self._project,
                    "requests": count,
                    **error_fields(error),
                },
            )

    def pipeline_refused(self, pipeline: str, error: ApiError) -> None:
        """Log that a pipeline is left out of most polls since the provider refuses its id."""
        _log.warning(
            "pipeline refused, polling it rarely from now on",
            extra={
                "id": "pipeline-refused",
                "project": self._project,
                "pipeline": pipeline,
                **error_fields(error),
            },
        )

    def pipeline_unreadable(self, pipeline: str) -> None:
        """Log that a pipeline is polled alone since its answers cannot be read."""
        _log.warning(
            "cannot read the answers about a pipeline, polling it alone",
            extra={"id": "pipeline-unreadable", "project": self._project, "pipeline": pipeline},
        )

    def names_not_listed(self, error: ApiError) -> None:
        """Log that the names of pipelines are not available."""
        _log.warning(
            "cannot list pipeline names, using ids",
            extra={"id": "names-not-listed", "project": self._project, **error_fields(error)},
        )

    def activity_not_listed(self, error: ApiError) -> None:
        """Log that the provider does not list recently active pipelines."""
        _log.warning(
            "cannot list recently active pipelines, querying each one",
            extra={"id": "activity-not-listed", "project": self._project, **error_fields(error)},
        )
