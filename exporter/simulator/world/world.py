"""Pipelines of a simulated project, and their runs as of any time.

Everything is a pure function of seed, pipeline, run number and time; no run is stored. Run k of a pipeline starts
within the k-th period of its schedule, so one division finds the newest run. A run is computed only when it is
queried, so a world of ten thousand pipelines is cheap.
"""

from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import blake2b
from random import Random

from exporter.simulator.world.runs import Origin, RunSnapshot, plan_run

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
# The start of a run varies within this share of a period. It stays below 1 so that starts rise with the run
# number. The work of a run takes less than the rest of the period, so only slow and paused runs outlive the
# start of the next run.
_START_JITTER = 0.4
_MAX_WORK = 0.45
# The oldest run starts about 300 days before the start of a world; its pipeline must be older.
_OLDEST = 400 * 86_400
_BETWEEN_CREATIONS = 60


@dataclass(frozen=True, slots=True)
class SimulatedPipeline:
    """Constant properties of a simulated pipeline; times are Unix seconds.

    `period` is the number of seconds between starts. `first` is when the period of run 1 begins, or None if the
    pipeline never runs. `stages` are (name, usual duration in seconds). `failing` is the fraction of runs that fail.
    `repository` is a URL on a reserved domain. Pipelines are created in the order of `index`.
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
    """A simulated project with its pipelines and their runs; equal arguments produce equal worlds.

    By `start` (Unix seconds), each pipeline that ever runs has had about 20 to 300 runs. Long before `start` there were
    no runs. Choose a start that is at most weeks before the times to query, or run numbers of the busiest pipelines
    grow large.

    `project_id` is the id of the CodeArts project. `iam_project_id` is the id of the IAM project, which stands for the
    region in the account `domain_id`.
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

    def pipeline(self, pipeline_id: str) -> SimulatedPipeline | None:
        """Return the pipeline with that id, or None."""
        return self._by_id.get(pipeline_id)

    def latest_run(self, pipeline_id: str, now: float) -> RunSnapshot | None:
        """Return the newest run that started at or before `now`, in its state at `now`.

        None if there is no such pipeline, or if it has not run yet.
        """
        pipeline = self._by_id.get(pipeline_id)
        if pipeline is None or pipeline.first is None:
            return None
        number = int((now - pipeline.first) // pipeline.period) + 1
        run = self._snapshot(pipeline, pipeline.first, number, now)
        # The newest period may not have reached its start yet; the one before it has.
        return run or self._snapshot(pipeline, pipeline.first, number - 1, now)

    def latest_start(self, pipeline_id: str, now: float) -> float | None:
        """Return the start of the newest run in Unix seconds, or None; this is much faster than `latest_run`."""
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

    def run(self, pipeline_id: str, number: int, now: float) -> RunSnapshot | None:
        """Return run `number` (counted from 1) at `now`; None if it does not exist or has not started."""
        pipeline = self._by_id.get(pipeline_id)
        if pipeline is None or pipeline.first is None:
            return None
        return self._snapshot(pipeline, pipeline.first, number, now)

    def number(self, run_id: str) -> int:
        """Return the run number that a run id encodes; the result for an id that was never issued is arbitrary."""
        if len(run_id) != 32:
            return 0
        try:
            hash_number, masked = bytes.fromhex(run_id[:24]), int(run_id[24:], 16)
        except ValueError:
            return 0
        return masked ^ self._mask(hash_number)

    def origin(self, rng: Random, pipeline: SimulatedPipeline, number: int) -> Origin:
        """Draw trigger, executor and source revision of run `number` of the pipeline."""
        trigger = rng.choices(_TRIGGERS, _TRIGGER_WEIGHTS)[0]
        executor = rng.choice(_EXECUTORS)
        merge = trigger == "MR"
        return Origin(
            trigger=trigger,
            executor_id=self._executor_ids[executor],
            executor_name=executor,
            branch=pipeline.branch,
            commit=f"{rng.getrandbits(160):040x}",
            message=rng.choice(_MESSAGES),
            tag=f"v1.{number}.0" if trigger == "CreateTag" else None,
            action=rng.choice(("open", "update")) if merge else None,
            merge_id=str(number) if merge else None,
            source_branch=f"feature-{rng.randint(100, 999)}" if merge else None,
        )

    def _run_id(self, hash_number: bytes, number: int) -> str:
        """Return a run id that encodes the number, so that no search is needed to find a run by its id."""
        return f"{hash_number.hex()}{number ^ self._mask(hash_number):08x}"

    def _mask(self, hash_number: bytes) -> int:
        return int.from_bytes(self._digest(f"mask {hash_number.hex()}", 4))

    def _start(self, pipeline: SimulatedPipeline, first: int, number: int) -> tuple[int, bytes]:
        """Return the start of a run in Unix seconds, and the digest that determines its other properties."""
        digest = self._digest(f"run {pipeline.index} {number}", 24)
        jitter = int.from_bytes(digest[16:]) / 2**64 * _START_JITTER
        return first + int((number - 1 + jitter) * pipeline.period), digest

    def _snapshot(
        self, pipeline: SimulatedPipeline, first: int, number: int, now: float
    ) -> RunSnapshot | None:
        if number < 1:
            return None
        start, digest = self._start(pipeline, first, number)
        if now < start:
            return None
        rng = Random(int.from_bytes(digest))
        plan = plan_run(rng, start, pipeline.stages, pipeline.period, pipeline.failing)
        return RunSnapshot(
            pipeline_id=pipeline.id,
            id=self._run_id(digest[:12], number),
            number=number,
            status=plan.status(now),
            start=start,
            end=plan.end if now >= plan.end else None,
            stages=plan.stages_at(now),
            origin=self.origin(rng, pipeline, number),
            plan=plan,
        )

    def _pipeline(self, index: int, name: str) -> SimulatedPipeline:
        digest = self._digest(f"pipeline {index}", 24)
        rng = Random(int.from_bytes(digest))
        period = _period(rng)
        stages = rng.choice(_STAGES)
        pace = min(rng.uniform(0.3, 2.5), _MAX_WORK * period / sum(seconds for _, seconds in stages))
        age = rng.randint(20, 300)
        character = rng.random()
        created = int(self.start) - _OLDEST + index * _BETWEEN_CREATIONS + digest[0] % _BETWEEN_CREATIONS
        return SimulatedPipeline(
            index=index,
            id=digest[:16].hex(),
            name=name,
            period=period,
            first=None
            if rng.random() < _NEVER_RUN_SHARE
            else int(self.start - (age + rng.random()) * period),
            stages=tuple((stage, max(2, int(seconds * pace))) for stage, seconds in stages),
            failing=0.95
            if character < _RED_SHARE
            else 0.45
            if character < _RED_SHARE + _FLAKY_SHARE
            else 0.07,
            branch=rng.choice(_BRANCHES),
            repository=f"https://codehub.example.com/demo/{name}.git",
            repository_id=str(rng.randint(2_000_000_000, 2_999_999_999)),
            created=created,
            updated=created + int.from_bytes(digest[1:4]),
        )

    def _digest(self, of: str, size: int) -> bytes:
        return blake2b(f"{self.seed} {of}".encode(), digest_size=size).digest()


def _period(rng: Random) -> int:
    kind = rng.random()
    if kind < 0.08:
        return rng.randint(3 * 60, 8 * 60)
    if kind < 0.8:
        return rng.randint(10 * 60, 60 * 60)
    if kind < 0.92:
        return rng.randint(3600, 6 * 3600)
    return 86_400


def _names(seed: int, count: int) -> list[str]:
    """Return `count` distinct names in random order; names beyond the few thousand plain ones get a numeric suffix."""
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
