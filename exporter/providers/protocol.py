"""What a provider is: it describes requests and reads answers, and touches neither sockets nor clocks.

A provider is one cloud's language: paths, wire records, words, error codes. Everything that it returns is in the
words of `exporter.model`.
"""

from collections.abc import Mapping, Sequence
from typing import Literal, Protocol, runtime_checkable

import msgspec

from exporter.core.failures import RequestFailure
from exporter.core.model import Run


class ApiRequest(msgspec.Struct, frozen=True, kw_only=True):
    """A request to make, before it is signed."""

    operation: str
    """The vendor's name of the operation, as in its documentation."""
    method: str
    path: str
    """Percent-encoded, below the endpoint."""
    query: tuple[tuple[str, str], ...] = ()
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes = b""
    object_limit: int = 50_000
    """Most JSON objects in the answer; braces within its texts count, too."""


MESSAGES = 100
"""Rejected records of an answer whose messages are kept."""


class Decoded(msgspec.Struct, kw_only=True):
    """What is to be noted of any answer."""

    rejected: list[tuple[str, str]] = []
    """The first records that could not be used: a reason out of `REJECTIONS`, and a message."""
    further_rejected: dict[str, int] = {}
    """How many other records could not be used, by reason."""
    words: set[tuple[str, str]] = set()
    """Words without translation: the field and the vendor's word."""
    implausible_times: str = ""
    """The first stage whose start lies outside its run under the configured time zone, in words."""

    def reject(self, reason: str, message: str) -> None:
        """Count a record that could not be used, and keep the message of the first ones."""
        if len(self.rejected) < MESSAGES:
            self.rejected.append((reason, message))
        else:
            self.further_rejected[reason] = self.further_rejected.get(reason, 0) + 1


class LatestRuns(Decoded, kw_only=True):
    """What an answer to a batch request says."""

    runs: dict[str, Run] = {}
    """The latest run of each pipeline that has one, by pipeline id."""
    unusable: set[str] = set()
    """Pipelines whose record could not be used: the answer says nothing of them, not that they have no run."""
    incomplete: bool = False
    """Whether there were such records that do not even name their pipeline, so that absence proves nothing."""


class PageCursor(msgspec.Struct, frozen=True):
    """Where a page of a list begins, by whatever a cloud goes by."""

    rows: int = 0
    """Rows of the pages before it."""
    pages: int = 0
    """How many pages those were."""
    token: str = ""
    """What the last of them told to ask on with."""

    def after(self, page: "ListPage") -> "PageCursor":
        """Where the page after this one begins."""
        return PageCursor(self.rows + page.rows, self.pages + 1, page.token)


class ListPage(Decoded, kw_only=True):
    """What any page of a list says."""

    rows: int = 0
    """How many rows the page had, used or not."""
    token: str = ""
    """What to ask for the next page with, where the cloud goes by that."""
    last: bool = False
    """Whether the cloud says that nothing follows. An empty page is the last in any case."""


class PipelineRows(ListPage, kw_only=True):
    """What a page of the list of pipelines says."""

    pipelines: dict[str, str] = {}
    """The name of each pipeline of this project, by id."""
    runs: dict[str, Run] = {}
    """The latest run of each that has one, by pipeline id."""
    unusable: set[str] = set()
    """Pipelines whose latest run could not be used: the page says nothing of it, not that there is none."""
    incomplete: bool = False
    """Whether it has rows whose pipeline could not be read, so that absence proves nothing."""


class ActivityRows(ListPage, kw_only=True):
    """What a page of the list of those pipelines says whose last run fits a filter."""

    pipelines: list[str] = []
    """Their ids."""


class TimeWindow(msgspec.Struct, frozen=True):
    """A span of time, in epoch seconds."""

    since: float
    until: float


class RunRows(ListPage, kw_only=True):
    """What a page of the list of a pipeline's runs says."""

    runs: list[Run] = []
    """The runs of the rows that could be used, in the page's order, each id once."""
    unreadable: int = 0
    """How many further rows may be of the pipeline: what run they tell could not be read."""

    @property
    def incomplete(self) -> bool:
        """Whether the page has runs whose number it does not tell, so that a number's absence proves nothing."""
        return self.unreadable > 0 or any(run.number is None for run in self.runs)


class RunDetail(Decoded, kw_only=True):
    """What the details of a run say."""

    run: Run | None = None
    """The run with its jobs and steps; None if it could not be read."""


REJECTIONS = ("unreadable", "no_pipeline_id", "no_run_id", "not_requested", "duplicate", "wrong_number")
"""Why a record of an answer is not used; of one with a wrong number only the number is not."""


class Provider(Protocol):
    """One project of one cloud. What `read_…` takes is the body of an answer, `headers` being keyed in lower case."""

    name: str
    page_size: int
    """Rows to ask for in a page of pipelines."""
    runs_page_size: int
    """Rows to ask for at most in a page of runs."""
    zone_key: str
    """The key of the configuration that says how times without a zone are read; empty if there are none."""
    lists_are_summaries: bool
    """Whether rows of run lists lack stages, which only run details have."""

    def pipelines_request(self, place: PageCursor) -> ApiRequest:
        """The request for a page of the pipelines of the project."""

    def read_pipelines(self, body: bytes, now: float, headers: Mapping[str, str]) -> PipelineRows:
        """Read the answer to `listing`; `now` is the answer's own clock, in epoch seconds, here and below."""

    def runs_request(self, pipeline: str, place: PageCursor, limit: int) -> ApiRequest:
        """The request for a page of the runs of a pipeline, the one that started last first where that can be asked for.

        A cloud that counts in pages gives all in one size, whatever the `limit`. A run that starts meanwhile moves the
        others on by a row, so that the next page may show one again.
        """

    def read_runs(self, body: bytes, pipeline: str, now: float, headers: Mapping[str, str]) -> RunRows:
        """Read the answer to `runs` of a pipeline."""

    def detail_request(self, pipeline: str, run: str) -> ApiRequest:
        """The request for the details of a run."""

    def read_detail(self, body: bytes, pipeline: str, now: float) -> RunDetail:
        """Read the answer to `detail` of a run of a pipeline."""

    def failure(
        self, call: ApiRequest, status: int, headers: Mapping[str, str], body: bytes
    ) -> RequestFailure | None:
        """Why an answer is not a success, or None if it has the shape of the operation.

        Only the shape is judged: single records may still be unreadable.
        """


@runtime_checkable
class SupportsBatchQuery(Provider, Protocol):
    """A project of a cloud that returns the latest runs of many pipelines in one answer, stages included."""

    batched: Literal[True]

    def batch_request(self, ids: Sequence[str]) -> ApiRequest:
        """The request for the latest runs of some pipelines."""

    def read_batch(self, body: bytes, ids: Sequence[str], now: float) -> LatestRuns:
        """Read the answer to `batch(ids)`."""


@runtime_checkable
class SupportsActivityQuery(Provider, Protocol):
    """A project of a cloud that returns runs of one pipeline at a time, and lists recently active pipelines."""

    batched: Literal[False]

    def activity_request(self, place: PageCursor, executed: TimeWindow | None) -> ApiRequest:
        """The request for a page of the pipelines whose last run began in a window; without one, whose last is under way."""

    def read_activity(self, body: bytes, headers: Mapping[str, str]) -> ActivityRows:
        """Read the answer to `sweep`."""


AnyProvider = SupportsBatchQuery | SupportsActivityQuery
