"""State across restarts: values are saved, then shown. No count is lost, and retired pipelines are deleted in the end."""

import asyncio
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest

from exporter.app.bootstrap import assemble
from exporter.app.exporter import Exporter
from exporter.core.model import Pipeline, Run, Stage, Status
from exporter.core.shard import Shard
from exporter.simulator import CodeArts, InjectedFault, World, running
from exporter.state.recovery import open_store
from exporter.state.repository import FORGET
from exporter.state.sqlite import (
    Changes,
    Key,
    PipelineKey,
    ProjectKey,
    SaveError,
    SaveTimeoutError,
    SqliteStore,
    StoredState,
)
from exporter.tracking.ledger import Reach
from exporter.tracking.project import ProjectTracker
from exporter.tracking.views import View
from tests.conftest import Cloud
from tests.drivers.process import Samples
from tests.drivers.support import PROJECT_ID, FakeClock, config, project, shown

pytestmark = pytest.mark.process

NOON = 1_700_000_000.0
DAY = 86_400.0
ALPHA, BETA, GAMMA = "a" * 32, "b" * 32, "d" * 32
NAMES = {ALPHA: "alpha", BETA: "beta", GAMMA: "gamma"}


def listing(*ids: str, **changes: Any) -> dict[str, Any]:
    """Return a project that lists these pipelines by name."""
    return project(pipelines=[{"id": identity, "name": NAMES[identity]} for identity in ids], **changes)


def place(own: dict[str, Any]) -> Key:
    """Return the key of a project."""
    return Key(own["provider"], own["endpoint"], own["project_id"])


def run(number: int, status: Status = Status.SUCCESS, *stages: Stage) -> Run:
    """Return a run that took fifty seconds, if it has ended."""
    start = NOON + 100.0 * number
    end = start + 50 if status.final else None
    return Run(id=f"run-{number}", number=number, status=status, start=start, end=end, stages=stages)


class Life:
    """One process of an exporter with a state file, without a cloud."""

    def __init__(self, exporter: Exporter, clock: FakeClock) -> None:
        self.exporter = exporter
        self._clock = clock

    @property
    def now(self) -> float:
        """The time of both clocks."""
        return self._clock.now

    def tracker(self, identity: str) -> ProjectTracker:
        """Return the tracker of a pipeline's project."""
        return next(tracker for tracker in self.exporter.trackers if identity in tracker.ids)

    def sees(self, identity: str, *answers: Run | None) -> None:
        """Apply responses with these runs of a pipeline; save and publish each."""
        tracker = self.tracker(identity)
        for answer in answers:
            self._clock.now += 15
            runs = {} if answer is None else {identity: answer}
            tracker.answered([identity], runs, sent_at=self._clock.now, now=self._clock.now)
            self.saves(tracker)

    def saves(self, *trackers: ProjectTracker) -> None:
        """Save these trackers at the same time, by default all."""

        async def keep() -> None:
            await asyncio.gather(
                *(self.exporter.repository.save(one) for one in trackers or self.exporter.trackers)
            )

        asyncio.run(keep())

    def view(self, identity: str) -> View | None:
        """Return the view of a pipeline."""
        views = (view for tracker in self.exporter.trackers for view in tracker.views())
        return next((view for view in views if view.pipeline.id == identity), None)

    def counts(self, identity: str) -> dict[str, int] | None:
        """Return the counters that are not 0, by status and `missed`; None before first sight."""
        view = self.view(identity)
        if view is None or view.counters is None:
            return None
        found = {status.value: count for status, count in view.counters.runs.items()}
        return {name: count for name, count in {**found, "missed": view.counters.missed}.items() if count}

    def page(self) -> Samples:
        """Return the page."""
        asyncio.run(self.exporter.publisher.publish())
        return Samples(shown(self.exporter))


