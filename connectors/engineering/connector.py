"""The engineering platform as a Source: reads a city's exchange database and drafts events; never writes there. And the
departments' desk as a Sink, which takes what is asked of them for connection works."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

from connectors.engineering.cells import SHANGHAI, Row, UnreadableError
from connectors.engineering.context import Contexts, Dialect, fetch
from connectors.engineering.decisions import COLUMNS, TOLD, Teller
from connectors.engineering.desk import PermitDesk
from connectors.engineering.records import Record, record
from connectors.engineering.settled import Settled
from connectors.engineering.tables import CHANGE, DECISION, DOCUMENT, PROGRESS, RED_LINE, SURVEY
from jietong.city import Item
from jietong.event import Draft, Event
from jietong.platform import Reading
from jietong.store import Store, Transaction, placeholders

PAGE = 500
"""Rows taken in one snapshot; no statement gives more than 1,000."""
BEGINNING = "0001-01-01 00:00:00"
FORM = "%Y-%m-%d %H:%M:%S"
LOCAL = (CHANGE, RED_LINE, SURVEY, DECISION)
PERMIT_REQUESTED = "works.permit.requested.v1"

Key = tuple[str, int]
"""A row's table and LSH."""


class EngineeringSource:
    """See `jietong.platform.Source`.

    Order: change stamp (GXSJ), then progress before documents before the platform's own tables, then LSH. A position is a stamp less the
    overlap, and a token of `Settled`: a row that commits late, or with a stamp up to `overlap` old, is read after all;
    an older one is found by `scan`. `clock` is the platform's time: a row stamped in its future does not carry the
    position along. `items`: the city's item catalogue. What happened before `since` is told as `historical`.
    """

    def __init__(
        self,
        store: Store,
        items: Mapping[str, Item],
        clock: Callable[[], datetime],
        *,
        overlap: timedelta = timedelta(minutes=2),
        dialect: Dialect | None = None,
        since: datetime | None = None,
    ) -> None:
        self._store, self._items, self._clock, self._overlap, self._since = store, items, clock, overlap, since
        self._dialect = dialect or Dialect()
        self._settled = Settled()
        self._tables = (PROGRESS, DOCUMENT, *(LOCAL if self._dialect.local else ()))

    def read(self, after: str | None) -> Iterator[Reading]:
        stamp, token = (after or BEGINNING)[: len(BEGINNING)], (after or BEGINNING)[len(BEGINNING) :].strip()
        self._settled.begin(token)
        cursor: tuple[Any, int, int] = (stamp, -1, -1)
        more = True
        while more:
            with self._store.snapshot() as tx:
                changed = self._changed(tx, cursor)
                rows = self._rows(tx, [(self._tables[n], key) for _, n, key in changed])
                new = [row for row in rows if not self._settled.has(row.name, row.digest(TOLD[row.table]))]
                readings = self._readings(tx, new)
            for row, reading in zip(new, readings, strict=True):
                stamp = self._after(row, stamp)
                token = self._settled.give(reading.row, reading.digest, not reading.reason)
                yield replace(reading, position=f"{stamp} {token}")
            cursor, more = (changed[-1], True) if len(changed) == PAGE else (cursor, False)
        self._settled.end()

    def again(self, rows: Sequence[str]) -> Iterator[Reading]:
        for start in range(0, len(rows), PAGE):
            names = rows[start : start + PAGE]
            keys: list[Key] = [(table, int(key)) for table, _, key in (name.partition(":") for name in names)]
            with self._store.snapshot() as tx:
                found = {reading.row: reading for reading in self._readings(tx, self._rows(tx, keys))}
            for name in names:
                yield found.get(name) or self.gone(name, None)

    def scan(self) -> Iterator[Reading]:
        """In the order in which rows were written, progress first: an approval comes before its paper and its end."""
        for table in self._tables:
            last, more = -1, True
            while more:
                with self._store.snapshot() as tx:
                    sql = f"SELECT LSH FROM {table} WHERE LSH > :last ORDER BY LSH LIMIT {PAGE}"
                    keys: list[Key] = [(table, row[0]) for row in tx.execute(sql, {"last": last}).all()]
                    readings = self._readings(tx, self._rows(tx, keys))
                yield from readings
                last, more = (keys[-1][1], True) if len(keys) == PAGE else (last, False)

    def gone(self, row: str, memo: str | None) -> Reading:  # noqa: ARG002 — the port's
        """Nothing: the standard ends and corrects by tombstones, so a row that is not there was archived or lost."""
        return Reading(row, "")

    def _changed(self, tx: Transaction, cursor: tuple[Any, int, int]) -> list[tuple[Any, int, int]]:
        """(stamp, table, LSH) of the rows behind a cursor, of all tables in one order and one view."""
        one = "SELECT GXSJ, {n} AS n, LSH FROM {table} WHERE GXSJ >= :stamp AND (GXSJ, {n}, LSH) > (:stamp, :n, :key)"
        each = " UNION ALL ".join(one.format(n=n, table=table) for n, table in enumerate(self._tables))
        stamp, n, key = cursor
        named = {"stamp": stamp, "n": n, "key": key}
        return [(row[0], row[1], row[2]) for row in tx.execute(f"{each} ORDER BY 1, 2, 3 LIMIT {PAGE}", named).all()]

    def _after(self, row: Row, stamp: str) -> str:
        """Where to go on after a row; an unreadable stamp moves nothing, and no row moves it back."""
        try:
            reached = min(row.stamped, self._clock()).astimezone(SHANGHAI) - self._overlap
        except UnreadableError:
            return stamp
        return max(reached.strftime(FORM), stamp)

    def _rows(self, tx: Transaction, keys: Sequence[Key]) -> list[Row]:
        """The rows of these keys, in their order."""
        wanted: defaultdict[str, list[int]] = defaultdict(list)
        for table, key in keys:
            wanted[table].append(key)
        rows: dict[Key, Row] = {}
        for table, serials in wanted.items():
            marks, named = placeholders("k", serials)
            sql = f"SELECT {', '.join(COLUMNS[table])} FROM {table} WHERE LSH IN ({marks})"
            rows |= {(table, row.key): row for row in fetch(tx, table, COLUMNS[table], sql, named)}
        return [rows[key] for key in keys if key in rows]

    def _readings(self, tx: Transaction, rows: Sequence[Row]) -> list[Reading]:
        contexts = Contexts(tx, rows, self._items, self._dialect, self._since)
        return [self._reading(tx, row, contexts) for row in rows]

    def _reading(self, tx: Transaction, row: Row, contexts: Contexts) -> Reading:
        digest = row.digest(TOLD[row.table])
        try:
            return Reading(row.name, digest, _drafts(tx, row, contexts, digest))
        except UnreadableError as error:
            return Reading(row.name, digest, reason=str(error))


def _drafts(tx: Transaction, row: Row, contexts: Contexts, digest: str) -> list[Draft]:
    """What the row tells. A tombstone that never had parents strikes what was never told."""
    if row.struck and not contexts.known(row):
        return []
    stamp = row.stamped.strftime(FORM)
    about = (row.table, str(row.key), stamp, digest)
    if row.table in (SURVEY, DECISION):
        return list(Record(tx, row, record(row, contexts), about).drafts())
    return Teller(tx, row, contexts.of(row), about).drafts()


class PermitSink:
    """Delivers what is asked of the departments. See `jietong.platform.Sink`."""

    def __init__(self, desk: PermitDesk, clock: Callable[[], datetime]) -> None:
        self.desk, self.clock = desk, clock

    def deliver(self, event: Event) -> None:
        self.desk.deliver(event, self.clock())

    def delivered(self, event: Event) -> bool:
        return self.desk.delivered(event)
