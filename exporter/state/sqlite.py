"""The ledger on disk: opaque bytes by key in one SQLite file, so that a restart goes on where the last poll ended.

What is saved together is there together, also after a kill or a power cut at any instant: a save is one transaction,
on the disk when it returns. SQLite blocks, so it has a thread of its own. What the bytes mean is not known here.

A disk may hang: calls are waited for with a time limit, and the thread does not keep the process from ending.

A file that is no state of ours, or is damaged, is kept under another name, and a new one is begun: an exporter without
its past is worth more than none. Where files cannot be kept at all, it is worth more to say so. The state of a newer
release is neither read nor touched.
"""

import asyncio
import contextlib
import fcntl
import itertools
import logging
import os
import sqlite3
import stat
from collections.abc import Collection, Iterable, Mapping
from concurrent.futures import Future
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

import msgspec

from exporter.state.worker import Worker

WAL_LIMIT = 512 * 1024
"""Bytes of the write-ahead log beyond which a save empties it into the database."""

PATIENCE = 1.0
"""Seconds to wait for another program's lock on the database: `sqlite3` in a shell, a backup."""

OPEN_TIMEOUT = 60.0
"""Seconds to wait for the state to be opened and read."""

SAVE_TIMEOUT = 10.0
"""Seconds to wait for a save."""

CLOSE_TIMEOUT = 4.0
"""Seconds to wait at the end for what is being written: SIGTERM ends the process within ten in all."""

APPLICATION = 0x43495045
"""What marks a SQLite file as ours: "CIPE", in its header."""

# Version n of the schema is what the first n scripts make; a released script is never changed, only followed.
#
# Rows of some 2 KB stay in a table with rowids: WITHOUT ROWID would move all that is above a quarter of a page to pages
# of its own, which doubles the file. With pages of 4 KiB, SQLite's default and the file systems', 10,000 pipelines take
# 2.4 KB each; larger pages save a few bytes and write several times as much at each save. The types are checked since
# SQLite's own look for damage goes by them.
MIGRATIONS: tuple[str, ...] = (
    f"""
    PRAGMA application_id = {APPLICATION};
    CREATE TABLE scope (
        id INTEGER PRIMARY KEY,
        provider TEXT NOT NULL CHECK (typeof(provider) = 'text'),
        endpoint TEXT NOT NULL CHECK (typeof(endpoint) = 'text'),
        scope TEXT NOT NULL CHECK (typeof(scope) = 'text'),
        UNIQUE (provider, endpoint, scope)
    );
    CREATE TABLE pipeline (
        scope INTEGER NOT NULL REFERENCES scope,
        pipeline TEXT NOT NULL CHECK (typeof(pipeline) = 'text'),
        left_since REAL CHECK (typeof(left_since) IN ('real', 'null')),
        data BLOB NOT NULL CHECK (typeof(data) = 'blob'),
        PRIMARY KEY (scope, pipeline)
    );
    CREATE TABLE project (
        scope INTEGER NOT NULL REFERENCES scope,
        project TEXT NOT NULL CHECK (typeof(project) = 'text'),
        data BLOB NOT NULL CHECK (typeof(data) = 'blob'),
        PRIMARY KEY (scope, project)
    );
    """,
)

_MODE = 0o600
"""Permissions of the state and of what is beside it: branches and commits are in it."""

_LOGS = ("-wal", "-journal")
"""What SQLite keeps of a database beside it. Its `-shm` is an index of the log, which SQLite rebuilds when it is missing."""

