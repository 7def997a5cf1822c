"""A store on one SQLite file.

One writer lock a file (with `busy_timeout` alone and 12 threads waits reached 3 s, with the lock 0.18 s); a connection
never leaves its thread; nothing here opens, copies or hashes a database file by its path, which would drop SQLite's locks.
"""

from __future__ import annotations

import os
import sqlite3
import sys
import threading
from collections.abc import Callable, Generator, Iterable, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NoReturn

import sqlalchemy
from sqlalchemy import MetaData
from sqlalchemy.exc import DBAPIError

from jietong import migrations
from jietong.errors import InvalidEventError, RetriableError, UsageError
from jietong.store import Bell, Parameters, Row

FORMAT = 2
"""Of a data folder. Another one is refused, never guessed at."""
WAL_LIMIT = 64 * 1024 * 1024
AWAY = frozenset({
    sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CANTOPEN,
    sqlite3.SQLITE_READONLY, sqlite3.SQLITE_PROTOCOL, sqlite3.SQLITE_NOMEM, sqlite3.SQLITE_PERM,
})  # fmt: skip
NETWORK = ("nfs", "cifs", "smb", "fuse", "9p", "ceph", "gluster")


def died_committing(error: BaseException) -> NoReturn:
    """An error from COMMIT is *unknown* (after EIO the row was there on restart): end, never report failure."""
    sys.stderr.write(
        f"jietong: the disk failed during a commit ({error}); ending, so that nothing is reported wrongly\n"
    )
    sys.stderr.flush()
    os._exit(os.EX_IOERR)


class ThreadBell:
    """A bell within one process."""

    def __init__(self) -> None:
        self._event = threading.Event()

    def ring(self) -> None:
        self._event.set()

    def wait(self, seconds: float) -> bool:
        rang = self._event.wait(seconds)
        self._event.clear()
        return rang


class SqliteRows(sqlite3.Cursor):
    def one(self) -> Row | None:
        return self.fetchone()

    def all(self) -> list[Row]:
        return self.fetchall()


class SqliteTransaction:
    """See `jietong.store.Transaction`."""

    __slots__ = ("_db", "bells")

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db
        self.bells: list[Bell] = []

    def execute(self, sql: str, parameters: Parameters = {}) -> SqliteRows:  # noqa: B006 — never changed
        try:
            return self._db.cursor(SqliteRows).execute(sql, parameters)
        except (sqlite3.Error, OverflowError) as error:
            raise _translated(error) from error

    def execute_many(self, sql: str, parameters: Sequence[Parameters]) -> int:
        try:
            return self._db.cursor(SqliteRows).executemany(sql, parameters).rowcount
        except (sqlite3.Error, OverflowError) as error:
            raise _translated(error) from error

    def lock(self, names: Iterable[str]) -> None:
        """Its writers are one at a time already."""

    def after_commit(self, ring: Bell) -> None:
        if ring not in self.bells:
            self.bells.append(ring)


class Connection:
    """One thread's. Closing one while its thread was inside SQLite ended the process with a segmentation fault, so
    whoever closes it waits."""

    __slots__ = ("_db", "_used")

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db, self._used = db, threading.RLock()

    def __enter__(self) -> sqlite3.Connection:
        self._used.acquire()
        return self._db

    def __exit__(self, *_: object) -> None:
        self._used.release()

    def close(self) -> None:
        with self._used:
            self._db.close()


