"""The SQLite file: saved rows are complete, however the process ends, and damage to the file is survived."""

import asyncio
import contextlib
import errno
import fcntl
import os
import random
import resource
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule, run_state_machine_as_test

from exporter.state import recovery, sqlite
from exporter.state.recovery import open_store
from exporter.state.sqlite import (
    Changes,
    Key,
    PipelineKey,
    ProjectKey,
    Row,
    SaveError,
    SaveTimeoutError,
    SqliteStore,
    StateError,
    StoredState,
)
from tests.marks import examples

pytestmark = pytest.mark.process

NOON = 1_700_000_000.0
STAMP = "2023-11-14T221320Z"
KEY = Key(
    "codearts", "https://cloudpipeline-ext.cn-north-4.myhuaweicloud.com", "54f90b75fc1447b1b65e8d3a9f77923d"
)
BUILD, DEPLOY = PipelineKey(KEY, "build"), PipelineKey(KEY, "deploy")
PAYMENTS = ProjectKey(KEY, "payments")


def pipelines(count: int, size: int = 1) -> dict[PipelineKey, bytes]:
    """Return rows of pipelines of some bytes each."""
    return {PipelineKey(KEY, f"{number:032x}"): bytes(size) for number in range(count)}


def save(store: SqliteStore, **changes: Any) -> None:
    asyncio.run(store.save(Changes(**changes)))


@contextlib.contextmanager
def opened(path: Path, now: float = NOON) -> Iterator[tuple[SqliteStore, StoredState]]:
    """Yield an open store and its content."""
    store, stored = open_store(path, now)
    try:
        yield store, stored
    finally:
        asyncio.run(store.close())


def held(path: Path) -> tuple[dict[PipelineKey, Row], dict[ProjectKey, bytes]]:
    """Return the content of a file."""
    with opened(path) as (_, stored):
        return stored.pipelines, stored.projects


def refusal(path: Path) -> str:
    """Return why a state cannot be used."""
    with pytest.raises(StateError) as error:
        open_store(path, NOON)
    return str(error.value)


def sql(store: SqliteStore, text: str) -> None:
    """Execute a statement on a store's own connection."""
    store._worker.submit(lambda: store._database._connection.execute(text).close()).result()


def size(path: Path) -> int:
    """Return the size of a state with its log, in bytes."""
    return sum(Path(f"{path}{end}").stat().st_size for end in ("", "-wal"))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Path of a state."""
    return tmp_path / "state.db"


@pytest.fixture
def filled(path: Path) -> Path:
    """Path of a state with two pipelines and a project."""
    with opened(path) as (store, _):
        save(store, pipelines={BUILD: b"one", DEPLOY: b"two"}, projects={PAYMENTS: b"three"})
    return path


# Rows


def test_missing_file_is_created(path):
    assert held(path) == ({}, {})
    assert path.is_file()


def test_empty_file_is_a_new_state(path, caplog):
    """It may have been created to set its owner."""
    path.touch()
    with opened(path) as (store, _):
        save(store, pipelines={BUILD: b"one"})
    assert held(path) == ({BUILD: Row(b"one")}, {})
    assert not caplog.records


def test_saved_rows_survive_a_restart(path):
    names = ["", "a", "A", "a ", "é", "e\u0301", "\0", "流水线", "x" * 10_000]
    scopes = [Key("codearts", "https://a", name) for name in names] + [Key("flow", "https://a", ""), KEY]
    kept = {
        PipelineKey(scope, name): f"{scope} {name}".encode() + bytes(range(256))
        for scope in scopes
        for name in names
    }
    projects = {ProjectKey(scope, name): b"" for scope in scopes for name in names}
    with opened(path) as (store, _):
        save(store, pipelines=kept, projects=projects)
    assert held(path) == ({key: Row(data) for key, data in kept.items()}, projects)


def test_saving_again_replaces_the_row(filled):
    with opened(filled) as (store, _):
        save(store, pipelines={BUILD: b"more"}, projects={PAYMENTS: b"other"})
    assert held(filled) == ({BUILD: Row(b"more"), DEPLOY: Row(b"two")}, {PAYMENTS: b"other"})


def test_time_of_retirement_stays_until_the_pipeline_is_marked_as_back(filled):
    """New data alone does not change it."""
    with opened(filled) as (store, _):
        save(store, left={BUILD: NOON, DEPLOY: NOON})
        save(store, pipelines={BUILD: b"more"}, left={DEPLOY: None})
    assert held(filled)[0] == {BUILD: Row(b"more", NOON), DEPLOY: Row(b"two")}


def test_deleted_pipeline_is_gone(filled):
    with opened(filled) as (store, _):
        save(store, delete=[BUILD])
    assert held(filled) == ({DEPLOY: Row(b"two")}, {PAYMENTS: b"three"})


def test_pipeline_deleted_and_saved_in_one_transaction_is_new(filled):
    with opened(filled) as (store, _):
        save(store, left={BUILD: NOON})
        save(store, delete=[BUILD, DEPLOY], pipelines={BUILD: b"new", DEPLOY: b"new"}, left={DEPLOY: NOON})
    assert held(filled)[0] == {BUILD: Row(b"new"), DEPLOY: Row(b"new", NOON)}


def test_retiring_or_deleting_unknown_pipelines_is_ignored(filled):
    other = PipelineKey(Key("codearts", "https://elsewhere", "x"), "build")
    before = held(filled)
    with opened(filled) as (store, _):
        save(store, delete=[other], left={PipelineKey(KEY, "test"): NOON, other: NOON})
    assert held(filled) == before


def test_no_changes_write_nothing(filled):
    with opened(filled) as (store, _):
        save(store, pipelines={BUILD: b"more"})
        before = size(filled)
        save(store)
        save(store, pipelines={}, left={}, delete=[], projects={})
        assert size(filled) == before
        filled.unlink()
        save(store)


# Size


def test_file_stays_small_when_rows_grow(path):
    """Less than 3 KB a pipeline with the log, for up to 2.2 KB of data."""
    dice = random.Random(1)
    lengths = {key: dice.randint(300, 700) for key in pipelines(2000)}
    final = {key: dice.randint(1500, 2200) for key in lengths}
    with opened(path) as (store, _):
        save(store, pipelines={key: bytes(length) for key, length in lengths.items()})
        for _ in range(200):
            for key in dice.sample(list(lengths), 100):
                lengths[key] = min(final[key], lengths[key] + dice.randint(100, 300))
            save(store, pipelines={key: bytes(lengths[key]) for key in dice.sample(list(lengths), 100)})
        save(store, pipelines={key: bytes(length) for key, length in lengths.items()})
        assert sum(lengths.values()) > 1500 * 2000
        assert size(path) < 3000 * 2000


def test_log_neither_grows_with_saves_nor_stays_large(path):
    wal = Path(f"{path}-wal")
    with opened(path) as (store, _):
        for number in range(40):
            save(store, pipelines=pipelines(2000 if number == 0 else 50, 1000 + number))
            assert wal.stat().st_size <= sqlite.WAL_LIMIT
        assert wal.exists()


def test_save_writes_only_changed_rows(path):
    with opened(path) as (store, _):
        save(store, pipelines=pipelines(3000, 500))
        save(store, pipelines=pipelines(3000, 500))
        assert Path(f"{path}-wal").stat().st_size == 0
        save(store, pipelines=pipelines(1, 501))
        assert 0 < Path(f"{path}-wal").stat().st_size < 20_000


# Locks


HOLDER = """
import sys
from pathlib import Path
from exporter.state.recovery import open_store
from exporter.state.sqlite import StateError
try:
    store, _ = open_store(Path(sys.argv[1]), 0.0)
