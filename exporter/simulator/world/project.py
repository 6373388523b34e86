"""Pipelines and runs of a project, as its simulated cloud serves them.

Every operation reads from here, so a deleted or renamed pipeline looks the same in all of them. The runs come from a
`World` or a `Scenario`.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Generic, Protocol, TypeVar, overload

from exporter.simulator.http.switches import Switches
from exporter.simulator.world.runs import RunSnapshot
from exporter.simulator.world.world import SimulatedPipeline, World

K = TypeVar("K")


class LazyRuns(Sequence[RunSnapshot], Generic[K]):
    """Sequence of runs, one for each of `keys`; `load` computes a run only on access, because that is slow."""

    def __init__(self, keys: Sequence[K], load: Callable[[K], RunSnapshot]) -> None:
        self._keys = keys
        self._load = load

    def __len__(self) -> int:
        return len(self._keys)

    @overload
    def __getitem__(self, index: int) -> RunSnapshot: ...
    @overload
    def __getitem__(self, index: slice) -> "LazyRuns[K]": ...
    def __getitem__(self, index: int | slice) -> "RunSnapshot | LazyRuns[K]":
        if isinstance(index, slice):
            return LazyRuns(self._keys[index], self._load)
        return self._load(self._keys[index])


class RunSource(Protocol):
    """Source of the runs of all pipelines, as of any time; callers pass only pipelines that exist."""

    def latest_run(self, pipeline: SimulatedPipeline, now: float) -> RunSnapshot | None:
        """Return the run with the latest start; None if the pipeline has not run."""

    def latest_start(self, pipeline: SimulatedPipeline, now: float) -> float | None:
        """Return the start of the latest run in Unix seconds, or None; this is faster than `latest_run`."""

    def run(self, pipeline: SimulatedPipeline, run_id: str, now: float) -> RunSnapshot | None:
        """Return the run with that id; None if it does not exist at `now`."""

    def numbered(self, pipeline: SimulatedPipeline, number: int, now: float) -> RunSnapshot | None:
        """Return the run with that number; None if it does not exist at `now`.

        If several runs have the number, return the one with the latest start.
        """

    def history(self, pipeline: SimulatedPipeline, now: float) -> Sequence[RunSnapshot]:
        """Return all runs that exist at `now`, oldest start first."""

    def apply_misreport(self, run: RunSnapshot) -> RunSnapshot:
        """Return `run`, the latest of its pipeline, with a wrong number if the next response misreports it."""

    def record_answer(self, runs: Iterable[RunSnapshot], operation: str, now: float) -> None:
        """Record that a response of `operation` (the vendor's name) reports these runs at `now`."""


class WorldRuns:
    """Run source that computes the runs of a `World`."""

    def __init__(self, world: World) -> None:
        self._world = world

    def latest_run(self, pipeline: SimulatedPipeline, now: float) -> RunSnapshot | None:
        """Return the newest run."""
        return self._world.latest_run(pipeline.id, now)

    def latest_start(self, pipeline: SimulatedPipeline, now: float) -> float | None:
        """Return the start of the newest run."""
        return self._world.latest_start(pipeline.id, now)

    def run(self, pipeline: SimulatedPipeline, run_id: str, now: float) -> RunSnapshot | None:
        """Return the run with that id."""
        run = self._world.run(pipeline.id, self._world.number(run_id), now)
        return run if run is not None and run.id == run_id else None

    def numbered(self, pipeline: SimulatedPipeline, number: int, now: float) -> RunSnapshot | None:
        """Return the run with that number."""
        return self._world.run(pipeline.id, number, now)

    def history(self, pipeline: SimulatedPipeline, now: float) -> Sequence[RunSnapshot]:
        """Return all runs that have started; they start in the order of their numbers."""
        latest = self.latest_run(pipeline, now)
        return LazyRuns(
            range(1, latest.number + 1) if latest else (), lambda number: self._run(pipeline, number, now)
        )

    def apply_misreport(self, run: RunSnapshot) -> RunSnapshot:
        """Return the run unchanged."""
        return run

    def record_answer(self, runs: Iterable[RunSnapshot], operation: str, now: float) -> None:
        """Do nothing: the runs of a world can be computed again for any time."""

    def _run(self, pipeline: SimulatedPipeline, number: int, now: float) -> RunSnapshot:
        run = self._world.run(pipeline.id, number, now)
        if run is None:
            raise LookupError(number)
        return run


class SimulatedProject:
    """Pipelines of `world` that `switches` may delete or rename, and runs from `runs`, by default from the world.

    `name` and `domain_id`, the id of its account, are those of the world until they are replaced.
    """

    def __init__(self, world: World, switches: Switches, runs: RunSource | None = None) -> None:
        self.world = world
        self.runs = runs or WorldRuns(world)
        self.name = world.project_name
        self.domain_id = world.domain_id
        self._switches = switches

    def pipelines(self) -> list[SimulatedPipeline]:
        """Return the pipelines that are not deleted, in the order of creation."""
        deleted, renamed = self._switches.deleted, self._switches.renamed
        if not deleted and not renamed:
            return list(self.world.pipelines)
        return [self._named(pipeline) for pipeline in self.world.pipelines if pipeline.id not in deleted]

    def pipeline(self, pipeline_id: str) -> SimulatedPipeline | None:
        """Return the pipeline with that id; None if it is unknown or deleted."""
        pipeline = self.world.pipeline(pipeline_id)
        if pipeline is None or pipeline_id in self._switches.deleted:
            return None
        return self._named(pipeline)

    def _named(self, pipeline: SimulatedPipeline) -> SimulatedPipeline:
        name = self._switches.renamed.get(pipeline.id)
        return pipeline if name is None else replace(pipeline, name=name)
