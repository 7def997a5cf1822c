"""The yardstick: what hookup must do for each event, done by hand in one straight script, without our delivery core.

It reads the log's SQLite file in batches of 500, checks headers and digests, decodes, keeps inbox, stream and facts,
works out the wanted cases from the city's triggers and areas, validates and encodes each request, and keeps outbox and
cases: one transaction a batch, WAL, synchronous FULL. What a careful hand would write: one statement for many rows
where nothing is read in between, a cache where a pure question is asked again and again; no more.

`python -m benchmarks.yardstick FOLDER` drains FOLDER/log.db into a new FOLDER/yardstick.db and prints JSON: events and
CPU seconds.
"""

from __future__ import annotations

import hashlib
import io
import json
import sqlite3
import sys
import time
from collections import defaultdict
from datetime import UTC, date, datetime
from decimal import Decimal
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple
from uuid import NAMESPACE_URL, UUID, uuid5
from zoneinfo import ZoneInfo

import fastavro
from pydantic import AwareDatetime, ConfigDict, Field, StringConstraints, TypeAdapter
from typing_extensions import TypedDict

from jietong import catalog as catalogue
from jietong import city as cities
from jietong.contract import fingerprint as fingerprint_of

BATCH = 500
SOURCE = "urn:jietong:440700:hookup"
PROJECT, APPROVAL = "investment.project.registered.v1", "engineering.approval.decided.v1"
REQUESTED = "utility.connection.requested.v1"
SHANGHAI = ZoneInfo("Asia/Shanghai")

