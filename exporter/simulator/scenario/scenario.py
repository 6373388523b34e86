"""A project whose runs somebody tells as time goes on, with all that real clouds do to runs and to their numbers.

The pure world is what everybody would expect; a story is what nobody does. It keeps what was true and, beside it,
what each answer told, so that whoever claims to have counted every run can be held to both. It knows no wire format:
any cloud can serve it.
"""

from bisect import insort
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from hashlib import blake2b

from exporter.simulator.scenario.run import SimulatedRun, Telling, Transition
from exporter.simulator.world.project import History
from exporter.simulator.world.runs import Run, Status
from exporter.simulator.world.world import Pipeline, World


@dataclass(frozen=True, slots=True)
class State:
    """What there is to tell of a run from `moment` on, until its next state; an end that is kept back is None."""

    moment: float
    status: str
    start: float
    end: float | None


@dataclass(frozen=True, slots=True)
class Truth:
    """All that ever was of a run.

    `epoch` counts how often the numbers of its pipeline had begun anew. `deleted` is when it was, if it is.
    """

    id: str
    number: int
    epoch: int
    states: tuple[State, ...]
    deleted: float | None


@dataclass(eq=False, slots=True)
class _Line:
    """A pipeline: its tales in order of start, the deleted ones too, and which numbers come next or were kept free.

    `shown` is how its latest run, if that was over, was shown last. `misreport` is the number with which the next answer
    reports its latest run by mistake, if any.
    """

    pipeline: Pipeline
    tales: list[SimulatedRun] = field(default_factory=list)
    next: int = 1
    reserved: set[int] = field(default_factory=set)
    epoch: int = 0
    shown: tuple[Transition, Run] | None = None
    misreport: int | None = None


