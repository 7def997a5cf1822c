"""A city's figures counted a second time, in plain SQL on the platforms' and the operators' own tables. It imports nothing of ours.

`python -m tests.outside.figures FOLDER CITY --from DAY --to DAY [--json]`: FOLDER holds the databases, CITY is a city pack's folder.
The definitions are those of docs/figures.md, the states of a case those of docs/states.md. Read are

* `investment.db`: `project` and `handling`;
* `platform-engineering.db`: the exchange database, `works_permit` and `LOCAL_WORKS_DECISION`;
* `platform-<operator>.db`: `case_`, `receipt` and `progress`.

Left out, because no table of theirs holds it: `fields_known`, `fields_to_ask`, `fields_asked_again` (what the form held when a case was
opened), `breaches` (when one was noted), `absences_noticed`, `absences_ended`. Nor do they hold, and so these are taken as they are:

* what is historical: nothing is;
* when an event was recorded that a connector read: a case that neither a 立项 nor a customer without a project opened begins when
  the operator received it (`receipt.received_at`), which is no earlier;
* that a case was cancelled and asked for again, unless the operator had acknowledged the cancellation;
* when the city asked for a permit: the department's `received_at`, so that a package is what it received of a case at one moment.
"""

from __future__ import annotations

import argparse
import json
import sqlite3
import sys
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path
from statistics import median
from typing import Any
from zoneinfo import ZoneInfo

import chinese_calendar
import yaml

ENDED = ("NOT_NEEDED", "DECLINED", "REFUSED", "LAPSED")
ECHOES = ("SUSPENDED", "RESUMED", "CANCELLED")
LINES = ("PROTECT", "RELOCATE", "CLOSE")
OPEN = {"LEAD", "CONTACTED", "ACCEPTED", "PLAN_REPLIED", "CONTRACTED", "WORKS_STARTED", "WORKS_FINISHED", "INSPECTED"}
AFTER: dict[str, set[str]] = {
    "CONTACTED": {"LEAD", "CONTACTED"},
    "ACCEPTED": {"LEAD", "CONTACTED"},
    "PLAN_REPLIED": {"ACCEPTED", "PLAN_REPLIED", "CONTRACTED"},
    "CONTRACTED": {"PLAN_REPLIED"},
    "WORKS_STARTED": {"ACCEPTED", "PLAN_REPLIED", "CONTRACTED"},
    "WORKS_FINISHED": {"WORKS_STARTED"},
    "INSPECTED": {"PLAN_REPLIED", "CONTRACTED", "WORKS_FINISHED"},
    "CONNECTED": {"ACCEPTED", "INSPECTED"},
    **dict.fromkeys(ENDED, OPEN),
}
"""docs/states.md: the states that a step may follow."""
AFTER_OF_LINES: dict[str, set[str]] = AFTER | {
    "WORKS_FINISHED": {"ACCEPTED", "PLAN_REPLIED", "CONTRACTED", "WORKS_STARTED"},
    "INSPECTED": set(),
    "CONNECTED": set(),
    **dict.fromkeys(ENDED, OPEN - {"WORKS_FINISHED"}),
}
UNANSWERED = {"LEAD", "CONTACTED", "ACCEPTED"}
AFTER_OF_PROTECTION = AFTER_OF_LINES | {"PLAN_REPLIED": UNANSWERED, "NOT_NEEDED": UNANSWERED}
CUSTOMERS = ("CONTACTED", "PLAN_REPLIED")
"""After these it is the customer's time, after the others that end nothing the utility's."""

