"""Requests to CodeArts Pipeline and their responses.

Source: the API reference, https://support.huaweicloud.com/intl/en-us/api-pipeline/.
"""

from collections.abc import Mapping, Sequence
from typing import Literal
from urllib.parse import quote

import msgspec

from exporter.core.failures import RequestFailure
from exporter.core.model import Run
from exporter.core.redaction import redact
from exporter.providers.codearts import retention
from exporter.providers.codearts.errors import read_failure, unreadable_page
from exporter.providers.codearts.project import CodeArtsProject
from exporter.providers.codearts.records import (
    CodeArtsDecoder,
    CodeArtsDetailRecord,
    CodeArtsPipelineRecord,
    CodeArtsRunRecord,
    age,
    decode,
    page,
)
from exporter.providers.decoding import UnusableRecordError, split_array, text
from exporter.providers.pages import add_runs, is_pipeline_id, requested_pipeline_id, valid_pipeline_id
from exporter.providers.protocol import (
    ApiRequest,
    Decoded,
    LatestRuns,
    PageCursor,
    PipelineRows,
    RunDetail,
    RunRows,
)
from exporter.providers.response_cache import DecodedRecord, ResponseCache
from exporter.providers.row_repair import readable_rows

BATCH = "BatchShowPipelinesLatestStatus"
LIST_PIPELINES = "ListPipelines"
LIST_RUNS = "ListPipelineRuns"
GET_RUN = "ShowPipelineRunDetail"

# Without a charset, since a gateway rejected the type with one.
_JSON = (("Content-Type", "application/json"),)

# The key of the rows in a page.
_ROWS = {LIST_PIPELINES: "pipelines", LIST_RUNS: "pipeline_runs"}
# The key that a response must have; empty for an array.
_REQUIRED = {BATCH: "", GET_RUN: "status", retention.RETENTION: retention.DAYS, **_ROWS}

OBJECTS = 5000
OBJECTS_EACH = 100
"""Maximum JSON objects in a batch: a fixed number, and a number for each id. A run with fifty stages has about 55."""
OBJECTS_OF_PAGE = 20_000
"""Maximum JSON objects in a page of a list. A hundred runs with fifty stages have about 5,500."""

_OK = 200


def _ids(ids: Sequence[str]) -> bytes:
    return msgspec.json.encode(list(ids))