class Scenario:
    """The pipelines of `world`, without runs until they are begun.

    Every action has its moment `now`, in Unix seconds, of which whole milliseconds count; for one run they must
    not go back. What is asked of a moment is answered as it was then, so that what has happened since does not
    show. An action that is none, such as to end what is deleted, raises `ValueError`; a pipeline that the world
    does not have, `KeyError`.

    The story and the cloud that serves it may live in different threads, but not act in the same instant.
    """

    def __init__(self, world: World) -> None:
        self.world = world
        self._lines = {pipeline.id: _Line(pipeline) for pipeline in world.pipelines}
        self._tales: dict[str, SimulatedRun] = {}
        self._begun = 0

    # -- actions: numbers

    def reserve(self, pipeline_id: str) -> int:
        """Give the next number to a run that waits, and shows nowhere until it is begun with that number."""
        line = self._lines[pipeline_id]
        number = line.next
        line.next += 1
        line.reserved.add(number)
        return number

    def reserved(self, pipeline_id: str) -> frozenset[int]:
        """Tell the numbers of the runs that wait to be begun."""
        return frozenset(self._lines[pipeline_id].reserved)

    def skip(self, pipeline_id: str, count: int = 1) -> None:
        """Let the next numbers be those of no run, ever."""
        self._lines[pipeline_id].next += count

    def misreport(self, pipeline_id: str, number: int) -> None:
        """Let the next answer that reports the latest run of a pipeline do so with this number."""
        self._lines[pipeline_id].misreport = number

    def reset_numbers(self, pipeline_id: str, now: float, *, delete: bool = False) -> None:
        """Let numbers begin anew at 1; the runs so far stay in the history, unless `delete`."""
        line = self._lines[pipeline_id]
        line.next, line.epoch = 1, line.epoch + 1
        line.reserved.clear()
        if delete:
            for tale in line.tales:
                if tale.deleted is None:
                    self.delete(tale, now)

    def recreate(self, pipeline_id: str, now: float) -> None:
        """Delete the pipeline with all its runs, and make another one under the same id."""
        self.reset_numbers(pipeline_id, now, delete=True)

    # -- actions: runs

    def begin(
        self, pipeline_id: str, now: float, *, status: Status = Status.RUNNING, number: int | None = None
    ) -> SimulatedRun:
        """Begin a run, in any state that is not over, beside those that are under way.

        Its number is the next one, or `number`: one that is reserved, or greater than all that were given.
        """
        line, now = self._lines[pipeline_id], _moment(now)
        if status.over:
            raise ValueError(f"a run does not begin as {status}")
        if number is None:
            number = line.next
        elif number < line.next and number not in line.reserved:
            raise ValueError(f"number {number} is neither new nor reserved")
        line.reserved.discard(number)
        line.next = max(line.next, number + 1)
        self._begun += 1
        lot = blake2b(f"{self.world.seed} run {self._begun} of a story".encode(), digest_size=16)
        tale = SimulatedRun(
            line.pipeline, lot.hexdigest(), number, line.epoch, now, (Transition(now, status),)
        )
        if line.tales and tale.place < line.tales[-1].place:
            insort(line.tales, tale, key=lambda tale: tale.place)
        else:
            line.tales.append(tale)
        self._tales[tale.id] = tale
        return tale

    def hold(self, run: SimulatedRun, now: float, status: Status = Status.PAUSED) -> None:
        """Pause a run under way, or suspend it."""
        last = self._last(run, now)
        if last.status.over or not status.held:
            raise ValueError(f"a run that is {last.status} cannot be held as {status}")
        self._turn(run, now, status)

    def go_on(self, run: SimulatedRun, now: float) -> None:
        """Let a run go on that is held, or has waited since it was begun."""
        last = self._last(run, now)
        if last.status.over or last.status is Status.RUNNING:
            raise ValueError(f"a run that is {last.status} cannot go on")
        self._turn(run, now, Status.RUNNING)

    def end(
        self, run: SimulatedRun, now: float, fate: Status, *, tell_end: bool = True, word: str | None = None
    ) -> None:
        """End a run under way: COMPLETED, FAILED, CANCELED or IGNORED, or in a `word` that nobody has heard of.

        Without `tell_end` its end is kept back. What ended in a word of its own may end once more.
        """
        last = self._last(run, now)
        if not fate.over or (last.status.over and last.word is None):
            raise ValueError(f"a run that is {last.status} cannot end as {fate}")
        self._turn(run, now, fate, end=_moment(now), told=tell_end, word=word)

    def tell(self, run: SimulatedRun, now: float) -> None:
        """Tell the end that was kept back."""
        last = self._last(run, now)
        if last.told:
            raise ValueError("nothing of the run is kept back")
        self._turn(run, now, last.status, end=last.end, word=last.word)

    def retry(self, run: SimulatedRun, now: float) -> None:
        """Take up a run again that was over."""
        last = self._last(run, now)
        if not last.status.over:
            raise ValueError(f"a run that is {last.status} cannot be retried")
        self._turn(run, now, Status.RUNNING)

    def ignore(self, run: SimulatedRun, now: float) -> None:
        """Let it be ignored that a run has failed; its end stays."""
        last = self._last(run, now)
        if last.status is not Status.FAILED or last.word is not None:
            raise ValueError(f"a run that is {last.word or last.status} cannot be ignored")
        self._turn(run, now, Status.IGNORED, end=last.end, told=last.told)

    def delete(self, run: SimulatedRun, now: float) -> None:
        """Delete a run, under way or over."""
        self._last(run, now)
        run.deleted = _moment(now)

    # -- what a cloud tells

    def latest(self, pipeline_id: str, now: float) -> SimulatedRun | None:
        """Find the run with the latest start of those that exist, of two the one with the greater number."""
        now = _moment(now)
        return next((tale for tale in reversed(self._lines[pipeline_id].tales) if tale.exists(now)), None)

    def latest_run(self, pipeline: Pipeline, now: float) -> Run | None:
        """Show the run with the latest start as it stands at `now`; None if there is none."""
        tale = self.latest(pipeline.id, now)
        if tale is None:
            return None
        now = _moment(now)
        last = tale.past(now)[-1]
        if last.end is None:
            return tale.seen(self.world, now)
        # Most are over, and asked about again and again: what is over looks the same at any moment.
        line = self._lines[pipeline.id]
        turn, run = line.shown or (None, None)
        if turn is not last or run is None:
            run = tale.seen(self.world, now)
            line.shown = last, run
        return run

    def latest_start(self, pipeline: Pipeline, now: float) -> float | None:
        """Tell when the run with the latest start did start; None if there is none."""
        tale = self.latest(pipeline.id, now)
        return None if tale is None else tale.start

    def run(self, pipeline: Pipeline, run_id: str, now: float) -> Run | None:
        """Show a run as it stands at `now`; None if there is none, or not yet, or no more."""
        tale, now = self._tales.get(run_id), _moment(now)
        if tale is None or tale.pipeline.id != pipeline.id or not tale.exists(now):
            return None
        return tale.seen(self.world, now)

    def numbered(self, pipeline: Pipeline, number: int, now: float) -> Run | None:
        """Show the run of that number, of several the one with the latest start; None if there is none."""
        now = _moment(now)
        tales = reversed(self._lines[pipeline.id].tales)
        tale = next((tale for tale in tales if tale.number == number and tale.exists(now)), None)
        return None if tale is None else tale.seen(self.world, now)

    def history(self, pipeline: Pipeline, now: float) -> Sequence[Run]:
        """List all runs that exist at `now`, oldest start first."""
        now = _moment(now)
        tales = [tale for tale in self._lines[pipeline.id].tales if tale.exists(now)]
        return History(tales, lambda tale: tale.seen(self.world, now))

    def reported(self, run: Run) -> Run:
        """Return a latest run as the next answer reports it, its number wrong if that was asked for."""
        line = self._lines[run.pipeline_id]
        number, line.misreport = line.misreport, None
        return run if number is None else replace(run, number=number)

    def witness(self, runs: Iterable[Run], operation: str, now: float) -> None:
        """Note what an answer of `operation` tells at `now`; runs of others are none of ours."""
        for run in runs:
            tale = self._tales.get(run.id)
            if tale is not None:
                tale.note(run, operation, now)

    # -- what was

    def exists(self, run: SimulatedRun) -> bool:
        """Tell whether a run is neither deleted nor forgotten."""
        return run.deleted is None and self._tales.get(run.id) is run

    def truth(self, pipeline_id: str) -> tuple[Truth, ...]:
        """Tell all runs that ever were, oldest start first, but those that are forgotten."""
        return tuple(
            Truth(
                tale.id,
                tale.number,
                tale.epoch,
                tuple(
                    State(
                        turn.moment,
                        turn.word or turn.status.value,
                        tale.start,
                        turn.end if turn.told else None,
                    )
                    for turn in tale.turns
                ),
                tale.deleted,
            )
            for tale in self._lines[pipeline_id].tales
        )

    def told(self, pipeline_id: str) -> dict[str, tuple[Telling, ...]]:
        """Tell what answers told of each run, by its id: only what differs from what was told of it before."""
        tales = self._lines[pipeline_id].tales
        return {tale.id: tale.tellings for tale in tales if tale.tellings}

    def discard_reports(self, since: float) -> None:
        """Take back what was told from that moment on: whoever heard it has lost it."""
        for tale in self._tales.values():
            if tale.tellings and tale.tellings[-1].moment >= since:
                tale.tellings = tuple(telling for telling in tale.tellings if telling.moment < since)

    def forget(self, before: float) -> None:
        """Drop the runs that ended or were deleted before that moment, as if they had never been.

        The latest run of a pipeline stays. No answer tells the others any more.
        """
        for line in self._lines.values():
            latest = next((tale for tale in reversed(line.tales) if tale.deleted is None), None)
            kept = []
            for tale in line.tales:
                gone = tale.deleted if tale.deleted is not None else tale.turns[-1].moment
                if tale is latest or gone >= before or not (tale.over or tale.deleted is not None):
                    kept.append(tale)
                else:
                    del self._tales[tale.id]
            line.tales = kept

    def _last(self, run: SimulatedRun, now: float) -> Transition:
        """Find the present state of a run; raises `ValueError` if nothing can happen to it at `now`."""
        last = run.turns[-1]
        if not self.exists(run):
            raise ValueError("the run does not exist any more")
        if _moment(now) < last.moment:
            raise ValueError("more has happened to the run since")
        return last

    @staticmethod
    def _turn(
        run: SimulatedRun,
        now: float,
        status: Status,
        *,
        end: float | None = None,
        told: bool = True,
        word: str | None = None,
    ) -> None:
        run.turns = (*run.turns, Transition(_moment(now), status, end, told, word))


def _moment(now: float) -> float:
    """Round to the milliseconds that clouds know."""
    return round(now, 3)
