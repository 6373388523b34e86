"""Two clouds with three weeks of scripted runs, and the true ends of these runs.

Everything is the same in every process. The true ends come from the simulator alone, not from the exporter.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from random import Random

from exporter.simulator import CodeArts, Flow, Scenario, SimulatedStatus, World
from exporter.simulator.world.world import DEFAULT_START, SimulatedPipeline

MINUTE, HOUR, DAY = 60.0, 3600.0, 86_400.0
STEP = 30 * MINUTE
"""Seconds between two scrapes."""
START = DEFAULT_START + 30 * DAY
"""Time of the first scrape, in Unix seconds."""
LAST = START + 21 * DAY
"""Time of the last scrape."""
NOW = LAST + 7
"""When queries are evaluated. No scrape is at the edge of a window then, where versions of Prometheus differ."""

PERIODS = {
    "steady": 2 * HOUR,
    "flaky": 3 * HOUR,
    "broken": 2 * HOUR,
    "slower": 2.5 * HOUR,
    "stuck": 2 * HOUR,
    "waiting": 4 * HOUR,
    "rare": DAY,
    "never": None,
}
"""Seconds between two runs, by role of a pipeline; the pipelines of each world have the roles in this order."""
FAILING = {
    "steady": 0.05,
    "flaky": 0.4,
    "broken": 0.1,
    "slower": 0.02,
    "stuck": 0.0,
    "waiting": 0.1,
    "rare": 0.3,
}
BROKEN_SINCE = LAST - 2.3 * DAY
"""From then on, every run of the role `broken` fails."""
SLOWER_SINCE = NOW - 7 * DAY
"""From then on, the runs of the role `slower` take two and a half times as long."""
STUCK_SINCE = LAST - 5 * HOUR
WAITING_SINCE = LAST - 6 * HOUR
RARE_SINCE = LAST - 30 * HOUR
"""Starts of the last runs of these roles. They do not end, except for that of the role `rare`."""
DELETED = LAST - 8 * HOUR
"""About when a CodeArts run is deleted that is in progress and hidden by a newer one."""
RENAMED, NEW_NAME = LAST - 4 * DAY, "renamed-four-days-ago"
"""When the pipeline of CodeArts with the role `rare` gets another name."""
OUTAGE = (LAST - 5 * DAY, LAST - 5 * DAY + 2 * HOUR)
"""Start and end of an outage of Flow."""
DEPLOYING = ("steady", "slower")
"""Roles with the label `deploys`."""

_RETRY_AFTER = STEP + 60
"""Seconds from a failure to its retry, so that a scrape between them sees the failure."""
_STATUSES = {"COMPLETED": "success", "FAILED": "failed", "CANCELED": "canceled"}


@dataclass(frozen=True)
class End:
    """An end of a run. A retried run has several; only the first one has stages.

    `stages` are name, status and duration of those with both times.
    """

    project: str
    pipeline_id: str
    role: str
    status: str
    start: float
    end: float
    first: bool
    stages: tuple[tuple[str, str, float], ...]


class Past:
    """The clouds, one for each project, and the true ends of their runs."""

    def __init__(self) -> None:
        self.now = START
        """The time of the clouds, in Unix seconds."""
        payments, mobile = (Scenario(World(seed=seed, pipelines=len(PERIODS))) for seed in (3, 4))
        self.codearts = CodeArts(payments.world, clock=self._clock, runs=payments)
        self.flow = Flow(mobile.world, clock=self._clock, runs=mobile)
        # Short pages of run lists save most of the time.
        self.flow.page_limit = len(PERIODS)
        self.clouds: dict[str, CodeArts | Flow] = {"payments": self.codearts, "mobile": self.flow}
        self._scenarios = {"payments": payments, "mobile": mobile}
        for scenario in self._scenarios.values():
            for role, pipeline in zip(PERIODS, scenario.world.pipelines, strict=True):
                _Script(scenario, pipeline, role).play()
        _delete_hidden_run(payments, self.pipeline("payments", "steady"))

    def _clock(self) -> float:
        return self.now

    def advance(self, now: float) -> None:
        """Set the time of the clouds, and rename the pipeline that is renamed by then."""
        self.now = now
        if now >= RENAMED:
            self.codearts.renamed = {self.pipeline("payments", "rare").id: NEW_NAME}

    def pipeline(self, project: str, role: str) -> SimulatedPipeline:
        """Return the pipeline with a role in the project's world."""
        return self.clouds[project].world.pipelines[list(PERIODS).index(role)]

    def id(self, project: str, role: str) -> str:
        """Return the id that the cloud gives to a pipeline."""
        return self.clouds[project].pipeline_id(self.pipeline(project, role).id)

    def ends(self) -> list[End]:
        """Return every end of a run until `now`, including those before the first scrape."""
        return [end for end in self._script if end.end <= self.now]

    @cached_property
    def _script(self) -> list[End]:
        return [
            end
            for project, scenario in self._scenarios.items()
            for role in PERIODS
            for end in self._ends_of(project, scenario, role)
        ]

    def _ends_of(self, project: str, scenario: Scenario, role: str) -> Iterator[End]:
        cloud, pipeline = self.clouds[project], self.pipeline(project, role)
        for truth in scenario.truth(pipeline.id):
            finals = [state for state in truth.states if state.end is not None]
            for state in finals:
                if truth.deleted is not None and truth.deleted <= state.moment:
                    continue
                run = scenario.run(pipeline, truth.id, state.moment)
                assert run is not None
                stages = cloud._reported(pipeline, run, state.moment).stages
                yield End(
                    project=project,
                    pipeline_id=cloud.pipeline_id(pipeline.id),
                    role=role,
                    status=_STATUSES[state.status],
                    start=state.start,
                    end=state.end or 0.0,
                    first=state is finals[0],
                    stages=tuple(
                        (stage.name, _STATUSES[stage.status], float(stage.end - stage.start))
                        for stage in stages
                        if stage.start is not None and stage.end is not None
                    )
                    if state is finals[0]
                    else (),
                )