class CodeArtsProvider:
    """Provider of one CodeArts project."""

    name = "codearts"
    page_size = 100
    """Rows to request; the API may return fewer."""
    runs_page_size = 100
    """Rows to request; the API may return fewer."""
    zone_key = "stage_time_zone"
    lists_are_summaries = False
    batched: Literal[True] = True

    def __init__(self, project: CodeArtsProject) -> None:
        self._project_id = project.scope
        self._path = f"/v5/{project.scope}/api/pipelines"
        self._zone = project.stage_time_zone
        self._run_url = project.run_url
        self._cache = ResponseCache()

    def batch_request(self, ids: Sequence[str]) -> ApiRequest:
        """Return a BatchShowPipelinesLatestStatus request."""
        return ApiRequest(
            operation=BATCH,
            method="POST",
            path=f"{self._path}/status",
            headers=_JSON,
            body=_ids(ids),
            object_limit=OBJECTS + OBJECTS_EACH * len(ids),
        )

    def read_batch(self, body: bytes, ids: Sequence[str], now: float) -> LatestRuns:
        """Decode the latest runs of pipelines. A rejected record does not affect the others."""
        request = _ids(ids)
        batch = self._cache.get_response(request, body)
        if batch is not None:
            return batch
        batch = LatestRuns()
        requested = set(ids)
        cacheable = True
        for raw in split_array(body):
            pipeline = ""
            key = bytes(raw)
            decoded = self._cache.get_record(key)
            try:
                if decoded is not None:
                    pipeline = requested_pipeline_id(decoded.pipeline, requested)
                else:
                    record = decode(raw, CodeArtsRunRecord)
                    pipeline = text(record.pipeline_id)
                    decoded = self._translate(record, requested_pipeline_id(pipeline, requested), now)
                    if decoded.implausible_times and not decoded.run.status.final:
                        # A start in the future may be in the past at the next poll.
                        cacheable = False
                    else:
                        self._cache.put_record(key, decoded)
            except UnusableRecordError as error:
                batch.reject(error.reason, str(error))
                pipeline = pipeline or error.pipeline
                if is_pipeline_id(pipeline):
                    batch.unusable.add(pipeline)
                else:
                    batch.incomplete = True
                continue
            run = decoded.run
            if decoded.unknown_values or decoded.implausible_times:
                batch.unknown_values.update(decoded.unknown_values)
                batch.implausible_times = batch.implausible_times or decoded.implausible_times
            duplicate = batch.runs.get(pipeline)
            if duplicate is not None:
                batch.reject("duplicate", f"several runs of pipeline {pipeline}, using the newest")
                if age(run) < age(duplicate):
                    continue
            batch.runs[pipeline] = run
        batch.unusable = (batch.unusable & requested) - batch.runs.keys()
        if batch.runs and cacheable:
            self._cache.put_response(request, body, batch)
        return batch

    def _translate(self, record: CodeArtsRunRecord, pipeline: str, now: float) -> DecodedRecord:
        """Translate a record into a run, and return it with the record's anomalies."""
        anomalies = Decoded()
        run = CodeArtsDecoder(self._zone, anomalies, now, self._run_url).run(record, pipeline)
        return DecodedRecord(pipeline, run, tuple(anomalies.unknown_values), anomalies.implausible_times)

    def pipelines_request(self, cursor: PageCursor) -> ApiRequest:
        """Return a ListPipelines request, sorted by creation time so that a new pipeline does not shift the pages."""
        body = {
            # Also in the body, because the project in the path alone did not restrict the list.
            "project_id": self._project_id,
            "offset": cursor.rows,
            "limit": self.page_size,
            "sort_key": "create_time",
            "sort_dir": "asc",
        }
        return ApiRequest(
            operation=LIST_PIPELINES,
            method="POST",
            path=f"{self._path}/list",
            headers=_JSON,
            body=msgspec.json.encode(body),
            object_limit=OBJECTS_OF_PAGE,
        )

    def read_pipelines(self, body: bytes, now: float, _: Mapping[str, str]) -> PipelineRows:
        """Decode a page of pipelines, without rows of other projects. A row whose run is unusable still gives a name."""
        found = PipelineRows()
        decoder = CodeArtsDecoder(self._zone, found, now, self._run_url)
        for raw in page(readable_rows(body), "pipelines"):
            found.rows += 1
            pipeline = ""
            try:
                row = decode(raw, CodeArtsPipelineRecord)
                pipeline = valid_pipeline_id(text(row.pipeline_id))
                if text(row.project_id) not in {"", self._project_id}:
                    continue
                found.pipelines[pipeline] = redact(text(row.name))
                if bytes(row.latest_run) not in {b"null", b"{}"}:
                    found.unusable.add(pipeline)
                    found.runs[pipeline] = decoder.run(decode(row.latest_run, CodeArtsRunRecord), pipeline)
            except UnusableRecordError as error:
                found.reject(error.reason, str(error))
                found.incomplete = found.incomplete or not pipeline
        found.unusable -= found.runs.keys()
        return found

    def runs_request(self, pipeline: str, cursor: PageCursor, limit: int) -> ApiRequest:
        """Return a ListPipelineRuns request, newest start first."""
        body = {"offset": cursor.rows, "limit": limit, "sort_key": "start_time", "sort_dir": "desc"}
        return ApiRequest(
            operation=LIST_RUNS,
            method="POST",
            path=f"{self._runs_path(pipeline)}/list",
            headers=_JSON,
            body=msgspec.json.encode(body),
            object_limit=OBJECTS_OF_PAGE,
        )

    def read_runs(self, body: bytes, pipeline: str, now: float, _: Mapping[str, str]) -> RunRows:
        """Decode a page of runs. A row without pipeline id belongs to the requested pipeline."""
        found = RunRows()
        decoder = CodeArtsDecoder(self._zone, found, now, self._run_url)

        def translate(raw: msgspec.Raw) -> Run:
            record = decode(raw, CodeArtsRunRecord)
            owner = requested_pipeline_id(text(record.pipeline_id) or pipeline, {pipeline})
            return decoder.run(record, owner)

        return add_runs(found, page(body, "pipeline_runs"), pipeline, translate)

    def detail_request(self, pipeline: str, run: str) -> ApiRequest:
        """Return a ShowPipelineRunDetail request."""
        return ApiRequest(
            operation=GET_RUN,
            method="GET",
            path=f"{self._runs_path(pipeline)}/detail",
            query=(("pipeline_run_id", run),),
            headers=_JSON,
        )

    def read_detail(self, body: bytes, pipeline: str, now: float) -> RunDetail:
        """Decode a run with stages, jobs and steps."""
        detail = RunDetail()
        try:
            record = decode(body, CodeArtsDetailRecord)
            detail.run = CodeArtsDecoder(self._zone, detail, now, self._run_url).detail(record, pipeline)
        except UnusableRecordError as error:
            detail.reject(error.reason, str(error))
        return detail

    def retention_request(self, detail: bytes) -> ApiRequest | None:
        """Return the request for how many days runs are kept; None if a run's details do not name the account."""
        return retention.request(detail)

    def read_retention(self, body: bytes) -> int | None:
        """Return how many days runs are kept; None if the response has no such number."""
        return retention.days(body)

    def failure(
        self, request: ApiRequest, status: int, headers: Mapping[str, str], body: bytes
    ) -> RequestFailure | None:
        """Classify a response that is an error or has an unexpected shape; return None for a success."""
        if status == _OK and self._cache.get_response(request.body, body) is not None:
            return None
        operation = request.operation
        if operation == LIST_PIPELINES:
            body = readable_rows(body)
        failure = read_failure(request, _REQUIRED[operation], status, headers, body)
        if failure is None and operation in _ROWS:
            try:
                page(body, _ROWS[operation])
            except UnusableRecordError as error:
                return unreadable_page(operation, _ROWS[operation], error, headers)
        return failure

    def _runs_path(self, pipeline: str) -> str:
        return f"{self._path}/{quote(pipeline, safe='')}/pipeline-runs"
