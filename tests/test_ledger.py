"""The ledger's rules, one test each, to be read as their specification; then the law that they keep together."""

from collections import Counter
from itertools import count, pairwise
from typing import Any

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

from exporter.ledger import (
    Count,
    Ended,
    Event,
    Open,
    Outcome,
    Reach,
    Search,
    State,
    account,
    fill,
    learn,
    rules,
    search,
    unread,
)
from exporter.ledger.rules import APART, DAY, HOUR, KEPT, LEAP, OPEN, WEEK
from exporter.model import ENDS, Run, Stage, Status

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
    """A run that started a hundred seconds after the one before it, and took fifty if it has ended."""
    start = NOON + 100.0 * (number or 0) if start is None else start
    if status.final and end is None:
        end = start + 50
    return Run(id=identity or f"run-{number}", number=number, status=status, start=start, end=end)


def end_of(number: int) -> float:
    """When such a run ends."""
    return NOON + 100.0 * number + 50


def endless(run: Run) -> Run:
    """The same, final without an end."""
    return msgspec.structs.replace(run, end=None)


def words(event: Event) -> tuple[Any, ...]:
    """An event in a form that is easily compared."""
    match event.count:
        case Count.MISSED:
            return ("missed", event.runs)
        case Count.RECOVERED:
            return ("recovered", event.seconds)
        case Count.MISNUMBERED:
            assert event.run is not None
            return ("misnumbered", event.run.id, event.run.number, event.number)
    assert event.run is not None
    return (event.count.value, event.run.id, event.run.status.value)


class Watcher:
    """Gets one answer after the other about a pipeline."""

    def __init__(self, *answers: Run | None) -> None:
        self.kept: State | None = None
        self.now = NOON
        self.answered = NOON
        self.believed = True
        self.shown: Run | None = None
        for answer in answers:
            self.sees(answer)

    def sees(self, answer: Run | None, *, later: float = 15.0) -> list[tuple[Any, ...]]:
        """Apply an answer; returns what it counts."""
        self.now += later
        self.shown = answer
        outcome = account(self.kept, answer, now=self.now, answered=self.answered)
        self.believed = outcome.believed
        if outcome.believed:
            self.answered = self.now
        return self.takes(outcome)

    def learns(self, identity: str, answer: Run | None, *, later: float = 0.0) -> list[tuple[Any, ...]]:
        """Apply what was looked up of a hidden run; returns what it counts."""
        self.now += later
        return self.takes(learn(self.state, identity, answer, now=self.now))

    def reads(self, *rows: Run, reach: Reach = Reach.COMPLETE, later: float = 0.0) -> list[tuple[Any, ...]]:
        """Apply what the run list told, the latest run in any case; returns what it counts."""
        self.now += later
        if self.shown is not None and self.shown.id not in {row.id for row in rows}:
            rows = (self.shown, *rows)
        return self.takes(fill(self.state, rows, reach, now=self.now))

    def cannot_read(self, *, later: float) -> list[tuple[Any, ...]]:
        """The run list fails; returns what is counted."""
        self.now += later
        return self.takes(unread(self.state, now=self.now))

    def takes(self, outcome: Outcome) -> list[tuple[Any, ...]]:
        """Keep what is known now."""
        self.kept = outcome.state
        return [words(event) for event in outcome.events]

    @property
    def state(self) -> State:
        """What is known now."""
        assert self.kept is not None
        return self.kept

    @property
    def hidden(self) -> list[str]:
        """The ids of the runs to be looked up."""
        return [one.id for one in self.state.hidden]

    @property
    def wanted(self) -> list[int]:
        """The numbers still to be learnt."""
        return [number for gap in self.state.wanted for number in range(gap.first, gap.last + 1)]

    @property
    def active(self) -> str | None:
        """The id of the run under way."""
        return next((one.id for one in self.state.open if one.hidden is None), None)

    @property
    def finished(self) -> str | None:
        """The id of the latest finished run."""
        return self.state.finished.id if self.state.finished else None


# First sight


def test_a_run_that_is_final_at_first_sight_lies_outside():
    """It ended before anybody looked: the gauges show it, nothing counts it, however often it is seen."""
    watcher = Watcher()
    assert watcher.sees(run(7, FAILED)) == []
    assert watcher.sees(run(7, FAILED)) == []
    assert watcher.finished == "run-7"
    assert watcher.state.series.failures == 1


def test_a_run_that_is_under_way_at_first_sight_is_counted_when_it_ends():
    """Its end is seen, so it is inside."""
    watcher = Watcher(run(7, RUNNING))
    assert watcher.active == "run-7"
    assert watcher.sees(run(7)) == [("ended", "run-7", "success")]
    assert watcher.active is None


def test_numbers_before_first_sight_are_no_gap():
    """What happened before anybody looked is not missed."""
    assert Watcher(run(412)).sees(run(413)) == [("ended", "run-413", "success")]


def test_the_first_run_after_a_first_sight_without_one_is_counted():
    """It began while somebody looked."""
    watcher = Watcher(None)
    assert watcher.sees(run(1)) == [("ended", "run-1", "success")]


def test_runs_before_the_first_that_is_shown_after_a_first_sight_without_one_are_wanted():
    """There was none, so numbering began at 1 while somebody looked."""
    watcher = Watcher(None, None)
    assert watcher.sees(run(3, RUNNING)) == []
    assert watcher.wanted == [1, 2]
    assert watcher.sees(run(3)) == [("ended", "run-3", "success")]
    assert watcher.sees(run(5)) == [("ended", "run-5", "success")]
    assert watcher.wanted == [1, 2, 4]


def test_the_run_list_tells_what_else_was_open_at_first_sight():
    """Under way, so inside; what had ended lies outside, but the latest of it is shown."""
    watcher = Watcher(run(9, RUNNING))
    assert watcher.state.survey
    rows = [run(9, RUNNING), run(8, FAILED), run(7, Status.PAUSED), run(6)]
    assert watcher.reads(*rows) == []
    assert not watcher.state.survey
    assert (watcher.finished, watcher.state.series.failures) == ("run-8", 1)
    assert watcher.hidden == ["run-7"]
    assert watcher.learns("run-7", run(7)) == [("ended", "run-7", "success")]
    assert watcher.sees(run(9)) == [("ended", "run-9", "success"), ("recovered", end_of(9) - end_of(8))]


def test_what_was_open_at_first_sight_and_ended_before_the_list_was_read_lies_outside():
    """It was never seen under way."""
    watcher = Watcher(run(9, RUNNING))
    assert watcher.reads(run(9, RUNNING), run(8)) == []


def test_a_list_that_cannot_be_read_for_a_day_is_not_asked_for_what_was_open_at_first_sight():
    """It lies outside then."""
    watcher = Watcher(run(9, RUNNING))
    assert watcher.cannot_read(later=DAY - 1) == []
    assert watcher.state.survey
    assert watcher.cannot_read(later=1) == []
    assert not watcher.state.survey


def test_after_a_first_sight_of_a_final_run_the_list_is_not_asked():
    """Nothing that is to be counted could be missing."""
    assert not Watcher(run(9)).state.survey


def test_later_the_list_takes_in_no_run_from_before_first_sight():
    """One that is retried long after it ended is no run of ours."""
    watcher = Watcher(run(9), run(11))
    assert watcher.reads(run(11), run(10), run(3, RUNNING)) == [("ended", "run-10", "success")]
    assert watcher.state.open == ()


def test_an_answer_without_a_run_later_on_changes_nothing():
    """A pipeline that is not in the answer may be back in the next."""
    watcher = Watcher(run(1), run(2, RUNNING))
    before = watcher.state
    assert watcher.sees(None) == []
    assert ([one.id for one in watcher.state.open], watcher.state.finished) == (["run-2"], before.finished)
    assert watcher.sees(run(2)) == [("ended", "run-2", "success")]


# Once


@pytest.mark.parametrize("status", ENDS)
def test_every_end_counts_once(status):
    """The same final run in a hundred answers is one run, whatever it ended as."""
    watcher = Watcher(run(1))
    seen = [event for _ in range(100) for event in watcher.sees(run(2, status))]
    assert [event for event in seen if event[0] == "ended"] == [("ended", "run-2", status.value)]


def test_a_run_goes_through_all_states_and_counts_at_its_end():
    """Nothing but a final state counts, an unknown one least of all."""
    watcher = Watcher(run(1))
    for status in Status:
        if not status.final:
            assert watcher.sees(run(2, status)) == []
            assert watcher.active == "run-2"
    assert watcher.sees(run(2)) == [("ended", "run-2", "success")]


