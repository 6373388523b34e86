"""State files of released versions stay readable, and stored records only grow at the end.

`tests/data/state/` has a state file of each layout of the records, with every field set. A file is written once, by the
version whose layout it has, and is never changed:

    python -m tests.unit.state.test_stored tests/data/state/NAME.db
"""

import asyncio
import json
import re
import shutil
import sys
from pathlib import Path
from types import UnionType
from typing import Any, get_args, get_origin

import msgspec
import pytest

from exporter.core.model import Job, Run, Stage, Status, Step, Trigger
from exporter.state import codec
from exporter.state.codec import decode_durations, decode_pipeline, encode_durations, encode_pipeline
from exporter.state.recovery import open_store
from exporter.state.sqlite import Changes, Key, PipelineKey, ProjectKey
from exporter.tracking.ledger import EndedRun, Extent, Gap, InitialScan, LedgerState, OpenRun, Streak
from exporter.tracking.run_counters import BucketBounds, DurationHistograms, Histogram, RunCounters
from exporter.tracking.saved import Accounts, SavedPipeline, StatusSince, WaitingStage

NOON = 1_700_000_000.0
BOUNDS = BucketBounds(runs=(15.0, 60.0, 3600.0), stages=(30.0, 120.0))
KEY = Key("codearts", "https://cloud.example", "54f90b75fc1447b1b65e8d3a9f77923d")
STAYS, LEFT = PipelineKey(KEY, "stays"), PipelineKey(KEY, "left")
PROJECT = ProjectKey(KEY, "payments")

HERE = Path(__file__).parents[2]
STATES = sorted((HERE / "data" / "state").glob("*.db"))
LAYOUT = HERE / "golden" / "stored_records.json"


def a_run(number: int, status: Status) -> Run:
    """Return a run with every field set."""
    step = Step("compile", 1, "maven", Status.SUCCESS, 9.0)
    job = Job("jar", 2, Status.SUCCESS, NOON + 1, 10.0, (step,))
    return Run(
        id=f"run-{number}",
        number=number,
        status=status,
        start=NOON,
        end=NOON + 50,
        trigger=Trigger.MERGE_REQUEST,
        branch="main",
        tag="v1",
        commit="c" * 40,
        executor="e" * 32,
        event="merge_request",
        merge_id="7",
        source_branch="feature",
        url="https://cloud.example/run",
        stages=(Stage("build", 1, Status.SUCCESS, NOON + 1, 20.0, (job,)),),
    )


def a_state() -> LedgerState:
    """Return a state with every field set."""
    fields: dict[str, Any] = {
        "high": 40,
        "high_start": NOON + 1,
        "numbered": False,
        "epoch_start": NOON - 9,
        "latest": "run-40",
        "open": (
            OpenRun("run-39", 39, NOON, reopened=True, hidden=NOON + 2, end=NOON + 3, end_since=NOON + 4),
        ),
        "missing_numbers": (Gap(30, 33, NOON + 5, NOON + 6, NOON + 7, missed=False, watched=NOON + 17),),
        "nonexistent": (Gap(20, 22, NOON + 5, NOON + 6, NOON + 7, missed=True),),
        "initial_scan": InitialScan(11, NOON + 8),
        "ended": tuple(
            EndedRun(f"run-{38 - at}", 38 - at, status, NOON + at, NOON - at, counted=False)
            for at, status in enumerate(Status)
        ),
        "carried_streak": Streak(2, NOON + 9, NOON + 10, Extent.LIMITED),
        "carried_to": 12,
        "streak": Streak(3, NOON + 11, NOON + 12, Extent.WHOLE),
        "recoveries": (37,),
        "finished": a_run(38, Status.FAILED),
        "missed": ("run-8",),
        "unconfirmed_id": "run-7",
        "leap": a_run(4000, Status.RUNNING),
        "ordered_from": 13,
        "unfinished": (14, 15),
        "failed_before": (EndedRun("run-37", 37, Status.FAILED, NOON + 18, NOON + 17),),
    }
    return LedgerState(**fields)


