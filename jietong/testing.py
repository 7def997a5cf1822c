"""In-memory twins of log and store, and the contract suites that every adapter must pass.

A suite is a class of tests over one fixture: subclass it, give it the adapter, and pytest runs it. What an adapter cannot
do is a strict xfail in its subclass, never hidden. `tests/contract/test_broken_fakes.py` shows that the suites catch what
they claim to.
"""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Generator, Iterable, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from typing import Protocol
from uuid import uuid4

from sqlalchemy import Column, Integer, MetaData, Table, Text
from sqlalchemy.dialects import sqlite as dialect
from sqlalchemy.schema import CreateIndex, CreateTable

from jietong.adapters.sqlite import SqliteTransaction, ThreadBell
from jietong.broker import Assignment, Bounds, Broker, Message, Place, Reader, Record, Topic, partition_of
from jietong.errors import InvalidEventError, UsageError
from jietong.store import Store


class MemoryStore:
    """See `jietong.store.Store`: one connection, one lock, no file; a backup is a copy to put back."""

    def __init__(self, name: str, *tables: MetaData) -> None:
        self.name, self.bell = name, ThreadBell()
        self._lock = threading.RLock()
        self._db = sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False)
        for metadata in tables:
            for table in metadata.sorted_tables:
                self._db.execute(str(CreateTable(table).compile(dialect=dialect.dialect())))
                for index in table.indexes:
                    self._db.execute(str(CreateIndex(index).compile(dialect=dialect.dialect())))

    @contextmanager
    def transaction(self) -> Generator[SqliteTransaction]:
        with self._lock:
            tx = SqliteTransaction(self._db)
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield tx
            except BaseException:
                with suppress(sqlite3.Error):
                    self._db.execute("ROLLBACK")
                raise
            self._db.execute("COMMIT")
        for bell in tx.bells:
            bell.ring()

    @contextmanager
    def snapshot(self) -> Generator[SqliteTransaction]:
        with self._lock:
            yield SqliteTransaction(self._db)

    def copy(self) -> sqlite3.Connection:
        made = sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False)
        self._db.backup(made)
        return made

    def restore(self, copy: sqlite3.Connection) -> None:
        copy.backup(self._db)

    def close(self) -> None:
        self._db.close()


class MemoryLog:
    """See `jietong.broker.Broker`; and what may go wrong with one: made anew, truncated, trimmed, damaged."""

    def __init__(self, topics: Mapping[str, int]) -> None:
        """`topics`: name → partitions."""
        self._lock = threading.RLock()
        self._ids = {name: str(uuid4()) for name in topics}
        self._records: dict[Place, list[Record]] = {
            Place(name, p): [] for name, count in topics.items() for p in range(count)
        }
        self._bounds: dict[Place, Bounds] = dict.fromkeys(self._records, Bounds(0, 0))
        self._readers: list[MemoryReader] = []
        self.compacted: set[str] = set()

    def append(self, messages: Sequence[Message]) -> Sequence[bool]:
        with self._lock:
            for m in messages:
                place = Place(m.topic, partition_of(m.key, len(self.topic(m.topic).bounds)))
                start, end = self._bounds[place]
                kept = self._records[place]
                if m.topic in self.compacted:
                    kept = self._records[place] = [record for record in kept if record.key != m.key]
                kept.append(Record(m.topic, place.partition, end, m.key, m.value, m.headers, end))
                self._bounds[place] = Bounds(start, end + 1)
        for reader in self._readers:
            reader.bell.ring()
        return [True] * len(messages)

    def topic(self, name: str) -> Topic:
        if name not in self._ids:
            raise UsageError(f"the log has no topic {name}")
        return Topic(
            name,
            self._ids[name],
            {place.partition: bounds for place, bounds in self._bounds.items() if place.topic == name},
        )

    def topics(self, names: Iterable[str]) -> Mapping[str, Topic]:
        return {name: self.topic(name) for name in names}

    def records(self, offsets: Mapping[Place, int]) -> Mapping[Place, Record]:
        found = {place: self.read(place, offset, 1) for place, offset in offsets.items() if offset >= 0}
        return {place: read[0] for place, read in found.items() if read and read[0].offset == offsets[place]}

    def read(self, place: Place, offset: int, limit: int) -> Sequence[Record]:
        with self._lock:
            return [record for record in self._records[place] if record.offset >= offset][:limit]

    def reader(self, group: str, topics: Sequence[str]) -> MemoryReader:  # noqa: ARG002 — one member a group
        reader = MemoryReader(self, topics)
        self._readers.append(reader)
        return reader

    def everything(self, topic: str) -> list[Record]:
        return [record for place in sorted(self._records) if place.topic == topic for record in self._records[place]]

    def recreate(self, topic: str) -> None:
        self._ids[topic] = str(uuid4())
        for place in [place for place in self._records if place.topic == topic]:
            self._records[place], self._bounds[place] = [], Bounds(0, 0)

    def truncate(self, place: Place, records: int) -> None:
        """Lose the newest; the next written takes their offsets, as after an unclean election."""
        start, end = self._bounds[place]
        end = max(start, end - records)
        self._bounds[place] = Bounds(start, end)
        self._records[place] = [record for record in self._records[place] if record.offset < end]

    def retain(self, place: Place, records: int) -> None:
        """Keep only the newest so many."""
        start, end = self._bounds[place]
        start = max(start, end - records)
        self._bounds[place] = Bounds(start, end)
        self._records[place] = [record for record in self._records[place] if record.offset >= start]

    def damage(self, record: Record) -> None:
        kept = self._records[Place(record.topic, record.partition)]
        kept[kept.index(record)] = replace(record, value=(record.value or b"") + b"!")


