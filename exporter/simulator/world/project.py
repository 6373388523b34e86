"""The project as its cloud tells it, which need not be as the world has it.

Every operation asks here for pipelines and runs, so that whatever a cloud deletes, renames, hides or mixes in
shows the same way in all of them. What the runs are is not decided here: they are those destined by the world,
or those of a story that somebody tells.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Generic, Protocol, TypeVar, overload

from exporter.simulator.http.switches import Switches
from exporter.simulator.world.runs import Run
from exporter.simulator.world.world import Pipeline, World

K = TypeVar("K")


class History(Sequence[Run], Generic[K]):
    """Runs, one for each of `keys`, that are looked at only when taken out: to see a run costs time."""

    def __init__(self, keys: Sequence[K], see: Callable[[K], Run]) -> None:
        self._keys = keys
        self._see = see

    def __len__(self) -> int:
        return len(self._keys)

    @overload
    def __getitem__(self, place: int) -> Run: ...
    @overload
    def __getitem__(self, place: slice) -> "History[K]": ...
    def __getitem__(self, place: int | slice) -> "Run | History[K]":
        if isinstance(place, slice):
            return History(self._keys[place], self._see)
        return self._see(self._keys[place])


class Runs(Protocol):
    """The runs of all pipelines, as they stand at a moment; a pipeline is one that exists."""

    def latest_run(self, pipeline: Pipeline, now: float) -> Run | None:
        """Find the run with the latest start; None if the pipeline has not run."""

    def latest_start(self, pipeline: Pipeline, now: float) -> float | None:
        """Tell when the latest run started, for less than it costs to see it; None if the pipeline has not run."""

    def run(self, pipeline: Pipeline, run_id: str, now: float) -> Run | None:
        """Find a run by its id; None if there is none, or not yet, or no more."""

    def numbered(self, pipeline: Pipeline, number: int, now: float) -> Run | None:
        """Find a run by its number, of several the one with the latest start; None as above."""

    def history(self, pipeline: Pipeline, now: float) -> Sequence[Run]:
        """List all runs, oldest start first."""

    def reported(self, run: Run) -> Run:
        """Return a latest run as the next answer reports it, its number possibly wrong."""

    def witness(self, runs: Iterable[Run], operation: str, now: float) -> None:
        """Take note of what an answer of `operation`, by the vendor's name, tells at `now`."""


class Destined:
    """The runs that the world has destined."""

    def __init__(self, world: World) -> None:
        self._world = world

    def latest_run(self, pipeline: Pipeline, now: float) -> Run | None:
        """Find the newest run."""
        return self._world.latest_run(pipeline.id, now)

    def latest_start(self, pipeline: Pipeline, now: float) -> float | None:
        """Tell when the newest run started."""
        return self._world.latest_start(pipeline.id, now)

    def run(self, pipeline: Pipeline, run_id: str, now: float) -> Run | None:
        """Find a run by its id."""
        run = self._world.run(pipeline.id, self._world.number(run_id), now)
        return run if run is not None and run.id == run_id else None

    def numbered(self, pipeline: Pipeline, number: int, now: float) -> Run | None:
        """Find a run by its number."""
        return self._world.run(pipeline.id, number, now)

    def history(self, pipeline: Pipeline, now: float) -> Sequence[Run]:
        """List all runs that have started; the order of their numbers is that of their starts."""
        latest = self.latest_run(pipeline, now)
        return History(
            range(1, latest.number + 1) if latest else (), lambda number: self._run(pipeline, number, now)
        )

    def reported(self, run: Run) -> Run:
        """Return the run as it is."""
        return run

    def witness(self, runs: Iterable[Run], operation: str, now: float) -> None:
        """Take no note: what was told can be computed."""

    def _run(self, pipeline: Pipeline, number: int, now: float) -> Run:
        run = self._world.run(pipeline.id, number, now)
        if run is None:
            raise LookupError(number)
        return run


class Project:
    """The pipelines of `world`, changed as the `switches` say at the moment of asking.

    Their runs are `runs`, or those that the world has destined.
    """

    def __init__(self, world: World, switches: Switches, runs: Runs | None = None) -> None:
        self.world = world
        self.runs = runs or Destined(world)
        self._switches = switches

    def pipelines(self) -> list[Pipeline]:
        """List what is not deleted, in the order of creation."""
        deleted, renamed = self._switches.deleted, self._switches.renamed
        if not deleted and not renamed:
            return list(self.world.pipelines)
        return [self._named(pipeline) for pipeline in self.world.pipelines if pipeline.id not in deleted]

    def pipeline(self, pipeline_id: str) -> Pipeline | None:
        """Find a pipeline by its id; None if there is none, or none any more."""
        pipeline = self.world.pipeline(pipeline_id)
        if pipeline is None or pipeline_id in self._switches.deleted:
            return None
        return self._named(pipeline)

    def _named(self, pipeline: Pipeline) -> Pipeline:
        name = self._switches.renamed.get(pipeline.id)
        return pipeline if name is None else replace(pipeline, name=name)
