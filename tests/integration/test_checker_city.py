"""The outside checker on real servers: each way of breaking a good little city turns exactly its invariants red."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Generator, Iterable, Mapping
from contextlib import closing, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple
from urllib.request import Request, urlopen

import psycopg
import pytest
from confluent_kafka import KafkaException, Producer, TopicPartition
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic
from psycopg import sql
from sqlalchemy import BigInteger, Integer, LargeBinary, MetaData, Table
from sqlalchemy.dialects import postgresql
from sqlalchemy.schema import CreateTable

from connectors.utility.tables import utility
from jietong.delivery.tables import delivery
from services.hookup.tables import hookup
from simulation import servers as real
from tests.faults.recorder import done
from tests.outside import checker
from tests.outside import servers as reading
from tests.outside.checker import Caps, Verdict, check
from tests.outside.servers import Servers
from tests.outside.tables import Key, Seen

pytestmark = [pytest.mark.city, pytest.mark.timeout(300)]

ROOT = Path(__file__).parents[2]
PLATFORM, SERVICE = "urn:jietong:440700:investment", "urn:jietong:440700:hookup"
REGISTERED, REQUESTED, HEAD = (
    "investment.project.registered.v1",
    "utility.connection.requested.v1",
    "jietong.outbox.head",
)
TOPICS = {REGISTERED: 2, REQUESTED: 2, HEAD: 1}
"""Topic → partitions."""
FINGERPRINT = b"f" * 16
REQUEST = {
    "type": "record", "name": "Request",
    "fields": [{"name": "operator", "type": "string"}, {"name": "case", "type": "string"}, {"name": "round", "type": "int"}],
}  # fmt: skip
"""No schema of ours: whoever reads this must have asked the registry."""
STREAM = "source, type, subject"
SECOND = "subject = 'P1' AND sequence = 2 AND type LIKE 'investment%'"
LAST = "subject = 'P1' AND sequence = 3 AND type LIKE 'investment%'"


Headers = list[tuple[str, str | bytes | None]]


class Fact(NamedTuple):
    """An event, and which store it is born in."""

    store: str
    key: Key
    body: bytes
    operator: str | None = None

    @property
    def id(self) -> str:
        return f"{self.key.type.split('.')[0]} {self.key.subject} {self.key.sequence}"

    @property
    def digest(self) -> bytes:
        return hashlib.sha256(FINGERPRINT + self.body).digest()

    @property
    def partition(self) -> int:
        return int(self.key.subject[1:]) % 2


def asked(operator: str, case: str, number: int) -> bytes:
    """By Avro's own rules: a string is its length, zig-zag, and its bytes."""
    return b"".join(bytes([2 * len(text)]) + text.encode() for text in (operator, case)) + bytes([2 * number])


def registered(subject: str, sequence: int) -> Fact:
    return Fact("investment", Key(PLATFORM, REGISTERED, subject, sequence), f"{subject} {sequence}".encode())


def requested(subject: str, sequence: int, operator: str, case: str) -> Fact:
    key = Key(SERVICE, REQUESTED, subject, sequence)
    return Fact("hookup", key, asked(operator, case, sequence), operator)


FACTS = (
    *(registered("P1", n) for n in (1, 2, 3)), registered("P2", 1), registered("P2", 2),
    requested("P1", 1, "jm-water", "C1"), requested("P1", 2, "jm-water", "C1"), requested("P2", 1, "jm-gas", "C2"),
)  # fmt: skip
READERS = {"hookup": {REGISTERED}, "utility:jm-water": {REQUESTED}, "recorder": {REGISTERED, REQUESTED}}
STORES: Mapping[str, tuple[MetaData, ...]] = {
    "investment": (delivery,), "hookup": (delivery, hookup), "utility:jm-water": (delivery,), "recorder": (delivery, done),
    "platform-jm-water": (utility,),
}  # fmt: skip


