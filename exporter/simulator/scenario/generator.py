"""Thousands of pipelines played forward in time: runs as they come and go, and every mischief that clouds and people do.

It only acts upon a story; what became of it, and what was told, is the story's to say. The same seed and odds make the
same drama, in however many pieces it is played.
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
from exporter.simulator.world.runs import Status, fate

_MINUTE, _HOUR, _DAY = 60, 3_600, 86_400
# From one start of a pipeline to the next.
_QUICKEST, _SLOWEST = 2 * _MINUTE, _DAY
_WORDS = ("ARCHIVED", "TERMINATING", "PARTIALLY_SUCCEEDED", "未知")

# Of all runs, those that last seconds, those that last hours, and those that outlast the next start.
_BRIEF_SHARE = 0.15
_LONG_SHARE = 0.03
_OVERLAPPING_SHARE = 0.1


@dataclass(frozen=True, slots=True)
class FaultRates:
    """How likely each mischief is, as a share.

    Of all runs, when they begin:

    - `skipped`: some numbers before it are given to no run.
    - `reserved`: the number before it was given early, to a run that begins later.
    - `paused`: it is held for a while, and goes on.
    - `deleted_open`: it is deleted while it is under way.
    - `deleted_newest`: soon after it began, whichever run is the pipeline's latest then is deleted.
    - `reset`: numbers begin anew with it; the runs so far stay or go.
    - `recreated`: it is the first one of another pipeline under the same id.

    Of all runs, when they end:

    - `unknown_word`: it ends in a word that nobody has heard of, and that is its last.
    - `passing_word`: it shows such a word before it ends in one that is known.
    - `end_omitted`, `end_late`: its end is never told, or told later.
    - `deleted`: it is deleted within a day.

    Of those that did not succeed:

    - `retried`: it is taken up again within seconds.
    - `retried_late`: it is taken up again within two days.
    - `ignored`: of those that failed, within the hour it is ignored that they did.
    """

    skipped: float = 0.01
    reserved: float = 0.01
    paused: float = 0.02
    deleted_open: float = 0.002
    deleted_newest: float = 0.002
    reset: float = 0.0005
    recreated: float = 0.0005
    unknown_word: float = 0.002
    passing_word: float = 0.002
    end_omitted: float = 0.005
    end_late: float = 0.01
    deleted: float = 0.005
    retried: float = 0.1
    retried_late: float = 0.05
    ignored: float = 0.05

    @classmethod
    def none(cls) -> Self:
        """Make the odds of a drama in which runs only begin and end."""
        return cls(**dict.fromkeys((field.name for field in fields(cls)), 0.0))


class ScenarioGenerator:
    """Plays `story` from the start of its world on; pipelines that never run there do not run here either.

    Somebody else may act upon the story as well, between two calls of `play`.
    """

    def __init__(self, story: Scenario, seed: int = 1, odds: FaultRates | None = None) -> None:
        self._story = story
        self._odds = odds or FaultRates()
        self._draw = Random(f"{seed} drama")
        self._scenes: list[tuple[float, int, Callable[[float], None]]] = []
        self._order = 0
        for pipeline in story.world.pipelines:
            if pipeline.first is not None:
                pace = self._draw.uniform(math.log(_QUICKEST), math.log(_SLOWEST))
                period = math.exp(pace)
                first = story.world.start + self._draw.random() * period
                self._plan(first, partial(self._start, pipeline.id, period))

    def play(self, until: float) -> None:
        """Let everything happen that happens up to `until` (Unix seconds), that moment included."""
        scenes = self._scenes
        while scenes and scenes[0][0] <= until:
            now, _, scene = heappop(scenes)
            scene(now)

    def _plan(self, moment: float, scene: Callable[[float], None]) -> None:
        self._order += 1
        heappush(self._scenes, (round(moment, 3), self._order, scene))

    # -- how runs begin

    def _start(self, pipeline_id: str, period: float, now: float) -> None:
        story, odds, draw = self._story, self._odds, self._draw
        self._plan(now + period * draw.uniform(0.5, 1.5), partial(self._start, pipeline_id, period))
        if draw.random() < odds.reset:
            story.reset_numbers(pipeline_id, now, delete=draw.random() < 0.5)
        if draw.random() < odds.recreated:
            story.recreate(pipeline_id, now)
        if draw.random() < odds.skipped:
            story.skip(pipeline_id, draw.randint(1, 3))
        if draw.random() < odds.reserved:
            waiting = partial(self._admit, pipeline_id, period, story.reserve(pipeline_id))
            self._plan(now + period * draw.uniform(0.02, 3), waiting)
        self._live(story.begin(pipeline_id, now), period, now)

    def _admit(self, pipeline_id: str, period: float, number: int, now: float) -> None:
        """Begin the run that got its number early, unless numbers have begun anew since."""
        if number in self._story.reserved(pipeline_id):
            self._live(self._story.begin(pipeline_id, now, number=number), period, now)

    def _live(self, run: SimulatedRun, period: float, now: float) -> None:
        odds, draw = self._odds, self._draw
        length = self._length(period)
        if draw.random() < odds.paused:
            held = now + length * draw.uniform(0.1, 0.8)
            pause = draw.uniform(5, _HOUR)
            self._plan(held, partial(self._hold, run))
            self._plan(held + pause, partial(self._go_on, run))
            length += pause
        if draw.random() < odds.deleted_open:
            self._plan(now + length * draw.random(), partial(self._delete, run))
        if draw.random() < odds.deleted_newest:
            self._plan(now + period * draw.random(), partial(self._delete_newest, run.pipeline.id))
        self._plan(now + length, partial(self._end, run, period))

    def _length(self, period: float) -> float:
        """Draw how long a run lasts, in seconds."""
        lot, draw = self._draw.random(), self._draw
        if lot < _BRIEF_SHARE:
            return draw.uniform(1, 10)
        lot -= _BRIEF_SHARE
        if lot < _LONG_SHARE:
            return draw.uniform(1, 4) * _HOUR
        lot -= _LONG_SHARE
        if lot < _OVERLAPPING_SHARE:
            return min(period * draw.uniform(1, 2.5), 6 * _HOUR)
        return min(period * draw.uniform(0.02, 0.4), 2 * _HOUR)

    # -- what happens to them

    def _hold(self, run: SimulatedRun, now: float) -> None:
        if self._story.exists(run) and not run.over:
            self._story.hold(run, now, self._draw.choice((Status.PAUSED, Status.SUSPEND)))

    def _go_on(self, run: SimulatedRun, now: float) -> None:
        if self._story.exists(run) and run.turns[-1].status.held:
            self._story.go_on(run, now)

    def _end(self, run: SimulatedRun, period: float, now: float) -> None:
        story, odds, draw = self._story, self._odds, self._draw
        if not story.exists(run) or run.over:
            return
        ending = fate(draw.random(), run.pipeline.failing)
        if draw.random() < odds.passing_word:
            story.end(run, now, ending, tell_end=False, word=draw.choice(_WORDS))
            self._plan(now + draw.uniform(1, 10 * _MINUTE), partial(self._resolve, run, ending))
        elif draw.random() < odds.unknown_word:
            story.end(run, now, ending, tell_end=draw.random() < 0.5, word=draw.choice(_WORDS))
        elif draw.random() < odds.end_omitted:
            story.end(run, now, ending, tell_end=False)
        elif draw.random() < odds.end_late:
            story.end(run, now, ending, tell_end=False)
            self._plan(now + draw.uniform(1, 10 * _MINUTE), partial(self._tell, run))
        else:
            story.end(run, now, ending)
        if draw.random() < odds.deleted:
            self._plan(now + draw.uniform(_MINUTE, _DAY), partial(self._delete, run))
        if ending is Status.COMPLETED:
            return
        if draw.random() < odds.retried:
            self._plan(now + draw.uniform(0, 20), partial(self._retry, run, period))
        elif draw.random() < odds.retried_late:
            self._plan(now + draw.uniform(_MINUTE, 2 * _DAY), partial(self._retry, run, period))
        elif ending is Status.FAILED and draw.random() < odds.ignored:
            self._plan(now + draw.uniform(1, _HOUR), partial(self._ignore, run))

    def _resolve(self, run: SimulatedRun, ending: Status, now: float) -> None:
        if self._story.exists(run) and run.turns[-1].word is not None:
            self._story.end(run, now, ending)

    def _tell(self, run: SimulatedRun, now: float) -> None:
        if self._story.exists(run) and not run.turns[-1].told:
            self._story.tell(run, now)

    def _retry(self, run: SimulatedRun, period: float, now: float) -> None:
        if self._story.exists(run) and run.over:
            self._story.retry(run, now)
            # Many a retry is over before anybody has looked.
            length = self._draw.uniform(1, 10) if self._draw.random() < 0.5 else self._length(period)
            self._plan(now + length, partial(self._end, run, period))

    def _ignore(self, run: SimulatedRun, now: float) -> None:
        last = run.turns[-1]
        if self._story.exists(run) and last.status is Status.FAILED and last.word is None:
            self._story.ignore(run, now)

    def _delete(self, run: SimulatedRun, now: float) -> None:
        if self._story.exists(run):
            self._story.delete(run, now)

    def _delete_newest(self, pipeline_id: str, now: float) -> None:
        run = self._story.latest(pipeline_id, now)
        if run is not None and self._story.exists(run):
            self._story.delete(run, now)
