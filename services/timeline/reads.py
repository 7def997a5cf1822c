"""What the page asks of the tables: few queries, small answers, whatever the number of projects."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

from jietong.store import Row, Transaction, placeholders
from services.timeline.promises import promises
from services.timeline.tables import timeline
from services.timeline.timeline import told
from services.timeline.words import GROUP, GROUPS, KINDS, PATH, STAGE_NAMES

LINES = 300
"""How many of a project's events its page shows, newest first."""
TOLD_AT_ONCE = 100
"""More changed projects than this are announced as 'many'."""
BESIDE = (
    "operator", "utility", "business_kind", "phase", "item_name", "decision_kind", "acceptance_kind", "permit_part",
    "document_number", "licence_kind", "licence", "registration_kind", "registration", "works_kind", "route",
    "protection", "kind", "responsible", "road", "survey", "choice", "objects_to", "begun_on",
)  # fmt: skip
"""What an event's line says beside its word."""


@dataclass(frozen=True, slots=True)
class Filter:
    """What the list is narrowed to. `state` is a case's state or a group of them; `absence`: `open`, or one kind of it."""

    q: str = ""
    stage: int | None = None
    area: str = ""
    operator: str = ""
    state: str = ""
    absence: str = ""
    kind: str = "project"


class Cursor(NamedTuple):
    """Where a page of the list ended: the next one goes on behind it, however much has moved above. In a queue: when the
    last absence was due, and which it was."""

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
    absences: Mapping[str, int]
    """Open ones by who is responsible."""
    kinds: Mapping[str, int]
    """Projects, units and enterprises."""
    transfers: Mapping[str, int]
    """Accounts by how far they have moved."""


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


class Queue(NamedTuple):
    """Open absences of who is responsible, longest overdue first, and how many there are."""

    absences: list[dict[str, Any]]
    total: int
    following: Cursor | None


def overview(tx: Transaction) -> Overview:
    stages, kinds = [0] * len(STAGE_NAMES), dict.fromkeys(KINDS, 0)
    for kind, stage, n in tx.execute("SELECT kind, stage, COUNT(*) FROM project GROUP BY kind, stage").all():
        kinds[kind] += n
        if kind == "project":
            stages[stage] = n
    groups, operators = dict.fromkeys(GROUPS, 0), dict[str, str]()
    for operator, utility, state, n in tx.execute(
        "SELECT operator, utility, state, COUNT(*) FROM connection GROUP BY operator, utility, state ORDER BY operator"
    ).all():
        groups[GROUP[state]] += n
        operators[operator] = utility or operators.get(operator, "")
    regions = tx.execute("SELECT DISTINCT regions FROM project WHERE regions IS NOT NULL").all()
    areas = {code[:6] for row in regions for code in row[0].split()}
    absences = tx.execute(
        "SELECT responsible, COUNT(*) FROM absence WHERE state = 'NOTICED' GROUP BY responsible ORDER BY responsible"
    ).all()
    transfers = tx.execute("SELECT state, COUNT(*) FROM transfer GROUP BY state ORDER BY state").all()
    return Overview(
        sum(stages), stages, groups, operators, sorted(areas), dict(absences), kinds,
        dict(transfers),
    )  # fmt: skip


