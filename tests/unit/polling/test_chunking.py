"""What batches promise, whatever the cloud takes: a simulated cloud that refuses lists by length and by poison."""

import math
import random
from collections import Counter
from collections.abc import Sequence

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exporter.polling.strategies.chunking import (
    FIRST_WAIT,
    LONGEST_WAIT,
    MOST_REFUSALS,
    PROBE_INTERVAL,
    RETRIED_IDS,
    ChunkPlan,
    ChunkSizer,
    Limit,
)

NOON = 1_700_000_000.0
MINUTE = 60.0
WORDS = "DEVPIPE.00011136"
DICE = st.integers(0, 1_000_000).map(random.Random)
"""Drawn from a seed, since polls throw more often than hypothesis likes to record."""


class Cloud(msgspec.Struct):
    """Takes lists of at most so many ids, none of them poison; fails without a conclusion now and then."""

    limit: int = 10_000
    poison: set[str] = set()
    failing: float = 0.0
    everything: bool = False
    """Whether it refuses everything."""
    unreadable: set[str] = set()
    """Ids that no answer can be read with."""
    nameless: set[str] = set()
    """Ids whose record names none, so that the answer leaves open of which of the `silent` ids it is."""
    silent: set[str] = set()
    """Ids that never ran: there is no record of them."""

    def refuses(self, chunk: Sequence[str]) -> bool:
        return self.everything or len(chunk) > self.limit or any(each in self.poison for each in chunk)

    def unclear(self, chunk: Sequence[str]) -> list[str]:
        if self.nameless.isdisjoint(chunk):
            return []
        return [each for each in chunk if each in self.nameless | self.silent]


class PollOutcome(msgspec.Struct):
    """What a poll came to."""

    plan: ChunkPlan
    sent: list[tuple[str, ...]] = []
    accepted: list[str] = []
    failed: list[str] = []
    unreadable: list[str] = []
    """Ids that were not accepted for what could not be read, refused or failed later or not."""

    @property
    def sizes(self) -> list[int]:
        return [len(chunk) for chunk in self.sent]


def names(count: int) -> list[str]:
    return [f"p{number}" for number in range(count)]


def poll(
    batches: ChunkSizer,
    ids: Sequence[str],
    cloud: Cloud,
    now: float = NOON,
    *,
    concurrency: int = 4,
    dice: random.Random | None = None,
) -> PollOutcome:
    """One poll, as a caller does it: answers come in any order, or in that of the requests if there are no dice."""
    plan = batches.poll(ids, now)
    outcome = PollOutcome(plan)
    under_way: list[Sequence[str]] = []
    while True:
        while len(under_way) < concurrency and (chunk := plan.next()) is not None:
            under_way.append(chunk)
            outcome.sent.append(tuple(chunk))
            assert outcome.accepted or len(under_way) == 1, "one alone until the first acceptance"
        if not under_way:
            assert plan.next() is None, "the end is the end"
            return outcome
        chunk = under_way.pop(dice.randrange(len(under_way)) if dice else 0)
        if dice and dice.random() < cloud.failing:
            outcome.failed += chunk
            plan.failed(chunk)
        elif cloud.refuses(chunk):
            plan.refused(chunk, WORDS)
        elif not cloud.unreadable.isdisjoint(chunk):
            if not plan.unreadable(chunk, "invalid") or len(chunk) == 1:
                outcome.unreadable += chunk
        else:
            unclear = cloud.unclear(chunk)
            outcome.accepted += [each for each in chunk if each not in unclear]
            outcome.unreadable += unclear
            plan.accepted(chunk, unclear)


def extra(chunk_size: int) -> float:
    """How many requests more than needed one poll may cost."""
    return 4 * math.log2(chunk_size) + 8


