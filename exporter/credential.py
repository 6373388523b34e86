"""A credential's standing with its provider, shared by all projects that use it.

Five refusals in a row lock a key, whoever sent them. So until a credential has been accepted, and again after each
refusal, one request alone is under way; after a refusal the next try waits, longer each time, unless what proves the
identity has changed. Throttling is by caller too: a pause holds for every project that shares the credential.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator

from exporter.auth import Auth
from exporter.clock import Clock
from exporter.fault import Fault, Kind

LONGEST_PAUSE = 3600.0
"""Seconds between tries with a refused credential, at most; also the longest pause that a provider can order."""

_FIRST_RENEWAL_PAUSE = 5.0


class Credential:
    """One way to prove who asks, and what became of it."""

    def __init__(self, auth: Auth, clock: Clock, interval: float) -> None:
        """`interval` is the least pause after a refusal, in seconds: that of the polls."""
        self.auth = auth
        self.skew = 0.0
        """How far the provider's clock is ahead of ours, where that was found to matter, in seconds."""
        self.renewing = asyncio.Lock()
        self._clock = clock
        self._interval = interval
        self._accepted = False
        self._alone = asyncio.Lock()
        self._refused: str | None = None
        """The fingerprint that was refused last; None since it was accepted."""
        self._words = ""
        self._refusals = 0
        self._next_try = 0.0
        self._paused_until = 0.0
        self._renewal_failures = 0
        self._next_renewal = 0.0

    @property
    def now(self) -> float:
        """Epoch seconds by the provider's clock, as far as known."""
        return self._clock.time() + self.skew

    def accepted(self) -> bool:
        """Whether the provider took the credential when it last judged it."""
        return self._accepted

    @contextlib.asynccontextmanager
    async def turn(self) -> AsyncIterator[None]:
        """Hold a place to send from: with others once the credential is accepted, alone before."""
        async with contextlib.AsyncExitStack() as stack:
            if not self.accepted():
                await stack.enter_async_context(self._alone)
                if self.accepted():
                    # Whoever went first has settled it.
                    await stack.aclose()
            yield

    def barred(self) -> Fault | None:
        """Why nothing may be sent now, if so: it would be refused again, or the provider ordered a long pause."""
        wait = self._next_try - self._clock.monotonic()
        if self._refused is None or wait <= 0 or self.auth.fingerprint() != self._refused:
            return None
        words = f"not asked: the credentials were refused ({self._words}); next try in {wait:.0f} s"
        return Fault(kind=Kind.CREDENTIALS, code="refused", message=words)

    def accept(self) -> None:
        """The provider took the credential."""
        self._accepted = True
        self._refused = None
        self._refusals = 0

    def refuse(self, fingerprint: str, words: str) -> None:
        """The provider refused what proves the identity, a fresh one included."""
        self._accepted = False
        if fingerprint != self._refused:
            self._refusals = 0
        elif self._clock.monotonic() < self._next_try:
            return  # what was under way beside the request that was refused first
        self._refused = fingerprint
        self._words = words
        pause = min(self._interval * 2**self._refusals, LONGEST_PAUSE)
        self._refusals = min(self._refusals + 1, 20)
        self._next_try = self._clock.monotonic() + pause

    def pause(self, seconds: float) -> None:
        """Send nothing for so long: the provider ordered it."""
        until = self._clock.monotonic() + min(seconds, LONGEST_PAUSE)
        self._paused_until = max(self._paused_until, until)

    @property
    def paused(self) -> float:
        """Seconds for which nothing may be sent; 0 or less if that is over."""
        return self._paused_until - self._clock.monotonic()

    def renewal_failed(self) -> None:
        """Whoever issues the credential did not answer: ask less often."""
        pause = min(
            _FIRST_RENEWAL_PAUSE * 2**self._renewal_failures, max(self._interval, _FIRST_RENEWAL_PAUSE)
        )
        self._renewal_failures = min(self._renewal_failures + 1, 20)
        self._next_renewal = self._clock.monotonic() + pause

    def renewed(self) -> None:
        """A fresh credential came."""
        self._renewal_failures = 0
        self._next_renewal = 0.0

    @property
    def may_renew(self) -> bool:
        """Whether the issuer may be asked now."""
        return self._clock.monotonic() >= self._next_renewal