_OUTSIDE = {
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
"""Errors that say nothing against what is in the file."""

_log = logging.getLogger("exporter.state.sqlite")


class Key(NamedTuple):
    """Where pipelines live, by the vendor's names: a renamed entry of the configuration keeps its past."""

    provider: str
    endpoint: str
    scope: str
    """The vendor's id of the project."""


class PipelineKey(NamedTuple):
    """A pipeline."""

    key: Key
    pipeline: str
    """The vendor's id of the pipeline."""


class ProjectKey(NamedTuple):
    """An entry of the configuration's projects."""

    key: Key
    project: str
    """Its configured name."""


class Row(NamedTuple):
    """What is kept of a pipeline."""

    data: bytes
    left: float | None = None
    """Since when it is in no configuration, in epoch seconds; None while it is in one."""


class StoredState(msgspec.Struct, frozen=True, kw_only=True):
    """All that is kept."""

    pipelines: dict[PipelineKey, Row]
    projects: dict[ProjectKey, bytes]


class Changes(msgspec.Struct, frozen=True, kw_only=True):
    """What is saved together, in this order; must not change until it is saved."""

    delete: Collection[PipelineKey] = ()
    """Pipelines to forget; one that is not kept is none."""
    pipelines: Mapping[PipelineKey, bytes] = {}
    """Data of pipelines, new or changed. Their `left` stays as it is."""
    left: Mapping[PipelineKey, float | None] = {}
    """Pipelines that left every configuration, since when (epoch seconds), or that are back (None); only kept ones."""
    projects: Mapping[ProjectKey, bytes] = {}
    """Data of projects, new or changed."""

    def __bool__(self) -> bool:
        return bool(self.delete or self.pipelines or self.left or self.projects)


_NOBODY = Key("", "", "")
_TRIAL = Changes(
    delete=[PipelineKey(_NOBODY, "")],
    pipelines={PipelineKey(_NOBODY, ""): b""},
    left={PipelineKey(_NOBODY, ""): 0.0},
    projects={ProjectKey(_NOBODY, ""): b""},
)
"""Changes of every kind."""


class StateError(Exception):
    """The state cannot be used at all; with words."""


class SaveError(Exception):
    """Changes could not be written, and none of them was; the next save may succeed. With words."""


class SaveTimeoutError(SaveError):
    """A save is not finished, and may still be written later; until then no other one can begin."""


class _StrangeError(Exception):
    """The file holds no state that can be used, for a reason that ends the sentence "the state is …"."""

    def __init__(self, word: str, reason: str) -> None:
        super().__init__(reason)
        self.word = word
        """For the name under which the file is kept."""


class SqliteStore:
    """The state in a file, which is this process's alone until it is closed."""

    def __init__(self, lock: int, worker: Worker, database: "_Database") -> None:
        self._lock = lock
        self._worker = worker
        self._database = database
        self._unfinished: Future[None] | None = None
        """The save that was not finished in time."""
        self._closing: Future[None] | None = None

    @classmethod
    def open(cls, path: Path, now: float) -> tuple["SqliteStore", StoredState]:
        """The state at a path, and what it holds; made if there is none, or an empty file. Blocks.

        What is there and cannot be read as a state is kept under a name with the moment `now` (epoch seconds).

        Raises:
            StateError: another process has it, its directory is missing, it cannot be read or written, or not in time.

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
        return cls(lock, worker, database), stored

    async def save(self, changes: Changes) -> None:
        """Return when all changes are on the disk; without any, at once and without touching it.

        Cancelled, it leaves all or none of them written: `close` waits for what has begun.

        Raises:
            SaveTimeoutError: they were not written in time: either all are written later, or none.
            SaveError: none was written.

        """
        if not changes:
            return
        words = f"the state {self._database.path} cannot be written: not finished within {SAVE_TIMEOUT:.0f} s, the disk may hang"
        if self._unfinished is not None and not self._unfinished.done():
            raise SaveError(words)
        saving = self._worker.submit(lambda: self._database.write(changes))
        try:
            await asyncio.wait_for(asyncio.wrap_future(saving), SAVE_TIMEOUT)
        except TimeoutError:
            self._unfinished = saving
            raise SaveTimeoutError(words) from None

    async def close(self) -> None:
        """Wait a while for what is being written, then let go of the file. It may be called again, or cancelled.

        If it is not written by then, the process may end all the same: as after a kill, all of it is in the file or none.
        """
        if self._closing is None:
            self._closing = self._worker.submit(self._close)
            self._worker.stop()
        # Waited for, not awaited: a cancellation of ours must not take the work out of the queue.
        _, open_still = await asyncio.wait({asyncio.wrap_future(self._closing)}, timeout=CLOSE_TIMEOUT)
        if open_still:
            _log.warning("state not closed in time, ending without waiting")

    def _close(self) -> None:
        try:
            self._database.close()
        finally:
            os.close(self._lock)


def _open_locked(path: Path, now: float) -> tuple[int, "_Database", StoredState]:
    """The descriptor of the lock, the database and what it holds."""
    # By one name, whichever symbolic links lead to it: the lock and what SQLite keeps stand beside the file itself.
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

    Lock and log have the name of the database: under another name another process would find neither, and spoil the file.
    """
    links = path.stat().st_nlink if path.exists() else 1
    if links > 1:
        raise StateError(
            f"cannot use the state {path}: the file has {links} names (hard links), and its lock and log belong to one: "
            "remove the others, or copy the file instead"
        )


def _lock(path: Path) -> int:
    """The descriptor of a file beside `path`, locked for this process until it is closed or the process ends.

    A file of its own: SQLite's locks on the database would be lost as soon as anybody closed a descriptor of it. It
    is never removed, since whoever waits to lock it would then lock a file that nobody else sees.
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
    """Take a file's permissions from all but its owner. A file that is missing is left so."""
    try:
        mode = stat.S_IMODE(file.stat().st_mode)
        if mode & ~_MODE:
            file.chmod(mode & _MODE)
    except FileNotFoundError:
        pass
    except OSError as error:
        # Another user's, or of a file system without permissions: it can be used, if it can be written.
        _log.warning("cannot restrict the permissions of %s: %s", file, error.strerror)


def _open(path: Path, now: float, *, anew: bool = False) -> tuple["_Database", StoredState]:
    """The database at a path and what it holds; a new one if the present file is not a state."""
    _check_version_untouched(path)
    with contextlib.ExitStack() as undo:
        try:
            _create(path)
            connection = sqlite3.connect(path, timeout=PATIENCE, isolation_level=None)
            undo.callback(connection.close)
            _adopt(connection, path)
            stored = _load(connection)
            database = _Database(connection, path)
        except (sqlite3.Error, UnicodeDecodeError, MemoryError, _StrangeError) as error:
            unconfirmed_id = _strange(error, path)
            if unconfirmed_id is None:
                words = str(error) or "out of memory"
                raise StateError(f"cannot use the state {path}: {words}") from None
            if anew:
                raise StateError(f"cannot use the state {path}: begun anew, it is {unconfirmed_id}") from None
            # Before the connection is closed: with it SQLite deletes a log that is of no use.
            try:
                aside = _set_aside(path, unconfirmed_id.word, now)
            except OSError as failure:
                raise StateError(
                    f"the state {path} is {unconfirmed_id}, and cannot be renamed to begin anew: {failure.strerror}"
                ) from None
            _log.error(
                "the state %s is %s: kept as %s, and begun anew without it", path, unconfirmed_id, aside
            )
        else:
            undo.pop_all()
            return database, stored
    return _open(path, now, anew=True)


def _create(path: Path) -> None:
    """Make an empty file that its owner alone may read and write, if there is none; SQLite gives its mode to the others."""
    # What is in the way is for SQLite to say.
    with contextlib.suppress(OSError):
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, _MODE))


