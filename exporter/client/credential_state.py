"""State of a credential, shared by all projects that use it: accepted, locked out, paused.

A provider locks a key after five consecutive rejections, whichever client sends them. Therefore only one request at a time
uses a credential that has not been accepted yet, or that was just rejected or rotated. After each rejection, the next
attempt waits longer, unless the secret has changed. The same rules protect a user at the issuer of temporary credentials.
Providers throttle by user, so a pause applies to every project that shares the credential.
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
"""Maximum seconds between attempts with a rejected credential. Also the maximum pause that a provider can request."""

_FIRST_RENEWAL_PAUSE = 5.0
_MOST_DOUBLINGS = 20
_KEPT = 1000
"""Number of fingerprints to remember."""


class Lockout(msgspec.Struct, frozen=True):
    """Time during which a rejected fingerprint is not used."""

    next_attempt: float
    """When it may be used again, in monotonic seconds."""
    message: str
    rejections: int
    """Number of consecutive rejections."""
    error_code: str = ""
    """The vendor's error code of the rejection."""


class Lockouts:
    """Lockouts at one endpoint. They are stored by fingerprint, since several credentials may contain the same key."""

    def __init__(self, *, at_issuer: bool = False) -> None:
        self.at_issuer = self if at_issuer else Lockouts(at_issuer=True)
        """Lockouts at the issuer of credentials, by the fingerprint that requested them."""
        self._lockouts: dict[str, Lockout] = {}
        self._locks: dict[str, asyncio.Lock] = {}

    def lock(self, fingerprint: str) -> asyncio.Lock:
        """Return the lock for requests with a fingerprint that has not been accepted yet."""
        if len(self._locks) > _KEPT:
            self._locks = {known: lock for known, lock in self._locks.items() if lock.locked()}
        return self._locks.setdefault(fingerprint, asyncio.Lock())

    def get(self, fingerprint: str) -> Lockout | None:
        """Return the latest lockout of a fingerprint, or None if it has been accepted since."""
        return self._lockouts.get(fingerprint)

    def add(self, fingerprint: str, lockout: Lockout) -> None:
        """Set the lockout of a fingerprint, replacing an earlier one."""
        self._lockouts.pop(fingerprint, None)
        self._lockouts[fingerprint] = lockout
        if len(self._lockouts) > _KEPT:
            del self._lockouts[next(iter(self._lockouts))]

    def remove(self, fingerprint: str) -> None:
        """End the lockout of a fingerprint that was accepted."""
        self._lockouts.pop(fingerprint, None)


