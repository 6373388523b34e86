"""Huawei Cloud CodeArts Pipeline: which requests to make, and what their answers say."""

from collections.abc import Mapping, Sequence
from typing import Literal
from urllib.parse import quote

import msgspec

from exporter.auth.huawei import authentication
from exporter.core.failures import FailureKind, RequestFailure
from exporter.core.model import Run
from exporter.core.redaction import redact
from exporter.providers.codearts.errors import read_failure
from exporter.providers.codearts.fields import FIELDS, SERVICE
from exporter.providers.codearts.project import ENDPOINTS, Project
from exporter.providers.codearts.records import (
    DetailRecord,
    PipelineRecord,
    Reader,
    RunRecord,
    age,
    decode,
    page,
)
from exporter.providers.decoding import UnusableRecordError, split_array, text
from exporter.providers.protocol import (
    ApiRequest,
    Decoded,
    LatestRuns,
    PageCursor,
    PipelineRows,
    RunDetail,
    RunRows,
)
from exporter.providers.response_cache import Known, ResponseCache
from exporter.providers.rows import readable_rows
from exporter.providers.values import asked_for, fill, is_id, named

__all__ = ["ENDPOINTS", "FIELDS", "SERVICE", "CodeArts", "Project", "authentication"]

# Plain: a gateway was seen to refuse the type with a charset.
_JSON = (("Content-Type", "application/json"),)

# By operation, the key that the rows of a page stand under.
_ROWS = {"ListPipelines": "pipelines", "ListPipelineRuns": "pipeline_runs"}
# By operation, the key that an answer must have; none for an array.
_NEEDS = {"BatchShowPipelinesLatestStatus": "", "ShowPipelineRunDetail": "status", **_ROWS}

OBJECTS = 5000
OBJECTS_EACH = 100
"""Most JSON objects in a batch answer: so many, and so many for each id; a run of fifty stages has about 55."""
OBJECTS_OF_PAGE = 20_000
"""Most JSON objects in a page of a list: a hundred runs of fifty stages have about 5,500."""

_OK = 200


def _ids(ids: Sequence[str]) -> bytes:
    return msgspec.json.encode(list(ids))