def queue(tx: Transaction, responsible: str, after: Cursor | None, limit: int) -> Queue:
    """What did not happen in time and still has not, of an operator, a department or the office."""
    where, parameters = "absence.state = 'NOTICED' AND responsible = :responsible", {"responsible": responsible}
    total = tx.execute(f"SELECT COUNT(*) FROM absence WHERE {where}", parameters).one()
    beyond = "AND (due, absence) > (:moved, :code)" if after else ""
    columns = [column.name for column in timeline.tables["absence"].columns if column.name != "state"]
    rows = tx.execute(
        f"""SELECT {", ".join(f"absence.{name}" for name in columns)}, project.name, business_kind, permit.detail FROM absence
        LEFT JOIN project ON code = absence.project
        LEFT JOIN connection ON connection.project = absence.project AND connection.reference = absence.reference
        LEFT JOIN permit ON permit.project = absence.project AND permit = about
        WHERE {where} {beyond} ORDER BY due, absence LIMIT :limit""",
        {**parameters, **(after._asdict() if after else {}), "limit": limit + 1},
    ).all()
    found = [
        _waiting(dict(zip([*columns, "name", "business_kind", "permit"], row, strict=True))) for row in rows[:limit]
    ]
    following = Cursor(found[-1]["due"], found[-1]["absence"]) if len(rows) > limit else None
    return Queue(found, total[0] if total else 0, following)


def _waiting(row: dict[str, Any]) -> dict[str, Any]:
    """An absence with what is known of its case or permit."""
    permit = json.loads(row.pop("permit") or "{}")
    return _flags({**row, "works_kind": permit.get("works_kind"), "road": permit.get("road")})


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
    codes = [project["code"] for project in found]
    cases, absences = _utilities(tx, codes), _counted(tx, "absence", "state = 'NOTICED'", codes)
    transfers = {} if narrowed.kind == "project" else _transfers(tx, codes)
    for project in found:
        project["regions"] = (project["regions"] or "").split()
        project["utilities"] = cases.get(project["code"], {})
        project["absences"] = absences.get(project["code"], 0)
        project["transfers"] = transfers.get(project["code"], {})
    following = Cursor(found[-1]["moved"], found[-1]["code"]) if len(rows) > limit else None
    return Found(found, total[0] if total else 0, following)


def project(tx: Transaction, code: str, now: int) -> dict[str, Any] | None:
    """A project, unit or enterprise with everything that stands on its map; None if nothing is known of it.

    `now` (milliseconds UTC) tells which promise is overdue.
    """
    found = _rows(tx, "project", code, "code")
    if not found:
        return None
    one = found[0]
    items = sorted(_rows(tx, "item", code), key=lambda row: (row["stage"], row["started_at"], row["instance"]))
    absences = sorted(_rows(tx, "absence", code), key=lambda row: (row["due"], row["absence"]))
    company = next(iter(_rows(tx, "company", code)), None)
    return {
        **one,
        "regions": (one["regions"] or "").split(),
        "facts": told(tx, code).detail,
        "items": items,
        "lineage": _lineage(items),
        "company": company,
        "absences": absences,
        "cases": [_case(row, absences, now) for row in _rows(tx, "connection", code)],
        "permits": sorted(_rows(tx, "permit", code), key=lambda row: (row["asked_at"] or 0, row["permit"])),
        "trenches": sorted(_rows(tx, "trench", code), key=lambda row: (row["road"], row["proposal"])),
        "transfers": sorted(
            _rows(tx, "transfer", code), key=lambda row: (row.get("registration") or "", row["transfer"])
        ),
        "licences": sorted(_papers(tx, "licence", code, "holder"), key=lambda row: (row["moved_at"], row["licence"])),
        "registrations": sorted(
            _papers(tx, "registration", code, "unit"), key=lambda row: (row["moved_at"], row["registration"])
        ),
        "surveys": _surveys(_rows(tx, "survey", code)),
        "events": _events(tx, code),
    }


def _where(narrowed: Filter) -> tuple[str, dict[str, Any]]:
    parts, parameters = ["kind = :kind"], dict[str, Any]({"kind": narrowed.kind})
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
    if narrowed.absence:
        kind = "" if narrowed.absence == "open" else "AND kind = :absence"
        parts.append(f"code IN (SELECT project FROM absence WHERE state = 'NOTICED' {kind})")
        parameters |= {"absence": narrowed.absence} if kind else {}
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


