"""The departments' desk for connection works (占掘路, 绿地, 交通 …): what is asked of them in parallel, and what they decide."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any, NamedTuple

from connectors.engineering.cells import SHANGHAI
from connectors.engineering.rows import Exchange, day, local
from connectors.engineering.tables import (
    BETWEEN,
    DECISION,
    DECISION_WORDS,
    PERMIT,
    PERMIT_NUMBERS,
    PERMIT_TEXTS,
    TOMBSTONE,
)
from jietong.errors import UsageError
from jietong.event import Event
from jietong.store import Store, Transaction, placeholders

OPEN, DECIDED, CANCELLED = "OPEN", "DECIDED", "CANCELLED"
COLUMNS = ("permit", "subject", "status", "round", *PERMIT_TEXTS, *PERMIT_NUMBERS)
NAMED = {"case_id": "case"}
"""Columns that the event calls otherwise."""
SELECT = f"SELECT {', '.join(COLUMNS)} FROM {PERMIT}"
UPSERT = f"""INSERT INTO {PERMIT} ({", ".join(COLUMNS)}) VALUES ({", ".join(f":{c}" for c in COLUMNS)})
ON CONFLICT (permit) DO UPDATE SET {", ".join(f"{c} = :{c}" for c in COLUMNS[1:])}"""
WORDS = {decision: word for word, decision in DECISION_WORDS.items()}
FIRST = ("APPROVED", "REFUSED", "APPLICATION_WITHDRAWN")
"""What ends a request; everything else happens to a permit that was granted."""
HOLDS = ("APPROVED", "EXTENDED", "SUSPENDED", "RESUMED", "CONDITION_MET")
ROUTES = ("FILE", "COMMIT", "APPROVE", "GOVERNMENT", "EMERGENCY")


class WorksPermit(NamedTuple):
    """A permit as a department's people see it; the fields are the columns of `works_permit`."""

    permit: str
    subject: str
    status: str
    round: int
    case_id: str
    operator: str
    utility: str
    works_kind: str
    route: str
    department: str
    parallel_group: str | None
    road: str | None
    road_opened_on: str | None
    road_overhauled_on: str | None
    length_m: str | None
    area_m2: str | None
    depth_m: str | None
    voltage: str | None
    planned_start: str | None
    planned_finish: str | None
    due_on: str | None
    applicant_uscc: str | None
    applicant_name: str | None
    site_regions: str
    authority_region: str
    functional_zone: str | None
    request_id: str
    request_source: str
    decision: str | None
    pipe_dn_mm: int | None
    trees: int | None
    request_sequence: int
    received_at: int
    accepted_at: int | None


class PermitDesk(Exchange):
    """`departments`: what the city calls them, by id. Raises UsageError for what a permit does not allow."""

    def __init__(self, store: Store, region: str, departments: Mapping[str, str]) -> None:
        super().__init__(store, region)
        self.departments = departments

    # -- what comes in -------------------------------------------------------------------------------------------------
    def deliver(self, event: Event, now: datetime) -> None:
        """Take one `works.permit.requested` message: once or many times, in any order, the newest round counts.

        A permit that was granted stays granted; a new round asks again, and is answered again.
        """
        with self.store.transaction() as tx:
            found = _find(tx, event.data["permit"])
            if not _taken(found, event):
                tx.execute(UPSERT, _row(found, event, now))

    def delivered(self, event: Event) -> bool:
        """Whether this message, or a newer one of its permit, was taken."""
        with self.store.snapshot() as tx:
            return _taken(_find(tx, event.data["permit"]), event)

    # -- what its people do --------------------------------------------------------------------------------------------
    def permits(self, *statuses: str) -> list[WorksPermit]:
        """The permits in these statuses, OPEN, DECIDED, CANCELLED (none given: in any), oldest first."""
        named, values = placeholders("s", statuses)
        where = f"WHERE status IN ({named})" if statuses else ""
        with self.store.snapshot() as tx:
            rows = tx.execute(f"{SELECT} {where} ORDER BY received_at, permit", values).all()
        return [WorksPermit(*row) for row in rows]

    def accept_permit(self, permit: str, *, now: datetime) -> None:
        """受理: the papers are in order."""
        with self.store.transaction() as tx:
            self._open(tx, permit)
            tx.execute(f"UPDATE {PERMIT} SET accepted_at = coalesce(accepted_at, :now) WHERE permit = :permit",
                       {"permit": permit, "now": _millis(now)})  # fmt: skip

    def decide_permit(
        self, permit: str, decision: str, *, now: datetime, document: str | None = None, reason: str | None = None,
        route: str | None = None, valid: tuple[date, date] | None = None, conditions: Sequence[str] = (),
        working_days_used: int | None = None, stamped: datetime | None = None,
    ) -> int:  # fmt: skip
        """What a department decides, or what becomes of what it has granted (REVOKED, EXTENDED, SUSPENDED …).

        APPROVED comes with the document's number, REFUSED with a reason. `route`: if it was dealt with otherwise than was
        asked, such as GOVERNMENT (城市道路管理条例 33). `working_days_used`: if they were counted.
        """
        _checked(permit, decision, document, reason, route, conditions)
        with self.store.transaction() as tx:
            found = self._open(tx, permit) if decision in FIRST else _granted(tx, permit)
            tx.execute(f"UPDATE {PERMIT} SET status = :status, decision = :decision WHERE permit = :permit",
                       {"permit": permit, "decision": decision, "status": DECIDED if decision in FIRST else found.status})  # fmt: skip
            accepted = found.accepted_at and datetime.fromtimestamp(found.accepted_at / 1000, UTC).astimezone(SHANGHAI)
            row = {
                "XKBH": permit, "JDLX": WORDS[decision], "JDSJ": local(now), "BLFS": route or found.route, "XKWH": document,
                "SLRQ": day(accepted.date()) if accepted else None, "YXQQ": day(valid[0]) if valid else None,
                "YXQZ": day(valid[1]) if valid else None, "XKTJ": BETWEEN.join(conditions), "LY": reason,
                "SPBMMC": self.departments.get(found.department, found.department), "BLGZR": working_days_used,
                "QQBH": found.request_id, "QQXH": found.request_sequence,
            }  # fmt: skip
            return self._insert(tx, DECISION, row, now, stamped)

    def _open(self, tx: Transaction, permit: str) -> WorksPermit:
        found = _find(tx, permit)
        if found is None:
            raise UsageError(f"permit {permit}: was never asked for")
        if found.status != OPEN:
            raise UsageError(f"permit {permit}: is {found.status.lower()}; nothing is to be decided")
        return found