def test_a_run_that_began_and_ended_between_two_answers_counts():
    """A greater number that is final at once is a new run like any other."""
    assert Watcher(run(1)).sees(run(2, Status.CANCELED)) == [("ended", "run-2", "canceled")]


def test_a_run_without_an_end_counts():
    """How long it took is not known; that it ended is."""
    assert Watcher(run(1)).sees(endless(run(2))) == [("ended", "run-2", "success")]


def test_the_run_that_ended_bears_its_stages_and_what_is_kept_of_it_does_not():
    """Histograms need stages once; keeping them would cost memory for nothing."""
    staged = msgspec.structs.replace(run(2), stages=(Stage("build", 0, SUCCESS, NOON, 5.0),))
    watcher = Watcher(run(1))
    outcome = account(watcher.state, staged, now=NOON, answered=NOON)
    assert [event.run for event in outcome.events] == [staged]
    assert outcome.state.finished == run(2)


# Retry


def test_a_run_that_goes_on_and_ends_again_is_a_retry():
    """It has been counted as a run; its next end counts as a retry, under its new status."""
    watcher = Watcher(run(1), run(2, FAILED))
    assert watcher.sees(run(2, RUNNING)) == []
    assert watcher.state.open == (Open("run-2", 2, run(2).start, reopened=True),)
    assert watcher.sees(run(2, FAILED, end=NOON + 900)) == [("retried", "run-2", "failed")]


def test_a_run_may_be_retried_again_and_again():
    """Each end after the first is one retry."""
    watcher = Watcher(run(1), run(2, FAILED))
    for _ in range(3):
        assert watcher.sees(run(2, RUNNING)) == []
        assert watcher.sees(run(2, FAILED, end=watcher.now + 500)) == [("retried", "run-2", "failed")]


def test_a_retry_between_two_answers_is_known_by_its_end():
    """An end that is a second later or more is another end."""
    watcher = Watcher(run(1), run(2, FAILED, end=NOON + 300))
    assert watcher.sees(run(2, FAILED, end=NOON + 301)) == [("retried", "run-2", "failed")]
    assert watcher.sees(run(2, FAILED, end=NOON + 301)) == []


def test_a_retry_without_an_end_is_one():
    """Where the cloud tells no ends, that it went on tells enough."""
    watcher = Watcher(run(1), endless(run(2, FAILED)), run(2, RUNNING))
    assert watcher.sees(endless(run(2, FAILED))) == [("retried", "run-2", "failed")]


@pytest.mark.parametrize("stale", [run(2, RUNNING), run(2, FAILED, end=NOON + 300)])
def test_an_answer_from_before_a_retry_is_no_other_retry(stale):
    """A stale answer shows what was known already: the end that is known stays, and nothing is counted."""
    watcher = Watcher(run(1), run(2, FAILED, end=NOON + 300), run(2, end=NOON + 900))
    assert watcher.sees(stale) == []
    assert watcher.sees(run(2, end=NOON + 900)) == []
    assert watcher.state.finished == run(2, end=NOON + 900)
    assert watcher.state.open == ()


@pytest.mark.parametrize("end", [NOON + 300.999, NOON + 299.5])
def test_an_end_that_moves_by_less_than_a_second_is_no_retry(end):
    """Clouds round times and correct them."""
    watcher = Watcher(run(1), run(2, FAILED, end=NOON + 300))
    assert watcher.sees(run(2, FAILED, end=end)) == []
    assert watcher.state.ended[0].end == end


def test_an_end_that_was_absent_and_appears_is_no_retry():
    """It is the same end, told late; the gauges get it."""
    watcher = Watcher(run(1), endless(run(2, FAILED)))
    assert watcher.sees(run(2, FAILED)) == []
    assert watcher.state.finished == run(2, FAILED)
    assert watcher.state.series.broken_since == run(2).end


def test_an_end_that_disappears_is_no_retry():
    """What is not told did not move."""
    watcher = Watcher(run(1), run(2))
    assert watcher.sees(endless(run(2))) == []
    assert watcher.sees(run(2)) == []


def test_a_failure_that_is_ignored_later_is_a_correction():
    """Nothing is counted; the gauges follow."""
    watcher = Watcher(run(1), run(2, FAILED))
    assert watcher.sees(run(2, Status.IGNORED)) == []
    assert watcher.state.finished == run(2, Status.IGNORED)
    assert watcher.state.series.failures == 0
    assert watcher.state.series.broken_since is None


def test_a_failure_that_is_corrected_to_success_is_no_recovery():
    """It never was broken; what had been counted stays counted."""
    watcher = Watcher(run(1), run(2, FAILED))
    assert watcher.sees(run(2)) == []
    assert watcher.state.series.failures == 0


def test_a_run_that_was_final_at_first_sight_is_retried_as_a_retry_only():
    """It was never counted as a run and never will be."""
    watcher = Watcher(run(5, FAILED))
    watcher.sees(run(5, RUNNING))
    assert watcher.sees(run(5, FAILED, end=NOON + 900)) == [("retried", "run-5", "failed")]
    assert watcher.sees(run(5, FAILED, end=NOON + 999)) == [("retried", "run-5", "failed")]


def test_while_a_run_is_reopened_the_finished_one_keeps_its_old_end():
    """A red pipeline stays red until the retry has ended."""
    watcher = Watcher(run(1), run(2, FAILED), run(2, RUNNING))
    assert watcher.state.finished == run(2, FAILED)
    assert watcher.state.series.failures == 1


# Gap


def test_numbers_that_were_jumped_over_are_wanted_until_the_list_tells_them():
    """They are known to have been given; each is counted as the list has it."""
    watcher = Watcher(run(3))
    assert watcher.sees(run(7)) == [("ended", "run-7", "success")]
    assert watcher.wanted == [4, 5, 6]
    assert watcher.state.unresolved == 3
    rows = [run(7), run(6, RUNNING), run(4, FAILED), run(5), run(3)]
    assert watcher.reads(*rows) == [
        ("ended", "run-4", "failed"),
        ("ended", "run-5", "success"),
        ("recovered", 100.0),
    ]
    assert (watcher.wanted, watcher.hidden) == ([], ["run-6"])
    assert watcher.learns("run-6", run(6)) == [("ended", "run-6", "success")]


def test_a_jump_to_a_run_under_way_makes_the_same_gap():
    """The gap shows with the run, not with its end."""
    watcher = Watcher(run(3))
    assert watcher.sees(run(7, RUNNING)) == []
    assert watcher.wanted == [4, 5, 6]


def test_a_run_newer_than_the_latest_is_taken_from_the_list():
    """The list may be fresher than the answer about the latest, and tells a gap as well."""
    watcher = Watcher(run(3), run(5))
    assert watcher.reads(run(8, RUNNING), run(6), run(5), run(4)) == [
        ("ended", "run-4", "success"),
        ("ended", "run-6", "success"),
    ]
    assert (watcher.wanted, watcher.state.high) == ([7], 8)
    assert watcher.sees(run(8, RUNNING)) == []
    assert watcher.active == "run-8"
    assert watcher.sees(run(8)) == [("ended", "run-8", "success")]


def test_a_million_numbers_are_one_gap():
    """What a nonsensical number costs is bounded."""
    watcher = Watcher(run(3), run(1_000_003), run(1_000_003))
    assert watcher.state.unresolved == 999_999
    assert len(watcher.state.wanted) == 1


# Wild numbers

WILD = (45, 10**6, 2**53 - 1)


@pytest.mark.parametrize("wild", WILD)
@pytest.mark.parametrize("status", [SUCCESS, RUNNING])
def test_known_run_keeps_its_number(wild, status):
    """The deviation is reported, the rest of the record counts."""
    watcher = Watcher(run(2), run(3, status))
    misread = run(wild, identity="run-3", start=run(3).start, end=end_of(3))
    assert ("misnumbered", "run-3", wild, 3) in watcher.sees(misread)
    assert (watcher.state.high, watcher.wanted, watcher.state.open) == (3, [], ())
    assert watcher.state.finished == run(3)
    for number in range(4, 10):
        assert watcher.sees(run(number)) == [("ended", f"run-{number}", "success")]


@pytest.mark.parametrize("wild", WILD)
def test_known_run_keeps_its_number_in_lists_and_when_looked_up(wild):
    watcher = Watcher(run(1), run(2, RUNNING), run(4))
    misread = run(wild, RUNNING, identity="run-2", start=run(2).start)
    deviation = ("misnumbered", "run-2", wild, 2)
    assert watcher.reads(run(4), run(3), misread) == [("ended", "run-3", "success"), deviation]
    assert watcher.learns("run-2", misread) == [deviation]
    assert (watcher.hidden, watcher.state.high) == (["run-2"], 4)


