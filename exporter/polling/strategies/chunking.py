"""Which ids to ask about in one request: batches that shrink, grow and leave out by what the cloud takes.

A cloud takes a list of ids up to a length that it need not tell, and one id that it dislikes can fail the whole list.
Both refusals look the same. What tells them apart comes afterwards:

- A refused chunk is halved, down to single ids. An id that is refused alone is singled out, provided that something
  else was accepted in the same poll: a cloud that refuses everything says nothing about any one id.
- A refused chunk whose ids were all accepted later in the poll, in smaller chunks, was too large. One with an id that
  was singled out, or that was not heard of again, proves nothing about size.

The limit lies between the greatest size taken and the least that was too large, and one chunk a poll tries the middle.
Where nothing is left between them, the too large size itself is tried now and then, since a cloud can grow.

Requests beyond those that the ids need are bounded in each poll. So refused chunks are taken apart one after the other,
the smallest first, and nothing new is begun meanwhile: spread over many, the requests would reach the ground of none.

Until something is accepted, chunks go one by one and only first halves are followed: so the way is short to an id that
is taken, or to two that are refused alone in the same words. Then the project is at fault: the poll is hopeless.

An answer that cannot be read, or that leaves open which of some ids it is silent about, says as little of any one id.
Once, it is a failure. The second time in a row its ids are halved like a refused chunk; one that is singled out like
this is polled alone in each refresh, a few at most, so that it is back as soon as its answer can be read.

Here it is decided only: the caller sends what `ChunkPlan.next` gives and tells the plan what became of it.
"""

import math
from collections.abc import Collection, Sequence

import msgspec

FIRST_WAIT = 3600.0
LONGEST_WAIT = 86400.0
"""Seconds until an id that was singled out is asked about again; each further refusal doubles them."""
ASKED_AGAIN = 2
"""How many such ids one poll asks about, each alone; in a refresh so many unreadable ones in addition."""
KEPT = 10_000
"""How many such ids are remembered."""
RETRIED = 20
"""In how many polls a size known to be too large is tried once."""


