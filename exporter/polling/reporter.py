"""What is told of the polls of a project: failures once a poll, surprises once, what was missed."""

import logging
from collections.abc import Iterable

import msgspec

from exporter.client.api_client import ApiError
from exporter.core.failures import FailureKind
from exporter.providers.protocol import Decoded
from exporter.telemetry.recorder import Telemetry
from exporter.tracking.views import Misnumbered, MissedRuns

FAILURES = 3
"""Requests in a row that may fail before the rest of a poll is given up: then it is not the request."""

HOPELESS = frozenset(
    {FailureKind.CREDENTIALS, FailureKind.NOT_SENT, FailureKind.PROJECT, FailureKind.THROTTLED}
)
"""Faults that whatever else is asked would meet too."""

_TOLD = 1000

# One name for all that is told of polls, whichever part of them it comes from.
_log = logging.getLogger("exporter.polling.poller")


class PollOutcome(msgspec.Struct):
    """How a poll goes."""

    failed: int = 0
    in_a_row: int = 0
    over: bool = False
    """Whether what is left would meet the same failure."""
    hopeless: bool = False
    """Whether whatever else is asked would."""
    failures: dict[tuple[str, str, str], tuple[int, ApiError]] = {}
    """By operation, code and error code: how often, and the first."""
    covered: bool = False
    """Whether a list has already reported the latest runs of pipelines in this poll."""
    refusals: dict[str, ApiError] = {}
    """Why ids were refused alone."""

    def note(self, error: ApiError, hopeless: frozenset[FailureKind] = HOPELESS) -> None:
        """A request failed, other than for its content."""
        failure = error.failure
        key = (error.operation, failure.code, failure.error_code)
        count, first = self.failures.get(key, (0, error))
        self.failures[key] = (count + 1, first)
        self.failed += 1
        self.in_a_row += 1
        self.hopeless = self.hopeless or failure.kind in hopeless
        self.over = self.over or self.hopeless or self.in_a_row >= FAILURES


class PollReporter:
    """Where the polls of one project are told."""

    def __init__(self, project: str, provider: str, telemetry: Telemetry, *, zone_key: str = "") -> None:
        """`zone_key` is the provider's."""
        self._zone_key = zone_key
        self._project = project
        self._provider = provider
        self._telemetry = telemetry
        self._told: set[str] = set()

    def record_anomalies(self, decoded: Decoded) -> None:
        """Count what surprises in an answer, and tell it the first time."""
        for reason, words in decoded.rejected:
            self._telemetry.rejected(self._project, reason)
            self._once(f"a record was rejected ({reason}): {words}")
        for reason, records in decoded.further_rejected.items():
            self._telemetry.rejected(self._project, reason, records)
        for field, word in self._telemetry.unknown_words(self._provider, decoded.unknown_values):
            self._once(f"{word!r} is no known {field}, shown as unknown")
        if decoded.implausible_times:
            self._once(
                "a stage starts outside its run, so start times of such stages are left out: "
                f"is {self._zone_key} right?",
                f" (first seen at {decoded.implausible_times})",
            )

    def _once(self, text: str, detail: str = "") -> None:
        if text not in self._told and len(self._told) < _TOLD:
            self._told.add(text)
            _log.warning("%s%s", text, detail, extra={"project": self._project})

    def misnumbered(self, misnumbered: Iterable[Misnumbered]) -> None:
        """Count runs reported with a wrong number, and log the first of each pipeline."""
        for one in misnumbered:
            self._telemetry.rejected(self._project, "wrong_number")
            seen = f"wrong_number {one.pipeline.id}"
            if seen not in self._told and len(self._told) < _TOLD:
                self._told.add(seen)
                _log.warning(
                    "ignored a wrong run number",
                    extra={
                        "project": self._project,
                        "pipeline": one.pipeline.id,
                        "run": one.run.id,
                        "number": one.run.number,
                    },
                )

    def missed(self, missed: Iterable[MissedRuns]) -> None:
        """Tell that runs were given up."""
        for one in missed:
            _log.warning(
                "runs of pipeline %s are missed, %d of them: %s",
                one.pipeline.id,
                one.runs,
                one.why,
                extra={"project": self._project},
            )

    def failures(self, outcome: PollOutcome) -> None:
        """Tell what failed in a poll, each kind once."""
        for count, error in outcome.failures.values():
            self.warn(f"poll failed in {count} requests" if count > 1 else "poll failed", error)

    def unreadable(self, pipeline: str) -> None:
        """Log that a pipeline is singled out since its answers cannot be read."""
        _log.warning(
            "cannot read the answers about a pipeline, polling it alone",
            extra={"project": self._project, "pipeline": pipeline},
        )

    def warn(self, text: str, error: ApiError) -> None:
        """Tell a failure."""
        failure = error.failure
        _log.warning(
            "%s: %s",
            text,
            failure.message,
            extra={
                "project": self._project,
                "operation": error.operation,
                "code": failure.code,
                "error_code": failure.error_code,
                "request_id": failure.request_id,
            },
        )
