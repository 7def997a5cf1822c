"""The tables of a store over time: which release made them, who may still run on them, and how they become the next ones.

A store (a SQLite file, a PostgreSQL schema) holds the tables of one or two *branches*: delivery's, and its program's. A
branch's revisions stand in the folder `migrations/` beside its tables and are numbered; a store says in `alembic_version` which
it has of each branch, and in `release(version, min_code)` which release its tables are of and the oldest Jietong that may run
beside them. A change comes in two releases: *expand* adds what the new code needs and leaves the old code running (`min_code`
stays), *contract* takes away what only the old code needed (`min_code` rises).

Everything here works on a connection that is in a transaction and set to the store: it is all done, or nothing is.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from sqlalchemy import Connection, MetaData, inspect, select, text

import jietong
from jietong.errors import UsageError
from jietong.migrations.places import in_file as in_file
from jietong.migrations.places import in_schema as in_schema
from jietong.migrations.record import RELEASE, REVISION, record

if TYPE_CHECKING:
    from alembic.operations import Operations as Operations  # what a revision's `upgrade(op)` is given

BASELINE = 1
"""The revision that every branch had in release 0.2.0, which kept no record of it."""
BASELINE_FORMAT, BASELINE_RELEASE = 2, "0.2.0"
"""`user_version` of a SQLite file of that release, and its number."""

UPGRADE = "run `jietong db upgrade`"


class Revision(NamedTuple):
    """What a revision's file says of itself."""

    id: str
    release: str
    """The release that brought it."""
    min_code: str
    """The oldest release that may run beside tables of this revision; it never falls."""


@dataclass(frozen=True)
class Branch:
    """The tables of one program, or of delivery, and the folder of their revisions."""

    name: str
    tables: MetaData
    folder: Path

    @property
    def head(self) -> Revision:
        """The newest: what this code needs."""
        return read(max(self.folder.glob("[0-9]*.py")))

    def id(self, number: int) -> str:
        return f"{self.name}_{number:04}"


@dataclass(frozen=True)
class Standing:
    """How a store stands to this code."""

    version: str | None
    """The release its tables are of; None: it has none."""
    min_code: str | None
    head: str
    """The release whose tables this code needs."""
    wrong: str | None = None
    """What is wrong, if anything is."""
    remedy: str | None = None
    """What to do then."""


def branches(*tables: MetaData) -> list[Branch]:
    """The branches of these tables. Tables that no release keeps have none."""
    return [Branch(t.info["branch"], t, t.info["revisions"]) for t in tables if "branch" in t.info]


def standing(connection: Connection, branches: Sequence[Branch], code: str = jietong.__version__) -> Standing:
    """How the store stands to code of this release, by the rules above."""
    release, has = _found(connection, branches)
    head = max((branch.head.release for branch in branches), key=parsed, default=code)
    if release is None:
        if not branches:
            return Standing(None, None, head)
        return Standing(None, None, head, "it has no tables yet", UPGRADE)
    version, min_code = release
    if parsed(code) < parsed(min_code):
        wrong = f"its tables are of Jietong {version} and need {min_code} or newer, this is {code}"
        return Standing(version, min_code, head, wrong, f"upgrade this program to Jietong {min_code} or newer")
    if older := [branch.head.id for branch in branches if has.get(branch.name, 0) < number(branch.head.id)]:
        wrong = f"its tables are of Jietong {version}, this is {code} and lacks {', '.join(older)}"
        return Standing(version, min_code, head, wrong, UPGRADE)
    return Standing(version, min_code, head)


def verify(connection: Connection, branches: Sequence[Branch], code: str = jietong.__version__) -> None:
    """Raises UsageError, with what mends it, if code of this release must not run on the store."""
    if (found := standing(connection, branches, code)).wrong:
        raise UsageError(f"{_name(connection)}: {found.wrong}; {found.remedy}")


def create(connection: Connection, tables: Iterable[MetaData]) -> list[str]:
    """Make, as they are today, the tables of every branch that the store has nothing of; a file of 0.2.0 gets its record.
    Tables without a branch are made where they are missing. Returns what was done."""
    tables = list(tables)
    for metadata in tables:
        if not branches(metadata):
            metadata.create_all(connection)
    wanted = branches(*tables)
    release, has = _found(connection, wanted)
    new = [branch for branch in wanted if branch.name not in has]
    adopted = [] if _recorded(connection) else [branch.id(has[branch.name]) for branch in wanted if branch.name in has]
    for branch in new:
        _refuse_foreign(connection, branch.tables)
        branch.tables.create_all(connection, checkfirst=False)
    if new or adopted:
        _write_down(connection, [*adopted, *(branch.head.id for branch in new)])
        _say(connection, release, new)
    return [*(f"has {id}" for id in adopted), *(f"made as {branch.head.id}" for branch in new)]