# -- a city by hand ----------------------------------------------------------------------------------------------------
@dataclass
class Cluster:
    """A Kafka that is filled anew when a test has changed it."""

    bootstrap: str
    registry: str
    changed: bool = True
    ids: dict[str, str] = field(default_factory=dict[str, str])
    ends: defaultdict[tuple[str, int], int] = field(default_factory=lambda: defaultdict(int))

    def __post_init__(self) -> None:
        self.admin: Any = AdminClient({"bootstrap.servers": self.bootstrap, "log_level": 0})
        self.number = register(self.registry, "requested", REQUEST)
        self.other = register(self.registry, "other", {"type": "record", "name": "Other", "fields": []})

    def fill(self) -> None:
        """Every topic anew, with all that was ever said."""
        self.make(*TOPICS)
        self.write(FACTS)
        self.ids = {name: topic.id for name, topic in self.look().items()}
        self.changed = False

    def make(self, *names: str) -> None:
        """These topics, new and empty."""
        self.remove(*names)
        until, left = time.monotonic() + 30, set(names)
        while left:
            for name, made in self.admin.create_topics([NewTopic(name, TOPICS[name], 1) for name in left]).items():
                with suppress(KafkaException):  # the old one is not quite gone yet
                    made.result(30)
                    left = left - {name}
            assert time.monotonic() < until, left
        self.ends = defaultdict(int, {at: end for at, end in self.ends.items() if at[0] not in names})

    def remove(self, *names: str) -> None:
        self.changed = True
        for removed in self.admin.delete_topics(list(names)).values():
            with suppress(KafkaException):  # there was none
                removed.result(30)

    def write(self, facts: Iterable[Fact], number: int | None = None, **settings: str) -> None:
        """Records as a relay writes them; `number`: the schema's in the registry."""
        self.changed = True
        producer = self.producer(**settings)
        for fact in facts:
            value = b"\0" + (number or self.number).to_bytes(4) + fact.body
            self.raw(producer, fact.key.type, fact.partition, value, headers(fact))
        assert producer.flush(30) == 0

    def raw(self, producer: Producer, topic: str, partition: int, value: bytes, said: Headers) -> None:
        producer.produce(topic, value, b"key", partition, headers=said)
        self.ends[topic, partition] += 1

    def producer(self, **settings: str) -> Producer:
        return Producer({"bootstrap.servers": self.bootstrap, "acks": "all", "log_level": 0, **settings})

    def look(self) -> Any:
        with closing(reading.Log(self.bootstrap)) as log:
            return log.look()


def headers(fact: Fact) -> Headers:
    said = {"source": fact.key.source, "type": fact.key.type, "subject": fact.key.subject, "id": fact.id}
    return [(f"ce_{name}", text.encode()) for name, text in {**said, "sequence": f"{fact.key.sequence:020}"}.items()]


def register(url: str, subject: str, schema: Mapping[str, Any]) -> int:
    data = json.dumps({"schema": json.dumps(schema)}).encode()
    kind = {"Content-Type": "application/vnd.schemaregistry.v1+json"}
    with urlopen(Request(f"{url}/subjects/{subject}/versions", data, kind), timeout=10) as answer:  # noqa: S310
        return json.load(answer)["id"]


def found_city(url: str, cluster: Cluster) -> None:
    """The stores of a city in which all of it has arrived."""
    with psycopg.connect(url) as db:
        for store, metadatas in STORES.items():
            enter(db, store, make=True)
            for table in (table for metadata in metadatas for table in metadata.sorted_tables):
                db.execute(str(CreateTable(table).compile(dialect=postgresql.dialect())).encode())
            if delivery in metadatas:
                born(db, store, cluster.ids)
        for reader, types in READERS.items():
            enter(db, reader)
            taken(db, reader, types, cluster)
        enter(db, "investment")
        db.execute("CREATE TABLE handling (command text, code text, step integer)")
        db.execute("INSERT INTO handling VALUES ('one', 'P1', 7), ('two', 'P2', 7)")
        enter(db, "hookup")
        for subject, case, operator, number in (("P1", "C1", "jm-water", 2), ("P2", "C2", "jm-gas", 1)):
            put(db, hookup.tables["case_"], subject=subject, id=case, operator=operator, round=number, requested="OPEN")
        enter(db, "platform-jm-water")
        put(db, utility.tables["case_"], case_id="C1", subject="P1", business_kind="PERMANENT", phase=1, round=2)
    for n in (1, 2):  # each in a transaction of its own, as they came
        change(url, "platform-jm-water", "INSERT INTO receipt (event_id, case_id, sequence, received_at, effect) "
                                         f"VALUES ('utility P1 {n}', 'C1', {n}, 0, 'updated')")  # fmt: skip