READ = {
    "investment.db": {"project": "code, site_regions", "handling": "code, status, at"},
    "platform-engineering.db": {
        "SPGL_XMJBXXB": "LSH, XMDM, GCDM, JSDDXZQH, SJYXBS",
        "SPGL_XMSPSXBLXXB": "LSH, GCDM, SPSXBM, SPSXSLBM, SJYXBS",
        "SPGL_XMSPSXBLXXXXB": "LSH, GCDM, SPSXSLBM, BLZT, BLSJ, SJYXBS",
        "works_permit": "permit, subject, status, case_id, operator, utility, received_at",
        "LOCAL_WORKS_DECISION": "LSH, XKBH, JDLX, JDSJ, SJYXBS",
    },
}
OF_OPERATOR = {
    "case_": "case_id, subject, utility, business_kind, asked, round, since, received_at, triggered_at, request_sequence, connect_days, site_regions",
    "receipt": "case_id, sequence, received_at",
    "progress": "n, case_id, status, at, stamp, answers_sequence, segment_owner, promised_days",
}

Row = tuple[str, str | None, str | None, float | None]
"""What one thing gives to a figure: its subject, operator, type and value; no value: it could not be judged."""
Cell = dict[str, Any]
W = "(SELECT count(*) FROM ends WHERE e >= {} AND e < {})"
LIMIT = "(SELECT e FROM ends WHERE e >= {} ORDER BY e LIMIT 1 OFFSET {})"
CHINESE = "(CAST(strftime('%s', {}) AS INTEGER) - 28800) * 1000"
"""Milliseconds of a text in Asia/Shanghai."""


def naive(folder: Path, city: Path, first: date, last: date, now: datetime | None = None) -> dict[str, Any]:
    """The figures of a window, both days included: `figures` → name → `total` and `groups` → `division`, `operator` or `type` → group.

    Each is `value`, `n` and `left_out`. `now`: when a limit is over, if not by this computer's clock (aware).
    """
    pack = _pack(city)
    zone = ZoneInfo(pack["working"]["zone"])
    with closing(sqlite3.connect(":memory:")) as db:
        _load(db, folder)
        _derive(db, pack, last)
        named = {
            "first": _millis(datetime.combine(first, time(), zone)),
            "end": _millis(datetime.combine(last + timedelta(days=1), time(), zone)),
            "now": _millis(now or datetime.now(UTC)),
        }
        sites = dict(_sites(db))
        figures = {
            name: _figure(unit, db.execute(sql, named).fetchall(), sites, of_projects=name in PROJECTS)
            for name, (unit, sql) in (PROJECTS | CASES | PERMITS).items()
        }
    days = [first + timedelta(days=n) for n in range((last - first).days + 1)]
    return {
        "from": first.isoformat(), "to": last.isoformat(), "figures": figures,
        "provisional": any(not _published(day, pack["working"]) for day in days),
    }  # fmt: skip


# -- what a figure is --------------------------------------------------------------------------------------------------
def _figure(unit: str, rows: list[Row], sites: Mapping[str, list[str]], *, of_projects: bool) -> dict[str, Any]:
    groups: dict[str, defaultdict[str, list[float | None]]] = {
        by: defaultdict(list) for by in ("division", "operator", "type")
    }
    for subject, operator, kind, value in rows:
        for division in sites.get(subject) or ["none"]:
            groups["division"][division].append(value)
        if not of_projects:
            groups["operator"][operator or "none"].append(value)
            groups["type"][kind or "none"].append(value)
    return {
        "total": _cell(unit, [row[3] for row in rows]),
        "groups": {
            by: {group: _cell(unit, values) for group, values in sorted(found.items())} for by, found in groups.items()
        },
    }


def _cell(unit: str, values: list[float | None]) -> Cell:
    judged = [value for value in values if value is not None]
    match unit:
        case "median":
            value = median(judged) if judged else None
        case "share":
            value = sum(judged) / len(judged) if judged else None
        case _:
            value = sum(judged)
    return {"value": value, "n": len(judged), "left_out": len(values) - len(judged)}


def _of_projects(begins: str, ends: str) -> tuple[str, str]:
    sql = f"""SELECT subject, NULL, NULL, CASE WHEN {begins} <= {ends} THEN {W.format(begins, ends)} END
        FROM milestones WHERE {ends} >= :first AND {ends} < :end"""
    return "median", sql


