"""The wire records of CodeArts Pipeline, and what they mean in our words.

Sources: "Obtaining Pipeline Statuses in Batches", "Obtaining a Pipeline List", "Obtaining Pipeline Execution Records"
and "Obtaining Pipeline Execution Details" of the API reference
(https://support.huaweicloud.com/intl/en-us/api-pipeline/), and the vendor's SDK for enumerations.
Where they are silent or contradict each other, every reading is taken: times as numbers, digits or text; null, absent,
empty and 0 alike for "never".
"""

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from functools import cache
from typing import Any, Protocol, TypeVar, get_args, get_origin
from zoneinfo import ZoneInfo

import msgspec

from exporter.model import JOBS, STAGES, STEPS, Job, Run, Stage, Status, Step, Trigger, label
from exporter.providers.base import Reading

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

_Time = int | float | str | None
_Number = int | float | str | None
_Text = str | int | None


class _StepRecord(msgspec.Struct):
    name: _Text = None
    task: _Text = None
    sequence: _Number = None
    status: _Text = None
    start_time: _Time = None
    end_time: _Time = None


class _JobRecord(msgspec.Struct):
    name: _Text = None
    sequence: _Number = None
    status: _Text = None
    start_time: _Time = None
    end_time: _Time = None
    steps: list[_StepRecord | None] | None = None


class _StageRecord(msgspec.Struct):
    name: _Text = None
    sequence: _Number = None
    status: _Text = None
    start_time: _Time = None
    end_time: _Time = None
    jobs: list[_JobRecord | None] | None = None


class _BuildParams(msgspec.Struct):
    commit_id: _Text = None
    event_type: _Text = None
    merge_id: _Text = None
    source_branch: _Text = None
    tag: _Text = None
    target_branch: _Text = None


class _SourceParams(msgspec.Struct):
    build_params: _BuildParams | None = None


class _Source(msgspec.Struct):
    params: _SourceParams | None = None


class RunRecord(msgspec.Struct):
    """A run as the batch operation, the list of pipelines and that of a pipeline's runs tell it."""

    pipeline_id: _Text = None
    pipeline_run_id: _Text = None
    executor_id: _Text = None
    stage_status_list: list[_StageRecord | None] | None = None
    status: _Text = None
    run_number: _Number = None
    trigger_type: _Text = None
    build_params: _BuildParams | None = None
    start_time: _Time = None
    end_time: _Time = None
    detail_url: _Text = None


class DetailRecord(msgspec.Struct):
    """A run as its details tell it."""

    id: _Text = None
    executor_id: _Text = None
    stages: list[_StageRecord | None] | None = None
    status: _Text = None
    run_number: _Number = None
    trigger_type: _Text = None
    sources: list[_Source | None] | None = None
    start_time: _Time = None
    end_time: _Time = None
    detail_url: _Text = None


class PipelineRecord(msgspec.Struct):
    """A pipeline as the list of pipelines tells it; its latest run is read for itself."""

    pipeline_id: _Text = None
    name: _Text = None
    project_id: _Text = None
    latest_run: msgspec.Raw = msgspec.Raw(b"null")


class _Page(msgspec.Struct):
    pipelines: msgspec.Raw = msgspec.Raw(b"null")
    pipeline_runs: msgspec.Raw = msgspec.Raw(b"null")


_records = msgspec.json.Decoder(list[msgspec.Raw])


_ZONELESS = re.compile(r"\d{4}-\d\d-\d\d[ T][\d:.]+")

# What msgspec raises of bytes that are no JSON, no text, too deep, or of another type than is expected.
_UNREADABLE = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)


class UnusableError(Exception):
    """A record that cannot be used; bears the reason, words, and the pipeline if at least that could be read."""

    def __init__(self, reason: str, words: str, pipeline: str = "") -> None:
        super().__init__(words)
        self.reason = reason
        self.pipeline = pipeline


R = TypeVar("R", bound=msgspec.Struct)


def decode(raw: msgspec.Raw | bytes, record: type[R]) -> R:
    """One record: where it has values of another type than is documented, those fields that have a fitting one.

    Raises:
        UnusableError: it is no record at all, or what it is about or its state cannot be read.

    """
    try:
        return msgspec.json.decode(raw, type=record)
    except _UNREADABLE as error:
        fault: Exception = error
    whole = _whole_characters(bytes(raw))
    try:
        msgspec.json.decode(whole, type=_Essential)
        return _what_fits(whole, record)
    except _UNREADABLE as error:
        fault = error if isinstance(error, msgspec.ValidationError) else fault
        raise UnusableError("unreadable", _printable(str(fault)), _pipeline_of(whole)) from None


def _pipeline_of(raw: bytes) -> str:
    try:
        return text(msgspec.json.decode(raw, type=_Named).pipeline_id)
    except _UNREADABLE:
        return ""


