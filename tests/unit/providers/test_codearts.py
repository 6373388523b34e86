"""Decoding of batches: all statuses, all formats of a time, and no record affected by another."""

import json
import random
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exporter.core.failures import FailureKind, RequestFailure
from exporter.core.model import LABEL_LENGTH, STAGES, Run, Stage, Status, Trigger
from exporter.providers.codearts import ENDPOINTS
from exporter.providers.codearts.records import decode
from exporter.providers.protocol import LatestRuns, SupportsBatchQuery
from exporter.providers.registry import connect
from exporter.providers.responses import too_complex
from exporter.settings.settings import Config
from tests.drivers.support import PIPELINE_ID, PROJECT_ID, config, project
from tests.marks import examples

SEED = (Path(__file__).parents[2] / "data" / "codearts_batch_seed.json").read_bytes()
NOW = 1_677_920_000.0
START, END = 1_677_919_688, 1_677_919_811
LOCAL = {"start_time": "2023-03-04 16:48:09", "end_time": "2023-03-04 16:50:11"}


def provider(**changes: Any) -> SupportsBatchQuery:
    codearts, _, _ = connect(config(project(**changes)).projects[0], {})
    assert isinstance(codearts, SupportsBatchQuery)
    return codearts


CODEARTS = provider()
CALL = CODEARTS.batch_request([PIPELINE_ID])
IDS = {f"{index:032x}" for index in range(100)}


def pipeline_id(index: int) -> str:
    return f"{index:032x}"


def record(index: int = 0, **changes: Any) -> dict[str, Any]:
    """Return the record of a finished run, with `changes` applied."""
    return {
        "pipeline_id": pipeline_id(index),
        "pipeline_run_id": f"run-{index}",
        "executor_id": f"executor-{index}",
        "executor_name": "Somebody",
        "stage_status_list": [{"name": "Build", "sequence": 0, "status": "COMPLETED", **LOCAL}],
        "status": "COMPLETED",
        "run_number": index + 7,
        "trigger_type": "Manual",
        "build_params": {"target_branch": "main", "commit_id": f"c{index}", "merge_id": None, "message": "m"},
        "artifact_params": None,
        "start_time": START * 1000,
        "end_time": END * 1000,
        **changes,
    }


def read(*records: Any, to: SupportsBatchQuery = CODEARTS, asked: int = 100, now: float = NOW) -> LatestRuns:
    return read_bytes(json.dumps(records).encode(), to, asked, now)


def read_bytes(
    body: bytes, to: SupportsBatchQuery = CODEARTS, asked: int = 100, now: float = NOW
) -> LatestRuns:
    return to.read_batch(body, [pipeline_id(index) for index in range(asked)], now)


def run_of(to: SupportsBatchQuery = CODEARTS, now: float = NOW, **changes: Any) -> Run:
    """Return the run of a response with one record."""
    batch = read(record(**changes), to=to, now=now)
    assert not batch.rejected
    return batch.runs[pipeline_id(0)]


def stage_of(**changes: Any) -> Stage:
    stage = {"name": "Build", "sequence": 0, "status": "COMPLETED", **LOCAL, **changes}
    (read_stage,) = run_of(stage_status_list=[stage]).stages
    return read_stage


# -- the vendor's example


def test_documented_response_is_decoded_as_documented() -> None:
    """Byte for byte. Its stage times are eight hours ahead of the run times."""
    assert CODEARTS.failure(CALL, 200, {}, SEED) is None
    batch = CODEARTS.read_batch(SEED, [PIPELINE_ID], NOW)
    assert (batch.rejected, batch.unknown_values, batch.implausible_times) == ([], set(), "")
    run = batch.runs[PIPELINE_ID]
    assert run == Run(
        id="ad6b7f66283a45be9c1f82b06c831e59",
        number=2,
        status=Status.FAILED,
        start=1677919688,
        end=1677919811,
        trigger=Trigger.MANUAL,
        branch="test-lbdsb11",
        commit="fc93c34f906aeb1cc031e3f6f8b2baeac078ae4b",
        executor="847a5317086c41798469d0868535943a",
        event="Manual",
        stages=(Stage("Phase_1", 0, Status.FAILED, start=1677919689, duration=122),),
    )
    assert run.duration == 123


def test_request_is_as_documented() -> None:
    assert (CALL.operation, CALL.method) == ("BatchShowPipelinesLatestStatus", "POST")
    assert CALL.path == f"/v5/{PROJECT_ID}/api/pipelines/status"
    assert json.loads(CALL.body) == [PIPELINE_ID]
    assert dict(CALL.headers) == {"Content-Type": "application/json"}


@pytest.mark.parametrize(
    ("region", "host"),
    [
        ("cn-north-4", "cloudpipeline-ext.cn-north-4.myhuaweicloud.com"),
        ("ap-southeast-3", "cloudpipeline-ext.ap-southeast-3.myhuaweicloud.com"),
        ("tr-west-1", "pipeline-external.tr-west-1.myhuaweicloud.com"),
        ("eu-west-101", "pipeline-external.eu-west-101.myhuaweicloud.eu"),
        ("af-south-1", "pipeline.af-south-1.myhuaweicloud.com"),
    ],
)
def test_each_region_has_its_endpoint(region: str, host: str) -> None:
    assert ENDPOINTS[region] == f"https://{host}"
    chosen: Config = config(project(endpoint=None, region=region))
    assert connect(chosen.projects[0], {})[2] == f"https://{host}"


def test_scope_is_the_vendors_project_id() -> None:
    """Independent of the configured name and credentials."""
    other = "f" * 32
    chosen = config(project(name="one"), project(name="two", project_id=other))
    assert [one.scope for one in chosen.projects] == [PROJECT_ID, other]


# -- isolation of bad records

json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.integers(-(10**4000), 10**4000)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text()
    | st.sampled_from(
        ["--5", "٣", "1e3", "0001-01-01", "9999-12-31T23:59:59-23:59", "\x00\n\u2028", "9" * 5000]
    ),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)
fields = st.sampled_from(
    [
        *[(name,) for name in record()],
        *[("build_params", name) for name in record()["build_params"]],
        *[("stage_status_list", 0, name) for name in record()["stage_status_list"][0]],
        ("stage_status_list", 0),
    ]
)


def corrupted(sound: dict[str, Any], path: tuple[Any, ...], change: str, value: Any) -> dict[str, Any]:
    copy: dict[str, Any] = json.loads(json.dumps(sound))
    place: Any = copy
    for part in path[:-1]:
        place = place[part]
    if change == "remove":
        del place[path[-1]]
    else:
        place[path[-1]] = None if change == "null" else value
    return copy


