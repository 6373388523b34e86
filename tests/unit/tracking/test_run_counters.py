"""Counters by status, and histograms equal to those of prometheus-client."""

from collections.abc import Iterable

import msgspec
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry
from prometheus_client import Histogram as ClientHistogram

from exporter.core.model import ENDS, Run, Stage, Status
from exporter.tracking.ledger import Event, EventKind
from exporter.tracking.run_counters import (
    OTHER_STAGES,
    STAGE_NAMES_OF_PIPELINE,
    BucketBounds,
    Exemplar,
    Histogram,
    RunCounters,
)

BOUNDS = BucketBounds(runs=(15.0, 60.0, 3600.0), stages=(30.0, 120.0))
NOON = 1_700_000_000.0


def run(
    status: Status = Status.SUCCESS, *, seconds: float | None = 50.0, stages: Iterable[Stage] = ()
) -> Run:
    """Return a run that took some seconds, or lacks its end."""
    end = None if seconds is None else NOON + seconds
    return Run(id="r", number=1, status=status, start=NOON, end=end, stages=tuple(stages))


def staged(*names: str, status: Status = Status.SUCCESS, duration: float = 40.0) -> Run:
    """Return a run with a finished stage of each name."""
    return run(stages=[Stage(name, place, status, NOON, duration) for place, name in enumerate(names)])


def observed(histogram: Histogram) -> int:
    return sum(histogram.counts)


def counted(histogram: Histogram) -> tuple[tuple[int, ...], float]:
    """Return a histogram without its exemplars."""
    return histogram.counts, histogram.sum


# Histograms

seconds = st.one_of(
    st.floats(min_value=0, max_value=1e6), st.sampled_from([0.0, 0.1, 15.0, 60.0, 3600.0]), st.integers(0, 90)
)


@given(
    bounds=st.lists(
        st.one_of(st.floats(min_value=0.1, max_value=1e5), st.sampled_from([15.0, 60.0, 3600.0])),
        min_size=1,
        max_size=8,
        unique=True,
    ),
    values=st.lists(seconds, max_size=20),
)
def test_buckets_are_those_of_prometheus_client(bounds, values):
    bounds = tuple(sorted(bounds))
    own = Histogram.empty(bounds)
    registry = CollectorRegistry()
    client = ClientHistogram("x", "X.", buckets=bounds, registry=registry)
    for value in values:
        own = own.observe(value, bounds)
        client.observe(value)
    (family,) = registry.collect()
    cumulative = [sample.value for sample in family.samples if sample.name == "x_bucket"]
    assert [sum(own.counts[: place + 1]) for place in range(len(own.counts))] == cumulative
    assert sum(own.counts) == registry.get_sample_value("x_count")
    assert own.sum == registry.get_sample_value("x_sum")


def test_value_on_a_bound_belongs_to_its_bucket():
    """`le` means less or equal."""
    assert Histogram.empty((15.0, 60.0)).observe(15.0, (15.0, 60.0)).counts == (1, 0, 0)


def test_observing_does_not_change_the_original():
    before = Histogram.empty((1.0,))
    before.observe(0.5, (1.0,))
    assert before == Histogram.empty((1.0,))


def test_success_and_failed_exist_from_the_start():
    """`increase` does not see an event that appears with its series."""
    durations = BOUNDS.empty(NOON)
    assert set(durations.runs) == {Status.SUCCESS, Status.FAILED}
    assert all(observed(histogram) == 0 for histogram in durations.runs.values())
    assert durations.runs_created == NOON
    assert durations.stages == {}


def test_run_is_observed_by_status():
    durations = BOUNDS.observe_run(BOUNDS.empty(NOON), run(Status.CANCELED))
    assert counted(durations.runs[Status.CANCELED]) == ((0, 1, 0, 0), 50.0)
    assert observed(durations.runs[Status.SUCCESS]) == 0


def test_run_without_both_times_in_order_is_not_observed():
    begin = BOUNDS.empty(NOON)
    assert BOUNDS.observe_run(begin, run(seconds=None)) == begin
    assert BOUNDS.observe_run(begin, run(seconds=-1.0)) == begin
    assert BOUNDS.observe_run(begin, msgspec.structs.replace(run(), start=None)) == begin


def test_stages_are_observed_by_name_and_status():
    stages = [
        Stage("build", 0, Status.SUCCESS, NOON, 20.0),
        Stage("build", 1, Status.SUCCESS, NOON, 40.0),
        Stage("test", 2, Status.FAILED, NOON, 500.0),
    ]
    durations = BOUNDS.observe_stages(BOUNDS.empty(NOON), run(stages=stages), 10)
    assert {which: counted(histogram) for which, histogram in durations.stages.items()} == {
        ("build", Status.SUCCESS): ((1, 1, 0), 60.0),
        ("test", Status.FAILED): ((0, 0, 1), 500.0),
    }


def test_skipped_stages_and_stages_without_times_are_not_observed():
    """They do not count towards the limit of stage names either."""
    stages = [
        Stage("skipped", 0, Status.SKIPPED, NOON, 0.0),
        Stage("timeless", 1, Status.SUCCESS, NOON, None),
        Stage("in progress", 2, Status.RUNNING, NOON, None),
        Stage("real", 3, Status.SUCCESS, None, 5.0),
    ]
    durations = BOUNDS.observe_stages(BOUNDS.empty(NOON), run(stages=stages), 1)
    assert set(durations.stages) == {("real", Status.SUCCESS)}


