"""A run of a scenario, defined by the state transitions that a test has caused.

All transitions are stored, so a run can be reported as of any past time. Its stages follow from the transitions. Only
the stage that a run has reached can change; earlier stages stay as they are.
"""

from dataclasses import dataclass, replace
from random import Random

from exporter.simulator.world.runs import RunPlan, RunSnapshot, SimulatedStatus
from exporter.simulator.world.world import SimulatedPipeline, World

# Planned end of a stage that ends only with its run.
_NEVER = 2**34

_Span = tuple[int, int, int]


@dataclass(frozen=True, slots=True)
class Transition:
    """State of a run from `moment` until its next transition.

    `end` is when the run ended, or None; `end_reported` is whether the cloud reports it. `custom_status` is a status
    text that replaces the status, or None. Times are Unix seconds, rounded to milliseconds.
    """

    moment: float
    status: SimulatedStatus
    end: float | None = None
    end_reported: bool = True
    custom_status: str | None = None


@dataclass(frozen=True, slots=True)
class Report:
    """Values that a response of `operation` reported about a run at `moment`; times are Unix seconds.

    `end` is None if not reported. `stages` are (name, status, seconds from start to end), with None for a stage without
    both times; empty if the response has no stages. `misreported` is whether the response gave the run a wrong number.
    """

    moment: float
    operation: str
    status: str
    start: float
    end: float | None
    stages: tuple[tuple[str, SimulatedStatus, int | None], ...]
    misreported: bool = False

    @property
    def final(self) -> bool:
        """Whether the reported status is in the vendor's list and means that the run has ended."""
        return self.status in _FINAL

    def repeats(self, other: "Report") -> bool:
        """Return whether `other`, a report on the same run, has the same values."""
        mine = (self.status, self.end, self.stages, self.misreported)
        return mine == (other.status, other.end, other.stages, other.misreported)


_FINAL = frozenset(status.value for status in SimulatedStatus if status.finished)


@dataclass(eq=False, slots=True)
class SimulatedRun:
    """A run of a scenario: its identity, its transitions, and what responses reported about it.

    `epoch` counts how often the pipeline's numbering was reset before the run. `deleted` is when the run was deleted,
    or None. Times are Unix seconds.
    """

    pipeline: SimulatedPipeline
    id: str
    number: int
    epoch: int
    start: float
    transitions: tuple[Transition, ...]
    deleted: float | None = None
    reports: tuple[Report, ...] = ()

    @property
    def finished(self) -> bool:
        """Whether the run has ended, with any status text."""
        return self.transitions[-1].status.finished

    @property
    def start_order(self) -> tuple[float, int]:
        """Sort key by start, then by number."""
        return self.start, self.number

    def exists(self, now: float) -> bool:
        """Return whether the run has begun at `now` and is not deleted."""
        return self.transitions[0].moment <= now and (self.deleted is None or now < self.deleted)

    def transitions_until(self, now: float) -> tuple[Transition, ...]:
        """Return the transitions up to and including `now`; empty before the run begins."""
        last = self.transitions[-1]
        return (
            self.transitions
            if last.moment <= now
            else tuple(transition for transition in self.transitions if transition.moment <= now)
        )

    def snapshot(self, world: World, now: float) -> RunSnapshot:
        """Return the state of the run at `now`, which must not be before its start."""
        transitions = self.transitions_until(now)
        last = transitions[-1]
        rng = Random(int(self.id, 16))
        plan = _plan(rng, self.pipeline.stages, transitions)
        return RunSnapshot(
            pipeline_id=self.pipeline.id,
            id=self.id,
            number=self.number,
            status=last.status,
            start=self.start,
            end=last.end if last.end_reported else None,
            stages=plan.stages_at(now),
            origin=world.origin(rng, self.pipeline, self.number),
            plan=plan,
            custom_status=last.custom_status,
        )

    def record(self, run: RunSnapshot, operation: str, moment: float) -> None:
        """Record what a response reported about the run, unless it repeats the last report.

        A response without stages is compared by its other values only.
        """
        stages = tuple(
            (stage.name, stage.status, stage.end - stage.start if stage.start and stage.end else None)
            for stage in run.stages
        )
        misreported = run.number != self.number
        report = Report(moment, operation, run.status_text, run.start, run.end, stages, misreported)
        previous = self._last_report(report)
        if previous is None or not report.repeats(previous):
            self.reports = (*self.reports, report)

    def _last_report(self, report: Report) -> Report | None:
        """Return the last report in a form that can be compared with `report`, or None if there is no report.

        Its stages are the last reported ones if `report` has stages, otherwise empty.
        """
        if not self.reports:
            return None
        last = self.reports[-1]
        if not report.stages:
            return replace(last, stages=())
        return replace(last, stages=next((one.stages for one in reversed(self.reports) if one.stages), ()))