@given(
    st.data(),
    fields,
    st.sampled_from(["null", "remove", "replace"]),
    json_values,
    st.randoms(use_true_random=False),
)
@settings(deadline=None)
def test_corrupted_record_affects_no_other(
    data: st.DataObject, path: tuple[Any, ...], change: str, value: Any, chance: random.Random
) -> None:
    """For any value of one field of one record, the other runs are decoded as if alone, in any order."""
    count = data.draw(st.integers(2, 5))
    records = [record(index) for index in range(count)]
    sound = read(*records).runs
    victim = data.draw(st.integers(0, count - 1))
    records[victim] = corrupted(records[victim], path, change, value)
    chance.shuffle(records)
    # With the id of another pipeline the newest of both runs is used.
    if len({str(item.get("pipeline_id")) for item in records}) < count:
        return
    body = json.dumps(records).encode()
    assert CODEARTS.failure(CALL, 200, {}, body) is None
    batch = read(*records)
    for index in set(range(count)) - {victim}:
        assert batch.runs[pipeline_id(index)] == sound[pipeline_id(index)]
    assert len(batch.rejected) + len(batch.runs) == count
    json.dumps([str(run) for run in batch.runs.values()]).encode()


STAGE = {"name": "Deploy", "sequence": 1, "status": "COMPLETED", **LOCAL}
BUILD = {
    "target_branch": "main",
    "tag": "v1",
    "commit_id": "c0",
    "event_type": "Push",
    "merge_id": 9,
    "source_branch": "fix",
    "message": "m",
}
FULL = record(
    stage_status_list=[*record()["stage_status_list"], STAGE], build_params=BUILD, detail_url="https://x/y"
)
# Fields of a run that depend on a field of its record, and of a stage on a field of its own. The status and times of a
# run also decide which starts of its stages are plausible.
HANGS_ON: dict[Any, set[str]] = {
    "executor_id": {"executor"},
    "executor_name": set(),
    "stage_status_list": {"stages"},
    "status": {"status", "end", "stage starts"},
    "run_number": {"number"},
    "trigger_type": {"trigger"},
    "build_params": {"branch", "tag", "commit", "event", "merge_id", "source_branch"},
    "artifact_params": set(),
    "start_time": {"start", "stage starts"},
    "end_time": {"end", "stage starts"},
    "detail_url": {"url"},
    ("build_params", "target_branch"): {"branch"},
    ("build_params", "tag"): {"tag"},
    ("build_params", "commit_id"): {"commit"},
    ("build_params", "event_type"): {"event"},
    ("build_params", "merge_id"): {"merge_id"},
    ("build_params", "source_branch"): {"source_branch"},
    ("build_params", "message"): set(),
    ("stage_status_list", 1): {"stage 1", "sequences"},
    ("stage_status_list", 1, "name"): {"name"},
    ("stage_status_list", 1, "sequence"): {"sequences"},
    ("stage_status_list", 1, "status"): {"status of stage", "duration"},
    ("stage_status_list", 1, "start_time"): {"stage starts", "duration"},
    ("stage_status_list", 1, "end_time"): {"duration"},
}


def apart_from(run: Run, affected: set[str]) -> Any:
    """Return a run as plain values, without the affected fields."""
    left = {name: value for name, value in msgspec.structs.asdict(run).items() if name not in affected}
    if "stages" in affected:
        return left
    stages = [msgspec.structs.asdict(stage) for stage in run.stages]
    for stage in stages:
        for part, name in (("sequences", "sequence"), ("stage starts", "start")):
            if part in affected:
                del stage[name]
    if "stage 1" in affected:
        del stages[1:]
    for part, name in (("name", "name"), ("status of stage", "status"), ("duration", "duration")):
        if part in affected:
            del stages[1][name]
    return {**left, "stages": stages}


def test_every_field_is_covered() -> None:
    """The table of dependencies lists every field except the ids."""
    assert {name for name in HANGS_ON if isinstance(name, str)} == set(FULL) - {
        "pipeline_id",
        "pipeline_run_id",
    }
    assert {path[1] for path in HANGS_ON if path[0] == "build_params"} == set(BUILD)
    assert {path[2] for path in HANGS_ON if path[0] == "stage_status_list" and len(path) == 3} == set(STAGE)


@given(st.sampled_from(list(HANGS_ON)), st.sampled_from(["null", "remove", "replace"]), json_values)
@examples(200)
def test_corrupted_field_affects_no_other(path: Any, change: str, value: Any) -> None:
    """For any value of one field, the fields that do not depend on it are decoded as before."""
    sound, affected = run_of(**FULL), HANGS_ON[path]
    if not isinstance(path, tuple):
        path = (path,)
    batch = read(corrupted(FULL, path, change, value))
    if path == ("status",) and batch.rejected:
        return  # see below: a record with an invalid status is rejected
    assert (batch.rejected, batch.unusable, batch.incomplete) == ([], set(), False)
    assert apart_from(batch.runs[pipeline_id(0)], affected) == apart_from(sound, affected)


@given(st.sampled_from([path for path in HANGS_ON if path != "status"]))
@settings(deadline=None)
def test_invalid_utf8_affects_its_field_only(path: Any) -> None:
    """Invalid UTF-8 counts as absent, and the other fields are decoded."""
    sound, affected = run_of(**FULL), HANGS_ON[path]
    if not isinstance(path, tuple):
        path = (path,)
    body = json.dumps([corrupted(FULL, path, "replace", "GARBLED")]).encode().replace(b"GARBLED", b"\xff\xfe")
    batch = read_bytes(body)
    assert not batch.rejected
    assert apart_from(batch.runs[pipeline_id(0)], affected) == apart_from(sound, affected)


@pytest.mark.parametrize(
    "broken", [True, ["x"], {"name": "FAILED"}, 1.5, 10**4000, b"1e999", b"9" * 9999, b'"\xff"', b'"\\ud83d"']
)
@pytest.mark.parametrize("field", ["trigger_type", "executor_id", "detail_url", "build_params"])
def test_value_of_an_undocumented_type_counts_as_absent(field: str, broken: Any) -> None:
    """Including a number out of range and invalid text."""
    literal = broken if isinstance(broken, bytes) else json.dumps(broken).encode()
    body = (
        json.dumps([corrupted(record(), (field,), "replace", "BROKEN")])
        .encode()
        .replace(b'"BROKEN"', literal)
    )
    run = read_bytes(body).runs[pipeline_id(0)]
    assert (run.number, run.start) == (7, START)
    if field == "build_params":
        assert (run.branch, run.status) == ("", Status.SUCCESS)
    else:
        assert run.branch == "main"


def test_valid_items_of_a_list_are_used() -> None:
    """An invalid stage is skipped. An invalid value in a stage affects this value only."""
    stages = [{"name": ["A"], "sequence": 4, "status": "FAILED"}, "B", 3, [], {"name": "C", "status": {}}]
    run = run_of(stage_status_list=stages)
    assert run.stages == (Stage("", 4, Status.FAILED), Stage("C", 4, Status.UNKNOWN))