class SqliteStore:
    """See `jietong.store.Store`. `limit_pages` caps the file's size, as a full disk would."""

    def __init__(self, path: Path, *tables: MetaData, name: str | None = None, read_only: bool = False) -> None:
        self.path, self.name, self.bell = path, name or path.stem, ThreadBell()
        self.commits = 0
        self.limit_pages: int | None = None
        self.ended: Callable[[BaseException], NoReturn] = died_committing
        self._read_only = read_only
        self._lock = threading.Lock()
        self._local = threading.local()
        self._opened: list[Connection] = []
        self._prepare(tables)

    @contextmanager
    def transaction(self) -> Generator[SqliteTransaction]:
        with self._lock, self._connection() as db:
            tx = SqliteTransaction(db)
            tx.execute("BEGIN IMMEDIATE")
            try:
                yield tx
            except BaseException:
                with suppress(sqlite3.Error):
                    db.execute("ROLLBACK")
                raise
            self._commit(db)
            self.commits += 1
        for bell in tx.bells:
            bell.ring()

    @contextmanager
    def snapshot(self) -> Generator[SqliteTransaction]:
        with self._connection() as db:
            tx = SqliteTransaction(db)
            tx.execute("BEGIN")
            try:
                yield tx
            finally:
                with suppress(sqlite3.Error):
                    db.execute("ROLLBACK")

    def backup(self, target: Path) -> None:
        """A consistent copy, taken while others write. The target appears whole or not at all."""
        part = target.with_name(target.name + ".part")
        copy = sqlite3.connect(part)
        try:
            with self._connection() as db:
                db.backup(copy)
        finally:
            copy.close()
        part.replace(target)

    def checkpoint(self) -> None:
        """Keep the write-ahead log under its limit: overlapping readers starve the checkpoints SQLite makes by itself."""
        wal = self.path.with_name(self.path.name + "-wal")
        if wal.exists() and wal.stat().st_size > WAL_LIMIT:
            with self._lock, self._connection() as db:
                db.execute("PRAGMA wal_checkpoint(TRUNCATE)")

    def close(self) -> None:
        """Waits for whoever is reading or writing."""
        opened, self._opened, self._local = self._opened, [], threading.local()
        for connection in opened:
            connection.close()

    def _connection(self) -> Connection:
        found: Connection | None = getattr(self._local, "connection", None)
        if found is None:
            found = self._local.connection = Connection(self._connect())
            self._opened.append(found)
        return found

    def _connect(self) -> sqlite3.Connection:
        db = connected(self.path, self._read_only)
        if self.limit_pages:
            db.execute(f"PRAGMA max_page_count = {self.limit_pages}")
        return db

    def _commit(self, db: sqlite3.Connection) -> None:
        try:
            db.execute("COMMIT")
        except sqlite3.Error as error:
            if _code(error) == sqlite3.SQLITE_FULL:  # no commit record reached the file: surely not committed
                with suppress(sqlite3.Error):
                    db.execute("ROLLBACK")
                raise RetriableError(f"{self.path.name}: no space left: nothing was committed") from error
            self.ended(error)

    def _prepare(self, tables: Sequence[MetaData]) -> None:
        with changing(self.path, self._read_only) as connection:
            if not self._read_only:
                migrations.create(connection, tables)
            migrations.verify(connection, migrations.branches(*tables))


def connected(path: Path, read_only: bool = False) -> sqlite3.Connection:
    """Raises UsageError if there is no database, or what is there is none."""
    try:
        uri = f"{path.absolute().as_uri()}{'?mode=ro' if read_only else ''}"
        db = sqlite3.connect(uri, uri=True, isolation_level=None, timeout=5, check_same_thread=False)
        db.execute("PRAGMA schema_version")  # reads the file: one that is no database is found out here
        if not read_only:
            db.execute("PRAGMA journal_mode = WAL")
            db.execute("PRAGMA synchronous = FULL")
    except sqlite3.DatabaseError as error:
        raise UsageError(f"{path}: cannot be opened as a database: {error}") from error
    return db


@contextmanager
def changing(path: Path, read_only: bool = False) -> Generator[sqlalchemy.Connection]:
    """One transaction on the file, for its tables. Raises UsageError if the file is of another format."""
    try:
        with migrations.in_file(lambda: connected(path, read_only), read_only) as connection:
            found = int(connection.exec_driver_sql("PRAGMA user_version").scalar_one())
            if found > FORMAT:
                raise UsageError(
                    f"{path}: written by a newer Jietong (format {found}, this one knows {FORMAT}); upgrade it"
                )
            if 0 < found < FORMAT:
                raise UsageError(
                    f"{path}: written by an older Jietong (format {found}, this one has {FORMAT}); run that one, or begin a new folder"
                )
            yield connection
            if not read_only and not found:
                connection.exec_driver_sql(f"PRAGMA user_version = {FORMAT}")
    except DBAPIError as error:
        raise _translated(error.orig if isinstance(error.orig, sqlite3.Error) else error) from error


def refuse_network_mount(folder: Path) -> None:
    """SQLite's locks and write-ahead log do not work there. Raises UsageError naming the mount."""
    where = folder.absolute()
    try:
        mounts = [line.split()[1:3] for line in Path("/proc/mounts").read_text("utf-8").splitlines()]
    except OSError:
        return
    on = [(point, kind) for point, kind in mounts if where.is_relative_to(point.replace("\\040", " "))]
    point, kind = max(on, key=lambda mount: len(mount[0]), default=("", ""))
    if kind.startswith(NETWORK):
        raise UsageError(
            f"{folder}: lies on a {kind} mount ({point}), where SQLite's locks cannot be trusted; use a local disk"
        )


def _code(error: BaseException) -> int:
    return getattr(error, "sqlite_errorcode", 0) & 0xFF


def _translated(error: Exception) -> Exception:
    if isinstance(error, OverflowError | sqlite3.IntegrityError | sqlite3.DataError):
        return InvalidEventError(f"the database refuses a value ({type(error).__name__})")
    if _code(error) in (sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CORRUPT):
        return UsageError(f"not a database, or a damaged one: {error}; restore a backup")
    if isinstance(error, sqlite3.Error) and _code(error) in AWAY:
        return RetriableError(f"database: {error}")
    return error
