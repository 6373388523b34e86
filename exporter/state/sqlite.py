"""Write the state, which is bytes by key, to one SQLite file.

A save is one transaction that is on the disk when the call returns, so that a kill or a power cut leaves all of it or
nothing. SQLite blocks, and a disk may hang. So a separate thread does the work, and callers wait with a time limit. The
thread does not keep the process from ending. `recovery.py` opens the file.
"""

import asyncio
import itertools
import logging
import os
import sqlite3
from collections.abc import Collection, Iterable, Mapping
from concurrent.futures import Future
from pathlib import Path
from typing import NamedTuple

import msgspec

from exporter.state.worker import Worker

WAL_LIMIT = 512 * 1024
"""Size of the write-ahead log in bytes, above which a save moves it into the database."""

SAVE_TIMEOUT = 10.0
"""Seconds to wait for a save."""

CLOSE_TIMEOUT = 4.0
"""Seconds to wait for a running save when the process ends, which must take no more than ten seconds after SIGTERM."""

APPLICATION = 0x43495045
"""SQLite's `application_id` of a state file: "CIPE" in ASCII."""

# Version n of the schema is what the first n scripts make. A released script is never changed; new ones follow it.
#
# Rows of about 2 KB are in tables with rowids: WITHOUT ROWID moves everything above a quarter of a page to pages of its
# own, which doubles the file. With pages of 4 KiB, the default of SQLite and of file systems, 10,000 pipelines take
# 2.4 KB each. Larger pages save a few bytes, and write several times as much at each save. Types are checked since
# SQLite's own search for damage relies on them.
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

_log = logging.getLogger("exporter.state.sqlite")


class Key(NamedTuple):
    """Key of a project by the vendor's ids, so that a project renamed in the configuration keeps its pipelines' state."""

    provider: str
    endpoint: str
    scope: str
    """The vendor's id of the project."""


class PipelineKey(NamedTuple):
    """Key of a pipeline."""

    key: Key
    pipeline: str
    """The vendor's id of the pipeline."""


class ProjectKey(NamedTuple):
    """Key of a project by its configured name, since several may share a vendor's project."""

    key: Key
    project: str
    """Its configured name."""


class Row(NamedTuple):
    """A stored pipeline."""

    data: bytes
    left: float | None = None
    """When it was retired, in Unix seconds; None while it is tracked."""


class StoredState(msgspec.Struct, frozen=True, kw_only=True):
    """Content of the state file."""

    pipelines: dict[PipelineKey, Row]
    projects: dict[ProjectKey, bytes]


class Changes(msgspec.Struct, frozen=True, kw_only=True):
    """Changes to save in one transaction, in the order of the fields. They must not be modified until they are saved."""

    delete: Collection[PipelineKey] = ()
    """Pipelines to forget; those that are not stored are ignored."""
    pipelines: Mapping[PipelineKey, bytes] = {}
    """New data of pipelines. Their times of retirement do not change."""
    left: Mapping[PipelineKey, float | None] = {}
    """Times of retirement (Unix seconds), or None for pipelines that are tracked again. Only stored pipelines change."""
    projects: Mapping[ProjectKey, bytes] = {}
    """New data of projects."""

    def __bool__(self) -> bool:
        return bool(self.delete or self.pipelines or self.left or self.projects)


class StateError(Exception):
    """The state cannot be used; the message says why, and what to do."""


class SaveError(Exception):
    """Nothing was written. The next save may succeed."""


class SaveTimeoutError(SaveError):
    """A save did not finish in time. It may still be written later; no other save can start until it has ended."""


class SqliteStore:
    """The state file, locked for this process until it is closed."""

    def __init__(self, lock: int, worker: Worker, database: "Database") -> None:
        """`lock` is the descriptor of the lock file. Only the worker uses the database."""
        self._lock = lock
        self._worker = worker
        self._database = database
        self._unfinished: Future[None] | None = None
        """The last save that did not finish in time."""
        self._closing: Future[None] | None = None

    async def save(self, changes: Changes) -> None:
        """Return when all changes are on the disk. Without changes, return at once.

        If the call is cancelled, either all changes are written or none: `close` waits for a save that has begun.

        Raises:
            SaveTimeoutError: not written in time; either all changes are written later, or none.
            SaveError: nothing was written.

        """
        if not changes:
            return
        message = f"the state {self._database.path} cannot be written: not finished within {SAVE_TIMEOUT:.0f} s, the disk may hang"
        if self._unfinished is not None and not self._unfinished.done():
            raise SaveError(message)
        saving = self._worker.submit(lambda: self._database.write(changes))
        try:
            await asyncio.wait_for(asyncio.wrap_future(saving), SAVE_TIMEOUT)
        except TimeoutError:
            self._unfinished = saving
            raise SaveTimeoutError(message) from None

    async def close(self) -> None:
        """Wait for a running save, then close the file. May be called again, or be cancelled.

        A save that does not finish in time may be cut off by the end of the process. As after a kill, all of it is in the
        file, or nothing.
        """
        if self._closing is None:
            self._closing = self._worker.submit(self._close)
            self._worker.stop()
        # `wait` does not cancel the future: if this call is cancelled, the worker must still close the file.
        _, unfinished = await asyncio.wait({asyncio.wrap_future(self._closing)}, timeout=CLOSE_TIMEOUT)
        if unfinished:
            _log.warning(
                "state not closed in time, ending without waiting",
                extra={"id": "state-not-closed", "seconds": CLOSE_TIMEOUT},
            )

    def _close(self) -> None:
        try:
            self._database.close()
        finally:
            os.close(self._lock)


class Database:
    """An open database, used by one thread."""

    def __init__(self, connection: sqlite3.Connection, path: Path) -> None:
        self._connection = connection
        self.path = path
        self._wal = Path(f"{path}-wal")
        self._file = _identity(path)
        self._wal_stuck = False

    def write(self, changes: Changes) -> None:
        """Write all changes, or raise SaveError and write nothing.

        The connection stays open after an error: SQLite continues once the disk has space again. If another file is at the
        path, the connection is not opened again: only changes are written, so that file would lack all other rows.
        """
        try:
            if _identity(self.path) != self._file:
                raise SaveError(
                    f"the state {self.path} was deleted or replaced while in use: put it back, or restart"
                )
            with self._connection:
                self._connection.execute("BEGIN IMMEDIATE")
                apply_changes(self._connection, changes)
        except sqlite3.Error as error:
            raise SaveError(f"the state {self.path} cannot be written: {error}") from None
        self._empty_wal()

    def _empty_wal(self) -> None:
        """Move the write-ahead log into the database once it is large.

        SQLite would do so by itself, but would not shrink the log. After the first save of many pipelines, the log is as
        large as the database.
        """
        try:
            if self._wal.stat().st_size > WAL_LIMIT:
                self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
            self._wal_stuck = False
        except (sqlite3.Error, OSError) as error:
            # The changes are on the disk. The next save tries again.
            if not self._wal_stuck:
                _log.warning(
                    "cannot empty the write-ahead log of the state",
                    extra={"id": "state-log-grows", "file": str(self._wal), "error": str(error)},
                )
            self._wal_stuck = True

    def close(self) -> None:
        """Close the file. SQLite moves the write-ahead log into it."""
        self._connection.close()


def _identity(path: Path) -> tuple[int, int] | None:
    """Return the device and inode of the file at a path; None if it cannot be read."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino


def apply_changes(connection: sqlite3.Connection, changes: Changes) -> None:
    """Write changes within the current transaction."""
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


def read_all(connection: sqlite3.Connection) -> StoredState:
    """Return the content of the database."""
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
