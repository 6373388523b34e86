"""The pipelines of a project that never was, and the runs they have had at any moment.

Everything here is a pure function of (seed, pipeline, run number, time): nothing is stored, nothing ticks.
Run k of a pipeline starts somewhere in the k-th period of its cadence, so the newest run at a moment is found
by one division, and ten thousand pipelines cost nothing until somebody asks about them.
"""

from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import blake2b
from random import Random

from exporter.simulator.world.runs import Origin, Run, course

DEFAULT_START = datetime(2026, 11, 1, tzinfo=UTC).timestamp()

_DOMAINS = (
    "account address audit basket billing campaign cart catalog checkout claims content coupon crm "
    "currency customer delivery discount document export fraud identity image inventory invoice ledger "
    "loyalty mail media order partner payment pricing product profile quote rating refund report returns "
    "search session settlement shipping stock subscription tax tenant tracking voucher warehouse wishlist"
)
_PARTS = ("service", "api", "worker", "gateway", "web", "mobile", "batch", "schema", "sdk", "operator")
_PURPOSES = ("build", "deploy", "release", "verify")
_STAGES = (
    (("Source", 20), ("Build", 160), ("Test", 240)),
    (("Build", 180), ("Test", 200), ("Deploy", 90)),
    (("Source", 15), ("Build", 140), ("Test", 260), ("Deploy", 80)),
    (("Source", 15), ("Build", 120), ("Scan", 60), ("Test", 220), ("Deploy", 75)),
    (("Build", 200), ("Test", 180), ("Stage", 60), ("Approve", 30), ("Deploy", 90)),
    (("Source", 10), ("Build", 150), ("Deploy", 60), ("Verify", 120)),
)
_TRIGGERS = ("Push", "MR", "Manual", "Scheduler", "CreateTag", "Note", "Issue")
_TRIGGER_WEIGHTS = (38, 20, 17, 14, 5, 4, 2)
_EXECUTORS = (
    "a.lindqvist",
    "b.osei",
    "c.moreau",
    "d.tanaka",
    "e.kowalska",
    "f.silva",
    "李娜",
    "王伟",
    "ci-robot",
)
_MESSAGES = (
    "fix rounding",
    "bump dependencies",
    "add retries",
    "tidy logging",
    "修复超时",
    "revert last change",
    "init",
)
_BRANCHES = ("main", "main", "main", "develop", "release-2.x", "master")

_NEVER_RUN_SHARE = 0.03
_RED_SHARE = 0.015
_FLAKY_SHARE = 0.03
# Starts wander within this share of a period. It stays below 1, so that starts rise with the number, and the
# work of a run below the rest of the period, so that only slow and paused runs outlive the start of the next.
_WANDER = 0.4
_WORK = 0.45
# The oldest run of all lies some 300 days before the start of a world; its pipeline has to be older.
_OLDEST = 400 * 86_400
_BETWEEN_CREATIONS = 60


@dataclass(frozen=True, slots=True)
class Pipeline:
    """A pipeline's unchanging traits.

    `period` is the seconds between starts, `first` the Unix time at which the period of run 1 begins, or None
    if it never runs; `repository` is the address of its code, on a host that cannot exist; `stages` are (name, usual seconds); `failing` is the share of runs that fail. `created`
    and `updated` are the Unix times at which it was made and last edited; the order of making is that of
    `index`.
    """

    index: int
    id: str
    name: str
    period: int
    first: int | None
    stages: tuple[tuple[str, int], ...]
    failing: float
    branch: str
    repository: str
    repository_id: str
    created: int
    updated: int