class MemoryReader:
    """See `jietong.broker.Reader`."""

    def __init__(self, log: MemoryLog, topics: Sequence[str]) -> None:
        self.bell = ThreadBell()
        self._log, self._topics = log, topics
        self._next: dict[Place, int] = {}

    def poll(self, seconds: float, limit: int) -> Sequence[Record]:
        if not (records := self._ready(limit)) and seconds:
            self.bell.wait(seconds)
            records = self._ready(limit)
        return records

    def assigned(self) -> Assignment:
        places = (Place(name, partition) for name in self._topics for partition in self._log.topic(name).bounds)
        return Assignment(1, frozenset(places))

    def seek(self, place: Place, offset: int) -> None:
        self._next[place] = offset

    def commit(self, offsets: Mapping[Place, int]) -> None:
        """Nothing to advise."""

    def close(self) -> None:
        """Nothing is held."""

    def _ready(self, limit: int) -> list[Record]:
        taken: list[Record] = []
        for place in sorted(self._next):
            if records := self._log.read(place, self._next[place], limit - len(taken)):
                self._next[place] = records[-1].offset + 1
                taken += records
            if len(taken) >= limit:
                break
        return taken


# -- the suites ----------------------------------------------------------------------------------------------------------
notes = MetaData()
Table("note", notes, Column("n", Integer, primary_key=True), Column("text", Text, nullable=False, unique=True))


class OpenStore(Protocol):
    """Gives the suite a fresh store with the tables of `notes`."""

    def __call__(self) -> Store: ...


