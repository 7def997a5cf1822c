"""The service: facts in, cases out, level-triggered through the city's trigger table.

What is due is *wanted minus requested*, from all facts known. The authoritative facts are those that the topic files name;
`engineering.item.progressed.v1` is never read here: it only draws.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta, timezone
from typing import Any
from uuid import NAMESPACE_URL, uuid5

from jietong.city import City
from jietong.event import Draft, Event, Fate
from jietong.service import Learned
from jietong.store import Row, Transaction
from services.hookup.cases import (
    AFTER,
    CANCELLED,
    FALLEN,
    IN_FORCE,
    STANDING,
    Case,
    Identity,
    Opening,
    Support,
    Want,
    Wanted,
    next_status,
    target,
    wanted,
)  # fmt: skip
from services.hookup.facts import Facts, dumps, loads, merged, sort_fields

PROJECT, APPROVAL, ACCEPTANCE = (
    "investment.project.registered.v1",
    "engineering.approval.decided.v1",
    "engineering.acceptance.decided.v1",
)
DEMAND, REQUESTED, PROGRESSED = (
    "hookup.demand.confirmed.v1",
    "utility.connection.requested.v1",
    "utility.connection.progressed.v1",
)
LOCAL = timezone(timedelta(hours=8))
WHERE = ("site_regions", "authority_region", "functional_zone")
ACKNOWLEDGED = frozenset({"SUSPENDED", "RESUMED", "CANCELLED"})
"""A utility's echo of what it was told: moves no case."""

SUPPORT = """INSERT INTO support (subject, source, type, item, standing, rows, work, phase, decision_kind, permit_part, document,
site_regions, authority_region, functional_zone, facts, decided)
VALUES (:subject, :source, :type, :item, :standing, :rows, :work, :phase, :decision_kind, :permit_part, :document, :site_regions,
:authority_region, :functional_zone, :facts, :decided)
ON CONFLICT (subject, source, type, item) DO UPDATE SET standing = :standing, rows = :rows, work = :work, phase = :phase,
decision_kind = :decision_kind, permit_part = :permit_part, document = coalesce(:document, support.document),
site_regions = :site_regions, authority_region = :authority_region, functional_zone = :functional_zone,
facts = coalesce(:facts, support.facts), decided = :decided"""
CASE = """INSERT INTO case_ (subject, work, operator, business_kind, phase, id, utility, requested, confirmed, round, content, data,
progress, opened) VALUES (:subject, :work, :operator, :business_kind, :phase, :id, :utility, :requested, :confirmed, :round, :content,
:said, :progress, :opened)
ON CONFLICT (subject, work, operator, business_kind, phase) DO UPDATE SET requested = :requested, confirmed = :confirmed,
round = :round, content = :content, data = :said, progress = :progress"""
TASK = """INSERT INTO task (id, subject, kind, about, detail, since) VALUES (:id, :subject, :kind, :about, :detail, :since)
ON CONFLICT (id) DO UPDATE SET done = NULL"""