def check(
    outcome: PollOutcome, ids: Sequence[str], cloud: Cloud, *, fresh: int, size: int, chunk_size: int
) -> None:
    """The laws that hold for any poll, which began with chunks of `size` and `fresh` ids that nobody had refused."""
    plan = outcome.plan
    ends = [*outcome.accepted, *outcome.failed, *plan.quarantined, *plan.unanswered, *plan.skipped]
    assert Counter(ends) == Counter(ids), "each id ends in one way"
    assert all(1 <= length <= chunk_size for length in outcome.sizes)
    assert len(outcome.sent) - math.ceil(len(ids) / size) <= extra(chunk_size)
    assert not set(plan.skipped) & {each for chunk in outcome.sent for each in chunk}
    if plan.quarantined:
        assert outcome.accepted
        assert not plan.hopeless
    if plan.hopeless:
        assert not outcome.accepted
    if plan.unanswered and outcome.accepted:
        needed = math.ceil(fresh / size)
        assert len(outcome.sent) >= needed + int(extra(chunk_size)) - 1, "what can be asked, is"
    if not cloud.everything:
        assert set(plan.quarantined) <= cloud.poison, "nobody is singled out who is not refused"


@given(
    chunk_size=st.integers(1, 70),
    count=st.integers(0, 400),
    weathers=st.lists(
        st.tuples(
            st.integers(1, 80),
            st.sampled_from([0.0, 0.0, 0.005, 0.05, 0.3, 1.0]),
            st.sampled_from([0.0, 0.0, 0.1, 0.5]),
            st.integers(0, 9).map(lambda number: number == 0),
        ),
        min_size=1,
        max_size=8,
    ),
    concurrency=st.integers(1, 12),
    pause=st.sampled_from([MINUTE, FIRST_WAIT, LONGEST_WAIT]),
    dice=DICE,
)
@settings(deadline=None, max_examples=300)
def test_every_id_ends_in_one_way_at_a_bounded_cost(
    chunk_size: int,
    count: int,
    weathers: list[tuple[int, float, float, bool]],
    concurrency: int,
    pause: float,
    dice: random.Random,
) -> None:
    """Whatever the cloud takes, refuses and forgets to answer from poll to poll, in whatever order."""
    batches = ChunkSizer(chunk_size)
    now = NOON
    for limit, poisoned, failing, everything in weathers:
        ids = [name for name in names(count) if dice.random() < 0.9]
        cloud = Cloud(limit, {name for name in ids if dice.random() < poisoned}, failing, everything)
        size = batches.limit.size
        fresh = len(set(ids) - set(batches.refusals))
        outcome = poll(batches, ids, cloud, now, concurrency=concurrency, dice=dice)
        check(outcome, ids, cloud, fresh=fresh, size=size, chunk_size=chunk_size)
        assert 1 <= batches.limit.size < batches.limit.too_large <= chunk_size + 1
        if not outcome.accepted:
            assert batches.limit.size == size
        now += pause


@given(
    chunk_size=st.integers(1, 70),
    count=st.integers(1, 300),
    limit=st.integers(1, 80),
    concurrency=st.integers(1, 12),
    data=st.data(),
    dice=DICE,
)
@settings(deadline=None, max_examples=200)
def test_all_but_the_poison_are_accepted_in_the_end(
    chunk_size: int, count: int, limit: int, concurrency: int, data: st.DataObject, dice: random.Random
) -> None:
    """Once the limit is found and the poison singled out, a poll costs what it must."""
    ids = names(count)
    poison = set(data.draw(st.lists(st.sampled_from(ids), max_size=min(count - 1, 6))))
    cloud = Cloud(limit, poison)
    batches = ChunkSizer(chunk_size)
    for number in range(58):
        outcome = poll(batches, ids, cloud, NOON + number * MINUTE, concurrency=concurrency, dice=dice)
    assert set(outcome.accepted) == set(ids) - poison
    assert set(outcome.plan.skipped) == poison
    best = min(limit, chunk_size)
    # As many as the best size, or as many chunks as it would take, plus the one that tries more.
    assert len(outcome.sent) <= math.ceil(len(ids) / best) + 1


