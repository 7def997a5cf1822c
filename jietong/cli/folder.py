"""A city as a command sees it, beside its running programs or with none: a data folder, or the city's servers.

Which of the two, the settings say; a command asks the same of both.
"""

from __future__ import annotations

import importlib
import sqlite3
import tempfile
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, closing, contextmanager, suppress
from functools import cache, cached_property
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Protocol

from sqlalchemy import MetaData

from jietong import backends, catalog, migrations, settings
from jietong.adapters.embedded import EmbeddedLog, Lock
from jietong.adapters.sqlite import SqliteStore, SqliteTransaction
from jietong.broker import Broker, Topic
from jietong.contract import Contract, Registry
from jietong.errors import UsageError
from jietong.settings import Settings
from jietong.store import Store, Transaction

if TYPE_CHECKING:
    from jietong.adapters.registry import ConfluentRegistry

LOG, PLATFORM = "log", backends.PLATFORM
MANY = ("utility-", "feed-")
"""Programs of which there are several: `utility:jm-water` lies in `utility-jm-water.db`."""
PATIENCE = 5.0
"""Seconds that a database which does not answer is waited for."""
SCHEMAS = """SELECT schemaname FROM pg_tables WHERE tablename IN ('outbox', 'alembic_version') GROUP BY 1
HAVING count(DISTINCT tablename) = 2 ORDER BY 1"""
PROCESSES = """SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND application_name = 'jietong locks'
ORDER BY backend_start"""
"""A process that runs a program has one such session."""

known = cache(catalog.load)
opened_here = ExitStack()
"""What commands have opened: closed when the command ends."""


class Kept(Protocol):
    """Where a city's programs keep what they know."""

    @property
    def name(self) -> str:
        """What a message calls it, without a password."""
        ...

    def processes(self) -> Sequence[int]:
        """Of a folder the process that runs a city there; of a database the sessions of those that run a program."""
        ...

    def log(self, write: bool) -> Broker: ...
    def registry(self) -> Registry | None: ...
    def single(self, name: str) -> Callable[[], bool]:
        """See `jietong.backends.Backend.single`."""
        ...

    def programs(self) -> Mapping[str, Store]: ...
    def store(self, name: str, write: bool) -> Store | None:
        """A program's, or a stand-in's (`platform-<name>`); None if it is not here."""
        ...

    def made(self, name: str, *tables: MetaData) -> Store:
        """A store to write to, with these tables; made if it is not here."""
        ...

    def rehearsed(self, name: str) -> AbstractContextManager[Store]:
        """One that holds what this store holds, and leaves no trace."""
        ...

    def operators(self) -> Sequence[str]:
        """Whose own systems stand in here."""
        ...


class Folder:
    """A city: its data folder, or its database and log. Raises UsageError if it is not there.

    `path` is the data folder; on the servers, that of the city's keys alone. Programs' stores are opened once, to read.
    """

    def __init__(self, data: Path | None) -> None:
        self.settings = settings.load(data=data)
        self.path = self.settings.data
        self.kept: Kept = Servers(self.settings) if self.settings.engine == "city" else Files(self.path)
        self.name = self.kept.name

    def pid(self) -> int | None:
        """A process that runs a program here, as the folder or the database knows it."""
        return next(iter(self.kept.processes()), None)

    @cached_property
    def contract(self) -> Contract:
        return Contract(known(), self.kept.registry())

    @cached_property
    def log(self) -> Broker:
        """Raises UsageError if no city ever ran here."""
        return self.kept.log(write=False)

    @cached_property
    def programs(self) -> Mapping[str, Store]:
        """Every program's database, by the program's name."""
        return self.kept.programs()

    def program(self, name: str) -> Store:
        """Raises UsageError if no program of that name has a database here."""
        if (store := self.programs.get(name) or self.programs.get(named(name))) is None:
            raise UsageError(f"{self.name}: no program {name} here; there are {', '.join(self.programs) or 'none'}")
        return store

    def platform(self, operator: str, write: bool = False) -> Store:
        """An operator's own system. Raises UsageError if it is not here."""
        if (store := self.kept.store(f"{PLATFORM}{operator}", write)) is None:
            known = ", ".join(self.kept.operators())
            raise UsageError(f"{self.name}: no operator {operator} here; there are {known or 'none'}")
        return store

    @contextmanager
    def writing(self, program: str) -> Generator[Store]:
        """A program's database, to write to. Raises UsageError as `program` does."""
        found = self.kept.store(self.program(program).name, write=True)
        assert found is not None  # noqa: S101 — it was found just now
        with closing(found):
            yield found


