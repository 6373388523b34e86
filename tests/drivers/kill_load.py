"""Short runs in real time, and an exporter that is killed at random times while it counts them."""

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

from exporter.simulator import CodeArts, Scenario, SimulatedStatus, World, running
from tests.conftest import Cloud
from tests.drivers.audit import FINAL_STATUSES
from tests.drivers.process import PATIENCE, Process, Samples, eventually

RUN_BOUNDS = (0.1, 0.25, 0.5, 1.0, 1.5)
STAGE_BOUNDS = (0.5, 1.0)
BACKLOG = 200
"""Number of unresolved runs above which a kill waits, because a slow exporter would rightly give up runs."""


class RunLoad:
    """Short runs in real time; some overlap, and some end between two polls.

    Runs are created when the cloud reads its clock, in the cloud's thread and never during a response.
    """

    def __init__(
        self, pipelines: int, seed: int = 1, *, max_length: float = 2.0, burst_gap: float = 0.005
    ) -> None:
        """`max_length` is the maximum length of a run in seconds, `burst_gap` the maximum time between two runs of a burst."""
        self.scenario = Scenario(World(seed=seed, pipelines=pipelines))
        self._rng = Random(f"{seed} bustle")
        self._max_length = max_length
        self._burst_gap = burst_gap
        self._next = self._until = 0.0
        self._played = 0.0
        self.cloud = CodeArts(self.scenario.world, clock=self._time, runs=self.scenario)

    @property
    def ids(self) -> list[str]:
        """Ids of all pipelines."""
        return [pipeline.id for pipeline in self.scenario.world.pipelines]

    async def app(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve the cloud; a killed client may disconnect."""
        with suppress(ClientDisconnect):
            await self.cloud.app(scope, receive, send)

    def begin(self) -> None:
        """Start to create runs."""
        self._next = time.time()
        self._until = float("inf")

    def end(self) -> None:
        """Stop creating runs; return once the cloud has created the last run, which may still be in progress."""
        self._until = until = time.time()
        eventually(lambda: self._played > until, "the cloud has a request")

    def _time(self) -> float:
        now = time.time()
        while self._next < min(now, self._until):
            self._play(self._next)
            # Runs come in bursts.
            self._next += self._rng.uniform(0, self._burst_gap if self._rng.random() < 0.9 else 0.3)
        self._played = now
        return now

    def _play(self, moment: float) -> None:
        rng = self._rng
        run = self.scenario.begin(rng.choice(self.ids), moment)
        length = rng.uniform(0, self._max_length * (1 if rng.random() < 0.3 else 0.1))
        # The end is not visible before its time.
        self.scenario.end(
            run, moment + length, rng.choice([SimulatedStatus[name] for name in FINAL_STATUSES])
        )

    def number(self, pipeline: str) -> int:
        """Return the number of the pipeline's latest run; 0 without runs."""
        latest = self.scenario.latest(pipeline, time.time())
        return latest.number if latest is not None else 0

    def runs(self, pipeline: str) -> int:
        """Return the number of the pipeline's runs."""
        return sum(1 for _ in self.scenario.truth(pipeline))

    def series(self, pipeline: str) -> dict[str, float]:
        """Return the true counters and histogram of a pipeline, by name, status and bucket."""
        counts = dict.fromkeys(FINAL_STATUSES.values(), 0)
        lengths: dict[str, list[float]] = {"success": [], "failed": []}
        for truth in self.scenario.truth(pipeline):
            last = truth.states[-1]
            assert last.end is not None
            counts[FINAL_STATUSES[last.status]] += 1
            lengths.setdefault(FINAL_STATUSES[last.status], []).append(last.end - last.start)
        return {
            **{f"ci_pipeline_runs_total {status}": count for status, count in counts.items()},
            **{f"ci_pipeline_run_retries_total {status}": 0 for status in counts},
            "ci_pipeline_runs_missed_total": 0,
            **_histograms("ci_pipeline_run_duration_seconds", lengths, RUN_BOUNDS),
        }

    def streak(self, pipeline: str) -> dict[str, float]:
        """Return the true streak of a pipeline, by metric; a metric without a value is left out."""
        failures: list[float] = []
        success: float | None = None
        for truth in sorted(self.scenario.truth(pipeline), key=lambda truth: truth.number):
            last = truth.states[-1]
            assert last.end is not None
            if last.status == "COMPLETED":
                failures, success = [], last.end
            elif last.status == "FAILED":
                failures.append(last.end)
        values = (len(failures), failures[0] if failures else None, success)
        return {name: value for name, value in zip(STREAKS, values, strict=True) if value is not None}

    def stages(self) -> dict[str, float]:
        """Return the true histograms of all pipelines, by stage name, status and bucket."""
        lengths: dict[str, list[float]] = defaultdict(list)
        for pipeline in self.scenario.world.pipelines:
            for run in self.scenario.history(pipeline, time.time()):
                for stage in run.stages:
                    if stage.start is not None and stage.end is not None:
                        key = f"{stage.name} {FINAL_STATUSES[stage.status]}"
                        lengths[key].append(float(stage.end - stage.start))
        return _histograms("ci_pipeline_stage_duration_seconds", lengths, STAGE_BOUNDS)


def _histograms(name: str, lengths: dict[str, list[float]], bounds: tuple[float, ...]) -> dict[str, float]:
    series: dict[str, float] = {}
    for key, observed in lengths.items():
        counts_by_bucket = Counter(bisect_left(bounds, length) for length in observed)
        sums = accumulate(counts_by_bucket[bucket] for bucket in range(len(bounds) + 1))
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
STREAKS = (
    "ci_pipeline_consecutive_failures",
    "ci_pipeline_broken_since_timestamp_seconds",
    "ci_pipeline_last_success_timestamp_seconds",
)
STAGES = tuple(f"ci_pipeline_stage_duration_seconds_{part}" for part in ("bucket", "count", "sum"))


def shown_series(samples: Samples, names: Iterable[str], **labels: str) -> dict[str, float]:
    """Return the series of a metrics page, with the keys of `RunLoad.series`."""
    parts = ("stage_name", "status", "le")
    return {
        " ".join([name, *(dict(found)[part] for part in parts if part in dict(found))]): value
        for name in names
        for found, value in samples.get(name, **labels).items()
    }


def differences(found: dict[str, float], true: dict[str, float]) -> list[str]:
    """Return a message for each series whose value on the metrics page is not the true one."""
    return [
        f"{name}: shown {found.get(name)}, true {true.get(name)}"
        for name in sorted(found.keys() | true.keys())
        # Sums are computed from Unix seconds, which a float represents with an error of some microseconds.
        if abs(found.get(name, -1) - true.get(name, -1)) > (0.01 if "_sum" in name else 0)
    ]


class CounterWatch:
    """A scraper that checks that counters never decrease."""

    _SERIES = re.compile(r"^(ci_\w+(?:_total|_bucket|_count|_sum)(?:\{.*\})?) (\S+)$", re.MULTILINE)

    def __init__(self) -> None:
        self.pages = 0
        self.failures: list[str] = []
        self._last: dict[str, float] = {}
        self._process: Process | None = None
        """The process of the last page."""

    def scrape(self, process: Process) -> Samples:
        """Scrape a process; record a failure for each counter that has decreased."""
        page = process.get("/metrics").text
        self.pages += 1
        now = {series: float(value) for series, value in self._SERIES.findall(page)}
        self._process = process
        self.failures += [
            f"page {self.pages}: {series} was {value}, is {now.get(series)}"
            for series, value in self._last.items()
            if now.get(series, -1.0) < value
        ]
        self._last = now
        return Samples(page)


def configuration(cloud: CodeArts, url: str, state: Path) -> dict[str, Any]:
    """Return a configuration that polls all pipelines of a cloud as often as possible."""
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


def start_exporter(directory: Path, settings: dict[str, Any]) -> Process:
    """Start the daemon with a configuration."""
    file = directory / "config.yaml"
    file.write_text(json.dumps(settings))
    return Process(["run", "--config.file", str(file), "--web.listen-address", "127.0.0.1:0"])


def all_listed(samples: Samples, pipelines: int) -> bool:
    """Return whether the page has the counters of that many pipelines."""
    return len(samples.get("ci_pipeline_runs_missed_total")) == pipelines


def latest_shown(samples: Samples, load: RunLoad) -> bool:
    """Return whether the page shows the latest run of each pipeline."""
    numbers = {
        dict(labels)["pipeline_id"]: number
        for labels, number in samples.get("ci_pipeline_latest_run_number").items()
    }
    return all(numbers.get(one, 0) == load.number(one) for one in load.ids)


def all_counted(samples: Samples, load: RunLoad) -> bool:
    """Return whether the page counts all runs, and shows no unresolved or active run."""
    # After an outage of the disk, a page may show the latest runs before the next poll counts them.
    counted = samples.get("ci_pipeline_runs_total"), samples.get("ci_pipeline_runs_missed_total")
    return (
        sum(value for series in counted for value in series.values())
        >= sum(load.runs(pipeline) for pipeline in load.ids)
        and latest_shown(samples, load)
        and samples.value("pipeline_exporter_runs_unresolved") == 0
        and not any(samples.get("ci_pipeline_runs_active").values())
    )


class KillTiming(Enum):
    """The event after which, with a random delay, an exporter is killed."""

    STARTING = auto()
    """The process starts."""
    RUNNING = auto()
    """The exporter listens."""
    SAVING = auto()
    """The exporter saves; another connection locks the state until the exporter is dead."""


KILL_TIMINGS = (KillTiming.RUNNING, KillTiming.SAVING, KillTiming.RUNNING, KillTiming.STARTING)
"""The timings of successive kills, in turn."""


@dataclass
class KillReport:
    """Result of many kills; all fields except for the first three count runs."""

    kills: int = 0
    killed_before_listening: int = 0
    """Kills before the exporter listened."""
    pages: int = 0
    true: int = 0
    accounted: int = 0
    missed: int = 0
    lost: int = 0
    double: int = 0
    failures: list[str] = field(default_factory=list)


def kill_repeatedly(
    directory: Path, kills: int, *, seed: int = 1, pipelines: int = 5, progress: Callable[[str], object] = len
) -> KillReport:
    """Kill an exporter repeatedly, then let it resolve all runs; compare its counters with the true runs."""
    load = RunLoad(pipelines, seed)
    watch = CounterWatch()
    rng = Random(seed)
    report = KillReport(kills=kills)
    state = directory / "state.db"
    with running(load.app) as url:
        settings = configuration(load.cloud, url, state)
        # Before any run: only runs that begin after the first poll are counted.
        process = start_exporter(directory, settings)
        try:
            eventually(lambda: all_listed(watch.scrape(process), pipelines), "the first page")
            load.begin()
            for number in range(kills):
                listened = _kill_after(process, watch, rng, KILL_TIMINGS[number % len(KILL_TIMINGS)], state)
                report.killed_before_listening += not listened
                progress(f"{number + 1} kills, {watch.pages} pages")
                process = start_exporter(directory, settings)
            _run_for_a_while(process, watch, rng)
            load.end()
            try:
                eventually(lambda: all_counted(watch.scrape(process), load), "all runs are counted")
            except AssertionError as error:
                report.failures.append(str(error))
            _compare(load, watch.scrape(process), report)
            # Without a state, the exporter determines streaks from run lists.
            process.kill()
            process.wait()
            process = start_exporter(directory, {**settings, "state": {}})
            eventually(lambda: _streaks_known(process, load, report), "streaks without a state")
        finally:
            process.kill()
            process.wait()
    report.pages = watch.pages
    report.failures += watch.failures
    return report


def _run_for_a_while(process: Process, watch: CounterWatch, rng: Random) -> None:
    """Let the exporter run for a random time after it listens, and read its pages."""
    process.address()
    end = time.monotonic() + rng.uniform(0.1, 1.5)
    backlog = 0.0
    while (now := time.monotonic()) < end or (backlog > BACKLOG and now < end + PATIENCE):
        backlog = watch.scrape(process).value("pipeline_exporter_runs_unresolved") or 0
        time.sleep(rng.uniform(0, 0.1))


def _kill_after(process: Process, watch: CounterWatch, rng: Random, timing: KillTiming, state: Path) -> bool:
    """Kill the exporter at a random time; return whether it listened before."""
    with ExitStack() as resources:
        if timing is KillTiming.STARTING:
            time.sleep(rng.uniform(0.1, 1.5))
        else:
            _run_for_a_while(process, watch, rng)
        if timing is KillTiming.SAVING:
            lock = resources.enter_context(closing(sqlite3.connect(state, isolation_level=None)))
            lock.execute("BEGIN IMMEDIATE")
            time.sleep(rng.uniform(0, 0.5))
            watch.scrape(process)
        process.kill()
        code = process.wait()
    if code != -signal.SIGKILL:
        watch.failures.append(f"ended with exit code {code} before it was killed")
    # Warnings are expected, because a slow machine skips polls. So is a failed save while the state is locked.
    expected = re.compile(r" level=(info|warning) | id=state-not-saved|counting paused")
    watch.failures += [line.rstrip() for line in process.log if not expected.search(line)]
    return any("listening" in line for line in process.log)


def _compare(load: RunLoad, samples: Samples, report: KillReport) -> None:
    for pipeline in load.ids:
        true = load.series(pipeline)
        found = shown_series(samples, COUNTERS, pipeline_id=pipeline)
        expected, accounted = (
            sum(int(value) for name, value in series.items() if name.startswith("ci_pipeline_runs_total"))
            for series in (true, found)
        )
        missed = int(found["ci_pipeline_runs_missed_total"])
        report.true += expected
        report.accounted += accounted
        report.missed += missed
        report.lost += max(0, expected - accounted - missed)
        report.double += max(0, accounted + missed - expected)
        streak = shown_series(samples, STREAKS, pipeline_id=pipeline)
        failures = differences(found, true) + differences(streak, load.streak(pipeline))
        report.failures += [f"pipeline {pipeline}: {failure}" for failure in failures]
    report.failures += differences(shown_series(samples, STAGES), load.stages())


def _streaks_known(process: Process, load: RunLoad, report: KillReport) -> bool:
    """Return whether the page shows the streaks of all pipelines; report the shown ones that are not true."""
    samples = Samples(process.get("/metrics").text)
    shown = {pipeline: shown_series(samples, STREAKS, pipeline_id=pipeline) for pipeline in load.ids}
    report.failures += [
        f"pipeline {pipeline}, without a state: {failure}"
        for pipeline, streak in shown.items()
        if streak
        for failure in differences(streak, load.streak(pipeline))
    ]
    return all(STREAKS[0] in streak for streak in shown.values())
