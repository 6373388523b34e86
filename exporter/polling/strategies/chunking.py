"""Decide which ids one request queries: chunks shrink and grow, and bad ids are quarantined.

A cloud accepts a list of ids up to an undocumented length, and one bad id can fail the whole list. Both refusals look
the same; only later responses distinguish them:

- A refused chunk is halved, down to single ids. An id that is refused alone is quarantined, if something else was
  accepted in the same poll: a cloud that refuses every request proves nothing about one id.
- A refused chunk was too large if all of its ids were accepted later in the poll, in smaller chunks. If one of them was
  quarantined or has no answer, the refusal proves nothing about size.

The limit is between the largest size accepted and the smallest that was too large; one chunk a poll tries the middle.
When the limit is exact, the next larger size is tried now and then, because a cloud can raise its limit.

The number of extra requests in a poll is bounded. So refused chunks are halved one after the other, the smallest first,
and no new chunk is sent meanwhile. Otherwise the extra requests could be used up before any bad id is found.

Until something is accepted, chunks are sent one at a time and only first halves are followed. This leads soon to an
accepted id, or to two ids that are refused alone with the same code. In the latter case the project is the cause: the
poll is hopeless.

A response that cannot be read, or that leaves open which id a record belongs to, proves nothing about one id either. The
first such response is a failure. After the second in a row its ids are halved like a refused chunk. An id that is
quarantined this way is polled alone in each refresh (a few of them at most), so that it returns as soon as the response
about it can be read.

This module sends nothing: the caller sends what `ChunkPlan.next` returns and reports each result to the plan.
"""

import math
from collections.abc import Collection, Sequence

import msgspec

FIRST_WAIT = 3600.0
"""Seconds until a quarantined id is polled again; each further refusal doubles the time, up to `LONGEST_WAIT`."""
LONGEST_WAIT = 86400.0
RETRIED_IDS = 2
"""Maximum quarantined ids that one poll retries, each alone; a refresh retries as many unreadable ones in addition."""
MOST_REFUSALS = 10_000
"""Maximum number of quarantined ids to remember."""
PROBE_INTERVAL = 20
"""Polls after which a size known to be too large is tried once."""


