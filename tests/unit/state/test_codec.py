"""What is remembered: it comes back as it was, fits the buckets of today, stays small, and nonsense is told as such."""

import contextlib
from enum import Enum
from types import NoneType, UnionType
from typing import Any, get_args, get_origin

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exporter.core.model import ENDS, Run, Stage, Status, Trigger
from exporter.settings.settings import Metrics
from exporter.state.codec import (
    RetiredPipelines,
    SavedPipeline,
    Snapshot,
    UnreadableError,
    WaitingStage,
    decode_durations,
    encode_durations,
    encode_pipeline,
    read,
)
from exporter.tracking.ledger import EndedRun, LedgerState, Streak
from exporter.tracking.project import bounds
from exporter.tracking.run_counters import BucketBounds, DurationHistograms, Exemplar, Histogram, RunCounters

NOON = 1_700_000_000.0
BOUNDS = BucketBounds(runs=(15.0, 60.0, 3600.0), stages=(30.0, 120.0))

SIMPLE: dict[Any, st.SearchStrategy[Any]] = {
    bool: st.booleans(),
    int: st.integers(-1, 2**53),
    float: st.floats(allow_nan=False),
    str: st.text(max_size=40),
    NoneType: st.none(),
}


def anything(kind: Any) -> st.SearchStrategy[Any]:
    """Whatever has a type."""
    if kind in SIMPLE:
        return SIMPLE[kind]
    if isinstance(kind, type) and issubclass(kind, Enum):
        return st.sampled_from(list(kind))
    if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
        return st.deferred(lambda: made(kind))
    arguments = get_args(kind)
    if get_origin(kind) is UnionType:
        return st.one_of(*(anything(one) for one in arguments))
    if get_origin(kind) is tuple and arguments[-1] is not ...:
        return st.tuples(*(anything(one) for one in arguments))
    if get_origin(kind) is tuple:
        return st.lists(anything(arguments[0]), max_size=3).map(tuple)
    return st.dictionaries(anything(arguments[0]), anything(arguments[1]), max_size=3)


