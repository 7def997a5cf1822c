"""A store on PostgreSQL 15 or newer: one schema of the city's database, one search path.

Transactions are READ COMMITTED: who changes what a subject's facts say holds the subject (`Transaction.lock`), counters
and positions are rows that are locked by being changed. Many rows are written by one statement over arrays. The bell of
other processes is LISTEN/NOTIFY; the one relay of an outbox holds an advisory lock of a session that is asked each time,
so no pooler that shares sessions may stand between.
"""

from __future__ import annotations

import hashlib
import re
import threading
import time
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import lru_cache
from typing import Any
from uuid import uuid4

import psycopg
from psycopg import sql
from psycopg.abc import Buffer
from psycopg.adapt import Loader
from sqlalchemy import MetaData
from sqlalchemy.dialects import postgresql as dialect
from sqlalchemy.exc import DBAPIError

from jietong import migrations
from jietong.errors import InvalidEventError, JietongError, RetriableError, UsageError
from jietong.store import Bell, Parameters, Row

OLDEST = 15
MOST_CONNECTIONS = 12
"""Of one process, for all its stores together: who wants another waits. As long as there are fewer, none changes its schema: the
server would plan all its prepared statements anew."""
PATIENCE = 30.0
"""Seconds a program that starts waits for a database that does not answer."""
SESSION: Mapping[str, Any] = {
    "connect_timeout": 5, "keepalives_idle": 10, "keepalives_interval": 5, "keepalives_count": 3, "tcp_user_timeout": 20_000,
}  # fmt: skip
LIMITS = "SET lock_timeout = '10s'; SET idle_in_transaction_session_timeout = '60s'; SET synchronous_commit = on; SET TimeZone = 'UTC'"
WRONG = frozenset({"28000", "28P01", "3D000", "42501"})
"""Classes of refusal that a person mends: no such login, password, database; a right that is missing."""
MISSING = frozenset({"42P01", "42703", "3F000"})
SITTING = """SELECT a.pid, l.virtualtransaction, a.usename, a.application_name,
CAST(extract(epoch FROM clock_timestamp() - a.state_change) AS float) FROM pg_locks l JOIN pg_stat_activity a ON a.pid = l.pid
WHERE l.locktype = 'virtualxid' AND l.granted AND l.pid <> pg_backend_pid() AND a.datname = current_database() AND a.usename IS NOT NULL
AND coalesce(a.state, 'idle in transaction') LIKE 'idle in transaction%'"""
"""Every open transaction in which nothing is being done, and for how long. What others do is hidden from a role that is nothing
more: of them, every open one, and no time."""
SITS = 30.0
"""Seconds, from which on a transaction that does nothing is in everyone's way."""
NOTHING_WAITS = 0.2


class PostgresRows:
    """See `jietong.store.Rows`."""

    __slots__ = ("_cursor",)

    def __init__(self, cursor: psycopg.Cursor[Row]) -> None:
        self._cursor = cursor

    @property
    def rowcount(self) -> int:
        return self._cursor.rowcount

    def one(self) -> Row | None:
        return self._cursor.fetchone()

    def all(self) -> list[Row]:
        return self._cursor.fetchall()


