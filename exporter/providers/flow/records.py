"""The wire records of Flow, and what they mean in our words.

Sources: the pages of GetPipelineRun, ListPipelineRuns and ListPipelines of both generations of the API
(https://help.aliyun.com/document_detail/460565.html and its neighbours;
https://help.aliyun.com/zh/yunxiao/developer-reference/getpipelinerun and its neighbours), and answers that others have
seen. Neither has a complete list of words. A run may have secrets in what users gave it, none of which is read here.
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
from exporter.providers.protocol import Decoded
from exporter.providers.values import ValueDecoder, asked_for, elapsed, named

# The vendor's words. A run may bear any word of a stage but that for "skipped", which is no state of a run.
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
RUN_STATUSES = {word: status for word, status in STATUSES.items() if status is not Status.SKIPPED}
# 4 occurs, and nobody says what it is.
TRIGGERS = {
    "1": Trigger.MANUAL,
    "2": Trigger.SCHEDULE,
    "3": Trigger.PUSH,
    "5": Trigger.PIPELINE,
    "6": Trigger.WEBHOOK,
}

_PLACED = 1000
"""Stages of a run that are put in order at most; `STAGES` of them are kept."""
_HASH = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")
_anything = msgspec.json.Decoder()


class _JobRecord(msgspec.Struct, rename="camel"):
    name: Text = None
    status: Text = None
    start_time: Time = None
    end_time: Time = None


class _StageInfo(msgspec.Struct, rename="camel"):
    name: Text = None
    status: Text = None
    start_time: Time = None
    end_time: Time = None
    jobs: list[_JobRecord | None] | None = None


class _StageRecord(msgspec.Struct, rename="camel"):
    index: Text = None
    name: Text = None
    stage_info: _StageInfo | None = None


class _Origin(msgspec.Struct):
    branch: Text = None
    commint: Text = None
    """So it is spelt."""


class _Source(msgspec.Struct):
    data: _Origin | None = None


class PipelineRecord(msgspec.Struct, rename="camel"):
    """A pipeline as lists tell it: in the keys that are documented, or in those that were seen."""

    id: Text = None
    name: Text = None
    pipeline_id: Text = None
    pipeline_name: Text = None

    @property
    def identity(self) -> str:
        """The pipeline's id.

        Raises:
            UnusableError: there is none.

        """
        return named(text(self.pipeline_id) or text(self.id))

    @property
    def title(self) -> str:
        """The pipeline's name; empty if it is not told."""
        return text(self.pipeline_name) or text(self.name)


class RunRecord(msgspec.Struct, rename="camel"):
    """A run as the list of a pipeline's runs tells it."""

    pipeline_id: Text = None
    pipeline_run_id: Number = None
    status: Text = None
    trigger_mode: Text = None
    start_time: Time = None
    end_time: Time = None
    creator_account_id: Text = None


class DetailRecord(msgspec.Struct, rename="camel"):
    """A run as its details tell it."""

    pipeline_id: Text = None
    pipeline_run_id: Number = None
    status: Text = None
    trigger_mode: Text = None
    create_time: Time = None
    creator_account_id: Text = None
    stage_group: list[list[Text] | Text] | None = None
    """Groups that come one after the other, of stages side by side; documented to be flat."""
    stages: list[_StageRecord | None] | None = None
    sources: list[_Source | None] | None = None


class _Essential(msgspec.Struct, rename="camel"):
    """What a record must not be wrong about: guessing here would show one run as another."""

    id: Text = None
    pipeline_id: Text = None
    pipeline_run_id: Number = None
    status: Text = None


decode = RecordDecoder(_Essential, "pipelineId").decode


