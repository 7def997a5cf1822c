"""The embedded log: durable, partitioned, one plain SQLite file that any tool can read.

Tables: `topic` (name, id), `part` (bounds), `record` (topic, partition, offset, key, value, headers, timestamp). One process
writes it, held by `flock` on a file beside it; whoever comes second is told the first one's pid.
"""

from __future__ import annotations

import fcntl
import json
import os
import threading
import time
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import IO, Any
from uuid import uuid4

from sqlalchemy import Column, Integer, LargeBinary, MetaData, Table, Text

from jietong.adapters.sqlite import SqliteStore, ThreadBell, refuse_network_mount
from jietong.broker import Assignment, Bounds, Headers, Message, Place, Record, Topic, partition_of
from jietong.catalog import TopicSpec
from jietong.errors import RetriableError, UsageError
from jietong.store import Row, Transaction

DAY = 86_400_000
log_tables = MetaData(info={"branch": "log", "revisions": Path(__file__).with_name("migrations")})
Table("topic", log_tables, Column("name", Text, primary_key=True), Column("id", Text, nullable=False),
      Column("cleanup", Text, nullable=False), Column("retention", Integer))  # fmt: skip
Table("part", log_tables, Column("topic", Text, primary_key=True), Column("partition", Integer, primary_key=True),
      Column("start", Integer, nullable=False), Column("next", Integer, nullable=False))  # fmt: skip
Table("record", log_tables, Column("topic", Text, primary_key=True), Column("partition", Integer, primary_key=True),
      Column("offset", Integer, primary_key=True, autoincrement=False), Column("key", LargeBinary, nullable=False), Column("value", LargeBinary),
      Column("headers", Text, nullable=False), Column("timestamp", Integer, nullable=False))  # fmt: skip
READ = """SELECT topic, partition, "offset", key, value, headers, timestamp FROM record
WHERE topic = :topic AND partition = :partition AND "offset" >= :offset ORDER BY "offset" LIMIT :limit"""
WRITE = """INSERT INTO record (topic, partition, "offset", key, value, headers, timestamp)
VALUES (:topic, :partition, :offset, :key, :value, :headers, :timestamp)"""


COMPACT = """DELETE FROM record WHERE topic = :topic AND partition = :partition AND key = :key AND "offset" < (SELECT max("offset")
FROM record newest WHERE newest.topic = :topic AND newest.partition = :partition AND newest.key = :key)"""


