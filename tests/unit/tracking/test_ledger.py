"""The rules of accounting, one test each; then invariants of their combination."""

from collections import Counter
from collections.abc import Sequence
from itertools import count, pairwise
from typing import Any
from unittest import mock

import msgspec
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from exporter.core.model import ENDS, Run, Stage, Status
from exporter.tracking.ledger import (
    Coverage,
    EndedRun,
    Event,
    EventKind,
    Extent,
    LedgerState,
    LedgerUpdate,
    OpenRun,
    Reach,
    Search,
    Streak,
    apply_history,
    apply_latest,
    apply_lookup,
    history_unavailable,
    known_streak,
    rules,
    search,
    streak,
)
from exporter.tracking.ledger.read_back import read_back
from exporter.tracking.ledger.rules import APART, LEAP, OPEN
from exporter.tracking.ledger.search import DAY, HOUR, WEEK
from exporter.tracking.ledger.streak import KEPT
from tests.marks import examples

NOON = 1_700_000_000.0
SUCCESS, FAILED, RUNNING = Status.SUCCESS, Status.FAILED, Status.RUNNING


def run(
    number: int | None,
    status: Status = SUCCESS,
    *,
    identity: str = "",
    start: float | None = None,
    end: float | None = None,
) -> Run:
    """Return a run that started a hundred seconds after the one before it, and took fifty if it has ended."""
    start = NOON + 100.0 * (number or 0) if start is None else start
    if status.final and end is None:
        end = start + 50
    return Run(id=identity or f"run-{number}", number=number, status=status, start=start, end=end)


def end_of(number: int) -> float:
    """Return when the finished run with this number ends, in Unix seconds."""
    return NOON + 100.0 * number + 50


def endless(run: Run) -> Run:
    """Return the same run without its end."""
    return msgspec.structs.replace(run, end=None)


def as_tuple(event: Event) -> tuple[Any, ...]:
    """Return an event as a tuple that is easy to compare."""
    match event.kind:
        case EventKind.MISSED:
            return ("missed", event.runs)
        case EventKind.RECOVERED:
            return ("recovered", event.seconds)
        case EventKind.MISNUMBERED:
            assert event.run is not None
            return ("misnumbered", event.run.id, event.run.number, event.number)
    assert event.run is not None
    return (event.kind.value, event.run.id, event.run.status.value)


class Watcher:
    """A ledger of one pipeline that a test feeds with responses; methods return the resulting events."""

    def __init__(self, *answers: Run | None) -> None:
        self._state: LedgerState | None = None
        self.now = NOON
        self.answered = NOON
        self.believed = True
        self.shown: Run | None = None
        for answer in answers:
            self.sees(answer)

    def sees(self, answer: Run | None, *, later: float = 15.0) -> list[tuple[Any, ...]]:
        """Apply an answer about the latest run; return the events."""
        self.now += later
        self.shown = answer
        outcome = apply_latest(self._state, answer, now=self.now, answered=self.answered)
        self.believed = outcome.believed
        if outcome.believed:
            self.answered = self.now
        return self.applies(outcome)

    def looks_up(self, identity: str, answer: Run | None, *, later: float = 0.0) -> list[tuple[Any, ...]]:
        """Apply a look-up of a hidden run; return the events."""
        self.now += later
        return self.applies(apply_lookup(self.state, identity, answer, now=self.now))

    def reads(
        self,
        *rows: Run,
        reach: Reach = Reach.COMPLETE,
        coverage: Coverage | None = None,
        later: float = 0.0,
    ) -> list[tuple[Any, ...]]:
        """Apply a reading of the run list, which always has the latest run; return the events."""
        self.now += later
        if self.shown is not None and self.shown.id not in {row.id for row in rows}:
            rows = (self.shown, *rows)
        coverage = Coverage(complete=reach is Reach.COMPLETE) if coverage is None else coverage
        return self.applies(apply_history(self.state, rows, reach, now=self.now, coverage=coverage))

    def cannot_read(self, *, later: float) -> list[tuple[Any, ...]]:
        """Apply a failure of the run list; return the events."""
        self.now += later
        return self.applies(history_unavailable(self.state, now=self.now))

    def applies(self, outcome: LedgerUpdate) -> list[tuple[Any, ...]]:
        """Store the new state; return the events."""
        self._state = outcome.state
        return [as_tuple(event) for event in outcome.events]

    @property
    def state(self) -> LedgerState:
        """The current ledger state."""
        assert self._state is not None
        return self._state

    @property
    def hidden(self) -> list[str]:
        """Ids of the hidden runs."""
        return [one.id for one in self.state.hidden]

    @property
    def missing_numbers(self) -> list[int]:
        """The missing numbers, one by one."""
        return [number for gap in self.state.missing_numbers for number in range(gap.first, gap.last + 1)]

    @property
    def active(self) -> str | None:
        """Id of the run in progress."""
        return next((one.id for one in self.state.open if one.hidden is None), None)

    @property
    def finished(self) -> str | None:
        """Id of the latest finished run."""
        return self.state.finished.id if self.state.finished else None


# First sight


def test_run_final_at_first_sight_is_shown_but_not_counted():
    watcher = Watcher()
    assert watcher.sees(run(7, FAILED)) == []
    assert watcher.sees(run(7, FAILED)) == []
    assert watcher.finished == "run-7"
    assert watcher.state.streak.failures == 1


def test_only_runs_that_are_in_a_counter_are_marked_as_counted():
    watcher = Watcher(run(7, FAILED))
    read = apply_history(
        watcher.state,
        [run(5), run(6, FAILED), run(7, FAILED)],
        Reach.COMPLETE,
        now=NOON,
        coverage=Coverage(complete=True),
    )
    ended = apply_latest(read.state, run(8, FAILED), now=NOON, answered=NOON).state.ended
    assert [(one.number, one.counted) for one in ended] == [(8, True), (7, False), (6, False), (5, False)]
    retried = apply_latest(read.state, run(7, end=NOON + 900), now=NOON, answered=NOON)
    assert [as_tuple(event)[:2] for event in retried.events] == [
        ("retried", "run-7"),
        ("recovered", NOON + 900 - end_of(6)),
    ]
    assert retried.state.ended[0].counted is False


def test_run_in_progress_at_first_sight_counts_when_it_ends():
    watcher = Watcher(run(7, RUNNING))
    assert watcher.active == "run-7"
    assert watcher.sees(run(7)) == [("ended", "run-7", "success")]
    assert watcher.active is None


def test_numbers_before_first_sight_make_no_gap():
    assert Watcher(run(412)).sees(run(413)) == [("ended", "run-413", "success")]


def test_first_run_after_a_first_sight_without_runs_counts():
    watcher = Watcher(None)
    assert watcher.sees(run(1)) == [("ended", "run-1", "success")]


def test_numbers_below_the_first_run_are_missing_after_a_first_sight_without_runs():
    """Numbering started at 1 after first sight."""
    watcher = Watcher(None, None)
    assert watcher.sees(run(3, RUNNING)) == []
    assert watcher.missing_numbers == [1, 2]
    assert watcher.sees(run(3)) == [("ended", "run-3", "success")]
    assert watcher.sees(run(5)) == [("ended", "run-5", "success")]
    assert watcher.missing_numbers == [1, 2, 4]


def test_initial_scan_finds_other_runs_in_progress_and_the_latest_finished_one():
    watcher = Watcher(run(9, RUNNING))
    assert watcher.state.initial_scan
    rows = [run(9, RUNNING), run(8, FAILED), run(7, Status.PAUSED), run(6)]
    assert watcher.reads(*rows) == []
    assert not watcher.state.initial_scan
    assert (watcher.finished, watcher.state.streak.failures) == ("run-8", 1)
    assert watcher.hidden == ["run-7"]
    assert watcher.looks_up("run-7", run(7)) == [("ended", "run-7", "success")]
    assert watcher.sees(run(9)) == [("ended", "run-9", "success"), ("recovered", end_of(9) - end_of(8))]


def test_run_that_ended_before_the_initial_scan_is_not_counted():
    """No answer ever showed it in progress."""
    watcher = Watcher(run(9, RUNNING))
    assert watcher.reads(run(9, RUNNING), run(8)) == []


def test_initial_scan_is_given_up_after_a_day_of_failures():
    watcher = Watcher(run(9, RUNNING))
    assert watcher.cannot_read(later=DAY - 1) == []
    assert watcher.state.initial_scan
    assert watcher.cannot_read(later=1) == []
    assert not watcher.state.initial_scan


def test_final_run_at_first_sight_needs_no_initial_scan():
    assert not Watcher(run(9)).state.initial_scan


def test_later_lists_add_no_run_from_before_first_sight():
    watcher = Watcher(run(9), run(11))
    assert watcher.reads(run(11), run(10), run(3, RUNNING)) == [("ended", "run-10", "success")]
    assert watcher.state.open == ()