def _of_cases(unit: str, value: str) -> tuple[str, str]:
    sql = f"""SELECT subject, operator, type, CASE WHEN finished THEN {value} END FROM life
        WHERE (finished OR otherwise) AND last >= :first AND last < :end"""
    return unit, sql


def _of_connected(unit: str, value: str) -> tuple[str, str]:
    sql = f"""SELECT subject, operator, type, {value} FROM life
        WHERE last_status = 'CONNECTED' AND last >= :first AND last < :end"""
    return unit, sql


def _own(owner: str, since: str) -> str:
    """The working days of a case, from a moment to its last step, whose end came in this owner's time."""
    return f"""(SELECT count(*) FROM ends WHERE e >= {since} AND e < life.last AND coalesce((SELECT owner FROM step
        WHERE step.operator = life.operator AND step.case_id = life.case_id AND step.at <= e ORDER BY place DESC LIMIT 1), 'UTILITY') = '{owner}')"""


OWN_DAYS = f"CASE WHEN accepted IS NOT NULL THEN {_own('UTILITY', 'accepted')} END"
PROJECTS = {
    "decided_to_first_permit": _of_projects("decided", "first_permit"),
    "decided_to_main_permit": _of_projects("decided", "main_permit"),
    "decided_to_planning": _of_projects("decided", "planning"),
    "planning_to_first_permit": _of_projects("planning", "first_permit"),
    "first_permit_to_acceptance": _of_projects("first_permit", "acceptance"),
}
CASES = {
    "contacted_in_time": ("share", """SELECT subject, operator, type, CASE WHEN first_step IS NOT NULL THEN first_step <= due
        WHEN :now > due AND (rests IS NULL OR rests >= due) THEN 0 END
        FROM life WHERE business_kind <> 'PROTECT' AND due >= :first AND due < :end"""),
    "case_days": _of_cases("median", W.format("opened", "last")),
    "case_days_total": _of_cases("sum", W.format("opened", "last")),
    **{
        f"{owner.lower()}_days{total}": _of_cases(unit, _own(owner, "opened"))
        for owner in ("UTILITY", "CUSTOMER", "DEPARTMENT")
        for total, unit in (("", "median"), ("_total", "sum"))
    },
    "connect_days": _of_connected("median", OWN_DAYS),
    "connect_days_promised": _of_connected("median", "CASE WHEN accepted IS NOT NULL THEN promised END"),
    "connected_in_time": _of_connected("share", f"{OWN_DAYS} <= promised"),
}  # fmt: skip
OF_DECIDED = """FROM permit WHERE word_at >= :first AND word_at < :end"""
IN_TIME = """SELECT permit.*, CASE WHEN decided THEN word_at <= due
    WHEN word IS NULL AND status <> 'CANCELLED' AND :now > due THEN 0 END AS in_time
    FROM permit WHERE due >= :first AND due < :end"""
PERMITS = {
    "permits_decided": ("number", f"SELECT subject, operator, type, CASE WHEN decided THEN 1 END {OF_DECIDED}"),
    "permit_days": ("median", f"SELECT subject, operator, type, CASE WHEN decided THEN {W.format('asked', 'word_at')} END {OF_DECIDED}"),
    "permits_in_time": ("share", f"SELECT subject, operator, type, in_time FROM ({IN_TIME})"),
    "packages_in_time": ("share", f"""SELECT min(subject), operator, min(type), CASE WHEN min(in_time) = 0 THEN 0
        WHEN count(in_time) = count(*) THEN 1 END FROM ({IN_TIME}) GROUP BY operator, case_id, asked"""),
}  # fmt: skip


# -- what the tables say -----------------------------------------------------------------------------------------------
def _load(db: sqlite3.Connection, folder: Path) -> None:
    """Copies what is read: no more than ten databases can be attached."""
    for table, columns in OF_OPERATOR.items():
        db.execute(f"CREATE TABLE {table} (operator, {columns})")
    for name, tables in READ.items():
        for table, columns in tables.items():
            db.execute(f"CREATE TABLE {table} ({columns})")
            _copy(db, folder / name, table, columns)
    for file in sorted(folder.glob("platform-*.db")):
        if file.name not in READ:
            for table, columns in OF_OPERATOR.items():
                _copy(db, file, table, columns, (file.stem.removeprefix("platform-"),))