@pytest.mark.parametrize("wild", [4 + LEAP, 10**6, 2**53 - 1])
@pytest.mark.parametrize("status", [SUCCESS, RUNNING])
def test_leap_of_one_answer_raises_nothing(wild, status):
    """Its run is shown, and active if it is in progress; later runs count as if it had not been."""
    watcher = Watcher(run(3))
    assert watcher.sees(run(wild, status, identity="new", start=run(4).start)) == []
    assert watcher.believed
    assert (watcher.state.high, watcher.wanted, watcher.state.open) == (3, [], ())
    assert watcher.state.starts == (() if status.final else (run(4).start,))
    assert watcher.sees(run(4)) == [("misnumbered", "new", wild, None), ("ended", "run-4", "success")]
    for number in range(5, 10):
        assert watcher.sees(run(number)) == [("ended", f"run-{number}", "success")]
    assert (watcher.state.high, watcher.wanted, watcher.state.leap) == (9, [], None)


def test_number_just_within_a_leap_needs_no_other_answer():
    watcher = Watcher(run(3))
    assert watcher.sees(run(3 + LEAP)) == [("ended", f"run-{3 + LEAP}", "success")]
    assert len(watcher.wanted) == LEAP - 1


@pytest.mark.parametrize("wild", WILD)
def test_numbers_below_a_misread_new_run_still_count(wild):
    """Within a leap the number is believed, but those below it are wanted, and become void in the end."""
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
    """It counts as it was first seen to end, and once."""
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


def test_run_of_before_first_sight_with_a_wild_number_is_not_counted():
    """The list says so, where all newer runs were deleted."""
    watcher = Watcher(run(3), run(10**6, identity="run-2", start=run(2).start))
    watcher.shown = None
    assert watcher.reads(run(2)) == []
    assert watcher.sees(run(2)) == []


def test_leap_that_the_next_answer_repeats_is_believed():
    watcher = Watcher(run(3), run(500, RUNNING))
    assert watcher.sees(run(500)) == [("ended", "run-500", "success")]
    assert (watcher.state.high, watcher.wanted) == (500, list(range(4, 500)))


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
    assert len(watcher.wanted) == 495


def test_list_that_came_with_the_leap_does_not_confirm_it():
    """A cloud that reports the latest run by its list misreports both at once."""
    watcher = Watcher(run(3))
    rows = [run(10**6, identity="1000000", start=run(5).start), run(4)]
    watcher.sees(rows[0])
    outcome = fill(watcher.state, rows, Reach.COMPLETE, now=watcher.now, same_answer=True)
    assert watcher.takes(outcome) == [("ended", "run-4", "success")]
    assert watcher.sees(run(5)) == [("misnumbered", "1000000", 10**6, None), ("ended", "run-5", "success")]


def test_leap_of_a_list_row_alone_is_ignored():
    """The next answer reports it if it exists."""
    watcher = Watcher(run(3), run(5))
    assert watcher.reads(run(10**6, identity="stranger"), run(5), run(4)) == [("ended", "run-4", "success")]
    assert watcher.state.high == 5


def test_two_leaps_that_disagree_are_not_believed():
    watcher = Watcher(run(3))
    assert watcher.sees(run(10**6, identity="a")) == []
    assert watcher.sees(run(2**53 - 1, identity="b")) == []
    assert watcher.sees(run(4))[-1] == ("ended", "run-4", "success")
    assert (watcher.state.high, watcher.wanted) == (4, [])


def test_leap_is_in_doubt_as_long_as_no_run_is_shown():
    watcher = Watcher(run(3), run(500, RUNNING))
    assert watcher.sees(None) == []
    assert watcher.sees(run(500)) == [("ended", "run-500", "success")]


def test_leap_of_a_run_that_has_its_id_not_always_is_one_run():
    watcher = Watcher(run(3), run(500, identity="#500"))
    assert watcher.sees(run(500)) == [("ended", "run-500", "success")]


def test_two_runs_of_the_same_far_number_are_not_both_counted():
    watcher = Watcher(run(3), run(500, identity="a"))
    assert watcher.sees(run(500, identity="b")) == [
        ("misnumbered", "a", 500, None),
        ("ended", "b", "success"),
    ]


def test_numbering_that_begins_again_forgets_the_leap():
    watcher = Watcher(run(8), run(9), run(10**6, RUNNING, identity="stranger"))
    fresh = run(1, identity="fresh", start=watcher.now + 5)
    assert watcher.sees(fresh) == []
    assert watcher.sees(fresh) == [("misnumbered", "stranger", 10**6, None), ("ended", "fresh", "success")]


# Filling


def beyond(search: Search, *starts: float) -> Reach | None:
    """How far a page of runs with these starts gets."""
    return search.reach([run(1, start=start) for start in starts])


def test_a_reading_ends_where_everything_is_found():
    """Whatever the order of the rows."""
    watcher = Watcher(run(3), run(6))
    sought = search(watcher.state, now=watcher.now)
    assert sought.size == 2
    assert not sought.found([run(6), run(5), run(3)])
    assert sought.found([run(4), run(6), run(5)])


def test_a_reading_ends_with_a_page_that_started_an_hour_before_the_gap():
    """All of the page: one row proves nothing, since numbers can be given early."""
    watcher = Watcher(run(3), run(6))
    started = NOON + 300
    sought = search(watcher.state, now=watcher.now)
    assert beyond(sought, started - HOUR - 1, started - HOUR - 9) is Reach.COMPLETE
    assert beyond(sought, started - HOUR - 1, started - HOUR + 1) is None
    assert beyond(sought) is None


def test_a_reading_ends_a_week_back():
    """The exporter was down for longer: what lies before is given up."""
    watcher = Watcher(run(3))
    watcher.sees(run(9000), later=2 * WEEK)
    watcher.sees(run(9000))
    sought = search(watcher.state, now=watcher.now)
    assert sought.size == 8996
    assert beyond(sought, watcher.now - WEEK - 1) is Reach.BOUND
    assert beyond(sought, watcher.now - WEEK + 1, watcher.now - 2 * WEEK) is None


def test_where_no_start_is_known_a_reading_goes_on_to_the_end():
    """Or as far back as is ever read."""
    watcher = Watcher(None, run(3))
    sought = search(watcher.state, now=watcher.now)
    assert sought.floor is None
    assert beyond(sought, NOON - DAY) is None


# Absence


def test_what_two_complete_readings_lack_is_void():
    """Skipped, deleted, or given early: nothing is counted."""
    watcher = Watcher(run(3), run(6))
    assert watcher.reads(run(6), run(5), run(3)) == [("ended", "run-5", "success")]
    assert watcher.wanted == [4]
    assert watcher.reads(run(6), run(5), run(3), later=APART - 1) == []
    assert watcher.wanted == [4]
    assert watcher.reads(run(6), run(5), run(3), later=1) == []
    assert (watcher.wanted, watcher.state.unresolved) == ([], 0)


def test_a_reading_that_was_cut_proves_nothing():
    """However often."""
    watcher = Watcher(run(3), run(6))
    for _ in range(3):
        assert watcher.reads(run(6), run(5), reach=Reach.CUT, later=APART) in (
            [("ended", "run-5", "success")],
            [],
        )
    assert watcher.wanted == [4]


def test_what_the_list_does_not_tell_for_a_day_is_missed():
    """However often it is read, if never far enough."""
    watcher = Watcher(run(3), run(6))
    assert watcher.reads(reach=Reach.CUT, later=DAY - 20) == []
    assert watcher.reads(reach=Reach.CUT, later=20) == [("missed", 2)]


def test_a_list_without_the_latest_run_proves_nothing():
    """Whoever may not see the runs gets an empty list, and no error."""
    watcher = Watcher(run(3), run(6))
    watcher.shown = None
    for _ in range(3):
        assert watcher.reads(later=APART) == []
        assert watcher.reads(run(3), reach=Reach.BOUND, later=APART) == []
    assert watcher.wanted == [4, 5]


def test_where_a_pipeline_has_no_run_any_more_an_empty_list_proves_it():
    """All were deleted."""
    watcher = Watcher(run(3), run(6), None)
    assert watcher.reads() == []
    assert watcher.reads(later=APART) == []
    assert watcher.wanted == []


def void(watcher: Watcher) -> Watcher:
    """The same after its gaps were not found."""
    watcher.reads()
    watcher.reads(later=APART)
    assert watcher.wanted == []
    return watcher