# -- the database ------------------------------------------------------------------------------------------------------
DDL = """
CREATE TABLE IF NOT EXISTS position (topic TEXT, partition INTEGER, topic_id TEXT NOT NULL, "offset" INTEGER NOT NULL,
  digest BLOB, PRIMARY KEY (topic, partition));
CREATE TABLE IF NOT EXISTS stream (source TEXT, type TEXT, subject TEXT, last INTEGER NOT NULL, known INTEGER NOT NULL,
  conflict INTEGER NOT NULL DEFAULT 0, PRIMARY KEY (source, type, subject));
CREATE TABLE IF NOT EXISTS inbox (source TEXT, type TEXT, subject TEXT, sequence INTEGER, id VARCHAR(36) NOT NULL,
  digest BLOB NOT NULL, fate TEXT NOT NULL, reason TEXT, fingerprint BLOB NOT NULL, body BLOB NOT NULL,
  time INTEGER NOT NULL, recorded INTEGER NOT NULL, cause VARCHAR(36), supersedes VARCHAR(36), operator TEXT,
  traceparent TEXT, settled INTEGER, PRIMARY KEY (source, type, subject, sequence));
CREATE INDEX IF NOT EXISTS held ON inbox (fate) WHERE fate IN ('waiting', 'parked', 'dead');
CREATE INDEX IF NOT EXISTS correction ON inbox (supersedes) WHERE supersedes IS NOT NULL;
CREATE TABLE IF NOT EXISTS outbox (n INTEGER PRIMARY KEY AUTOINCREMENT, id VARCHAR(36) NOT NULL UNIQUE,
  source TEXT NOT NULL, aggregatetype TEXT NOT NULL, aggregateid TEXT NOT NULL, type TEXT NOT NULL,
  sequence INTEGER NOT NULL, fingerprint BLOB NOT NULL, payload BLOB NOT NULL, time INTEGER NOT NULL,
  recorded INTEGER NOT NULL, cause VARCHAR(36), supersedes VARCHAR(36), operator TEXT, traceparent TEXT,
  format INTEGER NOT NULL DEFAULT 1, sent INTEGER NOT NULL DEFAULT 0, UNIQUE (source, type, aggregateid, sequence));
CREATE INDEX IF NOT EXISTS pending ON outbox (n) WHERE sent = 0;
CREATE TABLE IF NOT EXISTS counter (source TEXT, type TEXT, subject TEXT, sequence INTEGER NOT NULL,
  PRIMARY KEY (source, type, subject));
CREATE TABLE IF NOT EXISTS total (source TEXT, type TEXT, sequence INTEGER NOT NULL, PRIMARY KEY (source, type));
CREATE TABLE IF NOT EXISTS project (subject TEXT PRIMARY KEY, status TEXT NOT NULL, facts TEXT NOT NULL,
  site_regions TEXT NOT NULL, authority_region TEXT NOT NULL, functional_zone TEXT);
CREATE TABLE IF NOT EXISTS support (subject TEXT, source TEXT, type TEXT, item TEXT, standing TEXT NOT NULL,
  rows TEXT NOT NULL, work TEXT, phase INTEGER NOT NULL, decision_kind TEXT, permit_part TEXT, document TEXT,
  site_regions TEXT NOT NULL, authority_region TEXT NOT NULL, functional_zone TEXT, facts TEXT, decided BIGINT NOT NULL,
  PRIMARY KEY (subject, source, type, item));
CREATE TABLE IF NOT EXISTS work (subject TEXT, work TEXT, ordinal INTEGER NOT NULL, previous TEXT,
  PRIMARY KEY (subject, work));
CREATE TABLE IF NOT EXISTS demand (subject TEXT, work TEXT, phase INTEGER, demand TEXT NOT NULL, basis TEXT NOT NULL,
  operators TEXT NOT NULL, PRIMARY KEY (subject, work, phase));
CREATE TABLE IF NOT EXISTS case_ (subject TEXT, work TEXT, operator TEXT, business_kind TEXT, phase INTEGER,
  id TEXT NOT NULL, utility TEXT NOT NULL, requested TEXT NOT NULL, confirmed INTEGER NOT NULL, round INTEGER NOT NULL,
  content TEXT NOT NULL, data TEXT NOT NULL, progress TEXT, opened BIGINT NOT NULL,
  PRIMARY KEY (subject, work, operator, business_kind, phase));
CREATE TABLE IF NOT EXISTS task (id TEXT PRIMARY KEY, subject TEXT NOT NULL, kind TEXT NOT NULL, about TEXT NOT NULL,
  detail TEXT NOT NULL, since BIGINT NOT NULL, done BIGINT);
"""
PARTS = """SELECT p.topic, p.partition, t.id, p.start, p.next FROM part p JOIN topic t ON t.name = p.topic
WHERE p.topic IN (?, ?) ORDER BY 1, 2"""
READ = """SELECT topic, partition, "offset", key, value, headers FROM record
WHERE topic = ? AND partition = ? AND "offset" >= ? ORDER BY "offset" LIMIT ?"""
SWAP = """UPDATE position SET "offset" = ?, digest = ?
WHERE topic = ? AND partition = ? AND topic_id = ? AND "offset" = ? AND digest IS ?"""
STAND = """INSERT INTO stream (source, type, subject, last, known) VALUES (?, ?, ?, ?, ?)
ON CONFLICT (source, type, subject) DO UPDATE SET last = excluded.last, known = excluded.known"""
LET_IN = """INSERT INTO inbox (source, type, subject, sequence, id, digest, fate, reason, fingerprint, body, time,
recorded, cause, supersedes, operator, traceparent, settled)
VALUES (?, ?, ?, ?, ?, ?, ?, NULL, ?, ?, ?, ?, ?, ?, ?, ?, ?)"""
KEEP_PROJECT = """INSERT INTO project (subject, status, facts, site_regions, authority_region, functional_zone)
VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT (subject) DO UPDATE SET status = excluded.status, facts = excluded.facts,
site_regions = excluded.site_regions, authority_region = excluded.authority_region,
functional_zone = excluded.functional_zone"""
KEEP_SUPPORT = """INSERT INTO support (subject, source, type, item, standing, rows, work, phase, decision_kind,
permit_part, document, site_regions, authority_region, functional_zone, facts, decided)
VALUES (?, ?, ?, ?, 'IN_FORCE', ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (subject, source, type, item)
DO UPDATE SET standing = excluded.standing, rows = excluded.rows, facts = excluded.facts"""
KEEP_WORK = """INSERT INTO work (subject, work, ordinal, previous)
SELECT ?, ?, 1 + count(*), ? FROM work WHERE subject = ? ON CONFLICT DO NOTHING"""
STANDING = "UPDATE support SET standing = ? WHERE subject = ? AND source = ? AND type = ? AND item = ?"
DOCUMENT = "UPDATE support SET document = ? WHERE subject = ? AND source = ? AND type = ? AND item = ?"
SUPPORTS = """SELECT type, rows, work, phase, decision_kind, permit_part, document, site_regions, authority_region,
functional_zone, facts, decided FROM support WHERE subject = ? AND standing = 'IN_FORCE' ORDER BY decided, type, item"""
DEMANDS = "SELECT work, phase, demand, basis, operators FROM demand WHERE subject = ?"
CASES = """SELECT work, operator, business_kind, phase, id, utility, requested, confirmed, round, content, data
FROM case_ WHERE subject = ?"""
KEEP_CASE = """INSERT INTO case_ (subject, work, operator, business_kind, phase, id, utility, requested, confirmed,
round, content, data, opened) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (subject, work, operator, business_kind, phase) DO UPDATE SET requested = excluded.requested,
round = excluded.round, content = excluded.content, data = excluded.data"""
TASK = """INSERT INTO task (id, subject, kind, about, detail, since) VALUES (?, ?, 'NO_OPERATOR', ?, ?, ?)
ON CONFLICT DO NOTHING"""
COUNT = """INSERT INTO counter (source, type, subject, sequence) VALUES (?, ?, ?, ?)
ON CONFLICT (source, type, subject) DO UPDATE SET sequence = counter.sequence + excluded.sequence RETURNING sequence"""
TOTAL = """INSERT INTO total (source, type, sequence) VALUES (?, ?, ?)
ON CONFLICT (source, type) DO UPDATE SET sequence = total.sequence + excluded.sequence"""
SEND = """INSERT INTO outbox (id, source, aggregatetype, aggregateid, type, sequence, fingerprint, payload, time,
recorded, cause, operator, traceparent) VALUES (?, ?, 'project', ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"""