def born(db: psycopg.Connection[Any], store: str, ids: Mapping[str, str]) -> None:
    mine = [fact for fact in FACTS if fact.store == store]
    for fact in mine:
        source, kind, subject, sequence = fact.key
        put(db, delivery.tables["outbox"], source=source, type=kind, aggregateid=subject, sequence=sequence, id=fact.id,
            fingerprint=FINGERPRINT, payload=fact.body, operator=fact.operator)  # fmt: skip
    for (source, kind, subject), count in counted(mine).items():
        put(db, delivery.tables["counter"], source=source, type=kind, subject=subject, sequence=count)
    for kind in sorted({fact.key.type for fact in mine}):
        put(db, delivery.tables["relayed"], topic=kind, topic_id=ids[kind])


def taken(db: psycopg.Connection[Any], reader: str, types: set[str], cluster: Cluster) -> None:
    mine = [fact for fact in FACTS if fact.key.type in types]
    for n, fact in enumerate(mine, 1):
        named = fact.key._asdict()
        filtered = reader.startswith("utility:") and not reader.endswith(f":{fact.operator}")
        put(db, delivery.tables["inbox"], **named, id=fact.id, digest=fact.digest, fate="filtered" if filtered else "applied",
            settled=1000 + n)  # fmt: skip
        if reader == "recorder":
            put(db, done.tables["done"], n=n, **named, id=fact.id)
    for (source, kind, subject), count in counted(mine).items():
        put(db, delivery.tables["stream"], source=source, type=kind, subject=subject, last=count, known=count)
    for kind in sorted(types):
        for partition in range(TOPICS[kind]):
            put(db, delivery.tables["position"], topic=kind, partition=partition, topic_id=cluster.ids[kind],
                offset=cluster.ends[kind, partition])  # fmt: skip


def counted(facts: Iterable[Fact]) -> dict[tuple[str, str, str], int]:
    counts: defaultdict[tuple[str, str, str], int] = defaultdict(int)
    for fact in facts:
        counts[fact.key.stream] += 1
    return counts


def put(db: psycopg.Connection[Any], table: Table, **values: Any) -> None:
    """A row; columns that must have a value and are not named get an empty one."""
    for column in table.columns:
        if not (column.nullable or column.server_default or column.name in values or column.autoincrement is True):
            values[column.name] = (
                0
                if isinstance(column.type, BigInteger | Integer)
                else b""
                if isinstance(column.type, LargeBinary)
                else ""
            )
    names, marks = (
        sql.SQL(", ").join(map(sql.Identifier, values)),
        sql.SQL(", ").join([sql.Placeholder()] * len(values)),
    )
    db.execute(
        sql.SQL("INSERT INTO {} ({}) VALUES ({})").format(sql.Identifier(table.name), names, marks), [*values.values()]
    )


def enter(db: psycopg.Connection[Any], store: str, *, make: bool = False) -> None:
    if make:
        db.execute(sql.SQL("CREATE SCHEMA {}").format(sql.Identifier(store)))
    db.execute(sql.SQL("SET search_path TO {}").format(sql.Identifier(store)))


def change(url: str, store: str, *statements: str) -> None:
    with psycopg.connect(url) as db:
        enter(db, store)
        for statement in statements:
            assert db.execute(statement.encode()).rowcount, f"changed nothing: {statement}"


