"""A data folder as any tool sees it: plain SQL, read only, on every `*.db`; and the workload's own history."""

from __future__ import annotations

import hashlib
import json
import sqlite3
from collections import defaultdict
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

OURS = "jietong."
"""Topics of the delivery core itself: read by relays, which keep a position and no inbox."""
Row = tuple[Any, ...]


class Key(NamedTuple):
    source: str
    type: str
    subject: str
    sequence: int

    @property
    def stream(self) -> tuple[str, str, str]:
        return self[:3]


class Sent(NamedTuple):
    """A row of an outbox: an event that its platform committed."""

    file: str
    id: str
    digest: bytes
    operator: str | None
    sent: bool
    body: bytes


class Taken(NamedTuple):
    """A row of an inbox."""

    id: str
    digest: bytes
    fate: str
    settled: int | None


class Done(NamedTuple):
    """An effect that a receiver wrote down when it took an event, in that order."""

    key: Key
    id: str


class Lead(NamedTuple):
    """A case in an operator's own table."""

    case: str
    subject: str
    business_kind: str
    phase: int
    work: str
    round: int


class Receipt(NamedTuple):
    id: str
    case: str
    subject: str
    sequence: int
    effect: str


@dataclass
class Consumer:
    """What one reader has: its topics are those it keeps a position of."""

    name: str
    topics: set[str]
    inbox: dict[Key, Taken]
    streams: dict[tuple[str, str, str], Row]
    done: list[Done] | None = None


@dataclass
class Operator:
    """A utility's own system."""

    name: str
    leads: list[Lead]
    receipts: list[Receipt]
    booked: set[str] = field(default_factory=set[str])
    """Events that its account book took."""


@dataclass
class Folder:
    """Everything there is, read once."""

    path: Path
    outbox: dict[Key, Sent] = field(default_factory=dict)
    counters: dict[tuple[str, str, str], int] = field(default_factory=dict)
    consumers: list[Consumer] = field(default_factory=list)
    operators: list[Operator] = field(default_factory=list)
    rounds: dict[str, dict[str, int]] = field(default_factory=dict)
    """File of a process manager → its own count of what it asked, by case."""
    lag: dict[str, int] = field(default_factory=dict)
    pending: dict[str, int] = field(default_factory=dict)
    strays: dict[str, int] = field(default_factory=dict)
    deaths: dict[str, int] = field(default_factory=dict)
    alarms: list[tuple[str, str, str, str]] = field(default_factory=list)
    source_held: set[tuple[str, str]] = field(default_factory=set)
    log: dict[str, int] = field(default_factory=dict)
    ends: dict[tuple[str, int], tuple[str, int]] = field(default_factory=dict)
    wal: dict[str, int] = field(default_factory=dict)