class House:
    """A state file and a clock, for several processes."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.clock = FakeClock(NOON + 10_000)

    @contextmanager
    def life(self, *projects: dict[str, Any], shard: Shard | None = None, **sections: Any) -> Iterator[Life]:
        """Run an exporter until the block ends."""
        store, stored = open_store(self.path, self.clock.now)
        settings = config(*projects, **sections)
        exporter = assemble(settings, self.clock, {}, shard=shard, store=store, stored=stored)
        try:
            yield Life(exporter, self.clock)
        finally:
            asyncio.run(exporter.repository.close())

    def stored(self) -> StoredState:
        """Return the content of the file."""
        store, stored = open_store(self.path, self.clock.now)
        asyncio.run(store.close())
        return stored

    def writes(self, **changes: Any) -> None:
        """Write rows into the file."""
        store, _ = open_store(self.path, self.clock.now)
        asyncio.run(store.save(Changes(**changes)))
        asyncio.run(store.close())

    def left(self, identity: str) -> float | None:
        """Return when a pipeline was retired."""
        return self.stored().pipelines[PipelineKey(place(project()), identity)].left

    def stored_ids(self) -> set[str]:
        """Return the ids of stored pipelines."""
        return {key.pipeline for key in self.stored().pipelines}


@pytest.fixture
def house(tmp_path: Path) -> House:
    return House(tmp_path / "state.db")


# Restarts


def test_restart_shows_what_was_shown_before_any_poll(house):
    with house.life(listing(ALPHA)) as life:
        life.sees(ALPHA, run(1), run(2, Status.FAILED), run(3, Status.RUNNING))
        before = life.page()
    house.clock.now += 60
    with house.life(listing(ALPHA)) as life:
        after = life.page()
        for name in (
            "ci_pipeline_runs_total",
            "ci_pipeline_run_duration_seconds_bucket",
            "ci_pipeline_run_duration_seconds_sum",
            "ci_pipeline_latest_finished_run_status",
            "ci_pipeline_consecutive_failures",
            "ci_pipeline_broken_since_timestamp_seconds",
        ):
            assert after.get(name) == before.get(name) != {}, name
        for name in ("ci_pipeline_up", "ci_pipeline_latest_run_status", "ci_pipeline_runs_active"):
            assert after.get(name) == {} != before.get(name), name
        life.sees(ALPHA, run(3))
        assert life.counts(ALPHA) == {"failed": 1, "success": 1}


def test_first_start_shows_nothing(house):
    with house.life(listing(ALPHA)) as life:
        assert life.view(ALPHA) is None
        assert life.page().value("pipeline_exporter_state_up") == 1
    assert house.stored() == StoredState(pipelines={}, projects={})


def test_restarts_neither_lose_runs_nor_count_them_twice(house):
    answers = [
        run(1, Status.RUNNING),
        run(1),
        run(2, Status.FAILED),
        run(2, Status.RUNNING),
        run(2),
        run(4, Status.RUNNING),
        run(5, Status.CANCELED),
    ]
    for answer in answers:
        with house.life(listing(ALPHA)) as life:
            life.sees(ALPHA, answer)
    with house.life(listing(ALPHA)) as life:
        life.sees(ALPHA, answers[-1])
        view = life.view(ALPHA)
        assert view is not None
        assert view.counters is not None
        assert life.counts(ALPHA) == {"success": 1, "failed": 1, "canceled": 1}
        assert view.counters.retries[Status.SUCCESS] == 1
        assert life.tracker(ALPHA).unresolved == 2


def test_restart_restores_project_histograms(house):
    stages = Stage("build", 0, Status.SUCCESS, NOON, 20.0)
    name = "ci_pipeline_stage_duration_seconds_count"
    with house.life(listing(ALPHA)) as life:
        life.sees(ALPHA, run(1), run(2, Status.SUCCESS, stages))
        assert life.page().value(name, stage_name="build") == 1
    with house.life(listing(ALPHA)) as life:
        assert life.page().value(name, stage_name="build") == 1
        life.sees(ALPHA, run(3, Status.SUCCESS, stages))
        assert life.page().value(name, stage_name="build") == 2


def test_other_buckets_start_empty_and_counters_stay(house):
    with house.life(listing(ALPHA)) as life:
        life.sees(ALPHA, run(1), run(2))
    sections = {"run_duration_buckets": ["1m"], "created_series": True}
    with house.life(listing(ALPHA), metrics=sections) as life:
        page = life.page()
        buckets = page.get("ci_pipeline_run_duration_seconds_bucket", status="success")
        assert list(buckets.values()) == [0, 0]
        (created,) = page.get("ci_pipeline_run_duration_seconds_created", status="success").values()
        assert created == house.clock.now
        assert life.counts(ALPHA) == {"success": 1}


def test_pipelines_keep_their_state_when_the_project_is_renamed(house):
    """The project's own histograms start empty."""
    stages = Stage("build", 0, Status.SUCCESS, NOON, 20.0)
    with house.life(listing(ALPHA, name="old")) as life:
        life.sees(ALPHA, run(1), run(2, Status.SUCCESS, stages))
    with house.life(listing(ALPHA, name="new")) as life:
        page = life.page()
        assert page.value("ci_pipeline_runs_total", project="new", status="success") == 1
        assert page.get("ci_pipeline_stage_duration_seconds_count") == {}


