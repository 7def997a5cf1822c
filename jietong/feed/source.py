"""A file as a platform: its rows are read through a mapping, and what they tell are drafts."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime
from pathlib import Path
from typing import Any

from jietong.catalog import Catalog
from jietong.event import Draft
from jietong.feed import cells, reader
from jietong.feed.cells import Cell, CellError, Column, Target
from jietong.feed.mapping import HISTORICAL, Condition, Fact, Mapping
from jietong.feed.reader import Row
from jietong.identifiers import CreditCode, Identifier, InvalidIdentifierError, LocalCode, ProjectCode, UnitCode
from jietong.platform import Reading

SUBJECTS: dict[str, type[Identifier]] = {"project": ProjectCode, "unit": UnitCode, "enterprise": CreditCode}
NAMELESS = "#"
"""Begins the name of a bad row whose key does not name it: another file's row of that number is another row."""


@dataclass(frozen=True, slots=True, order=True)
class Reject:
    """A row that stayed out: its number (0: the file's rows together), the column at fault (none: the row), and why.

    Never a value.
    """

    row: int
    column: str
    reason: str

    def __str__(self) -> str:
        return ": ".join(part for part in (f"row {self.row}" if self.row else "file", self.column, self.reason) if part)


@dataclass(frozen=True, slots=True)
class _Plan:
    """A fact with its fields looked up once."""

    fact: Fact
    columns: Sequence[Target]
    constants: Sequence[tuple[str, Any]]
    time: Target | None


class Feed:
    """See `jietong.platform.Source`. Every read is of the whole file; `rejects` are those of the last scan.

    A row's digest is of its mapped cells and of what the mapping makes of them: read otherwise by a
    changed mapping, it is told anew.
    """

    def __init__(self, path: Path, mapping: Mapping, catalog: Catalog, clock: Callable[[], datetime]) -> None:
        self.path, self.mapping, self.clock = path, mapping, clock
        self.rejects: list[Reject] = []
        self.nameless = 0
        self.numbers: dict[str, int] = {}
        fields = cells.fields(catalog.schemas[mapping.type][-1].definition)
        self._has_historical = HISTORICAL in fields
        self._order = [cells.target("order", "date", how, mapping.zoneinfo) for how in mapping.order]
        self._facts = [_planned(fact, mapping, fields) for fact in mapping.facts]
        self._gone = [_planned(mapping.gone, mapping, fields)] if mapping.gone else []

    def read(self, after: str | None) -> Iterator[Reading]:
        del after  # a file has no position to go on from
        return self.scan()

    def again(self, rows: Sequence[str]) -> Iterable[Reading]:
        """None: a held row is read again with its file."""
        del rows
        return ()

    def scan(self) -> Iterator[Reading]:
        """Raises UsageError if the file is not what the mapping describes."""
        self.rejects, self.nameless, self.numbers = [], 0, {}
        firsts: dict[str, tuple[int, str]] = {}
        for row in self._ordered():
            yield self._reading(row, firsts)

    def gone(self, row: str, memo: str | None) -> Reading:
        """What the mapping says a vanished row means, of the row as it last stood in the file."""
        kept: dict[str, str | bool | list[str]] = json.loads(memo) if memo else {}
        last: dict[str, Cell] = {name: tuple(cell) if isinstance(cell, list) else cell for name, cell in kept.items()}
        try:
            drafts = self._drafts(self._gone, last) if last else []
        except (CellError, KeyError):  # the mapping was changed since: it no longer knows what this row was
            drafts = []
        return Reading(row, "", [replace(draft, about=(row, "gone")) for draft in drafts])

    # -- a row ---------------------------------------------------------------------------------------------------------
    def _reading(self, row: Row, firsts: dict[str, tuple[int, str]]) -> Reading:
        name = f"{NAMELESS}{row.number}"
        try:
            if row.fault:
                raise row.fault
            key = self._named(row, firsts)
            self.numbers[key], name = row.number, key
            drafts = self._drafts(self._facts, row.cells)
        except CellError as error:
            reject = Reject(row.number, error.column, error.reason)
            self.rejects.append(reject)
            self.nameless += name.startswith(NAMELESS)
            return Reading(name, _digest(row.cells), reason=str(reject))
        digest = _digest([row.cells, [(draft.subject, draft.data) for draft in drafts]])
        drafts = [replace(draft, about=(key, digest, str(n))) for n, draft in enumerate(drafts)]
        memo = json.dumps(row.cells, ensure_ascii=False) if self.mapping.complete else None
        return Reading(key, digest, drafts, memo=memo)

    def _named(self, row: Row, firsts: dict[str, tuple[int, str]]) -> str:
        """The row's key. Raises CellError if an earlier row of the file has it, with other content."""
        key = self._key(row.cells)
        content = _digest(row.cells)
        first, same = firsts.setdefault(key, (row.number, content))
        if same != content:
            raise CellError(f"row {first} has this key too, with other content", self.mapping.key[0])
        return key

    def _key(self, row: dict[str, Cell]) -> str:
        return "/".join(_text(row, column) for column in self.mapping.key)

    def _drafts(self, plans: Sequence[_Plan], row: dict[str, Cell]) -> list[Draft]:
        facts = [plan for plan in plans if _all(plan.fact.when, row)]
        return [self._draft(plan, self._subject(row), row) for plan in facts]

    def _draft(self, plan: _Plan, subject: str, row: dict[str, Cell]) -> Draft:
        dated = _time(plan.time, row)
        data: dict[str, Any] = {}
        for name, value in plan.constants:
            _put(data, name, value)
        for target in plan.columns:
            _put(data, target.field.name, target.read(row[target.how.column]))
        if self._has_historical:
            data[HISTORICAL] = self._historical(plan.fact, dated, row)
        return Draft(type=self.mapping.type, subject=subject, time=dated or self.clock(), data=data)

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
        return [] if row.fault else [target.read(row.cells[target.how.column]) or date.min for target in self._order]


def _planned(fact: Fact, mapping: Mapping, fields: dict[str, cells.Field]) -> _Plan:
    """What the fact says wins over what the mapping says of all; of the mapping, columns win over constants."""
    zone, how = mapping.zoneinfo, Column(column="")
    columns = {
        name: column for name, column in {**mapping.columns, **fact.columns}.items() if name not in fact.constants
    }
    constants = {**mapping.constants, **fact.constants}
    return _Plan(
        fact,
        [Target(fields[name], column, zone) for name, column in columns.items()],
        [(name, Target(fields[name], how, zone).constant(given)) for name, given in constants.items()],
        cells.target("time", "timestamp-millis", fact.time, zone) if fact.time else None,
    )


def _time(target: Target | None, row: dict[str, Cell]) -> datetime | None:
    """When it happened; None where the file says that it has no date."""
    if target is None:
        return None
    cell = row[target.how.column]
    if cell == "" and "" not in target.how.none:
        raise CellError("no date, and none of the mapping's words for having none", target.how.column)
    return target.read(cell)


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
    return hashlib.sha256(json.dumps(content, sort_keys=True, default=str).encode()).hexdigest()