class Limit(msgspec.Struct, frozen=True):
    """How many ids one request may have, as far as known."""

    size: int
    """The largest number known to be accepted; at first the configured one."""
    too_large: int
    """The smallest number known to be refused for its size; `most` + 1 if none is."""
    most: int
    """The configured number, never exceeded."""

    @property
    def middle(self) -> int:
        """The size to try next; `size` itself if the limit is exact."""
        return (self.size + self.too_large) // 2

    def accepted(self, size: int) -> "Limit":
        """Return the limit after a chunk of this size was accepted."""
        if size <= self.size:
            return self
        return Limit(size, self.too_large if size < self.too_large else self.most + 1, self.most)

    def refused(self, size: int) -> "Limit":
        """Return the limit after a chunk of this size proved too large."""
        too_large = min(size, self.too_large)
        # Half of it was accepted, unless a smaller size proves too large as well.
        return Limit(self.size if self.size < too_large else too_large // 2, too_large, self.most)


class Refusal(msgspec.Struct, frozen=True):
    """Quarantine of an id that was refused alone, or could not be read alone, while others were accepted."""

    again: float
    """When it may be polled again, in monotonic seconds."""
    wait: float
    """Seconds from the refusal until then; 0 for an unreadable id."""

    @property
    def unreadable(self) -> bool:
        """True if the response about it could not be read, so that each refresh may poll it."""
        return self.wait == 0


class ChunkSizer:
    """What the polls of one project have shown so far: the size limit and the quarantined ids. Polls do not overlap."""

    def __init__(self, chunk_size: int) -> None:
        self.limit = Limit(chunk_size, chunk_size + 1, chunk_size)
        self.refusals: dict[str, Refusal] = {}
        """Quarantined ids, the one refused longest ago first."""
        self.unverified: set[str] = set()
        """Ids about which the last response could not be read, and that are not quarantined."""
        self.unprobed = 0
        """Polls since a size above the limit was last tried."""
        self.hopeless = 0
        """Number of hopeless polls. After each, the next poll begins with another id, in case the ids were the cause."""

    def poll(
        self, ids: Sequence[str], now: float, *, project_answered: bool = False, refresh: bool = True
    ) -> "ChunkPlan":
        """Return the plan of one poll of these ids; `now` is in seconds by any monotonic clock.

        `project_answered`: the cloud has just answered another request about the project, so that a refusal is due to
        the ids. Only a `refresh` polls unreadable ids again.
        """
        self.unprobed += 1
        return ChunkPlan(self, ids, now, project_answered=project_answered, refresh=refresh)

    @property
    def probe(self) -> int:
        """The size above the limit that one chunk may try now; the limit itself if no size is left to try."""
        limit = self.limit
        if limit.middle == limit.size and self.unprobed >= PROBE_INTERVAL:
            return min(limit.too_large, limit.most)
        return limit.middle

    def quarantine(self, identity: str, now: float, *, unreadable: bool = False) -> None:
        """Leave an id out of polls, for twice as long as the last time. An `unreadable` one stays due, to be polled alone."""
        before = self.refusals.pop(identity, None)
        wait = 0.0
        if not unreadable:
            wait = min(2 * before.wait, LONGEST_WAIT) if before and before.wait else FIRST_WAIT
        self.refusals[identity] = Refusal(now + wait, wait)
        self.unverified.discard(identity)
        if len(self.refusals) > MOST_REFUSALS:
            del self.refusals[next(iter(self.refusals))]

    def mark_unverified(self, ids: Sequence[str]) -> bool:
        """Record that the response about these ids cannot be read; return True if one of them was already unverified."""
        again = not self.unverified.isdisjoint(ids)
        if len(self.unverified) > MOST_REFUSALS:
            self.unverified.clear()  # ids that are no longer polled
        self.unverified.update(ids)
        return again


class ChunkPlan:
    """One poll: returns chunks to send, takes the result of each, and reports how each id ended.

    Every id ends in exactly one way: accepted or failed (both reported by the caller), quarantined, unanswered or
    skipped. An id about which the response cannot be read counts as failed, or as quarantined.
    """

    def __init__(
        self, sizer: ChunkSizer, ids: Sequence[str], now: float, *, project_answered: bool, refresh: bool
    ) -> None:
        self._sizer = sizer
        self._project_answered = project_answered
        self._now = now
        unique = dict.fromkeys(ids)
        self._ids = tuple(unique)
        known = [identity for identity in self._ids if identity in sizer.refusals]
        due = [identity for identity in known if sizer.refusals[identity].again <= now]
        due.sort(key=lambda identity: sizer.refusals[identity].again)
        # Those polled longest ago are first.
        unreadable = [identity for identity, refusal in sizer.refusals.items() if refusal.unreadable]
        self._unreadable = [identity for identity in unreadable if identity in unique and refresh][
            :RETRIED_IDS
        ]
        """Ids to be polled alone, because earlier polls quarantined them as unreadable."""
        self._retries = [identity for identity in due if not sizer.refusals[identity].unreadable]
        self._retries = self._unreadable + self._retries[:RETRIED_IDS]
        for identity in self._unreadable:
            # To the end of the queue, so that the next refresh polls others.
            sizer.quarantine(identity, now, unreadable=True)
        self.skipped = tuple(identity for identity in known if identity not in self._retries)
        """Quarantined ids that are not due."""
        self.hopeless = False
        """True if nothing was accepted and single ids met the same refusal: no id is quarantined."""
        self._quarantined: list[str] = []

        fresh = tuple(identity for identity in self._ids if identity not in sizer.refusals)
        first = sizer.hopeless % len(fresh) if fresh else 0
        self._fresh = fresh[first:] + fresh[:first]
        """Ids to be cut into chunks."""
        self._refused: list[tuple[str, ...]] = []
        """Refused chunks to be halved."""
        self._halves: list[tuple[str, ...]] = []
        """Halves to be sent, those split last at the end."""
        self._halves_in_flight: set[tuple[str, ...]] = set()
        limit = sizer.limit
        self._allowed = math.ceil(len(fresh) / limit.size) + int(4 * math.log2(limit.most)) + 8
        self._sent = 0
        self._in_flight = 0
        self._probe = sizer.probe
        self._ended: set[str] = set()
        """Ids that were accepted or have failed."""
        self._accepted: set[str] = set()
        self._largest = 0
        """The size of the largest chunk accepted."""
        self._refused_alone: dict[str, str] = {}
        """Ids refused alone while nothing has been accepted, each with the code of the refusal."""
        self._unreadable_alone: set[str] = set()
        """Ids that were polled alone in this poll, with a response that could not be read."""
        self._suspects: list[Sequence[str]] = []
        """Refused chunks of several ids: too large, or with a bad id."""

    @property
    def quarantined(self) -> tuple[str, ...]:
        """Ids quarantined in this poll."""
        return tuple(self._quarantined)

    @property
    def unanswered(self) -> tuple[str, ...]:
        """Ids without a result so far: the poll was hopeless, needed too many requests, or ended early."""
        ended = self._ended.union(self.skipped, self._quarantined)
        return tuple(identity for identity in self._ids if identity not in ended)

    @property
    def _proven(self) -> bool:
        """True if the cloud has answered a request about the project, so that a refusal is due to the request."""
        return self._project_answered or bool(self._accepted)

    def next(self) -> Sequence[str] | None:
        """Return the next chunk to send.

        None means that nothing can be sent before another result or, if no result is awaited, that the poll has ended.
        """
        if self.hopeless or self._sent >= self._allowed or (self._in_flight and not self._proven):
            return None
        # Of chunks of a size not yet accepted in this poll, only one is in flight.
        unproven = self._in_flight and self._largest < self._sizer.limit.size
        chunk = self._next_half() or (None if self._halves_in_flight or unproven else self._cut())
        if chunk:
            self._sent += 1
            self._in_flight += 1
        return chunk

    def _next_half(self) -> tuple[str, ...] | None:
        if self._refused and not self._halves_in_flight and self._affordable():
            chunk = min(self._refused, key=len)
            self._refused.remove(chunk)
            half = (len(chunk) + 1) // 2
            self._halves += [chunk[half:], chunk[:half]]
        if not self._halves:
            return None
        self._halves_in_flight.add(self._halves[-1])
        return self._halves.pop()

    def _affordable(self) -> bool:
        """Return True if two more requests leave enough for those that are needed anyway."""
        needed = math.ceil(len(self._fresh) / self._sizer.limit.size) + len(self._halves) + len(self._retries)
        return self._sent + needed + 2 <= self._allowed

    def _cut(self) -> tuple[str, ...] | None:
        if not self._fresh:
            return (self._retries.pop(0),) if self._retries else None
        limit = self._sizer.limit.size
        size = max(limit, self._probe) if self._accepted else limit
        chunk, self._fresh = self._fresh[:size], self._fresh[size:]
        if len(chunk) > limit:
            self._probe = 0
            self._sizer.unprobed = 0
        return chunk

    def accepted(self, chunk: Sequence[str], unclear: Collection[str] = ()) -> None:
        """Record the response about a chunk, from which the results for the ids in `unclear` cannot be read."""
        self._land(chunk)
        clear = [identity for identity in chunk if identity not in unclear]
        self._ended.update(clear)
        self._accepted.update(clear)
        self._largest = max(self._largest, len(chunk))
        self._sizer.limit = self._sizer.limit.accepted(len(chunk))
        self._sizer.unverified.difference_update(clear)
        for identity in clear:
            self._sizer.refusals.pop(identity, None)
        if self._accepted:
            for identity in self._refused_alone:
                self._quarantine(identity)
            self._refused_alone.clear()
        if unclear and not self._unreadable_again(tuple(unclear), ""):
            self._ended.update(unclear)
        for suspect in [each for each in self._suspects if self._accepted.issuperset(each)]:
            self._suspects.remove(suspect)
            self._sizer.limit = self._sizer.limit.refused(len(suspect))
            self._recut()

    def failed(self, chunk: Sequence[str]) -> None:
        """Record that the request for a chunk failed for another reason; this poll does not send it again."""
        self._land(chunk)
        self._ended.update(chunk)

    def unreadable(self, chunk: Sequence[str], code: str) -> bool:
        """Record a response that cannot be read; return True if this is due to its ids and does not fail the poll."""
        self._land(chunk)
        if len(chunk) > 1 and not self._sizer.unverified.isdisjoint(chunk):
            self._suspects.append(chunk)
        due_to_ids = self._unreadable_again(tuple(chunk), code)
        if not due_to_ids:
            self._ended.update(chunk)
        return due_to_ids or chunk[0] in self._unreadable

    def _unreadable_again(self, ids: tuple[str, ...], code: str) -> bool:
        """Bisect ids whose response could not be read, if this is the second time in a row; return True if so."""
        if ids[0] in self._unreadable or not self._sizer.mark_unverified(ids):
            return False
        if len(ids) == 1:
            self._unreadable_alone.update(ids)
        self._bisect(ids, code)
        return True

    def refused(self, chunk: Sequence[str], code: str) -> None:
        """Record a refusal of a chunk for its content; refusals for the same reason have the same `code`."""
        self._land(chunk)
        if len(chunk) > 1:
            self._suspects.append(chunk)
        self._bisect(tuple(chunk), code)

    def _bisect(self, chunk: tuple[str, ...], code: str) -> None:
        """Halve a refused chunk, or quarantine its only id."""
        if len(chunk) > 1:
            self._refused.append(chunk)
            self._probe = 0  # one experiment at a time
            self._recut()
        elif self._proven:
            self._quarantine(chunk[0])
        else:
            repeated = code in self._refused_alone.values()
            self._refused_alone[chunk[0]] = code
            if repeated or not self._try_another():
                self.hopeless = True
                self._sizer.hopeless += 1

    def _land(self, chunk: Sequence[str]) -> None:
        self._in_flight -= 1
        self._halves_in_flight.discard(tuple(chunk))

    def _recut(self) -> None:
        """Cut again what is larger than the limit: a probe, or chunks cut before the limit fell."""
        for waiting in (self._refused, self._halves):
            for chunk in [each for each in waiting if len(each) > self._sizer.limit.size]:
                waiting.remove(chunk)
                self._fresh = chunk + self._fresh

    def _try_another(self) -> bool:
        """Choose a single id of another chunk to send next, if there is one; return True if anything is left to send."""
        if self._fresh:
            self._halves.append(self._fresh[-1:])
            self._fresh = self._fresh[:-1]
        elif self._halves:
            first = self._halves.pop(0)
            self._halves += [first[:-1], first[-1:]] if len(first) > 1 else [first]
        return bool(self._halves or self._retries)

    def _quarantine(self, identity: str) -> None:
        self._quarantined.append(identity)
        self._sizer.quarantine(identity, self._now, unreadable=identity in self._unreadable_alone)
