"""`jietong migrate`: a city moves from a data folder to the city's servers.

The folder is only read, and stays as it is. Each program moves in one transaction, together with the stand-in platform that it
works on: all rows, but for what is true only of the old log (positions, whose topics were seen); its outbox counts as not yet
sent. So the relays send everything into the new log, under the same sequences, and every inbox drops what it knows. A mark in
the program's database says that it has moved: a move that was cut short goes on there. The keys stay in the folder.
"""

from __future__ import annotations

import filecmp
import time
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer
from sqlalchemy import Boolean, Connection, LargeBinary, String, Table, inspect, literal, select, text
from sqlalchemy.exc import DataError, DBAPIError

from jietong import backends, failpoint, migrations, settings
from jietong.adapters.embedded import Lock
from jietong.adapters.sqlite import SqliteTransaction, changing
from jietong.broker import Message
from jietong.catalog import HEADS
from jietong.cli import db, screen
from jietong.cli.folder import LOG, PLATFORM, Beside, known, now, opened, program_of
from jietong.cli.options import AsJson, Data, DryRun
from jietong.contract import Contract
from jietong.delivery import heads, outbox, positions, quiet
from jietong.delivery.heads import Announced
from jietong.delivery.tables import delivery
from jietong.errors import RetriableError, UsageError
from jietong.store import Transaction

MIGRATED = "migrated"
"""The mark of a program that has moved; its value names the log that it came from."""
OF_THE_LOG = ("position", "relayed", "unsent")
"""Tables that say something of the old log only."""
AT_ONCE = 1000
PATIENCE = 30.0
"""Seconds that the new log gets to take a head."""
SHOWN = ("store", "tables", "rows", "events", "did")
MARKS = f"""SELECT name, CASE WHEN name = '{quiet.QUIET}' THEN '' ELSE value END AS value FROM mark WHERE name NOT LIKE 'running%'"""
"""But how the process ended that is none any more; and what a service that only learns waits for is looked at anew."""


@dataclass(frozen=True)
class Move:
    """A program's database, and before it that of the stand-in it works on."""

    name: str
    files: Sequence[Path]


@dataclass(frozen=True)
class Old:
    """The city in its folder: what its log was, and what its outboxes had announced there."""

    folder: Path
    log: str
    announced: Mapping[str, Announced]
    moves: Sequence[Move]


def migrate(
    from_: Annotated[Path, typer.Option("--from", metavar="FOLDER", help="The data folder; no city may run there.")],
    data: Data = None,
    dry_run: DryRun = False,
    as_json: AsJson = False,
) -> None:
    """Move a city from a data folder to the servers that the settings name. Goes on where it was cut short; refuses a target
    that holds anything else."""
    wanted = settings.load(data=data)
    if wanted.engine != "city":
        raise UsageError("moves a city to servers: set JIETONG_ENGINE=city, and where they are")
    with stopped(from_) as old:
        same_keys(from_, wanted.data)
        with closing(backends.OnServers(wanted, known(), "jietong migrate")) as new:
            left = _left(old, new)
            rows = [row for move in old.moves for row in _did(old, new, move, move in left, dry_run)]
    _tell(rows, as_json, dry_run)


# -- before anything is moved ------------------------------------------------------------------------------------------------
@contextmanager
def stopped(folder: Path) -> Generator[Old]:
    """The folder, held. Raises UsageError if there is no city, it runs, or cannot go anywhere as it is."""
    if not (folder / "log.db").exists():
        raise UsageError(f"{folder}: no city ever ran here: there is no log")
    held = Lock(folder / "log.lock")
    if not held.take():
        raise UsageError(f"{folder}: process {held.holder()} is running on this data; stop it first")
    try:
        with closing(Beside(folder, known().topics, read_only=True)) as log:
            announced = dict(heads.Heads(log, Contract(known())).read())
            old = Old(folder, log.topic(HEADS).id, announced, _moves(folder))
        for file in (file for move in old.moves for file in move.files):
            _sound(file, announced)
        yield old
    finally:
        held.release()