@pytest.mark.parametrize("days", [1, 6])
def test_a_void_number_that_shows_up_as_the_latest_is_claimed(days):
    """Its run was queued with its number given early: no doubt, no new numbering."""
    watcher = void(Watcher(run(3), run(5)))
    late = run(4, RUNNING, start=watcher.now + days * DAY)
    assert watcher.sees(late, later=days * DAY) == []
    assert watcher.believed
    assert (watcher.active, watcher.state.high) == ("run-4", 5)
    assert watcher.sees(msgspec.structs.replace(late, status=SUCCESS, end=watcher.now)) == [
        ("ended", "run-4", "success")
    ]
    assert watcher.finished == "run-5"
    assert watcher.sees(run(6)) == [("ended", "run-6", "success")]


def test_a_void_number_that_shows_up_in_the_list_is_claimed():
    """Wherever it shows up, it counts."""
    watcher = void(Watcher(run(3), run(6)))
    watcher.sees(run(8))
    assert watcher.reads(run(8), run(7), run(5)) == [
        ("ended", "run-5", "success"),
        ("ended", "run-7", "success"),
    ]
    assert watcher.reads(run(8), run(7), run(5), run(4)) == [("ended", "run-4", "success")]


def test_after_a_week_a_void_number_is_claimed_no_longer():
    """It would be a new numbering, and needs a second answer."""
    watcher = void(Watcher(run(3), run(5)))
    watcher.sees(run(4, start=watcher.now + WEEK), later=WEEK + 1)
    assert not watcher.believed


# Missed


def test_what_the_list_could_not_be_read_for_since_a_day_is_missed():
    """Once, for good: it is never counted later."""
    watcher = Watcher(run(3), run(6))
    assert watcher.cannot_read(later=DAY - 20) == []
    assert watcher.cannot_read(later=20) == [("missed", 2)]
    assert watcher.cannot_read(later=DAY) == []
    assert watcher.reads(run(6), run(5), run(4)) == []
    assert watcher.sees(run(5)) == []
    assert (watcher.finished, watcher.wanted) == ("run-6", [])


def test_what_lies_before_the_bound_is_missed():
    """What was read up to there counts."""
    watcher = Watcher(run(3), run(7))
    assert watcher.reads(run(7), run(6), reach=Reach.BOUND) == [
        ("ended", "run-6", "success"),
        ("missed", 2),
    ]


def test_numbers_after_a_run_that_was_just_seen_as_the_latest_are_void_and_not_missed():
    """A list that was read back to that moment would have them: the number was misreported, or some were skipped."""
    old = run(3, start=NOON - 2 * WEEK)
    watcher = Watcher(old, run(45))
    assert watcher.reads(old, reach=Reach.BOUND) == []
    assert watcher.reads(old, reach=Reach.BOUND, later=APART) == []
    assert watcher.wanted == []
    assert watcher.sees(run(4)) == [("ended", "run-4", "success")]


def test_numbers_that_a_thousand_runs_do_not_reach_are_missed():
    watcher = Watcher(run(3), run(45))
    assert watcher.reads(run(44), reach=Reach.BOUND) == [("ended", "run-44", "success"), ("missed", 40)]


@pytest.mark.parametrize("answer", [None, run(4000)], ids=["without a run", "leap in doubt"])
def test_numbers_after_an_answer_that_did_not_show_the_latest_run_may_be_older(answer):
    old = run(3, start=NOON - 2 * WEEK)
    watcher = Watcher(old, answer, run(45))
    assert watcher.reads(old, reach=Reach.BOUND) == [("missed", 41)]


def test_a_run_of_unknown_state_whose_end_stays_for_an_hour_is_missed():
    """It is over, and how it ended will not be learnt; meanwhile it is open."""
    watcher = Watcher(run(3))
    over = msgspec.structs.replace(run(4, Status.UNKNOWN), end=NOON + 500)
    assert watcher.sees(over) == []
    assert watcher.sees(msgspec.structs.replace(over, end=NOON + 501), later=HOUR) == []
    assert watcher.sees(msgspec.structs.replace(over, end=NOON + 501), later=HOUR - 1) == []
    assert watcher.active == "run-4"
    assert watcher.sees(msgspec.structs.replace(over, end=NOON + 501), later=1) == [("missed", 1)]
    assert watcher.sees(msgspec.structs.replace(over, end=NOON + 501)) == []
    assert watcher.state.open == ()


def test_a_run_of_unknown_state_without_an_end_is_given_up_a_day_after_a_newer_one():
    """No word that means its end will come."""
    watcher = Watcher(run(3), run(4, Status.UNKNOWN), run(5))
    assert watcher.learns("run-4", run(4, Status.UNKNOWN), later=DAY - 1) == []
    assert watcher.learns("run-4", run(4, Status.UNKNOWN), later=1) == [("missed", 1)]


def test_a_run_that_goes_on_for_days_is_open():
    """However long it waits for somebody."""
    watcher = Watcher(run(3), run(4, Status.PAUSED), run(5))
    assert watcher.learns("run-4", run(4, Status.PAUSED), later=30 * DAY) == []
    assert watcher.learns("run-4", run(4)) == [("ended", "run-4", "success")]


# Hidden


def test_a_run_that_a_newer_one_hides_is_looked_up_and_counted():
    """Only the latest run is shown: the end of the one before has to be asked for."""
    watcher = Watcher(run(1), run(2, RUNNING))
    assert watcher.sees(run(3, RUNNING)) == []
    assert watcher.hidden == ["run-2"]
    assert watcher.sees(run(3)) == [("ended", "run-3", "success")]
    assert watcher.learns("run-2", run(2, RUNNING)) == []
    assert watcher.learns("run-2", run(2, FAILED)) == [("ended", "run-2", "failed")]
    assert watcher.learns("run-2", run(2, FAILED)) == []
    assert watcher.hidden == []
    assert watcher.finished == "run-3"
    assert watcher.state.series.failures == 0


def test_the_run_under_way_at_first_sight_can_hide_too():
    """It lay inside."""
    watcher = Watcher(run(1, RUNNING), run(2))
    assert watcher.learns("run-1", run(1)) == [("ended", "run-1", "success")]


def test_a_hidden_run_that_the_provider_no_longer_knows_is_missed():
    """It existed, and its end cannot be learnt."""
    watcher = Watcher(run(1), run(2, RUNNING), run(3))
    assert watcher.learns("run-2", None) == [("missed", 1)]
    assert watcher.learns("run-2", run(2)) == []


def test_a_hidden_run_may_be_shown_again():
    """Newer ones were deleted: it is the one under way, as before."""
    watcher = Watcher(run(1), run(2, RUNNING), run(3, RUNNING), run(2, RUNNING))
    assert watcher.sees(run(2, RUNNING)) == []
    assert (watcher.active, watcher.hidden) == ("run-2", ["run-3"])
    assert watcher.sees(run(2)) == [("ended", "run-2", "success")]


def test_a_look_at_another_run_teaches_nothing():
    """An answer about a run that nobody asked for is no end of the one that hides."""
    watcher = Watcher(run(1), run(2, RUNNING), run(3))
    assert watcher.learns("run-2", run(1)) == []
    assert watcher.learns("run-2", run(7, FAILED)) == []
    assert watcher.learns("run-7", run(7, FAILED)) == []
    assert (watcher.hidden, watcher.finished) == (["run-2"], "run-3")
    assert watcher.learns("run-2", run(2)) == [("ended", "run-2", "success")]


def test_a_hidden_run_without_its_number_keeps_its_place():
    """The details of a run need not tell the number that its pipeline did."""
    watcher = Watcher(run(1), run(2, RUNNING), run(3, RUNNING))
    assert watcher.learns("run-2", run(None, FAILED, identity="run-2", end=NOON + 250)) == [
        ("ended", "run-2", "failed")
    ]
    assert watcher.state.ended[0] == Ended("run-2", 2, FAILED, NOON + 250)
    assert (watcher.active, watcher.state.high) == ("run-3", 3)


def test_a_hidden_run_is_learnt_while_nothing_else_is_known_to_end():
    """It is the latest finished one, until a greater number ends."""
    watcher = Watcher(run(1, RUNNING), run(2, RUNNING))
    assert watcher.state.finished is None
    watcher.learns("run-1", run(1))
    assert watcher.finished == "run-1"
    watcher.sees(run(2))
    assert watcher.finished == "run-2"