class Hookup:
    """See `jietong.service.Service`."""

    name = "hookup"
    types = (PROJECT, APPROVAL, ACCEPTANCE, DEMAND, PROGRESSED)

    def __init__(self, city: City) -> None:
        self.city = city

    # -- learn ---------------------------------------------------------------------------------------------------------
    def learn(self, tx: Transaction, event: Event) -> Learned:
        match event.type:
            case t if t == PROJECT:
                self._project(tx, event)
            case t if t == DEMAND:
                self._demand(tx, event)
            case t if t == PROGRESSED:
                return self._progress(tx, event)
            case _:
                self._decision(tx, event)
        return Fate.APPLIED

    def _project(self, tx: Transaction, event: Event) -> None:
        data = event.data
        where = _where(data)
        tx.execute(
            "INSERT INTO project (subject, status, facts, site_regions, authority_region, functional_zone) VALUES (:subject, :status, :facts, "
            ":site_regions, :authority_region, :functional_zone) ON CONFLICT (subject) DO UPDATE SET status = CASE WHEN :status = 'CHANGED' THEN "
            "project.status ELSE :status END, facts = :facts, site_regions = :site_regions, authority_region = :authority_region, "
            "functional_zone = :functional_zone",
            {"subject": event.subject, "status": data["status"], "facts": dumps(data["project"]), **where},
        )  # fmt: skip
        if data["status"] == "DECIDED":
            self._support(tx, event, "", IN_FORCE, {"document": data["document_number"]})

    def _decision(self, tx: Transaction, event: Event) -> None:
        data = event.data
        if event.type == APPROVAL and data["work"]:
            _work(tx, event.subject, data["work"], data["previous_work"])
        standing = STANDING.get(data["decision"])
        key = {"subject": event.subject, "source": event.source, "type": event.type, "item": data["item_instance"]}
        if data["decision"] == "DOCUMENTED":
            tx.execute("UPDATE support SET document = :document WHERE subject = :subject AND source = :source AND type = :type AND item = :item",
                       {**key, "document": data["document_number"]})  # fmt: skip
        elif data["decision"] == "APPROVED":
            self._support(tx, event, data["item_instance"], IN_FORCE, {
                "work": data["work"], "phase": data["phase"], "document": data["document_number"], "permit_part": data.get("permit_part"),
                "decision_kind": data.get("decision_kind") or data.get("acceptance_kind"), "facts": _json(data.get("project")),
            })  # fmt: skip
        elif standing:
            tx.execute("UPDATE support SET standing = :standing WHERE subject = :subject AND source = :source AND type = :type AND item = :item",
                       {**key, "standing": standing})  # fmt: skip

    def _support(self, tx: Transaction, event: Event, item: str, standing: str, more: Mapping[str, Any]) -> None:
        """What this fact opens is settled when it is decided; a historical one opens nothing, ever."""
        rows = [] if event.data["historical"] else self.city.triggered(event.type, event.data)
        opens = [[row.business_kind, list(row.utilities), row.customer_role] for row in rows]
        tx.execute(SUPPORT, {
            "subject": event.subject, "source": event.source, "type": event.type, "item": item, "standing": standing, "rows": dumps(opens),
            "work": None, "phase": 1, "decision_kind": None, "permit_part": None, "facts": None, "document": None, "decided": _millis(event.time),
            **_where(event.data), **more,
        })  # fmt: skip

    def _demand(self, tx: Transaction, event: Event) -> None:
        data = event.data
        if data["action"] in ("CONFIRMED", "CORRECTED"):
            tx.execute("INSERT INTO demand (subject, work, phase, demand, basis, operators) "
                       "VALUES (:subject, :work, :phase, :demand, :basis, :operators) "
                       "ON CONFLICT (subject, work, phase) DO UPDATE SET demand = :demand, basis = :basis, operators = :operators",
                       {"subject": event.subject, "work": data["work"] or "", "phase": data["phase"], "demand": dumps(data["demand"]),
                        "basis": data["demand_basis"], "operators": dumps(data["operators_chosen"])})  # fmt: skip

    def _progress(self, tx: Transaction, event: Event) -> Learned:
        data = event.data
        if data["status"] in ACKNOWLEDGED:
            return Fate.FILTERED
        found = tx.execute("UPDATE case_ SET progress = :status WHERE subject = :subject AND id = :case",
                           {"subject": event.subject, "status": data["status"], "case": data["case"]}).rowcount  # fmt: skip
        if not found:
            self._task(
                tx,
                event.subject,
                "unknown-case",
                data["case"],
                f"{data['operator']} answered a case that was never asked of it",
                event,
            )
        elif data["status"] == "REFUSED":
            self._task(
                tx, event.subject, "refused", data["case"], f"{data['operator']} refused {data['business_kind']}", event
            )
        return Fate.APPLIED

    # -- due -------------------------------------------------------------------------------------------------------------
    def due(self, tx: Transaction, subject: str, cause: Event | None) -> Iterable[Draft]:
        """Bring every case of a project to where its facts want it."""
        known = _Known(tx, subject)
        wants = wanted(known.supports, known.works, known.chosen, self._serving)
        drafts: list[Draft] = []
        for identity in sorted(wants.live.keys() | known.cases.keys()):
            want = wants.live.get(identity)
            case = known.cases.get(identity) or Case(identity.case(subject), want.utility if want else "")
            aim = target(wants, identity, case.progress)
            said = self._said(known, identity, want, case)
            drafts += self._brought(tx, known, identity, case, aim, said, want, cause)
        self._level_tasks(tx, known, wants, cause)
        return drafts

    def _brought(self, tx: Transaction, known: _Known, identity: Identity, case: Case, aim: str | None, said: dict[str, Any], want: Want | None,
                 cause: Event | None) -> Iterator[Draft]:  # fmt: skip
        demanded = bool(known.demand(identity))
        content = _digest(said)
        while status := next_status(case, aim, demanded, content):
            case.round, case.requested, case.content, case.said = case.round + 1, AFTER[status], content, dumps(said)
            case.confirmed = (case.confirmed or status == "REQUESTED") and status != "LEAD"
            moment = cause.recorded if cause else _moment(want.support.decided if want else case.opened)
            case.opened = case.opened or _millis(moment)
            tx.execute(CASE, {"subject": known.subject, **identity._asdict(), **_columns(case)})
            yield Draft(
                type=REQUESTED, subject=known.subject, time=moment, operator=identity.operator, about=(case.id, str(case.round)),
                data={**said, "status": status, "round": case.round, "reason": _reason(status, known, want)},
            )  # fmt: skip

    def _said(self, known: _Known, identity: Identity, want: Want | None, case: Case) -> dict[str, Any]:
        """What a request says of a case, apart from its status: today's facts while it is wanted, else what was said last."""
        if want is None:
            return loads(case.said)
        demand, support, promise = known.demand(identity), want.support, self.city.promises.get(want.utility)
        have, ask = sort_fields(
            self.city.fields(want.utility, identity.business_kind), known.facts, demand.get("demand", {})
        )
        return {
            "case": case.id, "operator": identity.operator, "utility": want.utility, "business_kind": identity.business_kind,
            "phase": identity.phase, "work": want.work, "trigger_type": support.type, "trigger_document": support.document,
            "trigger_kind": support.decision_kind, "trigger_part": support.permit_part, "triggered_at": _moment(support.decided),
            "project": known.facts, "demand": demand.get("demand"), "demand_basis": demand.get("basis", "UNKNOWN"), "fields_known": have,
            "fields_to_ask": ask, "applicant_visit_required": bool(promise and promise.applicant_visit),
            "contact_within_hours": promise.contact_within_hours if promise else None, "customer_role": want.customer_role,
            "site_regions": list(support.site_regions), "authority_region": support.authority_region,
            "functional_zone": support.functional_zone, "historical": False,
        }  # fmt: skip

    def _serving(self, utility: str, regions: Sequence[str], on: Any) -> list[str]:
        return [operator.id for operator in self.city.serving(utility, regions, on)]

    # -- tasks: what waits for a person ----------------------------------------------------------------------------------
    def _level_tasks(self, tx: Transaction, known: _Known, wants: Wanted, cause: Event | None) -> None:
        """Tasks that follow from the facts, opened and closed with them."""
        due = {
            ("uncovered", f"{utility}/{kind}"): "no operator serves this area: find one"
            for utility, kind in wants.uncovered
        }
        for identity, case in known.cases.items():
            if identity not in wants.live and case.requested != CANCELLED:
                if case.progress == "CONNECTED":
                    due["connected-without-support", case.id] = (
                        f"{identity.operator}: connected, and its approval fell: nothing is cut; decide"
                    )
                elif case.requested == "SUSPENDED":
                    due["suspended", case.id] = (
                        f"{identity.operator}: accepted, and its support fell: make safe, then decide"
                    )
        standing = {(row[1], row[2]): row[0] for row in tx.execute(
            "SELECT id, kind, about FROM task WHERE subject = :subject AND done IS NULL "
            "AND kind IN ('uncovered', 'suspended', 'connected-without-support')",
            {"subject": known.subject}).all()}  # fmt: skip
        for kind, about in sorted(due.keys() - standing.keys()):
            self._task(tx, known.subject, kind, about, due[kind, about], cause)
        for what in sorted(standing.keys() - due.keys()):
            tx.execute(
                "UPDATE task SET done = :now WHERE id = :id",
                {"id": standing[what], "now": _millis(cause.recorded) if cause else 0},
            )

    def _task(self, tx: Transaction, subject: str, kind: str, about: str, detail: str, cause: Event | None) -> None:
        id = str(uuid5(NAMESPACE_URL, "\x1f".join((subject, kind, about))))
        tx.execute(
            TASK,
            {
                "id": id,
                "subject": subject,
                "kind": kind,
                "about": about,
                "detail": detail,
                "since": _millis(cause.recorded) if cause else 0,
            },
        )

    # -- remember, subjects ------------------------------------------------------------------------------------------------
    def remember(self, tx: Transaction, event: Event) -> None:
        """One of its own requests, come back from the log: what was said last stands in the case's row again."""
        if event.type != REQUESTED:
            return
        data = dict(event.data)
        works = [
            row[0]
            for row in tx.execute(
                "SELECT work FROM work WHERE subject = :s ORDER BY ordinal", {"s": event.subject}
            ).all()
        ]
        slot = "" if not data["work"] or not works or data["work"] == works[0] else data["work"]
        identity = Identity(slot, data["operator"], data["business_kind"], data["phase"])
        said = {name: value for name, value in data.items() if name not in ("status", "round", "reason")}
        case = Case(data["case"], data["utility"], AFTER[data["status"]], data["demand"] is not None, data["round"], _digest(said), dumps(said),
                    None, _millis(event.time))  # fmt: skip
        tx.execute(CASE, {"subject": event.subject, **identity._asdict(), **_columns(case)})

    def subjects(self, tx: Transaction) -> Iterable[str]:
        return [
            row[0]
            for row in tx.execute(
                "SELECT subject FROM project UNION SELECT subject FROM support UNION SELECT subject FROM case_"
            ).all()
        ]


