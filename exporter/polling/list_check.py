"""Compare the provider's list of pipelines with the configuration: ids it lacks, patterns that select nothing."""

import logging
import re
from collections.abc import Collection, Iterator, Mapping

from exporter.polling.membership import Membership, membership_hint
from exporter.providers.registry import AnyProject
from exporter.telemetry.recorder import Telemetry

_SHOWN = 20
"""Maximum number of ids in a log line."""

_log = logging.getLogger("exporter.polling.list_check")


class ListCheck:
    """Reports mistakes in the configuration of one project that a list of its pipelines shows."""

    def __init__(
        self, project: AnyProject, membership: Membership, telemetry: Telemetry, *, max_age: float
    ) -> None:
        """`max_age` is the time in seconds without a response after which the gauges are withdrawn."""
        self._project = project
        self._membership = membership
        self._telemetry = telemetry
        self._max_age = max_age
        self._patterns = dict(_patterns(project))
        """Patterns that no list has been compared with yet, by key."""
        self._not_listed: tuple[str, ...] = ()
        self._unselective: list[tuple[str, str, str]] = []
        """Key, pattern and hint of patterns to log."""
        self._logged: set[str] = set()
        """Ids that have been logged."""
        self._shown = False
        self._confirmed_at = 0.0
        """When the provider last responded about the project, in monotonic seconds."""
        self.empty = False
        """Whether the last list was empty."""

    def compare(self, found: Mapping[str, str], *, complete: bool) -> None:
        """Compare a believed list, as names by id, with the configuration. `complete`: every row could be read."""
        membership = self._membership
        lacking = membership.not_listed(found) if membership.has_configured else ()
        known = membership.has_configured and (complete or not lacking)
        self._not_listed = lacking if known else ()
        self.empty = not found
        selected = membership.selected(found)
        self._telemetry.set_listed(
            self._project.name,
            self._project.provider,
            not_listed=len(lacking) if known else None,
            selected=None if selected is None else (selected, len(found) - selected),
        )
        self._shown = True
        if found and self._patterns:
            # Labels go by the configured name where there is one.
            names = {*found.values(), *(pipeline.name for pipeline in membership.pipelines())}
            self._unselective = [
                (key, pattern.pattern, _hint(pattern, names))
                for key, pattern in self._patterns.items()
                if not any(pattern.fullmatch(name) for name in names)
            ]
            self._patterns = {}

    def log(self) -> None:
        """Log each missing id, and each pattern that selects nothing, once."""
        if new := [one for one in self._not_listed if one not in self._logged]:
            self._logged.update(new)
            more = f", and {len(new) - _SHOWN} more" if len(new) > _SHOWN else ""
            reason = (
                membership_hint(self._project) if self.empty else "deleted, mistyped, or of another project"
            )
            _log.warning(
                "configured pipelines are not in the provider's list",
                extra={
                    "id": "pipelines-not-listed",
                    "project": self._project.name,
                    "pipelines": len(new),
                    "value": ", ".join(new[:_SHOWN]) + more,
                    "reason": reason,
                },
            )
        for key, pattern, hint in self._unselective:
            _log.warning(
                "discover pattern matches no pipeline",
                extra={
                    "id": "pattern-selects-nothing",
                    "project": self._project.name,
                    "field": key,
                    "value": pattern,
                    "reason": hint,
                },
            )
        self._unselective = []

    def refresh_ended(self, now: float, *, answered: bool) -> None:
        """Withdraw the gauges if the last response about the project is `max_age` old; `now` is in monotonic seconds."""
        if answered:
            self._confirmed_at = now
        elif now - self._confirmed_at >= self._max_age:
            self.withdraw()

    def withdraw(self) -> None:
        """Withdraw the gauges, because the list cannot be read."""
        self._not_listed, self.empty = (), False
        if self._shown:
            self._shown = False
            self._telemetry.set_listed(
                self._project.name, self._project.provider, not_listed=None, selected=None
            )


def _patterns(project: AnyProject) -> Iterator[tuple[str, re.Pattern[str]]]:
    if project.discover is None:
        return
    for position, pattern in enumerate(project.discover.include):
        yield f"discover.include[{position}]", pattern
    for position, rule in enumerate(project.discover.labels):
        yield f"discover.labels[{position}].match", rule.match


def _hint(pattern: re.Pattern[str], names: Collection[str]) -> str:
    """Return why a pattern selects nothing, if a likely cause is known."""
    parts = sum(1 for name in names if pattern.search(name))
    if parts:
        return f"it must match the whole name, and matches a part of {parts} names"
    ignoring = re.compile(pattern.pattern, pattern.flags | re.IGNORECASE)
    if any(ignoring.fullmatch(name) for name in names):
        return "case counts: begin it with (?i) to ignore case"
    return ""
