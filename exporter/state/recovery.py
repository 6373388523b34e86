"""Open the state: lock it, check its format version, and replace a file that is damaged or not a state.

A file that is damaged, or belongs to another program, is renamed, and a new one is started: an exporter without its history
is better than no exporter. If a file cannot be written or locked at all, opening fails, since the operator must decide. A
state of a newer release is neither read nor changed.
"""

import contextlib
import fcntl
import itertools
import logging
import os
import sqlite3
import stat
from datetime import UTC, datetime
from pathlib import Path

from exporter.state.sqlite import (
    APPLICATION,
    MIGRATIONS,
    Changes,
    Database,
    Key,
    PipelineKey,
    ProjectKey,
    SqliteStore,
    StateError,
    StoredState,
    apply_changes,
    read_all,
)
from exporter.state.worker import Worker

OPEN_TIMEOUT = 60.0
"""Seconds to wait for the state to be opened and read."""

PATIENCE = 1.0
"""Seconds to wait for another program's lock on the database, such as `sqlite3` in a shell, or a backup."""

_MODE = 0o600
"""Maximum permissions of the state and the files next to it, which contain branches and commits."""

_LOGS = ("-wal", "-journal")
"""Suffixes of the logs that SQLite keeps next to a database. SQLite rebuilds a missing `-shm`, the index of the log."""

_NOT_THE_CONTENT = {
    sqlite3.SQLITE_PERM,
    sqlite3.SQLITE_BUSY,
    sqlite3.SQLITE_LOCKED,
    sqlite3.SQLITE_READONLY,
    sqlite3.SQLITE_IOERR,
    sqlite3.SQLITE_FULL,
    sqlite3.SQLITE_CANTOPEN,
    sqlite3.SQLITE_PROTOCOL,
    sqlite3.SQLITE_NOLFS,
}
"""SQLite error codes that say nothing about the file's content."""

_NO_KEY = Key("", "", "")
_TRIAL = Changes(
    delete=[PipelineKey(_NO_KEY, "")],
    pipelines={PipelineKey(_NO_KEY, ""): b""},
    left={PipelineKey(_NO_KEY, ""): 0.0},
    projects={ProjectKey(_NO_KEY, ""): b""},
)
"""Changes of every kind, to test whether a database can be written."""

_log = logging.getLogger("exporter.state.recovery")


class _UnusableError(Exception):
    """The file's content cannot be used; the message completes the sentence "the state is …"."""

    def __init__(self, word: str, reason: str) -> None:
        super().__init__(reason)
        self.word = word
        """Part of the file's new name."""


def open_store(path: Path, now: float) -> tuple[SqliteStore, StoredState]:
    """Open the state at a path, and return it with its content. Blocks.

    Creates the file if it is missing or empty. Renames a file that cannot be used; the new name contains the time `now`
    (Unix seconds).

    Raises:
        StateError: another process uses it, its directory is missing, or it cannot be read or written in time.

    """
    worker = Worker("store")
    try:
        lock, database, stored = worker.submit(lambda: _open_locked(path, now)).result(OPEN_TIMEOUT)
    except TimeoutError:
        worker.stop()
        raise StateError(
            f"cannot use the state {path}: not opened within {OPEN_TIMEOUT:.0f} s, the disk may hang"
        ) from None
    except BaseException:
        worker.stop()
        raise
    return SqliteStore(lock, worker, database), stored


def _open_locked(path: Path, now: float) -> tuple[int, Database, StoredState]:
    """Lock and open the state. Return the lock's descriptor, the database, and the database's content."""
    # One name for all symbolic links: the lock and SQLite's logs are next to the file itself.
    path = Path(os.path.realpath(path))
    if path.exists() and not path.is_file():
        raise StateError(f"cannot use the state {path}: it is not a regular file")
    lock = _lock(path)
    try:
        _check_links(path)
        database, stored = _open(path, now)
    except BaseException:
        os.close(lock)
        raise
    return lock, database, stored


def _check_links(path: Path) -> None:
    """Refuse a file with several names (hard links).

    The lock and the logs belong to one name. A process that uses another name finds neither, and damages the file.
    """
    links = path.stat().st_nlink if path.exists() else 1
    if links > 1:
        raise StateError(
            f"cannot use the state {path}: the file has {links} names (hard links), and its lock and log belong to one: "
            "remove the others, or copy the file instead"
        )


def _lock(path: Path) -> int:
    """Lock a file next to `path` until its descriptor is closed or the process ends, and return the descriptor.

    A separate file, because closing any descriptor of the database would release SQLite's locks on it. It is never
    removed: a process that waits for the lock would then lock a file that no other process can open.
    """
    file = path.with_name(f"{path.name}.lock")
    try:
        lock = os.open(file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, _MODE)
    except OSError as error:
        raise StateError(f"cannot keep the state in {path.parent}: {error.strerror}") from None
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(lock)
        raise StateError(
            f"the state {path} is in use by another process: stop it, or give each its own state.path"
        ) from None
    except OSError as error:
        os.close(lock)
        raise StateError(f"cannot lock the state by {file}: {error.strerror}") from None
    _restrict(file)
    return lock


def _restrict(file: Path) -> None:
    """Restrict a file's permissions to its owner. A missing file is ignored."""
    try:
        mode = stat.S_IMODE(file.stat().st_mode)
        if mode & ~_MODE:
            file.chmod(mode & _MODE)
    except FileNotFoundError:
        pass
    except OSError as error:
        # The file has another owner, or the file system has no permissions. It may be writable all the same.
        _log.warning(
            "cannot restrict file permissions",
            extra={"id": "state-permissions", "file": str(file), "error": error.strerror},
        )


