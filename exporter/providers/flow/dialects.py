"""The two generations of Flow's API: where their operations are, and how their pages and envelopes look.

Sources: for that of personal tokens https://help.aliyun.com/zh/yunxiao/developer-reference/listpipelineruns and its
neighbours; for the signed one https://help.aliyun.com/document_detail/460566.html, its neighbours, and the vendor's SDK.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

import msgspec

from exporter.providers.decoding import PIPELINE_ROWS, ROWS, UNREADABLE, Text, UnusableRecordError, rows, text
from exporter.providers.flow.project import Project
from exporter.providers.flow.records import decode
from exporter.providers.protocol import ApiRequest, ListPage, PageCursor

LIST_PIPELINES = "ListPipelines"
LIST_RUNS = "ListPipelineRuns"
GET_RUN = "GetPipelineRun"

PAGE_SIZE = 30
"""The most that the API of personal tokens gives; of the signed one nobody says how much it would."""

Query = tuple[tuple[str, str], ...]


def dialect_of(project: Project) -> "Dialect":
    """How a project is to be asked."""
    organization = quote(project.organization_id, safe="")
    if not project.personal:
        return Signed(f"/organization/{organization}/pipelines", "pipelineRuns")
    # An organization with a domain of its own needs no name in a path.
    within = f"/organizations/{organization}" if project.edition == "central" else ""
    return Personal(f"/oapi/v1/flow{within}/pipelines", "runs")


class Dialect(ABC):
    """How a generation is asked, and how it answers."""

    def __init__(self, pipelines: str, runs: str) -> None:
        """`pipelines` is the path of the pipelines, `runs` what follows one of them in the path of its runs."""
        self._pipelines = pipelines
        self._runs = runs

    def call(self, operation: str, *ids: str, query: Query = ()) -> ApiRequest:
        """The request for an operation on all pipelines, or on one by its id, or on one run of it."""
        pipeline, run = ids[:1], ids[1:]
        path = [self._pipelines, *(quote(one, safe="") for one in pipeline)]
        path += [self._runs] if pipeline else []
        path += [quote(one, safe="") for one in run]
        return ApiRequest(
            operation=operation,
            method="GET",
            path="/".join(path),
            query=query,
            headers=(("Accept", "application/json"), *self._headers(operation)),
        )

    @abstractmethod
    def page(self, place: PageCursor) -> Query:
        """What asks for the page at a place of a list."""

    @abstractmethod
    def gives(self, operation: str, answer: Any) -> bool | None:
        """Whether the JSON value of an answer has what is asked for; None where that is a list, and null."""

    @abstractmethod
    def rows(
        self, operation: str, body: bytes, headers: Mapping[str, str], page: ListPage
    ) -> list[msgspec.Raw]:
        """The rows of an answer, not yet read; notes in `page` what follows it.

        Raises:
            UnusableError: it has none that could be read, or does not tell what follows.

        """

    @abstractmethod
    def run(self, body: bytes) -> msgspec.Raw | bytes:
        """The record of the run that an answer tells.

        Raises:
            UnusableError: there is none.

        """

    @abstractmethod
    def _headers(self, operation: str) -> Query:
        """Headers that an operation is asked with, beside those that prove who asks."""


class Personal(Dialect):
    """The API of personal tokens: bare answers, and pages by their number."""

    def page(self, place: PageCursor) -> Query:
        """The number of the page."""
        return (("page", str(place.pages + 1)), ("perPage", str(PAGE_SIZE)))

    def gives(self, operation: str, answer: Any) -> bool | None:
        """A list is an array, a run an object with a number."""
        if operation == GET_RUN:
            return isinstance(answer, dict) and "pipelineRunId" in answer
        return isinstance(answer, list)

    def rows(
        self, operation: str, body: bytes, headers: Mapping[str, str], page: ListPage
    ) -> list[msgspec.Raw]:
        """The rows; whether pages follow stands in the headers, if anywhere."""
        page.last = _is_last(headers)
        return rows(body, _most(operation))

    def run(self, body: bytes) -> bytes:
        """The answer itself."""
        return body

    def _headers(self, operation: str) -> Query:  # noqa: ARG002  # the path says it all
        return ()


def _most(operation: str) -> int:
    """How many rows of an answer are read."""
    return PIPELINE_ROWS if operation == LIST_PIPELINES else ROWS


def _is_last(headers: Mapping[str, str]) -> bool:
    """Whether headers say that no page follows; that rows are few says nothing."""
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
    """What the signed API puts around what is asked for, beside what errors are told by."""

    pipelines: msgspec.Raw = msgspec.Raw(b"null")
    pipeline_runs: msgspec.Raw = msgspec.Raw(b"null")
    pipeline_run: msgspec.Raw = msgspec.Raw(b"null")
    next_token: msgspec.Raw = msgspec.Raw(b"null")


class Signed(Dialect):
    """The API of signed requests, version 2021-06-25: answers in envelopes, and pages by the token of the one before."""

    def page(self, place: PageCursor) -> Query:
        """The token that the page before told."""
        token = (("nextToken", place.token),) if place.token else ()
        return (("maxResults", str(PAGE_SIZE)), *token)

    def gives(self, operation: str, answer: Any) -> bool | None:
        """The key that the operation's answer stands under; a run must be something, a list may be null."""
        if not isinstance(answer, dict) or _KEYS[operation] not in answer:
            return False
        null = bytes(answer[_KEYS[operation]]) == b"null"
        return not null or (False if operation == GET_RUN else None)

    def rows(
        self,
        operation: str,
        body: bytes,
        headers: Mapping[str, str],  # noqa: ARG002  # the envelope tells all
        page: ListPage,
    ) -> list[msgspec.Raw]:
        """The rows, and the token of the next page."""
        envelope = decode(body, _Envelope)
        page.token = _token(envelope.next_token)
        page.last = not page.token
        listed = envelope.pipelines if operation == LIST_PIPELINES else envelope.pipeline_runs
        return rows(listed, _most(operation))

    def run(self, body: bytes) -> msgspec.Raw:
        """What stands in the envelope."""
        return decode(body, _Envelope).pipeline_run

    def _headers(self, operation: str) -> Query:
        return (("x-acs-action", operation), ("x-acs-version", "2021-06-25"))


_KEYS = {LIST_PIPELINES: "pipelines", LIST_RUNS: "pipelineRuns", GET_RUN: "pipelineRun"}
GIVEN = frozenset({*_KEYS.values(), "pipelineRunId"})
"""The keys of an answer, of either generation, by which it is seen to have what is asked for."""


def _token(raw: msgspec.Raw) -> str:
    try:
        return text(msgspec.json.decode(raw, type=Text))
    except UNREADABLE:
        # Not the end of the list, of which nothing is known then.
        raise UnusableRecordError("unreadable", "the token of the next page is no text") from None