class Reader:
    """Reads the records of one answer, and notes in `decoded` what surprises."""

    def __init__(self, decoded: Decoded) -> None:
        self._values = ValueDecoder(decoded)

    def run(self, record: RunRecord, pipeline: str) -> Run:
        """The run of a row of a pipeline's list, without its stages.

        Raises:
            UnusableError: it is of another pipeline, or has no number.

        """
        number = self._number(record, pipeline)
        # That the status is told is not documented: where it is not, that is no word.
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
        )

    def detail(self, record: DetailRecord, pipeline: str) -> Run:
        """The run of its details, which tell neither its start nor its end but by its stages.

        Raises:
            UnusableError: it is of another pipeline, or has no number.

        """
        number = self._number(record, pipeline)
        status = self._values.status(record.status, RUN_STATUSES, "status")
        parts = [self._part(stage, place) for place, stage in _placed(record)]
        begun = [part.start for part in parts if part.start is not None]
        ended = [part.end for part in parts if part.end is not None]
        origin = _origin(record.sources or [])
        return Run(
            id=str(number),
            number=number,
            status=status,
            # The record is older than the start of a run that had to wait.
            start=min(begun, default=self._values.epoch(record.create_time, "time")),
            # Where a stage that began has not ended, the last of the other ends is not the run's.
            end=max(ended, default=None) if status.final and not any(part.open for part in parts) else None,
            trigger=self._values.trigger(record.trigger_mode, TRIGGERS, "trigger_mode"),
            branch=label(text(origin.branch)),
            commit=_commit(text(origin.commint)),
            executor=label(text(record.creator_account_id)),
            stages=tuple(self._stages(parts[:STAGES])),
        )

    def _number(self, record: RunRecord | DetailRecord, pipeline: str) -> int:
        asked_for(text(record.pipeline_id) or pipeline, {pipeline})
        number = self._values.whole(record.pipeline_run_id, "run_number")
        if number is None:
            raise UnusableRecordError("no_run_id", f"a run of pipeline {pipeline} without a number")
        return number

    def _part(self, record: _StageRecord, place: int) -> "_Part":
        info = record.stage_info or _StageInfo()
        name = text(info.name) or text(record.name) or text(record.index)
        status = self._values.status(info.status, STATUSES, "stage_status")
        return _Part(name_label(name), place, status, *self._values.span(info), info.jobs or [])

    def _stages(self, parts: Sequence["_Part"]) -> Iterator[Stage]:
        jobs_left = JOBS
        for part in parts:
            jobs = tuple(self._jobs(part.jobs[:jobs_left]))
            jobs_left -= len(jobs)
            duration = elapsed(part.status, part.start, part.end)
            yield Stage(part.name, part.place, part.status, part.start, duration, jobs)

    def _jobs(self, records: Sequence[_JobRecord | None]) -> Iterator[Job]:
        for place, record in enumerate(records):
            if record is not None:
                status = self._values.status(record.status, STATUSES, "job_status")
                start, end = self._values.span(record)
                yield Job(name_label(text(record.name)), place, status, start, elapsed(status, start, end))


class _Part(msgspec.Struct, frozen=True):
    """A stage, with its end and with jobs that are not read yet."""

    name: str
    place: int
    status: Status
    start: float | None
    end: float | None
    jobs: list[_JobRecord | None]

    @property
    def open(self) -> bool:
        """Whether it began and has not ended, or nobody tells when."""
        return self.start is not None and (self.end is None or not self.status.final)


def _placed(record: DetailRecord) -> list[tuple[int, _StageRecord]]:
    """The stages in the order in which they stand in their groups, each with its place there.

    Groups name their stages by index or by name. A stage that no group names takes a place that is left over, and where
    there is none, one behind them: each has a place of its own.
    """
    groups = (group if isinstance(group, list) else [group] for group in (record.stage_group or [])[:_PLACED])
    order = [text(name) for group in groups for name in group[:_PLACED] if text(name)]
    free: dict[str, deque[int]] = {}
    for place, name in enumerate(order):
        free.setdefault(name, deque()).append(place)
    stages = (record.stages or [])[:_PLACED]
    places: dict[int, int] = {}
    for names in zip(*(_names(stage) for stage in stages), strict=True):
        for position, name in enumerate(names):
            if position not in places and free.get(name):
                places[position] = free[name].popleft()
    left = chain(sorted(chain.from_iterable(free.values())), count(len(order)))
    told = [
        (places[position] if position in places else next(left), stage)
        for position, stage in enumerate(stages)
    ]
    return sorted(((place, stage) for place, stage in told if stage is not None), key=itemgetter(0))


def _names(stage: _StageRecord | None) -> tuple[str, str, str]:
    """By what its group may name a stage, the surest first."""
    if stage is None:
        return "", "", ""
    return text(stage.index), text(stage.name), text(stage.stage_info and stage.stage_info.name)


def _origin(sources: Sequence[_Source | None]) -> _Origin:
    """The first source that has a branch."""
    told = (source.data for source in sources if source is not None)
    return next((data for data in told if data is not None and text(data.branch)), _Origin())


def _commit(told: str) -> str:
    """The commit of a source, if what it tells is clearly one: it is JSON, and nobody says of what form."""
    if _HASH.fullmatch(told):
        return told
    try:
        value = _anything.decode(told)
    except UNREADABLE:
        return ""
    values = value.values() if isinstance(value, dict) else [value]
    hashes = {one for one in values if isinstance(one, str) and _HASH.fullmatch(one)}
    return hashes.pop() if len(hashes) == 1 else ""