# -- what a request must be --------------------------------------------------------------------------------------------
STRICT = ConfigDict(strict=True, extra="forbid", allow_inf_nan=False, hide_input_in_errors=True)
PLAIN = r"^[^\x00-\x1f\x7f-\x9f]*$"
Text = Annotated[str, StringConstraints(max_length=1000, pattern=PLAIN)]
Short = Annotated[str, StringConstraints(max_length=50, pattern=PLAIN)]
Int = Annotated[int, Field(ge=-(2**31), lt=2**31)]
Degrees = Annotated[Decimal, Field(max_digits=9, decimal_places=6)]
Money = Annotated[Decimal, Field(max_digits=18, decimal_places=6)]
Square = Annotated[Decimal, Field(max_digits=18, decimal_places=2)]
Metres = Annotated[Decimal, Field(max_digits=8, decimal_places=2)]
Amount = Annotated[Decimal, Field(max_digits=12, decimal_places=2)]


class Sealed(TypedDict):
    __pydantic_config__ = STRICT  # type: ignore[misc]  # pydantic's way to configure a TypedDict
    key: Text
    nonce: Annotated[bytes, Field(max_length=262144)]
    ciphertext: Annotated[bytes, Field(max_length=262144)]


class ProjectFacts(TypedDict):
    __pydantic_config__ = STRICT  # type: ignore[misc]
    name: Text | None
    kind: Short | None
    address: Text | None
    longitude: Degrees | None
    latitude: Degrees | None
    total_investment: Money | None
    land_area: Square | None
    floor_area: Square | None
    planned_start: date | None
    planned_finish: date | None
    buildings: Int | None
    households: Int | None
    height: Metres | None
    floors: Int | None
    applicant_uscc: Text | None
    applicant_name: Text | None
    content: Annotated[str, StringConstraints(max_length=4000, pattern=PLAIN)] | None
    contact_name: Sealed | None
    contact_phone: Sealed | None
    red_line: str | None
    red_line_crs: str | None
    red_line_accuracy_m: Decimal | None
    red_line_source: str | None


