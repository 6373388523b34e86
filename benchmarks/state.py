"""What it costs to remember: the transaction of a poll, the size of the file, the start.

    python -m benchmarks.state --pipelines 10000 --changed 100 --polls 30

Boards are told answers as polls tell them, and saved as the daemon saves them; there is no network. The file lies in the
system's folder for temporary files, or under `--directory`: it should be on the disk that is asked about.
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

from exporter.app.bootstrap import Exporter, assemble
from exporter.core.clock import SystemClock
from exporter.core.model import Run, Stage, Status, Trigger
from exporter.exposition import Format, Variant
from exporter.settings.settings import Config
from exporter.state.recovery import open_store
from exporter.state.sqlite import Changes, SqliteStore, StoredState
from exporter.tracking.ledger import KEPT

TRANSACTION = 0.050
"""Seconds that the transaction of a poll may take."""

SIZE = 3000
"""Bytes that a pipeline may take in the file."""

STAGES = ("checkout", "build", "test", "package", "deploy")
FAILING = 0.2
"""How many of the runs fail."""


class Spread(msgspec.Struct, frozen=True):
    """How long the same took, several times; seconds."""

    median: float
    p90: float
    most: float

    @classmethod
    def of(cls, seconds: Iterable[float]) -> "Spread":
        """The spread of some measurements."""
        rising = sorted(seconds)
        return cls(statistics.median(rising), rising[math.ceil(0.9 * len(rising)) - 1], rising[-1])


class Figures(msgspec.Struct, frozen=True, kw_only=True):
    """What was measured, and where."""

    pipelines: int
    changed: int
    """How many of them have a new run at each poll."""
    polls: int
    transaction: Spread
    """From the call of `SqliteStore.save` until all is on the disk."""
    keep: Spread
    """All of `StateRepository.save`: what changed is found, written as bytes, saved, and shown."""
    record: float
    """Bytes that are saved of a pipeline, on the average."""
    file: int
    """Bytes of the closed file."""
    file_and_log: int
    """Bytes of the file and its log, the most that there were after a save."""
    first: float
    """Seconds of the transaction that holds every pipeline."""
    opened: float
    """Seconds to open the file, look whether it is whole, and read it."""
    begun: float
    """Seconds from there until every pipeline is on the first page."""
    disk: Spread
    """Nothing but a page of 4 KiB, written and flushed to the same disk: for comparison."""
    cores: int
    machine: str
    python: str
    sqlite: str


class Timed:
    """A store that measures its saves."""

    def __init__(self, store: SqliteStore) -> None:
        self._store = store
        self.seconds: list[float] = []
        self.records: list[int] = []
        """Sizes of the saved records of pipelines."""

    async def save(self, changes: Changes) -> None:
        """Save, and measure how long it takes."""
        start = time.perf_counter()
        await self._store.save(changes)
        self.seconds.append(time.perf_counter() - start)
        self.records += map(len, changes.pipelines.values())

    async def close(self) -> None:
        """Close the store."""
        await self._store.close()


class Cloud:
    """The latest runs of many pipelines, of which each has ended."""

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
                Stage(name, place, Status.SUCCESS, self.now + seconds * place / 5, seconds / 5)
                for place, name in enumerate(STAGES)
            ),
        )

    def some(self, count: int) -> list[str]:
        """A few of the pipelines, other ones each time."""
        return self._random.sample(self.ids, count)

    def go_on(self, pipelines: Iterable[str], status: Status | None = None) -> None:
        """A minute later each of some pipelines has one more run; how it ended is left to chance, if not told."""
        self.now += 60
        for identity in pipelines:
            self.latest[identity] = self._run((self.latest[identity].number or 0) + 1, status)

    def answer(self, exporter: Exporter) -> None:
        """All are asked about."""
        (tracker,) = exporter.trackers
        tracker.answered(self.ids, self.latest, sent_at=self.now, now=self.now)


def settings(cloud: Cloud, path: Path) -> Config:
    """A configuration of one project, with defaults."""
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
                        {"id": identity, "name": f"team-{place % 40:02}-service-{place:05}-release"}
                        for place, identity in enumerate(cloud.ids)
                    ],
                }
            ],
        }
    )


def open_state(config: Config) -> tuple[Timed, StoredState]:
    """The state, and what it holds."""
    store, stored = open_store(Path(config.state.path or ""), time.time())
    return Timed(store), stored


def flush(file: Path) -> float:
    """Seconds to have a page on the disk."""
    epoch_start = time.perf_counter()
    with file.open("wb") as page:
        page.write(bytes(4096))
        page.flush()
        os.fsync(page.fileno())
    return time.perf_counter() - epoch_start


def bytes_of(*files: Path) -> int:
    """How large some files are, of which some may be missing."""
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
    # Each pipeline has seen success and failure, and all the runs that are kept one by one.
    cloud.answer(exporter)
    for count in range(KEPT + 2):
        cloud.go_on(cloud.ids, {0: Status.FAILED, 1: Status.SUCCESS}.get(count))
        cloud.answer(exporter)
    gc.collect()
    await exporter.repository.save(tracker)
    (first,) = store.seconds
    largest = 0
    keep = []
    for _ in range(polls):
        cloud.go_on(cloud.some(changed))
        cloud.answer(exporter)
        epoch_start = time.perf_counter()
        await exporter.repository.save(tracker)
        keep.append(time.perf_counter() - epoch_start)
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
    """The figures for people."""

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
            "| what | median | p90 | most | of the target |",
            "|---|---|---|---|---|",
            row(
                "a poll's transaction",
                *milliseconds(figures.transaction),
                target=f"{share:.0%} of {1000 * TRANSACTION:.0f} ms (p90)",
            ),
            row("all that a poll does to keep it", *milliseconds(figures.keep)),
            row("the disk alone: 4 KiB, flushed", *milliseconds(figures.disk)),
            "",
            "| what | one pipeline | all | of the target |",
            "|---|---|---|---|",
            row(
                "the closed file",
                size(figures.file),
                f"{figures.file / 1e6:.1f} MB",
                target=f"{part:.0%} of {SIZE} B",
            ),
            row(
                "the file and its log, at most",
                size(figures.file_and_log),
                f"{figures.file_and_log / 1e6:.1f} MB",
            ),
            row("what is saved of it", f"{figures.record:.0f} B", ""),
            "",
            "| what | seconds |",
            "|---|---|",
            f"| the first save, of all pipelines | {figures.first:.2f} |",
            f"| start: open, check and read the file | {figures.opened:.2f} |",
            f"| start: from there to the first page | {figures.begun:.2f} |",
        )
    )


def main() -> int:
    """Run the benchmark; returns the exit code."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--pipelines", type=int, default=10_000)
    parser.add_argument("--changed", type=int, default=100, help="pipelines with a new run at each poll")
    parser.add_argument("--polls", type=int, default=30)
    parser.add_argument("--directory", help="where the file is to lie")
    parser.add_argument("--json", type=Path, help="a file for the figures")
    flags = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=flags.directory) as directory:
        figures = asyncio.run(measure(Path(directory), flags.pipelines, flags.changed, flags.polls))
    sys.stdout.write(f"{table(figures)}\n")
    if flags.json:
        flags.json.parent.mkdir(parents=True, exist_ok=True)
        flags.json.write_bytes(msgspec.json.format(msgspec.json.encode(figures)) + b"\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
