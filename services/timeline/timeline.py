"""What all platforms say of a project, kept as it came and folded at once: a row an item, a licence, a case, a project.

A row is always folded anew from every fact of its thread, so it does not matter in which order the topics arrive.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from typing import Any, NamedTuple

from jietong.catalog import Catalog
from jietong.event import Draft, Event, Fate
from jietong.identifiers import SubjectKind, kind_of
from jietong.service import Learned
from jietong.store import Bell, Transaction
from services.timeline import cases, folds
from services.timeline.folds import Fact, Values
from services.timeline.tables import timeline


class Thread(NamedTuple):
    """What an event is about: the fold and its table, the field that numbers it, and whether that number is everyone's
    (a case's) or its source's own (an item's)."""

    fold: Callable[[list[Fact]], Values]
    key: str | None = None
    shared: bool = True


THREADS: Mapping[str, Thread] = {
    "investment.project.registered.v1": Thread(folds.project, shared=False),
    "engineering.item.progressed.v1": Thread(folds.item, "item_instance", shared=False),
    "engineering.approval.decided.v1": Thread(folds.item, "item_instance", shared=False),
    "engineering.acceptance.decided.v1": Thread(folds.item, "item_instance", shared=False),
    "licensing.licence.changed.v1": Thread(folds.licence, "licence", shared=False),
    "realestate.registration.progressed.v1": Thread(folds.registration, "registration", shared=False),
    "survey.result.published.v1": Thread(folds.survey, "survey", shared=False),
    "hookup.demand.confirmed.v1": Thread(cases.company),
    "utility.connection.requested.v1": Thread(cases.connection, "case"),
    "utility.connection.progressed.v1": Thread(cases.connection, "case"),
    "works.permit.requested.v1": Thread(cases.permit, "permit"),
    "works.permit.decided.v1": Thread(cases.permit, "permit"),
    "works.trench.proposed.v1": Thread(cases.trench, "proposal"),
    "service.absence.noticed.v1": Thread(cases.absence, "absence"),
    "utility.account.transfer.requested.v1": Thread(cases.transfer, "transfer"),
    "utility.account.transfer.answered.v1": Thread(cases.transfer, "transfer"),
}
"""The table is named as its fold; a type that is not here has only its line on the map."""
JSON = json.JSONEncoder(ensure_ascii=False, default=str)
WORD = ("status", "decision", "action", "step")
KEPT = frozenset({
    "work", "previous_work", "phase", "item_instance", "item_name", "stage", "department_name", "decision_form",
    "decision_kind", "acceptance_kind", "permit_part", "decision_basis", "missing", "missing_due", "buildings",
    "document_number", "document_title", "decided_on", "valid_until",
    "licence", "licence_kind", "issued_on", "scope",
    "registration", "registration_kind", "usage", "registered_on", "predecessors", "successors",
    "survey", "supersedes_survey", "survey_items", "surveyed_on", "published_on", "land_area", "floor_area", "height",
    "units",
    "case", "operator", "utility", "business_kind", "round", "trigger_type", "trigger_kind", "trigger_part",
    "triggered_at", "contact_within_hours", "answer_by", "answer_by_provisional", "promised_plan_days",
    "promised_connect_days", "promised_fee", "promised_boundary", "applicant_visit_required", "continues", "permits",
    "refused_step", "refused_because", "answers_request", "segment_owner", "protection", "promised_days",
    "visit_demanded",
    "permit", "works_kind", "route", "department", "road", "length_m", "area_m2", "planned_start", "planned_finish",
    "due_on", "parallel_group", "accepted_on", "working_days_used",
    "proposal", "works", "window_start", "window_finish", "moratorium_until", "moratorium_reason",
    "absence", "kind", "responsible", "about", "since", "due_at", "provisional",
    "transfer", "choice", "answers_round", "settlement_seen", "read_on", "auto_debit_stopped", "contract_signed", "safety_checked", "effective_on",
    "operators_chosen", "demand_basis", "application", "begun_on", "objects_to",
})  # fmt: skip
"""What the map may hold of an event: nothing personal, no free text of a clerk, no account, nothing owed."""
OF_PLAN = (
    "works_external",
    "length_m",
    "fee",
    "days",
    "boundary",
    "capacity",
    "road",
    "planned_start",
    "planned_finish",
)

TELLING = (
    "investment.project.registered.v1", "engineering.approval.decided.v1", "engineering.acceptance.decided.v1",
    "engineering.item.progressed.v1", "utility.connection.requested.v1", "realestate.registration.progressed.v1",
    "survey.result.published.v1", "hookup.demand.confirmed.v1", "works.permit.requested.v1", "works.permit.decided.v1",
    "works.trench.proposed.v1", "service.absence.noticed.v1", "utility.account.transfer.requested.v1",
)  # fmt: skip
"""Who is believed first about a subject's name and place. No word about a subject need be the first one."""
OF_UNITS = (
    "realestate.registration.progressed.v1", "utility.account.transfer.requested.v1",
    "utility.account.transfer.answered.v1",
)  # fmt: skip
"""What these are about is a unit, though a feed may know it only by a code of its own."""
PLACES: Mapping[SubjectKind | None, str] = {
    SubjectKind.PROJECT: "project", SubjectKind.LOCAL: "project",
    SubjectKind.UNIT: "unit", SubjectKind.ENTERPRISE: "enterprise",
}  # fmt: skip
"""What has a page of its own."""
SHOWN = ("address", "content", "total_investment", "land_area", "floor_area", "buildings", "households", "height",
         "floors", "planned_start", "planned_finish", "applicant_name", "red_line", "red_line_source")  # fmt: skip

KEEP = """INSERT INTO fact (source, type, subject, sequence, id, project, thread, word, time, recorded, historical,
detail) VALUES (:source, :type, :subject, :sequence, :id, :project, :thread, :word, :time, :recorded, :historical,
:detail) ON CONFLICT (source, type, subject, sequence) DO NOTHING"""
THREAD = """SELECT type, source, subject, id, word, time, recorded, detail FROM fact
WHERE project = :project AND thread = :thread ORDER BY type, source, sequence"""
TELL = """INSERT INTO told (project, source, type, name, regions, zone, detail)
VALUES (:project, :source, :type, :name, :regions, :zone, :detail) ON CONFLICT (project, source, type) DO UPDATE SET
name = COALESCE(excluded.name, told.name), regions = COALESCE(excluded.regions, told.regions),
zone = COALESCE(excluded.zone, told.zone), detail = COALESCE(excluded.detail, told.detail)"""
TOLD = "SELECT type, source, name, regions, zone, detail FROM told WHERE project = :project"
STAGE = "SELECT COALESCE(MAX(stage), 0) FROM item WHERE project = :project AND live"
NEXT = """INSERT INTO latest (name, change) VALUES ('change', 1)
ON CONFLICT (name) DO UPDATE SET change = latest.change + 1 RETURNING change"""


@dataclass(frozen=True, slots=True)
class Told:
    """What is believed of a project: the first who said it, in the order of TELLING."""

    name: str | None
    regions: str | None
    zone: str | None
    detail: Mapping[str, Any]


class Timeline:
    """The service (see `jietong.service.Service`). It wants nothing done: it only draws.

    `bell` rings after each commit that learned something: the page waits for it.
    """

    name = "timeline"

    def __init__(self, catalog: Catalog, bell: Bell | None = None) -> None:
        self.types = tuple(sorted(topic for topic, spec in catalog.topics.items() if self.name in spec.readers))
        self._bell = bell

    def among(self, tx: Transaction, subjects: Sequence[str]) -> Transaction:  # noqa: ARG002
        return tx

    def learn(self, tx: Transaction, event: Event) -> Learned:
        """Keep the fact, fold its thread, and move whom it is about to the top of the list."""
        project = _place(event)
        thread = _thread(event)
        tx.execute(KEEP, _fact(event, project, thread))
        parts = {project: _fold(tx, event.type, project, thread)}
        parts[event.subject] = parts.get(event.subject, {}) | _tell(tx, event)
        for code, known in parts.items():
            if kind := _kind(code, event):
                _touch(tx, code, _ms(event.time), {**known, "kind": kind})
        if self._bell is not None:
            tx.after_commit(self._bell)
        return Fate.APPLIED

    def due(self, tx: Transaction, subject: str, cause: Event | None) -> Iterable[Draft]:  # noqa: ARG002 — the port's
        return ()

    def remember(self, tx: Transaction, event: Event) -> None:
        """It has no events of its own."""

    def subjects(self, tx: Transaction) -> Iterable[str]:  # noqa: ARG002 — the port's
        return ()

    def waking(self, tx: Transaction, now: int) -> Sequence[str]:  # noqa: ARG002
        return ()


def told(tx: Transaction, project: str) -> Told:
    """What is known of a project as a whole, from whoever said it."""
    rows = sorted(tx.execute(TOLD, {"project": project}).all(), key=lambda row: (TELLING.index(row[0]), row[1]))
    name, regions, zone = (next((row[n] for row in rows if row[n]), None) for n in (2, 3, 4))
    detail: dict[str, Any] = {}
    for row in reversed(rows):
        detail |= json.loads(row[5] or "{}")
    return Told(name, regions, zone, detail)


def _kind(code: str, event: Event) -> str | None:
    kind = PLACES.get(kind_of(code))
    return "unit" if kind == "project" and code == event.subject and event.type in OF_UNITS else kind


def _place(event: Event) -> str:
    """On whose map it stands: a flat's or a firm's on the project it belongs to, if it says a code that can be one."""
    named: str = event.data.get("project_code") or event.subject
    known = _kind(event.subject, event) == "project" or PLACES.get(kind_of(named)) != "project"
    return event.subject if known else named


def _thread(event: Event) -> str:
    about = THREADS.get(event.type)
    if about is None:
        return event.type
    parts = (about.fold.__name__, "" if about.shared else event.source, str(event.data[about.key]) if about.key else "")
    return " ".join(part for part in parts if part)


def _fact(event: Event, project: str, thread: str) -> Values:
    data = event.data
    return {
        **event.key._asdict(),
        "id": str(event.id),
        "project": project,
        "thread": thread,
        "word": next((data[field] for field in WORD if field in data), "UNKNOWN"),
        "time": _ms(event.time),
        "recorded": _ms(event.recorded),
        "historical": bool(data.get("historical")),
        "detail": _json(
            {name: value for name, value in data.items() if value is not None and name in KEPT} | _said(data)
        ),
    }


def _said(data: Values) -> dict[str, Any]:
    """Of a plan what the map shows; of a surveyor its name, if it is no natural person's."""
    plan: Values = data.get("plan") or {}
    kept: dict[str, Any] = (
        {"plan": {name: plan[name] for name in OF_PLAN if plan.get(name) is not None}} if plan else {}
    )
    if data.get("surveyor_uscc") and data.get("surveyor_name"):
        kept["surveyor_name"] = data["surveyor_name"]
    return kept


def _fold(tx: Transaction, type_: str, project: str, thread: str) -> dict[str, Any]:
    """Write the thread's row; returns what follows from it for the project."""
    about = THREADS.get(type_)
    if about is None:
        return {}
    fold = about.fold
    rows = tx.execute(THREAD, {"project": project, "thread": thread}).all()
    values = fold([Fact(*row[:7], detail=json.loads(row[7])) for row in rows])
    if fold is folds.project:
        return dict(values)
    detail = {"detail": _json(values["detail"])} if "detail" in values else {}
    tx.execute(_put(fold.__name__), {**values, **detail, "project": project})
    if fold is folds.item and (furthest := tx.execute(STAGE, {"project": project}).one()):
        return {"stage": furthest[0]}
    return {}


def _tell(tx: Transaction, event: Event) -> dict[str, Any]:
    """Keep what an event says of its subject as a whole; returns what is believed now.

    Of a flat or a firm only where it lies: its address may be where a natural person lives.
    """
    if event.type not in TELLING:
        return {}
    known = _kind(event.subject, event) == "project"
    facts: Values = (event.data.get("project") or {}) if known else {}
    shown = {field: facts[field] for field in SHOWN if facts.get(field) is not None}
    if not facts.get("applicant_uscc"):
        shown.pop("applicant_name", None)  # without a credit code it may be a natural person
    regions: list[str] = event.data.get("site_regions") or []
    tx.execute(TELL, {
        "project": event.subject, "source": event.source, "type": event.type, "name": facts.get("name"),
        "regions": f" {' '.join(regions)} " if regions else None, "zone": event.data.get("functional_zone"),
        "detail": _json(shown) if facts else None,
    })  # fmt: skip
    now = told(tx, event.subject)
    return {"name": now.name, "regions": now.regions, "zone": now.zone}


def _touch(tx: Transaction, project: str, moved: int, parts: Values) -> None:
    number = tx.execute(NEXT).one() or (0,)
    tx.execute(_upsert(tuple(sorted(parts))), {**parts, "code": project, "moved": moved, "change": number[0]})


@cache
def _put(table: str) -> str:
    columns = timeline.tables[table].columns
    keys = [column.name for column in columns if column.primary_key]
    changed = [f"{column.name} = excluded.{column.name}" for column in columns if not column.primary_key]
    return f"{_insert(table, columns.keys())} ON CONFLICT ({', '.join(keys)}) DO UPDATE SET {', '.join(changed)}"


@cache
def _upsert(parts: tuple[str, ...]) -> str:
    """What was once told to be a unit is one: a project's event may know it only by a feed's own code."""
    changed = [f"{name} = excluded.{name}" for name in ("change", *parts) if name != "kind"]
    return f"""{_insert("project", ("code", "moved", "change", *parts))} ON CONFLICT (code) DO UPDATE SET
    {", ".join(changed)}, kind = CASE WHEN excluded.kind = 'unit' THEN 'unit' ELSE project.kind END,
    moved = CASE WHEN excluded.moved > project.moved THEN excluded.moved ELSE project.moved END"""


def _insert(table: str, names: Iterable[str]) -> str:
    return f"INSERT INTO {table} ({', '.join(names)}) VALUES ({', '.join(f':{name}' for name in names)})"


def _ms(moment: datetime) -> int:
    return round(moment.timestamp() * 1000)


def _json(values: Mapping[str, Any]) -> str:
    return JSON.encode(values)
