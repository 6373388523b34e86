"""When runs are asked for that no answer about the latest tells: soon, then ever more rarely, and never for nothing."""

import math
from collections.abc import Iterable

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exporter.tracking.ledger import APART, Gap, InitialScan, LedgerState, OpenRun
from exporter.tracking.ledger.search import DAY
from exporter.tracking.lookups import LONGEST, DueLookups, LookupSchedule

NOON = 1_700_000_000.0
LISTING = DueLookups(listing=True)
NOTHING = DueLookups()


def unknown(
    *numbers: int, hidden: Iterable[str] = (), initial_scan: int = 0, lacking: Iterable[int] = ()
) -> LedgerState:
    """A state in which these numbers are wanted and these runs hide; some numbers a complete reading lacked."""
    absent = dict.fromkeys(lacking, NOON)
    return LedgerState(
        high=1000,
        latest="latest",
        missing_numbers=tuple(
            Gap(number, number, NOON, absent=absent.get(number)) for number in sorted(numbers)
        ),
        open=tuple(OpenRun(identity, 1, NOON, hidden=NOON) for identity in hidden),
        initial_scan=InitialScan(initial_scan, NOON) if initial_scan else None,
    )


class Asker:
    """Looks for the runs of one pipeline, and a clock."""

    def __init__(self, state: LedgerState, *, interval: float = 60.0) -> None:
        self.now = 1000.0
        self.backfill = LookupSchedule(interval)
        self.state = state
        self.follows(state)

    def follows(self, state: LedgerState) -> None:
        """A poll taught this."""
        self.state = state
        self.backfill.follow(state, self.now)

    @property
    def idle(self) -> bool:
        """Whether nothing will ever be due."""
        return self.backfill.earliest == math.inf

    def waits(self, seconds: float) -> None:
        self.now += seconds

    def asks(self) -> DueLookups:
        return self.backfill.due(self.now)

    def reads(self, state: LedgerState, *told: str) -> None:
        """The list was read, and told these runs; this is what is known since."""
        self.state = state
        self.backfill.listed(frozenset(told), state, self.now)

    def cannot_read(self) -> None:
        """The list could not be read, which taught nothing."""
        self.backfill.not_listed(self.state, self.now)

    def looks(self, *runs: str, state: LedgerState | None = None) -> None:
        """Runs were looked up, or could not be; this is what is known since."""
        self.state = self.state if state is None else state
        for run in runs:
            self.backfill.looked_up(run, self.state, self.now)

    def silence(self) -> float:
        """Wait until something is to be asked for; returns how long that was, by a poll every five seconds."""
        epoch_start = self.now
        while self.asks() == NOTHING:
            self.waits(5)
            self.follows(self.state)
            assert self.now - epoch_start < 10 * LONGEST, "never asks again"
        return self.now - epoch_start


# What is asked, and when first


def test_nothing_is_due_if_nothing_is_unknown():
    asker = Asker(msgspec.structs.replace(unknown(), open=(OpenRun("latest", 1000, NOON),)))
    for _ in range(100):
        assert (asker.asks(), asker.idle) == (NOTHING, True)
        asker.waits(60)
        asker.follows(asker.state)


@pytest.mark.parametrize(
    "state", [unknown(7), unknown(3, 4, 9), unknown(initial_scan=9)], ids=["one", "more", "first sight"]
)
def test_list_is_due_at_once_for_gaps_and_the_initial_scan(state):
    asker = Asker(unknown())
    asker.follows(state)
    assert (asker.asks(), asker.idle) == (LISTING, False)


def test_nothing_is_due_once_everything_is_known():
    read = Asker(unknown(7, initial_scan=9))
    read.reads(unknown())
    told = Asker(unknown(7, hidden=["a"]))
    told.follows(unknown())
    looked = Asker(unknown(hidden=["a"]))
    looked.looks("a", state=unknown())
    for asker in (read, told, looked):
        assert asker.idle
        asker.waits(2 * LONGEST)
        assert asker.asks() == NOTHING


def test_hidden_run_is_due_after_an_interval():
    asker = Asker(unknown(hidden=["a"]))
    assert asker.silence() == 60
    assert asker.asks() == DueLookups(runs=("a",))


def test_two_hidden_runs_are_looked_up_with_the_list():
    """One page instead of a request for each."""
    asker = Asker(unknown(hidden=["a", "b"]))
    assert asker.silence() == 60
    assert asker.asks() == LISTING


