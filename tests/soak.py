"""Simulated days of thousands of pipelines in minutes; every run must be counted exactly once, and streaks must be true.

    python -m tests.soak --pipelines 2000 --days 2
    python -m tests.soak --pipelines 300 --days 1 --cloud flow

The pollers run on a clock that jumps from one poll to the next; the cloud serves on a real port. With `--kills`, the
exporter is a process in real time that is killed repeatedly:

    python -m tests.soak --kills 200
"""

import argparse
import asyncio
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import cycle
from pathlib import Path
from random import Random
from typing import Any
from unittest.mock import patch

from exporter.app.bootstrap import assemble
from exporter.app.daemon import open_state
from exporter.app.exporter import Exporter
from exporter.exposition.publisher import Publisher
from exporter.settings.settings import Config
from exporter.simulator import CodeArts, FaultRates, Flow, Scenario, ScenarioGenerator, World, running
from exporter.tracking.run_counters import BucketBounds
from tests.drivers.audit import Audit, AuditResult
from tests.drivers.kill_load import kill_repeatedly
from tests.drivers.streaks import false_streaks, reporting
from tests.drivers.summary_lists import SummaryListScenario
from tests.drivers.support import FakeClock

HOUR, DAY = 3600.0, 86_400.0
INTERVAL, ACTIVE = 120.0, 30.0

RESOLVED = 1500.0
"""Seconds after which an exporter on a healthy cloud knows what happened to all runs, including hidden ones."""


class ExporterLife:
    """An exporter on a simulated cloud, with one clock; it can be stopped and started again.

    Each start uses the next of several configurations of the same project.
    """

    def __init__(self, configs: Sequence[Config], clock: FakeClock, scenario: Scenario) -> None:
        self._scenario = scenario
        self._configs = cycle(configs)
        self._clock = clock
        self._exporter: Exporter | None = None
        self.requests = 0

    @property
    def exporter(self) -> Exporter:
        """The running exporter; it is started on first access."""
        if self._exporter is None:
            config = next(self._configs)
            store, stored = open_state(config, self._clock)
            self._exporter = assemble(config, self._clock, store=store, stored=stored)
        return self._exporter

    async def tick(self) -> None:
        """Run the due work of all pollers."""
        for poller in self.exporter.pollers:
            await poller.tick()
        if isinstance(self._scenario, SummaryListScenario):
            self._scenario.commit()

    async def stop(self) -> None:
        """Stop the exporter; what is not in the state is lost."""
        if self._exporter is not None:
            for poller in self._exporter.pollers:
                await poller.close()
            await self._exporter.repository.close()
            self._exporter = None

    @property
    def unresolved(self) -> int:
        """Number of unresolved runs."""
        return sum(tracker.unresolved for tracker in self.exporter.trackers)


def configurations(
    cloud: CodeArts | Flow, url: str, state: Path | None, *, concurrency: int = 4
) -> list[Config]:
    """Return configurations that poll all pipelines of a cloud without limits; for Flow, one for each API generation."""
    return [
        Config.model_validate(
            {
                "poll": {
                    "interval": f"{INTERVAL:.0f}s",
                    "active_interval": f"{ACTIVE:.0f}s",
                    "concurrency": concurrency,
                },
                "state": {"path": str(state)} if state else {},
                "projects": [
                    {
                        "name": "soak",
                        "endpoint": url,
                        "rate_limit": {"requests_per_second": 100_000, "burst": 100_000},
                        **project,
                    }
                ],
            }
        )
        for project in projects(cloud)
    ]


def create_cloud(name: str, world: World, clock: FakeClock) -> tuple[Scenario, CodeArts | Flow]:
    """Return a new scenario on a world, and the cloud of that name that serves it."""
    if name == "codearts":
        scenario = Scenario(world)
        return scenario, CodeArts(world, clock=clock.time, runs=scenario)
    outlined = SummaryListScenario(world)
    outlined.cloud = Flow(world, clock=clock.time, runs=outlined)
    return outlined, outlined.cloud