class Lock:
    """This process's hold on a file, by `flock`; the descriptor is kept as long as the hold."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file: IO[str] | None = None

    def take(self) -> bool:
        """Whether it is ours now."""
        if self._file:
            return True
        file = self.path.open("a+", encoding="ascii")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            file.close()
            return False
        file.seek(0)
        file.truncate()
        file.write(str(os.getpid()))
        file.flush()
        self._file = file
        return True

    def holder(self) -> int | None:
        """The pid of the process that holds it; None if nobody does."""
        try:
            with self.path.open(encoding="ascii") as file:
                try:
                    fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
                except OSError:
                    return int(file.read() or 0)
        except (FileNotFoundError, ValueError):
            pass
        return None

    def release(self) -> None:
        if self._file:
            self._file.close()
            self._file = None


class EmbeddedLog:
    """See `jietong.broker.Broker`. `read_only` for a command beside a running city."""

    def __init__(
        self, folder: Path, topics: Mapping[str, TopicSpec], read_only: bool = False, cap: int = 4 * 1024**3
    ) -> None:
        self._cap = cap
        self._compacted = {spec.topic for spec in topics.values() if spec.cleanup == "compact"}
        self._lock = Lock(folder / "log.lock")
        if not read_only:
            refuse_network_mount(folder)
            if not self._lock.take():
                raise UsageError(
                    f"{folder}: process {self._lock.holder()} is running on this data; stop it first, or use another folder"
                )
        self._guard = threading.Lock()
        self._topics: dict[str, Topic] = {}
        self._readers: list[EmbeddedReader] = []
        try:
            self._store = SqliteStore(folder / "log.db", log_tables, name="log", read_only=read_only)
            if not read_only:
                self._create(topics)
            self.refresh()
        except BaseException:
            self._lock.release()
            raise

    # -- Broker --------------------------------------------------------------------------------------------------------
    def append(self, messages: Sequence[Message]) -> Sequence[bool]:
        now = time.time_ns() // 1_000_000
        with self._guard:
            places: defaultdict[Place, list[Message]] = defaultdict(list)
            for message in messages:
                count = len(self.topic(message.topic).bounds)
                places[Place(message.topic, partition_of(message.key, count))].append(message)
            with self._store.transaction() as tx:
                for place, those in sorted(places.items(), key=lambda item: item[0]):
                    self._write(tx, place, those, now)
            self._grown({place: len(those) for place, those in places.items()})
        for reader in self._readers:
            if not reader.topics.isdisjoint(place.topic for place in places):
                reader.bell.ring()
        return [True] * len(messages)

    def topic(self, name: str) -> Topic:
        try:
            return self._topics[name]
        except KeyError:
            raise UsageError(f"the log has no topic {name}; `jietong topics` lists them") from None

    def topics(self, names: Iterable[str]) -> Mapping[str, Topic]:
        return {name: self.topic(name) for name in names}

    def records(self, offsets: Mapping[Place, int]) -> Mapping[Place, Record]:
        found = {place: self.read(place, offset, 1) for place, offset in offsets.items() if offset >= 0}
        return {place: read[0] for place, read in found.items() if read and read[0].offset == offsets[place]}

    def read(self, place: Place, offset: int, limit: int) -> Sequence[Record]:
        bounds = self.topic(place.topic).bounds.get(place.partition)
        if bounds is None or offset >= bounds.end:
            return ()
        with self._store.snapshot() as tx:
            rows = tx.execute(READ, {**place._asdict(), "offset": max(offset, 0), "limit": limit}).all()
        return [_record(row) for row in rows]

    def reader(self, group: str, topics: Sequence[str]) -> EmbeddedReader:  # noqa: ARG002 — one process, one member: no group needed
        reader = EmbeddedReader(self, topics)
        self._readers.append(reader)
        return reader

    # -- its own ---------------------------------------------------------------------------------------------------------
    def refresh(self) -> None:
        """Look at the file again: another tool may have written to it. Never beside an append: bounds read before it and
        kept after it would seem truncated to every reader."""
        with self._guard:
            self._look()

    def _look(self) -> None:
        with self._store.snapshot() as tx:
            rows = tx.execute(
                "SELECT t.name, t.id, p.partition, p.start, p.next FROM topic t JOIN part p ON p.topic = t.name"
            ).all()
        found: dict[str, Topic] = {}
        for name, id, partition, start, end in rows:
            known = found.setdefault(name, Topic(name, id, {}))
            found[name] = Topic(name, id, {**known.bounds, partition: Bounds(start, end)})
        self._topics = found

    def every(self) -> Sequence[Topic]:
        """Every topic there is, by name."""
        return [self._topics[name] for name in sorted(self._topics)]

    def recreate(self, name: str) -> None:
        """Delete a topic and make it anew, as an administrator might: another id, offsets from 0."""
        with self._guard:
            with self._store.transaction() as tx:
                tx.execute("DELETE FROM record WHERE topic = :name", {"name": name})
                tx.execute("UPDATE part SET start = 0, next = 0 WHERE topic = :name", {"name": name})
                tx.execute("UPDATE topic SET id = :id WHERE name = :name", {"name": name, "id": str(uuid4())})
            self._look()

    def trim(self) -> int:
        """Retention: forget what is older than its topic keeps, and the oldest of what is over the cap. Returns records dropped."""
        now, dropped = time.time_ns() // 1_000_000, 0
        with self._guard:
            with self._store.transaction() as tx:
                for name, retention in tx.execute(
                    "SELECT name, retention FROM topic WHERE cleanup = 'delete' AND retention IS NOT NULL"
                ).all():
                    dropped += _forget(tx, name, now - retention)
                if (over := _size(tx) - self._cap) > 0:
                    dropped += _forget_oldest(tx, over)
            self._look()
        self._store.checkpoint()
        return dropped

    def close(self) -> None:
        self._store.close()
        self._lock.release()

    @property
    def commits(self) -> int:
        return self._store.commits

    def _create(self, topics: Mapping[str, TopicSpec]) -> None:
        with self._store.transaction() as tx:
            for spec in topics.values():
                keep = spec.retention_days * DAY if spec.retention_days else None
                tx.execute("INSERT INTO topic (name, id, cleanup, retention) VALUES (:name, :id, :cleanup, :keep) ON CONFLICT (name) DO UPDATE "
                           "SET cleanup = :cleanup, retention = :keep", {"name": spec.topic, "id": str(uuid4()),
                           "cleanup": spec.cleanup, "keep": keep})  # fmt: skip
                have = {
                    row[0]
                    for row in tx.execute("SELECT partition FROM part WHERE topic = :name", {"name": spec.topic}).all()
                }
                if have and len(have) != spec.partitions:
                    raise UsageError(f"{spec.topic}: the log has {len(have)} partitions, its topic file says {spec.partitions}; "
                                     "raising them is a procedure, not a setting")  # fmt: skip
                tx.execute_many("INSERT INTO part (topic, partition, start, next) VALUES (:topic, :partition, 0, 0)",
                                [{"topic": spec.topic, "partition": p} for p in range(spec.partitions) if p not in have])  # fmt: skip

    def _write(self, tx: Transaction, place: Place, messages: Sequence[Message], now: int) -> None:
        row = tx.execute("UPDATE part SET next = next + :more WHERE topic = :topic AND partition = :partition RETURNING next",
                         {**place._asdict(), "more": len(messages)}).one()  # fmt: skip
        if row is None:
            raise RetriableError(f"{place.topic}: gone from the log")
        first = row[0] - len(messages)
        tx.execute_many(WRITE, [
            {**place._asdict(), "offset": n, "key": m.key, "value": m.value, "headers": headers_text(m.headers), "timestamp": now}
            for n, m in enumerate(messages, first)
        ])  # fmt: skip
        if place.topic in self._compacted:
            tx.execute_many(COMPACT, [{**place._asdict(), "key": m.key} for m in messages])

    def _grown(self, more: Mapping[Place, int]) -> None:
        for place, n in more.items():
            old = self._topics[place.topic]
            at = old.bounds[place.partition]
            self._topics[place.topic] = Topic(
                old.name, old.id, {**old.bounds, place.partition: Bounds(at.start, at.end + n)}
            )


class EmbeddedReader:
    """See `jietong.broker.Reader`: the only member of its group, holding every partition."""

    def __init__(self, log: EmbeddedLog, topics: Sequence[str]) -> None:
        self.topics, self.bell = frozenset(topics), ThreadBell()
        self._log = log
        self._next: dict[Place, int] = {}
        self._turn = 0

    def poll(self, seconds: float, limit: int) -> Sequence[Record]:
        if records := self._ready(limit):
            return records
        if seconds and not self.bell.wait(seconds):
            self._log.refresh()
        return self._ready(limit)

    def assigned(self) -> Assignment:
        places = (Place(name, partition) for name in self.topics for partition in self._log.topic(name).bounds)
        return Assignment(1, frozenset(places))

    def seek(self, place: Place, offset: int) -> None:
        self._next[place] = offset

    def commit(self, offsets: Mapping[Place, int]) -> None:
        """Nothing to advise: the position is in the reader's own database."""

    def close(self) -> None:
        self._log._readers.remove(self)  # pyright: ignore[reportPrivateUsage]  # noqa: SLF001 — the log made it

    def _ready(self, limit: int) -> list[Record]:
        """Partitions take turns at being first, so that a full one never starves the others."""
        places = sorted(self._next)
        self._turn += 1
        taken: list[Record] = []
        for n in range(len(places)):
            place = places[(n + self._turn) % len(places)]
            if len(taken) < limit and (records := self._log.read(place, self._next[place], limit - len(taken))):
                self._next[place] = records[-1].offset + 1
                taken += records
        return taken