@pytest.mark.parametrize(
    "change", [{"project_id": "e" * 32}, {"endpoint": "http://127.0.0.1:2"}], ids=["project", "endpoint"]
)
def test_same_id_in_another_project_is_another_pipeline(house, change):
    with house.life(listing(ALPHA)) as life:
        life.sees(ALPHA, run(1), run(2))
    with house.life(listing(ALPHA, **change)) as life:
        assert life.view(ALPHA) is None


def test_pipeline_keeps_its_state_between_entries_of_one_project(house):
    one, two = listing(ALPHA, BETA, name="one"), listing(GAMMA, name="two")
    with house.life(one, two) as life:
        for identity in (ALPHA, BETA, GAMMA):
            life.sees(identity, run(1), run(2))
    one, two = listing(ALPHA, name="one"), listing(BETA, GAMMA, name="two")
    with house.life(one, two) as life:
        assert life.page().get("ci_pipeline_runs_total", status="success", project="two").keys() == {
            (
                ("pipeline", NAMES[identity]),
                ("pipeline_id", identity),
                ("project", "two"),
                ("provider", "codearts"),
                ("status", "success"),
            )
            for identity in (BETA, GAMMA)
        }
        assert life.counts(BETA) == {"success": 1}
        life.saves()
    assert house.left(BETA) is None


def test_without_a_store_state_lasts_as_long_as_the_process(house):
    exporter = assemble(config(listing(ALPHA, BETA)), house.clock, {})
    life = Life(exporter, house.clock)
    tracker = life.tracker(ALPHA)
    life.sees(ALPHA, run(1), run(2))
    assert life.counts(ALPHA) == {"success": 1}
    known = {view.pipeline.id: view.pipeline for view in tracker.views()}
    tracker.update([], house.clock.now, house.clock.now)
    life.saves()
    house.clock.now += DAY
    tracker.update(known.values(), house.clock.now, house.clock.now)
    assert life.counts(ALPHA) == {"success": 1}
    assert life.page().get("pipeline_exporter_state_up") == {}
    asyncio.run(exporter.repository.close())
    assert not house.path.exists()


# Saved, then shown


def test_counters_are_shown_only_after_the_save(house, monkeypatch):
    during = []
    with house.life(listing(ALPHA)) as life:
        life.sees(ALPHA, run(1))
        save = SqliteStore.save

        async def watched(store: SqliteStore, changes: Changes) -> None:
            during.append(life.counts(ALPHA))
            await save(store, changes)
            during.append(life.counts(ALPHA))

        monkeypatch.setattr(SqliteStore, "save", watched)
        life.sees(ALPHA, run(2))
        assert life.counts(ALPHA) == {"success": 1}
    assert during == [{}, {}]


