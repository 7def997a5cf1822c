"""The stand-in for an operator's own system: it takes messages for its cases, and its people work on them."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from typing import Any, NamedTuple

from connectors.utility.tables import CASE, PROGRESS
from jietong.errors import RejectedError, RetriableError, UsageError
from jietong.event import Event
from jietong.store import Store, Transaction, placeholders

LINES = ("PROTECT", "RELOCATE", "CLOSE")
"""Business on lines that are there already: nothing is connected, it ends with the works."""
ENDS = ("CONNECTED", "NOT_NEEDED", "DECLINED", "REFUSED", "LAPSED")
STOPPED = ("SUSPENDED", "CANCELLED")
"""What a request may say that stops the work on a case that has not ended."""
ACKNOWLEDGED = (*STOPPED, "RESUMED")
OPEN = ("LEAD", "CONTACTED", "ACCEPTED", "PLAN_REPLIED", "CONTRACTED", "WORKS_STARTED", "WORKS_FINISHED", "INSPECTED")
FOLLOWS: dict[str, tuple[str, ...]] = {
    "CONTACTED": ("LEAD", "CONTACTED"),
    "ACCEPTED": ("LEAD", "CONTACTED"),
    "PLAN_REPLIED": ("ACCEPTED", "PLAN_REPLIED", "CONTRACTED"),
    "CONTRACTED": ("PLAN_REPLIED",),
    "WORKS_STARTED": ("ACCEPTED", "PLAN_REPLIED", "CONTRACTED"),
    "WORKS_FINISHED": ("WORKS_STARTED",),
    "INSPECTED": ("PLAN_REPLIED", "CONTRACTED", "WORKS_FINISHED"),
    "CONNECTED": ("ACCEPTED", "INSPECTED"),  # a small user is accepted and connected; a large one inspected before
    "NOT_NEEDED": OPEN,
    "DECLINED": OPEN,
    "REFUSED": OPEN,
    "LAPSED": OPEN,
}
"""Which steps each may follow."""
OF_LINES: dict[str, tuple[str, ...]] = {
    "WORKS_FINISHED": ("ACCEPTED", "PLAN_REPLIED", "CONTRACTED", "WORKS_STARTED"),
    "INSPECTED": (),
    "CONNECTED": (),
}
OF_PROTECTION: dict[str, tuple[str, ...]] = {
    "PLAN_REPLIED": ("LEAD", "CONTACTED", "ACCEPTED"),
    "NOT_NEEDED": ("LEAD", "CONTACTED", "ACCEPTED"),
}
OWNER = {
    "CONTACTED": "CUSTOMER", "ACCEPTED": "UTILITY", "PLAN_REPLIED": "CUSTOMER", "CONTRACTED": "UTILITY",
    "WORKS_STARTED": "UTILITY", "WORKS_FINISHED": "UTILITY", "INSPECTED": "UTILITY",
}  # fmt: skip
"""Whose time follows a step; after an end nobody's."""


@dataclass(frozen=True, slots=True)
class Plan:
    """供应方案: how it would connect. Length in m, fee in CNY, working days until connected."""

    works_external: bool
    access_point: str | None = None
    capacity: str | None = None
    length_m: Decimal | None = None
    fee: Decimal | None = None
    days: int | None = None
    boundary: str | None = None
    works_kinds: Sequence[str] = ()
    road: str | None = None
    area_m2: Decimal | None = None
    depth_m: Decimal | None = None
    pipe_dn_mm: int | None = None
    voltage: str | None = None
    trees: int | None = None
    emergency: bool = False
    planned_start: date | None = None
    planned_finish: date | None = None


class Case(NamedTuple):
    """A case as the operator's people see it; the fields are the columns of `case_`."""

    case_id: str
    subject: str
    utility: str
    business_kind: str
    phase: int
    work: str | None
    status: str
    done: str
    asked: str
    round: int
    request_id: str
    request_sequence: int
    request_source: str
    received_at: int
    triggered_at: int
    contact_within_hours: int | None
    customer_role: str
    demand_basis: str
    name: str | None
    address: str | None
    site_regions: str
    facts: str
    answer_by: int | None
    plan_days: int | None
    connect_days: int | None
    fee: str | None
    boundary: str | None
    missing: str | None
    missing_due: str | None
    permits: str | None
    permits_reason: str | None
    continues: str | None
    refused: str | None
    since: int
    contact_name: str | None
    contact_phone: str | None