@dataclass
class City:
    url: str
    cluster: Cluster
    history: Path
    address: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        self.address = (
            "--database",
            self.url,
            "--bootstrap",
            self.cluster.bootstrap,
            "--registry",
            self.cluster.registry,
        )

    def servers(self) -> Servers:
        return Servers(self.url, self.cluster.bootstrap, self.cluster.registry)

    def judged(self, caps: Caps = Caps()) -> Verdict:  # noqa: B008 — frozen
        with closing(self.servers()) as servers:
            return check(servers, self.history, caps=caps)

    def broken(self) -> list[str]:
        return self.judged().broken

    def change(self, store: str, *statements: str) -> None:
        change(self.url, store, *statements)

    def tell(self, *lines: Mapping[str, Any]) -> None:
        with self.history.open("a", encoding="utf-8") as history:
            history.writelines(f"{json.dumps(line)}\n" for line in lines)

    def arrive(self) -> None:
        """Every reader reads to the ends of the topics there are now, and every relay has looked at them."""
        topics = self.cluster.look()
        for store in STORES:
            if delivery in STORES[store]:
                with psycopg.connect(self.url) as db:
                    enter(db, store)
                    for name, topic in topics.items():
                        db.execute("UPDATE relayed SET topic_id = %s WHERE topic = %s", [topic.id, name])
                        for partition, end in topic.ends.items():
                            db.execute('UPDATE position SET topic_id = %s, "offset" = %s WHERE topic = %s AND partition = %s',
                                       [topic.id, end, name, partition])  # fmt: skip


@pytest.fixture(scope="module")
def stands(tmp_path_factory: pytest.TempPathFactory) -> Generator[real.City]:
    if lack := real.missing():
        (pytest.fail if os.environ.get("CI") == "true" else pytest.skip)(lack)
    with real.servers(tmp_path_factory.mktemp("servers")) as city:
        yield city


@pytest.fixture(scope="module")
def cluster(stands: real.City) -> Cluster:
    return Cluster(stands.kafka.direct, stands.registry.url)


@pytest.fixture
def city(stands: real.City, cluster: Cluster, tmp_path: Path) -> City:
    """A good one: a copy of a database whose log is as it says."""
    good, own = stands.postgres.url, f"{stands.postgres.url.rpartition('/')[0]}/own"
    if cluster.changed:
        cluster.fill()
        with psycopg.connect(good, autocommit=True) as db:
            for store in STORES:
                db.execute(sql.SQL("DROP SCHEMA IF EXISTS {} CASCADE").format(sql.Identifier(store)))
        found_city(good, cluster)
    with psycopg.connect(f"{stands.postgres.admin.rpartition('/')[0]}/postgres", autocommit=True) as db:
        db.execute("DROP DATABASE IF EXISTS own WITH (FORCE)")
        db.execute("CREATE DATABASE own TEMPLATE jietong OWNER jietong")
    (tmp_path / "history.ndjson").touch()
    return City(own, cluster, tmp_path / "history.ndjson")


# -- what is good ------------------------------------------------------------------------------------------------------
def test_a_good_city_is_clean_and_says_what_is_there(city: City) -> None:
    verdict = city.judged()
    assert verdict.clean, str(verdict)
    numbers = verdict.numbers
    assert (numbers["events"], numbers["consumers"], numbers["records in the log"]) == (8, 3, 8)
    assert numbers["fates"] == {"applied": 15, "filtered": 1}
    assert (numbers["leads"], numbers["effects written down"]) == ({"jm-water": 1}, 8)
    assert numbers["topics"] == city.cluster.ids
    assert numbers["topics"].keys() == TOPICS.keys()


def test_the_command_says_its_verdict_and_its_exit_code(city: City) -> None:
    command = [
        sys.executable,
        "-m",
        "tests.outside.checker",
        *city.address,
        "--pid",
        str(os.getpid()),
        str(os.getppid()),
        "--json",
    ]
    clean = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    assert (clean.returncode, clean.stderr) == (0, "")
    assert json.loads(clean.stdout)["clean"]
    city.change("hookup", f"DELETE FROM inbox WHERE {LAST}")
    assert checker.main([*city.address]) == 1


# -- what is broken ----------------------------------------------------------------------------------------------------
class Break(NamedTuple):
    """What is done to one store, and the invariants that must turn red."""

    red: str
    store: str
    statements: tuple[str, ...]


def of(red: str, store: str, *statements: str) -> Break:
    return Break(red, store, statements)