def test_later_answer_without_a_run_changes_nothing():
    """The pipeline may be in the next answer again."""
    watcher = Watcher(run(1), run(2, RUNNING))
    before = watcher.state
    assert watcher.sees(None) == []
    assert ([one.id for one in watcher.state.open], watcher.state.finished) == (["run-2"], before.finished)
    assert watcher.sees(run(2)) == [("ended", "run-2", "success")]


# Counted once


@pytest.mark.parametrize("status", ENDS)
def test_each_final_status_counts_once_however_often_it_is_seen(status):
    watcher = Watcher(run(1))
    seen = [event for _ in range(100) for event in watcher.sees(run(2, status))]
    assert [event for event in seen if event[0] == "ended"] == [("ended", "run-2", status.value)]


def test_run_counts_only_when_its_status_is_final():
    watcher = Watcher(run(1))
    for status in Status:
        if not status.final:
            assert watcher.sees(run(2, status)) == []
            assert watcher.active == "run-2"
    assert watcher.sees(run(2)) == [("ended", "run-2", "success")]


def test_run_that_started_and_ended_between_two_answers_counts():
    assert Watcher(run(1)).sees(run(2, Status.CANCELED)) == [("ended", "run-2", "canceled")]


def test_final_run_without_an_end_counts():
    assert Watcher(run(1)).sees(endless(run(2))) == [("ended", "run-2", "success")]


def test_event_has_the_stages_and_the_stored_run_has_not():
    """Histograms need stages once; storing them would waste memory."""
    staged = msgspec.structs.replace(run(2), stages=(Stage("build", 0, SUCCESS, NOON, 5.0),))
    watcher = Watcher(run(1))
    outcome = apply_latest(watcher.state, staged, now=NOON, answered=NOON)
    assert [event.run for event in outcome.events] == [staged]
    assert outcome.state.finished == run(2)


# Retries


def test_counted_run_that_continues_and_ends_again_is_a_retry():
    watcher = Watcher(run(1), run(2, FAILED))
    assert watcher.sees(run(2, RUNNING)) == []
    assert watcher.state.open == (OpenRun("run-2", 2, run(2).start, reopened=True),)
    assert watcher.sees(run(2, FAILED, end=NOON + 900)) == [("retried", "run-2", "failed")]


def test_each_further_end_is_one_retry():
    watcher = Watcher(run(1), run(2, FAILED))
    for _ in range(3):
        assert watcher.sees(run(2, RUNNING)) == []
        assert watcher.sees(run(2, FAILED, end=watcher.now + 500)) == [("retried", "run-2", "failed")]


def test_retry_between_two_answers_is_recognized_by_its_later_end():
    watcher = Watcher(run(1), run(2, FAILED, end=NOON + 300))
    assert watcher.sees(run(2, FAILED, end=NOON + 301)) == [("retried", "run-2", "failed")]
    assert watcher.sees(run(2, FAILED, end=NOON + 301)) == []


def test_retry_without_an_end_counts():
    watcher = Watcher(run(1), endless(run(2, FAILED)), run(2, RUNNING))
    assert watcher.sees(endless(run(2, FAILED))) == [("retried", "run-2", "failed")]


@pytest.mark.parametrize("stale", [run(2, RUNNING), run(2, FAILED, end=NOON + 300)])
def test_stale_answer_from_before_a_retry_is_not_another_retry(stale):
    watcher = Watcher(run(1), run(2, FAILED, end=NOON + 300), run(2, end=NOON + 900))
    assert watcher.sees(stale) == []
    assert watcher.sees(run(2, end=NOON + 900)) == []
    assert watcher.state.finished == run(2, end=NOON + 900)
    assert watcher.state.open == ()


@pytest.mark.parametrize("end", [NOON + 300.999, NOON + 299.5])
def test_end_that_moves_by_less_than_a_second_is_no_retry(end):
    """Providers round times, and correct them."""
    watcher = Watcher(run(1), run(2, FAILED, end=NOON + 300))
    assert watcher.sees(run(2, FAILED, end=end)) == []
    assert watcher.state.ended[0].end == end


def test_end_that_appears_later_is_no_retry():
    watcher = Watcher(run(1), endless(run(2, FAILED)))
    assert watcher.sees(run(2, FAILED)) == []
    assert watcher.state.finished == run(2, FAILED)
    assert watcher.state.streak.broken_since == run(2).end


def test_end_that_disappears_is_no_retry():
    watcher = Watcher(run(1), run(2))
    assert watcher.sees(endless(run(2))) == []
    assert watcher.sees(run(2)) == []


def test_failure_that_is_ignored_later_is_a_correction():
    """The gauges follow the correction, and no counter changes."""
    watcher = Watcher(run(1), run(2, FAILED))
    assert watcher.sees(run(2, Status.IGNORED)) == []
    assert watcher.state.finished == run(2, Status.IGNORED)
    assert watcher.state.streak.failures == 0
    assert watcher.state.streak.broken_since is None


def test_failure_that_is_corrected_to_success_is_no_recovery():
    watcher = Watcher(run(1), run(2, FAILED))
    assert watcher.sees(run(2)) == []
    assert watcher.state.streak.failures == 0


def test_run_final_at_first_sight_can_be_retried_but_never_counts_as_a_run():
    watcher = Watcher(run(5, FAILED))
    watcher.sees(run(5, RUNNING))
    assert watcher.sees(run(5, FAILED, end=NOON + 900)) == [("retried", "run-5", "failed")]
    assert watcher.sees(run(5, FAILED, end=NOON + 999)) == [("retried", "run-5", "failed")]


def test_finished_run_keeps_its_old_end_until_the_retry_ends():
    """A red pipeline stays red until then."""
    watcher = Watcher(run(1), run(2, FAILED), run(2, RUNNING))
    assert watcher.state.finished == run(2, FAILED)
    assert watcher.state.streak.failures == 1


# Gaps


def test_jumped_over_numbers_are_missing_until_the_list_has_them():
    watcher = Watcher(run(3))
    assert watcher.sees(run(7)) == [("ended", "run-7", "success")]
    assert watcher.missing_numbers == [4, 5, 6]
    assert watcher.state.unresolved == 3
    rows = [run(7), run(6, RUNNING), run(4, FAILED), run(5), run(3)]
    assert watcher.reads(*rows) == [
        ("ended", "run-4", "failed"),
        ("ended", "run-5", "success"),
        ("recovered", 100.0),
    ]
    assert (watcher.missing_numbers, watcher.hidden) == ([], ["run-6"])
    assert watcher.looks_up("run-6", run(6)) == [("ended", "run-6", "success")]


def test_jump_to_a_run_in_progress_makes_the_same_gap():
    watcher = Watcher(run(3))
    assert watcher.sees(run(7, RUNNING)) == []
    assert watcher.missing_numbers == [4, 5, 6]


def test_run_newer_than_the_latest_is_taken_from_the_list():
    watcher = Watcher(run(3), run(5))
    assert watcher.reads(run(8, RUNNING), run(6), run(5), run(4)) == [
        ("ended", "run-4", "success"),
        ("ended", "run-6", "success"),
    ]
    assert (watcher.missing_numbers, watcher.state.high) == ([7], 8)
    assert watcher.sees(run(8, RUNNING)) == []
    assert watcher.active == "run-8"
    assert watcher.sees(run(8)) == [("ended", "run-8", "success")]


def test_million_missing_numbers_are_one_gap():
    watcher = Watcher(run(3), run(1_000_003), run(1_000_003))
    assert watcher.state.unresolved == 999_999
    assert len(watcher.state.missing_numbers) == 1


# Wild numbers

WILD = (45, 10**6, 2**53 - 1)


@pytest.mark.parametrize("wild", WILD)
@pytest.mark.parametrize("status", [SUCCESS, RUNNING])
def test_known_run_keeps_its_number(wild, status):
    """The wrong number is reported, and the rest of the record is used."""
    watcher = Watcher(run(2), run(3, status))
    misread = run(wild, identity="run-3", start=run(3).start, end=end_of(3))
    assert ("misnumbered", "run-3", wild, 3) in watcher.sees(misread)
    assert (watcher.state.high, watcher.missing_numbers, watcher.state.open) == (3, [], ())
    assert watcher.state.finished == run(3)
    for number in range(4, 10):
        assert watcher.sees(run(number)) == [("ended", f"run-{number}", "success")]


@pytest.mark.parametrize("wild", WILD)
def test_known_run_keeps_its_number_in_lists_and_when_looked_up(wild):
    watcher = Watcher(run(1), run(2, RUNNING), run(4))
    misread = run(wild, RUNNING, identity="run-2", start=run(2).start)
    deviation = ("misnumbered", "run-2", wild, 2)
    assert watcher.reads(run(4), run(3), misread) == [("ended", "run-3", "success"), deviation]
    assert watcher.looks_up("run-2", misread) == [deviation]
    assert (watcher.hidden, watcher.state.high) == (["run-2"], 4)