class Platform:
    """One operator's system. Every step takes `now` (aware) and is one transaction.

    Raises UsageError for a step that the case does not allow: it is not known, cancelled, suspended, or not that far.
    `opens`: what opens a sealed contact of this subject to this operator; None where it holds no key.
    """

    def __init__(
        self, store: Store, sleep: Callable[[float], object] = time.sleep,
        opens: Callable[[str, Mapping[str, Any]], str | None] = lambda _subject, _sealed: None,
    ) -> None:  # fmt: skip
        self.store, self.sleep, self.opens = store, sleep, opens

    # -- what comes in -----------------------------------------------------------------------------------------------
    def deliver(self, event: Event, now: datetime) -> None:
        """Take one `utility.connection.requested` message: once or many times, in any order, the same effect.

        Raises RejectedError for a blocked subject, RetriableError while away.
        """
        self._answer()
        with self.store.transaction() as tx:
            if _received(tx, event):
                return
            if tx.execute("SELECT 1 FROM blocked WHERE subject = :subject", {"subject": event.subject}).one():
                raise RejectedError("the operator refuses this subject for now")
            found = _find(tx, event.data["case"])
            effect = "opened" if found is None else "stale" if _stale(found, event) else "updated"
            if effect != "stale":
                row = _row(tx, found, event, now) | self._contact(event)
                tx.execute(
                    UPSERT, row | (_taken_back(tx, row, found, event.data) if event.data["refused_step"] else {})
                )
                if not event.data["refused_step"]:
                    _echo(tx, event.data["case"], now)
            tx.execute(RECEIPT, {"event": str(event.id), "case": event.data["case"], "sequence": event.sequence,
                                 "now": _millis(now), "effect": effect})  # fmt: skip

    def delivered(self, event: Event) -> bool:
        """Whether this message was taken. Raises RetriableError while away."""
        self._answer()
        with self.store.snapshot() as tx:
            return _received(tx, event)

    def _contact(self, event: Event) -> dict[str, Any]:
        """What the company opened to this operator; nothing once it has withdrawn."""
        given = event.data["authorised"] or ()
        return {
            name: self.opens(event.subject, event.data["project"][name]) if name in given else None for name in CONTACT
        }

    # -- what its people do ------------------------------------------------------------------------------------------
    def case(self, case: str) -> Case | None:
        with self.store.snapshot() as tx:
            return _find(tx, case)

    def protections(self) -> dict[str, str]:
        """case → what was answered to its protection request."""
        with self.store.snapshot() as tx:
            rows = tx.execute(
                "SELECT case_id, protection FROM progress WHERE protection IS NOT NULL ORDER BY n DESC"
            ).all()
            return {row[0]: row[1] for row in rows}

    def cases(self, *statuses: str) -> list[Case]:
        """The cases in these statuses (none given: in any), oldest first."""
        named, values = placeholders("s", statuses)
        where = f"WHERE status IN ({named})" if statuses else ""
        with self.store.snapshot() as tx:
            rows = tx.execute(f"SELECT {', '.join(CASE)} FROM case_ {where} ORDER BY received_at, case_id", values)
            return [Case(*row) for row in rows.all()]

    def contact(self, case: str, *, now: datetime, visit_demanded: bool = False) -> None:
        """主动服务: the operator has called the company. `visit_demanded`: it asked the applicant to attend a survey."""
        self._step(case, "CONTACTED", now, visit_demanded=int(visit_demanded))

    def accept(self, case: str, *, now: datetime, promised_days: int | None = None) -> None:
        """受理: the customer has applied; the promised working days begin."""
        self._step(case, "ACCEPTED", now, promised_days=promised_days)

    def reply(self, case: str, plan: Plan, *, now: datetime) -> None:
        """答复供应方案. A new plan replaces the one before."""
        self._step(case, "PLAN_REPLIED", now, **_columns(plan))

    def protect(self, case: str, answer: str, *, now: datetime, plan: Plan | None = None) -> None:
        """Before anyone digs: NONE of its lines lie there, PROTECT them, or MOVE them (燃气管理条例 37, 排水条例 43, 供水条例 30-31)."""
        if answer not in ("NONE", "PROTECT", "MOVE"):
            raise UsageError(f"case {case}: a protection request is answered NONE, PROTECT or MOVE")
        status = "NOT_NEEDED" if answer == "NONE" else "PLAN_REPLIED"
        self._step(case, status, now, protection=answer, **(_columns(plan) if plan else {}))

    def contract(self, case: str, *, now: datetime) -> None:
        self._step(case, "CONTRACTED", now)

    def start_works(self, case: str, *, now: datetime, force: bool = False) -> None:
        """Raises UsageError while a permit of the works is not granted; `force` digs all the same."""
        self._step(case, "WORKS_STARTED", now, unpermitted=force)

    def finish_works(self, case: str, *, now: datetime) -> None:
        self._step(case, "WORKS_FINISHED", now)

    def inspect(self, case: str, *, now: datetime) -> None:
        """The customer's installation was found safe (电力供应与使用条例 24; water: the pipe it built, 供水条例 28)."""
        self._step(case, "INSPECTED", now)

    def connect(self, case: str, account: str, *, now: datetime) -> None:
        """接通, under an account number (户号)."""
        self._step(case, "CONNECTED", now, account=account)

    def not_needed(self, case: str, *, now: datetime, reason: str | None = None) -> None:
        """Nothing has to be done: no line lies there, or there is a supply already."""
        self._step(case, "NOT_NEEDED", now, reason=reason)

    def decline(self, case: str, reason: str, *, now: datetime) -> None:
        """The customer does not want it."""
        self._step(case, "DECLINED", now, reason=reason)

    def refuse(self, case: str, reason: str, *, now: datetime) -> None:
        """The operator will not do it."""
        self._step(case, "REFUSED", now, reason=reason)

    def lapse(self, case: str, reason: str, *, now: datetime) -> None:
        """The application or the plan ran out."""
        self._step(case, "LAPSED", now, reason=reason)

    def acknowledge(self, case: str, *, now: datetime) -> None:
        """Made safe and stopped, going on, or closed: what the newest request asked for was done."""
        with self.store.transaction() as tx:
            found = _find(tx, case)
            closed = found is not None and found.asked == "CANCELLED" and found.refused is not None
            if found is None or closed or found.asked not in ACKNOWLEDGED or _acknowledged(tx, found):
                raise UsageError(f"case {case}: nothing was asked that is to be acknowledged")
            tx.execute(STEP, _said(found, found.asked, now))

    def say(
        self, case: str, status: str, *, now: datetime, subject: str, business_kind: str = "PERMANENT", **columns: Any
    ) -> None:
        """A word that this system does not check: of a hand that slipped, or of a case that never was."""
        with self.store.transaction() as tx:
            found = _find(tx, case)
            if found is not None:
                tx.execute(STEP, _said(found, status, now) | columns)
                return
            tx.execute(STEP, dict.fromkeys(PROGRESS[1:]) | {
                "case_id": case, "subject": subject, "business_kind": business_kind, "phase": 1, "status": status, "at": _millis(now),
                "stamp": _millis(now), "answers_request": "", "answers_sequence": 0, "segment_owner": "UNKNOWN", **columns,
            })  # fmt: skip

    def _step(self, case: str, status: str, now: datetime, *, unpermitted: bool = True, **columns: Any) -> None:
        with self.store.transaction() as tx:
            found = _find(tx, case)
            if found is None:
                raise UsageError(f"case {case}: not known to this operator")
            if found.status in STOPPED:
                raise UsageError(f"case {case}: its request was {found.status.lower()}; nothing may be done on it")
            if found.done not in follows(found.business_kind, status):
                raise UsageError(f"case {case}: is {found.done}; it cannot become {status}")
            if not unpermitted and found.permits not in (None, "GRANTED"):
                raise UsageError(f"case {case}: the permits for its works are {found.permits.lower()}; nobody may dig")
            if found.business_kind == "PROTECT" and status in OF_PROTECTION and not columns.get("protection"):
                raise UsageError(f"case {case}: a protection request is answered NONE, PROTECT or MOVE")
            if found.business_kind != "PROTECT" and columns.get("protection"):
                raise UsageError(f"case {case}: is {found.business_kind}; only a protection request is answered so")
            tx.execute(STEP, _said(found, status, now) | columns)
            folded = _folded(found.business_kind, status, found.asked, found.demand_basis)
            tx.execute("UPDATE case_ SET done = :done, status = :status, refused = NULL WHERE case_id = :case",
                       {"case": case, "done": status, "status": folded})  # fmt: skip

    # -- how it fails ------------------------------------------------------------------------------------------------
    def block(self, subject: str) -> None:
        """Refuse every message about this subject."""
        with self.store.transaction() as tx:
            tx.execute("INSERT INTO blocked (subject) VALUES (:s) ON CONFLICT (subject) DO NOTHING", {"s": subject})

    def unblock(self, subject: str) -> None:
        with self.store.transaction() as tx:
            tx.execute("DELETE FROM blocked WHERE subject = :s", {"s": subject})

    def turn(self, *, away: bool = False, slow_ms: int = 0) -> None:
        """Be away, or take so long for every message. Kept in the database: another process sees it too."""
        with self.store.transaction() as tx:
            for name, value in (("away", int(away)), ("slow_ms", slow_ms)):
                tx.execute(SWITCH, {"name": name, "value": value})

    def acknowledge_by_itself(self, on: bool = True) -> None:
        """Whether its system acknowledges a suspension, a resumption and a cancellation at once, without its people."""
        with self.store.transaction() as tx:
            tx.execute(SWITCH, {"name": "acknowledges", "value": int(on)})

    def _answer(self) -> None:
        with self.store.snapshot() as tx:
            switches = _switches(tx)
        if switches.get("away"):
            raise RetriableError("the operator's system does not answer")
        if slow := switches.get("slow_ms"):
            self.sleep(slow / 1000)