@given(
    poison=st.integers(0, 499),
    concurrency=st.integers(1, 60),
    dice=DICE,
)
@settings(deadline=None, max_examples=40)
def test_an_unknown_limit_and_a_poison_id_at_once(poison: int, concurrency: int, dice: random.Random) -> None:
    """500 ids, chunks of 50, a cloud that takes 30 and dislikes one id: found in one poll, exact after seven."""
    ids = names(500)
    cloud = Cloud(30, {ids[poison]})
    batches = ChunkSizer(50)
    for number in range(1, 151):
        now = NOON + number * MINUTE
        outcome = poll(batches, ids, cloud, now, concurrency=concurrency, dice=dice)
        assert set(outcome.accepted) == set(ids) - cloud.poison
        if number == 1:
            assert outcome.plan.quarantined == (ids[poison],)
        if number == 2:
            assert len(outcome.sent) <= math.ceil(500 / 25) + 3
        if number >= 8:
            assert len(outcome.sent) <= math.ceil(500 / 30) + 2
            assert batches.limit.size == 30


@given(
    chunk_size=st.integers(1, 200),
    count=st.integers(0, 1000),
    concurrency=st.integers(1, 12),
    dice=DICE,
)
@settings(deadline=None)
def test_a_cloud_that_takes_everything_gets_full_chunks(
    chunk_size: int, count: int, concurrency: int, dice: random.Random
) -> None:
    """No request more than needed, each id once, in every poll."""
    ids = names(count)
    batches = ChunkSizer(chunk_size)
    for number in range(2 * PROBE_INTERVAL):
        outcome = poll(batches, ids, Cloud(), NOON + number, concurrency=concurrency, dice=dice)
        assert [each for chunk in outcome.sent for each in chunk] == ids
        assert len(outcome.sent) == math.ceil(count / chunk_size)


@given(
    chunk_size=st.integers(1, 200),
    count=st.integers(1, 1000),
    limit=st.integers(1, 200),
    dice=DICE,
)
@settings(deadline=None)
def test_a_project_that_is_refused_whole_is_hopeless(
    chunk_size: int, count: int, limit: int, dice: random.Random
) -> None:
    """A few requests a poll, nobody singled out, and nothing believed about sizes."""
    ids = names(count)
    batches = ChunkSizer(chunk_size)
    for number in range(3):
        poll(batches, ids, Cloud(limit), NOON, dice=dice)
        learnt = batches.limit
        outcome = poll(batches, ids, Cloud(everything=True), NOON + number * MINUTE, dice=dice)
        assert outcome.plan.hopeless
        assert len(outcome.sent) <= math.log2(chunk_size) + 4
        assert set(outcome.plan.unanswered) == set(ids)
        assert outcome.plan.quarantined == ()
        assert batches.limit == learnt
        assert not batches.refusals


def test_poison_first_and_last_does_not_make_a_project_hopeless_for_good():
    """The two ids that were tried may be the only bad ones: the next poll tries others."""
    ids = names(200)
    batches = ChunkSizer(50)
    cloud = Cloud(poison={ids[0], ids[-1]})
    assert poll(batches, ids, cloud).plan.hopeless
    second = poll(batches, ids, cloud)
    assert not second.plan.hopeless
    assert set(second.accepted) == set(ids) - cloud.poison


def test_different_refusals_do_not_make_a_project_hopeless():
    """Two ids refused alone for different reasons are two bad ids until a third repeats one of the reasons."""
    plan = ChunkSizer(1).poll(["a", "b", "c"], NOON)
    for words in ("gone", "forbidden"):
        chunk = plan.next()
        assert chunk
        plan.refused(chunk, words)
        assert not plan.hopeless
    chunk = plan.next()
    assert chunk
    plan.accepted(chunk)
    assert plan.next() is None
    assert set(plan.quarantined) == {"a", "c"}


