"""Report in log and metrics when a project goes down, and when it is up again."""

import logging

from exporter.core.clock import Clock
from exporter.core.hourly_warnings import HourlyWarnings
from exporter.polling.cause import PAGE, Cause
from exporter.polling.outage_log import OutageLog
from exporter.polling.outcome import PollOutcome
from exporter.polling.project_health import Change, Outage, ProjectHealth
from exporter.telemetry.recorder import Telemetry

_log = logging.getLogger("exporter.polling.health_reporter")


def cause_fields(cause: Cause) -> dict[str, str]:
    """Return the log fields for the cause of an outage."""
    return {
        "operation": cause.operation,
        "code": cause.code,
        "error_code": cause.error_code,
        "request_id": cause.request_id,
        "error": cause.message,
        "remedy": f"{PAGE}#{cause.remedy}",
    }


class HealthReporter:
    """Keeps the health of one project, and reports its changes."""

    def __init__(
        self, project: str, provider: str, telemetry: Telemetry, clock: Clock, warnings: HourlyWarnings
    ) -> None:
        """`warnings` are those of the project."""
        self._project = project
        self._provider = provider
        self._telemetry = telemetry
        self._clock = clock
        self._warnings = warnings
        self._outage_log = OutageLog()
        self.health = ProjectHealth()

    def refresh_ended(
        self,
        outcome: PollOutcome,
        *,
        requests: int,
        seconds: float,
        log: bool,
        pipelines: int | None = None,
        projects: int | None = None,
    ) -> None:
        """Record the result of a refresh; without `log`, report it in the metrics only.

        `projects` is the number of projects that an entry of the configuration has found, which has no `pipelines`.
        """
        now = self._clock.monotonic()
        change = self.health.refreshed(
            failed=outcome.failed,
            answered=outcome.answered,
            causes=outcome.causes,
            monotonic=now,
            now=self._clock.time(),
        )
        self._update_telemetry()
        if not log:
            return
        outage = self.health.outage
        if outage is not None:
            if change is Change.DOWN:
                self._outage_log.begin(outage, now)
            self._report_outage(outage, now)
            return
        if change is Change.UP:
            _log.info(
                "project up",
                extra={
                    "id": "project-up",
                    "project": self._project,
                    "pipelines": pipelines,
                    "projects": projects,
                    "requests": requests,
                    "seconds": round(seconds, 2),
                },
            )
        elif change is Change.UP_AGAIN and self.health.last_outage is not None:
            self._report_recovery(self.health.last_outage, now, pipelines, projects)
        if not self.health.failing:
            self._warnings.flush(self._outage_log.warnings_left(now))

    def _update_telemetry(self) -> None:
        outage = self.health.outage
        if outage is None:
            self._telemetry.set_project_down(self._project, self._provider, None)
            return
        cause = outage.cause
        self._telemetry.set_project_down(
            self._project,
            self._provider,
            outage.since,
            operation=cause.operation,
            code=cause.code,
            error_code=cause.error_code,
        )

    def _report_outage(self, outage: Outage, now: float) -> None:
        lines = self._outage_log
        lines.failures += self._warnings.take()
        known = lines.logged
        if not lines.take_line(outage, now, self._warnings.recent):
            return
        failures, lines.failures = lines.failures, 0
        age = round(now - outage.began)
        if not known:
            _log.error(
                "project down",
                extra={
                    "id": "project-down",
                    "project": self._project,
                    "seconds": age,
                    "failures": failures,
                    **cause_fields(outage.cause),
                },
            )
        else:
            _log.error(
                "project still down",
                extra={
                    "id": "project-still-down",
                    "project": self._project,
                    "seconds": age,
                    "failures": failures,
                    **cause_fields(outage.cause),
                },
            )

    def _report_recovery(
        self, outage: Outage, now: float, pipelines: int | None, projects: int | None
    ) -> None:
        if not self._outage_log.take_end(now):
            return
        failures, self._outage_log.failures = self._outage_log.failures, 0
        _log.info(
            "project up again",
            extra={
                "id": "project-up-again",
                "project": self._project,
                "pipelines": pipelines,
                "projects": projects,
                "failures": failures,
                "seconds": round(now - outage.began),
            },
        )