class PostgresTransaction:
    """See `jietong.store.Transaction`."""

    __slots__ = ("_connection", "_schema", "_types", "bells")

    def __init__(self, connection: psycopg.Connection[Row], schema: str, types: Mapping[str, str]) -> None:
        self._connection, self._schema, self._types = connection, schema, types
        self.bells: list[Bell] = []

    def execute(self, sql: str, parameters: Parameters = {}) -> PostgresRows:  # noqa: B006 — never changed
        try:
            return PostgresRows(self._connection.execute(translated(sql), parameters or None))
        except psycopg.Error as error:
            raise _meaning(error) from error

    def execute_many(self, sql: str, parameters: Sequence[Parameters]) -> int:
        if len(parameters) < 2:  # arrays of one cost the client more than all the rest
            return self.execute(sql, parameters[0]).rowcount if parameters else 0
        try:
            if (statement := arrayed(sql, self._types)) and statement.fits(parameters):
                columns = {name: [row[name] for row in parameters] for name in statement.names}
                return self._connection.execute(statement.sql, columns).rowcount
            with self._connection.cursor() as cursor:
                cursor.executemany(translated(sql), parameters)
                return cursor.rowcount
        except psycopg.Error as error:
            raise _meaning(error) from error

    def lock(self, names: Iterable[str]) -> None:
        """An advisory lock is the whole database's: its name here is the store's too, or every service would wait for all."""
        if keys := sorted({_key(f"{self._schema} subject {name}") for name in names}):
            self.execute(
                "SELECT pg_advisory_xact_lock(k) FROM unnest(CAST(:keys AS bigint[])) AS k ORDER BY k", {"keys": keys}
            )

    def after_commit(self, ring: Bell) -> None:
        if ring not in self.bells:
            self.bells.append(ring)


class PostgresBell:
    """Rings for every process: those who wait in another one are told by the database."""

    def __init__(self, ring_others: Callable[[PostgresTransaction], None]) -> None:
        self._event = threading.Event()
        self.ring_others = ring_others

    def ring(self) -> None:
        self._event.set()

    def wait(self, seconds: float) -> bool:
        rang = self._event.wait(seconds)
        self._event.clear()
        return rang