class _Known:
    """Everything known of one project, read once."""

    def __init__(self, tx: Transaction, subject: str) -> None:
        self.subject = subject
        by = {"subject": subject}
        project = tx.execute("SELECT status, facts FROM project WHERE subject = :subject", by).one()
        supports = tx.execute("SELECT type, item, standing, rows, work, phase, decision_kind, permit_part, document, site_regions, authority_region, "
                              "functional_zone, decided, facts FROM support WHERE subject = :subject "
                              "ORDER BY decided, type, item", by).all()  # fmt: skip
        self.cancelled = project is not None and project[0] == "CANCELLED"
        self.supports = [_support_of(row, self.cancelled) for row in supports]
        told = [project[1]] if project else []
        self.facts = merged(loads(text) for text in (*told, *(row[13] for row in supports)) if text)
        self.works = [
            row[0] for row in tx.execute("SELECT work FROM work WHERE subject = :subject ORDER BY ordinal", by).all()
        ]
        self.cases = {Identity(*row[:4]): _case_of(row) for row in tx.execute(
            "SELECT work, operator, business_kind, phase, id, utility, requested, confirmed, round, content, data, progress, opened FROM case_ "
            "WHERE subject = :subject", by).all()}  # fmt: skip
        demands = tx.execute(
            "SELECT work, phase, demand, basis, operators FROM demand WHERE subject = :subject", by
        ).all()
        self._demands = {(row[0], row[1]): {"demand": loads(row[2]), "basis": row[3]} for row in demands}
        self.chosen = sorted({operator for row in demands for operator in loads(row[4])})

    def demand(self, identity: Identity) -> dict[str, Any]:
        """What the company confirmed for a case's 工程 and phase, or for its project; empty: nothing yet."""
        return self._demands.get((identity.work, identity.phase)) or self._demands.get(("", identity.phase)) or {}


