"""The service: facts in, cases out, level-triggered through the city's trigger table.

What is due is *wanted minus requested*, from all facts known. The authoritative facts are those that the topic files name;
`engineering.item.progressed.v1` is never read here: it only draws.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, date, datetime, timedelta, timezone
from functools import cache, lru_cache
from typing import Any, NamedTuple
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
from services.hookup.facts import Facts, dumps, known, loads, merged, sort_fields

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

NOT_OF_THE_CASE = frozenset(
    {"status", "round", "reason", "project", "demand", "demand_basis", "fields_known", "fields_to_ask"}
)
"""What a request says of its moment, or of the whole project: not kept with the case."""

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
        self._fields = cache(city.fields)
        self._serving = lru_cache(maxsize=10_000)(self._operators)

    def _operators(self, utility: str, regions: Sequence[str], on: date) -> list[str]:
        return [operator.id for operator in self.city.serving(utility, regions, on)]

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
            {"subject": event.subject, "status": data["status"], "facts": dumps(known(data["project"])), **where},
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
                       {"subject": event.subject, "work": data["work"] or "", "phase": data["phase"], "demand": dumps(known(data["demand"])),
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
        told = _Known(tx, subject)
        wants = wanted(told.supports, told.works, told.chosen, self._serving)
        drafts: list[Draft] = []
        for identity in sorted(wants.live.keys() | told.cases.keys()):
            want = wants.live.get(identity)
            case = told.cases.get(identity) or Case(identity.case(subject), want.utility if want else "")
            drafts += self._brought(tx, told, identity, case, target(wants, identity, case.progress), want, cause)
        self._level_tasks(tx, told, wants, cause)
        return drafts

    def _brought(self, tx: Transaction, told: _Known, identity: Identity, case: Case, aim: str | None, want: Want | None,
                 cause: Event | None) -> Iterator[Draft]:  # fmt: skip
        demand = told.demand(identity)
        content = told.content(want, demand) if want else case.content
        while status := next_status(case, aim, demand is not None, content):
            said = self._said(identity, want, case) if want else loads(case.said)
            case.round, case.requested, case.content, case.said = case.round + 1, AFTER[status], content, dumps(said)
            case.confirmed = (case.confirmed or status == "REQUESTED") and status != "LEAD"
            moment = cause.recorded if cause else _moment(want.support.decided if want else case.opened)
            case.opened = case.opened or _millis(moment)
            tx.execute(CASE, {"subject": told.subject, **identity._asdict(), **_columns(case)})
            data = {**said, **self._today(told, identity, case.utility, demand), "status": status, "round": case.round}
            yield Draft(
                type=REQUESTED, subject=told.subject, time=moment, operator=identity.operator, about=(case.id, str(case.round)),
                data={**data, "reason": _reason(status, told, want)},
            )  # fmt: skip

    def _said(self, identity: Identity, want: Want, case: Case) -> dict[str, Any]:
        """What a request says of a case itself: kept beside it, so that its cancellation can say it again."""
        support, promise = want.support, self.city.promises.get(want.utility)
        return {
            "case": case.id, "operator": identity.operator, "utility": want.utility, "business_kind": identity.business_kind,
            "phase": identity.phase, "work": want.work, "trigger_type": support.type, "trigger_document": support.document,
            "trigger_kind": support.decision_kind, "trigger_part": support.permit_part, "triggered_at": _moment(support.decided),
            "applicant_visit_required": bool(promise and promise.applicant_visit), "customer_role": want.customer_role,
            "contact_within_hours": promise.contact_within_hours if promise else None, "site_regions": list(support.site_regions),
            "authority_region": support.authority_region, "functional_zone": support.functional_zone, "historical": False,
        }  # fmt: skip

    def _today(self, told: _Known, identity: Identity, utility: str, demand: Demand | None) -> dict[str, Any]:
        """What is known of the project now, and what is left to ask the company: the one form, prefilled."""
        values = loads(demand.values) if demand else None
        have, ask = sort_fields(self._fields(utility, identity.business_kind), told.facts, values or {})
        return {"project": told.facts, "demand": values, "demand_basis": demand.basis if demand else "UNKNOWN",
                "fields_known": have, "fields_to_ask": ask}  # fmt: skip

    # -- tasks: what waits for a person ----------------------------------------------------------------------------------
    def _level_tasks(self, tx: Transaction, told: _Known, wants: Wanted, cause: Event | None) -> None:
        """Tasks that follow from the facts, opened and closed with them."""
        due = {
            ("uncovered", f"{utility}/{kind}"): "no operator serves this area: find one"
            for utility, kind in wants.uncovered
        }
        for identity, case in told.cases.items():
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
            {"subject": told.subject}).all()}  # fmt: skip
        for kind, about in sorted(due.keys() - standing.keys()):
            self._task(tx, told.subject, kind, about, due[kind, about], cause)
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
        said = {name: value for name, value in data.items() if name not in NOT_OF_THE_CASE}
        demand = Demand(dumps(known(data["demand"])), data["demand_basis"]) if data["demand"] else None
        content = _content(
            _mark(known(data["project"])), data["work"], data["site_regions"], data["functional_zone"], demand
        )
        before = tx.execute(
            "SELECT confirmed FROM case_ WHERE subject = :s AND id = :case", {"s": event.subject, "case": data["case"]}
        ).one()
        confirmed = data["status"] == "REQUESTED" or (
            data["status"] != "LEAD" and before is not None and bool(before[0])
        )
        case = Case(
            data["case"],
            data["utility"],
            AFTER[data["status"]],
            confirmed,
            data["round"],
            content,
            dumps(said),
            None,
            _millis(event.time),
        )
        tx.execute(CASE, {"subject": event.subject, **identity._asdict(), **_columns(case)})

    def subjects(self, tx: Transaction) -> Iterable[str]:
        return [
            row[0]
            for row in tx.execute(
                "SELECT subject FROM project UNION SELECT subject FROM support UNION SELECT subject FROM case_"
            ).all()
        ]


class Demand(NamedTuple):
    """What the company confirmed: the values, JSON, and on what basis."""

    values: str
    basis: str


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
        self._demands = {(row[0], row[1]): Demand(row[2], row[3]) for row in demands}
        self.chosen = sorted({operator for row in demands for operator in loads(row[4])})
        self._mark = _mark(self.facts)

    def demand(self, identity: Identity) -> Demand | None:
        """What the company confirmed for a case's 工程 and phase, or for its project; None: nothing yet."""
        return self._demands.get((identity.work, identity.phase)) or self._demands.get(("", identity.phase))

    def content(self, want: Want, demand: Demand | None) -> str:
        return _content(self._mark, want.work, want.support.site_regions, want.support.functional_zone, demand)


