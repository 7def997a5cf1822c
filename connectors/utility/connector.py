"""An operator's system as a platform that is not ours: requests are delivered to it, its steps are read back."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

from connectors.utility.platform import Platform
from connectors.utility.tables import PROGRESS
from jietong.errors import InvalidEventError
from jietong.event import Draft, Event
from jietong.platform import Reading
from jietong.store import Row, Store, placeholders

REQUESTED, PROGRESSED = "utility.connection.requested.v1", "utility.connection.progressed.v1"
OVERLAP, LONG_OVERLAP, LONG_EVERY = 1_000, 30_000, 10
"""Milliseconds read again, so that a step that committed late is seen: a short overlap at each look, a long one at every
tenth, which costs little and finds what a stalled disk kept back."""
PAGE = 1000
SELECT = f"SELECT {', '.join(PROGRESS)} FROM progress"
NEXT = f"{SELECT} WHERE (stamp, n) > (:stamp, :n) ORDER BY stamp, n LIMIT :limit"


class OperatorSink:
    """Delivers the requests addressed to one operator. See `jietong.platform.Sink`."""

    def __init__(self, operator: str, platform: Platform, clock: Callable[[], datetime]) -> None:
        self.operator, self.platform, self.clock = operator, platform, clock

    def deliver(self, event: Event) -> None:
        """Raises InvalidEventError for another operator's request: it is none of this one's business."""
        if event.data["operator"] != self.operator:
            raise InvalidEventError("operator: addressed to another one")
        self.platform.deliver(event, self.clock())

    def delivered(self, event: Event) -> bool:
        return self.platform.delivered(event)


class OperatorSource:
    """Reads one operator's steps. See `jietong.platform.Source`. A position is the last change stamp seen."""

    def __init__(self, operator: str, store: Store) -> None:
        self.operator, self.store, self._looks = operator, store, 0

    def read(self, after: str | None) -> Iterable[Reading]:
        overlap = OVERLAP if self._looks % LONG_EVERY else LONG_OVERLAP
        self._looks += 1
        return self._from(0 if after is None else int(after) - overlap)

    def again(self, rows: Sequence[str]) -> Iterable[Reading]:
        numbers, named = placeholders("n", [int(row.removeprefix("progress/")) for row in rows])
        with self.store.snapshot() as tx:
            found = tx.execute(f"{SELECT} WHERE n IN ({numbers}) ORDER BY stamp, n", named).all() if rows else []
        return [self._reading(row) for row in found]

    def scan(self) -> Iterable[Reading]:
        return self._from(0)

    def gone(self, row: str, memo: str | None) -> Reading:
        """A step that vanished ends nothing: what was done was done."""
        return Reading(row, "", memo=memo)

    def _from(self, stamp: int) -> Iterator[Reading]:
        """Page by page: no transaction is open while the reader works."""
        at = {"stamp": stamp, "n": 0, "limit": PAGE}
        while True:
            with self.store.snapshot() as tx:
                page = tx.execute(NEXT, at).all()
            yield from map(self._reading, page)
            if len(page) < PAGE:
                return
            last = _named(page[-1])
            at |= {"stamp": last["stamp"], "n": last["n"]}

    def _reading(self, row: Row) -> Reading:
        step = _named(row)
        name, digest = f"progress/{step['n']}", hashlib.sha256(repr(row).encode()).hexdigest()[:32]
        draft = Draft(
            type=PROGRESSED, subject=step["subject"], time=datetime.fromtimestamp(step["at"] / 1000, UTC),
            data=self._data(step), about=("progress", str(step["n"]), str(step["stamp"]), digest),
        )  # fmt: skip
        return Reading(name, digest, [draft], position=str(step["stamp"]))

    def _data(self, step: Mapping[str, Any]) -> dict[str, Any]:
        copied = ("business_kind", "phase", "work", "status", "reason", "answers_request", "answers_sequence",
                  "segment_owner", "account", "promised_days", "protection")  # fmt: skip
        same = {name: step[name] for name in copied}
        visit = step["visit_demanded"]
        return {"case": step["case_id"], "operator": self.operator, **same, "plan": _plan(step),
                "visit_demanded": None if visit is None else bool(visit)}  # fmt: skip


def _named(row: Row) -> dict[str, Any]:
    return dict(zip(PROGRESS, row, strict=True))


def _plan(step: Mapping[str, Any]) -> dict[str, Any] | None:
    if step["works_external"] is None:
        return None
    decimals = {
        name: None if step[name] is None else Decimal(step[name]) for name in ("length_m", "fee", "area_m2", "depth_m")
    }
    same = {
        name: step[name]
        for name in ("access_point", "capacity", "days", "boundary", "road", "pipe_dn_mm", "voltage", "trees")
    }
    days = {
        name: date.fromisoformat(step[name]) if step[name] else None for name in ("planned_start", "planned_finish")
    }
    kinds = step["works_kinds"].split() if step["works_kinds"] else None
    return {"works_external": bool(step["works_external"]), **same, **decimals, **days, "works_kinds": kinds,
            "emergency": bool(step["emergency"])}  # fmt: skip
