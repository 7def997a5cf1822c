"""What stands round a row: its item, its 工程 and project, the developer. Children may arrive before their parents."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from functools import cached_property
from typing import Any, TypeVar

from connectors.engineering.cells import Row, UnreadableError
from connectors.engineering.tables import ITEM, PARTY, PERMIT, PROJECT, RED_LINE, STAGE, STAGE_ITEM, SUPPLEMENT
from jietong import geometry
from jietong.city import Item
from jietong.identifiers import CreditCode, DivisionCode, Identifier, InvalidIdentifierError, ProjectCode
from jietong.store import Transaction, placeholders

MOST = 1000
"""Rows one statement reads."""
LONGEST_RED_LINE = 20_000
COMMON = ("LSH", "XZQHDM", "SJYXBS", "GXSJ")
COLUMNS: Mapping[str, Sequence[str]] = {
    ITEM: (*COMMON, "GCDM", "SPSXSLBM", "SPSXBM", "SPLCBM", "SPLCBBH", "SPBMMC", "SLFS"),
    PROJECT: (
        *COMMON,
        "XMDM",
        "XMMC",
        "GCDM",
        "GCFW",
        "QJDGCDM",
        "GBHY",
        "NKGSJ",
        "NJCSJ",
        "ZTZE",
        "JSDDXZQH",
        "JSDD",
        "XMJSDDX",
        "XMJSDDY",
        "JSGMJNR",
        "YDMJ",
        "JZMJ",
    ),
    PARTY: (*COMMON, "GCDM", "DWTYSHXYDM", "DWMC"),
    SUPPLEMENT: (*COMMON, "GCDM", "SPSXSLBM", "FQXH", "LDMC", "QSCL", "BQQX"),
    RED_LINE: (*COMMON, "GCDM", "SPSXSLBM", "HX", "HXZBX", "HXJD", "HXLY"),
    PERMIT: ("permit", "subject", "case_id", "operator", "works_kind", "route", "site_regions", "functional_zone"),
    STAGE_ITEM: ("SPLCBM", "SPLCBBH", "SPSXBM", "SPSXMC", "DYBZSPJDXH"),
}
STAGES = ("UNKNOWN", "LAND_USE", "ENGINEERING_PLANNING", "CONSTRUCTION", "ACCEPTANCE")
ACCEPTANCE_MODES = {1: "FULL", 2: "TOLERANT", 3: "COMMITMENT"}
DEGREES = {"XMJSDDX": 180, "XMJSDDY": 90}
SEPARATORS = re.compile(r"[\s,，;；、|/]+")


@dataclass(frozen=True, slots=True)
class Dialect:
    """Where one city's filling of the standard's tables differs from another's; plain data.

    `developer`: the DWLX of the developer (建设单位). `acceptance`: 受理方式 (SLFS) → acceptance basis, other numbers
    say nothing. `local`: whether this platform has tables of its own beside the standard's.
    """

    developer: int = 1
    acceptance: Mapping[int, str] = field(default_factory=lambda: dict(ACCEPTANCE_MODES))
    local: bool = True


@dataclass(frozen=True)
class Context:
    """A row's surroundings. Its properties raise UnreadableError, each when it is asked for."""

    row: Row
    item: Row
    work: Row
    developer: Row | None
    supplement: Row | None
    red_line: Row | None
    origins: Sequence[Row]
    definition: Row | None
    catalogued: Item | None
    dialect: Dialect
    since: datetime | None

    @cached_property
    def subject(self) -> ProjectCode:
        return project_code(self.work)

    @cached_property
    def meaning(self) -> Item:
        """What the city's catalogue says of the item; of one it does not list, what the process definition says."""
        if self.catalogued:
            return self.catalogued
        if self.definition is None:
            return Item(name="", stage=STAGES[0], decision_kind="OTHER")
        number = self.definition.whole("DYBZSPJDXH") or 0
        stage = STAGES[number] if 0 <= number < len(STAGES) else STAGES[0]
        return Item(name=self.definition.text("SPSXMC", 200) or "", stage=stage, decision_kind="OTHER")

    @cached_property
    def acceptance_basis(self) -> str:
        return self.dialect.acceptance.get(self.item.whole("SLFS") or 0, "UNKNOWN")

    @cached_property
    def phase(self) -> int:
        return (self.supplement and self.supplement.whole("FQXH")) or 1

    @cached_property
    def department(self) -> str | None:
        return self.item.text("SPBMMC", 200)

    @cached_property
    def holder(self) -> dict[str, str | None]:
        """The developer."""
        uscc, name = organisation(self.developer, "DWTYSHXYDM", "DWMC") if self.developer else (None, None)
        return {"uscc": uscc, "name": name}

    @cached_property
    def previous_works(self) -> list[str | None]:
        """前阶段工程. The column holds one code: a 工程 that came of several (a merger) has a valid row for each."""
        return [row.text("QJDGCDM", 100) for row in self.origins] or [None]

    def where(self, at: datetime) -> dict[str, Any]:
        """The common tail of every event, of something that happened at `at`."""
        return {
            "site_regions": site_regions(self.work),
            "authority_region": authority(self.row),
            "item_code": self.item.code("SPSXBM"),
            "historical": self.since is not None and at < self.since,
        }

    @cached_property
    def facts(self) -> dict[str, Any]:
        """ProjectFacts, as far as the tables say. A field they do not know is left out, never guessed."""
        work = self.work
        known: dict[str, Any] = {
            "name": work.text("XMMC", 500),
            "kind": work.text("GBHY", 50),
            "address": work.text("JSDD", 500),
            "longitude": _degrees(work, "XMJSDDX"),
            "latitude": _degrees(work, "XMJSDDY"),
            "total_investment": work.number("ZTZE", 18, 6),
            "land_area": work.number("YDMJ", 18, 2),
            "floor_area": work.number("JZMJ", 18, 2),
            "planned_start": work.day("NKGSJ"),
            "planned_finish": work.day("NJCSJ"),
            "content": work.text("JSGMJNR", 4000),
            "applicant_uscc": self.holder["uscc"],
            "applicant_name": self.holder["name"],
            **(_red_line(self.red_line) if self.red_line else {}),
        }
        return {name: value for name, value in known.items() if value is not None}


