"""`jietong db`: the tables of a city's stores, of which release they are, and making them those that this one needs.

A store is a file of the data folder, or a schema of the city's database. Its tables are delivery's and its program's; which
program's, its name says.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer
from sqlalchemy import Connection, MetaData, event
from sqlalchemy.exc import DBAPIError

from jietong import catalog, city, migrations, settings
from jietong.adapters.embedded import Lock, log_tables
from jietong.adapters.sqlite import changing
from jietong.cli import screen
from jietong.cli.folder import LOG, PLATFORM, Folder, module, program_of
from jietong.cli.options import AsJson, CityPack, Data, DryRun
from jietong.delivery.tables import delivery
from jietong.errors import UsageError
from jietong.migrations import Standing

OWN: Mapping[str, tuple[str, str]] = {
    "investment": ("connectors.investment.tables", "investment"),
    "realestate": ("connectors.realestate.tables", "realestate"),
    "hookup": ("services.hookup.tables", "hookup"),
    "transfer": ("services.transfer.tables", "transfer"),
    "timeline": ("services.timeline.tables", "timeline"),
    "platform-engineering": ("connectors.engineering.tables", "exchange"),
}
"""Stores with tables of their own beside delivery's, or instead of them: where those are declared."""
OPERATORS = ("connectors.utility.tables", "utility")
"""The tables of each operator's stand-in, `platform-<operator>`."""
UTILITY, FEED = "utility:", "feed:"
PATIENCE = 5.0
"""Seconds that a database which does not answer is waited for."""
READS = ("SELECT", "PRAGMA", "SHOW", "SET", "BEGIN")
BACKUP = "back it up first (`jietong backup DIR`; a PostgreSQL database with pg_dump): there is no way down"

app = typer.Typer(
    no_args_is_help=True, help="The tables of every store: of which release they are, and upgrading them."
)


@dataclass(frozen=True)
class Place:
    """A store, wherever it is: `open_(write)` is one transaction on it."""

    name: str
    open_: Callable[[bool], AbstractContextManager[Connection]]

    @property
    def branches(self) -> Sequence[migrations.Branch]:
        return migrations.branches(*tables(self.name))

    def standing(self) -> Standing:
        with self.open_(False) as connection:
            return migrations.standing(connection, self.branches)


@app.command()
def check(data: Data = None, pack: CityPack = None, as_json: AsJson = False) -> None:
    """Say of every store which release its tables are of, what this one needs, and what to do. Exit code 1 if one is not as it should be."""
    with _places(data, pack) as places:
        found = {place.name: place.standing() for place in places}
    rows = [_row(name, standing) for name, standing in found.items()]
    screen.records(
        rows, ("store", "version", "head", "min_code", "do"), as_json, "no stores yet; `jietong up` makes them"
    )
    raise typer.Exit(1 if any(standing.wrong for standing in found.values()) else 0)


Store = Annotated[str | None, typer.Option("--store", help="Only this one; a feed's is made if it is not there.")]


@app.command()
def upgrade(
    store: Store = None, data: Data = None, pack: CityPack = None, dry_run: DryRun = False, as_json: AsJson = False
) -> None:
    """Make the tables of every store those that this release needs: each store wholly, or not at all. Safe to repeat. With
    --dry-run it is done, its SQL is printed, and it is undone."""
    with _places(data, pack, store, lock=not dry_run) as places:
        found = {place: place.standing() for place in places}
        _refuse(found)
        if any(standing.wrong and standing.version for standing in found.values()):
            typer.echo(BACKUP, err=True)
        rows = [_upgraded(place, dry_run) for place in places]
    if dry_run and not as_json:
        for row in rows:
            print("\n".join([f"-- {row['store']}: {row['did']}", *(f"{statement};" for statement in row["sql"])]))
        return
    screen.records(rows, ("store", "did"), as_json, "no stores yet; `jietong up` makes them")


def tables(store: str) -> list[MetaData]:
    """Those of a store, by its name. Raises UsageError if the program that has them is not here."""
    if store == LOG:
        return [log_tables]
    stand_in = store.startswith(PLATFORM)
    where = OWN.get(store, OPERATORS if stand_in else None)
    own = [getattr(module(where[0]), where[1])] if where else []
    return own if stand_in else [delivery, *own]