def headers_text(headers: Headers) -> str:
    return json.dumps([[name, value.decode("utf-8", "surrogateescape")] for name, value in headers])


def _record(row: Row) -> Record:
    headers: list[Any] = json.loads(row[5])
    pairs = tuple((name, value.encode("utf-8", "surrogateescape")) for name, value in headers)
    return Record(row[0], row[1], row[2], row[3], row[4], pairs, row[6])


def _forget(tx: Transaction, topic: str, before: int) -> int:
    dropped = tx.execute(
        "DELETE FROM record WHERE topic = :topic AND timestamp < :before", {"topic": topic, "before": before}
    ).rowcount
    _restart(tx, topic)
    return dropped


def _forget_oldest(tx: Transaction, size: int) -> int:
    """The oldest records of all topics that retention may touch, until so many bytes are gone."""
    rows = tx.execute('SELECT topic, timestamp, length(value) + length(headers) + length(key) FROM record '
                      "WHERE topic IN (SELECT name FROM topic WHERE cleanup = 'delete') ORDER BY timestamp").all()  # fmt: skip
    until, left = 0, size
    for _, timestamp, length in rows:
        until, left = timestamp, left - (length or 0)
        if left <= 0:
            break
    return sum(_forget(tx, topic, until + 1) for topic in sorted({row[0] for row in rows}))


def _restart(tx: Transaction, topic: str) -> None:
    tx.execute('UPDATE part SET start = coalesce((SELECT min("offset") FROM record r WHERE r.topic = part.topic '
        "AND r.partition = part.partition), next) "
               "WHERE topic = :topic", {"topic": topic})  # fmt: skip


def _size(tx: Transaction) -> int:
    pages, free, size = (
        tx.execute(f"PRAGMA {name}").all()[0][0] for name in ("page_count", "freelist_count", "page_size")
    )
    return (pages - free) * size
