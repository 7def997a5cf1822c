"""SQLAlchemy on a store's own connection: one transaction, in which tables can be made too."""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Any

from sqlalchemy import Connection, create_engine, event
from sqlalchemy.pool import NullPool


@contextmanager
def in_file(connect: Callable[[], Any], read_only: bool = False) -> Generator[Connection]:
    """A SQLite file. `connect` gives a connection of sqlite3 that begins nothing by itself (`isolation_level=None`): otherwise
    Python would leave DDL outside of the transaction."""
    engine = create_engine("sqlite://", creator=connect, poolclass=NullPool)

    def begin(connection: Connection) -> None:
        connection.exec_driver_sql("BEGIN" if read_only else "BEGIN IMMEDIATE")

    event.listen(engine, "begin", begin)
    with engine.begin() as connection:
        yield connection


@contextmanager
def in_schema(connect: Callable[[], Any], schema: str) -> Generator[Connection]:
    """A schema of a PostgreSQL database, whether it is there or not. `connect` gives a connection of psycopg."""

    def transactional() -> Any:
        made = connect()
        made.autocommit = False
        return made

    engine = create_engine("postgresql+psycopg://", creator=transactional, poolclass=NullPool)
    with engine.begin() as connection:
        quoted = connection.dialect.identifier_preparer.quote_identifier(schema)
        connection.exec_driver_sql(f"SET LOCAL search_path TO {quoted}")
        yield connection
