"""What Flow adds to a pipeline: numbers for ids, people, and stages that stand in groups.

All of it is a pure function of the world and the pipeline, so that it is the same in every run and every answer.
"""

from dataclasses import dataclass, replace
from functools import lru_cache
from hashlib import blake2b
from random import Random

from exporter.simulator.world.world import Pipeline, World

# Ids of pipelines rise with their creation and have gaps, since all organizations share them.
_LEAST, _MOST = 1_000_000, 5_000_000
_STRIDE = 16

_ASIDE_SHARE = 0.3
_NAMELESS_SHARE = 0.1
_YAML_SHARE = 0.2
_ASIDES = ("Lint", "Audit", "Licences", "Benchmark")


def drawn(*parts: object) -> int:
    """Return a number of nine digits, the same for the same parts."""
    lot = blake2b(" ".join(map(str, parts)).encode(), digest_size=8).digest()
    return 100_000_000 + int.from_bytes(lot) % 900_000_000


def account(*parts: object) -> str:
    """Return the id of an account, the same for the same parts."""
    return blake2b(" ".join(map(str, parts)).encode(), digest_size=12).hexdigest()


class Numbers:
    """The ids that the pipelines of `world` have in Flow."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._base = _LEAST + drawn(world.project_id, "pipelines") % (_MOST - _LEAST)

    def of(self, pipeline: Pipeline) -> int:
        """Tell the id of a pipeline."""
        return self._base + _STRIDE * pipeline.index + int(pipeline.id[0], 16)

    def find(self, number: int) -> Pipeline | None:
        """Find the pipeline of that id; None if there is none."""
        index = (number - self._base) // _STRIDE
        if not 0 <= index < len(self._world.pipelines):
            return None
        pipeline = self._world.pipelines[index]
        return pipeline if self.of(pipeline) == number else None


@dataclass(frozen=True, slots=True)
class Place:
    """Where a stage stands: the groups come one after the other, the stages of one at the same time."""

    group: int
    stage: int

    @property
    def index(self) -> str:
        """The vendor's name of the place, and of the stage that was given none."""
        return f"Group{self.group}-Stage{self.stage}"


@dataclass(frozen=True, slots=True)
class Aside:
    """A stage that runs beside that of `sequence`, and is over before it if that is not cut short.

    `length` is its usual seconds; `pipeline` is what its jobs are drawn from.
    """

    sequence: int
    name: str
    length: int
    pipeline: Pipeline


@dataclass(frozen=True, slots=True)
class Layout:
    """How a pipeline is laid out: its stages stand one to a group, save where there is one `aside`."""

    aside: Aside | None
    nameless: bool
    yaml: bool

    def name(self, place: Place, name: str) -> str:
        """Tell the name of the stage at a place, which the world calls `name`."""
        return place.index if self.nameless else name


@lru_cache(maxsize=20_000)
def layout(pipeline: Pipeline) -> Layout:
    """Lay a pipeline out; a new name changes nothing."""
    draw = Random(f"{pipeline.id} layout")
    aside = None
    if draw.random() < _ASIDE_SHARE:
        sequence = draw.randrange(len(pipeline.stages))
        # Shorter than the quickest run of the stage beside it.
        length = max(1, int(pipeline.stages[sequence][1] * draw.uniform(0.2, 0.7)))
        apart = replace(pipeline, id=f"{pipeline.id} aside")
        aside = Aside(sequence, draw.choice(_ASIDES), length, apart)
    return Layout(aside, draw.random() < _NAMELESS_SHARE, draw.random() < _YAML_SHARE)