def made(kind: type[msgspec.Struct], **known: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """A struct of whatever its fields may be."""
    fields = {field.name: anything(field.type) for field in msgspec.structs.fields(kind)}
    return st.builds(kind, **{**fields, **known})


def histograms(bounds: tuple[float, ...]) -> st.SearchStrategy[Histogram]:
    """Some observations in these buckets."""
    size = len(bounds) + 1
    return st.builds(
        Histogram,
        st.tuples(*[st.integers(0, 2**40)] * size),
        st.floats(allow_nan=False),
        st.one_of(st.just(()), st.tuples(*[anything(Exemplar | None)] * size)),
    )


def durations(bounds: BucketBounds = BOUNDS) -> st.SearchStrategy[DurationHistograms]:
    """The histograms of a pipeline or a project: those of success and failure are always there."""
    runs = histograms(bounds.runs)
    return st.builds(
        DurationHistograms,
        runs_created=SIMPLE[float],
        stages_created=SIMPLE[float],
        runs=st.fixed_dictionaries(
            {Status.SUCCESS: runs, Status.FAILED: runs},
            optional={Status.CANCELED: runs, Status.IGNORED: runs},
        ),
        stages=st.dictionaries(anything(tuple[str, Status]), histograms(bounds.stages), max_size=3),
    )


memories = made(SavedPipeline, memory=made(Snapshot, durations=durations()))


def plain(found: DurationHistograms) -> DurationHistograms:
    """The same without exemplars."""
    return msgspec.structs.replace(
        found,
        runs={status: Histogram(one.counts, one.sum) for status, one in found.runs.items()},
        stages={key: Histogram(one.counts, one.sum) for key, one in found.stages.items()},
    )


def changed(remembered: SavedPipeline, **changes: Any) -> SavedPipeline:
    """The same but for some of what is remembered."""
    return msgspec.structs.replace(remembered, memory=msgspec.structs.replace(remembered.memory, **changes))


def some() -> SavedPipeline:
    """What is remembered of a pipeline that saw two runs end, in a stage each."""
    found = BOUNDS.empty(NOON)
    for number, status in ((1, Status.SUCCESS), (2, Status.FAILED)):
        stages = (Stage("build", 0, status, NOON, 40.0),)
        run = Run(id=f"run-{number}", number=number, status=status, start=NOON, end=NOON + 50, stages=stages)
        found = BOUNDS.observe_stages(BOUNDS.observe_run(found, run), run, 100)
    memory = Snapshot(
        name="checkout",
        state=LedgerState(high=2, latest="run-2"),
        counters=RunCounters(created=NOON),
        durations=found,
        run="run-2",
        status=Status.FAILED,
        change=NOON + 50,
        waiting=(WaitingStage("approve", 3, Status.PAUSED, NOON + 60),),
    )
    return SavedPipeline(memory, NOON + 90)


# There and back


@given(remembered=memories)
@settings(deadline=None)
def test_what_was_written_is_read(remembered):
    """Whatever it is, but for exemplars: they are lost with a restart."""
    expected = changed(remembered, durations=plain(remembered.memory.durations))
    assert read(encode_pipeline(remembered, BOUNDS), BOUNDS, NOON) == expected


@given(found=durations())
@settings(deadline=None)
def test_what_was_written_of_a_project_is_read(found):
    """As of a pipeline."""
    assert decode_durations(encode_durations(found, BOUNDS), BOUNDS, NOON) == plain(found)


def test_what_is_read_goes_on():
    """It is observed and counted as before."""
    remembered = read(encode_pipeline(some(), BOUNDS), BOUNDS, NOON)
    stages = (Stage("build", 0, Status.SUCCESS, NOON, 400.0),)
    run = Run(id="run-3", number=3, status=Status.SUCCESS, start=NOON, end=NOON + 50, stages=stages)
    found = BOUNDS.observe_run(remembered.memory.durations, run)
    assert found.runs[Status.SUCCESS].counts == (0, 2, 0, 0)
    assert found.runs[Status.SUCCESS].exemplars == (None, Exemplar("run-3", 50.0, NOON + 50), None, None)
    found = BOUNDS.observe_stages(found, run, 100)
    assert found.stages["build", Status.SUCCESS].counts == (0, 1, 1)


# Other buckets


@pytest.mark.parametrize(
    "today",
    [(15.0, 60.0), (15.0, 60.0, 3600.0, 7200.0), (15.0, 61.0, 3600.0), (60.0,)],
    ids=["fewer", "more", "others", "one"],
)
def test_other_run_buckets_begin_histograms_of_runs_anew(today):
    """Since now, and empty; those of stages, and all else, stay."""
    before = some()
    bounds = BucketBounds(today, BOUNDS.stages)
    expected = DurationHistograms(
        runs_created=NOON + 500,
        stages_created=NOON,
        runs=bounds.empty(NOON).runs,
        stages=plain(before.memory.durations).stages,
    )
    remembered = read(encode_pipeline(before, BOUNDS), bounds, NOON + 500)
    assert remembered == changed(before, durations=expected)
    project = encode_durations(before.memory.durations, BOUNDS)
    assert decode_durations(project, bounds, NOON + 500) == expected


@pytest.mark.parametrize(
    "today", [(30.0,), (30.0, 120.0, 600.0), (30.0, 121.0)], ids=["fewer", "more", "others"]
)
def test_other_stage_buckets_begin_histograms_of_stages_anew(today):
    """Since now, and empty; those of runs, and all else, stay."""
    before = some()
    bounds = BucketBounds(BOUNDS.runs, today)
    expected = DurationHistograms(
        runs_created=NOON, stages_created=NOON + 500, runs=plain(before.memory.durations).runs, stages={}
    )
    remembered = read(encode_pipeline(before, BOUNDS), bounds, NOON + 500)
    assert remembered == changed(before, durations=expected)
    project = encode_durations(before.memory.durations, BOUNDS)
    assert decode_durations(project, bounds, NOON + 500) == expected


# Nonsense

nonsense = st.one_of(
    st.binary(max_size=200),
    st.recursive(
        st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats() | st.text() | st.binary(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text() | st.integers(0, 9), inner),
    ).map(msgspec.msgpack.encode),
)


@st.composite
def damaged(draw: st.DrawFn) -> bytes:
    """What was written, cut or with some bytes changed."""
    data = bytearray(encode_pipeline(some(), BOUNDS))
    for _ in range(draw(st.integers(0, 3))):
        data[draw(st.integers(0, len(data) - 1))] = draw(st.integers(0, 255))
    return bytes(data[: draw(st.integers(0, len(data)))])


@given(data=st.one_of(nonsense, damaged()))
@settings(deadline=None, max_examples=500)
def test_any_bytes_are_a_memory_or_told_to_be_none(data):
    """Nothing else is raised, and what is read can be written again."""
    with contextlib.suppress(UnreadableError):
        encode_pipeline(read(data, BOUNDS, NOON), BOUNDS)


@given(data=st.one_of(nonsense, st.binary(max_size=60)))
@settings(deadline=None)
def test_any_bytes_are_histograms_or_told_to_be_none(data):
    """As those of a pipeline."""
    with contextlib.suppress(UnreadableError):
        encode_durations(decode_durations(data, BOUNDS, NOON), BOUNDS)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x90",
        b"\xc1",
        encode_pipeline(some(), BOUNDS)[:-1],
        encode_pipeline(some(), BOUNDS) + b"\0",
        b"\x91" * 100_000,
    ],
    ids=["nothing", "no fields", "no value", "cut", "too much", "too deep"],
)
def test_what_is_no_memory(data):
    """It is told, and the pipeline begins anew."""
    with pytest.raises(UnreadableError):
        read(data, BOUNDS, NOON)
    with pytest.raises(UnreadableError):
        decode_durations(data, BOUNDS, NOON)


