"""What the page asks of the tables: few queries, small answers, whatever the number of projects."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from jietong.store import Row, Transaction, placeholders
from services.timeline.tables import timeline
from services.timeline.timeline import told
from services.timeline.words import GROUP, GROUPS, PATH, STAGE_NAMES

LINES = 300
"""How many of a project's events its page shows, newest first."""
TOLD_AT_ONCE = 100
"""More changed projects than this are announced as 'many'."""
BESIDE = (
    "operator", "utility", "business_kind", "phase", "item_name", "decision_kind", "acceptance_kind", "permit_part",
    "document_number", "licence_kind", "licence", "registration_kind", "registration", "works_kind",
)  # fmt: skip
"""What an event's line says beside its word."""


@dataclass(frozen=True, slots=True)
class Filter:
    """What the list is narrowed to. `state` is a case's state or a group of them."""

    q: str = ""
    stage: int | None = None
    area: str = ""
    operator: str = ""
    state: str = ""


class Cursor(NamedTuple):
    """Where a page of the list ended: the next one goes on behind it, however much has moved above."""

    moved: int
    code: str

    def __str__(self) -> str:
        return f"{self.moved}.{self.code}"


class Found(NamedTuple):
    """A page of the list, how many match in all, and where the next page begins."""

    projects: list[dict[str, Any]]
    total: int
    following: Cursor | None


class Changed(NamedTuple):
    """What moved after a change number. `codes` is None: too much to name, or that number was never given out here."""

    change: int
    codes: list[str] | None


@dataclass(frozen=True, slots=True)
class Overview:
    """Counts over all projects and cases, and what can be filtered by."""

    projects: int
    stages: list[int]
    groups: Mapping[str, int]
    operators: Mapping[str, str]
    """Operator → its utility."""
    areas: list[str]
    """Counties (6 digits) with a project."""


def change(tx: Transaction) -> int:
    """The number of the newest change."""
    row = tx.execute("SELECT change FROM latest WHERE name = 'change'").one()
    return row[0] if row else 0


def changed(tx: Transaction, after: int, code: str | None = None) -> Changed:
    """What moved since, of all projects or of one."""
    newest = change(tx)
    if after > newest:
        return Changed(newest, None)
    only = "" if code is None else "AND code = :code"
    rows = tx.execute(
        f"SELECT code FROM project WHERE change > :after {only} ORDER BY change LIMIT {TOLD_AT_ONCE + 1}",
        {"after": after, "code": code} if code is not None else {"after": after},
    ).all()
    return Changed(newest, [row[0] for row in rows] if len(rows) <= TOLD_AT_ONCE else None)


def overview(tx: Transaction) -> Overview:
    stages = [0] * len(STAGE_NAMES)
    for stage, n in tx.execute("SELECT stage, COUNT(*) FROM project GROUP BY stage").all():
        stages[stage] = n
    groups, operators = dict.fromkeys(GROUPS, 0), dict[str, str]()
    for operator, utility, state, n in tx.execute(
        "SELECT operator, utility, state, COUNT(*) FROM connection GROUP BY operator, utility, state ORDER BY operator"
    ).all():
        groups[GROUP[state]] += n
        operators[operator] = utility or operators.get(operator, "")
    regions = tx.execute("SELECT DISTINCT regions FROM project WHERE regions IS NOT NULL").all()
    areas = {code[:6] for row in regions for code in row[0].split()}
    return Overview(sum(stages), stages, groups, operators, sorted(areas))


def projects(tx: Transaction, narrowed: Filter, after: Cursor | None, limit: int) -> Found:
    """A page of the list, last moved first."""
    where, parameters = _where(narrowed)
    total = tx.execute(f"SELECT COUNT(*) FROM project WHERE {where}", parameters).one()
    if after:
        where, parameters = f"{where} AND (moved, code) < (:moved, :code)", parameters | after._asdict()
    columns = ("code", "name", "regions", "zone", "status", "stage", "moved")
    rows = tx.execute(
        f"SELECT {', '.join(columns)} FROM project WHERE {where} ORDER BY moved DESC, code DESC LIMIT :limit",
        parameters | {"limit": limit + 1},
    ).all()
    found: list[dict[str, Any]] = [dict(zip(columns, row, strict=True)) for row in rows[:limit]]
    cases = _utilities(tx, [project["code"] for project in found])
    for project in found:
        project["regions"] = (project["regions"] or "").split()
        project["utilities"] = cases.get(project["code"], {})
    following = Cursor(found[-1]["moved"], found[-1]["code"]) if len(rows) > limit else None
    return Found(found, total[0] if total else 0, following)


