"""Alibaba Cloud Yunxiao Flow: which requests to make, and what their answers say."""

import math
from collections.abc import Mapping
from typing import Literal

import msgspec

from exporter.auth.aliyun import authentication
from exporter.core.failures import FailureKind, RequestFailure
from exporter.core.model import Run
from exporter.core.redaction import redact
from exporter.providers.decoding import UnusableRecordError
from exporter.providers.flow.dialects import GET_RUN, LIST_PIPELINES, LIST_RUNS, PAGE_SIZE, dialect_of
from exporter.providers.flow.errors import read_failure
from exporter.providers.flow.fields import FIELDS, SERVICE
from exporter.providers.flow.project import PERSONAL_ENDPOINT, SIGNED_ENDPOINT, Project
from exporter.providers.flow.records import DetailRecord, PipelineRecord, Reader, RunRecord, decode
from exporter.providers.protocol import (
    ActivityRows,
    ApiRequest,
    ListPage,
    PageCursor,
    PipelineRows,
    RunDetail,
    RunRows,
    TimeWindow,
)
from exporter.providers.rows import readable_rows
from exporter.providers.values import fill

__all__ = ["FIELDS", "PERSONAL_ENDPOINT", "SERVICE", "SIGNED_ENDPOINT", "Flow", "Project", "authentication"]


class Flow:
    """A Flow organization, by either generation of the API."""

    name = "flow"
    page_size = PAGE_SIZE
    """Rows to ask for in a page of pipelines."""
    runs_page_size = PAGE_SIZE
    """Rows to ask for in a page of runs."""
    zone_key = ""
    lists_are_summaries = True
    batched: Literal[False] = False

    def __init__(self, project: Project) -> None:
        self._dialect = dialect_of(project)

    def pipelines_request(self, place: PageCursor) -> ApiRequest:
        """ListPipelines, in an order that nobody tells."""
        return self._dialect.call(LIST_PIPELINES, query=self._dialect.page(place))

    def read_pipelines(self, body: bytes, _: float, headers: Mapping[str, str]) -> PipelineRows:
        """Names alone: the list tells nothing of runs."""
        listing = PipelineRows()
        listing.pipelines = self._names(body, headers, listing)
        listing.incomplete = len(listing.pipelines) < listing.rows
        return listing

    def activity_request(self, place: PageCursor, executed: TimeWindow | None) -> ApiRequest:
        """ListPipelines with a filter, which is for the last run of each."""
        if executed is None:
            wanted: tuple[tuple[str, str], ...] = (("statusList", "RUNNING,WAITING"),)
        else:
            since, until = math.floor(executed.since * 1000), math.ceil(executed.until * 1000)
            wanted = (("executeStartTime", str(since)), ("executeEndTime", str(until)))
        return self._dialect.call(LIST_PIPELINES, query=(*self._dialect.page(place), *wanted))

    def read_activity(self, body: bytes, headers: Mapping[str, str]) -> ActivityRows:
        """The rows are those of any list of pipelines: none tells what it fits the filter by."""
        sweep = ActivityRows()
        sweep.pipelines = list(self._names(body, headers, sweep))
        return sweep

    def runs_request(self, pipeline: str, place: PageCursor, _: int) -> ApiRequest:
        """ListPipelineRuns, which knows no order to ask for; it was seen to tell the newest first."""
        return self._dialect.call(LIST_RUNS, pipeline, query=self._dialect.page(place))

    def read_runs(self, body: bytes, pipeline: str, _: float, headers: Mapping[str, str]) -> RunRows:
        """A row that names no pipeline is of the one that was asked about."""
        found = RunRows()
        reader = Reader(found)

        def read(raw: msgspec.Raw) -> Run:
            return reader.run(decode(raw, RunRecord), pipeline)

        return fill(found, self._dialect.rows(LIST_RUNS, body, headers, found), pipeline, read)

    def detail_request(self, pipeline: str, run: str) -> ApiRequest:
        """GetPipelineRun."""
        return self._dialect.call(GET_RUN, pipeline, run)

    def read_detail(self, body: bytes, pipeline: str, _: float) -> RunDetail:
        """A run, with its stages and their jobs."""
        detail = RunDetail()
        try:
            record = decode(self._dialect.run(body), DetailRecord)
            detail.run = Reader(detail).detail(record, pipeline)
        except UnusableRecordError as error:
            detail.reject(error.reason, str(error))
        return detail

    def failure(
        self, call: ApiRequest, status: int, headers: Mapping[str, str], body: bytes
    ) -> RequestFailure | None:
        """Why an answer is not a success, or None if it has the shape of the operation."""
        if call.operation == LIST_PIPELINES:
            body = readable_rows(body)
        failure = read_failure(call, self._dialect, status, headers, body)
        if failure is None and call.operation != GET_RUN:
            try:
                self._dialect.rows(call.operation, body, headers, ListPage())
            except UnusableRecordError as error:
                # Not an empty page, which would be the end of the list.
                words = f"{call.operation} answered a page that cannot be read: {error}"
                return RequestFailure(kind=FailureKind.UNREADABLE, code="invalid", message=words)
        return failure

    def _names(self, body: bytes, headers: Mapping[str, str], page: ListPage) -> dict[str, str]:
        """The names of the pipelines of a page by their ids; each row is read alone."""
        names: dict[str, str] = {}
        for raw in self._dialect.rows(LIST_PIPELINES, readable_rows(body), headers, page):
            page.rows += 1
            try:
                record = decode(raw, PipelineRecord)
                names[record.identity] = redact(record.title)
            except UnusableRecordError as error:
                page.reject(error.reason, str(error))
        return names
