"""A file as a platform: its rows are read through a mapping, and what they tell are drafts."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime
from pathlib import Path
from typing import Any
from uuid import NAMESPACE_URL, uuid5

from jietong.catalog import Catalog
from jietong.city import REQUESTED
from jietong.contract import to_millis
from jietong.event import Draft
from jietong.feed import cells, reader
from jietong.feed.cells import Cell, CellError, Column, Target
from jietong.feed.mapping import HISTORICAL, SUBJECT, Condition, Fact, Mapping
from jietong.feed.reader import Row
from jietong.identifiers import CreditCode, Identifier, InvalidIdentifierError, LocalCode, ProjectCode, UnitCode
from jietong.platform import Reading

SUBJECTS: dict[str, type[Identifier]] = {"project": ProjectCode, "unit": UnitCode, "enterprise": CreditCode}
Told = dict[tuple[str, str], int]
NAMELESS = "#"
"""Begins the name of a bad row whose key does not name it: another file's row of that number is another row."""


@dataclass(frozen=True, slots=True, order=True)
class Reject:
    """A row that stayed out: its number (0: the file's rows together), the column at fault (none: the row), why, and
    the sheet of a workbook or the document of a folder that it is in.

    Never a value.
    """

    row: int
    column: str
    reason: str
    section: str = ""

    @property
    def place(self) -> str:
        """As a spreadsheet writes it: 5, or Sheet!5."""
        return f"{self.section}!{self.row}" if self.section else str(self.row)

    def __str__(self) -> str:
        return ": ".join(
            part for part in (f"row {self.place}" if self.row else "file", self.column, self.reason) if part
        )


@dataclass(frozen=True, slots=True)
class _Plan:
    """A fact with its fields looked up once."""

    fact: Fact
    type: str
    columns: Sequence[Target]
    constants: Sequence[tuple[str, Any]]
    derived: Sequence[tuple[str, Sequence[str]]]
    time: Target | None
    historical: bool
    """Whether its type tells what is for the record only from what is not."""