def upgrade(connection: Connection, branches: Sequence[Branch], code: str = jietong.__version__) -> list[str]:
    """Bring a store to what this code needs, or make it, its schema too. Returns what was done. Raises UsageError if its tables refuse this
    code."""
    if connection.dialect.name == "postgresql":
        _hold_schema(connection)
    found = standing(connection, branches, code)
    if found.wrong and found.remedy != UPGRADE:
        verify(connection, branches, code)
    made = create(connection, [branch.tables for branch in branches])
    _, has = _found(connection, branches)
    return made + run(connection, [branch for branch in branches if has[branch.name] < number(branch.head.id)])


def run(connection: Connection, branches: Sequence[Branch]) -> list[str]:
    """Run the revisions of these branches that the store lacks: all of them, if it has nothing. Returns what was done."""
    if not branches:
        return []
    from jietong.migrations import revisions  # noqa: PLC0415 — Alembic takes 0.3 s to load, and every command opens stores

    release, _ = _found(connection, branches)
    _write_down(connection, [])
    done = revisions.run(connection, [branch.folder for branch in branches])
    _say(connection, release, branches)
    return [f"ran {id}" for id in done]


def parsed(version: str) -> tuple[int, ...]:
    """A release, to be compared."""
    return tuple(int(part) for part in re.findall(r"\d+", version)[:3])


def number(id: str) -> int:
    """Of a revision: its place in its branch, from 1."""
    return int(id.rpartition("_")[2])


# -- what a store says of itself -------------------------------------------------------------------------------------------
class _Release(NamedTuple):
    version: str
    min_code: str


def _found(connection: Connection, branches: Sequence[Branch]) -> tuple[_Release | None, Mapping[str, int]]:
    """Its release, and the number of the revision it has of each branch."""
    if _recorded(connection):
        row = connection.execute(select(RELEASE.c.version, RELEASE.c.min_code)).one()
        ids = connection.scalars(select(REVISION.c.version_num)).all()
        return _Release(*row), {id.rpartition("_")[0]: number(id) for id in ids}
    if connection.dialect.name != "sqlite":
        return None, {}
    if connection.scalar(text("PRAGMA user_version")) != BASELINE_FORMAT:
        return None, {}
    there = set(inspect(connection).get_table_names())
    has = {branch.name: BASELINE for branch in branches if there & branch.tables.tables.keys()}
    return _Release(BASELINE_RELEASE, BASELINE_RELEASE), has


def _recorded(connection: Connection) -> bool:
    return inspect(connection).has_table(RELEASE.name)


def _write_down(connection: Connection, ids: Sequence[str]) -> None:
    record.create_all(connection)
    if ids:
        connection.execute(REVISION.insert(), [{"version_num": id} for id in ids])


def _say(connection: Connection, before: _Release | None, now: Sequence[Branch]) -> None:
    """The newest of what it was and what these branches are: neither number ever falls."""
    says = [*([before] if before else []), *(_Release(branch.head.release, branch.head.min_code) for branch in now)]
    connection.execute(RELEASE.delete())
    connection.execute(RELEASE.insert(), {
        "version": max((release.version for release in says), key=parsed),
        "min_code": max((release.min_code for release in says), key=parsed),
    })  # fmt: skip


def _hold_schema(connection: Connection) -> None:
    """Nobody else upgrades a schema of this database meanwhile. One that is there was perhaps made by somebody who may."""
    connection.execute(text("SELECT pg_advisory_xact_lock(hashtext('jietong db upgrade'))"))
    schema = _name(connection)
    if not connection.scalar(text("SELECT count(*) FROM pg_namespace WHERE nspname = :schema"), {"schema": schema}):
        connection.exec_driver_sql(f"CREATE SCHEMA {connection.dialect.identifier_preparer.quote_identifier(schema)}")


def _refuse_foreign(connection: Connection, tables: MetaData) -> None:
    if foreign := sorted(set(inspect(connection).get_table_names()) & tables.tables.keys()):
        raise UsageError(
            f"{_name(connection)}: holds a table {foreign[0]} that Jietong did not make; give it a place of its own"
        )


def _name(connection: Connection) -> str:
    """The store's: a file's path, a schema's name."""
    if connection.dialect.name == "sqlite":
        return str(connection.execute(text("PRAGMA database_list")).all()[0][2])
    return str(connection.scalar(text("SHOW search_path"))).strip('"')


@cache
def read(file: Path) -> Revision:
    """Without Alembic, which loads it again when it runs it. A revision of tables can be read by whoever has its folder."""
    spec = spec_from_file_location(f"revision_{file.stem}", file)
    if spec is None or spec.loader is None:
        raise UsageError(f"{file}: is no revision")
    module: Any = module_from_spec(spec)
    spec.loader.exec_module(module)
    return Revision(module.revision, module.release, module.min_code)