def _check_version_untouched(path: Path) -> None:
    """Refuse a newer release's state before it is opened for writing: its log would be emptied into it, also to close it."""
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


def _strange(error: Exception, path: Path) -> _StrangeError | None:
    """What an error says against the content of a file; None if it says nothing against it."""
    if isinstance(error, _StrangeError):
        return error
    # What sqlite3 fails to decode has no code.
    code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_CORRUPT)
    # SQLite takes a file for read-only also if a damaged header says so.
    damaged = code == sqlite3.SQLITE_READONLY and os.access(path, os.W_OK, effective_ids=True)
    if isinstance(error, MemoryError) or (code & 0xFF in _OUTSIDE and not damaged):
        return None
    return _StrangeError("corrupt", f"damaged ({_one_line(error)})")


def _one_line(words: object) -> str:
    return " ".join(str(words).split())


def _set_aside(path: Path, word: str, now: float) -> Path:
    """Rename a database and what belongs to it to a name that is free."""
    stamp = datetime.fromtimestamp(now, UTC).strftime("%Y-%m-%dT%H%M%SZ")
    first = f"{path}.{word}-{stamp}"
    names = itertools.chain([first], (f"{first}-{number}" for number in itertools.count(2)))
    aside = next(name for name in names if not any(os.path.lexists(name + end) for end in ("", *_LOGS)))
    # The database last: beside none, SQLite would delete the log of one.
    for end in _LOGS:
        log = Path(f"{path}{end}")
        if log.exists() and log.stat().st_size:
            log.rename(aside + end)
    return path.rename(aside)


def _adopt(connection: sqlite3.Connection, path: Path) -> None:
    """Look whether a database is ours and whole, and bring it to the newest version; nothing else is written to."""
    version = _number(connection, "PRAGMA user_version")
    if not _number(connection, "SELECT count(*) FROM sqlite_master"):
        version = 0
    elif _number(connection, "PRAGMA application_id") != APPLICATION:
        raise _StrangeError("foreign", "another program's database")
    _check_version(connection, path)
    for end in ("", "-shm", *_LOGS):
        _restrict(Path(f"{path}{end}"))
    ((found, *_),) = connection.execute("PRAGMA integrity_check(1)")
    if found != "ok":
        raise _StrangeError("corrupt", f"damaged ({_one_line(found)})")
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("PRAGMA wal_autocheckpoint = 0")
    for script in MIGRATIONS[version:]:
        version += 1
        connection.executescript(f"BEGIN IMMEDIATE; {script}; PRAGMA user_version = {version}; COMMIT")
    # Tells now, not at the first save, whether it can be written.
    connection.execute("BEGIN IMMEDIATE")
    _apply(connection, _TRIAL)
    connection.execute("ROLLBACK")