def _transfers(tx: Transaction, codes: list[str]) -> dict[str, dict[str, int]]:
    """Unit → state → number of accounts."""
    if not codes:
        return {}
    marks, named = placeholders("code", codes)
    counted: dict[str, dict[str, int]] = {}
    for code, state, n in tx.execute(
        f"SELECT project, state, COUNT(*) FROM transfer WHERE project IN ({marks}) GROUP BY project, state", named
    ).all():
        counted.setdefault(code, {})[state] = n
    return counted


def _counted(tx: Transaction, table: str, where: str, codes: list[str]) -> dict[str, int]:
    if not codes:
        return {}
    marks, named = placeholders("code", codes)
    rows = tx.execute(
        f"SELECT project, COUNT(*) FROM {table} WHERE {where} AND project IN ({marks}) GROUP BY project", named
    ).all()
    return dict(rows)


def _rows(tx: Transaction, table: str, code: str, key: str = "project") -> list[dict[str, Any]]:
    """Rows with what their `detail` holds among their columns."""
    columns = timeline.tables[table].columns
    names = columns.keys()
    found: list[Row] = tx.execute(f"SELECT {', '.join(names)} FROM {table} WHERE {key} = :code", {"code": code}).all()
    rows = [dict(zip(names, row, strict=True)) for row in found]
    return [_flags({**row, **json.loads(row.pop("detail", None) or "{}")}) for row in rows]


def _flags(row: dict[str, Any]) -> dict[str, Any]:
    """SQLite has no booleans."""
    return {name: bool(value) if name in ("live", "provisional") else value for name, value in row.items()}


def _papers(tx: Transaction, table: str, code: str, whose: str) -> list[dict[str, Any]]:
    """What stands on its map, and what is its own on another's."""
    own = _rows(tx, table, code)
    return [*own, *(row for row in _rows(tx, table, code, whose) if row["project"] != code)]


def _surveys(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Results in their order, each with the one that replaced it, wherever it comes from."""
    by = {
        row["supersedes_survey"]: row["survey"]
        for row in rows
        if row.get("supersedes_survey") and row["status"] != "WITHDRAWN"
    }
    marked = ({**row, "superseded_by": by.get(row["survey"])} for row in rows)
    return sorted(marked, key=lambda row: (row["moved_at"], row["survey"]))


def _lineage(items: list[dict[str, Any]]) -> list[dict[str, str]]:
    """前阶段工程: which 工程 came of which."""
    came = {(row["work"], row["previous_work"]) for row in items if row["work"] and row["previous_work"]}
    return [{"work": work, "previous_work": previous} for work, previous in sorted(came)]


def _case(row: dict[str, Any], absences: list[dict[str, Any]], now: int) -> dict[str, Any]:
    """Its steps as a list, in the order of the path; and its promises."""
    times = {step: row.pop(f"{step.lower()}_at") for step in PATH}
    steps = [{"step": step, "at": times[step]} for step in PATH if times[step] is not None]
    case = {**row, "group": GROUP[row["state"]], "steps": steps}
    return {**case, "promises": [asdict(promise) for promise in promises(case, absences, now)]}


def _events(tx: Transaction, code: str) -> list[dict[str, Any]]:
    """The newest, those of its own on another's map among them."""
    columns, newest = "time, recorded, type, word, historical, detail, source, sequence", f"LIMIT {LINES}"
    order = "time DESC, type DESC, source DESC, sequence DESC"
    rows = tx.execute(
        f"""SELECT {columns} FROM (SELECT {columns} FROM fact WHERE project = :code UNION ALL
        SELECT {columns} FROM fact WHERE subject = :code AND project <> subject) AS told ORDER BY {order} {newest}""",
        {"code": code},
    ).all()
    names = ("time", "recorded", "type", "word", "historical")
    return [dict(zip(names, row[:5], strict=True)) | {"about": _about(json.loads(row[5]))} for row in rows]


def _about(detail: Mapping[str, Any]) -> dict[str, Any]:
    return {name: detail[name] for name in BESIDE if detail.get(name) not in (None, "UNKNOWN")}