def _moves(folder: Path) -> list[Move]:
    files = {program_of(file): file for file in sorted(folder.glob("*.db")) if file.stem != LOG}
    works_on = {_worker(name): file for name, file in files.items() if name.startswith(PLATFORM)}
    programs = {name: file for name, file in files.items() if not name.startswith(PLATFORM)}
    if alone := sorted(works_on.keys() - programs.keys()):
        raise UsageError(f"{works_on[alone[0]]}: stands there without {alone[0]}, the program that works on it")
    return [Move(name, [*([works_on[name]] if name in works_on else []), file]) for name, file in programs.items()]


def _worker(stand_in: str) -> str:
    """The program that works on it."""
    name = stand_in.removeprefix(PLATFORM)
    return name if stand_in in db.OWN else f"{db.UTILITY}{name}"


def _sound(file: Path, announced: Mapping[str, Announced]) -> None:
    """Raises UsageError if its tables are of another release, or it was restored from a backup and not rebased."""
    with changing(file, read_only=True) as connection:
        standing = migrations.standing(connection, migrations.branches(*db.tables(program_of(file))))
    if standing.wrong:
        raise UsageError(f"{file}: {standing.wrong}; {standing.remedy} there, with JIETONG_ENGINE=embedded")
    if program_of(file).startswith(PLATFORM):
        return
    with closing(opened(file)) as store, store.snapshot() as tx:
        for source in _sources(tx):
            if heads.rewound(tx, source, announced):
                raise UsageError(heads.restored(source))


def same_keys(old: Path, new: Path) -> None:
    """Keys stay where they are, or every one of them is at the new place too, also as destroyed as it is."""
    there, here = new / "keys", old / "keys"
    if not here.is_dir() or (there.is_dir() and there.samefile(here)):
        return
    if not all(
        (there / file.name).is_file() and filecmp.cmp(file, there / file.name, shallow=False) for file in here.iterdir()
    ):
        raise UsageError(f"{new}: has not the city's keys, and without them nobody can read a personal field: keep them where they are, "
                         f"JIETONG_DATA={old}, or copy {here} there as it is")  # fmt: skip


def _left(old: Old, new: backends.OnServers) -> list[Move]:
    """Programs that have not moved yet. Raises UsageError if there is anything on the servers that is not of this move."""
    for move in old.moves:
        if not new.single(f"{move.name} relay")():
            raise UsageError(f"{move.name}: runs on the servers already; stop every program there")
    left = [move for move in old.moves if not _moved(old, new, move)]
    if not left:
        return left
    for topic in new.broker.topics(name for name in known().topics if name != HEADS).values():
        if count := sum(bounds.end - bounds.start for bounds in topic.bounds.values()):
            raise UsageError(
                f"the log holds {count} records of {topic.name} already: a city moves to a log of its own, with empty topics"
            )
    if source := next(_foreign_heads(old, new), None):
        raise UsageError(
            f"the log holds a head of {source} already: a city moves to a log of its own, with empty topics"
        )
    return left


def _foreign_heads(old: Old, new: backends.OnServers) -> Iterator[str]:
    """Sources whose heads in the new log are not what this folder says."""
    said = heads.Heads(new.broker, Contract(known(), new.registry)).read()
    ours: set[str] = set()
    for move in old.moves:
        with closing(opened(move.files[-1])) as store, store.snapshot() as tx:
            mine = _sources(tx)
            yield from (source for source in mine if heads.rewound(tx, source, said))
        ours.update(mine)
    yield from sorted(said.keys() - ours)


def _sources(tx: Transaction) -> list[str]:
    return [row[0] for row in tx.execute("SELECT DISTINCT source FROM total").all()]