def read(path: Path) -> Folder:
    """Raises FileNotFoundError if there is no database here."""
    files = sorted(path.glob("*.db"))
    if not files:
        raise FileNotFoundError(f"{path}: no *.db in this folder")
    folder = Folder(path)
    for file in sorted(files, key=lambda f: f.name != "log.db"):  # the log's ends first
        with closing(opened(file)) as db:
            tables = {row[0] for row in db.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
            db.execute("BEGIN")
            _file(folder, file.stem, db, tables)
        wal = file.with_name(f"{file.name}-wal")
        folder.wal[file.stem] = wal.stat().st_size if wal.exists() else 0
    return folder


def opened(file: Path) -> sqlite3.Connection:
    return sqlite3.connect(f"file:{quote(str(file.absolute()))}?mode=ro", uri=True, timeout=30, isolation_level=None)


def digest(fingerprint: bytes, body: bytes) -> bytes:
    return hashlib.sha256(fingerprint + body).digest()


def _file(folder: Folder, stem: str, db: sqlite3.Connection, tables: set[str]) -> None:
    if stem == "log":
        _log(folder, db)
    if "outbox" in tables:
        _delivery(folder, stem, db)
    if "inbox" in tables:
        _consumer(folder, stem, db, tables)
    if {"case_", "receipt"} <= tables:
        folder.operators.append(_operator(stem.removeprefix("platform-"), db, tables))
    elif "case_" in tables:
        folder.rounds[stem] = dict(db.execute("SELECT id, round FROM case_ WHERE requested <> 'NONE'"))


def _log(folder: Folder, db: sqlite3.Connection) -> None:
    seen: defaultdict[tuple[str, ...], int] = defaultdict(int)
    records = 0
    for topic, headers in db.execute("SELECT topic, headers FROM record"):
        records += 1
        said = dict(json.loads(headers))
        if not topic.startswith(OURS) and "ce_sequence" in said:
            seen[tuple(said.get(f"ce_{name}", "") for name in ("source", "type", "subject", "sequence"))] += 1
    folder.log = {"records": records, "duplicates": sum(n - 1 for n in seen.values())}
    ends = "SELECT p.topic, p.partition, t.id, p.next FROM part p JOIN topic t ON t.name = p.topic"
    folder.ends = {(topic, part): (topic_id, end) for topic, part, topic_id, end in db.execute(ends)}


def _delivery(folder: Folder, stem: str, db: sqlite3.Connection) -> None:
    rows = db.execute(
        "SELECT source, type, aggregateid, sequence, id, fingerprint, payload, operator, sent FROM outbox"
    )
    for *key, event_id, fingerprint, body, operator, sent in rows:
        key = Key(*key)
        if not key.type.startswith(OURS):
            folder.outbox[key] = Sent(stem, event_id, digest(fingerprint, body), operator, bool(sent), body)
    counters = db.execute("SELECT source, type, subject, sequence FROM counter")
    folder.counters |= {row[:3]: row[3] for row in counters if not row[1].startswith(OURS)}
    folder.pending[stem] = sum(_count(db, sql) for sql in (
        "SELECT count(*) FROM outbox WHERE sent = 0", "SELECT count(*) FROM effect WHERE outcome = 'sending'",
        "SELECT count(*) FROM command WHERE done IS NULL",
    ))  # fmt: skip
    folder.strays[stem] = _count(db, "SELECT count(*) FROM stray")
    folder.deaths[stem] = _count(db, "SELECT coalesce(max(deaths), 0) FROM attempt")
    folder.alarms += [(stem, *row) for row in db.execute("SELECT name, about, detail FROM alarm")]
    folder.source_held |= {(stem, row[0]) for row in db.execute("SELECT row FROM source_held")}


def _consumer(folder: Folder, stem: str, db: sqlite3.Connection, tables: set[str]) -> None:
    positions = db.execute('SELECT topic, partition, topic_id, "offset" FROM position').fetchall()
    folder.lag[stem] = sum(_behind(folder, *position) for position in positions)
    topics = {row[0] for row in positions if not row[0].startswith(OURS)}
    if not topics:
        return
    inbox = db.execute("SELECT source, type, subject, sequence, id, digest, fate, settled FROM inbox")
    streams = db.execute("SELECT source, type, subject, last, known, conflict FROM stream")
    consumer = Consumer(
        stem, topics, {Key(*row[:4]): Taken(*row[4:]) for row in inbox}, {row[:3]: row[3:] for row in streams}
    )
    if "done" in tables:
        rows = db.execute("SELECT source, type, subject, sequence, id FROM done ORDER BY n")
        consumer.done = [Done(Key(*row[:4]), row[4]) for row in rows]
    folder.consumers.append(consumer)


def _behind(folder: Folder, topic: str, partition: int, topic_id: str, offset: int) -> int:
    """Records of a partition not yet taken; all of them if it is another topic than the one that was read."""
    now, end = folder.ends.get((topic, partition), (topic_id, offset))
    return end - offset if now == topic_id and offset <= end else max(end, 1)


def _operator(name: str, db: sqlite3.Connection, tables: set[str]) -> Operator:
    leads = db.execute("SELECT case_id, subject, business_kind, phase, coalesce(work, ''), round FROM case_")
    receipts = db.execute("SELECT r.event_id, r.case_id, c.subject, r.sequence, r.effect FROM receipt r "
                          "LEFT JOIN case_ c USING (case_id) ORDER BY r.rowid")  # fmt: skip
    booked = (
        {row[0] for row in db.execute("SELECT event_id FROM account_receipt")}
        if "account_receipt" in tables
        else set[str]()
    )
    return Operator(name, [Lead(*row) for row in leads], [Receipt(*row) for row in receipts], booked)


def _count(db: sqlite3.Connection, sql: str) -> int:
    return db.execute(sql).fetchone()[0]


# -- history -----------------------------------------------------------------------------------------------------------
class Operation(NamedTuple):
    """A business operation as whoever asked for it saw it: ok, failed or unknown.

    `row` is where it stands if it was committed: {file, table, where: {column: value}, subject: column or null};
    `events` [source, type] each; `effects` [receiver, business kind, phase] each: one lead a committed operation.
    """

    name: str
    outcome: str
    row: dict[str, Any]
    subject: str | None
    events: list[list[str]]
    effects: list[list[Any]]


@dataclass
class History:
    operations: list[Operation]
    held: list[dict[str, Any]]


def history(file: Path) -> History:
    """NDJSON: `{"op", "at": "begin", …}`, later `{"op", "at": "ok" | "failed"}`; one that only began is unknown.
    `{"held": {consumer, source, type, subject, sequence, fate}}` or `{"held": {file, row}}` is a prediction."""
    began: dict[str, dict[str, Any]] = {}
    outcome: dict[str, str] = {}
    held: list[dict[str, Any]] = []
    for line in _lines(file):
        if "held" in line:
            held.append(line["held"])
        elif line["at"] == "begin":
            began[line["op"]] = line
        else:
            outcome[line["op"]] = line["at"]
    return History([_operation(line, outcome.get(name, "unknown")) for name, line in began.items()], held)


def _operation(line: dict[str, Any], outcome: str) -> Operation:
    name, row, subject = line["op"], line["row"], line.get("subject")
    return Operation(name, outcome, row, subject, line.get("events", []), line.get("effects", []))


def _lines(file: Path) -> Iterator[dict[str, Any]]:
    """A last line without its end was being written when its process was killed."""
    text = file.read_bytes()
    for line in text[: text.rfind(b"\n") + 1].splitlines():
        yield json.loads(line)


def committed(folder: Path, operation: Operation) -> list[str]:
    """The subjects of the rows in which it stands: none if it was not committed, one if it was."""
    where = operation.row["where"]
    column = operation.row.get("subject")
    conditions = " AND ".join(f"{name} = :{name}" for name in where)
    sql = f"SELECT {column or 'NULL'} FROM {operation.row['table']} WHERE {conditions}"
    with closing(opened(folder / operation.row["file"])) as db:
        return [row[0] or operation.subject for row in db.execute(sql, where)]
