"""Facts in: what each event leaves in hookup's tables. Nothing is decided here but what holds for ever: which trigger rows
a fact met when it happened, and whether a utility's step may follow the one before."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from jietong.catalog import source_name
from jietong.city import City
from jietong.event import Event, Fate
from jietong.service import Learned
from jietong.store import Transaction
from services.hookup import machine
from services.hookup.cases import FALLEN, IN_FORCE, STANDING
from services.hookup.facts import Facts, dumps, known
from services.hookup.permits import decides

PROJECT, APPROVAL, ACCEPTANCE = (
    "investment.project.registered.v1",
    "engineering.approval.decided.v1",
    "engineering.acceptance.decided.v1",
)
DEMAND, SURVEY = "hookup.demand.confirmed.v1", "survey.result.published.v1"
REQUESTED, PROGRESSED = "utility.connection.requested.v1", "utility.connection.progressed.v1"
PERMIT_REQUESTED, PERMIT_DECIDED = "works.permit.requested.v1", "works.permit.decided.v1"
ABSENCE, TRENCH = "service.absence.noticed.v1", "works.trench.proposed.v1"

SUPPORT_COLUMNS = (
    "subject", "source", "type", "item", "standing", "rows", "work", "phase", "decision_kind", "permit_part", "document", "site_regions",
    "authority_region", "functional_zone", "facts", "decided", "basis", "missing", "missing_due", "extended", "historical",
)  # fmt: skip
OLD_STAYS = ("document", "facts")
SUPPORT = f"""INSERT INTO support ({", ".join(SUPPORT_COLUMNS)}) VALUES ({", ".join(f":{c}" for c in SUPPORT_COLUMNS)})
ON CONFLICT (subject, source, type, item) DO UPDATE SET
{", ".join(f"{c} = coalesce(:{c}, support.{c})" if c in OLD_STAYS else f"{c} = :{c}" for c in SUPPORT_COLUMNS[4:])}"""
OF_CASE = """SELECT business_kind, operator, progress, protection,
requested = 'OPEN' AND confirmed = 1 AND progress IN ('NOT_NEEDED', 'DECLINED', 'REFUSED', 'LAPSED') AND asked > progressed, asked
FROM case_ WHERE subject = :subject AND id = :case"""
"""Its last columns: whether it was asked for once more since it ended, and when. Else that is known when the customer's word is; but after
a restore what was said is there before what led to it."""
OF_ITEM = "WHERE subject = :subject AND source = :source AND type = :type AND item = :item"
STEP = """INSERT INTO step (subject, case_id, n, event, status, at, owner, data)
SELECT :subject, :case, coalesce(max(n), 0) + 1, :event, :status, :at, :owner, :data FROM step WHERE subject = :subject AND case_id = :case"""
ANEW = """UPDATE case_ SET progress = NULL, progressed = NULL, plan = NULL, protection = NULL, opened = :opened
WHERE subject = :subject AND id = :case"""
"""A case that ended without a supply begins once more."""
MEASURED = ("land_area", "floor_area", "height")


class Learning:
    """Writes what an event says."""

    def __init__(self, city: City) -> None:
        self.city = city

    def learn(self, tx: Transaction, event: Event) -> Learned:
        match event.type:
            case t if t == PROJECT:
                self._project(tx, event)
            case t if t == DEMAND:
                self._word(tx, event)
            case t if t == PROGRESSED:
                return self._progress(tx, event)
            case t if t == PERMIT_DECIDED:
                self._permit(tx, event)
            case t if t == SURVEY:
                self._survey(tx, event)
            case _:
                self._decision(tx, event)
        return Fate.APPLIED

    # -- platforms -----------------------------------------------------------------------------------------------------
    def _project(self, tx: Transaction, event: Event) -> None:
        data = event.data
        where = _where(data)
        tx.execute(
            "INSERT INTO project (subject, status, facts, site_regions, authority_region, functional_zone) VALUES (:subject, :status, :facts, "
            ":site_regions, :authority_region, :functional_zone) ON CONFLICT (subject) DO UPDATE SET status = CASE WHEN :status = 'CHANGED' THEN "
            "project.status ELSE :status END, facts = :facts, site_regions = :site_regions, authority_region = :authority_region, "
            "functional_zone = :functional_zone",
            {"subject": event.subject, "status": data["status"], "facts": dumps(known(data["project"])), **where},
        )  # fmt: skip
        if data["status"] == "DECIDED":
            self._support(tx, event, "", {"document": data["document_number"]})

    def _decision(self, tx: Transaction, event: Event) -> None:
        data = event.data
        if event.type == APPROVAL and data["work"]:
            _work(tx, event.subject, data["work"], data["previous_work"])
        standing = STANDING.get(data["decision"])
        key = {"subject": event.subject, "source": event.source, "type": event.type, "item": data["item_instance"]}
        if data["decision"] == "DOCUMENTED":
            tx.execute(
                f"UPDATE support SET document = :document {OF_ITEM}", {**key, "document": data["document_number"]}
            )
        elif data["decision"] == "APPROVED":
            self._support(tx, event, data["item_instance"], {
                "work": data["work"], "phase": data["phase"], "document": data["document_number"], "permit_part": data.get("permit_part"),
                "decision_kind": data.get("decision_kind") or data.get("acceptance_kind"), "facts": _json(data.get("project")), **_conditions(data),
            })  # fmt: skip
        elif standing:
            more = int(data["decision"] == "EXTENDED")
            tx.execute(f"UPDATE support SET standing = :standing, extended = extended + :more {OF_ITEM}",
                       {**key, "standing": standing, "more": more})  # fmt: skip
            if data["decision"] == "CONDITION_MET":
                tx.execute(f"UPDATE support SET missing = NULL, missing_due = NULL {OF_ITEM}", key)

    def _support(self, tx: Transaction, event: Event, item: str, more: Mapping[str, Any]) -> None:
        """What this fact opens is settled when it is decided; a historical one opens nothing, ever."""
        rows = [] if event.data["historical"] else self.city.triggered(event.type, event.data)
        opens = [[row.business_kind, list(row.utilities), row.customer_role, None] for row in rows]
        tx.execute(SUPPORT, {
            **_blank(event, item), "rows": dumps(opens), "historical": int(event.data["historical"]), **_where(event.data), **more,
        })  # fmt: skip

    def _survey(self, tx: Transaction, event: Event) -> None:
        """Measured once, used by all (多测合一): it fills the one form and corrects what was planned."""
        data = event.data
        key = {"subject": event.subject, "source": event.source}
        for gone in filter(None, (data["supersedes_survey"], data["survey"])):
            tx.execute(
                "UPDATE survey SET facts = NULL WHERE subject = :subject AND source = :source AND survey = :survey",
                {**key, "survey": gone},
            )
        if data["status"] != "WITHDRAWN":
            facts = dumps(known({name: data[name] for name in MEASURED}))
            tx.execute("INSERT INTO survey (subject, source, survey, work, facts, published) VALUES (:subject, :source, :survey, :work, :facts, "
                       ":published) ON CONFLICT (subject, source, survey) DO UPDATE SET facts = :facts, work = :work, published = :published",
                       {**key, "survey": data["survey"], "work": data["work"], "facts": facts, "published": _millis(event.time)})  # fmt: skip

    def _permit(self, tx: Transaction, event: Event) -> None:
        """A department's word. One that is older than the newest request was about one that was called back since."""
        data = event.data
        if data["decision"] == "DOCUMENTED":
            return
        named = {"subject": event.subject, "permit": data["permit"]}
        found = tx.execute("SELECT round, asked FROM permit WHERE subject = :subject AND permit = :permit", named).one()
        if found and _millis(event.time) >= decides(*found):
            tx.execute("UPDATE permit SET decision = :decision, decided = :decided, reason = :reason "
                       "WHERE subject = :subject AND permit = :permit",
                       {**named, "decision": data["decision"], "decided": _millis(event.time), "reason": data["reason"]})  # fmt: skip
        if not found:
            _refuse(
                tx,
                event,
                data["operator"] or "",
                "no such permit was ever asked for",
                case=data["permit"],
                answered=True,
            )

    # -- the company's own word ----------------------------------------------------------------------------------------
    def _word(self, tx: Transaction, event: Event) -> None:
        data, at = event.data, {"subject": event.subject}
        match data["action"]:
            case "CONFIRMED" | "CORRECTED":
                _demand(tx, event)
            case "CONSENTED" | "CONSENT_WITHDRAWN" as action:
                contact = {name: data[name] for name in ("contact_name", "contact_phone") if data[name] is not None}
                given = dumps(contact) if action == "CONSENTED" else None
                for operator in data["operators_chosen"] or self.city.operators:
                    tx.execute("INSERT INTO consent (subject, operator, contact, since) VALUES (:subject, :operator, :contact, :since) "
                               "ON CONFLICT (subject, operator) DO UPDATE SET contact = :contact, since = :since",
                               {**at, "operator": operator, "contact": given, "since": _millis(event.time)})  # fmt: skip
            case "APPLIED":
                self._applied(tx, event)
            case "APPLICATION_WITHDRAWN":
                tx.execute(f"UPDATE support SET standing = :standing {OF_ITEM}",
                           {**at, "source": event.source, "type": DEMAND, "item": data["application"], "standing": FALLEN})  # fmt: skip
            case "WORKS_BEGUN" if data["begun_on"]:
                tx.execute("INSERT INTO begun (subject, on_) VALUES (:subject, :on) ON CONFLICT (subject) DO UPDATE SET on_ = :on",
                           {**at, "on": data["begun_on"].isoformat()})  # fmt: skip
            case "OBJECTED":
                tx.execute("INSERT INTO objection (subject, event, objects_to, objection, since) VALUES (:subject, :event, :to, :objection, :since) "
                           "ON CONFLICT (subject, event) DO NOTHING",
                           {**at, "event": str(event.id), "to": data["objects_to"], "objection": data["objection"] or "",
                            "since": _millis(event.time)})  # fmt: skip
            case _:
                pass

    def _applied(self, tx: Transaction, event: Event) -> None:
        """An application of the customer's own (电力供应与使用条例 23): a small user's first supply, a conversion, an increase, a closing."""
        data = event.data
        role = data["customer_role"] or "OCCUPANT"
        opens = [
            [data["business_kind"], [data["utility"]], role, operator]
            for operator in data["operators_chosen"] or [None]
        ]
        facts = {"address": data["address"]} if data["address"] else None
        tx.execute(SUPPORT, {
            **_blank(event, data["application"]), "rows": dumps(opens), "facts": _json(facts), "work": data["work"], "phase": data["phase"],
            "site_regions": dumps(list(data["site_regions"] or [])), "authority_region": data["authority_region"] or "",
        })  # fmt: skip
        if known(data["demand"]):
            _demand(tx, event, chosen=())

    # -- utilities -----------------------------------------------------------------------------------------------------
    def _progress(self, tx: Transaction, event: Event) -> Learned:
        """A step, if it may follow: else it is kept as a refusal, which is answered."""
        data, name = event.data, source_name(event.source)
        if name.startswith("feed"):
            return Fate.FILTERED  # the life of a case that its own feed asked for
        row = tx.execute(OF_CASE, {"subject": event.subject, "case": data["case"]}).one()
        if row is None or row[1] != data["operator"]:
            _refuse(tx, event, data["operator"], "no such case was ever asked of this operator")
            return Fate.APPLIED
        kind, _, progress, protection, begun, asked = row
        if begun:
            tx.execute(ANEW, {"subject": event.subject, "case": data["case"], "opened": asked})
            progress = protection = None
        if data["status"] in machine.ACKNOWLEDGED:
            tx.execute("UPDATE case_ SET acknowledged = :status WHERE subject = :subject AND id = :case",
                       {"subject": event.subject, "case": data["case"], "status": data["status"]})  # fmt: skip
            rests = data["status"] != "RESUMED"
            _step(tx, event, machine.NOBODY if rests else machine.owner(kind, progress or machine.LEAD))
            return Fate.APPLIED
        no_line = kind == "PROTECT" and data["status"] == "NOT_NEEDED"
        answer = data["protection"] or ("NONE" if no_line else None)
        because = machine.wrong(kind, progress, data["status"], answer)
        if because is None and no_line and answer != "NONE":
            because = f"NOT_NEEDED says that no line lies there, so `protection` is NONE or left out, not {answer}"
        if because is None and protection and answer and answer != protection:
            because = f"it was answered {protection} before"
        if because:
            _refuse(tx, event, data["operator"], because)
            return Fate.APPLIED
        told = data["segment_owner"]
        _step(tx, event, told if told != "UNKNOWN" else machine.owner(kind, data["status"]))
        tx.execute("UPDATE case_ SET progress = :status, progressed = :at, protection = coalesce(:answer, protection), plan = coalesce(:plan, plan) "
                   "WHERE subject = :subject AND id = :case",
                   {"subject": event.subject, "case": data["case"], "status": data["status"], "at": _millis(event.time), "answer": answer,
                    "plan": _json(data["plan"])})  # fmt: skip
        rows = self.city.triggered(PROGRESSED, {**data, "business_kind": kind, "protection": answer})
        if rows:
            utility = self.city.operators[data["operator"]].utility if data["operator"] in self.city.operators else ""
            opens = [[row.business_kind, [utility], row.customer_role, data["operator"]] for row in rows]
            tx.execute(
                SUPPORT,
                {**_blank(event, data["case"]), "rows": dumps(opens), "work": data["work"], "phase": data["phase"]},
            )
        return Fate.APPLIED