def _open(path: Path, now: float, *, renamed: bool = False) -> tuple[Database, StoredState]:
    """Open the database at a path, and return it with its content. If it cannot be used, rename it and start a new one.

    `renamed`: that has been done already, so a file that cannot be used is an error.
    """
    _check_version_untouched(path)
    with contextlib.ExitStack() as undo:
        try:
            _create(path)
            connection = sqlite3.connect(path, timeout=PATIENCE, isolation_level=None)
            undo.callback(connection.close)
            _prepare(connection, path)
            stored = read_all(connection)
            database = Database(connection, path)
        except (sqlite3.Error, UnicodeDecodeError, MemoryError, _UnusableError) as error:
            unusable = _unusable(error, path)
            if unusable is None:
                message = str(error) or "out of memory"
                raise StateError(f"cannot use the state {path}: {message}") from None
            if renamed:
                raise StateError(f"cannot use the state {path}: the new file is {unusable}") from None
            # Before the connection is closed, because closing it deletes a log that does not match the database.
            try:
                new_name = _rename(path, unusable.word, now)
            except OSError as failure:
                raise StateError(
                    f"the state {path} is {unusable}, and cannot be renamed: {failure.strerror}"
                ) from None
            _log.error(
                "state unusable, renamed it and started a new one",
                extra={
                    "id": "state-renamed",
                    "file": str(path),
                    "reason": str(unusable),
                    "detail": f"renamed to {new_name}",
                },
            )
        else:
            undo.pop_all()
            return database, stored
    return _open(path, now, renamed=True)


def _create(path: Path) -> None:
    """Create an empty file with restricted permissions, if it is missing. SQLite gives its logs the same permissions."""
    # SQLite reports other errors better.
    with contextlib.suppress(OSError):
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, _MODE))


def _check_version_untouched(path: Path) -> None:
    """Refuse a newer release's state before it is opened for writing, which would already move its log into it."""
    with (
        contextlib.suppress(sqlite3.Error),
        contextlib.closing(sqlite3.connect(f"{path.as_uri()}?mode=ro&immutable=1", uri=True)) as connection,
    ):
        _check_version(connection, path)


def _check_version(connection: sqlite3.Connection, path: Path) -> None:
    version = _number(connection, "PRAGMA user_version")
    if version > len(MIGRATIONS) and _number(connection, "PRAGMA application_id") == APPLICATION:
        raise StateError(
            f"the state {path} has format version {version}, written by a newer release, and this release supports "
            f"version {len(MIGRATIONS)}: run the newer release, or give another state.path"
        )


def _unusable(error: Exception, path: Path) -> _UnusableError | None:
    """Return why an error makes the file's content unusable; None if the error does not concern the content."""
    if isinstance(error, _UnusableError):
        return error
    # Errors of decoding have no code.
    code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_CORRUPT)
    # SQLite also treats a file as read-only if its header is damaged.
    damaged = code == sqlite3.SQLITE_READONLY and os.access(path, os.W_OK, effective_ids=True)
    if isinstance(error, MemoryError) or (code & 0xFF in _NOT_THE_CONTENT and not damaged):
        return None
    return _UnusableError("corrupt", f"damaged ({_one_line(error)})")


def _one_line(message: object) -> str:
    return " ".join(str(message).split())


def _rename(path: Path, word: str, now: float) -> Path:
    """Rename a database and its logs to an unused name, and return the database's new path."""
    stamp = datetime.fromtimestamp(now, UTC).strftime("%Y-%m-%dT%H%M%SZ")
    first = f"{path}.{word}-{stamp}"
    names = itertools.chain([first], (f"{first}-{number}" for number in itertools.count(2)))
    new = next(name for name in names if not any(os.path.lexists(name + end) for end in ("", *_LOGS)))
    # The database last: SQLite deletes a log without a database.
    for end in _LOGS:
        log = Path(f"{path}{end}")
        if log.exists() and log.stat().st_size:
            log.rename(new + end)
    return path.rename(new)


def _prepare(connection: sqlite3.Connection, path: Path) -> None:
    """Check that a database is a state and intact, migrate it to the newest version, and try to write to it."""
    version = _number(connection, "PRAGMA user_version")
    if not _number(connection, "SELECT count(*) FROM sqlite_master"):
        version = 0
    elif _number(connection, "PRAGMA application_id") != APPLICATION:
        raise _UnusableError("foreign", "another program's database")
    _check_version(connection, path)
    for end in ("", "-shm", *_LOGS):
        _restrict(Path(f"{path}{end}"))
    ((found, *_),) = connection.execute("PRAGMA integrity_check(1)")
    if found != "ok":
        raise _UnusableError("corrupt", f"damaged ({_one_line(found)})")
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("PRAGMA wal_autocheckpoint = 0")
    for script in MIGRATIONS[version:]:
        version += 1
        connection.executescript(f"BEGIN IMMEDIATE; {script}; PRAGMA user_version = {version}; COMMIT")
    # A file that cannot be written must fail now, not at the first save.
    connection.execute("BEGIN IMMEDIATE")
    apply_changes(connection, _TRIAL)
    connection.execute("ROLLBACK")


def _number(connection: sqlite3.Connection, query: str) -> int:
    ((number,),) = connection.execute(query)
    return int(number)