class _Named(msgspec.Struct):
    pipeline_id: _Text = None


class _Essential(msgspec.Struct):
    """What a record must not be wrong about: guessing here would show one run as another."""

    id: _Text = None
    pipeline_id: _Text = None
    pipeline_run_id: _Text = None
    status: _Text = None


def _what_fits(raw: msgspec.Raw | bytes, record: type[R]) -> R:
    """A record of those fields that have a fitting value; the others count as not given."""
    unread, kinds = _anatomy(record)
    found = msgspec.json.decode(raw, type=unread)
    return record(**{name: _part_that_fits(getattr(found, name), kind) for name, kind in kinds.items()})


def _part_that_fits(raw: msgspec.Raw, kind: Any) -> Any:
    """A value if it fits; else of a list those items, of a record those fields that do; None of anything else."""
    try:
        return msgspec.json.decode(raw, type=kind)
    except _UNREADABLE:
        pass
    for part in get_args(kind):
        try:
            if isinstance(part, type) and issubclass(part, msgspec.Struct):
                return _what_fits(raw, part)
            if get_origin(part) is list:
                return [_part_that_fits(item, get_args(part)[0]) for item in _records.decode(raw)]
        except _UNREADABLE:
            continue
    return None


@cache
def _anatomy(record: type[msgspec.Struct]) -> tuple[type[msgspec.Struct], dict[str, Any]]:
    """A record of the same fields, none of which is read yet, and what each is to be read as."""
    kinds = {field.name: field.type for field in msgspec.structs.fields(record)}
    absent = msgspec.Raw(b"null")
    return msgspec.defstruct(record.__name__, [(name, msgspec.Raw, absent) for name in kinds]), kinds


def page(body: bytes, key: str) -> list[msgspec.Raw]:
    """The rows of a page, which stand under `pipelines` or `pipeline_runs`, not yet read; none if they are null.

    Raises:
        UnusableError: it has none that could be read.

    """
    rows = getattr(decode(body, _Page), key)
    if bytes(rows) == b"null":
        return []
    try:
        return outline(bytes(rows))
    except _UNREADABLE as error:
        raise UnusableError("unreadable", _printable(str(error))) from None


# Half of a character, which is left where text is cut by UTF-16 units; what must stay is matched first.
_HALVES = re.compile(rb"(\\\\|\\u[dD][89abAB]\w\w\\u[dD][c-fC-F]\w\w)|\\u[dD][89a-fA-F]\w\w")


def outline(body: bytes) -> list[msgspec.Raw]:
    """The records of an array, not yet read; half a character in one of them does not cost the others."""
    try:
        return _records.decode(body)
    except msgspec.DecodeError:
        return _records.decode(_whole_characters(body))


def _whole_characters(body: bytes) -> bytes:
    return _HALVES.sub(lambda found: found[1] or rb"\ufffd", body)


class _Timed(Protocol):
    """What stages, jobs and steps have in common."""

    name: _Text
    sequence: _Number
    status: _Text
    start_time: _Time
    end_time: _Time


T = TypeVar("T", bound=_Timed)