class Demand(TypedDict):
    __pydantic_config__ = STRICT  # type: ignore[misc]
    water_m3_per_day: Amount | None
    water_pipe_dn_mm: Int | None
    fire_supply: bool | None
    drainage_m3_per_day: Amount | None
    power_kva_temporary: Amount | None
    power_kva_permanent: Amount | None
    voltage: Short | None
    dual_supply: bool | None
    gas_m3_per_hour: Amount | None
    telecom_cores: Int | None
    cable_terminals: Int | None


class Request(TypedDict):
    __pydantic_config__ = STRICT  # type: ignore[misc]
    case: Text
    operator: Text
    utility: Literal["UNKNOWN", "WATER", "DRAINAGE", "POWER", "GAS", "TELECOM", "CABLE_TV", "HEAT"]
    business_kind: Literal[
        "TEMPORARY", "PERMANENT", "TEMP_TO_PERMANENT", "INCREASE", "RELOCATE", "PROTECT", "CONVERT_TO_DIRECT", "CLOSE"
    ]
    phase: Int
    work: Text | None
    status: Literal["LEAD", "REQUESTED", "AMENDED", "SUSPENDED", "RESUMED", "CANCELLED"]
    round: Int
    reason: Literal["UNKNOWN", "APPROVAL_DECIDED", "PROJECT_DECIDED", "DEMAND_CONFIRMED", "FACTS_CHANGED",
                    "SUPPORT_FELL", "SUPPORT_RETURNED", "PROJECT_CANCELLED", "CUSTOMER_ASKED"]  # fmt: skip
    trigger_type: Text | None
    trigger_document: Text | None
    trigger_kind: Text | None
    trigger_part: Text | None
    triggered_at: AwareDatetime
    project: ProjectFacts
    demand: Demand | None
    demand_basis: Literal["UNKNOWN", "ESTIMATED", "DECLARED", "CONFIRMED"]
    fields_known: Annotated[list[Text], Field(max_length=10_000)]
    fields_to_ask: Annotated[list[Text], Field(max_length=10_000)]
    applicant_visit_required: bool
    contact_within_hours: Int | None
    customer_role: Literal["UNKNOWN", "DEVELOPER", "CONTRACTOR", "OCCUPANT"]
    site_regions: Annotated[list[Text], Field(max_length=10_000)]
    authority_region: Text
    functional_zone: Text | None
    historical: bool


VALID = TypeAdapter[Any](Request)

# -- contracts and city ------------------------------------------------------------------------------------------------
CATALOG = catalogue.load()
CITY = cities.load("jiangmen", CATALOG)
DEFINITIONS = {name: CATALOG.schemas[name][-1].definition for name in (PROJECT, APPROVAL, REQUESTED)}
SCHEMAS: dict[str, Any] = {name: fastavro.parse_schema(json.loads(json.dumps(d))) for name, d in DEFINITIONS.items()}
PRINTS = {name: fingerprint_of(d) for name, d in DEFINITIONS.items()}
WIRE = {name: b"\0" + CATALOG.ids[name, CATALOG.schemas[name][-1].version].to_bytes(4, "big") for name in DEFINITIONS}
DECISIVE = {name: [f["name"] for f in d["fields"] if f.get("decisive")] for name, d in DEFINITIONS.items()}
ENDS = {"WITHDRAWN": "FALLEN", "REVOKED": "FALLEN", "DEREGISTERED": "FALLEN", "PENALTY_REVOKED": "FALLEN",
        "LAPSED": "FALLEN", "CONDITION_LAPSED": "FALLEN", "SUSPENDED": "SUSPENDED", "RESUMED": "IN_FORCE"}  # fmt: skip
DECIMALS = {"longitude", "latitude", "total_investment", "land_area", "floor_area", "height", "water_m3_per_day",
            "drainage_m3_per_day", "power_kva_temporary", "power_kva_permanent", "gas_m3_per_hour"}  # fmt: skip
DATES, SEALED = {"planned_start", "planned_finish"}, {"contact_name", "contact_phone"}
NO_FACTS: dict[str, Any] = dict.fromkeys(ProjectFacts.__annotations__)


@lru_cache(maxsize=4096)
def serving(utility: str, regions: tuple[str, ...], on: date) -> list[str]:
    return [operator.id for operator in CITY.serving(utility, regions, on)]