def test_poll_without_changes_writes_nothing(house, monkeypatch):
    leave(house)
    encode_pipeline = []
    with house.life(listing(ALPHA)) as life:
        life.sees(ALPHA, run(2), run(3, Status.RUNNING))
        write = SqliteStore.save

        async def watched(store: SqliteStore, changes: Changes) -> None:
            encode_pipeline.append(bool(changes))
            await write(store, changes)

        monkeypatch.setattr(SqliteStore, "save", watched)
        life.sees(ALPHA, *[run(3, Status.RUNNING)] * 5)
        assert not any(encode_pipeline)
        life.sees(ALPHA, run(3))
        assert any(encode_pipeline)


@contextmanager
def nowhere(house: House) -> Iterator[None]:
    """Move the file away."""
    aside = house.path.with_name("aside.db")
    house.path.rename(aside)
    yield
    aside.rename(house.path)


def test_failed_saves_pause_counting_and_lose_nothing(house, caplog):
    caplog.set_level("INFO")
    stages = Stage("build", 0, Status.SUCCESS, NOON, 20.0)
    name = "ci_pipeline_stage_duration_seconds_count"
    with house.life(listing(ALPHA)) as life:
        life.sees(ALPHA, run(1), run(2, Status.SUCCESS, stages))
        for number in (3, 4):
            before = life.page().value(name, stage_name="build")
            assert before == number - 2
            counts = life.counts(ALPHA)
            with nowhere(house):
                life.sees(ALPHA, *[run(number, Status.SUCCESS, stages)] * 3)
                page = life.page()
                assert page.value("pipeline_exporter_state_up") == 0
                assert page.value("ci_pipeline_latest_finished_run_number") == number
                assert page.value(name, stage_name="build") == before
                assert life.counts(ALPHA) == counts
            life.sees(ALPHA, *[run(number, Status.SUCCESS, stages)] * 3)
            page = life.page()
            assert page.value("pipeline_exporter_state_up") == 1
            assert page.value(name, stage_name="build") == before + 1
            assert life.counts(ALPHA) == {"success": number - 1}
    records = [record for record in caplog.records if record.name == "exporter.state.repository"]
    assert [(record.levelname, record.getMessage()) for record in records] == [
        ("ERROR", "cannot save the state, counting paused"),
        ("INFO", "state is writable again, counting runs again"),
    ] * 2
    assert str(house.path) in vars(records[0])["error"]
    with house.life(listing(ALPHA)) as life:
        assert life.counts(ALPHA) == {"success": 3}


def test_state_up_stays_0_until_a_save_works(house, caplog):
    """Polls without changes do not prove that a save works."""
    with house.life(listing(ALPHA, name="one"), listing(BETA, name="two", project_id="e" * 32)) as life:
        life.sees(BETA, run(1))
        with nowhere(house):
            for number in range(3):
                life.sees(ALPHA, run(1 + number))
                life.saves()
                assert life.page().value("pipeline_exporter_state_up") == 0
    assert [record.levelname for record in caplog.records if record.name == "exporter.state.repository"] == [
        "ERROR"
    ]


def test_exporter_that_ends_during_failed_saves_continues_from_the_last_save(house):
    with house.life(listing(ALPHA)) as life:
        life.sees(ALPHA, run(1), run(2, Status.RUNNING))
        with nowhere(house):
            life.sees(ALPHA, run(2), run(3))
    with house.life(listing(ALPHA)) as life:
        assert life.counts(ALPHA) == {}
        life.sees(ALPHA, run(3))
        assert life.counts(ALPHA) == {"success": 1}
        assert life.tracker(ALPHA).unresolved == 1


