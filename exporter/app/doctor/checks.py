"""Names and results of the checks."""

from enum import StrEnum

import msgspec

from exporter.client.api_client import ApiError
from exporter.polling.cause import PAGE, remedy


class CheckState(StrEnum):
    """Result of a check."""

    OK = "ok"
    WARNING = "warning"
    FAULT = "fault"


class Name(StrEnum):
    """Names of the checks in printing order: those of a project, then those of this machine."""

    RESOLUTION = "name resolution"
    TLS = "TLS"
    PROJECTS = "projects"
    CLOCK = "clock"
    ANSWER = "answer"
    CREDENTIALS = "credentials"
    PERMISSION = "permission"
    MEMBERSHIP = "membership"
    PIPELINES = "pipelines"
    RECORDS = "records"
    BATCH = "batch limit"
    RETENTION = "retention"
    RUNS = "run list"
    DETAILS = "details"
    REQUESTS = "requests"
    SERIES = "series"
    STATE = "state folder"
    ADDRESS = "listen address"


class Check(msgspec.Struct, frozen=True, kw_only=True):
    """The result of a check."""

    project: str | None = None
    """None for a check of this machine."""
    check: Name
    state: CheckState = CheckState.OK
    detail: str
    remedy: str = ""
    """What to do about a warning or fault; empty if the check is ok."""


def ok(check: Name, detail: str) -> Check:
    """Return the result of a check that found no problem."""
    return Check(check=check, detail=detail)


def warning(check: Name, detail: str, remedy: str) -> Check:
    """Return the result of a check that found a possible problem."""
    return Check(check=check, state=CheckState.WARNING, detail=detail, remedy=remedy)


def fault(check: Name, detail: str, remedy: str) -> Check:
    """Return the result of a check that found why a project is down, or why the exporter does not start."""
    return Check(check=check, state=CheckState.FAULT, detail=detail, remedy=remedy)


def failed(check: Name, error: ApiError, *, state: CheckState = CheckState.FAULT) -> Check:
    """Return the result of a check whose request failed."""
    failure = error.failure
    codes = " ".join(code for code in (failure.code, failure.error_code) if code)
    return Check(
        check=check,
        state=state,
        detail=f"{error.operation} failed: {codes}: {failure.message}",
        remedy=entry(remedy(failure)),
    )


def entry(heading: str) -> str:
    """Return a reference to the entry of the documentation with this heading."""
    return f"see {PAGE}#{heading}"