def _copy(db: sqlite3.Connection, file: Path, table: str, columns: str, more: tuple[str, ...] = ()) -> None:
    with closing(sqlite3.connect(f"{file.absolute().as_uri()}?mode=ro", uri=True)) as source:
        marks = ", ".join("?" * (len(more) + len(columns.split(","))))
        rows = source.execute(f"SELECT {columns} FROM {table}")
        db.executemany(f"INSERT INTO {table} VALUES ({marks})", ((*more, *row) for row in rows))


def _derive(db: sqlite3.Connection, pack: Mapping[str, Any], last: date) -> None:
    db.execute("CREATE TABLE rule (main, contact_days, permit_days)")
    main = list(pack.get("permit_parts") or ["FULL"])[-1]
    db.execute("INSERT INTO rule VALUES (?, ?, ?)", (main, pack["clocks"]["contact_days"], pack["works"]["days"]))
    db.execute("CREATE TABLE catalogue (code PRIMARY KEY, kind, part)")
    db.executemany("INSERT INTO catalogue VALUES (?, ?, ?)", _catalogue(pack))
    db.executescript(APPROVALS)
    _open(db)
    fill_calendar(db, pack["working"], last)
    db.executescript(LIVES)
    db.executescript(PERMITTED)


APPROVALS = f"""
CREATE INDEX works ON SPGL_XMJBXXB (GCDM);
CREATE TABLE work AS SELECT GCDM, XMDM, JSDDXZQH FROM SPGL_XMJBXXB w WHERE LSH =
    (SELECT LSH FROM SPGL_XMJBXXB o WHERE o.GCDM = w.GCDM ORDER BY SJYXBS DESC, LSH DESC LIMIT 1);
CREATE INDEX items ON SPGL_XMSPSXBLXXB (SPSXSLBM, GCDM);
CREATE TABLE item AS SELECT GCDM, SPSXSLBM, SPSXBM FROM SPGL_XMSPSXBLXXB i WHERE LSH = (SELECT LSH FROM SPGL_XMSPSXBLXXB o
    WHERE o.GCDM = i.GCDM AND o.SPSXSLBM = i.SPSXSLBM ORDER BY SJYXBS DESC, LSH DESC LIMIT 1);
CREATE TABLE given AS SELECT GCDM, SPSXSLBM, coalesce(max(CASE WHEN SJYXBS <> 0 THEN at END), max(at)) AS at
    FROM (SELECT GCDM, SPSXSLBM, SJYXBS, {CHINESE.format("BLSJ")} AS at FROM SPGL_XMSPSXBLXXXXB WHERE BLZT IN (11, 12))
    GROUP BY GCDM, SPSXSLBM;
CREATE TABLE approval AS SELECT XMDM AS subject, JSDDXZQH AS sites, kind, part, at
    FROM given JOIN item USING (GCDM, SPSXSLBM) JOIN work USING (GCDM) LEFT JOIN catalogue ON code = SPSXBM;
CREATE TABLE milestones AS SELECT subject, min(CASE kind WHEN 'DECIDED' THEN at END) AS decided,
    min(CASE kind WHEN 'ENGINEERING_PLANNING' THEN at END) AS planning, min(CASE kind WHEN 'CONSTRUCTION' THEN at END) AS first_permit,
    min(CASE WHEN kind = 'CONSTRUCTION' AND part IN ('FULL', (SELECT main FROM rule)) THEN at END) AS main_permit,
    min(CASE WHEN kind IN ('JOINT', 'STAGED') THEN at END) AS acceptance
    FROM (SELECT subject, kind, part, at FROM approval UNION ALL SELECT code, status, NULL, at FROM handling) GROUP BY subject;
"""
"""Of an item the newest valid row is read, and its last approval; a struck one only if none that is valid stands."""