@lru_cache(maxsize=64)
def form(utility: str, business_kind: str) -> list[tuple[str, str, str]]:
    """(whole name, project or demand, field)"""
    return [(name, *name.split(".", 1)) for name in CITY.fields(utility, business_kind)]  # type: ignore[misc]  # two parts


class Arrived(NamedTuple):
    """A record's headers and body, checked."""

    source: str
    type: str
    subject: str
    sequence: int
    id: UUID
    digest: bytes
    time: int
    recorded: int
    cause: str | None
    supersedes: str | None
    operator: str | None
    traceparent: str | None
    body: bytes


def arrived(topic: str, key: bytes, value: bytes, headers_text: str) -> Arrived:
    """Raises ValueError for a record that is not what its headers say."""
    headers: dict[str, str] = dict(json.loads(headers_text))
    source, type_, subject = headers["ce_source"], headers["ce_type"], headers["ce_subject"]
    sequence, id_, digest = int(headers["ce_sequence"]), UUID(headers["ce_id"]), bytes.fromhex(headers["ce_digest"])
    if type_ != topic or subject.encode() != key or not 0 < sequence < 2**63:
        raise ValueError("type, subject or sequence are not this record's")
    if not CATALOG.topics[type_].written_by(source):
        raise ValueError("may not write this topic")
    if value[:5] != WIRE[type_]:
        raise ValueError("not in the wire format, or another schema")
    body = value[5:]
    if hashlib.sha256(PRINTS[type_] + body).digest() != digest:
        raise ValueError("digest: not that of its schema and body")
    cause, supersedes = headers.get("ce_causationid"), headers.get("ce_supersedes")
    return Arrived(
        source, type_, subject, sequence, id_, digest, millis(headers["ce_time"]), millis(headers["ce_recordedtime"]),
        cause and str(UUID(cause)), supersedes and str(UUID(supersedes)), headers.get("operator"),
        headers.get("traceparent"), body,
    )  # fmt: skip


def millis(text: str) -> int:
    return round(datetime.fromisoformat(text).timestamp() * 1000)


def decoded(event: Arrived) -> dict[str, Any]:
    source = io.BytesIO(event.body)
    data: Any = fastavro.schemaless_reader(source, SCHEMAS[event.type], None)
    if source.tell() != len(event.body):
        raise ValueError("bytes left over")
    for name in DECISIVE[event.type]:
        if data[name] == "UNKNOWN":
            raise ValueError(f"{name}: a word that this version does not know")
    return data


def plain(value: Any) -> Any:
    """What JSON lacks, as text."""
    if isinstance(value, bytes):
        return value.hex()
    return value.isoformat() if isinstance(value, date) else str(value)


def to_json(value: Any) -> str:
    return json.dumps(value, default=plain, ensure_ascii=False, separators=(",", ":"))


def typed(kept: dict[str, Any]) -> dict[str, Any]:
    """Facts or demand as they came out of JSON, with their types again."""
    made = dict(kept)
    for name, value in kept.items():
        if value is None:
            continue
        if name in DECIMALS:
            made[name] = Decimal(value)
        elif name in DATES:
            made[name] = date.fromisoformat(value)
        elif name in SEALED:
            made[name] = {
                "key": value["key"],
                "nonce": bytes.fromhex(value["nonce"]),
                "ciphertext": bytes.fromhex(value["ciphertext"]),
            }
    return made


# -- one event ---------------------------------------------------------------------------------------------------------
def learn(db: sqlite3.Connection, event: Arrived, data: dict[str, Any]) -> bool:
    """Keep the fact; whether there was one."""
    regions = to_json(data["site_regions"])
    where = (regions, data["authority_region"], data["functional_zone"])
    rows = [] if data["historical"] else CITY.triggered(event.type, data)
    met = to_json([[row.business_kind, list(row.utilities), row.customer_role] for row in rows])
    facts = data["project"] and to_json(data["project"])
    if event.type == PROJECT:
        db.execute(KEEP_PROJECT, (event.subject, data["status"], facts, *where))
        if data["status"] == "DECIDED":
            db.execute(KEEP_SUPPORT, (event.subject, event.source, event.type, "", met, None, 1, None, None,
                                      data["document_number"], *where, None, event.time))  # fmt: skip
        return True
    item = (event.subject, event.source, event.type, data["item_instance"])
    decision = data["decision"]
    if decision == "APPROVED":
        if data["work"]:
            db.execute(KEEP_WORK, (event.subject, data["work"], data["previous_work"], event.subject))
        db.execute(KEEP_SUPPORT, (*item, met, data["work"], data["phase"], data["decision_kind"], data["permit_part"],
                                  data["document_number"], *where, facts, event.time))  # fmt: skip
        return True
    if decision == "DOCUMENTED":
        return db.execute(DOCUMENT, (data["document_number"], *item)).rowcount == 1
    return decision in ENDS and db.execute(STANDING, (ENDS[decision], *item)).rowcount == 1


