"""Measure the stored state: the transaction of a poll, the size of the file, and the start of the exporter.

    python -m benchmarks.state --pipelines 10000 --changed 100 --polls 30

Trackers get runs as polls would deliver them, and are saved as in the daemon, without a network. The file is in the system's
folder for temporary files or in `--directory`, which should be on the disk to measure.
"""

import argparse
import asyncio
import gc
import math
import os
import platform
import sqlite3
import statistics
import sys
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path
from random import Random
from typing import cast

import msgspec

from benchmarks.machine import write_json
from exporter.app.bootstrap import assemble
from exporter.app.exporter import Exporter
from exporter.core.clock import SystemClock
from exporter.core.model import Run, Stage, Status, Trigger
from exporter.exposition import Format, Variant
from exporter.settings.settings import Config
from exporter.state.recovery import open_store
from exporter.state.sqlite import Changes, SqliteStore, StoredState
from exporter.tracking.ledger import KEPT

TRANSACTION = 0.050
"""Target for the transaction of a poll, in seconds."""

SIZE = 3000
"""Target for the size of a pipeline in the file, in bytes."""

STAGES = ("checkout", "build", "test", "package", "deploy")
FAILING = 0.2
"""Fraction of runs that fail."""


class Spread(msgspec.Struct, frozen=True):
    """Distribution of repeated measurements, in seconds."""

    median: float
    p90: float
    most: float

    @classmethod
    def of(cls, seconds: Iterable[float]) -> "Spread":
        """Return the distribution of these measurements."""
        ordered = sorted(seconds)
        return cls(statistics.median(ordered), ordered[math.ceil(0.9 * len(ordered)) - 1], ordered[-1])


class Figures(msgspec.Struct, frozen=True, kw_only=True):
    """Measurements, and the machine on which they were taken."""

    pipelines: int
    changed: int
    """Pipelines with a new run at each poll."""
    polls: int
    transaction: Spread
    """`SqliteStore.save`, until everything is on the disk."""
    keep: Spread
    """All of `StateRepository.save`: find changes, encode, save, and update the views."""
    record: float
    """Average number of bytes saved for a pipeline."""
    file: int
    """Bytes of the closed file."""
    file_and_log: int
    """Maximum bytes of the file and its log after a save."""
    first: float
    """Seconds of the first transaction, with all pipelines."""
    opened: float
    """Seconds to open, check and read the file."""
    begun: float
    """Seconds from then until the first metrics page has all pipelines."""
    disk: Spread
    """For comparison: writing 4 KiB to the same disk and flushing it."""
    cores: int
    machine: str
    python: str
    sqlite: str


class Timed:
    """Wraps a store to measure its saves."""

    def __init__(self, store: SqliteStore) -> None:
        self._store = store
        self.seconds: list[float] = []
        self.records: list[int] = []
        """Bytes saved for each pipeline."""

    async def save(self, changes: Changes) -> None:
        """Save changes; record the time and the bytes of each pipeline."""
        started = time.perf_counter()
        await self._store.save(changes)
        self.seconds.append(time.perf_counter() - started)
        self.records += map(len, changes.pipelines.values())

    async def close(self) -> None:
        """Close the store."""
        await self._store.close()


