"""Properties of pipelines that only Flow has: numeric ids, accounts, and stages arranged in groups.

They are a pure function of the world and the pipeline, so they are the same in every run and every response.
"""

from dataclasses import dataclass, replace
from functools import lru_cache
from hashlib import blake2b
from random import Random

from exporter.simulator.world.world import SimulatedPipeline, World

# Ids of pipelines rise with creation and have gaps, because all organizations share them.
_MIN_BASE, _MAX_BASE = 1_000_000, 5_000_000
_STRIDE = 16

_PARALLEL_SHARE = 0.3
_UNNAMED_SHARE = 0.1
_YAML_SHARE = 0.2
_PARALLEL_NAMES = ("Lint", "Audit", "Licences", "Benchmark")


def hash_number(*parts: object) -> int:
    """Return a number of nine digits; equal parts give equal numbers."""
    digest = blake2b(" ".join(map(str, parts)).encode(), digest_size=8).digest()
    return 100_000_000 + int.from_bytes(digest) % 900_000_000


def account_id(*parts: object) -> str:
    """Return an account id; equal parts give equal ids."""
    return blake2b(" ".join(map(str, parts)).encode(), digest_size=12).hexdigest()


class PipelineNumbers:
    """The ids that Flow gives to the pipelines of `world`."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._base = _MIN_BASE + hash_number(world.project_id, "pipelines") % (_MAX_BASE - _MIN_BASE)

    def of(self, pipeline: SimulatedPipeline) -> int:
        """Return the id of a pipeline."""
        return self._base + _STRIDE * pipeline.index + int(pipeline.id[0], 16)

    def find(self, number: int) -> SimulatedPipeline | None:
        """Return the pipeline with that id, or None."""
        index = (number - self._base) // _STRIDE
        if not 0 <= index < len(self._world.pipelines):
            return None
        pipeline = self._world.pipelines[index]
        return pipeline if self.of(pipeline) == number else None


@dataclass(frozen=True, slots=True)
class StagePosition:
    """Position of a stage: groups run one after the other, the stages of a group in parallel."""

    group: int
    stage: int

    @property
    def index(self) -> str:
        """The vendor's text for the position; it is also the name of an unnamed stage."""
        return f"Group{self.group}-Stage{self.stage}"


@dataclass(frozen=True, slots=True)
class ParallelStage:
    """A stage that runs in parallel with stage `sequence`, and ends before it unless the run is cut short.

    `length` is its planned duration in seconds. `pipeline` determines its random jobs.
    """

    sequence: int
    name: str
    length: int
    pipeline: SimulatedPipeline


@dataclass(frozen=True, slots=True)
class Layout:
    """Arrangement of a pipeline's stages: each group has one stage, except for the group with `parallel_stage`.

    `unnamed` stages get their position as a name. `yaml` is whether the pipeline is defined in YAML.
    """

    parallel_stage: ParallelStage | None
    unnamed: bool
    yaml: bool

    def name(self, position: StagePosition, name: str) -> str:
        """Return the name of a stage in Flow; `name` is its name in the world."""
        return position.index if self.unnamed else name


@lru_cache(maxsize=20_000)
def layout(pipeline: SimulatedPipeline) -> Layout:
    """Return the layout of a pipeline; it does not depend on the pipeline's name."""
    rng = Random(f"{pipeline.id} layout")
    parallel_stage = None
    if rng.random() < _PARALLEL_SHARE:
        sequence = rng.randrange(len(pipeline.stages))
        # Shorter than the fastest run of the stage next to it.
        length = max(1, int(pipeline.stages[sequence][1] * rng.uniform(0.2, 0.7)))
        job_source = replace(pipeline, id=f"{pipeline.id} aside")
        parallel_stage = ParallelStage(sequence, rng.choice(_PARALLEL_NAMES), length, job_source)
    return Layout(parallel_stage, rng.random() < _UNNAMED_SHARE, rng.random() < _YAML_SHARE)
