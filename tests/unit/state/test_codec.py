"""Records of saved values: encoding and decoding, other buckets, unreadable bytes, size."""

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
    UnreadableError,
    decode_durations,
    decode_pipeline,
    encode_durations,
    encode_pipeline,
)
from exporter.tracking.ledger import EndedRun, LedgerState, Streak
from exporter.tracking.run_counters import BucketBounds, DurationHistograms, Exemplar, Histogram, RunCounters
from exporter.tracking.saved import Accounts, RetiredPipelines, SavedPipeline, StatusSince, WaitingStage
from tests.marks import examples

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
    """Values of a type."""
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
    """Structs with any values in their fields."""
    fields = {field.name: anything(field.type) for field in msgspec.structs.fields(kind)}
    return st.builds(kind, **{**fields, **known})


def histograms(bounds: tuple[float, ...]) -> st.SearchStrategy[Histogram]:
    """Histograms with these buckets."""
    size = len(bounds) + 1
    return st.builds(
        Histogram,
        st.tuples(*[st.integers(0, 2**40)] * size),
        st.floats(allow_nan=False),
        st.one_of(st.just(()), st.tuples(*[anything(Exemplar | None)] * size)),
    )


def durations(bounds: BucketBounds = BOUNDS) -> st.SearchStrategy[DurationHistograms]:
    """Histograms of a pipeline or a project; success and failed always exist."""
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


saved_pipelines = made(SavedPipeline, accounts=made(Accounts, durations=durations()))


def without_exemplars(found: DurationHistograms) -> DurationHistograms:
    """Return the histograms without exemplars."""
    return msgspec.structs.replace(
        found,
        runs={status: Histogram(one.counts, one.sum) for status, one in found.runs.items()},
        stages={key: Histogram(one.counts, one.sum) for key, one in found.stages.items()},
    )


def with_durations(saved: SavedPipeline, found: DurationHistograms) -> SavedPipeline:
    """Return the saved values with other histograms."""
    return msgspec.structs.replace(saved, accounts=msgspec.structs.replace(saved.accounts, durations=found))


def saved_pipeline() -> SavedPipeline:
    """Return a pipeline of which two runs ended, each with one stage."""
    found = BOUNDS.empty(NOON)
    for number, status in ((1, Status.SUCCESS), (2, Status.FAILED)):
        stages = (Stage("build", 0, status, NOON, 40.0),)
        run = Run(id=f"run-{number}", number=number, status=status, start=NOON, end=NOON + 50, stages=stages)
        found = BOUNDS.observe_stages(BOUNDS.observe_run(found, run), run, 100)
    return SavedPipeline(
        Accounts(LedgerState(high=2, latest="run-2"), RunCounters(created=NOON), found),
        StatusSince(
            "run-2", Status.FAILED, NOON + 50, (WaitingStage("approve", 3, Status.PAUSED, NOON + 60),)
        ),
        "checkout",
        NOON + 90,
    )


# Round trip


@given(saved=saved_pipelines)
@settings(deadline=None)
def test_decoding_returns_what_was_encoded_without_exemplars(saved):
    expected = with_durations(saved, without_exemplars(saved.accounts.durations))
    assert decode_pipeline(encode_pipeline(saved, BOUNDS), BOUNDS, NOON) == expected


@given(found=durations())
@settings(deadline=None)
def test_decoding_durations_returns_what_was_encoded_without_exemplars(found):
    assert decode_durations(encode_durations(found, BOUNDS), BOUNDS, NOON) == without_exemplars(found)


def test_decoded_histograms_take_further_observations():
    saved = decode_pipeline(encode_pipeline(saved_pipeline(), BOUNDS), BOUNDS, NOON)
    stages = (Stage("build", 0, Status.SUCCESS, NOON, 400.0),)
    run = Run(id="run-3", number=3, status=Status.SUCCESS, start=NOON, end=NOON + 50, stages=stages)
    found = BOUNDS.observe_run(saved.accounts.durations, run)
    assert found.runs[Status.SUCCESS].counts == (0, 2, 0, 0)
    assert found.runs[Status.SUCCESS].exemplars == (None, Exemplar("run-3", 50.0, NOON + 50), None, None)
    found = BOUNDS.observe_stages(found, run, 100)
    assert found.stages["build", Status.SUCCESS].counts == (0, 1, 1)


# Other buckets


@pytest.mark.parametrize(
    "new_bounds",
    [(15.0, 60.0), (15.0, 60.0, 3600.0, 7200.0), (15.0, 61.0, 3600.0), (60.0,)],
    ids=["fewer", "more", "others", "one"],
)
def test_other_run_buckets_start_empty_run_histograms_and_keep_the_rest(new_bounds):
    before = saved_pipeline()
    bounds = BucketBounds(new_bounds, BOUNDS.stages)
    expected = DurationHistograms(
        runs_created=NOON + 500,
        stages_created=NOON,
        runs=bounds.empty(NOON).runs,
        stages=without_exemplars(before.accounts.durations).stages,
    )
    saved = decode_pipeline(encode_pipeline(before, BOUNDS), bounds, NOON + 500)
    assert saved == with_durations(before, expected)
    project = encode_durations(before.accounts.durations, BOUNDS)
    assert decode_durations(project, bounds, NOON + 500) == expected


