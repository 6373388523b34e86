"""The set of pipelines that need attention is correct after any change."""

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.core.model import Pipeline, Run, Stage, Status
from exporter.settings.settings import Metrics
from exporter.tracking.attention import AttentionSet
from exporter.tracking.ledger import Reach
from exporter.tracking.pipeline import PipelineTracker
from exporter.tracking.project import ProjectTracker
from exporter.tracking.saved import RetiredPipelines
from tests.marks import examples

NOON = 1_700_000_000.0
IDS = ("p", "q")
DAY = 86_400.0


def pipeline(identity: str, name: str = "") -> Pipeline:
    return Pipeline(provider="codearts", project="payments", id=identity, name=name or identity)


def run(number: int, status: Status, identity: str = "") -> Run:
    start = NOON + 100 * number
    end = start + 50 if status.final else None
    stages = (Stage("build", 0, status),)
    return Run(
        id=identity or f"run-{number}", number=number, status=status, start=start, end=end, stages=stages
    )


ids = st.sampled_from(IDS)
subsets = st.lists(ids, unique=True)
runs = st.builds(
    run,
    st.integers(1, 6) | st.just(500),
    st.sampled_from([Status.SUCCESS, Status.FAILED, Status.RUNNING, Status.PAUSED, Status.UNKNOWN]),
    st.sampled_from(["", "", "", "other"]),
)
rows = st.lists(runs, max_size=4)
names = st.sampled_from(["", "checkout", "release"])


