"""Requests to Flow and their responses, in either generation of the API.

Source: the API reference, https://help.aliyun.com/zh/yunxiao/developer-reference/.
"""

import math
from collections.abc import Mapping
from typing import Literal

import msgspec

from exporter.core.failures import RequestFailure
from exporter.core.model import Run
from exporter.core.redaction import redact
from exporter.providers.decoding import UnusableRecordError
from exporter.providers.flow.dialects import GET_RUN, LIST_PIPELINES, LIST_RUNS, PAGE_SIZE, dialect_of
from exporter.providers.flow.errors import read_failure, unreadable_page
from exporter.providers.flow.project import FlowProject
from exporter.providers.flow.records import (
    FlowDecoder,
    FlowDetailRecord,
    FlowPipelineRecord,
    FlowRunRecord,
    decode,
)
from exporter.providers.pages import add_runs
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
from exporter.providers.row_repair import readable_rows


class FlowProvider:
    """Provider of one Flow organization."""

    name = "flow"
    page_size = PAGE_SIZE
    runs_page_size = PAGE_SIZE
    zone_key = ""
    lists_are_summaries = True
    batched: Literal[False] = False

    def __init__(self, project: FlowProject) -> None:
        self._dialect = dialect_of(project)
        self._run_url = project.run_url

    def pipelines_request(self, cursor: PageCursor) -> ApiRequest:
        """Return a ListPipelines request. The order of the list is undocumented."""
        return self._dialect.request(LIST_PIPELINES, query=self._dialect.page_query(cursor))

    def read_pipelines(self, body: bytes, _: float, headers: Mapping[str, str]) -> PipelineRows:
        """Decode a page of pipelines. The list has names only, no runs."""
        found = PipelineRows()
        found.pipelines = self._names(body, headers, found)
        found.incomplete = len(found.pipelines) < found.rows
        return found

    def activity_request(self, cursor: PageCursor, executed: TimeWindow | None) -> ApiRequest:
        """Return a ListPipelines request with a filter on the last run of each pipeline."""
        if executed is None:
            filters: tuple[tuple[str, str], ...] = (("statusList", "RUNNING,WAITING"),)
        else:
            since, until = math.floor(executed.since * 1000), math.ceil(executed.until * 1000)
            filters = (("executeStartTime", str(since)), ("executeEndTime", str(until)))
        return self._dialect.request(LIST_PIPELINES, query=(*self._dialect.page_query(cursor), *filters))

    def read_activity(self, body: bytes, headers: Mapping[str, str]) -> ActivityRows:
        """Decode a page of active pipelines. Its rows have names only, neither status nor time."""
        found = ActivityRows()
        found.pipelines = list(self._names(body, headers, found))
        return found

    def runs_request(self, pipeline: str, cursor: PageCursor, _: int) -> ApiRequest:
        """Return a ListPipelineRuns request. It has no sort key; in practice the newest run comes first."""
        return self._dialect.request(LIST_RUNS, pipeline, query=self._dialect.page_query(cursor))

    def read_runs(self, body: bytes, pipeline: str, _: float, headers: Mapping[str, str]) -> RunRows:
        """Decode a page of runs. A row without pipeline id belongs to the requested pipeline."""
        found = RunRows()
        decoder = FlowDecoder(found, self._run_url)

        def translate(raw: msgspec.Raw) -> Run:
            return decoder.run(decode(raw, FlowRunRecord), pipeline)

        return add_runs(found, self._dialect.rows(LIST_RUNS, body, headers, found), pipeline, translate)

    def detail_request(self, pipeline: str, run: str) -> ApiRequest:
        """Return a GetPipelineRun request."""
        return self._dialect.request(GET_RUN, pipeline, run)

    def read_detail(self, body: bytes, pipeline: str, _: float) -> RunDetail:
        """Decode a run with stages and jobs."""
        detail = RunDetail()
        try:
            record = decode(self._dialect.run(body), FlowDetailRecord)
            detail.run = FlowDecoder(detail, self._run_url).detail(record, pipeline)
        except UnusableRecordError as error:
            detail.reject(error.reason, str(error))
        return detail

    def failure(
        self, request: ApiRequest, status: int, headers: Mapping[str, str], body: bytes
    ) -> RequestFailure | None:
        """Classify a response that is an error or has an unexpected shape; return None for a success."""
        operation = request.operation
        if operation == LIST_PIPELINES:
            body = readable_rows(body)
        failure = read_failure(request, self._dialect, status, headers, body)
        if failure is None and operation != GET_RUN:
            try:
                self._dialect.rows(operation, body, headers, ListPage())
            except UnusableRecordError as error:
                return unreadable_page(operation, error)
        return failure

    def _names(self, body: bytes, headers: Mapping[str, str], page: ListPage) -> dict[str, str]:
        """Return the names in a page of pipelines, by id. A rejected row does not affect the others."""
        names: dict[str, str] = {}
        for raw in self._dialect.rows(LIST_PIPELINES, readable_rows(body), headers, page):
            page.rows += 1
            try:
                record = decode(raw, FlowPipelineRecord)
                names[record.valid_id] = redact(record.any_name)
            except UnusableRecordError as error:
                page.reject(error.reason, str(error))
        return names