class World:
    """A project and its pipelines, the same for the same arguments.

    `start` (Unix seconds) is the day on which the world is some 20 to 300 runs of each pipeline old; it
    should lie days or weeks before the times asked about, or the numbers of the busiest pipelines grow large.
    Long before `start` there are no runs at all.

    `project_id` is the CodeArts project; `iam_project_id`, which is another thing, the project of the region in
    the account `domain_id`.
    """

    def __init__(self, seed: int = 1, pipelines: int = 200, start: float = DEFAULT_START) -> None:
        self.seed = seed
        self.start = start
        self.project_id = self._digest("project", 16).hex()
        self.project_name = f"demo-{seed}"
        self.region = "cn-north-4"
        self.domain_id = self._digest("domain", 16).hex()
        self.iam_project_id = self._digest("iam project", 16).hex()
        names = _names(seed, pipelines)
        self.pipelines = tuple(self._pipeline(index, name) for index, name in enumerate(names))
        self._by_id = {pipeline.id: pipeline for pipeline in self.pipelines}
        self._executor_ids = {name: self._digest(f"executor {name}", 16).hex() for name in _EXECUTORS}

    def pipeline(self, pipeline_id: str) -> Pipeline | None:
        """Find the pipeline of that id, or None if there is none."""
        return self._by_id.get(pipeline_id)

    def latest_run(self, pipeline_id: str, now: float) -> Run | None:
        """Find the newest run started at or before `now`, as it stands at `now`.

        None if there is no such pipeline or it has not run yet.
        """
        pipeline = self._by_id.get(pipeline_id)
        if pipeline is None or pipeline.first is None:
            return None
        number = int((now - pipeline.first) // pipeline.period) + 1
        run = self._seen(pipeline, pipeline.first, number, now)
        # The newest period may not have reached its start yet; the one before it has.
        return run or self._seen(pipeline, pipeline.first, number - 1, now)

    def latest_start(self, pipeline_id: str, now: float) -> float | None:
        """Tell when the newest run started, for a fraction of what it costs to see it; None as above."""
        pipeline = self._by_id.get(pipeline_id)
        if pipeline is None or pipeline.first is None:
            return None
        number = int((now - pipeline.first) // pipeline.period) + 1
        starts = (
            self._start(pipeline, pipeline.first, earlier)[0]
            for earlier in (number, number - 1)
            if earlier > 0
        )
        return next((start for start in starts if start <= now), None)

    def run(self, pipeline_id: str, number: int, now: float) -> Run | None:
        """Show run `number` (counted from 1) as it stands at `now`; None if there is none, or not yet."""
        pipeline = self._by_id.get(pipeline_id)
        if pipeline is None or pipeline.first is None:
            return None
        return self._seen(pipeline, pipeline.first, number, now)

    def number(self, run_id: str) -> int:
        """Read the number hidden in the id of a run; of an id that was never given, some number."""
        if len(run_id) != 32:
            return 0
        try:
            drawn, masked = bytes.fromhex(run_id[:24]), int(run_id[24:], 16)
        except ValueError:
            return 0
        return masked ^ self._mask(drawn)

    def origin(self, draw: Random, pipeline: Pipeline, number: int) -> Origin:
        """Draw why run `number` of the pipeline was started, and from which code."""
        trigger = draw.choices(_TRIGGERS, _TRIGGER_WEIGHTS)[0]
        executor = draw.choice(_EXECUTORS)
        merge = trigger == "MR"
        return Origin(
            trigger=trigger,
            executor_id=self._executor_ids[executor],
            executor_name=executor,
            branch=pipeline.branch,
            commit=f"{draw.getrandbits(160):040x}",
            message=draw.choice(_MESSAGES),
            tag=f"v1.{number}.0" if trigger == "CreateTag" else None,
            action=draw.choice(("open", "update")) if merge else None,
            merge_id=str(number) if merge else None,
            source_branch=f"feature-{draw.randint(100, 999)}" if merge else None,
        )

    def _run_id(self, drawn: bytes, number: int) -> str:
        """Hide the number in the id, so that a run is found by its id without a search."""
        return f"{drawn.hex()}{number ^ self._mask(drawn):08x}"

    def _mask(self, drawn: bytes) -> int:
        return int.from_bytes(self._digest(f"mask {drawn.hex()}", 4))

    def _start(self, pipeline: Pipeline, first: int, number: int) -> tuple[int, bytes]:
        """Draw when a run starts; gives the lot as well, which decides all else."""
        lot = self._digest(f"run {pipeline.index} {number}", 24)
        wander = int.from_bytes(lot[16:]) / 2**64 * _WANDER
        return first + int((number - 1 + wander) * pipeline.period), lot

    def _seen(self, pipeline: Pipeline, first: int, number: int, now: float) -> Run | None:
        if number < 1:
            return None
        start, lot = self._start(pipeline, first, number)
        if now < start:
            return None
        draw = Random(int.from_bytes(lot))
        destined = course(draw, start, pipeline.stages, pipeline.period, pipeline.failing)
        return Run(
            pipeline_id=pipeline.id,
            id=self._run_id(lot[:12], number),
            number=number,
            status=destined.status(now),
            start=start,
            end=destined.end if now >= destined.end else None,
            stages=destined.seen(now),
            origin=self.origin(draw, pipeline, number),
            course=destined,
        )

    def _pipeline(self, index: int, name: str) -> Pipeline:
        lot = self._digest(f"pipeline {index}", 24)
        draw = Random(int.from_bytes(lot))
        period = _period(draw)
        usual = draw.choice(_STAGES)
        pace = min(draw.uniform(0.3, 2.5), _WORK * period / sum(seconds for _, seconds in usual))
        age = draw.randint(20, 300)
        character = draw.random()
        created = int(self.start) - _OLDEST + index * _BETWEEN_CREATIONS + lot[0] % _BETWEEN_CREATIONS
        return Pipeline(
            index=index,
            id=lot[:16].hex(),
            name=name,
            period=period,
            first=None
            if draw.random() < _NEVER_RUN_SHARE
            else int(self.start - (age + draw.random()) * period),
            stages=tuple((stage, max(2, int(seconds * pace))) for stage, seconds in usual),
            failing=0.95
            if character < _RED_SHARE
            else 0.45
            if character < _RED_SHARE + _FLAKY_SHARE
            else 0.07,
            branch=draw.choice(_BRANCHES),
            repository=f"https://codehub.example.com/demo/{name}.git",
            repository_id=str(draw.randint(2_000_000_000, 2_999_999_999)),
            created=created,
            updated=created + int.from_bytes(lot[1:4]),
        )

    def _digest(self, of: str, size: int) -> bytes:
        return blake2b(f"{self.seed} {of}".encode(), digest_size=size).digest()


def _period(draw: Random) -> int:
    kind = draw.random()
    if kind < 0.08:
        return draw.randint(3 * 60, 8 * 60)
    if kind < 0.8:
        return draw.randint(10 * 60, 60 * 60)
    if kind < 0.92:
        return draw.randint(3600, 6 * 3600)
    return 86_400


def _names(seed: int, count: int) -> list[str]:
    """Distinct names in no order; past the few thousand plain ones they carry a number."""
    plain = [
        f"{domain}-{part}-{purpose}"
        for domain in _DOMAINS.split()
        for part in _PARTS
        for purpose in _PURPOSES
    ]
    Random(seed).shuffle(plain)
    return [
        plain[index % len(plain)] + (f"-{index // len(plain) + 1}" if index >= len(plain) else "")
        for index in range(count)
    ]
