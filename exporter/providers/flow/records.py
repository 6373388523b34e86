"""Records of Flow, and their translation into the model.

Source: the pages of GetPipelineRun, ListPipelineRuns and ListPipelines of both generations of the API
(https://help.aliyun.com/document_detail/460565.html, https://help.aliyun.com/zh/yunxiao/developer-reference/getpipelinerun
and the pages next to them), and published responses. No source lists all values of a status or trigger.
The parameters of a run may have secrets, so they are not decoded.
"""

import re
from collections import deque
from collections.abc import Iterator, Sequence
from itertools import chain, count
from operator import itemgetter

import msgspec

from exporter.core.model import JOBS, STAGES, Job, Run, Stage, Status, Trigger, label, name_label
from exporter.providers.decoding import (
    UNREADABLE,
    Number,
    RecordDecoder,
    Text,
    Time,
    UnusableRecordError,
    text,
)
from exporter.providers.pages import requested_pipeline_id, valid_pipeline_id
from exporter.providers.protocol import Decoded
from exporter.providers.values import RunUrl, ValueDecoder, elapsed

# A run can have every status of a stage but the one for "skipped".
STATUSES = {
    "SUCCESS": Status.SUCCESS,
    "FINISH": Status.SUCCESS,
    "success": Status.SUCCESS,
    "FAIL": Status.FAILED,
    "fail": Status.FAILED,
    "CANCELED": Status.CANCELED,
    "SKIP": Status.SKIPPED,
    "RUNNING": Status.RUNNING,
    "CANCELLING": Status.RUNNING,
    "running": Status.RUNNING,
    "INIT": Status.PENDING,
    "ready": Status.PENDING,
    "WAITING": Status.WAITING,
}
RUN_STATUSES = {value: status for value, status in STATUSES.items() if status is not Status.SKIPPED}
# 4 occurs in responses and is undocumented.
TRIGGERS = {
    "1": Trigger.MANUAL,
    "2": Trigger.SCHEDULE,
    "3": Trigger.PUSH,
    "5": Trigger.PIPELINE,
    "6": Trigger.WEBHOOK,
}

_ORDERED = 1000
"""Maximum stages of a run to put in order; the first `STAGES` are kept."""
_HASH = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")
_any = msgspec.json.Decoder()


class _JobInfo(msgspec.Struct, rename="camel"):
    name: Text = None
    status: Text = None
    start_time: Time = None
    end_time: Time = None


class _StageInfo(msgspec.Struct, rename="camel"):
    name: Text = None
    status: Text = None
    start_time: Time = None
    end_time: Time = None
    jobs: list[_JobInfo | None] | None = None


class _StageEntry(msgspec.Struct, rename="camel"):
    index: Text = None
    name: Text = None
    stage_info: _StageInfo | None = None


class _Origin(msgspec.Struct):
    branch: Text = None
    commint: Text = None
    """Misspelled in the API."""


class _SourceEntry(msgspec.Struct):
    data: _Origin | None = None


class FlowPipelineRecord(msgspec.Struct, rename="camel"):
    """Pipeline in a list. One API generation documents `id` and `name`; the other two keys occur in responses."""

    id: Text = None
    name: Text = None
    pipeline_id: Text = None
    pipeline_name: Text = None

    @property
    def valid_id(self) -> str:
        """The id of the pipeline.

        Raises:
            UnusableRecordError: there is no valid one.

        """
        return valid_pipeline_id(text(self.pipeline_id) or text(self.id))

    @property
    def any_name(self) -> str:
        """The name of the pipeline; empty if absent."""
        return text(self.pipeline_name) or text(self.name)


class FlowRunRecord(msgspec.Struct, rename="camel"):
    """Run in the list of a pipeline's runs."""

    pipeline_id: Text = None
    pipeline_run_id: Number = None
    status: Text = None
    trigger_mode: Text = None
    start_time: Time = None
    end_time: Time = None
    creator_account_id: Text = None


class FlowDetailRecord(msgspec.Struct, rename="camel"):
    """Run in the response of GetPipelineRun."""

    pipeline_id: Text = None
    pipeline_run_id: Number = None
    status: Text = None
    trigger_mode: Text = None
    create_time: Time = None
    creator_account_id: Text = None
    stage_group: list[list[Text] | Text] | None = None
    """Consecutive groups of parallel stages. Documented as a flat list."""
    stages: list[_StageEntry | None] | None = None
    sources: list[_SourceEntry | None] | None = None


class _FlowEssential(msgspec.Struct, rename="camel"):
    """Fields without which one run could be shown as another."""

    id: Text = None
    pipeline_id: Text = None
    pipeline_run_id: Number = None
    status: Text = None


decode = RecordDecoder(_FlowEssential, "pipelineId").decode


