"""Huawei Cloud CodeArts Pipeline: the batch status operation.

Sources: "Obtaining Pipeline Statuses in Batches" (BatchShowPipelinesLatestStatus) and "Obtaining Pipeline Execution
Details" of the CodeArts Pipeline API reference, https://support.huaweicloud.com/intl/en-us/api-pipeline/; the error
codes of API Gateway; the vendor's SDK for enumerations and regions. Where they are silent or contradict each other,
every reading is taken: times as numbers, digits or text; null, absent, empty and 0 alike for "never".
"""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo

import msgspec
from pydantic import AfterValidator, Field, PlainSerializer, PlainValidator, ValidationInfo, field_validator

from exporter.auth.huawei import AuthSection, authentication
from exporter.config.fields import Identifier, ProjectSection
from exporter.fault import Fault, Kind
from exporter.model import STAGES, Run, Stage, Status, Trigger, label
from exporter.providers.base import Batch, Call

__all__ = ["CodeArts", "Project", "authentication"]

_HOSTS = {
    "cloudpipeline-ext.{}.myhuaweicloud.com": (
        "cn-north-1 cn-north-4 cn-northeast-1 cn-south-1 cn-south-2 cn-east-2 cn-east-3 cn-southwest-2 "
        "ap-southeast-3 sa-brazil-1 la-north-2"
    ),
    "pipeline-external.{}.myhuaweicloud.com": "tr-west-1 la-south-2",
    "pipeline-external.{}.myhuaweicloud.eu": "eu-west-101",
    "pipeline.{}.myhuaweicloud.com": "af-north-1 me-east-1 af-south-1",
}
ENDPOINTS = {
    region: f"https://{pattern.format(region)}"
    for pattern, regions in _HOSTS.items()
    for region in regions.split()
}
"""Where each region's pipelines are, by region."""


_NO_URL = "must be a URL such as https://pipeline.example.com"


def _endpoint(value: str) -> str:
    try:
        parts = urlsplit(value)
        port = parts.port
    except ValueError:
        # The library's words repeat the value, which may hold a password.
        raise ValueError(_NO_URL) from None
    if port == 0 or not value.isprintable() or " " in value:
        raise ValueError(_NO_URL)
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise ValueError(_NO_URL)
    if parts.username is not None or parts.password is not None:
        raise ValueError("must not hold a user or password (give them under auth)")
    if parts.query or parts.fragment:
        raise ValueError("must end with the host or a path (no ? or #)")
    return value.rstrip("/")


def _zone(value: object) -> ZoneInfo:
    try:
        return ZoneInfo(str(value))
    except (KeyError, OSError, ValueError):
        raise ValueError(
            f"{value!r} is not a time zone (a name such as Asia/Shanghai or Europe/Dublin)"
        ) from None


class Project(ProjectSection):
    """A CodeArts project of the configuration."""

    provider: Literal["codearts"]
    endpoint: Annotated[str, AfterValidator(_endpoint)] | None = None
    region: str | None = Field(default=None, validate_default=True)
    project_id: Identifier
    """The CodeArts project, not the IAM one."""
    stage_time_zone: Annotated[ZoneInfo, PlainValidator(_zone), PlainSerializer(str, return_type=str)] = (
        ZoneInfo("Asia/Shanghai")
    )
    auth: Annotated[AuthSection, Field(discriminator="method")]

    @field_validator("region", mode="after")
    @classmethod
    def _reachable(cls, region: str | None, info: ValidationInfo) -> str | None:
        # Where the endpoint is given, or wrong and told as such, the region decides nothing.
        if info.data.get("endpoint", "wrong") is None and region not in ENDPOINTS:
            if region is None:
                raise ValueError("is missing (give region: cn-north-4, or endpoint: a URL)")
            known = ", ".join(sorted(ENDPOINTS))
            raise ValueError(f"{region!r} has no known endpoint (give endpoint as well, or one of: {known})")
        return region

    @property
    def base_url(self) -> str:
        """The URL below which the API's paths lie."""
        return self.endpoint or ENDPOINTS[str(self.region)]