def test_failed_save_of_one_project_does_not_affect_others(house, monkeypatch):
    save = SqliteStore.save
    full = True

    async def failing(store: SqliteStore, changes: Changes) -> None:
        if full and any(key.pipeline == ALPHA for key in changes.pipelines):
            raise SaveError("the disk is full")
        await save(store, changes)

    with house.life(listing(ALPHA, name="one"), listing(BETA, name="two", project_id="e" * 32)) as life:
        life.sees(ALPHA, run(1))
        life.sees(BETA, run(1))
        monkeypatch.setattr(SqliteStore, "save", failing)
        life.sees(ALPHA, run(2))
        life.sees(BETA, run(2))
        assert (life.counts(ALPHA), life.counts(BETA)) == ({}, {"success": 1})
        full = False
        life.sees(ALPHA, run(2))
        assert life.counts(ALPHA) == {"success": 1}


# Late saves


@contextmanager
def late(monkeypatch: pytest.MonkeyPatch, *, written: bool = True) -> Iterator[None]:
    """Let each save time out; if `written`, its rows reach the file nevertheless."""
    save = SqliteStore.save

    async def unfinished(store: SqliteStore, changes: Changes) -> None:
        if written:
            await save(store, changes)
        raise SaveTimeoutError("the disk hangs")

    with monkeypatch.context() as patch:
        patch.setattr(SqliteStore, "save", unfinished)
        yield


STAGE = Stage("build", 0, Status.SUCCESS, NOON, 20.0)
OBSERVED = "ci_pipeline_stage_duration_seconds_count"


def lists(life: Life, identity: str, *runs: Run) -> None:
    """Apply a run list of a pipeline, and save."""
    tracker = life.tracker(identity)
    tracker[identity].listed(runs, Reach.COMPLETE, clock=life.now, now=life.now)
    life.saves(tracker)


@pytest.mark.parametrize("written", [True, False], ids=["written late", "failed late"])
def test_rows_of_unfinished_save_are_restored_by_next_save(written, house, monkeypatch):
    """Otherwise, counters of the pipeline in the file would include a run that the project's histograms lack."""
    listed = (run(3), run(2, Status.SUCCESS, STAGE), run(1))
    with house.life(listing(ALPHA, BETA)) as life:
        life.sees(ALPHA, run(1), run(3))
        life.sees(BETA, run(1))
        with late(monkeypatch, written=written):
            lists(life, ALPHA, *listed)
            assert life.page().value("pipeline_exporter_state_up") == 0
        assert life.counts(ALPHA) == {"success": 1}
        life.sees(BETA, run(2, Status.SUCCESS, STAGE))
        page = life.page()
        assert (page.value("pipeline_exporter_state_up"), page.value(OBSERVED, stage_name="build")) == (1, 1)
    with house.life(listing(ALPHA, BETA)) as life:
        assert (life.counts(ALPHA), life.counts(BETA)) == ({"success": 1}, {"success": 1})
        lists(life, ALPHA, *listed)
        assert (life.counts(ALPHA), life.page().value(OBSERVED, stage_name="build")) == ({"success": 2}, 2)


def test_exporter_killed_after_late_save_has_it_once(house, monkeypatch):
    """The file has the run before any page has shown it."""
    with house.life(listing(ALPHA)) as life:
        life.sees(ALPHA, run(1))
        with late(monkeypatch):
            life.sees(ALPHA, run(2, Status.SUCCESS, STAGE))
            assert life.counts(ALPHA) == {}
    with house.life(listing(ALPHA)) as life:
        assert (life.counts(ALPHA), life.page().value(OBSERVED, stage_name="build")) == ({"success": 1}, 1)
        life.sees(ALPHA, run(2, Status.SUCCESS, STAGE))
        assert (life.counts(ALPHA), life.page().value(OBSERVED, stage_name="build")) == ({"success": 1}, 1)