def _plan(rng: Random, stages: tuple[tuple[str, int], ...], transitions: tuple[Transition, ...]) -> RunPlan:
    """Return the plan that results from the transitions.

    While the run is in progress, the plan includes its next stages; the last one has no planned end.
    """
    speed = rng.uniform(0.8, 1.25)
    stage_lengths = [(rng.randint(1, 3), max(1, int(usual * speed))) for _, usual in stages]
    spans: list[_Span] = []
    previous_status, last = SimulatedStatus.INIT, transitions[-1]
    for transition in transitions:
        moment = int(transition.moment)
        if transition.end is not None:
            spans = _end(
                spans,
                stage_lengths,
                int(transition.end),
                complete=transition.status is SimulatedStatus.COMPLETED,
            )
        elif transition.status.paused:
            spans = _pause(spans, moment)
        elif transition.status is SimulatedStatus.RUNNING:
            if previous_status.paused:
                queued, start, _ = spans.pop()
                spans.append((queued, start, max(start, moment) + stage_lengths[len(spans)][1]))
                moment = spans[-1][2]
            elif previous_status.finished:
                # A retry repeats the last stage.
                spans = spans[:-1]
            spans = _continue(spans, stage_lengths, moment)
        previous_status = transition.status
    return RunPlan(
        stages=tuple(name for name, _ in stages),
        start=int(transitions[0].moment),
        end=_NEVER if last.end is None else int(last.end),
        final_status=last.status if last.status.finished else SimulatedStatus.COMPLETED,
        spans=tuple(spans),
        pause=(int(last.moment), _NEVER) if last.status.paused else None,
        pause_status=last.status,
    )


def _started(spans: list[_Span], moment: int) -> list[_Span]:
    return [span for span in spans if span[0] <= moment]


def _continue(spans: list[_Span], stage_lengths: list[tuple[int, int]], moment: int) -> list[_Span]:
    """Plan the remaining stages, one after the other from `moment` on; the last one has no planned end."""
    spans = list(spans)
    for wait, length in stage_lengths[len(spans) :]:
        spans.append((moment, moment + wait, moment + wait + length))
        moment += wait + length
    queued, start, _ = spans[-1]
    return [*spans[:-1], (queued, start, _NEVER)]


def _pause(spans: list[_Span], moment: int) -> list[_Span]:
    """Pause the running stage and drop later ones. If no stage has started, pause the first."""
    spans = _started(spans, moment) or [(moment, moment, _NEVER)]
    queued, start, _ = spans[-1]
    return [*spans[:-1], (queued, start, _NEVER)]


def _end(
    spans: list[_Span], stage_lengths: list[tuple[int, int]], end: int, *, complete: bool
) -> list[_Span]:
    """End the run at `end` with the running stage.

    If it is `complete`, the running and all remaining stages end by then; their lengths are scaled to the time left.
    """
    spans = _started(spans, end)
    if not spans and not complete:
        return spans
    queued, start, _ = spans.pop() if spans else (end, end, end)
    begin = stage_start = min(start, end)
    lengths = [length for _, length in stage_lengths[len(spans) :]] if complete else [1]
    elapsed = 0
    for length in lengths:
        elapsed += length
        until = begin + (end - begin) * elapsed // sum(lengths)
        spans.append((queued, stage_start, until))
        queued = stage_start = until
    return spans