def test_open_runs_have_a_bound():
    """Beyond it the oldest is missed."""
    watcher = Watcher(run(1))
    for number in range(2, OPEN + 3):
        assert watcher.sees(run(number, RUNNING)) == []
    assert watcher.sees(run(OPEN + 3)) == [("ended", f"run-{OPEN + 3}", "success"), ("missed", 1)]
    assert watcher.hidden == [f"run-{number}" for number in range(3, OPEN + 3)]


def test_a_hidden_run_without_an_id_is_looked_for_by_its_number():
    """Nobody can be asked about it, but the list may tell."""
    watcher = Watcher(run(1), run(2, RUNNING, identity="#2"), run(3))
    assert (watcher.hidden, watcher.wanted) == ([], [2])
    assert watcher.reads(run(2)) == [("ended", "run-2", "success")]


def test_a_reopened_run_that_hides_ends_again_as_a_retry():
    """Its first end was counted; the next is a retry's wherever it is seen, and gone is not missed."""
    watcher = Watcher(run(1), run(2, FAILED), run(2, RUNNING))
    assert watcher.sees(run(3)) == [("ended", "run-3", "success"), ("recovered", pytest.approx(100))]
    gone, ended = Watcher(), Watcher()
    gone.kept = ended.kept = watcher.state
    assert gone.learns("run-2", None) == []
    assert ended.learns("run-2", run(2, end=NOON + 400)) == [("retried", "run-2", "success")]


def test_a_reopened_run_that_hides_behind_many_is_still_a_retry():
    """It was counted, though what is kept of ended runs no longer tells."""
    watcher = Watcher(run(1), run(2), run(2, RUNNING))
    for number in range(3, 4 + KEPT):
        watcher.sees(run(number))
    assert "run-2" not in {ended.id for ended in watcher.state.ended}
    assert watcher.learns("run-2", run(2, end=NOON + 9000)) == [("retried", "run-2", "success")]


@pytest.mark.parametrize("status", [SUCCESS, FAILED])
def test_a_run_that_is_learnt_after_all_that_are_kept_leaves_the_series_alone(status):
    """It counts as a run; between which of the older ones it stood, nobody knows any more."""
    watcher = Watcher(run(1), run(2, RUNNING))
    for number in range(3, 6 + KEPT):
        watcher.sees(run(number, FAILED))
    before = watcher.state
    assert watcher.learns("run-2", run(2, status)) == [("ended", "run-2", status.value)]
    assert (watcher.state.series, watcher.state.ended) == (before.series, before.ended)
    assert watcher.sees(run(6 + KEPT))[-1] == ("recovered", end_of(6 + KEPT) - end_of(3))


def test_a_success_that_is_learnt_late_ends_the_series_before_it():
    """In order of number: what a later success ended already is not ended again."""
    watcher = Watcher(run(1), run(2, FAILED), run(3, RUNNING), run(4, FAILED))
    assert watcher.learns("run-3", run(3)) == [
        ("ended", "run-3", "success"),
        ("recovered", pytest.approx(100)),
    ]
    assert watcher.state.series.failures == 1
    watcher = Watcher(run(1), run(2, FAILED), run(3, RUNNING), run(4))
    assert watcher.learns("run-3", run(3)) == [("ended", "run-3", "success")]


def test_runs_without_a_number_make_no_gap():
    """Each unknown id is simply the next run."""
    watcher = Watcher(run(None, identity="a"))
    assert watcher.sees(run(None, identity="a")) == []
    assert watcher.sees(run(None, RUNNING, identity="b")) == []
    assert watcher.sees(run(None, RUNNING, identity="b")) == []
    assert watcher.sees(run(None, identity="b")) == [("ended", "b", "success")]
    assert watcher.sees(run(None, FAILED, identity="c")) == [("ended", "c", "failed")]
    assert watcher.finished == "c"


def test_numbers_that_begin_late_make_no_gap():
    """How many runs were seen says nothing of how the provider numbers them; from its first number on gaps show."""
    watcher = Watcher(run(None, identity="a"), run(None, RUNNING, identity="b"))
    assert watcher.sees(run(40, identity="b")) == [("ended", "b", "success")]
    assert watcher.sees(run(41, identity="c")) == [("ended", "c", "success")]
    assert watcher.sees(run(43, identity="d")) == [("ended", "d", "success")]
    assert watcher.wanted == [42]


def test_after_a_first_sight_without_a_run_those_without_a_number_count():
    """Each is the next one."""
    watcher = Watcher(None)
    assert watcher.sees(run(None, identity="a")) == [("ended", "a", "success")]
    assert watcher.sees(run(None, FAILED, identity="b")) == [("ended", "b", "failed")]


def test_a_run_without_a_number_can_be_retried_and_missed():
    """The id is its identity; the number only finds gaps."""
    watcher = Watcher(run(None, identity="a"), run(None, FAILED, identity="b"))
    watcher.sees(run(None, RUNNING, identity="b"))
    again = run(None, FAILED, identity="b", end=NOON + 300)
    assert watcher.sees(again) == [("retried", "b", "failed")]
    watcher.sees(run(None, RUNNING, identity="c"))
    assert watcher.sees(run(None, identity="d"))[0] == ("ended", "d", "success")
    assert watcher.learns("c", None) == [("missed", 1)]


def test_a_number_that_is_missing_once_makes_no_gap():
    """The run is the same, and so is its place."""
    watcher = Watcher(run(4), run(5, RUNNING))
    assert watcher.sees(run(None, RUNNING, identity="run-5", start=run(5).start)) == []
    assert watcher.sees(run(5)) == [("ended", "run-5", "success")]
    assert watcher.sees(run(6)) == [("ended", "run-6", "success")]


def test_a_known_run_without_its_number_keeps_its_place():
    """It is no newer for that."""
    watcher = Watcher(run(8), run(9))
    assert watcher.sees(run(None, RUNNING, identity="run-8")) == []
    assert watcher.active is None
    assert watcher.finished == "run-9"


# Identity


@pytest.mark.parametrize("first", ["#2", "run-2"])
def test_an_id_that_is_not_always_given_is_one_run(first):
    """The number tells that it is the same; nothing is counted twice, and no numbering begins anew."""
    second = {"#2": "run-2", "run-2": "#2"}[first]
    watcher = Watcher(run(1), run(2, RUNNING, identity=first))
    assert watcher.sees(run(2, RUNNING, identity=second)) == []
    assert watcher.sees(run(2, identity=second)) == [("ended", first, "success")]
    assert watcher.sees(run(2, identity=first)) == []
    assert watcher.sees(run(3)) == [("ended", "run-3", "success")]


# Back


def test_a_lower_number_is_not_believed_at_once():
    """An answer can be stale: what it would undo, and count again later, stays."""
    watcher = Watcher(run(8), run(9))
    before = watcher.state
    assert watcher.sees(run(8)) == []
    assert (watcher.finished, watcher.state.high) == ("run-9", before.high)
    assert watcher.sees(run(9)) == []
    assert watcher.sees(run(10)) == [("ended", "run-10", "success")]


def test_a_stale_answer_leaves_the_run_under_way_alone():
    """It is neither missed nor counted twice."""
    watcher = Watcher(run(8), run(9, RUNNING))
    assert watcher.sees(run(8)) == []
    assert watcher.active == "run-9"
    assert watcher.sees(run(9)) == [("ended", "run-9", "success")]


def test_a_run_that_was_given_up_and_comes_back_is_not_counted():
    """Missed is final: neither its end nor its leaving again is counted."""
    watcher = Watcher(run(8), run(9, RUNNING), run(8), run(8))
    assert watcher.learns("run-9", None) == [("missed", 1)]
    assert watcher.sees(run(9, RUNNING)) == []
    assert watcher.sees(run(9)) == []
    assert watcher.finished == "run-9"
    assert watcher.sees(run(10)) == [("ended", "run-10", "success")]


@pytest.mark.parametrize("between", [run(9), None])
def test_stale_answers_that_do_not_follow_each_other_are_not_believed(between):
    """Two in a row agree, or nothing is known."""
    watcher = Watcher(run(8), run(9))
    for _ in range(3):
        assert watcher.sees(run(4, identity="stranger")) == []
        assert watcher.sees(between) == []
    assert watcher.finished == "run-9"


def test_two_stale_answers_that_disagree_are_not_believed():
    """They must agree on the run."""
    watcher = Watcher(run(8), run(9))
    assert watcher.sees(run(4, identity="stranger")) == []
    assert watcher.sees(run(3, identity="another")) == []
    assert watcher.finished == "run-9"


