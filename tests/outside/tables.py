"""What stands in a city's stores and in its log, as any tool sees it: plain SQL, raw records; and the workload's history.

A city is read in two ways: `Files` here, a data folder with its `*.db`, and `tests.outside.servers.Servers`.
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import closing, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, Protocol
from urllib.parse import quote

OURS = "jietong."
"""Topics of the delivery core itself: read by relays, which keep a position and no inbox."""
Row = tuple[Any, ...]
Ask = Callable[[str], Iterable[Row]]
"""The rows of one store by plain SQL, all of one moment."""


DELIVERY = {"outbox", "inbox", "position"}
"""A store with one of these has all tables of the delivery core."""
STREAM = ("source", "type", "subject")
PREFIX = 5
"""Bytes before a body in the log: a zero and the schema's number in the registry."""


class Key(NamedTuple):
    source: str
    type: str
    subject: str
    sequence: int

    @property
    def stream(self) -> tuple[str, str, str]:
        return self[:3]


class Sent(NamedTuple):
    """A row of an outbox: an event that its platform committed. `store` as a file is named, in either way of reading."""

    store: str
    id: str
    digest: bytes
    operator: str | None
    sent: bool
    body: bytes
    n: int
    """Its place in the outbox: a relay goes by it."""


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


class Copy(NamedTuple):
    """A record that names an event. `prefix`: the registry's bytes before its body."""

    key: Key
    prefix: bytes
    body: bytes
    """Its digest."""


@dataclass
class Topic:
    """A topic as it is now, and what was read of it."""

    id: str
    ends: dict[int, int] = field(default_factory=dict[int, int])
    """Partition → the offset after its last record, its first offset if there is none."""
    forgot: bool = False
    """Its first records are gone (retention), or some cannot be read."""
    unreadable: int = 0
    """Partitions of which the rest cannot be read."""
    records: int = 0
    named: int = 0
    """Records that name an event."""
    copies: set[Copy] = field(default_factory=set[Copy])

    def take(self, headers: Mapping[str, str], value: bytes | None) -> None:
        self.records += 1
        with suppress(KeyError, ValueError):
            source, kind, subject = (headers[f"ce_{name}"] for name in STREAM)
            key, whole = Key(source, kind, subject, int(headers["ce_sequence"])), value or b""
            self.copies.add(Copy(key, whole[:PREFIX], short(whole[PREFIX:])))
            self.named += 1


@dataclass
class Seen:
    """Everything there is, read once."""

    outbox: dict[Key, Sent] = field(default_factory=dict)
    counters: dict[tuple[str, str, str], int] = field(default_factory=dict)
    consumers: list[Consumer] = field(default_factory=list)
    operators: list[Operator] = field(default_factory=list)
    rounds: dict[str, dict[str, int]] = field(default_factory=dict)
    """Store of a process manager → its own count of what it asked, by case."""
    topics: dict[str, Topic] | None = None
    """None: there is no log here."""
    relayed: dict[tuple[str, str], str] = field(default_factory=dict)
    """(store, topic) → the topic's id when its relay last looked."""
    lag: dict[tuple[str, str], int] = field(default_factory=dict)
    """(store, topic) → records in the log after the positions of that store."""
    pending: dict[str, int] = field(default_factory=dict)
    strays: dict[str, int] = field(default_factory=dict)
    attempts: dict[str, int] = field(default_factory=dict)
    deaths: dict[str, int] = field(default_factory=dict)
    alarms: list[tuple[str, str, str, str]] = field(default_factory=list)
    source_held: set[tuple[str, str]] = field(default_factory=set)
    wal: dict[str, int] = field(default_factory=dict)
    """Store → bytes of its write-ahead log, where it has one of its own."""
    files: int = 0
    """In the data folder, if there is one."""


class City(Protocol):
    """A way of reading. Each raises OSError or ValueError for what is missing or away."""

    def look(self) -> Seen:
        """Each store at one moment; the log before them all, so that what is behind it is behind."""
        ...

    def rows(self, store: str, sql: str, values: Mapping[str, Any]) -> list[Row]:
        """Of one store; a value's place in the SQL is `{name}`."""
        ...

    def schema(self, prefix: bytes) -> Any:
        """The schema that these registry bytes name; None where there is no registry to ask."""
        ...