class Database:
    """A city's database, as one process sees it: its address, its bells, and the locks this process holds there.

    Raises UsageError, in a line, for an address or a login that is wrong, or a server that is too old.
    """

    def __init__(self, url: str, patience: float = PATIENCE) -> None:
        self.url, self.process = url, uuid4().hex
        self._locks = Locks(lambda: self.connect("locks"))
        self._notices = Notices(self)
        self._free: list[tuple[str, psycopg.Connection[Row]]] = []
        self._open = 0
        self._seen: dict[tuple[int, str], float] = {}
        self._room, self._taking = threading.BoundedSemaphore(MOST_CONNECTIONS), threading.Lock()
        with self._first(patience) as connection:
            version = connection.info.server_version // 10_000
        if version < OLDEST:
            raise UsageError(f"{self.name}: PostgreSQL {version} is too old; Jietong needs {OLDEST} or newer")

    @property
    def name(self) -> str:
        """The address without its password."""
        return re.sub(r"//([^:/@]*)(:[^@]*)?@", r"//\1@", self.url)

    def connect(self, what: str) -> psycopg.Connection[Row]:
        """A session of its own. RetriableError while the database is away."""
        try:
            connection = psycopg.connect(self.url, autocommit=True, application_name=f"jietong {what}", **SESSION)
            connection.adapters.register_loader("numeric", _NumberLoader)
            connection.execute(LIMITS)
        except psycopg.Error as error:
            raise RetriableError(f"database: {_said(error)}") from error
        return connection

    def schemas(self) -> list[str]:
        """The stores that are here, by name."""
        with self.connect("schemas") as connection:
            rows = connection.execute(
                "SELECT nspname FROM pg_namespace WHERE nspname !~ '^(pg_|information_schema|public)' ORDER BY 1"
            )
            return [row[0] for row in rows.fetchall()]

    def listen(self, channel: str, bell: PostgresBell) -> None:
        self._notices.add(channel, bell)

    def hold(self, name: str) -> bool:
        """Whether this process holds the lock of this name, now; taken if it is free. RetriableError while away."""
        return self._locks.hold(name)

    def sitting(self) -> Mapping[str, str]:
        """Sessions of anyone that sit in a transaction: who → what to do. Their locks stop us, and vacuum. To be asked every
        few seconds: for how long is hidden of others, and counted from when it was first seen. RetriableError."""
        with self._locks.asked() as connection:
            rows = connection.execute(SITTING).fetchall()
        now = time.monotonic()
        self._seen = {(row[0], row[1]): self._seen.get((row[0], row[1]), now) for row in rows}
        return {
            f"session {pid} of {user} ({name or 'nameless'})": f"a transaction is open and does nothing: end it (SELECT pg_terminate_backend({pid}))"
            for pid, transaction, user, name, idle in rows if (now - self._seen[pid, transaction] if idle is None else idle) >= SITS
        }  # fmt: skip

    @contextmanager
    def connection(self, schema: str) -> Generator[psycopg.Connection[Row]]:
        """A session on a schema, for one transaction: one that was there last, or any that is free, or a new one."""
        with self._room:
            connection = self._set(schema)
            try:
                yield connection
            finally:
                if connection.broken or connection.closed or connection.info.transaction_status:
                    self._gone(connection)
                else:
                    self._free.append((schema, connection))

    def close(self) -> None:
        self._notices.close()
        self._locks.close()
        while self._free:
            self._gone(self._free.pop()[1])

    def _set(self, schema: str) -> psycopg.Connection[Row]:
        found = self._spare(schema)
        if found and found[0] == schema:
            return found[1]
        connection = found[1] if found else self._another()
        try:
            connection.execute(sql.SQL("SET search_path TO {}").format(sql.Identifier(schema)))
        except psycopg.Error as error:
            self._gone(connection)
            raise RetriableError(f"database: {_said(error)}") from error
        return connection

    def _spare(self, schema: str) -> tuple[str, psycopg.Connection[Row]] | None:
        """The one used last on this schema, or, when there may be no more, the one that rested longest."""
        with self._taking:
            for n in range(len(self._free) - 1, -1, -1):
                if self._free[n][0] == schema:
                    return self._free.pop(n)
            return self._free.pop(0) if self._open >= MOST_CONNECTIONS else None

    def _another(self) -> psycopg.Connection[Row]:
        with self._taking:
            self._open += 1
        try:
            return self.connect("store")
        except BaseException:
            with self._taking:
                self._open -= 1
            raise

    def _gone(self, connection: psycopg.Connection[Row]) -> None:
        with self._taking:
            self._open -= 1
        connection.close()

    @contextmanager
    def _first(self, patience: float) -> Generator[psycopg.Connection[Row]]:
        until = time.monotonic() + patience
        while True:
            try:
                with psycopg.connect(self.url, autocommit=True, **SESSION) as connection:
                    yield connection
                    return
            except psycopg.ProgrammingError as error:
                raise UsageError(
                    f"JIETONG_DATABASE_URL: not the address of a PostgreSQL database: {_said(error)}"
                ) from None
            except psycopg.OperationalError as error:
                if _refused(error) or time.monotonic() > until:
                    raise UsageError(f"{self.name}: {_said(error)}; see JIETONG_DATABASE_URL") from None
                time.sleep(NOTHING_WAITS)


