"""Schedule of look-ups: soon, then with growing pauses, and only for what is unknown."""

import math
from collections.abc import Iterable

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.tracking.ledger import APART, Extent, Gap, InitialScan, LedgerState, OpenRun, Streak
from exporter.tracking.ledger.search import DAY
from exporter.tracking.lookups import LONGEST, DueLookups, LookupSchedule
from tests.marks import examples

NOON = 1_700_000_000.0
LISTING = DueLookups(listing=True)
NOTHING = DueLookups()


def unknown(
    *numbers: int, hidden: Iterable[str] = (), initial_scan: int = 0, lacking: Iterable[int] = ()
) -> LedgerState:
    """Return a state with missing numbers, hidden runs, and numbers that a complete reading lacked."""
    absent = dict.fromkeys(lacking, NOON)
    return LedgerState(
        high=1000,
        latest="latest",
        missing_numbers=tuple(
            Gap(number, number, NOON, absent=absent.get(number)) for number in sorted(numbers)
        ),
        open=tuple(OpenRun(identity, 1, NOON, hidden=NOON) for identity in hidden),
        initial_scan=InitialScan(initial_scan, NOON) if initial_scan else None,
        streak=Streak(extent=Extent.WHOLE),
    )


class Scheduled:
    """A schedule and its clock."""

    def __init__(self, state: LedgerState, *, interval: float = 60.0) -> None:
        self.now = 1000.0
        self.schedule = LookupSchedule(interval)
        self.state = state
        self.follows(state)

    def follows(self, state: LedgerState) -> None:
        """Apply the state after a poll."""
        self.state = state
        self.schedule.follow(state, self.now)

    @property
    def idle(self) -> bool:
        """Return whether no look-up is scheduled."""
        return self.schedule.earliest == math.inf

    def waits(self, seconds: float) -> None:
        self.now += seconds

    def due(self) -> DueLookups:
        return self.schedule.due(self.now)

    def reads(self, state: LedgerState, *listed: str) -> None:
        """Apply a reading of the list with these runs, and the state after it."""
        self.state = state
        self.schedule.listed(frozenset(listed), state, self.now)

    def cannot_read(self) -> None:
        """Apply a failure to read the list."""
        self.schedule.not_listed(self.state, self.now)

    def looks(self, *runs: str, state: LedgerState | None = None) -> None:
        """Apply look-ups, and the state after them."""
        self.state = self.state if state is None else state
        for run in runs:
            self.schedule.looked_up(run, self.state, self.now)

    def pause(self) -> float:
        """Wait until something is due, with a check every five seconds; return the seconds."""
        start = self.now
        while self.due() == NOTHING:
            self.waits(5)
            self.follows(self.state)
            assert self.now - start < 10 * LONGEST, "nothing is due any more"
        return self.now - start


# First look-ups


def test_nothing_is_due_if_nothing_is_unknown():
    scheduled = Scheduled(msgspec.structs.replace(unknown(), open=(OpenRun("latest", 1000, NOON),)))
    for _ in range(100):
        assert (scheduled.due(), scheduled.idle) == (NOTHING, True)
        scheduled.waits(60)
        scheduled.follows(scheduled.state)


@pytest.mark.parametrize(
    "state", [unknown(7), unknown(3, 4, 9), unknown(initial_scan=9)], ids=["one", "more", "first sight"]
)
def test_list_is_due_at_once_for_gaps_and_the_initial_scan(state):
    scheduled = Scheduled(unknown())
    scheduled.follows(state)
    assert (scheduled.due(), scheduled.idle) == (LISTING, False)


def test_nothing_is_due_once_everything_is_known():
    read = Scheduled(unknown(7, initial_scan=9))
    read.reads(unknown())
    listed = Scheduled(unknown(7, hidden=["a"]))
    listed.follows(unknown())
    looked = Scheduled(unknown(hidden=["a"]))
    looked.looks("a", state=unknown())
    for scheduled in (read, listed, looked):
        assert scheduled.idle
        scheduled.waits(2 * LONGEST)
        assert scheduled.due() == NOTHING


def test_hidden_run_is_due_after_an_interval():
    scheduled = Scheduled(unknown(hidden=["a"]))
    assert scheduled.pause() == 60
    assert scheduled.due() == DueLookups(runs=("a",))


def test_two_hidden_runs_are_looked_up_with_the_list():
    """One page of the list replaces a request for each run."""
    scheduled = Scheduled(unknown(hidden=["a", "b"]))
    assert scheduled.pause() == 60
    assert scheduled.due() == LISTING


def test_single_due_hidden_run_is_looked_up_alone():
    scheduled = Scheduled(unknown(hidden=["a"]))
    scheduled.waits(30)
    scheduled.follows(unknown(hidden=["a", "b"]))
    scheduled.waits(30)
    assert scheduled.due() == DueLookups(runs=("a",))


