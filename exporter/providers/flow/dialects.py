"""The two generations of Flow's API: paths, pagination and envelopes.

Source: https://help.aliyun.com/zh/yunxiao/developer-reference/listpipelineruns and the pages next to it for personal
tokens; https://help.aliyun.com/document_detail/460566.html, the pages next to it and the vendor's SDK for signed requests.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

import msgspec

from exporter.providers.decoding import PIPELINE_ROWS, ROWS, UNREADABLE, Text, UnusableRecordError, rows, text
from exporter.providers.flow.project import FlowProject
from exporter.providers.flow.records import decode
from exporter.providers.protocol import ApiRequest, ListPage, PageCursor

LIST_PIPELINES = "ListPipelines"
LIST_RUNS = "ListPipelineRuns"
GET_RUN = "GetPipelineRun"

PAGE_SIZE = 30
"""Rows to request in a page: the maximum of the API of personal tokens. That of the signed API is undocumented."""

Query = tuple[tuple[str, str], ...]


def dialect_of(project: FlowProject) -> "Dialect":
    """Return the dialect of the API generation that a project uses."""
    organization = quote(project.organization_id, safe="")
    if not project.personal:
        return SignedDialect(f"/organization/{organization}/pipelines", "pipelineRuns")
    # In the region edition the domain identifies the organization.
    parent = f"/organizations/{organization}" if project.edition == "central" else ""
    return PersonalDialect(f"/oapi/v1/flow{parent}/pipelines", "runs")


class Dialect(ABC):
    """Paths, pagination and envelopes of one API generation."""

    def __init__(self, pipelines: str, runs: str) -> None:
        """`pipelines` is the path of all pipelines, `runs` the segment between a pipeline's id and its runs."""
        self._pipelines = pipelines
        self._runs = runs

    def request(self, operation: str, *ids: str, query: Query = ()) -> ApiRequest:
        """Return the request for an operation on all pipelines, on one pipeline id, or on a pipeline and a run id."""
        pipeline, run = ids[:1], ids[1:]
        path = [self._pipelines, *(quote(each, safe="") for each in pipeline)]
        path += [self._runs] if pipeline else []
        path += [quote(each, safe="") for each in run]
        return ApiRequest(
            operation=operation,
            method="GET",
            path="/".join(path),
            query=query,
            headers=(("Accept", "application/json"), *self._headers(operation)),
        )

    @abstractmethod
    def page_query(self, cursor: PageCursor) -> Query:
        """Return the query parameters of a page."""

    @abstractmethod
    def has_result(self, operation: str, value: Any) -> bool | None:
        """Return whether a JSON value has the result of an operation; None for a list that is null."""

    @abstractmethod
    def rows(
        self, operation: str, body: bytes, headers: Mapping[str, str], page: ListPage
    ) -> list[msgspec.Raw]:
        """Return the rows of a response as raw JSON, and set the token or the end of the list in `page`.

        Raises:
            UnusableRecordError: the rows are not an array, or the token is unreadable.

        """

    @abstractmethod
    def run(self, body: bytes) -> msgspec.Raw | bytes:
        """Return the record of the run in a response to GetPipelineRun.

        Raises:
            UnusableRecordError: it is absent.

        """

    @abstractmethod
    def _headers(self, operation: str) -> Query:
        """Return the headers of an operation, without authentication."""


class PersonalDialect(Dialect):
    """API of personal tokens: results without an envelope, page numbers."""

    def page_query(self, cursor: PageCursor) -> Query:
        """Return the query parameters of a page: its number and size."""
        return (("page", str(cursor.pages + 1)), ("perPage", str(PAGE_SIZE)))

    def has_result(self, operation: str, value: Any) -> bool | None:
        """Return whether a JSON value is an array or, for GetPipelineRun, an object with a run number."""
        if operation == GET_RUN:
            return isinstance(value, dict) and "pipelineRunId" in value
        return isinstance(value, list)

    def rows(
        self, operation: str, body: bytes, headers: Mapping[str, str], page: ListPage
    ) -> list[msgspec.Raw]:
        """Return the rows of a response, and set from its headers whether it is the last page."""
        page.last = _is_last(headers)
        return rows(body, _row_limit(operation))

    def run(self, body: bytes) -> bytes:
        """Return the body, which is the record of the run."""
        return body

    def _headers(self, operation: str) -> Query:  # noqa: ARG002  # the path identifies the operation
        return ()


def _row_limit(operation: str) -> int:
    return PIPELINE_ROWS if operation == LIST_PIPELINES else ROWS


def _is_last(headers: Mapping[str, str]) -> bool:
    """Return whether the headers mark the last page, which the number of rows does not show."""
    page, following, total = (
        _positive(headers.get(f"x-{name}", "")) for name in ("page", "next-page", "total-pages")
    )
    if following is None:
        return page is not None and total is not None and page >= total
    return total is not None and following > total


def _positive(digits: str) -> int | None:
    return (
        int(digits) if digits.isascii() and digits.isdecimal() and len(digits) < 10 and int(digits) else None
    )


class _Envelope(msgspec.Struct, rename="camel"):
    """Envelope of the signed API, without its error fields."""

    pipelines: msgspec.Raw = msgspec.Raw(b"null")
    pipeline_runs: msgspec.Raw = msgspec.Raw(b"null")
    pipeline_run: msgspec.Raw = msgspec.Raw(b"null")
    next_token: msgspec.Raw = msgspec.Raw(b"null")


class SignedDialect(Dialect):
    """API of signed requests, version 2021-06-25: results in envelopes, page tokens."""

    def page_query(self, cursor: PageCursor) -> Query:
        """Return the query parameters of a page: its size, and the token from the page before."""
        token = (("nextToken", cursor.token),) if cursor.token else ()
        return (("maxResults", str(PAGE_SIZE)), *token)

    def has_result(self, operation: str, value: Any) -> bool | None:
        """Return whether an envelope has the operation's key; a list may be null, a run may not."""
        if not isinstance(value, dict) or _KEYS[operation] not in value:
            return False
        null = bytes(value[_KEYS[operation]]) == b"null"
        return not null or (False if operation == GET_RUN else None)

    def rows(
        self,
        operation: str,
        body: bytes,
        headers: Mapping[str, str],  # noqa: ARG002  # the token is in the envelope
        page: ListPage,
    ) -> list[msgspec.Raw]:
        """Return the rows of an envelope, and set the token of the next page."""
        envelope = decode(body, _Envelope)
        page.token = _token(envelope.next_token)
        page.last = not page.token
        listed = envelope.pipelines if operation == LIST_PIPELINES else envelope.pipeline_runs
        return rows(listed, _row_limit(operation))

    def run(self, body: bytes) -> msgspec.Raw:
        """Return the record in the envelope."""
        return decode(body, _Envelope).pipeline_run

    def _headers(self, operation: str) -> Query:
        return (("x-acs-action", operation), ("x-acs-version", "2021-06-25"))


_KEYS = {LIST_PIPELINES: "pipelines", LIST_RUNS: "pipelineRuns", GET_RUN: "pipelineRun"}
RESULT_KEYS = frozenset({*_KEYS.values(), "pipelineRunId"})
"""Keys that show that a response, of either generation, has the result of its operation."""


def _token(raw: msgspec.Raw) -> str:
    try:
        return text(msgspec.json.decode(raw, type=Text))
    except UNREADABLE:
        # An unreadable token must not count as the end of the list.
        raise UnusableRecordError("unreadable", "token of the next page is not a string") from None