def test_a_known_run_back_twice_means_that_newer_ones_were_deleted():
    """What was counted stays counted, and the numbering goes on from the greatest number ever seen."""
    watcher = Watcher(run(8), run(9))
    assert watcher.sees(run(8)) == []
    assert watcher.sees(run(8)) == []
    assert watcher.state.high == 9
    assert watcher.sees(run(10)) == [("ended", "run-10", "success")]


def test_a_run_under_way_that_was_deleted_is_to_be_looked_up():
    """Whether it is gone or merely hidden, the look will tell."""
    watcher = Watcher(run(8), run(9, RUNNING), run(8))
    assert watcher.sees(run(8)) == []
    assert (watcher.active, watcher.hidden) == (None, ["run-9"])


def test_after_newer_runs_were_deleted_every_answer_counts():
    """Once believed it need not be believed again: no end or retry may hide behind the doubt."""
    watcher = Watcher(run(8, FAILED), run(9), run(8, FAILED), run(8, FAILED))
    assert watcher.sees(run(8, RUNNING)) == []
    assert watcher.active == "run-8"
    assert watcher.sees(run(8, FAILED, end=NOON + 4000)) == [("retried", "run-8", "failed")]
    assert watcher.sees(run(8, FAILED, end=NOON + 5000)) == [("retried", "run-8", "failed")]
    assert watcher.finished == "run-9", "latest finished is the greatest number, not the latest end"


def test_an_unknown_run_back_twice_that_began_after_the_last_good_answer_is_counted():
    """The numbering began anew, and this run began while somebody looked."""
    watcher = Watcher(run(8), run(9))
    fresh = run(1, identity="fresh", start=watcher.now + 5)
    assert watcher.sees(fresh) == []
    assert watcher.sees(fresh) == [("ended", "fresh", "success")]
    assert watcher.sees(run(2, identity="next")) == [("ended", "next", "success")]
    assert watcher.state.high == 2


def test_what_began_before_the_numbering_fills_no_gap_of_it():
    """Its numbers are others, though they are the same."""
    watcher = Watcher(run(8), run(9))
    fresh = run(2, identity="fresh", start=watcher.now + 5)
    watcher.sees(fresh)
    watcher.sees(fresh)
    watcher.sees(run(5, identity="five", start=watcher.now + 1))
    assert watcher.wanted == [3, 4]
    elders = [run(4, start=NOON - 100), run(3, start=NOON - 200)]
    sought = search(watcher.state, now=watcher.now)
    assert not sought.found(elders)
    assert sought.reach(elders) is Reach.COMPLETE
    assert watcher.reads(*elders) == []
    assert watcher.reads(*elders, later=APART) == []
    assert watcher.wanted == []


def test_the_last_good_answer_is_not_the_one_in_doubt():
    """The new run began before the answer that first showed it, of course."""
    watcher = Watcher(run(8), run(9))
    good = watcher.now
    watcher.sees(run(1, RUNNING, identity="fresh", start=good + 5))
    watcher.sees(run(1, RUNNING, identity="fresh", start=good + 5))
    assert watcher.active == "fresh"
    assert watcher.sees(run(1, identity="fresh", start=good + 5)) == [("ended", "fresh", "success")]


@pytest.mark.parametrize("start_after", [-5.0, 0.0])
def test_an_unknown_run_back_twice_that_began_before_the_last_good_answer_lies_outside(start_after):
    """It is a first sight again: it may have ended while nobody looked at its numbering."""
    watcher = Watcher(run(8), run(9))
    strange = run(3, identity="strange", start=watcher.now + start_after)
    assert watcher.sees(strange) == []
    assert watcher.sees(strange) == []
    assert watcher.finished == "strange"
    assert watcher.sees(run(4, identity="next")) == [("ended", "next", "success")]


def test_an_unknown_run_without_a_start_lies_outside():
    """When it began is not known, so it is not claimed."""
    watcher = Watcher(run(8), run(9))
    strange = Run(id="strange", number=3, status=SUCCESS)
    assert watcher.sees(strange) == []
    assert watcher.sees(strange) == []


def test_a_new_numbering_leaves_the_run_under_way_missed():
    """Its end will not be seen; what was counted goes on."""
    watcher = Watcher(run(8), run(9, RUNNING))
    fresh = run(1, identity="fresh", start=watcher.now + 5)
    watcher.sees(fresh)
    assert watcher.sees(fresh) == [("missed", 1), ("ended", "fresh", "success")]


def test_a_new_numbering_gives_up_all_that_hides():
    """None of them will be looked for, and what was accounted before is not missed."""
    watcher = Watcher(run(6, FAILED), run(6, RUNNING), run(7, RUNNING), run(8, RUNNING), run(9))
    assert watcher.hidden == ["run-6", "run-7", "run-8"]
    fresh = run(1, RUNNING, identity="fresh", start=watcher.now + 5)
    watcher.sees(fresh)
    assert watcher.hidden == ["run-6", "run-7", "run-8"]
    assert watcher.sees(fresh) == [("missed", 1), ("missed", 1)]
    assert (watcher.hidden, watcher.active) == ([], "fresh")


def test_a_new_numbering_has_no_finished_run_until_one_ends():
    """Greatest number is a word of one numbering; the failures of the one before are not forgotten."""
    watcher = Watcher(run(8), run(9, FAILED))
    fresh = run(1, RUNNING, identity="fresh", start=watcher.now + 5)
    watcher.sees(fresh)
    assert watcher.finished == "run-9"
    watcher.sees(fresh)
    assert watcher.state.finished is None
    assert watcher.state.series.failures == 1
    watcher.sees(msgspec.structs.replace(fresh, status=SUCCESS, end=watcher.now))
    assert watcher.finished == "fresh"


def test_a_new_numbering_goes_on_with_the_series():
    """Failures in a row are the pipeline's, not the numbering's."""
    watcher = Watcher(run(8, FAILED))
    fresh = run(1, FAILED, identity="fresh", start=watcher.now + 5)
    watcher.sees(fresh)
    watcher.sees(fresh)
    assert watcher.state.series.failures == 2
    assert watcher.state.series.broken_since == run(8).end


@pytest.mark.parametrize("number", [8, 9])
def test_a_number_that_bore_another_id_is_believed_at_once(number):
    """No stale answer gives an old number a new id."""
    watcher = Watcher(run(8), run(9))
    reused = run(number, identity="reused", start=watcher.now + 5)
    assert watcher.sees(reused) == [("ended", "reused", "success")]
    assert watcher.state.high == number


def test_the_number_of_the_run_under_way_with_another_id_is_believed_at_once():
    """The same, of a run whose end was not seen; it is missed."""
    watcher = Watcher(run(8), run(9, RUNNING))
    reused = run(9, identity="reused", start=watcher.now + 5)
    assert watcher.sees(reused) == [("missed", 1), ("ended", "reused", "success")]


def test_the_number_of_a_hidden_run_with_another_id_is_believed_at_once():
    """It bore that number, though its end is not known."""
    watcher = Watcher(run(7), run(8, RUNNING), run(9))
    reused = run(8, identity="reused", start=watcher.now + 5)
    assert watcher.sees(reused) == [("missed", 1), ("ended", "reused", "success")]


# Recoveries over gaps


def test_a_recovery_waits_for_the_gaps_before_it():
    """Which success ended the failures is known when all before it is."""
    watcher = Watcher(run(1), run(2, FAILED))
    assert watcher.sees(run(5)) == [("ended", "run-5", "success")]
    assert watcher.state.series.failures == 0
    assert watcher.reads(run(5), run(4), run(3, FAILED)) == [
        ("ended", "run-3", "failed"),
        ("ended", "run-4", "success"),
        ("recovered", end_of(4) - end_of(2)),
    ]
    assert watcher.sees(run(6)) == [("ended", "run-6", "success")]


def test_a_recovery_is_counted_when_a_gap_turns_out_empty():
    """There was nothing before it that could have been the first success."""
    watcher = Watcher(run(1), run(2, FAILED), run(4))
    assert watcher.reads() == []
    assert watcher.reads(later=APART) == [("recovered", end_of(4) - end_of(2))]


def test_a_recovery_is_counted_when_a_gap_is_given_up():
    """As far as will ever be known."""
    watcher = Watcher(run(1), run(2, FAILED), run(4))
    assert watcher.cannot_read(later=DAY) == [("missed", 1), ("recovered", end_of(4) - end_of(2))]


def test_many_runs_learnt_at_once_are_reckoned_in_order():
    """Whatever the list's order, and more than are kept."""
    watcher = Watcher(run(1), run(2, FAILED))
    last = 5 * KEPT
    watcher.sees(run(last, FAILED))
    assert watcher.state.series.failures == 2
    watcher.reads(*(run(number, FAILED) for number in range(last, 1, -1)))
    assert watcher.state.series.failures == last - 1
    assert watcher.state.series.broken_since == end_of(2)
    assert len(watcher.state.ended) == KEPT


