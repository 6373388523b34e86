"""The wire records of CodeArts Pipeline, and what they mean in our words.

Sources: "Obtaining Pipeline Statuses in Batches", "Obtaining a Pipeline List", "Obtaining Pipeline Execution Records"
and "Obtaining Pipeline Execution Details" of the API reference
(https://support.huaweicloud.com/intl/en-us/api-pipeline/), and the vendor's SDK for enumerations.
Where they are silent or contradict each other, every reading is taken.
"""

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Protocol, TypeVar
from zoneinfo import ZoneInfo

import msgspec

from exporter.core.model import JOBS, STAGES, STEPS, Job, Run, Stage, Status, Step, Trigger, label, name_label
from exporter.providers.decoding import (
    PIPELINE_ROWS,
    ROWS,
    Number,
    RecordDecoder,
    Text,
    Time,
    UnusableRecordError,
    rows,
    text,
)
from exporter.providers.protocol import Decoded
from exporter.providers.values import ValueDecoder, elapsed

# The vendor's words. A run may bear any word of a stage but those for "skipped", which is no state of a run.
STATUSES = {
    "COMPLETED": Status.SUCCESS,
    "FAILED": Status.FAILED,
    "ASYNC_FAILED": Status.FAILED,
    "CANCELED": Status.CANCELED,
    "IGNORED": Status.IGNORED,
    "SKIPPED": Status.SKIPPED,
    "UNSELECTED": Status.SKIPPED,
    "RUNNING": Status.RUNNING,
    "ASYNC_RUNNING": Status.RUNNING,
    "INIT": Status.PENDING,
    "QUEUED": Status.PENDING,
    "REDISPATCH": Status.PENDING,
    "PAUSED": Status.PAUSED,
    "SUSPEND": Status.SUSPENDED,
}
RUN_STATUSES = {word: status for word, status in STATUSES.items() if status is not Status.SKIPPED}
TRIGGERS = {
    "Manual": Trigger.MANUAL,
    "Scheduler": Trigger.SCHEDULE,
    "Push": Trigger.PUSH,
    "MR": Trigger.MERGE_REQUEST,
    "CR": Trigger.MERGE_REQUEST,
    "CreateTag": Trigger.TAG,
    "Issue": Trigger.ISSUE,
    "Note": Trigger.COMMENT,
    "SubPipeline": Trigger.PIPELINE,
    "RollBack": Trigger.ROLLBACK,
    "Generic": Trigger.OTHER,
}


class _StepRecord(msgspec.Struct):
    name: Text = None
    task: Text = None
    sequence: Number = None
    status: Text = None
    start_time: Time = None
    end_time: Time = None


class _JobRecord(msgspec.Struct):
    name: Text = None
    sequence: Number = None
    status: Text = None
    start_time: Time = None
    end_time: Time = None
    steps: list[_StepRecord | None] | None = None


class _StageRecord(msgspec.Struct):
    name: Text = None
    sequence: Number = None
    status: Text = None
    start_time: Time = None
    end_time: Time = None
    jobs: list[_JobRecord | None] | None = None


class _BuildParams(msgspec.Struct):
    commit_id: Text = None
    event_type: Text = None
    merge_id: Text = None
    source_branch: Text = None
    tag: Text = None
    target_branch: Text = None


class _SourceParams(msgspec.Struct):
    build_params: _BuildParams | None = None


class _Source(msgspec.Struct):
    params: _SourceParams | None = None


class RunRecord(msgspec.Struct):
    """A run as the batch operation, the list of pipelines and that of a pipeline's runs tell it."""

    pipeline_id: Text = None
    pipeline_run_id: Text = None
    executor_id: Text = None
    stage_status_list: list[_StageRecord | None] | None = None
    status: Text = None
    run_number: Number = None
    trigger_type: Text = None
    build_params: _BuildParams | None = None
    start_time: Time = None
    end_time: Time = None
    detail_url: Text = None