@pytest.mark.parametrize("wild", [4 + LEAP, 10**6, 2**53 - 1])
@pytest.mark.parametrize("status", [SUCCESS, RUNNING])
def test_leap_of_one_answer_raises_nothing(wild, status):
    """Its run is shown, and active if it is in progress. Later runs count as if it had never been."""
    watcher = Watcher(run(3))
    assert watcher.sees(run(wild, status, identity="new", start=run(4).start)) == []
    assert watcher.believed
    assert (watcher.state.high, watcher.missing_numbers, watcher.state.open) == (3, [], ())
    assert watcher.state.starts == (() if status.final else (run(4).start,))
    assert watcher.sees(run(4)) == [("misnumbered", "new", wild, None), ("ended", "run-4", "success")]
    for number in range(5, 10):
        assert watcher.sees(run(number)) == [("ended", f"run-{number}", "success")]
    assert (watcher.state.high, watcher.missing_numbers, watcher.state.leap) == (9, [], None)


def test_number_just_within_a_leap_needs_no_other_answer():
    watcher = Watcher(run(3))
    assert watcher.sees(run(3 + LEAP)) == [("ended", f"run-{3 + LEAP}", "success")]
    assert len(watcher.missing_numbers) == LEAP - 1


@pytest.mark.parametrize("wild", WILD)
def test_numbers_below_a_misread_new_run_still_count(wild):
    """Within a leap the number is believed. The numbers below it are missing, and turn out not to exist."""
    watcher = Watcher(run(3), run(wild, identity="new", start=run(4).start))
    assert watcher.sees(run(4))[-1] == ("ended", "run-4", "success")
    assert watcher.reads() == []
    assert watcher.reads(later=APART) == []
    for number in range(5, 10):
        assert watcher.sees(run(number)) == [("ended", f"run-{number}", "success")]


def test_leap_with_the_old_run_in_the_next_answer_was_a_misreading():
    watcher = Watcher(run(2), run(3), run(10**6, RUNNING, identity="1000000", start=run(3).start))
    assert watcher.sees(run(3)) == [("misnumbered", "1000000", 10**6, None)]
    assert (watcher.state.starts, watcher.hidden, watcher.state.leap) == ((), [], None)


def test_misread_new_run_gets_its_number_from_the_next_answer():
    watcher = Watcher(run(3))
    assert watcher.sees(run(10**6, FAILED, identity="run-4", start=run(4).start, end=end_of(4))) == []
    assert watcher.sees(run(4, end=end_of(4) + 60)) == [
        ("misnumbered", "run-4", 10**6, 4),
        ("ended", "run-4", "failed"),
        ("retried", "run-4", "success"),
        ("recovered", 60.0),
    ]
    assert watcher.sees(run(5)) == [("ended", "run-5", "success")]


def test_misread_new_run_gets_its_number_from_the_list():
    watcher = Watcher(run(3), run(10**6, identity="run-4", start=run(4).start, end=end_of(4)))
    watcher.shown = None
    assert watcher.reads(run(4), run(3)) == [
        ("misnumbered", "run-4", 10**6, 4),
        ("ended", "run-4", "success"),
    ]


def test_run_from_before_first_sight_with_a_wild_number_is_not_counted():
    """The list has it with this number, after all newer runs were deleted."""
    watcher = Watcher(run(3), run(10**6, identity="run-2", start=run(2).start))
    watcher.shown = None
    assert watcher.reads(run(2)) == []
    assert watcher.sees(run(2)) == []


def test_leap_that_the_next_answer_repeats_is_believed():
    watcher = Watcher(run(3), run(500, RUNNING))
    assert watcher.sees(run(500)) == [("ended", "run-500", "success")]
    assert (watcher.state.high, watcher.missing_numbers) == (500, list(range(4, 500)))


def test_run_of_a_leap_counts_as_it_first_ended():
    watcher = Watcher(run(3), run(500, FAILED))
    assert watcher.sees(run(500, RUNNING)) == [("ended", "run-500", "failed")]
    assert watcher.sees(run(500, end=end_of(500) + 9))[0] == ("retried", "run-500", "success")


@pytest.mark.parametrize("following", [501, 499])
def test_leap_is_confirmed_by_a_number_near_it(following):
    """Runs may come faster than answers, and the newest may be deleted."""
    watcher = Watcher(run(3), run(500))
    assert watcher.sees(run(following)) == [
        ("ended", "run-500", "success"),
        ("ended", f"run-{following}", "success"),
    ]
    assert watcher.state.high == max(500, following)


def test_leap_that_the_list_repeats_is_believed():
    watcher = Watcher(run(3), run(500))
    assert watcher.reads(run(500), run(499), run(3)) == [
        ("ended", "run-500", "success"),
        ("ended", "run-499", "success"),
    ]
    assert len(watcher.missing_numbers) == 495


def test_list_that_came_with_the_leap_does_not_confirm_it():
    """A provider whose latest run is taken from the list misreports both at once."""
    watcher = Watcher(run(3))
    rows = [run(10**6, identity="1000000", start=run(5).start), run(4)]
    watcher.sees(rows[0])
    outcome = apply_history(watcher.state, rows, Reach.COMPLETE, now=watcher.now, same_answer=True)
    assert watcher.applies(outcome) == [("ended", "run-4", "success")]
    assert watcher.sees(run(5)) == [("misnumbered", "1000000", 10**6, None), ("ended", "run-5", "success")]


def test_leap_of_a_list_row_alone_is_ignored():
    """If the run exists, the next answer has it."""
    watcher = Watcher(run(3), run(5))
    assert watcher.reads(run(10**6, identity="stranger"), run(5), run(4)) == [("ended", "run-4", "success")]
    assert watcher.state.high == 5


def test_two_leaps_that_disagree_are_not_believed():
    watcher = Watcher(run(3))
    assert watcher.sees(run(10**6, identity="a")) == []
    assert watcher.sees(run(2**53 - 1, identity="b")) == []
    assert watcher.sees(run(4))[-1] == ("ended", "run-4", "success")
    assert (watcher.state.high, watcher.missing_numbers) == (4, [])


def test_leap_is_in_doubt_as_long_as_no_run_is_shown():
    watcher = Watcher(run(3), run(500, RUNNING))
    assert watcher.sees(None) == []
    assert watcher.sees(run(500)) == [("ended", "run-500", "success")]


def test_leap_of_a_run_with_and_without_its_id_is_one_run():
    watcher = Watcher(run(3), run(500, identity="#500"))
    assert watcher.sees(run(500)) == [("ended", "run-500", "success")]


def test_two_runs_of_the_same_far_number_are_not_both_counted():
    watcher = Watcher(run(3), run(500, identity="a"))
    assert watcher.sees(run(500, identity="b")) == [
        ("misnumbered", "a", 500, None),
        ("ended", "b", "success"),
    ]


def test_new_numbering_forgets_the_leap():
    watcher = Watcher(run(8), run(9), run(10**6, RUNNING, identity="stranger"))
    fresh = run(1, identity="fresh", start=watcher.now + 5)
    assert watcher.sees(fresh) == []
    assert watcher.sees(fresh) == [("misnumbered", "stranger", 10**6, None), ("ended", "fresh", "success")]


# Searches


def beyond(search: Search, *starts: float) -> Reach | None:
    """Return how far a reading gets with a page of runs that started at these times."""
    return search.reach([run(1, start=start) for start in starts])


def test_reading_ends_when_all_missing_numbers_are_found():
    watcher = Watcher(run(3), run(6))
    sought = search(watcher.state, now=watcher.now)
    assert sought.size == 2
    assert not sought.found([run(6), run(5), run(3)])
    assert sought.found([run(4), run(6), run(5)])


def test_reading_ends_with_a_page_that_started_an_hour_before_the_gap():
    """One row proves nothing, since numbers can be assigned early."""
    watcher = Watcher(run(3), run(6))
    started = NOON + 300
    sought = search(watcher.state, now=watcher.now)
    assert beyond(sought, started - HOUR - 1, started - HOUR - 9) is Reach.COMPLETE
    assert beyond(sought, started - HOUR - 1, started - HOUR + 1) is None
    assert beyond(sought) is None


def test_reading_ends_a_week_back():
    watcher = Watcher(run(3))
    watcher.sees(run(9000), later=2 * WEEK)
    watcher.sees(run(9000))
    sought = search(watcher.state, now=watcher.now)
    assert sought.size == 8996
    assert beyond(sought, watcher.now - WEEK - 1) is Reach.LIMIT
    assert beyond(sought, watcher.now - WEEK + 1, watcher.now - 2 * WEEK) is None


def test_reading_without_known_starts_continues_to_the_end_of_the_list():
    watcher = Watcher(None, run(3))
    sought = search(watcher.state, now=watcher.now)
    assert sought.floor is None
    assert beyond(sought, NOON - DAY) is None


