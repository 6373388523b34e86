"""Records of CodeArts Pipeline, and their translation into the model.

Source: "Obtaining Pipeline Statuses in Batches", "Obtaining a Pipeline List", "Obtaining Pipeline Execution Records"
and "Obtaining Pipeline Execution Details" of the API reference
(https://support.huaweicloud.com/intl/en-us/api-pipeline/); enumerations from the vendor's SDK.
Where these are silent or contradict each other, every variant is accepted.
"""

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Protocol, TypeVar
from zoneinfo import ZoneInfo

import msgspec

from exporter.core.model import (
    JOBS,
    STAGES,
    STEPS,
    Job,
    Run,
    Stage,
    Status,
    Step,
    Trigger,
    label,
    name_label,
    url_label,
)
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
from exporter.providers.values import RunUrl, ValueDecoder, elapsed

# A run can have every status of a stage but those for "skipped".
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
RUN_STATUSES = {value: status for value, status in STATUSES.items() if status is not Status.SKIPPED}
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


class CodeArtsRunRecord(msgspec.Struct):
    """Run in a batch, in the list of pipelines, or in the list of runs."""

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


class CodeArtsDetailRecord(msgspec.Struct):
    """Run in the response of ShowPipelineRunDetail."""

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


class CodeArtsPipelineRecord(msgspec.Struct):
    """Pipeline in the list of pipelines. Its latest run is decoded separately."""

    pipeline_id: Text = None
    name: Text = None
    project_id: Text = None
    latest_run: msgspec.Raw = msgspec.Raw(b"null")


class _Page(msgspec.Struct):
    pipelines: msgspec.Raw = msgspec.Raw(b"null")
    pipeline_runs: msgspec.Raw = msgspec.Raw(b"null")


class _CodeArtsEssential(msgspec.Struct):
    """Fields without which one run could be shown as another."""

    id: Text = None
    pipeline_id: Text = None
    pipeline_run_id: Text = None
    status: Text = None


decode = RecordDecoder(_CodeArtsEssential, "pipeline_id").decode


def page(body: bytes, key: str) -> list[msgspec.Raw]:
    """Return the rows of a page under `pipelines` or `pipeline_runs` as raw JSON; an empty list for null.

    Raises:
        UnusableRecordError: they are not an array, or too many.

    """
    return rows(getattr(decode(body, _Page), key), PIPELINE_ROWS if key == "pipelines" else ROWS)


_ZONELESS = re.compile(r"\d{4}-\d\d-\d\d[ T][\d:.]+")


class _TimedRecord(Protocol):
    """Fields that stages, jobs and steps have in common."""

    name: Text
    sequence: Number
    status: Text
    start_time: Time
    end_time: Time


T = TypeVar("T", bound=_TimedRecord)