def test_hidden_run_that_the_list_lacks_is_looked_up_alone():
    scheduled = Scheduled(unknown(hidden=["a", "b", "c", "d"]))
    scheduled.waits(60)
    scheduled.reads(scheduled.state, "a", "d", "e")
    assert scheduled.due() == DueLookups(runs=("b", "c"))
    scheduled.looks("b", "c")
    assert scheduled.pause() == 120
    assert scheduled.due() == DueLookups(listing=True, runs=("b", "c"))
    scheduled.reads(scheduled.state, "a", "d")
    scheduled.looks("b", "c")
    assert scheduled.pause() == 240
    assert scheduled.due() == DueLookups(listing=True, runs=("b", "c"))


def test_list_read_for_a_gap_serves_hidden_runs_as_well():
    scheduled = Scheduled(unknown(7, hidden=["a", "b"]))
    scheduled.waits(60)
    assert scheduled.due() == LISTING
    scheduled.reads(unknown(hidden=["a", "b"]), "a")
    assert scheduled.due() == DueLookups(runs=("b",))
    early = Scheduled(unknown(7, hidden=["a"]))
    early.reads(unknown(hidden=["a"]))
    assert early.pause() == 60
    assert early.due() == DueLookups(runs=("a",))


def test_list_read_before_hidden_runs_were_due_does_not_mark_them_as_lacking():
    scheduled = Scheduled(unknown(7, hidden=["a", "b"]))
    scheduled.reads(unknown(hidden=["a", "b"]))
    assert scheduled.pause() == 60
    assert scheduled.due() == LISTING


def test_run_that_is_hidden_again_is_due_after_another_interval():
    scheduled = Scheduled(unknown(hidden=["a"]))
    scheduled.waits(50)
    scheduled.follows(unknown())
    scheduled.follows(unknown(hidden=["a"]))
    assert scheduled.pause() == 60


# Pauses


def pauses(scheduled: Scheduled, count: int) -> list[float]:
    """Return the pauses between look-ups that find nothing."""
    found = []
    for _ in range(count):
        found.append(scheduled.pause())
        due = scheduled.due()
        if due.listing:
            scheduled.reads(scheduled.state)
        scheduled.looks(*due.runs)
    return found


def test_pauses_double_from_the_interval_to_a_quarter_of_an_hour():
    assert pauses(Scheduled(unknown(hidden=["a"])), 7) == [60, 120, 240, 480, 900, 900, 900]
    assert pauses(Scheduled(unknown(7)), 7) == [0, 120, 240, 480, 900, 900, 900]
    assert pauses(Scheduled(unknown(hidden=["a"]), interval=10.0), 4) == [10, 20, 40, 80]


def test_pauses_are_at_most_a_quarter_of_an_hour_with_a_long_interval():
    assert pauses(Scheduled(unknown(hidden=["a"]), interval=7200.0), 3) == [LONGEST] * 3
    assert LONGEST == 900


def test_new_gap_makes_the_list_due_at_once():
    scheduled = Scheduled(unknown(7))
    pauses(scheduled, 5)
    scheduled.waits(100)
    scheduled.follows(unknown(7, 12))
    assert scheduled.due() == LISTING
    scheduled.reads(unknown(7))
    assert scheduled.pause() >= 120


def test_rest_of_a_gap_is_not_a_new_gap():
    scheduled = Scheduled(unknown(7, 8, 9))
    scheduled.reads(unknown(7, 9))
    scheduled.follows(unknown(7))
    assert scheduled.pause() == 120


def test_gap_of_a_new_numbering_makes_the_list_due_at_once():
    """Its numbers are lower than those of the old numbering."""
    scheduled = Scheduled(unknown(500))
    pauses(scheduled, 5)
    scheduled.follows(unknown(initial_scan=2))
    scheduled.follows(unknown(3, initial_scan=2))
    assert scheduled.due() == LISTING


def test_second_reading_is_due_as_soon_as_it_can_prove_absence():
    scheduled = Scheduled(unknown(7, 8))
    scheduled.reads(unknown(7, 8, lacking=[7, 8]))
    silence = scheduled.pause()
    assert APART < silence <= APART + 10
    scheduled.reads(unknown())
    assert scheduled.idle


def test_new_gap_next_to_an_absent_one_makes_the_list_due_at_once():
    scheduled = Scheduled(unknown(7))
    scheduled.reads(unknown(7, lacking=[7]))
    scheduled.waits(60)
    scheduled.follows(unknown(7, 12, lacking=[7]))
    assert scheduled.due() == LISTING
    scheduled.reads(unknown(7, 12, lacking=[7, 12]))
    assert APART < scheduled.pause() <= APART + 10


def test_partial_reading_next_to_an_absent_number_is_repeated_sooner():
    scheduled = Scheduled(unknown(7, 12))
    scheduled.reads(unknown(7, 12, lacking=[7]))
    assert scheduled.pause() == 120


def test_pauses_start_over_once_everything_was_known():
    scheduled = Scheduled(unknown(7, hidden=["a"]))
    pauses(scheduled, 8)
    scheduled.follows(unknown())
    scheduled.follows(unknown(9, hidden=["b"]))
    assert scheduled.due() == LISTING
    scheduled.reads(unknown(hidden=["b"]))
    assert scheduled.pause() == 60