@given(st.lists(json_values, min_size=1, max_size=3), st.randoms(use_true_random=False))
@settings(deadline=None)
def test_item_that_is_not_a_record_is_rejected_alone(others: list[Any], chance: random.Random) -> None:
    """Each item that is not a run is counted, and the runs next to it are decoded."""
    records = [record(0), *others, record(1)]
    chance.shuffle(records)
    batch = read(*records)
    assert set(batch.runs) == {pipeline_id(0), pipeline_id(1)}
    assert len(batch.rejected) == len(others)


polled = st.lists(
    st.builds(
        record,
        st.integers(0, 4),
        status=st.sampled_from(["COMPLETED", "FAILED", "RUNNING", "TERMINATED"]),
        run_number=st.integers(1, 3),
        trigger_type=st.sampled_from(["Manual", "ByMoon"]),
        start_time=st.sampled_from([START * 1000, (START - 86_400) * 1000]),
        end_time=st.sampled_from([END * 1000, None]),
    ),
    max_size=6,
)


@given(st.lists(polled, min_size=1, max_size=6), st.booleans())
def test_cached_records_decode_to_the_same(polls, rising):
    """A provider with a cache returns the same as a new one, for any sequence of responses."""
    codearts = provider()
    for turn, records in enumerate(polls + polls[:2]):
        body = json.dumps(records).encode()
        ids = [pipeline_id(index) for index in range(4)]
        now = NOW + turn * rising
        assert codearts.read_batch(body, ids, now) == provider().read_batch(body, ids, now)


def test_repeated_record_is_the_same_object():
    """Identity shows the tracker that nothing changed."""
    codearts = provider()
    body = json.dumps([record()]).encode()
    first, again = (codearts.read_batch(body, [pipeline_id(0)], NOW).runs[pipeline_id(0)] for _ in range(2))
    assert first is again


def test_anomalous_records_are_cached(monkeypatch: pytest.MonkeyPatch) -> None:
    """With 2 % of them, an unchanged refresh decodes nothing and reports each anomaly again."""
    decoded = []

    def counting(raw: Any, kind: Any) -> Any:
        decoded.append(kind)
        return decode(raw, kind)

    monkeypatch.setattr("exporter.providers.codearts.provider.decode", counting)
    codearts = provider()
    ids = [pipeline_id(index) for index in range(50)]
    odd = record(0, status="BEAMING")
    elsewhere = record(1, stage_status_list=[{**STAGE, "start_time": "1999-01-01 00:00:00"}])
    records = [odd, elsewhere, *(record(index) for index in range(2, 50))]
    first = codearts.read_batch(json.dumps(records).encode(), ids, NOW)
    assert len(decoded) == 50
    assert ("status", "BEAMING") in first.unknown_values
    assert first.implausible_times
    same = codearts.read_batch(json.dumps(records).encode(), ids, NOW + 60)
    records[2] = record(2, run_number=8)
    changed = codearts.read_batch(json.dumps(records).encode(), ids, NOW + 120)
    assert len(decoded) == 51
    for batch in (same, changed):
        assert (batch.unknown_values, batch.implausible_times) == (
            first.unknown_values,
            first.implausible_times,
        )
    assert changed.runs[pipeline_id(2)].number == 8


def test_start_in_the_future_is_checked_again() -> None:
    """An implausible start of a running run can be plausible at the next poll with the same record."""
    codearts = provider()
    later = [{**STAGE, "status": "RUNNING", "start_time": "2026-01-01 00:10:00", "end_time": None}]
    start = datetime(2025, 12, 31, 16, 10, tzinfo=UTC).timestamp()
    running = record(status="RUNNING", start_time=(start - 60) * 1000, end_time=None, stage_status_list=later)
    body = json.dumps([running]).encode()
    first, again = (codearts.read_batch(body, [pipeline_id(0)], now) for now in (start - 600, start + 600))
    assert [one.runs[pipeline_id(0)].stages[0].start for one in (first, again)] == [None, start]
    assert [bool(one.implausible_times) for one in (first, again)] == [True, False]


@pytest.mark.parametrize("count", [2000, 2001])
def test_number_of_records_is_limited(count: int) -> None:
    """Rejected ones count, and only the first messages are kept."""
    body = json.dumps([1] * count).encode()
    failure = CODEARTS.failure(CALL, 200, {}, body)
    if count > 2000:
        assert failure is not None
        assert (failure.kind, failure.code) == (FailureKind.UNREADABLE, "invalid")
        assert "2001 records, above the limit of 2000" in failure.message
        return
    assert failure is None
    batch = read_bytes(body)
    assert (len(batch.rejected), batch.further_rejected) == (100, {"unreadable": 1900})


def test_large_valid_responses_are_decoded() -> None:
    """Fifty pipelines of fifty stages, and a thousand pipelines of ten."""
    for pipelines, count in ((50, 50), (1000, 10)):
        ids = [pipeline_id(index) for index in range(pipelines)]
        call = provider().batch_request(ids)
        steps = [{**STAGE, "name": f"stage {place}", "sequence": place} for place in range(count)]
        body = json.dumps([record(index, stage_status_list=steps) for index in range(pipelines)]).encode()
        assert len(body) < 8 * 2**20
        assert too_complex(call, body) is None
        assert provider().failure(call, 200, {}, body) is None
        batch = provider().read_batch(body, ids, NOW)
        assert {len(run.stages) for run in batch.runs.values()} == {count}
        assert len(batch.runs) == pipelines


@given(st.permutations(range(6)))
def test_order_of_a_response_does_not_matter(order: list[int]) -> None:
    records = [record(index) for index in range(5)] + [record(3, run_number=99, pipeline_run_id="newer")]
    assert read(*(records[index] for index in order)).runs == read(*records).runs


@pytest.mark.parametrize(
    "spoil",
    [
        pytest.param(lambda text: text.replace('"Somebody"', '"\udcff\udcfe"', 1), id="no UTF-8"),
        pytest.param(lambda text: text.replace('"Somebody"', '"cut \\ud83d"', 1), id="half a character"),
        pytest.param(lambda text: text.replace('"Somebody"', '"\\udc00\\\\ud83d"', 1), id="the other half"),
        pytest.param(lambda text: text.replace('"Somebody"', "1e999", 1), id="number without bound"),
        pytest.param(
            lambda text: text.replace('"run_number": 7', f'"run_number": {"9" * 9999}', 1), id="digits"
        ),
        pytest.param(lambda text: text.replace('"COMPLETED"', '"\udcff"', 1), id="no UTF-8 in what is used"),
        pytest.param(lambda text: text.replace('"run-0"', '"\\ud83d\\ude00\\ud83d"', 1), id="half in an id"),
    ],
)
def test_corrupted_text_affects_at_most_its_record(spoil: Any) -> None:
    """Invalid UTF-8 and lone surrogates, which Python's JSON encoder does not write."""
    body = spoil(json.dumps([record(0), record(1)])).encode("utf-8", "surrogateescape")
    assert CODEARTS.failure(CALL, 200, {}, body) is None
    batch = CODEARTS.read_batch(body, [pipeline_id(0), pipeline_id(1)], NOW)
    assert batch.runs[pipeline_id(1)] == read(record(1)).runs[pipeline_id(1)]
    assert len(batch.runs) + len(batch.rejected) == 2
    for run in batch.runs.values():
        str(run).encode()