class CredentialState:
    """A credential with its state at the provider and at the issuer."""

    def __init__(self, auth: Auth, clock: Clock, interval: float, lockouts: Lockouts | None = None) -> None:
        """Create the state of a credential that has been neither accepted nor rejected.

        `interval` is the minimum pause after a rejection in seconds: the poll interval. `lockouts` are shared by all
        credentials at the same endpoint.
        """
        self.auth = auth
        self._lockouts = lockouts or Lockouts()
        self._issuer_lockouts = self._lockouts.at_issuer
        self.skew = 0.0
        """Seconds that the provider's clock is ahead of ours; 0 until a difference has caused a rejection."""
        self.renewing = asyncio.Lock()
        self._clock = clock
        self.interval = interval
        self._accepted: str | None = None
        """The fingerprint that was accepted last; None after its rejection."""
        self._accepted_skew = 0.0
        self._rejections = 0
        self._paused_until = 0.0
        self._renewal_failure: RequestFailure | None = None
        self._renewal_fingerprint = ""
        """The credential's fingerprint at the last failed renewal."""
        self._renewal_rejections = 0
        self._renewal_failures = 0
        self._next_renewal = 0.0

    @property
    def provider_time(self) -> float:
        """Time of the provider's clock in Unix seconds, as far as its skew is known."""
        return self._clock.time() + self.skew

    def is_accepted(self) -> bool:
        """Return whether the provider has accepted the current secret and not rejected it since."""
        return self._accepted is not None and self._accepted == self.auth.fingerprint()

    @contextlib.asynccontextmanager
    async def slot(self, waiting: Callable[[], AbstractContextManager[None]]) -> AsyncIterator[None]:
        """Hold a slot to send a request: shared if the credential is accepted, exclusive otherwise.

        `waiting()` returns a context manager that encloses the wait for an exclusive slot.
        """
        async with contextlib.AsyncExitStack() as stack:
            if not self.is_accepted():
                with waiting():
                    await stack.enter_async_context(self._lockouts.lock(self.auth.fingerprint()))
                if self.is_accepted():
                    # The request before this one was accepted.
                    await stack.aclose()
            yield

    def blocked(self) -> RequestFailure | None:
        """Return why no request may be sent with this credential now. None if it may be used."""
        lockout = self._lockouts.get(self.auth.fingerprint())
        wait = lockout.next_attempt - self._clock.monotonic() if lockout else 0.0
        if lockout is None or wait <= 0:
            return None
        message = f"request not sent: credentials rejected ({lockout.message}), next attempt in {wait:.0f} s"
        return RequestFailure(
            kind=FailureKind.CREDENTIALS, code="refused", error_code=lockout.error_code, message=message
        )

    def record_success(self, fingerprint: str) -> None:
        """Record that the provider accepted a fingerprint."""
        if fingerprint != self.auth.fingerprint():
            return  # replaced while the request was in flight
        self._accepted = fingerprint
        self._accepted_skew = self.skew
        self._lockouts.remove(fingerprint)
        self._rejections = 0

    def mark_unverified(self, fingerprint: str) -> None:
        """Record that a fingerprint was rejected, before a renewal or a clock correction is tried."""
        if fingerprint == self._accepted:
            self._accepted = None

    def record_rejection(self, fingerprint: str, message: str, error_code: str = "") -> None:
        """Record that the provider rejected a credential and no renewal helped. Block it, longer after each rejection."""
        self.mark_unverified(fingerprint)
        # The provider's time did not help, and may itself be wrong.
        self.skew = self._accepted_skew
        lockout, now = self._lockouts.get(fingerprint), self._clock.monotonic()
        if lockout is not None and now < lockout.next_attempt:
            return  # was in flight together with the request that was rejected first
        # A new secret that is also rejected continues the count, and so does the same secret in another credential.
        rejections = max(self._rejections, lockout.rejections if lockout else 0)
        pause = _backoff(self.interval, rejections, LONGEST_PAUSE)
        self._rejections = rejections + 1
        self._lockouts.add(fingerprint, Lockout(now + pause, message, self._rejections, error_code))

    def pause(self, seconds: float) -> None:
        """Block requests for the `seconds` that the provider requested."""
        until = self._clock.monotonic() + min(seconds, LONGEST_PAUSE)
        self._paused_until = max(self._paused_until, until)

    @property
    def pause_left(self) -> float:
        """Seconds until the pause ends; zero or negative without a pause."""
        return self._paused_until - self._clock.monotonic()

    def renewal_blocked(self) -> RequestFailure | None:
        """Return why the issuer may not be contacted now, with the seconds to wait. None if it may."""
        now, fingerprint = self._clock.monotonic(), self.auth.fingerprint()
        lockout = self._issuer_lockouts.get(fingerprint)
        if self._renewal_failure is not None and fingerprint == self._renewal_fingerprint:
            failure, wait = self._renewal_failure, self._next_renewal - now
        elif lockout is not None:
            # The same user was rejected for another project.
            failure, wait = (
                RequestFailure(kind=FailureKind.CREDENTIALS, code="refused", message=lockout.message),
                lockout.next_attempt - now,
            )
        else:
            return None
        if wait <= 0:
            return None
        message = (
            f"request not sent: cannot obtain credentials ({failure.message}), next attempt in {wait:.0f} s"
        )
        return msgspec.structs.replace(failure, message=message, wait=wait)

    def record_renewal_failure(self, fingerprint: str, failure: RequestFailure) -> float:
        """Record that a renewal with a fingerprint failed. Return the seconds until the next attempt."""
        if failure.kind is FailureKind.CREDENTIALS:
            # Wrong passwords lock a user as wrong signatures lock a key.
            lockout = self._issuer_lockouts.get(fingerprint)
            rejections = max(self._renewal_rejections, lockout.rejections if lockout else 0)
            pause = _backoff(self.interval, rejections, LONGEST_PAUSE)
            self._renewal_rejections = rejections + 1
            until = self._clock.monotonic() + pause
            self._issuer_lockouts.add(fingerprint, Lockout(until, failure.message, self._renewal_rejections))
        else:
            longest = max(self.interval, _FIRST_RENEWAL_PAUSE)
            pause = _backoff(_FIRST_RENEWAL_PAUSE, self._renewal_failures, longest)
            self._renewal_failures += 1
        self._renewal_failure = failure
        self._renewal_fingerprint = fingerprint
        pause = max(pause, min(failure.wait or 0.0, LONGEST_PAUSE))
        self._next_renewal = self._clock.monotonic() + pause
        return pause

    def record_renewal(self) -> None:
        """Record that a new credential was obtained."""
        self._renewal_failure = None
        self._renewal_rejections = 0
        self._renewal_failures = 0


def _backoff(first: float, times: int, longest: float) -> float:
    """Return `first` seconds doubled `times` times, at most `longest`."""
    return min(first * 2.0 ** min(times, _MOST_DOUBLINGS), longest)