except StateError as error:
    print(error)
    sys.exit(1)
print("open", flush=True)
sys.stdin.read()
"""


def python(source: str, *arguments: object, **options: Any) -> "subprocess.Popen[bytes]":
    """Start a script in another process."""
    command = [sys.executable, "-c", source, *map(str, arguments)]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0, **options)


def test_second_process_is_refused_and_the_first_continues(filled):
    with opened(filled) as (store, _):
        with python(HOLDER, filled) as second:
            message, _ = second.communicate()
        assert second.returncode == 1
        assert message.decode().strip() == (
            f"the state {filled} is in use by another process: stop it, or give each its own state.path"
        )
        save(store, pipelines={BUILD: b"more"})
    assert held(filled)[0][BUILD] == Row(b"more")


def test_killed_process_releases_the_lock(filled):
    with python(HOLDER, filled) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"open\n"
        assert "in use by another process" in refusal(filled)
        holder.kill()
        holder.wait()
    assert held(filled)[0][BUILD] == Row(b"one")


def test_child_process_does_not_keep_the_lock(filled):
    with contextlib.ExitStack() as stack:
        with opened(filled):
            child = stack.enter_context(
                python("import sys; print('up', flush=True); sys.stdin.read()", close_fds=False)
            )
            assert child.stdout is not None
            assert child.stdout.readline() == b"up\n"
        assert held(filled)[0][BUILD] == Row(b"one")


def test_second_store_in_the_same_process_is_refused(filled):
    with opened(filled):
        assert "in use by another process" in refusal(filled)
    assert held(filled)[0][BUILD] == Row(b"one")


def test_symbolic_links_and_relative_paths_are_the_same_state(filled, tmp_path, monkeypatch):
    link = tmp_path / "elsewhere"
    link.symlink_to(tmp_path, target_is_directory=True)
    (tmp_path / "link.db").symlink_to(filled)
    monkeypatch.chdir(tmp_path)
    with opened(filled):
        for name in (link / "state.db", Path("link.db"), Path("state.db")):
            assert f"the state {filled} is in use" in refusal(name)


# Files that cannot be opened


def test_missing_directory_is_reported(tmp_path):
    """Most often a volume is not mounted."""
    assert refusal(tmp_path / "volume" / "state.db") == (
        f"cannot keep the state in {tmp_path / 'volume'}: No such file or directory"
    )


def test_directory_that_is_a_file_is_reported(tmp_path):
    (tmp_path / "volume").touch()
    assert refusal(tmp_path / "volume" / "state.db").endswith("volume: Not a directory")


def test_path_that_is_a_directory_is_reported_and_not_renamed(path):
    path.mkdir()
    assert refusal(path) == f"cannot use the state {path}: it is not a regular file"
    assert path.is_dir()


@contextlib.contextmanager
def another_user(directory: Path, mode: int) -> Iterator[None]:
    """Run as a user who is not root, with these permissions of a directory."""
    directory.chmod(mode)
    root = os.geteuid() == 0
    if root:
        os.seteuid(65_534)
    try:
        yield
    finally:
        if root:
            os.seteuid(0)
        directory.chmod(0o755)


@pytest.fixture
def directory() -> Iterator[Path]:
    """A directory that other users can reach, with the lock of a state in it."""
    with tempfile.TemporaryDirectory() as name:
        (Path(name) / "state.db.lock").touch()
        (Path(name) / "state.db.lock").chmod(0o666)
        yield Path(name)


def test_directory_that_is_not_writable_is_reported(directory):
    with another_user(directory, 0o555):
        message = refusal(directory / "other.db")
    assert message == f"cannot keep the state in {directory}: Permission denied"


@pytest.mark.parametrize("mode", [0o555, 0o777])
def test_file_that_is_not_writable_is_reported_and_not_renamed(mode, directory):
    path = directory / "state.db"
    held(path)
    path.chmod(0o444)
    Path(f"{path}.lock").chmod(0o666)
    before = path.read_bytes()
    with another_user(directory, mode):
        message = refusal(path)
    assert message.startswith(f"cannot use the state {path}: ")
    assert message.endswith(("attempt to write a readonly database", "unable to open database file"))
    assert path.read_bytes() == before


def test_damaged_state_that_cannot_be_renamed_is_reported(directory):
    path = directory / "state.db"
    path.write_bytes(b"garbage")
    path.chmod(0o666)
    with another_user(directory, 0o555):
        message = refusal(path)
    assert message == (
        f"the state {path} is damaged (file is not a database), and cannot be renamed: Permission denied"
    )
    assert path.read_bytes() == b"garbage"


def test_state_locked_by_another_program_is_reported(filled, monkeypatch):
    monkeypatch.setattr(recovery, "PATIENCE", 0.0)
    with contextlib.closing(sqlite3.connect(filled, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        assert refusal(filled) == f"cannot use the state {filled}: database is locked"
    assert held(filled)[0][BUILD] == Row(b"one")


def test_file_system_without_locks_is_reported(path, monkeypatch):

    def flock(*_: object) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", flock)
    assert refusal(path) == f"cannot lock the state by {path}.lock: No locks available"


def test_lack_of_memory_is_not_damage(filled, monkeypatch):

    def load(_: object) -> StoredState:
        raise MemoryError

    with monkeypatch.context() as patch:
        patch.setattr(recovery, "read_all", load)
        assert refusal(filled) == f"cannot use the state {filled}: out of memory"
    assert held(filled)[0][BUILD] == Row(b"one")


def test_refused_open_leaves_nothing_locked(filled, monkeypatch):
    monkeypatch.setattr(recovery, "PATIENCE", 0.0)
    with contextlib.closing(sqlite3.connect(filled, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        first = refusal(filled)
        assert refusal(filled) == first


# Files that are not a usable state


def foreign(path: Path) -> None:
    """Make another program's database as a crash leaves it: the last change is only in its log."""
    with contextlib.closing(sqlite3.connect(f"{path}.live", isolation_level=None)) as other:
        other.execute("PRAGMA journal_mode = WAL")
        other.execute("CREATE TABLE dashboards (name)")
        other.execute("INSERT INTO dashboards VALUES ('red ones')")
        shutil.copy(f"{path}.live", path)
        shutil.copy(f"{path}.live-wal", f"{path}-wal")
    Path(f"{path}.live").unlink()


