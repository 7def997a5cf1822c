"""What all platforms say of a project, kept as it came and folded at once: a row an item, a licence, a case, a project.

A row is always folded anew from every fact of its thread, so it does not matter in which order the topics arrive.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from typing import Any

from jietong.catalog import Catalog
from jietong.event import Draft, Event, Fate
from jietong.identifiers import SubjectKind, kind_of
from jietong.service import Learned
from jietong.store import Bell, Transaction
from services.timeline import folds
from services.timeline.folds import Fact, Values
from services.timeline.tables import timeline

FOLDS: Mapping[str, Callable[[list[Fact]], Values]] = {
    "investment.project.registered.v1": folds.project,
    "engineering.item.progressed.v1": folds.item,
    "engineering.approval.decided.v1": folds.item,
    "engineering.acceptance.decided.v1": folds.item,
    "licensing.licence.changed.v1": folds.licence,
    "realestate.registration.progressed.v1": folds.registration,
    "utility.connection.requested.v1": folds.connection,
    "utility.connection.progressed.v1": folds.connection,
}
"""The table is named as its fold; a type without one has only its line on the map."""
WORD = ("status", "decision", "action", "step")
IDENTITY = ("item_instance", "licence", "registration", "case")
KEPT = (
    "work", "phase", "item_instance", "item_name", "stage", "department_name", "decision_form", "decision_kind",
    "acceptance_kind", "permit_part", "decision_basis", "missing_due", "buildings", "document_number", "document_title",
    "decided_on", "valid_until", "licence", "licence_kind", "issued_on", "scope", "registration", "registration_kind",
    "usage", "registered_on", "case", "operator", "utility", "business_kind", "round", "trigger_type", "trigger_kind",
    "trigger_part", "triggered_at", "contact_within_hours", "answers_request", "segment_owner", "works_kind",
)  # fmt: skip
"""What the map may hold of an event: nothing personal, no free text of a clerk, no account."""

TELLING = ("investment.project.registered.v1", "engineering.approval.decided.v1", "engineering.acceptance.decided.v1",
           "engineering.item.progressed.v1", "utility.connection.requested.v1")  # fmt: skip
"""Who is believed first about a project's name and place."""
SHOWN = ("address", "content", "total_investment", "land_area", "floor_area", "buildings", "households", "height",
         "floors", "planned_start", "planned_finish", "applicant_name")  # fmt: skip

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

    def learn(self, tx: Transaction, event: Event) -> Learned:
        """Keep the fact, fold its thread, and move its project to the top of the list."""
        project = str(event.data.get("project_code") or event.subject)
        thread = _thread(event)
        tx.execute(KEEP, _fact(event, project, thread))
        parts = _fold(tx, event.type, project, thread)
        if kind_of(project) in (SubjectKind.PROJECT, SubjectKind.LOCAL):
            if event.type in TELLING:
                parts |= _tell(tx, event, project)
            _touch(tx, project, _ms(event.time), parts)
        if self._bell is not None:
            tx.after_commit(self._bell)
        return Fate.APPLIED

    def due(self, tx: Transaction, subject: str, cause: Event | None) -> Iterable[Draft]:  # noqa: ARG002 — the port's
        return ()

    def remember(self, tx: Transaction, event: Event) -> None:
        """It has no events of its own."""

    def subjects(self, tx: Transaction) -> Iterable[str]:  # noqa: ARG002 — the port's
        return ()


def told(tx: Transaction, project: str) -> Told:
    """What is known of a project as a whole, from whoever said it."""
    rows = sorted(tx.execute(TOLD, {"project": project}).all(), key=lambda row: (TELLING.index(row[0]), row[1]))
    name, regions, zone = (next((row[n] for row in rows if row[n]), None) for n in (2, 3, 4))
    detail: dict[str, Any] = {}
    for row in reversed(rows):
        detail |= json.loads(row[5] or "{}")
    return Told(name, regions, zone, detail)


def _thread(event: Event) -> str:
    """What an event is about. An item's or a licence's number is its source's own; a case's is everyone's."""
    fold = FOLDS.get(event.type)
    if fold is None:
        return event.type
    key = next((str(event.data[field]) for field in IDENTITY if event.data.get(field)), "")
    return " ".join(part for part in (fold.__name__, "" if fold is folds.connection else event.source, key) if part)


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
        "detail": _json({field: data[field] for field in KEPT if data.get(field) is not None}),
    }


def _fold(tx: Transaction, type_: str, project: str, thread: str) -> dict[str, Any]:
    """Write the thread's row; returns what follows from it for the project."""
    fold = FOLDS.get(type_)
    if fold is None:
        return {}
    rows = tx.execute(THREAD, {"project": project, "thread": thread}).all()
    values = fold([Fact(*row[:7], detail=json.loads(row[7])) for row in rows])
    if fold is folds.project:
        return dict(values)
    tx.execute(_put(fold.__name__), {**values, "project": project})
    if fold is folds.item and (furthest := tx.execute(STAGE, {"project": project}).one()):
        return {"stage": furthest[0]}
    return {}


def _tell(tx: Transaction, event: Event, project: str) -> Values:
    facts: Mapping[str, Any] = event.data.get("project") or {}
    shown = {field: facts[field] for field in SHOWN if facts.get(field) is not None}
    if not facts.get("applicant_uscc"):
        shown.pop("applicant_name", None)  # without a credit code it may be a natural person
    regions: list[str] = event.data.get("site_regions") or []
    tx.execute(TELL, {
        "project": project, "source": event.source, "type": event.type, "name": facts.get("name"),
        "regions": f" {' '.join(regions)} " if regions else None, "zone": event.data.get("functional_zone"),
        "detail": _json(shown) if facts else None,
    })  # fmt: skip
    now = told(tx, project)
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
    changed = [f"{name} = excluded.{name}" for name in ("change", *parts)]
    return f"""{_insert("project", ("code", "moved", "change", *parts))} ON CONFLICT (code) DO UPDATE SET
    {", ".join(changed)}, moved = CASE WHEN excluded.moved > project.moved THEN excluded.moved ELSE project.moved END"""


def _insert(table: str, names: Iterable[str]) -> str:
    return f"INSERT INTO {table} ({', '.join(names)}) VALUES ({', '.join(f':{name}' for name in names)})"


def _ms(moment: datetime) -> int:
    return round(moment.timestamp() * 1000)


def _json(values: Mapping[str, Any]) -> str:
    return json.dumps(values, ensure_ascii=False, default=str)
