"""The same suites on PostgreSQL and Apache Kafka, and what else a city needs of them."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from itertools import count
from typing import Any

import psycopg
import pytest
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient, NewTopic
from kafka.errors import KafkaTimeoutError
from sqlalchemy.dialects import postgresql
from sqlalchemy.schema import CreateTable

from jietong.adapters import kafka, postgres
from jietong.adapters.kafka import ANSWER, KafkaLog, Wire
from jietong.adapters.postgres import Database, PostgresStore
from jietong.broker import Message, Place, Reader, Record, partition_of
from jietong.errors import RetriableError, UsageError
from jietong.testing import BrokerContract, OpenBroker, OpenStore, StoreContract, notes
from simulation import servers

pytestmark = [pytest.mark.city, pytest.mark.timeout(300)]
number = count(1)


@pytest.fixture
def database(real: servers.City) -> Iterator[Database]:
    opened = Database(real.postgres.url)
    yield opened
    opened.close()


def store(database: Database, name: str | None = None) -> PostgresStore:
    name = name or f"notes:{next(number)}"
    with psycopg.connect(database.url, autocommit=True) as session:
        session.execute(f'DROP SCHEMA IF EXISTS "{name}" CASCADE'.encode())
        session.execute(f'CREATE SCHEMA "{name}"'.encode())
        session.execute(f'SET search_path TO "{name}"'.encode())
        for table in notes.sorted_tables:
            session.execute(str(CreateTable(table).compile(dialect=postgresql.dialect())).encode())
    return PostgresStore(database, name, notes)


def topics(log: KafkaLog, **partitions: int) -> None:
    """Made anew, however often they were made before."""
    admin = AdminClient({"bootstrap.servers": log.servers})
    there = [name for name in partitions if name in admin.list_topics(timeout=10).topics]
    for done in (admin.delete_topics(there, operation_timeout=30) if there else {}).values():
        done.result()
    compact = {"cleanup.policy": "compact", "segment.ms": "100", "min.cleanable.dirty.ratio": "0.01"}
    for name, many in partitions.items():
        for _ in range(50):
            made = admin.create_topics([NewTopic(name, many, 1, config=compact if name == "newest" else {})])
            try:
                made[name].result()
                break
            except Exception:  # noqa: BLE001 — still being deleted
                time.sleep(0.1)
    for _ in range(100):
        try:
            if all(bounds.end == 0 for topic in log.topics(partitions).values() for bounds in topic.bounds.values()):
                return
        except (RetriableError, UsageError):
            time.sleep(0.1)
    raise AssertionError(f"no fresh topics {partitions}")


@pytest.fixture
def log(real: servers.City) -> Iterator[KafkaLog]:
    opened = KafkaLog(real.kafka.bootstrap)
    topics(opened, warm=1)
    for _ in range(100):  # a broker that just started loads what it knows of producers
        try:
            opened.append([Message("warm", b"k", b"v")])
            break
        except RetriableError:
            time.sleep(0.1)
    yield opened
    opened.close()


class TestPostgresStore(StoreContract):
    @pytest.fixture
    def open_store(self, database: Database) -> OpenStore:
        return lambda: store(database)


class TestKafkaLog(BrokerContract):
    @pytest.fixture
    def open_broker(self, log: KafkaLog) -> OpenBroker:
        def opened() -> KafkaLog:
            topics(log, numbers=3, newest=1)
            return log

        return opened


# -- PostgreSQL ----------------------------------------------------------------------------------------------------------
def test_a_bell_rings_in_another_process_that_has_the_same_store(real: servers.City, database: Database) -> None:
    here = store(database, "shared")
    other = Database(real.postgres.url)
    there = PostgresStore(other, "shared", notes)
    for _ in range(100):  # until the other one listens
        with here.transaction() as tx:
            tx.after_commit(here.bell)
        if there.bell.wait(0.1):
            break
    else:
        raise AssertionError("it never rang")
    other.close()


def test_only_one_process_holds_a_lock_and_a_lost_session_holds_nothing(real: servers.City, database: Database) -> None:
    other = Database(real.postgres.url)
    assert database.hold("relay x")
    assert database.hold("relay x"), "asked again it is still ours"
    assert not other.hold("relay x")
    with psycopg.connect(real.postgres.admin, autocommit=True) as admin:
        admin.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'jietong locks'")
    for _ in range(100):
        try:
            if other.hold("relay x"):
                break
        except RetriableError:
            time.sleep(0.05)
    assert not database.hold("relay x"), "the session that held it is gone"
    other.close()


def test_many_rows_are_one_statement_and_twice_the_same_key_are_still_two_changes(database: Database) -> None:
    kept = store(database)
    insert = "INSERT INTO note (n, text) VALUES (:n, :text) ON CONFLICT (n) DO UPDATE SET text = excluded.text"
    with kept.transaction() as tx:
        assert tx.execute_many(insert, [{"n": n, "text": f"一{n}"} for n in range(1000)]) == 1000
        assert tx.execute_many(insert, [{"n": 1, "text": "a"}, {"n": 1, "text": "b"}]) == 2
        assert (
            tx.execute_many(
                "UPDATE note SET text = :text WHERE n = :n", [{"n": n, "text": f"{n}!"} for n in range(2, 9)]
            )
            == 7
        )
    with kept.snapshot() as tx:
        assert tx.execute("SELECT text FROM note WHERE n IN (1, 2, 8) ORDER BY n").all() == [("b",), ("2!",), ("8!",)]


CHOOSE = "INSERT INTO chosen (n) SELECT n FROM note WHERE n = :n AND text = :text"
DELETE = "DELETE FROM note WHERE n = :n AND text = :text"
SEVERAL = [{"n": 3, "text": "3"}, {"n": 4, "text": "another"}, {"n": 999, "text": "none"}, {"n": 5, "text": "5"}]


def test_many_rows_chosen_or_deleted_are_those_each_would_have_been_alone(database: Database) -> None:
    kept = store(database)
    with kept.transaction() as tx:
        tx.execute_many("INSERT INTO note (n, text) VALUES (:n, :text)", [{"n": n, "text": f"{n}"} for n in range(9)])
    for many in (True, False):  # as one statement, and each for itself: one of them comes twice
        with kept.transaction() as tx:
            tx.execute("CREATE TEMPORARY TABLE chosen (n bigint) ON COMMIT DROP")
            tx.execute_many(CHOOSE, SEVERAL if many else [*SEVERAL, SEVERAL[0]])
            chosen = tx.execute("SELECT n FROM chosen ORDER BY n").all()
            assert chosen == ([(3,), (5,)] if many else [(3,), (3,), (5,)])
    with pytest.raises(LookupError), kept.transaction() as tx:
        assert tx.execute_many(DELETE, SEVERAL) == 2
        assert tx.execute("SELECT n FROM note ORDER BY n").all() == [(0,), (1,), (2,), (4,), (6,), (7,), (8,)]
        raise LookupError
    with kept.transaction() as tx:
        assert tx.execute_many(DELETE, [*SEVERAL, SEVERAL[0]]) == 2, "a row is deleted once"
    types = {"note.n": "bigint", "note.text": "text"}
    assert all(postgres.arrayed(statement, types) for statement in (CHOOSE, DELETE)), "one statement over arrays"


def test_a_database_that_goes_away_is_waited_for_and_comes_back(real: servers.City, database: Database) -> None:
    kept = store(database)
    with (
        psycopg.connect(real.postgres.admin, autocommit=True) as admin,
        pytest.raises(RetriableError),
        kept.transaction() as tx,
    ):
        tx.execute("INSERT INTO note (n, text) VALUES (1, 'a')")
        admin.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name LIKE 'jietong%'")
        tx.execute("INSERT INTO note (n, text) VALUES (2, 'b')")
    with kept.transaction() as tx:
        assert tx.execute("SELECT count(*) FROM note").all() == [(0,)], "nothing of it was kept"


@pytest.mark.parametrize(("url", "said"), [
    ("postgresql://nobody:wrong@{host}/jietong", "nobody"),
    ("postgresql://jietong@{host}/elsewhere", "elsewhere"),
    ("postgresql://jietong@127.0.0.1:1/jietong", "127.0.0.1:1"),
    ("no address", "JIETONG_DATABASE_URL"),
])  # fmt: skip
def test_a_wrong_address_or_login_is_said_in_a_line(real: servers.City, url: str, said: str) -> None:
    host = real.postgres.url.partition("@")[2].partition("/")[0]
    with pytest.raises(UsageError) as error:
        Database(url.format(host=host), patience=0.5)
    assert said in str(error.value)
    assert "\n" not in str(error.value)
    assert "wrong" not in str(error.value), "never a password"


# -- Kafka: what was found by running the client, survived ------------------------------------------------------------------
def sought(reader: Reader) -> None:
    for _ in range(300):
        if places := reader.assigned().places:
            for place in places:
                reader.seek(place, 0)
            return
        reader.poll(0.1, 1)
    raise AssertionError("never joined")


def taken(reader: Reader, enough: int) -> list[Record]:
    """Records, as a consumer would poll: whatever is away is tried again."""
    found: list[Record] = []
    for _ in range(60):
        try:
            if reader.assigned().generation != getattr(reader, "seen", None):
                sought(reader)
                reader.seen = reader.assigned().generation  # type: ignore[attr-defined]
                found = []
            found += reader.poll(1, 500)
        except RetriableError:
            continue
        if len(found) >= enough:
            break
    return found


def test_an_outage_longer_than_every_timeout_is_survived_by_itself(real: servers.City, log: KafkaLog) -> None:
    topics(log, outage=1)
    threads = threading.active_count()
    [node] = real.kafka.nodes
    node.kill(19)  # SIGSTOP: connections stay open, nothing is answered
    try:
        for _ in range(2):
            with suppress(RetriableError):
                assert not any(log.append([Message("outage", b"k", b"unknown")]))
    finally:
        node.kill(18)
    for _ in range(60):
        try:
            if all(log.append([Message("outage", b"k", b"after")])):
                break
        except RetriableError:
            time.sleep(0.5)
    assert [r.value for r in log.read(Place("outage", 0), 0, 10)][-1] == b"after"
    assert threading.active_count() <= threads + 1, "no sender lives on that could deliver later"


def test_an_outcome_that_is_unknown_is_never_taken_for_anothers(log: KafkaLog, monkeypatch: pytest.MonkeyPatch) -> None:
    """The broker would answer that it has the next batch already, were it sent with the number of the one before."""
    topics(log, unheard=1)
    assert all(log.append([Message("unheard", b"k", b"first")]))
    with monkeypatch.context() as unheard:
        unheard.setattr(Wire, "ask_each", unanswered)
        assert list(log.append([Message("unheard", b"k", b"unknown")])) == [False]
    assert all(log.append([Message("unheard", b"k", b"another")]))
    assert [r.value for r in log.read(Place("unheard", 0), 0, 10)] == [b"first", b"unknown", b"another"]


def unanswered(wire: Wire, requests: Sequence[tuple[int, Any]], seconds: float = ANSWER) -> list[Any]:
    """It is done, and nobody hears of it."""
    return [KafkaTimeoutError() for _ in asked(wire, requests, seconds)]


asked = Wire.ask_each


def test_a_record_over_the_topics_limit_is_not_acknowledged_and_ends_nothing(log: KafkaLog) -> None:
    topics(log, small=1)
    assert list(log.append([Message("small", b"k", bytes(2 * 1024 * 1024))])) == [False]
    assert list(log.append([Message("small", b"k", b"ok")])) == [True]


def test_a_backlog_of_any_size_leaves_in_batches_the_log_takes(log: KafkaLog) -> None:
    topics(log, wide=3)
    messages = [Message("wide", f"k{n % 50}".encode(), bytes(20_000), (("n", str(n).encode()),)) for n in range(300)]
    assert all(log.append(messages)), "six megabytes, a topic takes one at a time"
    found = [record for p in range(3) for record in log.read(Place("wide", p), 0, 1000)]
    for key in {m.key for m in messages}:
        assert [r.headers[0][1] for r in found if r.key == key] == [m.headers[0][1] for m in messages if m.key == key]
        assert {r.partition for r in found if r.key == key} == {partition_of(key, 3)}


@pytest.mark.parametrize("codec", ["zstd", "gzip"])
def test_a_batch_that_unpacks_to_more_than_it_may_is_one_stray_and_its_neighbours_arrive(
    real: servers.City, log: KafkaLog, codec: str
) -> None:
    """256 MiB of zeros in 11 KB; as stored by a topic that keeps what producers compress."""
    name = f"bomb-{codec}"
    topics(log, **{name: 1})
    log.configure(name, {"compression.type": "producer", "max.message.bytes": str(64 * 1024 * 1024)})
    assert all(log.append([Message(name, b"k", b"before")]))
    bomb = Producer({"bootstrap.servers": log.servers, "compression.type": codec, "message.max.bytes": 100_000_000})
    bomb.produce(name, key=b"k", value=bytes(40 * 1024 * 1024))
    assert bomb.flush(60) == 0
    assert all(log.append([Message(name, b"k", b"after")]))
    reader = log.reader(f"of-{name}", [name])
    found = taken(reader, 3)
    reader.close()
    assert [record.value for record in found] == [b"before", None, b"after"]
    assert found[1].headers[0][0] == "damaged"
    assert found[1].digest == log.records({Place(name, 0): found[1].offset})[Place(name, 0)].digest, (
        "it is named the same again"
    )


def test_what_a_transaction_aborted_is_not_read_and_a_missing_topic_is_not_made(
    real: servers.City, log: KafkaLog
) -> None:
    topics(log, aborted=1)
    writer = Producer({"bootstrap.servers": log.servers, "transactional.id": "t"})
    writer.init_transactions(30)
    for value, keep in ((b"gone", False), (b"kept", True)):
        writer.begin_transaction()
        writer.produce("aborted", key=b"k", value=value, partition=0)
        writer.flush(30)
        writer.commit_transaction(30) if keep else writer.abort_transaction(30)
    reader = log.reader("of-aborted", ["aborted"])
    assert [record.value for record in taken(reader, 1)] == [b"kept"]
    reader.close()
    assert [record.value for record in log.read(Place("aborted", 0), 0, 10)] == [b"kept"]
    with pytest.raises(UsageError, match="jietong topics apply"):
        log.topic("nobody.made.v1")
    assert "nobody.made.v1" not in AdminClient({"bootstrap.servers": log.servers}).list_topics(timeout=10).topics


def test_a_consumer_that_threw_is_made_anew_and_reads_on(log: KafkaLog) -> None:
    topics(log, thrown=1)
    log.append([Message("thrown", b"k", str(n).encode()) for n in range(5)])
    reader = log.reader("of-thrown", ["thrown"])
    assert len(taken(reader, 5)) == 5
    broken = reader._consumer
    broken.poll = lambda **_: 1 / 0
    with pytest.raises(RetriableError):
        reader.poll(1, 10)
    assert reader._consumer is not broken
    log.append([Message("thrown", b"k", b"5")])
    assert taken(reader, 6)[-1].value == b"5"
    reader.close()


def test_two_members_share_the_partitions_and_nothing_is_read_before_it_was_sought(log: KafkaLog) -> None:
    topics(log, shared=4)
    log.append([Message("shared", f"k{n}".encode(), b"v") for n in range(40)])
    first, second = (log.reader("of-shared", ["shared"]) for _ in range(2))
    stop = threading.Event()
    seen: list[Record] = []
    holds: list[frozenset[Place]] = [frozenset(), frozenset()]
    shared = [0, 0]
    """Polls of each since both have their part."""

    def member(n: int, reader: Reader) -> None:
        while not stop.is_set():
            try:
                seen.extend(reader.poll(0.1, 10))
                holds[n] = reader.assigned().places
                shared[n] = shared[n] + 1 if [len(held) for held in holds] == [2, 2] else 0
            except RetriableError:
                continue

    threads = [threading.Thread(target=member, args=pair) for pair in enumerate((first, second))]
    for thread in threads:
        thread.start()
    for _ in range(300):
        if min(shared) >= 10 and not holds[0] & holds[1]:
            break
        time.sleep(0.1)
    stop.set()
    for thread in threads:
        thread.join()
    assert sorted(map(len, holds)) == [2, 2]
    assert seen == [], "positions are in a database: before it was asked, nothing is read"
    first.close()
    second.close()


def test_the_checksum_library_is_there_or_nothing_starts() -> None:
    assert kafka.crc32c, "without it kafka-python takes ten times as long"
    with pytest.raises(UsageError, match="KAFKA_BOOTSTRAP_SERVERS"):
        KafkaLog("127.0.0.1:1").check(["x"])
