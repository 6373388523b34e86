"""Interface of a provider, and the types that it returns.

A provider knows one cloud: paths, records, status values, error codes. It describes requests and decodes responses
into `exporter.core.model`, without I/O and without a clock.
"""

from collections.abc import Mapping, Sequence
from typing import Literal, Protocol, runtime_checkable

import msgspec

from exporter.core.failures import RequestFailure
from exporter.core.model import Run


class ApiRequest(msgspec.Struct, frozen=True, kw_only=True):
    """Request to send, not yet signed."""

    operation: str
    """Name in the vendor's API reference."""
    method: str
    path: str
    """Percent-encoded, relative to the endpoint."""
    query: tuple[tuple[str, str], ...] = ()
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes = b""
    object_limit: int = 50_000
    """Maximum JSON objects in the response; braces in its strings count as well."""


MESSAGES = 100
"""Maximum number of rejected records of a response whose messages are kept."""

REJECTIONS = ("unreadable", "no_pipeline_id", "no_run_id", "not_requested", "duplicate", "wrong_number")
"""Reasons to reject a record. With `wrong_number` only the number is not used."""


class Decoded(msgspec.Struct, kw_only=True):
    """Anomalies found while decoding a response."""

    rejected: list[tuple[str, str]] = []
    """Reason and message of the first rejected records."""
    further_rejected: dict[str, int] = {}
    """Number of other rejected records by reason."""
    unknown_values: set[tuple[str, str]] = set()
    """Fields and values that have no translation, as pairs."""
    implausible_times: str = ""
    """The first stage that starts outside its run in the configured time zone, described for a log line."""

    def reject(self, reason: str, message: str) -> None:
        """Add a rejected record."""
        if len(self.rejected) < MESSAGES:
            self.rejected.append((reason, message))
        else:
            self.further_rejected[reason] = self.further_rejected.get(reason, 0) + 1


class LatestRuns(Decoded, kw_only=True):
    """Latest runs of several pipelines."""

    runs: dict[str, Run] = {}
    """By pipeline id. A pipeline that never ran is absent."""
    unusable: set[str] = set()
    """Ids of pipelines whose record was rejected: their latest run is unknown."""
    incomplete: bool = False
    """Whether a rejected record has no usable pipeline id, so that any absent pipeline may have a run."""


class PageCursor(msgspec.Struct, frozen=True):
    """Position of a page in a list, as an offset, a page number and a token. Each cloud uses one of them."""

    rows: int = 0
    """Number of rows on all pages before."""
    pages: int = 0
    """Number of pages before."""
    token: str = ""
    """Token from the page before; empty on the first page."""

    def after(self, page: "ListPage") -> "PageCursor":
        """Return the position of the page after `page`."""
        return PageCursor(self.rows + page.rows, self.pages + 1, page.token)


class ListPage(Decoded, kw_only=True):
    """One page of a list."""

    rows: int = 0
    """Number of rows on the page, including rejected ones."""
    token: str = ""
    """Token of the next page, if the cloud uses tokens."""
    last: bool = False
    """Whether the cloud reports that this is the last page. An empty page is always the last one."""


class PipelineRows(ListPage, kw_only=True):
    """One page of the pipelines of a project."""

    pipelines: dict[str, str] = {}
    """Names by pipeline id."""
    runs: dict[str, Run] = {}
    """Latest runs by pipeline id, where the list has them."""
    unusable: set[str] = set()
    """Ids of pipelines whose latest run was rejected: it is unknown."""
    incomplete: bool = False
    """Whether a row without usable pipeline id was rejected, so that absence from the list proves nothing."""


class ProjectRows(ListPage, kw_only=True):
    """One page of the projects of an account."""

    projects: dict[str, str] = {}
    """Names by project id; empty where the list has none."""
    incomplete: bool = False
    """Whether a row without usable project id was rejected, so that absence from the list proves nothing."""


class ActivityRows(ListPage, kw_only=True):
    """One page of the pipelines with recent activity."""

    pipelines: list[str] = []
    """Pipeline ids."""


class TimeWindow(msgspec.Struct, frozen=True):
    """Span of time in Unix seconds."""

    since: float
    until: float


class RunRows(ListPage, kw_only=True):
    """One page of the runs of a pipeline."""

    runs: list[Run] = []
    """Runs in the order of the page, each id once."""
    unreadable: int = 0
    """Number of rows that belong, or may belong, to the pipeline and whose run is unknown."""

    @property
    def incomplete(self) -> bool:
        """Whether the page has rows whose run number is unknown, so that the absence of a number proves nothing."""
        return self.unreadable > 0 or any(run.number is None for run in self.runs)


