"""Encode saved values as stored records, and decode them.

New fields are only appended to a record, and `tests/data/state` has a file of each layout, so that earlier states stay
readable.
"""

from zlib import crc32

import msgspec

from exporter.core.model import Status
from exporter.tracking.ledger import LedgerState
from exporter.tracking.run_counters import BucketBounds, DurationHistograms, Histogram, RunCounters
from exporter.tracking.saved import Accounts, SavedPipeline, StatusSince, WaitingStage


class UnreadableError(Exception):
    """The bytes are not a valid record."""


class _Histogram(msgspec.Struct, frozen=True, array_like=True):
    counts: tuple[int, ...]
    sum: float

    def decode(self, bounds: tuple[float, ...]) -> Histogram:
        if len(self.counts) != len(bounds) + 1:
            raise msgspec.ValidationError(f"{len(self.counts)} buckets with {len(bounds)} bounds")
        return Histogram(self.counts, self.sum)


class _Durations(msgspec.Struct, frozen=True, array_like=True):
    """A record of duration histograms, with digests of their bucket bounds."""

    runs_created: float
    stages_created: float
    run_bounds: int
    stage_bounds: int
    runs: dict[Status, _Histogram]
    stages: list[tuple[str, Status, _Histogram]]


class _Pipeline(msgspec.Struct, frozen=True, array_like=True):
    name: str
    answered: float
    state: LedgerState
    counters: RunCounters
    durations: _Durations
    run: str = ""
    status: Status = Status.UNKNOWN
    change: float | None = None
    waiting: tuple[WaitingStage, ...] = ()


_pipeline_decoder = msgspec.msgpack.Decoder(_Pipeline)
_durations_decoder = msgspec.msgpack.Decoder(_Durations)


def encode_pipeline(saved: SavedPipeline, bounds: BucketBounds) -> bytes:
    """Encode the saved values of a pipeline, whose histograms have these bounds."""
    accounts, status_since = saved.accounts, saved.status_since
    return msgspec.msgpack.encode(
        _Pipeline(
            saved.name,
            saved.answered,
            accounts.state,
            accounts.counters,
            _pack(accounts.durations, bounds),
            status_since.run,
            status_since.status,
            status_since.change,
            status_since.waiting,
        )
    )


def decode_pipeline(data: bytes, bounds: BucketBounds, now: float) -> SavedPipeline:
    """Decode the saved values of a pipeline. Histograms with other bounds start empty at `now` (Unix seconds).

    Raises:
        UnreadableError: the bytes are not such a record.

    """
    try:
        record = _pipeline_decoder.decode(data)
        durations = _unpack(record.durations, bounds, now)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise UnreadableError(str(error)) from None
    return SavedPipeline(
        Accounts(record.state, record.counters, durations),
        StatusSince(record.run, record.status, record.change, record.waiting),
        record.name,
        record.answered,
    )


def encode_durations(durations: DurationHistograms, bounds: BucketBounds) -> bytes:
    """Encode the histograms of a project, which have these bounds."""
    return msgspec.msgpack.encode(_pack(durations, bounds))


def decode_durations(data: bytes, bounds: BucketBounds, now: float) -> DurationHistograms:
    """Decode the histograms of a project. Those with other bounds start empty at `now` (Unix seconds).

    Raises:
        UnreadableError: the bytes are not such a record.

    """
    try:
        return _unpack(_durations_decoder.decode(data), bounds, now)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise UnreadableError(str(error)) from None


def _pack(durations: DurationHistograms, bounds: BucketBounds) -> _Durations:
    return _Durations(
        durations.runs_created,
        durations.stages_created,
        _digest(bounds.runs),
        _digest(bounds.stages),
        {status: _Histogram(one.counts, one.sum) for status, one in durations.runs.items()},
        [(name, status, _Histogram(one.counts, one.sum)) for (name, status), one in durations.stages.items()],
    )


def _unpack(record: _Durations, bounds: BucketBounds, now: float) -> DurationHistograms:
    durations = bounds.empty(now)
    if record.run_bounds == _digest(bounds.runs):
        runs = {status: one.decode(bounds.runs) for status, one in record.runs.items()}
        durations = msgspec.structs.replace(
            durations, runs_created=record.runs_created, runs={**durations.runs, **runs}
        )
    if record.stage_bounds == _digest(bounds.stages):
        stages = {(name, status): one.decode(bounds.stages) for name, status, one in record.stages}
        durations = msgspec.structs.replace(durations, stages_created=record.stages_created, stages=stages)
    return durations


def _digest(bounds: tuple[float, ...]) -> int:
    return crc32(repr(bounds).encode())
