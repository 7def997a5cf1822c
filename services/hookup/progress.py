"""What a company sees of its hookups: each case with its steps, promise, permits and absences, and who got what about it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

from jietong.contract import Contract
from jietong.event import Event
from jietong.store import Transaction
from services.hookup.cases import OPEN, Case, Identity
from services.hookup.facts import Facts, known, loads
from services.hookup.knowing import Known
from services.hookup.learning import REQUESTED
from services.hookup.word import CONTACT, Said, own

BREACHES = "SELECT case_id, kind, detail, since FROM breach WHERE subject = :subject ORDER BY since, kind"
ABSENCES = """SELECT kind, about, status, responsible, case_id, since, due, provisional, noticed, ended FROM absence
WHERE subject = :subject ORDER BY noticed, kind, about"""
OBJECTIONS = """SELECT event, objects_to, objection, since, (SELECT done FROM task WHERE kind = 'objection' AND about = objection.event) AS done
FROM objection WHERE subject = :subject ORDER BY since, event"""
CONSENT, STATUTE = "CONSENT", "STATUTE"
RECEIPT = (
    "contact_hours",
    "plan_days",
    "connect_days",
    "fee",
    "boundary",
    "capacity",
    "visit",
    "owner",
    "contact_by",
    "provisional",
)


def progress(tx: Transaction, told: Known, word: Said, contract: Contract, source: str) -> dict[str, Any]:
    """Plain values, moments aware. `word`: the company's. `source`: hookup's own, whose outbox says who was told what."""
    by = {"subject": told.subject}
    sent = own(tx, contract, source, REQUESTED, told.subject)
    steps = told.steps()
    breaches = _by_case({"case": case, "kind": kind, "detail": detail, "since": _moment(since)}
                        for case, kind, detail, since in tx.execute(BREACHES, by).all())  # fmt: skip
    absences = [dict(zip(("kind", "about", "status", "responsible", "case", "since", "due", "provisional", "noticed", "ended"), row, strict=True))
                for row in tx.execute(ABSENCES, by).all()]  # fmt: skip
    for absence in absences:
        absence |= {name: _moment(absence[name]) for name in ("since", "due", "noticed", "ended")}
    objections = [{"field": to, "text": text, "at": _moment(since), "answered": _moment(done)}
                  for _, to, text, since, done in tx.execute(OBJECTIONS, by).all()]  # fmt: skip
    cases = [
        {
            **_case(identity, case),
            "steps": [{"status": s.status, "at": _moment(s.at), "owner": s.owner, **s.data} for s in steps.get(case.id, ())],
            "breaches": breaches[case.id],
            "permits": [_permit(permit) for permit in told.permits if permit.case_id == case.id],
            "absences": [absence for absence in absences if absence["case"] == case.id],
        }
        for identity, case in sorted(told.cases.items())
    ]  # fmt: skip
    return {
        "subject": told.subject, "name": told.facts.get("name"), "works": list(told.works.all), "site_regions": list(told.where.site_regions),
        "cases": cases, "absences": [absence for absence in absences if absence["case"] is None], "objections": objections,
        "sent": [_sent(event, word) for event in sent],
    }  # fmt: skip


def state(case: Case) -> str:
    """Where a case stands in one word: the city's, where it has stopped it, else the utility's last step."""
    if case.requested != OPEN:
        return case.requested
    return case.progress or ("REQUESTED" if case.confirmed else "LEAD")


def _case(identity: Identity, case: Case) -> dict[str, Any]:
    receipt: Mapping[str, Any] = loads(case.receipt or "{}")
    promise = {name: receipt[name] for name in RECEIPT if receipt.get(name) is not None}
    if "contact_by" in promise and not isinstance(promise["contact_by"], datetime):
        promise["contact_by"] = _moment(promise["contact_by"])
    return {
        "case": case.id, "operator": identity.operator, "utility": case.utility, "business_kind": identity.business_kind,
        "work": identity.work or None, "phase": identity.phase, "state": state(case), "opened": _moment(case.opened),
        "plan": loads(case.plan) if case.plan else None, "promise": promise,
    }  # fmt: skip


def _permit(permit: Any) -> dict[str, Any]:
    return {
        "works_kind": permit.works_kind, "department": permit.department, "route": permit.route, "requested": permit.requested,
        "asked": _moment(permit.asked), "due": _moment(permit.due), "decision": permit.decision, "decided": _moment(permit.decided),
        "reason": permit.reason,
    }  # fmt: skip


def _sent(event: Event, word: Said) -> dict[str, Any]:
    """One message to one operator: what kind of data of the project it held, never a value, and on what basis it had contact
    data. `withdrawn`: the consent it rested on was taken back since; one given anew has another key, and opens nothing of it."""
    data = event.data
    held = [f"{room}.{name}" for room in ("project", "demand") for name in sorted(known(data[room] or {}))]
    given: list[str] = list(data["authorised"] or ())
    project: Facts = data["project"] or {}
    standing = word.consents.get(data["operator"])
    contact = {name: project[name] for name in CONTACT if project.get(name)}
    opened_by = {sealed["key"] for name, sealed in contact.items() if name in given}
    return {"operator": data["operator"], "case": data["case"], "business_kind": data["business_kind"], "status": data["status"],
            "reason": data["reason"], "at": event.recorded, "fields": held, "authorised": given,
            "basis": CONSENT if given else STATUTE, "contact": bool(contact),
            "withdrawn": not opened_by <= (standing.keys if standing else frozenset())}  # fmt: skip


def _by_case(rows: Iterable[dict[str, Any]]) -> defaultdict[str, list[dict[str, Any]]]:
    found: defaultdict[str, list[dict[str, Any]]] = defaultdict(list)
    for row in rows:
        found[row["case"]].append(row)
    return found


def _moment(millis: int | None) -> datetime | None:
    return None if millis is None else datetime.fromtimestamp(millis / 1000, UTC)
