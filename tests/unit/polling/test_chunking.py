"""Chunks against a simulated cloud that refuses lists by their length and by bad ids."""

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
from tests.marks import examples

NOON = 1_700_000_000.0
MINUTE = 60.0
CODE = "DEVPIPE.00011136"
DICE = st.integers(0, 1_000_000).map(random.Random)
"""Random sources by seed, because a poll draws more numbers than hypothesis can record well."""


class Cloud(msgspec.Struct):
    """Accepts lists of at most `limit` ids without a bad one; some requests fail for other reasons."""

    limit: int = 10_000
    bad: set[str] = set()
    failing: float = 0.0
    everything: bool = False
    """Whether the cloud refuses every list."""
    unreadable: set[str] = set()
    """Ids that make the response to any list with them unreadable."""
    nameless: set[str] = set()
    """Ids whose record has no id, so that it may belong to any of the `silent` ids."""
    silent: set[str] = set()
    """Ids that never ran and have no record."""

    def refuses(self, chunk: Sequence[str]) -> bool:
        return self.everything or len(chunk) > self.limit or any(each in self.bad for each in chunk)

    def unclear(self, chunk: Sequence[str]) -> list[str]:
        if self.nameless.isdisjoint(chunk):
            return []
        return [each for each in chunk if each in self.nameless | self.silent]


class Result(msgspec.Struct):
    """Result of a poll."""

    plan: ChunkPlan
    sent: list[tuple[str, ...]] = []
    accepted: list[str] = []
    failed: list[str] = []
    unreadable: list[str] = []
    """Ids in unreadable responses, including those that were refused or failed later."""

    @property
    def sizes(self) -> list[int]:
        return [len(chunk) for chunk in self.sent]


def names(count: int) -> list[str]:
    return [f"p{number}" for number in range(count)]


def poll(
    sizer: ChunkSizer,
    ids: Sequence[str],
    cloud: Cloud,
    now: float = NOON,
    *,
    concurrency: int = 4,
    dice: random.Random | None = None,
) -> Result:
    """Run one poll as a caller does; responses come in random order or, without `dice`, in that of the requests."""
    plan = sizer.poll(ids, now)
    result = Result(plan)
    in_flight: list[Sequence[str]] = []
    while True:
        while len(in_flight) < concurrency and (chunk := plan.next()) is not None:
            in_flight.append(chunk)
            result.sent.append(tuple(chunk))
            assert result.accepted or len(in_flight) == 1, "one chunk in flight until the first acceptance"
        if not in_flight:
            assert plan.next() is None, "no chunk after the end"
            return result
        chunk = in_flight.pop(dice.randrange(len(in_flight)) if dice else 0)
        if dice and dice.random() < cloud.failing:
            result.failed += chunk
            plan.failed(chunk)
        elif cloud.refuses(chunk):
            plan.refused(chunk, CODE)
        elif not cloud.unreadable.isdisjoint(chunk):
            if not plan.unreadable(chunk, "invalid") or len(chunk) == 1:
                result.unreadable += chunk
        else:
            unclear = cloud.unclear(chunk)
            result.accepted += [each for each in chunk if each not in unclear]
            result.unreadable += unclear
            plan.accepted(chunk, unclear)


def extra(chunk_size: int) -> float:
    """Return how many extra requests one poll may send."""
    return 4 * math.log2(chunk_size) + 8


def check(
    result: Result, ids: Sequence[str], cloud: Cloud, *, fresh: int, size: int, chunk_size: int
) -> None:
    """Assert the invariants of a poll that began with chunks of `size`, and with `fresh` ids not in quarantine."""
    plan = result.plan
    ends = [*result.accepted, *result.failed, *plan.quarantined, *plan.unanswered, *plan.skipped]
    assert Counter(ends) == Counter(ids), "each id ends in one way"
    assert all(1 <= length <= chunk_size for length in result.sizes)
    assert len(result.sent) - math.ceil(len(ids) / size) <= extra(chunk_size)
    assert not set(plan.skipped) & {each for chunk in result.sent for each in chunk}
    if plan.quarantined:
        assert result.accepted
        assert not plan.hopeless
    if plan.hopeless:
        assert not result.accepted
    if plan.unanswered and result.accepted:
        needed = math.ceil(fresh / size)
        assert len(result.sent) >= needed + int(extra(chunk_size)) - 1, "all allowed requests are used"
    if not cloud.everything:
        assert set(plan.quarantined) <= cloud.bad, "only bad ids are quarantined"


