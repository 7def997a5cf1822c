"""A file as a platform: its rows are read through a mapping, and what they tell are drafts."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

from jietong.catalog import Catalog
from jietong.event import Draft
from jietong.feed import cells, reader
from jietong.feed.cells import Cell, CellError
from jietong.feed.mapping import HISTORICAL, Condition, Fact, Mapping
from jietong.feed.reader import Row
from jietong.identifiers import CreditCode, Identifier, InvalidIdentifierError, LocalCode, ProjectCode, UnitCode
from jietong.platform import Reading

SUBJECTS: dict[str, type[Identifier]] = {"project": ProjectCode, "unit": UnitCode, "enterprise": CreditCode}
NAMELESS = "#"
"""Begins the name of a bad row whose key does not name it: another file's row of that number is another row."""


@dataclass(frozen=True, slots=True, order=True)
class Reject:
    """A row that stayed out: its number in the file, the column at fault (none: the row), why. Never a value."""

    row: int
    column: str
    reason: str


@dataclass(frozen=True, slots=True)
class _Plan:
    """A fact with its fields looked up once."""

    fact: Fact
    columns: Sequence[tuple[cells.Field, cells.Column]]
    constants: Sequence[tuple[cells.Field, Any]]


class Feed:
    """See `jietong.platform.Source`. Every read is of the whole file; `rejects` are those of the last scan.

    Its drafts have no `about`: a file has no change stamp, and a cell that is set back is a new fact, not the first one
    again. That a row is not told twice rests on its digest: of its mapped cells and of what the mapping makes of them.
    """

    def __init__(self, path: Path, mapping: Mapping, catalog: Catalog, clock: Callable[[], datetime]) -> None:
        self.path, self.mapping, self.clock = path, mapping, clock
        self.rejects: list[Reject] = []
        self.numbers: dict[str, int] = {}
        fields = cells.fields(catalog.schemas[mapping.type][-1].definition)
        self._has_historical = HISTORICAL in fields
        self._facts = [_planned(fact, mapping, fields) for fact in mapping.facts]
        self._gone = [_planned(mapping.gone, mapping, fields)] if mapping.gone else []

    def read(self, after: str | None) -> Iterator[Reading]:
        del after  # a file has no position to go on from
        return self.scan()

    def again(self, rows: Sequence[str]) -> Iterable[Reading]:
        """None: a held row is read again with its file."""
        return ()

    def scan(self) -> Iterator[Reading]:
        """Raises UsageError if the file is not what the mapping describes."""
        self.rejects, self.numbers = [], {}
        firsts: dict[str, tuple[int, str]] = {}
        for row in self._ordered():
            yield self._reading(row, firsts)

    def gone(self, row: str, memo: str | None) -> Reading:
        """What the mapping says a vanished row means, of the row as it last stood in the file."""
        if not memo:
            return Reading(row, "")
        kept: dict[str, Any] = json.loads(memo)
        last = {name: tuple(cell) if isinstance(cell, list) else cell for name, cell in kept.items()}
        try:
            return Reading(row, "", self._drafts(self._gone, last))
        except (CellError, KeyError):  # the mapping was changed since: it no longer knows what this row was
            return Reading(row, "")

    # -- a row -----------------------------------------------------------------------------------------------------------
    def _reading(self, row: Row, firsts: dict[str, tuple[int, str]]) -> Reading:
        if row.fault:
            return self._rejected(f"{NAMELESS}{row.number}", row, row.fault)
        try:
            key = self._key(row.cells)
            content = _digest(row.cells)
            first, same = firsts.setdefault(key, (row.number, content))
            if same != content:
                raise CellError(f"row {first} has this key too, with other content", self.mapping.key[0])
        except CellError as error:
            return self._rejected(f"{NAMELESS}{row.number}", row, error)
        self.numbers[key] = row.number
        try:
            drafts = self._drafts(self._facts, row.cells)
        except CellError as error:
            return self._rejected(key, row, error)
        told = [(draft.subject, draft.data) for draft in drafts]
        memo = json.dumps(row.cells, ensure_ascii=False) if self.mapping.complete else None
        return Reading(key, _digest([content, told]), drafts, memo=memo)

    def _rejected(self, name: str, row: Row, error: CellError) -> Reading:
        self.rejects.append(Reject(row.number, error.column, error.reason))
        return Reading(name, _digest(row.cells), reason=f"row {row.number}: {error.column or 'row'}: {error.reason}")

    def _key(self, row: dict[str, Cell]) -> str:
        parts = [_text(row, column) for column in self.mapping.key]
        return "/".join(parts)

    def _drafts(self, plans: Sequence[_Plan], row: dict[str, Cell]) -> list[Draft]:
        facts = [plan for plan in plans if _all(plan.fact.when, row)]
        return [self._draft(plan, self._subject(row), row) for plan in facts]

    def _draft(self, plan: _Plan, subject: str, row: dict[str, Cell]) -> Draft:
        dated = self._time(plan.fact, row)
        data: dict[str, Any] = {}
        for field, value in plan.constants:
            _put(data, field.name, value)
        for field, how in plan.columns:
            _put(data, field.name, cells.read(row[how.column], how, field, self.mapping.zoneinfo))
        if self._has_historical:
            data[HISTORICAL] = self._historical(plan.fact, dated, row)
        return Draft(type=self.mapping.type, subject=subject, time=dated or self.clock(), data=data)

    def _time(self, fact: Fact, row: dict[str, Cell]) -> datetime | None:
        how = fact.time
        if how is None:
            return None
        if row[how.column] == "" and "" not in how.none:
            raise CellError("no date, and none of the mapping's words for having none", how.column)
        moment: datetime | None = cells.read(row[how.column], how, cells.TIME, self.mapping.zoneinfo)
        return moment.astimezone(UTC) if moment else None

    def _historical(self, fact: Fact, dated: datetime | None, row: dict[str, Cell]) -> bool:
        begins, finished = self.mapping.begins, self.mapping.finished
        before = begins is not None and dated is not None and dated < begins
        return before or (bool(finished) and not fact.ending and _all(finished, row))

    def _subject(self, row: dict[str, Cell]) -> str:
        kind, column = self.mapping.subject.given or ("local", self.mapping.key[0])
        try:
            if self.mapping.subject.given is None:
                return LocalCode.make(self.mapping.source, self._key(row))
            text = _text(row, column)
            return LocalCode.make(self.mapping.source, text) if kind == "local" else SUBJECTS[kind](text)
        except InvalidIdentifierError as error:
            raise CellError(str(error), column) from None

    def _ordered(self) -> Iterable[Row]:
        found = reader.rows(self.path, self.mapping)
        if not self.mapping.order:
            return found
        return sorted((self._dated(row) for row in found), key=self._place)

    def _dated(self, row: Row) -> Row:
        try:
            self._place(row)
        except CellError as error:
            return Row(row.number, fault=error)
        return row

    def _place(self, row: Row) -> list[date]:
        days = [] if row.fault else [cells.read(row.cells[how.column], how, cells.DAY, self.mapping.zoneinfo) for how in self.mapping.order]
        return [day or date.min for day in days]


