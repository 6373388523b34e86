"""An exporter that is killed at any instant while runs come and go: what its pages show, held to what was true."""

import json
import re
import signal
import sqlite3
import time
from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from contextlib import ExitStack, closing, suppress
from dataclasses import dataclass, field
from enum import Enum, auto
from itertools import accumulate
from pathlib import Path
from random import Random
from typing import Any

from starlette.requests import ClientDisconnect
from starlette.types import Receive, Scope, Send

from exporter.simulator import CodeArts, Scenario, Status, World, running
from tests.conftest import Cloud
from tests.drivers.audit import FATES
from tests.drivers.process import PATIENCE, Process, Samples, eventually

RUN_BOUNDS = (0.1, 0.25, 0.5, 1.0, 1.5)
STAGE_BOUNDS = (0.5, 1.0)
BACKLOG = 200
"""Runs to be learnt, above which a kill waits: a machine too slow for both would give up runs, as it ought to."""


class Bustle:
    """Short runs in real time, some side by side, some over before anybody looks.

    They come to pass when the cloud looks at its clock: in its own thread, and never while it answers.
    """

    def __init__(self, pipelines: int, seed: int = 1, *, longest: float = 2.0, swarm: float = 0.005) -> None:
        """`longest` is how many seconds a run lasts at most, `swarm` how many are between two of a swarm at most."""
        self.story = Scenario(World(seed=seed, pipelines=pipelines))
        self._draw = Random(f"{seed} bustle")
        self._longest = longest
        self._swarm = swarm
        self._next = self._until = 0.0
        self._played = 0.0
        self.cloud = CodeArts(self.story.world, clock=self._time, runs=self.story)

    @property
    def ids(self) -> list[str]:
        """The ids of all pipelines."""
        return [pipeline.id for pipeline in self.story.world.pipelines]

    async def app(self, scope: Scope, receive: Receive, send: Send) -> None:
        """The cloud, to whom it is nothing strange that somebody who was killed hangs up."""
        with suppress(ClientDisconnect):
            await self.cloud.app(scope, receive, send)

    def begin(self) -> None:
        """From now on runs begin."""
        self._next = time.time()
        self._until = float("inf")

    def end(self) -> None:
        """From now on none does; returns when the cloud has seen the last, which may still be under way."""
        self._until = until = time.time()
        eventually(lambda: self._played > until, "the cloud is asked")

    def _time(self) -> float:
        now = time.time()
        while self._next < min(now, self._until):
            self._play(self._next)
            # They come in swarms.
            self._next += self._draw.uniform(0, self._swarm if self._draw.random() < 0.9 else 0.3)
        self._played = now
        return now

    def _play(self, moment: float) -> None:
        draw = self._draw
        run = self.story.begin(draw.choice(self.ids), moment)
        length = draw.uniform(0, self._longest * (1 if draw.random() < 0.3 else 0.1))
        # Told of no moment before it.
        self.story.end(run, moment + length, draw.choice([Status[word] for word in FATES]))

    # What was true

    def number(self, pipeline: str) -> int:
        """The number of its last run; 0 without any."""
        latest = self.story.latest(pipeline, time.time())
        return latest.number if latest is not None else 0

    def series(self, pipeline: str) -> dict[str, float]:
        """The counters and the histogram of a pipeline all of whose runs are known; by name, status and bucket."""
        counts = dict.fromkeys(FATES.values(), 0)
        lengths: dict[str, list[float]] = {"success": [], "failed": []}
        for truth in self.story.truth(pipeline):
            last = truth.states[-1]
            assert last.end is not None
            counts[FATES[last.status]] += 1
            lengths.setdefault(FATES[last.status], []).append(last.end - last.start)
        return {
            **{f"ci_pipeline_runs_total {status}": count for status, count in counts.items()},
            **{f"ci_pipeline_run_retries_total {status}": 0 for status in counts},
            "ci_pipeline_runs_missed_total": 0,
            **_histograms("ci_pipeline_run_duration_seconds", lengths, RUN_BOUNDS),
        }

    def stages(self) -> dict[str, float]:
        """The histograms that all pipelines share; by stage name, status and bucket."""
        lengths: dict[str, list[float]] = defaultdict(list)
        for pipeline in self.story.world.pipelines:
            for run in self.story.history(pipeline, time.time()):
                for stage in run.stages:
                    if stage.start is not None and stage.end is not None:
                        key = f"{stage.name} {FATES[stage.status]}"
                        lengths[key].append(float(stage.end - stage.start))
        return _histograms("ci_pipeline_stage_duration_seconds", lengths, STAGE_BOUNDS)