CONTACT = ("contact_name", "contact_phone")
FIRST_ONLY = ("case_id", "received_at", "triggered_at")
UPSERT = f"""INSERT INTO case_ ({", ".join(CASE)}) VALUES ({", ".join(f":{name}" for name in CASE)})
ON CONFLICT (case_id) DO UPDATE SET {", ".join(f"{name} = :{name}" for name in CASE if name not in FIRST_ONLY)}"""
RECEIPT = """INSERT INTO receipt (event_id, case_id, sequence, received_at, effect)
VALUES (:event, :case, :sequence, :now, :effect)"""
STEP = f"INSERT INTO progress ({', '.join(PROGRESS[1:])}) VALUES ({', '.join(f':{name}' for name in PROGRESS[1:])})"
SWITCH = "INSERT INTO switch (name, value) VALUES (:name, :value) ON CONFLICT (name) DO UPDATE SET value = :value"


def _received(tx: Transaction, event: Event) -> bool:
    return tx.execute("SELECT 1 FROM receipt WHERE event_id = :id", {"id": str(event.id)}).one() is not None


def _find(tx: Transaction, case: str) -> Case | None:
    row = tx.execute(f"SELECT {', '.join(CASE)} FROM case_ WHERE case_id = :case", {"case": case}).one()
    return Case(*row) if row else None


