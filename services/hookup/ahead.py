"""What the subjects of a batch have, read at once: a few statements for a batch rather than as many for each of its events."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache

from jietong.store import Bell, Parameters, Row, Rows, Transaction
from services.hookup.knowing import CASES, DEMANDS, HAS, PROJECT, RARE, SUPPORTS, TASKS, WAKES, WORKS

FEW = 4
"""Fewer subjects are not worth it."""
PIECE = 100
"""Subjects in one statement, filled up with its last: one text, so the database plans it once."""
MARKS = ", ".join(f":s{n}" for n in range(PIECE))
ONE = re.compile(r"SELECT (.*?)\sFROM (\w+)\s+WHERE subject = :subject(.*)", re.DOTALL)
WRITES = re.compile(r"\s*(?:INSERT INTO|UPDATE|DELETE FROM)\s+(\w+)")


def _of_many(sql: str) -> tuple[str, str]:
    """A statement about one subject as one about many, and its table."""
    found = ONE.fullmatch(sql)
    assert found, sql  # noqa: S101 — of the constants below
    columns, table, rest = found.groups()
    return f"SELECT subject, {columns} FROM {table} WHERE subject IN ({MARKS}){rest}", table


READS: Mapping[str, tuple[str, str]] = {
    sql: _of_many(sql) for sql in (PROJECT, SUPPORTS, WORKS, CASES, DEMANDS, WAKES, TASKS)
}
ANY = " UNION ALL ".join(f"SELECT DISTINCT subject, '{name}' FROM {name} WHERE subject IN ({MARKS})" for name in RARE)
READING: Mapping[str, Sequence[str]] = {table: [sql] for sql, (_, table) in READS.items()} | {
    name: [HAS] for name in RARE
}
"""Table → the statements whose answers it is in."""


class Found(list[Row]):
    """See `jietong.store.Rows`."""

    @property
    def rowcount(self) -> int:
        return len(self)

    def one(self) -> Row | None:
        return self[0] if self else None

    def all(self) -> list[Row]:
        return self


class Ahead:
    """A transaction that has read what these subjects have. What is written of one of them is forgotten, and read again."""

    def __init__(self, tx: Transaction, subjects: Sequence[str]) -> None:
        self._tx = tx
        self._found: dict[str, dict[str, Found]] = {sql: {} for sql in (*READS, HAS)}
        for start in range(0, len(subjects), PIECE):
            self._read(subjects[start : start + PIECE])

    def execute(self, sql: str, parameters: Parameters = {}) -> Rows:  # noqa: B006 — never changed
        known = self._found.get(sql)
        if known is not None and (rows := known.get(parameters["subject"])) is not None:
            return rows
        self._forget(sql, [parameters])
        return self._tx.execute(sql, parameters)

    def execute_many(self, sql: str, parameters: Sequence[Parameters]) -> int:
        self._forget(sql, parameters)
        return self._tx.execute_many(sql, parameters)

    def lock(self, names: Iterable[str]) -> None:
        self._tx.lock(names)

    def after_commit(self, ring: Bell) -> None:
        self._tx.after_commit(ring)

    def _read(self, subjects: Sequence[str]) -> None:
        named = {f"s{n}": subjects[min(n, len(subjects) - 1)] for n in range(PIECE)}
        for sql, (of_many, _) in READS.items():
            found = self._found[sql]
            found.update((subject, Found()) for subject in subjects)
            for row in self._tx.execute(of_many, named).all():
                found[row[0]].append(row[1:])
        rare = {(row[0], row[1]) for row in self._tx.execute(ANY, named).all()}
        self._found[HAS].update(
            (subject, Found([tuple((subject, name) in rare for name in RARE)])) for subject in subjects
        )

    def _forget(self, sql: str, parameters: Iterable[Parameters]) -> None:
        for read in READING.get(_written(sql), ()):
            for named in parameters:
                if "subject" in named:
                    self._found[read].pop(named["subject"], None)
                else:
                    self._found[read].clear()


@lru_cache(1024)
def _written(sql: str) -> str:
    """The table that a statement writes; of one that only reads, nothing."""
    found = WRITES.match(sql)
    return found[1] if found else ""


def among(tx: Transaction, subjects: Sequence[str]) -> Transaction:
    """The transaction for a batch about these subjects."""
    return Ahead(tx, subjects) if len(subjects) >= FEW else tx