def due(db: sqlite3.Connection, event: Arrived, now: int) -> list[tuple[Any, ...]]:
    """Wanted minus requested: rows for the outbox, without sequence. The cases are kept here."""
    subject = event.subject
    project = db.execute("SELECT status, facts FROM project WHERE subject = ?", (subject,)).fetchone()
    supports = db.execute(SUPPORTS, (subject,)).fetchall()
    works = dict(db.execute("SELECT work, ordinal FROM work WHERE subject = ?", (subject,)).fetchall())
    demands = {(work, phase): rest for work, phase, *rest in db.execute(DEMANDS, (subject,))}
    cases = {tuple(row[:4]): row[4:] for row in db.execute(CASES, (subject,))}
    cancelled = project is not None and project[0] == "CANCELLED"
    wanted = {} if cancelled else wanted_cases(db, subject, supports, works, demands, now)
    if not wanted and not cases:
        return []
    known = merged(project and project[1], supports)
    facts, said = typed(known), hashlib.sha256(to_json(known).encode()).hexdigest()
    first = next((work for work, ordinal in works.items() if ordinal == 1), None)
    kept: list[tuple[Any, ...]] = []
    sent: list[tuple[Any, ...]] = []
    for key, (utility, role, support) in wanted.items():
        demand, had, work = demands.get((key[0], key[3])), cases.get(key), key[0] or first
        content = hashlib.sha256(f"{said}|{work}|{support[7:10]}|{demand}".encode()).hexdigest()
        if had and had[2] == "OPEN" and had[5] == content:
            continue
        data = request(subject, key, work, utility, role, support, facts, demand, had)
        kept.append((subject, *key, data["case"], utility, "OPEN", 0, data["round"], content, to_json(data), now))
        sent.append(encoded(event, data))
    for key, had in cases.items():
        if key not in wanted and had[2] == "OPEN":
            reason = "PROJECT_CANCELLED" if cancelled else "SUPPORT_FELL"
            data = again(json.loads(had[6])) | {"status": "CANCELLED", "round": had[4] + 1, "reason": reason}
            kept.append((subject, *key, *had[:2], "CANCELLED", 0, data["round"], had[5], to_json(data), now))
            sent.append(encoded(event, data))
    db.executemany(KEEP_CASE, kept)
    return sent


def wanted_cases(
    db: sqlite3.Connection, subject: str, supports: list[Any], works: dict[str, int], demands: dict[Any, Any], now: int
) -> dict[tuple[Any, ...], tuple[str, str, tuple[Any, ...]]]:
    """(work, operator, business kind, phase) → utility, customer role, and the oldest approval that supports it."""
    wanted: dict[tuple[Any, ...], tuple[str, str, tuple[Any, ...]]] = {}
    for support in supports:
        work, phase = support[2:4]
        work_key = "" if work is None or works.get(work) == 1 else work
        on = datetime.fromtimestamp(support[11] / 1000, SHANGHAI).date()
        regions = tuple(json.loads(support[7]))
        demand = demands.get((work_key, phase))
        chosen: list[str] = json.loads(demand[2]) if demand else []
        for business_kind, utilities, role in json.loads(support[1]):
            for utility in utilities:
                offering = serving(utility, regions, on)
                if not offering:
                    about = f"{business_kind}/{utility}/{phase}/{work_key}"
                    id_ = str(uuid5(NAMESPACE_URL, f"{subject}/{about}"))
                    db.execute(TASK, (id_, subject, about, "no operator serves the site", now))
                for operator in offering:
                    if not (utility == "TELECOM" and chosen and operator not in chosen):
                        wanted.setdefault((work_key, operator, business_kind, phase), (utility, role, support))
    return wanted


