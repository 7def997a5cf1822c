"""Rows of the exchange database, written as the standard says: a correction is a tombstone and a new row."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date, datetime
from decimal import Decimal
from typing import Any

from connectors.engineering.cells import SHANGHAI
from connectors.engineering.tables import TOMBSTONE, VALID, exchange
from jietong.errors import UsageError
from jietong.event import derived_id
from jietong.store import Store, Transaction

UPLOAD_NEW = 0
FORM = "%Y-%m-%d %H:%M:%S"


class Exchange:
    """`region`: division code of the city. Each function that writes a row returns its LSH."""

    def __init__(self, store: Store, region: str) -> None:
        self.store, self.region = store, region

    def strike(self, table: str, key: int, now: datetime, reason: str) -> None:
        """A tombstone: the row was never true."""
        with self.store.transaction() as tx:
            self._strike(tx, table, key, now, reason)

    def correct(self, table: str, key: int, now: datetime, reason: str, **cells: Any) -> int:
        """A tombstone and a new row with these cells changed."""
        columns = ", ".join(column for column in exchange.tables[table].c.keys() if column != "LSH")  # noqa: SIM118
        with self.store.transaction() as tx:
            old = tx.execute(f"SELECT {columns} FROM {table} WHERE LSH = :key", {"key": key}).one()
            if old is None:
                raise UsageError(f"{table} has no row {key}")
            self._strike(tx, table, key, now, reason)
            return self._insert(tx, table, dict(zip(columns.split(", "), old, strict=True)) | cells, now)

    def _strike(self, tx: Transaction, table: str, key: int, now: datetime, reason: str) -> None:
        tx.execute(
            f"""UPDATE {table} SET SJYXBS = {TOMBSTONE}, SJWXYY = :reason, SJSCZT = {UPLOAD_NEW}, GXSJ = :now
                WHERE LSH = :key""",
            {"reason": reason, "now": local(now), "key": key},
        )

    def _write(self, table: str, row: Mapping[str, Any], now: datetime, stamped: datetime | None) -> int:
        with self.store.transaction() as tx:
            return self._insert(tx, table, row, now, stamped)

    def _insert(
        self, tx: Transaction, table: str, row: Mapping[str, Any], now: datetime, stamped: datetime | None = None
    ) -> int:
        common = {"XZQHDM": self.region, "SJYXBS": VALID, "SJWXYY": None, "SJSCZT": UPLOAD_NEW, "SBYY": None}
        cells: dict[str, Any] = {**row, **common, "GXSJ": local(stamped or now)}
        cells.setdefault("DFSJZJ", str(derived_id(table, repr(cells))))
        marks = ", ".join(f":{column}" for column in cells)
        sql = f"INSERT INTO {table} ({', '.join(cells)}) VALUES ({marks}) RETURNING LSH"
        return tx.execute(sql, cells).all()[0][0]


def local(moment: datetime) -> str:
    """As the tables have it: the city's time."""
    return moment.astimezone(SHANGHAI).strftime(FORM)


def day(value: date | None) -> str | None:
    return value.isoformat() if value else None


def number(value: Decimal | None) -> str | None:
    """As text: no number of money or place passes through a float."""
    return None if value is None else str(value)