def _number(connection: sqlite3.Connection, question: str) -> int:
    ((number,),) = connection.execute(question)
    return int(number)


def _load(connection: sqlite3.Connection) -> StoredState:
    pipelines = connection.execute(
        "SELECT scope.provider, scope.endpoint, scope.scope, pipeline, data, left_since"
        " FROM pipeline JOIN scope ON scope.id = pipeline.scope"
    )
    projects = connection.execute(
        "SELECT scope.provider, scope.endpoint, scope.scope, project, data"
        " FROM project JOIN scope ON scope.id = project.scope"
    )
    return StoredState(
        pipelines={
            PipelineKey(Key(provider, endpoint, scope), pipeline): Row(data, left)
            for provider, endpoint, scope, pipeline, data, left in pipelines
        },
        projects={
            ProjectKey(Key(provider, endpoint, scope), project): data
            for provider, endpoint, scope, project, data in projects
        },
    )


class _Database:
    """A connection, used by one thread."""

    def __init__(self, connection: sqlite3.Connection, path: Path) -> None:
        self._connection = connection
        self.path = path
        self._wal = Path(f"{path}-wal")
        self._file = _identity(path)
        self._stuck = False

    def write(self, changes: Changes) -> None:
        """Write all changes, or raise SaveError and none.

        The connection is kept after an error: SQLite goes on with it once there is room again. It is not opened anew
        on a file that is another one now: only what changes is written, so the rest would be missing from it.
        """
        try:
            if _identity(self.path) != self._file:
                raise SaveError(
                    f"the state {self.path} was deleted or replaced while in use: put it back, or restart"
                )
            with self._connection:
                self._connection.execute("BEGIN IMMEDIATE")
                _apply(self._connection, changes)
        except sqlite3.Error as error:
            raise SaveError(f"the state {self.path} cannot be written: {error}") from None
        self._empty_wal()

    def _empty_wal(self) -> None:
        """Move what the write-ahead log holds into the database once it is large.

        SQLite would do so by itself, but leave the log as large as it was, which after the first save of many pipelines
        is as large as the database.
        """
        try:
            if self._wal.stat().st_size > WAL_LIMIT:
                self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
            self._stuck = False
        except (sqlite3.Error, OSError) as error:
            # What was saved is on the disk; this is tried again at the next save.
            if not self._stuck:
                _log.warning("the state's log %s grows, it cannot be emptied: %s", self._wal, error)
            self._stuck = True

    def close(self) -> None:
        """Let go of the file, in which all is then."""
        self._connection.close()


def _identity(path: Path) -> tuple[int, int] | None:
    """Which file is at a path; None if there is none that can be reached."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino


def _apply(connection: sqlite3.Connection, changes: Changes) -> None:
    keys: Iterable[PipelineKey | ProjectKey] = itertools.chain(changes.pipelines, changes.projects)
    connection.executemany(
        "INSERT INTO scope (provider, endpoint, scope) VALUES (?, ?, ?) ON CONFLICT DO NOTHING",
        {one.key for one in keys},
    )
    connection.executemany(
        "DELETE FROM pipeline"
        " WHERE scope = (SELECT id FROM scope WHERE provider = ? AND endpoint = ? AND scope = ?) AND pipeline = ?",
        ((*one.key, one.pipeline) for one in changes.delete),
    )
    connection.executemany(
        "INSERT INTO pipeline (scope, pipeline, data)"
        " VALUES ((SELECT id FROM scope WHERE provider = ? AND endpoint = ? AND scope = ?), ?, ?)"
        " ON CONFLICT (scope, pipeline) DO UPDATE SET data = excluded.data",
        ((*one.key, one.pipeline, data) for one, data in changes.pipelines.items()),
    )
    connection.executemany(
        "UPDATE pipeline SET left_since = ?"
        " WHERE scope = (SELECT id FROM scope WHERE provider = ? AND endpoint = ? AND scope = ?) AND pipeline = ?",
        ((left, *one.key, one.pipeline) for one, left in changes.left.items()),
    )
    connection.executemany(
        "INSERT INTO project (scope, project, data)"
        " VALUES ((SELECT id FROM scope WHERE provider = ? AND endpoint = ? AND scope = ?), ?, ?)"
        " ON CONFLICT (scope, project) DO UPDATE SET data = excluded.data",
        ((*one.key, one.project, data) for one, data in changes.projects.items()),
    )
