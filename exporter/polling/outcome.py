"""Failures of one poll, and whether its remaining requests are worth sending."""

from collections.abc import Iterable, Sequence

from exporter.client.api_client import ApiError
from exporter.core.failures import FailureKind
from exporter.polling.cause import Cause, cause

FAILURES_IN_A_ROW = 3
"""Consecutive failed requests after which a poll ends, because the cause is then not a single request."""

FATAL = frozenset(FailureKind) - {FailureKind.TRANSIENT, FailureKind.CONTENT, FailureKind.UNREADABLE}
"""Kinds of failures that would affect every other request of the project, too."""


class PollOutcome:
    """Failures of one poll, and whether the poll continues."""

    def __init__(self, *, fatal: frozenset[FailureKind] = FATAL) -> None:
        """A single failure of a kind in `fatal` ends the poll."""
        self._fatal_kinds = fatal
        self._in_a_row = 0
        self._errors: dict[tuple[str, str, str], tuple[int, ApiError]] = {}
        self._causes: dict[tuple[str, str, str], Cause] = {}
        self.failed = False
        """True if the poll did not get every response that it needs."""
        self.answered = False
        """True if a request was answered."""
        self.ended = False
        """True if the rest of the poll would meet the same failure."""
        self.fatal = False
        """True if every other request would fail for the same reason."""

    @property
    def errors(self) -> Iterable[tuple[int, ApiError]]:
        """Number of failed requests and the first error, by operation and code."""
        return self._errors.values()

    @property
    def causes(self) -> Sequence[Cause]:
        """Why the poll failed, the first cause first."""
        return tuple(self._causes.values())

    @property
    def refused(self) -> bool:
        """True if the provider refused the project."""
        return any(error.failure.kind is FailureKind.PROJECT for _, error in self.errors)

    def record_success(self) -> None:
        """Record that a request was answered."""
        self._in_a_row = 0
        self.answered = True

    def record_error(self, error: ApiError, *, ends_poll: bool = True) -> None:
        """Record that a request failed.

        Without `ends_poll` this error does not end the poll, but the next one may end it because of both.
        """
        failure = error.failure
        key = (error.operation, failure.code, failure.error_code)
        count, first = self._errors.get(key, (0, error))
        self._errors[key] = (count + 1, first)
        self._causes.setdefault(key, cause(error))
        self.failed = True
        self._in_a_row += 1
        self.fatal = self.fatal or failure.kind in self._fatal_kinds
        if ends_poll and (self.fatal or self._in_a_row >= FAILURES_IN_A_ROW):
            self.ended = True

    def record_gap(self, reason: Cause | None = None) -> None:
        """Record that the poll lacks responses for a reason other than an error."""
        self.failed = True
        if reason is not None:
            self._causes.setdefault(reason.key, reason)