def project(tx: Transaction, code: str) -> dict[str, Any] | None:
    """One project with its items, licences, registrations, cases and newest events; None if nothing is known of it."""
    found = _rows(tx, "project", code, "code")
    if not found:
        return None
    one = found[0]
    facts = told(tx, code)
    return {
        **one,
        "regions": (one["regions"] or "").split(),
        "facts": facts.detail,
        "items": sorted(_rows(tx, "item", code), key=lambda row: (row["stage"], row["started_at"], row["instance"])),
        "licences": sorted(_rows(tx, "licence", code), key=lambda row: (row["moved_at"], row["licence"])),
        "registrations": sorted(
            _rows(tx, "registration", code), key=lambda row: (row["moved_at"], row["registration"])
        ),
        "cases": [_case(row) for row in _rows(tx, "connection", code)],
        "events": _events(tx, code),
    }


def _where(narrowed: Filter) -> tuple[str, dict[str, Any]]:
    parts, parameters = ["1 = 1"], dict[str, Any]()
    if narrowed.q:
        parts.append("(lower(code) LIKE :q ESCAPE '!' OR lower(name) LIKE :q ESCAPE '!')")
        parameters["q"] = f"%{_literal(narrowed.q.lower())}%"
    if narrowed.stage is not None:
        parts.append("stage = :stage")
        parameters["stage"] = narrowed.stage
    if narrowed.area:
        parts.append("regions LIKE :area ESCAPE '!'")
        parameters["area"] = f"% {_literal(narrowed.area)}%"
    if narrowed.operator or narrowed.state:
        cases = ["1 = 1"]
        if narrowed.operator:
            cases.append("operator = :operator")
            parameters["operator"] = narrowed.operator
        if narrowed.state:
            states = [state for state, group in GROUP.items() if narrowed.state in (state, group)]
            marks, named = placeholders("state", states)
            cases.append(f"state IN ({marks})")
            parameters |= named
        # asked once, not once a project: an EXISTS took 0.2 s with a thousand of them
        parts.append(f"code IN (SELECT project FROM connection WHERE {' AND '.join(cases)})")
    return " AND ".join(parts), parameters


def _literal(text: str) -> str:
    """For LIKE … ESCAPE '!': what was typed means itself."""
    return text.replace("!", "!!").replace("%", "!%").replace("_", "!_")


def _utilities(tx: Transaction, codes: list[str]) -> dict[str, dict[str, dict[str, int]]]:
    """Project → utility → state → number of cases."""
    if not codes:
        return {}
    marks, named = placeholders("code", codes)
    counted: dict[str, dict[str, dict[str, int]]] = {}
    for code, utility, state, n in tx.execute(
        f"""SELECT project, utility, state, COUNT(*) FROM connection
        WHERE project IN ({marks}) GROUP BY project, utility, state""",
        named,
    ).all():
        counted.setdefault(code, {}).setdefault(utility or "UNKNOWN", {})[state] = n
    return counted


def _rows(tx: Transaction, table: str, code: str, key: str = "project") -> list[dict[str, Any]]:
    names = timeline.tables[table].columns.keys()
    found: list[Row] = tx.execute(f"SELECT {', '.join(names)} FROM {table} WHERE {key} = :code", {"code": code}).all()
    return [dict(zip(names, row, strict=True)) for row in found]


def _case(row: dict[str, Any]) -> dict[str, Any]:
    """Its steps as a list, in the order of the path."""
    times = {step: row.pop(f"{step.lower()}_at") for step in PATH}
    steps = [{"step": step, "at": times[step]} for step in PATH if times[step] is not None]
    return {**row, "group": GROUP[row["state"]], "steps": steps}


def _events(tx: Transaction, code: str) -> list[dict[str, Any]]:
    rows = tx.execute(
        "SELECT time, recorded, type, word, historical, detail FROM fact WHERE project = :code "
        f"ORDER BY time DESC, type DESC, source DESC, sequence DESC LIMIT {LINES}",
        {"code": code},
    ).all()
    names = ("time", "recorded", "type", "word", "historical")
    return [dict(zip(names, row[:5], strict=True)) | {"about": _about(json.loads(row[5]))} for row in rows]


def _about(detail: Mapping[str, Any]) -> dict[str, Any]:
    return {name: detail[name] for name in BESIDE if detail.get(name) not in (None, "UNKNOWN")}