def test_a_poison_id_does_not_lower_the_limit():
    """A refused chunk with a bad id in it says nothing about size, also where the limit is known."""
    ids = names(300)
    batches = ChunkSizer(50)
    poll(batches, ids, Cloud(poison={"p123"}))
    assert batches.limit == Limit(50, 51, 50)
    for _ in range(10):
        poll(batches, ids, Cloud(30))
    assert batches.limit == Limit(30, 31, 50)
    poll(batches, ids, Cloud(30, {"p7"}))
    assert batches.limit == Limit(30, 31, 50)


def test_a_chunk_whose_parts_fail_does_not_lower_the_limit():
    """What was not answered proves nothing."""
    batches = ChunkSizer(4)
    plan = batches.poll(names(8), NOON)
    chunk = plan.next()
    assert chunk
    plan.accepted(chunk)
    chunk = plan.next()
    assert chunk
    plan.refused(chunk, WORDS)
    for end in (plan.accepted, plan.failed):
        chunk = plan.next()
        assert chunk
        end(chunk)
    assert plan.next() is None
    assert plan.unanswered == ()
    assert batches.limit == Limit(4, 5, 4)


def test_the_limit_is_bisected_one_probe_a_poll():
    """The way from 50 to 30, by the greatest chunk of each poll and what was known after it."""
    ids = names(500)
    batches = ChunkSizer(50)
    path = []
    for number in range(7):
        outcome = poll(batches, ids, Cloud(30), NOON + number * MINUTE)
        path.append((max(outcome.sizes), len(outcome.sent), batches.limit.size, batches.limit.too_large))
    assert path == [
        (50, 21, 25, 50),
        (37, 21, 25, 37),
        (31, 21, 25, 31),
        (28, 19, 28, 31),
        (29, 18, 29, 31),
        (30, 17, 30, 31),
        (30, 17, 30, 31),
    ]


def test_a_known_limit_is_tried_upward_now_and_then():
    """Once in so many polls one chunk is one id longer, which costs one request."""
    batches = ChunkSizer(50)
    for _ in range(6):
        poll(batches, names(500), Cloud(30))
    larger = [max(poll(batches, names(500), Cloud(30)).sizes) == 31 for _ in range(3 * PROBE_INTERVAL)]
    assert sum(larger) == 3


def test_a_cloud_that_takes_less_is_followed():
    """A size that was good before is given up when it proves too large, in the first poll, with all ids accepted."""
    ids = names(500)
    batches = ChunkSizer(50)
    for _ in range(3):
        poll(batches, ids, Cloud())
    for limit in (30, 11, 1):
        outcome = poll(batches, ids, Cloud(limit))
        assert batches.limit.size <= limit
        for _ in range(30):
            outcome = poll(batches, ids, Cloud(limit))
        assert set(outcome.accepted) == set(ids)
        assert batches.limit.size == limit


def test_a_cloud_that_takes_more_is_found_again():
    ids = names(500)
    batches = ChunkSizer(50)
    for limit in (1, 12, 37, 100):
        for _ in range(PROBE_INTERVAL + 8):
            outcome = poll(batches, ids, Cloud(limit))
        assert set(outcome.accepted) == set(ids)
        assert batches.limit.size == min(limit, 50)


def test_poison_in_different_chunks_costs_only_itself():
    """Two bad ids in different chunks are singled out in one poll, and left out of the next."""
    ids = names(500)
    cloud = Cloud(poison={"p60", "p444"})
    batches = ChunkSizer(50)
    first = poll(batches, ids, cloud)
    assert set(first.plan.quarantined) == cloud.poison
    assert set(first.accepted) == set(ids) - cloud.poison
    second = poll(batches, ids, cloud, NOON + MINUTE)
    assert set(second.plan.skipped) == cloud.poison
    assert len(second.sent) == 10