class Contexts:
    """The surroundings of one page of rows, a statement a table, each giving the newest valid row of its key."""

    def __init__(
        self, tx: Transaction, rows: Iterable[Row], items: Mapping[str, Item], dialect: Dialect, since: datetime | None
    ) -> None:
        rows = list(rows)
        self._catalogue, self._dialect, self._since = items, dialect, since
        instances, works = _values(rows, "SPSXSLBM"), _values(rows, "GCDM")
        self._items = _newest(tx, ITEM, ("GCDM", "SPSXSLBM"), "SPSXSLBM", instances)
        self._works = _newest(tx, PROJECT, ("GCDM",), "GCDM", works)
        developer = f"AND DWLX = {int(dialect.developer)} AND SJYXBS <> 0"
        self._developers = _newest(tx, PARTY, ("GCDM",), "GCDM", works, order="LSH", where=developer)
        self._supplements, self._red_lines = (
            _newest(tx, table, ("GCDM", "SPSXSLBM"), "SPSXSLBM", instances) if dialect.local else {}
            for table in (SUPPLEMENT, RED_LINE)
        )
        named = "AND SJYXBS <> 0 AND QJDGCDM <> ''"
        self._origins = sorted(
            _newest(tx, PROJECT, ("GCDM", "QJDGCDM"), "GCDM", works, where=named).values(), key=lambda row: row.key
        )
        self._permits = _permits(tx, _values(rows, "XKBH"))
        self._definitions = _definitions(tx, _values(self._items.values(), "SPSXBM") - items.keys())

    def known(self, row: Row) -> bool:
        """Whether its parents are there, valid or not."""
        cells = row.cells
        if "XKBH" in cells:
            return (cells["XKBH"],) in self._permits
        item = (cells["GCDM"], cells.get("SPSXSLBM"))
        return (cells["GCDM"],) in self._works and ("SPSXSLBM" not in cells or item in self._items)

    def of(self, row: Row) -> Context:
        """Raises UnreadableError for an orphan: a valid row waits for valid parents, a tombstone's may be struck."""
        work, instance = row.code("GCDM"), row.code("SPSXSLBM")
        item = self._items.get((work, instance))
        if item is None or (item.struck and not row.struck):
            raise row.bad("SPSXSLBM", f"no valid row of this item and 工程 in {ITEM} yet")
        project, code, red_line = self.work(row), item.cells["SPSXBM"], self._red_lines.get((work, instance))
        return Context(
            row,
            item,
            project,
            self._developers.get((work,)),
            self._supplements.get((work, instance)),
            red_line if red_line and not red_line.struck else None,
            [origin for origin in self._origins if origin.cells["GCDM"] == work],
            self._definitions.get((item.cells["SPLCBM"], item.cells["SPLCBBH"], code)),
            self._catalogue.get(code),
            self._dialect,
            self._since,
        )

    def work(self, row: Row) -> Row:
        """The 工程 of a row. Raises UnreadableError as `of`."""
        work = self._works.get((row.code("GCDM"),))
        if work is None or (work.struck and not row.struck):
            raise row.bad("GCDM", f"no valid row of this 工程 in {PROJECT} yet")
        return work

    def permit(self, row: Row) -> Row:
        """What was asked of the department that decided. Raises UnreadableError if nothing was."""
        asked = self._permits.get((row.code("XKBH"),))
        if asked is None:
            raise row.bad("XKBH", "this permit was never asked for")
        return asked

    def historical(self, at: datetime) -> bool:
        return self._since is not None and at < self._since


Found = dict[tuple[Any, ...], Row]
Kind = TypeVar("Kind", bound=Identifier)


