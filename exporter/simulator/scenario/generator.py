"""Generator of random runs for thousands of pipelines, with the faults that clouds and users cause.

The generator acts on a scenario, which records the results. The same seed and rates produce the same runs, regardless
of the steps in which `play` advances the time.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, fields
from functools import partial
from heapq import heappop, heappush
from random import Random
from typing import Self

from exporter.simulator.scenario.run import SimulatedRun
from exporter.simulator.scenario.scenario import Scenario
from exporter.simulator.world.runs import SimulatedStatus, draw_final_status

_MINUTE, _HOUR, _DAY = 60, 3_600, 86_400
# Seconds from one start of a pipeline to the next.
_QUICKEST, _SLOWEST = 2 * _MINUTE, _DAY
_UNKNOWN_STATUSES = ("ARCHIVED", "TERMINATING", "PARTIALLY_SUCCEEDED", "未知")

# Shares of runs that last seconds, that last hours, and that outlast the next start.
_BRIEF_SHARE = 0.15
_LONG_SHARE = 0.03
_OVERLAPPING_SHARE = 0.1


@dataclass(frozen=True, slots=True)
class FaultRates:
    """Probability of each fault, per run.

    When a run begins:

    - `skipped`: up to three numbers before it are skipped.
    - `reserved`: the number before it is reserved for a run that begins later.
    - `paused`: it is paused for some time.
    - `deleted_open`: it is deleted before it has ended.
    - `deleted_newest`: soon after it began, the latest run of the pipeline is deleted.
    - `reset`: numbering restarts with it; the earlier runs stay or are deleted.
    - `recreated`: it is the first run of a new pipeline with the same id.

    When a run ends:

    - `unknown_status`: it ends for good with a status outside the vendor's list.
    - `transient_status`: it has such a status before it ends with a known one.
    - `end_omitted`, `end_late`: its end time is never reported, or reported later.
    - `deleted`: it is deleted within a day.

    When a run ends without success:

    - `retried`: it is retried within seconds.
    - `retried_late`: it is retried within two days.
    - `ignored`: if it failed, it becomes IGNORED within the hour.
    """

    skipped: float = 0.01
    reserved: float = 0.01
    paused: float = 0.02
    deleted_open: float = 0.002
    deleted_newest: float = 0.002
    reset: float = 0.0005
    recreated: float = 0.0005
    unknown_status: float = 0.002
    transient_status: float = 0.002
    end_omitted: float = 0.005
    end_late: float = 0.01
    deleted: float = 0.005
    retried: float = 0.1
    retried_late: float = 0.05
    ignored: float = 0.05

    @classmethod
    def none(cls) -> Self:
        """Return rates of 0, so that runs only begin and end."""
        return cls(**dict.fromkeys((field.name for field in fields(cls)), 0.0))


class ScenarioGenerator:
    """Applies random events to a scenario, from the start of its world.

    Pipelines that never run in the world never run here. A test may also act on the scenario between two calls of
    `play`.
    """

    def __init__(self, scenario: Scenario, seed: int = 1, rates: FaultRates | None = None) -> None:
        self._scenario = scenario
        self._rates = rates or FaultRates()
        self._rng = Random(f"{seed} drama")
        self._events: list[tuple[float, int, Callable[[float], None]]] = []
        self._order = 0
        for pipeline in scenario.world.pipelines:
            if pipeline.first is not None:
                pace = self._rng.uniform(math.log(_QUICKEST), math.log(_SLOWEST))
                period = math.exp(pace)
                first = scenario.world.start + self._rng.random() * period
                self._at(first, partial(self._start, pipeline.id, period))

    def play(self, until: float) -> None:
        """Apply all events up to and including `until` (Unix seconds)."""
        events = self._events
        while events and events[0][0] <= until:
            now, _, event = heappop(events)
            event(now)

    def _at(self, moment: float, event: Callable[[float], None]) -> None:
        self._order += 1
        heappush(self._events, (round(moment, 3), self._order, event))

    # -- how runs begin

    def _start(self, pipeline_id: str, period: float, now: float) -> None:
        scenario, rates, rng = self._scenario, self._rates, self._rng
        self._at(now + period * rng.uniform(0.5, 1.5), partial(self._start, pipeline_id, period))
        if rng.random() < rates.reset:
            scenario.reset_numbers(pipeline_id, now, delete=rng.random() < 0.5)
        if rng.random() < rates.recreated:
            scenario.recreate(pipeline_id, now)
        if rng.random() < rates.skipped:
            scenario.skip(pipeline_id, rng.randint(1, 3))
        if rng.random() < rates.reserved:
            begin = partial(self._begin_reserved, pipeline_id, period, scenario.reserve(pipeline_id))
            self._at(now + period * rng.uniform(0.02, 3), begin)
        self._schedule(scenario.begin(pipeline_id, now), period, now)

    def _begin_reserved(self, pipeline_id: str, period: float, number: int, now: float) -> None:
        """Begin the run with the reserved number, unless the numbering has been reset since."""
        if number in self._scenario.reserved(pipeline_id):
            self._schedule(self._scenario.begin(pipeline_id, now, number=number), period, now)

    def _schedule(self, run: SimulatedRun, period: float, now: float) -> None:
        rates, rng = self._rates, self._rng
        length = self._length(period)
        if rng.random() < rates.paused:
            paused_at = now + length * rng.uniform(0.1, 0.8)
            pause = rng.uniform(5, _HOUR)
            self._at(paused_at, partial(self._pause, run))
            self._at(paused_at + pause, partial(self._resume, run))
            length += pause
        if rng.random() < rates.deleted_open:
            self._at(now + length * rng.random(), partial(self._delete, run))
        if rng.random() < rates.deleted_newest:
            self._at(now + period * rng.random(), partial(self._delete_newest, run.pipeline.id))
        self._at(now + length, partial(self._end, run, period))

    def _length(self, period: float) -> float:
        """Draw the length of a run, in seconds."""
        value, rng = self._rng.random(), self._rng
        if value < _BRIEF_SHARE:
            return rng.uniform(1, 10)
        value -= _BRIEF_SHARE
        if value < _LONG_SHARE:
            return rng.uniform(1, 4) * _HOUR
        value -= _LONG_SHARE
        if value < _OVERLAPPING_SHARE:
            return min(period * rng.uniform(1, 2.5), 6 * _HOUR)
        return min(period * rng.uniform(0.02, 0.4), 2 * _HOUR)

    # -- later events of a run

    def _pause(self, run: SimulatedRun, now: float) -> None:
        if self._scenario.exists(run) and not run.finished:
            self._scenario.pause(
                run, now, self._rng.choice((SimulatedStatus.PAUSED, SimulatedStatus.SUSPEND))
            )

    def _resume(self, run: SimulatedRun, now: float) -> None:
        if self._scenario.exists(run) and run.transitions[-1].status.paused:
            self._scenario.resume(run, now)

    def _end(self, run: SimulatedRun, period: float, now: float) -> None:
        scenario, rates, rng = self._scenario, self._rates, self._rng
        if not scenario.exists(run) or run.finished:
            return
        final_status = draw_final_status(rng.random(), run.pipeline.failing)
        if rng.random() < rates.transient_status:
            scenario.end(
                run, now, final_status, report_end=False, custom_status=rng.choice(_UNKNOWN_STATUSES)
            )
            self._at(now + rng.uniform(1, 10 * _MINUTE), partial(self._resolve, run, final_status))
        elif rng.random() < rates.unknown_status:
            scenario.end(
                run,
                now,
                final_status,
                report_end=rng.random() < 0.5,
                custom_status=rng.choice(_UNKNOWN_STATUSES),
            )
        elif rng.random() < rates.end_omitted:
            scenario.end(run, now, final_status, report_end=False)
        elif rng.random() < rates.end_late:
            scenario.end(run, now, final_status, report_end=False)
            self._at(now + rng.uniform(1, 10 * _MINUTE), partial(self._reveal_end, run))
        else:
            scenario.end(run, now, final_status)
        if rng.random() < rates.deleted:
            self._at(now + rng.uniform(_MINUTE, _DAY), partial(self._delete, run))
        if final_status is SimulatedStatus.COMPLETED:
            return
        if rng.random() < rates.retried:
            self._at(now + rng.uniform(0, 20), partial(self._retry, run, period))
        elif rng.random() < rates.retried_late:
            self._at(now + rng.uniform(_MINUTE, 2 * _DAY), partial(self._retry, run, period))
        elif final_status is SimulatedStatus.FAILED and rng.random() < rates.ignored:
            self._at(now + rng.uniform(1, _HOUR), partial(self._ignore, run))

    def _resolve(self, run: SimulatedRun, final_status: SimulatedStatus, now: float) -> None:
        if self._scenario.exists(run) and run.transitions[-1].custom_status is not None:
            self._scenario.end(run, now, final_status)

    def _reveal_end(self, run: SimulatedRun, now: float) -> None:
        if self._scenario.exists(run) and not run.transitions[-1].end_reported:
            self._scenario.reveal_end(run, now)

    def _retry(self, run: SimulatedRun, period: float, now: float) -> None:
        if self._scenario.exists(run) and run.finished:
            self._scenario.retry(run, now)
            # Half of all retries end within seconds, which often falls between two polls.
            length = self._rng.uniform(1, 10) if self._rng.random() < 0.5 else self._length(period)
            self._at(now + length, partial(self._end, run, period))

    def _ignore(self, run: SimulatedRun, now: float) -> None:
        last = run.transitions[-1]
        if (
            self._scenario.exists(run)
            and last.status is SimulatedStatus.FAILED
            and last.custom_status is None
        ):
            self._scenario.ignore(run, now)

    def _delete(self, run: SimulatedRun, now: float) -> None:
        if self._scenario.exists(run):
            self._scenario.delete(run, now)

    def _delete_newest(self, pipeline_id: str, now: float) -> None:
        run = self._scenario.latest(pipeline_id, now)
        if run is not None and self._scenario.exists(run):
            self._scenario.delete(run, now)
