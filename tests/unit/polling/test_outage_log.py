"""When the log has a line about an outage."""

from exporter.polling.cause import Cause
from exporter.polling.outage_log import LINES, OutageLog
from exporter.polling.project_health import Outage

TIMEOUT = Cause("Batch", "timeout", message="no response within 10 s", remedy="no-response")
BROKEN = Cause("Batch", "502", message="HTTP 502", remedy="provider-fails")
HOUR = 3600.0


def outage(log, start, end, *, cause=TIMEOUT, warnings=0):
    """Play an outage with a refresh each minute; return the times of its lines."""
    began = Outage(start, start, cause)
    log.begin(began, start)
    minutes = range(int(start), int(end), 60)
    lines = [now for now in minutes if log.take_line(began, now, warnings)]
    return [*lines, end] if log.take_end(end) else lines


def test_lines_come_after_5_15_and_60_minutes_and_hourly_later():
    assert outage(OutageLog(), 0, 4 * HOUR) == [0, 300, 900, HOUR, 2 * HOUR, 3 * HOUR, 4 * HOUR]


def test_line_may_be_a_little_early():
    log, began = OutageLog(), Outage(0, 0, TIMEOUT)
    log.begin(began, 0)
    assert [now for now in (0, 299, 300, 897, 900) if log.take_line(began, now, 0)] == [0, 299, 897]


def test_rare_refreshes_make_no_line_up_for():
    log, began = OutageLog(), Outage(0, 0, TIMEOUT)
    log.begin(began, 0)
    assert all(log.take_line(began, now, 0) for now in (0, 1200, HOUR, 2 * HOUR))


def test_project_that_fails_in_turn_has_few_lines():
    log = OutageLog()
    lines = [line for start in range(0, int(HOUR), 120) for line in outage(log, start, start + 60)]
    assert lines == [0, 60, 120, 180]


def test_long_outage_after_short_ones_is_logged_after_15_minutes():
    log = OutageLog()
    lines = [line for times in ((0, 60), (120, 180), (240, 3000)) for line in outage(log, *times)]
    assert lines == [0, 60, 120, 180, 1140, 3000]
    assert len(lines) <= LINES


def test_short_outages_of_another_cause_are_logged_at_once():
    log = OutageLog()
    causes = (TIMEOUT, TIMEOUT, BROKEN)
    lines = [outage(log, 120 * index, 120 * index + 60, cause=one) for index, one in enumerate(causes)]
    assert lines[-1] == [240, 300]


def test_messages_that_differ_in_numbers_are_one_trouble():
    other = Cause("List", "timeout", message="no response within 9 s", remedy="no-response")
    assert other.trouble == TIMEOUT.trouble


def test_warnings_leave_lines_for_an_outage():
    log = OutageLog()
    assert log.warnings_left(0) > LINES
    outage(log, 0, 60)
    assert log.warnings_left(60) == LINES - 4
    outage(log, 120, 180)
    assert log.warnings_left(180) == 0
    assert log.warnings_left(180 + HOUR) > LINES