# -- status and trigger

STATUSES = {
    "COMPLETED": Status.SUCCESS,
    "FAILED": Status.FAILED,
    "ASYNC_FAILED": Status.FAILED,
    "CANCELED": Status.CANCELED,
    "IGNORED": Status.IGNORED,
    "RUNNING": Status.RUNNING,
    "ASYNC_RUNNING": Status.RUNNING,
    "INIT": Status.PENDING,
    "QUEUED": Status.PENDING,
    "REDISPATCH": Status.PENDING,
    "PAUSED": Status.PAUSED,
    "SUSPEND": Status.SUSPENDED,
}
SKIPPED = {"SKIPPED": Status.SKIPPED, "UNSELECTED": Status.SKIPPED}
UNKNOWN_STATUSES = ["", "completed", "SUCCESS", "NEVER_HEARD_OF", " FAILED", "失败", None, 3]


@pytest.mark.parametrize(("word", "status"), STATUSES.items())
def test_status_of_a_run_is_translated(word: str, status: Status) -> None:
    batch = read(record(status=word))
    assert batch.runs[pipeline_id(0)].status is status
    assert not batch.unknown_values


@pytest.mark.parametrize(("word", "status"), [*STATUSES.items(), *SKIPPED.items()])
def test_status_of_a_stage_is_translated(word: str, status: Status) -> None:
    assert stage_of(status=word).status is status


@pytest.mark.parametrize("word", [*SKIPPED, *UNKNOWN_STATUSES])
def test_status_of_a_run_without_translation_is_unknown_and_reported(word: Any) -> None:
    """It is neither a failure nor dropped. Only stages are skipped."""
    batch = read(record(status=word))
    assert batch.runs[pipeline_id(0)].status is Status.UNKNOWN
    assert batch.unknown_values == {("status", "" if word is None else str(word))}


@pytest.mark.parametrize("word", UNKNOWN_STATUSES)
def test_status_of_a_stage_without_translation_is_unknown_and_reported(word: Any) -> None:
    batch = read(record(stage_status_list=[{"name": "Build", "sequence": 0, "status": word}]))
    (stage,) = batch.runs[pipeline_id(0)].stages
    assert stage.status is Status.UNKNOWN
    assert batch.unknown_values == {("stage_status", "" if word is None else str(word))}


@pytest.mark.parametrize(
    ("word", "trigger"),
    [
        ("Manual", Trigger.MANUAL),
        ("Scheduler", Trigger.SCHEDULE),
        ("Push", Trigger.PUSH),
        ("MR", Trigger.MERGE_REQUEST),
        ("CR", Trigger.MERGE_REQUEST),
        ("CreateTag", Trigger.TAG),
        ("Issue", Trigger.ISSUE),
        ("Note", Trigger.COMMENT),
        ("SubPipeline", Trigger.PIPELINE),
        ("RollBack", Trigger.ROLLBACK),
        ("Generic", Trigger.OTHER),
        (None, Trigger.UNKNOWN),
        ("", Trigger.UNKNOWN),
    ],
)
def test_trigger_is_translated(word: str | None, trigger: Trigger) -> None:
    batch = read(record(trigger_type=word))
    assert batch.runs[pipeline_id(0)].trigger is trigger
    assert not batch.unknown_values


@pytest.mark.parametrize("word", ["manual", "Webhook", 2])
def test_unknown_trigger_is_reported(word: Any) -> None:
    batch = read(record(trigger_type=word))
    assert batch.runs[pipeline_id(0)].trigger is Trigger.UNKNOWN
    assert batch.unknown_values == {("trigger_type", str(word))}


# -- times and numbers


@pytest.mark.parametrize(
    "value",
    [
        START * 1000,
        START * 1000.0,
        str(START * 1000),
        "2023-03-04T08:48:08Z",
        "2023-03-04T16:48:08+08:00",
        "2023-03-04T16:48:08.000+08:00",
    ],
)
def test_formats_of_a_run_start(value: Any) -> None:
    batch = read(record(start_time=value))
    assert batch.runs[pipeline_id(0)].start == START
    assert not batch.unknown_values


def test_milliseconds_are_kept() -> None:
    assert run_of(start_time=START * 1000 + 250).start == START + 0.25


@pytest.mark.parametrize(
    "value", [None, "", 0, 0.0, "0", -1, "-62135769600000", "1970-01-01T00:00:00Z", "1970-01-01 08:00:00"]
)
def test_every_format_of_never_is_an_absent_time(value: Any) -> None:
    """The time is absent, and not reported as unknown."""
    batch = read(record(end_time=value, start_time=value))
    run = batch.runs[pipeline_id(0)]
    assert (run.start, run.end, run.duration) == (None, None, None)
    assert not batch.unknown_values


@pytest.mark.parametrize("value", ["1970-01-01 08:00:00", "1970-01-01 00:00:00", "", None, 0, "0"])
def test_stage_that_never_started_has_no_duration(value: Any) -> None:
    """A zero formatted as a date must not become a duration of fifty years."""
    stage = stage_of(start_time=value, status="FAILED")
    assert (stage.start, stage.duration) == (None, None)


@pytest.mark.parametrize(
    "value", [LOCAL["start_time"], "2023-03-04T08:48:09Z", (START + 1) * 1000, str((START + 1) * 1000)]
)
def test_formats_of_a_stage_start(value: Any) -> None:
    assert stage_of(start_time=value) == Stage("Build", 0, Status.SUCCESS, start=START + 1, duration=122)


@pytest.mark.parametrize(
    "value", ["soon", "--5", "2023-13-45 00:00:00", "12:00", "04/03/2023", "²", "-", "x" * 999]
)
def test_text_that_is_not_a_time_is_reported_and_absent(value: str) -> None:
    """The reported text is bounded and has 0 for each digit, so that a changing time is reported once."""
    batch = read(record(start_time=value))
    run = batch.runs[pipeline_id(0)]
    assert run.start is None
    assert run.end == END
    ((field, word),) = batch.unknown_values
    assert field == "time"
    assert len(word) <= 64
    assert not set(word) & set("123456789")


@pytest.mark.parametrize("word", UNKNOWN_STATUSES)
def test_end_with_unknown_status_is_kept(word: Any) -> None:
    """The run may have ended with a status that has no translation yet. Its duration is unknown."""
    run = run_of(status=word, end_time=END * 1000)
    assert (run.status, run.end, run.duration) == (Status.UNKNOWN, END, None)
    assert run_of(status=word, end_time=0).end is None


def test_end_of_a_running_run_is_ignored() -> None:
    run = run_of(status="RUNNING", end_time=END * 1000)
    assert (run.end, run.duration) == (None, None)
    (stage,) = run.stages
    assert stage.duration == 122