def change(path: Path, statements: str) -> None:
    """Change a database without the store."""
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.executescript(statements)


UNUSABLE = {
    "garbage": (lambda path: path.write_bytes(b"\xff" * 5000), "corrupt", "damaged (file is not a database)"),
    "a text": (lambda path: path.write_text("projects: []\n"), "corrupt", "damaged (file is not a database)"),
    "two bytes": (lambda path: path.write_bytes(b"SQ"), "corrupt", "damaged (file is not a database)"),
    "cut off": (
        lambda path: os.truncate(path, path.stat().st_size // 2 + 100),
        "corrupt",
        "damaged (database disk image is malformed)",
    ),
    "of another program": (foreign, "foreign", "another program's database"),
    "with another table of the same name": (
        lambda path: change(path, "DROP TABLE pipeline; CREATE TABLE pipeline (id, name)"),
        "corrupt",
        None,
    ),
    "with an index that lacks a row": (
        lambda path: change(
            path,
            "PRAGMA writable_schema = ON; UPDATE sqlite_master SET rootpage = 2 WHERE rootpage = 3;",
        ),
        "corrupt",
        None,
    ),
    "of no version": (
        lambda path: change(path, "PRAGMA user_version = 0"),
        "corrupt",
        "damaged (table scope already exists)",
    ),
    "with text that is not UTF-8": (
        lambda path: change(path, "UPDATE scope SET provider = CAST(x'ff' AS TEXT)"),
        "corrupt",
        "damaged (Could not decode to UTF-8 column 'provider' with text '\ufffd')",
    ),
    "with numbers for data": (
        lambda path: change(path, "PRAGMA ignore_check_constraints = ON; UPDATE pipeline SET data = 7"),
        "corrupt",
        "damaged (CHECK constraint failed in pipeline)",
    ),
}


@pytest.mark.parametrize("case", UNUSABLE)
def test_unusable_file_is_renamed_and_reported_and_a_new_one_started(case, filled, caplog):
    spoil, word, reason = UNUSABLE[case]
    spoil(filled)
    with opened(filled) as (store, stored):
        assert (stored.pipelines, stored.projects) == ({}, {})
        save(store, pipelines={BUILD: b"new"})
    aside = Path(f"{filled}.{word}-{STAMP}")
    (record,) = caplog.records
    assert (record.name, record.levelname) == ("exporter.state.recovery", "ERROR")
    assert record.getMessage() == "state unusable, renamed it and started a new one"
    fields = vars(record)
    assert (fields["id"], fields["file"]) == ("state-renamed", str(filled))
    assert fields["detail"] == f"renamed to {aside}"
    assert fields["reason"].startswith(reason or "damaged")
    assert "\n" not in fields["reason"]
    assert aside.is_file()
    assert held(filled)[0] == {BUILD: Row(b"new")}
    assert len(caplog.records) == 1


def test_renamed_file_is_unchanged(filled):
    """Another program's database is complete with its log."""
    foreign(filled)
    held(filled)
    with contextlib.closing(sqlite3.connect(f"{filled}.foreign-{STAMP}")) as other:
        assert other.execute("SELECT name FROM dashboards").fetchall() == [("red ones",)]


def test_log_is_renamed_with_its_database(filled):
    """A repair may need it."""
    filled.write_bytes(b"garbage")
    Path(f"{filled}-wal").write_bytes(b"also")
    held(filled)
    assert Path(f"{filled}.corrupt-{STAMP}-wal").read_bytes() == b"also"


def test_renamed_files_are_never_overwritten(filled, caplog):
    for content in (b"first", b"second", b"third"):
        filled.write_bytes(content)
        held(filled)
    kept = [Path(f"{filled}.corrupt-{STAMP}{end}") for end in ("", "-2", "-3")]
    assert [file.read_bytes() for file in kept] == [b"first", b"second", b"third"]
    assert [vars(record)["detail"] for record in caplog.records] == [f"renamed to {file}" for file in kept]


def survives(path: Path, content: bytes, rows: dict[PipelineKey, bytes]) -> bool:
    """Open a damaged file and save. Return whether it was renamed; otherwise its rows must be there."""
    path.write_bytes(content)
    if (
        content[68:72] == sqlite.APPLICATION.to_bytes(4, "big")
        and content[60] < 128
        and content[60:64] > b"\0\0\0\1"
    ):
        assert "written by a newer release" in refusal(path)
        assert path.read_bytes() == content
        return False
    with opened(path) as (store, stored):
        started_empty = not stored.pipelines
        assert started_empty or stored.pipelines.keys() == rows.keys()
        save(store, pipelines=rows)
    assert held(path)[0].keys() == rows.keys()
    aside = Path(f"{path}.corrupt-{STAMP}"), Path(f"{path}.foreign-{STAMP}")
    kept = [file for file in aside if file.exists()]
    assert len(kept) == (started_empty and content != b"")
    for file in kept:
        assert file.read_bytes() == content
        file.unlink()
    return started_empty


@pytest.fixture
def sound(path: Path) -> bytes:
    """Create a state file of a few pages; return its bytes."""
    with opened(path) as (store, _):
        save(store, pipelines=pipelines(40, 900), projects={PAYMENTS: bytes(9000)})
    return path.read_bytes()


def test_any_header_byte_leads_to_the_old_rows_or_a_new_state(path, sound):
    dice = random.Random(1)
    for place in range(100):
        for value in {dice.randrange(256), sound[place] ^ 1} - {sound[place]}:
            survives(path, sound[:place] + bytes([value]) + sound[place + 1 :], pipelines(40, 900))


@pytest.mark.parametrize("length", [1, 8, 700])
def test_garbage_anywhere_leads_to_the_old_rows_or_a_new_state(path, sound, length):
    dice = random.Random(length)
    restarted = 0
    for _ in range(70):
        place = dice.randrange(len(sound))
        content = sound[:place] + dice.randbytes(length) + sound[place + length :]
        restarted += survives(path, content, pipelines(40, 900))
    assert length == 1 or restarted


def test_truncated_file_leads_to_a_new_state(path, sound):
    dice = random.Random(1)
    for place in {0, 2, 99, 100, 511, 512, 4095, 4096, *(dice.randrange(len(sound)) for _ in range(40))}:
        # The rest of the last page may be empty.
        assert survives(path, sound[:place], pipelines(40, 900)) or place > len(sound) - 4096


# Versions


def test_older_version_is_migrated(filled, monkeypatch):
    monkeypatch.setattr(
        recovery,
        "MIGRATIONS",
        (*sqlite.MIGRATIONS, "ALTER TABLE pipeline ADD COLUMN note TEXT; UPDATE pipeline SET note = 'old'"),
    )
    before = held(filled)
    assert len(before[0]) == 2
    assert held(filled) == before
    with contextlib.closing(sqlite3.connect(filled)) as other:
        assert other.execute("SELECT DISTINCT note FROM pipeline").fetchall() == [("old",)]
        assert other.execute("PRAGMA user_version").fetchall() == [(2,)]


def test_failed_migration_changes_nothing(filled, monkeypatch, caplog):
    with monkeypatch.context() as patch:
        patch.setattr(
            recovery, "MIGRATIONS", (*sqlite.MIGRATIONS, "DELETE FROM pipeline; DROP TABLE nonsense")
        )
        refused = refusal(filled)
    assert refused == f"cannot use the state {filled}: the new file is damaged (no such table: nonsense)"
    (record,) = caplog.records
    assert vars(record)["reason"] == "damaged (no such table: nonsense)"
    assert held(Path(f"{filled}.corrupt-{STAMP}"))[0][BUILD] == Row(b"one")


@pytest.mark.parametrize("crashed", [False, True], ids=["closed", "crashed"])
def test_state_of_newer_format_is_refused_and_left_untouched(crashed, filled, caplog):
    """An older release that renamed or read it would lose counts."""
    with contextlib.closing(sqlite3.connect(filled, isolation_level=None)) as newer:
        newer.execute("PRAGMA user_version = 7")
        newer.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        newer.execute("CREATE TABLE branch (name)")
        live = {end: Path(f"{filled}{end}").read_bytes() for end in ("", "-wal")}
    if crashed:
        for end, content in live.items():
            Path(f"{filled}{end}").write_bytes(content)
    filled.chmod(0o640)
    before = {file.name: file.read_bytes() for file in filled.parent.iterdir()}
    assert refusal(filled) == (
        f"the state {filled} has format version 7, written by a newer release, and this release supports version 1: "
        "run the newer release, or give another state.path"
    )
    assert {file.name: file.read_bytes() for file in filled.parent.iterdir()} == before
    assert filled.stat().st_mode & 0o777 == 0o640
    assert not caplog.records


def test_newer_format_only_in_the_log_is_refused(filled):
    """The release that wrote it was killed before it emptied its log."""
    with contextlib.closing(sqlite3.connect(filled, isolation_level=None)) as newer:
        newer.execute("PRAGMA user_version = 7")
        live = {end: Path(f"{filled}{end}").read_bytes() for end in ("", "-wal")}
    for end, content in live.items():
        Path(f"{filled}{end}").write_bytes(content)
    assert "has format version 7" in refusal(filled)
    change(filled, "PRAGMA user_version = 1")
    assert held(filled)[0][BUILD] == Row(b"one")


# Permissions and names


def modes(path: Path) -> dict[str, int]:
    """Return the permissions of a state and of all files next to it."""
    return {file.name: file.stat().st_mode & 0o777 for file in path.parent.iterdir()}


def test_state_and_its_sidecar_files_are_readable_by_their_owner_only(path):
    """With any umask: they have branches and commits."""
    before = os.umask(0)
    try:
        with opened(path) as (store, _):
            save(store, pipelines={BUILD: b"one"})
            assert modes(path) == dict.fromkeys(
                ["state.db", "state.db-wal", "state.db-shm", "state.db.lock"], 0o600
            )
    finally:
        os.umask(before)


def test_permissions_of_existing_files_are_tightened(filled):
    """A file that its owner cannot write stays unwritable."""
    with contextlib.closing(sqlite3.connect(filled, isolation_level=None)) as other:
        other.execute("PRAGMA user_version = 1")
        for name in modes(filled):
            (filled.parent / name).chmod(0o664)
        with opened(filled):
            assert set(modes(filled).values()) == {0o600}
            assert len(modes(filled)) == 4
    filled.chmod(0o444)
    with opened(filled):
        assert modes(filled)["state.db"] == 0o400


def test_file_of_another_owner_is_used_with_a_warning(directory, caplog):
    """A volume may give access by group; only the owner can change permissions."""
    path = directory / "state.db"
    held(path)
    for file in directory.iterdir():
        file.chmod(0o666)
    with another_user(directory, 0o777):
        assert held(path) == ({}, {})
    files = [f"{path}.lock", str(path)]
    assert caplog.messages == ["cannot restrict file permissions"] * 2
    assert [(vars(record)["file"], vars(record)["error"]) for record in caplog.records] == [
        (file, "Operation not permitted") for file in files
    ]


def test_state_with_several_names_is_refused(filled, tmp_path):
    """It is refused under each name, because a process under one name would not find lock and log of the other."""
    other = tmp_path / "other.db"
    with opened(filled) as (store, _):
        os.link(filled, other)
        assert refusal(other) == (
            f"cannot use the state {other}: the file has 2 names (hard links), and its lock and log belong to one: "
            "remove the others, or copy the file instead"
        )
        save(store, pipelines={BUILD: b"more"})
    assert "the file has 2 names" in refusal(filled)
    other.unlink()
    assert held(filled)[0][BUILD] == Row(b"more")


# Failing saves


@contextlib.contextmanager
def largest_file(limit: int) -> Iterator[None]:
    """Let writes of this process beyond a file size fail."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def failure(store: SqliteStore, **changes: Any) -> str:
    """Return why changes could not be saved."""
    with pytest.raises(SaveError) as error:
        save(store, **changes)
    return str(error.value)


def test_full_disk_fails_only_the_save(filled):
    with opened(filled) as (store, _):
        sql(store, "PRAGMA max_page_count = 20")
        for _ in range(3):
            message = failure(store, pipelines={BUILD: b"more", **pipelines(100, 2000)})
            assert message == f"the state {filled} cannot be written: database or disk is full"
        save(store, projects={PAYMENTS: b"small"})
        sql(store, "PRAGMA max_page_count = 1000000")
        save(store, pipelines=pipelines(100, 2000))
    kept, projects = held(filled)
    assert kept == {BUILD: Row(b"one"), DEPLOY: Row(b"two")} | {
        key: Row(data) for key, data in pipelines(100, 2000).items()
    }
    assert projects == {PAYMENTS: b"small"}


def test_disk_error_fails_only_the_save(filled):
    wal = Path(f"{filled}-wal")
    with opened(filled) as (store, _):
        save(store, projects={PAYMENTS: b"more"})
        for room in (0, 10_000, 100_001):
            with largest_file(wal.stat().st_size + room):
                message = failure(store, pipelines={BUILD: b"more", **pipelines(100, 2000)})
            assert message == f"the state {filled} cannot be written: disk I/O error"
        save(store, pipelines={DEPLOY: b"more"})
        save(store, pipelines=pipelines(100, 2000))
    kept, projects = held(filled)
    assert len(kept) == 102
    assert (kept[BUILD], kept[DEPLOY], projects) == (Row(b"one"), Row(b"more"), {PAYMENTS: b"more"})


def test_log_that_cannot_be_emptied_is_reported_once_and_fails_no_save(path, monkeypatch, caplog):
    monkeypatch.setattr(sqlite, "WAL_LIMIT", 0)
    wal = Path(f"{path}-wal")
    with opened(path) as (store, _):
        save(store, pipelines=pipelines(400, 2000))
        for _ in range(2):
            with largest_file(path.stat().st_size):
                save(store, pipelines={PipelineKey(KEY, "1"): bytes(20_000)})
                save(store, pipelines={PipelineKey(KEY, "2"): bytes(20_000)})
            assert wal.stat().st_size > 40_000
            save(store, pipelines={BUILD: b"more"})
            assert wal.stat().st_size == 0
            save(store, delete=[PipelineKey(KEY, "1"), PipelineKey(KEY, "2")])
            sql(store, "VACUUM")
            save(store, pipelines={BUILD: b"again"})
    assert [(record.name, record.levelname, record.getMessage()) for record in caplog.records] == [
        ("exporter.state.sqlite", "WARNING", "cannot empty the write-ahead log of the state")
    ] * 2
    assert {(vars(record)["file"], vars(record)["error"]) for record in caplog.records} == {
        (str(wal), "disk I/O error")
    }
    assert held(path)[0][BUILD] == Row(b"again")


def test_state_locked_by_another_program_can_be_written_later(filled, monkeypatch):
    monkeypatch.setattr(recovery, "PATIENCE", 0.0)
    with opened(filled) as (store, _):
        with contextlib.closing(sqlite3.connect(filled, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            message = failure(store, pipelines={BUILD: b"more"})
            assert message == f"the state {filled} cannot be written: database is locked"
        save(store, pipelines={DEPLOY: b"more"})
    assert held(filled)[0] == {BUILD: Row(b"one"), DEPLOY: Row(b"more")}


def test_reader_does_not_disturb_saves(filled, monkeypatch, caplog):
    monkeypatch.setattr(recovery, "PATIENCE", 0.0)
    with opened(filled) as (store, _):
        with contextlib.closing(sqlite3.connect(filled, isolation_level=None)) as other:
            other.execute("BEGIN")
            assert other.execute("SELECT count(*) FROM pipeline").fetchall() == [(2,)]
            save(store, pipelines=pipelines(500, 2000))
            save(store, pipelines={BUILD: b"more"})
            assert other.execute("SELECT count(*) FROM pipeline").fetchall() == [(2,)]
        save(store, pipelines={DEPLOY: b"more"})
        assert Path(f"{filled}-wal").stat().st_size <= sqlite.WAL_LIMIT
    assert len(held(filled)[0]) == 502
    assert not caplog.records


def test_deleted_file_is_not_written_until_it_is_back(filled, tmp_path):
    """Rows saved into a deleted file would be lost with the process."""
    moved = tmp_path / "moved.db"
    with opened(filled) as (store, _):
        filled.rename(moved)
        for _ in range(2):
            message = failure(store, pipelines={BUILD: b"more"})
            assert (
                message == f"the state {filled} was deleted or replaced while in use: put it back, or restart"
            )
            shutil.copy(moved, filled)
        moved.rename(filled)
        save(store, pipelines={DEPLOY: b"more"})
    assert held(filled)[0] == {BUILD: Row(b"one"), DEPLOY: Row(b"more")}


# Event loop


@contextlib.asynccontextmanager
async def blocked(path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Yield a store whose saves wait until the block ends."""
    monkeypatch.setattr(recovery, "PATIENCE", 60.0)
    store, _ = open_store(path, NOON)
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        yield store


async def begun(task: "asyncio.Task[None]") -> None:
    """Wait until a task has started, and check that it does not end."""
    done, _ = await asyncio.wait({task}, timeout=0.05)
    assert not done


def test_event_loop_continues_during_a_save(filled, monkeypatch):

    async def main():
        async with blocked(filled, monkeypatch) as store:
            saving = asyncio.create_task(store.save(Changes(pipelines={BUILD: b"more"})))
            await begun(saving)
        await saving
        await store.close()

    asyncio.run(main())
    assert held(filled)[0][BUILD] == Row(b"more")


def test_closing_waits_for_a_running_save(filled, monkeypatch):

    async def main():
        async with blocked(filled, monkeypatch) as store:
            saves = [
                asyncio.create_task(store.save(Changes(pipelines={one: b"more"}))) for one in (BUILD, DEPLOY)
            ]
            closing = asyncio.create_task(store.close())
            await begun(closing)
            closing.cancel()
            again = asyncio.create_task(store.close())
            await begun(again)
        await again
        assert closing.cancelled()
        await asyncio.gather(*saves)
        await store.close()

    asyncio.run(main())
    assert held(filled)[0] == {BUILD: Row(b"more"), DEPLOY: Row(b"more")}


def test_cancelled_save_is_written_completely_or_not_at_all(filled, monkeypatch):

    async def main():
        async with blocked(filled, monkeypatch) as store:
            first = asyncio.create_task(store.save(Changes(pipelines={BUILD: b"more"}, left={BUILD: NOON})))
            await begun(first)
            second = asyncio.create_task(
                store.save(Changes(pipelines={DEPLOY: b"more"}, left={DEPLOY: NOON}))
            )
            await begun(second)
            first.cancel()
            second.cancel()
            await asyncio.wait({first, second})
            assert first.cancelled()
            assert second.cancelled()
        await store.close()

    asyncio.run(main())
    assert held(filled)[0] == {BUILD: Row(b"more", NOON), DEPLOY: Row(b"two")}


def test_save_that_is_not_finished_in_time_fails_and_may_be_written_later(filled, monkeypatch):
    """No other save starts until it has ended."""
    monkeypatch.setattr(sqlite, "SAVE_TIMEOUT", 0.05)

    async def main():
        async with blocked(filled, monkeypatch) as store:
            with pytest.raises(SaveTimeoutError, match="not finished within 0 s, the disk may hang"):
                await store.save(Changes(pipelines={BUILD: b"late"}))
            for _ in range(3):
                with pytest.raises(SaveError, match="the disk may hang") as error:
                    await store.save(Changes(pipelines={DEPLOY: b"never"}))
                assert not isinstance(error.value, SaveTimeoutError)
        monkeypatch.setattr(sqlite, "SAVE_TIMEOUT", 30.0)
        await asyncio.wait_for(asyncio.to_thread(store._unfinished.result), 30)
        await store.save(Changes(projects={PAYMENTS: b"more"}))
        await store.close()

    asyncio.run(main())
    assert held(filled) == ({BUILD: Row(b"late"), DEPLOY: Row(b"two")}, {PAYMENTS: b"more"})


def test_closing_does_not_wait_for_a_hanging_save(filled, monkeypatch, caplog):
    monkeypatch.setattr(sqlite, "CLOSE_TIMEOUT", 0.05)

    async def main():
        async with blocked(filled, monkeypatch) as store:
            saving = asyncio.create_task(store.save(Changes(pipelines={BUILD: b"more"})))
            await begun(saving)
            await store.close()
            assert not saving.done()
        await saving
        await asyncio.to_thread(store._closing.result)

    asyncio.run(main())
    assert caplog.messages == ["state not closed in time, ending without waiting"]
    assert held(filled)[0][BUILD] == Row(b"more")


def test_state_that_is_not_opened_in_time_is_refused(filled, monkeypatch):
    release = threading.Event()
    load = sqlite.read_all

    def hanging(connection: sqlite3.Connection) -> StoredState:
        release.wait()
        return load(connection)

    with monkeypatch.context() as patch:
        patch.setattr(recovery, "read_all", hanging)
        patch.setattr(recovery, "OPEN_TIMEOUT", 0.05)
        message = refusal(filled)
        release.set()
    assert message == f"cannot use the state {filled}: not opened within 0 s, the disk may hang"


def test_concurrent_saves_are_made_one_after_the_other(path):

    async def main():
        store, _ = open_store(path, NOON)
        async with asyncio.TaskGroup() as group:
            for number in range(50):
                changes = Changes(pipelines={BUILD: b"%d" % number, PipelineKey(KEY, f"{number}"): b""})
                group.create_task(store.save(changes))
        await store.close()

    asyncio.run(main())
    kept = held(path)[0]
    assert len(kept) == 51
    assert kept[BUILD] == Row(b"49")


# Kills and crashes


WRITER = """
import asyncio, sys
from pathlib import Path
from exporter.state import sqlite
from exporter.state.recovery import open_store
from exporter.state.sqlite import Changes, Key, PipelineKey, ProjectKey

sqlite.WAL_LIMIT = 100_000
keys = [PipelineKey(Key("codearts", f"https://{n % 3}", "x"), f"{n}") for n in range(20)]

async def main():
    print("ready", flush=True)
    opened, stored = open_store(Path(sys.argv[1]), 0.0)
    count = max((int(row.data) for row in stored.pipelines.values()), default=0)
    while True:
        count += 1
        data = (b"%d" % count).ljust(1000 + count % 7 * 300)
        left = {key: float(count) for key in keys}
        projects = {ProjectKey(key.key, "payments"): data for key in keys}
        await opened.save(Changes(pipelines=dict.fromkeys(keys, data), left=left, projects=projects))
        print(count, flush=True)

asyncio.run(main())
"""


def test_killed_process_leaves_complete_saves_only(tmp_path, caplog):
    """The last reported save is there, at most one more, and all rows are of one save."""
    dice = random.Random()
    total = 0
    for life in range(16):
        # Half of them start with a new file and are killed while they create it. The others continue with one.
        path = tmp_path / ("old.db" if life % 2 else f"{life}.db")
        delay = dice.uniform(0, 0.3 if life % 2 else 0.05)
        before = {int(row.data) for row in held(path)[0].values()} if path.exists() else set()
        with python(WRITER, path) as writer:
            assert writer.stdout is not None
            assert writer.stdout.readline() == b"ready\n"
            with pytest.raises(subprocess.TimeoutExpired):
                writer.communicate(timeout=delay)
            writer.kill()
            output, _ = writer.communicate()
        reported = max([*before, *map(int, output.split())], default=0)
        kept, projects = held(path)
        counts = {int(data) for data in projects.values()} | {int(row.data) for row in kept.values()}
        assert counts | {row.left for row in kept.values()} <= {reported, reported + 1}, delay
        assert len(counts) == (1 if kept else 0), delay
        assert len(kept) in ({20} if reported else {0, 20})
        total += reported
    assert total
    assert not caplog.records
    assert not [*tmp_path.glob("*.corrupt*")]


KEYS = st.builds(
    PipelineKey,
    st.builds(Key, st.just("codearts"), st.sampled_from(["https://a", "https://b"]), st.just("x")),
    st.sampled_from("abcdef"),
)
PROJECTS = st.builds(
    ProjectKey,
    st.builds(Key, st.just("codearts"), st.sampled_from(["https://a", "https://c"]), st.just("x")),
    st.sampled_from("pq"),
)
DATA = st.binary(max_size=20) | st.integers(0, 12_000).map(bytes)
CHANGES = st.builds(
    Changes,
    delete=st.lists(KEYS, max_size=3),
    pipelines=st.dictionaries(KEYS, DATA, max_size=5),
    left=st.dictionaries(KEYS, st.none() | st.floats(0, 4e9), max_size=3),
    projects=st.dictionaries(PROJECTS, DATA, max_size=2),
)


class Kept(RuleBasedStateMachine):
    """A store that saves, closes, and is copied during its work, as a crash would leave it."""

    def __init__(self) -> None:
        super().__init__()
        self.directory = tempfile.TemporaryDirectory()
        self.lives = 0
        self.model = StoredState(pipelines={}, projects={})
        self.history = [self.model]
        self.store, stored = open_store(self.path, NOON)
        assert stored == self.model

    @property
    def path(self) -> Path:
        """Path of the present copy."""
        return Path(self.directory.name) / f"{self.lives}.db"

    def teardown(self) -> None:
        asyncio.run(self.store.close())
        self.directory.cleanup()

    @rule(changes=CHANGES)
    def save(self, changes: Changes) -> None:
        asyncio.run(self.store.save(changes))
        kept = {key: row for key, row in self.model.pipelines.items() if key not in set(changes.delete)}
        for key, data in changes.pipelines.items():
            kept[key] = Row(data, kept[key].left if key in kept else None)
        for key, left in changes.left.items():
            if key in kept:
                kept[key] = Row(kept[key].data, left)
        self.model = StoredState(pipelines=kept, projects={**self.model.projects, **changes.projects})
        self.history.append(self.model)

    @rule()
    def restart(self) -> None:
        asyncio.run(self.store.close())
        assert sorted(Path(self.directory.name).glob(f"{self.lives}.db*")) == [
            self.path,
            Path(f"{self.path}.lock"),
        ]
        self.store, stored = open_store(self.path, NOON)
        assert stored == self.model

    @rule(changes=CHANGES)
    def crash(self, changes: Changes) -> None:
        """Crash during a save, with a part of it in the log."""
        connection = self.store._database._connection

        def half() -> None:
            connection.execute("PRAGMA cache_size = 1")
            connection.execute("BEGIN IMMEDIATE")
            sqlite.apply_changes(connection, changes)
            self.copy()
            connection.execute("ROLLBACK")

        self.store._worker.submit(half).result()
        assert self.reborn() == self.model

    @rule(place=st.floats(0, 1, exclude_max=True), cut=st.booleans())
    def damage(self, place: float, cut: bool) -> None:
        """Lose the end of the log, or damage a byte of it: an earlier save is left."""
        self.copy()
        wal = Path(f"{self.path.with_name(f'{self.lives + 1}.db')}-wal")
        content = bytearray(wal.read_bytes())
        at = int(place * len(content))
        if cut:
            del content[at:]
        elif content:
            content[at] ^= 0x55
        wal.write_bytes(content)
        self.model = self.reborn()
        assert self.model in self.history

    def copy(self) -> None:
        for end in ("", "-wal"):
            shutil.copy(f"{self.path}{end}", f"{self.path.with_name(f'{self.lives + 1}.db')}{end}")

    def reborn(self) -> StoredState:
        asyncio.run(self.store.close())
        self.lives += 1
        self.store, stored = open_store(self.path, NOON)
        return stored


@pytest.mark.parametrize("limit", [30_000, sqlite.WAL_LIMIT])
def test_stored_rows_are_the_saved_ones_after_restarts_and_crashes(limit, monkeypatch):
    """A log that lost its end falls back to an earlier save."""
    monkeypatch.setattr(sqlite, "WAL_LIMIT", limit)
    run_state_machine_as_test(Kept, settings=settings(examples(15), stateful_step_count=25))