def _blank(event: Event, item: str) -> dict[str, Any]:
    """A support in force that says nothing yet."""
    return {
        **dict.fromkeys(SUPPORT_COLUMNS), "subject": event.subject, "source": event.source, "type": event.type, "item": item,
        "standing": IN_FORCE, "rows": "[]", "phase": 1, "site_regions": "[]", "authority_region": "", "decided": _millis(event.time),
        "extended": 0, "historical": 0,
    }  # fmt: skip


def _conditions(data: Facts) -> dict[str, Any]:
    """容缺受理 and 容缺通过, 告知承诺: what is still to be handed in, and by when."""
    basis = next(
        (
            data.get(name)
            for name in ("decision_basis", "acceptance_basis")
            if data.get(name) in ("TOLERANT", "COMMITMENT")
        ),
        "FULL",
    )
    due = data.get("missing_due") if basis != "FULL" else None
    missing = data.get("missing") if basis != "FULL" else None
    return {
        "basis": basis,
        "missing": dumps(list(missing)) if missing else None,
        "missing_due": due.isoformat() if due else None,
    }


def _demand(tx: Transaction, event: Event, chosen: Sequence[str] | None = None) -> None:
    data = event.data
    operators = data["operators_chosen"] if chosen is None else chosen
    tx.execute("INSERT INTO demand (subject, work, phase, demand, basis, operators) "
               "VALUES (:subject, :work, :phase, :demand, :basis, :operators) "
               "ON CONFLICT (subject, work, phase) DO UPDATE SET demand = :demand, basis = :basis, operators = :operators",
               {"subject": event.subject, "work": data["work"] or "", "phase": data["phase"], "demand": dumps(known(data["demand"])),
                "basis": data["demand_basis"], "operators": dumps(list(operators))})  # fmt: skip