@given(
    chunk_size=st.integers(1, 70),
    count=st.integers(0, 400),
    conditions=st.lists(
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
@examples(300)
def test_every_id_ends_in_one_way_with_limited_requests(
    chunk_size: int,
    count: int,
    conditions: list[tuple[int, float, float, bool]],
    concurrency: int,
    pause: float,
    dice: random.Random,
) -> None:
    """Test any sequence of accepted, refused and unanswered requests."""
    sizer = ChunkSizer(chunk_size)
    now = NOON
    for limit, spoiled, failing, everything in conditions:
        ids = [name for name in names(count) if dice.random() < 0.9]
        cloud = Cloud(limit, {name for name in ids if dice.random() < spoiled}, failing, everything)
        size = sizer.limit.size
        fresh = len(set(ids) - set(sizer.refusals))
        result = poll(sizer, ids, cloud, now, concurrency=concurrency, dice=dice)
        check(result, ids, cloud, fresh=fresh, size=size, chunk_size=chunk_size)
        assert 1 <= sizer.limit.size < sizer.limit.too_large <= chunk_size + 1
        if not result.accepted:
            assert sizer.limit.size == size
        now += pause


@given(
    chunk_size=st.integers(1, 70),
    count=st.integers(1, 300),
    limit=st.integers(1, 80),
    concurrency=st.integers(1, 12),
    data=st.data(),
    dice=DICE,
)
@examples(200)
def test_all_but_the_bad_ids_are_accepted_in_the_end(
    chunk_size: int, count: int, limit: int, concurrency: int, data: st.DataObject, dice: random.Random
) -> None:
    """From then on, a poll sends only the requests that it needs."""
    ids = names(count)
    bad = set(data.draw(st.lists(st.sampled_from(ids), max_size=min(count - 1, 6))))
    cloud = Cloud(limit, bad)
    sizer = ChunkSizer(chunk_size)
    for number in range(58):
        result = poll(sizer, ids, cloud, NOON + number * MINUTE, concurrency=concurrency, dice=dice)
    assert set(result.accepted) == set(ids) - bad
    assert set(result.plan.skipped) == bad
    best = min(limit, chunk_size)
    # As many chunks as the best size takes, and one more for the probe.
    assert len(result.sent) <= math.ceil(len(ids) / best) + 1


@given(
    bad=st.integers(0, 499),
    concurrency=st.integers(1, 60),
    dice=DICE,
)
@examples(40)
def test_limit_and_bad_id_are_found_together(bad: int, concurrency: int, dice: random.Random) -> None:
    """500 ids, chunks of 50, a cloud that accepts 30: the bad id is found in one poll, the limit is exact after seven."""
    ids = names(500)
    cloud = Cloud(30, {ids[bad]})
    sizer = ChunkSizer(50)
    for number in range(1, 151):
        now = NOON + number * MINUTE
        result = poll(sizer, ids, cloud, now, concurrency=concurrency, dice=dice)
        assert set(result.accepted) == set(ids) - cloud.bad
        if number == 1:
            assert result.plan.quarantined == (ids[bad],)
        if number == 2:
            assert len(result.sent) <= math.ceil(500 / 25) + 3
        if number >= 8:
            assert len(result.sent) <= math.ceil(500 / 30) + 2
            assert sizer.limit.size == 30


@given(
    chunk_size=st.integers(1, 200),
    count=st.integers(0, 1000),
    concurrency=st.integers(1, 12),
    dice=DICE,
)
@settings(deadline=None)
def test_cloud_that_accepts_everything_gets_full_chunks(
    chunk_size: int, count: int, concurrency: int, dice: random.Random
) -> None:
    ids = names(count)
    sizer = ChunkSizer(chunk_size)
    for number in range(2 * PROBE_INTERVAL):
        result = poll(sizer, ids, Cloud(), NOON + number, concurrency=concurrency, dice=dice)
        assert [each for chunk in result.sent for each in chunk] == ids
        assert len(result.sent) == math.ceil(count / chunk_size)


@given(
    chunk_size=st.integers(1, 200),
    count=st.integers(1, 1000),
    limit=st.integers(1, 200),
    dice=DICE,
)
@settings(deadline=None)
def test_poll_of_a_refused_project_is_hopeless(
    chunk_size: int, count: int, limit: int, dice: random.Random
) -> None:
    """A hopeless poll takes few requests, quarantines no id and does not change the limit."""
    ids = names(count)
    sizer = ChunkSizer(chunk_size)
    for number in range(3):
        poll(sizer, ids, Cloud(limit), NOON, dice=dice)
        limit_before = sizer.limit
        result = poll(sizer, ids, Cloud(everything=True), NOON + number * MINUTE, dice=dice)
        assert result.plan.hopeless
        assert len(result.sent) <= math.log2(chunk_size) + 4
        assert set(result.plan.unanswered) == set(ids)
        assert result.plan.quarantined == ()
        assert sizer.limit == limit_before
        assert not sizer.refusals


def test_poll_after_a_hopeless_one_begins_with_another_id():
    """The two ids that were tried may be the only bad ones."""
    ids = names(200)
    sizer = ChunkSizer(50)
    cloud = Cloud(bad={ids[0], ids[-1]})
    assert poll(sizer, ids, cloud).plan.hopeless
    second = poll(sizer, ids, cloud)
    assert not second.plan.hopeless
    assert set(second.accepted) == set(ids) - cloud.bad


def test_different_refusals_do_not_make_a_poll_hopeless():
    plan = ChunkSizer(1).poll(["a", "b", "c"], NOON)
    for code in ("gone", "forbidden"):
        chunk = plan.next()
        assert chunk
        plan.refused(chunk, code)
        assert not plan.hopeless
    chunk = plan.next()
    assert chunk
    plan.accepted(chunk)
    assert plan.next() is None
    assert set(plan.quarantined) == {"a", "c"}


def test_bad_id_does_not_lower_the_limit():
    ids = names(300)
    sizer = ChunkSizer(50)
    poll(sizer, ids, Cloud(bad={"p123"}))
    assert sizer.limit == Limit(50, 51, 50)
    for _ in range(10):
        poll(sizer, ids, Cloud(30))
    assert sizer.limit == Limit(30, 31, 50)
    poll(sizer, ids, Cloud(30, {"p7"}))
    assert sizer.limit == Limit(30, 31, 50)


def test_refused_chunk_with_a_failed_half_does_not_lower_the_limit():
    sizer = ChunkSizer(4)
    plan = sizer.poll(names(8), NOON)
    chunk = plan.next()
    assert chunk
    plan.accepted(chunk)
    chunk = plan.next()
    assert chunk
    plan.refused(chunk, CODE)
    for end in (plan.accepted, plan.failed):
        chunk = plan.next()
        assert chunk
        end(chunk)
    assert plan.next() is None
    assert plan.unanswered == ()
    assert sizer.limit == Limit(4, 5, 4)


def test_limit_is_bisected_with_one_probe_a_poll():
    """From 50 to 30: largest chunk, requests, and limits after each poll."""
    ids = names(500)
    sizer = ChunkSizer(50)
    path = []
    for number in range(7):
        result = poll(sizer, ids, Cloud(30), NOON + number * MINUTE)
        path.append((max(result.sizes), len(result.sent), sizer.limit.size, sizer.limit.too_large))
    assert path == [
        (50, 21, 25, 50),
        (37, 21, 25, 37),
        (31, 21, 25, 31),
        (28, 19, 28, 31),
        (29, 18, 29, 31),
        (30, 17, 30, 31),
        (30, 17, 30, 31),
    ]


def test_one_chunk_exceeds_the_exact_limit_every_twenty_polls():
    sizer = ChunkSizer(50)
    for _ in range(6):
        poll(sizer, names(500), Cloud(30))
    larger = [max(poll(sizer, names(500), Cloud(30)).sizes) == 31 for _ in range(3 * PROBE_INTERVAL)]
    assert sum(larger) == 3


def test_limit_falls_in_one_poll_if_the_cloud_accepts_less():
    ids = names(500)
    sizer = ChunkSizer(50)
    for _ in range(3):
        poll(sizer, ids, Cloud())
    for limit in (30, 11, 1):
        result = poll(sizer, ids, Cloud(limit))
        assert sizer.limit.size <= limit
        for _ in range(30):
            result = poll(sizer, ids, Cloud(limit))
        assert set(result.accepted) == set(ids)
        assert sizer.limit.size == limit


def test_limit_rises_if_the_cloud_accepts_more():
    ids = names(500)
    sizer = ChunkSizer(50)
    for limit in (1, 12, 37, 100):
        for _ in range(PROBE_INTERVAL + 8):
            result = poll(sizer, ids, Cloud(limit))
        assert set(result.accepted) == set(ids)
        assert sizer.limit.size == min(limit, 50)


def test_bad_ids_in_different_chunks_are_quarantined_in_one_poll():
    ids = names(500)
    cloud = Cloud(bad={"p60", "p444"})
    sizer = ChunkSizer(50)
    first = poll(sizer, ids, cloud)
    assert set(first.plan.quarantined) == cloud.bad
    assert set(first.accepted) == set(ids) - cloud.bad
    second = poll(sizer, ids, cloud, NOON + MINUTE)
    assert set(second.plan.skipped) == cloud.bad
    assert len(second.sent) == 10


def test_many_bad_ids_are_found_in_several_polls():
    """Ids that a poll did not reach are unanswered."""
    ids = names(500)
    cloud = Cloud(bad=set(ids[::25]))
    sizer = ChunkSizer(50)
    unasked = []
    for number in range(20):
        result = poll(sizer, ids, cloud, NOON + number * MINUTE)
        unasked.append(len(result.plan.unanswered))
    assert unasked[0] > 0
    assert unasked[-1] == 0
    assert set(result.accepted) == set(ids) - cloud.bad


def test_quarantined_id_is_retried_alone_with_growing_pauses():
    """After an hour, then after twice as long, up to a day. Once accepted it returns to the chunks."""
    ids = names(100)
    cloud = Cloud(bad={"p42"})
    sizer = ChunkSizer(50)
    minute = 60
    alone = []
    for number in range(0, 3 * 24 * minute, 10):
        result = poll(sizer, ids, cloud, NOON + number * MINUTE)
        holding = [chunk for chunk in result.sent if "p42" in chunk]
        if number and holding:
            assert holding == [("p42",)]
            alone.append(number / minute)
    assert alone == [1, 3, 7, 15, 31, 55]
    cloud = Cloud()
    now = NOON + 31 * 24 * minute * MINUTE
    assert ("p42",) in poll(sizer, ids, cloud, now).sent
    assert poll(sizer, ids, cloud, now + MINUTE).sizes == [50, 50]


def test_at_most_two_quarantined_ids_are_retried_in_a_poll():
    """Those due for longest are first."""
    ids = names(200)
    sizer = ChunkSizer(50)
    for number, name in enumerate(("p9", "p3", "p77")):
        poll(sizer, ids, Cloud(bad={name}), NOON + number)
    later = NOON + LONGEST_WAIT
    result = poll(sizer, ids, Cloud(), later)
    assert result.sent[-RETRIED_IDS:] == [("p9",), ("p3",)]
    assert result.plan.skipped == ("p77",)
    assert len(result.sent) == 4 + RETRIED_IDS
    assert poll(sizer, ids, Cloud(), later).sent[-1] == ("p77",)


def test_only_id_of_a_poll_is_not_quarantined():
    """Its refusal may as well be due to the project."""
    sizer = ChunkSizer(50)
    result = poll(sizer, ["a"], Cloud(bad={"a"}))
    assert result.plan.hopeless
    assert result.plan.unanswered == ("a",)
    assert not sizer.refusals


@given(
    chunk_size=st.integers(2, 70),
    count=st.integers(30, 400),
    limit=st.sampled_from([10_000, 30]),
    silent=st.sampled_from([0.0, 0.2, 0.9]),
    concurrency=st.integers(1, 12),
    nameless=st.booleans(),
    dice=DICE,
)
@examples(100)
def test_unreadable_id_is_quarantined_by_the_second_poll(
    chunk_size: int,
    count: int,
    limit: int,
    silent: float,
    concurrency: int,
    nameless: bool,
    dice: random.Random,
) -> None:
    """From the third poll on all others are accepted with one request more. The id returns in the poll after it is readable."""
    ids = names(count)
    quiet = {name for name in ids if dice.random() < silent}
    sizer = ChunkSizer(chunk_size)
    for _ in range(10):
        poll(sizer, ids, Cloud(limit, silent=quiet), concurrency=concurrency, dice=dice)
    bad = {dice.choice(ids)}
    cloud = Cloud(
        limit,
        silent=quiet - bad,
        nameless=bad if nameless else set(),
        unreadable=set() if nameless else bad,
    )
    size = sizer.limit.size
    for number in range(6):
        result = poll(sizer, ids, cloud, concurrency=concurrency, dice=dice)
        assert len(result.sent) - math.ceil(count / size) <= extra(chunk_size)
        if number:
            assert set(result.accepted) == set(ids) - bad
            assert sizer.unverified == set()
            assert set(sizer.refusals) == bad
        if number > 1:
            assert [chunk for chunk in result.sent if bad.intersection(chunk)] == [tuple(bad)]
            # One more, in addition to those of a probe.
            assert len(result.sent) <= math.ceil(count / size) + 1 + 3 * (limit < chunk_size)
            assert result.plan.quarantined == result.plan.unanswered == result.plan.skipped == ()
    healed = poll(sizer, ids, Cloud(limit, silent=quiet), concurrency=concurrency, dice=dice)
    assert set(healed.accepted) == set(ids)
    assert not sizer.refusals


def test_unreadable_ids_are_polled_alone_in_turn_and_in_refreshes_only():
    """A refresh polls two of them; refused ids that are due are polled in addition."""
    ids = names(100)
    sizer = ChunkSizer(50)
    poll(sizer, ids, Cloud(bad={"p1"}))
    cloud = Cloud(unreadable={"p9", "p3", "p77"}, bad={"p1"})
    for number in range(4):
        poll(sizer, ids, cloud, NOON + number)
    assert set(sizer.refusals) == {"p1", "p3", "p9", "p77"}
    rounds = [poll(sizer, ids, cloud, NOON + number) for number in range(4, 7)]
    for result in rounds:
        assert sorted(result.sizes) == [1, 1, 46, 50]
    alone = Counter(chunk[0] for result in rounds for chunk in result.sent if len(chunk) == 1)
    assert alone == {"p3": 2, "p9": 2, "p77": 2}
    assert sorted(poll(sizer, ids, cloud, NOON + FIRST_WAIT).sizes) == [1, 1, 1, 46, 50]
    plan = sizer.poll(ids, NOON, refresh=False)
    assert set(plan.skipped) == {"p1", "p3", "p9", "p77"}


def test_answer_that_is_unreadable_once_is_a_failure():
    """A readable answer in between resets the count."""
    ids = names(10)
    sizer = ChunkSizer(50)
    for _ in range(3):
        assert not poll(sizer, ids, Cloud(unreadable={"p3"})).plan.quarantined
        assert poll(sizer, ids, Cloud()).sent == [tuple(ids)]


def test_cloud_with_only_unreadable_answers_quarantines_no_id():
    sizer = ChunkSizer(50)
    ids = names(200)
    for number in range(4):
        result = poll(sizer, ids, Cloud(unreadable=set(ids)))
        assert result.plan.hopeless is (number > 0)
        assert len(result.sent) <= math.log2(50) + 4
    assert not sizer.refusals


def test_number_of_quarantined_ids_is_limited():
    sizer = ChunkSizer(50)
    for number in range(MOST_REFUSALS + 5):
        sizer.quarantine(f"p{number}", NOON)
    assert len(sizer.refusals) == MOST_REFUSALS
    assert "p0" not in sizer.refusals


def test_id_given_twice_is_queried_once():
    assert poll(ChunkSizer(50), ["a", "b", "a"], Cloud()).sent == [("a", "b")]


@pytest.mark.parametrize(
    ("limit", "size", "accepted", "refused"),
    [
        (Limit(50, 51, 50), 50, Limit(50, 51, 50), Limit(25, 50, 50)),
        (Limit(25, 50, 50), 37, Limit(37, 50, 50), Limit(25, 37, 50)),
        (Limit(25, 50, 50), 12, Limit(25, 50, 50), Limit(6, 12, 50)),
        (Limit(30, 31, 50), 31, Limit(31, 51, 50), Limit(30, 31, 50)),
        (Limit(1, 2, 50), 2, Limit(2, 51, 50), Limit(1, 2, 50)),
    ],
)
def test_limit_after_an_accepted_or_refused_size(
    limit: Limit, size: int, accepted: Limit, refused: Limit
) -> None:
    """A new size replaces a smaller accepted size, a larger refused one, and sizes that contradict it."""
    assert limit.accepted(size) == accepted
    assert limit.refused(size) == refused