def test_running_stage_has_no_duration() -> None:
    assert stage_of(status="RUNNING").duration is None
    assert stage_of(status="RUNNING").start == START + 1


def test_end_before_start_gives_no_duration() -> None:
    run = run_of(start_time=END * 1000, end_time=START * 1000)
    assert (run.start, run.end, run.duration) == (END, START, None)
    backwards = stage_of(start_time=LOCAL["end_time"], end_time=LOCAL["start_time"])
    assert backwards.duration is None


@pytest.mark.parametrize(
    ("value", "number"),
    [(2, 2), ("2", 2), (2.0, 2), ((1 << 53) - 1, (1 << 53) - 1), (None, None), ("", None)],
)
def test_run_number_is_read_or_absent(value: Any, number: int | None) -> None:
    batch = read(record(run_number=value))
    assert batch.runs[pipeline_id(0)].number == number
    assert not batch.unknown_values


@pytest.mark.parametrize("value", [0, "0", 0.0])
def test_run_number_zero_is_absent(value: Any) -> None:
    batch = read(record(run_number=value))
    assert batch.runs[pipeline_id(0)].number is None
    assert not batch.unknown_values


FOREIGN = ["٣", "３", "1３", "௩", "𝟛", "³", "1_000", "+3"]  # noqa: RUF001  # most are digits that `int` accepts


@pytest.mark.parametrize(
    "value", [-1, "-7", 2.5, 0.5, 1e300, "two", "2.0", 1 << 53, "9" * 30, "9" * 5000, *FOREIGN]
)
def test_invalid_run_number_is_reported_and_absent(value: Any) -> None:
    batch = read(record(run_number=value))
    assert batch.runs[pipeline_id(0)].number is None
    ((field, word),) = batch.unknown_values
    assert field == "run_number"
    assert len(word) <= 64


# -- time zone of stages


def test_another_time_zone_moves_stages() -> None:
    utc = provider(stage_time_zone="UTC")
    run = run_of(
        to=utc, stage_status_list=[{"name": "B", "status": "COMPLETED", "start_time": "2023-03-04 08:48:09"}]
    )
    assert run.stages[0].start == START + 1


@pytest.mark.parametrize("zone", ["UTC", "Europe/Dublin", "America/Sao_Paulo", "Asia/Tokyo"])
def test_wrong_time_zone_removes_the_start_not_the_duration(zone: str) -> None:
    """A stage outside its run has no start, but keeps its duration. The first is reported."""
    stages = [
        {"name": name, "sequence": index, "status": "COMPLETED", **LOCAL} for index, name in enumerate("AB")
    ]
    batch = read(record(stage_status_list=stages), to=provider(stage_time_zone=zone))
    assert [(stage.start, stage.duration) for stage in batch.runs[pipeline_id(0)].stages] == [(None, 122)] * 2
    assert "'A'" in batch.implausible_times
    assert pipeline_id(0) in batch.implausible_times
    assert not batch.rejected


@pytest.mark.parametrize(
    ("start", "kept"),
    [("16:47:08", True), ("16:47:07", False), ("16:51:11", True), ("16:51:12", False)],
)
def test_one_minute_outside_the_run_is_allowed(start: str, kept: bool) -> None:
    batch = read(record(stage_status_list=[{"status": "FAILED", "start_time": f"2023-03-04 {start}"}]))
    assert (batch.runs[pipeline_id(0)].stages[0].start is not None) is kept
    assert bool(batch.implausible_times) is not kept


@pytest.mark.parametrize("start", [1677919688000 + 7_200_000, "1677926888000", "2023-03-04T18:48:08+08:00"])
def test_time_with_a_zone_is_never_implausible(start: object) -> None:
    batch = read(record(stage_status_list=[{"status": "FAILED", "start_time": start}]))
    assert batch.runs[pipeline_id(0)].stages[0].start == 1677926888
    assert not batch.implausible_times


def test_stages_of_a_running_run_may_start_until_now() -> None:
    stages = [{"name": "B", "sequence": 0, "status": "RUNNING", "start_time": "2023-03-04 16:55:00"}]
    (late,) = run_of(status="RUNNING", end_time=None, stage_status_list=stages, now=START + 60.0).stages
    (well,) = run_of(status="RUNNING", end_time=None, stage_status_list=stages, now=START + 600.0).stages
    assert late.start is None
    assert well.start == START + 412


# -- stages


def sequences(*stages: tuple[str, Any]) -> list[tuple[str, int]]:
    listed = [{"name": name, "status": "COMPLETED", "sequence": sequence} for name, sequence in stages]
    return [(stage.name, stage.sequence) for stage in run_of(stage_status_list=listed).stages]


def test_vendor_sequences_are_kept() -> None:
    assert sequences(("A", 5), ("B", "3"), ("C", 0)) == [("A", 5), ("B", 3), ("C", 0)]


@pytest.mark.parametrize("missing", [None, "", "first", -1, 1.5])
def test_missing_sequence_is_the_index(missing: Any) -> None:
    assert sequences(("A", missing), ("A", missing), ("B", missing)) == [("A", 0), ("A", 1), ("B", 2)]


def test_repeated_sequence_is_replaced_by_the_index() -> None:
    assert sequences(("A", 7), ("B", 1), ("C", 1), ("D", 4)) == [("A", 7), ("B", 1), ("C", 2), ("D", 4)]


def test_last_of_exact_duplicates_is_used() -> None:
    listed = [
        {"name": "A", "sequence": 1, "status": "RUNNING"},
        {"name": "B", "sequence": 2, "status": "INIT"},
        {"name": "A", "sequence": 1, "status": "FAILED"},
    ]
    stages = run_of(stage_status_list=listed).stages
    assert sorted((stage.name, stage.sequence, stage.status) for stage in stages) == [
        ("A", 1, Status.FAILED),
        ("B", 2, Status.PENDING),
    ]


@given(st.lists(st.tuples(st.sampled_from("AB"), st.none() | st.integers(-1, 4)), max_size=8))
def test_name_and_sequence_are_unique(stages: list[tuple[str, int | None]]) -> None:
    """Otherwise two samples would be the same series, which fails a scrape."""
    listed = sequences(*stages)
    assert len(set(listed)) == len(listed)


def test_index_that_is_the_sequence_of_another_is_not_used() -> None:
    """Otherwise one of two stages with a name would be lost."""
    assert sequences(("A", 1), ("A", None), ("B", None)) == [("A", 1), ("A", 2), ("B", 2)]
    assert sequences(("A", 3), ("A", 2), ("A", None), ("A", None)) == [("A", 3), ("A", 2), ("A", 4), ("A", 5)]


