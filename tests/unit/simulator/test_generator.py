"""The scenario generator: it produces every fault, is reproducible, and is fast."""

import time
from collections import Counter
from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.simulator import AcceleratedClock, FaultRates, Scenario, ScenarioGenerator, Truth, World
from tests.marks import examples
from tests.unit.simulator.test_codearts import FINISHED

pytestmark = pytest.mark.process

HOUR, DAY = 3_600, 86_400
WORLD = World(seed=9, pipelines=200)
START = WORLD.start
KNOWN = {"RUNNING", "PAUSED", "SUSPEND", *FINISHED}


def played(days: float, rates: FaultRates | None = None, seed: int = 1, world: World = WORLD) -> Scenario:
    scenario = Scenario(world)
    ScenarioGenerator(scenario, seed, rates).play(world.start + days * DAY)
    return scenario


def truths(scenario: Scenario) -> list[Truth]:
    return [truth for pipeline in scenario.world.pipelines for truth in scenario.truth(pipeline.id)]


@pytest.fixture(scope="module")
def everything() -> Scenario:
    """A day in which every fault is common."""
    return played(1, FaultRates(**dict.fromkeys(FaultRates.__slots__, 0.05)))


@pytest.fixture(scope="module")
def plain() -> Scenario:
    """A day in which runs only begin and end."""
    return played(1, FaultRates.none())


def test_without_faults_runs_only_begin_and_end(plain: Scenario) -> None:
    statuses: Counter[str] = Counter()
    for pipeline in WORLD.pipelines:
        runs = plain.truth(pipeline.id)
        assert runs == () or pipeline.first is not None
        assert [run.number for run in runs] == list(range(1, len(runs) + 1))
        for run in runs:
            first, *ended = run.states
            assert (first.status, first.end, run.deleted, run.epoch) == ("RUNNING", None, None, 0)
            assert len(ended) <= 1
            for state in ended:
                assert state.end == state.moment > state.start == first.moment >= START
                statuses[state.status] += 1
    assert set(statuses) == FINISHED
    assert 0.75 < statuses["COMPLETED"] / statuses.total() < 0.95


def test_periods_and_lengths_vary_widely(plain: Scenario) -> None:
    """From minutes to a day between starts, from seconds to hours of work, with overlaps."""
    counts = [len(plain.truth(pipeline.id)) for pipeline in WORLD.pipelines]
    assert max(counts) > DAY / 180
    assert sum(0 < count <= 3 for count in counts) > 10
    lengths, overlaps, total = [], 0, 0
    for pipeline in WORLD.pipelines:
        for before, after in pairwise(plain.truth(pipeline.id)):
            end = before.states[-1].end
            total += 1
            overlaps += end is None or end > after.states[0].start
            lengths += [end - before.states[0].start] if end is not None else []
    assert min(lengths) < 5
    assert max(lengths) > 3 * HOUR
    assert 0.05 < overlaps / total < 0.4


def test_every_fault_happens(everything: Scenario) -> None:
    seen: Counter[str] = Counter()
    statuses = set()
    for pipeline in WORLD.pipelines:
        runs = everything.truth(pipeline.id)
        numbers: dict[int, list[int]] = {}
        for run in runs:
            numbers.setdefault(run.epoch, []).append(run.number)
            statuses |= {state.status for state in run.states}
            seen["deleted open" if run.states[-1].status not in FINISHED else "deleted over"] += (
                run.deleted is not None
            )
            for before, after in pairwise(run.states):
                change = f"{before.status}-{after.status}"
                if change == "FAILED-IGNORED":
                    assert after.end == before.end
                    seen["ignored"] += 1
                elif after.status == before.status:
                    assert before.end is None is not after.end
                    seen["reported late"] += 1
                elif before.status in FINISHED:
                    assert after.status == "RUNNING"
                    later = after.moment - before.moment
                    seen["retried at once" if later <= 20 else "retried late"] += 1
                elif before.status not in KNOWN and after.status in FINISHED:
                    seen["status resolved"] += 1
                elif after.status in {"PAUSED", "SUSPEND"}:
                    seen["paused"] += 1
            last = run.states[-1]
            seen["end omitted"] += last.status in FINISHED and last.end is None
            seen["unknown status"] += last.status not in KNOWN
        for given_numbers in numbers.values():
            seen["reserved"] += given_numbers != sorted(given_numbers)
            assert len(given_numbers) == len(set(given_numbers))
            gaps = set(range(1, max(given_numbers) + 1)) - set(given_numbers)
            seen["skipped"] += bool(gaps)
        seen["reset"] += len(numbers) > 1
        old = [run for run in runs if run.epoch < max(numbers, default=0)]
        seen["recreated"] += bool(old) and all(run.deleted is not None for run in old)
        seen["history stays"] += any(run.deleted is None for run in old)
    assert statuses >= KNOWN
    assert len(statuses - KNOWN) > 1
    assert {case for case, count in seen.items() if count} == {
        *("deleted open", "deleted over", "ignored", "reported late", "retried at once", "retried late"),
        *("status resolved", "unknown status", "paused", "end omitted", "reserved", "skipped", "reset"),
        *("recreated", "history stays"),
    }