# Absence


def test_numbers_that_two_complete_readings_lack_do_not_exist():
    watcher = Watcher(run(3), run(6))
    assert watcher.reads(run(6), run(5), run(3)) == [("ended", "run-5", "success")]
    assert watcher.missing_numbers == [4]
    assert watcher.reads(run(6), run(5), run(3), later=APART - 1) == []
    assert watcher.missing_numbers == [4]
    assert watcher.reads(run(6), run(5), run(3), later=1) == []
    assert (watcher.missing_numbers, watcher.state.unresolved) == ([], 0)


def test_partial_readings_prove_nothing():
    watcher = Watcher(run(3), run(6))
    for _ in range(3):
        assert watcher.reads(run(6), run(5), reach=Reach.PARTIAL, later=APART) in (
            [("ended", "run-5", "success")],
            [],
        )
    assert watcher.missing_numbers == [4]


def test_numbers_are_missed_after_a_day_of_partial_readings():
    watcher = Watcher(run(3), run(6))
    assert watcher.reads(reach=Reach.PARTIAL, later=DAY - 20) == []
    assert watcher.reads(reach=Reach.PARTIAL, later=20) == [("missed", 2)]


def test_list_without_the_latest_run_proves_nothing():
    """Users without permission to see the runs get an empty list instead of an error."""
    watcher = Watcher(run(3), run(6))
    watcher.shown = None
    for _ in range(3):
        assert watcher.reads(later=APART) == []
        assert watcher.reads(run(3), reach=Reach.LIMIT, later=APART) == []
    assert watcher.missing_numbers == [4, 5]


def test_empty_list_is_proof_if_the_pipeline_has_no_runs():
    watcher = Watcher(run(3), run(6), None)
    assert watcher.reads() == []
    assert watcher.reads(later=APART) == []
    assert watcher.missing_numbers == []


def nonexistent(watcher: Watcher) -> Watcher:
    """Return the watcher after two complete readings lacked its missing numbers."""
    watcher.reads()
    watcher.reads(later=APART)
    assert watcher.missing_numbers == []
    return watcher


@pytest.mark.parametrize("days", [1, 6])
def test_latest_run_with_a_nonexistent_number_counts(days):
    """Its number was assigned before it was queued: the answer is believed, and no numbering starts."""
    watcher = nonexistent(Watcher(run(3), run(5)))
    late = run(4, RUNNING, start=watcher.now + days * DAY)
    assert watcher.sees(late, later=days * DAY) == []
    assert watcher.believed
    assert (watcher.active, watcher.state.high) == ("run-4", 5)
    assert watcher.sees(msgspec.structs.replace(late, status=SUCCESS, end=watcher.now)) == [
        ("ended", "run-4", "success")
    ]
    assert watcher.finished == "run-5"
    assert watcher.sees(run(6)) == [("ended", "run-6", "success")]


def test_listed_run_with_a_nonexistent_number_counts():
    watcher = nonexistent(Watcher(run(3), run(6)))
    watcher.sees(run(8))
    assert watcher.reads(run(8), run(7), run(5)) == [
        ("ended", "run-5", "success"),
        ("ended", "run-7", "success"),
    ]
    assert watcher.reads(run(8), run(7), run(5), run(4)) == [("ended", "run-4", "success")]


def test_nonexistent_number_is_not_claimable_after_a_week():
    """It would be a new numbering, which needs a second answer."""
    watcher = nonexistent(Watcher(run(3), run(5)))
    watcher.sees(run(4, start=watcher.now + WEEK), later=WEEK + 1)
    assert not watcher.believed


# Missed runs


def test_numbers_are_missed_for_good_after_a_day_of_failed_readings():
    watcher = Watcher(run(3), run(6))
    assert watcher.cannot_read(later=DAY - 20) == []
    assert watcher.cannot_read(later=20) == [("missed", 2)]
    assert watcher.cannot_read(later=DAY) == []
    assert watcher.reads(run(6), run(5), run(4)) == []
    assert watcher.sees(run(5)) == []
    assert (watcher.finished, watcher.missing_numbers) == ("run-6", [])


def test_numbers_beyond_the_reading_limit_are_missed():
    watcher = Watcher(run(3), run(7))
    assert watcher.reads(run(7), run(6), reach=Reach.LIMIT) == [
        ("ended", "run-6", "success"),
        ("missed", 2),
    ]


def test_numbers_after_a_recently_seen_latest_run_do_not_exist_and_are_not_missed():
    """A list read back to that moment would have them: the number was misreported, or some were skipped."""
    old = run(3, start=NOON - 2 * WEEK)
    watcher = Watcher(old, run(45))
    assert watcher.reads(old, reach=Reach.LIMIT) == []
    assert watcher.reads(old, reach=Reach.LIMIT, later=APART) == []
    assert watcher.missing_numbers == []
    assert watcher.sees(run(4)) == [("ended", "run-4", "success")]


def test_numbers_that_a_thousand_rows_do_not_reach_are_missed():
    watcher = Watcher(run(3), run(45))
    assert watcher.reads(run(44), reach=Reach.LIMIT) == [("ended", "run-44", "success"), ("missed", 40)]


@pytest.mark.parametrize("answer", [None, run(4000)], ids=["without a run", "leap in doubt"])
def test_numbers_after_an_answer_without_the_latest_run_are_missed_beyond_the_limit(answer):
    old = run(3, start=NOON - 2 * WEEK)
    watcher = Watcher(old, answer, run(45))
    assert watcher.reads(old, reach=Reach.LIMIT) == [("missed", 41)]


def test_run_of_unknown_status_with_the_same_end_for_an_hour_is_missed():
    watcher = Watcher(run(3))
    over = msgspec.structs.replace(run(4, Status.UNKNOWN), end=NOON + 500)
    assert watcher.sees(over) == []
    assert watcher.sees(msgspec.structs.replace(over, end=NOON + 501), later=HOUR) == []
    assert watcher.sees(msgspec.structs.replace(over, end=NOON + 501), later=HOUR - 1) == []
    assert watcher.active == "run-4"
    assert watcher.sees(msgspec.structs.replace(over, end=NOON + 501), later=1) == [("missed", 1)]
    assert watcher.sees(msgspec.structs.replace(over, end=NOON + 501)) == []
    assert watcher.state.open == ()


def test_run_of_unknown_status_without_an_end_is_missed_after_a_day_behind_a_newer_one():
    watcher = Watcher(run(3), run(4, Status.UNKNOWN), run(5))
    assert watcher.looks_up("run-4", run(4, Status.UNKNOWN), later=DAY - 1) == []
    assert watcher.looks_up("run-4", run(4, Status.UNKNOWN), later=1) == [("missed", 1)]


def test_run_in_progress_for_days_stays_open():
    watcher = Watcher(run(3), run(4, Status.PAUSED), run(5))
    assert watcher.looks_up("run-4", run(4, Status.PAUSED), later=30 * DAY) == []
    assert watcher.looks_up("run-4", run(4)) == [("ended", "run-4", "success")]


# Hidden runs


def test_hidden_run_is_looked_up_and_counted():
    watcher = Watcher(run(1), run(2, RUNNING))
    assert watcher.sees(run(3, RUNNING)) == []
    assert watcher.hidden == ["run-2"]
    assert watcher.sees(run(3)) == [("ended", "run-3", "success")]
    assert watcher.looks_up("run-2", run(2, RUNNING)) == []
    assert watcher.looks_up("run-2", run(2, FAILED)) == [("ended", "run-2", "failed")]
    assert watcher.looks_up("run-2", run(2, FAILED)) == []
    assert watcher.hidden == []
    assert watcher.finished == "run-3"
    assert watcher.state.streak.failures == 0


def test_run_in_progress_at_first_sight_can_become_hidden():
    watcher = Watcher(run(1, RUNNING), run(2))
    assert watcher.looks_up("run-1", run(1)) == [("ended", "run-1", "success")]


def test_hidden_run_that_the_provider_no_longer_has_is_missed():
    watcher = Watcher(run(1), run(2, RUNNING), run(3))
    assert watcher.looks_up("run-2", None) == [("missed", 1)]
    assert watcher.looks_up("run-2", run(2)) == []


def test_hidden_run_can_be_the_latest_again():
    """Newer runs were deleted."""
    watcher = Watcher(run(1), run(2, RUNNING), run(3, RUNNING), run(2, RUNNING))
    assert watcher.sees(run(2, RUNNING)) == []
    assert (watcher.active, watcher.hidden) == ("run-2", ["run-3"])
    assert watcher.sees(run(2)) == [("ended", "run-2", "success")]