BREAKS = {
    "a row was lost": of("I1 I3 I6", "hookup", f"DELETE FROM inbox WHERE {LAST}"),
    "an event waits": of("I1 I3 I6", "hookup", f"UPDATE inbox SET fate = 'waiting' WHERE {LAST}"),
    "an event is skipped that nobody predicted": of("I1", "hookup", f"UPDATE inbox SET fate = 'skipped' WHERE {SECOND}"),
    "an effect was not written down": of("I1", "recorder", "DELETE FROM done WHERE n = 8"),
    "a row of a platform cannot become an event": of(
        "I1", "investment", "INSERT INTO source_held (row, digest, reason, since) VALUES ('r', 'd', 'odd', 0)"
    ),
    "an operator lost what was delivered": of("I1", "platform-jm-water", "DELETE FROM receipt WHERE sequence = 2"),
    "an effect happened twice": of(
        "I2", "recorder", f"INSERT INTO done (n, {STREAM}, sequence, id) SELECT 9, {STREAM}, sequence, id FROM done WHERE n = 8"
    ),
    "a case has a second lead": of(
        "I2",
        "platform-jm-water",
        "CREATE TEMP TABLE twin AS SELECT * FROM case_",
        "UPDATE twin SET case_id = 'another'",
        "INSERT INTO case_ SELECT * FROM twin",
        "UPDATE receipt SET case_id = 'another' WHERE sequence = 2",
    ),
    "a round was asked twice": of("I2", "hookup", "UPDATE case_ SET round = 1 WHERE id = 'C1'"),
    "a later event was settled first": of("I3", "hookup", f"UPDATE inbox SET settled = 1 WHERE {LAST}"),
    "a later event had its effect first": of("I3", "recorder", "UPDATE done SET n = -n WHERE n IN (2, 3)"),
    "an operator got an older request last": of(
        "I3", "platform-jm-water", "UPDATE receipt SET received_at = 0 WHERE sequence = 1"
    ),
    "a platform counts more than it has": of("I3", "investment", "UPDATE counter SET sequence = 3 WHERE subject = 'P2'"),
    "an effect is of another event": of("I2 I5", "hookup", f"UPDATE inbox SET digest = 'x' WHERE {LAST}"),
    "an effect is of no event": of("I5", "recorder", "UPDATE done SET id = 'nobody' WHERE n = 1"),
    "an operator got what nobody sent": of(
        "I5",
        "platform-jm-water",
        "INSERT INTO receipt (event_id, case_id, sequence, received_at, effect) VALUES ('x', 'none', 1, 0, 'opened')",
    ),
    "a row was never sent": of("I6", "investment", "INSERT INTO unsent (n) VALUES (1)"),
    "a group is behind its topic": of(
        "I6", "hookup", 'UPDATE position SET "offset" = "offset" - 1 WHERE partition = 1'
    ),
    "a group is past the end of its topic": of("I6", "hookup", 'UPDATE position SET "offset" = 99 WHERE partition = 1'),
    "a group does not know a partition": of("I6", "utility:jm-water", "DELETE FROM position WHERE partition = 1"),
    "a group reads a topic that is gone": of("I6", "hookup", "UPDATE position SET topic_id = 'old'"),
    "a relay has not seen that its topic is another": of("I6", "investment", "UPDATE relayed SET topic_id = 'old'"),
    "a movement is halted": of(
        "I6", "hookup", "INSERT INTO alarm (name, about, detail, since) VALUES ('halted', 'consume hookup', 'odd', 0)"
    ),
    "one event killed its reader again and again": of(
        "I8", "hookup", f"INSERT INTO attempt ({STREAM}, sequence, deaths) VALUES ('s', 't', 'u', 1, 6)"
    ),
    "strays pile up": of(
        "I8",
        "hookup",
        "INSERT INTO stray (topic, partition, \"offset\", topic_id, reason, seen) SELECT 't', 0, n, 'i', 'odd', 0 "
        "FROM generate_series(0, 1000) AS n",
    ),
}  # fmt: skip


@pytest.mark.parametrize("what", BREAKS)
def test_a_broken_city_turns_its_invariant_red_and_no_other(city: City, what: str) -> None:
    red, store, statements = BREAKS[what]
    city.change(store, *statements)
    verdict = city.judged()
    assert verdict.broken == red.split(), str(verdict)


