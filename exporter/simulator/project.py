"""The project as its cloud tells it, which need not be as the world has it.

Every operation asks here for pipelines and runs, so that whatever a cloud deletes, renames, hides or mixes in
shows the same way in all of them.
"""

from collections.abc import Sequence
from dataclasses import replace

from exporter.simulator.answers import mismatch, no_pipeline, no_project
from exporter.simulator.runs import Run
from exporter.simulator.switches import Switches
from exporter.simulator.world import Pipeline, World


class Project:
    """The pipelines of `world`, changed as the `switches` say at the moment of asking."""

    def __init__(self, world: World, switches: Switches) -> None:
        self.world = world
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

    def asked(self, project_id: str, pipeline_id: str) -> Pipeline:
        """Find the pipeline that a request's path names; raises `DeclinedError` if it may not be had."""
        self.admit(project_id)
        if pipeline_id in self._switches.poison:
            raise mismatch()
        pipeline = self.pipeline(pipeline_id)
        if pipeline is None:
            raise no_pipeline()
        return pipeline

    def admit(self, project_id: str) -> None:
        """Raise `DeclinedError` unless `project_id` is this project and the user a member of it."""
        if project_id != self.world.project_id or self._switches.no_membership:
            raise no_project()

    def latest_run(self, pipeline: Pipeline, now: float) -> Run | None:
        """Find the newest run, as it stands at `now`; None if the pipeline has not run."""
        return self.world.latest_run(pipeline.id, now)

    def run(self, pipeline: Pipeline, run_id: str, now: float) -> Run | None:
        """Find a run by its id, as it stands at `now`; None if there is none, or not yet."""
        run = self.world.run(pipeline.id, self.world.number(run_id), now)
        return run if run is not None and run.id == run_id else None

    def numbered_run(self, pipeline: Pipeline, number: int, now: float) -> Run | None:
        """Find a run by its number, as it stands at `now`; None if there is none, or not yet."""
        return self.world.run(pipeline.id, number, now)

    def numbers(self, pipeline: Pipeline, now: float) -> Sequence[int]:
        """List the numbers of all runs that have started, oldest start first."""
        latest = self.latest_run(pipeline, now)
        return range(1, latest.number + 1) if latest else ()

    def _named(self, pipeline: Pipeline) -> Pipeline:
        name = self._switches.renamed.get(pipeline.id)
        return pipeline if name is None else replace(pipeline, name=name)