class PostgresStore:
    """See `jietong.store.Store`. Its tables are in the schema of its name.

    Raises UsageError, naming the command that mends it, if they are not there, or not those of this release.
    """

    def __init__(self, database: Database, name: str, *tables: MetaData) -> None:
        self.name, self.database = name, database
        self.bell = PostgresBell(self._ring_others)
        self._types = {f"{table.name}.{column.name}": column.type.compile(dialect=dialect.dialect())
                       for metadata in tables for table in metadata.sorted_tables for column in table.columns}  # fmt: skip
        self._channel = f"jietong_{_key(name):x}"
        self.commits = 0
        self._verify(tables)
        database.listen(self._channel, self.bell)

    @contextmanager
    def transaction(self) -> Generator[PostgresTransaction]:
        with self.database.connection(self.name) as connection:
            tx = PostgresTransaction(connection, self.name, self._types)
            tx.execute("BEGIN")
            try:
                yield tx
                for bell in tx.bells:
                    if isinstance(bell, PostgresBell):
                        bell.ring_others(tx)
            except BaseException:
                with suppress(psycopg.Error):
                    connection.execute("ROLLBACK")
                raise
            self._commit(connection)
        for bell in tx.bells:
            bell.ring()

    @contextmanager
    def snapshot(self) -> Generator[PostgresTransaction]:
        with self.database.connection(self.name) as connection:
            tx = PostgresTransaction(connection, self.name, self._types)
            tx.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
            try:
                yield tx
            finally:
                with suppress(psycopg.Error):
                    connection.execute("ROLLBACK")

    def close(self) -> None:
        """Its sessions are the database's."""

    def _verify(self, tables: Sequence[MetaData]) -> None:
        try:
            with migrations.in_schema(lambda: self.database.connect(self.name), self.name) as connection:
                migrations.verify(connection, migrations.branches(*tables))
        except DBAPIError as error:
            raise _meaning(error.orig) if isinstance(error.orig, psycopg.Error) else error from error

    def _commit(self, connection: psycopg.Connection[Row]) -> None:
        try:
            connection.execute("COMMIT")
        except psycopg.Error as error:
            raise RetriableError(f"database: whether it committed is unknown: {_said(error)}") from error
        self.commits += 1

    def _ring_others(self, tx: PostgresTransaction) -> None:
        tx.execute("SELECT pg_notify(:channel, :process)", {"channel": self._channel, "process": self.database.process})


class Locks:
    """Advisory locks of one session. The session is asked each time: one that was lost holds nothing."""

    def __init__(self, connect: Callable[[], psycopg.Connection[Row]]) -> None:
        self._connect, self._guard = connect, threading.Lock()
        self._connection: psycopg.Connection[Row] | None = None
        self._held: set[str] = set()

    @contextmanager
    def asked(self) -> Generator[psycopg.Connection[Row]]:
        """The session, for a question. RetriableError."""
        with self._guard:
            try:
                yield self._asked()
            except psycopg.Error as error:
                self._lost()
                raise RetriableError(f"database: {_said(error)}") from error

    def hold(self, name: str) -> bool:
        with self._guard:
            connection = self._asked()
            if name not in self._held:
                try:
                    row = connection.execute("SELECT pg_try_advisory_lock(%s)", (_key(f"lock {name}"),)).fetchone()
                except psycopg.Error as error:
                    self._lost()
                    raise RetriableError(f"database: {_said(error)}") from error
                if row and row[0]:
                    self._held.add(name)
            return name in self._held

    def close(self) -> None:
        with self._guard:
            self._lost()

    def _asked(self) -> psycopg.Connection[Row]:
        if self._connection is not None:
            try:
                self._connection.execute("SELECT 1")
            except psycopg.Error:
                self._lost()
        if self._connection is None:
            self._connection = self._connect()
        return self._connection

    def _lost(self) -> None:
        self._held.clear()
        if self._connection:
            self._connection.close()
        self._connection = None