def _stale(found: Case, event: Event) -> bool:
    """Whether something newer was here before. Only one source's sequences can be compared."""
    return found.request_source == event.source and event.sequence <= found.request_sequence


def _switches(tx: Transaction) -> dict[str, int]:
    return {row[0]: row[1] for row in tx.execute("SELECT name, value FROM switch").all()}


def _echo(tx: Transaction, case: str, now: datetime) -> None:
    """The system's own acknowledgement, if it is switched on."""
    found = _find(tx, case)
    if found and found.asked in ACKNOWLEDGED and not _acknowledged(tx, found) and _switches(tx).get("acknowledges"):
        tx.execute(STEP, _said(found, found.asked, now))


def _acknowledged(tx: Transaction, found: Case) -> bool:
    """Whether what the newest request asked was acknowledged."""
    sql = "SELECT 1 FROM progress WHERE case_id = :case AND status = :asked AND answers_request = :request"
    named = {"case": found.case_id, "asked": found.asked, "request": found.request_id}
    return tx.execute(sql, named).one() is not None


def _row(tx: Transaction, found: Case | None, event: Event, now: datetime) -> dict[str, Any]:
    data, project = event.data, event.data["project"]
    asked, basis = data["status"], data["demand_basis"]
    done = found.done if found else "LEAD"
    kind, since = data["business_kind"], found.since if found else 0
    if asked == "REQUESTED" and done in ENDS and done != "CONNECTED":  # the customer asks again
        done, since = "LEAD", tx.execute("SELECT coalesce(max(n), 0) FROM progress").all()[0][0]
    return {
        "case_id": data["case"], "subject": event.subject, "utility": data["utility"], "phase": data["phase"],
        "business_kind": kind, "work": data["work"], "done": done, "asked": asked,
        "status": _folded(kind, done, asked, basis), "round": data["round"], "request_id": str(event.id),
        "request_sequence": event.sequence, "request_source": event.source, "received_at": _millis(now),
        "triggered_at": _millis(data["triggered_at"]),
        "contact_within_hours": data["contact_within_hours"], "customer_role": data["customer_role"],
        "demand_basis": basis, "name": project["name"], "address": project["address"],
        "site_regions": " ".join(data["site_regions"]), "facts": _facts(project, data["demand"]),
        "answer_by": _millis(data["answer_by"]) if data["answer_by"] else None, "plan_days": data["promised_plan_days"],
        "connect_days": data["promised_connect_days"], "fee": _text(data["promised_fee"]), "boundary": data["promised_boundary"],
        "missing": json.dumps(data["missing"], ensure_ascii=False) if data["missing"] else None, "missing_due": _day(data["missing_due"]),
        "permits": data["permits"], "permits_reason": data["permits_reason"], "continues": data["continues"],
        "refused": found.refused if found else None, "since": since,
    }  # fmt: skip