def test_newest_run_is_deleted_too() -> None:
    scenario = played(1, replace(FaultRates.none(), deleted_newest=0.1))
    deleted = 0
    for pipeline in WORLD.pipelines:
        runs = scenario.truth(pipeline.id)
        for index, run in enumerate(runs):
            if run.deleted is not None:
                deleted += 1
                later = [other for other in runs[index + 1 :] if other.states[0].moment <= run.deleted]
                assert all(other.deleted is not None and other.deleted <= run.deleted for other in later)
    assert deleted > 100


def test_faults_are_rare_by_default() -> None:
    everyone = truths(played(1))
    plain = [
        run
        for run in everyone
        if run.deleted is None
        and [state.status for state in run.states] in [["RUNNING", final_status] for final_status in FINISHED]
    ]
    assert 0.6 < len(plain) / len(everyone) < 0.97


SMALL = World(seed=9, pipelines=12)
SLOW = examples(20)


@SLOW
@given(st.integers(0, 1_000), st.lists(st.floats(0, 10_000), max_size=8))
def test_same_seed_gives_the_same_runs_for_any_steps(seed: int, steps: list[float]) -> None:
    rates = FaultRates(**dict.fromkeys(FaultRates.__slots__, 0.1))
    whole, pieces = Scenario(SMALL), Scenario(SMALL)
    ScenarioGenerator(whole, seed, rates).play(SMALL.start + sum(steps))
    generator, now = ScenarioGenerator(pieces, seed, rates), SMALL.start
    for step in steps:
        now += step
        generator.play(now)
    generator.play(SMALL.start + sum(steps))
    assert truths(whole) == truths(pieces)
    other = Scenario(SMALL)
    ScenarioGenerator(other, seed + 1, rates).play(SMALL.start + 10_000)
    assert truths(other) != truths(whole)


def test_events_happen_at_their_time() -> None:
    scenario = Scenario(SMALL)
    generator = ScenarioGenerator(scenario)
    generator.play(START - 1)
    assert truths(scenario) == []
    generator.play(START + HOUR)
    assert max(state.moment for run in truths(scenario) for state in run.states) <= START + HOUR


def test_test_can_act_on_the_scenario_between_two_steps() -> None:
    """Planned events of a deleted run do not happen."""
    scenario = Scenario(SMALL)
    generator = ScenarioGenerator(scenario, 1, FaultRates(**dict.fromkeys(FaultRates.__slots__, 0.2)))
    for hour in range(1, 30):
        now = START + hour * HOUR
        generator.play(now)
        for pipeline in SMALL.pipelines:
            run = scenario.latest(pipeline.id, now)
            if run is not None:
                scenario.delete(run, now)
            if hour % 7 == 0:
                scenario.recreate(pipeline.id, now)
        scenario.forget(now - HOUR)


def test_forgetting_keeps_the_number_of_runs_level() -> None:
    scenario = Scenario(SMALL)
    generator = ScenarioGenerator(scenario, 1, FaultRates.none())
    left = []
    for hour in range(1, 100):
        now = START + hour * HOUR
        generator.play(now)
        scenario.forget(now - 2 * HOUR)
        left.append(len(truths(scenario)))
    assert sum(left[-20:]) < 1.5 * sum(left[10:30])


def test_generator_plays_5000_events_a_second() -> None:
    """The limit is generous for slow machines."""
    first = time.process_time()
    scenario = played(0.2, world=World(seed=2, pipelines=1_000))
    events = sum(len(run.states) for run in truths(scenario))
    assert events > 20_000
    assert (time.process_time() - first) / events < 0.0002


def test_accelerated_clock_runs_faster_than_real_time(monkeypatch: pytest.MonkeyPatch) -> None:
    moment = 5.0
    monkeypatch.setattr("exporter.simulator.world.clock.time.monotonic", lambda: moment)
    clock = AcceleratedClock(60, START)
    assert clock() == START
    moment += 10
    assert clock() == START + 600