def test_lookup_that_returns_another_run_changes_nothing():
    watcher = Watcher(run(1), run(2, RUNNING), run(3))
    assert watcher.looks_up("run-2", run(1)) == []
    assert watcher.looks_up("run-2", run(7, FAILED)) == []
    assert watcher.looks_up("run-7", run(7, FAILED)) == []
    assert (watcher.hidden, watcher.finished) == (["run-2"], "run-3")
    assert watcher.looks_up("run-2", run(2)) == [("ended", "run-2", "success")]


def test_hidden_run_keeps_its_number_if_details_lack_it():
    watcher = Watcher(run(1), run(2, RUNNING), run(3, RUNNING))
    assert watcher.looks_up("run-2", run(None, FAILED, identity="run-2", end=NOON + 250)) == [
        ("ended", "run-2", "failed")
    ]
    assert watcher.state.ended[0] == EndedRun("run-2", 2, FAILED, NOON + 250, NOON)
    assert (watcher.active, watcher.state.high) == ("run-3", 3)


def test_hidden_run_is_the_latest_finished_one_until_a_greater_number_ends():
    watcher = Watcher(run(1, RUNNING), run(2, RUNNING))
    assert watcher.state.finished is None
    watcher.looks_up("run-1", run(1))
    assert watcher.finished == "run-1"
    watcher.sees(run(2))
    assert watcher.finished == "run-2"


def test_oldest_open_run_beyond_the_limit_is_missed():
    watcher = Watcher(run(1))
    for number in range(2, OPEN + 3):
        assert watcher.sees(run(number, RUNNING)) == []
    assert watcher.sees(run(OPEN + 3)) == [("ended", f"run-{OPEN + 3}", "success"), ("missed", 1)]
    assert watcher.hidden == [f"run-{number}" for number in range(3, OPEN + 3)]


def test_hidden_run_without_an_id_becomes_a_missing_number():
    """It cannot be looked up, but the list may have its number."""
    watcher = Watcher(run(1), run(2, RUNNING, identity="#2"), run(3))
    assert (watcher.hidden, watcher.missing_numbers) == ([], [2])
    assert watcher.reads(run(2)) == [("ended", "run-2", "success")]


def test_hidden_retry_counts_as_a_retry_and_is_never_missed():
    watcher = Watcher(run(1), run(2, FAILED), run(2, RUNNING))
    assert watcher.sees(run(3)) == [("ended", "run-3", "success"), ("recovered", pytest.approx(100))]
    gone, ended = Watcher(), Watcher()
    gone._state = ended._state = watcher.state
    assert gone.looks_up("run-2", None) == []
    assert ended.looks_up("run-2", run(2, end=NOON + 400)) == [("retried", "run-2", "success")]


def test_hidden_retry_behind_many_runs_is_still_a_retry():
    watcher = Watcher(run(1), run(2), run(2, RUNNING))
    for number in range(3, 4 + KEPT):
        watcher.sees(run(number))
    assert "run-2" not in {ended.id for ended in watcher.state.ended}
    assert watcher.looks_up("run-2", run(2, end=NOON + 9000)) == [("retried", "run-2", "success")]


@pytest.mark.parametrize("status", [SUCCESS, FAILED])
def test_run_found_after_its_neighbours_were_dropped_is_put_in_order_by_the_run_list(status):
    """It counts as a run at once. Its place among older ones is unknown until the list is read."""
    watcher = Watcher(run(1), run(2, RUNNING))
    for number in range(3, 6 + KEPT):
        watcher.sees(run(number, FAILED))
    before = watcher.state
    assert watcher.looks_up("run-2", run(2, status)) == [("ended", "run-2", status.value)]
    assert watcher.state.ended == before.ended
    assert known_streak(watcher.state) is None
    rows = [run(1), run(2, status), *(run(number, FAILED) for number in range(3, 6 + KEPT))]
    assert watcher.reads(*rows) == []
    failures = 3 + KEPT + (status is FAILED)
    first = 2 if status is FAILED else 3
    assert known_streak(watcher.state) == Streak(failures, end_of(first), end_of(first - 1), Extent.WHOLE)
    assert watcher.sees(run(6 + KEPT))[-1] == ("recovered", end_of(6 + KEPT) - end_of(first))


def test_success_found_late_ends_the_streak_before_it():
    watcher = Watcher(run(1), run(2, FAILED), run(3, RUNNING), run(4, FAILED))
    assert watcher.looks_up("run-3", run(3)) == [
        ("ended", "run-3", "success"),
        ("recovered", pytest.approx(100)),
    ]
    assert watcher.state.streak.failures == 1
    watcher = Watcher(run(1), run(2, FAILED), run(3, RUNNING), run(4))
    assert watcher.looks_up("run-3", run(3)) == [("ended", "run-3", "success")]


def test_runs_without_a_number_make_no_gap():
    watcher = Watcher(run(None, identity="a"))
    assert watcher.sees(run(None, identity="a")) == []
    assert watcher.sees(run(None, RUNNING, identity="b")) == []
    assert watcher.sees(run(None, RUNNING, identity="b")) == []
    assert watcher.sees(run(None, identity="b")) == [("ended", "b", "success")]
    assert watcher.sees(run(None, FAILED, identity="c")) == [("ended", "c", "failed")]
    assert watcher.finished == "c"


def test_first_number_of_the_provider_makes_no_gap():
    """Until then the exporter numbers runs by itself."""
    watcher = Watcher(run(None, identity="a"), run(None, RUNNING, identity="b"))
    assert watcher.sees(run(40, identity="b")) == [("ended", "b", "success")]
    assert watcher.sees(run(41, identity="c")) == [("ended", "c", "success")]
    assert watcher.sees(run(43, identity="d")) == [("ended", "d", "success")]
    assert watcher.missing_numbers == [42]


def test_runs_without_numbers_count_after_a_first_sight_without_runs():
    watcher = Watcher(None)
    assert watcher.sees(run(None, identity="a")) == [("ended", "a", "success")]
    assert watcher.sees(run(None, FAILED, identity="b")) == [("ended", "b", "failed")]


def test_run_without_a_number_can_be_retried_and_missed():
    watcher = Watcher(run(None, identity="a"), run(None, FAILED, identity="b"))
    watcher.sees(run(None, RUNNING, identity="b"))
    again = run(None, FAILED, identity="b", end=NOON + 300)
    assert watcher.sees(again) == [("retried", "b", "failed")]
    watcher.sees(run(None, RUNNING, identity="c"))
    assert watcher.sees(run(None, identity="d"))[0] == ("ended", "d", "success")
    assert watcher.looks_up("c", None) == [("missed", 1)]


def test_number_that_one_answer_lacks_makes_no_gap():
    watcher = Watcher(run(4), run(5, RUNNING))
    assert watcher.sees(run(None, RUNNING, identity="run-5", start=run(5).start)) == []
    assert watcher.sees(run(5)) == [("ended", "run-5", "success")]
    assert watcher.sees(run(6)) == [("ended", "run-6", "success")]


def test_known_run_keeps_its_number_if_an_answer_lacks_it():
    watcher = Watcher(run(8), run(9))
    assert watcher.sees(run(None, RUNNING, identity="run-8")) == []
    assert watcher.active is None
    assert watcher.finished == "run-9"


# Identity


@pytest.mark.parametrize("first", ["#2", "run-2"])
def test_run_with_and_without_its_id_is_one_run(first):
    second = {"#2": "run-2", "run-2": "#2"}[first]
    watcher = Watcher(run(1), run(2, RUNNING, identity=first))
    assert watcher.sees(run(2, RUNNING, identity=second)) == []
    assert watcher.sees(run(2, identity=second)) == [("ended", first, "success")]
    assert watcher.sees(run(2, identity=first)) == []
    assert watcher.sees(run(3)) == [("ended", "run-3", "success")]


# Lower numbers


def test_lower_number_is_not_believed_at_once():
    """An answer can be stale."""
    watcher = Watcher(run(8), run(9))
    before = watcher.state
    assert watcher.sees(run(8)) == []
    assert (watcher.finished, watcher.state.high) == ("run-9", before.high)
    assert watcher.sees(run(9)) == []
    assert watcher.sees(run(10)) == [("ended", "run-10", "success")]


def test_stale_answer_leaves_the_run_in_progress_alone():
    watcher = Watcher(run(8), run(9, RUNNING))
    assert watcher.sees(run(8)) == []
    assert watcher.active == "run-9"
    assert watcher.sees(run(9)) == [("ended", "run-9", "success")]


def test_missed_run_that_comes_back_is_not_counted():
    watcher = Watcher(run(8), run(9, RUNNING), run(8), run(8))
    assert watcher.looks_up("run-9", None) == [("missed", 1)]
    assert watcher.sees(run(9, RUNNING)) == []
    assert watcher.sees(run(9)) == []
    assert watcher.finished == "run-9"
    assert watcher.sees(run(10)) == [("ended", "run-10", "success")]