def test_single_due_hidden_run_is_looked_up_alone():
    asker = Asker(unknown(hidden=["a"]))
    asker.waits(30)
    asker.follows(unknown(hidden=["a", "b"]))
    asker.waits(30)
    assert asker.asks() == DueLookups(runs=("a",))


def test_hidden_run_that_the_list_lacks_is_looked_up_alone():
    asker = Asker(unknown(hidden=["a", "b", "c", "d"]))
    asker.waits(60)
    asker.reads(asker.state, "a", "d", "e")
    assert asker.asks() == DueLookups(runs=("b", "c"))
    asker.looks("b", "c")
    assert asker.silence() == 120
    assert asker.asks() == DueLookups(listing=True, runs=("b", "c"))
    asker.reads(asker.state, "a", "d")
    asker.looks("b", "c")
    assert asker.silence() == 240
    assert asker.asks() == DueLookups(listing=True, runs=("b", "c"))


def test_list_read_for_a_gap_serves_hidden_runs_as_well():
    asker = Asker(unknown(7, hidden=["a", "b"]))
    asker.waits(60)
    assert asker.asks() == LISTING
    asker.reads(unknown(hidden=["a", "b"]), "a")
    assert asker.asks() == DueLookups(runs=("b",))
    early = Asker(unknown(7, hidden=["a"]))
    early.reads(unknown(hidden=["a"]))
    assert early.silence() == 60
    assert early.asks() == DueLookups(runs=("a",))


def test_list_read_before_hidden_runs_were_due_does_not_mark_them_as_lacking():
    asker = Asker(unknown(7, hidden=["a", "b"]))
    asker.reads(unknown(hidden=["a", "b"]))
    assert asker.silence() == 60
    assert asker.asks() == LISTING


def test_run_that_is_hidden_again_is_due_after_another_interval():
    asker = Asker(unknown(hidden=["a"]))
    asker.waits(50)
    asker.follows(unknown())
    asker.follows(unknown(hidden=["a"]))
    assert asker.silence() == 60


# How often


def pauses(asker: Asker, count: int) -> list[float]:
    """How long it is silent between asks that teach nothing."""
    found = []
    for _ in range(count):
        found.append(asker.silence())
        asks = asker.asks()
        if asks.listing:
            asker.reads(asker.state)
        asker.looks(*asks.runs)
    return found


def test_pauses_double_from_the_interval_to_a_quarter_of_an_hour():
    assert pauses(Asker(unknown(hidden=["a"])), 7) == [60, 120, 240, 480, 900, 900, 900]
    assert pauses(Asker(unknown(7)), 7) == [0, 120, 240, 480, 900, 900, 900]
    assert pauses(Asker(unknown(hidden=["a"]), interval=10.0), 4) == [10, 20, 40, 80]


def test_pauses_are_at_most_a_quarter_of_an_hour_with_a_long_interval():
    assert pauses(Asker(unknown(hidden=["a"]), interval=7200.0), 3) == [LONGEST] * 3
    assert LONGEST == 900


def test_new_gap_makes_the_list_due_at_once():
    asker = Asker(unknown(7))
    pauses(asker, 5)
    asker.waits(100)
    asker.follows(unknown(7, 12))
    assert asker.asks() == LISTING
    asker.reads(unknown(7))
    assert asker.silence() >= 120


def test_rest_of_a_gap_is_not_a_new_gap():
    asker = Asker(unknown(7, 8, 9))
    asker.reads(unknown(7, 9))
    asker.follows(unknown(7))
    assert asker.silence() == 120


def test_gap_of_a_new_numbering_makes_the_list_due_at_once():
    """Its numbers are lower than those of the old numbering."""
    asker = Asker(unknown(500))
    pauses(asker, 5)
    asker.follows(unknown(initial_scan=2))
    asker.follows(unknown(3, initial_scan=2))
    assert asker.asks() == LISTING


def test_second_reading_is_due_as_soon_as_it_can_prove_absence():
    asker = Asker(unknown(7, 8))
    asker.reads(unknown(7, 8, lacking=[7, 8]))
    silence = asker.silence()
    assert APART < silence <= APART + 10
    asker.reads(unknown())
    assert asker.idle


def test_new_gap_next_to_an_absent_one_makes_the_list_due_at_once():
    asker = Asker(unknown(7))
    asker.reads(unknown(7, lacking=[7]))
    asker.waits(60)
    asker.follows(unknown(7, 12, lacking=[7]))
    assert asker.asks() == LISTING
    asker.reads(unknown(7, 12, lacking=[7, 12]))
    assert APART < asker.silence() <= APART + 10