class DetailRecord(msgspec.Struct):
    """A run as its details tell it."""

    id: Text = None
    executor_id: Text = None
    stages: list[_StageRecord | None] | None = None
    status: Text = None
    run_number: Number = None
    trigger_type: Text = None
    sources: list[_Source | None] | None = None
    start_time: Time = None
    end_time: Time = None
    detail_url: Text = None


class PipelineRecord(msgspec.Struct):
    """A pipeline as the list of pipelines tells it; its latest run is read for itself."""

    pipeline_id: Text = None
    name: Text = None
    project_id: Text = None
    latest_run: msgspec.Raw = msgspec.Raw(b"null")


class _Page(msgspec.Struct):
    pipelines: msgspec.Raw = msgspec.Raw(b"null")
    pipeline_runs: msgspec.Raw = msgspec.Raw(b"null")


class _Essential(msgspec.Struct):
    """What a record must not be wrong about: guessing here would show one run as another."""

    id: Text = None
    pipeline_id: Text = None
    pipeline_run_id: Text = None
    status: Text = None


decode = RecordDecoder(_Essential, "pipeline_id").decode


def page(body: bytes, key: str) -> list[msgspec.Raw]:
    """The rows of a page, which stand under `pipelines` or `pipeline_runs`, not yet read; none if they are null.

    Raises:
        UnusableError: it has none that could be read, or too many.

    """
    return rows(getattr(decode(body, _Page), key), PIPELINE_ROWS if key == "pipelines" else ROWS)


_ZONELESS = re.compile(r"\d{4}-\d\d-\d\d[ T][\d:.]+")


class _Timed(Protocol):
    """What stages, jobs and steps have in common."""

    name: Text
    sequence: Number
    status: Text
    start_time: Time
    end_time: Time


T = TypeVar("T", bound=_Timed)