def _of_steps(more: str) -> str:
    return f"FROM step s WHERE s.operator = k.operator AND s.case_id = k.case_id AND s.status NOT IN {ECHOES} {more}"


LIVES = f"""
CREATE INDEX of_step ON step (operator, case_id, place);
CREATE TABLE life AS SELECT *, last_status IN {ENDED} AS otherwise,
    last_status = 'CONNECTED' OR business_kind IN {LINES} AND last_status = 'WORKS_FINISHED' AS finished FROM (
    SELECT k.operator, k.case_id, subject, utility || '/' || business_kind AS type, business_kind, opened,
    {LIMIT.format("opened", "(SELECT contact_days FROM rule)")} AS due,
    (SELECT at {_of_steps("")} ORDER BY place LIMIT 1) AS first_step,
    (SELECT at {_of_steps("")} ORDER BY place DESC LIMIT 1) AS last,
    (SELECT status {_of_steps("")} ORDER BY place DESC LIMIT 1) AS last_status,
    (SELECT at {_of_steps("AND status = 'ACCEPTED'")} ORDER BY place DESC LIMIT 1) AS accepted,
    coalesce((SELECT promised {_of_steps("AND status = 'ACCEPTED'")} ORDER BY place DESC LIMIT 1), connect_days) AS promised,
    CASE WHEN asked IN ('SUSPENDED', 'CANCELLED') THEN (SELECT min(r.received_at) FROM receipt r WHERE r.operator = k.operator
    AND r.case_id = k.case_id AND r.sequence = k.request_sequence) END AS rests
    FROM case_ k JOIN opening USING (operator, case_id));
"""
OF_WORDS = f"""FROM LOCAL_WORKS_DECISION d WHERE d.XKBH = p.permit AND d.SJYXBS <> 0
    AND {CHINESE.format("JDSJ")} >= p.received_at / 1000 * 1000 ORDER BY JDSJ DESC, LSH DESC LIMIT 1"""
"""What was said last on a permit since it was asked for; a decision has no milliseconds."""
PERMITTED = f"""
CREATE INDEX decisions ON LOCAL_WORKS_DECISION (XKBH);
CREATE TABLE permit AS SELECT *, word IN ('准予', '不予') AS decided FROM (
    SELECT p.permit, p.case_id, p.subject, p.operator, p.status, p.received_at AS asked, p.utility || '/' || k.business_kind AS type,
    {LIMIT.format("p.received_at", "(SELECT permit_days FROM rule)")} AS due,
    (SELECT JDLX {OF_WORDS}) AS word, (SELECT {CHINESE.format("JDSJ")} {OF_WORDS}) AS word_at
    FROM works_permit p LEFT JOIN case_ k ON k.operator = p.operator AND k.case_id = p.case_id);
"""


def _catalogue(pack: Mapping[str, Any]) -> Iterator[tuple[str, str | None, str]]:
    items: dict[str, dict[str, Any]] = pack.get("item_catalogue") or {}
    for code, item in items.items():
        yield code, item.get("acceptance_kind") or item.get("decision_kind"), item.get("permit_part", "FULL")


# -- the life of a case ------------------------------------------------------------------------------------------------
def _open(db: sqlite3.Connection) -> None:
    """Fills `opening` and `step`: of each case when it was opened last, and the steps since that may follow each other."""
    db.executescript(OPENED)
    for operator, case, kind, asked, since, begins in db.execute(BEGINS).fetchall():
        of_case = (operator, case)
        begun, after = _again(db, of_case, asked, since) or (begins, 0)
        db.execute("INSERT INTO opening VALUES (?, ?, ?)", (*of_case, begun))
        steps = _applied(kind, db.execute(STEPS, (*of_case, after, begun)).fetchall())
        db.executemany("INSERT INTO step VALUES (?, ?, ?, ?, ?, ?, ?)", ((*of_case, n, *step) for n, step in enumerate(steps)))  # fmt: skip