def in_file(house: House) -> set[str]:
    """Return the ids of pipelines in the file of a running exporter."""
    with closing(sqlite3.connect(house.path)) as other:
        return {identity for (identity,) in other.execute("SELECT pipeline FROM pipeline")}


def test_first_sight_of_late_save_is_forgotten_by_next_save(house, monkeypatch):
    """A save of another project removes its rows, too."""
    with house.life(listing(ALPHA, name="one"), listing(BETA, name="two", project_id="e" * 32)) as life:
        with late(monkeypatch):
            life.sees(ALPHA, run(1))
        assert in_file(house) == {ALPHA}
        life.sees(BETA, run(1))
        assert in_file(house) == {BETA}
        life.sees(ALPHA, run(5))
        assert life.counts(ALPHA) == {}
    assert house.stored_ids() == {ALPHA, BETA}


def test_pipeline_restored_around_a_late_save_is_not_marked_as_retired(house, monkeypatch):
    """A mark would delete it a week later, although it is tracked."""
    with house.life(listing(ALPHA, BETA)) as life:
        for identity in (ALPHA, BETA):
            life.sees(identity, run(1))
    with house.life(listing(ALPHA)) as life:
        tracker = life.tracker(ALPHA)
        (own,) = [view.pipeline for view in tracker.views()]
        with late(monkeypatch):
            life.sees(ALPHA, run(2))
        back = Pipeline(**{**msgspec.structs.asdict(own), "id": BETA, "name": NAMES[BETA]})
        tracker.update([own, back], house.clock.now, house.clock.now)
        life.sees(ALPHA, run(2))
    assert house.left(BETA) is None


# Unreadable records


def test_unreadable_record_affects_only_its_pipeline(house, caplog):
    with house.life(listing(ALPHA, BETA)) as life:
        for identity in (ALPHA, BETA):
            life.sees(identity, run(1), run(2))
    house.writes(pipelines={PipelineKey(place(project()), ALPHA): b"nonsense"})
    with house.life(listing(ALPHA, BETA)) as life:
        assert caplog.messages == ["state records unreadable, their counters start at zero"]
        assert vars(caplog.records[0])["records"] == 1
        assert (life.view(ALPHA), life.counts(BETA)) == (None, {"success": 1})
        life.sees(ALPHA, run(2), run(3))
        assert life.counts(ALPHA) == {"success": 1}
    with house.life(listing(ALPHA, BETA)) as life:
        assert (life.counts(ALPHA), life.counts(BETA)) == ({"success": 1}, {"success": 1})
    assert len(caplog.messages) == 1


def test_unreadable_project_histograms_start_empty(house, caplog):
    stages = Stage("build", 0, Status.SUCCESS, NOON, 20.0)
    with house.life(listing(ALPHA)) as life:
        life.sees(ALPHA, run(1), run(2, Status.SUCCESS, stages))
    house.writes(projects={ProjectKey(place(project()), "payments"): b"\x00"})
    for _ in range(2):
        with house.life(listing(ALPHA)) as life:
            life.sees(ALPHA, run(2, Status.SUCCESS, stages))
            assert life.page().get("ci_pipeline_stage_duration_seconds_count") == {}
            assert life.counts(ALPHA) == {"success": 1}
    assert len(caplog.messages) == 1


def test_unreadable_record_of_an_untracked_pipeline_is_deleted(house):
    house.writes(pipelines={PipelineKey(place(project()), BETA): b"nonsense"})
    with house.life(listing(ALPHA)) as life:
        life.saves()
    assert house.stored_ids() == set()


def test_concurrent_saves_delete_nothing_of_each_other(house):
    one, two = listing(ALPHA, name="one"), listing(BETA, name="two", project_id="e" * 32)
    keys = {PipelineKey(place(one), ALPHA), PipelineKey(place(two), BETA)}
    house.writes(pipelines=dict.fromkeys(keys, b"nonsense"))
    with house.life(one, two) as life:
        now = house.clock.now
        for identity in (ALPHA, BETA):
            life.tracker(identity).answered([identity], {identity: run(1)}, sent_at=now, now=now)
        life.saves(*reversed(life.exporter.trackers))
    assert house.stored().pipelines.keys() == keys