class _Script:
    """The scripted runs of one pipeline."""

    def __init__(self, scenario: Scenario, pipeline: SimulatedPipeline, role: str) -> None:
        self._scenario = scenario
        self._pipeline = pipeline
        self._role = role
        self._rng = Random(pipeline.id)
        self._until = {
            "stuck": STUCK_SINCE,
            "waiting": WAITING_SINCE,
            "rare": RARE_SINCE,
            "broken": LAST - 8 * MINUTE,
        }.get(role, LAST)

    def play(self) -> None:
        """Begin and end all runs, starting five days before the first scrape."""
        period = PERIODS[self._role]
        if period is None:
            return
        # The last run begins exactly when the role says.
        count = int((self._until - START + 5 * DAY) / period)
        for index in range(count, 0, -1):
            self._run(self._until - (index + self._rng.uniform(0, 0.15)) * period)
        if self._role == "rare":
            self._run(self._until)
        elif self._role in {"stuck", "waiting", "broken"}:
            run = self._scenario.begin(self._pipeline.id, self._until)
            if self._role == "waiting":
                self._scenario.pause(run, self._until + 5 * MINUTE)

    def _run(self, start: float) -> None:
        start = float(int(start))
        if self._role == "steady" and abs(start - DELETED) < HOUR:
            return
        usual = sum(seconds for _, seconds in self._pipeline.stages)
        slower = 2.5 if self._role == "slower" and start >= SLOWER_SINCE else 1
        length = int(usual * slower * self._rng.uniform(0.9, 1.3))
        draw = self._rng.random()
        status = SimulatedStatus.COMPLETED
        if draw < FAILING[self._role] or (self._role == "broken" and start >= BROKEN_SINCE):
            status = SimulatedStatus.FAILED
        elif draw > 0.97:
            status = SimulatedStatus.CANCELED
        run = self._scenario.begin(self._pipeline.id, start)
        end = start + length
        self._scenario.end(run, end, status)
        near_outage = OUTAGE[0] - HOUR < start < OUTAGE[1] + HOUR
        retried = self._rng.random() < 0.5 and not near_outage
        if self._role == "flaky" and status is SimulatedStatus.FAILED and retried:
            self._scenario.retry(run, end + _RETRY_AFTER)
            self._scenario.end(run, end + _RETRY_AFTER + length // 2, SimulatedStatus.COMPLETED)


def _delete_hidden_run(scenario: Scenario, pipeline: SimulatedPipeline) -> None:
    """Begin two runs, and delete the older one; a scrape sees it before the newer one hides it."""
    hidden = scenario.begin(pipeline.id, DELETED - 4 * MINUTE)
    second = scenario.begin(pipeline.id, DELETED + 1 * MINUTE)
    scenario.delete(hidden, DELETED + 2 * MINUTE)
    scenario.end(second, DELETED + 10 * MINUTE, SimulatedStatus.COMPLETED)


def pages() -> list[float]:
    """Return the times of all scrapes, in Unix seconds."""
    return [START + index * STEP for index in range(int((LAST - START) / STEP) + 1)]