def _taken_back(tx: Transaction, row: Mapping[str, Any], found: Case | None, data: Mapping[str, Any]) -> dict[str, Any]:
    """The city did not apply one of our steps: the case stands where the right ones brought it, and shows why.

    What the city knows nothing of is closed: nothing was done on a case that was never asked, the rest stands as it was.
    """
    kind, done = row["business_kind"], row["done"] if found else "LEAD"
    if data["reason"] != "UNKNOWN_CASE":
        done = "LEAD"
        sql = "SELECT status FROM progress WHERE case_id = :case_id AND n > :since ORDER BY n"
        for (status,) in tx.execute(sql, {"case_id": row["case_id"], "since": row["since"]}).all():
            done = status if done in follows(kind, status) else done
    return {
        "done": done,
        "status": _folded(kind, done, row["asked"], row["demand_basis"]),
        "refused": data["refused_because"],
    }


def follows(kind: str, status: str) -> tuple[str, ...]:
    """The steps that a step may follow in a case of this kind."""
    own = (OF_PROTECTION if kind == "PROTECT" else {}) | (OF_LINES if kind in LINES else {})
    return own.get(status, FOLLOWS.get(status, ()))


def _said(found: Case, status: str, now: datetime) -> dict[str, Any]:
    """The row of a step."""
    return dict.fromkeys(PROGRESS[1:]) | {
        "case_id": found.case_id, "subject": found.subject, "business_kind": found.business_kind, "phase": found.phase, "work": found.work,
        "status": status, "at": _millis(now), "stamp": _millis(now), "answers_request": found.request_id,
        "answers_sequence": found.request_sequence, "segment_owner": OWNER.get(status, "UNKNOWN"),
    }  # fmt: skip


def _columns(plan: Plan) -> dict[str, Any]:
    decimals = {name: _text(getattr(plan, name)) for name in ("length_m", "fee", "area_m2", "depth_m")}
    same = {
        name: getattr(plan, name)
        for name in ("access_point", "capacity", "days", "boundary", "road", "pipe_dn_mm", "voltage", "trees")
    }
    days = {name: _day(getattr(plan, name)) for name in ("planned_start", "planned_finish")}
    return {**decimals, **same, **days, "works_external": int(plan.works_external), "emergency": int(plan.emergency),
            "works_kinds": " ".join(plan.works_kinds) or None}  # fmt: skip


def _folded(kind: str, done: str, asked: str, basis: str) -> str:
    """What holds: an end stays (what is connected is never cut by a message), a stop stops what has not ended."""
    if done in ENDS or (done == "WORKS_FINISHED" and kind in LINES):
        return done
    if asked in STOPPED:
        return asked
    return "DEMAND_CONFIRMED" if done in ("LEAD", "CONTACTED") and basis == "CONFIRMED" else done


def _facts(project: Mapping[str, Any], demand: Mapping[str, Any] | None) -> str:
    """What is known, without the sealed contact: this operator holds no key."""
    open_ = {name: value for name, value in project.items() if value is not None and not isinstance(value, dict)}
    return json.dumps({"project": open_, "demand": dict(demand or {})}, ensure_ascii=False, sort_keys=True, default=str)


def _text(value: Decimal | None) -> str | None:
    return None if value is None else str(value)


def _day(day: date | None) -> str | None:
    return None if day is None else day.isoformat()


def _millis(moment: datetime) -> int:
    return round(moment.timestamp() * 1000)