class Reader:
    """Reads the records of one answer, and notes in `reading` what surprises."""

    def __init__(self, zone: ZoneInfo, reading: Reading, now: float) -> None:
        self._zone = zone
        self._reading = reading
        self._now = now

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
        given: _Text,
        build: _BuildParams | None,
        stages: Sequence[_StageRecord | None],
        pipeline: str,
    ) -> Run:
        number = self._whole(record.run_number, "run_number")
        identity = label(text(given)) or (f"#{number}" if number is not None else "")
        start = self._epoch(record.start_time, "time")
        end = self._epoch(record.end_time, "time")
        if not identity:
            raise UnusableError("no_run_id", f"a run of pipeline {pipeline} with neither id nor number")
        status = self._status(record.status, RUN_STATUSES, "status")
        build = build or _BuildParams()
        last = max(end, start or 0.0) if status.final and end else self._now
        window = (start - 60 if start else 0.0, last + 60)
        return Run(
            id=identity,
            number=number,
            status=status,
            start=start,
            end=end if status.final or status is Status.UNKNOWN else None,
            trigger=self._trigger(record.trigger_type),
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
            name = label(text(record.name))
            status = self._status(record.status, STATUSES, "stage_status")
            start, duration = self._times(record, status)
            # Only a start that was read in the configured zone says anything of that zone.
            assumed = isinstance(record.start_time, str) and _ZONELESS.fullmatch(record.start_time)
            if assumed and start is not None and not window[0] <= start <= window[1]:
                misplaced = f"stage {name!r} of pipeline {pipeline}"
                self._reading.misplaced = self._reading.misplaced or misplaced
                start = None
            jobs = self._jobs((record.jobs or [])[:jobs_left], steps_left)
            jobs_left -= len(jobs)
            steps_left -= sum(len(job.steps) for job in jobs)
            stages[name, sequence] = Stage(name, sequence, status, start, duration, jobs)
        return tuple(stages.values())

    def _jobs(self, records: Sequence[_JobRecord | None], steps_left: int) -> tuple[Job, ...]:
        jobs: dict[tuple[str, int], Job] = {}
        for record, sequence in self._placed(records, "job"):
            name = label(text(record.name))
            status = self._status(record.status, STATUSES, "job_status")
            start, duration = self._times(record, status)
            steps = self._steps((record.steps or [])[:steps_left])
            steps_left -= len(steps)
            jobs[name, sequence] = Job(name, sequence, status, start, duration, steps)
        return tuple(jobs.values())

    def _steps(self, records: Sequence[_StepRecord | None]) -> tuple[Step, ...]:
        steps: dict[tuple[str, int], Step] = {}
        for record, sequence in self._placed(records, "step"):
            name = label(text(record.name))
            status = self._status(record.status, STATUSES, "step_status")
            _, duration = self._times(record, status)
            steps[name, sequence] = Step(name, sequence, label(text(record.task)), status, duration)
        return tuple(steps.values())

    def _placed(self, records: Sequence[T | None], kind: str) -> Iterator[tuple[T, int]]:
        """Each record with its sequence: the vendor's where it is given and unique, else its place in the list."""
        # The same name and sequence twice is one thing, told twice: the last wins. Without a sequence each is its own.
        told: dict[tuple[str, int], tuple[int, T, int | None]] = {}
        for index, record in enumerate(records):
            if record is not None:
                given = self._whole(record.sequence, f"{kind}_sequence", least=0)
                told[text(record.name), -index - 1 if given is None else given] = (index, record, given)
        given_often = Counter(given for _, _, given in told.values())
        unique = [given if given_often[given] == 1 else None for _, _, given in told.values()]
        names = [label(text(record.name)) for _, record, _ in told.values()]
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
        start = self._epoch(record.start_time, "stage_time", self._zone)
        end = self._epoch(record.end_time, "stage_time", self._zone)
        if status.final and start is not None and end is not None and end >= start:
            return start, end - start
        return start, None

    def _status(self, word: _Text, known: Mapping[str, Status], field: str) -> Status:
        status = known.get(text(word), Status.UNKNOWN)
        if status is Status.UNKNOWN:
            self._reading.words.add((field, text(word)))
        return status

    def _trigger(self, word: _Text) -> Trigger:
        trigger = TRIGGERS.get(text(word), Trigger.UNKNOWN)
        if text(word) and trigger is Trigger.UNKNOWN:
            self._reading.words.add(("trigger_type", text(word)))
        return trigger

    def _whole(self, value: _Number, field: str, least: int = 1) -> int | None:
        """A whole number; what is none, or not between `least` and 2^53, is told as a word and counts as not given.

        Zero, where it is below `least`, is one more spelling of "not given".
        """
        if value is None or value == "":
            return None
        try:
            number = int(value)
        except (ValueError, OverflowError):
            number = -1
        if isinstance(value, float) and value != number:
            number = -1
        if least <= number < 1 << 53:
            return number
        if number != 0:
            self._reading.words.add((field, _shape(str(value))))
        return None

    def _epoch(self, value: _Time, field: str, zone: ZoneInfo | None = None) -> float | None:
        """Epoch seconds of epoch milliseconds, digits of them, or a date and time (in `zone` if it names none).

        Text that is no time is told as a word, its digits made equal, and counts as not given.
        """
        if value is None or value == "":
            return None
        if isinstance(value, str):
            if _DIGITS.fullmatch(value):
                value = int(value)
            else:
                try:
                    moment = datetime.fromisoformat(value)
                    seconds = (moment if moment.tzinfo else moment.replace(tzinfo=zone or UTC)).timestamp()
                except (ValueError, OverflowError):
                    self._reading.words.add((field, _shape(value)))
                    return None
                # The epoch's own day, whatever the zone: zero, written out.
                return seconds if seconds > 86_400 else None
        # Zero and below: the vendor's other spelling of "never".
        return value / 1000 if 0 < value < 1e17 else None


def age(run: Run) -> tuple[int, float]:
    """What tells which of two runs of a pipeline is the newer."""
    return run.number or 0, run.start or 0.0


def text(value: object) -> str:
    """A vendor's text; absent is empty."""
    return "" if value is None else str(value)


_DIGITS = re.compile(r"-?\d{1,19}")


def _shape(text: str) -> str:
    return re.sub(r"\d", "0", text[:64])


def _printable(text: str) -> str:
    return "".join(character if character.isprintable() else "?" for character in text)