def test_what_was_exercised_is_counted(city: City) -> None:
    city.change("hookup", f"INSERT INTO attempt ({STREAM}, sequence, deaths) VALUES ('s', 't', 'u', 1, 2)",
                "INSERT INTO stray (topic, partition, \"offset\", topic_id, reason, seen) VALUES ('t', 0, 0, 'i', 'odd', 0)",
                "INSERT INTO alarm (name, about, detail, since) VALUES ('log-changed', 't', 'odd', 0)")  # fmt: skip
    numbers = city.judged().numbers
    assert (numbers["attempts"], numbers["deaths"], numbers["strays"]) == (1, 2, 1)
    assert numbers["alarms standing"] == ["hookup: log-changed t"]


def test_an_operation_is_looked_for_on_its_platform(city: City) -> None:
    for command, count in (("one", 3), ("two", 2)):
        row = {
            "file": "investment.db",
            "table": "handling",
            "where": {"command": command, "step": 7},
            "subject": "code",
        }
        told = {"op": command, "at": "begin", "row": row, "events": [[PLATFORM, REGISTERED]] * count}
        city.tell(told, {"op": command, "at": "ok"})
    assert city.broken() == []
    city.change("investment", "UPDATE handling SET step = 8 WHERE command = 'two'")
    assert city.broken() == ["I1", "I5"], "it is not there, and its events are"


def test_a_predicted_hold_is_no_fault(city: City) -> None:
    _, store, statements = BREAKS["an event waits"]
    city.change(store, *statements, f"UPDATE stream SET last = 2 WHERE subject = 'P1' AND type = '{REGISTERED}'")
    held = {"consumer": "hookup", **registered("P1", 3).key._asdict(), "fate": "waiting"}
    city.tell({"held": held})
    assert city.broken() == []
    city.tell({"held": {**held, "consumer": "utility-jm-water"}})
    assert city.broken() == ["I1"]


# -- the log -----------------------------------------------------------------------------------------------------------
def test_duplicates_and_foreign_records_are_legal_and_counted(city: City) -> None:
    city.cluster.write([FACTS[0], FACTS[0], FACTS[5]])
    city.cluster.write([registered("P9", 1), FACTS[1]._replace(body=b"another")])
    producer = city.cluster.producer()
    city.cluster.raw(producer, REGISTERED, 0, b"odd", [])
    assert producer.flush(30) == 0
    assert city.broken() == ["I6"], "they are not yet read"
    city.arrive()
    verdict = city.judged()
    assert verdict.clean, str(verdict)
    assert verdict.numbers["duplicates by topic"] == {REGISTERED: 3, REQUESTED: 1}
    assert (verdict.numbers["duplicates in the log"], verdict.numbers["records of no row"]) == (4, 3)


def test_what_an_outbox_says_was_sent_must_be_in_a_topic_that_was_made_anew(city: City) -> None:
    city.cluster.make(REGISTERED)
    city.cluster.write(fact for fact in FACTS[1:] if fact.key.type == REGISTERED)
    assert city.broken() == ["I6"], "neither readers nor the relay have seen it"
    city.arrive()
    verdict = city.judged()
    assert verdict.broken == ["I1"], str(verdict)
    assert verdict.faults["I1"] == [f"log: lost {PLATFORM} {REGISTERED} P1 1, which investment says was sent"]
    city.tell({"forgotten": REGISTERED})
    assert city.broken() == []


def test_what_was_cut_off_at_the_end_of_a_log_is_missed_only_by_who_lacks_it(city: City) -> None:
    city.cluster.make(REGISTERED)
    city.cluster.write(fact for fact in FACTS if fact.key.type == REGISTERED and fact.key.sequence < 2)
    city.arrive()
    assert city.broken() == []


def test_a_topic_made_anew_is_whole_once_everything_was_sent_again(city: City) -> None:
    with closing(city.servers()) as servers:
        before = check(servers, city.history).numbers["topics"]
        city.cluster.make(REGISTERED)
        city.cluster.write(fact for fact in FACTS if fact.key.type == REGISTERED)
        city.arrive()
        verdict = check(servers, city.history)  # one that has read the old one
    assert verdict.clean, str(verdict)
    assert {name for name, topic_id in verdict.numbers["topics"].items() if topic_id != before[name]} == {REGISTERED}
    assert (verdict.numbers["records in the log"], verdict.numbers["duplicates in the log"]) == (8, 0)