OPENED = """
CREATE INDEX cases ON case_ (operator, subject);
CREATE INDEX handled ON handling (code);
CREATE INDEX receipts ON receipt (operator, case_id, sequence);
CREATE INDEX done ON progress (operator, n);
CREATE INDEX steps ON progress (operator, case_id);
CREATE TABLE step (operator, case_id, place, status, at, owner, promised);
CREATE TABLE opening (operator, case_id, opened);
"""
BEGINS = """SELECT operator, case_id, business_kind, asked, since, CASE
    WHEN subject NOT IN (SELECT code FROM project UNION SELECT XMDM FROM work) THEN triggered_at
    WHEN EXISTS (SELECT 1 FROM handling h WHERE h.code = k.subject AND h.status = 'DECIDED' AND h.at = k.triggered_at) AND NOT EXISTS (SELECT 1
    FROM case_ o WHERE (o.operator, o.subject, o.business_kind) = (k.operator, k.subject, k.business_kind) AND o.received_at < k.received_at)
    THEN triggered_at ELSE received_at END FROM case_ k WHERE NOT (asked = 'CANCELLED' AND round = 1)"""
"""One of which its operator heard nothing but that it is to be closed was never opened. `triggered_at` is of the first case of a project that
its 立项 opened; one of a further 工程 rests on the same 立项, but came with that 工程."""
STEPS = """SELECT status, at, segment_owner, promised_days FROM progress
    WHERE operator = ? AND case_id = ? AND n > ? AND at >= ? ORDER BY stamp, n"""
ANSWERED = """SELECT min(received_at) FROM receipt WHERE operator = :operator AND case_id = :case
    AND received_at >= (SELECT at FROM progress WHERE operator = :operator AND n = :before) AND sequence > (SELECT max(answers_sequence)
    FROM progress WHERE operator = :operator AND case_id = :case AND n <= :before)"""
"""When the first request came that no step before answers."""


def _again(db: sqlite3.Connection, case: tuple[str, str], asked: str, since: int) -> tuple[int, int] | None:
    """When a case was opened anew, if it was, and the last step before: it had ended, or its cancellation was acknowledged."""
    sql = "SELECT max(n) FROM progress WHERE operator = ? AND case_id = ? AND status = 'CANCELLED'"
    [(echo,)] = db.execute(sql, case).fetchall()
    before = max(since, echo or 0)
    if not before or (before == echo and asked == "CANCELLED"):
        return None
    named = {"operator": case[0], "case": case[1], "before": before}
    [(moment,)] = db.execute(ANSWERED, named).fetchall()
    return None if moment is None else (moment, before)


def _applied(kind: str, steps: Iterable[tuple[Any, ...]]) -> Iterator[tuple[Any, ...]]:
    """Those that may follow the one before, each with whose time follows: nobody's after an end or the echo of a stop."""
    after = AFTER_OF_PROTECTION if kind == "PROTECT" else AFTER_OF_LINES if kind in LINES else AFTER
    state, running = "LEAD", "UTILITY"
    for status, at, named, promised in steps:
        if status in ECHOES:
            yield status, at, running if status == "RESUMED" else "NOBODY", promised
        elif state in after.get(status, ()):
            state = status
            usual = "CUSTOMER" if status in CUSTOMERS else "UTILITY"
            running = usual if named in (None, "", "UNKNOWN") else named
            yield status, at, running, promised


def _sites(db: sqlite3.Connection) -> Iterator[tuple[str, list[str]]]:
    """Subject → divisions: the project's, else those of its earliest approval which has one, else of its earliest case."""
    found: dict[str, str] = {}
    for sql in (
        "SELECT code, site_regions FROM project",
        "SELECT subject, sites FROM approval ORDER BY at",
        "SELECT subject, site_regions FROM case_ ORDER BY received_at, case_id",
    ):
        for subject, sites in db.execute(sql):
            if sites and sites.strip():
                found.setdefault(subject, sites)
    for subject, sites in found.items():
        codes = "".join(letter if letter.isdigit() else " " for letter in sites).split()
        yield subject, sorted({code[:6] for code in codes})