# Retired pipelines


def leave(house: House) -> float:
    """Let one of two counted pipelines leave the configuration; return when."""
    with house.life(listing(ALPHA, BETA)) as life:
        for identity in (ALPHA, BETA):
            life.sees(identity, run(1), run(2))
    house.clock.now += 60
    left = house.clock.now
    with house.life(listing(ALPHA)) as life:
        life.sees(ALPHA, run(2))
    return left


def test_retired_pipeline_keeps_its_time_of_retirement(house):
    left = leave(house)
    assert house.left(BETA) == left
    assert house.left(ALPHA) is None
    house.clock.now += DAY
    with house.life(listing(ALPHA)) as life:
        life.sees(ALPHA, run(3))
        assert life.view(BETA) is None
    assert house.left(BETA) == left


def test_pipeline_back_within_a_week_continues(house):
    leave(house)
    house.clock.now += FORGET - 60
    with house.life(listing(ALPHA, BETA)) as life:
        assert life.counts(BETA) == {"success": 1}
        life.sees(BETA, run(3))
        assert life.counts(BETA) == {"success": 2}
    assert house.left(BETA) is None
    house.clock.now += 2 * FORGET
    with house.life(listing(ALPHA, BETA)) as life:
        assert life.counts(BETA) == {"success": 2}


def test_pipeline_back_after_a_week_is_new(house):
    leave(house)
    house.clock.now += FORGET + 60
    with house.life(listing(ALPHA, BETA)) as life:
        assert life.view(BETA) is None
        life.sees(BETA, run(2), run(3))
        assert life.counts(BETA) == {"success": 1}
    with house.life(listing(ALPHA, BETA)) as life:
        assert life.counts(BETA) == {"success": 1}


def test_retired_pipeline_is_deleted_after_a_week(house):
    leave(house)
    with house.life(listing(ALPHA)) as life:
        house.clock.now += FORGET - 60
        life.sees(ALPHA, run(2))
        assert set(life.exporter.repository.retired(config(listing(ALPHA)).projects[0]).retired) == {BETA}
        house.clock.now += 120
        life.sees(ALPHA, run(2))
    assert house.stored_ids() == {ALPHA}
    house.path.unlink()
    leave(house)
    house.clock.now += FORGET + 60
    with house.life(listing(ALPHA)) as life:
        life.sees(ALPHA, run(2))
    assert house.stored_ids() == {ALPHA}


def test_removed_project_retires_its_pipelines(house):
    other = listing(BETA, name="other", project_id="e" * 32)
    with house.life(listing(ALPHA), other) as life:
        for identity in (ALPHA, BETA):
            life.sees(identity, run(1), run(2))
    with house.life(listing(ALPHA)) as life:
        life.sees(ALPHA, run(2))
        house.clock.now += FORGET + 60
        life.sees(ALPHA, run(2))
    assert house.stored_ids() == {ALPHA}
    with house.life(listing(ALPHA), other) as life:
        assert life.view(BETA) is None


def test_concurrent_saves_store_restored_pipelines_once(house):
    leave(house)
    one, two = listing(ALPHA, BETA), listing(GAMMA, name="two", project_id="e" * 32)
    with house.life(one, two) as life:
        life.saves()
        life.saves()
    assert house.left(BETA) is None


def test_retirement_is_saved_with_the_next_save_that_works(house):
    with house.life(listing(ALPHA, BETA)) as life:
        for identity in (ALPHA, BETA):
            life.sees(identity, run(1))
    with house.life(listing(ALPHA)) as life:
        with nowhere(house):
            life.sees(ALPHA, run(2))
        life.sees(ALPHA, run(2))
    assert house.left(BETA) is not None