def _planned(fact: Fact, mapping: Mapping, fields: dict[str, cells.Field]) -> _Plan:
    """A fact's own columns and constants win over the mapping's, and its constants over the mapping's columns."""
    constants = {**mapping.constants, **fact.constants}
    columns = {name: how for name, how in {**mapping.columns, **fact.columns}.items() if name not in fact.constants}
    return _Plan(
        fact,
        [(fields[name], how) for name, how in columns.items()],
        [(fields[name], cells.constant(given, fields[name], mapping.zoneinfo)) for name, given in constants.items()],
    )


def _all(conditions: dict[str, Condition], row: dict[str, Cell]) -> bool:
    return all(condition.holds(row[column]) for column, condition in conditions.items())


def _text(row: dict[str, Cell], column: str) -> str:
    cell = row[column]
    if not isinstance(cell, str) or not cell or len(cell) > cells.MAX_TEXT or cells.UNPRINTABLE.search(cell):
        raise CellError("must be a text of at most 1000 printable characters, and not empty", column)
    return cell


def _put(data: dict[str, Any], name: str, value: Any) -> None:
    record, dot, inner = name.partition(".")
    if dot:
        _put(data.setdefault(record, {}), inner, value)
    else:
        data[record] = value


def _digest(content: Any) -> str:
    return hashlib.sha256(json.dumps(content, ensure_ascii=False, sort_keys=True, default=str).encode("utf-8", "surrogatepass")).hexdigest()
