"""Find the projects of an entry of the configuration: read the provider's list of projects, as pipelines are discovered."""

import logging
from collections.abc import Mapping

from exporter.client.api_client import ApiClient, ApiError
from exporter.client.rate_limiter import RateLimiter
from exporter.config.project_section import ProjectSearch
from exporter.core.clock import Clock
from exporter.polling.cause import Cause
from exporter.polling.health_reporter import HealthReporter
from exporter.polling.list_caution import ListCaution
from exporter.polling.membership import ABSENCES
from exporter.polling.outcome import PollOutcome
from exporter.polling.reporter import PollReporter
from exporter.providers.protocol import PageCursor, SupportsProjectList
from exporter.telemetry.recorder import Telemetry

_EMPTY = "the list of projects is empty; most likely the user is not a member of any project"

_log = logging.getLogger("exporter.polling.project_finder")


class ProjectFinder:
    """Finds the projects of one entry, and keeps them up to date."""

    def __init__(
        self,
        entry: str,
        search: ProjectSearch,
        directory: SupportsProjectList,
        api: ApiClient,
        *,
        rate_limiter: RateLimiter,
        known: Mapping[str, str],
        retry: float,
        telemetry: Telemetry,
        clock: Clock,
    ) -> None:
        """`known` are the projects found before (names by id); `retry` is the pause after a failure, in seconds."""
        self.entry = entry
        self.search = search
        self.api = api
        self.rate_limiter = rate_limiter
        """The request budget that all projects of the entry share."""
        self._directory = directory
        self._retry = retry
        self._telemetry = telemetry
        self._clock = clock
        self._reporter = PollReporter(entry, directory.name, telemetry, api.warnings, zone_key="")
        self._health_reporter = HealthReporter(entry, directory.name, telemetry, clock, api.warnings)
        self.health = self._health_reporter.health
        """Whether the list can be read, since when not and why."""
        self._names = {identity: name for identity, name in known.items() if search.names.matches(name)}
        self._absences = dict.fromkeys(self._names, 0)
        self._caution = ListCaution("projects", _EMPTY)
        # There were at least these, so a list that shrank since then is not believed either.
        self._caution.size = len(known) or None
        self.searched = False
        """Whether the list was read, or could not be read, at least once."""
        self.up = False
        """Whether the list could be read the last time."""
        self.cause: Cause | None = None
        """Why the list could not be read, or was not believed, the last time."""
        self.last_search: float | None = None
        """When the list was last read, in Unix seconds; None before the first time."""
        self.next_search = clock.monotonic()
        """When the list is to be read, in monotonic seconds."""

    @property
    def projects(self) -> Mapping[str, str]:
        """Names of the found projects by id."""
        return self._names

    @property
    def provider(self) -> str:
        """The provider's name."""
        return self._directory.name

    async def read(self, *, once: bool = False) -> None:
        """Read the list, and update the found projects. A failure keeps them. With `once`, do not log the result."""
        started, sent = self._clock.monotonic(), self.api.sent
        outcome = PollOutcome()
        try:
            names, complete = await self._pages(outcome)
        except ApiError as error:
            outcome.record_error(error)
        else:
            doubt = self._caution.doubt(names)
            if doubt:
                operation = self._directory.projects_request(PageCursor()).operation
                outcome.record_gap(Cause(operation, "implausible", message=doubt, remedy="implausible-list"))
            else:
                self._apply(names, complete=complete)
        if once and outcome.failed:
            # No second reading follows, which would decide whether the entry is down.
            outcome.answered = False
        self.cause = next(iter(outcome.causes), None)
        now = self._clock.monotonic()
        self.searched, self.up, self.last_search = True, not outcome.failed, self._clock.time()
        self.next_search = now + (self.search.interval if self.up else min(self._retry, self.search.interval))
        self._telemetry.poll_ended(
            self.entry,
            self.provider,
            up=self.up,
            refresh=True,
            seconds=now - started,
            now=self.last_search,
        )
        self._reporter.failures(outcome)
        self._health_reporter.refresh_ended(
            outcome,
            projects=len(self._names),
            requests=self.api.sent - sent,
            seconds=now - started,
            log=not once,
        )

    async def _pages(self, outcome: PollOutcome) -> tuple[dict[str, str], bool]:
        """Return the names of all listed projects by id, and whether every row could be read."""
        names: dict[str, str] = {}
        complete, short = True, False
        cursor = PageCursor()
        while True:
            answer = await self.api.send(self._directory.projects_request(cursor))
            outcome.record_success()
            page = self._directory.read_projects(answer.body, answer.now, answer.headers)
            self._reporter.record_anomalies(page)
            complete = complete and not page.incomplete
            # A page without a new project comes from a cloud that ignores the offset.
            if not page.rows or (page.projects and names.keys() >= page.projects.keys()):
                return names, complete
            # Rows after a short page mean that the cloud returns less than requested, and so has skipped rows.
            complete = complete and not short
            short = page.rows < self._directory.page_size
            names = page.projects | names
            cursor = cursor.after(page)
            if cursor.pages >= self._directory.max_pages:
                return names, False

    def _apply(self, found: Mapping[str, str], *, complete: bool) -> None:
        """Update the projects with a list that is believed. One leaves after `ABSENCES` complete lists without it."""
        before = self._names
        listed = {one: name or before.get(one, one) for one, name in found.items()}
        absences = {one: self._absences[one] + complete for one in before if one not in found}
        after = {one: before[one] for one, times in absences.items() if times < ABSENCES}
        after |= {one: name for one, name in listed.items() if self.search.names.matches(name)}
        # A new mapping, since a reload may read the old one in another thread.
        self._names, self._absences = after, {one: absences.get(one, 0) for one in after}
        added, removed = after.keys() - before.keys(), before.keys() - after.keys()
        renamed = sum(1 for one in before.keys() & after.keys() if before[one] != after[one])
        if added or removed or renamed:
            _log.info(
                "projects found",
                extra={
                    "project": self.entry,
                    "projects": len(self._names),
                    "detail": f"{len(added)} added, {len(removed)} removed, {renamed} renamed",
                },
            )

    def postpone(self) -> None:
        """Read the list again after the pause that follows a failure."""
        self.next_search = self._clock.monotonic() + self._retry

    async def close(self) -> None:
        """Close the connections."""
        await self.api.close()