# -- a folder ----------------------------------------------------------------------------------------------------------------
class Files:
    """One SQLite file a store. Raises UsageError if there is no such folder."""

    def __init__(self, path: Path) -> None:
        self.path, self.name = path, str(path)
        if not path.is_dir():
            raise UsageError(f"{path}: no such data folder; name it with --data or JIETONG_DATA")

    def processes(self) -> Sequence[int]:
        pid = Lock(self.path / "log.lock").holder()
        return [pid] if pid else []

    def log(self, write: bool) -> Broker:
        if not write and not (self.path / "log.db").exists():
            raise UsageError(f"{self.path}: there is no log yet; `jietong up` makes one")
        log = EmbeddedLog(self.path, known().topics) if write else Beside(self.path, known().topics, read_only=True)
        opened_here.callback(log.close)
        return log

    def registry(self) -> Registry | None:
        return None

    def single(self, name: str) -> Callable[[], bool]:
        lock = Lock(self._file(name.replace(" ", "."), "lock"))
        opened_here.callback(lock.release)
        return lock.take

    def programs(self) -> Mapping[str, Store]:
        files = [f for f in sorted(self.path.glob("*.db")) if f.stem != LOG and not f.stem.startswith(PLATFORM)]
        return {program_of(file): _ours(opened(file)) for file in files}

    def store(self, name: str, write: bool) -> SqliteStore | None:
        file = self._file(name)
        return opened(file, read_only=not write) if file.exists() else None

    def made(self, name: str, *tables: MetaData) -> SqliteStore:
        return SqliteStore(self._file(name), *tables, name=name)

    @contextmanager
    def rehearsed(self, name: str) -> Generator[Store]:
        """A copy, thrown away."""
        with tempfile.TemporaryDirectory() as scratch:
            copy = Path(scratch) / self._file(name).name
            with closing(opened(self._file(name))) as store:
                store.backup(copy)
            with closing(opened(copy, read_only=False)) as rehearsal:
                yield rehearsal

    def operators(self) -> Sequence[str]:
        return [file.stem.removeprefix(PLATFORM) for file in sorted(self.path.glob(f"{PLATFORM}*.db"))]

    def _file(self, name: str, kind: str = "db") -> Path:
        return self.path / f"{name.replace(':', '-')}.{kind}"


class Beside(EmbeddedLog):
    """A log that another process writes: looked at anew each time."""

    def topic(self, name: str) -> Topic:
        self.refresh()
        return super().topic(name)


def opened(file: Path, read_only: bool = True) -> SqliteStore:
    """Raises UsageError if it is no database, or one of a newer version."""
    try:
        return SqliteStore(file, read_only=read_only, name=program_of(file))
    except sqlite3.DatabaseError as error:
        raise UsageError(f"{file}: cannot be read as a database: {error}") from error


def _ours(store: SqliteStore) -> SqliteStore:
    with store.snapshot() as tx:
        if not has_table(tx, "outbox"):
            raise UsageError(f"{store.path}: has none of our tables; take it out of the data folder")
    return store


