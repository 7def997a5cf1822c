"""Port: a program's own database. What was done and how far we got are one transaction of it.

SQL is what SQLite 3.35+ and PostgreSQL 15 share, with `:name` parameters; tables are SQLAlchemy Core metadata.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any, Protocol

Row = tuple[Any, ...]
Parameters = Mapping[str, Any]


class Rows(Protocol):
    """What a statement gave: rows to fetch, or how many it changed."""

    @property
    def rowcount(self) -> int: ...
    def one(self) -> Row | None:
        """The first row, or None."""
        ...

    def all(self) -> list[Row]: ...


class Transaction(Protocol):
    """One database transaction: state, inbox, outbox and position move together or not at all."""

    def execute(self, sql: str, parameters: Parameters = ...) -> Rows: ...
    def execute_many(self, sql: str, parameters: Sequence[Parameters]) -> int:
        """The statement once for each; returns the number of rows changed."""
        ...

    def lock(self, names: Iterable[str]) -> None:
        """Hold these names until the transaction ends: who changes what one subject's facts say, holds the subject. Taken
        in sorted order, so that two who hold several never wait for each other; once a transaction."""
        ...

    def after_commit(self, ring: Bell) -> None:
        """Ring this bell once the transaction has committed."""
        ...


class Bell(Protocol):
    """A wake-up, never the only one: whoever waits also looks by itself once a second."""

    def ring(self) -> None: ...
    def wait(self, seconds: float) -> bool:
        """Until it rings or the time is over; whether it rang. A ring while nobody waits is kept."""
        ...


class Store(Protocol):
    """A database. `name` is also the last part of its source's URN and, for a service, the consumer group."""

    @property
    def name(self) -> str: ...
    @property
    def bell(self) -> Bell:
        """Rings when a transaction has put something into the outbox."""
        ...

    def transaction(self) -> AbstractContextManager[Transaction]:
        """Read and write; commits at the end, rolls back on any exception. Raises RetriableError when away."""
        ...

    def snapshot(self) -> AbstractContextManager[Transaction]:
        """Read only, one consistent view; never waits for a writer."""
        ...

    def close(self) -> None: ...


def placeholders(name: str, values: Iterable[Any]) -> tuple[str, dict[str, Any]]:
    """`:name0, :name1 …` and their parameters, for an IN list; of no values one that nothing equals."""
    named = {f"{name}{n}": value for n, value in enumerate(values)}
    return ", ".join(f":{key}" for key in named) or "NULL", named