# The vendor's words. A run may bear any word of a stage but those for "skipped", which is no state of a run.
_STATUSES = {
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
_RUN_STATUSES = {word: status for word, status in _STATUSES.items() if status is not Status.SKIPPED}
_TRIGGERS = {
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
_Text = str | int | None


class _StageRecord(msgspec.Struct):
    name: _Text = None
    sequence: int | float | str | None = None
    status: _Text = None
    start_time: _Time = None
    end_time: _Time = None


class _BuildParams(msgspec.Struct):
    action: _Text = None
    commit_id: _Text = None
    event_type: _Text = None
    merge_id: _Text = None
    source_branch: _Text = None
    tag: _Text = None
    target_branch: _Text = None


class _RunRecord(msgspec.Struct):
    pipeline_id: _Text = None
    pipeline_run_id: _Text = None
    executor_id: _Text = None
    stage_status_list: list[_StageRecord | None] | None = None
    status: _Text = None
    run_number: int | float | str | None = None
    trigger_type: _Text = None
    build_params: _BuildParams | None = None
    start_time: _Time = None
    end_time: _Time = None
    detail_url: _Text = None


_records = msgspec.json.Decoder(list[msgspec.Raw])
_record = msgspec.json.Decoder(_RunRecord)
_anything = msgspec.json.Decoder()


_ZONELESS = re.compile(r"\d{4}-\d\d-\d\d[ T][\d:.]+")


class _UnusableError(Exception):
    """A record that cannot be used; bears the reason and words."""

    def __init__(self, reason: str, words: str) -> None:
        super().__init__(words)
        self.reason = reason


class CodeArts:
    """A CodeArts project."""

    name = "codearts"

    def __init__(self, project: Project) -> None:
        self._project_id = project.project_id
        self._zone = project.stage_time_zone

    def batch(self, ids: Sequence[str]) -> Call:
        """BatchShowPipelinesLatestStatus."""
        return Call(
            operation="BatchShowPipelinesLatestStatus",
            method="POST",
            path=f"/v5/{self._project_id}/api/pipelines/status",
            # Plain: a gateway was seen to refuse the type with a charset.
            headers=(("Content-Type", "application/json"),),
            body=msgspec.json.encode(list(ids)),
        )

    def read_batch(self, body: bytes, ids: Sequence[str], now: float) -> Batch:
        """Each record is read alone: what is wrong with one costs that one."""
        batch = Batch()
        asked = set(ids)
        for raw in _outline(body):
            try:
                pipeline, run = self._read_run(raw, asked, batch, now)
            except _UnusableError as reason:
                batch.rejected.append((reason.reason, str(reason)))
                continue
            twin = batch.runs.get(pipeline)
            if twin is not None:
                batch.rejected.append(
                    ("duplicate", f"more than one run of pipeline {pipeline}; the newest is used")
                )
                if _age(run) < _age(twin):
                    continue
            batch.runs[pipeline] = run
        return batch

    def _read_run(self, raw: msgspec.Raw, asked: set[str], batch: Batch, now: float) -> tuple[str, Run]:
        try:
            record = _record.decode(raw)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            raise _UnusableError("unreadable", _printable(str(error))) from None
        pipeline = _text(record.pipeline_id)
        if not pipeline:
            raise _UnusableError("no_pipeline_id", "a run that names no pipeline")
        if pipeline not in asked:
            raise _UnusableError(
                "not_requested", f"a run of pipeline {pipeline[:64]}, which was not asked for"
            )
        number = _whole(record.run_number, "run_number", batch)
        identity = label(_text(record.pipeline_run_id)) or (f"#{number}" if number is not None else "")
        start = _epoch(record.start_time, "time", batch)
        end = _epoch(record.end_time, "time", batch)
        if not identity:
            raise _UnusableError("no_run_id", f"a run of pipeline {pipeline} with neither id nor number")
        status = self._status(record.status, _RUN_STATUSES, "status", batch)
        build = record.build_params or _BuildParams()
        last = max(end, start or 0.0) if status.final and end else now
        window = (start - 60 if start else 0.0, last + 60)
        return pipeline, Run(
            id=identity,
            number=number,
            status=status,
            start=start,
            end=end if status.final else None,
            trigger=self._trigger(record.trigger_type, batch),
            branch=label(_text(build.target_branch)),
            tag=label(_text(build.tag)),
            commit=label(_text(build.commit_id)),
            executor=label(_text(record.executor_id)),
            event=label(_text(build.event_type)),
            merge_id=label(_text(build.merge_id)),
            source_branch=label(_text(build.source_branch)),
            url=label(_text(record.detail_url)),
            stages=self._stages(record.stage_status_list or [], pipeline, window, batch),
        )

    def _stages(
        self, records: Sequence[_StageRecord | None], pipeline: str, window: tuple[float, float], batch: Batch
    ) -> tuple[Stage, ...]:
        # The same name and sequence twice is one stage, told twice: the last wins. Without a sequence each is its own.
        told: dict[tuple[str, int], tuple[int, _StageRecord, int | None]] = {}
        for index, record in enumerate(records[:STAGES]):
            if record is not None:
                given = _whole(record.sequence, "stage_sequence", batch, least=0)
                told[_text(record.name), -index - 1 if given is None else given] = (index, record, given)
        given_often = Counter(given for _, _, given in told.values())
        stages: dict[tuple[str, int], Stage] = {}
        for index, record, given in told.values():
            sequence = given if given is not None and given_often[given] == 1 else index
            stage = self._stage(record, sequence, pipeline, window, batch)
            stages[stage.name, stage.sequence] = stage
        return tuple(stages.values())

    def _stage(
        self, record: _StageRecord, sequence: int, pipeline: str, window: tuple[float, float], batch: Batch
    ) -> Stage:
        name = label(_text(record.name))
        status = self._status(record.status, _STATUSES, "stage_status", batch)
        start = _epoch(record.start_time, "stage_time", batch, self._zone)
        end = _epoch(record.end_time, "stage_time", batch, self._zone)
        duration = None
        if status.final and start is not None and end is not None and end >= start:
            duration = end - start
        # Only a start that was read in the configured zone says anything of that zone.
        assumed = isinstance(record.start_time, str) and _ZONELESS.fullmatch(record.start_time)
        if assumed and start is not None and not window[0] <= start <= window[1]:
            batch.misplaced = batch.misplaced or f"stage {name!r} of pipeline {pipeline}"
            start = None
        return Stage(name=name, sequence=sequence, status=status, start=start, duration=duration)

    @staticmethod
    def _status(word: _Text, known: Mapping[str, Status], field: str, batch: Batch) -> Status:
        text = _text(word)
        status = known.get(text, Status.UNKNOWN)
        if status is Status.UNKNOWN:
            batch.words.add((field, text))
        return status

    @staticmethod
    def _trigger(word: _Text, batch: Batch) -> Trigger:
        text = _text(word)
        trigger = _TRIGGERS.get(text, Trigger.UNKNOWN)
        if text and trigger is Trigger.UNKNOWN:
            batch.words.add(("trigger_type", text))
        return trigger

    def fault(self, call: Call, status: int, headers: Mapping[str, str], body: bytes) -> Fault | None:
        """Success is 200 with a JSON array; an object with an error's fields is an error under any status."""
        error_code, message = "", ""
        answer, problem = _parse(body)
        if isinstance(answer, dict):
            error_code, message = _error(answer)
        ok = 200 <= status < 300
        if ok and isinstance(answer, list):
            return None
        kind = _kind(status, error_code, message)
        code = str(status)
        if ok and not error_code:
            kind, code = Kind.UNREADABLE, "invalid"
            got = (
                problem
                or f"a JSON {'object' if isinstance(answer, dict) else 'value'} that is no list of runs"
            )
            message = f"{call.operation} answered {got}"
        elif not message:
            message = (
                _redirect(headers) if 300 <= status < 400 else f"HTTP {status} with {problem or 'no message'}"
            )
        return Fault(
            kind=kind,
            code=code,
            error_code=error_code,
            message=message,
            request_id=headers.get("x-request-id", "")
            or (_text(answer.get("request_id")) if isinstance(answer, dict) else ""),
            wait=_wait(headers, message) if kind is Kind.THROTTLED else None,
        )


def _parse(body: bytes) -> tuple[Any, str]:
    """The JSON value of a body, or words for what it is instead; an array only as far as its outline."""
    if not body.strip():
        return None, "an empty body"
    try:
        if body.lstrip()[:1] == b"[":
            return _outline(body), ""
        return _anything.decode(body), ""
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        looks = "an HTML page" if b"<" in body.lstrip()[:1] else "no valid JSON"
        return None, f"{looks} ({len(body)} bytes)"


# Half of a character, which is left where text is cut by UTF-16 units; what must stay is matched first.
_HALVES = re.compile(rb"(\\\\|\\u[dD][89abAB]\w\w\\u[dD][c-fC-F]\w\w)|\\u[dD][89a-fA-F]\w\w")


def _outline(body: bytes) -> list[msgspec.Raw]:
    """The records of an array, not yet read; half a character in one of them does not cost the others."""
    try:
        return _records.decode(body)
    except msgspec.DecodeError:
        return _records.decode(_HALVES.sub(lambda found: found[1] or rb"\ufffd", body))


def _age(run: Run) -> tuple[int, float]:
    return run.number or 0, run.start or 0.0


def _error(answer: dict[str, Any]) -> tuple[str, str]:
    """Code and message of the error envelopes of the service, the gateway and IAM."""
    inner = answer.get("error")
    for place in (answer, inner if isinstance(inner, dict) else {}):
        for code, message in (("error_code", "error_msg"), ("errorCode", "errorMsg"), ("code", "message")):
            given = place.get(code)
            if isinstance(given, (str, int)) and given != "":
                return str(given), _text(place.get(message))
    return "", ""


_NO_PROJECT = {"DEVPIPE.00011412", "DEVPIPE.30021001", "DEV_21_100169"}
_THROTTLED = re.compile(r"(?:APIGW|APIG)\.0308|IAM\.0012")
_GATEWAY = re.compile(r"(?:APIGW|APIG)\.")
_UNAUTHENTICATED = re.compile(r"(?:APIGW|APIG)\.(?:0301|0305|0307)|IAM\.(?:0066|0067|1108)")


def _kind(status: int, error_code: str, message: str) -> Kind:
    if status == 429 or _THROTTLED.fullmatch(error_code) or "throttling threshold" in message:
        return Kind.THROTTLED
    if status == 401 or _UNAUTHENTICATED.fullmatch(error_code):
        return Kind.CREDENTIALS
    if status >= 500 or status == 408:
        return Kind.TRANSIENT
    if status == 413:
        return Kind.CONTENT
    if status in {403, 404} or error_code in _NO_PROJECT or _GATEWAY.match(error_code):
        return Kind.PROJECT
    if status in {200, 201, 400}:
        return Kind.CONTENT
    return Kind.PROJECT


_WINDOW = re.compile(r"time:\s*(\d{1,4})\s*(second|minute|hour)")


def _wait(headers: Mapping[str, str], message: str) -> float | None:
    """Seconds to wait: `Retry-After`, else the window that the gateway's message names."""
    told = headers.get("retry-after", "").strip()
    if told.isdecimal() and len(told) < 6:
        return float(told)
    window = _WINDOW.search(message)
    if window is None:
        return None
    return float(window[1]) * {"second": 1, "minute": 60, "hour": 3600}[window[2]]


def _redirect(headers: Mapping[str, str]) -> str:
    location = headers.get("location", "")
    try:
        place = urlsplit(location).hostname or ("another path" if location else "nowhere")
    except ValueError:
        place = "an address that is none"
    return f"redirected to {place}; redirects are not followed (is the endpoint right?)"


def _text(value: object) -> str:
    return "" if value is None else str(value)


def _whole(value: float | str | None, field: str, batch: Batch, least: int = 1) -> int | None:
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
        batch.words.add((field, _shape(str(value))))
    return None


_DIGITS = re.compile(r"-?\d{1,19}")


def _epoch(value: _Time, field: str, batch: Batch, zone: ZoneInfo | None = None) -> float | None:
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
                batch.words.add((field, _shape(value)))
                return None
            # The epoch's own day, whatever the zone: zero, written out.
            return seconds if seconds > 86_400 else None
    # Zero and below: the vendor's other spelling of "never".
    return value / 1000 if 0 < value < 1e17 else None


def _shape(text: str) -> str:
    return re.sub(r"\d", "0", text[:64])


def _printable(text: str) -> str:
    return "".join(character if character.isprintable() else "?" for character in text)
