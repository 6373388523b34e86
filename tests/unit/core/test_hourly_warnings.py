"""Warnings are held, and each kind is logged once an hour with its count."""

from functools import partial

import pytest

from exporter.core.hourly_warnings import HOUR, HourlyWarnings
from tests.drivers.support import FakeClock


@pytest.fixture
def clock():
    return FakeClock()


@pytest.fixture
def warnings(clock):
    return HourlyWarnings(clock)


@pytest.fixture
def logged():
    """Return the list of logged (first warning, count) pairs, which `add` fills."""
    return []


@pytest.fixture
def add(warnings, logged):
    def add(kind, first, count=1, **options):
        warnings.add(kind, lambda times: logged.append((first, times)), count, **options)

    return add


def test_warning_is_held_until_it_is_flushed(warnings, add, logged):
    add(("skipped",), "a")
    add(("skipped",), "b", 2)
    assert logged == []
    warnings.flush()
    assert logged == [("a", 3)]
    warnings.flush()
    assert len(logged) == 1


def test_kind_is_logged_once_an_hour(warnings, add, logged, clock):
    for minute in range(121):
        clock.now = 1e9 + 60 * minute
        add(("skipped",), minute)
        add(("failed", "429"), minute)
        warnings.flush()
    assert logged == [(0, 1), (0, 1), (1, 60), (1, 60), (61, 60), (61, 60)]


def test_outage_takes_its_failures_and_leaves_other_warnings(warnings, add, logged):
    add(("failed", "429"), "a", 4)
    add(("given up",), "b", of_outage=False)
    assert warnings.take() == 4
    assert warnings.take() == 0
    warnings.flush()
    assert logged == [("b", 1)]


def test_few_lines_are_those_logged_longest_ago(warnings, add, logged, clock):
    for kind in ("a", "b", "c"):
        add((kind,), kind)
    warnings.flush(2)
    assert warnings.recent == 2
    clock.now += HOUR
    for kind in ("a", "b"):
        add((kind,), kind)
    warnings.flush(2)
    assert [first for first, _ in logged] == ["a", "b", "c", "a"]


def test_first_warning_of_an_hour_can_be_logged_at_once(warnings, logged, clock):
    for _ in range(3):
        warnings.log_now(("list",), logged.append)
    assert logged == [1]
    clock.now += HOUR
    warnings.flush()
    assert logged == [1, 2]


def test_number_of_kinds_is_limited(warnings, clock):
    lines: list[int] = []
    for number in range(1000):
        warnings.add(("failed", str(number)), partial(lines.append))
    warnings.flush()
    assert len(lines) == 101
    assert sum(lines) == 1000
    clock.now += HOUR
    warnings.flush()
    warnings.add(("failed", "1000"), partial(lines.append))
    warnings.flush()
    assert lines[-1] == 1