def stores(pack: city.City) -> list[str]:
    """Those of a city but its feeds: feeds come with what is imported."""
    operators = sorted(pack.operators)
    return sorted([*OWN, "engineering", *(UTILITY + id for id in operators), *(PLATFORM + id for id in operators)])


# -- where stores are ------------------------------------------------------------------------------------------------------
@contextmanager
def _places(data: Path | None, pack: str | None, only: str | None = None, lock: bool = False) -> Generator[list[Place]]:
    wanted = settings.load(data=data, city=pack)
    if wanted.engine == "city":
        with _schemas(wanted, only) as places:
            yield places
    else:
        with _files(Folder(data), only, lock) as places:
            yield places


@contextmanager
def _files(folder: Folder, only: str | None, lock: bool) -> Generator[list[Place]]:
    """A folder's files; `lock`: no city may run there."""
    held = Lock(folder.path / "log.lock")
    if lock and not held.take():
        raise UsageError(f"{folder.path}: process {held.holder()} is running on this data; stop it first")
    try:
        places = [_file(file) for file in sorted(folder.path.glob("*.db")) if only in (None, program_of(file))]
        if only and not places:
            raise UsageError(f"{folder.path}: no store {only} here")
        yield places
    finally:
        held.release()


def _file(file: Path) -> Place:
    return Place(program_of(file), lambda write: changing(file, read_only=not write))


@contextmanager
def _schemas(wanted: settings.Settings, only: str | None) -> Generator[list[Place]]:
    """Those of a city's database, whether they are there or not, and its feeds that are."""
    pack = city.load(wanted.city, catalog.load())
    try:
        from jietong.adapters import postgres  # noqa: PLC0415 — its driver is only there with the extra `city`
    except ModuleNotFoundError as error:
        raise UsageError(f"the city engine needs {error.name}: pip install 'jietong[city]'") from None
    database = postgres.Database(wanted.needed("database_url"), PATIENCE)
    try:
        names = sorted({*stores(pack), *(name for name in database.schemas() if name.startswith(FEED))})
        if only and only not in names and not only.startswith(FEED):
            raise UsageError(f"no store {only} in this city; there are {', '.join(names)}")
        yield [_schema(database.connect, name) for name in ([only] if only else names)]
    finally:
        database.close()


def _schema(connect: Callable[[str], Any], name: str) -> Place:
    @contextmanager
    def open_(_write: bool) -> Generator[Connection]:
        try:
            with migrations.in_schema(lambda: connect(f"db {name}"), name) as connection:
                yield connection
        except DBAPIError as error:
            raise UsageError(f"{name}: {str(error.orig).splitlines()[0]}; nothing was changed in it") from error

    return Place(name, open_)


# -- what is done with them ------------------------------------------------------------------------------------------------
class _Undo(Exception):  # noqa: N818 — it is no error: a rehearsal is over
    pass


def _upgraded(place: Place, dry_run: bool) -> dict[str, Any]:
    done: list[str] = []
    sql: list[str] = []

    def seen(_connection: object, _cursor: object, statement: str, *_: object) -> None:
        if not statement.strip().upper().startswith(READS):
            sql.append(statement.strip())

    with suppress(_Undo), place.open_(True) as connection:
        event.listen(connection, "before_cursor_execute", seen)
        done = migrations.upgrade(connection, place.branches)
        if dry_run:
            raise _Undo
    return {"store": place.name, "did": ", ".join(done) or "nothing"} | ({"sql": sql} if dry_run else {})


def _refuse(found: Mapping[Place, Standing]) -> None:
    """Before anything is touched: one store that needs a newer program stops all."""
    for place, standing in found.items():
        if standing.wrong and standing.remedy != migrations.UPGRADE:
            raise UsageError(f"{place.name}: {standing.wrong}; {standing.remedy}")


def _row(name: str, standing: Standing) -> dict[str, Any]:
    do = f"{standing.wrong}; {standing.remedy}" if standing.wrong else "nothing"
    return {"store": name, "version": standing.version, "head": standing.head, "min_code": standing.min_code, "do": do}
