"""Rate limiter: no window of time exceeds burst and rate, and requests keep their order."""

import asyncio

from hypothesis import given, settings
from hypothesis import strategies as st

from exporter.client.rate_limiter import RateLimiter
from tests.drivers.support import FakeClock


class HeldClock(FakeClock):
    """A clock whose waits end only when the test releases them."""

    def __init__(self) -> None:
        super().__init__(0.0)
        self.open = asyncio.Event()

    async def sleep(self, seconds: float) -> None:
        """Wait until the test releases it."""
        await self.open.wait()
        await super().sleep(seconds)


async def settle() -> None:
    for _ in range(20):
        await asyncio.sleep(0)


def test_requests_keep_the_rate_after_the_burst() -> None:
    async def main() -> list[float]:
        clock = FakeClock(0.0)
        budget = RateLimiter(4.0, 3, clock)
        times = []
        for _ in range(6):
            await budget.acquire()
            times.append(clock.now)
        return times

    assert asyncio.run(main()) == [0, 0, 0, 0.25, 0.5, 0.75]


def test_idle_time_refills_at_most_the_burst() -> None:
    async def main() -> list[float]:
        clock = FakeClock(0.0)
        budget = RateLimiter(1.0, 2, clock)
        clock.now = 1000.0
        for _ in range(4):
            await budget.acquire()
        return clock.slept

    assert asyncio.run(main()) == [1.0, 1.0]


@given(
    rate=st.floats(0.01, 1000),
    burst=st.integers(1, 30),
    start=st.sampled_from([0.0, 1e5, 1.7e9]),
    pauses=st.lists(st.floats(0, 20) | st.sampled_from([0.0, 1e-9]), min_size=1, max_size=60),
)
@settings(deadline=None)
def test_no_window_exceeds_burst_and_rate(rate: float, burst: int, start: float, pauses: list[float]) -> None:
    """For any idle times between requests, from any request to any later one."""

    async def main() -> list[float]:
        clock = FakeClock(start)
        budget = RateLimiter(rate, burst, clock)
        times = []
        for idle in pauses:
            clock.now += idle
            await budget.acquire()
            times.append(clock.now)
        return times

    times = asyncio.run(main())
    # Resolution of a clock of this size, and rounding of sums.
    grain = 1e-6 * (1 + rate)
    for first, begin in enumerate(times):
        for last in range(first, len(times)):
            assert last - first + 1 <= burst + rate * (times[last] - begin) + grain


def test_requests_keep_their_order() -> None:
    async def main() -> list[int]:
        budget = RateLimiter(10.0, 1, FakeClock())
        served = []

        async def one(index: int) -> None:
            await budget.acquire()
            served.append(index)

        async with asyncio.TaskGroup() as group:
            for index in range(30):
                group.create_task(one(index))
                if index % 7 == 0:
                    await asyncio.sleep(0)
        return served

    assert asyncio.run(main()) == list(range(30))


def test_cancelled_wait_takes_no_token_and_blocks_no_other() -> None:
    """The first in the queue, and one behind it."""

    async def main() -> tuple[list[str], float]:
        clock = HeldClock()
        budget = RateLimiter(1.0, 1, clock)
        await budget.acquire()
        served = []

        async def one(name: str) -> None:
            await budget.acquire()
            served.append(name)

        tasks = {name: asyncio.create_task(one(name)) for name in "abcd"}
        await settle()
        tasks["a"].cancel()
        tasks["c"].cancel()
        await settle()
        clock.open.set()
        await asyncio.gather(*tasks.values(), return_exceptions=True)
        return served, clock.now

    assert asyncio.run(main()) == (["b", "d"], 2.0)


def test_requests_of_the_last_minute_and_the_rest_of_the_budget_are_known() -> None:
    async def main() -> None:
        clock = FakeClock(0.0)
        budget = RateLimiter(0.5, 3, clock)
        assert (budget.last_minute, budget.left, budget.burst) == (0, 3, 3)
        for _ in range(2):
            await budget.acquire()
        assert (budget.last_minute, budget.left) == (2, 1)
        clock.now = 30.0
        await budget.acquire()
        assert (budget.last_minute, budget.left) == (3, 2)
        clock.now = 60.0
        assert (budget.last_minute, budget.left) == (1, 3)
        clock.now = 90.0
        assert budget.last_minute == 0

    asyncio.run(main())
