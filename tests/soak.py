"""A long life in short time: simulated days of thousands of pipelines, every run of which is to be counted exactly once.

    python -m tests.soak --pipelines 2000 --days 2
    python -m tests.soak --pipelines 300 --days 1 --cloud flow

The units of work themselves are called, on a clock that leaps from one to the next; the cloud answers on a real port.
Or in real time, the exporter a process that is killed again and again:

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

from exporter.app.bootstrap import Exporter, assemble
from exporter.app.daemon import open_state
from exporter.exposition.publisher import Publisher
from exporter.settings.settings import Config
from exporter.simulator import CodeArts, FaultRates, Flow, Scenario, ScenarioGenerator, World, running
from exporter.tracking.run_counters import BucketBounds
from tests.drivers.audit import Audit, Verdict
from tests.drivers.killing import kill_often
from tests.drivers.outlines import Outlined
from tests.drivers.support import FakeClock

HOUR, DAY = 3600.0, 86_400.0
INTERVAL, ACTIVE = 120.0, 30.0


class Life:
    """An exporter on a simulated cloud, with one clock; the exporter may be stopped and begun anew.

    Each time it begins with the next of some configurations of the same project.
    """

    def __init__(self, configs: Sequence[Config], clock: FakeClock, story: Scenario) -> None:
        self._story = story
        self._configs = cycle(configs)
        self._clock = clock
        self._exporter: Exporter | None = None
        self.requests = 0

    @property
    def exporter(self) -> Exporter:
        """The exporter, begun if it is not."""
        if self._exporter is None:
            config = next(self._configs)
            store, stored = open_state(config, self._clock)
            self._exporter = assemble(config, self._clock, store=store, stored=stored)
        return self._exporter

    async def tick(self) -> None:
        """What is due is done."""
        for poller in self.exporter.pollers:
            await poller.tick()
        if isinstance(self._story, Outlined):
            self._story.settle()

    async def stop(self) -> None:
        """Whatever is not in the state is lost."""
        if self._exporter is not None:
            for poller in self._exporter.pollers:
                await poller.close()
            await self._exporter.repository.close()
            self._exporter = None

    @property
    def unresolved(self) -> int:
        """Runs that are still to be learnt."""
        return sum(tracker.unresolved for tracker in self.exporter.trackers)


def settings(cloud: CodeArts | Flow, url: str, state: Path | None, *, concurrency: int = 4) -> list[Config]:
    """Configurations that poll all pipelines of a cloud as fast as they like: of Flow, one for each generation."""
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


def begun(name: str, world: World, clock: FakeClock) -> tuple[Scenario, CodeArts | Flow]:
    """The cloud of that name on a world, and the story that it tells."""
    if name == "codearts":
        story = Scenario(world)
        return story, CodeArts(world, clock=clock.time, runs=story)
    outlined = Outlined(world)
    outlined.cloud = Flow(world, clock=clock.time, runs=outlined)
    return outlined, outlined.cloud


def projects(cloud: CodeArts | Flow) -> Iterator[dict[str, Any]]:
    """What a cloud has of its own in projects that poll all of its pipelines."""
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


def ids(cloud: CodeArts | Flow) -> dict[str, str] | None:
    """The story's ids of pipelines by those of a cloud that has others."""
    if isinstance(cloud, CodeArts):
        return None
    return {cloud.pipeline_id(one.id): one.id for one in cloud.world.pipelines}


async def live(
    life: Life,
    clock: FakeClock,
    drama: ScenarioGenerator,
    audit: Callable[[], Audit],
    config: Config,
    *,
    days: float,
    restarts: float,
    misreports: float,
    story: Scenario,
    tell: Callable[[str], object],
) -> Verdict:
    """Play so many days, with `restarts` and `misreports` a day, then wait until all is learnt.

    A misreport is an answer that has a run with a wild number. Returns what an audit finds.
    """
    draw, wild = Random(1), Random(2)
    begin = clock.now
    auditor = audit()
    told = time.monotonic()
    while clock.now < begin + days * DAY:
        drama.play(clock.now)
        # The first sight sets the numbers that all others are held to.
        if clock.now > begin and wild.random() < misreports * ACTIVE / DAY:
            story.misreport(wild.choice(story.world.pipelines).id, wild.randrange(10**6, 2**53))
        await life.tick()
        clock.now += ACTIVE
        if draw.random() < restarts * ACTIVE / DAY:
            await life.stop()
            clock.now += draw.uniform(1, 2 * HOUR)
        if time.monotonic() - told > 10:
            told = time.monotonic()
            tell(f"{(clock.now - begin) / HOUR:.1f} h, {life.unresolved} runs to be learnt")
    # Nothing more happens; what is open stays so.
    end = clock.now + 4 * HOUR
    while clock.now < end:
        await life.tick()
        clock.now += INTERVAL
    views = [view for tracker in life.exporter.trackers for view in tracker.views()]
    projects = [view for tracker in life.exporter.trackers if (view := tracker.project_view()) is not None]
    return auditor.check(views, projects, BucketBounds.of(config.metrics))