class Files:
    """A data folder of SQLite files."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def look(self) -> Seen:
        """Raises FileNotFoundError if there is no database here."""
        files = sorted(self.path.glob("*.db"))
        if not files:
            raise FileNotFoundError(f"{self.path}: no *.db in this folder")
        seen = Seen(files=sum(file.parent.name != "keys" for file in self.path.rglob("*")))  # keys: one a person
        for file in sorted(files, key=lambda f: f.name != "log.db"):
            try:
                self._file(seen, file)
            except sqlite3.Error as error:
                raise ValueError(f"{file}: {error}") from None
            wal = file.with_name(f"{file.name}-wal")
            seen.wal[file.stem] = wal.stat().st_size if wal.exists() else 0
        return seen

    def rows(self, store: str, sql: str, values: Mapping[str, Any]) -> list[Row]:
        file = self.path / f"{store}.db"
        try:
            with closing(opened(file)) as db:
                return db.execute(sql.format(**{name: f":{name}" for name in values}), values).fetchall()
        except sqlite3.Error as error:
            raise ValueError(f"{file}: {error}") from None

    def schema(self, prefix: bytes) -> Any:
        """Nobody is asked: the embedded engine has no registry."""

    def _file(self, seen: Seen, file: Path) -> None:
        with closing(opened(file)) as db:
            tables = {row[0] for row in db.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
            db.execute("BEGIN")
            if file.stem == "log":
                seen.topics = _log(db)
            else:
                store(seen, file.stem, db.execute, tables, born="r.rowid")


def opened(file: Path) -> sqlite3.Connection:
    return sqlite3.connect(f"file:{quote(str(file.absolute()))}?mode=ro", uri=True, timeout=30, isolation_level=None)


def digest(fingerprint: bytes, body: bytes) -> bytes:
    return hashlib.sha256(fingerprint + body).digest()


def stem(store: str) -> str:
    """A store's name as a file has it: `utility:jm-water` is `utility-jm-water`."""
    return store.replace(":", "-")


def short(body: bytes) -> bytes:
    """Names a body among the copies of one event."""
    return hashlib.blake2b(body, digest_size=16).digest()


def _log(db: sqlite3.Connection) -> dict[str, Topic]:
    topics = {name: Topic(topic_id) for name, topic_id in db.execute("SELECT name, id FROM topic")}
    for name, partition, start, end in db.execute("SELECT topic, partition, start, next FROM part"):
        topics[name].ends[partition] = end
        topics[name].forgot |= start > 0
    for name, headers, value in db.execute("SELECT topic, headers, value FROM record"):
        topics[name].take(dict(json.loads(headers)), value)
    return topics


# -- one store ---------------------------------------------------------------------------------------------------------
def store(seen: Seen, name: str, ask: Ask, tables: set[str], born: str) -> None:
    """Read it into `seen`. `born` orders the rows r of a table as they were written."""
    if tables & DELIVERY:
        _delivery(seen, name, ask)
        _consumer(seen, name, ask, tables)
    if {"case_", "receipt"} <= tables:
        seen.operators.append(_operator(name.removeprefix("platform-"), ask, tables, born))
    elif "case_" in tables:
        seen.rounds[name] = {row[0]: row[1] for row in ask("SELECT id, round FROM case_ WHERE requested <> 'NONE'")}


def _delivery(seen: Seen, name: str, ask: Ask) -> None:
    rows = ask("SELECT source, type, aggregateid, sequence, id, fingerprint, payload, operator, n FROM outbox")
    waiting = {row[0] for row in ask("SELECT n FROM unsent")}
    for *key, event_id, fingerprint, body, operator, n in rows:
        key = Key(*key)
        if not key.type.startswith(OURS):
            seen.outbox[key] = Sent(name, event_id, digest(fingerprint, body), operator, n not in waiting, body, n)
    counters = ask("SELECT source, type, subject, sequence FROM counter")
    seen.counters |= {row[:3]: row[3] for row in counters if not row[1].startswith(OURS)}
    seen.relayed |= {(name, topic): topic_id for topic, topic_id in ask("SELECT topic, topic_id FROM relayed")}
    seen.pending[name] = sum(_number(ask, sql) for sql in (
        "SELECT count(*) FROM unsent", "SELECT count(*) FROM effect WHERE outcome = 'sending'",
        "SELECT count(*) FROM command WHERE done IS NULL",
    ))  # fmt: skip
    seen.strays[name] = _number(ask, "SELECT count(*) FROM stray")
    seen.attempts[name] = _number(ask, "SELECT count(*) FROM attempt")
    seen.deaths[name] = _number(ask, "SELECT coalesce(max(deaths), 0) FROM attempt")
    seen.alarms += [(name, *row) for row in ask("SELECT name, about, detail FROM alarm")]
    seen.source_held |= {(name, row[0]) for row in ask('SELECT "row" FROM source_held')}