def _histograms(name: str, lengths: dict[str, list[float]], bounds: tuple[float, ...]) -> dict[str, float]:
    series: dict[str, float] = {}
    for key, observed in lengths.items():
        places = Counter(bisect_left(bounds, length) for length in observed)
        sums = accumulate(places[place] for place in range(len(bounds) + 1))
        for bound, count in zip([*map(str, bounds), "+Inf"], sums, strict=True):
            series[f"{name}_bucket {key} {bound}"] = count
        series[f"{name}_count {key}"] = len(observed)
        series[f"{name}_sum {key}"] = sum(observed)
    return series


COUNTERS = (
    "ci_pipeline_runs_total",
    "ci_pipeline_run_retries_total",
    "ci_pipeline_runs_missed_total",
    *(f"ci_pipeline_run_duration_seconds_{part}" for part in ("bucket", "count", "sum")),
)
STAGES = tuple(f"ci_pipeline_stage_duration_seconds_{part}" for part in ("bucket", "count", "sum"))


def shown(samples: Samples, names: Iterable[str], **labels: str) -> dict[str, float]:
    """Series of a page as `Bustle` names them."""
    parts = ("stage_name", "status", "le")
    return {
        " ".join([name, *(dict(found)[part] for part in parts if part in dict(found))]): value
        for name in names
        for found, value in samples.get(name, **labels).items()
    }


def differences(found: dict[str, float], true: dict[str, float]) -> list[str]:
    """What is shown otherwise than it was."""
    return [
        f"{name}: shown {found.get(name)}, true {true.get(name)}"
        for name in sorted(found.keys() | true.keys())
        # Sums are those of times of day, of which a float knows fractions of a microsecond.
        if abs(found.get(name, -1) - true.get(name, -1)) > (0.01 if "_sum" in name else 0)
    ]


class Watch:
    """Somebody who scrapes: what was shown is never taken back."""

    _SERIES = re.compile(r"^(ci_\w+(?:_total|_bucket|_count|_sum)(?:\{.*\})?) (\S+)$", re.MULTILINE)

    def __init__(self) -> None:
        self.pages = 0
        self.failures: list[str] = []
        self._shown: dict[str, float] = {}
        self._process: Process | None = None
        """Whose page showed them."""

    def look(self, process: Process) -> Samples:
        """See the page of a process."""
        page = process.get("/metrics").text
        self.pages += 1
        now = {series: float(value) for series, value in self._SERIES.findall(page)}
        self._process = process
        self.failures += [
            f"page {self.pages}: {series} was {value}, is {now.get(series)}"
            for series, value in self._shown.items()
            if now.get(series, -1.0) < value
        ]
        self._shown = now
        return Samples(page)


def settings(cloud: CodeArts, url: str, state: Path) -> dict[str, Any]:
    """A configuration that polls all pipelines of a cloud as often as it may."""
    free = {"requests_per_second": 100_000, "burst": 100_000}
    return {
        "poll": {"interval": "300ms", "active_interval": "100ms", "timeout": "20s"},
        "metrics": {
            "run_duration_buckets": [f"{1000 * bound:.0f}ms" for bound in RUN_BOUNDS],
            "stage_duration_buckets": [f"{1000 * bound:.0f}ms" for bound in STAGE_BOUNDS],
        },
        "state": {"path": str(state)},
        "projects": [Cloud(cloud, url).project(rate_limit=free)],
    }


def begun(directory: Path, configuration: dict[str, Any]) -> Process:
    """The daemon on a configuration."""
    file = directory / "config.yaml"
    file.write_text(json.dumps(configuration))
    return Process(["run", "--config.file", str(file), "--web.listen-address", "127.0.0.1:0"])


def seen(samples: Samples, pipelines: int) -> bool:
    """Whether the counters of so many pipelines are there."""
    return len(samples.get("ci_pipeline_runs_missed_total")) == pipelines


def newest(samples: Samples, bustle: Bustle) -> bool:
    """Whether the latest run of each pipeline is the last that there was."""
    numbers = {
        dict(labels)["pipeline_id"]: number
        for labels, number in samples.get("ci_pipeline_latest_run_number").items()
    }
    return all(numbers.get(one, 0) == bustle.number(one) for one in bustle.ids)