def test_pipeline_of_another_shard_is_deleted_at_once(house):
    """If it comes back, the other shard has counted its runs in the meantime."""
    ids = (ALPHA, BETA, GAMMA)
    with house.life(listing(*ids)) as life:
        for identity in ids:
            life.sees(identity, run(1), run(2))
    shard = Shard(0, 2)
    own = {identity for identity in ids if shard.owns("codearts", PROJECT_ID, identity)}
    assert 0 < len(own) < len(ids)
    with house.life(listing(*ids), shard=shard) as life:
        for identity in own:
            assert life.counts(identity) == {"success": 1}
        life.saves()
        life.saves()
    assert house.stored_ids() == own
    with house.life(listing(*ids)) as life:
        assert {view.pipeline.id for tracker in life.exporter.trackers for view in tracker.views()} == own


# Names and discovered pipelines


def ticks(house: House, own: dict[str, Any], *then: Callable[[Life], None]) -> None:
    """Run an exporter that polls a cloud, with an action before each poll."""
    store, stored = open_store(house.path, house.clock.now)

    async def polls() -> None:
        exporter = assemble(config(own), house.clock, {}, store=store, stored=stored)
        life = Life(exporter, house.clock)
        try:
            # As the daemon does before the first request.
            await exporter.publisher.publish()
            for look in then:
                look(life)
                await exporter.pollers[0].tick()
                house.clock.now += 60
        finally:
            await exporter.pollers[0].close()
            await exporter.repository.close()

    asyncio.run(polls())


def nothing(_: Life) -> None:
    pass


@pytest.fixture
def cloud() -> Iterator[Cloud]:
    """A small cloud without changes."""
    codearts = CodeArts(World(pipelines=5))
    moment = codearts.world.start + 30 * DAY
    codearts.clock = lambda: moment
    with running(codearts.app) as url:
        yield Cloud(codearts, url)


def shown_names(life: Life) -> dict[str, str]:
    """Return the shown names by id."""
    page = Samples(shown(life.exporter))
    return {dict(labels)["pipeline_id"]: dict(labels)["pipeline"] for labels in page.get("ci_pipeline_info")}


@pytest.mark.parametrize("discovers", [True, False], ids=["discovered", "listed without names"])
def test_restart_restores_names_before_the_first_poll(house, cloud, discovers):
    names = {one.id: one.name for one in cloud.codearts.world.pipelines}
    own = cloud.project(pipelines=[] if discovers else list(names))
    ticks(house, own, nothing, nothing)
    cloud.codearts.injected_fault = InjectedFault.SERVER_ERROR
    seen = []
    ticks(house, own, *[lambda life: seen.append(shown_names(life))] * 2)
    assert seen == [names, names]


def test_discovered_pipeline_that_disappeared_is_retired_after_two_listings(house, cloud):
    gone = cloud.codearts.world.pipelines[0].id
    own = cloud.project(pipelines=[], discover={"interval": "60s"})
    ticks(house, own, nothing, nothing)
    cloud.codearts.deleted.add(gone)
    seen = []
    ticks(house, own, *[lambda life: seen.append(gone in shown_names(life))] * 3)
    assert seen == [True, True, False]
    seen.clear()
    ticks(house, own, *[lambda life: seen.append(gone in shown_names(life))] * 2)
    assert seen == [False, False]


def test_pipeline_excluded_since_is_not_restored(house, cloud):
    first, second = cloud.codearts.world.pipelines[:2]
    ticks(house, cloud.project(pipelines=[]), nothing, nothing)
    own = cloud.project(pipelines=[], discover={"exclude": [first.name]})
    seen = []
    ticks(
        house, own, lambda life: seen.append(shown_names(life)), lambda life: seen.append(shown_names(life))
    )
    assert all(first.id not in names and second.id in names for names in seen)