class CodeArtsDecoder:
    """Translates the run records of one response, and adds anomalies to `decoded`.

    `now` is the provider's time in Unix seconds. `zone` is the time zone of stage times that have none.
    """

    def __init__(self, zone: ZoneInfo, decoded: Decoded, now: float, run_url: RunUrl) -> None:
        """`run_url` returns the configured URL of a run's page; empty without one."""
        self._run_url = run_url
        self._zone = zone
        self._decoded = decoded
        self._now = now
        self._values = ValueDecoder(decoded)

    def run(self, record: CodeArtsRunRecord, pipeline: str) -> Run:
        """Translate the run of a list or a batch.

        Raises:
            UnusableRecordError: it has neither id nor number.

        """
        stages = record.stage_status_list or []
        return self._run(record, record.pipeline_run_id, record.build_params, stages, pipeline)

    def detail(self, record: CodeArtsDetailRecord, pipeline: str) -> Run:
        """Translate the details of a run.

        Raises:
            UnusableRecordError: it has neither id nor number.

        """
        sources = (source.params for source in record.sources or [] if source is not None)
        builds = (params.build_params for params in sources if params is not None)
        build = next((build for build in builds if build is not None), None)
        return self._run(record, record.id, build, record.stages or [], pipeline)

    def _run(
        self,
        record: CodeArtsRunRecord | CodeArtsDetailRecord,
        run_id: Text,
        build: _BuildParams | None,
        stages: Sequence[_StageRecord | None],
        pipeline: str,
    ) -> Run:
        number = self._values.whole(record.run_number, "run_number")
        identity = label(text(run_id)) or (f"#{number}" if number is not None else "")
        start = self._values.epoch(record.start_time, "time")
        end = self._values.epoch(record.end_time, "time")
        if not identity:
            raise UnusableRecordError("no_run_id", f"run of pipeline {pipeline} has neither id nor number")
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
            url=self._run_url(pipeline, label(text(run_id)), number) or url_label(text(record.detail_url)),
            stages=self._stages(stages, pipeline, window),
        )

    def _stages(
        self, records: Sequence[_StageRecord | None], pipeline: str, window: tuple[float, float]
    ) -> tuple[Stage, ...]:
        stages: dict[tuple[str, int], Stage] = {}
        jobs_left, steps_left = JOBS, STEPS
        for record, sequence in self._sequenced(records[:STAGES], "stage"):
            name = name_label(text(record.name))
            status = self._values.status(record.status, STATUSES, "stage_status")
            start, duration = self._times(record, status)
            # Only a start without a zone can show that the configured zone is wrong.
            zoneless = isinstance(record.start_time, str) and _ZONELESS.fullmatch(record.start_time)
            if zoneless and start is not None and not window[0] <= start <= window[1]:
                seen = f"stage {name!r} of pipeline {pipeline}"
                self._decoded.implausible_times = self._decoded.implausible_times or seen
                start = None
            jobs = self._jobs((record.jobs or [])[:jobs_left], steps_left)
            jobs_left -= len(jobs)
            steps_left -= sum(len(job.steps) for job in jobs)
            stages[name, sequence] = Stage(name, sequence, status, start, duration, jobs)
        return tuple(stages.values())

    def _jobs(self, records: Sequence[_JobRecord | None], steps_left: int) -> tuple[Job, ...]:
        jobs: dict[tuple[str, int], Job] = {}
        for record, sequence in self._sequenced(records, "job"):
            name = name_label(text(record.name))
            status = self._values.status(record.status, STATUSES, "job_status")
            start, duration = self._times(record, status)
            steps = self._steps((record.steps or [])[:steps_left])
            steps_left -= len(steps)
            jobs[name, sequence] = Job(name, sequence, status, start, duration, steps)
        return tuple(jobs.values())

    def _steps(self, records: Sequence[_StepRecord | None]) -> tuple[Step, ...]:
        steps: dict[tuple[str, int], Step] = {}
        for record, sequence in self._sequenced(records, "step"):
            name = name_label(text(record.name))
            status = self._values.status(record.status, STATUSES, "step_status")
            _, duration = self._times(record, status)
            steps[name, sequence] = Step(name, sequence, name_label(text(record.task)), status, duration)
        return tuple(steps.values())

    def _sequenced(self, records: Sequence[T | None], kind: str) -> Iterator[tuple[T, int]]:
        """Yield each record with its sequence: the vendor's if it is given and unique, otherwise one based on the index."""
        # Records with the same name and sequence are duplicates, and the last is used. Those without sequence are not.
        found: dict[tuple[str, int], tuple[int, T, int | None]] = {}
        for index, record in enumerate(records):
            if record is not None:
                given = self._values.whole(record.sequence, f"{kind}_sequence", least=0)
                found[text(record.name), -index - 1 if given is None else given] = (index, record, given)
        times_given = Counter(given for _, _, given in found.values())
        unique = [given if times_given[given] == 1 else None for _, _, given in found.values()]
        names = [name_label(text(record.name)) for _, record, _ in found.values()]
        taken = set(zip(names, unique, strict=True))
        for (index, record, _), name, given in zip(found.values(), names, unique, strict=True):
            sequence = index if given is None else given
            # Another record of the same name may have the index as its sequence.
            while given is None and (name, sequence) in taken:
                sequence += 1
            taken.add((name, sequence))
            yield record, sequence

    def _times(self, record: _TimedRecord, status: Status) -> tuple[float | None, float | None]:
        """Return the start of a stage, job or step in Unix seconds, and its duration in seconds if it has ended."""
        start, end = self._values.span(record, self._zone)
        return start, elapsed(status, start, end)


def age(run: Run) -> tuple[int, float]:
    """Return a key that orders the runs of a pipeline from the oldest to the newest."""
    return run.number or 0, run.start or 0.0