class Reader:
    """Reads the records of one answer, and notes in `decoded` what surprises."""

    def __init__(self, zone: ZoneInfo, decoded: Decoded, now: float) -> None:
        self._zone = zone
        self._reading = decoded
        self._now = now
        self._values = ValueDecoder(decoded)

    def run(self, record: RunRecord, pipeline: str) -> Run:
        """The run of a record of a pipeline.

        Raises:
            UnusableError: it has neither id nor number.

        """
        stages = record.stage_status_list or []
        return self._run(record, record.pipeline_run_id, record.build_params, stages, pipeline)

    def detail(self, record: DetailRecord, pipeline: str) -> Run:
        """The run of its details.

        Raises:
            UnusableError: it has neither id nor number.

        """
        sources = (source.params for source in record.sources or [] if source is not None)
        builds = (params.build_params for params in sources if params is not None)
        build = next((build for build in builds if build is not None), None)
        return self._run(record, record.id, build, record.stages or [], pipeline)

    def _run(
        self,
        record: RunRecord | DetailRecord,
        given: Text,
        build: _BuildParams | None,
        stages: Sequence[_StageRecord | None],
        pipeline: str,
    ) -> Run:
        number = self._values.whole(record.run_number, "run_number")
        identity = label(text(given)) or (f"#{number}" if number is not None else "")
        start = self._values.epoch(record.start_time, "time")
        end = self._values.epoch(record.end_time, "time")
        if not identity:
            raise UnusableRecordError("no_run_id", f"a run of pipeline {pipeline} with neither id nor number")
        status = self._values.status(record.status, RUN_STATUSES, "status")
        build = build or _BuildParams()
        last = max(end, start or 0.0) if status.final and end else self._now
        window = (start - 60 if start else 0.0, last + 60)
        return Run(
            id=identity,
            number=number,
            status=status,
            start=start,
            end=end if status.final or status is Status.UNKNOWN else None,
            trigger=self._values.trigger(record.trigger_type, TRIGGERS, "trigger_type"),
            branch=label(text(build.target_branch)),
            tag=label(text(build.tag)),
            commit=label(text(build.commit_id)),
            executor=label(text(record.executor_id)),
            event=label(text(build.event_type)),
            merge_id=label(text(build.merge_id)),
            source_branch=label(text(build.source_branch)),
            url=label(text(record.detail_url)),
            stages=self._stages(stages, pipeline, window),
        )

    def _stages(
        self, records: Sequence[_StageRecord | None], pipeline: str, window: tuple[float, float]
    ) -> tuple[Stage, ...]:
        stages: dict[tuple[str, int], Stage] = {}
        jobs_left, steps_left = JOBS, STEPS
        for record, sequence in self._placed(records[:STAGES], "stage"):
            name = name_label(text(record.name))
            status = self._values.status(record.status, STATUSES, "stage_status")
            start, duration = self._times(record, status)
            # Only a start that was read in the configured zone says anything of that zone.
            assumed = isinstance(record.start_time, str) and _ZONELESS.fullmatch(record.start_time)
            if assumed and start is not None and not window[0] <= start <= window[1]:
                implausible_times = f"stage {name!r} of pipeline {pipeline}"
                self._reading.implausible_times = self._reading.implausible_times or implausible_times
                start = None
            jobs = self._jobs((record.jobs or [])[:jobs_left], steps_left)
            jobs_left -= len(jobs)
            steps_left -= sum(len(job.steps) for job in jobs)
            stages[name, sequence] = Stage(name, sequence, status, start, duration, jobs)
        return tuple(stages.values())

    def _jobs(self, records: Sequence[_JobRecord | None], steps_left: int) -> tuple[Job, ...]:
        jobs: dict[tuple[str, int], Job] = {}
        for record, sequence in self._placed(records, "job"):
            name = name_label(text(record.name))
            status = self._values.status(record.status, STATUSES, "job_status")
            start, duration = self._times(record, status)
            steps = self._steps((record.steps or [])[:steps_left])
            steps_left -= len(steps)
            jobs[name, sequence] = Job(name, sequence, status, start, duration, steps)
        return tuple(jobs.values())

    def _steps(self, records: Sequence[_StepRecord | None]) -> tuple[Step, ...]:
        steps: dict[tuple[str, int], Step] = {}
        for record, sequence in self._placed(records, "step"):
            name = name_label(text(record.name))
            status = self._values.status(record.status, STATUSES, "step_status")
            _, duration = self._times(record, status)
            steps[name, sequence] = Step(name, sequence, name_label(text(record.task)), status, duration)
        return tuple(steps.values())

    def _placed(self, records: Sequence[T | None], kind: str) -> Iterator[tuple[T, int]]:
        """Each record with its sequence: the vendor's where it is given and unique, else its place in the list."""
        # The same name and sequence twice is one thing, told twice: the last wins. Without a sequence each is its own.
        told: dict[tuple[str, int], tuple[int, T, int | None]] = {}
        for index, record in enumerate(records):
            if record is not None:
                given = self._values.whole(record.sequence, f"{kind}_sequence", least=0)
                told[text(record.name), -index - 1 if given is None else given] = (index, record, given)
        given_often = Counter(given for _, _, given in told.values())
        unique = [given if given_often[given] == 1 else None for _, _, given in told.values()]
        names = [name_label(text(record.name)) for _, record, _ in told.values()]
        taken = set(zip(names, unique, strict=True))
        for (index, record, _), name, given in zip(told.values(), names, unique, strict=True):
            sequence = index if given is None else given
            # A place that is the vendor's sequence of another one of the same name is not free.
            while given is None and (name, sequence) in taken:
                sequence += 1
            taken.add((name, sequence))
            yield record, sequence

    def _times(self, record: _Timed, status: Status) -> tuple[float | None, float | None]:
        """Start and, if it is over, duration."""
        start, end = self._values.span(record, self._zone)
        return start, elapsed(status, start, end)


def age(run: Run) -> tuple[int, float]:
    """What tells which of two runs of a pipeline is the newer."""
    return run.number or 0, run.start or 0.0