class Cloud:
    """The latest runs of many pipelines; all of them are finished."""

    def __init__(self, pipelines: int) -> None:
        self._random = Random(1)
        self.now = time.time()
        self._executors = [self._id() for _ in range(50)]
        self.ids = [self._id() for _ in range(pipelines)]
        self.latest = {identity: self._run(self._random.randint(1, 5000)) for identity in self.ids}

    def _id(self) -> str:
        return f"{self._random.getrandbits(128):032x}"

    def _run(self, number: int, status: Status | None = None) -> Run:
        draw = self._random
        seconds = draw.lognormvariate(6, 1)
        return Run(
            id=self._id(),
            number=number,
            status=status or (Status.FAILED if draw.random() < FAILING else Status.SUCCESS),
            start=self.now,
            end=self.now + seconds,
            trigger=draw.choice((Trigger.PUSH, Trigger.SCHEDULE, Trigger.MANUAL)),
            branch=draw.choice(("main", "develop", f"release/{draw.randint(1, 99)}")),
            commit=f"{draw.getrandbits(160):040x}",
            executor=draw.choice(self._executors),
            stages=tuple(
                Stage(name, index, Status.SUCCESS, self.now + seconds * index / 5, seconds / 5)
                for index, name in enumerate(STAGES)
            ),
        )

    def some(self, count: int) -> list[str]:
        """Return the ids of `count` random pipelines."""
        return self._random.sample(self.ids, count)

    def advance(self, pipelines: Iterable[str], status: Status | None = None) -> None:
        """Advance the time by a minute and give some pipelines a new run, by default with a random status."""
        self.now += 60
        for identity in pipelines:
            self.latest[identity] = self._run((self.latest[identity].number or 0) + 1, status)

    def respond(self, exporter: Exporter) -> None:
        """Give the tracker a response with the latest runs of all pipelines."""
        (tracker,) = exporter.trackers
        tracker.answered(self.ids, self.latest, sent_at=self.now, now=self.now)


def settings(cloud: Cloud, path: Path) -> Config:
    """Return a default configuration of one project, with its state at `path`."""
    return Config.model_validate(
        {
            "state": {"path": str(path)},
            "projects": [
                {
                    "name": "benchmark",
                    "provider": "codearts",
                    "endpoint": "http://127.0.0.1:1",
                    "project_id": "54f90b75fc1447b1b65e8d3a9f77923d",
                    "auth": {"method": "token", "token": "none"},
                    "pipelines": [
                        {"id": identity, "name": f"team-{index % 40:02}-service-{index:05}-release"}
                        for index, identity in enumerate(cloud.ids)
                    ],
                }
            ],
        }
    )


def open_state(config: Config) -> tuple[Timed, StoredState]:
    """Open the state; return a store that measures its saves, and the stored state."""
    store, stored = open_store(Path(config.state.path or ""), time.time())
    return Timed(store), stored


def flush(file: Path) -> float:
    """Return the seconds to write 4 KiB to a file and flush it to the disk."""
    started = time.perf_counter()
    with file.open("wb") as page:
        page.write(bytes(4096))
        page.flush()
        os.fsync(page.fileno())
    return time.perf_counter() - started


def bytes_of(*files: Path) -> int:
    """Return the total size of files; a missing file counts as empty."""
    return sum(file.stat().st_size for file in files if file.exists())


async def measure(directory: Path, pipelines: int, changed: int, polls: int) -> Figures:
    """Run the benchmark in an empty directory."""
    path = directory / "state.db"
    files = (path, Path(f"{path}-wal"))
    disk = [flush(directory / "page") for _ in range(polls)]
    cloud = Cloud(pipelines)
    config = settings(cloud, path)
    store, stored = open_state(config)
    exporter = assemble(config, SystemClock(), store=cast("SqliteStore", store), stored=stored)
    (tracker,) = exporter.trackers
    # Each pipeline has had a success and a failure, and the maximum number of runs that are kept individually.
    cloud.respond(exporter)
    for count in range(KEPT + 2):
        cloud.advance(cloud.ids, {0: Status.FAILED, 1: Status.SUCCESS}.get(count))
        cloud.respond(exporter)
    gc.collect()
    await exporter.repository.save(tracker)
    (first,) = store.seconds
    largest = 0
    keep = []
    for _ in range(polls):
        cloud.advance(cloud.some(changed))
        cloud.respond(exporter)
        started = time.perf_counter()
        await exporter.repository.save(tracker)
        keep.append(time.perf_counter() - started)
        largest = max(largest, bytes_of(*files))
    await exporter.repository.close()
    size = bytes_of(*files)
    del exporter, tracker
    gc.collect()
    moments = [time.perf_counter()]
    store_again, stored = open_state(config)
    moments.append(time.perf_counter())
    again = assemble(config, SystemClock(), store=cast("SqliteStore", store_again), stored=stored)
    await again.publisher.publish()
    page = await again.publisher.body(Variant(Format.TEXT, gzip=False))
    moments.append(time.perf_counter())
    shown = b"".join(page.chunks).count(b"\nci_pipeline_latest_finished_run_number{")
    if shown != pipelines:
        raise RuntimeError(f"{shown} of {pipelines} pipelines came back")
    await again.repository.close()
    return Figures(
        pipelines=pipelines,
        changed=changed,
        polls=polls,
        transaction=Spread.of(store.seconds[1:]),
        keep=Spread.of(keep),
        record=statistics.mean(store.records),
        file=size,
        file_and_log=largest,
        first=first,
        opened=moments[1] - moments[0],
        begun=moments[2] - moments[1],
        disk=Spread.of(disk),
        cores=os.cpu_count() or 0,
        machine=platform.machine(),
        python=platform.python_version(),
        sqlite=sqlite3.sqlite_version,
    )


