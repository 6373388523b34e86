"""What is remembered of a pipeline and of a project for good, and how it is written down.

Not remembered is what the next answer tells anyway, and what is only of this process: monotonic times, exemplars.
"""

from zlib import crc32

import msgspec

from exporter.core.model import Status
from exporter.tracking.ledger import LedgerState
from exporter.tracking.run_counters import BucketBounds, DurationHistograms, Histogram, RunCounters


class WaitingStage(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A stage that waits for somebody."""

    name: str
    sequence: int
    status: Status
    since: float
    """Epoch seconds."""


class Snapshot(msgspec.Struct, frozen=True, kw_only=True):
    """What is remembered of a pipeline."""

    name: str
    """Its name; empty while it is not known."""
    state: LedgerState
    counters: RunCounters
    durations: DurationHistograms
    run: str = ""
    """The id of the latest run."""
    status: Status = Status.UNKNOWN
    change: float | None = None
    """Since when the latest run has that status, in epoch seconds."""
    waiting: tuple[WaitingStage, ...] = ()
    """Its stages that wait for somebody."""


class SavedPipeline(msgspec.Struct, frozen=True):
    """What is remembered of a pipeline, and as of when."""

    memory: Snapshot
    answered: float
    """When the last answer came that was believed, by its own clock; epoch seconds."""


class UnreadableError(Exception):
    """Bytes that are no memory."""


class _Histogram(msgspec.Struct, frozen=True, array_like=True):
    counts: tuple[int, ...]
    sum: float

    def read(self, bounds: tuple[float, ...]) -> Histogram:
        if len(self.counts) != len(bounds) + 1:
            raise msgspec.ValidationError(f"{len(self.counts)} buckets with {len(bounds)} bounds")
        return Histogram(self.counts, self.sum)


class _Durations(msgspec.Struct, frozen=True, array_like=True):
    """Histograms, and what tells whether they are of the present buckets."""

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


_pipelines = msgspec.msgpack.Decoder(_Pipeline)
_projects = msgspec.msgpack.Decoder(_Durations)


def encode_pipeline(remembered: SavedPipeline, bounds: BucketBounds) -> bytes:
    """What is remembered of a pipeline as bytes."""
    memory = remembered.memory
    return msgspec.msgpack.encode(
        _Pipeline(
            memory.name,
            remembered.answered,
            memory.state,
            memory.counters,
            _write(memory.durations, bounds),
            memory.run,
            memory.status,
            memory.change,
            memory.waiting,
        )
    )


def read(data: bytes, bounds: BucketBounds, now: float) -> SavedPipeline:
    """What `encode_pipeline` wrote; histograms of other buckets begin anew at `now`.

    Raises:
        UnreadableError: these bytes are no memory.

    """
    try:
        found = _pipelines.decode(data)
        durations = _read(found.durations, bounds, now)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise UnreadableError(str(error)) from None
    memory = Snapshot(
        name=found.name,
        state=found.state,
        counters=found.counters,
        durations=durations,
        run=found.run,
        status=found.status,
        change=found.change,
        waiting=found.waiting,
    )
    return SavedPipeline(memory, found.answered)


def encode_durations(durations: DurationHistograms, bounds: BucketBounds) -> bytes:
    """A project's histograms as bytes."""
    return msgspec.msgpack.encode(_write(durations, bounds))


def decode_durations(data: bytes, bounds: BucketBounds, now: float) -> DurationHistograms:
    """What `encode_durations` wrote; histograms of other buckets begin anew at `now`.

    Raises:
        UnreadableError: these bytes are no histograms.

    """
    try:
        return _read(_projects.decode(data), bounds, now)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise UnreadableError(str(error)) from None


def _write(durations: DurationHistograms, bounds: BucketBounds) -> _Durations:
    return _Durations(
        durations.runs_created,
        durations.stages_created,
        _digest(bounds.runs),
        _digest(bounds.stages),
        {status: _Histogram(one.counts, one.sum) for status, one in durations.runs.items()},
        [(name, status, _Histogram(one.counts, one.sum)) for (name, status), one in durations.stages.items()],
    )


def _read(found: _Durations, bounds: BucketBounds, now: float) -> DurationHistograms:
    durations = bounds.empty(now)
    if found.run_bounds == _digest(bounds.runs):
        runs = {status: one.read(bounds.runs) for status, one in found.runs.items()}
        durations = msgspec.structs.replace(
            durations, runs_created=found.runs_created, runs={**durations.runs, **runs}
        )
    if found.stage_bounds == _digest(bounds.stages):
        stages = {(name, status): one.read(bounds.stages) for name, status, one in found.stages}
        durations = msgspec.structs.replace(durations, stages_created=found.stages_created, stages=stages)
    return durations


def _digest(bounds: tuple[float, ...]) -> int:
    return crc32(repr(bounds).encode())


class RetiredPipelines:
    """What is remembered of the pipelines of one vendor's project that nobody watches now."""

    def __init__(self) -> None:
        self.away: dict[str, tuple[SavedPipeline, float | None]] = {}
        """By pipeline id, with the moment when it was left (epoch seconds); None if that was before the start."""

    def recall(self, pipeline: str) -> SavedPipeline | None:
        """What is remembered of a pipeline that is watched from now on."""
        remembered, _ = self.away.pop(pipeline, (None, None))
        return remembered

    def leave(self, pipeline: str, remembered: SavedPipeline | None, now: float) -> None:
        """A pipeline is watched no longer since `now` (epoch seconds)."""
        if remembered is not None:
            self.away[pipeline] = (remembered, now)
