"""A drama is believed to have everything in it that can happen, to be the same each time, and to cost little."""

import time
from collections import Counter
from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exporter.simulator import Accelerated, FaultRates, Scenario, ScenarioGenerator, Truth, World
from tests.unit.simulator.test_codearts import OVER

HOUR, DAY = 3_600, 86_400
WORLD = World(seed=9, pipelines=200)
START = WORLD.start
KNOWN = {"RUNNING", "PAUSED", "SUSPEND", *OVER}


def played(days: float, odds: FaultRates | None = None, seed: int = 1, world: World = WORLD) -> Scenario:
    story = Scenario(world)
    ScenarioGenerator(story, seed, odds).play(world.start + days * DAY)
    return story


def truths(story: Scenario) -> list[Truth]:
    return [truth for pipeline in story.world.pipelines for truth in story.truth(pipeline.id)]


@pytest.fixture(scope="module")
def everything() -> Scenario:
    """Days in which every mischief is common."""
    return played(1, FaultRates(**dict.fromkeys(FaultRates.__slots__, 0.05)))


@pytest.fixture(scope="module")
def plain() -> Scenario:
    """A day in which runs only begin and end."""
    return played(1, FaultRates.none())


def test_without_mischief_runs_only_begin_and_end(plain: Scenario) -> None:
    statuses: Counter[str] = Counter()
    for pipeline in WORLD.pipelines:
        runs = plain.truth(pipeline.id)
        assert runs == () or pipeline.first is not None
        assert [run.number for run in runs] == list(range(1, len(runs) + 1))
        for run in runs:
            begun, *ended = run.states
            assert (begun.status, begun.end, run.deleted, run.epoch) == ("RUNNING", None, None, 0)
            assert len(ended) <= 1
            for state in ended:
                assert state.end == state.moment > state.start == begun.moment >= START
                statuses[state.status] += 1
    assert set(statuses) == OVER
    assert 0.75 < statuses["COMPLETED"] / statuses.total() < 0.95


def test_cadences_and_lengths_are_widely_spread(plain: Scenario) -> None:
    """From minutes to a day between starts, from seconds to hours of work, and overlaps."""
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


def test_every_mischief_happens(everything: Scenario) -> None:
    seen: Counter[str] = Counter()
    words = set()
    for pipeline in WORLD.pipelines:
        runs = everything.truth(pipeline.id)
        numbers: dict[int, list[int]] = {}
        for run in runs:
            numbers.setdefault(run.epoch, []).append(run.number)
            words |= {state.status for state in run.states}
            seen["deleted open" if run.states[-1].status not in OVER else "deleted over"] += (
                run.deleted is not None
            )
            for before, after in pairwise(run.states):
                change = f"{before.status}-{after.status}"
                if change == "FAILED-IGNORED":
                    assert after.end == before.end
                    seen["ignored"] += 1
                elif after.status == before.status:
                    assert before.end is None is not after.end
                    seen["told late"] += 1
                elif before.status in OVER:
                    assert after.status == "RUNNING"
                    later = after.moment - before.moment
                    seen["retried at once" if later <= 20 else "retried late"] += 1
                elif before.status not in KNOWN and after.status in OVER:
                    seen["word resolved"] += 1
                elif after.status in {"PAUSED", "SUSPEND"}:
                    seen["paused"] += 1
            last = run.states[-1]
            seen["end omitted"] += last.status in OVER and last.end is None
            seen["word for good"] += last.status not in KNOWN
        for given_numbers in numbers.values():
            seen["given early"] += given_numbers != sorted(given_numbers)
            assert len(given_numbers) == len(set(given_numbers))
            gaps = set(range(1, max(given_numbers) + 1)) - set(given_numbers)
            seen["skipped"] += bool(gaps)
        seen["reset"] += len(numbers) > 1
        old = [run for run in runs if run.epoch < max(numbers, default=0)]
        seen["recreated"] += bool(old) and all(run.deleted is not None for run in old)
        seen["history stays"] += any(run.deleted is None for run in old)
    assert words >= KNOWN
    assert len(words - KNOWN) > 1
    assert {case for case, count in seen.items() if count} == {
        *("deleted open", "deleted over", "ignored", "told late", "retried at once", "retried late"),
        *("word resolved", "word for good", "paused", "end omitted", "given early", "skipped", "reset"),
        *("recreated", "history stays"),
    }