@pytest.mark.parametrize("between", [run(9), None])
def test_stale_answers_that_are_not_successive_are_not_believed(between):
    watcher = Watcher(run(8), run(9))
    for _ in range(3):
        assert watcher.sees(run(4, identity="stranger")) == []
        assert watcher.sees(between) == []
    assert watcher.finished == "run-9"


def test_two_stale_answers_that_disagree_are_not_believed():
    watcher = Watcher(run(8), run(9))
    assert watcher.sees(run(4, identity="stranger")) == []
    assert watcher.sees(run(3, identity="another")) == []
    assert watcher.finished == "run-9"


def test_known_lower_run_seen_twice_means_that_newer_runs_were_deleted():
    """Counts stay, and numbering continues from the greatest number ever seen."""
    watcher = Watcher(run(8), run(9))
    assert watcher.sees(run(8)) == []
    assert watcher.sees(run(8)) == []
    assert watcher.state.high == 9
    assert watcher.sees(run(10)) == [("ended", "run-10", "success")]


def test_deleted_run_in_progress_is_looked_up():
    watcher = Watcher(run(8), run(9, RUNNING), run(8))
    assert watcher.sees(run(8)) == []
    assert (watcher.active, watcher.hidden) == (None, ["run-9"])


def test_confirmed_lower_run_counts_at_once():
    """An end or a retry must not wait for another confirmation."""
    watcher = Watcher(run(8, FAILED), run(9), run(8, FAILED), run(8, FAILED))
    assert watcher.sees(run(8, RUNNING)) == []
    assert watcher.active == "run-8"
    assert watcher.sees(run(8, FAILED, end=NOON + 4000)) == [("retried", "run-8", "failed")]
    assert watcher.sees(run(8, FAILED, end=NOON + 5000)) == [("retried", "run-8", "failed")]
    assert watcher.finished == "run-9", "latest finished is the greatest number, not the latest end"


def test_unknown_lower_run_seen_twice_that_started_after_the_last_answer_counts():
    """Numbering started again, and so did this run."""
    watcher = Watcher(run(8), run(9))
    fresh = run(1, identity="fresh", start=watcher.now + 5)
    assert watcher.sees(fresh) == []
    assert watcher.sees(fresh) == [("ended", "fresh", "success")]
    assert watcher.sees(run(2, identity="next")) == [("ended", "next", "success")]
    assert watcher.state.high == 2


def test_run_from_before_the_numbering_fills_no_gap():
    """The run has the missing number, but in the old numbering."""
    watcher = Watcher(run(8), run(9))
    fresh = run(2, identity="fresh", start=watcher.now + 5)
    watcher.sees(fresh)
    watcher.sees(fresh)
    watcher.sees(run(5, identity="five", start=watcher.now + 1))
    assert watcher.missing_numbers == [3, 4]
    elders = [run(4, start=NOON - 100), run(3, start=NOON - 200)]
    sought = search(watcher.state, now=watcher.now)
    assert not sought.found(elders)
    assert sought.reach(elders) is Reach.COMPLETE
    assert watcher.reads(*elders) == []
    assert watcher.reads(*elders, later=APART) == []
    assert watcher.missing_numbers == []


def test_epoch_starts_at_the_last_believed_answer():
    watcher = Watcher(run(8), run(9))
    good = watcher.now
    watcher.sees(run(1, RUNNING, identity="fresh", start=good + 5))
    watcher.sees(run(1, RUNNING, identity="fresh", start=good + 5))
    assert watcher.active == "fresh"
    assert watcher.sees(run(1, identity="fresh", start=good + 5)) == [("ended", "fresh", "success")]


@pytest.mark.parametrize("start_after", [-5.0, 0.0])
def test_unknown_lower_run_that_started_before_the_last_answer_is_not_counted(start_after):
    """The pipeline is treated as if it were seen for the first time."""
    watcher = Watcher(run(8), run(9))
    unconfirmed_id = run(3, identity="strange", start=watcher.now + start_after)
    assert watcher.sees(unconfirmed_id) == []
    assert watcher.sees(unconfirmed_id) == []
    assert watcher.finished == "strange"
    assert watcher.sees(run(4, identity="next")) == [("ended", "next", "success")]


def test_unknown_lower_run_without_a_start_is_not_counted():
    watcher = Watcher(run(8), run(9))
    unconfirmed_id = Run(id="strange", number=3, status=SUCCESS)
    assert watcher.sees(unconfirmed_id) == []
    assert watcher.sees(unconfirmed_id) == []


def test_new_numbering_misses_the_run_in_progress():
    watcher = Watcher(run(8), run(9, RUNNING))
    fresh = run(1, identity="fresh", start=watcher.now + 5)
    watcher.sees(fresh)
    assert watcher.sees(fresh) == [("missed", 1), ("ended", "fresh", "success")]


def test_new_numbering_misses_hidden_runs_but_not_retries():
    watcher = Watcher(run(6, FAILED), run(6, RUNNING), run(7, RUNNING), run(8, RUNNING), run(9))
    assert watcher.hidden == ["run-6", "run-7", "run-8"]
    fresh = run(1, RUNNING, identity="fresh", start=watcher.now + 5)
    watcher.sees(fresh)
    assert watcher.hidden == ["run-6", "run-7", "run-8"]
    assert watcher.sees(fresh) == [("missed", 1), ("missed", 1)]
    assert (watcher.hidden, watcher.active) == ([], "fresh")


def test_new_numbering_has_no_finished_run_until_one_ends():
    """The streak of the old numbering stays."""
    watcher = Watcher(run(8), run(9, FAILED))
    fresh = run(1, RUNNING, identity="fresh", start=watcher.now + 5)
    watcher.sees(fresh)
    assert watcher.finished == "run-9"
    watcher.sees(fresh)
    assert watcher.state.finished is None
    assert watcher.state.streak.failures == 1
    watcher.sees(msgspec.structs.replace(fresh, status=SUCCESS, end=watcher.now))
    assert watcher.finished == "fresh"


def test_streak_continues_in_a_new_numbering():
    watcher = Watcher(run(8, FAILED))
    fresh = run(1, FAILED, identity="fresh", start=watcher.now + 5)
    watcher.sees(fresh)
    watcher.sees(fresh)
    assert watcher.state.streak.failures == 2
    assert watcher.state.streak.broken_since == run(8).end


@pytest.mark.parametrize("number", [8, 9])
def test_number_of_an_ended_run_with_another_id_is_believed_at_once(number):
    """A stale answer does not give an old number a new id."""
    watcher = Watcher(run(8), run(9))
    reused = run(number, identity="reused", start=watcher.now + 5)
    assert watcher.sees(reused) == [("ended", "reused", "success")]
    assert watcher.state.high == number


def test_number_of_the_run_in_progress_with_another_id_is_believed_at_once():
    watcher = Watcher(run(8), run(9, RUNNING))
    reused = run(9, identity="reused", start=watcher.now + 5)
    assert watcher.sees(reused) == [("missed", 1), ("ended", "reused", "success")]


def test_number_of_a_hidden_run_with_another_id_is_believed_at_once():
    watcher = Watcher(run(7), run(8, RUNNING), run(9))
    reused = run(8, identity="reused", start=watcher.now + 5)
    assert watcher.sees(reused) == [("missed", 1), ("ended", "reused", "success")]


# Recoveries over gaps


def test_recovery_waits_for_gaps_before_it():
    """A missing run may be the success that ended the streak."""
    watcher = Watcher(run(1), run(2, FAILED))
    assert watcher.sees(run(5)) == [("ended", "run-5", "success")]
    assert watcher.state.streak.failures == 0
    assert watcher.reads(run(5), run(4), run(3, FAILED)) == [
        ("ended", "run-3", "failed"),
        ("ended", "run-4", "success"),
        ("recovered", end_of(4) - end_of(2)),
    ]
    assert watcher.sees(run(6)) == [("ended", "run-6", "success")]


def test_recovery_counts_when_the_gap_does_not_exist():
    watcher = Watcher(run(1), run(2, FAILED), run(4))
    assert watcher.reads() == []
    assert watcher.reads(later=APART) == [("recovered", end_of(4) - end_of(2))]


def test_recovery_counts_when_the_gap_is_given_up():
    watcher = Watcher(run(1), run(2, FAILED), run(4))
    assert watcher.cannot_read(later=DAY) == [("missed", 1), ("recovered", end_of(4) - end_of(2))]


def test_many_runs_found_at_once_are_accounted_in_order_of_number():
    watcher = Watcher(run(1), run(2, FAILED))
    last = 5 * KEPT
    watcher.sees(run(last, FAILED))
    assert watcher.state.streak.failures == 2
    watcher.reads(*(run(number, FAILED) for number in range(last, 1, -1)))
    assert watcher.state.streak.failures == last - 1
    assert watcher.state.streak.broken_since == end_of(2)
    assert len(watcher.state.ended) == KEPT