class Feed:
    """See `jietong.platform.Source`. Every read is of the whole file; `rejects` are those of the last scan.

    A row's digest is of its mapped cells and of what the mapping makes of them: read otherwise by a
    changed mapping, it is told anew. `told`: per (type, subject) when the last thing
    told happened, in milliseconds; for documents.
    """

    def __init__(
        self, path: Path, mapping: Mapping, catalog: Catalog, clock: Callable[[], datetime], told: Told | None = None
    ) -> None:
        self.path, self.mapping, self.clock, self.told = path, mapping, clock, told or {}
        self.rejects: list[Reject] = []
        self.nameless = 0
        self.rows: dict[str, Row] = {}
        self._order = [cells.target("order", "date", how, mapping.zoneinfo) for how in mapping.order]
        self._facts = [_planned(fact, mapping, catalog) for fact in mapping.facts]
        self._gone = [_planned(mapping.gone, mapping, catalog)] if mapping.gone else []

    def read(self, after: str | None) -> Iterator[Reading]:
        del after  # a file has no position to go on from
        return self.scan()

    def again(self, rows: Sequence[str]) -> Iterable[Reading]:
        """None: a held row is read again with its file."""
        del rows
        return ()

    def scan(self) -> Iterator[Reading]:
        """Raises UsageError if the file is not what the mapping describes."""
        self.rejects, self.nameless, self.rows = [], 0, {}
        if self.mapping.format == "documents":
            yield from self._history()
            return
        firsts: dict[str, tuple[str, str]] = {}
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

    # -- documents -----------------------------------------------------------------------------------------------------
    def _history(self) -> Iterator[Reading]:
        """What all documents tell, oldest first: each fact is a row of its own, whichever documents tell it."""
        facts: list[tuple[datetime, int, str, Draft]] = []
        for row in reader.rows(self.path, self.mapping):
            try:
                if row.fault:
                    raise row.fault
                key, subject = self._key(row.cells), self._subject(row.cells)
                plans = [(n, plan) for n, plan in enumerate(self._facts) if _all(plan.fact.when, row.cells)]
                drafts = [(n, self._draft(plan, subject, row.cells)) for n, plan in plans]
            except CellError as error:
                yield self._rejected(row, "", error)
                continue
            for n, draft in drafts:
                name = f"{key}/{_digest([draft.type, draft.subject, draft.time, draft.data])}"
                self.rows.setdefault(name, row)
                facts.append((draft.time, n, name, draft))
        for _, _, name, draft in sorted(facts, key=lambda fact: fact[:3]):
            told = self.told.get((draft.type, draft.subject))
            late = told is not None and to_millis(draft.time) < told
            yield Reading(name, name.rpartition("/")[2], [] if late else [replace(draft, about=(name,))])

    # -- a row ---------------------------------------------------------------------------------------------------------
    def _reading(self, row: Row, firsts: dict[str, tuple[str, str]]) -> Reading:
        name = ""
        try:
            if row.fault:
                raise row.fault
            key = name = self._named(row, firsts)
            self.rows[key] = row
            drafts = self._drafts(self._facts, row.cells)
        except CellError as error:
            return self._rejected(row, name, error)
        digest = _digest([row.cells, [(draft.subject, draft.data) for draft in drafts]])
        drafts = [replace(draft, about=(key, digest, str(n))) for n, draft in enumerate(drafts)]
        memo = json.dumps(row.cells, ensure_ascii=False) if self.mapping.complete else None
        return Reading(key, digest, drafts, memo=memo)

    def _rejected(self, row: Row, name: str, error: CellError) -> Reading:
        reject = Reject(row.number, error.column, error.reason, row.section)
        self.rejects.append(reject)
        self.nameless += not name
        return Reading(name or f"{NAMELESS}{reject.place}", _digest(row.cells), reason=str(reject))

    def _named(self, row: Row, firsts: dict[str, tuple[str, str]]) -> str:
        """The row's key. Raises CellError if an earlier row of the file has it, with other content."""
        key = self._key(row.cells)
        content = _digest(row.cells)
        first, same = firsts.setdefault(key, (Reject(row.number, "", "", row.section).place, content))
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
        if plan.historical:
            data[HISTORICAL] = self._historical(plan.fact, dated, row)
        for name, parts in plan.derived:
            _put(data, name, _identity(subject, data, parts))
        addressed = data["operator"] if plan.type == REQUESTED else None
        return Draft(type=plan.type, subject=subject, time=dated or self.clock(), data=data, operator=addressed)

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


def _planned(fact: Fact, mapping: Mapping, catalog: Catalog) -> _Plan:
    """What the fact says wins over what the mapping says of all; of the mapping, columns win over constants."""
    type, zone, how = mapping.kind(fact), mapping.zoneinfo, Column(column="")
    fields = cells.fields(catalog.schemas[type][-1].definition)
    columns = {
        name: column for name, column in {**mapping.columns, **fact.columns}.items() if name not in fact.constants
    }
    constants = {**mapping.constants, **fact.constants}
    derived = {**mapping.derived, **fact.derived}
    return _Plan(
        fact,
        type,
        [Target(fields[name], column, zone) for name, column in columns.items() if name in fields],
        [
            (name, Target(fields[name], how, zone).constant(given))
            for name, given in constants.items()
            if name in fields
        ],
        [(name, parts) for name, parts in derived.items() if name in fields],
        cells.target("time", "timestamp-millis", fact.time, zone) if fact.time else None,
        HISTORICAL in fields,
    )


def _identity(subject: str, data: dict[str, Any], parts: Sequence[str]) -> str:
    """See `jietong.feed.mapping.Derived`."""
    given = [subject if part == SUBJECT else _found(data, part) for part in parts]
    return str(uuid5(NAMESPACE_URL, "\x1f".join("" if value is None else str(value) for value in given)))


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


def _found(data: dict[str, Any], name: str) -> Any:
    record, dot, inner = name.partition(".")
    return _found(data.get(record) or {}, inner) if dot else data.get(name)


def _put(data: dict[str, Any], name: str, value: Any) -> None:
    record, dot, inner = name.partition(".")
    if dot:
        _put(data.setdefault(record, {}), inner, value)
    else:
        data[record] = value


def _digest(content: Any) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True, default=str).encode()).hexdigest()