class Notices:
    """One thread that hears what other processes committed, and rings."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._bells: dict[str, PostgresBell] = {}
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None

    def add(self, channel: str, bell: PostgresBell) -> None:
        self._bells[channel] = bell
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="notices", daemon=True)
            self._thread.start()

    def close(self) -> None:
        self._stopping.set()
        if self._thread:
            self._thread.join(2.0)

    def _run(self) -> None:
        """Away: whoever waits looks by itself once a second."""
        while not self._stopping.is_set():
            with suppress(psycopg.Error, JietongError), self._database.connect("notices") as connection:
                self._hear(connection)
            self._stopping.wait(1.0)
            for bell in list(self._bells.values()):  # whatever was said meanwhile
                bell.ring()

    def _hear(self, connection: psycopg.Connection[Row]) -> None:
        heard: set[str] = set()
        while not self._stopping.is_set():
            for channel in self._bells.keys() - heard:
                connection.execute(sql.SQL("LISTEN {}").format(sql.Identifier(channel)))
                heard.add(channel)
            for notice in connection.notifies(timeout=0.5, stop_after=1):
                if notice.payload != self._database.process:
                    self._bells[notice.channel].ring()


class _NumberLoader(Loader):
    """A sum of bigints is an int again, as in SQLite."""

    def load(self, data: Buffer) -> int | float:
        text = bytes(data).decode()
        return int(text) if text.lstrip("-").isdigit() else float(text)


# -- statements ----------------------------------------------------------------------------------------------------------
PART = re.compile(r"'(?:[^']|'')*'|\"[^\"]*\"|::|%|:([A-Za-z_]\w*)")
INSERT = re.compile(r"\s*INSERT INTO (\w+) \(([^()]*)\)\s+VALUES \(([^()]*)\)(.*)", re.DOTALL)
CHOOSE = re.compile(r"\s*INSERT INTO (\w+) \(([^()]*)\) SELECT ([\w, ]+) FROM (\w+) WHERE (.*)", re.DOTALL)
DELETE = re.compile(r"\s*DELETE FROM (\w+) WHERE (.*)", re.DOTALL)
UPDATE = re.compile(r"\s*UPDATE (\w+) SET (.*?)\s+WHERE (.*)", re.DOTALL)
EQUAL = re.compile(r"\s*\"?(\w+)\"? = (:\w+|\d+|'[^']*')\s*")
UNIQUE = re.compile(r"ON CONFLICT \(([^()]*)\) DO UPDATE")


@lru_cache(4096)
def translated(statement: str) -> bytes:
    """Our `:name` in psycopg's form."""

    def part(found: re.Match[str]) -> str:
        if found[1]:
            return f"%({found[1]})s"
        return found[0].replace("%", "%%")

    return PART.sub(part, statement).encode()


class Arrayed:
    """A statement for many rows as one over arrays; `unique` names what must differ in all of them."""

    __slots__ = ("names", "sql", "unique")

    def __init__(self, statement: str, names: Sequence[str], unique: Sequence[str]) -> None:
        self.sql, self.names, self.unique = statement.encode(), names, unique

    def fits(self, rows: Sequence[Parameters]) -> bool:
        return not self.unique or len({tuple(row[name] for name in self.unique) for row in rows}) == len(rows)


@lru_cache(1024)
def _arrayed(statement: str) -> tuple[str, str, list[tuple[str, str]], Sequence[str]] | None:
    """(form with {from}, table, [(parameter, column)], what must be unique) of a statement that can be put so."""
    if found := INSERT.fullmatch(statement):
        return _inserting(*(str(part) for part in found.groups()))
    if found := CHOOSE.fullmatch(statement):
        table, columns, chosen, of, where = (str(part) for part in found.groups())
        these = ", ".join(f"{of}.{name.strip()}" for name in chosen.split(","))
        return _where(f"INSERT INTO {table} ({columns}) SELECT {these} FROM {of}, {{rows}}", of, where)
    if found := DELETE.fullmatch(statement):
        return _where(f"DELETE FROM {found[1]} USING {{rows}}", found[1], found[2])
    if found := UPDATE.fullmatch(statement):
        return _updating(*(str(part) for part in found.groups()))
    return None


def _inserting(
    table: str, columns: str, values: str, rest: str
) -> tuple[str, str, list[tuple[str, str]], Sequence[str]] | None:
    names = [name.strip() for name in columns.split(",")]
    given = [value.strip() for value in values.split(",")]
    if ":" in rest or len(names) != len(given) or len(set(given)) != len(given):
        return None
    pairs = [(value[1:], name.strip('"')) for name, value in zip(names, given, strict=True) if value.startswith(":")]
    chosen = ", ".join(f'v."{value[1:]}"' if value.startswith(":") else value for value in given)
    found = UNIQUE.search(rest)
    key = [name.strip().strip('"') for name in found[1].split(",")] if found else []
    unique = [parameter for parameter, column in pairs if column in key]
    return (
        f"INSERT INTO {table} ({columns}) SELECT {chosen} FROM {{rows}} ORDER BY v.ordinality {rest.strip()}",
        table,
        pairs,
        unique,
    )