def projects(cloud: CodeArts | Flow) -> Iterator[dict[str, Any]]:
    """Yield the keys of a project section that depend on the cloud; for Flow, once for each API generation."""
    pipelines = cloud.world.pipelines
    if isinstance(cloud, CodeArts):
        yield {
            "provider": "codearts",
            "project_id": cloud.world.project_id,
            "auth": {"method": "token", "token": cloud.credentials.token},
            "pipelines": [{"id": one.id, "name": one.name} for one in pipelines],
        }
        return
    keys = cloud.credentials
    for auth in (
        {"method": "yunxiao_token", "token": keys.personal_token},
        {"method": "aksk", "access_key": keys.access_key, "secret_key": keys.secret_key},
    ):
        yield {
            "provider": "flow",
            "organization_id": cloud.organization_id,
            "auth": auth,
            "pipelines": [{"id": cloud.pipeline_id(one.id), "name": one.name} for one in pipelines],
        }


def pipeline_ids(cloud: CodeArts | Flow) -> dict[str, str] | None:
    """Return the scenario's pipeline ids by the ids of the cloud; None if they are the same."""
    if isinstance(cloud, CodeArts):
        return None
    return {cloud.pipeline_id(one.id): one.id for one in cloud.world.pipelines}


async def simulate(
    life: ExporterLife,
    clock: FakeClock,
    generator: ScenarioGenerator,
    audit: Callable[[], Audit],
    config: Config,
    *,
    days: float,
    restarts: float,
    misreports: float,
    scenario: Scenario,
    cloud: CodeArts | Flow,
    progress: Callable[[str], object],
) -> AuditResult:
    """Simulate some days, then wait until all runs are resolved; return the result of the audit.

    `restarts` and `misreports` are numbers a day. A misreport is a response with an implausible run number.
    """
    rng, wild = Random(1), Random(2)
    begin = clock.now
    auditor = audit()
    failures: list[str] = []
    check_at = begin + HOUR

    def check_streaks(*, settled: bool) -> None:
        views = [view for tracker in life.exporter.trackers for view in tracker.views()]
        known_until = clock.now if settled else clock.now - RESOLVED
        found = false_streaks(views, auditor, scenario, clock.now, known_until, reporting(cloud))
        failures.extend(f"{(clock.now - begin) / HOUR:.1f} h, streak of {failure}" for failure in found)

    last_progress = time.monotonic()
    while clock.now < begin + days * DAY:
        generator.play(clock.now)
        # The first responses set the numbers from which runs are counted.
        if clock.now > begin and wild.random() < misreports * ACTIVE / DAY:
            scenario.misreport(wild.choice(scenario.world.pipelines).id, wild.randrange(10**6, 2**53))
        await life.tick()
        if clock.now >= check_at:
            check_streaks(settled=False)
            check_at = clock.now + 3 * HOUR
        clock.now += ACTIVE
        if rng.random() < restarts * ACTIVE / DAY:
            await life.stop()
            clock.now += rng.uniform(1, 2 * HOUR)
            check_at = max(check_at, clock.now + RESOLVED)
        if time.monotonic() - last_progress > 10:
            last_progress = time.monotonic()
            progress(f"{(clock.now - begin) / HOUR:.1f} h, {life.unresolved} runs unresolved")
    # No more runs begin or end.
    end = clock.now + 4 * HOUR
    while clock.now < end:
        await life.tick()
        clock.now += INTERVAL
    views = [view for tracker in life.exporter.trackers for view in tracker.views()]
    projects = [view for tracker in life.exporter.trackers if (view := tracker.project_view()) is not None]
    result = auditor.check(views, projects, BucketBounds.of(config.metrics))
    check_streaks(settled=True)
    result.failures += failures
    return result