def test_runs_stay_in_order_while_a_gap_is_open_for_long():
    """Those after it are kept, so that the one before them finds its place."""
    watcher = Watcher(run(1), run(2, FAILED))
    last = 3 * KEPT
    for number in range(4, last):
        watcher.sees(run(number, FAILED))
    assert watcher.reads(run(3)) == [("ended", "run-3", "success"), ("recovered", 100.0)]
    assert watcher.state.series.failures == last - 4
    assert watcher.state.series.broken_since == end_of(4)


# Series


def test_failures_in_a_row_are_counted_from_the_last_success():
    """Broken since the end of the first of them."""
    watcher = Watcher(run(1), run(2, FAILED), run(3, FAILED), run(4, FAILED))
    assert watcher.state.series.failures == 3
    assert watcher.state.series.broken_since == run(2).end
    assert watcher.state.series.last_success == run(1).end


@pytest.mark.parametrize("status", [Status.CANCELED, Status.IGNORED])
def test_canceled_and_ignored_runs_neither_count_nor_end_a_series(status):
    """They say nothing of whether it works."""
    watcher = Watcher(run(1, FAILED), run(2, status), run(3, FAILED), run(4, status))
    assert watcher.state.series.failures == 2
    assert watcher.state.series.broken_since == run(1).end
    assert watcher.sees(run(5)) == [
        ("ended", "run-5", "success"),
        ("recovered", end_of(5) - end_of(1)),
    ]


def test_a_success_that_ends_a_series_is_a_recovery():
    """It took from the end of the first failure to its own."""
    watcher = Watcher(run(1, FAILED), run(2, FAILED))
    assert watcher.sees(run(3)) == [("ended", "run-3", "success"), ("recovered", 200.0)]
    assert watcher.state.series.failures == 0
    assert watcher.state.series.broken_since is None
    assert watcher.sees(run(4)) == [("ended", "run-4", "success")]


@pytest.mark.parametrize(
    "success", [endless(run(2)), run(2, end=NOON)], ids=["without an end", "before the failure"]
)
def test_a_recovery_of_unknown_length_adds_no_time(success):
    """It is still a recovery."""
    watcher = Watcher(run(1, FAILED))
    assert watcher.sees(success) == [("ended", "run-2", "success"), ("recovered", 0.0)]


def test_a_success_without_an_end_keeps_the_time_of_the_one_before():
    """Late is better than absent."""
    watcher = Watcher(run(1), endless(run(2)))
    assert watcher.state.series.last_success == run(1).end


def test_a_failure_that_turns_into_success_by_a_retry_recovers():
    """It counts as a retry that succeeded, not as a second run."""
    watcher = Watcher(run(1), run(2, FAILED), run(2, RUNNING))
    again = run(2, end=end_of(2) + 70)
    assert watcher.sees(again) == [("retried", "run-2", "success"), ("recovered", 70.0)]
    assert watcher.state.series.failures == 0
    assert watcher.state.series.last_success == again.end


def test_a_success_that_turns_into_failure_by_a_retry_breaks_again():
    """The series is that of last ends; the success before it is the last one."""
    watcher = Watcher(run(1), run(2), run(2, RUNNING))
    assert watcher.sees(run(2, FAILED, end=NOON + 900)) == [("retried", "run-2", "failed")]
    assert watcher.state.series.failures == 1
    assert watcher.state.series.last_success == run(1).end


def test_a_series_longer_than_what_is_kept_is_counted_whole():
    """Old runs leave memory, not the count."""
    watcher = Watcher(run(1))
    runs = 3 * KEPT
    for number in range(2, 2 + runs):
        watcher.sees(run(number, FAILED))
    assert len(watcher.state.ended) == KEPT
    assert watcher.state.series.failures == runs
    assert watcher.state.series.broken_since == run(2).end
    assert watcher.state.series.last_success == run(1).end
    last = run(2 + runs)
    assert watcher.sees(last)[-1] == ("recovered", end_of(2 + runs) - end_of(2))


def test_the_newest_ended_runs_are_kept_by_falling_number():
    """As they ended last."""
    watcher = Watcher(run(1), run(2, FAILED), run(3), run(3, FAILED, end=NOON + 999))
    assert watcher.state.ended == (
        Ended("run-3", 3, FAILED, NOON + 999),
        Ended("run-2", 2, FAILED, run(2).end),
        Ended("run-1", 1, SUCCESS, run(1).end),
    )


# The law