# -- servers -----------------------------------------------------------------------------------------------------------------
class Servers:
    """A database with one schema a store, a log, a registry. Raises UsageError for a database that is not as it should be."""

    def __init__(self, wanted: Settings) -> None:
        try:
            from jietong.adapters import postgres  # noqa: PLC0415 — its driver is only there with the extra `city`
        except ModuleNotFoundError as error:
            raise UsageError(f"the city engine needs {error.name}: pip install 'jietong[city]'") from None
        self._settings, self._open = wanted, postgres.PostgresStore
        self.database = postgres.Database(wanted.needed("database_url"), PATIENCE)
        opened_here.callback(self.database.close)
        self.name = self.database.name

    def processes(self) -> Sequence[int]:
        with self.database.connect("command") as session:
            return [row[0] for row in session.execute(PROCESSES).fetchall()]

    def log(self, write: bool) -> Broker:  # noqa: ARG002 — a log of many writers
        log = backends.log(self._settings, "jietong command")
        opened_here.callback(log.close)
        return log

    def registry(self) -> ConfluentRegistry:
        from jietong.adapters import registry  # noqa: PLC0415 — as above

        user, password, cafile = self._settings.registry_login()
        access = registry.Access(self._settings.needed("schema_registry_url"), user, password, cafile)
        found = registry.ConfluentRegistry(known(), access)
        opened_here.callback(found.close)
        return found

    def single(self, name: str) -> Callable[[], bool]:
        return lambda: self.database.hold(name)

    def programs(self) -> Mapping[str, Store]:
        with self.database.connect("command") as session:
            names = [row[0] for row in session.execute(SCHEMAS).fetchall()]
        return {name: self._open(self.database, name) for name in names}

    def store(self, name: str, write: bool) -> Store | None:  # noqa: ARG002 — a snapshot is read only by itself
        return self._open(self.database, name) if name in self.database.schemas() else None

    def made(self, name: str, *tables: MetaData) -> Store:
        with migrations.in_schema(lambda: self.database.connect("command"), name) as connection:
            migrations.upgrade(connection, migrations.branches(*tables))
        return self._open(self.database, name, *tables)

    def standing(self, name: str, *tables: MetaData) -> migrations.Standing:
        """How a store's tables stand to this release, be they there or not."""
        with migrations.in_schema(lambda: self.database.connect("command"), name) as connection:
            return migrations.standing(connection, migrations.branches(*tables))

    @contextmanager
    def rehearsed(self, name: str) -> Generator[Store]:
        """The store itself, in one transaction that is undone."""
        store = self._open(self.database, name)
        with suppress(_Undo), store.transaction() as tx:
            yield Rehearsal(store, tx)
            raise _Undo

    def operators(self) -> Sequence[str]:
        return [name.removeprefix(PLATFORM) for name in self.database.schemas() if name.startswith(PLATFORM)]


class Rehearsal:
    """See `jietong.store.Store`. Each of its transactions is a step of one that is undone in the end."""

    def __init__(self, store: Store, tx: Transaction) -> None:
        self.name, self.bell, self._tx = store.name, store.bell, tx

    @contextmanager
    def transaction(self) -> Generator[Transaction]:
        self._tx.execute("SAVEPOINT step")
        try:
            yield self._tx
        except BaseException:
            self._tx.execute("ROLLBACK TO SAVEPOINT step")
            raise
        self._tx.execute("RELEASE SAVEPOINT step")

    @contextmanager
    def snapshot(self) -> Generator[Transaction]:
        yield self._tx

    def close(self) -> None:
        """It ends with its transaction."""


class _Undo(Exception):  # noqa: N818 — it is no error: a rehearsal is over
    pass


# -- both --------------------------------------------------------------------------------------------------------------------
def has_table(tx: Transaction, name: str) -> bool:
    sql = "SELECT 1 FROM information_schema.tables WHERE table_schema = current_schema() AND table_name = :name"
    if isinstance(tx, SqliteTransaction):
        sql = "SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = :name"
    return tx.execute(sql, {"name": name}).one() is not None


def program_of(file: Path) -> str:
    return named(file.stem)


def named(stem: str) -> str:
    return next((f"{many[:-1]}:{stem.removeprefix(many)}" for many in MANY if stem.startswith(many)), stem)


def module(name: str) -> ModuleType:
    """A module of a program, by import name. Raises UsageError if it is not there."""
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        raise UsageError(f"no module {name} here: run this beside `services/` and `connectors/`") from error


def now() -> int:
    return time.time_ns() // 1_000_000