def test_more_poison_than_one_poll_can_afford_is_found_in_several():
    """The ids that were not reached are told as unasked, and each poll gets further."""
    ids = names(500)
    cloud = Cloud(poison=set(ids[::25]))
    batches = ChunkSizer(50)
    unasked = []
    for number in range(20):
        outcome = poll(batches, ids, cloud, NOON + number * MINUTE)
        unasked.append(len(outcome.plan.unanswered))
    assert unasked[0] > 0
    assert unasked[-1] == 0
    assert set(outcome.accepted) == set(ids) - cloud.poison


def test_a_refused_id_is_asked_about_again_alone_and_rarely():
    """After an hour, then after twice as long, up to a day; it returns to the batches when it is accepted."""
    ids = names(100)
    cloud = Cloud(poison={"p42"})
    batches = ChunkSizer(50)
    minute = 60
    alone = []
    for number in range(0, 3 * 24 * minute, 10):
        outcome = poll(batches, ids, cloud, NOON + number * MINUTE)
        holding = [chunk for chunk in outcome.sent if "p42" in chunk]
        if number and holding:
            assert holding == [("p42",)]
            alone.append(number / minute)
    assert alone == [1, 3, 7, 15, 31, 55]
    cloud = Cloud()
    now = NOON + 31 * 24 * minute * MINUTE
    assert ("p42",) in poll(batches, ids, cloud, now).sent
    assert poll(batches, ids, cloud, now + MINUTE).sizes == [50, 50]


def test_asking_again_costs_at_most_two_requests_a_poll():
    """However many are due, those that are due longest first; the others stay skipped."""
    ids = names(200)
    batches = ChunkSizer(50)
    for number, name in enumerate(("p9", "p3", "p77")):
        poll(batches, ids, Cloud(poison={name}), NOON + number)
    later = NOON + LONGEST_WAIT
    outcome = poll(batches, ids, Cloud(), later)
    assert outcome.sent[-RETRIED_IDS:] == [("p9",), ("p3",)]
    assert outcome.plan.skipped == ("p77",)
    assert len(outcome.sent) == 4 + RETRIED_IDS
    assert poll(batches, ids, Cloud(), later).sent[-1] == ("p77",)


def test_the_only_id_of_a_poll_is_not_singled_out():
    """Refused alone, with nothing else accepted, it says as much about the project as about itself."""
    batches = ChunkSizer(50)
    outcome = poll(batches, ["a"], Cloud(poison={"a"}))
    assert outcome.plan.hopeless
    assert outcome.plan.unanswered == ("a",)
    assert not batches.refusals


@given(
    chunk_size=st.integers(2, 70),
    count=st.integers(30, 400),
    limit=st.sampled_from([10_000, 30]),
    silent=st.sampled_from([0.0, 0.2, 0.9]),
    concurrency=st.integers(1, 12),
    nameless=st.booleans(),
    dice=DICE,
)
@settings(deadline=None, max_examples=100)
def test_unreadable_id_is_singled_out_by_the_second_poll(
    chunk_size: int,
    count: int,
    limit: int,
    silent: float,
    concurrency: int,
    nameless: bool,
    dice: random.Random,
) -> None:
    """From the third on all others are accepted at one request more; it is accepted in the poll after it is readable."""
    ids = names(count)
    quiet = {name for name in ids if dice.random() < silent}
    batches = ChunkSizer(chunk_size)
    for _ in range(10):
        poll(batches, ids, Cloud(limit, silent=quiet), concurrency=concurrency, dice=dice)
    bad = {dice.choice(ids)}
    cloud = Cloud(
        limit,
        silent=quiet - bad,
        nameless=bad if nameless else set(),
        unreadable=set() if nameless else bad,
    )
    size = batches.limit.size
    for number in range(6):
        outcome = poll(batches, ids, cloud, concurrency=concurrency, dice=dice)
        assert len(outcome.sent) - math.ceil(count / size) <= extra(chunk_size)
        if number:
            assert set(outcome.accepted) == set(ids) - bad
            assert batches.unverified == set()
            assert set(batches.refusals) == bad
        if number > 1:
            assert [chunk for chunk in outcome.sent if bad.intersection(chunk)] == [tuple(bad)]
            # One more, beside those of a chunk that tries more than the limit.
            assert len(outcome.sent) <= math.ceil(count / size) + 1 + 3 * (limit < chunk_size)
            assert outcome.plan.quarantined == outcome.plan.unanswered == outcome.plan.skipped == ()
    healed = poll(batches, ids, Cloud(limit, silent=quiet), concurrency=concurrency, dice=dice)
    assert set(healed.accepted) == set(ids)
    assert not batches.refusals


