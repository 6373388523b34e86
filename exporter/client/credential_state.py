"""A credential's standing with its provider, shared by all projects that use it.

Five refusals in a row lock a key, whoever sent them. So until a credential has been accepted, and again after each
refusal or rotation, one request alone is under way; after a refusal the next try waits, longer each time, unless what
proves the identity has changed. Whoever issues a credential is spared in the same way. Throttling is by caller too: a
pause holds for every project that shares the credential.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractContextManager

import msgspec

from exporter.auth.protocol import Auth
from exporter.core.clock import Clock
from exporter.core.failures import FailureKind, RequestFailure

LONGEST_PAUSE = 3600.0
"""Seconds between tries with a refused credential, at most; also the longest pause that a provider can order."""

_FIRST_RENEWAL_PAUSE = 5.0
_MOST_DOUBLINGS = 20
_KEPT = 1000


class Lockout(msgspec.Struct, frozen=True):
    """A refusal of one proof of identity."""

    next_try: float
    """When it may be tried again, by the monotonic clock."""
    words: str
    times: int
    """Refusals in a row."""


class Lockouts:
    """What one endpoint refused, by fingerprint: the same key may stand in several credentials."""

    def __init__(self, *, of_issuer: bool = False) -> None:
        self.of_issuer = self if of_issuer else Lockouts(of_issuer=True)
        """What the issuer of credentials refused, by the fingerprint of what it was asked with."""
        self._lockouts: dict[str, Lockout] = {}
        self._alone: dict[str, asyncio.Lock] = {}

    def alone(self, fingerprint: str) -> asyncio.Lock:
        """What lets one request alone send what has not been accepted yet."""
        if len(self._alone) > _KEPT:
            self._alone = {proof: lock for proof, lock in self._alone.items() if lock.locked()}
        return self._alone.setdefault(fingerprint, asyncio.Lock())

    def get(self, fingerprint: str) -> Lockout | None:
        """The last refusal of a proof, if it has not been accepted since."""
        return self._lockouts.get(fingerprint)

    def put(self, fingerprint: str, bar: Lockout) -> None:
        """A proof was refused."""
        self._lockouts.pop(fingerprint, None)
        self._lockouts[fingerprint] = bar
        if len(self._lockouts) > _KEPT:
            del self._lockouts[next(iter(self._lockouts))]

    def lift(self, fingerprint: str) -> None:
        """A proof was accepted."""
        self._lockouts.pop(fingerprint, None)


class CredentialState:
    """One way to prove who asks, and what became of it."""

    def __init__(self, auth: Auth, clock: Clock, interval: float, lockouts: Lockouts | None = None) -> None:
        """`interval` is the least pause after a refusal, in seconds: that of the polls.

        `lockouts` are those of the endpoint, if several credentials ask there.
        """
        self.auth = auth
        self._lockouts = lockouts or Lockouts()
        self._issuer_lockouts = self._lockouts.of_issuer
        self.skew = 0.0
        """How far the provider's clock is ahead of ours, where that was found to matter, in seconds."""
        self.renewing = asyncio.Lock()
        self._clock = clock
        self._interval = interval
        self._accepted: str | None = None
        """The fingerprint that was accepted last; None since it was refused."""
        self._accepted_skew = 0.0
        self._refusals = 0
        self._paused_until = 0.0
        self._renewal_fault: RequestFailure | None = None
        self._asked_with = ""
        self._renewal_refusals = 0
        self._renewal_failures = 0
        self._next_renewal = 0.0

    @property
    def now(self) -> float:
        """Epoch seconds by the provider's clock, as far as known."""
        return self._clock.time() + self.skew

    def accepted(self) -> bool:
        """Whether the provider took what proves the identity now when it last judged it."""
        return self._accepted is not None and self._accepted == self.auth.fingerprint()

    @contextlib.asynccontextmanager
    async def slot(self, waiting: Callable[[], AbstractContextManager[None]]) -> AsyncIterator[None]:
        """Hold a place to send from: with others once the credential is accepted, alone before.

        `waiting` gives a context that encloses the wait for the place.
        """
        async with contextlib.AsyncExitStack() as stack:
            if not self.accepted():
                with waiting():
                    await stack.enter_async_context(self._lockouts.alone(self.auth.fingerprint()))
                if self.accepted():
                    # Whoever went first has settled it.
                    await stack.aclose()
            yield

    def blocked(self) -> RequestFailure | None:
        """Why nothing may be sent now, if so: it would be refused again."""
        bar = self._lockouts.get(self.auth.fingerprint())
        wait = bar.next_try - self._clock.monotonic() if bar else 0.0
        if bar is None or wait <= 0:
            return None
        words = f"not asked: the credentials were refused ({bar.words}); next try in {wait:.0f} s"
        return RequestFailure(kind=FailureKind.CREDENTIALS, code="refused", message=words)

    def record_success(self, fingerprint: str) -> None:
        """The provider took what has this fingerprint."""
        if fingerprint != self.auth.fingerprint():
            return  # a late word on what has been replaced
        self._accepted = fingerprint
        self._accepted_skew = self.skew
        self._lockouts.lift(fingerprint)
        self._refusals = 0

    def mark_unverified(self, fingerprint: str) -> None:
        """The provider refused what has this fingerprint; whether something else would do is yet to be seen."""
        if fingerprint == self._accepted:
            self._accepted = None

    def record_rejection(self, fingerprint: str, words: str) -> None:
        """The provider refused what proves the identity, a fresh one included."""
        self.mark_unverified(fingerprint)
        # A clock that did not help may be wrong itself.
        self.skew = self._accepted_skew
        bar, now = self._lockouts.get(fingerprint), self._clock.monotonic()
        if bar is not None and now < bar.next_try:
            return  # what was under way beside the request that was refused first
        # A fresh proof that is refused as well is one more in a row, and so is the same in another credential.
        times = max(self._refusals, bar.times if bar else 0)
        pause = _growing(self._interval, times, LONGEST_PAUSE)
        self._refusals = times + 1
        self._lockouts.put(fingerprint, Lockout(now + pause, words, self._refusals))

    def pause(self, seconds: float) -> None:
        """Send nothing for so long: the provider ordered it."""
        until = self._clock.monotonic() + min(seconds, LONGEST_PAUSE)
        self._paused_until = max(self._paused_until, until)

    @property
    def paused(self) -> float:
        """Seconds for which nothing may be sent; 0 or less if that is over."""
        return self._paused_until - self._clock.monotonic()

    def renewal_blocked(self) -> RequestFailure | None:
        """Why the issuer may not be asked now, if so; with the time until it may."""
        now, fingerprint = self._clock.monotonic(), self.auth.fingerprint()
        bar = self._issuer_lockouts.get(fingerprint)
        if self._renewal_fault is not None and fingerprint == self._asked_with:
            failure, wait = self._renewal_fault, self._next_renewal - now
        elif bar is not None:
            # The same user was refused for another project.
            failure, wait = (
                RequestFailure(kind=FailureKind.CREDENTIALS, code="refused", message=bar.words),
                bar.next_try - now,
            )
        else:
            return None
        if wait <= 0:
            return None
        words = f"not asked: no credential could be had ({failure.message}); next try in {wait:.0f} s"
        return msgspec.structs.replace(failure, message=words, wait=wait)

    def renewal_failed(self, asked_with: str, failure: RequestFailure) -> float:
        """Whoever issues the credential gave none to what had this fingerprint; returns when to ask again, in seconds."""
        if failure.kind is FailureKind.CREDENTIALS:
            # Wrong passwords lock a user as wrong signatures lock a key.
            bar = self._issuer_lockouts.get(asked_with)
            times = max(self._renewal_refusals, bar.times if bar else 0)
            pause = _growing(self._interval, times, LONGEST_PAUSE)
            self._renewal_refusals = times + 1
            until = self._clock.monotonic() + pause
            self._issuer_lockouts.put(asked_with, Lockout(until, failure.message, self._renewal_refusals))
        else:
            most = max(self._interval, _FIRST_RENEWAL_PAUSE)
            pause = _growing(_FIRST_RENEWAL_PAUSE, self._renewal_failures, most)
            self._renewal_failures += 1
        self._renewal_fault = failure
        self._asked_with = asked_with
        pause = max(pause, min(failure.wait or 0.0, LONGEST_PAUSE))
        self._next_renewal = self._clock.monotonic() + pause
        return pause

    def renewed(self) -> None:
        """A fresh credential came."""
        self._renewal_fault = None
        self._renewal_refusals = 0
        self._renewal_failures = 0


def _growing(first: float, times: int, most: float) -> float:
    """A pause that doubles each time."""
    return min(first * 2.0 ** min(times, _MOST_DOUBLINGS), most)