def test_stage_names_beyond_the_limit_share_one():
    names = [f"stage {number}" for number in range(STAGE_NAMES_OF_PIPELINE + 20)]
    durations = BOUNDS.observe_stages(BOUNDS.empty(NOON), staged(*names), STAGE_NAMES_OF_PIPELINE)
    assert len(durations.stages) == STAGE_NAMES_OF_PIPELINE + 1
    assert observed(durations.stages[OTHER_STAGES, Status.SUCCESS]) == 20
    durations = BOUNDS.observe_stages(
        durations, staged("stage 0", "new", "stage 119"), STAGE_NAMES_OF_PIPELINE
    )
    assert len(durations.stages) == STAGE_NAMES_OF_PIPELINE + 1
    assert observed(durations.stages["stage 0", Status.SUCCESS]) == 2
    assert observed(durations.stages[OTHER_STAGES, Status.SUCCESS]) == 22


def test_known_stage_name_can_have_another_status_at_the_limit():
    """The limit is on names, not on series."""
    durations = BOUNDS.observe_stages(BOUNDS.empty(NOON), staged("a"), 1)
    durations = BOUNDS.observe_stages(durations, staged("a", "b", status=Status.FAILED), 1)
    assert set(durations.stages) == {
        ("a", Status.SUCCESS),
        ("a", Status.FAILED),
        (OTHER_STAGES, Status.FAILED),
    }


# Exemplars


def ended(identity: str, end: float | None, *, seconds: float = 50.0) -> Run:
    """Return a run that ended at `end` after some seconds, with a stage that took as long."""
    start = None if end is None else end - seconds
    stages = (Stage("build", 0, Status.SUCCESS, start, seconds),)
    return Run(id=identity, number=1, status=Status.SUCCESS, start=start, end=end, stages=stages)


def exemplars(*runs: Run) -> tuple[Exemplar | None, ...]:
    """Return the exemplars after some runs were observed."""
    durations = BOUNDS.empty(NOON)
    for one in runs:
        durations = BOUNDS.observe_run(durations, one)
    return durations.runs[Status.SUCCESS].exemplars


def test_exemplar_of_a_bucket_is_the_run_that_ended_last():
    shown = exemplars(ended("a", NOON), ended("b", NOON + 1), ended("c", NOON + 2, seconds=10.0))
    assert shown == (Exemplar("c", 10.0, NOON + 2), Exemplar("b", 50.0, NOON + 1), None, None)


def test_run_counted_late_does_not_replace_a_newer_exemplar():
    """Prometheus rejects exemplars that go back in time."""
    assert exemplars(ended("new", NOON + 1), ended("old", NOON))[1] == Exemplar("new", 50.0, NOON + 1)


def test_exemplar_of_equal_ends_is_the_later_observation():
    assert exemplars(ended("a", NOON), ended("b", NOON))[1] == Exemplar("b", 50.0, NOON)


def test_exemplar_of_a_stage_has_the_run():
    durations = BOUNDS.observe_stages(BOUNDS.empty(NOON), ended("a", NOON), 10)
    assert durations.stages["build", Status.SUCCESS].exemplars == (None, Exemplar("a", 50.0, NOON), None)


def test_exemplar_without_a_time_is_replaced_by_one_with_a_time():
    timeless, timed = ended("timeless", None), ended("timed", NOON)
    durations = BOUNDS.observe_stages(BOUNDS.empty(NOON), timeless, 10)
    assert durations.stages["build", Status.SUCCESS].exemplars[1] == Exemplar("timeless", 50.0, None)
    for one in (timed, timeless):
        durations = BOUNDS.observe_stages(durations, one, 10)
        assert durations.stages["build", Status.SUCCESS].exemplars[1] == Exemplar("timed", 50.0, NOON)


def test_run_without_an_id_has_no_exemplar():
    assert exemplars(ended("#7", NOON)) == ()
    assert exemplars(ended("a", NOON), ended("#7", NOON + 1))[1] == Exemplar("a", 50.0, NOON)


def test_histogram_without_exemplars_collects_new_ones():
    kept = Histogram((0, 3, 0, 0), 150.0).observe(50.0, BOUNDS.runs, ended("a", NOON))
    assert kept == Histogram((0, 4, 0, 0), 200.0, (None, Exemplar("a", 50.0, NOON), None, None))


# Counters


def test_every_status_counts_from_zero():
    counters = RunCounters(created=NOON)
    assert counters.runs == counters.retries == dict.fromkeys(ENDS, 0)
    assert (counters.missed, counters.recoveries, counters.recovery_seconds) == (0, 0, 0)


def test_each_event_raises_its_counter_only():
    counters = RunCounters(created=NOON).add(
        [
            Event(kind=EventKind.ENDED, run=run(Status.FAILED)),
            Event(kind=EventKind.RETRIED, run=run(Status.SUCCESS)),
            Event(kind=EventKind.RECOVERED, seconds=90.0),
            Event(kind=EventKind.MISSED, runs=3),
            Event(kind=EventKind.MISSED),
            Event(kind=EventKind.RECOVERED, seconds=10.0),
        ]
    )
    assert counters.runs == {**dict.fromkeys(ENDS, 0), Status.FAILED: 1}
    assert counters.retries == {**dict.fromkeys(ENDS, 0), Status.SUCCESS: 1}
    assert counters.missed == 4
    assert (counters.recoveries, counters.recovery_seconds) == (2, 100.0)


def test_counting_does_not_change_the_original():
    before = RunCounters(created=NOON)
    before.add([Event(kind=EventKind.ENDED, run=run())])
    assert before == RunCounters(created=NOON)