class RunDetail(Decoded, kw_only=True):
    """Details of a run."""

    run: Run | None = None
    """Run with stages, jobs and steps; None if it was rejected."""


class Service(Protocol):
    """Service of a cloud whose responses are classified."""

    name: str
    """The cloud."""

    def failure(
        self, request: ApiRequest, status: int, headers: Mapping[str, str], body: bytes
    ) -> RequestFailure | None:
        """Classify a response that is an error or has an unexpected shape; return None for a success.

        Single records of a success may still be unreadable.
        """


class Provider(Service, Protocol):
    """Describes requests about one project of a cloud, and decodes the responses.

    A method `…_request` returns a request, and `read_…` decodes the body of a successful response to it. In the latter,
    `now` is the provider's time in Unix seconds, and `headers` have lower-case names. Decoding rejects single records; it
    raises no errors after `failure` returned None.
    """

    page_size: int
    """Rows to request in a page of pipelines."""
    runs_page_size: int
    """Maximum rows to request in a page of runs."""
    zone_key: str
    """Configuration key of the time zone for times without a zone; empty if the cloud sends no such times."""
    lists_are_summaries: bool
    """Whether rows of run lists lack stages, which only run details have."""

    def pipelines_request(self, cursor: PageCursor) -> ApiRequest:
        """Return the request for a page of the pipelines of the project."""

    def read_pipelines(self, body: bytes, now: float, headers: Mapping[str, str]) -> PipelineRows:
        """Decode a page of pipelines."""

    def runs_request(self, pipeline: str, cursor: PageCursor, limit: int) -> ApiRequest:
        """Return the request for a page of at most `limit` runs of a pipeline, newest start first.

        A cloud with page numbers ignores the limit; one without a sort key returns its own order. A run that starts
        between two requests shifts the rows, so that the next page may repeat one.
        """

    def read_runs(self, body: bytes, pipeline: str, now: float, headers: Mapping[str, str]) -> RunRows:
        """Decode a page of the runs of a pipeline."""

    def detail_request(self, pipeline: str, run: str) -> ApiRequest:
        """Return the request for the details of a run."""

    def read_detail(self, body: bytes, pipeline: str, now: float) -> RunDetail:
        """Decode the details of a run of a pipeline."""


@runtime_checkable
class SupportsBatchQuery(Provider, Protocol):
    """Provider of a cloud that returns the latest runs of many pipelines, with stages, in one response."""

    batched: Literal[True]

    def batch_request(self, ids: Sequence[str]) -> ApiRequest:
        """Return the request for the latest runs of pipelines."""

    def read_batch(self, body: bytes, ids: Sequence[str], now: float) -> LatestRuns:
        """Decode the response to `batch_request(ids)`."""


@runtime_checkable
class SupportsActivityQuery(Provider, Protocol):
    """Provider of a cloud that returns runs of one pipeline per request, and can list recently active pipelines."""

    batched: Literal[False]

    def activity_request(self, cursor: PageCursor, executed: TimeWindow | None) -> ApiRequest:
        """Return the request for a page of pipelines whose last run started in a window or, for None, is in progress."""

    def read_activity(self, body: bytes, headers: Mapping[str, str]) -> ActivityRows:
        """Decode a page of active pipelines."""


@runtime_checkable
class KnowsRetention(Provider, Protocol):
    """Provider of a cloud that reports how long runs are kept."""

    def retention_request(self, detail: bytes) -> ApiRequest | None:
        """Return the request for how many days runs are kept; None if the details of a run lack what it needs."""

    def read_retention(self, body: bytes) -> int | None:
        """Return how many days runs are kept; None if the response has no such number."""


class SupportsProjectList(Service, Protocol):
    """Describes requests for the list of all projects of a cloud that a user may see, and decodes the responses."""

    page_size: int
    """Rows to request in a page."""
    max_pages: int
    """Number of pages that can be requested."""

    def projects_request(self, cursor: PageCursor) -> ApiRequest:
        """Return the request for a page of the projects."""

    def read_projects(self, body: bytes, now: float, headers: Mapping[str, str]) -> ProjectRows:
        """Decode a page of projects."""


AnyProvider = SupportsBatchQuery | SupportsActivityQuery