class FlowDecoder:
    """Translates the run records of one response, and adds anomalies to `decoded`."""

    def __init__(self, decoded: Decoded, run_url: RunUrl) -> None:
        """`run_url` returns the configured URL of a run's page; empty without one."""
        self._run_url = run_url
        self._values = ValueDecoder(decoded)

    def run(self, record: FlowRunRecord, pipeline: str) -> Run:
        """Translate a run of a list, which has no stages.

        Raises:
            UnusableRecordError: it belongs to another pipeline, or has no number.

        """
        number = self._number(record, pipeline)
        # The status is undocumented here, so its absence is not an unknown value.
        status = (
            self._values.status(record.status, RUN_STATUSES, "status")
            if text(record.status)
            else Status.UNKNOWN
        )
        end = self._values.epoch(record.end_time, "time")
        return Run(
            id=str(number),
            number=number,
            status=status,
            start=self._values.epoch(record.start_time, "time"),
            end=end if status.final or status is Status.UNKNOWN else None,
            trigger=self._values.trigger(record.trigger_mode, TRIGGERS, "trigger_mode"),
            executor=label(text(record.creator_account_id)),
            url=self._run_url(pipeline, str(number), number),
        )

    def detail(self, record: FlowDetailRecord, pipeline: str) -> Run:
        """Translate the details of a run. Its start and end follow from its stages.

        Raises:
            UnusableRecordError: it belongs to another pipeline, or has no number.

        """
        number = self._number(record, pipeline)
        status = self._values.status(record.status, RUN_STATUSES, "status")
        stages = [self._placed(stage, index) for index, stage in _ordered(record)]
        starts = [stage.start for stage in stages if stage.start is not None]
        ends = [stage.end for stage in stages if stage.end is not None]
        origin = _origin(record.sources or [])
        return Run(
            id=str(number),
            number=number,
            status=status,
            # A run that had to wait was created before it started.
            start=min(starts, default=self._values.epoch(record.create_time, "time")),
            # While a stage is unfinished, the last end of the others is not that of the run.
            end=max(ends, default=None)
            if status.final and not any(stage.unfinished for stage in stages)
            else None,
            trigger=self._values.trigger(record.trigger_mode, TRIGGERS, "trigger_mode"),
            branch=label(text(origin.branch)),
            commit=_commit(text(origin.commint)),
            executor=label(text(record.creator_account_id)),
            url=self._run_url(pipeline, str(number), number),
            stages=tuple(self._stages(stages[:STAGES])),
        )

    def _number(self, record: FlowRunRecord | FlowDetailRecord, pipeline: str) -> int:
        requested_pipeline_id(text(record.pipeline_id) or pipeline, {pipeline})
        number = self._values.whole(record.pipeline_run_id, "run_number")
        if number is None:
            raise UnusableRecordError("no_run_id", f"run of pipeline {pipeline} has no number")
        return number

    def _placed(self, record: _StageEntry, sequence: int) -> "_PlacedStage":
        info = record.stage_info or _StageInfo()
        name = text(info.name) or text(record.name) or text(record.index)
        status = self._values.status(info.status, STATUSES, "stage_status")
        return _PlacedStage(name_label(name), sequence, status, *self._values.span(info), info.jobs or [])

    def _stages(self, stages: Sequence["_PlacedStage"]) -> Iterator[Stage]:
        jobs_left = JOBS
        for stage in stages:
            jobs = tuple(self._jobs(stage.jobs[:jobs_left]))
            jobs_left -= len(jobs)
            duration = elapsed(stage.status, stage.start, stage.end)
            yield Stage(stage.name, stage.sequence, stage.status, stage.start, duration, jobs)

    def _jobs(self, records: Sequence[_JobInfo | None]) -> Iterator[Job]:
        for index, record in enumerate(records):
            if record is not None:
                status = self._values.status(record.status, STATUSES, "job_status")
                start, end = self._values.span(record)
                yield Job(name_label(text(record.name)), index, status, start, elapsed(status, start, end))


class _PlacedStage(msgspec.Struct, frozen=True):
    """A stage with its position and end, and with the untranslated records of its jobs."""

    name: str
    sequence: int
    status: Status
    start: float | None
    end: float | None
    jobs: list[_JobInfo | None]

    @property
    def unfinished(self) -> bool:
        """Whether it has started, but has not ended or its end is unknown."""
        return self.start is not None and (self.end is None or not self.status.final)


def _ordered(record: FlowDetailRecord) -> list[tuple[int, _StageEntry]]:
    """Return the stages in the order of the groups, each with its position there.

    Groups list their stages by index or by name. A stage in no group takes a free position, or one after all others, so
    that each position is unique.
    """
    groups = (
        group if isinstance(group, list) else [group] for group in (record.stage_group or [])[:_ORDERED]
    )
    order = [text(name) for group in groups for name in group[:_ORDERED] if text(name)]
    free: dict[str, deque[int]] = {}
    for position, name in enumerate(order):
        free.setdefault(name, deque()).append(position)
    stages = (record.stages or [])[:_ORDERED]
    positions: dict[int, int] = {}
    for names in zip(*(_names(stage) for stage in stages), strict=True):
        for index, name in enumerate(names):
            if index not in positions and free.get(name):
                positions[index] = free[name].popleft()
    left = chain(sorted(chain.from_iterable(free.values())), count(len(order)))
    placed = [
        (positions[index] if index in positions else next(left), stage) for index, stage in enumerate(stages)
    ]
    return sorted(((position, stage) for position, stage in placed if stage is not None), key=itemgetter(0))


def _names(stage: _StageEntry | None) -> tuple[str, str, str]:
    """Return the names that a group may list a stage by, the most reliable first."""
    if stage is None:
        return "", "", ""
    return text(stage.index), text(stage.name), text(stage.stage_info and stage.stage_info.name)


def _origin(sources: Sequence[_SourceEntry | None]) -> _Origin:
    """Return the data of the first source with a branch."""
    found = (source.data for source in sources if source is not None)
    return next((data for data in found if data is not None and text(data.branch)), _Origin())


def _commit(value: str) -> str:
    """Return the commit of a source: a hash, or the one hash in a JSON value of undocumented form."""
    if _HASH.fullmatch(value):
        return value
    try:
        decoded = _any.decode(value)
    except UNREADABLE:
        return ""
    values = decoded.values() if isinstance(decoded, dict) else [decoded]
    hashes = {each for each in values if isinstance(each, str) and _HASH.fullmatch(each)}
    return hashes.pop() if len(hashes) == 1 else ""