def some_durations() -> DurationHistograms:
    """Return histograms with observations of runs and stages."""
    return DurationHistograms(
        runs_created=NOON - 2,
        stages_created=NOON - 1,
        runs={Status.SUCCESS: Histogram((1, 2, 3, 4), 5.5), Status.FAILED: Histogram((0, 0, 1, 0), 99.0)},
        stages={("build", Status.SUCCESS): Histogram((1, 0, 2), 7.25)},
    )


def a_pipeline() -> SavedPipeline:
    """Return a pipeline with every field set."""
    counters = RunCounters(
        created=NOON - 3,
        runs={Status.SUCCESS: 5, Status.FAILED: 4, Status.CANCELED: 3, Status.IGNORED: 2},
        retries={Status.SUCCESS: 1, Status.FAILED: 2, Status.CANCELED: 3, Status.IGNORED: 4},
        missed=6,
        recoveries=7,
        recovery_seconds=8.5,
    )
    waiting = (WaitingStage("approve", 3, Status.PAUSED, NOON + 14),)
    return SavedPipeline(
        Accounts(a_state(), counters, some_durations()),
        StatusSince("run-40", Status.SUSPENDED, NOON + 13, waiting),
        "checkout",
        NOON + 15,
    )


async def _write(path: Path) -> None:
    """Write a state file with every record and every field."""
    store, _ = open_store(path, NOON)
    await store.save(
        Changes(
            pipelines=dict.fromkeys((STAYS, LEFT), encode_pipeline(a_pipeline(), BOUNDS)),
            left={LEFT: NOON + 16},
            projects={PROJECT: encode_durations(some_durations(), BOUNDS)},
        )
    )
    await store.close()


def with_state(found: SavedPipeline, **changes: Any) -> SavedPipeline:
    """Return the saved values of a pipeline with another ledger state."""
    state = msgspec.structs.replace(found.accounts.state, **changes)
    return msgspec.structs.replace(found, accounts=msgspec.structs.replace(found.accounts, state=state))


def a_third_pipeline() -> SavedPipeline:
    """Return `a_pipeline` as the third layout has it: without the starts of runs, and which of them are counted."""
    found = a_pipeline()
    state = found.accounts.state

    def as_stored(runs: tuple[EndedRun, ...]) -> tuple[EndedRun, ...]:
        return tuple(msgspec.structs.replace(run, start=None, counted=True) for run in runs)

    return with_state(found, ended=as_stored(state.ended), failed_before=as_stored(state.failed_before))


def a_second_pipeline() -> SavedPipeline:
    """Return `a_pipeline` as the second layout has it: also without how much of a streak is known."""
    return with_state(
        a_third_pipeline(),
        carried_streak=Streak(2, NOON + 9, NOON + 10),
        streak=Streak(3, NOON + 11, NOON + 12),
        ordered_from=0,
        unfinished=(),
        failed_before=(),
    )


def a_first_pipeline() -> SavedPipeline:
    """Return `a_pipeline` as the first layout has it."""
    found = a_second_pipeline()
    gaps = tuple(msgspec.structs.replace(gap, watched=None) for gap in found.accounts.state.missing_numbers)
    return with_state(found, leap=None, missing_numbers=gaps)


EXPECTED = {
    "1-first": a_first_pipeline(),
    "2-leap": a_second_pipeline(),
    "3-streak": a_third_pipeline(),
    "4-starts": a_pipeline(),
}
"""Content of each file, by its name."""


def opened(golden: Path, directory: Path) -> Any:
    """Return what the store reads from a copy of a golden state file."""
    path = directory / "state.db"
    shutil.copy(golden, path)
    store, stored = open_store(path, NOON)
    asyncio.run(store.close())
    assert sorted(file.name for file in directory.iterdir()) == ["state.db", "state.db.lock"], "set aside"
    return stored