async def nothing(_: object) -> None:
    """Publish no page."""


def killed(kills: int, seed: int) -> int:
    """Kill a process so often; 0 if every run was counted exactly once."""
    started = time.monotonic()
    told = started

    def tell(text: str) -> None:
        nonlocal told
        if time.monotonic() - told > 10:
            told = time.monotonic()
            print(text, file=sys.stderr, flush=True)

    with tempfile.TemporaryDirectory() as directory:
        count = kill_often(Path(directory), kills, seed=seed, tell=tell)
    print(f"{kills} kills in {time.monotonic() - started:.0f} s")
    for name in ("deaf", "pages", "true", "accounted", "missed", "lost", "double"):
        print(f"{name:12}{getattr(count, name):10}")
    for fault in count.failures[:20]:
        print(fault)
    return 1 if count.failures or count.missed or count.lost or count.double else 0


def main() -> int:
    """Run a soak; 0 if every run was counted exactly once."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--cloud", choices=("codearts", "flow"), default="codearts")
    parser.add_argument("--pipelines", type=int, default=2000)
    parser.add_argument("--days", type=float, default=2.0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--restarts", type=float, default=6.0, help="a day")
    parser.add_argument(
        "--misreports", type=float, default=1440.0, help="answers a day that have a run with a wild number"
    )
    parser.add_argument("--calm", action="store_true", help="runs begin and end, and nothing else happens")
    parser.add_argument("--kills", type=int, default=0, help="instead of days: kill a process so often")
    flags = parser.parse_args()
    if flags.kills:
        return killed(flags.kills, flags.seed)
    world = World(seed=flags.seed, pipelines=flags.pipelines)
    clock = FakeClock(world.start + DAY)
    odds = FaultRates.none() if flags.calm else FaultRates()
    if flags.cloud == "flow":
        # Its runs have no other id than their number, which never begins anew.
        odds = replace(odds, reset=0.0, recreated=0.0)
    story, cloud = begun(flags.cloud, world, clock)
    drama = ScenarioGenerator(story, flags.seed, odds)
    drama.play(clock.now)
    started = time.monotonic()
    # A page a tick would cost more than all the rest, and nobody would look at it.
    quiet = patch.object(Publisher, "publish", new=nothing)
    with quiet, running(cloud.app) as url, tempfile.TemporaryDirectory() as directory:
        configs = settings(cloud, url, Path(directory) / "state.db")
        life = Life(configs, clock, story)

        async def all_of_it() -> Verdict:
            verdict = await live(
                life,
                clock,
                drama,
                lambda: Audit(story, clock.now, ids(cloud)),
                configs[0],
                days=flags.days,
                restarts=flags.restarts,
                misreports=flags.misreports,
                story=story,
                tell=lambda text: print(text, file=sys.stderr, flush=True),
            )
            print("unresolved", life.unresolved)
            await life.stop()
            return verdict

        verdict = asyncio.run(all_of_it())
    seconds = time.monotonic() - started
    print(f"{flags.pipelines} pipelines, {flags.days:g} days in {seconds:.0f} s")
    for name in ("true", "accounted", "missed", "doubtful", "unexplained", "double"):
        print(f"{name:12}{getattr(verdict, name):10}")
    for fault in verdict.failures[:20]:
        print(fault)
    return 1 if verdict.failures or verdict.double or verdict.unexplained else 0


if __name__ == "__main__":
    sys.exit(main())