def test_the_newest_run_is_deleted_too() -> None:
    story = played(1, replace(FaultRates.none(), deleted_newest=0.1))
    deleted = 0
    for pipeline in WORLD.pipelines:
        runs = story.truth(pipeline.id)
        for place, run in enumerate(runs):
            if run.deleted is not None:
                deleted += 1
                later = [other for other in runs[place + 1 :] if other.states[0].moment <= run.deleted]
                assert all(other.deleted is not None and other.deleted <= run.deleted for other in later)
    assert deleted > 100


def test_mischief_is_rare_by_default() -> None:
    everyone = truths(played(1))
    plain = [
        run
        for run in everyone
        if run.deleted is None
        and [state.status for state in run.states] in [["RUNNING", fate] for fate in OVER]
    ]
    assert 0.6 < len(plain) / len(everyone) < 0.97


SMALL = World(seed=9, pipelines=12)
PATIENT = settings(deadline=None, max_examples=20)


@PATIENT
@given(st.integers(0, 1_000), st.lists(st.floats(0, 10_000), max_size=8))
def test_the_same_seed_makes_the_same_drama_in_whatever_pieces(seed: int, steps: list[float]) -> None:
    odds = FaultRates(**dict.fromkeys(FaultRates.__slots__, 0.1))
    whole, pieces = Scenario(SMALL), Scenario(SMALL)
    ScenarioGenerator(whole, seed, odds).play(SMALL.start + sum(steps))
    drama, now = ScenarioGenerator(pieces, seed, odds), SMALL.start
    for step in steps:
        now += step
        drama.play(now)
    drama.play(SMALL.start + sum(steps))
    assert truths(whole) == truths(pieces)
    other = Scenario(SMALL)
    ScenarioGenerator(other, seed + 1, odds).play(SMALL.start + 10_000)
    assert truths(other) != truths(whole)


def test_nothing_happens_before_its_time() -> None:
    story = Scenario(SMALL)
    drama = ScenarioGenerator(story)
    drama.play(START - 1)
    assert truths(story) == []
    drama.play(START + HOUR)
    assert max(state.moment for run in truths(story) for state in run.states) <= START + HOUR


def test_somebody_else_may_act_as_well() -> None:
    """What the drama had in mind for a run that is gone does not happen."""
    story = Scenario(SMALL)
    drama = ScenarioGenerator(story, 1, FaultRates(**dict.fromkeys(FaultRates.__slots__, 0.2)))
    for hour in range(1, 30):
        now = START + hour * HOUR
        drama.play(now)
        for pipeline in SMALL.pipelines:
            run = story.latest(pipeline.id, now)
            if run is not None:
                story.delete(run, now)
            if hour % 7 == 0:
                story.recreate(pipeline.id, now)
        story.forget(now - HOUR)


def test_a_soak_keeps_level() -> None:
    """Runs are forgotten as fast as they come."""
    story = Scenario(SMALL)
    drama = ScenarioGenerator(story, 1, FaultRates.none())
    left = []
    for hour in range(1, 100):
        now = START + hour * HOUR
        drama.play(now)
        story.forget(now - 2 * HOUR)
        left.append(len(truths(story)))
    assert sum(left[-20:]) < 1.5 * sum(left[10:30])


def test_a_drama_is_quick() -> None:
    """Thousands of events in a second; the bound is generous for slow machines."""
    begun = time.perf_counter()
    story = played(0.5, world=World(seed=2, pipelines=1_000))
    events = sum(len(run.states) for run in truths(story))
    assert events > 50_000
    assert (time.perf_counter() - begun) / events < 0.0002


def test_a_clock_that_runs_faster_than_time(monkeypatch: pytest.MonkeyPatch) -> None:
    moment = 5.0
    monkeypatch.setattr("exporter.simulator.world.clock.time.monotonic", lambda: moment)
    clock = Accelerated(60, START)
    assert clock() == START
    moment += 10
    assert clock() == START + 600