def _step(tx: Transaction, event: Event, owner: str) -> None:
    data = event.data
    said = {name: data[name] for name in ("reason", "account", "promised_days", "protection", "visit_demanded")}
    plan = known(data["plan"] or {}) or None
    tx.execute(STEP, {"subject": event.subject, "case": data["case"], "event": str(event.id), "status": data["status"],
                      "at": _millis(event.time), "owner": owner, "data": dumps(known({**said, "plan": plan}))})  # fmt: skip


def _refuse(
    tx: Transaction, event: Event, operator: str, because: str, case: str | None = None, answered: bool = False
) -> None:
    tx.execute("INSERT INTO refusal (subject, event, case_id, operator, because, data, at, answered) "
               "VALUES (:subject, :event, :case, :operator, :because, :data, :at, :answered) ON CONFLICT (subject, event) DO NOTHING",
               {"subject": event.subject, "event": str(event.id), "case": case or event.data["case"], "operator": operator, "because": because,
                "data": dumps(known(event.data)), "at": _millis(event.time), "answered": int(answered)})  # fmt: skip


def _work(tx: Transaction, subject: str, work: str, previous: str | None) -> None:
    tx.execute("INSERT INTO work (subject, work, ordinal) SELECT :subject, :work, coalesce(max(ordinal), 0) + 1 FROM work "
               "WHERE subject = :subject ON CONFLICT (subject, work) DO NOTHING", {"subject": subject, "work": work})  # fmt: skip
    if previous and previous != work:
        tx.execute("INSERT INTO lineage (subject, work, previous) VALUES (:subject, :work, :previous) "
                   "ON CONFLICT (subject, work, previous) DO NOTHING", {"subject": subject, "work": work, "previous": previous})  # fmt: skip


def _where(data: Facts) -> dict[str, Any]:
    return {
        "site_regions": dumps(list(data["site_regions"])),
        "authority_region": data["authority_region"],
        "functional_zone": data["functional_zone"],
    }


def _json(facts: Facts | None) -> str | None:
    return dumps(said) if facts and (said := known(facts)) else None


def _millis(moment: datetime) -> int:
    return round(moment.timestamp() * 1000)