async def publish_nothing(_: object) -> None:
    """Publish no page."""


def print_figures(figures: dict[str, int], failures: list[str]) -> None:
    """Print labelled figures, then the first failures."""
    for label, figure in figures.items():
        print(f"{label:14}{figure:10}")
    for failure in failures[:20]:
        print(failure)


def soak_kills(kills: int, seed: int) -> int:
    """Kill a process repeatedly; return 0 if every run was counted exactly once."""
    started = time.monotonic()
    last_progress = started

    def progress(text: str) -> None:
        nonlocal last_progress
        if time.monotonic() - last_progress > 10:
            last_progress = time.monotonic()
            print(text, file=sys.stderr, flush=True)

    with tempfile.TemporaryDirectory() as directory:
        report = kill_repeatedly(Path(directory), kills, seed=seed, progress=progress)
    print(f"{kills} kills in {time.monotonic() - started:.0f} s")
    print_figures(
        {
            "early kills": report.killed_before_listening,
            "pages": report.pages,
            "runs": report.true,
            "counted": report.accounted,
            "missed": report.missed,
            "lost": report.lost,
            "counted twice": report.double,
        },
        report.failures,
    )
    return 1 if report.failures or report.missed or report.lost or report.double else 0


def main() -> int:
    """Run a soak; return 0 if every run was counted exactly once."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--cloud", choices=("codearts", "flow"), default="codearts")
    parser.add_argument("--pipelines", type=int, default=2000)
    parser.add_argument("--days", type=float, default=2.0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--restarts", type=float, default=6.0, help="restarts of the exporter a day")
    parser.add_argument(
        "--misreports", type=float, default=1440.0, help="answers a day with a wild run number"
    )
    parser.add_argument("--calm", action="store_true", help="runs only begin and end, without faults")
    parser.add_argument(
        "--kills", type=int, default=0, help="kill a process so many times instead of simulating days"
    )
    flags = parser.parse_args()
    if flags.kills:
        return soak_kills(flags.kills, flags.seed)
    world = World(seed=flags.seed, pipelines=flags.pipelines)
    clock = FakeClock(world.start + DAY)
    rates = FaultRates.none() if flags.calm else FaultRates()
    if flags.cloud == "flow":
        # Its runs have no id except for their number, which never restarts.
        rates = replace(rates, reset=0.0, recreated=0.0)
    scenario, cloud = create_cloud(flags.cloud, world, clock)
    generator = ScenarioGenerator(scenario, flags.seed, rates)
    generator.play(clock.now)
    started = time.monotonic()
    # Rendering a page at each tick would take most of the time, and no page is read.
    quiet = patch.object(Publisher, "publish", new=publish_nothing)
    with quiet, running(cloud.app) as url, tempfile.TemporaryDirectory() as directory:
        configs = configurations(cloud, url, Path(directory) / "state.db")
        life = ExporterLife(configs, clock, scenario)

        async def run_all() -> AuditResult:
            result = await simulate(
                life,
                clock,
                generator,
                lambda: Audit(scenario, clock.now, pipeline_ids(cloud)),
                configs[0],
                days=flags.days,
                restarts=flags.restarts,
                misreports=flags.misreports,
                scenario=scenario,
                cloud=cloud,
                progress=lambda text: print(text, file=sys.stderr, flush=True),
            )
            print("unresolved", life.unresolved)
            await life.stop()
            return result

        result = asyncio.run(run_all())
    seconds = time.monotonic() - started
    print(f"{flags.pipelines} pipelines, {flags.days:g} days in {seconds:.0f} s")
    print_figures(
        {
            "runs": result.true,
            "counted": result.accounted,
            "missed": result.missed,
            "doubtful": result.doubtful,
            "unexplained": result.unexplained,
            "counted twice": result.double,
        },
        result.failures,
    )
    return 1 if result.failures or result.double or result.unexplained else 0


if __name__ == "__main__":
    sys.exit(main())