# Failing lists


def test_failing_list_is_read_with_growing_pauses():
    scheduled = Scheduled(unknown(7))
    found = []
    for _ in range(6):
        found.append(scheduled.pause())
        assert scheduled.due() == LISTING
        scheduled.cannot_read()
    assert found == [0, 120, 240, 480, 900, 900]


def test_new_gaps_do_not_hasten_a_failing_list():
    scheduled = Scheduled(unknown(7))
    scheduled.cannot_read()
    for number in range(8, 20):
        scheduled.waits(5)
        scheduled.follows(unknown(*range(7, number + 1)))
        assert scheduled.due() == NOTHING
    assert scheduled.pause() == 60
    scheduled.reads(unknown(7))
    scheduled.follows(unknown(7, 30))
    assert scheduled.due() == LISTING


def test_hidden_runs_are_looked_up_one_by_one_while_the_list_fails():
    scheduled = Scheduled(unknown(7, hidden=["a", "b"]))
    scheduled.cannot_read()
    scheduled.waits(60)
    assert scheduled.due() == DueLookups(runs=("a", "b"))
    alone = Scheduled(unknown(hidden=["a", "b"]))
    alone.waits(60)
    assert alone.due() == LISTING
    alone.cannot_read()
    assert alone.due() == DueLookups(runs=("a", "b"))


# Invariants


states = st.builds(
    lambda numbers, hidden, initial_scan, lacking: unknown(
        *numbers, hidden=hidden, initial_scan=initial_scan, lacking=numbers & lacking
    ),
    st.sets(st.integers(1, 6), max_size=3),
    st.lists(st.sampled_from("abcd"), unique=True, max_size=3),
    st.sampled_from([0, 0, 9]),
    st.sets(st.integers(1, 6)),
)
steps = st.lists(
    st.tuples(
        st.sampled_from(["poll", "answer", "fail"]),
        states,
        st.sets(st.sampled_from("abcd")),
        st.floats(0, 1200),
    ),
    max_size=20,
)


@given(steps=steps, interval=st.sampled_from([5.0, 60.0, 3600.0]))
def test_everything_unknown_is_due_within_a_quarter_of_an_hour_and_nothing_else(steps, interval):
    scheduled = Scheduled(unknown(), interval=interval)
    for kind, state, listed, seconds in steps:
        due = scheduled.due()
        if kind == "poll" or due == NOTHING:
            scheduled.follows(state)
        elif kind == "fail":
            if due.listing:
                scheduled.cannot_read()
            scheduled.looks(*due.runs)
        else:
            if due.listing:
                scheduled.reads(state, *listed)
            scheduled.looks(*due.runs, state=state)
        scheduled.waits(seconds)
        due, known = scheduled.due(), scheduled.state
        hidden = {one.id for one in known.hidden}
        assert set(due.runs) <= hidden
        assert not due.listing or known.missing_numbers or known.initial_scan or len(hidden) > 1
        assert scheduled.idle is not bool(known.missing_numbers or known.initial_scan or hidden)
        later = scheduled.schedule.due(scheduled.now + LONGEST)
        assert scheduled.idle or later != NOTHING


@given(
    state=states.filter(lambda state: state.unresolved or state.initial_scan),
    broken=st.booleans(),
    poll=st.floats(15, 60),
)
@examples(30)
def test_unavailable_runs_cost_few_requests_a_day(state, broken, poll):
    """There are some requests in the first hour, then four an hour."""
    scheduled = Scheduled(state)
    asked = {"the list": 0, **dict.fromkeys((one.id for one in state.hidden), 0)}
    end = scheduled.now + DAY
    while scheduled.now < end:
        due = scheduled.due()
        if due.listing:
            asked["the list"] += 1
            if broken:
                scheduled.cannot_read()
            else:
                # The initial scan reads the list once.
                scheduled.reads(msgspec.structs.replace(scheduled.state, initial_scan=0))
        for run in due.runs:
            asked[run] += 1
            scheduled.looks(run)
        scheduled.waits(poll)
        scheduled.follows(scheduled.state)
    # A number that a reading lacked is searched again after ten minutes; two readings are enough.
    assert all(count <= DAY / APART + 5 for count in asked.values()), asked
    missing_numbers = scheduled.state.missing_numbers or scheduled.state.initial_scan
    assert all(count > 80 for name, count in asked.items() if missing_numbers or name != "the list"), asked


def test_hidden_runs_use_the_list_again_after_a_past_failure():
    scheduled = Scheduled(unknown(hidden=["a", "b"]))
    scheduled.waits(60)
    assert scheduled.due() == LISTING
    scheduled.cannot_read()
    scheduled.looks("a", "b", state=unknown())
    assert scheduled.idle
    scheduled.waits(86_400)
    scheduled.follows(unknown(hidden=list("cdefghij")))
    scheduled.waits(60)
    assert scheduled.due() == LISTING