def _support_of(row: Row, cancelled: bool) -> Support:
    openings = [Opening(kind, utilities, role) for kind, utilities, role in loads(row[3])]
    return Support(row[0], row[1], FALLEN if cancelled else row[2], openings, row[4], row[5], row[6], row[7], row[8], loads(row[9]), row[10], row[11],
                   row[12], _moment(row[12]).astimezone(LOCAL).date())  # fmt: skip


def _case_of(row: Row) -> Case:
    return Case(row[4], row[5], row[6], bool(row[7]), row[8], row[9], row[10], row[11], row[12])


def _columns(case: Case) -> dict[str, Any]:
    return {"id": case.id, "utility": case.utility, "requested": case.requested, "confirmed": int(case.confirmed), "round": case.round,
            "content": case.content, "said": case.said, "progress": case.progress, "opened": case.opened}  # fmt: skip


def _reason(status: str, known: _Known, want: Want | None) -> str:
    if status in ("SUSPENDED", "CANCELLED"):
        return "PROJECT_CANCELLED" if known.cancelled else "SUPPORT_FELL"
    if status == "LEAD":
        return "PROJECT_DECIDED" if want and want.support.type == PROJECT else "APPROVAL_DECIDED"
    return {"REQUESTED": "DEMAND_CONFIRMED", "AMENDED": "FACTS_CHANGED", "RESUMED": "SUPPORT_RETURNED"}[status]


def _work(tx: Transaction, subject: str, work: str, previous: str | None) -> None:
    tx.execute("INSERT INTO work (subject, work, ordinal, previous) SELECT :subject, :work, coalesce(max(ordinal), 0) + 1, :previous FROM work "
               "WHERE subject = :subject ON CONFLICT (subject, work) DO NOTHING", {"subject": subject, "work": work,
               "previous": previous})  # fmt: skip


def _where(data: Facts) -> dict[str, Any]:
    return {
        "site_regions": dumps(list(data["site_regions"])),
        "authority_region": data["authority_region"],
        "functional_zone": data["functional_zone"],
    }


def _json(facts: Facts | None) -> str | None:
    return None if facts is None else dumps(facts)


def _digest(said: Facts) -> str:
    return hashlib.sha256(dumps(said).encode()).hexdigest()[:16]


def _millis(moment: datetime) -> int:
    return round(moment.timestamp() * 1000)


def _moment(millis: int) -> datetime:
    return datetime.fromtimestamp(millis / 1000, UTC)
