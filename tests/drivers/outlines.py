"""What a cloud tells whose lists are outlines: an answer about a pipeline is a list with the details that complete it.

Whoever hears a list tell that a run is over asks for its details before it counts the run, so that what both tell is
told at once, as of the list: state and times are the list's, stages those of the details. Where details fail for now the
whole answer is lost, and has to be had anew; where they are refused for good the list's is all that there is to know.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace

from exporter.polling.run_history import COMPLETED
from exporter.simulator import Flow, InjectedFault, Scenario, Status, World
from exporter.simulator.world.runs import Run
from exporter.simulator.world.world import Pipeline

LISTS = "ListPipelineRuns"
DETAILS = "GetPipelineRun"

PASSING = frozenset({InjectedFault.SERVER_ERROR, InjectedFault.ERROR_OBJECT, InjectedFault.BAD_GATEWAY})
"""Mischief after which details are worth another try; any other is a refusal."""


@dataclass
class _Heard:
    """What was heard of a pipeline since all that is told was noted, by id of the run."""

    rows: dict[str, tuple[float, Run]] = field(default_factory=dict)
    details: dict[str, tuple[float, Run]] = field(default_factory=dict)
    failed: set[str] = field(default_factory=set)
    """Runs whose details were asked for in vain, and may be had later."""


class Outlined(Scenario):
    """A story that notes whole answers."""

    def __init__(self, world: World) -> None:
        super().__init__(world)
        self.cloud: Flow | None = None
        """Whoever tells it."""
        self._heard: dict[str, _Heard] = {}
        self._awaited: tuple[str, str] | None = None
        """The pipeline and the run whose details are being told."""

    def numbered(self, pipeline: Pipeline, number: int, now: float) -> Run | None:
        """Show a run whose details were asked for; they fail unless they are witnessed next."""
        run = super().numbered(pipeline, number, now)
        self._give_up()
        self._awaited = None if run is None else (pipeline.id, run.id)
        return run

    def witness(self, runs: Iterable[Run], operation: str, now: float) -> None:
        """Hear what an answer tells."""
        for run in runs:
            heard = self._heard.setdefault(run.pipeline_id, _Heard())
            if operation == LISTS:
                heard.rows[run.id] = now, run
            elif operation == DETAILS:
                heard.details[run.id] = now, run
                heard.failed.discard(run.id)
                self._awaited = None

    def settle(self) -> None:
        """Note what was told: nothing is under way."""
        self._give_up()
        for heard in self._heard.values():
            if not heard.failed & heard.rows.keys():
                for moment, run in _told(heard):
                    super().witness([run], LISTS, moment)
        self._heard.clear()

    def _give_up(self) -> None:
        if self._awaited is not None and self.cloud is not None and self.cloud.injected_fault in PASSING:
            pipeline, run = self._awaited
            self._heard.setdefault(pipeline, _Heard()).failed.add(run)
        self._awaited = None


def _told(heard: _Heard) -> Iterator[tuple[float, Run]]:
    """The runs that were told, each with the moment of its telling."""
    full = len(heard.details.keys() & heard.rows.keys()) >= COMPLETED
    for identity, (moment, row) in heard.rows.items():
        if identity in heard.details:
            yield moment, _completed(row, heard.details[identity][1])
        elif not full:
            # What is left out now is told the next time.
            yield moment, row
    for identity, (moment, detail) in heard.details.items():
        if identity not in heard.rows:
            yield moment, _by_stages(detail)


def _completed(row: Run, detail: Run) -> Run:
    if row.word is None:
        return replace(row, stages=detail.stages)
    # Where the list tells no state the details do, and the end with it.
    end = _by_stages(detail).end if row.end is None else row.end
    return replace(detail, start=row.start, end=end)


def _by_stages(detail: Run) -> Run:
    """Details tell no times but those of stages."""
    starts = [stage.start for stage in detail.stages if stage.start is not None]
    ends = [stage.end for stage in detail.stages if stage.end is not None]
    going_on = any(
        stage.start is not None
        and (stage.end is None or not (stage.status.over or stage.status is Status.SKIPPED))
        for stage in detail.stages
    )
    over = detail.word is None and detail.status.over
    return replace(
        detail,
        start=min(starts, default=detail.start),
        end=max(ends, default=None) if over and not going_on else None,
    )