def _mark(facts: Facts) -> str:
    return hashlib.sha256(dumps(facts).encode()).hexdigest()[:16]


def _content(facts: str, work: str | None, regions: Sequence[str], zone: str | None, demand: Demand | None) -> str:
    """Names what a request would say now; when it changes, the case is amended. The paper that came to an earlier approval
    is not in it: it changes no case."""
    return "|".join(
        (facts, work or "", " ".join(regions), zone or "", f"{demand.basis} {demand.values}" if demand else "")
    )


def _support_of(row: Row, cancelled: bool) -> Support:
    standing = FALLEN if cancelled else row[2]
    on = _moment(row[12]).astimezone(LOCAL).date()
    return Support(
        row[0], row[1], standing, _openings(row[3]), row[4], row[5], row[6], row[7], row[8], _texts(row[9]), row[10], row[11], row[12], on
    )  # fmt: skip


@lru_cache(maxsize=1024)
def _openings(rows: str) -> tuple[Opening, ...]:
    return tuple(Opening(kind, tuple(utilities), role) for kind, utilities, role in loads(rows))


@lru_cache(maxsize=1024)
def _texts(regions: str) -> tuple[str, ...]:
    return tuple(loads(regions))


def _case_of(row: Row) -> Case:
    return Case(row[4], row[5], row[6], bool(row[7]), row[8], row[9], row[10], row[11], row[12])


def _columns(case: Case) -> dict[str, Any]:
    return {"id": case.id, "utility": case.utility, "requested": case.requested, "confirmed": int(case.confirmed), "round": case.round,
            "content": case.content, "said": case.said, "progress": case.progress, "opened": case.opened}  # fmt: skip


def _reason(status: str, told: _Known, want: Want | None) -> str:
    if status in ("SUSPENDED", "CANCELLED"):
        return "PROJECT_CANCELLED" if told.cancelled else "SUPPORT_FELL"
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
    return None if facts is None else dumps(known(facts))


def _millis(moment: datetime) -> int:
    return round(moment.timestamp() * 1000)


def _moment(millis: int) -> datetime:
    return datetime.fromtimestamp(millis / 1000, UTC)