def _moved(old: Old, new: backends.OnServers, move: Move) -> bool:
    """Whether it has. Raises UsageError if there is something else in its place."""
    with _transaction(new, move.name) as connection:
        if "mark" in _there(connection):
            mark = text("SELECT 1 FROM mark WHERE name = :name AND value = :log")
            if connection.scalar(mark, {"name": MIGRATED, "log": old.log}):
                return True
        for name in map(program_of, move.files):
            _enter(connection, name)
            there = _there(connection)
            for table in (table for table in _tables(name) if table.name.lower() in there):
                if connection.scalar(select(literal(1)).select_from(table).limit(1)):
                    raise UsageError(
                        f"{name}: holds rows already (table {table.name}); a city moves to a database of its own"
                    )
    return False


def _there(connection: Connection) -> set[str]:
    """The tables of the schema; PostgreSQL has some in lower case."""
    return {
        name.lower()
        for name in inspect(connection).get_table_names(schema=connection.scalar(text("SELECT current_schema()")))
    }


# -- moving ------------------------------------------------------------------------------------------------------------------
def _did(old: Old, new: backends.OnServers, move: Move, left: bool, dry_run: bool) -> Iterator[dict[str, Any]]:
    """A line for each of its databases."""
    if left and not dry_run:
        _move(old, new, move)
    did = "would move" if left and dry_run else "moved" if left else "had moved before"
    for file in move.files:
        name = program_of(file)
        with closing(opened(file)) as store, store.snapshot() as tx:
            counts = [
                _one(tx, f'SELECT count(*) FROM "{table.name}"')
                for table in _tables(name)
                if table.name not in OF_THE_LOG
            ]
            events = 0 if name.startswith(PLATFORM) else _one(tx, "SELECT count(*) FROM outbox")
        yield {"store": name, "tables": len(counts), "rows": sum(counts), "events": events, "did": did}


def _one(tx: Transaction, sql: str) -> int:
    return tx.execute(sql).all()[0][0]


def _move(old: Old, new: backends.OnServers, move: Move) -> None:
    with _transaction(new, move.name) as connection:
        for file in move.files:  # the program's own is the last
            _enter(connection, program_of(file))
            migrations.upgrade(connection, migrations.branches(*db.tables(program_of(file))))
            with closing(opened(file)) as store, store.snapshot() as tx:
                _copy(tx, connection, _tables(program_of(file)))
        _begin(old, new, move, connection)
        failpoint.passing("migrate.before_commit")
    failpoint.passing("migrate.after_commit")
    _announce(new, move)


def _copy(tx: SqliteTransaction, connection: Connection, tables: Iterable[Table]) -> None:
    """All rows, as they are."""
    for table in tables:
        if table.name not in OF_THE_LOG:
            for rows in _pages(tx, table):
                _insert(connection, table, rows)
            _count_on(connection, table)


def _begin(old: Old, new: backends.OnServers, move: Move, connection: Connection) -> None:
    """What it reads begins where the new log does, which has nothing of its outbox; and the mark that it has moved."""
    with closing(opened(move.files[-1])) as store, store.snapshot() as tx:
        topics = [row[0] for row in tx.execute("SELECT DISTINCT topic FROM position").all()]
    begins = positions.beginnings(new.broker, sorted(topics))
    _insert(connection, delivery.tables["position"], [at._asdict() for at in begins])
    _insert(connection, delivery.tables["mark"], [{"name": MIGRATED, "value": old.log}])
    connection.exec_driver_sql("INSERT INTO unsent (n) SELECT n FROM outbox")


def _pages(tx: SqliteTransaction, table: Table) -> Iterator[list[dict[str, Any]]]:
    names = [column.name for column in table.columns]
    columns = ", ".join(f'"{name}"' for name in names)
    found = tx.execute(MARKS if table.name == "mark" else f'SELECT {columns} FROM "{table.name}"')
    while page := found.fetchmany(AT_ONCE):
        yield [dict(zip(names, row, strict=True)) for row in page]