def request(
    subject: str, key: tuple[Any, ...], work: str | None, utility: str, role: str, support: tuple[Any, ...],
    facts: dict[str, Any], demand_row: Any, had: Any,
) -> dict[str, Any]:  # fmt: skip
    """All that is said to the operator."""
    work_key, operator, business_kind, phase = key
    amended = had is not None and had[2] == "OPEN"
    reason = "FACTS_CHANGED" if amended else "PROJECT_DECIDED" if support[0] == PROJECT else "APPROVAL_DECIDED"
    identity = "\x1f".join((subject, work_key, operator, business_kind, str(phase)))
    demand = typed(json.loads(demand_row[0])) if demand_row else None
    parts = {"project": facts, "demand": demand or {}}
    fields = form(utility, business_kind)
    promise = CITY.promises.get(utility)
    return {
        "case": had[0] if had else str(uuid5(NAMESPACE_URL, identity)),
        "operator": operator,
        "utility": utility,
        "business_kind": business_kind,
        "phase": phase,
        "work": work,
        "status": "AMENDED" if amended else "LEAD",
        "round": had[4] + 1 if had else 1,
        "reason": reason,
        "trigger_type": support[0],
        "trigger_document": support[6],
        "trigger_kind": support[4],
        "trigger_part": support[5],
        "triggered_at": datetime.fromtimestamp(support[11] / 1000, UTC),
        "project": facts,
        "demand": demand,
        "demand_basis": demand_row[1] if demand_row else "UNKNOWN",
        "fields_known": [name for name, part, field in fields if parts[part].get(field) is not None],
        "fields_to_ask": [name for name, part, field in fields if parts[part].get(field) is None],
        "applicant_visit_required": promise.applicant_visit if promise else False,
        "contact_within_hours": promise.contact_within_hours if promise else None,
        "customer_role": role,
        "site_regions": json.loads(support[7]),
        "authority_region": support[8],
        "functional_zone": support[9],
        "historical": False,
    }


def merged(facts: str | None, supports: list[tuple[Any, ...]]) -> dict[str, Any]:
    """The investment platform's word first, what it lacks from the approvals, the oldest first."""
    known: dict[str, Any] = NO_FACTS | (json.loads(facts) if facts else {})
    for support in supports:
        if support[10]:
            for name, value in json.loads(support[10]).items():
                if known.get(name) is None:
                    known[name] = value
    return known


def again(data: dict[str, Any]) -> dict[str, Any]:
    """A request as it came out of JSON, with its types again."""
    return data | {"project": typed(data["project"]), "demand": data["demand"] and typed(data["demand"]),
                   "triggered_at": datetime.fromisoformat(data["triggered_at"])}  # fmt: skip


def encoded(event: Arrived, data: dict[str, Any]) -> tuple[Any, ...]:
    """Validated and written: a row for the outbox, without sequence and recording time."""
    VALID.validate_python(data)
    out = io.BytesIO()
    fastavro.schemaless_writer(out, SCHEMAS[REQUESTED], data)
    if out.tell() > 262144:
        raise ValueError("too large")
    about = (event.id.hex, SOURCE, REQUESTED, data["case"], str(data["round"]))
    raw = bytearray(event.id.bytes[:6] + hashlib.sha256("\x1f".join(about).encode()).digest()[:10])
    raw[6], raw[8] = raw[6] & 0x0F | 0x80, raw[8] & 0x3F | 0x80
    return str(UUID(bytes=bytes(raw))), out.getvalue(), event.time, str(event.id), data["operator"], event.traceparent