class Polled(RuleBasedStateMachine):
    """A pipeline whose runs go their ways, and somebody who looks at its latest now and then, and at their list."""

    numbered = True

    def __init__(self) -> None:
        super().__init__()
        self.clock = NOON
        self.born = 0
        self.runs: dict[int, Run] = {}
        """Those that the provider knows, by place."""
        self.retries = 0
        self.state: State | None = None
        self.answered = NOON
        self.before = 0
        """The greatest number at first sight."""
        self.open_at_first: set[int] = set()
        """Runs from before that which were seen under way."""
        self.void = 0
        """Numbers that were found to have no run, less those that had one after all."""
        self.counted: list[Event] = []
        self.shown: dict[int, Run] = {}
        """By place: every run as the last answer that had it final showed it."""
        self.places: list[int] = []
        """The runs that were the latest, in the order in which they were."""
        self.wild = count(10**6, 10**6)
        """Numbers that are reported by mistake, each once."""

    def change(self, place: int, **changes: Any) -> None:
        """Something happens to a run."""
        self.clock += 10
        self.runs[place] = msgspec.structs.replace(self.runs[place], **changes)

    def begin(self, status: Status) -> int:
        """A new run; returns its place."""
        self.clock += 10
        self.born += 1
        number = self.born if self.numbered else None
        self.runs[self.born] = Run(id=f"run-{self.born}", number=number, status=status, start=self.clock)
        return self.born

    def number(self, place: int) -> int:
        """A run's number, by the provider or by the order in which runs were seen."""
        return place if self.numbered else self.places.index(place)

    @property
    def known(self) -> int:
        """How many runs are known to have been since first sight."""
        assert self.state is not None
        return self.state.high - self.before if self.numbered else len(self.places) - 1

    def takes(self, outcome: Outcome, *showing: Run) -> None:
        """Keep what an answer taught; it showed these runs."""
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
            self.void += voided(self.state) - voided(before)

    def shows(self, before: State | None, run: Run) -> None:
        """Note how an answer showed a run, if it is one to be accounted."""
        assert self.state is not None
        if self.state.leap is not None and self.state.leap.id == run.id:
            return
        place = int(run.id.removeprefix("run-"))
        if not self.numbered and place not in self.places:
            return
        if place <= self.before and any(one.id == run.id and not one.reopened for one in self.state.open):
            self.open_at_first.add(place)
        inside = place > self.before or place in self.open_at_first
        lost = before is not None and self.number(place) <= before.carried_to
        surveyed = before is None or before.survey
        if run.status.final and not lost and (inside or surveyed or place in self.shown):
            self.shown[place] = run

    @rule(status=st.sampled_from([Status.PENDING, RUNNING]))
    def begins(self, status):
        """A new run, whether or not the one before is over."""
        self.begin(status)

    @precondition(lambda self: self.runs and self.numbered)
    @rule()
    def a_number_is_skipped(self):
        """No run will have it."""
        self.born += 1

    @precondition(lambda self: self.runs)
    @rule(data=st.data(), status=st.sampled_from([status for status in Status if not status.final]))
    def goes_on(self, data, status):
        """A run that is under way changes its state."""
        place = data.draw(st.sampled_from(sorted(self.runs)))
        if not self.runs[place].status.final and status is not Status.UNKNOWN:
            self.change(place, status=status)

    @precondition(lambda self: self.runs)
    @rule(data=st.data(), status=st.sampled_from(ENDS), told=st.sampled_from([True, True, True, False]))
    def ends(self, data, status, told):
        """A run ends, and its end may not be told at once."""
        place = data.draw(st.sampled_from(sorted(self.runs)))
        if not self.runs[place].status.final:
            self.change(place, status=status, end=self.clock + 10 if told else None)

    @precondition(lambda self: self.runs and self.runs[max(self.runs)].status.final)
    @rule()
    def is_retried(self):
        """The latest goes on."""
        self.retries += 1
        self.change(max(self.runs), status=RUNNING, end=None)

    @precondition(lambda self: self.runs and self.runs[max(self.runs)].status is FAILED)
    @rule()
    def is_ignored(self):
        """The latest is told not to matter."""
        self.change(max(self.runs), status=Status.IGNORED)

    @precondition(lambda self: self.runs and self.runs[max(self.runs)].status.final)
    @rule()
    def end_is_told_late(self):
        """The end that was absent appears."""
        if self.runs[max(self.runs)].end is None:
            self.change(max(self.runs), end=self.clock)

    @precondition(lambda self: len(self.runs) > 1)
    @rule(data=st.data())
    def is_deleted(self, data):
        """Somebody deletes a run that is not the latest."""
        del self.runs[data.draw(st.sampled_from(sorted(self.runs)[:-1]))]

    @rule()
    def is_polled(self):
        """Somebody looks."""
        self.clock += 1
        run = self.runs[max(self.runs)] if self.runs else None
        first = self.state is None
        if first:
            self.before = max(self.runs, default=0)
        outcome = account(self.state, run, now=self.clock, answered=self.answered)
        assert not (first and outcome.events), "a first sight counts nothing"
        self.answered = self.clock
        place = max(self.runs, default=0)
        if place not in self.places and (place or first):
            self.places.append(place)
        self.takes(outcome, *([run] if run else []))

    @precondition(lambda self: self.numbered and self.state is not None and self.runs)
    @rule()
    def is_misread(self):
        """An answer has the latest run with a wild number."""
        self.clock += 1
        run = self.runs[max(self.runs)]
        misread = msgspec.structs.replace(run, number=next(self.wild))
        outcome = account(self.state, misread, now=self.clock, answered=self.answered)
        self.answered = self.clock
        self.takes(outcome, run)

    @rule(statuses=st.lists(st.sampled_from(ENDS), min_size=1, max_size=4))
    def some_pass(self, statuses):
        """Runs begin and end, and each is seen."""
        for status in statuses:
            self.change(self.begin(RUNNING), status=status, end=self.clock + 10)
            self.is_polled()

    @precondition(lambda self: self.state is not None)
    @rule(
        reach=st.sampled_from([Reach.COMPLETE, Reach.COMPLETE, Reach.CUT, Reach.BOUND]),
        order=st.randoms(),
        later=st.sampled_from([1, 300, APART]),
        misread=st.sampled_from([False, False, True]),
    )
    def the_list_is_read(self, reach, order, later, misread):
        """From the newest on, all of it or not; a row may have a wild number."""
        assert self.state is not None
        if not (self.state.wanted or self.state.survey or self.state.leap):
            return
        self.clock += later
        rows = [run for _, run in sorted(self.runs.items(), reverse=True)]
        if reach is not Reach.COMPLETE:
            rows = rows[: len(rows) // 2]
        order.shuffle(rows)
        told, showing = rows, rows
        if misread and self.numbered and rows:
            told = [msgspec.structs.replace(rows[0], number=next(self.wild)), *rows[1:]]
            seen: tuple[Open | Ended, ...] = (*self.state.open, *self.state.ended)
            showing = rows if rows[0].id in {one.id for one in seen} else rows[1:]
        self.takes(fill(self.state, told, reach, now=self.clock), *showing)

    @precondition(lambda self: self.state is not None)
    @rule(later=st.sampled_from([1, DAY / 2, DAY]))
    def the_list_cannot_be_read(self, later):
        """For long, or not."""
        assert self.state is not None
        self.clock += later
        self.takes(unread(self.state, now=self.clock))

    @precondition(lambda self: self.state is not None and self.state.hidden)
    @rule(data=st.data())
    def is_looked_up(self, data):
        """Somebody looks at a run that newer ones hide: it may have ended, still run, or be gone."""
        assert self.state is not None
        self.clock += 1
        one = data.draw(st.sampled_from(self.state.hidden))
        found = self.runs.get(int(one.id.removeprefix("run-")))
        self.takes(learn(self.state, one.id, found, now=self.clock), *([found] if found else []))

    @invariant()
    def no_run_is_lost_or_counted_twice(self):
        """Ended, missed, void, wanted and open runs are all numbers since first sight."""
        if self.state is None:
            return
        ended = Counter(event.run.id for event in self.counted if event.count is Count.ENDED and event.run)
        missed = sum(event.runs for event in self.counted if event.count is Count.MISSED)
        still = sum(not one.reopened for one in self.state.open)
        wanted = sum(gap.size for gap in self.state.wanted)
        assert set(ended.values()) <= {1}
        of_first = sum(place <= self.before for place in self.open_at_first)
        assert ended.total() + missed + self.void + wanted + still == self.known + of_first

    @invariant()
    def nothing_from_outside_is_counted(self):
        """What was over at first sight is none of ours."""
        for event in self.counted:
            if event.count is Count.ENDED and event.run is not None:
                place = int(event.run.id.removeprefix("run-"))
                assert place > self.before or place in self.open_at_first

    @invariant()
    def no_retry_is_invented(self):
        """Some are seen by nobody; none that did not happen."""
        retried = [event for event in self.counted if event.count is Count.RETRIED]
        assert len(retried) <= self.retries

    @invariant()
    def what_is_kept_has_bounds(self):
        """And no run is kept as ended or open twice."""
        if self.state is None:
            return
        assert len(self.state.hidden) <= rules.OPEN
        assert len(self.state.ended) <= rules.KEPT or self.state.wanted
        still = [one.id for one in self.state.open]
        assert len(set(still)) == len(still)
        ended = {one.id for one in self.state.ended}
        assert not {one.id for one in self.state.open if not one.reopened} & ended
        for gap, following in pairwise(self.state.wanted):
            assert gap.first <= gap.last < following.first

    @invariant()
    def the_series_is_that_of_the_answers(self):
        """What it amounts to is what one would reckon from all ends that were shown."""
        if self.state is None:
            return
        failures, broken_since, last_success = 0, None, None
        for _, run in sorted(self.shown.items()):
            if run.status is SUCCESS:
                failures, broken_since = 0, None
                last_success = run.end if run.end is not None else last_success
            elif run.status is FAILED:
                broken_since = broken_since if failures else run.end
                failures += 1
        series = self.state.series
        assert (series.failures, series.broken_since, series.last_success) == (
            failures,
            broken_since,
            last_success,
        )
        assert self.state.finished == (self.shown[max(self.shown)] if self.shown else None)

    def teardown(self):
        """In the end everything is learnt: all runs that still exist are counted, and nothing is open."""
        if self.state is None:
            return
        for place, run in self.runs.items():
            if not run.status.final:
                self.change(place, status=SUCCESS, end=self.clock)
        self.is_polled()
        for _ in range(2):
            self.clock += APART
            rows = list(self.runs.values())
            self.takes(fill(self.state, rows, Reach.COMPLETE, now=self.clock), *rows)
        for one in self.state.hidden:
            found = self.runs.get(int(one.id.removeprefix("run-")))
            self.takes(learn(self.state, one.id, found, now=self.clock), *([found] if found else []))
        assert not self.state.open
        assert not self.state.wanted
        if self.numbered and not any(event.count is Count.MISSED for event in self.counted):
            counted = {event.run.id for event in self.counted if event.count is Count.ENDED and event.run}
            inside = {run.id for place, run in self.runs.items() if place > self.before}
            assert inside <= counted
        self.no_run_is_lost_or_counted_twice()
        self.the_series_is_that_of_the_answers()


class PolledWithoutNumbers(Polled):
    """The same, of a provider that gives no numbers."""

    numbered = False


def voided(state: State) -> int:
    """How many numbers are taken to have no run, and were not missed."""
    return sum(gap.size for gap in state.void if not gap.missed)


def law_holds(machine: type[Polled], steps: int) -> None:
    """Try many lives of a pipeline, of so many steps each."""
    run_state_machine_as_test(
        machine,
        settings=settings(max_examples=6000 // steps, stateful_step_count=steps, deadline=None),
    )


@pytest.mark.parametrize("machine", [Polled, PolledWithoutNumbers])
@pytest.mark.parametrize("steps", [30, 150])
def test_whatever_the_runs_do_and_whenever_it_is_polled_the_law_holds(steps, machine):
    """Ended, missed, void, wanted and open runs are all since first sight, and the series is that of the answers."""
    law_holds(machine, steps)


def test_the_law_holds_at_the_bounds_of_what_is_kept(monkeypatch):
    """With room for few runs only, so that they are met all the time."""
    monkeypatch.setattr(rules, "KEPT", 3)
    monkeypatch.setattr(rules, "OPEN", 2)
    law_holds(Polled, 50)