def test_histograms_that_do_not_fit_their_own_buckets_are_no_memory():
    """They would break the page."""
    wrong = changed(some(), durations=BucketBounds((1.0,), (1.0,)).empty(NOON))
    with pytest.raises(UnreadableError, match="2 buckets with 3 bounds"):
        read(encode_pipeline(wrong, BOUNDS), BOUNDS, NOON)


# Size


def test_a_typical_memory_is_small():
    """Ten thousand pipelines are some 25 MB on the disk."""
    identity = "0123456789abcdef" * 2
    ended = tuple(
        EndedRun(f"{identity[2:]}{number}", 4000 + number, Status.SUCCESS, NOON + 1000.123 * number)
        for number in range(30, 10, -1)
    )
    finished = Run(
        id=ended[0].id,
        number=ended[0].number,
        status=Status.SUCCESS,
        start=NOON,
        end=ended[0].end,
        trigger=Trigger.MERGE_REQUEST,
        branch="feature/checkout-service-timeouts",
        commit="0123456789abcdef0123456789abcdef01234567",
        executor=identity,
        event="merge_request",
        merge_id="1234",
        source_branch="feature/checkout-service-timeouts-again",
        url=f"https://devcloud.cn-north-4.huaweicloud.com/cicd/project/{identity}/pipeline/detail/{identity}/{identity}",
    )
    buckets = bounds(Metrics())
    observed = Histogram(tuple(range(1000, 1014)), 123456.789)
    series = Streak(0, None, NOON + 1000.123)
    memory = Snapshot(
        name="checkout-service-build-and-deploy",
        state=LedgerState(
            high=ended[0].number,
            high_start=NOON,
            latest=ended[0].id,
            ended=ended,
            carried_streak=series,
            carried_to=4010,
            series=series,
            finished=finished,
        ),
        counters=RunCounters(
            created=NOON + 0.123, runs=dict.fromkeys(ENDS, 1000), recovery_seconds=123456.789
        ),
        durations=msgspec.structs.replace(
            buckets.empty(NOON + 0.123), runs={Status.SUCCESS: observed, Status.FAILED: observed}
        ),
        run=ended[0].id,
        status=Status.SUCCESS,
        change=ended[0].end,
    )
    assert len(observed.counts) == len(buckets.runs) + 1
    assert 1500 < len(encode_pipeline(SavedPipeline(memory, NOON + 0.456), buckets)) < 2500


# Who is away


def test_what_is_recalled_is_away_no_longer():
    """It is remembered by one alone."""
    retired = RetiredPipelines()
    retired.leave("p", some(), NOON)
    assert retired.away == {"p": (some(), NOON)}
    assert retired.recall("p") == some()
    assert retired.recall("p") is None
    assert retired.away == {}


def test_of_what_is_not_known_nothing_is_kept():
    """A pipeline that was never answered leaves nothing."""
    retired = RetiredPipelines()
    retired.leave("p", None, NOON)
    assert retired.away == {}
    assert retired.recall("q") is None