class Machine:
    """A project tracker with both clocks."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.retired = RetiredPipelines()
        self.tracker = ProjectTracker(
            [pipeline(identity) for identity in IDS],
            Metrics(details="jobs"),
            self.retired,
            provider="codearts",
            project="payments",
            interval=60.0,
            started=self.now,
        )

    @property
    def wall(self) -> float:
        return NOON + self.now

    @property
    def attention(self) -> AttentionSet[PipelineTracker]:
        return self.tracker._attention

    def check(self) -> None:
        """Check that the set has exactly the pipelines whose trackers need attention."""
        needing = {identity for identity in self.tracker.ids if self.tracker[identity].needs_attention}
        assert needing <= self.attention.members.keys() <= set(self.tracker.ids)
        assert all(self.tracker[identity] is one for identity, one in self.attention.members.items())

    def settle(self) -> None:
        """Give every pipeline a finished run and save it, so that no pipeline needs attention."""
        for identity in IDS:
            self.tracker[identity].answered(run(1, Status.SUCCESS), sent_at=self.now, now=self.wall)
        self.tracker.commit(self.tracker.unsaved())
        assert self.attention.members == {}


Action = Callable[[Machine, st.DataObject], Any]

OF_PIPELINE: dict[str, Action] = {
    "rename": lambda m, d: (one := m.tracker[d.draw(ids)]).rename(pipeline(one.pipeline.id, d.draw(names))),
    "commit": lambda m, d: m.tracker[d.draw(ids)].commit(),
    "roll_back": lambda m, d: m.tracker[d.draw(ids)].roll_back(m.now),
    "saves_again": lambda m, d: m.tracker[d.draw(ids)].saves_again(),
    "answered": lambda m, d: m.tracker[d.draw(ids)].answered(
        d.draw(st.none() | runs), sent_at=m.now - d.draw(st.sampled_from([0.0, 100.0])), now=m.wall
    ),
    "inactive": lambda m, d: m.tracker[d.draw(ids)].inactive(m.now),
    "listed": lambda m, d: m.tracker[d.draw(ids)].listed(
        d.draw(rows),
        d.draw(st.sampled_from(Reach)),
        clock=m.now,
        now=m.wall,
        same_answer=d.draw(st.booleans()),
    ),
    "not_listed": lambda m, d: m.tracker[d.draw(ids)].not_listed(m.now),
    "looked_up": lambda m, d: m.tracker[d.draw(ids)].looked_up(
        f"run-{d.draw(st.integers(1, 6))}",
        d.draw(st.none() | runs),
        clock=m.now,
        now=d.draw(st.sampled_from([None, m.wall])),
    ),
    "postpone": lambda m, d: m.tracker[d.draw(ids)].postpone(f"run-{d.draw(st.integers(1, 6))}", m.now),
    "detailed": lambda m, d: m.tracker[d.draw(ids)].detailed(d.draw(runs), d.draw(st.none() | runs)),
    "detail_failed": lambda m, d: m.tracker[d.draw(ids)].detail_failed(d.draw(runs), m.now),
    "failed": lambda m, d: m.tracker[d.draw(ids)].failed(),
    "expire": lambda m, d: m.tracker[d.draw(ids)].expire(m.now, 900.0),
}
# Its caller proves that the pipeline does not need attention.
ONLY_WITHOUT_ATTENTION = {"mark_unchanged"}
READING_PIPELINE = {"to_save", "active", "wanted_detail", "wanted_finished_detail"}


def leave_and_return(machine: Machine, data: st.DataObject) -> None:
    tracked = data.draw(subsets)
    machine.tracker.update(
        [pipeline(identity, data.draw(names)) for identity in tracked], machine.now, machine.wall
    )
    machine.check()
    machine.tracker.update([pipeline(identity) for identity in IDS], machine.now, machine.wall)


def repeat_answers(machine: Machine, _: st.DataObject) -> None:
    latest = {identity: machine.tracker[identity].latest for identity in IDS}
    known = {identity: run for identity, run in latest.items() if run is not None}
    machine.tracker.answered(IDS, known, sent_at=machine.now, now=machine.wall)


OF_PROJECT: dict[str, Action] = {
    "update": leave_and_return,
    "commit": lambda m, _: m.tracker.commit(m.tracker.unsaved()),
    "roll_back": lambda m, _: m.tracker.roll_back(m.tracker.unsaved(), m.now),
    "answered": repeat_answers,
    "inactive": lambda m, d: m.tracker.inactive(d.draw(subsets), sent_at=m.now),
    "failed": lambda m, d: m.tracker.failed(d.draw(subsets)),
    "expire": lambda m, _: m.tracker.expire(m.now, 900.0),
    "detailed": lambda m, d: m.tracker.detailed(d.draw(ids), d.draw(runs), None),
    "detail_failed": lambda m, d: m.tracker.detail_failed(d.draw(ids), d.draw(runs), m.now),
}
READING_PROJECT = {
    "active", "due", "hold_back", "project_view", "take_misnumbered", "unsaved", "views", "wanted_details",
}  # fmt: skip


@given(data=st.data())
@examples(150)
def test_every_pipeline_that_needs_attention_is_in_the_set(data):
    machine = Machine()
    machine.check()
    if data.draw(st.booleans()):
        machine.settle()
    actions = [*OF_PIPELINE.values(), *OF_PROJECT.values()]
    repeated = st.sampled_from(actions) | st.sampled_from(
        [OF_PIPELINE["answered"], OF_PROJECT["commit"], OF_PROJECT["answered"]]
    )
    for action in data.draw(st.lists(repeated, max_size=25)):
        machine.now += data.draw(st.sampled_from([0.0, 15.0, 1000.0, DAY]))
        action(machine, data)
        machine.check()


@pytest.mark.parametrize(
    "action", [*OF_PIPELINE.values(), *OF_PROJECT.values()], ids=[*OF_PIPELINE, *OF_PROJECT]
)
@given(data=st.data())
@examples(20)
def test_settled_pipeline_that_changes_is_in_the_set(action, data):
    machine = Machine()
    machine.settle()
    machine.now += 60
    action(machine, data)
    machine.check()


def methods(kind: type) -> set[str]:
    return {name for name, one in vars(kind).items() if callable(one) and not name.startswith("_")}


@pytest.mark.parametrize(
    ("kind", "listed"),
    [
        (PipelineTracker, OF_PIPELINE.keys() | ONLY_WITHOUT_ATTENTION | READING_PIPELINE),
        (ProjectTracker, OF_PROJECT.keys() | READING_PROJECT),
    ],
)
def test_every_method_of_a_tracker_is_covered(kind, listed):
    """A new method that changes a tracker belongs in the table above."""
    assert methods(kind) == listed


def test_pruning_keeps_only_pipelines_that_need_attention():
    machine = Machine()
    machine.settle()
    machine.tracker["q"].failed()
    machine.tracker.commit(machine.tracker.unsaved())
    assert machine.attention.members.keys() == {"q"}