def _consumer(seen: Seen, name: str, ask: Ask, tables: set[str]) -> None:
    positions = [*ask('SELECT topic, partition, topic_id, "offset" FROM position')]
    read = {row[0] for row in positions}
    for topic in read:
        at = {partition: (topic_id, offset) for of, partition, topic_id, offset in positions if of == topic}
        seen.lag[name, topic] = _behind(seen, topic, at)
    topics = {topic for topic in read if not topic.startswith(OURS)}
    if not topics:
        return
    inbox = ask("SELECT source, type, subject, sequence, id, digest, fate, settled FROM inbox")
    streams = ask("SELECT source, type, subject, last, known, conflict FROM stream")
    consumer = Consumer(
        name, topics, {Key(*row[:4]): Taken(*row[4:]) for row in inbox}, {row[:3]: row[3:] for row in streams}
    )
    if "done" in tables:
        rows = ask("SELECT source, type, subject, sequence, id FROM done ORDER BY n")
        consumer.done = [Done(Key(*row[:4]), row[4]) for row in rows]
    seen.consumers.append(consumer)


def _behind(seen: Seen, name: str, at: Mapping[int, tuple[str, int]]) -> int:
    """Records of a topic not yet taken; of a partition all, and one if there are none, if it is another one than was read.
    A topic that is gone is one record behind."""
    if seen.topics is None:
        return 0
    if (topic := seen.topics.get(name)) is None:
        return 1
    behind = 0
    for partition, end in topic.ends.items():
        topic_id, offset = at.get(partition, (topic.id, 0))
        behind += end - offset if topic_id == topic.id and offset <= end else max(end, 1)
    return behind


def _operator(name: str, ask: Ask, tables: set[str], born: str) -> Operator:
    leads = ask("SELECT case_id, subject, business_kind, phase, coalesce(work, ''), round FROM case_")
    receipts = ask("SELECT r.event_id, r.case_id, c.subject, r.sequence, r.effect FROM receipt r "
                   f"LEFT JOIN case_ c USING (case_id) ORDER BY {born}")  # fmt: skip
    booked = (
        {row[0] for row in ask("SELECT event_id FROM account_receipt")} if "account_receipt" in tables else set[str]()
    )
    return Operator(name, [Lead(*row) for row in leads], [Receipt(*row) for row in receipts], booked)


def _number(ask: Ask, sql: str) -> int:
    return next(iter(ask(sql)))[0]


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
    forgotten: set[str] = field(default_factory=set[str])


def history(file: Path) -> History:
    """NDJSON: `{"op", "at": "begin", …}`, later `{"op", "at": "ok" | "failed"}`; one that only began is unknown.
    `{"held": {consumer, source, type, subject, sequence, fate}}` or `{"held": {file, row}}` is a prediction, and so is
    `{"forgotten": topic}`: that the log lost some of it, cut off or damaged."""
    began: dict[str, dict[str, Any]] = {}
    outcome: dict[str, str] = {}
    held: list[dict[str, Any]] = []
    forgotten: set[str] = set()
    for line in _lines(file):
        if "held" in line:
            held.append(line["held"])
        elif "forgotten" in line:
            forgotten.add(line["forgotten"])
        elif line["at"] == "begin":
            began[line["op"]] = line
        else:
            outcome[line["op"]] = line["at"]
    return History([_operation(line, outcome.get(name, "unknown")) for name, line in began.items()], held, forgotten)


def _operation(line: dict[str, Any], outcome: str) -> Operation:
    name, row, subject = line["op"], line["row"], line.get("subject")
    return Operation(name, outcome, row, subject, line.get("events", []), line.get("effects", []))


def _lines(file: Path) -> Iterator[dict[str, Any]]:
    """A last line without its end was being written when its process was killed."""
    text = file.read_bytes()
    for line in text[: text.rfind(b"\n") + 1].splitlines():
        yield json.loads(line)


def committed(city: City, operation: Operation) -> list[str]:
    """The subjects of the rows in which it stands: none if it was not committed, one if it was."""
    where = operation.row["where"]
    column = operation.row.get("subject")
    conditions = " AND ".join(f"{name} = {{{name}}}" for name in where)
    sql = f"SELECT {column or 'NULL'} FROM {operation.row['table']} WHERE {conditions}"
    store = operation.row["file"].removesuffix(".db")
    return [row[0] or operation.subject or "" for row in city.rows(store, sql, where)]