class Limit(msgspec.Struct, frozen=True):
    """How many ids one request may hold, as far as known."""

    size: int
    """The greatest number known to be taken; at first the configured one, unproven."""
    too_large: int
    """The least number known to be refused for its size; one above `most` if none is."""
    most: int
    """The configured number, never exceeded."""

    @property
    def middle(self) -> int:
        """The size to try next; `size` itself if nothing is left between what is known."""
        return (self.size + self.too_large) // 2

    def taken(self, size: int) -> "Limit":
        """The same after a chunk of this size was accepted."""
        if size <= self.size:
            return self
        return Limit(size, self.too_large if size < self.too_large else self.most + 1, self.most)

    def refused(self, size: int) -> "Limit":
        """The same after a chunk of this size proved too large. Its halves were taken, or smaller ones prove worse."""
        too_large = min(size, self.too_large)
        return Limit(self.size if self.size < too_large else too_large // 2, too_large, self.most)


class Refusal(msgspec.Struct, frozen=True):
    """An id that was refused alone, or could not be read alone, while others were accepted."""

    again: float
    """When it may be asked about again."""
    wait: float
    """How long that was, in seconds; 0 of an unreadable one."""

    @property
    def unreadable(self) -> bool:
        """Whether its answer could not be read, so that each refresh polls it."""
        return self.wait == 0


class ChunkSizer:
    """What the polls of one project have taught so far. Polls do not overlap."""

    def __init__(self, chunk_size: int) -> None:
        self.limit = Limit(chunk_size, chunk_size + 1, chunk_size)
        self.refusals: dict[str, Refusal] = {}
        """The ids singled out, the one refused longest ago first."""
        self.doubtful: set[str] = set()
        """Ids of answers that could not be read the last time, not singled out."""
        self.unprobed = 0
        """Polls since a size above the limit was last tried."""
        self.hopeless = 0
        """Polls that were hopeless: each next one begins with another id, should it have been the ids after all."""

    def poll(
        self, ids: Sequence[str], now: float, *, trusted: bool = False, refresh: bool = True
    ) -> "ChunkPlan":
        """The plan of one poll over these ids, at a time in seconds by any clock that is always the same.

        `trusted`: the cloud has just answered another question about the project, so that what it refuses is the ids.
        Only a `refresh` polls unreadable ids again.
        """
        self.unprobed += 1
        return ChunkPlan(self, ids, now, trusted=trusted, refresh=refresh)

    @property
    def probe(self) -> int:
        """The size above the limit that one chunk may try now; the limit itself if there is none to try."""
        limit = self.limit
        if limit.middle == limit.size and self.unprobed >= RETRIED:
            return min(limit.too_large, limit.most)
        return limit.middle

    def quarantine(self, identity: str, now: float, *, unreadable: bool = False) -> None:
        """Leave an id out for a while, twice as long as the last time; an `unreadable` one is polled alone meanwhile."""
        before = self.refusals.pop(identity, None)
        wait = 0.0
        if not unreadable:
            wait = min(2 * before.wait, LONGEST_WAIT) if before and before.wait else FIRST_WAIT
        self.refusals[identity] = Refusal(now + wait, wait)
        self.doubtful.discard(identity)
        if len(self.refusals) > KEPT:
            del self.refusals[next(iter(self.refusals))]

    def mark_unverified(self, ids: Sequence[str]) -> bool:
        """Note that the answer about these ids cannot be read; says whether one of them was in such an answer before."""
        again = not self.doubtful.isdisjoint(ids)
        if len(self.doubtful) > KEPT:
            self.doubtful.clear()  # ids that are no longer asked about
        self.doubtful.update(ids)
        return again


class ChunkPlan:
    """One poll: gives chunks to send, is told what became of each, and says how each id ended.

    Every id ends in one way: accepted, failed (both told by the caller), refused, unasked or skipped. What cannot be read
    has failed, or is refused once it is singled out.
    """

    def __init__(
        self, batches: ChunkSizer, ids: Sequence[str], now: float, *, trusted: bool, refresh: bool
    ) -> None:
        self._batches = batches
        self._trusted = trusted
        self._now = now
        missing_numbers = dict.fromkeys(ids)
        self._ids = tuple(missing_numbers)
        known = [identity for identity in self._ids if identity in batches.refusals]
        due = [identity for identity in known if batches.refusals[identity].again <= now]
        due.sort(key=lambda identity: batches.refusals[identity].again)
        # The one polled longest ago comes first.
        unreadable = [identity for identity, refusal in batches.refusals.items() if refusal.unreadable]
        self._unreadable = [identity for identity in unreadable if identity in missing_numbers and refresh][
            :ASKED_AGAIN
        ]
        """Ids singled out by earlier polls since their answers could not be read, to be polled alone."""
        self._again = [identity for identity in due if not batches.refusals[identity].unreadable]
        self._again = self._unreadable + self._again[:ASKED_AGAIN]
        for identity in self._unreadable:
            # The next refresh polls others, if there are more.
            batches.quarantine(identity, now, unreadable=True)
        self.skipped = tuple(identity for identity in known if identity not in self._again)
        """Ids that were refused before and whose time has not come."""
        self.hopeless = False
        """Whether nothing was accepted and single ids met the same refusal: nobody is singled out."""
        self._singled_out: list[str] = []

        fresh = tuple(identity for identity in self._ids if identity not in batches.refusals)
        turn = batches.hopeless % len(fresh) if fresh else 0
        self._fresh = fresh[turn:] + fresh[:turn]
        """Ids to be cut into chunks."""
        self._refused: list[tuple[str, ...]] = []
        """Refused chunks to be taken apart."""
        self._parts: list[tuple[str, ...]] = []
        """Halves to be sent, those split last at the end."""
        self._parts_under_way: set[tuple[str, ...]] = set()
        limit = batches.limit
        self._allowed = math.ceil(len(fresh) / limit.size) + int(4 * math.log2(limit.most)) + 8
        self._sent = 0
        self._under_way = 0
        self._probe = batches.probe
        self._heard: set[str] = set()
        """Ids that were accepted or have failed; what could not be read has failed."""
        self._accepted: set[str] = set()
        self._largest = 0
        """The size of the largest chunk accepted."""
        self._alone: dict[str, str] = {}
        """Ids refused alone, each with the refusal's words, while nothing has been accepted."""
        self._unread: set[str] = set()
        """Of those ids and of the ones singled out, those whose answer could not be read."""
        self._doubted: list[Sequence[str]] = []
        """Refused chunks of more than one id: too large, or with a refused id in them."""

    @property
    def refused_ids(self) -> tuple[str, ...]:
        """Ids singled out in this poll."""
        return tuple(self._singled_out)

    @property
    def unasked(self) -> tuple[str, ...]:
        """Ids without an answer of their own, as of now: the poll was hopeless, too costly, or ended early."""
        ended = self._heard.union(self.skipped, self._singled_out)
        return tuple(identity for identity in self._ids if identity not in ended)

    @property
    def _proven(self) -> bool:
        """Whether the cloud is known to answer about the project, so that a refusal speaks of what was asked."""
        return self._trusted or bool(self._accepted)

    def next(self) -> Sequence[str] | None:
        """The next chunk to send. None: nothing before another result, and if none is awaited, nothing any more."""
        if self.hopeless or self._sent >= self._allowed or (self._under_way and not self._proven):
            return None
        # Of chunks of a size that nothing proves yet in this poll, one is a doubt enough.
        unproven = self._under_way and self._largest < self._batches.limit.size
        chunk = self._part() or (None if self._parts_under_way or unproven else self._cut())
        if chunk:
            self._sent += 1
            self._under_way += 1
        return chunk

    def _part(self) -> tuple[str, ...] | None:
        if self._refused and not self._parts_under_way and self._affordable():
            chunk = min(self._refused, key=len)
            self._refused.remove(chunk)
            half = (len(chunk) + 1) // 2
            self._parts += [chunk[half:], chunk[:half]]
        if not self._parts:
            return None
        self._parts_under_way.add(self._parts[-1])
        return self._parts.pop()

    def _affordable(self) -> bool:
        """Whether two more requests leave enough for what is to come anyway."""
        to_come = math.ceil(len(self._fresh) / self._batches.limit.size) + len(self._parts) + len(self._again)
        return self._sent + to_come + 2 <= self._allowed

    def _cut(self) -> tuple[str, ...] | None:
        if not self._fresh:
            return (self._again.pop(0),) if self._again else None
        limit = self._batches.limit.size
        size = max(limit, self._probe) if self._accepted else limit
        chunk, self._fresh = self._fresh[:size], self._fresh[size:]
        if len(chunk) > limit:
            self._probe = 0
            self._batches.unprobed = 0
        return chunk

    def accepted(self, chunk: Sequence[str], unclear: Collection[str] = ()) -> None:
        """The cloud answered about this chunk, but so that what it says of the ids in `unclear` cannot be read."""
        self._back(chunk)
        clear = [identity for identity in chunk if identity not in unclear]
        self._heard.update(clear)
        self._accepted.update(clear)
        self._largest = max(self._largest, len(chunk))
        self._batches.limit = self._batches.limit.taken(len(chunk))
        self._batches.doubtful.difference_update(clear)
        for identity in clear:
            self._batches.refusals.pop(identity, None)
        if self._accepted:
            for identity in self._alone:
                self._single_out(identity)
            self._alone.clear()
        if unclear and not self._unread_again(tuple(unclear), ""):
            self._heard.update(unclear)
        for doubted in [each for each in self._doubted if self._accepted.issuperset(each)]:
            self._doubted.remove(doubted)
            self._batches.limit = self._batches.limit.refused(len(doubted))
            self._recut()

    def failed(self, chunk: Sequence[str]) -> None:
        """Nothing was learnt about this chunk, and it is not asked about again in this poll."""
        self._back(chunk)
        self._heard.update(chunk)

    def unreadable(self, chunk: Sequence[str], words: str) -> bool:
        """The answer about this chunk cannot be read; says whether that is due to its ids and no failure of the poll."""
        self._back(chunk)
        if len(chunk) > 1 and not self._batches.doubtful.isdisjoint(chunk):
            self._doubted.append(chunk)
        due_to_ids = self._unread_again(tuple(chunk), words)
        if not due_to_ids:
            self._heard.update(chunk)
        return due_to_ids or chunk[0] in self._unreadable

    def _unread_again(self, ids: tuple[str, ...], words: str) -> bool:
        """Find out whose answer it is that could not be read, if it is the second time; says whether it is."""
        if ids[0] in self._unreadable or not self._batches.mark_unverified(ids):
            return False
        if len(ids) == 1:
            self._unread.update(ids)
        self._take_apart(ids, words)
        return True

    def refused(self, chunk: Sequence[str], words: str) -> None:
        """The cloud refused this chunk for its content; `words` is the vendor's code, the same for the same refusal."""
        self._back(chunk)
        if len(chunk) > 1:
            self._doubted.append(chunk)
        self._take_apart(tuple(chunk), words)

    def _take_apart(self, chunk: tuple[str, ...], words: str) -> None:
        """Halve a refused chunk, or single out its only id."""
        if len(chunk) > 1:
            self._refused.append(chunk)
            self._probe = 0  # one doubt at a time
            self._recut()
        elif self._proven:
            self._single_out(chunk[0])
        else:
            met = words in self._alone.values()
            self._alone[chunk[0]] = words
            if met or not self._try_another():
                self.hopeless = True
                self._batches.hopeless += 1

    def _back(self, chunk: Sequence[str]) -> None:
        self._under_way -= 1
        self._parts_under_way.discard(tuple(chunk))

    def _recut(self) -> None:
        """Cut anew what is larger than the limit: a probe, or what was cut before the limit fell."""
        for waiting in (self._refused, self._parts):
            for chunk in [each for each in waiting if len(each) > self._batches.limit.size]:
                waiting.remove(chunk)
                self._fresh = chunk + self._fresh

    def _try_another(self) -> bool:
        """Send next one id alone from another chunk, if there is one; says whether anything is left to send."""
        if self._fresh:
            self._parts.append(self._fresh[-1:])
            self._fresh = self._fresh[:-1]
        elif self._parts:
            first = self._parts.pop(0)
            self._parts += [first[:-1], first[-1:]] if len(first) > 1 else [first]
        return bool(self._parts or self._again)

    def _single_out(self, identity: str) -> None:
        self._singled_out.append(identity)
        self._batches.quarantine(identity, self._now, unreadable=identity in self._unread)