@given(st.lists(st.tuples(st.sampled_from("AB"), st.none() | st.integers(-1, 4)), max_size=8))
def test_no_stage_is_lost_but_exact_duplicates(stages: list[tuple[str, int | None]]) -> None:
    distinct = {
        (name, sequence if sequence is not None and sequence >= 0 else f"at {index}")
        for index, (name, sequence) in enumerate(stages)
    }
    assert len(sequences(*stages)) == len(distinct)


def test_number_of_stages_is_limited() -> None:
    assert len(sequences(*((f"S{index}", index) for index in range(STAGES + 10)))) == STAGES == 50


@pytest.mark.parametrize("stages", [None, [], [None]])
def test_run_may_have_no_stages(stages: Any) -> None:
    assert run_of(stage_status_list=stages).stages == ()


def test_labels_are_cut() -> None:
    """Label values have at most 256 characters. Two stage names with the same start remain two stages.

    A part of a URL would lead to another page.
    """
    long = "é" * 1000
    run = run_of(
        pipeline_run_id=long,
        executor_id=long,
        detail_url=f"https://devcloud.example.com/{long}",
        build_params=dict.fromkeys(
            ["target_branch", "tag", "commit_id", "event_type", "merge_id", "source_branch"], long
        ),
        stage_status_list=[{"name": long + "1", "sequence": 0}, {"name": long + "2", "sequence": 0}],
    )
    assert run.url == ""
    texts = [run.id, run.executor, run.branch, run.tag, run.commit, run.event, run.merge_id]
    texts += [run.source_branch, *(stage.name for stage in run.stages)]
    assert {len(text) for text in texts} == {LABEL_LENGTH}
    assert [stage.sequence for stage in run.stages] == [0, 1]


LONGEST_URL = f"https://devcloud.example.com/{'x' * (LABEL_LENGTH - len('https://devcloud.example.com/'))}"


@pytest.mark.parametrize(
    ("reported", "shown"),
    [
        ("https://devcloud.example.com/p/1?v=1#top", "https://devcloud.example.com/p/1?v=1#top"),
        ("HTTP://devcloud.example.com", "HTTP://devcloud.example.com"),
        (LONGEST_URL, LONGEST_URL),
        (LONGEST_URL + "x", ""),
        ("", ""),
        (None, ""),
        (7, ""),
        ("javascript:alert(1)", ""),
        ("devcloud.example.com/p/1", ""),
        ("https:///p/1", ""),
        ("https://root:opensesame@devcloud.example.com/p/1", ""),
        ("https://devcloud.example.com/p 1", ""),
    ],
)
def test_page_of_a_run_is_the_reported_http_url(reported: Any, shown: str) -> None:
    assert run_of(detail_url=reported).url == shown


@pytest.mark.parametrize("params", [None, {}, {"target_branch": None}])
def test_absent_build_parameters_are_empty_labels(params: Any) -> None:
    run = run_of(build_params=params)
    assert (run.branch, run.tag, run.commit, run.event, run.merge_id, run.source_branch) == ("",) * 6


# -- rejected records


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
@pytest.mark.parametrize(
    ("old", "new"),
    [
        ({"run_number": 4}, {"run_number": 5}),
        ({"run_number": None}, {"run_number": 5}),
        ({"run_number": 5, "start_time": 1000}, {"run_number": 5}),
        ({"run_number": None, "start_time": None}, {"run_number": None}),
    ],
)
def test_newest_of_two_runs_of_a_pipeline_is_used(old: Any, new: Any, order: tuple[int, int]) -> None:
    records = [record(pipeline_run_id="old", **old), record(pipeline_run_id="new", **new)]
    batch = read(*(records[index] for index in order), record(1))
    assert batch.runs[pipeline_id(0)].id == "new"
    assert set(batch.runs) == {pipeline_id(0), pipeline_id(1)}
    assert [reason for reason, _ in batch.rejected] == ["duplicate"]


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"pipeline_id": None}, "no_pipeline_id"),
        ({"pipeline_id": ""}, "no_pipeline_id"),
        ({"pipeline_id": "f" * 32}, "not_requested"),
        ({"pipeline_id": 12}, "not_requested"),
        ({"pipeline_id": ["x"]}, "unreadable"),
        ({"pipeline_id": True}, "unreadable"),
        ({"status": {"name": "FAILED"}}, "unreadable"),
        ({"status": True}, "unreadable"),
        ({"pipeline_id": "f" * 9999}, "no_pipeline_id"),
        ({"pipeline_run_id": None, "run_number": None}, "no_run_id"),
        ({"pipeline_run_id": "", "run_number": 0}, "no_run_id"),
        ({"pipeline_run_id": {}}, "unreadable"),
    ],
)
def test_unusable_record_is_counted(changes: dict[str, Any], reason: str) -> None:
    batch = read(record(0, **changes), record(1))
    assert list(batch.runs) == [pipeline_id(1)]
    ((found, message),) = batch.rejected
    assert found == reason
    assert message
    assert len(message) < 300


@pytest.mark.parametrize("item", [None, 3, "x", [], [1], True])
def test_item_that_is_not_an_object_is_unreadable(item: Any) -> None:
    batch = read(item, record(1))
    assert [reason for reason, _ in batch.rejected] == ["unreadable"]
    assert list(batch.runs) == [pipeline_id(1)]


# -- rejected is not "no run"

NAMELESS: list[dict[str, Any]] = [
    {"pipeline_run_id": None, "run_number": None},
    {"pipeline_run_id": "", "run_number": "x"},
]


@pytest.mark.parametrize("changes", NAMELESS)
def test_pipeline_with_a_rejected_record_is_unusable(changes: dict[str, Any]) -> None:
    """Its latest run is unknown. The absence of other pipelines still means that they never ran."""
    batch = read(record(0, **changes), record(1))
    assert (batch.unusable, batch.incomplete) == ({pipeline_id(0)}, False)


@pytest.mark.parametrize(
    "item",
    [
        None,
        7,
        [],
        {},
        record(pipeline_id=None),
        record(pipeline_id=["x"]),
        record(pipeline_id="x" * 257),
        record(pipeline_id="x" * 257, status=["x"]),
    ],
)
def test_record_without_pipeline_id_makes_the_batch_incomplete(item: Any) -> None:
    """It may belong to any pipeline, so that absence proves nothing."""
    batch = read(item, record(1))
    assert (batch.unusable, batch.incomplete) == (set(), True)


@pytest.mark.parametrize("stranger", ["f" * 32, 12, ""])
def test_record_of_an_unrequested_pipeline_is_ignored(stranger: Any) -> None:
    """Absence of the requested pipelines still counts."""
    batch = read(record(pipeline_id=stranger), record(1))
    assert (batch.unusable, batch.incomplete) == (set(), not stranger)


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
@pytest.mark.parametrize("changes", NAMELESS)
def test_rejected_duplicate_hides_no_run(changes: dict[str, Any], order: tuple[int, int]) -> None:
    """The usable one of two records is used."""
    twins = [record(), record(**changes)]
    batch = read(*(twins[index] for index in order))
    assert batch.runs == {pipeline_id(0): run_of()}
    assert [reason for reason, _ in batch.rejected] == ["no_run_id"]
    assert (batch.unusable, batch.incomplete) == (set(), False)