def test_partial_reading_next_to_an_absent_number_is_repeated_sooner():
    asker = Asker(unknown(7, 12))
    asker.reads(unknown(7, 12, lacking=[7]))
    assert asker.silence() == 120


def test_pauses_start_over_once_everything_was_known():
    asker = Asker(unknown(7, hidden=["a"]))
    pauses(asker, 8)
    asker.follows(unknown())
    asker.follows(unknown(9, hidden=["b"]))
    assert asker.asks() == LISTING
    asker.reads(unknown(hidden=["b"]))
    assert asker.silence() == 60


# While the list cannot be read


def test_failing_list_is_read_with_growing_pauses():
    asker = Asker(unknown(7))
    found = []
    for _ in range(6):
        found.append(asker.silence())
        assert asker.asks() == LISTING
        asker.cannot_read()
    assert found == [0, 120, 240, 480, 900, 900]


def test_new_gaps_do_not_hasten_a_failing_list():
    asker = Asker(unknown(7))
    asker.cannot_read()
    for number in range(8, 20):
        asker.waits(5)
        asker.follows(unknown(*range(7, number + 1)))
        assert asker.asks() == NOTHING
    assert asker.silence() == 60
    asker.reads(unknown(7))
    asker.follows(unknown(7, 30))
    assert asker.asks() == LISTING


def test_hidden_runs_are_looked_up_one_by_one_while_the_list_fails():
    asker = Asker(unknown(7, hidden=["a", "b"]))
    asker.cannot_read()
    asker.waits(60)
    assert asker.asks() == DueLookups(runs=("a", "b"))
    alone = Asker(unknown(hidden=["a", "b"]))
    alone.waits(60)
    assert alone.asks() == LISTING
    alone.cannot_read()
    assert alone.asks() == DueLookups(runs=("a", "b"))


# The law


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
    asker = Asker(unknown(), interval=interval)
    for what, state, told, seconds in steps:
        asks = asker.asks()
        if what == "poll" or asks == NOTHING:
            asker.follows(state)
        elif what == "fail":
            if asks.listing:
                asker.cannot_read()
            asker.looks(*asks.runs)
        else:
            if asks.listing:
                asker.reads(state, *told)
            asker.looks(*asks.runs, state=state)
        asker.waits(seconds)
        asks, known = asker.asks(), asker.state
        hidden = {one.id for one in known.hidden}
        assert set(asks.runs) <= hidden
        assert not asks.listing or known.missing_numbers or known.initial_scan or len(hidden) > 1
        assert asker.idle is not bool(known.missing_numbers or known.initial_scan or hidden)
        later = asker.backfill.due(asker.now + LONGEST)
        assert asker.idle or later != NOTHING


@given(
    state=states.filter(lambda state: state.unresolved or state.initial_scan),
    broken=st.booleans(),
    poll=st.floats(15, 60),
)
@settings(deadline=None, max_examples=30)
def test_unavailable_runs_cost_few_requests_a_day(state, broken, poll):
    """Some in the first hour, then four an hour."""
    asker = Asker(state)
    asked = {"the list": 0, **dict.fromkeys((one.id for one in state.hidden), 0)}
    end = asker.now + DAY
    while asker.now < end:
        asks = asker.asks()
        if asks.listing:
            asked["the list"] += 1
            if broken:
                asker.cannot_read()
            else:
                # One look at the list is enough for what was under way at first sight.
                asker.reads(msgspec.structs.replace(asker.state, initial_scan=0))
        for run in asks.runs:
            asked[run] += 1
            asker.looks(run)
        asker.waits(poll)
        asker.follows(asker.state)
    # A number that was just lacking is looked for after ten minutes: the ledger needs no more than two such readings.
    assert all(count <= DAY / APART + 5 for count in asked.values()), asked
    missing_numbers = asker.state.missing_numbers or asker.state.initial_scan
    assert all(count > 80 for name, count in asked.items() if missing_numbers or name != "the list"), asked


def test_hidden_runs_use_the_list_again_after_a_past_failure():
    asker = Asker(unknown(hidden=["a", "b"]))
    asker.waits(60)
    assert asker.asks() == LISTING
    asker.cannot_read()
    asker.looks("a", "b", state=unknown())
    assert asker.idle
    asker.waits(86_400)
    asker.follows(unknown(hidden=list("cdefghij")))
    asker.waits(60)
    assert asker.asks() == LISTING