@pytest.mark.parametrize("golden", STATES, ids=lambda path: path.stem)
def test_state_of_each_layout_is_read_whole(golden, tmp_path):
    stored = opened(golden, tmp_path)
    assert {key: row.left for key, row in stored.pipelines.items()} == {STAYS: None, LEFT: NOON + 16}
    for row in stored.pipelines.values():
        assert decode_pipeline(row.data, BOUNDS, NOON + 99) == EXPECTED[golden.stem]
    assert stored.projects.keys() == {PROJECT}
    assert decode_durations(stored.projects[PROJECT], BOUNDS, NOON + 99) == some_durations()


def test_every_state_file_has_its_expectation():
    assert [path.stem for path in STATES] == sorted(EXPECTED)


def test_present_records_are_those_of_the_newest_state_file(tmp_path):
    """A new field needs a new file; the ones before it stay as they are."""
    stored = opened(STATES[-1], tmp_path)
    assert encode_pipeline(a_pipeline(), BOUNDS) == stored.pipelines[STAYS].data
    assert encode_durations(some_durations(), BOUNDS) == stored.projects[PROJECT]


# The layout of the records


def structs(kind: Any) -> dict[str, type[msgspec.Struct]]:
    """Return the structs that a stored type consists of, by name, itself included."""
    if not (isinstance(kind, type) and issubclass(kind, msgspec.Struct)):
        parts = get_args(kind) if get_origin(kind) is not None or isinstance(kind, UnionType) else ()
        return {name: one for part in parts for name, one in structs(part).items()}
    found: dict[str, type[msgspec.Struct]] = {kind.__name__: kind}
    for field in msgspec.structs.fields(kind):
        found |= structs(field.type)
    return found


def layout(kind: type[msgspec.Struct]) -> list[str]:
    """Return the fields of a struct in the order in which they are stored, with their types."""
    fields = (
        (field.encode_name, re.sub(r"\b([a-z_]+\.)+", "", str(field.type)))
        for field in msgspec.structs.fields(kind)
    )
    return [f"{name}: {kind}" for name, kind in fields]


def misfits(kind: type[msgspec.Struct], before: list[str]) -> list[str]:
    """Say why records written with the fields `before` would be misread as `kind`."""
    fields = msgspec.structs.fields(kind)
    now = layout(kind)
    found = [
        f"{kind.__name__}: {one} stood here" for at, one in enumerate(before) if now[at : at + 1] != [one]
    ]
    added = fields[len(before) :]
    return found + [f"{kind.__name__}.{field.name}: has no default" for field in added if field.required]


RECORDS = structs(codec._Pipeline)  # the records have no other name


@pytest.mark.parametrize("name", sorted(json.loads(LAYOUT.read_text())))
def test_stored_record_only_grows_at_its_end(name):
    """A field that was inserted, removed, reordered or changed its type would be read as another one.

    After a mere renaming in a record that is stored as an array, rename it in the file too.
    """
    assert not misfits(RECORDS[name], json.loads(LAYOUT.read_text())[name])


def test_every_stored_record_has_its_layout_on_file():
    assert sorted(RECORDS) == sorted(json.loads(LAYOUT.read_text()))


BEFORE = ["first: <class 'int'>", "second: <class 'str'>"]


@pytest.mark.parametrize(
    ("fields", "fits"),
    [
        ([("first", int), ("second", str)], True),
        ([("first", int), ("second", str), ("third", int, 0)], True),
        ([("first", int), ("second", str), ("third", int)], False),
        ([("first", int), ("third", int), ("second", str)], False),
        ([("first", int)], False),
        ([("second", str), ("first", int)], False),
        ([("first", int), ("second", int)], False),
    ],
    ids=["same", "appended", "appended without default", "inserted", "removed", "reordered", "other type"],
)
def test_layout_check_finds_misfits(fields, fits):
    record = msgspec.defstruct("Record", fields, array_like=True)
    assert (misfits(record, BEFORE) == []) is fits


if __name__ == "__main__":
    asyncio.run(_write(Path(sys.argv[1])))