# -- a batch -----------------------------------------------------------------------------------------------------------
def take(
    db: sqlite3.Connection, records: list[tuple[Any, ...]], at: dict[tuple[str, int], tuple[str, int, bytes | None]]
) -> None:
    """All that a batch brings, in one transaction."""
    now = time.time_ns() // 1_000_000
    db.execute("BEGIN IMMEDIATE")
    for topic, partition, offset, key, value, headers in {(r[0], r[1]): r for r in records}.values():
        topic_id, old, digest = at[topic, partition]
        new = (topic_id, offset + 1, hashlib.sha256(b"\0".join((key, value, headers.encode()))).digest())
        if db.execute(SWAP, (*new[1:], topic, partition, topic_id, old, digest)).rowcount != 1:
            raise ValueError("another reader has moved the position")
        at[topic, partition] = new
    last: dict[tuple[str, str, str], int] = {}
    inbox: list[tuple[Any, ...]] = []
    outbox: defaultdict[str, list[tuple[Any, ...]]] = defaultdict(list)
    for topic, _, _, key, value, headers in records:
        event = arrived(topic, key, value, headers)
        stream = event[:3]
        if stream not in last:
            row = db.execute("SELECT last FROM stream WHERE source = ? AND type = ? AND subject = ?", stream).fetchone()
            last[stream] = row[0] if row else 0
        if event.sequence <= last[stream]:
            continue  # we had it
        if event.sequence != last[stream] + 1:
            raise ValueError("a gap: this script does not wait")
        last[stream] = event.sequence
        fate = "filtered"
        if learn(db, event, decoded(event)):
            fate = "applied"
            if sent := due(db, event, now):
                outbox[event.subject] += sent
        inbox.append((*event[:4], str(event.id), event.digest, fate, PRINTS[event.type], event.body, *event[6:12], now))
    db.executemany(LET_IN, inbox)
    db.executemany(STAND, [(*stream, n, n) for stream, n in last.items()])
    send(db, outbox, now)
    db.execute("COMMIT")


def send(db: sqlite3.Connection, outbox: dict[str, list[tuple[Any, ...]]], now: int) -> None:
    rows: list[tuple[Any, ...]] = []
    for subject in sorted(outbox):
        more = outbox[subject]
        first = db.execute(COUNT, (SOURCE, REQUESTED, subject, len(more))).fetchall()[0][0] - len(more) + 1
        rows += [(id_, SOURCE, subject, REQUESTED, n, PRINTS[REQUESTED], payload, at, now, cause, operator, trace)
                 for n, (id_, payload, at, cause, operator, trace) in enumerate(more, first)]  # fmt: skip
    if rows:
        db.executemany(SEND, rows)
        db.execute(TOTAL, (SOURCE, REQUESTED, len(rows)))


def main(folder: Path) -> dict[str, float]:
    log = sqlite3.connect(f"{(folder / 'log.db').absolute().as_uri()}?mode=ro", uri=True)
    db = sqlite3.connect(folder / "yardstick.db", isolation_level=None)
    db.execute("PRAGMA journal_mode = WAL")
    db.execute("PRAGMA synchronous = FULL")
    db.executescript(DDL)
    parts = log.execute(PARTS, (PROJECT, APPROVAL)).fetchall()  # fmt: skip
    db.executemany(
        'INSERT INTO position (topic, partition, topic_id, "offset") VALUES (?, ?, ?, ?)', [part[:4] for part in parts]
    )
    at: dict[tuple[str, int], tuple[str, int, bytes | None]] = {(p[0], p[1]): (p[2], p[3], None) for p in parts}
    ends = {(p[0], p[1]): p[4] for p in parts}

    events, turn, began = 0, 0, time.process_time()
    while True:
        turn += 1
        records: list[tuple[Any, ...]] = []
        for n in range(len(parts)):  # each partition in turn is the first to be read
            topic, partition, *_ = parts[(n + turn) % len(parts)]
            if len(records) < BATCH and at[topic, partition][1] < ends[topic, partition]:
                records += log.execute(
                    READ, (topic, partition, at[topic, partition][1], BATCH - len(records))
                ).fetchall()
        if not records:
            break
        take(db, records, at)
        events += len(records)
    cpu = time.process_time() - began
    db.close()
    log.close()
    return {"events": events, "cpu": cpu, "cpu_per_event": cpu / max(events, 1)}


if __name__ == "__main__":
    print(json.dumps(main(Path(sys.argv[1]))))