def test_ended_runs_are_kept_while_a_lower_number_is_missing():
    watcher = Watcher(run(1), run(2, FAILED))
    last = 3 * KEPT
    for number in range(4, last):
        watcher.sees(run(number, FAILED))
    assert watcher.reads(run(3)) == [("ended", "run-3", "success"), ("recovered", 100.0)]
    assert watcher.state.streak.failures == last - 4
    assert watcher.state.streak.broken_since == end_of(4)


# Streaks


def test_streak_counts_failures_since_the_last_success():
    watcher = Watcher(run(1), run(2, FAILED), run(3, FAILED), run(4, FAILED))
    assert watcher.state.streak.failures == 3
    assert watcher.state.streak.broken_since == run(2).end
    assert watcher.state.streak.last_success == run(1).end


@pytest.mark.parametrize("status", [Status.CANCELED, Status.IGNORED])
def test_canceled_and_ignored_runs_neither_extend_nor_end_a_streak(status):
    watcher = Watcher(None, run(1, FAILED), run(2, status), run(3, FAILED), run(4, status))
    assert watcher.state.streak.failures == 2
    assert watcher.state.streak.broken_since == run(1).end
    assert watcher.sees(run(5)) == [
        ("ended", "run-5", "success"),
        ("recovered", end_of(5) - end_of(1)),
    ]


def test_success_that_ends_a_streak_is_a_recovery():
    watcher = Watcher(None, run(1, FAILED), run(2, FAILED))
    assert watcher.sees(run(3)) == [("ended", "run-3", "success"), ("recovered", 200.0)]
    assert watcher.state.streak.failures == 0
    assert watcher.state.streak.broken_since is None
    assert watcher.sees(run(4)) == [("ended", "run-4", "success")]


@pytest.mark.parametrize(
    "success", [endless(run(2)), run(2, end=NOON)], ids=["without an end", "before the failure"]
)
def test_recovery_of_unknown_length_adds_no_time(success):
    watcher = Watcher(None, run(1, FAILED))
    assert watcher.sees(success) == [("ended", "run-2", "success"), ("recovered", 0.0)]


def test_time_of_a_success_without_an_end_is_unknown():
    watcher = Watcher(run(1), endless(run(2)))
    assert known_streak(watcher.state) == Streak(0, None, None, Extent.WHOLE)


def test_failure_retried_to_success_recovers():
    watcher = Watcher(run(1), run(2, FAILED), run(2, RUNNING))
    again = run(2, end=end_of(2) + 70)
    assert watcher.sees(again) == [("retried", "run-2", "success"), ("recovered", 70.0)]
    assert watcher.state.streak.failures == 0
    assert watcher.state.streak.last_success == again.end


def test_success_retried_to_failure_starts_a_streak():
    watcher = Watcher(run(1), run(2), run(2, RUNNING))
    assert watcher.sees(run(2, FAILED, end=NOON + 900)) == [("retried", "run-2", "failed")]
    assert watcher.state.streak.failures == 1
    assert watcher.state.streak.last_success == run(1).end


def test_streak_longer_than_the_kept_runs_is_counted_whole():
    watcher = Watcher(run(1))
    runs = 3 * KEPT
    for number in range(2, 2 + runs):
        watcher.sees(run(number, FAILED))
    assert len(watcher.state.ended) == KEPT
    assert watcher.state.streak.failures == runs
    assert watcher.state.streak.broken_since == run(2).end
    assert watcher.state.streak.last_success == run(1).end
    last = run(2 + runs)
    assert watcher.sees(last)[-1] == ("recovered", end_of(2 + runs) - end_of(2))


def test_newest_ended_runs_are_kept_by_falling_number():
    watcher = Watcher(run(1), run(2, FAILED), run(3), run(3, FAILED, end=NOON + 999))
    assert watcher.state.ended == (
        EndedRun("run-3", 3, FAILED, NOON + 999, run(3).start),
        EndedRun("run-2", 2, FAILED, run(2).end, run(2).start),
        EndedRun("run-1", 1, SUCCESS, run(1).end, run(1).start, counted=False),
    )


# Invariants