def _newest(
    tx: Transaction,
    table: str,
    key: Sequence[str],
    by: str,
    values: Collection[str],
    *,
    order: str = "coalesce(SJYXBS, -1) DESC, LSH DESC",  # without a flag last: databases do not agree where null stands
    where: str = "",
) -> Found:
    """One row of each key: a valid one before a tombstone, then the one written last, unless ordered otherwise."""
    if not values:
        return {}
    columns, (marks, named) = ", ".join(COLUMNS[table]), placeholders("v", sorted(values, key=str))
    place = f"ROW_NUMBER() OVER (PARTITION BY {', '.join(key)} ORDER BY {order}) AS place"
    sql = f"""SELECT {columns} FROM (SELECT {columns}, {place} FROM {table} WHERE {by} IN ({marks}) {where}) AS newest
              WHERE place = 1 LIMIT {MOST}"""
    return _keyed(fetch(tx, table, COLUMNS[table], sql, named), key)


def _permits(tx: Transaction, permits: Collection[str]) -> Found:
    if not permits:
        return {}
    marks, named = placeholders("v", sorted(permits, key=str))
    sql = f"SELECT {', '.join(COLUMNS[PERMIT])} FROM {PERMIT} WHERE permit IN ({marks}) LIMIT {MOST}"
    return _keyed(fetch(tx, PERMIT, COLUMNS[PERMIT], sql, named), ("permit",))


def _definitions(tx: Transaction, codes: Collection[str]) -> Found:
    if not codes:
        return {}
    marks, named = placeholders("v", sorted(codes, key=str))
    sql = f"""SELECT i.SPLCBM, i.SPLCBBH, i.SPSXBM, MIN(i.SPSXMC), MIN(s.DYBZSPJDXH) FROM {STAGE_ITEM} i JOIN {STAGE} s
              ON s.SPLCBM = i.SPLCBM AND s.SPLCBBH = i.SPLCBBH AND s.SPJDXH = i.SPJDXH
              WHERE i.SPSXBM IN ({marks}) AND i.SJYXBS <> 0 AND s.SJYXBS <> 0
              GROUP BY i.SPLCBM, i.SPLCBBH, i.SPSXBM LIMIT {MOST}"""
    return _keyed(fetch(tx, STAGE_ITEM, COLUMNS[STAGE_ITEM], sql, named), ("SPLCBM", "SPLCBBH", "SPSXBM"))


def fetch(tx: Transaction, table: str, columns: Sequence[str], sql: str, named: Mapping[str, Any]) -> list[Row]:
    """The rows of a statement that selects these columns."""
    return [Row(table, dict(zip(columns, cells, strict=True))) for cells in tx.execute(sql, named).all()]


def _keyed(rows: Iterable[Row], key: Sequence[str]) -> Found:
    return {tuple(row.cells[column] for column in key): row for row in rows}


def _values(rows: Iterable[Row], column: str) -> set[str]:
    return {cell for row in rows if (cell := row.cells.get(column)) is not None}


def site_regions(work: Row) -> list[str]:
    """A linear project crosses several divisions."""
    sites = [word for word in SEPARATORS.split(work.text("JSDDXZQH", 10_000) or "") if word]
    return [str(_identifier(DivisionCode, work, "JSDDXZQH", site)) for site in sites]


def authority(row: Row) -> str:
    """The division of the authority that wrote a row."""
    return _identifier(DivisionCode, row, "XZQHDM", row.code("XZQHDM"))[:6]


def project_code(work: Row) -> ProjectCode:
    return _identifier(ProjectCode, work, "XMDM", work.code("XMDM"))


def organisation(row: Row, code: str, name: str) -> tuple[str | None, str | None]:
    """Credit code and name. Without a valid code it may be a person, whose number and name never leave."""
    number = row.text(code, 100)
    return (number, row.text(name, 500)) if _is_credit_code(number) else (None, None)


def _red_line(row: Row) -> dict[str, Any]:
    """A boundary that is no polygon says nothing: it keeps no approval back, and its own row is held."""
    try:
        return red_line(row)
    except UnreadableError:
        return {}


def red_line(row: Row) -> dict[str, Any]:
    """Raises UnreadableError if it is no polygon on the earth."""
    wkt = row.text("HX", LONGEST_RED_LINE)
    if wkt is None:
        raise row.bad("HX", "missing")
    if geometry.problem(wkt):
        raise row.bad("HX", "no polygon (WKT, longitude and latitude in degrees)")
    return {
        "red_line": wkt,
        "red_line_crs": row.text("HXZBX", 50),
        "red_line_accuracy_m": row.number("HXJD", 8, 2),
        "red_line_source": row.text("HXLY", 200),
    }


def _identifier(kind: type[Kind], row: Row, column: str, text: str) -> Kind:
    try:
        return kind(text)
    except InvalidIdentifierError as error:
        raise row.bad(column, str(error)) from None


def _is_credit_code(text: str | None) -> bool:
    try:
        return bool(text and CreditCode(text))
    except InvalidIdentifierError:
        return False


def _degrees(work: Row, column: str) -> Decimal | None:
    """Many systems keep metres of a projection in these columns: those are no degrees, so nothing is known."""
    number = work.number(column, 18, 6)
    return number if number is not None and abs(number) <= DEGREES[column] else None
