"""When polls are due: refreshes and active polls at fixed times from one start, without drift."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.app.scheduler import PollTrigger
from exporter.settings.settings import Poll

START = datetime(2026, 1, 1, tzinfo=UTC)


def poll(interval, active_interval):
    return Poll.model_validate({"interval": interval, "active_interval": active_interval})


def fires(trigger, count, late=timedelta()):
    """Return the seconds after the start at which a trigger fires, each noticed late by `late`."""
    moments = [trigger.get_next_fire_time(None, START)]
    while len(moments) < count:
        moments.append(trigger.get_next_fire_time(moments[-1], moments[-1] + late))
    return [pytest.approx((moment - START).total_seconds(), abs=1e-3) for moment in moments]


def test_refresh_and_active_poll_at_the_same_time_fire_once():
    trigger = PollTrigger(START, poll("60s", "25s"), 60.0)
    assert fires(trigger, 8) == [0, 25, 50, 60, 75, 100, 120, 125]


def test_regular_refreshes_begin_at_the_offset():
    """The first refresh comes at once."""
    trigger = PollTrigger(START, poll("60s", "60s"), 30.0)
    assert fires(trigger, 5) == [0, 30, 60, 90, 120]


def test_missed_times_are_skipped():
    trigger = PollTrigger(START, poll("60s", "15s"), 60.0)
    assert fires(trigger, 4, timedelta(seconds=47)) == [0, 60, 120, 180]


@given(
    interval=st.integers(100, 10**8),
    active=st.integers(100, 10**8),
    share=st.floats(0.01, 1),
    late=st.floats(0, 1e4),
)
def test_next_time_is_in_the_future_and_at_most_one_interval_away(interval, active, share, late):
    trigger = PollTrigger(START, poll(f"{interval}ms", f"{active}ms"), interval / 1000 * share)
    moment = START
    for _ in range(20):
        now = moment + timedelta(seconds=late)
        following = trigger.get_next_fire_time(moment, now)
        assert now < following <= now + timedelta(seconds=interval / 1000 + 0.01)
        moment = following