def _insert(connection: Connection, table: Table, rows: Sequence[Mapping[str, Any]]) -> None:
    """Values as a driver has them: what is JSON is text of it, and stays the same text."""
    if not rows:
        return
    spelled = connection.dialect.identifier_preparer
    columns = ", ".join(spelled.format_column(column) for column in table.columns)
    values = ", ".join(f"%({column.name})s" for column in table.columns)
    given = [{column.name: fitted(column.type, row[column.name]) for column in table.columns} for row in rows]
    try:
        connection.exec_driver_sql(f"INSERT INTO {spelled.format_table(table)} ({columns}) VALUES ({values})", given)
    except DataError as error:
        kind = type(error.orig).__name__
        raise UsageError(
            f"table {table.name}: PostgreSQL refuses a value of it ({kind}); nothing of this program was moved"
        ) from error


def fitted(kind: Any, value: Any) -> Any:
    """SQLite keeps what it is given; PostgreSQL wants what the column says."""
    if value is None:
        return None
    if isinstance(kind, Boolean):
        return bool(value)
    if isinstance(kind, String):
        return value if isinstance(value, str) else str(value)
    if isinstance(kind, LargeBinary):
        return value.encode() if isinstance(value, str) else value
    return value


def _count_on(connection: Connection, table: Table) -> None:
    """The next number that the database gives is behind those that are there."""
    if (column := table.autoincrement_column) is None:
        return
    spelled = connection.dialect.identifier_preparer
    name, of = spelled.format_column(column), spelled.format_table(table)
    next_ = text(
        f"SELECT setval(pg_get_serial_sequence(:table, :column), coalesce(max({name}), 0) + 1, false) FROM {of}"
    )
    connection.execute(next_, {"table": of, "column": name.strip('"') if '"' in name else name.lower()})


def _announce(new: backends.OnServers, move: Move) -> None:
    """Its head, so that no reader misses it until its relay runs. No relay runs yet: we hold its place."""
    contract = Contract(known(), new.registry)
    with closing(opened(move.files[-1])) as store, store.snapshot() as tx:
        head, sources = outbox.head(tx), _sources(tx)
    messages = [heads.message(contract, source, head, now()) for source in sources]
    until = time.monotonic() + PATIENCE
    while not _taken(new, messages) and time.monotonic() < until:
        time.sleep(0.5)


def _taken(new: backends.OnServers, messages: Sequence[Message]) -> bool:
    """A log that was just made is not ready at once. What it does not take, a relay says at its start."""
    with suppress(RetriableError):
        return all(new.broker.append(messages))
    return False


# -- the target --------------------------------------------------------------------------------------------------------------
@contextmanager
def _transaction(new: backends.OnServers, name: str) -> Generator[Connection]:
    try:
        with migrations.in_schema(lambda: new.database.connect("migrate"), name) as connection:
            yield connection
    except DBAPIError as error:
        raise UsageError(f"{name}: {str(error.orig).splitlines()[0]}; nothing of it was moved") from error


def _enter(connection: Connection, name: str) -> None:
    """The schema of a store."""
    connection.exec_driver_sql(
        f"SET LOCAL search_path TO {connection.dialect.identifier_preparer.quote_identifier(name)}"
    )


def _tables(store: str) -> list[Table]:
    return [table for metadata in db.tables(store) for table in metadata.sorted_tables]


def _tell(rows: Sequence[Mapping[str, Any]], as_json: bool, dry_run: bool) -> None:
    totals = {name: sum(row[name] for row in rows) for name in ("rows", "events")}
    if as_json:
        screen.emit({"dry_run": dry_run, "stores": rows, **totals})
        return
    screen.records(rows, SHOWN, False, "nothing to move")
    print(
        f"{len(rows)} databases, {totals['rows']} rows; {totals['events']} events {'would go' if dry_run else 'go'} into the new log"
    )
    if not dry_run:
        print("start the programs there, then `jietong verify`; never start the folder's city again, and keep its keys")