def test_two_rejected_records_are_one_unusable_pipeline() -> None:
    batch = read(record(**NAMELESS[0]), record(**NAMELESS[1]))
    assert (batch.runs, batch.unusable, len(batch.rejected)) == ({}, {pipeline_id(0)}, 2)


@pytest.mark.parametrize(
    ("field", "incomplete", "unusable"),
    [
        ("pipeline_id", True, False),
        ("pipeline_run_id", False, True),
        ("status", False, True),
        ("executor_name", False, False),
    ],
)
def test_invalid_utf8_affects_its_record_only(field: str, incomplete: bool, unusable: bool) -> None:
    """Only in the pipeline id it makes the batch incomplete."""
    body = (
        json.dumps([corrupted(record(), (field,), "replace", "GARBLED"), record(1)])
        .encode()
        .replace(b"GARBLED", b"\xc3\x28")
    )
    assert CODEARTS.failure(CALL, 200, {}, body) is None
    batch = read_bytes(body)
    assert batch.runs[pipeline_id(1)] == read(record(1)).runs[pipeline_id(1)]
    assert batch.incomplete is incomplete
    assert (pipeline_id(0) in batch.runs) is not (incomplete or unusable)
    assert (pipeline_id(0) in batch.unusable) is unusable


@given(st.data(), fields, st.sampled_from(["null", "remove", "replace"]), json_values)
@settings(deadline=None)
def test_pipeline_with_a_record_never_counts_as_without_run(
    data: st.DataObject, path: tuple[Any, ...], change: str, value: Any
) -> None:
    """For any error in its record it has a run, is unusable, or the batch is incomplete."""
    records = [record(index) for index in range(3)]
    records[data.draw(st.integers(0, 2))] = corrupted(record(0), path, change, value)
    batch = read(*records)
    for item in records:
        named = str(item.get("pipeline_id"))
        assert named in batch.runs or named in batch.unusable or batch.incomplete or named not in IDS


def test_run_without_id_is_identified_by_its_number() -> None:
    assert run_of(pipeline_run_id=None, run_number=12).id == "#12"


def test_empty_batch_shows_no_run() -> None:
    """Pipelines that never ran are absent."""
    assert CODEARTS.failure(CALL, 200, {}, b"[]") is None
    assert read() == LatestRuns()


# -- failures


def failure_of(status: int, body: Any, **headers: str) -> RequestFailure:
    raw = body if isinstance(body, bytes) else json.dumps(body, ensure_ascii=False).encode()
    failure = CODEARTS.failure(
        CALL, status, {name.replace("_", "-"): text for name, text in headers.items()}, raw
    )
    assert failure is not None
    return failure


SHAPES: dict[str, Callable[[str, str], dict[str, Any]]] = {
    "service": lambda code, text: {"error_code": code, "error_msg": text},
    "nested": lambda code, text: {"error": {"code": code, "message": text}},
    "nested IAM": lambda code, text: {"error": {"code": code, "message": text, "title": "Unauthorized"}},
    "gateway": lambda code, text: {"error_msg": text, "error_code": code, "request_id": "r-1"},
    "policy": lambda code, text: {
        "error_code": code,
        "error_msg": text,
        "encoded_authorization_message": "x",
    },
    "camel": lambda code, text: {"errorCode": code, "errorMsg": text},
    "plain": lambda code, text: {"code": code, "message": text},
    "nested service": lambda code, text: {"error": {"error_code": code, "error_msg": text}},
    "with nulls": lambda code, text: {
        "error_code": None,
        "errorCode": "",
        "error": {"code": code, "message": text},
    },
}


@pytest.mark.parametrize("status", [200, 400])
@pytest.mark.parametrize("shape", SHAPES)
def test_every_error_envelope_is_read(shape: str, status: int) -> None:
    """With status 200 as well as 400: an object with a code is an error."""
    failure = failure_of(status, SHAPES[shape]("DEVPIPE.00011136", "项目ID和流水线不匹配"))
    assert (failure.kind, failure.code) == (FailureKind.CONTENT, str(status))
    assert (failure.error_code, failure.message) == ("DEVPIPE.00011136", "项目ID和流水线不匹配")


def test_error_code_may_be_a_number() -> None:
    body = {"error": {"code": 401, "message": "The username or password is wrong.", "title": "Unauthorized"}}
    failure = failure_of(401, body)
    assert (failure.kind, failure.error_code) == (FailureKind.CREDENTIALS, "401")
    assert failure.message == "The username or password is wrong."


@pytest.mark.parametrize(
    ("status", "number", "kind"),
    [
        (404, "0101", FailureKind.PROJECT),
        (413, "0201", FailureKind.CONTENT),
        (414, "0201", FailureKind.PROJECT),
        (494, "0201", FailureKind.PROJECT),
        (502, "0201", FailureKind.TRANSIENT),
        (504, "0201", FailureKind.TRANSIENT),
        (401, "0301", FailureKind.CREDENTIALS),
        (403, "0302", FailureKind.PROJECT),
        (401, "0305", FailureKind.CREDENTIALS),
        (403, "0306", FailureKind.PROJECT),
        (401, "0307", FailureKind.CREDENTIALS),
        (429, "0308", FailureKind.THROTTLED),
        (403, "0310", FailureKind.PROJECT),
        (403, "0401", FailureKind.PROJECT),
        (403, "0402", FailureKind.PROJECT),
        (500, "0601", FailureKind.TRANSIENT),
        (502, "0610", FailureKind.TRANSIENT),
        (503, "0613", FailureKind.TRANSIENT),
        (403, "0801", FailureKind.PROJECT),
        (403, "0802", FailureKind.PROJECT),
        (200, "0301", FailureKind.CREDENTIALS),
        (200, "0307", FailureKind.CREDENTIALS),
        (200, "0302", FailureKind.PROJECT),
        (200, "0308", FailureKind.THROTTLED),
    ],
)
@pytest.mark.parametrize("prefix", ["APIGW", "APIG"])
def test_error_codes_of_the_gateway(prefix: str, status: int, number: str, kind: FailureKind) -> None:
    """With the newer and the older prefix."""
    code = f"{prefix}.{number}"
    failure = failure_of(status, {"error_msg": "message", "error_code": code, "request_id": "r-7"})
    assert failure == RequestFailure(
        kind=kind, code=str(status), error_code=code, message="message", request_id="r-7"
    )