class StoreContract:
    """What every store promises. Give a fixture `open_store: OpenStore`."""

    def test_what_was_committed_is_there(self, open_store: OpenStore) -> None:
        store = open_store()
        with store.transaction() as tx:
            tx.execute("INSERT INTO note (n, text) VALUES (:n, :text)", {"n": 1, "text": "一"})
        with store.snapshot() as tx:
            assert tx.execute("SELECT n, text FROM note").all() == [(1, "一")]

    def test_an_exception_leaves_nothing(self, open_store: OpenStore) -> None:
        store = open_store()
        with suppress(KeyboardInterrupt), store.transaction() as tx:
            tx.execute("INSERT INTO note (n, text) VALUES (1, 'a')")
            raise KeyboardInterrupt
        with store.transaction() as tx:
            assert tx.execute("SELECT count(*) FROM note").all() == [(0,)]

    def test_a_refused_value_is_the_events_own_fault(self, open_store: OpenStore) -> None:
        store = open_store()
        refused = 0
        for values in ({"n": 2, "text": "a"}, {"n": 2**70, "text": "b"}):
            try:
                with store.transaction() as tx:
                    tx.execute_many("INSERT INTO note (n, text) VALUES (:n, :text)", [{"n": 1, "text": "a"}, values])
            except InvalidEventError:
                refused += 1
        with store.snapshot() as tx:
            assert (refused, tx.execute("SELECT count(*) FROM note").all()) == (2, [(0,)])

    def test_a_bell_rings_after_the_commit_and_not_after_a_rollback(self, open_store: OpenStore) -> None:
        store = open_store()
        with suppress(KeyboardInterrupt), store.transaction() as tx:
            tx.after_commit(store.bell)
            raise KeyboardInterrupt
        assert not store.bell.wait(0)
        with store.transaction() as tx:
            tx.after_commit(store.bell)
            assert not store.bell.wait(0)
        assert store.bell.wait(0)
        assert not store.bell.wait(0)

    def test_statements_say_how_many_rows_they_changed_and_return_what_they_wrote(self, open_store: OpenStore) -> None:
        store = open_store()
        with store.transaction() as tx:
            assert (
                tx.execute_many(
                    "INSERT INTO note (n, text) VALUES (:n, :text)", [{"n": n, "text": str(n)} for n in range(3)]
                )
                == 3
            )
            assert tx.execute("UPDATE note SET text = text || '!' WHERE n > :n", {"n": 0}).rowcount == 2
            assert tx.execute(
                "INSERT INTO note (n, text) VALUES (2, 'x') ON CONFLICT (n) DO UPDATE SET text = 'y' RETURNING text"
            ).one() == ("y",)
            assert tx.execute("SELECT n FROM note WHERE n > 5").one() is None

    def test_writers_who_hold_the_same_name_wait_for_each_other(self, open_store: OpenStore) -> None:
        store = open_store()
        with store.transaction() as tx:
            tx.execute("INSERT INTO note (n, text) VALUES (0, '0')")

        def count() -> None:
            for _ in range(20):
                with store.transaction() as tx:
                    tx.lock(["b", "a"])
                    value = tx.execute("SELECT text FROM note WHERE n = 0").all()[0][0]
                    tx.execute("UPDATE note SET text = :next WHERE n = 0", {"next": str(int(value) + 1)})

        threads = [threading.Thread(target=count) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        with store.snapshot() as tx:
            assert tx.execute("SELECT text FROM note WHERE n = 0").all() == [("80",)]


class OpenBroker(Protocol):
    """Gives the suite a fresh log with the topic `numbers` of 3 partitions and the compacted topic `newest` of 1."""

    def __call__(self) -> Broker: ...


class BrokerContract:
    """What every log promises. Give a fixture `open_broker: OpenBroker`."""

    def test_a_key_keeps_its_order_and_its_partition(self, open_broker: OpenBroker) -> None:
        broker = open_broker()
        messages = [Message("numbers", f"k{n % 7}".encode(), str(n).encode(), (("h", b"1"),)) for n in range(200)]
        assert all(broker.append(messages[:50])), "every record is acknowledged"
        assert all(broker.append(messages[50:]))
        found = self.everything(broker, "numbers")
        assert {record.partition for record in found} == {0, 1, 2}
        for key in {record.key for record in found}:
            mine = [record for record in found if record.key == key]
            assert [r.value for r in mine] == [m.value for m in messages if m.key == key]
            assert {r.partition for r in mine} == {partition_of(key, 3)}

    def test_a_record_comes_back_byte_for_byte(self, open_broker: OpenBroker) -> None:
        broker = open_broker()
        headers = (("ce_id", "标识".encode()), ("raw", b"\xff\x00"), ("ce_id", b"twice"))
        broker.append(
            [Message("numbers", "键".encode(), bytes(range(256)), headers), Message("numbers", "键".encode(), None)]
        )
        first, second = self.everything(broker, "numbers")
        assert (first.key, first.value, first.headers) == ("键".encode(), bytes(range(256)), headers)
        assert second.value is None
        assert second.offset == first.offset + 1
        assert first.timestamp > 0 or first.offset == 0

    def test_bounds_say_what_is_there(self, open_broker: OpenBroker) -> None:
        broker = open_broker()
        assert set(broker.topic("numbers").bounds.values()) == {Bounds(0, 0)}
        broker.append([Message("numbers", b"a", b"1"), Message("numbers", b"a", b"2")])
        partition = partition_of(b"a", 3)
        assert broker.topic("numbers").bounds[partition] == Bounds(0, 2)
        assert [r.value for r in broker.read(Place("numbers", partition), 1, 10)] == [b"2"]
        assert list(broker.read(Place("numbers", partition), 2, 10)) == []
        assert broker.topic("numbers").id == broker.topic("numbers").id != broker.topic("newest").id

    def test_a_reader_reads_on_from_where_it_was_told(self, open_broker: OpenBroker) -> None:
        broker = open_broker()
        broker.append([Message("numbers", b"a", str(n).encode()) for n in range(10)])
        reader = broker.reader("group", ["numbers"])
        assert _joined(reader) == {Place("numbers", p) for p in range(3)}
        for place in _joined(reader):
            reader.seek(place, 0)
        assert [r.value for r in reader.poll(10, 4)] == [b"0", b"1", b"2", b"3"]
        assert _values(reader, 6) == [str(n).encode() for n in range(4, 10)]
        assert list(reader.poll(0, 100)) == []
        reader.seek(Place("numbers", partition_of(b"a", 3)), 8)
        assert _values(reader, 2) == [b"8", b"9"]
        reader.close()

    def test_an_append_wakes_a_reader_that_waits(self, open_broker: OpenBroker) -> None:
        broker = open_broker()
        reader = broker.reader("group", ["numbers"])
        for place in _joined(reader):
            reader.seek(place, 0)
        writer = threading.Thread(target=broker.append, args=([Message("numbers", b"a", b"1")],))
        writer.start()
        got: list[Record] = []
        for _ in range(10):
            got += reader.poll(5, 10)
            if got:
                break
        writer.join()
        assert [r.value for r in got] == [b"1"]
        reader.close()

    def test_a_compacted_topic_keeps_the_newest_of_each_key(self, open_broker: OpenBroker) -> None:
        broker = open_broker()
        for n in range(5):
            broker.append([Message("newest", key, str(n).encode()) for key in (b"a", b"b")])
        found = {record.key: record.value for record in self.everything(broker, "newest")}
        assert found == {b"a": b"4", b"b": b"4"}

    def test_a_topic_that_is_not_there_is_said_so(self, open_broker: OpenBroker) -> None:
        broker = open_broker()
        try:
            broker.topic("nobody.knows.v1")
        except UsageError as error:
            assert "nobody.knows.v1" in str(error)
        else:
            raise AssertionError("a missing topic must be a UsageError")

    @staticmethod
    def everything(broker: Broker, topic: str) -> list[Record]:
        return [
            record for p in sorted(broker.topic(topic).bounds) for record in broker.read(Place(topic, p), 0, 10_000)
        ]


def _joined(reader: Reader) -> frozenset[Place]:
    """What a member holds once the group has let it in; polling is what joins."""
    until = time.monotonic() + 30
    while not (assigned := reader.assigned()).places and time.monotonic() < until:
        reader.poll(0.1, 1)
    return assigned.places


def _values(reader: Reader, count: int) -> list[bytes | None]:
    """The next so many values; fewer if they do not come."""
    values: list[bytes | None] = []
    for _ in range(10):
        values += [record.value for record in reader.poll(5, 100)]
        if len(values) >= count:
            break
    return values
