"""Limit the memory and the loop time that answers' bodies take, for all projects of the process together."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable

BODY_LIMIT = 8 * 1024 * 1024
"""Most bytes of an answer, decompressed; an honest batch of a thousand pipelines is below 4 MiB."""

SMALL = 256 * 1024
"""Bytes up to which a body needs no turn among the large ones; an honest batch of fifty has about 50 KiB."""

_BODIES = 32
_LARGE = 5
# Together at most 32 * 256 KiB + 5 * 8 MiB = 48 MiB.

_PAUSE = 0.01

Enlarge = Callable[[], Awaitable[None]]
"""Wait until a body may grow beyond `SMALL`."""


class Bodies:
    """The bodies that are in flight in this process: at most 48 MiB."""

    def __init__(self) -> None:
        self._bodies = asyncio.Semaphore(_BODIES)
        self._large = asyncio.Semaphore(_LARGE)
        self._turn = asyncio.Lock()

    @contextlib.asynccontextmanager
    async def decoded(self) -> AsyncIterator[Enlarge]:
        """Hold a place for one body; yields what its reader awaits before the body grows beyond `SMALL`.

        Large bodies leave one after the other. The caller decodes a body at once, and the decoder holds the
        interpreter, so two in a row would keep the event loop from everything else for the time of both.
        """
        large = False

        async def enlarge() -> None:
            nonlocal large
            if not large:
                await self._large.acquire()
                large = True

        async with self._bodies:
            try:
                yield enlarge
                if large:
                    async with self._turn:
                        # The first pause ends after the body before is decoded, the second leaves time for other I/O.
                        await asyncio.sleep(_PAUSE)
                        await asyncio.sleep(_PAUSE)
            finally:
                if large:
                    self._large.release()