@pytest.mark.parametrize(
    ("status", "code", "kind"),
    [
        (200, "DEVPIPE.00011401", FailureKind.CONTENT),
        (200, "DEVPIPE.00011412", FailureKind.PROJECT),
        (200, "DEVPIPE.30021001", FailureKind.PROJECT),
        (200, "DEV_21_100169", FailureKind.PROJECT),
        (400, "DEVPIPE.00011412", FailureKind.PROJECT),
        (200, "DEVPIPE.00011136", FailureKind.CONTENT),
        (200, "DEVPIPE.00011104", FailureKind.CONTENT),
        (400, "DEVPIPE.30011001", FailureKind.CONTENT),
        (400, "DEVPIPE.30011011", FailureKind.CONTENT),
        (200, "DEVPIPE.99999999", FailureKind.CONTENT),
        (400, "PARSE_REQUEST_DATA_EXCEPTION", FailureKind.CONTENT),
        (413, "", FailureKind.CONTENT),
        (400, "", FailureKind.CONTENT),
        (404, "DEVPIPE.00011401", FailureKind.PROJECT),
        (401, "DEV.00000001", FailureKind.CREDENTIALS),
        (401, "", FailureKind.CREDENTIALS),
        (401, "IAM.0066", FailureKind.CREDENTIALS),
        (401, "IAM.0067", FailureKind.CREDENTIALS),
        (400, "IAM.1108", FailureKind.CREDENTIALS),
        (403, "IAM.0002", FailureKind.PROJECT),
        (429, "IAM.0012", FailureKind.THROTTLED),
        (200, "IAM.0012", FailureKind.THROTTLED),
        (429, "", FailureKind.THROTTLED),
        (500, "", FailureKind.TRANSIENT),
        (503, "DEVPIPE.00000001", FailureKind.TRANSIENT),
        (408, "", FailureKind.TRANSIENT),
        (403, "", FailureKind.PROJECT),
        (405, "", FailureKind.PROJECT),
    ],
)
def test_error_codes_of_the_service(status: int, code: str, kind: FailureKind) -> None:
    failure = failure_of(status, {"error_code": code, "error_msg": "message"})
    assert (failure.kind, failure.code, failure.error_code) == (kind, str(status), code)
    assert failure.message
    assert failure.wait is None


@pytest.mark.parametrize(
    ("window", "wait"),
    [
        ("policy user over ratelimit,limit:200,time:5 minute", 300.0),
        ("policy ip over ratelimit,limit:5,time:1 second", 1.0),
        ("policy user over ratelimit,limit:10,time:10 second", 10.0),
        ("policy api over ratelimit,limit:9,time: 2 hour", 7200.0),
        ("policy user over ratelimit", None),
        ("time:99999999 second", None),
    ],
)
@pytest.mark.parametrize("status", [429, 200])
def test_throttling_message_has_the_window(status: int, window: str, wait: float | None) -> None:
    message = f"The throttling threshold has been reached: {window}"
    failure = failure_of(status, {"error_msg": message, "error_code": "APIGW.0308", "request_id": "r"})
    assert (failure.kind, failure.wait, failure.message) == (FailureKind.THROTTLED, wait, message)


@pytest.mark.parametrize(
    ("header", "wait"),
    [("7", 7.0), (" 7 ", 7.0), ("0", 0.0), ("soon", 60.0), ("-5", 60.0), ("9" * 40, 99_999.0)],
)
def test_retry_after_takes_precedence(header: str, wait: float) -> None:
    """If it is a number, up to a limit; otherwise the window in the message."""
    body = {"error_code": "APIGW.0308", "error_msg": "limit:1,time:1 minute"}
    assert failure_of(429, body, retry_after=header).wait == wait


def test_error_other_than_throttling_has_no_wait() -> None:
    assert failure_of(500, {"error_code": "x", "error_msg": "time:5 minute"}, retry_after="9").wait is None


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"", "an empty body"),
        (b" \r\n", "an empty body"),
        (b"null", "of another operation"),
        (b"{}", "of another operation"),
        (b'{"error":null}', "of another operation"),
        (b'{"pipelines":[]}', "of another operation"),
        (b'"The service is busy"', "of another operation"),
        (b"17", "of another operation"),
        (b"true", "of another operation"),
        (b"<!DOCTYPE html><title>Log in</title>", "an HTML page"),
        (b"\n <html>", "an HTML page"),
        (SEED[:-40], "invalid JSON"),
        (b'[{"a":1},', "invalid JSON"),
        (b"[" * 100_000, "invalid JSON"),
        (b"[" * 100_000 + b"]" * 100_000, "invalid JSON"),
        (b'{"a":' * 100_000, "invalid JSON"),
        (b'{"error_code":"\xff\xfe"}', "of another operation"),
        (b"\xff\xfe\x00", "invalid JSON"),
        (b"OK", "invalid JSON"),
    ],
)
def test_unexpected_response_is_described(body: bytes, message: str) -> None:
    failure = failure_of(200, body)
    assert (failure.kind, failure.code, failure.error_code) == (FailureKind.UNREADABLE, "invalid", "")
    assert failure.message.startswith("unexpected response to BatchShowPipelinesLatestStatus")
    assert message in failure.message


@pytest.mark.parametrize(
    "body", [b"", b"<html>", b"[" * 100_000, b"\xff", b"null", b"[]", b'"no"', b"{}", SEED]
)
@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, FailureKind.CONTENT),
        (401, FailureKind.CREDENTIALS),
        (403, FailureKind.PROJECT),
        (404, FailureKind.PROJECT),
        (429, FailureKind.THROTTLED),
        (502, FailureKind.TRANSIENT),
    ],
)
def test_error_status_needs_no_body(status: int, kind: FailureKind, body: bytes) -> None:
    failure = failure_of(status, body)
    assert (failure.kind, failure.code, failure.error_code) == (kind, str(status), "")
    assert f"HTTP {status}" in failure.message


@pytest.mark.parametrize(
    ("location", "message"),
    [
        ("https://auth.example.com/login?ticket=very-private", "redirected to auth.example.com, which"),
        ("/login?ticket=very-private", "redirected to another path, which"),
        ("", "redirected to nowhere, which"),
        ("http://[very-private", "redirected to an invalid address, which"),
    ],
)
def test_redirect_message_has_the_host_only(location: str, message: str) -> None:
    failure = failure_of(302, b"", location=location)
    assert (failure.kind, failure.code) == (FailureKind.PROJECT, "302")
    assert message in failure.message
    assert "very-private" not in failure.message


def test_request_id_of_the_header_takes_precedence() -> None:
    body = {"error_code": "x", "request_id": "body"}
    assert failure_of(500, body, x_request_id="header").request_id == "header"
    assert failure_of(500, body).request_id == "body"


@given(
    st.integers(100, 599), st.binary(max_size=60) | json_values.map(lambda value: json.dumps(value).encode())
)
@settings(deadline=None)
def test_any_response_is_classified(status: int, body: bytes) -> None:
    """Any response is a success or a failure with a message."""
    failure = CODEARTS.failure(CALL, status, {}, body)
    if failure is None:
        assert 200 <= status < 300
        CODEARTS.read_batch(body, [PIPELINE_ID], NOW)
    else:
        assert failure.message or failure.error_code