# -- the city and its days ---------------------------------------------------------------------------------------------
def _pack(city: Path) -> dict[str, Any]:
    pack: dict[str, Any] = {}
    for file in sorted(city.glob("*.yaml")):
        pack |= yaml.safe_load(file.read_text("utf-8")) or {}
    defaults = {
        "working": {"zone": "Asia/Shanghai", "cut_off": "17:30"},
        "clocks": {"contact_days": 1},
        "works": {"days": 5},
    }
    return pack | {key: default | (pack.get(key) or {}) for key, default in defaults.items()}


def fill_calendar(db: sqlite3.Connection, working: Mapping[str, Any], last: date) -> None:
    """`ends`: when each working day ends, over all that the tables speak of and the limits that follow."""
    zone, cut_off = ZoneInfo(working["zone"]), time.fromisoformat(working["cut_off"])
    each = (
        "at FROM handling",
        "at FROM approval",
        "at FROM step",
        "opened FROM opening",
        "received_at FROM works_permit",
    )
    moments = " UNION ".join(f"SELECT {one}" for one in each)
    [(least, most)] = db.execute(f"SELECT min(at), max(at) FROM ({moments})").fetchall()
    begins = (last if least is None else min(last, _moment(least).date())) - timedelta(days=2)
    until = (last if most is None else max(last, _moment(most).date())) + timedelta(days=120)
    days = (begins + timedelta(days=n) for n in range((until - begins).days))
    db.execute("CREATE TABLE ends (e INTEGER PRIMARY KEY)")
    ends = ((_millis(datetime.combine(day, cut_off, zone)),) for day in days if _works(day, working))
    db.executemany("INSERT INTO ends VALUES (?)", ends)


def _works(day: date, working: Mapping[str, Any]) -> bool:
    if day in (working.get("work_days") or ()):
        return True
    if day in (working.get("days_off") or ()):
        return False
    known = _official(day) if working["zone"] == "Asia/Shanghai" else None
    return day.weekday() < 5 if known is None else known


def _published(day: date, working: Mapping[str, Any]) -> bool:
    """The last week of a year is settled by the notice of the next; what the city says itself is settled."""
    own = (*(working.get("work_days") or ()), *(working.get("days_off") or ()))
    if day in own or working["zone"] != "Asia/Shanghai":
        return True
    return _official(day) is not None and _official(day + timedelta(days=7)) is not None


def _official(day: date) -> bool | None:
    """None: the official calendar does not say."""
    try:
        return chinese_calendar.is_workday(day)
    except NotImplementedError:
        return None


def _millis(moment: datetime) -> int:
    return round(moment.timestamp() * 1000)


def _moment(millis: int) -> datetime:
    return datetime.fromtimestamp(millis / 1000, UTC)


# -- the command -------------------------------------------------------------------------------------------------------
def main() -> int:
    """Prints the figures; exit code 2 for a folder without the platforms' databases."""
    parser = argparse.ArgumentParser(prog="tests.outside.figures", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("city", type=Path, help="the folder of its pack")
    parser.add_argument("--from", dest="first", type=date.fromisoformat, required=True)
    parser.add_argument("--to", dest="last", type=date.fromisoformat, required=True)
    parser.add_argument("--json", action="store_true")
    told = parser.parse_args()
    if missing := [name for name in READ if not (told.folder / name).exists()]:
        sys.stderr.write(f"{told.folder}: has no {', '.join(missing)}\n")
        return 2
    found = naive(told.folder, told.city, told.first, told.last)
    if told.json:
        sys.stdout.write(f"{json.dumps(found, ensure_ascii=False, indent=1)}\n")
        return 0
    for name, figure in found["figures"].items():
        total = figure["total"]
        sys.stdout.write(f"{name:28} {total['value']!s:>10}  n {total['n']:>5}  left out {total['left_out']:>5}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