def settled(samples: Samples, bustle: Bustle) -> bool:
    """Whether all runs are known, and over."""
    return (
        newest(samples, bustle)
        and samples.value("pipeline_exporter_runs_unresolved") == 0
        and not any(samples.get("ci_pipeline_runs_active").values())
    )


class Death(Enum):
    """When an exporter is killed: a random while after some moment."""

    STARTING = auto()
    """After its start."""
    ANYWHEN = auto()
    """After it listens."""
    SAVING = auto()
    """After that, in the middle of a save: somebody else holds the state until it is dead."""


DEATHS = (Death.ANYWHEN, Death.SAVING, Death.ANYWHEN, Death.STARTING)
"""One after the other."""


@dataclass
class EventKind:
    """What came of many kills; all but the first three are runs."""

    kills: int = 0
    deaf: int = 0
    """Of the kills, those before the exporter listened."""
    pages: int = 0
    true: int = 0
    accounted: int = 0
    missed: int = 0
    lost: int = 0
    double: int = 0
    failures: list[str] = field(default_factory=list)


def kill_often(
    directory: Path, kills: int, *, seed: int = 1, pipelines: int = 5, tell: Callable[[str], object] = len
) -> EventKind:
    """Kill an exporter so often, at any instant, and let it learn the rest; what it counted, held to what was true."""
    bustle = Bustle(pipelines, seed)
    watch = Watch()
    draw = Random(seed)
    count = EventKind(kills=kills)
    state = directory / "state.db"
    with running(bustle.app) as url:
        configuration = settings(bustle.cloud, url, state)
        # Before any run: what begins after the first sight is to be counted.
        process = begun(directory, configuration)
        try:
            eventually(lambda: seen(watch.look(process), pipelines), "the first sight")
            bustle.begin()
            for number in range(kills):
                listened = _die(process, watch, draw, DEATHS[number % len(DEATHS)], state)
                count.deaf += not listened
                tell(f"{number + 1} kills, {watch.pages} pages")
                process = begun(directory, configuration)
            _live(process, watch, draw)
            bustle.end()
            try:
                eventually(lambda: settled(watch.look(process), bustle), "all is learnt")
            except AssertionError as error:
                count.failures.append(str(error))
            _compare(bustle, watch.look(process), count)
        finally:
            process.kill()
            process.wait()
    count.pages = watch.pages
    count.failures += watch.failures
    return count


def _live(process: Process, watch: Watch, draw: Random) -> None:
    """Let it live for a random while after it listens, and look at its pages."""
    process.address()
    end = time.monotonic() + draw.uniform(0.1, 1.5)
    backlog = 0.0
    while (now := time.monotonic()) < end or (backlog > BACKLOG and now < end + PATIENCE):
        backlog = watch.look(process).value("pipeline_exporter_runs_unresolved") or 0
        time.sleep(draw.uniform(0, 0.1))


def _die(process: Process, watch: Watch, draw: Random, death: Death, state: Path) -> bool:
    """Let it live, and kill it; says whether it had come to listen."""
    with ExitStack() as held:
        if death is Death.STARTING:
            time.sleep(draw.uniform(0.1, 1.5))
        else:
            _live(process, watch, draw)
        if death is Death.SAVING:
            other = held.enter_context(closing(sqlite3.connect(state, isolation_level=None)))
            other.execute("BEGIN IMMEDIATE")
            time.sleep(draw.uniform(0, 0.5))
            watch.look(process)
        process.kill()
        code = process.wait()
    if code != -signal.SIGKILL:
        watch.failures.append(f"ended by itself with {code}")
    # On a slow machine polls are skipped, and who holds the state holds it for long.
    usual = re.compile(r" level=(info|warning) |counting paused")
    watch.failures += [line.rstrip() for line in process.log if not usual.search(line)]
    return any("listening" in line for line in process.log)


def _compare(bustle: Bustle, samples: Samples, count: EventKind) -> None:
    for pipeline in bustle.ids:
        true = bustle.series(pipeline)
        found = shown(samples, COUNTERS, pipeline_id=pipeline)
        expected, accounted = (
            sum(int(value) for name, value in series.items() if name.startswith("ci_pipeline_runs_total"))
            for series in (true, found)
        )
        missed = int(found["ci_pipeline_runs_missed_total"])
        count.true += expected
        count.accounted += accounted
        count.missed += missed
        count.lost += max(0, expected - accounted - missed)
        count.double += max(0, accounted + missed - expected)
        count.failures += [f"pipeline {pipeline}: {failure}" for failure in differences(found, true)]
    count.failures += differences(shown(samples, STAGES), bustle.stages())