def table(figures: Figures) -> str:
    """Return the figures as Markdown tables."""

    def row(name: str, *values: str, target: str = "") -> str:
        return f"| {name} | {' | '.join(values)} | {target} |"

    def milliseconds(spread: Spread) -> list[str]:
        return [f"{1000 * seconds:.1f} ms" for seconds in (spread.median, spread.p90, spread.most)]

    def size(total: int) -> str:
        return f"{total / figures.pipelines:.0f} B"

    head = (
        f"{figures.pipelines} pipelines, {figures.changed} of them changed at each of {figures.polls} polls; "
        f"{figures.cores} cores, {figures.machine}, Python {figures.python}, SQLite {figures.sqlite}"
    )
    share = figures.transaction.p90 / TRANSACTION
    part = figures.file / figures.pipelines / SIZE
    return "\n".join(
        (
            head,
            "",
            "| measurement | median | p90 | maximum | of the target |",
            "|---|---|---|---|---|",
            row(
                "transaction of a poll",
                *milliseconds(figures.transaction),
                target=f"{share:.0%} of {1000 * TRANSACTION:.0f} ms (p90)",
            ),
            row("all work of a poll for the state", *milliseconds(figures.keep)),
            row("reference: 4 KiB, flushed", *milliseconds(figures.disk)),
            "",
            "| size | one pipeline | all | of the target |",
            "|---|---|---|---|",
            row(
                "closed file",
                size(figures.file),
                f"{figures.file / 1e6:.1f} MB",
                target=f"{part:.0%} of {SIZE} B",
            ),
            row(
                "file with its log, at most",
                size(figures.file_and_log),
                f"{figures.file_and_log / 1e6:.1f} MB",
            ),
            row("saved bytes", f"{figures.record:.0f} B", ""),
            "",
            "| step | seconds |",
            "|---|---|",
            f"| first save, of all pipelines | {figures.first:.2f} |",
            f"| start: open, check and read the file | {figures.opened:.2f} |",
            f"| start: from there to the first page | {figures.begun:.2f} |",
        )
    )


def main() -> int:
    """Run the benchmark; return the exit code."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--pipelines", type=int, default=10_000)
    parser.add_argument("--changed", type=int, default=100, help="pipelines with a new run at each poll")
    parser.add_argument("--polls", type=int, default=30)
    parser.add_argument("--directory", help="folder for the file")
    parser.add_argument("--json", type=Path, help="file to write the figures to")
    flags = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=flags.directory) as directory:
        figures = asyncio.run(measure(Path(directory), flags.pipelines, flags.changed, flags.polls))
    sys.stdout.write(f"{table(figures)}\n")
    write_json(flags.json, figures)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