class Polled(RuleBasedStateMachine):
    """A pipeline with random runs, and an exporter that polls its latest run and reads the run list."""

    numbered = True

    def __init__(self) -> None:
        super().__init__()
        self.clock = NOON
        self.born = 0
        self.runs: dict[int, Run] = {}
        """Runs that the provider has, by position."""
        self.retries = 0
        self.state: LedgerState | None = None
        self.answered = NOON
        self.first_number = 0
        """Greatest number at first sight."""
        self.open_at_first: set[int] = set()
        """Runs from before first sight that were seen in progress."""
        self.nonexistent = 0
        """Count of numbers that were found nonexistent, minus those whose run appeared later."""
        self.counted: list[Event] = []
        self.shown: dict[int, Run] = {}
        """Finished runs by position, as in the last response that reported them as finished."""
        self.places: list[int] = []
        """Positions of the runs that were the latest, in that order."""
        self.wild = count(10**6, 10**6)
        """Wrong numbers to report, each once."""

    def change(self, place: int, **changes: Any) -> None:
        """Change a run."""
        self.clock += 10
        self.runs[place] = msgspec.structs.replace(self.runs[place], **changes)

    def begin(self, status: Status) -> int:
        """Start a run; return its position."""
        self.clock += 10
        self.born += 1
        number = self.born if self.numbered else None
        self.runs[self.born] = Run(id=f"run-{self.born}", number=number, status=status, start=self.clock)
        return self.born

    def number(self, place: int) -> int:
        """Return the number of a run; a provider without numbers implies the order of appearance."""
        return place if self.numbered else self.places.index(place)

    @property
    def known(self) -> int:
        """Number of runs that are known to have existed since first sight."""
        assert self.state is not None
        return self.state.high - self.first_number if self.numbered else len(self.places) - 1

    def applies(self, outcome: LedgerUpdate, *showing: Run) -> None:
        """Store the result of a response that showed these runs."""
        before, self.state = self.state, outcome.state
        self.counted += outcome.events
        if not outcome.believed:
            return
        leap = before.leap if before is not None and outcome.state.leap is None else None
        for run in showing:
            if leap is not None and leap.id == run.id:
                self.shows(before, msgspec.structs.replace(leap, number=run.number))
            self.shows(before, run)
        if before is not None:
            self.nonexistent += nonexistent_numbers(self.state) - nonexistent_numbers(before)

    def reads(self, reported: Sequence[Run], showing: Sequence[Run], reach: Reach = Reach.COMPLETE) -> None:
        """Apply a reading of the run list that reports these rows, which show these runs."""
        before, proven = self.state, False
        assert before is not None

        def recorded(*arguments: Any) -> LedgerState | None:
            nonlocal proven
            found = read_back(*arguments)
            proven = found is not None
            return found

        with mock.patch.object(rules, "read_back", recorded):
            outcome = apply_history(before, reported, reach, now=self.clock)
        self.applies(outcome, *showing)
        if not proven:
            return
        # The reading shows the streak, so it has all runs that belong to it as they are now.
        for run in showing:
            place = int(run.id.removeprefix("run-"))
            if run.status.final:
                self.shown[place] = run
            elif self.number(place) <= before.carried_to:
                self.shown.pop(place, None)

    def shows(self, before: LedgerState | None, run: Run) -> None:
        """Record how a response showed a run, if the run must be accounted."""
        assert self.state is not None
        if self.state.leap is not None and self.state.leap.id == run.id:
            return
        place = int(run.id.removeprefix("run-"))
        if not self.numbered and place not in self.places:
            return
        if place <= self.first_number and any(
            one.id == run.id and not one.reopened for one in self.state.open
        ):
            self.open_at_first.add(place)
        inside = place > self.first_number or place in self.open_at_first
        lost = before is not None and self.number(place) <= before.carried_to
        scanning = before is None or before.initial_scan
        # This reading of the list has shown the streak, so it has all runs that belong to it.
        read_back = before is not None and not before.streak.known and self.state.streak.known
        if run.status.final and (read_back or (not lost and (inside or scanning or place in self.shown))):
            self.shown[place] = run

    @rule(status=st.sampled_from([Status.PENDING, RUNNING]))
    def starts(self, status):
        self.begin(status)

    @precondition(lambda self: self.runs and self.numbered)
    @rule()
    def a_number_is_skipped(self):
        self.born += 1

    @precondition(lambda self: self.runs)
    @rule(data=st.data(), status=st.sampled_from([status for status in Status if not status.final]))
    def continues(self, data, status):
        place = data.draw(st.sampled_from(sorted(self.runs)))
        if not self.runs[place].status.final and status is not Status.UNKNOWN:
            self.change(place, status=status)

    @precondition(lambda self: self.runs)
    @rule(data=st.data(), status=st.sampled_from(ENDS), reported=st.sampled_from([True, True, True, False]))
    def ends(self, data, status, reported):
        """A run ends. Its end may be reported later."""
        place = data.draw(st.sampled_from(sorted(self.runs)))
        if not self.runs[place].status.final:
            self.change(place, status=status, end=self.clock + 10 if reported else None)

    @precondition(lambda self: self.runs and self.runs[max(self.runs)].status.final)
    @rule()
    def is_retried(self):
        self.retries += 1
        self.change(max(self.runs), status=RUNNING, end=None)

    @precondition(lambda self: self.runs and self.runs[max(self.runs)].status is FAILED)
    @rule()
    def is_ignored(self):
        self.change(max(self.runs), status=Status.IGNORED)

    @precondition(lambda self: self.runs and self.runs[max(self.runs)].status.final)
    @rule()
    def end_is_reported_late(self):
        if self.runs[max(self.runs)].end is None:
            self.change(max(self.runs), end=self.clock)

    @precondition(lambda self: len(self.runs) > 1)
    @rule(data=st.data())
    def is_deleted(self, data):
        del self.runs[data.draw(st.sampled_from(sorted(self.runs)[:-1]))]

    @rule()
    def is_polled(self):
        self.clock += 1
        run = self.runs[max(self.runs)] if self.runs else None
        first = self.state is None
        if first:
            self.first_number = max(self.runs, default=0)
        outcome = apply_latest(self.state, run, now=self.clock, answered=self.answered)
        assert not (first and outcome.events), "a first sight counts nothing"
        self.answered = self.clock
        place = max(self.runs, default=0)
        if place not in self.places and (place or first):
            self.places.append(place)
        self.applies(outcome, *([run] if run else []))

    @precondition(lambda self: self.numbered and self.state is not None and self.runs)
    @rule()
    def is_misread(self):
        """An answer has the latest run with a wrong number."""
        self.clock += 1
        run = self.runs[max(self.runs)]
        misread = msgspec.structs.replace(run, number=next(self.wild))
        outcome = apply_latest(self.state, misread, now=self.clock, answered=self.answered)
        self.answered = self.clock
        self.applies(outcome, run)

    @rule(statuses=st.lists(st.sampled_from(ENDS), min_size=1, max_size=4))
    def some_runs_pass(self, statuses):
        """Runs start and end, and polls see each of them."""
        for status in statuses:
            self.change(self.begin(RUNNING), status=status, end=self.clock + 10)
            self.is_polled()

    @precondition(lambda self: self.state is not None)
    @rule(
        reach=st.sampled_from([Reach.COMPLETE, Reach.COMPLETE, Reach.PARTIAL, Reach.LIMIT]),
        order=st.randoms(),
        later=st.sampled_from([1, 300, APART]),
        misread=st.sampled_from([False, False, True]),
    )
    def the_list_is_read(self, reach, order, later, misread):
        """The list is read completely or in part, and a row may have a wrong number."""
        assert self.state is not None
        if not (self.state.missing_numbers or self.state.initial_scan or self.state.leap):
            return
        self.clock += later
        rows = [run for _, run in sorted(self.runs.items(), reverse=True)]
        if reach is not Reach.COMPLETE:
            rows = rows[: len(rows) // 2]
        order.shuffle(rows)
        reported, showing = rows, rows
        if misread and self.numbered and rows:
            reported = [msgspec.structs.replace(rows[0], number=next(self.wild)), *rows[1:]]
            seen: tuple[OpenRun | EndedRun, ...] = (*self.state.open, *self.state.ended)
            showing = rows if rows[0].id in {one.id for one in seen} else rows[1:]
        self.reads(reported, showing, reach)

    @precondition(lambda self: self.state is not None)
    @rule(later=st.sampled_from([1, DAY / 2, DAY]))
    def the_list_cannot_be_read(self, later):
        assert self.state is not None
        self.clock += later
        self.applies(history_unavailable(self.state, now=self.clock))

    @precondition(lambda self: self.state is not None and self.state.hidden)
    @rule(data=st.data())
    def is_looked_up(self, data):
        """A hidden run may have ended, be in progress, or be deleted."""
        assert self.state is not None
        self.clock += 1
        one = data.draw(st.sampled_from(self.state.hidden))
        found = self.runs.get(int(one.id.removeprefix("run-")))
        self.applies(apply_lookup(self.state, one.id, found, now=self.clock), *([found] if found else []))

    @invariant()
    def no_run_is_lost_or_counted_twice(self):
        """Ended, missed, nonexistent, missing and open runs add up to all numbers since first sight."""
        if self.state is None:
            return
        ended = Counter(event.run.id for event in self.counted if event.kind is EventKind.ENDED and event.run)
        missed = sum(event.runs for event in self.counted if event.kind is EventKind.MISSED)
        still = sum(not one.reopened for one in self.state.open)
        missing_numbers = sum(gap.size for gap in self.state.missing_numbers)
        assert set(ended.values()) <= {1}
        of_first = sum(place <= self.first_number for place in self.open_at_first)
        assert ended.total() + missed + self.nonexistent + missing_numbers + still == self.known + of_first

    @invariant()
    def no_run_that_ended_before_first_sight_is_counted(self):
        for event in self.counted:
            if event.kind is EventKind.ENDED and event.run is not None:
                place = int(event.run.id.removeprefix("run-"))
                assert place > self.first_number or place in self.open_at_first

    @invariant()
    def no_retry_is_invented(self):
        """Some retries happen between two polls."""
        retried = [event for event in self.counted if event.kind is EventKind.RETRIED]
        assert len(retried) <= self.retries

    @invariant()
    def stored_runs_are_limited(self):
        """No run is stored twice as ended or open."""
        if self.state is None:
            return
        assert len(self.state.hidden) <= rules.OPEN
        assert len(self.state.ended) <= streak.KEPT or self.state.missing_numbers or self.state.recoveries
        still = [one.id for one in self.state.open]
        assert len(set(still)) == len(still)
        ended = {one.id for one in self.state.ended}
        assert not {one.id for one in self.state.open if not one.reopened} & ended
        for gap, following in pairwise(self.state.missing_numbers):
            assert gap.first <= gap.last < following.first

    @invariant()
    def the_streak_is_that_of_the_answers(self):
        """The streak is the one of all ends that answers showed, if it is known."""
        if self.state is None or not self.state.streak.known:
            return
        failures, broken_since, last_success = 0, None, None
        for _, run in sorted(self.shown.items()):
            if run.status is SUCCESS:
                failures, broken_since = 0, None
                last_success = run.end
            elif run.status is FAILED:
                broken_since = broken_since if failures else run.end
                failures += 1
        streak_found = self.state.streak
        assert (streak_found.failures, streak_found.broken_since, streak_found.last_success) == (
            failures,
            broken_since,
            last_success,
        )
        assert self.state.finished == (self.shown[max(self.shown)] if self.shown else None)

    def teardown(self):
        """Finally all runs that still exist are counted, and nothing is open or missing."""
        if self.state is None:
            return
        for place, run in self.runs.items():
            if not run.status.final:
                self.change(place, status=SUCCESS, end=self.clock)
        self.is_polled()
        for _ in range(2):
            self.clock += APART
            rows = list(self.runs.values())
            self.reads(rows, rows)
        for one in self.state.hidden:
            found = self.runs.get(int(one.id.removeprefix("run-")))
            self.applies(apply_lookup(self.state, one.id, found, now=self.clock), *([found] if found else []))
        assert not self.state.open
        assert not self.state.missing_numbers
        if self.numbered and not any(event.kind is EventKind.MISSED for event in self.counted):
            counted = {event.run.id for event in self.counted if event.kind is EventKind.ENDED and event.run}
            inside = {run.id for place, run in self.runs.items() if place > self.first_number}
            assert inside <= counted
        self.no_run_is_lost_or_counted_twice()
        self.the_streak_is_that_of_the_answers()


class PolledWithoutNumbers(Polled):
    """The same machine with a provider that does not number runs."""

    numbered = False


def nonexistent_numbers(state: LedgerState) -> int:
    """Return how many numbers were found nonexistent without counting as missed."""
    return sum(gap.size for gap in state.nonexistent if not gap.missed)


def check_invariants(machine: type[Polled], steps: int) -> None:
    """Run many random examples of the state machine, with `steps` steps each."""
    run_state_machine_as_test(
        machine,
        settings=settings(examples(6000 // steps), stateful_step_count=steps),
    )


@pytest.mark.parametrize("machine", [Polled, PolledWithoutNumbers])
@pytest.mark.parametrize("steps", [30, 150])
def test_accounting_invariants_hold(steps, machine):
    """No run is lost or counted twice, and the streak is that of all ends shown."""
    check_invariants(machine, steps)


def test_accounting_invariants_hold_with_small_limits(monkeypatch):
    """The limits are so small that the examples reach them often."""
    monkeypatch.setattr(rules, "KEPT", 3)
    monkeypatch.setattr(streak, "KEPT", 3)
    monkeypatch.setattr(rules, "OPEN", 2)
    check_invariants(Polled, 50)