@pytest.mark.parametrize(
    "new_bounds", [(30.0,), (30.0, 120.0, 600.0), (30.0, 121.0)], ids=["fewer", "more", "others"]
)
def test_other_stage_buckets_start_empty_stage_histograms_and_keep_the_rest(new_bounds):
    before = saved_pipeline()
    bounds = BucketBounds(BOUNDS.runs, new_bounds)
    expected = DurationHistograms(
        runs_created=NOON,
        stages_created=NOON + 500,
        runs=without_exemplars(before.accounts.durations).runs,
        stages={},
    )
    saved = decode_pipeline(encode_pipeline(before, BOUNDS), bounds, NOON + 500)
    assert saved == with_durations(before, expected)
    project = encode_durations(before.accounts.durations, BOUNDS)
    assert decode_durations(project, bounds, NOON + 500) == expected


# Unreadable bytes

nonsense = st.one_of(
    st.binary(max_size=200),
    st.recursive(
        st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats() | st.text() | st.binary(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text() | st.integers(0, 9), inner),
    ).map(msgspec.msgpack.encode),
)


@st.composite
def damaged(draw: st.DrawFn) -> bytes:
    """A record that is cut, or has some bytes changed."""
    data = bytearray(encode_pipeline(saved_pipeline(), BOUNDS))
    for _ in range(draw(st.integers(0, 3))):
        data[draw(st.integers(0, len(data) - 1))] = draw(st.integers(0, 255))
    return bytes(data[: draw(st.integers(0, len(data)))])


@given(data=st.one_of(nonsense, damaged()))
@examples(500)
def test_any_bytes_are_a_record_or_raise_unreadable_error(data):
    """A record that was decoded can be encoded again."""
    with contextlib.suppress(UnreadableError):
        encode_pipeline(decode_pipeline(data, BOUNDS, NOON), BOUNDS)


@given(data=st.one_of(nonsense, st.binary(max_size=60)))
@settings(deadline=None)
def test_any_bytes_are_durations_or_raise_unreadable_error(data):
    with contextlib.suppress(UnreadableError):
        encode_durations(decode_durations(data, BOUNDS, NOON), BOUNDS)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x90",
        b"\xc1",
        encode_pipeline(saved_pipeline(), BOUNDS)[:-1],
        encode_pipeline(saved_pipeline(), BOUNDS) + b"\0",
        b"\x91" * 100_000,
    ],
    ids=["nothing", "no fields", "no value", "cut", "too much", "too deep"],
)
def test_bytes_that_are_not_a_record_raise_unreadable_error(data):
    with pytest.raises(UnreadableError):
        decode_pipeline(data, BOUNDS, NOON)
    with pytest.raises(UnreadableError):
        decode_durations(data, BOUNDS, NOON)


def test_histograms_that_do_not_fit_their_own_buckets_are_unreadable():
    """They would break the page."""
    wrong = with_durations(saved_pipeline(), BucketBounds((1.0,), (1.0,)).empty(NOON))
    with pytest.raises(UnreadableError, match="2 buckets with 3 bounds"):
        decode_pipeline(encode_pipeline(wrong, BOUNDS), BOUNDS, NOON)


# Size


def test_typical_record_is_small():
    """Ten thousand pipelines take about 25 MB on the disk."""
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
    buckets = BucketBounds.of(Metrics())
    observed = Histogram(tuple(range(1000, 1014)), 123456.789)
    streak = Streak(0, None, NOON + 1000.123)
    state = LedgerState(
        high=ended[0].number,
        high_start=NOON,
        latest=ended[0].id,
        ended=ended,
        carried_streak=streak,
        carried_to=4010,
        streak=streak,
        finished=finished,
    )
    counters = RunCounters(created=NOON + 0.123, runs=dict.fromkeys(ENDS, 1000), recovery_seconds=123456.789)
    durations_of_runs = msgspec.structs.replace(
        buckets.empty(NOON + 0.123), runs={Status.SUCCESS: observed, Status.FAILED: observed}
    )
    saved = SavedPipeline(
        Accounts(state, counters, durations_of_runs),
        StatusSince(ended[0].id, Status.SUCCESS, ended[0].end),
        "checkout-service-build-and-deploy",
        NOON + 0.456,
    )
    assert len(observed.counts) == len(buckets.runs) + 1
    assert 1500 < len(encode_pipeline(saved, buckets)) < 2500


# Retired pipelines


def test_restored_pipeline_is_no_longer_retired():
    retired = RetiredPipelines()
    retired.retire("p", saved_pipeline(), NOON)
    assert retired.retired == {"p": (saved_pipeline(), NOON)}
    assert retired.restore("p") == saved_pipeline()
    assert retired.restore("p") is None
    assert retired.retired == {}


def test_pipeline_without_answers_is_not_retired():
    retired = RetiredPipelines()
    retired.retire("p", None, NOON)
    assert retired.retired == {}
    assert retired.restore("q") is None