def test_a_topic_that_is_gone_is_a_group_behind(city: City) -> None:
    city.cluster.remove(REGISTERED)
    verdict = city.judged()
    assert verdict.broken == ["I6"], str(verdict)
    assert f"hookup: 1 records of {REGISTERED} behind" in verdict.faults["I6"]


def test_what_retention_took_is_not_missed(city: City) -> None:
    city.cluster.changed = True
    gone = [TopicPartition(REGISTERED, 1, city.cluster.ends[REGISTERED, 1])]
    for deleted in city.cluster.admin.delete_records(gone).values():
        deleted.result(30)
    verdict = city.judged()
    assert verdict.clean, str(verdict)
    assert verdict.numbers["records in the log"] == 5


def test_what_a_producer_took_back_is_not_read_and_nobody_is_behind_for_it(city: City) -> None:
    producer = city.cluster.producer(**{"transactional.id": "undecided"})
    producer.init_transactions(30)
    producer.begin_transaction()
    producer.produce(REGISTERED, b"odd", b"key", 0)
    assert producer.flush(30) == 0
    producer.abort_transaction(30)
    city.cluster.changed = True
    verdict = city.judged()
    assert verdict.clean, str(verdict)
    assert verdict.numbers["records in the log"] == 8


def test_a_record_that_the_schema_it_names_does_not_read_is_a_phantom(city: City) -> None:
    for number in (city.cluster.other, 999_999):
        city.cluster.make(REQUESTED)
        city.cluster.write((fact for fact in FACTS if fact.key.type == REQUESTED), number=number)
        city.arrive()
        assert city.broken() == ["I5"]


# -- while it is looked at -----------------------------------------------------------------------------------------------
class Mending(Servers):
    """A city that becomes quiet at the second look."""

    looks = 0

    def look(self) -> Seen:
        self.looks += 1
        if self.looks == 2:
            change(self._url, "hookup", f"UPDATE inbox SET fate = 'applied' WHERE {LAST}")
        return super().look()


def test_a_city_has_time_to_become_quiet_and_must_be_so_twice(city: City) -> None:
    _, store, statements = BREAKS["an event waits"]
    city.change(store, *statements)
    with closing(Mending(city.url, city.cluster.bootstrap, city.cluster.registry)) as servers:
        verdict = check(servers, city.history, within=60)
        assert verdict.clean, str(verdict)
        assert servers.looks == 4


def test_what_is_written_while_it_reads_is_not_half_seen(city: City, monkeypatch: pytest.MonkeyPatch) -> None:
    read = reading.store

    def writing(seen: Seen, name: str, *more: Any) -> None:
        if name == "investment":
            city.change("investment", "UPDATE counter SET sequence = 9")
            city.change("hookup", f"DELETE FROM inbox WHERE {LAST}")
        read(seen, name, *more)

    monkeypatch.setattr(reading, "store", writing)
    assert city.broken() == []
    monkeypatch.undo()
    assert city.broken() == ["I1", "I3", "I6"]


# -- nothing to check --------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    "change", ["DROP TABLE stray", "DROP TABLE inbox", "DROP SCHEMA hookup CASCADE; CREATE SCHEMA hookup"]
)
def test_a_missing_table_is_said_in_one_line(city: City, change: str, capsys: pytest.CaptureFixture[str]) -> None:
    with psycopg.connect(city.url) as db:
        enter(db, "hookup")
        db.execute(change.encode())
    assert checker.main([*city.address]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.count("\n") == 1
    assert said.err.startswith(f"checker: {city.url}: hookup: ")


@pytest.mark.parametrize("which", ["--database", "--bootstrap", "--registry"])
def test_a_server_that_is_away_is_said_in_one_line(
    city: City, which: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading, "ANSWER", 2.0)
    nobody = f"127.0.0.1:{real.process.free_port()}"
    away = {
        "--database": f"postgresql://jietong:secret@{nobody}/jietong",
        "--bootstrap": nobody,
        "--registry": f"http://{nobody}",
    }
    address = [*city.address]
    address[address.index(which) + 1] = away[which]
    assert checker.main(address) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert nobody in said
    assert "secret" not in said