class CodeArts:
    """A CodeArts project."""

    name = "codearts"
    page_size = 100
    """Rows to ask for in a page of pipelines; a cloud may give fewer."""
    runs_page_size = 100
    """Rows to ask for at most in a page of runs; a cloud may give fewer."""
    zone_key = "stage_time_zone"
    lists_are_summaries = False
    batched: Literal[True] = True

    def __init__(self, project: Project) -> None:
        self._project_id = project.project_id
        self._path = f"/v5/{project.project_id}/api/pipelines"
        self._zone = project.stage_time_zone
        self._memo = ResponseCache()

    def batch_request(self, ids: Sequence[str]) -> ApiRequest:
        """BatchShowPipelinesLatestStatus."""
        return ApiRequest(
            operation="BatchShowPipelinesLatestStatus",
            method="POST",
            path=f"{self._path}/status",
            headers=_JSON,
            body=_ids(ids),
            object_limit=OBJECTS + OBJECTS_EACH * len(ids),
        )

    def read_batch(self, body: bytes, ids: Sequence[str], now: float) -> LatestRuns:
        """Each record is read alone: what is wrong with one costs that one."""
        request = _ids(ids)
        batch = self._memo.recall_answer(request, body)
        if batch is not None:
            return batch
        batch = LatestRuns()
        asked = set(ids)
        same_later = True
        for raw in split_array(body):
            pipeline = ""
            same = bytes(raw)
            known = self._memo.recall(same)
            try:
                if known is not None:
                    pipeline = asked_for(known.pipeline, asked)
                else:
                    record = decode(raw, RunRecord)
                    pipeline = text(record.pipeline_id)
                    known = self._read_record(record, asked_for(pipeline, asked), now)
                    if known.implausible_times and not known.run.status.final:
                        # What lies after the present moment may lie before it at the next poll.
                        same_later = False
                    else:
                        self._memo.keep(same, known)
            except UnusableRecordError as error:
                batch.reject(error.reason, str(error))
                pipeline = pipeline or error.pipeline
                if is_id(pipeline):
                    batch.unusable.add(pipeline)
                else:
                    batch.incomplete = True
                continue
            run = known.run
            batch.words.update(known.words)
            batch.implausible_times = batch.implausible_times or known.implausible_times
            twin = batch.runs.get(pipeline)
            if twin is not None:
                words = f"more than one run of pipeline {pipeline}; the newest is used"
                batch.reject("duplicate", words)
                if age(run) < age(twin):
                    continue
            batch.runs[pipeline] = run
        batch.unusable = (batch.unusable & asked) - batch.runs.keys()
        if batch.runs and same_later:
            self._memo.keep_answer(request, body, batch)
        return batch

    def _read_record(self, record: RunRecord, pipeline: str, now: float) -> Known:
        """Read a record with what is anomalous in it, which is reported each time that the record comes."""
        decoded = Decoded()
        run = Reader(self._zone, decoded, now).run(record, pipeline)
        return Known(pipeline, run, tuple(decoded.words), decoded.implausible_times)

    def pipelines_request(self, place: PageCursor) -> ApiRequest:
        """ListPipelines, by creation: what is made meanwhile comes last, and pages do not shift."""
        body = {
            # In the body as well as in the path: the path alone was seen not to filter.
            "project_id": self._project_id,
            "offset": place.rows,
            "limit": self.page_size,
            "sort_key": "create_time",
            "sort_dir": "asc",
        }
        return ApiRequest(
            operation="ListPipelines",
            method="POST",
            path=f"{self._path}/list",
            headers=_JSON,
            body=msgspec.json.encode(body),
            object_limit=OBJECTS_OF_PAGE,
        )

    def read_pipelines(self, body: bytes, now: float, _: Mapping[str, str]) -> PipelineRows:
        """Rows of other projects are passed over; a row whose run cannot be read still names its pipeline."""
        listing = PipelineRows()
        reader = Reader(self._zone, listing, now)
        for raw in page(readable_rows(body), "pipelines"):
            listing.rows += 1
            pipeline = ""
            try:
                row = decode(raw, PipelineRecord)
                pipeline = named(text(row.pipeline_id))
                if text(row.project_id) not in {"", self._project_id}:
                    continue
                listing.pipelines[pipeline] = redact(text(row.name))
                if bytes(row.latest_run) not in {b"null", b"{}"}:
                    listing.unusable.add(pipeline)
                    listing.runs[pipeline] = reader.run(decode(row.latest_run, RunRecord), pipeline)
            except UnusableRecordError as error:
                listing.reject(error.reason, str(error))
                listing.incomplete = listing.incomplete or not pipeline
        listing.unusable -= listing.runs.keys()
        return listing

    def runs_request(self, pipeline: str, place: PageCursor, limit: int) -> ApiRequest:
        """ListPipelineRuns, by start."""
        body = {"offset": place.rows, "limit": limit, "sort_key": "start_time", "sort_dir": "desc"}
        return ApiRequest(
            operation="ListPipelineRuns",
            method="POST",
            path=f"{self._runs_of(pipeline)}/list",
            headers=_JSON,
            body=msgspec.json.encode(body),
            object_limit=OBJECTS_OF_PAGE,
        )

    def read_runs(self, body: bytes, pipeline: str, now: float, _: Mapping[str, str]) -> RunRows:
        """A row that names no pipeline is of the one that was asked about."""
        found = RunRows()
        reader = Reader(self._zone, found, now)

        def read(raw: msgspec.Raw) -> Run:
            record = decode(raw, RunRecord)
            return reader.run(record, asked_for(text(record.pipeline_id) or pipeline, {pipeline}))

        return fill(found, page(body, "pipeline_runs"), pipeline, read)

    def detail_request(self, pipeline: str, run: str) -> ApiRequest:
        """ShowPipelineRunDetail."""
        return ApiRequest(
            operation="ShowPipelineRunDetail",
            method="GET",
            path=f"{self._runs_of(pipeline)}/detail",
            query=(("pipeline_run_id", run),),
            headers=_JSON,
        )

    def read_detail(self, body: bytes, pipeline: str, now: float) -> RunDetail:
        """A run, with its stages' jobs and steps."""
        detail = RunDetail()
        try:
            record = decode(body, DetailRecord)
            detail.run = Reader(self._zone, detail, now).detail(record, pipeline)
        except UnusableRecordError as error:
            detail.reject(error.reason, str(error))
        return detail

    def failure(
        self, call: ApiRequest, status: int, headers: Mapping[str, str], body: bytes
    ) -> RequestFailure | None:
        """Why an answer is not a success, or None if it has the shape of the operation."""
        if status == _OK and self._memo.recall_answer(call.body, body) is not None:
            return None
        if call.operation == "ListPipelines":
            body = readable_rows(body)
        failure = read_failure(call, _NEEDS[call.operation], status, headers, body)
        if failure is None and call.operation in _ROWS:
            try:
                page(body, _ROWS[call.operation])
            except UnusableRecordError as error:
                # Not an empty page, which would be the end of the list.
                words = f"{call.operation} answered a page whose {_ROWS[call.operation]} are no list: {error}"
                return RequestFailure(
                    kind=FailureKind.UNREADABLE,
                    code="invalid",
                    message=words,
                    request_id=headers.get("x-request-id", ""),
                )
        return failure

    def _runs_of(self, pipeline: str) -> str:
        return f"{self._path}/{quote(pipeline, safe='')}/pipeline-runs"
