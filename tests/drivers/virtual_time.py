"""An event loop in virtual time: it jumps to the next timer, so hours of a schedule pass in seconds."""

import asyncio
import selectors


class _LeapingSelector(selectors.DefaultSelector):
    """A selector that advances the time instead of waiting."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is None:
            return super().select(None)  # only another thread can wake the loop
        self.now += max(timeout, 0.0)
        return super().select(0)


class VirtualTimeLoop(asyncio.SelectorEventLoop):
    """An event loop in virtual time; nothing in it may wait for sockets or threads, which take real time."""

    def __init__(self) -> None:
        self._leaping = _LeapingSelector()
        super().__init__(self._leaping)

    def time(self) -> float:
        return self._leaping.now


class LoopClock:
    """The clock of the running event loop; a test can step its wall clock."""

    step = 0.0

    def time(self) -> float:
        return 1_700_000_000.0 + self.monotonic() + self.step

    def monotonic(self) -> float:
        return asyncio.get_running_loop().time()

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)