def test_unreadable_ids_are_polled_alone_in_turn_and_in_refreshes_only():
    """Two a refresh whatever there are; refused ones that are due come in addition."""
    ids = names(100)
    batches = ChunkSizer(50)
    poll(batches, ids, Cloud(poison={"p1"}))
    cloud = Cloud(unreadable={"p9", "p3", "p77"}, poison={"p1"})
    for number in range(4):
        poll(batches, ids, cloud, NOON + number)
    assert set(batches.refusals) == {"p1", "p3", "p9", "p77"}
    rounds = [poll(batches, ids, cloud, NOON + number) for number in range(4, 7)]
    for outcome in rounds:
        assert sorted(outcome.sizes) == [1, 1, 46, 50]
    alone = Counter(chunk[0] for outcome in rounds for chunk in outcome.sent if len(chunk) == 1)
    assert alone == {"p3": 2, "p9": 2, "p77": 2}
    assert sorted(poll(batches, ids, cloud, NOON + FIRST_WAIT).sizes) == [1, 1, 1, 46, 50]
    plan = batches.poll(ids, NOON, refresh=False)
    assert set(plan.skipped) == {"p1", "p3", "p9", "p77"}


def test_answer_that_is_unreadable_once_is_a_failure():
    """What is read in between makes it the first time again."""
    ids = names(10)
    batches = ChunkSizer(50)
    for _ in range(3):
        assert not poll(batches, ids, Cloud(unreadable={"p3"})).plan.quarantined
        assert poll(batches, ids, Cloud()).sent == [tuple(ids)]


def test_cloud_whose_answers_are_all_unreadable_singles_out_no_id():
    batches = ChunkSizer(50)
    ids = names(200)
    for number in range(4):
        outcome = poll(batches, ids, Cloud(unreadable=set(ids)))
        assert outcome.plan.hopeless is (number > 0)
        assert len(outcome.sent) <= math.log2(50) + 4
    assert not batches.refusals


def test_refused_ids_are_remembered_within_a_bound():
    batches = ChunkSizer(50)
    for number in range(MOST_REFUSALS + 5):
        batches.quarantine(f"p{number}", NOON)
    assert len(batches.refusals) == MOST_REFUSALS
    assert "p0" not in batches.refusals


def test_an_id_given_twice_is_asked_about_once():
    assert poll(ChunkSizer(50), ["a", "b", "a"], Cloud()).sent == [("a", "b")]


@pytest.mark.parametrize(
    ("limit", "size", "taken", "refused"),
    [
        (Limit(50, 51, 50), 50, Limit(50, 51, 50), Limit(25, 50, 50)),
        (Limit(25, 50, 50), 37, Limit(37, 50, 50), Limit(25, 37, 50)),
        (Limit(25, 50, 50), 12, Limit(25, 50, 50), Limit(6, 12, 50)),
        (Limit(30, 31, 50), 31, Limit(31, 51, 50), Limit(30, 31, 50)),
        (Limit(1, 2, 50), 2, Limit(2, 51, 50), Limit(1, 2, 50)),
    ],
)
def test_what_a_size_teaches(limit: Limit, size: int, taken: Limit, refused: Limit) -> None:
    """A size known to be taken replaces a smaller one and what contradicts it, and so does one known too large."""
    assert limit.accepted(size) == taken
    assert limit.refused(size) == refused