def _where(form: str, table: str, where: str) -> tuple[str, str, list[tuple[str, str]], Sequence[str]] | None:
    tests = [EQUAL.fullmatch(part) for part in where.split(" AND ")]
    if not all(tests):
        return None
    pairs = [(part[2][1:], part[1]) for part in tests if part and part[2].startswith(":")]
    return f"{form} WHERE {_same(table, tests)}", table, pairs, [parameter for parameter, _ in pairs]


def _updating(table: str, changes: str, where: str) -> tuple[str, str, list[tuple[str, str]], Sequence[str]] | None:
    sets = [EQUAL.fullmatch(part) for part in changes.split(",")]
    tests = [EQUAL.fullmatch(part) for part in where.split(" AND ")]
    if not all(sets) or not all(tests):
        return None
    pairs = [(part[2][1:], part[1]) for part in (*sets, *tests) if part and part[2].startswith(":")]
    if len({parameter for parameter, _ in pairs}) != len(pairs):
        return None
    changed = ", ".join(f'"{part[1]}" = {_value(part[2])}' for part in sets if part)
    unique = [part[2][1:] for part in tests if part and part[2].startswith(":")]
    return f"UPDATE {table} SET {changed} FROM {{rows}} WHERE {_same(table, tests)}", table, pairs, unique


def _same(table: str, tests: Iterable[re.Match[str] | None]) -> str:
    return " AND ".join(f'{table}."{part[1]}" = {_value(part[2])}' for part in tests if part)


def _value(text: str) -> str:
    return f'v."{text[1:]}"' if text.startswith(":") else text


def arrayed(statement: str, types: Mapping[str, str]) -> Arrayed | None:
    """The statement over arrays, or None if it has no such form."""
    if (found := _arrayed(statement)) is None:
        return None
    form, table, pairs, unique = found
    if not pairs or any(f"{table}.{column}" not in types for _, column in pairs):
        return None
    # in binary: as text, psycopg spells an array's bytes at two hundred microseconds each
    arrays = ", ".join(f"%({parameter})b::{types[f'{table}.{column}']}[]" for parameter, column in pairs)
    named = ", ".join(f'"{parameter}"' for parameter, _ in pairs)
    rows = f"unnest({arrays}) WITH ORDINALITY AS v({named}, ordinality)"
    return Arrayed(form.replace("%", "%%").replace("{rows}", rows), [parameter for parameter, _ in pairs], unique)


# -- errors --------------------------------------------------------------------------------------------------------------
def _meaning(error: psycopg.Error) -> Exception:
    """What an error of the database means here; its own words can quote values, so only its class is said."""
    state = error.sqlstate or ""
    if isinstance(error, psycopg.DataError) or state[:2] in ("22", "23") or (not state and "NUL" in str(error)):
        return InvalidEventError(f"the database refuses a value ({type(error).__name__})")
    if state in MISSING:
        return UsageError(f"database: {error.diag.message_primary}; `jietong db upgrade` makes its tables")
    if (
        isinstance(error, psycopg.OperationalError | psycopg.InterfaceError | psycopg.InternalError)
        or state in WRONG
        or state[:2] == "25"
    ):
        return RetriableError(f"database: {_said(error)}")
    return error


def _refused(error: psycopg.OperationalError) -> bool:
    """Whether waiting does not help. psycopg gives no SQLSTATE of a connection that failed: the server's words."""
    return any(
        word in str(error)
        for word in ("authentication failed", "does not exist", "no pg_hba.conf entry", "could not translate host name")
    )


def _said(error: psycopg.Error) -> str:
    """Its first line; without it, its kind."""
    lines = (error.diag.message_primary or str(error)).strip().splitlines()
    return lines[-1].strip() if lines else type(error).__name__


def _key(name: str) -> int:
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], signed=True)
