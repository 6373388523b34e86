"""One run that lives: its course is fixed by nobody, it is what somebody made of it so far.

Only the turns that its state took are kept, and all of them, so that it can be shown as it stood at any moment. Its
stages are acted upon by nobody: they follow from the turns, and never take back what they have shown.
"""

from dataclasses import dataclass, replace
from random import Random

from exporter.simulator.world.runs import Course, Run, Status
from exporter.simulator.world.world import Pipeline, World

# A stage under way ends when its run is told to, be it in centuries.
_NEVER = 2**34

_Leg = tuple[int, int, int]


@dataclass(frozen=True, slots=True)
class Transition:
    """The state of a run from `moment` on.

    `end` is when it ended, if it has; `told` is whether the cloud says so; `word` is what it says in the place
    of the status, if anything. Times are Unix seconds in whole milliseconds.
    """

    moment: float
    status: Status
    end: float | None = None
    told: bool = True
    word: str | None = None


@dataclass(frozen=True, slots=True)
class Telling:
    """What an answer of `operation` told of a run at `moment`: its state, start and end, if they were told.

    `stages` are (name, status, seconds from start to end) of each, the last None unless it has both times; there are
    none if it told of none. `misreported` is whether it had the number of another run.
    """

    moment: float
    operation: str
    status: str
    start: float
    end: float | None
    stages: tuple[tuple[str, Status, int | None], ...]
    misreported: bool = False

    @property
    def final(self) -> bool:
        """Whether it told, in a word that is known, that the run was over."""
        return self.status in _FINAL

    def repeats(self, other: "Telling") -> bool:
        """Tell whether another one told the same of the run."""
        mine = (self.status, self.end, self.stages, self.misreported)
        return mine == (other.status, other.end, other.stages, other.misreported)


_FINAL = frozenset(status.value for status in Status if status.over)


@dataclass(eq=False, slots=True)
class SimulatedRun:
    """A run of a story: who it is, the turns it took, and what was told of it.

    `epoch` counts how often the numbers of its pipeline had begun anew. `deleted` is when it was, if it is.
    """

    pipeline: Pipeline
    id: str
    number: int
    epoch: int
    start: float
    turns: tuple[Transition, ...]
    deleted: float | None = None
    tellings: tuple[Telling, ...] = ()

    @property
    def over(self) -> bool:
        """Whether it has ended, in whatever word."""
        return self.turns[-1].status.over

    @property
    def place(self) -> tuple[float, int]:
        """Its place in the order of starts."""
        return self.start, self.number

    def exists(self, now: float) -> bool:
        """Tell whether it has begun at `now`, and is not deleted."""
        return self.turns[0].moment <= now and (self.deleted is None or now < self.deleted)

    def past(self, now: float) -> tuple[Transition, ...]:
        """Tell the turns that it has taken by `now`; none before it begins."""
        last = self.turns[-1]
        return self.turns if last.moment <= now else tuple(turn for turn in self.turns if turn.moment <= now)

    def seen(self, world: World, now: float) -> Run:
        """Show it as it stands at `now`, which must not lie before its beginning."""
        turns = self.past(now)
        last = turns[-1]
        draw = Random(int(self.id, 16))
        course = _course(draw, self.pipeline.stages, turns)
        return Run(
            pipeline_id=self.pipeline.id,
            id=self.id,
            number=self.number,
            status=last.status,
            start=self.start,
            end=last.end if last.told else None,
            stages=course.seen(now),
            origin=world.origin(draw, self.pipeline, self.number),
            course=course,
            word=last.word,
        )

    def note(self, run: Run, operation: str, moment: float) -> None:
        """Note what was told of it, unless that is what was told last; of stages that are left out it told nothing."""
        stages = tuple(
            (stage.name, stage.status, stage.end - stage.start if stage.start and stage.end else None)
            for stage in run.stages
        )
        misreported = run.number != self.number
        telling = Telling(moment, operation, run.said, run.start, run.end, stages, misreported)
        known = self._known(telling)
        if known is None or not telling.repeats(known):
            self.tellings = (*self.tellings, telling)

    def _known(self, telling: Telling) -> Telling | None:
        """Tell what was told last, with the stages that were told last if this one is of any; None if nothing was."""
        if not self.tellings:
            return None
        last = self.tellings[-1]
        if not telling.stages:
            return replace(last, stages=())
        return replace(last, stages=next((one.stages for one in reversed(self.tellings) if one.stages), ()))


def _course(draw: Random, stages: tuple[tuple[str, int], ...], turns: tuple[Transition, ...]) -> Course:
    """Find what stages have made of these turns; what is to come is planned, and the last never ends by itself."""
    speed = draw.uniform(0.8, 1.25)
    plan = [(draw.randint(1, 3), max(1, int(usual * speed))) for _, usual in stages]
    legs: list[_Leg] = []
    before, last = Status.INIT, turns[-1]
    for turn in turns:
        moment = int(turn.moment)
        if turn.end is not None:
            legs = _ended(legs, plan, int(turn.end), whole=turn.status is Status.COMPLETED)
        elif turn.status.held:
            legs = _held(legs, moment)
        elif turn.status is Status.RUNNING:
            if before.held:
                queued, start, _ = legs.pop()
                legs.append((queued, start, max(start, moment) + plan[len(legs)][1]))
                moment = legs[-1][2]
            elif before.over:
                # It goes on with the stage that it ended with.
                legs = legs[:-1]
            legs = _going_on(legs, plan, moment)
        before = turn.status
    return Course(
        stages=tuple(name for name, _ in stages),
        start=int(turns[0].moment),
        end=_NEVER if last.end is None else int(last.end),
        fate=last.status if last.status.over else Status.COMPLETED,
        legs=tuple(legs),
        pause=(int(last.moment), _NEVER) if last.status.held else None,
        pause_word=last.status,
    )


def _begun(legs: list[_Leg], moment: int) -> list[_Leg]:
    return [leg for leg in legs if leg[0] <= moment]


def _going_on(legs: list[_Leg], plan: list[tuple[int, int]], moment: int) -> list[_Leg]:
    """Plan the stages that are still to come, one after the other from `moment` on."""
    legs = list(legs)
    for wait, length in plan[len(legs) :]:
        legs.append((moment, moment + wait, moment + wait + length))
        moment += wait + length
    queued, start, _ = legs[-1]
    return [*legs[:-1], (queued, start, _NEVER)]


def _held(legs: list[_Leg], moment: int) -> list[_Leg]:
    """Hold the stage that is under way; in a run that is held from its beginning, the first."""
    legs = _begun(legs, moment) or [(moment, moment, _NEVER)]
    queued, start, _ = legs[-1]
    return [*legs[:-1], (queued, start, _NEVER)]


def _ended(legs: list[_Leg], plan: list[tuple[int, int]], end: int, *, whole: bool) -> list[_Leg]:
    """End with the stage that is under way, or with the last of the `whole` plan, in what time there is."""
    legs = _begun(legs, end)
    if not legs and not whole:
        return legs
    queued, start, _ = legs.pop() if legs else (end, end, end)
    begin = at = min(start, end)
    lengths = [length for _, length in plan[len(legs) :]] if whole else [1]
    passed = 0
    for length in lengths:
        passed += length
        until = begin + (end - begin) * passed // sum(lengths)
        legs.append((queued, at, until))
        queued = at = until
    return legs