def _checked(
    permit: str, decision: str, document: str | None, reason: str | None, route: str | None, conditions: Sequence[str]
) -> None:
    if decision not in WORDS:
        raise UsageError(f"permit {permit}: no decision {decision}; there are {', '.join(WORDS)}")
    if decision == "APPROVED" and not document:
        raise UsageError(f"permit {permit}: what is granted has a document's number")
    if decision == "REFUSED" and not reason:
        raise UsageError(f"permit {permit}: what is refused has a reason (行政许可法 38)")
    if route is not None and route not in ROUTES:
        raise UsageError(f"permit {permit}: no route {route}; there are {', '.join(ROUTES)}")
    if any(BETWEEN in condition for condition in conditions):
        raise UsageError(f"permit {permit}: a condition has a {BETWEEN}; make it two conditions")


def _granted(tx: Transaction, permit: str) -> WorksPermit:
    """With the request that was granted: a newer one may be open, or the last called back."""
    found = _find(tx, permit)
    sql = f"""SELECT QQBH, QQXH FROM {DECISION} WHERE XKBH = :permit AND JDLX = :granted AND SJYXBS <> {TOMBSTONE}
              ORDER BY LSH DESC LIMIT 1"""
    grant = tx.execute(sql, {"permit": permit, "granted": WORDS["APPROVED"]}).one()
    if found is None or grant is None or found.decision not in HOLDS:
        raise UsageError(f"permit {permit}: was not granted, or no longer stands")
    return found._replace(request_id=grant[0], request_sequence=grant[1])


def _taken(found: WorksPermit | None, event: Event) -> bool:
    return found is not None and event.data["round"] <= found.round


def _find(tx: Transaction, permit: str) -> WorksPermit | None:
    row = tx.execute(f"{SELECT} WHERE permit = :permit", {"permit": permit}).one()
    return WorksPermit(*row) if row else None


def _row(found: WorksPermit | None, event: Event, now: datetime) -> dict[str, Any]:
    data, cancelled = event.data, event.data["status"] == CANCELLED
    said = {column: _plain(data.get(NAMED.get(column, column))) for column in COLUMNS}
    same = found if data["status"] != "REQUESTED" else None
    return said | {
        "subject": event.subject, "status": CANCELLED if cancelled else OPEN, "request_id": str(event.id),
        "request_sequence": event.sequence, "request_source": event.source,
        "received_at": same.received_at if same else _millis(now), "accepted_at": same.accepted_at if same else None,
        "decision": found.decision if found else None,
    }  # fmt: skip


def _plain(value: Any) -> Any:
    """As a column holds it."""
    match value:
        case Decimal():
            return str(value)
        case date():
            return value.isoformat()
        case list():
            return " ".join(value)  # pyright: ignore[reportUnknownArgumentType]
        case _:
            return value


def _millis(moment: datetime) -> int:
    return round(moment.timestamp() * 1000)
